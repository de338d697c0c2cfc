"""Claims about groups: the report agrees with fairlearn, a planted gap is found."""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, true_negative_rate, true_positive_rate
from sklearn.metrics import brier_score_loss, roc_auc_score
from tables import patients_table

import radwb as rw
from radwb.fail import fairness
from radwb.fail.fairness import METRICS
from radwb.stats import clustered_mean
from radwb.stats.shares import share_against, share_gap, two_sided_p

FINDING = "Pneumothorax"


def cohort_of(patients, *, worse="", seed=0):
    """A table and probabilities; in the group `worse` they say little of the truth."""
    table = patients_table(patients, {FINDING: 0.4, "Edema": 0.3}, seed=seed)
    rng = np.random.default_rng(seed)
    sexes = rng.choice(["F", "M"], patients)
    sites = rng.choice(["A", "B", "C"], patients)
    ages = rng.integers(20, 90, patients)
    patient = table["patient_id"].str[1:].astype(int)
    table["sex"], table["site"] = sexes[patient], sites[patient]
    table["age_years"] = ages[patient]
    values = {}
    for finding in (FINDING, "Edema"):
        signal = np.where(table["sex"] == worse, 0.3, 2.0)
        logit = signal * (2 * table[finding] - 1) + rng.normal(0, 1, len(table))
        values[finding] = 1 / (1 + np.exp(-logit))
    scores = rw.probe.Scores.of(
        np.column_stack(list(values.values())), table, list(values)
    )
    return table, scores


def test_every_cell_is_what_fairlearn_and_scikit_learn_say():
    table, scores = cohort_of(120)
    by = ["sex", "site"]
    report = rw.fail.group_report(scores, table, by=[tuple(by)], threshold=0.6)
    y = table[FINDING]
    p = scores.values[FINDING]
    called = {"y_true": y, "y_pred": p > 0.6, "sensitive_features": table[by]}
    stated = {"y_true": y, "y_pred": p, "sensitive_features": table[by]}
    rates = {"sensitivity": true_positive_rate, "specificity": true_negative_rate}
    scored = {"AUROC": roc_auc_score, "Brier score": brier_score_loss}
    frames = MetricFrame(metrics=rates, **called), MetricFrame(metrics=scored, **stated)
    expected = pd.concat([frame.by_group for frame in frames], axis=1)
    expected.index = [", ".join(names) for names in expected.index]
    ours = report.table.pivot(index="group", columns="metric", values="value")
    pd.testing.assert_frame_equal(
        ours[list(expected)], expected, check_names=False, check_dtype=False
    )


def test_a_false_no_finding_is_a_sick_patient_in_whom_nothing_is_called():
    table = pd.DataFrame({"patient_id": list("abcdef"), "sex": list("FFFMMM")})
    truth = pd.DataFrame({"A": [1, 1, 0, 1, 0, 0], "B": [0, 0, 1, 0, 1, 0]})
    called = pd.DataFrame({"A": [0, 0.9, 0, 0, 0, 0.9], "B": [0.9, 0, 0, 0, 0, 0]})
    scores = rw.probe.Scores(called, truth, table["patient_id"])
    report = rw.fail.group_report(
        scores, table, by=["sex"], threshold=0.5, shuffles=1, finding="A"
    )
    found = report.table.set_index(["metric", "group"])["value"]
    # F: the third is missed, the first is called for the wrong finding; M: both missed
    assert found["false no finding", "F"] == pytest.approx(1 / 3)
    assert found["false no finding", "M"] == 1


def test_a_group_that_is_served_worse_is_named_and_a_fair_model_is_not():
    for worse, expected in (("F", "failure"), ("", "can't tell")):
        table, scores = cohort_of(400, worse=worse, seed=1)
        report = rw.fail.group_report(scores, table, by=["sex", "site"], threshold=0.5)
        rows = report.evidence(("AUROC", "sensitivity"))
        verdicts = {row.tried.split(",")[0]: row.verdict for row in rows}
        assert verdicts["AUROC by sex"] == expected
        assert verdicts["sensitivity by sex"] == expected
        assert verdicts["AUROC by site"] == "can't tell"
    (row,) = report.evidence(("AUROC",))[:1]
    assert -0.1 < row.control < 0  # the worst of two is below 0 by chance alone


