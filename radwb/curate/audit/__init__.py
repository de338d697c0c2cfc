"""`audit`: what is wrong with a table, each finding with its evidence."""

import numpy as np
import pandas as pd

from radwb.curate.audit.copies import MOST_FILMS, Lying, near_duplicates
from radwb.curate.audit.labels import (
    MANY,
    SOME,
    against_truth,
    class_balance,
    label_noise,
)
from radwb.curate.audit.leaks import copied, faked, kept_apart, with_parts
from radwb.curate.audit.oddities import odd_films, views
from radwb.curate.audit.pictures import Pictures, read_pictures
from radwb.curate.audit.result import Audit, collected
from radwb.curate.audit.shortcuts import MOST_SHOWN, shortcuts, shown_within
from radwb.curate.audit.texts import MOST_REPORTS, named, reported
from radwb.data.table import findings_of

__all__ = ["Audit", "Pictures", "audit", "near_duplicates", "read_pictures"]

COARSE = 4  # px of 64: films are told apart by view or site at this grain
HASHES_ALONE = (
    f"more than {MOST_FILMS} films: close hashes alone proposed copies, so cropped, "
    "zoomed, mirrored and inverted ones weren't looked for"
)


class _Log:
    """Rows so far, and of each check how many rows it saw and what it passed over."""

    def __init__(self, table):
        self.table = table
        self.rows = []
        self.flags = []
        self.examined = []

    def add(self, check, rows, *, of=None, flags=(), note=""):
        self.rows += rows
        self.flags += list(flags)
        of = len(self.table) if of is None else of
        seen = {"check": check, "of": of, "found": len(rows), "note": note}
        self.examined.append(seen)

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
    _audit_reports(log, table)
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
    rows = copied(pairs, table, len(films))
    is_many = len(films) > MOST_FILMS
    note = HASHES_ALONE if is_many else ""
    log.add("copies", rows, of=len(films), flags=flags, note=note)
    if is_many:
        log.skip("AUROC that a leak fakes", f"more than {MOST_FILMS} films")
    if is_many or not len(films):
        return pairs, None
    _audit_faked(log, table, pictures, pairs, films)
    small = pictures.small[films]
    coarse = small[:, ::COARSE, ::COARSE].astype(np.float32)
    return pairs, (films, coarse.reshape(len(films), -1))


def _audit_faked(log, table, pictures, pairs, films):
    check = "AUROC that a leak fakes"
    if "split" not in table.columns:
        log.skip(check, "no column split")
    elif not findings_of(table):
        log.skip(check, "no column of a finding")
    else:
        lying = Lying.of(pictures, films)
        log.add(check, faked(lying, pairs, table, films), of=len(films))


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
        rows = shown_within(table, told, values, films)
        of = min(len(films), MOST_SHOWN)
        note = f"the first {of} films alone" if len(films) > of else ""
        log.add("films show the metadata", rows, of=of, note=note)
    else:
        log.skip("films show the metadata", "neither films nor features were looked at")
    note = f"indications of the first {MOST_REPORTS} reports alone"
    log.add("label named", named(table), note=note if _is_long(table) else "")
    if truth is None:
        log.skip("label against the truth", "no truth was given")
    else:
        log.add("label against the truth", against_truth(table, truth))
    _audit_noise(log, table, features)


def _audit_noise(log, table, features):
    if features is None and not _has_reports(table):
        log.skip("label noise", "no features and no reports")
        return
    if len(table) > MANY:
        log.skip("label noise", f"more than {MANY} rows")
        return
    if table["patient_id"].nunique() < SOME:
        log.skip("label noise", f"under {SOME} patients: a model of so few is no judge")
        return
    try:
        rows, suspects = label_noise(table, features)
    except ImportError:
        log.skip("label noise", "cleanlab is missing. Try pip install 'radwb[curate]'")
        return
    flags = suspects[["row"]].assign(check="label noise").to_dict("records")
    log.add("label noise", rows, flags=flags)


def _audit_reports(log, table):
    if not _has_reports(table):
        log.skip("reports", "no column report")
        return
    rows, flags = reported(table)
    note = f"sections of the first {MOST_REPORTS} alone" if _is_long(table) else ""
    log.add("reports", rows, flags=flags.to_dict("records"), note=note)


def _has_reports(table):
    return "report" in table.columns and table["report"].notna().any()


def _is_long(table):
    return _has_reports(table) and len(table) > MOST_REPORTS
