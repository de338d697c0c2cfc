"""Builds of a wider population than one CT, one sex and one stretch would give.

Children, the stout, the overinflated and the crooked.
"""

from dataclasses import replace

import numpy as np
import torch

from radwb.simulate.anatomy import Anatomy
from radwb.simulate.body import Body, Frame, bone_shift, to_ct
from radwb.simulate.patient import draw_patient

# shares of the patients at `builds` of 1; the others are of usual build
KINDS = {"child": 0.25, "stout": 0.2, "overinflated": 0.12, "crooked": 0.08}
LEAST = 0.15  # share of a volume that a bend may leave
# least and most stretch along X, Y, Z; no device needs more room than the least Z has
SCALES = ((0.80, 0.86, 0.80), (1.24, 1.24, 1.20))
# of flat ribs: mm that they come from below in the CT, for each mm forward
FLAT = -0.25
LARGEST_HEART = 1.65  # that a finding gives a body (`findings.shaped`)


def draw_built(rng, shape, dials, anatomy: Anatomy):
    """Draw one virtual patient, of a wide population where `dials.builds` is turned.

    Args:
        rng, shape: draw the patient, and what the dial adds.
    """
    patient = draw_patient(rng, dials)
    if not dials.builds:
        return patient
    return widened(patient, shape, dials.builds, anatomy)


def widened(patient, rng, builds: float, anatomy: Anatomy):
    """The same patient with a build drawn from a wider population.

    A child's age is drawn anew, so that body and age agree.

    Args:
        patient: `radwb.simulate.patient.Patient`.
        rng: all draws are its.
        builds: share of the full width, above 0 to 1.
        anatomy: whose space must not fold.
    """
    chances = builds * np.array(list(KINDS.values()))
    kinds = [*KINDS, "usual"]
    kind = str(rng.choice(kinds, p=[*chances, 1 - chances.sum()]))
    body = _usual(patient.body, rng, builds)
    if kind == "child":
        patient = replace(patient, age_years=int(rng.integers(1, 9)))
    body = BUILDS[kind](body, rng)
    body = replace(body, frame=_frame(rng, kind))
    return replace(patient, body=_unfolded(body, anatomy))


def _usual(body, rng, builds):
    """More of what differs between all patients."""
    body = _stretched(body, rng.normal(0, 0.08 * builds, 3))
    body = _breathed(body, rng.normal(0, 10 * builds) + rng.normal(0, 6 * builds, 2))
    smooth = rng.normal(0, 4.5 * builds, (3, 7, 7, 7))
    smooth[1] *= 0.6  # along the rays there is little to see
    return replace(
        body,
        usual_heart=float(np.exp(rng.normal(0.02, 0.04) * builds)),
        heart_axis_deg=float(np.clip(rng.normal(3, 8) * builds, -8, 20)),
        mediastinum=float(np.exp(rng.normal(0, 0.12 * builds))),
        dome_mm=float(rng.normal(0, 16 * builds)),
        taper=body.taper + float(rng.normal(0, 0.3 * builds)),
        scoliosis_mm=body.scoliosis_mm + float(rng.normal(0, 4 * builds)),
        tilt_deg=body.tilt_deg + float(rng.normal(0, 6 * builds)),
        wall=float(np.exp(rng.normal(0, 0.25 * builds))),
        bone=body.bone * float(np.exp(rng.uniform(-0.1, 0.6) * builds)),
        marking=float(np.exp(rng.uniform(-0.7, 0.5) * builds)),
        lung=body.lung * float(np.exp(rng.normal(0, 0.15 * builds))),
        vessels=_vessels(rng, builds),
        even=True,
        swapped=bool(rng.random() < 0.5 * builds),
        bends=smooth.astype(np.float32),
        bones=_bones(rng, builds),
    )


def _stretched(body, change):
    """Larger or smaller along X, Y, Z, within what a film holds of a patient."""
    scale = np.array(body.scale) * np.exp(change)
    return replace(body, scale=tuple(scale.clip(*SCALES).tolist()))


def _breathed(body, down):
    """The diaphragm lower by some mm, within what lungs do."""
    inspiration = np.array(body.inspiration_mm) + down
    return replace(body, inspiration_mm=tuple(inspiration.clip(-45, 45).tolist()))


def _vessels(rng, builds):
    """Waves of 120 mm and more that move the vessels by a centimetre or two."""
    mm = rng.normal(0, 10 * builds, (4, 3))
    rate = rng.normal(0, 1, (4, 3)) * 2 * np.pi / 180
    phase = rng.uniform(0, 2 * np.pi, (4, 1))
    return np.hstack([mm, rate, phase]).astype(np.float32)


def _bones(rng, builds, slope=0.0):
    """Ribs higher or lower, closer or wider, steeper or flatter than the CT's."""
    y = np.linspace(-130, 130, 4)[:, None]
    z = np.linspace(-200, 200, 4)[:, None, None]
    shift = rng.normal(0, builds, (3, 4, 4, 4))
    shift *= np.array([1.5, 0, 4])[:, None, None, None]  # mm along X, Y, Z
    slope = slope + rng.normal(0, 0.12 * builds)
    closer = rng.normal(0, 0.08 * builds)
    shift[2] += rng.normal(0, 8 * builds) + slope * y + closer * z
    return shift.astype(np.float32)


