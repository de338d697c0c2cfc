"""Maps on volumes by a 3-D network, which sees the whole of it."""

from numbers import Integral

import numpy as np
import torch

from radwb.attend.map import Map, note_of
from radwb.attend.volumes.methods import gradcam, occlusion
from radwb.attend.volumes.net import output_of, quiet, score_of
from radwb.attend.volumes.rows import row_flow
from radwb.attend.volumes.windows import window_blocks, window_flow
from radwb.data.scan import Volume
from radwb.models.memory import require_memory
from radwb.models.net3d import Net3d
from radwb.models.voxels import require_room, spread, turned_back, turns_of

OF_TOKENS = ("attention", "rollout", "relevance")  # followed from token to token
OF_A_SCORE = ("relevance", "gradcam", "occlusion")  # these need a target
METHODS_3D = (*OF_TOKENS, "gradcam", "occlusion")


def volume_map(
    net: Net3d,
    volume: Volume,
    *,
    method: str = "gradcam",
    target: int | str | torch.Tensor | None = None,
    layer: int | str | None = None,
    head: int | None = None,
    mask: tuple[int, int, int] | None = None,
    step: int = 1,
) -> Map:
    """Where your 3-D network looked in a CT or MR, in the volume's own voxels.

    Safe from several threads, as `attention_map` is.

    >>> conv = torch.nn.Conv3d(1, 2, kernel_size=3, padding=1)
    >>> layers = torch.nn.Sequential(conv, torch.nn.ReLU())
    >>> net = rw.attend.Net3d(layers, (16, 16, 16), window_hu=(-1000, 400))
    >>> volume_map(net, ct, target=1).values.shape == ct.shape
    True

    Args:
        method: "gradcam" and "occlusion" for any network; "attention", "rollout" and
            "relevance" as in `attention_map` for a MONAI ViT, and read at the mean of
            the last block's tokens for a MONAI Swin (`SwinUNETR`, or its `swinViT`
            alone), whose tokens attend within windows: see `windows.window_flow` for
            what that assumes.
        target: index or finding of an output, or a (K,) direction to multiply the
            outputs with (a text's embedding).
        layer: of a ViT as in `attention_map`; of a Swin a block, counted through all
            stages, and the map has that block's grid. For Grad-CAM of a Swin or CNN the
            name of the module whose feature map is weighed; default the last one of
            more than one voxel. How its axes lie over the input is asked of the
            network, once, by seven forward passes: it may turn or flip them in its
            `forward`.
        head: only for "attention"; None = mean over heads.
        mask: (d, h, w) of the box that occlusion fills with the input's mean, in voxels
            of the input; default an eighth of each side. The map is the fall of the
            score, 0 where it rises.
        step: 2 gives the map at every second voxel of each axis, with the affine to
            match.
    Raises:
        ValueError: the method doesn't suit the network, the target isn't known, or the
            map is larger than memory.
        RuntimeError: softmax(QK) V as re-derived isn't what a block computed.
    """
    layer = _checked_layer(net, method, target, layer, head)
    require_room(volume.shape, step)
    turns = turns_of(volume, net.axes)
    x = net.preprocess(volume)
    with quiet(net):
        require_memory(net.net, x, net.name)
    if method == "gradcam":
        grid = gradcam(net, x, target, layer)
    elif method == "occlusion":
        grid = occlusion(net, x, target, mask).relu()
    else:
        grid = _flow(net, x, method, target, layer, head)
    grid = turned_back(grid.float().cpu().numpy(), turns)
    values = spread(grid, volume.shape, step, net.spans(volume))
    affine = volume.affine
    if affine is not None:
        affine = affine @ np.diag([step, step, step, 1.0])
    if method not in OF_A_SCORE:
        target = None
    elif torch.is_tensor(target):
        target = "a direction"
    note = note_of(values, method, target)
    layer = None if method == "occlusion" else layer
    return Map(values, method, layer, head, target, net.name, affine, note=note)


def _flow(net, x, method, target, layer, head):
    """(d, h, w) of a transformer: what the read-out got from each token."""

    def run():
        return output_of(net, x)

    def score(output):
        return score_of(net, output, target).sum()

    differentiated = score if method == "relevance" else None
    if net.grid:
        return row_flow(net, run, differentiated, method, layer, head)
    with quiet(net):
        return window_flow(net.net, run, differentiated, method, layer, head)


def _checked_layer(net, method, target, layer, head):
    """The layer that is meant, or a ValueError where these don't go together.

    A number from 0 of a transformer; a name or None for Grad-CAM of another network.
    """
    if method not in METHODS_3D:
        raise ValueError(f"expected a method of {METHODS_3D}, got {method!r}")
    blocks = _blocks_of(net, method)
    if method in OF_TOKENS and not blocks:
        raise ValueError(
            f"expected a MONAI ViT or Swin for {method}, got {net.name} "
            f"({type(net.net).__name__}). Try method='gradcam'."
        )
    if net.grid and np.prod(net.grid) < 2:
        raise ValueError(
            f"{net.name} sees the volume as one patch, so no map can say where; "
            "expected a finer grid"
        )
    if target is None and method in OF_A_SCORE:
        raise ValueError(
            f"{method} asks for a score: expected a target, got None. Try target=0."
        )
    if head is not None and method != "attention":
        raise ValueError(
            f"expected head=None for {method}, which takes all heads; got {head}"
        )
    if blocks:
        return _block_number(layer, method, len(blocks))
    names = dict(net.net.named_modules())
    if method == "gradcam" and layer is not None and layer not in names:
        raise ValueError(
            f"expected the name of a module of {net.name} as layer, got {layer!r}. "
            "Try layer=None."
        )
    return layer


def _blocks_of(net, method):
    """The blocks by whose numbers a layer is named; [] where modules have names."""
    if net.grid:
        return list(net.net.blocks)
    return window_blocks(net.net) if method in OF_TOKENS else []


def _block_number(layer, method, n):
    """From 0; by default the first whose tokens are followed, else the last."""
    if layer is None:
        layer = 0 if method in ("rollout", "relevance") else -1
    if not isinstance(layer, Integral) or layer not in range(-n, n):
        raise ValueError(
            f"expected a layer of 0 to {n - 1} for {method}, got {layer!r}. "
            "Try layer=None."
        )
    return layer % n
