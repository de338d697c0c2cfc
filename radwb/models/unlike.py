"""Warnings before a volume is fed to a 3-D network: what can be told without guessing.

They say what was measured and what it can mean. Nothing is decided by them.
"""

import warnings

import nibabel as nib
import numpy as np

from radwb.data.scan import Volume

ASKEW = 10  # degrees between the volume's axes and the patient's
COARSE = 2  # times the network's spacing
SEEN = 1 / 3  # of the input, by volume
LUNG_HU = (-950, -600)
LUNG = 0.03  # of the volume; the chest of LIDC-IDRI-0001 has 0.15
AIR = -200  # HU; a CT has something below
SLICES = 16  # that are looked at


def warn_if_unlike(net: object, volume: Volume, spans) -> None:
    """Warn of a volume that lies askew, is coarse, small, without air or lungs.

    Args:
        net: a `Net3d`.
        spans: of `Net3d.spans`; None = only askew is looked for.
    """
    found = []
    if net.axes is not None:
        found += _askew(volume)
    if spans is not None:
        found += _coarse(net, volume) + _small(net, volume, spans)
        if net.window_hu is not None:
            found += _without_air(net, volume.voxels)
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
    # its slices are the coarsest, and so are the network's
    step = max(volume.spacing_mm)
    own = max(net.spacing_mm)
    if step <= COARSE * own:
        return []
    return [
        f"the slices lie {step:.3g} mm apart, those that it learned from {own:.3g} mm: "
        f"each is seen {step / own:.1f} times"
    ]


def _small(net, volume, spans):
    shares = []
    for n, (start, end) in zip(volume.shape, spans, strict=True):
        shares.append((min(n, end) - max(0, start)) / (end - start))
    seen = np.prod(shares)
    if seen >= SEEN:
        return []
    sides = zip(net.size, net.spacing_mm, strict=True)
    reach = " x ".join(f"{n * step:.0f}" for n, step in sides)
    return [
        f"the volume fills {seen:.0%} of the {reach} mm that it sees, the rest is air "
        "(a head, or a part of a body?)"
    ]


def _without_air(net, voxels):
    """Told from some of the slices."""
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
