"""Claims about blind detectors: each sees what it is for, and no more."""

import numpy as np
import pandas as pd
import pytest
from fail_films import FINDING, frozen, watch_learning

from radwb import fail
from radwb.fail import blind
from radwb.fail.frozen import Part

GRID = (10, 10)


@pytest.fixture
def films(monkeypatch):
    return frozen(monkeypatch, finding=True)


def head_on(films, place):
    """A head that reads the patches of one place and no others."""
    rng = np.random.default_rng(0)
    weights = np.zeros((*GRID, 8))
    weights[place] = rng.normal(size=weights[place].shape)
    return fail.Head(films.start, weights.ravel(), 0.0)


def with_mark(films, strength=1.0):
    return films.tied(films.rows("train"), FINDING, strength)


def test_the_border_tells_a_finding_that_a_mark_is_tied_to(films):
    assert fail.border_tells(with_mark(films)) > 0.95
    assert abs(fail.border_tells(with_mark(films, None)) - 0.5) < 0.15
    assert abs(fail.border_tells(with_mark(films, 0.5)) - 0.5) < 0.15


@pytest.mark.parametrize(
    ("place", "share"), [(np.s_[0], 1.0), (np.s_[3:6, 3:6], 0.0), (np.s_[:, 9], 1.0)]
)
def test_a_map_lies_where_the_head_looks(films, place, share):
    part = with_mark(films, None)
    assert fail.map_at_border(head_on(films, place), part) == pytest.approx(share)


def test_an_answer_moves_along_with_the_corner_that_it_was_read_from(films):
    part = with_mark(films)
    head = head_on(films, np.s_[7:, 6:])
    head = fail.Head(films.start, head.weights * read_sign(head, part), 0.0)
    followed = fail.corner_swaps(head, part)
    assert followed["bottom-right"] > 0.8
    elsewhere = [share for corner, share in followed.items() if "right" not in corner]
    assert np.allclose(elsewhere, 0, atol=1e-3)
    centre = fail.corner_swaps(head_on(films, np.s_[3:7, 4:6]), part)
    assert np.allclose(list(centre.values()), 0, atol=1e-3)


def read_sign(head, part):
    answers = head.of(part.features)
    return np.sign(answers[part.y == 1].mean() - answers[part.y == 0].mean())


def test_the_worst_slice_is_the_films_whose_mark_lies():
    """An eighth of the controls is answered by one patch, and wrong."""
    rng = np.random.default_rng(1)
    y = np.arange(160) % 2
    features = rng.normal(0, 0.1, (160, 100))
    features[y == 1, 50] += 2
    fooled = np.flatnonzero(y == 0)[::8]
    features[fooled, 99] += 2
    start = type("Start", (), {"grid": GRID})()
    head = fail.Head(start, np.ones(100), -1.0)
    part = Part(np.zeros((160, 2, 2), np.uint8), features, y, np.arange(160))
    tie, rows = fail.worst_slice(head, part)
    assert tie > 0.5
    assert set(rows) <= set(fooled)


def test_a_tied_head_is_named_and_a_clean_one_by_none(films):
    clean = fail.blind_signs(films, FINDING, strength=None, seeds=range(20, 26), n=100)
    limits = fail.blind_limits(clean)
    assert list(limits) == list(blind.DETECTORS)
    tied = fail.blind_signs(films, FINDING, strength=0.95, seeds=[0, 1], n=100)
    assert (tied["tie holds"] > tied["tie broken"]).all()
    verdicts = fail.name_shortcuts(tied, limits)
    by_audit = verdicts[verdicts["detector"] == "audit"]
    assert by_audit["named"].all()
    assert (tied["counterfactuals"] > 0.5).all()
    others = fail.blind_signs(films, FINDING, strength=None, seeds=[0, 1], n=100)
    assert not fail.name_shortcuts(others, limits)["named"].any()


def test_a_limit_leaves_its_share_of_clean_heads_below():
    rng = np.random.default_rng(0)
    draws = rng.normal(3, 2, (1500, 6))
    below = []
    for row in draws:
        limits = fail.blind_limits(pd.DataFrame({"maps": row[:5]}), level=0.9)
        below.append(row[5] < limits["maps"])
    assert abs(np.mean(below) - 0.9) < 0.02


def heads_named(hits, n):
    named = np.arange(n) < hits
    return pd.DataFrame({"detector": "maps", "seed": range(n), "named": named})


