"""Grad-CAM and kin: a feature map weighed by the gradients of the score."""

import torch

from radwb.attend.methods import formulas
from radwb.attend.targets import gradients_of
from radwb.attend.tokens import leaf_of
from radwb.attend.tower import (
    as_it_was,
    forward,
    has_attention,
    last_place,
    layers_of,
    one_at_a_time,
    patches_of,
)


def gradcam(model, x, weights, *, layer=None) -> torch.Tensor:
    """(B, K, h, w) of `formulas.gradcam` on `features`."""
    return formulas.gradcam(*features(model, x, weights, layer))


def gradcam_plus_plus(model, x, weights, *, layer=None) -> torch.Tensor:
    """(B, K, h, w) of `formulas.gradcam_plus_plus` on `features`."""
    return formulas.gradcam_plus_plus(*features(model, x, weights, layer))


def layercam(model, x, weights, *, layer=None) -> torch.Tensor:
    """(B, K, h, w) of `formulas.layercam` on `features`."""
    return formulas.layercam(*features(model, x, weights, layer))


def features(model, x, weights, layer) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters a ViT's block, or another tower's last feature map; and gradients.

    A tower that pools by attention counts the pool as its last layer: what enters it is
    taken by default.

    Args:
        model: a `rw.models.Model`.
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) directions, K scores for each image, of one forward.
        layer: of a ViT, None = the last; None for other towers.
    Returns:
        features (B, 1, D, h, w) and the gradients of the scores (B, K, D, h, w).
    Raises:
        ValueError: a layer of a tower that has none.
    """
    layers = layers_of(model) if has_attention(model) else []
    if not layers and layer is not None:
        raise ValueError(
            f"expected layer=None for {model.name}, which has no attention blocks; "
            f"got {layer}"
        )
    if layers:
        block = layers[-1 if layer is None else layer]
        tokens, output = _weighed(model, x, block, entering=True)
        if _holds_patches(model, tokens, len(x)):
            gradients = gradients_of(output, weights, tokens)
            laid = patches_of(model, tokens.detach().mT)
            return laid[:, None], patches_of(model, gradients.mT)
    place = last_place(model, x)
    tokens, output = _weighed(model, x, place.module)
    gradients = gradients_of(output, weights, tokens)
    laid = place.laid(tokens.detach())
    grads = place.laid(gradients.flatten(0, 1))
    return laid[:, None], grads.unflatten(0, gradients.shape[:2])


def _weighed(model, x, module, entering=False):
    """The tensor that is weighed, as a leaf, and the output (B, E) behind it."""
    with one_at_a_time, as_it_was(model.net), torch.enable_grad():
        with leaf_of(module, entering=entering) as leaves:
            output = forward(model, x)
    return leaves[0], output


def _holds_patches(model, tokens, B):
    """Whether a block is given (B, T, D) with a token for each patch.

    A TNT's takes pixels first.
    """
    patches = model.grid[0] * model.grid[1]
    return tokens.ndim == 3 and len(tokens) == B and tokens.shape[1] >= patches
