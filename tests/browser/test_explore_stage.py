"""The explorer's film as a viewer: what hand and keys do, and each pixel of it.

What must be seen is computed with numpy and Pillow from the films, never by the widget.
"""

import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from test_explore_widget import notebook_in_lab, press, shot, until

import radwb as rw

pytestmark = pytest.mark.browser
FILMS = """
import numpy as np
import radwb as rw

def film(seed, H, W, **about):
    rng = np.random.default_rng(seed)
    coarse = rng.random((H // 50, W // 50)).astype(np.float32)
    pixels = 0.8 * np.kron(coarse, np.ones((50, 50), np.float32))
    pixels += 0.2 * rng.random((H, W), dtype=np.float32)
    mask = np.zeros((H, W), bool)
    mask[H // 3:H // 2, W // 4:W // 2] = True
    return rw.data.Scan(pixels, truth={"Pleural Effusion": mask}, **about)

hung = {"view": "PA", "orientation": ("L", "F")}
films = [
    film(0, 400, 400, spacing_mm=(0.9, 0.9), **hung),
    film(1, 3000, 2500, spacing_mm=(0.14, 0.14), **hung),
    film(2, 400, 300),
]
"""
CELL = f"""{FILMS}
model = rw.models.load("radwb-tiny")
widget = rw.show.explore(model, films, finding="Pleural Effusion")
widget"""
ASKED = ("pleural effusion", "no pleural effusion")
RELEVANCE = "relevance: pleural effusion vs no pleural effusion"


@pytest.fixture(scope="module")
def films():
    names = {}
    exec(FILMS, names)
    return names["films"]


@pytest.fixture(scope="module")
def model():
    return rw.models.load("radwb-tiny")


@pytest.fixture(scope="module")
def lab(chromium, address):
    import pandas as pd

    with notebook_in_lab(chromium, address, pd.DataFrame({"a": [1]}), CELL) as page:
        page.set_default_timeout(30_000)  # two cores, shared
        yield page


@pytest.fixture
def page(lab):
    """A widget that nobody has touched, without the outline; all its labels are noted.

    Afterwards nothing has left the machine or broken.
    """
    lab.locator(".jp-CodeCell .cm-content").first.click()
    lab.evaluate("document.querySelectorAll('.rx').forEach(e => e.remove())")
    lab.keyboard.press("Control+Enter")
    label = lab.locator(".rx-label").filter(has_text=RELEVANCE)
    label.wait_for(timeout=60_000)  # the first cell imports torch
    press(lab, "Truth")
    lab.evaluate("""() => {
        window.labels = [];
        const label = document.querySelector(".rx-label");
        new MutationObserver(() => window.labels.push(label.textContent)).observe(
            label, {subtree: true, childList: true, characterData: true});
    }""")
    yield lab
    assert lab.outside == []
    assert lab.errors == []


@pytest.fixture
def alone(page):
    """The film without the map."""
    page.get_by_role("slider", name="Map").fill("0")
    return page


@pytest.fixture
def big(alone):
    """The film of 3000 x 2500 px, without the map."""
    alone.locator("canvas.rx-scan").focus()
    alone.keyboard.press("ArrowRight")
    alone.locator(".rx-scan[data-case='1']").wait_for()
    return alone


def at(page, u, v, pane=0):
    """A point of the canvas, by its shares, on the page: whole px, as a wheel has."""
    canvas = page.locator("canvas.rx-scan").nth(pane)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return round(box["x"] + u * box["width"]), round(box["y"] + v * box["height"])


def shares(page, x, y):
    """Where a point of the page lies on the canvas."""
    box = page.locator("canvas.rx-scan").first.bounding_box()
    return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]


def drag(page, start, *ways, button="left"):
    page.mouse.move(*at(page, *start))
    page.mouse.down(button=button)
    for way in ways:
        page.mouse.move(*at(page, *way), steps=4)
    page.mouse.up(button=button)


def double_click(page, u, v, wait_ms):
    """As a hand does it, with some time between."""
    page.mouse.click(*at(page, u, v))
    page.wait_for_timeout(wait_ms)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    settled(page)


def settled(page):
    """A double click's time, and Python's answer."""
    page.wait_for_timeout(900)


