"""What one has to know of an image tower to look inside: its blocks, its last feature
map, what it reads out.
"""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from radwb.attend.place import Place, last_map

# MONAI drops attention in eval mode too; a block under a checkpoint runs twice
QUIET = {
    "training": False,
    "grad_checkpointing": False,
    "use_checkpoint": False,
    "dropout_rate": 0.0,
}
EXACT, HALF = (
    {torch.float32: 1e-5, torch.float64: 1e-9},
    2e-2,
)  # how near a re-derived attention has to come
ROUTED = {
    "fused_attn": True,
    "use_flash_attention": True,
}  # timm's and MONAI's way to the one function


def forward(model, x) -> torch.Tensor:
    """(B, E) unit embedding of an image-text model or a headless one, (B, K) logits of
    a classifier; float32.
    """
    x = x.to(_precision(model.net))
    with torch.autocast(
        x.device.type, enabled=False
    ):  # maps are float32, whatever the caller's precision
        out = model.encode_image(x) if model.findings is None else model.classify(x)
    out = (
        out[0] if isinstance(out, tuple) else out
    )  # MONAI's ViT gives its hidden states too
    return out.to(torch.promote_types(out.dtype, torch.float32))


def in_float32(model):
    """The model, or a copy of it in float32: in half precision the gradients of a
    cosine vanish.
    """
    half = _precision(model.net) in (torch.float16, torch.bfloat16)
    if not half:
        return model
    return replace(model, net=deepcopy(model.net).float())


def _precision(net):
    parameters = list(net.parameters())
    # of the patch cut: where only matrices are halved, the norms and embeddings beside
    # them are not
    return next((p for p in parameters if p.ndim > 3), parameters[0]).dtype


def has_attention(model) -> bool:
    return bool(_find_blocks(model))


def attention_blocks(model) -> list:
    """The transformer blocks of the image tower, in order."""
    blocks = _find_blocks(model)
    if not blocks:
        tower = type(getattr(model.net, "visual", model.net)).__name__
        raise ValueError(
            f"expected a ViT, got {model.name} ({tower}) without attention from each patch to all. Try method='gradcam'"
        )
    return blocks


def _find_blocks(model):
    tower = image_tower(model)
    lists = list(_lists_of_blocks(tower))
    if len(lists) != 1 or _is_pyramid(tower) or _has_windows(lists[0]):
        return []
    return list(lists[0])


def image_tower(model):
    """The image tower, out of what open_clip or radwb wrap it in."""
    tower = getattr(model.net, "visual", model.net)
    return getattr(tower, "trunk", tower)


def _is_pyramid(tower):
    """Whether timm says that its stages have different grids, as those of Hiera."""
    stages = list(getattr(tower, "feature_info", None) or [])
    return len({stage["reduction"] for stage in stages}) > 1


def _has_windows(blocks):
    return any(getattr(block, "window_size", 0) for block in blocks)


def _lists_of_blocks(module):
    for name, part in module.named_children():
        if name not in ("resblocks", "blocks"):
            yield from _lists_of_blocks(part)
        elif any(hasattr(m, "num_heads") for m in part.modules()):
            yield part


def last_place(model, x) -> Place:
    """Where the last feature map of the image tower is: see `place.last_map`."""
    with as_it_was(model.net):
        return last_map(model, forward, x[:1])


def last_spatial(model, x) -> nn.Module:
    """The module that gives the last feature map."""
    return last_place(model, x).module


def attention_pool(model):
    """The module by which a tower pools its tokens with attention (SigLIP's, PE's,
    CoCa's), else None.

    Raises:
        ValueError: two of them, one behind the other or beside it.
    """
    tower = image_tower(model)
    pool = getattr(tower, "attn_pool", None)
    if pool is not None and getattr(tower, "attn_pool_contrastive", None) is not None:
        raise ValueError(
            f"expected one attention pool in {model.name}, got two (attn_pool and "
            "attn_pool_contrastive): what the embedding reads isn't one row of "
            "weights. Try method='occlusion'."
        )
    return pool


def layers_of(model) -> list:
    """The blocks, and as the last layer the attention pool where there is one."""
    pool = attention_pool(model)
    return attention_blocks(model) + ([] if pool is None else [pool])


def read_queries(model, Q: int) -> torch.Tensor:
    """(1, Q): the mixture of an attention pool's queries that becomes the embedding."""
    tower, pool = image_tower(model), attention_pool(model)
    # timm's says so itself, open_clip's tower says it of its pool's queries
    kind = getattr(pool, "pool", getattr(tower, "pool_type", "token"))
    read = torch.zeros(1, Q, device=model.device)
    if kind in ("tok", "token") or Q == 1:
        read[0, 0] = 1
    elif kind == "avg":
        first = (
            0 if hasattr(pool, "pool") else 1
        )  # open_clip leaves the first query out
        read[0, first:] = 1 / (Q - first)
    else:
        raise ValueError(
            f"expected an attention pool that reads one of its {Q} queries or their "
            f"mean, got {kind!r} in {model.name}. Try method='occlusion'."
        )
    return read


def read_out(model, T: int) -> torch.Tensor:
    """(1, T): the mixture of tokens that becomes the embedding: the class token, else
    the mean of the patches.

    What an attention pool reads is another mixture for each image, so not known here:
    see `capture`'s `read`.
    """
    tower = image_tower(model)
    patches = model.grid[0] * model.grid[1]
    pool = getattr(tower, "pool_type", getattr(tower, "global_pool", "token"))
    read = torch.zeros(1, T, device=model.device)
    if patches < T and pool in ("tok", "token"):
        read[0, 0] = 1
    else:
        read[0, T - patches :] = 1 / patches
    return read


def output_projection(model, layer: int):
    """A block's attention, and the one linear layer behind its heads: (module with
    num_heads, nn.Linear).
    """
    for module in attention_blocks(model)[layer].modules():
        linear = getattr(module, "out_proj", getattr(module, "proj", None))
        if getattr(module, "num_heads", 0) and isinstance(linear, nn.Linear):
            return module, linear
    raise ValueError(
        f"expected heads that end in one linear projection in block {layer} of {model.name}, found none. "
        "Try method='attention'"
    )


def require_equal(mine, theirs, tolerance, what) -> None:
    """RuntimeError where two tensors differ by more than `tolerance`, as a share of the
    largest value over 1.
    """
    error = float((mine - theirs).detach().abs().max())
    if not error <= tolerance * max(
        1.0, float(theirs.detach().abs().max())
    ):  # also false for NaN
        raise RuntimeError(
            f"{what}: expected a difference under {tolerance:g}, got {error:.2g}; the map isn't trusted"
        )


@contextmanager
def as_it_was(net, wanted=QUIET):
    """Eval mode and no gradients of parameters, or other settings of modules; then all
    put back.
    """
    settings = [
        (m, k, v)
        for m in net.modules()
        for k, v in vars(m).items()
        if k in wanted and v != wanted[k]
    ]
    # MONAI's flash attention would leave its relative positions out
    settings = [
        s
        for s in settings
        if not (s[1] in ROUTED and getattr(s[0], "rel_positional_embedding", None))
    ]
    settings += [
        (p, "requires_grad", True) for p in net.parameters() if p.requires_grad
    ]
    fastpath = (
        torch.backends.mha.get_fastpath_enabled()
    )  # a kernel of nn.MultiheadAttention that skips the function
    try:
        for owner, name, _ in settings:
            setattr(owner, name, wanted.get(name, False))
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        for owner, name, value in settings:
            setattr(owner, name, value)
        torch.backends.mha.set_fastpath_enabled(fastpath)
