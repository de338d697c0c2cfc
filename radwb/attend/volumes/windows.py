"""Windowed attention in 3-D: MONAI's Swin transformer, alone or as the encoder of
SwinUNETR.

In a block a token attends within its window, and in every second block the windows are
shifted by half (Liu et al. 2021, arXiv 2103.14030; Hatamizadeh et al. 2022, arXiv
2201.01266). So a row of flow over a block's tokens is laid into the windows, multiplied
by their (n, n) matrices and laid back: no (T, T) is ever made. The matrices are made
anew from what entered the block, a few windows at a time, and proved against what it
computed.
"""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from einops import rearrange

from radwb.attend.tower import EXACT, HALF, require_equal

NUMBERS = 2**24  # of attention in memory at once (64 MiB)


def window_blocks(net) -> list:
    """The blocks of a MONAI Swin transformer in 3-D, those of all stages in order; []
    of any other network.
    """
    blocks = [block for stage in _stages(net) for block in stage.blocks]
    kinds = {
        (type(getattr(b, "attn", None)).__name__, len(getattr(b, "window_size", "")))
        for b in blocks
    }
    return blocks if kinds == {("WindowAttention", 3)} else []


def _stages(net):
    return [
        m
        for m in net.modules()
        if all(hasattr(m, name) for name in ("blocks", "downsample", "no_shift"))
    ]


