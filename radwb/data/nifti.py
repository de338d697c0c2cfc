"""NIfTI to `Volume`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from radwb.data.limits import check_nifti, float_voxels, is_gzip
from radwb.data.scan import ReadError, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path) -> Volume:
    """A 3-D NIfTI file -> Volume with the axes turned round to (k, j, i) and the affine from RAS to LPS.

    A fourth axis of length 1 is dropped; a longer one is refused: which volume of it is meant can't be guessed.
    """
    check_nifti(path)
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        image = nib.Nifti1Image.from_stream(file)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise ReadError(f"{path.name}: expected a 3-D NIfTI, got the shape {image.shape}. Try one volume of it.")
        voxels = float_voxels(image, shape)  # (K, J, I)
    affine = RAS_TO_LPS @ image.affine
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ReadError(f"{path.name}: the affine has no volume, so that spacing and orientation are unknown")
    flip = [2, 1, 0]
    return Volume(voxels, affine[:, [*flip, 3]], None, str(path))
