"""Looks: a film as if from another hospital, whose every film differs.

A look is a seed. Each step of making the film draws from a stream of its own under
that seed, so that a change of one step leaves the others as they are.
"""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from radwb.data.letters import letters
from radwb.simulate import display, physics
from radwb.simulate.worn import strengths, worn

MARGIN = 0.125  # of the side, by which the field is widened for films that show more
ZOOM = (0.85, 1.6)
SEEN_MM = 60  # of lung, from which on a ray looks like lung beside the diaphragm
GRID = 0.15  # share of the films that show their grid

# strengths from least to most, each film's own; photons and rows as logarithms
FRAME = {
    "fill": (0.62, 0.95),  # share of the film's height or width that the lungs take
    # where the lungs lie in the room that is left: films show more neck than belly
    "down": (-0.25, 0.45),
    "across": (-0.4, 0.4),
}
DETECTOR = {
    "log_photons": (11.5, 14.5),
    "scatter": (0.1, 0.6),
    "unsharp_mm": (0.2, 1.0),
}
TONE = {
    "edge": (0, 1.2),
    "fine_edge": (0, 2.5),
    "flatten": (0, 0.6),
    "low": (0, 0.9),  # 0: lungs may be black, 1: nothing but the open field
    "high": (-0.04, 0.3),
    "contrast": (0.5, 5),
    "toe": (0.3, 0.6),
    "equalised": (0.4, 1),
    # real films of four sets: 5 % below 0.10, half below 0.15
    "spread": (0.09, 0.15),
}
STORED = {
    "log_rows": (4.16, 6.24),  # 64 to 512
    "grain": (0, 0.02),
    "exponent": (0, 1),
    "quality": (25, 95),
}
MARKERS = {"left": ("R", "RT", "R", "(R)"), "right": ("L", "LT", "L", "(L)")}
# what is burned in says nothing that the view doesn't: AP films are portable ones
TEXTS = {
    "AP": ("AP", "PORTABLE", "AP PORTABLE", "MOBILE", "BEDSIDE"),
    "PA": ("PA", "ERECT", "PA ERECT", "UPRIGHT", "STANDING"),
    "LATERAL": ("LAT", "LATERAL"),
}
NOTES = ("ROOM 2", "WARD 7", "14:20", "07:55", "2.5 mAs", "110 kV", "S 1.8", "CHEST")


def drawn(rng, share):
    """The seed of a film's look, None where it has its site's.

    A film keeps its look when the share grows.
    """
    chance = rng.random()
    seed = int(rng.integers(2**32))
    return seed if chance < share else None


def placed(rays, paths, masks, look):
    """Lay a patient on another detector.

    The lungs stay on the film, wherever it is moved and however far it is collimated.

    Args:
        paths: what lies along the rays, with findings.
        masks: list of (H, W) float, which move along.
        look: the seed.
    Returns:
        (1 + K, H, W) transmitted share and masks; the magnification; the film's
        `borders` (top, bottom, left, right) that aren't exposed, px.
    """
    size = rays.paths.soft.shape[0]
    margin = int(MARGIN * size)
    paths = worn(_widened(paths, margin), rays, margin, stream(look, 0))
    rng = stream(look, 1)
    beam = rng.choice(list(physics.BEAMS))
    primary = physics.transmit(paths, str(beam))
    degrees = rng.normal(0, 3.5 if rays.view == "AP" else 1.8)
    zoom, offset, borders = _framed(rays, rng)
    masks = [F.pad(mask, (margin,) * 4) for mask in masks]
    layers = torch.stack([primary, *masks])
    layers = display.shift(layers, np.clip(degrees, -9, 9), zoom, offset)
    inside = slice(margin, margin + size)
    return layers[:, inside, inside], zoom, borders


def stream(look, step):
    """The stream of one step of a look."""
    return np.random.default_rng([look, step])


def _widened(paths, margin):
    """The field goes on above and below as its mirror; to its sides it rounds off."""
    wide = F.pad(paths.stack()[None], (0, 0, margin, margin), mode="reflect")
    wide = F.pad(wide, (margin, margin, 0, 0), mode="replicate")
    rim = torch.linspace(0, 1, margin + 1)[:-1] ** 0.5
    share = torch.cat([rim, torch.ones(wide.shape[-1] - 2 * margin), rim.flip(0)])
    return physics.Paths(*(wide[0] * share))


