"""The attention widget's state.

Its maps are attention_map's, kept, stopped and sorted; errors are sentences.
"""

import base64
import dataclasses
import io
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import radwb as rw
from radwb.explore import computed as state
from radwb.explore import widget as widget_module
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.words import finding_named
from radwb.show import mix

MODEL = "radwb-tiny"
ASKED = "pleural effusion vs no pleural effusion"
PAIR = ("pleural effusion", "no pleural effusion")


def test_the_browser_gets_the_constants_of_pythons_mixture(widget):
    shared = widget.about["mix"]
    assert bytes(shared["colours"]) == mix.LUT.tobytes()
    level = np.linspace(0, 1, 5)
    assert np.allclose(level ** shared["gamma"] * 0.5, mix.opacity(level, 0.5))
    assert widget.look == widget.about["look"]
    assert set(widget.about["sliders"]) < set(widget.look)
    code = Path(widget_module.__file__).with_name("js").joinpath("film.js").read_text()
    assert not re.search(r"\b0\.7\b|0\.75|1e-3", code)  # none is written again


def arrived(view):
    """The map as the browser has it: bytes and where they lie."""
    return np.frombuffer(view["grid"], np.float32).reshape(view["rows"], view["cols"])


CHOICES = [
    Choice(MODEL, "attention", ASKED),
    Choice(MODEL, "attention", ASKED, layer=1, head=2),
    Choice(MODEL, "value_norm", ASKED, layer=2, head=0),
    Choice(MODEL, "rollout", ASKED, layer=1),
    Choice(MODEL, "relevance", ASKED),
    Choice(MODEL, "relevance", ASKED, layer=2),
    Choice(MODEL, "gradcam", ASKED, layer=1),
    Choice(MODEL, "occlusion", ASKED),
    Choice(MODEL, "integrated_gradients", "left pleural effusion"),
]


@pytest.mark.parametrize(
    "choice", CHOICES, ids=lambda c: f"{c.method}-{c.layer}-{c.head}"
)
def test_the_widget_draws_the_map_of_attention_map(cases, model, choice):
    view, scan = cases.view(5, choice), cases.scan(5)
    target = PAIR if choice.target == ASKED else choice.target
    how = dict(
        method=choice.method, target=target, layer=choice.layer, head=choice.head
    )
    want = rw.attend.attention_map(model, scan, **how)
    assert view["error"] == ""
    assert np.allclose(
        rw.data.to_scan(arrived(view), scan.shape, fit=model.fit),
        want.values,
        rtol=1e-5,
        atol=1e-8,
    )
    assert view["score"] == rw.attend.score_map(
        cases.values(5, choice), scan.truth["Pleural Effusion"]
    )
    film = rw.attend.score_map(scan.pixels, scan.truth["Pleural Effusion"])
    assert view["bright"] == pytest.approx(film["energy"], rel=1e-5)
    assert ("which it does not beat" in view["verdict"]) == (
        view["score"]["energy"] <= view["bright"]
    )
    assert view["score"] == pytest.approx(
        rw.attend.score_map(want, scan.truth["Pleural Effusion"]), rel=1e-3
    )


def test_a_patch_shows_its_row_of_the_attention(cases, model):
    seen = rw.attend.capture(model, model.preprocess(cases.scan(1)))[
        "attention"
    ]  # (L, 1, heads, T, T)
    skipped = seen.shape[-1] - 64
    for patch in (0, 37, 63):
        view = cases.view(
            1, Choice(MODEL, "attention", ASKED, layer=2, head=1, patch=patch)
        )
        assert np.allclose(
            arrived(view).ravel(), seen[2, 0, 1, skipped + patch, skipped:], atol=1e-7
        )
        mean = cases.view(1, Choice(MODEL, "attention", ASKED, layer=2, patch=patch))
        assert np.allclose(
            arrived(mean).ravel(),
            seen[2, 0, :, skipped + patch, skipped:].mean(0),
            atol=1e-7,
        )


def test_thumbnails_are_each_head_and_their_mean_in_its_own_range(cases):
    view = cases.view(0, Choice(MODEL, "rollout"))
    thumbs = np.frombuffer(view["thumbs"], np.uint8).reshape(
        view["layers"], 1 + view["heads"], *view["tokens"]
    )
    assert thumbs.shape == (4, 4, 8, 8)
    for layer, head in ((0, None), (3, 2)):
        grid = cases.grid(0, Choice(MODEL, "attention", layer=layer, head=head))
        assert (
            np.abs(
                thumbs[layer, 0 if head is None else head + 1] - 255 * grid / grid.max()
            ).max()
            <= 0.5
        )


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_maps_of_oblong_films_lie_where_attention_map_lays_them(model, fit):
    film = rw.data.Scan(np.random.default_rng(0).random((100, 230)).astype(np.float32))
    fitted = dataclasses.replace(model, fit=fit)
    view = Cases({MODEL: fitted}, [film]).view(0, Choice(MODEL, "rollout"))
    want = rw.attend.attention_map(fitted, film, method="rollout").values
    assert np.allclose(
        browsers_map(view, film.shape), want, atol=1e-6 + 1e-3 * want.max()
    )


