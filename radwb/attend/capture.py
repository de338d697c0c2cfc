"""Look inside an image tower while it runs: attention, tokens and their gradients.

All transformers met here (open_clip's, timm's and MONAI's) end in
`torch.nn.functional.scaled_dot_product_attention`, which hides the weights, or can be
told to. While a block of the tower runs, that one function is replaced by the same
formula written out, so one place serves them all.
"""

import threading
from functools import partial
from weakref import WeakSet

import torch
import torch.nn.functional as F

from radwb.attend.targets import directions
from radwb.attend.tower import (
    EXACT,
    HALF,
    ROUTED,
    as_it_was,
    attention_blocks,
    attention_pool,
    forward,
    has_attention,
    last_place,
    layers_of,
    read_out,
    read_queries,
    require_equal,
)

CHUNK = (
    2**26
    # numbers of attention that are in memory at once where no gradient is asked (256 MiB)
)
_one_at_a_time = (
    threading.RLock()
)  # the function that is replaced belongs to the whole process
_proven = (
    WeakSet()
)  # networks whose output was seen to be the same with and without capture


def capture(
    model,
    x,
    *,
    target=None,
    first: int = 0,
    rows: list[int] | None = None,
    heads: str = "all",
) -> dict:
    """Run the image tower once and keep what its attention did.

    >>> seen = capture(model, model.preprocess(scan), target="pleural effusion")
    >>> seen["attention"].shape, seen["gradients"].shape          # 6 layers, 1 image, 3 heads, 101 tokens
    (torch.Size([6, 1, 3, 101, 101]), torch.Size([6, 1, 3, 101, 101]))

    The capture proves itself: in each block softmax(QK) V as re-derived here equals
    what the block's own attention gives (1e-5 in float32), rows sum to one, and the
    model's output is the same with and without the capture. The model comes back as it
    was: hooks, train or eval mode, `requires_grad`, fused attention.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        target: what to differentiate: a phrase or a (positive, negative) pair of
            phrases for an image-text model, a finding or class index for a classifier,
            the number of a neuron of the (unit) embedding for a model without
            `findings`, or a list with one of these an image. None = no gradients.
        first: gradients are kept from this layer on; earlier ones cost no backward pass
            and stay zero.
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
    blocks = attention_blocks(model)
    weights = None if target is None else directions(model, target, len(x))
    first = None if target is None else range(len(blocks))[first]
    L = len(blocks)
    pick = None if rows is None else lambda T: torch.eye(T, device=x.device)[rows]
    _proven.discard(model.net)
    taps, output = watch(
        model, x, first=first, rows=pick, mean_heads=heads == "mean", tokens=True
    )
    seen = {
        name: torch.stack(getattr(taps, name)[:L])
        for name in ("attention", "tokens", "values")
    }
    seen["read"] = taps.read(seen["attention"].shape[-1])
    if taps.pooled:
        seen["pool"] = taps.attention[L]
    if target is not None:
        score = (output * weights.to(output)).sum(-1)
        seen |= {
            "score": score.detach(),
            "gradients": torch.zeros_like(seen["attention"]),
        }
        gradients = torch.autograd.grad(score.sum(), taps.live[first:])
        for i, grad in enumerate(gradients[: L - first], first):
            seen["gradients"][i] = taps.reduce(grad, i)
        if taps.pooled:
            seen["pool_gradients"] = taps.reduce(gradients[-1], L)
    return seen | {"output": output.detach()}


def watch(
    model, x, *, first=None, layers=None, rows=None, mean_heads=False, tokens=False
):
    """One forward under taps.

    Args:
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
    with (
        _one_at_a_time,
        as_it_was(model.net),
        torch.set_grad_enabled(first is not None),
    ):
        with torch.no_grad():
            plain = None if model.net in _proven else forward(model, x[:1])
        with as_it_was(model.net, ROUTED), taps:
            output = forward(model, x.detach())
    if plain is not None:
        tolerance = 1e-4 if taps.precision in EXACT else HALF
        require_equal(
            output[:1], plain, tolerance, "the model's output changes under capture"
        )
        _proven.add(model.net)
    return taps, output


