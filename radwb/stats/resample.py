"""AUROC, resamples of whole patients, and Wilson's interval of a share."""

import warnings

import numpy as np
from scipy.stats import binomtest, rankdata

from radwb.identifiers import numbered

CHUNK = 32  # resamples at a time: the working set stays in cache


def auroc(y: np.ndarray, s: np.ndarray) -> float:
    """The chance that a case scores above a control, ties counting half.

    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75

    Args:
        y: (N,) labels; anything but 1 and 0 (uncertain -1, NaN) is dropped.
        s: (N,) scores, higher = more likely.
    Returns:
        Mann-Whitney's U over the number of pairs; NaN when only one class is there.
    Raises:
        ValueError: y and s differ in length, or a labelled row has no score.
    """
    y, s, _ = labelled(y, s)
    cases = int(y.sum())
    controls = len(y) - cases
    if cases == 0 or controls == 0:
        return float("nan")
    ranks = rankdata(s)
    among_cases = cases * (cases + 1) / 2  # what the cases' ranks sum to alone
    outranked = ranks[y].sum() - among_cases
    pairs = cases * controls
    return float(outranked / pairs)


def resample_patients(
    patients: np.ndarray, *, n_boot: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw patients with replacement, to bootstrap a statistic of your own by patient.

    >>> row, counts = resample_patients(["ann", "ann", "bob"], n_boot=4)
    >>> counts[row].shape  # how often each image is in each resample
    (3, 4)

    All images of a patient are drawn together.

    Args:
        patients: (N,) patient of each row.
        n_boot: number of resamples.
        seed: of the draws.
    Returns:
        row (N,) the patient's number of each row, counts (P, n_boot) how often each
        patient was drawn. Where a patient isn't known, nobody knows whom to draw:
        counts are NaN, and with them all intervals; a warning says so.
    """
    row, n = numbered(patients)
    unknown = row < 0
    if unknown.any():
        warnings.warn(
            f"no interval: {unknown.sum()} of {len(row)} rows without a patient_id. "
            "Try rw.curate.one_patient_per_image(table) if no patient has two films.",
            stacklevel=2,
        )
        row = np.where(unknown, n, row)
        counts = np.full((n + 1, n_boot), np.nan, np.float32)
        return row, counts
    rng = np.random.default_rng(seed)
    draws = rng.integers(max(n, 1), size=(n_boot, n))
    starts = n * np.arange(n_boot)  # a block of n places a resample
    places = draws + starts[:, None]  # (n_boot, n)
    counts = np.bincount(places.ravel(), minlength=n * n_boot)
    counts = counts.reshape(n_boot, n)
    return row, counts.T.astype(np.float32, order="C")


def bootstrap(
    y: np.ndarray,
    s: np.ndarray,
    patients: np.ndarray,
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """AUROCs of resampled patients, to see how far one moves or to compare two by hand.

    >>> drawn = bootstrap(y, table["age_years"], table["patient_id"], n_boot=200)
    >>> low, high = np.quantile(drawn, [0.025, 0.975])

    Two scores of the same rows with the same seed meet the same resamples, so the
    difference of the two results is a paired comparison. For an interval take
    `clustered_auroc`, which covers better.

    Args:
        y, s: (N,) labels and scores as in `auroc`.
        patients: (N,) patient of each row; `range(N)` resamples images instead.
        n_boot: number of resamples.
        seed: of the draws.
    Returns:
        (n_boot,) AUROCs, NaN where a resample held one class only.
    """
    row, counts = resample_patients(patients, n_boot=n_boot, seed=seed)
    y, s, keep = labelled(y, s)
    return _weighted_auroc(y, s, row[keep], counts)


def labelled(y, s) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels as bool and scores of the rows whose label is 1 or 0, and which these are.

    Raises:
        ValueError: y and s differ in length, or a labelled row has no score.
    """
    y = np.asarray(y, dtype=float).ravel()
    s = np.asarray(s, dtype=float).ravel()
    if len(y) != len(s):
        raise ValueError(
            f"expected one score a label, got {len(s)} scores for {len(y)} labels"
        )
    case = y == 1
    control = y == 0
    keep = case | control
    s = s[keep]
    without_score = int(np.isnan(s).sum())
    if without_score:
        raise ValueError(
            f"expected a score for each labelled row, got {without_score} NaN"
        )
    return case[keep], s, keep


def _weighted_auroc(y, s, row, counts):
    """(n_boot,) AUROC of each resample; row and counts are of `resample_patients`."""
    # sorted once: a case then needs only the weight of the controls below and level
    order = np.argsort(s, kind="stable")
    y = y[order]
    s = s[order]
    row = row[order]
    case_row = row[y]
    control_row = row[~y]
    case_scores = s[y]
    control_scores = s[~y]
    below = np.searchsorted(control_scores, case_scores, "left")
    up_to = np.searchsorted(control_scores, case_scores, "right")
    _, n_boot = counts.shape
    aurocs = np.full(n_boot, np.nan)
    for start in range(0, n_boot, CHUNK):
        chunk = slice(start, start + CHUNK)
        weights = np.ascontiguousarray(counts[:, chunk])  # (P, b)
        cases = weights[case_row]
        controls = weights[control_row]
        # whole numbers: float32 is exact to 8 million images
        _, b = weights.shape
        summed = np.zeros((len(controls) + 1, b), np.float32)
        np.cumsum(controls, axis=0, out=summed[1:])
        twice = summed[below] + summed[up_to]  # a tie counts half
        won = np.einsum("nb,nb->b", cases, twice, dtype=np.float64) / 2
        weight = cases.sum(axis=0, dtype=np.float64)
        pairs = weight * summed[-1]
        np.divide(won, pairs, out=aurocs[chunk], where=pairs > 0)
    return aurocs


def wilson(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a count of yours, which has a width at 0 and 1 too.

    >>> wilson(10, 10)
    (0.722467200137110..., 1.0)

    Args:
        hits: number of successes.
        n: number of tries, each independent: for images of patients `clustered_mean`.
        level: of the interval.
    """
    interval = binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
