"""Means over training seeds, each with Student's interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.stats import compare_seeds


def over_seeds(
    table: pd.DataFrame,
    value: str = "auroc",
    *,
    by: Sequence[str] = ("strength", "arm"),
    within: tuple[float, float] = (-np.inf, np.inf),
) -> pd.DataFrame:
    """The mean over your training seeds in each group of rows, with its 95 % interval.

    >>> trained = pd.DataFrame({"arm": ["tied", "tied"], "auroc": [0.8, 0.9]})
    >>> over_seeds(trained, by=["arm"], within=(0, 1)).round(2)
        arm  auroc  low  high  seeds
    0  tied   0.85  0.21   1.0      2

    Args:
        table: a row a group and seed.
        value: the column to average.
        by: the columns that name a group.
        within: the least and the greatest value there is, such as (0, 1) for an AUROC;
            Student's interval knows no ends, so it is cut there.
    Returns:
        the columns of `by`, then `value` (mean), low, high, seeds; in the order of the
        table.
    Raises:
        ValueError: a group has fewer than two seeds.
    """
    by = list(by)
    rows = []
    for names, part in table.groupby(by, sort=False):
        mean = compare_seeds(part[value], names=("mean", "0"), what=value)
        row = dict(zip(by, names, strict=True))
        row[value] = np.clip(mean.difference, *within)
        row["low"] = np.clip(mean.low, *within)
        row["high"] = np.clip(mean.high, *within)
        rows.append(row | {"seeds": mean.n})
    return pd.DataFrame(rows)
