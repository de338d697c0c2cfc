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
    """The mean over training seeds in each group of rows, with its 95 % interval over
    seeds.

    >>> over_seeds(rw.fail.shortcut(table, start=model).table)

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
    by, rows = list(by), []
    for names, part in table.groupby(by, sort=False):
        mean = compare_seeds(part[value], names=("mean", "0"), what=value)
        ends = {value: mean.difference, "low": mean.low, "high": mean.high}
        ends = {name: np.clip(end, *within) for name, end in ends.items()}
        rows.append({**dict(zip(by, names, strict=True)), **ends, "seeds": mean.n})
    return pd.DataFrame(rows)
