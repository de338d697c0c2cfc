"""Claims about rw.stats: intervals that cover.

Comparisons that don't cry wolf, and sentences that follow from them.
"""

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_1samp, ttest_rel

import radwb as rw
from radwb.stats import means, pull
from radwb.stats.comparison import half_means, unpaired
from radwb.stats.pull import Pull

ROOT = Path(__file__).parents[1]
NAMES = ("relevance", "centre")


@pytest.fixture(scope="module")
def coverage():
    """The simulation of benchmarks/coverage.py."""
    spec = importlib.util.spec_from_file_location(
        "coverage", ROOT / "benchmarks" / "coverage.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clustered(rng, patients=30, *, shift=1.0, digits=9):
    """Labels, scores and patients: one to six images each, of both classes, alike
    within a patient.
    """
    row = np.repeat(np.arange(patients), rng.integers(1, 7, patients))
    y = rng.random(len(row)) < 0.4
    s = shift * y + rng.normal(size=patients)[row] + rng.normal(size=len(row))
    return y.astype(int), np.round(s, digits), row


# --- the variance ---


def placed(cases, controls):
    """psi of DeLong et al. 1988, pair by pair."""
    return np.array(
        [[1.0 if x > z else 0.5 if x == z else 0.0 for z in controls] for x in cases]
    )


@pytest.mark.parametrize("digits", [0, 9])
def test_with_one_image_a_patient_the_variance_is_delongs(digits):
    rng = np.random.default_rng(0)
    y = np.arange(50) % 3 == 0
    s = np.round(y + rng.normal(size=50), digits)
    psi = placed(s[y], s[~y])
    by_hand = (
        psi.mean(axis=1).var(ddof=1) / y.sum()
        + psi.mean(axis=0).var(ddof=1) / (~y).sum()
    )
    assert (Pull.of(y, s, np.arange(50)).pulls ** 2).sum() == pytest.approx(by_hand)


def test_with_several_images_a_patient_the_variance_is_obuchowskis():
    y, s, row = clustered(np.random.default_rng(1))
    cases, controls = y == 1, y == 0
    psi = placed(s[cases], s[controls])
    m = cases.sum()
    n = controls.sum()
    auroc, total = psi.mean(), 0.0
    for p in set(row):
        mine, its_controls = row[cases] == p, row[controls] == p
        a = (psi[mine].mean(axis=1) - auroc).sum() / (m - mine.sum())
        b = (psi[:, its_controls].mean(axis=0) - auroc).sum() / (n - its_controls.sum())
        a *= np.sqrt(1 - 1 / len(set(row[cases])))
        b *= np.sqrt(1 - 1 / len(set(row[controls])))
        total += a**2 + b**2 + 2 * a * b
    assert (Pull.of(y, s, row).pulls ** 2).sum() == pytest.approx(total)


def test_the_models_variance_is_that_of_hanley_and_mcneils_own_example():
    assert np.sqrt(pull.hanley_mcneil(0.893, 51, 58)) == pytest.approx(
        0.032, abs=0.001
    )  # their table III


def test_effective_sizes_by_hand():
    sizes = np.array([21, 3, 1, 1])
    assert pull.effective(sizes) == pytest.approx(26**2 / (441 + 9 + 1 + 1))
    assert pull.effective(sizes, 0.0) == 26
    assert pull.effective(np.ones(7), 0.4) == 7


def test_likeness_finds_the_planted_correlation():
    rng = np.random.default_rng(2)
    row = np.repeat(np.arange(400), 4)
    y = np.tile([True, True, False, False], 400)
    s = (
        np.sqrt(0.7) * rng.normal(size=400)[row]
        + np.sqrt(0.3) * rng.normal(size=1600)
        + 2 * y
    )
    assert pull.likeness(y, s, row) == pytest.approx((0.7, 0.7), abs=0.05)
    assert pull.likeness(y, rng.normal(size=1600), row)[0] < 0.08
    alone = pull.likeness(y, s, np.arange(1600))
    assert alone == (1.0, 0.0)  # no patient has two: nothing is known


# --- the interval ---


@pytest.mark.parametrize("clusters", [False, True])
@pytest.mark.parametrize("auroc", [0.6, 0.9, 0.99])
@pytest.mark.parametrize(("with_it", "without"), [(5, 15), (8, 192), (30, 70)])
def test_the_interval_holds_the_truth_about_95_times_in_100(
    coverage, with_it, without, auroc, clusters
):
    holds = coverage.covered(150, with_it, without, auroc, clustered=clusters)[0]
    assert holds >= 0.90  # 150 trials: 0.95 less three standard errors of 0.018


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [False, True])
def test_the_whole_grid_covers(coverage, clusters):
    cells = {
        (*patients, a): coverage.covered(500, *patients, a, clustered=clusters)[0]
        for patients in coverage.COHORTS
        for a in coverage.AUROCS
    }
    assert {cell: c for cell, c in cells.items() if not 0.905 <= c <= 0.995} == {}
    assert 0.95 <= np.mean(list(cells.values())) <= 0.98


