"""Does the map lie on the lesion? Scores against a truth mask, and the controls that they must beat."""

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.stats import norm

from radwb.probe.scores import resample_patients


def score_map(map, mask: np.ndarray, *, tolerance_px: float = 0, threshold: float | None = None) -> dict[str, float]:
    """Score one map against the mask of one finding.

    A constant map scores what chance gives: hit = energy = iou = area and cnr = 0.

    >>> score_map(np.array([[0, 3.0], [0, 1]]), np.array([[False, True], [False, False]]))
    {'hit': 1.0, 'iou': 1.0, 'cnr': 3.5..., 'energy': 0.75, 'area': 0.25}

    Args:
        map: a `Map` or an (H, W) array; values below its minimum of 0 are taken as 0 for the energy.
        mask: (H, W) bool, the truth.
        tolerance_px: a peak this near to the mask is a hit (Zhang et al. 2018 use 15 px for photographs).
        threshold: the map is cut here for the IoU. Default: so that as many pixels are kept as the mask has,
            which lends the map the lesion's size and asks only for the place.
    Returns:
        hit: the map's peak is in the mask, the pointing game (Zhang et al. 2018); of several equal peaks, the share.
        iou: intersection over union of the cut map and the mask.
        cnr: (mean inside - mean outside) / sqrt(variance inside + variance outside) (Boecking et al. 2022, signed).
        energy: share of the map's sum that lies inside (Wang et al. 2020).
        area: share of the scan that is mask: what a map drawn blindly scores in hit and energy.
    Raises:
        ValueError: an empty mask, another shape, a value that isn't finite.
    """
    values = np.asarray(getattr(map, "values", map), dtype=np.float64)
    mask = np.asarray(mask, dtype=bool)
    _require_comparable(values, mask)
    inside, outside = values[mask], values[~mask]
    cut = np.sort(values, axis=None)[-mask.sum()] if threshold is None else threshold
    kept, peak = values >= cut, values == values.max()
    near = mask if tolerance_px == 0 else distance_transform_edt(~mask) <= tolerance_px
    positive = values.clip(min=0)
    spread = np.sqrt(inside.var() + (outside.var() if outside.size else 0))
    contrast = inside.mean() - (outside.mean() if outside.size else inside.mean())
    return {
        "hit": float(near[peak].mean()),
        "iou": float((kept & mask).sum() / (kept | mask).sum()),
        "cnr": float(contrast / spread) if spread > 0 else float(np.sign(contrast) * np.inf if contrast else 0.0),
        "energy": float(positive[mask].sum() / positive.sum()) if positive.any() else float(mask.mean()),
        "area": float(mask.mean()),
    }


def score_maps(maps, masks, *, groups, tolerance_px=0, n_boot=1000, seed=0) -> pd.DataFrame:
    """Mean scores over many maps, each with its 95 % interval over patients.

    >>> score_maps(maps, masks, groups=table.patient_id).loc["hit"]

    The interval is the percentile bootstrap that draws patients, all films of a patient together. Where all patients
    score the same 0 or 1 it would have no width; then it is Wilson's interval for that many patients.

    Args:
        maps: Map or (H, W) arrays.
        masks: (H, W) bool, one a map.
        groups: the patient of each map.
        tolerance_px: as in `score_map`.
    Returns:
        index hit, iou, cnr, energy, area; columns mean, low, high, n (maps), patients.
    """
    maps, masks, groups = list(maps), list(masks), list(groups)
    if not maps or not len(maps) == len(masks) == len(groups):
        sizes = f"{len(maps)} maps, {len(masks)} masks, {len(groups)} groups"
        raise ValueError(f"expected one mask and one group for each of at least one map, got {sizes}")
    points = pd.DataFrame([score_map(m, t, tolerance_px=tolerance_px) for m, t in zip(maps, masks, strict=True)])
    row, counts = resample_patients(groups, n_boot=n_boot, seed=seed)
    with np.errstate(invalid="ignore"):  # a two-valued map that is the mask has an infinite contrast
        boots = (counts[row].T @ points.to_numpy()) / counts[row].sum(0)[:, None]  # (n_boot, metrics)
    low, high = np.quantile(boots, [0.025, 0.975], axis=0)
    table = pd.DataFrame({"mean": points.mean(), "low": low, "high": high, "n": len(maps), "patients": len(counts)})
    for metric in ("hit", "iou", "energy"):
        if points[metric].nunique() == 1 and points[metric][0] in (0, 1):
            table.loc[metric, ["low", "high"]] = _wilson(points[metric][0], len(counts))
    return table


def random_map(shape: tuple[int, int], seed: int, *, sigma: float | None = None) -> np.ndarray:
    """Smooth noise, the control for a map that knows nothing.

    Args:
        shape: (H, W).
        seed: each seed is another map.
        sigma: smoothness in px; default a twentieth of the longer side, about half a patch of a ten-patch grid.
    Returns:
        (H, W) float32 from 0 up.
    """
    sigma = max(shape) / 20 if sigma is None else sigma
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(noise, sigma, mode="wrap")  # wrapped, so that the peak is equally likely everywhere
    return (smooth - smooth.min()).astype(np.float32)


def centre_map(shape: tuple[int, int]) -> np.ndarray:
    """A blob in the middle, the control for a map that only knows where things usually are.

    Args:
        shape: (H, W); the blob's standard deviation is a quarter of each side.
    """
    y, x = (np.linspace(-2, 2, n) for n in shape)
    return np.exp(-(y[:, None] ** 2 + x**2) / 2).astype(np.float32)


def _wilson(p, n):
    z = norm.ppf(0.975)
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def _require_comparable(values, mask):
    if values.shape != mask.shape:
        raise ValueError(f"expected map and mask of one shape, got {values.shape} and {mask.shape}")
    if not mask.any():
        raise ValueError("expected a mask with at least one true pixel, got an empty one: a map can't hit nothing")
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite map values, got {int((~np.isfinite(values)).sum())} that are not")
