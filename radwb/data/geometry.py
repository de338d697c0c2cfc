"""From a scan's pixels to a model's square input, and from tokens back to the scan."""

import math

import numpy as np
from PIL import Image

from radwb.data.fit import FILTERS, Fit

OVERSHOOTING = ("bicubic", "lanczos")
FINE = 1 << 16  # side of a square so large that rounding to its pixels doesn't show


def to_input(
    pixels: np.ndarray, size: int, *, fit: str = "pad", aspect: float | None = None
) -> np.ndarray:
    """Make a film of yours the square that a model of yours takes, antialiased.

    What is round in the patient stays round.

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
    box, (top, left, bottom, right) = boxes(pixels.shape, size, fit, aspect)
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    resize = _gaussian if fit.filter == "gaussian" else _resample
    out = np.zeros((size, size), np.float32)
    out[top:bottom, left:right] = resize(
        pixels, box, (bottom - top, right - left), fit.filter
    )
    return out


def _resample(pixels, box, shape, filter):
    """Pillow's filters; what overshoots is held to [0, 1], as 8 bits hold it.

    A film of 8 bits is left to Pillow's own 8-bit filter, as the libraries do it: which
    axis comes first then matters.
    """
    if filter not in OVERSHOOTING:
        return _held(pixels, box, shape, filter)
    levels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    if np.array_equal(levels / np.float32(255), pixels):
        return _whole_then_cut(levels, box, shape, filter) / np.float32(255)
    top, left, bottom, right = box
    rows = len(pixels)
    narrow = _held(pixels, (0, left, rows, right), (rows, shape[1]), filter)
    return _held(narrow, (top, 0, bottom, shape[1]), shape, filter)


def _whole_then_cut(levels, box, shape, filter):
    """(H, W) uint8 -> its part `box`, resized with the rest and then cut to `shape`."""
    start, end = np.reshape(box, (2, 2))
    whole = np.rint(levels.shape * np.divide(shape, end - start)).astype(int)  # (2,)
    y, x = np.rint(start * whole / levels.shape).astype(int)
    image = Image.fromarray(levels).resize(whole[::-1], FILTERS[filter])
    return np.asarray(image)[y : y + shape[0], x : x + shape[1]]


def _held(pixels, box, shape, filter):
    top, left, bottom, right = box
    image = Image.fromarray(pixels)
    image = image.resize(shape[::-1], FILTERS[filter], box=(left, top, right, bottom))
    out = np.asarray(image)
    if filter not in OVERSHOOTING:
        return out
    return np.clip(out, min(0, pixels.min()), max(1, pixels.max()))


def _gaussian(pixels, box, shape, filter):
    """scikit-image's `resize` as TorchXRayVision calls it.

    Beyond the border lies its 0, which is grey 0.5 here.
    """
    from scipy import ndimage  # only these models need it, and it's slow to import

    top, left, bottom, right = (round(edge) for edge in box)
    part = pixels[top:bottom, left:right]
    factors = np.divide(part.shape, shape)
    beyond = {"mode": "grid-constant", "cval": 0.5}
    sigma = np.maximum(0, (factors - 1) / 2)
    smooth = ndimage.gaussian_filter(part, sigma, **beyond)
    return ndimage.zoom(smooth, 1 / factors, order=1, grid_mode=True, **beyond)


def to_scan(
    values: np.ndarray, shape: tuple[int, int], *, fit: str = "pad", aspect: float = 1.0
) -> np.ndarray:
    """Lay a grid of your own model's tokens over the scan that was put in.

    >>> to_scan(np.eye(14), scan.shape, aspect=scan.aspect).shape == scan.shape
    True

    Args:
        values: (gh, gw) grid that covers the whole square input, one value a token.
        shape: (H, W) of the scan.
        fit: how `to_input` fitted the scan.
        aspect: `scan.aspect`, a pixel's height over its width.
    Returns:
        (H, W) float32; bilinear between the tokens' centres; 0 outside of a crop.
    """
    (top, left, bottom, right), square = boxes(shape, FINE, fit, aspect)
    y, y_end, box_top, box_bottom = _covered(top, bottom, square[::2], values.shape[0])
    x, x_end, box_left, box_right = _covered(left, right, square[1::2], values.shape[1])
    grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    out = np.zeros(shape, np.float32)
    out[y:y_end, x:x_end] = grid.resize(
        (x_end - x, y_end - y),
        Image.Resampling.BILINEAR,
        box=(box_left, box_top, box_right, box_bottom),
    )
    return out


def _covered(start, end, square, cells):
    """Along one axis: from and to in whole pixels, from and to in a grid of `cells`.

    A pixel is covered where its centre lies between start and end, and one at least is.
    """
    low, high = square
    scale = (high - low) / (end - start)  # the square's units a pixel
    first = math.ceil(start - 0.5 - 1e-6)
    last = max(first + 1, math.ceil(end - 0.5 - 1e-6))
    low += max(0, first - start) * scale
    high -= max(0, end - last) * scale
    return first, last, low * (cells / FINE), high * (cells / FINE)


def boxes(
    shape: tuple[int, int], size: int, fit: str, aspect: float = 1.0
) -> tuple[tuple, tuple]:
    """Which part of the scan goes to which part of the square.

    Returns:
        two boxes (top, left, bottom, right).
    """
    height, width = shape
    # rows in widths of a pixel: the film as it is in the patient
    upright = shape if aspect == 1 else (height * aspect, width)
    (top, left, bottom, right), square = Fit(fit).boxes(upright, size)
    return (top / aspect, left, bottom / aspect, right), square
