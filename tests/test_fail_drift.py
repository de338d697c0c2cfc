"""Claims about drift: alarms come with a change, and foretelling needs calibration."""

import sys

import numpy as np
import pandas as pd
import pytest
from river import drift as river_drift
from scipy.special import expit

from radwb import fail, probe, stats
from radwb.fail import drift


def films(n, shift=0.0, seed=0, E=12):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, E)) + shift


def named(n, each=1):
    """Owners of n films, `each` of one patient."""
    return [f"p{film // each:04}" for film in range(n)]


def scores_of(p, y, patients=None):
    patients = range(len(y)) if patients is None else patients
    values = pd.DataFrame({"Edema": p})
    truth = pd.DataFrame({"Edema": np.asarray(y, float)})
    return probe.Scores(values, truth, [f"p{owner}" for owner in patients])


def test_a_great_change_is_noticed_by_all_and_no_change_is_none():
    before = films(200, seed=1)
    short = {"t0": 100, "length": 200, "seeds": 4}
    short["patients"] = named(200), named(200)
    changed = fail.watch_drift(films(200), before, before + 3, **short)
    summary = changed.summary().set_index("detector")
    assert (summary["noticed"] + summary["false_alarm"] == 1).all()
    assert (summary["delay"] < 40).all()
    same = fail.watch_drift(films(200), before, before, **short).table
    late = same["alarm"].notna()
    assert (late == same["calm_alarm"]).all()


