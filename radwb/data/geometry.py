"""From a scan's pixels to a model's square input, and from a token grid back to the
scan's pixels.
"""

import math

import numpy as np
from PIL import Image

from radwb.data.fit import FILTERS, Fit

OVERSHOOTING = ("bicubic", "lanczos")


def to_input(
    pixels: np.ndarray, size: int, *, fit: str = "pad", aspect: float | None = None
) -> np.ndarray:
    """Resize to a square with an antialiasing filter; what is round in the patient
    stays round.

    >>> to_input(np.ones((200, 100), np.float32), 64).shape
    (64, 64)

    Args:
        pixels: (H, W) display values.
        size: side of the square, px.
        fit: "pad" letterboxes with zeros, "crop" takes the centred largest square,
            "squash" ignores the aspect; bilinear, unless it is a `Fit` with a filter
            and margin of its own.
        aspect: a pixel's height over its width; None = that of a scan's own `pixels`, 1
            for any other array.
    Returns:
        (size, size) float32.
    """
    fit = Fit(fit)
    aspect = aspect or getattr(pixels, "aspect", None) or 1.0
    source, (y0, x0, y1, x1) = boxes(pixels.shape, size, fit, aspect)
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    resize = _gaussian if fit.filter == "gaussian" else _resample
    out = np.zeros((size, size), np.float32)
    out[y0:y1, x0:x1] = resize(pixels, source, (y1 - y0, x1 - x0), fit.filter)
    return out


def _resample(pixels, source, shape, filter):
    """Pillow's filters; what overshoots is held to [0, 1] after rows and after columns,
    as 8 bits hold it.

    A film of 8 bits is left to Pillow's own 8-bit filter, as the libraries do it: which
    axis comes first then matters.
    """
    top, left, bottom, right = source
    height, width = shape
    if filter not in OVERSHOOTING:
        return _held(pixels, (width, height), (left, top, right, bottom), filter)
    levels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    if np.array_equal(levels / np.float32(255), pixels):
        return _whole_then_cut(levels, source, shape, filter) / np.float32(255)
    rows = _held(pixels, (width, len(pixels)), (left, 0, right, len(pixels)), filter)
    return _held(rows, (width, height), (0, top, width, bottom), filter)


def _whole_then_cut(levels, source, shape, filter):
    """(H, W) uint8 -> the part `source` of it, resized with the rest and then cut to
    `shape`.
    """
    top, left, bottom, right = source
    (H, W), (height, width) = levels.shape, shape
    whole = round(W * width / (right - left)), round(H * height / (bottom - top))
    x, y = round(left * whole[0] / W), round(top * whole[1] / H)
    image = Image.fromarray(levels).resize(whole, FILTERS[filter])
    return np.asarray(image)[y : y + height, x : x + width]


def _held(pixels, size, box, filter):
    out = np.asarray(Image.fromarray(pixels).resize(size, FILTERS[filter], box=box))
    if filter not in OVERSHOOTING:
        return out
    return np.clip(out, min(0, pixels.min()), max(1, pixels.max()))


def _gaussian(pixels, source, shape, filter):
    """scikit-image's `resize` as TorchXRayVision calls it; beyond the border lies its
    0, which is grey 0.5 here.
    """
    from scipy import ndimage

    top, left, bottom, right = (round(edge) for edge in source)
    part = pixels[top:bottom, left:right]
    factors = np.divide(part.shape, shape)
    beyond = {"mode": "grid-constant", "cval": 0.5}
    sigma = np.maximum(0, (factors - 1) / 2)
    smooth = ndimage.gaussian_filter(part, sigma, **beyond)
    return ndimage.zoom(smooth, 1 / factors, order=1, grid_mode=True, **beyond)


def to_scan(
    values: np.ndarray, shape: tuple[int, int], *, fit: str = "pad", aspect: float = 1.0
) -> np.ndarray:
    """Spread a grid over the model's input (one value a token) back over the scan that
    was put in.

    Args:
        values: (gh, gw) grid that covers the whole square input.
        shape: (H, W) of the scan.
        fit: how `to_input` fitted the scan.
        aspect: `scan.aspect`, a pixel's height over its width.
    Returns:
        (H, W) float32; bilinear between the tokens' centres; 0 outside of a crop.
    """
    gh, gw = values.shape
    (y, x, y_end, x_end), (y0, x0, y1, x1) = boxes(
        shape, 1 << 16, fit, aspect
    )  # fine units: rounding doesn't show
    # pixels whose centres lie in the box, and one at least
    top, left = math.ceil(y - 0.5 - 1e-6), math.ceil(x - 0.5 - 1e-6)
    bottom = max(top + 1, math.ceil(y_end - 0.5 - 1e-6))
    right = max(left + 1, math.ceil(x_end - 0.5 - 1e-6))
    high, wide = (
        (y1 - y0) / (y_end - y),
        (x1 - x0) / (x_end - x),
    )  # of the square's units a pixel
    y0, y1 = y0 + max(0, top - y) * high, y1 - max(0, y_end - bottom) * high
    x0, x1 = x0 + max(0, left - x) * wide, x1 - max(0, x_end - right) * wide
    scale_y, scale_x = gh / (1 << 16), gw / (1 << 16)
    box = (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)
    grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    out = np.zeros(shape, np.float32)
    out[top:bottom, left:right] = np.asarray(
        grid.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    )
    return out


def boxes(
    shape: tuple[int, int], size: int, fit: str, aspect: float = 1.0
) -> tuple[tuple, tuple]:
    """Which part of the scan goes to which part of the square: two boxes (top, left,
    bottom, right).
    """
    height, width = shape
    # rows in widths of a pixel: the film as it is in the patient
    upright = shape if aspect == 1 else (height * aspect, width)
    (top, left, bottom, right), square = Fit(fit).boxes(upright, size)
    return (top / aspect, left, bottom / aspect, right), square
