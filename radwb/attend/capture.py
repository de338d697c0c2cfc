"""Look inside an image tower while it runs: attention, tokens and their gradients.

All transformers met here (open_clip's, timm's and MONAI's) end in
`torch.nn.functional.scaled_dot_product_attention`, which hides the weights, or can be
told to. While a block of the tower runs, that one function is replaced by the same
formula written out, so one place serves them all.
"""

from contextlib import ExitStack
from functools import partial
from weakref import WeakSet

import torch
import torch.nn.functional as F

from radwb.attend.targets import directions
from radwb.attend.threads import Replaced, of_this_thread
from radwb.attend.tokens import attention_weights
from radwb.attend.tower import (
    EXACT,
    HALF,
    ROUTED,
    as_it_was,
    attention_blocks,
    attention_pool,
    forward,
    layers_of,
    read_out,
    read_queries,
    require_equal,
)
from radwb.models.model import Model
from radwb.models.turns import in_turn

# numbers of attention in memory at once where no gradient is wanted (256 MiB)
CHUNK = 2**26
# what a thread calls here is its own taps' while they are on
ATTENTION = Replaced(F, "scaled_dot_product_attention")
# networks whose output was seen to be the same with and without capture
_proven = WeakSet()


def capture(
    model: Model,
    x: torch.Tensor,
    *,
    target: str | tuple | int | list | None = None,
    first: int = 0,
    rows: list[int] | None = None,
    heads: str = "all",
) -> dict[str, torch.Tensor]:
    """Look inside your own ViT: run it once and return what its attention did.

    >>> seen = capture(model, model.preprocess(scan), target="pleural effusion")
    >>> seen["attention"].shape              # layers, images, heads, tokens, tokens
    torch.Size([4, 1, 3, 65, 65])
    >>> seen["gradients"].shape == seen["attention"].shape
    True

    The capture proves itself: in each block softmax(QK) V as re-derived here equals
    what the block's own attention gives (1e-5 in float32), rows sum to one, and the
    model's output is the same with and without the capture. The model comes back as it
    was: hooks, train or eval mode, `requires_grad`, fused attention. Safe from several
    threads: they take turns in the network.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        target: what to differentiate: a phrase or a (positive, negative) pair of
            phrases for an image-text model, a finding or class index for a classifier,
            the number of a neuron of the (unit) embedding for a model without
            `findings`, or a list with one of these an image. None = no gradients.
        first: gradients are computed from this layer on; earlier ones cost no backward
            pass and stay zero.
        rows: only what these k tokens attend to, e.g. [0], the class token. Without a
            target the memory is then k T numbers a head, never T T. None = all.
        heads: "all", or "mean" over the heads, taken layer by layer.
    Returns:
        attention (L, B, heads, T, T), tokens (L, B, T, D) each block's output, values
        (L, B, heads, T, D / heads), output (B, E) unit embedding or (B, K) logits; with
        a target also score (B,) and gradients (L, B, heads, T, T) of the score. With
        `rows` the first T is k; with heads="mean" there is one head. read (1, T) or (B,
        1, T): what the embedding takes from each token behind the last block, the mean
        over heads where the tower pools by attention; then also pool (B, heads, Q, T or
        the patches alone) its weights, all rows of them, and with a target
        pool_gradients.
    Raises:
        ValueError: the model has no attention, or the target doesn't suit it.
        RuntimeError: the capture isn't what the model computed.
    """
    if heads not in ("all", "mean"):
        raise ValueError(f"expected heads 'all' or 'mean', got {heads!r}")
    L = len(attention_blocks(model))
    start, weights = None, None
    if target is not None:
        start = range(L)[first]
        weights = directions(model, target, len(x))
    with in_turn(model.net):
        _proven.discard(model.net)
        taps, output = watch(
            model,
            x,
            first=start,
            rows=partial(_one_hot_rows, rows),
            mean_heads=heads == "mean",
            tokens=True,
        )
        added = {} if target is None else _gradients(taps, output, weights)
    seen = {
        "attention": torch.stack(taps.attention[:L]),
        "tokens": torch.stack(taps.tokens[:L]),
        "values": torch.stack(taps.values[:L]),
    }
    seen["read"] = taps.read(seen["attention"].shape[-1])
    if taps.pooled:
        seen["pool"] = taps.attention[L]
    return seen | added | {"output": output.detach()}


