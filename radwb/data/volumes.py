"""What a volume needs on its way out: a window, and the bytes of a NIfTI file."""

import gzip

import nibabel as nib
import numpy as np

from radwb.data.nifti import RAS_TO_LPS

# voxels looked at, every n-th along each axis: a volume on disk isn't read as a whole
SAMPLE = 1_000_000


def robust_window(voxels: np.ndarray) -> tuple[float, float]:
    """1st and 99th percentile of the voxels above the lowest, an MR's air.

    >>> robust_window(np.r_[np.zeros(1000), np.arange(102.0)].reshape(1, 1, -1))
    (2.0, 100.0)

    Args:
        voxels: (D, H, W); of a large one a regular sample is looked at. What is no
            finite number is left out.
    """
    step = max(1, round((voxels.size / SAMPLE) ** (1 / 3)))
    sample = np.asarray(voxels[::step, ::step, ::step])
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    body = sample[sample > sample.min()]
    low, high = sample.min(), sample.max()
    if body.size:
        low, high = np.percentile(body, (1, 99))
    return float(low), float(high)


def nifti_bytes(
    values: np.ndarray, affine: np.ndarray, note: str = "", *, packed: bool = True
) -> bytes:
    """A NIfTI file in memory, with the affine turned from LPS to the format's RAS.

    No voxel moves in the patient.

    >>> plain = nifti_bytes(ct.voxels, ct.affine, packed=False)
    >>> ct.shape, nib.Nifti1Image.from_bytes(plain).shape
    ((12, 20, 20), (20, 20, 12))

    Args:
        values: (D, H, W) of a type that NIfTI has.
        affine: (4, 4), index (d, h, w, 1) to LPS mm.
        note: up to 79 characters for the header.
        packed: gzip, as in .nii.gz.
    """
    to_ras = RAS_TO_LPS @ affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(values.transpose(2, 1, 0), to_ras)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note.encode("ascii", "replace")[:79]
    plain = image.to_bytes()
    return gzip.compress(plain, 1, mtime=0) if packed else plain
