"""From a detector's signal to what a reader sees: processing, collimation, letters."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from radwb.data.letters import letters
from radwb.simulate.physics import blur


@dataclass(frozen=True)
class Site:
    """One hospital's way to make a radiograph.

    Attributes:
        photons: mean count in a pixel of 160 without a patient.
        scatter: scattered over primary signal behind the grid.
        unsharp_mm: sigma of focal spot and detector, in the patient.
        flatten: share of the low frequencies taken out (dynamic range compression).
        contrast, toe: slope and centre of the display curve.
        edge: strength of the unsharp mask.
        marker: (text, column share, row share) of the burned-in side marker.
        text: burned in at the lower border; "" for none.
        shutter: widest black border, as a share of the side.
        portable: share of AP films.
    """

    photons: float
    scatter: float
    unsharp_mm: float
    flatten: float
    contrast: float
    toe: float
    edge: float
    marker: tuple
    text: str
    shutter: float
    portable: float


# a curve whose toe lies lower shows more of the lungs, and the mediastinum as a white
# bar without trachea or heart
SITES = {
    "A": Site(
        photons=400000,
        scatter=0.2,
        unsharp_mm=0.5,
        flatten=0.5,
        contrast=4.4,
        toe=0.43,
        edge=0.9,
        marker=("R", 0.06, 0.06),
        text="",
        shutter=0.0,
        portable=0.2,
    ),
    "B": Site(
        photons=150000,
        scatter=0.5,
        unsharp_mm=0.8,
        flatten=0.4,
        contrast=4.0,
        toe=0.4,
        edge=0.5,
        marker=("R", 0.05, 0.45),
        text="WARD 7",
        shutter=0.0,
        portable=0.4,
    ),
    "C": Site(
        photons=250000,
        scatter=0.35,
        unsharp_mm=0.6,
        flatten=0.55,
        contrast=4.8,
        toe=0.46,
        edge=1.2,
        marker=("L", 0.9, 0.05),
        text="",
        shutter=0.06,
        portable=0.6,
    ),
}


def develop(signal, site: Site):
    """Display values 0 to 1, bright = dense.

    An unsharp mask, a window on the chest, an S-shaped curve.
    """
    size = signal.shape[0]
    sharp = signal + site.edge * (signal - blur(signal, size / 40))
    sharp -= site.flatten * blur(signal, size / 9)
    field = sharp[size // 8 : -size // 8 : 2, size // 6 : -size // 6 : 2]
    low, high = np.percentile(field, (1, 99))
    curve = _display_curve((sharp - low) / (high - low), site)
    black, white = _display_curve(np.array([-0.12, 1.1]), site)
    return ((curve - black) / (white - black)).clip(0, 1).astype(np.float32)


def _display_curve(x, site):
    return 1 / (1 + np.exp(-site.contrast * (x - site.toe)))


def collimate(pixels, borders):
    """Black borders where the collimator shut: top, bottom, left, right, in pixels."""
    top, bottom, left, right = borders
    size = pixels.shape[0]
    shut = np.zeros_like(pixels)
    inside = np.s_[top : size - bottom, left : size - right]
    shut[inside] = pixels[inside]
    return shut


@lru_cache(maxsize=32)
def burned_in(site: Site, size, marker=True):
    """(H, W) the side marker and the text of a site, 0 to 1."""
    picture = np.zeros((size, size), np.uint8)
    if marker:
        text, column, row = site.marker
        picture = letters(
            text,
            max(8, size // 14),
            shape=picture.shape,
            at=(column * size, row * size),
            grey=235,
        )
    if site.text:
        below = letters(
            site.text,
            max(7, size // 22),
            shape=picture.shape,
            at=(0.04 * size, 0.93 * size),
            grey=200,
        )
        picture = np.maximum(picture, below)
    return picture.astype(np.float32) / 255


def shift(images, degrees, zoom, offset):
    """Turn, scale and move (C, H, W) about the middle: how this film was placed.

    Args:
        offset: (rows, columns) in pixels.
    """
    size = images.shape[-1]
    angle = np.deg2rad(degrees)
    c = np.cos(angle) / zoom
    s = np.sin(angle) / zoom
    row, column = 2 * np.asarray(offset) / size
    across = [c, s, -(c * column + s * row)]
    down = [-s, c, -(-s * column + c * row)]
    theta = torch.tensor([[across, down]], dtype=torch.float32)
    grid = F.affine_grid(theta, (1, 1, size, size), align_corners=False)
    return F.grid_sample(
        images[None],
        grid,
        padding_mode="reflection",
        align_corners=False,
    )[0]
