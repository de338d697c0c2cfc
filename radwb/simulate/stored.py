"""What becomes of a film once it is developed: letters, borders, storing."""

import io

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from radwb.data.letters import letters
from radwb.simulate.worn import strengths

STORED = {
    "log_rows": (4.16, 6.24),  # 64 to 512
    "grain": (0, 0.016),
    "exponent": (0, 1),
    "quality": (25, 95),
}
LETTERS = {
    "height": (0.045, 0.1),
    "inset": (0, 0.06),
    "grey": (0.5, 1),
}
NOTE_LETTERS = LETTERS | {"height": (0.03, 0.055)}
MARKERS = {
    "left": ("R", "R", "RT", "(R)"),
    "right": ("L", "L", "LT", "(L)"),
}
# what is burned in says nothing that the view doesn't: AP films are portable ones
TEXTS = {
    "AP": (
        "AP",
        "PORTABLE",
        "AP PORTABLE",
        "MOBILE",
        "BEDSIDE",
    ),
    "PA": (
        "PA",
        "ERECT",
        "PA ERECT",
        "UPRIGHT",
        "STANDING",
    ),
    "LATERAL": ("LAT", "LATERAL"),
}
NOTES = (
    "ROOM 2",
    "WARD 7",
    "14:20",
    "07:55",
    "2.5 mAs",
    "110 kV",
    "S 1.8",
    "CHEST",
)


def lettered(pixels, borders, view, marker, rng):
    """A side marker, true to the side, and up to two notes in other corners."""
    corners = [
        (0.02, "left"),
        (0.02, "right"),
        (0.95, "left"),
        (0.95, "right"),
    ]
    if marker:
        side = str(rng.choice(list(MARKERS)))
        text = rng.choice(MARKERS[side])
        row = rng.choice([0.04, 0.04, 0.5])
        corners.remove((0.02, side))
        how = strengths(LETTERS, rng)
        pixels = _stamped(pixels, borders, text, row, side, how, rng)
    texts = rng.permutation([*TEXTS[view], *NOTES])
    order = rng.permutation(len(corners))
    n = rng.choice(3, p=[0.6, 0.3, 0.1])
    for text, corner in zip(texts[:n], order, strict=False):
        row, side = corners[corner]
        how = strengths(NOTE_LETTERS, rng)
        pixels = _stamped(pixels, borders, text, row, side, how, rng)
    return pixels


def _stamped(pixels, borders, text, row, side, how, rng):
    """A word at the left or right rim; plain, on a plate, or dark on one.

    Args:
        row: where between the borders, 0 to 1.
    """
    size = len(pixels)
    top, bottom, left, right = borders
    height = max(6, int(size * how["height"]))
    word = letters(str(text), height) / 255
    word = word[:, : size - left - right]
    rows, wide = word.shape
    inset = int(size * how["inset"])
    start = left + inset
    if side == "right":
        start = size - right - inset - wide
    first = top + int(row * (size - top - bottom))
    first = np.clip(first, 0, size - bottom - rows)
    start = np.clip(start, 0, size - wide)
    there = np.s_[first : first + rows, start : start + wide]
    plates = {
        "none": pixels[there],
        "black": 0,
        "white": how["grey"],
    }
    plate = rng.choice(list(plates), p=[0.75, 0.15, 0.1])
    ink = 0 if plate == "white" else how["grey"]
    out = pixels.copy()
    out[there] = (1 - word) * plates[plate] + word * ink
    return out


def shut(pixels, borders, rng):
    """Borders of the collimator or the format: black, seldom white, a little askew."""
    size = len(pixels)
    top, bottom, left, right = borders
    closed = np.ones_like(pixels)
    closed[top : size - bottom, left : size - right] = 0
    degrees = rng.normal(0, 1.5)
    if rng.random() < 0.25:
        askew = ndimage.rotate(closed, degrees, reshape=False, order=1, cval=1)
        closed = np.maximum(closed, askew.clip(0, 1))
    grey = rng.choice([0, 0.03, 0.95], p=[0.8, 0.12, 0.08])
    pixels = (1 - closed) * pixels + closed * grey
    return pixels, closed < 0.5


def stored(pixels, rng):
    """What storing does: fewer rows once, grain, JPEG."""
    how = strengths(STORED, rng)
    is_small, is_grained, is_jpeg = rng.random(3) < (0.4, 0.8, 0.4)
    if is_small:
        pixels = resampled(pixels, int(np.exp(how["log_rows"])))
    if is_grained:
        texture = grain(len(pixels), how["exponent"], rng)
        pixels = pixels + how["grain"] * texture
    if is_jpeg:
        pixels = jpeg(pixels, int(how["quality"]))
    return np.clip(pixels, 0, 1)


def resampled(pixels, side):
    """A film that was stored with `side` rows once; unchanged if it has no more."""
    size = len(pixels)
    if side >= size:
        return pixels
    film = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None, None]
    small = F.interpolate(film, size=(side, side), mode="area")
    large = F.interpolate(small, size=(size, size), mode="bicubic")
    return large[0, 0].numpy()


def grain(size, exponent, rng):
    """(size, size) noise of mean 0 and deviation 1, amplitude falling as f^-exponent.

    Real films' finest octaves lie between white (0) and anatomy's (about 1.5).
    """
    down = np.fft.fftfreq(size)
    across = np.fft.rfftfreq(size)
    cycles = np.hypot(down[:, None], across)
    cycles[0, 0] = np.inf
    white = rng.standard_normal((size, size), dtype=np.float32)
    waves = np.fft.rfft2(white) * cycles**-exponent
    texture = np.fft.irfft2(waves, s=white.shape)
    return (texture - texture.mean()) / texture.std()


def jpeg(pixels, quality):
    """As a JPEG of that quality gives it back."""
    file = io.BytesIO()
    grey = np.round(255 * pixels.clip(0, 1))
    film = Image.fromarray(grey.astype(np.uint8))
    film.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / 255
