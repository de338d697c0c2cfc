"""What every way of looking inside shares: attention written out, and hooks.

Fused kernels keep no weights, so three places write attention out, each for its own
towers, and each proves that softmax(QK') V comes to what the network computed:
`capture` for 2-D towers, `volumes.rows` for a 3-D ViT in blocks of rows,
`volumes.windows` for windows.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from radwb.attend.threads import of_this_thread


def attention_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(scale QK' + mask), in float32 where the tokens are halved.

    >>> attention_weights(torch.zeros(1, 2, 4), torch.zeros(1, 5, 4))[0, 0]
    tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000])

    Args:
        query: (..., t, d) of the rows that are wanted.
        key: (..., T, d).
        mask: (..., t, T) numbers to add, or bool, False = not seen.
        scale: of the products; None = 1 / sqrt(d).
    Returns:
        (..., t, T), rows sum to one.
    """
    if scale is None:
        scale = query.shape[-1] ** -0.5
    logits = (scale * query) @ key.mT  # (..., t, T)
    if mask is not None and mask.dtype == torch.bool:
        logits = logits + torch.zeros_like(logits).masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list]:
    """A list that fills with copies of what `module` gives, one tensor a call.

    Of a tuple or list the first is meant. Copies, since an in-place ReLU may follow.
    Only this thread's calls count.

    >>> linear = torch.nn.Linear(3, 2)
    >>> with outputs_of(linear) as outputs:
    ...     given = linear(torch.ones(3))
    >>> torch.equal(outputs[0], given)
    True
    """
    outputs = []

    def note(_, __, output):
        first = output[0] if isinstance(output, tuple | list) else output
        outputs.append(first.detach().clone())

    hook = module.register_forward_hook(of_this_thread(note))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def leaf_of(module: nn.Module, *, entering: bool = False) -> Iterator[list]:
    """A list with the one tensor that leaves `module`, as a leaf of the graph.

    Only what comes behind is differentiated: `torch.autograd.grad(score, leaves[0])`.

    Args:
        module: it runs once in this thread; of a tuple or list that it gives the
            first is meant.
        entering: what enters the module instead, its first argument.
    """
    leaves = []

    def cut(tensor):
        leaves[:] = [tensor.detach().requires_grad_()]
        return leaves[0].clone()  # a copy, since an in-place ReLU may follow

    def cut_output(_, __, output):
        if isinstance(output, tuple | list):
            return type(output)((cut(output[0]), *output[1:]))
        return cut(output)

    def cut_input(_, inputs):
        return (cut(inputs[0]), *inputs[1:])

    if entering:
        hook = module.register_forward_pre_hook(of_this_thread(cut_input))
    else:
        hook = module.register_forward_hook(of_this_thread(cut_output))
    try:
        yield leaves
    finally:
        hook.remove()
