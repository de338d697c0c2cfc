"""The attention widget in JupyterLab, with the network off.

Each thing that a hand can do, and the picture that must follow.
"""

import base64
import io
import os
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import LOCAL
from PIL import Image
from scipy.ndimage import binary_dilation
from tables import effusion_table

import radwb as rw
from radwb.book.sync import KERNEL, checkout
from radwb.show.images import grey_trace, map_trace

pytestmark = pytest.mark.browser
ASKED = "pleural effusion vs no pleural effusion"
CELL = """import time
from pathlib import Path
import pandas as pd
import radwb as rw
films = pd.read_csv("films.csv")
model = rw.models.load("radwb-tiny")
# a test makes it slow by a file of this name
slow = lambda *_: time.sleep(0.3 * Path("slow").exists())
model.net.visual.conv1.register_forward_pre_hook(slow)
widget = rw.show.explore(model, films, finding="Pleural Effusion")
widget"""


@pytest.fixture(scope="module")
def table():
    return effusion_table()


@pytest.fixture(scope="module")
def model():
    return rw.models.load("radwb-tiny")


@pytest.fixture(scope="module")
def lab(chromium, address, table):
    with notebook_in_lab(chromium, address, table, CELL) as page:
        yield page


@contextmanager
def notebook_in_lab(chromium, address, table, *cells):
    """A page with a notebook of these cells open.

    `page.outside` names what left this machine, `page.errors` what broke,
    `page.folder` where the notebook lies.
    """
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    folder = checkout() / "build" / f"explore-check-{os.getpid()}"
    folder.mkdir(parents=True)
    table.to_csv(folder / "films.csv", index=False)
    nbformat.write(
        new_notebook(
            cells=[new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": KERNEL},
        ),
        folder / "x.ipynb",
    )
    page = chromium.new_context(
        viewport={"width": 1280, "height": 1100}, accept_downloads=True
    ).new_page()
    page.set_default_timeout(90_000)
    page.outside, page.errors, page.folder = [], [], folder
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            page.errors.append(message.text) if message.type == "error" else None
        ),
    )
    page.route("**/*", lambda route: gate(page, route))
    base, _, token = address[0].partition("/lab")
    try:
        path = (folder / "x.ipynb").relative_to(checkout())
        page.goto(f"{base}/lab/tree/{path}?{token.partition('?')[2]}")
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
        page.get_by_text("| Idle").wait_for()
        page.wait_for_timeout(1500)  # the kernel says so a little early
        page.set_default_timeout(30_000)
        yield page
    finally:
        page.context.close()
        shutil.rmtree(folder)


def gate(page, route):
    if route.request.url.startswith(LOCAL):
        return route.continue_()
    page.outside.append(route.request.url)
    return route.abort()


@pytest.fixture
def page(lab):
    """The notebook with a widget that nobody has touched.

    Afterwards nothing has left the machine or broken.
    """
    (lab.folder / "slow").unlink(missing_ok=True)
    lab.locator(".jp-CodeCell .cm-content").first.click()
    lab.evaluate("document.querySelectorAll('.rx').forEach(e => e.remove())")
    lab.keyboard.press("Control+Enter")
    lab.wait_for_selector(".rx[data-painted] .rx-label:has-text('relevance')")
    yield lab
    assert lab.outside == []
    assert lab.errors == []


def shot(page, pane=0):
    """(H, W, 3) what stands on the canvas."""
    uri = (
        page.locator("canvas.rx-scan")
        .nth(pane)
        .evaluate("canvas => canvas.toDataURL('image/png')")
    )
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    ).astype(float)


def expected(scan, values, size):
    """The same picture by the package's plotly figures.

    Their PNG of the scan lies under their PNG of the map.
    """
    ground, map_ = (
        Image.open(io.BytesIO(base64.b64decode(t.source.partition(",")[2]))).convert(
            "RGBA"
        )
        for t in (
            grey_trace(scan),
            map_trace(values, scan, values.min(), values.max(), 0.75),
        )
    )
    return np.asarray(
        Image.alpha_composite(ground, map_).convert("RGB").resize(size[::-1])
    ).astype(float)


