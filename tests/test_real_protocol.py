"""The fixed protocol on real films: halves of patients, planted scores, controls."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import films_table, patients_table
from torch.nn import functional

import radwb as rw

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import grow  # noqa: E402
import real_against  # noqa: E402
import real_films  # noqa: E402
import real_halves  # noqa: E402
import real_kept  # noqa: E402
import real_maps  # noqa: E402
import real_scores  # noqa: E402

COVID_SETS = ("covid-masks", "covid-text")


# Halves


@pytest.mark.parametrize(
    ("patient", "first_byte", "half"),
    [
        ("nih-231", "a3", "report"),
        ("nih-234", "86", "tune"),
        ("kermany-person1001", "26", "tune"),
        ("cohen-97", "27", "report"),
        ("cohen-178", "27", "report"),  # cohen-97 under another name
    ],
)
def test_a_half_is_what_sha256sum_says(patient, first_byte, half):
    name = "cohen-97" if patient == "cohen-178" else patient
    assert hashlib.sha256(name.encode()).hexdigest()[:2] == first_byte
    assert real_halves.half(patient) == half


def test_one_patient_under_two_names_is_in_one_half(monkeypatch):
    names = [f"cohen-{number}" for number in range(20)]
    by_half = {real_halves.half(name): name for name in names}
    monkeypatch.setitem(real_halves.SAME_PATIENT, by_half["tune"], by_half["report"])
    assert real_halves.half(by_half["tune"]) == "report"


def test_halves_are_disjoint_and_together_all():
    table = patients_table(200, {"Edema": 0.3})
    parts = [real_halves.in_half(table, half) for half in real_halves.HALVES]
    patients = [set(part["patient_id"]) for part in parts]
    assert not patients[0] & patients[1]
    assert patients[0] | patients[1] == set(table["patient_id"])
    assert 70 < len(patients[0]) < 130
    with pytest.raises(ValueError, match="expected half"):
        real_halves.in_half(table, "test")


def test_a_patient_of_both_covid_sets_is_in_one_half(monkeypatch):
    monkeypatch.setenv("RADWB_OFFLINE", "1")
    try:
        sets = [rw.data.real(name) for name in COVID_SETS]
    except rw.data.FetchError:
        pytest.skip("the covid sets are in no mirror")
    tuned = {p for t in sets for p in real_halves.in_half(t, "tune")["patient_id"]}
    reported = {p for t in sets for p in real_halves.in_half(t, "report")["patient_id"]}
    assert tuned
    assert reported
    assert not tuned & reported


# Films without labels


def labelled_films(name):
    """Forty patients of a set, as rw.data.real would give them."""
    table = patients_table(40, {"Pneumonia": 0.5, "Edema": 0.5})
    table["patient_id"] = name + "-" + table["patient_id"]
    table["path"] = [f"{name}/{path}" for path in table["path"]]
    return table.assign(view="PA")


def test_no_reporting_patient_and_no_label_is_in_unlabelled(monkeypatch):
    monkeypatch.setattr(rw.data, "real", labelled_films)
    films = real_halves.unlabelled()
    assert list(films) == ["path", "patient_id", "split"]
    assert set(films["split"]) == {"train"}
    assert {real_halves.half(patient) for patient in films["patient_id"]} == {"tune"}
    sources = {path.split("/")[0] for path in films["path"]}
    assert sources == {"hannover", "kermany", "nih-64"}  # whose licences allow it
    every = pd.concat([labelled_films(name) for name in sources])
    tuned = every[every["patient_id"].map(real_halves.half) == "tune"]
    assert set(films["path"]) == set(tuned["path"])


@pytest.mark.parametrize("more", [(), ("kermany-more",)])
def test_no_real_reporting_patient_is_in_unlabelled(monkeypatch, more):
    monkeypatch.setenv("RADWB_OFFLINE", "1")
    try:
        films = real_halves.unlabelled((*real_halves.UNLABELLED, *more))
    except rw.data.FetchError:
        pytest.skip("the real sets are in no mirror")
    reported = set()
    for name in real_films.SETS[:4]:
        table = real_halves.in_half(rw.data.real(name), "report")
        reported |= set(table["patient_id"])
    assert not reported & set(films["patient_id"])
    assert len(films) > 300


# Planted scores


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    """Films of noise; half of sixty patients have a bright corner, their pneumonia."""
    rng = np.random.default_rng(0)
    sick = np.arange(60) % 2
    pixels = rng.integers(0, 120, (60, 24, 24))
    pixels[:, :8, :8] += (40 * sick)[:, None, None]
    columns = {
        "Pneumonia": sick,
        "view": "AP",
        "study_id": [f"s{i}" for i in range(60)],
    }
    folder = tmp_path_factory.mktemp("films") / "films"
    people = [f"kermany-{patient}" for patient in range(60)]
    table = films_table(folder, pixels.astype(np.uint8), patient_id=people, **columns)
    return real_halves.of_children(table)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(autouse=True)
def one_untrained_tower(monkeypatch):
    monkeypatch.setattr(real_scores, "SEEDS", (0,))


def value(rows, measure, who, finding="Pneumonia"):
    """The one row's value."""
    wanted = {"measure": measure, "who": who, "finding": finding}
    found = [row for row in rows if wanted.items() <= row.items()]
    assert len(found) == 1, wanted
    return found[0]["value"]