def sites_of(sizes, missed, *, seed=0):
    """Patients of one film at sites; at some a share of the cases scores 0.1."""
    site = np.repeat(list(sizes), list(sizes.values()))
    rng = np.random.default_rng(seed)
    y = np.arange(len(site)) % 2
    p = np.clip(0.25 + 0.5 * y + rng.normal(0, 0.1, len(site)), 0, 1)
    share = pd.Series(site).map(missed).fillna(0)
    p[(y == 1) & (rng.random(len(site)) < share)] = 0.1
    scores = rw.probe.Scores(
        pd.DataFrame({FINDING: p}), pd.DataFrame({FINDING: y}), np.arange(len(site))
    )
    return pd.DataFrame({"site": site}), scores


def test_a_proven_failure_is_not_hidden_behind_a_tiny_group():
    sizes = {"A": 300, "B": 300, "C": 94, "D": 6}
    for missed, expected in (({"B": 0.4, "D": 1}, "failure"), ({"D": 1}, "can't tell")):
        table, scores = sites_of(sizes, missed)
        report = ask(scores, table, by=["site"], shuffles=1)
        tiny = report.gaps["site", "D", "sensitivity"]
        assert np.isnan(tiny.low)
        assert tiny.difference < -0.7
        for row in report.evidence(("sensitivity", "false no finding", "overstated")):
            assert row.verdict == expected
            assert np.isfinite(row.low)
            assert expected == "can't tell" or "B is " in row.sentence


def test_a_gap_without_a_number_says_so_in_its_sentence():
    table, scores = sites_of({"A": 30, "B": 1}, {})  # B's one film is a control
    report = ask(scores, table, by=["site"], shuffles=1)
    (row,) = report.evidence(("sensitivity",))
    assert np.isnan(row.value)
    assert "no number (" in row.sentence
    assert "nan" not in row.sentence


def test_bands_of_age_and_rows_without_a_group():
    table, scores = cohort_of(60)
    table.loc[:9, "age_years"] = np.nan
    report = rw.fail.group_report(scores, table, by=["age_years"], threshold=0.5)
    groups = report.table["group"].unique()
    assert list(groups) == [f"{low} to {low + 19} years" for low in (20, 40, 60, 80)]
    n = report.table.query("metric == 'Brier score'")["n"].sum()
    assert n == len(table) - 10
    gap = report.gaps["age_years", groups[0], "Brier score"]
    cells = report.table.query("metric == 'Brier score'").set_index("group")
    others = cells.drop(groups[0])  # those of no known age are in neither
    mean = (others["value"] * others["n"]).sum() / others["n"].sum()
    assert gap.difference == pytest.approx(cells["value"][groups[0]] - mean)


def test_uncertain_and_unmentioned_labels_count_in_no_metric_of_the_finding():
    table, scores = cohort_of(60)
    truth = scores.truth.copy()
    truth.loc[:4, FINDING] = -1
    truth.loc[5:9, FINDING] = np.nan
    vague = rw.probe.Scores(scores.values, truth, scores.patient_id)
    rows = ask(vague, table).table.groupby("metric")["n"].sum()
    labelled = truth[FINDING].isin((0, 1)).sum()
    assert rows["Brier score"] == rows["overstated"] == labelled
    assert rows["sensitivity"] + rows["specificity"] == labelled


def test_probabilities_keep_the_order_and_the_mean():
    table, scores = cohort_of(200)
    raw = rw.probe.Scores(5 * scores.values - 3, scores.truth, scores.patient_id)
    stated = rw.fail.calibrated(raw, raw)
    assert stated.values[FINDING].mean() == pytest.approx(table[FINDING].mean(), 1e-3)
    assert stated.auroc()["auroc"].tolist() == raw.auroc()["auroc"].tolist()


def test_the_operating_point_leaves_the_controls_in_peace_that_it_should():
    _, scores = cohort_of(100)
    points = rw.fail.operating_points(scores, specificity=0.8)
    controls = scores.values[FINDING][scores.truth[FINDING] == 0]
    spared = (controls <= points[FINDING]).sum()
    # the least number of controls that is at least the share
    assert spared - 1 < 0.8 * len(controls) <= spared


def ask(scores, table, **about):
    settings = {"by": ["sex"], "threshold": 0.5} | about
    return rw.fail.group_report(scores, table, **settings)


