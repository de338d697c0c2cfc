"""Probes by patient: whoever is judged, in a split or in folds, was not trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radwb.curate.split import keep_apart, need_patients
from radwb.identifiers import numbered
from radwb.probe.scores import Scores
from radwb.probe.text import embeddings_of
from radwb.stats import auroc

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # for C, the inverse of the ridge penalty
FOLDS = 5
INNER_FOLDS = 3
LEAST_PATIENTS = 2 * FOLDS  # with a finding: a fold has two


def cross_probe(
    model_or_Z: "Model | np.ndarray",
    table: pd.DataFrame,
    *,
    label: str | Sequence[str],
    folds: int = FOLDS,
    C: float | None = None,
    seed: int = 0,
) -> Scores:
    """Logistic regression on frozen embeddings, in folds by patient.

    >>> len(cross_probe(Z, table, label="Pleural Effusion", C=0.01).values)
    60

    Each patient is judged by a probe that was fitted on the others. Folds share out the
    cases and keep a patient together. Scores are counted from the mean of those that
    the probe was fitted on: else a fold with few cases, whose probe was fitted on many,
    would get the high scores.

    Args:
        model_or_Z: a Model, or its (N, E) embeddings of all rows of `table`.
        table: needs patient_id and the label's column; rows that are neither 1 nor 0
            are judged, not trained on.
        label: one finding or a list of them.
        folds: number of them.
        C: inverse of the ridge penalty, on standardised embeddings with balanced
            classes; None has it chosen from PENALTIES among the training patients of
            each fold.
        seed: of the folds.
    Returns:
        Scores of all rows.
    Raises:
        ValueError: no finding, or fewer patients with it, or without, than folds.
    """
    labels = [label] if isinstance(label, str) else list(label)
    if not labels:
        raise ValueError("expected a finding to probe, got none. Try label=[...]")
    Z = embeddings_of(model_or_Z, table)
    patients = need_patients(table).astype(str)
    values = [
        _out_of_fold(Z, table[name].to_numpy(float), patients, folds, C, seed, name)
        for name in labels
    ]
    return Scores.of(np.stack(values, axis=1), table, labels)


def enough_patients(
    table: pd.DataFrame, findings: Sequence[str], *, least: int = LEAST_PATIENTS
) -> tuple[list[str], dict[str, int]]:
    """Which findings your table has enough patients to probe, and which not.

    >>> films = pd.DataFrame({"patient_id": list("abcd"), "Edema": [1, 0, 0, 0]})
    >>> enough_patients(films, ["Edema"], least=2)
    ([], {'Edema': 1})

    Args:
        table: needs patient_id and a column a finding.
        findings: to be sorted.
        least: patients with the finding, and as many without.
    Returns:
        the findings that can be probed; {finding: patients of the rarer class} of the
        rest.
    """
    patients = {finding: _rarer_class(table, finding) for finding in findings}
    left_out = {finding: n for finding, n in patients.items() if n < least}
    return [finding for finding in findings if finding not in left_out], left_out


def apart(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(N,) rows of split "train" and of "test"; no patient and no film is in both."""
    if "split" not in table.columns:
        raise ValueError(
            f"expected a column split, got {list(table.columns)}. "
            "Try rw.curate.split_by_patient(table), or cross_probe without a split"
        )
    train = (table["split"] == "train").to_numpy()
    test = (table["split"] == "test").to_numpy()
    keep_apart(table, table["split"].where(train | test))
    return train, test


def fitted(Z, y, C, class_weight=None):
    """Logistic regression on standardised embeddings; the scaler knows no others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=C, max_iter=1000, class_weight=class_weight)
    return make_pipeline(StandardScaler(), regression).fit(Z, y)


def chosen_penalty(Z, y, patients, *, class_weight=None, seed=0) -> float:
    """The C of PENALTIES with the best mean AUROC over folds of these patients."""
    means = []
    for C in PENALTIES:
        aurocs = []
        for train, test in _folds(INNER_FOLDS, seed).split(Z, y, groups=patients):
            probe = fitted(Z[train], y[train], C, class_weight)
            aurocs.append(auroc(y[test], probe.decision_function(Z[test])))
        means.append(np.nanmean(aurocs))
    return PENALTIES[int(np.argmax(means))]


def _folds(n, seed):
    from sklearn.model_selection import StratifiedGroupKFold

    return StratifiedGroupKFold(n, shuffle=True, random_state=seed)


def _out_of_fold(Z, y, patients, folds, C, seed, name):
    """(N,) scores, each from a probe that knows nothing of the row's patient."""
    known = np.isin(y, (0, 1))
    _need_patients(y, patients, folds, name)
    balanced = {"class_weight": "balanced"}
    scores = np.zeros(len(y))
    strata = np.where(known, y, 0)
    for train, test in _folds(folds, seed).split(Z, strata, groups=patients):
        train = train[known[train]]
        penalty = C or chosen_penalty(Z[train], y[train], patients[train], **balanced)
        probe = fitted(Z[train], y[train], penalty, **balanced)
        mean = probe.decision_function(Z[train]).mean()
        scores[test] = probe.decision_function(Z[test]) - mean
    return scores


def _need_patients(y, patients, folds, name):
    with_it = len(set(patients[y == 1]))
    without = len(set(patients[y == 0]))
    if min(with_it, without) < folds:
        raise ValueError(
            f"expected {folds} patients with {name} and {folds} without, a fold each, "
            f"got {with_it} and {without}. Try enough_patients(table, findings)"
        )


def _rarer_class(table, finding):
    patients, _ = numbered(table["patient_id"])
    labels = pd.to_numeric(table[finding]).to_numpy()
    with_it = set(patients[labels == 1]) - {-1}
    without = set(patients[labels == 0]) - {-1}
    return min(len(with_it), len(without))
