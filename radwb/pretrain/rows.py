"""Which rows of a table a run may see: those for training and validation.

Where reports are read, a row needs one.
"""

import warnings

import numpy as np
import pandas as pd

from radwb import data
from radwb.curate import check_split
from radwb.pretrain.captions import caption_of

SPLITS = ("train", "val")  # what a run sees; rows for the test are not even handed on


def without_report(reports: pd.Series) -> pd.Series:
    """Which of N reports say nothing: missing, bare headings, or with a caption "nan".

    >>> without_report(pd.Series(["No effusion.", None, "IMPRESSION: nan"])).tolist()
    [False, True, True]
    """
    silent = [caption_of(report) == "" for report in reports]
    return pd.Series(silent, index=reports.index, dtype=bool)


def seen_by_a_run(
    table: pd.DataFrame, *, columns: tuple[str, ...], images: bool = True
) -> tuple[np.ndarray, dict[str, int]]:
    """The places of the rows that a run may see, and how many it does not, by reason.

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
        silent = seen & without_report(table["report"].where(seen, "for the test"))
        n = int(silent.sum())
        left_out["without a report"] = n
        seen &= ~silent
        if n:
            warnings.warn(
                f"{n} of {len(table)} rows have no report and are left out: "
                "nothing is taught in its place.",
                stacklevel=3,
            )
    return np.flatnonzero(seen), {why: n for why, n in left_out.items() if n}
