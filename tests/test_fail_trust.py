"""Claims about trust: sets hold what they promise, strangers are seen, doubt helps."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mapie.metrics.classification import (
    classification_coverage_score,
    classification_mean_width_score,
)
from scipy.special import expit, logit
from sklearn.neighbors import NearestNeighbors
from tables import noise_films, patients_table

import radwb as rw

FINDING = "Lung Lesion"


def scores_of(patients, *, seed=0, shift=0.0, share=0.3, prefix="p", signal=1.0):
    """Probabilities that are calibrated where `shift` is 0; two films of one are alike.

    The logit of a film's probability is that of its class, shifted by `shift`.
    """
    table = patients_table(patients, {FINDING: share}, seed=seed)
    rng = np.random.default_rng(seed + 1)
    patient = table["patient_id"].str[1:].astype(int).to_numpy()
    y = table[FINDING].to_numpy()
    own = rng.normal(0, 1, patients)[patient] + rng.normal(0, 1, len(table))
    evidence = signal * (2 * y - 1) * np.sqrt(2) + own  # variance 2
    stated = expit(np.sqrt(2) * signal * evidence + logit(share) + shift)
    owners = prefix + table["patient_id"].astype(str)
    truth = pd.DataFrame({FINDING: y.astype(float)})
    return rw.probe.Scores(pd.DataFrame({FINDING: stated}), truth, owners)


def by_hand(calibration, scores, level, seed=0):
    chosen = rw.fail.one_film_each(calibration.patient_id, seed=seed)
    p = calibration.values[FINDING].to_numpy()[chosen]
    y = calibration.truth[FINDING].to_numpy()[chosen]
    unlike = np.where(y == 1, 1 - p, p)
    rank = int(np.ceil((len(unlike) + 1) * level))
    limit = np.sort(unlike)[rank - 1]
    asked = scores.values[FINDING].to_numpy()
    return np.column_stack([asked, 1 - asked]) <= limit


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_sets_and_coverage_by_hand_are_mapie_s(level):
    calibration = scores_of(80, prefix="c")
    scores = scores_of(60, seed=5)
    sets = rw.fail.prediction_sets(calibration, scores, level=level)
    np.testing.assert_array_equal(sets, by_hand(calibration, scores, level))
    y = scores.truth[FINDING].to_numpy().astype(int)
    (row,) = rw.fail.coverage({"films": (scores, sets)}, level=level).table.to_dict(
        "records"
    )
    assert row["coverage"] == classification_coverage_score(y, sets[:, :, None])[0]
    assert row["size"] == classification_mean_width_score(sets[:, :, None])[0]
    assert row["coverage"] == sets[np.arange(len(y)), y].mean()


def test_the_promise_is_kept_on_average_over_calibrations():
    covered = []
    for seed in range(40):
        calibration = scores_of(60, seed=2 * seed, prefix="c")
        scores = scores_of(200, seed=1000 + 2 * seed)
        sets = rw.fail.prediction_sets(calibration, scores, level=0.8)
        table = rw.fail.coverage({"films": (scores, sets)}, level=0.8).table
        covered.append(table["coverage"][0])
    error = np.std(covered) / np.sqrt(40)
    assert 0.8 - 3 * error < np.mean(covered) < 0.8 + 1 / 61 + 3 * error


def joined(a, b):
    values = pd.concat([a.values, b.values], ignore_index=True)
    truth = pd.concat([a.truth, b.truth], ignore_index=True)
    return rw.probe.Scores(values, truth, np.concatenate([a.patient_id, b.patient_id]))


def test_the_sick_are_left_out_until_the_sets_are_made_by_label():
    calibration = scores_of(600, prefix="c", share=0.15)
    scores = scores_of(600, seed=5, share=0.15)
    names = np.where(scores.truth[FINDING] == 1, "sick", "well")
    covered = {}
    for by_label in (False, True):
        sets = rw.fail.prediction_sets(calibration, scores, by_label=by_label)
        result = rw.fail.coverage({"films": (scores, sets)}, groups={"films": names})
        covered[by_label] = result.table.set_index("group")["coverage"]
        verdicts = [row.verdict for row in result.evidence()]
        assert ("failure" in verdicts) != by_label
    assert covered[False]["all films"] > 0.87
    assert covered[False]["sick"] < 0.75
    assert covered[True]["sick"] > 0.85


def test_a_group_without_coverage_is_mended_by_its_own_sets():
    easy = scores_of(400, prefix="ce", signal=1.5), scores_of(400, seed=3, prefix="e")
    hard = scores_of(150, seed=1, prefix="ch", signal=0.4, shift=2), None
    hard = hard[0], scores_of(150, seed=4, prefix="h", signal=0.4, shift=2)
    calibration = joined(easy[0], hard[0])
    scores = joined(scores_of(400, seed=3, prefix="e", signal=1.5), hard[1])
    names = []
    for part in (calibration, scores):
        names.append([str(owner).strip("c")[0] for owner in part.patient_id])
    pooled = rw.fail.prediction_sets(calibration, scores)
    own = rw.fail.prediction_sets(calibration, scores, groups=tuple(names))
    films = {"pooled": (scores, pooled), "own": (scores, own)}
    groups = dict.fromkeys(films, names[1])
    table = rw.fail.coverage(films, groups=groups).table
    covered = table.set_index(["films", "group"])["coverage"]
    assert covered["pooled", "all films"] > 0.85
    assert covered["pooled", "h"] < 0.75
    assert covered["own", "h"] > 0.85
    alone = rw.fail.prediction_sets(hard[0], hard[1], seed=0)
    inside = np.array(names[1]) == "h"
    same = (own[inside] == alone).mean()  # but for the film that stands for a patient
    assert same > 0.95


def test_a_shift_breaks_the_promise_and_the_evidence_says_so():
    calibration = scores_of(300, prefix="c")
    films = {}
    for name, shift in (("as they are", 0), ("shifted", -4)):
        scores = scores_of(300, seed=5, shift=shift)
        films[name] = scores, rw.fail.prediction_sets(calibration, scores)
    result = rw.fail.coverage(films)
    plain, shifted = result.evidence()
    assert (plain.kind, plain.verdict) == ("coverage", "can't tell")
    assert shifted.verdict == "failure"
    assert "is behind the promised 90%" in shifted.sentence


def test_a_controlled_threshold_keeps_its_promise_as_often_as_it_says():
    broken = 0
    for seed in range(30):
        calibration = scores_of(500, seed=2 * seed, prefix="c")
        threshold = rw.fail.controlled_threshold(calibration, sensitivity=0.8)
        scores = scores_of(2000, seed=1001 + 2 * seed)
        cases = scores.values[FINDING][scores.truth[FINDING] == 1]
        broken += (cases >= threshold).mean() < 0.8
    assert broken <= 6  # one of ten is allowed; more than 6 of 30 by chance: 3 %
    few = scores_of(12, prefix="c")
    assert np.isnan(rw.fail.controlled_threshold(few, sensitivity=0.99))


def test_one_film_of_each_patient():
    patients = np.array([*"aabccc", None])
    among = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    chosen = rw.fail.one_film_each(patients, among)
    assert sorted(patients[chosen]) == ["a", "c"]
    drawn = [tuple(rw.fail.one_film_each(patients, seed=s)) for s in range(20)]
    assert len(set(drawn)) == 6


def test_sets_refuse_shared_patients_and_too_few_of_them():
    scores = scores_of(30)
    with pytest.raises(ValueError, match="30 on both sides"):
        rw.fail.prediction_sets(scores, scores)
    with pytest.raises(ValueError, match="at least 19 patients .* got 5"):
        rw.fail.prediction_sets(scores_of(5, prefix="c"), scores, level=0.95)
    names = ["A"] * len(scores.values)
    elsewhere = scores_of(30, prefix="c")
    others = ["B"] * len(names)
    with pytest.raises(ValueError, match=r"at least 9 patients .*\(B\), got 0"):
        rw.fail.prediction_sets(elsewhere, scores, groups=(names, others))
    unlabelled = rw.probe.Scores(scores.values, scores.truth * np.nan, names)
    with pytest.raises(ValueError, match="expected films with a label"):
        rw.fail.coverage({"films": (unlabelled, np.ones((len(names), 2), bool))})


def test_a_group_of_one_patient_has_coverage_without_an_interval():
    scores = scores_of(30)
    sets = np.ones((len(scores.values), 2), bool)
    names = np.where(scores.patient_id == "pp0", "one", "rest")
    result = rw.fail.coverage({"films": (scores, sets)}, groups={"films": names})
    row = result.table.set_index("group").loc["one"]
    assert np.isnan(row["low"])
    assert row["note"] == "no interval: 1 patient"
    verdicts = {row.tried: row.verdict for row in result.evidence()}
    assert verdicts["sets that promise 90%, films, one"] == "can't tell"


def points(n, *, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(0, 1, (n, 8)) + np.array([4, *[0] * 7])
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def test_the_library_s_distances_are_those_of_notebook_5():
    reference, asked = points(200), points(50, seed=1)
    far = rw.fail.strangeness(reference, asked, k=7)
    nearest = NearestNeighbors(n_neighbors=7).fit(reference)
    expected = nearest.kneighbors(asked)[0][:, -1]
    np.testing.assert_allclose(far["k-th neighbour"], expected, rtol=1e-4)
    middle = reference - reference.mean(0)
    away = asked - reference.mean(0)
    inverse = np.linalg.inv(middle.T @ middle + 1e-6 * np.eye(8))
    squared = (away @ inverse * away).sum(1)
    np.testing.assert_allclose(far["Mahalanobis"], squared / 2, rtol=1e-2)


def test_the_energy_of_findings_that_go_together_is_summed():
    logits = np.array([[0.0, 3.0], [-9.0, -9.0]])
    far = rw.fail.strangeness(points(20), points(2), logits=logits)
    expected = -np.log1p(np.exp(logits)).sum(axis=1)
    np.testing.assert_allclose(far["energy"], expected)


def test_the_strange_are_told_and_the_control_is_a_half():
    reference = points(300)
    known = rw.fail.strangeness(reference, points(200, seed=1))
    strange = rw.fail.strangeness(reference, -points(40, seed=2))
    alike = rw.fail.strangeness(reference, points(100, seed=3))
    owners = [f"o{i}" for i in range(200)]
    unknown = {
        "strange": (strange, [f"s{i}" for i in range(40)]),
        "alike": (alike, [f"a{i}" for i in range(100)]),
        "one patient": (strange, ["s"] * 40),
    }
    report = rw.fail.unknown_report(known, owners, unknown)
    verdicts = {row.tried: row.verdict for row in report.evidence()}
    assert verdicts == {
        "strange": "no failure seen",
        "alike": "failure",
        "one patient": "can't tell",
    }
    rows = report.table.set_index(["films", "detector"])
    assert rows.loc[("strange", "k-th neighbour"), "caught"] == 1
    assert rows.loc[("alike", "k-th neighbour"), "caught"] < 0.15
    assert all(0.4 < chance < 0.6 for chance in report.chance.values())
    with pytest.raises(ValueError, match="expected a detector of k-th neighbour"):
        report.evidence("energy")
    with pytest.raises(ValueError, match="got 200 known and \\[0\\] unknown"):
        rw.fail.unknown_report(known, owners, {"none": (alike[:0], [])})
    with pytest.raises(ValueError, match="expected 5 reference films"):
        rw.fail.strangeness(reference[:3], reference)


def unknown_of(kinds, *, seed=0, apart=1.19):
    """A report of normal distances; at 1.19 the true AUROC is 0.8."""
    rng = np.random.default_rng(seed)

    def distances(mean):
        return pd.DataFrame({"k-th neighbour": rng.normal(mean, 1, 100)})

    films = {}
    for kind in range(kinds):
        owners = [f"{kind} {i}" for i in range(100)]
        films[str(kind)] = distances(apart), owners
    known = distances(0)
    return known, films, rw.fail.unknown_report(known, range(100), films)


def test_kinds_of_unknown_films_are_one_family():
    told = []
    for seed in range(60):
        *_, report = unknown_of(5, seed=seed)
        verdicts = {row.verdict for row in report.evidence()}
        told.append(verdicts != {"can't tell"})
    assert np.mean(told) < 0.1  # 0.05 is meant, each by itself at 95 % gives 0.2


def test_an_interval_of_one_of_several_kinds_is_wider_and_says_so():
    known, films, report = unknown_of(5)
    row = report.table.iloc[0]
    (far, owners) = films["0"]
    values = pd.concat([known, far])["k-th neighbour"].to_numpy()
    pair = np.repeat([0, 1], 100), values, [*range(100), *owners]
    expected = rw.stats.clustered_auroc(*pair, level=0.99)
    assert row[["low", "high"]].tolist() == [expected["low"], expected["high"]]
    assert "one of 5 comparisons" in report.evidence()[0].sentence
    *_, alone = unknown_of(1)
    assert "comparisons" not in alone.evidence()[0].sentence


def test_strangers_keep_their_owners(monkeypatch):
    def nothing_here(*args, **settings):
        raise rw.data.FetchError("not here")

    monkeypatch.setattr("radwb.data.fetch", nothing_here)
    monkeypatch.setattr("radwb.data.real", nothing_here)
    images = noise_films(6)
    films = rw.fail.unknown_films(images, list("aabbcc"), model=None)
    assert list(films) == ["mirrored films", "inverted films", "noise"]
    mirrored, owners = films["mirrored films"]
    assert list(owners) == list("aabbcc")
    np.testing.assert_array_equal(mirrored[:, :, 0], images[:, :, -1])
    inverted, _ = films["inverted films"]
    assert ((inverted.astype(int) + images) == 255).all()


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    with pytest.raises(ImportError, match=r"radwb\[fail\]"):
        rw.fail.strangeness(points(20), points(2))


def test_refusing_the_least_sure_leaves_fewer_mistakes_by_hand():
    on = scores_of(300, prefix="c")
    scores = scores_of(400, seed=5)
    result = rw.fail.abstention(on, {"films": scores}, shares=(1.0, 0.6))
    every, some = result.table.to_dict("records")
    p = scores.values[FINDING].to_numpy()
    y = scores.truth[FINDING].to_numpy()
    wrong = (p > 0.5) != (y == 1)
    assert (every["answered"], every["risk"]) == (1, wrong.mean())
    sure = np.abs(on.values[FINDING] - 0.5)
    limit = np.sort(sure)[int(np.ceil(0.4 * (len(sure) - 1)))]
    kept = np.abs(p - 0.5) >= limit
    assert some["answered"] == kept.mean()
    assert some["risk"] == wrong[kept].mean()
    assert some["missed"] == wrong[kept & (y == 1)].mean()
    assert some["risk"] < every["risk"] - 0.05
    (row,) = result.evidence()
    assert row.verdict == "no failure seen"


def test_a_model_that_is_sure_where_it_is_wrong_fails():
    scores = scores_of(400)
    y = scores.truth[FINDING]
    p = scores.values[FINDING]
    turned = np.where((p > 0.5) == (y == 1), 0.5 + (p - 0.5) / 10, p)
    sure = rw.probe.Scores(
        pd.DataFrame({FINDING: turned}), scores.truth, scores.patient_id
    )
    (row,) = rw.fail.abstention(sure, {"films": sure}).evidence()
    assert row.verdict == "failure"
    assert row.kind == "calibration"


def test_doubt_needs_probabilities_that_differ():
    scores = scores_of(30)
    same = rw.probe.Scores(0 * scores.values, scores.truth, scores.patient_id)
    with pytest.raises(ValueError, match="that differ, got .* and 1 different values"):
        rw.fail.abstention(same, {"films": scores})
    unlabelled = rw.probe.Scores(
        scores.values, np.nan * scores.truth, scores.patient_id
    )
    with pytest.raises(ValueError, match="got 0 labels"):
        rw.fail.abstention(scores, {"films": unlabelled})


def test_a_film_without_a_score_is_told_and_switches_no_limit_off():
    scores = scores_of(60)
    others = scores_of(60, prefix="c")
    values = scores.values.copy()
    values.loc[[0, 3], FINDING] = np.nan
    holed = rw.probe.Scores(values, scores.truth, scores.patient_id)
    fail = rw.fail
    asks = (
        lambda: fail.operating_points(holed),
        lambda: fail.abstention(holed, {"films": others}),
        lambda: fail.abstention(others, {"films": holed}),
        lambda: fail.controlled_threshold(holed),
        lambda: fail.prediction_sets(holed, others),
        lambda: fail.prediction_sets(others, holed),
    )
    for ask in asks:
        with pytest.raises(ValueError, match="expected a score for each .* got 2 NaN"):
            ask()
    truth = scores.truth.copy()
    truth.loc[[0, 3], FINDING] = np.nan  # who isn't asked needs no score
    unasked = rw.probe.Scores(values, truth, scores.patient_id)
    assert np.isfinite(fail.operating_points(unasked)[FINDING])
    assert fail.prediction_sets(unasked, others, level=0.5).any()


def repeated(scores, times):
    """Each film so many times, of the same patient."""
    rows = np.repeat(np.arange(len(scores.values)), times)
    values = scores.values.iloc[rows].reset_index(drop=True)
    truth = scores.truth.iloc[rows].reset_index(drop=True)
    return rw.probe.Scores(values, truth, scores.patient_id[rows])


def one_each(patients, *, seed=0, prefix="p"):
    scores = scores_of(patients, seed=seed, prefix=prefix)
    rows = np.flatnonzero(rw.fail.one_film_each(scores.patient_id))
    values = scores.values.iloc[rows].reset_index(drop=True)
    truth = scores.truth.iloc[rows].reset_index(drop=True)
    return rw.probe.Scores(values, truth, scores.patient_id[rows])


def test_a_controlled_threshold_is_the_highest_and_counts_patients():
    calibration = one_each(300, prefix="c")
    threshold = rw.fail.controlled_threshold(calibration, sensitivity=0.8)
    cases = calibration.values[FINDING][calibration.truth[FINDING] == 1]
    assert 0.8 < (cases >= threshold).mean() < 0.95
    often = repeated(calibration, 10)
    assert rw.fail.controlled_threshold(often, sensitivity=0.8) == threshold


def test_all_promises_that_are_checked_together_are_one_family():
    scores = scores_of(60)
    sets = np.ones((len(scores.values), 2), bool)
    films = {"one": (scores, sets), "other": (scores, sets)}
    names = np.where(scores.truth[FINDING] == 1, "sick", "well")
    groups = dict.fromkeys(films, names)
    gaps = rw.fail.coverage(films, groups=groups).gaps
    assert {gap.family for gap in gaps.values()} == {len(gaps)} == {6}
    answers = rw.fail.abstention(scores, {"one": scores, "other": scores})
    assert [gap.family for gap in answers.gaps.values()] == [2, 2]


def test_what_is_refused_and_wrong_is_told_from_the_threshold_and_by_patient():
    scores = scores_of(200)
    p = scores.values[FINDING].to_numpy()
    y = scores.truth[FINDING].to_numpy()
    about = {"shares": (1.0,), "threshold": 0.2}
    (row,) = rw.fail.abstention(scores, {"x": scores}, **about).table.to_dict("records")
    assert row["risk"] == ((p > 0.2) != (y == 1)).mean()
    of_one = rw.probe.Scores(scores.values, scores.truth, ["a"] * len(p))
    (row,) = rw.fail.abstention(scores, {"x": of_one}, **about).table.to_dict("records")
    assert np.isnan(row["low"])


def test_what_is_caught_is_by_patient_and_the_control_is_two_halves():
    """With two known patients, one that lies nearer, halves are told for sure."""
    known = pd.DataFrame({"Mahalanobis": [1.0, 1.1, 3.0, 3.1]})
    far = pd.DataFrame({"Mahalanobis": np.arange(30.0)})
    report = rw.fail.unknown_report(known, list("aabb"), {"x": (far, ["s"] * 30)})
    assert report.chance["Mahalanobis"] in (0, 1)
    assert np.isnan(report.table["caught_low"][0])
    many = rw.fail.unknown_report(known, list("aabb"), {"x": (far, range(30))})
    assert many.table["caught_low"][0] > 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axial_slices_lie_across_the_way_from_foot_to_head(monkeypatch, axis):
    asked = []

    def cut(along, i, window):
        asked.append(along)
        return SimpleNamespace(pixels=np.zeros((8, 8), np.float32))

    affine = np.zeros((4, 4))
    affine[2, axis] = -3.0
    volume = SimpleNamespace(affine=affine, shape=(40, 40, 40), slice=cut)
    monkeypatch.setattr("radwb.data.fetch", lambda name: Path(name))
    monkeypatch.setattr("radwb.data.read", lambda path: volume)
    monkeypatch.setattr("radwb.data.to_input", lambda pixels, size: pixels)
    rw.fail.unknown._ct_slices(8)
    assert set(asked) == {axis}
