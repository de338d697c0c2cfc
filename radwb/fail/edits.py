"""Counterfactual edits: the same virtual patient with one thing added, gone or moved.

A mark is burnt in or not. What lies in the patient, a lesion, a drain, is planted anew
or left out, and the film is exposed again with the same noise and framing
(`rw.simulate.refilm`), so that nothing else differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb import data
from radwb.data import Scan
from radwb.fail.evidence import Evidence, compared
from radwb.fail.marker import CORNERS, add_marker
from radwb.models import Model
from radwb.stats import clustered_mean, compare

EDITS = {"add": 1, "remove": -1, "move": 0}  # the sign that the change should have
STEPS = 8  # places across and down that a placebo is tried at


@dataclass(frozen=True, eq=False)
class Pairs:
    """Films before and after an edit.

    Attributes:
        name: what was edited, in words.
        expected: the sign of the change in an answer that goes by it: 1, -1 or 0.
        before, after: (N, S, S) uint8.
        patients: (N,) of each.
    """

    name: str
    expected: int
    before: np.ndarray
    after: np.ndarray
    patients: np.ndarray


def _check_edit(edit):
    if edit not in EDITS:
        raise ValueError(f"expected an edit of {', '.join(EDITS)}, got {edit!r}")


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
    _check_edit(edit)
    marked = add_marker(images, kind=kind, corner=corner, seed=seed)
    across = CORNERS[3 - CORNERS.index(corner)]
    pair = {
        "add": (images, marked),
        "remove": (marked, images),
        "move": (marked, add_marker(images, kind=kind, corner=across, seed=seed)),
    }
    before, after = pair[edit]
    # where a head has learnt to look, a mark that moves away is gone
    expected = EDITS[edit] or -1
    return Pairs(f"{edit} the mark", expected, before, after, np.asarray(patients))


def edit_films(
    refilmed: tuple[Sequence[Scan], Sequence[Scan], np.ndarray],
    start: Model,
    what: str,
    edit: str,
) -> Pairs:
    """Films of patients who were filmed twice, as a model takes them.

    >>> twice = rw.simulate.refilm(table, "Pleural Effusion", "remove", n=2)
    >>> edit_films(twice, model, "Pleural Effusion", "remove").before.shape
    (2, 128, 128)

    Args:
        refilmed: of `rw.simulate.refilm`.
        start: whose input size is taken.
        what, edit: as they were given there.
    """
    _check_edit(edit)
    before, after, patients = refilmed
    squares = [_squares(scans, start) for scans in (before, after)]
    return Pairs(f"{edit} the {what.lower()}", EDITS[edit], *squares, patients)


def _squares(scans, start):
    """(N, S, S) uint8, as `rw.data.images` makes them of files."""
    inputs = [data.to_input(s.pixels, start.size, fit=start.fit) for s in scans]
    return np.uint8(np.rint(np.stack(inputs) * 255))


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
    return Pairs(name, 0, pairs.before, after, pairs.patients)


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
        edits: of `edit_mark`, `edit_films` or `placebo`.
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
    mean = clustered_mean(change, pairs.patients)
    row = {"edit": pairs.name, "expected": pairs.expected}
    row |= {"change": mean.pop("mean"), **mean}
    right = {"mean": np.nan, "low": np.nan, "high": np.nan}
    if pairs.expected:
        is_right = np.sign(change) == pairs.expected
        right = clustered_mean(is_right, pairs.patients, share=True)
    names = {"right": "mean", "right_low": "low", "right_high": "high"}
    return row | {name: right[key] for name, key in names.items()}
