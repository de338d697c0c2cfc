"""Claims about attacks: they find what is planted, and no more than that."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit
from tables import films_table

from radwb import fail, models
from radwb.fail import attacks
from radwb.probe import zero_shot

GREY = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
FINDING = "Pneumothorax"


class Template(torch.nn.Module):
    """Log odds that are linear in the pixels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x):
        return (x[:, 0] * self.weights).sum((1, 2))[:, None]


def linear_model(weights):
    about = {"size": len(weights), "fit": "pad", "grid": (2, 2)}
    net = Template(weights)
    return models.Model(net, "linear", "image", **GREY, **about, findings=[FINDING])


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(40, 200, (30, 64, 64)).astype(np.uint8)
    return films_table(tmp_path / "films", pixels, **{FINDING: np.arange(30) % 2})


def test_pgd_on_a_linear_model_is_the_sign_of_its_weights():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 16))
    films = rng.integers(50, 200, (6, 16, 16)).astype(np.uint8)
    y = np.array([0, 1, 0, 1, 1, 0])
    attacked = attacks.pgd(linear_model(weights), films, y, FINDING, epsilon=3)
    way = np.where(y == 1, -1, 1)[:, None, None]
    np.testing.assert_array_equal(attacked, films + 3 * way * np.sign(weights))


def test_pgd_keeps_to_its_grey_levels_and_to_the_film():
    rng = np.random.default_rng(0)
    films = rng.integers(0, 256, (4, 16, 16)).astype(np.uint8)
    model = linear_model(rng.normal(size=(16, 16)))
    for epsilon in (1, 4):
        attacked = attacks.pgd(model, films, [0, 1, 0, 1], FINDING, epsilon=epsilon)
        change = attacked.astype(int) - films
        assert attacked.dtype == np.uint8
        assert np.abs(change).max() == epsilon


def test_the_control_changes_as_much_at_other_pixels():
    rng = np.random.default_rng(0)
    films = np.full((3, 16, 16), 100, np.uint8)
    attacked = films + rng.integers(0, 9, films.shape).astype(np.uint8)
    noisy = attacks.same_changes_elsewhere(films, attacked)
    assert (noisy != attacked).any()
    for one, other in zip(noisy, attacked, strict=True):
        np.testing.assert_array_equal(np.sort(one, None), np.sort(other, None))


def test_an_attack_costs_a_linear_model_what_it_must(table):
    weights = np.random.default_rng(1).normal(size=(64, 64))
    result = fail.pixel_attacks(linear_model(weights), table, FINDING, epsilons=[1, 8])
    weak, strong = result.evidence()
    assert strong.value <= weak.value
    assert strong.verdict == "failure"
    assert abs(strong.control) < 0.2 < abs(strong.value)
    assert "281" not in strong.sentence
    assert strong.n == 30


def test_a_model_that_reads_words_follows_them_and_one_of_ink_does_not(table):
    blank = np.zeros((1, 64, 64), np.uint8)
    plate = attacks.write(blank, FINDING.upper())[0] / 255.0
    read = plate - plate[plate > 0].mean() * (plate > 0)
    reader = fail.typographic_attack(linear_model(read), table, FINDING)
    assert reader.evidence()[0].verdict == "failure"
    of_ink = fail.typographic_attack(linear_model(np.ones((64, 64))), table, FINDING)
    assert of_ink.evidence()[0].verdict != "failure"
    assert reader.evidence()[0].unit == "nonsense words"


def test_the_interval_of_a_word_is_where_one_more_would_fall():
    """Against a simulation: of 20 words like the others one lies outside."""
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(10000):
        value, *others = rng.normal(size=7)
        gap = attacks._one_of_many(value, others, ("a", "b"), "x")
        outside += gap.verdict != "can't tell"
    assert outside / 10000 == pytest.approx(0.05, abs=0.007)


def test_nonsense_has_the_letters_of_the_name():
    rng = np.random.default_rng(0)
    for _ in range(5):
        nonsense = attacks.anagram("PLEURAL EFFUSION", rng)
        first, second = nonsense.split()
        assert sorted(first) == sorted("PLEURAL")
        assert sorted(second) == sorted("EFFUSION")


def test_a_typo_swaps_two_letters_of_the_longest_word():
    rng = np.random.default_rng(0)
    for phrase in ("small pneumothorax", "no pleural effusion", "edema"):
        wrong = attacks.typo(phrase, rng)
        assert sorted(wrong) == sorted(phrase)
        assert sum(a != b for a, b in zip(wrong, phrase, strict=True)) == 2
    assert attacks.typo("no air", rng) == "no air"


