"""What readers do with help: against published numbers, a dial and hand counts."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

import radwb as rw
from radwb.stats.two_way import obuchowski_rockette, rate_gap

N = 60


def simulated(trust, *, readers=5, cases=N, wrong=0.3, seed=0, again=0.1):
    """Readings of people who take over contradicting advice with a chance of `trust`.

    And who change their answer by themselves with a chance of `again`.
    """
    rng = np.random.default_rng(seed)
    truth = pd.Series(np.arange(cases) % 2, [f"film {n}" for n in range(cases)])
    advice = rw.fail.planted_advice(truth, wrong, seed=seed)
    hard = rng.normal(0, 1, cases)  # for all readers alike
    rows = []
    for reader in range(readers):
        seen = 2.4 * truth + hard * 0.7 + rng.normal(0, 1, cases)
        first = (seen > 1.2).astype(int)
        turns = rng.random(cases) < np.where(first == advice, again, trust)
        second = np.where(turns, 1 - first, first)
        confidence = 100 / (1 + np.exp(1.2 - seen))
        pulled = np.where(turns, 100 - confidence, confidence)
        for arm, answer, sure in (
            ("alone", first, confidence),
            ("with help", second, pulled),
        ):
            part = pd.DataFrame({"case": truth.index, "answer": answer})
            part = part.assign(reader=f"R{reader}", arm=arm, confidence=sure)
            rows.append(part.assign(advice=advice))
    return pd.concat(rows, ignore_index=True), truth


def compound(error, same_reader, same_way, neither, readers=5):
    """(2 R, 2 R) with one variance and the three covariances of a published table."""
    whole = np.full((2, readers, 2, readers), neither)
    for way in (0, 1):
        whole[way, :, way] = same_way
        np.fill_diagonal(whole[way, :, way], error)
        np.fill_diagonal(whole[way, :, 1 - way], same_reader)
    return whole.reshape(2 * readers, -1)


def test_a_published_study_of_five_readers_comes_out():
    """Van Dyke's aortic dissections, as RJafroc and MRMCaov have it (jackknife)."""
    spin_echo = [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169]
    cine = [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066]
    published = compound(0.0008022883, 0.0003466137, 0.0003440748, 0.0002390284)
    gap, error, freedom = obuchowski_rockette([cine, spin_echo], published)
    assert gap == pytest.approx(-0.043800322)
    assert gap / error == pytest.approx(-2.110999, rel=1e-5)
    p = 2 * student.sf(abs(gap) / error, freedom)
    assert p == pytest.approx(0.05166569, rel=1e-5)


def test_its_unbiased_covariances_give_the_other_published_interval():
    """The same study by MRMCaov's example for MATLAB."""
    spin_echo = [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169]
    cine = [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066]
    published = compound(0.00078839, 0.00034167, 0.00033906, 0.00023561)
    gap, error, freedom = obuchowski_rockette([cine, spin_echo], published)
    reach = error * student.ppf(0.975, freedom)
    assert freedom == pytest.approx(15.034, abs=0.01)
    ends = [gap - reach, gap + reach]
    assert ends == pytest.approx([-0.087852, 0.0002513], abs=2e-6)


@pytest.mark.parametrize("trust", [0.1, 0.4, 0.8])
def test_a_known_trust_in_advice_is_found(trust):
    readings, truth = simulated(trust, readers=8, cases=200)
    effect = rw.fail.reading_effect(readings, truth)
    share = effect.switches.set_index("switch")["mean"]
    assert share["to wrong advice"] == pytest.approx(trust, abs=0.08)
    assert share["to right advice"] == pytest.approx(trust, abs=0.08)
    assert share["away from right advice"] == pytest.approx(0.1, abs=0.04)
    verdict = {0.1: "can't tell", 0.4: "ahead", 0.8: "ahead"}[trust]
    assert effect.followed.verdict == verdict
    assert effect.told_apart.verdict == "can't tell"  # they follow either alike


def test_the_interval_of_following_covers_what_was_set():
    """Over fresh readers and cases; it may be too wide, as few readers make it."""
    trust = 0.45
    inside = 0
    for seed in range(100):
        readings, truth = simulated(trust, readers=4, cases=40, seed=seed)
        followed = rw.fail.reading_effect(readings, truth).followed
        inside += followed.low <= trust - 0.1 <= followed.high
    assert inside >= 92


def test_moves_are_counted_as_by_hand():
    readings, truth = simulated(0.5, readers=2, cases=20)
    pairs = rw.fail.reading_effect(readings, truth).pairs
    to_wrong = 0
    chances = 0
    for row in pairs.to_dict("records"):
        if row["answer alone"] == row["truth"] != row["advice with help"]:
            chances += 1
            to_wrong += row["answer with help"] == row["advice with help"]
    switches = rw.fail.reading_effect(readings, truth).switches
    first = switches.iloc[0]
    assert (first["n"], first["mean"]) == (chances, to_wrong / chances)
    assert switches["n"].sum() == len(pairs) == 40


def test_the_mean_auroc_is_that_of_the_readers():
    readings, truth = simulated(0.5)
    effect = rw.fail.reading_effect(readings, truth)
    means = effect.auroc.groupby("arm")["auroc"].mean()
    gap = means["with help"] - means["alone"]
    assert effect.help.difference == pytest.approx(gap)
    assert (effect.help.n, effect.help.unit) == (5, "readers")
    assert f"{N} patients" in str(effect.help)