def test_the_interval_of_the_mean_holds_the_truth_about_95_times_in_100():
    held = []
    for trial in range(120):
        rng = np.random.default_rng(trial)
        row = np.repeat(np.arange(60), 2)
        truth = {k: (rng.random(60) < 0.3)[row].astype(int) for k in "abc"}
        alike = rng.normal(size=60)[row]
        scores = {k: alike + rng.normal(size=120) + 2 * y for k, y in truth.items()}
        got = rw.stats.clustered.mean_clustered_auroc(
            pd.DataFrame(truth), pd.DataFrame(scores), row
        )
        held.append(
            got["low"] <= norm.cdf(2 / np.sqrt(4)) <= got["high"]
        )  # two scores differ by 2, with variance 4
    assert 0.90 <= np.mean(held) <= 0.995


def test_one_lost_pair_changes_the_interval_little():
    y = np.repeat([1, 0], [20, 60])
    perfect = np.r_[np.arange(100, 120), np.arange(60)].astype(float)
    lost = np.where(np.arange(80) == 79, 100.5, perfect)  # one control above one case
    whole, less = (rw.stats.clustered_auroc(y, s, range(80)) for s in (perfect, lost))
    assert (whole["auroc"], whole["high"]) == (1, 1)
    assert less["auroc"] == pytest.approx(1 - 1 / 1200)
    assert whole["low"] == pytest.approx(less["low"], abs=0.02)
    assert less["low"] < 0.95


def test_turning_the_scores_round_mirrors_the_interval():
    y, s, row = clustered(np.random.default_rng(3))
    there, back = (
        rw.stats.clustered_auroc(y, s, row),
        rw.stats.clustered_auroc(y, -s, row),
    )
    assert (back["low"], back["high"]) == pytest.approx(
        (1 - there["high"], 1 - there["low"])
    )


def test_copies_of_the_images_tell_nothing_new():
    y, s, row = clustered(np.random.default_rng(4), patients=60)
    once, often = (
        rw.stats.clustered_auroc(*(np.repeat(x, k) for x in (y, s, row)))
        for k in (1, 8)
    )
    assert often["auroc"] == pytest.approx(once["auroc"])
    assert often["high"] - often["low"] == pytest.approx(
        once["high"] - once["low"], rel=0.15
    )


def test_a_higher_level_gives_a_wider_interval():
    y, s, row = clustered(np.random.default_rng(5))
    narrow, wide = (
        rw.stats.clustered_auroc(y, s, row, level=level) for level in (0.8, 0.99)
    )
    assert wide["low"] < narrow["low"] < narrow["auroc"] < narrow["high"] < wide["high"]


@pytest.mark.parametrize(
    ("with_case", "with_control", "note"),
    [
        (4, 30, "no interval: cases in 4 patients"),
        (1, 30, "no interval: cases in 1 patient"),
        (30, 3, "no interval: controls in 3 patients"),
        (5, 5, ""),
        (0, 9, "no case among 18 labelled images"),
        (9, 0, "no control among 18 labelled images"),
        (0, 0, "no labelled image"),
    ],
)
def test_too_few_patients_give_no_interval_but_the_reason(
    with_case, with_control, note
):
    y = np.repeat([1, 0], [2 * with_case, 2 * with_control])
    row = rw.stats.clustered_auroc(
        y, np.random.default_rng(0).random(len(y)), np.arange(len(y)) // 2
    )
    assert row["note"] == note
    assert np.isnan(row["low"]) == np.isnan(row["high"]) == bool(note)
    assert (row["positive_patients"], row["positives"]) == (with_case, 2 * with_case)


