"""Maps on volumes against MONAI, the full-matrix formulas and planted cubes.

And saved files against the CT they lie on.
"""

import tracemalloc
from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from radwb import attend, models
from radwb.attend.volumes import METHODS_3D, rows
from radwb.data import Volume
from radwb.models.voxels import spread

monai = pytest.importorskip("monai")
pytest.importorskip("einops")
from monai.networks.nets import DenseNet121, ViT  # noqa: E402
from monai.visualize import GradCAM, OcclusionSensitivity  # noqa: E402

SIZE = (32, 48, 32)
GRID = (4, 6, 4)
# as a DICOM stack lies
AXIAL = np.array([[0, 0, 0.8, -50], [0, 0.7, 0, -20], [2.5, 0, 0, 10], [0, 0, 0, 1.0]])


def noise(shape):
    return np.random.default_rng(0).normal(0, 400, shape).astype(np.float32)


@pytest.fixture(scope="module")
def ct():
    return Volume(noise((30, 61, 70)), AXIAL, "CT")


def vit(layers=3, size=SIZE, **options):
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "mlp_dim": 64, "num_heads": 3, "dropout_rate": 0.2}
    net = ViT(1, size, 8, num_layers=layers, **shape | options)
    # sharper than at initialisation, so that maps differ from place to place
    for p in net.blocks.parameters():
        p.data *= 3
    return attend.Net3d(net, size, (-1000, 1000), name="vit")


@pytest.fixture(scope="module")
def classifier():
    return vit(classification=True)


@pytest.fixture(scope="module")
def cnn():
    torch.manual_seed(0)
    net = DenseNet121(
        3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2, 2)
    ).eval()
    return attend.Net3d(
        net, (32, 32, 32), (-1000, 1000), findings=["lung", "air"], name="cnn"
    )


# ---- the methods


def full_attention(net, x, target=None):
    """(L, heads, T, T) by MONAI's own einsum and softmax.

    With a target also the gradients of the score by them.
    """
    matrices = []

    def note(_, args):
        matrix = args[0]
        if target is not None and not matrix.requires_grad:
            matrix = matrix.detach().requires_grad_()
        matrices.append(matrix)
        return (matrix,)

    drops = [block.attn.drop_weights for block in net.net.eval().blocks]
    hooks = [drop.register_forward_pre_hook(note) for drop in drops]
    out = net.net(x)[0]
    for hook in hooks:
        hook.remove()
    attention = torch.stack([matrix.detach()[0] for matrix in matrices])
    if target is None:
        return attention
    gradients = torch.autograd.grad(out[0, target], matrices)
    return attention, torch.stack([gradient[0] for gradient in gradients])


def expected(grid, ct):
    return spread(grid.reshape(GRID).detach().numpy(), ct.shape)


@pytest.mark.parametrize("layer", [None, 0, 1, -1])
def test_rollout_and_attention_equal_the_full_matrices(classifier, ct, layer):
    attention = full_attention(classifier, classifier.preprocess(ct))
    rolled = attend.rollout(attention[layer or 0 :])[0, 1:]
    m = attend.volume_map(classifier, ct, method="rollout", layer=layer)
    assert np.allclose(m.values, expected(rolled, ct), atol=1e-6)
    assert m.values.std() > 1e-5
    one = attention[-1 if layer is None else layer]
    for head, matrix in ((None, one.mean(0)), (2, one[2])):
        row = matrix[0, 1:]
        m = attend.volume_map(
            classifier, ct, method="attention", layer=layer, head=head
        )
        assert np.allclose(m.values, expected(row, ct), atol=1e-6)
        assert m.target is None


@pytest.mark.parametrize("layer", [0, 1])
def test_relevance_equals_the_reference_loop_over_full_matrices(classifier, ct, layer):
    attention, gradients = full_attention(
        classifier, classifier.preprocess(ct), target=1
    )
    R = torch.eye(attention.shape[-1])
    for a, g in zip(attention[layer:], gradients[layer:], strict=True):
        R = R + (a * g).clamp(min=0).mean(0) @ R
    m = attend.volume_map(classifier, ct, method="relevance", target=1, layer=layer)
    assert np.allclose(m.values, expected(R[0, 1:], ct), rtol=1e-3)
    assert m.values.std() > 1e-7


