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
from radwb.simulate.worn import worn

MARGIN = 0.125  # of the side, by which the field is widened for films that show more
FILL = (0.62, 0.95)  # how much of the film's height or width the lungs take
ZOOM = (0.85, 1.6)
SEEN_MM = 60  # of lung, from which on a ray looks like lung beside the diaphragm
LEAST_SPREAD = (0.09, 0.15)  # real films of four sets: 5 % below 0.10, half below 0.15
SIDES = (64, 512)  # rows that a film was once stored with, px
MARKERS = {"left": ("R", "RT", "R", "(R)"), "right": ("L", "LT", "L", "(L)")}
# what is burned in says nothing that the view doesn't: AP films are portable ones
TEXTS = {
    "AP": ("AP", "PORTABLE", "AP PORTABLE", "MOBILE", "BEDSIDE"),
    "PA": ("PA", "ERECT", "PA ERECT", "UPRIGHT", "STANDING"),
    "LATERAL": ("LAT", "LATERAL"),
}
NOTES = ("ROOM 2", "WARD 7", "14:20", "07:55", "2.5 mAs", "110 kV", "S 1.8", "CHEST")


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
    lungs = rays.lung_mm.numpy() > SEEN_MM
    size = len(lungs)
    spans = [np.flatnonzero(lungs.any(axis)) for axis in (1, 0)]
    ends = np.array([(span[0], span[-1] + 1) for span in spans])
    is_square = rng.random() < 0.35
    aspect = 1 if is_square else np.exp(np.clip(rng.normal(0.08, 0.16), -0.3, 0.35))
    sides = size * np.array([min(1, 1 / aspect), min(1, aspect)])
    extent = ends[:, 1] - ends[:, 0]
    zoom = np.clip((sides * rng.uniform(*FILL) / extent).min(), *ZOOM)
    slack = np.maximum(sides - zoom * extent, 0)
    # films show more of the neck than of the belly
    lean = rng.uniform((-0.25, -0.4), (0.45, 0.4)) * slack
    offset = lean - zoom * (ends.mean(1) - size / 2)
    gaps = np.stack([slack / 2 + lean, slack / 2 - lean], axis=1)
    shut = rng.random((2, 2)) * (rng.random() < 0.25)
    borders = ((size - sides) / 2)[:, None] + 0.8 * shut * gaps
    return float(zoom), offset, np.floor(borders).astype(int).ravel()


def detector(site, view, look):
    """A `Site` with another detector and another dose."""
    rng = stream(look, 2)
    is_portable = view == "AP"
    return replace(
        site,
        photons=float(np.exp(rng.uniform(*np.log((100000, 2000000))))),
        scatter=rng.uniform(0.1, 0.6) * (1.8 if is_portable else 1),
        unsharp_mm=rng.uniform(0.2, 1.0),
    )


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
    slope = rng.normal(0, 0.06, 2)
    signal = signal + slope[0] * at[:, None] + slope[1] * at
    if rng.random() < 0.15:
        cycles = rng.uniform(0.22, 0.45) * size / 2
        lines = rng.uniform(0.001, 0.006) * np.sin(np.pi * cycles * at)
        signal = signal + (lines if rng.random() < 0.5 else lines[:, None])
    return signal


def _toned(signal, rng):
    """Processing and display: unsharp masks, a window, a curve, a range of greys."""
    size = len(signal)
    sharp = signal + rng.uniform(0, 1.2) * (signal - physics.blur(signal, size / 40))
    sharp += rng.uniform(0, 2.5) * (signal - physics.blur(signal, 0.6 + size / 250))
    sharp -= rng.uniform(0, 0.6) * physics.blur(signal, size / 9)
    low, high = np.percentile(_middle(sharp), (1, 99))
    # from lungs that are black to an open field that is
    low -= rng.uniform(0, 0.9) * (low - sharp.min())
    high += rng.uniform(-0.04, 0.3) * (high - low)
    x = np.clip((sharp - low) / (high - low), 0, 1)
    x = _curved(x, rng.uniform(0.5, 5), rng.uniform(0.3, 0.6))
    if rng.random() < 0.15:
        x = _equalised(x, rng.uniform(0.4, 1))
    median = np.clip(np.median(_middle(x)), 0.05, 0.95)
    target = np.clip(rng.normal(0.73, 0.12), 0.4, 0.92)
    x = x ** np.clip(np.log(target) / np.log(median), 0.45, 2.2)
    black = max(0, rng.normal(0.02, 0.06))
    white = min(1, rng.normal(0.87, 0.1))
    return _spread(black + (max(white, 0.6) - black) * x, rng.uniform(*LEAST_SPREAD))


def _spread(greys, least):
    """Greys whose deviation over a film's middle is at least so much."""
    middle = _middle(greys)
    wider = max(1, least / middle.std())
    return np.clip(middle.mean() + (greys - middle.mean()) * wider, 0, 1)


