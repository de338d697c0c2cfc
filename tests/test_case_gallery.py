"""The worst errors of a model, each with what may explain it, and a verdict."""

import io
import stat
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hostile import PAYLOAD
from PIL import Image

import radwb as rw
from radwb.explore.errors import worst_errors
from radwb.explore.gallery import COLUMNS, VERDICTS

FINDING = "Pleural Effusion"


@pytest.fixture(scope="module")
def model():
    return rw.models.load("radwb-tiny")


@pytest.fixture(scope="module")
def table():
    """Twelve films to learn from and eight to err on, one with a hostile report."""
    films = rw.simulate.cohort(n=60, seed=0)
    ill = films[films[FINDING] == 1].head(10)
    well = films[films[FINDING] == 0].head(10)
    table = pd.concat([ill, well]).reset_index(drop=True)
    table["split"] = (["test"] * 4 + ["train"] * 6) * 2
    table.loc[0, "report"] = f"FINDINGS: {PAYLOAD} Dr. Weiss."
    return table


@pytest.fixture(scope="module")
def scores(table):
    """As bad as can be: film 0 is the worst miss, film 10 the worst alarm."""
    values = np.arange(len(table)) / 20.0
    values[10:14] = [0.99, 0.9, 0.8, 0.7]
    return values


@pytest.fixture
def widget(model, scores, table):
    widget = rw.show.cases(model, scores, table, finding=FINDING)
    yield widget
    widget.close()


def heard(widget, **message):
    """What the widget answers to a message of the browser, with its buffers."""
    answers = []
    widget.send = lambda content, buffers=None: answers.append((content, buffers))
    widget._heard(None, message, [])
    return answers


def test_errors_are_those_that_a_count_of_all_pairs_finds():
    rng = np.random.default_rng(0)
    y = rng.integers(-1, 2, 60).astype(float)
    s = rng.integers(0, 9, 60).astype(float)
    errors = worst_errors(y, s, most=60)
    for row in range(60):
        beyond = 0
        for other in range(60):
            if y[row] == 1 and y[other] == 0:
                beyond += s[other] > s[row]
            if y[row] == 0 and y[other] == 1:
                beyond += s[other] < s[row]
        found = errors[errors["row"] == row]["beyond"].tolist()
        assert found == ([beyond] if beyond else [])
    for _, kind in errors.groupby("error"):
        assert kind["beyond"].is_monotonic_decreasing


def test_the_worst_comes_first_and_the_kinds_by_turns(widget):
    assert widget.errors["row"].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    assert widget.shown["check"] == "missed"
    assert widget.shown["sentence"].startswith(
        f"{FINDING} by its label; 4 of 4 films without it score higher"
    )
    widget.filter("false alarm")
    assert (widget.shown["of"], widget.shown["check"]) == (4, "false alarm")
    assert f"no {FINDING}" in widget.shown["sentence"]


def test_training_films_are_no_errors_and_the_only_neighbours(widget, table, model):
    rows = table.iloc[widget.errors["row"]]
    assert set(rows["split"]) == {"test"}
    near = widget.neighbours(0, k=3)
    assert set(near["split"]) == {"train"}
    train = table[table["split"] == "train"]
    by_hand = rw.models.embed(model, train) @ rw.models.embed(model, table.head(1))[0]
    best = train["study_id"].iloc[np.argsort(-by_hand)[:3]].tolist()
    assert near["study_id"].tolist() == best
    assert near["likeness"].tolist() == pytest.approx(sorted(by_hand)[:-4:-1])


def test_film_map_and_outline_are_pictures_of_one_size(widget):
    names = ("film", "map", "outline")
    sizes = {Image.open(io.BytesIO(widget.shown[name])).size for name in names}
    assert len(sizes) == 1
    outline = np.asarray(Image.open(io.BytesIO(widget.shown["outline"])))
    assert 0 < (outline[..., 3] > 0).mean() < 0.2
    widget.filter("false alarm")
    assert widget.shown["outline"] == b""  # nothing is there


def test_another_method_draws_another_map_and_off_draws_none(widget):
    first = widget.shown["map"]
    widget.method = "gradcam"
    assert widget.shown["map"] not in (b"", first)
    widget.layers = {"outline": True, "map": False}
    assert widget.shown["map"] == b""
    assert "gradcam" in widget.about["methods"]


def test_a_verdict_is_saved_at_once_and_read_again(model, scores, table, tmp_path):
    path = tmp_path / "verdicts.csv"
    widget = rw.show.cases(model, scores, table, finding=FINDING, notes=path)
    assert not path.exists()
    judge = dict(number=0, verdict="shortcut", note="a tube, and", go_on=True)
    answer = heard(widget, judge=judge)
    assert answer[0][0] == {"noted": {"number": 0, "error": ""}}
    assert widget.at == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = pd.read_csv(path)
    assert tuple(kept.columns) == COLUMNS
    assert kept["verdict"].tolist() == ["shortcut"]
    assert kept["study_id"].tolist() == [table["study_id"].iloc[0]]
    mixed = table.sample(frac=1, random_state=1)  # by name, whatever the order
    again = rw.show.cases(
        model, scores[mixed.index], mixed, finding=FINDING, notes=path
    )
    assert (again.shown["verdict"], again.shown["done"]) == ("shortcut", 1)
    path.write_text("something else")
    with pytest.raises(ValueError, match="stays as it is"):
        again.judge("unsure")


