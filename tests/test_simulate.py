"""The simulator against hand-computed slabs and spheres, planted truth and its own words."""

import re

import numpy as np
import pytest
import torch

import radwb as rw
from radwb.simulate import Anatomy, Body, Finding
from radwb.simulate.anatomy import FIELD_MM
from radwb.simulate.findings import plant
from radwb.simulate.project import BEAM_Z_MM, MU_WATER, SOURCE_MM, line_integral, sample
from radwb.simulate.words import report

SIZE = 64


@pytest.fixture(scope="module")
def anatomy():
    return rw.simulate.default_anatomy(FIELD_MM / SIZE)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return rw.simulate.cohort(n=40, seed=3, size=SIZE)


def phantom(hu):
    """An `Anatomy` of one density map (Z, Y, X) on a 2 mm grid; no lungs, no heart."""
    hu = torch.as_tensor(hu, dtype=torch.float32)
    return Anatomy(torch.stack((hu, torch.zeros_like(hu), torch.zeros_like(hu))), np.zeros(hu.shape, np.int16), 2.0,
                   np.zeros(3), {"right": (-100.0, 100.0), "left": (-100.0, 100.0)})


def grid(shape=(160, 120, 160)):
    """Voxel centres (z, y, x) in mm of a phantom."""
    return np.meshgrid(*((np.arange(n) + 0.5 - n / 2) * 2.0 for n in shape), indexing="ij")


def test_water_slab_attenuates_by_beer_lambert_along_the_slant():
    _, y, _ = grid()
    slab = phantom(np.where(np.abs(y) < 50, 0.0, -1000.0))
    got = line_integral(sample(slab, Body(), "PA", SIZE)).numpy()
    pixel = FIELD_MM / SIZE * (np.arange(SIZE) + 0.5 - SIZE / 2)
    middle = SOURCE_MM["PA"] - 40 - 120
    slant = np.sqrt(1 + (pixel[:, None] ** 2 + pixel[None] ** 2) / middle**2)
    inside = (slice(12, 52), slice(12, 52))  # rays that stay within the phantom
    np.testing.assert_allclose(got[inside], (MU_WATER * 100 * slant)[inside], rtol=0.01)


def test_bone_slab_attenuates_more_than_water_by_the_stated_law():
    _, y, _ = grid()
    got = line_integral(sample(phantom(np.where(np.abs(y) < 50, 1000.0, -1000.0)), Body(), "PA", SIZE))[32, 32]
    assert float(got) == pytest.approx(MU_WATER * 100 * (2 + 0.35 * 0.85), rel=0.01)


def test_sphere_casts_its_chord():
    z, y, x = grid()
    r = np.sqrt((z - BEAM_Z_MM) ** 2 + y**2 + x**2)
    ball = phantom(-1000 + 1000 * np.clip((40 - r) / 2 + 0.5, 0, 1))
    got = line_integral(sample(ball, Body(), "PA", 160)).numpy()
    offset = FIELD_MM / 160 * (np.arange(160) + 0.5 - 80)
    chord = 2 * np.sqrt(np.clip(40**2 - offset[None] ** 2 - offset[:, None] ** 2, 0, None))
    assert got.sum() == pytest.approx(MU_WATER * chord.sum(), rel=0.01)
    np.testing.assert_allclose(got[78:82, 78:82], MU_WATER * chord[78:82, 78:82], rtol=0.01)


def test_what_lies_nearer_to_the_source_is_magnified_more():
    z, y, x = grid()
    front = phantom(np.where((np.abs(y - 90) < 10) & (np.abs(x) < 60) & (np.abs(z - BEAM_Z_MM) < 30), 0.0, -1000.0))
    width = {v: int((line_integral(sample(front, Body(), v, 160))[80] > 0.1).sum()) for v in ("PA", "AP")}
    pixel = FIELD_MM / 160
    # source to the middle plane: 1830 - 40 - 120 and 1150 - 60 - 120 mm; the block lies 90 mm before or behind it
    expected = {"PA": 120 / pixel * 1670 / 1760, "AP": 120 / pixel * 970 / 880}
    assert width["PA"] == pytest.approx(expected["PA"], abs=2)
    assert width["AP"] == pytest.approx(expected["AP"], abs=2)