def same(page, scan, values, pane=0, less=None):
    """Mean difference in grey levels between the canvas and what it should show.

    The letter R and `less` are left out.
    """
    got = shot(page, pane)
    differ = np.abs(got - expected(scan, values, got.shape[:2])).mean(-1)
    differ[:40, :40] = 0
    if less is not None:
        differ[less] = 0
    return differ.mean()


def until(page, label, pane=0):
    page.locator(".rx-label").nth(pane).filter(has_text=label).wait_for()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def map_of(model, scan, **how):
    return rw.attend.attention_map(model, scan, **how).values


@pytest.fixture
def bare(page):
    """Without the outline, which the expected picture doesn't have."""
    press(page, "Truth")
    return page


@pytest.fixture(scope="module")
def scans(table):
    return [rw.data.scan_of(row) for _, row in table.iterrows()]


def test_the_first_picture_is_the_map_of_attention_map(bare, model, scans):
    values = map_of(model, scans[0], target=("pleural effusion", "no pleural effusion"))
    assert same(bare, scans[0], values) < 1.5
    assert same(bare, scans[0], values.max() - values) > 10  # the comparison can tell
    assert (
        same(bare, scans[0], values[::-1]) > 4 * 1.5
    )  # also a map that is only upside down


def test_a_click_on_a_head_shows_that_head(bare, model, scans):
    bare.get_by_role("button", name="layer 1, head 2").click()
    until(bare, "attention, layer 1, head 2")
    assert (
        same(
            bare, scans[0], map_of(model, scans[0], method="attention", layer=1, head=2)
        )
        < 1.5
    )
    assert (
        bare.get_by_role("button", name="layer 1, head 2").get_attribute("aria-pressed")
        == "true"
    )
    bare.get_by_role("button", name="layer 3, mean of heads").click()
    until(bare, "attention, layer 3, mean of heads")
    assert (
        same(bare, scans[0], map_of(model, scans[0], method="attention", layer=3)) < 1.5
    )


def test_a_method_is_chosen_and_a_phrase_is_typed(bare, model, scans):
    bare.get_by_label("Method").select_option("gradcam")
    until(bare, "gradcam")
    assert (
        same(
            bare,
            scans[0],
            map_of(
                model, scans[0], method="gradcam", target=tuple(ASKED.split(" vs "))
            ),
        )
        < 1.5
    )
    bare.get_by_label("Phrase").click()
    bare.keyboard.type("enlarged heart")
    bare.keyboard.press("Enter")
    until(bare, "gradcam: enlarged heart")
    assert (
        same(
            bare,
            scans[0],
            map_of(model, scans[0], method="gradcam", target="enlarged heart"),
        )
        < 1.5
    )
    bare.get_by_label("Target").select_option("pneumothorax vs no pneumothorax")
    until(bare, "gradcam: pneumothorax vs no pneumothorax")
    assert bare.get_by_label("Phrase").input_value() == ""


def test_a_click_on_a_patch_shows_what_it_attends_to(bare, model, scans):
    box = bare.locator("canvas.rx-scan").bounding_box()
    bare.mouse.click(
        box["x"] + 5.5 / 8 * box["width"], box["y"] + 2.5 / 8 * box["height"]
    )
    until(bare, "attention of patch (2, 5), last layer, mean of heads")
    seen = rw.attend.capture(model, model.preprocess(scans[0]))["attention"][
        -1, 0
    ].mean(0)[-64:, -64:]
    values = rw.data.to_scan(
        seen[2 * 8 + 5].reshape(8, 8).numpy(), scans[0].shape, fit=model.fit
    )
    frame = np.zeros((480, 480), bool)
    frame[2 * 60 - 4 : 3 * 60 + 4, 5 * 60 - 4 : 6 * 60 + 4] = True
    assert same(bare, scans[0], values, less=frame) < 1.5
    assert (
        shot(bare)[2 * 60, 5 * 60 + 10 : 6 * 60 - 10] > 250
    ).all()  # the patch is framed in white
    bare.mouse.click(
        box["x"] + 5.5 / 8 * box["width"], box["y"] + 2.5 / 8 * box["height"]
    )
    until(bare, "attention, last layer")
    assert same(bare, scans[0], map_of(model, scans[0], method="attention")) < 1.5


