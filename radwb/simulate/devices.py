"""Devices as curves in 3-D: drains, lines, tubes, pacemakers and leads, carried along
by the patient and projected.
"""

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch.nn import functional as F

from radwb.findings.devices import TIPS
from radwb.simulate.project import Rays

# radius in mm; metal in a cm of length, g (barium stripe, wire); plastic in a cm of
# length, g
MAKE = {
    "chest tube": (4.0, 0.16, 0.30),
    "central line": (1.1, 0.09, 0.03),
    "endotracheal tube": (4.5, 0.13, 0.45),
    "pacemaker": (1.2, 0.07, 0.02),
    "ECG leads": (0.8, 0.05, 0.02),
}


def to_film(rays: Rays, points):
    """Where points (N, 3) of the CT, mm, fall on the film: (N, 2) row and column in
    pixels.

    Inverts the bent rays: a few corrections by the map's mean slope, which it hardly
    leaves.
    """
    anatomy, coarse = rays.anatomy, rays.coarse
    axis, half = anatomy.axis, anatomy.half_mm
    k, _, n, _ = coarse.shape
    points = np.asarray(points, dtype=np.float32)
    target = torch.from_numpy(
        points[:, [1 - axis, 2]] / half[[1 - axis, 2]]
    ).float()  # (N, 2)
    slab = torch.from_numpy(points[:, axis] / half[axis]).float() / (1 - 1 / k)
    field = coarse[:, :2].movedim(1, 0)[None]  # (1, 2, K, n, n)
    middle = coarse[k // 2, :2]
    slope = (
        torch.stack(
            (
                (middle[:, :, -1] - middle[:, :, 0]).mean(1),
                (middle[:, -1] - middle[:, 0]).mean(1),
            ),
            1,
        )
        / 2
    )
    at = torch.zeros(len(points), 2)
    for _ in range(8):
        where = torch.stack((at[:, 0], at[:, 1], slab), 1)[None, None, None]
        there = F.grid_sample(field, where, padding_mode="border", align_corners=True)[
            0, :, 0, 0
        ].T  # (N, 2)
        at = (at + (target - there) @ torch.linalg.inv(slope).T).clamp(-1.5, 1.5)
    size = rays.lung_mm.shape[-1]
    return ((at.flip(1) + 1) / 2 * (size - 1)).numpy()


def smooth(points, step):
    """A cubic curve through points (N, D), sampled about every `step`."""
    points = np.asarray(points, dtype=float)
    length = np.concatenate(
        ([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    )
    if length[-1] < step:
        return points[:1]
    keep = np.concatenate(([True], np.diff(length) > 1e-6))
    curve = make_interp_spline(length[keep], points[keep], k=min(3, keep.sum() - 1))
    return curve(np.linspace(0, length[-1], max(2, int(length[-1] / step))))


def stroke(shape, curve, sigma):
    """(H, W) profile of unit mass per pixel of length: a Gaussian across a curve of (N,
    2) pixels.
    """
    reach = int(np.ceil(3 * sigma)) + 1
    offsets = np.stack(
        np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1
    ).reshape(-1, 2)
    pixels = np.round(curve)[:, None] + offsets  # (N, M, 2)
    squared = ((pixels - curve[:, None]) ** 2).sum(-1)
    inside = ((pixels >= 0) & (pixels < shape)).all(-1)
    nearest = np.full(shape, np.inf)
    rows, cols = pixels[inside].astype(int).T
    np.minimum.at(nearest, (rows, cols), squared[inside])
    return np.exp(-nearest / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)


def course(anatomy, finding, scale=1.0):
    """The curves of a device in the CT; the first begins outside and ends at the tip
    that the finding names.

    >>> tube = Finding("Support Devices", 0.5, kind="endotracheal tube", tip="trachea", tip_cm=4.0)
    >>> course(anatomy, tube)[0][-1][2] - anatomy.marks["carina"][2]    # 40 mm, up to 2 mm more or less

    Args:
        finding: a `Finding` of "Support Devices"; its texture seeds what its words
            don't say.
        scale: the patient's height over the CT's (`Body.scale`): a tube ends `tip_cm`
            above the patient's carina.
    Returns:
        a list of (N, 3) arrays of points, mm, for `smooth`; a second lead of a
        pacemaker, or three ECG leads, follow.
    """
    rng = np.random.default_rng(finding.texture)
    tip = finding.tip or next(iter(TIPS[finding.kind]), "")
    make = COURSES[finding.kind]
    return [np.array(points) for points in make(anatomy, finding, tip, scale, rng)]


def _chest_tube(anatomy, finding, tip, scale, rng):
    """In through the lateral wall; up to the apex, down to the base, or up and sharply
    back.
    """
    sign = -1 if finding.side == "right" else 1
    edge = np.array(anatomy.marks[f"{finding.side} edge"])
    heights = np.quantile(edge[:, 2], (0.42, 0.55, 0.72, 0.88, 0.25))
    at = edge[np.searchsorted(edge[:, 2], heights).clip(0, len(edge) - 1)]
    outside = [at[0] + (sign * 70, 10, -25), at[0] + (sign * 22, 5, -6)]
    inside = [p - (sign * (8 + 3 * k), -6, 0) for k, p in enumerate(at)]
    jitter = rng.normal(0, 4, 3)
    if tip == "base":
        return [[*outside, inside[0], at[4] + (-sign * 18, -15, 0) + jitter]]
    if tip == "mid lung":
        back = inside[1] + (-sign * 26, 0, -4) + jitter
        return [[*outside, *inside[:3], back]]
    through = inside[: 3 + (rng.random() < 0.7)]
    return [[*outside, *through, at[3] + (-sign * 28, 5, 18) + jitter]]


def _central_line(anatomy, finding, tip, scale, rng):
    """From the neck on the right or under the left clavicle, through the
    brachiocephalic vein, down the SVC.
    """
    right = finding.side == "right"
    carina = np.array(anatomy.marks["carina"])
    cava = np.array(anatomy.marks["cava"])[::-1]
    start = carina + ((-30, 12, 120) if right else (98, 40, 85)) + rng.normal(0, 4, 3)
    left_vein = [carina + (52, 38, 66), carina + (8, 30, 42)]
    vein = [carina + (-24, 18, 75)] if right else left_vein
    if tip == "brachiocephalic vein":
        end = (vein[-1] + cava[0]) / 2 if right else (vein[0] + vein[1]) / 2
        return (
            [[start, *vein[:1], end]]
            if not right
            else [[start, (start + end) / 2, end]]
        )
    top, bottom = cava[0][2], cava[-1][2]
    depth = {"mid SVC": 0.5, "lower SVC": 0.8}.get(tip, 1.0)
    whole = [start, *vein, cava[0], *cava[len(cava) // 3 :: 2], cava[-1]]
    line = _until(whole, top + depth * (bottom - top))
    atrium = np.array(anatomy.marks["heart"]) + (-42, 0, -25)
    return [[*line, atrium] if tip == "right atrium" else line]


def _endotracheal_tube(anatomy, finding, tip, scale, rng):
    """Down the trachea; too far, it follows the right main bronchus."""
    carina = np.array(anatomy.marks["carina"])
    trachea = np.array(anatomy.marks["trachea"])[::-1]
    down = [trachea[0] + (0, 10, 45), *trachea[::4]]
    if tip == "right main bronchus":
        hilum = np.array(anatomy.marks["right hilum"])
        steep = (0.55, 0.6, 0.9) * (
            hilum - carina
        )  # a main bronchus goes down more than aside
        return [[*_until(down, carina[2] + 22), carina + 0.2 * steep, carina + steep]]
    above = 10 * finding.tip_cm if finding.tip else rng.uniform(20, 50)
    above = above / scale + rng.uniform(-2, 2)
    return [_until([*down, trachea[-1], carina], carina[2] + above)]


def _pacemaker(anatomy, finding, tip, scale, rng):
    """A box under the clavicle, one lead or two through the SVC into the heart."""
    sign = -1 if finding.side == "right" else 1
    carina = np.array(anatomy.marks["carina"])
    heart = np.array(anatomy.marks["heart"])
    cava = np.array(anatomy.marks["cava"])[::-1]
    box = carina + (sign * 76, 0, 66) + rng.normal(0, 4, 3)
    box[1] = float(anatomy.half_mm[1]) * 0.85
    shoulder = carina + (sign * 60, 40, 72)
    way = [box, shoulder, carina + (-8 + sign * 8, 32, 46), cava[1], cava[-1]]
    ventricle = [*way, heart + (-28, 5, -18), heart + (12, 25, -38)]
    atrium = [
        *way,
        heart + (-44, 8, -20),
        heart + (-28, 26, -4),
    ]  # a J, into the appendage
    leads = {"right ventricle": [ventricle], "right atrium": [atrium]}
    return leads.get(tip, [ventricle, atrium])


def _ecg_leads(anatomy, finding, tip, scale, rng):
    """Three pads on the chest and a bundle below."""
    carina = np.array(anatomy.marks["carina"])
    front = float(anatomy.half_mm[1]) * 0.85
    belly = np.array([rng.normal(0, 30), front, carina[2] - 190])
    leads = []
    for sign, height in ((-1, 70), (1, 70), (1, -85)):
        pad = carina + (sign * rng.uniform(78, 115), 0, height + rng.normal(0, 10))
        pad[1] = front
        leads.append([pad, (pad + belly) / 2 + rng.normal(0, 22, 3) * (1, 0, 1), belly])
    return leads


COURSES = {
    "chest tube": _chest_tube,
    "central line": _central_line,
    "endotracheal tube": _endotracheal_tube,
    "pacemaker": _pacemaker,
    "ECG leads": _ecg_leads,
}


def _until(points, height):
    """A course from above, (N, 3) mm, as far as it comes down to this height."""
    above = [k for k, point in enumerate(points) if point[2] > height + 1]
    last, below = points[above[-1]], points[min(above[-1] + 1, len(points) - 1)]
    share = (last[2] - height) / max(1e-6, last[2] - below[2])
    end = last + share * (np.array(below) - last)
    return [*points[: above[-1] + 1], np.append(end[:2], height)]


def draw_device(rays: Rays, finding):
    """Metal and plastic along each ray, two (H, W) tensors in g/cm2.

    Args:
        rays: the sampled patient.
        finding: a `Finding` of "Support Devices", which takes the way of `course`.
    """
    shape, px = tuple(rays.lung_mm.shape), rays.pixel_mm
    radius, metal_g, plastic_g = MAKE[finding.kind]
    stripe = (
        np.hypot(min(radius, 1.3) / 2, 0.4 * px) / px
    )  # sigma in pixels: the stripe and the pixel itself
    wall = np.hypot(radius / 2, 0.4 * px) / px
    metal, plastic = np.zeros(shape), np.zeros(shape)
    courses = course(rays.anatomy, finding, rays.body.scale[2])
    for points in courses:
        curve = smooth(to_film(rays, smooth(points, 6.0)), 0.5)
        metal += metal_g * stroke(shape, curve, stripe) / (px / 10)
        plastic += plastic_g * stroke(shape, curve, wall) / (px / 10)
    discs = {
        "pacemaker": [(courses[0][0], 22.0, 1.6, 1.0)],
        "ECG leads": [(c[0], 6.0, 0.16, 1.0) for c in courses],
    }
    for centre, r, grams, ratio in discs.get(finding.kind, ()):
        metal += grams * _disc(shape, to_film(rays, [centre])[0], r / px, ratio * 0.85)
    return torch.from_numpy(metal).float(), torch.from_numpy(plastic).float()


def _disc(shape, centre, radius, squeeze):
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    r = np.sqrt(((rows - centre[0]) / squeeze) ** 2 + (cols - centre[1]) ** 2)
    return np.clip(radius - r + 0.5, 0, 1)
