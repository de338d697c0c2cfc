"""Claims about corruptions: further spoilt is further away, and a cost is a cost."""

import re

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast
from PIL import Image
from scipy.ndimage import gaussian_filter
from tables import films_table

from radwb import data, fail, models, probe
from radwb.fail.corrupt import LINES, scored

KINDS = list(fail.CORRUPTIONS)


class Brightness(torch.nn.Module):
    """A model whose answer is the mean grey of a film."""

    def encode_image(self, x):
        return x.mean((2, 3)).repeat(1, 2)

    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def films():
    """Twelve films with all greys, soft outlines and some fine detail."""
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.normal(size=(12, 128, 128)), (0, 5, 5))
    noise += 0.2 * gaussian_filter(rng.normal(size=(12, 128, 128)), (0, 1, 1))
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    return np.uint8(255 * (noise - low) / (high - low))


@pytest.fixture
def model():
    grey = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
    about = {"size": 32, "fit": "pad", "grid": (2, 2), "findings": ["Edema"]}
    return models.Model(Brightness(), "brightness", "image", **grey, **about)


@pytest.fixture
def bright_and_ill(tmp_path):
    """40 films of 20 patients; the ill half is brighter."""
    rng = np.random.default_rng(0)
    ill = np.arange(40) % 2
    grey = 90 + 30 * ill + rng.normal(0, 15, 40)
    pixels = np.uint8(grey[:, None, None] + rng.normal(0, 4, (40, 32, 32)))
    owners = [f"p{film // 2}" for film in range(40)]
    return films_table(tmp_path / "films", pixels, patient_id=owners, Edema=ill)


@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_is_further_from_the_film(kind, films):
    if kind == "inverted":  # its severities are shares of the films
        films = np.tile(films, (5, 1, 1))
    distances = []
    for severity in range(6):
        spoilt = fail.corrupt(films, kind, severity)
        assert spoilt.shape == films.shape
        assert spoilt.dtype == np.uint8
        distances.append(np.abs(spoilt.astype(float) - films).mean())
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_is_spoilt_alike_whoever_stands_behind_it(kind, films):
    among_all = fail.corrupt(films, kind, 3, seed=4)
    np.testing.assert_array_equal(
        fail.corrupt(films[:2], kind, 3, seed=4), among_all[:2]
    )


def test_the_noise_is_that_of_counted_photons():
    for grey in (0.0, 0.5, 1.0):
        flat = np.full((1, 256, 256), round(255 * grey), np.uint8)
        noisy = fail.corrupt(flat, "noise", 1)[0] / 255
        photons = 3000 * np.exp(-3 * round(255 * grey) / 255)
        if 0 < grey < 1:  # a black and a white film are cut
            assert noisy.std() == pytest.approx(1 / np.sqrt(photons) / 3, rel=0.05)
        assert noisy.mean() == pytest.approx(grey, abs=0.02)


def test_gamma_is_monais(films):
    full = films[:1]
    ours = fail.corrupt(full, "gamma", 2)
    either = []
    for gamma in (1.45, 1 / 1.45):
        reference = AdjustContrast(gamma)(torch.tensor(full / 255))
        either.append(np.abs(255 * reference.numpy() - ours).max())
    assert min(either) < 1  # one of the two ways, to a grey level


def test_inverted_is_exact_and_a_share_of_the_films(films):
    many = np.repeat(films, 50, axis=0)
    np.testing.assert_array_equal(fail.corrupt(many, "inverted", 5), 255 - many)
    turned = fail.corrupt(many, "inverted", 2) != many
    assert turned.any((1, 2)).mean() == pytest.approx(0.25, abs=0.05)


def test_shutters_are_black_and_leave_the_rest(films):
    bright = np.maximum(films, 1)
    shut = fail.corrupt(bright, "collimation", 4)
    closed = shut == 0
    np.testing.assert_array_equal(shut[~closed], bright[~closed])
    assert closed[:, [0, -1]].all()
    assert closed[:, :, [0, -1]].all()
    assert not closed[:, 64, 64].any()


def test_grid_lines_have_one_frequency():
    flat = np.full((8, 64, 64), 128, np.uint8)
    for film in fail.corrupt(flat, "grid", 3):
        wave = film[0] if film[0].std() > 0 else film[:, 0]
        power = np.abs(np.fft.rfft(wave - wave.mean()))
        assert 0.2 <= power.argmax() / 64 <= 0.47


def test_burnt_in_words_name_no_finding_side_or_view():
    words = set(re.findall("[A-Z]+", " ".join(LINES)))
    named = {word.upper() for name in data.table.FINDINGS for word in name.split()}
    assert not words & (named | {"R", "L", "LEFT", "RIGHT", "AP", "PA", "PORTABLE"})


@pytest.mark.parametrize(
    ("images", "kind", "severity"),
    [
        (np.zeros((0, 8, 8), np.uint8), "blur", 1),
        (np.zeros((2, 8, 8), np.float32), "blur", 1),
        (np.zeros((8, 8), np.uint8), "blur", 1),
        (np.zeros((2, 8, 9), np.uint8), "blur", 1),
        (np.zeros((2, 8, 8), np.uint8), "blur", 6),
        (np.zeros((2, 8, 8), np.uint8), "blur", 2.5),
        (np.zeros((2, 8, 8), np.uint8), "fog", 1),
    ],
)
def test_what_cannot_be_spoilt_says_what_was_expected(images, kind, severity):
    with pytest.raises(ValueError, match="expected"):
        fail.corrupt(images, kind, severity)