def _framed(rays, rng):
    """Magnification, move in px and borders, such that the lungs are on the film."""
    size = len(rays.lung_mm)
    first, last = _lungs(rays)
    extent = last - first
    sides = size * _format(rng)
    how = strengths(FRAME, rng)
    zoom = (how["fill"] * sides / extent).min()
    zoom = np.clip(zoom, *ZOOM)
    room = np.maximum(sides - zoom * extent, 0)
    lean = room * (how["down"], how["across"])
    offset = lean - zoom * ((first + last) / 2 - size / 2)
    borders = _borders((size - sides) / 2, room / 2 + lean, room / 2 - lean, rng)
    return float(zoom), offset, borders


def _lungs(rays):
    """First and last (row, column) of what looks like lung."""
    lungs = rays.lung_mm.numpy() > SEEN_MM
    places = np.argwhere(lungs)
    return places.min(0), places.max(0) + 1


def _format(rng):
    """(height, width) of a film in the square, the longer side 1."""
    aspect = np.exp(rng.normal(0.08, 0.16))
    aspect = np.clip(aspect, 0.75, 1.4)
    if rng.random() < 0.35:
        aspect = 1
    return np.minimum(1, (1 / aspect, aspect))


def _borders(beyond, before, after, rng):
    """(top, bottom, left, right) in px: what the format leaves, and the shutters.

    A shutter stays within the room `before` and `after` the lungs.
    """
    shut = 0.8 * rng.random((2, 2))
    if rng.random() < 0.75:
        shut[:] = 0
    room = np.stack([before, after], axis=1)
    borders = beyond[:, None] + shut * room
    return borders.astype(int).ravel()


def detector(site, view, look):
    """A `Site` with another detector and another dose."""
    how = strengths(DETECTOR, stream(look, 2))
    if view == "AP":
        how["scatter"] *= 1.8
    how["photons"] = np.exp(how.pop("log_photons"))
    return replace(site, **how)


def developed(signal, borders, view, marker, look):
    """Display values 0 to 1 of a film, and which pixels of it were exposed."""
    pixels = _toned(_uneven(signal, look), stream(look, 4))
    pixels = _lettered(pixels, borders, view, marker, stream(look, 5))
    pixels, seen = _shut(pixels, borders, stream(look, 6))
    return _stored(pixels, stream(look, 7)).astype(np.float32), seen


def _uneven(signal, look):
    """A detector lit unevenly, and the lines of a grid that stands still."""
    rng = stream(look, 3)
    size = len(signal)
    at = np.linspace(-1, 1, size)
    down, across = rng.normal(0, 0.06, 2)
    signal = signal + down * at[:, None] + across * at
    if rng.random() > GRID:
        return signal
    cycles = size * rng.uniform(0.22, 0.45)
    lines = rng.uniform(0.001, 0.006) * np.sin(np.pi * cycles * at)
    if rng.random() < 0.5:
        lines = lines[:, None]
    return signal + lines


def _toned(signal, rng):
    """Processing and display: unsharp masks, a window, a curve, a range of greys."""
    how = strengths(TONE, rng)
    sharp = _processed(signal, how)
    low, high = np.percentile(_middle(sharp), (1, 99))
    low -= how["low"] * (low - sharp.min())
    high += how["high"] * (high - low)
    x = (sharp - low) / (high - low)
    x = _curved(x.clip(0, 1), how["contrast"], how["toe"])
    if rng.random() < 0.15:
        x = _equalised(x, how["equalised"])
    target = rng.normal(0.73, 0.12)
    x = _exposed(x, np.clip(target, 0.4, 0.92))
    black = rng.normal(0.02, 0.06)
    white = rng.normal(0.87, 0.1)
    black = max(black, 0)
    white = np.clip(white, 0.6, 1)
    return _spread(black + (white - black) * x, how["spread"])


def _processed(signal, how):
    """Two unsharp masks, and fewer of the low frequencies."""
    size = len(signal)
    sharp = signal - how["flatten"] * physics.blur(signal, size / 9)
    sharp += how["edge"] * (signal - physics.blur(signal, size / 40))
    sharp += how["fine_edge"] * (signal - physics.blur(signal, 0.6 + size / 250))
    return sharp


