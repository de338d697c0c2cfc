"""AUROC with an interval that knows that the images of one patient are alike."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

from radwb.stats.pull import Pull, hanley_mcneil, without


def clustered_auroc(y, s, patients, *, level=0.95) -> dict:
    """AUROC with its interval by patient.

    >>> format_interval(clustered_auroc(y, s, table["patient_id"]))
    '0.84 (0.80 to 0.88)'

    Args:
        y: (N,) labels; anything but 1 and 0 (uncertain -1, NaN) is dropped.
        s: (N,) scores, higher = more likely.
        patients: (N,) patient of each row; where one is missing there is no interval,
            and note says so.
        level: of the interval.
    Returns:
        auroc, low, high (NaN where there are too few patients), n and positives
        (labelled images), positive_patients (with a case), patients (labelled), dropped
        (images), note (why a number is missing, else "").
    """
    pull = Pull.of(y, s, patients)
    note = pull.missing()
    low, high = (np.nan, np.nan) if note else interval([pull], level)
    return {
        "auroc": pull.auroc,
        "low": low,
        "high": high,
        "n": int(pull.images_of.sum()),
        "positives": pull.cases,
        "positive_patients": pull.positive_patients,
        "patients": pull.patients,
        "dropped": len(np.asarray(y)) - int(pull.images_of.sum()),
        "note": note,
    }


def mean_clustered_auroc(truth, values, patients, *, sampled=False, level=0.95) -> dict:
    """The mean AUROC over findings with its interval by patient; those of too few
    patients are left out and named.

    >>> format_interval(mean_clustered_auroc(scores.truth, scores.values, scores.patient_id))
    '0.84 (0.80 to 0.88; without Edema (cases in 4 patients))'

    Args:
        truth, values: DataFrames (N, K) of labels and scores, one column a finding (or
            a training).
        patients: (N,) patient of each row.
        sampled: the columns are a sample, such as trainings that differ by chance:
            their own spread counts, too.
        level: of the interval.
    Returns:
        findings (in the mean) and the keys of `clustered_auroc`; note says what was
        left out and why.
    """
    pulls = {k: Pull.of(truth[k], values[k], patients) for k in values}
    left_out = {
        k: pull.missing()
        for k, pull in pulls.items()
        if pull.missing() and pull.missing() != pull.unnamed
    }
    kept = [pull for k, pull in pulls.items() if k not in left_out]
    unnamed = [pull.unnamed for pull in kept if pull.unnamed]
    dropped = sum(len(values) - pull.images_of.sum() for pull in pulls.values())
    row = {"findings": len(kept), "auroc": np.nan, "low": np.nan, "high": np.nan}
    row |= {"n": len(values), "positives": 0, "positive_patients": 0, "patients": 0}
    note = "; ".join(part for part in (*unnamed[:1], without(left_out)) if part)
    row |= {"dropped": int(dropped), "note": note}
    if not kept:
        return row
    aurocs = [pull.auroc for pull in kept]
    more = np.var(aurocs, ddof=1) / len(kept) if sampled and len(kept) > 1 else 0.0
    row["auroc"] = float(np.mean(aurocs))
    if not unnamed:
        row["low"], row["high"] = interval(kept, level, more)
    cases_of = np.sum([pull.cases_of for pull in kept], axis=0)
    images_of = np.sum([pull.images_of for pull in kept], axis=0)
    known = slice(kept[0].named)
    row["positives"] = int(cases_of.sum())
    row["positive_patients"] = int((cases_of[known] > 0).sum())
    row["patients"] = int((images_of[known] > 0).sum())
    return row


def interval(pulls: list[Pull], level: float, more=0.0) -> tuple[float, float]:
    """The interval of the mean AUROC of `pulls`: all values from which it lies less
    than its error there away.

    The error is the one that the patients' pulls have (Obuchowski's clustered DeLong),
    blended with and shaped by Hanley and McNeil's, solved for the true AUROC as Wilson
    solves for a share: so it has a width at 1, and one lost pair changes little.
    Student's quantile stands for the part of the error that was estimated. `more`:
    variance from elsewhere.
    """
    auroc = float(np.mean([pull.auroc for pull in pulls]))
    cases, controls = np.mean([pull.sizes() for pull in pulls], axis=0)
    inside = np.clip(auroc, 0.01, 0.99)
    scale = (variance(pulls) + more) / hanley_mcneil(inside, cases, controls)
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


def format_interval(row, value="auroc") -> str:
    """A number with its interval and its note, for a sentence.

    >>> format_interval(scores.mean_auroc().iloc[0])
    '0.84 (0.80 to 0.88)'
    >>> format_interval({"auroc": 0.8, "low": np.nan, "high": np.nan, "note": "no interval: cases in 4 patients"})
    '0.80 (no interval: cases in 4 patients)'

    Args:
        row: a dict or a row of a table with `value`, low, high and, where it has one,
            note.
        value: name of the number.
    """
    note = row["note"] if "note" in row and isinstance(row["note"], str) else ""
    if np.isnan(row[value]):
        return f"no number ({note})" if note else "no number"
    if np.isnan(row["low"]) or np.isnan(row["high"]):
        return f"{row[value]:.2f} ({note or 'no interval'})"
    about = f"; {note}" if note else ""
    return f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f}{about})"
