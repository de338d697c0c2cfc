"""The explorer as its reader drives it, in JupyterLab, with the network off.

No key of it reaches the notebook; no film's number stands beside another; a widget
whose kernel is gone says so.
"""

import re

import numpy as np
import pytest
from test_explore_widget import (  # noqa: F401
    ASKED,
    CELL,
    map_of,
    model,
    notebook_in_lab,
    page,
    press,
    scans,
    shot,
    table,
    until,
)
from test_keys import BOUND, CELLS, WATCH, focused, strokes

import radwb as rw

pytestmark = pytest.mark.browser
WITH_NOTES = CELL.replace('Effusion")', 'Effusion", notes="notes.csv")')
KINDS = {
    "the widget": ".rx",
    "film": "canvas.rx-scan",
    "button": ".rx-bar button[title='A second pane']",
    "select": ".rx-target select",
    "head": ".rx-heads button[tabindex='0']",
    "slider": ".rx-display input",
    "phrase": "input[aria-label=Phrase]",
    "strip": ".rx-strip",
    "note": "input[aria-label=Note]",
}
KERNEL = "jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"
# what stands beside the film, a line a frame, for as long as the page is watched
RECORD = """() => {
    window.seen = new Set();
    const words = what => [...document.querySelectorAll(what)]
        .map(one => one.textContent).join(" ");
    const look = () => {
        const film = words(".rx-position").match(/film (.*?) of/)?.[1];
        window.seen.add(film + "|" + words(".rx-score b"));
        window.watch = requestAnimationFrame(look);
    };
    look();
}"""


# what a kernel's channels do once they are closed
GO_ON_WITHOUT_CHANNELS = """() => {
    const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
    const comms = [...kernel._comms.values()];
    comms.forEach(comm => comm.send = () => { throw Error("Cannot send"); });
    document.querySelector("button[title='Next film']").click();
    comms.forEach(comm => delete comm.send);
}"""
# the words beside the film, and whether its heads are blank
BESIDE = """() => {
    const side = document.querySelector(".rx-side");
    const parts = [".rx-said", ".rx-score b", ".rx-badge", ".rx-verdict", ".rx-doubt"];
    const pen = document.querySelector(".rx-heads canvas").getContext("2d");
    return [
        parts.map(part => side.querySelector(part).innerText),
        pen.getImageData(0, 0, 8, 8).data.every(value => value === 0),
    ];
}"""


@pytest.fixture(scope="module")
def lab(chromium, address, table):  # noqa: F811
    with notebook_in_lab(chromium, address, table, WITH_NOTES, "'below'") as page:  # noqa: F811
        yield page


def numbers_of(model, scan):  # noqa: F811
    pair = tuple(ASKED.split(" vs "))
    truth = scan.truth.get("Pleural Effusion")
    if truth is None or not truth.any():
        return "– – –"
    score = rw.attend.score_map(map_of(model, scan, target=pair), truth)
    return " ".join(f"{score[name]:.2f}" for name in ("hit", "energy", "iou"))


def settled(page):  # noqa: F811
    page.wait_for_function("!document.querySelector('.rx-busy.rx-on')")


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_leaves_the_explorer(page, kind):  # noqa: F811
    page.evaluate(WATCH)
    before = page.evaluate(CELLS), page.evaluate(KERNEL)
    bound = [[*strokes(keys)] for keys in page.evaluate(BOUND)]
    bound = [keys for keys in bound if keys != ["Control+s"]]
    thing = page.locator(KINDS[kind]).first
    for keys in bound:
        assert focused(page, thing)
        for stroke in keys:
            page.keyboard.press(stroke)
    page.wait_for_timeout(1200)  # JupyterLab waits a second for a second stroke
    assert len(bound) > 80
    assert page.evaluate("window.ran") == []
    assert (page.evaluate(CELLS), page.evaluate(KERNEL)) == before
    assert page.locator(".jp-Dialog").count() == 0


def test_the_notebook_is_saved_with_the_film_focused(page):  # noqa: F811
    page.evaluate(WATCH)
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("Control+s")
    page.wait_for_function("window.ran.includes('docmanager:save')")


def test_no_number_stands_beside_another_film(page, model, scans):  # noqa: F811
    first, second = (numbers_of(model, scan) for scan in scans[:2])
    assert first != second
    settled(page)
    page.evaluate(RECORD)
    (page.folder / "slow").touch()
    press(page, "Next film")
    page.get_by_text("film 2 of 6").wait_for()
    texts, heads = page.evaluate(BESIDE)  # at one moment: the map is on its way
    assert [text for text in texts if re.search(r"\d", text)] == []
    assert heads
    (page.folder / "slow").unlink()
    page.locator(".rx-scan[data-case='1']").wait_for()
    settled(page)
    press(page, "Previous film")
    page.locator(".rx-scan[data-case='0']").wait_for()
    settled(page)
    page.evaluate("cancelAnimationFrame(window.watch)")
    blank = "– – –"
    seen = set(page.evaluate("[...window.seen]"))
    assert {f"1|{first}", f"2|{second}"} <= seen
    assert seen <= {f"1|{first}", f"2|{second}", f"1|{blank}", f"2|{blank}"}


