"""A reading study hides what is true, keeps what was read, and goes on from there."""

import stat

import numpy as np
import pandas as pd
import pytest
from tables import films_table, noise_films

import radwb as rw
from radwb.explore.reading import COLUMNS, DESIGNS, schedule

FINDING = "Edema"
N = 8


@pytest.fixture
def films(tmp_path):
    table = films_table(tmp_path / "films", noise_films(N))
    table["study_id"] = [f"secret {n}" for n in range(N)]
    table[FINDING] = [1, 0] * (N // 2)
    return table


@pytest.fixture
def study(films, tmp_path):
    return opened(films, tmp_path)


def opened(films, folder, **more):
    advice = rw.fail.planted_advice(films[FINDING], 0.25, seed=1)
    setting = {"advice": advice, "finding": FINDING, "out": folder / "r.csv"}
    return rw.show.reading_study(films, **setting | more)


def read_all(study, follow=False):
    """By somebody who says yes, but takes over all advice if `follow`."""
    while study.shown["state"] != "done":
        if study.shown["state"] == "wait":
            study.begin()
        told = study.shown["advice"]
        answer = int("isn't there" not in told) if follow and told else 1
        study.read(50 + 30 * answer, answer)


def test_each_film_comes_once_alone_and_once_with_help(study):
    read_all(study)
    readings = study.readings
    assert tuple(readings.columns) == COLUMNS
    assert readings.groupby(["case", "arm"]).size().eq(1).all()
    assert len(readings) == 2 * N
    assert readings.groupby("sitting")["case"].nunique().tolist() == [N, N]
    first = readings[readings["sitting"] == 1]
    assert (first["arm"] == "with help").sum() == N // 2
    assert readings.loc[readings["arm"] == "alone", "advice"].isna().all()


def test_one_after_the_other_advice_comes_after_the_first_answer(films, tmp_path):
    study = opened(films, tmp_path, design="one after the other")
    read_all(study)
    readings = study.readings
    assert readings["case"].iloc[::2].tolist() == readings["case"].iloc[1::2].tolist()
    assert readings["arm"].tolist() == ["alone", "with help"] * N


@pytest.mark.parametrize("design", DESIGNS)
def test_an_order_is_the_readers_own_and_comes_again(design):
    plans = {}
    for reader in "AB":
        plan, again = (
            schedule(40, reader=reader, seed=0, design=design) for _ in range(2)
        )
        assert plan.equals(again)
        plans[reader] = plan["film"].tolist()
    assert plans["A"] != plans["B"]


def test_nothing_of_the_truth_reaches_the_browser(films, tmp_path):
    """Two worlds with other truths and the same advice look alike, word for word."""
    advice = np.array([1, 0, 1, 1, 0, 0, 1, 0])
    seen = []
    for flip in (0, 1):
        truth = abs(films[FINDING] - flip)
        study = opened(films.assign(Edema=truth), tmp_path, advice=advice, out=None)
        states = [str(study.about | {"id": ""})]
        for _ in range(2 * N):
            if study.shown["state"] == "wait":
                study.begin()
            states.append(str(study.shown))
            study.read(50, 1)
        seen.append(states)
        assert study.shown["state"] == "done"
    assert seen[0] == seen[1]
    assert not any("secret" in state for state in seen[0])


def test_a_reading_is_on_disk_at_once_and_the_study_goes_on(films, tmp_path):
    study = opened(films, tmp_path)
    path = tmp_path / "r.csv"
    study.begin()
    assert not path.exists()
    first = study.plan["film"].iloc[0]
    study.read(20, 0, seconds=4.5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    row = pd.read_csv(path).iloc[0]
    assert row["case"] == f"secret {first}"
    assert (row["confidence"], row["answer"], row["seconds"]) == (20, 0, 4.5)
    again = opened(films, tmp_path)
    assert (again.shown["state"], again.shown["number"]) == ("wait", 2)
    other = opened(films, tmp_path, reader="B")
    assert other.shown["number"] == 1
    other.begin()
    other.read(90, 1)
    assert study.readings["reader"].tolist() == ["A", "B"]


def test_another_finding_in_the_same_file_is_read_on_its_own(films, tmp_path):
    films["Mass"] = films[FINDING].to_numpy()[::-1]
    read_all(opened(films, tmp_path), follow=True)
    other = opened(films, tmp_path, finding="Mass")
    assert (other.shown["state"], other.shown["number"]) == ("wait", 1)
    assert other.readings.empty
    read_all(other)
    assert set(other.readings["finding"]) == {"Mass"}
    assert "All 16 readings of reader A are saved" in other.shown["words"]
    again = opened(films, tmp_path)
    assert again.shown["words"].endswith("you followed it on 1.")
    assert len(again.readings) == 2 * N
    everything = pd.read_csv(tmp_path / "r.csv")
    assert len(everything) == 4 * N
    with pytest.raises(ValueError, match="expected readings of one finding, got 2"):
        rw.fail.reading_effect(everything, films.set_index("study_id")[FINDING])


def test_readings_of_a_finding_that_isnt_known_are_refused(study, films, tmp_path):
    study.begin()
    study.read(50, 1)
    path = tmp_path / "r.csv"
    pd.read_csv(path).drop(columns="finding").to_csv(path, index=False)
    older = path.read_text()
    with pytest.raises(ValueError, match=r"without \['finding'\], as an older radwb"):
        opened(films, tmp_path)
    assert path.read_text() == older


def test_the_analysis_takes_what_the_study_wrote(films, tmp_path):
    for reader in "ABC":
        read_all(opened(films, tmp_path, reader=reader), follow=reader != "C")
    readings = pd.read_csv(tmp_path / "r.csv")
    truth = films.set_index("study_id")[FINDING]
    effect = rw.fail.reading_effect(readings, truth)
    share = effect.switches.set_index("switch")["mean"]
    # yes to all is right on 4 films, on one of which the advice is wrong: 2 of 3 follow
    assert share["to wrong advice"] == pytest.approx(2 / 3)
    assert share["to right advice"] == pytest.approx(2 / 3)
    assert share["away from right advice"] == 0


def test_at_the_end_the_reader_hears_how_it_went(films, tmp_path):
    study = opened(films, tmp_path)
    read_all(study, follow=True)
    words = study.shown["words"]
    assert "All 16 readings of reader A are saved" in words
    assert "you were right on 4 alone and on 6 with help" in words
    assert "On 1 that you had right the model's advice was wrong" in words
    assert words.endswith("you followed it on 1.")
    blind = films.drop(columns=FINDING)
    again = opened(films, tmp_path)
    assert again.shown["words"] == words
    told = rw.show.reading_study(
        blind, advice=study.advice, finding=FINDING, out=tmp_path / "r.csv"
    )
    assert told.shown["words"] == "All 16 readings of reader A are saved."


def test_a_page_without_a_kernel_shows_words_and_no_film(study):
    study.begin()
    html = study.stand_in.html()
    assert "reading 1 of 16. It goes on in a notebook with a kernel" in html
    assert "secret" not in html


def test_a_reading_that_is_none_is_refused_and_another_kept_out(study):
    with pytest.raises(ValueError, match="begin"):
        study.read(50, 1)
    study.begin()
    for confidence, answer in [(101, 1), (-1, 0), (float("nan"), 1), (50, 2)]:
        with pytest.raises(ValueError, match="confidence from"):
            study.read(confidence, answer)
    assert study.readings.empty
    sent = []
    study.send = sent.append
    twice = {"read": dict(confidence=5, answer=0, seconds=1.0), "number": 1}
    for _ in range(2):
        study._heard(None, twice, [])
    assert sent == [{"noted": {"error": ""}}]
    assert len(study.readings) == 1


def test_a_file_that_is_something_else_stays(study, tmp_path):
    study.begin()
    (tmp_path / "r.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"got \['mine'\]. It stays as it is"):
        study.read(50, 1)
    assert (tmp_path / "r.csv").read_text() == "mine"
    assert study.shown["number"] == 1


def test_a_film_that_cant_be_read_is_left_out(films, tmp_path):
    films.loc[:, "path"] = "edema_POSITIVE.png"
    study = opened(films, tmp_path)
    study.begin()
    assert study.shown["problem"] == "the film can't be read"
    assert "POSITIVE" not in str(study.get_state())
    assert "POSITIVE" not in study.stand_in.html()
    ((case, why),) = study.problems.items()
    assert case == f"secret {study.plan['film'].iloc[0]}"
    assert "edema_POSITIVE.png" in why
    study._heard(None, {"skip": True, "number": 1}, [])
    assert study.shown["number"] == 2
    assert study.readings.empty


def test_advice_that_fits_no_film_is_refused(films, tmp_path):
    with pytest.raises(ValueError, match="advice from 0 to 1 for each of 8 films"):
        opened(films, tmp_path, advice=[1, 0])
    with pytest.raises(ValueError, match="planted_advice"):
        opened(films, tmp_path, advice=[7] * N)
    with pytest.raises(ValueError, match="two sittings"):
        opened(films, tmp_path, design="at will")


def test_a_probability_is_told_as_one(films, tmp_path):
    study = opened(films, tmp_path, advice=[0.83] * N, design="one after the other")
    study.begin()
    assert study.shown["advice"] == ""
    study.read(50, 1)
    assert study.shown["advice"] == "The model says: Edema is there (83 %)"
