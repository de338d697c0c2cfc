"""One real chest CT with organ masks, cut once into slabs that the rays cross, and the
landmarks of its findings.
"""

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

VERSION = 3  # raise it with any change of what an anatomy holds: caches are named by it
# side of the square that the rays sample at the patient; a film shows its middle
FIELD_MM = 345.0
# thickness of a slab along the rays: within one, rays at the film's edge part by 0.4 mm
SLAB_MM = 7.0
GRID_MM = 2.2  # isotropic grid of regions and landmarks
# a film shows more neck and belly than the CT holds: both ends go on as their mirror
# image
ENDS_MM = 36.0
LOBES = {
    10: "left upper lobe",
    11: "left lower lobe",
    12: "right upper lobe",
    13: "right middle lobe",
    14: "right lower lobe",
}  # TotalSegmentator 2; structures.csv of the CT names them
LOBES_V1 = range(13, 18)  # of TotalSegmentator 1
# a lung is below it, also a dense one; pancreas, adrenal glands and oesophagus are not
AIR_HU = -400
RIGHT, LEFT = (12, 13, 14), (10, 11)
HEART, TRACHEA, AORTA, CAVA = 51, 16, 52, 62
BONES = (
    *range(25, 51),
    *range(69, 79),
    *range(92, 117),
)  # vertebrae, limb girdles, ribs, sternum
SOFT_HU = 60  # the CT carries iodine; a radiograph's patient does not
SOFT, BONE, DEPTH, HEARTS = range(4)  # channels


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the projector needs of a CT, centred on the volume. X runs to the patient's
    left, Y to anterior, Z up.

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
        return (torch.arange(k) + 0.5 - k / 2) * (
            2 * float(self.half_mm[self.axis]) / k
        )

    @cached_property
    def digest(self):
        """A name that follows from the content."""
        text = json.dumps(
            [self.axis, [float(h) for h in self.half_mm], self.marks, self.lung_range]
        )
        return hashlib.sha256(
            self.slabs.numpy().tobytes() + self.lobes.tobytes() + text.encode()
        ).hexdigest()[:16]

    @cached_property
    def lobe_points(self):
        """Lobe label -> (N, 3) positions in mm."""
        voxel = 2 * self.half_mm / np.array(self.lobes.shape[::-1])
        return {
            i: (np.argwhere(self.lobes == i)[:, ::-1] + 0.5) * voxel - self.half_mm
            for i in LOBES
        }

    def lobe_at(self, points):
        """Lobe labels (N,) at positions (N, 3) in mm."""
        size = torch.tensor(self.lobes.shape[::-1])
        half = torch.from_numpy(self.half_mm).float()
        i = ((points / half + 1) / 2 * size).long().clamp(min=0).minimum(size - 1)
        return torch.from_numpy(self.lobes)[i[:, 2], i[:, 1], i[:, 0]]


def without_iodine(hu, labels):
    """Clip everything that isn't bone to soft tissue: contrast-filled vessels would
    project like bone.
    """
    return np.where(np.isin(labels, BONES), hu, np.minimum(hu, SOFT_HU))


def body_mask(hu, voxel_mm):
    """The largest connected piece denser than -300 HU, filled: leaves the couch
    outside.
    """
    thin = max(
        1, round(1.5 / min(voxel_mm))
    )  # clothes and lines on the skin; not the chest wall
    pieces, n = ndimage.label(ndimage.binary_opening(hu > -300, iterations=thin))
    if not n:
        raise ValueError(
            "expected a body denser than -300 HU in the CT, got none. Try: is it in Hounsfield units?"
        )
    body = pieces == 1 + np.argmax(
        ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, n + 1))
    )
    filled = [
        ndimage.binary_fill_holes(s)
        for s in np.moveaxis(ndimage.binary_dilation(body, iterations=thin), 2, 0)
    ]
    return np.stack(filled, axis=2)


def chest_wall_depth(lungs, spacing_mm, reach_mm=60):
    """Distance in mm to the chest wall, not to the mediastinum: the lungs are closed
    over `reach_mm` first.
    """
    pad = int(np.ceil(reach_mm / min(spacing_mm))) + 2
    grown = (
        ndimage.distance_transform_edt(~np.pad(lungs, pad), sampling=spacing_mm)
        <= reach_mm
    )
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > reach_mm
    return ndimage.distance_transform_edt(closed, sampling=spacing_mm)[
        pad:-pad, pad:-pad, pad:-pad
    ]


