"""AUROC with an interval that knows that the images of one patient are alike."""

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import t as student

from radwb.stats.pull import Pull, hanley_mcneil, without

COUNTS = ("positives", "positive_patients", "patients")


def clustered_auroc(
    y: np.ndarray, s: np.ndarray, patients: np.ndarray, *, level: float = 0.95
) -> dict:
    """AUROC with its interval by patient, for labels and scores of your own.

    >>> row = clustered_auroc([0, 0, 1, 1, -1], [0, 2, 1, 3, 9], list("abcde"))
    >>> row["auroc"], row["dropped"], row["note"]
    (0.75, 1, 'no interval: cases in 2 patients')

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
    low = high = np.nan
    if not note:
        low, high = interval([pull], level)
    dropped = len(np.asarray(y)) - pull.images
    return {
        "auroc": pull.auroc,
        "low": low,
        "high": high,
        "n": pull.images,
        **_counts(pull),
        "dropped": dropped,
        "note": note,
    }


def mean_clustered_auroc(
    truth: pd.DataFrame,
    values: pd.DataFrame,
    patients: np.ndarray,
    *,
    sampled: bool = False,
    level: float = 0.95,
) -> dict:
    """The mean AUROC over findings with its interval by patient.

    >>> row = mean_clustered_auroc(scores.truth, scores.values, scores.patient_id)
    >>> row["findings"], row["n"]
    (2, 60)

    Findings of too few patients are left out and named.

    Args:
        truth, values: (N, K) labels and scores, one column a finding (or a training).
        patients: (N,) patient of each row.
        sampled: the columns are a sample, such as trainings that differ by chance:
            their own spread counts, too.
        level: of the interval.
    Returns:
        findings (in the mean) and the keys of `clustered_auroc`; note says what was
        left out and why.
    """
    counted = []
    left_out = {}
    labelled = 0
    for finding in values:
        pull = Pull.of(truth[finding], values[finding], patients)
        labelled += pull.images
        why = pull.missing()
        if why in ("", pull.unnamed):
            counted.append(pull)
        else:
            left_out[finding] = why
    # where a patient isn't known there is a mean, but no interval
    unnamed = [pull.unnamed for pull in counted if pull.unnamed]
    notes = unnamed[:1]
    auroc = low = high = np.nan
    counts = dict.fromkeys(COUNTS, 0)
    if counted:
        aurocs = [pull.auroc for pull in counted]
        auroc = float(np.mean(aurocs))
        together = Pull.union(counted)
        counts = _counts(together)
    if counted and not notes:
        low, high = interval(counted, level, sampled=sampled)
    if left_out:
        notes.append(without(left_out))
    return {
        "findings": len(counted),
        "auroc": auroc,
        "low": low,
        "high": high,
        "n": len(values),
        **counts,
        "dropped": values.size - labelled,
        "note": "; ".join(notes),
    }


def _counts(pull):
    counts = (pull.cases, pull.positive_patients, pull.patients)
    return dict(zip(COUNTS, counts, strict=True))


def interval(pulls: list[Pull], level: float, *, sampled=False) -> tuple[float, float]:
    """The interval of the mean AUROC: all values from which it lies within its error.

    The error is the one that the patients' pulls have (Obuchowski's clustered DeLong),
    blended with and shaped by Hanley and McNeil's, solved for the true AUROC as Wilson
    solves for a share: so it has a width at 1, and one lost pair changes little.
    Student's quantile stands for the part of the error that was estimated.

    Args:
        pulls: one a finding, of the same patients.
        level: of the interval.
        sampled: whether the spread of the findings' AUROCs adds to the error.
    """
    aurocs = [pull.auroc for pull in pulls]
    auroc = float(np.mean(aurocs))
    sizes = [pull.sizes() for pull in pulls]
    cases, controls = np.mean(sizes, axis=0)
    estimated = variance(pulls)
    if sampled and len(pulls) > 1:
        spread = np.var(aurocs, ddof=1)
        estimated = estimated + spread / len(pulls)
    inside = np.clip(auroc, 0.01, 0.99)
    scale = estimated / hanley_mcneil(inside, cases, controls)
    freedoms = [_freedom(pull) for pull in pulls]
    freedom = np.mean(freedoms)
    quantile = student.ppf((1 + level) / 2, freedom)

    def beyond(truth):
        error = np.sqrt(scale * hanley_mcneil(truth, cases, controls))
        distance = abs(auroc - truth)
        return distance - quantile * error

    edge = 1e-9  # at 0 and 1 the error is 0, too: a second root
    low = 0.0
    high = 1.0
    if auroc > 0:
        below_one = min(auroc, 1 - edge)
        low = brentq(beyond, 0, below_one)
    if auroc < 1:
        above_zero = max(auroc, edge)
        high = brentq(beyond, above_zero, 1)
    return float(low), float(high)


def _freedom(pull):
    """Degrees of freedom: the more, the less of the error the pulls estimate."""
    trust = max(pull.trust(), 1e-6)
    return pull.freedom() / trust


def variance(pulls: list[Pull]) -> float:
    """Of the mean AUROC of `pulls`, whose patients are the same."""
    of_findings = [pull.pulls for pull in pulls]
    of_mean = np.mean(of_findings, axis=0)  # (P,)
    together = (of_mean**2).sum()
    lacks = [pull.lacking() for pull in pulls]
    lacking = np.sum(lacks)
    blended = together + lacking / len(pulls) ** 2
    least = together / 2
    return float(max(blended, least))
