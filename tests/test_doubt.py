"""Doubt against planted truth: oracles pass, maps that know nothing fail, and what is
undone comes back.
"""

import copy
import json
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from test_pretrain import VISUAL, squares_table
from torch import nn

from radwb import attend, models, pretrain
from radwb.attend.doubt import alike, changes, heads
from radwb.attend.doubt.faithful import SHARES
from radwb.data import Scan, Volume
from radwb.data.fetch import sha256

timm = pytest.importorskip("timm")
TEXTS = [
    "right pleural effusion",
    "no pleural effusion",
    "cardiomegaly",
    "pneumothorax",
    "lung nodule",
]
TARGET = ("pleural effusion", "no pleural effusion")


@pytest.fixture(scope="module")
def clip():
    tokenizer = models.Tokenizer.train(TEXTS, vocab_size=280, context=16)
    shape = {
        "size": 64,
        "width": 48,
        "layers": 3,
        "embed": 32,
        "text_width": 32,
        "text_layers": 1,
    }
    model = models.clip_tiny(tokenizer, shape=shape, seed=1)
    for p in model.net.visual.parameters():
        p.data *= 1.5
    return model


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, img_size=64, depth=2
    )
    return models.Model(
        net,
        "vit",
        "image",
        64,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        (4, 4),
        findings=["a", "b", "c"],
    )


def film(seed, H=60, W=50):
    """A film of smooth noise with a lesion of 14 x 14 px somewhere."""
    rng, mask = np.random.default_rng(seed), np.zeros((H, W), bool)
    y, x = rng.integers(0, H - 14), rng.integers(0, W - 14)
    mask[y : y + 14, x : x + 14] = True
    return Scan(
        attend.blind.random_map((H, W), seed, sigma=2).clip(0, 1),
        truth={"lesion": mask},
    )


SCANS = [film(seed) for seed in range(12)]


def oracle(trained):
    """The lesion when asked for it with the trained weights, else noise."""
    trained_weights = [p.detach().clone() for p in trained.net.visual.parameters()]

    def ask(model, scan, target):
        same = all(
            torch.equal(a, b)
            for a, b in zip(trained_weights, model.net.visual.parameters(), strict=True)
        )
        if same and target == TARGET:
            return scan.truth["lesion"].astype(np.float32)
        return attend.blind.random_map(
            scan.shape, zlib.crc32(repr((same, target, scan.pixels.sum())).encode())
        )

    return ask


KNOW_NOTHING = {
    "constant": lambda model, scan, target: np.full(scan.shape, 0.7, np.float32),
    "centre": lambda model, scan, target: attend.blind.centre_map(scan.shape),
    "edges": lambda model, scan, target: attend.edge_map(scan),
}


# ---- the verdict


def test_an_oracle_passes_every_test(clip):
    twins = attend.doubt.twins.LabelTwins(
        clip, copy.copy(clip), attend.doubt.randomised(clip, SCANS), TARGET
    )
    sanity = attend.sanity_check(
        clip, SCANS, method=oracle(clip), target=TARGET, twins=twins
    )
    tests = ["random weights", "nonsense phrase", "other finding", "shuffled labels"]
    assert sanity.badge.tests == dict.fromkeys(tests, True)
    assert str(sanity.badge) == f"sanity: passes {', '.join(tests)} (n = 12)"


@pytest.mark.parametrize("name", KNOW_NOTHING)
def test_maps_that_know_nothing_fail_every_test(clip, name):
    twins = attend.doubt.twins.LabelTwins(
        clip,
        attend.doubt.randomised(clip, SCANS),
        attend.doubt.randomised(clip, SCANS, seed=1),
        TARGET,
    )
    sanity = attend.sanity_check(
        clip, SCANS, method=KNOW_NOTHING[name], target=TARGET, twins=twins
    )
    tests = ["random weights", "nonsense phrase", "other finding", "shuffled labels"]
    assert sanity.badge.tests == dict.fromkeys(tests, False)
    judged = sanity.table[sanity.table["passed"].notna()]
    assert np.allclose(judged["similarity"], 1)
    assert not sanity.badge.passed


def test_a_method_that_ignores_the_target_fails_the_words_and_passes_the_weights(clip):
    badge = attend.sanity_check(clip, SCANS, method="rollout", target=TARGET).badge
    assert badge.tests == {
        "random weights": True,
        "nonsense phrase": False,
        "other finding": False,
    }
    assert attend.sanity_check(clip, SCANS, method="rollout").badge.tests == {
        "random weights": True
    }


def test_a_drawing_turned_into_its_negative_is_still_the_same_drawing(clip):
    trained = clip.net.visual.proj.detach().clone()

    def edges(model, scan, target):
        m = attend.edge_map(scan)
        return m if torch.equal(trained, model.net.visual.proj) else m.max() - m

    sanity = attend.sanity_check(clip, SCANS, method=edges, target=TARGET)
    assert sanity.table["similarity"]["random weights", "all"] == pytest.approx(1)
    assert not sanity.badge.tests["random weights"]

    # the words, in contrast, may well ask for the opposite
    def flips(model, scan, target):
        sign = 1 if target == TARGET else -1
        return sign * attend.edge_map(scan)

    sanity = attend.sanity_check(clip, SCANS, method=flips, target=TARGET)
    assert sanity.badge.tests["nonsense phrase"]