def test_a_tower_without_a_class_token_is_read_at_its_patches(ct):
    net = vit(2)
    attention = full_attention(net, net.preprocess(ct))
    m = attend.volume_map(net, ct, method="rollout")
    assert np.allclose(
        m.values, expected(attend.rollout(attention).mean(0), ct), atol=1e-6
    )
    neuron = F.one_hot(torch.tensor(7), 48).float()
    for_it = attend.volume_map(net, ct, method="gradcam", target=neuron).values
    against = attend.volume_map(net, ct, method="gradcam", target=-neuron).values
    assert max(for_it.max(), against.max()) > 0
    by_number = attend.volume_map(net, ct, method="gradcam", target=7).values
    assert np.array_equal(for_it, by_number)


@pytest.mark.parametrize("method", ["rollout", "relevance"])
def test_rows_at_a_time_give_what_all_rows_give(method, classifier, ct, monkeypatch):
    whole = attend.volume_map(classifier, ct, method=method, target=0).values
    monkeypatch.setattr(rows, "ROWS", 7)
    few_rows = attend.volume_map(classifier, ct, method=method, target=0).values
    assert np.allclose(few_rows, whole, rtol=1e-4)


def raw(tensor):
    return tensor


@pytest.mark.parametrize("layer", [None, "class_layers.relu", "features.denseblock2"])
def test_gradcam_equals_monai(cnn, ct, layer):
    x = cnn.preprocess(ct)
    theirs = GradCAM(
        cnn.net,
        layer or "class_layers.relu",
        upsampler=lambda size: raw,
        postprocessing=raw,
    )
    want = theirs(x, class_idx=1)[0, 0].detach().numpy()
    m = attend.volume_map(cnn, ct, method="gradcam", target="air", layer=layer)
    assert want.max() > 0
    assert np.allclose(
        m.values, spread(want, ct.shape), rtol=1e-4, atol=1e-6 * want.max()
    )


class Tail(nn.Module):
    """A ViT's last block and head on a (B, E, d, h, w) grid, for MONAI's Grad-CAM."""

    def __init__(self, net):
        super().__init__()
        self.vit = net
        self.grid = nn.Identity()

    def forward(self, tokens):
        grid = self.grid(tokens[:, 1:].mT.unflatten(-1, GRID))
        tokens = self.vit.blocks[-1](torch.cat([tokens[:, :1], grid.flatten(2).mT], 1))
        return self.vit.classification_head(self.vit.norm(tokens)[:, 0])


def test_gradcam_of_a_vit_equals_monai_on_the_last_blocks_input(classifier, ct):
    hidden_states = classifier.net.eval()(classifier.preprocess(ct))[1]
    tokens = hidden_states[-2].detach().requires_grad_()
    options = {"upsampler": lambda size: raw, "postprocessing": raw}
    theirs = GradCAM(Tail(classifier.net), "grid", **options)
    want = theirs(tokens, class_idx=0)[0, 0].detach()
    m = attend.volume_map(classifier, ct, method="gradcam", target=0)
    assert want.max() > 0
    assert np.allclose(m.values, expected(want, ct), atol=1e-4 * float(want.max()))


def test_occlusion_equals_monai_with_boxes_that_do_not_overlap(cnn, ct):
    x = cnn.preprocess(ct)
    theirs = OcclusionSensitivity(
        cnn.net,
        mask_size=8,
        n_batch=4,
        mode="mean_img",
        overlap=0.0,
        activate=False,
        verbose=False,
    )
    scores = theirs(x)[0][0, 1, ::8, ::8, ::8].detach()  # one value a box of 8 x 8 x 8
    want = (cnn.net(x)[0, 1] - scores).clamp(min=0).detach().numpy()
    m = attend.volume_map(cnn, ct, method="occlusion", target=1, mask=(8, 8, 8))
    assert want.max() > 0
    assert np.allclose(m.values, spread(want, ct.shape), atol=1e-5 * want.max())


def test_a_direction_is_a_target(cnn, ct):
    one = attend.volume_map(cnn, ct, target=1).values
    direction = torch.tensor([0.0, 1.0])
    assert np.array_equal(one, attend.volume_map(cnn, ct, target=direction).values)
    assert not np.array_equal(one, attend.volume_map(cnn, ct, target=0).values)


def state_of(net):
    modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in net.modules()
    ]
    fused = []
    for block in getattr(net, "blocks", []):
        fused.append((block.attn.use_flash_attention, block.attn.dropout_rate))
    return modules, fused, [(p.requires_grad, p.grad) for p in net.parameters()]


