"""The CT's own tumour leaves the virtual patients, and no hole behind."""

import numpy as np
import pytest
from scipy import ndimage

import radwb as rw
from radwb.simulate import physics, repair
from radwb.simulate.anatomy import FIELD_MM
from radwb.simulate.body import Body
from radwb.simulate.organs import BONES
from radwb.simulate.plant import _contrast
from radwb.simulate.project import sample

VOXEL_MM = (0.703125, 0.703125, 2.5)


@pytest.fixture(scope="module")
def scanned():
    import nibabel as nib

    folder = rw.data.fetch("lidc-ct")
    hu = np.asarray(nib.load(folder / "cxr.nii.gz").dataobj, dtype=np.float32)
    labels = np.asarray(nib.load(folder / "mask.nii.gz").dataobj).astype(np.int16)
    return hu, labels


@pytest.fixture(scope="module")
def healed(scanned):
    return repair.healthy(*scanned, VOXEL_MM)


def near(lesion, radius_mm, shape, voxel_mm=VOXEL_MM):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    centre = np.array(lesion.centre) * np.array(VOXEL_MM) / np.array(voxel_mm)
    squares = [
        ((a - c) * v) ** 2 for a, c, v in zip(axes, centre, voxel_mm, strict=True)
    ]
    return np.sqrt(sum(squares)) < radius_mm


@pytest.fixture(scope="module")
def responses(scanned, healed):
    """How much each place looks like a ball, before and after, on the slices of both
    lesions: z from 40 to 110.
    """
    lungs = np.isin(scanned[1], repair.LUNGS)[..., 40:110]
    return [
        repair.blob_response(hu[..., 40:110], lungs, VOXEL_MM, grid_mm=2.0)
        for hu in (scanned[0], healed[0])
    ]


@pytest.mark.parametrize(("lesion", "reach_mm"), [(repair.MASS, 14), (repair.BAND, 10)])
def test_no_ball_is_left_where_the_lesion_was(responses, lesion, reach_mm):
    x, y, z = lesion.centre
    lesion = lesion._replace(centre=(x, y, z - 40))
    shares = []
    for response in responses:
        voxel_mm = np.array(VOXEL_MM) * (512, 512, 70) / response.shape
        usual = np.nanpercentile(
            response[~near(lesion, 35, response.shape, voxel_mm)], 99
        )
        shares.append(
            np.nanmax(response[near(lesion, reach_mm, response.shape, voxel_mm)])
            / usual
        )
    before, after = shares
    assert before > 2
    assert after < 1


def values_within(hu, lungs, centre, radius_mm):
    """Hounsfield units of the lung in a ball around a voxel."""
    reach = [int(radius_mm / side) + 1 for side in VOXEL_MM]
    box = tuple(slice(c - r, c + r + 1) for c, r in zip(centre, reach, strict=True))
    offsets = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    squares = sum((o * side) ** 2 for o, side in zip(offsets, VOXEL_MM, strict=True))
    return hu[box][(squares < radius_mm**2) & lungs[box]]


def test_the_place_has_a_lungs_texture_not_a_hole(scanned, healed):
    lungs = np.isin(scanned[1], repair.LUNGS)
    depth = ndimage.distance_transform_edt(lungs[::4, ::4], sampling=(2.8, 2.8, 2.5))
    as_deep = np.argwhere((depth > 10) & (depth < 16)) * (4, 4, 1)
    rng = np.random.default_rng(0)
    others = [
        values_within(scanned[0], lungs, centre, 12)
        for centre in rng.choice(as_deep, 60, replace=False)
    ]
    values = values_within(healed[0], lungs, repair.MASS.centre, 12)
    for measure in (np.std, lambda v: (v > -700).mean(), np.mean):
        usual = [measure(other) for other in others]
        assert np.quantile(usual, 0.03) < measure(values) < np.quantile(usual, 0.97)


def test_nothing_else_of_the_ct_changes(scanned, healed):
    changed = scanned[0] != healed[0]
    allowed = np.zeros_like(changed)
    for lesion in (repair.MASS, repair.BAND):
        allowed |= near(lesion, lesion.radius_mm + repair.FEATHER_MM, changed.shape)
    assert changed.any()
    assert not (changed & ~allowed).any()


def test_contrast_is_no_bone_and_bones_stay(scanned, healed):
    bones_before = np.isin(scanned[1], BONES)
    bones_after = np.isin(healed[1], BONES)
    assert scanned[0][bones_before].max() > 3000
    assert (
        healed[0][bones_after] > repair.BOLUS_HU
    ).sum() < 20  # single voxels of noise
    assert (bones_before & ~bones_after).sum() < 0.01 * bones_before.sum()
    assert not (bones_after & ~bones_before).any()


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_films_lose_the_tumour_only_where_it_was(view):
    spacing = FIELD_MM / 160
    scanned, healed = (
        physics.line_integral(
            sample(
                rw.simulate.default_anatomy(spacing, as_scanned=as_scanned),
                Body(),
                view,
                160,
            ).paths
        )
        for as_scanned in (True, False)
    )
    change = scanned - healed
    left_lung = change[
        50:90, 85:120
    ]  # rows above the diaphragm, columns right of the film's middle
    mask = change > 0.15 * left_lung.max()
    mask[:50] = False
    mask[90:] = False
    mask[:, :85] = False
    mask[:, 120:] = False
    assert (
        _contrast(change, mask, healed) > 0.35
    )  # it stood out as a planted lesion does
    assert (change.abs() > 0.1).float().mean() < 0.03


def test_a_ball_in_noise_becomes_noise_with_its_own_density():
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 30, (80, 60, 60)).astype(np.float32)
    hu[40:] += 50  # the lesion's side is denser throughout
    lungs = np.ones(hu.shape, bool)
    lesion = repair.Lesion((60, 30, 30), 8.0, (0, 0, 0), mirror_x=79)
    axes = np.ogrid[:80, :60, :60]
    ball = sum((a - c) ** 2 for a, c in zip(axes, lesion.centre, strict=True)) < 7**2
    hu[ball] = 40
    clean = repair.transplant(hu, lungs, (1.0, 1.0, 1.0), lesion)
    assert clean[ball].mean() == pytest.approx(-800, abs=6)
    assert clean[ball].std() == pytest.approx(30, rel=0.15)


def test_a_donor_outside_the_lungs_is_refused():
    hu = np.full((80, 60, 60), -850.0, np.float32)
    lungs = np.zeros(hu.shape, bool)
    lungs[40:] = True
    lesion = repair.Lesion((60, 30, 30), 8.0, (0, 0, 0), mirror_x=79)
    with pytest.raises(ValueError, match="expected lung at the donor"):
        repair.transplant(hu, lungs, (1.0, 1.0, 1.0), lesion)


def test_the_readme_of_the_data_has_the_table_of_the_ct():
    from pathlib import Path

    readme = (Path(__file__).parent.parent / "data" / "README.md").read_text()
    for row in rw.simulate.ct_findings().to_numpy():
        assert "| " + " | ".join(row) + " |" in readme