@pytest.mark.parametrize("kind", KINDS)
def test_one_small_film_can_be_spoilt(kind):
    film = np.full((1, 16, 16), 90, np.uint8)
    assert fail.corrupt(film, kind, 5).shape == (1, 16, 16)


def test_a_cost_is_found_where_there_is_one(model, bright_and_ill):
    kinds = ["inverted", "compression"]
    result = fail.robustness(model, bright_and_ill, kinds=kinds)
    clean = result.clean.mean_auroc()["auroc"].item()
    by_cell = result.table.set_index(["kind", "severity"])
    # a model of brightness turns round with the greys, and doesn't mind JPEG
    assert by_cell.loc[("inverted", 5), "auroc"] == pytest.approx(1 - clean)
    inverted, compression = result.evidence()
    assert inverted.verdict == "failure"
    assert inverted.high < 0
    assert compression.verdict != "failure"
    assert abs(inverted.control) < 0.05
    mean = by_cell.loc["inverted", "difference"].mean()
    assert inverted.value == pytest.approx(mean)


def test_films_at_hand_are_scored_as_the_table_would_be(model, bright_and_ill):
    images = data.images(bright_and_ill, model.size, fit=model.fit)
    ours = scored(model, images, bright_and_ill, ["Edema"])
    theirs = probe.classify(model, bright_and_ill)
    np.testing.assert_allclose(ours.values, theirs.values, atol=5e-3)  # bf16


def test_one_class_is_refused_and_one_patient_gets_no_interval(model, bright_and_ill):
    well = bright_and_ill[bright_and_ill["Edema"] == 0]
    with pytest.raises(ValueError, match="with and without Edema, got 20 of one kind"):
        fail.robustness(model, well)
    one = bright_and_ill.assign(patient_id="p0")
    (evidence,) = fail.robustness(model, one, kinds=["blur"]).evidence()
    assert evidence.verdict == "can't tell"
    assert np.isnan(evidence.low)
    assert "no interval" in evidence.sentence


def test_a_constant_score_has_half_an_auroc_and_no_cost(model, bright_and_ill):
    grey = np.full((32, 32), 99, np.uint8)
    for path in bright_and_ill["path"]:
        Image.fromarray(grey).save(path)
    result = fail.robustness(model, bright_and_ill, kinds=["blur"], severities=[5])
    assert result.table["auroc"].item() == 0.5
    assert result.evidence()[0].verdict == "can't tell"


def test_a_breath_moves_the_chest_along_its_length():
    """Stripes from head to foot stay as they are, those across run together."""
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, :, ::2] = 255
    np.testing.assert_array_equal(fail.corrupt(stripes, "motion", 5), stripes)
    across = stripes.transpose(0, 2, 1)
    moved = fail.corrupt(across, "motion", 5)
    assert moved[:, 8:-8].std() < 0.2 * across.std()


def test_a_blur_is_as_wide_on_a_large_film(films):
    """An edge runs over the same share of the film."""
    widths = []
    for side in (64, 256):
        edge = np.zeros((1, side, side), np.uint8)
        edge[:, :, side // 2 :] = 250
        row = fail.corrupt(edge, "blur", 5)[0, 0]
        widths.append(((row > 40) & (row < 210)).sum() / side)
    assert widths[0] == pytest.approx(widths[1], abs=0.02)


def test_a_window_keeps_as_many_greys_as_it_is_wide():
    ramp = np.linspace(0, 255, 1024).astype(np.uint8).reshape(1, 32, 32)
    for severity, width in enumerate(fail.CORRUPTIONS["window"].strengths, start=1):
        seen = fail.corrupt(ramp, "window", severity)
        kept = ((seen > 0) & (seen < 255)).mean()
        assert kept == pytest.approx(width, abs=0.02)


class LeftEdge(Brightness):
    """A model whose answer for either finding is the grey of the leftmost column."""

    def forward(self, x):
        return x[..., :1].mean((2, 3)).repeat(1, 2)


def test_rows_are_one_family_of_mean_aurocs_and_the_control_is_moved(bright_and_ill):
    rng = np.random.default_rng(1)
    table = bright_and_ill.assign(Pneumonia=rng.integers(0, 2, 40))
    names = ["Edema", "Pneumonia"]
    grey = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
    about = {"size": 32, "fit": "pad", "grid": (2, 2), "findings": names}
    model = models.Model(LeftEdge(), "left", "image", **grey, **about)
    result = fail.robustness(model, table, kinds=["gamma", "grid"], severities=[1, 5])
    for _, row in result.table.iterrows():
        scores = result.spoilt[row["kind"], row["severity"]]
        assert row["auroc"] == pytest.approx(scores.auroc()["auroc"].mean())
        expected = scores.against(result.clean, ("a", "b"), family=4)
        assert (row["low"], row["high"]) == (expected.low, expected.high)
    films = data.images(table, 32, fit="pad")
    moved = scored(model, np.roll(films, 1, axis=2), table, names)
    np.testing.assert_array_equal(result.moved.values, moved.values)
    assert (result.moved.values != result.clean.values).any(axis=None)
