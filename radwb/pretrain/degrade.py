"""What other machines do to a film: changes of its look that leave its report true.

The strong augmentation is `augment` and then these. All is drawn on the CPU, so that a
seed means the same everywhere, and made where the film lies.
"""

import math

import torch
import torch.nn.functional as F

from radwb.pretrain.augment import cuts

AUGMENTATIONS = ("mild", "strong")
COARSE = 64  # px, the side that a film may be resampled to
BLOCK = 8  # px of JPEG's squares
PIECES = 4  # of a tone curve
SHADES = 4  # a side of the grid of uneven exposure
FRAME = 0.05  # of a side, at most


def check_augmentation(name: object) -> str:
    """ValueError where no augmentation has this name."""
    if not isinstance(name, str) or name not in AUGMENTATIONS:
        raise ValueError(
            f"expected an augmentation of {', '.join(AUGMENTATIONS)}, got {name!r}"
        )
    return name


def degrade(x: torch.Tensor, *, seed: int, first: int = 0) -> torch.Tensor:
    """Films as other machines, processings and files show them.

    Each gets a tone curve, uneven exposure, more or less sharpness than it has, JPEG's
    squares, another range of grey, noise and a border, each of a strength of its own,
    often of none.

    Args:
        x: (B, 1, S, S) in [0, 1].
        seed: the same seed gives the same changes, on any device.
        first: image i gets the change number first + i.
    Returns:
        (B, 1, S, S) in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn([2 * side for side in x.shape[-2:]], generator=generator)
    parts = (10, 2, PIECES, SHADES**2)
    # a row a film, so that a share of a batch is drawn as in the whole
    draw = torch.rand(first + len(x), sum(parts), generator=generator)[first:]
    strengths, corners, curves, shades = draw.to(x.device, non_blocking=True).split(
        parts, dim=1
    )
    shade, sharp, squares, dark, bright, grain, *border = strengths.T
    x = curved(x, curves)
    x = shaded(x, shades, 0.2 * shade)
    x = resampled(x, 1.5 * sharp - 0.5)
    x = in_squares(x, 0.2 * (squares - 0.5).relu())
    low = per_film(0.15 * dark)
    x = low + (per_film(1 - 0.2 * bright) - low) * x.clamp(0, 1)
    noise = cuts(field.to(x.device, non_blocking=True), corners)
    x = x + per_film(0.03 * grain.square()) * noise
    return framed(x.clamp(0, 1), *border)


def per_film(values: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def curved(x: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Greys through a curve of straight pieces that rises from 0 to 1.

    Args:
        x: (B, 1, S, S) in [0, 1].
        draw: (B, PIECES) in [0, 1]; the steepest piece rises up to 4.5 times as fast
            as the flattest.
    """
    rises = torch.exp(1.5 * draw)
    rises = rises / rises.sum(1, keepdim=True)
    result = torch.zeros_like(x)
    for piece in range(PIECES):
        passed = (PIECES * x - piece).clamp(0, 1)
        result = result + per_film(rises[:, piece]) * passed
    return result


def shaded(x: torch.Tensor, draw: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Brighter here and darker there, smoothly: the heel effect, scatter, a bad grid.

    Args:
        x: (B, 1, S, S).
        draw: (B, SHADES * SHADES) in [0, 1].
        strength: (B,), by which grey changes at most, twofold.
    """
    coarse = draw.view(-1, 1, SHADES, SHADES) - 0.5
    smooth = F.interpolate(coarse, x.shape[-2:], mode="bicubic", align_corners=True)
    return x + per_film(strength) * smooth


def resampled(x: torch.Tensor, blur: torch.Tensor) -> torch.Tensor:
    """Between the film (blur 0) and the film of COARSE px a side (1); sharper below 0.

    Films of fewer than twice COARSE px a side are halved.
    """
    side = min(COARSE, x.shape[-1] // 2)
    small = F.interpolate(x, (side, side), mode="area")
    options = {"mode": "bilinear", "align_corners": False}
    coarse = F.interpolate(small, x.shape[-2:], **options)
    return x.lerp(coarse, per_film(blur))


def in_squares(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """As JPEG keeps a film: each square's cosine transform in steps.

    The coarser, the finer the detail.

    Args:
        x: (B, 1, S, S); a side that squares don't fill is left as it is.
        step: (B,), of the coarsest detail, in units of grey; 0 changes nothing.
    """
    B, _, S, _ = x.shape
    if S % BLOCK:
        return x
    place = torch.arange(BLOCK, device=x.device, dtype=x.dtype)
    waves = torch.cos(math.pi / BLOCK * (place + 0.5) * place[:, None])
    waves = waves * math.sqrt(2 / BLOCK)
    waves = torch.cat([waves[:1] / math.sqrt(2), waves[1:]])  # (BLOCK, BLOCK)
    n = S // BLOCK
    squares = x.view(B, n, BLOCK, n, BLOCK).transpose(2, 3)  # (B, n, n, 8, 8)
    coefficients = waves @ squares @ waves.T
    finer = 1 + (place + place[:, None]) / 2
    steps = step.view(B, 1, 1, 1, 1).clamp(min=1e-6) * finer
    kept = (coefficients / steps).round() * steps
    squares = waves.T @ kept @ waves
    return squares.transpose(2, 3).reshape(x.shape)


def framed(x, left, top, right, bottom) -> torch.Tensor:
    """A border up to FRAME wide, each side's of its own (B,) width and grey.

    A side drawn below a half has none; that of one machine is black or white.
    """
    S = x.shape[-1]
    places = (torch.arange(S, device=x.device) + 0.5) / S  # (S,)
    grey = per_film((left + top > 1).float())

    def within(start, end):
        start, end = (FRAME * (2 * side - 1).relu() for side in (start, end))
        return (places > start[:, None]) & (places < 1 - end[:, None])  # (B, S)

    inside = within(top, bottom)[:, :, None] & within(left, right)[:, None]
    return torch.where(inside[:, None], x, grey)
