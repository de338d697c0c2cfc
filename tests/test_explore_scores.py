"""What a model says of the films, beside its map: equal to what rw.probe says."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from towers import timm_model

import radwb as rw
from radwb.explore import work as work_module
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.scores import errors_at_median, ordinal, ranks

MODEL = "radwb-tiny"
PAIR = ("pleural effusion", "no pleural effusion")
ASKED = " vs ".join(PAIR)


def cosines(model, table, phrases):
    """(N, K) by rw.probe and rw.models, in the precision of the map."""
    Z = rw.models.embed(model, table, precision="32-true")
    return Z @ rw.probe.text_embeddings(model, phrases).T


def test_a_phrase_scores_its_cosine_and_a_pair_the_difference(widget, model, table):
    yes, no = cosines(model, table, PAIR).T
    for case in (0, 5):
        widget.case = case
        assert widget.wait(30, idle=True)
        said = widget.views[0]["said"]
        # films are read as 8 bits by rw.models.embed, and as they are by a map
        assert said["value"] == pytest.approx((yes - no)[case], abs=2e-3)
        assert said["text"].startswith(f"difference of cosines {said['value']:+.3f}, ")
        widget.choose(target=PAIR[0])
        assert widget.wait(30, idle=True)
        said = widget.views[0]["said"]
        assert said["value"] == pytest.approx(yes[case], abs=2e-3)
        assert said["text"].startswith(f"cosine {said['value']:.2f}, ")
        widget.choose(target=ASKED)


def test_the_place_among_all_films_is_that_of_zero_shot(widget, model, table):
    prompts = rw.probe.Prompts(
        {"Pleural Effusion": (PAIR[0],)}, {"Pleural Effusion": (PAIR[1],)}
    )
    Z = rw.models.embed(model, table, precision="32-true")
    scores = rw.probe.zero_shot(
        model, table, ["Pleural Effusion"], prompts=prompts, embeddings=Z
    )
    probabilities = scores.values["Pleural Effusion"].to_numpy()
    places = (-probabilities).argsort().argsort() + 1
    assert widget.wait(30, idle=True)
    assert [row["values"]["rank"] for row in widget.films] == places.tolist()
    said = widget.views[0]["said"]
    assert (said["rank"], said["of"], said["busy"]) == (places[0], 6, "")
    assert said["text"].endswith(f", {ordinal(places[0])} of 6 films")
    widget.sort("score")
    assert widget.order == (-probabilities).argsort().tolist()
    assert widget.arranged["label"] == f"score: {ASKED}"


def test_a_classifier_says_its_probability(table):
    classifier = rw.models.supervised_tiny(["Edema", "Pneumothorax"])
    want = rw.probe.classify(classifier, table).values["Pneumothorax"].to_numpy()
    widget = rw.show.explore(classifier, table, target="Pneumothorax")
    assert widget.wait(60, idle=True)
    said = widget.views[0]["said"]
    assert said["value"] == pytest.approx(want[0], abs=0.01)
    assert said["text"].startswith(f"probability {said['value']:.2f}, ")
    widget.close()


def test_a_bare_tower_says_its_neurons_value(table):
    bare = dataclasses.replace(timm_model("resnet10t", size=96), findings=None)
    with torch.no_grad():
        x = bare.preprocess([rw.data.scan_of(row) for _, row in table.iterrows()])
        values = bare.encode_image(x)
    widget = rw.show.explore(bare, table, target=5)
    assert widget.wait(60, idle=True)
    said = widget.views[0]["said"]
    assert said["value"] == pytest.approx(float(values[0, 5]), abs=1e-5)
    assert said["rank"] == 1 + int((values[:, 5] > values[0, 5]).sum())
    widget.close()


def test_the_score_of_another_film_never_stands_here(widget, monkeypatch):
    assert widget.wait(30, idle=True)
    seen = []
    widget.observe(lambda change: seen.append(change.new), "views")
    for case in (1, 2, 3):
        widget.case = case
        assert widget.wait(30, idle=True)
    wanted = {row["name"]: row["values"]["score"] for row in widget.films}
    for views in seen:
        for view in views:
            if view["said"]:
                name = widget.cases.name(view["case"])
                assert view["said"]["value"] == pytest.approx(wanted[name], abs=1e-4)


def test_a_long_table_is_read_when_it_is_asked_for(table, monkeypatch):
    monkeypatch.setattr(work_module, "READ_UNASKED", 5)
    # of which nothing is kept yet
    widget = rw.show.explore(rw.models.load(MODEL), table)
    assert widget.wait(30, idle=True)
    said = widget.views[0]["said"]
    assert (said["rank"], widget.films[0]["values"]["score"]) == (None, None)
    assert "films" not in said["text"]
    widget.sort("score")
    assert widget.wait(30, idle=True)
    scores = [widget.films[case]["values"]["score"] for case in widget.order]
    assert scores == sorted(scores, reverse=True)
    assert widget.views[0]["said"]["of"] == 6
    widget.close()


def test_a_film_that_can_not_be_read_has_no_place(model, table):
    broken = table.assign(path=[*table.path.iloc[:5], "no/such/film.png"])
    widget = rw.show.explore(model, broken)
    assert widget.wait(30, idle=True)
    assert widget.films[5]["values"]["score"] is None
    assert widget.views[0]["said"]["of"] == 5
    widget.close()


def test_reading_the_films_gives_way_to_a_map(model, table, monkeypatch):
    widget = rw.show.explore(rw.models.load(MODEL), table)
    assert widget.wait(30, idle=True)
    reading, goes_on = threading.Event(), threading.Event()

    def slow(case, target):
        reading.set()
        assert goes_on.wait(20)
        return 0.0

    monkeypatch.setattr(widget.cases.scores[MODEL], "of_film", slow)
    widget.choose(target="cardiomegaly")
    assert reading.wait(10)
    widget.choose(layer=2, head=1)
    assert widget.wait(5)  # though the score before isn't there yet
    assert widget.views[0]["label"] == "attention, layer 2, head 1"
    goes_on.set()
    assert widget.wait(20, idle=True)
    widget.close()


def test_words_that_are_asked_again_at_once_are_listed(widget):
    assert widget.wait(30, idle=True)
    before = [row["values"]["score"] for row in widget.films]
    widget.choose(target="cardiomegaly")
    assert widget.films[0]["values"]["score"] is None
    widget.choose(target=ASKED)
    assert widget.wait(30, idle=True)
    assert [row["values"]["score"] for row in widget.films] == before


def test_a_head_says_the_same_of_the_words_and_sends_it_once(widget):
    assert widget.wait(30, idle=True)
    sent = []
    widget.observe(lambda change: sent.append(change.new[0]), "views")
    before = widget.views[0]["said"]
    widget.choose(layer=1, head=2)
    assert widget.wait(30, idle=True)
    drawn = [view for view in sent if view["label"] == "attention, layer 1, head 2"]
    assert [view["said"] for view in drawn] == [before]


def test_a_model_in_training_is_left_alone(table):
    own = timm_model("resnet10t", size=96)
    norm = next(m for m in own.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    widget = rw.show.explore(own, table)
    assert widget.wait(60, idle=True)
    scores = widget.cases.scores["resnet10t"]
    own.net.train()
    before = norm.running_mean.clone()
    scores.kept.values.clear()
    with pytest.raises(RuntimeError, match="is being trained"):
        scores.of_all("a")
    assert torch.equal(norm.running_mean, before)
    widget.close()


def test_ranks_and_errors_by_hand():
    scores = np.array([0.1, 0.9, np.nan, 0.9, 0.3])
    assert ranks(scores) == [4, 1, None, 1, 3]
    # the median is 0.6
    assert errors_at_median(scores, [1, 0, 1, 1, 0]) == [
        "missed",
        "false alarm",
        None,
        "agrees",
        "agrees",
    ]
    names = [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert names == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "102nd",
        "111th",
    ]


def test_films_are_filtered_by_what_the_table_and_the_score_say(widget, table):
    assert widget.wait(30, idle=True)
    widget.filter(sex="M")
    assert widget.order == np.flatnonzero(table.sex == "M").tolist()
    widget.filter(label=1)
    assert widget.order == np.flatnonzero(table["Pleural Effusion"] == 1).tolist()
    scores = np.array([row["values"]["score"] for row in widget.films])
    missed = (table["Pleural Effusion"] == 1) & (scores <= np.median(scores))
    if missed.any():
        widget.filter(**{"error at the median": "missed"})
        assert widget.order == np.flatnonzero(missed).tolist()
    widget.filter()
    widget.sort("age_years")
    ages = table.age_years.to_numpy()[widget.order]
    assert (np.diff(ages) <= 0).all()
    with pytest.raises(ValueError, match="got 'shoe size'"):
        widget.sort("shoe size")
    with pytest.raises(ValueError, match="some film has"):
        widget.filter(sex="Z")


# ---- words


def test_words_that_the_model_never_learnt_are_named(model, table):
    cases = Cases({MODEL: model}, table)
    asked = "purple bicycle with effusion \N{SMILING FACE WITH SUNGLASSES} 肺炎"
    words = cases.words(Choice(MODEL, "relevance", asked))
    learnt = model.tokenizer.bpe.get_vocab()
    for word in ("purple", "bicycle"):
        assert f"Ġ{word}" not in learnt
        assert word in words["never"]
    assert "Ġeffusion" in learnt
    assert words["unknown"] == ["\N{SMILING FACE WITH SUNGLASSES}", "肺炎"]
    assert "effusion" not in words["never"]
    assert all(word in words["text"] for word in ("purple", "肺炎", MODEL))
    known = cases.words(Choice(MODEL, "relevance", ASKED))
    assert (known["unknown"], known["never"], known["text"]) == ([], [], "")
    assert cases.words(Choice(MODEL, "rollout", asked)) is None  # it has no words


def test_a_map_stands_beside_that_of_nonsense(widget, model, table):
    from scipy.stats import spearmanr

    widget.choose(method="gradcam")
    assert widget.wait(30, idle=True)
    scan = rw.data.scan_of(table.iloc[0])
    nonsense = rw.attend.doubt.changes.NONSENSE[0]
    maps = [
        rw.attend.attention_map(model, scan, method="gradcam", target=target).values
        for target in (PAIR, (nonsense, f"no {nonsense}"))
    ]
    # the maps are 160 px; the comparison's grid of 64 averages what hardly changes
    want = spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
    assert widget.views[0]["words"]["nonsense"] == pytest.approx(want, abs=0.03)
    widget.choose(method="rollout")
    assert widget.wait(30, idle=True)
    assert widget.views[0]["words"] is None


def test_a_tokenizer_without_unknown_words_says_nothing(table):
    class Pieces:
        def __call__(self, texts):
            return torch.zeros(len(texts), 4, dtype=int)

    model = dataclasses.replace(rw.models.load(MODEL), tokenizer=Pieces())
    doubtful = rw.explore.vocabulary.doubtful_words(model, "purple bicycle")
    assert doubtful == {"unknown": [], "never": []}


def test_the_tokenizer_of_clip_is_not_taken_for_ours():
    """open_clip's has a method of the name that ours has its words under."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    model = dataclasses.replace(rw.models.load(MODEL), tokenizer=tokenizer)
    doubtful = rw.explore.vocabulary.doubtful_words(model, "purple bicycle")
    assert doubtful == {"unknown": [], "never": []}
    known = rw.pretrain.identity.learnt_from(model, Nothing(), (), ())
    assert "tokenizer" not in known


class Nothing:
    """Rows of nobody."""
