"""Rays through a deformed patient: cone-beam geometry, anatomical variation, mass along
each ray by material.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import physics
from radwb.simulate.anatomy import BONE, DEPTH, FIELD_MM, HEARTS, SOFT, Anatomy

BEAM_Z_MM = 44.0  # the central ray runs through the lungs, above the middle of the CT
SOURCE_MM = {"PA": 1830.0, "AP": 1150.0, "LATERAL": 1830.0}
GAP_MM = {"PA": 40.0, "AP": 60.0, "LATERAL": 40.0}  # skin to detector
AXIS = {
    "PA": (1, 1),
    "AP": (1, -1),
    "LATERAL": (0, 1),
}  # axis of the central ray, and +1 where it runs along it
CACHED = 200_000  # samples of the rays taken at a time
ARCH_MM = (
    20.0  # the arch's middle lies so far above its leftmost point, where it turns down
)
# rays a side that are bent: the deformation is smooth, and those between are
# interpolated
BENT = 28


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


@dataclass(frozen=True, eq=False)
class Samples:
    """What the rays meet in the lungs: N samples, one where a ray crosses a slab of the
    CT.

    Attributes:
        ray: (N,) which ray, row * W + column; slab: (N,) which slab of the CT.
        across, up: (N,) where in the slab, -1 to 1; path: mm of the ray in it.
        depth: (N,) signed chest-wall depth in mm (`Anatomy.slabs`); change: mm from the
            last slab to this one.
        soft: (N,) density, g/cm3.
    """

    ray: torch.Tensor
    slab: torch.Tensor
    across: torch.Tensor
    up: torch.Tensor
    path: torch.Tensor
    depth: torch.Tensor
    change: torch.Tensor
    soft: torch.Tensor


@dataclass(frozen=True, eq=False)
class Rays:
    """A patient crossed by the rays of one view, slab by slab.

    Attributes:
        paths: mass along each ray by material, (H, W) each; rows run from superior to
            inferior.
        lung_mm, heart_mm: (H, W) path through the lungs, (H/2, W/2) through the heart,
            for their outlines.
        samples: what the rays meet in the lungs, where findings are planted.
        coarse: (K, 3, n, n): where n x n rays, spread over the film, cross slab k (-1
            to 1), and mm of path in it.
        pixel_mm: pixel side at the middle of the patient.
        anatomy, body, view: what was sampled.
    """

    paths: physics.Paths
    lung_mm: torch.Tensor
    heart_mm: torch.Tensor
    samples: Samples
    coarse: torch.Tensor
    pixel_mm: float
    anatomy: Anatomy
    body: Body
    view: str

    @cached_property
    def organs(self):
        """{"Lungs": bool (H, W), "Heart": ...}: the projected outlines."""
        return {"Lungs": (self.lung_mm > 15).numpy(), "Heart": self.heart.numpy()}

    @cached_property
    def heart(self):
        """(H, W) bool, the heart's outline: where rays cross more than 25 mm of it,
        notches of the mask closed.
        """
        return _outlined(self.heart_mm, self.pixel_mm, tuple(self.lung_mm.shape))


def _outlined(heart_mm, pixel_mm, size):
    """(H, W) bool from the path through the heart (H/2, W/2): more than 25 mm, notches
    of the mask closed.
    """
    wide = 2 * round(4.5 / pixel_mm) + 1  # of pixels twice the film's
    outline = (heart_mm > 25).float()[None, None]
    for sign in (1, -1):
        for side in ((wide, 1), (1, wide)):
            outline = sign * F.max_pool2d(
                sign * outline, side, 1, (side[0] // 2, side[1] // 2)
            )
    return (
        F.interpolate(outline, size=size, mode="bilinear", align_corners=False)[0, 0]
        > 0.5
    )


def heart_outline(rays: Rays, heart):
    """(H, W) bool, the outline of `Rays.heart`, had the same patient a heart of another
    size (`Body.heart`).
    """
    size = len(rays.lung_mm)
    coarse = bend(
        rays.anatomy, replace(rays.body, heart=heart), rays.view, size, BENT // 2
    )
    n, even = coarse.shape[-1], size // 2 * 2
    between = _between(n, size)
    between = (
        between[0:even:2] + between[1:even:2]
    ) / 2  # a ray in the middle of four pixels, as in `_cross`
    across, up, path = (between @ coarse @ between.T).unbind(1)  # (K, H/2, W/2) each
    grid = torch.stack((across, up), dim=-1)
    slabs = rays.anatomy.slabs[:, HEARTS:]
    found = F.grid_sample(slabs, grid, padding_mode="border", align_corners=False)[:, 0]
    return _outlined((found * path).sum(0), rays.pixel_mm, tuple(rays.lung_mm.shape))


def midline(rays: Rays):
    """(H, W) how far to the patient's left of the midline each ray passes the carina's
    depth, mm of the CT.

    The midline is midway between the outer edges of the lungs, where the spine is.
    """
    anatomy = rays.anatomy
    n, size = rays.coarse.shape[-1], len(rays.lung_mm)
    edges = []
    for side in ("right", "left"):
        edges.append(np.mean([point[0] for point in anatomy.marks[f"{side} edge"]]))
    slab = int((anatomy.centres - anatomy.marks["carina"][1]).abs().argmin())
    between = _between(n, size)
    across = between @ rays.coarse[slab, 0] @ between.T
    return across * float(anatomy.half_mm[0]) - float(np.mean(edges))


def rotation(body: Body):
    """(3, 3) from yaw, tilt and roll."""
    a, b, c = np.deg2rad([body.yaw_deg, body.tilt_deg, body.roll_deg])
    yaw = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    roll = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return torch.from_numpy(yaw @ tilt @ roll).float()


def _near(p, centre, radius):
    """(...) 1 at `centre`, 0 far from it, smooth."""
    return torch.exp(
        -(((p - torch.tensor(centre, dtype=torch.float32)).norm(dim=-1) / radius) ** 4)
    )


def to_ct(points, anatomy: Anatomy, body: Body):
    """Where in the CT each point (..., 3) of the virtual patient comes from: pose,
    size, spine, breath, heart.
    """
    half = torch.from_numpy(anatomy.half_mm).float()
    p = points @ rotation(body) / torch.tensor(body.scale)
    lattice = torch.from_numpy(body.wobble)[None]
    p = p + F.grid_sample(
        lattice,
        (p / half)[None].flatten(1, -2)[:, None, None],
        padding_mode="border",
        align_corners=True,
    )[0, :, 0, 0].T.reshape(p.shape)
    x, y, z = p.unbind(-1)
    up = z / half[2]
    x = (x - body.scoliosis_mm * torch.cos(1.6 * up)) / (1 - body.taper * z / 1000)
    y = y - body.kyphosis_mm * (up.clamp(min=0) ** 2)
    bottom, top = (
        min(r[0] for r in anatomy.lung_range.values()),
        max(r[1] for r in anatomy.lung_range.values()),
    )
    # breathing moves the diaphragm and leaves the apex; below the lungs everything
    # moves along
    left = torch.sigmoid((x - anatomy.marks["carina"][0]) / 25)
    breath = body.inspiration_mm[0] * (1 - left) + body.inspiration_mm[1] * left
    z = z + breath * ((top - z) / (top - bottom)).clamp(0, 1) ** 2
    p = torch.stack((x, y, z), dim=-1)
    hearts = np.array(anatomy.marks["heart"])
    shift = torch.zeros_like(p)
    arch = np.array(anatomy.marks["knob"]) + (0, 0, ARCH_MM)
    pulled = body.shift_mm * _near(p, hearts + (0, 0, 40), 110)
    shift[..., 0] = pulled + body.aorta_mm * _near(p, arch, 32)
    p = p - shift
    # the heart grows to the left and down more than to the right: the fixed point lies
    # right of its centre
    fixed = torch.from_numpy(hearts + np.array([-18.0, 0.0, 10.0])).float()
    grow = 1 + (body.heart - 1) * _near(p, fixed.tolist(), 95)[
        ..., None
    ] * torch.tensor([1.0, 0.8, 0.5])
    return fixed + (p - fixed) / grow


def bend(anatomy: Anatomy, body: Body, view, size, n):
    """Follow n x n rays of a cone beam through the bent patient.

    Args:
        size: rows and columns of the detector, over which the n x n rays are spread.
    Returns:
        (K, 3, n, n): where ray (row, column) crosses slab k (across and up, -1 to 1)
        and its path through it in mm.
    Raises:
        ValueError: the anatomy was cut for another view.
    """
    axis, sign = AXIS[view]
    if axis != anatomy.axis:
        raise ValueError(
            f"expected an anatomy cut along axis {axis} for {view}, got {anatomy.axis}. "
            f"Try from_arrays(..., axis={axis})"
        )
    depth = float(anatomy.half_mm[axis])
    middle = (
        SOURCE_MM[view] - GAP_MM[view] - depth
    )  # from the source to the middle of the patient
    along = torch.linspace(-1, 1, 15) * (
        1.35 * depth + 20
    )  # the patient may be larger than the CT
    across = torch.linspace(-0.5, 0.5, n) * FIELD_MM * (size - 1) / size
    grow = (middle + along) / middle  # rays spread away from the source
    u = (grow[:, None] * across[None])[:, None, :].expand(-1, n, n)
    v = (grow[:, None] * -across[None])[:, :, None].expand(-1, n, n) + BEAM_Z_MM
    t = (sign * along)[:, None, None].expand(-1, n, n)
    there = to_ct(
        torch.stack((u, t, v) if axis == 1 else (t, -u, v), dim=-1), anatomy, body
    )  # (15, n, n, 3)
    slant = torch.sqrt(1 + (across[None] ** 2 + across[:, None] ** 2) / middle**2)
    return _crossings(there, along, slant, anatomy, axis, sign)


def _crossings(there, along, slant, anatomy, axis, sign):
    """From points along each ray to the points where it crosses the slabs' middles,
    linear in between.
    """
    order = (
        there[..., axis].movedim(0, -1).contiguous() * sign
    )  # (n, n, 15), increasing along the ray
    if (order.diff(dim=-1) <= 0).any():
        raise ValueError(
            "expected a body that rays cross once, got one that folds. Try a smaller yaw, wobble or heart"
        )
    wanted = (
        (anatomy.centres * sign).expand(*order.shape[:2], -1).contiguous()
    )  # (n, n, K)
    hi = torch.searchsorted(order, wanted).clamp(1, len(along) - 1)
    a, b = order.gather(2, hi - 1), order.gather(2, hi)
    share = (wanted - a) / (b - a)
    step = (
        (along[1] - along[0])
        / (b - a).abs()
        * abs(float(anatomy.centres[1] - anatomy.centres[0]))
    )
    half = anatomy.half_mm
    out = []
    for k in (1 - axis, 2):
        c = there[..., k].movedim(0, -1)
        c0, c1 = c.gather(2, hi - 1), c.gather(2, hi)
        out.append((c0 + share * (c1 - c0)) / float(half[k]))
    return (
        torch.stack((*out, step * slant[..., None]), dim=0)
        .permute(3, 0, 1, 2)
        .contiguous()
    )  # (K, 3, n, n)


@lru_cache(maxsize=8)
def _between(n, size):
    """(size, n) weights of the linear interpolation from n points to size over the same
    extent.
    """
    at = torch.linspace(0, n - 1, size)
    return (1 - (at[:, None] - torch.arange(n)).abs()).clamp(min=0)


@lru_cache(maxsize=8)
def _woven(n, size):
    """(2 n, 2 size) the same for two coordinates beside each other: a picture of pairs
    without a copy.
    """
    between, woven = _between(n, size).T, torch.zeros(2 * n, 2 * size)
    woven[:n, 0::2], woven[n:, 1::2] = between, between
    return woven


def sample(anatomy: Anatomy, body: Body, view="PA", size=160) -> Rays:
    """Sample the deformed patient along the rays of one view; the costly step, shared
    by a patient's studies.

    Each slab of the CT is a picture, and looking it up where the rays cross it is a 2-D
    interpolation, about five times cheaper than a 3-D one and exact in depth: the
    change of variable from the ray to the slabs is in the path.
    """
    coarse, pixel_mm = bend(anatomy, body, view, size, BENT), FIELD_MM / size
    sums, heart, samples = _cross(anatomy.slabs, coarse, size)
    soft, bone, lungs, hard, lung_mm = *sums[:4] / 10, sums[4]  # g/cm2, the last in mm
    gland, fat = _soft_tissue(soft, body, anatomy, view, pixel_mm)
    a, b = physics.in_water_and_bone("fat")
    soft = soft + (body.lung - 1) * lungs + gland + a * fat
    bone = (
        bone + (body.bone - 1) * hard + b * fat
    )  # fat counts below 0 in the basis, and age leaves it alone
    paths = physics.Paths(soft, bone, torch.zeros_like(soft))
    return Rays(paths, lung_mm, heart, samples, coarse, pixel_mm, anatomy, body, view)


def _cross(slabs, coarse, size):
    """Look a few slabs up at a time, so that they stay in the cache: sums (5, H, W),
    heart (H/2, W/2), lung samples.
    """
    n, step = coarse.shape[-1], max(1, CACHED // size**2)
    between, woven = _between(n, size), _woven(n, size)
    sums, half = torch.zeros(5, size, size), torch.zeros(size // 2, size // 2)
    found, last = [], torch.zeros(1, size, size)
    for k in range(0, len(slabs), step):
        rows, here = (
            between @ coarse[k : k + step],
            slabs[k : k + step],
        )  # (step, 3, H, n)
        grid = (rows[:, :2].movedim(1, 2).reshape(-1, size, 2 * n) @ woven).reshape(
            -1, size, size, 2
        )  # across, up
        path = rows[:, 2] @ between.T  # (step, H, W)
        tissue = F.grid_sample(
            here[:, :HEARTS], grid, padding_mode="reflection", align_corners=False
        )
        soft = tissue[:, SOFT]
        depth = tissue[:, DEPTH] * (
            grid[..., 1].abs() <= 1
        )  # what is mirrored beyond the CT's ends is no second lung
        within = depth.abs() > 0.5
        for p, w, s, b in zip(path, within * path, soft, tissue[:, BONE], strict=True):
            sums[0].addcmul_(s, p)
            sums[1].addcmul_(b, p)
            sums[2].addcmul_(s, w)
            sums[3].addcmul_(b.clamp(min=0), p)
            sums[4] += w
        even = (
            size // 2 * 2
            # of the heart an outline is wanted: one ray in the middle of four pixels will
            # do
        )
        middle = (grid[:, 0:even:2, 0:even:2] + grid[:, 1:even:2, 1:even:2]) / 2
        heart = F.grid_sample(
            here[:, HEARTS:], middle, padding_mode="border", align_corners=False
        )[:, 0]
        half += (heart * path[:, 0:even:2, 0:even:2]).sum(0)
        change = (depth - torch.cat((last, depth[:-1]))).abs()
        last = depth[-1:]
        index = torch.nonzero(within.flatten()).squeeze(1).int()
        across, up = grid.view(-1, 2).index_select(0, index).T.contiguous()
        flat = [x.flatten().index_select(0, index) for x in (path, depth, change, soft)]
        found.append((index % size**2, k + index // size**2, across, up, *flat))
    return (
        sums,
        half,
        Samples(*(torch.cat(parts) for parts in zip(*found, strict=True))),
    )


def _soft_tissue(soft, body, anatomy, view, pixel_mm):
    """What the CT's patient lacks, gland and fat in g/cm2: breasts (two flattened
    domes), and fat on both sides.
    """
    layer = 2 * body.fat_mm / 10 * physics.DENSITY["fat"] * (soft > 1).float()
    if not body.breast_mm or view == "LATERAL":
        return torch.zeros_like(soft), layer
    size = len(soft)
    at = (torch.arange(size) + 0.5 - size / 2) * pixel_mm
    r = body.breast_mm
    chord = torch.zeros_like(soft)
    for sign in (-1, 1):
        x0 = anatomy.marks["carina"][0] * 0.5 + sign * 88 * body.scale[0]
        z0 = anatomy.marks["heart"][2] - 30 - BEAM_Z_MM
        off = ((at[None] - x0) / 1.1) ** 2 + (
            -at[:, None] - z0 - 0.25 * (at[None] - x0).abs()
        ) ** 2
        chord = torch.maximum(
            chord, 0.6 * (r**2 - off).clamp(min=0) / r
        )  # flat against the stand, soft at the rim
    return chord / 10 * 0.35, layer + chord / 10 * 0.6  # a third of it glandular


def line_integral(rays: Rays, kev=60):
    """(H, W) attenuation along each ray at one energy (Beer-Lambert)."""
    return physics.line_integral(rays.paths, kev)
