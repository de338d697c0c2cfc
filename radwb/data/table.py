"""The table: one row an image. Its columns, its check, and its images as one array."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb import findings
from radwb.data.geometry import to_input
from radwb.data.names import URI, local_path
from radwb.data.scan import ReadError, Scan, Volume
from radwb.identifiers import doubtful, identifiers, numbered

FINDINGS = tuple(findings.FINDINGS)  # names: CheXpert's 14, in its order
COLUMNS = (
    "path",
    "patient_id",
    "study_id",
    "view",
    "site",
    "sex",
    "age_years",
    "report",
    "split",
)
NUMBERS = (*FINDINGS, "age_years")  # whatever zeros they begin with
REQUIRED = ("path", "patient_id")
# read as text, whatever they look like
TEXTS = (
    "path",
    "truth_path",
    "patient_id",
    "study_id",
    "series_id",
    "image_id",
    "view",
    "site",
    "sex",
    "report",
    "split",
    "refused",
    "notes",
)


def findings_of(table: pd.DataFrame) -> list[str]:
    """The label columns of a table, in the order of FINDINGS."""
    return [f for f in FINDINGS if f in table.columns]


def check_table(
    table: pd.DataFrame, *, needs: tuple[str, ...] = (), images: bool = True
) -> pd.DataFrame:
    """Return the table unchanged when it keeps the schema.

    >>> check_table(table, needs=("report", "Pleural Effusion"))

    Args:
        table: one row an image; labels are 1, 0, -1 (uncertain) or NaN (not mentioned).
        needs: further columns that this use needs, none of them wholly empty.
        images: False takes rows without a path, such as reports alone.
    Raises:
        ValueError: a column is missing, a path stands twice, a patient is unnamed, or a
            label is something else.
    """
    required = REQUIRED if images else REQUIRED[1:]
    missing = [c for c in (*required, *needs) if c not in table.columns]
    if missing:
        raise ValueError(
            f"expected the columns {missing}, got {list(table.columns)}. Try rw.curate.index(folder)."
        )
    twice = table.columns[table.columns.duplicated()].unique().tolist()
    if twice:
        raise ValueError(
            f"expected each column once, got {twice} twice. Try table.loc[:, ~table.columns.duplicated()]"
        )
    empty = [c for c in needs if table[c].isna().all() and len(table)]
    if empty:
        raise ValueError(
            f"expected values in the columns {empty}, got nothing but NaN. Try rows that have them."
        )
    for column in required:
        _refuse_missing(table, column)
    if doubt := doubtful(table["patient_id"]):
        raise ValueError(doubt)
    if images:
        _refuse_a_film_twice(table)
    for finding in findings_of(table):
        values = pd.to_numeric(table[finding], errors="coerce")
        wrong = ~(values.isin([1, 0, -1]) | table[finding].isna())
        if wrong.any():
            got = table.loc[wrong, finding].iloc[0]
            raise ValueError(
                f"expected labels 1, 0, -1 or NaN in {finding}, got {got!r} in {wrong.sum()} rows"
            )
    return table


def _refuse_missing(table, column):
    absent = numbered(table[column])[0] < 0
    if absent.any():
        rows = np.flatnonzero(absent)[:3].tolist()
        asked = (
            " Try rw.curate.one_patient_per_image(table)"
            if column == "patient_id"
            else ""
        )
        raise ValueError(
            f"expected a {column} in every row, got {absent.sum()} without (rows {rows}, counted from 0).{asked}"
        )


def _refuse_a_film_twice(table):
    films = pd.Series(film_keys(table["path"]))
    twice = films.duplicated(keep=False)
    if twice.any():
        rows = np.flatnonzero(films == films[twice].iloc[0])[:3].tolist()
        raise ValueError(
            f"expected each path once, got {twice.sum()} rows that share a film (rows {rows}, counted from 0, are one "
            "file). Try table[~pd.Series(rw.data.table.film_keys(table['path']), table.index).duplicated()]."
        )


def film_keys(paths) -> list[str | None]:
    """What tells a file from every other, whatever its path is spelled like: ./a.png, a
    link to it, FOLDER/../a.png.

    >>> first, second = film_keys(["film.png", "./film.png"])

    Args:
        paths: (N,) of files; where one isn't there, its path as an absolute one stands
            for it.
    Returns:
        (N,) keys, equal for one file; None without a path.
    """
    return [_film_key(path) for path in paths]


def _film_key(path):
    if path is None or path != path:
        return None
    path = str(local_path(path)) if str(path).startswith(URI) else str(path)
    plain = os.path.abspath(path.strip())
    for spelling in (path, plain):  # FOLDER/gone/../a.png is a.png, too
        try:
            about = os.stat(spelling)
            return f"{about.st_dev}:{about.st_ino}"
        except (OSError, ValueError):
            continue
    return plain


def read_table(path: str | Path, *, split: str | None = None) -> pd.DataFrame:
    """A CSV as a table: identifiers, paths and reports are text, and no number loses a
    leading zero.

    >>> rw.data.read_table("table.csv")["patient_id"][0]
    '0007'

    Args:
        path: of a CSV with a line of column names, as `to_csv(path, index=False)`
            writes it. Relative paths in it are taken from the working folder or, where
            nothing is there, from the folder of the CSV.
        split: keep its rows alone.
    Returns:
        the table; patient_id in one spelling (`rw.identifiers.identifiers`), None where it is
        missing.
    Raises:
        ValueError: no such rows, or a relative path leads to two files.
    """
    path = local_path(path)
    texts = _csv(path, str)
    table = _csv(path, {column: str for column in texts.columns if column in TEXTS})
    for column in table.columns.difference(NUMBERS):
        # a number would lose the zeros, or the last of 16 digits
        if texts[column].str.match(r"0\d|\d{16}", na=False).any():
            table[column] = texts[column]
    if "patient_id" in table.columns:
        table["patient_id"] = identifiers(table["patient_id"])
    for column in ("path", "truth_path"):
        if column in table.columns:
            table[column] = [_found_from(path.parent, file) for file in table[column]]
    return table if split is None else _of_split(table, split, path.name)


def _csv(path, kinds):
    """Its table; names of columns without the blanks around them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # more values in a line than columns
            head = pd.read_csv(path, dtype=str, nrows=0, index_col=False)
            names = [column.strip() for column in head.columns]
            about = dict(
                header=0,
                names=names,
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
            )
            return pd.read_csv(path, dtype=kinds, **about)
    except (
        UnicodeDecodeError,
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
    ) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path.name}: expected a CSV in UTF-8 with a line of column names and as many values in each line, "
            f"got {type(error).__name__} ({why})"
        ) from error


