"""AUROC with an interval that resamples patients, and the Scores every probe returns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, rankdata

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
    y, s, _ = _labelled(y, s)
    n1 = int(y.sum())
    n0 = len(y) - n1
    if n1 == 0 or n0 == 0:
        return float("nan")
    return float((rankdata(s)[y].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def resample_patients(patients, *, n_boot=1000, seed=0):
    """Draw patients with replacement, all images of a patient together.

    Args:
        patients: (N,) patient of each row.
    Returns:
        row (N,) the patient's number of each row, counts (P, n_boot) how often each patient was drawn.
    """
    _, row = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    n = int(row.max()) + 1 if len(row) else 0
    draws = np.random.default_rng(seed).integers(n, size=(n_boot, n)) if n else np.zeros((n_boot, 0), int)
    flat = (draws + n * np.arange(n_boot)[:, None]).ravel()
    counts = np.bincount(flat, minlength=n * n_boot).reshape(n_boot, n)
    return row, np.ascontiguousarray(counts.T, dtype=np.float32)


def bootstrap(y, s, patients, *, n_boot=1000, seed=0) -> np.ndarray:
    """AUROC of `n_boot` resamples of the patients.

    Two scores of the same rows with the same seed meet the same resamples, so the difference of the
    two results is a paired comparison.

    Args:
        y, s: (N,) labels and scores as in `auroc`.
        patients: (N,) patient of each row; `range(N)` resamples images instead.
    Returns:
        (n_boot,) AUROCs, NaN where a resample held one class only.
    """
    row, counts = resample_patients(patients, n_boot=n_boot, seed=seed)
    y, s, keep = _labelled(y, s)
    return _weighted_auroc(y, s, row[keep], counts)


def _labelled(y, s):
    y, s = np.asarray(y, dtype=float).ravel(), np.asarray(s, dtype=float).ravel()
    if len(y) != len(s):
        raise ValueError(f"expected one score a label, got {len(s)} scores for {len(y)} labels")
    keep = (y == 1) | (y == 0)
    if np.isnan(s[keep]).any():
        raise ValueError(f"expected a score for each labelled row, got {int(np.isnan(s[keep]).sum())} NaN")
    return y[keep] == 1, s[keep], keep


def _weighted_auroc(y, s, row, counts):
    # sorted once; each case then needs only how much control weight lies below it and level with it
    order = np.argsort(s, kind="stable")
    y, s, row = y[order], s[order], row[order]
    controls, cases = row[~y], row[y]
    below, up_to = (np.searchsorted(s[~y], s[y], side) for side in ("left", "right"))
    out = np.full(counts.shape[1], np.nan)
    for start in range(0, counts.shape[1], CHUNK):
        w = np.ascontiguousarray(counts[:, start : start + CHUNK])
        cum = np.zeros((len(controls) + 1, w.shape[1]), np.float32)  # whole numbers: exact to 8 million images
        np.cumsum(w[controls], axis=0, out=cum[1:])
        won = np.einsum("nb,nb->b", w[cases], cum[below] + cum[up_to], dtype=np.float64) / 2
        pairs = w[cases].sum(axis=0, dtype=np.float64) * cum[-1]
        np.divide(won, pairs, out=out[start : start + CHUNK], where=pairs > 0)
    return out


@dataclass(frozen=True, eq=False)
class Scores:
    """What a probe says of each image, beside the truth.

    Attributes:
        values: (N, K) one column a finding, higher = more likely.
        truth: (N, K) the same columns: 1, 0, -1 uncertain, NaN not mentioned.
        patient_id: (N,) the unit that intervals resample.
    """

    values: pd.DataFrame
    truth: pd.DataFrame
    patient_id: np.ndarray

    def __post_init__(self):
        if list(self.values.columns) != list(self.truth.columns):
            raise ValueError(f"expected truth for {list(self.values.columns)}, got {list(self.truth.columns)}")
        if not len(self.values) == len(self.truth) == len(self.patient_id):
            lengths = len(self.values), len(self.truth), len(self.patient_id)
            raise ValueError(f"expected as many truths and patients as values, got {lengths}")

    @classmethod
    def of(cls, values, table, findings) -> "Scores":
        """Pair an (N, K) array with the rows of `table` it was computed from."""
        findings = list(findings)
        missing = [f for f in findings if f not in table.columns]
        if missing:
            raise ValueError(f"expected a label column for each finding, got none for {missing}")
        truth = table[findings].astype(float).reset_index(drop=True)
        return cls(pd.DataFrame(np.asarray(values), columns=findings), truth, table["patient_id"].to_numpy())

    def resamples(self, *, n_boot=1000, seed=0) -> pd.DataFrame:
        """(n_boot, K) AUROCs; a row is one draw of the patients, the same for every finding."""
        row, counts = resample_patients(self.patient_id, n_boot=n_boot, seed=seed)
        columns = {}
        for finding in self.values:
            y, s, keep = _labelled(self.truth[finding], self.values[finding])
            columns[finding] = _weighted_auroc(y, s, row[keep], counts)
        return pd.DataFrame(columns)

    def auroc(self, *, n_boot=1000, seed=0) -> pd.DataFrame:
        """One row a finding: AUROC with its 95 % percentile interval over patients.

        An AUROC of 0 or 1 is the same in every resample, which would give it an interval without width. It gets
        Wilson's, as if it were a share of as many patients as the rarer class has.

        Returns:
            finding, auroc, low, high, n and positives (labelled images), patients (of these), dropped
            (uncertain or not mentioned), note (why a number is missing or weak, else "").
        """
        return self._table(self.resamples(n_boot=n_boot, seed=seed))

    def mean_auroc(self, *, n_boot=1000, seed=0) -> pd.DataFrame:
        """The mean over findings, in one row; its interval takes the mean within each resample."""
        boots = self.resamples(n_boot=n_boot, seed=seed)
        each = self._table(boots)
        usable = each.finding[each.auroc.notna()].tolist()
        low, high = _interval(boots[usable].mean(axis=1, skipna=False))
        left_out = sorted(set(each.finding) - set(usable))
        return pd.DataFrame(
            {
                "finding": [f"mean of {len(usable)}"],
                "auroc": [each.auroc.mean()],
                "low": [low],
                "high": [high],
                "n": [len(self.values)],
                "positives": [int(each.positives.sum())],
                "patients": [len(set(self.patient_id))],
                "dropped": [int(each.dropped.sum())],
                "note": [f"without {', '.join(left_out)}" if left_out else ""],
            }
        )

    def shuffled(self, seed=0) -> "Scores":
        """The control: the same scores against labels dealt out to other patients, in whole blocks."""
        patients = np.asarray(self.patient_id).astype(str)
        names, row = np.unique(patients, return_inverse=True)
        dealt = np.random.default_rng(seed).permutation(len(names))
        truth = self.truth.copy()
        # a block goes to another patient's rows; where sizes differ it spills into the next patient's
        truth.iloc[np.argsort(row, kind="stable")] = self.truth.iloc[np.argsort(dealt[row], kind="stable")].to_numpy()
        return Scores(self.values, truth, self.patient_id)

    def _table(self, boots):
        return pd.DataFrame([self._row(finding, boots[finding]) for finding in self.values])

    def _row(self, finding, boots):
        y, _, keep = _labelled(self.truth[finding], self.values[finding])
        patients, value = np.asarray(self.patient_id)[keep], auroc(self.truth[finding], self.values[finding])
        low, high = _interval(boots)
        if value in (0, 1):  # no resample differs; cautious: a share of as many patients as the rarer class has
            rarer = min(len(set(patients[y])), len(set(patients[~y])))
            low, high = wilson(int(value) * rarer, rarer)
        return {
            "finding": finding,
            "auroc": value,
            "low": low,
            "high": high,
            "n": len(y),
            "positives": int(y.sum()),
            "patients": len(set(patients)),
            "dropped": int((~keep).sum()),
            "note": _note(y, boots),
        }


def stated(row, value="auroc") -> str:
    """A number with its interval, for a sentence.

    >>> stated(scores.mean_auroc().iloc[0])
    '0.84 (0.80 to 0.88)'
    """
    return f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which has a width at 0 and 1 too."""
    return tuple(map(float, binomtest(hits, n).proportion_ci(method="wilson")))


def _interval(boots):
    boots = np.asarray(boots, dtype=float)
    boots = boots[~np.isnan(boots)]
    return tuple(np.quantile(boots, [0.025, 0.975])) if len(boots) else (np.nan, np.nan)


def _note(y, boots):
    if len(y) == 0:
        return "no labelled image"
    if y.all() or not y.any():
        return f"{'no case' if not y.any() else 'no control'} among {len(y)} labelled images"
    empty = int(np.isnan(boots).sum())
    return f"{empty} of {len(boots)} resamples held one class only" if empty else ""
