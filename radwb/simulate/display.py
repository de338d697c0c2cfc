"""From a detector's signal to what a reader sees: a vendor's processing, collimation,
burned-in marker and text.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

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
    "A": Site(400000, 0.2, 0.5, 0.50, 4.4, 0.43, 0.9, ("R", 0.06, 0.06), "", 0.0, 0.2),
    "B": Site(
        150000, 0.5, 0.8, 0.40, 4.0, 0.40, 0.5, ("R", 0.05, 0.45), "WARD 7", 0.0, 0.4
    ),
    "C": Site(
        250000, 0.35, 0.6, 0.55, 4.8, 0.46, 1.2, ("L", 0.90, 0.05), "", 0.06, 0.6
    ),
}


def develop(signal, site: Site):
    """Display values 0 to 1, bright = dense: unsharp mask, a window on the chest, an
    S-shaped curve.
    """
    size = signal.shape[0]
    sharp = signal + site.edge * (signal - blur(signal, size / 40))
    sharp -= site.flatten * blur(signal, size / 9)
    field = sharp[size // 8 : -size // 8 : 2, size // 6 : -size // 6 : 2]
    low, high = np.percentile(field, (1, 99))
    x = (sharp - low) / (high - low)
    curve = 1 / (1 + np.exp(-site.contrast * (x - site.toe)))
    ends = 1 / (1 + np.exp(-site.contrast * (np.array([-0.12, 1.1]) - site.toe)))
    return ((curve - ends[0]) / (ends[1] - ends[0])).clip(0, 1).astype(np.float32)


@lru_cache(maxsize=32)
def _letters(site: Site, size, marker):
    """(H, W) what is burned in."""
    layer = Image.new("L", (size, size))
    draw, (text, col, row) = ImageDraw.Draw(layer), site.marker
    if marker:
        draw.text(
            (col * size, row * size),
            text,
            fill=235,
            font=ImageFont.load_default(size=max(8, size // 14)),
        )
    if site.text:
        at = (0.04 * size, 0.93 * size)
        draw.text(
            at,
            site.text,
            fill=200,
            font=ImageFont.load_default(size=max(7, size // 22)),
        )
    return np.asarray(layer, dtype=np.float32) / 255


def stamp(pixels, site: Site, *, borders=(0, 0, 0, 0), marker=True):
    """Black borders where the collimator shut (top, bottom, left, right, in pixels),
    and white letters on top.
    """
    pixels, (top, bottom, left, right) = pixels.copy(), borders
    size = pixels.shape[0]
    (
        pixels[:top],
        pixels[size - bottom :],
        pixels[:, :left],
        pixels[:, size - right :],
    ) = 0, 0, 0, 0
    return np.maximum(pixels, _letters(site, size, marker))


def shift(images, degrees, zoom, offset):
    """Turn, scale and move (C, H, W) about the middle: how this film was placed.
    Offsets (rows, columns) in pixels.
    """
    a, size = np.deg2rad(degrees), images.shape[-1]
    c, s = np.cos(a) / zoom, np.sin(a) / zoom
    row, col = 2 * np.asarray(offset) / size
    theta = torch.tensor(
        [[c, s, -(c * col + s * row)], [-s, c, -(-s * col + c * row)]],
        dtype=torch.float32,
    )
    grid = F.affine_grid(theta[None], (1, 1, size, size), align_corners=False)
    return F.grid_sample(
        images[None], grid, padding_mode="reflection", align_corners=False
    )[0]
