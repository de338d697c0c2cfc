"""Slices: found where they are planted, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.mixture import GaussianMixture

import radwb as rw
from radwb.fail.slices import words as words_of_slices
from radwb.fail.slices.confirm import answers, errs_more
from radwb.fail.slices.find import _components
from radwb.fail.slices.mixture import fit_mixture
from radwb.probe import Scores
from radwb.probe.text import text_embeddings

FINDING = "Pneumothorax"


def clouds(n=500, k=4, seed=0):
    """Films in k clouds of embeddings; which cloud each is in."""
    rng = np.random.default_rng(seed)
    cloud = rng.integers(0, k, n)
    centres = rng.normal(size=(k, 6))
    return 4 * centres[cloud] + rng.normal(size=(n, 6)), cloud


def cohort(seed=0, n=600, planted=True):
    """Two films a patient in four clouds; in cloud 0 three of four ill are missed."""
    rng = np.random.default_rng(seed)
    Z, cloud = clouds(n, seed=seed)
    table = pd.DataFrame({"patient_id": [f"p{film // 2}" for film in range(n)]})
    table["site"] = np.where(cloud == 0, "A", rng.choice(["A", "B", "C"], n))
    table["sex"] = rng.choice(["F", "M"], n)
    table[FINDING] = (rng.random(n) < 0.4).astype(int)
    patient = np.repeat(rng.normal(size=n // 2), 2)
    s = 3 * table[FINDING] + (patient + rng.normal(size=n)) / np.sqrt(2)
    missed = (cloud == 0) & (table[FINDING] == 1) & (rng.random(n) < 0.75)
    if planted:
        s = np.where(missed, s - 3, s)
    scores = Scores.of(np.asarray(s)[:, None], table, [FINDING])
    return table, Z, scores, cloud


def test_without_labels_and_answers_it_is_a_gaussian_mixture():
    Z, _ = clouds()
    y = np.arange(len(Z)) % 2
    ours = fit_mixture(Z, y, y / 2, k=4, label_weight=0, answer_weight=0, seed=3)
    theirs = GaussianMixture(4, covariance_type="diag", tol=1e-3, random_state=3)
    theirs.fit(Z)
    assert np.allclose(ours.means, theirs.means_)
    assert np.allclose(ours.variances, theirs.covariances_)
    assert np.isclose(ours.likelihood, theirs.lower_bound_)


def test_a_step_is_bayes_rule_written_out():
    """A film's share of a slice, film by film, as the paper's formula has it."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(30, 2))
    y = rng.integers(0, 2, 30)
    p = rng.random(30)
    mixture = fit_mixture(Z, y, p, k=2, label_weight=0.5, answer_weight=2)
    for film in range(30):
        chances = []
        for part in range(2):
            away = (Z[film] - mixture.means[part]) ** 2 / mixture.variances[part]
            width = np.sqrt(2 * np.pi * mixture.variances[part])
            density = np.prod(np.exp(-away / 2) / width)
            label = mixture.labels[part, y[film]] ** 0.5
            answer = mixture.answers[part] @ [1 - p[film], p[film]]
            chances.append(mixture.weights[part] * density * label * answer**2)
        ours = mixture.log_joint(Z, y, p)[film]
        assert np.allclose(np.exp(ours), chances, atol=1e-6, rtol=1e-4)


def test_labels_and_answers_part_films_that_look_alike():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(400, 3))
    y = np.arange(400) % 2
    mixture = fit_mixture(Z, y, y.astype(float), k=2, label_weight=30)
    assert np.allclose(np.sort(mixture.labels[:, 1]), [0, 1], atol=0.01)


def test_a_planted_slice_is_found_and_its_films_are_named_first():
    table, Z, scores, cloud = cohort()
    slices = rw.fail.find_slices(scores, Z, table, k=5)
    assert slices.table["error"][0] == "missed"
    assert slices.table["found"].tolist()[:2] == [True, False]
    assert (cloud[slices.films[0][:10]] == 0).mean() >= 0.8
    assert len(slices.examples(0, n=3)) == 3
    row = slices.table.iloc[0]
    inside = slices.films[0]
    assert row["n"] == len(inside)
    assert row["patients"] == table["patient_id"].iloc[inside].nunique()
    assert np.isclose(row["difference"], row["rate"] - row["rest_rate"])
    assert row["auroc"] < row["auroc_rest"]