def zoom_of(page):
    return float(page.locator("canvas.rx-scan").first.get_attribute("data-zoom"))


def wheel(page, u, v, delta, key="Control"):
    """Turn the wheel with a key held; how much larger it makes, and where it was."""
    place = at(page, u, v)
    page.mouse.move(*place)
    page.keyboard.down(key)
    page.mouse.wheel(0, delta)
    page.keyboard.up(key)
    page.wait_for_timeout(300)
    return np.exp(-0.002 * delta), shares(page, *place)


def grey_of(scan, size, window=1, level=0.5, box=None):
    """(H, W) grey levels of a part of the film at `size`: columns, rows."""
    stored = Image.fromarray(np.round(scan.pixels.clip(0, 1) * 255).astype(np.uint8))
    seen = stored.resize(size, Image.Resampling.BILINEAR, box=box)
    return 255 * ((np.asarray(seen) / 255 - level) / window + 0.5).clip(0, 1)


def apart(got, want):
    """Mean difference in grey levels, without the rim where letters and ruler stand."""
    assert got.shape[:2] == want.shape[:2]
    differ = np.abs(got - (want if want.ndim == got.ndim else want[..., None]))
    return differ[45:-45, 45:-45].mean()


def values_of(model, scan, **how):
    return rw.attend.attention_map(model, scan, **how).values


def mapped(scan, values, low, high, size, threshold=0):
    """The film under the map's colours, by the formula that the README gives."""
    grey = grey_of(scan, size)[..., None]
    map_ = Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)
    level = ((np.asarray(map_) - low) / (high - low)).clip(0, 1)
    share = np.where(level < threshold, 0, 0.75 * level**0.7)[..., None]
    lut = rw.show.mix.LUT.astype(float)
    return grey * (1 - share) + lut[np.round(255 * level).astype(int)] * share


def size_of(page):
    H, W = shot(page).shape[:2]
    return W, H


# faults


def test_a_double_click_fits_and_resets_and_asks_for_no_patch(page):
    wheel(page, 0.3, 0.3, -400)
    drag(page, (0.5, 0.5), (0.2, 0.4))
    assert zoom_of(page) > 1.5
    double_click(page, 0.4, 0.4, 120)
    assert zoom_of(page) == 1
    assert page.get_by_role("slider", name="Window").input_value() == "1"
    assert page.evaluate("window.labels") == []


def test_a_slow_double_click_takes_its_first_half_back(page):
    double_click(page, 0.4, 0.4, 320)  # the patch has been asked for meanwhile
    assert page.locator(".rx-label").inner_text() == RELEVANCE


def test_a_right_click_is_the_browsers(page):
    page.evaluate("""() => {
        window.menus = [];
        addEventListener("contextmenu", e => window.menus.push(e.defaultPrevented));
    }""")
    page.mouse.click(*at(page, 0.4, 0.4), button="right")
    page.keyboard.press("Escape")
    settled(page)
    assert page.evaluate("window.menus") in ([False], [])  # JupyterLab may keep it
    assert page.evaluate("window.labels") == []
    page.mouse.click(*at(page, 0.4, 0.4))  # while a left click does ask
    until(page, "attention of patch (3, 3)")


@pytest.mark.parametrize("how", ["pointercancel", "outside", "lost"])
def test_a_drag_ends_wherever_it_is_let_go(alone, how):
    window = alone.get_by_role("slider", name="Window")
    alone.mouse.move(*at(alone, 0.5, 0.5))
    alone.mouse.down()
    alone.mouse.move(*at(alone, 0.3, 0.5), steps=3)
    if how == "outside":
        alone.mouse.move(2, 2, steps=3)
        alone.mouse.up()
    else:
        event = {"pointercancel": "pointercancel", "lost": "lostpointercapture"}[how]
        alone.evaluate(
            """name => document.querySelector("canvas.rx-scan").dispatchEvent(
                new PointerEvent(name, {pointerId: 1, bubbles: true}))""",
            event,
        )
    before = window.input_value()
    assert float(before) < 1
    alone.mouse.move(*at(alone, 0.6, 0.6), steps=3)
    alone.mouse.move(*at(alone, 0.7, 0.5), steps=3)
    assert window.input_value() == before
    alone.mouse.up()


