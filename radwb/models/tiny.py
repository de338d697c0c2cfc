"""clip-tiny: open_clip's CLIP at a size that two CPU cores can pretrain, and its twin.

The twin is the same image tower under a linear head for findings.
"""

from contextlib import contextmanager

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn
from torch.nn import functional as F

from radwb.models.model import Model
from radwb.models.tokenizer import Tokenizer

SHAPE = {
    "size": 128,
    "patch": 16,
    "width": 192,
    "heads": 3,
    "layers": 4,
    "embed": 192,
    "groups": 0,
}
TEXT_SHAPE = {"text_width": 128, "text_heads": 2, "text_layers": 3}
# the least text tower, for open_clip's CLIP where nothing reads its text
NO_TEXT = {"vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
GREY = {"channels": 1, "mean": (0.5,), "std": (0.25,), "fit": "pad"}
LICENCE = "MIT (radwb; trained on what its config.json says)"


class Residual(nn.Module):
    """A 3 x 3 convolution beside an identity (He et al. 2016)."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.body = nn.Sequential(*conv(width, width, groups))

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Centred(nn.Conv2d):
    """A strided 3 x 3 convolution that looks half a step down and right.

    All others look up and left. As the stem's last step it centres each token on its
    patch; padded evenly, maps would lie half a patch off.
    """

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def conv(a: int, b: int, groups: int, stride: int = 1) -> list[nn.Module]:
    """A 3 x 3 convolution from `a` to `b` channels and its norm.

    Args:
        groups: 0 = norm over the batch; k = within each image, over k groups.
    """
    norm = nn.GroupNorm(groups, b) if groups else nn.BatchNorm2d(b)
    return [nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False), norm]


def conv_stem(width: int, patch: int, groups: int = 0) -> nn.Sequential:
    """Strided 3 x 3 convolutions in the place of the patch cut.

    (B, 1, S, S) -> (B, width, S/patch, S/patch). Xiao et al. 2021, "Early convolutions
    help transformers see better" (NeurIPS), with a residual block behind all but the
    first and last step: from a thousand films a plain ViT-Ti learns hearts and fluid,
    but no air or masses.

    Args:
        groups: 0 = batch norm, whose statistics are each device's own; k = group norm,
            which learns more slowly here but gives the same gradient however a batch is
            spread over devices.
    """
    steps = patch.bit_length() - 1
    if patch != 2**steps:
        raise ValueError(
            f"expected a patch side that is a power of two, got {patch}. "
            "Try 8, 16 or 32."
        )
    widths = [1]
    for step in range(1, steps):
        widths.append(max(8, width // 2 ** (steps - step)))
    widths.append(width)
    layers = []
    for step in range(steps):
        before, after = widths[step : step + 2]
        halving = conv(before, after, groups, stride=2)
        if step == steps - 1:
            halving[0] = Centred(before, after, 3, stride=2, bias=False)
        layers += [*halving, nn.ReLU()]
        if 0 < step < steps - 1:
            layers.append(Residual(after, groups))
    stem = nn.Sequential(*layers)
    return stem.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def clip_tiny(
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    shape: dict | None = None,
    name: str = "clip-tiny",
) -> Model:
    """An untrained CLIP of open_clip's: ViT-Ti/16 with one channel and mean pooling.

    Its patches are cut by a convolutional stem (`conv_stem`).

    Args:
        tokenizer: sets vocabulary and context.
        seed: of the weights.
        shape: what differs from SHAPE and TEXT_SHAPE, e.g. {"size": 128, "layers": 4}.
    """
    shape = full_shape(SHAPE | TEXT_SHAPE, shape)
    text = {
        "context_length": tokenizer.context,
        "vocab_size": tokenizer.vocab_size,
        "width": shape["text_width"],
        "heads": shape["text_heads"],
        "layers": shape["text_layers"],
    }
    net = tiny_clip(shape, text, seed)
    return Model(
        net,
        name,
        "image-text",
        shape["size"],
        **GREY,
        grid=net.visual.grid_size,
        spec={"builder": "clip-tiny", "shape": shape, "context": tokenizer.context},
        tokenizer=tokenizer,
        licence=LICENCE,
    )


class Classifier(nn.Module):
    """An image tower and a linear head, or none (outputs=0)."""

    def __init__(self, visual: nn.Module, outputs: int):
        super().__init__()
        self.visual = visual
        self.head = nn.Identity()
        if outputs:
            self.head = nn.Linear(visual.output_dim, outputs)

    def encode_image(self, x):
        return self.visual(x)

    def forward(self, x):
        return self.head(self.visual(x))  # (B, K) logits


def supervised_tiny(
    findings: list[str],
    *,
    seed: int = 0,
    shape: dict | None = None,
    name: str = "supervised-tiny",
) -> Model:
    """The image tower of `clip_tiny`, its weights drawn alike, under a linear head.

    Args:
        findings: one output each; none: the tower alone.
        seed: of the weights.
        shape: what differs from SHAPE.
    """
    shape = full_shape(SHAPE, shape)
    visual = tiny_clip(shape, NO_TEXT, seed).visual
    with seeded(seed):
        net = Classifier(visual, len(findings))
    findings = list(findings)
    return Model(
        net,
        name,
        "image",
        shape["size"],
        **GREY,
        grid=visual.grid_size,
        spec={"builder": "supervised-tiny", "shape": shape, "findings": findings},
        findings=list(findings) or None,
        licence=LICENCE,
    )


def tiny_clip(shape: dict, text: dict, seed: int) -> CLIP:
    """open_clip's CLIP of a shape, with a convolutional stem.

    Args:
        shape: of the image tower, as `full_shape` gives it.
        text: of the text tower, as open_clip's CLIPTextCfg takes it.
        seed: of the weights.
    """
    if shape["size"] % shape["patch"]:
        raise ValueError(
            "expected a size that is a multiple of the patch side "
            f"{shape['patch']}, got {shape['size']}"
        )
    vision = CLIPVisionCfg(
        layers=shape["layers"],
        width=shape["width"],
        head_width=shape["width"] // shape["heads"],
        patch_size=shape["patch"],
        image_size=shape["size"],
        pool_type="avg",
    )
    with seeded(seed):
        net = CLIP(shape["embed"], vision, CLIPTextCfg(**text))
    # anew, so that the stem doesn't depend on the text tower that was drawn before it
    with seeded(seed):
        net.visual.conv1 = conv_stem(shape["width"], shape["patch"], shape["groups"])
    return net


def full_shape(default: dict, changes: dict | None) -> dict:
    """`default` with `changes`; ValueError where those name what no shape has."""
    changes = changes or {}
    known = SHAPE | TEXT_SHAPE
    unknown = set(changes) - set(known)
    if unknown:
        raise ValueError(
            f"expected a shape with {', '.join(known)}, got "
            f"{', '.join(sorted(unknown))}"
        )
    return {key: int(changes.get(key, value)) for key, value in default.items()}


@contextmanager
def seeded(seed: int):
    """Draw initial weights from `seed` and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