def test_a_perfect_score_has_one_and_an_equal_one_half(model, children, cache):
    sick = children["Pneumonia"].to_numpy()
    phrases = rw.probe.Prompts.of(["Pneumonia"]).pair("Pneumonia")
    yes, no = (rw.probe.class_embedding(model, each) for each in phrases)
    perfect = np.where(sick[:, None] == 1, yes, no)
    nothing = np.repeat(yes[None], len(sick), axis=0)
    for Z, expected in ((perfect, 1.0), (nothing, 0.5)):
        asked = (model, children, "kermany", Z, cache)
        rows = real_scores.words(*asked) + real_scores.probes(*asked)
        assert value(rows, "words, pair", "model") == expected
        assert value(rows, "probe", "model") == pytest.approx(expected, abs=1e-9)
        rival = value(rows, "probe", "pixels 16")
        gap = value(rows, "probe", "model minus pixels 16")
        assert gap == pytest.approx(expected - rival, abs=1e-9)


def test_two_models_differ_by_what_each_of_them_has(model, children):
    sick = children["Pneumonia"].to_numpy()
    phrases = rw.probe.Prompts.of(["Pneumonia"]).pair("Pneumonia")
    yes, no = (rw.probe.class_embedding(model, each) for each in phrases)
    vectors = {
        "model": np.where(sick[:, None] == 1, yes, no),
        "before": np.repeat(yes[None], len(sick), axis=0),
    }
    both = {"model": model, "before": model}
    rows = real_against.in_words(both, vectors, children, "kermany")
    rows += real_against.in_probes(vectors, children, "kermany")
    for measure in ("words, pair", "probe"):
        for who, expected in (("model", 1), ("before", 0.5)):
            assert value(rows, measure, who) == pytest.approx(expected, abs=1e-9)
        gap = value(rows, measure, "model minus before")
        assert gap == pytest.approx(0.5, abs=1e-9)


def by_hand(X, y, patients):
    """Nested folds by patient with scikit-learn's own search of C; (N,) scores."""
    scores = np.zeros(len(y))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(X, y, groups=patients):
        regression = LogisticRegression(max_iter=1000, class_weight="balanced")
        search = GridSearchCV(
            make_pipeline(StandardScaler(), regression),
            {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]},
            scoring="roc_auc",
            cv=StratifiedGroupKFold(3, shuffle=True, random_state=0),
        )
        search.fit(X[train], y[train], groups=patients[train])
        mean = search.decision_function(X[train]).mean()
        scores[test] = search.decision_function(X[test]) - mean
    return scores


