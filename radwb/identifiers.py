"""Identifiers of patients and studies: one spelling each, and none that is made up.

Left of all rooms: nothing of radwb is imported here, so that tables, splits and
intervals know the same patients.
"""

import re
import unicodedata
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import pandas as pd

# how a missing value looks once it has been through str() or a CSV
MISSING = ("", "nan", "none", "null", "<na>", "nat", "na", "n/a", "#n/a")
ROUNDED = re.compile(r"[+-]?\d(\.\d+)?[eE]\+\d+")  # 1.23457E+11, by a spreadsheet


def identifiers(values: Iterable) -> np.ndarray:
    """Each value as text in one spelling, None where it is missing.

    >>> identifiers([7, 7.0, "7 ", "7.0", "0007", float("nan"), ""]).tolist()
    ['7', '7', '7', '7', '0007', None, None]

    Numbers lose ".0", texts the blanks around them, what can't be seen (NUL, zero-width
    marks), and the width of their letters (Unicode's NFKC). Leading zeros stay.

    Args:
        values: (N,) of any type, such as a column of a table.
    Returns:
        (N,) object.
    Raises:
        ValueError: a number is so large, or so rounded, that two patients may have
            become one.
    """
    spelt = [_spelt(value) for value in np.asarray(values, dtype=object).ravel()]
    return np.array(spelt, dtype=object)


def numbered(values: Iterable) -> tuple[np.ndarray, int]:
    """The patient's number of each row, and how many patients there are.

    >>> numbered(["b", "a", None, "b "])
    (array([ 1,  0, -1,  1]), 2)

    Returns:
        (N,) number in the order of the names, -1 where the patient isn't known; P.
    """
    names = identifiers(values)
    known = np.array([name is not None for name in names], dtype=bool)
    row = np.full(len(names), -1)
    different, row[known] = np.unique(names[known].astype(str), return_inverse=True)
    return row, len(different)


def spelling_doubt(values: Iterable, column: str = "patient_id") -> str:
    """A sentence on identifiers that are perhaps one, with rows and no identifier.

    They differ by leading zeros, case or blanks alone. "" where every patient has one
    spelling.

    >>> spelling_doubt(["7", "0007", "8"])[:50]
    'expected one spelling of each patient_id, got 1 in'
    """
    first: dict[str, dict[str, int]] = {}  # in common -> spelling -> its first row
    for row, name in enumerate(identifiers(values)):
        if name is not None:
            first.setdefault(_alike(name), {}).setdefault(name, row)
    groups = [rows.values() for rows in first.values() if len(rows) > 1]
    if not groups:
        return ""
    places = "; ".join(" and ".join(map(str, rows)) for rows in groups[:3])
    return (
        f"expected one spelling of each {column}, got {len(groups)} in two that differ "
        f"by leading zeros, case or blanks alone (rows {places}, counted from 0). "
        "Try to spell them alike where they are one patient, or apart (a prefix) where "
        "they are two"
    )


def without_zeros(name: str) -> str:
    """What is left of an identifier of digits once a CSV was read as numbers.

    >>> without_zeros("0007"), without_zeros("P07")
    ('7', 'P07')
    """
    only_digits = name.isascii() and name.isdecimal()
    return (name.lstrip("0") or "0") if only_digits else name


def _alike(name):
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"\s", "", name)).casefold()


def _spelt(value):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, Real) and not isinstance(value, bool):
        return _of_number(value)
    if not isinstance(value, str) and pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return _of_text(str(value))


def _of_number(value):
    if isinstance(value, Integral):
        return str(int(value))
    if np.isnan(value):
        return None
    bits = np.finfo(np.asarray(value).dtype).nmant + 1
    if abs(value) > 2**bits:
        raise ValueError(
            f"expected identifiers as text, got a number above {2**bits}, which has "
            "lost digits. Try rw.data.read_table(file), or pd.read_csv(file, "
            "dtype={'patient_id': str})"
        )
    return str(int(value)) if value == int(value) else str(value)


def _of_text(text):
    text = unicodedata.normalize("NFKC", text)
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or _is_visible(c))
    text = " ".join(text.split())
    if text.lower() in MISSING:
        return None
    if ROUNDED.fullmatch(text):
        raise ValueError(
            "expected identifiers as text, got a rounded number such as 1.2E+11, as "
            "spreadsheets write long ones. Try the file from before it was saved there"
        )
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", text, flags=re.ASCII)


def _is_visible(character):
    return unicodedata.category(character) not in ("Cc", "Cf")
