"""From scan to input and back: places survive, whatever the fit."""

import numpy as np
import pytest
import torch

from radwb.data import to_input, to_scan

RNG = np.random.default_rng(0)


def torch_resize(pixels, size):
    """The independent reference: torch's antialiased bilinear filter."""
    x = torch.from_numpy(pixels)[None, None]
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)[
        0, 0
    ].numpy()


def test_squash_equals_torchs_antialiased_filter():
    pixels = RNG.random((211, 97), np.float32)
    assert (
        np.abs(
            to_input(pixels, 64, fit="squash") - torch_resize(pixels, (64, 64))
        ).max()
        < 1e-5
    )


def test_pad_is_the_same_filter_between_two_bands_of_zeros():
    pixels = RNG.random((200, 100), np.float32)
    out = to_input(pixels, 64, fit="pad")
    assert np.abs(out[:, 16:48] - torch_resize(pixels, (64, 32))).max() < 1e-5
    assert out[:, :16].max() == out[:, 48:].max() == 0


def test_crop_takes_the_centred_square():
    """As the libraries do: the whole film is resized, then cut."""
    pixels = RNG.random((100, 160), np.float32)
    assert (
        np.abs(
            to_input(pixels, 50, fit="crop") - torch_resize(pixels, (50, 80))[:, 15:65]
        ).max()
        < 1e-5
    )


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(200, 120), (120, 200), (160, 160), (37, 53)])
def test_a_blob_returns_to_its_place(fit, shape):
    centre = np.array([shape[0] * 0.55, shape[1] * 0.42])
    y, x = np.mgrid[: shape[0], : shape[1]]
    width = max(shape) / 12
    blob = np.exp(
        -((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2)
    ).astype(np.float32)
    tokens = to_input(blob, 160, fit=fit).reshape(20, 8, 20, 8).mean((1, 3))
    back = to_scan(tokens, shape, fit=fit)
    returned = np.array([(y * back).sum(), (x * back).sum()]) / back.sum()
    assert back.shape == shape
    assert np.abs(returned - centre).max() < max(shape) / 160  # a fraction of a token


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_to_scan_keeps_a_constant_and_leaves_zero_outside_of_a_crop(fit):
    back = to_scan(np.full((10, 10), 3.0), (90, 150), fit=fit)
    inside = back[:, 30:120] if fit == "crop" else back
    assert np.allclose(inside, 3)
    if fit == "crop":
        assert back[:, :30].max() == back[:, 120:].max() == 0


def test_to_scan_follows_a_ramp_exactly():
    tokens = np.broadcast_to(
        (np.arange(8) + 0.5) / 8, (8, 8)
    )  # each token's centre, as a share of the input's width
    back = to_scan(tokens, (64, 64), fit="squash")
    expected = (np.arange(64) + 0.5) / 64
    assert np.abs(back[20, 4:60] - expected[4:60]).max() < 1e-5


def test_an_unknown_fit_says_which_there_are():
    with pytest.raises(ValueError, match="expected fit in .*'pad'"):
        to_input(np.zeros((4, 4), np.float32), 4, fit="stretch")
