"""Maps beside their controls: each control by hand.

Planted winners and losers, and what the sentence may say.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from scipy.stats import kstest

from radwb import attend, data, stats
from radwb.attend.controls import _other_patient_maps as other_patient_maps
from radwb.data import Scan

PATIENTS = np.repeat(np.arange(20), 2)  # two films each


def square(at, side=8, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    mask[at[0] : at[0] + side, at[1] : at[1] + side] = True
    return mask


@pytest.fixture
def films():
    """40 films of noise with a lesion that is no brighter than the rest, anywhere."""
    rng = np.random.default_rng(0)
    masks = [square(rng.integers(0, 32, 2)) for _ in PATIENTS]
    pixels = [attend.blind.random_map((40, 40), seed) for seed in range(len(masks))]
    pairs = zip(pixels, masks, strict=True)
    return [Scan(p.clip(0, 1), truth={"lesion": m}) for p, m in pairs]


def masks_of(films):
    return [film.truth["lesion"] for film in films]


# ---- the controls


def test_every_control_is_there_and_has_the_films_shape():
    films = [
        Scan(np.random.default_rng(0).random(s).astype(np.float32))
        for s in ((40, 30), (25, 60))
    ]
    lungs = [np.ones(film.shape, bool) for film in films]
    controls = attend.control_maps(films, organs=lungs, training_mask=np.eye(8))
    assert list(controls) == [
        "random",
        "centre",
        "edges",
        "brightness",
        "darkness",
        "organ",
        "training mask",
    ]
    assert all(
        [m.shape for m in maps] == [(40, 30), (25, 60)] for maps in controls.values()
    )
    assert list(attend.control_maps(films)) == [
        "random",
        "centre",
        "edges",
        "brightness",
        "darkness",
    ]


def test_brightness_is_the_film_and_darkness_its_negative():
    film = Scan(np.random.default_rng(1).random((60, 40)).astype(np.float32))
    controls = attend.control_maps([film])
    assert np.allclose(
        controls["brightness"][0], gaussian_filter(film.pixels, 3), atol=1e-6
    )
    bright, dark = controls["brightness"][0], controls["darkness"][0]
    assert np.corrcoef(bright.ravel(), dark.ravel())[0, 1] == pytest.approx(-1)
    assert dark.min() == 0


def test_controls_of_a_large_film_are_those_of_the_whole_film_in_less_time():
    small = attend.blind.random_map((80, 60), 3)
    big = Scan(np.kron(small, np.ones((8, 8), np.float32)))  # 640 x 480
    controls = attend.control_maps([big])
    whole = {
        "brightness": gaussian_filter(big.pixels, 32),
        "edges": gaussian_filter(gaussian_gradient_magnitude(big.pixels, 4), 32),
    }
    for name, want in whole.items():
        assert controls[name][0].shape == big.shape
        assert np.corrcoef(controls[name][0].ravel(), want.ravel())[0, 1] > 0.99
    peaks = [
        np.unravel_index(attend.blind.random_map((600, 600), seed).argmax(), (600, 600))
        for seed in range(300)
    ]
    assert np.abs(np.mean(peaks, axis=0) - 300).max() < 30  # standard error 10
    assert kstest(np.array(peaks)[:, 0] / 600, "uniform").pvalue > 0.01


def test_the_training_mask_is_the_mean_of_training_outlines_and_of_nothing_else(
    tmp_path,
):
    places = {"train": [(0, 0), (0, 8)], "test": [(30, 30)], "val": [(20, 0)]}
    rows = []
    for split, corners in places.items():
        for n, at in enumerate([*corners, None]):
            mask = np.zeros((40, 40), bool) if at is None else square(at)
            path = tmp_path / f"{split}{n}.png"
            data.write_png(
                Scan(np.zeros((40, 40), np.float32), truth={"Lung Lesion": mask}), path
            )
            rows.append(
                {
                    "path": str(path),
                    "patient_id": str(path),
                    "split": split,
                    "Lung Lesion": 1,
                }
            )
    usual = attend.mean_mask(pd.DataFrame(rows), "Lung Lesion", size=40)
    # the film that hides its lesion has no say
    want = (square((0, 0)) * 1.0 + square((0, 8))) / 2
    assert np.allclose(usual, want)
    only_hidden = pd.DataFrame(rows).iloc[[2]]
    with pytest.raises(
        ValueError, match="training films that show Lung Lesion, got 1 rows"
    ):
        attend.mean_mask(only_hidden, "Lung Lesion")


def test_another_patients_map_is_never_the_patients_own():
    maps = [np.full((4, 4), float(patient)) for patient in PATIENTS]
    other = other_patient_maps(maps, PATIENTS)
    assert all(
        m.shape == (4, 4) and m[0, 0] != patient
        for m, patient in zip(other, PATIENTS, strict=True)
    )
    ramp = np.linspace(0, 1, 9 * 4).reshape(9, 4)
    stretched = other_patient_maps([ramp, np.zeros((18, 8))], ["a", "b"])[1]
    assert stretched.shape == (18, 8)
    assert np.corrcoef(stretched[::2].mean(1), ramp.mean(1))[0, 1] > 0.99
    with pytest.raises(ValueError, match="at least two patients, got 1"):
        other_patient_maps(maps[:2], ["a", "a"])


# ---- the comparison


def test_a_map_of_the_truth_is_ahead_of_all_controls_and_says_so(films):
    masks = masks_of(films)
    position = np.mean(masks, axis=0)
    controls = attend.control_maps(films, training_mask=position)
    compared = attend.compare_maps({"oracle": masks}, controls, masks, groups=PATIENTS)
    assert (compared.verdicts().loc["oracle"] == "ahead").all()
    assert list(compared.verdicts()) == [*controls, "another patient's"]
    assert "oracle has 1.00: ahead of random, centre" in compared.says("oracle")
    assert "(hit; 40 films of 20 patients; of 7 comparisons)" in compared.says("oracle")
    assert "brightness alone" not in compared.says("oracle")
    assert compared.differences().loc["oracle", "centre"] == pytest.approx(
        1 - compared.table.loc["centre", "mean"]
    )


def test_a_map_that_draws_the_film_is_told_from_no_brightness(films):
    masks = masks_of(films)
    copies = [attend.brightness_map(film) for film in films]
    compared = attend.compare_maps(
        {"copy": copies}, attend.control_maps(films), masks, groups=PATIENTS
    )
    assert compared.verdicts().loc["copy", "brightness"] == "can't tell"
    same = compared.table.loc["brightness", "mean"]
    assert compared.says("copy").endswith(
        f"It is not shown to beat brightness alone, {same:.2f}."
    )
    negative = {"negative": attend.control_maps(films)["darkness"]}
    # a finding that is white
    white = [film.pixels > np.quantile(film.pixels, 0.9) for film in films]
    lost = attend.compare_maps(
        negative, attend.control_maps(films), white, groups=PATIENTS, score="energy"
    )
    assert "It is beaten by brightness alone, " in lost.says("negative")
    assert compared.comparisons["copy"]["brightness"].difference == 0


def test_a_map_that_knows_only_the_position_is_not_ahead_of_position():
    """All lesions lie in one corner: a method that always points there hits each, and
    so does the training mask.
    """
    masks = [square((2, 2))] * 40
    films = [
        Scan(attend.blind.random_map((40, 40), seed).clip(0, 1)) for seed in range(40)
    ]
    corner = [gaussian_filter(mask * 1.0, 2) for mask in masks]
    controls = attend.control_maps(films, training_mask=masks[0])
    compared = attend.compare_maps({"corner": corner}, controls, masks, groups=PATIENTS)
    verdicts = compared.verdicts().loc["corner"]
    assert verdicts["random"] == verdicts["centre"] == "ahead"
    assert verdicts["training mask"] == verdicts["another patient's"] == "can't tell"


def test_differences_are_paired_by_patient_and_held_to_the_whole_family(films):
    masks = masks_of(films)
    maps = [
        attend.blind.random_map(film.shape, 100 + i) + 0.2 * film.truth["lesion"]
        for i, film in enumerate(films)
    ]
    controls = attend.control_maps(films)
    compared = attend.compare_maps(
        {"a": maps}, controls, masks, groups=PATIENTS, score="energy", family=48
    )
    hits = (
        attend.score.score_each(maps, masks)["energy"],
        attend.score.score_each(controls["edges"], masks)["energy"],
    )
    want = stats.compare(
        *hits, PATIENTS, names=("a", "edges"), what="energy", family=48
    )
    assert compared.comparisons["a"]["edges"] == want
    assert compared.family == 48
    alone = attend.compare_maps(
        {"a": maps}, controls, masks, groups=PATIENTS, score="energy", family=1
    )
    assert alone.comparisons["a"]["edges"].low > want.low


def test_films_that_hide_their_lesion_are_left_out_and_counted(films):
    masks = masks_of(films)
    hiding = [mask & (i >= 5) for i, mask in enumerate(masks)]
    maps = {"oracle": [mask.astype(float) for mask in masks]}
    compared = attend.compare_maps(
        maps, attend.control_maps(films), hiding, groups=PATIENTS
    )
    assert compared.hidden == 5
    assert compared.table["n"].unique().tolist() == [35]
    assert "35 films of 18 patients; 5 that hide it left out" in compared.says("oracle")
    assert attend.score.score_maps(maps["oracle"], hiding, groups=PATIENTS)[
        ["n", "hidden"]
    ].loc["hit"].tolist() == [35, 5]
    by_size = attend.score.score_by_lesion(
        maps["oracle"], hiding, groups=PATIENTS, by=("area",), bins=1
    )
    assert by_size[["n", "hidden"]].iloc[0].tolist() == [35, 5]
    cut = attend.tune_threshold(maps["oracle"], hiding)
    assert cut == attend.tune_threshold(maps["oracle"][5:], hiding[5:])
    with pytest.raises(ValueError, match="got 40 empty ones"):
        attend.compare_maps(
            maps,
            attend.control_maps(films),
            [m & False for m in masks],
            groups=PATIENTS,
        )


def test_findings_are_pooled_from_the_points_and_thresholds_may_differ(films):
    masks = masks_of(films)
    maps = {"oracle": [mask * 2.0 for mask in masks]}
    controls = {"random": attend.control_maps(films)["random"]}
    how = dict(groups=PATIENTS, score="iou", threshold={"oracle": 1.0, "random": 0.0})
    one = attend.compare_maps(maps, controls, masks, **how)
    assert one.table.loc["oracle", "mean"] == 1
    assert one.table.loc["random", "mean"] == pytest.approx(64 / 1600)
    both = pd.concat([one.points, one.points])
    pooled = attend.controls.Compared.of(
        both, [*PATIENTS, *PATIENTS], methods=["oracle"], what="iou"
    )
    assert np.allclose(pooled.differences(), one.differences())
    others = other_patient_maps(maps["oracle"], PATIENTS)
    # cut as the method's own
    want = attend.score.score_maps(others, masks, groups=PATIENTS, threshold=1.0)
    assert one.table.loc["oracle, another patient's", "mean"] == want.loc["iou", "mean"]
    assert pooled.table.loc["oracle", "patients"] == 20


# ---- by zone


def test_zones_have_the_same_controls_and_a_white_lung_beats_no_brightness():
    """The graded disease is white: a map that copies the film ranks the zones, and so
    does brightness.
    """
    lungs = np.zeros((60, 60), bool)
    lungs[6:54, 4:26] = lungs[6:54, 34:56] = True
    rng = np.random.default_rng(0)
    grades = np.array([rng.permutation([0, 0, 1, 2, 3, 3]) for _ in PATIENTS])
    ill = [
        (attend.readers.lung_zones(lungs) * g[:, None, None]).sum(0) / 4 for g in grades
    ]
    films = [Scan(np.float32(p + 0.02 * rng.random(p.shape))) for p in ill]
    copies = [attend.brightness_map(film) for film in films]
    controls = attend.control_maps(films, organs=[lungs] * 40)
    compared = attend.compare_zones(
        {"copy": copies}, controls, [lungs] * 40, grades, groups=PATIENTS
    )
    assert compared.table.loc["copy", "mean"] > 0.8
    assert (
        compared.verdicts().loc["copy", ["random", "organ", "darkness"]].tolist()
        == ["ahead"] * 3
    )
    assert "It is not shown to beat brightness alone, " in compared.says("copy")
    # a constant map ranks nothing
    assert compared.table.loc["organ", ["mean", "low", "high"]].tolist() == [0, 0, 0]
