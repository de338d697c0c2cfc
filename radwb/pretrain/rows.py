"""Which rows of a table a run may see: those for training and validation, with a report
where reports are read.
"""

import warnings

import numpy as np
import pandas as pd

from radwb import data
from radwb.curate import check_split
from radwb.pretrain.captions import caption_of

SPLITS = ("train", "val")  # what a run sees; rows for the test are not even handed on


def without_report(reports: pd.Series) -> pd.Series:
    """Which of N reports say nothing: missing ones, bare headings, and those whose
    caption is "nan" or "None".

    >>> without_report(pd.Series(["No effusion.", None, "IMPRESSION: nan"])).tolist()
    [False, True, True]
    """
    nothing = [caption_of(report) == "" for report in reports]
    return pd.Series(nothing, index=reports.index, dtype=bool)


def seen_by_a_run(
    table: pd.DataFrame, *, columns: tuple[str, ...], images: bool = True
) -> tuple[np.ndarray, dict[str, int]]:
    """The places of the rows that a run may see, and how many it does not see, by
    reason.

    >>> places, left_out = seen_by_a_run(table, columns=("report", "split"))

    Args:
        table: needs patient_id, split and `columns`; path too, unless images is False.
        columns: what the recipe reads; where "report" is among them, rows without one
            are left out.
        images: whether the recipe reads films.
    Returns:
        (N,) places in the table, in its order; {"for the test": n, "without a report":
        n}, without what is 0.
    Raises:
        ValueError: a column is missing or empty, a row has no split, or a patient (or
            film) is on two sides of it.
    """
    data.check_table(table, needs=columns, images=images)
    check_split(table)
    seen = table["split"].isin(SPLITS)
    left_out = {"for the test": int((~seen).sum())}
    data.check_table(table[seen], needs=columns, images=images)
    if "report" in columns:
        empty = seen & without_report(table["report"].where(seen, "for the test"))
        left_out["without a report"] = int(empty.sum())
        seen &= ~empty
        _say(left_out["without a report"], len(empty))
    return np.flatnonzero(seen), {why: n for why, n in left_out.items() if n}


def _say(empty: int, n: int) -> None:
    if empty:
        warnings.warn(
            f"{empty} of {n} rows have no report and are left out: nothing is taught in its place.",
            stacklevel=4,
        )
