"""What stands in two parts of a split, and what AUROC that fakes."""

import numpy as np
import pandas as pd

from radwb.curate.audit.copies import LIKE, Lying
from radwb.curate.audit.result import row
from radwb.data.table import findings_of
from radwb.identifiers import identifiers
from radwb.stats import compare_auroc

KEPT_TOGETHER = ("patient_id", "study_id", "series_id", "volume_id", "image_id")
NAMES = {
    "patient_id": "patient",
    "study_id": "study",
    "series_id": "series (its slices)",
    "volume_id": "volume (its slices)",
    "image_id": "image",
}


def kept_apart(table: pd.DataFrame) -> list[dict]:
    """A row for each kind of identifier that stands in two parts of the split."""
    rows = []
    for column in table.columns.intersection(KEPT_TOGETHER, sort=False):
        names = pd.Series(identifiers(table[column]))
        parts = table["split"].to_numpy(dtype=object)
        both = pd.DataFrame({"name": names, "part": parts}).dropna()
        count = both.groupby("name")["part"].nunique()
        split = both[both["name"].isin(count.index[count > 1])]
        if split.empty:
            continue
        one = split[split["name"] == split["name"].iloc[0]].drop_duplicates("part")
        patients = identifiers(table["patient_id"])[split.index]
        what = NAMES[column]
        rows.append(
            row(
                f"{what.split()[0]} in two parts",
                "leak",
                f"{(count > 1).sum()} of {len(count)} {column}s stand in two parts of "
                f"the split, with {len(split)} rows: one {what} is no two observations",
                about=column,
                n=len(split),
                of=len(both),
                patients=len(set(patients)),
                evidence=one.index[:2],
            )
        )
    return rows


def with_parts(pairs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Pairs with `across`: both rows have a part of the split, and not the same."""
    if "split" not in table.columns:
        return pairs.assign(across=False)
    part = table["split"].to_numpy(dtype=object)
    first, second = part[pairs["first"]], part[pairs["second"]]
    known = pd.notna(first) & pd.notna(second)
    return pairs.assign(across=known & (first != second))


def copied(pairs: pd.DataFrame, table: pd.DataFrame, films: int) -> list[dict]:
    """A row for each kind of copy, of two patients or of one, across parts or within.

    Args:
        pairs: as `with_parts` gives them.
        table: needs patient_id.
        films: that were looked at.
    """
    patient = identifiers(table["patient_id"])
    one = patient[pairs["first"]] == patient[pairs["second"]]
    rows = []
    groups = pairs.assign(one=one).groupby(["kind", "one", "across"], sort=False)
    for (kind, same_patient, across), group in groups:
        who = "one patient" if same_patient else "two patients"
        where = "in two parts of the split" if across else "in one part"
        severity = "leak" if across else "note" if same_patient else "look"
        places = np.unique(group[["first", "second"]])
        rows.append(
            row(
                kind,
                severity,
                f"{len(group)} pairs of films of {who} {where} are one film ({kind}; "
                f"likeness {group['likeness'].min():.2f} to "
                f"{group['likeness'].max():.2f}, one film is {LIKE} or more)",
                about=where,
                n=len(places),
                of=films,
                patients=len(set(patient[places])),
                evidence=group.iloc[0][["first", "second"]],
            )
        )
    return rows


def faked(
    lying: Lying, pairs: pd.DataFrame, table: pd.DataFrame, films: np.ndarray
) -> list[dict]:
    """What AUROC the leaks fake: to copy the label of the film that is most alike.

    It reads films in train, once all of them and once those alone that share no patient
    and no film with the test part; both answer for the test films that are concerned.

    Args:
        lying: how films lie on the mean of all, and look there.
        pairs: as `with_parts` gives them.
        table: needs patient_id, split and findings.
        films: (N,) rows of the table that `lying` is of.
    """
    part = table["split"].to_numpy(dtype=object)
    patient = identifiers(table["patient_id"])
    test = np.isin(part, ["test", "val"])
    train = part == "train"
    leaks = {
        "the copies": _copies(pairs[pairs["across"]], train, test),
        "the patients in both": _shared(patient, train, test),
    }
    rows = []
    for what, (tested, trained) in leaks.items():
        tested = films[tested[films]]
        learnt = films[train[films]]
        kept = films[(train & ~trained)[films]]
        if len(tested) and len(kept):
            with_leak = lying.nearest(tested, learnt, films)
            without = lying.nearest(tested, kept, films)
            rows += _gap(table, what, tested, with_leak, without, int(test.sum()))
    return rows


def _gap(table, what, tested, with_leak, without, of):
    """The row of one leak; none where no concerned film has a label."""
    truth = table.iloc[tested][findings_of(table)].reset_index(drop=True)
    truth = truth.loc[:, truth.isin([0, 1]).any()]
    if truth.empty:
        return []
    labels = table[truth.columns].eq(1).astype(float)
    patient = identifiers(table["patient_id"])[tested]
    gap = compare_auroc(
        truth,
        labels.iloc[with_leak].reset_index(drop=True),
        labels.iloc[without].reset_index(drop=True),
        patient,
        names=("copying with the leak", "without it"),
    )
    found = row(
        "AUROC that a leak fakes",
        "leak" if gap.verdict == "ahead" else "note",
        f"on the {len(tested)} test films concerned by {what}, {gap}",
        about=what,
        n=len(tested),
        of=of,
        patients=len(set(patient)),
        value={"mean": gap.difference, "low": gap.low, "high": gap.high},
        evidence=(tested[0], with_leak[0]),
    )
    return [found]


def _copies(pairs, train, test):
    """(N,) test films with a copy in train, and (N,) those copies."""
    tested, trained = np.zeros_like(test), np.zeros_like(train)
    for one, other in (("first", "second"), ("second", "first")):
        both = test[pairs[one]] & train[pairs[other]]
        tested[pairs[one][both]] = True
        trained[pairs[other][both]] = True
    return tested, trained


def _shared(patient, train, test):
    """(N,) test films of a patient who is in train, and (N,) that patient's there."""
    both = set(patient[train]) & set(patient[test]) - {None}
    shared = np.isin(patient.astype(str), [str(name) for name in both])
    return test & shared, train & shared
