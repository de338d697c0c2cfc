"""Builds of virtual patients: wider than one CT, unfolded, and true to their labels."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

import radwb as rw
from radwb.simulate import Dials, Finding, physics
from radwb.simulate.anatomy import DEPTH, FIELD_MM, SOFT
from radwb.simulate.body import Body, Frame, to_ct
from radwb.simulate.builds import KINDS, LARGEST_HEART, least_volume, widened
from radwb.simulate.devices import to_film
from radwb.simulate.film import render_ct
from radwb.simulate.measures import equalise
from radwb.simulate.mechanisms import Lungs, pneumothorax
from radwb.simulate.patient import draw_patient
from radwb.simulate.plant import plant
from radwb.simulate.project import sample
from radwb.simulate.ratios import anatomy_ratios
from radwb.simulate.vessels import retextured

SIZE = 64


@pytest.fixture(scope="module")
def anatomy():
    return rw.simulate.default_anatomy(FIELD_MM / SIZE)


@pytest.fixture(scope="module")
def patients(anatomy):
    return [drawn(k, anatomy) for k in range(60)]


def drawn(k, anatomy, builds=1.0):
    patient = draw_patient(np.random.default_rng([0, k]), Dials())
    return widened(patient, np.random.default_rng([0, k, 4]), builds, anatomy)


def lattice(x=0.0, y=0.0, z=0.0):
    shift = np.zeros((3, 4, 4, 4), np.float32)
    shift += np.array([x, y, z], np.float32)[:, None, None, None]
    return shift


def heart_ratio(rays):
    ratios = anatomy_ratios(rays.organs["Lungs"], rays.organs["Heart"])
    return ratios["cardiothoracic_ratio"]


def test_the_volume_left_by_a_bend_is_that_of_its_jacobian(anatomy):
    assert least_volume(Body(scale=(2.0, 1.0, 1.0)), anatomy) == pytest.approx(
        0.5, abs=1e-4
    )
    assert least_volume(Body(yaw_deg=40.0), anatomy) == pytest.approx(1, abs=1e-4)
    steep = np.zeros((3, 4, 4, 4), np.float32)
    steep[0] = np.linspace(300, -300, 4)  # backwards along X
    assert least_volume(Body(bends=steep), anatomy) < 0
    assert least_volume(Body(bones=steep), anatomy) < 0


def test_no_build_folds_whatever_its_findings_do_to_it(patients, anatomy):
    """On a finer grid than the one that builds are weakened by."""
    for patient in patients[:30]:
        for pull in (-20.0, 0.0, 20.0):
            sick = replace(patient.body, heart=LARGEST_HEART, shift_mm=pull)
            assert least_volume(sick, anatomy, n=17) > 0.05


def test_a_build_that_would_fold_is_weakened(anatomy):
    rng = np.random.default_rng(0)
    wild = rng.normal(0, 60, (3, 4, 4, 4)).astype(np.float32)
    patient = draw_patient(rng, Dials())
    patient = replace(patient, body=replace(patient.body, wobble=wild))
    assert least_volume(patient.body, anatomy) < 0
    assert least_volume(widened(patient, rng, 0.1, anatomy).body, anatomy) > 0


def test_the_patients_of_a_wide_population_are_less_alike(anatomy):
    """Mean correlation of two patients' films, each pixel its rank, 16 x 16."""
    likeness = {}
    for builds in (0.0, 1.0):
        dials = Dials(builds=builds, healthy=0.4)
        films = [s for s, _ in rw.simulate.stream(60, seed=1, size=SIZE, dials=dials)]
        ranks = equalise(np.stack([film.pixels for film in films]))
        small = ranks.reshape(60, 16, 4, 16, 4).mean((2, 4)).reshape(60, -1)
        likeness[builds] = np.corrcoef(small)[np.triu_indices(60, 1)].mean()
    assert likeness[1.0] < likeness[0.0] - 0.05


def test_the_truth_lies_where_the_film_changes(patients, anatomy):
    """A lesion's mask holds the change of two films of one patient."""
    lesion = Finding(
        "Lung Lesion", 0.6, "left", (70.0, 0.0, 20.0), "left upper lobe", "solid"
    )
    for patient in patients[:12]:
        rays = sample(anatomy, patient.body, "PA", SIZE)
        planted = plant(rays, [lesion])
        change = (planted.paths.soft - rays.paths.soft).abs().numpy()
        mask = planted.truth["Lung Lesion"]
        centres = [ndimage.center_of_mass(change), to_film(rays, [lesion.centre])[0]]
        for centre in centres:
            np.testing.assert_allclose(ndimage.center_of_mass(mask), centre, atol=1.6)
        assert change[mask].sum() > 0.6 * change.sum()