def test_a_sample_of_trainings_has_their_spread_in_its_interval():
    y, s, row = clustered(np.random.default_rng(6))
    rng = np.random.default_rng(7)
    values = pd.DataFrame({k: s + 2 * k * rng.normal(size=len(s)) for k in range(4)})
    truth = pd.DataFrame(dict.fromkeys(values, y))
    fixed, sample = (
        rw.stats.clustered.mean_clustered_auroc(truth, values, row, sampled=x)
        for x in (False, True)
    )
    assert sample["auroc"] == fixed["auroc"]
    assert sample["low"] < fixed["low"] - 0.01


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (dict(auroc=0.84, low=0.8, high=0.88), "0.84 (0.80 to 0.88)"),
        (dict(auroc=0.84, low=0.8, high=0.88, note=np.nan), "0.84 (0.80 to 0.88)"),
        (
            dict(auroc=0.84, low=0.8, high=0.88, note="without Edema"),
            "0.84 (0.80 to 0.88; without Edema)",
        ),
        (
            dict(
                auroc=0.8,
                low=np.nan,
                high=np.nan,
                note="no interval: cases in 4 patients",
            ),
            "0.80 (no interval: cases in 4 patients)",
        ),
        (dict(auroc=0.8, low=np.nan, high=np.nan), "0.80 (no interval)"),
        (
            dict(auroc=np.nan, low=np.nan, high=np.nan, note="no labelled image"),
            "no number (no labelled image)",
        ),
    ],
)
def test_the_sentence_never_drops_a_note(row, sentence):
    assert rw.stats.format_interval(row) == sentence
    assert rw.stats.format_interval(pd.Series(row)) == sentence


# --- comparisons ---


def comparison(low, high, difference=0.1, **more):
    return rw.stats.comparison.Comparison(
        NAMES, "hits", difference, low, high, 0.01, 214, **more
    )


@pytest.mark.parametrize(
    ("one", "verdict", "sentence"),
    [
        (
            comparison(0.05, 0.19, 0.12),
            "ahead",
            "relevance is ahead of centre by 0.12 (0.05 to 0.19; 214 patients)",
        ),
        (
            comparison(-0.19, -0.05, -0.12),
            "behind",
            "relevance is behind centre by 0.12 (0.05 to 0.19; 214 patients)",
        ),
        (
            comparison(-0.05, 0.09, 0.02),
            "can't tell",
            "can't tell relevance from centre: 0.02 (-0.05 to 0.09; 214 patients)",
        ),
        (
            comparison(0.0, 0.09, 0.02),
            "can't tell",
            "can't tell relevance from centre: 0.02 (0.00 to 0.09; 214 patients)",
        ),
        (
            comparison(0.05, 0.19, 0.12, family=6),
            "ahead",
            "relevance is ahead of centre by 0.12 "
            "(0.05 to 0.19; 214 patients; one of 6 comparisons)",
        ),
        (
            comparison(0.05, 0.19, 0.12, note="without Edema"),
            "ahead",
            "relevance is ahead of centre by 0.12 "
            "(0.05 to 0.19; 214 patients; without Edema)",
        ),
        (
            comparison(np.nan, np.nan, note="no interval: too few"),
            "can't tell",
            "can't tell relevance from centre: 0.10 "
            "(no interval: too few; 214 patients)",
        ),
    ],
)
def test_the_sentence_follows_from_the_interval(one, verdict, sentence):
    assert one.verdict == verdict
    assert str(one) == sentence
    assert one.row()["verdict"] == verdict


def test_the_halves_are_hartigans_typical_values():
    totals, sizes = (
        np.array([1.0, 4.0, -2.0, 3.0, 5.0, 9.0, 2.0]),
        np.array([1, 2, 1, 1, 3, 2, 2]),
    )
    inside = np.array([kept for kept in product([0, 1], repeat=7) if any(kept)])
    every = (inside @ totals) / (inside @ sizes)
    drawn = half_means(totals, sizes, draws=40_000)
    at = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(
        np.nanquantile(drawn, at), np.quantile(every, at), atol=0.06
    )
    assert np.isnan(drawn).mean() == pytest.approx(2**-7, rel=0.3)


def test_six_patients_who_agree_suffice_and_five_do_not():
    gap = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    six = rw.stats.compare(gap, 0, range(6), names=NAMES)
    five = rw.stats.compare(gap[:5], 0, range(5), names=NAMES)
    assert six.verdict == "ahead"
    assert six.p == pytest.approx(2 / 64, rel=0.4)  # the sign test's, by hand
    assert five.verdict == "can't tell"
    assert five.note == "no interval: too few"
    assert (
        rw.stats.compare(gap, 0, range(6), names=NAMES, family=3).note
        == "no interval: too few"
    )