def browsers_map(view, shape):
    """What `levels` in js/film.js does with the bytes, written again.

    Linear between the tokens' centres.
    """
    grid, sides = arrived(view), []
    for n, cells, axis in zip(shape, (view["rows"], view["cols"]), (0, 1), strict=True):
        (start, end), (a, b) = (view["source"][axis::2], view["square"][axis::2])
        along = ((np.arange(n) + 0.5) / n - start) / (end - start)
        at = ((a + along * (b - a)) * cells - 0.5).clip(0, cells - 1)
        weights = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0)
        weights[(along < 0) | (along > 1)] = 0
        sides.append(weights)
    return sides[0] @ grid @ sides[1].T


def counted(name, calls):
    """A function of the module that notes its calls."""
    whole = getattr(state, name)

    def noted(*arguments, **more):
        calls.append(name)
        return whole(*arguments, **more)

    return noted


def test_nothing_is_computed_twice(table, monkeypatch):
    cases = Cases({MODEL: rw.models.load(MODEL)}, table)  # of which nothing is kept yet
    calls = []
    for name in ("captured", "grids", "score_map"):
        monkeypatch.setattr(state, name, counted(name, calls))
    for layer in (0, 1, 0):
        for head in (None, 2):
            cases.view(0, Choice(MODEL, "attention", ASKED, layer=layer, head=head))
    assert calls.count("captured") == 1
    cases.view(0, Choice(MODEL, "attention", ASKED, patch=9))
    assert calls.count("captured") == 1
    for _ in range(3):
        cases.view(0, Choice(MODEL, "gradcam", ASKED))
    assert calls.count("grids") == 1
    assert (
        calls.count("score_map") == 6
    )  # 4 heads, 1 patch, 1 Grad-CAM; films without truth cost none


def test_worst_first_sorts_by_energy_and_keeps_films_without_truth_for_the_end(
    widget, model, table
):
    widget.choose(method="gradcam", target=ASKED)
    widget.worst_first()
    assert widget.wait(30)
    energies = []
    for case in widget.order:
        scan = rw.data.scan_of(table.iloc[case])
        m = rw.attend.attention_map(model, scan, method="gradcam", target=PAIR)
        mask = scan.truth.get("Pleural Effusion")
        if mask is not None:
            energies.append(rw.attend.score_map(m, mask)["energy"])
        else:
            energies.append(np.inf)
    known = np.isfinite(energies).sum()
    assert sorted(widget.order) == list(range(len(table)))
    assert 1 < known < len(table)
    assert energies == sorted(energies)
    assert widget.case == widget.order[0] == widget.views[0]["case"]
    assert widget.arranged["label"] == f"gradcam: {ASKED}"
    widget.worst_first(False)
    assert widget.order == list(range(6))
    assert widget.arranged["label"] == ""


@pytest.mark.parametrize(
    "change", [{"target": "cardiomegaly"}, {"method": "rollout"}, {"layer": 1}]
)
def test_the_order_of_another_map_is_given_up(widget, change):
    widget.worst_first()
    assert widget.wait(30)
    widget.case = 4
    widget.choose(**change)
    assert widget.order == list(range(6))  # at once
    assert (widget.arranged["by"], widget.arranged["label"]) == ("", "")
    assert widget.wait(30)
    assert widget.order == list(range(6))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(MODEL, "relevance", ""), ""),
        (Choice(MODEL, "magic", ASKED), "expected a method of"),
        (Choice(MODEL, "rollout", ASKED, head=1), "expected head=None for rollout"),
        (Choice(MODEL, "gradcam", ASKED, patch=3), "expected method='attention'"),
        (Choice(MODEL, "attention", ASKED, layer=9), ""),
        (Choice(MODEL, "gradcam"), "expected a target"),
    ],
)
def test_what_can_not_be_drawn_is_a_sentence(cases, choice, words):
    view = cases.view(0, choice)
    assert view["error"]
    assert words in view["error"]
    assert view["grid"] is None
    assert view["thumbs"]  # the heads can still be looked at


