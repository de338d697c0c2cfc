"""Hide parts of the film and see what the score does: occlusion and RISE."""

import torch
import torch.nn.functional as F

from radwb.attend.progress import steps
from radwb.attend.tower import as_it_was, forward


def occlusion(model, x, weights, *, batch: int = 16) -> torch.Tensor:
    """How far the score drops when one patch is hidden (arXiv:1311.2901): one forward
    for each cell of `model.grid`.

    Args:
        x: (B, C, S, S) as `model.preprocess` gives it; a hidden patch takes the image's
            mean.
        weights: (B, K, E) directions of K scores for each image.
        batch: images in one pass.
    Returns:
        (B, K, rows, cols), signed: positive where the score needed the patch.
    """
    rows, cols = model.grid
    side = torch.arange(x.shape[-1], device=x.device)
    cells = (side * rows // len(side))[:, None] * cols + side * cols // len(
        side
    )  # (S, S): the cell of each pixel
    few = torch.arange(rows * cols, device=x.device).split(batch)
    with as_it_was(model.net), torch.no_grad():
        intact, hidden = (
            forward(model, x),
            torch.zeros(len(x), rows * cols, weights.shape[-1], device=x.device),
        )
        for i, cell in steps([(i, c) for i in range(len(x)) for c in few], "occlusion"):
            hidden[i, cell] = _seen_through(model, x[i], cells != cell[:, None, None])
    drops = torch.einsum("bne,bke->bkn", intact[:, None] - hidden, weights.to(x))
    return drops.unflatten(-1, (rows, cols))


def rise(
    model, x, weights, *, n: int = 1000, cells: int = 7, seed: int = 0, batch: int = 16
) -> torch.Tensor:
    """The mean of `n` random soft masks, each weighted by the score seen through it
    (arXiv:1806.07421, eq. 6).

    A mask is a coarse grid of zeros and ones, one half each, drawn out smoothly and
    shifted. Each score is taken less the mean score, which changes a map by nearly a
    constant: a cosine may be negative, where the paper has shares.

    Args:
        x, weights, batch: as in `occlusion`; what is masked fades to the image's mean.
        cells: of the coarse grid, on a side.
        seed: of the masks, which are the same for each film and call.
    Returns:
        (B, K, S, S), signed.
    """
    masks = _Masks(n, cells, x.shape[-1], seed)
    sums, scores, area = 0, 0, 0
    with as_it_was(model.net), torch.no_grad():
        for few in steps(torch.arange(n).split(batch), "RISE"):
            keep = masks(few).to(x)  # (m, S, S)
            seen = torch.stack(
                [_seen_through(model, image, keep) for image in x]
            )  # (B, m, E)
            score = torch.einsum("bme,bke->bkm", seen, weights.to(x))
            sums = (
                sums + torch.einsum("bkm,mhw->bkhw", score, keep).double()
            )  # of it most cancels out
            scores, area = scores + score.double().sum(-1), area + keep.double().sum(0)
    return ((sums - (scores / n)[..., None, None] * area) / (0.5 * n)).to(x)


class _Masks:
    def __init__(self, n, cells, side, seed):
        draw = torch.Generator().manual_seed(seed)
        self.side, self.step = side, -(-side // cells)
        self.coarse = (torch.rand(n, 1, cells, cells, generator=draw) < 0.5).float()
        self.shift = torch.randint(self.step, (n, 2), generator=draw).tolist()

    def __call__(self, few):
        wide = (self.coarse.shape[-1] + 1) * self.step
        masks = F.interpolate(
            self.coarse[few], (wide, wide), mode="bilinear", align_corners=False
        )[:, 0]
        shifts = [self.shift[i] for i in few]
        return torch.stack(
            [
                m[y : y + self.side, x : x + self.side]
                for m, (y, x) in zip(masks, shifts, strict=True)
            ]
        )


def _seen_through(model, image, keep):
    """(C, S, S) and (m, S, S), 1 = seen, 0 = the image's mean -> (m, E)."""
    fill = image.mean((-2, -1), keepdim=True)
    return forward(model, fill + keep[:, None].to(image) * (image - fill))
