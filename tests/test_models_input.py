"""Claims: what a model is fed equals what its own library feeds it."""

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import radwb as rw
from radwb.models import clip_tags, clips

# of 8 bits; radwb's bilinear filter keeps fractions, where Pillow's rounds twice
LEVEL = 1 / 255


@pytest.fixture(scope="module", params=[(301, 417), (417, 301)])
def film(request):
    """8-bit levels of odd size with edges, waves and noise."""
    H, W = request.param
    y, x = np.mgrid[:H, :W]
    waves = 127 + 60 * np.sin(x / 9) + 50 * np.sin(y / 5)
    levels = waves + np.random.default_rng(0).normal(0, 20, (H, W))
    levels[:20, :30] = 255
    levels[-30:] = 0
    return levels.clip(0, 255).astype(np.uint8)


def scan_of(levels):
    return rw.data.Scan(levels.astype(np.float32) / 255)


def off(model, levels, transform, *, channels=3):
    """The largest difference from a library's transform, in grey levels."""
    image = Image.fromarray(levels).convert("RGB")
    want = transform(image)
    got = model.preprocess(scan_of(levels))[0]
    std = torch.tensor(model.std).view(-1, 1, 1)
    return float(((got - want) * std).abs().max()) / LEVEL


TIMM = [
    "resnet18",
    "vit_tiny_patch16_224",
    "mobilenetv3_small_050",
    "vit_base_patch16_siglip_224",
    "tf_efficientnet_b0",
    "efficientnet_lite0",
    "convnext_atto",
    "inception_v3",
    "levit_128s",
    "resnetv2_50x1_bit",
]


@pytest.mark.parametrize("arch", TIMM)
def test_timms_towers_are_fed_as_timm_feeds_them(arch, film, monkeypatch):
    if arch not in timm.list_models():
        pytest.skip(f"this timm has no {arch}")
    cfg = timm.models.get_pretrained_cfg(arch)

    def small_net(*_, **__):
        net = torch.nn.Linear(1, 1)  # only its configuration is read
        net.pretrained_cfg = cfg.to_dict()
        return net

    monkeypatch.setattr(timm, "create_model", small_net)
    model = rw.models.load(f"timm:{arch}")
    options = timm.data.resolve_model_data_config(model.net)
    transform = timm.data.create_transform(**options, is_training=False)
    exact = cfg.interpolation == "bicubic"
    assert off(model, film, transform) < (1e-3 if exact else 1.01)


@pytest.mark.parametrize(
    "arch",
    [
        "ViT-B-16",
        "ViT-B-16-SigLIP",
        "PE-Core-T-16-384",
        "MobileCLIP-S1",
        "ViT-L-14-CLIPA",
    ],
)
def test_open_clips_towers_are_fed_as_their_published_weights(arch, film):
    tags = open_clip.list_pretrained_tags_by_model(arch)
    like = None if arch != "ViT-B-16" else "openai"
    feeding, _ = clip_tags.feeding_of_file(arch, "w.pt", {}, like)
    published = open_clip.get_pretrained_cfg(arch, tags[0])
    size = open_clip.get_model_config(arch)["vision_cfg"]["image_size"]
    transform = open_clip.image_transform(
        size,
        is_train=False,
        mean=published["mean"],
        std=published["std"],
        resize_mode=published["resize_mode"],
        interpolation=published["interpolation"],
    )
    fit = clips.FITS[feeding.resize_mode]
    fit = rw.data.fit.Fit(fit, filter=feeding.interpolation)
    about = {"channels": 3, "mean": feeding.mean, "std": feeding.std, "grid": (1, 1)}
    net = torch.nn.Linear(1, 1)
    model = rw.models.Model(net, arch, "image", size, **about, fit=fit)
    exact = published["interpolation"] == "bicubic"
    assert off(model, film, transform) < (1e-3 if exact else 1.01)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_each_of_open_clips_resize_modes_is_its_own_to_the_last_level(mode, film):
    transform = open_clip.image_transform(
        96, is_train=False, resize_mode=mode, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    fit = rw.data.fit.Fit(clips.FITS[mode], filter="bicubic")
    got = rw.data.to_input(film.astype(np.float32) / 255, 96, fit=fit)
    want = transform(Image.fromarray(film).convert("RGB"))[0].numpy()
    assert np.abs(got - want).max() < 1e-6


def test_a_film_of_more_than_8_bits_is_held_to_the_range_like_one_of_8(film):
    fine = film.astype(np.float32) / 255 * 0.9999
    fit = rw.data.fit.Fit("squash", filter="bicubic")
    got = rw.data.to_input(fine, 96, fit=fit)
    near = rw.data.to_input(film.astype(np.float32) / 255, 96, fit=fit)
    assert got.min() >= 0
    assert got.max() <= 1
    assert np.abs(got - near).mean() < LEVEL


def test_torchxrayvisions_own_crop_and_resize_give_the_same(film):
    """By hand with scipy, as scikit-image does inside XRayResizer."""
    fit = rw.data.fit.Fit("crop", filter="gaussian")
    got = (rw.data.to_input(film.astype(np.float32) / 255, 224, fit=fit) - 0.5) * 2048
    xrv = pytest.importorskip("torchxrayvision")
    x = xrv.datasets.normalize(film.astype(np.float32), 255)[None]
    x = xrv.datasets.XRayResizer(224)(xrv.datasets.XRayCenterCrop()(x))
    assert np.abs(got - x[0]).max() < 1e-3  # of 2048


def test_monais_scale_of_8_bits_is_radwbs_and_the_note_says_what_is_taken_for_granted(
    film, tmp_path
):
    from monai.networks.nets import DenseNet121
    from monai.transforms import ScaleIntensityRange

    torch.save(
        DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).state_dict(),
        tmp_path / "w.pt",
    )
    model = rw.models.load(f"monai:DenseNet121/{tmp_path / 'w.pt'}", size=224)
    square = film[:224, :224]
    want = ScaleIntensityRange(0, 255, 0, 1)(square.astype(np.float32))
    np.testing.assert_allclose(model.preprocess(scan_of(square))[0, 0], want, atol=1e-6)
    assert "says nothing of its preprocessing" in model.notes[0]