def test_the_more_a_map_is_made_of_edges_the_more_alike_it_stays(clip):
    ask, alike, passed = oracle(clip), [], []
    for share in (0, 0.2, 0.4, 0.7, 1):

        def mixed(model, scan, target, share=share):
            mine, edges = ask(model, scan, target), attend.edge_map(scan)
            return (1 - share) * mine / mine.max() + share * edges / edges.max()

        sanity = attend.sanity_check(clip, SCANS, method=mixed, target=TARGET)
        alike.append(sanity.table["similarity"]["random weights", "all"])
        passed.append(sanity.badge.tests["random weights"])
    assert alike == sorted(alike)
    assert (passed[0], passed[-1]) == (True, False)


def test_a_test_passes_only_when_the_whole_interval_lies_below_the_limit(clip):
    sanity = attend.sanity_check(clip, SCANS, method="relevance", target=TARGET)
    table = sanity.table
    high = table["high"]["random weights", "all"]
    for limit, passed in [(high + 0.01, True), (high - 0.01, False)]:
        again = attend.sanity_check(
            clip, SCANS, method="relevance", target=TARGET, limit=limit
        )
        assert again.badge.tests["random weights"] is passed
        assert again.table["limit"]["random weights", "all"] == limit
    judged = table[table["passed"].notna()]
    assert judged["passed"].tolist() == (judged["high"] < 0.5).tolist()


def test_maps_of_other_patients_are_the_reference_and_not_judged(clip):
    centre = attend.sanity_check(
        clip, SCANS, method=KNOW_NOTHING["centre"], target=TARGET
    )
    assert centre.table["similarity"]["reference"].item() == pytest.approx(1)
    assert centre.table["passed"]["reference"].isna().all()
    assert "reference" not in centre.badge.tests
    twins = [scan for scan in SCANS[:5] for _ in range(2)]
    patients = np.repeat(range(5), 2)
    edges = attend.sanity_check(
        clip, twins, method=KNOW_NOTHING["edges"], target=None, groups=patients
    )
    alone = attend.sanity_check(
        clip, SCANS[:5], method=KNOW_NOTHING["edges"], target=None
    )
    same = [t.table["similarity"]["reference"].item() for t in (edges, alone)]
    # a patient's own other film is no reference
    assert same[0] == pytest.approx(same[1])


def test_intervals_draw_patients_not_scans(clip):
    ask, scans = oracle(clip), [SCANS[i % 6] for i in range(24)]
    as_scans = attend.sanity_check(clip, scans, method=ask, target=TARGET)
    as_patients = attend.sanity_check(
        clip, scans, method=ask, target=TARGET, groups=[i % 6 for i in range(24)]
    )
    widths = [
        (check.table["high"] - check.table["low"])["random weights", "all"]
        for check in (as_patients, as_scans)
    ]
    assert widths[0] > 1.5 * widths[1]
    assert as_patients.table["patients"].unique().tolist() == [6]


def test_a_classifier_is_asked_for_its_other_classes(vit):
    targets = []

    def listen(model, scan, target):
        targets.append(target)
        return attend.edge_map(scan)

    for target in ("B", 1):
        sanity = attend.sanity_check(vit, SCANS[:5], method=listen, target=target)
        assert list(sanity.badge.tests) == ["random weights", "other finding"]
        assert set(targets) == {target, "a", "c"}
        targets.clear()
    real = attend.sanity_check(vit, SCANS, method="gradcam", target="a")
    assert set(real.badge.tests) == {"random weights", "other finding"}


def test_the_other_findings_leave_out_what_the_target_speaks_of():
    model = SimpleNamespace(findings=None)
    others = changes.other_targets(model, "fluid on the left")
    assert others == ["pneumothorax", "cardiomegaly", "lung nodule"]
    others = changes.other_targets(model, ("enlarged heart", "normal heart"))
    assert others[0] == "pleural effusion"
    assert "cardiomegaly" not in others


def test_a_nonsense_pair_answers_a_pair(clip):
    targets = set()

    def listen(model, scan, target):
        targets.add(target)
        return attend.edge_map(scan)

    attend.sanity_check(
        clip,
        SCANS[:5],
        method=listen,
        target=TARGET,
        nonsense=["blue"],
        others=["air", ("x", "y")],
    )
    assert targets == {TARGET, ("blue", "no blue"), ("air", "no air"), ("x", "y")}
    targets.clear()
    attend.sanity_check(
        clip,
        SCANS[:5],
        method=listen,
        target="effusion",
        nonsense=["blue"],
        others=["air"],
    )
    assert targets == {"effusion", "blue", "air"}


def test_the_badge_goes_on_maps_of_the_same_method_and_model_only(clip):
    sanity = attend.sanity_check(clip, SCANS, method="gradcam", target=TARGET)
    maps = attend.attention_maps(clip, SCANS[:2], method="gradcam", targets=TARGET)
    stamped = sanity.stamp(maps)
    assert [m.badge for m in stamped] == [sanity.badge] * 2
    assert stamped[0].values is maps[0].values
    assert maps[0].badge is None
    assert sanity.stamp(maps[0]).badge == sanity.badge
    with pytest.raises(ValueError, match="by gradcam of clip-tiny, got one by rollout"):
        sanity.stamp(attend.attention_map(clip, SCANS[0], method="rollout"))


def test_too_few_patients_give_no_verdict(clip):
    with pytest.raises(ValueError, match="at least 5 patients, got 3"):
        attend.sanity_check(
            clip, SCANS[:6], method="rollout", groups=[0, 0, 1, 1, 2, 2]
        )
    with pytest.raises(ValueError, match="one group for each of 6 scans, got 2"):
        attend.sanity_check(clip, SCANS[:6], method="rollout", groups=[0, 1])