def _one_hot_rows(rows, T):
    """(k, T) that picks k rows of an attention, None where all are wanted."""
    return None if rows is None else torch.eye(T)[rows]


def _gradients(taps, output, weights):
    """What a target adds to `capture`: score, gradients and pool_gradients."""
    score = (output * weights.to(output)).sum(-1)
    by_layer = torch.autograd.grad(score.sum(), taps.live[taps.first :])
    by_layer = [taps.reduce(g, i) for i, g in enumerate(by_layer, taps.first)]
    added = {"score": score.detach()}
    if taps.pooled:
        added["pool_gradients"] = by_layer.pop()
    untouched = [torch.zeros_like(by_layer[0])] * taps.first
    return added | {"gradients": torch.stack(untouched + by_layer)}


def watch(
    model, x, *, first=None, layers=None, rows=None, mean_heads=False, tokens=False
):
    """One forward under taps.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S).
        first: weights stay in the graph from this layer on, as `taps.live`; None = no
            graph.
        layers: the layers whose attention is kept; None = all. An attention pool is the
            last, and always kept.
        rows: T -> (R, T) mixtures of rows to keep, or None; None = all rows.
        mean_heads: keep the mean over heads.
        tokens: keep each block's output and its values too.
    Returns:
        the taps, with attention (a list of (B, heads, R, T) or None), live, tokens and
        values; the output (B, E).
    """
    taps = _Taps(model, len(x), first, layers, rows, mean_heads, tokens)
    in_graph = first is not None
    with as_it_was(model.net), torch.set_grad_enabled(in_graph):
        untapped = None
        if model.net not in _proven:
            with torch.no_grad():
                untapped = forward(model, x[:1])
        with as_it_was(model.net, ROUTED), taps:
            output = forward(model, x.detach())
        if untapped is not None:
            tolerance = 1e-4 if taps.precision in EXACT else HALF
            what = "the model's output changes under capture"
            require_equal(output[:1], untapped, tolerance, what)
            _proven.add(model.net)
    return taps, output


