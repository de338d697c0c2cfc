"""Nothing assumes the processor: the package on a card that isn't there.

The card (`fake_gpu`) computes the processor's numbers, so what comes from it is the
same, and it refuses what CUDA refuses.
"""

import threading
from unittest.mock import patch

import numpy as np
import pytest
import test_keras_file
import test_language
import torch
from fake_gpu import CARD, OnCard, fake_gpu
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from test_encoders3d import chest, encoder, state  # noqa: F401, fixtures
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from towers import film, timm_model, tiny_clip, tiny_vit

import radwb as rw
from radwb.attend.doubt.changes import randomised
from radwb.fail import tune
from radwb.pretrain.loop import Loop

FILMS = [film(seed) for seed in range(5)]
PHRASE = "right pleural effusion"
SQUARES = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
LABELS = np.array([0, 1] * 3)


def require_equal_on_card(model, call, tolerance=1e-4):
    """What `call(model)` gives is the same where the model lies on the card."""
    expected = call(model)
    with fake_gpu():
        model.to("cuda")
        got = call(model)
    for one, other in zip(got, expected, strict=True):
        near = tolerance * max(1e-9, np.abs(other).max())
        assert np.abs(np.asarray(one) - np.asarray(other)).max() <= near


# the card itself


def test_the_card_counts_like_the_processor():
    x = torch.arange(6.0).reshape(2, 3)
    with fake_gpu() as card:
        there = x.to("cuda")
        assert there.device == card == torch.zeros(1, device="cuda").device
        assert there.is_cuda
        assert torch.equal(there.cpu(), x)
        assert (2 * there + torch.tensor(1.0)).tolist() == (2 * x + 1).tolist()
        assert there[torch.tensor([1])].cpu().equal(x[1:])
        layer = nn.Linear(3, 2).to("cuda")
        layer(there).sum().backward()
        assert torch.equal(layer.weight.grad.cpu(), x.sum(0).expand(2, -1))