def test_keys_go_through_films_heads_and_patches(bare, model, scans):
    bare.locator("canvas.rx-scan").focus()
    bare.keyboard.press("ArrowRight")
    bare.get_by_text("film 2 of 6").wait_for()
    bare.locator(".rx-scan[data-case='1']").wait_for()
    values = map_of(model, scans[1], target=tuple(ASKED.split(" vs ")))
    assert same(bare, scans[1], values) < 1.5
    bare.keyboard.press("ArrowLeft")
    bare.get_by_text("film 1 of 6").wait_for()
    bare.keyboard.press("Shift+ArrowDown")
    until(bare, "attention of patch (4, 4)")
    bare.keyboard.press("Shift+ArrowDown")
    until(bare, "attention of patch (5, 4)")
    bare.keyboard.press("Escape")
    until(bare, "relevance")  # the method before the patch was asked
    bare.get_by_role("button", name="layer 3, mean of heads").focus()
    bare.keyboard.press("ArrowUp")
    bare.keyboard.press("ArrowRight")
    bare.keyboard.press("Enter")
    until(bare, "attention, layer 2, head 0")
    assert (
        bare.locator(".jp-CodeCell.jp-mod-active").count() == 1
    )  # JupyterLab's own keys stayed out of it


def test_each_control_takes_the_focus_and_shows_it(page):
    page.locator(".rx").focus()
    seen, rings = [], 0
    while "Map" not in seen and len(seen) < 50:
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => {
            const at = document.activeElement;
            const named = at.closest('label') || at;
            return at.ariaLabel || named.firstChild.textContent.trim();
        }""")
        )
        rings += page.evaluate(
            "parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2"
        )
    names = [
        "Previous film",
        "Next film",
        "Worst first",
        "Truth",
        "Compare",
        "Copy link",
        "Save PNG",
        "Sort by",
        "Film strip",
        "Method",
        "Layer",
        "Target",
        "Phrase",
        "layer 0, mean of heads",
        "Agree",
        "Note",
        "Window",
        "Level",
        "Map",
    ]
    assert [name for name in names if name not in seen] == []
    assert any(
        "relevance" in name for name in seen
    )  # the film itself says what it shows
    assert rings == len(seen)


def test_a_drag_sets_window_and_level(bare, scans):
    bare.get_by_role("slider", name="Map").fill("0")  # the scan alone
    box = bare.locator("canvas.rx-scan").bounding_box()
    x, y = box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"]
    bare.mouse.move(x, y)
    bare.mouse.down()
    bare.mouse.move(x - 0.5 * box["width"], y - 0.2 * box["height"], steps=5)
    bare.mouse.up()
    bare.wait_for_function("document.querySelector('.rx-display input').value < 0.6")
    want = np.clip((scans[0].pixels - 0.3) / 0.5 + 0.5, 0, 1) * 255
    want = np.asarray(Image.fromarray(want.astype(np.uint8)).resize((480, 480))).astype(
        float
    )
    got = shot(bare)
    assert np.abs(got[40:, 40:, 0] - want[40:, 40:]).mean() < 4
    assert (
        "relevance" in bare.locator(".rx-label").inner_text()
    )  # a drag is no click on a patch
    bare.locator("canvas.rx-scan").dblclick(position={"x": 200, "y": 200})
    bare.wait_for_function("document.querySelector('.rx-display input').value == 1")


def test_the_truth_is_drawn_where_it_is(page, scans):
    with_truth = shot(page)
    press(page, "Truth")
    page.wait_for_function("document.querySelector('.rx-truths').children.length === 0")
    changed = np.abs(with_truth - shot(page)).max(-1) > 30
    rim = np.zeros((480, 480), bool)
    for mask in scans[0].truth.values():
        wide = np.kron(mask, np.ones((3, 3), bool))
        rim |= (wide ^ np.roll(wide, 1, 0)) | (wide ^ np.roll(wide, 1, 1))
    assert changed[4:-4, 4:-4][rim[4:-4, 4:-4]].mean() > 0.9  # some are dashed
    assert not (changed & ~binary_dilation(rim, iterations=6)).any()


def test_two_panes_and_the_score_beside_each(page, model, scans):
    press(page, "Compare")
    page.get_by_label("Method").nth(1).select_option("gradcam")
    until(page, "gradcam", pane=1)
    assert page.locator("canvas.rx-scan").count() == 2
    pair = tuple(ASKED.split(" vs "))
    truth = scans[0].truth["Pleural Effusion"]
    for pane, method in enumerate(("relevance", "gradcam")):
        score = rw.attend.score_map(
            map_of(model, scans[0], method=method, target=pair), truth
        )
        shown = page.locator(".rx-score").nth(pane).locator("b").all_inner_texts()
        assert shown == [f"{score[name]:.2f}" for name in ("hit", "energy", "iou")]
    assert (
        page.locator(".rx-badge").first.inner_text().startswith("sanity: not checked")
    )
    press(page, "Compare")
    page.wait_for_function("document.querySelectorAll('.rx-scan').length === 1")


def test_worst_first(page, model, scans, table):
    press(page, "Worst first")
    page.wait_for_function(
        "document.querySelector('[aria-pressed=true][title^=By]') !== null"
    )
    pair = tuple(ASKED.split(" vs "))
    energies = []
    for scan in scans:
        truth = scan.truth.get("Pleural Effusion")
        energy = np.inf
        if truth is not None and truth.any():
            values = map_of(model, scan, target=pair)
            energy = rw.attend.score_map(values, truth)["energy"]
        energies.append(energy)
    order = np.argsort(energies, kind="stable")
    for case in order[:3]:
        page.get_by_text(f"of 6: {table.study_id.iloc[case]}").wait_for()
        press(page, "Next film")


def test_a_long_method_shows_progress_and_is_cancelled(page):
    (page.folder / "slow").touch()  # it can't end before it is cancelled
    page.get_by_label("Method").select_option("rise")
    page.locator(".rx-busy.rx-on").filter(
        has_text=re.compile(r"RISE, \d+ of \d+")
    ).wait_for()
    before = shot(page)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".rx-busy:not(.rx-on)", state="attached")
    page.wait_for_function(
        "document.querySelector('.rx-controls select').value === 'relevance'"
    )
    assert np.array_equal(before, shot(page))


def test_what_can_not_be_drawn_is_a_sentence(page):
    page.get_by_label("Phrase").fill("effusion vs ")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rx-error:not(:empty)")
    assert "expected" in page.locator(".rx-error").inner_text()
    page.get_by_label("Method").select_option("rollout")
    until(page, "rollout")
    assert page.locator(".rx-error").inner_text() == ""


def test_the_figure_is_saved(page, table, tmp_path):
    with page.expect_download() as download:
        press(page, "Save PNG")
    download.value.save_as(tmp_path / "figure.png")
    figure = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).astype(
        float
    )
    at = shot(page)
    picture = figure[30 : 30 + 480, 12 : 12 + 480]
    assert np.abs(picture - at).mean() < 1
    assert download.value.suggested_filename == f"{table.study_id.iloc[0]}.png"
