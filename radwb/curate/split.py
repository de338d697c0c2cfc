"""Train, val and test: a patient is on one side only."""

import hashlib

import numpy as np
import pandas as pd

from radwb.data.table import film_keys
from radwb.identifiers import doubtful, identifiers, numbered, without_zeros

PARTS = ("train", "val", "test")
ON_REQUEST = "Try rw.curate.one_patient_per_image(table) if no patient has two films"


def split_by_patient(
    table: pd.DataFrame,
    *,
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> pd.DataFrame:
    """Give each row `split`, train, val or test, so that all images of a patient go the
    same way.

    A patient's side depends on patient_id and seed alone: new patients move nobody, and
    the fractions hold on average. 7, 7.0 and "7" are one patient; "0007" is on the same
    side, so that zeros that a CSV has lost move nobody either.

    >>> split_by_patient(table)["split"].value_counts()

    Args:
        table: needs patient_id; `one_patient_per_image` gives one to films that have
            none.
        fractions: of patients in train, val, test; they add up to 1.
        seed: another seed is another split.
    Returns:
        A copy of the table with `split`, and patient_id as text in one spelling.
    Raises:
        ValueError: a patient_id is missing, or two differ by leading zeros, case or
            blanks alone; the fractions don't add up to 1, or a part would be empty.
    """
    if len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-9 or min(fractions) < 0:
        raise ValueError(f"expected three fractions that add up to 1, got {fractions}")
    patients = need_patients(table)
    place = {name: _uniform(f"{seed}:{without_zeros(name)}") for name in set(patients)}
    ends = (fractions[0], fractions[0] + fractions[1])
    part = {name: PARTS[(u >= ends[0]) + (u >= ends[1])] for name, u in place.items()}
    split = np.array([part[name] for name in patients], dtype=object)
    empty = [
        name
        for name, f in zip(PARTS, fractions, strict=True)
        if f > 0 and name not in split
    ]
    if empty:
        raise ValueError(
            f"expected patients in every part, got none in {empty} ({len(place)} patients). Try another seed."
        )
    return table.assign(patient_id=patients, split=split)


def check_split(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table unchanged when no patient, and no film, is in two parts and
    every row has one.

    Raises:
        ValueError: with the number of such patients or films and a few of their rows.
    """
    if "split" not in table.columns or not table["split"].isin(PARTS).all():
        got = sorted(
            map(str, set(table.get("split", pd.Series(dtype=str))) - set(PARTS))
        )
        raise ValueError(
            f"expected split to be one of {PARTS} in every row, got {got}. Try split_by_patient(table)."
        )
    keep_apart(table, table["split"])
    return table


def keep_apart(table: pd.DataFrame, parts) -> None:
    """Refuse a patient, or a film, in two of the parts.

    Args:
        table: needs patient_id; path, where it has one, tells films.
        parts: (N,) name of each row's part; NaN is in none.
    Raises:
        ValueError: as `check_split`.
    """
    patients = need_patients(table)
    parts = pd.Series(np.asarray(parts, dtype=object))
    _in_one(pd.Series(patients), parts, "patient")
    if "path" in table.columns:
        films = pd.Series(film_keys(table["path"]), dtype=object)
        _in_one(films, parts, "film")


def need_patients(table: pd.DataFrame) -> np.ndarray:
    """(N,) each row's patient in one spelling.

    Raises:
        ValueError: a row has none, or two are perhaps one.
    """
    if "patient_id" not in table.columns:
        raise ValueError(
            f"expected a column patient_id, got {list(table.columns)}. {ON_REQUEST}"
        )
    unknown = int((numbered(table["patient_id"])[0] < 0).sum())
    if unknown or not len(table):
        raise ValueError(
            f"expected a patient_id in every row, got {unknown} of {len(table)} rows without. {ON_REQUEST}"
        )
    if doubt := doubtful(table["patient_id"]):
        raise ValueError(doubt)
    return identifiers(table["patient_id"])


def one_patient_per_image(table: pd.DataFrame) -> pd.DataFrame:
    """Take every image without a patient_id for another patient's: nobody knows it, so
    somebody has to say it.

    >>> table = rw.curate.one_patient_per_image(rw.curate.films(index))

    Two films of one patient would then be on two sides of a split, and count as two in
    an interval.

    Args:
        table: needs path; a patient_id that is known stays.
    Returns:
        A copy of the table with a patient_id in every row: "image-" and a digest of the
        path.
    """
    known = (
        table["patient_id"] if "patient_id" in table.columns else [None] * len(table)
    )
    names = identifiers(known)
    for row, path in enumerate(table["path"]):
        if names[row] is None:
            digest = hashlib.sha256(str(path).encode("utf-8", "backslashreplace"))
            names[row] = f"image-{digest.hexdigest()[:16]}"
    return table.assign(patient_id=names)


def _in_one(names: pd.Series, parts: pd.Series, what: str) -> None:
    """Refuse a name in two parts; rows are told, names are not: an error goes into
    logs.
    """
    known = names.notna() & parts.notna()
    count = parts[known].groupby(names[known]).nunique()
    both = count.index[count > 1]
    if not len(both):
        return
    rows = [np.flatnonzero((names == name) & known)[:4].tolist() for name in both[:3]]
    raise ValueError(
        f"expected each {what} in one part, got {len(both)} of {len(count)} {what}s in two or more "
        f"(rows {'; '.join(map(str, rows))}, counted from 0). Try split_by_patient(table)."
    )


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