def best_lag(before, after, middle):
    """By how many rows or slices `before` moves to lie as `after` does."""

    def likeness(lag):
        moved = np.roll(before, lag, 0)[middle]
        return np.corrcoef(moved.ravel(), after[middle].ravel())[0, 1]

    return max(range(-9, 10), key=likeness)


def test_bones_move_and_nothing_else_does(anatomy):
    """From 30 mm lower in the CT: they lie 30 mm higher, the lungs where they lay."""
    still = sample(anatomy, Body(), "PA", SIZE)
    moved = sample(anatomy, Body(bones=lattice(z=-30.0)), "PA", SIZE)
    assert torch.equal(still.lung_mm, moved.lung_mm)
    bones = [rays.paths.bone.numpy() for rays in (still, moved)]
    lag = best_lag(*bones, np.s_[20:50, 8:56])
    assert lag in (-6, -5)  # 30 mm are 5.57 rows
    # what bone leaves, soft tissue fills
    change = moved.paths.bone - still.paths.bone
    filled = still.paths.soft - moved.paths.soft
    torch.testing.assert_close(filled, change * physics.BESIDE_BONE, atol=1e-4, rtol=0)


def test_bones_move_in_a_ct_too(anatomy):
    bone = []
    for bones in (None, lattice(z=-30.0)):
        how = dict(anatomy=anatomy, spacing_mm=(8.0, 6.0, 6.0))
        ct = render_ct(body=Body(bones=bones), **how)
        bone.append(np.clip(ct.voxels - 150, 0, None).sum(1))  # as seen from the front
    assert best_lag(*bone, np.s_[12:-12]) == 4  # 30 mm are 3.75 slices


def test_vessels_that_are_moved_nowhere_are_the_cts(anatomy):
    samples = sample(anatomy, Body(), "PA", SIZE).samples
    half = anatomy.half_mm
    where = torch.stack(
        (
            samples.across * float(half[0]),
            anatomy.centres[samples.slab],
            samples.up * float(half[2]),
        ),
        dim=-1,
    )
    again = partial(retextured, samples.soft, samples.depth, where, anatomy)
    nowhere = np.zeros((1, 7), np.float32)
    change = (again(Body(vessels=nowhere)) - samples.soft).abs()
    # but for slivers along the rim of what is looked up
    assert (change < 1e-3).float().mean() > 0.99
    other = again(Body(vessels=nowhere, swapped=True))
    is_dense = samples.soft > 0.7
    assert torch.equal(other[is_dense], samples.soft[is_dense])
    deep = (samples.depth.abs() > 20) & (samples.soft < 0.4)
    pair = np.corrcoef(other[deep], samples.soft[deep])
    assert pair[0, 1] < 0.6
    means = [soft[deep].mean().item() for soft in (other, samples.soft)]
    assert means[0] == pytest.approx(means[1], rel=0.1)
    heavy = again(Body(marking=2.0))
    airy = samples.soft < 0.25
    assert torch.equal(heavy[airy], samples.soft[airy])
    assert (heavy >= samples.soft).all()


def test_a_film_has_the_vessels_that_its_samples_have(anatomy):
    """So that a finding that takes the lung's place takes all of it."""
    still = sample(anatomy, Body(), "PA", SIZE)
    body = Body(vessels=np.zeros((1, 7), np.float32), swapped=True, marking=1.5)
    other = sample(anatomy, body, "PA", SIZE)
    change = (other.samples.soft - still.samples.soft) * still.samples.path / 10
    projected = torch.zeros(SIZE**2).index_add_(0, still.samples.ray, change)
    torch.testing.assert_close(
        other.paths.soft - still.paths.soft,
        projected.reshape(SIZE, SIZE),
        atol=1e-4,
        rtol=0,
    )
    assert change.abs().sum() > 0


