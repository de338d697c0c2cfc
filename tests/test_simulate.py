"""The simulator against hand-computed slabs and spheres.

Planted truth, and its own words.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

import radwb as rw
from radwb.simulate import PLANTED, Dials, Finding, draw, physics
from radwb.simulate.anatomy import BONE, DEPTH, FIELD_MM, SOFT, Anatomy
from radwb.simulate.body import Body
from radwb.simulate.cohort import Settings, _simulate
from radwb.simulate.devices import stroke, to_film
from radwb.simulate.findings import DEVICES, shaped
from radwb.simulate.mechanisms import Lungs, in_order
from radwb.simulate.organs import BONES, HEART, LOBES
from radwb.simulate.patient import PREVALENCE, draw_lasting, draw_patient, draw_study
from radwb.simulate.plant import plant
from radwb.simulate.project import BEAM_Z_MM, SOURCE_MM, sample
from radwb.simulate.ratios import anatomy_ratios

SIZE = 64
GRID = (100, 60, 100)  # of a phantom: slabs of 2 mm


@pytest.fixture(scope="module")
def anatomy():
    return rw.simulate.default_anatomy(FIELD_MM / SIZE)


@pytest.fixture(scope="module")
def table():
    return rw.simulate.cohort(n=60, seed=3, size=SIZE)


@pytest.fixture(scope="module")
def own_ct():
    """A second volume with its mask: a chest of ellipsoids, 3 mm voxels, known to the
    millimetre.
    """
    x, y, z = np.meshgrid(
        *((np.arange(n) + 0.5 - n / 2) * 3.0 for n in (110, 76, 100)), indexing="ij"
    )
    hu = np.full(x.shape, -1000.0)
    labels = np.zeros(x.shape, int)
    hu[(x / 150) ** 2 + (y / 100) ** 2 < 1] = 40
    for sign, lobes in (
        (-1, (14, 13, 12)),
        (1, (11, 10)),
    ):  # the patient's right is at negative x
        lung = ((x - sign * 72) / 52) ** 2 + (y / 78) ** 2 + (z / 120) ** 2 < 1
        hu[lung] = -800
        for k, lobe in enumerate(lobes):
            labels[lung & (z > -120 + 240 * k / len(lobes))] = lobe
    heart = ((x - 15) / 45) ** 2 + ((y - 25) / 45) ** 2 + ((z + 30) / 50) ** 2 < 1
    hu[heart] = 40
    labels[heart] = HEART
    spine = (np.hypot(x, y + 70) < 16) & (hu > -500)
    hu[spine] = 400
    labels[spine] = 30
    return hu, labels, (3.0, 3.0, 3.0)


def phantom(hu, bones=False, half_mm=(200.0, 120.0, 200.0)):
    """An `Anatomy` of one density map (Y, Z, X); no lungs, no heart."""
    parts = physics.materials(np.asarray(hu, np.float32), np.full(np.shape(hu), bones))
    slabs = torch.stack(
        [*map(torch.from_numpy, parts), *torch.zeros(2, *np.shape(hu))], 1
    )
    marks = {
        "heart": [0.0, 0.0, 0.0],
        "carina": [0.0, 0.0, 0.0],
        "knob": [0.0, 0.0, 0.0],
    }
    ranges = {"right": (-100.0, 100.0), "left": (-100.0, 100.0)}
    return Anatomy(
        slabs, 1, np.array(half_mm), np.zeros((4, 4, 4), np.int16), marks, ranges
    )


def grid(shape=(60, 200, 200)):
    """Voxel centres (y, z, x) in mm of a phantom: slabs of 4 mm, 2 mm across."""
    return np.meshgrid(
        *(
            (np.arange(n) + 0.5 - n / 2) * s
            for n, s in zip(shape, (4.0, 2.0, 2.0), strict=True)
        ),
        indexing="ij",
    )


def slant(size=SIZE, view="PA"):
    """Path per unit of depth of each ray."""
    pixel = FIELD_MM / size * (np.arange(size) + 0.5 - size / 2)
    middle = SOURCE_MM[view] - 40 - 120
    return np.sqrt(1 + (pixel[:, None] ** 2 + pixel[None] ** 2) / middle**2)


INSIDE = (slice(14, 50), slice(14, 50))  # rays that stay within the phantom


# physics


def line_integral(rays, kev=60):
    return physics.line_integral(rays.paths, kev)


def test_water_slab_attenuates_by_beer_lambert_along_the_slant():
    y, _, _ = grid()
    got = line_integral(
        sample(phantom(np.where(np.abs(y) < 48, 0.0, -1000.0)), Body(), "PA", SIZE)
    ).numpy()
    np.testing.assert_allclose(
        got[INSIDE], (0.2059 * 9.6 * slant())[INSIDE], rtol=0.005
    )  # 9.6 cm, NIST at 60 keV


def test_bone_slab_attenuates_as_its_hounsfield_units_say_at_the_energy_of_the_ct():
    y, _, _ = grid()
    bone = phantom(np.where(np.abs(y) < 48, 1000.0, -1000.0), bones=True)
    rays = sample(bone, Body(), "PA", SIZE)
    water70 = physics.attenuation("water", 70)
    got = line_integral(rays, 70).numpy()
    np.testing.assert_allclose(
        got[INSIDE], (2 * water70 * 9.6 * slant())[INSIDE], rtol=0.005
    )
    # at 40 keV calcium weighs more than water does: soft tissue and cortical bone in
    # the shares that 70 keV fixes
    weight = physics.attenuation("bone", 70) / water70
    share = (2 - 1.06) / (1.92 * weight - 1.06)
    by_hand = 9.6 * (1.06 * (1 - share) * 0.2683 + 1.92 * share * 0.6655)
    assert float(line_integral(rays, 40)[32, 32]) == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize("kev", [40, 60, 100])
def test_sphere_casts_its_chord(kev):
    y, z, x = grid()
    r = np.sqrt((z - BEAM_Z_MM) ** 2 + y**2 + x**2)
    ball = phantom(-1000 + 1000 * np.clip((40 - r) / 4 + 0.5, 0, 1))
    got = line_integral(sample(ball, Body(), "PA", 160), kev).numpy()
    offset = FIELD_MM / 160 * (np.arange(160) + 0.5 - 80)
    chord = 0.2 * np.sqrt(
        np.clip(40**2 - offset[None] ** 2 - offset[:, None] ** 2, 0, None)
    )  # cm
    mu = {40: 0.2683, 60: 0.2059, 100: 0.1707}[kev]
    assert got.sum() == pytest.approx(mu * chord.sum(), rel=0.01)
    np.testing.assert_allclose(got[78:82, 78:82], mu * chord[78:82, 78:82], rtol=0.01)


def test_hounsfield_units_survive_the_split_into_materials():
    hu = np.array(
        [-1000, -850, -700, -300, -140, -100, -50, 0, 40, 60, 300, 800, 1500],
        np.float32,
    )
    for bones in (False, True):
        parts = physics.materials(hu, np.full(hu.shape, bones))
        back = sum(
            physics.attenuation(m, 70) * p
            for m, p in zip(("water", "bone"), parts, strict=True)
        )
        np.testing.assert_allclose(
            1000 * (back / physics.attenuation("water", 70) - 1), hu, atol=1.0
        )
    fat = physics.materials(np.array([-100.0]), np.array([False]))
    for kev, mu in zip(
        physics.KEV, physics.MASS_ATTENUATION["fat"], strict=True
    ):  # 0.93 g/cm3 of it at any energy
        got = sum(
            physics.attenuation(m, kev) * float(p[0])
            for m, p in zip(("water", "bone"), fat, strict=True)
        )
        assert got / mu == pytest.approx(0.93, abs=0.01)
    assert physics.materials(np.array([800.0]), np.array([True]))[1] > 0.5  # bone


def test_the_beam_is_the_sum_over_its_energies_and_hardens():
    def paths(**cm):
        return physics.Paths(
            *(
                torch.full((1, 1), float(cm.get(k, 0)))
                for k in ("soft", "bone", "metal")
            )
        )

    weights = np.array([0.596, 0.320, 0.084]) * (40, 60, 80)
    by_hand = (
        weights * np.exp(-np.array([0.2683, 0.2059, 0.1837]) * 15)
    ).sum() / weights.sum()
    assert float(physics.transmit(paths(soft=15.0), "90 kVp")) == pytest.approx(
        by_hand, rel=1e-4
    )
    per_cm = [
        -np.log(float(physics.transmit(paths(soft=t), "120 kVp"))) / t
        for t in (1.0, 10.0, 30.0)
    ]
    assert per_cm[0] > per_cm[1] > per_cm[2]
    bone = {
        b: -np.log(float(physics.transmit(paths(bone=2.0), b))) for b in physics.BEAMS
    }
    assert bone["90 kVp"] > 1.1 * bone["120 kVp"]  # why a portable film shows the ribs


def test_noise_is_that_of_counted_photons_and_scatter_fills_shadows():
    rng = np.random.default_rng(0)
    flat = np.full((200, 200), 0.04, np.float32)
    signal = physics.expose(flat, photons=50_000, scatter=0.0, unsharp_px=0, rng=rng)
    assert signal.mean() == pytest.approx(-np.log(0.04), abs=1e-3)
    assert signal.std() == pytest.approx(1 / np.sqrt(2000), rel=0.03)
    half = (
        np.where(np.arange(200) < 100, 1.0, 0.01)[None]
        .repeat(200, 0)
        .astype(np.float32)
    )
    clean, foggy = (
        physics.expose(half, photons=1e9, scatter=s, unsharp_px=0, rng=rng)
        for s in (0.0, 0.5)
    )
    assert foggy[100, 110] - foggy[100, 50] < clean[100, 110] - clean[100, 50] - 1


@pytest.mark.parametrize("sigma", [2.0, 7.0, 16.0])
def test_the_fast_blur_is_the_slow_one(sigma):
    image = np.random.default_rng(0).random((160, 160)).astype(np.float32).cumsum(0)
    slow = ndimage.gaussian_filter(image, sigma, mode="nearest")
    assert np.abs(physics.blur(image, sigma) - slow)[
        20:-20, 20:-20
    ].max() < 0.01 * np.ptp(slow)


def test_what_lies_nearer_to_the_source_is_magnified_more(anatomy):
    y, z, x = grid()
    front = phantom(
        np.where(
            (np.abs(y - 88) < 10) & (np.abs(x) < 60) & (np.abs(z - BEAM_Z_MM) < 30),
            0.0,
            -1000.0,
        )
    )
    width = {
        v: int((line_integral(sample(front, Body(), v, 160))[80] > 0.1).sum())
        for v in ("PA", "AP")
    }
    pixel = FIELD_MM / 160
    # source to the middle plane: 1830 - 40 - 120 and 1150 - 60 - 120 mm; the block lies
    # 88 mm before or behind it
    assert width["PA"] == pytest.approx(120 / pixel * 1670 / 1758, abs=2)
    assert width["AP"] == pytest.approx(120 / pixel * 970 / 882, abs=2)


def test_an_anatomy_cut_for_one_view_is_refused_for_another(anatomy):
    with pytest.raises(ValueError, match="axis=0"):
        sample(anatomy, Body(), "LATERAL", SIZE)
    with pytest.raises(ValueError, match="expected a view"):
        rw.simulate.render(view="OBLIQUE", size=SIZE)


# anatomy


def bodies(n, seed=0):
    return [
        draw_patient(np.random.default_rng([seed, k]), Dials()).body for k in range(n)
    ]


def test_points_of_the_ct_are_found_where_they_are_projected():
    """A small dense ball at a known place of the CT appears where `to_film` says,
    however the patient is bent.
    """
    y, z, x = grid()
    for body in bodies(6):
        body = Body(**{**vars(body), "breast_mm": 0.0, "fat_mm": 0.0})
        for at in ((-70.0, 40.0, 90.0), (50.0, -60.0, -40.0)):
            ball = np.exp(
                -((x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2) / (2 * 8**2)
            )
            rays = sample(phantom(-1000 + 1000 * ball), body, "PA", 160)
            seen = ndimage.center_of_mass(line_integral(rays).numpy())
            np.testing.assert_allclose(to_film(rays, [at])[0], seen, atol=0.8)


def bottom_rows(rays):
    """Lowest rows of the thick of both lungs, right and left."""
    thick = rays.lung_mm > 60
    middle = rays.lung_mm.shape[1] // 2
    return [
        int(np.flatnonzero(half.any(1).numpy()).max())
        for half in (thick[:, :middle], thick[:, middle:])
    ]


def test_each_half_of_the_diaphragm_moves_by_itself(anatomy):
    still, right = (
        bottom_rows(sample(anatomy, Body(inspiration_mm=i), "PA", SIZE))
        for i in ((0, 0), (30.0, 0))
    )
    assert right[0] >= still[0] + 3  # 30 mm are 5.6 rows
    assert abs(right[1] - still[1]) <= 1


def test_an_enlarged_heart_widens_the_cardiothoracic_ratio_and_a_shift_moves_it(
    anatomy,
):
    def heart(**how):
        rays = sample(anatomy, Body(**how), "PA", SIZE)
        ratio = anatomy_ratios(rays.organs["Lungs"], rays.organs["Heart"])[
            "cardiothoracic_ratio"
        ]
        return ratio, ndimage.center_of_mass(rays.organs["Heart"])[1]

    normal, middle = heart()
    large, _ = heart(heart=1.5)
    _, left = heart(shift_mm=15.0)
    assert large > 1.15 * normal
    assert left - middle == pytest.approx(15 / (FIELD_MM / SIZE), rel=0.4)


def test_the_hearts_outline_is_that_of_every_ray(anatomy):
    """The outline comes from one ray in four; the densities of a heart alone, by every
    ray, have the same middle.
    """
    y, z, x = grid()
    heart = ((x - 20) / 50) ** 2 + ((y - 10) / 45) ** 2 + ((z - 10) / 50) ** 2 < 1
    ball = phantom(np.where(heart, 0.0, -1000.0))
    ball.slabs[:, 3] = torch.from_numpy(heart.astype(np.float32))
    rays = sample(ball, Body(), "PA", 160)
    exact = (rays.paths.soft > 2.5).numpy()  # 25 mm of water
    np.testing.assert_allclose(
        ndimage.center_of_mass(rays.heart.numpy()),
        ndimage.center_of_mass(exact),
        atol=0.35,
    )
    assert rays.heart.sum() == pytest.approx(exact.sum(), rel=0.03)


def test_a_body_that_folds_is_refused(anatomy):
    with pytest.raises(ValueError, match="folds"):
        sample(anatomy, Body(yaw_deg=100.0), "PA", SIZE)


def test_age_and_sex_show_in_the_film(anatomy):
    plain = sample(anatomy, Body(), "PA", SIZE)
    old, woman = (
        sample(anatomy, Body(**how), "PA", SIZE)
        for how in (dict(bone=0.7), dict(breast_mm=60.0))
    )
    lost = (plain.paths.bone - old.paths.bone).numpy()
    assert lost.min() >= 0
    spine = plain.paths.bone.numpy() > 2
    fat = plain.paths.bone.numpy() < 0
    np.testing.assert_allclose(
        lost[spine], 0.3 * plain.paths.bone.numpy()[spine], rtol=0.3
    )
    assert fat.sum() > 50  # counts as less than no bone, and doesn't age
    assert np.median(lost[fat]) < 0.05  # some of these rays cross a rib, too
    more = (woman.paths.soft - plain.paths.soft).numpy()
    assert more.min() >= -1e-6
    assert 0.1 < (more > 0.1).mean() < 0.35
    ages = [
        (p.age_years, p.body.bone, p.body.aorta_mm)
        for p in (draw_patient(np.random.default_rng(k), Dials()) for k in range(300))
    ]
    age, bone, aorta = np.array(ages).T
    assert np.corrcoef(age, bone)[0, 1] < -0.6
    assert np.corrcoef(age, aorta)[0, 1] > 0.4


def test_virtual_patients_differ(table):
    """Ratios spread as in people, where a heart of 0.42 to 0.50 of the chest is normal,
    and no two films are alike.
    """
    first = table.drop_duplicates("patient_id")
    small = first[first["Cardiomegaly"] == 0]["cardiothoracic_ratio"]
    assert 0.35 < small.median() < 0.5
    assert small.std() > 0.02
    assert (
        first[first["Cardiomegaly"] == 1]["cardiothoracic_ratio"].median()
        > small.median() + 0.08
    )
    assert first["lung_area"].std() > 0.02


# findings


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "name",
    [
        "Pleural Effusion",
        "Pneumothorax",
        "Consolidation",
        "Lung Opacity",
        "Atelectasis",
        "Pleural Other",
        "Lung Lesion",
    ],
)
def test_a_finding_lies_on_its_side_with_the_patients_right_on_the_left_of_the_picture(
    anatomy, name, side
):
    columns = (
        slice(0, SIZE // 2 + 3) if side == "right" else slice(SIZE // 2 - 6, SIZE)
    )  # its middle is off-centre
    rng = np.random.default_rng(1)
    for kind in {
        "Atelectasis": ("plate", "lobar"),
        "Pleural Other": ("apical", "lateral"),
    }.get(name, (None,)):
        finding = draw(name, anatomy, rng, severity=0.6, side=side, kind=kind)
        rays = sample(anatomy, shaped(Body(), [finding]), "PA", SIZE)
        planted = plant(rays, [finding])
        mask = planted.truth[name]
        change = (planted.paths.soft - rays.paths.soft).numpy()
        assert mask.sum() > 5
        assert mask[:, columns].sum() > 0.95 * mask.sum()
        assert ((-change if name == "Pneumothorax" else change)[mask] > 0).mean() > 0.9


def test_fluid_lies_low_and_air_lies_high_and_in_the_supine_both_lie_otherwise(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    findings = [
        Finding("Pleural Effusion", 0.3, "left"),
        Finding("Pneumothorax", 0.3, "left"),
    ]
    rows = {k: np.nonzero(v)[0].mean() for k, v in plant(rays, findings).truth.items()}
    assert rows["Pneumothorax"] + 8 < rows["Pleural Effusion"]
    lungs = Lungs(rays)
    lungs.supine = True
    flat = {
        k: np.nonzero(v)[0] for k, v in plant(rays, findings, lungs=lungs).truth.items()
    }
    assert (
        np.ptp(flat["Pleural Effusion"]) > 0.5 * SIZE * 0.7
    )  # a veil over the whole lung
    assert flat["Pneumothorax"].mean() > rows["Pneumothorax"] + 4  # the deep sulcus


@pytest.mark.parametrize(
    "name", [n for n in PLANTED if n not in ("Support Devices", "Cardiomegaly")]
)
def test_a_finding_grows_with_severity(anatomy, name):
    small, middle, large = (
        Finding(
            **{
                **vars(
                    draw(
                        name,
                        anatomy,
                        np.random.default_rng(4),
                        severity=0.5,
                        kind={"Lung Lesion": "solid", "Atelectasis": "plate"}.get(name),
                    )
                ),
                "severity": s,
            }
        )
        for s in (0.0, 0.5, 1.0)
    )
    rays = sample(anatomy, Body(), "PA", SIZE)
    mass = [
        float((plant(rays, [f]).paths.soft - rays.paths.soft).abs().sum())
        for f in (small, middle, large)
    ]
    assert mass[0] < mass[1] < mass[2]


def test_a_mass_weighs_what_a_ball_of_its_radius_weighs(anatomy):
    finding = Finding(
        "Lung Lesion", 1.0, "right", (-80.0, 0.0, 60.0), "right upper lobe", "solid"
    )
    fine = rw.simulate.default_anatomy()
    rays = sample(fine, Body(), "PA", 160)
    grams = (
        float((plant(rays, [finding]).paths.soft - rays.paths.soft).sum())
        * (FIELD_MM / 160 / 10) ** 2
    )
    lungs = Lungs(rays)
    lung = float(
        lungs.density[lungs.distance(finding.centre) < 28].mean()
    )  # it is replaced; 4/3 pi 2.8^3 cm3
    assert grams == pytest.approx(4 / 3 * np.pi * 2.8**3 * (1.06 - lung), rel=0.12)


def test_the_lesion_is_where_it_was_put():
    centre = (-80.0, 0.0, 60.0)  # right lung
    scan = rw.simulate.render(
        [Finding("Lung Lesion", 1.0, "right", centre, "right upper lobe")], size=SIZE
    )
    rows, cols = np.nonzero(scan.truth["Lung Lesion"])
    pixel = scan.spacing_mm[0]  # the film was enlarged when it was placed
    expected = np.array([SIZE / 2 - (60 - BEAM_Z_MM) / pixel, SIZE / 2 - 80 / pixel])
    assert (
        np.abs(np.array([rows.mean(), cols.mean()]) - expected).max() < 0.06 * SIZE
    )  # a film is placed by hand


def test_consolidation_stays_in_its_lobe_and_keeps_air_in_the_bronchi(anatomy):
    fine = rw.simulate.default_anatomy()
    finding = draw(
        "Consolidation", fine, np.random.default_rng(0), severity=0.9, side="right"
    )
    lungs = Lungs(sample(fine, Body(), "PA", 160))
    from radwb.simulate.mechanisms import consolidation

    density = consolidation(lungs, finding, lungs.density)
    changed = (density - lungs.density).abs() > 0.05
    assert (lungs.lobe(finding)[changed]).all()
    near = changed & (lungs.distance(finding.centre) < 25)
    assert (density[near] > 0.8).float().mean() > 0.7
    assert (density[near] < 0.1).any()
    assert (density[near] < 0.1).float().mean() < 0.1


def test_beyond_the_visceral_line_there_are_no_markings(anatomy):
    from radwb.simulate.mechanisms import pneumothorax

    lungs = Lungs(sample(anatomy, Body(), "PA", SIZE))
    air = pneumothorax(lungs, Finding("Pneumothorax", 0.6, "left"), lungs.density)
    apex = lungs.on("left") & (lungs.depth < 8) & (lungs.height("left") > 0.9)
    assert air[apex].max() < 0.05 < lungs.density[apex].mean()
    torch.testing.assert_close(air[lungs.right], lungs.density[lungs.right])


def test_a_lobar_collapse_pulls_the_heart_and_raises_the_diaphragm(anatomy):
    finding = draw(
        "Atelectasis",
        anatomy,
        np.random.default_rng(3),
        severity=0.9,
        side="left",
        kind="lobar",
    )
    plain, pulled = (
        sample(anatomy, body, "PA", SIZE)
        for body in (Body(), shaped(Body(), [finding]))
    )
    columns = [ndimage.center_of_mass(r.organs["Heart"])[1] for r in (plain, pulled)]
    assert columns[1] > columns[0] + 1  # to the patient's left
    assert bottom_rows(pulled)[1] < bottom_rows(plain)[1]


def test_edema_is_on_both_sides_and_about_the_hila(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    change = (plant(rays, [Finding("Edema", 0.8)]).paths.soft - rays.paths.soft).numpy()
    right = change[:, : SIZE // 2].sum()
    left = change[:, SIZE // 2 :].sum()
    assert 0.4 < right / (right + left) < 0.7
    centre = ndimage.center_of_mass(change)
    spread = np.nonzero(rays.organs["Lungs"])
    assert abs(centre[0] - spread[0].mean()) < 0.12 * SIZE


def test_what_fluid_drowns_has_no_outline(anatomy):
    """A mass under a large effusion is still a positive; what the film would lose
    without it is its share.
    """
    rays = sample(anatomy, Body(), "PA", SIZE)
    low = Finding(
        "Lung Lesion", 0.6, "left", (75.0, -40.0, -50.0), "left lower lobe", "solid"
    )
    high = Finding(
        "Lung Lesion", 0.3, "left", (70.0, 0.0, 95.0), "left upper lobe", "solid"
    )
    fluid = Finding("Pleural Effusion", 0.9, "left")
    assert plant(rays, [low]).truth["Lung Lesion"].sum() > 5
    drowned = plant(rays, [low, fluid])
    assert not drowned.truth["Lung Lesion"].any()
    assert "Lung Lesion" in drowned.truth
    assert drowned.cnr["Lung Lesion"] < 0.05
    dry, beside = (
        plant(rays, findings).truth["Lung Lesion"]
        for findings in ([high], [high, fluid])
    )
    np.testing.assert_array_equal(dry, beside)
    for findings in (
        [low, fluid],
        [high, fluid, Finding("Edema", 0.5)],
    ):  # in sum, the film has what was planted
        lungs = Lungs(rays)
        density = lungs.density
        for f, mechanism in in_order(findings):
            density = mechanism(lungs, f, density)
        added = plant(rays, findings).paths.soft - rays.paths.soft
        torch.testing.assert_close(
            added, lungs.project(density - lungs.density), rtol=1e-3, atol=1e-3
        )


def test_no_dial_takes_more_air_than_there_is_lung(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    for how in ({"cnr": 5.0}, {"visibility": 20.0}):
        planted = plant(rays, [Finding("Pneumothorax", 0.5, "left")], **how)
        assert planted.paths.soft.min() > -1e-3
        assert (
            rays.paths.soft - planted.paths.soft
        ).max() < 8  # g/cm2: a lung, not a chest wall
        assert planted.cnr["Pneumothorax"] < 2


def test_contrast_to_noise_is_a_dial(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    finding = draw(
        "Lung Lesion", anatomy, np.random.default_rng(0), severity=0.5, kind="solid"
    )
    natural = plant(rays, [finding])
    strong = plant(rays, [finding], cnr=3.0)
    assert strong.cnr["Lung Lesion"] == pytest.approx(3.0)
    factor = 3.0 / natural.cnr["Lung Lesion"]
    torch.testing.assert_close(
        strong.paths.soft - rays.paths.soft,
        factor * (natural.paths.soft - rays.paths.soft),
        rtol=1e-3,
        atol=1e-3,
    )
    # by hand: mean change in the mask over the spread around it
    change = (natural.paths.soft - rays.paths.soft).numpy() * 0.2059
    rows, cols = np.nonzero(natural.truth["Lung Lesion"])
    around = line_integral(rays).numpy()[
        rows.min() - 3 : rows.max() + 3, cols.min() - 3 : cols.max() + 3
    ]
    by_hand = change[rows, cols].mean() / around.std(ddof=1)
    assert natural.cnr["Lung Lesion"] == pytest.approx(by_hand, rel=0.02)


def test_visibility_zero_hides_the_finding_and_empties_its_mask(anatomy):
    rng = np.random.default_rng(2)
    sick = [
        draw(
            name,
            anatomy,
            rng,
            severity=0.8,
            kind="lobar" if name == "Atelectasis" else None,
        )
        for name in PLANTED
        if name != "Cardiomegaly"
    ]
    hidden, without = (
        rw.simulate.render(f, size=SIZE, visibility=v) for f, v in ((sick, 0), ((), 1))
    )
    assert set(hidden.truth) == set(PLANTED) - {
        "Cardiomegaly"
    }  # an invisible positive stays one
    assert not any(mask.any() for mask in hidden.truth.values())
    np.testing.assert_array_equal(hidden.pixels, without.pixels)
    fluid = rw.simulate.render([Finding("Pleural Effusion", 0.8, "left")], size=SIZE)
    assert np.abs(fluid.pixels - without.pixels).max() > 0.2


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (("Gout", 0.5), "expected a finding"),
        (("Edema", 1.2), "severity"),
        (("Support Devices", 0.5, "left"), "expected a device"),
        (("Pneumothorax", 0.5, "Left"), "expected a side"),
        (("Pneumothorax", 0.5), "expected a side"),
    ],
)
def test_a_finding_that_makes_no_sense_is_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        Finding(*wrong)


# devices


def test_a_stroke_keeps_its_mass():
    curve = np.stack([np.linspace(20, 80, 201), np.linspace(10, 90, 201)], 1)
    for sigma in (0.5, 2.0):
        assert stroke((100, 100), curve, sigma).sum() == pytest.approx(
            np.hypot(60, 80), rel=0.07
        )  # round ends add


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_is_drawn_in_metal_where_it_belongs(anatomy, kind):
    for side in ("right", "left"):
        finding = draw(
            "Support Devices", anatomy, np.random.default_rng(0), kind=kind, side=side
        )
        rays = sample(anatomy, Body(), "PA", SIZE)
        planted = plant(rays, [finding])
        metal = planted.paths.metal.numpy()
        mask = planted.truth["Support Devices"]
        assert metal[mask].mean() > 5 * metal[~mask].mean()
        rows, cols = np.nonzero(mask)
        if kind == "chest tube":
            assert (
                (cols < SIZE / 2).mean() > 0.95
                if side == "right"
                else (cols > SIZE / 2).mean() > 0.9
            )
        if kind == "endotracheal tube":
            assert (
                rows.max() < to_film(rays, [anatomy.marks["carina"]])[0][0]
            )  # it ends above the carina
        if kind in ("central line", "pacemaker"):  # both end in or near the heart
            heart = ndimage.binary_dilation(rays.organs["Heart"], iterations=8)
            assert heart[rows.max(), cols[rows.argmax()]]


def test_a_lobes_pull_follows_either_dial():
    lobe = Finding(
        "Atelectasis", 0.8, "left", (40.0, 0.0, 60.0), "left upper lobe", "lobar"
    )
    pulls = [
        shaped(Body(), [lobe], *dials).shift_mm
        for dials in ((), (0.5,), (1.0, 0.5), (1.0, 0.0), (1.0, 4.0))
    ]
    assert pulls[0] > 5
    assert pulls == pytest.approx([pulls[0], pulls[0] / 2, pulls[0] / 2, 0, pulls[0]])


# the cohort


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(tmp_path, anatomy):
    for workers in (1, 3):
        settings = Settings(5, SIZE, 1.0, Dials(near_duplicates=0.3), anatomy)
        _simulate(tmp_path / str(workers), 10, settings, workers)
    files = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "3").iterdir())
    assert len(files) > 12
    assert all(
        (tmp_path / "1" / f).read_bytes() == (tmp_path / "3" / f).read_bytes()
        for f in files
    )


def test_four_processes_that_make_one_cohort_at_once_give_the_bytes_of_one(
    tmp_path, table
):
    """All four find the cache cold and write to it; the film files are those that this
    process made.
    """
    (tmp_path / "anatomy").symlink_to(rw.data.cache_folder() / "anatomy")
    code = (
        "import radwb as rw, hashlib, pathlib; "
        "t = rw.simulate.cohort(n=6, seed=3, size=64, workers=1); "
        "files = [pathlib.Path(p).read_bytes() for p in t.path]; "
        "print([hashlib.sha256(data).hexdigest() for data in files], "
        "sorted(t.report))"
    )
    environment = os.environ | {"RADWB_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
        )
        for _ in range(4)
    ]
    outputs = {process.communicate(timeout=300)[0].decode() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    digests = [
        hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in table["path"].head(6)
    ]
    assert outputs == {f"{digests} {sorted(table['report'].head(6))}\n"}
    assert len(list((tmp_path / "cohorts").iterdir())) == 1  # nothing half done is left


def test_a_stream_gives_the_films_of_the_cohort_and_stops_when_told(table):
    films = list(rw.simulate.stream(7, seed=3, size=SIZE))
    assert len(films) == 7
    for (scan, row), (_, stored) in zip(films, table.iterrows(), strict=False):
        same = rw.data.scan_of(stored)
        np.testing.assert_array_equal(
            np.round(scan.pixels * 255), np.round(same.pixels * 255)
        )
        assert row["report"] == stored["report"]
        assert set(scan.truth) == set(same.truth)


@pytest.mark.slow
def test_a_long_stream_stays_in_the_same_memory(anatomy):
    code = f"""
