"""Rows of `bench.py` on attention maps: a ViT-S/16 at 224 px with random weights and 14
classes, one film, fp32.
"""

from copy import deepcopy
from functools import cache
from importlib.util import find_spec

import numpy as np
import timm
import torch
from rows import row, timed
from torch import nn

import radwb as rw

SIZE = 224
PATCH = 16
GRID = (14, 14)
CLASSES = 14


@cache
def setting():
    """The model, a film, and the film as the network takes it; 224 px square, so that
    neither side resizes.
    """
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_small_patch16_224", pretrained=False, num_classes=CLASSES
    )
    nn.init.normal_(net.head.weight, std=0.05)
    names = [f"finding {i}" for i in range(CLASSES)]
    model = rw.models.Model(
        net,
        "ViT-S/16",
        "image",
        SIZE,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        GRID,
        findings=names,
    )
    smooth = rw.attend.blind.random_map((SIZE, SIZE), 0)
    scan = rw.data.Scan(smooth / smooth.max())
    return model, scan, model.preprocess(scan)


def ours(method, classes=(0,)):
    """(K, 224, 224): `attention_maps` of K classes of the film."""
    model, scan, _ = setting()
    return np.stack(
        [
            m.values
            for m in rw.attend.attention_maps(
                model, scan, method=method, targets=list(classes)
            )
        ]
    )


def laid(grids):
    """(K, 14, 14) of another library, laid over the film as ours are."""
    grids = np.asarray(torch.as_tensor(grids).detach(), dtype=np.float32).reshape(
        -1, *GRID
    )
    return np.stack([rw.data.to_scan(grid, (SIZE, SIZE)) for grid in grids])


def compare(
    name,
    method,
    theirs,
    *,
    bound,
    classes=(0,),
    repeats=7,
    amount=1,
    unit="maps/s",
    grid=lambda out: out,
):
    """A row: their call against ours, after both gave the same maps."""
    mine, other = ours(method, classes), laid(grid(theirs()))
    error = np.abs(mine - other).max() / np.abs(other).max()
    assert error < 1e-3, f"{name}: maps differ by {error:.2g} of the largest value"
    seconds = timed({"ours": lambda: ours(method, classes), "peer": theirs}, repeats)
    equal = f"maps within {error:.0e} of the largest value"
    return row(
        name, unit, amount * len(classes), seconds, bound=bound, of="ratio", equal=equal
    )


class OnGrid(nn.Module):
    """A block whose patch tokens pass by as a feature map, where the other libraries
    can hook in.
    """

    def __init__(self, block):
        super().__init__()
        self.block, self.grid = block, nn.Identity()

    def forward(self, tokens, *args, **kwargs):
        grid = self.grid(tokens[:, 1:].mT.unflatten(-1, GRID))
        return self.block(
            torch.cat([tokens[:, :1], grid.flatten(2).mT], 1), *args, **kwargs
        )


def net_with_grid():
    net = deepcopy(setting()[0].net)
    net.blocks[-1] = OnGrid(net.blocks[-1])
    return net, net.blocks[-1].grid


def gradcam_captum() -> dict:
    """Grad-CAM on the last block's input, against captum on the same features."""
    from captum.attr import LayerGradCam

    net, layer = net_with_grid()
    peer = LayerGradCam(net, layer)
    return compare(
        "Grad-CAM, captum",
        "gradcam",
        bound=1.0,
        repeats=15,
        theirs=lambda: peer.attribute(setting()[2], 0, relu_attributions=True),
    )


def gradcam_pytorch() -> dict | None:
    """The same against pytorch-grad-cam, which also scales and resizes with OpenCV."""
    if not find_spec("pytorch_grad_cam"):
        return None
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, layer = net_with_grid()
    peer, target = GradCAM(net, [layer]), [ClassifierOutputTarget(0)]

    def before_scaling(_):
        kept = peer.activations_and_grads
        A, g = kept.activations[0].numpy(), kept.gradients[0].numpy()
        return np.maximum(peer.get_cam_image(None, layer, target, A, g, False), 0)

    return compare(
        "Grad-CAM, pytorch-grad-cam",
        "gradcam",
        bound=2.5,
        repeats=15,
        grid=before_scaling,
        theirs=lambda: peer(setting()[2], target),
    )


class Unfused:
    """The straight way into a timm ViT: its own unfused attention, all weights kept by
    hooks, with their gradients.
    """

    def __init__(self):
        self.net = deepcopy(setting()[0].net)
        for block in self.net.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(self.keep)

    def keep(self, _, args, out):
        self.attention.append(out)
        if out.requires_grad:
            out.register_hook(lambda grad: self.gradients.append(grad))

    def __call__(self):
        self.attention, self.gradients = [], []
        return self.net(setting()[2])


