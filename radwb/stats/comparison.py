"""Paired comparisons by patient or by seed; each returns a `Comparison`."""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from radwb.identifiers import numbered
from radwb.stats.pull import NO_INTERVAL, Pull, effective, without, without_patient
from radwb.stats.sentence import Comparison


def compare(
    a: np.ndarray,
    b: np.ndarray | float,
    patients: np.ndarray,
    *,
    names: tuple[str, str],
    what: str = "mean",
    family: int = 1,
    n_boot: int = 2000,
    seed: int = 0,
) -> Comparison:
    """The paired difference of two means over the same rows, by patient.

    >>> b = np.arange(20) % 4
    >>> print(compare(b + 0.5, b, range(20), names=("relevance", "centre")))
    relevance is ahead of centre by 0.50 (0.50 to 0.50; 20 patients)

    The interval is made of the means of random halves of the patients (Hartigan 1969,
    doi 10.1080/01621459.1969.10501057): exact, however few they are, where a patient's
    difference is as likely to lie above as below the true one. Five or fewer patients
    give none at 95 %.

    Args:
        a, b: (N,) values of the same rows; b may be one number.
        patients: (N,) patient of each row; where one is missing there is no interval,
            and note says so.
        names: of a and b, as the sentence shall have them.
        what: is compared.
        family: number of comparisons made; the interval is at 1 - 0.05 / family.
        n_boot: random halves, at the least.
        seed: of these.
    Raises:
        ValueError: the rows don't pair, or a value is missing.
    """
    a = np.asarray(a, dtype=float)
    b = np.asarray(b, dtype=float)
    gaps = a - b  # (N,)
    row, named = numbered(patients)
    missing = int(np.isnan(gaps).sum())
    if gaps.shape != row.shape or missing:
        raise ValueError(
            f"expected one number of each for {len(row)} rows, "
            f"got {gaps.shape} with {missing} missing"
        )
    unnamed = int((row < 0).sum())
    note = without_patient(unnamed, len(row))
    low = high = p = np.nan
    if not note:
        draws = max(n_boot, 400 * family)
        low, high, p = _mean_interval(gaps, row, family, draws, seed)
        if np.isnan(low):
            note = f"{NO_INTERVAL}too few"
    return Comparison(
        names=tuple(names),
        what=what,
        difference=float(gaps.mean()),
        low=low,
        high=high,
        p=p,
        n=named,
        family=family,
        note=note,
    )


def compare_auroc(
    y: np.ndarray | pd.DataFrame,
    a: np.ndarray | pd.DataFrame,
    b: np.ndarray | pd.DataFrame,
    patients: np.ndarray,
    *,
    names: tuple[str, str],
    what: str = "AUROC",
    family: int = 1,
) -> Comparison:
    """Paired difference of two AUROCs by patient, for scores of two models of yours.

    >>> y = np.arange(40) % 2
    >>> a, b = y + np.arange(40) / 60, np.arange(40) % 3
    >>> print(compare_auroc(y, a, b, range(40), names=("ours", "theirs")))
    ours is ahead of theirs by 0.52 (0.33 to 0.71; 40 patients)

    DeLong's test with Obuchowski's clusters: both scores' pulls are taken patient by
    patient.

    Args:
        y: (N,) labels, anything but 1 and 0 dropped; or a DataFrame (N, K): the mean
            AUROC over findings.
        a, b: (N,) scores, or DataFrames (N, K) with the columns of `y`.
        patients: (N,) patient of each row.
        names, what, family: as in `compare`.
    Raises:
        ValueError: y, a and b have different columns, or a labelled row has no score.
    """
    y = _by_finding(y)
    a = _by_finding(a)
    b = _by_finding(b)
    if not list(y) == list(a) == list(b):
        raise ValueError(
            f"expected the same findings, got {list(y)}, {list(a)} and {list(b)}"
        )
    pairs, left_out = _pulls(y, a, b, patients)
    counted = [pairs[finding] for finding in pairs if finding not in left_out]
    shown = counted or list(pairs.values())
    gaps = [ours.auroc - theirs.auroc for ours, theirs in shown]
    gap = float(np.mean(gaps))
    together = Pull.union([ours for ours, _ in shown])
    note = without(left_out)
    if not counted and len(left_out) == 1:
        (note,) = left_out.values()
    low = high = p = np.nan
    if counted:
        low, high, p = gap_interval(gap, counted, family)
    return Comparison(
        names=tuple(names),
        what=what,
        difference=gap,
        low=low,
        high=high,
        p=p,
        n=together.patients,
        family=family,
        note=note,
    )


def _pulls(y, a, b, patients):
    """Both scores' pulls of each finding, and why a finding has no interval."""
    pairs = {}
    left_out = {}
    for finding in y:
        ours = Pull.of(y[finding], a[finding], patients)
        pairs[finding] = ours, Pull.of(y[finding], b[finding], patients)
        why = ours.missing()
        if why:
            left_out[finding] = why
    return pairs, left_out


