"""AUROC, resamples of whole patients, and intervals of shares, means and ratios."""

import warnings

import numpy as np
from scipy.stats import binomtest, rankdata

from radwb.identifiers import numbered

CHUNK = 32  # resamples at a time: the working set stays in cache


def auroc(y, s) -> float:
    """The chance that a case scores above a control, ties counting half.

    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75

    Args:
        y: (N,) labels; anything but 1 and 0 (uncertain -1, NaN) is dropped.
        s: (N,) scores, higher = more likely.
    Returns:
        Mann-Whitney's U over the number of pairs; NaN when only one class is there.
    """
    y, s, _ = labelled(y, s)
    n1 = int(y.sum())
    n0 = len(y) - n1
    if n1 == 0 or n0 == 0:
        return float("nan")
    return float((rankdata(s)[y].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def resample_patients(patients, *, n_boot=1000, seed=0):
    """Draw patients with replacement, all images of a patient together.

    >>> row, counts = resample_patients(table["patient_id"])

    Args:
        patients: (N,) patient of each row.
    Returns:
        row (N,) the patient's number of each row, counts (P, n_boot) how often each
        patient was drawn. Where a patient isn't known, nobody knows whom to draw:
        counts are NaN, and with them all intervals; a warning says so.
    """
    row, n = numbered(patients)
    unknown = int((row < 0).sum())
    if unknown:
        warnings.warn(
            f"no interval: {unknown} of {len(row)} rows without a patient_id. "
            "Try rw.curate.one_patient_per_image(table) if no patient has two films.",
            stacklevel=2,
        )
        return np.where(row < 0, n, row), np.full((n + 1, n_boot), np.nan, np.float32)
    draws = (
        np.random.default_rng(seed).integers(n, size=(n_boot, n))
        if n
        else np.zeros((n_boot, 0), int)
    )
    flat = (draws + n * np.arange(n_boot)[:, None]).ravel()
    counts = np.bincount(flat, minlength=n * n_boot).reshape(n_boot, n)
    return row, np.ascontiguousarray(counts.T, dtype=np.float32)


def bootstrap(y, s, patients, *, n_boot=1000, seed=0) -> np.ndarray:
    """AUROC of `n_boot` resamples of the patients.

    >>> np.quantile(bootstrap(y, s, table["patient_id"]), [0.025, 0.975])

    Two scores of the same rows with the same seed meet the same resamples, so the
    difference of the two results is a paired comparison. For an interval take
    `clustered_auroc`, which covers better.

    Args:
        y, s: (N,) labels and scores as in `auroc`.
        patients: (N,) patient of each row; `range(N)` resamples images instead.
    Returns:
        (n_boot,) AUROCs, NaN where a resample held one class only.
    """
    row, counts = resample_patients(patients, n_boot=n_boot, seed=seed)
    y, s, keep = labelled(y, s)
    return weighted_auroc(y, s, row[keep], counts)


def labelled(y, s):
    """Rows whose label is 1 or 0: their labels as bool, their scores, and which rows
    they are.
    """
    y, s = np.asarray(y, dtype=float).ravel(), np.asarray(s, dtype=float).ravel()
    if len(y) != len(s):
        raise ValueError(
            f"expected one score a label, got {len(s)} scores for {len(y)} labels"
        )
    keep = (y == 1) | (y == 0)
    if np.isnan(s[keep]).any():
        raise ValueError(
            f"expected a score for each labelled row, got {int(np.isnan(s[keep]).sum())} NaN"
        )
    return y[keep] == 1, s[keep], keep


def weighted_auroc(y, s, row, counts):
    """(n_boot,) AUROC of each resample; `row` and `counts` as `resample_patients` gives
    them.
    """
    # sorted once; each case then needs only how much control weight lies below it and
    # level with it
    order = np.argsort(s, kind="stable")
    y, s, row = y[order], s[order], row[order]
    controls, cases = row[~y], row[y]
    below, up_to = (np.searchsorted(s[~y], s[y], side) for side in ("left", "right"))
    out = np.full(counts.shape[1], np.nan)
    for start in range(0, counts.shape[1], CHUNK):
        w = np.ascontiguousarray(counts[:, start : start + CHUNK])
        cum = np.zeros(
            (len(controls) + 1, w.shape[1]), np.float32
        )  # whole numbers: exact to 8 million images
        np.cumsum(w[controls], axis=0, out=cum[1:])
        won = (
            np.einsum("nb,nb->b", w[cases], cum[below] + cum[up_to], dtype=np.float64)
            / 2
        )
        pairs = w[cases].sum(axis=0, dtype=np.float64) * cum[-1]
        np.divide(won, pairs, out=out[start : start + CHUNK], where=pairs > 0)
    return out


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which has a width at 0 and 1 too.

    >>> wilson(10, 10)
    (0.7224672001371107, 1.0)
    """
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def half_means(totals, sizes, *, draws=2000, seed=0) -> np.ndarray:
    """Means of random halves of the patients: each is in or out by the toss of a coin.

    Hartigan 1969 (doi 10.1080/01621459.1969.10501057): where a patient's deviation is
    as likely above 0 as below, the true mean falls between any two neighbours of these
    with equal chance, however few patients there are.

    Args:
        totals: (P,) sum of each patient's values.
        sizes: (P,) what the sum is divided by, such as its number of images.
    Returns:
        (draws,) means, NaN where nobody was in.
    """
    inside = np.random.default_rng(seed).random((draws, len(sizes))) < 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        return (inside @ np.asarray(totals, float)) / (
            inside @ np.asarray(sizes, float)
        )


def unequal(images) -> float:
    """How much further apart the means of halves should lie where some patients have
    many images: 1 where none has.

    As the P / (P - 1) in a variance, with as many patients as count (Kish).
    """
    images = np.asarray(images, float)
    counting = images.sum() ** 2 / (images**2).sum()
    if len(images) < 2:
        return 1.0
    return float(np.sqrt((1 - 1 / len(images)) / (1 - 1 / counting)))


def typical(means, alpha: float) -> tuple[float, float, float]:
    """(low, high) that hold 1 - alpha of `half_means`, infinite with too few patients,
    and the two-sided p of 0.
    """
    least = np.nan_to_num(means, nan=-np.inf)  # an empty half may lie on either side
    most = np.nan_to_num(means, nan=np.inf)
    low = np.quantile(least, alpha / 2, method="lower")
    high = np.quantile(most, 1 - alpha / 2, method="higher")
    beyond = min((least <= 0).sum(), (most >= 0).sum())
    p = 2 * (1 + beyond) / (1 + len(means))
    return float(low), float(high), float(min(p, 1))


def ratio(over, under, patients, *, n_boot=2000, seed=0) -> dict:
    """A ratio of two means of the same rows, with a 95 % interval by patient that never
    goes below 0.

    >>> stated(ratio(energy, area, table["patient_id"]), "ratio")
    '2.31 (1.84 to 2.90)'

    Made of the ratios in random halves of the patients, as `compare` is of means:
    values from 0 up have a ratio from 0 up in every half.

    Args:
        over, under: (N,) values from 0 up.
        patients: (N,) patient of each row.
        n_boot: random halves.
        seed: of these.
    Returns:
        ratio, low, high (NaN with five patients or fewer), n, patients, note.
    Raises:
        ValueError: a value is negative or missing, or `under` has the mean 0.
    """
    over, under = np.asarray(over, dtype=float), np.asarray(under, dtype=float)
    wrong = int((~(over >= 0) | ~(under >= 0)).sum())
    if wrong or not under.sum() > 0:
        raise ValueError(
            f"expected values from 0 up and a mean above 0 to divide by, got {wrong} rows negative or missing and a "
            f"mean of {under.mean():.3g}. Try a difference: rw.stats.compare"
        )
    row, named = numbered(patients)
    unknown = int((row < 0).sum())
    row = np.where(row < 0, named, row)
    images = np.bincount(row, minlength=named)
    parts = np.bincount(row, over), np.bincount(row, under)
    ratios = half_means(*parts, draws=n_boot, seed=seed)
    whole = over.sum() / under.sum()
    if whole > 0:  # spread on the log scale: stays above 0
        ratios = whole * (ratios / whole) ** unequal(images)
    low, high, _ = typical(ratios, 0.05)
    few = unknown > 0 or not np.isfinite([low, high]).all()
    note = f"no interval: {unknown} of {len(row)} images without a patient_id"
    if not unknown:
        note = f"no interval: {named} patients" if few else ""
    return {
        "ratio": float(whole),
        "low": np.nan if few else low,
        "high": np.nan if few else high,
        "n": len(over),
        "patients": named,
        "note": note,
    }
