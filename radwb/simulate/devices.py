"""Devices as curves in 3-D: drains, lines, tubes, pacemakers and leads, carried along by the patient and projected."""

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch.nn import functional as F

from radwb.simulate.project import Rays

# radius in mm; metal in a cm of length, g (barium stripe, wire); plastic in a cm of length, g
MAKE = {"chest tube": (4.0, 0.16, 0.30), "central line": (1.1, 0.09, 0.03), "endotracheal tube": (4.5, 0.13, 0.45),
        "pacemaker": (1.2, 0.07, 0.02), "ECG leads": (0.8, 0.05, 0.02)}  # fmt: skip


def to_film(rays: Rays, points):
    """Where points (N, 3) of the CT, mm, fall on the film: (N, 2) row and column in pixels.

    Inverts the bent rays: a few corrections by the map's mean slope, which it hardly leaves.
    """
    anatomy, coarse = rays.anatomy, rays.coarse
    axis, half = anatomy.axis, anatomy.half_mm
    k, _, n, _ = coarse.shape
    points = np.asarray(points, dtype=np.float32)
    target = torch.from_numpy(points[:, [1 - axis, 2]] / half[[1 - axis, 2]]).float()  # (N, 2)
    slab = torch.from_numpy(points[:, axis] / half[axis]).float() / (1 - 1 / k)
    field = coarse[:, :2].movedim(1, 0)[None]  # (1, 2, K, n, n)
    middle = coarse[k // 2, :2]
    slope = torch.stack(((middle[:, :, -1] - middle[:, :, 0]).mean(1), (middle[:, -1] - middle[:, 0]).mean(1)), 1) / 2
    at = torch.zeros(len(points), 2)
    for _ in range(8):
        where = torch.stack((at[:, 0], at[:, 1], slab), 1)[None, None, None]
        there = F.grid_sample(field, where, padding_mode="border", align_corners=True)[0, :, 0, 0].T  # (N, 2)
        at = (at + (target - there) @ torch.linalg.inv(slope).T).clamp(-1.5, 1.5)
    size = rays.lung_mm.shape[-1]
    return ((at.flip(1) + 1) / 2 * (size - 1)).numpy()


def smooth(points, step):
    """A cubic curve through points (N, D), sampled about every `step`."""
    points = np.asarray(points, dtype=float)
    length = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    if length[-1] < step:
        return points[:1]
    keep = np.concatenate(([True], np.diff(length) > 1e-6))
    curve = make_interp_spline(length[keep], points[keep], k=min(3, keep.sum() - 1))
    return curve(np.linspace(0, length[-1], max(2, int(length[-1] / step))))


def stroke(shape, curve, sigma):
    """(H, W) profile of unit mass per pixel of length: a Gaussian across a curve of (N, 2) pixels."""
    reach = int(np.ceil(3 * sigma)) + 1
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    pixels = np.round(curve)[:, None] + offsets  # (N, M, 2)
    squared = ((pixels - curve[:, None]) ** 2).sum(-1)
    inside = ((pixels >= 0) & (pixels < shape)).all(-1)
    nearest = np.full(shape, np.inf)
    rows, cols = pixels[inside].astype(int).T
    np.minimum.at(nearest, (rows, cols), squared[inside])
    return np.exp(-nearest / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)


def _course(anatomy, f, rng):
    """The curves of a device in the CT, mm: a list of lists of (x, y, z)."""
    m, sign = anatomy.marks, -1 if f.side == "right" else 1
    carina, front = np.array(m["carina"]), float(anatomy.half_mm[1]) * 0.85
    jitter = rng.normal(0, 4, 3)
    if f.kind == "chest tube":
        edge = np.array(m[f"{f.side} edge"])
        at = [edge[np.searchsorted(edge[:, 2], z).clip(0, len(edge) - 1)] for z in
              np.quantile(edge[:, 2], (0.42, 0.55, 0.72, 0.88))]  # fmt: skip
        out = [at[0] + (sign * 70, 10, -25), at[0] + (sign * 22, 5, -6)]
        inside = [p - (sign * (8 + 3 * k), -6, 0) for k, p in enumerate(at)]
        return [[*out, *inside[: 3 + (rng.random() < 0.7)], at[3] + (-sign * 28, 5, 18) + jitter]]
    if f.kind == "central line":
        cava = np.array(m["cava"])[::-1]
        high = carina + (sign * 30, 12, 120) if sign < 0 else carina + (98, 40, 85)
        via = [carina + (sign * 24, 18, 75)] if sign < 0 else [carina + (52, 38, 66), carina + (8, 30, 42)]
        return [[high + jitter, *via, cava[0], *cava[len(cava) // 3 :: 2]]]
    if f.kind == "endotracheal tube":
        tube = np.array(m["trachea"])[::-1]
        stop = min(carina[2] + rng.uniform(15, 60), tube[0][2] - 5)
        inside = tube[tube[:, 2] > stop]
        return [[inside[0] + (0, 10, 45), *inside[::4], inside[-1] * (1, 1, 0) + (0, 0, stop)]]
    if f.kind == "pacemaker":
        box = carina + (sign * 76, 0, 66) + jitter
        box[1] = front
        cava = np.array(m["cava"])[::-1]
        tip = np.array(m["heart"]) + (12, 25, -38)
        return [[box, carina + (sign * 60, 40, 72), carina + (-8 + sign * 8, 32, 46), cava[1], cava[-1],
                 np.array(m["heart"]) + (-28, 5, -18), tip]]  # fmt: skip
    belly = np.array([rng.normal(0, 30), front, carina[2] - 190])
    pads = [carina + (s * rng.uniform(78, 115), 0, h + rng.normal(0, 10)) for s, h in ((-1, 70), (1, 70), (1, -85))]
    for pad in pads:
        pad[1] = front
    return [[pad, (pad + belly) / 2 + rng.normal(0, 22, 3) * (1, 0, 1), belly] for pad in pads]


def draw_device(rays: Rays, finding):
    """Metal and plastic along each ray, two (H, W) tensors in g/cm2.

    Args:
        rays: the sampled patient.
        finding: a `Finding` of "Support Devices"; its texture seeds the course.
    """
    shape, px = tuple(rays.lung_mm.shape), rays.pixel_mm
    rng = np.random.default_rng(finding.texture)
    radius, metal_g, plastic_g = MAKE[finding.kind]
    stripe = np.hypot(min(radius, 1.3) / 2, 0.4 * px) / px  # sigma in pixels: the stripe and the pixel itself
    wall = np.hypot(radius / 2, 0.4 * px) / px
    metal, plastic = np.zeros(shape), np.zeros(shape)
    courses = _course(rays.anatomy, finding, rng)
    for points in courses:
        curve = smooth(to_film(rays, smooth(points, 6.0)), 0.5)
        metal += metal_g * stroke(shape, curve, stripe) / (px / 10)
        plastic += plastic_g * stroke(shape, curve, wall) / (px / 10)
    discs = {"pacemaker": [(courses[0][0], 22.0, 1.6, 1.0)], "ECG leads": [(c[0], 6.0, 0.16, 1.0) for c in courses]}
    for centre, r, grams, ratio in discs.get(finding.kind, ()):
        metal += grams * _disc(shape, to_film(rays, [centre])[0], r / px, ratio * 0.85)
    return torch.from_numpy(metal).float(), torch.from_numpy(plastic).float()


def _disc(shape, centre, radius, squeeze):
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    r = np.sqrt(((rows - centre[0]) / squeeze) ** 2 + (cols - centre[1]) ** 2)
    return np.clip(radius - r + 0.5, 0, 1)
