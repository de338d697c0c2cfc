"""timm's image towers as a `Model`, DINOv2 and RAD-DINO among them."""

import math
import sys
from pathlib import Path

import torch
from torch import nn

from radwb import data
from radwb.models.checks import read_json, scale
from radwb.models.hub import (
    cached,
    check_name,
    consent,
    library_call,
    licence_of,
    megabytes,
)
from radwb.models.model import Model
from radwb.models.sources import fill_model, read_weights, renamed

# name -> timm's tower, hub repository, licence. RAD-DINO: Pérez-García et al. 2024;
# DINOv2: Oquab et al. 2023
DINO = {
    "rad-dino": ("vit_base_patch14_dinov2", "microsoft/rad-dino", "MIT, for research")
}
for _hub, _timm in (("dinov2", "dinov2"), ("dinov2-with-registers", "reg4_dinov2")):
    for _size in ("small", "base", "large", "giant"):
        _tower = f"vit_{_size}_patch14_{_timm}"
        DINO[f"{_hub}-{_size}"] = (_tower, f"facebook/{_hub}-{_size}", "Apache-2.0")
TIMM_FITS = {"center": "crop", "squash": "squash", "border": "pad"}
RESIZABLE = ("vit_", "deit", "eva", "beit", "swin")  # towers that take img_size
# Hugging Face's Dinov2Model -> the names of DINOv2's authors, which timm reads
DINO_KEYS = [
    (r"^dinov2(_with_registers)?\.", ""),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"attention\.attention\.", "attn."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"mlp\.weights_in", "mlp.w12"),
    (r"mlp\.weights_out", "mlp.w3"),
    (r"^layernorm\.", "norm."),
]


