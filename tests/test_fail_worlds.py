"""Claims about planted worlds: the dial is exact, and the arms are what they say."""

import numpy as np
import pandas as pd
import pytest
from fail_films import FINDING, frozen, watch_learning
from scipy.stats import ttest_rel

from radwb import fail
from radwb.fail import worlds
from radwb.fail.frozen import Part

SITES = (("A", 0), ("B", 40), ("C", 20))


@pytest.fixture
def films(monkeypatch):
    return frozen(monkeypatch, sites=SITES)


def arm(world, dial, name):
    rows = world.table
    return rows[(rows["dial"] == dial) & (rows["arm"] == name)]


def test_rows_are_drawn_once_and_at_the_prevalence_asked(films):
    shares = {"A": 0.75, "B": 0.25}
    rows = fail.rows_at(films.table, FINDING, column="site", shares=shares, n=20)
    drawn = films.table.iloc[rows]
    assert len(set(rows)) == len(rows) == 40
    assert drawn.groupby("site")[FINDING].mean().to_dict() == shares
    again = fail.rows_at(films.table, FINDING, column="site", shares=shares, n=20)
    other = fail.rows_at(
        films.table, FINDING, column="site", shares=shares, n=20, seed=1
    )
    assert list(again) == list(rows)
    assert list(other) != list(rows)


def test_zech_s_order_and_the_site_alone_is_the_dial(films):
    """The films are noise: all that can be learnt is how bright a site's films are."""
    world = fail.unequal_groups(films, FINDING, shares=(0.5, 0.9), seeds=3)
    alone = arm(world, 0.9, "group alone")["auroc"]
    internal = arm(world, 0.9, "internal")["auroc"].mean()
    assert np.allclose(alone, 0.9, atol=0.06)  # whole films
    assert internal > 0.75
    for outside in ("balanced", "external"):
        assert arm(world, 0.9, outside)["auroc"].mean() < internal - 0.2
        assert world.comparisons()[0.9, "internal", outside].difference > 0.2
    assert abs(arm(world, 0.5, "internal")["auroc"].mean() - 0.5) < 0.15


def test_all_positions_of_the_dial_get_as_many_films(films):
    world = fail.unequal_groups(films, FINDING, shares=(0.5, 0.8), seeds=2)
    sizes = world.table[world.table["arm"] == "internal"]["n"]
    assert sizes.nunique() == 1


def test_only_a_mark_that_stays_at_home_is_revealed_outside(films):
    world = fail.travelling_mark(films, FINDING, strength=1.0, seeds=3)
    made = world.comparisons()
    left, came = world.order
    assert made["tied mark", *left].verdict == "ahead"
    assert abs(made["tied mark", *came].difference) < 0.15
    assert arm(world, "tied mark", came[1])["auroc"].min() > 0.9
    assert {row.kind for row in world.evidence()} == {"shortcut"}
    assert [row.verdict for row in world.evidence()][0] == "failure"


def test_oakden_rayner_s_order_and_all_is_the_mean_of_both_strata(films):
    world = fail.hidden_drain(films, FINDING, shares=(0.8, 0.0), seeds=2)
    values = world.table.pivot(index=["dial", "seed"], columns="arm", values="auroc")
    tied = values.loc["tied"].mean()
    assert tied["with drain"] > tied["all"] > tied["without drain"]
    # the controls with a drain count in all arms, so the cases' shares are the weights
    cases = world.table.pivot(index=["dial", "seed"], columns="arm", values="positives")
    strata = ["with drain", "without drain"]
    mean = (values[strata] * cases[strata]).sum(axis=1) / cases["all"]
    assert np.allclose(mean, values["all"])


def test_a_lead_is_held_against_the_control_s_by_seed():
    rng = np.random.default_rng(0)
    rows = []
    for dial in ("none", "tied"):
        for seed in range(5):
            for name in ("internal", "external"):
                about = {"dial": dial, "seed": seed, "arm": name}
                rows.append(about | {"auroc": rng.random()})
    table = pd.DataFrame(rows)
    world = worlds.World("x", table, (("internal", "external"),), "none")
    made = world.comparisons()["tied", "internal", "external"]
    wide = table.pivot(index="seed", columns=["dial", "arm"], values="auroc")
    leads = [wide[d]["internal"] - wide[d]["external"] for d in ("tied", "none")]
    assert made.p == pytest.approx(ttest_rel(*leads).pvalue)


