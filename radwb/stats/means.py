"""The mean of a value over images, with an interval that counts patients."""

import numpy as np
from scipy.stats import t as student

from radwb.identifiers import numbered
from radwb.stats.pull import (
    LOST,
    NO_INTERVAL,
    analysis,
    correlation,
    counted,
    effective,
    summed,
    without_patient,
)

MIN_PATIENTS = 5  # tests/test_stats.py: the interval covers from here on


def clustered_mean(
    values: np.ndarray,
    patients: np.ndarray,
    *,
    share: bool = False,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
) -> dict:
    """The mean over images with its interval by patient.

    >>> mean = clustered_mean([1, 1, 0, 1, 1, 1], list("aabcde"), share=True)
    >>> rw.stats.format_interval(mean, "mean")
    '0.83 (0.34 to 0.98)'
    >>> three = clustered_mean([1, 1, 0], ["a", "b", "c"], share=True)
    >>> rw.stats.format_interval(three, "mean")
    '0.67 (no interval: 3 patients)'

    The variance is that of a ratio, what a patient's images sum to over how many they
    are, with the jackknife's weights (`pull.summed`). Student's quantile has as many
    degrees of freedom as patients count (Kish), less one.

    Args:
        values: (N,) one an image.
        patients: (N,) patient of each row; where one is missing there is no interval,
            and note says so.
        share: the values run from 0 to 1, such as hits: solved for the true share as
            Wilson's interval is, so that it has a width at 0 and 1 and stays between
            them.
        limits: beyond which no mean can lie, such as (-1, 1) of a correlation: the ends
            are cut there.
        level: of the interval.
    Returns:
        mean, low, high (NaN with under `MIN_PATIENTS` patients), n (images), patients
        (known), note (why there is no interval, else "").
    Raises:
        ValueError: the rows don't pair, or a share isn't from 0 to 1.
    """
    values = np.asarray(values, dtype=float)
    row, named = numbered(patients)
    if values.shape != row.shape:
        raise ValueError(
            f"expected one number for each of {len(row)} rows, got {values.shape}"
        )
    if share and ((values < -1e-6) | (values > 1 + 1e-6)).any():
        raise ValueError(
            "expected shares from 0 to 1, "
            f"got {values.min():.3g} to {values.max():.3g}. Try share=False"
        )
    note = missing(values, row, named)
    low = high = np.nan
    if not note:
        interval = share_interval if share else mean_interval
        low, high = np.clip(interval(values, row, level), *limits)
    return {
        "mean": float(values.mean()) if len(values) else np.nan,
        "low": float(low),
        "high": float(high),
        "n": len(values),
        "patients": named,
        "note": note,
    }


def missing(values, row, named: int) -> str:
    """Why a mean has no interval; "" where it has one."""
    if not len(values):
        return "no image"
    unnamed = without_patient(int((row < 0).sum()), len(row))
    if unnamed:
        return unnamed
    endless = int((~np.isfinite(values)).sum())
    if endless:
        return f"{NO_INTERVAL}{endless} of {len(values)} values not finite"
    return f"{NO_INTERVAL}{counted(named)}" if named < MIN_PATIENTS else ""


def mean_interval(values, row, level: float) -> tuple[float, float]:
    """Ends of Student's interval of the mean, from what each patient adds to it."""
    mean = values.mean()
    images = np.bincount(row)
    error = np.sqrt((summed(values - mean, row, len(images)) ** 2).sum())
    reach = student.ppf((1 + level) / 2, freedom(images)) * error
    return mean - reach, mean + reach


def share_interval(values, row, level: float) -> tuple[float, float]:
    """All shares from which the mean lies within its error there, as Wilson's are.

    Near 0 and 1 few patients differ from the rest, and what they add to the variance
    says little of it. So it is blended with that of as many independent images as there
    seem to be: where all patients have the same 0 or 1, the interval is Wilson's of the
    patients.
    """
    share = values.mean()
    images = np.bincount(row)
    differ = len(np.unique(row[values != np.round(share)]))  # patients
    trust = differ / (differ + LOST)
    alike = correlation(analysis(values - share, row))
    alike = (alike * differ + 0.5) / (differ + 0.5)  # 1 until something else is seen
    usual = share * (1 - share)  # variance of an image that has 0 or 1
    scale = 1 / effective(images, alike)
    if usual > 1e-12:
        of_patients = (summed(values - share, row, len(images)) ** 2).sum()
        of_images = values.var() * scale
        scale = (trust * of_patients + (1 - trust) * of_images) / usual
    quantile = student.ppf((1 + level) / 2, freedom(images) / max(trust, 1e-6))
    shift = scale * quantile**2
    middle = share + shift / 2
    reach = np.sqrt(shift * usual + shift**2 / 4)
    ends = np.array([middle - reach, middle + reach]) / (1 + shift)
    return tuple(np.clip(ends, 0, 1))  # but for the last digit they are there


def freedom(images) -> float:
    """Degrees of freedom: as many patients as count, less one."""
    return max(effective(images) - 1, 1.0)
