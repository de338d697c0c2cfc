"""What an audit flagged, judged in JupyterLab with the network off.

By hand and by keys, none of which reaches the notebook; a verdict is on disk at once.
"""

import json
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from axe import findings, source
from conftest import shut_down_kernels
from playwright.sync_api import expect
from test_axe import choose_theme
from test_explore_widget import notebook_in_lab
from test_hostile import WATCH as WATCH_TITLE
from test_hostile import ran_a_script
from test_keys import BOUND, CELLS, WATCH, strokes

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from hostile import PAYLOAD  # noqa: E402

pytestmark = pytest.mark.browser
CELL = """import numpy as np
import pandas as pd
import radwb as rw
from PIL import Image
films = pd.read_csv("films.csv")
for n, path in enumerate(films["path"]):
    noise = np.random.default_rng(n % 4).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise * (n != 3)).save(path)
widget = rw.show.review(rw.curate.audit(films), verdicts="verdicts.csv")
widget"""
# films 4, 5, 6 are films 0, 1, 2 in another part; 3 is black; a report names somebody
KINDS = {
    "the widget": ".rr",
    "button": ".rr button[title='Drop (d)']",
    "select": ".rr select",
    "note": ".rr input[aria-label=Note]",
    "one of a pair": ".rr-side button",
    "report": ".rr-text",
}
# a key may have gone on to a thing that has none of the kind
FOCUS = """kind => {
    const one = document.querySelector(kind);
    (one || document.querySelector(".rr")).focus();
    return document.activeElement === one;
}"""
KERNEL = "jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"


@pytest.fixture(scope="module")
def films():
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(7)]})
    table["patient_id"] = [f"p{n}" for n in range(7)]
    table["study_id"] = [f"s{n} {PAYLOAD}" for n in range(7)]
    table["split"] = ["train"] * 4 + ["test"] * 3
    table["report"] = [f"FINDINGS: Clear {n}. IMPRESSION: None {n}." for n in range(7)]
    table.loc[2, "report"] = f"FINDINGS: {PAYLOAD} Dr. Weiss saw it. IMPRESSION: x."
    return table


@pytest.fixture(scope="module")
def lab(chromium, address, films):
    with notebook_in_lab(chromium, address, films, CELL, "'below'") as page:
        page.evaluate(WATCH_TITLE)
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".rr[data-painted]", timeout=180_000)  # torch comes
        yield page


@pytest.fixture
def page(lab):
    """The notebook with a review that nobody has touched."""
    (lab.folder / "verdicts.csv").unlink(missing_ok=True)
    lab.locator(".jp-CodeCell .cm-content").first.click()
    lab.evaluate("document.querySelectorAll('.rr').forEach(e => e.remove())")
    lab.keyboard.press("Control+Enter")
    lab.wait_for_selector(".rr[data-painted]")
    at(lab, 1, "same pixels")
    lab.locator(".rr").focus()
    yield lab
    assert lab.outside == []
    assert lab.errors == []
    assert not ran_a_script(lab)


def at(page, number, check=""):
    """Wait until a thing stands there."""
    words = rf"^{number} of \d+: {check}"
    position = page.locator(".rr .rx-position")
    page.wait_for_function(
        "([one, words]) => RegExp(words).test(one.textContent)",
        arg=[position.element_handle(), words],
    )


def verdicts(page, rows=1):
    """What lies on disk, once there are so many rows."""
    path = page.folder / "verdicts.csv"
    for _ in range(60):
        if path.exists() and len(table := pd.read_csv(path)) == rows:
            return table.fillna("")
        page.wait_for_timeout(250)
    raise AssertionError(f"no {rows} verdicts in {path.name}")


def of_check(page, check):
    """Show what one check flagged, its text with it."""
    page.get_by_label("Flagged for").select_option(check)
    at(page, 1, check)
    page.locator(".rr-report details").first.wait_for(state="attached")


def test_a_pair_stands_side_by_side_and_a_key_drops_it(page):
    films = page.locator("img.rr-film")
    page.wait_for_function(
        """[...document.querySelectorAll("img.rr-film")].filter(one =>
            one.complete && one.naturalWidth > 100).length === 2"""
    )
    first, second = (films.nth(n).bounding_box() for n in range(2))
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    sides = page.locator(".rr-side")
    assert "takes this one out" in sides.nth(0).inner_text()  # that of train
    assert "takes this one out" not in sides.nth(1).inner_text()
    page.keyboard.press("d")
    at(page, 2)
    row = verdicts(page).iloc[0]
    assert (row["check"], row["verdict"]) == ("same pixels", "drop")
    assert (row["first"], row["second"]) == ("0.png", "4.png")
    page.keyboard.press("ArrowLeft")
    at(page, 1)
    pressed = page.locator(".rr .rx-notes [aria-pressed=true]")
    assert pressed.inner_text() == "Drop"
    page.keyboard.press("d")  # again: it is taken back
    verdicts(page, rows=0)
    expect(page.locator(".rr [aria-pressed=true]")).to_have_count(0)