def test_a_phrase_after_a_head_goes_back_to_a_method_of_words(page):  # noqa: F811
    page.get_by_label("Method").select_option("gradcam")
    until(page, "gradcam")
    page.get_by_role("button", name="layer 1, head 2").click()
    until(page, "attention, layer 1, head 2")
    page.get_by_role("textbox", name="Phrase").fill("enlarged heart")
    page.keyboard.press("Enter")
    until(page, "gradcam: enlarged heart")


def test_escape_goes_back_to_the_former_method(page):  # noqa: F811
    page.get_by_role("button", name="layer 1, head 2").click()
    until(page, "attention, layer 1, head 2")
    page.get_by_role("button", name="layer 2, mean of heads").click()
    until(page, "attention, layer 2")
    page.keyboard.press("Escape")
    until(page, "relevance: pleural effusion")
    page.get_by_label("Method").select_option("rollout")
    until(page, "rollout")
    page.get_by_role("button", name="layer 0, head 1").click()
    until(page, "attention, layer 0, head 1")
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("Escape")
    until(page, "rollout")


def test_a_long_phrase_leaves_the_film_where_it_is(page):  # noqa: F811
    film = page.locator("canvas.rx-scan")
    before = film.bounding_box()
    page.get_by_role("textbox", name="Phrase").fill("very long words " * 320)
    page.keyboard.press("Enter")
    page.wait_for_selector(".rx-error:not(:empty)")
    assert film.bounding_box() == before
    page.get_by_role("textbox", name="Phrase").fill("quite long words " * 17)
    page.keyboard.press("Enter")
    until(page, "quite long words")
    page.wait_for_selector(".rx-error:empty", state="attached")
    assert film.bounding_box() == before
    label = page.locator(".rx-label span")
    assert label.bounding_box()["height"] < 45  # two lines
    assert label.get_attribute("title").count("quite long words") == 17


def test_the_models_score_is_said_with_its_place(page, model, table):  # noqa: F811
    said = page.locator(".rx-said")
    said.filter(has_text=re.compile(r"\d(st|nd|rd|th) of 6")).wait_for()
    text = said.inner_text()
    Z = rw.models.embed(model, table, precision="32-true")
    yes, no = (Z @ rw.probe.text_embeddings(model, ASKED.split(" vs ")).T).T
    values = yes - no
    said_value = float(re.search(r"[+-]?\d+\.\d+", text).group())
    assert said_value == pytest.approx(values[0], abs=0.006)
    place = 1 + int((values > values[0]).sum())
    assert re.search(rf"\b{place}(st|nd|rd|th) of 6", text), text


def test_the_strip_sorts_filters_and_walks(page, table):  # noqa: F811
    items = page.locator(".rx-item")
    assert items.count() == 6
    page.wait_for_function(
        """[...document.querySelectorAll('.rx-item canvas')].every(one =>
            one.getContext('2d').getImageData(36, 36, 1, 1).data[3] === 255)"""
    )
    page.get_by_label("Sort by").select_option("age_years")
    oldest = table.study_id[table.age_years.idxmax()]
    page.locator(".rx-item[aria-posinset='1']").filter(has_text="").wait_for()
    page.wait_for_function(
        f"document.querySelector('.rx-item[aria-posinset=\"1\"]').title"
        f".startsWith('{oldest}')"
    )
    page.get_by_label("Keep only films with").select_option(
        value='["site","B"]', force=True
    )
    kept = table[table.site == "B"]
    page.wait_for_function(
        f"document.querySelectorAll('.rx-item').length === {len(kept)}"
    )
    page.locator(f".rx-item[title^='{kept.study_id.iloc[0]}']").click()
    page.get_by_text(f"of {len(kept)} kept of 6: {kept.study_id.iloc[0]}").wait_for()
    page.get_by_role("button", name="site B").click()
    page.wait_for_function("document.querySelectorAll('.rx-item').length === 6")
    page.locator(".rx-strip").focus()
    page.keyboard.press("Home")
    page.get_by_text(f"film 1 of 6: {oldest}").wait_for()
    page.keyboard.press("End")
    page.get_by_text("film 6 of 6").wait_for()
    assert page.locator(".rx-item[aria-selected=true]").get_attribute(
        "aria-posinset"
    ) == ("6")