def test_half_of_the_patients_looks_and_the_other_confirms():
    table, Z, scores, _ = cohort()
    answered = answers(scores.truth[FINDING], scores.values[FINDING], table.patient_id)
    patients = table["patient_id"].to_numpy()
    suggesting = set(patients[answered.looking])
    slices = rw.fail.find_slices(scores, Z, table, k=5)
    for films in slices.films:
        assert not suggesting & set(patients[films])
    assert 0.4 < answered.looking.mean() < 0.6


def test_an_answer_cannot_put_its_own_film_into_a_slice():
    """Where the half that confirms answers the contrary, its slices stay the same."""
    table, _, scores, _ = cohort()
    Z = np.random.default_rng(0).normal(size=(len(table), 3))  # nothing but answers
    truth = scores.truth[FINDING]
    answered = answers(truth, scores.values[FINDING], table["patient_id"])
    values = scores.values.to_numpy(copy=True)
    values[~answered.looking] *= -1
    turned = Scores.of(values, table, [FINDING])
    before = rw.fail.find_slices(scores, Z, table, k=5)
    after = rw.fail.find_slices(turned, Z, table, k=5)
    films = [{tuple(sorted(f)) for f in slices.films} for slices in (before, after)]
    assert films[0] == films[1]


def test_no_more_than_one_in_twenty_cohorts_without_a_slice_has_one():
    found = 0
    by_table = 0
    for seed in range(40):
        table, Z, scores, _ = cohort(seed, n=300, planted=False)
        slices = rw.fail.find_slices(scores, Z, table, k=5, seed=seed)
        found += slices.table["found"].any()
        slices = rw.fail.metadata_slices(scores, table, seed=seed)
        by_table += slices.table["found"].any()
    assert found <= 2
    assert by_table <= 2