def test_compare_is_paired_and_by_patient():
    rng = np.random.default_rng(8)
    row = np.repeat(np.arange(40), 3)
    a = rng.normal(size=40)[row] + 0.1 * rng.normal(size=120)
    b = a - 0.1 + 0.1 * rng.normal(size=120)
    there, back = (
        rw.stats.compare(a, b, row, names=NAMES),
        rw.stats.compare(b, a, row, names=NAMES[::-1]),
    )
    assert (there.verdict, back.verdict) == (
        "ahead",
        "behind",
    )  # unpaired, 0.1 would drown in a spread of 1
    assert there.n == 40
    assert there.difference == pytest.approx((a - b).mean())
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.005)
    copies = rw.stats.compare(*(np.repeat(x, 5) for x in (a, b, row)), names=NAMES)
    assert (copies.low, copies.high) == pytest.approx((there.low, there.high))


def test_more_comparisons_make_a_wider_interval():
    gap = np.random.default_rng(9).normal(0.5, 1, 50)
    one, ten = (
        rw.stats.compare(gap, 0, range(50), names=NAMES, family=k) for k in (1, 10)
    )
    assert ten.low < one.low < one.high < ten.high
    y, s, row = clustered(np.random.default_rng(9))
    one, ten = (
        rw.stats.compare_auroc(y, s, -s, row, names=NAMES, family=k) for k in (1, 10)
    )
    assert ten.low < one.low < one.high < ten.high


@pytest.mark.parametrize("patients", [8, 40])
def test_compare_finds_a_difference_that_is_none_in_about_5_of_100(coverage, patients):
    false, rng = [], np.random.default_rng(10)
    for _ in range(250):
        _, row = coverage.cohort(rng, patients, 0, True)
        gap = rng.normal(size=patients)[row] + rng.normal(size=len(row))
        false.append(
            rw.stats.compare(gap, 0, row, names=NAMES, n_boot=800).verdict
            != "can't tell"
        )
    assert np.mean(false) <= 0.09  # 250 trials: 0.05 and three standard errors


def test_rows_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="one number of each for 3 rows"):
        rw.stats.compare([1, 2], [1, 2], range(3), names=NAMES)
    with pytest.raises(ValueError, match="with 1 missing"):
        rw.stats.compare([1, np.nan, 2], 0, range(3), names=NAMES)
    frames = [pd.DataFrame({k: [0, 1]}) for k in "aab"]
    with pytest.raises(ValueError, match="expected the same findings"):
        rw.stats.compare_auroc(*frames, range(2), names=NAMES)


def test_compare_auroc_is_delongs_paired_test():
    rng = np.random.default_rng(11)
    y = np.arange(70) % 2 == 0
    a = y + rng.normal(size=70)
    b = a + rng.normal(size=70)
    ours = rw.stats.compare_auroc(y, a, b, range(70), names=NAMES)
    psi_a, psi_b = placed(a[y], a[~y]), placed(b[y], b[~y])
    over_cases = np.cov(psi_a.mean(axis=1), psi_b.mean(axis=1))
    over_controls = np.cov(psi_a.mean(axis=0), psi_b.mean(axis=0))
    covariance = over_cases / y.sum() + over_controls / (~y).sum()
    delongs = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    more = unpaired(
        Pull.of(y, a, range(70)), Pull.of(y, b, range(70))
    )  # what DeLong's lacks near 1; here little
    assert more < 0.5 * delongs
    error = np.sqrt(delongs + more)
    assert ours.difference == pytest.approx(psi_a.mean() - psi_b.mean())
    assert (ours.high - ours.low) / 2 == pytest.approx(
        2.0322 * error, rel=1e-4
    )  # Student's quantile of 34


@pytest.mark.parametrize(("with_it", "without", "auroc"), [(8, 30, 0.8), (40, 60, 0.7)])
def test_compare_auroc_finds_a_difference_that_is_none_in_about_5_of_100(
    coverage, with_it, without, auroc
):
    false, rng = [], np.random.default_rng(12)
    for _ in range(150):
        y, row = coverage.cohort(rng, with_it, without, True)
        a, b = (coverage.scored(rng, y, row, auroc) for _ in range(2))
        false.append(
            rw.stats.compare_auroc(y, a, b, row, names=NAMES).verdict != "can't tell"
        )
    assert np.mean(false) <= 0.10


