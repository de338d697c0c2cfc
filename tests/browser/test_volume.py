"""The volume viewer in JupyterLab with the network off.

It is drawn, scrolled, saved, and left as a figure on a page.
"""

import inspect
import io
import os
import shutil

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from radwb.book import pages
from radwb.book.sync import KERNEL, checkout

pytestmark = pytest.mark.browser
pytest.importorskip("ipyniivue")
CODE = """
import numpy as np
import radwb as rw
ct = rw.data.read(rw.data.fetch("lidc-ct") / "cxr.nii.gz")
affine = ct.affine @ np.diag([2, 8, 8, 1.0])
small = rw.data.Volume(ct.voxels[::2, ::8, ::8], affine, "CT")
values = np.zeros(small.shape, np.float32)
values[22:33, 22:33, 13:22] = 1
m = rw.attend.map.Map(values, "relevance", 0, None, "nodule", "planted", affine)
view = rw.show.volume(small, m, window_hu=(-1000, 400), title="A planted map")
"""


@pytest.fixture
def notebook():
    """Writes a notebook into the checkout, where the lab sees it.

    The function gives its path below that.
    """
    folder = checkout() / "build" / f"volume-check-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)

    def write(name, *cells):
        nb = new_notebook(
            cells=[new_code_cell(c.strip()) for c in cells],
            metadata={"kernelspec": KERNEL},
        )
        nbformat.write(nb, folder / f"{name}.ipynb")
        return (folder / f"{name}.ipynb").relative_to(checkout())

    yield write
    shutil.rmtree(folder)


def open_in_lab(page, lab, path):
    base, _, token = lab[0].partition("/lab")
    page.goto(f"{base}/lab/tree/{path}?{token.partition('?')[2]}")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
    page.get_by_text("| Idle").wait_for()
    page.wait_for_timeout(2000)  # it says so a little early


def run_all(page):
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()


def canvas_of(page):
    canvas = page.locator(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea canvas"
    ).first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    settle(page, canvas)
    return canvas


def settle(page, canvas):
    """Until two pictures are equal and the scan is there: niivue loads in steps."""
    for _ in range(60):
        before = looks(canvas)
        page.wait_for_timeout(400)
        if before.std() > 20 and np.array_equal(before, looks(canvas)):
            return
    pytest.fail("the viewer didn't come to rest")


def looks(canvas):
    return np.asarray(
        Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    ).astype(int)


def quarter(picture, down, right):
    """One of four views: coronal and sagittal above, axial and the rendering below."""
    H, W = picture.shape[0] - 60, picture.shape[1]  # the colour bar lies below
    return picture[
        down * H // 2 : (down + 1) * H // 2, right * W // 2 : (right + 1) * W // 2
    ]


def changed(a, b):
    return float((np.abs(a - b).max(-1) > 12).mean())


def coloured(picture):
    """Share of pixels in the map's orange and yellow.

    Neither the scan nor the crosshair has them.
    """
    return float(((picture[..., 0] - picture[..., 2]) > 40).mean())


def scroll(page, canvas, times=6):
    """The wheel over the axial plane."""
    box = canvas.bounding_box()
    page.mouse.move(
        box["x"] + box["width"] * 0.3, box["y"] + (box["height"] - 60) * 0.75
    )
    for _ in range(times):
        page.mouse.wheel(0, 100)
    settle(page, canvas)


def test_the_viewer_draws_four_views_and_scrolls_offline(address, page, notebook):
    open_in_lab(page, address, notebook("draw", CODE, "view"))
    run_all(page)
    canvas = canvas_of(page)
    first = looks(canvas)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert quarter(first, down, right).std() > 15, (down, right)
    assert coloured(quarter(first, 1, 0)) > 0.01
    scroll(page, canvas)
    after = looks(canvas)
    moved = {
        place: changed(quarter(first, *place), quarter(after, *place))
        for place in ((0, 0), (0, 1), (1, 0))
    }
    assert moved[1, 0] > 0.05
    assert (
        max(moved[0, 0], moved[0, 1]) < moved[1, 0] / 2
    )  # there only the crosshair moved
    words = page.locator(".jp-OutputArea .widget-html").inner_text()
    assert "A planted map" in words
    assert "window -1000 to 400 HU" in words
    assert "sanity: not checked" in words
    assert "Shown with ipyniivue (itkwidgets: " in words
    assert page.outside == []
    assert page.errors == []


