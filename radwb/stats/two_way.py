"""Differences between two ways of reading, where readers and cases are both drawn."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from radwb.identifiers import numbered
from radwb.stats.pull import NO_INTERVAL, counted
from radwb.stats.sentence import Comparison

MIN_READINGS = 5  # of a kind, below which its share has no interval
ONE_READER = "of one reader, it says nothing of others"


def obuchowski_rockette(
    aurocs: np.ndarray, covariance: np.ndarray
) -> tuple[float, float, float]:
    """How far two ways of reading differ in the mean AUROC of all readers.

    >>> aurocs = [[0.9, 0.8, 0.85], [0.8, 0.75, 0.85]]
    >>> gap, error, freedom = obuchowski_rockette(aurocs, np.eye(6) / 400)
    >>> round(gap, 3), round(error, 3), round(freedom)
    (0.05, 0.029, 2)

    Readers and cases both drawn by chance: Obuchowski & Rockette 1995 (doi
    10.1080/03610919508813243) with the degrees of freedom of Hillis 2007 (doi
    10.1002/sim.2532).

    Args:
        aurocs: (2, R) of each reader, in one way and in the other.
        covariance: (2 R, 2 R) of these, one way after the other, from the cases alone.
    Returns:
        the first less the second, its standard error, degrees of freedom.
    """
    aurocs = np.asarray(aurocs, dtype=float)
    _, R = aurocs.shape
    gaps = aurocs[0] - aurocs[1]  # (R,)
    interaction = gaps.var(ddof=1) / 2  # mean square of way and reader
    blocks = np.asarray(covariance).reshape(2, R, 2, R)
    others = ~np.eye(R, dtype=bool)
    one_way = [blocks[way, :, way][others].mean() for way in (0, 1)]
    across = blocks[0, :, 1][others].mean()
    of_cases = R * (np.mean(one_way) - across)
    spread = interaction + max(of_cases, 0)
    error = np.sqrt(2 * spread / R)
    freedom = np.inf
    if interaction > 0:
        freedom = (R - 1) * (spread / interaction) ** 2
    return float(gaps.mean()), float(error), float(freedom)


def rate_gap(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    names: tuple[str, str],
    what: str,
    family: int = 1,
) -> Comparison:
    """How far two shares differ, where readers and patients are both drawn by chance.

    >>> a = pd.DataFrame({"reader": list("ABCDE") * 8, "patient": np.arange(40) // 2})
    >>> a["moved"] = np.arange(40) % 4 > 0
    >>> b = a.assign(moved=np.arange(40) % 3 == 0)
    >>> print(rate_gap(a, b, names=("advice", "none"), what="share"))
    advice is ahead of none by 0.40 ...

    The variance of both ways together, less that of the single readings, which is in
    both (Cameron, Gelbach & Miller 2011, doi 10.1198/jbes.2010.07136); never less than
    that of one way, or of as many tosses of a coin (Agresti & Caffo 2000, doi
    10.1080/00031305.2000.10474560), which has a width at shares of 0 and 1 too.

    Args:
        a, b: a row a reading: reader, patient, moved (True or False).
            Where a reader or a patient isn't known there is no interval.
        names, what, family: as in `rw.stats.compare`.
    """
    share_a, share_b = a["moved"].mean(), b["moved"].mean()
    readings = pd.concat([a, b])
    note = few_readings((a, b), names) or nameless(readings)
    low = high = p = np.nan
    gap = float(share_a - share_b)
    if not note:
        pulls = [_pulls(a), -_pulls(b)]
        cells = _cells(readings, np.concatenate(pulls))
        variance, freedom = _variance(cells, floor=_tosses(a) + _tosses(b))
        low, high, p = interval(gap, np.sqrt(variance), freedom, family)
        low, high = np.clip([low, high], -1, 1).tolist()
    return of_readers(names, what, gap, (low, high, p), readings, family, note)


def of_readers(
    names: Sequence[str],
    what: str,
    gap: float,
    ends: tuple[float, float, float],
    readings: pd.DataFrame,
    family: int,
    note: str = "",
) -> Comparison:
    """A `Comparison` that counts readers, and says how many patients they read."""
    _, readers = numbered(readings["reader"])
    _, patients = numbered(readings["patient"])
    notes = [counted(patients), note]
    if readers == 1:
        notes.append(ONE_READER)
    low, high, p = ends
    return Comparison(
        names=tuple(names),
        what=what,
        difference=float(gap),
        low=low,
        high=high,
        p=p,
        n=readers,
        unit="readers",
        family=family,
        note="; ".join(part for part in notes if part),
    )


def interval(gap, error, freedom, family):
    """low, high and the two-sided p of a difference, NaN where nothing varies."""
    if not error > 0:
        return np.nan, np.nan, np.nan
    reach = error * student.ppf(1 - 0.025 / family, freedom)
    p = 2 * student.sf(abs(gap) / error, freedom)
    return float(gap - reach), float(gap + reach), float(p)


def few_readings(parts, names):
    """Which of the shares stand on too few readings for an interval; "" = none."""
    few = []
    for part, name in zip(parts, names, strict=True):
        if len(part) < MIN_READINGS:
            few.append(f"{len(part)} readings with {name}")
    return NO_INTERVAL + ", ".join(few) if few else ""


def nameless(readings):
    """That readers or patients aren't known, "" where all are."""
    for column in ("reader", "patient"):
        row, _ = numbered(readings[column])
        unknown = (row < 0).sum()
        if unknown:
            of = len(readings)
            return f"{NO_INTERVAL}{unknown} of {of} readings without a {column}"
    return ""


def _pulls(part):
    """(N,) what each reading adds to the share beyond its mean."""
    moved = part["moved"].to_numpy(float)
    return (moved - moved.mean()) / len(moved)


def _cells(readings, pulls):
    """(R, P) sums of the pulls by reader and patient."""
    reader, readers = numbered(readings["reader"])
    patient, patients = numbered(readings["patient"])
    place = reader * patients + patient
    sums = np.bincount(place, pulls, minlength=readers * patients)
    return sums.reshape(readers, patients)


def _variance(cells, floor):
    """Of the sum of all pulls, and its degrees of freedom (Satterthwaite)."""
    R, P = cells.shape
    ways = []
    for axis, units in ((1, R), (0, P)):
        if units > 1:
            squares = (cells.sum(axis) ** 2).sum()
            ways.append((squares * units / (units - 1), units - 1))
    variances = [variance for variance, _ in ways]
    variance = max(variances)
    if len(ways) == 2:
        variance = max(variance, sum(variances) - (cells**2).sum())
    variance = max(variance, floor)
    shares = [(one / variance) ** 2 / freedom for one, freedom in ways]
    freedom = 1 / sum(shares) if sum(shares) > 0 else np.inf
    return variance, freedom


def _tosses(part):
    """Variance of a share of so many independent readings, two of them made up."""
    n = len(part) + 2
    share = (part["moved"].sum() + 1) / n
    return share * (1 - share) / n