@pytest.mark.parametrize("size", [16, 32])
def test_a_pixel_baseline_is_what_scikit_learn_gives_by_hand(
    model, children, cache, size
):
    squares = rw.data.images(children, size, fit=model.fit)
    X = squares.reshape(len(squares), -1).astype(np.float32) / 255
    y = children["Pneumonia"].to_numpy()
    scores = by_hand(X, y, children["patient_id"].to_numpy(str))
    rivals = real_scores.rival_probes(model, children, ["Pneumonia"], cache)
    (kept,) = rivals[f"pixels {size}"]
    np.testing.assert_allclose(kept.values["Pneumonia"], scores, atol=1e-5)
    expected = roc_auc_score(y, scores)
    Z = np.random.default_rng(1).normal(size=(len(y), 4))
    rows = real_scores.probes(model, children, "kermany", Z, cache)
    assert value(rows, "probe", f"pixels {size}") == pytest.approx(expected, abs=1e-9)
    assert expected > 0.9  # the corner is found, so the test isn't of noise alone


def test_untrained_towers_are_of_the_models_tone(model, children, cache):
    asked = children, ["Pneumonia"], cache
    real_scores.rival_probes(model, *asked)
    before = set(cache.iterdir())
    real_scores.rival_probes(model, *asked)
    assert set(cache.iterdir()) == before  # kept
    real_scores.rival_probes(OfTone(model, "equalised"), *asked)
    (new,) = set(cache.iterdir()) - before
    assert new.name.startswith("untrained-")


class OfTone:
    """A model that says which tone its input has."""

    def __init__(self, model, tone):
        self.model = model
        self.tone = tone

    def __getattr__(self, name):
        return getattr(self.model, name)


def test_a_rare_finding_is_listed_and_in_no_mean():
    table = patients_table(60, {"Edema": 0.5, "Cardiomegaly": 0.5}, images=(1, 1))
    table["Edema"] = (table.index < 9).astype(int)
    truth = table[["Edema", "Cardiomegaly"]]
    scores = {"model": rw.probe.Scores.of(truth.to_numpy(), table, list(truth))}
    means = {"mean": ("Edema", "Cardiomegaly")}
    rows = real_scores.tidy(scores, table, "nih-64", "words, pair", means)
    averaged = {row["finding"]: row["averaged"] for row in rows}
    assert averaged == {"Edema": False, "Cardiomegaly": True, "mean": False}
    assert rows[-1]["note"] == "Cardiomegaly"
    listed = real_scores.listed(table, "nih-64", "probe", "Edema")
    assert listed["positive_patients"] == 9
    assert np.isnan(listed["value"])


# Maps


@pytest.fixture(scope="module")
def zoned():
    """Four films whose zones have a grade each, and an opacity in the lungs."""
    lungs = np.zeros((12, 8), bool)
    lungs[:, [1, 2, 5, 6]] = True
    opacity = lungs & (np.arange(12) < 6)[:, None]
    truth = {"lungs": lungs, "Lung Opacity": opacity}
    pixels = np.random.default_rng(0).random((12, 8)).astype(np.float32)
    films = pd.DataFrame({"scan": [rw.data.Scan(pixels, truth=truth)] * 4})
    films["patient_id"] = list("aabb")
    films[real_halves.ZONES] = np.tile([0, 1, 2, 0, 1, 3], (4, 1))
    return films


def test_a_lesions_own_mask_has_one_and_a_constant_map_its_area(zoned):
    masks = [scan.truth["Lung Opacity"].astype(float) for scan in zoned["scan"]]
    points = real_maps.judged_by_lesion(zoned, masks)
    assert (points == 1).all(axis=None)
    constant = [np.ones_like(mask) for mask in masks]
    points = real_maps.judged_by_lesion(zoned, constant)
    assert np.allclose(points, masks[0].mean())
    lungs = [scan.truth["lungs"].astype(float) for scan in zoned["scan"]]
    points = real_maps.judged_by_lesion(zoned, lungs)
    assert np.allclose(points["energy"], 0.5)  # half of the lungs is opaque