def test_the_mean_of_a_finding_said_twice_is_that_finding():
    y, s, row = clustered(np.random.default_rng(13))

    def twice(x):
        return pd.DataFrame({"a": x, "b": x})

    one = rw.stats.compare_auroc(y, s, s**3, row, names=NAMES)
    two = rw.stats.compare_auroc(twice(y), twice(s), twice(-s), row, names=NAMES)
    assert one.difference == one.low == one.high == 0  # ranks are ranks
    assert one.verdict == "can't tell"
    single = rw.stats.compare_auroc(y, s, -s, row, names=NAMES)
    assert (two.difference, two.low, two.high) == pytest.approx(
        (single.difference, single.low, single.high)
    )


def test_a_comparison_leaves_out_rare_findings_and_names_them():
    y, s, row = clustered(np.random.default_rng(14))
    truth = pd.DataFrame({"Edema": row < 2, "Fracture": y}).astype(int)
    values = pd.DataFrame({"Edema": s, "Fracture": s})
    got = rw.stats.compare_auroc(truth, values, -values, row, names=NAMES)
    assert got.note == "without Edema (cases in 2 patients)"
    assert got.note in str(got)
    assert (
        got.difference == rw.stats.compare_auroc(y, s, -s, row, names=NAMES).difference
    )
    alone = rw.stats.compare_auroc(truth["Edema"], s, -s, row, names=NAMES)
    assert alone.verdict == "can't tell"
    assert alone.note == "no interval: cases in 2 patients"


def test_compare_seeds_is_the_paired_t_test():
    a, b = np.random.default_rng(15).normal(size=(2, 5)) + [[1.0], [0.0]]
    ours, reference = rw.stats.compare_seeds(a, b, names=NAMES), ttest_rel(a, b)
    assert ours.p == pytest.approx(reference.pvalue)
    assert (ours.low, ours.high) == pytest.approx(
        tuple(reference.confidence_interval())
    )
    assert (ours.n, ours.unit) == (5, "seeds")
    corrected = rw.stats.compare_seeds(a, b, names=NAMES, family=4)
    assert (corrected.low, corrected.high) == pytest.approx(
        tuple(reference.confidence_interval(1 - 0.05 / 4))
    )
    against_zero = rw.stats.compare_seeds(a - b, names=NAMES)
    assert (against_zero.low, against_zero.high) == pytest.approx((ours.low, ours.high))


def test_one_seed_is_no_comparison():
    with pytest.raises(ValueError, match="two or more seeds"):
        rw.stats.compare_seeds([0.3], names=NAMES)
    with pytest.raises(ValueError, match="two or more seeds"):
        rw.stats.compare_seeds([0.3, 0.2], [0.1, 0.2, 0.3], names=NAMES)
    assert (
        rw.stats.compare_seeds([0.2, 0.2], [0.2, 0.2], names=NAMES).verdict
        == "can't tell"
    )


# --- means, ratios, controls
# ------------------------------------------------------------------------------------


def images_of(rng, patients, share=None):
    """Values of mean 0, or of 0 and 1 with the mean `share`: one to ten images each,
    correlated by 0.7.
    """
    row = np.repeat(np.arange(patients), rng.integers(1, 11, patients))
    own = np.sqrt(0.3) * rng.normal(size=len(row))
    values = np.sqrt(0.7) * rng.normal(size=patients)[row] + own
    return (values if share is None else (values < norm.ppf(share)).astype(float)), row


