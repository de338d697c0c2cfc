"""Claims about counterfactual edits: one thing differs, and the sign is as planted."""

import json

import numpy as np
import pytest
from tables import noise_films

from radwb import fail, models, simulate
from radwb.data import images as films_of
from radwb.fail.edits import Pairs
from radwb.simulate.anatomy import FIELD_MM, default_anatomy
from radwb.simulate.refilm import _edited, _to_edit

PATIENTS = np.arange(12)
FINDING = "Pleural Effusion"


@pytest.fixture(scope="module")
def table():
    return simulate.cohort(n=24, seed=0)


@pytest.fixture(scope="module")
def model():
    return models.load("radwb-tiny")


def refilmed(table, model, what, edit="remove", **how):
    return fail.edit_films(simulate.refilm(table, what, edit, **how), model, what, edit)


@pytest.fixture
def films():
    films = noise_films(12, below=120, side=80)
    films[::2, 60:62, 40:60] = 250  # some are bright in the corner as they are
    return films


def brightness(films):
    return films.mean(axis=(1, 2))


def letters_in_corner(films):
    return (films[:, 60:, 40:] > 200).mean(axis=(1, 2))


def test_taking_a_mark_off_is_adding_it_read_backwards(films):
    added = fail.edit_mark(films, PATIENTS, "add")
    gone = fail.edit_mark(films, PATIENTS, "remove")
    assert np.array_equal(added.before, gone.after)
    assert np.array_equal(added.after, gone.before)


def test_signs_are_right_for_one_who_reads_the_mark_and_its_placebo_is_nothing(films):
    edits = [
        fail.edit_mark(films, PATIENTS, edit) for edit in ("add", "remove", "move")
    ]
    result = fail.edited(letters_in_corner, *edits, fail.placebo(edits[0]))
    table = result.table.set_index("edit")
    assert (
        table.loc["add the mark", "change"] > 0 > table.loc["move the mark", "change"]
    )
    assert (table["right"].dropna() == 1).all()
    assert abs(table.loc["placebo of: add the mark", "change"]) < 1e-9
    assert result.evidence("ahead")[0].verdict == "failure"


def test_a_placebo_changes_as_many_pixels_by_as_much_elsewhere(films):
    added = fail.edit_mark(films, PATIENTS, "add")
    change = added.after.astype(int) - added.before
    fake = fail.placebo(added)
    moved = fake.after.astype(int) - fake.before
    assert not ((moved != 0) & (change != 0)).any()
    clipped = (fake.after == 0) | (fake.after == 255)
    amounts = np.sort(change[change != 0]), np.sort(moved[~clipped & (moved != 0)])
    assert len(amounts[1]) > 0.3 * len(amounts[0])
    assert set(amounts[1]) <= set(amounts[0])


def test_a_placebo_keeps_off_what_it_is_told_to():
    before = np.full((1, 40, 40), 100, np.uint8)
    after = before.copy()
    after[0, 30:35, 30:35] += 50
    pairs = Pairs("add", 1, before, after, np.array(["a"]))
    avoid = np.ones((40, 40))
    avoid[5:10, 10:15] = 0
    moved = fail.placebo(pairs, avoid).after != before
    assert moved[0, 5:10, 10:15].all()
    assert moved.sum() == 25


