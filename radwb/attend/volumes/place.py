"""Which module of a 3-D network gives the feature map that Grad-CAM weighs, and how
that lies over the input.
"""

from contextlib import ExitStack
from weakref import WeakKeyDictionary

import torch

from radwb.attend.layout import Layout, channel_axes, layout

_layouts = WeakKeyDictionary()  # module -> {shape of the input: Layout}


@torch.no_grad()
def map_module(net, forward, x, layer):
    """The module named `layer`, or the last that gives a feature map of more than one
    voxel.
    """
    last = []

    def note(module, _, out):
        if torch.is_tensor(out) and out.ndim == 5 and sorted(out.shape[1:])[-2] > 1:
            last[:] = [module]

    with ExitStack() as hooks:
        for module in (
            net.net.modules() if layer is None else [net.net.get_submodule(layer)]
        ):
            hooks.callback(module.register_forward_hook(note).remove)
        forward(x)
    if not last:
        raise ValueError(
            f"expected a feature map of more than one voxel in {net.name}, found none to weigh"
        )
    return last[0]


def layout_of(net, forward, x, module):
    """How a module's map lies over the input: a network may turn or flip its axes in
    `forward`. Found once.
    """
    known = _layouts.setdefault(module, {})
    if x.shape in known:
        return known[x.shape]

    def run(changed):
        kept = []
        hook = module.register_forward_hook(lambda *call: kept.append(call[-1].clone()))
        try:
            forward(changed)
        finally:
            hook.remove()
        return kept[-1]

    try:
        found = layout(run, x, f"the feature map of {net.name}")
    except ValueError:
        found = _layout_of_swin(net, run(x).shape[1:], x.shape[2:])
        if found is None:
            raise
    known[x.shape] = found
    return found


def _layout_of_swin(net, shape, size):
    """That of a MONAI Swin, which turns no axes; None for others, or where sizes don't
    tell the channels.

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