class Words:
    """A tower of words: what speaks of the finding, what denies, and neither."""

    kind = "image-text"
    findings = None
    logit_scale = 10.0
    name = "words"
    device = torch.device("cpu")

    def __init__(self, reads_no):
        self.net = torch.nn.Linear(1, 1)
        self.reads_no = reads_no

    def encode_text(self, texts):
        vectors = []
        for text in texts:
            about = "pneumothora" in text
            denied = "no " in f"{text} " and self.reads_no
            normal = "normal" in text or "abnormality" in text
            vectors.append([about and not denied, normal or (about and denied), 0.1])
        vectors = torch.tensor(vectors, dtype=torch.float32)
        return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture
def asked():
    """60 patients and where their films lie: by the finding, or by normal."""
    y = np.arange(60) % 2
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(60)], FINDING: y})
    Z = np.stack([y, 1 - y, np.zeros(60)], axis=1) + rng.normal(0, 0.3, (60, 3))
    return table, np.float32(Z / np.linalg.norm(Z, axis=1, keepdims=True))


@pytest.mark.parametrize(("reads_no", "verdict"), [(True, "behind"), (False, "ahead")])
def test_who_reads_a_denial_ranks_the_other_way_round(asked, reads_no, verdict):
    table, Z = asked
    attack = fail.prompt_attacks(Words(reads_no), table, embeddings=Z)
    *_, denial = attack.tries
    assert denial.comparison.verdict == verdict
    failed = attack.evidence()[-1].verdict == "failure"
    assert failed != reads_no
    assert denial.control.verdict == "can't tell"  # "no florb" says nothing


def test_a_typo_costs_who_knows_whole_words_only(asked):
    table, Z = asked
    Z[:, 1] = 0  # no film lies by what is normal
    attack = fail.prompt_attacks(Words(True), table, embeddings=Z)
    rows = attack.table().set_index("tried")
    assert rows.loc["typo", "verdict"] == "behind"
    assert rows.loc["paraphrase", "verdict"] == "can't tell"
    assert rows.loc["typo", "control"] == 0


def test_what_cannot_be_attacked_says_so(table, asked):
    model = linear_model(np.ones((64, 64)))
    ill = table[table[FINDING] == 1]
    with pytest.raises(ValueError, match="without Pneumothorax to write on"):
        fail.typographic_attack(model, ill, FINDING)
    with pytest.raises(ValueError, match="of one kind"):
        fail.pixel_attacks(model, ill, FINDING)
    with pytest.raises(ValueError, match="of one kind"):
        fail.prompt_attacks(Words(True), asked[0][asked[0][FINDING] == 0])
    with pytest.raises(ValueError, match="one at least"):
        fail.pgd(model, np.zeros((0, 64, 64), np.uint8), [], FINDING, epsilon=1)
    one = table.assign(patient_id="p0")
    (evidence,) = fail.pixel_attacks(model, one, FINDING, epsilons=[2]).evidence()
    assert "no interval" in evidence.sentence


def test_log_odds_of_films_are_those_of_zero_shot():
    model = models.load("radwb-tiny")
    films = np.random.default_rng(0).integers(0, 255, (4, model.size, model.size))
    films = films.astype(np.uint8)
    answers = attacks._answers(attacks.log_odds(model, FINDING), films, model.size)
    Z = models.embed(model, films)
    table = pd.DataFrame({"path": list("abcd"), FINDING: [0, 1, 0, 1]})
    stated = zero_shot(model, table, [FINDING], embeddings=Z).values[FINDING]
    np.testing.assert_allclose(answers, logit(stated), atol=0.05)  # bf16
    assert np.abs(answers).min() > 0.1


def test_a_name_is_written_on_those_who_are_without_it(table):
    table[FINDING] = np.arange(30) < 10
    attack = fail.typographic_attack(
        linear_model(np.ones((64, 64))), table.astype({FINDING: int}), FINDING, words=2
    )
    assert attack.tries[0].tried.endswith("written on 20 films without it")


def test_attacks_that_are_tried_together_are_one_family(table, asked):
    model = linear_model(np.random.default_rng(1).normal(size=(64, 64)))
    by_pixels = fail.pixel_attacks(model, table, FINDING, epsilons=[1, 2], steps=1)
    in_words = fail.prompt_attacks(Words(True), asked[0], embeddings=asked[1])
    for attack, family in ((by_pixels, 2), (in_words, 3)):
        assert {one.comparison.family for one in attack.tries} == {family}
