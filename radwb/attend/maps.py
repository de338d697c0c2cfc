"""Maps of all kinds: what `methods` computes, checked and laid over the scan."""

import numpy as np
import torch

from radwb.attend.map import Map, note_of
from radwb.attend.methods import METHODS, TABLE, Method
from radwb.attend.progress import in_batches
from radwb.attend.targets import directions
from radwb.attend.tower import (
    attention_blocks,
    has_attention,
    in_float32,
    layers_of,
)
from radwb.data.geometry import to_scan
from radwb.data.scan import Scan
from radwb.models.model import Model


def attention_map(
    model: Model,
    scan: Scan,
    *,
    method: str = "relevance",
    target: str | tuple | int | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> Map:
    """Where the model looked, in the scan's own pixels.

    Safe from several threads, also on one model: they take turns, batch by batch.

    >>> pair = ("right pleural effusion", "no pleural effusion")
    >>> attention_map(model, scan, target=pair).values.shape == scan.shape
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
    Returns:
        the map; its values are 0 or more.
    Raises:
        ValueError: the method doesn't suit the model, or the scan is seen as a single
            patch.
        RuntimeError: the capture failed its proof.
    """
    maps = attention_maps(
        model, [scan], method=method, targets=target, layer=layer, head=head
    )
    return maps[0]


def attention_maps(
    model: Model,
    scans: list[Scan] | Scan,
    *,
    method: str = "relevance",
    targets: str | tuple | int | list | None = None,
    layer: int | None = None,
    head: int | None = None,
    batch: int = 16,
) -> list[Map]:
    """`attention_map` for many scans, in batches; or for many targets of one scan.

    >>> maps = attention_maps(model, scan, targets=["cardiomegaly", "pneumothorax"])
    >>> [m.target for m in maps]                       # a Scan, no list: a map a target
    ['cardiomegaly', 'pneumothorax']

    Args:
        model: as in `attention_map`, like method, layer and head.
        scans: list of Scan; or one Scan, whose maps for all targets then share what
            they can, such as the forward pass.
        targets: one target for all, or a list with one for each scan (a tuple is a
            positive-negative pair).
        batch: images in one pass.
    Returns:
        one map a scan, or a target of the one scan.
    Raises:
        ValueError: as `attention_map`, or there isn't a target for each scan.
    """
    several = isinstance(scans, list | tuple)
    per_scan = targets
    if not isinstance(targets, list):
        per_scan = [targets] * (len(scans) if several else 1)
    require_sense(model, method, targets, head, layer)
    if several and len(per_scan) != len(scans):
        raise ValueError(
            f"expected a target for each of {len(scans)} scans, got {len(per_scan)}"
        )
    if not TABLE[method].target:
        per_scan = [None] * len(per_scan)
    layer = layer_number(model, TABLE[method], layer)
    if several:
        jobs = list(zip(scans, [[target] for target in per_scan], strict=True))
    else:
        jobs = [(scans, per_scan)]
    maps = []
    for some_jobs in in_batches(jobs, batch, method):
        placed = _placed_grids(model, some_jobs, method, layer, head)
        for scan, target, grid in placed:
            note = note_of(grid, method, target)
            values = to_scan(grid, scan.shape, fit=model.fit, aspect=scan.aspect)
            maps.append(Map(values, method, layer, head, target, model.name, note=note))
    return maps


def _placed_grids(model, jobs, method, layer, head):
    """(scan, target, its grid) of each target of each scan of one pass.

    Args:
        jobs: (scan, its K targets) each.
    """
    scans, targets = zip(*jobs, strict=True)
    x = model.preprocess(list(scans))
    values = grids(model, x, method, list(targets), layer, head).cpu().numpy()
    for scan, of_scan, its_grids in zip(scans, targets, values, strict=True):
        for target, grid in zip(of_scan, its_grids, strict=True):
            yield scan, target, grid


def grids(
    model, x, method: str, targets: list[list], layer=None, head=None
) -> torch.Tensor:
    """The maps of `attention_maps` before they are laid over a scan.

    Args:
        model: a `rw.models.Model`.
        x: (B, C, S, S) as `model.preprocess` gives it.
        method: a name in `METHODS`.
        targets: K targets for each image.
        layer, head: as in `attention_map`.
    Returns:
        (B, K, gh, gw) float32, 0 or more, a grid over the model's input: its patches,
        or its pixels.
    """
    kind = TABLE[method]
    model = in_float32(model)
    K = len(targets[0])
    needs = {}
    if kind.target:
        one_by_one = [target for of_image in targets for target in of_image]
        weights = directions(model, one_by_one, len(one_by_one))
        needs["weights"] = weights.unflatten(0, (-1, K)).to(x)  # (B, K, E)
    if kind.layer:
        needs["layer"] = layer_number(model, kind, layer)
    if kind.head:
        needs["head"] = head
    values = kind.unsigned(kind.compute(model, x, **needs).float())
    return values.expand(len(x), K, -1, -1)


def layer_number(model, kind: Method, layer: int | None) -> int | None:
    """The layer's number from 0; None where the method or the tower has none."""
    if not kind.layer or not has_attention(model):
        return layer
    number = kind.default_layer if layer is None else layer
    return range(len(layers_of(model)))[number]


def require_sense(model, method: str, targets, head, layer=None) -> None:
    """ValueError where the arguments of `attention_map` don't go together."""
    if method not in TABLE:
        raise ValueError(f"expected a method of {METHODS}, got {method!r}")
    kind = TABLE[method]
    if kind.target and targets is None:
        raise ValueError(
            f"{method} needs a score to explain: expected a target, got None. "
            "Try 'pleural effusion'."
        )
    if head is not None and not kind.head:
        raise ValueError(
            f"expected head=None for {method}, which takes all heads; got {head}"
        )
    if layer is not None and not kind.layer:
        raise ValueError(
            f"expected layer=None for {method}, which asks the whole network; "
            f"got {layer}"
        )
    if kind.attention:
        attention_blocks(model)
    if np.prod(model.grid) < 2:
        raise ValueError(
            f"{model.name} sees the scan as one patch, so no map can say where; "
            "expected a finer grid"
        )
