"""Each finding's mechanism in 3-D: fluid, air, a mass change the lungs' density."""

import numpy as np
import torch

from radwb.findings import FINDINGS
from radwb.simulate.findings import Finding
from radwb.simulate.organs import LOBES
from radwb.simulate.project import Rays
from radwb.simulate.vessels import airy

FLUID = 1.03  # g/cm3
TISSUE = 1.06
AIRLESS = 0.95
PLEURA = 0.85
BRONCHUS = 0.05
EVEN = 8  # waves of an even texture
# from the hilum to a lobe's root, mm: an upper lobe collapses above it, a lower one
# behind the heart
ROOT = {
    "upper": (0, 10, 45),
    "middle": (0, 25, -20),
    "lower": (0, -30, -55),
}


class Lungs:
    """The lung samples of some `Rays` as flat arrays, all that a finding touches.

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
        samples = rays.samples
        axis = rays.anatomy.axis
        half = rays.anatomy.half_mm
        across = samples.across * float(half[1 - axis])
        along = rays.anatomy.centres[samples.slab]
        x, y = (across, along) if axis == 1 else (along, across)
        self.shape = tuple(rays.lung_mm.shape)
        self.pixel = samples.ray
        self.path = samples.path
        self.blur = samples.change.clamp(1.0, 8.0)
        where = (x, y, samples.up * float(half[2]))
        self._fill(rays.anatomy, rays.body, samples.depth, samples.soft, where)

    @classmethod
    def at(cls, index, soft, depth, where, anatomy, body):
        """The lungs among points of any grid.

        Args:
            index: which points they are.
            soft, depth: (N,) densities and depths.
            where: (N, 3) positions, mm.
        """
        lungs = cls.__new__(cls)
        lungs.index = index
        lungs.blur = torch.ones(len(index))
        lungs._fill(anatomy, body, depth, soft, where.unbind(1))
        return lungs

    def _fill(self, anatomy, body, depth, soft, where):
        self.anatomy = anatomy
        self.supine = body.supine
        self.even = body.even
        self.depth = depth.abs()
        self.right = depth > 0
        self.density = soft * body.lung
        self.x, self.y, self.z = where

    def on(self, side):
        """(N,) bool."""
        return self.right if side == "right" else ~self.right

    def points(self):
        """(N, 3) mm."""
        return torch.stack((self.x, self.y, self.z), 1)

    def lobe(self, finding):
        """(N,) bool, in the finding's lobe."""
        label = next(i for i, words in LOBES.items() if words == finding.lobe)
        return self.anatomy.lobe_at(self.points()) == label

    def height(self, side):
        """0 at the lowest point of the lung, 1 at its apex."""
        bottom, top = self.anatomy.lung_range[side]
        return (self.z - bottom) / (top - bottom)

    def distance(self, centre):
        """(N,) mm."""
        x = self.x - centre[0]
        y = self.y - centre[1]
        z = self.z - centre[2]
        return torch.sqrt(x**2 + y**2 + z**2)

    def project(self, change):
        """(H, W) change of the mass along each ray, g/cm2.

        Args:
            change: (N,) of the density, g/cm3.
        """
        mass = change * self.path / 10
        pixels = torch.zeros(self.shape).flatten()
        return pixels.index_add_(0, self.pixel, mass).reshape(self.shape)

    def path_mm(self, side):
        """(H, W) path of each ray through one lung, mm."""
        return 10 * self.project(self.on(side).float())

    def texture(self, finding, scale_mm, where=None):
        """Smooth irregularity of mean 0 and about -1 to 1; 0 off `where`.

        It is a few waves of random direction and phase.
        """
        rng = np.random.default_rng(finding.texture)
        if where is None:
            where = slice(None)
        x = self.x[where]
        y = self.y[where]
        z = self.z[where]
        waves = 0
        n = EVEN if self.even else 5  # of few, one may stand out as stripes
        for _ in range(n):
            k = rng.normal(size=3)
            k *= 2 * np.pi / (scale_mm * rng.uniform(0.6, 1.6) * np.linalg.norm(k))
            a, b, c = k.tolist()
            phase = float(rng.uniform(0, 6.28))
            waves = waves + torch.cos(x * a + y * b + z * c + phase)
        texture = torch.zeros_like(self.x)
        texture[where] = waves / np.sqrt(1.25 * n)
        return texture


def wetness(lungs: Lungs, f: Finding):
    """(N,) share of each sample that free fluid fills.

    It fills the lowest first, and climbs along the chest wall (the meniscus); in the
    supine it lies behind the lung. The level is one of the CT's coordinates: it tilts
    with the patient.
    """
    here = lungs.on(f.side)
    meniscus = torch.exp(-lungs.depth / 14)
    if lungs.supine:
        back, front = lungs.y[here].aminmax()
        surface = back + (front - back) * (0.12 + 0.45 * f.severity) + 12 * meniscus
        wet = torch.sigmoid((surface - lungs.y) / 5)
    else:
        bottom, top = lungs.anatomy.lung_range[f.side]
        level = 0.14 + 0.42 * f.severity
        lateral = ((lungs.x.abs() - 50) / 75).clamp(0, 1) ** 2
        surface = bottom + (top - bottom) * level + 30 * meniscus + 35 * lateral
        wet = torch.sigmoid((surface - lungs.z) / 4)
    return wet * here


