"""Hide parts of the film and see what the score does: occlusion and RISE."""

from itertools import product

import torch
import torch.nn.functional as F

from radwb.attend.progress import in_batches, steps
from radwb.attend.tower import as_it_was, forward


@torch.no_grad()
def occlusion(model, x, weights, *, batch: int = 16) -> torch.Tensor:
    """How far the score drops when one patch is hidden (arXiv:1311.2901).

    One forward for each cell of `model.grid`.

    Args:
        model: a `rw.models.Model`.
        x: (B, C, S, S) as `model.preprocess` gives it; a hidden patch takes the image's
            mean.
        weights: (B, K, E) directions of K scores for each image.
        batch: images in one pass.
    Returns:
        (B, K, rows, cols), signed: positive where the score needed the patch.
    """
    rows, columns = model.grid
    B, _, _, S = x.shape
    E = weights.shape[-1]
    side = torch.arange(S, device=x.device)
    row = side * rows // S
    column = side * columns // S
    cell_of = row[:, None] * columns + column  # (S, S)
    cells = torch.arange(rows * columns, device=x.device)
    jobs = list(product(range(B), cells.split(batch)))
    outputs = torch.zeros(B, len(cells), E, device=x.device)
    intact = _output(model, x)
    for i, part in steps(jobs, "occlusion"):
        hidden = part[:, None, None]
        keep = cell_of != hidden  # (n, S, S)
        outputs[i, part] = _seen_through(model, x[i], keep)
    lost = intact[:, None] - outputs  # (B, cells, E)
    drops = torch.einsum("bne,bke->bkn", lost, weights.to(x))
    return drops.unflatten(-1, (rows, columns))


@torch.no_grad()
def rise(
    model, x, weights, *, n: int = 1000, cells: int = 7, seed: int = 0, batch: int = 16
) -> torch.Tensor:
    """The mean of `n` random soft masks, each weighted by the score seen through it.

    After arXiv:1806.07421, eq. 6. A mask is a coarse grid of zeros and ones, one half
    each, drawn out smoothly and shifted. Each score is taken less the mean score, which
    changes a map by nearly a constant: a cosine may be negative, where the paper has
    shares.

    Args:
        model, x, weights, batch: as in `occlusion`; what is masked fades to the image's
            mean.
        n: masks.
        cells: of the coarse grid, on a side.
        seed: of the masks, which are the same for each film and call.
    Returns:
        (B, K, S, S), signed.
    """
    masks = _Masks(n, cells, x.shape[-1], seed)
    weights = weights.to(x)
    sums = 0
    scores = 0
    area = 0
    for numbers in in_batches(torch.arange(n), batch, "RISE"):
        keep = masks(numbers).to(x)  # (m, S, S)
        outputs = [_seen_through(model, image, keep) for image in x]
        outputs = torch.stack(outputs)  # (B, m, E)
        score = torch.einsum("bme,bke->bkm", outputs, weights)
        weighted = torch.einsum("bkm,mhw->bkhw", score, keep)
        # in double, since most of it cancels out
        sums = sums + weighted.double()
        scores = scores + score.double().sum(-1)
        area = area + keep.double().sum(0)
    mean_score = (scores / n)[..., None, None]
    beyond_mean = sums - mean_score * area
    seen = 0.5 * n  # of n masks, those through which a place is seen
    return (beyond_mean / seen).to(x)


class _Masks:
    """RISE's masks by number: (m,) -> (m, S, S) from 0, hidden, to 1, seen."""

    def __init__(self, n, cells, side, seed):
        draw = torch.Generator().manual_seed(seed)
        self.side = side
        self.step = -(-side // cells)
        chance = torch.rand(n, 1, cells, cells, generator=draw)
        self.coarse = (chance < 0.5).float()
        shifts = torch.randint(self.step, (n, 2), generator=draw)
        self.shifts = shifts.tolist()

    def __call__(self, numbers):
        coarse = self.coarse[numbers]  # (m, 1, cells, cells)
        cells = coarse.shape[-1]
        wide = (cells + 1) * self.step
        smooth = F.interpolate(coarse, (wide, wide), mode="bilinear")
        masks = []
        for mask, number in zip(smooth[:, 0], numbers, strict=True):
            top, left = self.shifts[number]
            rows = slice(top, top + self.side)
            columns = slice(left, left + self.side)
            masks.append(mask[rows, columns])
        return torch.stack(masks)


def _seen_through(model, image, keep):
    """(C, S, S) and (m, S, S), 1 = seen, 0 = the image's mean -> (m, E)."""
    fill = image.mean((-2, -1), keepdim=True)
    seen = keep[:, None].to(image)  # (m, 1, S, S)
    masked = fill + seen * (image - fill)
    return _output(model, masked)


def _output(model, x):
    """`forward` of one batch; before and after it other threads have their turn."""
    with as_it_was(model.net):
        return forward(model, x)
