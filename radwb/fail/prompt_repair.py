"""A zero-shot answer whose words are made blind to a mark."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.fail.bench import UNMARKED, Bench, labelled_parts
from radwb.fail.marker import confound
from radwb.fail.mitigate import MitigationResult, change_row, said
from radwb.fail.mitigations import LOOK, without
from radwb.fail.patches import Head
from radwb.fail.shortcut import ARMS
from radwb.models import Model
from radwb.probe import Prompts, class_embedding
from radwb.stats import auroc, compare_auroc

METHOD = "prompt repair"


def repair_prompt(
    table: pd.DataFrame,
    *,
    start: Model,
    finding: str = "Lung Lesion",
    others: Sequence[str] = ("Pleural Effusion", "Pneumothorax"),
    kind: str = "room",
    corner: str = "bottom-right",
) -> MitigationResult:
    """Take a mark's direction out of your prompts, and see what it mends and costs.

    >>> table = rw.curate.split_by_patient(table, fractions=(0.4, 0.3, 0.3))
    >>> about = {"finding": "Pleural Effusion", "others": []}
    >>> repaired = rw.fail.repair_prompt(table, start=model, **about)
    >>> repaired.table["measure"].tolist()
    ['tie holds', 'independent', 'tie broken', 'no mark']

    A pair of prompts is a direction in the embedding. The mark is one too: the mean of
    what it adds to validation films. The first is made orthogonal to the second, after
    Chuang et al. 2023 (arXiv 2302.00070). No training is in it, so that intervals are
    by patient; the control is the same done with a random direction.

    Args:
        table: rows of split "train", "val" and "test" with labels 1 and 0; only those
            of val and test are looked at.
        start: an image-text Model.
        finding, others, kind, corner: as in `mitigate`.
    Raises:
        ValueError: the model reads no text, films of one kind only, or a patient or
            film in two splits.
    """
    if start.kind != "image-text":
        raise ValueError(
            f"expected an image-text model, got {start.name!r} of kind {start.kind!r}. "
            "Try mitigate"
        )
    parts = labelled_parts(table, [finding, *others])
    del parts["train"]
    bench = Bench(start, finding, tuple(others), (), np.nan, parts, [])
    bench.read({"kind": kind, "corner": corner, "seed": 0}, whole=True)
    heads = {label: _repaired(bench, label) for label in (finding, *others)}
    comparisons = {}
    rows = []
    for measure, y, answers in _asked(bench, heads):
        change = compare_auroc(
            y,
            answers[METHOD],
            answers["before"],
            parts["test"]["patient_id"],
            names=(f"after {METHOD}", "before"),
            what=said(measure),
            family=len(ARMS) + 1 + len(others),
        )
        aurocs = {name: auroc(y, logits) for name, logits in answers.items()}
        values = aurocs["before"], aurocs[METHOD]
        control = aurocs["control"] - aurocs["before"]
        row = change_row(METHOD, LOOK, measure, values, change, control=control)
        comparisons[METHOD, measure] = change
        rows.append(row)
    changes = pd.DataFrame(rows)
    learnt = {("zero-shot", name, 0): head for name, head in heads[finding].items()}
    return MitigationResult(changes, None, comparisons, learnt, parts["test"])


def zero_shot_head(model: Model, finding: str) -> Head:
    """The log odds of a pair of prompts, as `zero_shot` has them, as a head."""
    yes, no = Prompts.of([finding]).pair(finding)
    toward = class_embedding(model, yes) - class_embedding(model, no)  # (E,)
    return Head(model, float(model.logit_scale) * toward, 0.0, whole=True)


def orthogonal(head: Head, direction: np.ndarray, features: np.ndarray) -> Head:
    """The head made blind to a direction of any length."""
    unit = direction / np.linalg.norm(direction)
    return without(head, unit[None], features)


def _repaired(bench, label):
    """The zero-shot head before and after, and with a random direction taken out."""
    plain = bench.features["val"]["plain"]
    moved = (bench.features["val"]["pasted"] - plain).mean(axis=0)  # (E,)
    chance = np.random.default_rng(0).normal(size=len(moved))
    before = zero_shot_head(bench.start, label)
    return {
        "before": before,
        METHOD: orthogonal(before, moved, plain),
        "control": orthogonal(before, chance, plain),
    }


def _asked(bench, heads):
    """(measure, labels, name -> logits of the test films) of all that is measured."""
    y = bench.labels("test")
    answers = {
        name: bench.answers(name, head) for name, head in heads[bench.finding].items()
    }
    for arm, strength in ARMS.items():
        marked = confound(y, strength, seed=1)
        dealt = {name: np.where(marked, on, off) for name, (off, on) in answers.items()}
        yield arm, y, dealt
    yield UNMARKED, y, {name: off for name, (off, _) in answers.items()}
    for other in bench.others:
        unmarked = {}
        for name, head in heads[other].items():
            unmarked[name], _ = bench.answers(name, head)
        yield other, bench.labels("test", other), unmarked
