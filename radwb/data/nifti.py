"""NIfTI to `Volume`."""

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from radwb.data.limits import check_nifti, is_gzip
from radwb.data.scan import ReadError, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
IN_MM = {
    "micron": 1e-3,
    "mm": 1.0,
    "meter": 1e3,
    "unknown": 1.0,
}  # that a file without units means mm is custom
FLIP = [2, 1, 0]  # (i, j, k) -> (k, j, i)


def read_nifti(path: Path) -> Volume:
    """A 3-D NIfTI-1 or -2 file -> Volume with the axes turned round to (k, j, i) and
    the affine from RAS to LPS, in mm.

    A fourth axis of length 1 is dropped; a longer one is refused: which volume of it is
    meant can't be guessed. Colours become luminance. Where neither sform nor qform is
    set, or they contradict each other, the affine is None.
    """
    check_nifti(path)
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        image = open_nifti(file, path.name)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise ReadError(
                f"{path.name}: expected a 3-D NIfTI, got the shape {image.shape}. Try one volume of it."
            )
        voxels = voxels_of(image, shape, path.name)  # (K, J, I)
    if count := sum(int((~np.isfinite(plane)).sum()) for plane in voxels):
        warnings.warn(
            f"{path.name}: {count:,} of {voxels.size:,} voxels are no number (NaN or infinite): background",
            stacklevel=4,
        )
    affine, steps = place_of(image, path.name)
    return Volume(voxels, affine, None, str(path), steps)


def open_nifti(file, name: str) -> nib.Nifti1Image:
    """The image of a stream, its voxels not read yet."""
    head = file.read(348)
    file.seek(0)
    kind = nib.Nifti2Image if head[4:8] == b"n+2\0" else nib.Nifti1Image
    return kind.from_stream(file)


def voxels_of(image: nib.Nifti1Image, shape: tuple, name: str) -> np.ndarray:
    """(K, J, I) float32, read a slice of the last axis at a time, so that memory holds
    the volume once.
    """
    if image.get_data_dtype().kind == "c":
        raise ReadError(
            f"{name}: complex values, of which magnitude, phase or real part may be meant. Try np.abs."
        )
    further = (0,) * (len(image.shape) - 3)
    voxels = np.empty(shape[::-1], np.float32)
    for k in range(shape[2]):
        plane = np.asanyarray(image.dataobj[(slice(None), slice(None), k, *further)])
        voxels[k] = values_of(plane).T
    return voxels


def values_of(plane: np.ndarray) -> np.ndarray:
    """(I, J) float32; of colours the luminance in [0, 1]."""
    if plane.dtype.names:
        parts = zip((0.299, 0.587, 0.114), "RGB", strict=True)
        return sum(np.float32(weight / 255) * plane[letter] for weight, letter in parts)
    with np.errstate(
        over="ignore"
    ):  # a float64 beyond float32 becomes infinite, and is counted
        return plane.astype(np.float32)


def place_of(
    image: nib.Nifti1Image, name: str
) -> tuple[np.ndarray | None, tuple | None]:
    """The affine to LPS mm; or None and, where they are known, the steps (k, j, i) in
    mm.
    """
    header, unit = image.header, unit_of(image.header, name)
    (sform, scode), (qform, qcode) = header.get_sform(coded=True), _qform(header)
    zooms = np.array(header.get_zooms()[:3], float) * unit
    known = np.isfinite(zooms).all() and zooms.min() > 0 and zooms.max() < 1000
    steps = tuple(float(z) for z in zooms[FLIP]) if known else None
    if not scode and not qcode:
        warnings.warn(
            f"{name}: sform_code and qform_code are 0: orientation unknown",
            stacklevel=5,
        )
        return None, steps
    affine = image.affine if not scode or sform is None else sform
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ReadError(
            f"{name}: the affine has no volume, so that spacing and orientation are unknown"
        )
    if scode and qcode and qform is not None:
        sizes = [np.linalg.norm(a[:3, :3], axis=0) for a in (sform, qform)]
        same_size = np.allclose(*sizes, rtol=0.02)
        if nib.aff2axcodes(sform) != nib.aff2axcodes(qform) or not same_size:
            letters = " and ".join("".join(nib.aff2axcodes(a)) for a in (sform, qform))
            warnings.warn(
                f"{name}: sform and qform contradict each other (axes {letters}, voxels {sizes[0].round(3).tolist()} "
                f"and {sizes[1].round(3).tolist()}): orientation unknown. Try image.set_qform of the right one.",
                stacklevel=5,
            )
            return None, steps if same_size else None
        last = [*(np.array(image.shape[:3]) - 1), 1]
        apart = max(
            np.linalg.norm((sform - qform) @ corner) for corner in ([0, 0, 0, 1], last)
        )
        if scode == qcode and apart > sizes[0].max():
            warnings.warn(
                f"{name}: sform and qform lie up to {apart * unit:.1f} mm apart: sform is taken",
                stacklevel=5,
            )
    scaled = RAS_TO_LPS @ affine * np.array([[unit], [unit], [unit], [1.0]])
    sides = np.linalg.norm(scaled[:3, :3], axis=0)
    if sides.max() >= 1000:
        warnings.warn(
            f"{name}: voxels of {sides.max():.4g} mm, in the unit that its xyzt_units names: is it the right one?",
            stacklevel=5,
        )
    return scaled[:, [*FLIP, 3]], None


def unit_of(header: nib.Nifti1Header, name: str) -> float:
    """Millimetres in the header's unit of length."""
    try:
        return IN_MM[header.get_xyzt_units()[0]]
    except KeyError:
        warnings.warn(
            f"{name}: xyzt_units names no unit of length: taken as mm", stacklevel=6
        )
        return 1.0


def _qform(header):
    """qform and its code; (None, 0) for a quaternion that is none."""
    try:
        return header.get_qform(coded=True)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None, 0
