"""Claims about rw.pretrain.diagnose: the measures by hand.

Planted faults are flagged, healthy models are not.
"""

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import i0
from tables import squares_table
from test_pretrain import SMALL, VISUAL

import radwb as rw
from radwb.pretrain.diagnose import diagnose, if_healthy, untrained
from radwb.pretrain.measures import (
    alignment,
    effective_rank,
    stuck,
    uniformity,
    watched,
)

SEEDS = range(20)


def sphere(n=128, e=32, *, seed=0):
    Z = np.random.default_rng(seed).normal(size=(n, e))
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def constant(n=128, e=32, *, seed=0):
    return sphere(1, e, seed=seed) + 0.02 * np.random.default_rng(seed + 1).normal(
        size=(n, e)
    )


def plane(n=128, e=32, *, seed=0):
    return (
        sphere(n, 2, seed=seed)
        @ np.linalg.qr(np.random.default_rng(seed).normal(size=(e, 2)))[0].T
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"), n=160)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    how = {"size": 32, "shape": SMALL, "batch": 32, "epochs": 10, "lr": 3e-3}
    return rw.pretrain.fit(
        table, out=tmp_path_factory.mktemp("run") / "healthy", save_every=1000, **how
    )


def verdicts(run_or_model, table, **how):
    return diagnose(run_or_model, table, **how).set_index("name")["verdict"]


def planted(model, fault):
    """A copy of a model whose image tower has a fault, weights set by hand."""
    twin = copy.copy(model)
    twin.net = copy.deepcopy(model.net)
    visual, rng = twin.net.visual, torch.Generator().manual_seed(0)
    with torch.no_grad():
        if fault == "constant":
            visual.ln_post.weight.mul_(0.02)
            visual.ln_post.bias.copy_(
                torch.randn(visual.ln_post.bias.shape, generator=rng)
            )
        if fault == "dead":
            visual.proj[:, : visual.proj.shape[1] // 4] = 0
        if (
            fault == "plane"
        ):  # only two directions of what the tower sees reach the embedding
            U, S, V = torch.linalg.svd(visual.proj)
            S[2:] = 0
            visual.proj.copy_(U @ torch.diag(S) @ V)
            visual.ln_post.bias.zero_()
    return twin


def edited(run, tmp_path, change):
    """A copy of a run with another log."""
    rw.models.save(run.model, tmp_path / "edited")
    (tmp_path / "edited" / "config.json").write_text(json.dumps(run.config))
    log = run.log
    change(log)
    log.to_csv(tmp_path / "edited" / "log.csv", index=False)
    return rw.pretrain.Run(tmp_path / "edited")


# the measures


@pytest.mark.parametrize("e", [1, 5, 16])
def test_effective_rank_of_an_orthogonal_set_is_its_dimension(e):
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0][:e]
    assert effective_rank(Q) == pytest.approx(e)
    assert effective_rank(np.vstack([Q, Q])) == pytest.approx(e)


def test_effective_rank_of_two_singular_values_by_hand():
    """3 and 1: shares 3/4 and 1/4."""
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(
        0.75**-0.75 * 0.25**-0.25
    )


def test_alignment_is_zero_for_identical_pairs_and_four_for_opposite_ones():
    Z = sphere()
    assert alignment(Z, 3 * Z) == pytest.approx(0)
    assert alignment(Z, -Z) == pytest.approx(4)
    assert alignment(np.eye(4), np.roll(np.eye(4), 1, 0)) == pytest.approx(2)


def test_uniformity_of_four_points_on_the_circle_by_hand():
    """Each has two neighbours at a squared distance of 2 and one at 4."""
    points = np.array([[1, 0], [0, 1], [-1, 0], [0, -1.0]])
    assert uniformity(points) == pytest.approx(
        math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    )
    assert uniformity(np.ones((5, 2))) == pytest.approx(0)


def test_uniformity_of_many_points_on_the_circle_is_its_integral():
    """The mean of exp(-2 (2 - 2 cos t)) over t is exp(-4) I0(4)."""
    t = np.linspace(0, 2 * np.pi, 800, endpoint=False)
    assert uniformity(np.stack([np.cos(t), np.sin(t)], 1)) == pytest.approx(
        math.log(math.exp(-4) * i0(4)), abs=0.02
    )


def test_stuck_is_within_two_percent_of_ln_batch():
    assert stuck(math.log(64), math.log(64))
    assert stuck(0.985 * math.log(64), math.log(64))
    assert not stuck(0.97 * math.log(64), math.log(64))


def test_embeddings_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 not finite"):
        effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))


# what the log says


@pytest.mark.parametrize(
    ("fault", "words"),
    [(constant, "mean cosine of image"), (plane, "effective rank of image")],
)
def test_a_planted_collapse_is_called_one(fault, words):
    assert words in watched(fault(), sphere(seed=1))["warning"]
    assert words in watched(torch.tensor(fault()))["warning"]


