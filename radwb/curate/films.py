"""From the index of a folder to the films that a 2-D model can take, and the labels
that lie beside them.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from radwb.data.table import film_keys, read_table


def films(index: pd.DataFrame) -> pd.DataFrame:
    """The rows of an index that are one picture each; a warning counts what is left
    out, and why.

    >>> table = rw.curate.films(rw.curate.index("inbox/"))

    Args:
        index: as `rw.curate.index` gives it.
    Returns:
        those rows, numbered anew. Volumes and series are for `rw.data.read` and
        `rw.attend.volume_map`.
    Raises:
        ValueError: no film is left, or the columns of an index are missing.
    """
    absent = [c for c in ("refused", "frames") if c not in index.columns]
    if absent:
        raise ValueError(
            f"expected an index, got a table without {absent}. Try rw.curate.index(folder)."
        )
    refused = index["refused"].fillna("") != ""
    frames = pd.to_numeric(index["frames"], errors="coerce")
    unknown = ~refused & frames.isna()
    several = ~refused & ~unknown & (frames != 1)
    table = index[~refused & ~unknown & ~several].reset_index(drop=True)
    reasons = {
        "refused (column refused says why)": refused,
        "of several frames": several,
        "whose frames aren't known": unknown,
    }
    counted = [f"{rows.sum()} {why}" for why, rows in reasons.items() if rows.any()]
    if table.empty:
        raise ValueError(
            f"expected films, got none in {len(index)} files: {', '.join(counted) or 'no file'}."
        )
    if counted:
        left_out = len(index) - len(table)
        warnings.warn(
            f"{left_out} of {len(index)} files are left out: {', '.join(counted)}.",
            stacklevel=2,
        )
    return table


def join_labels(table: pd.DataFrame, labels: str | Path) -> pd.DataFrame:
    """Put the columns of a CSV beside the films that its `path` names.

    >>> table = rw.curate.join_labels(table, "inbox/labels.csv")

    A path is taken from the working folder or from that of the CSV; a bare file name
    will do where no two films share it. Where the CSV and the films both know
    something, such as patient_id, the CSV wins where it isn't empty.

    Args:
        table: films, with path.
        labels: a CSV with path and any columns of the schema, read by
            `rw.data.read_table`.
    Returns:
        the table with those columns; a warning counts films without a row, and rows
        without a film.
    Raises:
        ValueError: the CSV has no path, or two rows for a film.
    """
    rows = read_table(labels)
    if "path" not in rows.columns:
        raise ValueError(
            f"expected a column path, got {list(rows.columns)}. Try to name the column of files so."
        )
    places = _places(table["path"], rows["path"])
    known = [place for place in places if place >= 0]
    if len(set(known)) < len(known):
        raise ValueError(
            f"expected one row a film, got {len(known) - len(set(known))} rows more. Try drop_duplicates."
        )
    named = rows.iloc[[n for n, place in enumerate(places) if place >= 0]].drop(
        columns="path"
    )
    named.index = table.index[known]
    unlabelled, unused = len(table) - len(known), len(rows) - len(known)
    if unlabelled or unused:
        warnings.warn(
            f"{unlabelled} of {len(table)} films have no row in {Path(labels).name}, "
            f"and {unused} of its {len(rows)} rows no film.",
            stacklevel=2,
        )
    out = table.copy()
    for column in named.columns:
        values = named[column].reindex(table.index)
        before = (
            table[column] if column in table.columns else pd.Series(np.nan, table.index)
        )
        out[column] = (
            values if before.isna().all() else values.where(values.notna(), before)
        )
    return out


def _places(films, paths) -> list[int]:
    """For each path of a CSV the place of its film, -1 where there is none."""
    by_file = {key: n for n, key in enumerate(film_keys(films))}
    by_name: dict[str, int | None] = {}
    for n, film in enumerate(films):
        name = os.path.basename(str(film))
        by_name[name] = None if name in by_name else n
    places = []
    for path, key in zip(paths, film_keys(paths), strict=True):
        place = by_file.get(key)
        bare = isinstance(path, str) and os.path.basename(path) == path
        if place is None and bare:
            place = by_name.get(path)
        places.append(-1 if place is None else place)
    return places
