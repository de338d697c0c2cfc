"""Grad-CAM and occlusion of any 3-D network."""

from itertools import product

import numpy as np
import torch
from tqdm.auto import tqdm

from radwb.attend.tokens import leaf_of
from radwb.attend.volumes.net import output_of, quiet, score_of
from radwb.attend.volumes.place import layout_of, map_module
from radwb.models.net3d import Net3d


def gradcam(net: Net3d, x: torch.Tensor, target, layer: int | str | None):
    """(d, h, w): the features of a layer, weighed by the mean gradient of the score.

    One forward pass; the backward pass ends at the feature map that is weighed.

    Args:
        layer: of a ViT the block before which the tokens are taken; of another network
            as in `map_module`.
    """
    with quiet(net):
        features, gradient = _features_and_gradient(net, x, target, layer)
    weights = gradient.flatten(2).mean(-1)  # (1, E)
    return torch.einsum("be,bedhw->dhw", weights, features).relu()


def _features_and_gradient(net, x, target, layer):
    """(1, E, d, h, w) each."""
    module = net.net.blocks[layer] if net.grid else map_module(net, x, layer)
    with torch.enable_grad(), leaf_of(module, entering=bool(net.grid)) as leaves:
        score = score_of(net, output_of(net, x), target).sum()
        gradient = torch.autograd.grad(score, leaves[0])[0]
    features = leaves[0].detach()
    if net.grid:
        return _of_patches(features, net.grid), _of_patches(gradient, net.grid)
    layout = layout_of(net, x, module)
    return layout.laid(features), layout.laid(gradient)


def _of_patches(tokens, grid):
    """(1, T, E) -> (1, E, d, h, w), without a class token."""
    return tokens[:, -np.prod(grid) :].mT.unflatten(-1, grid)


@torch.no_grad()
def occlusion(
    net: Net3d,
    x: torch.Tensor,
    target,
    mask: tuple[int, int, int] | None = None,
    batch: int = 8,
) -> torch.Tensor:
    """(d, h, w): how much the score falls when a box is filled with the input's mean.

    Args:
        mask: sides of a box, which have to divide the input's; boxes don't overlap.
            None = an eighth of each side.
        batch: boxes in one pass.
    """
    mask = mask or [max(1, n // 8) for n in net.size]
    if any(n % side for n, side in zip(net.size, mask, strict=True)):
        raise ValueError(
            f"expected a mask whose sides divide {net.size}, got {tuple(mask)}"
        )
    slices = []
    for n, side in zip(net.size, mask, strict=True):
        starts = range(0, n, side)
        slices.append([slice(start, start + side) for start in starts])
    boxes = list(product(*slices))
    score = _score(net, x, target)
    scores = []
    groups = [boxes[n : n + batch] for n in range(0, len(boxes), batch)]
    for group in tqdm(groups, "occlusion", delay=2, leave=False):
        hidden = x.repeat(len(group), 1, 1, 1, 1)
        for copy, box in zip(hidden, group, strict=True):
            copy[(slice(None), *box)] = x.mean()
        scores.append(_score(net, hidden, target))
    counts = [len(along) for along in slices]
    return (score - torch.cat(scores)).reshape(counts)


def _score(net, x, target):
    """Of one batch; before and after it other threads have their turn."""
    with quiet(net):
        return score_of(net, output_of(net, x), target)