# the film


def test_presets_and_invert_are_what_numpy_computes(alone, films):
    alone.locator("canvas.rx-scan").focus()
    for key, (window, level) in {
        "2": (0.6, 0.35),
        "4": (0.4, 0.8),
        "1": (1, 0.5),
    }.items():
        alone.keyboard.press(key)
        want = grey_of(films[0], size_of(alone), window, level)
        assert apart(shot(alone), want) < 1
    alone.keyboard.press("i")
    got = shot(alone)
    assert apart(got, 255 - want) < 1
    assert apart(got, want) > 20
    name = alone.get_by_role("button", name="Invert")
    assert name.get_attribute("aria-pressed") == "true"


def test_the_wheel_with_a_key_zooms_to_the_pointer_at_full_resolution(big, films):
    zoom, point = wheel(big, 0.7, 0.3, -693)  # four times as large
    assert zoom_of(big) == pytest.approx(4, abs=0.01)
    big.wait_for_timeout(600)  # the film comes as it is
    # the point under the pointer stays: its share of the film is that of the canvas
    left, top = (share - share / zoom for share in point)
    right, bottom = left + 1 / zoom, top + 1 / zoom
    box = (left * 2500, top * 3000, right * 2500, bottom * 3000)
    want = grey_of(films[1], size_of(big), box=box)
    assert apart(shot(big), want) < 1
    shrunk = Image.fromarray(films[1].pixels).resize((533, 640), Image.BILINEAR)
    blurred = rw.data.Scan(np.asarray(shrunk))
    share = np.array([533 / 2500, 640 / 3000] * 2)
    assert apart(shot(big), grey_of(blurred, size_of(big), box=box * share)) > 3


def test_the_plain_wheel_is_the_pages(alone):
    alone.mouse.move(*at(alone, 0.5, 0.5))
    alone.mouse.wheel(0, -300)
    alone.wait_for_timeout(300)
    assert zoom_of(alone) == 1
    wheel(alone, 0.5, 0.5, -300, key="Alt")
    assert zoom_of(alone) > 1.5


def test_pixels_are_squares_from_4_px_on(alone, films):
    for _ in range(7):
        alone.get_by_role("button", name="Larger").click()
    zoom = 1.25**7
    assert 480 * zoom / 400 > 4
    got = shot(alone)[..., 0]
    half = 0.5 / zoom
    at = 400 * (0.5 - half + (np.arange(480) + 0.5) / 480 * 2 * half)
    rows = np.floor(at).astype(int)
    want = np.round(films[0].pixels[np.ix_(rows, rows)] * 255)
    assert np.abs(got - want)[45:-45, 45:-45].max() <= 1


def test_the_film_is_moved_by_the_middle_button_and_by_the_tool(alone, films):
    wheel(alone, 0.5, 0.5, -347)
    zoom = zoom_of(alone)
    drag(alone, (0.5, 0.5), (0.7, 0.6), button="middle")
    alone.locator("canvas.rx-scan").focus()
    alone.keyboard.press("z")
    drag(alone, (0.5, 0.5), (0.4, 0.5))
    x, y = 0.5 - 0.1 / zoom, 0.5 - 0.1 / zoom
    half = 0.5 / zoom
    box = [400 * share for share in (x - half, y - half, x + half, y + half)]
    assert apart(shot(alone), grey_of(films[0], size_of(alone), box=box)) < 1.5
    slider = alone.get_by_role("slider", name="Window")
    assert slider.input_value() == "1"  # a drag that moves sets no window
    alone.keyboard.press("0")
    assert zoom_of(alone) == 1


def test_the_ruler_is_as_long_as_it_says(alone, films):
    """400 px of 0.9 mm on 480 px of canvas: 50 mm are 66.7 px, with an edge."""

    def bar(box=None):
        film = grey_of(films[0], size_of(alone), box=box)
        there = np.abs(shot(alone)[..., 0] - film)[480 - 10, 300:] > 30
        return np.ptp(np.flatnonzero(there))

    assert bar() == pytest.approx(50 / (400 * 0.9 / 480) + 1.5, abs=3)
    zoom, (u, v) = wheel(alone, 0.5, 0.5, -347)  # twice as large: of 20 mm
    left, top = 400 * (u - u / zoom), 400 * (v - v / zoom)
    box = (left, top, left + 400 / zoom, top + 400 / zoom)
    assert bar(box) == pytest.approx(20 * zoom / 0.75 + 1.5, abs=3)