def test_a_map_without_positive_evidence_says_so(cases, monkeypatch):
    nothing = np.zeros(cases.models[MODEL].grid, np.float32)
    monkeypatch.setattr(cases, "grid", lambda case, choice: nothing)
    with pytest.warns(UserWarning, match="no positive evidence"):
        view = cases.view(0, Choice(MODEL, "gradcam", ASKED))
    assert view["error"].startswith("no positive evidence: gradcam is zero everywhere")
    assert view["grid"] is not None


def test_a_cnn_has_no_heads_and_says_what_suits_it(table):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)  # of some weights the map is zero everywhere
    net = timm.create_model("resnet10t", pretrained=False, num_classes=2)
    cnn = rw.models.Model(
        net,
        "cnn",
        "image",
        96,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        (3, 3),
        findings=["a", "b"],
    )
    widget = rw.show.explore(cnn, table)
    assert (
        widget.panes[0]["method"],
        widget.about["targets"],
        widget.views[0]["error"],
    ) == (
        "gradcam",
        ["a", "b"],
        "",
    )
    assert widget.views[0]["thumbs"] is None
    widget.choose(method="attention")
    widget.wait()
    assert "Try method='gradcam'" in widget.views[0]["error"]


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ("left pleural effusion", "Pleural Effusion"),
        ("no such thing vs cardiomegaly", None),
        ("Enlarged heart", "Cardiomegaly"),
        ("lung mass vs pneumothorax", "Lung Lesion"),
        (None, None),
    ],
)
def test_the_truth_is_that_of_the_finding_that_the_words_name(words, finding):
    assert (
        finding_named(
            words, ["Pleural Effusion", "Cardiomegaly", "Lung Lesion", "Pneumothorax"]
        )
        == finding
    )


# ---- the widget


def test_python_drives_what_the_browser_would(widget):
    assert widget.views[0]["choice"]["target"] == ASKED
    before = widget.views[0]["grid"]
    widget.choose(layer=2, head=1)
    assert widget.wait(20)
    assert widget.views[0]["label"] == "attention, layer 2, head 1"
    assert widget.views[0]["grid"] != before
    widget.choose(method="relevance")
    assert widget.wait(20)
    assert widget.views[0]["grid"] == before
    widget.case = 4
    assert widget.wait(20)
    assert (widget.scan["case"], widget.views[0]["case"]) == (4, 4)


def test_two_methods_and_two_models_stand_side_by_side(model, table):
    pair = rw.show.explore(model, table, against="rollout")
    assert [v["choice"]["method"] for v in pair.views] == ["relevance", "rollout"]
    other = rw.models.clip_tiny(model.tokenizer, seed=3)
    two = rw.show.explore(
        {"trained": model, "untrained": other}, table, method="attention"
    )
    assert [v["choice"]["model"] for v in two.views] == ["trained", "untrained"]
    assert two.views[0]["grid"] != two.views[1]["grid"]
    assert list(rw.show.explore([model, model], table).about["models"]) == [
        "radwb-tiny (0)",
        "radwb-tiny (1)",
    ]
    with pytest.raises(ValueError, match="one model or two, got 3"):
        rw.show.explore([model] * 3, table)
    with pytest.raises(ValueError, match="expected a method of"):
        rw.show.explore(model, table, against="magic")
    with pytest.raises(ValueError, match="at least one film"):
        rw.show.explore(model, table.head(0))


def slowly(monkeypatch, seconds=20):
    """Occlusion that goes through the network once in a while, for `seconds`.

    The two results say when it began and how it ended.
    """
    began, ended = threading.Event(), []

    def slow(model, x, *_):
        began.set()
        try:
            for _ in range(int(seconds / 0.05)):
                model.encode_image(x)
                time.sleep(0.05)
            ended.append("finished")
        except BaseException as stop:
            ended.append(type(stop).__name__)
            raise

    monkeypatch.setattr(state, "grids", slow)
    return began, ended


def test_a_long_computation_shows_that_it_runs_and_can_be_cancelled(
    widget, model, monkeypatch
):
    before = widget.views[0]
    began, ended = slowly(monkeypatch)
    hooks = [len(m._forward_pre_hooks) for m in model.net.modules()]
    widget.choose(method="occlusion")
    assert began.wait(10)
    assert not widget.wait(0.6)
    assert "occlusion" in widget.views[0]["busy"]
    widget._handle_custom_msg({"cancel": 0}, [])  # as the button sends it
    assert widget.wait(5)
    assert ended == ["Cancelled"]
    assert widget.views[0] == before | {"busy": ""}
    assert widget.panes[0]["method"] == "relevance"
    assert [len(m._forward_pre_hooks) for m in model.net.modules()] == hooks


