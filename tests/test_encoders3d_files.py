"""Files with the names and shapes of published 3-D encoders, which the tests write.

Merlin, CT-FM, HLIP and SPECTRE: names and shapes as the classes in their authors' code
give them. Each network is written out here once more, from the papers' descriptions.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Orientation,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
)
from scipy import ndimage

import radwb as rw
from radwb.models.encoders3d import ENCODERS, resnet3d, segresnet3d, vit3d
from radwb.models.voxels import spread

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
RESNET = {
    "layers": [1, 2, 1, 1],
    "block_inplanes": [4, 8, 16, 32],
    "n_input_channels": 3,
    "conv1_t_size": [3, 7, 7],
    "conv1_t_stride": [1, 2, 2],
}
TEXT = {"encode_text.linear_layer.weight": (5, 7), "logit_scale": ()}


def merlin(blocks, widths, classes=1692, to_text=512):
    """Name -> shape: torchvision's ResNet, its squares of weights made cubes."""
    with torch.device("meta"):
        flat = torchvision.models.resnet.ResNet(
            torchvision.models.resnet.Bottleneck, blocks
        ).state_dict()
    times = widths[0] / 64
    shapes = {}
    for name, tensor in flat.items():
        shape = [max(1, round(n * times)) if n > 7 else n for n in tensor.shape]
        if len(shape) == 4:
            shape.insert(2, 3 if shape[-1] == 7 else shape[-1])
        if not name.startswith("fc."):
            shapes[f"encode_image.i3_resnet.{name}"] = tuple(shape)
    last = 4 * widths[-1]
    for head, n in (("classifier", classes), ("contrastive_head", to_text)):
        shapes[f"encode_image.i3_resnet.{head}.weight"] = (n, last, 1, 1, 1)
        shapes[f"encode_image.i3_resnet.{head}.bias"] = (n,)
    return shapes | TEXT


def ct_fm(blocks, filters):
    shapes = {"conv_init.weight": (filters, 1, 3, 3, 3)}
    for stage, n in enumerate(blocks):
        for block in range(n):
            place = f"layers.{stage}.blocks.{block}"
            for kind in (1, 2):
                for part in BATCH_NORM:
                    shapes[f"{place}.norm{kind}.{part}"] = (filters,)
                shapes[f"{place}.conv{kind}.weight"] = (filters, filters, 3, 3, 3)
        if stage < len(blocks) - 1:
            wider = (2 * filters, filters, 3, 3, 3)
            shapes[f"layers.{stage}.downsample.weight"] = wider
            filters *= 2
    return shapes


def linear(shapes, name, inputs, outputs):
    shapes[f"{name}.weight"] = (outputs, inputs)
    shapes[f"{name}.bias"] = (outputs,)


def vit(shapes, place, width, depth, attention):
    shapes[f"{place}cls_token"] = (1, 1, width)
    for n in range(depth):
        block = f"{place}blocks.{n}"
        for name in ("norm1", "norm2"):
            shapes[f"{block}.{name}.weight"] = (width,)
            shapes[f"{block}.{name}.bias"] = (width,)
        for name, times in attention.items():
            linear(shapes, f"{block}.attn.{name}", width, times * width)
        linear(shapes, f"{block}.attn.proj", width, width)
        linear(shapes, f"{block}.mlp.fc1", width, 4 * width)
        linear(shapes, f"{block}.mlp.fc2", 4 * width, width)
    shapes[f"{place}norm.weight"] = (width,)
    shapes[f"{place}norm.bias"] = (width,)
    return shapes


def hlip(width, depth, patch, grid, to_text=512, scans=0):
    place = "visual.trunk."
    shapes = {
        f"{place}patch_embed.proj.weight": (width, 1, *patch),
        f"{place}patch_embed.proj.bias": (width,),
        f"{place}spatial_posemb": (1, *grid, width),
        "visual.head.proj.weight": (to_text, width),
        "text.proj.weight": (5, 7),
        "logit_scale": (),
    }
    if scans:
        shapes[f"{place}sequential_posemb"] = (1, scans, width)
    return vit(shapes, place, width, depth, {"qkv": 3})