def test_readers_that_nobody_advises_wrongly_gain():
    readings, truth = simulated(0.9, wrong=0.0, again=0.0, cases=100)
    effect = rw.fail.reading_effect(readings, truth)
    assert effect.help.verdict == "ahead"
    assert np.isnan(effect.followed.low)
    assert "0 readings with wrong advice" in str(effect.followed)


def test_evidence_has_a_row_a_question():
    readings, truth = simulated(0.8, cases=100)
    rows = rw.fail.reading_effect(readings, truth).evidence()
    assert {row.kind for row in rows} == {"readers"}
    assert [row.verdict for row in rows][1] == "failure"
    assert rows[3].control == pytest.approx(0.1, abs=0.06)
    assert "5 readers" in rows[0].sentence


def test_two_films_of_one_patient_count_as_one():
    readings, truth = simulated(0.5, cases=60)
    patient = {case: f"p{n // 2}" for n, case in enumerate(truth.index)}
    effect = rw.fail.reading_effect(readings, truth, patients=patient)
    assert "30 patients" in str(effect.help)


def test_one_reader_is_judged_alone_and_the_sentence_says_so():
    readings, truth = simulated(0.8, readers=1)
    effect = rw.fail.reading_effect(readings, truth)
    for comparison in (effect.help, effect.followed, effect.told_apart):
        assert "1 reader" in str(comparison)
        assert "of one reader, it says nothing of others" in str(comparison)
    assert np.isfinite(effect.help.low)


@pytest.mark.parametrize("nameless", [range(30), range(30, 60), range(60)])
def test_readings_of_unknown_patients_have_no_interval(nameless):
    readings, truth = simulated(0.8)
    patient = {f"film {n}": None if n in nameless else f"p{n}" for n in range(N)}
    known = rw.fail.reading_effect(readings, truth)
    effect = rw.fail.reading_effect(readings, truth, patients=patient)
    for which in ("help", "followed", "told_apart"):
        comparison = getattr(effect, which)
        assert np.isnan([comparison.low, comparison.high, comparison.p]).all()
        assert comparison.difference == getattr(known, which).difference
    assert "readings without a patient" in str(effect.followed)
    assert effect.switches["low"].isna().all()


def test_advice_is_asked_for_where_it_was_given_alone():
    readings, truth = simulated(0.8)
    known = rw.fail.reading_effect(readings, truth)
    readings["advice"] = readings["advice"].where(readings["arm"] == "with help")
    as_text = readings.astype({"answer": str, "confidence": str})  # of a CSV
    for same in (readings, as_text):
        effect = rw.fail.reading_effect(same, truth)
        assert effect.followed == known.followed


def test_shares_of_0_and_1_have_a_width():
    part = pd.DataFrame({"reader": list("AB") * 6, "patient": np.arange(12) // 2})
    gap = rate_gap(
        part.assign(moved=True), part.assign(moved=False), names=("a", "b"), what="c"
    )
    assert gap.difference == 1
    assert 0.4 < gap.low < 0.95


def one_case(readings, truth):
    return readings[readings["case"] == "film 0"], truth


def one_class(readings, truth):
    return readings, truth * 0


def no_truth(readings, truth):
    return readings, truth.iloc[1:]


def no_column(readings, truth):
    return readings.drop(columns="advice"), truth


def nothing(readings, truth):
    return readings.iloc[:0], truth


def with_help(column, value):
    def spoilt(readings, truth):
        helped = readings["arm"] == "with help"
        return readings.assign(**{column: readings[column].mask(helped, value)}), truth

    return spoilt


def two_findings(readings, truth):
    half = len(readings) // 2
    return readings.assign(finding=["Edema"] * half + ["Mass"] * half), truth


def nobody_reads(readings, truth):
    return readings.replace({"reader": {"R4": None}}), truth


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_help("answer", np.nan), "1 or 0 as 'answer with help' .* in 300 of 300"),
        (with_help("answer", 2), "such as 2 for case 'film 0'. Try without"),
        (with_help("advice", np.nan), "a number from 0 to 1 as 'advice with help'"),
        (with_help("advice", 83), "a number from 0 to 1 as 'advice with help'"),
        (with_help("confidence", np.nan), "a number as 'confidence with help'"),
        (with_help("confidence", np.inf), "a number as 'confidence with help'"),
        (two_findings, r"got 2: Edema, Mass. Try readings\[.*'finding'\] == 'Edema'"),
        (nobody_reads, "a name as 'reader' of each reading, .* in 60 of 300"),
        (one_case, "got 1 of one kind. Try more cases"),
        (one_class, "got 60 of one kind"),
        (no_truth, "got none for 1, such as 'film 0'"),
        (no_column, r"\['advice'\] are missing"),
        (nothing, "got 0 of one kind"),
    ],
)
def test_readings_that_say_nothing_are_refused_in_a_sentence(spoil, words):
    with pytest.raises(ValueError, match=words):
        rw.fail.reading_effect(*spoil(*simulated(0.5)))


def test_a_constant_confidence_is_an_auroc_of_a_half():
    readings, truth = simulated(0.5)
    readings["confidence"] = 50
    effect = rw.fail.reading_effect(readings, truth)
    assert set(effect.auroc["auroc"]) == {0.5}
    assert "no interval: no reader changed" in str(effect.help)


def test_planted_advice_is_wrong_on_the_share_asked_for():
    truth = np.array([1] * 20 + [0] * 60)
    advice = rw.fail.planted_advice(truth, 0.25, seed=3)
    assert (advice != truth)[:20].sum() == 5
    assert (advice != truth)[20:].sum() == 15
    with pytest.raises(ValueError, match="expected truths of 1 and 0"):
        rw.fail.planted_advice([0, 1, -1])
