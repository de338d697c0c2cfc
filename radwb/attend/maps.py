"""Many ways to turn a look inside, or a change outside, into one map over the scan."""

import torch

from radwb.attend import formulas
from radwb.attend.capture import features, watch
from radwb.attend.formulas import relevance, rollout
from radwb.attend.gradients import integrated_gradients, smoothgrad
from radwb.attend.grounding import similarity
from radwb.attend.map import Map, note_of
from radwb.attend.perturb import occlusion, rise
from radwb.attend.progress import steps
from radwb.attend.targets import directions
from radwb.attend.tower import (
    attention_blocks,
    attention_pool,
    has_attention,
    in_float32,
    layers_of,
    read_out,
)
from radwb.attend.values import value_norms
from radwb.data.geometry import to_scan

ONE_LAYER = ("attention", "value_norm")  # one layer, perhaps one head of it
FROM_LAYER = ("rollout", "flow", "relevance")  # all layers from one on
CAMS = {
    "gradcam": formulas.gradcam,
    "gradcam++": formulas.gradcam_plus_plus,
    "layercam": formulas.layercam,
}
OUTSIDE = {
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "occlusion": occlusion,
    "rise": rise,
    "similarity": similarity,
}
UNASKED = ("attention", "rollout", "flow", "value_norm")  # they ignore the target
METHODS = (
    "attention",
    "rollout",
    "relevance",
    "gradcam",
    "gradcam++",
    "layercam",
    "integrated_gradients",
    "smoothgrad",
    "occlusion",
    "rise",
    "similarity",
    "value_norm",
    "flow",
)

__all__ = ["METHODS", "attention_map", "attention_maps", "relevance", "rollout"]


def attention_map(
    model, scan, *, method="relevance", target=None, layer=None, head=None
) -> Map:
    """Where the model looked, in the scan's own pixels.

    >>> attention_map(model, scan, target=("right pleural effusion", "no pleural effusion")).values.shape == scan.shape
    True

    Args:
        model: a `rw.models.Model`. One in half precision is copied to float32 first.
        scan: a `rw.data.Scan`.
        method: of ViTs, without a target:
            "attention": one layer's weights on the patches, of one head or the mean
            over heads; the class token's row, or the mean of the patches' rows where
            the tower averages them. Where it pools by attention (SigLIP, PE, CoCa) the
            pool is one more layer, the last: its own row, and in an earlier layer the
            rows of all tokens in the shares that the pool reads them.
            "value_norm": the same, each weight times the size of what is handed over
            (Kobayashi et al. 2020); not of towers that pool by attention.
            "rollout": attention multiplied through the layers (Abnar & Zuidema 2020),
            last by the pool's row if any.
            "flow": the most that can flow through the layers (same paper); 12 s a scan
            on a ViT-B/16.
            Of ViTs, for a target:
            "relevance": gradient times attention through the layers (Chefer et al.
            2021), a pool's as the last.
            "similarity": cosine of each patch with the text, less the lowest;
            image-text models only.
            Of ViTs and CNNs, for a target:
            "gradcam", "gradcam++", "layercam": features weighted by gradients
            (Selvaraju et al. 2017, Chattopadhay et al. 2018, Jiang et al. 2021).
            "gradcam++" is meant for features behind a ReLU, which a ViT hasn't.
            "integrated_gradients": 32 steps from a black film, what raised the score
            (Sundararajan et al. 2017).
            "smoothgrad": size of the mean gradient of 25 noisy copies (Smilkov et al.
            2017).
            "occlusion": drop of the score with one patch hidden under the image's mean
            (Zeiler & Fergus 2014).
            "rise": the same with 1,000 random masks (Petsiuk et al. 2018). Seeds are
            fixed: two calls are equal.
        target: a phrase or a (positive, negative) pair for an image-text model, a
            finding or class index for a classifier, the number of a neuron of the
            embedding for any model without `findings`. The score is the cosine of image
            and phrase, with a pair the difference of two cosines.
        layer: attention, value_norm: which layer (default the last). rollout, flow,
            relevance: the first layer that counts (default 0). gradcam and kin: the
            layer whose input tokens are weighted (default the last). None for the
            others, and for towers without blocks that see all patches: their last
            feature map is weighted.
        head: only for "attention" and "value_norm"; None = mean over heads, of
            value_norm the norm of their sum.
    Raises:
        ValueError: the method doesn't suit the model, or the scan is seen as a single
            patch.
        RuntimeError: the capture failed its proof.
    """
    return attention_maps(
        model, [scan], method=method, targets=target, layer=layer, head=head
    )[0]


