"""Each finding's mechanism in 3-D: fluid, air, a mass or a collapsed lobe change the
density of the lungs.
"""

import numpy as np
import torch

from radwb.findings import FINDINGS
from radwb.simulate.findings import Finding
from radwb.simulate.organs import LOBES
from radwb.simulate.project import Rays

FLUID, TISSUE = 1.03, 1.06  # g/cm3


class Lungs:
    """The lung samples of some `Rays` as flat arrays, so that a finding touches only
    these.

    Attributes:
        pixel: (N,) which ray each lies on; path: (N,) mm of it. `at` has neither, but
            `index`: which points they are.
        x, y, z: (N,) positions in the CT, mm.
        depth: (N,) under the chest wall, mm; right: (N,) bool.
        blur: (N,) change of that depth from slab to slab, mm: a thin layer is spread
            over it, or would show as steps.
        density: (N,) g/cm3.
    """

    def __init__(self, rays: Rays):
        s, half, axis = rays.samples, rays.anatomy.half_mm, rays.anatomy.axis
        xy = (s.across * float(half[1 - axis]), rays.anatomy.centres[s.slab])
        self.shape, self.pixel, self.path = tuple(rays.lung_mm.shape), s.ray, s.path
        self.blur = s.change.clamp(1.0, 8.0)
        self._fill(
            rays.anatomy,
            rays.body,
            s.depth,
            s.soft,
            *(xy if axis == 1 else xy[::-1]),
            s.up * float(half[2]),
        )

    @classmethod
    def at(cls, index, soft, depth, where, anatomy, body):
        """The lungs among points of any grid: which they are, their densities and
        depths (N,), positions (N, 3), mm.
        """
        lungs = cls.__new__(cls)
        lungs.index, lungs.blur = index, torch.ones(len(index))
        lungs._fill(anatomy, body, depth, soft, *where.unbind(1))
        return lungs

    def _fill(self, anatomy, body, depth, soft, x, y, z):
        self.anatomy, self.supine = anatomy, body.supine
        self.depth, self.right = depth.abs(), depth > 0
        self.density = soft * body.lung
        self.x, self.y, self.z = x, y, z

    def on(self, side):
        return self.right if side == "right" else ~self.right

    def lobe(self, finding):
        label = next(i for i, words in LOBES.items() if words == finding.lobe)
        return self.anatomy.lobe_at(torch.stack((self.x, self.y, self.z), 1)) == label

    def height(self, side):
        """0 at the lowest point of the lung, 1 at its apex."""
        bottom, top = self.anatomy.lung_range[side]
        return (self.z - bottom) / (top - bottom)

    def distance(self, centre):
        return torch.sqrt(
            (self.x - centre[0]) ** 2
            + (self.y - centre[1]) ** 2
            + (self.z - centre[2]) ** 2
        )

    def project(self, change):
        """Change (H, W) of the mass along each ray, g/cm2, when the lungs' density
        changes by `change`, g/cm3.
        """
        mass = change * self.path / 10
        return (
            torch.zeros(self.shape)
            .flatten()
            .index_add_(0, self.pixel, mass)
            .reshape(self.shape)
        )

    def path_mm(self, side):
        """(H, W) path of each ray through one lung, mm."""
        return 10 * self.project(self.on(side).float())

    def texture(self, finding, scale_mm, where=None):
        """Smooth irregularity of mean 0 and about -1 to 1: a few waves of random
        direction and phase; 0 off `where`.
        """
        rng = np.random.default_rng(finding.texture)
        where = slice(None) if where is None else where
        x, y, z, wave = self.x[where], self.y[where], self.z[where], 0
        for _ in range(5):
            k = rng.normal(size=3)
            k *= 2 * np.pi / (scale_mm * rng.uniform(0.6, 1.6) * np.linalg.norm(k))
            wave = wave + torch.cos(
                x * float(k[0])
                + y * float(k[1])
                + z * float(k[2])
                + float(rng.uniform(0, 6.28))
            )
        out = torch.zeros_like(self.x)
        out[where] = wave / 2.5
        return out


def wetness(lungs: Lungs, f: Finding):
    """Share of each sample that free fluid fills: lowest first, and climbing along the
    chest wall (the meniscus).

    In the supine it lies behind the lung. The level is one of the CT's coordinates: it
    tilts with the patient.
    """
    if lungs.supine:
        back, front = lungs.y[lungs.on(f.side)].aminmax()
        surface = (
            back
            + (front - back) * (0.12 + 0.45 * f.severity)
            + 12 * torch.exp(-lungs.depth / 14)
        )
        wet = torch.sigmoid((surface - lungs.y) / 5)
    else:
        level = 0.14 + 0.42 * f.severity
        bottom, top = lungs.anatomy.lung_range[f.side]
        lateral = ((lungs.x.abs() - 50) / 75).clamp(0, 1) ** 2
        surface = (
            bottom
            + (top - bottom) * level
            + 30 * torch.exp(-lungs.depth / 14)
            + 35 * lateral
        )
        wet = torch.sigmoid((surface - lungs.z) / 4)
    return wet * lungs.on(f.side)


