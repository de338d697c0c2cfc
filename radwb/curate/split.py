"""Train, val and test: a patient is on one side only."""

import hashlib

import pandas as pd

PARTS = ("train", "val", "test")


def split_by_patient(
    table: pd.DataFrame, *, fractions: tuple[float, ...] = (0.7, 0.1, 0.2), seed: int = 0
) -> pd.DataFrame:
    """Give each row `split`, train, val or test, so that all images of a patient go the same way.

    A patient's side depends on patient_id and seed alone: new patients move nobody, and the fractions hold on average.

    >>> split_by_patient(table)["split"].value_counts()

    Args:
        table: needs patient_id.
        fractions: of patients in train, val, test; they add up to 1.
        seed: another seed is another split.
    Returns:
        A copy of the table with `split`.
    Raises:
        ValueError: a patient_id is missing, the fractions don't add up to 1, or a part would be empty.
    """
    if len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-9 or min(fractions) < 0:
        raise ValueError(f"expected three fractions that add up to 1, got {fractions}")
    _need_patients(table)
    place = table["patient_id"].map(lambda patient: _uniform(f"{seed}:{patient}"))
    ends = (fractions[0], fractions[0] + fractions[1])
    split = place.map(lambda u: PARTS[(u >= ends[0]) + (u >= ends[1])])
    empty = [part for part, f in zip(PARTS, fractions, strict=True) if f > 0 and not (split == part).any()]
    if empty:
        n = table["patient_id"].nunique()
        raise ValueError(f"expected patients in every part, got none in {empty} ({n} patients). Try another seed.")
    return table.assign(split=split)


def check_split(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table unchanged when no patient is in two parts and every row has one.

    Raises:
        ValueError: with the number of such patients and a few of them.
    """
    _need_patients(table)
    if "split" not in table.columns or not table["split"].isin(PARTS).all():
        got = sorted(map(str, set(table.get("split", pd.Series(dtype=str))) - set(PARTS)))
        raise ValueError(f"expected split to be one of {PARTS} in every row, got {got}. Try split_by_patient(table).")
    parts = table.groupby("patient_id")["split"].nunique()
    both = parts.index[parts > 1].tolist()
    if both:
        raise ValueError(f"expected each patient in one part, got {len(both)} of {len(parts)} patients in two or more "
                         f"({', '.join(map(str, both[:3]))} ...). Try split_by_patient(table).")  # fmt: skip
    return table


def _need_patients(table: pd.DataFrame) -> None:
    if "patient_id" not in table.columns or table["patient_id"].isna().any():
        absent = len(table) if "patient_id" not in table.columns else int(table["patient_id"].isna().sum())
        raise ValueError(f"expected a patient_id in every row, got {absent} of {len(table)} rows without")


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
