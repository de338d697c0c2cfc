"""How alike are two maps? Rank correlations, between methods and under small shifts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from radwb.attend.map import values_of
from radwb.attend.maps import attention_maps
from radwb.attend.progress import steps
from radwb.attend.score import mean_by_patient
from radwb.data.scan import Scan
from radwb.models.model import Model

SIDE = {2: 64, 3: 16}  # maps are compared on a grid of so many cells a side


def agreement(maps: dict[str, list], *, groups: Sequence | None = None) -> pd.DataFrame:
    """How alike the maps of several methods are on your scans, before you trust one.

    >>> ramp = np.arange(64.0).reshape(8, 8)
    >>> table = agreement({"relevance": [ramp] * 5, "gradcam": [ramp.T] * 5})
    >>> table["mean"].unstack().shape
    (2, 2)

    Args:
        maps: name -> maps, for all names of the same scans in the same order.
        groups: the patient of each scan; None = each scan is another patient's.
    Returns:
        index first, second (every ordered pair, so that `["mean"].unstack()` is the
        square matrix); columns mean (rank correlation over scans), low, high, n,
        patients, note.
    Raises:
        ValueError: the names have different numbers of maps.
    """
    counts = {name: len(of_name) for name, of_name in maps.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"expected maps of the same scans, got {counts}")
    ranked = {name: ranks(of_name) for name, of_name in maps.items()}
    pairs = {}
    for first, second in product(ranked, repeat=2):
        pairs[first, second] = similarity(ranked[first], ranked[second])
    points = pd.DataFrame(pairs).rename_axis(columns=["first", "second"])
    return mean_by_patient(points, groups, limits=(-1, 1))


def ranks(maps) -> np.ndarray:
    """Maps of any shapes as ranks on a common grid, centred and of unit length.

    Returns:
        (N, cells); a constant map is zeros.
    """
    grids = np.stack([_grid(m) for m in maps])
    lowest = grids.min(1, keepdims=True)
    spread = np.ptp(grids, axis=1, keepdims=True)
    size = np.abs(grids).max(1, keepdims=True)
    flat = spread <= 1e-6 * size
    shares = (grids - lowest) / np.where(flat, 1, spread)
    # rounded, so that what was equal before the interpolation ties again
    shares = np.round(shares, 6)
    ranked = rankdata(np.where(flat, 0, shares), axis=1)
    ranked -= ranked.mean(1, keepdims=True)
    length = np.linalg.norm(ranked, axis=1, keepdims=True)
    return ranked / np.maximum(length, 1e-12)


def _grid(map):
    values = torch.as_tensor(values_of(map).astype(np.float32))
    pool = F.adaptive_avg_pool2d if values.ndim == 2 else F.adaptive_avg_pool3d
    cells = pool(values[None, None], SIDE[values.ndim])
    return cells.flatten().numpy().astype(np.float64)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) Spearman correlations of maps given as `ranks`.

    It is 1 where both are constant, 0 where one is.
    """
    both_constant = ~a.any(1) & ~b.any(1)
    correlation = (a * b).sum(1)
    return np.where(both_constant, 1.0, correlation)


def maps_by(model, scans, target, *, method, layer, head) -> list:
    """A Map or array of each scan.

    Args:
        method: a name in `METHODS`, or a function (model, scan, target) -> Map or
            array.
    """
    if callable(method):
        return [method(model, scan, target) for scan in scans]
    return attention_maps(
        model, scans, method=method, targets=target, layer=layer, head=head
    )


def stability(
    model: Model,
    scans: Sequence[Scan],
    *,
    method: str | Callable = "relevance",
    target: str | int | tuple[str, str] | None = None,
    layer: int | None = None,
    head: int | None = None,
    shifts: Sequence[tuple[float, float]] = (
        (0, 0.05),
        (0.05, 0),
        (0, -0.05),
        (-0.05, 0),
    ),
    groups: Sequence | None = None,
) -> pd.DataFrame:
    """Shift the scan a little, move its map back, and compare it with the unshifted.

    >>> table = stability(model, scans, target="pleural effusion", shifts=[(0, 0.05)])
    >>> float(table.loc["moved back", "mean"]) > 0
    True

    Args:
        model: a `rw.models.Model`.
        scans: list of Scan.
        method: a name in `METHODS`, or a function (model, scan, target) -> (H, W)
            array.
        target, layer, head: as in `attention_map`.
        shifts: (down, right) as shares of the scan's height and width, to the whole
            pixel; the rim that comes in repeats the last one.
        groups: the patient of each scan; None = each scan is another patient's.
    Returns:
        index "moved back", and the control "left in place", in which a map that ignores
        the scan is the better one; columns mean (rank correlation where both maps show
        the same tissue), low, high, n, patients, note.
    """
    scans = list(scans)
    if not (np.abs(shifts) < 1).all():
        raise ValueError(
            "expected shifts as shares of the scan's sides, under 1, got "
            f"{tuple(shifts)}"
        )
    how = {"target": target, "method": method, "layer": layer, "head": head}
    unshifted = maps_by(model, scans, **how)
    points = []
    for shift in steps(shifts, "shifting"):
        offsets = []
        moved = []
        for scan in scans:
            offset = np.round(np.multiply(shift, scan.shape))
            down, right = offset.astype(int)
            pixels = _shift(scan.pixels, down, right)
            offsets.append((down, right))
            moved.append(replace(scan, pixels=pixels, truth={}))
        maps = maps_by(model, moved, **how)
        points.append(_same_tissue(maps, unshifted, offsets))
    columns = ["moved back", "left in place"]
    points = pd.DataFrame(np.mean(points, axis=0), columns=columns)
    return mean_by_patient(points, groups, limits=(-1, 1))


def _same_tissue(maps, unshifted, offsets):
    """(N, 2) similarity of shifted scans' maps, moved back and left in place."""
    there = []
    back = []
    place = []
    for map, before, (down, right) in zip(maps, unshifted, offsets, strict=True):
        there.append(_window(values_of(map), down, right))
        back.append(_window(values_of(before), -down, -right))
        place.append(_window(values_of(before), down, right))
    moved = ranks(there)
    moved_back = similarity(moved, ranks(back))
    left_in_place = similarity(moved, ranks(place))
    return np.stack([moved_back, left_in_place], 1)


def _shift(pixels, down, right):
    """What was at (y, x) is at (y + down, x + right)."""
    H, W = pixels.shape
    rows = np.clip(np.arange(H) - down, 0, H - 1)
    columns = np.clip(np.arange(W) - right, 0, W - 1)
    return pixels[np.ix_(rows, columns)]


def _window(values, down, right):
    """The part of a map that still shows tissue after a shift."""
    H, W = values.shape
    rows = slice(max(0, down), H + min(0, down))
    columns = slice(max(0, right), W + min(0, right))
    return values[rows, columns]
