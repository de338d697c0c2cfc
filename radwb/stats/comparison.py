"""Paired comparisons and the sentence that follows from each."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from radwb.stats.clustered import NO_INTERVAL, Pull


@dataclass(frozen=True)
class Comparison:
    """What was compared, by how much it differs, and what may be said of it.

    >>> print(compare(hits_a, hits_b, table["patient_id"], names=("relevance", "centre"), what="hits"))
    relevance is ahead of centre by 0.12 (0.05 to 0.19; 214 patients)

    Attributes:
        names: of a and b.
        what: is compared, such as "AUROC".
        difference: a minus b.
        low, high: its interval at 1 - 0.05 / family; NaN where there are too few to give one.
        p: two-sided, not corrected: hold it against 0.05 / family.
        n: how many units the interval stands on.
        unit: "patients" or "seeds".
        family: number of comparisons that were made together.
        note: why there is no interval, else "".
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
        behind = f"{self.n} {self.unit}"
        if np.isnan(self.low):
            return f"({self.note or NO_INTERVAL.rstrip(': ')}; {behind})"
        ends = sorted((sign * self.low, sign * self.high))
        several = f"; one of {self.family} comparisons" if self.family > 1 else ""
        return f"({ends[0]:.2f} to {ends[1]:.2f}; {behind}{several})"

    def row(self) -> dict:
        """For a table: a, b, what, difference, low, high, p, n, unit, family, verdict, note."""
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
    difference is as likely to lie above as below the true one. Five or fewer patients give none at 95 %.

    Args:
        a, b: (N,) values of the same rows; b may be one number.
        patients: (N,) patient of each row.
        names: of a and b, as the sentence shall have them.
        what: is compared.
        family: number of comparisons made; the interval is at 1 - 0.05 / family.
        n_boot: random halves, at the least.
        seed: of these.
    Raises:
        ValueError: the rows don't pair, or a value is missing.
    """
    gap = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)  # (N,)
    _, row = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if gap.shape != row.shape or np.isnan(gap).any():
        raise ValueError(
            f"expected one number of each for {len(row)} rows, got {gap.shape} with {int(np.isnan(gap).sum())} missing"
        )
    images = np.bincount(row).astype(float)  # (P,)
    halves = (
        np.random.default_rng(seed).random((max(n_boot, 400 * family), len(images)))
        < 0.5
    )
    with np.errstate(invalid="ignore"):
        means = (halves @ np.bincount(row, gap)) / (halves @ images)
    low, high, p = typical(means, 0.05 / family)
    note = "" if np.isfinite([low, high]).all() else f"{NO_INTERVAL}too few"
    low, high = (low, high) if not note else (np.nan, np.nan)
    return Comparison(
        tuple(names),
        what,
        float(gap.mean()),
        low,
        high,
        p,
        len(images),
        "patients",
        family,
        note,
    )


def typical(means, alpha):
    """(low, high) that hold 1 - alpha of `means`, and p of 0; an empty half (NaN) may lie on either side."""
    least, most = np.nan_to_num(means, nan=-np.inf), np.nan_to_num(means, nan=np.inf)
    low = np.quantile(least, alpha / 2, method="lower")
    high = np.quantile(most, 1 - alpha / 2, method="higher")
    p = 2 * (1 + min((least <= 0).sum(), (most >= 0).sum())) / (1 + len(means))
    return float(low), float(high), float(min(p, 1))


def compare_auroc(y, a, b, patients, *, names, what="AUROC", family=1) -> Comparison:
    """The paired difference of two AUROCs of the same images, by patient.

    >>> print(compare_auroc(y, ours, pixels, table["patient_id"], names=("the model", "raw pixels")))

    DeLong's test with Obuchowski's clusters: both scores' pulls are taken patient by patient.

    Args:
        y: (N,) labels, anything but 1 and 0 dropped; or a DataFrame (N, K): the mean AUROC over findings.
        a, b: (N,) scores, or DataFrames (N, K) with the columns of `y`.
        patients: (N,) patient of each row.
        names, what, family: as in `compare`.
    """
    y, a, b = (
        pd.DataFrame(np.asarray(x), columns=getattr(x, "columns", None))
        for x in (y, a, b)
    )
    if not list(y) == list(a) == list(b):
        raise ValueError(
            f"expected the same findings, got {list(y)}, {list(a)} and {list(b)}"
        )
    pairs = [(Pull.of(y[k], a[k], patients), Pull.of(y[k], b[k], patients)) for k in y]
    kept = [pair for pair in pairs if not pair[0].missing()]
    n = len(set(np.asarray(patients).astype(str)))
    if not kept:
        gap = float(np.mean([one.auroc - other.auroc for one, other in pairs]))
        return Comparison(
            tuple(names),
            what,
            gap,
            np.nan,
            np.nan,
            np.nan,
            n,
            "patients",
            family,
            pairs[0][0].missing(),
        )
    gap = float(np.mean([one.auroc - other.auroc for one, other in kept]))
    error = np.sqrt(
        (np.mean([one.pulls - other.pulls for one, other in kept], axis=0) ** 2).sum()
    )
    freedom = max(np.mean([one.freedom() for one, _ in kept]), 1)
    reach = student.ppf(1 - 0.025 / family, freedom) * error
    p = (
        float(2 * student.sf(abs(gap) / error, freedom))
        if error > 0
        else float(gap == 0)
    )
    return Comparison(
        tuple(names), what, gap, gap - reach, gap + reach, p, n, "patients", family
    )


def compare_seeds(a, b=None, *, names, what="mean", family=1) -> Comparison:
    """The paired difference over training seeds, with Student's interval.

    >>> print(compare_seeds(drop_tied, drop_free, names=("tied", "not tied"), what="drop"))

    Args:
        a, b: (seeds,) one value a training, in the same order of seeds; b None holds a against 0.
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