def window_flow(
    net, run, score, method: str, layer: int, head: int | None = None
) -> torch.Tensor:
    """What the mean of a Swin's tokens got from each token of block `layer`.

    >>> window_flow(net, lambda: net(x)[-1].mean((2, 3, 4)), None, "rollout", 0).shape  # 48^3 tokens of 2^3 voxels
    torch.Size([48, 48, 48])

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
    blocks = _trace(
        net, run, score, slice(layer, layer + 1 if method == "attention" else None)
    )
    first, T = blocks[0], blocks[-1].T
    if first.T < 2:
        raise ValueError(
            f"block {layer} sees the volume as one token, so no map can say where. Try an earlier layer"
        )
    read = torch.full(
        (1, T),
        1 / T,
        device=first.x.device,
        dtype=torch.promote_types(first.x.dtype, torch.float32),
    )
    if method == "attention":
        return first.times(read, head).reshape(first.grid)
    flow = (
        read if method == "rollout" else torch.zeros_like(read)
    )  # relevance: what is added to the read-out, kept
    for n, one in reversed(
        list(enumerate(blocks))
    ):  # apart, since it would drown in the read-out's rounding
        if one.merging is not None and one is not blocks[-1]:
            read, flow = one.unmerge(torch.cat([read, flow]), blocks[n + 1].T).split(1)
        flow = (
            0.5 * flow + 0.5 * one.times(flow)
            if method == "rollout"
            else flow + one.times(read + flow)
        )
    return flow.reshape(first.grid)


def _trace(net, run, score, wanted):
    """One pass under hooks -> [_Block]; with a score also the gradients, by one pass
    back.
    """
    merging = {stage.blocks[-1]: stage.downsample for stage in _stages(net)}
    blocks = [_Block(block, merging.get(block)) for block in window_blocks(net)[wanted]]
    with torch.no_grad():
        plain = run()
    with ExitStack() as stack, torch.set_grad_enabled(score is not None):
        for one in blocks:
            for hook in one.hooks(score is not None):
                stack.callback(hook.remove)
        out = run()
        require_equal(
            out.detach(),
            plain,
            1e-4 if plain.dtype in EXACT else HALF,
            "the network's output",
        )
        if any(one.out is None for one in blocks):
            raise RuntimeError(
                "expected each block to run once, got one that didn't; the map isn't trusted"
            )
        if score is not None:
            for one, gradient in zip(
                blocks,
                torch.autograd.grad(score(out), [b.out for b in blocks]),
                strict=True,
            ):
                one.gradient, one.out = gradient, one.out.detach()
    return blocks


class _Block:
    """What one block did, a stage's last with the merging behind it.

    grid (d, h, w) of its T tokens; index (W, n) the token at each place of each window,
    T where MONAI pads; x (W, n, C) what entered the attention, mask (W, n, n) or None,
    out (W, n, C) softmax(QK + bias + mask) V of all heads, and gradient (W, n, C) of
    the score by that.
    """

    def __init__(self, block, merging):
        self.block, self.merging, self.grid, self.out, self.gradient = (
            block,
            merging,
            None,
            None,
            None,
        )

    def hooks(self, graph):
        yield self.block.norm1.register_forward_hook(self.enter)
        yield self.block.attn.proj.register_forward_pre_hook(
            lambda _, args: self.project(args[0], graph)
        )
        yield self.block.attn.register_forward_hook(self.attend, with_kwargs=True)
        yield self.block.norm2.register_forward_pre_hook(self.leave)

    def enter(self, _, args, normed):
        if self.grid is not None:
            raise RuntimeError(
                "expected each block to run once, got a second time; the map isn't trusted"
            )
        self.grid, self.T = tuple(normed.shape[1:4]), normed.shape[1:4].numel()
        self.index = _windows(
            self.grid, self.block.window_size, self.block.shift_size
        ).to(normed.device)
        self.before, self.normed = args[0].detach(), normed.detach()
        self.near = EXACT.get(normed.dtype, HALF)

    def project(self, out, graph):
        self.out = (
            out if out.requires_grad or not graph else out.detach().requires_grad_()
        )
        return (self.out,)

    def attend(self, attn, args, kwargs, out):
        self.x, self.mask = args[0].detach(), kwargs["mask"]
        tokens = F.pad(
            self.normed.flatten(1, 3)[0], (0, 0, 0, 1)
        )  # (T + 1, C), the last one for padding
        require_equal(tokens[self.index], self.x, self.near, "tokens laid into windows")
        self.given = out.detach()
        require_equal(
            attn.proj.forward(self.out.detach()),
            self.given,
            self.near,
            "the heads' projection",
        )

    def leave(self, _, args):
        back = self.given.new_zeros(self.T + 1, self.given.shape[-1])
        back[self.index] = self.given
        after = self.before + back[:-1].reshape(self.before.shape)
        require_equal(after, args[0].detach(), self.near, "tokens laid back")
        self.before = self.normed = self.given = None

    def attention(self, at):
        """Of windows `at`: (w, heads, n, n) softmax(QK + bias + mask) and the values
        (w, heads, n, C / heads).
        """
        attn, x = self.block.attn, self.x[at]
        q, k, v = (
            attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        places = attn.relative_position_index[: x.shape[1], : x.shape[1]]
        logits = attn.scale * q @ k.mT + attn.relative_position_bias_table[
            places
        ].permute(2, 0, 1)
        logits = logits if self.mask is None else logits + self.mask[at, None]
        return logits.softmax(
            -1, dtype=torch.promote_types(logits.dtype, torch.float32)
        ), v

    def times(self, flow, head=None):
        """(1, T) times the mean over heads of A, or of max(A * dscore/dA, 0), proved a
        few windows at a time.
        """
        heads, (W, n) = self.block.attn.num_heads, self.index.shape
        if head is not None and head not in range(-heads, heads):
            raise ValueError(
                f"expected a head of 0 to {heads - 1} in this block, got {head!r}"
            )
        flow, total = (
            F.pad(flow[0], (0, 1)),
            flow.new_zeros(self.T + 1),
        )  # padding gives nothing
        for at in torch.arange(W, device=flow.device).split(
            max(1, NUMBERS // (heads * n * n))
        ):
            a, v = self.attention(at)
            by_head = lambda t: t[at].unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: B023, E731
            require_equal(
                a.to(v.dtype) @ v, by_head(self.out), self.near, "softmax(QK + bias) V"
            )
            require_equal(a.sum(-1), torch.ones_like(a[..., 0]), 1e-5, "sums of rows")
            if self.gradient is not None:
                a = (a * (by_head(self.gradient) @ v.mT)).clamp(min=0)
            a = a.mean(1) if head is None else a[:, head]  # (w, n, n)
            total[self.index[at]] = torch.einsum("wn,wnm->wm", flow[self.index[at]], a)
        return total[None, :-1]

    def unmerge(self, rows, later):
        """(R, later) over the next stage's tokens -> (R, T): in equal parts to those
        that each was merged from.
        """
        sources = self.sources()
        if len(sources) != later:
            raise RuntimeError(
                f"expected {len(sources)} tokens after merging, got {later}; the map isn't trusted"
            )
        real = sources < self.T
        shares = rows[..., None] * real / real.sum(1, keepdim=True)  # (R, later, 8)
        return rows.new_zeros(len(rows), self.T + 1).index_add(
            1, sources.flatten(), shares.flatten(1)
        )[:, :-1]

    def sources(self):
        """(later, 8): the tokens merged into each, T for padding: numbers sent through
        the network's own merging.

        Older copies take two of the eight twice and two never (MONAI's issue 8284), so
        it's asked rather than known.
        """
        if not hasattr(self.merging, "norm"):
            raise ValueError(
                f"expected MONAI's PatchMerging, got {type(self.merging).__name__}. Try a later layer"
            )
        C, found = self.x.shape[-1], []

        def note(_, args):
            found.append(args[0][0, ..., ::C].flatten(0, 2).long())
            return (args[0].to(self.x.dtype),)

        numbers = torch.arange(
            1, self.T + 1, device=self.x.device, dtype=torch.float64
        ).reshape(1, *self.grid, 1)
        hook = self.merging.norm.register_forward_pre_hook(note)
        try:
            self.merging.forward(numbers.expand(-1, -1, -1, -1, C))
        finally:
            hook.remove()
        return (found[0] - 1) % (self.T + 1)


def _windows(grid, window, shift):
    """(W, n): the token at each place of each window, T where MONAI pads. One window
    over an axis isn't shifted.
    """
    shift = [-s if n > w else 0 for n, w, s in zip(grid, window, shift, strict=True)]
    d, h, w = (min(n, w) for n, w in zip(grid, window, strict=True))
    T = grid[0] * grid[1] * grid[2]
    padding = (0, -grid[2] % w, 0, -grid[1] % h, 0, -grid[0] % d)
    at = F.pad(torch.arange(T).reshape(grid), padding, value=T).roll(shift, (0, 1, 2))
    return rearrange(at, "(a d) (b h) (c w) -> (a b c) (d h w)", d=d, h=h, w=w)