def test_the_mouse_judges_and_the_note_stays_with_its_thing(page):
    page.get_by_role("button", name="Drop the second").click()
    at(page, 2)
    page.get_by_label("Note").fill("the <b>marker</b> differs")
    page.get_by_role("button", name="Unsure").click()
    at(page, 3)
    assert page.get_by_label("Note").input_value() == ""
    table = verdicts(page, rows=2)
    assert table["verdict"].tolist() == ["drop second", "unsure"]
    assert table["note"].tolist() == ["", "the <b>marker</b> differs"]
    page.get_by_label("Note").fill("left with no verdict")
    page.get_by_role("button", name="Previous thing flagged").click()
    at(page, 2)
    expect(page.get_by_label("Note")).to_have_value("the <b>marker</b> differs")
    assert verdicts(page, rows=3)["note"].iloc[-1] == "left with no verdict"
    page.get_by_role("button", name="Next open").click()
    at(page, 3)
    assert page.locator(".rr-done").inner_text().startswith("2 of")


def test_a_verdict_by_key_leaves_the_note(page):
    page.get_by_label("Note").fill("two markers")
    page.keyboard.press("Enter")
    assert verdicts(page)["note"].tolist() == ["two markers"]
    page.locator(".rr").focus()
    for key in ("ArrowRight", "ArrowLeft", "k"):  # faster than the note comes
        page.keyboard.press(key)
    page.wait_for_function(
        "document.querySelector('.rr-done').textContent.startsWith('1 of')"
    )
    assert verdicts(page)["note"].tolist() == ["two markers"]
    page.get_by_role("button", name="Previous thing flagged").click()
    at(page, 1)
    expect(page.get_by_label("Note")).to_have_value("two markers")
    page.get_by_label("Note").fill("")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert verdicts(page)["note"].tolist() == [""]


def test_the_words_that_were_found_are_marked_in_a_report(page):
    of_check(page, "identifier left")
    mark = page.locator(".rr-text mark")
    assert mark.count() == 1
    assert "Dr. Weiss" in mark.inner_text()
    assert "name" in mark.inner_text()
    assert PAYLOAD[:12] in page.locator(".rr-text").inner_text()  # as letters
    page.get_by_label("Flagged for").select_option("constant")
    at(page, 1, "constant")
    assert page.locator(".rr-side").count() == 1


def test_the_focus_stays_in_the_widget_whatever_goes(page):
    page.locator(".rr-side button").first.focus()  # it goes with its film
    page.keyboard.press("Enter")
    at(page, 2)
    page.wait_for_timeout(300)
    assert page.evaluate("Boolean(document.activeElement.closest('.rr'))")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    last = page.locator(".rr-done").inner_text().split()[2]
    at(page, last)
    assert page.evaluate("Boolean(document.activeElement.closest('.rr'))")


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_leaves_the_review(page, kind):
    if kind == "report":
        of_check(page, "identifier left")
    page.evaluate(WATCH)
    before = page.evaluate(CELLS), page.evaluate(KERNEL)
    bound = [[*strokes(keys)] for keys in page.evaluate(BOUND)]
    bound = [keys for keys in bound if keys != ["Control+s"]]
    assert page.evaluate(FOCUS, KINDS[kind])
    for keys in bound:
        page.evaluate(FOCUS, KINDS[kind])
        for stroke in keys:
            page.keyboard.press(stroke)
    page.wait_for_timeout(1200)  # JupyterLab waits a second for a second stroke
    assert len(bound) > 80
    assert page.evaluate("window.ran") == []
    assert (page.evaluate(CELLS), page.evaluate(KERNEL)) == before
    assert page.locator(".jp-Dialog").count() == 0


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_a_review_has_no_serious_finding(page, theme):
    source()
    choose_theme(page, theme)
    page.wait_for_timeout(1000)  # the colours fade
    assert findings(page, ".rr") == []
    of_check(page, "identifier left")
    assert findings(page, ".rr") == []


def test_it_fits_a_narrow_cell(page):
    page.set_viewport_size({"width": 700, "height": 1100})
    page.wait_for_timeout(300)
    box = page.locator(".rr").bounding_box()
    inside = page.locator(".rr *").evaluate_all(
        "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
    )
    page.set_viewport_size({"width": 1280, "height": 1100})
    assert box["width"] < 500
    assert inside <= box["x"] + box["width"]


def test_a_saved_notebook_keeps_the_picture_and_no_report(page):
    of_check(page, "identifier left")
    page.get_by_label("Note").fill("Mrs Miller asks")
    page.get_by_role("button", name="Unsure").click()
    assert verdicts(page)["note"].tolist() == ["Mrs Miller asks"]
    page.wait_for_timeout(2500)  # the picture is made a little later
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    text = (page.folder / "x.ipynb").read_text()
    nb = nbformat.read(page.folder / "x.ipynb", as_version=4)
    outputs = [one for cell in nb.cells for one in cell.outputs]
    stills = [one.get("data", {}).get("text/html", "") for one in outputs]
    still = next(html for html in stills if "radwb-still" in html)
    assert "1 of 1 flagged: identifier left" in still
    assert "Not for clinical use" in still
    assert "Weiss" not in text
    assert "Miller" not in text
    assert json.loads(text)["cells"]


def test_a_review_sleeps_without_its_kernel(page, address):
    page.keyboard.press("ArrowRight")
    at(page, 2)
    shut_down_kernels(address[0])
    page.locator(".rr .rx-sleep").filter(has_text="Asleep").wait_for()
    controls = page.locator(".rr").locator("button, select, input")
    assert controls.count() > 8
    assert all(controls.nth(n).is_disabled() for n in range(controls.count()))
    page.locator(".rr").focus()
    page.keyboard.press("d")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    at(page, 2)
    assert not (page.folder / "verdicts.csv").exists()