def test_a_fit_survives_saving_pickling_and_comparison(tmp_path):
    import copy
    import pickle

    fit = rw.data.fit.Fit("crop", filter="bicubic", share=0.875)
    for same in (
        copy.deepcopy(fit),
        pickle.loads(pickle.dumps(fit)),
        rw.data.fit.Fit(fit),
    ):
        assert (same, same.filter, same.share) == ("crop", "bicubic", 0.875)
    model = rw.models.load("timm:vit_tiny_patch16_224")
    again = rw.models.load(rw.models.save(model, tmp_path / "m"))
    assert (again.fit, again.fit.filter, again.fit.share) == (
        model.fit,
        model.fit.filter,
        model.fit.share,
    )
    assert model.fit.filter == "bicubic"
    assert json.loads((tmp_path / "m" / "model.json").read_text())["fit"] == "crop"
    with pytest.raises(ValueError, match="expected a filter in"):
        rw.data.fit.Fit("crop", filter="cubic")


def test_a_place_in_the_margin_that_timm_cuts_off_has_no_map():
    fit = rw.data.fit.Fit("crop", filter="bicubic", share=0.8)
    back = rw.data.to_scan(np.ones((7, 7)), (100, 100), fit=fit)
    assert back[10:90, 10:90].min() == pytest.approx(1)
    assert back[:9].max() == back[:, 91:].max() == 0


# open_clip's weights from a file


