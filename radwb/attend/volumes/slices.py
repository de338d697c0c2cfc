"""Maps on volumes by a 2-D model: slice by slice, put together in the voxels."""

from itertools import pairwise

import numpy as np
from tqdm.auto import tqdm

from radwb.attend.map import Map
from radwb.attend.maps import attention_maps
from radwb.data.scan import Volume
from radwb.data.volumes import robust_window
from radwb.models.model import Model
from radwb.models.voxels import require_room


def slice_maps(
    model: Model,
    volume: Volume,
    *,
    axis: int = 0,
    method: str = "relevance",
    target: str | int | tuple[str, str] | None = None,
    window_hu: tuple[float, float] | None = None,
    every: int = 1,
    layer: int | None = None,
    head: int | None = None,
    batch: int = 16,
) -> Map:
    """Where a 2-D model looked in each slice of your CT or MR, in its own voxels.

    >>> m = slice_maps(model, ct, target="effusion", window_hu=(-160, 240), every=6)
    >>> m.values.shape == ct.shape
    True

    Each slice is shown to the model as a radiologist looks at it (`Volume.slice`) and
    its map turned back.

    Args:
        model: a `rw.models.Model`; method, target, layer, head as in `attention_map`.
        axis: the axis of `volume.voxels` that is cut.
        window_hu: (low, high); None = the volume's 1st and 99th percentile.
        every: 4 asks the model for every fourth slice; those between are interpolated,
            those outside repeat the next.
        batch: slices in one pass.
    Raises:
        ValueError: the map is larger than memory.
    """
    require_room(volume.shape)
    window = window_hu or robust_window(volume.voxels)
    depth = volume.shape[axis]
    cuts = list(range(min(every, depth) // 2, depth, every))
    values = np.zeros(volume.shape, np.float32)
    planes = np.moveaxis(values, axis, 0)
    pixels = _pixels_of_slice(volume, axis)
    options = {"method": method, "targets": target, "layer": layer, "head": head}
    for start in tqdm(range(0, len(cuts), batch), "slices", delay=2, leave=False):
        indices = cuts[start : start + batch]
        scans = [volume.slice(axis, i, window) for i in indices]
        maps = attention_maps(model, scans, **options)
        for i, map in zip(indices, maps, strict=True):
            planes[i][pixels] = map.values
    _interpolate(planes, cuts)
    about = (map.method, map.layer, map.head, map.target, map.model)
    return Map(values, *about, volume.affine)


def _interpolate(planes, cuts):
    """Fill what lies between the cuts, and beyond them with the nearest."""
    for before, after in pairwise(cuts):
        for i in range(before + 1, after):
            first = (after - i) * planes[before]
            second = (i - before) * planes[after]
            planes[i] = (first + second) / (after - before)
    planes[: cuts[0]] = planes[cuts[0]]
    planes[cuts[-1] + 1 :] = planes[cuts[-1]]


def _pixels_of_slice(volume, axis):
    """Of each pixel of a slice as it's shown its (row, column) in the plane of voxels.

    Found by slicing the indices themselves.
    """
    shape = np.delete(volume.shape, axis)
    places = []
    for index, n in zip(np.indices(shape, dtype=np.float32), shape, strict=True):
        last = max(1, n - 1)
        plane = np.expand_dims(index, axis)
        everywhere = np.broadcast_to(plane, volume.shape)
        indices = Volume(everywhere, volume.affine)
        shown = indices.slice(axis, 0, (0, last))
        places.append(np.rint(shown.pixels * last).astype(int))
    return tuple(places)