class _Taps:
    """Hooks on the blocks and the written-out attention, on within a `with`."""

    def __init__(self, model, batch, first, layers, rows, mean_heads, tokens):
        self.model = model
        self.blocks = layers_of(model)
        self.pooled = attention_pool(model) is not None
        self.last = len(self.blocks) - self.pooled  # the pool's number, if there is one
        self.batch = batch
        self.first = first
        self.layers = range(self.last) if layers is None else layers
        self.rows = rows
        self.mean_heads = mean_heads
        self.keeps_tokens = tokens
        self.attention = [None] * len(self.blocks)
        self.live = [None] * len(self.blocks)
        self.tokens = [None] * len(self.blocks)
        self.values = [None] * len(self.blocks)
        self.layer = None  # the one that runs
        self.shape_in = None  # of what it was given
        self.seen = set()  # layers that have run
        self.precision = None

    def __enter__(self):
        with ExitStack() as stack:
            for i, block in enumerate(self.blocks):
                enter = of_this_thread(partial(self.enter, i))
                leave = of_this_thread(partial(self.leave, i))
                stack.callback(block.register_forward_pre_hook(enter).remove)
                stack.callback(block.register_forward_hook(leave).remove)
            self.fused = stack.enter_context(ATTENTION.by(self.explicit))
            self.off = stack.pop_all()

    def __exit__(self, *_):
        self.off.close()

    def enter(self, i, _, inputs):
        self.layer = i
        is_tensor = inputs and torch.is_tensor(inputs[0])
        self.shape_in = inputs[0].shape if is_tensor else None

    def leave(self, i, _, __, output):
        if i not in self.seen:
            name = type(self.blocks[i]).__name__
            raise RuntimeError(
                f"expected attention that can be captured in block {i} ({name}) of "
                f"{self.model.name}, got none: it writes its own. "
                "Try method='occlusion'."
            )
        if self.keeps_tokens:
            self.tokens[i] = output.detach()
        self.layer = None

    def explicit(
        self,
        query,
        key,
        value,
        attn_mask=None,
        dropout_p=0.0,
        is_causal=False,
        scale=None,
        **rest,
    ):
        """`scaled_dot_product_attention`, written out and proved while a block runs."""
        i = self.layer
        if i is None or is_causal:
            return self.fused(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest
            )
        self.require_one_attention(i, query, key)
        with torch.no_grad():
            fused = self.fused(query, key, value, attn_mask, scale=scale)
        outputs, parts = [], []
        for rows in self.portions(i, query, key):
            part = _mask_of(attn_mask, rows)
            q = query[:, :, rows]
            weights = attention_weights(q, key, mask=part, scale=scale)
            if self.in_graph(i):
                weights = weights if weights.requires_grad else _leaf(weights)
                self.live[i] = weights
            outputs.append(weights.to(value.dtype) @ value)
            near = EXACT.get(query.dtype, HALF)
            what = f"block {i}: softmax(QK) V"
            require_equal(outputs[-1], fused[:, :, rows], near, what)
            sums = f"block {i}: sums of rows"
            require_equal(weights.sum(-1), torch.ones(()), 1e-5, sums)
            if i in self.layers or i == self.last:
                parts.append(self.reduce(weights, i, rows))
        self.keep(i, parts, query, value)
        return torch.cat(outputs, 2)

    def in_graph(self, i):
        return self.first is not None and i >= self.first

    def portions(self, i, query, key):
        """Slices of rows that are in memory at once; in a graph all of them."""
        B, heads, T, _ = query.shape
        step = T
        if not self.in_graph(i):
            step = max(1, min(T, CHUNK // (B * heads * key.shape[-2])))
        return [slice(start, start + step) for start in range(0, T, step)]

    def keep(self, i, parts, query, value):
        self.precision = query.dtype
        if self.keeps_tokens:
            self.values[i] = value.detach()
        if parts:
            whole = i == self.last or self.mixtures(query.shape[2]) is None
            self.attention[i] = torch.cat(parts, 2) if whole else sum(parts)

    def reduce(self, weights, i, rows=slice(None)):
        """What is kept of layer i's attention; of a pool all rows.

        Args:
            weights: (B, heads, t, T), its rows `rows`, or their gradient.
        Returns:
            (B, 1 or heads, R, T).
        """
        weights = weights.detach()
        if self.mean_heads:
            weights = weights.mean(1, keepdim=True)
        mixtures = self.mixtures(weights.shape[-1])
        if mixtures is None or i == self.last:
            return weights
        return mixtures.to(weights)[:, rows] @ weights

    def mixtures(self, T):
        return None if self.rows is None else self.rows(T)

    def read(self, T):
        """What the embedding takes from each token of the last block.

        Returns:
            (1, T), or (B, 1, T) of an attention pool.
        """
        if not self.pooled:
            return read_out(self.model, T)
        return self.pool_row(self.attention[self.last].mean(1), T)

    def pool_row(self, weights, T):
        """(B, Q, T or the patches alone) of a pool -> (B, 1, T), what is read of it."""
        row = read_queries(self.model, weights.shape[1]).to(weights) @ weights
        # a pool may leave out the tokens before the patches
        return F.pad(row, (T - row.shape[-1], 0))

    def require_one_attention(self, i, query, key):
        B, heads, T, _ = query.shape
        K = key.shape[-2]
        is_pool = i == self.last
        shape = self.shape_in
        # XCiT's attends from channel to channel, and their number says nothing of
        # patches
        if not is_pool and shape is not None and T not in shape[:2]:
            raise RuntimeError(
                f"expected attention between the tokens {tuple(shape)} of block "
                f"{i}, got one between {T} others. Try method='gradcam'."
            )
        crossed = T != K and not is_pool
        if i in self.seen or self.batch != B or crossed:
            raise RuntimeError(
                f"expected one self-attention (B={self.batch}, heads, T, T) in block "
                f"{i}, got another {(B, heads, T, K)}: windowed or crossed attention "
                "can't be laid over the scan"
            )
        self.seen.add(i)


def _leaf(tensor):
    return tensor.detach().requires_grad_()


def _mask_of(mask, rows):
    """The rows of an attention mask; one that is the same for all stays whole."""
    if mask is None or mask.shape[-2] == 1:
        return mask
    return mask[..., rows, :]
