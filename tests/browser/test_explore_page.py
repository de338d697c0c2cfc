"""What the explorer draws of planted states, on a page without a kernel."""

import copy

import numpy as np
import pytest
from explorer_page import draw, state_of
from tables import effusion_table

import radwb as rw

pytestmark = pytest.mark.browser
LAYERS = HEADS = 12
GRID = 14
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def of_a_film():
    model = rw.models.load("radwb-tiny")
    widget = rw.show.explore(model, effusion_table(), finding="Pleural Effusion")
    yield state_of(widget)
    widget.close()


@pytest.fixture
def state(of_a_film):
    return copy.deepcopy(of_a_film)


@pytest.fixture
def vit(state):
    """As of a ViT-B/16, with planted heads."""
    rng = np.random.default_rng(0)
    shape = (LAYERS, HEADS + 1)
    state["views"][0] |= {
        "tokens": [GRID, GRID],
        "layers": LAYERS,
        "heads": HEADS,
        "thumbs": rng.integers(0, 256, (*shape, GRID, GRID), dtype=np.uint8),
        "highest": rng.random(shape, dtype=np.float32),
        "measures": {"entropy": rng.random(shape).tolist()},
    }
    return state


def many(state, n):
    film = {"name": "", "values": {"label": 1, "score": 0.5, "site": "A"}}
    state["films"] = [film | {"name": f"film-{case}"} for case in range(n)]
    state["order"] = list(range(n))
    return state


def two_panes(state):
    state["panes"] = state["panes"] * 2
    state["views"] = state["views"] * 2
    return state


@pytest.mark.parametrize("panes", [1, 2])
@pytest.mark.parametrize("wide", [470, 600, 848, 1200])
def test_144_heads_fit_their_cell(page, vit, wide, panes):
    page.set_viewport_size({"width": wide, "height": 1000})
    draw(page, two_panes(vit) if panes == 2 else vit)
    box = page.locator(".rx").bounding_box()
    right = box["x"] + box["width"]
    heads = page.locator(".rx-heads button")
    assert heads.count() == panes * LAYERS * (HEADS + 1)
    places = heads.evaluate_all("all => all.map(one => one.getBoundingClientRect())")
    assert max(place["right"] for place in places) < right
    assert min(place["width"] for place in places) >= 14
    assert page.evaluate("document.documentElement.scrollWidth") <= wide


def test_heads_are_sorted_by_a_measure(page, vit):
    vit["look"]["measure"] = "entropy"
    draw(page, vit)
    names = page.locator(".rx-heads button").evaluate_all(
        "all => all.map(one => one.ariaLabel)"
    )
    values = np.array(vit["views"][0]["measures"]["entropy"])[:, 1:]
    falling = np.argsort(-values, axis=None)
    pairs = [divmod(int(place), HEADS) for place in falling]
    assert names == [f"layer {layer}, head {head}" for layer, head in pairs]
    page.get_by_label("Order").select_option("")
    assert page.locator(".rx-heads button").count() == LAYERS * (HEADS + 1)


def test_heads_on_a_common_scale_keep_their_proportion(page, vit):
    draw(page, vit)
    page.get_by_role("button", name="Common scale").click()
    view = vit["views"][0]
    share = view["highest"] / view["highest"].max()
    want = np.round(view["thumbs"][3, 5] * share[3, 5]).astype(int)
    colours = np.frombuffer(vit["about"]["mix"]["colours"], np.uint8).reshape(-1, 3)
    got = page.get_by_role("button", name="layer 3, head 4", exact=True).evaluate(
        """one => {
            const pen = one.firstChild.getContext("2d");
            return [...pen.getImageData(0, 0, 14, 14).data];
        }"""
    )
    got = np.array(got).reshape(GRID, GRID, 4)[..., :3]
    assert np.array_equal(got, colours[want])
    assert not np.array_equal(got, colours[view["thumbs"][3, 5]])


def test_the_layers_run_as_a_film(page, vit):
    draw(page, vit)
    page.evaluate("""() => {
        window.layers = [];
        model.on("change:panes", () => {
            const choice = model.get("panes")[0];
            window.layers.push(choice.layer);
            const view = {...model.get("views")[0], choice};
            setTimeout(() => model.set("views", [view]), 50);
        });
    }""")
    page.get_by_role("button", name="Layers").click()
    page.wait_for_function("window.layers.length === 12")
    page.wait_for_selector(".rx-headtools [aria-pressed=false]:has-text('Layers')")
    assert page.evaluate("window.layers") == list(range(LAYERS))


def test_600_films_are_asked_for_as_they_come_into_sight(page, state):
    draw(page, many(state, 600))
    asked = "model.sent.flatMap(message => message.thumbs || [])"
    page.wait_for_function(f"{asked}.length > 0")
    page.wait_for_timeout(500)
    first = page.evaluate(asked)
    assert first == list(range(len(first)))
    assert len(first) < 25
    assert page.locator(".rx-item").count() < 25
    page.locator(".rx-strip").evaluate("one => (one.scrollLeft = 300 * 84)")
    page.wait_for_function(f"{asked}.includes(305)")
    later = page.evaluate(asked)
    assert len(later) == len(set(later)) < 50
    page.locator(".rx-item[aria-posinset='306']").click()
    assert page.evaluate("model.get('case')") == 305


