"""A cell run again: the widget of before lets go; films and maps are kept once."""

import dataclasses
import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances

import radwb as rw
from radwb.explore import computed as state
from radwb.explore import once
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.kept import Kept, store_of

MODEL = "radwb-tiny"
ASKED = "pleural effusion vs no pleural effusion"


@pytest.fixture
def model():
    return rw.models.load(MODEL)


@pytest.fixture
def cell(monkeypatch):
    """What a notebook says of the cell that runs: set `cell["run"]` for the next."""
    monkeypatch.setattr(once, "_made", {})
    running = {"cell": "abc", "run": 0}
    monkeypatch.setattr(once, "_running", lambda: (running["cell"], running["run"]))
    return running


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def test_twenty_runs_of_a_cell_leave_no_more_than_one(model, table, cell):
    outputs = []  # as the notebook's Out holds them

    def run(n):
        cell["run"] = n
        widget = rw.show.explore(model, table, against="gradcam")
        widget.case = n % 6
        widget.wait(30, idle=True)
        outputs.append(widget)

    for n in range(3):
        run(n)
    gc.collect()
    threads, comms, before = threading.active_count(), len(_instances), resident_mb()
    for n in range(3, 23):
        run(n)
    gc.collect()
    assert threading.active_count() <= threads
    assert len(_instances) == comms
    assert resident_mb() < before + 20
    assert [widget.comm is None for widget in outputs] == [True] * 22 + [False]
    assert all(widget.cases is None for widget in outputs[:-1])
    assert outputs[-1].views[0]["grid"]
    outputs[-1].close()


def test_only_the_same_cell_of_another_run_lets_go(model, table, cell):
    first = rw.show.explore(model, table)
    beside = rw.show.explore(model, table)  # in the same run of the same cell
    cell["cell"] = "another"
    other = rw.show.explore(model, table)
    assert all(widget.comm is not None for widget in (first, beside, other))
    cell |= {"cell": "abc", "run": 1}
    again = rw.show.explore(model, table)
    assert [widget.comm is None for widget in (first, beside)] == [True, True]
    assert all(widget.comm is not None for widget in (other, again))
    with pytest.raises(ValueError, match="cell was run again"):
        first.save("a.png")
    for widget in (other, again):
        widget.close()


def test_outside_a_notebook_nothing_is_let_go(model, table):
    first = rw.show.explore(model, table)
    second = rw.show.explore(model, table)
    assert first.comm is not None
    for widget in (first, second):
        widget.close()


def test_threads_end_when_there_is_nothing_to_do(model, table):
    before = threading.active_count()
    widget = rw.show.explore(model, table, against="gradcam")
    assert widget.wait(30, idle=True)
    widget.work.errands.add(time.sleep, 0.01)
    widget.work.errands.join()
    assert threading.active_count() == before
    widget.close()


def test_films_and_maps_are_kept_once_for_all_widgets(model, table, monkeypatch):
    choice = Choice(MODEL, "gradcam", ASKED)
    first = Cases({MODEL: model}, table)
    grid = first.grid(0, choice)
    monkeypatch.setattr(state, "grids", None)  # a second computation fails
    monkeypatch.setattr(state, "captured", None)
    monkeypatch.setattr(rw.data, "scan_of", None)
    second = Cases({"by another name": model}, table.copy())
    renamed = Choice("by another name", "gradcam", ASKED)
    assert second.grid(0, renamed) is grid
    assert second.scan(0) is first.scan(0)


def test_a_film_that_changed_and_a_model_trained_further_are_computed_anew(
    model, table, tmp_path
):
    path = tmp_path / "film.png"
    scans = [rw.data.scan_of(table.iloc[n]) for n in (0, 1)]
    films = table.head(1).assign(path=str(path), truth_path="")
    choice = Choice(MODEL, "gradcam", ASKED)
    rw.data.write_png(scans[0], path)
    before = Cases({MODEL: model}, films).grid(0, choice)
    rw.data.write_png(scans[1], path)
    other = Cases({MODEL: model}, films).grid(0, choice)
    assert not np.allclose(before, other)
    with torch.no_grad():  # as an optimiser does
        next(model.net.visual.parameters()).mul_(1.1)
    trained = Cases({MODEL: model}, films).grid(0, choice)
    assert not np.array_equal(other, trained)


def test_a_truth_that_is_drawn_anew_is_read_anew(model, table, tmp_path):
    path = tmp_path / "film.png"
    films = table.head(1).assign(path=str(path), truth_path="")
    scan = rw.data.scan_of(table.iloc[0])
    rw.data.write_png(scan, path)
    before = Cases({MODEL: model}, films).scan(0)
    mask = np.zeros(scan.shape, bool)
    mask[:9] = True
    written = path.read_bytes(), os.stat(path)
    rw.data.write_png(dataclasses.replace(scan, truth={"Edema": mask}), path)
    path.write_bytes(written[0])
    os.utime(path, ns=(written[1].st_atime_ns, written[1].st_mtime_ns))
    after = Cases({MODEL: model}, films).scan(0)
    assert "Pleural Effusion" in before.truth
    assert np.array_equal(after.truth["Edema"], mask)
    assert set(after.truth) == {"Edema"}


def test_what_is_kept_goes_with_the_model(table):
    model = rw.models.load(MODEL)
    store = weakref.ref(store_of(model))
    cases = Cases({MODEL: model}, table)
    cases.view(0, Choice(MODEL, "relevance", ASKED))
    assert store() is not None
    del cases, model
    gc.collect()
    assert store() is None


def test_the_least_used_is_let_go_first():
    kept = Kept(100)
    made = []

    def make(key, size=40):
        return kept.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    for key in "abacab":
        make(key)
    assert made == ["a", "b", "c", "b"]  # "b" was used longest ago when "c" came
    make("large", 500)
    assert list(kept.values) == ["large"]  # the newest is always kept
    assert kept.size == 500


@pytest.mark.slow
def test_a_real_kernel_tells_the_cell():
    from jupyter_client.manager import start_new_kernel

    code = (
        "from radwb.explore.once import replace_former\n"
        "class Widget:\n"
        "    closed = False\n"
        "    def close(self): self.closed = True\n"
        "made = globals().get('made', []) + [Widget()]\n"
        "replace_former(made[-1])\n"
        "print([widget.closed for widget in made])"
    )
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        seen = [run_cell(client, code, cell) for cell in ("a", "a", "b", "a")]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert seen == [
        "[False]",
        "[True, False]",
        "[True, False, False]",
        "[True, True, False, False]",
    ]


def run_cell(client, code, cell):
    """What a cell of that id prints, asked for as JupyterLab does."""
    content = dict(code=code, silent=False, store_history=True)
    content |= dict(user_expressions={}, allow_stdin=False, stop_on_error=True)
    message = client.session.msg("execute_request", content)
    message["metadata"]["cellId"] = cell
    client.shell_channel.send(message)
    while True:
        answer = client.get_iopub_msg(timeout=60)
        if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        assert answer["msg_type"] != "error", answer["content"]
        if answer["msg_type"] == "stream":
            return answer["content"]["text"].strip()
