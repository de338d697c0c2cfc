"""One virtual radiograph or CT: a patient sampled, planted with findings, exposed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from radwb.data import Scan, Volume
from radwb.findings.parents import with_parent_masks
from radwb.simulate import display, looks, physics
from radwb.simulate.anatomy import (
    BONE,
    DEPTH,
    FIELD_MM,
    SOFT,
    Anatomy,
    default_anatomy,
)
from radwb.simulate.body import Body, bone_shift, to_ct
from radwb.simulate.findings import Finding, shaped
from radwb.simulate.mechanisms import Lungs, in_order
from radwb.simulate.plant import Planted, plant
from radwb.simulate.project import AXIS, Rays, sample
from radwb.simulate.vessels import retextured

NOISE_HU = 15  # of a virtual CT
SLICES = 16  # of a virtual CT, bent at a time


def render(
    findings: Sequence[Finding] = (),
    *,
    body: Body | None = None,
    view: str = "PA",
    site: str = "A",
    size: int = 160,
    visibility: float = 1.0,
    cnr: float | None = None,
    seed: int = 0,
    anatomy: Anatomy | None = None,
    organs: bool = False,
    look: int | None = None,
) -> Scan:
    """Make one virtual radiograph.

    >>> air = rw.simulate.Finding("Pneumothorax", 0.5, "left")
    >>> bool(rw.simulate.render([air]).truth["Pneumothorax"].any())
    True

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
        look: seed of a drawn look in the place of the site's (`Dials.looks`).
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
    body = shaped(body or Body(), findings, visibility, cnr)
    rays = sample(anatomy, body, view, size)
    planted = plant(rays, findings, visibility=visibility, cnr=cnr)
    rng = np.random.default_rng(seed)
    return film(rays, planted, site, rng, organs=organs, look=look)


def film(
    rays: Rays, planted: Planted, site, rng, *, marker=True, organs=False, look=None
) -> Scan:
    """Place, expose, develop and stamp one film of a sampled patient.

    With a look, as much is drawn from `rng` as without, so that later films stay as
    they are.
    """
    how = display.SITES[site]
    size = rays.paths.soft.shape[0]
    truth = planted.truth | rays.organs if organs else planted.truth
    masks = [torch.from_numpy(mask).float() for mask in truth.values()]
    zoom = rng.uniform(1.10, 1.28)
    degrees = rng.normal(0, 1.5)
    offset = rng.normal(0, 0.018, 2) * size
    if look is None:
        primary = physics.transmit(planted.paths, physics.BEAM_OF[rays.view])
        layers = display.shift(torch.stack([primary, *masks]), degrees, zoom, offset)
    else:
        how = looks.detector(how, rays.view, look)
        layers, zoom, shut = looks.placed(rays, planted.paths, masks, look)
    primary, *masks = layers.numpy()
    spacing = rays.pixel_mm / zoom
    signal = physics.expose(
        primary,
        photons=how.photons * (160 / size) ** 2,
        scatter=how.scatter,
        unsharp_px=how.unsharp_mm / spacing,
        rng=rng,
    )
    borders = rng.integers(0, 1 + int(how.shutter * size), 4)
    if look is None:
        pixels, seen = _developed(signal, how, borders, marker)
    else:
        pixels, seen = looks.developed(signal, shut, rays.view, marker, look)
    masks = [(mask > 0.5) & seen for mask in masks]
    return _scan(pixels, dict(zip(truth, masks, strict=True)), spacing, rays.view)


def _developed(signal, how, borders, marker):
    """What a site makes of a signal, and which pixels were exposed."""
    pixels = display.collimate(display.develop(signal, how), borders)
    pixels = np.maximum(pixels, display.burned_in(how, len(pixels), marker))
    return pixels, display.collimate(np.ones_like(pixels), borders) > 0


def _scan(pixels, truth, spacing, view):
    facing = "P" if view == "LATERAL" else "L"
    return Scan(
        pixels,
        spacing_mm=(spacing, spacing),
        view=view,
        modality="DX",
        source="radwb simulator",
        truth=with_parent_masks(truth),
        orientation=(facing, "F"),
    )


