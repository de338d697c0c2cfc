"""Rays through a deformed patient: cone-beam geometry, anatomical variation, Beer-Lambert line integrals."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate.anatomy import FIELD_MM, Anatomy

MU_WATER = 0.0205  # per mm, about 60 keV (NIST XCOM); a diagnostic chest beam's effective energy
PLANE_MM = 5.0  # step along the ray
BEAM_Z_MM = 22.0  # the central ray runs through the lungs, above the middle of the CT
SOURCE_MM = {"PA": 1830.0, "AP": 1150.0, "LATERAL": 1830.0}
GAP_MM = {"PA": 40.0, "AP": 60.0, "LATERAL": 40.0}  # skin to detector


@dataclass(frozen=True)
class Body:
    """How a virtual patient differs from the CT; the default changes nothing.

    Attributes:
        scale: stretch along X (left), Y (anterior), Z (superior).
        heart: stretch of the heart; above about 1.25 it reads as cardiomegaly.
        inspiration_mm: how far the diaphragm moves down (positive) or up.
        yaw_deg, tilt_deg, roll_deg: pose about Z, X and Y.
        bone: factor on bone density, falls with age.
        wobble: (3, 4, 4, 4) displacements in mm on a coarse lattice, smoothly interpolated.
    """

    scale: tuple = (1.0, 1.0, 1.0)
    heart: float = 1.0
    inspiration_mm: float = 0.0
    yaw_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    bone: float = 1.0
    wobble: np.ndarray = field(default_factory=lambda: np.zeros((3, 4, 4, 4), np.float32))


@dataclass(frozen=True, eq=False)
class Rays:
    """A patient sampled along the rays of one view.

    Attributes:
        hu: (P, H, W) Hounsfield units on P planes; rows run from superior to inferior.
        depth: (P, H, W) signed chest-wall depth in mm (`Anatomy.channels`).
        heart: (P, H, W) 0 to 1.
        where: (P, H, W, 3) position in the CT in mm (x, y, z) of each sample.
        step_mm: (H, W) path length in mm from plane to plane.
        pixel_mm: pixel side at the middle of the patient.
    """

    hu: torch.Tensor
    depth: torch.Tensor
    heart: torch.Tensor
    where: torch.Tensor
    step_mm: torch.Tensor
    pixel_mm: float


def attenuation(hu, bone=1.0):
    """Linear attenuation per mm from Hounsfield units; above 150 HU calcium attenuates more than HU says."""
    water = (hu / 1000 + 1).clamp(min=0)
    return MU_WATER * (water + bone * 0.35 * ((hu - 150) / 1000).clamp(min=0))


def ray_points(half_mm, view, size, *, coarse=1, pixel_mm=FIELD_MM / 160):
    """Points (P, H, W, 3) in mm on cone-beam rays, and the path length (H, W) from plane to plane.

    Args:
        half_mm: half the volume's extent along X, Y, Z.
        view: "PA" (detector in front of the patient), "AP" (behind) or "LATERAL" (at the patient's left).
        size: rows and columns of the detector.
        coarse: take about every `coarse`-th point, spread over the same extent.
        pixel_mm: detector pixel scaled to the middle of the patient.
    """
    axis, sign = {"PA": (1, 1), "AP": (1, -1), "LATERAL": (0, 1)}[view]
    depth = float(half_mm[axis])
    fine = round(2 * depth / PLANE_MM)
    step = 2 * depth / fine
    planes, n = max(2, round(fine / coarse)), max(2, round(size / coarse))
    middle = SOURCE_MM[view] - GAP_MM[view] - depth  # from the source to the middle of the patient
    along = torch.linspace(-1, 1, planes) * (depth - step / 2)  # planes in the middle of their steps
    across = torch.linspace(-0.5, 0.5, n) * pixel_mm * (size - 1)
    grow = (middle + along) / middle  # rays spread away from the source
    u = (grow[:, None] * across[None])[:, None, :].expand(planes, n, n)
    v = (grow[:, None] * -across[None])[:, :, None].expand(planes, n, n) + BEAM_Z_MM
    t = (sign * along)[:, None, None].expand(planes, n, n)
    points = torch.stack((u, t, v) if axis == 1 else (t, -u, v), dim=-1)
    slant = torch.sqrt(1 + (across[None] ** 2 + across[:, None] ** 2) / middle**2)
    return points, slant * step


def _rotation(body):
    a, b, c = np.deg2rad([body.yaw_deg, body.tilt_deg, body.roll_deg])
    yaw = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    roll = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return torch.from_numpy(yaw @ tilt @ roll).float()


def to_ct(points, anatomy: Anatomy, body: Body):
    """Where in the CT each point (..., 3) of the virtual patient comes from: pose, size, wobble, breath, heart."""
    half = torch.from_numpy(anatomy.half_mm).float()
    p = points @ _rotation(body) / torch.tensor(body.scale)
    lattice = torch.from_numpy(body.wobble)[None]
    p = p + F.grid_sample(lattice, (p / half)[None], padding_mode="border", align_corners=True)[0].movedim(0, -1)
    bottom, top = min(r[0] for r in anatomy.lung_range.values()), max(r[1] for r in anatomy.lung_range.values())
    # breathing moves the diaphragm and leaves the apex; below the lungs everything moves along
    share = ((top - p[..., 2]) / (top - bottom)).clamp(0, 1) ** 2
    p = torch.cat((p[..., :2], p[..., 2:] + (body.inspiration_mm * share)[..., None]), dim=-1)
    # the heart grows to the left and down more than to the right: the fixed point lies right of its centre
    fixed = torch.from_numpy(anatomy.heart_centre + np.array([-18.0, 0.0, 10.0])).float()
    from_fixed = p - fixed
    near = torch.exp(-((from_fixed.norm(dim=-1, keepdim=True) / 95) ** 4))
    grow = 1 + (body.heart - 1) * near * torch.tensor([1.0, 0.8, 0.5])
    return fixed + from_fixed / grow


def sample(anatomy: Anatomy, body: Body, view="PA", size=160, *, coarse=5):
    """Sample the deformed patient along the rays of one view; the costly step, shared by a patient's studies.

    The deformation is smooth, so it is computed on every fifth point and interpolated in between.
    """
    pixel_mm = FIELD_MM / size
    fine, step = ray_points(anatomy.half_mm, view, size, pixel_mm=pixel_mm)
    rough, _ = ray_points(anatomy.half_mm, view, size, coarse=coarse, pixel_mm=pixel_mm)
    where = to_ct(rough, anatomy, body).movedim(-1, 0)[None]
    where = F.interpolate(where, size=fine.shape[:3], mode="trilinear", align_corners=True)[0].movedim(0, -1)
    half = torch.from_numpy(anatomy.half_mm).float()
    grid = (where / half)[None]
    hu, depth, heart = F.grid_sample(anatomy.channels[None], grid, padding_mode="border", align_corners=False)[0]
    return Rays(hu, depth, heart, where, step, pixel_mm)


def line_integral(rays: Rays, bone=1.0):
    """Sum attenuation along each ray: (H, W), the negative logarithm of the transmitted share (Beer-Lambert)."""
    return attenuation(rays.hu, bone).sum(0) * rays.step_mm
