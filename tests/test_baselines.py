"""Claims about a number's company.

Raw pixels, untrained towers, folds by patient, blind counts, prompts of others.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tables import films_table, noise_films, patients_table

import radwb as rw
from radwb import probe, stats
from radwb.probe.baselines import untrained

FINDINGS = ["Edema", "Pneumonia", "Lung Lesion"]


@pytest.fixture
def table():
    return patients_table(80, dict(zip(FINDINGS, (0.5, 0.3, 0.4), strict=True)))


@pytest.fixture
def films(tmp_path):
    """24 patients, a film each: a bright square where there's an edema."""
    pixels = noise_films(24, below=100, side=64, seed=1)
    ill = np.arange(24) % 2
    pixels[:, 8:24, 8:24] += 128 * ill.astype(np.uint8)[:, None, None]
    return films_table(tmp_path, pixels, Edema=ill)


def noise(table, dimensions=8, seed=0):
    return np.random.default_rng(seed).normal(size=(len(table), dimensions))


def scores_of(table, values):
    return probe.Scores.of(values, table, FINDINGS)


def test_raw_pixels_are_the_film_made_small(films):
    pixels = probe.raw_pixels(films, 16)
    assert pixels.shape == (24, 256)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    square = pixels.reshape(24, 16, 16)[:, 3:5, 3:5].mean(axis=(1, 2))
    assert stats.auroc(films["Edema"], square) == 1
    assert stats.auroc(films["Edema"], probe.brightness(films, ["Edema"]).values) == 1


def test_a_cross_probe_judges_no_patient_that_it_was_fitted_on(table):
    """A code of the patient lets a probe that saw a patient's other films know its
    label, and one that didn't guess.
    """
    names, row = np.unique(table["patient_id"], return_inverse=True)
    code = np.eye(len(names))[row]
    aurocs = [
        probe.crossed.cross_probe(code, table, label="Edema", seed=seed)
        .auroc()
        .auroc[0]
        for seed in range(3)
    ]
    assert max(aurocs) < 0.7


def test_a_cross_probe_equals_scikit_learn_fold_by_fold(table):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.preprocessing import StandardScaler

    Z = noise(table)
    Z[:, 0] += table["Edema"]
    got = probe.crossed.cross_probe(Z, table, label="Edema", C=0.01).values["Edema"]
    y = table["Edema"].to_numpy()
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fit, ask in folds.split(Z, y, groups=table["patient_id"]):
        scaler = StandardScaler().fit(Z[fit])
        regression = LogisticRegression(C=0.01, class_weight="balanced")
        regression.fit(scaler.transform(Z[fit]), y[fit])
        own, other = (
            regression.decision_function(scaler.transform(Z[rows]))
            for rows in (fit, ask)
        )
        np.testing.assert_allclose(got[ask], other - own.mean(), atol=1e-6)


def test_a_cross_probe_refuses_fewer_patients_than_folds(table):
    one_patient = table.assign(Edema=(table["patient_id"] == "p0").astype(int))
    with pytest.raises(
        ValueError, match="expected 5 patients with Edema and 5 without"
    ):
        probe.crossed.cross_probe(noise(table), one_patient, label="Edema")
    with pytest.raises(ValueError, match="expected a finding to probe"):
        probe.crossed.cross_probe(noise(table), one_patient, label=[])
    enough, left_out = probe.enough_patients(one_patient, ["Edema", "Pneumonia"])
    assert enough == ["Pneumonia"]
    assert left_out == {"Edema": 1}


def test_untrained_towers_share_the_shape_and_differ_by_seed():
    model = rw.models.load("radwb-tiny")
    twins = untrained(model, seeds=(0, 1))
    images = np.random.default_rng(0).integers(0, 255, (4, 128, 128), dtype=np.uint8)
    first, second = (rw.models.embed(twin, images) for twin in twins)
    again = rw.models.embed(untrained(model, seeds=(0,))[0], images)
    assert first.shape == rw.models.embed(model, images).shape
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(first, again)


def test_another_librarys_tower_is_not_drawn_anew(vit):
    with pytest.raises(ValueError, match="expected a model that radwb builds itself"):
        untrained(vit)


def test_representations_put_pixels_and_untrained_towers_beside_the_model(films):
    model = rw.models.load("radwb-tiny")
    features = probe.representations(model, films, sizes=(4,), seeds=(0, 1))
    assert list(features) == ["the model", "untrained tower", "4 x 4 pixels"]
    assert [len(each) for each in features.values()] == [1, 2, 1]
    probes = probe.baselines(features, films, label="Edema", C=0.01)
    shown = probe.compare_scores(probes)
    assert shown["scored"].tolist() == list(features)
    assert shown["seeds"].tolist() == [1, 2, 1]
    assert shown["positive_patients"].tolist() == [12, 12, 12]


