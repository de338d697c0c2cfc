"""Plant findings along a patient's rays: what they change, their outlines, and how much they stand out."""

from dataclasses import dataclass, replace

import torch

from radwb.simulate import physics
from radwb.simulate.devices import draw_device
from radwb.simulate.findings import PLANTED
from radwb.simulate.mechanisms import MECHANISM, Lungs
from radwb.simulate.project import Rays

SEEN = 0.03  # change of the line integral that counts as lesion in the truth mask (3 % of the signal)


@dataclass(frozen=True, eq=False)
class Planted:
    """What some findings do to a film.

    Attributes:
        paths: mass along each ray with them.
        truth: {finding: bool mask (H, W)}; an invisible finding keeps its key and has an empty mask.
        cnr: {finding: contrast to noise}, the largest where there are several of a name (see `plant`).
    """

    paths: physics.Paths
    truth: dict
    cnr: dict


def plant(rays: Rays, findings, *, visibility=1.0, cnr=None, lungs=None) -> Planted:
    """Plant findings one after another.

    The contrast to noise of a finding is the mean change of the line integral (60 keV) in its mask over the standard
    deviation of the line integral without it in the rectangle around the mask: the anatomy is the noise.

    Args:
        rays: the sampled patient; `shaped` has given it a large heart or a collapsed lobe's pull already.
        findings: `Finding`s.
        visibility: factor on each finding's change of the mass along the rays, 1 as planted, 0 hides it.
        cnr: scale each finding to this contrast to noise instead (not the heart, whose shape is its sign).
        lungs: `Lungs(rays)` when it is at hand from another study of the patient.
    """
    lungs = lungs or Lungs(rays)
    density, before, soft, metal = lungs.density, torch.zeros(lungs.shape), rays.paths.soft, rays.paths.metal
    truth, ratios, ground = {}, {}, physics.line_integral(rays.paths)
    if any(f.name == "Cardiomegaly" for f in findings):
        truth["Cardiomegaly"] = rays.heart  # a reader outlines the heart, not the rim by which it grew
    for name, mechanism in MECHANISM.items():
        for finding in (f for f in findings if f.name == name):
            density = mechanism(lungs, finding, density)
            total = lungs.project(density)
            own, before = total - before, total
            signal, mask = own * physics.attenuation("water", 60), _outline(finding, own, lungs, density)
            ratio = _contrast(signal, mask, ground)
            factor = visibility if cnr is None else cnr / max(ratio, 1e-3)
            mask &= (signal.abs() * factor > SEEN) if name != "Pneumothorax" else signal.abs().max() * factor > SEEN
            _note(truth, ratios, name, mask, ratio * factor)
            soft = soft + own * factor
    for finding in (f for f in findings if f.name == "Support Devices"):
        more_metal, plastic = draw_device(rays, finding)
        signal = more_metal * physics.attenuation("metal", 60) + plastic * physics.attenuation("water", 60)
        mask = signal > SEEN
        ratio = _contrast(signal, mask, ground)
        factor = visibility if cnr is None else cnr / max(ratio, 1e-3)
        _note(truth, ratios, finding.name, signal * factor > SEEN, ratio * factor)
        soft, metal = soft + plastic * factor, metal + more_metal * factor
    paths = replace(rays.paths, soft=soft, metal=metal)
    return Planted(paths, {name: truth[name].numpy() for name in PLANTED if name in truth}, ratios)


def _note(truth, ratios, name, mask, ratio):
    truth[name] = truth[name] | mask if name in truth else mask
    ratios[name] = max(ratios.get(name, 0.0), ratio)


def _contrast(signal, mask, ground):
    """Mean change within the mask over the spread of what lies in the rectangle around it."""
    if not mask.any():
        return 0.0
    rows, cols = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
    margin = max(3, len(mask) // 40)
    window = ground[max(0, int(rows[0]) - margin) : int(rows[-1]) + margin,
                    max(0, int(cols[0]) - margin) : int(cols[-1]) + margin]  # fmt: skip
    return float(signal[mask].abs().mean() / window.std().clamp(min=1e-3))


def _outline(finding, change, lungs, density):
    """Where this finding changed the signal; for air, what lies beyond the visceral line."""
    change = change * physics.attenuation("water", 60)
    if finding.name == "Pneumothorax":
        here = lungs.on(finding.side)
        total, air = (
            torch.zeros(lungs.shape).flatten().index_add_(0, lungs.pixel, part * lungs.path).reshape(lungs.shape)
            for part in (here, here & (density < 0.3 * lungs.density))
        )
        most = air.max()
        beyond = (air > min(15.0, 0.5 * float(most))) & (air > 0.6 * total)
        return beyond if beyond.any() else air > 0.5 * most  # in the supine no ray may run through air alone
    return change > (0.35 if finding.name == "Edema" else 0.15) * change.max().clamp(min=1e-6)