def features(
    model, x, *, target=None, weights=None, layer: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters block `layer` of a ViT, or the last feature map of another tower; and
    gradients.

    A tower that pools by attention counts the pool as its last layer: what enters it is
    taken by default.

    Args:
        target: as in `capture`.
        weights: in its place, (B, K, E) directions, K for each image, of one forward.
    Returns:
        features (B, D, rows, columns) and the gradients of the score, the same; with
        `weights` (B, K, D, rows, columns).
    """
    directed = (
        directions(model, target, len(x))[:, None] if weights is None else weights
    )
    layers = layers_of(model) if has_attention(model) else []
    kept = None
    if layers:
        entry = layers[-1 if layer is None else layer]
        kept, output = _weighed(model, x, partial(_before, entry))
        laid = partial(_patches, model)
    elif layer is not None:
        raise ValueError(
            f"expected layer=None for {model.name}, which has no attention blocks; got {layer}"
        )
    if kept is None or not _holds_patches(model, kept, len(x)):
        place = last_place(model, x)
        kept, output = _weighed(model, x, partial(_behind, place.module))
        laid = place.laid
    grads = gradients_of(output, directed, kept)
    grads = laid(grads.flatten(0, 1)).unflatten(0, grads.shape[:2])
    return laid(kept.detach()), grads[:, 0] if weights is None else grads


def _weighed(model, x, hook_on):
    """The tensor that a hook meets, as the leaf that the output (B, E) is
    differentiated by.
    """
    kept = []

    def leaf(tensor):
        kept[:] = [tensor.detach().requires_grad_()]
        return kept[0].clone()  # a copy, since an in-place ReLU may follow

    with _one_at_a_time, as_it_was(model.net), torch.enable_grad():
        hook = hook_on(leaf)
        try:
            output = forward(model, x)
        finally:
            hook.remove()
    return kept[0], output


def _holds_patches(model, tokens, B):
    """Whether a block is given (B, T, D) with a token for each patch; a TNT's takes
    pixels first.
    """
    patches = model.grid[0] * model.grid[1]
    return tokens.ndim == 3 and len(tokens) == B and tokens.shape[1] >= patches


def _before(module, function):
    return module.register_forward_pre_hook(
        lambda _, args: (function(args[0]), *args[1:])
    )


def _behind(module, function):
    def change(_, __, out):
        if isinstance(out, tuple | list):
            return type(out)((function(out[0]), *out[1:]))
        return function(out)

    return module.register_forward_hook(change)


def _patches(model, tokens):
    """(B, T, D) -> (B, D, rows, columns), without what stands before the patches."""
    rows, columns = model.grid
    return tokens[:, -rows * columns :].mT.unflatten(-1, (rows, columns))


def gradients_of(output, weights, leaf) -> torch.Tensor:
    """(B, K, ...) gradients of K scores an image, from one forward: K passes backward.

    Args:
        output: (B, E) that depends on `leaf` (B, ...).
        weights: (B, K, E) directions.
    """
    scores = torch.einsum("be,bke->kb", output, weights.to(output)).sum(1)
    last = len(scores) - 1
    return torch.stack(
        [
            torch.autograd.grad(s, leaf, retain_graph=k < last)[0]
            for k, s in enumerate(scores)
        ],
        1,
    )


class _Taps:
    """Hooks on the blocks and the written-out attention, on between `with` and its end."""

    def __init__(self, model, batch, first, layers, rows, mean_heads, tokens):
        self.model, self.blocks = model, layers_of(model)
        self.pooled = attention_pool(model) is not None
        self.last = (
            len(self.blocks) - self.pooled
        )  # the pool's number, where there is one
        self.batch, self.first, self.rows, self.mean_heads = (
            batch,
            first,
            rows,
            mean_heads,
        )
        self.layers = range(self.last) if layers is None else layers
        self.keeps_tokens = tokens
        self.attention, self.live, self.tokens, self.values = (
            [None] * len(self.blocks) for _ in range(4)
        )
        self.given = None  # shape of what the block was given
        self.layer, self.thread, self.fused = (
            None,
            threading.get_ident(),
            F.scaled_dot_product_attention,
        )
        self.ran, self.precision = set(), None

    def __enter__(self):
        self.hooks = []
        for i, block in enumerate(self.blocks):
            self.hooks.append(block.register_forward_pre_hook(partial(self.enter, i)))
            self.hooks.append(
                block.register_forward_hook(lambda _, __, out, i=i: self.leave(i, out))
            )
        F.scaled_dot_product_attention = self.explicit

    def __exit__(self, *_):
        F.scaled_dot_product_attention = self.fused
        for hook in self.hooks:
            hook.remove()

    def enter(self, i, _, args):
        self.layer = i
        self.given = args[0].shape if args and torch.is_tensor(args[0]) else None

    def leave(self, i, out):
        if i not in self.ran:
            name = type(self.blocks[i]).__name__
            raise RuntimeError(
                f"expected attention that can be captured in block {i} ({name}) of "
                f"{self.model.name}, got none: it writes its own. Try method='occlusion'."
            )
        if self.keeps_tokens:
            self.tokens[i] = out.detach()
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
        i = self.layer
        if i is None or threading.get_ident() != self.thread or is_causal:
            return self.fused(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest
            )
        self.require_one_attention(i, query, key)
        with torch.no_grad():
            theirs = self.fused(query, key, value, attn_mask, scale=scale)
        graph = self.first is not None and i >= self.first
        B, heads, T, _ = query.shape
        step = (
            T if graph else max(1, min(T, CHUNK // (B * heads * key.shape[-2])))
        )  # rows of attention at a time
        outs, kept = [], []
        for at in (slice(t, t + step) for t in range(0, T, step)):
            weights = _softmax(
                query[:, :, at],
                key,
                attn_mask if step == T else _part(attn_mask, at),
                scale,
            )
            if graph:
                weights = self.live[i] = (
                    weights
                    if weights.requires_grad
                    else weights.detach().requires_grad_()
                )
            if i in self.layers or i == self.last:
                kept.append(self.reduce(weights, i, at))
            outs.append(weights.to(value.dtype) @ value)
            require_equal(
                outs[-1],
                theirs[:, :, at],
                EXACT.get(query.dtype, HALF),
                f"block {i}: softmax(QK) V",
            )
            require_equal(
                weights.sum(-1), torch.ones(()), 1e-5, f"block {i}: sums of rows"
            )
        if kept:
            whole = i == self.last or self.mixtures(T) is None
            self.attention[i] = torch.cat(kept, 2) if whole else sum(kept)
        if self.keeps_tokens:
            self.values[i] = value.detach()
        self.precision = query.dtype
        return outs[0] if len(outs) == 1 else torch.cat(outs, 2)

    def reduce(self, weights, i, at=slice(None)):
        """(B, heads, t, T) rows `at` of layer i's attention -> what is kept of them; of
        a pool all rows.
        """
        weights = weights.detach()
        weights = weights.mean(1, keepdim=True) if self.mean_heads else weights
        mixtures = None if i == self.last else self.mixtures(weights.shape[-1])
        return weights if mixtures is None else mixtures.to(weights)[:, at] @ weights

    def mixtures(self, T):
        return None if self.rows is None else self.rows(T)

    def read(self, T):
        """(1, T), or (B, 1, T) of an attention pool: what the embedding takes from each
        token of the last block.
        """
        if not self.pooled:
            return read_out(self.model, T)
        return self.pool_row(self.attention[self.last].mean(1), T)

    def pool_row(self, weights, T):
        """(B, Q, T or the patches alone) of a pool -> (B, 1, T), the row of the queries
        that are read.
        """
        row = read_queries(self.model, weights.shape[1]).to(weights) @ weights
        return F.pad(
            row, (T - row.shape[-1], 0)
        )  # a pool may leave out the tokens before the patches

    def require_one_attention(self, i, query, key):
        B, heads, T, _ = query.shape
        K = key.shape[-2]
        crossed = T != K and i != self.last
        # XCiT's attends from channel to channel, and their number says nothing of
        # patches
        if i != self.last and self.given is not None and T not in self.given[:2]:
            raise RuntimeError(
                f"expected attention between the tokens {tuple(self.given)} of block "
                f"{i}, got one between {T} others. Try method='gradcam'."
            )
        if i in self.ran or self.batch != B or crossed:
            raise RuntimeError(
                f"expected one self-attention (B={self.batch}, heads, T, T) in block {i}, got another "
                f"{(B, heads, T, K)}: windowed or crossed attention can't be laid over the scan"
            )
        self.ran.add(i)


def _softmax(query, key, mask, scale):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (scale * query) @ key.mT  # (B, heads, t, T)
    if mask is not None:
        bias = torch.zeros_like(logits)
        logits = logits + (
            bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
        )
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _part(mask, at):
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., at, :]