def load_timm(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """ARCH, ARCH.TAG, ARCH/FILE, or a name of `DINO`, from its hub or as DINO/FILE."""
    import timm

    arch, _, file = rest.partition("/")
    if arch in DINO:
        return _load_dino(arch, file, name, download, size)
    base, _, tag = arch.partition(".")
    check_name(base, timm.list_models() + list(DINO), "timm")
    if file:
        return _timm_file(base, tag, file, name, size)
    online = download or bool(tag and _allow_timm(timm, arch, name))
    model = timm_model(base, name, size, tag, pretrained=True, download=online)
    model.licence = licence_of("")
    if tag:
        model.licence = model.net.pretrained_cfg.get("license") or ""
    return model


def _timm_file(base, tag, file, name, size):
    """Weights from a file, fed as those of the tag are, or as timm's first choice."""
    state = read_weights(file)
    model = timm_model(base, name, size, tag)
    tensors = to_timm(state, model.net)
    fill_model(model, state, file, tensors=tensors, head=head_of(model.net))
    if not tag:
        model.notes += _other_tags(base)
    model.licence = licence_of(file)
    return model


def _allow_timm(timm, arch, name):
    cfg = timm.models.get_pretrained_cfg(arch)
    if cfg is None:
        return False  # timm says that it has no such tag
    source = cfg.url
    if cfg.hf_hub_id:
        source = f"huggingface.co/{cfg.hf_hub_id}"
        files = ["model.safetensors", "pytorch_model.bin"]
        if cfg.hf_hub_filename:
            files = [cfg.hf_hub_filename]
        if cached(cfg.hf_hub_id, *files):
            return False
    mb = megabytes(timm.create_model, arch.partition(".")[0])
    licence = cfg.license or f"see {source}"
    return consent(name, source=source, licence=licence, mb=mb)


def head_of(net: nn.Module) -> tuple[str, ...]:
    """The names of the layers of a tower of timm's that only classify."""
    names = net.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _other_tags(base):
    """A note where published weights are fed in several ways: a file doesn't say."""
    import timm

    mine = timm.models.get_pretrained_cfg(base)
    if mine is None:
        return ()
    others = []
    for tag in timm.models.list_pretrained(f"{base}.*"):
        if _feeding(timm.models.get_pretrained_cfg(tag)) != _feeding(mine):
            others.append(tag)
    if not others:
        return ()
    return (
        f"fed as timm's {base}.{mine.tag}; a file doesn't say, and weights of "
        f"{', '.join(others[:3])} are fed otherwise: for those name the tag, "
        f"timm:{others[0]}/FILE",
    )


def _feeding(cfg):
    return (cfg.mean, cfg.std, cfg.interpolation, cfg.crop_pct, cfg.crop_mode)


def timm_model(
    base: str,
    name: str,
    size: int | None,
    tag: str = "",
    *,
    pretrained: bool = False,
    download: bool = False,
) -> Model:
    """A tower of timm's, fed as timm feeds it, at another size if asked.

    Args:
        tag: of published weights, which says how it's fed.
        pretrained: with the weights of the tag; else they are random.
    """
    import timm

    options = {"pretrained": pretrained and bool(tag)}
    if size and base.startswith(RESIZABLE):
        options["img_size"] = size
    arch = f"{base}.{tag}" if tag else base
    net = library_call(name, timm.create_model, arch, download=download, **options)
    cfg = timm.data.resolve_model_data_config(net)
    channels, side, width = cfg["input_size"]
    if side != width:
        raise ValueError(
            f"expected a tower that takes squares, got {base}, which takes "
            f"{side} x {width} px"
        )
    side = size or side
    spec = {"builder": "timm", "arch": base}
    if size:
        spec["size"] = size
    fit = TIMM_FITS[cfg["crop_mode"] or "center"]
    notes = ("timm pads with the mean, radwb with black",) if fit == "pad" else ()
    return Model(
        net,
        name,
        "image",
        side,
        channels,
        mean=tuple(cfg["mean"])[:channels],
        std=tuple(cfg["std"])[:channels],
        fit=data.fit.Fit(fit, filter=cfg["interpolation"], share=cfg["crop_pct"]),
        grid=grid_of(net, side, channels),
        spec=spec,
        notes=notes,
    )


def _load_dino(alias, weights, name, download, size):
    arch, repo, licence = DINO[alias]
    file = weights or cached(repo, "model.safetensors")
    if not file:
        file = _from_hub(repo, name, licence, arch, download)
    state = read_weights(file)
    model = timm_model(arch, name, size)
    # RAD-DINO's mean and deviation aren't ImageNet's
    _scale_beside(model, Path(file), repo, required=alias == "rad-dino")
    fill_model(model, state, file, tensors=to_timm(state, model.net))
    model.licence = licence
    return model


def _scale_beside(model, file, repo, *, required):
    """Take mean and std from the preprocessor_config.json beside the weights."""
    beside = file.with_name("preprocessor_config.json")
    about = read_json(beside) if beside.is_file() else {}
    scales = {k: about[f"image_{k}"] for k in ("mean", "std") if f"image_{k}" in about}
    if required and len(scales) < 2:
        raise ValueError(
            f"expected image_mean and image_std in {beside.name} beside {file.name}, "
            f"got {scales}. Try the file of that name from {repo}."
        )
    for key, value in scales.items():
        positive = key == "std"
        setattr(model, key, scale(value, model.channels, key, positive=positive))


def _from_hub(repo, name, licence, arch, download):
    import timm
    from huggingface_hub import hf_hub_download

    source = f"huggingface.co/{repo}"
    mb = megabytes(timm.create_model, arch)
    consent(name, source=source, licence=licence, mb=mb, download=download)
    for file in ("preprocessor_config.json", "model.safetensors"):
        path = library_call(name, hf_hub_download, repo, file, download=True)
    return path


def to_timm(state: dict, net: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict in the names of `net`, its positions resampled to the grid of `net`.

    DINOv2's comes from Hugging Face or its authors; others pass as they are.
    """
    if "backbone.cls_token" in state:
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
    if any(k.endswith("embeddings.patch_embeddings.projection.weight") for k in state):
        state = {k: v for k, v in state.items() if not k.startswith("classifier.")}
        state = renamed(state, DINO_KEYS, "{}.qkv.{}")
    if "register_tokens" in state:
        state = {"mask_token": None} | state  # by this timm knows DINOv2's names
    read = state.get("pos_embed")
    positions = getattr(net, "pos_embed", None)
    both = read is not None and positions is not None
    other_grid = both and read.shape != positions.shape
    to_names = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if to_names and ("mask_token" in state or other_grid):
        return to_names(state, net)
    return state


def grid_of(tower: nn.Module, size: int, channels: int = 3) -> tuple[int, int]:
    """(rows, columns) of an image tower's patch tokens or last feature map.

    A pyramid's first patches aren't its last map, and networks round an odd size in
    their own ways: where the two may differ, one blank image goes through the tower.
    """
    tower = getattr(tower, "trunk", tower)
    info = getattr(tower, "feature_info", None)
    step = info[-1]["reduction"] if info else 32
    embedded = getattr(tower, "patch_embed", None)
    grid = getattr(tower, "grid_size", None) or getattr(embedded, "grid_size", None)
    if grid and (not info or grid[0] <= size // step):
        return tuple(grid)
    probed = None
    if hasattr(tower, "forward_features"):
        probed = _probed_grid(tower, size, channels, step)
    return probed or (size // step, size // step)


def _probed_grid(tower, size, channels, step):
    """The sides of what `forward_features` gives; None where they can't be told."""
    blank = torch.zeros(1, channels, size, size)
    was_training = tower.training
    try:
        with torch.no_grad():
            shape = getattr(tower.eval().forward_features(blank), "shape", ())
    finally:
        tower.train(was_training)
    return _sides(shape, size / step)


def _sides(shape, expected):
    """(rows, columns) of (1, C, h, w), (1, h, w, C) or (1, h * w, C)."""
    if len(shape) == 3:
        side = math.isqrt(shape[1])
        return (side, side) if side * side == shape[1] > 1 else None
    if len(shape) != 4:
        return None
    pairs = [tuple(shape[2:]), tuple(shape[1:3])]
    return min(pairs, key=lambda pair: sum(abs(n - expected) for n in pair))
