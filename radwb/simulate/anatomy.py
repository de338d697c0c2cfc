"""One real chest CT with organ masks, resampled once to the grid that the projector samples."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

FIELD_MM = 345.0  # side of the square that the rays sample at the patient; a film shows its middle
LOBES = {10: "left upper lobe", 11: "left lower lobe", 12: "right upper lobe", 13: "right middle lobe",
         14: "right lower lobe"}  # TotalSegmentator's first release; structures.csv of the CT names them
HEART = (51,)
BONES = (*range(23, 47), *range(69, 93), *range(93, 120))  # vertebrae, limb girdles, ribs, sternum
SOFT_HU = 60  # the CT carries iodine; a radiograph's patient does not


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the projector needs of a CT, on an isotropic grid centred on the volume.

    Attributes:
        channels: (3, Z, Y, X) float32: HU; depth under the chest wall in mm, positive in the right lung and
            negative in the left; heart (0 to 1). X runs to the patient's left, Y to anterior, Z to superior.
        lobes: (Z, Y, X) int16 lobe labels.
        spacing_mm: side of a voxel.
        heart_centre: (x, y, z) mm.
        lung_range: {"right": (lowest, highest z in mm), "left": ...}.
    """

    channels: torch.Tensor
    lobes: np.ndarray
    spacing_mm: float
    heart_centre: np.ndarray
    lung_range: dict

    @property
    def half_mm(self):
        """Half the extent along X, Y, Z, in mm."""
        z, y, x = self.channels.shape[1:]
        return np.array([x, y, z]) * self.spacing_mm / 2


def without_iodine(hu, labels):
    """Clip everything that isn't bone to soft tissue: contrast-filled vessels would project like bone."""
    return np.where(np.isin(labels, BONES), hu, np.minimum(hu, SOFT_HU))


def body_mask(hu):
    """The largest connected piece denser than -300 HU, filled: leaves the couch outside."""
    pieces, n = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    body = pieces == 1 + np.argmax(ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, n + 1)))
    filled = [ndimage.binary_fill_holes(s) for s in np.moveaxis(ndimage.binary_dilation(body, iterations=2), 2, 0)]
    return np.stack(filled, axis=2)


def chest_wall_depth(lungs, spacing_mm, reach_mm=60):
    """Distance in mm to the chest wall, not to the mediastinum: the lungs are closed over `reach_mm` first."""
    pad = int(np.ceil(reach_mm / spacing_mm)) + 2
    grown = ndimage.distance_transform_edt(~np.pad(lungs, pad), sampling=spacing_mm) <= reach_mm
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > reach_mm
    return ndimage.distance_transform_edt(closed, sampling=spacing_mm)[pad:-pad, pad:-pad, pad:-pad]


def _resample(array, voxel_mm, spacing_mm):
    """(X, Y, Z) array to (Z, Y, X) at an isotropic spacing: mean in the plane, linear along the slices."""
    shape = [round(n * v / spacing_mm) for n, v in zip(array.shape, voxel_mm, strict=True)]
    x = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0), dtype=np.float32))[None]
    x = F.interpolate(x, size=(shape[1], shape[0]), mode="area")  # slices ride as channels
    x = F.interpolate(x[None], size=(shape[2], shape[1], shape[0]), mode="trilinear", align_corners=False)
    return x[0, 0].numpy()


