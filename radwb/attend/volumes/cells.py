"""What a 3-D network knows of each place: the cells of one of its feature maps."""

from dataclasses import dataclass

import numpy as np
import torch

from radwb.attend.map import Map
from radwb.attend.tokens import outputs_of
from radwb.attend.volumes.net import output_of, quiet
from radwb.attend.volumes.place import layout_of, map_module
from radwb.data.scan import Volume
from radwb.models.memory import require_memory
from radwb.models.net3d import Net3d
from radwb.models.voxels import shrink, spread, turned_back, turns_of


@dataclass(frozen=True)
class Cells:
    """One feature map over a volume, along the volume's own axes.

    Args:
        features: (d, h, w, K) float32.
        spans: from where to where it reaches along each axis, in voxels.
        affine: (4, 4), of the volume: from a voxel's index to mm in the patient (LPS).
        volume_shape: (D, H, W).
        layer: the name of the module.
    """

    features: np.ndarray
    spans: list[tuple[float, float]]
    affine: np.ndarray | None
    volume_shape: tuple[int, int, int]
    layer: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.features.shape[:3]

    def mean(self, voxels: np.ndarray) -> np.ndarray:
        """(D, H, W) an array over the volume -> (d, h, w) its mean in each cell.

        A mask gives the share of each cell that it fills. Outside the volume is 0.
        """
        voxels = np.asarray(voxels, np.float32)
        low = float(voxels.min())
        high = max(float(voxels.max()), low + 1e-6)
        share = shrink(voxels, list(self.shape), (low, high), self.spans)
        return low + share * (high - low)

    def to_map(
        self, values: np.ndarray, *, step: int = 1, method: str = "cells"
    ) -> Map:
        """(d, h, w) one value a cell, of 0 or more -> a map over the volume.

        Linear between the middles of the cells, as `volume_map` draws its own.

        Args:
            step: as in `volume_map`.
            method: the map's name for what the values are.
        """
        values = np.asarray(values, np.float32)
        if values.shape != self.shape:
            raise ValueError(
                f"expected one value for each of {self.shape} cells, got an array "
                f"{values.shape}"
            )
        laid = spread(values, self.volume_shape, step, self.spans)
        affine = self.affine
        if affine is not None:
            affine = affine @ np.diag([step, step, step, 1.0])
        return Map(laid, method, self.layer, affine=affine)

    def middles(self) -> list[np.ndarray]:
        """Where the middles of the cells lie along each axis, in voxels."""
        middles = []
        for n, (start, end) in zip(self.shape, self.spans, strict=True):
            middles.append(start + (np.arange(n) + 0.5) * (end - start) / n - 0.5)
        return middles

    def positions(self) -> np.ndarray:
        """(d, h, w, 3) the middles in mm, in the patient's coordinates (LPS)."""
        index = np.stack(np.meshgrid(*self.middles(), indexing="ij"), -1)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def inside(self) -> np.ndarray:
        """(d, h, w) bool: the cells whose middle lies in the volume."""
        reach = []
        for middles, length in zip(self.middles(), self.volume_shape, strict=True):
            reach.append((middles > -0.5) & (middles < length - 0.5))
        return np.logical_and.outer(np.logical_and.outer(*reach[:2]), reach[2])


@torch.no_grad()
def cells(net: Net3d, volume: Volume, layer: str | None = None) -> Cells:
    """What your 3-D network makes of each place of a CT or MR: one of its feature maps.

    >>> conv = torch.nn.Conv3d(1, 4, kernel_size=3, stride=2, padding=1)
    >>> net = rw.attend.Net3d(conv, (16, 16, 16), window_hu=(-1000, 400))
    >>> known = cells(net, ct)
    >>> known.features.shape, known.mean(ct.voxels > 0).shape
    ((8, 8, 8, 4), (8, 8, 8))

    Args:
        layer: the name of a module that gives a feature map; None = the last one of
            more than one voxel. How its axes lie is asked of the network, as for
            `volume_map`.
    Raises:
        ValueError: the layer isn't known, gives no feature map, or one that doesn't
            follow the input.
    """
    if layer is not None and layer not in dict(net.net.named_modules()):
        raise ValueError(
            f"expected the name of a module of {net.name} as layer, got {layer!r}"
        )
    x = net.preprocess(volume)
    with quiet(net):
        require_memory(net.net, x, net.name)
        module = map_module(net, x, layer)
        with outputs_of(module) as outputs:
            output_of(net, x)
        lies = layout_of(net, x, module)
    grid = lies.laid(outputs[-1])[0].float().cpu().numpy()  # (K, d, h, w)
    turns = turns_of(volume, net.axes)
    features = np.stack([turned_back(channel, turns) for channel in grid], -1)
    spans = net.spans(volume) or [(0, n) for n in volume.shape]
    names = {each: name for name, each in net.net.named_modules()}
    return Cells(features, spans, volume.affine, volume.shape, names[module])