@pytest.mark.parametrize("each", [1, 5])
def test_the_window_s_false_alarms_are_those_it_was_set_to(each):
    """However many films a patient has, and all of them alike."""
    calm = []
    for seed in range(60):
        alike = np.repeat(films(350 // each, seed=seed), each, axis=0)
        alike = alike + 0.3 * films(350, seed=1000 + seed)
        reference, before = alike[:250], alike[250:]
        how = {"t0": 50, "length": 100, "seeds": 1, "detectors": ["window"]}
        how["patients"] = named(250, each), named(100, each)
        result = fail.watch_drift(reference, before, before, **how)
        calm.append(result.table["calm_alarm"].item())
    low, high = stats.wilson(sum(calm), len(calm))
    assert low < 0.05 < high + 0.03


def test_an_alarm_comes_within_a_stream_that_is_shorter_than_the_window():
    before = films(20, seed=1)
    how = {"t0": 10, "length": 20, "seeds": 2, "detectors": ["window"]}
    owners = named(40), named(20)
    result = fail.watch_drift(films(40), before, before + 9, patients=owners, **how)
    assert result.table["alarm"].tolist() == [19, 19]
    assert result.table["delay"].tolist() == [9, 9]


@pytest.mark.parametrize(
    ("noticed", "calm", "n", "verdict"),
    [
        (0, 0, 20, "failure"),
        (0, 0, 2, "can't tell"),
        (2, 0, 2, "can't tell"),
        (20, 1, 20, "no failure seen"),
        (20, 20, 20, "can't tell"),
        (12, 0, 20, "can't tell"),
    ],
)
def test_who_notices_nothing_fails_and_two_streams_tell_nothing(
    noticed, calm, n, verdict
):
    table = pd.DataFrame({"detector": "x", "seed": range(n), "alarm": np.nan})
    table["false_alarm"] = False
    table["delay"] = np.where(np.arange(n) < noticed, 5.0, np.nan)
    table["calm_alarm"] = np.arange(n) < calm
    row = drift.Drift(table, 30).evidence()[0]
    assert row.verdict == verdict
    assert (row.low, row.high) == stats.wilson(noticed, n)
    assert row.low < row.high


def test_what_a_film_is_strange_by_is_fair_to_films_that_were_not_fitted():
    """Fitted and scaled on the same films, unseen ones would all look strange."""
    spread = np.logspace(0, 2, 60)  # so unequal that little is shrunk
    reference = spread * films(200, E=60)
    strange = drift.strangeness(reference)
    assert strange(reference[1::2]).mean() == pytest.approx(0)
    assert strange(reference[1::2]).std() == pytest.approx(1)
    assert abs(strange(spread * films(2000, seed=5, E=60)).mean()) < 0.4
    assert strange(reference[::2]).mean() < -0.2


def test_page_hinkley_is_rivers():
    reference, before = films(120), films(80, seed=1)
    after = before + 1
    how = {"t0": 40, "length": 80, "seeds": 2, "detectors": ["page-hinkley"]}
    how["patients"] = named(120), named(80)
    result = fail.watch_drift(reference, before, after, **how)
    strange = drift.strangeness(reference)
    for seed, row in result.table.set_index("seed").iterrows():
        rng = np.random.default_rng(seed)
        order = rng.permutation(rng.permutation(80))
        stream = np.concatenate([before[order[:40]], after[order[40:]]])
        detector = river_drift.PageHinkley()
        alarm = np.nan
        for value in strange(reference[1::2]):
            detector.update(value)
        for film, value in enumerate(strange(stream)):
            detector.update(value)
            if detector.drift_detected:
                alarm = film
                break
        np.testing.assert_equal(row["alarm"], alarm)


def test_evidence_of_drift_says_how_late_and_what_calm_streams_do():
    before = films(120, seed=1)
    how = {"t0": 50, "length": 100, "seeds": 3, "detectors": ["window"]}
    how["patients"] = named(120), named(120)
    result = fail.watch_drift(films(120), before, before + 3, **how)
    noticed, delay = result.evidence()
    assert noticed.verdict in ("no failure seen", "can't tell")
    assert noticed.control == result.table["calm_alarm"].mean()
    assert delay.value == result.table["delay"].mean()
    assert (delay.n, delay.unit) == (result.table["delay"].notna().sum(), "seeds")


def test_expected_auroc_is_the_mean_over_labels_that_were_drawn():
    rng = np.random.default_rng(0)
    p = rng.random(40).round(1)
    won = pairs = 0.0
    for i in range(40):
        for j in range(40):
            weight = p[i] * (1 - p[j]) * (i != j)
            pairs += weight
            won += weight * ((p[i] > p[j]) + 0.5 * (p[i] == p[j]))
    assert fail.expected_auroc(p) == pytest.approx(won / pairs)
    drawn = [stats.auroc(rng.random(40) < p, p) for _ in range(2000)]
    assert fail.expected_auroc(p) == pytest.approx(np.mean(drawn), abs=0.01)
    assert np.isnan(fail.expected_auroc([0.0, 0.0]))
    assert fail.expected_auroc([0.3, 0.3, 0.3]) == pytest.approx(0.5)


def drawn(n, seed, slope=1.0, wrong=0.0):
    """Scores whose log odds are `slope` times too high, some labels wrong."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, n)
    y = rng.random(n) < expit(odds)
    y = np.where(rng.random(n) < wrong, ~y, y)
    return scores_of(expit(slope * odds), y)


def test_performance_is_foretold_where_calibration_holds_and_only_there():
    reference = drawn(1500, 0, slope=3)  # far too sure of itself: calibrated away
    parts = {"as before": drawn(1500, 1, slope=3), "worse": drawn(1500, 2, 3, 0.25)}
    result = fail.foretell(reference, parts)
    rows = result.table.set_index("part")
    before = rows.loc["as before"]
    assert before["foretold_accuracy"] == pytest.approx(before["accuracy"], abs=0.03)
    assert before["low"] < before["foretold_auroc"] < before["high"]
    (worse,) = result.evidence()
    assert worse.verdict == "failure"
    assert worse.value > 0.1 > abs(worse.control)


def test_what_cannot_be_watched_says_so(monkeypatch):
    before = films(40)
    owners = {"patients": (named(40), named(40))}
    with pytest.raises(ValueError, match="the same films before and"):
        fail.watch_drift(before, before, before[:5], **owners)
    with pytest.raises(ValueError, match="Try length=40, t0=20"):
        fail.watch_drift(before, before, before, **owners)
    short = {"t0": 10, "length": 20, "seeds": 2}
    for unfit in (named(39), [None, *named(39)], named(40, each=5)):
        with pytest.raises(ValueError, match="a patient_id for each film, and 10"):
            fail.watch_drift(
                before, before, before, patients=(unfit, named(40)), **short
            )
    short |= owners
    with pytest.raises(ValueError, match="expected detectors of"):
        fail.watch_drift(before, before, before, detectors=["nose"], **short)
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(ImportError, match=r"pip install 'radwb\[fail\]'"):
        fail.watch_drift(before, before, before, detectors=["adwin"], **short)


def test_what_cannot_be_foretold_says_so():
    p = np.linspace(0.1, 0.9, 12)
    both = scores_of(p, np.arange(12) % 2)
    with pytest.raises(ValueError, match="got 12 films of one kind"):
        fail.foretell(scores_of(p, np.ones(12)), {"now": both})
    with pytest.raises(ValueError, match="'now', got 12 without"):
        fail.foretell(both, {"now": scores_of(p, np.full(12, np.nan))})
    constant = scores_of(np.full(12, 0.3), np.arange(12) % 2)
    row = fail.foretell(constant, {"now": constant}).table.iloc[0]
    assert row["foretold_auroc"] == pytest.approx(0.5)
    alone = scores_of(p, np.arange(12) % 2, patients=[0] * 12)
    (evidence,) = fail.foretell(both, {"before": both, "now": alone}).evidence()
    assert "no interval" in evidence.sentence


def test_detectors_are_one_family_and_no_delay_lies_below_zero():
    rows = []
    for detector in ("x", "y"):
        for seed in range(20):
            about = {"detector": detector, "seed": seed, "alarm": 30.0}
            about |= {"false_alarm": False, "calm_alarm": False}
            rows.append(about | {"delay": 300.0 * (seed == 0)})
    result = drift.Drift(pd.DataFrame(rows), 30)
    noticed, delay, *_ = result.evidence()
    assert (noticed.low, noticed.high) == stats.wilson(20, 20, level=0.975)
    assert delay.low == 0 < delay.high
    assert (result.summary()["low"] == 0).all()


def test_an_alarm_at_the_first_changed_film_is_no_false_one(monkeypatch):
    for alarm, false, delay in ((9, True, np.nan), (10, False, 0), (12, False, 2)):
        monkeypatch.setattr(
            drift, "_watcher", lambda *_, alarm=alarm: lambda stream, seed: alarm
        )
        how = {"t0": 10, "length": 20, "seeds": 2, "detectors": ["window"]}
        how["patients"] = named(20), named(20)
        table = fail.watch_drift(films(20), films(20), films(20), **how).table
        assert (table["false_alarm"] == false).all()
        np.testing.assert_array_equal(table["delay"], [delay] * 2)


def test_what_is_foretold_together_is_one_family():
    rng = np.random.default_rng(0)
    p = rng.random(80)
    scores = scores_of(p, rng.random(80) < p)
    made = fail.foretell(scores, {"one": scores, "other": scores}).comparisons
    assert [comparison.family for comparison in made.values()] == [2, 2]
