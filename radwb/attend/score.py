"""Does the map lie on the lesion? Scores against a truth mask, by patient."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, label
from sklearn.metrics import average_precision_score

from radwb.attend.map import Map, values_of
from radwb.stats import clustered_mean

SCORES = ("hit", "iou", "cnr", "energy", "auprc", "area")
SHARES = ("hit", "iou", "energy", "auprc", "area")  # those that run from 0 to 1


def score_map(
    map: Map | np.ndarray,
    mask: np.ndarray,
    *,
    tolerance_px: float = 0,
    threshold: float | None = None,
    scores: Sequence[str] = SCORES,
) -> dict[str, float]:
    """Score one map against the mask of one finding.

    A constant map scores what chance gives: hit = energy = iou = auprc = area and cnr =
    0.

    >>> half = np.array([[False, True], [False, False]])
    >>> score_map(np.array([[0, 3.0], [0, 1]]), half)
    {'hit': 1.0, 'iou': 1.0, 'cnr': 5.6..., 'energy': 0.75, 'auprc': 1.0, 'area': 0.25}

    Args:
        map: a `Map` or an (H, W) array; values below its minimum of 0 are taken as 0
            for the energy.
        mask: (H, W) bool, the truth.
        tolerance_px: a peak this near to the mask is a hit (Zhang et al. 2018 use 15 px
            for photographs).
        threshold: the map is cut here for the IoU. Default: so that as many pixels are
            kept as the mask has, which lends the map the lesion's size and asks only
            for the place. `tune_threshold` finds one that lends nothing.
        scores: which of them; iou and auprc sort all pixels, which takes a second on a
            film of 3000 px.
    Returns:
        hit: the map's peak is in the mask, the pointing game (Zhang et al. 2018); of
            several equal peaks, the share.
        iou: intersection over union of the cut map and the mask.
        cnr: (mean inside - mean outside) / sqrt(variance inside + variance outside)
            (Boecking et al. 2022, signed).
        energy: share of the map's sum that lies inside (Wang et al. 2020).
        auprc: average precision over pixels: mean precision at each step down the map,
            weighted by the recall gained.
        area: share of the scan that is mask: what a map drawn blindly scores in hit,
            energy and auprc.
    Raises:
        ValueError: an empty mask, another shape, a value that isn't finite.
    """
    values = values_of(map).astype(np.float64)
    mask = np.asarray(mask, dtype=bool)
    _require_comparable(values, mask)
    compute = _SCORE | {
        "hit": partial(_hit, tolerance_px=tolerance_px),
        "iou": partial(_iou, threshold=threshold),
    }
    return {name: float(compute[name](values, mask)) for name in scores}


def _hit(values, mask, tolerance_px):
    near = mask
    if tolerance_px:
        near = distance_transform_edt(~mask) <= tolerance_px
    return near[values == values.max()].mean()


def _iou(values, mask, threshold):
    if threshold is None:
        pixels = mask.sum()
        threshold = np.partition(values, -pixels, axis=None)[-pixels]
    marked = values >= threshold
    return (marked & mask).sum() / (marked | mask).sum()


def _cnr(values, mask):
    inside, outside = values[mask], values[~mask]
    if not outside.size:
        return 0.0
    contrast = inside.mean() - outside.mean()
    spread = np.sqrt(inside.var() + outside.var())
    if spread > 0:
        return contrast / spread
    return np.sign(contrast) * np.inf if contrast else 0.0


def _energy(values, mask):
    positive = values.clip(min=0)
    return positive[mask].sum() / positive.sum() if positive.any() else mask.mean()


def _auprc(values, mask):
    return average_precision_score(mask.ravel(), values.ravel())


def _area(values, mask):
    return mask.mean()


_SCORE = {"cnr": _cnr, "energy": _energy, "auprc": _auprc, "area": _area}


def score_maps(maps, masks, *, groups, tolerance_px=0, threshold=None) -> pd.DataFrame:
    """Mean scores over many maps, each with its 95 % interval over patients.

    >>> maps, masks = [np.eye(4)] * 5, [np.eye(4) > 0] * 5
    >>> int(score_maps(maps, masks, groups=range(5)).loc["hit", "n"])
    5

    The interval is that of `rw.stats.clustered_mean`: a share stays between 0 and 1 and
    has a width at both, and under five patients there is none.

    Args:
        maps: Map or (H, W) arrays.
        masks: (H, W) bool, one a map.
        groups: the patient of each map.
        tolerance_px, threshold: as in `score_map`.
    Returns:
        index hit, iou, cnr, energy, auprc, area; columns mean, low, high, n (maps),
        patients, note (why there is no interval, else ""), hidden (maps left out
        because their mask is empty: the finding is there and can't be seen).
    """
    maps, masks, groups, hidden = _shown(maps, masks, groups)
    points = score_each(maps, masks, tolerance_px=tolerance_px, threshold=threshold)
    return mean_by_patient(points, groups, shares=SHARES).assign(hidden=hidden)


def score_each(
    maps, masks, *, tolerance_px=0, threshold=None, scores=SCORES
) -> pd.DataFrame:
    """`score_map` of many maps, one row a map, for comparisons that pair them.

    >>> score_each([np.eye(4), np.ones((4, 4))], [np.eye(4) > 0] * 2)["hit"].tolist()
    [1.0, 0.25]

    Args:
        maps, masks, tolerance_px, threshold: as in `score_maps`; a mask without a pixel
            is refused.
        scores: as in `score_map`.
    """
    how = {"tolerance_px": tolerance_px, "threshold": threshold, "scores": scores}
    pairs = zip(maps, masks, strict=True)
    return pd.DataFrame([score_map(map, mask, **how) for map, mask in pairs])


def outlined(masks) -> np.ndarray:
    """(N,) bool, which masks have a pixel.

    A finding that can't be seen has no outline to hit.

    >>> outlined([np.eye(2) > 0, np.zeros((2, 2), bool)])
    array([ True, False])

    Raises:
        ValueError: none has.
    """
    seen = np.array([bool(np.any(mask)) for mask in masks])
    if not seen.any():
        raise ValueError(
            f"expected a mask with at least one true pixel, got {len(seen)} empty "
            "ones: nothing to hit"
        )
    return seen


def score_by_lesion(
    maps: Sequence[Map | np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    groups: Sequence,
    by: Sequence[str] = ("area", "elongation"),
    spacing_mm: tuple[float, float] | list[tuple[float, float]] | None = None,
    bins: int = 3,
    tolerance_px: int = 0,
    threshold: float | None = None,
) -> pd.DataFrame:
    """`score_maps` for small and large, round and long lesions.

    >>> masks = [np.arange(64).reshape(8, 8) < n for n in (4, 8, 24, 32)]
    >>> table = score_by_lesion(masks, masks, groups=range(4), by=["area"], bins=2)
    >>> table.query("score == 'hit'")[["group", "least", "most"]].to_numpy().tolist()
    [[1.0, 4.0, 8.0], [2.0, 24.0, 32.0]]

    Args:
        maps, masks, groups, tolerance_px, threshold: as in `score_maps`.
        by: which of the keys of `lesion_shape`.
        spacing_mm: (row, column) of all scans, or a list with one pair a scan; None =
            areas are in px.
        bins: the lesions are cut into so many groups of about equal number, from the
            least to the most.
    Returns:
        one row a feature, group and score: by, group (1 = least), least, most (the
        feature's range in the group), score, mean, low, high, n, patients, note, hidden
        (maps left out of all groups because their mask is empty).
    """
    spacings = spacing_mm if isinstance(spacing_mm, list) else [spacing_mm] * len(masks)
    shapes = [
        lesion_shape(mask, spacing)
        for mask, spacing in zip(masks, spacings, strict=True)
        if np.any(mask)
    ]
    shapes = pd.DataFrame(shapes)
    maps, masks, groups, hidden = _shown(maps, masks, groups)
    points = score_each(maps, masks, tolerance_px=tolerance_px, threshold=threshold)
    tables = []
    for name in by:
        rank = shapes[name].rank(method="average")
        number = pd.qcut(rank, bins, labels=False, duplicates="drop")
        number = number.fillna(0).astype(int) + 1  # where all are alike: one group
        for group, rows in sorted(shapes.groupby(number).indices.items()):
            part = points.iloc[rows].reset_index(drop=True)
            table = mean_by_patient(part, groups[rows], shares=SHARES)
            feature = shapes[name].iloc[rows]
            about = {"least": feature.min(), "most": feature.max(), "hidden": hidden}
            table = table.rename_axis("score").reset_index()
            tables.append(table.assign(by=name, group=group, **about))
    columns = ["by", "group", "least", "most", "score"]
    columns += ["mean", "low", "high", "n", "patients", "note", "hidden"]
    return pd.concat(tables, ignore_index=True)[columns]


def lesion_shape(
    mask: np.ndarray, spacing_mm: tuple[float, float] | None = None
) -> dict[str, float]:
    """How large and how long a lesion is.

    >>> lesion_shape(np.ones((2, 2), bool), spacing_mm=(0.5, 0.5))
    {'area': 1.0, 'elongation': 1.0}

    Args:
        mask: (H, W) bool with at least one true pixel.
        spacing_mm: (row, column); None counts pixels.
    Returns:
        area: mm^2 (px without spacing) of all parts; elongation: of the largest part,
        the ratio of the long to the short axis of the ellipse with the same second
        moments (1 = round).
    """
    spacing = np.array(spacing_mm or (1.0, 1.0))
    parts, _ = label(np.asarray(mask, dtype=bool), np.ones((3, 3)))
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    places = np.argwhere(parts == largest) * spacing
    # a pixel is a square, not a point: its own second moment is 1/12, so that one pixel
    # is round and not undefined
    moments = np.cov(places.T, bias=True) + np.diag(spacing**2) / 12
    short, long = np.sqrt(np.linalg.eigvalsh(moments))
    return {
        "area": float(np.count_nonzero(mask) * spacing.prod()),
        "elongation": float(long / short),
    }


def tune_threshold(
    maps: Sequence[Map | np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    candidates: int = 200,
) -> float:
    """The cut of your own maps with the highest mean IoU, to use on other scans.

    >>> halves = [np.arange(16).reshape(4, 4) >= 8] * 2
    >>> 7 < tune_threshold([np.arange(16.0).reshape(4, 4)] * 2, halves) <= 8
    True

    One cut for all scans needs maps on one scale: pass `rescale`d maps, here and there,
    where the method has none.

    Args:
        maps: Map or (H, W) arrays of scans that are not scored with the result.
        masks: (H, W) bool, one a map; empty masks say nothing here.
        candidates: so many quantiles of all maps' values are tried.
    Raises:
        ValueError: no map, or no mask with a pixel.
    """
    values = [values_of(map).astype(np.float64) for map in maps]
    if not values:
        raise ValueError("expected at least one map to tune on, got none")
    values, masks, _, _ = _shown(values, masks, range(len(values)))
    levels = np.linspace(0, 1, candidates)
    pooled = np.concatenate([np.quantile(v, levels) for v in values])
    cuts = np.unique(np.quantile(pooled, levels, method="nearest"))
    ious = [_ious(v, mask, cuts) for v, mask in zip(values, masks, strict=True)]
    return float(cuts[np.mean(ious, axis=0).argmax()])


def rescale(map: Map | np.ndarray) -> Map | np.ndarray:
    """A map of your own stretched to run from 0 to 1; a constant one becomes 0.

    >>> rescale(np.array([1.0, 2, 3]))
    array([0. , 0.5, 1. ], dtype=float32)

    Args:
        map: a `Map` or an array of any shape.
    Returns:
        the same kind.
    """
    values = values_of(map).astype(np.float32)
    values = (values - values.min()) / (np.ptp(values) or 1)
    return replace(map, values=values) if isinstance(map, Map) else values


def mean_by_patient(
    points: pd.DataFrame, groups, *, shares=(), limits=(-np.inf, np.inf)
) -> pd.DataFrame:
    """The mean of each column and its 95 % interval by patient.

    The interval is that of `rw.stats.clustered_mean`.

    >>> hits = pd.DataFrame({"hit": [0, 1, 1, 0, 1]})
    >>> float(mean_by_patient(hits, groups=None).loc["hit", "mean"])
    0.6

    Args:
        points: (N, K), one row a scan.
        groups: (N,) the patient of each row; None = each is another patient's.
        shares: the columns whose values run from 0 to 1.
        limits: beyond which no value can lie, such as (-1, 1) of correlations.
    Returns:
        index the columns of `points`; columns mean, low, high, n, patients, note (why
        there is no interval, else "").
    """
    if groups is None:
        groups = np.arange(len(points))
    rows = [
        clustered_mean(points[name], groups, share=name in shares, limits=limits)
        for name in points
    ]
    return pd.DataFrame(rows, index=points.columns)


def next_of_another(groups, i: int) -> int:
    """The film after `i`, round the end, of another patient; `i` where there is none.

    >>> [next_of_another(["a", "a", "b"], i) for i in range(3)]
    [2, 2, 0]
    """
    later = [*range(i + 1, len(groups)), *range(i)]
    return next((j for j in later if groups[j] != groups[i]), i)


def _shown(maps, masks, groups):
    """Maps, masks and groups of films whose mask has a pixel; how many have none."""
    maps = list(maps)
    masks = list(masks)
    groups = list(groups)
    if not maps or not len(maps) == len(masks) == len(groups):
        sizes = f"{len(maps)} maps, {len(masks)} masks, {len(groups)} groups"
        raise ValueError(
            f"expected one mask and one group for each of at least one map, got {sizes}"
        )
    seen = outlined(masks)
    maps, masks = list(compress(maps, seen)), list(compress(masks, seen))
    return maps, masks, np.asarray(list(compress(groups, seen))), int((~seen).sum())


def _ious(values, mask, cuts):
    """(K,) IoU of the mask and the map cut at each of K values."""
    mask = np.asarray(mask, dtype=bool)
    _require_comparable(values, mask)
    marked = values.size - np.searchsorted(np.sort(values, axis=None), cuts)
    inside = mask.sum() - np.searchsorted(np.sort(values[mask]), cuts)
    return inside / (marked + mask.sum() - inside)


def _require_comparable(values, mask):
    if values.shape != mask.shape:
        raise ValueError(
            f"expected map and mask of one shape, got {values.shape} and {mask.shape}"
        )
    if not mask.any():
        raise ValueError(
            "expected a mask with at least one true pixel, got an empty one: a map "
            "can't hit nothing"
        )
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected finite map values, got {wrong} that are not")
