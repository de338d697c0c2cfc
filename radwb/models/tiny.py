"""clip-tiny: open_clip's own CLIP at a size that two CPU cores can pretrain, and its
supervised twin.
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
    """A strided 3 x 3 convolution that looks half a step down and right, where all
    others look up and left.

    As the stem's last step it centres each token on its patch; padded evenly, maps
    would lie half a patch off.
    """

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def conv(a: int, b: int, groups: int, stride: int = 1) -> list[nn.Module]:
    """A 3 x 3 convolution and its norm: over the batch (groups=0), or within each
    image.
    """
    norm = nn.GroupNorm(groups, b) if groups else nn.BatchNorm2d(b)
    return [nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False), norm]


def conv_stem(width: int, patch: int, groups: int = 0) -> nn.Sequential:
    """(B, 1, S, S) -> (B, width, S/patch, S/patch): strided 3 x 3 convolutions in the
    place of the patch cut.

    Xiao et al. 2021, "Early convolutions help transformers see better" (NeurIPS), with
    a residual block behind all but the first and last step: from a thousand films a
    plain ViT-Ti learns hearts and fluid, but no air or masses.

    Args:
        groups: 0 = batch norm, whose statistics are each device's own; k = group norm,
            which learns more slowly here but gives the same gradient however a batch is
            spread over devices.
    """
    steps = patch.bit_length() - 1
    if patch != 2**steps:
        raise ValueError(
            f"expected a patch side that is a power of two, got {patch}. Try 8, 16 or 32."
        )
    widths = [1, *(max(8, width // 2 ** (steps - i)) for i in range(1, steps)), width]
    layers = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        step = conv(a, b, groups, stride=2)
        if i == steps - 1:
            step[0] = Centred(a, b, 3, stride=2, bias=False)
        layers += [*step, nn.ReLU()]
        layers += [Residual(b, groups)] if 0 < i < steps - 1 else []
    return nn.Sequential(*layers).to(
        memory_format=torch.channels_last
    )  # a quarter faster on a CPU


def clip_tiny(
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    shape: dict | None = None,
    name: str = "clip-tiny",
) -> Model:
    """An untrained CLIP built by open_clip: ViT-Ti/16 with one channel, a convolutional
    stem and mean pooling.

    Args:
        tokenizer: sets vocabulary and context.
        seed: of the weights.
        shape: what differs from SHAPE and TEXT_SHAPE, e.g. {"size": 128, "layers": 4}.
    """
    s = _shape(SHAPE | TEXT_SHAPE, shape)
    text = CLIPTextCfg(
        context_length=tokenizer.context,
        vocab_size=tokenizer.vocab_size,
        width=s["text_width"],
        heads=s["text_heads"],
        layers=s["text_layers"],
    )
    net = _build(s, text, seed)
    spec = {"builder": "clip-tiny", "shape": s, "context": tokenizer.context}
    return Model(
        net,
        name,
        "image-text",
        s["size"],
        **GREY,
        grid=net.visual.grid_size,
        spec=spec,
        tokenizer=tokenizer,
        licence=LICENCE,
    )


class Classifier(nn.Module):
    """An image tower and a linear head, or none (outputs=0)."""

    def __init__(self, visual: nn.Module, outputs: int):
        super().__init__()
        self.visual, self.head = (
            visual,
            nn.Linear(visual.output_dim, outputs) if outputs else nn.Identity(),
        )

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
    """The image tower of `clip_tiny`, its weights drawn alike, under a linear head for
    `findings`; none: the tower.
    """
    s = _shape(SHAPE, shape)
    visual = _build(
        s, CLIPTextCfg(vocab_size=2, width=8, heads=1, layers=1), seed
    ).visual
    with _seeded(seed):
        net = Classifier(visual, len(findings))
    spec = {"builder": "supervised-tiny", "shape": s, "findings": list(findings)}
    return Model(
        net,
        name,
        "image",
        s["size"],
        **GREY,
        grid=visual.grid_size,
        spec=spec,
        findings=list(findings) or None,
        licence=LICENCE,
    )


def _build(s, text, seed):
    if s["size"] % s["patch"]:
        raise ValueError(
            f"expected a size that is a multiple of the patch side {s['patch']}, got {s['size']}"
        )
    vision = CLIPVisionCfg(
        layers=s["layers"],
        width=s["width"],
        head_width=s["width"] // s["heads"],
        patch_size=s["patch"],
        image_size=s["size"],
        pool_type="avg",
    )
    with _seeded(seed):
        net = CLIP(s["embed"], vision, text)
    with _seeded(
        seed
        # anew, so that the stem doesn't depend on the text tower that was drawn before it
    ):
        net.visual.conv1 = conv_stem(s["width"], s["patch"], s["groups"])
    return net


def _shape(default, changes):
    unknown = set(changes or {}) - set(SHAPE | TEXT_SHAPE)
    if unknown:
        raise ValueError(
            f"expected a shape with {', '.join(SHAPE | TEXT_SHAPE)}, got {', '.join(sorted(unknown))}"
        )
    return {k: int((changes or {}).get(k, v)) for k, v in default.items()}


@contextmanager
def _seeded(seed):
    """Draw initial weights from `seed` and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
