"""Maps of published networks are captum's, on the same network and input."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion
from monai.networks.nets.resnet import ResNet, ResNetBottleneck

import radwb as rw
from radwb.models.encoders3d import CT, resnet3d
from radwb.models.voxels import spread, turned_back, turns_of

SHAPE = {
    "layers": [1, 2, 1, 1],
    "block_inplanes": [4, 8, 16, 32],
    "n_input_channels": 3,
    "conv1_t_size": [3, 7, 7],
    "conv1_t_stride": [1, 2, 2],
}


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    net = ResNet(
        ResNetBottleneck,
        **SHAPE,
        spatial_dims=3,
        feed_forward=False,
        bias_downsample=False,
    )
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    fed = CT | {"size": (32, 64, 64), "search_size": None, "window_hu": (-1000, 200)}
    return resnet3d(tmp_path / "weights.pt", "small", SHAPE, **fed)


@pytest.fixture
def chest():
    """A CT at the network's spacing, turned otherwise than its input."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(-400, 300, (30, 60, 60)).astype(np.float32)
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])[[2, 1, 0, 3]]
    return rw.data.Volume(voxels, affine, "CT")


def over(net, volume, grid):
    """(1, 1, d, h, w) of captum's in the voxels of a volume."""
    turned = turned_back(grid[0, 0].detach().numpy(), turns_of(volume, net.axes))
    return spread(turned, volume.shape, 1, net.spans(volume))


@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3"])
def test_gradcam_of_a_3d_encoder_is_captums(encoder, chest, layer):
    peer = LayerGradCam(encoder.net, encoder.net.get_submodule(layer))
    x = encoder.preprocess(chest)
    grid = peer.attribute(x, target=7, relu_attributions=True)
    mine = rw.attend.volume_map(encoder, chest, target=7, layer=layer)
    assert grid.max() > 0
    scale = mine.values.max()
    assert np.allclose(mine.values, over(encoder, chest, grid), atol=1e-4 * scale)


def test_gradcam_of_a_direction_is_captums_of_the_product(encoder, chest):
    direction = torch.randn(128, generator=torch.Generator().manual_seed(1))

    def score(x):
        return encoder.net(x) @ direction[:, None]

    peer = LayerGradCam(score, encoder.net.layer2)
    grid = peer.attribute(encoder.preprocess(chest), target=0, relu_attributions=True)
    mine = rw.attend.volume_map(encoder, chest, target=direction, layer="layer2")
    scale = mine.values.max()
    assert scale > 0
    assert np.allclose(mine.values, over(encoder, chest, grid), atol=1e-4 * scale)


def test_occlusion_of_a_3d_encoder_is_captums(encoder, chest):
    mask = (8, 16, 16)
    x = encoder.preprocess(chest)
    peer = Occlusion(encoder.net)
    window = (3, *mask)
    fall = peer.attribute(x, window, window, baselines=float(x.mean()), target=7)
    grid = fall[:, :1, ::8, ::16, ::16].relu()
    mine = rw.attend.volume_map(encoder, chest, method="occlusion", target=7, mask=mask)
    scale = mine.values.max()
    assert scale > 0
    assert np.allclose(mine.values, over(encoder, chest, grid), atol=1e-4 * scale)


@pytest.fixture
def published():
    try:
        folder = rw.data.fetch("kermany-16", offline=True)
        model = rw.models.load("kermany-xception")
    except (rw.data.FetchError, ValueError) as error:
        pytest.skip(f"the published classifier or its films aren't here: {error}")
    films = sorted(path for path in folder.rglob("*") if path.suffix == ".jpeg")
    return model, rw.data.read(films[-1])


def test_gradcam_of_the_published_classifier_is_captums(published):
    model, film = published
    peer = LayerGradCam(model.net, model.net.parts[model.net.pool])
    x = model.preprocess(film)
    # what goes into the mean, behind the last ReLU
    grid = peer.attribute(
        x, target=1, relu_attributions=True, attribute_to_layer_input=True
    )[0, 0].detach()
    mine = rw.attend.attention_map(model, film, method="gradcam", target="Pneumonia")
    expected = rw.data.to_scan(grid.numpy(), film.shape, fit=model.fit)
    scale = mine.values.max()
    assert scale > 0
    assert np.allclose(mine.values, expected, atol=1e-4 * scale)


def test_occlusion_of_the_published_classifier_is_captums(published):
    model, film = published
    x = model.preprocess(film)
    side = model.size // model.grid[0]
    window = (3, side, side)
    peer = Occlusion(model.net)
    fall = peer.attribute(x, window, window, baselines=float(x.mean()), target=1)
    grid = fall[0, 0, ::side, ::side].relu()
    mine = rw.attend.attention_map(model, film, method="occlusion", target="Pneumonia")
    expected = rw.data.to_scan(grid.numpy(), film.shape, fit=model.fit)
    scale = mine.values.max()
    assert scale > 0
    assert np.allclose(mine.values, expected, atol=1e-4 * scale)
