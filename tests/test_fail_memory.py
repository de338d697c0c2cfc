"""Claims about memory: copies are found, and what was learnt by heart shows."""

import numpy as np
import pandas as pd
import pytest

from radwb import fail
from radwb.fail import memory


def unit(n, seed, E=8):
    Z = np.random.default_rng(seed).normal(size=(n, E))
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def two_each(n):
    return np.array([f"p{film // 2}" for film in range(n)])


def test_the_nearest_is_that_of_another_patient():
    train, unseen = unit(20, 0), unit(6, 1)
    train[1] = train[0]  # of one patient: no matter how near
    owners = two_each(20)
    near = fail.nearest_training(train, unseen, owners, [f"q{i}" for i in range(6)])
    everyone = np.concatenate([train, unseen])
    names = np.concatenate([owners, [f"q{i}" for i in range(6)]])
    for film, row in near.iterrows():
        distances = 1 - train @ everyone[film]
        distances[owners == names[film]] = np.inf
        assert row["nearest"] == distances.argmin()
        assert row["distance"] == pytest.approx(distances.min(), abs=1e-6)
    assert near["part"].tolist() == ["train"] * 20 + ["unseen"] * 6


@pytest.mark.parametrize(
    ("copied", "verdict"), [(0, "no failure seen"), (40, "failure")]
)
def test_copies_over_the_split_are_a_failure(copied, verdict):
    train, unseen = unit(300, 0), unit(400, 1)
    unseen[:copied] = train[:copied]
    others = [f"q{film // 2}" for film in range(400)]
    near = fail.nearest_training(train, unseen, two_each(300), others)
    evidence = fail.copies_evidence(near)
    assert evidence.verdict == verdict
    assert evidence.value == pytest.approx(copied / 400, abs=0.03)
    assert evidence.control == 0.01


@pytest.fixture
def by_heart(monkeypatch):
    """Films of which nothing can be learnt but by heart: noise, and labels at random.

    160 patients of two films; a patient's films have one label and share a part of
    their features.
    """
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": two_each(320), "path": range(320)})
    table["path"] = "no file " + table["path"].astype(str)
    table["split"] = np.where(np.arange(320) < 240, "train", "test")
    table["Edema"] = np.repeat(rng.integers(0, 2, 160), 2)
    shared = np.repeat(rng.normal(size=(160, 400)), 2, axis=0)
    features = shared + rng.normal(size=(320, 400))
    features /= np.linalg.norm(features, axis=1, keepdims=True)

    def of_table(model, table, finding, learner):
        rows = table.reset_index(drop=True)
        return rows, features[: len(rows)]

    monkeypatch.setattr(memory, "material", of_table)
    return table


def test_what_is_learnt_by_heart_tells_its_films(by_heart):
    result = fail.membership(None, by_heart, "Edema", seeds=3)
    rows = result.table.groupby("asked")["membership"].mean()
    assert rows["learnt"] > 0.95
    assert rows["control"] == pytest.approx(0.5, abs=0.1)
    (evidence,) = result.evidence()
    assert evidence.verdict == "failure"
    assert (evidence.n, evidence.unit) == (3, "seeds")
    assert abs(evidence.control) < 0.1


def test_patients_stay_together_when_they_are_dealt(by_heart):
    group = pd.Series(memory._dealt(by_heart["patient_id"], 3))
    assert (group.groupby(by_heart["patient_id"]).nunique() == 1).all()
    assert set(group) == {0, 1, 2}


def test_a_patient_on_both_sides_fakes_what_an_honest_split_has_not(by_heart):
    result = fail.duplicated_patients(None, by_heart, "Edema", n=120, seeds=3)
    aurocs = result.table.groupby("in_training")["auroc"].mean()
    assert aurocs["nobody"] == pytest.approx(0.5, abs=0.15)
    assert aurocs["same film"] == 1
    assert aurocs["other film"] > 0.8  # it shares a part with the one that is asked
    assert {row.verdict for row in result.evidence()} == {"failure"}


@pytest.mark.parametrize("n", [60, 400])
def test_all_trainings_learn_as_many_films_and_the_control_learns_others(
    by_heart, n, monkeypatch
):
    """Also where more are asked for, and more leak, than an honest split has."""
    few = by_heart.drop(range(100, 240))
    learnt = []

    def head_of(model, x, y, **how):
        learnt.append(x)
        return memory_of_all(model, x, y, **how)

    memory_of_all = memory.fit_head
    monkeypatch.setattr(memory, "fit_head", head_of)
    result = fail.duplicated_patients(None, few, "Edema", n=n, seeds=2)
    assert {len(x) for x in learnt} == {50}
    films = {
        name: {tuple(film) for film in x}
        for name, x in zip("nosa", learnt[:4], strict=True)
    }
    assert len(films["n"]) == len(films["a"]) == 50
    assert not films["n"] & films["a"]
    assert all(control != 0 for control in result.controls.values())