def _of_split(table, split, name):
    rows = table[table["split"] == split] if "split" in table.columns else table.head(0)
    if rows.empty:
        raise ValueError(
            f"expected rows with split {split!r} in {name}, got none. Try --split all, or split=None."
        )
    return rows.reset_index(drop=True)


def _found_from(folder, file):
    """A relative path from the working folder, or from the CSV's where nothing is
    there.
    """
    if not isinstance(file, str) or os.path.isabs(file):
        return file
    beside = folder / file
    if not beside.exists():
        return file
    if Path(file).exists() and _film_key(file) != _film_key(beside):
        raise ValueError(
            "expected one file for each path, got two, seen from the working folder and from the CSV's. "
            "Try absolute paths"
        )
    return file if Path(file).exists() else str(beside)


def scan_of(row) -> Scan:
    """Read the image of a table's row, with its truth masks where the row or a sidecar
    file has them.

    >>> scan_of(table.iloc[0]).truth["Pleural Effusion"]       # (H, W) bool
    """
    from radwb.data.read import read, read_truth

    scan = read(row["path"])
    if isinstance(scan, Volume):
        raise ReadError(
            f"{row['path']}: expected one 2-D image in a row, got a volume {scan.shape}. Try .slice(...)"
        )
    truth_path, view = row.get("truth_path"), row.get("view")
    truth = (
        read_truth(truth_path)
        if isinstance(truth_path, str) and truth_path
        else scan.truth
    )
    view = view if isinstance(view, str) and view else scan.view
    return replace(scan, view=view, truth=truth)


def images(table: pd.DataFrame, size: int, *, fit: str = "pad") -> np.ndarray:
    """All images of a table as small grey squares.

    >>> images(table, 160).shape
    (2000, 160, 160)

    Args:
        table: needs `path`.
        size: side, px.
        fit: "pad", "crop" or "squash", as in `to_input`.
    Returns:
        (N, size, size) uint8, in the table's order; 255 = 1.0.
    """
    from radwb.data.read import read

    def one(path):
        scan = read(path, truth=False)
        if isinstance(scan, Volume):
            raise ReadError(
                f"{path}: expected 2-D images, got a volume {scan.shape}. Try .slice(...)"
            )
        return np.round(
            to_input(scan.pixels, size, fit=fit, aspect=scan.aspect) * 255
        ).astype(np.uint8)

    paths = list(table["path"])
    out = np.zeros((len(paths), size, size), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        for n, image in enumerate(
            tqdm(
                pool.map(one, paths), "reading images", len(paths), delay=2, leave=False
            )
        ):
            out[n] = image
    return out