def test_what_can_not_be_judged_is_said_in_a_sentence():
    table, scores = cohort_of(30)
    constant = rw.probe.Scores(0 * scores.values, scores.truth, scores.patient_id)
    with pytest.raises(ValueError, match="expected scores for .* that differ, got 0 "):
        ask(constant, table)
    with pytest.raises(ValueError, match="that differ"):
        rw.fail.operating_points(constant)
    with pytest.raises(ValueError, match="no row that names one"):
        ask(scores, table.assign(sex=""))
    with pytest.raises(ValueError, match="expected a column 'race'"):
        ask(scores, table, by=["race"])
    with pytest.raises(ValueError, match="expected probabilities"):
        ask(rw.probe.Scores(9 * scores.values, scores.truth, scores.patient_id), table)
    sick = rw.probe.Scores(scores.values, 0 * scores.truth + 1, scores.patient_id)
    with pytest.raises(ValueError, match="expected controls"):
        rw.fail.operating_points(sick)
    with pytest.raises(ValueError, match="with and without"):
        rw.fail.calibrated(scores, sick)


def test_a_group_of_one_patient_or_of_one_class_has_a_note_and_no_interval():
    table, scores = cohort_of(60)
    table["sex"] = np.where(table["patient_id"] == "p0", "X", "F")
    rows = ask(scores, table).table.set_index(["group", "metric"])
    assert rows.loc["X", "Brier score"]["note"] == "no interval: 1 patient"
    assert np.isnan(rows.loc["X", "AUROC"]["low"])
    assert rows.loc["X", "AUROC"]["note"]
    gap = ask(scores, table).gaps["sex", "X", "Brier score"]
    assert gap.verdict == "can't tell"
    assert "1 patient" in str(gap)
    well = np.where(table[FINDING] == 0, "well", "sick")
    rows = ask(scores, table.assign(sex=well)).table.set_index(["group", "metric"])
    assert rows.loc["well", "sensitivity"]["note"] == "no image"
    assert np.isnan(rows.loc["sick", "AUROC"]["value"])


def test_a_table_of_one_patient_gives_notes():
    table, scores = cohort_of(60)
    first = (table["patient_id"] == "p0").to_numpy().nonzero()[0].repeat(2)[:2]
    values = scores.values.iloc[first].assign(**{FINDING: [0.2, 0.7]})
    alone = rw.probe.Scores(values, scores.truth.iloc[first], ["p0", "p0"])
    report = ask(alone, table.iloc[first])
    assert report.table["low"].isna().all()
    assert (report.table["note"] != "").all()
    (row,) = report.evidence(("overstated",))
    assert row.verdict == "can't tell"


def test_the_gap_of_two_shares_is_newcombe_s():
    """His example: 56 of 70 against 48 of 80, 0.2000 (0.0524 to 0.3339)."""
    a = np.arange(70) < 56
    b = np.arange(80) < 48
    owners = np.arange(70), np.arange(100, 180)
    gap = share_gap(a, b, owners, names=("a", "b"), what="share")
    assert gap.difference == pytest.approx(0.2)
    assert gap.low == pytest.approx(0.0524, abs=0.004)
    assert gap.high == pytest.approx(0.3339, abs=0.004)
    assert gap.n == 150


def test_gaps_cover_the_truth_and_p_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        patient = np.repeat(np.arange(40), 2)
        base = rng.random(80) < 0.7
        again = rng.random(80) < 0.5
        hits = np.where(again, base[patient * 2], base)  # two films are alike
        side = patient % 2 == 0
        owners = patient[side], patient[~side]
        pair = hits[side], hits[~side]
        gap = share_gap(*pair, owners, names=("a", "b"), what="hits")
        missed += gap.verdict != "can't tell"
        assert (gap.p < 0.05) == (gap.verdict != "can't tell")
    assert missed / 300 < 0.08


def test_a_share_against_a_number_is_its_own_interval():
    values = np.arange(50) % 5 > 0
    row = clustered_mean(values, np.arange(50), share=True)
    gap = share_against(values, 0.9, range(50), names=("a", "b"), what="share")
    assert (gap.low, gap.high) == pytest.approx((row["low"] - 0.9, row["high"] - 0.9))
    assert gap.difference == pytest.approx(-0.1)
    nothing = share_against([], 0.9, [], names=("a", "b"), what="share")
    assert nothing.verdict == "can't tell"
    assert "no image" in str(nothing)


def test_p_is_where_the_interval_reaches_zero():
    from scipy.stats import norm

    def interval(level):
        reach = norm.ppf((1 + level) / 2)
        return 2 - reach, 2 + reach

    assert two_sided_p(interval) == pytest.approx(2 * norm.sf(2))


