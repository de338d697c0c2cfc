"""One virtual radiograph or CT: a patient is sampled, findings are planted, the
detector and the vendor do the rest.
"""

import numpy as np
import torch
from torch.nn import functional as F

from radwb.data import Scan, Volume
from radwb.findings.parents import with_parent_masks
from radwb.simulate import display, physics
from radwb.simulate.anatomy import BONE, DEPTH, FIELD_MM, SOFT, default_anatomy
from radwb.simulate.body import Body, to_ct
from radwb.simulate.findings import shaped
from radwb.simulate.mechanisms import Lungs, in_order
from radwb.simulate.plant import Planted, plant
from radwb.simulate.project import AXIS, Rays, sample


def render(
    findings=(),
    *,
    body=None,
    view="PA",
    site="A",
    size=160,
    visibility=1.0,
    cnr=None,
    seed=0,
    anatomy=None,
    organs=False,
):
    """Make one virtual radiograph.

    >>> rw.simulate.render([rw.simulate.Finding("Pneumothorax", 0.5, "left")]).truth["Pneumothorax"].sum()

    Args:
        findings: `Finding`s to plant; `draw(name, anatomy, rng)` makes one that lies
            somewhere sensible.
        body: `Body`, the patient; findings that change its shape do so here (`shaped`).
        view: "PA", "AP" or "LATERAL".
        site: "A", "B" or "C", whose processing and marker the film gets.
        size: rows and columns.
        visibility: factor on the signal of all but the heart; 0 hides them, the truth
            mask is empty then.
        cnr: scale each finding to this contrast to noise instead.
        seed: of noise and placement.
        anatomy: an `Anatomy`; default the public chest CT.
        organs: add the outlines "Lungs" and "Heart" to the truth.
    Returns:
        Scan with truth masks, that of Lung Opacity the union of the hazy patch's and
        its children's masks (`radwb.findings.FINDINGS`); spacing in mm at the middle of
        the patient.
    Raises:
        ValueError: no such view or site.
    """
    for name, got, known in (("view", view, AXIS), ("site", site, display.SITES)):
        if got not in known:
            raise ValueError(f"expected a {name} of {', '.join(known)}, got {got!r}")
    anatomy = anatomy or default_anatomy(FIELD_MM / size, AXIS[view][0])
    rays = sample(
        anatomy, shaped(body or Body(), findings, visibility, cnr), view, size
    )
    planted = plant(rays, findings, visibility=visibility, cnr=cnr)
    return film(rays, planted, site, np.random.default_rng(seed), organs=organs)


def film(rays: Rays, planted: Planted, site, rng, *, marker=True, organs=False) -> Scan:
    """Place, expose, develop and stamp one film of a sampled patient."""
    how, size = display.SITES[site], rays.paths.soft.shape[0]
    truth = planted.truth | (rays.organs if organs else {})
    primary = physics.transmit(planted.paths, physics.BEAM_OF[rays.view])
    layers = torch.stack(
        [primary, *(torch.from_numpy(m).float() for m in truth.values())]
    )
    zoom = rng.uniform(1.10, 1.28)
    layers = display.shift(
        layers, rng.normal(0, 1.5), zoom, rng.normal(0, 0.018, 2) * size
    ).numpy()
    spacing = rays.pixel_mm / zoom
    signal = physics.expose(
        layers[0],
        photons=how.photons * (160 / size) ** 2,
        scatter=how.scatter,
        unsharp_px=how.unsharp_mm / spacing,
        rng=rng,
    )
    borders = rng.integers(0, 1 + int(how.shutter * size), 4)
    pixels = display.stamp(
        display.develop(signal, how), how, borders=borders, marker=marker
    )
    seen = (
        display.stamp(np.ones_like(pixels), how, borders=borders, marker=False) > 0.99
    )
    masks = {
        name: (layer > 0.5) & seen
        for name, layer in zip(truth, layers[1:], strict=True)
    }
    facing = ("P", "F") if rays.view == "LATERAL" else ("L", "F")
    return Scan(
        pixels,
        spacing_mm=(spacing, spacing),
        view=rays.view,
        modality="DX",
        source="radwb simulator",
        truth=with_parent_masks(masks),
        orientation=facing,
    )


