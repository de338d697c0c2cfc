"""3-D encoders of others by a small description, filled from a file.

The networks are MONAI's and timm's. Names and shapes of the weights, and how a CT is
fed, are read in the public code of their authors: github StanfordMIMI/Merlin,
project-lighter/CT-FM, Zch0414/hlip and cclaess/SPECTRE.
"""

from functools import partial
from pathlib import Path

from radwb import data
from radwb.models.checks import outline, part
from radwb.models.hub import (
    library_call,
    licence_of,
    only_own_size,
    published_folder,
)
from radwb.models.net3d import Net3d
from radwb.models.sources import State, fill, read_weights, require_fit
from radwb.models.vits3d import Vit3d, vit_tensors

INFLATED_152 = {  # Merlin's, arXiv 2406.06512: a ResNet-152 inflated along the slices
    "layers": [3, 8, 36, 3],
    "block_inplanes": [64, 128, 256, 512],
    "n_input_channels": 3,
    "conv1_t_size": [3, 7, 7],
    "conv1_t_stride": [1, 2, 2],
}
RESAMPLED = (
    "a CT of another spacing is resampled by the means of boxes, where the authors "
    "interpolate linearly; what lies outside of it is air"
)
CT = {  # how Merlin's authors feed it: slices first, from the feet up
    "size": (160, 224, 224),
    "spacing_mm": (3.0, 1.5, 1.5),
    "axes": "SRA",
    "channels": 3,
    "search_size": (96, 128, 128),
    "notes": (RESAMPLED,),
}
ASTRA_NOTES = (
    "an encoder alone: its 2,048 outputs have no names, and there is no text tower",
    "begun from Merlin's weights and trained on by Astra's authors (arXiv 2605.31437); "
    "a chest CT is fed as their infer_one_ct.py does: whole, shrunk to the input "
    "whatever its spacing, -1000 to 200 HU; air around the body isn't cut off first",
)


def load_astra(name: str, *, download: bool) -> Net3d:
    """Astra's encoder of chest CTs, 117.5 M weights, kept in bf16 in its file."""
    (file,) = published_folder(name, download=download).glob("*.pt")
    row = data.catalog().set_index("name").loc[name]
    return resnet3d(
        file,
        name,
        INFLATED_152,
        window_hu=(-1000, 200),
        licence=row["licence"],
        lungs=True,
        **CT | {"spacing_mm": None, "notes": ASTRA_NOTES},
    )


def resnet3d(
    path: str | Path,
    name: str,
    shape: dict,
    *,
    under: tuple[str, ...] = (),
    head: str | None = None,
    **fed: object,
) -> Net3d:
    """A 3-D ResNet with bottlenecks from a file, by what it is made of.

    Args:
        path: of a file that holds tensors alone, by the names of MONAI's ResNet, which
            are torchvision's.
        shape: what MONAI's ResNet is called with: layers, block_inplanes and so on.
        under: the names under which a file may hold it among other networks.
        head: which convolution of 1 x 1 x 1 in the file gives the outputs (Merlin's
            "classifier" or "contrastive_head"); None = the mean of the last map.
        fed: how it is fed: the arguments of `Net3d`.
    Raises:
        ValueError: another network's weights.
    """
    from monai.networks.nets.resnet import ResNet, ResNetBottleneck

    state = _part(read_weights(path), under)
    heads = _pop_heads(state)
    shape = shape | {"feed_forward": head is not None}
    if head is not None:
        state["fc.weight"], state["fc.bias"] = part(heads, head, f"the heads of {path}")
        heads.pop(head)
        shape["num_classes"] = len(state["fc.bias"])
    if heads:
        state.notes += (f"heads left out: {', '.join(sorted(heads))}",)
    make = partial(
        ResNet, ResNetBottleneck, spatial_dims=3, bias_downsample=False, **shape
    )
    return _filled(path, name, state, make, "of a 3-D ResNet", fed)


def segresnet3d(
    path: str | Path,
    name: str,
    shape: dict,
    *,
    under: tuple[str, ...] = (),
    **fed: object,
) -> Net3d:
    """The encoder of MONAI's SegResNet from a file, by what it is made of.

    Args:
        path, under, fed: as for `resnet3d`.
        shape: what MONAI's SegResEncoder is called with: blocks_down and so on.
    Raises:
        ValueError: another network's weights.
    """
    from monai.networks.nets.segresnet_ds import SegResEncoder

    state = _part(read_weights(path), under)
    make = partial(SegResEncoder, spatial_dims=3, **shape)
    return _filled(path, name, state, make, "of MONAI's SegResEncoder", fed)


