"""A mixture of slices over embeddings, labels and answers together (Domino)."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans

LEAST_VARIANCE = 1e-6  # added to each, as scikit-learn's and Domino's mixtures do
TINY = np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class Mixture:
    """Slices of like films: where they lie, how often they are ill, what is answered.

    Attributes:
        weights: (K,) share of the films in each slice.
        means, variances: (K, D) of the embeddings in a slice, with a variance a
            dimension.
        labels, answers: (K, 2) chance of 0 and of 1 in it, in truth and by the model.
        label_weight, answer_weight: exponents of these chances.
        likelihood: mean log likelihood of a film, as the last step of the fit had it.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    label_weight: float = 1.0
    answer_weight: float = 1.0
    likelihood: float = -np.inf

    def log_joint(
        self, Z: np.ndarray, y: np.ndarray | None = None, p: np.ndarray | None = None
    ) -> np.ndarray:
        """(N, K) log likelihood of each film with each slice; y and p may be unknown.

        >>> rng = np.random.default_rng(0)
        >>> Z, y, p = rng.normal(size=(40, 3)), np.arange(40) % 2, rng.random(40)
        >>> fit_mixture(Z, y, p, k=2).log_joint(Z).shape
        (40, 2)

        Args:
            Z: (N, D) embeddings.
            y: (N,) labels 1 and 0.
            p: (N,) answers of the model, 0 to 1.
        """
        joint = np.log(self.weights) + self.log_density(Z)  # (N, K)
        if y is not None:
            joint = joint + self.label_weight * _log_chance(y, self.labels)
        if p is not None:
            joint = joint + self.answer_weight * _log_chance(p, self.answers)
        return joint

    def log_density(self, Z: np.ndarray) -> np.ndarray:
        """(N, K) log of each slice's Gaussian at each embedding."""
        precisions = 1 / self.variances
        scaled = self.means * precisions
        squares = Z**2 @ precisions.T - 2 * Z @ scaled.T  # (N, K)
        squares = squares + (self.means * scaled).sum(axis=1)
        volume = np.log(2 * np.pi * self.variances).sum(axis=1)
        return -(squares + volume) / 2


def fit_mixture(
    Z: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    *,
    k: int,
    label_weight: float = 1.0,
    answer_weight: float = 1.0,
    steps: int = 100,
    tol: float = 1e-3,
    seed: int = 0,
) -> Mixture:
    """Find slices of films that look alike and are answered alike.

    >>> rng = np.random.default_rng(0)
    >>> Z, y, p = rng.normal(size=(40, 3)), np.arange(40) % 2, rng.random(40)
    >>> fit_mixture(Z, y, p, k=2).means.shape
    (2, 3)

    Expectation-maximisation from k-means. A slice is a Gaussian of embeddings (one
    variance a dimension), times the chance of the label, times that of the answer, so
    that a slice's films are alike in their error, too (Eyuboglu et al. 2022, arXiv
    2203.14960).

    Args:
        Z: (N, D) embeddings, such as their principal components.
        y: (N,) labels 1 and 0.
        p: (N,) answers of the model, 0 to 1.
        k: slices.
        label_weight, answer_weight: how much label and answer weigh beside the
            embedding; 0 leaves one out, and both at 0 make a Gaussian mixture.
        steps: at most.
        tol: it stops where a film's mean log likelihood changes by less.
        seed: of k-means.
    """
    clusters = KMeans(k, n_init=1, random_state=seed).fit_predict(Z)
    shares = np.eye(k)[clusters]  # (N, K)
    about = {"label_weight": label_weight, "answer_weight": answer_weight}
    mixture = _from_shares(shares, Z, y, p, about)
    for _ in range(steps):
        joint = mixture.log_joint(Z, y, p)
        of_film = logsumexp(joint, axis=1)
        shares = np.exp(joint - of_film[:, None])
        before = mixture.likelihood
        mixture = _from_shares(shares, Z, y, p, about)
        mixture = replace(mixture, likelihood=float(of_film.mean()))
        if abs(mixture.likelihood - before) < tol:
            break
    return mixture


def _from_shares(shares, Z, y, p, about):
    """The slices, once it is known how far each film belongs to each."""
    films = shares.sum(axis=0) + 10 * TINY  # (K,)
    of_slice = shares.T / films[:, None]  # (K, N), rows sum to 1
    means = of_slice @ Z
    variances = of_slice @ Z**2 - means**2 + LEAST_VARIANCE
    return Mixture(
        weights=films / len(Z),
        means=means,
        variances=variances,
        labels=of_slice @ _both(y),
        answers=of_slice @ _both(p),
        **about,
    )


def _both(chance):
    """(N,) of 1 -> (N, 2) of 0 and of 1."""
    return np.stack([1 - chance, chance], axis=1)


def _log_chance(chance, of_slices):
    """(N, K) log chance of a label or an answer in each slice."""
    return np.log(_both(chance) @ of_slices.T + TINY)