# ---- shuffled labels


def test_a_map_that_differs_as_much_between_true_twins_tells_nothing_of_the_labels(
    clip,
):
    """All three models draw noise of their own: the shuffled one is unlike the first,
    but so is the true one.
    """
    three = [copy.copy(clip) for _ in range(3)]
    seeds = {id(model): n for n, model in enumerate(three)}

    def noise(model, scan, target):
        return attend.blind.random_map(
            scan.shape,
            int(1e6 * scan.pixels.sum()) % 1000 + 1000 * seeds.get(id(model), 9),
        )

    sanity = attend.sanity_check(
        clip,
        SCANS,
        method=noise,
        target=TARGET,
        twins=attend.doubt.twins.LabelTwins(*three, TARGET),
    )
    assert sanity.badge.tests["shuffled labels"] is None
    assert sanity.badge.passed is None or sanity.badge.passed is False
    assert "two models with the true labels have no more in common" in str(sanity.badge)
    assert sanity.labels.verdict == "can't tell"
    assert sanity.table["passed"].loc["shuffled labels"].isna().all()


def test_the_true_pair_is_compared_with_the_shuffled_one_by_patient(clip):
    twins = attend.doubt.twins.LabelTwins(
        clip, copy.copy(clip), attend.doubt.randomised(clip, SCANS), TARGET
    )
    patients = np.arange(len(SCANS)) // 2
    sanity = attend.sanity_check(
        clip, SCANS, method="relevance", target=TARGET, twins=twins, groups=patients
    )
    same = sanity.values["reference", "true labels, another start"]
    assert np.allclose(same, 1)  # the pair are two of the same
    other = sanity.values["shuffled labels"].iloc[:, 0]
    assert sanity.labels.difference == pytest.approx((same - other).mean())
    assert (sanity.labels.n, sanity.labels.verdict) == (6, "ahead")


def test_a_collapsed_twin_is_not_interpreted(clip):
    alike_embeddings = "64 images have a cosine of 1.00; above 0.97 all look alike"
    ills = {"the model of shuffled labels": alike_embeddings}
    twins = attend.doubt.twins.LabelTwins(
        clip, clip, attend.doubt.randomised(clip, SCANS), TARGET, ills
    )
    sanity = attend.sanity_check(
        clip, SCANS, method=oracle(clip), target=TARGET, twins=twins
    )
    assert sanity.badge.tests["shuffled labels"] is None
    assert sanity.badge.passed is None
    why = "not healthy: the model of shuffled labels"
    assert str(sanity.badge).endswith(
        f"other finding; not interpretable: shuffled labels ({why}) (n = 12)"
    )
    assert "shuffled labels" not in sanity.table.index.get_level_values("test")
    assert sanity.labels is None


def test_classifiers_as_twins_are_asked_for_their_class_and_never_for_similarity(
    clip, vit
):
    twins = attend.doubt.twins.LabelTwins(vit, vit, vit, "a")
    sanity = attend.sanity_check(
        clip, SCANS, method="similarity", target=TARGET, twins=twins
    )
    assert "similarity needs a text tower" in str(sanity.badge)
    same = attend.sanity_check(
        clip, SCANS, method="gradcam", target=TARGET, twins=twins
    )
    assert same.badge.tests["shuffled labels"] is False


