"""From a line integral to what a reader sees: photons, scatter, noise, a vendor's processing, a burned-in marker."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage


@dataclass(frozen=True)
class Site:
    """One hospital's way to make a radiograph.

    Attributes:
        photons: mean count in a pixel without a patient.
        scatter: scattered over primary signal behind the grid.
        flatten: share of the low frequencies taken out (dynamic range compression).
        contrast, toe: slope and centre of the display curve.
        edge: strength of the unsharp mask.
        marker: (text, column share, row share) of the burned-in side marker.
        portable: share of AP films.
    """

    photons: float
    scatter: float
    flatten: float
    contrast: float
    toe: float
    edge: float
    marker: tuple
    portable: float


SITES = {
    "A": Site(60000, 0.2, 0.50, 5.0, 0.38, 0.6, ("R", 0.06, 0.06), 0.2),
    "B": Site(30000, 0.5, 0.40, 4.4, 0.35, 0.3, ("R", 0.05, 0.45), 0.4),
    "C": Site(40000, 0.35, 0.55, 5.6, 0.42, 1.0, ("L", 0.90, 0.05), 0.6),
}


def expose(line_integral, site: Site, rng):
    """Detected signal -log(counts / open field), (H, W): Poisson noise over primary and scattered photons."""
    primary = np.exp(-line_integral)
    scattered = site.scatter * ndimage.gaussian_filter(primary, primary.shape[0] / 10)
    counts = rng.poisson(site.photons * (primary + scattered)) + 1.0
    return -np.log(counts / site.photons)


def develop(signal, site: Site):
    """Display values 0 to 1, bright = dense: unsharp mask, a window on the chest, an S-shaped curve."""
    size = signal.shape[0]
    sharp = signal + site.edge * (signal - ndimage.gaussian_filter(signal, size / 40))
    sharp -= site.flatten * ndimage.gaussian_filter(signal, size / 9)
    field = sharp[size // 8 : -size // 8, size // 6 : -size // 6]
    low, high = np.percentile(field, (1, 99))
    x = (sharp - low) / (high - low)
    curve = 1 / (1 + np.exp(-site.contrast * (x - site.toe)))
    ends = 1 / (1 + np.exp(-site.contrast * (np.array([-0.12, 1.1]) - site.toe)))
    return ((curve - ends[0]) / (ends[1] - ends[0])).clip(0, 1).astype(np.float32)


def stamp(pixels, site: Site):
    """Burn the side marker in, as a lead letter shows: white."""
    text, col, row = site.marker
    size = pixels.shape[0]
    layer = Image.new("L", (size, size))
    font = ImageFont.load_default(size=max(8, size // 14))
    ImageDraw.Draw(layer).text((col * size, row * size), text, fill=235, font=font)
    return np.maximum(pixels, np.asarray(layer, dtype=np.float32) / 255)


def shift(image, degrees, zoom, offset, *, mode="mirror"):
    """Turn, scale and move (H, W) about its middle: how this film was placed. Offsets in pixels."""
    a = np.deg2rad(degrees)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / zoom
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, matrix, middle - matrix @ (middle + offset), order=1, mode=mode)
