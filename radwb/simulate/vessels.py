"""A lung whose vessels lie and show otherwise than the CT's."""

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate.anatomy import DEPTH, SOFT, Anatomy
from radwb.simulate.body import Body, displaced

AIRY = 0.25  # g/cm3, the densest of what is air spaces and not a vessel
SOLID = 0.7  # of what is hilum, wall or heart, and stays as it is
RIM_MM = (3.0, 8.0)  # under the chest wall: as the CT has it, and where that fades


def retextured(soft, depth, where, anatomy: Anatomy, body: Body):
    """(N,) density of points in the lungs, g/cm3, their vessels moved and weighted.

    Args:
        soft, depth: (N,) of the CT's lung, g/cm3 and signed mm (`Anatomy.slabs`).
        where: (N, 3) X, Y, Z in the CT, mm.
    """
    inside = ((depth.abs() - RIM_MM[0]) / RIM_MM[1]).clamp(0, 1)
    if body.vessels is not None:
        from_there, deep = _elsewhere(where, anatomy, body)
        # neither a hilum of one's own nor one from there is cut through
        share = _airy(soft) * _airy(from_there) * inside * deep
        soft = soft + share * (from_there - soft)
    vessels = (soft - AIRY).clamp(0, SOLID - AIRY) * inside
    return soft + (body.marking - 1) * vessels


def _airy(soft):
    return ((SOLID - soft) / 0.2).clamp(0, 1)


def _elsewhere(where, anatomy, body):
    """Density that the vessels are taken from, and the share of a lung in it."""
    half = torch.from_numpy(anatomy.half_mm).float()
    at = where + displaced(where / half, body.vessels)
    if body.swapped:
        edges = [p[0] for s in ("right", "left") for p in anatomy.marks[f"{s} edge"]]
        x = 2 * float(np.mean(edges)) - at[:, :1]
        at = torch.cat((x, at[:, 1:]), dim=1)
    at = at / half
    order = [1 - anatomy.axis, 2, anatomy.axis]  # across, up and along the slabs
    volume = anatomy.slabs[:, SOFT : DEPTH + 1 : DEPTH - SOFT].movedim(1, 0)
    found = F.grid_sample(
        volume[None],
        at[:, order][None, None, None],
        padding_mode="border",
        align_corners=False,
    )[0, :, 0, 0]
    deep = ((found[1].abs() - RIM_MM[0]) / RIM_MM[1]).clamp(0, 1)
    return found[0], deep
