"""Claims about rw.pretrain: the loss, the captions, exact resume.

Many processes, and that it learns.
"""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from processes import on_one_and_two
from tables import squares_table

import radwb as rw
from radwb.pretrain.captions import Captions
from radwb.pretrain.loop import STUCK, schedule
from radwb.pretrain.losses import masked_bce
from radwb.pretrain.recipes import Contrastive
from radwb.pretrain.stream import InMemory

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from radwb_tiny import thinned

SMALL = {
    "width": 32,
    "heads": 2,
    "layers": 2,
    "embed": 32,
    "text_width": 32,
    "text_layers": 1,
}
QUICK = {"size": 32, "shape": SMALL, "batch": 16, "epochs": 2, "lr": 1e-3}
WITHIN = SMALL | {
    "groups": 1
}  # norms within each image: the same gradient however a batch is spread
VISUAL = {k: v for k, v in SMALL.items() if not k.startswith("text")}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


def unit(n, e, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, e, generator=generator), dim=-1)


def weights_of(run):
    return run.model.net.state_dict()


# the loss


def test_loss_equals_open_clip_when_all_captions_differ():
    images = unit(24, 16, 0)
    texts = unit(24, 16, 1)
    scale = torch.tensor(14.3)
    got = rw.pretrain.SameCaptionLoss()(images, texts, scale, torch.randperm(24))
    torch.testing.assert_close(got, ClipLoss()(images, texts, scale), rtol=1e-6, atol=0)


def test_loss_of_a_three_by_three_by_hand():
    """Images 0 and 2 share caption 7: each has half its weight on both."""
    s = np.array([[2.0, 0.0, 1.0], [0.5, 3.0, -1.0], [1.0, 0.0, 2.0]])
    target = np.array([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    rows = -(target * (s - np.log(np.exp(s).sum(1, keepdims=True)))).sum(1).mean()
    columns = (
        -(target * (s.T - np.log(np.exp(s.T).sum(1, keepdims=True)))).sum(1).mean()
    )
    got = rw.pretrain.SameCaptionLoss()(
        torch.tensor(s), torch.eye(3, dtype=torch.double), 1.0, torch.tensor([7, 3, 7])
    )
    assert got.item() == pytest.approx((rows + columns) / 2, abs=1e-12)


def test_two_images_of_one_caption_are_not_pushed_apart():
    """At equal texts the one-hot loss still pulls, the same-caption loss is at rest."""
    texts = unit(1, 8, 0).expand(2, 8)
    images = texts.clone().requires_grad_()
    rw.pretrain.SameCaptionLoss()(
        images, texts, torch.tensor(10.0), torch.tensor([4, 4])
    ).backward()
    assert images.grad.abs().max() < 1e-6


def test_a_model_that_tells_nothing_apart_has_the_loss_ln_batch():
    same = unit(1, 8, 0).expand(6, 8)
    got = rw.pretrain.SameCaptionLoss()(
        same, same, torch.tensor(10.0), torch.tensor([0, 1, 2, 2, 3, 2])
    )
    assert got.item() == pytest.approx(math.log(6), abs=1e-6)


def test_uncertain_and_missing_labels_do_not_count():
    logits = torch.tensor([[0.3, -2.0], [1.0, 9.0]])
    labels = torch.tensor([[1.0, float("nan")], [0.0, -1.0]])
    want = F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0])
    torch.testing.assert_close(masked_bce(logits, labels), want)
    assert masked_bce(logits[:, 1:], labels[:, 1:]) == 0


def test_retrieval_of_a_case_by_hand():
    """Three captions for four images; image 3 (caption c) lies at caption b."""
    images = np.eye(4)[[0, 0, 1, 1]]
    texts = np.eye(4)[[0, 0, 1, 2]]
    got = rw.pretrain.retrieval(images, texts, ["a", "a", "b", "c"], k=(1, 3))
    assert got["image_to_text_recall_1"] == 3 / 4
    assert got["text_to_image_recall_1"] == 2 / 3
    assert got["image_to_text_recall_3"] == 1


# what a batch is made of


