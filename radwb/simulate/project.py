"""Rays through a deformed patient: a cone beam, and the mass along each ray."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import physics
from radwb.simulate.anatomy import BONE, DEPTH, FIELD_MM, HEARTS, SOFT, Anatomy
from radwb.simulate.body import Body, bone_shift, soft_tissue, to_ct
from radwb.simulate.frame import framed
from radwb.simulate.vessels import retextured

BEAM_Z_MM = 44.0  # the central ray runs through the lungs, above the middle of the CT
SOURCE_MM = {"PA": 1830.0, "AP": 1150.0, "LATERAL": 1830.0}
GAP_MM = {"PA": 40.0, "AP": 60.0, "LATERAL": 40.0}  # skin to detector
# axis of the central ray, and +1 where it runs along it
AXIS = {"PA": (1, 1), "AP": (1, -1), "LATERAL": (0, 1)}
CACHED = 200_000  # samples of the rays taken at a time
# rays a side that are bent: the deformation is smooth, and those between are
# interpolated
BENT = 28
STEPS = 15  # points that each of them is followed at
HEART_MM = 25  # path through the heart, from which on a ray lies within its outline
NOTCH_MM = 4.5  # half the width of the notches of its mask that are closed


@dataclass(frozen=True, eq=False)
class Samples:
    """What the rays meet in the lungs: N samples, one where a ray crosses a slab.

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
        """(H, W) bool, the heart's outline."""
        return _outlined(self.heart_mm, self)