def test_a_ct_has_other_vessels_in_its_lungs_alone(anatomy):
    nowhere = np.zeros((1, 7), np.float32)
    how = dict(anatomy=anatomy, spacing_mm=(16.0, 8.0, 8.0))
    body = Body(vessels=nowhere, swapped=True)
    plain, swapped = (render_ct(body=b, **how).voxels for b in (Body(), body))
    is_lung = (plain > -950) & (plain < -600)
    assert (plain != swapped)[is_lung].mean() > 0.15
    assert (plain != swapped)[plain > 0].mean() < 0.01


def test_only_lungs_are_looked_up_for_vessels(anatomy):
    is_none = anatomy.slabs[:, DEPTH] == 0
    assert (anatomy.lungs[is_none] < 0).all()
    inner = anatomy.lungs > 0
    assert torch.equal(anatomy.lungs[inner], anatomy.slabs[:, SOFT][inner])
    assert inner.sum() > 0.4 * (~is_none).sum()


def test_a_heart_is_large_against_what_is_usual_for_its_build(anatomy):
    """A child's heart is no finding, and an enlarged one has the mask of its growth."""
    large = [Finding("Cardiomegaly", 0.5)]
    masks = []
    for usual in (1.0, 1.2):
        body = Body(usual_heart=usual)
        normal = sample(anatomy, body, "PA", SIZE)
        sick = sample(anatomy, replace(body, heart=1.5), "PA", SIZE)
        assert heart_ratio(sick) > heart_ratio(normal) + 0.05
        masks.append(plant(sick, large).truth["Cardiomegaly"].sum())
        nothing = plant(normal, large).truth["Cardiomegaly"]
        assert nothing.sum() < 0.1 * masks[-1]
    assert masks[1] == pytest.approx(masks[0], rel=0.5)


def test_an_enlarged_heart_shows_in_every_build(patients, anatomy):
    for patient in patients[:20]:
        normal, large = (
            sample(anatomy, replace(patient.body, heart=heart), "PA", SIZE)
            for heart in (1.0, 1.45)
        )
        assert heart_ratio(large) > heart_ratio(normal) + 0.02


def test_what_lies_outside_the_rib_cage_is_stretched_alone(anatomy):
    thin, stout = (sample(anatomy, Body(wall=w), "PA", SIZE) for w in (1.0, 2.0))
    widths = [(r.paths.soft[40] > 2).sum().item() for r in (thin, stout)]
    assert widths[1] > widths[0] + 3
    lungs = [rays.lung_mm.sum().item() for rays in (thin, stout)]
    assert lungs[1] == pytest.approx(lungs[0], rel=0.02)