def test_the_caption_is_the_impression_and_equal_captions_share_a_number():
    reports = [f"FINDINGS: f{i}. IMPRESSION: i{i % 7}." for i in range(20)] + [
        "just words",
        "FINDINGS: only these.",
    ]
    captions = Captions(reports, rw.models.Tokenizer.train(reports))
    ids = captions.ids(np.arange(22))
    assert ids[3] == ids[10] != ids[4]
    assert [captions.texts[i] for i in ids[[3, 20, 21]]] == [
        "i3.",
        "just words",
        "only these.",
    ]


def test_each_epoch_visits_each_row_once_in_another_order():
    rows = InMemory(pd.DataFrame(index=range(50)))
    a = rows.order(seed=0, epoch=0)
    b = rows.order(seed=0, epoch=1)
    assert sorted(a) == sorted(b) == list(range(50))
    assert (a != b).any()
    assert (a == rows.order(seed=0, epoch=0)).all()


def test_augmentation_never_swaps_left_and_right():
    x = torch.zeros(300, 1, 32, 32)
    x[..., 20:28] = 1
    y = rw.pretrain.augment(x, seed=1)
    assert (y[..., 16:].mean((1, 2, 3)) > y[..., :16].mean((1, 2, 3)) + 0.1).all()
    assert y.min() >= 0
    assert y.max() <= 1
    assert (y - x).abs().mean() > 0.02
    torch.testing.assert_close(
        rw.pretrain.augment(x, seed=1, strength=0), x, rtol=0, atol=2e-4
    )


def test_augmentation_of_a_share_is_the_share_of_the_augmentation():
    x = torch.rand(8, 1, 16, 16)
    whole = rw.pretrain.augment(x, seed=5)
    assert torch.equal(rw.pretrain.augment(x[4:], seed=5, first=4), whole[4:])


def test_the_rate_warms_up_and_falls_to_nothing():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.0)
    set_rate = schedule(optimizer, 1.0, 200)
    rates = [set_rate(step) for step in range(200)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]
    assert max(rates) == rates[9] == 1
    assert rates[0] == 0.1
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 1e-3


# runs


@pytest.fixture(scope="module")
def learnt(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    return rw.pretrain.fit(
        table, out=out, **(QUICK | {"epochs": 16, "lr": 2e-3, "save_every": 30})
    )


def test_a_tiny_model_learns_left_right_and_none(learnt, table):
    assert learnt.log["image_to_text_recall_1"].dropna().iloc[-1] > 0.85
    assert (
        learnt.log["loss"].iloc[-5:].mean() < 0.85 * learnt.log["loss"].iloc[:3].mean()
    )
    val = table[table["split"] == "val"]
    Z = rw.models.embed(learnt.model, val)
    sides = (
        learnt.model.encode_text(
            ["Bright square on the left.", "Bright square on the right."]
        )
        .detach()
        .numpy()
    )
    square = val["Lung Lesion"].to_numpy() == 1
    left = val["report"].str.contains("left").to_numpy()
    assert (((Z @ sides[0] > Z @ sides[1]) == left)[square]).mean() > 0.85


def test_the_run_folder_tells_how_it_was_made(learnt):
    config = learnt.config
    assert config["finished"]
    assert config["identity"]["seed"] == 0
    assert config["model"]["shape"]["width"] == 32
    assert {"torch", "open_clip"} <= set(config["versions"])
    assert len(learnt.log) == 16 * (64 // 16)
    assert list(learnt.log["step"]) == list(range(1, 65))
    assert not (learnt.out / "checkpoint.safetensors").exists()
    assert "warning" not in learnt.log


def test_a_finished_run_is_reused_until_settings_or_data_change(learnt, table, capsys):
    same = QUICK | {"epochs": 16, "lr": 2e-3, "save_every": 30}
    assert rw.pretrain.fit(table, out=learnt.out, **same).reused
    assert "taken as it is" in capsys.readouterr().out
    before = weights_of(learnt)
    other = table.assign(report=table["report"].str.replace("Nothing", "Nil"))
    again = rw.pretrain.fit(other, out=learnt.out, **(same | {"epochs": 1}))
    assert not again.reused
    moved = rw.pretrain.Run(learnt.out.with_name("a.previous-1")).model.net.state_dict()
    assert all(torch.equal(moved[k], v) for k, v in before.items())


class StopAt(Exception):
    pass


def stop_at(step):
    def callback(row):
        if row["step"] == step:
            raise StopAt

    return callback


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("clip-tiny", "32-true"),
        ("clip-tiny", "bf16-mixed"),
        ("supervised-tiny", "32-true"),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(table, tmp_path, recipe, precision):
    how = QUICK | {"recipe": recipe, "precision": precision, "save_every": 3}
    how["shape"] = SMALL if recipe == "clip-tiny" else VISUAL
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **how)
    for step in (5, 7):  # stopped twice, neither at a checkpoint
        with pytest.raises(StopAt):
            rw.pretrain.fit(table, out=tmp_path / "cut", callback=stop_at(step), **how)
        with pytest.raises(FileNotFoundError, match="stopped one"):
            rw.models.load(tmp_path / "cut")
    seen = []
    cut = rw.pretrain.fit(
        table, out=tmp_path / "cut", callback=lambda r: seen.append(r["step"]), **how
    )
    assert seen == [7, 8]  # from the checkpoint after step 6
    want = weights_of(whole)
    assert all(torch.equal(v, want[k]) for k, v in weights_of(cut).items())
    clock = ["seconds", "images_per_s"]
    pd.testing.assert_frame_equal(
        cut.log.drop(columns=clock), whole.log.drop(columns=clock)
    )


KILLED = """
import json, os, signal, sys
import pandas as pd, radwb as rw
table, out, how = pd.read_json(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
def killer(row):
    if row["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
rw.pretrain.fit(table, out=out, callback=killer, **how)
"""


def test_killed_and_resumed_equals_uninterrupted(table, tmp_path):
    how = QUICK | {"save_every": 4}
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **how)
    table.to_json(tmp_path / "table.json")
    arguments = [str(tmp_path / "table.json"), str(tmp_path / "cut"), json.dumps(how)]
    dead = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env=os.environ,
        capture_output=True,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()[-500:]
    assert (tmp_path / "cut" / "checkpoint.safetensors").is_file()
    cut = rw.pretrain.fit(table, out=tmp_path / "cut", **how)
    want = weights_of(whole)
    assert all(torch.equal(v, want[k]) for k, v in weights_of(cut).items())