def test_another_map_is_laid_over_the_scan_that_is_shown(address, page, notebook):
    button = """
    import ipywidgets
    mirrored = np.ascontiguousarray(values[:, :, ::-1])
    other = rw.attend.map.Map(mirrored, "rollout", affine=affine)
    button = ipywidgets.Button(description="lay")
    button.on_click(lambda _: view.lay(other))
    button
    """
    open_in_lab(page, address, notebook("lay", CODE, "view", inspect.cleandoc(button)))
    run_all(page)
    canvas = canvas_of(page)
    before = quarter(looks(canvas), 1, 0)
    plane = np.flatnonzero(
        (before.max(-1) > 30).mean(0) > 0.1
    )  # the columns that it takes of its quarter
    right = slice(plane[0], (plane[0] + plane[-1]) // 2)  # of the patient
    page.locator("button", has_text="lay").dispatch_event("click")
    for _ in range(40):
        page.wait_for_timeout(500)
        after = quarter(looks(canvas), 1, 0)
        if coloured(after[:, right]) < 0.2 * coloured(before[:, right]):
            break
    else:
        pytest.fail("the map stayed where it was")
    assert coloured(before[:, right]) > 0.02
    assert coloured(after) > 0.3 * coloured(before)  # now on the patient's other side
    assert page.outside == []
    assert page.errors == []


def test_the_viewer_comes_back_after_saving_and_without_its_kernel(
    address, page, notebook
):
    path = notebook("saved", CODE, "view")
    open_in_lab(page, address, path)
    run_all(page)
    canvas = canvas_of(page)
    first = looks(canvas)
    page.locator(".jp-NotebookPanel .jp-CodeCell").first.locator(
        ".jp-InputPrompt"
    ).click()
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    saved = nbformat.read(checkout() / path, as_version=4)
    assert "application/vnd.jupyter.widget-state+json" in saved.metadata["widgets"]
    page.locator(".lm-MenuBar-itemLabel", has_text="Kernel").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Shut Down Kernel").first.click()
    page.wait_for_timeout(1500)
    page.goto("about:blank")
    open_in_lab(page, address, path)
    canvas = canvas_of(page)
    assert changed(first, looks(canvas)) < 0.02
    scroll(page, canvas)
    assert (
        changed(quarter(first, 1, 0), quarter(looks(canvas), 1, 0)) > 0.05
    )  # it still scrolls
    assert page.outside == []
    assert page.errors == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A page of the gallery, of a notebook that a kernel executed without a browser."""
    from nbclient import NotebookClient

    cells = [
        new_markdown_cell("# Volume"),
        new_code_cell(CODE.strip()),
        new_code_cell("view"),
    ]
    nb = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    NotebookClient(nb, kernel_name="python3", timeout=120).execute()
    path = tmp_path_factory.mktemp("pages") / "volume.html"
    pages.write_page(nb, path, title="Volume")
    return path, nb


def test_the_exported_page_shows_the_planes_and_its_sliders_work_offline(
    exported, page
):
    path, nb = exported
    data = nb.cells[2].outputs[0]["data"]
    assert {
        "application/vnd.jupyter.widget-view+json",
        pages.PLOTLY,
        "image/png",
    } <= set(data)
    page.context.set_offline(True)
    page.goto(path.as_uri())
    page.wait_for_selector(".plotly-graph-div .imagelayer image")
    assert page.locator(".imagelayer image").count() == 3
    page.wait_for_timeout(1000)
    plane = page.locator(".imagelayer image").first
    before = looks(plane)
    assert before.std() > 20
    assert coloured(before) > 0.01
    page.mouse.wheel(0, 5000)  # to the figure's end
    page.wait_for_timeout(500)
    rail = page.locator(
        ".slider-container .slider-rail-touch-rect"
    ).first.bounding_box()
    page.mouse.click(rail["x"] + rail["width"] * 0.95, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(1000)
    assert changed(before, looks(page.locator(".imagelayer image").first)) > 0.05
    assert page.outside == []
    assert page.errors == []
