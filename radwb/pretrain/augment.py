"""Small changes that leave a radiograph's report true: no flip, since left and right
are findings.
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
    strength: float = 1.0,
    crop: float = 1.0,
) -> torch.Tensor:
    """Shift, scale and turn a little; change brightness, contrast and gamma; add noise.

    >>> augment(torch.rand(8, 1, 160, 160), seed=0).shape
    torch.Size([8, 1, 160, 160])

    Args:
        x: (B, 1, S, S) in [0, 1].
        seed: the same seed gives the same changes, on any device.
        first: image i gets the change number first + i, so that several processes can
            share a batch.
        strength: 1 shifts up to 5 %, scales up to 10 %, turns up to 7 degrees; 0
            changes nothing.
        crop: the least share of a side that stays in view, anywhere; for objectives
            that compare two views.
    Returns:
        (B, 1, S, S) in [0, 1].
    """
    (B, _, S, _), device = x.shape, x.device
    rng = torch.Generator().manual_seed(seed)
    field = torch.randn(2 * S, 2 * S, generator=rng).to(
        device
    )  # one field of noise, cut elsewhere for each image
    draw = torch.rand(first + B, 10, generator=rng)[first:]  # (B, 10)
    u = (draw[:, :8] * 2 - 1).T * strength  # (8, B) in [-1, 1]
    angle, zoom = u[0] * math.radians(7), 1 + 0.1 * u[1]
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.stack([cos, -sin, 0.1 * u[2], sin, cos, 0.1 * u[3]], -1).view(B, 2, 3)
    if crop < 1:
        part, *at = torch.rand(first + B, 3, generator=rng)[first:].T  # (B,) in [0, 1]
        part = crop + (1 - crop) * part
        theta[:, :, :2] *= part[:, None, None]
        theta[:, :, 2] += (torch.stack(at, -1) * 2 - 1) * (1 - part)[:, None]
    grid = F.affine_grid(
        theta.to(device), x.shape, align_corners=False
    )  # (B, S, S, 2), [-1, 1]: 0.1 is 5 % of S
    x = F.grid_sample(x, grid, align_corners=False)
    contrast, brightness, gamma, grain = (v.view(B, 1, 1, 1).to(device) for v in u[4:])
    x = (x - 0.5) * (1 + 0.2 * contrast) + 0.5 + 0.1 * brightness
    x = x.clamp(1e-4, 1) ** torch.exp(0.2 * gamma)
    cuts = (draw[:, 8:] * S).long().tolist()
    noise = torch.stack([field[i : i + S, j : j + S] for i, j in cuts])[
        :, None
    ]  # (B, 1, S, S)
    return (x + 0.02 * grain.abs() * noise).clamp(0, 1)


def crop_keeping(
    x: torch.Tensor,
    truth: torch.Tensor,
    *,
    seed: int,
    keep: float = 0.9,
    least: float = 0.5,
    tries: int = 20,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random square crops, drawn again until the finding is in; an image that no try
    suits stays whole.

    >>> x, truth = crop_keeping(x, scan.truth["Lung Lesion"][None], seed=0)

    Args:
        x: (B, 1, S, S); truth: (B, S, S) bool, the finding's pixels. An empty mask asks
            for nothing.
        keep: the least share of the finding's pixels that a crop must hold.
        least: the least share of a side that a crop shows.
    Returns:
        (B, 1, S, S) and (B, S, S), crops brought back to S by bilinear and nearest
        neighbours.
    """
    S, rng = x.shape[-1], np.random.default_rng(seed)
    images, masks = [], []
    for image, mask in zip(x, truth, strict=True):
        for _ in range(tries):
            side = int(rng.integers(math.ceil(least * S), S + 1))
            i, j = (int(v) for v in rng.integers(0, S - side + 1, 2))
            box = slice(i, i + side), slice(j, j + side)
            if mask[box].sum() >= keep * mask.sum():
                break
        else:
            box = slice(S), slice(S)
        images.append(
            F.interpolate(
                image[None, :, *box], (S, S), mode="bilinear", antialias=True
            )[0]
        )
        masks.append(
            F.interpolate(mask[None, None, *box].float(), (S, S), mode="nearest-exact")[
                0, 0
            ]
            > 0
        )
    return torch.stack(images), torch.stack(masks)
