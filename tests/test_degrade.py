"""The strong augmentation: other machines' looks, none of which unmakes a report."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from tables import squares_table

import radwb as rw
from radwb.pretrain import degrade as looks
from radwb.pretrain.augment import cuts
from radwb.pretrain.degrade import degrade

SHAPE = {"width": 32, "heads": 2, "layers": 1, "embed": 32}
QUICK = {"size": 32, "batch": 16, "epochs": 1, "recipe": "supervised-tiny"}
N = 64


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def smooth(side=64):
    """(N, 1, S, S) of soft greys from 0.2 to 0.8."""
    coarse = 0.2 + 0.6 * drawn(N, 1, 4, 4)
    up = torch.nn.Upsample(side, mode="bilinear", align_corners=True)
    return up(coarse)


def test_a_share_is_changed_as_in_the_whole_and_all_follow_the_seed():
    x = smooth()
    y = degrade(x, seed=3)
    assert torch.equal(degrade(x, seed=3), y)
    assert torch.equal(degrade(x[10:20], seed=3, first=10), y[10:20])
    assert not torch.equal(degrade(x, seed=4), y)
    assert y.min() >= 0
    assert y.max() <= 1
    changed = (y - x).abs().mean((1, 2, 3))
    assert changed.min() > 0.005
    assert changed.max() > 5 * changed.min()


def test_what_is_bright_stays_bright_and_in_its_place():
    """A lesion as dense as a heart, 12 px wide, on its own side."""
    x = smooth().clamp(max=0.5)
    lesion = torch.zeros(64, 64, dtype=torch.bool)
    lesion[30:42, 40:52] = True
    mirror = lesion.flip(-1)
    bright = torch.where(lesion, x + 0.3, x)
    y = degrade(bright, seed=0) - degrade(x, seed=0)
    gained = (y[:, 0] * lesion).sum((1, 2)) / lesion.sum()
    elsewhere = (y[:, 0] * mirror).sum((1, 2)) / lesion.sum()
    assert (gained > 0.05).all()
    assert (elsewhere.abs() < 0.1 * gained).all()


def test_a_tone_curve_rises_from_black_to_white():
    x = torch.linspace(0, 1, 101).repeat(N, 1, 1, 1)
    y = looks.curved(x, drawn(N, looks.PIECES))
    steps = y.diff()
    assert (steps > 0.002).all()
    assert y[..., 0].abs().max() == 0
    assert (y[..., -1] - 1).abs().max() < 1e-6
    straight = looks.curved(x, torch.full((N, looks.PIECES), 0.3))
    torch.testing.assert_close(straight, x)


def test_squares_are_those_of_a_cosine_transform():
    x = drawn(1, 1, 16, 16)
    step = 0.2
    got = looks.in_squares(x, torch.tensor([step]))[0, 0].numpy()
    frequency = np.arange(8)
    steps = step * (1 + (frequency + frequency[:, None]) / 2)
    square = x[0, 0, 8:, :8].numpy()
    kept = np.round(dctn(square, norm="ortho") / steps) * steps
    expected = idctn(kept, norm="ortho")
    np.testing.assert_allclose(got[8:, :8], expected, atol=1e-5)
    none = looks.in_squares(x, torch.zeros(1))
    torch.testing.assert_close(none, x, rtol=0, atol=1e-4)
    odd = drawn(1, 1, 20, 20)
    assert torch.equal(looks.in_squares(odd, torch.ones(1)), odd)


def test_resampling_takes_fine_detail_and_sharpening_gives_it():
    x = drawn(3, 1, 128, 128)
    y = looks.resampled(x, torch.tensor([0.0, 1.0, -0.5]))
    spread = y.std((1, 2, 3)) / x.std((1, 2, 3))
    assert spread[0] == 1
    assert spread[1] < 0.5
    assert spread[2] > 1.2
    torch.testing.assert_close(y.mean((1, 2, 3)), x.mean((1, 2, 3)), rtol=0, atol=0.01)


def test_a_border_is_narrow_and_of_one_grey():
    x = torch.full((N, 1, 100, 100), 0.5)
    sides = drawn(4, N)
    y = looks.framed(x, *sides)
    changed = y != 0.5
    assert not changed[:, :, 5:95, 5:95].any()
    share = changed.any(3).any(2).float().mean()
    assert 0.8 < share <= 1
    assert set(y.unique().tolist()) == {0.0, 0.5, 1.0}
    none = looks.framed(x, *(0.5 * sides))
    assert torch.equal(none, x)


def test_pieces_of_noise_are_cut_where_they_are_drawn():
    field = torch.arange(64.0).view(8, 8)
    got = cuts(field, torch.tensor([[0.0, 0.0], [0.25, 0.75]]))
    assert torch.equal(got[0, 0], field[:4, :4])
    assert torch.equal(got[1, 0], field[1:5, 3:7])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


def test_a_run_can_be_asked_for_it(table, tmp_path):
    how = QUICK | {"shape": SHAPE}
    mild = rw.pretrain.fit(table, out=tmp_path / "a", **how)
    first_loss = mild.log["loss"][0]
    again = rw.pretrain.fit(table, out=tmp_path / "a", augmentation="mild", **how)
    assert again.reused
    assert "augmentation" not in mild.config["identity"]
    strong = rw.pretrain.fit(table, out=tmp_path / "a", augmentation="strong", **how)
    assert not strong.reused
    assert strong.config["identity"]["augmentation"] == "strong"
    assert strong.log["loss"][0] != first_loss
    with pytest.raises(ValueError, match="augmentation of mild, strong, got 'wild'"):
        rw.pretrain.fit(table, out=tmp_path / "b", augmentation="wild", **how)


def test_crops_of_a_share_are_those_of_the_whole():
    """Of two processes: they were drawn behind a draw as long as the share."""
    x = smooth()
    whole = rw.pretrain.augment(x, seed=0, crop=0.5)
    half = N // 2
    shares = [
        rw.pretrain.augment(part, seed=0, crop=0.5, first=first, whole=N)
        for part, first in ((x[:half], 0), (x[half:], half))
    ]
    assert torch.equal(torch.cat(shares), whole)
