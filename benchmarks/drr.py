"""The projector against DiffDRR (Gopalakrishnan & Golland 2022), which traces rays
exactly (Siddon 1985).

python benchmarks/drr.py            a development reference, not a dependency: put
DiffDRR on PYTHONPATH to run it

Both get the same voxels (attenuation at 60 keV of the default anatomy's slabs), source
and detector pixels. What may differ: ours looks each slab up where a ray crosses its
middle and interpolates between pixels; Siddon takes each voxel as a box of one
attenuation. Rays that leave the CT, where ours goes on in its mirror image, are left
out.
"""

import sys

import numpy as np
import torch
from torch.nn import functional as F

from radwb.simulate import default_anatomy
from radwb.simulate.anatomy import BONE, FIELD_MM, SOFT
from radwb.simulate.body import Body
from radwb.simulate.physics import attenuation, line_integral
from radwb.simulate.project import BEAM_Z_MM, GAP_MM, SOURCE_MM, sample

SIZE = 160
IN_BODY = 0.5  # line integral: 2.4 cm of water


def siddon(anatomy, view: str, size: int) -> np.ndarray:
    """DiffDRR's line integrals of the anatomy's attenuation, (size, size), at the pose
    of `sample`.
    """
    from diffdrr.drr import DRR
    from diffdrr.pose import RigidTransform
    from torchio import ScalarImage, Subject

    channels = {"water": SOFT, "bone": BONE}
    mu = sum(
        attenuation(name, 60) / 10 * anatomy.slabs[:, k] for name, k in channels.items()
    )  # (Y, Z, X) a mm
    mu = mu.permute(2, 0, 1).contiguous()[None]  # (1, X, Y, Z)
    voxel_mm = 2 * anatomy.half_mm / np.array(mu.shape[1:])
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = (
        voxel_mm / 2 - anatomy.half_mm
    )  # where the first voxel's centre lies
    image = ScalarImage(tensor=mu, affine=affine)
    subject = Subject(
        volume=image,
        density=image,
        mask=None,
        reorient=torch.eye(4),
        orientation=None,
        fiducials=None,
    )
    sign = 1 if view == "PA" else -1
    middle = (
        SOURCE_MM[view] - GAP_MM[view] - float(anatomy.half_mm[1])
    )  # from the source to the patient's middle
    pixel_mm = FIELD_MM / size * SOURCE_MM[view] / middle  # at the detector
    drr = DRR(
        subject,
        sdd=SOURCE_MM[view],
        height=size,
        delx=pixel_mm,
        reverse_x_axis=False,
        patch_size=size // 4,
    )
    # camera to patient: columns across (to the left), rows up, beam along Y; the source
    # stands behind or before
    pose = [
        [1, 0, 0, 0],
        [0, 0, sign, -sign * middle],
        [0, 1, 0, BEAM_Z_MM],
        [0, 0, 0, 1],
    ]
    with torch.no_grad():
        return drr(RigidTransform(torch.tensor(pose, dtype=torch.float32)))[
            0, 0
        ].numpy()


def compare(anatomy, view: str, size: int = SIZE) -> dict:
    """Pearson correlation and relative error of our line integrals, over the rays
    through the body.
    """
    rays = sample(anatomy, Body(), view, size)
    ours, theirs = line_integral(rays.paths, 60).numpy(), siddon(anatomy, view, size)
    furthest = (
        rays.coarse[:, :2].abs().amax((0, 1))[None, None]
    )  # across or up, in any slab
    inside = (
        F.interpolate(furthest, size=(size, size), mode="bilinear", align_corners=True)[
            0, 0
        ].numpy()
        <= 1
    )
    body = inside & (theirs > IN_BODY)
    error = ours[body] / theirs[body] - 1
    return {
        "view": view,
        "rays": int(body.sum()),
        "pearson": float(np.corrcoef(ours[body], theirs[body])[0, 1]),
        "bias": float(error.mean()),
        "median": float(np.median(abs(error))),
        "p95": float(np.quantile(abs(error), 0.95)),
    }


def main() -> None:
    try:
        import diffdrr.drr  # noqa: F401
    except ImportError as missing:
        sys.exit(
            f"expected DiffDRR on the Python path, got {missing}. "
            "Try pip install --target FOLDER --no-deps diffdrr torchio fastcore roma "
            "and PYTHONPATH=FOLDER."
        )
    anatomy = default_anatomy(FIELD_MM / SIZE)
    for view in ("PA", "AP"):
        print(
            "{view}: {rays} rays through the body, Pearson r {pearson:.5f}, "
            "mean error {bias:+.2%}, absolute error "
            "median {median:.2%}, 95 % below {p95:.2%}".format(**compare(anatomy, view))
        )


if __name__ == "__main__":
    main()