def test_a_patient_who_is_in_both_parts_from_the_start_is_refused(by_heart):
    by_heart.loc[319, "patient_id"] = "p0"
    with pytest.raises(ValueError, match="patient"):
        fail.duplicated_patients(None, by_heart, "Edema", n=120, seeds=2)


def test_patients_without_a_name_are_not_one_patient_nor_copies_of_each_other():
    train, unseen = unit(20, 0), unit(6, 1)
    owners = [np.nan, np.nan, *map(str, range(18))]
    others = [f"q{i}" for i in range(6)]
    with pytest.raises(ValueError, match="got 2 of 26 without"):
        fail.nearest_training(train, unseen, owners, others)
    as_text = [str(film) for film in range(20)]
    as_numbers = [float(film) for film in range(20)]
    near = fail.nearest_training(train, train, as_text, as_numbers)
    assert near["distance"].min() > 1e-3  # 7 and 7.0 are one patient


def test_what_keeps_no_memory_says_so(monkeypatch):
    with pytest.raises(ValueError, match="got 1 patients and 3 films"):
        fail.nearest_training(unit(4, 0), unit(3, 1), ["p"] * 4, list("abc"))
    with pytest.raises(ValueError, match="and 0 films"):
        fail.nearest_training(unit(4, 0), unit(0, 1), two_each(4), [])
    table = pd.DataFrame({"patient_id": list("abcd"), "Edema": [1, 1, 1, 1]})
    with pytest.raises(ValueError, match="with and without Edema of three patients"):
        fail.membership(None, table, "Edema")
    one = table.assign(patient_id="a", Edema=[0, 1, 0, 1])
    with pytest.raises(ValueError, match="got 4 films of 1"):
        fail.duplicated_patients(None, one, "Edema")
    with pytest.raises(ValueError, match="expected a learner of"):
        fail.membership(None, table, "Edema", learner="ears")
    alone = table.assign(Edema=[0, 1, 0, 1], split="test")
    monkeypatch.setattr(memory, "material", lambda *_: (alone, np.eye(4)))
    with pytest.raises(ValueError, match="with two films, got none"):
        fail.duplicated_patients(None, alone, "Edema")


def near_of(close, owners):
    """A table of `nearest_training`: of 100 training films one lies near another."""
    of_train = np.r_[0.1, np.full(99, 1.0)]
    unseen = np.where(close, 0.05, 1.0)
    parts = ["train"] * 100 + ["unseen"] * len(unseen)
    distance = np.concatenate([of_train, unseen])
    names = [f"t{i}" for i in range(100)] + list(owners)
    return pd.DataFrame({"part": parts, "patient_id": names, "distance": distance})


def test_copies_are_told_for_sure_and_by_patient():
    few = np.arange(100) < 2  # above 0.01, but not for sure
    owners = [f"u{i}" for i in range(100)]
    evidence = fail.copies_evidence(near_of(few, owners))
    assert evidence.value == 0.02
    assert evidence.verdict == "can't tell"
    of_one = fail.copies_evidence(near_of(np.ones(50, bool), ["u"] * 50))
    assert of_one.verdict == "can't tell"
    assert np.isnan(of_one.low)


def test_the_auroc_beside_membership_is_of_films_that_nobody_learnt(by_heart):
    table = fail.membership(None, by_heart, "Edema", seeds=4).table
    assert table.groupby("asked")["auroc"].mean().tolist() == pytest.approx(
        [0.5, 0.5], abs=0.12
    )


def test_each_training_learns_what_its_name_says(by_heart):
    rows = by_heart.reset_index(drop=True)
    asked, others = memory._two_films(rows, np.random.default_rng(0))
    owner = rows["patient_id"].to_numpy()
    assert (owner[asked] == owner[others]).all()
    assert not set(asked) & set(others)
    assert (rows["split"][asked] == "test").all()
    learnt = memory._learnt(np.arange(240), asked, others, 100)
    assert set(others) <= set(learnt["other film"])
    assert not set(asked) & set(learnt["other film"])
    assert set(asked) <= set(learnt["same film"])
    for name in ("nobody", "nobody again"):
        assert not set(owner[learnt[name]]) & set(owner[asked])
