"""Four ways to turn a look inside into one map over the scan."""

import torch

from radwb.attend.capture import attention_blocks, capture, features, has_attention
from radwb.attend.map import Map
from radwb.data.geometry import to_scan

METHODS = ("attention", "rollout", "relevance", "gradcam")


def attention_map(model, scan, *, method="relevance", target=None, layer=None, head=None) -> Map:
    """Where the model looked, in the scan's own pixels.

    >>> attention_map(model, scan, target=("right pleural effusion", "no pleural effusion")).values.shape == scan.shape
    True

    Args:
        model: a `rw.models.Model`.
        scan: a `rw.data.Scan`.
        method: "attention": one layer's weights on the patches, of one head or the mean over heads; the class token's
            row, or the mean of the patches' rows where the tower averages them.
            "rollout": attention multiplied through the layers (Abnar & Zuidema 2020). Both ignore the target.
            "relevance": gradient times attention through the layers (Chefer et al. 2021).
            "gradcam": gradient-weighted features (Selvaraju et al. 2017); the one method for CNNs too.
        target: a phrase or a (positive, negative) pair for an image-text model, a finding or class index for a
            classifier. The score is the cosine of image and phrase, with a pair the difference of two cosines.
        layer: attention: which layer (default the last). rollout, relevance: the first layer multiplied
            (default 0). gradcam: the block whose input tokens are weighted (default the last). None for a CNN.
        head: only for "attention"; None = mean over heads.
    Raises:
        ValueError: the method doesn't suit the model, or the scan is seen as a single patch.
        RuntimeError: the capture failed its proof.
    """
    return attention_maps(model, [scan], method=method, targets=target, layer=layer, head=head)[0]


def attention_maps(model, scans, *, method="relevance", targets=None, layer=None, head=None, batch=16) -> list[Map]:
    """`attention_map` for many scans, in batches.

    Args:
        scans: list of Scan.
        targets: one target for all, or a list with one for each scan (a tuple is a positive-negative pair).
        batch: images in one pass.
    """
    _require_sense(model, method, targets, head)
    targets = targets if isinstance(targets, list) else [targets] * len(scans)
    if len(targets) != len(scans):
        raise ValueError(f"expected a target for each of {len(scans)} scans, got {len(targets)}")
    if method in ("attention", "rollout"):
        targets = [None] * len(scans)
    if has_attention(model):
        default = -1 if method in ("attention", "gradcam") else 0
        layer = range(len(attention_blocks(model)))[default if layer is None else layer]
    maps = []
    for i in range(0, len(scans), batch):
        few, asked = scans[i : i + batch], targets[i : i + batch]
        grids = _grids(model, model.preprocess(few), method, asked, layer, head).float().cpu().numpy()  # (B, gh, gw)
        for scan, target, grid in zip(few, asked, grids, strict=True):
            maps.append(Map(to_scan(grid, scan.shape, fit=model.fit), method, layer, head, target, model.name))
    return maps


def rollout(attention: torch.Tensor, *, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Attention multiplied through the layers, half of each step being the residual (arXiv:2005.00928, eq. 1).

    >>> rollout(seen["attention"])[:, 0, 1:]          # what the class token got from each patch

    Args:
        attention: (L, B, heads, T, T) or (L, heads, T, T), rows sum to one.
        rows: (R, T) mixtures of output tokens to follow back. Following one row costs T^2, not T^3, a layer.
            Default: every token.
    Returns:
        (B, R, T) or (R, T): the share of each input token in each row; rows sum to one.
    """
    eye = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    flow = eye if rows is None else rows
    for a in attention.mean(-3).flip(0):  # from the output back to the input
        step = 0.5 * a + 0.5 * eye
        flow = flow @ (step / step.sum(-1, keepdim=True))  # (B, R, T)
    return flow


def relevance(attention: torch.Tensor, gradients: torch.Tensor, *, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Relevance of each token for the score that was differentiated (arXiv:2103.15679, eq. 5 and 6).

    R starts as the identity; each layer adds mean over heads of max(gradient * attention, 0), times R.

    Args:
        attention, gradients: (L, B, heads, T, T) or (L, heads, T, T), the layers to multiply.
        rows: (R, T) as in `rollout`.
    Returns:
        (B, R, T) or (R, T).
    """
    flow = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device) if rows is None else rows
    for step in (attention * gradients).clamp(min=0).mean(-3).flip(0):
        flow = flow + flow @ step
    return flow


def gradcam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by their mean gradient, negative sums dropped (arXiv:1610.02391, eq. 1 and 2).

    Args:
        features, gradients: (B, D, h, w).
    Returns:
        (B, h, w).
    """
    return (gradients.mean((-2, -1), keepdim=True) * features).sum(1).relu()


def _grids(model, x, method, targets, layer, head):
    rows, cols = model.grid
    if method == "gradcam":
        found = features(model, x, target=targets, layer=layer)
        if found[0].ndim == 3:  # (B, T, D) -> (B, D, rows, cols)
            found = [t[:, -rows * cols :].mT.unflatten(-1, (rows, cols)) for t in found]
        return gradcam(*found)
    seen = capture(model, x, target=None if targets[0] is None else targets, first=layer)
    attention = seen["attention"]
    read = _read_out(model, attention)
    if method == "attention":
        chosen = attention[layer].mean(1) if head is None else attention[layer][:, head]
        flow = read @ chosen
    elif method == "rollout":
        flow = rollout(attention[layer:], rows=read)
    else:
        # less the identity that R starts from, which says the same of every patch that is read
        flow = relevance(attention[layer:], seen["gradients"][layer:], rows=read) - read
    return flow[:, 0, -rows * cols :].unflatten(-1, (rows, cols))


def _read_out(model, attention):
    """(1, T): the mixture of tokens that becomes the embedding: the class token, else the mean of the patches."""
    tower = getattr(model.net, "visual", model.net)
    tower = getattr(tower, "trunk", tower)
    T, patches = attention.shape[-1], model.grid[0] * model.grid[1]
    pool = getattr(tower, "pool_type", getattr(tower, "global_pool", "token"))
    read = attention.new_zeros(1, T)
    if patches < T and pool in ("tok", "token"):
        read[0, 0] = 1
    else:
        read[0, T - patches :] = 1 / patches
    return read


def _require_sense(model, method, targets, head):
    if method not in METHODS:
        raise ValueError(f"expected a method of {METHODS}, got {method!r}")
    if method in ("relevance", "gradcam") and targets is None:
        raise ValueError(f"{method} differentiates a score: expected a target, got None. Try 'pleural effusion'.")
    if head is not None and method != "attention":
        raise ValueError(f"expected head=None for {method}, which takes all heads; got {head}")
    if method != "gradcam":
        attention_blocks(model)
    if model.grid[0] * model.grid[1] < 2:
        raise ValueError(f"{model.name} sees the scan as one patch, so no map can say where; expected a finer grid")