def test_a_collapse_of_the_texts_is_seen():
    assert "text" in watched(sphere(), constant())["warning"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_sphere_is_no_collapse(seed):
    Z = sphere(seed=seed)
    row = watched(Z, Z + 0.1 * sphere(seed=seed + 100))
    assert set(row) == {"effective_rank", "uniformity", "alignment"}
    assert row["effective_rank"] > 25


def test_three_captions_in_three_places_are_no_collapse():
    """A model that tells three captions apart perfectly has three places.

    So its effective rank is three.
    """
    ids = np.arange(60) % 3
    Z = np.eye(64)[ids]
    assert "warning" not in watched(Z, Z, ids)
    assert "dimensional" in watched(plane())["warning"]


# the diagnosis


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_gets_no_warning(run, table, seed):
    checks = diagnose(
        run,
        table.assign(split=table["split"].where(table["split"] == "train", "val")),
        seed=seed,
    )
    assert (checks["verdict"] == "ok").all(), checks[
        checks["verdict"] != "ok"
    ].to_string()


def test_every_check_has_a_sentence_and_a_control(run, table):
    checks = diagnose(run, table)
    assert list(checks.columns) == ["name", "value", "control", "verdict", "says"]
    assert len(checks) == 9
    assert checks[["value", "control"]].notna().all(axis=None)
    assert checks["says"].str.len().between(20, 120).all()


@pytest.mark.parametrize(
    ("fault", "check"), [("constant", "mean cosine"), ("dead", "dead dimensions")]
)
def test_a_planted_fault_of_the_tower_is_flagged(run, table, fault, check):
    check = f"{check}, images"
    assert verdicts(run.model, table)[check] == "ok"
    assert verdicts(planted(run.model, fault), table)[check] == "warning"


def test_a_tower_of_rank_two_is_flagged_where_there_is_more_to_tell(run, table):
    many = table.assign(report=[f"IMPRESSION: Square {i}." for i in range(len(table))])
    flat = planted(run.model, "plane")
    assert verdicts(flat, many)["effective rank, images"] == "warning"
    assert (
        verdicts(flat, table)["effective rank, images"] == "ok"
    )  # three places lie in a plane


def test_a_collapsed_tower_finds_no_text_better_than_shuffled_pairs(run, table):
    assert (
        verdicts(planted(run.model, "constant"), table)["own text first"] == "warning"
    )


def test_texts_dealt_to_other_patients_are_flagged(run, table):
    shuffled = table.assign(
        report=np.random.default_rng(0).permutation(table["report"])
    )
    assert verdicts(run, shuffled)["own text first"] == "warning"


def test_an_untrained_model_finds_no_text(run, table):
    assert verdicts(untrained(run.model, seed=5), table)["own text first"] == "warning"


def test_a_stuck_loss_is_flagged(run, table, tmp_path):
    def at_chance(log):
        log[["loss", "val_loss"]] = math.log(32), math.log(32)

    checks = verdicts(edited(run, tmp_path, at_chance), table)
    assert checks["loss against a guess"] == "warning"
    assert checks["memorised"] == "not applicable"


def by_heart(log):
    log["loss"], log["val_loss"] = np.linspace(3.5, 0.2, len(log)), 3.3


def test_a_memorised_run_is_flagged(run, table, tmp_path):
    assert verdicts(edited(run, tmp_path, by_heart), table)["memorised"] == "warning"


@pytest.mark.parametrize(
    ("fault", "check"),
    [("constant", "mean cosine, images"), ("dead", "dead dimensions, images")],
)
def test_a_collapsed_model_is_not_interpreted(run, table, fault, check):
    checks = diagnose(planted(run.model, fault), table)
    sentence = if_healthy(checks, "It learned squares.")
    assert "It learned" not in sentence
    assert "not interpreted" in sentence
    assert checks.set_index("name").loc[check, "says"] in sentence


def test_a_stuck_run_is_not_interpreted(run, table, tmp_path):
    def at_chance(log):
        log[["loss", "val_loss"]] = math.log(32), math.log(32)

    sentence = if_healthy(
        diagnose(edited(run, tmp_path, at_chance), table), "It learned squares."
    )
    assert "not interpreted" in sentence
    assert f"near {math.log(32):.2f}, that of a guess" in sentence


def test_a_healthy_run_and_one_that_memorised_are_interpreted(run, table, tmp_path):
    for either in (run, edited(run, tmp_path, by_heart)):
        assert (
            if_healthy(diagnose(either, table), "It learned squares.")
            == "It learned squares."
        )


def test_image_only_models_say_what_does_not_apply(table):
    model = rw.models.supervised_tiny(["Lung Lesion"], shape=VISUAL | {"size": 32})
    checks = diagnose(model, table).set_index("name")
    left_out = [
        "effective rank, texts",
        "mean cosine, texts",
        "dead dimensions, texts",
        "own text first",
    ]
    assert (checks.loc[left_out, "verdict"] == "not applicable").all()
    assert (checks.loc[left_out, "says"] == "the model has no text tower").all()
    assert checks.loc["dead dimensions, images", "verdict"] == "ok"
    assert checks.loc["effective rank, images", "control"] > 1


def test_the_untrained_twin_of_a_foreign_tower_is_randomised(table, cnn):
    model = rw.models.Model(
        cnn.net, "cnn", "image", 96, 3, (0.5,) * 3, (0.25,) * 3, "pad", (3, 3)
    )
    checks = diagnose(model, table, n=16).set_index("name")
    assert (
        checks.loc["effective rank, images", ["value", "control"]].between(1, 16).all()
    )


def test_it_says_when_nothing_is_held_out(run, table):
    only = table[table["split"] == "train"]
    assert (
        "none of them held out"
        in diagnose(run.model, only, n=20)
        .set_index("name")
        .loc["own text first", "says"]
    )


def test_one_row_is_too_few(run, table):
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        diagnose(run.model, table.head(1))


def test_seed_decides_everything(run, table):
    pd.testing.assert_frame_equal(
        diagnose(run, table, n=24, seed=3), diagnose(run, table, n=24, seed=3)
    )
