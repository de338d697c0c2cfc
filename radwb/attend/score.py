"""Does the map lie on the lesion? Scores against a truth mask, and the controls that
they must beat.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    gaussian_gradient_magnitude,
    label,
)
from sklearn.metrics import average_precision_score

from radwb.data.geometry import to_scan
from radwb.stats import clustered_mean

# px: what is this smooth on a larger film is made at this size and stretched, a hundred
# times faster
LARGE = 256
SCORES = ("hit", "iou", "cnr", "energy", "auprc", "area")
SHARES = ("hit", "iou", "energy", "auprc", "area")  # those that run from 0 to 1


def score_map(
    map,
    mask: np.ndarray,
    *,
    tolerance_px: float = 0,
    threshold: float | None = None,
    scores: Sequence[str] = SCORES,
) -> dict[str, float]:
    """Score one map against the mask of one finding.

    A constant map scores what chance gives: hit = energy = iou = auprc = area and cnr =
    0.

    >>> score_map(np.array([[0, 3.0], [0, 1]]), np.array([[False, True], [False, False]]))
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
    values = np.asarray(getattr(map, "values", map), dtype=np.float64)
    mask = np.asarray(mask, dtype=bool)
    _require_comparable(values, mask)
    return {
        name: float(_SCORE[name](values, mask, tolerance_px, threshold))
        for name in scores
    }


def _hit(values, mask, tolerance_px, threshold):
    near = mask
    if tolerance_px:
        near = distance_transform_edt(~mask) <= tolerance_px
    return near[values == values.max()].mean()


def _iou(values, mask, tolerance_px, threshold):
    cut = threshold
    if cut is None:
        cut = np.partition(values, -mask.sum(), axis=None)[-mask.sum()]
    kept = values >= cut
    return (kept & mask).sum() / (kept | mask).sum()


def _cnr(values, mask, tolerance_px, threshold):
    inside, outside = values[mask], values[~mask]
    if not outside.size:
        return 0.0
    contrast = inside.mean() - outside.mean()
    spread = np.sqrt(inside.var() + outside.var())
    if spread > 0:
        return contrast / spread
    return np.sign(contrast) * np.inf if contrast else 0.0


def _energy(values, mask, tolerance_px, threshold):
    positive = values.clip(min=0)
    return positive[mask].sum() / positive.sum() if positive.any() else mask.mean()


def _auprc(values, mask, tolerance_px, threshold):
    return average_precision_score(mask.ravel(), values.ravel())


def _area(values, mask, tolerance_px, threshold):
    return mask.mean()


_SCORE = dict(zip(SCORES, (_hit, _iou, _cnr, _energy, _auprc, _area), strict=True))


def score_maps(maps, masks, *, groups, tolerance_px=0, threshold=None) -> pd.DataFrame:
    """Mean scores over many maps, each with its 95 % interval over patients.

    >>> score_maps(maps, masks, groups=table.patient_id).loc["hit"]

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

    >>> rw.stats.compare(score_each(ours, masks)["hit"], score_each(theirs, masks)["hit"], patients, names=("a", "b"))

    Args:
        maps, masks, tolerance_px, threshold: as in `score_maps`; a mask without a pixel
            is refused.
        scores: as in `score_map`.
    """
    how = dict(tolerance_px=tolerance_px, threshold=threshold, scores=scores)
    pairs = zip(maps, masks, strict=True)
    return pd.DataFrame([score_map(map, mask, **how) for map, mask in pairs])


def outlined(masks) -> np.ndarray:
    """(N,) bool, which masks have a pixel: a finding that can't be seen has no outline
    to hit.

    >>> outlined([scan.truth["Lung Lesion"] for scan in scans]).sum()

    Raises:
        ValueError: none has.
    """
    seen = np.array([bool(np.any(mask)) for mask in masks])
    if not seen.any():
        raise ValueError(
            f"expected a mask with at least one true pixel, got {len(seen)} empty ones: nothing to hit"
        )
    return seen