def compare_seeds(
    a: np.ndarray,
    b: np.ndarray | None = None,
    *,
    names: tuple[str, str],
    what: str = "mean",
    family: int = 1,
) -> Comparison:
    """The paired difference over training seeds, with Student's interval.

    >>> a, b = [0.81, 0.84, 0.82], [0.71, 0.73, 0.70]
    >>> print(compare_seeds(a, b, names=("tied", "not tied")))
    tied is ahead of not tied by 0.11 (0.09 to 0.13; 3 seeds)

    Args:
        a, b: (seeds,) one value a training, in the same order of seeds; b None holds a
            against 0.
        names, what, family: as in `compare`.
    Raises:
        ValueError: fewer than two seeds, or a and b differ in number.
    """
    a = np.asarray(a, dtype=float)
    if b is None:
        b = np.zeros_like(a)
    b = np.asarray(b, dtype=float)
    paired = a.shape == b.shape and a.ndim == 1 and len(a) > 1
    if not paired or np.isnan(a - b).any():
        raise ValueError(
            "expected a value a seed for two or more seeds, "
            f"got shapes {a.shape} and {b.shape}"
        )
    gaps = a - b  # (seeds,)
    with warnings.catch_warnings():  # seeds that agree to the last digit are no error
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = ttest_1samp(gaps, 0)
    level = 1 - 0.05 / family
    ends = test.confidence_interval(level)
    p = np.nan_to_num(test.pvalue, nan=1.0)
    return Comparison(
        names=tuple(names),
        what=what,
        difference=float(gaps.mean()),
        low=float(ends.low),
        high=float(ends.high),
        p=float(p),
        n=len(gaps),
        unit="seeds",
        family=family,
    )


def gap_interval(gap: float, pairs, family: int) -> tuple[float, float, float]:
    """Interval and p of the mean difference of pairs of AUROCs of the same patients.

    Args:
        gap: the mean difference.
        pairs: of `Pull`, one a finding.
        family: number of comparisons made.
    Returns:
        low and high at 1 - 0.05 / family, two-sided p.
    """
    differences = []
    lacks = []
    freedoms = []
    for ours, theirs in pairs:
        differences.append(ours.pulls - theirs.pulls)
        lacks.append(unpaired(ours, theirs))
        freedoms.append(min(ours.freedom(), theirs.freedom()))
    pulls = np.mean(differences, axis=0)  # (P,)
    squares = (pulls**2).sum()
    lacking = np.sum(lacks) / len(pairs) ** 2
    error = np.sqrt(squares + lacking)
    freedom = np.mean(freedoms)
    alpha = 0.05 / family
    quantile = student.ppf(1 - alpha / 2, freedom)
    reach = quantile * error
    p = 1.0
    if error > 0:
        p = 2 * student.sf(abs(gap) / error, freedom)
    return gap - reach, gap + reach, float(p)


def unpaired(ours: Pull, theirs: Pull) -> float:
    """Variance that the pulls of an AUROC near 0 or 1 lack.

    It counts as far as the two scores don't move together.
    """
    ours_lacks = max(ours.lacking(), 0)
    theirs_lacks = max(theirs.lacking(), 0)
    lacking = ours_lacks + theirs_lacks
    size = np.sqrt(ours.squares() * theirs.squares())
    if size == 0:
        return lacking
    product = (ours.pulls * theirs.pulls).sum()
    together = max(product / size, 0)
    return lacking * (1 - together)


def half_means(totals, sizes, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Means of random halves of the patients: each is in or out by the toss of a coin.

    Hartigan 1969 (doi 10.1080/01621459.1969.10501057): where a patient's deviation is
    as likely above 0 as below, the true mean falls between any two neighbours of these
    with equal chance, however few patients there are.

    Args:
        totals: (P,) sum of each patient's values.
        sizes: (P,) what the sum is divided by, such as its number of images.
        draws: number of halves.
        seed: of the tosses.
    Returns:
        (draws,) means, NaN where nobody was in.
    """
    totals = np.asarray(totals, float)
    sizes = np.asarray(sizes, float)
    rng = np.random.default_rng(seed)
    tosses = rng.random((draws, len(sizes)))
    inside = tosses < 0.5
    sums = inside @ totals  # (draws,)
    images = inside @ sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums / images


def _by_finding(values):
    """(N,) or (N, K) as a table with one column a finding."""
    findings = getattr(values, "columns", None)
    return pd.DataFrame(np.asarray(values), columns=findings)


def _mean_interval(gaps, row, family, draws, seed):
    """low, high (NaN with too few patients) and p of the mean, from `half_means`."""
    images = np.bincount(row)  # (P,)
    sums = np.bincount(row, gaps)  # (P,)
    halves = half_means(sums, images, draws=draws, seed=seed)
    mean = float(gaps.mean())
    deviations = halves - mean
    means = mean + _stretch(images) * deviations
    least = np.nan_to_num(means, nan=-np.inf)  # an empty half may lie on either side
    most = np.nan_to_num(means, nan=np.inf)
    alpha = 0.05 / family
    low = np.quantile(least, alpha / 2, method="lower")
    high = np.quantile(most, 1 - alpha / 2, method="higher")
    below = (least <= 0).sum()
    above = (most >= 0).sum()
    beyond = min(below, above)
    p = 2 * (1 + beyond) / (1 + len(means))
    p = min(float(p), 1.0)
    if np.isfinite([low, high]).all():
        return float(low), float(high), p
    return np.nan, np.nan, p


def _stretch(images):
    """How much further apart the means of halves should lie where images are unequal.

    1 where no patient has more than others: as the P / (P - 1) in a variance, with as
    many patients as count (Kish).
    """
    patients = len(images)
    if patients < 2:
        return 1.0
    counting = effective(images)
    equal = 1 - 1 / patients
    unequal = 1 - 1 / counting
    return float(np.sqrt(equal / unequal))