def test_a_verdict_and_a_note_are_kept_with_their_film(page, table):  # noqa: F811
    import pandas as pd

    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("d")
    page.wait_for_selector("button[aria-pressed=true]:has-text('Disagree')")
    page.get_by_label("Note").fill("the <b>device</b>, not the fluid")
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("film 2 of 6").wait_for()
    assert page.get_by_label("Note").input_value() == ""
    assert page.locator(".rx-notes [aria-pressed=true]").count() == 0
    page.wait_for_timeout(500)
    notes = pd.read_csv(page.folder / "notes.csv")
    row = notes[notes.study_id.astype(str) == str(table.study_id.iloc[0])].iloc[-1]
    assert (row.verdict, row.note) == ("disagree", "the <b>device</b>, not the fluid")
    page.keyboard.press("ArrowLeft")
    page.get_by_text("film 1 of 6").wait_for()
    assert page.get_by_label("Note").input_value() == row.note
    assert page.locator(".rx-item[aria-posinset='1'] i").inner_text() == "✗"


def test_a_link_opens_the_same_view_again(page):  # noqa: F811
    press(page, "Next film")
    page.get_by_text("film 2 of 6").wait_for()
    page.get_by_role("button", name="layer 1, head 2").click()
    until(page, "attention, layer 1, head 2")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_selector(".rx-code")
    code = page.locator(".rx-code").input_value()
    page.locator(".jp-CodeCell .cm-content").last.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")
    again = page.locator(".jp-CodeCell").last.locator(".rx")
    again.get_by_text("film 2 of 6").wait_for()
    again.locator(".rx-label").filter(has_text="attention, layer 1, head 2").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("'below'")
    page.keyboard.press("Control+Enter")
    again.wait_for(state="detached")


def test_a_busy_kernel_is_not_asleep(page):  # noqa: F811
    page.locator(".jp-CodeCell .cm-content").last.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("time.sleep(11)")
    page.keyboard.press("Control+Enter")
    page.locator(".jp-CodeCell").last.get_by_text("[*]").wait_for()
    press(page, "Next film")
    page.wait_for_timeout(9000)
    assert page.locator(".jp-CodeCell").last.get_by_text("[*]").count() == 1
    assert "Asleep" not in page.locator(".rx-sleep").text_content()
    assert page.get_by_role("button", name="Next film").is_enabled()
    page.get_by_text("film 2 of 6").wait_for()
    page.locator(".rx-sleep").wait_for(state="hidden")


def asleep(page):  # noqa: F811
    """The widget says that it sleeps, is off, and shows one film all the same."""
    page.locator(".rx-sleep").filter(has_text="Asleep").wait_for()
    # the heads of an exported page lie ready behind it, unseen
    assert page.locator(".rx-live:visible").count() == 0
    widget = page.locator(".rx:not(.rx-live)")
    controls = widget.locator("button, select, input")
    assert controls.count() > 20
    assert all(controls.nth(n).is_disabled() for n in range(controls.count()))
    before = widget.inner_text(), shot(page)
    widget.locator("canvas.rx-scan").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_timeout(300)
    assert widget.inner_text() == before[0]
    assert np.array_equal(shot(page), before[1])
    assert "film 2 of 6" in before[0]


def test_a_widget_without_its_kernel_sleeps_and_is_woken(page):  # noqa: F811
    press(page, "Next film")
    page.locator(".rx-scan[data-case='1']").wait_for()
    settled(page)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    asleep(page)
    page.get_by_text("| Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("film 1 of 6").wait_for()
    page.locator(".rx-sleep").wait_for(state="hidden")
    until(page, "relevance")


def test_a_message_after_the_last_is_no_error(page):  # noqa: F811
    page.locator(".rx-strip").focus()
    settled(page)
    page.evaluate(GO_ON_WITHOUT_CHANNELS)
    errors = page.errors.copy()
    page.errors.clear()
    # ipywidgets says so itself; what nobody caught would be here as it was thrown
    assert errors
    assert all(error.startswith("Could not send widget sync") for error in errors)


SESSION = "jupyterapp.shell.currentWidget.sessionContext"
ENDS = {
    "dies": "session.kernel.requestExecute({code: 'import os; os._exit(1)'}) && 1",
    "is shut down": "shutdown()",
    "is changed": "changeKernel({name: 'python3'}) && 1",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_widget_sleeps_when_its_kernel(page, end):  # noqa: F811
    press(page, "Next film")
    page.locator(".rx-scan[data-case='1']").wait_for()
    settled(page)
    page.evaluate(f"{SESSION}.{ENDS[end]}")
    if end == "dies":
        page.locator(".jp-Dialog button").last.click()
    asleep(page)
    if end != "is changed":  # that one is on its way already
        page.evaluate(f"{SESSION}.changeKernel({{name: 'python3'}})")
    page.get_by_text("| Idle").wait_for()
    page.wait_for_timeout(1500)  # the kernel says so a little early


def test_a_reopened_notebook_sleeps(page):  # noqa: F811
    press(page, "Next film")
    page.locator(".rx-scan[data-case='1']").wait_for()
    settled(page)
    page.wait_for_timeout(1500)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1500)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.reload()
    page.wait_for_selector(".rx[data-painted]")
    asleep(page)