def vit3d(
    path: str | Path,
    name: str,
    shape: dict,
    *,
    under: tuple[str, ...] = (),
    **fed: object,
) -> Net3d:
    """A 3-D vision transformer from a file, by what its weights' shapes don't tell.

    Args:
        path, under, fed: as for `resnet3d`.
        shape: the arguments of `rw.models.vits3d.Vit3d`: heads, window and so on.
    Raises:
        ValueError: another network's weights.
    """
    state = _part(read_weights(path), under)
    tensors, shapes = vit_tensors(state, path)
    named = State(tensors)
    named.notes = state.notes
    make = partial(Vit3d, shapes, **shape)
    return _filled(path, name, named, make, "of a 3-D ViT", fed)


def _part(state, under):
    """The tensors below the first of some names; all, where no name has any."""
    for prefix in under:
        below = [name for name in state if name.startswith(prefix)]
        if below:
            own = State({name.removeprefix(prefix): state[name] for name in below})
            others = {name.split(".")[0] for name in set(state) - set(below)}
            note = (
                f"taken from {prefix!r} in the file; not: {', '.join(sorted(others))}"
            )
            own.notes = (*state.notes, note)
            return own
    return state


def _pop_heads(state):
    """Takes the convolutions of one voxel behind a ResNet out: {name: their two}."""
    layers = [n[:-7] for n, t in state.items() if t.ndim == 5 and n.count(".") == 1]
    heads = {}
    for layer in set(layers) - {"conv1"}:
        weight = state.pop(f"{layer}.weight").flatten(1)
        heads[layer] = (weight, state.pop(f"{layer}.bias", None))
    return heads


def _filled(path, name, state, make, what, fed):
    planned = library_call(name, outline, make, path)
    require_fit(planned, state, what, path)
    net = library_call(name, make)
    left_out = fill(net, state, path)
    fed["notes"] = (*fed.get("notes", ()), *state.notes, *left_out)
    return Net3d(net.eval(), name=name, **fed)


# name -> what builds it, what it is made of, how it's fed
ENCODERS = {
    "merlin": (
        resnet3d,
        INFLATED_152,
        {"under": ("encode_image.i3_resnet.",), "window_hu": (-1000, 1000), **CT},
    ),
    "ct-fm": (
        segresnet3d,
        {"init_filters": 32, "blocks_down": (1, 2, 2, 4, 4)},
        {
            "under": ("backbone.encoder.", "backbone.", "encoder."),
            "size": (96, 256, 256),  # any multiple of 16
            "spacing_mm": (3.0, 1.0, 1.0),
            "axes": "SPL",
            "window_hu": (-1024, 2048),
            "search_size": (32, 64, 64),
            "notes": (RESAMPLED,),
        },
    ),
    "hlip-chest": (
        vit3d,
        {"heads": 12, "window": (1, None, None), "everywhere": (2, 5, 8, 11)},
        {
            "under": ("visual.",),
            "size": (112, 336, 336),
            "spacing_mm": (3.0, 1.0, 1.0),
            "axes": "SPL",
            "window_hu": (-1150, 350),
            "mean": 0.449,  # of ImageNet's three
            "std": 0.226,
            "lungs": True,
            "notes": (
                RESAMPLED,
                "its authors fed slices as their files hold them: a stack from the "
                "feet up, front to back and right to left, is taken for granted",
            ),
        },
    ),
    "spectre": (
        vit3d,
        {"heads": 12, "window": (8, 8, 8), "epsilon": 1e-5},
        {
            "size": (384, 384, 256),  # 3 x 3 x 4 of the crops that it sees at a time
            "spacing_mm": (0.75, 0.75, 1.5),
            "axes": "RAS",
            "window_hu": (-1000, 1000),
            "search_size": (128, 128, 64),
            "notes": (
                RESAMPLED,
                "each crop by itself, and the mean of their class tokens: SPECTRE's "
                "second network, which combines crops, is left out",
            ),
        },
    ),
}


def load_encoder(rest: str, name: str, *, download: bool, size: int | None) -> Net3d:
    """merlin:FILE, ct-fm:FILE, hlip-chest:FILE or spectre:FILE, fed as by its authors.

    Where their licence lets you: the weights are theirs.
    """
    only_own_size(size, name)
    build, shape, fed = ENCODERS[name.partition(":")[0]]
    return build(rest, name, shape, licence=licence_of(rest), **fed)
