"""Look inside an image tower while it runs: attention, tokens and their gradients.

All transformers met here (open_clip's and timm's, MONAI's with flash attention) end in
`torch.nn.functional.scaled_dot_product_attention`, which hides the weights. While a block of the tower runs, that
one function is replaced by the same formula written out, so one place serves them all.
"""

import threading
from contextlib import ExitStack, contextmanager
from numbers import Integral

import torch
import torch.nn.functional as F

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # of the largest value; half precision: 2e-2
_one_at_a_time = threading.RLock()  # the function that is replaced belongs to the whole process


def capture(model, x, *, target=None, first: int = 0) -> dict:
    """Run the image tower once and keep what its attention did.

    >>> seen = capture(model, model.preprocess(scan), target="pleural effusion")
    >>> seen["attention"].shape, seen["gradients"].shape          # 6 layers, 1 image, 3 heads, 101 tokens
    (torch.Size([6, 1, 3, 101, 101]), torch.Size([6, 1, 3, 101, 101]))

    The capture proves itself: in each block softmax(QK) V as re-derived here equals what the block's own attention
    gives (1e-5 in float32), rows sum to one, and the model's output is the same with and without the capture.
    The model comes back as it was: hooks, train or eval mode, `requires_grad`, fused attention.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        target: what to differentiate: a phrase or a (positive, negative) pair of phrases for an image-text model,
            a finding or class index for a classifier, or a list with one of these an image. None = no gradients.
        first: gradients are kept from this layer on; earlier ones cost no backward pass and stay zero.
    Returns:
        attention (L, B, heads, T, T), tokens (L, B, T, D) each block's output, output (B, E) unit embedding or
        (B, K) logits; with a target also score (B,) and gradients (L, B, heads, T, T) of the score.
    Raises:
        ValueError: the model has no attention, or the target doesn't suit it.
        RuntimeError: the capture isn't what the model computed.
    """
    blocks, x = attention_blocks(model), x.detach()
    weights = None if target is None else directions(model, target, len(x))
    first = range(len(blocks))[first]
    with _one_at_a_time, as_it_was(model.net), torch.set_grad_enabled(target is not None):
        with torch.no_grad():
            plain = forward(model, x[:1])
        taps = _Taps(blocks, len(x), first if target is not None else None)
        with taps:
            output = forward(model, x)
        _require_equal(output[:1], plain, 1e-4, "the model's output changes under capture")
        seen = {"attention": torch.stack(taps.attention).detach(), "tokens": torch.stack(taps.tokens).detach()}
        if target is not None:
            score = (output * weights.to(output)).sum(-1)
            grads = torch.autograd.grad(score.sum(), taps.attention[first:])
            seen |= {"score": score.detach(), "gradients": torch.zeros_like(seen["attention"])}
            seen["gradients"][first:] = torch.stack(grads)
        return seen | {"output": output.detach()}


