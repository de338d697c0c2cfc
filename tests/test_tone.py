"""A film's greys before a network sees them: alike in training and use, and kept."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from tables import noise_films, squares_table
from towers import film, tiny_clip

import radwb as rw
from radwb.models.tone import SHARE, TONES, equalised, local
from radwb.pretrain.diagnose import untrained
from radwb.probe.baselines import untrained as twins_of

pytestmark = pytest.mark.filterwarnings("ignore:.*patients are fewer")
SHAPE = {"width": 32, "heads": 2, "layers": 1, "embed": 32}
QUICK = {"size": 32, "batch": 16, "epochs": 1, "recipe": "supervised-tiny"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


def greys(n=5, side=32, below=256):
    pixels = torch.from_numpy(noise_films(n, below=below, side=side))
    return pixels[:, None].float() / 255


def test_equalised_is_the_rank_of_a_grey_above_the_darkest():
    x = greys(below=90)
    x[:, :, :7] = 0  # a border
    y = equalised(x)
    for one, other in zip(x[:, 0].numpy(), y[:, 0].numpy(), strict=True):
        darkest = (one == one.min()).sum()
        rank = rankdata(one, method="max") - darkest
        expected = rank / (one.size - darkest)
        np.testing.assert_allclose(other.ravel(), expected, atol=1e-6)


def test_equalised_of_a_case_by_hand():
    """OpenCV's formula: (counts up to here - those of the darkest) / (all - those)."""
    x = torch.tensor([[[[10, 10, 20], [20, 30, 40], [40, 40, 40]]]]) / 255
    expected = torch.tensor([[0, 0, 2], [2, 3, 7], [7, 7, 7]]) / 7
    assert torch.allclose(equalised(x)[0, 0], expected)
    assert equalised(torch.full((1, 1, 8, 8), 0.3)).max() == 0


def test_equalised_does_not_see_a_tone_curve():
    levels = torch.arange(0, 120)  # few enough to stay apart
    x = levels[torch.randint(120, (3, 1, 32, 32), generator=generator())] / 255
    curve = torch.cumsum(1 + torch.arange(120) % 3, 0).clamp(max=255)
    curved = curve[(x * 255).round().long()] / 255
    torch.testing.assert_close(equalised(curved), equalised(x))


def test_local_does_not_see_brightness_and_contrast_or_a_slow_shade():
    x = greys()
    y = local(x)
    darker = local(0.3 * x + 0.2)
    assert (darker - y).abs().max() < 0.02
    assert abs(float(y.mean()) - 0.5) < 0.02
    shade = torch.linspace(0, 0.3, 32)
    assert (local(0.6 * x + shade) - local(0.6 * x)).abs().mean() < 0.01
    assert (0.6 * x + shade - 0.6 * x).abs().mean() > 0.1


def test_local_is_the_deviation_from_a_mean_of_neighbours():
    x = greys(1, side=48)
    side = 48 // SHARE | 1
    pixels = x[0, 0].numpy().astype(np.float64)
    mean = uniform_filter(pixels, side)
    square = uniform_filter(pixels**2, side)
    expected = 0.5 + (pixels - mean) / np.sqrt(square - mean**2 + 0.02**2) / 6
    inside = slice(side, -side)  # where no neighbour is missing
    got = local(x)[0, 0].numpy()[inside, inside]
    np.testing.assert_allclose(got, expected[inside, inside], atol=1e-5)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("tone", ["equalised", "local"])
def test_a_model_keeps_the_tone_that_it_was_trained_with(table, tmp_path, tone):
    run = rw.pretrain.fit(table, out=tmp_path / "a", shape=SHAPE, tone=tone, **QUICK)
    model = rw.models.load(run.out)
    assert model.tone == tone
    scan = rw.data.read(table["path"][0])
    raw = torch.from_numpy(scan.pixels)[None, None]
    expected = (TONES[tone](raw) - 0.5) / 0.25
    torch.testing.assert_close(model.preprocess(scan), expected, rtol=0, atol=1e-5)
    pixels = rw.data.images(table.head(1), 32)
    torch.testing.assert_close(model.preprocess(pixels), expected, rtol=0, atol=0.05)
    again = rw.models.load(rw.models.save(model, tmp_path / "b"))
    assert torch.equal(again.preprocess(scan), model.preprocess(scan))
    for twin in (untrained(model), twins_of(model, [0])[0]):
        assert torch.equal(twin.preprocess(scan), model.preprocess(scan))
    # trained with it, not only saved
    plain = rw.pretrain.fit(table, out=tmp_path / "c", shape=SHAPE, **QUICK)
    assert plain.log["loss"][0] != run.log["loss"][0]
    on = rw.pretrain.fit(table, out=tmp_path / "d", start=run.out, **QUICK)
    assert on.model.tone == tone


def test_a_plain_model_is_saved_as_ever(tmp_path):
    model = tiny_clip()
    folder = rw.models.save(model, tmp_path / "a")
    assert "tone" not in json.loads((folder / "model.json").read_text())
    assert rw.models.load(folder).tone == "plain"


@pytest.mark.parametrize("tone", ["bright", 3, None])
def test_a_tone_that_is_none_is_refused(tmp_path, tone):
    folder = rw.models.save(tiny_clip(), tmp_path / "a")
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"tone": tone}))
    with pytest.raises(ValueError, match="expected a tone of plain, equalised, local"):
        rw.models.load(folder)


def test_maps_are_made_of_what_the_model_is_shown():
    model = tiny_clip()
    scan = film(0)
    as_it_is = rw.attend.attention_map(model, scan, method="attention").values
    model.tone = "equalised"
    heat = rw.attend.attention_map(model, scan, method="attention").values
    assert heat.shape == scan.pixels.shape
    assert not np.allclose(heat, as_it_is)


def test_a_larger_input_and_one_more_block(table, tmp_path):
    shape = SHAPE | {"layers": 5}
    how = QUICK | {"size": 160, "recipe": "clip-tiny", "shape": shape}
    run = rw.pretrain.fit(table, out=tmp_path / "a", **how)
    assert run.model.grid == (10, 10)
    on = QUICK | {"recipe": "clip-tiny", "size": None, "start": run.out}
    again = rw.pretrain.fit(table, out=tmp_path / "b", **on)
    assert again.model.size == 160
    scan = rw.data.read(table["path"][0])
    heat = rw.attend.attention_map(again.model, scan, method="relevance", target="left")
    assert heat.values.shape == scan.pixels.shape