@pytest.mark.parametrize("method", METHODS_3D)
def test_the_network_comes_back_as_it_was_even_after_an_exception(
    classifier, ct, method
):
    classifier.net.train()
    before = state_of(classifier.net)
    attend.volume_map(classifier, ct, method=method, target=0, mask=(16, 24, 16))
    assert state_of(classifier.net) == before

    def fail(*_):
        raise KeyError("planted")

    hook = classifier.net.norm.register_forward_hook(fail)
    with pytest.raises(KeyError, match="planted"):
        attend.volume_map(classifier, ct, method=method, target=0, mask=(16, 24, 16))
    hook.remove()
    assert state_of(classifier.net) == before
    classifier.net.eval()


def test_an_attention_that_is_not_softmax_qk_fails(ct):
    biased = vit(2, classification=True)
    biased.net.blocks[1].attn.out_rearrange.register_forward_pre_hook(
        lambda _, args: (args[0] + 0.01,)
    )
    for method in ("rollout", "relevance"):
        with pytest.raises(
            RuntimeError, match=r"softmax\(QK\) V: expected a difference under 1e-05"
        ):
            attend.volume_map(biased, ct, method=method, target=0)


# ---- memory


def test_memory_does_not_grow_with_layers_times_tokens_squared():
    """1,000 tokens, 8 layers, 6 heads: 192 MB of attention, as much of gradients."""
    net = vit(8, (80, 80, 80), hidden_size=48, num_heads=6, classification=True)
    volume = Volume(noise((40, 40, 40)), AXIAL)
    x = net.preprocess(volume)
    forward = peak(lambda: net.net.eval()(x))
    for method in ("rollout", "relevance"):
        of_map = peak(partial(attend.volume_map, net, volume, method=method, target=0))
        assert of_map < forward + 60e6, (method, of_map, forward)


def peak(work):
    """Most bytes of tensors alive at once, as torch counts what it gives and takes."""
    from torch.profiler import ProfilerActivity, profile

    with (
        torch.no_grad(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof,
    ):
        work()
    events = [
        e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"
    ]
    alive = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


class Planes:
    """A volume on disk, as far as is asked of it: it counts what is read at once."""

    ndim = 3
    most = 0

    def __init__(self, shape):
        self.shape = shape
        self.size = int(np.prod(shape))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        part = np.broadcast_to(np.float32(0), self.shape)[key]
        Planes.most = max(Planes.most, part.size)
        return part


def test_a_volume_on_disk_is_read_plane_by_plane(classifier, tmp_path):
    data = noise((60, 400, 300))
    np.save(tmp_path / "ct.npy", data)
    on_disk = Volume(np.load(tmp_path / "ct.npy", mmap_mode="r"), AXIAL)
    tracemalloc.start()
    x = classifier.preprocess(on_disk)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < data.nbytes / 10
    shown = torch.from_numpy(np.clip((data + 1000) / 2000, 0, 1))[None, None]
    assert torch.allclose(x, F.adaptive_avg_pool3d(shown, SIZE), atol=1e-6)


def test_a_map_larger_than_memory_is_refused_and_a_step_is_named(classifier):
    huge = Volume(Planes((20_000, 20_000, 20_000)), AXIAL)
    message = r"a map that fits into .* GiB .*20000 x 20000 x 20000 .* Try step=\d+"
    with pytest.raises(ValueError, match=message):
        attend.volume_map(classifier, huge, method="rollout")
    with pytest.raises(ValueError, match="Try step"):
        attend.slice_maps(None, huge)
    assert Planes.most == 0


def test_a_step_gives_a_coarser_map_in_the_same_place(classifier, ct):
    fine = attend.volume_map(classifier, ct, method="rollout", step=1)
    coarse = attend.volume_map(classifier, ct, method="rollout", step=3)
    assert coarse.values.shape == (10, 21, 24)
    assert np.array_equal(coarse.values, fine.values[::3, ::3, ::3])
    index = np.array([4, 7, 9, 1])
    assert np.allclose(coarse.affine @ index, fine.affine @ (index * [3, 3, 3, 1]))


# ---- in the volume's own voxels


def test_a_map_is_spread_as_torch_interpolates():
    grid = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    tensor = torch.from_numpy(grid)[None, None]
    want = F.interpolate(tensor, (10, 9, 4), mode="trilinear")[0, 0].numpy()
    assert np.allclose(spread(grid, (10, 9, 4)), want, atol=1e-6)


class Bright(nn.Module):
    """A MONAI ViT in outline: its class token attends to bright patches alone.

    Its output is how much it does.
    """

    def __init__(self, side):
        super().__init__()
        shape = {"hidden_size": 2, "mlp_dim": 2, "num_layers": 1, "num_heads": 1}
        vit = ViT(1, 40, side, **shape, classification=True)
        self.patch_embedding = vit.patch_embedding
        self.blocks = vit.blocks
        self.side = side
        # channel 0 = brightness, channel 1 = 1
        qkv = torch.zeros(6, 2)
        qkv[0, 1] = 30  # q of the class token
        qkv[2, 0] = 1  # k = brightness
        qkv[4, 0] = 1  # v = brightness
        attn = self.blocks[0].attn
        attn.qkv.weight.data = qkv
        attn.out_proj.weight.data = torch.eye(2)
        attn.out_proj.bias.data.zero_()

    def forward(self, x):
        bright = F.avg_pool3d(x, self.side).flatten(2).mT
        tokens = torch.cat([torch.zeros_like(bright[:, :1]), bright], 1)
        out = self.blocks[0].attn(F.pad(tokens, (0, 1), value=1))
        return out[:, 0], []


# 48 ways for a volume to lie
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def lying(order, signs, spacing=(2.0, 0.8, 0.7)):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign, step) in enumerate(zip(order, signs, spacing, strict=True)):
        affine[world, axis] = sign * step
    affine[:3, 3] = (10, -30, 200)
    return affine


