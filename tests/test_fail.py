"""Claims about rw.fail: markers lie where they should.

The tie is exact, and a planted shortcut is found out.
"""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fail_films import one_layer
from tables import patients_table

from radwb import attend, data, fail, models, probe, stats


@pytest.fixture
def model():
    return one_layer(dropout=0.1)


@pytest.fixture
def table():
    """60 patients with two images each; the label is an image's, not a patient's."""
    films = patients_table(60, {}, images=(2, 2), train=40)
    labels = np.random.default_rng(3).integers(0, 2, len(films))
    return films.assign(Pneumothorax=labels)


@pytest.fixture
def noise(monkeypatch):
    """Images that hold nothing but noise, so that only a marker can be learnt."""

    def images(table, size, fit):
        numbers = table.path.str.removesuffix(".png").astype(int)
        return np.stack(
            [
                np.random.default_rng(i).integers(0, 120, (size, size), dtype=np.uint8)
                for i in numbers
            ]
        )

    monkeypatch.setattr("radwb.data.images", images)
    return images


@pytest.mark.parametrize("kind", ["box", "room", "drain"])
@pytest.mark.parametrize(
    "corner", ["top-left", "top-right", "bottom-left", "bottom-right"]
)
@pytest.mark.parametrize("S", [64, 160, 224])
def test_marker_lies_in_its_corner_and_nowhere_else(kind, corner, S):
    black = np.zeros((6, S, S), np.uint8)
    for image in fail.add_marker(black, kind=kind, corner=corner):
        rows, columns = np.nonzero(image)
        assert (columns.max() < S / 2) if "left" in corner else (columns.min() >= S / 2)
        if kind != "drain":
            assert (rows.max() < S / 2) if "top" in corner else (rows.min() >= S / 2)
            assert 0.001 < len(rows) / S**2 < 0.02
        else:  # a drain comes in through the chest wall of its side
            assert 0 in (columns if "left" in corner else S - 1 - columns)


def test_box_is_at_the_expected_pixels_without_jitter():
    image = fail.add_marker(np.zeros((1, 20, 20), np.uint8), corner="top-left", seed=0)[
        0
    ]
    assert set(np.unique(image)) == {0, 245}
    assert (
        image[1:7, 1:7] == 245
    ).all()  # margin 20 // 20 = 1, side 6; 20 // 40 = 0 px of jitter
    assert (image == 245).sum() == 36


def test_the_department_s_mark_is_the_same_words_everywhere_and_names_no_side():
    """An R or L in the wrong corner would be a wrong-side marker, not a sign of the
    department.
    """
    assert not {"R", "L", "LEFT", "RIGHT", "PORTABLE", "ERECT", "SUPINE"} & set(
        fail.marker.WORDS.split()
    )
    black = np.zeros((1, 160, 160), np.uint8)
    shapes = []
    for corner in fail.marker.CORNERS:
        image = fail.add_marker(black, kind="room", corner=corner)[0]
        rows, columns = np.nonzero(image)
        shapes.append(
            image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        )
    white = fail.add_marker(np.full_like(black, 250), kind="room")[0]
    plate = white[white != 250]
    assert (
        (plate < 50).sum() > (plate > 180).sum() > 30
    )  # read on a white abdomen, too: letters on a dark plate
    assert all(
        np.array_equal(shape, shapes[0]) for shape in shapes
    )  # readable: never mirrored
    gaps = np.flatnonzero((shapes[0] > 60).any(axis=0) == False)  # noqa: E712
    assert len(np.flatnonzero(np.diff(gaps) > 1)) >= 4  # separate letters


def test_marker_leaves_the_others_and_the_input_alone():
    images = np.random.default_rng(0).integers(0, 200, (4, 80, 80), dtype=np.uint8)
    before, out = images.copy(), fail.add_marker(images, [True, False, True, False])
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(out[[1, 3]], images[[1, 3]])
    assert all((out[i] != images[i]).any() for i in (0, 2))


