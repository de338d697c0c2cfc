"""A widget's picture: hidden while the widget lives, there where it doesn't.

In JupyterLab, in a notebook that was saved and opened again, on an exported page and on
a page of the gallery.
"""

import base64
import io
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from axe import findings
from conftest import shut_down_kernels
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from tables import effusion_table
from test_volume import open_in_lab, run_all

import radwb as rw
from radwb.book import pages
from radwb.book.sync import KERNEL, checkout
from radwb.show import mix

pytestmark = pytest.mark.browser
CELLS = [
    """
import pandas as pd
import radwb as rw
model = rw.models.load("radwb-tiny")
w = rw.show.explore(model, pd.read_csv("films.csv"), finding="Pleural Effusion")
w
""",
    """
plot = rw.show.live(["a", "b"], batch=8)
for step in range(30):
    plot({"step": step, "epoch": 0, "loss": 2 / (1 + step)})
plot
""",
    """
import numpy as np
noise = np.random.default_rng(0).normal(0, 300, (12, 20, 20)).astype(np.float32)
ct = rw.data.Volume(noise, np.diag([-1.5, -1.5, 3.0, 1.0]), "CT")
rw.show.volume(ct, title="noise")
""",
]


@pytest.fixture(scope="module")
def saved(chromium, address):
    """A notebook whose widgets lived in JupyterLab until it was saved.

    `page.still` says what was seen of the pictures meanwhile.
    """
    folder = checkout() / "build" / f"stand-in-check-{os.getpid()}"
    folder.mkdir(parents=True)
    effusion_table().to_csv(folder / "films.csv", index=False)
    cells = [new_code_cell(cell.strip()) for cell in CELLS]
    path = folder / "seen.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    page = chromium.new_page(viewport={"width": 1280, "height": 2400})
    page.set_default_timeout(90_000)
    open_in_lab(page, address, path.relative_to(checkout()))
    run_all(page)
    page.locator(".rx[data-painted] .rx-label:has-text('relevance')").wait_for()
    page.locator(".widget-vbox .js-plotly-plot .main-svg").first.wait_for()
    page.locator(".rv[data-painted]").wait_for()
    first = still(page)
    page.get_by_role("button", name="layer 1, head 2").click()
    page.locator(".rx-label", has_text="layer 1, head 2").wait_for()
    changed = "a => document.querySelector('.radwb-still img').src !== a"
    page.wait_for_function(changed, arg=first)
    living = [image.is_visible() for image in page.locator(".radwb-still").all()]
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    page.close()
    shut_down_kernels(address[0])
    yield path, living
    shutil.rmtree(folder)


def still(page):
    return page.locator(".radwb-still img").first.get_attribute("src")


def stills_of(nb):
    """The HTML of each widget's picture."""
    outputs = [output for cell in nb.cells for output in cell.outputs]
    texts = [output.get("data", {}).get("text/html", "") for output in outputs]
    return [text for text in texts if "radwb-still" in text]


def test_a_living_widget_hides_its_picture(saved):
    assert saved[1] == [False] * len(CELLS)


def test_the_saved_notebook_holds_the_last_that_was_seen(saved):
    nb = nbformat.read(saved[0], as_version=4)
    explorer, training, volume = stills_of(nb)
    assert "attention, layer 1, head 2" in explorer
    assert "step 29" in training
    assert "noise" in volume
    for text in (explorer, training, volume):
        picture = text.partition("base64,")[2].partition('"')[0]
        pixels = Image.open(io.BytesIO(base64.b64decode(picture))).convert("L")
        assert np.asarray(pixels).std() > 10


def without_state(saved, path):
    """The notebook as a front end leaves it that keeps no state of widgets."""
    nb = nbformat.read(saved[0], as_version=4)
    assert nb.metadata.pop("widgets")
    nbformat.write(nb, path)
    return path


def test_a_notebook_that_is_opened_again_shows_the_pictures(saved, address, page):
    """Where its state was kept, the widget itself shows it, asleep."""
    for path in (saved[0], without_state(saved, saved[0].with_name("again.ipynb"))):
        open_in_lab(page, address, f"{path.relative_to(checkout())}")
        page.locator(
            ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea"
        ).first.wait_for()
        page.wait_for_timeout(3000)
        pictures = page.locator(
            ".jp-NotebookPanel:not(.lm-mod-hidden) .radwb-still img"
        )
        asleep = path == saved[0]
        assert [picture.is_visible() for picture in pictures.all()] == 3 * [not asleep]
        lost = page.get_by_text("model not found").locator("visible=true")
        assert lost.count() == 0


