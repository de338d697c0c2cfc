"""Figures fit their cell, in JupyterLab and on a page of the gallery.

At each width no figure is wider than its place, no word is cut off, and none runs into
another.
"""

import json
import os
import shutil

import nbformat
import pytest
from figures import figures
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from radwb.book import pages
from radwb.book.sync import KERNEL, checkout

pytestmark = pytest.mark.browser
# px of the window at 100 %, and what 1280 px are at 150 %
WIDTHS = (853, 900, 1280, 1600)
MEASURE = """selector => [...document.querySelectorAll(selector)].map(figure => {
  const place = figure.closest(".code, .jp-RenderedPlotly");
  const box = figure.querySelector(".main-svg").getBoundingClientRect();
  const texts = [...figure.querySelectorAll("text")].filter(
    t => t.textContent.trim() && !t.closest(".heatmaplayer, .modebar"));
  const words = texts.map(t => {
    const slant = t.getAttribute("transform") || "";
    const turned = /rotate\\((?!0[,)]|-?90[,)])/.test(slant);
    return { text: t.textContent, turned, box: t.getBoundingClientRect() };
  });
  const cut = words.filter(({ box: b }) => b.left < box.left - 1 || b.top < box.top - 1
    || b.right > box.right + 1 || b.bottom > box.bottom + 1).map(w => w.text);
  const over = [];
  words.forEach((a, i) => words.slice(0, i).forEach(b => {
    const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const tall = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    if (wide > 3 && tall > 4 && !(a.turned && b.turned)) over.push([a.text, b.text]);
  }));
  return { wide: Math.round(box.width), room: place.clientWidth, cut, over };
})"""


@pytest.fixture(scope="module")
def shown():
    return figures()


@pytest.fixture(scope="module")
def notebook(shown):
    """All kinds as outputs of a notebook in the checkout."""
    cell = new_code_cell("figures", execution_count=1)
    cell.outputs = [
        new_output("display_data", {pages.PLOTLY: json.loads(figure.to_json())})
        for figure in shown.values()
    ]
    folder = checkout() / "build" / f"width-check-{os.getpid()}"
    folder.mkdir(parents=True)
    cells = [new_markdown_cell("# a\n\nb"), cell]
    nb = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.write(nb, folder / "all.ipynb")
    yield folder / "all.ipynb"
    shutil.rmtree(folder)


def look(page, selector, names):
    """Wait for the figures; {name: what was measured of it}."""
    for n in range(len(names)):
        page.locator(f"{selector} .main-svg").nth(n).wait_for(state="attached")
    page.wait_for_timeout(2500)  # plotly draws once more when its place is known
    rows = page.evaluate(MEASURE, selector)
    assert len(rows) == len(names)
    return dict(zip(names, rows, strict=True))


def faults(measured):
    return {
        name: row
        for name, row in measured.items()
        if row["wide"] > row["room"] or row["cut"] or row["over"]
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_fit_a_page_of_the_gallery(page, notebook, shown, tmp_path, width):
    path = tmp_path / "all.html"
    pages.write_page(nbformat.read(notebook, as_version=4), path, title="a")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    assert faults(look(page, ".plotly-graph-div", list(shown))) == {}
    scrolled = "e => [e.scrollWidth > e.clientWidth]"
    for place in ("html", "section.code"):
        assert page.locator(place).last.evaluate(scrolled) == [False]
    assert page.errors == []


def test_figures_fit_their_cell_in_lab(address, page, notebook, shown):
    base, _, token = address[0].partition("/lab")
    path = notebook.relative_to(checkout())
    problems = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{base}/lab/tree/{path}?{token.partition('?')[2]}")
        problems[width] = faults(look(page, ".jp-RenderedPlotly", list(shown)))
        assert page.locator(".jp-RenderedPlotly").first.bounding_box()["width"] > 300
    assert problems == dict.fromkeys(WIDTHS, {})
    assert page.outside == []


def test_figures_follow_the_window(address, page, notebook, shown):
    base, _, token = address[0].partition("/lab")
    path = notebook.relative_to(checkout())
    page.goto(f"{base}/lab/tree/{path}?{token.partition('?')[2]}")
    before = look(page, ".jp-RenderedPlotly", list(shown))
    page.set_viewport_size({"width": 900, "height": 900})
    after = look(page, ".jp-RenderedPlotly", list(shown))
    # the list of files keeps its width, so that cells are narrower than they ever open
    assert [name for name, row in after.items() if row["wide"] > row["room"]] == []
    assert after["bars"]["wide"] < before["bars"]["wide"] - 100


def test_aspects_stay_true_in_a_narrow_cell(page, notebook, tmp_path):
    path = tmp_path / "all.html"
    pages.write_page(nbformat.read(notebook, as_version=4), path, title="a")
    page.set_viewport_size({"width": 480, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector(".imagelayer image")
    page.wait_for_timeout(1500)
    box = page.locator(".imagelayer image").first.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(80 * 2 / 120, rel=0.02)