def test_seed_decides_everything_and_the_global_generator_nothing(table, tmp_path):
    how = QUICK | {"epochs": 1}
    runs = []
    for name, seed, stir in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        torch.manual_seed(stir)
        np.random.seed(stir)
        runs.append(
            weights_of(rw.pretrain.fit(table, out=tmp_path / name, seed=seed, **how))
        )
    assert all(torch.equal(v, runs[1][k]) for k, v in runs[0].items())
    assert not torch.equal(
        runs[0]["token_embedding.weight"], runs[2]["token_embedding.weight"]
    )


def test_a_start_goes_on_from_the_weights_of_a_run(table, tmp_path):
    how = {"epochs": 1, "batch": 16}
    first = rw.pretrain.fit(
        table, out=tmp_path / "a", size=32, shape=SMALL, lr=1e-3, **how
    )
    on = rw.pretrain.fit(table, out=tmp_path / "b", start=first.out, lr=1e-9, **how)
    head = rw.pretrain.fit(
        table,
        out=tmp_path / "c",
        start=first.out,
        recipe="supervised-tiny",
        lr=1e-9,
        **how,
    )
    want = weights_of(first)
    for run, part in ((on, ""), (head, "visual")):
        learnt = dict(
            run.model.net.named_parameters()
        )  # without the batch norms' statistics, which follow the data
        assert all(
            torch.allclose(v, want[k], atol=1e-6)
            for k, v in learnt.items()
            if k.startswith(part)
        )
    with pytest.raises(ValueError, match="has its own"):
        rw.pretrain.fit(table, out=tmp_path / "d", start=first.out, size=64, **how)


def test_a_loss_that_is_not_a_number_names_the_step(table, tmp_path):
    first = rw.pretrain.fit(table, out=tmp_path / "a", **(QUICK | {"epochs": 1}))
    model = first.model
    with torch.no_grad():
        model.net.ln_final.weight[:] = (
            3e38  # finite, or `load` would refuse it; what comes of it is not
        )
    broken = rw.models.save(model, tmp_path / "broken")
    with pytest.raises(FloatingPointError, match="step 0"):
        rw.pretrain.fit(table, out=tmp_path / "b", start=broken, epochs=1, batch=16)