def test_a_line_is_measured_in_mm_or_in_px_where_none_are_known(alone):
    reading = alone.locator(".rx-reading")
    alone.locator("canvas.rx-scan").focus()
    alone.keyboard.press("m")
    drag(alone, (0.2, 0.25), (0.5, 0.65))
    assert "line 180.0 mm" in reading.inner_text()  # 3 4 5: 108 and 144 mm
    settled(alone)
    assert alone.locator(".rx-label").inner_text() == RELEVANCE
    before = shot(alone)
    alone.keyboard.press("Escape")
    assert "line" not in reading.inner_text()
    line = np.abs(before - shot(alone)).max(-1) > 40
    rows, cols = np.nonzero(line[: int(0.6 * 480)])
    assert np.abs((rows / 480 - 0.25) * 3 - (cols / 480 - 0.2) * 4).max() < 0.2
    for case in (1, 2):
        alone.keyboard.press("ArrowRight")
        alone.locator(f".rx-scan[data-case='{case}']").wait_for()
    drag(alone, (0.2, 0.5), (0.7, 0.5))
    assert "line 150 px" in reading.inner_text()  # half of 300 columns


def test_the_values_under_the_pointer(page, films, model):
    values = values_of(model, films[0], target=ASKED)
    place = at(page, 0.61, 0.33)
    page.mouse.move(*place)
    words = page.locator(".rx-reading").inner_text()
    col, row = (int(400 * share) for share in shares(page, *place))
    assert f"row {row}, column {col}" in words
    grey = float(words.split("grey ")[1].split()[0])
    assert grey == pytest.approx(films[0].pixels[row, col], abs=0.011)
    shown = float(words.split("map ")[1])
    assert shown == pytest.approx(values[row, col], rel=0.06)
    page.mouse.move(2, 2)
    assert page.locator(".rx-reading").inner_text() == ""


# the map


def test_space_and_swipe_show_the_film_under_the_map(page, films, model):
    values = values_of(model, films[0], target=ASKED)
    size = size_of(page)
    with_map = mapped(films[0], values, values.min(), values.max(), size)
    without = np.repeat(grey_of(films[0], size)[..., None], 3, -1)
    assert apart(shot(page), with_map) < 1.5
    assert apart(with_map, without) > 4
    page.locator("canvas.rx-scan").focus()
    page.keyboard.down(" ")
    assert apart(shot(page), without) < 1
    page.keyboard.up(" ")
    assert apart(shot(page), with_map) < 1.5
    page.keyboard.press("w")
    drag(page, (0.5, 0.5), (0.75, 0.5))
    want = with_map.copy()
    want[:, 360:] = without[:, 360:]
    assert apart(shot(page), want) < 2
    press(page, "Swipe")
    assert apart(shot(page), with_map) < 1.5


def test_blinking_goes_to_and_fro_and_ends(page, films):
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("b")
    seen = [shot(page)]
    start = time.monotonic()
    while time.monotonic() < start + 3:
        page.wait_for_timeout(50)
        seen.append(shot(page))
    steps = [np.abs(a - b).mean() > 1 for a, b in pairwise(seen)]
    assert 3 <= sum(steps) <= 7  # twice a second: never a flicker
    page.keyboard.press("b")
    still = shot(page)
    page.wait_for_timeout(1200)
    assert np.array_equal(still, shot(page))


def test_two_panes_are_swiped_at_one_window(page, films):
    press(page, "Compare")
    page.get_by_label("Method").nth(1).select_option("gradcam")
    until(page, "gradcam", pane=1)
    settled(page)
    one, two = shot(page), shot(page, 1)
    assert apart(one, two) > 2
    press(page, "Swipe")
    both = shot(page)
    assert apart(both[:, :190], one[:, :190]) < 0.1
    assert apart(both[:, 210:], two[:, 210:]) < 0.1


