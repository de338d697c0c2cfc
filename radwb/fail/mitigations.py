"""Ways to mend a head that learnt a mark, each from what it has to be told."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.special import expit

from radwb.fail.marker import add_marker
from radwb.fail.patches import Head, fit_head
from radwb.models import Model
from radwb.stats import auroc

DIRECTIONS = 10  # at most so many are cut; the validation films say how many


@dataclass(frozen=True, eq=False)
class Known:
    """What a method may learn from: films of train and val, none of a test patient.

    Attributes:
        start: the Model; it stays as it is.
        finding: what is asked for, for what is said.
        seen: (N, D) features of the training films as they came, some with the mark.
        pasted: (N, D) of the same films with the mark on all of them.
        painted: (N, D) of the same films with the mark's place painted out, or None.
        y: (N,) labels 1 and 0 of what the head is to find.
        groups: (N,) 0 to 3, as `groups_of` gives them.
        sites: (N,) the site of each film, or None.
        val_plain, val_pasted: (V, D) features of the validation films, without and
            with the mark.
        val_y: (V,) their labels.
        val_groups: (V,) their groups where the mark was dealt out at random.
        C: inverse penalty, as in `fit_head`.
        seed: of what is drawn.
    """

    start: Model
    finding: str
    seen: np.ndarray
    pasted: np.ndarray
    painted: np.ndarray | None
    y: np.ndarray
    groups: np.ndarray
    sites: np.ndarray | None
    val_plain: np.ndarray
    val_pasted: np.ndarray
    val_y: np.ndarray
    val_groups: np.ndarray
    C: float
    seed: int

    @cached_property
    def untouched(self) -> Head:
        """The head before it is mended."""
        return fit_head(self.start, self.seen, self.y, C=self.C)


def groups_of(y: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """(N,) 2 where the finding is, plus 1 where the mark is."""
    return 2 * np.asarray(y, int) + np.asarray(marked, int)


def four_groups(groups: np.ndarray, finding: str) -> np.ndarray:
    """(4,) films in each group.

    Raises:
        ValueError: a group is empty.
    """
    sizes = np.bincount(groups, minlength=4)
    if sizes.all():
        return sizes
    empty = int(np.argmin(sizes))
    having = "with" if empty >= 2 else "without"
    marked = "with" if empty % 2 else "without"
    raise ValueError(
        f"expected films in each of four groups, got none {having} {finding} that is "
        f"{marked} the mark. Try more films, a strength below 1, or a method that "
        "needs no groups"
    )


def even_weights(groups: np.ndarray) -> np.ndarray:
    """(N,) weights that let each group count the same; their mean is 1."""
    names, at, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    even = len(groups) / len(names)
    return (even / sizes)[at]


def even_sample(groups: np.ndarray, seed: int) -> np.ndarray:
    """Rows at random, of each group as many as the smallest has."""
    rng = np.random.default_rng(seed)
    names, sizes = np.unique(groups, return_counts=True)
    rows = []
    for name in names:
        inside = np.flatnonzero(groups == name)
        inside = rng.permutation(inside)
        rows.append(inside[: sizes.min()])
    rows = np.concatenate(rows)
    return np.sort(rows)


def reweighted(known: Known) -> Head:
    """All films, weighted so that the four groups count the same."""
    four_groups(known.groups, known.finding)
    weights = even_weights(known.groups)
    return fit_head(known.start, known.seen, known.y, C=known.C, weights=weights)


def sampled(known: Known) -> Head:
    """As many films of each of the four groups as the smallest has.

    Simple, and hard to beat (Idrissi et al. 2022, arXiv 2110.14503).
    """
    four_groups(known.groups, known.finding)
    rows = even_sample(known.groups, known.seed)
    return fit_head(known.start, known.seen[rows], known.y[rows], C=known.C)


def sampled_by_site(known: Known) -> Head:
    """As many films with as without the finding in each site."""
    _, site = np.unique(known.sites, return_inverse=True)
    rows = even_sample(groups_of(site, known.groups >= 2), known.seed)
    return fit_head(known.start, known.seen[rows], known.y[rows], C=known.C)


def augmented(known: Known) -> Head:
    """Each film twice, as it came and with the mark; what is on it can't be taken off.

    That is the mark at random: each film is met with it every other time.
    """
    features = np.concatenate([known.seen, known.pasted])
    return fit_head(known.start, features, np.tile(known.y, 2), C=known.C)


def masked(known: Known) -> Head:
    """The mark's place is painted out, here and on each film that is asked about."""
    return fit_head(known.start, known.painted, known.y, C=known.C)


def retrained(known: Known) -> Head:
    """The last layer anew, on validation films that know no tie, groups balanced.

    Deep feature reweighting (Kirichenko et al. 2023, arXiv 2204.02937).
    """
    four_groups(known.val_groups, known.finding)
    marked = known.val_groups % 2 == 1
    features = np.where(marked[:, None], known.val_pasted, known.val_plain)
    weights = even_weights(known.val_groups)
    return fit_head(known.start, features, known.val_y, C=known.C, weights=weights)