def attention_maps(
    model, scans, *, method="relevance", targets=None, layer=None, head=None, batch=16
) -> list[Map]:
    """`attention_map` for many scans, in batches; or for many targets of one scan, from
    one forward.

    >>> attention_maps(model, scan, targets=["cardiomegaly", "pneumothorax"])      # a Scan, no list: a map a target

    Args:
        scans: list of Scan; or one Scan, whose maps for all targets then share what
            they can.
        targets: one target for all, or a list with one for each scan (a tuple is a
            positive-negative pair).
        batch: images in one pass.
    """
    one = not isinstance(scans, list | tuple)
    asked = (
        targets if isinstance(targets, list) else [targets] * (1 if one else len(scans))
    )
    require_sense(model, method, targets, head, layer)
    if not one and len(asked) != len(scans):
        raise ValueError(
            f"expected a target for each of {len(scans)} scans, got {len(asked)}"
        )
    if method in UNASKED:
        asked = [None] * len(asked)
    layer, maps = _layer(model, method, layer), []
    scans = [scans] if one else scans
    starts = range(0, len(scans), batch)
    for i in steps(starts, method) if len(starts) > 1 else starts:
        few = scans[i : i + batch]
        some = (
            [asked] if one else [[t] for t in asked[i : i + batch]]
        )  # K targets for each scan
        found = (
            grids(model, model.preprocess(few), method, some, layer, head).cpu().numpy()
        )
        for scan, many, its in zip(few, found, some, strict=True):
            for grid, target in zip(many, its, strict=True):
                values = to_scan(grid, scan.shape, fit=model.fit, aspect=scan.aspect)
                note = note_of(grid, method, target)
                maps.append(
                    Map(values, method, layer, head, target, model.name, note=note)
                )
    return maps


def grids(
    model, x, method: str, targets: list[list], layer=None, head=None
) -> torch.Tensor:
    """The maps of `attention_maps` before they are laid over a scan.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it.
        targets: K targets for each image.
    Returns:
        (B, K, gh, gw) float32, 0 or more, a grid over the model's input: its patches,
        or its pixels.
    """
    model, layer, K = in_float32(model), _layer(model, method, layer), len(targets[0])
    if method in UNASKED:
        return (
            _patches(model, _unasked(model, x, method, layer, head))
            .expand(-1, K, -1, -1)
            .float()
        )
    flat = [target for its in targets for target in its]
    weights = (
        directions(model, flat, len(flat)).unflatten(0, (-1, K)).to(x)
    )  # (B, K, E)
    if method in CAMS:
        return _cam(model, x, weights, CAMS[method], layer).float()
    if method == "relevance":
        return _patches(model, _relevance(model, x, weights, layer)).float()
    found = OUTSIDE[method](model, x, weights).float()
    if method == "similarity":
        return found - found.amin((-2, -1), keepdim=True)
    return found.abs() if method == "smoothgrad" else found.clamp(min=0)