def planted(affine, centre, shape=(36, 60, 52)):
    voxels = np.full(shape, -1000, np.float32)
    d, h, w = centre
    voxels[d - 2 : d + 3, h - 3 : h + 4, w - 3 : w + 4] = 1000
    return Volume(voxels, affine)


def off_by(m, centre):
    """Voxels along each axis from the map's peak, or plateau, to the cube's centre."""
    at = np.argwhere(m.values >= m.values.max() * (1 - 1e-6)).mean(0)
    return np.abs(at - centre)


@pytest.mark.parametrize("method", ["attention", "rollout", "gradcam", "occlusion"])
@pytest.mark.parametrize("turn", range(0, 48, 5))
def test_a_bright_cube_is_found_where_it_was_put_to_half_a_patch(method, turn):
    affine = lying(*TURNS[turn])
    centre = (9, 44, 20)
    tower = Bright(8)
    if method == "gradcam":
        tower = nn.Sequential(nn.AvgPool3d(8), nn.ReLU())
        tower.register_parameter("none", nn.Parameter(torch.zeros(1)))
    net = attend.Net3d(tower, (40, 40, 40), (-1000, 1000))
    options = {"method": method, "target": 0, "mask": (8, 8, 8)}
    m = attend.volume_map(net, planted(affine, centre), **options)
    patch = np.array(m.values.shape) / 5
    assert (off_by(m, centre) <= patch / 2 + 0.5).all()
    assert np.array_equal(m.affine, affine)


def test_the_networks_axes_point_where_they_are_said_to():
    """One cube right of, before and above the middle is one input, in 48 ways."""
    net = attend.Net3d(nn.Linear(1, 1), (18, 20, 22), (-1000, 1000), axes="RAS")
    for order, signs in TURNS:
        shape = np.array([36, 40, 44])[list(order)]
        affine = lying(order, signs, (2.0, 2.0, 2.0))
        affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2  # LPS 0, 0, 0 is the middle
        at = np.rint(np.linalg.solve(affine, [-21, -17, 23, 1])[:3]).astype(int)
        voxels = np.full(shape, -1000, np.float32)
        voxels[tuple(slice(n - 1, n + 1) for n in at)] = 1000
        seen = net.preprocess(Volume(voxels, affine))[0, 0]
        assert seen.shape == (18, 20, 22)
        middle = (np.array(seen.shape) - 1) / 2
        steps = np.argwhere(seen.numpy() > 0.1).mean(0) - middle  # of 4 mm
        assert np.allclose(steps * 4, [21, 17, 23], atol=3)
    with pytest.raises(ValueError, match="with an affine, got None.* axes=None"):
        net.preprocess(Volume(voxels, None))