def effusion(lungs: Lungs, f: Finding, density):
    """Free fluid in the place of the lung (`wetness`)."""
    return density + wetness(lungs, f) * (FLUID - density)


def pneumothorax(lungs: Lungs, f: Finding, density):
    """Air between chest wall and a shrunken lung, bounded by the visceral pleura.

    It is widest where it rises to: in the supine in front and at the base, the deep
    sulcus.
    """
    here = lungs.on(f.side)
    rise = lungs.height(f.side)
    if lungs.supine:
        back, front = lungs.y[here].aminmax()
        forward = (lungs.y - back) / (front - back)
        rise = forward + 0.5 * (1 - rise).clamp(0, 1)
    else:
        rise = rise.clamp(0, 1)
    gap = (14 + 30 * f.severity) * ((rise - 0.45 + 0.25 * f.severity) / 0.5).clamp(0, 1)
    depth = lungs.depth - 1
    air = ((gap - depth) / lungs.blur + 0.5).clamp(0, 1)
    packed = 1.1 + 0.5 * f.severity
    if lungs.even:
        # what borders on the heart is no lung
        is_airy = airy(density)
        packed = 1 + (packed - 1) * is_airy
        air = air * is_airy
    lung = density * packed * (1 - air)
    low = (depth - lungs.blur / 2).maximum(gap - 1.6)
    high = (depth + lungs.blur / 2).minimum(gap + 1.6)
    line = ((high - low) / lungs.blur).clamp(0, 1) * (gap > 2)
    return torch.where(here, lung + line * (PLEURA - lung), density)


def lesion(lungs: Lungs, f: Finding, density):
    """A mass with a soft, slightly irregular margin.

    A part-solid one has a halo, a spiculated one strands into the lung.
    """
    away = lungs.distance(f.centre)
    near = away < 2 * f.radius_mm + 12
    edge = f.radius_mm * (1 + 0.12 * lungs.texture(f, f.radius_mm, near))
    if f.kind == "spiculated":
        edge = edge * (1 + _spikes(lungs, f, near))
    share = ((edge - away) / 3 + 0.5).clamp(0, 1)
    if f.kind == "part-solid":
        core = ((0.55 * f.radius_mm - away) / 3 + 0.5).clamp(0, 1)
        solid = core * (TISSUE - density - 0.4).clamp(min=0)
        return torch.maximum(density, density + 0.4 * share + solid)
    return torch.maximum(density, density + share * (TISSUE - density))


