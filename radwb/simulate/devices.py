"""Devices as curves in 3-D: carried along by the patient and projected."""

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
# discs of metal where a course begins: radius in mm, g/cm2
DISCS = {"pacemaker": (22.0, 1.6), "ECG leads": (6.0, 0.16)}
SQUEEZE = 0.85  # height over width of a disc on the film


def draw_device(rays: Rays, finding):
    """Metal and plastic along each ray, two (H, W) tensors in g/cm2.

    Args:
        rays: the sampled patient.
        finding: a `Finding` of "Support Devices", which takes the way of `course`.
    """
    shape = tuple(rays.lung_mm.shape)
    px = rays.pixel_mm
    radius, metal_g, plastic_g = MAKE[finding.kind]
    # sigmas in pixels: the stripe or the wall, and the pixel itself
    stripe = np.hypot(min(radius, 1.3) / 2, 0.4 * px) / px
    wall = np.hypot(radius / 2, 0.4 * px) / px
    metal = np.zeros(shape)
    plastic = np.zeros(shape)
    courses = course(rays.anatomy, finding, rays.body.scale[2])
    for points in courses:
        curve = smooth(to_film(rays, smooth(points, 6.0)), 0.5)
        metal += metal_g * stroke(shape, curve, stripe) / (px / 10)
        plastic += plastic_g * stroke(shape, curve, wall) / (px / 10)
    if finding.kind in DISCS:
        radius, grams = DISCS[finding.kind]
        is_box = finding.kind == "pacemaker"  # one for all its leads
        for points in courses[:1] if is_box else courses:
            centre = to_film(rays, points[:1])[0]
            metal += grams * _disc(shape, centre, radius / px)
    return torch.from_numpy(metal).float(), torch.from_numpy(plastic).float()


