"""Windowed attention in 3-D: MONAI's Swin transformer, alone or within SwinUNETR.

In a block a token attends within its window, and in every second block the windows are
shifted by half (Liu et al. 2021, arXiv 2103.14030; Hatamizadeh et al. 2022, arXiv
2201.01266). So a row of flow over a block's tokens is laid into the windows, multiplied
by their (n, n) matrices and laid back: no (T, T) is ever made. The matrices are made
anew from what entered the block, a few windows at a time, and proved against what it
computed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from radwb.attend.threads import of_this_thread
from radwb.attend.tokens import attention_weights
from radwb.attend.tower import EXACT, HALF, require_equal
from radwb.attend.volumes.trace import as_leaf, traced

NUMBERS = 2**24  # of attention in memory at once (64 MiB)
STAGE_PARTS = ("blocks", "downsample", "no_shift")  # by these a stage is known


def window_blocks(net: nn.Module) -> list[nn.Module]:
    """The blocks of a MONAI Swin in 3-D, of all stages in order; [] of another net."""
    blocks = [block for stage in _stages(net) for block in stage.blocks]
    return blocks if all(_is_window_block(block) for block in blocks) else []


def _is_window_block(block):
    attn = type(getattr(block, "attn", None)).__name__
    return attn == "WindowAttention" and len(getattr(block, "window_size", "")) == 3


def _stages(net):
    stages = []
    for module in net.modules():
        if all(hasattr(module, part) for part in STAGE_PARTS):
            stages.append(module)
    return stages


def window_flow(
    net: nn.Module,
    run: Callable,
    score: Callable | None,
    method: str,
    layer: int,
    head: int | None = None,
) -> torch.Tensor:
    """What the mean of a Swin's tokens got from each token of block `layer`.

    "attention" is the mean row of one block: what each token is given by those in its
    window. "rollout" and "relevance" follow the mean of the last block's tokens (a Swin
    has no class token) back to block `layer`. Three assumptions: MLPs and convolutions
    leave a token where it is; a token of a later stage is owed in equal parts to the 2
    x 2 x 2 that it was merged from, as half of a token is its own in rollout; and what
    SwinUNETR's skip connections hand on counts by its gradient only. Attention to
    MONAI's padding is given to no token: rows near the far end of an axis may sum to
    less than one, and the map with them.

    Args:
        run: () -> the network's output; called twice, in eval mode, with frozen
            parameters and one volume.
        score: output -> the number to differentiate, for relevance; else None.
        layer: a block's number, from 0, counted through all stages.
        head: of "attention"; None = mean.
    Returns:
        (d, h, w) on the grid of block `layer`.
    Raises:
        ValueError: the block has one token, or no such head.
        RuntimeError: windows, softmax(QK + bias) V or the output aren't what the
            network computed.
    """
    merging_after = {stage.blocks[-1]: stage.downsample for stage in _stages(net)}
    end = layer + 1 if method == "attention" else None
    blocks = []
    for module in window_blocks(net)[layer:end]:
        blocks.append(_Block(module, merging_after.get(module)))
    with torch.no_grad():
        plain = run()
    traced(blocks, run, plain, score)
    first = blocks[0]
    if first.T < 2:
        raise ValueError(
            f"block {layer} sees the volume as one token, so no map can say where. "
            "Try an earlier layer"
        )
    T = blocks[-1].T
    dtype = torch.promote_types(first.x.dtype, torch.float32)
    read = torch.full((1, T), 1 / T, device=first.x.device, dtype=dtype)
    if method == "attention":
        flow = first.times(read, head)
    elif method == "rollout":
        flow = _rolled_out(read, blocks)
    else:
        flow = _relevant(read, blocks)
    return flow.reshape(first.grid)


def _rolled_out(flow, blocks):
    """(1, T) over the last block's tokens -> over those of the first."""
    for block, later in _backwards(blocks):
        if later is not None:
            flow = block.unmerge(flow, later.T)
        flow = 0.5 * flow + 0.5 * block.times(flow)
    return flow