# ---- slice by slice


class Seer(nn.Module):
    """A 2-D tower that attends to bright patches."""

    def __init__(self, side=8):
        super().__init__()
        self.side = side
        self.blocks = nn.ModuleList([SeerBlock()])
        self.scale = nn.Parameter(torch.ones(()))

    def encode_image(self, x):
        patches = F.avg_pool2d(x, self.side).flatten(2).mT * self.scale  # (B, T, 1)
        tokens = torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)
        return F.pad(self.blocks[0](tokens)[:, 0], (0, 1), value=1.0)


class SeerBlock(nn.Module):
    num_heads = 1

    def forward(self, x):
        query = 20 * torch.ones_like(x)[:, None]
        key = x[:, None]
        return F.scaled_dot_product_attention(query, key, key)[:, 0]


@pytest.fixture(scope="module")
def seer():
    model = models.Model(
        Seer(), "seer", "image-text", 80, 1, (0.0,), (1.0,), "pad", (10, 10)
    )

    def encode_text(texts):
        return torch.tensor([[1.0, 0.0]]).expand(len(texts), -1)

    model.encode_text = encode_text
    return model


@pytest.mark.parametrize("turn", range(0, 48, 3))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_maps_lie_where_the_cube_was_put_however_the_volume_lies(
    seer, turn, axis
):
    centre = (9, 44, 20)
    affine = lying(*TURNS[turn], spacing=(1.0, 1.0, 1.0))
    volume = planted(affine, centre)
    m = attend.slice_maps(
        seer, volume, axis=axis, method="attention", window_hu=(-1000, 1000)
    )
    assert m.values.shape == volume.shape
    # attention is shared out slice by slice
    within = np.moveaxis(m.values, axis, 0)[centre[axis]]
    at = np.unravel_index(within.argmax(), within.shape)
    patch = max(within.shape) / 10
    assert (np.abs(at - np.delete(centre, axis)) <= patch / 2 + 0.5).all()
    peaks = np.moveaxis(m.values, axis, 0).max((1, 2))
    assert abs(np.flatnonzero(peaks > 0.99 * peaks.max()).mean() - centre[axis]) <= 0.5
    assert np.array_equal(m.affine, affine)


def test_slices_between_those_asked_for_are_interpolated(seer, ct):
    options = {"method": "attention", "window_hu": (-1000, 1000)}
    each = attend.slice_maps(seer, ct, **options).values
    third = attend.slice_maps(seer, ct, **options, every=3, batch=2).values
    assert np.allclose(third[1::3], each[1::3], atol=1e-7)
    assert np.allclose(third[2], (2 * each[1] + each[4]) / 3, atol=1e-7)
    assert np.array_equal(third[0], third[1])
    assert np.array_equal(third[29], third[28])
    one = attend.slice_maps(seer, ct, **options, every=999).values
    assert (one == one[:1]).all()


def test_each_slice_map_is_that_of_the_slice_alone(seer, ct):
    m = attend.slice_maps(
        seer,
        ct,
        axis=1,
        method="relevance",
        target="bright",
        window_hu=(-1000, 1000),
        every=30,
    )
    scan = ct.slice(1, 45, (-1000, 1000))
    alone = attend.attention_map(seer, scan, method="relevance", target="bright")
    # a coronal slice is shown head up
    assert np.allclose(m.values[::-1, 45, :], alone.values, atol=1e-7)
    assert (m.method, m.layer, m.target, m.model) == (
        "relevance",
        alone.layer,
        "bright",
        "seer",
    )


# ---- clear answers


def test_what_does_not_fit_is_said(classifier, cnn, ct):
    for method in ("attention", "rollout", "relevance"):
        message = "expected a MONAI ViT or Swin for .*cnn .DenseNet121.*gradcam"
        with pytest.raises(ValueError, match=message):
            attend.volume_map(cnn, ct, method=method, target=0)
    for wrong in (7, "heart", None):
        with pytest.raises(ValueError, match="target"):
            attend.volume_map(cnn, ct, target=wrong)
    for wrong in (
        {"method": "guess"},
        {"head": 1, "method": "rollout"},
        {"method": "occlusion", "mask": (7, 8, 8)},
    ):
        with pytest.raises(ValueError, match="expected"):
            attend.volume_map(classifier, ct, target=0, **wrong)
    with pytest.raises(ValueError, match="one patch"):
        attend.volume_map(vit(1, (8, 8, 8)), ct, method="rollout")
    pooled = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 2))
    flat = attend.Net3d(pooled, (8, 8, 8))
    with pytest.raises(ValueError, match="feature map of more than one voxel"):
        attend.volume_map(flat, ct, target=0)


