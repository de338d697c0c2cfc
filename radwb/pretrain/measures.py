"""What embeddings tell about a run, while it goes and after: numbers with thresholds.

Where the thresholds come from: in `fit` on the simulator, a healthy CLIP or classifier
has a mean cosine of 0.1 to 0.5 and an effective rank of 14 among 192 dimensions; an
untrained one 0.98 and 9, for it looks through a narrow cone (Liang et al. 2022); one
stuck at ln(batch) 1.00 and 1.5.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import entr

# of a guess's loss, CLIP's ln(batch): above it no pair is told from another
STUCK_SHARE = 0.98
NARROW = 0.97  # mean cosine: above it, all look alike
# effective rank: the least, as a share of random vectors' and as a number
RANK_SHARE = 0.05
RANK_LEAST = 3.0
DEAD = 0.01  # a dimension that spreads less than 1 % of the usual is dead


def effective_rank(Z) -> float:
    """How many dimensions embeddings use: exp of their singular values' entropy.

    Roy & Vetterli 2007; RankMe, Garrido et al. 2023.

    >>> round(effective_rank(np.eye(8)), 6)
    8.0

    Args:
        Z: (N, E), not centred.
    """
    s = np.linalg.svd(as_array(Z), compute_uv=False)
    return float(np.exp(entr(s / max(s.sum(), 1e-12)).sum()))


def alignment(a, b) -> float:
    """Mean squared distance of (N, E) partners on the unit sphere.

    0 is best, 2 is a guess (Wang & Isola 2020).
    """
    return float(((unit(a) - unit(b)) ** 2).sum(1).mean())


def uniformity(Z) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of (N, E) on the sphere.

    0 is a collapse (Wang & Isola 2020).
    """
    Z = unit(Z)
    cosines = (Z @ Z.T)[np.triu_indices(len(Z), 1)]
    return float(np.log(np.exp(-4 + 4 * cosines).mean()))


def mean_cosine(Z) -> float:
    """Mean cosine of two different rows of (N, E); 1 is a collapse."""
    Z = unit(Z)
    N = len(Z)
    return float(((Z.sum(0) ** 2).sum() - N) / (N * (N - 1)))


def dead(Z) -> float:
    """Share of the dimensions of (N, E) that spread less than 1 % of the usual.

    That is the root mean square spread; 1 if none does.
    """
    spread = as_array(Z).std(0)
    usual = np.sqrt((spread**2).mean())
    return float((spread <= max(DEAD * usual, 1e-9)).mean())


def stuck(loss: float, guess: float) -> bool:
    """Whether a loss is within 2 % of a guess's (CLIP's is ln(batch))."""
    return loss > STUCK_SHARE * guess


def random_rank(n: int, e: int, seed: int) -> float:
    """The effective rank of (n, e) random directions."""
    return effective_rank(unit(np.random.default_rng(seed).normal(size=(n, e))))


def least_rank(n: int, e: int, *, distinct: float = math.inf, seed: int = 0) -> float:
    """What the effective rank of (n, e) must reach: 5 % of random vectors' and 3.

    But half of the `distinct` texts suffice.
    """
    least = max(RANK_LEAST, RANK_SHARE * random_rank(n, e, seed))
    return min(least, min(n, e, distinct) / 2)


def collapse(Z, *, of: str = "image", distinct: float = math.inf) -> str:
    """A sentence when (N, E) embeddings have collapsed, else "".

    To a point, or to a few dimensions.

    Args:
        of: "image" or "text", for the sentence.
        distinct: texts or labels that there are.
    """
    cosine = mean_cosine(Z)
    if cosine > NARROW:
        return (
            f"collapse: the mean cosine of {of} embeddings is {cosine:.3f} "
            f"(above {NARROW}), so all look alike"
        )
    rank = effective_rank(Z)
    least = least_rank(*np.shape(Z), distinct=distinct)
    if rank >= least:
        return ""
    return (
        f"dimensional collapse: the effective rank of {of} embeddings is {rank:.1f} "
        f"(below {least:.1f})"
    )


def watched(images, texts=None, captions: Sequence | None = None) -> dict:
    """What the log says of held-out embeddings where an epoch ends.

    >>> sorted(watched(Z, Z, table["report"]))
    ['alignment', 'effective_rank', 'uniformity']

    Args:
        images: (N, E); texts: (N, E) of their texts, if any.
        captions: N identities of the texts or labels; fewer of them leave fewer
            dimensions to use.
    Returns:
        columns of the log, and `warning` among them when they have collapsed.
    """
    if len(images) < 2:
        return {}
    first = np.arange(len(images))
    distinct = math.inf
    if captions is not None:
        # one row a caption: that equal texts lie in one place is no collapse
        first = np.unique(np.asarray(captions), return_index=True)[1]
        distinct = len(first)
    columns = {
        "effective_rank": effective_rank(images),
        "uniformity": uniformity(images),
    }
    warning = collapse(images, distinct=distinct)
    if texts is not None:
        columns["alignment"] = alignment(images, texts)
        texts = as_array(texts)[first]
        if not warning and len(texts) > 1:
            warning = collapse(texts, of="text", distinct=distinct)
    return columns | {"warning": warning} if warning else columns


def as_array(Z) -> np.ndarray:
    """(N, E) float64 of an array or a tensor.

    Raises:
        ValueError: another shape, or values that aren't finite.
    """
    if isinstance(Z, torch.Tensor):
        Z = Z.detach().float().cpu().numpy()
    Z = np.asarray(Z)
    if Z.ndim != 2 or not np.isfinite(Z).all():
        raise ValueError(
            f"expected (N, E) values, got {Z.shape}, {(~np.isfinite(Z)).sum()} not "
            "finite. Try a lower lr"
        )
    return Z.astype(np.float64)


def unit(Z) -> np.ndarray:
    """(N, E) rows of unit length."""
    return F.normalize(torch.from_numpy(as_array(Z)), dim=-1).numpy()
