"""Paired comparisons and the sentence that follows from each."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from radwb.identifiers import numbered
from radwb.stats.pull import NO_INTERVAL, Pull, without, without_patient
from radwb.stats.resample import half_means, typical, unequal


@dataclass(frozen=True)
class Comparison:
    """What was compared, by how much it differs, and what may be said of it.

    >>> print(compare(hits_a, hits_b, table["patient_id"], names=("relevance", "centre"), what="hits"))
    relevance is ahead of centre by 0.12 (0.05 to 0.19; 214 patients)

    Attributes:
        names: of a and b.
        what: is compared, such as "AUROC".
        difference: a minus b.
        low, high: its interval at 1 - 0.05 / family; NaN where there are too few to
            give one.
        p: two-sided, not corrected: hold it against 0.05 / family.
        n: how many units the interval stands on.
        unit: "patients" or "seeds".
        family: number of comparisons that were made together.
        note: why there is no interval, or which findings are left out and why; else "".
    """

    names: tuple[str, str]
    what: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    unit: str = "patients"
    family: int = 1
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "ahead" or "behind" where the interval lies clear of 0, else "can't tell"."""
        if self.low > 0:
            return "ahead"
        if self.high < 0:
            return "behind"
        return "can't tell"

    def __str__(self):
        a, b = self.names
        if self.verdict == "can't tell":
            return f"can't tell {a} from {b}: {self.difference:.2f} {self._interval(1)}"
        side = (
            f"{a} is ahead of {b}" if self.verdict == "ahead" else f"{a} is behind {b}"
        )
        return f"{side} by {abs(self.difference):.2f} {self._interval(np.sign(self.difference))}"

    def _interval(self, sign):
        unit = self.unit.removesuffix("s") if self.n == 1 else self.unit
        about = [f"{self.n} {unit}"]
        if np.isnan(self.low):
            return f"({self.note or 'no interval'}; {about[0]})"
        low, high = sorted((sign * self.low, sign * self.high))
        if self.family > 1:
            about.append(f"one of {self.family} comparisons")
        if self.note:
            about.append(self.note)
        return f"({low:.2f} to {high:.2f}; {'; '.join(about)})"

    def row(self) -> dict:
        """For a table: a, b, what, difference, low, high, p, n, unit, family, verdict,
        note.
        """
        a, b = self.names
        about = {
            "a": a,
            "b": b,
            "what": self.what,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
        }
        about |= {"p": self.p, "n": self.n, "unit": self.unit, "family": self.family}
        return about | {"verdict": self.verdict, "note": self.note}


