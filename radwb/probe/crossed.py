"""Probes by patient: whoever is judged was never trained on, be it by a split or by
folds.
"""

import numpy as np
import pandas as pd

from radwb.curate.split import keep_apart, need_patients
from radwb.identifiers import numbered
from radwb.probe.prompts import embeddings_of
from radwb.probe.scores import Scores
from radwb.stats import auroc

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # for C, the inverse of the ridge penalty
FOLDS = 5
INNER_FOLDS = 3
LEAST_PATIENTS = 2 * FOLDS  # with a finding: a fold has two


def cross_probe(model_or_Z, table, *, label, folds=FOLDS, C=None, seed=0) -> Scores:
    """Logistic regression on frozen embeddings, each patient judged by a probe that was
    fitted on the others.

    >>> cross_probe(model, rw.data.real("kermany"), label="Pneumonia").auroc()

    Folds share out the cases and keep a patient together. Scores are counted from the
    mean of those that the probe was fitted on: else a fold with few cases, whose probe
    was fitted on many, would get the high scores.

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


def enough_patients(table, findings, *, least=LEAST_PATIENTS):
    """Which findings can be probed, and which have too few patients for it.

    >>> kept, left_out = enough_patients(table, ["Edema", "Pneumonia"])
    >>> left_out
    {'Edema': 4}

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


def apart(table):
    """(N,) rows of split "train" and of split "test", once no patient and no film is in
    both.
    """
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
    """Logistic regression on standardised embeddings; the scaler, too, knows these rows
    alone.
    """
    return _unfitted(C, class_weight).fit(Z, y)


def chosen_penalty(Z, y, patients, *, class_weight=None, seed=0) -> float:
    """The C of PENALTIES with the best mean AUROC over folds of these patients."""
    means = []
    for C in PENALTIES:
        each = []
        for fit, ask in _folds(INNER_FOLDS, seed).split(Z, y, groups=patients):
            asked = fitted(Z[fit], y[fit], C, class_weight).decision_function(Z[ask])
            each.append(auroc(y[ask], asked))
        means.append(np.nanmean(each))
    return PENALTIES[int(np.argmax(means))]


def _unfitted(C, class_weight):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=C, max_iter=1000, class_weight=class_weight)
    return make_pipeline(StandardScaler(), regression)


def _folds(n, seed):
    from sklearn.model_selection import StratifiedGroupKFold

    return StratifiedGroupKFold(n, shuffle=True, random_state=seed)


def _out_of_fold(Z, y, patients, folds, C, seed, name):
    """(N,) scores, each from a probe that knows nothing of the row's patient."""
    known = np.isin(y, (0, 1))
    _need_patients(y, patients, folds, name)
    scores = np.zeros(len(y))
    strata = np.where(known, y, 0)
    for fit, ask in _folds(folds, seed).split(Z, strata, groups=patients):
        fit = fit[known[fit]]
        balanced = {"class_weight": "balanced"}
        penalty = C or chosen_penalty(Z[fit], y[fit], patients[fit], **balanced)
        probe = fitted(Z[fit], y[fit], penalty, **balanced)
        own = probe.decision_function(Z[fit]).mean()
        scores[ask] = probe.decision_function(Z[ask]) - own
    return scores


def _need_patients(y, patients, folds, name):
    with_it, without = (len(set(patients[y == value])) for value in (1, 0))
    if min(with_it, without) < folds:
        raise ValueError(
            f"expected {folds} patients with {name} and {folds} without, a fold each, "
            f"got {with_it} and {without}. Try enough_patients(table, findings)"
        )


def _rarer_class(table, finding):
    patients, _ = numbered(table["patient_id"])
    labels = pd.to_numeric(table[finding]).to_numpy()
    return min(len(set(patients[labels == value]) - {-1}) for value in (1, 0))
