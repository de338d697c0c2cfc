"""How alike two maps are: ranks, agreement of methods, stability under a shift."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from towers import film, tiny_clip

from radwb import attend
from radwb.attend.doubt import alike

PHRASES = [
    "right pleural effusion",
    "no pleural effusion",
    "cardiomegaly",
    "pneumothorax",
    "lung nodule",
]


@pytest.fixture(scope="module")
def clip():
    return tiny_clip(PHRASES)


SCANS = [film(seed) for seed in range(12)]


def test_likeness_is_spearmans_with_ties_and_constants_defined():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 64, 64)), rng.integers(3, size=(2, 64, 64)).astype(float)
    got = alike.similarity(alike.ranks(a), alike.ranks(b))
    want = [
        spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)
    ]
    assert np.allclose(got, want, atol=1e-4)
    flat, ramp = np.full((10, 10), 0.3), np.arange(100.0).reshape(10, 10)

    def one(x, y):
        return alike.similarity(alike.ranks([x]), alike.ranks([y])).item()

    assert one(flat, 5 * flat) == 1
    assert one(flat, flat * (1 + 1e-8 * ramp)) == 1  # noise of the arithmetic is no map
    assert one(flat, ramp) == 0
    # scales don't count, ranks do
    assert one(ramp, ramp**2) == pytest.approx(1, abs=1e-4)
    assert one(ramp, -ramp) == pytest.approx(-1)
    volume = np.stack([ramp] * 3)
    assert one(volume, volume) == pytest.approx(1)


def test_a_map_that_follows_the_tissue_is_stable_and_one_that_stays_put_is_not():
    scans = [film(seed, 64, 48) for seed in range(6)]

    def follows(model, scan, target):
        return scan.pixels

    table = attend.doubt.alike.stability(None, scans, method=follows)
    assert table.loc["moved back", "low"] > 0.999
    assert table.loc["left in place", "high"] < 0.8
    table = attend.doubt.alike.stability(
        None,
        scans,
        method=lambda model, scan, target: attend.blind.centre_map(scan.shape),
    )
    assert table.loc["left in place", "low"] > 0.999
    assert table.loc["moved back", "high"] < 0.99
    with pytest.raises(ValueError, match="shifts as shares"):
        attend.doubt.alike.stability(None, scans, method=follows, shifts=((4, 0),))


def test_stability_asks_the_named_method(clip):
    table = attend.doubt.alike.stability(
        clip, SCANS[:4], method="rollout", groups=[0, 0, 1, 1]
    )
    assert table["mean"].between(-1, 1).all()
    assert table["patients"].tolist() == [2, 2]
    assert table["note"].tolist() == ["no interval: 2 patients"] * 2


def test_agreement_is_a_square_of_rank_correlations():
    rng = np.random.default_rng(0)
    a, b = list(rng.random((5, 64, 64))), list(rng.random((5, 64, 64)))
    mixed = [x + y for x, y in zip(a, b, strict=True)]
    square = attend.agreement({"a": a, "b": b, "mixed": mixed})["mean"].unstack()
    assert np.allclose(square, square.T)
    assert np.allclose(np.diag(square), 1)
    want = np.mean(
        [
            spearmanr(x.ravel(), y.ravel()).statistic
            for x, y in zip(a, mixed, strict=True)
        ]
    )
    assert square.loc["a", "mixed"] == pytest.approx(want, abs=1e-4)
    with pytest.raises(ValueError, match="maps of the same scans"):
        attend.agreement({"a": a, "b": b[:2]})
