"""With the focus in a widget no key reaches the notebook, but the one that saves it."""

import pytest
from test_volume import CODE, notebook, open_in_lab, run_all, saved  # noqa: F401

pytestmark = pytest.mark.browser
LIVE = """
import radwb as rw
plot = rw.show.live(["an effusion", "a nodule"], batch=8)
plot({"step": 1, "epoch": 0, "loss": 4.1})
plot
"""
FOCUSABLE = "a[href], button, input, select, textarea, canvas, [tabindex]"
NAMES = {"Accel": "Control", "Ctrl": "Control", "Space": " "}
WATCH = """() => {
    window.ran = [];
    const note = (_, command) => window.ran.push(command.id);
    jupyterapp.commands.commandExecuted.connect(note);
}"""
# all that is bound within the notebook or above it, to be pressed as it stands there
BOUND = """() => {
    const bound = jupyterapp.commands.keyBindings.filter(binding =>
        binding.keys.length && !/Dialog|Completer|Terminal/.test(binding.selector));
    const each = new Set(bound.map(binding => JSON.stringify(binding.keys)));
    return [...each].map(text => JSON.parse(text));
}"""
CELLS = """() => {
    const cells = jupyterapp.shell.currentWidget.content.model.toJSON().cells;
    return JSON.stringify(cells.map(cell => [cell.cell_type, cell.source]));
}"""


def strokes(keys):
    """JupyterLab's ["Accel Shift ArrowUp"] or ["D", "D"] as Playwright presses them."""
    for stroke in keys:
        *modifiers, key = stroke.split(" ")
        if len(key) == 1 and "Shift" not in modifiers:
            key = key.lower()
        yield "+".join(NAMES.get(part, part) for part in (*modifiers, key))


# the events of real keys, to be sent again to other things of the same kind
HEAR = """() => {
    const names = "key code keyCode which ctrlKey shiftKey altKey metaKey".split(" ");
    window.heard = [];
    for (const kind of ["keydown", "keyup"])
        window.addEventListener(kind, event => {
            if (!event.isTrusted) return;
            const keys = { bubbles: true, cancelable: true, composed: true };
            for (const name of names) keys[name] = event[name];
            window.heard.push([kind, keys]);
        }, true);
}"""
SEND = """one => {
    for (const [kind, keys] of window.heard)
        one.dispatchEvent(new KeyboardEvent(kind, keys));
    return window.heard.length / 2;
}"""
KIND = "one => [one.tagName, one.type, one.getAttribute('role')].join()"


def things(page, box):
    """Each thing in the box that a click or Tab can focus, and the box itself."""
    return [box, *box.locator(FOCUSABLE).all()]


def focused(page, thing):
    return thing.evaluate(
        "one => { one.focus(); return document.activeElement === one }"
    )


def test_the_keys_are_those_of_the_notebook(address, page, notebook):  # noqa: F811
    """A click on the cell's own frame and the same keys: they act."""
    open_in_lab(page, address, notebook("outside", "1", "2"))
    page.evaluate(WATCH)
    before = page.evaluate(CELLS)
    page.locator(".jp-Notebook .jp-InputPrompt").first.click()
    page.keyboard.press("x")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") == ["notebook:cut-cell"]
    assert page.evaluate(CELLS) != before
    page.keyboard.press("z")
    assert page.evaluate(CELLS) == before
    page.evaluate(HEAR)
    page.locator(".jp-Notebook .jp-InputPrompt").first.click()
    page.keyboard.press("j")  # to the next cell
    page.evaluate("window.ran = []")
    page.locator(".jp-Notebook .jp-InputPrompt").first.click()
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    assert prompt.evaluate(SEND) == 1  # keys that are sent again act, too
    assert page.evaluate("window.ran") == ["notebook:move-cursor-down"]
    assert len(page.evaluate(BOUND)) > 80


# small: its WebGL is drawn by the CPU here, anew at each key
NIIVUE = 'rw.show.volume(small, m, viewer="ipyniivue", height=160)'


@pytest.mark.parametrize(
    ("code", "seen", "box"),
    [
        ([CODE, "view"], ".rv-main canvas", ".rv"),
        ([CODE, NIIVUE], "canvas", ".widget-vbox"),
        ([LIVE], ".svg-container", ".widget-vbox"),
    ],
)
def test_no_key_leaves_a_widget(address, page, notebook, code, seen, box):  # noqa: F811
    path = notebook("keys", *code, "'below'")
    open_in_lab(page, address, path)
    run_all(page)
    picture = page.locator(f".jp-OutputArea {seen}").first
    picture.wait_for()
    page.wait_for_timeout(1000)
    picture.click(position={"x": 200, "y": 100})
    box = page.locator(f".jp-OutputArea {box}").first
    assert box.evaluate("box => box.contains(document.activeElement)")
    page.evaluate(WATCH)
    before = page.evaluate(CELLS)
    bound = [[*strokes(keys)] for keys in page.evaluate(BOUND)]
    bound = [keys for keys in bound if keys != ["Control+s"]]
    page.evaluate(HEAR)
    tried = set()
    for thing in things(page, box):
        kind = thing.evaluate(KIND)
        if not focused(page, thing):  # hidden
            continue
        if kind in tried:
            assert thing.evaluate(SEND) > 80
            continue
        page.evaluate("window.heard = []")
        for keys in bound:
            if not focused(page, thing):  # taken elsewhere by a key
                break
            for stroke in keys:
                page.keyboard.press(stroke)
        else:
            tried.add(kind)
    page.wait_for_timeout(1500)  # JupyterLab waits a second for a second stroke
    assert tried
    assert page.evaluate("window.ran") == []
    assert page.evaluate(CELLS) == before
    assert page.locator(".jp-Dialog").count() == 0
    focused(page, box)
    page.keyboard.press("Control+s")
    kept = saved(page, path)
    assert page.evaluate("window.ran") == ["docmanager:save"]
    assert kept.cells[-1].outputs[0]["data"]["text/plain"] == "'below'"
