"""Gradients of the score with respect to the film's pixels: integrated gradients and
SmoothGrad.
"""

import numpy as np
import torch

from radwb.attend import progress
from radwb.attend.capture import gradients_of
from radwb.attend.tower import as_it_was, forward


def integrated_gradients(
    model, x, weights, *, steps: int = 32, batch: int = 16
) -> torch.Tensor:
    """Gradients along the straight way from an empty (black) film to this one
    (arXiv:1703.01365, eq. 1).

    The sum over a map is score(film) - score(black), but for the error of `steps`
    Gauss-Legendre points.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) directions of K scores for each image.
        batch: images in one pass.
    Returns:
        (B, K, S, S), signed; the channels, copies of one grey value, are summed.
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    at, shares = (
        torch.tensor(v / 2).to(x).view(-1, 1, 1, 1, 1) for v in (nodes + 1, shares)
    )
    black = model.normalise(torch.zeros_like(x[:1, :1]))
    total = 0
    for few in _portions(steps, batch // len(x), "integrated gradients"):
        grads = _pixel_gradients(
            model, black + at[few] * (x - black), weights
        )  # (n, B, K, C, S, S)
        total = total + (shares[few, None] * grads).sum(0)
    return (total * (x - black)[:, None]).sum(2)


def smoothgrad(
    model,
    x,
    weights,
    *,
    n: int = 25,
    noise: float = 0.1,
    seed: int = 0,
    batch: int = 16,
) -> torch.Tensor:
    """The mean gradient over `n` noisy copies of the film (arXiv:1706.03825), for a
    unit of grey.

    Args:
        noise: standard deviation, in parts of the film's own range of grey.
        seed: of the noise, which is the same for each film and call.
    Returns:
        (B, K, S, S), signed.
    """
    drawn = torch.randn(
        n, 1, 1, *x.shape[-2:], generator=torch.Generator().manual_seed(seed)
    ).to(x)
    std = torch.tensor(model.std).to(x).view(-1, 1, 1)
    spread = (x * std).amax((1, 2, 3), keepdim=True) - (x * std).amin(
        (1, 2, 3), keepdim=True
    )  # (B, 1, 1, 1)
    total = 0
    for few in _portions(n, batch // len(x), "SmoothGrad"):
        total = total + _pixel_gradients(
            model, x + noise * spread * drawn[few] / std, weights
        ).sum(0)
    return (total / n / std).sum(2)


def _portions(n, size, name):
    return progress.steps(torch.arange(n).split(max(1, size)), name)


def _pixel_gradients(model, x, weights):
    """(n, B, C, S, S) inputs, (B, K, E) directions -> (n, B, K, C, S, S)."""
    leaf = x.flatten(0, 1).requires_grad_()
    with as_it_was(model.net), torch.enable_grad():
        grads = gradients_of(forward(model, leaf), weights.repeat(len(x), 1, 1), leaf)
    return grads.unflatten(0, x.shape[:2])