def render_ct(
    findings=(), *, body=None, spacing_mm=(2.5, 1.5, 1.5), seed=0, anatomy=None
) -> Volume:
    """Make a virtual CT: the bent patient with its findings on a grid of its own, with
    noise of 15 HU.

    A body's `fat_mm` and `breast_mm` are drawn on radiographs only.

    >>> volume = rw.simulate.film.render_ct([rw.simulate.Finding("Pleural Effusion", 0.6, "left")])

    Args:
        findings: `Finding`s to plant; devices are drawn on radiographs only and refused
            here.
        body: `Body`, the patient.
        spacing_mm: (slices, rows, columns) of the CT.
        seed: of the noise.
        anatomy: an `Anatomy` cut along axis 1, best with thin slabs
            (`default_anatomy(1.5, 1, 1.5)`, the default).
    Returns:
        Volume in HU, first slice lowest, rows from anterior to posterior, the patient's
        left on the right.
    Raises:
        ValueError: a device is asked for, or the anatomy was cut for lateral films.
    """
    devices = [f.kind for f in findings if f.name == "Support Devices"]
    if devices:
        raise ValueError(
            f"expected findings of the body in a CT, got {', '.join(devices)}. Try render(...)"
        )
    anatomy, body = (
        anatomy or default_anatomy(1.5, 1, 1.5),
        shaped(body or Body(), findings),
    )
    if anatomy.axis != 1:
        raise ValueError(
            f"expected an anatomy cut along axis 1, got {anatomy.axis}. Try from_arrays(..., axis=1)"
        )
    half = anatomy.half_mm * np.maximum(body.scale, 1) * 1.02
    counts = [int(2 * h / s) for h, s in zip(half[::-1], spacing_mm, strict=True)]
    z, y, x = (
        torch.arange(n) * s - (n - 1) * s / 2
        for n, s in zip(counts, spacing_mm, strict=True)
    )
    soft, bone, lungs = _tissue(z, y, x, anatomy, body)
    for finding, mechanism in in_order(findings):
        lungs.density = mechanism(lungs, finding, lungs.density)
    soft.view(-1)[lungs.index] = lungs.density
    out = _to_hu(soft, bone, body) + np.random.default_rng(seed).normal(
        0, 15, counts
    ).astype(np.float32)
    affine = np.diag([0.0, 0, 0, 1])
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = float(x[0]), float(y[0]), float(z[0])
    return Volume(np.round(out).clip(-1024, 3071), affine, "CT", "radwb simulator")


def _tissue(z, y, x, anatomy, body):
    """Water and bone (D, H, W) in g/cm3 of the bent patient, some slices at a time, and
    all its `Lungs` at once.
    """
    volume, half = (
        anatomy.slabs.movedim(0, 2)[None],
        torch.from_numpy(anatomy.half_mm).float(),
    )  # (1, C, Z, Y, X)
    soft, bone = (
        torch.empty(len(z), len(y), len(x)),
        torch.empty(len(z), len(y), len(x)),
    )
    index, depth, where = [], [], []
    for k in range(0, len(z), 16):
        points = torch.stack(
            torch.meshgrid(z[k : k + 16], -y, x, indexing="ij")[::-1], dim=-1
        )  # (d, H, W, 3) x, y, z
        there = to_ct(points, anatomy, body)
        found = F.grid_sample(
            volume, (there / half)[None], padding_mode="zeros", align_corners=False
        )[0]
        soft[k : k + 16], bone[k : k + 16] = found[SOFT], found[BONE]
        within = found[DEPTH].abs() > 0.5
        index.append(torch.nonzero(within.flatten()).squeeze(1) + k * len(y) * len(x))
        depth.append(found[DEPTH][within])
        where.append(there[within])
    index, depth, where = map(torch.cat, (index, depth, where))
    return (
        soft,
        bone,
        Lungs.at(index, soft.view(-1)[index], depth, where, anatomy, body),
    )


def _to_hu(soft, bone, body):
    """Hounsfield units at the CT's energy from densities: the inverse of
    `physics.materials`.
    """
    weight = physics.attenuation("bone", physics.CT_KEV) / physics.attenuation(
        "water", physics.CT_KEV
    )
    bone = bone.clamp(min=0) * body.bone + bone.clamp(
        max=0
    )  # below 0 is fat, which age leaves alone
    return (1000 * (soft + bone * weight - 1)).numpy()