def from_arrays(hu, labels, voxel_mm, spacing_mm):
    """Build an `Anatomy` from a CT and its organ mask.

    Args:
        hu: (X, Y, Z) Hounsfield units, axes to the patient's left, anterior, superior.
        labels: (X, Y, Z) integer organ mask with TotalSegmentator's (first release) numbers.
        voxel_mm: three voxel sides in mm.
        spacing_mm: the isotropic grid wanted.
    """
    if hu.shape != labels.shape:
        raise ValueError(f"expected a mask of the CT's shape {hu.shape}, got {labels.shape}. Try: resample the mask")
    missing = [name for i, name in {**LOBES, HEART[0]: "heart"}.items() if not (labels == i).any()]
    if missing:
        raise ValueError(f"expected lung lobes and heart in the mask, got none of: {', '.join(missing)}")
    body = body_mask(hu)
    front, back = np.flatnonzero(body.any((0, 2)))[[0, -1]]
    hu, labels, body = (a[:, front : back + 1] for a in (hu, labels, body))
    clean = np.where(body, without_iodine(hu, labels), -1000).clip(-1000, 2000)
    part = {k: _resample(np.isin(labels, ids), voxel_mm, spacing_mm)
            for k, ids in {"right": (12, 13, 14), "left": (10, 11), "heart": HEART}.items()}
    lobe_parts = np.stack([_resample(labels == i, voxel_mm, spacing_mm) for i in LOBES])
    lobes = np.where(lobe_parts.max(0) > 0.5, np.array(list(LOBES))[lobe_parts.argmax(0)], 0).astype(np.int16)
    depth = chest_wall_depth((part["right"] + part["left"]) > 0.5, spacing_mm) + 1
    signed = depth * ((part["right"] > 0.5).astype(np.float32) - (part["left"] > 0.5))
    channels = np.stack([_resample(clean, voxel_mm, spacing_mm), signed, part["heart"]]).astype(np.float32)
    # a film shows more neck and belly than the CT holds: continue both ends by their mirror image
    ends = round(36 / spacing_mm)
    channels = np.pad(channels, ((0, 0), (ends, ends), (0, 0), (0, 0)), mode="reflect")
    lobes, signed = (np.pad(a, ((ends, ends), (0, 0), (0, 0))) for a in (lobes, signed))
    part = {k: np.pad(v, ((ends, ends), (0, 0), (0, 0))) for k, v in part.items()}
    z = (np.arange(signed.shape[0]) + 0.5 - signed.shape[0] / 2) * spacing_mm
    lung_range = {side: (float(z[(part[side] > 0.5).any((1, 2))].min()), float(z[(part[side] > 0.5).any((1, 2))].max()))
                  for side in ("right", "left")}
    centre = (np.array(ndimage.center_of_mass(part["heart"])) + 0.5 - np.array(signed.shape) / 2)[::-1] * spacing_mm
    return Anatomy(torch.from_numpy(channels), lobes, spacing_mm, centre, lung_range)


@lru_cache(maxsize=2)
def default_anatomy(spacing_mm=FIELD_MM / 160):
    """LIDC-IDRI-0001 (TCIA, CC BY 3.0; Armato et al. 2011) with its mask, fetched through the catalog.

    Args:
        spacing_mm: side of a voxel; the resampled grid is kept in the cache beside the source's fingerprint.
    """
    from radwb.data import cache_folder, fetch

    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    kept = cache_folder() / "anatomy" / f"lidc-ct-{spacing_mm:.3f}mm-{source}.npz"
    if not kept.exists():
        anatomy = _read_anatomy(fetch("lidc-ct"), spacing_mm)
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npz")
        np.savez(temporary, **{**vars(anatomy), "channels": anatomy.channels.numpy(),
                               "lung_range": json.dumps(anatomy.lung_range)})
        os.replace(temporary, kept)
    with np.load(kept) as f:
        return Anatomy(torch.from_numpy(f["channels"]), f["lobes"], float(f["spacing_mm"]), f["heart_centre"],
                       json.loads(str(f["lung_range"])))


def _read_anatomy(folder, spacing_mm):
    import nibabel as nib

    ct, mask = nib.load(folder / "cxr.nii.gz"), nib.load(folder / "mask.nii.gz")
    if nib.aff2axcodes(ct.affine) != ("L", "A", "S"):
        raise ValueError(f"expected a CT with axes L, A, S, got {nib.aff2axcodes(ct.affine)}")
    hu, labels = np.asarray(ct.dataobj, dtype=np.float32), np.asarray(mask.dataobj).astype(np.int16)
    return from_arrays(hu, labels, ct.header.get_zooms()[:3], spacing_mm)
