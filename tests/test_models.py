"""Claims about rw.models: tokenizer, towers, and that weights are read as tensors."""

import json
import pickle

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import nn

import radwb as rw
from radwb.models.attention import LastBlock, bf16_tower
from radwb.models.model import text_features
from radwb.models.tiny import conv_stem

TINY = {
    "size": 32,
    "width": 32,
    "heads": 2,
    "layers": 2,
    "embed": 32,
    "text_width": 32,
    "text_layers": 1,
}
REPORTS = [
    "No acute cardiopulmonary abnormality.",
    "Small right pleural effusion.",
    "Moderate right pleural effusion. No pneumothorax. The heart is enlarged.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return rw.models.Tokenizer.train(REPORTS, context=24)


@pytest.fixture
def model(tokenizer):
    return rw.models.clip_tiny(tokenizer, shape=TINY)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)


def test_tokenizer_gives_back_any_text_in_lower_case(tokenizer):
    for text in [*REPORTS, "Überdrück 5 µm ≥ 3 × 2 mm"]:
        bare = rw.models.Tokenizer(tokenizer.bpe, context=99)
        assert bare.decode(bare.encode(text)) == text.replace("µ", "μ").lower()


def test_tokenizer_is_the_same_for_the_same_texts_in_any_order(tokenizer):
    again = rw.models.Tokenizer.train(REPORTS[::-1], context=24)
    assert again.bpe.to_str() == tokenizer.bpe.to_str()


def test_end_of_text_is_the_highest_id_and_survives_the_cut(tokenizer):
    ids = tokenizer(["effusion", "word " * 500])
    assert ids.shape == (2, 24)
    assert (ids.max(1).values == tokenizer.vocab_size - 1).all()
    assert ids[1, -1] == tokenizer.end
    assert (ids == tokenizer.end).sum() == 2


def test_text_tower_pools_at_the_end_token(model):
    """What stands behind the end of a text changes nothing; what stands before does."""
    ids = model.tokenizer(REPORTS)
    after = torch.where(ids == 0, 5, ids)
    before = ids.clone()
    before[:, 1] = 5
    with torch.no_grad():
        whole = model.net.encode_text(ids)
        torch.testing.assert_close(model.net.encode_text(after), whole)
        assert (model.net.encode_text(before) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("layers", [1, 3])
def test_cutting_to_the_longest_caption_equals_open_clip(tokenizer, layers):
    model = rw.models.clip_tiny(tokenizer, shape=TINY | {"text_layers": layers})
    ids = model.tokenizer(REPORTS * 90)  # several length buckets
    torch.testing.assert_close(
        text_features(model.net, ids), model.net.encode_text(ids), rtol=0, atol=2e-6
    )


def test_open_clip_towers_give_their_own_embeddings(images):
    model = rw.models.load("open_clip:RN50")
    x = model.preprocess(images[:1])
    assert x.shape == (1, 3, 224, 224)
    np.testing.assert_array_equal(model.mean, (0.48145466, 0.4578275, 0.40821073))
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(x), model.net.encode_image(x, normalize=True)
        )
        want = model.net.encode_text(model.tokenizer(REPORTS), normalize=True)
        torch.testing.assert_close(model.encode_text(REPORTS), want, rtol=0, atol=2e-6)


def test_a_single_channel_goes_in_as_one_and_three_as_equal_greys(model):
    scan = rw.data.Scan(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64))
    one = model.preprocess(scan)
    assert one.shape == (1, 1, 32, 32)
    three = rw.models.load("timm:vit_tiny_patch16_224").preprocess([scan, scan])
    assert three.shape == (2, 3, 224, 224)
    # timm's mean and std for this tower are 0.5
    torch.testing.assert_close(three[:, 0], three[:, 2])
    want = (torch.from_numpy(rw.data.to_input(scan.pixels, 32)) - 0.5) / 0.25
    torch.testing.assert_close(one[0, 0], want)


@pytest.mark.parametrize("groups", [0, 1])
def test_a_token_of_the_conv_stem_looks_at_the_middle_of_its_patch(groups):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stem = conv_stem(48, 16, groups).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 1, 160, 160, generator=generator, requires_grad=True)
    stem(x)[:, :, 4, 5].square().sum().backward()
    # (160, 160) what the token of row 4, column 5 depends on
    weight = x.grad.abs().mean((0, 1))
    # group norm's statistics bring in a little of all pixels
    weight = (weight - weight.quantile(0.75)).clamp(min=0)
    share = weight / weight.sum()
    at = torch.arange(160.0)
    row = float((share.sum(1) * at).sum())
    column = float((share.sum(0) * at).sum())
    assert (row, column) == pytest.approx((4 * 16 + 7.5, 5 * 16 + 7.5), abs=3)