def features(model, x, *, target, layer: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that enter block `layer` of a ViT (default: the last), or a CNN's last feature map; and gradients.

    Returns:
        two tensors (B, T, D) or (B, D, h, w): the features, and the gradient of the target's score.
    """
    weights, kept = directions(model, target, len(x)), []

    def leaf(tensor):
        kept[:] = [tensor.detach().requires_grad_()]
        return kept[0].clone()  # a copy, since an in-place ReLU may follow

    with _one_at_a_time, as_it_was(model.net), torch.enable_grad():
        if has_attention(model):
            block = attention_blocks(model)[-1 if layer is None else layer]
            hook = block.register_forward_pre_hook(lambda _, args: (leaf(args[0]), *args[1:]))
        elif layer is not None:
            raise ValueError(f"expected layer=None for {model.name}, which has no attention blocks; got {layer}")
        else:
            hook = _last_spatial(model, x[:1]).register_forward_hook(lambda *call: leaf(call[-1]))
        try:
            score = (forward(model, x) * weights.to(x.device)).sum()
        finally:
            hook.remove()
        return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def forward(model, x) -> torch.Tensor:
    """(B, E) unit embedding of an image-text model or a headless one, (B, K) logits of a classifier."""
    with torch.autocast(x.device.type, enabled=False):  # maps are float32, whatever the caller's precision
        return model.encode_image(x) if model.findings is None else model.classify(x)


def directions(model, target, n: int) -> torch.Tensor:
    """(n, E) vectors whose product with the model's output is the score of the target, one for each image."""
    targets = target if isinstance(target, list) else [target] * n
    if len(targets) != n:
        raise ValueError(f"expected one target, or a list of {n}, one an image; got a list of {len(targets)}")
    direction = _text_direction if model.findings is None else _class_direction
    known = {t: direction(model, t) for t in dict.fromkeys(targets)}
    return torch.stack([known[t] for t in targets])


def _class_direction(model, target):
    names = [f.casefold() for f in model.findings]
    if isinstance(target, str) and target.casefold() in names:
        target = names.index(target.casefold())
    if not isinstance(target, Integral) or not 0 <= target < len(names):
        raise ValueError(f"expected one of {list(model.findings)} or its index for {model.name}, got {target!r}")
    return F.one_hot(torch.tensor(int(target)), len(names)).float()


def _text_direction(model, target):
    if model.kind != "image-text":
        raise ValueError(f"{model.name} has neither a text tower nor classes, so it can't be asked for {target!r}")
    phrases = (target,) if isinstance(target, str) else target
    if not isinstance(phrases, tuple) or len(phrases) > 2 or not all(isinstance(p, str) for p in phrases):
        raise ValueError(f"expected a phrase or a pair (positive, negative) for {model.name}, got {target!r}")
    with torch.no_grad():
        text = model.encode_text(list(phrases)).float()
    return text[0] if len(phrases) == 1 else text[0] - text[1]


def has_attention(model) -> bool:
    return bool(_find_blocks(model))


def attention_blocks(model) -> list:
    """The transformer blocks of the image tower, in order."""
    blocks = _find_blocks(model)
    if not blocks:
        tower = type(getattr(model.net, "visual", model.net)).__name__
        raise ValueError(
            f"expected a ViT, got {model.name} ({tower}) without attention from each patch to all. Try method='gradcam'"
        )
    return blocks


def _find_blocks(model):
    named = getattr(model.net, "visual", model.net).named_modules()
    lists = [m for name, m in named if name.rpartition(".")[2] in ("resblocks", "blocks")]
    lists = [m for m in lists if any(hasattr(part, "num_heads") for part in m.modules())]
    return list(lists[0]) if len(lists) == 1 else []  # several: a pyramid of windows, as in Swin


def _last_spatial(model, x):
    last, (rows, cols) = [], model.grid  # an odd input size may round up

    def note(module, _, out):
        spatial = torch.is_tensor(out) and out.ndim == 4 and out.shape[-2:].numel() > 1
        if spatial and abs(out.shape[-2] - rows) < 2 and abs(out.shape[-1] - cols) < 2:
            last[:] = [module]

    with ExitStack() as stack, torch.no_grad():
        for module in model.net.modules():
            stack.callback(module.register_forward_hook(note).remove)
        forward(model, x)
    if not last:
        raise ValueError(f"expected a last feature map (B, C, {rows}, {cols}) in {model.name}, found none to weight")
    return last[0]


@contextmanager
def as_it_was(net):
    """Eval mode, no gradients of parameters, every attention through the one function; then all put back."""
    wanted = {"training": False, "fused_attn": True, "grad_checkpointing": False}
    settings = [(m, name, getattr(m, name)) for m in net.modules() for name in wanted if hasattr(m, name)]
    settings += [(p, "requires_grad", p.requires_grad) for p in net.parameters()]
    fastpath = torch.backends.mha.get_fastpath_enabled()  # a kernel of nn.MultiheadAttention that skips the function
    try:
        for owner, name, _ in settings:
            setattr(owner, name, wanted.get(name, False))
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        for owner, name, value in settings:
            setattr(owner, name, value)
        torch.backends.mha.set_fastpath_enabled(fastpath)


class _Taps:
    """Hooks on the blocks and the written-out attention, on between `with` and its end."""

    def __init__(self, blocks, batch, first):
        self.blocks, self.batch, self.first = blocks, batch, first
        self.attention, self.tokens = [None] * len(blocks), [None] * len(blocks)
        self.layer, self.thread, self.fused = None, threading.get_ident(), F.scaled_dot_product_attention

    def __enter__(self):
        self.hooks = []
        for i, block in enumerate(self.blocks):
            self.hooks.append(block.register_forward_pre_hook(lambda *_, i=i: setattr(self, "layer", i)))
            self.hooks.append(block.register_forward_hook(lambda _, __, out, i=i: self.leave(i, out)))
        F.scaled_dot_product_attention = self.explicit

    def __exit__(self, *_):
        F.scaled_dot_product_attention = self.fused
        for hook in self.hooks:
            hook.remove()

    def leave(self, i, out):
        if self.attention[i] is None:
            raise RuntimeError(f"block {i} ({type(self.blocks[i]).__name__}) ran no attention that can be captured")
        self.tokens[i], self.layer = out, None

    def explicit(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest):
        i = self.layer
        if i is None or threading.get_ident() != self.thread or is_causal:
            return self.fused(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest)
        logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)  # (B, heads, T, T)
        if attn_mask is not None:
            bias = torch.zeros_like(logits)
            logits = logits + (bias.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else attn_mask)
        weights = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        B, _, T, K = weights.shape
        if self.attention[i] is not None or self.batch != B or T != K:
            raise RuntimeError(
                f"expected one self-attention (B={self.batch}, heads, T, T) in block {i}, got another "
                f"{tuple(weights.shape)}: windowed or crossed attention can't be laid over the scan"
            )
        if self.first is not None and i >= self.first:
            weights = weights if weights.requires_grad else weights.detach().requires_grad_()
        self.attention[i] = weights
        out = weights.to(value.dtype) @ value
        with torch.no_grad():
            theirs = self.fused(query, key, value, attn_mask, scale=scale)
        _require_equal(out, theirs, TOLERANCE.get(query.dtype, 2e-2), f"block {i}: softmax(QK) V")
        _require_equal(weights.sum(-1), torch.ones(()), 1e-5, f"block {i}: sums of rows")
        return out


def _require_equal(mine, theirs, tolerance, what):
    error = float((mine - theirs).detach().abs().max())
    if not error <= tolerance * max(1.0, float(theirs.detach().abs().max())):  # also false for NaN
        raise RuntimeError(f"{what}: expected a difference under {tolerance:g}, got {error:.2g}; the map isn't trusted")