def test_domes_move_without_the_angles_beside_them(anatomy):
    high, flat = (sample(anatomy, Body(dome_mm=d), "PA", SIZE) for d in (-30, 30))
    more = (flat.lung_mm - high.lung_mm).numpy()
    assert flat.lung_mm.sum() > high.lung_mm.sum()
    columns = np.flatnonzero(flat.lung_mm[:, : SIZE // 2].sum(0) > 0)
    gained = more.sum(0)
    middle = (columns[0] + columns[-1]) // 2
    assert gained[middle] > 2 * gained[columns[0] + 1]


def test_the_heart_turns_about_its_middle_and_the_spine_does_not(anatomy):
    def slant(degrees):
        heart = sample(anatomy, Body(heart_axis_deg=degrees), "PA", SIZE).heart
        rows, columns = np.nonzero(heart.numpy())
        covariance = np.cov(columns, -rows)
        values, vectors = np.linalg.eigh(covariance)
        x, z = vectors[:, -1]
        return np.rad2deg(np.arctan2(z * np.sign(x), abs(x)))

    assert slant(15.0) > slant(-10.0) + 8
    turned = Body(heart_axis_deg=20.0, mediastinum=1.5)
    vertebrae = torch.tensor([[20.0, -75.0, z] for z in (-60.0, 0.0, 60.0)])
    moved = to_ct(vertebrae, anatomy, turned) - to_ct(vertebrae, anatomy, Body())
    assert moved.abs().max() < 1


def test_a_mediastinum_widens_above_the_heart(anatomy):
    widths = []
    for mediastinum in (1.0, 1.5):
        rays = sample(anatomy, Body(mediastinum=mediastinum), "PA", SIZE)
        between_lungs = rays.lung_mm[30, SIZE // 4 : -SIZE // 4] < 100
        widths.append(between_lungs.sum().item())
    assert widths[1] > widths[0] + 1


def test_a_neck_has_air_beside_it_and_arms_hang_or_are_raised(anatomy):
    bare = sample(anatomy, Body(), "PA", SIZE)
    body = Body(frame=Frame(arm_mm=0.0, slope_mm=15.0))
    neck = sample(anatomy, body, "PA", SIZE)
    assert torch.equal(bare.lung_mm, neck.lung_mm)
    top = neck.paths.soft[2]
    assert top[SIZE // 2] > 5
    assert top[[3, -4]].max() < 0.5
    assert bare.paths.soft[2, 3] > 5  # the mirrored shoulders
    small = Body(scale=(0.8, 0.8, 0.8))
    for degrees, row in ((10.0, 50), (165.0, 3)):
        framed = replace(small, frame=Frame(arms_deg=(degrees, degrees)))
        bald = replace(small, frame=Frame(arm_mm=0.0))
        rays = [sample(anatomy, b, "PA", SIZE).paths for b in (framed, bald)]
        added = (rays[0].bone - rays[1].bone)[row]
        assert added[: SIZE // 3].max() > 0.5
        assert added[-SIZE // 3 :].max() > 0.5
        assert added[SIZE // 3 : -SIZE // 3].abs().max() < 1e-5


def test_children_are_children_in_age_and_proportion(patients, anatomy):
    kinds = [patient.age_years < 9 for patient in patients]
    assert 0.1 < np.mean(kinds) < 0.4
    hearts = {True: [], False: []}
    for patient, is_child in zip(patients, kinds, strict=True):
        body = replace(patient.body, heart=1.0)
        hearts[is_child].append(heart_ratio(sample(anatomy, body, "PA", SIZE)))
        if is_child:
            assert patient.body.breast_mm == 0
    assert np.mean(hearts[True]) > np.mean(hearts[False]) + 0.02


def test_a_turned_dial_gives_its_share_of_each_build(anatomy):
    few = [drawn(k, anatomy, builds=0.2) for k in range(80)]
    children = np.mean([patient.age_years < 20 for patient in few])
    assert children < 0.2 * KINDS["child"] + 3 * np.sqrt(0.05 * 0.95 / 80)
    assert sum(KINDS.values()) <= 1


def test_a_cohort_of_builds_keeps_its_labels_true():
    dials = Dials(builds=1.0)
    rows = [r for _, r in rw.simulate.stream(80, seed=2, size=SIZE, dials=dials)]
    large = np.array([row["Cardiomegaly"] for row in rows])
    ratio = np.array([row["cardiothoracic_ratio"] for row in rows])
    assert rw.stats.auroc(large, ratio) > 0.85


def test_an_even_pneumothorax_leaves_the_border_of_the_heart_alone(anatomy):
    """What is dense borders on the heart or the wall, and is no lung to be emptied."""
    air = Finding("Pneumothorax", 0.5, "left")
    changed = {}
    emptied = {}
    for even in (False, True):
        lungs = Lungs(sample(anatomy, Body(even=even), "PA", SIZE))
        is_rim = lungs.density > 0.75
        change = pneumothorax(lungs, air, lungs.density) - lungs.density
        changed[even] = change.abs()[is_rim & (lungs.depth > 20)].mean().item()
        emptied[even] = change[is_rim].min().item()
        assert change.min() < -0.1  # air where there was lung
    assert emptied[False] < -0.5
    assert emptied[True] > -0.2
    assert changed[True] < 0.2 * changed[False]


def test_an_even_texture_is_as_strong_but_of_no_one_direction(anatomy):
    spreads = {}
    striped = {}
    for even in (False, True):
        lungs = Lungs(sample(anatomy, Body(even=even), "PA", SIZE))
        textures = []
        stripes = []
        for seed in range(12):
            haze = Finding("Lung Opacity", 0.5, "left", texture=seed)
            textures.append(lungs.texture(haze, 40))
            seen = lungs.project(textures[-1])[16:48, 16:48].numpy()
            power = np.abs(np.fft.fft2(seen - seen.mean())) ** 2
            stripes.append(power.max() / power.sum())
        spreads[even] = torch.stack(textures).std().item()
        striped[even] = np.mean(stripes)
    assert spreads[True] == pytest.approx(spreads[False], rel=0.1)
    assert striped[True] < striped[False]