def spectre(width, depth, patch, heads):
    shapes = {
        "patch_embed.proj.weight": (width, 1, *patch),
        "patch_embed.proj.bias": (width,),
        "rope.periods": (width // heads // 6,),
    }
    for n in range(depth):
        shapes[f"blocks.{n}.ls1.gamma"] = (width,)
        shapes[f"blocks.{n}.ls2.gamma"] = (width,)
    return vit(shapes, "", width, depth, {"q": 1, "kv": 2})


def filled(shapes, seed=0):
    """Random tensors under which no layer's output grows or dies."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=draw)
        if name.endswith(("running_var", "periods", "gamma")):
            value = value.abs() + 0.5
        elif len(shape) > 1 and name.endswith("weight"):
            value = value / math.prod(shape[1:]) ** 0.5
        elif name.endswith("weight"):
            value = 1 + value / 8
        elif name.endswith("num_batches_tracked"):
            value = torch.tensor(3)
        state[name] = value
    return state


# ---- the networks once more ----


def normed(state, place, x):
    parts = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{place}.{part}"] for part in parts))


def inflated_resnet(state, x):
    """(B, 1, d, h, w) -> (B, 2048) before the heads; the three channels are one."""
    place = "encode_image.i3_resnet"
    x = x.expand(-1, 3, -1, -1, -1)
    stem = state[f"{place}.conv1.weight"]
    x = F.conv3d(x, stem, stride=(1, 2, 2), padding=(1, 3, 3))
    x = F.max_pool3d(normed(state, f"{place}.bn1", x).relu(), 3, 2, 1)
    for stage, n in enumerate(RESNET["layers"], 1):
        for number in range(n):
            block = f"{place}.layer{stage}.{number}"
            step = 2 if stage > 1 and number == 0 else 1
            y = F.conv3d(x, state[f"{block}.conv1.weight"])
            y = normed(state, f"{block}.bn1", y).relu()
            y = F.conv3d(y, state[f"{block}.conv2.weight"], stride=step, padding=1)
            y = normed(state, f"{block}.bn2", y).relu()
            y = F.conv3d(y, state[f"{block}.conv3.weight"])
            y = normed(state, f"{block}.bn3", y)
            if number == 0:
                x = F.conv3d(x, state[f"{block}.downsample.0.weight"], stride=step)
                x = normed(state, f"{block}.downsample.1", x)
            x = (x + y).relu()
    return x.mean((2, 3, 4))


def merlin_classes(state, x):
    place = "encode_image.i3_resnet.classifier"
    features = inflated_resnet(state, x)[:, :, None, None, None]
    scores = F.conv3d(features, state[f"{place}.weight"], state[f"{place}.bias"])
    return scores.flatten(1)


def segresnet(state, x, blocks=(1, 2, 1)):
    x = F.conv3d(x, state["conv_init.weight"], padding=1)
    for stage, n in enumerate(blocks):
        for block in range(n):
            y = x
            for kind in (1, 2):
                place = f"layers.{stage}.blocks.{block}"
                y = normed(state, f"{place}.norm{kind}", y).relu()
                y = F.conv3d(y, state[f"{place}.conv{kind}.weight"], padding=1)
            x = x + y
        if stage < len(blocks) - 1:
            wider = state[f"layers.{stage}.downsample.weight"]
            x = F.conv3d(x, wider, stride=2, padding=1)
    return x.mean((2, 3, 4))


def layer_norm(state, name, x, epsilon):
    weight = state[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, state[f"{name}.bias"], epsilon)


def projected(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def attended(q, k, v, heads):
    """(T, E) each."""
    outs = []
    for one in zip(*(t.chunk(heads, -1) for t in (q, k, v)), strict=True):
        weights = (one[0] @ one[1].T / one[1].shape[-1] ** 0.5).softmax(-1)
        outs.append(weights @ one[2])
    return torch.cat(outs, -1)


def hlip_by_hand(state, x, depth=3, everywhere=(2,), heads=2):
    """One volume (1, d, h, w), slice after slice."""
    place = "visual.trunk."
    state = {name.removeprefix(place): t for name, t in state.items()}
    kernel = state["patch_embed.proj.weight"]
    x = F.conv3d(x, kernel, state["patch_embed.proj.bias"], kernel.shape[2:])
    x = x.movedim(0, -1) + state["spatial_posemb"][0]  # (d, h, w, E)
    if "sequential_posemb" in state:
        x = x + state["sequential_posemb"][0, 0]
    slices = [torch.cat([state["cls_token"][0], plane.flatten(0, 1)]) for plane in x]

    def block(n, tokens):
        y = layer_norm(state, f"blocks.{n}.norm1", tokens, 1e-6)
        q, k, v = projected(state, f"blocks.{n}.attn.qkv", y).chunk(3, -1)
        y = attended(q, k, v, heads)
        tokens = tokens + projected(state, f"blocks.{n}.attn.proj", y)
        y = layer_norm(state, f"blocks.{n}.norm2", tokens, 1e-6)
        y = F.gelu(projected(state, f"blocks.{n}.mlp.fc1", y))
        return tokens + projected(state, f"blocks.{n}.mlp.fc2", y)

    for n in range(depth):
        if n in everywhere:
            first = torch.stack([tokens[:1] for tokens in slices]).mean(0)
            whole = torch.cat([first] + [tokens[1:] for tokens in slices])
            whole = block(n, whole)
            planes = whole[1:].chunk(len(slices))
            slices = [torch.cat([whole[:1], plane]) for plane in planes]
        else:
            slices = [block(n, tokens) for tokens in slices]
    first = layer_norm(state, "norm", slices[0][0], 1e-6)
    return state["visual.head.proj.weight"] @ first


def spectre_by_hand(state, x, crop=(16, 16, 8), depth=3, heads=2):
    """One volume (1, h, w, d), crop after crop."""
    kernel = state["patch_embed.proj.weight"]
    firsts = []
    for a in range(0, x.shape[1], crop[0]):
        for b in range(0, x.shape[2], crop[1]):
            for c in range(0, x.shape[3], crop[2]):
                cut = x[:, a : a + crop[0], b : b + crop[1], c : c + crop[2]]
                bias = state["patch_embed.proj.bias"]
                patches = F.conv3d(cut, kernel, bias, kernel.shape[2:])
                grid = patches.shape[1:]
                tokens = torch.cat([state["cls_token"][0], patches.flatten(1).T])
                for n in range(depth):
                    tokens = spectre_block(state, n, tokens, grid, heads)
                firsts.append(layer_norm(state, "norm", tokens[0], 1e-5))
    return torch.stack(firsts).mean(0)


def spectre_block(state, n, tokens, grid, heads):
    place = f"blocks.{n}"
    y = layer_norm(state, f"{place}.norm1", tokens, 1e-5)
    q = projected(state, f"{place}.attn.q", y)
    k, v = projected(state, f"{place}.attn.kv", y).chunk(2, -1)
    q = turned(q, grid, heads, state["rope.periods"])
    k = turned(k, grid, heads, state["rope.periods"])
    y = projected(state, f"{place}.attn.proj", attended(q, k, v, heads))
    tokens = tokens + state[f"{place}.ls1.gamma"] * y
    y = layer_norm(state, f"{place}.norm2", tokens, 1e-5)
    y = projected(
        state, f"{place}.mlp.fc2", F.gelu(projected(state, f"{place}.mlp.fc1", y))
    )
    return tokens + state[f"{place}.ls2.gamma"] * y


def turned(x, grid, heads, periods):
    """Pairs of numbers of each head turned by an angle for each axis and period."""
    x = x.clone().unflatten(-1, (heads, -1))  # (T, heads, head)
    half = x.shape[-1] // 2
    places = [np.array(place) for place in np.ndindex(*grid)]
    for token, place in enumerate(places, 1):  # the class token isn't turned
        for axis in range(3):
            at = 2 * (place[axis] + 0.5) / grid[axis] - 1
            for m, period in enumerate(periods):
                one = axis * len(periods) + m
                angle = torch.tensor(2 * math.pi * at) / period
                a = x[token, :, one].clone()
                b = x[token, :, one + half].clone()
                x[token, :, one] = a * angle.cos() - b * angle.sin()
                x[token, :, one + half] = b * angle.cos() + a * angle.sin()
    return x.flatten(1)


# ---- what is claimed ----

CASES = {
    "merlin": {
        "shapes": merlin([1, 2, 1, 1], RESNET["block_inplanes"], 11, 6),
        "build": resnet3d,
        "shape": RESNET,
        "fed": {"size": (32, 64, 64), "channels": 3},
        "by hand": lambda state, x: inflated_resnet(state, x[:, :1]),
        "layer": "layer1",
    },
    "ct-fm": {
        "shapes": ct_fm((1, 2, 1), 6),
        "build": segresnet3d,
        "shape": {"init_filters": 6, "blocks_down": (1, 2, 1)},
        "fed": {"size": (16, 32, 32)},
        "by hand": segresnet,
        "layer": "layers.1.blocks",
    },
    "hlip-chest": {
        "shapes": hlip(24, 3, (2, 4, 4), (8, 8, 8), 10),
        "build": vit3d,
        "shape": {"heads": 2, "window": (1, None, None), "everywhere": (2,)},
        "fed": {"size": (16, 32, 32), "mean": 0.449, "std": 0.226},
        "by hand": lambda state, x: hlip_by_hand(state, x[0])[None],
        "layer": "entering.1",
    },
    "spectre": {
        "shapes": spectre(24, 3, (4, 4, 2), 2),
        "build": vit3d,
        "shape": {"heads": 2, "window": (4, 4, 4), "epsilon": 1e-5},
        "fed": {"size": (32, 32, 16)},
        "by hand": lambda state, x: spectre_by_hand(state, x[0])[None],
        "layer": "entering.1",
    },
}


def loaded(name, folder):
    case = CASES[name]
    known = ENCODERS[name][2]
    state = filled(case["shapes"])
    torch.save({"state_dict": state, "epoch": 3}, folder / "weights.pt")
    fed = {key: known[key] for key in ("axes", "window_hu")} | case["fed"]
    under = known.get("under", ())
    path = folder / "weights.pt"
    net = case["build"](path, name, case["shape"], under=under, **fed)
    return net, state


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_are_those_of_the_formulas(name, tmp_path):
    net, state = loaded(name, tmp_path)
    x = torch.rand(1, net.channels, *net.size, generator=torch.Generator())
    if net.channels == 3:
        x = x[:, :1].expand(-1, 3, -1, -1, -1)
    with torch.no_grad():
        output = net.net(x)
    if isinstance(output, list):
        output = output[-1].mean((2, 3, 4))
    expected = CASES[name]["by hand"](state, x)
    assert expected.std() > 0.01
    assert torch.allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_that_a_ct_is_resampled_is_said(name):
    assert "of another spacing is resampled" in ENCODERS[name][2]["notes"][0]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_ct_is_fed_as_monais_transforms_feed_it(name):
    """At the network's own spacing, where nothing is resampled; turned otherwise."""
    fed = {key: value for key, value in ENCODERS[name][2].items() if key != "under"}
    size = tuple(n // 8 for n in fed["size"])
    net = rw.attend.Net3d(torch.nn.Conv3d(1, 1, 1), **fed | {"size": size})
    rng = np.random.default_rng(0)
    # the first axis is cut, the others are padded
    shape = (size[0] + 6, size[1] - 4, size[2] - 8)
    hu = rng.normal(-300, 900, shape).astype(np.float32)
    affine = np.eye(4)
    axes = {"S": 2, "P": 1, "A": 1, "R": 0, "L": 0}
    signs = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1}
    for axis, letter in enumerate(fed["axes"]):
        affine[:3, axis] = 0
        step = fed["spacing_mm"][axis]
        affine[axes[letter], axis] = -signs[letter] * step  # RAS, and turned round
    steps = Compose(
        [
            Orientation(axcodes=fed["axes"]),
            ScaleIntensityRange(*fed["window_hu"], 0, 1, clip=True),
            ResizeWithPadOrCrop(size),
        ]
    )
    expected = steps(MetaTensor(hu[None], affine=affine)).numpy()[0]
    expected = (expected - fed.get("mean", 0)) / fed.get("std", 1)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    x = net.preprocess(rw.data.Volume(hu.transpose(1, 2, 0), lps[:, [1, 2, 0, 3]]))
    assert x.shape[2:] == size
    assert np.allclose(x[0, 0].detach(), expected, atol=1e-5)


def test_a_study_of_several_scans_is_read_as_its_first(tmp_path):
    shapes = hlip(24, 3, (2, 4, 4), (8, 8, 8), 10, scans=5)
    state = filled(shapes)
    torch.save(state, tmp_path / "scans.pt")
    case = CASES["hlip-chest"]
    path = tmp_path / "scans.pt"
    net = vit3d(path, "scans", case["shape"], under=("visual.",), **case["fed"])
    x = torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        assert torch.allclose(net.net(x)[0], hlip_by_hand(state, x[0]), atol=1e-4)


def test_merlins_heads_give_classes_or_are_left_out(tmp_path):
    net, state = loaded("merlin", tmp_path)
    said = " ".join(net.notes)
    assert "heads left out: classifier, contrastive_head" in said
    assert "not: encode_text, logit_scale" in said
    path = tmp_path / "weights.pt"
    options = {"under": ("encode_image.i3_resnet.",), "size": (32, 64, 64)}
    options["channels"] = 3
    classes = resnet3d(path, "classes", RESNET, head="classifier", **options)
    x = torch.rand(1, 1, 32, 64, 64)
    with torch.no_grad():
        scores = classes.net(x.expand(-1, 3, -1, -1, -1))
    assert scores.shape == (1, 11)
    assert torch.allclose(scores, merlin_classes(state, x), atol=1e-4)
    with pytest.raises(ValueError, match="'phenotypes' in the heads of .*'classifier'"):
        resnet3d(path, "classes", RESNET, head="phenotypes", **options)


FULL = {
    "merlin": lambda: merlin([3, 8, 36, 3], [64, 128, 256, 512]),
    "ct-fm": lambda: ct_fm((1, 2, 2, 4, 4), 32),
    "hlip-chest": lambda: hlip(768, 12, (8, 24, 24), (14, 14, 14)),
    "spectre": lambda: spectre(1080, 24, (16, 16, 8), 12),
}
MILLIONS = {"merlin": 117.5, "ct-fm": 77.8, "hlip-chest": 89.6, "spectre": 339.8}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_file_of_the_true_size_loads_by_name(name, tmp_path):
    """Names and shapes of the published file; all weights a half."""
    state = {}
    for key, shape in FULL[name]().items():
        kind = torch.long if key.endswith("tracked") else torch.bfloat16
        state[key] = torch.full(shape, 0.5).to(kind)
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    net = rw.models.load(f"{name}:{tmp_path / 'weights.pt'}")
    weights = sum(p.numel() for p in net.net.parameters())
    assert weights / 1e6 == pytest.approx(MILLIONS[name], rel=0.02)
    assert all(float(p.detach().max()) == 0.5 for p in net.net.parameters())
    assert net.axes == ENCODERS[name][2]["axes"]
    assert "as its source says" in net.licence


@pytest.mark.parametrize("name", FULL)
def test_another_networks_weights_are_refused_by_name(name, tmp_path):
    other = "ct-fm" if name != "ct-fm" else "spectre"
    torch.save(filled(CASES[other]["shapes"]), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"^expected .* in .*other\.pt"):
        rw.models.load(f"{name}:{tmp_path / 'other.pt'}")


@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
@pytest.mark.parametrize("name", CASES)
def test_a_map_lies_where_the_blob_is(name, flip, tmp_path):
    """A blob, moved and the volume turned: what changes in the cells goes with it."""
    net, _ = loaded(name, tmp_path)
    for place in ([9, 30, 12], [22, 14, 34]):
        voxels = np.full((32, 48, 48), -900, np.float32)
        bare = voxels.copy()
        voxels[tuple(slice(p - 3, p + 4) for p in place)] = 200
        signs = np.ones(3)
        signs[list(flip)] = -1
        affine = np.zeros((4, 4))
        affine[:3, :3] = np.diag([3, 1.5, 1.5] * signs)[[2, 1, 0]]
        affine[3, 3] = 1
        known = []
        for values in (voxels, bare):
            turned = rw.data.Volume(np.flip(values, flip).copy(), affine, "CT")
            known.append(rw.attend.cells(net, turned, CASES[name]["layer"]))
        change = np.abs(known[0].features - known[1].features).sum(-1)
        heat = np.flip(spread(change, (32, 48, 48), 1, known[0].spans), flip)
        peak = np.where(heat > heat.max() / 2, heat, 0)
        centre = ndimage.center_of_mass(peak)
        # half a cell and the blob's own reach: cells have 4 x 6 x 6 voxels
        assert np.abs(centre - np.array(place)).max() < 4.5, (centre, place)


def test_gradcam_of_a_3d_vit_is_of_the_patches_before_its_last_block(tmp_path):
    net, _ = loaded("hlip-chest", tmp_path)
    rng = np.random.default_rng(0)
    voxels = rng.normal(-500, 200, (16, 32, 32)).astype(np.float32)
    affine = np.diag([3, 1, 1, 1.0])[[2, 1, 0, 3]]
    ct = rw.data.Volume(voxels, affine, "CT")
    m = rw.attend.volume_map(net, ct, target=2)
    assert m.values.max() > 0
    x = net.preprocess(ct)
    features = []
    hook = net.net.entering[2].register_forward_hook(
        lambda module, args, out: (
            features.append(out.detach().requires_grad_()) or features[-1]
        )
    )
    net.net(x)[0, 2].backward()
    hook.remove()
    weights = features[0].grad.mean((2, 3, 4), keepdim=True)
    grid = (weights * features[0]).sum(1)[0].relu().detach().numpy()
    grid = rw.models.voxels.turned_back(grid, rw.models.voxels.turns_of(ct, "SPL"))
    assert np.allclose(m.values, spread(grid, ct.shape), atol=1e-6)