def effusion(lungs: Lungs, f: Finding, density):
    """Free fluid in the place of the lung (`wetness`)."""
    return density + wetness(lungs, f) * (FLUID - density)


def pneumothorax(lungs: Lungs, f: Finding, density):
    """Air between chest wall and a shrunken lung, widest where it rises to, bounded by
    the thin visceral pleura.
    """
    if lungs.supine:  # in front and at the base: the deep sulcus
        back, front = lungs.y[lungs.on(f.side)].aminmax()
        rise = (lungs.y - back) / (front - back) + 0.5 * (
            1 - lungs.height(f.side)
        ).clamp(0, 1)
    else:
        rise = lungs.height(f.side).clamp(0, 1)
    gap = (14 + 30 * f.severity) * ((rise - 0.45 + 0.25 * f.severity) / 0.5).clamp(0, 1)
    depth, here = lungs.depth - 1, lungs.on(f.side)
    air = ((gap - depth) / lungs.blur + 0.5).clamp(0, 1)
    low, high = (
        (depth - lungs.blur / 2).maximum(gap - 1.6),
        (depth + lungs.blur / 2).minimum(gap + 1.6),
    )
    line = ((high - low) / lungs.blur).clamp(0, 1) * (gap > 2)
    lung = density * (1.1 + 0.5 * f.severity) * (1 - air)
    return torch.where(here, lung + line * (0.85 - lung), density)


def lesion(lungs: Lungs, f: Finding, density):
    """A mass with a soft, slightly irregular margin; part-solid with a halo, spiculated
    with strands into the lung.
    """
    r = lungs.distance(f.centre)
    near = r < 2 * f.radius_mm + 12
    edge = f.radius_mm * (1 + 0.12 * lungs.texture(f, f.radius_mm, near))
    if f.kind == "spiculated":
        edge = edge * (1 + _spikes(lungs, f, near))
    share = ((edge - r) / 3 + 0.5).clamp(0, 1)
    if f.kind == "part-solid":
        core = ((0.55 * f.radius_mm - r) / 3 + 0.5).clamp(0, 1)
        return torch.maximum(
            density,
            density + 0.4 * share + core * (TISSUE - density - 0.4).clamp(min=0),
        )
    return torch.maximum(density, density + share * (TISSUE - density))


def _spikes(lungs: Lungs, f: Finding, near):
    """Relative length of thin strands that leave a mass in some twenty directions."""
    rng = np.random.default_rng(f.texture)
    out = torch.zeros(len(near))
    p = torch.stack((lungs.x, lungs.y, lungs.z), 1)[near] - torch.tensor(f.centre)
    p = p / p.norm(dim=1, keepdim=True).clamp(min=1e-3)
    ways = rng.normal(size=(24, 3)) * (
        1,
        0.5,
        1,
    )  # mostly across the rays, where they are seen
    ways = torch.from_numpy(ways / np.linalg.norm(ways, axis=1, keepdims=True)).float()
    long = torch.from_numpy(rng.uniform(0.3, 1.0, 24)).float()
    out[near] = (((p @ ways.T).clamp(min=0) ** 90) * long).amax(1)
    return out


def _bronchi(lungs: Lungs, f: Finding, where):
    """True within air-filled bronchi that branch from the hilum into the consolidation."""
    rng = np.random.default_rng(f.texture)
    start = np.array(lungs.anatomy.marks[f"{f.side} hilum"])
    p = torch.stack((lungs.x, lungs.y, lungs.z), 1)[where]
    inside = torch.zeros(len(p), dtype=torch.bool)
    for _ in range(6):
        end = np.array(f.centre) + rng.normal(0, 0.6, 3) * (28 + 40 * f.severity)
        a, ab = (torch.from_numpy(v).float() for v in (start, end - start))
        share = ((p - a) @ ab / (ab @ ab)).clamp(0, 1)
        inside |= (p - a - share[:, None] * ab).norm(dim=1) < 3.4 - 1.6 * share
    out = torch.zeros_like(where)
    out[where] = inside
    return out


def consolidation(lungs: Lungs, f: Finding, density):
    """Alveoli filled in one lobe: sharp at the fissure, fading within the lobe, its
    bronchi still full of air.
    """
    reach = 28 + 40 * f.severity
    share = torch.sigmoid(
        (reach - lungs.distance(f.centre) + 0.25 * reach * lungs.texture(f, 40)) / 6
    ) * lungs.lobe(f)
    filled = density + 0.9 * share * (1.0 - density).clamp(min=0)
    dense = share > 0.4
    return torch.where(
        _bronchi(lungs, f, dense), torch.minimum(filled, torch.tensor(0.05)), filled
    )


def haze(lungs: Lungs, f: Finding, density):
    """A hazy, ill-defined patch through which the vessels show."""
    reach = 30 + 30 * f.severity
    near = torch.sigmoid((reach - lungs.distance(f.centre)) / 10) * lungs.on(f.side)
    added = (
        (0.30 + 0.20 * f.severity)
        * near
        * (1 + 0.7 * lungs.texture(f, 22)).clamp(min=0.1)
    )
    return (density + added).clamp(max=TISSUE).maximum(density)


