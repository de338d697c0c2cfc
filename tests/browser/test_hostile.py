"""A script in words of others doesn't run in JupyterLab, nor in the gallery.

The words of a header, table, report, file or model name.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_volume import open_in_lab, run_all

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from hostile import ALL, PAYLOAD  # noqa: E402

import radwb as rw  # noqa: E402
from radwb.book import pages, run  # noqa: E402
from radwb.book.sync import KERNEL, checkout  # noqa: E402

pytestmark = pytest.mark.browser
# Lab itself sets the title again and again, so what was set is kept
WATCH = """
const title = Object.getOwnPropertyDescriptor(Document.prototype, "title");
Object.defineProperty(Document.prototype, "title", {
  get() { return title.get.call(this); },
  set(text) {
    window.pwned ||= text === "pwned" || text === 1;
    title.set.call(this, text);
  },
});
"""
SHOWN = [
    """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np, pandas as pd, radwb as rw
from PIL import Image
from hostile import PAYLOAD, hostile_dicom
here = Path({folder!r})
values = np.random.rand(6, 32, 32).astype(np.float32)
m = rw.attend.map.Map(values, PAYLOAD, target=PAYLOAD)
""",
    'rw.show.volume(rw.data.read(hostile_dicom(here / "series")), m, title=PAYLOAD)',
    """
name = here / (PAYLOAD.replace("/", "") + ".png")
pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
Image.fromarray(pixels).save(name)
row = dict.fromkeys(["patient_id", "study_id", "report"], PAYLOAD)
row |= {{"path": str(name), PAYLOAD: 1}}
table = pd.DataFrame([row, row | {{"study_id": str(name)}}])
model = rw.models.load("radwb-tiny")
rw.show.explore({{PAYLOAD: model}}, table, target=PAYLOAD)
""",
    "rw.show.live([PAYLOAD, 'b'], batch=8)",
    """
bar = pd.DataFrame({{"a": [PAYLOAD], "b": [1]}})
rw.show.bars(bar, x="a", y="b", title=PAYLOAD, caption=PAYLOAD)
""",
    "table",
    "print(PAYLOAD)",
]


@pytest.fixture
def watched(page):
    page.add_init_script(WATCH)
    return page


def ran_a_script(page) -> bool:
    page.wait_for_timeout(1500)  # a picture that fails does so a little later
    return bool(page.evaluate("Boolean(window.pwned)"))


def write(folder, name, cells):
    nb = new_notebook(
        cells=[new_code_cell(c.strip()) for c in cells], metadata={"kernelspec": KERNEL}
    )
    nbformat.write(nb, folder / f"{name}.ipynb")
    return (folder / f"{name}.ipynb").relative_to(checkout())


@pytest.fixture
def folder():
    place = checkout() / "build" / f"hostile-check-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    yield place
    shutil.rmtree(place)


def finish(page):
    """Run all cells, then one more that prints a word at the very end."""
    run_all(page)
    page.locator(".jp-OutputArea", has_text="the last cell").last.wait_for()


def test_nothing_that_radwb_shows_in_lab_runs_a_script(address, watched, folder):
    cells = [cell.format(tests=str(TESTS), folder=str(folder)) for cell in SHOWN]
    open_in_lab(
        watched, address, write(folder, "shown", [*cells, 'print("the last", "cell")'])
    )
    finish(watched)
    panel = watched.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    panel.locator(
        ".rv-title", has_text="<img src=x"
    ).first.wait_for()  # it is shown, as letters
    panel.locator(".rx-position", has_text="<img src=x").wait_for()
    assert "Traceback" not in panel.inner_text()
    assert not ran_a_script(watched)


def test_lab_would_run_the_script_if_it_came_through(address, watched, folder):
    """The control: what the widget's HTML held before."""
    raw = f"import ipywidgets\nipywidgets.HTML({PAYLOAD!r})"
    open_in_lab(
        watched, address, write(folder, "raw", [raw, 'print("the last", "cell")'])
    )
    finish(watched)
    assert ran_a_script(watched)


@pytest.fixture
def gallery(tmp_path):
    """Pages of a notebook whose every kind of output holds the script.

    They are made as the tour makes them.
    """
    figure = json.loads(
        rw.show.bars(
            pd.DataFrame({"a": [ALL], "b": [1]}), x="a", y="b", title=ALL
        ).to_json()
    )
    foreign = json.loads(json.dumps(figure))
    foreign["layout"]["title"] = {"text": ALL}
    styled = pd.DataFrame({ALL: [ALL]}).style.to_html()
    forms = {
        "text/html": styled,
        "text/markdown": ALL,
        "image/svg+xml": f"<svg>{ALL}</svg>",
        "text/plain": ALL,
    }
    cell = new_code_cell(ALL)
    cell.outputs = [
        new_output("display_data", {pages.PLOTLY: f}) for f in (figure, foreign)
    ]
    cell.outputs += [
        new_output("display_data", {kind: text}) for kind, text in forms.items()
    ]
    cell.outputs += [new_output("display_data", {pages.MIME: [[ALL, ALL]]})]
    cell.outputs += [new_output("stream", name="stdout", text=ALL)]
    cell.outputs += [new_output("error", ename=ALL, evalue=ALL, traceback=[ALL])]
    nb = new_notebook(cells=[new_markdown_cell(f"# {ALL}\n\n{ALL}"), cell])
    (tmp_path / "executed").mkdir()
    nbformat.write(nb, tmp_path / "executed" / "00_a.ipynb")
    note = run.Result("00_a", ALL, ALL, 1, 0.1, 0.5, ALL, {ALL: ALL})
    tour = run.summary([note], fast=False, planned=1)
    (tmp_path / "tour.json").write_text(json.dumps(tour))
    return run.gallery(tmp_path).parent


def test_no_page_of_the_gallery_runs_a_script_of_its_contents(gallery, watched):
    watched.goto((gallery / "index.html").as_uri())
    assert not ran_a_script(watched)
    assert "<img src=x" in watched.locator("article").inner_text()
    watched.locator("article a").click()
    # no wait_for_function: it evaluates text, which the page's policy forbids
    watched.locator(".plotly-graph-div .main-svg").nth(1).wait_for(state="attached")
    assert not ran_a_script(watched)
    assert "<img src=x" in watched.locator(".plotly-graph-div").first.inner_text()
    assert watched.outside == []
    assert watched.errors == []


def test_the_policy_of_a_page_holds_even_where_markup_comes_through(watched, tmp_path):
    body = f"{{% block body %}}{PAYLOAD}{{% endblock %}}"
    page = pages.ENVIRONMENT.from_string(f"{{% extends 'page.html' %}}{body}")
    (tmp_path / "held.html").write_text(page.render(title="a"))
    watched.goto((tmp_path / "held.html").as_uri())
    assert not ran_a_script(watched)
    (tmp_path / "raw.html").write_text(PAYLOAD)
    watched.goto((tmp_path / "raw.html").as_uri())
    assert ran_a_script(watched)
