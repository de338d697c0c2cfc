"""Published 3-D encoders: MONAI's ResNet by a small description, filled from a file."""

from functools import partial
from pathlib import Path

from radwb import data
from radwb.models.checks import outline
from radwb.models.hub import library_call, published_folder
from radwb.models.net3d import Net3d
from radwb.models.sources import fill, read_weights, require_fit

INFLATED_152 = {  # Merlin's, arXiv 2406.06512: a ResNet-152 inflated along the slices
    "layers": [3, 8, 36, 3],
    "block_inplanes": [64, 128, 256, 512],
    "n_input_channels": 3,
    "conv1_t_size": [3, 7, 7],
    "conv1_t_stride": [1, 2, 2],
}
CT = {  # how Merlin's authors feed it: slices first, from the feet up
    "size": (160, 224, 224),
    "spacing_mm": (3.0, 1.5, 1.5),
    "axes": "SRA",
    "channels": 3,
    "search_size": (96, 128, 128),
}
ASTRA_NOTES = (
    "an encoder alone: its 2,048 outputs have no names, and there is no text tower",
    "begun from Merlin's weights and trained on by Astra's authors; Merlin's input "
    "geometry, and a window of -1000 to 200 HU, are taken for granted",
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
        notes=ASTRA_NOTES,
        **CT,
    )


def resnet3d(path: str | Path, name: str, shape: dict, **fed: object) -> Net3d:
    """A 3-D ResNet with bottlenecks from a file, by what it is made of.

    Args:
        path: of a file that holds tensors alone, by the names of MONAI's ResNet, which
            are torchvision's.
        shape: what MONAI's ResNet is called with: layers, block_inplanes and so on.
        fed: how it is fed: the arguments of `Net3d`.
    Raises:
        ValueError: another network's weights.
    """
    from monai.networks.nets.resnet import ResNet, ResNetBottleneck

    state = read_weights(path)
    make = partial(
        ResNet,
        ResNetBottleneck,
        spatial_dims=3,
        feed_forward=False,
        bias_downsample=False,
        **shape,
    )
    planned = library_call(name, outline, make, path)
    require_fit(planned, state, "of a 3-D ResNet", path)
    net = library_call(name, make)
    notes = state.notes + fill(net, state, path)
    fed["notes"] = (*fed.get("notes", ()), *notes)
    return Net3d(net.eval(), name=name, **fed)
