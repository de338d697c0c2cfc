"""What X-rays do: attenuation by material and energy, scatter, noise and blur."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

KEV = (40, 60, 80, 100)
# cm2/g at KEV; NIST mass attenuation coefficients (Hubbell and Seltzer 1995), ICRU-44
# tissues
MASS_ATTENUATION = {
    "water": (0.2683, 0.2059, 0.1837, 0.1707),
    "fat": (0.2396, 0.1974, 0.1800, 0.1688),
    "soft": (0.2688, 0.2048, 0.1823, 0.1693),
    "bone": (0.6655, 0.3148, 0.2229, 0.1855),
    "metal": (3.629, 1.205, 0.5952, 0.3717),  # iron
}
BASIS = ("water", "bone", "metal")  # what lies along a ray is written in these
DENSITY = {"water": 1.0, "fat": 0.95, "soft": 1.06, "bone": 1.92}  # g/cm3
# g of soft tissue that give way to 1 g of bone
BESIDE_BONE = DENSITY["soft"] / DENSITY["bone"]
CT_KEV = 70  # effective energy at which a CT's Hounsfield units are read
# share of the photons in bins about KEV: tungsten, 12 degrees, by SpekPy 2
# (Poludniowski et al. 2021)
BEAMS = {
    "120 kVp": (0.326, 0.412, 0.169, 0.093),  # 3 mm Al and 0.1 mm Cu: a wall stand
    "90 kVp": (0.596, 0.320, 0.084, 0.0),  # 3 mm Al: a mobile unit
}
BEAM_OF = {"PA": "120 kVp", "LATERAL": "120 kVp", "AP": "90 kVp"}


@dataclass(frozen=True, eq=False)
class Paths:
    """What lies along each ray, g/cm2: (H, W) tensors of water, bone and metal.

    Water and bone are a basis: all other tissue is written in them
    (`in_water_and_bone`).
    """

    soft: torch.Tensor
    bone: torch.Tensor
    metal: torch.Tensor

    def stack(self):
        """(3, H, W), in the order of the attributes."""
        return torch.stack((self.soft, self.bone, self.metal))


def attenuation(material: str, kev: float) -> float:
    """Mass attenuation in cm2/g at one energy, log-log between the table's entries.

    >>> attenuation("water", 60)
    0.2059

    Raises:
        ValueError: no such material, or an energy outside the table.
    """
    if material not in MASS_ATTENUATION or not KEV[0] <= kev <= KEV[-1]:
        raise ValueError(
            f"expected a material of {', '.join(MASS_ATTENUATION)} and {KEV[0]} to "
            f"{KEV[-1]} keV, got {material!r} at {kev} keV"
        )
    table = np.log(MASS_ATTENUATION[material])
    return float(np.exp(np.interp(np.log(kev), np.log(KEV), table)))


def in_water_and_bone(material):
    """(water, bone) in g that attenuate like 1 g of a material, at all of KEV.

    Two effects, photoelectric and Compton, make the attenuation of tissue, so that two
    materials span all others (Alvarez and Macovski 1976, doi
    10.1088/0031-9155/21/5/002); fat is water and a little less than no bone.

    >>> [round(share, 2) for share in in_water_and_bone("fat")]
    [1.06, -0.07]
    """
    basis = np.array([MASS_ATTENUATION["water"], MASS_ATTENUATION["bone"]]).T  # (E, 2)
    shares = np.linalg.lstsq(
        basis,
        np.array(MASS_ATTENUATION[material]),
        rcond=None,
    )
    return tuple(shares[0].tolist())


def materials(hu, bones):
    """Split Hounsfield units into water and bone that attenuate alike at `CT_KEV`.

    Args:
        hu: array of Hounsfield units.
        bones: bool array, True where bone may be: there, what exceeds soft tissue is
            cortical bone.
    Returns:
        water, bone in g/cm3, arrays like `hu`.
    """
    bone_weight = attenuation("bone", CT_KEV) / attenuation("water", CT_KEV)
    a, b = in_water_and_bone("fat")
    relative = np.maximum(hu / 1000 + 1, 0).astype(np.float32)
    is_fat = (hu > -150) & (hu < -20) & ~bones
    fat = relative / (a + b * bone_weight)  # g/cm3
    excess = relative - DENSITY["soft"]
    share = excess / (DENSITY["bone"] * bone_weight - DENSITY["soft"])
    share = np.where(bones, np.clip(share, 0, 1.3), 0)  # of the voxel's volume
    beside_bone = DENSITY["soft"] * np.clip(1 - share, 0, 1)
    water = np.where(is_fat, a * fat, relative)
    water = np.where(share > 0, beside_bone, water)
    bone = np.where(is_fat, b * fat, DENSITY["bone"] * share)
    return water.astype(np.float32), bone.astype(np.float32)


def line_integral(paths: Paths, kev: float = 60):
    """(H, W) attenuation along each ray at one energy (Beer-Lambert).

    It is minus the logarithm of the transmitted share.
    """
    weights = [attenuation(material, kev) for material in BASIS]
    return sum(w * path for w, path in zip(weights, paths.stack(), strict=True))


def transmit(paths: Paths, beam: str):
    """(H, W) share of the beam's energy that reaches the detector.

    It is Beer-Lambert's law at each energy of the spectrum.
    """
    weights = np.array(BEAMS[beam]) * KEV
    mu = np.array([MASS_ATTENUATION[m] for m in BASIS], np.float32)  # (3, E)
    paths = paths.stack()
    total = 0
    for k, weight in enumerate(weights / weights.sum()):
        if weight:
            at_energy = torch.from_numpy(mu[:, k].copy())
            transmitted = torch.exp(-torch.tensordot(at_energy, paths, 1))
            total = total + float(weight) * transmitted
    return total


def blur(image, sigma):
    """Gaussian blur of (H, W), borders repeated.

    A wide one works on a coarser grid, where it costs a tenth.
    """
    factor = max(1, int(sigma / 3))
    how = dict(mode="nearest", truncate=3)
    if factor == 1:
        return ndimage.gaussian_filter(image, sigma, **how)
    fine = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    coarse = F.avg_pool2d(fine, factor, ceil_mode=True, count_include_pad=False)
    blurred = ndimage.gaussian_filter(
        coarse[0, 0].numpy(),
        sigma / factor,
        **how,
    )
    wide = F.interpolate(
        torch.from_numpy(blurred)[None, None],
        scale_factor=factor,
        mode="bilinear",
        align_corners=False,
    )
    rows, columns = image.shape
    return wide[0, 0, :rows, :columns].numpy()


def expose(primary, *, photons, scatter, unsharp_px, rng):
    """What the detector stores: -log(signal / open field), (H, W).

    Args:
        primary: (H, W) transmitted share.
        photons: mean count in a pixel without a patient.
        scatter: scattered over primary signal behind the grid, spread over a tenth of
            the field.
        unsharp_px: sigma of focal spot and detector, pixels; it blurs the photons, not
            their noise.
        rng: numpy Generator.
    """
    scattered = scatter * blur(primary, primary.shape[0] / 10)
    mean = photons * np.maximum(blur(primary, unsharp_px) + scattered, 0)
    noise = rng.standard_normal(mean.shape, dtype=np.float32)
    counts = mean + np.sqrt(mean) * noise  # Poisson's, where it is normal
    return -np.log(np.maximum(counts, 1) / photons)
