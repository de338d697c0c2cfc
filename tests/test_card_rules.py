"""The rules of the card, one by one: on rows and films that are made for each."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import radwb as rw
from radwb.card import answers, battery, by_group
from radwb.card.facts import UNKNOWN, DataFacts, ModelFacts
from radwb.card.trial import Trial
from radwb.fail.evidence import Evidence
from radwb.stats.sentence import Comparison

EDEMA = "Edema"


def a_row(**changes):
    row = Evidence(
        "capability", EDEMA, "AUROC", 0.7, 0.6, 0.8, 90, "patients", "measured", "s"
    )
    return replace(row, **changes)


def trial_of(values, *, patients=None, **columns):
    """A Trial of N films with the scores for Edema."""
    table = pd.DataFrame(columns)
    n = len(table)
    table["patient_id"] = range(n) if patients is None else patients
    table["path"] = [f"{film}.png" for film in range(n)]
    scores = rw.probe.Scores.of(np.asarray(values)[:, None], table, [EDEMA])
    return Trial(None, table, table, scores, None)


def of_three_sites(n=150, seed=0):
    rng = np.random.default_rng(seed)
    ill = rng.integers(0, 2, n)
    site = np.resize(["A", "B", "C"], n)
    return ill + rng.normal(size=n), {"site": site, EDEMA: ill}


def test_films_of_no_group_are_none_of_the_others():
    values, columns = of_three_sites()
    scores = trial_of(values, **columns).scores
    names = pd.Series(columns["site"])
    known = (names != "C").to_numpy()
    nameless = by_group.mean_gap(scores, names.where(known, ""), "A", 1)
    pair = scores.values[known], scores.truth[known]
    without = rw.probe.Scores(*pair, scores.patient_id[known])
    alone = by_group.mean_gap(without, names[known], "A", 1)
    assert nameless.difference == pytest.approx(alone.difference)
    assert nameless.low == pytest.approx(alone.low)


def test_the_lowest_group_is_shown_in_the_family_of_all():
    values, columns = of_three_sites()
    trial = trial_of(values, **columns)
    (row,) = by_group.groups(trial)
    gaps = {
        name: by_group.mean_gap(trial.scores, trial.test["site"], name, 3)
        for name in "ABC"
    }
    lowest = min(gaps, key=lambda name: gaps[name].difference)
    assert row.tried == f"site {lowest}, the lowest of 3"
    assert (row.low, row.high) == (gaps[lowest].low, gaps[lowest].high)
    one = by_group.mean_gap(trial.scores, trial.test["site"], lowest, 1)
    assert row.low < one.low


def test_an_all_clear_needs_every_group(monkeypatch):
    """The lowest is surely near; another one may be far behind."""
    ends = {"A": (-0.02, -0.05, 0.01), "B": (0.0, -0.3, 0.3), "C": (0.02, -0.05, 0.1)}

    def gap_of(scores, names, group, family):
        about = {"p": 0.5, "n": 50, "family": family}
        return Comparison(
            (group, "the others"), "mean AUROC of 1", *ends[group], **about
        )

    monkeypatch.setattr(by_group, "mean_gap", gap_of)
    values, columns = of_three_sites()
    (row,) = by_group.groups(trial_of(values, **columns))
    assert row.verdict == "can't tell"
    ends["B"] = (0.0, -0.05, 0.05)
    (row,) = by_group.groups(trial_of(values, **columns))
    assert row.verdict == "no failure seen"


def test_a_film_with_one_of_two_findings_is_not_among_the_well():
    table = pd.DataFrame({"path": list("abcd"), "patient_id": list("abcd")})
    table = table.assign(Edema=[0, 0, 1, 1], Pneumonia=[0, 1, 0, 1])
    scores = rw.probe.Scores.of(np.zeros((4, 2)), table, [EDEMA, "Pneumonia"])
    trial = Trial(None, table, table, scores, None)
    assert by_group._has_none(trial).tolist() == [True, False, False, False]


def test_ages_begin_a_band_with_its_first_year():
    table = pd.DataFrame({"age_years": [17, 18, 39, 40, 64, 65, np.nan]})
    names = by_group.grouped(table)["age"].tolist()
    first, second, third, last = by_group.AGE_NAMES
    assert names == [first, second, second, third, third, last, ""]


@pytest.mark.parametrize("higher", ["A", "B"])
def test_scores_that_follow_a_group_either_way_are_a_shortcut(higher):
    values, columns = of_three_sites(160)
    columns["site"] = np.resize(["A", "B"], 160)
    columns[EDEMA] = np.zeros(160, int)
    values = np.random.default_rng(1).random(160) + (columns["site"] == higher)
    (row,) = by_group.followed(trial_of(values, **columns))
    assert row.verdict == "failure"
    assert (row.value < 0.5) is (higher == "B")  # A is asked for
    (of_one,) = by_group.followed(trial_of(values, patients=["a"] * 160, **columns))
    assert np.isnan(of_one.low)


def test_groups_that_scores_are_asked_for_are_one_family():
    values, columns = of_three_sites()
    columns[EDEMA] = np.zeros(150, int)
    (row,) = by_group.followed(trial_of(values, **columns))
    name = row.tried[len("site ")]
    y = (columns["site"] == name).astype(int)
    expected = rw.stats.clustered_auroc(y, values, range(150), level=1 - 0.05 / 3)
    assert row.value == pytest.approx(expected["auroc"])
    assert (row.low, row.high) == pytest.approx((expected["low"], expected["high"]))


def test_statements_too_low_are_a_failure_too_and_count_patients():
    rng = np.random.default_rng(0)
    stated = rng.random(160)
    ill = (rng.random(160) < stated).astype(int)
    split = np.repeat(["train", "test"], [40, 160])
    table = pd.DataFrame({"split": split, EDEMA: np.r_[np.ones(40, int), ill]})
    trial = replace(trial_of(stated**4, Edema=ill), table=table)
    (row,) = battery.calibration(trial)
    assert row.verdict == "failure"
    assert row.high < 0
    assert row.control == pytest.approx(1 - ill.mean())  # all in training are ill
    of_one = trial_of(stated**4, patients=["a"] * 160, Edema=ill)
    (row,) = battery.calibration(of_one)
    assert np.isnan(row.low)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.05, "no failure seen"),
        (-0.3, 0.05, "can't tell"),
        (-0.05, 0.3, "can't tell"),
        (np.nan, np.nan, "can't tell"),
    ],
)
def test_a_statement_is_near_only_with_both_ends(low, high, verdict):
    row = a_row(kind="calibration", low=low, high=high)
    assert battery._calibrated(row).verdict == verdict


def test_probes_learn_of_the_training_part(monkeypatch):
    values, columns = of_three_sites(30)
    trial = trial_of(values, **columns)
    train = trial.test.assign(split="train", patient_id=range(100, 130))
    table = pd.concat([train, trial.test.assign(split="test")], ignore_index=True)
    test = table[30:].reset_index(drop=True)
    monkeypatch.setattr(
        battery, "embed", lambda model, films: np.zeros((len(films), 2))
    )
    trial = replace(trial, table=table, test=test, embeddings=np.ones((30, 2)))
    films, Z = battery._for_probes(trial)
    assert sorted(films["patient_id"]) == [*range(30), *range(100, 130)]
    asked = (films["split"] == "test").to_numpy()
    assert (Z[asked] == 1).all()
    assert (Z[~asked] == 0).all()


def test_labels_add_to_words_and_features_hold_more_than_pixels(monkeypatch):
    """Words are chance, features are sure, and pixels lie in between."""
    rng = np.random.default_rng(0)
    ill = np.arange(120) % 2
    trial = trial_of(rng.random(120), Edema=ill)
    model = type("Model", (), {"kind": "image-text", "fit": "pad"})()
    trial = replace(trial, model=model, embeddings=np.zeros((120, 2)))
    monkeypatch.setattr(battery, "raw_pixels", lambda *_, **__: np.zeros((120, 2)))

    def probes(features, films, **how):
        made = {}
        for name, noise in ((battery.FEATURES, 0.1), (battery.PIXELS, 2.0)):
            values = ill + rng.normal(0, noise, 120)
            made[name] = [rw.probe.Scores.of(values[:, None], films, [EDEMA])]
        return made

    monkeypatch.setattr(battery, "baselines", probes)
    of_words, of_pixels = battery.labels(trial)
    assert of_words.tried.startswith(f"{battery.IN_WORDS} against {battery.FEATURES}")
    assert of_words.verdict == "measured"
    assert of_words.high < 0
    assert of_pixels.tried.startswith(f"{battery.FEATURES} against {battery.PIXELS}")
    assert of_pixels.verdict == "no failure seen"
    assert of_pixels.low > 0


def said(rows=(), not_tested=(), **films):
    """The answers, as text."""
    about = {"films": 300, "patients": 200, "chosen": "", "parts": ()}
    about |= {"in_two_parts": 0, "findings": (), "age_years": (), "card": {}}
    sites = (("site", "A", 100, 80), ("site", "B", 200, 120))
    facts = DataFacts(**(about | {"groups": sites} | films))
    model = ModelFacts("m", "image", "0", 10, 1.0, "", (), "MIT", (), None, None, None)
    made = answers.answered(model, facts, list(rows), list(not_tested))
    return "\n".join(f"{answer.question}: {answer.answer}" for answer in made)


@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [
        (-0.3, -0.1, "with them a probe is better"),
        (-0.3, 0.1, "Can't say whether labels would help"),
        (0.1, 0.3, "labels for a probe added nothing"),
    ],
)
def test_labels_are_advised_where_they_surely_help(low, high, advice):
    tried = f"{battery.IN_WORDS} against {battery.FEATURES}"
    assert advice in said([a_row(tried=tried, low=low, high=high)])


@pytest.mark.parametrize(
    ("verdict", "advice"),
    [
        ("no failure seen", "Its features hold what bare pixels don't"),
        ("failure", "bare pixels are better"),
        ("can't tell", "can't be told from bare pixels"),
    ],
)
def test_features_are_a_reason_where_they_surely_hold_more(verdict, advice):
    tried = f"{battery.FEATURES} against {battery.PIXELS}"
    assert advice in said([a_row(tried=tried, verdict=verdict)])


def test_a_finding_is_told_where_its_interval_says_so():
    text = said([a_row(), a_row(tried="Mass", value=0.6, low=0.45)])
    assert (
        "It tells 1 of 2 findings from films without. Not told for sure: Mass." in text
    )


def test_only_what_fails_is_counted_as_a_failure():
    verdicts = ("failure", "can't tell", "measured", "no failure seen")
    rows = [a_row(kind="group", tried=v, verdict=v) for v in verdicts]
    assert "Failures in 1 of 4 things tried: group 1." in said(rows)
    assert "No failure was found" in said(rows[1:])


def test_few_sites_patients_and_no_licence_are_told():
    few = "what befalls one in a hundred can't be seen"
    one = (("site", "A", 300, 200), ("view", "AP", 300, 200))
    assert "One site at most" not in said()
    assert "One site at most" in said(groups=one)
    assert few not in said()
    assert few not in said(patients=100, films=100)
    assert f"99 patients: {few}" in said(patients=99)
    assert UNKNOWN in said()  # neither minutes nor energy
