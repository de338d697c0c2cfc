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
from radwb.data.read import read, read_truth
from radwb.data.scan import ReadError, Scan, Volume
from radwb.identifiers import identifiers, spelling_doubt

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
    return [finding for finding in FINDINGS if finding in table.columns]


def check_table(
    table: pd.DataFrame, *, needs: tuple[str, ...] = (), images: bool = True
) -> pd.DataFrame:
    """Return a table of your own unchanged when it keeps the schema.

    >>> check_table(table, needs=("report", "Pleural Effusion")) is table
    True

    Args:
        table: one row an image; labels are 1, 0, -1 (uncertain) or NaN (not mentioned).
        needs: further columns that this use needs, none of them wholly empty.
        images: False takes rows without a path, such as reports alone.
    Raises:
        ValueError: a column is missing, a path stands twice, a patient is unnamed, or a
            label is something else.
    """
    required = ("path", "patient_id") if images else ("patient_id",)
    missing = [c for c in (*required, *needs) if c not in table.columns]
    if missing:
        raise ValueError(
            f"expected the columns {missing}, got {list(table.columns)}. Try "
            "rw.curate.index(folder)."
        )
    twice = table.columns[table.columns.duplicated()].unique().tolist()
    if twice:
        raise ValueError(
            f"expected each column once, got {twice} twice. Try table.loc[:, "
            "~table.columns.duplicated()]"
        )
    empty = [c for c in needs if table[c].isna().all() and len(table)]
    if empty:
        raise ValueError(
            f"expected values in the columns {empty}, got nothing but NaN. Try rows "
            "that have them."
        )
    for column in required:
        _refuse_missing(table, column)
    doubt = spelling_doubt(table["patient_id"])
    if doubt:
        raise ValueError(doubt)
    if images:
        _refuse_a_film_twice(table)
    for finding in findings_of(table):
        _refuse_labels(table, finding)
    return table


def _refuse_missing(table, column):
    names = identifiers(table[column])
    rows = [row for row, name in enumerate(names) if name is None]
    if not rows:
        return
    advice = ""
    if column == "patient_id":
        advice = " Try rw.curate.one_patient_per_image(table)"
    raise ValueError(
        f"expected a {column} in every row, got {len(rows)} without (rows {rows[:3]}, "
        f"counted from 0).{advice}"
    )


def _refuse_a_film_twice(table):
    films = pd.Series(film_keys(table["path"]))
    twice = films[films.duplicated(keep=False)]
    if twice.empty:
        return
    rows = twice.index[twice == twice.iloc[0]][:3].tolist()
    raise ValueError(
        f"expected each path once, got {len(twice)} rows that share a film (rows "
        f"{rows}, counted from 0, are one file). Try table[~pd.Series(rw.data.table."
        "film_keys(table['path']), table.index).duplicated()]."
    )


def _refuse_labels(table, finding):
    values = table[finding]
    known = pd.to_numeric(values, errors="coerce").isin([1, 0, -1]) | values.isna()
    if not known.all():
        raise ValueError(
            f"expected labels 1, 0, -1 or NaN in {finding}, got "
            f"{values[~known].iloc[0]!r} in {(~known).sum()} rows"
        )


