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
        floor: (right, left), how low the lungs reach, mm.
        pixel_mm: side of a pixel.
    """

    x: torch.Tensor
    y: torch.Tensor
    half: float
    floor: tuple
    pixel_mm: float

    @property
    def shape(self):
        """Rows and columns."""
        return len(self.y), self.x.shape[1]

    def pixels(self, points):
        """(N, 2) row and column of points (x, y) in mm."""
        points = np.asarray(points, float)
        corner = (float(self.x[0, 0]), float(self.y[0, 0]))
        return ((points - corner) / self.pixel_mm)[:, ::-1]


def worn(paths: physics.Paths, rays: Rays, margin, rng) -> physics.Paths:
    """Paths of a patient who isn't undressed, and whose arms hang down.

    Args:
        paths: what lies along the rays, with findings; wider than the film of `rays`
            by `margin` pixels on each side.
        rng: numpy Generator.
    """
    paths = replace(paths, bone=_crisp(paths.bone, rays.pixel_mm, rng))
    if rays.view == "LATERAL":
        return paths
    place = _place(rays, margin)
    for step, chance in STEPS.items():
        seed = rng.integers(2**32)
        if rng.random() < chance:
            paths = step(paths, place, np.random.default_rng(seed))
    return _with_breasts(paths, rays, rng)


def _place(rays, margin):
    lungs = rays.organs["Lungs"]
    rows = np.flatnonzero(lungs.any(1))
    columns = np.flatnonzero(lungs.any(0))
    middle = columns.mean()
    at = torch.arange(-margin, len(lungs) + margin)
    halves = np.split(lungs, [int(middle)], axis=1)
    floor = [np.flatnonzero(lung.any(1))[-1] - rows[0] for lung in halves]
    mm = rays.pixel_mm
    return Place(
        x=((at - middle) * mm)[None].float(),
        y=((at - rows[0]) * mm)[:, None].float(),
        half=float(np.ptp(columns)) / 2 * mm,
        floor=tuple(float(low) * mm for low in floor),
        pixel_mm=mm,
    )


def _crisp(bone, pixel_mm, rng):
    """Ribs as sharp as a film shows them: the CT's slices blur them along Z."""
    fine = bone - torch.from_numpy(physics.blur(bone.numpy(), 5 / pixel_mm))
    return rng.uniform(0.9, 1.4) * bone + rng.uniform(0, 1.5) * fine


def _with_breasts(paths, rays, rng):
    """Breasts hang otherwise on each film."""
    body = rays.body
    if not body.breast_mm:
        return paths
    more = replace(body, breast_mm=body.breast_mm * rng.uniform(0.7, 1.2), fat_mm=0)
    how = (rays.anatomy, rays.view, rays.pixel_mm, BEAM_Z_MM)
    gland, _ = soft_tissue(paths.soft, more, *how)
    return replace(paths, soft=paths.soft + rng.uniform(0, 2) * gland)


def _shoulders(paths, place, rng):
    """The neck and the slope of the shoulders, with air above them."""
    neck = rng.uniform(42, 58)
    high = rng.uniform(45, 85)
    low = rng.uniform(10, 35)
    outward = ((place.x.abs() - neck) / (place.half + 30 - neck)).clamp(0, 1)
    rim = -high + (high - low) * outward ** rng.uniform(0.7, 1.1)
    inward = torch.sigmoid((neck - place.x.abs()) / 7)
    rim = rim - 150 * inward  # the neck goes on to the film's edge
    share = (1 - place.y / rim).clamp(0, 1) ** 0.6
    share = torch.where(place.y > 0, 1.0, share)
    kept = torch.sigmoid((place.y + HIGHEST_BONE_MM) / 4)
    kept = torch.where(place.x.abs() < SPINE_MM, 1.0, kept)
    bone = paths.bone.clamp(max=0) + kept * paths.bone.clamp(min=0)
    return replace(paths, soft=paths.soft * share, bone=bone * share)


