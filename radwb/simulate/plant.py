"""Plant findings along a patient's rays: what they change, how much they stand out."""

from dataclasses import dataclass, replace

import torch

from radwb.simulate import physics
from radwb.simulate.devices import draw_device
from radwb.simulate.findings import PLANTED
from radwb.simulate.mechanisms import Lungs, in_order, wetness
from radwb.simulate.outlines import Outlines
from radwb.simulate.project import Rays

KEV = 60  # at which a contrast to noise is taken


@dataclass(frozen=True, eq=False)
class Planted:
    """What some findings do to a film.

    Attributes:
        paths: mass along each ray with them.
        truth: {finding: bool mask (H, W)}, defined in `Outlines`; an invisible finding
            has an empty mask.
        cnr: {finding: contrast to noise}, the largest where there are several of a name
            (see `plant`).
    """

    paths: physics.Paths
    truth: dict
    cnr: dict


def plant(rays: Rays, findings, *, visibility=1.0, cnr=None, lungs=None) -> Planted:
    """Plant findings one after another.

    The contrast to noise of a finding is the mean change of the line integral (60 keV)
    within its outline over the standard deviation, in the rectangle around it, of the
    line integral without any finding: the anatomy is the noise. Air can't be scaled
    beyond the lung that it replaces; the ratio that is returned is the one that was
    reached.

    Args:
        rays: the sampled patient; `shaped` has given it a large heart or a collapsed
            lobe's pull already.
        findings: `Finding`s.
        visibility: factor on each finding's change of the mass along the rays, 1 as
            planted, 0 hides it.
        cnr: scale each finding to this contrast to noise instead (not the heart, whose
            shape is its sign).
        lungs: `Lungs(rays)` when it is at hand from another study of the patient.
    """
    lungs = lungs or Lungs(rays)
    outlines = Outlines(rays, lungs)
    soft = rays.paths.soft
    metal = rays.paths.metal
    truth = {}
    ratios = {}
    if any(f.name == "Cardiomegaly" for f in findings):
        truth["Cardiomegaly"] = outlines.heart()
    for finding, water, iron, density in _changes(rays, lungs, findings):
        signal = water * physics.attenuation("water", KEV)
        signal = signal + iron * physics.attenuation("metal", KEV)
        shape = outlines.shape(finding, signal, density)
        ratio = _contrast(signal, shape, outlines.ground)
        factor = visibility if cnr is None else cnr / max(ratio, 1e-3)
        if finding.name == "Pneumothorax":
            factor = min(factor, _most(lungs, water))
        name = finding.name
        mask = outlines.mask(finding, shape, signal * factor)
        truth[name] = truth[name] | mask if name in truth else mask
        ratios[name] = max(ratios.get(name, 0.0), ratio * factor)
        soft = soft + water * factor
        metal = metal + iron * factor
    paths = replace(rays.paths, soft=soft, metal=metal)
    masks = {name: truth[name].numpy() for name in PLANTED if name in truth}
    return Planted(paths, masks, ratios)


def _changes(rays, lungs, findings):
    """(finding, water and metal that it adds along each ray in g/cm2, lungs' density).

    First come those of the lungs, in the order of planting, then the devices.
    """
    for finding, water, density in _shares(lungs, findings):
        yield finding, water, 0.0, density
    for device in findings:
        if device.name == "Support Devices":
            metal, plastic = draw_device(rays, device)
            yield device, plastic, metal, None


def _shares(lungs, findings):
    """[(finding, water that it adds along each ray, the lungs' density with it)].

    Fluid drowns what lies in it: a finding's own
    share is what is left of its change where the lung is dry, and the rest goes to the
    fluid. Fluid fills linearly, so that this is what the film would lose without the
    finding.
    """
    fluids = [f for f in findings if f.name == "Pleural Effusion"]
    wet = [wetness(lungs, f) for f in fluids]
    dry = 1 - sum(wet)
    drowned = [0] * len(fluids)
    density = lungs.density
    steps = []
    for finding, mechanism in in_order(findings):
        before = density
        density = mechanism(lungs, finding, before)
        change = density - before
        if finding.name == "Pleural Effusion":
            change = change + drowned[fluids.index(finding)]
        elif wet:
            drowned = [d + change * w for d, w in zip(drowned, wet, strict=True)]
            change = change * dry
        steps.append((finding, lungs.project(change), density))
    return steps


def _most(lungs, water):
    """The largest factor on air that leaves no ray with less than no lung."""
    emptied = -water > 1e-3
    if not emptied.any():
        return 0.0
    return float((lungs.project(lungs.density)[emptied] / -water[emptied]).min())


def _contrast(signal, mask, ground):
    """Mean change within a mask over the spread of the rectangle around it."""
    if not mask.any():
        return 0.0
    margin = max(3, len(mask) // 40)
    rows = torch.nonzero(mask.any(1)).flatten().tolist()
    columns = torch.nonzero(mask.any(0)).flatten().tolist()
    down = slice(max(0, rows[0] - margin), rows[-1] + margin)
    across = slice(max(0, columns[0] - margin), columns[-1] + margin)
    return float(signal[mask].abs().mean() / ground[down, across].std().clamp(min=1e-3))
