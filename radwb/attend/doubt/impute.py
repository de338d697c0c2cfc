"""Fill pixels from their neighbours: ROAD's noisy linear imputation without the noise.

Rong et al. 2022, arXiv 2202.00449.
"""

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import cg

DIRECT, DIAGONAL = 1 / 6, 1 / 12  # weights of the eight neighbours


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
def _system(shape) -> csr_array:
    """(H W, H W): what a pixel's neighbours weigh together, less what each weighs."""
    H, W = shape
    rows = diags_array(
        [1.0, 1.0], offsets=[-1, 1], shape=(H, H)
    )  # one above, one below
    columns = diags_array([1.0, 1.0], offsets=[-1, 1], shape=(W, W))
    weights = DIRECT * (kron(eye_array(H), columns) + kron(rows, eye_array(W)))
    weights = (weights + DIAGONAL * kron(rows, columns)).tocsr()
    weights.sort_indices()
    return (diags_array(weights.sum(1)) - weights).tocsr()
