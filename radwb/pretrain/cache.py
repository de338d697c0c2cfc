"""Batches that don't fit at once: accumulated, for losses that are a mean over samples;
cached, for all others.
"""

from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn


def accumulated(
    fabric: Fabric, wrapped: nn.Module, x, targets: tuple, parts: int
) -> torch.Tensor:
    """Backward of a mean over samples in `parts` forwards and backwards; parts=1 is the
    plain step.

    Where samples have a different number of terms in that mean (known labels, words),
    each part of each process weighs as many as it has, so that the gradient is that of
    the batch at once.

    Args:
        wrapped: the recipe as `fabric.setup` returned it.
        x: (B, C, S, S), a tuple of such views, or None.
        targets: tensors (B, ...).
    Returns:
        the loss; the gradient is in `.grad`. Both are means once they're averaged over
        the processes.
    """
    total, cut = 0.0, list(pieces(x, targets, size(x, targets) // parts))
    weights = _weights(fabric, [wrapped.module.terms(*some) for _, some in cut])
    for i, (piece, some) in enumerate(cut):
        with fabric.no_backward_sync(wrapped, enabled=i < parts - 1):
            loss = wrapped(piece, *some) * weights[i]
            fabric.backward(loss)
        total = total + loss.detach()
    return total


def _weights(fabric, terms):
    """(parts,) what each part's mean weighs; they sum to 1 over the parts, in the mean
    over the processes.
    """
    if terms[0] is None:
        return [1 / len(terms)] * len(terms)
    terms = torch.stack(terms).float()
    return (
        terms
        * fabric.world_size
        / fabric.all_reduce(terms.sum(), reduce_op="sum").clamp(min=1)
    )


def cached(
    fabric: Fabric, task: nn.Module, x, targets: tuple, chunk: int
) -> torch.Tensor:
    """Backward of a loss over the whole batch in the memory of one chunk (GradCache;
    Gao et al. 2021, 2101.06983).

    Embed in chunks without a graph; take the loss and its gradient with respect to the
    embeddings; embed each chunk again, with the same random numbers, and pass its part
    of that gradient on. Costs one more forward. The gradient is that of the batch at
    once where no layer looks across images: batch norm does, so its statistics are
    those of a chunk (shape={"groups": 8} gives group norm).

    Args:
        task: the recipe itself, with `represent` and `loss_of`.
        chunk: images of this process at a time.
    Returns:
        the loss; the gradient is in `.grad`, averaged over the processes.
    """
    parts, states, points = list(pieces(x, targets, chunk)), [], []
    with torch.no_grad(), fabric.autocast(), _statistics_kept(task):
        for piece, some in parts:
            states.append(_random(fabric.device))
            points.append(task.represent(piece, *some))
    leaves = tuple(
        torch.cat(p).requires_grad_() for p in zip(*points, strict=True)
    )  # each (B, E)
    with fabric.autocast():
        loss = task.loss_of(leaves, *targets)
    fabric.backward(loss)
    for i, ((piece, some), state) in enumerate(zip(parts, states, strict=True)):
        with _replayed(fabric.device, state), fabric.autocast():
            again = task.represent(piece, *some)
        torch.autograd.backward(
            again, [leaf.grad[i * chunk : (i + 1) * chunk] for leaf in leaves]
        )
    if fabric.world_size > 1:  # DDP averages only what ran through its own forward
        for p in task.parameters():
            if p.grad is not None:
                p.grad.copy_(fabric.all_reduce(p.grad, reduce_op="mean"))
    return loss.detach()


def check(
    fabric: Fabric, task: nn.Module, share: int, accumulate: int, chunk: int | None
) -> None:
    """Refuse what would give another gradient than asked for."""
    if accumulate > 1 and task.whole_batch:
        raise ValueError(
            f"expected accumulate=1 for a loss over the whole batch, got {accumulate}. "
            f"Try chunk={max(1, share // accumulate)}, with the negatives of all."
        )
    if share % accumulate:
        raise ValueError(
            f"expected accumulate to divide the {share} images of a process, got {accumulate}"
        )
    if chunk and not task.whole_batch:
        raise ValueError(
            "expected chunk=None for a loss that is a mean over samples. "
            f"Try accumulate={max(1, share // chunk)}."
        )
    if chunk and fabric.world_size > 1 and not isinstance(fabric.strategy, DDPStrategy):
        raise ValueError(
            f"expected strategy='ddp' with chunk, got {type(fabric.strategy).__name__}"
        )


def size(x, targets: tuple) -> int:
    """Samples in x, (B, ...) or views of it or None, and in targets, each (B, ...)."""
    return len(targets[0] if x is None else x[0] if isinstance(x, tuple) else x)


def pieces(x, targets: tuple, n: int):
    """(x, targets) of `n` samples at a time."""
    for i in range(0, size(x, targets), n):
        cut = slice(i, i + n)
        seen = (
            None
            if x is None
            else tuple(v[cut] for v in x)
            if isinstance(x, tuple)
            else x[cut]
        )
        yield seen, tuple(t[cut] for t in targets)


@contextmanager
def _statistics_kept(task):
    """Batch norms use the batch's statistics, but don't count it twice."""
    norms = [
        m
        for m in task.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _random(device):
    return torch.get_rng_state(), torch.cuda.get_rng_state(
        device
    ) if device.type == "cuda" else None


@contextmanager
def _replayed(device, state):
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], device)
        yield