def film_keys(paths) -> list[str | None]:
    """What tells a file from every other, whatever its path is spelled like.

    ./a.png, a link to it and FOLDER/../a.png are one.

    >>> first, second = film_keys(["film.png", "./film.png"])
    >>> first == second
    True

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
    text = str(path)
    if text.startswith(URI):
        text = str(local_path(text))
    plain = os.path.abspath(text.strip())
    for spelling in (text, plain):  # FOLDER/gone/../a.png is a.png, too
        try:
            facts = os.stat(spelling)
            return f"{facts.st_dev}:{facts.st_ino}"
        except (OSError, ValueError):
            continue
    return plain


def read_table(path: str | Path, *, split: str | None = None) -> pd.DataFrame:
    """Your own CSV as a table in which no identifier loses a leading zero.

    Identifiers, paths and reports are text.

    >>> films = table.head(2).assign(patient_id=["0007", "0008"])
    >>> films.to_csv("table.csv", index=False)
    >>> read_table("table.csv")["patient_id"].tolist()
    ['0007', '0008']

    Args:
        path: of a CSV with a line of column names, as `to_csv(path, index=False)`
            writes it. Relative paths in it are taken from the working folder or, where
            nothing is there, from the folder of the CSV.
        split: keep its rows alone.
    Returns:
        the table; patient_id in one spelling (`rw.identifiers.identifiers`), None where
        it is missing.
    Raises:
        ValueError: no such rows, or a relative path leads to two files.
    """
    path = local_path(path)
    texts = _csv(path, str)
    table = _csv(path, dict.fromkeys(texts.columns.intersection(TEXTS), str))
    for column in table.columns.difference(NUMBERS):
        # a number would lose the zeros, or the last of 16 digits
        if texts[column].str.match(r"0\d|\d{16}", na=False).any():
            table[column] = texts[column]
    if "patient_id" in table.columns:
        table["patient_id"] = identifiers(table["patient_id"])
    for column in table.columns.intersection(["path", "truth_path"]):
        table[column] = [_absolute_or_here(path.parent, file) for file in table[column]]
    return table if split is None else _of_split(table, split, path.name)


def _csv(path, kinds):
    """Its table; names of columns without the blanks around them."""
    try:
        with warnings.catch_warnings():
            # more values in a line than columns
            warnings.simplefilter("error", pd.errors.ParserWarning)
            head = pd.read_csv(path, dtype=str, nrows=0, index_col=False)
            return pd.read_csv(
                path,
                dtype=kinds,
                header=0,
                names=[column.strip() for column in head.columns],
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
            )
    except (
        UnicodeDecodeError,
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
    ) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path.name}: expected a CSV in UTF-8 with a line of column names and as "
            f"many values in each line, got {type(error).__name__} ({why})"
        ) from error


def _of_split(table, split, name):
    rows = table.head(0)
    if "split" in table.columns:
        rows = table[table["split"] == split]
    if rows.empty:
        raise ValueError(
            f"expected rows with split {split!r} in {name}, got none. Try --split all, "
            "or split=None."
        )
    return rows.reset_index(drop=True)


def _absolute_or_here(folder, file):
    """A relative path from the working folder, else from the CSV's."""
    if not isinstance(file, str) or os.path.isabs(file):
        return file
    beside = folder / file
    if not beside.exists():
        return file
    if not Path(file).exists():
        return str(beside)
    if _film_key(file) != _film_key(beside):
        raise ValueError(
            "expected one file for each path, got two, seen from the working folder "
            "and from the CSV's. Try absolute paths"
        )
    return file


def scan_of(row: pd.Series | dict) -> Scan:
    """Read the image of a table's row, with its truth masks where there are any.

    The row or a sidecar file has them.

    >>> scan_of(table.iloc[0]).view in ("PA", "AP")
    True

    Args:
        row: needs path; truth_path and view count more than what lies with the file.
    """
    scan = _film(row["path"])
    changes = {}
    view, truth_path = row.get("view"), row.get("truth_path")
    if isinstance(view, str) and view:
        changes["view"] = view
    if isinstance(truth_path, str) and truth_path:
        changes["truth"] = read_truth(truth_path)
    return replace(scan, **changes)


def _film(path, **options):
    return _no_volume(path, read(path, **options))


def _no_volume(path, image):
    if isinstance(image, Volume):
        raise ReadError(
            f"{path}: expected one 2-D image in a row, got a volume {image.shape}. Try "
            ".slice(...)"
        )
    return image


def _small_film(path, size):
    from radwb.data.preview import preview  # with all decoders

    return _no_volume(path, preview(path, size))


def images(
    table: pd.DataFrame, size: int, *, fit: str = "pad", exact: bool = True
) -> np.ndarray:
    """All images of a table as small grey squares.

    >>> images(table.head(3), 160).shape
    (3, 160, 160)

    Args:
        table: needs `path`.
        size: side, px.
        fit: "pad", "crop" or "squash", as in `to_input`.
        exact: False reads large DICOM films as previews, many times quicker for JPEG
            2000 and twice for plain pixels; grey levels differ a little, r > 0.998.
    Returns:
        (N, size, size) uint8, in the table's order; 255 = 1.0.
    """

    def square(path):
        scan = _film(path, truth=False) if exact else _small_film(path, size)
        values = to_input(scan.pixels, size, fit=fit, aspect=scan.aspect)
        return np.round(values * 255).astype(np.uint8)

    out = np.zeros((len(table), size, size), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        squares = pool.map(square, table["path"])
        bar = tqdm(squares, "reading images", len(out), delay=2, leave=False)
        for n, values in enumerate(bar):
            out[n] = values
    return out
