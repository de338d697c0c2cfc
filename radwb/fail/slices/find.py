"""Slices of embeddings in which your model errs more, found without a hint."""

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from radwb.fail.slices.confirm import ERRORS, LEAST_FILMS, answers, excess
from radwb.fail.slices.mixture import fit_mixture
from radwb.fail.slices.result import Candidate, Slices, best, confirmed
from radwb.models import Model, embed
from radwb.probe import Scores


def find_slices(
    scores: Scores,
    model: Model | np.ndarray,
    table: pd.DataFrame,
    *,
    finding: str | None = None,
    k: int = 10,
    n_slices: int = 5,
    components: int = 16,
    label_weight: float = 10.0,
    answer_weight: float = 10.0,
    threshold: float | None = None,
    seed: int = 0,
) -> Slices:
    """Which kinds of films your model answers worse, found without being told of any.

    >>> slices = find_slices(scores, Z, table, finding="Pneumothorax", k=5)
    >>> slices.table[["slice", "error", "found"]].columns.tolist()
    ['slice', 'error', 'found']

    Half of the patients suggest slices: a mixture of k Gaussians over the embeddings
    is fitted together with labels and answers (Domino, Eyuboglu et al. 2022, arXiv
    2203.14960). The other half confirms them. There a film belongs to a slice by its
    embedding and its label alone, so that its own error can't put it there, and the
    slice's share of errors is held against that of all other films with its label, by
    patient, corrected for the number of slices.

    Args:
        scores: of the films.
        model: the Model whose embeddings are taken, or embeddings (N, E) of your own.
        table: rows of the films.
        finding: one of `scores`; None = the only one.
        k: slices of the mixture.
        n_slices: candidates that are tested, at most; the fewer, the less each is
            corrected.
        components: principal components of the embeddings, at most.
        label_weight, answer_weight: how much these weigh beside the embedding.
        threshold: of the scores, from which on a film counts as ill; None = where as
            many of the ill as of the healthy are right.
        seed: of the halves and of the mixture.
    Raises:
        ValueError: one class, a constant score, one patient, or fewer films than k.
    """
    finding = the_finding(scores, finding)
    s = scores.values[finding].to_numpy(float)
    answered = answers(
        scores.truth[finding], s, scores.patient_id, threshold=threshold, seed=seed
    )
    Z = _components(model, table, answered, k, components)
    one = answered.half(True)
    other = answered.half(False)
    Z_one, Z_other = Z[answered.looking], Z[~answered.looking]
    weights = {"label_weight": label_weight, "answer_weight": answer_weight}
    mixture = fit_mixture(Z_one, one.y, one.p, k=k, seed=seed, **weights)
    slice_one = mixture.log_joint(Z_one, one.y).argmax(axis=1)
    slice_other = mixture.log_joint(Z_other, other.y).argmax(axis=1)
    like_other = mixture.log_joint(Z_other).argmax(axis=1)
    typical = _log_odds(mixture.log_joint(Z_other, other.y, other.p))  # (M, K)
    candidates = []
    for number in range(k):
        for label in ERRORS:
            alike = one.y == label
            inside = slice_one[alike] == number
            if inside.sum() >= LEAST_FILMS:
                candidate = Candidate(
                    f"slice {number}",
                    label,
                    slice_other == number,
                    like_other == number,
                    typical[:, number],
                    excess(one.wrong[alike], inside),
                )
                candidates.append(candidate)
    tested = best(candidates, n_slices)
    return confirmed(tested, one, other, s[other.rows], finding, table)


def the_finding(scores: Scores, finding: str | None) -> str:
    """The finding that is asked for, or the only one.

    Raises:
        ValueError: there are several, or none of this name.
    """
    names = list(scores.values)
    if finding is None and len(names) == 1:
        return names[0]
    if finding not in names:
        raise ValueError(f"expected a finding of {names}, got {finding!r}")
    return finding


def _components(model, table, answered, k, components):
    """(N, D) principal components of the films' embeddings."""
    Z = model if isinstance(model, np.ndarray) else embed(model, table)
    if len(Z) != len(table):
        raise ValueError(
            f"expected one embedding for each of {len(table)} rows, got {len(Z)}"
        )
    Z = Z[answered.rows].astype(float)
    looking = Z[answered.looking]
    if len(looking) <= k:
        raise ValueError(
            f"expected more films than slices in the first half, got {len(looking)} "
            f"films for k={k}. Try a smaller k"
        )
    components = min(components, *looking.shape)
    pca = PCA(components, svd_solver="full").fit(looking)
    return pca.transform(Z)


def _log_odds(joint):
    """(N, K) log odds of each slice against all others; they don't saturate at 1."""
    odds = np.empty_like(joint)
    for number in range(joint.shape[1]):
        others = np.delete(joint, number, axis=1)
        odds[:, number] = joint[:, number] - logsumexp(others, axis=1)
    return odds
