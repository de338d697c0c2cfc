"""Plant findings along a patient's rays: what they change, their outlines, and how much
they stand out.
"""

from dataclasses import dataclass, replace

import torch

from radwb.simulate import physics
from radwb.simulate.devices import draw_device
from radwb.simulate.findings import PLANTED
from radwb.simulate.mechanisms import MECHANISM, Lungs, wetness
from radwb.simulate.outlines import SEEN, Outlines
from radwb.simulate.project import Rays


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
    soft, metal, truth, ratios = rays.paths.soft, rays.paths.metal, {}, {}
    outlines = Outlines(rays, lungs)
    ground = outlines.ground
    if any(f.name == "Cardiomegaly" for f in findings):
        truth["Cardiomegaly"] = outlines.heart()
    for finding, own, after in _shares(lungs, findings):
        signal = own * physics.attenuation("water", 60)
        shape = outlines.shape(finding, signal, after)
        ratio = _contrast(signal, shape, ground)
        factor = visibility if cnr is None else cnr / max(ratio, 1e-3)
        if finding.name == "Pneumothorax":
            factor = min(factor, _most(lungs, own))
        mask = outlines.mask(finding, shape, signal * factor)
        _note(truth, ratios, finding.name, mask, ratio * factor)
        soft = soft + own * factor
    for finding in (f for f in findings if f.name == "Support Devices"):
        more_metal, plastic = draw_device(rays, finding)
        signal = more_metal * physics.attenuation(
            "metal", 60
        ) + plastic * physics.attenuation("water", 60)
        mask = outlines.seen(signal) > SEEN
        ratio = _contrast(signal, mask, ground)
        factor = visibility if cnr is None else cnr / max(ratio, 1e-3)
        _note(
            truth,
            ratios,
            finding.name,
            outlines.seen(signal * factor) > SEEN,
            ratio * factor,
        )
        soft, metal = soft + plastic * factor, metal + more_metal * factor
    paths = replace(rays.paths, soft=soft, metal=metal)
    return Planted(
        paths, {name: truth[name].numpy() for name in PLANTED if name in truth}, ratios
    )


def _shares(lungs, findings):
    """Finding, what it adds along each ray in g/cm2, the lungs' density with it; in
    order of planting.

    Fluid drowns what lies in it: a finding's own share is what is left of its change
    where the lung is dry, and the rest goes to the fluid. Fluid fills linearly, so that
    this is what the film would lose without the finding.
    """
    fluid = [f for f in findings if f.name == "Pleural Effusion"]
    wet = [wetness(lungs, f) for f in fluid]
    density, drowned, steps = lungs.density, [0] * len(fluid), []
    for name, mechanism in MECHANISM.items():
        for finding in (f for f in findings if f.name == name):
            before, density = density, mechanism(lungs, finding, density)
            change = density - before
            if name == "Pleural Effusion":
                change = change + drowned[fluid.index(finding)]
            for k, share in enumerate(wet if name != "Pleural Effusion" else ()):
                drowned[k] = drowned[k] + change * share
            dry = (
                change
                if name == "Pleural Effusion"
                else change * (1 - sum(wet))
                if wet
                else change
            )
            steps.append((finding, lungs.project(dry), density))
    return steps


def _most(lungs, own):
    """The largest factor on air that leaves no ray with less than no lung."""
    lost = -own
    gone = lost > 1e-3
    return (
        float((lungs.project(lungs.density)[gone] / lost[gone]).min())
        if gone.any()
        else 0.0
    )


def _note(truth, ratios, name, mask, ratio):
    truth[name] = truth[name] | mask if name in truth else mask
    ratios[name] = max(ratios.get(name, 0.0), ratio)


def _contrast(signal, mask, ground):
    """Mean change within the mask over the spread of what lies in the rectangle around
    it.
    """
    if not mask.any():
        return 0.0
    rows, cols = (
        torch.nonzero(mask.any(1)).flatten(),
        torch.nonzero(mask.any(0)).flatten(),
    )
    margin = max(3, len(mask) // 40)
    window = ground[
        max(0, int(rows[0]) - margin) : int(rows[-1]) + margin,
        max(0, int(cols[0]) - margin) : int(cols[-1]) + margin,
    ]
    return float(signal[mask].abs().mean() / window.std().clamp(min=1e-3))
