"""What a film shows of a patient beyond the CT: neck, chin, shoulders and arms."""

import torch

from radwb.simulate import physics
from radwb.simulate.anatomy import ENDS_MM, Anatomy
from radwb.simulate.body import Frame

SPINE_MM = 28.0  # half the width of the spine with its processes
WINDPIPE_MM = 8.0  # half its width
# g/cm2 through the middle of neck and chin, and what air takes of it
NECK_CM = 12.0
CHIN_CM = 14.0
WINDPIPE_CM = 1.6
CHIN_MM = 58.0  # half its width
# where the arms begin, against the side and the top of the CT's own slices: X and Z
SHOULDER_MM = {"down": (-4.0, -18.0), "up": (-22.0, 2.0)}
ARM_MM = 330.0
HUMERUS = (0.28, 0.15)  # radius of the bone and of its marrow, of the arm's


def framed(soft, bone, where, frame: Frame, anatomy: Anatomy):
    """Water and bone along each ray with neck, chin, shoulders and arms, g/cm2.

    Args:
        soft, bone: (H, W) of the CT's patient, mirrored beyond its ends.
        where: (H, W) of X and of Z in the CT, mm, of each ray.
        anatomy: what of it is the CT's own and no mirror image.
    """
    x, z = where
    side = float(anatomy.half_mm[0])
    top = float(anatomy.half_mm[2]) - ENDS_MM - 9  # the last slices fade
    above = (z - top).clamp(min=0)
    windpipe = x - anatomy.marks["trachea"][-1][0]
    inside = torch.sigmoid((side - 4 - x.abs()) / 3)
    soft = inside * _necked(soft, x, above, windpipe, frame, side)
    # mirrored collar bones and shoulder blades are none
    spine = torch.sigmoid((SPINE_MM - x.abs()) / 3)
    kept = torch.exp(-above / 8)
    bone = inside * bone * (kept + (1 - kept) * 0.8 * spine)
    soft, bone = _with_chin(soft, bone, x, above, frame)
    if not frame.arm_mm:
        return soft, bone
    for sign, degrees in zip((-1, 1), frame.arms_deg, strict=True):
        out, up = SHOULDER_MM["down" if degrees < 90 else "up"]
        flesh, humerus = _arm(sign * x - side - out, z - top - up, degrees, frame)
        # hidden by the shoulder's flesh, which is as deep
        soft = torch.maximum(soft, flesh)
        bone = bone + humerus
    return soft, bone


def _necked(soft, x, above, windpipe, frame, side):
    profile = _profile(x, above, frame, side)
    # the shoulders go on as they are cut off, and turn into the neck
    shoulders = soft * profile / _profile(x, torch.zeros_like(above), frame, side)
    air = WINDPIPE_CM * torch.exp(-((windpipe / WINDPIPE_MM) ** 2))
    neck = (NECK_CM * profile - air).clamp(min=0)
    share = (above / 30).clamp(max=1)
    share = share * share * (3 - 2 * share)
    return shoulders + share * (neck - shoulders)


def _profile(x, above, frame, side):
    """Thickness where shoulders turn into the neck, 1 in the middle."""
    wide = side + 10 - frame.neck_mm
    width = frame.neck_mm + wide * torch.exp(-above / frame.slope_mm)
    return (1 - (x / width) ** 2).clamp(min=1e-6).sqrt()


def _with_chin(soft, bone, x, above, frame):
    across = (x / CHIN_MM) ** 2
    rise = above - frame.chin_mm - 30 * across
    share = torch.sigmoid(rise / 4) * (1 - across).clamp(min=0).sqrt()
    jaw = 0.4 + 1.2 * torch.exp(-(((rise - 4) / 7) ** 2))
    return torch.maximum(soft, share * CHIN_CM), bone + share * jaw


def _arm(x, z, degrees, frame):
    """Soft tissue and bone of an upper arm, g/cm2, from X outward, Z up of its head."""
    angle = torch.deg2rad(torch.tensor(degrees))
    out = torch.sin(angle)
    down = torch.cos(angle)
    along = (x * out - z * down).clamp(0, ARM_MM)
    away = ((x - along * out) ** 2 + (z + along * down) ** 2).sqrt()
    radii = [frame.arm_mm * share for share in (1.0, *HUMERUS)]
    arm, humerus, marrow = [_chord_cm(away, radius) for radius in radii]
    cortex = humerus - marrow
    flesh = physics.DENSITY["soft"] * (arm - cortex)
    return flesh, physics.DENSITY["bone"] * cortex


def _chord_cm(away, radius):
    """Path through a cylinder at a distance from its axis."""
    return 0.2 * (radius**2 - away**2).clamp(min=0).sqrt()
