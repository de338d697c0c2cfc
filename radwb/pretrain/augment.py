"""Small changes that leave a radiograph's report true.

No flip is among them, since left and right are findings.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F


def augment(
    x: torch.Tensor,
    *,
    seed: int,
    first: int = 0,
    whole: int | None = None,
    strength: float = 1.0,
    crop: float = 1.0,
) -> torch.Tensor:
    """Shift, turn and brighten films of your own as `fit` does at each step.

    >>> augment(torch.rand(8, 1, 160, 160), seed=0).shape
    torch.Size([8, 1, 160, 160])

    It shifts, scales and turns a little, changes brightness, contrast and gamma, and
    adds noise.

    Args:
        x: (B, 1, S, S) in [0, 1].
        seed: the same seed gives the same changes, on any device.
        first: image i gets the change number first + i, so that several processes can
            share a batch.
        whole: images of the batch that they share; default those up to the last one
            here.
        strength: 1 shifts up to 5 %, scales up to 10 %, turns up to 7 degrees; 0
            changes nothing.
        crop: the least share of a side that stays in view, anywhere; for objectives
            that compare two views.
    Returns:
        (B, 1, S, S) in [0, 1].
    """
    B, _, S, _ = x.shape
    device = x.device
    rng = torch.Generator().manual_seed(seed)
    # one field of noise, cut elsewhere for each image
    field = torch.randn(2 * S, 2 * S, generator=rng).to(device, non_blocking=True)
    here = slice(first, first + B)
    whole = whole or first + B
    draw = torch.rand(whole, 10, generator=rng)[here]  # (B, 10)
    u = (draw[:, :8] * 2 - 1).T * strength  # (8, B) in [-1, 1]
    theta = _placements(u)  # (B, 2, 3)
    if crop < 1:
        theta = _cropped(theta, torch.rand(whole, 3, generator=rng)[here], crop)
    theta = theta.to(device, non_blocking=True)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    contrast, brightness, gamma, grain = (
        v.view(B, 1, 1, 1) for v in u[4:].to(device, non_blocking=True)
    )
    x = (x - 0.5) * (1 + 0.2 * contrast) + 0.5 + 0.1 * brightness
    x = x.clamp(1e-4, 1) ** torch.exp(0.2 * gamma)
    noise = cuts(field, draw[:, 8:].to(device, non_blocking=True))
    return (x + 0.02 * grain.abs() * noise).clamp(0, 1)


def _placements(u):
    """(8, B) in [-1, 1] -> (B, 2, 3) of `affine_grid`, whose 0.1 is 5 % of a side."""
    angle = u[0] * math.radians(7)
    zoom = 1 + 0.1 * u[1]
    cos = angle.cos() * zoom
    sin = angle.sin() * zoom
    rows = [cos, -sin, 0.1 * u[2], sin, cos, 0.1 * u[3]]
    return torch.stack(rows, -1).view(-1, 2, 3)


def _cropped(theta, draw, least):
    """Placements (B, 2, 3) that show `least` of a side or more, anywhere."""
    share = least + (1 - least) * draw[:, :1, None]  # (B, 1, 1)
    shift = (draw[:, 1:, None] * 2 - 1) * (1 - share)  # (B, 2, 1)
    return torch.cat([theta[..., :2] * share, theta[..., 2:] + shift], -1)


def cuts(field: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """A piece of one field of noise for each film, cut elsewhere.

    Args:
        field: (2 S, 2 S).
        draw: (B, 2) in [0, 1), where.
    Returns:
        (B, 1, S, S).
    """
    S = len(field) // 2
    row, column = (draw * S).long().T
    return field.unfold(0, S, 1).unfold(1, S, 1)[row, column][:, None]


def crop_keeping(
    x: torch.Tensor,
    truth: torch.Tensor,
    *,
    seed: int,
    keep: float = 0.9,
    least: float = 0.5,
    tries: int = 20,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of your own films that keep a finding in view: the label stays true.

    >>> x = torch.from_numpy(scan.pixels)[None, None]
    >>> crops, masks = crop_keeping(x, torch.from_numpy(mask)[None], seed=0)

    Random squares, drawn again until the finding is in; an image that no try suits
    stays whole.

    Args:
        x: (B, 1, S, S); truth: (B, S, S) bool, the finding's pixels. An empty mask asks
            for nothing.
        seed: of the draw.
        keep: the least share of the finding's pixels that a crop must hold.
        least: the least share of a side that a crop shows.
        tries: draws for an image before it stays whole.
    Returns:
        (B, 1, S, S) and (B, S, S), crops brought back to S by bilinear and nearest
        neighbours.
    """
    S = x.shape[-1]
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for image, mask in zip(x, truth, strict=True):
        box = slice(S), slice(S)
        for _ in range(tries):
            drawn = _square(rng, S, least)
            if mask[drawn].sum() >= keep * mask.sum():
                box = drawn
                break
        image = image[None, :, *box]
        mask = mask[None, None, *box].float()
        images.append(F.interpolate(image, (S, S), mode="bilinear", antialias=True))
        masks.append(F.interpolate(mask, (S, S), mode="nearest-exact")[0] > 0)
    return torch.cat(images), torch.cat(masks)


def _square(rng, S, least):
    """A random square of at least this share of a side of S pixels, as two slices."""
    side = int(rng.integers(math.ceil(least * S), S + 1))
    i, j = (int(v) for v in rng.integers(0, S - side + 1, 2))
    return slice(i, i + side), slice(j, j + side)