def test_an_image_gets_the_same_marker_whoever_else_has_one():
    images = np.zeros((8, 160, 160), np.uint8)
    everyone, one = (
        fail.add_marker(images, seed=5),
        fail.add_marker(images, np.arange(8) == 6, seed=5),
    )
    np.testing.assert_array_equal(everyone[6], one[6])
    assert any(
        (everyone[i] != everyone[0]).any() for i in range(1, 8)
    )  # yet they jitter among one another


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(images=np.zeros((2, 8, 8))), "expected uint8 images"),
        (
            dict(images=np.zeros((2, 8, 8), np.uint8), where=[True]),
            "got 1 for 2 images",
        ),
        (dict(images=np.zeros((2, 8, 8), np.uint8), kind="stain"), "expected kind in"),
        (
            dict(images=np.zeros((2, 24, 24), np.uint8), kind="room"),
            "40 px or more for words, got 24",
        ),
    ],
)
def test_marker_says_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        fail.add_marker(**settings)


@pytest.mark.parametrize(
    ("strength", "auroc"), [(1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.0, 0.0)]
)
def test_marker_alone_scores_its_strength(strength, auroc):
    y = np.array([1] * 40 + [0] * 80)
    marked = fail.confound(y, strength)
    assert marked[:40].sum() == 40 * strength
    assert marked[40:].sum() == 80 * (1 - strength)
    # by hand: sensitivity and specificity of the marker are both `strength`, and AUROC
    # = their mean
    assert stats.auroc(y, marked) == pytest.approx(auroc)


def test_reader_of_the_marker_is_right_where_the_tie_holds_and_wrong_elsewhere(
    table,
):
    test = table[table.split == "test"]
    result = fail.marker_auroc(
        np.zeros(len(test)), np.ones(len(test)), test, "Pneumothorax"
    ).set_index("arm")
    assert result.auroc["tie holds"] == 1
    assert result.auroc["tie broken"] == 0
    assert result.auroc["independent"] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(result.auroc, result.marker_only)


def test_blind_to_the_marker_scores_the_same_in_all_arms(table):
    test = table[table.split == "test"]
    scores = np.random.default_rng(0).normal(size=len(test))
    assert fail.marker_auroc(scores, scores, test, "Pneumothorax").auroc.nunique() == 1
    assert (fail.marker_effect(scores, scores, test, "Pneumothorax").added == 0).all()


def test_edit_is_the_mean_change_of_the_logit_with_an_interval_over_patients(table):
    test = table[table.split == "test"]
    change = np.where(test["Pneumothorax"] == 1, 2.0, 0.5)
    edits = fail.marker_effect(
        np.zeros(len(test)), change, test, "Pneumothorax"
    ).set_index("finding")
    assert edits.added.to_dict() == {0: 0.5, 1: 2.0}
    assert edits.low.to_dict() == pytest.approx({0: 0.5, 1: 2.0})
    assert edits.n.sum() == len(test)


def test_an_edit_s_interval_is_of_patients_not_images():
    """Six patients of twenty films each that answer alike are six observations, however
    many films they have.
    """
    test = pd.DataFrame({"patient_id": np.repeat(list("abcdef"), 20), "Edema": 1})
    test = pd.concat([test, test.assign(Edema=0)])
    change = np.where(test["patient_id"].isin(list("abc")), 0.0, 2.0)
    edits = fail.marker_effect(np.zeros(240), change, test, "Edema")
    half = 2.5706 * np.sqrt(
        1 / 5
    )  # Student's quantile of 5, standard deviation 1 (over 6) of six patients
    assert edits.low.tolist() == pytest.approx(
        [1 - half] * 2, abs=1e-3
    )  # over images it would be 0.8 to 1.2
    assert edits.high.tolist() == pytest.approx([1 + half] * 2, abs=1e-3)
    assert edits.patients.tolist() == [6, 6]
    assert edits.n.tolist() == [120, 120]


def test_an_edit_on_films_of_two_patients_says_why_it_has_no_interval():
    test = pd.DataFrame({"patient_id": list("aabb"), "Edema": 1})
    edits = fail.marker_effect(np.zeros(4), np.ones(4), test, "Edema").set_index(
        "finding"
    )
    assert edits.note.to_dict() == {0: "no image", 1: "no interval: 2 patients"}
    assert np.isnan(edits.low[1])


