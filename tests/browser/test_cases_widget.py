"""The worst errors and a reading study in JupyterLab, with the network off.

By hand and by keys, none of which reaches the notebook; all is on disk at once, and
what is true of a film to be read isn't in the page.
"""

import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import shut_down_kernels
from playwright.sync_api import expect
from test_explore_widget import notebook_in_lab
from test_hostile import WATCH as WATCH_TITLE
from test_hostile import ran_a_script
from test_keys import BOUND, CELLS, WATCH, strokes

import radwb as rw

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from hostile import PAYLOAD  # noqa: E402

pytestmark = pytest.mark.browser
FINDING = "Pleural Effusion"
START = """import numpy as np
import pandas as pd
import radwb as rw
films = pd.read_csv("films.csv")
model = rw.models.load("radwb-tiny")
scores = np.arange(len(films)) / 20
finding = "Pleural Effusion"
"""
GALLERY = f"""{START}
rw.show.cases(model, scores, films, finding=finding, notes="verdicts.csv")"""
STUDY = """advice = rw.fail.planted_advice(films[finding], 0.5, seed=0)
rw.show.reading_study(films[:4], advice=advice[:4], finding=finding, out="r.csv")"""
# what a page holds of a study: its words, and the model's state
HELD = """() => document.querySelector(".rs").outerHTML"""
LOADED = """() => {
    const all = [...document.querySelectorAll(".rg-stack img")];
    return all.length > 0 && all.every(one => one.complete && one.naturalWidth > 100);
}"""


@pytest.fixture(scope="module")
def films():
    cohort = rw.simulate.cohort(n=60, seed=0)
    ill = cohort[cohort[FINDING] == 1].head(6)
    well = cohort[cohort[FINDING] == 0].head(6)
    table = pd.concat([ill.head(2), well.head(2), ill.tail(4), well.tail(4)])
    table = table.reset_index(drop=True)
    table["split"] = ["test"] * 4 + ["train"] * 8
    table.loc[0, "report"] = f"FINDINGS: {PAYLOAD} seen."
    table.loc[0, "study_id"] = PAYLOAD
    return table


@pytest.fixture(scope="module")
def lab(chromium, address, films):
    with notebook_in_lab(chromium, address, films, GALLERY, STUDY) as page:
        page.evaluate(WATCH_TITLE)
        yield page


def run(page, cell, ready):
    page.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.keyboard.press("Control+Enter")
    page.locator(ready).first.wait_for(timeout=180_000)  # torch comes


@pytest.fixture
def gallery(lab):
    """The notebook with a gallery that nobody has touched."""
    (lab.folder / "verdicts.csv").unlink(missing_ok=True)
    lab.evaluate("document.querySelectorAll('.rg').forEach(e => e.remove())")
    run(lab, 0, ".rg[data-painted]")
    lab.wait_for_function(LOADED)
    lab.locator(".rg").focus()
    yield lab
    assert (lab.outside, lab.errors) == ([], [])


@pytest.fixture
def study(lab):
    """A reading study that waits for its first reading; the gallery's cell has run."""
    (lab.folder / "r.csv").unlink(missing_ok=True)
    if not lab.locator(".rg").count():
        run(lab, 0, ".rg[data-painted]")
    lab.evaluate("document.querySelectorAll('.rs').forEach(e => e.remove())")
    run(lab, 1, ".rs[data-painted]")
    lab.locator(".rs").focus()
    yield lab
    assert (lab.outside, lab.errors) == ([], [])


def on_disk(page, name, rows):
    """What lies on disk, once there are so many rows."""
    path = page.folder / name
    for _ in range(60):
        if path.exists() and len(table := pd.read_csv(path)) == rows:
            return table.fillna("")
        page.wait_for_timeout(250)
    raise AssertionError(f"no {rows} rows in {name}")


def at(page, words):
    expect(page.locator(".rg .rx-position")).to_contain_text(words)


def test_film_map_outline_and_neighbours_stand_there_and_can_be_turned_off(gallery):
    over = gallery.locator(".rg .rg-over")
    expect(over).to_have_count(2)
    gallery.locator(".rg .rg-thumb").first.wait_for()
    assert gallery.locator(".rg .rg-thumb").count() == 4
    captions = gallery.locator(".rg figcaption b").all_inner_texts()
    assert set(captions) <= {"present", "absent"}
    film, top = (
        gallery.locator(f".rg {one}").first for one in (".rr-film", ".rg-over")
    )
    boxes = [one.bounding_box() for one in (film, top)]
    for side in ("x", "y", "width", "height"):
        assert boxes[0][side] == pytest.approx(boxes[1][side], abs=1)
    gallery.keyboard.press("m")
    expect(over).to_have_count(1)
    gallery.keyboard.press("o")
    expect(over).to_have_count(0)
    gallery.get_by_role("button", name="Map", exact=True).click()
    expect(over).to_have_count(1)
    before = over.evaluate("one => one.src")
    gallery.get_by_label("Method").select_option("gradcam")
    gallery.wait_for_function(
        "before => document.querySelector('.rg-over')?.src !== before", arg=before
    )


