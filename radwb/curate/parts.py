"""`split`: by patient, site or time, like in every label, and stable under growth."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.curate.split import (
    PARTS,
    WAYS,
    check_fractions,
    check_split,
    days_of,
    need_every_part,
    need_patients,
    place_of,
    sites_of,
    split_by_patient,
)
from radwb.identifiers import identifiers, spelling_doubt


def split(
    table: pd.DataFrame,
    by: str = "patient",
    *,
    stratify: Sequence[str] = (),
    previous: pd.DataFrame | None = None,
    when: str = "study_date",
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> pd.DataFrame:
    """Give each row `split`, by patient, whole sites or time; no patient is in two.

    By patient it is `split_by_patient`; with `stratify` the parts are alike in every
    label (iterative stratification of patients, Sechidis et al. 2011). By site, large
    ones first, the test's hospitals are new; by time its days are later than all
    before. Films that a patient has on the other side then are left out, and a warning
    counts them.

    >>> first = split(table, stratify=["Pleural Effusion", "sex"])
    >>> shares = first.groupby("split")["Pleural Effusion"].mean()

    Args:
        table: needs patient_id; site, or the column `when`, where they decide.
        by: "patient", "site" or "time". Time comes before `rw.curate.deidentify`, which
            moves each patient's dates by another number of days.
        stratify: columns. A patient counts where a film of theirs is labelled 1, or of
            a text column once for each value.
        previous: the table of an earlier split: its patients, sites and days keep their
            part, and the new ones make up what each part lacks. Without it only a
            split by patient without stratify is stable, since it follows from
            patient_id and seed alone.
        when: the column with the days of the films.
        fractions: of patients in train, val, test. Days and sites are whole, so with
            few of them the parts come as near as they can.
        seed: another seed is another split; time knows none.
    Returns:
        a copy with `split`, and patient_id as text in one spelling.
    Raises:
        ValueError: a patient, site or day is missing, or a part would be empty; a
            patient or site of `previous` is spelt otherwise, such as "7" for "0007".
    """
    check_fractions(fractions)
    if by not in WAYS or (by == "time" and len(stratify)):
        raise ValueError(
            "expected by patient or site, or by time without stratify, got "
            f"{by!r} with {list(stratify)}"
        )
    if by == "patient" and previous is None and not len(stratify):
        return split_by_patient(table, fractions=fractions, seed=seed)
    patients = need_patients(table)
    table = table.assign(patient_id=patients)
    kept = {}
    if previous is not None:
        previous = check_split(previous, by, when=when)
        names = identifiers(previous["patient_id"])
        _need_one_spelling(patients, names, "patient_id")
        kept = dict(zip(names, previous["split"], strict=True))
    if by == "patient":
        parts = _of_patients(table, stratify, kept, fractions, seed)
    elif by == "site":
        parts = _of_sites(table, stratify, previous, fractions, seed)
    else:
        parts = _of_days(table, when, previous, fractions)
    return _one_side(table.assign(split=parts), kept, fractions)


def _need_one_spelling(names, before, column):
    """Refuse a name that `previous` has in another spelling: it would move unseen."""
    in_both = set(names) & set(before)
    in_one = [None if name in in_both else name for name in [*names, *before]]
    doubt = spelling_doubt(in_one, column)
    if doubt:
        raise ValueError(f"{doubt}. Rows from {len(names)} on are those of previous")


def _one_side(table, kept, fractions):
    """Without films on another side than their patient's first part, or kept one."""
    rank = table["split"].map(PARTS.index)
    first = rank.groupby(table["patient_id"]).transform("min")
    own = [PARTS[place] for place in first]
    own = [kept.get(p, o) for p, o in zip(table["patient_id"], own, strict=True)]
    elsewhere = (table["split"] != own).to_numpy()
    if elsewhere.any():
        patients = table["patient_id"][elsewhere].nunique()
        warnings.warn(
            f"{elsewhere.sum()} of {len(table)} films are left out: their {patients} "
            "patients have films in another part, and stay there.",
            stacklevel=3,
        )
    table = table[~elsewhere]
    need_every_part(table["split"], fractions, table["patient_id"].nunique())
    return table


# patients and sites: dealt out by what each part lacks


def _of_patients(table, stratify, kept, fractions, seed):
    patients = table["patient_id"]
    if len(stratify):
        counts = _counts(table, patients, stratify, seed)
        return patients.map(_dealt(counts, fractions, kept))
    drawn = split_by_patient(table, fractions=fractions, seed=seed)["split"]
    return patients.map(kept).fillna(drawn)


def _of_sites(table, stratify, previous, fractions, seed):
    sites = pd.Series(sites_of(table), table.index)
    kept = {}
    if previous is not None:
        before = sites_of(previous)
        _need_one_spelling(sites, before, "site")
        kept = dict(zip(before, previous["split"], strict=True))
    counts = _counts(table, sites, stratify, seed)
    return sites.map(_dealt(counts, fractions, kept))


def _counts(table, groups, stratify, seed):
    """(groups, 1 + labels) patients of each, and with each label; large ones first."""
    missing = [column for column in stratify if column not in table.columns]
    if missing:
        raise ValueError(f"expected the columns {missing}, got {list(table.columns)}")
    labels = {"patients": np.ones(len(table), bool)}
    for column in stratify:
        if pd.api.types.is_numeric_dtype(table[column]):
            labels[column] = (table[column] == 1).to_numpy()
            continue
        for value in sorted(table[column].dropna().unique()):
            labels[f"{column} {value}"] = (table[column] == value).to_numpy()
    has = pd.DataFrame(labels, table.index)
    of_patients = has.groupby([groups.rename("group"), table["patient_id"]]).any()
    counts = of_patients.groupby(level="group").sum()
    drawn = sorted(counts.index, key=lambda name: place_of(name, seed))
    return counts.loc[drawn].sort_values("patients", ascending=False, kind="stable")


def _dealt(counts, fractions, kept):
    """Group -> part: those with the rarest label first, each where most is lacking."""
    values = counts.to_numpy(float)
    lacking = np.outer(values.sum(0), fractions)  # (labels, parts)
    empty = np.array(fractions) > 0
    parts = {}

    def place(row, part):
        parts[counts.index[row]] = PARTS[part]
        lacking[:, part] -= values[row]
        empty[part] = False

    known = counts.index.isin(list(kept))
    for row in np.flatnonzero(known):
        place(row, PARTS.index(kept[counts.index[row]]))
    left = ~known
    while left.any():
        carriers = (values[left] > 0).sum(0)
        rarest = np.where(carriers > 0, carriers, np.inf).argmin()
        for row in np.flatnonzero(left & (values[:, rarest] > 0)):
            order = [lacking[0], lacking[rarest]]
            if left.sum() <= empty.sum():  # each that is left has to fill a part
                order.append(empty)
            place(row, np.lexsort(order)[-1])
            left[row] = False
    return parts


# time


def _of_days(table, when, previous, fractions):
    days = days_of(table, when)
    if previous is None:
        firsts = np.sort(days.groupby(table["patient_id"]).min().to_numpy())
        ends = np.round(np.cumsum(fractions)[:2] * len(firsts)).astype(int)
        starts = [firsts[end] if end < len(firsts) else None for end in ends]
    else:
        known = days_of(previous, when)
        starts = [known[previous["split"] == part].min() for part in PARTS[1:]]
    parts = pd.Series(PARTS[0], table.index)
    for part, start in zip(PARTS[1:], starts, strict=True):
        if start is not None and fractions[PARTS.index(part)] > 0:
            parts[days >= start] = part
    return parts
