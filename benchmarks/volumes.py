"""Rows of `bench.py` on volumes: a 3-D DenseNet-121 of 48^3, random weights, fp32."""

import numpy as np
import torch
from rows import row, timed

import radwb as rw

SIDE = 48


def gradcam_3d() -> dict:
    """3-D Grad-CAM against MONAI's on the same features, both laid over the volume."""
    from monai.networks.nets import DenseNet121
    from monai.visualize import GradCAM

    net, volume, layer = setting(DenseNet121)
    raw = GradCAM(net.net, layer, upsampler=lambda size: same, postprocessing=same)
    full = GradCAM(net.net, layer)  # as it comes: laid over the volume and scaled
    x = net.preprocess(volume)

    def ours():
        return rw.attend.volume_map(
            net, volume, method="gradcam", target=0, layer=layer
        ).values

    from radwb.models.voxels import spread

    theirs = spread(raw(x, class_idx=0)[0, 0].detach().numpy(), volume.shape)
    error = np.abs(ours() - theirs).max() / theirs.max()
    assert error < 1e-3, f"maps differ by {error:.2g} of the largest value"
    seconds = timed(
        {
            "ours": ours,
            "peer": lambda: full(x, class_idx=0),
            "forward": lambda: forward(net, x),
        },
        9,
    )
    once = np.median(seconds.pop("forward")) / np.median(seconds["ours"])
    equal = (
        f"maps within {error:.0e} of the largest value; "
        f"{once:.0%} of its time is one forward"
    )
    return row(
        "3-D Grad-CAM, MONAI", "maps/s", 1, seconds, bound=2.3, of="ratio", equal=equal
    )


def setting(DenseNet121):
    torch.manual_seed(0)
    net = DenseNet121(3, 1, 2).eval()
    voxels = np.random.default_rng(0).normal(0, 400, (SIDE,) * 3).astype(np.float32)
    volume = rw.data.Volume(voxels, np.diag([2.0, 2, 2, 1]), "CT")
    eye = rw.attend.Net3d(
        net, (SIDE,) * 3, (-1000, 1000), axes=None, name="DenseNet-121"
    )
    return eye, volume, "features.denseblock3"  # 3^3 places; behind it one is left


def same(tensor):
    return tensor


@torch.no_grad()
def forward(net, x):
    return net.net(x)


VOLUMES = {"gradcam-3d": gradcam_3d}
