"""Fill pixels from their neighbours: ROAD's noisy linear imputation without the noise.

Rong et al. 2022, arXiv 2202.00449.
"""

from functools import lru_cache

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import cg

# (down, right) to a neighbour -> its weight; each also the other way
NEIGHBOURS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12, (1, -1): 1 / 12}


def impute(pixels: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Fill pixels with the weighted mean of their eight neighbours, all at once.

    >>> impute(np.array([[1.0, 0, 3]]), np.array([[False, True, False]]))
    array([[1., 2., 3.]])

    Args:
        pixels: (H, W).
        removed: (H, W) bool, which of them to fill; at least one is left.
    Returns:
        (H, W); a direct neighbour weighs 1/6, a diagonal one 1/12, at the rim those
        that are there, known or filled alike.
    Raises:
        ValueError: no pixel is left.
        RuntimeError: the linear system isn't solved.
    """
    if removed.all():
        raise ValueError(
            "expected at least one pixel that is left, got none to fill the others from"
        )
    lost, left = np.flatnonzero(removed), np.flatnonzero(~removed)
    # symmetric, and on the lost pixels positive: conjugate gradients solve it
    system = _system(removed.shape)[lost]
    grey = pixels.ravel()[left].astype(np.float64)
    start = np.full(len(lost), grey.mean())
    filled, failed = cg(system[:, lost], -system[:, left] @ grey, start, rtol=1e-6)
    if failed:
        raise RuntimeError(
            f"the imputation of {len(lost)} of {removed.size} pixels did not converge"
        )
    imputed = pixels.astype(np.float64).copy()
    imputed.ravel()[lost] = filled
    return imputed


@lru_cache(maxsize=4)
def _system(shape) -> csr_matrix:
    """(H W, H W): what a pixel's neighbours weigh together, less what each weighs."""
    H, W = shape
    index = np.arange(H * W).reshape(shape)
    half = csr_matrix((H * W, H * W))
    for (down, right), weight in NEIGHBOURS.items():
        here = index[: H - down, max(0, -right) : W - max(0, right)].ravel()
        there = index[down:, max(0, right) : W + min(0, right)].ravel()
        weights = np.full(len(here), weight)
        half += coo_matrix((weights, (here, there)), shape=half.shape).tocsr()
    weights = half + half.T
    return (diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()
