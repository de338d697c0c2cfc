"""From a scan's pixels to a model's square input, and from a token grid back to the scan's pixels."""

import numpy as np
from PIL import Image

FITS = ("pad", "crop", "squash")


def to_input(
    pixels: np.ndarray, size: int, *, fit: str = "pad", aspect: float | None = None
) -> np.ndarray:
    """Resize to a square with an antialiasing bilinear filter; what is round in the patient stays round.

    >>> to_input(np.ones((200, 100), np.float32), 64).shape
    (64, 64)

    Args:
        pixels: (H, W) display values.
        size: side of the square, px.
        fit: "pad" letterboxes with zeros, "crop" takes the centred largest square, "squash" ignores the aspect.
        aspect: a pixel's height over its width; None = that of a scan's own `pixels`, 1 for any other array.
    Returns:
        (size, size) float32.
    """
    aspect = aspect or getattr(pixels, "aspect", None) or 1.0
    source, target = boxes(pixels.shape, size, fit, aspect)
    (top, left, bottom, right), (y0, x0, y1, x1) = source, target
    image = Image.fromarray(
        np.ascontiguousarray(pixels[top:bottom, left:right], dtype=np.float32)
    )
    out = np.zeros((size, size), np.float32)
    out[y0:y1, x0:x1] = np.asarray(
        image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
    )
    return out


def to_scan(
    values: np.ndarray, shape: tuple[int, int], *, fit: str = "pad", aspect: float = 1.0
) -> np.ndarray:
    """Spread a grid over the model's input (one value a token) back over the scan that was put in.

    Args:
        values: (gh, gw) grid that covers the whole square input.
        shape: (H, W) of the scan.
        fit: how `to_input` fitted the scan.
        aspect: `scan.aspect`, a pixel's height over its width.
    Returns:
        (H, W) float32; bilinear between the tokens' centres; 0 outside of a crop.
    """
    gh, gw = values.shape
    source, target = boxes(
        shape, 1 << 16, fit, aspect
    )  # fine units: rounding doesn't show
    (top, left, bottom, right), (y0, x0, y1, x1) = source, target
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
    """Which part of the scan goes to which part of the square: two boxes (top, left, bottom, right)."""
    H, W = shape
    high = H * aspect  # in widths of a pixel
    if fit == "squash":
        return (0, 0, H, W), (0, 0, size, size)
    if fit == "crop":
        side = min(high, W)
        rows, columns = max(1, round(side / aspect)), max(1, round(side))
        top, left = (H - rows) // 2, (W - columns) // 2
        return (top, left, top + rows, left + columns), (0, 0, size, size)
    if fit != "pad":
        raise ValueError(f"expected fit in {FITS}, got {fit!r}")
    h, w = (max(1, round(n * size / max(high, W))) for n in (high, W))
    y, x = (size - h) // 2, (size - w) // 2
    return (0, 0, H, W), (y, x, y + h, x + w)