def test_the_same_patient_is_filmed_twice_and_one_thing_differs(table, model):
    pairs = refilmed(table, model, FINDING, "remove", n=3)
    rows = table.set_index("patient_id").loc[pairs.patients]
    ill = rows[rows[FINDING] == 1].groupby("patient_id").head(1)
    old = films_of(ill, model.size, fit=model.fit)
    change = pairs.before.astype(int) - pairs.after
    for film, before, moved in zip(old, pairs.before, change, strict=True):
        # exposed anew: other noise and framing, the same body
        assert np.corrcoef(film.ravel(), before.ravel())[0, 1] > 0.6
        lower = moved[model.size // 2 :]
        assert lower.sum() > abs(moved[: model.size // 4].sum())
    assert (change.mean(axis=(1, 2)) > 0).all()  # fluid is white


def test_an_added_finding_is_the_removed_one_s_mirror(table, model):
    added = refilmed(table, model, FINDING, "add", n=2)
    answers = fail.edited(brightness, added).table
    assert answers["right"].item() == 1
    assert answers["patients"].item() == 2
    healthy = table.set_index("patient_id").loc[added.patients, "planted"]
    names = [[f["name"] for f in json.loads(planted)] for planted in healthy]
    assert any(FINDING not in of_film for of_film in names)


def test_another_s_patients_are_one_clear_sentence(table, model):
    with pytest.raises(ValueError, match="a patient of rw.simulate.cohort"):
        refilmed(table.assign(patient_id="p7"), model, FINDING)
    older = table.assign(age_years=table["age_years"] + 1)
    with pytest.raises(ValueError, match="Try dials= of your cohort"):
        refilmed(older, model, FINDING)


def test_nobody_to_edit_is_one_clear_sentence(table, model):
    healthy = table.assign(planted="[]")
    with pytest.raises(ValueError, match="got none of 24 rows"):
        refilmed(healthy, model, FINDING, "move")


def test_an_unknown_edit_is_refused(films, table, model):
    with pytest.raises(ValueError, match="an edit of add, remove, move"):
        fail.edit_mark(films, PATIENTS, "blur")
    with pytest.raises(ValueError, match="an edit of add, remove, move"):
        refilmed(table, model, FINDING, "blur")


def test_a_more_visible_finding_changes_the_same_place_more(table, model):
    changed = []
    for cnr in (1, 4):
        dials = simulate.Dials(cnr=cnr)
        before, after, _ = simulate.refilm(table, FINDING, "add", n=3, dials=dials)
        films = zip(before, after, strict=True)
        moved = [b.pixels.astype(int) - a.pixels for a, b in films]
        inside = [scan.truth[FINDING] for scan in after]
        changed.append([m[i].mean() for m, i in zip(moved, inside, strict=True)])
    faint, clear = np.array(changed)
    assert (clear > 2 * faint).all()


def test_a_constant_score_is_one_clear_sentence(films):
    added = fail.edit_mark(films, PATIENTS)
    with pytest.raises(ValueError, match="answers that differ between films"):
        fail.edited(lambda films: np.zeros(len(films)), added)


def test_one_patient_gets_no_interval(films):
    one = fail.edit_mark(films[:2], ["a", "a"])
    row = fail.edited(brightness, one).table.iloc[0]
    assert np.isnan(row["low"])
    assert "1 patient" in row["note"]


def test_the_size_of_a_change_counts_by_patient_whichever_way_it_goes(films):
    gone = fail.edit_mark(films, PATIENTS, "remove")
    (row,) = fail.edited(letters_in_corner, gone, fail.placebo(gone)).evidence("ahead")
    assert row.verdict == "failure"
    assert row.low > 0
    of_one = fail.edit_mark(films, ["a"] * 12, "remove")
    (row,) = fail.edited(letters_in_corner, of_one, fail.placebo(of_one)).evidence(
        "ahead"
    )
    assert row.verdict == "can't tell"
    assert np.isnan(row.low)


def test_what_moves_goes_to_the_other_side_and_the_rest_stays(table):
    anatomy = default_anatomy(FIELD_MM / 160)
    rng = np.random.default_rng(0)
    sides = 0
    for _, row in table.head(8).iterrows():
        for name in {f["name"] for f in json.loads(row["planted"])}:
            has, moved = _edited(row, name, None, "move", anatomy, rng)
            _, gone = _edited(row, name, None, "remove", anatomy, rng)
            others = [f for f in has if f.name != name]
            assert gone == others
            assert moved[: len(others)] == others
            ours = [f for f in has if f.name == name]
            for old, new in zip(ours, moved[len(others) :], strict=True):
                assert (new.name, new.kind) == (name, old.kind)
                assert new.severity == old.severity
                if old.side in ("left", "right"):
                    assert {old.side, new.side} == {"left", "right"}
                    sides += 1
    assert sides > 2


def test_each_patient_is_filmed_once(table):
    twice = table.loc[table.index.repeat(2)].reset_index(drop=True)
    for edit in ("add", "remove"):
        chosen = _to_edit(twice, FINDING, None, edit)
        assert chosen["patient_id"].is_unique
        assert set(chosen[FINDING]) <= {int(edit == "remove")}