def _flanks(paths, place, rng):
    """The sides of a wide body, which the CT's field of view cuts."""
    reach = place.half + rng.uniform(30, 110)
    rounded = ((reach - place.x.abs()) / 40).clamp(0, 1).sqrt()
    thick = rng.uniform(4, 15) * rounded * torch.sigmoid((place.y - 20) / 10)
    is_beside = place.x.abs() > place.half + 8
    wide = torch.maximum(paths.soft, thick * physics.DENSITY["fat"])
    return replace(paths, soft=torch.where(is_beside, wide, paths.soft))


def _arms(paths, place, rng):
    """Upper arms beside the chest: muscle around a hollow bone."""
    soft = paths.soft
    bone = paths.bone
    spread = rng.uniform(0, 0.35)
    for sign in (-1, 1):
        radius = rng.uniform(36, 52)
        axis = place.half + radius + rng.uniform(8, 25)
        away = (sign * place.x - axis - spread * place.y.clamp(min=0)).abs()
        above = (-place.y + rng.uniform(-10, 15)).clamp(min=0)
        away = torch.hypot(away, above)
        soft = torch.maximum(soft, _chord(away, radius) * physics.DENSITY["soft"])
        shell = _chord(away, 11) - 0.9 * _chord(away, 7)
        bone = bone + shell * rng.uniform(0.5, 1.0)
    return replace(paths, soft=soft, bone=bone)


def _chord(away, radius):
    """cm of a cylinder or a ball that a ray crosses `away` mm from its middle."""
    return 0.2 * (radius**2 - away**2).clamp(min=0).sqrt()


def _gas(paths, place, rng):
    """Gas in stomach and colon, well below the lungs."""
    soft = paths.soft
    for _ in range(rng.integers(1, 5)):
        width, height = rng.uniform(10, 32, 2)
        x = rng.uniform(0.15, 0.9) * place.half
        y = place.floor[1] + height + rng.uniform(12, 60)
        if rng.random() < 0.25:
            x = -x
            y += place.floor[0] - place.floor[1]
        away = torch.hypot((place.x - x) / width, (place.y - y) / height)
        soft = soft - _chord(away * width, width) * rng.uniform(0.4, 0.9)
    is_below = place.y > max(place.floor)
    soft = torch.where(is_below, soft.clamp(min=0.2), paths.soft)
    return replace(paths, soft=torch.minimum(soft, paths.soft))


def _buttons(paths, place, rng):
    """A row of buttons or press studs in the midline."""
    step = rng.uniform(45, 90)
    x = rng.normal(0, 6)
    heights = np.arange(rng.uniform(-60, 0), place.y[-1, 0], step)
    metal = paths.metal
    for y in heights:
        away = torch.hypot(place.x - x - rng.normal(0, 2), place.y - y)
        disc = ((rng.uniform(4, 7) - away) / place.pixel_mm + 0.5).clamp(0, 1)
        metal = metal + rng.uniform(0.1, 0.5) * disc
    return replace(paths, metal=metal)


def _necklace(paths, place, rng):
    """A chain about the neck, above the lungs."""
    wide = rng.uniform(45, 70)
    low = rng.uniform(-30, -12)
    points = [(-wide, low - 70), (-wide / 2, low - 15), (0, low)]
    points += [(-x, y) for x, y in points[1::-1]]
    sigma = np.hypot(0.6, 0.4 * place.pixel_mm) / place.pixel_mm
    curve = smooth(place.pixels(points), 0.5)
    grams = rng.uniform(0.05, 0.2)  # in a cm of it
    wire = grams * stroke(place.shape, curve, sigma) / (place.pixel_mm / 10)
    return replace(paths, metal=paths.metal + torch.from_numpy(wire).float())


def _collar(paths, place, rng):
    """The cloth of a gown about the neck: a soft edge with folds."""
    fold = rng.uniform(2, 8) * torch.sin(place.x / rng.uniform(8, 20))
    low = rng.uniform(-45, -15)
    inside = torch.sigmoid((low - place.y + fold) / 2)
    return replace(paths, soft=paths.soft + rng.uniform(0.1, 0.5) * inside)


# what a film shows, and how often
STEPS = {
    _shoulders: 0.85,
    _flanks: 0.6,
    _arms: 0.6,
    _gas: 0.5,
    _collar: 0.15,
    _buttons: 0.06,
    _necklace: 0.08,
}