def _middle(film):
    """Some pixels of the chest."""
    size = len(film)
    return film[size // 8 : -size // 8 : 2, size // 6 : -size // 6 : 2]


def _curved(x, contrast, toe):
    """An S-shaped display curve from 0 to 1; nearly a line at low contrast."""
    ends = np.array([0, 1])
    black, white = 1 / (1 + np.exp(-contrast * (ends - toe)))
    return (1 / (1 + np.exp(-contrast * (x - toe))) - black) / (white - black)


def _equalised(x, share):
    """Towards equally many pixels of each grey."""
    counts = np.histogram(x, 256, (0, 1))[0]
    rank = np.cumsum(counts) / x.size
    return (1 - share) * x + share * rank[(x * 255).astype(int)]


def _lettered(pixels, borders, view, marker, rng):
    """A side marker, true to the side, and up to two notes in other corners."""
    size = len(pixels)
    top, bottom, left, right = borders
    columns = (left, size - right)
    corners = [(high, side) for high in (True, False) for side in MARKERS]
    corners = [corners[k] for k in rng.permutation(len(corners))]
    if marker:
        side = str(rng.choice(list(MARKERS)))
        corners.remove((True, side))
        text = str(rng.choice(MARKERS[side]))
        height = int(rng.uniform(0.045, 0.1) * size)
        row = top + rng.choice([0.04, 0.04, 0.5]) * (size - top - bottom)
        pixels = _stamped(pixels, text, height, (row, side), columns, rng)
    notes = rng.permutation([*TEXTS[view], *NOTES])
    for k in range(rng.choice(3, p=[0.6, 0.3, 0.1])):
        is_high, side = corners[k]
        height = int(rng.uniform(0.03, 0.055) * size)
        row = top + 1 if is_high else size - bottom - 1.6 * height
        pixels = _stamped(pixels, str(notes[k]), height, (row, side), columns, rng)
    return pixels


def _stamped(pixels, text, height, place, columns, rng):
    """A word at a row of the left or right rim; plain, on a plate, or dark on one."""
    word = letters(text, max(6, height)) / 255
    row, side = place
    wide = min(word.shape[1], columns[1] - columns[0])
    inset = int(rng.uniform(0, 0.06) * len(pixels))
    start = columns[0] + inset if side == "left" else columns[1] - wide - inset
    start = int(np.clip(start, 0, len(pixels) - wide))
    row = int(np.clip(row, 0, len(pixels) - len(word)))
    there = np.s_[row : row + len(word), start : start + wide]
    word = word[:, :wide]
    out = pixels.copy()
    grey = rng.uniform(0.5, 1)
    under = pixels[there]
    kind = rng.choice(["plain", "on black", "on white"], p=[0.75, 0.15, 0.1])
    if kind != "plain":
        under = np.full_like(under, 0 if kind == "on black" else grey)
    ink = 0 if kind == "on white" else grey
    out[there] = under + (ink - under) * word
    return out


def _shut(pixels, borders, rng):
    """Borders of the collimator or the format: black, seldom white, a little askew."""
    size = len(pixels)
    top, bottom, left, right = borders
    shut = np.ones_like(pixels)
    shut[top : size - bottom, left : size - right] = 0
    if rng.random() < 0.25:
        askew = ndimage.rotate(shut, rng.normal(0, 1.5), reshape=False, order=1, cval=1)
        shut = np.maximum(shut, askew.clip(0, 1))
    grey = rng.choice([0, 0.03, 0.95], p=[0.8, 0.12, 0.08])
    return pixels + (grey - pixels) * shut, shut < 0.5


def _stored(pixels, rng):
    """What storing does: fewer rows once, grain, JPEG."""
    if rng.random() < 0.4:
        side = int(np.exp(rng.uniform(*np.log(SIDES))))
        pixels = resampled(pixels, side)
    strength = rng.uniform(0, 0.02) * (rng.random() < 0.7)
    pixels = pixels + strength * grain(len(pixels), rng.uniform(0, 1), rng)
    if rng.random() < 0.4:
        pixels = jpeg(pixels, int(rng.uniform(25, 95)))
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


def grain(size, slope, rng):
    """(size, size) noise of mean 0 and deviation 1 whose amplitude falls as f^-slope.

    Real films' finest octaves lie between white (0) and anatomy's (about 1.5).
    """
    cycles = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    cycles[0, 0] = np.inf
    white = rng.standard_normal((size, size), dtype=np.float32)
    texture = np.fft.irfft2(np.fft.rfft2(white) * cycles**-slope, s=(size, size))
    return (texture - texture.mean()) / texture.std()


def jpeg(pixels, quality):
    """As a JPEG of that quality gives it back."""
    file = io.BytesIO()
    film = Image.fromarray(np.round(pixels.clip(0, 1) * 255).astype(np.uint8))
    film.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / 255