def test_a_half_precision_network_gives_a_finite_float32_map(ct):
    net = vit(2, classification=True)
    want = {
        m: attend.volume_map(net, ct, method=m, target=0).values
        for m in ("rollout", "relevance", "gradcam")
    }
    net.net.bfloat16()
    for method, full in want.items():
        m = attend.volume_map(net, ct, method=method, target=0)
        assert m.values.dtype == np.float32
        assert np.corrcoef(m.values.ravel(), full.ravel())[0, 1] > 0.9


def test_an_mr_gets_its_window_from_its_own_percentiles():
    voxels = np.zeros((10, 30, 30), np.float32)
    voxels[2:8, 5:25, 5:25] = np.random.default_rng(0).uniform(100, 900, (6, 20, 20))
    net = attend.Net3d(nn.Linear(1, 1), (10, 30, 30))
    x = net.preprocess(Volume(voxels, AXIAL, "MR"))
    black = float((x == 0).float().mean())
    white = float((x == 1).float().mean())
    assert black == pytest.approx(1 - 0.99 * 2400 / 9000, abs=0.01)
    assert white == pytest.approx(0.01 * 2400 / 9000, abs=0.002)


# ---- files


@pytest.fixture(scope="module")
def series():
    """The folder of the CT's 133 DICOM files."""
    from radwb.data import FetchError, fetch

    try:
        return fetch("lidc-dicom")
    except FetchError as error:
        pytest.skip(f"no DICOM series here: {error}")


@pytest.fixture(scope="module")
def chest(series):
    from radwb.data import read

    return read(series)


def some_map(volume, step=1):
    values = np.zeros(volume.shape, np.float32)
    values[40:60, 200:300, 100:180] = np.random.default_rng(0).random((20, 100, 80))
    affine = volume.affine @ np.diag([step, step, step, 1])
    coarse = np.ascontiguousarray(values[::step, ::step, ::step])
    return attend.map.Map(coarse, "relevance", 0, None, 1, "vit", affine)


def places_of(series):
    """UID of each slice -> its position and orientation as the scanner wrote them."""
    import pydicom

    places = {}
    for path in series.iterdir():
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        place = (*ds.ImagePositionPatient, *ds.ImageOrientationPatient)
        places[ds.SOPInstanceUID] = [float(x) for x in place]
    return places


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nifti_lies_where_the_cts_own_nifti_lies(chest, series, tmp_path, suffix):
    import nibabel as nib

    from radwb.data import fetch

    m = some_map(chest)
    saved = nib.load(attend.save_map(m, chest, tmp_path / f"map.{suffix}"))
    # made by others, with the rows the other way round
    theirs = nib.load(fetch("lidc-ct") / "cxr.nii.gz")
    values = saved.get_fdata()
    ct = theirs.dataobj
    for d, h, w in [(0, 0, 0), (132, 511, 511), (50, 250, 120)]:
        world = saved.affine @ [w, h, d, 1]  # RAS mm
        i, j, k = np.rint(np.linalg.solve(theirs.affine, world)[:3]).astype(int)
        assert np.allclose(theirs.affine @ [i, j, k, 1], world, atol=1e-3)
        assert float(ct[i, j, k]) == chest.voxels[d, h, w]
        assert values[w, h, d] == m.values[d, h, w]
    assert saved.header["descrip"].item().decode() == "relevance, layer 0, 1, vit"
    assert saved.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("step", [1, 4])
def test_a_parametric_map_lies_on_the_cts_slices(chest, series, tmp_path, step):
    hd = pytest.importorskip("highdicom")
    m = some_map(chest, step)
    places = places_of(series)
    path = attend.save_map(m, chest, tmp_path / "map.dcm")
    read = hd.imread(path)
    assert read.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30"
    assert read.pixel_array.dtype == np.float32
    by_z = {p[2]: p for p in places.values()}
    shared = read.SharedFunctionalGroupsSequence[0]
    facing = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert len(read.PerFrameFunctionalGroupsSequence) == len(m.values)
    for n, frame in enumerate(read.PerFrameFunctionalGroupsSequence):
        at = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert np.allclose(at, by_z[at[2]][:3], atol=1e-3)
        assert np.allclose([float(x) for x in facing], by_z[at[2]][3:])
        d = round((at[2] - chest.affine[2, 3]) / (2.5 * step))
        assert np.array_equal(read.pixel_array[n], m.values[d])
    again = read.get_volume().flip_spatial(0)  # highdicom counts from the head down
    assert np.allclose(again.affine, m.affine, atol=1e-3)
    slice_read = hd.imread(next(series.glob("*.dcm")))
    assert read.FrameOfReferenceUID == slice_read.FrameOfReferenceUID