FIT = {
    "recipe": "supervised-tiny",
    "size": 32,
    "shape": VISUAL,
    "batch": 32,
    "epochs": 30,
    "lr": 3e-3,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    table = squares_table(tmp_path_factory.mktemp("squares"), n=96)
    place = table["report"].astype("category").cat.codes
    return (
        table.drop(columns="report")
        .assign(**{"Lung Lesion": place == 0, "Edema": place == 1})
        .astype({"Lung Lesion": int, "Edema": int})
    )


@pytest.fixture(scope="module")
def trio(squares, tmp_path_factory):
    out, findings = tmp_path_factory.mktemp("trio"), ["Lung Lesion", "Edema"]
    shuffled = squares.copy()
    shuffled[findings] = np.random.default_rng(0).permutation(shuffled[findings])
    tables = {"true": (squares, 0), "again": (squares, 1), "shuffled": (shuffled, 1)}
    return {
        name: pretrain.fit(t, out=out / name, seed=seed, **FIT)
        for name, (t, seed) in tables.items()
    }


def test_three_healthy_runs_alike_but_for_their_labels_are_twins(squares, trio):
    twins = attend.label_twins(**trio, table=squares, target="Edema")
    assert (twins.ills, twins.unhealthy) == ({}, "")
    assert twins.target == "Edema"
    for refused, match in [
        (
            trio | {"shuffled": trio["again"]},
            "differ in their labels and in nothing else, got seeds 1 and 1, the same",
        ),
        (
            trio | {"again": trio["true"]},
            "differ in their labels and in nothing else, got seeds 0 and 1",
        ),
        (
            trio | {"true": trio["again"]},
            "differ in their seed and in nothing else, got seeds 1 and 1, the same",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            attend.label_twins(**refused, table=squares)


def altered(run, folder, *, net=None, loss=None, epochs=None):
    """A copy of a run with other weights, losses or settings."""
    model = copy.copy(run.model)
    model.net = net or model.net
    models.save(model, folder)
    config = json.loads(json.dumps(run.config))
    config["identity"]["epochs"] = epochs or config["identity"]["epochs"]
    config["model_sha256"] = sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    log = run.log if loss is None else run.log.assign(loss=loss)
    log.to_csv(folder / "log.csv", index=False)
    return pretrain.Run(folder)


def test_a_planted_collapse_and_a_run_that_learned_nothing_are_ill(
    squares, trio, tmp_path
):
    net = copy.deepcopy(trio["shuffled"].model.net)
    with torch.no_grad():
        net.visual.ln_post.weight.zero_()  # all images get the same embedding
        net.visual.ln_post.bias.fill_(0.5)
    collapsed = altered(trio["shuffled"], tmp_path / "collapsed", net=net)
    twins = attend.label_twins(**trio | {"shuffled": collapsed}, table=squares)
    assert list(twins.ills) == ["the model of shuffled labels"]
    assert "cosine of 1.00" in twins.ills["the model of shuffled labels"]
    share = squares.loc[squares["split"] == "train", ["Lung Lesion", "Edema"]].mean()
    guess = float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).mean())
    idle = altered(trio["shuffled"], tmp_path / "idle", loss=guess)
    reason = attend.label_twins(**trio | {"shuffled": idle}, table=squares).ills[
        "the model of shuffled labels"
    ]
    assert (
        f"loss {guess:.2f} in the last epoch, that of the frequencies is {guess:.2f}"
        in reason
    )
    longer = altered(trio["shuffled"], tmp_path / "longer", epochs=31)
    with pytest.raises(ValueError, match="the same epochs, got .*31"):
        attend.label_twins(**trio | {"shuffled": longer}, table=squares)


# ---- random weights


def state_of(model):
    return {k: v.clone() for k, v in model.net.state_dict().items()}, [
        m.training for m in model.net.modules()
    ]


def test_the_model_and_the_global_generator_come_back_unchanged(clip):
    tensors, modes = state_of(clip)
    random = torch.get_rng_state()
    first = attend.sanity_check(clip, SCANS, method="gradcam", target=TARGET, cascade=2)
    again = attend.sanity_check(clip, SCANS, method="gradcam", target=TARGET, cascade=2)
    other = attend.sanity_check(
        clip, SCANS, method="gradcam", target=TARGET, cascade=2, seed=7
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert state_of(clip)[1] == modes
    assert all(torch.equal(v, tensors[k]) for k, v in clip.net.state_dict().items())
    assert first.table.equals(again.table)
    assert (
        first.table["similarity"]["random weights", "all"]
        != other.table["similarity"]["random weights", "all"]
    )


def test_random_weights_are_the_same_numbers_at_other_places_and_the_words_stay(clip):
    twin = attend.doubt.randomised(clip, SCANS, seed=3)
    moved = 0
    for (name, p), (_, q) in zip(
        clip.net.named_parameters(), twin.net.named_parameters(), strict=True
    ):
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values)
        assert name.startswith("visual.") or torch.equal(p, q)
        moved += not torch.equal(p, q)
    assert moved > 25  # all but vectors of one value, as norms have them at the start
    assert torch.equal(twin.encode_text(TEXTS), clip.encode_text(TEXTS))
    assert not torch.allclose(
        twin.encode_image(clip.preprocess(SCANS)),
        clip.encode_image(clip.preprocess(SCANS)),
    )


def test_the_cascade_starts_at_the_output(clip):
    before = dict(clip.net.visual.named_parameters())

    def changed(share):
        tower = attend.doubt.randomised(clip, SCANS, share=share).net.visual
        after = tower.named_parameters()
        return [name for name, p in after if not torch.equal(p, before[name])]

    first_third = changed(0.3)
    assert any(n.startswith("transformer.resblocks.2.") for n in first_third)
    near_input = ("transformer.resblocks.0.", "conv1")
    assert not any(n.startswith(near_input) for n in first_third)
    assert set(first_third) < set(changed(1.0))
    sanity = attend.sanity_check(clip, SCANS, method="rollout", cascade=3)
    assert sanity.table.loc["share of weights"].index.tolist() == ["33%", "67%", "100%"]
    assert sanity.table.loc["share of weights"]["passed"].isna().all()
    assert list(sanity.badge.tests) == ["random weights"]


def test_batch_norms_count_again_or_say_that_they_need_scans(clip):
    twin = attend.doubt.randomised(clip, SCANS)
    first = twin.net.visual.conv1[1]  # behind the first convolution
    seen = twin.net.visual.conv1[0](clip.preprocess(SCANS)).detach()
    assert torch.allclose(first.running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, seen.var((0, 2, 3)), rtol=1e-4)
    assert not first.training
    assert first.momentum == clip.net.visual.conv1[1].momentum
    with pytest.raises(ValueError, match="scans to count the .* batch norms"):
        attend.doubt.randomised(clip)


def test_a_net_that_dealing_can_not_change_is_refused():
    net = nn.Linear(3, 3)
    nn.init.ones_(net.weight)
    nn.init.zeros_(net.bias)
    with pytest.raises(ValueError, match="expected weights to randomise in Linear"):
        attend.doubt.randomised(SimpleNamespace(net=net))


def test_a_volumes_map_is_doubted_like_a_films():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3, 2, 1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Conv3d(4, 8, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    net3d = attend.Net3d(net.eval(), (16, 16, 16), window_hu=(0, 1), axes=None)
    rng = np.random.default_rng(0)
    volumes = [
        Volume(rng.random((16, 16, 16)).astype(np.float32), np.eye(4), "CT")
        for _ in range(5)
    ]

    def ask(model, volume, target):
        return attend.volume_map(model, volume, method="gradcam", target=target)

    sanity = attend.sanity_check(net3d, volumes, method=ask, target=1, others=[0])
    assert list(sanity.badge.tests) == ["random weights", "other finding"]
    assert sanity.stamp(ask(net3d, volumes[0], 1)).badge == sanity.badge

    def blind(model, volume, target):
        return volume.voxels

    sanity = attend.sanity_check(net3d, volumes, method=blind, target=1, others=[0])
    assert not any(sanity.badge.tests.values())


# ---- likeness of maps


def test_likeness_is_spearmans_with_ties_and_constants_defined():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 64, 64)), rng.integers(3, size=(2, 64, 64)).astype(float)
    got = alike.similarity(alike.ranks(a), alike.ranks(b))
    want = [
        spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)
    ]
    assert np.allclose(got, want, atol=1e-4)
    flat, ramp = np.full((10, 10), 0.3), np.arange(100.0).reshape(10, 10)

    def one(x, y):
        return alike.similarity(alike.ranks([x]), alike.ranks([y])).item()

    assert one(flat, 5 * flat) == 1
    assert one(flat, flat * (1 + 1e-8 * ramp)) == 1  # noise of the arithmetic is no map
    assert one(flat, ramp) == 0
    # scales don't count, ranks do
    assert one(ramp, ramp**2) == pytest.approx(1, abs=1e-4)
    assert one(ramp, -ramp) == pytest.approx(-1)
    volume = np.stack([ramp] * 3)
    assert one(volume, volume) == pytest.approx(1)