def test_planted_tubes_are_read_from_what_was_planted():
    planted = ['[{"kind": "chest tube"}]', '[{"kind": "pacemaker"}]', "[]"]
    table = pd.DataFrame({"planted": planted})
    assert worlds.has_drain(table).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shares": {"Z": 0.5, "A": 0.5}}, "films enough in each of Z, A"),
        ({"shares": {"A": 0.5, "B": 0.5}, "n": 900}, "got .* of 900"),
    ],
)
def test_an_empty_group_is_one_clear_sentence(films, wrong, words):
    with pytest.raises(ValueError, match=words):
        fail.rows_at(films.table, FINDING, column="site", **wrong)


def test_one_class_is_one_clear_sentence(films):
    healthy = np.flatnonzero(films.table[FINDING] == 0)
    with pytest.raises(ValueError, match="with and without Pneumothorax"):
        films.part(healthy, FINDING)


def test_a_patient_on_both_sides_is_refused(films):
    table = films.table.assign(split=np.resize(["train", "test"], len(films.table)))
    with pytest.raises(ValueError, match="patient"):
        fail.FrozenFilms(table, films.start)


def test_films_in_the_store_stay_as_they_are(films):
    rows = films.rows("test")
    before = films.part(rows, FINDING).images
    marked = films.tied(rows, FINDING, 1.0).images
    assert (marked != before).any()
    assert np.array_equal(films.part(rows, FINDING).images, before)


def test_leads_are_one_family_and_each_has_the_control_s_beside_it():
    rng = np.random.default_rng(0)
    means = {"internal": 0.8, "near": 0.7, "far": 0.9}
    rows = []
    for dial in ("none", "some", "tied"):
        for name, mean in means.items():
            for seed in range(3):
                value = mean if dial == "none" else rng.random()
                about = {"dial": dial, "seed": seed, "arm": name}
                rows.append(about | {"auroc": value})
    order = (("internal", "near"), ("internal", "far"))
    world = worlds.World("x", pd.DataFrame(rows), order, "none")
    made = world.comparisons().values()
    assert [comparison.family for comparison in made] == [4] * 4
    controls = [row.control for row in world.evidence()]
    assert controls == pytest.approx([0.1, -0.1] * 2)


@pytest.fixture
def learnt(films, monkeypatch):
    """The patients that each head learns from, as heads are made."""
    return watch_learning(films, monkeypatch)


def test_no_head_learns_of_the_test_or_of_the_site_outside(films, learnt):
    patients = films.table["patient_id"].to_numpy()
    fail.unequal_groups(films, FINDING, shares=(0.5, 0.8), seeds=1)
    fail.hidden_drain(films, FINDING, seeds=1)
    before = len(learnt)
    fail.travelling_mark(films, FINDING, seeds=1)
    assert before == 4
    assert len(learnt) == 6
    for of_head in learnt:
        assert not of_head & set(patients[films.table["split"] == "test"])
    outside = set(patients[films.table["site"] == "C"])
    for of_head in learnt[before:]:
        assert not of_head & outside


def test_no_planted_tube_is_learnt_from_in_the_control(films, learnt):
    patients = films.table["patient_id"].to_numpy()
    treated = set(pd.unique(patients)[::2])
    tube = '[{"kind": "chest tube"}]'
    films.table["planted"] = [tube if p in treated else "[]" for p in patients]
    fail.hidden_drain(films, FINDING, shares=None, seeds=1)
    control, tied = learnt
    everyone = set(patients[films.table["split"] == "train"])
    assert control == everyone - treated
    assert tied == everyone


def test_a_film_that_stands_twice_makes_no_part_surer():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    answers = y + rng.normal(size=60)
    blank = np.zeros((60, 1, 1), np.uint8)
    once = Part(blank, blank, y, np.arange(60)).auroc(answers)
    of_two = (np.repeat(values, 2, axis=0) for values in (blank, blank, y))
    twice = Part(*of_two, np.arange(120) // 2).auroc(np.repeat(answers, 2))
    assert twice["low"] == pytest.approx(once["low"], abs=0.01)
    assert twice["high"] == pytest.approx(once["high"], abs=0.01)
