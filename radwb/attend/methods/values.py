"""Attention weighed by what it hands over: the norm of each token's projected value."""

from functools import partial

import torch

from radwb.attend.capture import watch
from radwb.attend.methods import formulas
from radwb.attend.tokens import outputs_of
from radwb.attend.tower import (
    attention_pool,
    output_projection,
    patches_of,
    read_out,
)
from radwb.models.turns import in_turn


def value_norms(model, x, *, layer: int, head: int | None) -> torch.Tensor:
    """(B, 1, rows, columns): `formulas.value_norm` of what the read-out is handed.

    It proves itself: all that is handed to a token sums to what the attention module
    gives.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        layer: its number.
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
    rows = partial(_class_row, model)
    with in_turn(model.net), outputs_of(module) as outputs:
        taps, _ = watch(model, x, layers=(layer,), rows=rows, tokens=True)
    output = outputs[-1]
    attention = taps.attention[layer]  # (B, heads, R, T)
    values = taps.values[layer]  # (B, heads, T, d)
    weight = linear.weight.detach().unflatten(1, (values.shape[1], -1))  # (D, heads, d)
    read = read_out(model, values.shape[2])
    if attention.shape[2] == 1:
        output = read @ output
    _prove(attention, values, weight, linear.bias, output)
    heads = slice(None) if head is None else [head]
    norms = formulas.value_norm(attention[:, heads], values[:, heads], weight[:, heads])
    if norms.shape[1] > 1:  # (B, T, T)
        norms = read @ norms
    return patches_of(model, norms)


def _class_row(model, T):
    """The class token's row; None = all rows, where the tower averages norms."""
    read = read_out(model, T)
    return read if read.max() == 1 else None


def _prove(attention, values, weight, bias, output):
    handed = torch.einsum("bhij,bhjc,dhc->bid", attention, values, weight)
    if bias is not None:
        handed = handed + bias.detach()
    near = 1e-4 * float(output.abs().max())
    same_shape = handed.shape == output.shape
    if not same_shape or not torch.allclose(handed, output, rtol=1e-4, atol=near):
        raise ValueError(
            "value_norm: expected attention, then one linear projection; something "
            "lies between them. Try method='attention'"
        )
