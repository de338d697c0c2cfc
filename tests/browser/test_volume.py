"""The volume viewer in JupyterLab with the network off.

It is drawn, scrolled, saved, and left as a figure on a page.
"""

import base64
import inspect
import io
import os
import re
import shutil

import nbformat
import numpy as np
import pytest
from conftest import guarded_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

import radwb as rw
from radwb.book import pages
from radwb.book.sync import KERNEL, checkout
from radwb.show.mix import ALPHA, blend
from radwb.show.windows import WINDOWS_HU

pytestmark = pytest.mark.browser
OUT = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea"
# 120 events of the pointer at once; ms until they are drawn
DRAG = """(canvas, [x, y, right, down]) => new Promise(done => {
    const start = performance.now();
    for (let n = 1; n <= 120; n++) {
        const clientX = x + (right - x) * n / 120, clientY = y + (down - y) * n / 120;
        const how = {clientX, clientY, pointerId: 1, bubbles: true};
        canvas.dispatchEvent(new PointerEvent('pointermove', how));
    }
    const drawn = () => done(performance.now() - start);
    requestAnimationFrame(() => requestAnimationFrame(drawn));
})"""
PLACE = "() => document.querySelector('.jp-WindowedPanel-outer').scrollTop"
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


# the second cell of a notebook; the first is `CODE`
VIEW = """rw.show.volume(small, m, window_hu=(-1000, 400), title="A planted map")"""


@pytest.fixture(scope="module")
def lab_page(chromium, address):
    """A page with the viewer in a notebook, for the tests that need no other kernel."""
    folder = checkout() / "build" / f"volume-shared-{os.getpid()}"
    folder.mkdir(parents=True)
    cells = [new_code_cell(CODE.strip()), new_code_cell(VIEW)]
    path = folder / "viewer.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    with guarded_page(chromium) as page:
        path = path.relative_to(checkout())
        open_in_lab(page, address, path, "lab/workspaces/shared")
        run_all(page)
        main(page)
        yield page
    shutil.rmtree(folder)


@pytest.fixture
def viewer(lab_page):
    """The page with a viewer that nobody has touched.

    Afterwards nothing has left the machine or broken.
    """
    lab_page.locator(".jp-CodeCell .cm-content").last.click()
    lab_page.evaluate("document.querySelectorAll('.rv').forEach(one => one.remove())")
    lab_page.keyboard.press("Control+Enter")
    main(lab_page)
    yield lab_page
    assert lab_page.outside == []
    assert lab_page.errors == []


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


def open_in_lab(page, lab, path, room="lab"):
    """Open a notebook.

    Args:
        room: two pages in one workspace would open one another's notebooks.
    """
    base, _, token = lab[0].partition("/lab")
    page.goto(f"{base}/{room}/tree/{path}?{token.partition('?')[2]}")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
    page.get_by_text("| Idle").wait_for()
    page.wait_for_timeout(2000)  # it says so a little early


def run_all(page):
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()


