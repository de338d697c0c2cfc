"""What one has to know of an image tower to look inside.

Its blocks, its last feature map, what it reads out, and how it comes back as it was.
"""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from radwb.attend.place import Place, image_tower, last_map
from radwb.attend.threads import Replaced
from radwb.models.turns import in_turn

# MONAI drops attention in eval mode too; a block under a checkpoint runs twice
QUIET = {
    "training": False,
    "grad_checkpointing": False,
    "use_checkpoint": False,
    "dropout_rate": 0.0,
}
# how near a re-derived attention has to come, and that of halved weights
EXACT = {torch.float32: 1e-5, torch.float64: 1e-9}
HALF = 2e-2
# timm's and MONAI's way to the one function of attention
ROUTED = {"fused_attn": True, "use_flash_attention": True}
# whether nn.MultiheadAttention may skip the function of attention
FASTPATH = Replaced(torch.backends.mha, "get_fastpath_enabled")


def forward(model, x) -> torch.Tensor:
    """The output that scores are made of, in float32 whatever the caller's precision.

    Returns:
        (B, E) unit embedding of an image-text model or a headless one, (B, K) logits of
        a classifier.
    """
    x = x.to(_precision(model.net))
    run = model.encode_image if model.findings is None else model.classify
    with torch.autocast(x.device.type, enabled=False):
        output = run(x)
    if isinstance(output, tuple):
        output = output[0]  # MONAI's ViT gives its hidden states too
    return output.to(torch.promote_types(output.dtype, torch.float32))


def in_float32(model):
    """The model, or a copy of it in float32.

    In half precision the gradients of a cosine vanish.
    """
    if _precision(model.net) not in (torch.float16, torch.bfloat16):
        return model
    with in_turn(model.net):  # a copy of hooks and settings as they were
        net = deepcopy(model.net)
    return replace(model, net=net.float())


def _precision(net):
    parameters = list(net.parameters())
    # of the patch cut: where only matrices are halved, the norms and embeddings beside
    # them are not
    return next((p for p in parameters if p.ndim > 3), parameters[0]).dtype


def has_attention(model) -> bool:
    """Whether its image tower has blocks in which each patch attends to all."""
    return bool(_find_blocks(model))


def attention_blocks(model) -> list:
    """The transformer blocks of the image tower, in order."""
    blocks = _find_blocks(model)
    if not blocks:
        tower = type(getattr(model.net, "visual", model.net)).__name__
        raise ValueError(
            f"expected a ViT, got {model.name} ({tower}) without attention from each "
            "patch to all. Try method='gradcam'"
        )
    return blocks


def _find_blocks(model):
    tower = image_tower(model)
    lists = list(_lists_of_blocks(tower))
    if len(lists) != 1 or _is_pyramid(tower) or _has_windows(lists[0]):
        return []
    return list(lists[0])


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


def attention_pool(model) -> nn.Module | None:
    """The module by which a tower pools its tokens with attention, else None.

    SigLIP's, PE's and CoCa's towers have one.

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
    blocks = attention_blocks(model)
    pool = attention_pool(model)
    return blocks if pool is None else [*blocks, pool]


def read_queries(model, Q: int) -> torch.Tensor:
    """(1, Q): the mixture of an attention pool's queries that becomes the embedding."""
    pool = attention_pool(model)
    # timm's says so itself, open_clip's tower says it of its pool's queries
    of_timm = hasattr(pool, "pool")
    kind = pool.pool if of_timm else getattr(image_tower(model), "pool_type", "token")
    read = torch.zeros(1, Q, device=model.device)
    if kind in ("tok", "token") or Q == 1:
        read[0, 0] = 1
    elif kind == "avg":
        first = 0 if of_timm else 1  # open_clip leaves the first query out
        read[0, first:] = 1 / (Q - first)
    else:
        raise ValueError(
            f"expected an attention pool that reads one of its {Q} queries or their "
            f"mean, got {kind!r} in {model.name}. Try method='occlusion'."
        )
    return read


def read_out(model, T: int) -> torch.Tensor:
    """(1, T): the mixture of tokens that becomes the embedding.

    It is the class token, else the mean of the patches. What an attention pool reads is
    another mixture for each image, so not known here: see `capture`'s `read`.
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


def patches_of(model, tokens: torch.Tensor) -> torch.Tensor:
    """(..., T) -> (..., rows, columns), without what stands before the patches."""
    rows, columns = model.grid
    return tokens[..., -rows * columns :].unflatten(-1, (rows, columns))


def output_projection(model, layer: int) -> tuple[nn.Module, nn.Linear]:
    """A block's attention, with `num_heads`, and the one linear layer behind its heads.

    Raises:
        ValueError: there is none.
    """
    for module in attention_blocks(model)[layer].modules():
        linear = getattr(module, "out_proj", getattr(module, "proj", None))
        if getattr(module, "num_heads", 0) and isinstance(linear, nn.Linear):
            return module, linear
    raise ValueError(
        f"expected heads that end in one linear projection in block {layer} of "
        f"{model.name}, found none. Try method='attention'"
    )


def require_equal(mine, theirs, tolerance: float, what: str) -> None:
    """RuntimeError where two tensors differ by more than `tolerance`.

    That is a share of the largest value, where this is over 1.
    """
    error = float((mine - theirs).detach().abs().max())
    size = max(1.0, float(theirs.detach().abs().max()))
    if not error <= tolerance * size:  # also of NaN
        raise RuntimeError(
            f"{what}: expected a difference under {tolerance:g}, got {error:.2g}; "
            "the map isn't trusted"
        )


@contextmanager
def as_it_was(net: nn.Module, settings: dict = QUIET):
    """Eval mode and no gradients of parameters, or other settings; then all put back.

    Meanwhile no other thread has its turn in the network: it's for one pass forward and
    back, and entered anew for the next batch, so that long work lets others between.

    Args:
        net: whose modules are set.
        settings: name -> value, of each module that has an attribute of that name.
    """
    with in_turn(net), FASTPATH.by(lambda: False):
        before = list(_other_settings(net, settings))
        try:
            for owner, name, _ in before:
                setattr(owner, name, settings.get(name, False))
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


def _other_settings(net, settings):
    """(owner, name, value) of all that has another value now, or wants gradients."""
    for module in net.modules():
        own = vars(module)
        for name, value in settings.items():
            if own.get(name, value) == value:
                continue
            # MONAI's flash attention would leave its relative positions out
            if name in ROUTED and getattr(module, "rel_positional_embedding", None):
                continue
            yield module, name, own[name]
    for parameter in net.parameters():
        if parameter.requires_grad:
            yield parameter, "requires_grad", True