def exported(path):
    """The page that nbconvert makes of a notebook."""
    call = [sys.executable, "-m", "nbconvert", "--to", "html", str(path)]
    subprocess.run(call, check=True, timeout=120, capture_output=True)
    return path.with_suffix(".html").as_uri()


def in_gallery(path):
    """The page that the tour makes of a notebook."""
    page = path.with_name("page.html")
    pages.write_page(nbformat.read(path, as_version=4), page, title="a")
    return page.as_uri()


@pytest.mark.parametrize("kept", [False, True])
def test_an_ordinary_export_shows_the_pictures(saved, page, tmp_path, kept):
    """As nbconvert makes it, with and without the widgets' state."""
    path = without_state(saved, tmp_path / "seen.ipynb")
    if kept:
        shutil.copy(saved[0], path)
    page.goto(exported(path))
    page.wait_for_timeout(1500)
    images = page.locator(".radwb-still > img").all()
    assert [image.is_visible() for image in images] == [True] * len(CELLS)
    sizes = [image.evaluate("image => image.naturalWidth") for image in images]
    assert min(sizes) > 400


def expected_picture(layer, head):
    """The saved film with one head's map over it, by way of `attention_map`."""
    scan = rw.data.scan_of(effusion_table().iloc[0])
    model = rw.models.load("radwb-tiny")
    how = dict(method="attention", layer=layer, head=head)
    values = rw.attend.attention_map(model, scan, **how).values
    level = mix.level_of(values, values.min(), values.max())
    picture = mix.blend(scan.pixels.clip(0, 1), level, mix.ALPHA)
    return np.asarray(picture.resize((480, 480))).astype(float)


def drawn(page):
    """(480, 480, 3) what the live film shows."""
    canvas = page.locator(".rx-live .rx-scan")
    address = canvas.evaluate("canvas => canvas.toDataURL()")
    png = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


@pytest.mark.parametrize("made", [exported, in_gallery])
def test_the_heads_live_on_a_page_without_a_kernel(saved, page, tmp_path, made):
    page.goto(made(without_state(saved, tmp_path / "seen.ipynb")))
    page.locator(".rx-live").wait_for()
    heads = page.locator(".rx-live .rx-heads button")
    assert heads.count() == 4 * (1 + 3)  # layers, the mean of heads and each head
    chosen = page.locator(".rx-live [aria-pressed=true]")
    assert chosen.get_attribute("title") == "layer 1, head 2"  # as it was seen last
    label = page.locator(".rx-live-label")
    expected = {head: expected_picture(*head) for head in ((1, 2), (0, 0))}
    apart = np.abs(expected[1, 2] - expected[0, 0]).mean()
    assert np.abs(drawn(page) - expected[1, 2]).mean() < apart / 4

    page.get_by_title("layer 0, head 0").hover()
    assert label.inner_text().startswith("Layer 0, head 0: what the read-out takes")
    assert np.abs(drawn(page) - expected[0, 0]).mean() < apart / 4
    page.mouse.move(1, 1)
    assert label.inner_text().startswith("Layer 1, head 2")
    chosen.focus()
    page.keyboard.press("ArrowUp")
    assert label.inner_text().startswith("Layer 0, head 2")
    page.keyboard.press("Enter")
    assert chosen.get_attribute("title") == "layer 0, head 2"
    page.locator(".rx-live input[type=range]").fill("0")
    alone = drawn(page)  # grey, with a blue outline
    assert (alone[..., 0] - alone[..., 2]).max() < 20
    assert page.errors == []


def test_the_live_heads_have_no_serious_finding(saved, page, tmp_path):
    page.goto(in_gallery(without_state(saved, tmp_path / "seen.ipynb")))
    page.locator(".rx-live").wait_for()
    assert findings(page, "html") == []


@pytest.mark.parametrize("made", [exported, in_gallery])
def test_where_no_script_runs_the_picture_stands(saved, chromium, tmp_path, made):
    address = made(without_state(saved, tmp_path / "seen.ipynb"))
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("img[data-heads]").is_visible()
    assert page.locator(".rx-live").count() == 0
    context.close()


def test_a_page_of_the_gallery_shows_the_pictures(saved, page, tmp_path):
    nb = nbformat.read(saved[0], as_version=4)
    pages.write_page(nb, tmp_path / "seen.html", title="a")
    page.goto((tmp_path / "seen.html").as_uri())
    images = page.locator(".html .radwb-still > img").all()
    sizes = [image.evaluate("image => image.naturalWidth") for image in images]
    assert min(sizes) > 400
    # the volume's figure with its sliders lives on the page
    assert [image.is_visible() for image in images] == [True, True]
    assert page.locator(".plotly-graph-div .imagelayer image").count() == 3
    assert "attention, layer 1, head 2" in images[0].get_attribute("alt")
    assert page.errors == []