def _to_grid(array, shape):
    """(X, Y, Z) array to `shape` (Z, Y, X): mean in the plane, linear along the slices."""
    x = torch.from_numpy(
        np.ascontiguousarray(array.transpose(2, 1, 0), dtype=np.float32)
    )[None]
    x = F.interpolate(x, size=tuple(shape[1:]), mode="area")  # slices ride as channels
    return F.interpolate(
        x[None], size=tuple(shape), mode="trilinear", align_corners=False
    )[0, 0].numpy()


def from_arrays(
    hu,
    labels,
    voxel_mm,
    spacing_mm=FIELD_MM / 160,
    *,
    axis=1,
    slab_mm=SLAB_MM,
    version=None,
):
    """Build an `Anatomy` from a CT and its organ mask.

    >>> anatomy = rw.simulate.from_arrays(hu, labels, (0.7, 0.7, 2.5))
    >>> scan = rw.simulate.render([rw.simulate.Finding("Pneumothorax", 0.5, "left")], anatomy=anatomy)

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
    if hu.shape != labels.shape:
        raise ValueError(
            f"expected a mask of the CT's shape {hu.shape}, got {labels.shape}. Try: resample the mask"
        )
    sides = np.asarray(voxel_mm, dtype=float)
    if sides.shape != (3,) or not np.isfinite(sides).all() or sides.min() <= 0:
        raise ValueError(
            f"expected three positive voxel sides in mm, got {voxel_mm}. Try header.get_zooms()[:3]"
        )
    check_version(hu, labels, version)
    body = body_mask(hu, voxel_mm)
    front, back = np.flatnonzero(body.any((0, 2)))[[0, -1]]
    hu, labels, body = (a[:, front : back + 1] for a in (hu, labels, body))
    more = round(ENDS_MM / voxel_mm[2])
    ends = ((0, 0), (0, 0), (more, more))
    clean = np.pad(
        np.where(body, without_iodine(hu, labels), -1000).clip(-1000, 2000),
        ends,
        mode="reflect",
    )
    for end in (
        np.s_[..., :more],
        np.s_[..., clean.shape[2] - more :],
    ):  # but without a second pair of lungs
        clean[end] = np.where(
            np.pad(body, ends, mode="reflect")[end],
            np.maximum(clean[end], -80),
            clean[end],
        )
    bones = np.pad(np.isin(labels, BONES), ends, mode="reflect")
    labels = np.pad(labels, ends)
    half = np.array(labels.shape) * voxel_mm / 2
    lobes, depth, heart = _regions(labels, half)
    across = 1 - axis
    shape = [round(2 * half[2] / spacing_mm)] * 3  # (Z, Y, X) of the slabs' grid
    shape[2 - axis], shape[2 - across] = (
        round(2 * half[axis] / slab_mm),
        round(2 * half[across] / spacing_mm),
    )
    parts = [_to_grid(m, shape) for m in physics.materials(clean, bones)]
    parts += [
        F.interpolate(torch.from_numpy(x)[None, None], size=shape, mode="trilinear")[
            0, 0
        ].numpy()
        for x in (depth, heart)
    ]
    slabs = (
        torch.from_numpy(np.stack(parts).astype(np.float32))
        .movedim(3 - axis, 0)
        .contiguous()
    )  # (K, C, Z, W)
    centre = [float(c) for c in _middle(labels == HEART, half)]
    voxel = 2 * half[2] / lobes.shape[0]
    height = {
        side: np.flatnonzero(np.isin(lobes, ids).any((1, 2)))
        for side, ids in (("right", RIGHT), ("left", LEFT))
    }
    ranges = {
        side: (float(z[0] * voxel - half[2]), float((z[-1] + 1) * voxel - half[2]))
        for side, z in height.items()
    }
    return Anatomy(
        slabs,
        axis,
        half,
        lobes,
        _landmarks(labels, lobes, half, centre, ranges),
        ranges,
    )


def check_version(hu, labels, version=None):
    """Raise unless a mask's numbers are those of TotalSegmentator 2, with five lung
    lobes full of air, and a heart.

    In TotalSegmentator 1 the lobes are 13 to 17, and 10 to 12 are the pancreas and the
    adrenal glands.

    Args:
        hu, labels: (X, Y, Z) Hounsfield units and organ mask.
        version: 2 says that the numbers are known to be those; None looks at the CT.
    """
    if version not in (None, 1, 2):
        raise ValueError(
            f"expected version 1 or 2 of TotalSegmentator, or None, got {version!r}"
        )
    full = {i: _is_air(hu, labels, i) for i in range(min(LOBES), max(LOBES_V1) + 1)}
    if version == 1 or (
        version is None
        and not all(full[i] for i in LOBES)
        and all(full[i] for i in LOBES_V1)
    ):
        raise ValueError(
            "expected a mask with the numbers of TotalSegmentator 2 (lobes 10 to 14, heart 51), got those of "
            "TotalSegmentator 1 (lobes 13 to 17, pancreas 10). Try: renumber it, or segment with version 2"
        )
    missing = [
        name for i, name in {**LOBES, HEART: "heart"}.items() if not (labels == i).any()
    ]
    if missing:
        raise ValueError(
            f"expected lung lobes and heart in the mask, got none of: {', '.join(missing)}"
        )
    if version is None and not all(full[i] for i in LOBES):
        solid = ", ".join(f"{i} ({LOBES[i]})" for i in LOBES if not full[i])
        raise ValueError(
            f"expected air in the lung lobes of a TotalSegmentator 2 mask, got none in {solid}: which version's "
            "numbers they are can't be told. Try version=2 if they are known to be those of version 2"
        )


def _is_air(hu, labels, number):
    """Whether most voxels of an organ hold air."""
    inside = hu[labels == number]
    return inside.size > 0 and float(np.median(inside)) < AIR_HU


def _regions(labels, half):
    """Lobes (Z, Y, X), signed chest-wall depth and heart on the isotropic grid."""
    shape = [round(2 * h / GRID_MM) for h in half[::-1]]
    spacing = tuple(2 * h / n for h, n in zip(half[::-1], shape, strict=True))
    parts = np.stack([_to_grid(labels == i, shape) for i in LOBES])
    lobes = np.where(
        parts.max(0) > 0.5, np.array(list(LOBES))[parts.argmax(0)], 0
    ).astype(np.int16)
    right, left = (_to_grid(np.isin(labels, ids), shape) > 0.5 for ids in (RIGHT, LEFT))
    depth = chest_wall_depth(right | left, spacing) + 1
    signed = depth * (right.astype(np.float32) - left)
    return lobes, signed.astype(np.float32), _to_grid(labels == HEART, shape)


def _middle(mask, half):
    return (np.array(ndimage.center_of_mass(mask)) + 0.5) * (
        2 * half / mask.shape
    ) - half


def _edge(lobes, ids, half, sign):
    """The outermost points of a lung, one about every 9 mm of height: (x, y, z) mm."""
    voxel, out = 2 * half / np.array(lobes.shape[::-1]), []
    for k in range(0, len(lobes), 4):
        found = np.argwhere(np.isin(lobes[k], ids))
        if len(found) > 20:
            y, x = found[
                found[:, 1] * sign >= np.quantile(found[:, 1] * sign, 0.98)
            ].mean(0)
            out.append([float(c) for c in (np.array([x, y, k]) + 0.5) * voxel - half])
    return out


def _landmarks(labels, lobes, half, heart, ranges):
    """Where tubes, hila and the aorta lie; a mask without an organ gets a place
    estimated from lungs and heart.
    """
    voxel = 2 * half / labels.shape
    top = min(r[1] for r in ranges.values())

    def line(label, fallback, least_mm=40):
        z = np.flatnonzero((labels == label).any((0, 1)))[:: max(1, int(8 / voxel[2]))]
        points = [
            np.append(
                (np.argwhere(labels[:, :, k] == label).mean(0) + 0.5) * voxel[:2]
                - half[:2],
                (k + 0.5) * voxel[2] - half[2],
            )
            for k in z
        ]
        long = len(points) > 3 and points[-1][2] - points[0][2] >= least_mm
        return [[float(c) for c in p] for p in points] if long else fallback

    guess = [[0.0, heart[1] - 20.0, z] for z in np.linspace(top - 90, top + 20, 8)]
    trachea = line(TRACHEA, guess)
    x, y, _ = np.median(
        trachea, axis=0
    )  # the lowest slices of the mask are a main bronchus
    carina = [float(x), float(y), float(trachea[0][2] + 15)]
    trachea = [p for p in trachea if p[2] >= carina[2]]
    cava = line(
        CAVA,
        [
            [-28.0, carina[1] + 15, z]
            for z in np.linspace(carina[2] - 40, carina[2] + 30, 6)
        ],
    )
    aorta = (np.argwhere(labels == AORTA) + 0.5) * voxel - half
    arch = aorta[aorta[:, 2] > carina[2] + 5]
    knob = (
        arch[arch[:, 0].argmax()].tolist()
        if len(arch)
        else [carina[0] + 35, carina[1] - 10, carina[2] + 15]
    )
    hila = {
        f"{side} hilum": [carina[0] + sign * 38, carina[1] + 5, carina[2] - 28]
        for side, sign in (("right", -1), ("left", 1))
    }
    edges = {
        f"{side} edge": _edge(lobes, ids, half, sign)
        for side, ids, sign in (("right", RIGHT, -1), ("left", LEFT, 1))
    }
    return {
        **edges,
        "heart": heart,
        "trachea": trachea,
        "carina": carina,
        "cava": cava,
        "knob": knob,
        **hila,
    }


@lru_cache(maxsize=3)
def default_anatomy(
    spacing_mm=FIELD_MM / 160, axis=1, slab_mm=SLAB_MM, *, as_scanned=False
):
    """LIDC-IDRI-0001 (TCIA, CC BY 3.0; Armato et al. 2011) with its mask, fetched
    through the catalog.

    The patient has a lung tumour, a band in the lingula and undiluted contrast in a
    vein: all films would show them, whatever their labels say. They are taken out
    (`repair`); `as_scanned` keeps them, for the lesson.

    >>> rw.simulate.render(anatomy=rw.simulate.default_anatomy(as_scanned=True))

    Args:
        spacing_mm, axis, slab_mm: as in `from_arrays`; the slabs are kept in the cache
            under `VERSION`.
    """
    from radwb.data import cache_folder, fetch
    from radwb.data.private import private_folder

    whose = "scanned" if as_scanned else "healthy"
    kept = (
        cache_folder()
        / "anatomy"
        / f"lidc-ct-{whose}-{axis}-{spacing_mm:.3f}-{slab_mm:g}mm-v{VERSION}.npz"
    )
    if not kept.exists():
        anatomy = _read_anatomy(fetch("lidc-ct"), spacing_mm, axis, slab_mm, as_scanned)
        private_folder(kept.parent)
        temporary = kept.with_name(f"{kept.stem}.{os.getpid()}-{get_ident()}.part.npz")
        np.savez(
            temporary,
            slabs=anatomy.slabs.numpy(),
            half=anatomy.half_mm,
            lobes=anatomy.lobes,
            text=json.dumps([anatomy.marks, anatomy.lung_range]),
        )
        os.replace(temporary, kept)
    with np.load(kept) as f:
        marks, ranges = json.loads(str(f["text"]))
        return Anatomy(
            torch.from_numpy(f["slabs"]), axis, f["half"], f["lobes"], marks, ranges
        )


def _read_anatomy(folder, spacing_mm, axis, slab_mm, as_scanned):
    import nibabel as nib

    ct, mask = nib.load(folder / "cxr.nii.gz"), nib.load(folder / "mask.nii.gz")
    if nib.aff2axcodes(ct.affine) != ("L", "A", "S"):
        raise ValueError(
            f"expected a CT with axes L, A, S, got {nib.aff2axcodes(ct.affine)}"
        )
    hu, labels = (
        np.asarray(ct.dataobj, dtype=np.float32),
        np.asarray(mask.dataobj).astype(np.int16),
    )
    voxel_mm = ct.header.get_zooms()[:3]
    if not as_scanned:
        hu, labels = repair.healthy(hu, labels, voxel_mm)
    return from_arrays(hu, labels, voxel_mm, spacing_mm, axis=axis, slab_mm=slab_mm)
