"""A view is one unit: nothing of another film, other words or another model in it."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from towers import film, timm_model, tiny_vit

import radwb as rw
from radwb.attend.map import Badge
from radwb.explore import computed as cases_module
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.film import packed
from radwb.explore.films import Films
from radwb.explore.lines import lines_of
from radwb.explore.words import as_target

MODEL = "radwb-tiny"
PAIR = ("pleural effusion", "no pleural effusion")
ASKED = " vs ".join(PAIR)
OF_A_FILM = ("score", "bright", "verdict", "badge", "said", "words", "grid", "thumbs")


@pytest.fixture(scope="module")
def bare():
    return dataclasses.replace(timm_model("resnet10t", size=96), findings=None)


# ---- the film before


def test_while_a_map_is_computed_nothing_of_the_film_before_is_there(
    widget, monkeypatch
):
    assert widget.wait(30, idle=True)
    assert all(widget.views[0][part] for part in OF_A_FILM)
    began, goes_on = threading.Event(), threading.Event()
    grid = widget.cases.grid

    def slow(case, choice):
        began.set()
        assert goes_on.wait(20)
        return grid(case, choice)

    monkeypatch.setattr(widget.cases, "grid", slow)
    widget.case = 5
    assert began.wait(10)
    assert widget.scan["case"] == 5  # the film is there already
    view = widget.views[0]
    assert view["case"] == 5
    assert view["label"]  # what is computed
    assert not any(view[part] for part in OF_A_FILM)
    goes_on.set()
    assert widget.wait(30, idle=True)
    assert all(widget.views[0][part] for part in OF_A_FILM)


def test_no_state_that_the_browser_sees_mixes_two_films(widget):
    assert widget.wait(30, idle=True)
    units = []
    widget.observe(lambda change: units.append(change.new[0]), "views")
    for case in (3, 0, 5, 1, 5):
        widget.case = case
        widget.wait(0.02)
    assert widget.wait(30, idle=True)
    monitor = widget.cases
    for view in units:
        if view["grid"]:
            choice = Choice(**view["choice"])
            assert view["grid"] == monitor.grid(view["case"], choice).tobytes()
            assert view["score"] == monitor.score(view["case"], choice)[1]


def test_a_film_that_can_not_be_read_keeps_no_heads(model, table):
    broken = table.assign(path=[table.path.iloc[0], "no.png", *table.path.iloc[2:]])
    widget = rw.show.explore(model, broken)
    assert widget.wait(30, idle=True)
    widget.case = 1
    assert widget.wait(30, idle=True)
    assert set(widget.scan) == {"case", "name", "error"}
    view = widget.views[0]
    assert "no such file" in view["error"]
    assert view["error"] == widget.scan["error"]
    assert not any(view[part] for part in OF_A_FILM)
    widget.close()


def test_a_map_stopped_before_it_was_there_says_so(widget, monkeypatch):
    began = threading.Event()

    def slow(model, x, *_):
        began.set()
        for _ in range(400):
            model.encode_image(x)

    monkeypatch.setattr(cases_module, "grids", slow)
    widget.case = 4
    assert began.wait(10)
    widget.cancel()
    assert widget.wait(10)
    view = widget.views[0]
    assert (view["case"], view["grid"], view["busy"]) == (4, None, "")
    assert "stopped before the map was there" in view["error"]


# ---- badges


def test_a_badge_holds_for_the_words_it_was_made_with(model, table):
    passed = Badge({"random weights": True}, 6)
    given = {"relevance": passed, "rollout": Badge({"random weights": False}, 6)}
    widget = rw.show.explore(model, table, target=ASKED, badges=given)
    assert (widget.views[0]["badge"], widget.views[0]["passed"]) == (str(passed), True)
    widget.choose(target="cardiomegaly")
    assert widget.wait(30)
    view = widget.views[0]
    assert (view["badge"], view["passed"]) == ("sanity: for other words", None)
    widget.choose(method="rollout")  # which has no words
    assert widget.wait(30)
    assert widget.views[0]["passed"] is False
    widget.close()


def test_a_sanity_check_says_itself_what_it_is_about(model, table):
    scans = [rw.data.scan_of(row) for _, row in table.iterrows()]
    how = dict(method="gradcam", target="cardiomegaly", nonsense=(), others=(), draws=1)
    checked = rw.attend.sanity_check(model, scans, **how)
    cases = Cases({MODEL: model}, table, badges={"gradcam": checked}, target=ASKED)
    about = cases.view(0, Choice(MODEL, "gradcam", "cardiomegaly"))
    assert about["badge"] == str(checked.badge)
    assert cases.view(0, Choice(MODEL, "gradcam", ASKED))["badge"].endswith("words")
    other = dataclasses.replace(model, name="another")
    cases = Cases({"x": other}, table, badges={"gradcam": checked})
    assert cases.view(0, Choice("x", "gradcam", "cardiomegaly"))["passed"] is None


# ---- truth


def test_a_finding_known_absent_is_not_an_unknown_truth(model, table):
    absent = int(np.flatnonzero(table["Pleural Effusion"] == 0)[0])
    cases = Cases({MODEL: model}, table)
    said = cases.view(absent, Choice(MODEL, "relevance", ASKED))["verdict"]
    assert said == "no Pleural Effusion on this film: known to be absent"
    # a real table: a label of 0 says it, no label says nothing
    real = table.drop(columns="planted").assign(truth_path="")
    real["Pleural Effusion"] = [0, np.nan, -1, 1, 0, 0]
    films = Films(real)
    assert ["Pleural Effusion" in films.absent(case) for case in range(6)] == [
        *(True, False, False),
        *(False, True, True),
    ]
    # a virtual film whose label is wrong: what was planted counts
    wrong = table.assign(**{"Pleural Effusion": 0})
    ill = int(np.flatnonzero(table["Pleural Effusion"] == 1)[0])
    assert "Pleural Effusion" not in Films(wrong).absent(ill)


def test_a_phrase_has_at_most_300_letters_and_no_blanks_around(cases):
    view = cases.view(0, Choice(MODEL, "relevance", "effusion " * 500))
    assert "expected a phrase of at most 300 letters, got 4499" in view["error"]
    assert len(view["label"]) < 350
    assert view["thumbs"]
    one = Choice(MODEL, "relevance", "  pleural \n effusion ")
    assert one == Choice(MODEL, "relevance", "pleural effusion")


# ---- what a model can be asked


def test_a_bare_tower_offers_neurons_and_what_it_can_do(bare, table):
    widget = rw.show.explore(bare, table)
    kinds = widget.about["kinds"]["resnet10t"]
    assert not {"attention", "relevance", "similarity", "rollout"} & {*kinds["methods"]}
    with torch.no_grad():
        x = bare.preprocess(rw.data.scan_of(table.iloc[0]))
        strongest = bare.encode_image(x)[0].abs().argsort(descending=True)
    assert kinds["targets"] == [f"neuron {int(n)}" for n in strongest[:8]]
    assert widget.panes[0]["target"] == kinds["targets"][0]
    neuron = int(strongest[8])  # one that isn't offered, typed
    for method in ("gradcam", "integrated_gradients", "occlusion"):
        assert method in kinds["methods"]
        widget.choose(method=method, target=f"neuron {neuron}")
        assert widget.wait(60)
        want = rw.attend.attention_map(
            bare, rw.data.scan_of(table.iloc[0]), method=method, target=neuron
        )
        assert want.values.max() > 0
        got = widget.cases.values(0, Choice(**widget.panes[0]))
        assert np.allclose(got, want.values, atol=1e-6)
        assert "expected" not in widget.views[0]["error"]
    widget.choose(target="pleural effusion")
    assert widget.wait(60)
    assert "Try a neuron by its number: neuron 0" in widget.views[0]["error"]
    widget.close()


def test_each_method_that_is_offered_can_be_done(model, bare, table):
    vit = tiny_vit()
    for one in (model, bare, vit):
        cases = Cases({"x": one}, table)
        (kind,) = rw.explore.offers.kinds(cases).values()
        for method in set(kind["methods"]) - {"rise", "flow"}:  # slow
            view = cases.view(0, Choice("x", method, kind["targets"][0]))
            assert view["grid"], (method, view["error"])
        for method in set(rw.attend.METHODS) - set(kind["methods"]):
            assert cases.view(0, Choice("x", method, kind["targets"][0]))["error"]


def test_two_panes_of_different_kinds_are_each_asked_what_they_can(model, bare, table):
    widget = rw.show.explore({"text": model, "bare": bare}, table, method="gradcam")
    assert widget.wait(60)
    assert " vs no " in widget.panes[0]["target"]
    assert widget.panes[1]["target"].startswith("neuron ")
    assert all("expected" not in view["error"] for view in widget.views)
    widget.close()


def test_targets_are_text_here_and_numbers_there():
    assert [as_target(t) for t in ("neuron 5", "Neuron 12", "neuron")] == [
        *(5, 12),
        "neuron",
    ]
    assert as_target("a vs b") == ("a", "b")
    with pytest.raises(ValueError, match="at most 300 letters, got 301"):
        as_target("x" * 301)


# ---- heads and regions


def test_a_region_is_the_mean_of_its_rows_or_columns(cases, model):
    seen = rw.attend.capture(model, model.preprocess(cases.scan(1)))["attention"]
    attention = seen[2, 0, 1].numpy()  # (T, T)
    first = len(attention) - 64
    region = [3, 11, 12]
    rows = [first + patch for patch in region]
    one = Choice(MODEL, "attention", layer=2, head=1, patch=region)
    toward = dataclasses.replace(one, direction="to")
    assert np.allclose(
        cases.grid(1, one).ravel(), attention[rows, first:].mean(0), atol=1e-6
    )
    assert np.allclose(
        cases.grid(1, toward).ravel(), attention[first:, rows].mean(1), atol=1e-6
    )
    assert cases.view(1, one)["label"] == "attention of 3 patches, layer 2, head 1"
    single = dataclasses.replace(toward, patch=9)
    label = cases.view(1, single)["label"]
    assert label == "attention to patch (1, 1), layer 2, head 1"
    assert np.allclose(
        cases.grid(1, single).ravel(), attention[first:, first + 9], atol=1e-6
    )
    outside = cases.view(1, Choice(MODEL, "attention", patch=[3, 64]))
    assert outside["error"]
    assert outside["grid"] is None


def test_measures_of_heads_are_those_of_the_rooms(cases, model):
    scan = cases.scan(0)
    mask = scan.truth["Pleural Effusion"]
    view = cases.view(0, Choice(MODEL, "relevance", ASKED))
    measures = {name: np.array(value) for name, value in view["measures"].items()}
    census = rw.attend.doubt.heads.head_census(model, [scan] * 5, [mask] * 5)
    energy = measures["energy on the truth"][:, 1:]
    lesion = rw.data.to_input(mask.astype(np.float32), model.size, fit=model.fit)
    want = census["selectivity"].to_numpy() * lesion.mean()
    assert np.allclose(energy.ravel(), want, atol=1e-4)
    seen = rw.attend.capture(model, model.preprocess(scan))
    attention = seen["attention"][:, 0]
    first = attention.shape[-1] - 64
    row = (seen["read"] @ attention[1, 2])[0, first:].numpy()
    share = row.sum()
    entropy = -(row / share * np.log2(row / share)).sum()
    assert measures["share on patches"][1, 3] == pytest.approx(share, abs=1e-3)
    assert measures["entropy (bits)"][1, 3] == pytest.approx(entropy, abs=1e-3)
    apart = np.linalg.norm(
        np.indices((8, 8)).reshape(2, 64)[:, :, None]
        - np.indices((8, 8)).reshape(2, 64)[:, None],
        axis=0,
    )
    weights = attention[1, 2, first:, first:].numpy()
    distance = (weights * apart).sum() / weights.sum()
    got = measures["mean distance (patches)"][1, 3]
    assert got == pytest.approx(distance, abs=1e-3)


def test_each_thumbnail_says_its_own_maximum(cases):
    view = cases.view(0, Choice(MODEL, "rollout"))
    highest = np.frombuffer(view["highest"], np.float32).reshape(4, 4)
    for layer, head in ((0, None), (3, 2)):
        grid = cases.grid(0, Choice(MODEL, "attention", layer=layer, head=head))
        column = 0 if head is None else head + 1
        assert highest[layer, column] == pytest.approx(grid.max(), rel=1e-6)


def test_the_scale_is_that_of_the_map_on_the_film_and_not_beside_it(model):
    # at the rim of the input, which lies beyond this film, the map is highest
    film = rw.data.Scan(np.random.default_rng(0).random((400, 900)).astype(np.float32))
    cases = Cases({MODEL: model}, [film])
    for head in range(3):
        choice = Choice(MODEL, "attention", layer=3, head=head)
        view = cases.view(0, choice)
        scale = 640 / 900
        how = dict(fit=model.fit, aspect=1.0)
        small = (round(400 * scale), 640)
        seen = rw.data.to_scan(cases.grid(0, choice), small, **how)
        assert (view["low"], view["high"]) == (seen.min(), seen.max())


# ---- the film


def test_facts_are_those_of_the_table(widget, table):
    facts = dict(widget.scan["facts"])
    row = table.iloc[0]
    assert facts["Report"] == row.report
    assert (facts["Age (years)"], facts["Sex"]) == (str(row.age_years), row.sex)
    assert "Pleural Effusion" in facts["Present"].split(", ")
    names = rw.data.findings_of(table)
    assert set(facts["Absent"].split(", ")) == {n for n in names if row[n] == 0}
    values = widget.films[0]["values"]
    assert values["site"] == row.site
    assert values["label"] == 1
    assert set(values) >= set(widget.about["columns"])


def test_letters_and_millimetres_only_where_they_are_known():
    pixels = np.zeros((40, 30), np.float32)
    film = rw.data.Scan(pixels, (2.0, 1.0), orientation=("L", "F"))
    told = packed(film)
    assert told["letters"] == {"left": "R", "right": "L", "top": "H", "bottom": "F"}
    assert (told["mm"], told["full"]) == ([80.0, 30.0], [40, 30])
    assert told["right"] == "left"
    nothing = packed(rw.data.Scan(pixels))
    assert set(nothing["letters"].values()) == {""}
    assert (nothing["mm"], nothing["right"]) == (None, "")
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])  # rows to the right, columns to the front
    volume = rw.data.Volume(np.random.rand(4, 5, 6).astype(np.float32), affine)
    for axis in range(3):
        letters = packed(volume.slice(axis, 1))["letters"]
        pairs = {letters["left"] + letters["right"], letters["top"] + letters["bottom"]}
        assert pairs < {"RL", "AP", "HF"}


def test_large_films_say_how_large_they_are():
    film = rw.data.Scan(np.random.rand(1500, 1000).astype(np.float32))
    told = packed(film)
    assert told["full"] == [1500, 1000]
    assert max(told["rows"], told["cols"]) == 640


def test_findings_of_one_film_are_told_apart_twice():
    several = [n for n in rw.findings.FINDINGS if n != "No Finding"][:8]
    looks = lines_of(several)
    assert len({look["colour"] for look in looks.values()}) == 8
    assert len({str(look["dash"]) for look in looks.values()}) == 8
    blue = lines_of(["Edema", "Atelectasis", "Support Devices"])
    assert len({look["colour"] for look in blue.values()}) == 3
    own = rw.findings.FINDINGS["Pneumothorax"].colour
    assert lines_of(several + ["Pneumothorax"])["Pneumothorax"]["colour"] == own


def seen_without_green(colours):
    """As a reader without green cones sees them (Machado et al. 2009)."""
    deuteranopia = [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
    rgb = [[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours]
    return np.array(rgb) ** 2.2 @ np.transpose(deuteranopia)


def test_colours_differ_for_colour_blind_readers_too():
    names = [n for n in rw.findings.FINDINGS if n != "No Finding"][:6]
    colours = [look["colour"] for look in lines_of(names).values()]
    seen = seen_without_green(colours)
    apart = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert apart[np.triu_indices(6, 1)].min() > 0.1


def test_scans_are_films_too(model):
    scans = [film(seed) for seed in range(3)]
    widget = rw.show.explore(model, [*scans, scans[0]])
    assert widget.wait(60, idle=True)
    assert len({row["name"] for row in widget.films}) == 4
    assert widget.views[0]["said"]["of"] == 4
    widget.close()