def test_side_by_side_pairs_the_first_with_each_other(table):
    good = scores_of(table, table[FINDINGS] + noise(table, 3, seed=1))
    poor = [scores_of(table, noise(table, 3, seed=seed)) for seed in (2, 3)]
    shown = probe.compare_scores({"good": good, "poor": poor})
    mean = shown[shown["finding"] == "mean of 3"].set_index("scored")
    assert mean.auroc["good"] == pytest.approx(good.mean_auroc().auroc[0])
    of_seeds = np.mean([one.mean_auroc().auroc[0] for one in poor])
    assert mean.auroc["poor"] == pytest.approx(of_seeds)
    assert mean.difference["poor"] == pytest.approx(mean.auroc["good"] - of_seeds)
    assert mean.verdict["poor"] == "ahead"
    assert mean.sentence["poor"].startswith("good is ahead of poor by")
    edema = shown[shown["finding"] == "Edema"].set_index("scored")
    by_sklearn = roc_auc_score(table["Edema"], good.values["Edema"])
    assert edema.auroc["good"] == pytest.approx(by_sklearn)
    assert "one of 3 comparisons" in edema.sentence["poor"]
    assert probe.comparison_sentences(shown) == mean.sentence["poor"]
    assert probe.comparison_sentences(shown, "Edema") == edema.sentence["poor"]


def test_seeds_do_not_multiply_films(table):
    twins = [scores_of(table, noise(table, 3, seed=seed)) for seed in range(4)]
    shown = probe.compare_scores({"one": twins[0], "four": twins})
    for finding, rows in shown.groupby("finding"):
        assert rows["positives"].nunique() == 1, finding
        assert rows["positive_patients"].nunique() == 1, finding


def test_among_abnormal_films_every_control_has_another_finding(table):
    scores = scores_of(table, noise(table, 3))
    truth = probe.among_abnormal(scores).truth
    controls = truth["Edema"] == 0
    assert (table.loc[controls, FINDINGS].sum(axis=1) > 0).all()
    assert (truth["Edema"] == 1).sum() == table["Edema"].sum()
    normal = (table[FINDINGS].sum(axis=1) == 0).to_numpy()
    assert truth[normal].isna().all(axis=None)
    with pytest.raises(ValueError, match="two findings or more"):
        probe.among_abnormal(probe.Scores.of(noise(table, 1), table, ["Edema"]))


def test_a_blind_count_looks_at_the_others_alone(table):
    scores = scores_of(table, noise(table, 3))
    counted = probe.finding_count_control(scores).values
    by_hand = table["Pneumonia"] + table["Lung Lesion"]
    np.testing.assert_array_equal(counted["Edema"], by_hand)


def test_a_score_of_being_ill_falls_among_the_ill_and_one_of_the_finding_does_not(
    table,
):
    ill = table[FINDINGS].max(axis=1).to_numpy()[:, None].repeat(3, axis=1)
    for values, falls in ((ill, True), (table[FINDINGS].to_numpy(), False)):
        shown = probe.specificity(scores_of(table, values)).iloc[-1]
        assert shown["finding"] == "mean of 3"
        assert (shown["abnormal"] == 0.5) == falls
        assert (shown["abnormal"] == 1.0) != falls


def test_the_prompt_label_matrix_has_the_aurocs_of_the_scores_on_its_diagonal(table):
    scores = scores_of(table, noise(table, 3))
    matrix = probe.prompt_label_matrix(scores)
    np.testing.assert_allclose(np.diag(matrix), scores.auroc()["auroc"])
    by_sklearn = roc_auc_score(table["Pneumonia"], scores.values["Edema"])
    assert matrix.loc["Edema", "Pneumonia"] == pytest.approx(by_sklearn)


def test_a_swapped_prompt_is_named_as_the_better_one(table):
    swapped = table[["Pneumonia", "Edema", "Lung Lesion"]].to_numpy()
    shown = probe.best_other_prompt(scores_of(table, swapped)).set_index("finding")
    assert shown.rival["Edema"] == "Pneumonia"
    assert shown.verdict.tolist() == ["behind", "behind", "ahead"]
    assert "one of 6 comparisons" in shown.sentence["Edema"]


def test_a_mean_says_which_findings_it_leaves_out_and_counts_the_rest(table):
    rare = table.assign(Edema=(table["patient_id"] == "p0").astype(int))
    twins = [scores_of(rare, noise(table, 3, seed=seed)) for seed in range(2)]
    shown = probe.compare_scores({"one": twins[0], "two": twins})
    mean = shown[shown["finding"] == "mean of 2"]
    assert mean["note"].tolist() == ["without Edema (cases in 1 patient)"] * 2
    edema = shown[shown["finding"] == "Edema"].set_index("scored")
    assert edema["low"].isna().all()
    assert edema.note["two"] == "no interval: cases in 1 patient"


def test_a_blind_count_leaves_out_what_the_finding_itself_implies():
    truth = pd.DataFrame(
        {
            "Edema": [1, 0, 0, 0],
            "Lung Opacity": [1, 0, 1, 0],
            "Pleural Effusion": [0, 1, 0, 0],
        }
    )
    scores = probe.Scores(truth * 0.0, truth.astype(float), np.arange(4))
    counted = probe.finding_count_control(scores).values
    assert counted["Edema"].tolist() == [0, 1, 0, 0]
    assert counted["Lung Opacity"].tolist() == [0, 1, 0, 0]
    assert counted["Pleural Effusion"].tolist() == [2, 0, 1, 0]
