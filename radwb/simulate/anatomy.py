"""One real chest CT with organ masks, cut once into slabs that the rays cross."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import get_ident

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from radwb.simulate import physics, repair
from radwb.simulate.organs import (
    BONES,
    HEART,
    LOBES,
    LUNGS,
    check_version,
    landmarks,
    middle,
)

VERSION = 3  # raise it with any change of what an anatomy holds: caches are named by it
# side of the square that the rays sample at the patient; a film shows its middle
FIELD_MM = 345.0
# thickness of a slab along the rays: within one, rays at the film's edge part by 0.4 mm
SLAB_MM = 7.0
GRID_MM = 2.2  # isotropic grid of regions and landmarks
# a film shows more neck and belly than the CT holds: both ends go on as their mirror
# image
ENDS_MM = 36.0
SOFT_HU = 60  # the CT carries iodine; a radiograph's patient does not
FAT_HU = -80  # what is mirrored beyond the ends is as dense as that, and so no lung
REACH_MM = 60  # half the width of the widest notch in the lungs that is closed
RIM_MM = 5.0  # a lung's rim is left out where its vessels are looked up
SOFT, BONE, DEPTH, HEARTS = range(4)  # channels


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the projector needs of a CT, centred on the volume.

    X runs to the patient's left, Y to anterior, Z up.

    Attributes:
        slabs: (K, C, Z, W) float32, K slabs from posterior to anterior and W = X; for
            the lateral view from right to left and W = Y. Channels: water and bone in
            g/cm3 (`physics.materials`); depth under the chest wall in mm, positive in
            the right lung and negative in the left; heart, 0 to 1.
        axis: the world axis that the slabs are stacked along: 1 (Y) for PA and AP, 0
            (X) for lateral.
        half_mm: half the extent along X, Y, Z.
        lobes: (Z, Y, X) int16 lobe labels on a grid of about GRID_MM with the same
            extent.
        marks: landmark -> (x, y, z) mm, or a list of them along a line.
        lung_range: {"right": (lowest, highest z in mm), "left": ...}.
    """

    slabs: torch.Tensor
    axis: int
    half_mm: np.ndarray
    lobes: np.ndarray
    marks: dict
    lung_range: dict

    @property
    def centres(self):
        """(K,) position of the slabs' middles along `axis`, mm."""
        k = len(self.slabs)
        thickness = 2 * float(self.half_mm[self.axis]) / k
        return (torch.arange(k) + 0.5 - k / 2) * thickness

    @cached_property
    def digest(self):
        """A name that follows from the content."""
        text = json.dumps(
            [self.axis, self.half_mm.tolist(), self.marks, self.lung_range]
        )
        content = self.slabs.numpy().tobytes() + self.lobes.tobytes() + text.encode()
        return hashlib.sha256(content).hexdigest()[:16]

    @cached_property
    def thick_bone(self):
        """(K // 2, 1, Z, W) bone of two slabs each, g/cm3, without fat."""
        bone = self.slabs[:, BONE : BONE + 1].clamp(min=0)
        return (bone[:-1:2] + bone[1::2]) / 2

    @cached_property
    def lungs(self):
        """(K, Z, W) density well within the lungs, far below 0 elsewhere."""
        is_lung = (self.slabs[:, DEPTH].abs() > RIM_MM).float()
        # without the voxels that border on what is none
        is_inner = -F.max_pool3d(-is_lung[None], 3, 1, 1)[0] > 0.5
        return torch.where(is_inner, self.slabs[:, SOFT], -3.0)

    @cached_property
    def lobe_points(self):
        """Lobe label -> (N, 3) positions in mm."""
        voxel = 2 * self.half_mm / np.array(self.lobes.shape[::-1])
        points = {}
        for i in LOBES:
            indices = np.argwhere(self.lobes == i)[:, ::-1]
            points[i] = (indices + 0.5) * voxel - self.half_mm
        return points

    def lobe_at(self, points):
        """Lobe labels (N,) at positions (N, 3) in mm."""
        size = torch.tensor(self.lobes.shape[::-1])
        half = torch.from_numpy(self.half_mm).float()
        i = ((points / half + 1) / 2 * size).long().clamp(min=0).minimum(size - 1)
        return torch.from_numpy(self.lobes)[i[:, 2], i[:, 1], i[:, 0]]


