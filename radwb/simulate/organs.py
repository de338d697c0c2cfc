"""The organs of a TotalSegmentator mask: their numbers, and the landmarks they give."""

import numpy as np
from scipy import ndimage

# of TotalSegmentator 2; structures.csv of the CT names them
LOBES = {
    10: "left upper lobe",
    11: "left lower lobe",
    12: "right upper lobe",
    13: "right middle lobe",
    14: "right lower lobe",
}
LUNGS = {"right": (12, 13, 14), "left": (10, 11)}
SIGN = {"right": -1, "left": 1}  # of X on a side
TRACHEA = 16
HEART = 51
AORTA = 52
CAVA = 62
# vertebrae, limb girdles, ribs, sternum
BONES = (*range(25, 51), *range(69, 79), *range(92, 117))
LOBES_V1 = range(13, 18)  # of TotalSegmentator 1
# a lung is below it, also a dense one; pancreas, adrenal glands and oesophagus are not
AIR_HU = -400
LINE_MM = 40  # a tube's mask that is shorter than this is no line


def check_version(hu, labels, version=None):
    """Raise unless a mask has five lung lobes full of air, and a heart.

    Those are the numbers of TotalSegmentator 2; in version 1 the lobes are 13 to 17,
    and 10 to 12 are the pancreas and the adrenal glands.

    Args:
        hu, labels: (X, Y, Z) Hounsfield units and organ mask.
        version: 2 says that the numbers are known to be those; None looks at the CT.
    """
    if version not in (None, 1, 2):
        raise ValueError(
            f"expected version 1 or 2 of TotalSegmentator, or None, got {version!r}"
        )
    solid = [i for i in LOBES if not _is_air(hu, labels, i)]
    looks_like_v1 = solid and all(_is_air(hu, labels, i) for i in LOBES_V1)
    if version == 1 or (version is None and looks_like_v1):
        raise ValueError(
            "expected a mask with the numbers of TotalSegmentator 2 (lobes 10 to 14, "
            "heart 51), got those of TotalSegmentator 1 (lobes 13 to 17, pancreas 10). "
            "Try: renumber it, or segment with version 2"
        )
    organs = {**LOBES, HEART: "heart"}
    missing = [name for i, name in organs.items() if not (labels == i).any()]
    if missing:
        raise ValueError(
            "expected lung lobes and heart in the mask, got none of: "
            f"{', '.join(missing)}"
        )
    if version is None and solid:
        names = ", ".join(f"{i} ({LOBES[i]})" for i in solid)
        raise ValueError(
            "expected air in the lung lobes of a TotalSegmentator 2 mask, got none in "
            f"{names}: which version's numbers they are can't be told. Try version=2 "
            "if they are known to be those of version 2"
        )


def _is_air(hu, labels, number):
    """Whether most voxels of an organ hold air."""
    inside = hu[labels == number]
    return inside.size > 0 and float(np.median(inside)) < AIR_HU


def middle(mask, half):
    """[x, y, z] in mm of a mask's centre of mass."""
    voxel = 2 * half / mask.shape
    return ((np.array(ndimage.center_of_mass(mask)) + 0.5) * voxel - half).tolist()


def landmarks(labels, lobes, half, heart, ranges):
    """Where tubes, hila and the aorta lie, mm.

    A mask without an organ gets a place estimated from lungs and heart.

    Args:
        labels: (X, Y, Z) organ mask.
        lobes: (Z, Y, X) lobe labels on their own grid.
        half: half the extent along X, Y, Z, mm.
        heart: [x, y, z] of its middle.
        ranges: {side: (lowest, highest z of the lung)}.
    """
    top = min(highest for _, highest in ranges.values())
    heights = np.linspace(top - 90, top + 20, 8)
    guess = [[0.0, heart[1] - 20.0, z] for z in heights]
    trachea = _line(labels == TRACHEA, half) or guess
    x, y, _ = np.median(trachea, axis=0).tolist()
    # the lowest slices of the mask are a main bronchus
    carina = [x, y, float(trachea[0][2] + 15)]
    heights = np.linspace(carina[2] - 40, carina[2] + 30, 6)
    guess = [[-28.0, carina[1] + 15, z] for z in heights]
    marks = {f"{side} edge": _edge(lobes, half, side) for side in LUNGS}
    marks["heart"] = heart
    marks["trachea"] = [point for point in trachea if point[2] >= carina[2]]
    marks["carina"] = carina
    marks["cava"] = _line(labels == CAVA, half) or guess
    marks["knob"] = _knob(labels, half, carina)
    for side, sign in SIGN.items():
        hilum = [
            carina[0] + sign * 38,
            carina[1] + 5,
            carina[2] - 28,
        ]
        marks[f"{side} hilum"] = hilum
    return marks


def _line(mask, half):
    """Middles [x, y, z] of a tube's slices, about every 8 mm; [] if it is short."""
    voxel = 2 * half / mask.shape
    points = []
    for k in np.flatnonzero(mask.any((0, 1)))[:: max(1, int(8 / voxel[2]))]:
        row_column = np.argwhere(mask[:, :, k]).mean(0)
        x, y = (row_column + 0.5) * voxel[:2] - half[:2]
        z = (k + 0.5) * voxel[2] - half[2]
        points.append([float(x), float(y), float(z)])
    is_long = len(points) > 3 and points[-1][2] - points[0][2] >= LINE_MM
    return points if is_long else []


def _knob(labels, half, carina):
    """The leftmost point of the aortic arch, above the carina."""
    voxel = 2 * half / labels.shape
    aorta = (np.argwhere(labels == AORTA) + 0.5) * voxel - half
    arch = aorta[aorta[:, 2] > carina[2] + 5]
    if not len(arch):
        return [
            carina[0] + 35,
            carina[1] - 10,
            carina[2] + 15,
        ]
    return arch[arch[:, 0].argmax()].tolist()


def _edge(lobes, half, side):
    """The outermost points [x, y, z] of a lung, one about every 9 mm of height."""
    voxel = 2 * half / np.array(lobes.shape[::-1])
    points = []
    for k in range(0, len(lobes), 4):
        lung = np.argwhere(np.isin(lobes[k], LUNGS[side]))
        if len(lung) > 20:
            outward = lung[:, 1] * SIGN[side]
            y, x = lung[outward >= np.quantile(outward, 0.98)].mean(0)
            points.append(((np.array([x, y, k]) + 0.5) * voxel - half).tolist())
    return points
