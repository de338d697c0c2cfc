"""Small changes that leave a radiograph's report true: no flip, since left and right are findings."""

import math

import torch
import torch.nn.functional as F


def augment(x: torch.Tensor, *, seed: int, first: int = 0, strength: float = 1.0) -> torch.Tensor:
    """Shift, scale and turn a little; change brightness, contrast and gamma; add noise.

    >>> augment(torch.rand(8, 1, 160, 160), seed=0).shape
    torch.Size([8, 1, 160, 160])

    Args:
        x: (B, 1, S, S) in [0, 1].
        seed: the same seed gives the same changes, on any device.
        first: image i gets the change number first + i, so that several processes can share a batch.
        strength: 1 shifts up to 5 %, scales up to 10 %, turns up to 7 degrees; 0 changes nothing.
    Returns:
        (B, 1, S, S) in [0, 1].
    """
    (B, _, S, _), device = x.shape, x.device
    rng = torch.Generator().manual_seed(seed)
    field = torch.randn(2 * S, 2 * S, generator=rng).to(device)  # one field of noise, cut elsewhere for each image
    draw = torch.rand(first + B, 10, generator=rng)[first:]  # (B, 10)
    u = (draw[:, :8] * 2 - 1).T * strength  # (8, B) in [-1, 1]
    angle, zoom = u[0] * math.radians(7), 1 + 0.1 * u[1]
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.stack([cos, -sin, 0.1 * u[2], sin, cos, 0.1 * u[3]], -1).view(B, 2, 3)
    grid = F.affine_grid(theta.to(device), x.shape, align_corners=False)  # (B, S, S, 2), [-1, 1]: 0.1 is 5 % of S
    x = F.grid_sample(x, grid, align_corners=False)
    contrast, brightness, gamma, grain = (v.view(B, 1, 1, 1).to(device) for v in u[4:])
    x = (x - 0.5) * (1 + 0.2 * contrast) + 0.5 + 0.1 * brightness
    x = x.clamp(1e-4, 1) ** torch.exp(0.2 * gamma)
    cuts = (draw[:, 8:] * S).long().tolist()
    noise = torch.stack([field[i : i + S, j : j + S] for i, j in cuts])[:, None]  # (B, 1, S, S)
    return (x + 0.02 * grain.abs() * noise).clamp(0, 1)
