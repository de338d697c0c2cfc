"""Attention weighed by what it hands over: the norm of each token's projected value."""

import torch

from radwb.attend.capture import watch
from radwb.attend.formulas import value_norm
from radwb.attend.tower import attention_pool, output_projection, read_out


def value_norms(model, x, layer: int, head: int | None) -> torch.Tensor:
    """(B, 1, T): the norm of what the read-out is handed by each token in one layer
    (`formulas.value_norm`).

    It proves itself: all that is handed to a token sums to what the attention module
    gives.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it.
        head: None = the norm of the sum over heads. Where the tower averages its
            patches, the mean of their norms.
    Raises:
        ValueError: the attention has no plain output projection, or a pool of attention
            reads the tokens.
    """
    if attention_pool(model) is not None:
        raise ValueError(
            "value_norm: expected a tower that reads its class token or its patches' "
            f"mean, got {model.name}, which pools by attention. Try method='attention'."
        )
    module, linear = output_projection(model, layer)
    given = []
    hook = module.register_forward_hook(lambda *call: given.append(call[-1]))
    try:
        taps, _ = watch(
            model, x, layers=(layer,), rows=lambda T: _row(model, T), tokens=True
        )
    finally:
        hook.remove()
    attention, values = (
        taps.attention[layer],
        taps.values[layer],
    )  # (B, heads, R, T), (B, heads, T, d)
    weight = linear.weight.detach().unflatten(1, (values.shape[1], -1))  # (D, heads, d)
    read = read_out(model, values.shape[2])
    out = given[-1][0] if isinstance(given[-1], tuple) else given[-1]
    _prove(
        attention,
        values,
        weight,
        linear.bias,
        out.detach() if attention.shape[2] > 1 else read @ out.detach(),
    )
    some = slice(None) if head is None else [head]
    norms = value_norm(
        attention[:, some], values[:, some], weight[:, some]
    )  # (B, R, T)
    return norms if norms.shape[1] == 1 else read @ norms


def _row(model, T):
    """The class token's row; None = all rows, where the tower averages: the mean is of
    norms.
    """
    read = read_out(model, T)
    return read if read.max() == 1 else None


def _prove(attention, values, weight, bias, out):
    mine = torch.einsum("bhij,bhjc,dhc->bid", attention, values, weight) + (
        0 if bias is None else bias.detach()
    )
    if mine.shape != out.shape or not torch.allclose(
        mine, out, rtol=1e-4, atol=1e-4 * float(out.abs().max())
    ):
        raise ValueError(
            "value_norm: expected attention, then one linear projection; something lies between them. "
            "Try method='attention'"
        )
