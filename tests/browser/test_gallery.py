"""What a run wrote opens without a network, and its figures are drawn."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from radwb.book import pages, run

pytestmark = pytest.mark.browser
SHOWN = """
import numpy as np, pandas as pd, radwb as rw
ramp = np.tile(np.linspace(0, 1, 120, dtype=np.float32), (80, 1))
scan = rw.data.Scan(ramp, (2.0, 1.0), "PA")
mask = np.zeros(scan.shape, bool)
mask[20:40, 30:60] = True
rows = pd.DataFrame({"finding": ["A", "B"], "auroc": [0.9, 0.6]})
rows["low"] = rows["auroc"] - 0.1
rows["high"] = rows["auroc"] + 0.05
FIGURES = [
    rw.show.scan(scan, truth=mask),
    rw.show.overlay(scan, mask.astype(float)),
    rw.show.grid([scan] * 3),
    rw.show.forest(rows),
    rw.show.heatmap(np.eye(4)),
    rw.show.hist([1, 2, 2, 3]),
]
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A gallery of one page with a figure of each kind.

    It is made as the tour makes it (but not executed).
    """
    scope = {}
    exec(SHOWN, scope)
    cell = new_code_cell(SHOWN.strip(), execution_count=1)
    cell.outputs = [
        new_output("display_data", {pages.PLOTLY: json.loads(f.to_json())})
        for f in scope["FIGURES"]
    ]
    cell.outputs.append(new_output("display_data", {pages.MIME: [["mean auroc", 0.9]]}))
    cell.outputs.append(
        new_output("display_data", {"text/html": scope["rows"].to_html()})
    )
    nb = new_notebook(
        cells=[new_markdown_cell("# 0 · All figures\n\nAre they drawn?"), cell]
    )
    out = tmp_path_factory.mktemp("build")
    (out / "executed").mkdir()
    nbformat.write(nb, out / "executed" / "00_all.ipynb")
    note = run.Result(
        "00_all",
        "0 · All figures",
        "Are they drawn?",
        1,
        0.1,
        0.5,
        "",
        {"mean auroc": 0.9},
    )
    (out / "tour.json").write_text(
        json.dumps(run.summary([note], fast=False, planned=1))
    )
    return run.gallery(out).parent, len(scope["FIGURES"])


def test_the_gallery_opens_with_the_network_off(gallery, page):
    folder, _ = gallery
    page.context.set_offline(True)
    page.goto((folder / "index.html").as_uri())
    picture = page.locator("article img")
    assert picture.evaluate("image => image.naturalWidth") > 100
    assert (
        page.locator(".legal").inner_text()
        == "For teaching and research. Not for clinical use."
    )
    page.locator("article a").click()
    page.wait_for_selector(".plotly-graph-div")
    assert page.url.endswith("00_all.html")
    assert page.outside == []
    assert page.errors == []


def test_every_figure_is_drawn_with_its_images(gallery, page):
    folder, count = gallery
    page.context.set_offline(True)
    page.goto((folder / "00_all.html").as_uri())
    page.wait_for_function(
        f"document.querySelectorAll('.plotly-graph-div .main-svg').length >= {count}"
    )
    sizes = page.eval_on_selector_all(
        ".plotly-graph-div", "all => all.map(f => [f.clientWidth, f.clientHeight])"
    )
    assert len(sizes) == count
    assert all(width > 300 and height > 200 for width, height in sizes)
    drawn = page.eval_on_selector_all(
        ".imagelayer image",
        "all => all.map(i => [i.getBoundingClientRect().width, "
        "(i.getAttribute('href') || i.getAttribute('xlink:href')).length])",
    )
    assert len(drawn) == 1 + 2 + 3
    assert all(width > 100 and length > 100 for width, length in drawn)
    assert page.outside == []
    assert page.errors == []


def test_pixels_of_two_by_one_millimetres_are_drawn_two_to_one(gallery, page):
    page.goto((gallery[0] / "00_all.html").as_uri())
    page.wait_for_selector(".imagelayer image")
    box = page.locator(".imagelayer image").first.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(80 * 2 / 120, rel=0.02)
