"""Many ways to turn a look inside, or a change outside, into one map over the scan."""

import torch

from radwb.attend import formulas
from radwb.attend.capture import features, watch
from radwb.attend.formulas import relevance, rollout
from radwb.attend.gradients import integrated_gradients, smoothgrad
from radwb.attend.grounding import similarity
from radwb.attend.map import Map
from radwb.attend.perturb import occlusion, rise
from radwb.attend.progress import steps
from radwb.attend.targets import directions
from radwb.attend.tower import attention_blocks, has_attention, in_float32, read_out
from radwb.attend.values import value_norms
from radwb.data.geometry import to_scan

ONE_LAYER = ("attention", "value_norm")  # one layer, perhaps one head of it
FROM_LAYER = ("rollout", "flow", "relevance")  # all layers from one on
CAMS = {"gradcam": formulas.gradcam, "gradcam++": formulas.gradcam_plus_plus, "layercam": formulas.layercam}
OUTSIDE = {"integrated_gradients": integrated_gradients, "smoothgrad": smoothgrad, "occlusion": occlusion,
           "rise": rise, "similarity": similarity}  # fmt: skip
UNASKED = ("attention", "rollout", "flow", "value_norm")  # they ignore the target
METHODS = ("attention", "rollout", "relevance", "gradcam", "gradcam++", "layercam", "integrated_gradients",
           "smoothgrad", "occlusion", "rise", "similarity", "value_norm", "flow")  # fmt: skip

__all__ = ["METHODS", "attention_map", "attention_maps", "relevance", "rollout"]


def attention_map(model, scan, *, method="relevance", target=None, layer=None, head=None) -> Map:
    """Where the model looked, in the scan's own pixels.

    >>> attention_map(model, scan, target=("right pleural effusion", "no pleural effusion")).values.shape == scan.shape
    True

    Args:
        model: a `rw.models.Model`. One in half precision is copied to float32 first.
        scan: a `rw.data.Scan`.
        method: of ViTs, without a target:
            "attention": one layer's weights on the patches, of one head or the mean over heads; the class token's
            row, or the mean of the patches' rows where the tower averages them.
            "value_norm": the same, each weight times the size of what is handed over (Kobayashi et al. 2020).
            "rollout": attention multiplied through the layers (Abnar & Zuidema 2020).
            "flow": the most that can flow through the layers (same paper); 12 s a scan on a ViT-B/16.
            Of ViTs, for a target:
            "relevance": gradient times attention through the layers (Chefer et al. 2021).
            "similarity": cosine of each patch with the text, less the lowest; image-text models only.
            Of ViTs and CNNs, for a target:
            "gradcam", "gradcam++", "layercam": features weighted by gradients (Selvaraju et al. 2017, Chattopadhay
            et al. 2018, Jiang et al. 2021). "gradcam++" is meant for features behind a ReLU, which a ViT hasn't.
            "integrated_gradients": 32 steps from a black film, what raised the score (Sundararajan et al. 2017).
            "smoothgrad": size of the mean gradient of 25 noisy copies (Smilkov et al. 2017).
            "occlusion": drop of the score with one patch hidden under the image's mean (Zeiler & Fergus 2014).
            "rise": the same with 1,000 random masks (Petsiuk et al. 2018). Seeds are fixed: two calls are equal.
        target: a phrase or a (positive, negative) pair for an image-text model, a finding or class index for a
            classifier, the number of a neuron of the embedding for any model without `findings`. The score is the
            cosine of image and phrase, with a pair the difference of two cosines.
        layer: attention, value_norm: which layer (default the last). rollout, flow, relevance: the first layer that
            counts (default 0). gradcam and kin: the block whose input tokens are weighted (default the last). None
            for a CNN and for the others.
        head: only for "attention" and "value_norm"; None = mean over heads, of value_norm the norm of their sum.
    Raises:
        ValueError: the method doesn't suit the model, or the scan is seen as a single patch.
        RuntimeError: the capture failed its proof.
    """
    return attention_maps(model, [scan], method=method, targets=target, layer=layer, head=head)[0]


