"""What a frozen tower already knows: linear probes, label efficiency, retrieval."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radwb.data import Scan
from radwb.identifiers import identifiers
from radwb.probe.crossed import apart, chosen_penalty, fitted
from radwb.probe.scores import Scores
from radwb.probe.text import embeddings_of, text_embeddings
from radwb.stats.clustered import clustered_auroc, mean_clustered_auroc

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model


def linear_probe(
    model_or_Z: "Model | np.ndarray",
    table: pd.DataFrame,
    *,
    label: str | Sequence[str],
    C: float | None = 1.0,
) -> Scores:
    """Logistic regression on frozen embeddings, from split "train" to split "test".

    >>> list(linear_probe(Z, table, label="Pleural Effusion").values)
    ['Pleural Effusion']

    Args:
        model_or_Z: a Model, or its (N, E) embeddings of all rows of `table`.
        table: has `split`; uncertain and unmentioned labels aren't trained on. Without
            a split: `cross_probe`.
        label: one finding or a list of them.
        C: inverse of the ridge penalty, on standardised embeddings; None has it chosen
            among the training patients.
    Returns:
        Scores of the test rows.
    Raises:
        ValueError: a patient is in both train and test, or the training rows lack a
            class.
    """
    labels = [label] if isinstance(label, str) else list(label)
    train, test = apart(table)
    Z = embeddings_of(model_or_Z, table)
    values = [_scores_of_test(Z, table, name, train, test, C) for name in labels]
    return Scores.of(np.stack(values, axis=1), table[test], labels)


def label_efficiency(
    model_or_Z: "Model | np.ndarray",
    table: pd.DataFrame,
    *,
    label: str,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    draws: int = 5,
    C: float | None = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """How many labels your model needs: AUROC against the share of training patients.

    >>> curve = label_efficiency(Z, table, label="Pleural Effusion", draws=2)
    >>> curve["fraction"].tolist()
    [0.01, 0.1, 1.0]

    Args:
        model_or_Z: a Model, or its (N, E) embeddings of all rows of `table`.
        table: has `split`; AUROCs are of its test rows.
        label: one finding.
        fractions: shares of the training patients; at least one with and one without
            the finding stay in.
        draws: how many random choices of patients a fraction below 1 gets.
        C: inverse of the ridge penalty, as in `linear_probe`.
        seed: of the choices.
    Returns:
        label, fraction, patients (mean number trained on), auroc (mean over draws),
        low, high: the 95 % interval by test patient, widened by what the draws differ
        by; positive_patients (of the test), note.
    Raises:
        ValueError: a patient is in both train and test.
    """
    train, test = apart(table)
    table = table.assign(patient_id=identifiers(table["patient_id"]))
    Z = embeddings_of(model_or_Z, table)
    rows = []
    for fraction in fractions:
        rng = np.random.default_rng(seed)
        values = {}
        patients = []
        for draw in range(draws if fraction < 1 else 1):
            drawn = _patients_of_share(table[train], label, fraction, rng)
            chosen = train & table["patient_id"].isin(drawn).to_numpy()
            values[draw] = _scores_of_test(Z, table, label, chosen, test, C)
            patients.append(table.patient_id[chosen].nunique())
        row = {"label": label, "fraction": fraction}
        row["patients"] = float(np.mean(patients))
        rows.append(row | _mean_of_draws(values, table[test], label))
    return pd.DataFrame(rows)


def retrieve(
    model: "Model",
    table: pd.DataFrame,
    query: str | Scan,
    *,
    k: int = 5,
    embeddings: np.ndarray | None = None,
) -> pd.DataFrame:
    """The k rows of your table whose image lies nearest to a sentence or to a scan.

    >>> nearest = retrieve(model, table, "large right pleural effusion", k=3)
    >>> len(nearest[["report", "score"]])
    3

    Args:
        model: an image-text Model.
        table: needs `path`.
        query: a sentence, or a Scan.
        k: number of rows.
        embeddings: (N, E) of the table, when they're at hand already.
    Returns:
        k rows of `table`, best first, with a column `score` (cosine).
    """
    Z = embeddings_of(model, table, embeddings)
    score = Z @ _query(model, query)
    best = np.argsort(-score, kind="stable")[:k]
    return table.iloc[best].assign(score=score[best])


def recall_of_commonest(
    training: Sequence[str], texts: Sequence[str], *, k: int = 5
) -> float:
    """Recall at k of a model that never looks, to hold your model's retrieval against.

    >>> recall_of_commonest(["normal", "normal", "edema"], ["edema", "normal"], k=1)
    0.5

    It always answers the k commonest training texts. Chance, k of N, is the recall of
    a random order. It is no control where many patients have the same text.

    Args:
        training: texts of the training images.
        texts: (N,) of the images that are asked for.
        k: number of answers.
    Returns:
        the share of `texts` that is among the k commonest of `training`.
    """
    commonest = pd.Series(list(training)).value_counts().index[:k]
    return float(pd.Series(list(texts)).isin(commonest).mean())


def _scores_of_test(Z, table, label, train, test, C):
    """(n_test,) scores of the rows `test` by a probe that knows `train` alone."""
    y = table[label].to_numpy(dtype=float)
    train = train & np.isin(y, (0, 1))
    cases = int((y[train] == 1).sum())
    controls = int((y[train] == 0).sum())
    if not cases or not controls:
        raise ValueError(
            f"expected training rows with and without {label}, "
            f"got {cases} and {controls}. Try more rows"
        )
    if C is None:
        patients = identifiers(table["patient_id"])[train]
        C = chosen_penalty(Z[train], y[train], patients)
    return fitted(Z[train], y[train], C).decision_function(Z[test])


def _patients_of_share(train, label, fraction, rng):
    """A share of the patients with the finding, and as large a one of the others."""
    has_it = pd.to_numeric(train[label]).groupby(train["patient_id"]).max() == 1
    chosen = []
    for patients in (has_it.index[has_it], has_it.index[~has_it]):
        size = max(1, round(fraction * len(patients)))
        chosen.append(rng.permutation(np.asarray(patients))[:size])
    return np.concatenate(chosen)


def _mean_of_draws(values, test, label):
    """The mean AUROC over draws with its interval, or alone where it has none."""
    patients = test["patient_id"]
    y = test[label].to_numpy(float)
    truth = pd.DataFrame(dict.fromkeys(values, y))
    mean = mean_clustered_auroc(truth, pd.DataFrame(values), patients, sampled=True)
    if np.isnan(mean["auroc"]):
        each = [clustered_auroc(y, scores, patients) for scores in values.values()]
        mean = each[0] | {"auroc": float(np.mean([row["auroc"] for row in each]))}
    columns = ("auroc", "low", "high", "positive_patients", "note")
    return {column: mean[column] for column in columns}


def _query(model, query):
    if isinstance(query, str):
        return text_embeddings(model, [query])[0]
    if isinstance(query, Scan):
        import torch

        with torch.no_grad():
            return model.encode_image(model.preprocess(query))[0].float().cpu().numpy()
    raise ValueError(
        f"expected a sentence or a Scan to look for, got {type(query).__name__}"
    )
