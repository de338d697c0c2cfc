"""Maps that know nothing of the question, of the film or of the model.

Each is what a method's map must beat: noise, the middle, the film's edges, its
brightness.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from radwb.data.geometry import to_scan
from radwb.data.scan import Scan

# px: what is this smooth on a larger film is made at this size and stretched, a hundred
# times faster
LARGE = 256


def random_map(
    shape: tuple[int, int], seed: int, *, sigma: float | None = None
) -> np.ndarray:
    """Smooth noise, the control for a map that knows nothing.

    >>> random_map((100, 80), seed=0).shape
    (100, 80)

    Args:
        shape: (H, W).
        seed: each seed is another map.
        sigma: smoothness in px; default a twentieth of the longer side, about half a
            patch of a ten-patch grid.
    Returns:
        (H, W) float32 from 0 up.
    """
    if sigma is None and max(shape) > LARGE:
        small = random_map(_reduced(shape), seed)
        return to_scan(small, shape, fit="squash")
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape)
    sigma = _smoothness(shape, sigma)
    # wrapped, so that the peak is equally likely everywhere
    smooth = gaussian_filter(noise, sigma, mode="wrap")
    from_zero = smooth - smooth.min()
    return from_zero.astype(np.float32)


def centre_map(shape: tuple[int, int]) -> np.ndarray:
    """A blob in the middle, as of a map that only knows where things usually are.

    >>> np.unravel_index(centre_map((5, 7)).argmax(), (5, 7)) == (2, 3)
    True

    Args:
        shape: (H, W); the blob's standard deviation is a quarter of each side.
    """
    H, W = shape
    y = np.linspace(-2, 2, H)[:, None]
    x = np.linspace(-2, 2, W)
    blob = np.exp(-(y**2 + x**2) / 2)
    return blob.astype(np.float32)


def edge_map(scan: Scan | np.ndarray, *, sigma: float | None = None) -> np.ndarray:
    """Your film's own edges, smoothed, to hold your map against: they know no model.

    >>> edge_map(scan).shape == scan.shape
    True

    Args:
        scan: a `Scan` or its pixels (H, W).
        sigma: smoothness in px, as in `random_map`.
    Returns:
        (H, W) float32, 0 or more.
    """
    return _of_film(scan, sigma, _edges)


def _edges(pixels, sigma):
    edges = gaussian_gradient_magnitude(pixels, max(1, sigma / 8))
    return gaussian_filter(edges, sigma).astype(np.float32)


def brightness_map(
    scan: Scan | np.ndarray, *, sigma: float | None = None
) -> np.ndarray:
    """The film itself, smoothed: the control for a map that marks whatever is white.

    >>> brightness_map(scan).shape == scan.shape
    True

    Args:
        scan: a `Scan` or its pixels (H, W).
        sigma: smoothness in px, as in `random_map`.
    Returns:
        (H, W) float32.
    """
    return _of_film(scan, sigma, gaussian_filter)


def _of_film(scan, sigma, smooth):
    """`smooth` (pixels, sigma) of a film, in reduced size where that is as good."""
    pixels = np.asarray(getattr(scan, "pixels", scan), dtype=np.float32)
    shape = pixels.shape
    if sigma is None and max(shape) > LARGE:
        small = to_scan(pixels, _reduced(shape), fit="squash")
        small_map = _of_film(small, None, smooth)
        return to_scan(small_map, shape, fit="squash")
    return smooth(pixels, _smoothness(shape, sigma))


def _smoothness(shape, sigma):
    if sigma is None:
        return max(shape) / 20
    return sigma


def _reduced(shape):
    longer = max(shape)
    sides = [round(side * LARGE / longer) for side in shape]
    return tuple(max(1, side) for side in sides)
