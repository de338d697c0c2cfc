"""Slices that a table can name: a site, a view, an age, and pairs of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.fail.slices.confirm import ERRORS, LEAST_FILMS, answers, excess
from radwb.fail.slices.find import the_finding
from radwb.fail.slices.result import Candidate, Slices, best, confirmed
from radwb.probe import Scores

COLUMNS = ("site", "sex", "view", "position", "age_years", "Support Devices")
AGES = (0, 18, 40, 60, 80, 130)  # years, ends of the bands


def metadata_slices(
    scores: Scores,
    table: pd.DataFrame,
    *,
    finding: str | None = None,
    columns: Sequence[str] | None = None,
    together: int = 2,
    n_slices: int = 5,
    alpha: float = 0.95,
    threshold: float | None = None,
    seed: int = 0,
) -> Slices:
    """Which films your model answers worse, by what the table says of them.

    >>> slices = metadata_slices(scores, table, finding="Pneumothorax")
    >>> list(slices.table)[:3]
    ['slice', 'error', 'found']

    Half of the patients suggest slices: SliceLine (Sagadeeva & Boehm 2021, doi
    10.1145/3448016.3457323) scores every value and every pair of values by its errors
    and its size, and keeps those above its threshold of 0. The other half confirms
    them, as in `find_slices`.

    Args:
        scores: of the films.
        table: rows of the films.
        finding: one of `scores`; None = the only one.
        columns: of the table; None = those of site, sex, view, position, age_years and
            Support Devices that it has. Ages are taken in bands.
        together: columns that a slice may combine.
        n_slices: candidates that are tested, at most.
        alpha: SliceLine's weight of errors against size, 0 to 1.
        threshold, seed: as in `find_slices`.
    Raises:
        ValueError: one class, a constant score, one patient, or no such column.
        ImportError: sliceline isn't there.
    """
    finding = the_finding(scores, finding)
    s = scores.values[finding].to_numpy(float)
    answered = answers(
        scores.truth[finding], s, scores.patient_id, threshold=threshold, seed=seed
    )
    about = _about(table, columns).iloc[answered.rows]
    one = answered.half(True)
    other = answered.half(False)
    about_one, about_other = about[answered.looking], about[~answered.looking]
    candidates = []
    for label in ERRORS:
        alike = one.y == label
        wrong = one.wrong[alike]
        films = about_one[alike]
        for values in _sliceline(films, wrong, together, n_slices, alpha):
            name = ", ".join(f"{column}={value}" for column, value in values.items())
            inside = _has(films, values)
            has = _has(about_other, values)
            errs = excess(wrong, inside)
            worst = np.abs(other.p - other.y)  # these are shown first
            candidates.append(Candidate(name, label, has, has, worst, errs))
    tested = best(candidates, n_slices)
    return confirmed(tested, one, other, s[other.rows], finding, table)


def _sliceline(films, wrong, together, n_slices, alpha):
    """[{column: value}] of the slices above SliceLine's threshold."""
    try:
        from sliceline import Slicefinder
    except ImportError as missing:
        raise ImportError(
            "expected the package sliceline. Try pip install 'radwb[fail]'"
        ) from missing
    if not wrong.any() or len(films) < LEAST_FILMS:
        return []
    finder = Slicefinder(
        alpha=alpha, k=n_slices, max_l=together, min_sup=LEAST_FILMS, verbose=False
    )
    finder.fit(films.to_numpy(), wrong.astype(float))
    slices = []
    for values in finder.top_slices_:
        pairs = zip(films.columns, values, strict=True)
        slices.append({column: value for column, value in pairs if value is not None})
    return slices


def _has(about, values):
    """(N,) bool, films that have all of these values."""
    inside = np.ones(len(about), bool)
    for column, value in values.items():
        inside &= (about[column] == value).to_numpy()
    return inside


def _about(table, columns):
    """The columns as text, ages in bands; "unknown" where there is no value."""
    if columns is None:
        columns = [column for column in COLUMNS if column in table]
    absent = [column for column in columns if column not in table]
    if absent or not columns:
        raise ValueError(
            f"expected columns of the table to make slices of, got {list(columns)}, "
            f"of which {absent} aren't there. Try columns=[...] of {list(table)[:8]}"
        )
    about = {}
    for column in columns:
        values = table[column]
        if column == "age_years":
            values = pd.cut(values, AGES, right=False)
        elif values.dtype.kind == "f":
            values = values.astype("Int64")
        about[column] = values.astype(object).where(values.notna(), "unknown")
    return pd.DataFrame(about).astype(str)
