"""What lies on a film beside the chest of the CT: shoulders, arms, clothes, gas.

All of it is mass along the rays, added before the exposure. None of it looks like a
finding, and none lies in the lungs but for the breasts that the patient has.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from radwb.simulate import physics
from radwb.simulate.body import soft_tissue
from radwb.simulate.devices import smooth, stroke
from radwb.simulate.project import BEAM_Z_MM, Rays

SPINE_MM = 28  # half the width of what is left of the bones above the shoulders
HIGHEST_BONE_MM = 22  # above the lungs; the CT ends and is mirrored there


@dataclass(frozen=True, eq=False)
class Place:
    """Where the lungs lie on a film.

    Attributes:
        x, y: (1, W) and (H, 1), mm to the left of the lungs' middle and below the apex.
        half: half the lungs' width, mm.
        floor: how low the lungs reach, mm.
        pixel_mm: side of a pixel.
    """

    x: torch.Tensor
    y: torch.Tensor
    half: float
    floor: float
    pixel_mm: float

    @property
    def shape(self):
        """Rows and columns."""
        return len(self.y), self.x.shape[1]

    def pixels(self, points):
        """(N, 2) row and column of points (x, y) in mm."""
        corner = (float(self.x[0, 0]), float(self.y[0, 0]))
        at = (np.array(points) - corner) / self.pixel_mm
        return at[:, ::-1]


def strengths(ranges, rng):
    """One number from each range (least, most)."""
    return {name: rng.uniform(*span) for name, span in ranges.items()}


def worn(paths: physics.Paths, rays: Rays, margin, rng) -> physics.Paths:
    """Paths of a patient who isn't undressed, and whose arms hang down.

    Args:
        paths: what lies along the rays, with findings; wider than the film of `rays`
            by `margin` pixels on each side.
        rng: numpy Generator.
    """
    bone = _crisp(paths.bone, rays.pixel_mm, rng)
    paths = replace(paths, bone=bone)
    if rays.view == "LATERAL":
        return paths
    place = _place(rays, margin)
    for step, (chance, _) in STEPS.items():
        seed = rng.integers(2**32)
        if rng.random() < chance:
            paths = put_on(step, paths, place, np.random.default_rng(seed))
    return _with_breasts(paths, rays, rng)


def put_on(step, paths, place, rng):
    """Paths with one of STEPS, in strengths of its ranges."""
    _, ranges = STEPS[step]
    return step(paths, place, strengths(ranges, rng), rng)


def _place(rays, margin):
    mm = rays.pixel_mm
    lungs = rays.organs["Lungs"]
    places = np.argwhere(lungs)
    rows, columns = places.T
    top = float(rows.min())
    middle = (columns.min() + columns.max()) / 2
    at = torch.arange(-margin, len(lungs) + margin)
    at = at.float()
    return Place(
        x=(at[None] - middle) * mm,
        y=(at[:, None] - top) * mm,
        half=np.ptp(columns) / 2 * mm,
        floor=float(np.ptp(rows)) * mm,
        pixel_mm=mm,
    )


def _crisp(bone, pixel_mm, rng):
    """Ribs as sharp as a film shows them: the CT's slices blur them along Z."""
    how = strengths(BONE, rng)
    wide = physics.blur(bone.numpy(), 5 / pixel_mm)
    fine = bone - torch.from_numpy(wide)
    return how["dense"] * bone + how["sharp"] * fine


def _with_breasts(paths, rays, rng):
    """Breasts hang otherwise on each film."""
    body = rays.body
    if not body.breast_mm:
        return paths
    how = strengths(BREASTS, rng)
    other = replace(body, breast_mm=body.breast_mm * how["wide"], fat_mm=0)
    gland, _ = soft_tissue(
        paths.soft,
        other,
        rays.anatomy,
        rays.view,
        rays.pixel_mm,
        BEAM_Z_MM,
    )
    return replace(paths, soft=paths.soft + how["dense"] * gland)


def _shoulders(paths, place, how, rng):
    """The neck and the slope of the shoulders, with air above them."""
    aside = place.x.abs()
    neck = how["neck"]
    high = how["high"]
    outward = (aside - neck) / (place.half + 30 - neck)
    outward = outward.clamp(0, 1) ** how["bend"]
    height = high + (how["low"] - high) * outward
    inward = torch.sigmoid((neck - aside) / 7)
    height = height + 150 * inward  # the neck goes on to the film's edge
    share = 1 + place.y / height
    share = share.clamp(0, 1) ** 0.6
    share = torch.where(place.y > 0, 1.0, share)
    kept = torch.sigmoid((place.y + HIGHEST_BONE_MM) / 4)
    kept = torch.where(aside < SPINE_MM, 1.0, kept)
    fat = paths.bone.clamp(max=0)  # it counts below 0
    bone = fat + kept * paths.bone.clamp(min=0)
    return replace(
        paths,
        soft=paths.soft * share,
        bone=bone * share,
    )