def _outlined(heart_mm, rays):
    """(H, W) bool from the path through a heart (H/2, W/2), notches of it closed."""
    wide = 2 * round(NOTCH_MM / rays.pixel_mm) + 1  # of pixels twice the film's
    outline = (heart_mm > HEART_MM).float()[None, None]
    for sign in (1, -1):
        for side in ((wide, 1), (1, wide)):
            margin = (side[0] // 2, side[1] // 2)
            outline = sign * F.max_pool2d(sign * outline, side, 1, margin)
    outline = F.interpolate(
        outline,
        size=rays.lung_mm.shape,
        mode="bilinear",
        align_corners=False,
    )
    return outline[0, 0] > 0.5


def heart_outline(rays: Rays, heart):
    """(H, W) bool, the outline of a heart of another size (`Body.heart`)."""
    size = len(rays.lung_mm)
    body = replace(rays.body, heart=heart)
    coarse = bend(rays.anatomy, body, rays.view, size, BENT // 2)
    between = _between(coarse.shape[-1], size)
    even = size // 2 * 2
    # a ray in the middle of four pixels, as in `_heart_mm`
    between = (between[0:even:2] + between[1:even:2]) / 2
    across, up, path = (between @ coarse @ between.T).unbind(1)  # (K, H/2, W/2) each
    grid = torch.stack((across, up), dim=-1)
    share = _heart_share(rays.anatomy.slabs, grid)
    return _outlined((share * path).sum(0), rays)


def _heart_share(slabs, grid):
    return F.grid_sample(
        slabs[:, HEARTS:],
        grid,
        padding_mode="border",
        align_corners=False,
    )[:, 0]


def midline(rays: Rays):
    """(H, W) how far left of the midline each ray passes the carina's depth, mm.

    The midline is midway between the outer edges of the lungs, where the spine is; the
    mm are those of the CT.
    """
    anatomy = rays.anatomy
    edges = []
    for side in ("right", "left"):
        edges.append(np.mean([point[0] for point in anatomy.marks[f"{side} edge"]]))
    slab = int((anatomy.centres - anatomy.marks["carina"][1]).abs().argmin())
    between = _between(rays.coarse.shape[-1], len(rays.lung_mm))
    across = between @ rays.coarse[slab, 0] @ between.T
    return across * float(anatomy.half_mm[0]) - float(np.mean(edges))


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
            f"expected an anatomy cut along axis {axis} for {view}, got "
            f"{anatomy.axis}. Try from_arrays(..., axis={axis})"
        )
    depth = float(anatomy.half_mm[axis])
    # from the source to the middle of the patient
    middle = SOURCE_MM[view] - GAP_MM[view] - depth
    # the patient may be larger than the CT
    along = torch.linspace(-1, 1, STEPS) * (1.35 * depth + 20)
    across = torch.linspace(-0.5, 0.5, n) * FIELD_MM * (size - 1) / size
    grow = (middle + along) / middle  # rays spread away from the source
    u = (grow[:, None] * across[None])[:, None, :].expand(-1, n, n)
    v = (grow[:, None] * -across[None])[:, :, None].expand(-1, n, n) + BEAM_Z_MM
    t = (sign * along)[:, None, None].expand(-1, n, n)
    points = (u, t, v) if axis == 1 else (t, -u, v)
    there = to_ct(torch.stack(points, dim=-1), anatomy, body)  # (STEPS, n, n, 3)
    slant = torch.sqrt(1 + (across[None] ** 2 + across[:, None] ** 2) / middle**2)
    return _crossings(there, along, slant, anatomy, sign)


def _crossings(there, along, slant, anatomy, sign):
    """Where rays cross the slabs' middles, linear between the points along each ray."""
    axis = anatomy.axis
    # (n, n, STEPS), increasing along the ray
    order = there[..., axis].movedim(0, -1).contiguous() * sign
    if (order.diff(dim=-1) <= 0).any():
        raise ValueError(
            "expected a body that rays cross once, got one that folds. "
            "Try a smaller yaw, wobble or heart"
        )
    centres = anatomy.centres * sign
    centres = centres.expand(*order.shape[:2], -1).contiguous()  # (n, n, K)
    after = torch.searchsorted(order, centres).clamp(1, len(along) - 1)
    a = order.gather(2, after - 1)
    b = order.gather(2, after)
    share = (centres - a) / (b - a)
    thickness = abs(float(anatomy.centres[1] - anatomy.centres[0]))
    path = (along[1] - along[0]) / (b - a).abs() * thickness
    places = []
    for k in (1 - axis, 2):
        c = there[..., k].movedim(0, -1)
        before = c.gather(2, after - 1)
        place = before + share * (c.gather(2, after) - before)
        places.append(place / float(anatomy.half_mm[k]))
    crossings = torch.stack((*places, path * slant[..., None]), dim=0)
    return crossings.permute(3, 0, 1, 2).contiguous()  # (K, 3, n, n)


@lru_cache(maxsize=8)
def _between(n, size):
    """(size, n) weights of the interpolation from n points to size over one extent."""
    at = torch.linspace(0, n - 1, size)
    return (1 - (at[:, None] - torch.arange(n)).abs()).clamp(min=0)


@lru_cache(maxsize=8)
def _woven(n, size):
    """(2 n, 2 size) the same for two coordinates: a picture of pairs without a copy."""
    between = _between(n, size).T
    woven = torch.zeros(2 * n, 2 * size)
    woven[:n, 0::2] = between
    woven[n:, 1::2] = between
    return woven


def sample(anatomy: Anatomy, body: Body, view="PA", size=160) -> Rays:
    """Sample the deformed patient along the rays of one view.

    It is the costly step, shared by a patient's studies. Each slab of the CT is a
    picture, and looking it up where the rays cross it is a 2-D interpolation, about
    five times cheaper than a 3-D one and exact in depth: the change of variable from
    the ray to the slabs is in the path.
    """
    coarse = bend(anatomy, body, view, size, BENT)
    pixel_mm = FIELD_MM / size
    sums, heart_mm, samples = _cross(anatomy.slabs, coarse, size)
    soft, bone, lungs, hard = sums[:4] / 10  # g/cm2
    if body.marking != 1 or body.vessels is not None:
        samples, change = _retextured(samples, anatomy, body, size)
        soft = soft + change
        lungs = lungs + change
    gland, fat = soft_tissue(soft, body, anatomy, view, pixel_mm, BEAM_Z_MM)
    a, b = physics.in_water_and_bone("fat")
    if body.bones is not None:
        change = _moved_bone(anatomy, body, coarse, size) / 10 - hard
        hard = hard + change
        bone = bone + change
        soft = soft - change * physics.BESIDE_BONE
    soft = soft + (body.lung - 1) * lungs + gland + a * fat
    # fat counts below 0 in the basis, and age leaves it alone
    bone = bone + (body.bone - 1) * hard + b * fat
    if body.frame is not None and view != "LATERAL":
        soft, bone = framed(
            soft, bone, _middle(coarse, anatomy, size), body.frame, anatomy
        )
    paths = physics.Paths(soft, bone, torch.zeros_like(soft))
    sampled = (anatomy, body, view)
    return Rays(paths, sums[4], heart_mm, samples, coarse, pixel_mm, *sampled)


def _middle(coarse, anatomy, size):
    """Where each ray crosses the CT's middle slab, (H, W) of X and of Z in mm."""
    between = _between(coarse.shape[-1], size)
    across, up = between @ coarse[len(coarse) // 2, :2] @ between.T
    half = anatomy.half_mm
    return across * float(half[0]), up * float(half[2])


def _retextured(samples, anatomy, body, size):
    """The samples with other vessels, and (H, W) g/cm2 that they add along the rays."""
    along = anatomy.centres[samples.slab]
    where = _in_mm(samples.across, along, samples.up, anatomy)
    soft = retextured(samples.soft, samples.depth, where, anatomy, body)
    change = torch.zeros(size**2)
    change.index_add_(0, samples.ray, (soft - samples.soft) * samples.path / 10)
    return replace(samples, soft=soft), change.reshape(size, size)


def _moved_bone(anatomy, body, coarse, size):
    """(H, W) density times mm of bone on its own way (`Body.bones`).

    Bones are smooth along the rays: two slabs are taken for one.
    """
    pairs = (coarse[:-1:2] + coarse[1::2]) / 2
    along = (anatomy.centres[:-1:2] + anatomy.centres[1::2]) / 2
    places = _of_bones(pairs, along, anatomy, body)
    between = _between(coarse.shape[-1], size)
    total = torch.zeros(size, size)
    step = max(1, CACHED // size**2)
    for k in range(0, len(places), step):
        here = slice(k, k + step)
        bone = _tissue(anatomy.thick_bone[here], _places(places[here], size))
        path = between @ (2 * pairs[here, 2]) @ between.T
        total += (bone[:, 0] * path).sum(0)
    return total


def _of_bones(coarse, along, anatomy, body):
    """(K, 2, n, n) across and up, -1 to 1, where the bones come from that rays meet.

    Args:
        along: (K,) where the slabs of `coarse` lie, mm.
    """
    across, up, _ = coarse.unbind(1)
    where = _in_mm(across, along[:, None, None].expand_as(up), up, anatomy)
    half = torch.from_numpy(anatomy.half_mm).float()
    shift = bone_shift(where, anatomy, body) / half
    across_shift = shift[..., 1 - anatomy.axis]
    return torch.stack((across + across_shift, up + shift[..., 2]), dim=1)


def _in_mm(across, along, up, anatomy):
    """(..., 3) X, Y, Z in the CT of points across and up (-1 to 1) and along (mm)."""
    half = anatomy.half_mm
    across = across * float(half[1 - anatomy.axis])
    x, y = (across, along) if anatomy.axis == 1 else (along, across)
    return torch.stack((x, y, up * float(half[2])), dim=-1)


def _cross(slabs, coarse, size):
    """Sums along the rays, the path through the heart, and what lies in the lungs.

    A few slabs are looked up at a time, so that they stay in the processor's cache.

    Returns:
        (5, H, W): density times mm of water, bone, water of the lungs and bone without
        fat, and mm of lung; (H/2, W/2) mm of heart; `Samples`.
    """
    between = _between(coarse.shape[-1], size)
    step = max(1, CACHED // size**2)
    sums = torch.zeros(5, size, size)
    heart_mm = torch.zeros(size // 2, size // 2)
    last = torch.zeros(1, size, size)
    parts = []
    for k in range(0, len(slabs), step):
        here = slabs[k : k + step]
        grid = _places(coarse[k : k + step], size)
        path = between @ coarse[k : k + step, 2] @ between.T  # (step, H, W)
        tissue = _tissue(here[:, :HEARTS], grid)
        # what is mirrored beyond the CT's ends is no second lung
        depth = tissue[:, DEPTH] * (grid[..., 1].abs() <= 1)
        within = depth.abs() > 0.5
        _add(sums, tissue, path, within * path)
        heart_mm += _heart_mm(here, grid, path)
        change = (depth - torch.cat((last, depth[:-1]))).abs()
        last = depth[-1:]
        index = torch.nonzero(within.flatten()).squeeze(1).int()
        across, up = grid.view(-1, 2).index_select(0, index).T.contiguous()
        measured = (path, depth, change, tissue[:, SOFT])
        flat = [x.flatten().index_select(0, index) for x in measured]
        parts.append((index % size**2, k + index // size**2, across, up, *flat))
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return sums, heart_mm, Samples(*columns)


def _places(coarse, size):
    """(K, H, W, 2) across and up of all rays, from those of n x n."""
    n = coarse.shape[-1]
    rows = _between(n, size) @ coarse[:, :2]  # (K, 2, H, n)
    pairs = rows.movedim(1, 2).reshape(-1, size, 2 * n)
    return (pairs @ _woven(n, size)).reshape(-1, size, size, 2)


def _tissue(slabs, grid):
    return F.grid_sample(
        slabs,
        grid,
        padding_mode="reflection",
        align_corners=False,
    )


def _add(sums, tissue, path, lung_path):
    """Add the mass of some slabs, one after another, to the sums of `_cross`."""
    soft = tissue[:, SOFT]
    bone = tissue[:, BONE]
    for s, b, p, w in zip(soft, bone, path, lung_path, strict=True):
        sums[0].addcmul_(s, p)
        sums[1].addcmul_(b, p)
        sums[2].addcmul_(s, w)
        sums[3].addcmul_(b.clamp(min=0), p)
        sums[4] += w


def _heart_mm(slabs, grid, path):
    """(H/2, W/2) path through the heart of one ray in the middle of four pixels.

    Of the heart an outline is wanted, and that will do.
    """
    even = path.shape[-1] // 2 * 2
    first = slice(0, even, 2)
    second = slice(1, even, 2)
    middle = (grid[:, first, first] + grid[:, second, second]) / 2
    return (_heart_share(slabs, middle) * path[:, first, first]).sum(0)
