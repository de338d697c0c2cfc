"""Attention written by hand: why each form is there, and the two that models need.

Elsewhere attention is the libraries' own call of torch's fused function, which hides
its weights and is made for thousands of tokens. There are six exceptions:

- `bf16_tower` (here), many images on a CPU: autocast converts between bf16 and fp32
  around each norm. With weights in bf16 torch takes its own path for a whole layer.
- `block_of_rows` (here), for both towers' last block: one token of it is read, so one
  row of its attention is computed.
- `explicit_attention` (here), training in bf16 on a CPU: the fused function's backward
  is slow at a hundred tokens; three plain products take a third less.
- `rw.attend.capture`: maps need the weights and their gradients as tensors.
- `radwb.attend.volumes.rows`: so do maps of volumes, but all weights of 4,096 tokens
  take 9.7 GB; there they are made a few rows at a time.
- `radwb.attend.volumes.windows`: a Swin's tokens attend within windows, with a bias for
  each place; there they are made a few windows at a time.

The last three prove themselves against what the network computed, since they read an
attention that isn't theirs. They stay where they are used: each needs its own part of
the network, and they share one line, softmax(q k').
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CLASS_TOKEN = (slice(None), slice(0, 1))  # x[:, :1], as an index


class LastBlock(nn.Module):
    """A transformer's last block where only the class token is read.

    All tokens are keys, and it alone is a query: the same numbers for that token, and
    a twelfth of a twelve-block tower less to do.
    """

    def __init__(self, block: ResidualAttentionBlock):
        super().__init__()
        self.block = block

    def forward(self, x, attn_mask=None):
        """(B, T, W) -> (B, 1, W)."""
        return block_of_rows(self.block, x, CLASS_TOKEN, attn_mask)


def block_of_rows(
    block: ResidualAttentionBlock,
    x: torch.Tensor,
    rows: tuple,
    attn_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, T, W) -> (B, R, W), what a block of open_clip's gives for some of its tokens.

    Args:
        rows: index of the R tokens of each text or image that are queries; keys and
            values are all T.
    """
    keys = block.ln_1(x)
    x = x[rows] + block.ls_1(block.attention(keys[rows], keys, keys, attn_mask))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def runs_by_block(transformer: nn.Module) -> bool:
    """Whether blocks can be run one by one, and the last of them by `block_of_rows`."""
    whole = transformer.batch_first and not transformer.grad_checkpointing
    return whole and type(transformer.resblocks[-1]) is ResidualAttentionBlock


def bf16_tower(net: nn.Module) -> nn.Module | None:
    """A copy in bf16 of open_clip's image tower; None for a tower of another build.

    As exact as autocast (cosine with fp32 above 0.9999).

    Returns:
        a module (B, C, S, S) bf16 -> (B, E) bf16.
    """
    if type(net) not in (CLIP, CustomTextCLIP):
        return None
    visual = net.visual
    # a stem of convolutions takes the time, and gains nothing
    if type(visual) is not VisionTransformer or type(visual.conv1) is not nn.Conv2d:
        return None
    tower = copy.deepcopy(visual).to(torch.bfloat16).eval()
    pooled = tower.pool_type != "tok" or tower.attn_pool is not None
    if not pooled and not tower.output_tokens and runs_by_block(tower.transformer):
        blocks = tower.transformer.resblocks
        blocks[-1] = LastBlock(blocks[-1])
    return tower


@contextmanager
def explicit_attention(net: nn.Module) -> Iterator[None]:
    """Within it, attention in `net` is matmul, softmax, matmul: the same numbers.

    torch's own explicit path guards against rows that see nothing, and copies around
    each head. `nn.MultiheadAttention`, of which open_clip's towers are made, is
    computed here; other attention takes torch's explicit path.
    """
    layers = [m for m in net.modules() if _is_plain(m)]
    for layer in layers:
        layer.forward = MethodType(explicit_forward, layer)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for layer in layers:
            del layer.forward


def _is_plain(layer):
    """One matrix for queries, keys and values of (B, T, W), and nothing besides."""
    return (
        type(layer) is nn.MultiheadAttention
        and layer.batch_first
        and layer._qkv_same_embed_dim
        and layer.bias_k is None
        and not layer.add_zero_attn
    )


def explicit_forward(
    self,
    query,
    key,
    value,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    **options,
):
    """`nn.MultiheadAttention.forward`; what open_clip's blocks don't use is torch's."""
    # a mask that is added to the scores leaves each row a key
    added = attn_mask is None or attn_mask.is_floating_point()
    drops = self.training and self.dropout > 0
    batched = key is value and query.ndim == 3
    if (
        not batched
        or not added
        or drops
        or need_weights
        or key_padding_mask is not None
    ):
        options["key_padding_mask"] = key_padding_mask
        options["need_weights"] = need_weights
        options["attn_mask"] = attn_mask
        return nn.MultiheadAttention.forward(self, query, key, value, **options)
    q, k, v = _projected(self, query, key)
    scores = torch.bmm(q, k.transpose(1, 2)) * q.shape[-1] ** -0.5  # (B H, T, S)
    if attn_mask is not None:
        scores = scores + attn_mask.to(scores.dtype)
    mixed = torch.bmm(scores.softmax(-1).to(v.dtype), v)  # (B H, T, D)
    mixed = mixed.unflatten(0, (-1, self.num_heads)).transpose(1, 2)
    return self.out_proj(mixed.flatten(2)), None  # (B, T, W)


def _projected(layer, query, key):
    """Queries (B H, T, D), keys and values (B H, S, D)."""
    weight = layer.in_proj_weight
    bias = layer.in_proj_bias
    H = layer.num_heads
    if query is key:
        return _heads(F.linear(query, weight, bias), 3, H)
    W = layer.embed_dim
    query_bias = None if bias is None else bias[:W]
    other_bias = None if bias is None else bias[W:]
    queries = _heads(F.linear(query, weight[:W], query_bias), 1, H)
    return (*queries, *_heads(F.linear(key, weight[W:], other_bias), 2, H))


def _heads(x, parts, heads):
    """(B, T, parts W) -> parts of (B H, T, D)."""
    B, T, _ = x.shape
    split = x.view(B, T, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return split.reshape(parts, B * heads, T, -1).unbind(0)
