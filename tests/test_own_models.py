"""MODELS.md runs as written: from load to map, each in under ten lines, no network."""

import re
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import open_clip
import pytest
import timm
import torch
from monai.networks.nets.resnet import ResNet, ResNetBottleneck
from PIL import Image
from safetensors.torch import save_file

import radwb as rw

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "MODELS.md").read_text(encoding="utf-8")
SETUP = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
SECTIONS = {}
for section in PAGE.split("\n## ")[1:]:
    title, _, text = section.partition("\n")
    SECTIONS[title] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def open_clip_file():
    net = open_clip.create_model("ViT-S-32-alt")
    save_file(net.state_dict(), "weights.safetensors")


def timm_file():
    net = timm.create_model("resnet10t")
    save_file(net.state_dict(), "weights.safetensors")


def xrv_file():
    xrv = pytest.importorskip("torchxrayvision")
    options = xrv.models.get_densenet_params("densenet121-res224-all")
    net = xrv.models.DenseNet(num_classes=18, **options)
    torch.save(net, "weights.pt")


def resnet3d_file():
    net = ResNet(
        ResNetBottleneck,
        [1, 1, 1, 1],
        [8, 16, 32, 64],
        n_input_channels=1,
        feed_forward=False,
        bias_downsample=False,
    )
    torch.save(net.state_dict(), "resnet3d.pt")


FILES = {
    "open_clip: image and text towers": open_clip_file,
    "timm: image towers": timm_file,
    "TorchXRayVision: classifiers of chest films": xrv_file,
    "A network of yours": None,
    "A 3-D network of yours": None,
    "A 3-D encoder from a file, by what it is made of": resnet3d_file,
}


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A film and a CT, and no network."""

    def refuse(*_):
        raise OSError("the test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 48), np.uint8)).save("film.png")
    voxels = rng.normal(-300, 400, (60, 60, 50)).astype(np.float32)
    voxels[20:40, 20:40, 20:30] = 600
    nib.save(nib.Nifti1Image(voxels, np.diag([2, 2, 2.5, 1])), "ct.nii.gz")


def test_the_page_has_the_sections_that_are_tested():
    assert set(SECTIONS) == set(FILES)
    assert "MODELS.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("title", FILES)
def test_a_map_in_under_ten_lines(title, own_folder):
    (block,) = SECTIONS[title]
    lines = [line for line in block.splitlines() if line and line[0] not in "# )"]
    assert len(lines) < 10
    if FILES[title]:
        FILES[title]()
    names = {}
    exec(SETUP, names)
    exec(block, names)
    image = names["ct"] if "3-D" in title else names["scan"]
    assert names["m"].values.shape == image.shape
    assert np.ptp(names["m"].values) > 0


@pytest.mark.parametrize(
    "name",
    ["open_clip:ViT-S-32-alt", "timm:resnet10t", "timm:vit_tiny_patch16_224"],
)
def test_a_name_alone_gives_random_weights_that_can_be_mapped(name, own_folder):
    model = rw.models.load(name)
    assert model.licence == "random weights"
    target = "a large heart" if model.kind == "image-text" else 3
    scan = rw.data.read("film.png")
    m = rw.attend.attention_map(model, scan, method="gradcam", target=target)
    assert m.values.shape == scan.shape


def test_every_name_of_the_package_on_the_page_is_there():
    for room, name in set(re.findall(r"\brw\.(\w+)\.(\w+)", PAGE)):
        assert hasattr(getattr(rw, room), name), f"rw.{room}.{name}"


def test_the_encoders_on_the_page_are_those_that_load_knows():
    rows = re.findall(r"^\| `([\w-]+):FILE`", PAGE, re.MULTILINE)
    assert rows == list(rw.models.encoders3d.ENCODERS)
    for name, (_, _, fed) in rw.models.encoders3d.ENCODERS.items():
        (row,) = re.findall(rf"^\| `{name}:FILE`.*", PAGE, re.MULTILINE)
        size = " x ".join(map(str, fed["size"]))
        spacing = " x ".join(f"{step:g}" for step in fed["spacing_mm"])
        low, high = fed["window_hu"]
        assert f"{size} at {spacing} mm | {low} to {high} HU" in row
