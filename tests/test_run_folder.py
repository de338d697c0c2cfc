"""A run's folder: one writer, nothing torn taken for whole.

What differs is named, nothing is deleted or shown.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from tables import films_table, noise_films

import radwb as rw
from radwb.pretrain import lock
from radwb.pretrain import run as runs

SHAPE = {
    "width": 32,
    "heads": 1,
    "layers": 1,
    "embed": 16,
    "text_width": 32,
    "text_heads": 1,
    "text_layers": 1,
}
HOW = dict(size=32, batch=8, epochs=2, shape=SHAPE, save_every=1, precision="32-true")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    words = ("Normal.", "Left effusion.", "Large heart.", "A nodule.")
    return films_table(
        tmp_path_factory.mktemp("films"),
        noise_films(24),
        split=["train"] * 16 + ["val"] * 8,
        report=[f"{words[film % 4]} Film {film}." for film in range(24)],
    )


def stopped(table, out, at=2, **how):
    def callback(row):
        if row["step"] == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rw.pretrain.fit(table, out=out, callback=callback, **(HOW | how))
    return out


def weights(run):
    return {k: v.clone() for k, v in rw.models.load(run.out).net.state_dict().items()}


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    return data[:-900] + bytes([data[-900] ^ 64]) + data[-899:]


DAMAGE = {
    "checkpoint cut": ("checkpoint.safetensors", cut),
    "checkpoint empty": ("checkpoint.safetensors", lambda data: b""),
    "a weight's bit flipped": ("checkpoint.safetensors", flipped),
    "the step another one": (
        "checkpoint.safetensors",
        lambda d: d.replace(b'\\"step\\": 2', b'\\"step\\": 1', 1),
    ),
    "config cut": ("config.json", cut),
    "config empty": ("config.json", lambda data: b""),
    "config a list": ("config.json", lambda data: b"[1]"),
    "config not UTF-8": ("config.json", lambda data: b"\xff\xfe{"),
    "config too deep": ("config.json", lambda data: b"[" * 100_000),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_sentence_and_no_obstacle_to_starting_anew(
    table, tmp_path, kind
):
    name, spoil = DAMAGE[kind]
    out = stopped(table, tmp_path / "a")
    before = (out / name).read_bytes()
    (out / name).write_bytes(spoil(before))
    assert (out / name).read_bytes() != before
    with pytest.raises(
        ValueError,
        match=rf"{name} as fit wrote it, got a damaged one .*Try resume=False",
    ) as caught:
        rw.pretrain.fit(table, out=out, **HOW)
    assert "\n" not in str(caught.value)
    again = rw.pretrain.fit(table, out=out, resume=False, **HOW)
    whole = rw.pretrain.fit(table, out=tmp_path / "whole", **HOW)
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
    assert (tmp_path / "a.previous-1" / name).is_file()


def test_a_finished_run_whose_weights_changed_is_not_taken_as_it_is(table, tmp_path):
    run = rw.pretrain.fit(table, out=tmp_path / "a", **HOW)
    assert rw.pretrain.fit(table, out=tmp_path / "a", **HOW).reused
    path = run.out / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(ValueError, match="its sha256 is not that in config.json"):
        rw.pretrain.fit(table, out=tmp_path / "a", **HOW)
    with pytest.raises(ValueError, match="its sha256 is not that in config.json"):
        _ = rw.pretrain.Run(run.out).model
    with pytest.raises(ValueError, match="its sha256 is not that in config.json"):
        rw.models.load(run.out)
    path.unlink()
    with pytest.raises(ValueError, match="missing"):
        rw.pretrain.fit(table, out=tmp_path / "a", **HOW)
    assert not rw.pretrain.fit(table, out=tmp_path / "a", resume=False, **HOW).reused


def test_load_says_what_of_a_run_is_damaged(table, tmp_path):
    run = rw.pretrain.fit(table, out=tmp_path / "a", **HOW)
    words = run.out / "tokenizer.json"
    before = words.read_text(encoding="utf-8")
    words.write_text(before + " ", encoding="utf-8")
    with pytest.raises(ValueError, match="tokenizer.json as fit wrote it, got a dam"):
        rw.models.load(run.out)
    words.write_text(before, encoding="utf-8")
    (run.out / "log.csv").write_text("")
    with pytest.raises(ValueError, match="log.csv as fit wrote it, got a damaged"):
        _ = run.log
    (run.out / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="expected JSON in config.json"):
        rw.models.load(run.out)


CHANGES = {
    "data: report": lambda t: {
        "table": t.assign(report=t["report"].str.replace("Left", "Right"))
    },
    "order of rows": lambda t: {"table": t.sample(frac=1, random_state=0)},
    "tokenizer": lambda t: {
        "table": t,
        "extra_texts": ["cardiomegaly oedema pneumothorax"] * 50,
    },
    "lr": lambda t: {"table": t, "lr": 5e-4},
    "data: films": lambda t: {
        "table": t.assign(
            path=[t["path"][1], *t["path"][:1], *t["path"][2:-1], other_film(t)]
        )
    },
}


def other_film(table):
    path = table["path"].iloc[-1].replace(".png", "-other.png")
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(path)
    return path


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_from_the_stopped_run_is_named(table, tmp_path, capsys, what):
    stopped(table, tmp_path / "a")
    rw.pretrain.fit(out=tmp_path / "a", **(HOW | {"epochs": 2} | CHANGES[what](table)))
    line = next(
        text for text in capsys.readouterr().out.splitlines() if "started anew" in text
    )
    assert what in line.partition("changed: ")[2].partition(")")[0]
    assert "order of rows" not in line or what == "order of rows"


def test_shards_of_other_bytes_are_other_data_even_where_shards_json_is_old(
    table, tmp_path, capsys
):
    rw.data.write_shards(table, tmp_path / "shards", per_shard=8)
    how = HOW | {"shards": tmp_path / "shards"}
    stopped(None, tmp_path / "a", **how)
    old = (tmp_path / "shards" / "shards.json").read_bytes()
    rw.data.write_shards(
        table.assign(report="Quite another."), tmp_path / "shards", per_shard=8
    )
    (tmp_path / "shards" / "shards.json").write_bytes(old)
    rw.pretrain.fit(out=tmp_path / "a", **how)
    assert "changed: " in capsys.readouterr().out


def test_no_run_is_ever_deleted(table, tmp_path):
    lost = []
    for lr in (1e-3, 2e-3, 3e-3):
        run = rw.pretrain.fit(
            table, out=tmp_path / "a", **(HOW | {"lr": lr, "epochs": 1})
        )
        lost.append(weights(run))
    runs_there = [
        rw.pretrain.Run(tmp_path / name)
        for name in ("a.previous-1", "a.previous-2", "a")
    ]
    for before, run in zip(lost, runs_there, strict=True):
        assert all(torch.equal(v, before[k]) for k, v in weights(run).items())


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_ones_own_called_previous_is_passed_over(table, tmp_path, link):
    folder = tmp_path / "a.previous-1"
    if link:
        folder.symlink_to(tmp_path / "gone")
    else:
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    for lr in (1e-3, 2e-3):
        rw.pretrain.fit(table, out=tmp_path / "a", **(HOW | {"lr": lr, "epochs": 1}))
    assert (tmp_path / "a.previous-2" / "model.safetensors").is_file()
    assert (
        folder.is_symlink() if link else (folder / "thesis.txt").read_text() == "mine"
    )


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "names", [["thesis.txt"], ["thesis.txt", "config.json"], ["tokenizer.json"]]
)
def test_a_folder_that_is_no_run_is_refused_and_left(table, tmp_path, names, resume):
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / "a" / name).write_text("{}")
    with pytest.raises(ValueError, match="expected an empty folder or a run"):
        rw.pretrain.fit(table, out=tmp_path / "a", resume=resume, **HOW)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(names)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]  # no lock is left either


def test_a_folder_of_another_library_with_the_same_names_is_refused(table, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "a" / name).write_text("{}")
    (tmp_path / "a" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="expected an empty folder or a run"):
        rw.pretrain.fit(table, out=tmp_path / "a", **HOW)
    assert len(list((tmp_path / "a").iterdir())) == 3


# one writer


def test_a_second_fit_in_a_folder_is_refused_while_the_first_goes_on(table, tmp_path):
    refused = []

    def second(row):
        for how in ({}, {"resume": False}, {"lr": 5e-4}):
            with pytest.raises(
                ValueError,
                match=rf"in use by process {os.getpid()} on .* delete a.lock",
            ) as caught:
                rw.pretrain.fit(table, out=tmp_path / "a", **(HOW | how))
            refused.append(caught)

    run = rw.pretrain.fit(table, out=tmp_path / "a", callback=second, **HOW)
    whole = rw.pretrain.fit(table, out=tmp_path / "b", **HOW)
    assert len(refused) == 3 * 4
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(run).items())
    assert not (tmp_path / "a.lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over_and_said(tmp_path, capsys):
    code = "import os, sys; from pathlib import Path; from radwb.pretrain import lock\n"
    code += "with lock.held(Path(sys.argv[1])): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    dead = json.loads((tmp_path / "a.lock").read_text())
    with lock.held(tmp_path / "a"):
        assert json.loads((tmp_path / "a.lock").read_text())["pid"] == os.getpid()
    assert (
        f"process {dead['pid']} on {socket.gethostname()} has ended"
        in capsys.readouterr().out
    )
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_got_the_number_of_a_dead_one_holds_nothing(tmp_path):
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "began": 1000.0,
    }  # long before this one began
    (tmp_path / "a.lock").write_text(json.dumps(holder))
    with lock.held(tmp_path / "a"):
        pass
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"pid": 1, "host": "elsewhere", "began": 1.0}',
        '{"pid": -5, "host": "elsewhere", "began": 1.0}',
        '{"pid": 1, "host": "elsewhere", "began": NaN}',
        "",
        "{",
        "[]",
        '{"pid": "x"}',
    ],
)
def test_a_lock_of_which_nothing_can_be_known_is_respected(tmp_path, text):
    (tmp_path / "a.lock").write_text(text)
    with (
        pytest.raises(ValueError, match="if that process has ended, delete a.lock"),
        lock.held(tmp_path / "a"),
    ):
        pass
    assert (tmp_path / "a.lock").read_text() == text


def test_a_killed_process_that_nobody_has_looked_after_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = psutil.Process(process.pid).create_time()
    holder = {"pid": process.pid, "host": socket.gethostname(), "began": began}
    (tmp_path / "a.lock").write_text(json.dumps(holder))
    with pytest.raises(ValueError, match="in use by"), lock.held(tmp_path / "a"):
        pass
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with lock.held(tmp_path / "a"):
        pass
    process.wait()


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with (
        lock.held(tmp_path / "a"),
        pytest.raises(ValueError, match="link, in use by process"),
        lock.held(tmp_path / "link"),
    ):
        pass


@pytest.mark.parametrize("name", [".", "..", "file", "file/a", "broken"])
def test_a_place_that_cant_become_a_folder_is_refused(
    table, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a folder .*Try"):
        rw.pretrain.fit(table, out=name, **HOW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "file"]


# who may read


def open_to_others(path):
    return stat.S_IMODE(path.stat().st_mode) & 0o077


def test_a_run_is_readable_by_its_owner_alone(table, tmp_path):
    before = os.umask(0o000)  # the most careless of machines
    try:
        stopped(table, tmp_path / "cut")
        run = rw.pretrain.fit(table, out=tmp_path / "runs" / "a", **HOW)
    finally:
        os.umask(before)
    for folder in (tmp_path / "cut", run.out):
        assert open_to_others(folder) == 0
        assert [
            p.name for p in folder.rglob("*") if p.is_file() and open_to_others(p)
        ] == []
    assert (
        open_to_others(tmp_path / "runs") != 0
    )  # the folder above is its owner's affair


def test_an_error_numbers_rows_and_names_no_file(table, tmp_path):
    model = rw.models.clip_tiny(
        rw.models.Tokenizer.train(table["report"]), shape=SHAPE | {"size": 32}
    )
    with torch.no_grad():
        model.net.ln_final.weight[:] = 3e38  # overflows on its way
    broken = rw.models.save(model, tmp_path / "broken")
    with pytest.raises(FloatingPointError) as caught:
        rw.pretrain.fit(table, out=tmp_path / "a", start=broken, epochs=1, batch=8)
    assert not [path for path in table["path"] if path in str(caught.value)]
    assert open_to_others(tmp_path / "a" / "bad_batch.safetensors") == 0


def test_a_full_disk_leaves_the_file_before_and_no_half_one(tmp_path):
    runs.write_config(tmp_path, {"a": 1})

    def fails(part):
        part.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        runs.replace(tmp_path / "config.json", fails)
    assert runs.read_config(tmp_path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
