"""How a virtual patient differs from the CT, and where its points come from."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import physics
from radwb.simulate.anatomy import Anatomy

# the arch's middle lies so far above its leftmost point, where it turns down
ARCH_MM = 20.0
CHEST_MM = (135.0, 105.0)  # half axes of an ellipse about the CT's rib cage: X and Y
SPINE_MM = -25.0  # along Y, the front of the spine
# middle of each dome of the diaphragm beside the midline and along Y, and its radius
DOME_MM = (75.0, 10.0, 65.0)
GLAND = 0.35  # share of a breast that is glandular tissue; the rest is fat


@dataclass(frozen=True)
class Frame:
    """What of a patient lies beyond the CT: neck, chin and arms.

    Attributes:
        neck_mm: half the neck's width.
        slope_mm: how far the shoulders fall from the neck to where they are level.
        chin_mm: height of the chin above the top of the CT; far above, it is no part
            of the film.
        arm_mm: radius of the upper arms; 0 for none.
        arms_deg: (right, left) angle of the arms, 0 hanging down, 180 straight up.
    """

    neck_mm: float = 58.0
    slope_mm: float = 40.0
    chin_mm: float = 150.0
    arm_mm: float = 42.0
    arms_deg: tuple = (15.0, 15.0)


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
        usual_heart: stretch of a healthy heart of this build; `heart` comes on top.
        heart_axis_deg: turn of the heart in the frontal plane, positive to a flat one.
        mediastinum: stretch along X of what lies about the great vessels and the
            thymus.
        dome_mm: how far the domes of the diaphragm alone move down: flat in
            emphysema, high in a child.
        wall: stretch of what lies outside the rib cage: flanks, muscle, fat.
        marking: factor on what vessels and septa are denser than the lung.
        vessels: (n, 7) waves that the lungs' vessels are displaced by against all else:
            mm along X, Y, Z, radians a mm along X, Y, Z, phase; None.
        swapped: each lung has the vessels of the other; with `vessels` only.
        even: findings are of even texture: of more waves, and a lung that shrinks is
            denser, or gives way to air, where it is no rim; False as in the first
            cohorts.
        bends: (3, n, n, n) as `wobble`, finer; None for none.
        bones: (3, n, n, n) displacements in mm of the bones against all else; None.
        frame: `Frame`, neck and arms; None leaves what the CT's mirrored ends show.
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
    usual_heart: float = 1.0
    heart_axis_deg: float = 0.0
    mediastinum: float = 1.0
    dome_mm: float = 0.0
    wall: float = 1.0
    marking: float = 1.0
    vessels: np.ndarray | None = None
    swapped: bool = False
    even: bool = False
    bends: np.ndarray | None = None
    bones: np.ndarray | None = None
    frame: Frame | None = None


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
    moved = displaced(p / half, body.wobble)
    if body.bends is not None:
        moved = moved + displaced(p / half, body.bends)
    p = _with_wall(p + moved, body)
    p = _with_spine_and_breath(p, anatomy, body)
    heart = np.array(anatomy.marks["heart"])
    arch = np.array(anatomy.marks["knob"]) + (0, 0, ARCH_MM)
    pulled = body.shift_mm * _near(p, heart + (0, 0, 40), 110)
    shift = torch.zeros_like(p)
    shift[..., 0] = pulled + body.aorta_mm * _near(p, arch, 32)
    p = _with_mediastinum(p - shift, anatomy, body)
    # the heart grows to the left and down more than to the right: the fixed point lies
    # right of its centre
    fixed = torch.from_numpy(heart + np.array([-18.0, 0.0, 10.0])).float()
    near_heart = _near(p, fixed.tolist(), 95)[..., None]
    size = body.heart * body.usual_heart
    grow = 1 + (size - 1) * near_heart * torch.tensor([1.0, 0.8, 0.5])
    turning = near_heart[..., 0] * _before_spine(p)
    return fixed + _turned(p - fixed, turning, body) / grow


def _before_spine(p):
    return torch.sigmoid((p[..., 1] - SPINE_MM) / 12)


def bone_shift(there, anatomy: Anatomy, body: Body):
    """How far from points (..., 3) of the CT, mm, the bones found there come from."""
    half = torch.from_numpy(anatomy.half_mm).float()
    return displaced(there / half, body.bones)


def displaced(p, lattice):
    """Displacements (..., 3) in mm of a lattice at points (..., 3) of -1 to 1."""
    lattice = torch.from_numpy(lattice)[None]
    at = p[None].flatten(1, -2)[:, None, None]
    displacement = F.grid_sample(
        lattice,
        at,
        padding_mode="border",
        align_corners=True,
    )
    return displacement[0, :, 0, 0].T.reshape(p.shape)


def _with_wall(p, body):
    """What lies outside an ellipse about the rib cage is stretched away from it."""
    if body.wall == 1:
        return p
    away = (p[..., :2] / torch.tensor(CHEST_MM)).norm(dim=-1).clamp(min=1)
    inward = (1 + (away - 1) / body.wall) / away
    return torch.cat((p[..., :2] * inward[..., None], p[..., 2:]), dim=-1)


def _with_mediastinum(p, anatomy, body):
    if body.mediastinum == 1:
        return p
    middle = torch.tensor(anatomy.marks["carina"]).float()
    middle[2] += 20
    near = _near(p, middle.tolist(), 75) * _before_spine(p)
    stretch = 1 + (body.mediastinum - 1) * near
    x = middle[0] + (p[..., 0] - middle[0]) / stretch
    return torch.cat((x[..., None], p[..., 1:]), dim=-1)


def _turned(p, near, body):
    """Turn points about 0 in the frontal plane, the nearer the more."""
    if not body.heart_axis_deg:
        return p
    angle = -np.deg2rad(body.heart_axis_deg) * near
    x = p[..., 0] * torch.cos(angle) - p[..., 2] * torch.sin(angle)
    z = p[..., 0] * torch.sin(angle) + p[..., 2] * torch.cos(angle)
    return torch.stack((x, p[..., 1], z), dim=-1)


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
    if body.dome_mm:
        lateral = (x - anatomy.marks["carina"][0]).abs()
        from_dome = ((lateral - DOME_MM[0]) ** 2 + (y - DOME_MM[1]) ** 2).sqrt()
        breath = breath + body.dome_mm * torch.exp(-((from_dome / DOME_MM[2]) ** 2))
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