FAULTS = {
    "mixed": lambda here, there: here + there,
    "a product": lambda here, there: there @ here.T,
    "joined": lambda here, there: torch.cat([there, here]),
    "an index": lambda here, there: here[there[:, 0].long()],
    "a constant": lambda here, there: torch.maximum(there, torch.ones(3)),
    "a layer": lambda here, there: nn.Linear(3, 2)(there),
    "numpy": lambda here, there: there.numpy(),
    "numpy, unsaid": lambda here, there: np.asarray(there),
    "drawn": lambda here, there: torch.rand(
        2, generator=torch.Generator(), device="cuda"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_card_refuses_what_cuda_refuses(fault):
    here = torch.ones(2, 3)
    with fake_gpu(), pytest.raises((RuntimeError, TypeError)):
        FAULTS[fault](here, here.to("cuda"))


def test_other_threads_see_the_card():
    seen = []

    def look():
        seen.append(torch.zeros(1, device="cuda").device)

    with fake_gpu():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [CARD]


def test_a_planted_fault_in_a_network_is_found():
    """A constant that isn't registered stays where it was made."""

    class Shifted(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.visual = net.visual
            self.shift = torch.zeros(1, 1, 64, 64)

        def encode_image(self, x):
            return self.visual(x + self.shift)

    model = tiny_clip()
    model.net = Shifted(model.net).eval()
    model.kind = "image"
    rw.attend.attention_map(model, FILMS[0], method="gradcam", target=0)
    with fake_gpu(), pytest.raises(RuntimeError, match="on the same device"):
        rw.attend.attention_map(model.to("cuda"), FILMS[0], method="gradcam", target=0)


# looking inside

SLOW = {"rise", "smoothgrad", "integrated_gradients"}  # many passes
QUICK = [method for method in rw.attend.METHODS if method not in SLOW]


@pytest.mark.parametrize("method", rw.attend.METHODS)
def test_maps_of_an_image_text_model(method):
    def values(model):
        options = {"method": method, "target": PHRASE}
        return [rw.attend.attention_map(model, FILMS[0], **options).values]

    require_equal_on_card(tiny_clip(), values)


@pytest.mark.parametrize("method", [m for m in QUICK if m != "similarity"])
def test_maps_of_a_classifier_with_a_class_token(method):
    def values(model):
        options = {"method": method, "targets": [0, "b"]}
        maps = rw.attend.attention_maps(model, FILMS[:2], **options)
        return [m.values for films in maps for m in np.atleast_1d(films)]

    require_equal_on_card(tiny_vit(), values)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "occlusion"])
def test_maps_of_a_cnn(method):
    def values(model):
        maps = rw.attend.attention_maps(model, FILMS[0], method=method, targets=[0, 1])
        return [m.values for m in maps]

    require_equal_on_card(timm_model("resnet10t", size=96), values)


@pytest.mark.parametrize("method", ["attention", "rollout", "relevance"])
def test_maps_of_a_tower_that_pools_by_attention(method):
    def values(model):
        options = {"method": method, "target": 0}
        return [rw.attend.attention_map(model, FILMS[0], **options).values]

    small = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    require_equal_on_card(timm_model("vit_base_patch16_siglip_224", **small), values)


@pytest.mark.parametrize("options", [{}, {"rows": [0, 3], "heads": "mean"}])
def test_what_is_captured(options):
    def seen(model):
        x = model.preprocess(FILMS[:2])
        parts = rw.attend.capture(model, x, target=[PHRASE, 3], first=1, **options)
        return [part.detach().cpu() for part in parts.values()]

    require_equal_on_card(tiny_clip(), seen)


def test_the_tests_of_a_map():
    def numbers(model):
        masks = [scan.truth["lesion"] for scan in FILMS]
        options = {"method": "gradcam", "target": PHRASE}
        maps = [rw.attend.attention_map(model, scan, **options) for scan in FILMS]
        yield rw.attend.head_census(model, FILMS, masks)
        yield rw.attend.compare_ablation(model, FILMS, [(0, 1)], target=PHRASE, draws=2)
        yield rw.attend.faithfulness(model, FILMS, maps, target=PHRASE).curves
        yield rw.attend.stability(model, FILMS, shifts=[(0, 0.05)], **options)
        yield rw.models.embed(randomised(model, FILMS), SQUARES, precision="32-true")

    def arrays(model):
        return [_numbers(table) for table in numbers(model)]

    require_equal_on_card(tiny_clip(), arrays)


def _numbers(table):
    if hasattr(table, "select_dtypes"):
        table = table.select_dtypes("number").to_numpy()
    return np.nan_to_num(table)


# answers


def test_answers_of_an_image_text_model():
    table = rw.simulate.cohort(n=8, seed=0, size=64)

    def answers(model):
        points = rw.models.embed(model, table, precision="32-true", batch=4)
        names = ["Pleural Effusion", "Cardiomegaly"]
        yield points
        yield rw.probe.text_embeddings(model, [PHRASE, "no finding"])
        yield rw.probe.zero_shot(
            model, table, names, embeddings=points
        ).values.to_numpy()
        yield rw.probe.retrieve(model, table, PHRASE, embeddings=points)[
            "score"
        ].to_numpy()
        yield rw.probe.retrieve(model, table, FILMS[0], embeddings=points)[
            "score"
        ].to_numpy()

    require_equal_on_card(tiny_clip(), lambda model: list(answers(model)))


def test_classifiers_made_on_a_tower():
    def answers(model):
        features = rw.fail.patch_features(model, SQUARES)
        head = rw.fail.fit_head(model, features, LABELS)
        headed = rw.fail.classifier({"Edema": head})
        with torch.no_grad():
            yield headed.classify(headed.preprocess(SQUARES)).cpu()
        tuned, loss = tune.finetune(model, SQUARES, LABELS, epochs=1, batch=3)
        yield tuned.logits(SQUARES)
        yield np.array([loss])

    # in bf16, where the processor has it
    require_equal_on_card(tiny_clip(), lambda model: list(answers(model)), 2e-2)


# volumes


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_maps_and_cells_of_a_3d_cnn(encoder, method):  # noqa: F811
    volume = chest((20, 40, 40))
    asked = torch.randn(128, generator=torch.Generator().manual_seed(0))
    options = {"method": method, "mask": (16, 32, 32), "layer": "layer2"}

    def values(net):
        for target in (asked, -asked):  # one of them has evidence for it
            yield rw.attend.volume_map(net, volume, target=target, **options).values
        yield rw.attend.cells(net, volume, "layer2").features

    require_equal_on_card(encoder, lambda net: list(values(net)))


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_maps_of_3d_transformers(kind):
    pytest.importorskip("monai")
    import test_volume_maps
    import test_windows

    few = {"depths": (2, 1, 1, 1)}
    net = test_volume_maps.vit() if kind == "vit" else test_windows.swin(**few)
    volume = chest((20, 40, 40))

    def values(net):
        for method in ("gradcam", "attention", "rollout", "relevance"):
            yield rw.attend.volume_map(net, volume, method=method, target=0).values

    require_equal_on_card(net, lambda net: list(values(net)))


def test_maps_of_slices():
    def values(model):
        options = {"method": "relevance", "target": PHRASE, "every": 10}
        return [rw.attend.slice_maps(model, chest((20, 40, 40)), **options).values]

    require_equal_on_card(tiny_clip(), values)


# files that bring their own network


def test_a_language_model(tmp_path):
    weights = test_language.weights._get_wrapped_function()()
    path = test_language.written(tmp_path / "a.gguf", weights)
    writer = test_language.read_gguf(path, "small")

    def answers(writer):
        ids = writer.tokenizer.encode(writer.write("ab a", most=4)).ids
        attention, _ = writer.attention("ab a1")
        return [writer.logits("ab 12 a").cpu(), attention.cpu(), np.array(ids)]

    require_equal_on_card(writer, answers)


def test_a_keras_file(tmp_path):
    arrays = test_keras_file.arrays._get_wrapped_function()()
    path = test_keras_file.written(tmp_path / "a.keras", arrays)
    model = rw.models.load(f"keras:{path}")

    def answers(model):
        maps = rw.attend.attention_maps(
            model, FILMS[0], method="gradcam", targets=[0, 1]
        )
        with torch.no_grad():
            yield model.classify(model.preprocess(FILMS)).cpu()
        yield from (m.values for m in maps)

    require_equal_on_card(model, lambda model: list(answers(model)))


# training


class Card(CPUAccelerator):
    """Lightning's accelerator for the card."""

    def setup_device(self, device):
        """There is none to set up."""


def fabric_on_card(*, precision, **_):
    strategy = SingleDeviceStrategy(CARD, accelerator=Card())
    return Fabric(strategy=strategy, precision=precision)


@pytest.fixture(scope="module")
def table():
    table = rw.simulate.cohort(n=48, seed=0, size=64)
    return table.assign(split=["train"] * 37 + ["val"] * 11)


def trained(table, out, **options):
    options = {"batch": 12, "epochs": 1, "precision": "32-true", "size": 32} | options
    options |= {"shape": {"layers": 1, "width": 48}}
    return rw.pretrain.fit(table, out=out, **options)


RUNS = {recipe: {"recipe": recipe} for recipe in rw.pretrain.RECIPES}
RUNS["in chunks"] = {"recipe": "clip-tiny", "chunk": 4}
RUNS["with films beside"] = {"recipe": "sentences-tiny", "augmentation": "strong"}
RUNS["with another tone"] = {"recipe": "clip-tiny", "tone": "equalised"}
RUNS["averaged"] = {"recipe": "supervised-tiny", "accumulate": 2, "ema": 0.9}


@pytest.mark.parametrize("run", RUNS)
def test_training(run, table, tmp_path):
    options = dict(RUNS[run])
    if run == "with films beside":
        options["beside"] = table.loc[table["split"] == "train", ["path", "patient_id"]]
    here = trained(table, tmp_path / "here", **options)
    with fake_gpu(), patch("radwb.pretrain.fit.Fabric", fabric_on_card):
        there = trained(table, tmp_path / "there", **options)
    assert np.allclose(there.log.loss, here.log.loss, rtol=1e-3)
    assert np.allclose(there.log.grad_norm, here.log.grad_norm, rtol=1e-3)
    assert "1 GPU" in there.config["cost"]["energy_assumes"]


def test_a_run_is_resumed(table, tmp_path):
    """Stopped after a step and gone on with, moments of the optimiser and all."""
    options = {"recipe": "supervised-tiny", "save_every": 1}
    whole = trained(table, tmp_path / "whole", **options)

    def stop(row):
        raise KeyboardInterrupt

    with fake_gpu(), patch("radwb.pretrain.fit.Fabric", fabric_on_card):
        with pytest.raises(KeyboardInterrupt):
            trained(table, tmp_path / "cut", callback=stop, **options)
        cut = trained(table, tmp_path / "cut", **options)
    assert len(cut.log) == len(whole.log)
    assert np.allclose(cut.log.loss, whole.log.loss, rtol=1e-3)


class Readings(TorchDispatchMode):
    """Counts how often the processor asks the card for numbers, and so waits for it."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        device = (kwargs or {}).get("device")
        to_processor = device is not None and device.type == "cpu"
        from_card = bool(args) and isinstance(args[0], OnCard)
        if name == "aten::_local_scalar_dense" or (to_processor and from_card):
            self.counts[-1] += from_card
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", ["sentences-tiny", "clip-tiny", "supervised-tiny"])
def test_a_step_does_not_wait_for_the_card_before_its_end(recipe, table, tmp_path):
    """All of a step is handed over, and the next one's films, before a number is read.

    Each reading lets the card fall idle until the processor has caught up.
    """
    readings = Readings()
    step = Loop.step
    inputs = Loop.inputs
    seen = []

    def counted_step(loop, number, interrupt):
        readings.counts.append(0)
        with readings:
            return step(loop, number, interrupt)

    def counted_inputs(loop, number):
        result = inputs(loop, number)
        if readings.counts:
            seen.append((number, readings.counts[-1]))
        return result

    steps = patch.multiple(Loop, step=counted_step, inputs=counted_inputs)
    with fake_gpu(), patch("radwb.pretrain.fit.Fabric", fabric_on_card), steps:
        trained(table, tmp_path / "a", recipe=recipe, augmentation="strong")
    assert [number for number, _ in seen] == [0, 1, 2]
    assert [count for _, count in seen] == [0, 0, 0]
    assert all(0 < count < 8 for count in readings.counts)


# the explorer


def test_the_explorer_draws_from_its_own_threads(table):
    model = tiny_clip()

    def shown(model):
        widget = rw.show.explore(model, table.head(6), against="gradcam")
        try:
            widget.choose(layer=1, head=1, patch=[1, 2], direction="to")
            widget.sort("Pleural Effusion")
            assert widget.wait(60, idle=True)
            return dict(widget.views[0])
        finally:
            widget.close()

    expected = shown(model)
    with fake_gpu():
        got = shown(model.to("cuda"))
    assert got["error"] == expected["error"]
    assert got["high"] == pytest.approx(expected["high"], rel=1e-3)
    assert len(got["thumbs"]) == len(expected["thumbs"]) > 0
