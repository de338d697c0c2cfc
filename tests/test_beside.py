"""Films without labels beside pairs: the sum of two losses, and no patient held out."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from tables import films_table, noise_films, square_film, squares_table

import radwb as rw
from radwb.pretrain import objectives
from radwb.pretrain.beside import Joint
from radwb.pretrain.feed import Feed, mirrored
from radwb.pretrain.recipe import Recipe
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.stream import InMemory, Queue

SHAPE = {"width": 32, "heads": 2, "layers": 1, "embed": 32}
SHAPE |= {"text_width": 32, "text_layers": 1}
QUICK = {"size": 32, "shape": SHAPE, "batch": 16, "epochs": 2, "recipe": "clip-tiny"}
EXACT = {"precision": "32-true"}
ALONE = ["dino-tiny", "simclr-tiny", "mae-tiny"]
N = 40


pytestmark = pytest.mark.filterwarnings("ignore:.*patients are fewer")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    rng = np.random.default_rng(1)
    pixels = [square_film(rng, ("left", "")[film % 2], 32) for film in range(N)]
    people = [f"real{film}" for film in range(N)]
    return films_table(tmp_path_factory.mktemp("films"), pixels, patient_id=people)


def fit(table, out, **options):
    return rw.pretrain.fit(table, out=out, **(QUICK | EXACT | options))


def weights_of(run):
    return run.model.net.state_dict()


def joint_of(table, films, recipe, *, weight=0.7, groups=0):
    """Both recipes on one network, and what each is shown at a step."""
    rows = table[table["split"] == "train"].reset_index(drop=True)
    tokenizer = rw.models.Tokenizer.train(rows["report"])
    model = rw.models.clip_tiny(tokenizer, shape=SHAPE | {"size": 32, "groups": groups})
    pairs = RECIPES["clip-tiny"](model, rows)
    joint = Joint(pairs, RECIPES[recipe], films, weight).train()
    shown = []
    for task, part in ((pairs, rows), (joint.films, films)):
        source = InMemory(part, torch.from_numpy(rw.data.images(part, 32)))
        feed = Feed(Queue(source, batch=8, seed=0), task, 2, seed=0)
        step = feed(0)
        shown.append((step.x, *step.targets))
    return joint, shown


def gradients(net):
    parts = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return torch.cat(parts)


@pytest.mark.parametrize("recipe", ALONE)
def test_the_gradient_is_the_sum_of_two(table, films, recipe):
    """Norms within each image: either recipe's gradient doesn't hang on the other."""
    joint, shown = joint_of(table, films, recipe, groups=8)
    loss = joint(*shown)
    loss.backward()
    together = gradients(joint.pairs.net)
    joint.zero_grad(set_to_none=False)
    of_pairs = joint.pairs(*shown[0])
    of_pairs.backward()
    by_hand = gradients(joint.pairs.net)
    joint.zero_grad(set_to_none=False)
    of_films = joint.films(*shown[1])
    of_films.backward()
    by_hand = by_hand + 0.7 * gradients(joint.pairs.net)
    assert (together - by_hand).norm() < 1e-5 * by_hand.norm()
    losses = [of_pairs.item(), of_films.item()]
    assert loss.item() == pytest.approx(losses[0] + 0.7 * losses[1], rel=1e-5)
    assert joint.losses.tolist() == pytest.approx(losses, rel=1e-5)


def test_pairs_and_films_pass_batch_norms_together(table, films):
    """As if the tower were shown one batch, with one gradient and one statistic."""
    joint, (pairs, (views,)) = joint_of(table, films, "simclr-tiny")
    other = copy.deepcopy(joint)
    loss = joint(pairs, (views,))
    loss.backward()
    x, tokens, ids = pairs
    points = other.pairs.net.visual(torch.cat([x, *views]))
    images = F.normalize(points[: len(x)], dim=-1)
    of_pairs = other.pairs.loss(images, other.pairs.text_points(tokens), ids)
    heads = other.films.head(points[len(x) :]).chunk(2)
    by_hand = of_pairs + 0.7 * objectives.simclr(*heads)
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    want = gradients(other.pairs.net)
    assert (gradients(joint.pairs.net) - want).norm() < 1e-4 * want.norm()
    kept = dict(joint.pairs.net.visual.named_buffers())
    assert len(kept) > 3
    for name, buffer in other.pairs.net.visual.named_buffers():
        torch.testing.assert_close(kept[name], buffer)
    alone = joint.pairs.net.visual(x)  # the stem is itself again
    assert len(alone) == len(x)


@pytest.mark.parametrize("recipe", ALONE)
def test_the_text_tower_goes_on_learning(table, films, recipe):
    joint, shown = joint_of(table, films, recipe)
    joint(*shown).backward()
    net = joint.pairs.net
    still = [name for name, p in net.named_parameters() if p.grad is None]
    assert still == []
    assert all(p.requires_grad for p in net.parameters())


def test_reports_alone_may_be_learnt_beside_films(table, films, tmp_path):
    run = fit(table, tmp_path / "a", recipe="lm-tiny", beside=films, epochs=1)
    assert np.isfinite(run.log[["loss", "loss_beside"]]).all(axis=None)


def test_loss_stays_that_of_the_pairs(table, films, tmp_path):
    shape = SHAPE | {"groups": 8}
    alone = fit(table, tmp_path / "alone", shape=shape)
    both = fit(table, tmp_path / "both", beside=films, shape=shape)
    assert both.log["loss"][0] == pytest.approx(alone.log["loss"][0], rel=1e-6)
    assert both.log["loss_beside"].notna().all()
    assert "loss_beside" not in alone.log
    assert both.config["identity"]["beside"]["recipe"] == "simclr-tiny"
    assert "beside" not in alone.config["identity"]
    flops = [run.config["cost"]["tflop_per_s_estimate"] for run in (alone, both)]
    rates = [run.config["images_per_s"] for run in (alone, both)]
    assert flops[1] / rates[1] > 2 * flops[0] / rates[0]


@pytest.mark.parametrize("recipe", ALONE)
def test_stopped_and_resumed_equals_uninterrupted(table, films, tmp_path, recipe):
    beside = rw.pretrain.Beside(films, recipe, share=0.5)
    how = {"beside": beside, "save_every": 3, "augmentation": "strong"}
    whole = fit(table, tmp_path / "whole", **how)

    def stop(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(table, tmp_path / "cut", callback=stop, **how)
    cut = fit(table, tmp_path / "cut", **how)
    want = weights_of(whole)
    assert all(torch.equal(v, want[k]) for k, v in weights_of(cut).items())
    columns = ["step", "loss", "loss_beside", "grad_norm"]
    pd.testing.assert_frame_equal(cut.log[columns], whole.log[columns])


def test_two_processes_are_one(table, films, tmp_path):
    """Also the crops, which were drawn otherwise for a share of a batch."""
    shape = SHAPE | {"groups": 1}  # norms within each image
    how = {"beside": films, "shape": shape, "augmentation": "strong", "epochs": 1}
    one = fit(table, tmp_path / "one", **how)
    two = fit(table, tmp_path / "two", devices=2, **how)
    for column in ("loss", "loss_beside"):
        np.testing.assert_allclose(two.log[column], one.log[column], rtol=1e-4)
    want = weights_of(one)
    for name, value in weights_of(two).items():
        assert (value - want[name]).abs().max() < 1e-3, name


def test_other_films_or_weights_are_another_run(table, films, tmp_path):
    out = tmp_path / "a"
    how = {"epochs": 1, "beside": rw.pretrain.Beside(films, "mae-tiny")}
    fit(table, out, **how)
    assert fit(table, out, **how).reused
    fewer = rw.pretrain.Beside(films.head(N - 1), "mae-tiny")
    lighter = rw.pretrain.Beside(films, "mae-tiny", weight=0.5)
    for beside in (fewer, lighter):
        assert not fit(table, out, **(how | {"beside": beside})).reused


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_patient_held_out_is_among_the_films(table, films, tmp_path, split):
    leak = table.loc[table["split"] == split, "patient_id"].iloc[0]
    people = [leak, *films["patient_id"][1:]]
    with pytest.raises(ValueError, match="expected each patient in one part, got 1"):
        fit(table, tmp_path / "a", beside=films.assign(patient_id=people))
    film = table[table["split"] == split].iloc[:1][["path"]]
    same_film = pd.concat([films, film.assign(patient_id="another")])
    with pytest.raises(ValueError, match="expected each film in one part, got 1"):
        fit(table, tmp_path / "a", beside=same_film)


def test_films_that_are_held_out_are_not_seen(table, films, tmp_path):
    """Not even read: their files are gone."""
    gone = films.head(5).assign(path=[f"gone{film}.png" for film in range(5)])
    gone = gone.assign(split=["val", "test"] * 2 + ["val"])
    gone["patient_id"] = [f"gone{film}" for film in range(5)]
    both = pd.concat([films.assign(split="train"), gone])
    run = fit(table, tmp_path / "a", beside=both, epochs=1)
    alone = fit(table, tmp_path / "b", beside=films, epochs=1)
    want = weights_of(alone)
    assert all(torch.equal(v, want[k]) for k, v in weights_of(run).items())


def test_a_film_and_its_mirror_image_show_the_same_views():
    x = torch.from_numpy(noise_films(200))
    y = mirrored(x, seed=0)
    turned = (y == x.flip(-1)).flatten(1).all(1)
    same = (y == x).flatten(1).all(1)
    assert (turned ^ same).all()
    assert 70 < turned.sum() < 130
    assert torch.equal(mirrored(x[50:90], seed=0, first=50), y[50:90])


def test_a_gradient_that_is_no_number_names_the_step(table, tmp_path, monkeypatch):
    """The loss is one, its gradient isn't: the root of a square of 0."""

    class Root(Recipe):
        def forward(self, x):
            nothing = 0 * self.net.visual(x).square().sum()
            return nothing.sqrt() + 1

    monkeypatch.setitem(RECIPES, "root", Root)
    shape = {name: SHAPE[name] for name in ("width", "heads", "layers", "embed")}
    with pytest.raises(FloatingPointError, match="gradient's norm is nan at step 0"):
        fit(table, tmp_path / "a", recipe="root", shape=shape)
    assert (tmp_path / "a" / "bad_batch.safetensors").is_file()


BAD = [
    ({"beside": {"recipe": "mlm-tiny"}}, "expected a recipe for images alone"),
    ({"beside": {"recipe": "clip-tiny"}}, "expected a recipe for images alone"),
    ({"beside": {"weight": 0.0}}, "expected a weight and a share above 0, got 0.0"),
    ({"beside": {"share": 3}}, "at least 48 films beside .* got 40. Try share=1"),
    ({"chunk": 8}, "expected accumulate=1 and chunk=None with beside"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_says_what_was_expected(table, films, tmp_path, change, message):
    options = dict(change)
    about = options.pop("beside", {})
    with pytest.raises(ValueError, match=message):
        fit(table, tmp_path / "a", beside=rw.pretrain.Beside(films, **about), **options)
