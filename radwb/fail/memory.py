"""What a model keeps of its training films, and what a film that stands twice fakes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from radwb import data
from radwb.curate.split import keep_apart
from radwb.fail.evidence import Evidence, compared, measured
from radwb.fail.patches import fit_head, patch_features
from radwb.fail.tune import finetune
from radwb.identifiers import numbered
from radwb.models.model import Model
from radwb.stats import auroc, clustered_mean, compare_seeds
from radwb.stats.sentence import Comparison

LEARNERS = ("patches", "embedding", "tower")


def nearest_training(
    train: np.ndarray,
    unseen: np.ndarray,
    train_patients: Sequence,
    unseen_patients: Sequence,
) -> pd.DataFrame:
    """How far each film lies from the nearest training film of another patient.

    >>> near = nearest_training(Z[:40], Z[40:], patients[:40], patients[40:])
    >>> near["part"].value_counts().tolist()
    [40, 20]

    Unseen films should lie as far from the training films as these do from each other.
    One that lies much nearer may be a copy.

    Args:
        train: (M, E) embeddings of unit length.
        unseen: (N, E).
        train_patients: (M,) whose they are.
        unseen_patients: (N,).
    Returns:
        a row a film, training films first: part ("train" or "unseen"), patient_id,
        nearest (its row in `train`), distance (1 - cosine).
    Raises:
        ValueError: no film of one kind, training films of one patient, or a film whose
            patient isn't known.
    """
    theirs = np.array([*train_patients, *unseen_patients], dtype=object)
    row, _ = numbered(theirs)
    if (row < 0).any():
        raise ValueError(
            f"expected a patient of each film, got {(row < 0).sum()} of {len(row)} "
            "without. Try rw.curate.one_patient_per_image(table)"
        )
    owners = row[: len(train)]
    patients = len(set(owners))
    if patients < 2 or not len(unseen):
        raise ValueError(
            "expected training films of two patients and an unseen film, got "
            f"{patients} patients and {len(unseen)} films"
        )
    most = np.bincount(owners).max()
    neighbours = NearestNeighbors(metric="cosine").fit(train)
    films = np.concatenate([train, unseen])
    enough = min(len(train), most + 1)  # one of them is another patient's
    distances, rows = neighbours.kneighbors(films, n_neighbors=enough)
    first = (owners[rows] != row[:, None]).argmax(axis=1)
    every = np.arange(len(films))
    parts = ["train"] * len(train) + ["unseen"] * len(unseen)
    return pd.DataFrame(
        {
            "part": parts,
            "patient_id": theirs,
            "nearest": rows[every, first],
            "distance": distances[every, first],
        }
    )


def copies_evidence(near: pd.DataFrame, *, quantile: float = 0.01) -> Evidence:
    """The share of unseen films that lie nearer to training than training to itself.

    >>> near = nearest_training(Z[:40], Z[40:], patients[:40], patients[40:])
    >>> copies_evidence(near, quantile=0.05).unit
    'patients'

    Args:
        near: from `nearest_training`.
        quantile: of the training films, the nearest that are beyond suspicion; the
            control. It is a failure where the share's interval lies above it.
    """
    of_train = near.loc[near["part"] == "train", "distance"]
    closest = of_train.quantile(quantile)
    unseen = near[near["part"] == "unseen"]
    close = unseen["distance"] < closest
    row = clustered_mean(close, unseen["patient_id"], share=True)
    verdict = "can't tell"
    if row["low"] > quantile:
        verdict = "failure"
    elif row["high"] < 5 * quantile:
        verdict = "no failure seen"
    measure = f"share of unseen films nearer than {1 - quantile:.0%} of training films"
    return measured(
        "memory",
        "near copies over the split",
        measure,
        row,
        value="mean",
        verdict=verdict,
        control=quantile,
    )


@dataclass(frozen=True, eq=False)
class Memory:
    """What trainings kept of the films they met.

    Attributes:
        table: a row a training and what was asked of it.
        comparisons: what was tried -> a Comparison over seeds.
        controls: what was tried -> the same difference where there is nothing to find.
    """

    table: pd.DataFrame
    comparisons: dict[str, Comparison]
    controls: dict[str, float]

    def evidence(self) -> list[Evidence]:
        """A row a try: a failure where it is ahead of what an honest training gives."""
        rows = []
        for tried, comparison in self.comparisons.items():
            control = self.controls[tried]
            row = compared("memory", tried, comparison, harm="ahead", control=control)
            rows.append(row)
        return rows


def membership(
    model: Model,
    table: pd.DataFrame,
    finding: str,
    *,
    learner: str = "patches",
    seeds: int = 5,
    C: float = 100.0,
    epochs: int = 3,
) -> Memory:
    """Whether the loss tells the films that your model was trained on from others.

    >>> known = membership(model, table, "Pleural Effusion", seeds=2)
    >>> known.table.columns.tolist()
    ['seed', 'asked', 'auroc', 'membership']

    For each seed the patients are dealt into three groups of about as many films: one
    is learnt, one isn't, and a control learns the third. Who knows nothing of the first
    two tells them apart no better than a coin, with an AUROC of 0.5.

    Args:
        model: the tower to start from.
        table: rows with labels 1 and 0 of films that it may learn.
        finding: label column.
        learner: "patches" (a linear head on all patches), "embedding" (on the pooled
            embedding) or "tower" (the whole tower is fine-tuned).
        seeds: trainings, two at least.
        C: of `fit_head`.
        epochs: of `finetune`.
    Returns:
        a Memory; its table has seed, asked ("learnt" or "control"), auroc for the
        finding on the films that neither learnt, membership (AUROC of the loss).
    Raises:
        ValueError: another learner, or a group of one class.
    """
    rows, x = material(model, table, finding, learner)
    y = rows[finding].to_numpy(int)
    told = []
    for seed in range(seeds):
        group = _dealt(rows["patient_id"], seed)
        for asked, learnt in (("learnt", 0), ("control", 2)):
            inside = group == learnt
            logits = _trained(model, x, y, inside, learner, seed, C, epochs)
            loss = np.logaddexp(0, np.where(y == 1, -logits, logits))
            both = group < 2
            row = {"seed": seed, "asked": asked}
            row["auroc"] = auroc(y[group == 1], logits[group == 1])
            row["membership"] = auroc(group[both] == 0, -loss[both])
            told.append(row)
    told = pd.DataFrame(told)
    by_seed = told.pivot(index="seed", columns="asked", values="membership")
    tried = f"membership of training films, {learner}"
    comparison = compare_seeds(
        by_seed["learnt"] - 0.5,
        names=("the loss", "a coin"),
        what="AUROC for membership",
    )
    control = by_seed["control"].mean() - 0.5
    return Memory(told, {tried: comparison}, {tried: control})


def duplicated_patients(
    model: Model,
    table: pd.DataFrame,
    finding: str,
    *,
    n: int = 400,
    seeds: int = 5,
    whole: bool = False,
    C: float = 100.0,
) -> Memory:
    """What an AUROC gains when test patients are in the training, too.

    >>> faked = duplicated_patients(model, table, "Pleural Effusion", n=30, seeds=2)
    >>> sorted(faked.table["in_training"].unique())
    ['nobody', 'nobody again', 'other film', 'same film']

    All heads learn from as many films and are asked for the same films, one of each
    test patient who has two. What differs is whether these patients' other films, or
    the very films, are among those that were learnt. The control is a second training
    with nobody, on other films of the training split.

    Args:
        model: the tower, which stays as it is.
        table: rows with labels, patients and split.
        finding: label column.
        n: films of each training, at most half of those of the training split; where
            the leaked ones are more, n of these alone.
        seeds: of the choice of films, two at least.
        whole: a head on the pooled embedding, instead of all patches.
        C: of `fit_head`.
    Returns:
        a Memory; its table has seed, in_training, auroc.
    Raises:
        ValueError: too few test patients with two films, or of one class; a patient or
            a film on both sides of the split.
    """
    learner = "embedding" if whole else "patches"
    rows, x = material(model, table, finding, learner)
    keep_apart(rows, rows["split"])
    y = rows[finding].to_numpy(int)
    honest = np.flatnonzero(rows["split"] == "train")
    n = min(n, len(honest) // 2)
    told = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        asked, others = _two_films(rows, rng)
        if np.isnan(auroc(y[asked], y[asked])):
            raise ValueError(
                f"expected test patients of two films with and without {finding}, "
                f"got {len(asked)} of one kind"
            )
        learnt_by = _learnt(rng.permutation(honest), asked, others, n)
        for name, learnt in learnt_by.items():
            head = fit_head(model, x[learnt], y[learnt], C=C, whole=whole)
            scored = auroc(y[asked], head.of(x[asked]))
            told.append({"seed": seed, "in_training": name, "auroc": scored})
    told = pd.DataFrame(told)
    return Memory(told, *_faked(told, finding))


def _learnt(honest, asked, others, n):
    """Name of each training -> n rows that it learns."""
    return {
        "nobody": honest[:n],
        "other film": np.concatenate([others, honest])[:n],
        "same film": np.concatenate([asked, honest])[:n],
        "nobody again": honest[n : 2 * n],
    }


def _faked(told, finding):
    """Comparisons with an honest training, and what one more of these gives."""
    by_seed = told.pivot(index="seed", columns="in_training", values="auroc")
    comparisons = {}
    for name in ("other film", "same film"):
        comparisons[f"{name} of the test patients in training"] = compare_seeds(
            by_seed[name],
            by_seed["nobody"],
            names=(f"the {name} in training", "an honest split"),
            what=f"AUROC for {finding}",
            family=2,
        )
    again = (by_seed["nobody again"] - by_seed["nobody"]).mean()
    return comparisons, dict.fromkeys(comparisons, again)


def material(model: Model, table: pd.DataFrame, finding: str, learner: str):
    """The labelled rows, and what the learner reads of them: features or films."""
    if learner not in LEARNERS:
        raise ValueError(
            f"expected a learner of {', '.join(LEARNERS)}, got {learner!r}"
        )
    labels = pd.to_numeric(table[finding])
    rows = table[labels.isin([0, 1])].reset_index(drop=True)
    if rows[finding].nunique() < 2 or rows["patient_id"].nunique() < 3:
        raise ValueError(
            f"expected films with and without {finding} of three patients, "
            f"got {len(rows)} films of {rows['patient_id'].nunique()}"
        )
    films = data.images(rows, model.size, fit=model.fit)
    if learner == "tower":
        return rows, films
    return rows, patch_features(model, films, whole=learner == "embedding")


def _dealt(patients, seed):
    """(N,) group 0, 1 or 2; a patient's films stay together."""
    names = pd.unique(patients)
    order = np.random.default_rng(seed).permutation(len(names))
    group = pd.Series(order % 3, index=names)
    return patients.map(group).to_numpy()


def _trained(model, x, y, inside, learner, seed, C, epochs):
    """Logits of all films after a training on some."""
    if len(set(y[inside])) < 2:
        raise ValueError(
            f"expected films of both kinds to learn, got {inside.sum()} of one"
        )
    if learner == "tower":
        tuned, _ = finetune(model, x[inside], y[inside], epochs=epochs, seed=seed)
        return tuned.logits(x)
    head = fit_head(model, x[inside], y[inside], C=C, whole=learner == "embedding")
    return head.of(x)


def _two_films(rows, rng):
    """Two films, by row, of each test patient who has them, in random order."""
    shuffled = rng.permutation(np.flatnonzero(rows["split"] == "test"))
    by_patient = rows["patient_id"].iloc[shuffled].groupby(rows["patient_id"])
    pairs = []
    for _, films in by_patient:
        if len(films) > 1:
            pairs.append(films.index[:2])
    if not pairs:
        raise ValueError("expected test patients with two films, got none")
    return rng.permutation(pairs).T  # by row, so that pairs stay