def test_the_test_of_a_slice_knows_that_films_of_a_patient_are_alike():
    """Errors by patient, slices by patient: one in forty is called worse, or fewer."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 4)
    ahead = 0
    for _ in range(400):
        wrong = (rng.random(60) < 0.3)[patients]
        inside = (rng.random(60) < 0.3)[patients]
        ahead += errs_more(wrong, inside, patients).verdict == "ahead"
    assert ahead <= 20


def test_limits_are_clopper_and_pearsons_where_each_patient_has_one_film():
    wrong = np.r_[np.ones(5), np.zeros(4), np.ones(10), np.zeros(190)]
    inside = np.arange(209) < 9
    gap = errs_more(wrong, inside, np.arange(209))
    low = beta.ppf(0.025, 5, 5)
    high_of_rest = beta.ppf(0.975, 11, 190)
    by_hand = (5 / 9 - 0.05) - np.hypot(5 / 9 - low, high_of_rest - 0.05)
    assert np.isclose(gap.low, by_hand)
    assert gap.p < 0.05
    assert gap.verdict == "ahead"


def test_more_comparisons_ask_for_more():
    wrong = np.r_[np.ones(4), np.zeros(6), np.ones(10), np.zeros(90)]
    inside = np.arange(110) < 10
    one, of_forty = (
        errs_more(wrong, inside, range(110), family=family) for family in (1, 40)
    )
    assert of_forty.low < one.low
    assert of_forty.p == one.p


def test_a_table_names_the_planted_site():
    table, _, scores, cloud = cohort()
    table["site"] = np.where(cloud == 0, "A", "B")
    slices = rw.fail.metadata_slices(scores, table, columns=["site", "sex"])
    top = slices.table.iloc[0]
    assert top["slice"].startswith("site=A") or ", site=A" in top["slice"]
    assert top["error"] == "missed"
    assert top["found"]


def test_ages_come_in_bands_and_missing_values_have_a_name():
    table, _, scores, cloud = cohort()
    table["age_years"] = np.where(cloud == 0, np.nan, 55)
    slices = rw.fail.metadata_slices(scores, table, columns=["age_years"])
    assert slices.table["slice"][0] == "age_years=unknown"


def test_a_slice_is_described_by_the_words_nearest_to_it(model):
    phrases = ["pleural effusion", "pneumothorax", "cardiomegaly"]
    Z = text_embeddings(model, phrases)
    rng = np.random.default_rng(0)
    films = np.repeat(Z, 20, axis=0) + rng.normal(0, 0.05, (60, Z.shape[1]))
    inside = np.arange(20, 40)
    rest = np.r_[0:20, 40:60]
    of_films = films, inside, rest, range(60)
    words = rw.fail.describe_slice(model, *of_films, phrases=phrases)
    assert words["phrase"][0] == "pneumothorax"
    assert words["chance"][0] < 0.05
    mixed = rng.permutation(60)
    of_films = films, mixed[:20], mixed[20:], range(60)
    words = rw.fail.describe_slice(model, *of_films, draws=99)
    assert words["chance"][0] > 0.05


def test_many_films_of_few_patients_come_near_to_words_by_chance(model, monkeypatch):
    """Ten films of each patient, and slices that are nothing but six patients."""
    rng = np.random.default_rng(0)
    said = rng.normal(size=(10, 16))
    monkeypatch.setattr(words_of_slices, "text_embeddings", lambda *_: said)
    by_chance = 0
    patients = np.repeat(range(30), 10)
    for _ in range(60):
        films = rng.normal(size=(30, 16))[patients] + 0.3 * rng.normal(size=(300, 16))
        inside = np.flatnonzero(patients < 6)
        rest = np.flatnonzero(patients >= 6)
        words = rw.fail.describe_slice(
            model, films, inside, rest, patients, phrases=list("abcdefghij"), draws=99
        )
        by_chance += words["chance"].min() <= 0.05
    low, _ = rw.stats.wilson(by_chance, 60)
    assert low < 0.05


def test_random_slices_are_of_whole_patients_and_of_about_as_many_films():
    owner = np.repeat(range(5), [1, 2, 3, 4, 90])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = words_of_slices._whole_patients(owner, 6, rng)
        inside = set(owner[drawn])
        assert inside.isdisjoint(owner[~drawn])
        assert drawn.sum() in (*range(6, 11), *range(90, 96), 99)
        assert not drawn.all()


def test_a_slice_becomes_a_row_of_the_card():
    table, Z, scores, _ = cohort()
    slices = rw.fail.find_slices(scores, Z, table, k=5)
    (row,) = slices.evidence()
    assert row.kind == "slice"
    assert row.verdict == "failure"
    assert row.low > 0
    assert row.unit == "patients"
    table, Z, scores, _ = cohort(planted=False)
    (row,) = rw.fail.find_slices(scores, Z, table, k=5).evidence()
    assert row.verdict == "can't tell"


def test_a_model_that_never_errs_has_no_candidate():
    table, Z, _, _ = cohort()
    right = Scores.of(table[[FINDING]].to_numpy(float), table, [FINDING])
    slices = rw.fail.find_slices(right, Z, table, k=5)
    assert len(slices.table) == 0
    assert len(slices.found) == 0
    (row,) = slices.evidence()
    assert row.verdict == "no failure seen"
    assert len(rw.fail.metadata_slices(right, table).table) == 0


@pytest.mark.parametrize("look", ["embeddings", "table"])
def test_where_films_are_too_few_to_suggest_a_slice_nothing_is_cleared(look):
    table, Z, scores, _ = cohort(n=28)
    slices = LOOKS[look](scores, Z, table)
    assert len(slices.table) == 0
    (row,) = slices.evidence()
    assert row.verdict == "can't tell"
    answered = answers(scores.truth[FINDING], scores.values[FINDING], table.patient_id)
    ill = answered.y[answered.looking].sum()
    healthy = answered.looking.sum() - ill
    assert f"among {ill} films with {FINDING} and {healthy} without" in row.sentence
    assert "under 10" in row.sentence
    assert row.n == ill + healthy


LOOKS = {
    "embeddings": lambda scores, Z, table: rw.fail.find_slices(scores, Z, table, k=3),
    "table": lambda scores, Z, table: rw.fail.metadata_slices(scores, table),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("one class", "with and without the finding"),
        ("constant", "scores that differ"),
        ("one patient", "two patients or more"),
        ("nobody", "a patient_id for each film"),
    ],
)
def test_bad_input_is_one_clear_sentence(look, spoil, says):
    table, Z, scores, _ = cohort(n=100)
    values = scores.values.to_numpy()
    if spoil == "one class":
        table[FINDING] = 1
    if spoil == "constant":
        values = np.full_like(values, 0.5)
    if spoil == "one patient":
        table["patient_id"] = "p1"
    if spoil == "nobody":
        table["patient_id"] = None
    scores = Scores.of(values, table, [FINDING])
    with pytest.raises(ValueError, match=says):
        LOOKS[look](scores, Z, table)


def test_fewer_films_than_slices_and_other_slips():
    table, Z, scores, _ = cohort(n=100)
    with pytest.raises(ValueError, match="more films than slices.*k=80"):
        rw.fail.find_slices(scores, Z, table, k=80)
    with pytest.raises(ValueError, match="one embedding for each of 100 rows, got 99"):
        rw.fail.find_slices(scores, Z[:99], table)
    with pytest.raises(ValueError, match="a finding of"):
        rw.fail.find_slices(scores, Z, table, finding="Fracture")
    with pytest.raises(ValueError, match="scanner"):
        rw.fail.metadata_slices(scores, table, columns=["scanner"])


def test_a_slice_of_one_has_no_interval():
    wrong = np.arange(50) < 5
    gap = errs_more(wrong, np.arange(50) == 0, np.arange(50))
    assert np.isnan(gap.low)
    assert gap.note == "no interval: 1 patient on one side"
    assert gap.verdict == "can't tell"
    nobody = errs_more(wrong, np.zeros(50, bool), np.arange(50))
    assert np.isnan(nobody.difference)
    assert "0 patients" in nobody.note


def test_words_need_films_on_both_sides(model):
    Z = np.eye(192)[:4]
    with pytest.raises(ValueError, match="films in the slice and in the rest"):
        rw.fail.describe_slice(model, Z, [], [0, 1], range(4))
    with pytest.raises(ValueError, match="two or more, got 1 in 3 films"):
        rw.fail.describe_slice(model, Z, [0], [1, 2], list("aaab"))
    with pytest.raises(ValueError, match="1 films without"):
        rw.fail.describe_slice(model, Z, [0], [1, 2], ["a", None, "b", "c"])
    with pytest.raises(ValueError, match="a patient of each embedding"):
        rw.fail.describe_slice(model, Z, [0], [1, 2], list("abc"))


def test_a_film_at_the_threshold_counts_as_ill():
    s = np.resize([0.2, 0.5, 0.7, 0.5], 40)
    answered = answers(np.resize([0, 1, 1, 0], 40), s, range(40), threshold=0.5)
    assert answered.wrong.tolist() == [False, False, False, True] * 10


def test_components_know_nothing_of_the_half_that_confirms():
    table, Z, scores, _ = cohort(n=200)
    y, s = scores.truth[FINDING], scores.values[FINDING]
    answered = answers(y, s, scores.patient_id)
    other = Z.copy()
    other[answered.rows[~answered.looking]] *= [9, 1, 1, 5, 1, 1]
    first, second = (_components(of, table, answered, 4, 3) for of in (Z, other))
    np.testing.assert_allclose(first[answered.looking], second[answered.looking])


def test_a_band_of_age_begins_with_its_first_year_and_the_worst_is_shown_first():
    table, _, scores, cloud = cohort()
    table["age_years"] = np.where(cloud == 0, 40, 39)
    slices = rw.fail.metadata_slices(scores, table, columns=["age_years"])
    assert slices.table["slice"][0] == "age_years=[40, 60)"
    assert slices.table["error"][0] == "missed"
    shown = scores.values[FINDING].to_numpy()[slices.films[0]]
    assert (np.diff(shown) >= 0).all()


def test_nearness_is_to_what_sets_a_phrase_apart_from_the_others(model):
    phrases = ["pleural effusion", "pneumothorax", "cardiomegaly"]
    said = text_embeddings(model, phrases)
    films = np.random.default_rng(0).normal(size=(30, said.shape[1]))
    of_films = films, range(10), range(10, 30), range(30)
    words = rw.fail.describe_slice(model, *of_films, phrases=phrases, draws=20)
    apart = films[:10].mean(axis=0) - films[10:].mean(axis=0)
    expected = said @ apart
    nearness = words.set_index("phrase")["nearness"][phrases]
    np.testing.assert_allclose(nearness, expected - expected.mean(), atol=1e-5)
