"""Claims about rw.probe: exact AUROCs, intervals over patients.

Paired prompts, probes, retrieval.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tables import patients_table

import radwb as rw
from radwb import probe, stats
from radwb.data import Scan

PHRASES = {"nodule": 0, "no nodule": 1, "air": 2, "no air": 3, "all normal": 4}


class FakeModel:
    """Knows one direction a phrase; counts what it is asked to encode."""

    name = "fake"
    kind = "image-text"
    size = 8
    fit = "pad"
    findings = None
    logit_scale = 10.0
    device = "cpu"

    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.net = torch.nn.Linear(2, 2)
        self.directions = torch.nn.functional.normalize(
            torch.randn(5, 6, generator=generator), dim=1
        )
        self.encoded = []

    def encode_text(self, texts):
        self.encoded += texts
        return torch.stack([self.directions[PHRASES[t]] for t in texts])

    def preprocess(self, scans):
        return torch.ones(1, 1, 8, 8)

    def encode_image(self, x):
        return self.directions[:1]


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def table():
    films = patients_table(60, {"Lung Lesion": 0.5, "Pneumothorax": 0.5}, train=40)
    return films.assign(report=[f"text {film % 4}" for film in films.index])


def unit(n, dim=6, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, dim))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_sklearn(ties):
    rng = np.random.default_rng(1)
    for _ in range(50):
        y, s = rng.integers(0, 2, 40), rng.normal(size=40)
        s = np.round(s) if ties else s
        assert stats.auroc(y, s) == pytest.approx(roc_auc_score(y, s), abs=1e-12)


def test_auroc_by_hand():
    # pairs won: 0.35 beats 0.1; 0.8 beats both; 0.35 loses to 0.4: 3 of 4
    assert stats.auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert stats.auroc([0, 1], [0.5, 0.5]) == 0.5


def test_auroc_drops_uncertain_and_unmentioned_labels():
    assert stats.auroc([0, 1, -1, np.nan, 0, 1], [0.1, 0.9, 9, 9, 0.2, 0.8]) == 1.0


def test_auroc_of_one_class_is_nan():
    assert np.isnan(stats.auroc([1, 1], [0.1, 0.2]))
    assert np.isnan(stats.auroc([], []))


def test_auroc_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="got 3 scores for 2 labels"):
        stats.auroc([0, 1], [1, 2, 3])


@pytest.mark.parametrize("digits", [0, 9])
def test_bootstrap_equals_a_naive_loop_on_the_same_resamples(digits):
    rng = np.random.default_rng(2)
    patients = rng.integers(0, 25, 90)
    y = rng.choice([0, 1, -1, np.nan], 90, p=[0.6, 0.3, 0.05, 0.05])
    s = np.round(rng.normal(size=90), digits)  # 0 digits: many ties
    fast = stats.bootstrap(y, s, patients, n_boot=150, seed=3)
    row, counts = stats.resample_patients(patients, n_boot=150, seed=3)
    for b in range(150):
        drawn = np.concatenate(
            [
                np.flatnonzero(row == p).repeat(int(counts[p, b]))
                for p in range(len(counts))
            ]
        )
        drawn = drawn[np.isin(y[drawn], (0, 1))]
        assert fast[b] == pytest.approx(roc_auc_score(y[drawn], s[drawn]), abs=1e-9)


def test_a_resample_draws_as_many_patients_as_there_are():
    _, counts = stats.resample_patients(list("aabbbc"), n_boot=40)
    assert counts.shape == (3, 40)
    assert (counts.sum(axis=0) == 3).all()


def test_repeating_every_image_widens_nothing_over_patients_but_narrows_over_images():
    rng = np.random.default_rng(4)
    y, s = rng.integers(0, 2, 80), rng.normal(size=80)
    y5 = np.repeat(y, 5)
    s5 = np.repeat(s, 5)
    p5 = np.repeat(np.arange(80), 5)
    once, five = stats.bootstrap(y, s, np.arange(80)), stats.bootstrap(y5, s5, p5)
    np.testing.assert_allclose(
        once, five, atol=1e-12
    )  # five copies of a chest say no more than one
    assert stats.bootstrap(y5, s5, range(400)).std() < 0.6 * once.std()


def test_interval_covers_the_truth_about_95_times_in_100():
    covered = 0
    for trial in range(
        100
    ):  # 40 patients with 3 alike images each; the true AUROC is 0.5
        rng = np.random.default_rng(trial)
        y, s = rng.integers(0, 2, 40).repeat(3), rng.normal(size=40).repeat(3)
        low, high = np.nanquantile(
            stats.bootstrap(y, s, np.arange(40).repeat(3), n_boot=300), [0.025, 0.975]
        )
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 99


def test_scores_count_what_is_used_and_dropped():
    truth = pd.DataFrame({"Edema": [1, 0, -1, np.nan, 0]})
    row = probe.Scores(
        pd.DataFrame({"Edema": [0.9, 0.1, 0.5, 0.5, 0.95]}),
        truth,
        np.array(list("aabcd")),
    ).auroc()
    assert row.loc[0, ["auroc", "n", "positives", "patients", "dropped"]].tolist() == [
        0.5,
        3,
        1,
        2,
        2,
    ]


def test_one_class_gives_nan_and_its_reason():
    scores = probe.Scores(
        pd.DataFrame({"Edema": [0.1, 0.2], "Fracture": [0.1, 0.2]}),
        pd.DataFrame({"Edema": [0, 0], "Fracture": [0, 1]}),
        np.array(["a", "b"]),
    )
    each = scores.auroc().set_index("finding")
    assert np.isnan(each.auroc["Edema"])
    assert each.note["Edema"] == "no case among 2 labelled images"
    assert each.note["Fracture"] == "no interval: cases in 1 patient"
    sentence = rw.stats.format_interval(scores.mean_auroc().iloc[0])
    assert (
        sentence == "no number (without Edema (no case among 2 labelled images), "
        "Fracture (cases in 1 patient))"
    )


def test_mean_of_one_finding_is_that_finding(table):
    scores = probe.Scores.of(
        np.random.default_rng(0).normal(size=(len(table), 1)), table, ["Lung Lesion"]
    )
    columns = [
        "auroc",
        "low",
        "high",
        "n",
        "positives",
        "positive_patients",
        "patients",
        "dropped",
        "note",
    ]
    assert scores.mean_auroc()[columns].equals(scores.auroc()[columns])


def test_mean_is_of_the_findings_that_have_an_interval_and_names_the_others(table):
    truth = (
        table[["Lung Lesion", "Pneumothorax"]]
        .assign(Fracture=np.arange(len(table)) == 0)
        .astype(int)
    )
    values = pd.DataFrame(
        np.random.default_rng(0).normal(size=truth.shape), columns=list(truth)
    )
    scores = probe.Scores(values, truth, table.patient_id.to_numpy())
    mean, each = scores.mean_auroc().iloc[0], scores.auroc().auroc
    assert mean.auroc == pytest.approx(each[:2].mean())
    assert mean.finding == "mean of 2"
    assert mean.note == "without Fracture (cases in 1 patient)"
    assert (mean.low, mean.high) == pytest.approx(
        tuple(np.quantile(scores.resamples().iloc[:, :2].mean(axis=1), [0.025, 0.975])),
        abs=0.02,
    )


def test_perfect_scores_fall_to_a_coin_when_labels_are_shuffled(table):
    scores = probe.Scores.of(table[["Lung Lesion"]], table, ["Lung Lesion"])
    assert scores.auroc().auroc[0] == 1.0
    nulls = [scores.shuffled(seed).auroc().auroc[0] for seed in range(60)]
    assert np.mean(nulls) == pytest.approx(0.5, abs=0.04)


def test_shuffling_moves_whole_patients_and_keeps_the_prevalence():
    patients = np.repeat(np.arange(30), 2)
    truth = pd.DataFrame({"Edema": np.repeat(np.arange(30) % 2, 2)})
    dealt = probe.Scores(truth, truth, patients).shuffled(1).truth["Edema"]
    assert dealt.sum() == truth["Edema"].sum()
    assert (
        dealt[::2].to_numpy() == dealt[1::2].to_numpy()
    ).all()  # a patient's two images still agree
    assert (dealt != truth["Edema"]).any()


PAIR = probe.Prompts(
    positive={"Lung Lesion": ["nodule"]},
    negative={"Lung Lesion": ["no nodule", "all normal"]},
)


def test_zero_shot_is_a_softmax_over_the_pair(model, table):
    Z = unit(len(table))
    got = probe.zero_shot(
        model, table, ["Lung Lesion"], prompts=PAIR, embeddings=Z
    ).values["Lung Lesion"]
    yes, normal = model.directions[0], model.directions[[1, 4]].mean(dim=0)
    cosines = torch.from_numpy(Z) @ torch.stack([yes, normal / normal.norm()]).T
    np.testing.assert_allclose(
        got, (model.logit_scale * cosines).softmax(dim=1)[:, 0], atol=1e-6
    )


def test_zero_shot_finds_images_that_lie_near_their_phrase(model, table):
    toward = np.where(
        table[["Lung Lesion"]] == 1, model.directions[0], model.directions[1]
    )
    scores = probe.zero_shot(
        model,
        table,
        ["Lung Lesion"],
        prompts=PAIR,
        embeddings=toward + 0.1 * unit(len(table)),
    )
    assert scores.auroc().auroc[0] == 1.0


def test_swapping_the_pair_mirrors_the_auroc(model, table):
    Z, swapped = (
        unit(len(table)),
        probe.Prompts(positive=PAIR.negative, negative=PAIR.positive),
    )
    a, b = (
        probe.zero_shot(model, table, ["Lung Lesion"], prompts=p, embeddings=Z)
        .auroc()
        .auroc[0]
        for p in (PAIR, swapped)
    )
    assert a + b == pytest.approx(1.0)


def test_a_phrase_is_encoded_once_until_the_weights_change(model):
    for _ in range(3):
        probe.text_embeddings(model, ["nodule", "air", "nodule"])
    assert model.encoded == ["nodule", "air"]
    with torch.no_grad():
        model.net.weight += 1
    probe.text_embeddings(model, ["air"])
    assert model.encoded == ["nodule", "air", "air"]


def test_two_models_do_not_share_a_cache(model):
    other = FakeModel(seed=1)
    assert not np.allclose(
        probe.text_embeddings(model, ["air"]), probe.text_embeddings(other, ["air"])
    )


def test_default_prompts_affirm_and_deny_each_finding():
    prompts = probe.Prompts.of(["Pleural Effusion", "Lung Lesion", "No Finding"])
    yes, no = prompts.pair("Pleural Effusion")
    assert {"pleural effusion", "large pleural effusion"} <= set(yes)
    assert {
        "no pleural effusion",
        "no evidence of pleural effusion",
        *probe.prompts.NORMAL,
    } <= set(no)
    assert not set(yes) & set(no)
    assert set(prompts.pair("No Finding")[0]) >= set(probe.prompts.NORMAL)


def test_any_is_the_mean_likelihood_of_the_phrases_for_and_nothing_stands_against(
    model, table
):
    Z, many = (
        unit(len(table)),
        probe.Prompts(
            {"Lung Lesion": ["nodule", "air"]}, {"Lung Lesion": ["no nodule"]}
        ),
    )

    def ask(prompts):
        answers = probe.zero_shot(
            model, table, ["Lung Lesion"], prompts=prompts, pool="any", embeddings=Z
        )
        return answers.values["Lung Lesion"]

    got = ask(many)
    logits = (
        float(model.logit_scale)
        * torch.from_numpy(Z)
        @ model.encode_text(["nodule", "air"]).T.float()
    )
    np.testing.assert_allclose(got, logits.double().exp().mean(1).log(), atol=1e-5)
    other = probe.Prompts(many.positive, {"Lung Lesion": ["all normal"]})
    np.testing.assert_array_equal(got, ask(other))
    with pytest.raises(
        ValueError, match="expected pool 'pair', 'any', 'both', got 'mean'"
    ):
        probe.zero_shot(model, table, ["Lung Lesion"], pool="mean", embeddings=Z)


def test_both_adds_half_of_the_pairs_log_odds_to_any_way(model, table):
    Z = unit(len(table))
    pools = {
        pool: probe.zero_shot(
            model, table, ["Lung Lesion"], prompts=PAIR, pool=pool, embeddings=Z
        )
        for pool in ("pair", "any", "both")
    }
    values = {pool: scores.values["Lung Lesion"] for pool, scores in pools.items()}
    odds = np.log(values["pair"] / (1 - values["pair"]))
    np.testing.assert_allclose(values["both"], values["any"] + odds / 2, atol=1e-5)


def test_a_shift_towards_all_sentences_alike_moves_any_but_not_the_pair(model, table):
    prompts = probe.Prompts({"Lung Lesion": ["nodule"]}, {"Lung Lesion": ["no nodule"]})
    toward_all = (model.directions[0] + model.directions[1]).numpy()
    shift = np.random.default_rng(0).normal(size=(len(table), 1)) * toward_all
    noise = {}
    for pool in ("pair", "any", "both"):
        answers = [
            probe.zero_shot(
                model, table, ["Lung Lesion"], prompts=prompts, pool=pool, embeddings=Z
            ).values["Lung Lesion"]
            for Z in (unit(len(table)), unit(len(table)) + shift)
        ]
        noise[pool] = np.abs(answers[1] - answers[0]).max()
    assert noise["pair"] < 1e-5
    assert noise["any"] > 1


def test_a_likelihood_that_overflows_alone_is_still_a_number():
    got = probe.text.logmeanexp(
        np.array([[2000.0, 2000.0], [-2000.0, -2000.0], [0.0, np.log(3.0)]])
    )
    np.testing.assert_allclose(got, [2000.0, -2000.0, np.log(2.0)])


def test_spoken_prompts_say_size_side_lobe_and_kind_where_they_have_one():
    findings = [
        "Cardiomegaly",
        "Pleural Effusion",
        "Consolidation",
        "Support Devices",
        "Fracture",
        "No Finding",
    ]
    prompts = probe.Prompts.spoken(findings)

    def says(finding, words):
        return words in prompts.positive[finding]

    assert says("Consolidation", "large left upper lobe consolidation.")
    assert says("Pleural Effusion", "small right pleural effusion.")
    assert not any("lobe" in phrase for phrase in prompts.positive["Pleural Effusion"])
    assert says("Cardiomegaly", "marked enlarged heart.")
    assert not any("left" in phrase for phrase in prompts.positive["Cardiomegaly"])
    assert says("Support Devices", "right chest tube in place.")
    assert says(
        "Support Devices",
        "right internal jugular central line, tip over the lower SVC.",
    )
    assert not any("small" in phrase for phrase in prompts.positive["Support Devices"])
    assert says("Fracture", "left rib fracture.")
    for finding in findings:
        assert len(set(prompts.positive[finding])) == len(prompts.positive[finding])
        assert prompts.pair(finding)[1] == probe.Prompts.of(findings).pair(finding)[1]
    assert prompts.positive["No Finding"] == probe.prompts.NORMAL


def test_an_opacity_is_spoken_by_its_own_words_or_any_childs():
    names = [
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pleural Effusion",
    ]
    spoken = {
        name: set(phrases)
        for name, phrases in probe.Prompts.spoken(names).positive.items()
    }
    parent = spoken["Lung Opacity"]
    assert "small left upper lobe lung opacity." in parent
    assert all(spoken[child] <= parent for child in names[1:6])
    assert not spoken["Pleural Effusion"] & parent
    assert not any(
        "opacity" in phrase for phrase in spoken["Consolidation"]
    )  # a parent doesn't state its child


def test_devices_have_no_size_and_are_denied_in_words_of_their_own():
    yes, no = probe.Prompts.of(["Support Devices"]).pair("Support Devices")
    assert {"chest tube", "endotracheal tube", "pacemaker"} <= set(yes)
    assert not any(size in phrase for phrase in yes for size in probe.prompts.SIZES)
    assert "no lines or tubes" in no
    prompts = probe.Prompts.of(
        ["Support Devices"], positive=("a {}",), negative=("without {}",), normal=()
    )
    assert prompts.pair("Support Devices")[0][0] == "a chest tube"
    assert prompts.pair("Support Devices")[1][0] == "without chest tube"


def test_a_finding_without_phrases_is_refused_with_a_way_out():
    with pytest.raises(
        ValueError, match=r"for and against 'Edema', got 0 and 0. Try Prompts"
    ):
        probe.Prompts().pair("Edema")


def test_linear_probe_learns_on_train_and_is_scored_on_test(table):
    Z = unit(len(table))
    Z[:, 0] += 2 * table["Lung Lesion"].to_numpy()
    scores = probe.linear_probe(Z, table, label=["Lung Lesion", "Pneumothorax"])
    assert len(scores.values) == (table.split == "test").sum()
    assert scores.auroc().auroc[0] > 0.98
    spoilt = table.assign(
        **{"Lung Lesion": table["Lung Lesion"].where(table.split == "train", -1)}
    )
    np.testing.assert_array_equal(
        probe.linear_probe(Z, spoilt, label="Lung Lesion").values["Lung Lesion"],
        scores.values["Lung Lesion"],
    )


def test_a_probe_and_its_scaler_never_see_the_films_they_are_asked_of(table):
    Z = unit(len(table))
    test = np.flatnonzero(table.split == "test")
    wild = Z.copy()
    wild[test[0]] = 1e6  # would move any mean and spread that it has a part in
    for C in (1.0, None):
        before, after = (
            probe.linear_probe(features, table, label="Pneumothorax", C=C).values
            for features in (Z, wild)
        )
        np.testing.assert_array_equal(before[1:], after[1:])


def test_probes_refuse_a_patient_on_both_sides_of_the_split(table):
    leaky = table.copy()
    leaky.loc[leaky.index[-1], "patient_id"] = "p0"
    for ask in (probe.linear_probe, probe.label_efficiency):
        with pytest.raises(
            ValueError, match="got 1 of .* patients in two or more"
        ) as refused:
            ask(unit(len(table)), leaky, label="Lung Lesion")
        assert "p0" not in str(refused.value)


def test_linear_probe_says_when_a_class_is_missing(table):
    with pytest.raises(ValueError, match="with and without Lung Lesion, got 0"):
        probe.linear_probe(
            unit(len(table)), table.assign(**{"Lung Lesion": 0}), label="Lung Lesion"
        )


def test_label_efficiency_rises_with_labels_and_takes_whole_patients(table):
    Z = unit(len(table), seed=1)
    Z[:, 0] += table["Lung Lesion"].to_numpy()
    curve = probe.label_efficiency(
        Z, table, label="Lung Lesion", fractions=(0.05, 1.0), draws=8
    )
    assert curve.patients.tolist() == [2.0, 40.0]
    assert curve.auroc[1] > curve.auroc[0]
    assert (curve.low <= curve.auroc).all()
    assert (curve.auroc <= curve.high).all()


def test_retrieve_ranks_by_cosine_to_a_sentence_or_a_scan(model, table):
    Z = unit(len(table))
    Z[7] = model.directions[0]
    for query in ("nodule", Scan(np.zeros((4, 4), np.float32))):
        hits = probe.retrieve(model, table, query, k=3, embeddings=Z)
        assert hits.index[0] == 7
        assert hits.score.is_monotonic_decreasing
    with pytest.raises(ValueError, match="a sentence or a Scan"):
        probe.retrieve(model, table, 3, embeddings=Z)


def test_always_answering_the_commonest_reports_has_a_recall():
    training = ["normal"] * 5 + ["effusion"] * 3 + ["nodule"]
    texts = ["normal", "normal", "effusion", "nodule"]
    assert probe.recall_of_commonest(training, texts, k=1) == 0.5
    assert probe.recall_of_commonest(training, texts, k=2) == 0.75
    assert probe.recall_of_commonest(["of no test film"] * 9, texts, k=1) == 0


def test_embeddings_of_other_rows_are_refused(model, table):
    with pytest.raises(ValueError, match=f"got 3 for {len(table)} rows"):
        probe.zero_shot(model, table, ["Lung Lesion"], prompts=PAIR, embeddings=unit(3))


def test_classify_gives_the_heads_probabilities_for_findings_of_the_table(
    model, table, monkeypatch
):
    monkeypatch.setattr(
        "radwb.data.images", lambda t, size, fit: np.arange(len(t), dtype=np.uint8)
    )
    model.findings = ["Edema", "Lung Lesion"]
    model.preprocess = torch.from_numpy
    model.classify = lambda x: torch.stack([x.float() * 0, x.float() / 50 - 1], dim=1)
    scores = probe.classify(model, table, batch=16)
    assert list(scores.values) == ["Lung Lesion"]
    by_hand = 1 / (1 + np.exp(1 - np.arange(len(table)) / 50))
    np.testing.assert_allclose(scores.values["Lung Lesion"], by_hand, atol=1e-6)
    model.findings = None
    with pytest.raises(ValueError, match="classifier head"):
        probe.classify(model, table)