def edema(lungs: Lungs, f: Finding, density):
    """Water in both lungs: about the hila like wings, heavier below, fuller vessels,
    septal lines at the bases.
    """
    hila = [lungs.anatomy.marks[f"{s} hilum"] for s in ("right", "left")]
    off = torch.minimum(
        *(torch.sqrt((lungs.x - h[0]) ** 2 + (lungs.z - h[2] + 12) ** 2) for h in hila)
    )
    wings = torch.exp(-((off / (58 + 25 * f.severity)) ** 2)) * (
        lungs.depth / 25
    ).clamp(0.25, 1)
    haze = (
        (0.12 + 0.5 * f.severity)
        * wings
        * (1 + 0.45 * lungs.texture(f, 25)).clamp(min=0.2)
    )
    vessels = (0.5 + 0.8 * f.severity) * (density - 0.3).clamp(0, 0.4)
    lateral = lungs.x.abs() > 0.75 * lungs.x.abs().max()
    low = lateral & (lungs.height("right") < 0.62) & (lungs.depth < 20)
    septa = 0.2 * (1 - f.severity) * (low & (((lungs.z / 8.5) % 1 - 0.5).abs() < 0.1))
    return (density + haze + vessels + septa).clamp(max=TISSUE).maximum(density)


def atelectasis(lungs: Lungs, f: Finding, density):
    """Airless lung: thin plates across the base, or a lobe shrunk towards its root
    (`shaped` moves the rest).
    """
    if f.kind == "lobar":
        return _collapse(lungs, f, density)
    rng = np.random.default_rng(f.texture)
    share = 0
    for k in range(1 + int(2.5 * f.severity)):
        c = np.array(f.centre) + (0, 0, 11.0 * k * (-1) ** k)
        tilt, turn = rng.normal(0, 0.28), rng.normal(0, 0.12)
        across = (lungs.z - c[2]) - tilt * (lungs.x - c[0]) - turn * (lungs.y - c[1])
        within = torch.sqrt((lungs.x - c[0]) ** 2 + 0.5 * (lungs.y - c[1]) ** 2) / (
            20 + 20 * f.severity
        )
        bow = across + 4 * within**2
        share = torch.maximum(
            torch.sigmoid((1.2 + 1.4 * f.severity - bow.abs()) / 0.7)
            * torch.sigmoid((1 - within) / 0.12),
            torch.as_tensor(share),
        )
    share = share * lungs.on(f.side)
    return density + share * (0.95 - density).clamp(min=0)


def _collapse(lungs, f, density):
    """The lobe's tissue, packed towards the hilum: above it for an upper lobe, behind
    the heart for a lower one.
    """
    hilum = np.array(lungs.anatomy.marks[f"{f.side} hilum"])
    root = (
        hilum
        + {"upper": (0, 10, 45), "middle": (0, 25, -20), "lower": (0, -30, -55)}[
            f.lobe.split()[1]
        ]
    )
    here = lungs.lobe(f)
    if not here.any():
        return density
    far = lungs.distance(root)
    limit = torch.quantile(far[here][::7], 0.85 - 0.45 * f.severity)
    packed = torch.sigmoid((limit - far) / 4) * here
    return density + packed * (0.95 - density).clamp(min=0)


def thickening(lungs: Lungs, f: Finding, density):
    """A rind of soft tissue under the chest wall: a cap on the apex, or along the side."""
    thick = (4 + 10 * f.severity) * (1 + 0.35 * lungs.texture(f, 30))
    height = lungs.height(f.side)
    if f.kind == "apical":
        extent = torch.sigmoid((height - 0.93 + 0.06 * f.severity) / 0.015)
        thick = thick * 1.6
    else:
        xs = lungs.x[lungs.on(f.side)].abs()
        extent = torch.sigmoid(
            (lungs.x.abs() - 0.72 * torch.quantile(xs[::11], 0.98)) / 6
        ) * torch.sigmoid((0.17 + 0.12 * f.severity - (height - 0.55).abs()) / 0.02)
    share = (
        torch.sigmoid((thick * extent - lungs.depth) / (0.6 + 0.4 * lungs.blur))
        * lungs.on(f.side)
        * (extent > 0.1)
    )
    return density + share * (TISSUE - density)


# what `radwb.findings` names as a finding's mechanism; planted in this order, as fluid
# covers what lies in it
MECHANISMS = {
    "pneumothorax": pneumothorax,
    "edema": edema,
    "haze": haze,
    "consolidation": consolidation,
    "atelectasis": atelectasis,
    "lesion": lesion,
    "thickening": thickening,
    "effusion": effusion,
}


def in_order(findings):
    """(finding, mechanism) of those that change the lungs' density, as they're planted."""
    pairs = []
    for name, mechanism in MECHANISMS.items():
        for finding in findings:
            if FINDINGS[finding.name].planting.mechanism == name:
                pairs.append((finding, mechanism))
    return pairs
