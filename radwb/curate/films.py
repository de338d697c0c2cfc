"""From the index of a folder to films for a 2-D model, and to their labels."""

import os
import warnings
from pathlib import Path

import pandas as pd

from radwb.data.table import film_keys, read_table


def films(index: pd.DataFrame) -> pd.DataFrame:
    """The rows of an index that are one picture each.

    A warning counts what is left out, and why.

    >>> path = rw.data.write_png(scan, "inbox/a.png")
    >>> len(films(rw.curate.index("inbox")))
    1

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
            f"expected an index, got a table without {absent}. Try "
            "rw.curate.index(folder)."
        )
    refused = index["refused"].fillna("") != ""
    frames = pd.to_numeric(index["frames"], errors="coerce")
    unknown = ~refused & frames.isna()
    table = index[~refused & (frames == 1)].reset_index(drop=True)
    reasons = {
        "refused (column refused says why)": refused,
        "of several frames": ~refused & ~unknown & (frames != 1),
        "whose frames aren't known": unknown,
    }
    counts = [f"{rows.sum()} {why}" for why, rows in reasons.items() if rows.any()]
    text = ", ".join(counts)
    if table.empty:
        raise ValueError(
            f"expected films, got none in {len(index)} files: {text or 'no file'}."
        )
    if counts:
        left_out = len(index) - len(table)
        warnings.warn(
            f"{left_out} of {len(index)} files are left out: {text}.", stacklevel=2
        )
    return table


def join_labels(table: pd.DataFrame, labels: str | Path) -> pd.DataFrame:
    """Put your own labels, the columns of a CSV, beside the films that it names.

    >>> films = table.head(2)[["path", "patient_id"]]
    >>> films[["path"]].assign(Edema=[1, 0]).to_csv("labels.csv", index=False)
    >>> join_labels(films, "labels.csv")["Edema"].tolist()
    [1, 0]

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
            f"expected a column path, got {list(rows.columns)}. Try to name the column "
            "of files so."
        )
    places = pd.Series(_places(table["path"], rows["path"]))
    known = places[places >= 0]
    twice = known.duplicated().sum()
    if twice:
        raise ValueError(
            f"expected one row a film, got {twice} rows more. Try drop_duplicates."
        )
    unlabelled = len(table) - len(known)
    unused = len(rows) - len(known)
    if unlabelled or unused:
        warnings.warn(
            f"{unlabelled} of {len(table)} films have no row in {Path(labels).name}, "
            f"and {unused} of its {len(rows)} rows no film.",
            stacklevel=2,
        )
    named = rows.drop(columns="path").loc[known.index].set_axis(table.index[known])
    out = table.copy()
    for column, values in named.reindex(table.index).items():
        if column in table.columns and table[column].notna().any():
            values = values.where(values.notna(), table[column])
        out[column] = values
    return out


def _places(films, paths):
    """For each path of a CSV the place of its film, -1 where there is none."""
    by_file = {key: n for n, key in enumerate(film_keys(films))}
    by_name = {}
    for n, film in enumerate(films):
        name = os.path.basename(str(film))
        by_name[name] = -1 if name in by_name else n  # two films share it
    places = []
    for path, key in zip(paths, film_keys(paths), strict=True):
        place = by_file.get(key, -1)
        if place < 0 and isinstance(path, str):
            # a path with a folder is no key of it
            place = by_name.get(path, -1)
        places.append(place)
    return places
