"""Notebook 04 as a learner has it, in JupyterLab with the network off.

It is run, and its two widgets are driven.
"""

import base64
import io
import os
import shutil

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_explore_widget import gate
from test_volume import changed, looks, over

import radwb as rw
from radwb.book import sync

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RUN = sync.checkout() / "runs" / "clip-tiny"


@pytest.fixture(scope="module")
def notebook():
    """The path in the checkout of notebook 04 with its parameters of a fast run.

    Beside it lies `../runs/clip-tiny`.
    A copy, since Lab saves what it runs. Where notebook 02 hasn't been run here, the
    released model takes its place.
    """
    root = sync.checkout() / "build" / f"notebook-04-check-{os.getpid()}"
    (root / "notebooks").mkdir(parents=True)
    if RUN.is_dir():
        shutil.copytree(RUN, root / "runs" / "clip-tiny")
    else:
        rw.models.save(rw.models.load("radwb-tiny"), root / "runs" / "clip-tiny")
    (source,) = sync.sources(sync.checkout(), ["04"])
    nb = sync.build(source)
    sync.put_fast_cell(nb)
    path = root / "notebooks" / "04_attention.ipynb"
    nbformat.write(nb, path)
    yield path.relative_to(sync.checkout())
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def cache():
    """The lab has a home of its own; the cohort need not be simulated anew for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADWB_CACHE", str(rw.data.cache_folder()))
        yield


@pytest.fixture(scope="module")
def lab(chromium, cache, address, notebook):
    """The notebook, run to its end.

    `page.outside` names what left this machine, `page.errors` what broke.
    """
    page = chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    page.outside, page.errors = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.route("**/*", lambda route: gate(page, route))
    base, _, token = address[0].partition("/lab")
    page.goto(f"{base}/lab/tree/{notebook}?{token.partition('?')[2]}")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
    page.get_by_text("| Idle").wait_for()
    page.wait_for_timeout(2000)  # it says so a little early
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    wait_until_idle(page)
    yield page
    page.context.close()


def wait_until_idle(page, seconds=540):
    """Between two cells the kernel is idle for a moment.

    It has to be so three times in a row, and no cell waiting.
    """
    calm = 0
    for _ in range(seconds):
        page.wait_for_timeout(1000)
        waiting = page.locator(".jp-InputPrompt", has_text="[*]").count()
        calm = calm + 1 if page.get_by_text("| Idle").count() and not waiting else 0
        if calm == 3:
            return
    pytest.fail(f"the notebook still runs after {seconds} s")


@pytest.fixture
def page(lab):
    yield lab
    assert lab.outside == []
    assert lab.errors == []


def find(page, selector):
    """Scroll through the notebook until `selector` is there.

    Lab draws only what is near.
    """
    panel = page.locator(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
    )
    panel.evaluate("panel => panel.scrollTo(0, 0)")
    for _ in range(200):
        matches = page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) {selector}")
        if matches.count():
            matches.first.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            return matches.first
        page.wait_for_timeout(150)
        panel.evaluate("panel => panel.scrollBy(0, 600)")
    return pytest.fail(f"nowhere in the notebook: {selector}")


def shot(page):
    """(H, W, 3) what stands on the explorer's canvas."""
    uri = page.locator("canvas.rx-scan").first.evaluate(
        "canvas => canvas.toDataURL('image/png')"
    )
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    ).astype(int)


def label(page, text):
    page.locator(".rx-label").first.filter(has_text=text).wait_for()
    page.wait_for_timeout(300)
    return shot(page)


def test_every_cell_runs_to_what_we_found(page, notebook):
    page.keyboard.press("Control+s")
    page.wait_for_timeout(4000)
    nb = nbformat.read(sync.checkout() / notebook, as_version=4)
    code = [c for c in nb.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    errors = [
        (c.id, o.ename, o.evalue)
        for c in code
        for o in c.outputs
        if o.output_type == "error"
    ]
    assert errors == []
    words = "".join(
        o.get("data", {}).get("text/markdown", "") for c in code for o in c.outputs
    )
    assert "What we found" in words
    assert (
        sum(
            "application/vnd.plotly.v1+json" in o.get("data", {})
            for c in code
            for o in c.outputs
        )
        > 10
    )


def test_the_explorer_follows_layer_phrase_and_patch(page):
    find(page, ".rx[data-painted]")
    pictures = [label(page, "relevance")]
    page.get_by_role("button", name="layer 1, head 2").first.click()
    pictures.append(label(page, "attention, layer 1, head 2"))
    page.get_by_role("button", name="layer 3, mean of heads").first.click()
    pictures.append(label(page, "attention, layer 3, mean of heads"))
    page.get_by_label("Method").first.select_option("relevance")
    label(page, "relevance")
    page.get_by_label("Phrase").first.fill("enlarged heart")
    page.keyboard.press("Enter")
    pictures.append(label(page, "relevance: enlarged heart"))
    canvas = page.locator("canvas.rx-scan").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 2.5 / 8 * box["width"], "y": 5.5 / 8 * box["height"]})
    pictures.append(label(page, "attention of patch (5, 2)"))
    for n, a in enumerate(pictures):
        assert a.std() > 20  # a film, not an empty canvas
        for b in pictures[n + 1 :]:
            assert changed(a, b) > 0.05


def test_the_volume_scrolls(page):
    canvas = find(page, ".jp-OutputArea .rv[data-painted] .rv-main canvas")
    page.wait_for_timeout(1000)
    before = looks(canvas)
    assert before.std() > 20
    over(page, canvas)
    for _ in range(6):
        page.mouse.wheel(0, 100)
    page.wait_for_timeout(1000)
    assert changed(before, looks(canvas)) > 0.03
