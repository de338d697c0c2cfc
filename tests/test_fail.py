"""Claims about rw.fail: markers lie where they should, the tie is exact, and a planted shortcut is found out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from radwb import attend, data, fail, models, probe


@dataclass(eq=False)
class FakeModel:
    """A one-layer image tower on 40 px."""

    net: torch.nn.Module
    size: int = 40
    fit: str = "pad"
    device = torch.device("cpu")

    def preprocess(self, images):
        return torch.from_numpy(np.ascontiguousarray(images))[:, None].float() / 255 - 0.5

    def encode_image(self, x):
        return torch.nn.functional.normalize(self.net(x), dim=-1)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FakeModel(torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(),
                                             torch.nn.Dropout(0.1), torch.nn.Linear(100, 16)))  # fmt: skip


@pytest.fixture
def table():
    n = 120
    return pd.DataFrame({"path": [f"{i}.png" for i in range(n)], "patient_id": [f"p{i // 2}" for i in range(n)],
                         "split": np.where(np.arange(n) < 80, "train", "test"),
                         "Pneumothorax": np.random.default_rng(3).integers(0, 2, n)})  # fmt: skip


@pytest.fixture
def noise(monkeypatch):
    """Images that hold nothing but noise, so that only a marker can be learnt."""

    def images(table, size, fit):
        numbers = table.path.str.removesuffix(".png").astype(int)
        return np.stack([np.random.default_rng(i).integers(0, 120, (size, size), dtype=np.uint8) for i in numbers])

    monkeypatch.setattr("radwb.data.images", images)
    return images


@pytest.mark.parametrize("kind", ["box", "letter", "drain"])
@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
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
    image = fail.add_marker(np.zeros((1, 20, 20), np.uint8), corner="top-left", seed=0)[0]
    assert set(np.unique(image)) == {0, 245}
    assert (image[1:7, 1:7] == 245).all()  # margin 20 // 20 = 1, side 6; 20 // 40 = 0 px of jitter
    assert (image == 245).sum() == 36


def test_letter_reads_as_an_R():
    image = fail.add_marker(np.zeros((1, 20, 20), np.uint8), kind="letter", corner="top-left")[0, 1:8, 1:6]
    rows = ["".join("#" if v else "." for v in row) for row in image]
    assert rows == ["####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"]


def test_marker_leaves_the_others_and_the_input_alone():
    images = np.random.default_rng(0).integers(0, 200, (4, 80, 80), dtype=np.uint8)
    before, out = images.copy(), fail.add_marker(images, [True, False, True, False])
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(out[[1, 3]], images[[1, 3]])
    assert all((out[i] != images[i]).any() for i in (0, 2))


def test_an_image_gets_the_same_marker_whoever_else_has_one():
    images = np.zeros((8, 160, 160), np.uint8)
    everyone, one = fail.add_marker(images, seed=5), fail.add_marker(images, np.arange(8) == 6, seed=5)
    np.testing.assert_array_equal(everyone[6], one[6])
    assert any((everyone[i] != everyone[0]).any() for i in range(1, 8))  # yet they jitter among one another


@pytest.mark.parametrize(("given", "message"), [
    (dict(images=np.zeros((2, 8, 8))), "expected uint8 images"),
    (dict(images=np.zeros((2, 8, 8), np.uint8), where=[True]), "got 1 for 2 images"),
    (dict(images=np.zeros((2, 8, 8), np.uint8), kind="stain"), "expected kind in"),
])  # fmt: skip
def test_marker_says_what_is_wrong(given, message):
    with pytest.raises(ValueError, match=message):
        fail.add_marker(**given)


@pytest.mark.parametrize(("strength", "auroc"), [(1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.0, 0.0)])
def test_marker_alone_scores_its_strength(strength, auroc):
    y = np.array([1] * 40 + [0] * 80)
    marked = fail.tie(y, strength)
    assert marked[:40].sum() == 40 * strength
    assert marked[40:].sum() == 80 * (1 - strength)
    # by hand: sensitivity and specificity of the marker are both `strength`, and AUROC = their mean
    assert probe.auroc(y, marked) == pytest.approx(auroc)


def test_reader_of_the_marker_is_perfect_where_the_tie_holds_and_wrong_where_it_is_broken(table):
    test = table[table.split == "test"]
    result = fail.arms(np.zeros(len(test)), np.ones(len(test)), test, "Pneumothorax").set_index("arm")
    assert result.auroc["tie holds"] == 1
    assert result.auroc["tie broken"] == 0
    assert result.auroc["independent"] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(result.auroc, result.marker_only)


def test_blind_to_the_marker_scores_the_same_in_all_arms(table):
    test = table[table.split == "test"]
    scores = np.random.default_rng(0).normal(size=len(test))
    assert fail.arms(scores, scores, test, "Pneumothorax").auroc.nunique() == 1
    assert (fail.edits(scores, scores, test, "Pneumothorax").added == 0).all()


def test_edit_is_the_mean_change_of_the_logit_with_an_interval_over_patients(table):
    test = table[table.split == "test"]
    change = np.where(test["Pneumothorax"] == 1, 2.0, 0.5)
    edits = fail.edits(np.zeros(len(test)), change, test, "Pneumothorax").set_index("finding")
    assert edits.added.to_dict() == {0: 0.5, 1: 2.0}
    assert edits.low.to_dict() == pytest.approx({0: 0.5, 1: 2.0})
    assert edits.n.sum() == len(test)


def test_a_tied_marker_replaces_the_finding_and_an_untied_one_does_not(table, model, noise, monkeypatch):
    def images(table, size, fit):  # the finding itself is there to be learnt, though fainter than the marker
        out = noise(table, size, fit)
        out[:, 16:28, 16:28] += (30 * table["Pneumothorax"].to_numpy(np.uint8))[:, None, None]
        return out

    monkeypatch.setattr("radwb.data.images", images)
    result = fail.shortcut(table, start=model, finding="Pneumothorax", strengths=(0.5, 1.0), epochs=20, lr=1e-2)
    free, tied = (t.set_index("arm") for _, t in result.table.groupby("strength"))
    assert (free.auroc > 0.9).all()
    assert tied.auroc["tie holds"] > 0.99
    assert tied.auroc["tie broken"] < free.auroc["tie broken"] - 0.3
    added = result.edits.groupby("strength").added.min()
    assert added[1.0] > max(1, 2 * abs(added[0.5]))  # pasting the letter raises the logit where it was tied
    assert result.training.marker_only.tolist() == pytest.approx([0.5, 1.0], abs=0.02)


def test_shortcut_leaves_its_start_alone_tests_unseen_patients_and_repeats(table, model, noise):
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    state = torch.get_rng_state()
    settings = dict(start=model, finding="Pneumothorax", strengths=(1.0,), epochs=2, n=40)
    first, second = (fail.shortcut(table, **settings) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.edits, second.edits)
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert set(first.test.split) == {"test"}
    assert first.training.loc[0, ["n", "positives"]].tolist() == [40, 20]
    np.testing.assert_array_equal(first.images, noise(first.test, 40, "pad"))


@pytest.mark.parametrize("name", ["radwb-tiny", "timm:vit_tiny_patch16_224"])
def test_a_tuned_tower_can_be_opened_as_a_classifier(name):
    start = models.load(name)
    images = np.random.default_rng(0).integers(0, 255, (4, start.size, start.size), dtype=np.uint8)
    tuned, _ = fail.finetune(start, images, np.array([0, 1, 0, 1]), epochs=1, batch=2)
    torch.nn.init.constant_(tuned.head[1].bias, 0)
    tuned.head[1].weight.data[:] = torch.linspace(-100, 100, tuned.head[1].in_features)  # so that a slip shows
    opened = tuned.classifier("Lung Lesion")
    with torch.no_grad():
        logits = opened.classify(opened.preprocess(images))
    np.testing.assert_allclose(logits[:, 0], tuned.logits(images), rtol=1e-4)
    scan = data.Scan(images[0] / np.float32(255))
    assert attend.attention_map(opened, scan, target="Lung Lesion").values.std() > 0


def test_the_seed_sets_the_order_of_training(table, model, noise):
    images, y = noise(table, 40, "pad"), table["Pneumothorax"].to_numpy()
    losses = [fail.finetune(model, images, y, epochs=2, lr=1e-2, seed=s)[1] for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_shortcut_refuses_a_table_without_both_kinds(table, model, noise):
    with pytest.raises(ValueError, match="train images with and without Pneumothorax"):
        fail.shortcut(table.assign(Pneumothorax=1), start=model, finding="Pneumothorax")


def test_subgroups_find_the_planted_weak_site():
    rng = np.random.default_rng(0)
    y, site = rng.integers(0, 2, 300), np.array(list("ABC") * 100)
    s = np.where(site == "B", rng.normal(size=300), y)  # blind at B, perfect elsewhere
    scores = probe.Scores(pd.DataFrame({"Edema": s}), pd.DataFrame({"Edema": y}), np.arange(300))
    found = fail.subgroups(scores, site, n_boot=200).set_index("group")
    assert found.auroc["A"] == found.auroc["C"] == 1
    assert found.low["B"] < 0.5 < found.high["B"]
    assert found.n.sum() == 300


def test_subgroups_of_cases_keep_all_controls():
    truth = pd.DataFrame({"Edema": [1, 1, 0, 0]})
    scores = probe.Scores(pd.DataFrame({"Edema": [0.9, 0.2, 0.1, 0.3]}), truth, np.arange(4))
    found = fail.subgroups(scores, ["large", "small", "", np.nan], of="cases", n_boot=20).set_index("group")
    assert found.auroc.to_dict() == {"large": 1.0, "small": 0.5}
    assert found.n.tolist() == [3, 3]
