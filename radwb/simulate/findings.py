"""Findings by mechanism in 3-D: fluid, air, a mass or a large heart change the patient, then the rays tell."""

from dataclasses import dataclass

import numpy as np
import torch

from radwb.simulate.anatomy import LOBES, Anatomy
from radwb.simulate.project import Rays, attenuation

PLANTED = ("Cardiomegaly", "Lung Lesion", "Pneumothorax", "Pleural Effusion")
SEEN = 0.03  # change of the line integral that counts as lesion in the truth mask (3 % of the signal)


@dataclass(frozen=True)
class Finding:
    """One planted finding.

    Attributes:
        name: one of `PLANTED`.
        severity: 0 (smallest) to 1 (largest).
        side: "right", "left" or "" where there is none.
        centre: (x, y, z) in the CT, mm; lung lesions only.
        lobe: for words; lung lesions only.
    """

    name: str
    severity: float
    side: str = ""
    centre: tuple = ()
    lobe: str = ""

    @property
    def radius_mm(self):
        """Radius of a lung lesion, 12 to 28 mm."""
        return 12 + 16 * self.severity


def place_lesion(anatomy: Anatomy, severity, rng):
    """A lung lesion somewhere in a lobe; one in seven may hide behind the diaphragm, and stays a positive."""
    lobe = int(rng.choice(list(LOBES)))
    side = "left" if LOBES[lobe].startswith("left") else "right"
    bottom, top = anatomy.lung_range[side]
    points = np.argwhere((anatomy.lobes == lobe) & (anatomy.channels[1].abs().numpy() > 10))
    centres = (points[:, ::-1] + 0.5) * anatomy.spacing_mm - anatomy.half_mm
    if rng.random() > 1 / 7:
        centres = centres[centres[:, 2] > bottom + 0.38 * (top - bottom)]
    return Finding("Lung Lesion", severity, side, tuple(float(c) for c in rng.choice(centres)), LOBES[lobe])


class Lungs:
    """The lung samples of some `Rays` as flat arrays, so that a finding touches only these."""

    def __init__(self, rays: Rays, anatomy: Anatomy):
        self.index = torch.nonzero(rays.depth.abs().flatten() > 0.5).squeeze(1)
        self.hu = rays.hu.flatten()[self.index]
        self.depth = rays.depth.flatten()[self.index]
        self.where = rays.where.reshape(-1, 3)[self.index]
        self.pixel = self.index % rays.step_mm.numel()
        self.step = rays.step_mm.flatten()[self.pixel]
        self.shape, self.anatomy = tuple(rays.step_mm.shape), anatomy

    def side(self, side):
        return self.depth > 0.5 if side == "right" else self.depth < -0.5

    def project(self, hu):
        """Change (H, W) of the line integral when the lungs' Hounsfield units become `hu`."""
        change = (attenuation(hu) - attenuation(self.hu)) * self.step
        return torch.zeros(self.shape).flatten().index_add_(0, self.pixel, change).reshape(self.shape)


def effusion(lungs: Lungs, finding: Finding, hu):
    """Free fluid in an erect patient: lowest first, and climbing along the chest wall (the meniscus)."""
    bottom, top = lungs.anatomy.lung_range[finding.side]
    level = bottom + (top - bottom) * (0.14 + 0.42 * finding.severity)
    lateral = ((lungs.where[:, 0].abs() - 50) / 75).clamp(0, 1) ** 2
    surface = level + 30 * torch.exp(-lungs.depth.abs() / 14) + 35 * lateral
    wet = torch.sigmoid((surface - lungs.where[:, 2]) / 4) * lungs.side(finding.side)
    return hu * (1 - wet) + 10 * wet


def pneumothorax(lungs: Lungs, finding: Finding, hu):
    """Air between chest wall and a shrunken lung, widest at the apex, bounded by the thin visceral pleura."""
    bottom, top = lungs.anatomy.lung_range[finding.side]
    height = ((lungs.where[:, 2] - bottom) / (top - bottom)).clamp(0, 1)
    gap = (14 + 30 * finding.severity) * ((height - 0.45 + 0.25 * finding.severity) / 0.5).clamp(0, 1)
    depth, here = lungs.depth.abs() - 1, lungs.side(finding.side)
    collapsed = -1000 + (hu + 1000) * (1.1 + 0.5 * finding.severity)
    hu = torch.where(here & (depth >= gap), collapsed, hu)
    hu = torch.where(here & (depth < gap), torch.tensor(-1000.0), hu)
    return torch.where(here & (gap > 2) & ((depth - gap).abs() < 1.6), torch.tensor(-150.0), hu)


def lesion(lungs: Lungs, finding: Finding, hu):
    """A solid mass with a soft, slightly irregular margin."""
    from_centre = lungs.where - torch.tensor(finding.centre)
    r = from_centre.norm(dim=1)
    angle = torch.atan2(from_centre[:, 2], from_centre[:, 0])
    edge = finding.radius_mm * (1 + 0.10 * torch.sin(5 * angle + finding.centre[0]))
    share = ((edge - r) / 3 + 0.5).clamp(0, 1)
    return torch.maximum(hu, hu * (1 - share) + 60 * share)


MECHANISM = {"Pleural Effusion": effusion, "Pneumothorax": pneumothorax, "Lung Lesion": lesion}


def plant(rays: Rays, anatomy: Anatomy, findings, *, visibility=1.0, lungs=None):
    """Plant findings one after another.

    Args:
        rays: the sampled patient; an enlarged heart is in it already (`Body.heart`).
        findings: `Finding`s; their order is air, mass, fluid, so that fluid covers what lies in it.
        visibility: factor on each finding's change of the line integral, 1 as planted.
        lungs: `Lungs(rays, anatomy)` when it is at hand from another study of the patient.
    Returns:
        change (H, W) of the line integral, and {finding: bool mask (H, W)}.
    """
    lungs = lungs or Lungs(rays, anatomy)
    hu, done, truth = lungs.hu, torch.zeros(lungs.shape), {}
    for finding in sorted(findings, key=lambda f: PLANTED.index(f.name)):
        if finding.name == "Cardiomegaly":
            # what a reader outlines is the heart, not the rim by which it grew
            mask = rays.heart.sum(0) * rays.step_mm > 25
        else:
            hu = MECHANISM[finding.name](lungs, finding, hu)
            total = lungs.project(hu) * visibility
            mask, done = _changed(finding, total - done, lungs, hu), total
        truth[finding.name] = truth.get(finding.name, False) | mask.numpy()
    return done, truth


def _changed(finding, change, lungs, hu):
    """Truth mask: where this finding changed the signal; for air, what lies beyond the visceral line."""
    if finding.name == "Pneumothorax":
        here = lungs.side(finding.side)
        total, air = (
            torch.zeros(lungs.shape).flatten().index_add_(0, lungs.pixel, part * lungs.step).reshape(lungs.shape)
            for part in (here, here & (hu == -1000) & (lungs.hu > -1000))
        )
        return (air > 15) & (air > 0.6 * total)
    return change > max(SEEN, 0.15 * float(change.max()))
