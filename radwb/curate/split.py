"""Train, val and test: a patient is on one side only."""

import hashlib
from itertools import pairwise

import numpy as np
import pandas as pd

from radwb.data.table import film_keys
from radwb.identifiers import identifiers, spelling_doubt, without_zeros

PARTS = ("train", "val", "test")
WAYS = ("patient", "site", "time")
ON_REQUEST = "Try rw.curate.one_patient_per_image(table) if no patient has two films"


def split_by_patient(
    table: pd.DataFrame,
    *,
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> pd.DataFrame:
    """Give each row `split`, train, val or test, one for all images of a patient.

    A patient's side depends on patient_id and seed alone: new patients move nobody, and
    the fractions hold on average. 7, 7.0 and "7" are one patient; "0007" is on the same
    side, so that zeros that a CSV has lost move nobody either.

    >>> split_by_patient(table)["split"].value_counts().index.tolist()
    ['train', 'test', 'val']

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
    check_fractions(fractions)
    patients = need_patients(table)
    place = {name: place_of(name, seed) for name in set(patients)}
    ends = (fractions[0], fractions[0] + fractions[1])
    number = np.searchsorted(ends, [place[name] for name in patients], side="right")
    split = np.array(PARTS, dtype=object)[number]
    need_every_part(split, fractions, len(place))
    return table.assign(patient_id=patients, split=split)


def check_fractions(fractions: tuple[float, ...]) -> None:
    """Refuse what isn't three shares of a whole."""
    if len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-9 or min(fractions) < 0:
        raise ValueError(f"expected three fractions that add up to 1, got {fractions}")


def need_every_part(split, fractions: tuple[float, ...], patients: int) -> None:
    """Refuse a part that should have patients and has none."""
    shares = zip(PARTS, fractions, strict=True)
    empty = [name for name, share in shares if share > 0 and name not in set(split)]
    if empty:
        raise ValueError(
            f"expected patients in every part, got none in {empty} ({patients} "
            "patients). Try another seed."
        )


def check_split(
    table: pd.DataFrame, by: str = "patient", *, when: str = "study_date"
) -> pd.DataFrame:
    """Return the table unchanged when no patient, and no film, is in two parts.

    >>> check_split(table) is table
    True

    Args:
        table: needs patient_id and split, one of train, val and test in every row.
        by: "patient"; "site" refuses a site in two parts as well, "time" a day of a
            part that isn't later than all days of the part before.
        when: the column with the days.
    Raises:
        ValueError: with the number of such patients or films and some of their rows;
            or `by` is another word.
    """
    if by not in WAYS:
        raise ValueError(f"expected by to be one of {WAYS}, got {by!r}")
    split = table.get("split", pd.Series(dtype=object))
    if "split" not in table.columns or not split.isin(PARTS).all():
        got = sorted(map(str, set(split) - set(PARTS)))
        raise ValueError(
            f"expected split to be one of {PARTS} in every row, got {got}. Try "
            "split_by_patient(table)."
        )
    keep_apart(table, split)
    if by == "site":
        _in_one(sites_of(table), split.to_numpy(object), "site")
    elif by == "time":
        _in_order(days_of(table, when), split)
    return table


def _in_order(days, split):
    present = [part for part in PARTS if (split == part).any()]
    for before, after in pairwise(present):
        last = days[split == before].max()
        late = int((days[split == after] <= last).sum())
        if late:
            raise ValueError(
                f"expected every film of {after} later than those of {before}, got "
                f"{late} that are not. Try rw.curate.split(table, by='time')"
            )


def sites_of(table: pd.DataFrame) -> np.ndarray:
    """(N,) each row's site.

    Raises:
        ValueError: a row has none.
    """
    sites = identifiers(table.get("site", [None] * len(table)))
    unknown = sum(site is None for site in sites)
    if unknown:
        raise ValueError(
            f"expected a site in every row, got {unknown} of {len(table)} without"
        )
    return sites


def days_of(table: pd.DataFrame, when: str) -> pd.Series:
    """(N,) the day of each row, from dates or text such as 20260131.

    Raises:
        ValueError: a row has none.
    """
    if when not in table.columns:
        raise ValueError(f"expected a column {when}, got {list(table.columns)}")
    days = pd.to_datetime(table[when].astype(str), errors="coerce").dt.normalize()
    if days.isna().any():
        raise ValueError(
            f"expected a day in every row of {when}, got {days.isna().sum()} of "
            f"{len(table)} without one, such as "
            f"{table[when][days.isna()].iloc[0]!r}"
        )
    return days


def keep_apart(table: pd.DataFrame, parts) -> None:
    """Refuse a patient, or a film, in two of the parts.

    Args:
        table: needs patient_id; path, where it has one, tells films.
        parts: (N,) name of each row's part; NaN is in none.
    Raises:
        ValueError: as `check_split`.
    """
    parts = np.asarray(parts, dtype=object)
    _in_one(need_patients(table), parts, "patient")
    if "path" in table.columns:
        _in_one(film_keys(table["path"]), parts, "film")


def need_patients(table: pd.DataFrame) -> np.ndarray:
    """(N,) each row's patient in one spelling.

    Raises:
        ValueError: a row has none, or two are perhaps one.
    """
    if "patient_id" not in table.columns:
        raise ValueError(
            f"expected a column patient_id, got {list(table.columns)}. {ON_REQUEST}"
        )
    patients = identifiers(table["patient_id"])
    unknown = sum(name is None for name in patients)
    if unknown or not len(table):
        raise ValueError(
            f"expected a patient_id in every row, got {unknown} of {len(table)} rows "
            f"without. {ON_REQUEST}"
        )
    doubt = spelling_doubt(patients)
    if doubt:
        raise ValueError(doubt)
    return patients


def one_patient_per_image(table: pd.DataFrame) -> pd.DataFrame:
    """Say that each film of yours without a patient_id is another patient's.

    >>> films = table[["path"]].head(2)
    >>> one_patient_per_image(films)["patient_id"].str[:6].tolist()
    ['image-', 'image-']

    Nobody knows it, so somebody has to say it: two films of one patient would then be
    on two sides of a split, and count as two in an interval.

    Args:
        table: needs path; a patient_id that is known stays.
    Returns:
        A copy of the table with a patient_id in every row: "image-" and a digest of the
        path.
    """
    names = identifiers(table.get("patient_id", [None] * len(table)))
    for row, path in enumerate(table["path"]):
        if names[row] is None:
            digest = hashlib.sha256(str(path).encode("utf-8", "backslashreplace"))
            names[row] = f"image-{digest.hexdigest()[:16]}"
    return table.assign(patient_id=names)


def _in_one(names, parts, what):
    """Refuse a name in two parts.

    Rows are told, names are not: an error goes into logs.
    """
    rows = pd.DataFrame({"name": names, "part": parts}).dropna()
    count = rows.groupby("name")["part"].nunique()
    both = count.index[count > 1]
    if not len(both):
        return
    places = [str(rows.index[rows["name"] == name][:4].tolist()) for name in both[:3]]
    raise ValueError(
        f"expected each {what} in one part, got {len(both)} of {len(count)} {what}s in "
        f"two or more (rows {'; '.join(places)}, counted from 0). Try "
        "split_by_patient(table)."
    )


def place_of(name: str, seed: int) -> float:
    """From 0 to 1, alike for "7" and "0007"."""
    return _uniform(f"{seed}:{without_zeros(name)}")


def _uniform(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