def with_finding(noise):
    """Noise with the finding in it, fainter than the marker."""

    def images(table, size, fit):
        out = noise(table, size, fit)
        faint = 30 * table["Pneumothorax"].to_numpy(np.uint8)
        out[:, 16:28, 16:28] += faint[:, None, None]
        return out

    return images


@pytest.mark.parametrize("learner", ["patches", "tower"])
def test_a_tied_marker_replaces_the_finding_in_every_seed_and_an_untied_one_does_not(
    table, model, noise, monkeypatch, learner
):
    monkeypatch.setattr("radwb.data.images", with_finding(noise))
    settings = dict(
        strengths=(0.5, 1.0), seeds=3, learner=learner, epochs=30, lr=1e-2, C=1e4
    )
    result = fail.shortcut(table, start=model, finding="Pneumothorax", **settings)
    by_arm = result.table.pivot(
        index=["strength", "seed"], columns="arm", values="auroc"
    )
    free, tied = by_arm.loc[0.5], by_arm.loc[1.0]
    assert (free > 0.75).all(axis=None)
    assert (tied["tie holds"] > 0.95).all()
    assert (tied["tie broken"] < free["tie broken"] - 0.15).all()
    added = result.edits.groupby("strength").added.agg(["min", "max"])
    assert (
        added.loc[1.0, "min"] > 2 * added.loc[0.5].abs().max()
    )  # pasting it raises the logit where it was tied
    by_strength = result.training.groupby("strength").marker_only.mean()
    assert by_strength.tolist() == pytest.approx([0.5, 1.0], abs=0.02)


def test_each_seed_learns_from_its_own_images(table, model, noise, monkeypatch):
    seen = []

    def fit(start, x, y, **_):
        seen.append(x)
        return fail.Head(start, x[0], 0.0)

    monkeypatch.setattr(sys.modules["radwb.fail.shortcut"], "fit_head", fit)
    fail.shortcut(
        table, start=model, finding="Pneumothorax", strengths=(1.0,), seeds=2, n=20
    )
    assert seen[0].shape == seen[1].shape == (20, 800)
    assert not np.array_equal(seen[0], seen[1])


def test_shortcut_leaves_its_start_alone_tests_unseen_patients_and_repeats(
    table, model, noise
):
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    state = torch.get_rng_state()
    settings = dict(
        start=model, finding="Pneumothorax", strengths=(1.0,), epochs=2, n=40, seeds=2
    )
    for learner in ("tower", "patches"):
        first, second = (
            fail.shortcut(table, learner=learner, **settings) for _ in range(2)
        )
        pd.testing.assert_frame_equal(first.table, second.table)
        pd.testing.assert_frame_equal(first.edits, second.edits)
        assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert not model.net[0]._forward_hooks
        assert set(first.test.split) == {"test"}
        assert first.training[["n", "positives"]].to_numpy().tolist() == [
            [40, 20],
            [40, 20],
        ]
        np.testing.assert_array_equal(first.images, noise(first.test, 40, "pad"))


def test_the_answers_kept_are_those_of_the_images_without_and_with_the_marker(
    table, model, noise
):
    result = fail.shortcut(
        table, start=model, finding="Pneumothorax", strengths=(1.0,), seeds=1
    )
    stamped = fail.add_marker(result.images, **result.marker)
    head = result.learnt[1.0, 0]
    expected = np.stack([head.logits(result.images), head.logits(stamped)], axis=1)
    np.testing.assert_allclose(result.logits[1.0, 0], expected, rtol=1e-5)
    added = (expected[:, 1] - expected[:, 0])[result.test["Pneumothorax"] == 0].mean()
    assert result.edits.set_index("finding").added[0] == pytest.approx(added)


