"""AUROC with an interval that knows that the images of one patient are alike."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from radwb.stats.resample import labelled

MIN_POSITIVE_PATIENTS = 8
MIN_CONTROL_PATIENTS = 8


def clustered_auroc(y, s, patients, *, level=0.95) -> dict:
    """AUROC with its interval by patient.

    >>> stated(clustered_auroc(y, s, table["patient_id"]))
    '0.84 (0.80 to 0.88)'

    Args:
        y: (N,) labels; anything but 1 and 0 (uncertain -1, NaN) is dropped.
        s: (N,) scores, higher = more likely.
        patients: (N,) patient of each row.
        level: of the interval.
    Returns:
        auroc, low, high (NaN where there are too few patients), n and positives (labelled images),
        positive_patients (with a case), patients (labelled), dropped (images), note (why a number is
        missing, else "").
    """
    pull = Pull.of(y, s, patients)
    note = pull.missing()
    low, high = (np.nan, np.nan) if note else interval([pull], level)
    return {
        "auroc": pull.auroc,
        "low": low,
        "high": high,
        "n": pull.cases + pull.controls,
        "positives": pull.cases,
        "positive_patients": int((pull.cases_of > 0).sum()),
        "patients": int((pull.cases_of + pull.controls_of > 0).sum()),
        "dropped": len(np.asarray(y)) - pull.cases - pull.controls,
        "note": note,
    }


def mean_clustered_auroc(truth, values, patients, *, level=0.95) -> dict:
    """The mean AUROC over findings with its interval by patient; findings of too few patients are left out and named.

    >>> stated(mean_clustered_auroc(scores.truth, scores.values, scores.patient_id))
    '0.84 (0.80 to 0.88; without Edema (cases in 4 patients))'

    Args:
        truth, values: DataFrames (N, K) of labels and scores, one column a finding.
        patients: (N,) patient of each row.
        level: of the interval.
    Returns:
        the keys of `clustered_auroc`; note names what was left out and why.
    """
    pulls = {
        finding: Pull.of(truth[finding], values[finding], patients)
        for finding in values
    }
    left_out = {
        finding: pull.missing() for finding, pull in pulls.items() if pull.missing()
    }
    kept = [pull for finding, pull in pulls.items() if finding not in left_out]
    reasons = ", ".join(
        f"{finding} ({why.removeprefix(NO_INTERVAL)})"
        for finding, why in left_out.items()
    )
    low, high = interval(kept, level) if kept else (np.nan, np.nan)
    cases = np.sum([pull.cases_of for pull in kept], axis=0) if kept else np.zeros(0)
    return {
        "findings": len(kept),
        "auroc": float(np.mean([pull.auroc for pull in kept])) if kept else np.nan,
        "low": low,
        "high": high,
        "n": len(values),
        "positives": int(cases.sum()),
        "positive_patients": int((cases > 0).sum()),
        "patients": len(set(np.asarray(patients).astype(str))),
        "dropped": sum(
            len(values) - pull.cases - pull.controls for pull in pulls.values()
        ),
        "note": f"without {reasons}" if reasons else "",
    }


NO_INTERVAL = "no interval: "


@dataclass(frozen=True, eq=False)
class Pull:
    """How far each patient pulls an AUROC up or down: what its variance by patient is made of.

    Obuchowski 1997 (doi 10.2307/2533958), after DeLong et al. 1988: a case's placement is the share of the controls
    that it outranks, a control's the share of the cases that outrank it. A patient's pull is the sum of what its
    images' placements add to the AUROC beyond the mean.

    Attributes:
        auroc: NaN with one class only.
        pulls: (P,) of the patients, in the order of their names; 0 for one without a labelled image.
        cases_of, controls_of: (P,) images of each patient.
    """

    auroc: float
    pulls: np.ndarray
    cases_of: np.ndarray
    controls_of: np.ndarray

    @classmethod
    def of(cls, y, s, patients) -> "Pull":
        names, row = np.unique(np.asarray(patients).astype(str), return_inverse=True)
        y, s, keep = labelled(y, s)
        row = row[keep]
        cases_of = np.bincount(row[y], minlength=len(names))
        controls_of = np.bincount(row[~y], minlength=len(names))
        if y.all() or not y.any():
            return cls(np.nan, np.full(len(names), np.nan), cases_of, controls_of)
        won, kept_off = placements(y, s)
        auroc = float(won.mean())
        pulls = np.zeros(len(names))
        for placed, rows in ((won, row[y]), (kept_off, row[~y])):
            patients_here = len(set(rows))
            few = np.sqrt(
                patients_here / max(patients_here - 1, 1)
            )  # as n / (n - 1) in a variance
            pulls += (
                few
                * np.bincount(rows, placed - auroc, minlength=len(names))
                / len(placed)
            )
        return cls(auroc, pulls, cases_of, controls_of)

    @property
    def cases(self) -> int:
        return int(self.cases_of.sum())

    @property
    def controls(self) -> int:
        return int(self.controls_of.sum())

    def missing(self) -> str:
        """Why this AUROC has no interval; "" where it has one."""
        n = self.cases + self.controls
        if n == 0:
            return "no labelled image"
        if not self.cases or not self.controls:
            return f"no {'control' if self.cases else 'case'} among {n} labelled images"
        with_case, with_control = (
            (of > 0).sum() for of in (self.cases_of, self.controls_of)
        )
        if with_case < MIN_POSITIVE_PATIENTS:
            return f"{NO_INTERVAL}cases in {_patients(with_case)}"
        if with_control < MIN_CONTROL_PATIENTS:
            return f"{NO_INTERVAL}controls in {_patients(with_control)}"
        return ""

    def freedom(self) -> float:
        """Degrees of freedom: as many patients of the rarer class as count, less one."""
        return min(effective(self.cases_of), effective(self.controls_of)) - 1


def _patients(number):
    return f"{number} patient{'' if number == 1 else 's'}"


def placements(y, s):
    """Share of the controls that each case outranks (cases,), of the cases that outrank each control (controls,)."""
    cases, controls = np.sort(s[y]), np.sort(s[~y])
    won = np.searchsorted(controls, s[y], "left") + np.searchsorted(
        controls, s[y], "right"
    )
    lost = np.searchsorted(cases, s[~y], "left") + np.searchsorted(
        cases, s[~y], "right"
    )
    return won / (2 * len(controls)), 1 - lost / (2 * len(cases))


def effective(sizes) -> float:
    """As how many patients of equal size these count (Kish): 21, 3, 1 and 1 images make 1.5.

    >>> effective(np.array([21, 3, 1, 1]))
    1.495...
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def interval(pulls: list[Pull], level: float) -> tuple[float, float]:
    """The interval of the mean AUROC of `pulls`, on the logit scale."""
    auroc = np.mean([pull.auroc for pull in pulls])
    error = np.sqrt((np.mean([pull.pulls for pull in pulls], axis=0) ** 2).sum())
    freedom = max(np.mean([pull.freedom() for pull in pulls]), 1)
    reach = (
        student.ppf((1 + level) / 2, freedom) * error / max(auroc * (1 - auroc), 1e-9)
    )
    middle = logit(np.clip(auroc, 1e-9, 1 - 1e-9))
    return float(expit(middle - reach)), float(expit(middle + reach))


def stated(row, value="auroc") -> str:
    """A number with its interval and its note, for a sentence.

    >>> stated(scores.mean_auroc().iloc[0])
    '0.84 (0.80 to 0.88)'
    >>> stated({"auroc": 0.8, "low": np.nan, "high": np.nan, "note": "no interval: cases in 4 patients"})
    '0.80 (no interval: cases in 4 patients)'

    Args:
        row: a dict or a row of a table with `value`, low, high and, where it has one, note.
        value: name of the number.
    """
    note = row["note"] if "note" in row and isinstance(row["note"], str) else ""
    if np.isnan(row[value]):
        return f"no number ({note})" if note else "no number"
    if np.isnan(row["low"]) or np.isnan(row["high"]):
        return f"{row[value]:.2f} ({note or 'no interval'})"
    about = f"; {note}" if note else ""
    return f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f}{about})"
