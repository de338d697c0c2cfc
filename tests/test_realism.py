"""Realism against scipy and spectra known by construction.

Masks drawn by hand, and copies whose gap is known.
"""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from tables import films_table

from radwb.data.read import write_truth
from radwb.simulate.measures import equalise, nearest, slope, spectrum
from radwb.simulate.ratios import RATIOS, add_ratios, anatomy_ratios
from radwb.simulate.realism import realism

SIDE = 32


def textures(n, rng, exponent=-2.0, side=SIDE):
    """(n, side, side) Gaussian fields with power ~ frequency ** exponent, mean 0,
    standard deviation 1.
    """
    f = np.hypot(
        np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)
    )
    f[0, 0] = 1
    shaped = np.fft.irfft2(
        np.fft.rfft2(rng.normal(size=(n, side, side))) * f ** (exponent / 2),
        s=(side, side),
    )
    shaped -= shaped.mean((1, 2), keepdims=True)
    return shaped / shaped.std((1, 2), keepdims=True)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Tables of the same 60 images of 30 patients: itself, a copy, one 40 grey values
    brighter, one with a new curve.

    All share a bright middle, and a patient's two images are nearly the same.
    """
    rng = np.random.default_rng(0)
    middle = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    texture = np.repeat(textures(30, rng), 2, axis=0) + 0.2 * textures(60, rng)
    pixels = np.clip(texture * 8 + 50 * middle + 70, 0, 150).astype(np.uint8)
    folder = tmp_path_factory.mktemp("films")
    patients = [f"p{n // 2}" for n in range(60)]
    ratio = rng.normal(0.5, 0.05, 60)
    plain = {"patient_id": patients, "cardiothoracic_ratio": ratio}
    larger = {"patient_id": patients, "cardiothoracic_ratio": ratio + 0.1}
    curved = np.where(pixels < 90, pixels, pixels + 100).astype(np.uint8)
    return (
        films_table(folder / "a", pixels, **plain),
        films_table(folder / "b", pixels, **plain),
        films_table(folder / "c", pixels + np.uint8(40), **larger),
        films_table(folder / "d", curved, patient_id=patients),
    )


@pytest.fixture(scope="module")
def same(sides):
    return realism(sides[0], sides[1], size=SIDE, n_boot=50)


@pytest.fixture(scope="module")
def brighter(sides):
    return realism(sides[2], sides[0], size=SIDE, n_boot=50)


def row(result, measure):
    return result.summary.set_index("measure").loc[measure]


def test_a_table_against_its_copy_has_no_gap(same):
    apart = same.summary.measure.str.startswith("AUROC")
    assert same.summary.gap[~apart].to_numpy() == pytest.approx(0, abs=1e-6)
    assert (
        same.summary.gap[apart & ~same.summary.measure.str.contains("real against")]
        .between(0.4, 0.6)
        .all()
    )
    inside = same.summary[~same.summary.measure.str.contains("distance|Smirnov|AUROC")]
    assert ((inside.low < 0) & (inside.high > 0)).all()
    assert (same.histograms.virtual == same.histograms.real).all()


def test_brightness_gives_it_away_and_equalisation_takes_it_back(brighter):
    auroc = row(brighter, "AUROC, grey values and spectrum")
    assert auroc.gap == 1
    assert (
        0.8 < auroc.low < 1
    )  # 30 patients without an error: Wilson's interval has a width
    assert 0.4 < row(brighter, "AUROC, spectrum, equalised").gap < 0.6
    assert 0.4 < row(brighter, "AUROC, small pixels, equalised").gap < 0.6


def test_equalisation_takes_a_curve_out_of_small_pixels(sides):
    curved = realism(sides[3], sides[0], size=SIDE, n_boot=20)
    assert row(curved, "AUROC, small pixels").gap > 0.9
    assert 0.4 < row(curved, "AUROC, small pixels, equalised").gap < 0.6


def test_the_control_is_chance_and_knows_nothing_of_virtual_images(same, brighter):
    for name in ("grey values and spectrum", "small pixels"):
        control = row(same, f"AUROC, {name}, real against real")
        assert 0.4 < control.gap < 0.6
        assert control.low < 0.5 < control.high
        assert control.equals(row(brighter, f"AUROC, {name}, real against real"))
        assert (control.n_virtual, control.n_real) == (0, 60)


def test_a_shift_of_40_greys_is_a_distance_of_40(brighter):
    grey = row(brighter, "grey values, Wasserstein distance")
    assert grey.gap == pytest.approx(40 / 255, abs=1e-9)
    assert grey.low <= grey.gap <= grey.high
    assert row(brighter, "grey value, mean").gap == pytest.approx(40 / 255, abs=1e-9)
    assert row(brighter, "power spectrum, slope").gap == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def halves(sides):
    """Dark images against other, brighter ones: (virtual, real, what realism says)."""
    dark = sides[0].iloc[:30]
    bright = sides[2].iloc[30:]
    return dark, bright, realism(dark, bright, size=SIDE, n_boot=20)


def test_distances_are_scipys(halves):
    dark, bright, result = halves
    greys = [
        np.concatenate([np.asarray(Image.open(p)).ravel() for p in t.path]) / 255
        for t in (dark, bright)
    ]
    assert row(result, "grey values, Wasserstein distance").gap == pytest.approx(
        stats.wasserstein_distance(*greys)
    )
    ks = row(result, "cardiothoracic_ratio, Kolmogorov-Smirnov")
    assert (
        ks.gap
        == stats.ks_2samp(
            dark.cardiothoracic_ratio, bright.cardiothoracic_ratio
        ).statistic
    )
    assert row(result, "cardiothoracic_ratio, sd").virtual == pytest.approx(
        dark.cardiothoracic_ratio.std(ddof=0)
    )


def test_octaves_are_means_over_their_cycles(halves):
    power = halves[2].spectra.set_index("cycles")
    for low in (2, 4, 8):
        measured = row(halves[2], f"power at {low}-{2 * low} cycles, dB")
        assert measured[["virtual", "real"]].tolist() == pytest.approx(
            power.loc[low : 2 * low - 1].mean()
        )
    assert halves[2].histograms[["virtual", "real"]].sum().tolist() == pytest.approx(
        [1, 1]
    )


def test_intervals_resample_patients_not_images(sides):
    """Twice the images of the same patients tell no more about their mean: the interval
    keeps its width.
    """
    value = np.repeat(np.random.default_rng(1).normal(size=30), 2)
    tables = [t.assign(lung_area=value + k) for k, t in enumerate(sides[:2])]
    wide = row(realism(*tables, size=SIDE, n_boot=120), "lung_area, mean")
    expected = 2 * 1.96 * np.sqrt(2 * value.var() / 30)
    assert wide.high - wide.low == pytest.approx(
        expected, rel=0.2
    )  # over images it would be 0.71 of that


def test_white_noise_is_flat_and_pink_noise_falls_by_two():
    rng = np.random.default_rng(2)
    white = spectrum(rng.normal(0, 0.1, (40, 64, 64)))
    assert white.mean() == pytest.approx(
        10 * np.log10(0.01), abs=0.2
    )  # power a pixel = variance
    assert slope(white).mean() == pytest.approx(0, abs=0.08)
    assert slope(spectrum(textures(40, rng, -2.0, 64))).mean() == pytest.approx(
        -2, abs=0.1
    )


def test_a_wave_lies_at_its_frequency_whatever_the_mean():
    wave = np.broadcast_to(np.sin(2 * np.pi * 8 * np.arange(64) / 64), (64, 64))
    assert spectrum(wave[None])[0].argmax() == 7  # column 0 is 1 cycle a side
    assert spectrum(wave[None] + 5) == pytest.approx(spectrum(wave[None]), abs=1e-3)


def test_no_monotone_curve_changes_an_equalised_image():
    pixels = np.random.default_rng(3).integers(0, 15, (2, SIDE, SIDE)).astype(np.uint8)
    assert (equalise(pixels) == equalise(pixels**2)).all()
    by_scipy = (stats.rankdata(pixels[0]) - 0.5) / pixels[0].size
    assert equalise(pixels)[0].ravel() == pytest.approx(by_scipy.ravel(), abs=1e-6)


def test_a_patient_that_stands_twice_has_a_neighbour_of_one():
    pixels = textures(6, np.random.default_rng(4), 0.0)
    pixels[5] = 3 * pixels[0] + 2
    likeness = nearest(pixels, np.array(list("aabcde")))
    assert likeness[[0, 5]] == pytest.approx(1, abs=1e-4)
    assert (likeness[1:5] < 0.2).all()
    assert (
        nearest(pixels, np.array(list("abcdea"))) < 0.2
    ).all()  # one patient's own films don't count
    r = np.corrcoef(pixels.reshape(6, -1))
    assert likeness[2] == pytest.approx(r[2][[0, 1, 3, 4, 5]].max(), abs=1e-4)


def chest():
    """Lungs 10 to 29 and 50 to 89 across, 20 to 69 down; a heart from 25 to 64: 40 over
    80.
    """
    lungs, heart = np.zeros((2, 100, 120), bool)
    lungs[20:70, 10:30] = lungs[20:70, 50:90] = True
    heart[50:60, 35:65] = heart[60:65, 25:50] = True
    return lungs, heart


def test_ratios_of_a_chest_drawn_by_hand():
    ratios = anatomy_ratios(*chest())
    assert tuple(ratios) == RATIOS
    assert list(ratios.values()) == pytest.approx(
        [40 / 80, 3000 / 12000, 3000 / 4000, 50 / 80]
    )
    lungs, heart = (np.kron(mask, np.ones((3, 3))) > 0 for mask in chest())
    assert anatomy_ratios(lungs, heart) == pytest.approx(ratios)


def test_a_wider_row_of_lung_counts_not_the_box():
    lungs, heart = chest()
    lungs[20:70, 10:30] = False
    lungs[20:40, 5:30] = True
    lungs[40:70, 25:30] = True
    lungs[20:40, 80:90] = (
        False  # the widest row runs from 5 to 79, the others from 25 to 89
    )
    assert anatomy_ratios(lungs, heart)["cardiothoracic_ratio"] == pytest.approx(
        40 / 75
    )


def test_absent_masks_are_nan():
    lungs, heart = chest()
    alone = anatomy_ratios(lungs)
    assert np.isnan(alone.pop("cardiothoracic_ratio"))
    assert np.isfinite(list(alone.values())).all()
    assert np.isnan(list(anatomy_ratios(lungs & False, heart).values())).all()
    with pytest.raises(
        ValueError,
        match=r"heart mask of the lungs' shape \(100, 120\), got \(100, 119\)",
    ):
        anatomy_ratios(lungs, heart[:, 1:])


def test_ratios_of_a_table_come_from_its_masks(tmp_path):
    lungs, heart = chest()
    black = np.zeros((4, 100, 120), np.uint8)
    table = films_table(tmp_path / "images", black, patient_id=list("abcd"))
    write_truth({"lungs": lungs, "heart": heart}, tmp_path / "both.truth.png")
    write_truth({"lungs": lungs}, tmp_path / "lungs.truth.png")
    Image.fromarray(heart).save(tmp_path / "drawn.png")
    table["truth_path"] = [
        str(tmp_path / "both.truth.png"),
        *[str(tmp_path / "lungs.truth.png")] * 2,
        None,
    ]
    table["mask_cardiomediastinum"] = [None, "drawn.png", None, None]
    measured = add_ratios(table.set_index(pd.Index([5, 6, 7, 8])))
    assert measured.cardiothoracic_ratio.tolist() == pytest.approx(
        [0.5, 0.5, np.nan, np.nan], nan_ok=True
    )
    assert measured.lung_area.tolist() == pytest.approx(
        [0.25, 0.25, 0.25, np.nan], nan_ok=True
    )
    one = add_ratios(
        table.assign(mask_left_lung=["x"] * 4, mask_right_lung=["x", None, "x", "x"])
    )
    assert one.lung_area.notna().tolist() == [
        True,
        False,
        True,
        False,
    ]  # one lung alone has no thorax


def test_it_prints_what_it_found(brighter):
    text = str(brighter)
    assert text.startswith(
        "60 virtual images of 30 patients against 60 real images of 30 patients, "
        "32 x 32 px"
    )
    assert all(measure in text for measure in brighter.summary.measure)
    assert "0.157" in text  # 40 / 255
    assert "as they are" in text
    assert "one CT" not in text  # both sides resemble themselves alike
    assert (brighter.summary[["n_virtual", "n_real"]].iloc[:4] == 60).all(axis=None)


def test_it_refuses_what_it_cannot_compare(sides):
    with pytest.raises(
        ValueError,
        match="expected 16 virtual images of 10 patients or more, got 12 of 6. Try",
    ):
        realism(sides[0].iloc[:12], sides[1], size=SIDE)
    with pytest.raises(
        ValueError, match="real images of 10 patients or more, got 60 of 1. Try"
    ):
        realism(sides[0], sides[1].assign(patient_id="one"), size=SIDE)
    with pytest.raises(
        ValueError, match="expected different images, got 60 on both sides"
    ):
        realism(sides[0], sides[0], size=SIDE)
    with pytest.raises(ValueError, match="expected a size of 32, 48, ... px, got 40"):
        realism(sides[0], sides[1], size=40)
