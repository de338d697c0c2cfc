"""Patch-text similarity: each patch token, on its own, in the space that image and text
share.
"""

import torch
import torch.nn.functional as F

from radwb.attend.capture import watch
from radwb.attend.tower import read_out


def similarity(model, x, weights) -> torch.Tensor:
    """Cosine of each patch with the text, as phrase grounding has it (Boecking et al.
    2022, arXiv:2204.09817).

    The patch tokens of the last layer go through the tower's own last norm and
    projection, one by one. It proves itself: the token that the tower reads out comes
    to the model's embedding in the same way.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) unit vectors, or differences of two.
    Returns:
        (B, K, rows, cols) in [-1, 1], with a pair of phrases in [-2, 2].
    Raises:
        ValueError: the tower doesn't project patch tokens.
    """
    before, after = _projection(model)
    taps, output = watch(model, x, layers=(), tokens=True)
    with torch.no_grad():
        tokens, patches = before(taps.tokens[-1]), model.grid[0] * model.grid[1]
        read = after(read_out(model, tokens.shape[1]).to(tokens) @ tokens)[:, 0]
        error = float((F.normalize(read, dim=-1) - output).abs().max())
        if not error < 1e-4:
            raise _refusal(
                model, f", whose read-out comes out {error:.2g} off its embedding"
            )
        joint = F.normalize(after(tokens[:, -patches:]), dim=-1)  # (B, patches, E)
    return torch.einsum("bte,bke->bkt", joint, weights.to(joint)).unflatten(
        -1, tuple(model.grid)
    )


def _projection(model):
    """What the tower does to its tokens before, and after, it picks or averages them."""
    tower = getattr(model.net, "visual", None)
    if model.kind != "image-text" or tower is None:
        raise _refusal(model)
    trunk = getattr(tower, "trunk", None)
    if all(
        hasattr(trunk, part) for part in ("norm", "fc_norm", "head")
    ):  # timm in open_clip
        return trunk.norm, lambda tokens: tower.head(trunk.head(trunk.fc_norm(tokens)))
    if not hasattr(tower, "ln_post") or getattr(tower, "attn_pool", None) is not None:
        raise _refusal(model)

    def project(tokens):
        return tokens if tower.proj is None else tokens @ tower.proj

    if tower.final_ln_after_pool:
        return torch.nn.Identity(), lambda tokens: project(tower.ln_post(tokens))
    return tower.ln_post, project


def _refusal(model, why=""):
    return ValueError(
        f"similarity: expected an image-text model whose patch tokens can be projected one by one (a ViT without "
        f"attention pooling), got {model.name}{why}. Try method='relevance'"
    )
