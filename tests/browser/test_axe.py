"""axe-core finds nothing serious in the widgets and the gallery, light and dark."""

import json
import os
import shutil

import nbformat
import pytest
from axe import findings, source
from figures import charts
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tables import effusion_table
from test_volume import CODE, open_in_lab, run_all

from radwb.book import pages, run
from radwb.book.sync import KERNEL, checkout

pytestmark = pytest.mark.browser
EXPLORER = """
import pandas as pd
import radwb as rw
model = rw.models.load("radwb-tiny")
rw.show.explore(model, pd.read_csv("films.csv"), against="gradcam")
"""
ERRORS = """
films = pd.read_csv("films.csv").assign(split=["test"] * 4 + ["train"] * 2)
rw.show.cases(model, films.index.to_numpy() % 2, films, finding="Pleural Effusion")
"""
STUDY = """
study = rw.show.reading_study(films, advice=[1] * 6, finding="Pleural Effusion")
study.begin()
study
"""
LIVE = """
plot = rw.show.live(["a", "b"], batch=8)
plot({"step": 1, "epoch": 0, "loss": 2.0})
plot
"""
# a widget, and the element that it is
WIDGETS = {
    "explorer": (EXPLORER, ".rx"),
    "errors": (ERRORS, ".rg"),
    "study": (STUDY, ".rs"),
    "volume": (f"{CODE}\nview", ".rv"),
    "live": (f"import radwb as rw\n{LIVE}", ".widget-vbox:has(.js-plotly-plot)"),
}
READY = {
    "explorer": ".rx[data-painted] .rx-label:has-text('gradcam')",
    "errors": ".rg .rg-thumb",
    "study": ".rs .rr-film",
    "volume": ".rv[data-painted]",
    "live": ".js-plotly-plot .main-svg",
}


@pytest.fixture(scope="module")
def widgets(chromium, address):
    """A page of JupyterLab on which all widgets live, in one notebook.

    (A notebook of the same name in a folder that was made anew would meet the kernel of
    the one before, which stands in a folder that is gone.)
    """
    source()  # skips before a notebook is run in vain
    folder = checkout() / "build" / f"axe-check-{os.getpid()}"
    folder.mkdir(parents=True)
    effusion_table().to_csv(folder / "films.csv", index=False)
    cells = [new_code_cell(code.strip()) for code, _ in WIDGETS.values()]
    path = folder / "a.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    page = chromium.new_page(viewport={"width": 1280, "height": 3200})
    page.set_default_timeout(90_000)
    open_in_lab(page, address, path.relative_to(checkout()))
    run_all(page)
    for widget in WIDGETS:
        page.locator(READY[widget]).first.wait_for(timeout=180_000)  # a CT is read
    yield page
    page.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("widget", list(WIDGETS))
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_a_widget_has_no_serious_finding(widgets, widget, theme):
    _, selector = WIDGETS[widget]
    choose_theme(widgets, theme)
    widgets.wait_for_timeout(1000)  # the colours fade
    assert findings(widgets, selector) == []


def choose_theme(page, name):
    """By the menu, as a reader does."""
    page.locator(".lm-MenuBar-itemLabel", has_text="Settings").click()
    page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
    page.locator(".lm-Menu-itemLabel", has_text=f"JupyterLab {name}").last.click()
    light = str(name == "Light").lower()
    body = page.locator(f"body[data-jp-theme-light='{light}']")
    body.wait_for(state="attached")


def test_axe_finds_a_picture_without_words(page):
    """The control: what it says nothing about could be what it can't see."""
    page.set_content("<main><img src='data:,'></main>")
    assert [row["id"] for row in findings(page, "main")] == ["image-alt"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_of_the_gallery_has_no_serious_finding(page, tmp_path, scheme):
    source()
    code = "@made\ndef of(a):  # all kinds\n    return [f'{b}' for b in a if not None]"
    cell = new_code_cell(code, execution_count=1)
    cell.outputs = [
        new_output("display_data", {pages.PLOTLY: json.loads(figure.to_json())})
        for figure in charts().values()
    ]
    cell.outputs.append(new_output("stream", name="stdout", text="a line\n"))
    cell.outputs.append(new_output("error", ename="E", evalue="e", traceback=["E: e"]))
    words = "# 0 · A page\n\nIs it readable?\n\n## More\n\n`code`, a [link](index.html)"
    nb = new_notebook(cells=[new_markdown_cell(words), cell])
    (tmp_path / "executed").mkdir()
    nbformat.write(nb, tmp_path / "executed" / "00_a.ipynb")
    note = run.Result("00_a", "0 · A page", "Is it?", 1, 0.1, 0.5, "", {"auroc": 0.9})
    tour = run.summary([note], fast=False, planned=1)
    (tmp_path / "tour.json").write_text(json.dumps(tour))
    index = run.gallery(tmp_path)
    page.emulate_media(color_scheme=scheme)
    page.goto(index.as_uri())
    assert findings(page, "html") == []
    page.locator("article a").click()
    page.locator(".plotly-graph-div .main-svg").first.wait_for(state="attached")
    assert findings(page, "html") == []