# ---- deletion and insertion


def dense_imputation(pixels, removed):
    """ROAD's system written out pixel by pixel: each lost pixel is the weighted mean of
    its neighbours.
    """
    H, W = pixels.shape
    lost = [tuple(at) for at in np.argwhere(removed)]
    A, b = np.zeros((len(lost), len(lost))), np.zeros(len(lost))
    for row, (y, x) in enumerate(lost):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = 0 <= y + dy < H and 0 <= x + dx < W and (dy, dx) != (0, 0)
                weight = (1 / 12 if dy and dx else 1 / 6) * there
                A[row, row] += weight
                if there and removed[y + dy, x + dx]:
                    A[row, lost.index((y + dy, x + dx))] -= weight
                elif there:
                    b[row] += weight * pixels[y + dy, x + dx]
    out = pixels.copy()
    out[removed] = np.linalg.solve(A, b)
    return out


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("shape", [(9, 14), (1, 30), (12, 2)])
def test_the_imputation_is_the_dense_solution(share, shape):
    rng = np.random.default_rng(1)
    pixels, removed = rng.random(shape), rng.random(shape) < share
    removed[0, 0] = False
    assert np.allclose(
        attend.doubt.impute.impute(pixels, removed),
        dense_imputation(pixels, removed),
        atol=1e-4,
    )
    assert np.array_equal(
        attend.doubt.impute.impute(pixels, removed)[~removed], pixels[~removed]
    )


def test_the_imputation_continues_a_slope_and_needs_something_left():
    slope = np.add.outer(np.arange(12.0), 2 * np.arange(12.0))
    removed = np.zeros((12, 12), bool)
    removed[3:8, 4:9] = True
    assert np.allclose(
        attend.doubt.impute.impute(np.where(removed, -50, slope), removed),
        slope,
        atol=1e-3,
    )
    with pytest.raises(ValueError, match="at least one pixel that is left"):
        attend.doubt.impute.impute(slope, np.ones((12, 12), bool))


