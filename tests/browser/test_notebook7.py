"""The widgets and figures in Notebook 7, where it is installed, network off."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from figures import charts
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tables import effusion_table
from test_width import faults, look

from radwb.book import lab, pages
from radwb.book.sync import KERNEL, checkout

pytestmark = pytest.mark.browser
pytest.importorskip("notebook", "7", reason="Notebook 7 isn't installed")
EXPLORER = """
import pandas as pd
import radwb as rw
model = rw.models.load("radwb-tiny")
rw.show.explore(model, pd.read_csv("films.csv"))
"""


@pytest.fixture(scope="module")
def folder():
    folder = checkout() / "build" / f"notebook7-check-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """A running Notebook 7: the address of the folder, and the query with its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    call = [sys.executable, "-m", "notebook", "--no-browser", "--ip=127.0.0.1"]
    call += [f"--port={port}", f"--ServerApp.root_dir={folder}"]
    if os.name == "posix" and os.geteuid() == 0:
        call.append("--allow-root")
    environment = lab.environment() | {
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
    }
    log = home / "log"
    with log.open("w") as out:
        server = subprocess.Popen(call, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 90
        match = None
        while not match and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.5)
            match = re.search(r"\?(token=\w+)", log.read_text())
        assert match, log.read_text()
        yield f"http://127.0.0.1:{port}/notebooks", match.group(1)
    finally:
        server.terminate()
        server.wait(60)


def write(path, cell):
    nb = new_notebook(cells=[cell, new_code_cell("")], metadata={"kernelspec": KERNEL})
    nbformat.write(nb, path)


def test_the_explorer_lives_and_keeps_its_keys(address, page, folder):
    effusion_table().to_csv(folder / "films.csv", index=False)
    write(folder / "a.ipynb", new_code_cell(EXPLORER.strip()))
    page.goto(f"{address[0]}/a.ipynb?{address[1]}")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.locator(".jp-NotebookKernelStatus, .jp-NotebookKernelLogo").first.wait_for()
    page.wait_for_timeout(3000)
    page.keyboard.press("Control+Enter")
    page.locator(".rx[data-painted] .rx-label:has-text('relevance')").wait_for()
    assert page.locator(".radwb-still").is_hidden()
    for control in (
        page.locator(".rx canvas.rx-scan").first,
        page.get_by_label("Method"),
    ):
        for key in ("x", "a", "b", "m", "d", "d"):
            control.focus()
            page.keyboard.press(key)
    assert page.locator(".jp-CodeCell").count() == 2
    page.get_by_role("button", name="layer 1, head 2").click()
    page.locator(".rx-label", has_text="layer 1, head 2").wait_for()
    box = page.locator(".rx").bounding_box()
    cell = page.locator(".jp-OutputArea-output:has(.rx)").first.bounding_box()
    assert box["width"] <= cell["width"]
    assert page.outside == []


def test_figures_fit_their_cell(address, page, folder):
    shown = charts()
    cell = new_code_cell("figures", execution_count=1)
    cell.outputs = [
        new_output("display_data", {pages.PLOTLY: json.loads(figure.to_json())})
        for figure in shown.values()
    ]
    write(folder / "b.ipynb", cell)
    problems = {}
    for width in (900, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{address[0]}/b.ipynb?{address[1]}")
        problems[width] = faults(look(page, ".jp-RenderedPlotly", list(shown)))
    assert problems == {900: {}, 1280: {}}