def rollout() -> dict:
    """Rollout of the class token with its forward, against full T x T matrices; ours
    proves each block on the way.
    """
    net = Unfused()

    @torch.no_grad()
    def theirs():
        net()
        return full_rollout([a[0] for a in net.attention])[0, 1:]

    return compare("rollout and forward", "rollout", theirs, bound=0.8, repeats=15)


def rollout_alone() -> dict:
    """Rollout of the class token from attention that is there, 785 tokens, against full
    matrices; growth from 197.
    """
    few, many = (torch.rand(12, 1, 3, T, T).softmax(-1) for T in (197, 785))

    def mine(attention):
        return rw.attend.rollout(attention, rows=torch.eye(attention.shape[-1])[:1])

    assert torch.allclose(mine(many)[0], full_rollout(many[:, 0])[:1], atol=1e-6)
    calls = {
        "ours": lambda: mine(many),
        "peer": lambda: full_rollout(many[:, 0]),
        "few": lambda: mine(few),
    }
    seconds = timed(calls, 7)
    growth = np.log(
        np.median(seconds["ours"]) / np.median(seconds.pop("few"))
    ) / np.log(785 / 197)
    equal = f"within 1e-6; seconds grow as tokens to the power {growth:.2f}"
    return row(
        "rollout, 785 tokens", "maps/s", 1, seconds, bound=1.3, of="ratio", equal=equal
    )


def full_rollout(attention):
    """(L, heads, T, T) -> (T, T), layer by layer."""
    eye = torch.eye(attention[0].shape[-1])
    result = eye
    for weights in attention:
        step = 0.5 * weights.mean(0) + 0.5 * eye
        result = step / step.sum(-1, keepdim=True) @ result
    return result


def relevance(targets: int, bound: float, name: str, gradients) -> dict:
    """Transformer relevance with T x T matrices, a forward a target."""
    net = Unfused()

    def one(target):
        score = net()[0, target]
        net.net.zero_grad()
        R = torch.eye(GRID[0] * GRID[1] + 1)
        for attention, gradient in zip(
            net.attention, gradients(net, score), strict=True
        ):
            R = R + (gradient[0] * attention[0].detach()).clamp(min=0).mean(0) @ R
        return R[0, 1:]

    classes = range(targets)
    return compare(
        name,
        "relevance",
        bound=bound,
        classes=classes,
        repeats=9 if targets == 1 else 3,
        theirs=lambda: torch.stack([one(t) for t in classes]),
    )


def by_layer(net, score):
    """As the authors' notebook for CLIP has it: a backward pass for each layer."""
    return [
        torch.autograd.grad(score, weights, retain_graph=True)[0]
        for weights in net.attention
    ]


def by_hooks(net, score):
    """As the authors' code for ViT: one backward pass, also to the parameters."""
    score.backward()
    return net.gradients[::-1]


def occlusion_captum() -> dict:
    """196 patches hidden one by one, against captum in batches of 16."""
    from captum.attr import Occlusion

    net, x = setting()[0].net, setting()[2]
    peer = Occlusion(net)
    window = (3, PATCH, PATCH)
    mean = float(x.mean())

    def theirs():
        return peer.attribute(
            x,
            window,
            strides=window,
            target=0,
            baselines=mean,
            perturbations_per_eval=16,
        )

    return compare(
        "occlusion, captum",
        "occlusion",
        theirs,
        bound=0.95,
        repeats=2,
        amount=196,
        unit="masks/s",
        grid=lambda drop: drop[0, 0, ::PATCH, ::PATCH].clamp(min=0),
    )


def occlusion_monai() -> dict:
    """The same against MONAI in its batches of 16. Both are 196 forwards in fp32; in
    bf16 peaks were seen to move.
    """
    from monai.visualize import OcclusionSensitivity

    net, x = setting()[0].net, setting()[2]
    peer = OcclusionSensitivity(
        net, mask_size=PATCH, mode="mean_img", overlap=0, activate=False, verbose=False
    )

    @torch.no_grad()
    def theirs():
        return net(x)[0, 0] - peer(x)[0].as_tensor()[0, 0, ::PATCH, ::PATCH]

    return compare(
        "occlusion, MONAI",
        "occlusion",
        theirs,
        bound=0.95,
        repeats=2,
        amount=196,
        unit="masks/s",
        grid=lambda drop: drop.clamp(min=0),
    )


ATTENTION = {
    "gradcam": gradcam_captum,
    "gradcam-pytorch": gradcam_pytorch,
    "rollout": rollout,
    "rollout-alone": rollout_alone,
    "relevance": lambda: relevance(1, 3.0, "relevance, 1 target", by_layer),
    "relevance-14": lambda: relevance(CLASSES, 5.0, "relevance, 14 targets", by_layer),
    "relevance-hooks": lambda: relevance(1, 1.2, "relevance, hooks", by_hooks),
    "relevance-hooks-14": lambda: relevance(
        CLASSES, 2.0, "relevance, hooks, 14", by_hooks
    ),
    "occlusion": occlusion_captum,
    "occlusion-monai": occlusion_monai,
}