def _frame(rng, kind):
    is_child = kind == "child"
    neck = rng.uniform(52, 66)
    if kind == "stout":
        neck = neck + rng.uniform(8, 25)
    is_up = rng.random() < (0.5 if is_child else 0.1)
    degrees = rng.uniform(130, 175) if is_up else rng.uniform(6, 35)
    near_chin = is_child or rng.random() < 0.2
    arms = np.clip(degrees + rng.normal(0, 5, 2), 2, 178)
    return Frame(
        neck_mm=float(neck),
        slope_mm=float(rng.uniform(12, 40)),
        chin_mm=float(rng.uniform(15, 70) if near_chin else rng.uniform(70, 150)),
        arm_mm=float(rng.uniform(30, 40) if is_child else rng.uniform(36, 55)),
        arms_deg=tuple(arms.tolist()),
    )


def _child(body, rng):
    """A round, short chest with a large heart and thymus, and flat ribs."""
    body = _stretched(body, rng.normal((0.04, 0.12, -0.10), 0.05))
    body = _breathed(body, rng.normal(-14, 8))
    return replace(
        body,
        usual_heart=body.usual_heart * float(rng.uniform(1.1, 1.3)),
        heart_axis_deg=body.heart_axis_deg + float(rng.uniform(0, 14)),
        mediastinum=body.mediastinum * float(rng.uniform(1.0, 1.8)),
        dome_mm=body.dome_mm - float(rng.uniform(0, 25)),
        kyphosis_mm=0.3 * body.kyphosis_mm,
        aorta_mm=0.0,
        bone=body.bone * float(rng.uniform(0.9, 1.5)),
        wall=float(rng.uniform(0.6, 1.3)),
        bones=body.bones + _bones(rng, 0.3, slope=FLAT),
        fat_mm=0.5 * body.fat_mm,
        breast_mm=0.0,
    )


def _stout(body, rng):
    """A thick wall, a high diaphragm and a heart that lies flat on it."""
    body = _breathed(body, rng.uniform(-32, -8))
    return replace(
        body,
        wall=float(rng.uniform(1.4, 2.3)),
        fat_mm=body.fat_mm + float(rng.uniform(10, 35)),
        heart_axis_deg=body.heart_axis_deg + float(rng.uniform(4, 16)),
        mediastinum=body.mediastinum * float(rng.uniform(1.0, 1.25)),
        breast_mm=body.breast_mm * float(rng.uniform(1.0, 1.45)),
    )


def _overinflated(body, rng):
    """A barrel of a chest with low, flat domes, a thin upright heart and dark lungs."""
    body = _stretched(body, rng.normal((0, 0.12, 0.08), 0.03))
    body = _breathed(body, rng.uniform(15, 40))
    return replace(
        body,
        usual_heart=body.usual_heart * float(rng.uniform(0.86, 0.97)),
        heart_axis_deg=body.heart_axis_deg - float(rng.uniform(4, 12)),
        dome_mm=body.dome_mm + float(rng.uniform(15, 45)),
        kyphosis_mm=body.kyphosis_mm + float(rng.uniform(0, 12)),
        lung=body.lung * float(rng.uniform(0.6, 0.85)),
        marking=body.marking * float(rng.uniform(0.6, 1.0)),
        bones=body.bones + _bones(rng, 0.3, slope=0.6 * FLAT),
        wall=float(rng.uniform(0.6, 1.0)),
    )


def _crooked(body, rng):
    """A bent spine, and a chest turned along with it."""
    side = float(rng.choice([-1, 1]))
    return replace(
        body,
        scoliosis_mm=side * float(rng.uniform(12, 30)),
        kyphosis_mm=body.kyphosis_mm + float(rng.uniform(5, 25)),
        yaw_deg=body.yaw_deg + side * float(rng.uniform(0, 8)),
        roll_deg=body.roll_deg + float(rng.normal(0, 3)),
    )


BUILDS = {
    "child": _child,
    "stout": _stout,
    "overinflated": _overinflated,
    "crooked": _crooked,
    "usual": lambda body, rng: body,
}


def _unfolded(body: Body, anatomy: Anatomy):
    """The body with its irregular bends weakened until no finding can fold it."""
    for _ in range(6):
        if least_volume(replace(body, heart=LARGEST_HEART), anatomy) > LEAST:
            break
        body = replace(
            body,
            bends=0.6 * body.bends,
            bones=0.8 * body.bones,
            wobble=0.8 * body.wobble,
            heart_axis_deg=0.7 * body.heart_axis_deg,
        )
    return body


def least_volume(body: Body, anatomy: Anatomy, n=9):
    """The smallest volume of the CT that a unit of the patient's comes from.

    It is the least determinant of the bend's Jacobian, also of the bones', in the
    space of the chest; below 0 the patient is folded.
    """
    axes = [torch.linspace(-0.9, 0.9, n) * float(h) for h in anatomy.half_mm]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    there = to_ct(grid, anatomy, body)
    least = _least_determinant(there, axes)
    if body.bones is not None:
        moved = there + bone_shift(there, anatomy, body)
        least = min(least, _least_determinant(moved, axes))
    return least


def _least_determinant(there, axes):
    columns = []
    for k, axis in enumerate(axes):
        step = float(axis[1] - axis[0])
        change = there.diff(dim=k) / step
        inside = [slice(0, -1)] * 3
        inside[k] = slice(None)
        columns.append(change[tuple(inside)])
    return float(torch.linalg.det(torch.stack(columns, dim=-1)).min())