@lru_cache(maxsize=3)
def default_anatomy(
    spacing_mm: float = FIELD_MM / 160,
    axis: int = 1,
    slab_mm: float = SLAB_MM,
    *,
    as_scanned: bool = False,
) -> Anatomy:
    """The chest CT that films are made of, to render more of it than the default does.

    It is LIDC-IDRI-0001 (TCIA, CC BY 3.0; Armato et al. 2011) with its mask, fetched
    through the catalog. The patient has a lung tumour, a band in the lingula and
    undiluted contrast in a vein: all films would show them, whatever their labels say.
    They are taken out (`repair`); `as_scanned` keeps them, for the lesson.

    >>> anatomy = rw.simulate.default_anatomy(as_scanned=True)
    >>> scan = rw.simulate.render(anatomy=anatomy)

    Args:
        spacing_mm, axis, slab_mm: as in `from_arrays`; the slabs are kept in the cache
            under `VERSION`.
        as_scanned: keep what the patient had.
    """
    from radwb.data import cache_folder, fetch
    from radwb.data.private import private_folder

    state = "scanned" if as_scanned else "healthy"
    name = f"lidc-ct-{state}-{axis}-{spacing_mm:.3f}-{slab_mm:g}mm-v{VERSION}.npz"
    path = cache_folder() / "anatomy" / name
    if not path.exists():
        hu, labels, voxel_mm = _read_ct(fetch("lidc-ct"))
        if not as_scanned:
            hu, labels = repair.healthy(hu, labels, voxel_mm)
        anatomy = from_arrays(
            hu,
            labels,
            voxel_mm,
            spacing_mm,
            axis=axis,
            slab_mm=slab_mm,
        )
        private_folder(path.parent)
        part = path.with_name(f"{path.stem}.{os.getpid()}-{get_ident()}.part.npz")
        text = json.dumps([anatomy.marks, anatomy.lung_range])
        arrays = dict(half=anatomy.half_mm, lobes=anatomy.lobes, text=text)
        np.savez(part, slabs=anatomy.slabs.numpy(), **arrays)
        os.replace(part, path)
    with np.load(path) as f:
        marks, ranges = json.loads(str(f["text"]))
        slabs = torch.from_numpy(f["slabs"])
        return Anatomy(slabs, axis, f["half"], f["lobes"], marks, ranges)


def _read_ct(folder):
    import nibabel as nib

    ct = nib.load(folder / "cxr.nii.gz")
    axes = nib.aff2axcodes(ct.affine)
    if axes != ("L", "A", "S"):
        raise ValueError(f"expected a CT with axes L, A, S, got {axes}")
    hu = np.asarray(ct.dataobj, dtype=np.float32)
    labels = np.asarray(nib.load(folder / "mask.nii.gz").dataobj).astype(np.int16)
    return hu, labels, ct.header.get_zooms()[:3]


def from_arrays(
    hu: np.ndarray,
    labels: np.ndarray,
    voxel_mm: tuple[float, float, float],
    spacing_mm: float = FIELD_MM / 160,
    *,
    axis: int = 1,
    slab_mm: float = SLAB_MM,
    version: int | None = None,
) -> Anatomy:
    """Make virtual films of your own CT: an `Anatomy` from it and its organ mask.

    >>> hu = np.full((60, 50, 40), 40.0)
    >>> labels = np.zeros(hu.shape, int)
    >>> for k, lobe in enumerate((14, 13, 12, 11, 10)):
    ...     labels[5 + 10 * k : 15 + 10 * k, 10:40, 5:35] = lobe
    >>> hu[labels > 0] = -800
    >>> labels[25:35, 20:30, 10:20] = 51
    >>> anatomy = rw.simulate.from_arrays(hu, labels, (6.0, 6.0, 8.0))

    Args:
        hu: (X, Y, Z) Hounsfield units, axes to the patient's left, anterior, superior.
        labels: (X, Y, Z) integer organ mask with the numbers of TotalSegmentator 2:
            lobes 10 to 14 and the heart 51 are needed; trachea 16, aorta 52, superior
            vena cava 62 and bones sharpen the landmarks.
        voxel_mm: three voxel sides in mm.
        spacing_mm: the pixel wanted across the rays.
        axis: 1 for PA and AP, 0 for lateral films.
        slab_mm: thickness of a slab along the rays.
        version: 2 takes the mask's numbers as said; None looks whether the lobes'
            voxels hold air in the CT.
    Raises:
        ValueError: shapes differ, lobes or heart are missing, or the numbers aren't
            those of TotalSegmentator 2.
    """
    _check_arrays(hu, labels, voxel_mm)
    check_version(hu, labels, version)
    body = body_mask(hu, voxel_mm)
    front, back = np.flatnonzero(body.any((0, 2)))[[0, -1]]
    inside = np.s_[:, front : back + 1]
    more = round(ENDS_MM / voxel_mm[2])
    hu, labels, bones = _extended(hu[inside], labels[inside], body[inside], more)
    half = np.array(labels.shape) * voxel_mm / 2
    lobes, depth, heart = _regions(labels, half)
    sides = np.full(3, float(spacing_mm))
    sides[axis] = slab_mm
    shape = _grid(half, sides)
    channels = [_to_grid(m, shape) for m in physics.materials(hu, bones)]
    channels += [_resized(depth, shape), _resized(heart, shape)]
    slabs = torch.stack(channels).movedim(3 - axis, 0).contiguous()  # (K, C, Z, W)
    ranges = _lung_ranges(lobes, half)
    marks = landmarks(labels, lobes, half, middle(labels == HEART, half), ranges)
    return Anatomy(slabs, axis, half, lobes, marks, ranges)