def test_two_models_maps_differ_by_what_each_of_them_has(zoned, monkeypatch):
    drawn = {"model": "Lung Opacity", "before": "lungs"}

    def maps_of(who, scans, method):
        return [scan.truth[drawn[who]].astype(float) for scan in scans]

    monkeypatch.setattr(real_against, "maps_of", maps_of)
    both = {"model": "model", "before": "before"}
    asked = (both, zoned, real_maps.judged_by_lesion, "covid-masks")
    rows = real_against.in_maps(*asked)
    wanted = {"model": 1, "before": 0.5, "model minus before": 0.5}
    for who, expected in wanted.items():
        assert value(rows, "maps, energy", who, "Lung Opacity") == expected


def test_a_map_of_the_grades_ranks_the_zones_and_the_lungs_area_does_not(zoned):
    zones = rw.attend.readers.lung_zones(zoned["scan"][0].truth["lungs"])
    graded = np.tensordot([0, 1, 2, 0, 1, 3], zones, axes=1).astype(float)
    points = real_maps.judged_by_zone(zoned, [graded] * 4)
    assert np.allclose(points, 1)
    points = real_maps.judged_by_zone(zoned, [zones.any(axis=0).astype(float)] * 4)
    assert np.allclose(points, 0)  # all zones are equally large here


def test_energy_of_a_zone_counts_its_area_and_the_mean_does_not(zoned):
    lungs = np.zeros((12, 8), bool)
    lungs[:, [1, 2, 5, 6]] = True
    lungs[8:, [0, 7]] = True  # the lowest zones, graded worst, are the largest
    scan = rw.data.Scan(np.zeros((12, 8), np.float32), truth={"lungs": lungs})
    films = zoned.assign(scan=[scan] * 4)
    points = real_maps.judged_by_zone(films, [lungs.astype(float)] * 4)
    assert np.allclose(points["rank of means"], 0)
    assert (points["rank of energies"] > 0.5).all()


def test_another_patients_map_and_mask_are_of_another_patient(zoned, monkeypatch):
    maps = [np.full((12, 8), number, np.float32) for number in range(4)]
    others = real_maps.other_patients(maps, zoned["patient_id"].tolist())
    assert [other.mean() for other in others] == [2, 2, 0, 0]
    scans = list(zoned["scan"])
    empty = {"Lung Opacity": np.zeros((12, 8), bool)}
    scans[2:] = [rw.data.Scan(scans[0].pixels, truth=empty)] * 2
    monkeypatch.setattr(real_maps, "drawn_films", lambda _: zoned.assign(scan=scans))
    usual = real_maps.drawn_masks(zoned, "tune")
    assert [mask.max() > 0.5 for mask in usual] == [False, False, True, True]


# The whole


@pytest.fixture
def one_set(monkeypatch, children):
    """Of all sets only Kermany's is there, and its reporting half can't be read."""
    reported = children["patient_id"].map(real_halves.half) == "report"
    films = children.assign(path=children["path"].mask(reported, "nowhere.png"))

    def real(name):
        if name != "kermany":
            raise rw.data.FetchError(f"{name} is in no mirror")
        return films

    monkeypatch.setattr(rw.data, "real", real)