def test_each_model_offers_what_it_can_be_asked(page, state):
    about = state["about"]
    about["models"] = ["text", "tower"]
    offers = {"targets": ["neuron 5", "neuron 7"], "methods": ["gradcam"]}
    about["kinds"] = {"text": about["kinds"].popitem()[1], "tower": offers}
    two_panes(state)
    state["panes"] = [state["panes"][0] | {"model": name} for name in about["models"]]
    draw(page, state)

    def offered(name, pane):
        options = page.get_by_label(name).nth(pane).locator("option")
        return options.all_inner_texts()

    assert offered("Method", 1) == ["gradcam"]
    assert offered("Target", 1) == ["typed →", "neuron 5", "neuron 7"]
    assert "relevance" in offered("Method", 0)
    page.get_by_label("Model").nth(0).select_option("tower")
    assert offered("Method", 0) == ["gradcam"]


def test_an_unreadable_film_shows_no_former_heads_and_numbers(page, state):
    draw(page, state)
    assert page.locator(".rx-heads").is_visible()
    page.evaluate("""() => {
        const scan = {case: 1, name: "b", error: "expected a film, got a letter"};
        model.set("case", 1);
        model.set("scan", scan);
    }""")
    assert (
        page.locator(".rx-error").first.inner_text() == "expected a film, got a letter"
    )
    assert not page.locator(".rx-heads").is_visible()
    assert not page.locator(".rx-under").is_visible()  # the values of the colours
    side = page.locator(".rx-side").inner_text()
    assert [letter for letter in side if letter.isdigit()] == []


def test_text_of_films_stays_text(page, state):
    alerts = []
    page.on("dialog", lambda dialog: (alerts.append(1), dialog.dismiss()))
    state["scan"] |= {"name": HOSTILE, "facts": [["Report", HOSTILE]]}
    state["films"] = [
        {"name": HOSTILE, "values": {"label": HOSTILE, "site": f"{n}{HOSTILE}"}}
        for n in range(6)
    ]
    state["about"]["columns"] = ["label", "site"]
    state["arranged"]["keep"] = {HOSTILE: HOSTILE}
    state["notes"] = {"0": {"verdict": "agree", "note": HOSTILE}}
    words = {"unknown": [HOSTILE], "never": [], "nonsense": 0.5, "text": HOSTILE}
    state["views"][0] |= {"label": HOSTILE, "words": words, "badge": HOSTILE}
    draw(page, state)
    page.evaluate("text => model.tell('msg:custom', {code: text}, [])", HOSTILE)
    page.wait_for_timeout(500)
    assert page.locator(".rx img").count() == 0
    assert alerts == []
    assert page.locator(".rx-position").inner_text() == f"film 1 of 6: {HOSTILE}"


def test_the_facts_of_a_film_stand_once_and_the_report_is_folded(page, state):
    report = "No effusion. " * 9
    facts = [["Sex", "F"], ["Absent", "Edema, Nodule"], ["Report", report]]
    state["scan"] |= {"facts": facts, "absent": ["Edema", "Nodule"]}
    draw(page, state)
    about = page.get_by_label("About this film")
    assert about.text_content().count("Edema") == 1
    assert "Sex" in about.inner_text()
    assert not about.get_by_text("No effusion").is_visible()
    about.get_by_text("Report").click()
    assert about.get_by_text("No effusion").is_visible()
    page.evaluate("model.set('scan', {...model.get('scan')})")
    assert about.get_by_text("No effusion").is_visible()  # for the next film, too


def test_words_that_the_model_cannot_know_are_said(page, state):
    words = {"unknown": ["bicycle"], "text": "The model doesn't know: bicycle."}
    state["views"][0]["words"] = words | {"nonsense": 0.9731}
    draw(page, state)
    assert page.locator(".rx-doubt").inner_text() == (
        "The model doesn't know: bicycle. Likeness to the map of nonsense words: 0.97."
    )


LIVE = """
    window.live = {comm_live: true};
    model.widget_manager = {has_model: () => true, get_model: async () => live};
"""


def test_a_kernel_that_does_not_answer_is_said_to_be_busy(page, state):
    page.clock.install()
    draw(page, state, LIVE)
    page.wait_for_timeout(100)
    page.get_by_role("button", name="Next film").click()
    assert not page.locator(".rx-sleep").is_visible()
    page.clock.fast_forward(9000)
    assert "busy" in page.locator(".rx-sleep").inner_text()
    assert page.get_by_role("button", name="Next film").is_enabled()
    ping = page.evaluate("model.sent.find(message => message.ping).ping")
    page.evaluate("n => model.tell('msg:custom', {pong: n}, [])", ping)
    assert not page.locator(".rx-sleep").is_visible()


def test_a_dead_comm_is_asleep_and_a_new_one_awake(page, state):
    draw(page, state, LIVE)
    told = "() => model.tell('comm_live_update')"
    page.evaluate("live.comm_live = false")
    page.evaluate(told)
    page.locator(".rx-sleep").filter(has_text="Asleep").wait_for()
    controls = page.locator(".rx button, .rx select, .rx input")
    assert controls.evaluate_all("all => all.every(one => one.matches(':disabled'))")
    page.locator(".rx-item").nth(2).dispatch_event("click")
    assert page.evaluate("model.get('case')") == 0
    page.evaluate("live.comm_live = true")
    page.evaluate(told)
    page.locator(".rx-sleep").wait_for(state="hidden")
    assert page.get_by_role("button", name="Next film").is_enabled()
