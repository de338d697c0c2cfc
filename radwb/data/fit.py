"""How a film is made square: a word, and the filter and margin of a library."""

import math

from PIL import Image

FITS = ("pad", "crop", "squash")
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
    "gaussian": None,  # scikit-image's: a Gaussian, then linear
}


class Fit(str):
    """The word pad, crop or squash, with the filter and margin of a library.

    A word among words, so that tables, maps and widgets hand it on unread.

    >>> Fit("crop", filter="bicubic", share=0.875) == "crop"
    True

    Args:
        name: "pad" letterboxes with zeros, "crop" takes the centred largest square,
            "squash" ignores the aspect.
        filter: one of FILTERS; all but "nearest" smooth before they sample
            (antialiasing).
        share: of the resized side that is kept, centred; timm's `crop_pct`.
    Raises:
        ValueError: an unknown name or filter, or a share that is not between 0.1 and 2.
    """

    filter: str
    share: float

    def __new__(cls, name: str, filter: str = "bilinear", share: float = 1.0) -> "Fit":
        if isinstance(name, Fit):
            return name
        if name not in FITS:
            raise ValueError(f"expected fit in {FITS}, got {name!r}")
        if filter not in FILTERS:
            raise ValueError(f"expected a filter in {tuple(FILTERS)}, got {filter!r}")
        if isinstance(share, bool) or not 0.1 <= share <= 2:
            raise ValueError(f"expected a share between 0.1 and 2, got {share!r}")
        fit = super().__new__(cls, name)
        fit.filter = filter
        fit.share = float(share)
        return fit

    def __repr__(self) -> str:
        if (self.filter, self.share) == ("bilinear", 1):
            return super().__repr__()
        return f"Fit({str(self)!r}, filter={self.filter!r}, share={self.share:g})"

    def boxes(self, shape: tuple[int, int], size: int) -> tuple[tuple, tuple]:
        """Which part of a film (H, W) goes to which part of the square (size, size).

        Returns:
            two boxes (top, left, bottom, right): in the film's pixels, which may be
            fractions, and in the square's.
        """
        if self == "crop" and self.filter == "gaussian":
            return _xrv_crop(shape), (0, 0, size, size)
        resized = self._resized(shape, math.floor(size / self.share))
        spans = [_span(n, r, size) for n, r in zip(shape, resized, strict=True)]
        top_left, bottom_right, square_start, square_end = zip(*spans, strict=True)
        return (*top_left, *bottom_right), (*square_start, *square_end)

    def _resized(self, shape, side):
        """(h, w) that the library resizes the film to, before it cuts or pads it."""
        if self == "squash":
            return side, side
        if self == "crop":
            # torchvision's Resize: the longer side is cut to whole pixels, not rounded
            return [int(side * n / min(shape)) for n in shape]
        return [max(1, round(side * n / max(shape))) for n in shape]


def _span(n, resized, size):
    """From and to in the film's n pixels, from and to in the square's; along one axis.

    As torchvision's CenterCrop cuts or pads.
    """
    if resized <= size:
        start = (size - resized) // 2
        return 0, n, start, start + resized
    start = round((resized - size) / 2)
    return start * n / resized, (start + size) * n / resized, 0, size


def _xrv_crop(shape):
    """XRayCenterCrop of TorchXRayVision, which halves before it subtracts."""
    side = min(shape)
    top, left = (n // 2 - side // 2 for n in shape)
    return top, left, top + side, left + side
