"""Image models of others as a `Model`: timm with DINOv2 and RAD-DINO, TorchXRayVision, MONAI."""

import json
import sys
import tempfile
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from math import isqrt
from pathlib import Path

import torch
from torch import nn

from radwb.models.model import Model
from radwb.models.sources import cached, consent, fill, library_call, licence_of, megabytes, read_weights, renamed

XRV_NAMES = {"Effusion": "Pleural Effusion"}  # the rest of TorchXRayVision's names are CheXpert's or have no match
XRV_SCALE = {"mean": (0.5,), "std": (1 / 2048,)}  # its networks see [-1024, 1024]
DENSENETS = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")

# name -> timm's tower, hub repository, licence. RAD-DINO: Pérez-García et al. 2024; DINOv2: Oquab et al. 2023
DINO = {
    "rad-dino": ("vit_base_patch14_dinov2", "microsoft/rad-dino", "MIT, for research"),
    **{f"dinov2-{s}": (f"vit_{s}_patch14_dinov2", f"facebook/dinov2-{s}", "Apache-2.0")
       for s in ("small", "base", "large", "giant")},
    **{f"dinov2-{r}-{s}": (f"vit_{s}_patch14_reg4_dinov2", f"facebook/dinov2-{r}-{s}", "Apache-2.0")
       for r in ("with-registers",) for s in ("small", "base", "large", "giant")},
}  # fmt: skip
DINO_KEYS = [  # Hugging Face's Dinov2Model -> the names of DINOv2's authors, which timm reads
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

    arch, _, weights = rest.partition("/")
    if arch in DINO:
        return _load_dino(arch, weights, name, download, size)
    base, _, tag = arch.partition(".")
    check_name(base, timm.list_models() + list(DINO), "timm")
    online = download or bool(tag and not weights and _allow_timm(timm, arch, name))
    state = read_weights(weights) if weights else None
    model = timm_model(base, name, size, partial(library_call, download=online), tag="" if weights else tag)
    if state:
        fill(model.net, to_timm(state, model.net), weights)
    model.licence = (model.net.pretrained_cfg.get("license") or "") if tag and not weights else licence_of(weights)
    return model


def _allow_timm(timm, arch, name):
    cfg = timm.models.get_pretrained_cfg(arch)
    if cfg is None:
        return False  # timm says that it has no such tag
    files = [cfg.hf_hub_filename] if cfg.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    here = cached(cfg.hf_hub_id, *files) if cfg.hf_hub_id else None
    source = f"huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.url
    mb = None if here else megabytes(timm.create_model, arch.partition(".")[0])
    licence = cfg.license or f"see {source}"
    return not here and consent(name, source=source, licence=licence, mb=mb)


def timm_model(base: str, name: str, size: int | None, call=library_call, tag: str = "") -> Model:
    """A tower of timm's, with random weights where no tag is named; a ViT at another size if asked."""
    import timm

    options = {"img_size": size} if size and base.startswith(("vit_", "deit", "eva", "beit", "swin")) else {}
    net = call(name, timm.create_model, f"{base}.{tag}" if tag else base, pretrained=bool(tag), **options)
    cfg = timm.data.resolve_model_data_config(net)
    channels, side, _ = cfg["input_size"]
    side = size or side
    spec = {"builder": "timm", "arch": base} | ({"size": size} if size else {})
    return Model(net, name, "image", side, channels, tuple(cfg["mean"])[:channels], tuple(cfg["std"])[:channels],
                 "crop", grid_of(net, side, channels), spec=spec)  # fmt: skip


def _load_dino(alias, weights, name, download, size):
    arch, repo, licence = DINO[alias]
    file = weights or cached(repo, "model.safetensors") or _hub_file(repo, name, licence, arch, download)
    state, model = read_weights(file), timm_model(arch, name, size)
    beside = Path(file).with_name("preprocessor_config.json")
    scale = json.loads(beside.read_text()) if beside.is_file() else {}
    scale = {k: tuple(scale[f"image_{k}"]) for k in ("mean", "std") if f"image_{k}" in scale}
    if alias == "rad-dino" and len(scale) < 2:  # its mean and deviation aren't ImageNet's
        raise ValueError(f"expected image_mean and image_std in {beside.name} beside {Path(file).name}, got {scale}. "
                         f"Try the file of that name from {repo}.")  # fmt: skip
    for key, value in scale.items():
        setattr(model, key, value)
    fill(model.net, to_timm(state, model.net), file)
    model.licence = licence
    return model


def _hub_file(repo, name, licence, arch, download):
    import timm
    from huggingface_hub import hf_hub_download

    consent(name, source=f"huggingface.co/{repo}", licence=licence, mb=megabytes(timm.create_model, arch),
            download=download)  # fmt: skip
    library_call(name, hf_hub_download, repo, "preprocessor_config.json", download=True)
    return library_call(name, hf_hub_download, repo, "model.safetensors", download=True)


def to_timm(state: dict, net: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict in the names of `net`: DINOv2's from Hugging Face or its authors; others pass as they are.

    The positions of a ViT are resampled to the grid of `net`.
    """
    if "backbone.cls_token" in state:
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
    if any(k.endswith("embeddings.patch_embeddings.projection.weight") for k in state):
        state = renamed({k: v for k, v in state.items() if not k.startswith("classifier.")}, DINO_KEYS, "{}.qkv.{}")
    places, own = state.get("pos_embed"), getattr(net, "pos_embed", None)
    other_grid = places is not None and own is not None and places.shape != own.shape
    if "register_tokens" in state:
        state = {"mask_token": None} | state  # by this timm knows DINOv2's names
    filter_of = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    return filter_of(state, net) if filter_of and ("mask_token" in state or other_grid) else state


def load_xrv(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """NAME or NAME/FILE of TorchXRayVision, whose files hold whole networks: read with its classes and torch's only."""
    only_own_size(size, name)
    arch, _, file = rest.partition("/")
    xrv = _torchxrayvision(arch)
    url = xrv.models.model_urls[arch]["weights_url"]
    path = Path(file or Path(xrv.utils.get_cache_dir()).expanduser() / Path(url).name)
    if not file and not path.is_file():
        consent(name, source=url, licence=f"see {url.partition('/releases')[0]}", download=download)
        library_call(name, xrv.models.get_weights, arch, download=True)
    parts = [getattr(xrv.models, n) for n in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")]
    parts += [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear]
    state = read_weights(path, allowed=tuple(parts))
    model = xrv_model(arch, state, name)
    model.licence = licence_of(path)
    fill(model.net, {k: v for k, v in state.items() if k != "op_threshs"}, path)
    return model


def xrv_model(arch: str, state: dict, name: str) -> Model:
    """The network of one of TorchXRayVision's names; a ResNet comes with `state`, since it can't be made without."""
    xrv = _torchxrayvision(arch)
    about = xrv.models.model_urls[arch]
    if arch.startswith("resnet"):
        own = {k.removeprefix("model."): v for k, v in state.items() if k != "op_threshs"}
        with tempfile.TemporaryDirectory() as place:
            torch.save(own, Path(place) / Path(about["weights_url"]).name)
            net = library_call(name, xrv.models.get_model, arch, cache_dir=place)
        net.features2 = net.features
    else:
        net = xrv.models.DenseNet(num_classes=len(about["labels"]), **xrv.models.get_densenet_params(arch))
        net.targets = net.pathologies = about["labels"]
        net.input_resolution = about["input_resolution"]
    net.op_threshs = None  # else its forward gives calibrated scores, and `classify` promises logits
    size = about["input_resolution"]
    findings = [XRV_NAMES.get(p, p.replace("_", " ")) for p in about["labels"]]
    return Model(net, name, "image", size, 1, **XRV_SCALE, fit="crop", grid=(size // 32, size // 32),
                 findings=findings, spec={"builder": "xrv", "arch": arch})  # fmt: skip


def _torchxrayvision(arch):
    if not find_spec("torchxrayvision"):
        raise ValueError("expected the package torchxrayvision, which is not installed. Try: pip install 'radwb[xrv]'")
    import torchxrayvision

    check_name(arch, list(torchxrayvision.models.model_urls), "xrv")
    return torchxrayvision


class MonaiNet(nn.Module):
    """A 2-D classifier of MONAI's with the two calls that a `Model` makes: features before the head, and logits."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def encode_image(self, x):
        net = self.visual
        if hasattr(net, "class_layers"):  # DenseNet: relu, pool, flatten, without the linear layer
            return net.class_layers[:-1](net.features(x))  # (B, E)
        tokens = net.norm(net(x)[1][-1])  # (B, T, E), the last block's
        return tokens[:, 0] if net.classification else tokens.mean(1)

    def forward(self, x):
        out = self.visual(x)
        return out[0] if isinstance(out, tuple) else out


def load_monai(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """DenseNet121/FILE and its like, or ViT/FILE: MONAI's 2-D networks from a plain state dict."""
    arch, _, file = rest.partition("/")
    check_name(arch, [*DENSENETS, "ViT"], "monai")
    if not file:
        raise ValueError(f"expected a file of weights, got none. Try rw.models.load('monai:{arch}/weights.pt')")
    state = read_weights(file)
    model = monai_model(arch, state, name, file, size)
    fill(model.net.visual, state, file)
    model.licence = licence_of(file)
    return model


def monai_model(arch: str, state: dict, name: str, source: object, size: int | None = None) -> Model:
    """The unfilled network, everything read from the shapes but a ViT's heads: 12, as MONAI's default.

    Input on [0, 1], padded square: a file says nothing of its preprocessing; set `mean`, `std` and `fit` if it's other.
    """
    state = {k.removeprefix("visual."): v for k, v in state.items()}
    first = "patch_embedding.patch_embeddings.weight" if arch == "ViT" else "features.conv0.weight"
    if first not in state or state[first].ndim != 4:
        got = f"{state[first].ndim - 2}-D ones" if first in state else "others"
        raise ValueError(f"expected the weights of a 2-D {arch} of MONAI, got {got} in {source}")
    net, channels, side = (_monai_vit if arch == "ViT" else _monai_densenet)(arch, state, state[first], name)
    if arch == "ViT":
        only_own_size(size, name)
        step = state[first].shape[-1]
    else:
        side, step = size or side, 32
    return Model(MonaiNet(net), name, "image", side, channels, (0.0,) * channels, (1.0,) * channels, "pad",
                 (side // step, side // step), spec={"builder": "monai", "arch": arch, "size": size})  # fmt: skip


def _monai_densenet(arch, state, first, name):
    from monai.networks import nets

    outputs = len(state["class_layers.out.bias"])
    channels = first.shape[1]
    return getattr(nets, arch)(spatial_dims=2, in_channels=channels, out_channels=outputs), channels, 224


def _monai_vit(arch, state, first, name):
    from monai.networks.nets import ViT

    width, channels, patch, _ = first.shape
    side = patch * round(state["patch_embedding.position_embeddings"].shape[1] ** 0.5)
    head = next((k for k in ("classification_head.0.bias", "classification_head.bias") if k in state), None)
    options = {"classification": True, "num_classes": len(state[head])} if head else {}
    options |= {"post_activation": "Tanh" if head == "classification_head.0.bias" else ""}
    net = library_call(
        name, ViT, channels, side, patch, hidden_size=width, mlp_dim=len(state["blocks.0.mlp.linear1.bias"]),
        num_layers=len({k.split(".")[1] for k in state if k.startswith("blocks.")}), spatial_dims=2,
        qkv_bias="blocks.0.attn.qkv.bias" in state, **options,
    )  # fmt: skip
    return net, channels, side


def check_name(arch: str, names: list[str], library: str) -> None:
    """ValueError with the nearest names where a library doesn't know this one."""
    if arch not in names:
        near = get_close_matches(arch, names, n=3, cutoff=0.4)
        raise ValueError(f"expected a name that {library} knows, got {arch!r}. "
                         f"Try {' or '.join(f'{library}:{n}' for n in near) or 'rw.models.available()'}.")  # fmt: skip


def only_own_size(size: int | None, name: str) -> None:
    """ValueError where a size is asked of a model that has its own."""
    if size:
        raise ValueError(f"expected no size for {name}, which has its own, got {size}. Try it with timm: or monai:")


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
        side = isqrt(shape[1])
        return (side, side) if side * side == shape[1] > 1 else None
    if len(shape) != 4:
        return None
    pairs = [tuple(shape[2:]), tuple(shape[1:3])]
    return min(pairs, key=lambda pair: sum(abs(n - expected) for n in pair))
