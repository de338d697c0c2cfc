"""Maps on volumes: a 3-D network over the whole of it, or a 2-D model slice by slice.

No (heads, T, T) of a layer is ever kept. With q, k, v and, for relevance, the gradient
G of the score by the attention's output, softmax(q k') and its gradient G v' are made
for a few rows at a time and summed up at once: 4,096 tokens x 12 layers x 12 heads take
megabytes instead of 9.7 GB, and the numbers are the same.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from numbers import Integral

import nibabel as nib
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from radwb.attend.map import Map, note_of
from radwb.attend.maps import attention_maps
from radwb.attend.tower import EXACT, HALF, QUIET, ROUTED, as_it_was, require_equal
from radwb.attend.volumes.place import layout_of, map_module
from radwb.attend.volumes.windows import window_blocks, window_flow
from radwb.data.nifti import RAS_TO_LPS
from radwb.data.scan import Volume, to_display
from radwb.data.volumes import robust_window

FOLLOWED = ("attention", "rollout", "relevance")  # from token to token
METHODS_3D = (*FOLLOWED, "gradcam", "occlusion")
ROWS = 256  # of a layer's attention made at a time


@dataclass(frozen=True, eq=False)
class Net3d:
    """A 3-D network and what one has to know to feed it.

    >>> Net3d(monai.networks.nets.ViT(1, 96, 16, classification=True), (96, 96, 96), window_hu=(-1000, 400))

    Args:
        net: takes (B, channels, *size), gives (B, K), a tuple that starts with it or a
            list that ends with it (the deepest of a pyramid); tokens (B, T, K) and
            feature maps (B, K, d, h, w) are averaged over their places.
        size: of the input. A volume is shrunk to it, its axes each by their own factor:
            a voxel of the input is the mean of those it covers. Planes are read one at
            a time, so a volume on disk (a memmap) may be of any size.
        window_hu: what goes to 0 and to 1; None = the volume's 1st and 99th percentile,
            as for an MR.
        channels: one is one; a network with three gets the same three times.
        axes: where the input's three axes point; "SPL" is a DICOM stack read from the
            feet up, MONAI's is often "RAS". None = leave the voxels in the order they
            lie in.
        findings: names of the K outputs.
    """

    net: torch.nn.Module
    size: tuple[int, int, int]
    window_hu: tuple[float, float] | None = None
    channels: int = 1
    axes: str | None = "SPL"
    findings: list[str] | None = None
    name: str = "3-D network"

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The patches of a MONAI ViT, (d, h, w); None for any other network."""
        if not hasattr(self.net, "patch_embedding") or not hasattr(self.net, "blocks"):
            return None
        to_patches = self.net.patch_embedding.patch_embeddings
        patch = getattr(to_patches, "kernel_size", None) or [
            to_patches[0].axes_lengths[f"p{n}"] for n in (1, 2, 3)
        ]
        return tuple(n // p for n, p in zip(self.size, patch, strict=True))

    def preprocess(self, volume: Volume) -> torch.Tensor:
        """Volume -> (1, channels, *size) in [0, 1]."""
        turns = _turns(volume, self.axes)
        low_high = self.window_hu or robust_window(volume.voxels)
        x = _shrink(
            volume.voxels, [self.size[int(axis)] for axis in turns[:, 0]], low_high
        )
        x = 1 - x if volume.inverted else x  # bright = dense
        x = torch.from_numpy(
            np.ascontiguousarray(nib.orientations.apply_orientation(x, turns))
        )
        return x.expand(1, self.channels, *self.size).to(next(self.net.parameters()))


def volume_map(
    net: Net3d,
    volume: Volume,
    *,
    method="gradcam",
    target=None,
    layer=None,
    head=None,
    mask=None,
    step: int = 1,
) -> Map:
    """Where a 3-D network looked, in the volume's own voxels.

    >>> volume_map(net, ct, method="relevance", target=1).values.shape == ct.shape
    True

    Args:
        method: "gradcam" and "occlusion" for any network; "attention", "rollout" and
            "relevance" as in `attention_map` for a MONAI ViT, and read at the mean of
            the last block's tokens for a MONAI Swin (`SwinUNETR`, or its `swinViT`
            alone), whose tokens attend within windows: see `windows.window_flow` for
            what that assumes.
        target: index or finding of an output, or a (K,) direction to multiply the
            outputs with (a text's embedding).
        layer: of a ViT as in `attention_map`; of a Swin a block, counted through all
            stages, and the map has that block's grid. For Grad-CAM of a Swin or CNN the
            name of the module whose feature map is weighed; default the last one of
            more than one voxel. How its axes lie over the input is asked of the
            network, once, by seven forward passes: it may turn or flip them in its
            `forward`.
        head: only for "attention"; None = mean over heads.
        mask: (d, h, w) of the box that occlusion fills with the input's mean, in voxels
            of the input; default an eighth of each side. The map is the fall of the
            score, 0 where it rises.
        step: 2 gives the map at every second voxel of each axis, with the affine to
            match.
    Raises:
        ValueError: the method doesn't suit the network, the target isn't known, or the
            map is larger than memory.
        RuntimeError: softmax(QK) V as re-derived isn't what a block computed.
    """
    layer = _require_sense(net, method, target, layer, head)
    _require_room(volume.shape, step)
    turns = _turns(volume, net.axes)
    x = net.preprocess(volume)
    with as_it_was(net.net, QUIET | ROUTED if net.grid else QUIET):
        if method == "gradcam":
            grid = _gradcam(net, x, target, layer)
        elif method == "occlusion":
            grid = _occlusion(
                net, x, target, mask or [max(1, n // 8) for n in net.size]
            ).relu()
        elif net.grid:
            grid = _flow(net, x, method, target, layer, head)
        else:
            score = (
                (lambda out: _score(net, out, target).sum())
                if method == "relevance"
                else None
            )
            grid = window_flow(
                net.net, lambda: _output(net, x), score, method, layer, head
            )
    back = nib.orientations.ornt_transform([[n, 1] for n in range(3)], turns)
    values = _spread(
        nib.orientations.apply_orientation(grid.float().cpu().numpy(), back),
        volume.shape,
        step,
    )
    affine = (
        None
        if volume.affine is None
        else volume.affine @ np.diag([step, step, step, 1.0])
    )
    target = target if method in ("relevance", "gradcam", "occlusion") else None
    target = "a direction" if torch.is_tensor(target) else target
    layer = layer if method != "occlusion" else None
    note = note_of(values, method, target)
    return Map(values, method, layer, head, target, net.name, affine, note=note)


def slice_maps(
    model,
    volume: Volume,
    *,
    axis: int = 0,
    method="relevance",
    target=None,
    window_hu=None,
    every: int = 1,
    layer=None,
    head=None,
    batch: int = 16,
) -> Map:
    """Where a 2-D model looked in each slice of a volume, put together in the volume's
    own voxels.

    >>> slice_maps(model, ct, target="pleural effusion", window_hu=(-160, 240), every=4).values.shape == ct.shape
    True

    Each slice is shown to the model as a radiologist looks at it (`Volume.slice`) and
    its map turned back.

    Args:
        model: a `rw.models.Model`; method, target, layer, head as in `attention_map`.
        axis: the axis of `volume.voxels` that is cut.
        window_hu: (low, high); None = the volume's 1st and 99th percentile.
        every: 4 asks the model for every fourth slice; those between are interpolated,
            those outside repeat the next.
        batch: slices in one pass.
    """
    _require_room(volume.shape)
    window = window_hu or robust_window(volume.voxels)
    cuts = list(range(min(every, volume.shape[axis]) // 2, volume.shape[axis], every))
    values = np.zeros(volume.shape, np.float32)
    planes, place = np.moveaxis(values, axis, 0), _place(volume, axis)
    for n in tqdm(range(0, len(cuts), batch), "slices", delay=2, leave=False):
        few = cuts[n : n + batch]
        scans = [volume.slice(axis, i, window) for i in few]
        maps = attention_maps(
            model, scans, method=method, targets=target, layer=layer, head=head
        )
        for i, m in zip(few, maps, strict=True):
            planes[i][place] = m.values
    for a, b in pairwise(cuts):
        for i in range(a + 1, b):
            planes[i] = ((b - i) * planes[a] + (i - a) * planes[b]) / (b - a)
    planes[: cuts[0]], planes[cuts[-1] + 1 :] = planes[cuts[0]], planes[cuts[-1]]
    return Map(values, m.method, m.layer, m.head, m.target, m.model, volume.affine)


def _turns(volume, axes):
    """(3, 2) nibabel's orientation: which input axis each voxel axis becomes, and its
    sign.
    """
    if axes is None:
        return np.array([[0, 1], [1, 1], [2, 1.0]])
    if volume.affine is None:
        raise ValueError(
            "expected a volume with an affine, got None: which way it lies isn't known. Try axes=None."
        )
    lies = nib.io_orientation(RAS_TO_LPS @ volume.affine)
    return nib.orientations.ornt_transform(
        lies, nib.orientations.axcodes2ornt(tuple(axes))
    )


def _shrink(voxels, size, window):
    """(D, H, W) -> (d, h, w) in [0, 1]: means of boxes, as in adaptive average pooling,
    one plane at a time.
    """
    out = np.empty(size, np.float32)
    for d in range(size[0]):
        covered = range(
            d * len(voxels) // size[0], -(-(d + 1) * len(voxels) // size[0])
        )
        planes = (
            torch.from_numpy(to_display(np.asarray(voxels[i]), *window))[None]
            for i in covered
        )
        out[d] = sum(
            F.adaptive_avg_pool2d(plane, size[1:])[0].numpy() for plane in planes
        ) / len(covered)
    return out


def _spread(grid, shape, step=1):
    """(d, h, w) over (D, H, W) at every step-th voxel: linear between the cells'
    centres, constant beyond them.
    """
    for axis, (n, cells) in enumerate(zip(shape, grid.shape, strict=True)):
        at = (np.arange(0, n, step) + 0.5) * cells / n - 0.5
        weights = np.stack(
            [np.interp(at, np.arange(cells), one) for one in np.eye(cells)]
        ).astype(np.float32)
        grid = np.moveaxis(np.moveaxis(grid, axis, -1) @ weights, -1, axis)
    return grid


def _place(volume, axis):
    """Of each pixel of a slice as it's shown its (row, column) in the plane of voxels:
    `slice` done to the indices.
    """
    shape, found = np.delete(volume.shape, axis), []
    for index, n in zip(np.indices(shape, dtype=np.float32), shape, strict=True):
        everywhere = np.broadcast_to(np.expand_dims(index, axis), volume.shape)
        shown = Volume(everywhere, volume.affine).slice(axis, 0, (0, max(1, n - 1)))
        found.append(np.rint(shown.pixels * max(1, n - 1)).astype(int))
    return tuple(found)


def _output(net, x):
    out = net.net(x)
    out = (
        out[0] if isinstance(out, tuple) else out[-1] if isinstance(out, list) else out
    )
    return (
        out.mean(1)
        if out.ndim == 3
        else out.flatten(2).mean(-1)
        if out.ndim == 5
        else out
    )  # (B, K)


def _score(net, out, target):
    """(B,) of the outputs (B, K)."""
    if torch.is_tensor(target) and target.shape == out.shape[1:]:
        return out @ target.to(out)
    names = net.findings or []
    target = names.index(target) if target in names else target
    if not isinstance(target, Integral) or not 0 <= target < out.shape[1]:
        known = names or f"0 to {out.shape[1] - 1}"
        raise ValueError(
            f"expected a target of {known}, or a ({out.shape[1]},) tensor, got {target!r}"
        )
    return out[:, target]


def _gradcam(net, x, target, layer):
    """(d, h, w): one forward pass; the backward pass ends at the feature map that is
    weighed.
    """
    module = None if net.grid else map_module(net, partial(_output, net), x, layer)
    kept = []

    def leaf(tensor):
        kept[:] = [tensor.detach().requires_grad_()]
        return kept[0].clone()  # a copy, since an in-place ReLU may follow

    with ExitStack() as hooks, torch.enable_grad():
        if net.grid:
            block = net.net.blocks[layer]
            hook = block.register_forward_pre_hook(
                lambda _, args: (leaf(args[0]), *args[1:])
            )
        else:
            hook = module.register_forward_hook(lambda *call: leaf(call[-1]))
        hooks.callback(hook.remove)
        score = _score(net, _output(net, x), target).sum()
        gradient, weighed = torch.autograd.grad(score, kept[0])[0], kept[0].detach()
    if net.grid:  # (1, T, E) -> (1, E, d, h, w)
        patches = np.prod(net.grid)
        weighed, gradient = (
            t[:, -patches:].mT.unflatten(-1, net.grid) for t in (weighed, gradient)
        )
    else:
        along = layout_of(net, partial(_output, net), x, module)
        weighed, gradient = along.laid(weighed), along.laid(gradient)
    return torch.einsum("be,bedhw->dhw", gradient.flatten(2).mean(-1), weighed).relu()


@torch.no_grad()
def _occlusion(net, x, target, mask, batch=8):
    """(d, h, w): how much the score falls when a box is filled with the input's mean;
    boxes don't overlap.
    """
    if any(n % m for n, m in zip(net.size, mask, strict=True)):
        raise ValueError(
            f"expected a mask whose sides divide {net.size}, got {tuple(mask)}"
        )
    counts = [n // m for n, m in zip(net.size, mask, strict=True)]
    sides = [
        [slice(i, i + m) for i in range(0, n, m)]
        for n, m in zip(net.size, mask, strict=True)
    ]
    boxes = list(product(*sides))
    plain, scores = _score(net, _output(net, x), target), []
    for n in tqdm(range(0, len(boxes), batch), "occlusion", delay=2, leave=False):
        hidden = x.repeat(len(boxes[n : n + batch]), 1, 1, 1, 1)
        for one, box in zip(hidden, boxes[n : n + batch], strict=True):
            one[(slice(None), *box)] = x.mean()
        scores.append(_score(net, _output(net, hidden), target))
    return (plain - torch.cat(scores)).reshape(counts)


def _flow(net, x, method, target, layer, head):
    """(d, h, w): what the read-out got from each patch, followed back from the last
    layer to `layer`.
    """
    layers = _trace(net, x, target if method == "relevance" else None)
    tokens, patches = layers[0].out.shape[1], int(np.prod(net.grid))
    read = torch.zeros(1, tokens).to(x)
    read[0, : 1 if tokens > patches else None] = (
        1 if tokens > patches else 1 / tokens
    )  # class token or mean of patches
    flow = read
    for one in layers[layer:][::-1] if method != "attention" else []:
        got = _times(flow, one)
        flow = flow + got if method == "relevance" else 0.5 * flow + 0.5 * got
    flow = (
        _times(read, layers[layer], head)
        if method == "attention"
        else flow - read * (method == "relevance")
    )
    return flow[0, -patches:].reshape(net.grid)


@dataclass
class _Layer:
    """Of one block: q, k, v (heads, T, d), the attention's output, and the gradient of
    the score by that output.
    """

    qkv: list
    scale: float
    out: torch.Tensor | None = None
    gradient: torch.Tensor | None = None


def _trace(net, x, target) -> list[_Layer]:
    """One pass with the fused attention, which keeps no (T, T) for the way back; the
    output stays what it was.
    """
    layers = [_Layer([], block.attn.scale) for block in net.net.blocks]

    def keep(layer, out):
        layer.out = (
            out
            if out.requires_grad or target is None
            else out.detach().requires_grad_()
        )
        return (layer.out,)

    with torch.no_grad(), as_it_was(net.net, {"use_flash_attention": False}):
        plain = _output(net, x)
    with ExitStack() as hooks, torch.set_grad_enabled(target is not None):
        for block, layer in zip(net.net.blocks, layers, strict=True):
            split = lambda _, __, out, to=layer: to.qkv.extend(
                out if out.ndim == 5 else [out]
            )  # noqa: E731
            hooks.callback(
                block.attn.input_rearrange.register_forward_hook(split).remove
            )
            join = lambda _, args, to=layer: keep(to, *args)  # noqa: E731
            hooks.callback(
                block.attn.out_rearrange.register_forward_pre_hook(join).remove
            )
        out = _output(net, x)
        require_equal(
            out.detach(),
            plain,
            1e-4 if plain.dtype in EXACT else HALF,
            f"{net.name}: output",
        )
        if target is not None:
            gradients = torch.autograd.grad(
                _score(net, out, target).sum(), [layer.out for layer in layers]
            )
    for n, layer in enumerate(layers):
        layer.qkv, layer.out = [t.detach()[0] for t in layer.qkv], layer.out.detach()[0]
        layer.gradient = None if target is None else gradients[n][0]
    return layers


def _times(flow, layer, head=None):
    """(1, T) times the mean over heads of A, or of max(A * dscore/dA, 0), made and
    proved a few rows at a time.
    """
    (q, k, v), total = layer.qkv, torch.zeros_like(flow)
    for n in range(0, q.shape[1], ROWS):
        rows = slice(n, n + ROWS)
        a = (layer.scale * q[:, rows] @ k.mT).softmax(-1)  # (heads, rows, T)
        require_equal(
            a @ v, layer.out[:, rows], EXACT.get(v.dtype, HALF), "softmax(QK) V"
        )
        if layer.gradient is not None:
            a = (a * (layer.gradient[:, rows] @ v.mT)).clamp(min=0)
        total += flow[:, rows] @ (a.mean(0) if head is None else a[head])
    return total


def _require_sense(net, method, target, layer, head):
    """ValueError, or the layer: a number from 0 of a transformer, a name or None for
    Grad-CAM of another network.
    """
    blocks = (
        net.net.blocks
        if net.grid
        else window_blocks(net.net)
        if method in FOLLOWED
        else []
    )
    if method not in METHODS_3D:
        raise ValueError(f"expected a method of {METHODS_3D}, got {method!r}")
    if method in FOLLOWED and not len(blocks):
        kind = type(net.net).__name__
        raise ValueError(
            f"expected a MONAI ViT or Swin for {method}, got {net.name} ({kind}). Try method='gradcam'."
        )
    if net.grid and np.prod(net.grid) < 2:
        raise ValueError(
            f"{net.name} sees the volume as one patch, so no map can say where; expected a finer grid"
        )
    if target is None and method not in ("attention", "rollout"):
        raise ValueError(
            f"{method} asks for a score: expected a target, got None. Try target=0."
        )
    if head is not None and method != "attention":
        raise ValueError(
            f"expected head=None for {method}, which takes all heads; got {head}"
        )
    if len(blocks):
        layer = (
            (0 if method in ("rollout", "relevance") else -1)
            if layer is None
            else layer
        )
        if not isinstance(layer, Integral) or layer not in range(
            -len(blocks), len(blocks)
        ):
            raise ValueError(
                f"expected a layer of 0 to {len(blocks) - 1} for {method}, got {layer!r}. Try layer=None."
            )
        return layer % len(blocks)
    if (
        method == "gradcam"
        and layer is not None
        and layer not in dict(net.net.named_modules())
    ):
        raise ValueError(
            f"expected the name of a module of {net.name} as layer, got {layer!r}. Try layer=None."
        )
    return layer


def _require_room(shape, step=1):
    voxels = np.prod([-(-n // step) for n in shape], dtype=float)
    free = psutil.virtual_memory().available
    if 4 * voxels > free:
        enough = int(np.ceil(step * (8 * voxels / free) ** (1 / 3)))
        raise ValueError(
            f"expected a map that fits into {free / 2**30:.3g} GiB of free memory, got "
            f"{' x '.join(map(str, shape))} voxels at step {step}. Try step={enough}."
        )