def _relevant(read, blocks):
    """As `_rolled_out`, without the read-out itself.

    What is added to that is kept apart, since it would drown in its rounding.
    """
    added = torch.zeros_like(read)
    for block, later in _backwards(blocks):
        if later is not None:
            both = torch.cat([read, added])
            read, added = block.unmerge(both, later.T).split(1)
        added = added + block.times(read + added)
    return added


def _backwards(blocks):
    """Each block from the last; with the next stage's first where it ends a stage."""
    yield blocks[-1], None
    for block, later in zip(blocks[-2::-1], blocks[:0:-1], strict=True):
        yield block, later if block.merging is not None else None


class _Block:
    """What one block did, a stage's last with the merging behind it.

    grid (d, h, w) of its T tokens; index (W, n) the token at each place of each window,
    T where MONAI pads; x (W, n, C) what entered the attention, mask (W, n, n) or None,
    out (W, n, C) softmax(QK + bias + mask) V of all heads, and gradient (W, n, C) of
    the score by that.
    """

    def __init__(self, block, merging):
        self.block = block
        self.merging = merging
        self.grid = None
        self.out = None
        self.gradient = None

    def hooks(self, graph):
        self.graph = graph
        attn = self.block.attn
        enter = of_this_thread(self.enter)
        project = of_this_thread(self.project)
        attend = of_this_thread(self.attend)
        leave = of_this_thread(self.leave)
        yield self.block.norm1.register_forward_hook(enter)
        yield attn.proj.register_forward_pre_hook(project)
        yield attn.register_forward_hook(attend, with_kwargs=True)
        yield self.block.norm2.register_forward_pre_hook(leave)

    def enter(self, _, args, normed):
        if self.grid is not None:
            raise RuntimeError(
                "expected each block to run once, got a second time; the map isn't "
                "trusted"
            )
        self.grid = tuple(normed.shape[1:4])
        self.T = normed.shape[1:4].numel()
        index = _windows(self.grid, self.block.window_size, self.block.shift_size)
        self.index = index.to(normed.device)
        self.before = args[0].detach()
        self.normed = normed.detach()
        self.near = EXACT.get(normed.dtype, HALF)

    def project(self, _, args):
        self.out = as_leaf(args[0], self.graph)
        return (self.out,)

    def attend(self, attn, args, kwargs, out):
        self.x = args[0].detach()
        self.mask = kwargs["mask"]
        # (T + 1, C), the last one for padding
        tokens = F.pad(self.normed.flatten(1, 3)[0], (0, 0, 0, 1))
        require_equal(tokens[self.index], self.x, self.near, "tokens laid into windows")
        self.projected = out.detach()
        projected = attn.proj.forward(self.out.detach())
        require_equal(projected, self.projected, self.near, "the heads' projection")

    def leave(self, _, args):
        C = self.projected.shape[-1]
        back = self.projected.new_zeros(self.T + 1, C)
        back[self.index] = self.projected
        after = self.before + back[:-1].reshape(self.before.shape)
        require_equal(after, args[0].detach(), self.near, "tokens laid back")
        del self.before, self.normed, self.projected

    def attention(self, windows):
        """Of some windows: softmax(QK + bias + mask) and the values.

        Args:
            windows: (w,) their numbers.
        Returns:
            (w, heads, n, n) and (w, heads, n, C / heads).
        """
        attn = self.block.attn
        x = self.x[windows]
        n = x.shape[1]
        q, k, v = self.by_head(attn.qkv(x), 3)
        places = attn.relative_position_index[:n, :n]
        bias = attn.relative_position_bias_table[places]
        mask = bias.permute(2, 0, 1)  # (heads, n, n)
        if self.mask is not None:
            mask = mask + self.mask[windows, None]  # (w, heads, n, n)
        # MONAI adds the two in the tokens' own precision
        mask = mask.to(q.dtype)
        return attention_weights(q, k, mask=mask, scale=attn.scale), v

    def by_head(self, tensor, parts=1):
        """(w, n, parts C) -> parts of (w, heads, n, C / heads)."""
        heads = self.block.attn.num_heads
        pattern = "w n (parts heads c) -> parts w heads n c"
        return rearrange(tensor, pattern, parts=parts, heads=heads)

    def times(self, flow, head=None):
        """(1, T) times the mean over heads of A, or of max(A * dscore/dA, 0).

        A is made, and proved against `out`, a few windows at a time.
        """
        heads = self.block.attn.num_heads
        W, n = self.index.shape
        if head is not None and head not in range(-heads, heads):
            raise ValueError(
                f"expected a head of 0 to {heads - 1} in this block, got {head!r}"
            )
        padded = F.pad(flow[0], (0, 1))  # padding gives nothing
        total = torch.zeros_like(padded)
        numbers = torch.arange(W, device=flow.device)
        at_once = max(1, NUMBERS // (heads * n * n))
        for windows in numbers.split(at_once):
            weights = self.proved(windows)
            mixed = weights.mean(1) if head is None else weights[:, head]  # (w, n, n)
            index = self.index[windows]
            total[index] = torch.einsum("wn,wnm->wm", padded[index], mixed)
        return total[None, :-1]

    def proved(self, windows):
        """(w, heads, n, n) attention, times its gradient where there is one."""
        weights, v = self.attention(windows)
        (out,) = self.by_head(self.out[windows])
        mixed = weights.to(v.dtype) @ v
        require_equal(mixed, out, self.near, "softmax(QK + bias) V")
        sums = weights.sum(-1)
        require_equal(sums, torch.ones_like(sums), 1e-5, "sums of rows")
        if self.gradient is None:
            return weights
        (gradient,) = self.by_head(self.gradient[windows])
        return (weights * (gradient @ v.mT)).clamp(min=0)

    def unmerge(self, rows, later):
        """(R, later) over the next stage's tokens -> (R, T).

        In equal parts to those that each was merged from.
        """
        sources = self.sources()
        if len(sources) != later:
            raise RuntimeError(
                f"expected {len(sources)} tokens after merging, got {later}; the map "
                "isn't trusted"
            )
        real = sources < self.T
        counts = real.sum(1, keepdim=True)
        shares = rows[..., None] * real / counts  # (R, later, 8)
        flow = rows.new_zeros(len(rows), self.T + 1)
        flow = flow.index_add(1, sources.flatten(), shares.flatten(1))
        return flow[:, :-1]

    def sources(self):
        """(later, 8): the tokens merged into each, T for padding.

        Their numbers are sent through the network's own merging. Older copies take two
        of the eight twice and two never (MONAI's issue 8284), so it's asked rather than
        known.
        """
        if not hasattr(self.merging, "norm"):
            raise ValueError(
                f"expected MONAI's PatchMerging, got {type(self.merging).__name__}. "
                "Try a later layer"
            )
        C = self.x.shape[-1]
        merged = []

        def note(_, args):
            merged.append(args[0][0, ..., ::C].flatten(0, 2).long())
            return (args[0].to(self.x.dtype),)

        options = {"device": self.x.device, "dtype": torch.float64}
        numbers = torch.arange(1, self.T + 1, **options)
        numbers = numbers.reshape(1, *self.grid, 1)
        x = numbers.expand(-1, -1, -1, -1, C)
        hook = self.merging.norm.register_forward_pre_hook(of_this_thread(note))
        try:
            self.merging.forward(x)
        finally:
            hook.remove()
        return (merged[0] - 1) % (self.T + 1)


def _windows(grid, window, shift):
    """(W, n): the token at each place of each window, T where MONAI pads.

    One window over an axis isn't shifted.
    """
    shifts = []
    for n, side, by in zip(grid, window, shift, strict=True):
        shift_by = -by if n > side else 0
        shifts.append(shift_by)
    d, h, w = map(min, grid, window)
    D, H, W = grid
    T = D * H * W
    numbers = torch.arange(T).reshape(grid)
    # at the far end of each axis; torch counts from the last one
    missing = (-W % w, -H % h, -D % d)
    padding = (0, missing[0], 0, missing[1], 0, missing[2])
    numbers = F.pad(numbers, padding, value=T)
    numbers = numbers.roll(shifts, (0, 1, 2))
    pattern = "(a d) (b h) (c w) -> (a b c) (d h w)"
    return rearrange(numbers, pattern, d=d, h=h, w=w)