def test_choosing_reads_no_reporting_film_and_misses_no_missing_set(
    model, one_set, tmp_path
):
    rows = real_films.measure(model, "tune", seed=3, cache=tmp_path)
    assert list(rows) == real_films.COLUMNS
    missing = rows[rows["measure"] == "missing"]
    expected = {"nih-64", "hannover", "covid-text", "kermany-16", "covid-masks"}
    assert set(missing["set"]) == expected
    scored = rows[rows["set"] == "kermany"]
    ways = {"words, pair", "words, any", "words, wide"}
    assert set(scored["measure"]) == {*ways, "probe"}
    assert set(rows["seed"]) == {3}
    assert set(rows["half"]) == {"tune"}
    numbers = real_films.headline(rows)
    assert numbers["kermany_probe"] > 0.5
    assert np.isnan(numbers["choice"])  # not chosen by what is there alone
    json.dumps(real_films.as_json(rows), allow_nan=False)
    fewer = real_films.measure(model, "tune", cache=tmp_path, towers=False)
    assert set(rows["who"]) - set(fewer["who"]) == {
        "untrained, mean of 5",
        "model minus untrained, mean of 5",
    }
    assert real_films.headline(fewer)["kermany_probe"] == numbers["kermany_probe"]
    with pytest.raises(Exception, match="nowhere"):
        real_films.measure(model, "report", cache=tmp_path)


def test_the_headline_reads_the_rows_that_it_names():
    rows = []
    for (name, finding), measure, who in real_films.HEADLINE.values():
        about = {"set": name, "finding": finding, "measure": measure, "who": who}
        rows.append(about | {"value": len(rows) / 100, "positive_patients": 30})
    nih = {"set": "nih-64", "measure": "words, pair", "who": "model"}
    for finding, patients in (("Cardiomegaly", 5), ("Edema", 4), ("Hernia", 30)):
        rows.append(
            nih | {"finding": finding, "value": 0.8, "positive_patients": patients}
        )
    numbers = real_films.headline(pd.DataFrame(rows))
    assert numbers["nih_words"] == 0.0
    assert numbers["kermany_words"] == 0.01
    assert numbers["nih_words_of_5"] == 0.8  # of Cardiomegaly alone
    groups = [(0.8 + 0.01) / 2]
    for one, other in (("nih_probe", "kermany_probe"), ("energy", "auprc")):
        groups.append((numbers[one] + numbers[other]) / 2)
    assert numbers["choice"] == pytest.approx(np.mean(groups))


def test_what_is_kept_is_not_computed_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"a|0": np.arange(3.0)}

    for _ in range(2):
        arrays = real_kept.kept(tmp_path / "new", "one", make)
        assert arrays["a|0"].tolist() == [0, 1, 2]
    assert made == [1]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.npz"]


def test_what_is_kept_is_of_these_films_and_labels():
    films = pd.DataFrame({"study_id": ["a", "b"], "patient_id": ["p", "q"]})
    labelled = films.assign(Edema=[0, 1])
    first = real_kept.films_digest(labelled, ["Edema"])
    assert first == real_kept.films_digest(labelled.copy(), ["Edema"])
    other_labels = labelled.assign(Edema=[1, 1])
    assert first != real_kept.films_digest(other_labels, ["Edema"])
    assert first != real_kept.films_digest(labelled[::-1], ["Edema"])


# Levers


def grown_answers(**shape):
    """What radwb-tiny and its grown form say of the same noise, (4, embed) each."""
    model = rw.models.load("radwb-tiny")
    larger = grow.grown(model, **shape)
    noise = np.random.default_rng(0).integers(0, 256, (4, larger.size, larger.size))
    images = noise.astype(np.uint8)
    return larger, rw.models.embed(larger, images), rw.models.embed(model, images)


def test_a_new_block_says_nothing_until_it_has_learnt():
    larger, after, before = grown_answers(layers=6)
    assert len(larger.net.visual.transformer.resblocks) == 6
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_larger_input_keeps_weights_and_resizes_positions():
    model = rw.models.load("radwb-tiny")
    larger = grow.grown(model, size=160)
    assert larger.grid == (10, 10)
    old, new = (each.net.visual.positional_embedding for each in (model, larger))
    squares = old[1:].reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    wanted = functional.interpolate(squares, (10, 10), mode="bicubic", antialias=True)
    found = new[1:].reshape(1, 10, 10, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(larger.net.visual.proj, model.net.visual.proj)


def test_a_model_does_not_grow_smaller():
    with pytest.raises(ValueError, match="at least 4 layers"):
        grow.grown(rw.models.load("radwb-tiny"), layers=3)
