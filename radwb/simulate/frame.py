"""What a film shows of a patient beyond the CT: neck, chin, shoulders and arms."""

import torch

from radwb.simulate import physics
from radwb.simulate.body import Frame

TOP_MM = 156.0  # the CT's own slices end little above it; what follows is their mirror
EDGE_MM = 176.0  # the CT is as wide; what lies beside it is its mirror
SPINE_MM = 28.0  # half the width of the spine with its processes
WINDPIPE_MM = (-14.0, 8.0)  # its middle and half its width in the neck
# g/cm2 through the middle of neck and chin, and what air takes of it
NECK_CM = 12.0
CHIN_CM = 14.0
WINDPIPE_CM = 1.6
SHOULDERS_MM = 190.0  # half the width of the shoulders
CHIN_MM = 58.0  # half its width
SHOULDER_MM = {"down": (176.0, 138.0), "up": (158.0, 158.0)}  # middle of its head
ARM_MM = 330.0
HUMERUS = (0.28, 0.15)  # radius of the bone and of its marrow, of the arm's


def framed(soft, bone, where, frame: Frame):
    """Water and bone along each ray with neck, chin, shoulders and arms, g/cm2.

    Args:
        soft, bone: (H, W) of the CT's patient, mirrored beyond its ends.
        where: (H, W) of X and of Z in the CT, mm, of each ray.
    """
    x, z = where
    soft, bone = _necked(soft, bone, x, z, frame)
    if frame.arm_mm:
        for side, degrees in zip((-1, 1), frame.arms_deg, strict=True):
            flesh, humerus = _arm(side * x, z, degrees, frame.arm_mm)
            # hidden by the shoulder's flesh, which is as deep
            soft = torch.maximum(soft, flesh)
            bone = bone + humerus
    return soft, bone


def _necked(soft, bone, x, z, frame):
    above = (z - TOP_MM).clamp(min=0)
    profile = _profile(x, above, frame)
    # the shoulders go on as they are cut off, and turn into the neck
    shoulders = soft * profile / _profile(x, torch.zeros_like(above), frame)
    away = (x - WINDPIPE_MM[0]) / WINDPIPE_MM[1]
    neck = (NECK_CM * profile - WINDPIPE_CM * torch.exp(-(away**2))).clamp(min=0)
    share = (above / 30).clamp(max=1)
    share = share * share * (3 - 2 * share)
    # mirrored collar bones and shoulder blades are none
    spine = torch.sigmoid((SPINE_MM - x.abs()) / 3)
    kept = torch.exp(-above / 8)
    inside = torch.sigmoid((EDGE_MM - x.abs()) / 3)
    soft = inside * (shoulders + share * (neck - shoulders))
    bone = inside * bone * (kept + (1 - kept) * 0.8 * spine)
    return _with_chin(soft, bone, x, above, frame)


def _profile(x, above, frame):
    """Thickness where shoulders turn into the neck, 1 in the middle."""
    wide = SHOULDERS_MM - frame.neck_mm
    width = frame.neck_mm + wide * torch.exp(-above / frame.slope_mm)
    return (1 - (x / width) ** 2).clamp(min=1e-6).sqrt()


def _with_chin(soft, bone, x, above, frame):
    across = (x / CHIN_MM) ** 2
    rise = above - frame.chin_mm - 30 * across
    share = torch.sigmoid(rise / 4) * (1 - across).clamp(min=0).sqrt()
    jaw = 0.4 + 1.2 * torch.exp(-(((rise - 4) / 7) ** 2))
    return torch.maximum(soft, share * CHIN_CM), bone + share * jaw


def _arm(x, z, degrees, radius):
    """Soft tissue and bone of an upper arm on the side where x grows, g/cm2."""
    top = SHOULDER_MM["down" if degrees < 90 else "up"]
    angle = torch.deg2rad(torch.tensor(degrees))
    right, down = torch.sin(angle), torch.cos(angle)
    along = (x - top[0]) * right + (top[1] - z) * down
    along = along.clamp(0, ARM_MM)
    away = ((x - top[0] - along * right) ** 2 + (z - top[1] + along * down) ** 2).sqrt()
    chords = [_chord_cm(away, radius * share) for share in (1.0, *HUMERUS)]
    cortex = chords[1] - chords[2]
    flesh = physics.DENSITY["soft"] * (chords[0] - cortex)
    return flesh, physics.DENSITY["bone"] * cortex


def _chord_cm(away, radius):
    """Path through a cylinder at a distance from its axis."""
    return 0.2 * (radius**2 - away**2).clamp(min=0).sqrt()