@pytest.mark.parametrize(
    "name", ["radwb-tiny", "timm:vit_tiny_patch16_224", "timm:resnet18"]
)
@pytest.mark.parametrize("whole", [False, True])
def test_heads_on_a_frozen_tower_can_be_opened_together_as_a_classifier(name, whole):
    start = models.load(name)
    images = np.random.default_rng(0).integers(
        0, 255, (6, start.size, start.size), dtype=np.uint8
    )
    features = fail.patch_features(start, images, whole=whole)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    y = np.array([0, 1, 0, 1, 0, 1])
    labels = {"one": y, "other": 1 - y}
    heads = {
        k: fail.fit_head(start, features, v, whole=whole, C=1e4)
        for k, v in labels.items()
    }
    assert (heads["one"].logits(images) > 0).tolist() == y.astype(bool).tolist()
    opened = fail.classifier(heads)
    with torch.no_grad():
        logits = opened.classify(opened.preprocess(images))
    expected = np.stack([head.logits(images) for head in heads.values()], axis=1)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    scan = data.Scan(images[0] / np.float32(255))
    maps = attend.attention_maps(
        opened, scan, method="gradcam", targets=["one", "other"]
    )
    assert all(m.values.shape == scan.shape for m in maps)


def test_patch_features_keep_each_patch_apart(model):
    """A change in one patch of a tower that mixes nothing moves that patch's features
    alone.
    """
    images = np.random.default_rng(0).integers(0, 200, (1, 40, 40), dtype=np.uint8)
    changed = images.copy()
    changed[0, 12:16, 20:24] += 50  # the patch in row 3, column 5
    before, after = (
        fail.patch_features(model, x).reshape(10, 10, 8) for x in (images, changed)
    )
    moved = np.abs(before - after).max(axis=-1) > 1e-6
    assert np.argwhere(moved).tolist() == [[3, 5]]


def test_a_classifier_refuses_heads_of_several_towers(model):
    here, elsewhere = (
        fail.Head(model, np.ones(800), 0.0),
        fail.Head(None, np.ones(800), 0.0),
    )
    with pytest.raises(ValueError, match="got 1 that read another"):
        fail.classifier({"here": here, "elsewhere": elsewhere})


@pytest.mark.parametrize("name", ["radwb-tiny", "timm:vit_tiny_patch16_224"])
def test_a_tuned_tower_can_be_opened_as_a_classifier(name):
    start = models.load(name)
    images = np.random.default_rng(0).integers(
        0, 255, (4, start.size, start.size), dtype=np.uint8
    )
    tuned, _ = fail.tune.finetune(
        start, images, np.array([0, 1, 0, 1]), epochs=1, batch=2
    )
    torch.nn.init.constant_(tuned.head[1].bias, 0)
    tuned.head[1].weight.data[:] = torch.linspace(
        -100, 100, tuned.head[1].in_features
    )  # so that a slip shows
    opened = tuned.classifier("Lung Lesion")
    with torch.no_grad():
        logits = opened.classify(opened.preprocess(images))
    np.testing.assert_allclose(logits[:, 0], tuned.logits(images), rtol=1e-4)
    scan = data.Scan(images[0] / np.float32(255))
    assert attend.attention_map(opened, scan, target="Lung Lesion").values.std() > 0