@pytest.mark.parametrize(("side", "columns"), [("right", slice(0, SIZE // 2)), ("left", slice(SIZE // 2, SIZE))])
@pytest.mark.parametrize("name", ["Pleural Effusion", "Pneumothorax"])
def test_a_finding_lies_on_its_side_with_the_patients_right_on_the_left_of_the_picture(anatomy, name, side, columns):
    rays = sample(anatomy, Body(), "PA", SIZE)
    change, truth = plant(rays, anatomy, [Finding(name, 0.5, side)])
    assert truth[name].sum() > 20
    assert truth[name][:, columns].sum() > 0.95 * truth[name].sum()
    sign = 1 if name == "Pleural Effusion" else -1
    assert (sign * change.numpy()[truth[name]] > 0).mean() > 0.95


def test_fluid_lies_low_and_air_lies_high(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    _, truth = plant(rays, anatomy, [Finding("Pleural Effusion", 0.3, "left"), Finding("Pneumothorax", 0.3, "left")])
    rows = {k: np.nonzero(v)[0].mean() for k, v in truth.items()}
    assert rows["Pneumothorax"] + 8 < rows["Pleural Effusion"]


def test_a_finding_grows_with_severity(anatomy):
    rays = sample(anatomy, Body(), "PA", SIZE)
    for name in ("Pleural Effusion", "Pneumothorax"):
        area = [plant(rays, anatomy, [Finding(name, s, "right")])[1][name].sum() for s in (0.0, 0.5, 1.0)]
        assert area[0] < area[1] < area[2]


def test_the_lesion_is_where_it_was_put(anatomy):
    centre = (-80.0, 0.0, 60.0)  # right lung
    scan = rw.simulate.render([Finding("Lung Lesion", 1.0, "right", centre, "right upper lobe")], size=SIZE)
    rows, cols = np.nonzero(scan.truth["Lung Lesion"])
    expected = np.array([SIZE / 2 - (60 - BEAM_Z_MM) / (FIELD_MM / SIZE), SIZE / 2 - 80 / (FIELD_MM / SIZE)])
    assert np.abs(np.array([rows.mean(), cols.mean()]) - expected).max() < 0.05 * SIZE  # a film is placed by hand


def test_an_enlarged_heart_widens_the_cardiothoracic_ratio(anatomy):
    def width(heart):
        return int(((sample(anatomy, Body(heart=heart), "PA", SIZE).heart.sum(0) > 1).any(0)).sum())

    assert width(1.5) > 1.15 * width(1.0)


def test_visibility_zero_hides_the_finding_and_empties_its_mask():
    fluid = [Finding("Pleural Effusion", 0.8, "left")]
    dials = ((fluid, 1), (fluid, 0), ((), 1))
    seen, hidden, without = (rw.simulate.render(f, size=SIZE, visibility=v) for f, v in dials)
    assert not hidden.truth["Pleural Effusion"].any()
    np.testing.assert_array_equal(hidden.pixels, without.pixels)
    assert np.abs(seen.pixels - without.pixels).max() > 0.2


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(tmp_path):
    from radwb.simulate.cohort import _simulate

    anatomy = rw.simulate.default_anatomy(FIELD_MM / SIZE)
    for workers in (1, 3):
        _simulate(tmp_path / str(workers), 10, 5, SIZE, 1.0, workers, anatomy)
    files = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "3").iterdir())
    assert len(files) > 12
    assert all((tmp_path / "1" / f).read_bytes() == (tmp_path / "3" / f).read_bytes() for f in files)


def test_cohort_keeps_the_schema_and_patients_apart(table):
    rw.data.check_table(table, needs=("report", "split", "site", "sex", "age_years", "view"))
    assert len(table) == 40
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert table.groupby("patient_id").size().between(1, 3).all()
    assert set(table["view"]) <= {"PA", "AP"}


def test_truth_masks_belong_to_the_positives(table):
    for _, row in table.iterrows():
        present = {name for name in rw.simulate.PLANTED if row[name] == 1}
        assert set(rw.data.scan_of(row).truth) == present


def test_the_report_names_what_was_planted_and_denies_only_what_was_not(table):
    words = {"Cardiomegaly": r"enlarged|cardiomegaly", "Pleural Effusion": "effusion", "Pneumothorax": "pneumothorax",
             "Lung Lesion": r"mass\b|nodule"}
    for _, row in table.iterrows():
        sentences = re.split(r"(?<=\.)\s+", row["report"].lower())
        for name, pattern in words.items():
            about = [s for s in sentences if re.search(pattern, s)]
            denied = [s for s in about if re.search(r"\bno\b", s)]
            if row[name] == 1:
                assert about
                assert not denied
            else:
                assert about == denied


def test_severity_and_side_are_in_the_words():
    text = report([Finding("Pleural Effusion", 0.9, "left")], np.random.default_rng(0))
    assert "large" in text.lower()
    assert "left" in text
    assert "right" not in text


def test_a_hedge_is_worded_as_uncertain_and_only_for_the_smallest():
    rng = np.random.default_rng(0)
    small = [report([Finding("Pneumothorax", 0.1, "left")], rng, hedge=1.0) for _ in range(5)]
    large = [report([Finding("Pneumothorax", 0.9, "left")], rng, hedge=1.0) for _ in range(5)]
    assert all(re.search("Possible|Questionable", t) for t in small)
    assert not any(re.search("Possible|Questionable", t) for t in large)


def test_another_ct_without_lung_lobes_is_refused():
    with pytest.raises(ValueError, match="left upper lobe"):
        rw.simulate.from_arrays(np.zeros((20, 20, 20)), np.zeros((20, 20, 20), int), (1, 1, 1), 2.0)
