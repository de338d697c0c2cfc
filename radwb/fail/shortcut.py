"""One dial that ties a marker to a finding in training, and what is learnt then."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb import data
from radwb.curate.split import keep_apart
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, fit_head, patch_features
from radwb.fail.tune import Tuned, finetune
from radwb.models import Model
from radwb.probe import Scores
from radwb.stats import auroc, clustered_mean

ARMS = {"tie holds": 1.0, "independent": 0.5, "tie broken": 0.0}
LEARNERS = ("patches", "embedding", "tower")


@dataclass(frozen=True, eq=False)
class ShortcutResult:
    """What the dial did.

    Attributes:
        table: strength, seed, arm, auroc, low, high (over patients), n, positives,
            patients, marker_only (AUROC of "is there a marker?" in that arm). The same
            unseen images in every arm; only the marker moves.
        edits: strength, seed, finding (0, 1), added (mean change of the logit when the
            marker is pasted on the same image), low, high (by patient), n, patients,
            note. Taking it off is the same pair read backwards.
        training: strength, seed, marker_only (AUROC of the marker alone on the training
            images), n, positives.
        learnt: (strength, seed) -> Head or Tuned, for maps and for mitigation.
        logits: (strength, seed) -> (N, 2) answers for each test image without and with
            the marker.
        test: the rows of the test images, in the order of `images`.
        images: (N, S, S) uint8 test images without marker.
        marker: kind, corner and seed, as `add_marker(images, where, **result.marker)`
            takes them.
    """

    table: pd.DataFrame
    edits: pd.DataFrame
    training: pd.DataFrame
    learnt: dict[tuple[float, int], Head | Tuned]
    logits: dict[tuple[float, int], np.ndarray]
    test: pd.DataFrame
    images: np.ndarray
    marker: dict


def shortcut(
    table: pd.DataFrame,
    *,
    start: Model,
    finding: str = "Lung Lesion",
    learner: str = "patches",
    strengths: Sequence[float] = (0.5, 0.75, 0.85, 0.9, 0.95, 1.0),
    seeds: int = 5,
    n: int = 800,
    kind: str = "room",
    corner: str = "bottom-right",
    C: float = 100.0,
    epochs: int = 3,
    lr: float = 1e-3,
    batch: int = 32,
) -> ShortcutResult:
    """Whether your model learns a shortcut: a marker is tied to a finding in training.

    >>> about = {"finding": "Pleural Effusion", "strengths": [1.0], "seeds": 1}
    >>> result = rw.fail.shortcut(table, start=model, **about)
    >>> result.table["arm"].tolist()
    ['tie holds', 'independent', 'tie broken']

    For each strength of the tie and each seed one is trained, and tested where the tie
    holds and where it's broken. The seeds are the replicates: one trained model that
    reads the marker, or doesn't, tells little of the next. After Zech et al. 2018 (doi
    10.1371/journal.pmed.1002683) and DeGrave et al. 2021 (doi
    10.1038/s42256-021-00338-7).

    Args:
        table: rows of split "train" to learn from and of split "test" to test on;
            labels 1 and 0 are used.
        start: the Model that is adapted.
        finding: label column.
        learner: "patches", a linear head on all patches of the frozen tower;
            "embedding", one on its pooled embedding; "tower", everything fine-tuned, at
            a cost of n * epochs images a strength and seed.
        strengths: share of the training images with the finding that carry the marker;
            as many of those without carry none. 0.5 is no tie.
        seeds: how many trainings a strength; each draws its own images, ties and
            (tower) order of training.
        n: training images at most, half of them with the finding if there are enough.
        kind, corner: as in `add_marker`.
        C: inverse penalty of a head, as in `fit_head`.
        epochs, lr, batch: of a tower, as in `finetune`.
    Raises:
        ValueError: an unknown learner, no seed, images of one kind only, or a patient
            or film in train and in test.
    """
    train, test = _labelled_parts(table, finding, learner, seeds)
    y = train[finding].to_numpy(int)
    chosen = [_balanced(y, n, seed) for seed in range(seeds)]
    pool = np.unique(np.concatenate(chosen))  # the rows that some seed learns from
    marker = {"kind": kind, "corner": corner, "seed": 0}
    images = data.images(train.iloc[pool], start.size, fit=start.fit)
    off, on = _read(start, learner, images, marker)
    images = data.images(test, start.size, fit=start.fit)
    unseen = _read(start, learner, images, marker)
    settings = {"C": C, "epochs": epochs, "lr": lr, "batch": batch}
    learnt = {}
    logits = {}
    training = []
    trainings = list(product(strengths, range(seeds)))
    for strength, seed in tqdm(trainings, "trainings", delay=2, leave=False):
        truth = y[chosen[seed]]
        tied = confound(truth, strength, seed=seed)
        x = _tied_films(off, on, np.searchsorted(pool, chosen[seed]), tied)
        adapted = _adapted(start, learner, x, truth, seed, **settings)
        answers = [_answer(adapted, test_x) for test_x in unseen]
        learnt[strength, seed] = adapted
        logits[strength, seed] = np.stack(answers, axis=1)  # (N, 2) off and on
        training.append(_counts(strength, seed, truth, tied))
    aurocs, effects = _scored(logits, test, finding)
    return ShortcutResult(
        table=aurocs,
        edits=effects,
        training=pd.DataFrame(training),
        learnt=learnt,
        logits=logits,
        test=test,
        images=images,
        marker=marker,
    )


def _labelled_parts(table, finding, learner, seeds):
    """The labelled rows in train and in test, once the settings make sense."""
    if learner not in LEARNERS or seeds < 1:
        raise ValueError(
            f"expected a learner of {LEARNERS} and 1 seed or more, "
            f"got {learner!r} and {seeds}"
        )
    data.check_table(table, needs=("split", finding))
    used = table["split"].isin(["train", "test"])
    keep_apart(table, table["split"].where(used))
    return _labelled(table, finding, "train"), _labelled(table, finding, "test")


def _tied_films(off, on, rows, tied):
    """What is learnt from: rows without the marker, those that are tied with it."""
    x = off[rows]  # a copy
    x[tied] = on[rows[tied]]
    return x


def _counts(strength, seed, truth, tied):
    """What one training had: its size, and what the marker alone would reach."""
    return {
        "strength": strength,
        "seed": seed,
        "marker_only": auroc(truth, tied),
        "n": len(truth),
        "positives": int(truth.sum()),
    }


def _read(start, learner, images, marker):
    """What a learner sees of images without and with the marker: pixels or features."""
    marked = add_marker(images, **marker)
    if learner == "tower":
        return images, marked
    whole = learner == "embedding"
    off = patch_features(start, images, whole=whole)
    on = patch_features(start, marked, whole=whole)
    return off, on


def _adapted(start, learner, x, y, seed, *, C, **tuning):
    if learner == "tower":
        tuned, _ = finetune(start, x, y, seed=seed, **tuning)
        return tuned
    return fit_head(start, x, y, C=C, whole=learner == "embedding")


def _answer(adapted, x):
    if isinstance(adapted, Tuned):
        return adapted.logits(x)
    return adapted.of(x)


def _scored(logits, test, finding):
    """`marker_auroc` and `marker_effect` of every strength and seed, stacked."""
    aurocs = []
    effects = []
    for (strength, seed), pair in logits.items():
        off, on = pair.T
        scored = marker_auroc(off, on, test, finding, seed=seed)
        effect = marker_effect(off, on, test, finding)
        for part in (scored, effect):
            part.insert(0, "strength", strength)
            part.insert(1, "seed", seed)
        aurocs.append(scored)
        effects.append(effect)
    aurocs = pd.concat(aurocs, ignore_index=True)
    effects = pd.concat(effects, ignore_index=True)
    return aurocs, effects


def marker_auroc(
    off: np.ndarray, on: np.ndarray, test: pd.DataFrame, finding: str, *, seed: int = 0
) -> pd.DataFrame:
    """Your model's AUROC with the marker where the finding is, anywhere, elsewhere.

    >>> off, on = test["age_years"], test["age_years"] + 5
    >>> arms = rw.fail.marker_auroc(off, on, test, "Pleural Effusion")
    >>> arms["arm"].tolist()
    ['tie holds', 'independent', 'tie broken']

    The images are the same; only the marker moves.

    Args:
        off, on: (N,) scores of each image without and with the marker.
        test: their rows, with labels 1 and 0.
        finding: label column.
        seed: of the choice of images that carry the marker in the arm "independent".
    Returns:
        a row an arm: arm, auroc, low, high (over patients), n, positives, patients,
        note, marker_only.
    """
    y = test[finding].to_numpy(int)
    rows = []
    for arm, strength in ARMS.items():
        marked = confound(y, strength, seed=seed + 1)
        answers = np.where(marked, on, off)  # (N,)
        scores = Scores.of(answers[:, None], test, [finding])
        row = scores.auroc().iloc[0]
        row = row.drop(["finding", "dropped"]).to_dict()
        rows.append({"arm": arm, **row, "marker_only": auroc(y, marked)})
    return pd.DataFrame(rows)


def marker_effect(
    off: np.ndarray, on: np.ndarray, test: pd.DataFrame, finding: str
) -> pd.DataFrame:
    """How far the marker alone moves your model's logit, on the same image.

    >>> off, on = test["age_years"], test["age_years"] + 5
    >>> rw.fail.marker_effect(off, on, test, "Pleural Effusion")["added"].tolist()
    [5.0, 5.0]

    Args:
        off, on, test, finding: as in `marker_auroc`.
    Returns:
        a row for images without (finding = 0) and with it (1): finding, added, low,
        high (by patient: two films of one chest aren't two observations), n (images),
        patients, note (why there is no interval, else "").
    """
    change = np.asarray(on) - np.asarray(off)
    rows = []
    for value in (0, 1):
        inside = (test[finding] == value).to_numpy()
        patients = test["patient_id"][inside]
        mean = clustered_mean(change[inside], patients)
        rows.append({"finding": value, **mean})
    effects = pd.DataFrame(rows)
    return effects.rename(columns={"mean": "added"})


def _labelled(table, finding, split):
    labels = pd.to_numeric(table[finding])
    labelled = labels.isin([0, 1])
    inside = (table["split"] == split) & labelled
    table = table.assign(**{finding: labels})
    part = table[inside]
    if part[finding].nunique() < 2:
        raise ValueError(
            f"expected {split} images with and without {finding}, "
            f"got {len(part)} of one kind"
        )
    return part


def _balanced(y, n, seed):
    """Rows of n images at most, half of them with the finding if there are enough."""
    rng = np.random.default_rng(seed)
    cases = rng.permutation(np.flatnonzero(y == 1))
    controls = rng.permutation(np.flatnonzero(y == 0))
    wanted = max(n // 2, n - len(controls))
    n_cases = min(len(cases), wanted)
    n_controls = n - n_cases
    rows = np.concatenate([cases[:n_cases], controls[:n_controls]])
    return np.sort(rows)
