"""Looks: a film as if from another hospital, whose every film differs.

A look is a seed. Each step of making the film draws from a stream of its own under
that seed, so that a change of one step leaves the others as they are.
"""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import display, physics
from radwb.simulate.stored import lettered, shut, stored
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
    "log_photons": (12.2, 14.9),
    "scatter": (0.1, 0.6),
    "unsharp_mm": (0.2, 1.0),
}
LINES = {
    "cycles": (0.22, 0.45),  # of the grid, a pixel
    "depth": (0.001, 0.006),
}
TONE = {
    "edge": (0, 1.2),
    "fine_edge": (0, 2.0),
    "flatten": (0, 0.6),
    "low": (0, 0.9),  # 0: lungs may be black, 1: nothing but the open field
    "high": (-0.04, 0.3),
    "contrast": (0.5, 5),
    "toe": (0.3, 0.6),
    "equalised": (0.4, 1),
    # real films of four sets: 5 % below 0.10, half below 0.15
    "spread": (0.09, 0.15),
}


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
    degrees = np.clip(degrees, -9, 9)
    masks = [F.pad(mask, (margin,) * 4) for mask in masks]
    layers = torch.stack([primary, *masks])
    layers = display.shift(layers, degrees, zoom, offset)
    inside = slice(margin, margin + size)
    return layers[:, inside, inside], zoom, borders


def stream(look, step):
    """The stream of one step of a look."""
    return np.random.default_rng([look, step])


def _widened(paths, margin):
    """The field goes on above and below as its mirror; to its sides it rounds off."""
    stack = paths.stack()
    flat = torch.ones(stack.shape[-1])
    rim = torch.linspace(0, 1, margin + 1)
    rim = rim[:-1] ** 0.5
    share = torch.cat([rim, flat, rim.flip(0)])
    wide = F.pad(stack[None], (0, 0, margin, margin), mode="reflect")
    wide = F.pad(wide, (margin, margin, 0, 0), mode="replicate")
    return physics.Paths(*(share * wide[0]))


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
    aside = (first + last - size) / 2
    offset = lean - zoom * aside
    before = room / 2 + lean
    after = room / 2 - lean
    borders = _borders((size - sides) / 2, before, after, rng)
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
    is_square = rng.random() < 0.35
    if is_square:
        aspect = 1
    sides = (1 / aspect, aspect)
    return np.minimum(1, sides)


def _borders(beyond, before, after, rng):
    """(top, bottom, left, right) in px: what the format leaves, and the shutters.

    A shutter stays within the room `before` and `after` the lungs.
    """
    share = 0.8 * rng.random((2, 2))
    if rng.random() < 0.75:
        share[:] = 0
    room = np.stack([before, after], axis=1)
    borders = beyond[:, None] + share * room
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
    pixels = lettered(pixels, borders, view, marker, stream(look, 5))
    pixels, seen = shut(pixels, borders, stream(look, 6))
    return stored(pixels, stream(look, 7)).astype(np.float32), seen


def _uneven(signal, look):
    """A detector lit unevenly, and the lines of a grid that stands still."""
    rng = stream(look, 3)
    size = len(signal)
    at = np.linspace(-1, 1, size)
    down, across = rng.normal(0, 0.06, 2)
    slope = down * at[:, None] + across * at
    signal = signal + slope
    if rng.random() > GRID:
        return signal
    how = strengths(LINES, rng)
    lines = np.sin(np.pi * size * how["cycles"] * at)
    lines = how["depth"] * lines
    if rng.random() < 0.5:
        lines = lines[:, None]
    return signal + lines


def _toned(signal, rng):
    """Processing and display: unsharp masks, a window, a curve, a range of greys."""
    how = strengths(TONE, rng)
    sharp = _processed(signal, how)
    middle = _middle(sharp)
    low, high = np.percentile(middle, (1, 99))
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
    low = physics.blur(signal, size / 9)
    edges = signal - physics.blur(signal, size / 40)
    fine = signal - physics.blur(signal, 0.6 + size / 250)
    sharp = signal - how["flatten"] * low
    sharp += how["edge"] * edges
    return sharp + how["fine_edge"] * fine


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
    greys = mean + wider * (greys - mean)
    return np.clip(greys, 0, 1)


def _middle(film):
    """Some pixels of the chest."""
    rows, columns = np.array(film.shape) // (8, 6)
    return film[rows:-rows:2, columns:-columns:2]


def _curved(x, contrast, toe):
    """An S-shaped display curve from 0 to 1; nearly a line at low contrast."""

    def curve(grey):
        return 1 / (1 + np.exp(contrast * (toe - grey)))

    black = curve(0)
    white = curve(1)
    return (curve(x) - black) / (white - black)


def _equalised(x, share):
    """Towards equally many pixels of each grey."""
    counts, _ = np.histogram(x, 256, (0, 1))
    rank = np.cumsum(counts) / x.size
    grey = (255 * x).astype(int)
    return (1 - share) * x + share * rank[grey]