def _flanks(paths, place, how, rng):
    """The sides of a wide body, which the CT's field of view cuts."""
    aside = place.x.abs() - place.half
    inside = (how["reach"] - aside) / 40
    rounded = inside.clamp(0, 1).sqrt()
    low = torch.sigmoid((place.y - 20) / 10)
    fat = how["thick"] * rounded * low
    wide = torch.maximum(paths.soft, fat)
    soft = torch.where(aside > 8, wide, paths.soft)
    return replace(paths, soft=soft)


def _arms(paths, place, how, rng):
    """Upper arms beside the chest: muscle around a hollow bone."""
    soft = paths.soft
    bone = paths.bone
    for sign in (-1, 1):
        gap = how["gap"] + rng.uniform(-5, 5)
        axis = place.half + how["radius"] + gap
        axis = axis + how["spread"] * place.y.clamp(min=0)
        above = (how["top"] - place.y).clamp(min=0)
        away = torch.hypot(sign * place.x - axis, above)
        muscle = physics.DENSITY["soft"] * _chord(away, how["radius"])
        soft = torch.maximum(soft, muscle)
        marrow = 0.9 * _chord(away, 7)
        bone = bone + how["bone"] * (_chord(away, 11) - marrow)
    return replace(paths, soft=soft, bone=bone)


def _chord(away, radius):
    """Path in cm through a cylinder or a ball, `away` mm from its middle."""
    squared = radius**2 - away**2
    return 0.2 * squared.clamp(min=0).sqrt()


def _gas(paths, place, how, rng):
    """Gas in stomach and colon, well below the lungs."""
    gas = torch.zeros(place.shape)
    for _ in range(rng.integers(1, 5)):
        width, height = rng.uniform(10, 32, 2)
        x = place.half * rng.uniform(0.15, 0.9)
        if rng.random() < 0.25:
            x = -x
        y = place.floor + height + rng.uniform(12, 60)
        across = place.x - x
        down = (place.y - y) * width / height
        away = torch.hypot(across, down)
        gas = gas + how["share"] * _chord(away, width)
    left = (paths.soft - gas).clamp(min=0.2)
    soft = torch.minimum(left, paths.soft)
    return replace(paths, soft=soft)


def _buttons(paths, place, how, rng):
    """A row of buttons or press studs in the midline."""
    metal = paths.metal
    lowest = float(place.y[-1])
    for y in np.arange(how["first"], lowest, how["step"]):
        x = how["x"] + rng.normal(0, 2)
        away = torch.hypot(place.x - x, place.y - y)
        disc = (how["radius"] - away) / place.pixel_mm + 0.5
        metal = metal + how["grams"] * disc.clamp(0, 1)
    return replace(paths, metal=metal)


def _necklace(paths, place, how, rng):
    """A chain about the neck, above the lungs."""
    wide = how["wide"]
    low = how["low"]
    half = [(-wide, low - 70), (-wide / 2, low - 15)]
    other = [(-x, y) for x, y in reversed(half)]
    points = smooth([*half, (0, low), *other], 2.0)
    mm = place.pixel_mm
    sigma = np.hypot(0.6, 0.4 * mm) / mm
    curve = smooth(place.pixels(points), 0.5)
    wire = stroke(place.shape, curve, sigma)
    grams = how["grams"] / (mm / 10)
    metal = paths.metal + torch.from_numpy(grams * wire)
    return replace(paths, metal=metal.float())


def _collar(paths, place, how, rng):
    """The cloth of a gown about the neck: a soft edge with folds."""
    fold = torch.sin(place.x / how["length"])
    rim = how["low"] + how["fold"] * fold
    inside = torch.sigmoid((rim - place.y) / 2)
    soft = paths.soft + how["grams"] * inside
    return replace(paths, soft=soft)


BONE = {
    "dense": (0.9, 1.4),
    "sharp": (0, 1.5),
}
BREASTS = {
    "dense": (0, 2),
    "wide": (0.7, 1.2),
}
SHOULDERS = {
    "neck": (42, 58),
    "high": (45, 85),
    "low": (10, 35),
    "bend": (0.7, 1.1),
}
FLANKS = {
    "reach": (30, 110),
    "thick": (4, 14),
}
ARMS = {
    "radius": (36, 52),
    "gap": (13, 20),
    "spread": (0, 0.35),
    "top": (-10, 15),
    "bone": (0.5, 1.0),
}
GAS = {"share": (0.4, 0.9)}
COLLAR = {
    "fold": (2, 8),
    "length": (8, 20),
    "low": (-45, -15),
    "grams": (0.1, 0.5),
}
BUTTONS = {
    "first": (-60, 0),
    "step": (45, 90),
    "x": (-10, 10),
    "radius": (4, 7),
    "grams": (0.1, 0.5),
}
NECKLACE = {
    "wide": (45, 70),
    "low": (-30, -12),
    "grams": (0.05, 0.2),  # in a cm of it
}
# what a film shows, the share of the films that do, and in which strengths: mm, g/cm2
STEPS = {
    _shoulders: (1, SHOULDERS),
    _flanks: (0.6, FLANKS),
    _arms: (0.6, ARMS),
    _gas: (0.5, GAS),
    _collar: (0.15, COLLAR),
    _buttons: (0.06, BUTTONS),
    _necklace: (0.08, NECKLACE),
}