def test_below_the_threshold_the_film_is_clear(page, films, model):
    values = values_of(model, films[0], target=ASKED)
    page.get_by_role("slider", name="Clear below").fill("0.4")
    low, high = values.min(), values.max()
    want = mapped(films[0], values, low, high, size_of(page), threshold=0.4)
    assert apart(shot(page), want) < 1.5
    assert apart(shot(page), mapped(films[0], values, low, high, size_of(page))) > 2


def test_contours_lie_where_the_map_has_its_percentiles(page, films, model):
    size = size_of(page)
    values = values_of(model, films[0], target=ASKED)
    press(page, "Contours")
    got = shot(page)
    plain = np.repeat(grey_of(films[0], size)[..., None], 3, -1)
    line = np.ptp(got, -1) > 60  # coloured
    line[:45] = line[-45:] = False
    map_ = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    levels = np.quantile(values, [0.5, 0.75, 0.9, 0.95])
    slope = np.hypot(*np.gradient(map_)).clip(1e-30)
    away = np.abs(map_[..., None] - levels).min(-1) / slope  # in px
    assert line.sum() > 1000
    assert np.quantile(away[line], 0.95) < 2.5
    inner = np.s_[60:-60, 60:-60]  # without letters and ruler
    assert line[inner][away[inner] < 0.3].mean() > 0.9
    assert np.abs(got - plain)[inner][away[inner] > 8].max() < 2  # else the film


def test_the_scale_can_be_the_same_for_all_films(page, films, model):
    page.locator("canvas.rx-scan").focus()
    ends = page.locator(".rx-values span").all_inner_texts()
    press(page, "Same scale")
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator(".rx-scan[data-case='2']").wait_for()
    first = values_of(model, films[0], target=ASKED)
    values = values_of(model, films[2], target=ASKED)
    assert page.locator(".rx-values span").all_inner_texts() == ends
    size = size_of(page)
    want = mapped(films[2], values, first.min(), first.max(), size)
    assert apart(shot(page), want) < 1.5
    own = mapped(films[2], values, values.min(), values.max(), size)
    press(page, "Same scale")
    assert apart(shot(page), own) < 1.5
    assert apart(own, want) > 1.5


# patches


def seen_by(model, scan):
    """(64, 64) last layer's mean attention from patch to patch."""
    seen = rw.attend.capture(model, model.preprocess(scan))["attention"]
    return seen[-1, 0].mean(0)[-64:, -64:].numpy()


def spread(model, scan, row):
    return rw.data.to_scan(row.reshape(8, 8), scan.shape, fit=model.fit)


def test_a_box_asks_from_and_to_its_patches(page, films, model):
    attention = seen_by(model, films[0])
    page.keyboard.down("Shift")
    drag(page, (1.1 / 8, 2.2 / 8), (3.9 / 8, 3.9 / 8))
    page.keyboard.up("Shift")
    until(page, "attention of 6 patches")
    region = [8 * r + c for r in (2, 3) for c in (1, 2, 3)]
    inner = np.zeros((480, 480), bool)
    inner[4 * 60 + 8 : -45, 45:-45] = True  # below the frame of the region
    for label, row in {
        "attention of 6": attention[region].mean(0),
        "attention to 6": attention[:, region].mean(1),
    }.items():
        until(page, label)
        values = spread(model, films[0], row)
        want = mapped(films[0], values, values.min(), values.max(), size_of(page))
        assert np.abs(shot(page) - want)[inner].mean() < 1.5
        page.locator("canvas.rx-scan").focus()
        page.keyboard.press("t")
    frame = shot(page)[2 * 60, 60 + 8 : 4 * 60 - 8]
    assert (frame > 240).all()  # one frame around all


def test_a_lasso_and_keys_choose_patches(page):
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("l")
    eighths = [(1, 1), (4.6, 1.1), (1.1, 4.6)]  # a triangle: 3 + 2 + 1 patches
    drag(page, *[(u / 8, v / 8) for u, v in [*eighths, (1, 1.05)]])
    until(page, "attention of 6 patches")
    page.locator("canvas.rx-scan").focus()
    page.keyboard.press("Escape")
    until(page, RELEVANCE)
    page.keyboard.press("Shift+ArrowDown")
    until(page, "attention of patch (4, 4)")
    page.keyboard.press("Alt+Shift+ArrowRight")
    until(page, "attention of 2 patches")
    page.keyboard.press("Alt+Shift+ArrowUp")
    until(page, "attention of 4 patches")


