"""`Net3d`: a 3-D network, how a volume is fed to it, and what its outputs mean."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Integral

import nibabel as nib
import numpy as np
import torch

from radwb.attend.tower import QUIET, ROUTED, as_it_was
from radwb.attend.volumes.voxels import shrink, turns_of
from radwb.data.scan import Volume
from radwb.data.volumes import robust_window


@dataclass(frozen=True, eq=False)
class Net3d:
    """A 3-D network of yours and how it is fed, for `volume_map`.

    >>> from monai.networks.nets import ViT
    >>> vit = ViT(1, 32, 16, hidden_size=48, mlp_dim=64, num_layers=1, num_heads=3)
    >>> net = Net3d(vit, (32, 32, 32), window_hu=(-1000, 400))
    >>> net.grid, net.preprocess(ct).shape
    ((2, 2, 2), torch.Size([1, 1, 32, 32, 32]))

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
        name: of the network, for maps and errors.
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
        patches = self.net.patch_embedding.patch_embeddings
        if isinstance(patches, torch.nn.Sequential):
            # of MONAI's "perceptron": the layer that cuts is einops', and knows sides
            sides = [patches[0].axes_lengths[f"p{axis}"] for axis in (1, 2, 3)]
        else:
            sides = patches.kernel_size
        return tuple(n // side for n, side in zip(self.size, sides, strict=True))

    def preprocess(self, volume: Volume) -> torch.Tensor:
        """Volume -> (1, channels, *size) in [0, 1]."""
        turns = turns_of(volume, self.axes)
        window = self.window_hu or robust_window(volume.voxels)
        size = [self.size[int(axis)] for axis in turns[:, 0]]
        grey = shrink(volume.voxels, size, window)
        if volume.inverted:
            grey = 1 - grey  # bright = dense
        turned = nib.orientations.apply_orientation(grey, turns)
        x = torch.from_numpy(np.ascontiguousarray(turned))
        x = x.expand(1, self.channels, *self.size)
        return x.to(next(self.net.parameters()))


def quiet(net: Net3d) -> AbstractContextManager:
    """`as_it_was` for a pass of a 3-D network."""
    return as_it_was(net.net, QUIET | ROUTED if net.grid else QUIET)


def output_of(net: Net3d, x: torch.Tensor) -> torch.Tensor:
    """(B, channels, *size) -> (B, K), of a tuple or list the one that is documented."""
    output = net.net(x)
    if isinstance(output, tuple):
        output = output[0]
    elif isinstance(output, list):
        output = output[-1]
    if output.ndim == 3:  # tokens (B, T, K)
        return output.mean(1)
    if output.ndim == 5:  # a feature map (B, K, d, h, w)
        return output.flatten(2).mean(-1)
    return output


def score_of(net: Net3d, output: torch.Tensor, target) -> torch.Tensor:
    """(B,) of the outputs (B, K)."""
    if torch.is_tensor(target) and target.shape == output.shape[1:]:
        return output @ target.to(output)
    names = net.findings or []
    index = names.index(target) if target in names else target
    K = output.shape[1]
    if not isinstance(index, Integral) or not 0 <= index < K:
        raise ValueError(
            f"expected a target of {names or f'0 to {K - 1}'}, or a ({K},) tensor, "
            f"got {index!r}"
        )
    return output[:, index]
