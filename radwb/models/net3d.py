"""`Net3d`: a 3-D network, how a volume is fed to it, and what its outputs mean."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

from radwb.data.scan import Volume
from radwb.data.volumes import robust_window
from radwb.models.unlike import warn_if_unlike
from radwb.models.voxels import shrink, turns_of

LEAST = 0.25  # of the input that has to lie in the volume, along each axis


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
        spacing_mm: of the input's voxels, axis by axis. The middle of the volume is
            cut or padded to the size at this spacing; None = shrunk to the size.
        search_size: of a smaller input at which the network may be asked how its maps
            lie over its input; None = `size`.
        mean, std: taken off and divided by, behind the window.
        lungs: whether it learned from chests alone, so that a volume without the air of
            lungs is warned of.
        licence: of the weights.
        notes: what is known of them, and what is taken for granted.
        name: of the network, for maps and errors.
    """

    net: torch.nn.Module
    size: tuple[int, int, int]
    window_hu: tuple[float, float] | None = None
    channels: int = 1
    axes: str | None = "SPL"
    findings: list[str] | None = None
    name: str = "3-D network"
    spacing_mm: tuple[float, float, float] | None = None
    search_size: tuple[int, int, int] | None = None
    mean: float = 0.0
    std: float = 1.0
    lungs: bool = False
    licence: str = ""
    notes: tuple[str, ...] = ()

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

    def to(self, device: str | torch.device) -> "Net3d":
        self.net.to(device)
        return self

    def preprocess(self, volume: Volume) -> torch.Tensor:
        """Volume -> (1, channels, *size) in [0, 1], less the mean and over std.

        It warns of a volume that is unlike what the network learned from: see
        `rw.models.unlike`.
        """
        turns = turns_of(volume, self.axes)
        window = self.window_hu or robust_window(volume.voxels)
        size = [self.size[int(axis)] for axis in turns[:, 0]]
        spans = self.spans(volume)
        warn_if_unlike(self, volume, spans)
        grey = shrink(volume.voxels, size, window, spans)
        if volume.inverted:
            grey = 1 - grey  # bright = dense
        turned = nib.orientations.apply_orientation(grey, turns)
        x = torch.from_numpy(np.ascontiguousarray(turned))
        x = (x - self.mean) / self.std
        x = x.expand(1, self.channels, *self.size)
        return x.to(next(self.net.parameters()))

    def smaller(self, x: torch.Tensor) -> torch.Tensor:
        """The input at which the network is asked how its maps lie over it."""
        if self.search_size is None:
            return x
        return F.interpolate(x, self.search_size)

    def spans(self, volume: Volume) -> list[tuple[float, float]] | None:
        """From where to where the input reaches, along each axis of the voxels.

        Counted in voxels, 0 at the outer face of the first; None where the whole volume
        is shrunk.

        Raises:
            ValueError: the network needs a spacing and the volume has none, or less
                than a quarter of the input lies in the volume along an axis.
        """
        if self.spacing_mm is None:
            return None
        if volume.spacing_mm is None:
            raise ValueError(
                f"expected a volume with a spacing for {self.name}, got none: how "
                "large a voxel is isn't known"
            )
        spans = []
        axes = turns_of(volume, self.axes)[:, 0].astype(int)
        for axis, n, step in zip(axes, volume.shape, volume.spacing_mm, strict=True):
            length = self.size[axis] * self.spacing_mm[axis] / step
            if n < LEAST * length:
                raise ValueError(
                    f"expected at least {LEAST * length * step:.0f} mm along each axis "
                    f"for {self.name}, which sees {length * step:.0f}; got "
                    f"{n * step:.0f} mm ({n} voxels). Try a volume of the whole chest."
                )
            spans.append(((n - length) / 2, (n + length) / 2))
        return spans