@pytest.mark.parametrize(
    ("tied", "clean", "n", "verdict"),
    [
        (5, 0, 5, "failure"),
        (5, 5, 5, "can't tell"),  # it names every head
        (20, 20, 20, "can't tell"),
        (3, 2, 5, "can't tell"),
        (0, 0, 5, "can't tell"),  # up to 0.43 more
        (0, 0, 20, "no failure seen"),
        (0, 5, 5, "can't tell"),
    ],
)
def test_verdicts_follow_from_the_difference_to_clean_heads(tied, clean, n, verdict):
    named = heads_named(tied, n), heads_named(clean, n)
    (row,) = fail.blind_evidence(*named, FINDING)
    assert row.verdict == verdict
    assert f"{tied} of {n} heads and in {clean} of {n} clean ones" in row.sentence


@pytest.mark.parametrize(
    ("tied", "clean", "ends"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 10), (0.6075, 1)),
    ],
)
def test_the_interval_is_that_of_newcombe_s_table(tied, clean, ends):
    named = heads_named(*tied), heads_named(*clean)  # 1998, table II, method 10
    (row,) = fail.blind_evidence(*named, FINDING)
    assert (row.low, row.high) == pytest.approx(ends, abs=1e-4)


def test_without_clean_heads_nothing_is_said():
    with pytest.raises(ValueError, match="expected clean heads that maps was asked"):
        fail.blind_evidence(heads_named(5, 5), heads_named(0, 0), FINDING)


def test_a_constant_score_is_one_clear_sentence(films):
    part = with_mark(films, None)
    flat = fail.Head(films.start, np.zeros(800), 0.0)
    for ask in (fail.map_at_border, fail.corner_swaps):
        with pytest.raises(ValueError, match="answers that differ between films"):
            ask(flat, part)


def test_one_patient_is_one_clear_sentence(films):
    part = with_mark(films, None)
    one = Part(part.images, part.features, part.y, np.zeros(len(part.y), int))
    with pytest.raises(ValueError, match="five patients .* got 1 patients"):
        fail.border_tells(one)


def test_a_slice_of_one_is_one_clear_sentence(films):
    y = films.table[FINDING].to_numpy()
    few = [np.flatnonzero(y == value)[:4] for value in (0, 1)]
    part = films.part(np.concatenate(few), FINDING)
    with pytest.raises(ValueError, match="16 films of each class"):
        fail.worst_slice(films.learn(part), part)


def test_two_clean_heads_fix_no_limit():
    with pytest.raises(ValueError, match="three clean heads or more, got 2"):
        fail.blind_limits(pd.DataFrame({"maps": [0.1, 0.2]}))


def test_a_head_on_the_embedding_has_no_patches(films):
    head = fail.Head(films.start, np.zeros(16), 0.0, whole=True)
    with pytest.raises(ValueError, match="a head that reads patches"):
        fail.patch_shares(head, np.zeros((2, 16)))


def test_a_border_by_which_patients_are_known_tells_nothing():
    """A patient's films are one picture twice: in two folds, it would be found again.

    Labels are by patient and random.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 32, 32), dtype=np.uint8).repeat(2, axis=0)
    y = rng.integers(0, 2, 60).repeat(2)
    part = Part(images, np.zeros((120, 1)), y, np.arange(120) // 2)
    assert fail.border_tells(part) == pytest.approx(0.5, abs=0.2)


def test_a_map_varies_where_films_differ_and_not_where_they_are_bright(films):
    part = with_mark(films, None)
    head = fail.Head(films.start, np.ones(800), 0.0)
    brighter = part.features.reshape(-1, *GRID, 8).astype(float)
    brighter[:, 0] += 5
    flat = brighter.reshape(len(brighter), -1)
    moved = Part(part.images, flat, part.y, part.patients)
    same = fail.map_at_border(head, part)
    assert fail.map_at_border(head, moved) == pytest.approx(same, rel=1e-3)


def test_a_suspected_head_has_met_no_film_that_it_is_asked_about(films, monkeypatch):
    learnt = watch_learning(films, monkeypatch)
    fail.blind_signs(films, FINDING, strength=None, seeds=[0], n=100)
    (of_head,) = learnt
    unseen = films.table["patient_id"][films.table["split"] == "test"]
    assert not of_head & set(unseen)
