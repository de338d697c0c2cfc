"""AUROC with an interval that knows that the images of one patient are alike."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

from radwb.stats.pull import NO_INTERVAL, Pull, hanley_mcneil


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


def interval(pulls: list[Pull], level: float) -> tuple[float, float]:
    """The interval of the mean AUROC of `pulls`: all values from which it lies less than its error there away.

    The error is the one that the patients' pulls have (Obuchowski's clustered DeLong), blended with and shaped by
    Hanley and McNeil's, solved for the true AUROC as Wilson solves for a share: so it has a width at 1, and one lost
    pair changes little. Student's quantile stands for the part of the error that was estimated.
    """
    auroc = float(np.mean([pull.auroc for pull in pulls]))
    cases, controls = np.mean([pull.sizes() for pull in pulls], axis=0)
    inside = np.clip(auroc, 0.01, 0.99)
    scale = variance(pulls) / hanley_mcneil(inside, cases, controls)
    freedom = np.mean([pull.freedom() / max(pull.trust(), 1e-6) for pull in pulls])
    reach = student.ppf((1 + level) / 2, freedom)

    def beyond(truth):
        return abs(auroc - truth) - reach * np.sqrt(
            scale * hanley_mcneil(truth, cases, controls)
        )

    edge = 1e-9  # at 0 and 1 the error is 0, too: a second root
    low = brentq(beyond, 0, min(auroc, 1 - edge)) if auroc > 0 else 0.0
    high = brentq(beyond, max(auroc, edge), 1) if auroc < 1 else 1.0
    return float(low), float(high)


def variance(pulls: list[Pull]) -> float:
    """Of the mean AUROC of `pulls`, whose patients are the same."""
    own = (np.mean([pull.pulls for pull in pulls], axis=0) ** 2).sum()
    more = [pull.variance() - (pull.pulls**2).sum() for pull in pulls]
    return float(max(own + np.sum(more) / len(pulls) ** 2, own / 2))


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