def test_the_supervised_twin_starts_from_the_same_image_tower(model):
    shape = {k: TINY[k] for k in ("size", "width", "heads", "layers", "embed")}
    twin = rw.models.supervised_tiny(["Cardiomegaly"], shape=shape)
    state = model.net.visual.state_dict()
    for name, tensor in twin.net.visual.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_building_a_model_leaves_the_global_generator_alone(tokenizer):
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    rw.models.clip_tiny(tokenizer, shape=TINY)
    assert torch.equal(torch.rand(1), want)


@pytest.mark.parametrize("kind", ["clip", "supervised", "timm"])
def test_a_saved_model_comes_back_with_the_same_numbers(kind, model, images, tmp_path):
    if kind == "supervised":
        model = rw.models.supervised_tiny(
            ["Pneumothorax", "Cardiomegaly"], seed=4, shape={"size": 32, "layers": 1}
        )
    elif kind == "timm":
        model = rw.models.load("timm:vit_tiny_patch16_224")
    again = rw.models.load(rw.models.save(model, tmp_path / "m"))
    np.testing.assert_array_equal(
        rw.models.embed(again, images), rw.models.embed(model, images)
    )
    for name in ("size", "channels", "mean", "std", "fit", "grid", "findings", "kind"):
        assert getattr(again, name) == getattr(model, name)
    if kind == "clip":
        assert torch.equal(again.encode_text(REPORTS), model.encode_text(REPORTS))
    if kind == "supervised":
        x = model.preprocess(images)
        assert torch.equal(again.classify(x), model.classify(x))
    assert {p.suffix for p in (tmp_path / "m").iterdir()} <= {".safetensors", ".json"}


def test_embed_is_encode_image_in_batches(model, images):
    got = rw.models.embed(model, images, batch=2, precision="32-true")
    with torch.no_grad():
        want = model.encode_image(model.preprocess(images)).numpy()
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    bf16 = rw.models.embed(model, images, precision="bf16-mixed")
    assert (bf16 * want).sum(1).min() > 0.999


def plain_vit(**vision):
    """An open_clip CLIP with a plain patch cut, small enough for a test."""
    shape = {"layers": 3, "width": 64, "head_width": 32}
    vision = shape | {"patch_size": 8, "image_size": 32} | vision
    torch.manual_seed(0)
    text = CLIPTextCfg(context_length=8, vocab_size=16, width=16, heads=1, layers=1)
    net = CLIP(32, CLIPVisionCfg(**vision), text).eval()
    scale = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    about = {"channels": 3, "grid": (4, 4), "fit": "pad"} | scale
    return rw.models.Model(net, "vit", "image-text", 32, **about)


def test_last_block_with_the_class_token_as_its_query_gives_that_tokens_numbers():
    block = plain_vit().net.visual.transformer.resblocks[-1]
    # sharp attention, so that a wrong token would show
    nn.init.normal_(block.attn.in_proj_weight, std=0.3)
    x = torch.randn(2, 17, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            LastBlock(block)(x)[:, 0], block(x)[:, 0], rtol=0, atol=2e-6
        )
        assert LastBlock(block)(x).shape == (2, 1, 64)


@pytest.mark.parametrize(
    "vision",
    [{}, {"pool_type": "avg"}, {"attentional_pool": True}, {"ls_init_value": 0.8}],
)
def test_bf16_copy_of_a_tower_gives_its_embeddings(images, vision):
    model = plain_vit(**vision)
    state = {k: v.clone() for k, v in model.net.state_dict().items()}
    assert bf16_tower(model.net).conv1.weight.dtype == torch.bfloat16
    want = rw.models.embed(model, images, batch=2, precision="32-true")
    got = rw.models.embed(model, images, batch=2, precision="bf16-mixed")
    assert (got * want).sum(1).min() > 0.999 > (got * want[::-1]).sum(1).min()
    assert all(torch.equal(v, state[k]) for k, v in model.net.state_dict().items())


def test_towers_that_are_no_plain_vision_transformer_are_not_copied(model):
    assert bf16_tower(model.net) is None  # a stem of convolutions
    assert bf16_tower(rw.models.supervised_tiny(["Edema"], shape=TINY).net) is None
    assert bf16_tower(rw.models.load("timm:vit_tiny_patch16_224").net) is None


