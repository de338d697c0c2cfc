"""The heads of one film: what each takes from the patches, and measures of it."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from radwb.attend.capture import capture
from radwb.data.geometry import to_input


@dataclass(frozen=True, eq=False)
class Heads:
    """What the read-out, a patch or a region takes from the patches.

    Attributes:
        rows: (L, 1 + heads, rows, columns) of each, the mean over heads first.
        share: (L, 1 + heads) what of the attention goes to patches; None of what
            attends to a region, which is no share.
        distance: (L, 1 + heads) how far a patch looks on average, in patches
            (Dosovitskiy et al. 2021, arXiv 2010.11929).
    """

    rows: np.ndarray
    share: np.ndarray | None
    distance: np.ndarray

    @property
    def nbytes(self):
        return self.rows.nbytes + 2 * self.distance.nbytes


def captured(model, scan):
    """What `heads_of` starts from, once a film.

    Returns:
        (L, heads, T, T) the attention, (1, T) what the read-out takes, and (L, 1 +
        heads) how far patches look.
    """
    seen = capture(model, model.preprocess(scan))
    attention = seen["attention"][:, 0]
    distance = _with_mean(_distance(attention, model.grid))
    return attention, seen["read"].reshape(1, -1), distance


def heads_of(attention, read, distance, grid, patches=(), direction="from") -> Heads:
    """The heads' maps of the read-out, or of the patches of a region.

    Args:
        attention, read, distance: as `captured` gives them.
        grid: (rows, columns) of the patches.
        patches: numbers, counted by rows; none = the read-out.
        direction: as in `Choice`.
    """
    T = attention.shape[-1]
    count = int(np.prod(grid))
    first = T - count
    if patches:
        tokens = [first + range(count)[patch] for patch in patches]
        read = torch.zeros(1, T, device=attention.device)
        read[0, tokens] = 1 / len(tokens)
    toward = bool(patches) and direction == "to"
    rows = attention @ read.T if toward else (read @ attention).mT  # (L, heads, T, 1)
    each = rows[..., first:, 0]
    each = _with_mean(each)  # (L, 1 + heads, patches)
    return Heads(
        each.unflatten(-1, grid).cpu().numpy(),
        None if toward else each.sum(-1).cpu().numpy(),
        distance.cpu().numpy(),
    )


def measures(heads, cover=None) -> dict[str, list]:
    """Numbers by which heads can be sorted: name -> (L, 1 + heads).

    Args:
        cover: (patches,) the share of each patch that is lesion; None = not known.
    """
    flat = heads.rows.reshape(*heads.rows.shape[:2], -1).astype(np.float64)
    parts = flat / flat.sum(-1, keepdims=True).clip(1e-12)
    logs = np.log2(parts, where=parts > 0, out=np.zeros_like(parts))
    values = {"entropy (bits)": -(parts * logs).sum(-1)}
    values["mean distance (patches)"] = heads.distance
    if heads.share is not None:
        values["share on patches"] = heads.share
    if cover is not None:
        values["energy on the truth"] = parts @ cover
    return {name: np.round(value, 4).tolist() for name, value in values.items()}


def cover_of(model, mask, aspect):
    """(patches,) the share of each patch that is lesion."""
    lesion = to_input(mask.astype(np.float32), model.size, fit=model.fit, aspect=aspect)
    lesion = torch.as_tensor(lesion)[None]
    return F.adaptive_avg_pool2d(lesion, model.grid).flatten().numpy()


def _with_mean(each):
    """(L, heads, ...) -> (L, 1 + heads, ...)."""
    return torch.cat([each.mean(1, keepdim=True), each], 1)


def _distance(attention, grid):
    """(L, heads) mean distance from patches to patches, weighed by the attention."""
    places = torch.cartesian_prod(*(torch.arange(n).float() for n in grid))
    apart = torch.cdist(places, places).to(attention)
    attention = attention[..., -len(places) :, -len(places) :]
    total = attention.sum((-1, -2)).clamp(min=1e-12)
    return (attention * apart).sum((-1, -2)) / total
