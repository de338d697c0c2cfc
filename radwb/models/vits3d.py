"""`vit3d`: a 3-D vision transformer of timm's blocks, by its shapes and four words."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.models.eva import EvaBlock
from torch import nn

from radwb.models.checks import part
from radwb.models.sources import State, renamed

# of HLIP and SPECTRE: how timm's block has it
NAMES = [
    (r"^trunk\.", ""),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^head\.proj\.", "head."),
    (r"^rope\.periods$", "periods"),
    (r"\.ls(\d)\.gamma$", r".gamma_\1"),
]


class Vit3d(nn.Module):
    """Patches of a volume, which attend within windows of them or to all.

    Each window has a class token of its own: on the way into smaller windows it is
    copied, on the way out their mean is taken (HLIP, arXiv 2505.21862). `entering.N` is
    the map of patches, (B, E, d, h, w), that goes into block N.

    Args:
        shapes: what the weights tell: see `_shapes`.
        heads: of the attention, which shapes don't tell.
        window: (d, h, w) of a window, in patches; None = all along an axis.
        everywhere: numbers of the blocks in which all patches attend to all.
        epsilon: of the layer norms.
    """

    def __init__(
        self,
        shapes: dict,
        *,
        heads: int,
        window: tuple[int | None, int | None, int | None] = (None, None, None),
        everywhere: tuple[int, ...] = (),
        epsilon: float = 1e-6,
    ):
        super().__init__()
        width = shapes["width"]
        norm = partial(nn.LayerNorm, eps=epsilon)
        patch = shapes["patch"]
        self.patch_embed = nn.Conv3d(shapes["channels"], width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        grid = shapes["grid"]
        self.positions = nn.Parameter(torch.zeros(1, width, *grid)) if grid else None
        n = shapes["periods"]
        self.register_buffer("periods", torch.ones(n) if n else None)
        block = partial(
            EvaBlock,
            width,
            heads,
            attn_type="rope",
            rotate_half=True,
            mlp_ratio=shapes["hidden"] / width,
            init_values=1.0 if shapes["scaled"] else None,
            norm_layer=norm,
        )
        depth = range(shapes["depth"])
        self.entering = nn.ModuleList(nn.Identity() for _ in depth)
        self.blocks = nn.ModuleList(block() for _ in depth)
        self.norm = norm(width)
        outputs = shapes["outputs"]
        self.head = nn.Linear(width, outputs, bias=False) if outputs else nn.Identity()
        self.window = window
        self.everywhere = everywhere

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, *size) -> (B, K): the class token's, the windows' mean."""
        x = self.patch_embed(x)  # (B, E, d, h, w)
        if self.positions is not None:
            # stretched where the input is of another size
            x = x + F.interpolate(self.positions, x.shape[2:], mode="trilinear")
        first = self.cls_token.repeat(len(x), 1, 1)  # (B, windows, E)
        for n, block in enumerate(self.blocks):
            x = self.entering[n](x)
            window = x.shape[2:]
            if n not in self.everywhere:
                sides = zip(self.window, window, strict=True)
                window = [side or whole for side, whole in sides]
            x, first = self._attended(block, x, first, window)
        return self.head(self.norm(first).mean(1))

    def _attended(self, block, x, first, window):
        counts = [n // side for n, side in zip(x.shape[2:], window, strict=True)]
        size = dict(zip("abcdhw", (*counts, *window), strict=True))
        apart = rearrange(
            x, "n e (a d) (b h) (c w) -> n (a b c) (d h w) e", **size
        )  # (B, windows, patches, E)
        if first.shape[1] != apart.shape[1]:
            first = first.mean(1, keepdim=True).expand(-1, apart.shape[1], -1)
        tokens = torch.cat([first[:, :, None], apart], 2)
        attended = block(tokens.flatten(0, 1), rope=self._turns(window))
        attended = attended.unflatten(0, tokens.shape[:2])
        together = rearrange(
            attended[:, :, 1:], "n (a b c) (d h w) e -> n e (a d) (b h) (c w)", **size
        )
        return together, attended[:, :, 0]

    def _turns(self, window):
        """(patches, 2 E / heads) sines and cosines of each patch's place in its window.

        Along each axis from -1 to 1 (SPECTRE, arXiv 2511.17209); None without periods.
        """
        if self.periods is None:
            return None
        steps = [(torch.arange(n).to(self.periods) + 0.5) / n for n in window]
        places = torch.cartesian_prod(*steps) * 2 - 1  # (patches, 3)
        angles = 2 * math.pi * places[:, :, None] / self.periods
        angles = angles.flatten(1).tile(2)  # (patches, E / heads)
        return torch.cat([angles.sin(), angles.cos()], -1)


def vit_tensors(state: State, source: object) -> tuple[dict, dict]:
    """What HLIP's and SPECTRE's names are in `Vit3d`, and the shapes that they tell."""
    tensors = dict(state)
    for name in state:
        if ".attn.q." in name:
            both = tensors.pop(name.replace(".q.", ".kv."))
            name_of_three = name.replace(".q.", ".qkv.")
            tensors[name_of_three] = torch.cat([tensors.pop(name), both])
    tensors = renamed(tensors, NAMES, "")
    positions = tensors.pop("spatial_posemb", None)  # (1, d, h, w, E)
    scans = tensors.pop("sequential_posemb", None)  # (1, scans, E)
    if positions is not None:
        if scans is not None:
            positions = positions + scans[:, :1, None, None]  # the study's first scan
        tensors["positions"] = positions.movedim(-1, 1)
    return tensors, _shapes(tensors, source)


def _shapes(tensors, source):
    patches = part(tensors, "patch_embed.weight", source)
    if patches.ndim != 5:
        raise ValueError(
            f"expected the weights of a 3-D ViT, got a {patches.ndim - 2}-D one in "
            f"{source}"
        )
    width, channels, *patch = patches.shape
    blocks = [name.split(".")[1] for name in tensors if name.startswith("blocks.")]
    placed = tensors.get("positions")
    return {
        "width": width,
        "channels": channels,
        "patch": tuple(patch),
        "depth": len(set(blocks)),
        "hidden": len(part(tensors, "blocks.0.mlp.fc1.weight", source)),
        "grid": None if placed is None else placed.shape[2:],
        "periods": len(tensors.get("periods", ())),
        "scaled": "blocks.0.gamma_1" in tensors,
        "outputs": len(tensors.get("head.weight", ())),
    }
