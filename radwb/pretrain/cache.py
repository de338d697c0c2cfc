"""Batches that don't fit at once.

Accumulated, for losses that are a mean over samples; cached, for all others.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn


def accumulated(
    fabric: Fabric, wrapped: nn.Module, x, targets: tuple, parts: int
) -> torch.Tensor:
    """Backward of a mean over samples in `parts` forwards; parts=1 is the plain step.

    Where samples have a different number of terms in that mean (known labels, words),
    each part of each process weighs as many as it has, so that the gradient is that of
    the batch at once.

    Args:
        fabric: of the run.
        wrapped: the recipe as `fabric.setup` returned it.
        x: (B, C, S, S), a tuple of such views, or None.
        targets: tensors (B, ...).
        parts: how many forwards and backwards.
    Returns:
        the loss; the gradient is in `.grad`. Both are means once they're averaged over
        the processes.
    """
    batches = list(pieces(x, targets, size(x, targets) // parts))
    weights = _weights(fabric, [wrapped.module.terms(*part) for _, part in batches])
    total = 0.0
    for i, (views, part) in enumerate(batches):
        with fabric.no_backward_sync(wrapped, enabled=i < parts - 1):
            loss = wrapped(views, *part) * weights[i]
            fabric.backward(loss)
        total = total + loss.detach()
    return total


def _weights(fabric, terms):
    """(parts,) what each part's mean weighs.

    They sum to 1 over the parts, in the mean over the processes.
    """
    if terms[0] is None:
        return [1 / len(terms)] * len(terms)
    terms = torch.stack(terms).float()
    total = fabric.all_reduce(terms.sum(), reduce_op="sum").clamp(min=1)
    return terms * fabric.world_size / total


def cached(
    fabric: Fabric, task: nn.Module, x, targets: tuple, chunk: int
) -> torch.Tensor:
    """Backward of a loss over the whole batch in the memory of one chunk.

    GradCache (Gao et al. 2021, arXiv 2101.06983): embed in chunks without a graph; take
    the loss and its gradient with respect to the embeddings; embed each chunk again,
    with the same random numbers, and pass its part of that gradient on. Costs one more
    forward. The gradient is that of the batch at once where no layer looks across
    images: batch norm does, so its statistics are those of a chunk
    (shape={"groups": 8} gives group norm).

    Args:
        fabric: of the run.
        task: the recipe itself, with `represent` and `loss_of`.
        x, targets: as in `accumulated`.
        chunk: images of this process at a time.
    Returns:
        the loss; the gradient is in `.grad`, averaged over the processes.
    """
    chunks = list(pieces(x, targets, chunk))
    states, points = [], []
    with torch.no_grad(), fabric.autocast(), _statistics_held(task):
        for views, part in chunks:
            states.append(_random(fabric.device))
            points.append(task.represent(views, *part))
    leaves = [torch.cat(p).requires_grad_() for p in zip(*points, strict=True)]
    with fabric.autocast():
        loss = task.loss_of(tuple(leaves), *targets)
    fabric.backward(loss)
    gradients = zip(*(leaf.grad.split(chunk) for leaf in leaves), strict=True)
    for state, (views, part), gradient in zip(states, chunks, gradients, strict=True):
        with _replayed(fabric.device, state), fabric.autocast():
            again = task.represent(views, *part)
        torch.autograd.backward(again, gradient)
    if fabric.world_size > 1:  # DDP averages only what ran through its own forward
        for p in task.parameters():
            if p.grad is not None:
                p.grad.copy_(fabric.all_reduce(p.grad, reduce_op="mean"))
    return loss.detach()


def check(
    fabric: Fabric, task: nn.Module, share: int, accumulate: int, chunk: int | None
) -> None:
    """Refuse what would give another gradient than asked for.

    Args:
        share: images of this process at a step.
    Raises:
        ValueError: `accumulate` or `chunk` don't fit the loss, share or devices.
    """
    if accumulate > 1 and task.whole_batch:
        raise ValueError(
            "expected accumulate=1 for a loss over the whole batch, "
            f"got {accumulate}. "
            f"Try chunk={max(1, share // accumulate)}, with the negatives of all."
        )
    if share % accumulate:
        raise ValueError(
            f"expected accumulate to divide the {share} images of a process, "
            f"got {accumulate}"
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
    if isinstance(x, tuple):
        return len(x[0])
    return len(targets[0]) if x is None else len(x)


def pieces(x, targets: tuple, n: int) -> Iterator[tuple]:
    """(x, targets) of `n` samples at a time."""
    for start in range(0, size(x, targets), n):
        part = slice(start, start + n)
        if isinstance(x, tuple):
            views = tuple(view[part] for view in x)
        else:
            views = x if x is None else x[part]
        yield views, tuple(t[part] for t in targets)


@contextmanager
def _statistics_held(task):
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
    """The state of the generators of the CPU and of this GPU."""
    on_gpu = device.type == "cuda"
    return torch.get_rng_state(), on_gpu and torch.cuda.get_rng_state(device)


@contextmanager
def _replayed(device, state):
    on_cpu, on_gpu = state
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.set_rng_state(on_cpu)
        if gpus:
            torch.cuda.set_rng_state(on_gpu, device)
        yield