class Box(nn.Module):
    """A linear model: the score is the mean of the pixels inside a box."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 32, 32))
        self.weight.data[0, 6:16, 14:26] = 1 / 120

    def forward(self, x):
        return (x * self.weight).sum((1, 2, 3))[:, None]


def box_model():
    return models.Model(
        Box(), "box", "image", 32, 1, (0.0,), (1.0,), "pad", (4, 4), findings=["box"]
    )


def bright_box(seed):
    pixels = 0.2 * np.random.default_rng(seed).random((32, 32)).astype(np.float32)
    pixels[6:16, 14:26] += 0.8
    return Scan(pixels)


def test_the_box_itself_beats_random_at_deletion_and_insertion_and_its_reverse_loses():
    scans = [bright_box(seed) for seed in range(40)]
    model, box = box_model(), box_model().net.weight.detach().numpy()[0] * 120
    good = attend.faithfulness(model, scans, [box] * 40, target="box").table
    assert (good.xs("gain", level="of")["low"] > 0.1).all()
    bad = attend.faithfulness(model, scans, [1 - box] * 40, target="box").table
    assert (bad.xs("gain", level="of")["high"] < -0.1).all()
    noise = [attend.blind.random_map((32, 32), 1000 + i) for i in range(40)]
    blind = attend.faithfulness(model, scans, noise, target="box").table.xs(
        "gain", level="of"
    )
    assert ((blind["low"] < 0) & (blind["high"] > 0)).all()
    assert good.loc["deletion"].loc["random"].equals(bad.loc["deletion"].loc["random"])
    both = attend.faithfulness(
        model, scans, {"box": [box] * 40, "rest": [1 - box] * 40}, target="box"
    )
    assert both.gains.columns.names == ["map", "curve"]
    want = both.table.xs("gain", level="of")["mean"]
    assert both.gains.mean().to_numpy() == pytest.approx(
        want.loc[both.gains.columns].to_numpy()
    )
    assert (both.gains["box"] > both.gains["rest"]).all(axis=None)
    assert good["n"].unique().tolist() == [40]


def test_curves_start_and_end_at_the_scan_as_it_is_and_areas_are_theirs():
    model, scans = box_model(), [bright_box(seed) for seed in range(4)]
    maps = [1 - model.net.weight.detach().numpy()[0] * 120] * 4  # the box comes last
    faith = attend.faithfulness(model, scans, maps, target="box", noise=0)
    intact = attend.doubt.faithful.target_scores(model, scans, "box")
    curves = faith.curves.set_index(["curve", "of", "share"])["mean"]
    ends = [curves["deletion", of, 0] for of in ("map", "random")] + [
        curves["insertion", of, 1] for of in ("map",)
    ]
    assert ends == pytest.approx([intact.mean()] * 3, rel=1e-5)
    along = [0, *SHARES]
    by_hand = np.trapezoid([curves["deletion", "map", s] for s in along], along) / 0.9
    assert faith.table.loc[("deletion", "map"), "mean"] == pytest.approx(by_hand)
    gain = faith.table["mean"]
    assert gain["deletion", "gain"] == pytest.approx(
        gain["deletion", "random"] - gain["deletion", "map"]
    )
    assert gain["insertion", "gain"] == pytest.approx(
        gain["insertion", "map"] - gain["insertion", "random"]
    )
    one = attend.faithfulness(
        model,
        scans[0],
        maps[0],
        target=lambda x: x.mean((1, 2, 3)),
        shares=(0.5,),
        noise=0,
    )
    # a score of one's own
    assert one.curves["mean"][0] == pytest.approx(scans[0].pixels.mean(), rel=1e-5)


def test_several_methods_share_their_control_and_get_what_each_gets_alone():
    model, scans = box_model(), [bright_box(seed) for seed in range(4)]
    box = model.net.weight.detach().numpy()[0] * 120
    maps = {"good": [box] * 4, "bad": [1 - box] * 4}
    how = dict(target="box", shares=(0.2, 0.6), noise=0)
    together = attend.faithfulness(model, scans, maps, **how)
    for name, of_name in maps.items():
        alone = attend.faithfulness(model, scans, of_name, **how)
        pd.testing.assert_frame_equal(together.table.loc[name], alone.table)
        theirs = (
            together.curves[together.curves["map"] == name]
            .drop(columns="map")
            .reset_index(drop=True)
        )
        pd.testing.assert_frame_equal(theirs, alone.curves)


def test_deletion_takes_pixels_of_the_scan_and_none_of_the_padding():
    seen = []
    tall = Scan(np.ones((32, 16), np.float32))  # the middle half of a square of 32 x 32

    def score(x):
        seen.append(x)
        return x.mean((1, 2, 3))

    attend.faithfulness(
        box_model(),
        tall,
        attend.blind.centre_map((32, 16)),
        target=score,
        shares=(0.25, 0.9),
        noise=0.5,
    )
    x = torch.cat(seen)[:, 0]
    assert not x[:, :, :8].any()
    assert not x[:, :, 24:].any()
    # the scan as it is, then map and random, deletion and insertion
    touched = (x != x[0]).sum((1, 2)).tolist()
    assert touched == [0, 128, 461, 128, 461, 384, 51, 384, 51]


def test_faithfulness_refuses_what_does_not_fit():
    scan, model = bright_box(0), box_model()
    with pytest.raises(ValueError, match="2 scans, 1 maps"):
        attend.faithfulness(model, [scan, scan], [scan.pixels], target="box")
    for shares in [(0, 0.5), (0.5, 1), (0.5, 0.2)]:
        with pytest.raises(ValueError, match="shares that rise between 0 and 1"):
            attend.faithfulness(model, scan, scan.pixels, target="box", shares=shares)


# ---- stability and agreement


def test_a_map_that_follows_the_tissue_is_stable_and_one_that_stays_put_is_not():
    scans = [film(seed, 64, 48) for seed in range(6)]

    def follows(model, scan, target):
        return scan.pixels

    table = attend.doubt.alike.stability(None, scans, method=follows)
    assert table.loc["moved back", "low"] > 0.999
    assert table.loc["left in place", "high"] < 0.8
    table = attend.doubt.alike.stability(
        None,
        scans,
        method=lambda model, scan, target: attend.blind.centre_map(scan.shape),
    )
    assert table.loc["left in place", "low"] > 0.999
    assert table.loc["moved back", "high"] < 0.99
    with pytest.raises(ValueError, match="shifts as shares"):
        attend.doubt.alike.stability(None, scans, method=follows, shifts=((4, 0),))


def test_stability_asks_the_named_method(clip):
    table = attend.doubt.alike.stability(
        clip, SCANS[:4], method="rollout", groups=[0, 0, 1, 1]
    )
    assert table["mean"].between(-1, 1).all()
    assert table["patients"].tolist() == [2, 2]
    assert table["note"].tolist() == ["no interval: 2 patients"] * 2


def test_agreement_is_a_square_of_rank_correlations():
    rng = np.random.default_rng(0)
    a, b = list(rng.random((5, 64, 64))), list(rng.random((5, 64, 64)))
    mixed = [x + y for x, y in zip(a, b, strict=True)]
    square = attend.agreement({"a": a, "b": b, "mixed": mixed})["mean"].unstack()
    assert np.allclose(square, square.T)
    assert np.allclose(np.diag(square), 1)
    want = np.mean(
        [
            spearmanr(x.ravel(), y.ravel()).statistic
            for x, y in zip(a, mixed, strict=True)
        ]
    )
    assert square.loc["a", "mixed"] == pytest.approx(want, abs=1e-4)
    with pytest.raises(ValueError, match="maps of the same scans"):
        attend.agreement({"a": a, "b": b[:2]})


# ---- heads


def zeroed(weight, rows):
    """Zero some rows and return what the weight was."""
    before = weight.detach().clone()
    weight[rows] = 0
    return before


def test_a_silent_head_is_one_without_values_in_open_clip(clip):
    x, block = clip.preprocess(SCANS), clip.net.visual.transformer.resblocks[1]
    with torch.no_grad():
        plain = clip.encode_image(x)
        with attend.doubt.heads.ablate_heads(clip, [(1, 2)]):
            silent = clip.encode_image(x)
        # the rows that make the third head's 16 values
        values = slice(2 * 48 + 32, 2 * 48 + 48)
        before = (
            zeroed(block.attn.in_proj_weight, values),
            zeroed(block.attn.in_proj_bias, values),
        )
        want = clip.encode_image(x)
        block.attn.in_proj_weight.copy_(before[0])
        block.attn.in_proj_bias.copy_(before[1])
        assert torch.equal(clip.encode_image(x), plain)
    assert torch.allclose(silent, want, atol=1e-6)
    assert not torch.allclose(silent, plain, atol=1e-4)


def test_a_silent_head_is_one_without_output_in_timm(vit):
    x, outputs = vit.preprocess(SCANS), []

    def hush(_, args):
        out = args[0].clone()
        out[..., :64] = 0  # the first of three heads, before the projection
        return (out,)

    hook = vit.net.blocks[0].attn.proj.register_forward_pre_hook(hush)
    with torch.no_grad():
        outputs.append(vit.classify(x))
        hook.remove()
        with attend.doubt.heads.ablate_heads(vit, [(0, 0), (0, 0)]):
            outputs.append(vit.classify(x))
        outputs.append(vit.classify(x))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-4)


def test_silent_heads_speak_again_whatever_happens(clip):
    tensors, _ = state_of(clip)
    with (
        pytest.raises(KeyError),
        attend.doubt.heads.ablate_heads(clip, [(0, 0), (2, 1)]),
    ):
        raise KeyError("on the way")
    for head, words in [
        ((1, 3), "head from 0 to 2 in layer 1 of clip-tiny, got 3"),
        ((3, 0), "layer from 0 to 2"),
    ]:
        with (
            pytest.raises(ValueError, match=words),
            attend.doubt.heads.ablate_heads(clip, [(0, 0), head]),
        ):
            pass
    assert all(torch.equal(v, tensors[k]) for k, v in clip.net.state_dict().items())


def test_heads_that_can_not_be_silenced_are_named():
    torch.manual_seed(0)
    net = timm.create_model("resnet10t", pretrained=False, num_classes=2)
    cnn = models.Model(
        net,
        "cnn",
        "image",
        64,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        (2, 2),
        findings=["a", "b"],
    )
    with (
        pytest.raises(ValueError, match="expected a ViT, got cnn"),
        attend.doubt.heads.ablate_heads(cnn, [(0, 0)]),
    ):
        pass
    names = dict(
        pretrained=False, num_classes=2, img_size=64, depth=1, scale_attn_norm=True
    )
    net = timm.create_model("vit_tiny_patch16_224", **names)
    normed = models.Model(
        net,
        "normed",
        "image",
        64,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        (4, 4),
        findings=["a", "b"],
    )
    with (
        pytest.raises(ValueError, match="block 0 of normed, got norm between"),
        attend.doubt.heads.ablate_heads(normed, [(0, 0)]),
    ):
        pass


class Planted(nn.Module):
    """Three heads over 4 x 4 patches: one looks at bright patches, one at all alike,
    one at the sixth alone.
    """

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([PlantedBlock()])

    def forward(self, x):
        patches = F.avg_pool2d(x, 8).flatten(2).mT  # (B, 16, 1)
        return self.blocks[0](patches)[..., :1].mean(1)


class PlantedBlock(nn.Module):
    num_heads = 3

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 3, bias=False)
        self.proj.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
        self.loud = False

    def forward(self, x):
        sixth = torch.zeros_like(x)
        sixth[:, 5] = 1
        k = torch.stack([30 * x, 0 * x, 30 * sixth], 1)  # (B, heads, T, 1)
        out = F.scaled_dot_product_attention(
            torch.ones_like(k), k, x[:, None].expand(-1, 3, -1, -1)
        )
        out = self.proj(out.transpose(1, 2).flatten(2))  # (B, T, 3)
        return out + 100 * sixth if self.loud else out + 1


def planted():
    return models.Model(
        Planted(),
        "planted",
        "image",
        32,
        1,
        (0.0,),
        (1.0,),
        "pad",
        (4, 4),
        findings=["bright"],
    )


def spot(n):
    """A bright patch, number n of 16."""
    pixels, y, x = np.full((32, 32), 0.1, np.float32), 8 * (n // 4), 8 * (n % 4)
    pixels[y : y + 8, x : x + 8] = 1
    return Scan(pixels, truth={"bright": pixels > 0.5})


SPOTS = [spot(n) for n in (0, 3, 6, 9, 12, 15)]


def test_the_census_finds_the_planted_heads():
    census = attend.head_census(planted(), SPOTS, [s.truth["bright"] for s in SPOTS])
    bright, alike, sixth = (census.loc[(0, head)] for head in range(3))
    # all attention on a sixteenth
    assert bright["selectivity"] == pytest.approx(16, abs=0.01)
    assert alike["selectivity"] == pytest.approx(1, abs=1e-5)
    assert [bright["elsewhere"], alike["elsewhere"]] == pytest.approx([0, 1], abs=1e-4)
    assert sixth["selectivity"] == pytest.approx(0, abs=1e-4)
    assert sixth["position"] == pytest.approx(1)
    # six lone peaks
    assert bright["position"] == pytest.approx(
        1 - (6 * (25 + 5) / 36) / (6 * 15 / 16), abs=1e-3
    )
    assert [bright["sink"], alike["sink"], sixth["sink"]] == pytest.approx(
        [1, 1 / 16, 1], abs=1e-4
    )
    assert (census["low"] <= census["selectivity"]).all()
    with pytest.raises(ValueError, match="a lesion in each mask"):
        attend.head_census(planted(), SPOTS, [np.zeros((32, 32), bool)] * 6)
    with pytest.raises(ValueError, match="6 scans, 1 masks"):
        attend.head_census(planted(), SPOTS, [SPOTS[0].truth["bright"]])


def test_the_census_of_a_real_tower_is_what_its_attention_says(clip):
    masks = [s.truth["lesion"] for s in SCANS]
    census = attend.head_census(clip, SCANS, masks, batch=5)
    # (N, T, T), as read by the mean
    attention = attend.capture(clip, clip.preprocess(SCANS))["attention"][1, :, 2]
    maps = attention[:, 1:, 1:].mean(1).numpy()
    maps /= maps.sum(1, keepdims=True)
    cover = np.stack([heads._cover(clip, m, 1.0) for m in masks])
    got = census.loc[(1, 2)]
    assert got["selectivity"] == pytest.approx(
        np.mean((maps * cover).sum(1) / cover.mean(1)), rel=1e-5
    )
    explained = (
        1
        - ((maps - maps.mean(0)) ** 2).sum()
        / ((maps - maps.mean(1, keepdims=True)) ** 2).sum()
    )
    assert got["position"] == pytest.approx(explained, abs=1e-5)
    assert got["sink"] == pytest.approx(
        float(attention.mean(1).max(1).values.mean()), rel=1e-5
    )
    assert len(census) == 9


def test_the_census_of_a_tower_with_a_class_token_reads_its_row(vit):
    masks = [s.truth["lesion"] for s in SCANS]
    # (N, patches)
    attention = attend.capture(vit, vit.preprocess(SCANS))["attention"][
        1, :, 0, 0, 1:
    ].numpy()
    cover = np.stack([heads._cover(vit, m, 1.0) for m in masks])
    want = (attention * cover).sum(1) / attention.sum(1) / cover.mean(1)
    census = attend.head_census(vit, SCANS, masks, groups=np.arange(12) // 2)
    assert census.loc[(1, 0), "selectivity"] == pytest.approx(want.mean(), rel=1e-5)
    next_patient = cover[[2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 0, 0]]
    elsewhere = (
        (attention * next_patient).sum(1) / attention.sum(1) / next_patient.mean(1)
    )
    assert census.loc[(1, 0), "elsewhere"] == pytest.approx(elsewhere.mean(), rel=1e-5)


def test_the_lesion_covers_patches_by_its_area():
    assert (
        heads._cover(planted(), SPOTS[2].truth["bright"], 1.0).tolist()
        == [0] * 6 + [1] + [0] * 9
    )
    wide = np.zeros((16, 32), bool)  # padded above and below to 32 x 32
    wide[:4, :16] = True
    assert heads._cover(planted(), wide, 1.0).tolist() == pytest.approx(
        [0] * 4 + [0.5] * 2 + [0] * 10
    )


def test_silencing_the_head_that_makes_the_score_costs_more_than_silencing_others():
    model = planted()
    table = attend.compare_ablation(model, SPOTS, [(0, 0)], target="bright", draws=5)
    assert table.loc["chosen", "mean"] == pytest.approx(-1, abs=1e-3)
    assert table.loc["random", "mean"] == 0
    assert table.loc["difference", "high"] < -0.9
    assert (table["as_low"] == 0).all()
    harmless = attend.compare_ablation(
        model, SPOTS, [(0, 1)], target="bright", draws=20
    )
    # half of the random sets hit the head that matters
    assert -0.8 < harmless.loc["random", "mean"] < -0.2
    assert (harmless["as_low"] == 1).all()
    with pytest.raises(ValueError, match="expected 1 to 1 of 3 heads, got 2"):
        attend.compare_ablation(model, SPOTS, [(0, 0), (0, 1)], target="bright")


def test_a_planted_loud_token_is_the_only_outlier():
    model = planted()
    assert (
        attend.doubt.heads.patch_norms(model, SPOTS).table.loc["outliers", "mean"] == 0
    )
    model.net.blocks[0].loud = True
    with torch.no_grad():
        model.net.blocks[0].proj.weight.fill_(0.3)
    spots = attend.doubt.heads.patch_norms(model, SPOTS, groups=[0, 0, 1, 1, 2, 2])
    assert spots.norms.shape == (6, 4, 4)
    assert np.argwhere(spots.outliers[0]).tolist() == [[1, 1]]
    assert spots.table.loc["outliers", "mean"] == pytest.approx(1 / 16)
    assert spots.table.loc["outliers", "patients"] == 3


def test_the_norms_are_of_patches_without_the_class_token(vit):
    tokens = attend.capture(vit, vit.preprocess(SCANS[:2]))["tokens"][-1]
    norms = attend.doubt.heads.patch_norms(vit, SCANS[:2]).norms
    assert np.allclose(norms.reshape(2, -1), tokens[:, 1:].norm(dim=-1), rtol=1e-5)