import psutil
import radwb as rw
for k, _ in enumerate(rw.simulate.stream(1500, seed=1, size={SIZE})):
    if k % 250 == 249:
        print(psutil.Process().memory_info().rss / 2**30)
"""  # a process of its own: this one holds what other tests left
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    used = [float(line) for line in done.stdout.split()]
    assert len(used) == 6
    assert max(used) < 2.0
    assert max(used[2:]) < used[1] + 0.1


def test_cohort_keeps_the_schema_and_patients_apart(table):
    rw.data.check_table(
        table, needs=("report", "split", "site", "sex", "age_years", "view")
    )
    assert len(table) == 60
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert table.groupby("patient_id").size().between(1, 3).all()
    assert set(table["view"]) <= {"PA", "AP"}
    assert rw.data.findings_of(table) == list(PLANTED)


def test_truth_masks_and_labels_and_the_planted_list_agree(table):
    for _, row in table.iterrows():
        present = {name for name in PLANTED if row[name] == 1}
        assert set(rw.data.scan_of(row).truth) == present
        assert labelled(row["planted"]) == present


def labelled(planted):
    """Names that have a label of 1 by what was planted, with CheXpert's parent written
    out by hand.
    """
    names = {f["name"] for f in json.loads(planted)}
    airspace = {"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Atelectasis"}
    return names | {"Lung Opacity"} if names & airspace else names


def test_an_opacity_is_a_patch_or_any_of_its_children_in_label_and_mask(table):
    children = ["Lung Lesion", "Edema", "Consolidation", "Atelectasis"]
    without_patch = table["Lung Opacity severity"].isna()
    any_child = (table[children] == 1).any(axis=1)
    assert (table["Lung Opacity"] == (any_child | ~without_patch)).all()
    assert (any_child & without_patch).sum() > 10
    for _, row in table[any_child & without_patch].iterrows():
        truth = rw.data.scan_of(row).truth
        union = np.any([truth[name] for name in children if name in truth], axis=0)
        np.testing.assert_array_equal(truth["Lung Opacity"], union)
    for _, row in table[~without_patch].iterrows():
        truth = rw.data.scan_of(row).truth
        assert not any(
            (truth[name] & ~truth["Lung Opacity"]).any()
            for name in children
            if name in truth
        )


def dialled(n=400, **dials):
    """Findings of n studies of n patients, without their films."""
    dials = Dials(**dials)
    anatomy = rw.simulate.default_anatomy(FIELD_MM / SIZE)
    studies = []
    for k in range(n):
        rng = np.random.default_rng([9, k])
        patient = draw_patient(rng, dials)
        findings = draw_study(
            rng,
            patient,
            draw_lasting(rng, patient, dials, anatomy),
            None,
            dials,
            anatomy,
        )
        studies.append(
            {
                "patient": patient,
                "site": patient.site,
                "sex": patient.sex,
                "age": patient.age_years,
                "kinds": {f.kind for f in findings},
                **{name: any(f.name == name for f in findings) for name in PLANTED},
            }
        )
    return pd.DataFrame(studies)


def test_prevalence_is_what_was_asked_for_and_can_hang_on_site_sex_and_age():
    plain = dialled(together={}, by_age={}, drain=0.0)
    for name in set(PLANTED) - {"Support Devices"}:
        assert plain[name].mean() == pytest.approx(PREVALENCE[name], abs=0.08)
    how = dict(prevalence={"Edema": 0.3}, together={})
    tied = dialled(
        **how, by_site={("Edema", "A"): 0.0}, by_sex={("Pneumothorax", "M"): 9.0}
    )
    assert not tied.loc[tied.site == "A", "Edema"].any()
    assert tied.loc[tied.site == "B", "Edema"].mean() > 0.2
    rates = tied.groupby("sex")["Pneumothorax"].mean()
    assert rates["M"] > rates["F"] + 0.2
    old = dialled(by_age={"Cardiomegaly": 0.08})
    assert (
        old[old.age > 70].Cardiomegaly.mean()
        > old[old.age < 40].Cardiomegaly.mean() + 0.2
    )


def test_confounders_come_at_the_strength_that_was_asked_for():
    drained = dialled(drain=0.9, prevalence={"Pneumothorax": 0.5})
    tubes = drained.kinds.map(lambda k: "chest tube" in k)
    assert tubes[drained.Pneumothorax].mean() == pytest.approx(0.9, abs=0.08)
    both = dialled(together={("Pleural Other", "Edema"): 1.0})
    assert both.loc[both["Pleural Other"], "Edema"].all()
    with pytest.raises(ValueError, match="expected findings"):
        Dials(withhold=("Gout",))
    with pytest.raises(ValueError, match="chances"):
        Dials(drain=1.5)
    with pytest.raises(ValueError, match="healthy"):
        Dials(healthy=0.9)
    with pytest.raises(ValueError, match="scanner's finding"):
        Dials(scanner=("Edema", "B", 1.0))
    with pytest.raises(ValueError, match="expected findings"):
        Dials(by_site={("Oedema", "A"): 0.0})
    with pytest.raises(ValueError, match="chances"):
        Dials(marker=("Edema", 7))


def test_a_dial_that_came_later_is_in_a_cohorts_key_only_where_it_is_turned():
    """Cohorts are kept by this text: another one, and each is made anew."""
    kept = (
        "Dials(prevalence={}, healthy=0.3, by_site={}, by_sex={}, by_age="
        "{'Cardiomegaly': 0.02, 'Pleural Other': 0.02, 'Lung Lesion': 0.01}, together="
        "{('Edema', 'Pleural Effusion'): 0.4, ('Cardiomegaly', 'Edema'): 0.15, "
        "('Pleural Effusion', 'Atelectasis'): 0.1}, drain=0.9, portable={'Edema': 0.4, "
        "'Support Devices': 0.4}, marker=(), scanner=(), cnr=None, label_noise=0.0, "
        "report_error=0.0, withhold=('Edema',), duplicates=0.0, near_duplicates=0.0)"
    )
    assert repr(Dials(drain=0.9, withhold=("Edema",))) == kept
    turned = repr(Dials(drain=0.9, withhold=("Edema",), builds=0.5))
    assert turned == kept[:-1] + ", builds=0.5)"


@pytest.fixture(scope="module")
def confounded():
    dials = Dials(
        label_noise=0.1,
        duplicates=0.2,
        near_duplicates=0.2,
        withhold=("Lung Lesion",),
        report_error=0.3,
        scanner=("Cardiomegaly", "B", 1.0),
        portable={"Edema": 1.0},
        together={},
    )
    return rw.simulate.cohort(n=120, seed=5, size=SIZE, dials=dials)


def test_every_fault_that_was_planted_is_in_the_key(confounded):
    truth = confounded["planted"].map(labelled)
    flipped = (
        confounded["label_errors"]
        .str.split(", ")
        .map(lambda names: {n for n in names if n})
    )
    for name in PLANTED:
        wrong = (confounded[name] == 1) != truth.map(lambda t, n=name: n in t)
        assert wrong.equals(flipped.map(lambda f, n=name: n in f))
    assert flipped.map(len).sum() / (len(confounded) * len(PLANTED)) == pytest.approx(
        0.1, abs=0.03
    )
    assert 0.15 < (confounded["report_errors"] != "").mean() < 0.45
    assert not confounded["report"].str.contains("nodule|mass|lesion", case=False).any()


def test_copies_are_filed_under_other_patients_and_named(confounded):
    copies = confounded[confounded["copy_of"] != ""]
    firsts = confounded.set_index("study_id")
    assert len(copies) > 15
    for _, copy in copies.iterrows():
        first = firsts.loc[copy["copy_of"]]
        same = np.array_equal(
            rw.data.read(copy["path"]).pixels, rw.data.read(first["path"]).pixels
        )
        assert same == copy["study_id"].endswith("-d")
        assert copy["patient_id"] != first["patient_id"]
        assert copy["report"] == first["report"]


def test_a_scanner_and_a_view_can_betray_a_finding(confounded):
    first = confounded[confounded["copy_of"] == ""]
    truth = first["planted"].map(lambda p: {f["name"] for f in json.loads(p)})
    heart = truth.map(lambda t: "Cardiomegaly" in t)
    assert (first.loc[heart, "site"] == "B").all()
    assert (first.loc[~heart, "site"] != "B").all()
    assert (first.loc[truth.map(lambda t: "Edema" in t), "view"] == "AP").all()


def test_how_films_are_filed_changes_no_patient():
    """Labels, markers and copies are drawn apart: the same patients, whatever their
    dials.
    """

    def planted(**dials):
        rows = [
            row
            for _, row in rw.simulate.stream(
                40, seed=6, size=SIZE, dials=Dials(**dials)
            )
        ]
        return [
            (r["study_id"], r["planted"], r["view"]) for r in rows if not r["copy_of"]
        ]

    plain = planted()
    for dials in (
        dict(label_noise=0.3),
        dict(marker=("Edema", 0.5)),
        dict(duplicates=0.5, near_duplicates=0.5),
        dict(scanner=("Cardiomegaly", "A", 0.7)),
        dict(report_error=1.0),
    ):
        again = planted(**dials)
        assert (
            again == plain[: len(again)]
            or "scanner" in dials
            and [p[:2] for p in again] == [p[:2] for p in plain]
        )


def test_near_duplicates_keep_the_marker_and_copies_one_part_of_the_split():
    dials = Dials(marker=("Pleural Effusion", 1.0), near_duplicates=0.6)
    films = {
        row["study_id"]: (scan, row)
        for scan, row in rw.simulate.stream(60, seed=6, size=SIZE, dials=dials)
    }
    plain = {
        row["study_id"]: scan for scan, row in rw.simulate.stream(60, seed=6, size=SIZE)
    }  # all have the letter
    copies = [(scan, row) for scan, row in films.values() if row["copy_of"]]
    assert len(copies) > 10
    parts = {}
    for _, row in copies:
        parts.setdefault(row["patient_id"], set()).add(row["split"])
    assert max(map(len, parts.values())) == 1
    letters = {
        s: np.array_equal(films[s][0].pixels, plain[s].pixels)
        for s in plain
        if s in films
    }
    assert all(same == films[s][1]["Pleural Effusion"] for s, same in letters.items())


def test_a_marker_can_betray_a_finding_and_changes_nothing_else():
    ties = ("Pleural Effusion", "Support Devices")
    films = [
        rw.simulate.stream(24, seed=2, size=SIZE, dials=Dials(marker=(name, 1.0)))
        for name in ties
    ]
    unequal = []
    for (a, row), (b, other) in zip(*films, strict=True):
        assert (row["report"], row["planted"]) == (other["report"], other["planted"])
        differs = not np.array_equal(a.pixels, b.pixels)
        expected = row[ties[0]] != row[ties[1]]
        assert differs == expected
        if differs:
            unequal.append((a.pixels - b.pixels).sum() * (row[ties[0]] - row[ties[1]]))
    assert len(unequal) > 4
    assert min(unequal) > 0  # the letter is white, and stands where the finding is


def test_later_studies_follow_from_earlier_ones():
    table = rw.simulate.cohort(n=150, seed=8, size=SIZE)
    pairs = []
    for _, studies in table.groupby("patient_id"):
        for a, b in zip(
            studies.itertuples(), list(studies.itertuples())[1:], strict=False
        ):
            pairs.append((a, b))
    column = {name: table.columns.get_loc(name) + 1 for name in PLANTED}
    for name in ("Cardiomegaly", "Lung Lesion"):
        assert all(a[column[name]] == b[column[name]] for a, b in pairs)
    stayed = [
        b[column["Pleural Effusion"]] for a, b in pairs if a[column["Pleural Effusion"]]
    ]
    assert 0.4 < np.mean(stayed) < 0.95
    words = (
        r"\b(?:increased|worse|improved|decreased|unchanged|new since|resolved|"
        r"interval)\b"
    )
    compares = table["report"].str.contains(words)
    later = table["study_id"].str.endswith(("-2", "-3"))
    assert compares[later].mean() > compares[~later].mean() + 0.3


# another CT


def test_another_ct_with_its_mask_is_taken(own_ct):
    anatomy = rw.simulate.from_arrays(*own_ct, FIELD_MM / SIZE)
    rng = np.random.default_rng(0)
    for name in PLANTED:
        finding = draw(name, anatomy, rng, severity=0.7)
        scan = rw.simulate.render([finding], size=SIZE, anatomy=anatomy, organs=True)
        assert scan.truth[name].any()
        assert scan.truth["Lungs"].sum() > 400
    table = rw.simulate.cohort(n=6, seed=0, size=SIZE, anatomy=anatomy)
    assert rw.data.images(table, SIZE).std() > 20
    lateral = rw.simulate.from_arrays(*own_ct, FIELD_MM / SIZE, axis=0)
    heart = rw.simulate.render(
        [], view="LATERAL", size=SIZE, anatomy=lateral, organs=True
    ).truth["Heart"]
    assert (
        np.nonzero(heart)[1].mean() < SIZE / 2
    )  # it lies in front, and the front is on the left


def test_the_second_chest_has_the_line_integrals_of_its_ellipsoids(own_ct):
    """Through the right lung's middle, by hand: 200 mm of chest, 2 x 78 mm of it lung
    at 0.2.
    """
    anatomy = rw.simulate.from_arrays(*own_ct, FIELD_MM / SIZE)
    rays = sample(anatomy, Body(), "PA", SIZE)
    row, col = np.round(to_film(rays, [(-72.0, 0.0, 0.0)])[0]).astype(int)
    body = 200 * np.sqrt(1 - (72 / 150) ** 2)
    by_hand = 0.2059 * ((body - 156) / 10 * 1.04 + 15.6 * 0.2)
    got = float(line_integral(rays)[row - 1 : row + 2, col - 1 : col + 2].mean())
    assert got == pytest.approx(by_hand, rel=0.04)


def test_a_tube_fits_into_a_short_trachea(own_ct):
    hu, labels, voxel = own_ct
    short = labels.copy()
    short[54:56, 38:40, 60:72] = 16  # 36 mm
    anatomy = rw.simulate.from_arrays(hu, short, voxel, FIELD_MM / SIZE)
    rays = sample(anatomy, Body(), "PA", SIZE)
    for texture in range(12):
        tube = Finding(
            "Support Devices", 0.5, kind="endotracheal tube", texture=texture
        )
        assert plant(rays, [tube]).truth["Support Devices"].any()


def test_two_cts_have_two_folders(own_ct):
    first = rw.simulate.from_arrays(*own_ct, FIELD_MM / SIZE)
    second = rw.simulate.from_arrays(
        own_ct[0] + 20, own_ct[1], own_ct[2], FIELD_MM / SIZE
    )
    a, b = (
        rw.simulate.cohort(n=2, seed=0, size=SIZE, anatomy=x) for x in (first, second)
    )
    assert not set(a["path"]) & set(b["path"])
    assert rw.data.images(a, SIZE).std() > 0


def test_another_ct_without_lung_lobes_is_refused(own_ct):
    with pytest.raises(ValueError, match="left upper lobe"):
        rw.simulate.from_arrays(
            np.zeros((20, 20, 20)), np.zeros((20, 20, 20), int), (1, 1, 1), 2.0
        )
    with pytest.raises(ValueError, match="expected a mask of the CT's shape"):
        rw.simulate.from_arrays(own_ct[0], own_ct[1][:50], own_ct[2])
    with pytest.raises(ValueError, match="Hounsfield"):
        rw.simulate.from_arrays(np.full(own_ct[0].shape, -1000.0), own_ct[1], own_ct[2])


def test_bones_and_lobes_name_what_the_mask_names():
    import csv

    with open(rw.data.fetch("lidc-ct") / "structures.csv") as f:
        names = {int(r["id"]): r["structure"] for r in csv.DictReader(f)}
    for number, words in LOBES.items():
        parts = names[number].split("_")
        assert words == f"{parts[3]} {parts[1]} lobe"
    words = (
        "vertebra",
        "sacrum",
        "rib",
        "clavicula",
        "scapula",
        "humerus",
        "femur",
        "hip",
        "sternum",
    )
    assert all(any(w in names[i] for w in words) for i in BONES)
    assert names[HEART] == "heart"


# the virtual CT


def test_a_virtual_ct_has_its_findings_in_hounsfield_units(own_ct):
    anatomy = rw.simulate.from_arrays(*own_ct, 3.0, slab_mm=3.0)
    plain, wet = (
        rw.simulate.film.render_ct(f, anatomy=anatomy, spacing_mm=(4.0, 3.0, 3.0))
        for f in ((), [Finding("Pleural Effusion", 0.8, "left")])
    )

    def at(volume, x, y, z):  # LPS: posterior is positive
        d, h, w = np.round(np.linalg.solve(volume.affine, (x, -y, z, 1)))[:3].astype(
            int
        )
        return volume.voxels[d - 1 : d + 2, h - 1 : h + 2, w - 1 : w + 2].mean()

    assert at(plain, 72, 0, 0) == pytest.approx(-800, abs=25)
    assert at(plain, 15, 25, -30) == pytest.approx(40, abs=25)
    assert at(plain, 0, -70, 0) == pytest.approx(400, abs=60)
    assert at(wet, 72, -20, -80) == pytest.approx(30, abs=30)  # fluid below
    assert at(wet, 72, 0, 70) == pytest.approx(-800, abs=25)
    assert at(wet, -72, -20, -80) == pytest.approx(
        -800, abs=25
    )  # the other side is dry
    for name in (
        n for n in PLANTED if n not in ("Cardiomegaly", "Support Devices")
    ):  # each makes a CT that differs where it was planted, and only in the lungs
        for supine in (False, True):
            finding = draw(name, anatomy, np.random.default_rng(1), severity=0.8)
            body = Body(supine=supine)
            sick = rw.simulate.film.render_ct(
                [finding], body=body, anatomy=anatomy, spacing_mm=(4.0, 4.0, 4.0)
            )
            well = rw.simulate.film.render_ct(
                [],
                body=shaped(body, [finding]),
                anatomy=anatomy,
                spacing_mm=(4.0, 4.0, 4.0),
            )
            changed = np.abs(sick.voxels - well.voxels) > 60
            assert 0.001 < changed.mean() < 0.2
            assert well.voxels[changed].mean() < -500 or name == "Atelectasis"
    with pytest.raises(ValueError, match="chest tube"):
        rw.simulate.film.render_ct(
            [Finding("Support Devices", 0.5, "left", kind="chest tube")],
            anatomy=anatomy,
        )


def test_the_channels_are_where_their_names_say(anatomy):
    assert [SOFT, BONE, DEPTH] == [0, 1, 2]
    right = anatomy.slabs[:, DEPTH] > 5
    x = torch.linspace(-1, 1, anatomy.slabs.shape[-1])
    assert (
        float((x * right.float().sum((0, 1))).sum()) < 0
    )  # the patient's right at negative X
