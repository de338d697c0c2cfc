"""Image classifiers of others as a `Model`: TorchXRayVision's and MONAI's 2-D ones.

Both packages are imported where they are used: they are slow to import, and
torchxrayvision is optional.
"""

import math
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from radwb import data
from radwb.models.checks import outline, part
from radwb.models.hub import (
    check_name,
    consent,
    library_call,
    licence_of,
    only_own_size,
)
from radwb.models.model import Model
from radwb.models.sources import fill_model, read_weights, require_fit

# the rest of TorchXRayVision's names are CheXpert's or have no match
XRV_NAMES = {"Effusion": "Pleural Effusion"}
XRV_SCALE = {"mean": (0.5,), "std": (1 / 2048,)}  # its networks see [-1024, 1024]
XRV_PARTS = ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
TORCH_PARTS = (
    nn.Sequential,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Linear,
)
MONAI_NAMES = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "ViT")
MONAI_NOTE = (
    "a file says nothing of its preprocessing: input on [0, 1], padded square, is "
    "taken for granted"
)
COMMON_HEADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def load_xrv(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """NAME or NAME/FILE of TorchXRayVision, whose files hold whole networks.

    They are read with its classes and torch's only.
    """
    only_own_size(size, name)
    arch, _, file = rest.partition("/")
    xrv = _torchxrayvision(arch)
    url = xrv.models.model_urls[arch]["weights_url"]
    path = Path(file or Path(xrv.utils.get_cache_dir()).expanduser() / Path(url).name)
    if not file and not path.is_file():
        licence = f"see {url.partition('/releases')[0]}"
        consent(name, source=url, licence=licence, download=download)
        library_call(name, xrv.models.get_weights, arch, download=True)
    classes = tuple(getattr(xrv.models, kind) for kind in XRV_PARTS)
    state = read_weights(path, allowed=classes + TORCH_PARTS, keep="model.")
    model = xrv_model(arch, state, name)
    fill_model(model, state, path, tensors=_without_thresholds(state))
    model.licence = licence_of(path)
    return model


def _without_thresholds(state):
    return {name: t for name, t in state.items() if name != "op_threshs"}


def xrv_model(arch: str, state: dict, name: str) -> Model:
    """The network of one of TorchXRayVision's names.

    Args:
        state: a ResNet can't be made without.
    """
    xrv = _torchxrayvision(arch)
    about = xrv.models.model_urls[arch]
    labels = about["labels"]
    size = about["input_resolution"]
    if arch.startswith("resnet"):
        net = _xrv_resnet(xrv, arch, state, name)
    else:
        options = xrv.models.get_densenet_params(arch)
        net = xrv.models.DenseNet(num_classes=len(labels), **options)
        net.targets = labels
        net.pathologies = labels
        net.input_resolution = size
    # else its forward gives calibrated scores, and `classify` promises logits
    net.op_threshs = None
    return Model(
        net,
        name,
        "image",
        size,
        channels=1,
        **XRV_SCALE,
        fit=data.fit.Fit("crop", filter="gaussian"),
        grid=(size // 32, size // 32),
        findings=[XRV_NAMES.get(label, label.replace("_", " ")) for label in labels],
        spec={"builder": "xrv", "arch": arch},
    )


def _xrv_resnet(xrv, arch, state, name):
    """It reads its weights when it's made: from a file, which is written for it."""
    tensors = _without_thresholds(state)
    tensors = {key.removeprefix("model."): t for key, t in tensors.items()}
    file = Path(xrv.models.model_urls[arch]["weights_url"]).name
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tensors, Path(folder) / file)
        net = library_call(name, xrv.models.get_model, arch, cache_dir=folder)
    net.features2 = net.features
    return net


def _torchxrayvision(arch):
    if not find_spec("torchxrayvision"):
        raise ValueError(
            "expected the package torchxrayvision, which is not installed. "
            "Try: pip install 'radwb[xrv]'"
        )
    import torchxrayvision

    check_name(arch, list(torchxrayvision.models.model_urls), "xrv")
    return torchxrayvision


class MonaiNet(nn.Module):
    """A 2-D classifier of MONAI's with the two calls that a `Model` makes.

    They are: features before the head, and logits.
    """

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def encode_image(self, x):
        net = self.visual
        if hasattr(net, "class_layers"):
            # of a DenseNet: relu, pool and flatten, without the linear layer
            return net.class_layers[:-1](net.features(x))  # (B, E)
        tokens = net.norm(net(x)[1][-1])  # (B, T, E), the last block's
        return tokens[:, 0] if net.classification else tokens.mean(1)

    def forward(self, x):
        out = self.visual(x)
        return out[0] if isinstance(out, tuple) else out


def load_monai(
    rest: str, name: str, *, download: bool, size: int | None, heads: int | None = None
) -> Model:
    """DenseNet121/FILE and its like, or ViT/FILE: MONAI's, from a plain state dict."""
    arch, _, file = rest.partition("/")
    check_name(arch, MONAI_NAMES, "monai")
    if not file:
        raise ValueError(
            "expected a file of weights, got none. "
            f"Try rw.models.load('monai:{arch}/weights.pt')"
        )
    state = read_weights(file)
    model = monai_model(arch, state, name, file, size, heads)
    tensors = {f"visual.{key}": tensor for key, tensor in state.items()}
    fill_model(model, state, file, tensors=tensors)
    model.licence = licence_of(file)
    return model


def monai_model(
    arch: str,
    state: dict,
    name: str,
    source: object,
    size: int | None = None,
    heads: int | None = None,
) -> Model:
    """The unfilled network, all but a ViT's heads read from the shapes.

    Input on [0, 1], padded square: a file says nothing of its preprocessing; set
    `mean`, `std` and `fit` if it's other.
    """
    from monai.networks import nets

    state = {key.removeprefix("visual."): tensor for key, tensor in state.items()}
    spec = {"builder": "monai", "arch": arch, "size": size}
    if arch == "ViT":
        only_own_size(size, name)
        first = _first_weight(state, "patch_embedding.patch_embeddings", arch, source)
        channels, step = first.shape[1:3]
        options = _vit_options(state, first, source, heads)
        side = options["img_size"]
        spec["heads"] = heads
    else:
        first = _first_weight(state, "features.conv0", arch, source)
        channels = first.shape[1]
        step = 32
        side = size or 224
        outputs = len(part(state, "class_layers.out.bias", source))
        options = {"out_channels": outputs}
    options |= {"spatial_dims": 2, "in_channels": channels}
    make = partial(getattr(nets, arch), **options)
    planned = library_call(name, outline, make, source)
    require_fit(planned, state, f"of a 2-D {arch} of MONAI", source)
    return Model(
        MonaiNet(library_call(name, make)),
        name,
        "image",
        side,
        channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        fit="pad",
        grid=(side // step, side // step),
        spec=spec,
        notes=(MONAI_NOTE,),
    )


def _first_weight(state, layer, arch, source):
    """(E, C, h, w) of the first convolution, by which a 2-D network is known."""
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 4:
        got = "others" if weight is None else f"{weight.ndim - 2}-D ones"
        raise ValueError(
            f"expected the weights of a 2-D {arch} of MONAI, got {got} in {source}"
        )
    return weight


def _vit_options(state, first, source, heads):
    """What MONAI's ViT is called with, from the shapes of its weights."""
    width, _, patch, _ = first.shape
    patches = part(state, "patch_embedding.position_embeddings", source).shape[1]
    rows = math.isqrt(patches)
    if rows * rows != patches:
        raise ValueError(
            f"expected a ViT for squares, got one of {patches} patches in {source}"
        )
    if not heads or width % heads:
        fitting = ", ".join(str(n) for n in COMMON_HEADS if width % n == 0)
        raise ValueError(
            f"expected the number of heads that {source} was trained with, which its "
            f"shapes don't tell (width {width} has {fitting}), got {heads}. "
            "Try heads=12, MONAI's default."
        )
    options = {
        "img_size": patch * rows,
        "patch_size": patch,
        "hidden_size": width,
        "mlp_dim": len(part(state, "blocks.0.mlp.linear1.bias", source)),
        "num_layers": len({k.split(".")[1] for k in state if k.startswith("blocks.")}),
        "num_heads": heads,
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "post_activation": "",
    }
    # with a Tanh behind it, the head is the first of two layers
    for head, activation in (
        ("classification_head.0.bias", "Tanh"),
        ("classification_head.bias", ""),
    ):
        if head in state:
            outputs = {"classification": True, "num_classes": len(state[head])}
            return options | outputs | {"post_activation": activation}
    return options