def test_hovering_shows_the_patch_under_the_pointer_and_goes_back(page):
    press(page, "Hover")
    page.evaluate("window.labels = []")
    for n in range(60):
        page.mouse.move(*at(page, 0.1 + 0.8 * n / 59, 5.5 / 8))
    until(page, "attention of patch (5, 7)")
    asked = page.evaluate("window.labels")
    assert len(asked) <= 16  # a patch at most once, not once a move
    page.mouse.move(2, 2)
    until(page, RELEVANCE)


def test_a_patch_is_linked_between_panes(page):
    press(page, "Compare")
    page.locator(".rx-scan").nth(1).wait_for()
    settled(page)
    page.mouse.click(*at(page, 2.5 / 8, 3.5 / 8))
    until(page, "attention of patch (3, 2)")
    assert page.locator(".rx-label").nth(1).inner_text() == RELEVANCE
    press(page, "Link")
    page.mouse.click(*at(page, 5.5 / 8, 6.5 / 8, pane=1))
    for pane in (0, 1):
        until(page, "attention of patch (6, 5)", pane=pane)


# tools, sizes, the saved figure


def test_all_tools_are_reached_by_keyboard_and_named(page):
    stops = page.locator(".rx-tools").locator("button, select")
    assert stops.count() >= 16
    assert page.locator(".rx-tools [tabindex='0']").count() == 1
    page.locator(".rx-tools [tabindex='0']").focus()
    seen = []
    for _ in range(stops.count()):
        seen.append(page.evaluate("document.activeElement.ariaLabel"))
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == stops.count()
    page.get_by_text("film 1 of 3").wait_for()  # the arrows stepped no film
    titles = stops.evaluate_all("all => all.map(b => b.title)")
    assert all("(" in title for title in titles if title)


def test_the_saved_figure_wraps_its_words_and_shows_the_zoom(page, tmp_path):
    words = "a rather long phrase " * 12 + "W" * 40
    wheel(page, 0.5, 0.5, -347)
    at_canvas = shot(page)
    page.get_by_label("Phrase").fill(words.strip()[:290])
    page.keyboard.press("Enter")
    until(page, "a rather long phrase")
    settled(page)
    at_canvas = shot(page)
    with page.expect_download() as download:
        press(page, "Save PNG")
    download.value.save_as(tmp_path / "figure.png")
    figure = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"), float)
    assert figure.shape[1] == 480 + 24  # words don't widen it
    tops = [
        top
        for top in range(30, 300)
        if np.abs(figure[top : top + 480 : 60, 12:492] - at_canvas[::60]).mean() < 1
    ]
    assert len(tops) == 1
    above = (figure[: tops[0] - 2, 12:492] < 128).any((1, 2))
    starts = np.flatnonzero(np.diff(above.astype(int)) == 1)
    assert len(starts) >= 4  # lines of a title that were one, squashed
    assert not (figure[: tops[0], 494:] < 128).any()


@pytest.mark.parametrize(("wide", "ratio"), [(900, 1), (1280, 1.5), (1600, 2)])
def test_the_film_fits_its_cell_and_is_sharp(lab, wide, ratio, page):
    screen = page.context.new_cdp_session(page)
    screen.send(
        "Emulation.setDeviceMetricsOverride",
        dict(width=wide, height=1000, deviceScaleFactor=ratio, mobile=False),
    )
    try:
        page.wait_for_timeout(500)
        for part in (".rx", ".rx-tools", "canvas.rx-scan"):
            outside = page.locator(part).evaluate(
                "e => { const cell = e.closest('.jp-OutputArea-output') ||"
                " e.closest('.jp-OutputArea');"
                " return e.getBoundingClientRect().right"
                " - cell.getBoundingClientRect().right; }"
            )
            assert outside <= 1, part
        width, css = page.locator("canvas.rx-scan").evaluate(
            "c => [c.width, c.getBoundingClientRect().width]"
        )
        assert width == pytest.approx(css * ratio, abs=1)
    finally:
        screen.send("Emulation.clearDeviceMetricsOverride")
