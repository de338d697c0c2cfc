"""Warnings before a volume is fed to a 3-D network: what can be told without guessing.

They say what was measured and what it can mean. Nothing is decided by them.
"""

import warnings

import nibabel as nib
import numpy as np

from radwb.data.scan import Volume

ASKEW = 10  # degrees between the volume's axes and the patient's
COARSE = 2  # planes of the input that one slice fills
SEEN = 0.33  # of the input, by volume
LUNG_HU = (-950, -600)
LUNG = 0.03  # of the volume; the chest of LIDC-IDRI-0001 has 0.15
AIR = -200  # HU; a CT has something below
SLICES = 16  # that are looked at


def warn_if_unlike(net: object, volume: Volume, spans) -> None:
    """Warn of a volume that lies askew, or is coarse, small, without air or lungs.

    Args:
        net: a `Net3d`; one of your own, without a spacing, gets any volume but an askew
            one unwarned.
        spans: of `Net3d.spans`.
    """
    found = []
    if net.axes is not None:
        found += _askew(volume)
    if spans is not None:
        found += _small(net, volume, spans)
    if spans is not None or net.lungs:
        found += _coarse(net, volume) + _without_air(net, volume.voxels)
    if found:
        warnings.warn(f"{net.name}: " + "; ".join(found), stacklevel=3)


def _askew(volume):
    degrees = np.degrees(nib.affines.obliquity(volume.affine)).max()
    if degrees < ASKEW:
        return []
    return [
        f"the volume lies askew by {degrees:.0f} degrees (a tilted gantry?) and is fed "
        "so, turned to the nearest axes only"
    ]


def _coarse(net, volume):
    # slices are the coarsest axis, of a volume as of an input
    n = min(volume.shape)
    if net.spacing_mm is None:
        times = min(net.size) / n
    else:
        times = max(volume.spacing_mm) / max(net.spacing_mm)
    if times <= COARSE:
        return []
    return [f"its slices are coarse: each of the {n} fills {times:.1f} of the input's"]


def _small(net, volume, spans):
    start, end = np.transpose(spans)
    inside = np.minimum(volume.shape, end) - np.maximum(0, start)
    seen = np.prod(inside / (end - start))
    if seen >= SEEN:
        return []
    reach = " x ".join(f"{mm:.0f}" for mm in np.multiply(net.size, net.spacing_mm))
    return [
        f"the volume fills {seen:.0%} of the {reach} mm that it sees, the rest is air "
        "(a head, or a part of a body?)"
    ]


def _without_air(net, voxels):
    """Told from some of the slices."""
    if net.window_hu is None:
        return []
    slices = np.asarray(voxels[:: max(1, len(voxels) // SLICES)])
    if slices.min() > AIR:
        return [f"nothing in it is below {AIR} HU: are its values Hounsfield units?"]
    lung = ((slices > LUNG_HU[0]) & (slices < LUNG_HU[1])).mean()
    if not net.lungs or lung >= LUNG:
        return []
    return [
        f"{lung:.1%} of it has the density of lung, and it learned from chests (is "
        "this one? a head has next to none)"
    ]
