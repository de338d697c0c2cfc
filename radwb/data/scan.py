"""The two things that a file can be read into: a 2-D `Scan` and a 3-D `Volume`."""

from dataclasses import dataclass, field

import numpy as np


class ReadError(ValueError):
    """A file is refused; the message says which file and why in one sentence."""


@dataclass(frozen=True, eq=False)
class Scan:
    """One 2-D image as read.

    Args:
        pixels: (H, W) float32 display values in [0, 1]; bright = dense whatever the photometric interpretation.
        spacing_mm: (row, column) distance between pixel centres in the patient. None = not known, never guessed.
        view: "PA", "AP", "LATERAL" or None.
        modality: DICOM modality ("DX", "CT", ...) or None.
        source: the path, or how the scan was made.
        truth: finding -> bool mask (H, W), where it is known.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    modality: str | None = None
    source: str = ""
    truth: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        if self.pixels.ndim != 2:
            raise ValueError(f"expected pixels (H, W), got shape {self.pixels.shape}. Try one slice or one channel.")
        for finding, mask in self.truth.items():
            if mask.shape != self.pixels.shape:
                raise ValueError(f"expected a truth mask {self.pixels.shape} for {finding}, got {mask.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape

    def __repr__(self):
        spacing = "spacing unknown" if self.spacing_mm is None else "{:.3g} x {:.3g} mm".format(*self.spacing_mm)
        parts = [f"{self.shape[0]} x {self.shape[1]}", spacing, self.modality, self.view, self.source]
        return f"Scan({', '.join(p for p in parts if p)})"


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image.

    Args:
        voxels: (D, H, W) float32, Hounsfield units for CT, else intensities; D runs along the slices.
        affine: (4, 4), maps an index (d, h, w, 1) to LPS millimetres (left, posterior, superior are positive);
            None where the file doesn't say (an ultrasound loop).
        modality: DICOM modality or None.
        source: path or description.
    """

    voxels: np.ndarray
    affine: np.ndarray | None
    modality: str | None = None
    source: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.voxels.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        return None if self.affine is None else tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    def slice(self, axis: int, index: int, window_hu: tuple[float, float] | None = None) -> Scan:
        """One slice as a radiologist looks at it: head up, else anterior up; the patient's left on the right.

        >>> volume.slice(1, 256, window_hu=(-160, 240))      # coronal
        Scan(133 x 512, 2.5 x 0.703 mm, CT, ...)

        Args:
            axis: 0, 1 or 2 of `voxels`, the axis that is cut.
            index: which slice; negative counts from the end.
            window_hu: (low, high) shown black and white. None = the whole volume's range.
        """
        plane = np.take(self.voxels, index, axis=axis)
        low, high = window_hu or (float(self.voxels.min()), float(self.voxels.max()))
        source = f"{self.source} axis {axis} #{index}"
        if self.affine is None:
            return Scan(to_display(plane, low, high), None, None, self.modality, source)
        world = np.abs(self.affine[:3, :3]).argmax(0)  # the world axis (0 L, 1 P, 2 S) that each index axis follows
        kept = [a for a in range(3) if a != axis]
        if world[kept[0]] < world[kept[1]]:
            plane, kept = plane.T, kept[::-1]
        for position, a in enumerate(kept):
            increases = self.affine[world[a], a] > 0
            if increases == (world[a] == 2):  # L and P grow along the picture, S shrinks from the head down
                plane = np.flip(plane, position)
        spacing = tuple(self.spacing_mm[a] for a in kept)
        return Scan(to_display(plane, low, high), spacing, None, self.modality, source)

    def __repr__(self):
        size, spacing = " x ".join(map(str, self.shape)), self.spacing_mm
        step = " x ".join(f"{s:.3g}" for s in spacing) + " mm" if spacing else "spacing unknown"
        return f"Volume({size}, {step}, {self.modality}, {self.source})"


def to_display(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] linearly to float32 [0, 1] and clip; a range of zero width becomes a step at `high`."""
    width = high - low
    if width <= 0:
        return (values > high).astype(np.float32)
    return np.clip((values.astype(np.float32) - low) / width, 0, 1).astype(np.float32)