def _spikes(lungs: Lungs, f: Finding, near):
    """Relative length of thin strands that leave a mass in some twenty directions."""
    rng = np.random.default_rng(f.texture)
    p = lungs.points()[near] - torch.tensor(f.centre)
    p = p / p.norm(dim=1, keepdim=True).clamp(min=1e-3)
    # mostly across the rays, where they are seen
    directions = rng.normal(size=(24, 3)) * (1, 0.5, 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions = torch.from_numpy(directions).float()
    lengths = torch.from_numpy(rng.uniform(0.3, 1.0, 24)).float()
    spikes = torch.zeros(len(near))
    spikes[near] = (((p @ directions.T).clamp(min=0) ** 90) * lengths).amax(1)
    return spikes


def consolidation(lungs: Lungs, f: Finding, density):
    """Alveoli filled in one lobe, its bronchi still full of air.

    It is sharp at the fissure and fades within the lobe.
    """
    reach = 28 + 40 * f.severity
    edge = reach - lungs.distance(f.centre) + 0.25 * reach * lungs.texture(f, 40)
    share = torch.sigmoid(edge / 6) * lungs.lobe(f)
    filled = density + 0.9 * share * (1.0 - density).clamp(min=0)
    bronchi = _bronchi(lungs, f, share > 0.4)
    return torch.where(bronchi, filled.clamp(max=BRONCHUS), filled)


def _bronchi(lungs: Lungs, f: Finding, where):
    """(N,) bool, within bronchi that branch from the hilum into the consolidation."""
    rng = np.random.default_rng(f.texture)
    hilum = np.array(lungs.anatomy.marks[f"{f.side} hilum"])
    start = torch.from_numpy(hilum).float()
    p = lungs.points()[where] - start
    inside = torch.zeros(len(p), dtype=torch.bool)
    for _ in range(6):
        end = np.array(f.centre) + rng.normal(0, 0.6, 3) * (28 + 40 * f.severity)
        way = torch.from_numpy(end - hilum).float()
        share = (p @ way / (way @ way)).clamp(0, 1)
        inside |= (p - share[:, None] * way).norm(dim=1) < 3.4 - 1.6 * share
    bronchi = torch.zeros_like(where)
    bronchi[where] = inside
    return bronchi


def haze(lungs: Lungs, f: Finding, density):
    """A hazy, ill-defined patch through which the vessels show."""
    reach = 30 + 30 * f.severity
    near = torch.sigmoid((reach - lungs.distance(f.centre)) / 10) * lungs.on(f.side)
    patchy = 0.3 if lungs.even else 0.7
    patches = (1 + patchy * lungs.texture(f, 22)).clamp(min=0.1)
    return _thicker(density, (0.30 + 0.20 * f.severity) * near * patches)


def _thicker(density, added):
    """Denser by that, but no denser than tissue and nowhere thinner."""
    return (density + added).clamp(max=TISSUE).maximum(density)


def edema(lungs: Lungs, f: Finding, density):
    """Water in both lungs: about the hila like wings, heavier below.

    Vessels are fuller, and septal lines stand at the bases.
    """
    away = [_from_hilum(lungs, side) for side in ("right", "left")]
    spread = torch.exp(-((torch.minimum(*away) / (58 + 25 * f.severity)) ** 2))
    wings = spread * (lungs.depth / 25).clamp(0.25, 1)
    patches = (1 + 0.45 * lungs.texture(f, 25)).clamp(min=0.2)
    water = (0.12 + 0.5 * f.severity) * wings * patches
    vessels = (0.5 + 0.8 * f.severity) * (density - 0.3).clamp(0, 0.4)
    is_lateral = lungs.x.abs() > 0.75 * lungs.x.abs().max()
    is_basal = is_lateral & (lungs.height("right") < 0.62) & (lungs.depth < 20)
    is_line = ((lungs.z / 8.5) % 1 - 0.5).abs() < 0.1
    septa = 0.2 * (1 - f.severity) * (is_basal & is_line)
    # in this order, so that the sum rounds as it always did
    return (density + water + vessels + septa).clamp(max=TISSUE).maximum(density)


def _from_hilum(lungs, side):
    x, _, z = lungs.anatomy.marks[f"{side} hilum"]
    return torch.sqrt((lungs.x - x) ** 2 + (lungs.z - z + 12) ** 2)


def atelectasis(lungs: Lungs, f: Finding, density):
    """Airless lung: thin plates across the base, or a lobe shrunk towards its root.

    `shaped` moves the rest.
    """
    share = _collapsed(lungs, f) if f.kind == "lobar" else _plates(lungs, f)
    return density + share * (AIRLESS - density).clamp(min=0)


def _plates(lungs, f):
    rng = np.random.default_rng(f.texture)
    plates = torch.tensor(0)
    for k in range(1 + int(2.5 * f.severity)):
        centre = np.array(f.centre) + (0, 0, 11.0 * k * (-1) ** k)
        x = lungs.x - centre[0]
        y = lungs.y - centre[1]
        tilt = rng.normal(0, 0.28)
        across = (lungs.z - centre[2]) - tilt * x - rng.normal(0, 0.12) * y
        within = torch.sqrt(x**2 + 0.5 * y**2) / (20 + 20 * f.severity)
        bow = across + 4 * within**2
        plate = torch.sigmoid((1.2 + 1.4 * f.severity - bow.abs()) / 0.7)
        plates = torch.maximum(plate * torch.sigmoid((1 - within) / 0.12), plates)
    return plates * lungs.on(f.side)


def _collapsed(lungs, f):
    """The lobe's tissue, packed towards its root."""
    hilum = np.array(lungs.anatomy.marks[f"{f.side} hilum"])
    here = lungs.lobe(f)
    if not here.any():
        return here.float()
    away = lungs.distance(hilum + ROOT[f.lobe.split()[1]])
    limit = torch.quantile(away[here][::7], 0.85 - 0.45 * f.severity)
    return torch.sigmoid((limit - away) / 4) * here


def thickening(lungs: Lungs, f: Finding, density):
    """A rind of soft tissue under the chest wall: an apical cap, or along the side."""
    thick = (4 + 10 * f.severity) * (1 + 0.35 * lungs.texture(f, 30))
    height = lungs.height(f.side)
    here = lungs.on(f.side)
    if f.kind == "apical":
        thick = thick * 1.6
        extent = torch.sigmoid((height - 0.93 + 0.06 * f.severity) / 0.015)
    else:
        outermost = torch.quantile(lungs.x[here].abs()[::11], 0.98)
        lateral = torch.sigmoid((lungs.x.abs() - 0.72 * outermost) / 6)
        off_middle = (height - 0.55).abs()
        extent = torch.sigmoid((0.17 + 0.12 * f.severity - off_middle) / 0.02)
        extent = lateral * extent
    rind = torch.sigmoid((thick * extent - lungs.depth) / (0.6 + 0.4 * lungs.blur))
    share = rind * here * (extent > 0.1)
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
    """(finding, mechanism) of all that change the lungs' density, in order."""
    pairs = []
    for name, mechanism in MECHANISMS.items():
        for finding in findings:
            if FINDINGS[finding.name].planting.mechanism == name:
                pairs.append((finding, mechanism))
    return pairs