def test_two_models_in_one_file_keep_their_own_verdicts(model, scores, table, tmp_path):
    path = tmp_path / "verdicts.csv"
    noted = {"finding": FINDING, "notes": path}
    other = replace(model, name="another")
    rw.show.cases(model, scores, table, **noted).judge("shortcut", "a tube")
    second = rw.show.cases(other, scores, table, **noted)
    assert second.shown["verdict"] == ""
    second.judge("unsure")
    kept = pd.read_csv(path)
    assert kept["model"].tolist() == ["radwb-tiny", "another"]
    assert kept["verdict"].tolist() == ["shortcut", "unsure"]
    again = rw.show.cases(model, scores, table, **noted)
    assert again.shown["verdict"] == "shortcut"
    kept.drop(columns="model").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"without \['model'\], as an older radwb"):
        rw.show.cases(model, scores, table, **noted)


def test_a_saved_notebook_keeps_no_report_and_no_note(widget):
    widget.judge("unsure", "Mrs Miller, born 1950")
    synced = [repr(getattr(widget, name)) for name in widget.traits(sync=True)]
    kept = [*synced, widget.stand_in.html()]
    assert not any("Weiss" in text or "Miller" in text for text in kept)
    assert "Weiss" in heard(widget, texts=True)[0][0]["texts"][0]
    assert heard(widget, note=True)[0][0]["note"] == "Mrs Miller, born 1950"


def test_neighbours_are_sent_with_their_labels(widget):
    ((content, thumbs),) = heard(widget, neighbours=0)
    labels = [row["label"] for row in content["neighbours"]]
    assert set(labels) <= {"present", "absent"}
    assert len(thumbs) == len(labels) == 4
    assert all(max(Image.open(io.BytesIO(one)).size) == 128 for one in thumbs)


def test_the_still_says_what_it_shows(widget, tmp_path):
    picture = np.asarray(Image.open(widget.save(tmp_path / "a.png")).convert("RGB"))
    assert picture.std(axis=2).max() > 20  # a coloured map lies on it
    html = widget.stand_in.html()
    assert "1 of 8 errors: missed" in html
    assert "Not for clinical use" in html


def test_a_film_that_cant_be_read_is_still_judged(model, scores, table):
    broken = table.assign(path=["nowhere.png", *table["path"][1:]])
    widget = rw.show.cases(model, scores, broken, finding=FINDING)
    assert "can't be read" in widget.shown["problem"]
    widget.judge("can't be seen")
    assert widget.shown["verdict"] == "can't be seen"


def test_scores_of_a_probe_name_the_finding(model, table):
    scores = rw.probe.zero_shot(model, table, [FINDING])
    assert rw.show.cases(model, scores, table).finding == FINDING


def one_class(scores, table):
    return scores, table[table[FINDING] == 1]


def constant(scores, table):
    return np.ones(20), table


def perfect(scores, table):
    return table[FINDING].to_numpy(float), table


@pytest.mark.parametrize("kind", [one_class, constant, perfect])
def test_no_error_is_said_in_a_sentence(model, scores, table, kind):
    scores, films = kind(scores, table)
    widget = rw.show.cases(model, scores[: len(films)], films, finding=FINDING)
    assert widget.about["nothing"].startswith(f"No error: of {len(films)} films none")
    assert "No error" in widget.stand_in.html()
    with pytest.raises(ValueError, match="No error"):
        widget.judge("unsure")


def test_what_doesnt_fit_is_refused(model, scores, table, widget):
    with pytest.raises(ValueError, match="a score for each of 20 films"):
        rw.show.cases(model, scores[:5], table, finding=FINDING)
    with pytest.raises(ValueError, match="beside scores that name none"):
        rw.show.cases(model, scores, table)
    with pytest.raises(ValueError, match="expected a method of"):
        rw.show.cases(model, scores, table, finding=FINDING, method="guess")
    with pytest.raises(ValueError, match="really there"):
        widget.judge("drop")
    assert widget.allowed(0) == list(VERDICTS["missed"])
    with pytest.raises(ValueError, match="really absent"):
        widget.judge("really there", number=1)  # a false alarm


def test_without_training_films_it_says_so(model, scores, table):
    widget = rw.show.cases(model, scores, table.drop(columns="split"), finding=FINDING)
    assert widget.about["training"] == 0
    assert heard(widget, neighbours=0)[0][0]["neighbours"] == []
