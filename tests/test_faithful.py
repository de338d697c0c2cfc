"""Deletion and insertion against a box that makes the score; imputation."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from radwb import attend, models
from radwb.attend.doubt.faithful import SHARES
from radwb.data import Scan


def dense_imputation(pixels, removed):
    """ROAD's system written out pixel by pixel: each lost pixel is the weighted mean of
    its neighbours.
    """
    H, W = pixels.shape
    lost = [tuple(at) for at in np.argwhere(removed)]
    A, b = np.zeros((len(lost), len(lost))), np.zeros(len(lost))
    for row, (y, x) in enumerate(lost):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = 0 <= y + dy < H and 0 <= x + dx < W and (dy, dx) != (0, 0)
                weight = (1 / 12 if dy and dx else 1 / 6) * there
                A[row, row] += weight
                if there and removed[y + dy, x + dx]:
                    A[row, lost.index((y + dy, x + dx))] -= weight
                elif there:
                    b[row] += weight * pixels[y + dy, x + dx]
    out = pixels.copy()
    out[removed] = np.linalg.solve(A, b)
    return out


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("shape", [(9, 14), (1, 30), (12, 2)])
def test_the_imputation_is_the_dense_solution(share, shape):
    rng = np.random.default_rng(1)
    pixels, removed = rng.random(shape), rng.random(shape) < share
    removed[0, 0] = False
    assert np.allclose(
        attend.doubt.impute.impute(pixels, removed),
        dense_imputation(pixels, removed),
        atol=1e-4,
    )
    assert np.array_equal(
        attend.doubt.impute.impute(pixels, removed)[~removed], pixels[~removed]
    )


def test_the_imputation_continues_a_slope_and_needs_something_left():
    slope = np.add.outer(np.arange(12.0), 2 * np.arange(12.0))
    removed = np.zeros((12, 12), bool)
    removed[3:8, 4:9] = True
    assert np.allclose(
        attend.doubt.impute.impute(np.where(removed, -50, slope), removed),
        slope,
        atol=1e-3,
    )
    with pytest.raises(ValueError, match="at least one pixel that is left"):
        attend.doubt.impute.impute(slope, np.ones((12, 12), bool))


class Box(nn.Module):
    """A linear model: the score is the mean of the pixels inside a box."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 32, 32))
        self.weight.data[0, 6:16, 14:26] = 1 / 120

    def forward(self, x):
        return (x * self.weight).sum((1, 2, 3))[:, None]


def box_model():
    return models.Model(
        Box(), "box", "image", 32, 1, (0.0,), (1.0,), "pad", (4, 4), findings=["box"]
    )


def bright_box(seed):
    pixels = 0.2 * np.random.default_rng(seed).random((32, 32)).astype(np.float32)
    pixels[6:16, 14:26] += 0.8
    return Scan(pixels)


def test_the_box_itself_beats_random_at_deletion_and_insertion_and_its_reverse_loses():
    scans = [bright_box(seed) for seed in range(40)]
    model, box = box_model(), box_model().net.weight.detach().numpy()[0] * 120
    good = attend.faithfulness(model, scans, [box] * 40, target="box").table
    assert (good.xs("gain", level="of")["low"] > 0.1).all()
    bad = attend.faithfulness(model, scans, [1 - box] * 40, target="box").table
    assert (bad.xs("gain", level="of")["high"] < -0.1).all()
    noise = [attend.blind.random_map((32, 32), 1000 + i) for i in range(40)]
    blind = attend.faithfulness(model, scans, noise, target="box").table.xs(
        "gain", level="of"
    )
    assert ((blind["low"] < 0) & (blind["high"] > 0)).all()
    assert good.loc["deletion"].loc["random"].equals(bad.loc["deletion"].loc["random"])
    both = attend.faithfulness(
        model, scans, {"box": [box] * 40, "rest": [1 - box] * 40}, target="box"
    )
    assert both.gains.columns.names == ["map", "curve"]
    want = both.table.xs("gain", level="of")["mean"]
    assert both.gains.mean().to_numpy() == pytest.approx(
        want.loc[both.gains.columns].to_numpy()
    )
    assert (both.gains["box"] > both.gains["rest"]).all(axis=None)
    assert good["n"].unique().tolist() == [40]


