"""Grad-CAM and kin: a feature map weighed by the gradients of the score."""

import torch

from radwb.attend.targets import gradients_of
from radwb.attend.tokens import leaf_of
from radwb.attend.tower import (
    as_it_was,
    forward,
    has_attention,
    last_place,
    layers_of,
    patches_of,
)
from radwb.models.turns import in_turn


def weighed(formula, model, x, weights, *, layer=None) -> torch.Tensor:
    """(B, K, h, w): a formula of features and the gradients of K scores an image.

    The features are what enters a ViT's block, or another tower's last feature map. A
    tower that pools by attention counts the pool as its last layer: what enters it is
    taken by default.

    Args:
        formula: (features, gradients) -> map, such as `formulas.gradcam`.
        model: a `rw.models.Model`.
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) directions, K scores for each image, of one forward.
        layer: of a ViT, None = the last; None for other towers.
    Raises:
        ValueError: a layer of a tower that has none.
    """
    layers = layers_of(model) if has_attention(model) else []
    if not layers and layer is not None:
        raise ValueError(
            f"expected layer=None for {model.name}, which has no attention blocks; "
            f"got {layer}"
        )
    with in_turn(model.net):
        features, gradients = _features_and_gradients(model, x, weights, layers, layer)
    return formula(features[:, None], gradients)


def _features_and_gradients(model, x, weights, layers, layer):
    """(B, D, h, w) what is weighed, and (B, K, D, h, w) by what."""
    if layers:
        number = -1 if layer is None else layer
        tokens, output = _leaf_and_output(model, x, layers[number], entering=True)
        if _holds_patches(model, tokens, len(x)):
            gradients = gradients_of(output, weights, tokens)
            features = patches_of(model, tokens.detach().mT)
            return features, patches_of(model, gradients.mT)
    place = last_place(model, x)
    tokens, output = _leaf_and_output(model, x, place.module)
    gradients = gradients_of(output, weights, tokens)
    features = place.laid(tokens.detach())
    laid = place.laid(gradients.flatten(0, 1)).unflatten(0, gradients.shape[:2])
    return features, laid


def _leaf_and_output(model, x, module, entering=False):
    """The tensor that is weighed, as a leaf, and the output (B, E) behind it."""
    leaf = leaf_of(module, entering=entering)
    with as_it_was(model.net), torch.enable_grad(), leaf as leaves:
        output = forward(model, x)
    return leaves[0], output


def _holds_patches(model, tokens, B):
    """Whether a block is given (B, T, D) with a token for each patch.

    A TNT's takes pixels first.
    """
    patches = model.grid[0] * model.grid[1]
    return tokens.ndim == 3 and len(tokens) == B and tokens.shape[1] >= patches