def compare(
    a, b, patients, *, names, what="mean", family=1, n_boot=2000, seed=0
) -> Comparison:
    """The paired difference of two means over the same rows, by patient.

    >>> print(compare(hits_a, hits_b, table["patient_id"], names=("relevance", "centre"), what="hits", family=6))

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
    gap = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)  # (N,)
    row, named = numbered(patients)
    if gap.shape != row.shape or np.isnan(gap).any():
        raise ValueError(
            f"expected one number of each for {len(row)} rows, got {gap.shape} with {int(np.isnan(gap).sum())} missing"
        )
    names = tuple(names)
    if note := without_patient(int((row < 0).sum()), len(row)):
        nothing = (np.nan, np.nan, np.nan)
        return Comparison(
            names, what, float(gap.mean()), *nothing, named, family=family, note=note
        )
    images = np.bincount(row)  # (P,)
    draws = max(n_boot, 400 * family)
    mean = float(gap.mean())
    halves = half_means(np.bincount(row, gap), images, draws=draws, seed=seed)
    means = mean + unequal(images) * (halves - mean)
    low, high, p = typical(means, 0.05 / family)
    if not np.isfinite([low, high]).all():
        low = high = np.nan
    note = f"{NO_INTERVAL}too few" if np.isnan(low) else ""
    n = len(images)
    return Comparison(names, what, mean, low, high, p, n, "patients", family, note)


def compare_auroc(y, a, b, patients, *, names, what="AUROC", family=1) -> Comparison:
    """The paired difference of two AUROCs of the same images, by patient.

    >>> print(compare_auroc(y, ours, pixels, table["patient_id"], names=("the model", "raw pixels")))

    DeLong's test with Obuchowski's clusters: both scores' pulls are taken patient by
    patient.

    Args:
        y: (N,) labels, anything but 1 and 0 dropped; or a DataFrame (N, K): the mean
            AUROC over findings.
        a, b: (N,) scores, or DataFrames (N, K) with the columns of `y`.
        patients: (N,) patient of each row.
        names, what, family: as in `compare`.
    """
    y, a, b = (by_finding(values) for values in (y, a, b))
    if not list(y) == list(a) == list(b):
        raise ValueError(
            f"expected the same findings, got {list(y)}, {list(a)} and {list(b)}"
        )
    ours = {k: Pull.of(y[k], a[k], patients) for k in y}
    theirs = {k: Pull.of(y[k], b[k], patients) for k in y}
    left_out = {k: pull.missing() for k, pull in ours.items() if pull.missing()}
    kept = [k for k in y if k not in left_out]
    gaps = [ours[k].auroc - theirs[k].auroc for k in kept or y]
    gap = float(np.mean(gaps))
    seen = np.sum([ours[k].images_of for k in kept or y], axis=0) > 0
    n = int(seen[: next(iter(ours.values())).named].sum())
    common = (tuple(names), what, gap)
    if not kept:
        why = without(left_out) if len(left_out) > 1 else left_out[list(y)[0]]
        return Comparison(*common, np.nan, np.nan, np.nan, n, family=family, note=why)
    pairs = [(ours[k], theirs[k]) for k in kept]
    ends = gap_interval(gap, pairs, family)
    return Comparison(*common, *ends, n, family=family, note=without(left_out))


def gap_interval(gap: float, pairs, family: int) -> tuple[float, float, float]:
    """Ends at 1 - 0.05 / family and two-sided p of the mean difference of pairs of
    AUROCs of the same patients.
    """
    pulls = np.mean([one.pulls - other.pulls for one, other in pairs], axis=0)  # (P,)
    own = [unpaired(one, other) for one, other in pairs]
    error = np.sqrt((pulls**2).sum() + np.sum(own) / len(pairs) ** 2)
    freedom = np.mean([min(one.freedom(), other.freedom()) for one, other in pairs])
    reach = student.ppf(1 - 0.025 / family, freedom) * error
    p = 2 * student.sf(abs(gap) / error, freedom) if error > 0 else 1.0
    return gap - reach, gap + reach, float(p)


def unpaired(ours: Pull, theirs: Pull) -> float:
    """Variance that the pulls of an AUROC near 0 or 1 lack, as far as the two scores
    don't move together.
    """
    lacking = sum(
        max(one.variance() - (one.pulls**2).sum(), 0) for one in (ours, theirs)
    )
    size = np.sqrt((ours.pulls**2).sum() * (theirs.pulls**2).sum())
    together = (ours.pulls * theirs.pulls).sum() / size if size > 0 else 0.0
    return lacking * (1 - max(together, 0))


def by_finding(values) -> pd.DataFrame:
    """(N,) or (N, K) as a table with one column a finding."""
    return pd.DataFrame(np.asarray(values), columns=getattr(values, "columns", None))


def compare_seeds(a, b=None, *, names, what="mean", family=1) -> Comparison:
    """The paired difference over training seeds, with Student's interval.

    >>> print(compare_seeds(drop_tied, drop_free, names=("tied", "not tied"), what="drop"))

    Args:
        a, b: (seeds,) one value a training, in the same order of seeds; b None holds a
            against 0.
        names, what, family: as in `compare`.
    Raises:
        ValueError: fewer than two seeds, or a and b differ in number.
    """
    a = np.asarray(a, dtype=float)
    b = np.zeros_like(a) if b is None else np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2 or np.isnan(a - b).any():
        raise ValueError(
            f"expected a value a seed for two or more seeds, got shapes {a.shape} and {b.shape}"
        )
    with warnings.catch_warnings():  # seeds that agree to the last digit are no error
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = ttest_1samp(a - b, 0)
    ends = test.confidence_interval(1 - 0.05 / family)
    p = float(np.nan_to_num(test.pvalue, nan=1.0))
    gap = float((a - b).mean())
    return Comparison(
        tuple(names),
        what,
        gap,
        float(ends.low),
        float(ends.high),
        p,
        len(a),
        "seeds",
        family,
    )
