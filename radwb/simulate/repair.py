"""What the CT's patient brought along, tumour and contrast, and how it is taken out."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

LUNGS = (10, 11, 12, 13, 14)
BOLUS_HU = 1700  # no bone of this chest is denser; undiluted contrast in a vein is
BOLUS_REACH_MM = 6.0
FEATHER_MM = 6.0
# what is coarser than this stays the place's own, what is finer comes from the donor
SMOOTH_MM = 10.0
WALL_MM = 2.5
# share of a place's voxels, at the chest wall, that may get the lung's mean
MISSING = 0.005


class Lesion(NamedTuple):
    """A place in a lung, and the healthy one that its tissue is taken from.

    Attributes:
        centre: (x, y, z) voxel.
        radius_mm: of the ball that holds the lesion with its strands.
        shift: (x, y, z) voxels to the donor, from the place or from its mirror image.
        mirror_x: voxel column plus that of its mirror image in the other lung; None
            takes the donor unmirrored.
    """

    centre: tuple
    radius_mm: float
    shift: tuple
    mirror_x: int | None = None


# In LIDC-IDRI-0001. The donors are the nearest places that have lung wherever the
# lesion's place has, and in which no branching of vessels looks like a ball
# (`blob_response` below its 99th percentile in the lungs).
# spiculated, 23 mm, left lower lobe, superior segment
MASS = Lesion(
    centre=(317, 145, 90),
    radius_mm=20.0,
    shift=(8, 14, -21),
    mirror_x=467,
)
# 25 mm long, lingula, beside the heart's apex: scar or atelectasis
BAND = Lesion(
    centre=(402, 303, 61),
    radius_mm=13.0,
    shift=(-8, -46, 6),
)


def healthy(hu, labels, voxel_mm, lesions=(MASS, BAND)):
    """LIDC-IDRI-0001 without what passes for a planted finding.

    That is its tumour, a band, and contrast taken for ribs.

    Args:
        hu: (X, Y, Z) Hounsfield units, axes to the patient's left, anterior, superior.
        labels: (X, Y, Z) organ mask with the numbers of TotalSegmentator 2.
        voxel_mm: three voxel sides in mm.
        lesions: what is replaced, one `Lesion` after another.
    Returns:
        hu, labels, copies.
    """
    lungs = np.isin(labels, LUNGS)
    labels = np.where(bolus(hu, voxel_mm), 0, labels)
    for lesion in lesions:
        hu = transplant(hu, lungs, voxel_mm, lesion)
    return hu, labels


def bolus(hu, voxel_mm):
    """(X, Y, Z) bool, where contrast fills a vein undiluted, with its blurred rim."""
    contrast = ndimage.binary_opening(hu > BOLUS_HU)
    if not contrast.any():
        return contrast
    box = []
    for axis, side in zip(np.nonzero(contrast), voxel_mm, strict=True):
        margin = int(BOLUS_REACH_MM / side) + 1
        box.append(slice(max(0, axis.min() - margin), axis.max() + margin + 1))
    box = tuple(box)
    away_mm = ndimage.distance_transform_edt(~contrast[box], sampling=voxel_mm)
    contrast[box] = (away_mm < BOLUS_REACH_MM) & (hu[box] > 400)
    return contrast


def transplant(hu, lungs, voxel_mm, lesion):
    """Replace a lesion by lung from elsewhere in the same CT.

    Texture and vessels stay a lung's. Density that varies over more than a centimetre
    is the place's own; vessels and noise are the donor's. Towards the rim both textures
    are mixed with weights whose squares add up to 1, which keeps their variance.

    >>> hu = np.full((80, 80, 100), -800.0)
    >>> hu[40, 40, 40] = 40
    >>> nodule = Lesion((40, 40, 40), 4.0, (0, 0, 15))
    >>> float(transplant(hu, hu < 100, (1, 1, 1), nodule)[40, 40, 40]) < -700
    True

    Args:
        hu: (X, Y, Z) Hounsfield units.
        lungs: (X, Y, Z) bool, the lesion included.
        voxel_mm: three voxel sides in mm.
        lesion: a `Lesion`.
    Returns:
        (X, Y, Z) like `hu`, changed within the ball and its rim only.
    Raises:
        ValueError: more than `MISSING` of the place has no lung at the donor's.
    """
    place, donor = _places(lesion, voxel_mm, hu.shape)
    distance = _distance_mm(place, lesion.centre, voxel_mm)
    lungs_here = lungs[place]
    weight = _weight(distance, lesion.radius_mm) * lungs_here
    missing = (weight > 0) & ~lungs[donor]
    if missing.sum() > MISSING * (weight > 0).sum():
        raise ValueError(
            f"expected lung at the donor of nearly every voxel, got {missing.sum()} "
            f"voxels without. Try: another shift than {lesion.shift}"
        )
    here = hu[place].astype(np.float32)
    there = hu[donor].astype(np.float32)
    healthy_rim = lungs_here & (distance > lesion.radius_mm)
    coarse_here = _coarse(here, healthy_rim, voxel_mm)
    coarse_there = _coarse(there, lungs[donor], voxel_mm)
    mixed = coarse_here
    mixed = mixed + np.sqrt(1 - weight) * (here - coarse_here)
    mixed = mixed + np.sqrt(weight) * (there - coarse_there)
    mixed = np.where(missing, coarse_here, mixed)
    wall = _wall(here, lungs_here, voxel_mm) & (distance > lesion.radius_mm)
    out = hu.copy()
    out[place] = np.where((weight > 0) & ~wall, mixed, here)
    return out


def _places(lesion, voxel_mm, shape):
    """Index arrays of the box around a lesion, and of the donor's box, mirrored."""
    reach_mm = lesion.radius_mm + FEATHER_MM + 2 * SMOOTH_MM
    axes = []
    for centre, side, length in zip(lesion.centre, voxel_mm, shape, strict=True):
        reach = int(np.ceil(reach_mm / side))
        axes.append(np.arange(max(0, centre - reach), min(length, centre + reach + 1)))
    x, y, z = axes
    across, forward, up = lesion.shift
    opposite = x if lesion.mirror_x is None else lesion.mirror_x - x
    return np.ix_(x, y, z), np.ix_(opposite + across, y + forward, z + up)


