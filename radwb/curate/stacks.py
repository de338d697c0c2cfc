"""What is odd about where the slices of a series lie, in words."""

import numpy as np
import pandas as pd

from radwb.data.place import SAME_DIRECTION, SAME_PLACE, TILT, unequal

FEW = 3  # slices across the others: a localiser, which has one a plane
ACROSS = 0.2  # cosine of 78 degrees
SIDEWAYS = 0.5  # mm; what is less is rounding of the positions
# what parts two series that share a UID -> columns of the slices
APART = {
    "size": ["rows", "columns"],
    "pixel spacing": ["row_mm", "column_mm"],
    "kernel": ["kernel"],
    "photometric interpretation": ["photometric"],
    "frame of reference": ["frame_of_reference"],
}


def parts(slices: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Which slices of one UID belong together, and why not all of them do.

    Args:
        slices: N rows with a place, as `radwb.curate.slices` gives them.
    Returns:
        (N,) the part of each slice, 0 the largest; and the problems.
    """
    facing = np.array(slices["facing"].tolist()).reshape(-1, 6)
    planes = _planes(facing)
    named = slices["localiser"].to_numpy(bool)
    scout = named & ~named.all() | _few_across(planes, facing)
    problems = []
    if scout.any():
        problems.append(f"localiser among slices ({scout.sum()} of {len(scout)})")
    keys = {name: _codes(slices[columns]) for name, columns in APART.items()}
    keys["orientation"] = planes
    different = {}
    for name, codes in keys.items():
        counts = np.bincount(codes[~scout])
        counts = sorted(counts[counts > 0].tolist(), reverse=True)
        if len(counts) > 1:
            different[name] = counts
    if min(different.get("orientation", [FEW + 1])) <= FEW:
        counts = different.pop("orientation")
        problems.append(f"mixed orientation ({_counts(counts)} slices)")
    if different:
        why = ", ".join(f"{name} {_counts(n)}" for name, n in different.items())
        problems.append(f"two series under one UID (by {why} slices)")
    together = _codes(pd.DataFrame({**keys, "scout": scout}))
    return _largest_first(together, scout), problems


def _counts(counts):
    if len(counts) > 4:
        return f"{' + '.join(map(str, counts[:4]))} + ..."
    return " + ".join(map(str, counts))


def _codes(columns):
    """(N,) a number for each different row."""
    return columns.groupby(list(columns), dropna=False, sort=False).ngroup().to_numpy()


def _largest_first(codes, scout):
    """The parts numbered by size; localisers come last."""
    counts = pd.Series(codes).value_counts(sort=False)
    last = pd.Series(scout).groupby(codes).first()
    order = pd.DataFrame({"last": last, "few": -counts}).sort_values(["last", "few"])
    return pd.Series(range(len(order)), order.index)[codes].to_numpy()


def _planes(facing):
    """(N,) a number for each orientation that differs by more than rounding."""
    planes = np.full(len(facing), -1)
    while (planes < 0).any():
        first = facing[planes < 0][0]
        near = np.abs(facing - first).max(axis=1) <= SAME_DIRECTION
        planes[near & (planes < 0)] = planes.max() + 1
    return planes


def _few_across(planes, facing):
    """(N,) bool: at most FEW slices of an orientation, at right angles to most."""
    counts = np.bincount(planes)
    normals = np.cross(facing[:, :3], facing[:, 3:])
    most = normals[planes == counts.argmax()][0]
    few = (counts[planes] <= FEW) & (counts.max() > FEW)
    return few & (np.abs(normals @ most) < ACROSS)


def stack_problems(places: np.ndarray, facing: np.ndarray) -> list[str]:
    """What keeps slices of one orientation from being a regular stack.

    >>> down = np.array([[0, 0, z] for z in (0, 2, 4, 8, 10)], float)
    >>> stack_problems(down, np.array([1, 0, 0, 0, 1, 0.0]))
    ['missing slice (1, after slice 3 of 5: 4 mm where 2 are the step)']

    Args:
        places: (D, 3) ImagePositionPatient, in the order along the normal.
        facing: (6,) ImageOrientationPatient.
    """
    axes = facing.reshape(2, 3)
    along = places @ np.cross(*axes)
    gaps = np.diff(along)
    least = np.median(gaps) if len(gaps) else 0.0
    apart = gaps > max(SAME_PLACE, 0.02 * least)
    problems = []
    if len(along) == 1:
        problems.append("single slice (no step between slices)")
    if not apart.all():
        problems.append(f"doubled slice ({(~apart).sum()} share another's place)")
    if not apart.any():
        return problems
    last = np.flatnonzero(np.append(apart, True))  # one slice a place
    problems += _gap_problems(np.diff(along[last]), last[:-1] + 1, len(along))
    return problems + _sideways(places[last] @ axes.T, along[last])


def _gap_problems(gaps, after, n):
    """A gap of several steps misses slices; three of them in a row are another step."""
    step = np.median(gaps)
    large, small = unequal(gaps)
    steps = np.round(gaps / step)
    holes = large & (np.abs(gaps - steps * step) <= 0.1 * step)
    if len(holes) > 2 and np.convolve(holes, np.ones(3), "valid").max() == 3:
        holes[:] = False
    problems = []
    if holes.any():
        missing = int((steps[holes] - 1).sum())
        first = holes.argmax()
        problems.append(
            f"missing slice ({missing}, after slice {after[first]} of {n}: "
            f"{gaps[first]:.3g} mm where {step:.3g} are the step)"
        )
    if (small | large & ~holes).any():
        problems.append(
            f"unequal spacing ({gaps.min():.3g} to {gaps.max():.3g} mm, mostly "
            f"{step:.3g})"
        )
    return problems


def _sideways(across, along):
    """A tilt moves all slices alike; what moves one alone is a shift.

    Args:
        across: (D, 2) mm of the first pixels along rows and columns.
        along: (D,) mm along the normal, growing.
    """
    slope = np.median(np.diff(across, axis=0) / np.diff(along)[:, None], axis=0)
    degrees = np.degrees(np.arctan(np.linalg.norm(slope)))
    problems = []
    if degrees > TILT:
        problems.append(f"tilted gantry ({degrees:.1f} degrees)")
    straight = across - along[:, None] * slope
    off = np.linalg.norm(straight - np.median(straight, axis=0), axis=1)
    if off.max() > SIDEWAYS:
        shifted = (off > SIDEWAYS).sum()
        problems.append(f"shifted slice ({shifted}, by up to {off.max():.3g} mm)")
    return problems
