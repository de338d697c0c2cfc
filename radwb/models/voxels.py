"""Between a volume's voxels and a network's grid: turned, shrunk, and spread again."""

import nibabel as nib
import numpy as np
import psutil
import torch
import torch.nn.functional as F

from radwb.data.nifti import RAS_TO_LPS
from radwb.data.scan import Volume, to_display

UNTURNED = np.array([[0, 1], [1, 1], [2, 1.0]])


def turns_of(volume: Volume, axes: str | None) -> np.ndarray:
    """Which input axis each voxel axis becomes, and its sign, as nibabel writes it.

    Args:
        axes: where the input's axes point, as "SPL"; None = they are the voxels'.
    Returns:
        (3, 2): axis of the input, and 1 or -1.
    """
    if axes is None:
        return UNTURNED
    if volume.affine is None:
        raise ValueError(
            "expected a volume with an affine, got None: which way it lies isn't "
            "known. Try axes=None."
        )
    lies = nib.io_orientation(RAS_TO_LPS @ volume.affine)
    points = nib.orientations.axcodes2ornt(tuple(axes))
    return nib.orientations.ornt_transform(lies, points)


def turned_back(grid: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """A grid over the input, (d, h, w), along the voxels' own axes."""
    back = nib.orientations.ornt_transform(UNTURNED, turns)
    return nib.orientations.apply_orientation(grid, back)


def shrink(
    voxels,
    size: list[int],
    window: tuple[float, float],
    spans: list[tuple[float, float]] | None = None,
) -> np.ndarray:
    """(D, H, W) -> (d, h, w) in [0, 1]: means of boxes, one plane at a time.

    Args:
        voxels: an array, or what is indexed like one; it may lie on disk.
        window: what goes to 0 and to 1.
        spans: from where to where, in voxels, the boxes reach along each axis; what
            lies outside the volume is 0. None = all of it, in the boxes of adaptive
            average pooling.
    """
    if spans is not None:
        return _boxed(voxels, size, window, spans)
    D = len(voxels)
    d = size[0]
    shrunk = np.empty(size, np.float32)
    for n in range(d):
        first = n * D // d
        end = -(-(n + 1) * D // d)
        total = 0
        for i in range(first, end):
            plane = to_display(np.asarray(voxels[i]), *window)
            plane = torch.from_numpy(plane)[None]
            total = total + F.adaptive_avg_pool2d(plane, size[1:])[0].numpy()
        shrunk[n] = total / (end - first)
    return shrunk


def _boxed(voxels, size, window, spans):
    shares = []
    for n, cells, span in zip(voxels.shape, size, spans, strict=True):
        shares.append(_shares(n, cells, span))
    along, down, across = shares
    boxed = np.zeros(size, np.float32)
    for i in np.flatnonzero(along.any(0)):
        plane = to_display(np.asarray(voxels[i]), *window)
        plane = down @ plane @ across.T
        for cell in np.flatnonzero(along[:, i]):
            boxed[cell] += along[cell, i] * plane
    return boxed


def _shares(n, cells, span):
    """(cells, n) which share of each cell each of n voxels fills.

    >>> _shares(2, 2, (-1, 3))
    array([[0.5, 0. ],
           [0. , 0.5]], dtype=float32)
    """
    edges = np.linspace(*span, cells + 1)
    voxel = np.arange(n)
    start = np.maximum(edges[:-1, None], voxel)
    end = np.minimum(edges[1:, None], voxel + 1)
    overlap = np.clip(end - start, 0, None)
    return np.float32(overlap / (edges[1] - edges[0]))


def spread(
    grid: np.ndarray,
    shape: tuple[int, ...],
    step: int = 1,
    spans: list[tuple[float, float]] | None = None,
) -> np.ndarray:
    """(d, h, w) over (D, H, W) at every step-th voxel.

    Linear between the cells' centres, constant beyond them; 0 beyond `spans`, from
    where to where the grid reaches along each axis (None = over all of it).

    >>> spread(np.array([[[0.0, 1.0]]], np.float32), (1, 1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    for axis, n in enumerate(shape):
        cells = grid.shape[axis]
        centres = np.arange(cells)
        start, end = spans[axis] if spans else (0, n)
        voxel = np.arange(0, n, step) + 0.5
        at = (voxel - start) * cells / (end - start) - 0.5
        weights = [np.interp(at, centres, cell) for cell in np.eye(cells)]
        weights = np.float32(weights)  # (cells, n / step)
        weights[:, (voxel < start) | (voxel > end)] = 0
        last = np.moveaxis(grid, axis, -1)
        grid = np.moveaxis(last @ weights, -1, axis)
    return grid


def require_room(shape: tuple[int, ...], step: int = 1) -> None:
    """ValueError where a map is larger than the free memory, with a step that fits."""
    voxels = np.prod([-(-n // step) for n in shape], dtype=float)
    free = psutil.virtual_memory().available
    if 4 * voxels > free:
        coarser = (8 * voxels / free) ** (1 / 3)
        enough = int(np.ceil(step * coarser))
        raise ValueError(
            f"expected a map that fits into {free / 2**30:.3g} GiB of free memory, got "
            f"{' x '.join(map(str, shape))} voxels at step {step}. Try step={enough}."
        )