def _check_arrays(hu, labels, voxel_mm):
    if hu.shape != labels.shape:
        raise ValueError(
            f"expected a mask of the CT's shape {hu.shape}, got {labels.shape}. "
            "Try: resample the mask"
        )
    sides = np.asarray(voxel_mm, dtype=float)
    if sides.shape != (3,) or not np.isfinite(sides).all() or sides.min() <= 0:
        raise ValueError(
            f"expected three positive voxel sides in mm, got {voxel_mm}. "
            "Try header.get_zooms()[:3]"
        )


def body_mask(hu, voxel_mm):
    """The largest connected piece denser than -300 HU, filled, without the couch."""
    # clothes and lines on the skin are thin; the chest wall isn't
    thin = max(1, round(1.5 / min(voxel_mm)))
    pieces, n = ndimage.label(ndimage.binary_opening(hu > -300, iterations=thin))
    if not n:
        raise ValueError(
            "expected a body denser than -300 HU in the CT, got none. "
            "Try: is it in Hounsfield units?"
        )
    sizes = np.bincount(pieces.ravel())[1:]
    body = pieces == 1 + np.argmax(sizes)
    grown = ndimage.binary_dilation(body, iterations=thin)
    slices = [ndimage.binary_fill_holes(s) for s in np.moveaxis(grown, 2, 0)]
    return np.stack(slices, axis=2)


def without_iodine(hu, labels):
    """Clip all but bone to soft tissue: iodine in vessels would project like bone."""
    return np.where(np.isin(labels, BONES), hu, np.minimum(hu, SOFT_HU))


def _extended(hu, labels, body, more):
    """Densities, labels and bones with `more` mirrored slices at both ends.

    There are no lungs in them.
    """
    ends = ((0, 0), (0, 0), (more, more))
    clean = np.where(body, without_iodine(hu, labels), -1000).clip(-1000, 2000)
    clean = np.pad(clean, ends, mode="reflect")
    mirrored = np.pad(body, ends, mode="reflect")
    mirrored[:, :, more : clean.shape[2] - more] = False
    clean[mirrored] = np.maximum(clean[mirrored], FAT_HU)
    bones = np.pad(np.isin(labels, BONES), ends, mode="reflect")
    return clean, np.pad(labels, ends), bones


def _grid(half, sides):
    """(Z, Y, X) counts of voxels with these sides."""
    counts = [round(2 * h / side) for h, side in zip(half, sides, strict=True)]
    return tuple(counts[::-1])


def _to_grid(array, shape):
    """(X, Y, Z) array to (Z, Y, X): mean in the plane, linear along the slices."""
    array = np.ascontiguousarray(array.transpose(2, 1, 0), dtype=np.float32)
    slices = torch.from_numpy(array)[None]  # they ride as channels
    return _resized(F.interpolate(slices, size=shape[1:], mode="area")[0], shape)


def _resized(volume, shape):
    return F.interpolate(volume[None, None], size=shape, mode="trilinear")[0, 0]


def _regions(labels, half):
    """Lobes (Z, Y, X), signed chest-wall depth and heart on the isotropic grid."""
    shape = _grid(half, (GRID_MM,) * 3)
    parts = torch.stack([_to_grid(labels == i, shape) for i in LOBES]).numpy()
    numbers = np.array(list(LOBES))[parts.argmax(0)]
    lobes = np.where(parts.max(0) > 0.5, numbers, 0).astype(np.int16)
    masks = {side: np.isin(labels, ids) for side, ids in LUNGS.items()}
    right = _to_grid(masks["right"], shape).numpy() > 0.5
    left = _to_grid(masks["left"], shape).numpy() > 0.5
    depth = chest_wall_depth(right | left, tuple(2 * half[::-1] / shape)) + 1
    signed = depth * (right.astype(np.float32) - left)
    heart = _to_grid(labels == HEART, shape)
    return lobes, torch.from_numpy(signed.astype(np.float32)), heart


def chest_wall_depth(lungs, spacing_mm):
    """Distance in mm to the chest wall, not to the mediastinum.

    The lungs are closed over `REACH_MM` first.
    """
    pad = int(np.ceil(REACH_MM / min(spacing_mm))) + 2
    away = ndimage.distance_transform_edt(~np.pad(lungs, pad), sampling=spacing_mm)
    inside = ndimage.distance_transform_edt(away <= REACH_MM, sampling=spacing_mm)
    closed = inside > REACH_MM
    depth = ndimage.distance_transform_edt(closed, sampling=spacing_mm)
    return depth[pad:-pad, pad:-pad, pad:-pad]


def _lung_ranges(lobes, half):
    voxel = 2 * half[2] / len(lobes)
    ranges = {}
    for side, ids in LUNGS.items():
        z = np.flatnonzero(np.isin(lobes, ids).any((1, 2)))
        bottom = float(z[0] * voxel - half[2])
        ranges[side] = (bottom, float((z[-1] + 1) * voxel - half[2]))
    return ranges
