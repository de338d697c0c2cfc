"""Patch-text similarity: each patch token alone, in the space of image and text."""

import torch
import torch.nn.functional as F

from radwb.attend.capture import watch
from radwb.attend.tower import patches_of, read_out
from radwb.models.turns import in_turn


def similarity(model, x, weights) -> torch.Tensor:
    """Cosine of each patch with the text, as phrase grounding has it.

    After Boecking et al. 2022, arXiv:2204.09817. The patch tokens of the last layer go
    through the tower's own last norm and projection, one by one. It proves itself: the
    token that the tower reads out comes to the model's embedding in the same way.

    Args:
        model: a `rw.models.Model` of kind image-text.
        x: (B, C, S, S) as `model.preprocess` gives it.
        weights: (B, K, E) unit vectors, or differences of two.
    Returns:
        (B, K, rows, cols) in [-1, 1], with a pair of phrases in [-2, 2].
    Raises:
        ValueError: the tower doesn't project patch tokens.
    """
    norm, project = _norm_and_projection(model)
    with in_turn(model.net), torch.no_grad():
        taps, output = watch(model, x, layers=(), tokens=True)
        tokens = norm(taps.tokens[-1])
        T = tokens.shape[1]
        read = read_out(model, T).to(tokens)
        projected = project(read @ tokens)  # (B, 1, E)
        embedding = F.normalize(projected[:, 0], dim=-1)
        error = float((embedding - output).abs().max())
        if not error < 1e-4:
            why = f", whose read-out comes out {error:.2g} off its embedding"
            raise _refusal(model, why)
        rows, columns = model.grid
        patches = tokens[:, -rows * columns :]
        joint = F.normalize(project(patches), dim=-1)  # (B, patches, E)
    cosines = torch.einsum("bte,bke->bkt", joint, weights.to(joint))
    return patches_of(model, cosines)


def _norm_and_projection(model):
    """What the tower does to its tokens before, and after, it reads one of them."""
    tower = getattr(model.net, "visual", None)
    if model.kind != "image-text" or tower is None:
        raise _refusal(model)
    trunk = getattr(tower, "trunk", None)
    # timm in open_clip
    if all(hasattr(trunk, part) for part in ("norm", "fc_norm", "head")):
        return trunk.norm, torch.nn.Sequential(trunk.fc_norm, trunk.head, tower.head)
    if not hasattr(tower, "ln_post") or getattr(tower, "attn_pool", None) is not None:
        raise _refusal(model)

    def project(tokens):
        return tokens if tower.proj is None else tokens @ tower.proj

    if not tower.final_ln_after_pool:
        return tower.ln_post, project
    return torch.nn.Identity(), lambda tokens: project(tower.ln_post(tokens))


def _refusal(model, why=""):
    return ValueError(
        "similarity: expected an image-text model whose patch tokens can be projected "
        f"one by one (a ViT without attention pooling), got {model.name}{why}. "
        "Try method='relevance'"
    )
