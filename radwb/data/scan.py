"""The two things that a file can be read into: a 2-D `Scan` and a 3-D `Volume`."""

from dataclasses import dataclass, field

import numpy as np

# cosine: an axis up to 45 degrees off still runs to the patient's left or right
NEAR = 0.7


class ReadError(ValueError):
    """To catch when a file of yours is refused; says which and why in one sentence."""


class Pixels(np.ndarray):
    """(H, W) pixels that know their `aspect`, a pixel's height over its width.

    What is computed from them does not.

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
                f"expected pixels (H, W), got shape {self.pixels.shape}. Try one slice "
                "or one channel."
            )
        for finding, mask in self.truth.items():
            if mask.shape != self.pixels.shape:
                raise ValueError(
                    f"expected a truth mask {self.pixels.shape} for {finding}, got "
                    f"{mask.shape}"
                )
        aspect = self.aspect or getattr(self.pixels, "aspect", None) or 1.0
        if self.spacing_mm is not None:
            if lengths(self.spacing_mm) is None:
                raise ValueError(
                    f"expected two positive lengths in mm, got {self.spacing_mm}. "
                    "Try spacing_mm=None where they aren't known."
                )
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
        """The edge of the picture at which the patient's right lies, or None.

        "left", "right", "top" or "bottom".
        """
        if self.orientation is None:
            return None
        across, down = (letters[:1] for letters in self.orientation)
        side = {"L": "left", "R": "right"}.get(across)
        return side or {"L": "top", "R": "bottom"}.get(down)

    def __repr__(self):
        size = " x ".join(map(str, self.shape))
        known = (self.modality, self.view, self.source)
        return ", ".join([f"Scan({size}", _mm(self), *filter(None, known)]) + ")"


def _mm(image):
    if image.spacing_mm is None:
        return "spacing unknown"
    return " x ".join(f"{step:.3g}" for step in image.spacing_mm) + " mm"


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
        """(3, 2): the world axis that each index axis follows, and its sign.

        0 is L, 1 is P, 2 is S; they go one to one.
        """
        if self.affine is None:
            return None
        import nibabel as nib  # takes a tenth of a second, which films don't need

        return nib.io_orientation(self.affine).astype(int)

    def slice(
        self, axis: int, index: int, window_hu: tuple[float, float] | None = None
    ) -> Scan:
        """One slice as a radiologist looks at it: head up, else anterior up.

        The patient's left is on the right.

        >>> ct.slice(1, 10, window_hu=(-160, 240))  # coronal
        Scan(20 x 12, 3 x 1.5 mm, CT,  axis 1 #10)

        Args:
            axis: 0, 1 or 2 of `voxels`, the axis that is cut.
            index: which slice; negative counts from the end.
            window_hu: (low, high) shown black and white. None = as the file asks for it
                (`voi`), else the whole volume's range without padding.
        """
        plane = self._display(axis, index, window_hu)
        names = {
            "modality": self.modality,
            "source": f"{self.source} axis {axis} #{index}",
        }
        rows, columns = (a for a in range(3) if a != axis)
        if self.affine is None:
            steps = self.steps_mm
            spacing = steps and (steps[rows], steps[columns])
            if axis != 0:
                return Scan(plane, spacing, **names)
            return Scan(plane, spacing or self.pixel_mm, aspect=self.aspect, **names)
        world = self.world
        if world[rows, 0] < world[columns, 0]:
            plane = plane.T
            rows, columns = columns, rows
        for position, a in enumerate((rows, columns)):
            # L and P grow along the picture, S shrinks from the head down
            if (world[a, 1] > 0) == (world[a, 0] == 2):
                plane = np.flip(plane, position)
        steps = (self.spacing_mm[rows], self.spacing_mm[columns])
        return Scan(
            plane,
            lengths(steps),  # None beyond a metre
            orientation=(self._towards(columns), self._towards(rows)),
            aspect=steps[0] / steps[1],
            **names,
        )

    def _towards(self, axis):
        """The letter of where an index axis runs once it's shown.

        "" where it's too oblique to say left or right.
        """
        world = self.world[axis, 0]
        cosine = abs(self.affine[world, axis]) / self.spacing_mm[axis]
        letter = "LPF"[world]
        return letter if cosine > NEAR or letter != "L" else ""

    def _display(self, axis, index, window):
        """(H, W) display values in [0, 1] of one plane."""
        plane = np.take(self.voxels, index, axis=axis)
        voi = self._voi(axis, index)
        if window:
            shown = to_display(plane, *window)
        elif voi:
            shown = voi(plane)
        else:
            shown = to_display(plane, *self._range())
        if self.inverted:
            shown = 1 - shown
        return np.where(self._is_image(plane), shown, np.float32(0))

    def _voi(self, axis, index):
        """What the file asks for one slice; None across slices that differ in it."""
        if len(self.voi) > 1 and axis == 0:
            return self.voi[index]
        return self.voi[0] if len(set(self.voi)) == 1 else None

    def _is_image(self, values):
        finite = np.isfinite(values)
        if self.padding is None:
            return finite
        low, high = self.padding
        return finite & ~((values >= low) & (values <= high))

    def _range(self):
        """Lowest and highest value of the image.

        Plane by plane, since a mask of a whole CT takes its memory again.
        """
        ends = []
        for plane in self.voxels:
            image = plane[self._is_image(plane)]
            if image.size:
                ends.append((image.min(), image.max()))
        if not ends:
            return 0.0, 0.0
        return float(np.min(ends)), float(np.max(ends))

    def __repr__(self):
        size = " x ".join(map(str, self.shape))
        return f"Volume({size}, {_mm(self)}, {self.modality}, {self.source})"


def to_display(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] linearly to float32 [0, 1] and clip; NaN is 0.

    A range of zero width becomes a step at `high`.
    """
    width = high - low
    if width <= 0:
        return (values > high).astype(np.float32)
    shown = np.clip((values.astype(np.float32) - low) / width, 0, 1).astype(np.float32)
    return np.nan_to_num(shown, copy=False)


def lengths(values) -> tuple[float, float] | None:
    """Two numbers as lengths in mm, each above 0 and below a metre; else None.

    >>> lengths(["0.139", "0.139"]), lengths([0.1]), lengths([0, "x"])
    ((0.139, 0.139), None, None)
    """
    try:
        first, second = (float(value) for value in values)
    except (TypeError, ValueError):
        return None
    # False for NaN, too
    return (first, second) if 0 < first < 1000 and 0 < second < 1000 else None