@pytest.mark.parametrize("share", [None, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("patients", [5, 10, 20, 50, 100])
def test_the_interval_of_a_mean_holds_the_truth_about_95_times_in_100(patients, share):
    held, rng = [], np.random.default_rng(18)
    for _ in range(400):
        values, row = images_of(rng, patients, share)
        interval = means.mean_interval if share is None else means.share_interval
        low, high = interval(values, row, 0.95)
        held.append(low <= (share or 0) <= high)
    assert (
        0.915 <= np.mean(held) <= 0.998
    )  # 400 trials: 0.93 to 0.985 and a standard error and a half


def test_with_one_image_a_patient_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(19).normal(size=12)
    got = rw.stats.clustered_mean(values, range(12))
    reference = ttest_1samp(values, 0).confidence_interval()
    assert (got["low"], got["high"]) == pytest.approx(tuple(reference))


def test_copies_of_an_image_are_no_news():
    values, row = images_of(np.random.default_rng(20), 15, 0.5)
    for share in (True, False):
        once = rw.stats.clustered_mean(values, row, share=share)
        often = rw.stats.clustered_mean(
            np.repeat(values, 5), np.repeat(row, 5), share=share
        )
        assert (often["low"], often["high"]) == pytest.approx(
            (once["low"], once["high"]), rel=0.05
        )


@pytest.mark.parametrize("hits", [0, 1])
def test_where_all_patients_hit_the_interval_is_wilsons_of_the_patients(hits):
    got = rw.stats.clustered_mean([hits] * 24, np.arange(24) // 2, share=True)
    assert (got["low"], got["high"]) == pytest.approx(rw.stats.wilson(12 * hits, 12))


def test_a_share_stays_between_0_and_1_and_is_the_others_mirrored():
    for seed in range(40):
        values, row = images_of(np.random.default_rng(seed), 8, 0.95)
        ours, theirs = (
            rw.stats.clustered_mean(x, row, share=True) for x in (values, 1 - values)
        )
        assert 0 <= ours["low"] < ours["high"] <= 1
        assert (1 - ours["high"], 1 - ours["low"]) == pytest.approx(
            (theirs["low"], theirs["high"])
        )


def test_shares_that_are_no_hits_have_the_width_of_their_spread():
    values = np.random.default_rng(21).normal(0.3, 0.03, 30)
    share, mean = (
        rw.stats.clustered_mean(values, range(30), share=yes) for yes in (True, False)
    )
    assert share["high"] - share["low"] == pytest.approx(
        mean["high"] - mean["low"], rel=0.05
    )


def test_a_mean_of_few_or_unknown_patients_gives_the_reason_for_no_interval():
    four = rw.stats.clustered_mean([1.0, 2, 3, 4, 5], list("aabcd"))
    assert rw.stats.format_interval(four, "mean") == "3.00 (no interval: 4 patients)"
    assert (four["n"], four["patients"]) == (5, 4)
    assert not np.isnan(
        rw.stats.clustered_mean([1.0, 2, 3, 4, 5], list("abcde"))["low"]
    )
    unknown = rw.stats.clustered_mean(np.ones(9), [None, *range(8)])
    assert unknown["note"] == "no interval: 1 of 9 images without a patient_id"
    endless = rw.stats.clustered_mean([np.inf, *range(8)], range(9))
    assert endless["note"] == "no interval: 1 of 9 values not finite"
    assert (
        rw.stats.format_interval(rw.stats.clustered_mean([], []), "mean")
        == "no number (no image)"
    )


def test_means_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="one number for each of 3 rows"):
        rw.stats.clustered_mean([1, 2], range(3))
    with pytest.raises(ValueError, match="shares from 0 to 1, got -1 to 2"):
        rw.stats.clustered_mean([-1, 2], range(2), share=True)


def test_the_ends_stay_within_limits():
    got = rw.stats.clustered_mean([1, 1, 1, 1, 1, 0.5], range(6), limits=(-1, 1))
    assert got["low"] < got["mean"] < got["high"] == 1


def scores(y, s, row):
    return rw.probe.Scores(pd.DataFrame({"Edema": s}), pd.DataFrame({"Edema": y}), row)


def test_the_shuffled_control_is_a_distribution_about_a_half():
    y, s, row = clustered(np.random.default_rng(18))
    table = scores(y, s, row).null(n=20, seed=3)
    draws = [
        rw.stats.auroc(scores(y, s, row).shuffled(3 + i).truth["Edema"], s)
        for i in range(20)
    ]
    edema, mean = table.iloc[0], table.iloc[-1]
    assert (edema.auroc, edema.low, edema.high) == pytest.approx(
        (np.mean(draws), min(draws), max(draws))
    )
    assert edema.low < 0.5 < edema.high
    assert mean.finding == "mean of 1"
    assert rw.stats.format_interval(mean).endswith("; range of 20 shuffles)")


def test_scores_compare_with_scores_of_the_same_images_only():
    y, s, row = clustered(np.random.default_rng(19))
    ours, theirs = scores(y, s, row), scores(y, -s, row)
    direct = rw.stats.compare_auroc(y, s, -s, row, names=NAMES, what="AUROC for Edema")
    assert ours.against(theirs, NAMES) == direct
    with pytest.raises(ValueError, match="scores of the same"):
        ours.against(scores(1 - y, s, row), NAMES)
    with pytest.raises(ValueError, match="scores of the same"):
        ours.against(scores(y, s, row[::-1]), NAMES)