def main(page):
    """The canvas of the large plane, once it's drawn."""
    page.wait_for_selector(f"{OUT} .rv[data-painted]")
    canvas = page.locator(f"{OUT} .rv-main canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(600)  # each voxel of the slice has come
    return canvas


def saved(page, path):
    """The notebook as it lies on disk, once Lab has written what its cells gave."""
    for _ in range(60):
        page.wait_for_timeout(500)
        try:
            nb = nbformat.read(checkout() / path, as_version=4)
        except nbformat.reader.NotJSONError:  # half written
            continue
        if nb.cells[-1].outputs:
            return nb
    return pytest.fail("the notebook wasn't saved")


def looks(canvas):
    return np.asarray(
        Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    ).astype(int)


def changed(a, b):
    return float((np.abs(a - b).max(-1) > 12).mean())


def coloured(picture):
    """Share of pixels in the map's orange and yellow.

    Neither the scan nor the crosshair has them.
    """
    return float(((picture[..., 0] - picture[..., 2]) > 40).mean())


def over(page, canvas, across=0.3, down=0.6):
    """The pointer over a place of a plane, as shares of its width and height."""
    box = canvas.bounding_box()
    place = (box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.mouse.move(*place)
    return place


def at(page, n=0):
    """(d, h, w) where the planes cross."""
    page.wait_for_timeout(300)
    return [
        int(i) for i in page.locator(".rv").nth(n).get_attribute("data-painted").split()
    ]


def planes(page):
    return page.locator(f"{OUT} .rv-pane canvas").all()


def opened(address, page, notebook, *cells):
    open_in_lab(page, address, notebook("volume", *cells))
    run_all(page)
    return main(page)


def small():
    """The CT of `CODE`."""
    ct = rw.data.read(rw.data.fetch("lidc-ct") / "cxr.nii.gz")
    affine = ct.affine @ np.diag([2, 8, 8, 1.0])
    return rw.data.Volume(ct.voxels[::2, ::8, ::8], affine, "CT")


def voxels_on(canvas, shape):
    """(rows, columns, 3) the colour in the middle of each voxel of the whole slice."""
    data = canvas.evaluate("canvas => canvas.toDataURL().split(',')[1]")
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    picture = np.asarray(picture).astype(int)
    px = min(size / n for size, n in zip(picture.shape, shape, strict=False))
    places = []
    for size, n in zip(picture.shape, shape, strict=False):
        places.append((size / 2 + (np.arange(n) + 0.5 - n / 2) * px).astype(int))
    return picture[np.ix_(*places)]


def window(page):
    """(low, high) in HU, as it's said."""
    page.wait_for_timeout(300)
    words = page.locator(".rv-window").first.inner_text()
    width, level = map(float, re.match(r"W (\S+) L (\S+) HU", words).groups())
    return level - width / 2, level + width / 2


def test_three_planes_are_drawn_and_the_wheel_scrolls_one(viewer):
    page = viewer
    canvas = main(page)
    before = [looks(plane) for plane in planes(page)]
    assert min(picture.std() for picture in before) > 15
    assert coloured(before[0]) > 0.01
    first = at(page)
    over(page, canvas)
    scrolled = page.evaluate(PLACE)
    for _ in range(6):
        page.mouse.wheel(0, 100)
    for _ in range(20):  # a busy browser takes its time over six turns
        moved_by = [a - b for a, b in zip(at(page), first, strict=True)]
        if moved_by[0] == -6:
            break
    page.wait_for_timeout(300)
    assert [a - b for a, b in zip(at(page), first, strict=True)] == [-6, 0, 0]
    assert page.evaluate(PLACE) == scrolled  # the page stays where it is
    after = [looks(plane) for plane in planes(page)]
    moved = [changed(a, b) for a, b in zip(before, after, strict=True)]
    assert moved[0] > 0.05
    assert max(moved[1:]) < moved[0] / 2  # there only the crosshair moved
    words = page.locator(f"{OUT} .rv").inner_text()
    assert "A planted map" in words
    assert "window -1000 to 400 HU" in words
    assert "sanity: not checked" in words
    assert "Shown with canvas (itkwidgets: " in words


def test_the_picture_is_the_slice_to_the_voxel(address, page, notebook):
    """Each voxel is a square of 7 px, though only every second one is sent at first."""
    cell = "rw.show.volume(small, window_hu=(-1000, 400), at=(30, 20, 40), side=32)"
    canvas = opened(address, page, notebook, CODE, cell)
    volume = small()
    picture = voxels_on(canvas, volume.shape[1:])
    want = volume.slice(0, 30, (-1000, 400)).pixels * 255
    off = np.abs(picture - want[..., None]).max(-1)
    assert (off > 1.5).mean() < 0.06  # the cursor, letters and the scale
    assert np.median(off) <= 1
    canvas.focus()
    page.keyboard.press("i")
    page.wait_for_timeout(500)
    off = np.abs(picture + voxels_on(canvas, volume.shape[1:]) - 255).max(-1)
    assert (off > 1.5).mean() < 0.06


def test_a_map_is_blended_as_in_every_figure(viewer):
    page = viewer
    canvas = main(page)
    volume = small()
    values = np.zeros(volume.shape, np.float32)
    values[22:33, 22:33, 13:22] = 1
    level = rw.data.Volume(values, volume.affine)
    index = at(page)[0]
    want = blend(
        volume.slice(0, index, (-1000, 400)).pixels,
        level.slice(0, index, (0, 1)).pixels,
        ALPHA,
    )
    off = np.abs(voxels_on(canvas, volume.shape[1:]) - np.asarray(want)).max(-1)
    assert (off > 3).mean() < 0.06
    assert coloured(np.asarray(want).astype(int)) > 0.01


def test_the_window_follows_the_hand_and_the_keys(viewer):
    page = viewer
    canvas = main(page)
    x, y = over(page, canvas, 0.3, 0.5)
    page.mouse.down(button="right")
    spent = canvas.evaluate(DRAG, [x, y, x - 200, y + 60])
    page.mouse.up(button="right")
    low, high = window(page)
    assert spent < 2000  # 120 events are drawn once; they took 70 s one by one
    assert high - low == pytest.approx(1400 / np.e, rel=0.02)  # across: the width
    assert (high + low) / 2 == pytest.approx(-300 + 60 * 1400 / 300, abs=8)  # down
    for key, (name, hu) in zip("1234", WINDOWS_HU.items(), strict=True):
        page.keyboard.press(key)
        assert window(page) == hu
        pressed = page.locator(".rv button[aria-pressed=true]").all_inner_texts()
        assert pressed == [name]
    page.keyboard.press("0")
    assert window(page) == (-1000, 400)


def test_hands_and_keys_move_zoom_and_measure(viewer):
    page = viewer
    canvas = main(page)
    first = at(page)
    canvas.focus()
    for keys, step in ({"ArrowDown": -1, "PageUp": 10, "PageDown": -10}).items():
        page.keyboard.press(keys)
        assert at(page)[0] - first[0] == step, keys
        page.keyboard.press("p")  # the map's highest voxel
        assert at(page) == [22, 22, 13]
        first = at(page)
    before = looks(canvas)
    x, y = over(page, canvas, 0.4, 0.4)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert at(page) == first  # it zooms and doesn't scroll
    assert changed(before, looks(canvas)) > 0.1
    page.mouse.dblclick(x, y)
    page.keyboard.press("p")
    over(page, canvas, 0.02, 0.02)
    page.wait_for_timeout(300)
    assert changed(before, looks(canvas)) < 0.01
    page.keyboard.press("m")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 60, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    box = canvas.bounding_box()
    mm = 64 * small().spacing_mm[1]  # of the slice's height
    assert float(canvas.get_attribute("data-mm")) == pytest.approx(
        100 * mm / box["height"], rel=0.01
    )


def test_the_value_under_the_pointer_and_a_slab(viewer):
    page = viewer
    canvas = main(page)
    volume = small()
    for place in ((0.4, 0.4), (0.5, 0.62)):
        over(page, canvas, *place)
        words = page.locator(".rv-status").inner_text()
        value, voxel = re.match(r"(-?[\d.]+) HU .* voxel ([\d, ]+) ·", words).groups()
        d, h, w = map(int, voxel.split(", "))
        assert float(value) == volume.voxels[d, h, w]
    page.locator(".rv-bar input").first.evaluate(
        "slab => { slab.value = 20; slab.dispatchEvent(new Event('input')); }"
    )
    page.locator(".rv select").select_option("none")
    page.wait_for_timeout(500)
    d = at(page)[0]
    half = int(10 / volume.spacing_mm[0])
    block = volume.voxels[d - half : d + half + 1]
    thick = rw.data.Volume(block.max(0)[None], volume.affine)
    want = thick.slice(0, 0, (-1000, 400)).pixels * 255
    off = np.abs(voxels_on(canvas, volume.shape[1:]) - want[..., None]).max(-1)
    assert (off > 1.5).mean() < 0.06


def test_two_views_have_one_cursor_and_one_zoom(address, page, notebook):
    cell = """
    maps = {"relevance": m, "mirrored": values[:, :, ::-1]}
    view.link(rw.show.volume(small, maps, window_hu=(-1000, 400)))
    """
    canvas = opened(address, page, notebook, CODE, inspect.cleandoc(cell))
    page.locator(".rv[data-painted]").nth(1).wait_for()
    over(page, canvas)
    first = at(page)
    for _ in range(3):
        page.mouse.wheel(0, 100)
    scrolled = " ".join(map(str, [first[0] - 3, *first[1:]]))
    page.locator(f".rv[data-painted='{scrolled}']").nth(1).wait_for()  # both
    lower = page.locator(".rv").nth(1)
    lower.locator("select").select_option("mirrored")
    lower.get_by_role("button", name="Peak").click()
    assert at(page, 0) == at(page, 1) == [22, 22, 42]


def test_without_webgl_it_is_the_same(address, page, notebook):
    page.add_init_script("""
        const own = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
            return kind.startsWith('webgl') ? null : own.call(this, kind, ...more);
        };""")
    assert looks(opened(address, page, notebook, CODE, "view")).std() > 20
    assert page.errors == []


def test_a_cell_that_is_run_again_lets_its_voxels_go(address, page, notebook):
    held = """
    from ipywidgets.widgets.widget import _instances
    views = [w for w in _instances.values() if type(w).__name__ == "Canvas"]
    print([len(w.scan) > 0 for w in views])
    """
    cells = ["rw.show.volume(small, m, height=300)", inspect.cleandoc(held)]
    code = CODE.rpartition("view =")[0]
    open_in_lab(page, address, notebook("again", code, *cells))
    run_all(page)
    main(page)
    for _ in range(3):
        run_all(page)
        page.wait_for_timeout(4000)
    last = page.locator(".jp-CodeCell").last
    for _ in range(10):  # on a busy machine a page is slow to say what it shows
        last.locator(".jp-InputPrompt").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(2000)
        words = last.locator(".jp-OutputArea-output").inner_text().strip()
        if words == "[False, False, False, True]":
            return
    pytest.fail(f"voxels are held by {words}")


def test_the_viewer_comes_back_after_saving_and_without_its_kernel(
    address, page, notebook
):
    path = notebook("saved", CODE, "view")
    open_in_lab(page, address, path)
    run_all(page)
    canvas = main(page)
    canvas.focus()
    page.keyboard.press("1")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(1000)
    place = at(page)
    first = looks(canvas)
    page.keyboard.press("Control+s")
    kept = saved(page, path).metadata["widgets"]
    assert "application/vnd.jupyter.widget-state+json" in kept
    page.locator(".lm-MenuBar-itemLabel", has_text="Kernel").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Shut Down Kernel").first.click()
    page.wait_for_timeout(1500)
    page.goto("about:blank")
    open_in_lab(page, address, path)
    canvas = main(page)
    canvas.focus()
    assert at(page) == place
    assert changed(first, looks(canvas)) < 0.02
    page.keyboard.press("ArrowDown")
    assert at(page)[0] == place[0] - 1  # it still scrolls
    assert changed(first, looks(canvas)) > 0.05
    assert page.outside == []
    assert page.errors == []


def test_a_viewer_whose_kernel_is_gone_says_what_it_lacks(address, page, notebook):
    thin = "rw.show.volume(small, m, side=32)"
    canvas = opened(address, page, notebook, CODE, thin)
    page.locator(".lm-MenuBar-itemLabel", has_text="Kernel").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Shut Down Kernel").first.click()
    page.wait_for_timeout(1500)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    note = page.locator(".rv-note", has_text="this is every 2 x 2 x 2 voxel")
    note.wait_for()
    assert looks(canvas).std() > 15
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
    assert {"application/vnd.jupyter.widget-view+json", pages.PLOTLY} <= set(data)
    assert "radwb-still" in nb.cells[2].outputs[1]["data"]["text/html"]
    assert "radwb-still" not in path.read_text("utf-8")  # the figure stands for it
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
    number = page.locator("text.slider-label", has_text="axial slice")
    assert number.evaluate("text => getComputedStyle(text).fillOpacity") != "0"
    rail = page.locator(
        ".slider-container .slider-rail-touch-rect"
    ).first.bounding_box()
    page.mouse.click(rail["x"] + rail["width"] * 0.95, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(1000)
    assert changed(before, looks(page.locator(".imagelayer image").first)) > 0.05
    assert page.outside == []
    assert page.errors == []