@pytest.fixture
def faint(monkeypatch):
    """Films of 6 x 6 px that are a little brighter with the finding; pixels are read.

    Returns:
        the table; the films, so that a test can write into them.
    """
    table, _ = cohort_of(600)
    table["split"] = "train"
    patient = table["patient_id"].str[1:].astype(int)
    table.loc[patient >= 250, "split"] = "val"
    table.loc[patient >= 350, "split"] = "test"
    rng = np.random.default_rng(0)
    films = rng.normal(90, 25, (len(table), 6, 6))
    films[:, :3] += 25 * table[FINDING].to_numpy()[:, None, None]
    films = np.uint8(films.clip(0, 255))

    def pixels(start, images, whole):
        return images.reshape(len(images), -1) / 255

    monkeypatch.setattr("radwb.data.images", lambda table, size, fit: films)
    module = import_module("radwb.fail.planted_gap")  # not its function of that name
    monkeypatch.setattr(module, "patch_features", pixels)
    return table, films


START = SimpleNamespace(size=6, fit="pad")
TRUTH = "missed labels, judged by the truth"


def test_each_cause_has_its_picture(faint):
    table, _ = faint
    settings = {"finding": FINDING, "noise": 60, "missed": 0.6, "seeds": 3}
    planted = rw.fail.planted_gap(table, start=START, **settings)
    gaps = planted.table.groupby(["cause", "metric"])["gap"].mean()
    plain = gaps["nothing"]
    assert gaps["noise", "AUROC"] < plain["AUROC"] - 0.1  # the films say less
    # the model doesn't know who is who: of the group it says more than the archive does
    assert gaps["missed labels", "overstated"] > plain["overstated"] + 0.1
    for cause in (TRUTH, "small share"):
        for metric in ("AUROC", "overstated"):
            assert abs(gaps[cause, metric] - plain[metric]) < 0.05
    moved = planted.moved().set_index(["cause", "metric"])
    assert len(moved) == 4 * 5
    assert moved.loc[("noise", "AUROC"), "difference"] == pytest.approx(
        gaps["noise", "AUROC"] - plain["AUROC"]
    )
    assert moved.loc[("noise", "AUROC"), "verdict"] == "behind"


def test_a_model_that_sees_the_group_learns_to_underdiagnose_it(faint):
    """It repeats what the archive says: an audit by the archive is blind to it."""
    table, films = faint
    films[:, 5, 5] = np.where(table["sex"] == "F", 0, 255)
    settings = {"finding": FINDING, "missed": 0.6, "seeds": 2}
    planted = rw.fail.planted_gap(table, start=START, **settings)
    gaps = planted.table.groupby(["cause", "metric"])["gap"].mean()
    plain = gaps["nothing"]
    archive = gaps["missed labels", "overstated"] - plain["overstated"]
    truth = gaps[TRUTH, "overstated"] - plain["overstated"]
    assert abs(archive) < 0.05
    assert truth < -0.1
    assert gaps[TRUTH, "sensitivity"] < plain["sensitivity"] - 0.1
    assert abs(gaps[TRUTH, "AUROC"] - plain["AUROC"]) < 0.05  # it still ranks


def test_nothing_planted_in_a_group_changes_nothing(faint):
    table, _ = faint
    settings = {"finding": FINDING, "noise": 0, "missed": 0, "share": 1, "seeds": 2}
    result = rw.fail.planted_gap(table, start=START, **settings)
    gaps = result.table.pivot(index=["metric", "seed"], columns="cause", values="gap")
    for cause in gaps:
        np.testing.assert_allclose(gaps[cause], gaps["nothing"])
    with pytest.raises(ValueError, match="expected sex X and others in split train"):
        rw.fail.planted_gap(table, start=START, group="X", **settings)


def test_the_report_names_every_metric_once():
    table, scores = cohort_of(40)
    rows = ask(scores, table).table
    assert list(rows["metric"].unique()) == list(METRICS)
    assert not rows.duplicated(["by", "group", "metric"]).any()


def test_who_stands_at_the_threshold_is_not_called():
    p = pd.DataFrame({FINDING: [0.5, 0.5, 0.6, 0.6]})
    y = pd.DataFrame({FINDING: [1, 0, 1, 0]})
    films = fairness.film_measures(rw.probe.Scores(p, y, list("abcd")), FINDING, 0.5)
    assert films["sensitivity"].dropna().tolist() == [0, 1]
    assert films["specificity"].dropna().tolist() == [1, 0]