def test_curves_start_and_end_at_the_scan_as_it_is_and_areas_are_theirs():
    model, scans = box_model(), [bright_box(seed) for seed in range(4)]
    maps = [1 - model.net.weight.detach().numpy()[0] * 120] * 4  # the box comes last
    faith = attend.faithfulness(model, scans, maps, target="box", noise=0)
    intact = attend.doubt.faithful.target_scores(model, scans, "box")
    curves = faith.curves.set_index(["curve", "of", "share"])["mean"]
    ends = [curves["deletion", of, 0] for of in ("map", "random")] + [
        curves["insertion", of, 1] for of in ("map",)
    ]
    assert ends == pytest.approx([intact.mean()] * 3, rel=1e-5)
    along = [0, *SHARES]
    by_hand = np.trapezoid([curves["deletion", "map", s] for s in along], along) / 0.9
    assert faith.table.loc[("deletion", "map"), "mean"] == pytest.approx(by_hand)
    gain = faith.table["mean"]
    assert gain["deletion", "gain"] == pytest.approx(
        gain["deletion", "random"] - gain["deletion", "map"]
    )
    assert gain["insertion", "gain"] == pytest.approx(
        gain["insertion", "map"] - gain["insertion", "random"]
    )
    one = attend.faithfulness(
        model,
        scans[0],
        maps[0],
        target=lambda x: x.mean((1, 2, 3)),
        shares=(0.5,),
        noise=0,
    )
    # a score of one's own
    assert one.curves["mean"][0] == pytest.approx(scans[0].pixels.mean(), rel=1e-5)


def test_several_methods_share_their_control_and_get_what_each_gets_alone():
    model, scans = box_model(), [bright_box(seed) for seed in range(4)]
    box = model.net.weight.detach().numpy()[0] * 120
    maps = {"good": [box] * 4, "bad": [1 - box] * 4}
    how = dict(target="box", shares=(0.2, 0.6), noise=0)
    together = attend.faithfulness(model, scans, maps, **how)
    for name, of_name in maps.items():
        alone = attend.faithfulness(model, scans, of_name, **how)
        pd.testing.assert_frame_equal(together.table.loc[name], alone.table)
        theirs = (
            together.curves[together.curves["map"] == name]
            .drop(columns="map")
            .reset_index(drop=True)
        )
        pd.testing.assert_frame_equal(theirs, alone.curves)


def test_deletion_takes_pixels_of_the_scan_and_none_of_the_padding():
    seen = []
    tall = Scan(np.ones((32, 16), np.float32))  # the middle half of a square of 32 x 32

    def score(x):
        seen.append(x)
        return x.mean((1, 2, 3))

    attend.faithfulness(
        box_model(),
        tall,
        attend.blind.centre_map((32, 16)),
        target=score,
        shares=(0.25, 0.9),
        noise=0.5,
    )
    x = torch.cat(seen)[:, 0]
    assert not x[:, :, :8].any()
    assert not x[:, :, 24:].any()
    # the scan as it is, then map and random, deletion and insertion
    touched = (x != x[0]).sum((1, 2)).tolist()
    assert touched == [0, 128, 461, 128, 461, 384, 51, 384, 51]


def test_faithfulness_refuses_what_does_not_fit():
    scan, model = bright_box(0), box_model()
    with pytest.raises(ValueError, match="2 scans, 1 maps"):
        attend.faithfulness(model, [scan, scan], [scan.pixels], target="box")
    for shares in [(0, 0.5), (0.5, 1), (0.5, 0.2)]:
        with pytest.raises(ValueError, match="shares that rise between 0 and 1"):
            attend.faithfulness(model, scan, scan.pixels, target="box", shares=shares)
