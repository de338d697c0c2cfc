"""Claims about long and large runs.

Shards, batches in parts, averages, stops, costs, and open_clip_train.
"""

import importlib.util
import json
import os
import shlex
import shutil
import signal
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from processes import on_one_and_two
from safetensors import safe_open
from tables import squares_table
from test_pretrain import QUICK, SMALL, VISUAL, WITHIN, weights_of

import radwb as rw
from radwb.pretrain import cache, cost, index, stream
from radwb.pretrain.average import Average
from radwb.pretrain.export import export_open_clip
from radwb.pretrain.recipes import RECIPES


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def shards(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rw.data.write_shards(table, folder, per_shard=9)
    return folder


@pytest.fixture
def copied(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "shards")


def equal(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


def index_of(folder):
    paths = index.shard_paths(folder)
    samples, skipped = index.index(paths)
    return stream.indexed(samples, paths, skipped, "")


class StopAt(Exception):
    pass


def at(step, do):
    def callback(row):
        if row["step"] == step:
            do()

    return callback


def halt():
    raise StopAt


# shards


def test_shards_hold_the_rows_and_squares_of_their_table(table, shards):
    source = index_of(shards).part("train", None, size=32, fit="pad", films=True)
    want = table[table["split"] == "train"].reset_index(drop=True)
    assert list(source.rows["report"]) == list(want["report"])
    rows = np.random.default_rng(0).permutation(len(want))
    pixels, got, lost = source.batch(rows)
    assert (got == rows).all()
    assert not lost
    np.testing.assert_array_equal(pixels, rw.data.images(want.iloc[rows], 32))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_sample_comes_once_an_epoch_over_all_processes(shards, world):
    """64 samples in batches of 18: a batch may hold the end of one epoch and the start
    of the next.
    """
    source = index_of(shards).part("train", None, size=32, fit="pad", films=True)
    queue = stream.Queue(source, batch=18, seed=0)
    taken = [
        stream.share(queue.rows(s), rank, world)
        for s in range(queue.steps(3))
        for rank in range(world)
    ]
    assert {len(t) for t in taken} == {18 // world}
    flow = np.concatenate(taken)
    epochs = [flow[i : i + 64] for i in (0, 64, 128)]
    assert all(sorted(e) == list(range(64)) for e in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (
        flow == np.concatenate([queue.rows(s) for s in range(queue.steps(3))])
    ).all()


def test_the_shuffle_reads_shard_by_shard_within_its_buffer():
    """Without a buffer whole shards in drawn order; with one, no sample is moved
    further than it reaches.
    """
    number = np.repeat(np.arange(50), 20)
    plain = stream.stream_order(number, seed=1, epoch=0, buffer=0)
    visited = number[plain][::20]
    assert sorted(visited) == list(range(50))
    assert (visited != np.arange(50)).any()
    assert (number[plain] == np.repeat(visited, 20)).all()
    mixed = stream.stream_order(number, seed=1, epoch=0, buffer=100)
    moved = np.argsort(mixed)[plain] - np.arange(1000)
    assert sorted(mixed) == list(range(1000))
    assert 50 < np.abs(moved).max() <= 100


def test_a_run_from_shards_stopped_anywhere_equals_one_that_was_not(shards, tmp_path):
    how = QUICK | {"shards": shards, "save_every": 1}
    whole = rw.pretrain.fit(out=tmp_path / "whole", **how)
    for step in (1, 3, 4, 6):
        with pytest.raises(StopAt):
            rw.pretrain.fit(out=tmp_path / "cut", callback=at(step, halt), **how)
    assert equal(
        weights_of(rw.pretrain.fit(out=tmp_path / "cut", **how)), weights_of(whole)
    )
    assert whole.config["n_train"] == 64
    assert whole.log["image_to_text_recall_1"].notna().sum() == 2


def spoil(folder):
    """A flipped byte in a picture, a shard cut short, a shard lost: 1 + 6 or so + 9 of
    100 samples.
    """
    path = folder / "shard-000001.tar"
    with tarfile.open(path) as tar:
        victim = [m for m in tar if m.name.endswith(".png")][2]
    data = bytearray(path.read_bytes())
    data[victim.offset_data + victim.size // 2] ^= 255
    path.write_bytes(data)
    cut = folder / "shard-000003.tar"
    with tarfile.open(cut) as tar:
        place = [m for m in tar if m.name.endswith(".png")][3].offset_data
    os.truncate(cut, place + 10)
    (folder / "shard-000005.tar").unlink()
    return victim.name.removesuffix(".png")


def test_damage_is_skipped_and_named_and_too_much_of_it_stops(copied, tmp_path):
    victim = spoil(copied)
    run = rw.pretrain.fit(
        shards=copied, out=tmp_path / "a", max_bad=0.25, **(QUICK | {"epochs": 1})
    )
    skipped = pd.read_csv(run.out / "skipped.csv", dtype={"key": str})
    by_shard = skipped.groupby("shard")["samples"].sum()
    assert by_shard.to_dict() == {
        "shard-000001.tar": 1,
        "shard-000003.tar": 6,
        "shard-000005.tar": 9,
    }
    first = skipped[skipped["shard"] == "shard-000001.tar"].iloc[0]
    assert (first["key"], first["number"]) == (victim, 2)
    assert skipped["error"].str.contains("FileNotFound").sum() == 1
    message = r"5.0% damaged samples, got 16 of about 100 \(16.0%\); .*skipped.csv"
    with pytest.raises(ValueError, match=f"at most {message}"):
        rw.pretrain.fit(shards=copied, out=tmp_path / "b", **QUICK)
    assert len(pd.read_csv(tmp_path / "b" / "skipped.csv")) == len(skipped)


def test_a_shard_lost_during_a_run_gives_its_places_to_others(copied, tmp_path):
    """The order stays that of the start, so that the run may still be stopped and
    resumed; and the damage is named.
    """
    how = QUICK | {"shards": copied, "save_every": 1, "max_bad": 0.2}
    lost = copied / "shard-000002.tar"
    whole = rw.pretrain.fit(out=tmp_path / "a", callback=at(2, lost.unlink), **how)
    skipped = pd.read_csv(whole.out / "skipped.csv")
    assert set(skipped["shard"]) == {"shard-000002.tar"}
    assert 2 <= len(skipped) <= 9
    assert not skipped.duplicated(["shard", "number"]).any()
    again = rw.pretrain.fit(out=tmp_path / "a", **how)
    assert again.reused  # what is lost later doesn't make it another run


def test_shards_of_jpeg_and_text_alone_will_do(table, tmp_path):
    from PIL import Image

    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        for i, row in enumerate(table.head(20).itertuples()):
            Image.open(row.path).save(tmp_path / f"{i}.jpg")
            (tmp_path / f"{i}.txt").write_text(row.report)
            for end in ("jpg", "txt"):
                tar.add(tmp_path / f"{i}.{end}", f"{i:03d}.{end}")
    run = rw.pretrain.fit(
        shards=[tmp_path / "other.tar"], out=tmp_path / "run", **(QUICK | {"epochs": 1})
    )
    assert run.config["n_train"] == 20


# batches in parts


def task_of(recipe, table, shape=WITHIN):
    builds = RECIPES[recipe].builds
    if builds == "image-text":
        model = rw.models.clip_tiny(
            rw.models.Tokenizer.train(table["report"]), shape=shape | {"size": 32}
        )
    else:
        findings = ["Lung Lesion"] if builds == "findings" else []
        model = rw.models.supervised_tiny(findings, shape=shape | {"size": 32})
    return RECIPES[recipe](model, table)


def batch_of(task, table, seed=0):
    x = task.model.preprocess(rw.data.images(table, 32))
    views = tuple(
        x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(v))
        for v in range(2)
    )
    return {0: None, 1: x, 2: views}[task.views], task.targets(
        np.arange(len(table)), seed
    )


def gradient(task):
    return torch.cat(
        [p.grad.flatten() for p in task.parameters() if p.grad is not None]
    )


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


WHOLE = [name for name, recipe in RECIPES.items() if recipe.whole_batch]


@pytest.mark.parametrize("recipe", WHOLE)
def test_a_cached_batch_has_the_gradient_of_the_batch_at_once(table, recipe):
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    rows = table.head(24)
    task = task_of(recipe, rows)
    x, targets = batch_of(task, rows)
    want = task(x, *targets)
    want.backward()
    once = gradient(task).clone()
    for chunk in (5, 24):
        task.zero_grad()
        loss = cache.cached(fabric, task, x, targets, chunk)
        torch.testing.assert_close(loss, want.detach(), rtol=1e-5, atol=0)
        assert relative(gradient(task), once) < 1e-5
    # the control: a mean over chunks is another loss, with fewer negatives
    task.zero_grad()
    for piece, part in cache.pieces(x, targets, 8):
        (task(piece, *part) / 3).backward()
    assert relative(gradient(task), once) > 1e-3


def test_a_cached_batch_draws_the_same_random_numbers_twice_and_counts_statistics_once(
    table,
):
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    rows = table.head(16)
    task, seen = task_of("clip-tiny", rows, SMALL), []
    norm = next(m for m in task.modules() if isinstance(m, torch.nn.BatchNorm2d))
    task.train()
    represent = task.represent

    def drawing(*arguments):
        seen.append(torch.rand(()))
        return represent(*arguments)

    task.represent = drawing
    cache.cached(fabric, task, *batch_of(task, rows), 4)
    assert seen[:4] == seen[4:]
    assert len(set(map(float, seen))) == 4
    assert norm.num_batches_tracked == 4


def uneven(table, n):
    """Rows whose parts have a different number of known labels and of words."""
    rows = table.head(n).sort_values("report", key=lambda r: r.str.len(), kind="stable")
    rows["Lung Lesion"] = rows["Lung Lesion"].astype(float).mask(np.arange(n) % 7 < 4)
    return rows


@pytest.mark.parametrize(
    "recipe", ["supervised-tiny", "mae-tiny", "lm-tiny", "mlm-tiny"]
)
def test_an_accumulated_batch_has_the_gradient_of_the_batch_at_once(table, recipe):
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    rows = uneven(table, 24)
    task = task_of(recipe, rows)
    wrapped = fabric.setup(task)
    x, targets = batch_of(task, rows)
    want = cache.accumulated(fabric, wrapped, x, targets, 1)
    torch.testing.assert_close(want, task(x, *targets).detach())
    once = gradient(task).clone()
    task.zero_grad()
    torch.testing.assert_close(
        cache.accumulated(fabric, wrapped, x, targets, 4), want, rtol=1e-5, atol=0
    )
    assert relative(gradient(task), once) < 1e-5


def accumulated_on(fabric, table, recipe, out):
    """Each process: its share of a global batch of 16, in two parts."""
    task = task_of(recipe, table)
    wrapped = fabric.setup(task)
    rows = stream.share(np.arange(16), fabric.global_rank, fabric.world_size)
    x = (
        task.model.preprocess(rw.data.images(table.iloc[rows], 32))
        if task.views
        else None
    )
    cache.accumulated(fabric, wrapped, x, task.targets(rows), 2)
    if fabric.is_global_zero:
        torch.save(gradient(task), out)
    fabric.barrier()


@pytest.mark.parametrize("recipe", ["supervised-tiny", "lm-tiny"])
def test_an_uneven_batch_on_two_processes_has_the_gradient_of_one(
    table, tmp_path, recipe
):
    one, two = on_one_and_two(
        accumulated_on, uneven(table, 16), recipe, folder=tmp_path
    )
    assert relative(two, one) < 1e-5


def test_fit_in_parts_is_fit_at_once(table, tmp_path):
    for recipe, parts in (
        ("clip-tiny", {"chunk": 4}),
        ("supervised-tiny", {"accumulate": 4}),
    ):
        how = QUICK | {
            "recipe": recipe,
            "shape": WITHIN if recipe == "clip-tiny" else VISUAL | {"groups": 1},
        }
        how |= {
            "epochs": 1,
            "precision": "32-true",
        }  # bf16 would round the parts of a sum otherwise than the sum
        once = rw.pretrain.fit(table, out=tmp_path / recipe, **how)
        cut = rw.pretrain.fit(table, out=tmp_path / f"{recipe}-cut", **how, **parts)
        np.testing.assert_allclose(cut.log["loss"], once.log["loss"], rtol=1e-4)
        assert cut.config["identity"] == once.config["identity"] | parts


@pytest.mark.parametrize(
    ("recipe", "parts", "message"),
    [
        ("clip-tiny", {"accumulate": 4}, "Try chunk=4"),
        ("supervised-tiny", {"chunk": 4}, "Try accumulate=4"),
        ("supervised-tiny", {"accumulate": 3}, "divide the 16 images"),
        ("clip-tiny", {"ema": 1.5}, "between 0 and 1"),
    ],
)
def test_parts_that_would_change_the_loss_are_refused(
    table, tmp_path, recipe, parts, message
):
    shape = SMALL if recipe == "clip-tiny" else VISUAL
    with pytest.raises(ValueError, match=message):
        rw.pretrain.fit(
            table,
            out=tmp_path / "a",
            **(QUICK | {"recipe": recipe, "shape": shape}),
            **parts,
        )


def cached_on(fabric, table, out):
    """Each process: its share of a cached global batch of 16."""
    task = task_of("clip-tiny", table)
    task = RECIPES["clip-tiny"](
        task.model, table, rank=fabric.global_rank, world=fabric.world_size
    )
    fabric.setup(task)
    rows = stream.share(np.arange(16), fabric.global_rank, fabric.world_size)
    x = task.model.preprocess(rw.data.images(table.iloc[rows], 32))
    cache.cached(fabric, task, x, task.targets(rows), 3)
    if fabric.is_global_zero:
        torch.save(gradient(task), out)
    fabric.barrier()


def test_a_cached_batch_on_two_processes_has_the_gradient_of_one(table, tmp_path):
    one, two = on_one_and_two(cached_on, table.head(16), folder=tmp_path)
    assert relative(two, one) < 1e-5


def test_a_run_from_shards_goes_on_with_another_number_of_processes(shards, tmp_path):
    how = QUICK | {
        "shards": shards,
        "shape": WITHIN,
        "save_every": 3,
        "precision": "32-true",
    }
    one = rw.pretrain.fit(out=tmp_path / "one", **how)
    with pytest.raises(StopAt):
        rw.pretrain.fit(out=tmp_path / "two", callback=at(4, halt), **how)
    two = rw.pretrain.fit(out=tmp_path / "two", devices=2, **how)
    np.testing.assert_allclose(two.log["loss"], one.log["loss"], rtol=1e-4)


# averages


def test_the_average_of_a_weight_by_hand():
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.0)
    average, want = Average(net, 0.5), 0.0
    for step in range(20):
        with torch.no_grad():
            net.weight.fill_(float(step))
        average.update(net, step)
        decay = min(0.5, (1 + step) / (10 + step))
        want = decay * want + (1 - decay) * step
    assert average.state["weight"].item() == pytest.approx(want, rel=1e-6)
    with average.shown(net):
        assert net.weight.item() == pytest.approx(want, rel=1e-6)
    assert net.weight.item() == 19


def test_an_average_is_saved_and_survives_a_stop(table, tmp_path):
    how = QUICK | {"ema": 0.9, "save_every": 3}
    plain = rw.pretrain.fit(table, out=tmp_path / "plain", **QUICK)
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **how)
    with pytest.raises(StopAt):
        rw.pretrain.fit(table, out=tmp_path / "cut", callback=at(5, halt), **how)
    cut = rw.pretrain.fit(table, out=tmp_path / "cut", **how)
    assert equal(weights_of(cut), weights_of(whole))
    assert not equal(weights_of(whole), weights_of(plain))
    clock = ["seconds", "images_per_s"]
    trained = [c for c in ("loss", "grad_norm", "logit_scale")]
    pd.testing.assert_frame_equal(
        whole.log[trained], plain.log[trained]
    )  # the average looks on
    pd.testing.assert_frame_equal(
        cut.log.drop(columns=clock), whole.log.drop(columns=clock)
    )


# stops


@pytest.mark.parametrize("how_asked", ["SIGINT", "SIGTERM", "callback"])
def test_asked_to_stop_a_run_keeps_its_last_whole_step(
    table, tmp_path, how_asked, capsys
):
    def ask():
        if how_asked == "callback":
            raise KeyboardInterrupt
        os.kill(os.getpid(), getattr(signal, how_asked))

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **QUICK)
    with pytest.raises(KeyboardInterrupt, match="after step 3 of 8"):
        rw.pretrain.fit(table, out=tmp_path / "cut", callback=at(3, ask), **QUICK)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert "Call fit again with the same arguments" in capsys.readouterr().out
    seen = []
    cut = rw.pretrain.fit(
        table, out=tmp_path / "cut", callback=lambda r: seen.append(r["step"]), **QUICK
    )
    assert seen == [4, 5, 6, 7, 8]
    assert equal(weights_of(cut), weights_of(whole))


def test_a_loss_that_is_not_a_number_leaves_its_batch(table, tmp_path):
    model = rw.models.clip_tiny(
        rw.models.Tokenizer.train(table["report"]), shape=SMALL | {"size": 32}
    )
    with torch.no_grad():
        model.net.ln_final.weight[:] = 3e38  # overflows on its way
    broken = rw.models.save(model, tmp_path / "broken")
    with pytest.raises(
        FloatingPointError, match=r"step 0 .*bad_batch.safetensors: rows \d+, \d+"
    ) as caught:
        rw.pretrain.fit(table, out=tmp_path / "a", start=broken, epochs=1, batch=16)
    with safe_open(tmp_path / "a" / "bad_batch.safetensors", "pt") as file:
        rows, images = file.get_tensor("rows"), file.get_tensor("images")
        names = json.loads(file.metadata()["names"])
    learn = table[table["split"] == "train"]
    assert names == list(learn["path"].iloc[rows.tolist()])
    assert f"rows {', '.join(str(int(r)) for r in rows)} of" in str(caught.value)
    np.testing.assert_array_equal(images, rw.data.images(learn.iloc[rows.tolist()], 32))


# what is written beside the weights


def test_the_cost_line_counts_a_linear_layer_by_hand():
    """Forward 2 * 30 * 20 a sample; backward as much for the weights, and again for the
    input where it is asked.
    """

    class Linear(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).sum()

    task = Linear(30, 20, bias=False)
    assert cost.step_flops(task, torch.ones(4, 30), (), "32-true") == 2 * (2 * 30 * 20)
    spent = cost.estimates(
        kind="cpu",
        precision="32-true",
        world=1,
        flops=1e6,
        images_per_s=50,
        seconds=7200,
        watts=3,
    )
    assert spent["energy_wh_estimate"] == 6 * torch.get_num_threads()
    assert spent["share_of_peak_estimate"] == pytest.approx(
        5e7 / cost.peak_flops("cpu", "32-true")
    )


def test_a_run_states_its_cost_as_estimates(table, tmp_path, capsys):
    run = rw.pretrain.fit(table, out=tmp_path / "a", watts=7, **(QUICK | {"epochs": 1}))
    spent = run.config["cost"]
    assert spent["share_of_peak_estimate"] > 0
    assert "at 7 W" in spent["energy_assumes"]
    assert "images/s; estimates:" in capsys.readouterr().out


@pytest.mark.skipif(
    not importlib.util.find_spec("tensorboard"), reason="tensorboard isn't installed"
)
def test_tensorboard_shows_what_the_log_says(table, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    how = QUICK | {"save_every": 3}
    with pytest.raises(StopAt):
        rw.pretrain.fit(table, out=tmp_path / "a", callback=at(5, halt), **how)
    run = rw.pretrain.fit(table, out=tmp_path / "a", **how)
    events = EventAccumulator(str(run.out / "tensorboard")).Reload().Scalars("loss")
    assert [e.step for e in events] == list(range(1, 9))
    np.testing.assert_allclose([e.value for e in events], run.log["loss"], rtol=1e-6)


# open_clip_train


def test_exported_pairs_are_what_fit_trains_on(table, tmp_path):
    import webdataset

    out = export_open_clip(table, tmp_path / "export", size=32, shape=SMALL, shards=4)
    tars = sorted(str(p) for p in (out / "train").glob("*.tar"))
    pairs = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    learn = table[table["split"] == "train"]
    assert [p["txt"] for p in pairs] == [
        rw.pretrain.caption_of(r) for r in learn["report"]
    ]
    np.testing.assert_array_equal(
        np.asarray(pairs[5]["png"])[..., 0], rw.data.images(learn.iloc[5:6], 32)[0]
    )
    words = shlex.split(
        (out / "train.sh")
        .read_text()
        .split("open_clip_train.main")[1]
        .replace("\\\n", " ")
    )
    options = dict(zip(words[:-3:2], words[1:-3:2], strict=True))
    assert options["--train-num-samples"] == "64"
    assert len(tars) >= int(options["--workers"])


def test_the_exported_command_is_one_that_open_clip_train_knows(
    table, tmp_path, monkeypatch
):
    from open_clip_train.data import get_dataset_size
    from open_clip_train.params import parse_args

    out = export_open_clip(table, tmp_path / "export", size=32, shape=SMALL, shards=4)
    words = shlex.split(
        (out / "train.sh")
        .read_text()
        .split("open_clip_train.main")[1]
        .replace("\\\n", " ")
    )
    args = parse_args([w for w in words if w != "$@"])
    monkeypatch.chdir(out)  # as the command does
    assert get_dataset_size(args.train_data)[1] == len(
        list((out / "train").glob("*.tar"))
    )
    assert args.train_num_samples == 64
    assert args.model == "local-dir:model"


def test_a_checkpoint_of_open_clip_train_loads_back(table, tmp_path):
    import open_clip

    out = export_open_clip(table, tmp_path / "export", size=32, shape=SMALL)
    net, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out / 'model'}")
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters()).state_dict()
    checkpoint = {"epoch": 10, "name": "radwb", "state_dict": state}
    torch.save(checkpoint | {"optimizer": optimizer}, out / "model" / "model.pt")
    model = rw.models.load(out / "model")
    assert equal(net.state_dict(), model.net.state_dict())
    ours = rw.models.clip_tiny(
        rw.models.Tokenizer.train(table["report"]), shape=SMALL | {"size": 32}
    )
    assert (model.size, model.grid, model.fit) == (ours.size, ours.grid, ours.fit)
    images = rw.data.images(table.head(3), 32)
    with torch.no_grad():
        want = net.eval().encode_image(model.preprocess(images), normalize=True)
    np.testing.assert_allclose(
        rw.models.embed(model, images, precision="32-true"), want, atol=1e-5
    )


# all recipes


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_each_recipe_stopped_and_resumed_equals_uninterrupted(table, tmp_path, recipe):
    """Heads, decoders and teachers aren't part of the model, and must still survive."""
    shape = SMALL if RECIPES[recipe].builds == "image-text" else VISUAL
    how = QUICK | {"recipe": recipe, "shape": shape, "save_every": 3}
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **how)
    with pytest.raises(StopAt):
        rw.pretrain.fit(table, out=tmp_path / "cut", callback=at(5, halt), **how)
    cut = rw.pretrain.fit(table, out=tmp_path / "cut", **how)
    assert equal(weights_of(cut), weights_of(whole))
    clock = ["seconds", "images_per_s"]
    pd.testing.assert_frame_equal(
        cut.log.drop(columns=clock), whole.log.drop(columns=clock)
    )
    assert whole.log["val_loss"].notna().sum() == 2