def test_films_that_stand_three_times_make_no_gap_surer():
    table, scores = cohort_of(80)
    rows = np.arange(len(table)).repeat(3)
    pair = scores.values.iloc[rows], scores.truth.iloc[rows]
    pair = [part.reset_index(drop=True) for part in pair]
    thrice = rw.probe.Scores(*pair, scores.patient_id[rows])
    once = ask(scores, table, shuffles=1).gaps
    often = ask(thrice, table.iloc[rows], shuffles=1).gaps
    for key, gap in once.items():
        assert often[key].n == gap.n
        assert often[key].low == pytest.approx(gap.low, abs=0.02)
        assert often[key].high == pytest.approx(gap.high, abs=0.02)


def test_a_gap_of_wider_values_is_as_much_wider_and_n_are_patients():
    a, b = np.arange(60) % 3 > 0, np.arange(60) % 2 > 0
    owners = np.arange(60) // 2, 100 + np.arange(60) // 2
    words = {"names": ("a", "b"), "what": "share"}
    unit = share_gap(a, b, owners, **words)
    wide = share_gap(2 * a - 1, 2 * b - 1, owners, limits=(-1, 1), **words)
    assert wide.n == unit.n == 60
    for name in ("difference", "low", "high"):
        assert getattr(wide, name) == pytest.approx(2 * getattr(unit, name))
    assert wide.p == pytest.approx(unit.p)


def test_a_family_of_shares_has_wider_intervals():
    values = np.arange(50) % 5 > 0
    words = {"names": ("a", "b"), "what": "share", "family": 4}
    gap = share_against(values, 0.9, range(50), **words)
    row = clustered_mean(values, range(50), share=True, level=1 - 0.05 / 4)
    assert (gap.low, gap.high) == pytest.approx((row["low"] - 0.9, row["high"] - 0.9))


def test_of_two_groups_one_gap_counts_and_of_three_each():
    table, scores = cohort_of(60)
    for by, groups in ((["sex"], 1), (["site"], 3), (["sex", "site"], 4)):
        gaps = ask(scores, table, by=by, shuffles=1).gaps.values()
        assert {gap.family for gap in gaps} == {groups * len(METRICS)}


def test_chance_deals_groups_to_patients_and_takes_what_harms_most(monkeypatch):
    table, scores = cohort_of(60)
    names = table["site"]
    films = fairness.film_measures(scores, FINDING, 0.5)
    one = rw.probe.Scores(
        scores.values[[FINDING]], scores.truth[[FINDING]], scores.patient_id
    )
    worst = fairness._worst_gaps(names, one, films)
    gaps = {name: fairness.gaps_to_others(one, films, names, name, 1) for name in "ABC"}
    for metric, most in (("sensitivity", min), ("Brier score", max)):
        of_metric = [gaps[name][metric].difference for name in "ABC"]
        assert worst[metric] == pytest.approx(most(of_metric))
    dealt = []

    def kept(groups, one, films):
        dealt.append(pd.Series(groups))
        return dict.fromkeys(METRICS, 0.0)

    monkeypatch.setattr(fairness, "_worst_gaps", kept)
    fairness._chance(names, one, films, 3)
    for groups in dealt:
        assert (groups.groupby(table["patient_id"]).nunique() == 1).all()
        assert (groups != names).any()


def test_an_archive_sets_its_threshold_by_its_own_labels(faint, monkeypatch):
    """And heads learn of the training part, whose films have a mark of their own."""
    table, films = faint
    films[:, 0, 0] = table["split"].map({"train": 10, "val": 20, "test": 30})
    module = import_module("radwb.fail.planted_gap")
    learnt = []
    thresholds = []
    fit, points = module.fit_head, module.operating_points

    def fitted(start, Z, y, whole):
        learnt.append(set(np.rint(255 * Z[:, 0])))
        return fit(start, Z, y, whole=whole)

    def pointed(scores, specificity):
        thresholds.append(scores.truth[FINDING].sum())
        return points(scores, specificity=specificity)

    monkeypatch.setattr(module, "fit_head", fitted)
    monkeypatch.setattr(module, "operating_points", pointed)
    settings = {"finding": FINDING, "missed": 0.6, "noise": 0, "seeds": 1}
    rw.fail.planted_gap(table, start=START, **settings)
    assert learnt == [{10}] * 5
    nothing, noise, missed, by_truth, few = thresholds
    assert missed == by_truth < nothing == noise == few