def test_a_verdict_by_key_and_a_note_are_on_disk(gallery):
    at(gallery, "1 of 4: missed")
    gallery.get_by_label("Note").fill("a tube <b>there</b>")
    gallery.keyboard.press("Escape")
    gallery.keyboard.press("s")
    at(gallery, "2 of 4: false alarm")
    row = on_disk(gallery, "verdicts.csv", 1).iloc[0]
    assert (row["verdict"], row["note"]) == ("shortcut", "a tube <b>there</b>")
    gallery.keyboard.press("r")  # of a miss alone
    gallery.get_by_role("button", name="Really absent").click()
    at(gallery, "3 of 4")
    assert on_disk(gallery, "verdicts.csv", 2)["verdict"].iloc[1] == "really absent"
    expect(gallery.locator(".rg .rr-done")).to_contain_text("2 of 4")
    gallery.keyboard.press("ArrowLeft")
    gallery.keyboard.press("ArrowLeft")
    at(gallery, "1 of 4")
    expect(gallery.get_by_label("Note")).to_have_value("a tube <b>there</b>")
    assert (
        gallery.locator(".rg .rx-notes [aria-pressed=true]").inner_text() == "Shortcut"
    )


def test_words_of_others_are_letters(gallery):
    expect(gallery.locator(".rg .rr-text")).to_contain_text(PAYLOAD[:12])
    expect(gallery.locator(".rg .rr-name")).to_contain_text(PAYLOAD[:12])
    assert not ran_a_script(gallery)


def test_a_study_is_read_by_keys_to_its_end(study, films):
    box = study.locator(".rs")
    expect(box.locator(".rs-words")).to_contain_text(f"Is there {FINDING}?")
    study.keyboard.press("Enter")
    for number in range(1, 9):
        place = box.locator(".rx-position")
        expect(place).to_contain_text(f"Reading {number} of 8")
        if box.get_by_role("button", name="Begin").is_visible():
            study.keyboard.press("Enter")  # a new sitting
        box.locator(".rr-film").wait_for()
        held = study.evaluate(HELD)
        assert not any(name in held for name in films["study_id"])
        study.keyboard.press("Enter")  # nothing is given yet: nothing is saved
        for key in ("8", "ArrowRight", "y"):
            study.keyboard.press(key)
        expect(box.locator(".rs-value")).to_have_text("81")
        study.keyboard.press("Enter")
        rows = on_disk(study, "r.csv", number)
    expect(box.locator(".rs-words")).to_contain_text("All 8 readings of reader A")
    assert set(rows["confidence"]) == {81}
    assert set(rows["answer"]) == {1}
    assert rows["seconds"].between(0, 60).all()
    assert rows.groupby("arm")["case"].nunique().tolist() == [4, 4]


def test_a_study_is_read_by_hand_and_goes_on_after_a_new_run(study):
    box = study.locator(".rs")
    box.get_by_role("button", name="Begin").click()
    box.locator(".rr-film").wait_for()
    save = box.get_by_role("button", name="Save and on")
    assert save.get_attribute("aria-disabled") == "true"
    box.get_by_label("How sure").fill("30")
    box.get_by_role("button", name="No", exact=True).click()
    save.click()
    row = on_disk(study, "r.csv", 1).iloc[0]
    assert (row["confidence"], row["answer"]) == (30, 0)
    study.evaluate("document.querySelectorAll('.rs').forEach(e => e.remove())")
    run(study, 1, ".rs[data-painted]")
    expect(study.locator(".rs .rx-position")).to_contain_text("Reading 2 of 8")
    expect(study.locator(".rs-words")).to_contain_text("It goes on where you left")


def test_no_key_leaves_either_window(study):
    study.locator(".rs").get_by_role("button", name="Begin").click()
    study.locator(".rs .rr-film").wait_for()
    study.evaluate(WATCH)
    before = study.evaluate(CELLS)
    bound = [[*strokes(keys)] for keys in study.evaluate(BOUND)]
    bound = [keys for keys in bound if keys != ["Control+s"]]
    for window in (".rg", ".rs", ".rs input[type=range]"):
        for keys in bound:
            study.locator(window).focus()
            for stroke in keys:
                study.keyboard.press(stroke)
    study.wait_for_timeout(1200)  # JupyterLab waits a second for a second stroke
    assert study.evaluate("window.ran") == []
    assert study.evaluate(CELLS) == before


def test_both_fit_a_narrow_cell(study):
    study.locator(".rs").get_by_role("button", name="Begin").click()
    study.locator(".rs .rr-film").wait_for()
    study.set_viewport_size({"width": 700, "height": 1100})
    study.wait_for_timeout(300)
    for window in (".rg", ".rs"):
        box = study.locator(window).bounding_box()
        inside = study.locator(f"{window} *").evaluate_all(
            "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
        )
        assert box["width"] < 500
        assert inside <= box["x"] + box["width"]
    study.set_viewport_size({"width": 1280, "height": 1100})


def test_a_saved_notebook_keeps_stills_and_no_film_of_the_study(study):
    study.locator(".rs").get_by_role("button", name="Begin").click()
    study.locator(".rs .rr-film").wait_for()
    study.wait_for_timeout(2500)  # the picture is made a little later
    study.keyboard.press("Control+s")
    study.wait_for_timeout(2000)
    nb = nbformat.read(study.folder / "x.ipynb", as_version=4)
    stills = []
    for cell in nb.cells:
        htmls = [one.get("data", {}).get("text/html", "") for one in cell.outputs]
        stills.append(next(html for html in htmls if "radwb-still" in html))
    assert "of 4 errors" in stills[0]
    assert "reading 1 of 8. It goes on in a notebook" in stills[1]
    assert len(stills[1]) < len(stills[0])


def test_both_sleep_without_their_kernel(study, address):
    shut_down_kernels(address[0])
    for window in (".rg", ".rs"):
        study.locator(f"{window} .rx-sleep").filter(has_text="Asleep").wait_for()
        controls = study.locator(window).locator("button, select, input")
        assert all(one.is_disabled() for one in controls.all())
    study.locator(".rs").focus()
    study.keyboard.press("Enter")
    study.wait_for_timeout(300)
    assert not (study.folder / "r.csv").exists()