def render_ct(
    findings=(), *, body=None, spacing_mm=(2.5, 1.5, 1.5), seed=0, anatomy=None
) -> Volume:
    """Make a virtual CT: the bent patient with its findings on a grid of its own.

    Its noise is 15 HU. A body's `fat_mm` and `breast_mm` are drawn on radiographs only.

    >>> fluid = rw.simulate.Finding("Pleural Effusion", 0.6, "left")
    >>> thick = rw.simulate.default_anatomy(3.0, 1, 6.0)
    >>> render_ct([fluid], spacing_mm=(20, 10, 10), anatomy=thick).modality
    'CT'

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
            f"expected findings of the body in a CT, got {', '.join(devices)}. "
            "Try render(...)"
        )
    anatomy = anatomy or default_anatomy(1.5, 1, 1.5)
    if anatomy.axis != 1:
        raise ValueError(
            f"expected an anatomy cut along axis 1, got {anatomy.axis}. "
            "Try from_arrays(..., axis=1)"
        )
    body = shaped(body or Body(), findings)
    half = anatomy.half_mm * np.maximum(body.scale, 1) * 1.02
    axes = []
    for h, spacing in zip(half[::-1], spacing_mm, strict=True):
        n = int(2 * h / spacing)
        axes.append(torch.arange(n) * spacing - (n - 1) * spacing / 2)
    soft, bone, lungs = _tissue(axes, anatomy, body)
    for finding, mechanism in in_order(findings):
        lungs.density = mechanism(lungs, finding, lungs.density)
    soft.view(-1)[lungs.index] = lungs.density
    noise = np.random.default_rng(seed).normal(0, NOISE_HU, soft.shape)
    hu = _to_hu(soft, bone, body) + noise.astype(np.float32)
    affine = np.diag([0.0, 0, 0, 1])
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = [float(axis[0]) for axis in axes[::-1]]
    return Volume(np.round(hu).clip(-1024, 3071), affine, "CT", "radwb simulator")


def _tissue(axes, anatomy, body):
    """Water and bone (D, H, W) in g/cm3 of the bent patient, and all its `Lungs`.

    Some slices are bent at a time.
    """
    z, y, x = axes
    slabs = anatomy.slabs.movedim(0, 2)[None]  # (1, C, Z, Y, X)
    half = torch.from_numpy(anatomy.half_mm).float()
    soft = torch.empty(len(z), len(y), len(x))
    bone = torch.empty_like(soft)
    parts = []
    for k in range(0, len(z), SLICES):
        grid = torch.meshgrid(
            z[k : k + SLICES],
            -y,
            x,
            indexing="ij",
        )
        points = torch.stack(grid[::-1], dim=-1)  # (d, H, W, 3) x, y, z
        there = to_ct(points, anatomy, body)
        tissue = _looked_up(slabs, there / half)
        if body.bones is not None:
            moved = there + bone_shift(there, anatomy, body)
            tissue = _with_bones(tissue, _looked_up(slabs, moved / half)[BONE])
        within = tissue[DEPTH].abs() > 0.5
        if body.marking != 1 or body.vessels is not None:
            lung = (tissue[SOFT][within], tissue[DEPTH][within], there[within])
            tissue[SOFT][within] = retextured(*lung, anatomy, body)
        index = torch.nonzero(within.flatten()).squeeze(1) + k * len(y) * len(x)
        soft[k : k + SLICES] = tissue[SOFT]
        bone[k : k + SLICES] = tissue[BONE]
        parts.append((index, tissue[DEPTH][within], there[within]))
    index, depth, where = map(torch.cat, zip(*parts, strict=True))
    lungs = Lungs.at(index, soft.view(-1)[index], depth, where, anatomy, body)
    return soft, bone, lungs


def _looked_up(slabs, at):
    """(C, d, H, W) of the CT at points (d, H, W, 3) of -1 to 1."""
    found = F.grid_sample(
        slabs,
        at[None],
        padding_mode="zeros",
        align_corners=False,
    )
    return found[0]


def _with_bones(tissue, bone):
    """Tissue (C, ...) whose bones are others; soft tissue lies where the CT's were."""
    was = tissue[BONE].clamp(min=0)
    change = bone.clamp(min=0) - was
    soft = tissue[SOFT] - change * physics.BESIDE_BONE
    rest = tissue[BONE + 1 :]
    return torch.cat((soft[None], (tissue[BONE] + change)[None], rest))


def _to_hu(soft, bone, body):
    """Hounsfield units at the CT's energy: the inverse of `physics.materials`."""
    water = physics.attenuation("water", physics.CT_KEV)
    weight = physics.attenuation("bone", physics.CT_KEV) / water
    # below 0 is fat, which age leaves alone
    bone = bone.clamp(min=0) * body.bone + bone.clamp(max=0)
    return (1000 * (soft + bone * weight - 1)).numpy()
