"""Claims about rw.fail.mitigate: what is planted is mended, by nobody's test films."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fail_films import OneLayer, one_layer
from sklearn.linear_model import LogisticRegression
from tables import patients_table

from radwb import data, fail, models, probe
from radwb.fail import bench, mitigations, prompt_repair
from radwb.fail.evidence import VERDICTS
from radwb.fail.mitigate import MitigationResult, change_row
from radwb.stats import auroc
from radwb.stats.sentence import Comparison

FINDING = "Pneumothorax"
OTHER = "Edema"


@pytest.fixture(scope="module")
def tower():
    return one_layer(width=None)


@pytest.fixture
def films(monkeypatch):
    """200 patients; both findings are faint squares in noise, far from any mark."""

    def images(table, size, fit):
        out = np.zeros((len(table), size, size), np.uint8)
        for film, (_, row) in enumerate(table.iterrows()):
            rng = np.random.default_rng(int(row["path"].removesuffix(".png")))
            out[film] = rng.integers(0, 120, (size, size))
            out[film, 16:24, 16:24] += np.uint8(30 * row["drawn"])
            out[film, 4:12, 4:12] += np.uint8(30 * row[OTHER])
        return out

    monkeypatch.setattr(data, "images", images)
    table = patients_table(200, {FINDING: 0.5, OTHER: 0.4}, images=(2, 2))
    patient = table["patient_id"].str.removeprefix("p").astype(int)
    table["split"] = np.select([patient < 100, patient < 150], ["train", "val"], "test")
    table["site"] = np.where(patient % 2, "A", "B")
    return table.assign(drawn=table[FINDING])


@pytest.fixture
def about(tower):
    return {"start": tower, "finding": FINDING, "others": [OTHER], "n": 160, "C": 1e4}


def known(seed=0, n=60, D=12, C=1.0):
    """Noise in which feature 0 is the mark and feature 1 the finding, tied to 0.9."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    plain = rng.normal(size=(n, D)).astype(np.float32)
    plain[:, 1] += 2 * y
    pasted = plain.copy()
    pasted[:, 0] += 3
    marked = fail.confound(y, 0.9, seed=seed)
    val_marked = fail.confound(y, 0.5, seed=seed)
    return mitigations.Known(
        start=None,
        finding=FINDING,
        seen=np.where(marked[:, None], pasted, plain),
        pasted=pasted,
        painted=plain,
        y=y,
        groups=mitigations.groups_of(y, marked),
        sites=np.repeat(["A", "B"], n // 2),
        val_plain=plain[::-1],
        val_pasted=pasted[::-1],
        val_y=y[::-1],
        val_groups=mitigations.groups_of(y[::-1], val_marked),
        C=C,
        seed=seed,
    )


def test_group_dro_takes_the_step_of_the_paper():
    """Algorithm 1 of Sagawa et al., in the features themselves and not over films."""
    told = known()
    C, eta, steps = 2.0, 0.3, 4
    x = (told.seen - told.seen.mean(axis=0)).astype(float)
    rate = 4 / (x**2).sum(axis=1).max()
    q = np.full(4, 0.25)
    w, b = np.zeros(x.shape[1]), 0.0
    for _ in range(steps):
        stated = 1 / (1 + np.exp(-(x @ w + b)))
        loss = -np.log(np.where(told.y == 1, stated, 1 - stated))
        for g in range(4):
            q[g] *= np.exp(eta * loss[told.groups == g].mean())
        q /= q.sum()
        down = np.zeros_like(w)
        level = 0.0
        for g in range(4):
            inside = told.groups == g
            error = stated[inside] - told.y[inside]
            down += q[g] * (error[:, None] * x[inside]).mean(axis=0)
            level += q[g] * error.mean()
        w -= rate * (down + w / (C * len(x)))
        b -= rate * level
    settings = {"C": C, "steps": steps, "step_size": eta}
    head = fail.group_dro(None, told.seen, told.y, told.groups, **settings)
    np.testing.assert_allclose(head.weights, w, rtol=1e-4, atol=1e-6)
    expected = b - told.seen.mean(axis=0) @ w
    assert head.bias == pytest.approx(expected, rel=1e-4)


def test_group_dro_of_one_group_is_a_logistic_regression():
    told = known()
    one = np.zeros(len(told.y), int)
    head = fail.group_dro(None, told.seen, told.y, one, C=0.1, steps=20_000)
    plain = LogisticRegression(C=0.1, tol=1e-8).fit(told.seen, told.y)
    np.testing.assert_allclose(head.weights, plain.coef_[0], atol=0.01)


def test_group_dro_evens_out_the_losses_of_the_groups():
    told = known()
    losses = {}
    heads = {"before": told.untouched, "after": mitigations.of_groups(told)}
    for name, head in heads.items():
        logits = head.of(told.seen)
        loss = np.logaddexp(0, np.where(told.y == 1, -logits, logits))
        losses[name] = np.bincount(told.groups, loss) / np.bincount(told.groups)
    assert losses["after"].max() < 0.7 * losses["before"].max()


def test_weights_make_groups_even_and_count_as_copies_do():
    groups = np.array([0, 0, 0, 1])
    assert mitigations.even_weights(groups).tolist() == pytest.approx([2 / 3] * 3 + [2])
    told = known()
    twice = np.concatenate([told.seen, told.seen[:20]])
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    weighted = fail.fit_head(None, told.seen, told.y, C=1.0, weights=weights)
    copied = fail.fit_head(None, twice, np.concatenate([told.y, told.y[:20]]), C=1.0)
    np.testing.assert_allclose(weighted.weights, copied.weights, atol=2e-3)


def test_samples_are_even_and_drawn_anew_by_each_seed():
    groups = np.repeat([0, 1, 2, 3], [20, 5, 9, 30])
    rows = mitigations.even_sample(groups, 0)
    assert np.bincount(groups[rows]).tolist() == [5, 5, 5, 5]
    assert len(set(rows)) == 20
    assert not np.array_equal(rows, mitigations.even_sample(groups, 1))


@pytest.mark.parametrize("name", sorted(mitigations.METHODS))
def test_each_method_looks_less_at_the_mark_but_that_of_the_wrong_group(name):
    """Sites have nothing to do with the mark here: evening them out mends nothing."""
    before, after = [], []
    for seed in range(5):
        told = known(seed, n=200)
        for heads, head in (
            (before, told.untouched),
            (after, mitigations.METHODS[name].learn(told)),
        ):
            heads.append(abs(head.weights[0]) / abs(head.weights[1]))
    gain = np.mean(after) / np.mean(before)
    assert (0.9 < gain < 1.1) if "site" in name else gain < 0.75, gain


@pytest.mark.parametrize("kind", ["box", "room", "drain"])
@pytest.mark.parametrize("corner", ["top-left", "bottom-right"])
def test_a_painted_film_does_not_tell_whether_there_was_a_mark(kind, corner):
    films = np.random.default_rng(0).integers(0, 255, (30, 80, 80), dtype=np.uint8)
    marker = {"kind": kind, "corner": corner, "seed": 3}
    painted = mitigations.paint_out(films, marker)
    marked = fail.add_marker(films, **marker)
    np.testing.assert_array_equal(painted, mitigations.paint_out(marked, marker))
    assert 0.01 < (painted != films).mean() < 0.2


def test_a_head_without_a_direction_does_not_answer_to_it_and_keeps_its_mean():
    told = known()
    directions = mitigations.main_directions(np.eye(12)[:3] * [[3], [2], [1]], 2)
    head = mitigations.without(told.untouched, directions, told.seen)
    moved = told.seen + 5 * directions[0] - 2 * directions[1]
    np.testing.assert_allclose(head.of(moved), head.of(told.seen), atol=1e-4)
    kept = head.of(told.seen).mean()
    assert kept == pytest.approx(told.untouched.of(told.seen).mean(), abs=1e-4)
    again = mitigations.without(head, directions, told.seen)
    np.testing.assert_allclose(again.weights, head.weights, atol=1e-6)


def test_calibration_error_by_hand():
    y = np.array([0, 0, 0, 1])
    assert bench.calibration_error(y, np.zeros(4), 1) == pytest.approx(0)
    sure = np.where(y == 1, 50.0, -50.0)
    assert bench.calibration_error(y, sure, 2) == pytest.approx(0)
    assert bench.calibration_error(y, -sure, 4) == pytest.approx(1)
    odds = np.log([1 / 3, 1 / 3, 1 / 3, 1])  # states 1/4, 1/4, 1/4 and 1/2
    # two bins: 1/6 + 1/6 of weight that state 1/4 too much; 1/6 so, and 1/2 too little
    assert bench.calibration_error(y, odds, 2) == pytest.approx(1 / 12 + 5 / 24)


def test_measures_are_those_of_marker_auroc_and_of_the_worst_of_four_groups():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    off = rng.normal(size=40) + y
    on = off + 1
    test = pd.DataFrame({FINDING: y, "patient_id": range(40)})
    arms = fail.marker_auroc(off, on, test, FINDING, seed=2).set_index("arm")["auroc"]
    values = bench.measures(y, off, on, 2)
    assert {arm: values[arm] for arm in arms.index} == pytest.approx(arms.to_dict())
    accuracies = []
    for logits in (off, on):
        accuracies += [(logits[y == 1] > 0).mean(), (logits[y == 0] <= 0).mean()]
    assert values["worst group"] == pytest.approx(min(accuracies))


def test_a_planted_mark_is_mended_and_a_head_that_was_never_tied_stays(films, about):
    strong = ["masking", "last-layer retraining", "cutting"]
    result = fail.mitigate(films, methods=strong, seeds=3, **about)
    table = result.table.set_index(["method", "measure"])
    for method in strong:
        row = table.loc[method, "tie broken"]
        assert row["verdict"] == "ahead"
        assert row["before"] < 0.5 < row["after"]
        assert row["after"] > row["never_tied"] - 0.1
        assert abs(row["control"]) < 0.1
        assert abs(table.loc[method, OTHER]["change"]) < 0.1
    assert (result.table["n"] == 3).all()
    rows = result.evidence(figure="all")
    assert len(rows) == 2 * len(strong)
    assert {row.kind for row in rows} == {"mitigation"}
    assert {row.verdict for row in rows} <= set(VERDICTS)
    assert [row.figure for row in rows] == ["all", *[None] * 5]
    broken = rows[0]
    assert broken.value == pytest.approx(table.loc["masking", "tie broken"]["change"])
    assert "after masking is ahead of before" in broken.sentence


def test_heads_before_are_those_of_the_shortcut(films, about):
    result = fail.mitigate(films, methods=["cutting"], seeds=2, **about)
    same = {name: about[name] for name in ("start", "finding", "n", "C")}
    dial = {"kind": "room", "corner": "bottom-right", "seeds": 2}
    tied = fail.shortcut(films, strengths=(0.5, 0.95), **dial, **same)
    for seed in range(2):
        for trained, strength in (("tied", 0.95), ("never tied", 0.5)):
            head = result.learnt[trained, "before", seed]
            expected = tied.learnt[strength, seed].weights
            np.testing.assert_allclose(head.weights, expected, atol=1e-4)
    arms = tied.table.query("strength == 0.95").groupby("arm")["auroc"].mean()
    before = result.table.drop_duplicates("measure").set_index("measure")["before"]
    assert before[arms.index].tolist() == pytest.approx(arms.tolist(), abs=1e-6)


def test_no_test_patient_leaks_into_a_head(films, about):
    """Other patients with other labels in the test: the same heads, other scores."""
    asked = {**about, "seeds": 2}
    first = fail.mitigate(films, **asked)
    is_test = films["split"] == "test"
    other = films.copy()
    other.loc[is_test, "path"] = [f"{9000 + i}.png" for i in range(is_test.sum())]
    other.loc[is_test, FINDING] = 1 - other.loc[is_test, FINDING]
    second = fail.mitigate(other, **asked)
    assert set(first.learnt) == set(second.learnt)
    for key, head in first.learnt.items():
        np.testing.assert_array_equal(head.weights, second.learnt[key].weights)
        assert head.bias == second.learnt[key].bias
    unmarked = first.table["measure"] == "no mark"
    gap = first.table["after"] - second.table["after"]
    assert (gap[unmarked] > 0.2).all()


def test_a_patient_in_val_and_test_is_refused(films, about):
    films.loc[films["patient_id"] == "p160", "split"] = ["val", "test"]
    with pytest.raises(ValueError, match="each patient in one part, got 1 of 200"):
        fail.mitigate(films, **about)


def test_an_empty_group_is_named_before_anything_is_read(films, about, monkeypatch):
    monkeypatch.setattr(data, "images", None)
    needing = [name for name, one in mitigations.METHODS.items() if one.groups]
    assert len(needing) == 3
    for name in needing:
        with pytest.raises(
            ValueError, match=f"without {FINDING} that is with the mark"
        ):
            fail.mitigate(films, methods=[name], strength=1.0, **about)
    with pytest.raises(ValueError, match=r"3 groups, got \[2, 0, 2\]"):
        fail.group_dro(None, np.eye(4), [0, 1, 0, 1], np.array([0, 0, 2, 2]))


def test_bad_input_is_one_sentence(films, about):
    with pytest.raises(ValueError, match="expected some of the methods .* got .'pray'"):
        fail.mitigate(films, methods=["pray"], **about)
    with pytest.raises(ValueError, match="2 seeds or more, got .* and 1"):
        fail.mitigate(films, seeds=1, **about)
    one_class = films.assign(**{FINDING: 1})
    with pytest.raises(ValueError, match=f"train images with and without {FINDING}"):
        fail.mitigate(one_class, **about)
    one_patient = films[films["patient_id"] == "p160"]
    with pytest.raises(ValueError, match="train images with and without .* got 0"):
        fail.mitigate(one_patient, **about)
    nowhere = films.drop(columns="site")
    with pytest.raises(ValueError, match="site"):
        fail.mitigate(nowhere, methods=["site-balanced sampling"], **about)


def test_a_constant_score_has_no_finding_to_lose(films):
    y = np.arange(20) % 2
    values = bench.measures(y, np.zeros(20), np.zeros(20), 0)
    assert values["tie broken"] == values["no mark"] == 0.5
    assert values["worst group"] == 0  # it calls nobody ill


@pytest.fixture(scope="module")
def tiny():
    return models.load("radwb-tiny")


def test_a_zero_shot_head_answers_as_zero_shot_does(tiny):
    Z = np.random.default_rng(0).normal(size=(6, 192)).astype(np.float32)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    table = pd.DataFrame({"path": list("abcdef"), FINDING: [0, 1] * 3})
    scores = probe.zero_shot(tiny, table, [FINDING], embeddings=Z)
    stated = 1 / (1 + np.exp(-prompt_repair.zero_shot_head(tiny, FINDING).of(Z)))
    np.testing.assert_allclose(scores.values[FINDING], stated, rtol=1e-4)


def test_a_repaired_prompt_is_blind_to_the_mark(tiny, films, monkeypatch):
    """What the mark adds is planted in the embeddings, and in the words."""
    effusion = prompt_repair.zero_shot_head(tiny, FINDING)
    mark = np.random.default_rng(1).normal(size=192)
    words = effusion.weights / np.linalg.norm(effusion.weights)
    leaning = replace(effusion, weights=words + mark / np.linalg.norm(mark))

    def features(model, images, *, whole):
        rng = np.random.default_rng(len(images))
        noise = rng.normal(size=(len(images), 192)) / 10
        letters = (images[:, 100:, 70:] > 200).any(axis=(1, 2))
        return noise + np.outer(letters, mark / np.linalg.norm(mark))

    monkeypatch.setattr(bench, "patch_features", features)
    monkeypatch.setattr(prompt_repair, "zero_shot_head", lambda *_: leaning)
    about = {"finding": FINDING, "others": [], "corner": "bottom-right"}
    result = fail.repair_prompt(films, start=tiny, **about)
    table = result.table.set_index("measure")
    assert table.loc["tie holds", "before"] > 0.6 > table.loc["tie holds", "after"]
    assert table.loc["tie broken", "verdict"] == "ahead"
    assert table["control"].abs().max() < 0.1
    assert (table["unit"] == "patients").all()
    with pytest.raises(ValueError, match="expected an image-text model"):
        fail.repair_prompt(films, start=OneLayer(None), **about)


def test_what_harms_is_a_failure_and_less_error_is_none():
    ends = {"low": 0.1, "high": 0.3, "p": 0.0, "n": 5, "unit": "seeds"}
    names = ("after masking", "before")
    gain = Comparison(names, "what was measured", 0.2, **ends)
    loss = Comparison(
        names, "what was measured", -0.2, **ends | dict(low=-1, high=-0.1)
    )
    verdicts = {}
    for measure in (bench.ERROR, "no mark"):
        for change in (gain, loss):
            rows = [change_row("masking", "-", measure, (0.5, 0.7), change)]
            changes = {("masking", measure): change}
            result = MitigationResult(pd.DataFrame(rows), None, changes, {}, None)
            verdicts[measure, change.verdict] = result.evidence([measure])[0].verdict
    assert verdicts == {
        (bench.ERROR, "ahead"): "failure",
        (bench.ERROR, "behind"): "no failure seen",
        ("no mark", "ahead"): "no failure seen",
        ("no mark", "behind"): "failure",
    }


def test_what_the_mark_adds_is_taken_out_and_not_what_all_films_share(monkeypatch):
    """Films have a mean of their own, far from zero; the mark is one direction."""
    rng = np.random.default_rng(0)
    plain = 5 + rng.normal(size=(40, 6))
    pasted = plain + np.eye(6)[2]
    head = fail.Head(None, np.arange(1.0, 7.0), 0.5, whole=True)
    monkeypatch.setattr(prompt_repair, "zero_shot_head", lambda *_: head)
    films = {"val": {"plain": plain, "pasted": pasted}}
    stub = SimpleNamespace(start=None, features=films)
    heads = prompt_repair._repaired(stub, FINDING)
    mended, control = heads[prompt_repair.METHOD], heads["control"]
    np.testing.assert_allclose(mended.of(pasted), mended.of(plain))
    np.testing.assert_allclose(mended.weights, [1, 2, 0, 4, 5, 6], atol=1e-12)
    assert mended.of(plain).mean() == pytest.approx(head.of(plain).mean())
    assert np.abs(control.of(pasted) - control.of(plain)).min() > 0.5


def test_a_repair_is_judged_by_patient_and_as_one_family(tiny, films, monkeypatch):
    def features(model, images, *, whole):
        rng = np.random.default_rng(images.max())  # another with the mark
        return rng.normal(size=(len(images), 192))

    monkeypatch.setattr(bench, "patch_features", features)
    result = fail.repair_prompt(films, start=tiny, finding=FINDING, others=[OTHER])
    made = result.comparisons.values()
    assert {change.family for change in made} == {len(made)} == {5}
    patients = films.loc[films["split"] == "test", "patient_id"].nunique()
    assert {change.n for change in made} == {patients}


def test_a_cost_is_asked_for_the_other_finding_in_every_part():
    """On validation films, too: there some methods choose, and one learns."""
    told = known()
    rng = np.random.default_rng(3)
    labels = {part: rng.integers(0, 2, 60) for part in ("train", "val", "test")}
    asked = []

    def heads(of):
        asked.append(of)
        return {"before": None}

    stub = SimpleNamespace(
        others=[OTHER],
        rows=[np.arange(60)[::-1]],
        labels=lambda part, finding: labels[part],
        heads=heads,
        answers=lambda name, head: (labels["test"] * 1.0, None),
    )
    (row,) = bench.Bench.costs(stub, told)
    np.testing.assert_array_equal(asked[0].y, labels["train"][::-1])
    np.testing.assert_array_equal(asked[0].val_y, labels["val"])
    np.testing.assert_array_equal(asked[0].groups, told.groups)
    assert (row["measure"], row["value"]) == (OTHER, 1.0)


def test_as_many_directions_are_cut_as_rank_validation_films_best():
    told = known(C=100.0)
    chosen = mitigations.cut(told)
    directions = mitigations.main_directions(told.val_pasted - told.val_plain)
    y = np.tile(told.val_y, 2)
    scores = []
    for k in range(1, len(directions) + 1):
        head = mitigations.without(told.untouched, directions[:k], told.seen)
        of_both = [head.of(told.val_plain), head.of(told.val_pasted)]
        scores.append(auroc(y, np.concatenate(of_both)))
    of_both = [chosen.of(told.val_plain), chosen.of(told.val_pasted)]
    assert min(scores) < max(scores) == auroc(y, np.concatenate(of_both))


def test_validation_films_know_no_tie(films, about):
    """Of the four groups each has a quarter there, however tight the tie is."""
    made = bench.Bench.of(
        films, about["start"], FINDING, [], ["cutting"], n=160, seeds=1, C=1.0
    )
    made.read({"kind": "room", "corner": "bottom-right", "seed": 0})
    told = made.known(0, 0.95)
    marked = told.val_groups % 2 == 1
    for value in (0, 1):
        assert marked[told.val_y == value].mean() == pytest.approx(0.5, abs=0.02)
    seen = told.groups % 2 == 1
    assert seen[told.y == 1].mean() > 0.9 > 0.1 > seen[told.y == 0].mean()
    plain = made.features["train"]["plain"][made.rows[0]]
    np.testing.assert_array_equal(told.seen[seen], told.pasted[seen])
    np.testing.assert_array_equal(told.seen[~seen], plain[~seen])


def test_the_last_layer_meets_the_mark_where_it_was_dealt(monkeypatch):
    told = known()
    met = []
    monkeypatch.setattr(mitigations, "fit_head", lambda start, x, y, **_: met.append(x))
    mitigations.retrained(told)
    marked = told.val_groups % 2
    added = met[0][:, 0] - told.val_plain[:, 0]
    np.testing.assert_allclose(added, 3 * marked, atol=1e-5)