def test_a_newer_wish_stops_an_older_one(widget, monkeypatch):
    began, ended = slowly(monkeypatch)
    widget.choose(method="occlusion")
    assert began.wait(10)
    start = time.monotonic()
    widget.choose(layer=1, head=0)
    assert widget.wait(10)
    assert time.monotonic() - start < 3
    assert (ended, widget.views[0]["label"]) == (
        ["Cancelled"],
        "attention, layer 1, head 0",
    )


def test_an_error_of_a_worker_is_a_sentence(widget, monkeypatch):
    monkeypatch.setattr(widget.cases, "view", lambda *_: 1 / 0)
    widget.case = 3
    assert widget.wait(10)
    assert widget.views[0]["error"] == "ZeroDivisionError: division by zero"


def test_a_film_that_can_not_be_read_is_a_sentence(model, table):
    broken = table.assign(
        path=[table.path.iloc[0], "no/such/film.png", *table.path.iloc[2:]]
    )
    widget = rw.show.explore(model, broken)
    widget.case = 1
    assert widget.wait(10)
    assert "no such file in no/such" in widget.views[0]["error"]
    assert "pixels" not in widget.scan  # the film before it doesn't stand in for it
    widget.case = 2
    assert widget.wait(10)
    assert (widget.views[0]["error"], widget.scan["case"]) == ("", 2)


def test_the_map_of_a_large_film_does_not_wait_for_its_score(model, monkeypatch):
    mask = np.zeros((1200, 1000), bool)
    mask[100:300, 200:400] = True
    film = rw.data.Scan(
        np.random.default_rng(0).random(mask.shape).astype(np.float32),
        truth={"Pneumothorax": mask},
    )
    widget = rw.show.explore(model, [film], finding="Pneumothorax")
    seen = []
    monkeypatch.setattr(widget.work, "_publish", lambda job, **view: seen.append(view))
    widget.choose(layer=2, head=1)
    assert widget.wait(20)
    drawn = [view for view in seen if "grid" in view]
    assert [view["label"] for view in drawn] == ["attention, layer 2, head 1"] * 2
    assert drawn[0]["score"] is None
    assert drawn[1]["score"] == widget.cases.score(0, Choice(**widget.panes[0]))[1]


def test_a_check_puts_its_badge_beside_the_map(widget, monkeypatch):
    from types import SimpleNamespace

    badge = rw.attend.map.Badge({"random weights": True, "nonsense phrase": False}, 6)
    monkeypatch.setattr(
        state, "sanity_check", lambda *_, **__: SimpleNamespace(badge=badge)
    )
    assert widget.views[0]["badge"] == "sanity: not checked"
    widget.check()
    assert widget.wait(10)
    assert (widget.views[0]["badge"], widget.views[0]["passed"]) == (str(badge), False)
    widget.choose(target="cardiomegaly")  # the verdict was about another question
    assert widget.wait(10)
    assert widget.views[0]["badge"] == "sanity: not checked"


def test_the_still_shows_the_scan_the_map_and_the_outline(widget, tmp_path):
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    pixels = {}
    for name, look in (
        ("all", {}),
        ("no map", {"alpha": 0}),
        ("no outline", {"truth": False}),
    ):
        widget.look = {**widget.look, **look}
        pixels[name] = np.asarray(
            Image.open(widget.save(tmp_path / f"{name}.png")).convert("RGB")
        ).astype(float)
        widget.look = {**widget.look, "alpha": 0.75, "truth": True}
    first = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).convert("RGB")
    )
    assert np.abs(first - pixels["all"]).mean() < 3
    changed = np.abs(pixels["all"] - pixels["no map"]).max(-1) > 20
    assert 0.05 < changed.mean() < 0.9
    outline = np.abs(pixels["all"] - pixels["no outline"]).max(-1) > 20
    assert 0.001 < outline.mean() < 0.05


def test_a_still_cuts_no_word_of_its_caption(table, model):
    """Every word's ink lies within the picture, whatever its length."""
    phrase = "a small effusion with atelectasis beside it, and no consolidation at all"
    short, long = (
        rw.show.explore(model, table, against="gradcam", target=target)
        for target in ("effusion", f"{phrase} vs {phrase}")
    )
    try:
        pages = [np.asarray(w._still().convert("L")) for w in (short, long)]
        rows = [page.shape[0] for page in pages]
        assert rows[1] >= rows[0] + 2 * 22  # px of a line
        for page in pages:
            half = page.shape[1] // 2
            for pane in (page[:, :half], page[:, half:]):
                assert (pane[:, -11:] == 255).all()
    finally:
        short.close()
        long.close()
