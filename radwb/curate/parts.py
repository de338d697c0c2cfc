"""`split`: by patient, site or time, like in every label, and stable under growth."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.curate.split import (
    PARTS,
    check_fractions,
    check_split,
    days_of,
    need_every_part,
    need_patients,
    place_of,
    sites_of,
    split_by_patient,
)
from radwb.identifiers import identifiers


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
    label (iterative stratification of patients, Sechidis et al. 2011). By site the
    test's hospitals are new, by time its days are later than all before. Films that a
    patient has on the other side then are left out, and a warning counts them.

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
        ValueError: a patient, site or day is missing, or a part would be empty.
    """
    check_fractions(fractions)
    if by not in ("patient", "site", "time") or (by == "time" and len(stratify)):
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
        kept = dict(zip(names, previous["split"], strict=True))
    if by == "patient":
        parts = _of_patients(table, stratify, kept, fractions, seed)
    elif by == "site":
        parts = _of_sites(table, stratify, previous, fractions, seed)
    else:
        parts = _of_days(table, when, previous, fractions)
    return _one_side(table.assign(split=parts), kept, fractions)


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
    counts = _counts(table, table["patient_id"], stratify)
    place = {name: place_of(name, seed) for name in counts.index}
    ends = np.cumsum(fractions)[:2]
    if len(stratify):
        counts = counts.loc[sorted(counts.index, key=place.get)]
        parts = _stratified(counts, fractions, kept)
    else:
        drawn = np.searchsorted(ends, list(place.values()), side="right")
        parts = dict(zip(place, (PARTS[n] for n in drawn), strict=True)) | kept
    return table["patient_id"].map(parts)


def _counts(table, groups, stratify):
    """(groups, 1 + labels) patients of each group, and those who have each label."""
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
    return of_patients.groupby(level="group").sum()


def _stratified(counts, fractions, kept):
    """Group -> part: the rarest label first, each group where it's lacking most."""
    values = counts.to_numpy(float)
    lacking = np.outer(values.sum(0), fractions)  # (labels, parts)
    parts = {}
    for group, value in zip(counts.index, values, strict=True):
        if group in kept:
            parts[group] = kept[group]
            lacking[:, PARTS.index(kept[group])] -= value
    left = np.array([group not in kept for group in counts.index])
    while left.any():
        carriers = (values[left] > 0).sum(0)
        label = np.where(carriers > 0, carriers, np.inf)[1:].argmin() + 1
        if not carriers[1:].any():
            label = 0
        for row in np.flatnonzero(left & (values[:, label] > 0)):
            part = np.lexsort((lacking[0], lacking[label]))[-1]
            parts[counts.index[row]] = PARTS[part]
            lacking[:, part] -= values[row]
            left[row] = False
    return parts


def _of_sites(table, stratify, previous, fractions, seed):
    sites = sites_of(table)
    counts = _counts(table, pd.Series(sites, table.index), stratify)
    order = sorted(counts.index, key=lambda site: place_of(site, seed))
    counts = counts.loc[order].sort_values("patients", ascending=False, kind="stable")
    parts = {}
    if previous is not None:
        parts = dict(zip(sites_of(previous), previous["split"], strict=True))
    return pd.Series(sites, table.index).map(_nearest(counts, fractions, parts))


def _nearest(counts, fractions, parts):
    """Site -> part, large sites first, so that the squared errors grow least."""
    totals = counts.to_numpy(float).sum(0)
    shares = counts.to_numpy(float) / np.maximum(totals, 1)
    lacking = np.tile(np.asarray(fractions, float), (len(totals), 1))
    known = [site for site in counts.index if site in parts]
    new = [site for site in counts.index if site not in parts]
    rows = dict(zip(counts.index, shares, strict=True))
    parts = {site: parts[site] for site in known}
    for n, site in enumerate([*known, *new]):
        if site not in parts:
            gain = rows[site] @ lacking  # (parts,)
            empty = [
                f > 0 and part not in parts.values()
                for part, f in zip(PARTS, fractions, strict=True)
            ]
            if len(counts) - n <= sum(empty):  # each that is left has to fill one
                gain = np.where(empty, gain, -np.inf)
            parts[site] = PARTS[int(np.argmax(gain))]
        lacking[:, PARTS.index(parts[site])] -= rows[site]
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