def _unasked(model, x, method, layer, head):
    """(B, 1, T): what the read-out took from each token."""
    if method == "value_norm":
        return value_norms(model, x, layer, head)
    L = len(attention_blocks(model))
    pooled = attention_pool(model) is not None
    row_only = (
        method == "attention" and not pooled
    )  # a pool's row isn't known before it ran
    mean_heads = head is None or method != "attention"
    taps, _ = watch(
        model,
        x,
        layers=(layer,) if method == "attention" else range(layer, L),
        rows=(lambda T: read_out(model, T)) if row_only else None,
        mean_heads=mean_heads,
    )
    if method == "attention":
        return _attention(model, taps, layer, head, row_only)
    if layer == L:  # the pool alone
        return taps.read(taps.attention[L].shape[-1])
    seen = torch.stack(taps.attention[layer:L])  # (N, B, 1, T, T)
    read = taps.read(seen.shape[-1])
    if method == "rollout":
        return rollout(seen, rows=read)
    rows = read if pooled else read.expand(len(x), 1, -1)
    images = zip(seen[:, :, 0].unbind(1), rows, strict=True)
    return torch.stack([formulas.flow(one, rows=row) for one, row in images])[:, None]


def _attention(model, taps, layer, head, row_only):
    """(B, 1, T): the row of one layer that the embedding reads."""
    one = taps.attention[layer][:, 0 if head is None else head]  # (B, R, T)
    if row_only:
        return one
    T = one.shape[-1]
    return taps.pool_row(one, T) if layer == taps.last else taps.read(T) @ one


def _relevance(model, x, weights, layer):
    """(B, K, T) from one forward and K passes backward; each layer's gradient is
    reduced when it comes by.

    Without the identity that R starts from, which says the same of every patch that is
    read; an attention pool takes its place, and says how much each is read.
    """
    taps, output = watch(model, x, first=layer, layers=())
    live = taps.live[layer:]
    T = live[0].shape[-1]
    start = torch.zeros(1, T).to(output) if taps.pooled else read_out(model, T)
    gained = []

    def block(attention):
        def reduce(gradient):
            gained[-1] = formulas.relevance_step(
                start, gained[-1], attention.detach(), gradient
            )

        return attention.register_hook(reduce)

    def pool(attention):
        def reduce(gradient):
            rises = (attention.detach() * gradient).clamp(min=0).mean(1)  # (B, Q, T)
            gained[-1] = taps.pool_row(rises, T)

        return attention.register_hook(reduce)

    scores = torch.einsum("be,bke->kb", output, weights.to(output)).sum(1)
    hooks = [pool(a) if i == taps.last else block(a) for i, a in enumerate(live, layer)]
    for k, score in enumerate(scores):
        gained.append(torch.zeros_like(start))
        torch.autograd.grad(score, live[0], retain_graph=k + 1 < len(scores))
    for hook in hooks:
        hook.remove()
    return torch.cat(gained, 1)


def _cam(model, x, weights, formula, layer):
    values, grads = features(
        model, x, weights=weights, layer=layer
    )  # (B, D, h, w), (B, K, D, h, w)
    return formula(values[:, None], grads)


def _patches(model, flow):
    """(B, K, T) -> (B, K, rows, cols)."""
    rows, cols = model.grid
    return flow[..., -rows * cols :].unflatten(-1, (rows, cols))


def _layer(model, method, layer):
    if method in OUTSIDE or not has_attention(model):
        return layer
    default = 0 if method in FROM_LAYER else -1
    return range(len(layers_of(model)))[default if layer is None else layer]


def require_sense(model, method, targets, head, layer=None):
    if method not in METHODS:
        raise ValueError(f"expected a method of {METHODS}, got {method!r}")
    if method not in UNASKED and targets is None:
        raise ValueError(
            f"{method} needs a score to explain: expected a target, got None. Try 'pleural effusion'."
        )
    if head is not None and method not in ONE_LAYER:
        raise ValueError(
            f"expected head=None for {method}, which takes all heads; got {head}"
        )
    if layer is not None and method in OUTSIDE:
        raise ValueError(
            f"expected layer=None for {method}, which asks the whole network; got {layer}"
        )
    if method in ONE_LAYER or method in FROM_LAYER:
        attention_blocks(model)
    if model.grid[0] * model.grid[1] < 2:
        raise ValueError(
            f"{model.name} sees the scan as one patch, so no map can say where; expected a finer grid"
        )