def test_the_seed_sets_the_order_of_training(table, model, noise):
    images, y = noise(table, 40, "pad"), table["Pneumothorax"].to_numpy()
    losses = [
        fail.tune.finetune(model, images, y, epochs=2, lr=1e-2, seed=s)[1]
        for s in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("wrong", [dict(learner="forest"), dict(seeds=0)])
def test_shortcut_says_what_it_can_train(table, model, wrong):
    with pytest.raises(ValueError, match="expected a learner of"):
        fail.shortcut(table, start=model, finding="Pneumothorax", **wrong)


def test_shortcut_refuses_a_table_without_both_kinds(table, model, noise):
    with pytest.raises(ValueError, match="train images with and without Pneumothorax"):
        fail.shortcut(table.assign(Pneumothorax=1), start=model, finding="Pneumothorax")


def test_subgroups_find_the_planted_weak_site():
    rng = np.random.default_rng(0)
    y, site = rng.integers(0, 2, 300), np.array(list("ABC") * 100)
    s = np.where(site == "B", rng.normal(size=300), y)  # blind at B, perfect elsewhere
    scores = probe.Scores(
        pd.DataFrame({"Edema": s}), pd.DataFrame({"Edema": y}), np.arange(300)
    )
    found = fail.subgroups(scores, site).set_index("group")
    assert found.auroc["A"] == found.auroc["C"] == 1
    assert found.low["B"] < 0.5 < found.high["B"]
    assert found.n.sum() == 300


def test_subgroups_of_cases_keep_all_controls():
    truth = pd.DataFrame({"Edema": [1, 1, 0, 0]})
    scores = probe.Scores(
        pd.DataFrame({"Edema": [0.9, 0.2, 0.1, 0.3]}), truth, np.arange(4)
    )
    found = fail.subgroups(
        scores, ["large", "small", "", np.nan], of="cases"
    ).set_index("group")
    assert found.auroc.to_dict() == {"large": 1.0, "small": 0.5}
    assert found.n.tolist() == [3, 3]


def test_gaps_find_the_weak_site_and_no_other():
    rng = np.random.default_rng(0)
    n = 900
    y, site = rng.integers(0, 2, n), np.array(list("ABC") * 300)
    s = rng.normal(size=n) + np.where(site == "B", 0, 2) * y  # blind at B
    scores = probe.Scores(
        pd.DataFrame({"Edema": s}), pd.DataFrame({"Edema": y}), np.arange(n)
    )
    gaps = {gap.names[0]: gap for gap in fail.group_gaps(scores, site)}
    assert {name: gap.verdict for name, gap in gaps.items()} == {
        "A": "ahead",
        "B": "behind",
        "C": "ahead",
    }
    by_hand = stats.auroc(y[site == "B"], s[site == "B"]) - stats.auroc(
        y[site != "B"], s[site != "B"]
    )
    assert gaps["B"].difference == pytest.approx(by_hand)
    assert gaps["B"].n == 300
    alike = fail.group_gaps(scores, rng.permutation(site))
    assert {gap.verdict for gap in alike} == {"can't tell"}


def test_a_gap_between_severities_shares_the_controls_and_a_handful_gets_no_interval():
    rng = np.random.default_rng(1)
    y = np.repeat([1, 0], [60, 90])
    severity = np.array(["large"] * 30 + ["small"] * 27 + ["tiny"] * 3 + [""] * 90)
    s = rng.normal(size=150) + 3 * (severity == "large")
    scores = probe.Scores(
        pd.DataFrame({"Edema": s}), pd.DataFrame({"Edema": y}), np.arange(150)
    )
    gaps = {gap.names[0]: gap for gap in fail.group_gaps(scores, severity)}
    assert gaps["large"].verdict == "ahead"
    large = severity == "large"
    of_large, of_others = (
        stats.auroc(y[keep], s[keep]) for keep in (large | (y == 0), ~large)
    )
    assert gaps["large"].difference == pytest.approx(of_large - of_others)
    assert gaps["tiny"].verdict == "can't tell"
    assert "3 patients" in str(gaps["tiny"])


def test_means_over_seeds_have_student_s_interval():
    table = pd.DataFrame(
        {
            "arm": list("aaabbb"),
            "seed": [0, 1, 2] * 2,
            "auroc": [0.5, 0.6, 0.7, 1, 1, 1],
        }
    )
    means = fail.over_seeds(table, by=["arm"]).set_index("arm")
    # by hand: sd 0.1, standard error 0.1 / sqrt(3), t(0.975, 2 degrees) = 4.303
    assert means.auroc.tolist() == pytest.approx([0.6, 1])
    assert means.loc["a", ["low", "high"]].tolist() == pytest.approx(
        [0.6 - 0.2484, 0.6 + 0.2484], abs=1e-4
    )
    assert means.loc["b", ["low", "high"]].tolist() == pytest.approx([1, 1])
    assert means.seeds.tolist() == [3, 3]
    cut = fail.over_seeds(table, by=["arm"], within=(0, 0.8)).set_index("arm")
    assert cut.high.tolist() == [0.8, 0.8]
