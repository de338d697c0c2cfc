"""The papers' formulas, on tensors alone.

Attention, features and gradients in, one value a token or place out.
"""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from radwb.attend.progress import steps

# maximum_flow counts in int32; all of the attention of one row is this much
CAPACITY = 2**30


def residual(attention: torch.Tensor) -> torch.Tensor:
    """Half of a layer's attention, half of each token itself; rows sum to one.

    Args:
        attention: (..., T, T), mean over heads.
    """
    step = 0.5 * attention + 0.5 * _identity(attention)
    total = step.sum(-1, keepdim=True)
    return step / total


def _identity(attention):
    """(T, T) that gives each token itself."""
    T = attention.shape[-1]
    return torch.eye(T, dtype=attention.dtype, device=attention.device)


def rollout(
    attention: torch.Tensor, *, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention rollout, for the layers of any transformer of yours.

    After arXiv:2005.00928, eq. 1: attention multiplied through the layers, half of each
    step being the residual.

    >>> seen = rw.attend.capture(model, model.preprocess(scan))
    >>> rollout(seen["attention"])[:, 0, 1:].shape    # what the class token got
    torch.Size([1, 64])

    Args:
        attention: (L, B, heads, T, T) or (L, heads, T, T), rows sum to one.
        rows: (R, T) mixtures of output tokens to follow back. Following one row costs
            T^2, not T^3, a layer. Default: every token.
    Returns:
        (B, R, T) or (R, T): the share of each input token in each row; rows sum to one.
    """
    shares = _identity(attention) if rows is None else rows
    for layer in attention.mean(-3).flip(0):  # from the output back to the input
        shares = shares @ residual(layer)  # (B, R, T)
    return shares


def relevance(
    attention: torch.Tensor,
    gradients: torch.Tensor,
    *,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Relevance of each token, from attention and gradients of your own transformer.

    After arXiv:2103.15679, eq. 5 and 6: R starts as the identity; each layer adds mean
    over heads of max(gradient * attention, 0), times R.

    >>> seen = rw.attend.capture(model, model.preprocess(scan), target="cardiomegaly")
    >>> relevance(seen["attention"], seen["gradients"])[:, 0, 1:].shape
    torch.Size([1, 64])

    Args:
        attention, gradients: (L, B, heads, T, T) or (L, heads, T, T), the layers to
            multiply.
        rows: (R, T) as in `rollout`.
    Returns:
        (B, R, T) or (R, T).
    """
    start = _identity(attention) if rows is None else rows
    gained = torch.zeros_like(start)
    layers = zip(attention.flip(0), gradients.flip(0), strict=True)
    for weights, gradient in layers:  # from the output back to the input
        gained = relevance_step(start, gained, weights, gradient)
    return start + gained


def relevance_step(start, gained, attention, gradients):
    """One layer of `relevance`, from the output back.

    What was gained is summed apart from the start, which is large.

    Args:
        start, gained: (R, T) or (B, R, T).
        attention, gradients: (B, heads, T, T) or (heads, T, T).
    """
    positive = (attention * gradients).clamp_(min=0)
    over_heads = positive.mean(-3)  # (..., T, T)
    return gained + (start + gained) @ over_heads


def flow(attention: torch.Tensor, *, rows: torch.Tensor) -> torch.Tensor:
    """Attention flow: how much can run from the read-out to each input token.

    After arXiv:2005.00928, section 3.2: a maximum flow through the layered graph whose
    edges carry at most 0.5 attention + 0.5 identity. One flow for each token, which
    grows steeply: a film takes 0.1 s on `radwb-tiny` (65 tokens), 12 s on a ViT-B/16
    (197 tokens).

    Args:
        attention: (L, T, T) of one image, mean over heads.
        rows: (1, T) what the source feeds each output token.
    Returns:
        (T,): 0 to 1, in steps of 2^-30.
    """
    L, T, _ = attention.shape
    # from the output back; its tokens are the first nodes
    shares = residual(attention.double()).flip(0)
    edges = shares.cpu().numpy()
    layer, i, j = np.indices(edges.shape)
    source = (L + 1) * T
    output_tokens = np.arange(T)
    fed = rows[0].double().cpu().numpy()
    tails = np.append(layer * T + i, np.full(T, source))
    heads = np.append((layer + 1) * T + j, output_tokens)
    sizes = np.append(edges, fed)
    capacities = np.round(CAPACITY * sizes).astype(np.int32)
    shape = (source + 1, source + 1)
    graph = coo_array((capacities, (tails, heads)), shape=shape).tocsr()
    graph.eliminate_zeros()
    flows = []
    for token in steps(range(T), "flow"):
        sink = L * T + token
        flow_to_token = maximum_flow(graph, source, sink)
        flows.append(flow_to_token.flow_value)
    return torch.tensor(flows, dtype=torch.float64) / CAPACITY


def value_norm(
    attention: torch.Tensor, values: torch.Tensor, projection: torch.Tensor
) -> torch.Tensor:
    """Norm of what each token hands to each other (arXiv:2004.10102, eq. 5).

    ||sum over heads of attention * f(x)||, where f(x) is the token's value through the
    head's part of the output projection. The norm of the sum comes from the products of
    f of two heads, so that no T x T x D is made.

    Args:
        attention: (B, heads, T, T), or one head of it, (B, 1, T, T).
        values: (B, heads, T, d) of the same heads.
        projection: (D, heads, d), the output projection's columns for these heads.
    Returns:
        (B, T, T).
    """
    # f of each token and head
    moved = torch.einsum("bhjc,dhc->bjhd", values, projection)  # (B, T, heads, D)
    products = moved @ moved.mT  # (B, T, heads, heads)
    squares = torch.einsum("bhij,bjhg,bgij->bij", attention, products, attention)
    return squares.clamp(min=0).sqrt()


def gradcam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by their mean gradient, negative sums dropped.

    After arXiv:1610.02391, eq. 1 and 2.

    Args:
        features, gradients: (B, D, h, w).
    Returns:
        (B, h, w).
    """
    weights = gradients.mean((-2, -1), keepdim=True)  # (B, D, 1, 1)
    return (weights * features).sum(-3).relu()


def gradcam_plus_plus(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM whose mean counts only places that raise the score, each by its alpha.

    After arXiv:1710.11063, eq. 19: alpha = g^2 / (2 g^2 + (sum of the feature) g^3) = 1
    / (2 + (sum of the feature) g). The paper differentiates the exponential of the
    score, which multiplies a whole map by one number; left out here. It is meant for
    features behind a ReLU: where a feature is negative, as a ViT's are, alpha has poles
    and may turn negative.
    """
    total = features.sum((-2, -1), keepdim=True)  # (B, D, 1, 1)
    below = 2 + total * gradients
    alpha = 1 / torch.where(below == 0, 1, below)
    weighted = alpha * gradients.relu()
    weights = weighted.sum((-2, -1), keepdim=True)  # (B, D, 1, 1)
    return (weights * features).sum(-3).relu()


def layercam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Each place weighted by its own positive gradient.

    After Jiang et al. 2021, doi:10.1109/TIP.2021.3089943, eq. 6.
    """
    return (gradients.relu() * features).sum(-3).relu()
