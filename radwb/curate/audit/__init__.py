"""`audit`: what is wrong with a table, each finding with its evidence."""

import numpy as np
import pandas as pd

from radwb.curate.audit.copies import MOST_FILMS, Lying, near_duplicates
from radwb.curate.audit.labels import (
    MANY,
    against_truth,
    class_balance,
    label_noise,
)
from radwb.curate.audit.leaks import copied, faked, kept_apart, with_parts
from radwb.curate.audit.oddities import odd_films, views
from radwb.curate.audit.pictures import Pictures, read_pictures
from radwb.curate.audit.result import Audit, collected
from radwb.curate.audit.shortcuts import shortcuts, shown_within
from radwb.curate.audit.texts import named, reported
from radwb.data.table import findings_of

__all__ = ["Audit", "Pictures", "audit", "near_duplicates", "read_pictures"]


class _Log:
    """Rows so far, and of each check how many rows it saw or why it wasn't made."""

    def __init__(self, table):
        self.table = table
        self.rows = []
        self.flags = []
        self.examined = []

    def add(self, check, rows, *, of=None, flags=()):
        self.rows += rows
        self.flags += list(flags)
        of = len(self.table) if of is None else of
        self.examined.append({"check": check, "of": of, "found": len(rows), "note": ""})

    def skip(self, check, why):
        self.examined.append({"check": check, "of": 0, "found": 0, "note": why})


def audit(
    table: pd.DataFrame,
    *,
    pictures: bool | Pictures = True,
    features: np.ndarray | None = None,
    truth: pd.DataFrame | None = None,
) -> Audit:
    """Look a table of yours over before anything is trained or tested on it.

    Copies and patients across the split, and the AUROC that they fake; films that can't
    be used; metadata that tells a finding; labels that are wrong, few, or named in a
    text; reports that lack a section or still name somebody.

    >>> found = audit(table.assign(split=np.resize(["train", "test"], len(table))))
    >>> found.rows["check"].iloc[0], len(found.leaks) > 0
    ('patient in two parts', True)

    Args:
        table: needs patient_id, and path unless pictures=False; what else it has of
            the schema is looked at.
        pictures: whether to read the films, or what `read_pictures(table)` gave.
        features: (N, D) of a model, to see whether films show metadata and which labels
            they don't bear out; without them small pictures and the reports' words.
        truth: (N, K) findings of the same rows as experts have them, NaN where unknown.
    Raises:
        ValueError: patient_id is missing, or features and truth have other rows.
    """
    table = _checked(table, features, truth)
    log = _Log(table)
    if "split" in table.columns:
        log.add("identifiers across the split", kept_apart(table))
    else:
        log.skip("identifiers across the split", "no column split")
    pairs, shown = _audit_films(log, table, pictures)
    _audit_labels(log, table, features, truth, shown)
    if "report" in table.columns and table["report"].notna().any():
        rows, flags = reported(table)
        log.add("reports", rows, flags=flags.to_dict("records"))
    else:
        log.skip("reports", "no column report")
    return Audit(
        collected(log.rows).reset_index(drop=True),
        pd.DataFrame(log.examined),
        pairs,
        pd.DataFrame(log.flags, columns=["row", "check"]).drop_duplicates(),
        table,
    )


def _checked(table, features, truth):
    if "patient_id" not in table.columns:
        raise ValueError(
            f"expected a column patient_id, got {list(table.columns)}. Try "
            "rw.curate.one_patient_per_image(table)"
        )
    for name, other in (("features", features), ("truth", truth)):
        if other is not None and len(other) != len(table):
            raise ValueError(
                f"expected a row of {name} for each of {len(table)} rows, got "
                f"{len(other)}"
            )
    return table.reset_index(drop=True)


def _audit_films(log, table, pictures):
    """Copies and odd films; returns pairs, and (films, their features) or None."""
    none = pd.DataFrame(columns=["first", "second", "kind", "likeness", "across"])
    if pictures is False or "path" not in table.columns or table.empty:
        log.skip("films", "no film was read")
        return none, None
    if pictures is True:
        pictures = read_pictures(table)
    rows, flags = odd_films(table, pictures)
    log.add("odd films", rows, flags=flags)
    pairs = with_parts(near_duplicates(table, pictures=pictures), table)
    films = np.flatnonzero(pictures.usable)
    flags = [
        {"row": place, "check": pair.kind}
        for pair in pairs.itertuples()
        for place in (pair.first, pair.second)
    ]
    log.add("copies", copied(pairs, table, len(films)), of=len(films), flags=flags)
    if not len(films) or len(films) > MOST_FILMS:
        return pairs, None
    lying = Lying.of(pictures, films)
    if "split" in table.columns and findings_of(table):
        log.add("AUROC that a leak fakes", faked(lying, pairs, table, films))
    small = pictures.small[films][:, ::4, ::4].reshape(len(films), -1)
    return pairs, (films, small.astype(np.float32))


def _audit_labels(log, table, features, truth, shown):
    log.add("views", views(table))
    if not findings_of(table) or table.empty:
        log.skip("labels", "no column of a finding")
        log.add("label named", named(table) if len(table) else [])
        return
    log.add("class balance", class_balance(table))
    rows, told = shortcuts(table)
    log.add("metadata tells the finding", rows)
    if features is not None:
        shown = np.arange(len(table)), np.asarray(features)
    if shown is not None:
        films, values = shown
        log.add("films show the metadata", shown_within(table, told, values, films))
    log.add("label named", named(table))
    if truth is not None:
        log.add("label against the truth", against_truth(table, truth))
    _audit_noise(log, table, features)


def _audit_noise(log, table, features):
    has_words = "report" in table.columns and table["report"].notna().any()
    if features is None and not has_words:
        log.skip("label noise", "no features and no reports")
        return
    if len(table) > MANY:
        log.skip("label noise", f"more than {MANY} rows")
        return
    try:
        rows, suspects = label_noise(table, features)
    except ImportError:
        log.skip("label noise", "cleanlab is missing. Try pip install 'radwb[curate]'")
        return
    flags = suspects[["row"]].assign(check="label noise").to_dict("records")
    log.add("label noise", rows, flags=flags)
