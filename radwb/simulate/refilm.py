"""Virtual patients filmed twice, before and after an edit of what they have."""

import json

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.data import Scan
from radwb.simulate.anatomy import FIELD_MM, default_anatomy
from radwb.simulate.builds import draw_built
from radwb.simulate.film import render
from radwb.simulate.findings import Finding, draw
from radwb.simulate.patient import Dials

EDITS = ("add", "remove", "move")
DRAIN = ("Support Devices", "chest tube")


def refilm(
    table: pd.DataFrame,
    what: str = "Lung Lesion",
    edit: str = "remove",
    *,
    n: int = 40,
    size: int = 160,
    dials: Dials | None = None,
    seed: int = 0,
) -> tuple[list[Scan], list[Scan], np.ndarray]:
    """Film virtual patients of your cohort twice, before and after one edit.

    They keep their bodies and their other findings, and both films their noise and
    framing; exposed anew, so that they aren't the table's films to the last grain.

    >>> before, after, who = refilm(table, "Pleural Effusion", n=2)
    >>> len(before), len(after), len(set(who))
    (2, 2, 2)

    Args:
        table: of `rw.simulate.cohort`.
        what: a finding, or "drain" for a chest tube.
        edit: "remove" and "move" (to the other side) film those who have it, "add"
            those who don't.
        n: patients at most, a film each.
        size: rows and columns.
        dials: the cohort's, where its builds are wider; with `cnr` all findings of both
            films are as visible as that.
        seed: of noise, framing, and of what is drawn.
    Returns:
        Scans before, Scans after, and the (n,) patient of each.
    Raises:
        ValueError: nobody to edit, or rows that aren't this cohort's.
    """
    if edit not in EDITS:
        raise ValueError(f"expected an edit of {', '.join(EDITS)}, got {edit!r}")
    anatomy = default_anatomy(FIELD_MM / size)
    name, kind = DRAIN if what == "drain" else (what, None)
    chosen = _to_edit(table, name, kind, edit).head(n)
    if chosen.empty:
        raise ValueError(
            f"expected patients {'without' if edit == 'add' else 'with'} a {what}, got "
            f"none of {len(table)} rows. Try another edit or more films"
        )
    dials = dials or Dials()
    before, after = [], []
    rows = [row for _, row in chosen.iterrows()]
    for i, row in enumerate(tqdm(rows, "edits", delay=2, leave=False)):
        rng = np.random.default_rng([seed, i])
        has, will_have = _edited(row, name, kind, edit, anatomy, rng)
        body = _body_of(row, dials, anatomy)
        how = {"body": body, "view": row["view"], "site": row["site"], "size": size}
        how |= {"seed": seed + i, "anatomy": anatomy, "cnr": dials.cnr}
        before.append(render(has, **how))
        after.append(render(will_have, **how))
    return before, after, chosen["patient_id"].to_numpy()


def _findings_of(row):
    planted = json.loads(row["planted"])
    return [Finding(**{**f, "centre": tuple(f["centre"])}) for f in planted]


def _is_it(finding, name, kind):
    return finding.name == name and kind in (None, finding.kind)


def _to_edit(table, name, kind, edit):
    """One row a patient, of those who have it, or who don't."""
    has = [
        any(_is_it(f, name, kind) for f in _findings_of(row))
        for _, row in table.iterrows()
    ]
    chosen = table[np.array(has, bool) != (edit == "add")]
    return chosen.drop_duplicates("patient_id")


def _edited(row, name, kind, edit, anatomy, rng):
    """(findings before, findings after)."""
    has = _findings_of(row)
    others = [f for f in has if not _is_it(f, name, kind)]
    if edit == "add":
        return has, [*has, draw(name, anatomy, rng, kind=kind)]
    moved = []
    if edit == "move":
        for f in has:
            if _is_it(f, name, kind):
                moved.append(_across(f, anatomy, rng))
    return has, [*others, *moved]


def _across(finding, anatomy, rng):
    side = {"left": "right", "right": "left"}.get(finding.side)
    about = {"severity": finding.severity, "kind": finding.kind}
    return draw(finding.name, anatomy, rng, side=side, **about)


def _body_of(row, dials, anatomy):
    """The body of a row's patient, drawn again from the patient's own streams."""
    cohort, _, number = row["patient_id"].removeprefix("V").partition("-")
    try:
        key = int(cohort), int(number.partition("-")[0])
    except ValueError:
        key = 0, -1
    if key[1] < 0:
        raise ValueError(
            "expected a patient of rw.simulate.cohort, such as V0-000012, got "
            f"{row['patient_id']!r}"
        )
    streams = [np.random.default_rng([*key, k]) for k in (0, 4)]
    patient = draw_built(*streams, dials, anatomy)
    if (patient.sex, patient.age_years) != (row["sex"], row["age_years"]):
        raise ValueError(
            f"expected {row['patient_id']} to be {patient.sex}, {patient.age_years} "
            f"years, got {row['sex']}, {row['age_years']}. Try dials= of your cohort"
        )
    return patient.body
