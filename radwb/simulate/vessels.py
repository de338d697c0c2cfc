"""A lung whose vessels lie and show otherwise than the CT's."""

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate.anatomy import RIM_MM, Anatomy
from radwb.simulate.body import Body

AIRY = 0.25  # g/cm3, the densest of what is air spaces and not a vessel
SOLID = 0.7  # of what is hilum, wall or heart, and stays as it is
LEAST = 0.08  # the thinnest of a lung
FADE_MM = 8.0  # from the rim inwards, over which vessels take effect


def retextured(soft, depth, where, anatomy: Anatomy, body: Body):
    """(N,) density of points in the lungs, g/cm3, their vessels moved and weighted.

    Args:
        soft, depth: (N,) of the CT's lung, g/cm3 and signed mm (`Anatomy.slabs`).
        where: (N, 3) X, Y, Z in the CT, mm.
    """
    inside = ((depth.abs() - RIM_MM) / FADE_MM).clamp(0, 1)
    if body.vessels is not None:
        from_there = _elsewhere(where, anatomy, body)
        # neither a hilum of one's own nor one from there is cut through
        share = airy(soft) * airy(from_there) * inside
        soft = soft + share * (from_there - soft)
    vessels = (soft - AIRY).clamp(0, SOLID - AIRY) * inside
    return soft + (body.marking - 1) * vessels


def airy(soft):
    """1 in the lung, 0 in what is too dense for one, or none."""
    return ((SOLID - soft) / 0.2).minimum(soft / LEAST).clamp(0, 1)


def _elsewhere(where, anatomy, body):
    """(N,) density that the vessels are taken from."""
    half = torch.from_numpy(anatomy.half_mm).float()
    amplitude, rate, phase = torch.from_numpy(body.vessels).split((3, 3, 1), dim=1)
    at = where + torch.sin(where @ rate.T + phase[:, 0]) @ amplitude
    if body.swapped:
        edges = [p[0] for s in ("right", "left") for p in anatomy.marks[f"{s} edge"]]
        at[:, 0] = 2 * float(np.mean(edges)) - at[:, 0]
    order = [1 - anatomy.axis, 2, anatomy.axis]  # across, up and along the slabs
    return F.grid_sample(
        anatomy.lungs[None, None],
        (at / half)[:, order][None, None, None],
        padding_mode="border",
        align_corners=False,
    ).flatten()
