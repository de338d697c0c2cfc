"""Shares held against each other, or against a number, with an interval by patient."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from radwb.identifiers import numbered
from radwb.stats.means import missing, share_interval
from radwb.stats.sentence import Comparison

LEAST_P = 1e-9


def share_gap(
    a: np.ndarray,
    b: np.ndarray,
    patients: tuple[np.ndarray, np.ndarray],
    *,
    names: tuple[str, str],
    what: str,
    family: int = 1,
    limits: tuple[float, float] = (0, 1),
) -> Comparison:
    """The difference of two shares of different films, by patient.

    >>> owners = range(40), range(40, 80)
    >>> often, seldom = np.arange(40) % 4 > 0, np.arange(40) % 4 > 2
    >>> print(share_gap(often, seldom, owners, names=("A", "B"), what="hits"))
    A is ahead of B by 0.50 (0.28 to 0.66; 80 patients)

    Newcombe's square and add (1998, doi 10.1002/(SICI)1097-0258(19980430)17:8<873)
    over the two intervals that `clustered_mean` gives, so it has a width where a side
    is 0 or 1. A patient with films on both sides only makes it wider than need be.

    Args:
        a, b: values of the films of each side.
        patients: the owners of a's films and of b's.
        names, what, family: as in `rw.stats.compare`.
        limits: what a value can be at least and at most.
    """
    width = limits[1] - limits[0]
    sides = []
    notes = []
    for name, values, owners in zip(names, (a, b), patients, strict=True):
        unit = (np.asarray(values, float) - limits[0]) / width
        row, named = numbered(owners)
        note = missing(unit, row, named)
        if note:
            notes.append(f"{name}: {note}")
        sides.append((unit, row))
    first, second = (np.mean(unit) if len(unit) else np.nan for unit, _ in sides)

    def interval(level):
        ends = (share_interval(*side, level) for side in sides)
        low, high = square_and_add(first, second, *ends)
        return width * low, width * high

    _, owners = numbered([*patients[0], *patients[1]])
    gap = width * (first - second)
    note = "; ".join(notes)
    return _compared(gap, interval, note, owners, names, what, family)


def square_and_add(
    first: float,
    second: float,
    first_ends: tuple[float, float],
    second_ends: tuple[float, float],
) -> tuple[float, float]:
    """Newcombe's interval of a difference of two shares, from the interval of each.

    >>> low, high = square_and_add(1.0, 0.0, rw.stats.wilson(5, 5), (0.0, 0.43))
    >>> round(low, 2), high
    (0.39, 1.0)
    """
    below = np.hypot(first - first_ends[0], second_ends[1] - second)
    above = np.hypot(first_ends[1] - first, second - second_ends[0])
    middle = first - second
    return float(middle - below), float(middle + above)


def share_against(
    values: np.ndarray,
    number: float,
    patients: np.ndarray,
    *,
    names: tuple[str, str],
    what: str,
    family: int = 1,
) -> Comparison:
    """A share less a number that was promised or asked for, by patient.

    >>> kept = np.arange(100) % 5 > 0
    >>> words = {"names": ("these sets", "what was promised"), "what": "coverage"}
    >>> print(share_against(kept, 0.95, range(100), **words))
    these sets is behind what was promised by 0.15 (0.08 to 0.24; 100 patients)

    Args:
        values: (N,) from 0 to 1.
        number: from 0 to 1.
        patients: (N,) owner of each.
        names, what, family: as in `rw.stats.compare`.
    """
    values = np.asarray(values, float)
    row, named = numbered(patients)
    note = missing(values, row, named)

    def interval(level):
        low, high = share_interval(values, row, level)
        return low - number, high - number

    gap = np.mean(values) - number if len(values) else np.nan
    return _compared(gap, interval, note, named, names, what, family)


def _compared(gap, interval, note, patients, names, what, family):
    low = high = p = np.nan
    if not note:
        low, high = interval(1 - 0.05 / family)
        p = two_sided_p(interval)
    return Comparison(
        names=tuple(names),
        what=what,
        difference=float(gap),
        low=float(low),
        high=float(high),
        p=p,
        n=patients,
        family=family,
        note=note,
    )


def two_sided_p(interval: Callable[[float], tuple[float, float]]) -> float:
    """One less the level at which an interval just reaches zero."""

    def beyond(p):
        low, high = interval(1 - p)
        return max(low, -high)

    if beyond(LEAST_P) >= 0:
        return LEAST_P
    if beyond(1 - LEAST_P) <= 0:
        return 1.0
    return float(brentq(beyond, LEAST_P, 1 - LEAST_P))
