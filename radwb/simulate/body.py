"""How a virtual patient differs from the CT, and where its points come from."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import physics
from radwb.simulate.anatomy import Anatomy

# the arch's middle lies so far above its leftmost point, where it turns down
ARCH_MM = 20.0
GLAND = 0.35  # share of a breast that is glandular tissue; the rest is fat


@dataclass(frozen=True)
class Body:
    """How a virtual patient differs from the CT; the default changes nothing.

    Attributes:
        scale: stretch along X (left), Y (anterior), Z (superior).
        heart: stretch of the heart; above about 1.25 it reads as cardiomegaly.
        inspiration_mm: how far the right and the left half of the diaphragm move down
            (positive) or up.
        yaw_deg, tilt_deg, roll_deg: pose about Z, X and Y.
        scoliosis_mm, kyphosis_mm: sideward bow and forward stoop of the spine, and of
            all around it.
        taper: how much wider the base of the chest is than the CT's, per metre of
            height.
        shift_mm: mediastinum pulled to the left (positive) or right, as a collapsed
            lobe pulls.
        aorta_mm: unfolding of the arch to the left, with age.
        bone: factor on bone density, falls with age.
        lung: factor on the density of the lungs.
        fat_mm: layer of fat under the skin, on top of the CT's own.
        breast_mm: radius of the breasts; 0 for none.
        supine: lies on the back: fluid layers out behind the lung, air collects in
            front.
        wobble: (3, 4, 4, 4) displacements in mm on a coarse lattice, smoothly
            interpolated.
    """

    scale: tuple = (1.0, 1.0, 1.0)
    heart: float = 1.0
    inspiration_mm: tuple = (0.0, 0.0)
    yaw_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    scoliosis_mm: float = 0.0
    kyphosis_mm: float = 0.0
    taper: float = 0.0
    shift_mm: float = 0.0
    aorta_mm: float = 0.0
    bone: float = 1.0
    lung: float = 1.0
    fat_mm: float = 0.0
    breast_mm: float = 0.0
    supine: bool = False
    wobble: np.ndarray = field(
        default_factory=lambda: np.zeros((3, 4, 4, 4), np.float32)
    )


def rotation(body: Body):
    """(3, 3) from yaw, tilt and roll."""
    a, b, c = np.deg2rad([body.yaw_deg, body.tilt_deg, body.roll_deg])
    yaw = np.array(
        [
            [np.cos(a), -np.sin(a), 0],
            [np.sin(a), np.cos(a), 0],
            [0, 0, 1],
        ]
    )
    tilt = np.array(
        [
            [1, 0, 0],
            [0, np.cos(b), -np.sin(b)],
            [0, np.sin(b), np.cos(b)],
        ]
    )
    roll = np.array(
        [
            [np.cos(c), 0, np.sin(c)],
            [0, 1, 0],
            [-np.sin(c), 0, np.cos(c)],
        ]
    )
    return torch.from_numpy(yaw @ tilt @ roll).float()


def to_ct(points, anatomy: Anatomy, body: Body):
    """Where in the CT each point (..., 3) of the virtual patient comes from, mm."""
    half = torch.from_numpy(anatomy.half_mm).float()
    p = points @ rotation(body) / torch.tensor(body.scale)
    p = p + _wobble(p / half, body)
    p = _with_spine_and_breath(p, anatomy, body)
    heart = np.array(anatomy.marks["heart"])
    arch = np.array(anatomy.marks["knob"]) + (0, 0, ARCH_MM)
    pulled = body.shift_mm * _near(p, heart + (0, 0, 40), 110)
    shift = torch.zeros_like(p)
    shift[..., 0] = pulled + body.aorta_mm * _near(p, arch, 32)
    p = p - shift
    # the heart grows to the left and down more than to the right: the fixed point lies
    # right of its centre
    fixed = torch.from_numpy(heart + np.array([-18.0, 0.0, 10.0])).float()
    near_heart = _near(p, fixed.tolist(), 95)[..., None]
    grow = 1 + (body.heart - 1) * near_heart * torch.tensor([1.0, 0.8, 0.5])
    return fixed + (p - fixed) / grow


def _wobble(p, body):
    """Displacements (..., 3) in mm at points of -1 to 1."""
    lattice = torch.from_numpy(body.wobble)[None]
    at = p[None].flatten(1, -2)[:, None, None]
    displacement = F.grid_sample(
        lattice,
        at,
        padding_mode="border",
        align_corners=True,
    )
    return displacement[0, :, 0, 0].T.reshape(p.shape)


def _with_spine_and_breath(p, anatomy, body):
    x, y, z = p.unbind(-1)
    up = z / float(anatomy.half_mm[2])
    x = (x - body.scoliosis_mm * torch.cos(1.6 * up)) / (1 - body.taper * z / 1000)
    y = y - body.kyphosis_mm * (up.clamp(min=0) ** 2)
    bottom = min(lowest for lowest, _ in anatomy.lung_range.values())
    top = max(highest for _, highest in anatomy.lung_range.values())
    # breathing moves the diaphragm and leaves the apex; below the lungs everything
    # moves along
    left = torch.sigmoid((x - anatomy.marks["carina"][0]) / 25)
    breath = body.inspiration_mm[0] * (1 - left) + body.inspiration_mm[1] * left
    z = z + breath * ((top - z) / (top - bottom)).clamp(0, 1) ** 2
    return torch.stack((x, y, z), dim=-1)


def _near(p, centre, radius):
    """(...) 1 at `centre`, 0 far from it, smooth."""
    away = (p - torch.tensor(centre, dtype=torch.float32)).norm(dim=-1)
    return torch.exp(-((away / radius) ** 4))


def soft_tissue(soft, body: Body, anatomy: Anatomy, view, pixel_mm, beam_z_mm):
    """Gland and fat that the CT's patient lacks, (H, W) each in g/cm2.

    Breasts are two flattened domes, and fat lies on both sides.

    Args:
        soft: (H, W) water along each ray, g/cm2.
        beam_z_mm: height of the central ray.
    """
    fat = 2 * body.fat_mm / 10 * physics.DENSITY["fat"] * (soft > 1).float()
    if not body.breast_mm or view == "LATERAL":
        return torch.zeros_like(soft), fat
    size = len(soft)
    at = (torch.arange(size) + 0.5 - size / 2) * pixel_mm
    chord = torch.zeros_like(soft)
    for sign in (-1, 1):
        across = at[None] - (
            anatomy.marks["carina"][0] * 0.5 + sign * 88 * body.scale[0]
        )
        down = -at[:, None] - (anatomy.marks["heart"][2] - 30 - beam_z_mm)
        squared = (across / 1.1) ** 2 + (down - 0.25 * across.abs()) ** 2
        dome = 0.6 * (body.breast_mm**2 - squared).clamp(min=0) / body.breast_mm
        # flat against the stand, soft at the rim
        chord = torch.maximum(chord, dome)
    return chord / 10 * GLAND, fat + chord / 10 * 0.6
