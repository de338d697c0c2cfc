"""Which module's feature map Grad-CAM weighs, and how that lies over the input."""

from contextlib import ExitStack
from weakref import WeakKeyDictionary

import torch
from torch import nn

from radwb.attend.layout import Layout, channel_axes, layout
from radwb.attend.threads import of_this_thread
from radwb.attend.tokens import outputs_of
from radwb.attend.volumes.net import output_of
from radwb.models.net3d import Net3d

_layouts = WeakKeyDictionary()  # module -> {shape of the input: Layout}


@torch.no_grad()
def map_module(net: Net3d, x: torch.Tensor, layer: str | None) -> nn.Module:
    """The module named `layer`; None: the last with a map of more than one voxel."""
    mapping = []

    @of_this_thread
    def note(module, _, out):
        if torch.is_tensor(out) and out.ndim == 5 and sorted(out.shape[1:])[-2] > 1:
            mapping.append(module)

    modules = list(net.net.modules())
    if layer is not None:
        modules = [net.net.get_submodule(layer)]
    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(note).remove)
        output_of(net, net.smaller(x))
    if not mapping:
        raise ValueError(
            f"expected a feature map of more than one voxel in {net.name}, found none "
            "to weigh"
        )
    return mapping[-1]


def layout_of(net: Net3d, x: torch.Tensor, module: nn.Module) -> Layout:
    """How a module's map lies over the input; found once for each shape of input.

    A network may turn or flip its axes in `forward`.
    """
    x = net.smaller(x)
    known = _layouts.setdefault(module, {})
    if x.shape not in known:
        known[x.shape] = _searched(net, x, module)
    return known[x.shape]


def _searched(net, x, module):
    def run(changed):
        with outputs_of(module) as outputs:
            output_of(net, changed)
        return outputs[-1]

    try:
        return layout(run, x, f"the feature map of {net.name}")
    except ValueError:
        lies = _layout_of_swin(net, run(x).shape[1:], x.shape[2:])
        if lies is None:
            raise
        return lies


def _layout_of_swin(net, shape, size):
    """That of a MONAI Swin, which turns no axes; None where sizes don't tell it.

    Its windows may see all of a small map: then no place in it follows the input.
    """
    kind = type(net.net)
    known = kind.__name__ in ("SwinTransformer", "SwinUNETR")
    if not known or not kind.__module__.startswith("monai."):
        return None
    channels = channel_axes(shape, size)
    if len(channels) != 1:
        return None
    axes = [axis + 1 for axis in range(len(shape)) if axis not in channels]
    return Layout(tuple(axes), (1, 1, 1))
