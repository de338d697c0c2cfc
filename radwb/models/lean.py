"""A tower for many images: open_clip's vision transformer in bf16, without the work
that nobody reads.
"""

import copy
from collections.abc import Callable

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn


class LastBlock(nn.Module):
    """A transformer's last block where only the class token is read: all tokens are
    keys, and it alone asks.

    The same numbers for that token, and a twelfth of a twelve-block tower less to do.
    """

    def __init__(self, block: ResidualAttentionBlock):
        super().__init__()
        self.block = block

    def forward(self, x, attn_mask=None):
        """(B, T, W) -> (B, 1, W)."""
        return asked(self.block, x, lambda t: t[:, :1], attn_mask)


def asked(
    block: ResidualAttentionBlock,
    x: torch.Tensor,
    pick: Callable,
    attn_mask: torch.Tensor | None = None,
):
    """(B, T, W) -> what the block gives for the tokens that `pick` takes: these ask,
    and all answer.
    """
    keys = block.ln_1(x)
    x = pick(x) + block.ls_1(block.attention(pick(keys), keys, keys, attn_mask))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def plain(transformer: nn.Module) -> bool:
    """Whether a transformer's blocks can be run one by one, and the last of them
    through `asked`.
    """
    whole = transformer.batch_first and not transformer.grad_checkpointing
    return whole and type(transformer.resblocks[-1]) is ResidualAttentionBlock


def lean(net: nn.Module) -> nn.Module | None:
    """A copy in bf16 of open_clip's image tower, (B, C, S, S) bf16 -> (B, E); None for
    a tower of another build.

    Autocast converts between bf16 and fp32 around each norm, and its fused attention is
    slow on a CPU: with weights in bf16 torch takes its own path for a whole attention
    layer, as exact as autocast (cosine with fp32 above 0.9999).
    """
    if (
        type(net) not in (CLIP, CustomTextCLIP)
        or type(net.visual) is not VisionTransformer
    ):
        return None
    visual = net.visual
    if (
        type(visual.conv1) is not nn.Conv2d
    ):  # a stem of convolutions takes the time, and gains nothing
        return None
    tower = copy.deepcopy(visual).to(torch.bfloat16).eval()
    blocks = tower.transformer.resblocks
    read = (
        tower.pool_type == "tok" and tower.attn_pool is None and not tower.output_tokens
    )
    if read and plain(tower.transformer):
        blocks[-1] = LastBlock(blocks[-1])
    return tower
