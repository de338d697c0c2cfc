"""Doubt against planted truth: oracles pass, maps that know nothing fail."""

import copy
import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tables import squares_table
from test_pretrain import VISUAL
from torch import nn
from towers import film, state_of, tiny_clip, tiny_vit

from radwb import attend, models, pretrain
from radwb.attend.doubt import changes
from radwb.data import Volume
from radwb.data.fetch import sha256

PHRASES = [
    "right pleural effusion",
    "no pleural effusion",
    "cardiomegaly",
    "pneumothorax",
    "lung nodule",
]
TARGET = ("pleural effusion", "no pleural effusion")


@pytest.fixture(scope="module")
def clip():
    return tiny_clip(PHRASES)


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


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
    ask = oracle(clip)
    alike = []
    passed = []
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
    assert torch.equal(twin.encode_text(PHRASES), clip.encode_text(PHRASES))
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
