"""NIfTI to `Volume`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from radwb.data.scan import MAX_VOXELS, ReadError, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path) -> Volume:
    """A 3-D NIfTI file -> Volume with the axes turned round to (k, j, i) and the affine from RAS to LPS.

    A fourth axis of length 1 is dropped; a longer one is refused: which volume of it is meant can't be guessed.
    """
    packed = path.read_bytes()[:2] == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        image = nib.Nifti1Image.from_stream(file)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise ReadError(f"{path.name}: expected a 3-D NIfTI, got the shape {image.shape}. Try one volume of it.")
        if np.prod(shape, dtype=float) > MAX_VOXELS:
            raise ReadError(f"{path.name}: claims {' x '.join(map(str, shape))} voxels, more than {MAX_VOXELS:,}")
        voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    affine = RAS_TO_LPS @ image.affine
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ReadError(f"{path.name}: the affine has no volume, so that spacing and orientation are unknown")
    flip = [2, 1, 0]
    return Volume(np.ascontiguousarray(voxels.transpose(flip)), affine[:, [*flip, 3]], None, str(path))