TOY = {
    "embed_dim": 32,
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 1,
        "layers": 1,
    },
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 64,
        "patch_size": 16,
        "head_width": 32,
    },
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A small architecture that open_clip knows; its two tags differ in activation."""
    from open_clip import factory, pretrained

    configs = {"Toy-16": TOY}
    monkeypatch.setattr(
        factory, "_MODEL_CONFIGS", {**factory._MODEL_CONFIGS, **configs}
    )
    tags = {"openai": pretrained._pcfg(quick_gelu=True), "laion": pretrained._pcfg()}
    monkeypatch.setitem(pretrained._PRETRAINED, "Toy-16", tags)
    return open_clip.create_model("Toy-16", force_quick_gelu=True)


def test_quickgelu_is_asked_for_where_a_file_does_not_tell(toy, tmp_path, film):
    file = tmp_path / "w.safetensors"
    save_file(toy.state_dict(), file)
    with pytest.raises(
        ValueError, match="like='openai' for QuickGELU .*like='laion' for GELU"
    ):
        rw.models.load(f"open_clip:Toy-16/{file}")
    quick = rw.models.load(f"open_clip:Toy-16/{file}", like="openai")
    again = rw.models.load(rw.models.save(quick, tmp_path / "again"))
    plain = rw.models.load(f"open_clip:Toy-16/{file}", like="laion")
    x = quick.preprocess(scan_of(film))
    with torch.no_grad():
        want = toy.eval().encode_image(x, normalize=True)
        for model in (quick, again):
            torch.testing.assert_close(model.encode_image(x), want)
        assert (plain.encode_image(x) - want).abs().max() > 1e-4
    with pytest.raises(ValueError, match="like= to be a tag of Toy-16, got 'other'"):
        rw.models.load(f"open_clip:Toy-16/{file}", like="other")


def test_openais_own_names_tell_that_it_is_quickgelu(toy, tmp_path, caplog):
    marks = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(9),
    }
    torch.save(toy.state_dict() | marks, tmp_path / "w.pt")
    model = rw.models.load(f"open_clip:Toy-16/{tmp_path / 'w.pt'}")
    assert model.spec["quick_gelu"]
    assert any("OpenAI's" in note for note in model.notes)
    assert "random" not in caplog.text.lower() + repr(model).lower()


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ["module."]),
        (
            lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
            ["_orig_mod.", "module."],
        ),
        (
            lambda s: {
                "state_dict": {f"model.{k}": v for k, v in s.items()},
                "epoch": 3,
            },
            ["state_dict", "model."],
        ),
        (
            lambda s: {"model_state_dict": s, "optimizer": {"state": {}}},
            ["model_state_dict"],
        ),
        (
            lambda s: {
                "model": {
                    "state_dict": {
                        f"module.model._orig_mod.{k}": v for k, v in s.items()
                    }
                }
            },
            ["model", "state_dict", "module.", "_orig_mod."],
        ),
        (
            lambda s: {
                k.replace("visual.", "visual._orig_mod."): v for k, v in s.items()
            },
            ["_orig_mod."],
        ),
    ],
)
def test_wrappers_are_taken_off_and_named(wrap, names, toy, tmp_path):
    torch.save(wrap(dict(toy.state_dict())), tmp_path / "w.pt")
    model = rw.models.load(f"open_clip:Toy-16/{tmp_path / 'w.pt'}", like="openai")
    assert torch.equal(model.net.visual.conv1.weight, toy.visual.conv1.weight)
    for name in names:
        assert any(repr(name) in note for note in model.notes)


def test_what_does_not_fit_is_named_and_two_networks_in_one_file_are_refused(
    toy, tmp_path
):
    state = dict(toy.state_dict())
    del state["visual.conv1.weight"]
    torch.save(state | {"loss.margin": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"visual.conv1.weight \(missing\), loss.margin \(unexpected\)"
    ):
        rw.models.load(f"open_clip:Toy-16/{tmp_path / 'w.pt'}", like="openai")
    torch.save({"model": state, "net": state}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match="weights of one network in w.pt, got model and net"
    ):
        rw.models.load(f"open_clip:Toy-16/{tmp_path / 'w.pt'}", like="openai")


def test_a_head_for_other_classes_is_left_out_and_named(tmp_path):
    net = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    model = rw.models.load(f"timm:vit_tiny_patch16_224/{tmp_path / 'w.pt'}")
    assert torch.equal(
        model.net.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight
    )
    assert any(
        "the head is not the file's (head.weight, head.bias)" in note
        for note in model.notes
    )


def test_monais_heads_are_asked_for(tmp_path):
    from monai.networks.nets import ViT

    shape = {"hidden_size": 24, "mlp_dim": 40, "num_layers": 1, "num_heads": 6}
    net = ViT(1, 32, 8, **shape, spatial_dims=2)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    name = f"monai:ViT/{tmp_path / 'w.pt'}"
    with pytest.raises(
        ValueError, match=r"width 24 has 1, 2, 3, 4, 6, 8, 12, 24.*Try heads=12"
    ):
        rw.models.load(name)
    with pytest.raises(ValueError, match="got 5"):
        rw.models.load(name, heads=5)
    model = rw.models.load(name, heads=6)
    again = rw.models.load(rw.models.save(model, tmp_path / "again"))
    assert {m.net.visual.blocks[0].attn.num_heads for m in (model, again)} == {6}
