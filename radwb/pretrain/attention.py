"""Attention as three plain products, for training in bf16 on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def explicit(net: nn.Module) -> Iterator[None]:
    """Within it, attention in `net` is matmul, softmax, matmul: the same numbers, and
    the step a third shorter.

    torch's fused kernel is made for thousands of tokens, and on a CPU its backward is
    slow at a hundred; its own explicit path guards against rows that see nothing, and
    copies around each head. `nn.MultiheadAttention`, of which open_clip's towers are
    made, is computed here; other attention takes torch's explicit path.
    """
    layers = [
        m for m in net.modules() if type(m) is nn.MultiheadAttention and _known(m)
    ]
    for layer in layers:
        layer.forward = MethodType(attend, layer)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for layer in layers:
            del layer.forward


def _known(layer):
    """One matrix for queries, keys and values of (B, T, W), and nothing besides."""
    return (
        layer.batch_first
        and layer._qkv_same_embed_dim
        and layer.bias_k is None
        and not layer.add_zero_attn
    )


def attend(
    self,
    query,
    key,
    value,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    **options,
):
    """`nn.MultiheadAttention.forward`; what open_clip's blocks don't ask for goes to
    torch.
    """
    added = (
        attn_mask is None or attn_mask.is_floating_point()
    )  # it is added to the scores, and leaves each row a key
    dropped = self.training and self.dropout > 0
    if (
        key is not value
        or key_padding_mask is not None
        or need_weights
        or not added
        or dropped
        or query.ndim != 3
    ):
        options |= {
            "key_padding_mask": key_padding_mask,
            "need_weights": need_weights,
            "attn_mask": attn_mask,
        }
        return nn.MultiheadAttention.forward(self, query, key, value, **options)
    weight, bias, W, H = (
        self.in_proj_weight,
        self.in_proj_bias,
        self.embed_dim,
        self.num_heads,
    )
    if query is key:
        q, k, v = _heads(F.linear(query, weight, bias), 3, H)
    else:
        of_q, of_kv = (bias[:W], bias[W:]) if bias is not None else (None, None)
        (q,) = _heads(F.linear(query, weight[:W], of_q), 1, H)
        k, v = _heads(F.linear(key, weight[W:], of_kv), 2, H)
    scores = torch.bmm(q, k.transpose(1, 2)) * (W // H) ** -0.5  # (B H, T, S)
    scores = scores if attn_mask is None else scores + attn_mask.to(scores.dtype)
    seen = torch.bmm(scores.softmax(-1).to(v.dtype), v)  # (B H, T, D)
    seen = seen.unflatten(0, (-1, H)).transpose(1, 2).flatten(2)  # (B, T, W)
    return F.linear(seen, self.out_proj.weight, self.out_proj.bias), None


def _heads(x, parts, heads):
    """(B, T, parts W) -> parts of (B H, T, D)."""
    B, T, _ = x.shape
    return (
        x.view(B, T, parts, heads, -1)
        .permute(2, 0, 3, 1, 4)
        .reshape(parts, B * heads, T, -1)
        .unbind(0)
    )