def cut(known: Known) -> Head:
    """The directions in which the mark moves the features are taken out of the head.

    How many, the validation films say: those that rank them best, without and with.
    """
    directions = main_directions(known.val_pasted - known.val_plain)
    y = np.tile(known.val_y, 2)
    best = None
    for k in range(1, len(directions) + 1):
        head = without(known.untouched, directions[:k], known.seen)
        answers = [head.of(known.val_plain), head.of(known.val_pasted)]
        score = auroc(y, np.concatenate(answers))
        if best is None or score > best[0]:
            best = score, head
    return best[1]


def main_directions(differences: np.ndarray, k: int = DIRECTIONS) -> np.ndarray:
    """(N, D) differences -> (k, D) their main directions, each of length 1."""
    _, _, directions = np.linalg.svd(differences, full_matrices=False)
    return directions[:k]


def without(head: Head, directions: np.ndarray, features: np.ndarray) -> Head:
    """The head without what it has along the directions.

    Its mean answer to `features` stays, so that its threshold does.
    """
    amounts = directions @ head.weights  # (k,)
    taken = directions.T @ amounts  # (D,)
    bias = head.bias + float(features.mean(axis=0) @ taken)
    return Head(head.start, head.weights - taken, bias, head.whole)


def of_groups(known: Known) -> Head:
    """`group_dro` over the four groups."""
    four_groups(known.groups, known.finding)
    return group_dro(known.start, known.seen, known.y, known.groups, C=known.C)


def group_dro(
    start: Model,
    features: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    *,
    C: float = 100.0,
    steps: int = 1000,
    step_size: float = 0.01,
) -> Head:
    """A head for the worst of your groups: who loses most counts more at the next step.

    >>> features = rw.fail.patch_features(model, rw.data.images(table, model.size))
    >>> groups = (table["sex"] == "F").to_numpy(int)
    >>> rw.fail.group_dro(model, features, y, groups, steps=10).of(features).shape
    (60,)

    Algorithm 1 of Sagawa et al. 2020 (arXiv 1911.08731), with all films at each step.
    The weights are kept as a sum over films, so a step costs (N, N), not (N, D).

    Args:
        start: the Model that the features are of.
        features: (N, D).
        y: (N,) labels 1 and 0.
        groups: (N,) numbers from 0.
        C: inverse penalty, as in `fit_head`.
        steps: of gradient descent. Few of them are a penalty of their own.
        step_size: of the groups' weights.
    Raises:
        ValueError: a group is empty.
    """
    sizes = np.bincount(groups)
    if not sizes.all():
        raise ValueError(
            f"expected films in each of {len(sizes)} groups, got {sizes.tolist()}. "
            "Try groups numbered from 0 without a gap"
        )
    middle = features.mean(axis=0)
    centred = features - middle
    likeness = centred @ centred.T  # (N, N)
    rate = 4 / likeness.diagonal().max()  # at most 1 over the loss's curvature
    share = np.full(len(sizes), 1 / len(sizes))
    amounts = np.zeros(len(y), likeness.dtype)  # how much of each film is in the head
    bias = 0.0
    for _ in range(steps):
        logits = likeness @ amounts + bias  # (N,)
        losses = np.logaddexp(0, np.where(y == 1, -logits, logits))
        of_group = np.bincount(groups, losses) / sizes
        share *= np.exp(step_size * of_group)
        share /= share.sum()
        pull = (share / sizes)[groups] * (expit(logits) - y)  # (N,)
        shrinking = amounts / (C * len(y))
        amounts -= rate * (pull + shrinking).astype(amounts.dtype)
        bias -= rate * pull.sum()
    weights = amounts @ centred
    return Head(start, weights, float(bias - middle @ weights))


def paint_out(images: np.ndarray, marker: dict) -> np.ndarray:
    """The place where a mark may lie, painted over with the film's own middle grey.

    What was there leaves no trace: a film with the mark and without it come out alike.

    Args:
        images: (N, S, S) uint8.
        marker: kind, corner and seed, as `add_marker` takes them.
    """
    S = images.shape[1]
    grey = np.full((1, S, S), 128, np.uint8)
    changed = add_marker(grey, **marker)[0] != 128
    jitter = S // 40
    place = maximum_filter(changed, 2 * jitter + 1)
    painted = images.copy()
    middles = np.median(images[:, ~place], axis=1)  # (N,)
    painted[:, place] = middles[:, None].astype(np.uint8)
    return painted


@dataclass(frozen=True)
class Method:
    """One way to mend, and what it needs to be told.

    Attributes:
        learn: from what is `Known`.
        needs: in plain words.
        groups: whether it can't do without films in all four groups.
    """

    learn: Callable[[Known], Head]
    needs: str
    groups: bool = False


EACH = "the mark and the finding of every training film"
LOOK = "what the mark looks like"
METHODS = {
    "reweighting": Method(reweighted, EACH, groups=True),
    "group DRO": Method(of_groups, EACH, groups=True),
    "group-balanced sampling": Method(sampled, EACH, groups=True),
    "site-balanced sampling": Method(
        sampled_by_site, "the site of every training film"
    ),
    "augmentation": Method(augmented, LOOK),
    "masking": Method(masked, "where the mark lies"),
    "last-layer retraining": Method(retrained, "other labelled films without the tie"),
    "cutting": Method(cut, f"{LOOK}, and other labelled films"),
}