def _exposed(x, target):
    """A gamma that brings the chest's median near a target: over- or underexposed."""
    median = np.median(_middle(x))
    median = np.clip(median, 0.05, 0.95)
    gamma = np.log(target) / np.log(median)
    return x ** np.clip(gamma, 0.45, 2.2)


def _spread(greys, least):
    """Greys whose deviation over a film's middle is at least so much."""
    middle = _middle(greys)
    mean = middle.mean()
    wider = max(1, least / middle.std())
    return np.clip(mean + wider * (greys - mean), 0, 1)


def _middle(film):
    """Some pixels of the chest."""
    rows, columns = np.array(film.shape) // (8, 6)
    return film[rows:-rows:2, columns:-columns:2]


def _curved(x, contrast, toe):
    """An S-shaped display curve from 0 to 1; nearly a line at low contrast."""
    black, white, x = (1 / (1 + np.exp(-contrast * (grey - toe))) for grey in (0, 1, x))
    return (x - black) / (white - black)


def _equalised(x, share):
    """Towards equally many pixels of each grey."""
    counts, _ = np.histogram(x, 256, (0, 1))
    rank = np.cumsum(counts) / x.size
    grey = (255 * x).astype(int)
    return (1 - share) * x + share * rank[grey]


def _lettered(pixels, borders, view, marker, rng):
    """A side marker, true to the side, and up to two notes in other corners."""
    size = len(pixels)
    top, bottom, left, right = borders
    columns = (left, size - right)
    corners = [(high, side) for high in (True, False) for side in MARKERS]
    corners = [corners[k] for k in rng.permutation(len(corners))]
    if marker:
        side = str(rng.choice(list(MARKERS)))
        text = str(rng.choice(MARKERS[side]))
        corners.remove((True, side))
        height = size * rng.uniform(0.045, 0.1)
        row = top + rng.choice([0.04, 0.04, 0.5]) * (size - top - bottom)
        pixels = _stamped(pixels, text, height, (row, side), columns, rng)
    notes = rng.permutation([*TEXTS[view], *NOTES])
    for k in range(rng.choice(3, p=[0.6, 0.3, 0.1])):
        is_high, side = corners[k]
        height = size * rng.uniform(0.03, 0.055)
        row = top + 1 if is_high else size - bottom - 1.6 * height
        pixels = _stamped(pixels, str(notes[k]), height, (row, side), columns, rng)
    return pixels


def _stamped(pixels, text, height, place, columns, rng):
    """A word at a row of the left or right rim; plain, on a plate, or dark on one."""
    word = letters(text, max(6, int(height))) / 255
    row, side = place
    first, last = columns
    word = word[:, : last - first]
    rows, wide = word.shape
    inset = len(pixels) * rng.uniform(0, 0.06)
    start = first + inset if side == "left" else last - wide - inset
    corner = np.array([row, start]).astype(int)
    row, start = corner.clip(0, np.array(pixels.shape) - word.shape)
    there = np.s_[row : row + rows, start : start + wide]
    grey = rng.uniform(0.5, 1)
    plates = {"none": pixels[there], "black": 0, "white": grey}
    plate = rng.choice(list(plates), p=[0.75, 0.15, 0.1])
    ink = 0 if plate == "white" else grey
    out = pixels.copy()
    out[there] = (1 - word) * plates[plate] + word * ink
    return out


def _shut(pixels, borders, rng):
    """Borders of the collimator or the format: black, seldom white, a little askew."""
    size = len(pixels)
    top, bottom, left, right = borders
    shut = np.ones_like(pixels)
    shut[top : size - bottom, left : size - right] = 0
    degrees = rng.normal(0, 1.5)
    if rng.random() < 0.25:
        askew = ndimage.rotate(shut, degrees, reshape=False, order=1, cval=1)
        shut = np.maximum(shut, askew.clip(0, 1))
    grey = rng.choice([0, 0.03, 0.95], p=[0.8, 0.12, 0.08])
    return pixels + (grey - pixels) * shut, shut < 0.5


def _stored(pixels, rng):
    """What storing does: fewer rows once, grain, JPEG."""
    how = strengths(STORED, rng)
    is_small, is_grained, is_jpeg = rng.random(3) < (0.4, 0.7, 0.4)
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