def test_weights_of_a_named_tower_are_read_from_a_file(tmp_path, images):
    source = rw.models.load("timm:vit_tiny_patch16_224")
    save_file(source.net.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": source.net.state_dict()}, tmp_path / "w.pt")
    want = rw.models.embed(source, images[:1])
    for name in ("w.safetensors", "w.pt"):
        got = rw.models.load(f"timm:vit_tiny_patch16_224/{tmp_path / name}")
        np.testing.assert_array_equal(rw.models.embed(got, images[:1]), want)


class Trap:
    def __reduce__(self):
        return (open, ("/dev/null", "rb"))


@pytest.mark.parametrize(
    "write",
    [
        lambda p: torch.save(Trap(), p),
        lambda p: p.write_bytes(pickle.dumps(Trap())),
        lambda p: p.write_bytes(b"nonsense"),
    ],
)
def test_pickled_code_is_refused(write, tmp_path):
    write(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="radwb runs no pickled code"):
        rw.models.load(f"timm:vit_tiny_patch16_224/{tmp_path / 'w.pt'}")


def test_damaged_or_foreign_weights_are_named(model, tmp_path):
    folder = rw.models.save(model, tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:5000])
    with pytest.raises(ValueError, match="expected plain tensors in model.safetensors"):
        rw.models.load(folder)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="expected the weights of CLIP"):
        rw.models.load(folder)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("open_clip:ViT-B-33", ValueError, "Try open_clip:ViT-B-32"),
        ("timm:vit_tiny_patch16_225", ValueError, "Try timm:vit_tiny_patch16"),
        (
            "open_clip:ViT-B-32/no-such-tag",
            ValueError,
            "a file or a tag of ViT-B-32 .*got 'no-such-tag'",
        ),
        ("timm:resnet18/nowhere.safetensors", FileNotFoundError, "nowhere.safetensors"),
        (
            "../runs/never-made",
            FileNotFoundError,
            "02_pretraining or by `radwb pretrain`",
        ),
        ("gpt", FileNotFoundError, "open_clip:NAME"),
    ],
)
def test_what_cannot_be_loaded_says_what_can(name, error, message):
    with pytest.raises(error, match=message):
        rw.models.load(name)


def test_asking_a_model_for_what_it_lacks_is_a_clear_error(model, images):
    with pytest.raises(ValueError, match="head for findings"):
        model.classify(model.preprocess(images))
    with pytest.raises(ValueError, match="no text tower"):
        rw.models.supervised_tiny(["Edema"], shape={"size": 32}).encode_text("edema")
    with pytest.raises(ValueError, match="expected uint8 squares"):
        model.preprocess(images.astype(np.float32))
    with pytest.raises(ValueError, match="expected a shape with"):
        rw.models.supervised_tiny(["Edema"], shape={"depth": 3})
    with pytest.raises(ValueError, match="multiple of the patch side"):
        rw.models.supervised_tiny(["Edema"], shape={"size": 100})


def test_model_json_holds_no_machine_path(model, tmp_path):
    folder = rw.models.save(model, tmp_path / "m")
    about = json.loads((folder / "model.json").read_text())
    assert str(tmp_path) not in json.dumps(about)
    assert about["spec"]["builder"] == "clip-tiny"


def test_available_lists_names_that_load():
    names = rw.models.available("vit-b-32")
    assert "open_clip:ViT-B-32" in names
    assert not [n for n in names if "vit-b-32" not in n.lower()]


def test_embedding_points_change_with_the_image_not_with_its_neighbours(model, images):
    alone = rw.models.embed(model, images[2:3], precision="32-true")
    together = rw.models.embed(model, images, precision="32-true")
    np.testing.assert_allclose(alone[0], together[2], atol=1e-6)
    assert not np.allclose(together[0], together[1], atol=1e-4)
    assert together[0] @ together[1] < 1


def test_the_shipped_model_tells_the_planted_findings_it_claims_to_know():
    """radwb-tiny on new virtual patients; the card says what was not learnt."""
    table = rw.simulate.cohort(n=160, seed=11)
    model = rw.models.load("radwb-tiny")
    assert model.name == "radwb-tiny"
    findings = list(rw.simulate.PLANTED)
    scores = rw.probe.zero_shot(model, table, findings).auroc()
    scores = scores.set_index("finding")["auroc"]
    clear = ["Pleural Effusion", "Pneumothorax", "Cardiomegaly", "Edema"]
    assert scores[clear].min() > 0.8
    assert scores.min() > 0.55  # all ten are learnt, the least of them a little
    assert scores.mean() > 0.75
    # any way that a report states it, as notebook 03 shows
    pooled = rw.probe.zero_shot(model, table, findings, pool="any").auroc()["auroc"]
    assert pooled.mean() > max(0.82, scores.mean())
    assert "radwb-tiny" in rw.models.available("radwb")
