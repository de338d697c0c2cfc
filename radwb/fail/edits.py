"""Counterfactual edits: the same virtual patient with one thing added, gone or moved.

A mark is burnt in or not. What lies in the patient, a lesion, a drain, is planted anew
or left out, and the film is exposed again with the same noise and framing, so that
nothing else differs.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb import data
from radwb.fail.evidence import Evidence, compared
from radwb.fail.marker import CORNERS, add_marker
from radwb.models import Model
from radwb.simulate import Dials, Finding, default_anatomy, draw, render
from radwb.simulate.anatomy import FIELD_MM
from radwb.simulate.builds import draw_built
from radwb.stats import clustered_mean, compare

EXPECTED = {"add": 1, "remove": -1, "move": 0}
DRAIN = ("Support Devices", "chest tube")
STEPS = 8  # places across and down that a placebo is tried at


@dataclass(frozen=True, eq=False)
class Pairs:
    """Films before and after an edit.

    Attributes:
        name: what was edited, in words.
        edit: "add", "remove" or "move".
        before, after: (N, S, S) uint8.
        patients: (N,) of each.
    """

    name: str
    edit: str
    before: np.ndarray
    after: np.ndarray
    patients: np.ndarray

    def __post_init__(self):
        if self.edit not in EXPECTED:
            raise ValueError(
                f"expected an edit of {', '.join(EXPECTED)}, got {self.edit!r}"
            )


def edit_mark(
    images: np.ndarray,
    patients: np.ndarray,
    edit: str = "add",
    *,
    kind: str = "room",
    corner: str = "bottom-right",
    seed: int = 0,
) -> Pairs:
    """Add a mark to your films, take it off, or move it to the corner across.

    >>> images = rw.data.images(table, model.size)
    >>> pairs = edit_mark(images, table["patient_id"], "remove")
    >>> bool((pairs.before >= pairs.after).mean() > 0.9)
    True

    Args:
        images: (N, S, S) uint8 without the mark.
        patients: (N,) of each.
        edit: "add", "remove" or "move".
        kind, corner, seed: as in `add_marker`.
    """
    marked = add_marker(images, kind=kind, corner=corner, seed=seed)
    across = CORNERS[3 - CORNERS.index(corner)]
    pair = {
        "add": (images, marked),
        "remove": (marked, images),
        "move": (marked, add_marker(images, kind=kind, corner=across, seed=seed)),
    }
    before, after = pair.get(edit, pair["add"])
    return Pairs(f"{edit} the mark", edit, before, after, np.asarray(patients))


def edit_patients(
    table: pd.DataFrame,
    start: Model,
    what: str = "Lung Lesion",
    edit: str = "remove",
    *,
    n: int = 40,
    size: int = 160,
    dials: Dials | None = None,
    seed: int = 0,
) -> Pairs:
    """Film virtual patients twice, before and after an edit of what they have.

    The patients are those of the table, with their bodies and their other findings;
    exposed anew, so that they aren't the table's films to the last grain of noise.

    >>> pairs = edit_patients(table, model, "Pleural Effusion", n=2)
    >>> pairs.before.shape
    (2, 128, 128)

    Args:
        table: of `rw.simulate.cohort`.
        start: whose input size is taken.
        what: a finding, or "drain" for a chest tube.
        edit: "remove" and "move" (to the other side) film those who have it, "add"
            those who don't.
        n: films at most, one a patient.
        size: rows and columns that are exposed.
        dials: the cohort's, where its builds are wider.
        seed: of noise, framing, and of what is drawn.
    Raises:
        ValueError: nobody to edit, or rows that aren't this cohort's.
    """
    anatomy = default_anatomy(FIELD_MM / size)
    name, kind = DRAIN if what == "drain" else (what, None)
    chosen = _to_edit(table, name, kind, edit)
    if chosen.empty:
        raise ValueError(
            f"expected patients {'without' if edit == 'add' else 'with'} a {what}, got "
            f"none of {len(table)} rows. Try another edit or more films"
        )
    pair = [], []
    for i, (_, row) in enumerate(tqdm(list(chosen.head(n).iterrows()), delay=2)):
        rng = np.random.default_rng([seed, i])
        findings = _edited(row, name, kind, edit, anatomy, rng)
        body = _body_of(row, dials or Dials(), anatomy)
        how = {"body": body, "view": row["view"], "site": row["site"], "size": size}
        for films, has in zip(pair, findings, strict=True):
            film = render(has, **how, seed=seed + i, anatomy=anatomy)
            square = data.to_input(film.pixels, start.size, fit=start.fit)
            films.append(np.uint8(np.rint(square * 255)))
    before, after = map(np.stack, pair)
    patients = chosen["patient_id"].head(n).to_numpy()
    return Pairs(f"{edit} the {what.lower()}", edit, before, after, patients)


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


def placebo(pairs: Pairs, avoid: np.ndarray | None = None) -> Pairs:
    """The same change of the same area, where it means nothing.

    It is moved as a whole, to the place that has least to do with where it was and with
    what `avoid` names.

    >>> images = rw.data.images(table, model.size)
    >>> mark = edit_mark(images, table["patient_id"])
    >>> placebo(mark).name
    'placebo of: add the mark'

    Args:
        pairs: whose change is taken.
        avoid: (S, S) from 0 to 1, such as where lungs are.
    """
    change = pairs.after.astype(int) - pairs.before  # (N, S, S)
    S = change.shape[1]
    away = np.zeros((S, S)) if avoid is None else avoid
    amount = np.abs(change).astype(np.float32)
    steps = [S * k // STEPS for k in range(STEPS)]
    best = np.full(len(change), np.inf)
    moved = np.zeros_like(change)
    for down in steps:
        for across in steps:
            there = np.roll(amount, (down, across), axis=(1, 2))
            cost = (there * (away + (amount > 0))).sum(axis=(1, 2))
            better = cost < best
            best = np.minimum(best, cost)
            moved[better] = np.roll(change[better], (down, across), axis=(1, 2))
    after = np.clip(pairs.before + moved, 0, 255).astype(np.uint8)
    name = f"placebo of: {pairs.name}"
    return Pairs(name, "move", pairs.before, after, pairs.patients)


@dataclass(frozen=True, eq=False)
class Edited:
    """What edits did to the answers.

    Attributes:
        table: edit, expected (1, -1 or 0), change (mean of the logit), low, high (by
            patient), right (share of the films whose logit moves as expected; NaN where
            nothing is), right_low, right_high, n, patients, note.
        changes: name of an edit -> (N,) change of each film.
        patients: name -> (N,).
    """

    table: pd.DataFrame
    changes: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]

    def evidence(self, harm: str) -> list[Evidence]:
        """An edit that has a placebo, against it, in the size of the change.

        Args:
            harm: "ahead" where the edit should do nothing, as that of a mark; "behind"
                where it should do more than the placebo.
        """
        rows = []
        for name in self.changes:
            control = f"placebo of: {name}"
            if control in self.changes:
                sizes = [np.abs(self.changes[key]) for key in (name, control)]
                comparison = compare(
                    *sizes,
                    self.patients[name],
                    names=(name, "its placebo"),
                    what="change of the logit",
                )
                about = {"harm": harm, "control": float(sizes[1].mean())}
                rows.append(compared("shortcut", name, comparison, **about))
        return rows


def edited(answer: Callable, *edits: Pairs) -> Edited:
    """The paired change of an answer with each edit, by patient, and its sign.

    >>> images = rw.data.images(table, model.size)
    >>> mark = edit_mark(images, table["patient_id"])
    >>> brightness = lambda films: films.mean(axis=(1, 2))
    >>> edited(brightness, mark).table["edit"].tolist()
    ['add the mark']

    Args:
        answer: (N, S, S) uint8 -> (N,) logits, such as a head's `logits`.
        edits: of `edit_mark`, `edit_patients` or `placebo`.
    Raises:
        ValueError: the answer is the same for all films.
    """
    rows = []
    changes = {}
    patients = {}
    for pairs in edits:
        before = answer(pairs.before)
        change = answer(pairs.after) - before
        if len(change) > 1 and np.ptp(np.concatenate([before, change])) == 0:
            raise ValueError(
                "expected answers that differ between films, got the same for all "
                f"{len(change)}. Try a head that was fitted"
            )
        changes[pairs.name] = change
        patients[pairs.name] = pairs.patients
        rows.append(_summary(pairs, change))
    return Edited(pd.DataFrame(rows), changes, patients)


def _summary(pairs, change):
    expected = 0 if "placebo" in pairs.name else EXPECTED[pairs.edit]
    mean = clustered_mean(change, pairs.patients)
    row = {"edit": pairs.name, "expected": expected, "change": mean.pop("mean"), **mean}
    right = {"mean": np.nan, "low": np.nan, "high": np.nan}
    if expected:
        is_right = np.sign(change) == expected
        right = clustered_mean(is_right, pairs.patients, share=True)
    names = {"right": "mean", "right_low": "low", "right_high": "high"}
    return row | {name: right[key] for name, key in names.items()}
