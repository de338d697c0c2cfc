"""The two things that a file can be read into: a 2-D `Scan` and a 3-D `Volume`."""

import math
from dataclasses import dataclass, field

import numpy as np

# cosine: an axis up to 45 degrees off still runs to the patient's left or right
NEAR = 0.7


class ReadError(ValueError):
    """A file is refused; the message says which file and why in one sentence."""


class Pixels(np.ndarray):
    """(H, W) pixels that know their `aspect`, a pixel's height over its width; what is
    computed from them does not.

    >>> Pixels.of(np.zeros((80, 256), np.float32), 2.5 / 0.7).aspect
    3.57...
    """

    aspect: float | None = None

    @classmethod
    def of(cls, values: np.ndarray, aspect: float) -> "Pixels":
        pixels = np.asarray(values).view(cls)
        pixels.aspect = float(aspect)
        return pixels

    def __array_wrap__(self, array, context=None, return_scalar=False):
        plain = np.asarray(array)
        return plain[()] if return_scalar or plain.ndim == 0 else plain


@dataclass(frozen=True, eq=False)
class Scan:
    """One 2-D image as read.

    Args:
        pixels: (H, W) float32 display values in [0, 1]; bright = dense whatever the
            photometric interpretation.
        spacing_mm: (row, column) distance between pixel centres in the patient. None =
            not known, never guessed.
        view: "PA", "AP", "LATERAL" or None.
        modality: DICOM modality ("DX", "CT", ...) or None.
        source: the path, or how the scan was made.
        truth: finding -> bool mask (H, W), where it is known.
        orientation: where the rows run and where the columns run, as DICOM says it:
            ("L", "F") is a film as it's hung, to the patient's left and to the feet.
            None = not known, never taken from the view.
        aspect: a pixel's height over its width, for a scan whose millimetres aren't
            known; None = that of the spacing, else of the pixels, else 1.
    Raises:
        ValueError: pixels that aren't 2-D, masks of another shape, a spacing or aspect
            that is no length.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    modality: str | None = None
    source: str = ""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    orientation: tuple[str, str] | None = None
    aspect: float | None = None

    def __post_init__(self):
        if self.pixels.ndim != 2:
            raise ValueError(
                f"expected pixels (H, W), got shape {self.pixels.shape}. Try one slice or one channel."
            )
        for finding, mask in self.truth.items():
            if mask.shape != self.pixels.shape:
                raise ValueError(
                    f"expected a truth mask {self.pixels.shape} for {finding}, got {mask.shape}"
                )
        if self.spacing_mm is not None and lengths(self.spacing_mm) is None:
            raise ValueError(
                f"expected two positive lengths in mm, got {self.spacing_mm}. "
                "Try spacing_mm=None where they aren't known."
            )
        aspect = self.aspect or getattr(self.pixels, "aspect", None) or 1.0
        if self.spacing_mm is not None:
            aspect = self.spacing_mm[0] / self.spacing_mm[1]
        if lengths([aspect, 1]) is None:
            raise ValueError(f"expected a positive aspect, got {aspect}")
        object.__setattr__(self, "aspect", float(aspect))
        object.__setattr__(self, "pixels", Pixels.of(self.pixels, aspect))

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape

    @property
    def right(self) -> str | None:
        """The edge of the picture at which the patient's right lies: "left", "right",
        "top", "bottom"; None unknown.
        """
        if self.orientation is None:
            return None
        along, down = (direction[:1] for direction in self.orientation)
        edges = {"L": "left", "R": "right"}, {"L": "top", "R": "bottom"}
        return edges[0].get(along) or edges[1].get(down)

    def __repr__(self):
        spacing = (
            "spacing unknown"
            if self.spacing_mm is None
            else "{:.3g} x {:.3g} mm".format(*self.spacing_mm)
        )
        parts = [
            f"{self.shape[0]} x {self.shape[1]}",
            spacing,
            self.modality,
            self.view,
            self.source,
        ]
        return f"Scan({', '.join(p for p in parts if p)})"


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image.

    Args:
        voxels: (D, H, W) float32, Hounsfield units for CT, else intensities; D runs
            along the slices. NaN where the file has no value.
        affine: (4, 4), maps an index (d, h, w, 1) to LPS millimetres (left, posterior,
            superior are positive); None where the file doesn't say (an ultrasound loop)
            or contradicts itself.
        modality: DICOM modality or None.
        source: path or description.
        steps_mm: (D, H, W) distances between voxel centres, where they are known and
            the affine isn't.
        inverted: low values are to be shown bright (MONOCHROME1); `voxels` keep their
            unit.
        padding: lowest and highest value that mark voxels which are no part of the
            image.
        voi: what the file asks to be shown, one for all slices of D or one each.
        pixel_mm: (row, column) distance between pixel centres of a slice, where that is
            all that is known.
        aspect: a pixel's height over its width in a slice whose millimetres aren't
            known.
    """

    voxels: np.ndarray
    affine: np.ndarray | None
    modality: str | None = None
    source: str = ""
    steps_mm: tuple[float, float, float] | None = None
    inverted: bool = False
    padding: tuple[float, float] | None = None
    voi: tuple = ()
    pixel_mm: tuple[float, float] | None = None
    aspect: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.voxels.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        if self.affine is None:
            return self.steps_mm
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def world(self) -> np.ndarray | None:
        """(3, 2): the world axis (0 L, 1 P, 2 S) that each index axis follows, one to
        one, and its sign.
        """
        if self.affine is None:
            return None
        import nibabel as nib  # takes a tenth of a second, which films don't need

        return nib.io_orientation(self.affine).astype(int)

    def slice(
        self, axis: int, index: int, window_hu: tuple[float, float] | None = None
    ) -> Scan:
        """One slice as a radiologist looks at it: head up, else anterior up; the
        patient's left on the right.

        >>> volume.slice(1, 256, window_hu=(-160, 240))      # coronal
        Scan(133 x 512, 2.5 x 0.703 mm, CT, ...)

        Args:
            axis: 0, 1 or 2 of `voxels`, the axis that is cut.
            index: which slice; negative counts from the end.
            window_hu: (low, high) shown black and white. None = as the file asks for it
                (`voi`), else the whole volume's range without padding.
        """
        plane = self._display(
            np.take(self.voxels, index, axis=axis), axis, index, window_hu
        )
        source = f"{self.source} axis {axis} #{index}"
        kept = [a for a in range(3) if a != axis]
        if self.affine is None:
            spacing = self.steps_mm and tuple(self.steps_mm[a] for a in kept)
            aspect = None
            if axis == 0:
                spacing = spacing or self.pixel_mm
                aspect = self.aspect
            return Scan(plane, spacing, None, self.modality, source, aspect=aspect)
        world = self.world
        if world[kept[0], 0] < world[kept[1], 0]:
            plane, kept = plane.T, kept[::-1]
        for position, a in enumerate(kept):
            if (world[a, 1] > 0) == (
                world[a, 0] == 2
            ):  # L and P grow along the picture, S shrinks from the head down
                plane = np.flip(plane, position)
        steps = [self.spacing_mm[a] for a in kept]
        spacing = lengths(steps)  # None beyond a metre
        orientation = self._towards(kept[1]), self._towards(kept[0])
        return Scan(
            plane,
            spacing,
            None,
            self.modality,
            source,
            orientation=orientation,
            aspect=steps[0] / steps[1],
        )

    def _towards(self, axis: int) -> str:
        """The letter of where an index axis runs once it's shown; small where it's too
        oblique to say left or right.
        """
        world = int(self.world[axis, 0])
        cosine = abs(self.affine[world, axis]) / self.spacing_mm[axis]
        letter = ("L", "P", "F")[world]
        return letter if cosine > NEAR or letter != "L" else ""

    def _display(self, plane, axis, index, window):
        """(H, W) values of one plane -> display values in [0, 1]."""
        voi = None if window else self._voi(axis, index)
        if voi:
            shown = voi(plane)
        else:
            low, high = window or self._range()
            shown = to_display(plane, low, high)
        if self.inverted:
            shown = 1 - shown
        background = ~np.isfinite(plane) | self._is_padding(plane)
        return np.where(background, np.float32(0), shown)

    def _voi(self, axis, index):
        """What the file asks for one slice; None across slices that differ in it."""
        if len(self.voi) > 1 and axis == 0:
            return self.voi[index]
        return self.voi[0] if self.voi and len(set(self.voi)) == 1 else None

    def _is_padding(self, values):
        if self.padding is None:
            return np.zeros(np.shape(values), bool)
        return (values >= self.padding[0]) & (values <= self.padding[1])

    def _range(self):
        """Lowest and highest value that is one; plane by plane, since a mask of a CT
        takes its memory again.
        """
        ends = []
        for plane in self.voxels:
            real = plane[np.isfinite(plane) & ~self._is_padding(plane)]
            ends += [(real.min(), real.max())] if real.size else []
        low, high = np.transpose(ends) if ends else ([0], [0])
        return float(min(low)), float(max(high))

    def __repr__(self):
        size, spacing = " x ".join(map(str, self.shape)), self.spacing_mm
        step = (
            " x ".join(f"{s:.3g}" for s in spacing) + " mm"
            if spacing
            else "spacing unknown"
        )
        return f"Volume({size}, {step}, {self.modality}, {self.source})"


def to_display(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] linearly to float32 [0, 1] and clip; a range of zero width
    becomes a step at `high`; NaN is 0.
    """
    width = high - low
    if width <= 0:
        return (values > high).astype(np.float32)
    shown = np.clip((values.astype(np.float32) - low) / width, 0, 1).astype(np.float32)
    return np.nan_to_num(shown, copy=False)


def lengths(values) -> tuple[float, ...] | None:
    """Two numbers as lengths in mm, or None where one of them is no positive length
    below a metre.

    >>> lengths(["0.139", "0.139"]), lengths([0.1]), lengths([0, "x"])
    ((0.139, 0.139), None, None)
    """
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        return None
    return (
        numbers
        if len(numbers) == 2 and all(0 < n < 1000 and math.isfinite(n) for n in numbers)
        else None
    )
