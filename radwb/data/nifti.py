"""NIfTI to `Volume`."""

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from radwb.data.limits import check_nifti, is_gzip
from radwb.data.scan import ReadError, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# that a file without units means mm is custom
IN_MM = {"micron": 1e-3, "mm": 1.0, "meter": 1e3, "unknown": 1.0}
FLIP = [2, 1, 0]  # (i, j, k) -> (k, j, i)
LUMINANCE = {"R": 0.299, "G": 0.587, "B": 0.114}


def read_nifti(path: Path) -> Volume:
    """A 3-D NIfTI-1 or -2 file -> Volume with axes (k, j, i) and an affine to LPS mm.

    A fourth axis of length 1 is dropped; a longer one is refused: which volume of it is
    meant can't be guessed. Colours become luminance. Where neither sform nor qform is
    set, or they contradict each other, the affine is None.
    """
    check_nifti(path)
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        image = _open(file)
        voxels = _voxels(image, path.name)  # (K, J, I)
    absent = sum(int((~np.isfinite(plane)).sum()) for plane in voxels)
    if absent:
        _warn(
            f"{path.name}: {absent:,} of {voxels.size:,} voxels are no number (NaN or "
            "infinite): background"
        )
    affine, steps = _place(image, path.name)
    return Volume(voxels, affine, None, str(path), steps)


def _open(file):
    """The image of a stream, its voxels not read yet."""
    head = file.read(8)
    file.seek(0)
    kind = nib.Nifti2Image if head[4:] == b"n+2\0" else nib.Nifti1Image
    return kind.from_stream(file)


def _voxels(image, name):
    """(K, J, I) float32, read a slice at a time, so that memory holds them once."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ReadError(
            f"{name}: expected a 3-D NIfTI, got the shape {image.shape}. Try one "
            "volume of it."
        )
    if image.get_data_dtype().kind == "c":
        raise ReadError(
            f"{name}: complex values, of which magnitude, phase or real part may be "
            "meant. Try np.abs."
        )
    further = (0,) * (len(image.shape) - 3)
    voxels = np.empty(shape[::-1], np.float32)
    for k in range(shape[2]):
        plane = np.asanyarray(image.dataobj[(slice(None), slice(None), k, *further)])
        voxels[k] = _values(plane).T
    return voxels


def _values(plane):
    """(I, J) float32; of colours the luminance in [0, 1]."""
    if plane.dtype.names:
        return sum(np.float32(w / 255) * plane[c] for c, w in LUMINANCE.items())
    # a float64 beyond float32 becomes infinite, and is counted
    with np.errstate(over="ignore"):
        return plane.astype(np.float32)


def _place(image, name):
    """The affine to LPS mm; or None and, where they are known, the steps in mm."""
    unit = _unit(image.header, name)
    affine, steps_known = _affine(image, unit, name)
    if affine is None:
        steps = np.array(image.header.get_zooms()[:3], float)[FLIP] * unit
        usable = np.isfinite(steps).all() and steps.min() > 0 and steps.max() < 1000
        return None, tuple(steps.tolist()) if steps_known and usable else None
    scaled = RAS_TO_LPS @ affine * np.array([[unit], [unit], [unit], [1.0]])
    longest = np.linalg.norm(scaled[:3, :3], axis=0).max()
    if longest >= 1000:
        _warn(
            f"{name}: voxels of {longest:.4g} mm, in the unit that its xyzt_units "
            "names: is it the right one?"
        )
    return scaled[:, [*FLIP, 3]], None


def _affine(image, unit, name):
    """The affine to RAS in the header's unit, or None, and whether the steps stand."""
    sform, scode = image.header.get_sform(coded=True)
    qform, qcode = _qform(image.header)
    if not scode and not qcode:
        _warn(f"{name}: sform_code and qform_code are 0: orientation unknown")
        return None, True
    affine = image.affine  # of sform where it's set
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ReadError(
            f"{name}: the affine has no volume, so that spacing and orientation are "
            "unknown"
        )
    if not scode or not qcode:
        return affine, True
    sizes = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    axes = ["".join(map(str, nib.aff2axcodes(form))) for form in (sform, qform)]
    same_size = np.allclose(*sizes, rtol=0.02)
    if axes[0] != axes[1] or not same_size:
        voxels = " and ".join(str(size.round(3).tolist()) for size in sizes)
        _warn(
            f"{name}: sform and qform contradict each other (axes "
            f"{' and '.join(axes)}, voxels {voxels}): orientation unknown. Try "
            "image.set_qform of the right one."
        )
        return None, same_size
    last = [*(np.array(image.shape[:3]) - 1), 1]
    corners = np.transpose([[0, 0, 0, 1], last])
    apart = np.linalg.norm((sform - qform) @ corners, axis=0).max()
    if scode == qcode and apart > sizes[0].max():
        _warn(
            f"{name}: sform and qform lie up to {apart * unit:.1f} mm apart: sform is "
            "taken"
        )
    return affine, True


def _unit(header, name):
    """Millimetres in the header's unit of length."""
    try:
        return IN_MM[header.get_xyzt_units()[0]]
    except KeyError:
        _warn(f"{name}: xyzt_units names no unit of length: taken as mm")
        return 1.0


def _qform(header):
    """The qform and its code; (None, 0) for a quaternion that is none."""
    try:
        return header.get_qform(coded=True)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None, 0


def _warn(text):
    warnings.warn(text, stacklevel=5)
