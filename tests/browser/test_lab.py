"""`radwb lab` opens notebook 00 in JupyterLab.

On this machine alone, with no question about news.
"""

import os
import shutil
import socket

import pytest

from radwb.book.sync import checkout

pytestmark = pytest.mark.browser


def test_lab_opens_notebook_00_without_a_question_or_a_call_outside(address, page):
    page.goto(address[0])
    page.wait_for_selector(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-MarkdownCell", timeout=90_000
    )
    page.wait_for_timeout(4000)  # the prompt about news comes late
    assert (
        "Start here"
        in page.locator(".jp-NotebookPanel .jp-MarkdownCell").first.inner_text()
    )
    assert page.locator(".jp-toastContainer, .Toastify__toast").count() == 0
    assert "news" not in page.locator("body").inner_text().lower()
    assert page.outside == []


def test_lab_is_closed_to_the_network_and_to_those_without_the_token(address):
    import urllib.error
    import urllib.request

    _, port = address
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents")
    outside = next(
        (
            a[4][0]
            for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        ),
        "127.0.0.1",
    )
    if outside.startswith("127."):
        pytest.skip("this machine has no address besides 127.0.0.1")
    with socket.socket() as door:
        door.settimeout(3)
        assert door.connect_ex((outside, port)) != 0


def test_a_figure_is_drawn_in_lab(address, page, tmp_path_factory):
    """Lab draws with the plotly extension that comes with the package, offline."""
    folder = checkout() / "build" / f"lab-check-{os.getpid()}"
    folder.mkdir(parents=True)
    notebook = folder / "figure.ipynb"
    make_figure_notebook(notebook)
    try:
        base, _, token = address[0].partition("/lab")
        page.goto(
            f"{base}/lab/tree/{notebook.relative_to(checkout())}?{token.partition('?')[2]}"
        )
        page.wait_for_selector(
            ".jp-NotebookPanel .js-plotly-plot .main-svg", timeout=90_000
        )
        image = page.locator(".js-plotly-plot .imagelayer image").first
        assert image.bounding_box()["width"] > 100
        before = notebook.stat().st_mtime_ns
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
        assert notebook.stat().st_mtime_ns > before
        assert list(folder.glob("*.py")) == []  # a save pairs no script
        assert page.outside == []
    finally:
        shutil.rmtree(folder)


def make_figure_notebook(path):
    import json

    import nbformat
    import numpy as np
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    import radwb as rw
    from radwb.book.sync import KERNEL

    figure = json.loads(rw.show.scan(np.eye(20, dtype=np.float32)).to_json())
    cell = new_code_cell("figure", execution_count=1)
    cell.outputs = [
        new_output("display_data", {"application/vnd.plotly.v1+json": figure})
    ]
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": KERNEL}), path)
