"""What a frozen tower already knows: linear probes, label efficiency, retrieval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.data import Scan
from radwb.identifiers import identifiers, numbered
from radwb.probe.crossed import apart, chosen_penalty, fitted
from radwb.probe.prompts import embeddings_of, text_embeddings
from radwb.probe.scores import Scores
from radwb.stats.clustered import clustered_auroc, mean_clustered_auroc


def linear_probe(model_or_Z, table, *, label, C=1.0) -> Scores:
    """Logistic regression on frozen embeddings: fitted on split "train", scored on
    split "test".

    >>> linear_probe(model, table, label="Pneumothorax").auroc()

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
    model_or_Z,
    table,
    *,
    label,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    draws=5,
    C=1.0,
    seed=0,
) -> pd.DataFrame:
    """AUROC on the test split against the share of training patients whose labels are
    used.

    Args:
        fractions: shares of the training patients; at least one with and one without
            the finding stay in.
        draws: how many random choices of patients a fraction below 1 gets.
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
        rng, values, used = np.random.default_rng(seed), {}, []
        for draw in range(draws if fraction < 1 else 1):
            chosen = train & _some_patients(table[train], label, fraction, rng, table)
            values[draw] = _scores_of_test(Z, table, label, chosen, test, C)
            used.append(table.patient_id[chosen].nunique())
        values = pd.DataFrame(values)  # (N, draws)
        truth = pd.DataFrame(
            {draw: table.loc[test, label].to_numpy(float) for draw in values}
        )
        row = mean_clustered_auroc(
            truth, values, table.loc[test, "patient_id"], sampled=True
        )
        if np.isnan(row["auroc"]):  # without an interval: the number and the reason
            each = [
                clustered_auroc(
                    truth[draw], values[draw], table.loc[test, "patient_id"]
                )
                for draw in values
            ]
            row |= each[0] | {"auroc": float(np.mean([one["auroc"] for one in each]))}
        about = {
            k: row[k] for k in ("auroc", "low", "high", "positive_patients", "note")
        }
        rows.append(
            {
                "label": label,
                "fraction": fraction,
                "patients": float(np.mean(used)),
                **about,
            }
        )
    return pd.DataFrame(rows)


def retrieve(model, table, query, *, k=5, embeddings=None) -> pd.DataFrame:
    """The k rows whose image lies nearest to a sentence or to another scan.

    >>> retrieve(model, table, "large right pleural effusion", k=3)[["report", "score"]]

    Args:
        query: a str, or a Scan.
        embeddings: (N, E) of the table, when they're at hand already.
    Returns:
        k rows of `table`, best first, with a column `score` (cosine).
    """
    Z = embeddings_of(model, table, embeddings)
    score = Z @ _query(model, query)
    best = np.argsort(-score, kind="stable")[:k]
    return table.iloc[best].assign(score=score[best])


def recall_of_commonest(training, texts, *, k=5) -> float:
    """The recall at k of a model that never looks: it always answers the k commonest
    training texts.

    >>> recall_of_commonest(train_impressions, test_impressions, k=5)
    0.37

    Chance, k of N, is the recall of a random order. It is no control where many
    patients have the same text.

    Args:
        training: texts of the training images.
        texts: (N,) of the images that are asked for.
    Returns:
        the share of `texts` that is among the k commonest of `training`.
    """
    commonest = pd.Series(list(training)).value_counts().index[:k]
    return float(pd.Series(list(texts)).isin(commonest).mean())


def recall_at_k(images, texts, *, same=None, k=(1, 5, 10)) -> pd.DataFrame:
    """How often the k nearest hold a right partner, image to text and text to image.

    Beside it belongs `recall_of_commonest`, which needs the texts that were trained on.

    Args:
        images, texts: (N, E) unit vectors, row i of both being one pair.
        same: (N,) texts or numbers; rows with an equal value count as right too
            (identical reports). A missing one equals no other.
    Returns:
        direction, k, recall, chance (what a random order gives), n.
    """
    group, known = numbered(np.arange(len(images)) if same is None else same)
    missing = group < 0
    group[missing] = known + np.arange(missing.sum())
    right = group[:, None] == group[None, :]
    sims = images @ texts.T
    rows = [
        (
            direction,
            int(kk),
            _hits(matrix, right, kk).mean(),
            _chance(right.sum(axis=1), len(images), kk),
            len(images),
        )
        for direction, matrix in (("image to text", sims), ("text to image", sims.T))
        for kk in k
    ]
    return pd.DataFrame(rows, columns=["direction", "k", "recall", "chance", "n"])


def _scores_of_test(Z, table, label, train, test, C):
    """(n_test,) what a probe fitted on the rows `train` alone says of the rows `test`."""
    y = table[label].to_numpy(dtype=float)
    train = train & np.isin(y, (0, 1))
    if len(set(y[train])) < 2:
        with_it, without = int((y[train] == 1).sum()), int((y[train] == 0).sum())
        raise ValueError(
            f"expected training rows with and without {label}, got {with_it} and {without}. Try more rows"
        )
    if C is None:
        C = chosen_penalty(Z[train], y[train], identifiers(table["patient_id"])[train])
    return fitted(Z[train], y[train], C).decision_function(Z[test])


def _some_patients(train, label, fraction, rng, table):
    has = pd.to_numeric(train[label]).groupby(train["patient_id"]).max() == 1
    groups = [np.asarray(has.index[has]), np.asarray(has.index[~has])]
    chosen = [rng.permutation(g)[: max(1, round(fraction * len(g)))] for g in groups]
    return table["patient_id"].isin(np.concatenate(chosen)).to_numpy()


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


def _hits(sims, right, k):
    near = np.argpartition(-sims, min(k, sims.shape[1] - 1), axis=1)[:, :k]
    return np.take_along_axis(right, near, axis=1).any(axis=1)


def _chance(partners, n, k):
    # 1 - the chance that k draws without replacement all miss
    miss = np.ones(len(partners))
    for i in range(min(k, n)):
        miss *= np.clip(n - partners - i, 0, None) / (n - i)
    return float(1 - miss.mean())
