"""Maps that follow attention through a ViT's layers, back from what it reads out."""

from functools import partial

import torch

from radwb.attend.capture import watch
from radwb.attend.methods import formulas
from radwb.attend.tower import attention_pool, layers_of, patches_of, read_out
from radwb.models.turns import in_turn


def attention(model, x, *, layer: int, head: int | None) -> torch.Tensor:
    """(B, 1, rows, columns): what the read-out got from each patch in one layer.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        layer: its number; an attention pool is the last.
        head: None = mean over heads.
    """
    pooled = attention_pool(model) is not None
    # a pool's row isn't known before it ran
    rows = None if pooled else partial(read_out, model)
    averaged = head is None
    taps, _ = watch(model, x, layers=(layer,), rows=rows, mean_heads=averaged)
    by_head = taps.attention[layer]  # (B, heads, R, T); one head where it is the mean
    row = by_head[:, head or 0]  # (B, R, T)
    T = row.shape[-1]
    if pooled and layer == taps.last:
        row = taps.pool_row(row, T)
    elif pooled:
        row = taps.read(T) @ row
    return patches_of(model, row)


def rollout(model, x, *, layer: int) -> torch.Tensor:
    """(B, 1, rows, columns): `formulas.rollout` from `layer` on."""
    read, attentions = _averaged(model, x, layer)
    if attentions is not None:
        read = formulas.rollout(attentions, rows=read)
    return patches_of(model, read)


def flow(model, x, *, layer: int) -> torch.Tensor:
    """(B, 1, rows, columns): `formulas.flow` from `layer` on."""
    read, attentions = _averaged(model, x, layer)
    if attentions is not None:
        rows = read.expand(len(x), 1, -1)
        by_image = attentions[:, :, 0].unbind(1)  # each (L, T, T)
        flows = []
        for of_image, row in zip(by_image, rows, strict=True):
            flows.append(formulas.flow(of_image, rows=row))
        read = torch.stack(flows)[:, None]  # (B, 1, T)
    return patches_of(model, read)


def _averaged(model, x, layer):
    """What is read of the tokens, and each layer's mean over heads from `layer` on.

    Returns:
        (1, T) or of an attention pool (B, 1, T); and (N, B, 1, T, T), or None where
        `layer` is the pool.
    """
    layers = range(layer, len(layers_of(model)))
    taps, _ = watch(model, x, layers=layers, mean_heads=True)
    attentions = None
    if not taps.pooled or layer != taps.last:
        attentions = torch.stack(taps.attention[layer : taps.last])
    T = taps.attention[layer].shape[-1]
    return taps.read(T), attentions


def relevance(model, x, weights, *, layer: int) -> torch.Tensor:
    """(B, K, rows, columns) from one forward and K passes backward.

    Each layer's gradient is reduced when it comes by. The identity that R starts from
    is left out, since it says the same of every patch that is read; an attention pool
    takes its place, and says how much each is read.

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) directions of K scores for each image.
        layer: the first that counts.
    """
    with in_turn(model.net):
        taps, output = watch(model, x, first=layer, layers=())
        gained = _gained(model, taps, output, weights, layer)
    return patches_of(model, torch.cat(gained, 1))


def _gained(model, taps, output, weights, layer):
    """For each of K scores the (B, 1, T) that `relevance` lays out."""
    live = taps.live[layer:]
    T = live[0].shape[-1]
    start = torch.zeros(1, T).to(output) if taps.pooled else read_out(model, T)
    gained = []  # a (B, 1, T) for each score so far

    def add_block(attention, gradient):
        gained[-1] = formulas.relevance_step(start, gained[-1], attention, gradient)

    def start_at_pool(attention, gradient):
        positive = (attention * gradient).clamp(min=0)
        over_heads = positive.mean(1)  # (B, Q, T)
        gained[-1] = taps.pool_row(over_heads, T)

    scores = torch.einsum("be,bke->kb", output, weights.to(output))
    scores = scores.sum(1)  # (K,)
    hooks = []
    for i, weights_of_layer in enumerate(live, layer):
        reduce = start_at_pool if i == taps.last else add_block
        hook = partial(reduce, weights_of_layer.detach())
        hooks.append(weights_of_layer.register_hook(hook))
    for k, score in enumerate(scores, 1):
        gained.append(torch.zeros_like(start))
        more = k < len(scores)
        torch.autograd.grad(score, live[0], retain_graph=more)
    for hook in hooks:
        hook.remove()
    return gained