def _distance_mm(place, centre, voxel_mm):
    squares = [
        ((axis - middle) * side) ** 2
        for axis, middle, side in zip(place, centre, voxel_mm, strict=True)
    ]
    return np.sqrt(sum(squares))


def _weight(distance, radius_mm):
    """The donor's share: 1 within the ball, 0 beyond its rim."""
    return np.clip((radius_mm + FEATHER_MM - distance) / FEATHER_MM, 0, 1)


def _coarse(hu, lungs, voxel_mm):
    """Slowly varying density of the lungs without vessels, carried on beyond them."""
    sigma = [SMOOTH_MM / side for side in voxel_mm]
    inside = lungs.astype(np.float32)
    total = ndimage.gaussian_filter(np.clip(hu, -1000, -600) * inside, sigma)
    return total / np.maximum(ndimage.gaussian_filter(inside, sigma), 1e-3)


def _wall(hu, lungs, voxel_mm):
    """The chest wall's blurred edge within the lungs' mask.

    It stays, or the wall would show steps.
    """
    near = ndimage.distance_transform_edt(lungs, sampling=voxel_mm) < WALL_MM
    return near & (hu > -750)


def blob_response(
    hu: np.ndarray,
    lungs: np.ndarray,
    voxel_mm: tuple[float, float, float],
    diameters_mm: tuple = (5, 8, 12, 16, 20, 25, 30),
    grid_mm: float = 1.4,
) -> np.ndarray:
    """Look for nodules in a CT of your own before it makes films: what is like a ball?

    It is the largest answer of several scales of the scale-normalised Laplacian of a
    Gaussian (Lindeberg 1998, doi 10.1023/A:1008045108935); what isn't lung is filled
    with the lungs' median first, so that no wall answers.

    >>> hu = np.full((30, 30, 30), -800.0)
    >>> hu[13:18, 13:18, 13:18] = 40
    >>> response = rw.simulate.blob_response(hu, hu < 100, (1, 1, 1), grid_mm=1.0)
    >>> [int(i) for i in np.unravel_index(response.argmax(), response.shape)]
    [15, 15, 15]

    Args:
        hu: (X, Y, Z) Hounsfield units.
        lungs: (X, Y, Z) bool.
        voxel_mm: three voxel sides in mm.
        diameters_mm: of the balls that are looked for.
        grid_mm: of the isotropic grid that is searched.
    Returns:
        (x, y, z) float32 on that grid, HU; NaN outside the lungs.
    """
    density = np.where(lungs, np.clip(hu, -1000, 100), np.median(hu[lungs]))
    zoom = [side / grid_mm for side in voxel_mm]
    density = ndimage.zoom(density.astype(np.float32), zoom, order=1)
    inside = ndimage.zoom(lungs.astype(np.float32), zoom, order=1) > 0.5
    response = np.full(density.shape, -np.inf, np.float32)
    for diameter in diameters_mm:
        sigma = diameter / 2 / np.sqrt(3) / grid_mm
        ball = -(sigma**2) * ndimage.gaussian_laplace(density, sigma)
        response = np.maximum(response, ball)
    return np.where(inside, response, np.nan)