def score_by_lesion(
    maps,
    masks,
    *,
    groups,
    by=("area", "elongation"),
    spacing_mm=None,
    bins=3,
    tolerance_px=0,
    threshold=None,
) -> pd.DataFrame:
    """`score_maps` for small and large, round and long lesions, each group with its
    interval over patients.

    >>> score_by_lesion(maps, masks, groups=table.patient_id, bins=2).query("score == 'hit' and by == 'area'")

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
    spacings = [
        spacing for spacing, mask in zip(spacings, masks, strict=True) if np.any(mask)
    ]
    maps, masks, groups, hidden = _shown(maps, masks, groups)
    points = score_each(maps, masks, tolerance_px=tolerance_px, threshold=threshold)
    shapes = pd.DataFrame(
        [lesion_shape(m, s) for m, s in zip(masks, spacings, strict=True)]
    )
    tables = []
    for name in by:
        group = (
            pd.qcut(
                shapes[name].rank(method="average"),
                bins,
                labels=False,
                duplicates="drop",
            )
            + 1
        )
        for g in sorted(group.unique()):
            rows = np.flatnonzero(group == g)
            part = points.iloc[rows].reset_index(drop=True)
            table = mean_by_patient(part, groups[rows], shares=SHARES)
            span = {"least": shapes[name][rows].min(), "most": shapes[name][rows].max()}
            tables.append(
                table.rename_axis("score")
                .reset_index()
                .assign(by=name, group=g, **span)
            )
    whole = pd.concat(tables, ignore_index=True).assign(hidden=hidden)
    about = ["by", "group", "least", "most", "score"]
    return whole[[*about, "mean", "low", "high", "n", "patients", "note", "hidden"]]


def lesion_shape(
    mask: np.ndarray, spacing_mm: tuple[float, float] | None = None
) -> dict[str, float]:
    """How large and how long a lesion is.

    Args:
        mask: (H, W) bool with at least one true pixel.
        spacing_mm: (row, column); None counts pixels.
    Returns:
        area: mm^2 (px without spacing) of all parts; elongation: of the largest part,
        the ratio of the long to the short axis of the ellipse with the same second
        moments (1 = round).
    """
    dy, dx = spacing_mm or (1.0, 1.0)
    parts, _ = label(np.asarray(mask, dtype=bool), np.ones((3, 3)))
    y, x = np.nonzero(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
    # a pixel is a square, not a point: its own second moment is 1/12, so that one pixel
    # is round and not undefined
    moments = (
        np.cov(np.stack([y * dy, x * dx]), bias=True) + np.diag([dy**2, dx**2]) / 12
    )
    short, long = np.sqrt(np.linalg.eigvalsh(moments))
    return {
        "area": float(np.count_nonzero(mask) * dy * dx),
        "elongation": float(long / short),
    }


def tune_threshold(maps, masks, *, candidates: int = 200) -> float:
    """The cut with the highest mean IoU, to be used on other scans than those it was
    found on.

    >>> score_maps(maps, masks, groups=who, threshold=tune_threshold(validation_maps, validation_masks))

    One cut for all scans needs maps on one scale: pass `scaled` maps, here and there,
    where the method has none.

    Args:
        maps, masks: as in `score_maps`, of scans that are not scored with the result;
            empty masks say nothing here.
        candidates: so many quantiles of all maps' values are tried.
    """
    maps = [np.asarray(getattr(m, "values", m), dtype=np.float64) for m in maps]
    if not maps:
        raise ValueError("expected at least one map to tune on, got none")
    maps, masks, _, _ = _shown(maps, masks, range(len(maps)))
    pooled = np.concatenate(
        [np.quantile(m, np.linspace(0, 1, candidates)) for m in maps]
    )
    cuts = np.unique(
        np.quantile(pooled, np.linspace(0, 1, candidates), method="nearest")
    )
    return float(
        cuts[
            np.mean(
                [_ious(m, t, cuts) for m, t in zip(maps, masks, strict=True)], axis=0
            ).argmax()
        ]
    )


def rescale(map):
    """A `Map` or array stretched to run from 0 to 1; a constant one becomes 0."""
    values = np.asarray(getattr(map, "values", map), dtype=np.float32)
    values = (values - values.min()) / (np.ptp(values) or 1)
    return replace(map, values=values) if hasattr(map, "values") else values


def mean_by_patient(
    points: pd.DataFrame, groups, *, shares=(), limits=(-np.inf, np.inf)
) -> pd.DataFrame:
    """The mean of each column and its 95 % interval by patient
    (`rw.stats.clustered_mean`).

    Args:
        points: (N, K), one row a scan.
        groups: (N,) the patient of each row.
        shares: the columns whose values run from 0 to 1.
        limits: beyond which no value can lie, such as (-1, 1) of correlations.
    Returns:
        index the columns of `points`; columns mean, low, high, n, patients, note (why
        there is no interval, else "").
    """
    rows = [
        clustered_mean(points[name], groups, share=name in shares, limits=limits)
        for name in points
    ]
    return pd.DataFrame(rows, index=points.columns)


def random_map(
    shape: tuple[int, int], seed: int, *, sigma: float | None = None
) -> np.ndarray:
    """Smooth noise, the control for a map that knows nothing.

    Args:
        shape: (H, W).
        seed: each seed is another map.
        sigma: smoothness in px; default a twentieth of the longer side, about half a
            patch of a ten-patch grid.
    Returns:
        (H, W) float32 from 0 up.
    """
    if sigma is None and max(shape) > LARGE:
        return to_scan(random_map(_reduced(shape), seed), shape, fit="squash")
    sigma = max(shape) / 20 if sigma is None else sigma
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(
        noise, sigma, mode="wrap"
    )  # wrapped, so that the peak is equally likely everywhere
    return (smooth - smooth.min()).astype(np.float32)


def centre_map(shape: tuple[int, int]) -> np.ndarray:
    """A blob in the middle, the control for a map that only knows where things usually
    are.

    Args:
        shape: (H, W); the blob's standard deviation is a quarter of each side.
    """
    y, x = (np.linspace(-2, 2, n) for n in shape)
    return np.exp(-(y[:, None] ** 2 + x**2) / 2).astype(np.float32)


def edge_map(scan, *, sigma: float | None = None) -> np.ndarray:
    """The scan's own edges, smoothed: the control for a map that draws the anatomy and
    knows nothing of the model.

    Args:
        scan: a `Scan` or its pixels (H, W).
        sigma: smoothness in px, as in `random_map`.
    Returns:
        (H, W) float32, 0 or more.
    """
    pixels = np.asarray(getattr(scan, "pixels", scan), dtype=np.float32)
    if sigma is None and max(pixels.shape) > LARGE:
        small = to_scan(pixels, _reduced(pixels.shape), fit="squash")
        return to_scan(edge_map(small), pixels.shape, fit="squash")
    sigma = max(pixels.shape) / 20 if sigma is None else sigma
    return gaussian_filter(
        gaussian_gradient_magnitude(pixels, max(1, sigma / 8)), sigma
    ).astype(np.float32)


def brightness_map(scan, *, sigma: float | None = None) -> np.ndarray:
    """The film itself, smoothed: the control for a map that marks whatever is white.

    >>> brightness_map(scan).shape == scan.shape
    True

    Args:
        scan: a `Scan` or its pixels (H, W).
        sigma: smoothness in px, as in `random_map`.
    Returns:
        (H, W) float32.
    """
    pixels = np.asarray(getattr(scan, "pixels", scan), dtype=np.float32)
    if sigma is None and max(pixels.shape) > LARGE:
        small = to_scan(pixels, _reduced(pixels.shape), fit="squash")
        return to_scan(brightness_map(small), pixels.shape, fit="squash")
    return gaussian_filter(pixels, max(pixels.shape) / 20 if sigma is None else sigma)


def _reduced(shape):
    return tuple(max(1, round(side * LARGE / max(shape))) for side in shape)


def _shown(maps, masks, groups):
    """Maps, masks and (N,) groups of the films whose mask has a pixel, and how many
    have none.
    """
    maps, masks, groups = list(maps), list(masks), list(groups)
    if not maps or not len(maps) == len(masks) == len(groups):
        sizes = f"{len(maps)} maps, {len(masks)} masks, {len(groups)} groups"
        raise ValueError(
            f"expected one mask and one group for each of at least one map, got {sizes}"
        )
    seen = outlined(masks)
    maps, masks, groups = (
        [few[i] for i in np.flatnonzero(seen)] for few in (maps, masks, groups)
    )
    return maps, masks, np.asarray(groups), int((~seen).sum())


def _ious(values, mask, cuts):
    """(K,) IoU of the mask and the map cut at each of K values."""
    mask = np.asarray(mask, dtype=bool)
    _require_comparable(values, mask)
    kept = values.size - np.searchsorted(np.sort(values, axis=None), cuts)
    inside = mask.sum() - np.searchsorted(np.sort(values[mask]), cuts)
    return inside / (kept + mask.sum() - inside)


def _require_comparable(values, mask):
    if values.shape != mask.shape:
        raise ValueError(
            f"expected map and mask of one shape, got {values.shape} and {mask.shape}"
        )
    if not mask.any():
        raise ValueError(
            "expected a mask with at least one true pixel, got an empty one: a map can't hit nothing"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"expected finite map values, got {int((~np.isfinite(values)).sum())} that are not"
        )