def attention_maps(model, scans, *, method="relevance", targets=None, layer=None, head=None, batch=16) -> list[Map]:
    """`attention_map` for many scans, in batches; or for many targets of one scan, from one forward.

    >>> attention_maps(model, scan, targets=["cardiomegaly", "pneumothorax"])      # a Scan, no list: a map a target

    Args:
        scans: list of Scan; or one Scan, whose maps for all targets then share what they can.
        targets: one target for all, or a list with one for each scan (a tuple is a positive-negative pair).
        batch: images in one pass.
    """
    one = not isinstance(scans, list | tuple)
    asked = targets if isinstance(targets, list) else [targets] * (1 if one else len(scans))
    require_sense(model, method, targets, head, layer)
    if not one and len(asked) != len(scans):
        raise ValueError(f"expected a target for each of {len(scans)} scans, got {len(asked)}")
    if method in UNASKED:
        asked = [None] * len(asked)
    layer, maps = _layer(model, method, layer), []
    scans = [scans] if one else scans
    starts = range(0, len(scans), batch)
    for i in steps(starts, method) if len(starts) > 1 else starts:
        few = scans[i : i + batch]
        some = [asked] if one else [[t] for t in asked[i : i + batch]]  # K targets for each scan
        found = grids(model, model.preprocess(few), method, some, layer, head).cpu().numpy()
        for scan, many, its in zip(few, found, some, strict=True):
            for grid, target in zip(many, its, strict=True):
                values = to_scan(grid, scan.shape, fit=model.fit, aspect=scan.aspect)
                maps.append(Map(values, method, layer, head, target, model.name))
    return maps


def grids(model, x, method: str, targets: list[list], layer=None, head=None) -> torch.Tensor:
    """The maps of `attention_maps` before they are laid over a scan.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it.
        targets: K targets for each image.
    Returns:
        (B, K, gh, gw) float32, 0 or more, a grid over the model's input: its patches, or its pixels.
    """
    model, layer, K = in_float32(model), _layer(model, method, layer), len(targets[0])
    if method in UNASKED:
        return _patches(model, _unasked(model, x, method, layer, head)).expand(-1, K, -1, -1).float()
    flat = [target for its in targets for target in its]
    weights = directions(model, flat, len(flat)).unflatten(0, (-1, K)).to(x)  # (B, K, E)
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

    def read(T):
        return read_out(model, T)

    if method == "attention":
        seen = watch(model, x, layers=(layer,), rows=read, mean_heads=head is None)[0].attention[layer]
        return seen[:, 0 if head is None else head]
    layers = range(layer, len(attention_blocks(model)))
    seen = torch.stack(watch(model, x, layers=layers, mean_heads=True)[0].attention[layer:])  # (L, B, 1, T, T)
    if method == "rollout":
        return rollout(seen, rows=read(seen.shape[-1]))
    flows = [formulas.flow(one[:, 0], rows=read(seen.shape[-1])) for one in seen.transpose(0, 1)]
    return torch.stack(flows)[:, None]


def _relevance(model, x, weights, layer):
    """(B, K, T) from one forward and K passes backward; each layer's gradient is reduced when it comes by."""
    taps, output = watch(model, x, first=layer, layers=())
    live = taps.live[layer:]
    read = read_out(model, live[0].shape[-1])
    gained = []

    def step(attention):
        def reduce(gradient):
            gained[-1] = formulas.relevance_step(read, gained[-1], attention.detach(), gradient)

        return attention.register_hook(reduce)

    scores = torch.einsum("be,bke->kb", output, weights.to(output)).sum(1)
    hooks = [step(a) for a in live]
    for k, score in enumerate(scores):
        gained.append(torch.zeros_like(read))
        torch.autograd.grad(score, live[0], retain_graph=k + 1 < len(scores))
    for hook in hooks:
        hook.remove()
    # without the identity that R starts from, which says the same of every patch that is read
    return torch.cat(gained, 1)


def _cam(model, x, weights, formula, layer):
    rows, cols = model.grid
    values, grads = features(model, x, weights=weights, layer=layer)  # (B, T, D), (B, K, T, D); or (B, D, h, w), ...
    if values.ndim == 3:
        values, grads = (t[..., -rows * cols :, :].mT.unflatten(-1, (rows, cols)) for t in (values, grads))
    return formula(values[:, None], grads)


def _patches(model, flow):
    """(B, K, T) -> (B, K, rows, cols)."""
    rows, cols = model.grid
    return flow[..., -rows * cols :].unflatten(-1, (rows, cols))


def _layer(model, method, layer):
    if method in OUTSIDE or not has_attention(model):
        return layer
    default = 0 if method in FROM_LAYER else -1
    return range(len(attention_blocks(model)))[default if layer is None else layer]


def require_sense(model, method, targets, head, layer=None):
    if method not in METHODS:
        raise ValueError(f"expected a method of {METHODS}, got {method!r}")
    if method not in UNASKED and targets is None:
        raise ValueError(f"{method} needs a score to explain: expected a target, got None. Try 'pleural effusion'.")
    if head is not None and method not in ONE_LAYER:
        raise ValueError(f"expected head=None for {method}, which takes all heads; got {head}")
    if layer is not None and method in OUTSIDE:
        raise ValueError(f"expected layer=None for {method}, which asks the whole network; got {layer}")
    if method in ONE_LAYER or method in FROM_LAYER:
        attention_blocks(model)
    if model.grid[0] * model.grid[1] < 2:
        raise ValueError(f"{model.name} sees the scan as one patch, so no map can say where; expected a finer grid")
