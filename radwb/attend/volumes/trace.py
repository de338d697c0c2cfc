"""One pass of a network under hooks that read its attention, and one pass back."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from radwb.attend.tower import EXACT, HALF, require_equal


def traced(
    readers: Sequence, run: Callable, plain: torch.Tensor, score: Callable | None
) -> None:
    """Let each reader of a block's attention see what its block computes.

    Args:
        readers: each with `hooks(graph)`, the hooks that fill it, and then `out`, the
            attention's output. With a score they get `gradient`, of the score by that.
        run: () -> the network's output.
        plain: the same without hooks.
        score: output -> the number to differentiate, or None.
    Raises:
        RuntimeError: the output is another under the hooks, or a block didn't run.
    """
    graph = score is not None
    with ExitStack() as stack, torch.set_grad_enabled(graph):
        for reader in readers:
            for hook in reader.hooks(graph):
                stack.callback(hook.remove)
        output = run()
        tolerance = 1e-4 if plain.dtype in EXACT else HALF
        require_equal(output.detach(), plain, tolerance, "the network's output")
        if any(reader.out is None for reader in readers):
            raise RuntimeError(
                "expected each block to run once, got one that didn't; the map isn't "
                "trusted"
            )
        gradients = [None] * len(readers)
        if graph:
            outs = [reader.out for reader in readers]
            gradients = torch.autograd.grad(score(output), outs)
    for reader, gradient in zip(readers, gradients, strict=True):
        reader.gradient = gradient
        reader.out = reader.out.detach()


def as_leaf(tensor: torch.Tensor, graph: bool) -> torch.Tensor:
    """The tensor; a leaf where a `graph` is wanted and none stands before it."""
    if graph and not tensor.requires_grad:
        return tensor.detach().requires_grad_()
    return tensor
