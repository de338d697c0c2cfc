"""Where slices lie in the patient: their directions, their order and their affine."""

import warnings

import numpy as np
from pydicom import Dataset

from radwb.data.header import TOWARDS, joined, lookup, parts, spacing_of, tag, warn
from radwb.data.scan import ReadError

TILT = 0.5  # degrees; what is less is rounding of the positions
SAME_PLACE = 1e-3  # mm
SAME_DIRECTION = 1e-3  # of a cosine


def facing_of(ds: Dataset, frame: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
    """(3,) LPS directions of rows and columns, or None.

    From (0020,0037) ImageOrientationPatient; a warning says where it's no directions.
    """
    value = lookup(ds, "ImageOrientationPatient", frame)
    if value is None:
        return None
    try:
        across, down = np.array(parts(value), float).reshape(2, 3)
    except (TypeError, ValueError):
        across = down = np.zeros(3)
    sizes = [across @ across, down @ down]
    if not np.allclose([*sizes, across @ down], [1, 1, 0], atol=1e-2):
        text = joined(value, 80)
        warn(
            "ImageOrientationPatient",
            f"is {text!r}, not two directions: sides unknown",
        )
        return None
    return across / np.sqrt(sizes[0]), down / np.sqrt(sizes[1])


def contradicts(
    orientation: tuple[str, str] | None, facing: tuple[np.ndarray, np.ndarray]
) -> bool:
    """Whether PatientOrientation points away from where rows or columns run.

    Args:
        orientation: letters as in ("L", "F").
        facing: directions by ImageOrientationPatient.
    """
    for letters, direction in zip(orientation or (), facing, strict=False):
        for letter in letters:
            axis, sign = TOWARDS[letter]
            if direction[axis] * sign < -0.2:
                return True
    return False


def frame_geometry(ds: Dataset, frames: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Affine, None where it isn't known, and order of an enhanced object's frames."""
    stored_order = np.arange(frames)
    places = [parts(lookup(ds, "ImagePositionPatient", n)) for n in range(frames)]
    facing = [parts(lookup(ds, "ImageOrientationPatient", n)) for n in range(frames)]
    spacing = spacing_of(ds)
    complete = "PerFrameFunctionalGroupsSequence" in ds and all([*places, *facing])
    if spacing is None or not complete:
        return None, stored_order
    try:
        return stack(
            np.array(places, float), np.array(facing, float), spacing, "frames"
        )
    # a time series, several orientations, or no numbers
    except (ReadError, ValueError, TypeError):
        text = "the frames' places are no stack: place and orientation unknown"
        warnings.warn(text, stacklevel=4)
        return None, stored_order


def stack(
    places: np.ndarray, facing: np.ndarray, spacing: tuple[float, float], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Order slices along their normal and give the affine of the stack.

    Args:
        places: (D, 3) ImagePositionPatient.
        facing: (D, 6) ImageOrientationPatient.
        spacing: (row, column) mm.
        name: of the series, for errors.
    Returns:
        affine (4, 4) to LPS mm, and the order (D,) from low to high along the normal.
    Raises:
        ReadError: orientations differ, slices share a place, or the gaps differ.
    """
    across, down = facing[0].reshape(2, 3)
    if np.abs(facing - facing[0]).max() > SAME_DIRECTION:
        raise ReadError(
            f"{name}: {tag('ImageOrientationPatient')} differs between the slices: "
            "not one stack"
        )
    normal = np.cross(across, down)
    along = along_normal(places, facing)
    order = np.argsort(along, kind="stable")
    _check_gaps(along[order], name)
    first, last = places[order[[0, -1]]]
    step = normal
    if len(order) > 1:
        step = (last - first) / (len(order) - 1)
    affine = np.eye(4)
    affine[:3] = np.stack([step, down * spacing[0], across * spacing[1], first], axis=1)
    _warn_tilt(affine, name)
    return affine, order


def along_normal(places: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """(D,) mm of each slice along the normal of the first one.

    Args:
        places: (D, 3) ImagePositionPatient.
        facing: (D, 6) ImageOrientationPatient.
    """
    return places @ np.cross(*facing[0].reshape(2, 3))


def _check_gaps(along, name):
    """Raise unless places along the normal are apart, and equally far."""
    gaps = np.diff(along)
    if not len(gaps):
        return
    if gaps.min() < SAME_PLACE:
        pairs = (gaps < SAME_PLACE).sum()
        raise ReadError(
            f"{name}: two slices share the place {along[gaps.argmin()]:.2f} mm "
            f"({pairs} pairs do)"
        )
    step = np.median(gaps)
    large, small = unequal(gaps)
    if not (large | small).any():
        return
    gap = gaps.argmax() if large.any() else gaps.argmin()
    doubt = (
        "is a slice missing?" if large.any() else "is a slice of another series in it?"
    )
    raise ReadError(
        f"{name}: expected equal gaps of {step:.3g} mm, got {gaps[gap]:.3g} mm after "
        f"slice {gap + 1} of {len(along)}: {doubt}"
    )


def unequal(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which gaps between slices are larger and which smaller than most, (N,) bool each.

    >>> unequal(np.array([2.5, 2.5, 5.0, 2.5, 1.2]))[0].tolist()
    [False, False, True, False, False]
    """
    step = np.median(gaps)
    return gaps > 1.02 * step + 0.02, gaps < 0.98 * step - 0.02


def _warn_tilt(affine, name):
    """Say when slices are not stacked along their normal.

    Every cut across them is then a sheared patient.
    """
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    normal = np.cross(steps[:, 1], steps[:, 2])
    normal /= np.linalg.norm(normal)
    cosine = np.clip(abs(normal @ steps[:, 0]), 0, 1)
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees > TILT:
        warnings.warn(
            f"{name}: the slices are stacked {degrees:.1f} degrees off their normal "
            "(gantry tilt): the affine is right, and cuts across the slices show the "
            "patient sheared",
            stacklevel=4,
        )