def test_a_loss_stuck_at_chance_is_flagged(table, tmp_path):
    blind = table.assign(
        report=[f"IMPRESSION: number {i}." for i in range(len(table))]
    )  # nothing to learn in one go
    with pytest.warns(UserWarning, match="the model tells no image from another"):
        run = rw.pretrain.fit(
            blind, out=tmp_path / "a", **(QUICK | {"epochs": 13, "lr": 1e-9})
        )
    assert run.log["warning"].iloc[-1] == STUCK


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"recipe": "mae"}, "expected a recipe of clip-tiny, .*got 'mae'"),
        ({}, {"batch": 500}, "expected at least 500 rows .* got 64"),
        ({"report": None}, {}, "expected values in the columns"),
        (
            {"Lung Lesion": 3.0},
            {"recipe": "supervised-tiny"},
            "expected labels 1, 0, -1 or NaN",
        ),
    ],
)
def test_bad_input_says_what_was_expected(table, tmp_path, change, settings, message):
    with pytest.raises(ValueError, match=message):
        rw.pretrain.fit(
            table.assign(**change), out=tmp_path / "a", **({"size": 32} | settings)
        )


def test_other_files_in_the_folder_are_left_alone(table, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="Try another out"):
        rw.pretrain.fit(table, out=tmp_path, **QUICK)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("steps", [3472, 401, 400, 16])
def test_a_thinned_log_keeps_the_ends_of_its_epochs_and_a_row_in_so_many(steps):
    log = pd.DataFrame(
        {
            "step": np.arange(1, steps + 1),
            "loss": np.random.default_rng(0).random(steps),
        }
    )
    log["epoch"] = log["step"] * 16 // (steps + 1)
    log["val_loss"] = log["loss"].where(~log["epoch"].duplicated(keep="last"))
    short = thinned(log)
    assert min(steps, 200) <= len(short) <= 400
    assert short["val_loss"].notna().sum() == 16
    pd.testing.assert_frame_equal(
        short, log[log["step"].isin(short["step"])].reset_index(drop=True)
    )
    assert short["step"].diff().max() <= max(1, 2 * steps / 200)
    with pytest.raises(ValueError, match="fewer than 16 epochs, got 16. Try most=32"):
        thinned(log, 16)


# many processes


def gradients(fabric, table, out):
    """Each process: the gradient of its share of one global batch of 16."""
    tokenizer = rw.models.Tokenizer.train(table["report"])
    model = rw.models.clip_tiny(tokenizer, shape=WITHIN | {"size": 32})
    task = Contrastive(model, table, rank=fabric.global_rank, world=fabric.world_size)
    wrapped = fabric.setup(task)
    share = 16 // fabric.world_size
    rows = np.arange(16)[fabric.global_rank * share :][:share]
    x = model.preprocess(rw.data.images(table.iloc[rows], 32))
    fabric.backward(wrapped(x, *task.targets(rows)))
    if fabric.is_global_zero:
        torch.save({k: p.grad for k, p in model.net.named_parameters()}, out)
    fabric.barrier()


def test_two_processes_give_the_gradient_of_one(table, tmp_path):
    one, two = on_one_and_two(gradients, table.head(16), folder=tmp_path)
    a, b = (torch.cat([g[k].flatten() for k in one]) for g in (one, two))
    assert (a - b).norm() / a.norm() < 1e-5
    worst = max(
        ((one[k] - two[k]).norm() / one[k].norm()).item()
        for k in one
        if one[k].norm() > 1e-3 * a.norm()
    )
    assert worst < 1e-5


def test_fit_on_two_processes_is_fit_on_one(table, tmp_path):
    how = QUICK | {
        "shape": WITHIN,
        "precision": "32-true",
    }  # bf16 would round each share otherwise
    one = rw.pretrain.fit(table, out=tmp_path / "one", **how)
    two = rw.pretrain.fit(table, out=tmp_path / "two", devices=2, **how)
    assert two.config["devices"] == 2
    np.testing.assert_allclose(two.log["loss"], one.log["loss"], rtol=1e-4)
    want = weights_of(one)
    assert (
        max((v - want[k]).abs().max().item() for k, v in weights_of(two).items()) < 1e-3
    )