def _disc(shape, centre, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    away = np.sqrt(((rows - centre[0]) / SQUEEZE) ** 2 + (columns - centre[1]) ** 2)
    return np.clip(radius - away + 0.5, 0, 1)


def stroke(shape, curve, sigma):
    """(H, W) profile of a curve of (N, 2) pixels: a Gaussian across it.

    It has unit mass per pixel of length.
    """
    reach = int(np.ceil(3 * sigma)) + 1
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    pixels = np.round(curve)[:, None] + offsets  # (N, M, 2)
    squared = ((pixels - curve[:, None]) ** 2).sum(-1)
    inside = ((pixels >= 0) & (pixels < shape)).all(-1)
    nearest = np.full(shape, np.inf)
    rows, columns = pixels[inside].astype(int).T
    np.minimum.at(nearest, (rows, columns), squared[inside])
    return np.exp(-nearest / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)


def smooth(points, step):
    """A cubic curve through points (N, D), sampled about every `step`."""
    points = np.asarray(points, dtype=float)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate(([0], np.cumsum(lengths)))
    if at[-1] < step:
        return points[:1]
    is_new = np.concatenate(([True], np.diff(at) > 1e-6))
    curve = make_interp_spline(
        at[is_new],
        points[is_new],
        k=min(3, is_new.sum() - 1),
    )
    return curve(np.linspace(0, at[-1], max(2, int(at[-1] / step))))


def to_film(rays: Rays, points):
    """Where points of the CT fall on the film.

    Inverts the bent rays: a few corrections by the map's mean slope, which it hardly
    leaves.

    Args:
        points: (N, 3) mm.
    Returns:
        (N, 2) row and column in pixels.
    """
    axis = rays.anatomy.axis
    half = rays.anatomy.half_mm
    coarse = rays.coarse
    k = len(coarse)
    points = np.asarray(points, dtype=np.float32)
    across = [1 - axis, 2]
    target = torch.from_numpy(points[:, across] / half[across]).float()  # (N, 2)
    slab = torch.from_numpy(points[:, axis] / half[axis]).float() / (1 - 1 / k)
    field = coarse[:, :2].movedim(1, 0)[None]  # (1, 2, K, n, n)
    middle = coarse[k // 2, :2]
    along_columns = (middle[:, :, -1] - middle[:, :, 0]).mean(1)
    along_rows = (middle[:, -1] - middle[:, 0]).mean(1)
    slope = torch.stack((along_columns, along_rows), 1) / 2
    correction = torch.linalg.inv(slope).T
    at = torch.zeros(len(points), 2)
    for _ in range(8):
        where = torch.stack((at[:, 0], at[:, 1], slab), 1)[None, None, None]
        there = F.grid_sample(
            field,
            where,
            padding_mode="border",
            align_corners=True,
        )[0, :, 0, 0].T  # (N, 2)
        at = (at + (target - there) @ correction).clamp(-1.5, 1.5)
    size = rays.lung_mm.shape[-1]
    return ((at.flip(1) + 1) / 2 * (size - 1)).numpy()


def course(anatomy, finding, scale=1.0):
    """The curves of a device in the CT.

    The first begins outside and ends at the tip that the finding names.

    >>> from radwb.simulate import Finding
    >>> how = dict(kind="endotracheal tube", tip="trachea", tip_cm=4.0)
    >>> anatomy = rw.simulate.default_anatomy()
    >>> (tube,) = course(anatomy, Finding("Support Devices", 0.5, **how))
    >>> bool(38 < tube[-1][2] - anatomy.marks["carina"][2] < 42)
    True

    Args:
        finding: a `Finding` of "Support Devices"; its texture seeds what its words
            don't say.
        scale: the patient's height over the CT's (`Body.scale`): a tube ends `tip_cm`
            above the patient's carina.
    Returns:
        a list of (N, 3) arrays of points, mm, for `smooth`; a second lead of a
        pacemaker, or three ECG leads, follow.
    """
    marks = {name: np.array(points) for name, points in anatomy.marks.items()}
    marks["front"] = float(anatomy.half_mm[1]) * 0.85
    rng = np.random.default_rng(finding.texture)
    tip = finding.tip or next(iter(TIPS[finding.kind]), "")
    curves = COURSES[finding.kind](marks, finding, tip, scale, rng)
    return [np.array(points) for points in curves]


def _sign(finding):
    """Of X on the device's side."""
    return -1 if finding.side == "right" else 1


def _chest_tube(marks, finding, tip, scale, rng):
    """In through the lateral wall; to the apex, to the base, or up and sharply back."""
    sign = _sign(finding)
    edge = marks[f"{finding.side} edge"]
    heights = np.quantile(edge[:, 2], (0.42, 0.55, 0.72, 0.88, 0.25))
    at = edge[np.searchsorted(edge[:, 2], heights).clip(0, len(edge) - 1)]
    outside = [at[0] + (sign * 70, 10, -25), at[0] + (sign * 22, 5, -6)]
    inside = [p - (sign * (8 + 3 * k), -6, 0) for k, p in enumerate(at)]
    jitter = rng.normal(0, 4, 3)
    if tip == "base":
        return [
            [
                *outside,
                inside[0],
                at[4] + (-sign * 18, -15, 0) + jitter,
            ]
        ]
    if tip == "mid lung":
        back = inside[1] + (-sign * 26, 0, -4) + jitter
        return [[*outside, *inside[:3], back]]
    through = inside[: 3 + (rng.random() < 0.7)]
    return [
        [
            *outside,
            *through,
            at[3] + (-sign * 28, 5, 18) + jitter,
        ]
    ]


def _central_line(marks, finding, tip, scale, rng):
    """From the neck on the right or under the left clavicle, down the SVC."""
    carina = marks["carina"]
    cava = marks["cava"][::-1]
    is_right = finding.side == "right"
    if is_right:
        start = carina + (-30, 12, 120)
        vein = [carina + (-24, 18, 75)]
    else:
        start = carina + (98, 40, 85)
        vein = [carina + (52, 38, 66), carina + (8, 30, 42)]
    start = start + rng.normal(0, 4, 3)
    if tip == "brachiocephalic vein" and is_right:
        end = (vein[0] + cava[0]) / 2
        return [[start, (start + end) / 2, end]]
    if tip == "brachiocephalic vein":
        return [
            [
                start,
                vein[0],
                (vein[0] + vein[1]) / 2,
            ]
        ]
    top = cava[0][2]
    depth = {"mid SVC": 0.5, "lower SVC": 0.8}.get(tip, 1.0)
    whole = [
        start,
        *vein,
        cava[0],
        *cava[len(cava) // 3 :: 2],
        cava[-1],
    ]
    line = _until(whole, top + depth * (cava[-1][2] - top))
    if tip == "right atrium":
        line.append(marks["heart"] + (-42, 0, -25))
    return [line]


def _endotracheal_tube(marks, finding, tip, scale, rng):
    """Down the trachea; too far, it follows the right main bronchus."""
    carina = marks["carina"]
    trachea = marks["trachea"][::-1]
    down = [trachea[0] + (0, 10, 45), *trachea[::4]]
    if tip == "right main bronchus":
        # a main bronchus goes down more than aside
        steep = (0.55, 0.6, 0.9) * (marks["right hilum"] - carina)
        tube = _until(down, carina[2] + 22)
        return [[*tube, carina + 0.2 * steep, carina + steep]]
    above_mm = 10 * finding.tip_cm if finding.tip else rng.uniform(20, 50)
    above_mm = above_mm / scale + rng.uniform(-2, 2)
    return [_until([*down, trachea[-1], carina], carina[2] + above_mm)]


def _pacemaker(marks, finding, tip, scale, rng):
    """A box under the clavicle, one lead or two through the SVC into the heart."""
    sign = _sign(finding)
    carina = marks["carina"]
    heart = marks["heart"]
    cava = marks["cava"][::-1]
    box = carina + (sign * 76, 0, 66) + rng.normal(0, 4, 3)
    box[1] = marks["front"]
    shoulder = carina + (sign * 60, 40, 72)
    way = [
        box,
        shoulder,
        carina + (-8 + sign * 8, 32, 46),
        cava[1],
        cava[-1],
    ]
    ventricle = [
        *way,
        heart + (-28, 5, -18),
        heart + (12, 25, -38),
    ]
    # a J, into the appendage
    atrium = [
        *way,
        heart + (-44, 8, -20),
        heart + (-28, 26, -4),
    ]
    leads = {"right ventricle": [ventricle], "right atrium": [atrium]}
    return leads.get(tip, [ventricle, atrium])


def _ecg_leads(marks, finding, tip, scale, rng):
    """Three pads on the chest and a bundle below."""
    carina = marks["carina"]
    belly = np.array([rng.normal(0, 30), marks["front"], carina[2] - 190])
    leads = []
    for sign, height in ((-1, 70), (1, 70), (1, -85)):
        pad = carina + (sign * rng.uniform(78, 115), 0, height + rng.normal(0, 10))
        pad[1] = marks["front"]
        slack = rng.normal(0, 22, 3) * (1, 0, 1)
        leads.append([pad, (pad + belly) / 2 + slack, belly])
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
    k = above[-1]
    last = points[k]
    below = points[min(k + 1, len(points) - 1)]
    share = (last[2] - height) / max(1e-6, last[2] - below[2])
    end = last + share * (below - last)
    return [*points[: k + 1], np.append(end[:2], height)]
