"""Turn, shift and zoom one picture until it lies on another, many pairs at a time."""

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

SIDE = 64  # of a small picture, px
BORDER = 3  # px beside black that aren't compared: a shutter's edge is no anatomy
BLACK = 0.02
MOST = 0.08  # of half a picture, a step: Gauss and Newton's may be wild at first
ZOOMS = (0.5, 2.0)  # beyond which a pair isn't followed
FLOOR = 0.02  # of the local contrast: flat ground isn't blown up to noise


def details(small: np.ndarray, blur: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What is left of pictures without their brightness, exposure and local contrast.

    Args:
        small: (N, S, S) from 0 to 1.
        blur: px, below which is detail.
    Returns:
        (N, S, S) details of about unit size, and where they count (0 or 1).
    """
    seen = small > BLACK
    # what is black at the edge alone: the shutter, the pad; not the air in a lung
    seen = ndimage.binary_erosion(
        seen, np.ones((1, BORDER, BORDER)), border_value=1
    ).astype(np.float32)
    wide = (0, blur, blur)
    around = ndimage.gaussian_filter(seen, wide) + 1e-3
    mean = ndimage.gaussian_filter(small * seen, wide) / around
    rest = (small - mean) * seen
    wider = (0, 2 * blur, 2 * blur)
    around = ndimage.gaussian_filter(seen, wider) + 1e-3
    contrast = np.sqrt(ndimage.gaussian_filter(rest**2, wider) / around)
    values = rest / (contrast + FLOOR)
    return torch.from_numpy(values), torch.from_numpy(seen)


def warped(pictures: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(B, S, S) pictures moved by (B, 2, 3) matrices on coordinates from -1 to 1."""
    y, x = _places(pictures.shape[-1])
    across, down, shift = matrix.mT[..., None, None].unbind(1)  # (B, 2, 1, 1) each
    grid = torch.addcmul(torch.addcmul(shift, across, x), down, y).movedim(1, 3)
    return F.grid_sample(pictures[:, None], grid, align_corners=False)[:, 0]


def _places(S):
    """(S, S) y and x of the pixels' middles."""
    place = (torch.arange(S) + 0.5) * 2 / S - 1
    return torch.meshgrid(place, place, indexing="ij")


def laid(moving, fixed, seen, matrix, steps, *, stretching=False) -> torch.Tensor:
    """Matrices that bring moving pictures onto fixed ones: zoom, stretch, turn, shift.

    Gauss and Newton's steps on the squared difference, inverse and compositional
    (Baker & Matthews 2004): the slopes are those of the fixed picture, taken once.

    Args:
        moving, fixed: (B, S, S) details.
        seen: (B, S, S) where the fixed ones count.
        matrix: (B, 2, 3) to start from.
        steps: how often a movement is bettered.
        stretching: whether a film may be zoomed more across than down.
    """
    slopes = _slopes(fixed)
    if not stretching:
        across, down, *others = slopes.split(1, dim=1)
        slopes = torch.cat([across + down, *others], dim=1)
    slopes = slopes * seen[:, None]
    slopes = slopes.flatten(2)  # (B, 4 or 5, S*S)
    curvature = slopes @ slopes.transpose(1, 2)
    ridge = 1e-3 * curvature.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
    curvature = curvature + ridge[:, None, None] * torch.eye(slopes.shape[1])
    inverse = torch.linalg.inv(curvature)
    for _ in range(steps):
        difference = (warped(moving, matrix) - fixed) * seen
        downhill = slopes @ difference.flatten(1)[..., None]  # (B, 4 or 5, 1)
        step = (inverse @ downhill)[..., 0].clamp(-MOST, MOST)
        if not stretching:
            step = torch.cat([step[:, :1], step], dim=1)
        matrix = _without(matrix, step)
    return matrix


def _slopes(fixed):
    """(B, 5, S, S) how a picture changes: log zoom across, down; angle; the shifts."""
    S = fixed.shape[-1]
    down, across = torch.gradient(fixed, spacing=2 / S, dim=(1, 2))
    y, x = _places(S)
    angle = down * x - across * y
    return torch.stack([across * x, down * y, angle, across, down], dim=1)


def _without(matrix, step):
    """The movement after the small one is undone first."""
    wide, high, angle, *shift = step.T
    one = torch.ones_like(wide)
    across = torch.stack([one + wide, -angle], dim=1)
    down = torch.stack([angle, one + high], dim=1)
    small = torch.stack([across, down], dim=1)
    back = torch.linalg.inv(small)
    linear = matrix[:, :, :2] @ back
    away = linear @ torch.stack(shift, dim=1)[..., None]
    new = torch.cat([linear, matrix[:, :, 2:] - away], dim=2)
    sizes = torch.linalg.vector_norm(linear, dim=1)  # (B, 2) across, down
    in_size = (sizes > ZOOMS[0]) & (sizes < ZOOMS[1])
    in_place = new[:, :, 2].abs() < 1
    kept = (in_size & in_place).all(1)
    return torch.where(kept[:, None, None], new, matrix)


def correlation(moving, fixed, seen) -> torch.Tensor:
    """(B,) of details where both pictures are seen; 0 where that is under a quarter."""
    weight = seen.flatten(1)
    a = _centred(moving.flatten(1), weight)
    b = _centred(fixed.flatten(1), weight)
    size = (a * a).sum(1) * (b * b).sum(1)
    value = (a * b).sum(1) / (size.sqrt() + 1e-6)
    enough = weight.mean(1) > 0.25
    return torch.where(enough, value, 0.0)


def _centred(values, weight):
    total = weight.sum(1, keepdim=True) + 1e-6
    mean = (values * weight).sum(1, keepdim=True) / total
    return (values - mean) * weight


def stretch(matrix: torch.Tensor) -> torch.Tensor:
    """(B,) by how much more a matrix zooms one way than the other: 0.1 is a tenth."""
    sizes = torch.linalg.vector_norm(matrix[:, :, :2], dim=1)
    return (sizes[:, 0] / sizes[:, 1]).log().abs()


def still(B: int) -> torch.Tensor:
    """(B, 2, 3) matrices that move nothing."""
    return torch.eye(3)[:2].expand(B, 2, 3).clone()
