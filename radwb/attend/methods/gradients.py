"""Gradients of the score with respect to the film's pixels, averaged over many films.

Integrated gradients average along a way from black to the film, SmoothGrad over noisy
copies of it.
"""

import numpy as np
import torch

from radwb.attend.progress import in_batches
from radwb.attend.targets import gradients_of
from radwb.attend.tower import as_it_was, forward


def integrated_gradients(
    model, x, weights, *, steps: int = 32, batch: int = 16
) -> torch.Tensor:
    """Gradients along the straight way from an empty (black) film to this one.

    After arXiv:1703.01365, eq. 1. The sum over a map is score(film) - score(black), but
    for the error of `steps` Gauss-Legendre points.

    Args:
        model: a `rw.models.Model`.
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) directions of K scores for each image.
        steps: points on the way.
        batch: images in one pass.
    Returns:
        (B, K, S, S), signed; the channels, copies of one grey value, are summed.
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    # from -1 to 1, turned into 0 to 1
    along = torch.tensor((nodes + 1) / 2).to(x)
    along = along.view(-1, 1, 1, 1, 1)
    shares = torch.tensor(shares / 2).to(x)
    shares = shares.view(-1, 1, 1, 1, 1, 1)
    black = model.normalise(torch.zeros_like(x[:1, :1]))
    way = x - black
    total = 0
    at_once = batch // len(x)
    for points in in_batches(torch.arange(steps), at_once, "integrated gradients"):
        films = black + along[points] * way
        gradients = _pixel_gradients(model, films, weights)  # (n, B, K, C, S, S)
        weighted = shares[points] * gradients
        total = total + weighted.sum(0)
    return (total * way[:, None]).sum(2)


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
    """The mean gradient over `n` noisy copies of the film, for a unit of grey.

    After arXiv:1706.03825.

    Args:
        model, x, weights, batch: as in `integrated_gradients`.
        n: noisy copies.
        noise: standard deviation, in parts of the film's own range of grey.
        seed: of the noise, which is the same for each film and call.
    Returns:
        (B, K, S, S), signed.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(n, 1, 1, *x.shape[-2:], generator=generator).to(x)
    std = torch.tensor(model.std).to(x)
    std = std.view(-1, 1, 1)
    grey = x * std
    lowest = grey.amin((1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    highest = grey.amax((1, 2, 3), keepdim=True)
    spread = highest - lowest
    total = 0
    at_once = batch // len(x)
    for copies in in_batches(torch.arange(n), at_once, "SmoothGrad"):
        films = x + noise * spread * draws[copies] / std
        gradients = _pixel_gradients(model, films, weights)  # (n, B, K, C, S, S)
        total = total + gradients.sum(0)
    mean = total / n
    return (mean / std).sum(2)


def _pixel_gradients(model, x, weights):
    """(n, B, C, S, S) inputs, (B, K, E) directions -> (n, B, K, C, S, S)."""
    leaf = x.flatten(0, 1).requires_grad_()
    with as_it_was(model.net), torch.enable_grad():
        output = forward(model, leaf)
        directions = weights.repeat(len(x), 1, 1)
        gradients = gradients_of(output, directions, leaf)
    return gradients.unflatten(0, x.shape[:2])