def test_a_segmentation_refers_to_the_slice_that_each_frame_lies_on(
    chest, series, tmp_path
):
    hd = pytest.importorskip("highdicom")
    m = some_map(chest)
    places = places_of(series)
    read = hd.seg.segread(
        attend.save_map(m, chest, tmp_path / "seg.dcm", series=series, threshold=0.5)
    )
    assert len(read.PerFrameFunctionalGroupsSequence) == 20  # empty frames are left out
    shared = read.SharedFunctionalGroupsSequence[0]
    facing = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    for n, frame in enumerate(read.PerFrameFunctionalGroupsSequence):
        at = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        source = image.ReferencedSOPInstanceUID
        assert np.allclose([*at, *map(float, facing)], places[source], atol=1e-3)
        d = round((at[2] - chest.affine[2, 3]) / 2.5)
        assert np.array_equal(read.pixel_array[n], m.values[d] >= 0.5)
    assert {
        s.ReferencedSOPInstanceUID
        for s in read.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } <= set(places)


def test_a_map_of_the_nifti_lies_on_the_dicom_series_too(series, tmp_path):
    hd = pytest.importorskip("highdicom")
    from radwb.data import fetch, read

    ct = read(fetch("lidc-ct") / "cxr.nii.gz")
    m = some_map(ct)
    saved = hd.seg.segread(
        attend.save_map(m, ct, tmp_path / "seg.dcm", series=series, threshold=0.5)
    )
    volume = saved.get_volume(combine_segments=True, relabel=True)
    marked = np.argwhere(volume.array > 0)
    world = volume.affine @ np.append(marked.mean(0), 1)
    want = m.affine @ np.append(np.argwhere(m.values >= 0.5).mean(0), 1)
    assert np.allclose(world, want, atol=0.01)
    assert len(marked) == (m.values >= 0.5).sum()


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_dicom_files_pass_dciodvfy(chest, series, tmp_path, threshold):
    import shutil
    import subprocess

    pytest.importorskip("highdicom")
    if not shutil.which("dciodvfy"):
        pytest.skip("no dciodvfy on this machine: apt install dicom3tools")
    path = attend.save_map(
        some_map(chest, 4), chest, tmp_path / "map.dcm", threshold=threshold
    )
    command = ["dciodvfy", "-new", str(path)]
    verdict = subprocess.run(command, capture_output=True, text=True).stderr
    assert ("Segmentation" if threshold else "ParametricMap") in verdict
    assert [line for line in verdict.splitlines() if line.startswith("Error")] == []


def test_a_map_that_is_not_the_volumes_is_not_saved(ct, chest, series, tmp_path):
    pytest.importorskip("highdicom")
    m = some_map(chest)
    moved = chest.affine + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 5.0]  # 5 mm left
    here = Volume(chest.voxels, moved, "CT", str(series))
    cases = [
        ((m, ct, "a.nii"), {}, "expected a map of this volume"),
        ((m, Volume(chest.voxels, None), "a.nii"), {}, "with an affine"),
        ((m, chest, "a.png"), {}, "ends in .nii, .nii.gz or .dcm"),
        ((m, chest, "a.nii"), {"threshold": 1}, "threshold=None"),
        ((m, chest, "a.dcm"), {"threshold": 9}, "that some voxel reaches"),
        (
            (m, Volume(chest.voxels, chest.affine), "a.dcm"),
            {"series": tmp_path / "none"},
            "expected series=",
        ),
        (
            (attend.map.Map(m.values, "x", affine=here.affine), here, "a.dcm"),
            {},
            "lies elsewhere",
        ),
    ]
    for (map, volume, name), options, message in cases:
        with pytest.raises(ValueError, match=message):
            attend.save_map(map, volume, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
