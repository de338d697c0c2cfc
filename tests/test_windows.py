"""Maps of MONAI's Swin transformer against full matrices, and planted cubes.

The full matrices are what its own blocks make of one-hot tokens.
"""

from copy import deepcopy
from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from radwb import attend
from radwb.attend.tower import as_it_was
from radwb.attend.volumes import METHODS_3D, windows
from radwb.data import Volume
from radwb.models.voxels import spread

pytest.importorskip("monai")
pytest.importorskip("einops")
from monai.networks.nets import SwinUNETR  # noqa: E402
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformer  # noqa: E402
from monai.visualize import GradCAM, OcclusionSensitivity  # noqa: E402

# 10 x 10 x 6 tokens, then 5 x 5 x 3, 3 x 3 x 2 and 2 x 2 x 1: odd sides, shifts and
# padding
SIZE = (20, 20, 12)
# as a DICOM stack lies
AXIAL = np.array([[0, 0, 0.8, -50], [0, 0.7, 0, -20], [2.5, 0, 0, 10], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def ct():
    voxels = np.random.default_rng(0).normal(0, 400, (24, 30, 18))
    return Volume(voxels.astype(np.float32), AXIAL, "CT")


def sharpened(net):
    # beyond initialisation, so that maps differ from place to place
    for block in windows.window_blocks(net):
        block.attn.qkv.weight.data *= 4
        block.attn.relative_position_bias_table.data *= 30
    return net


def swin(window=4, **options):
    torch.manual_seed(0)
    shape = {"depths": (2, 2, 2, 2), "num_heads": (3, 3, 6, 6)}
    shape |= {"drop_rate": 0.1, "attn_drop_rate": 0.1} | options
    net = SwinTransformer(1, 12, (window,) * 3, (2, 2, 2), **shape)
    return attend.Net3d(sharpened(net), SIZE, (-1000, 1000), name="swin")


@pytest.fixture(scope="module")
def encoder():
    return swin()


@pytest.fixture(scope="module")
def unetr():
    torch.manual_seed(0)
    net = SwinUNETR(
        1, 2, feature_size=12, norm_name="batch", window_size=3, num_heads=(3, 3, 6, 6)
    )
    about = {"findings": ["lung", "air"], "name": "unetr"}
    return attend.Net3d(sharpened(net), (32, 32, 32), (-1000, 1000), **about)


# ---- full matrices


class Heads(nn.Module):
    """In the place of qkv: another run's queries and keys; what comes in as values."""

    def __init__(self, qkv, heads):
        super().__init__()
        # (W, n, heads, C / heads)
        self.q, self.k, _ = qkv.unflatten(-1, (3, heads, -1)).unbind(2)

    def forward(self, x):
        values = x.unflatten(-1, self.q.shape[2:3] + (-1,))
        missing = (0, values.shape[-1] - self.q.shape[-1])
        q = F.pad(self.q, missing)
        k = F.pad(self.k, missing)
        return torch.stack([q, k, values], 2).flatten(2)


class Note(nn.Module):
    def forward(self, x, mask):
        self.seen = x
        return x


def of_one_hot_tokens(block, grid, mask, qkv):
    """(heads, T, T): what MONAI's own block hands from each token to each.

    All but its queries and keys are replaced.
    """
    T = int(np.prod(grid))
    heads = block.num_heads
    twin = deepcopy(block)
    twin.norm1 = nn.Identity()
    twin.attn.proj = nn.Identity()
    twin.attn.qkv = Heads(qkv, heads)
    wide = max(T, block.dim // heads)
    one_hot = torch.eye(T, wide).repeat(1, heads).reshape(1, *grid, -1)
    out = twin.forward_part1(one_hot, mask)
    return out.reshape(T, heads, wide)[..., :T].transpose(0, 1)


def laid_out(block, grid, mask, matrices):
    """(W, heads, n, n) -> (heads, T, T), padding cut off.

    MONAI's block tells which token lies where.
    """
    T = int(np.prod(grid))
    twin = deepcopy(block)
    twin.norm1 = nn.Identity()
    twin.attn = Note()
    twin.forward_part1(torch.arange(1.0, T + 1).reshape(1, *grid, 1), mask)
    full = torch.zeros(matrices.shape[1], T + 1, T + 1)
    places = twin.attn.seen[..., 0].long() - 1  # -1, the last one, is padding
    for window, at in zip(matrices, places, strict=True):
        full[:, at[:, None], at] = window
    return full[:, :T, :T]


class Reader:
    """What a block is given, its queries and keys, and MONAI's own attention."""

    def __init__(self, block):
        self.block = block
        self.hooks = [
            block.register_forward_pre_hook(self.enter),
            block.attn.qkv.register_forward_hook(self.note_qkv),
            block.attn.attn_drop.register_forward_pre_hook(self.note_attention),
        ]

    def enter(self, _, args):
        self.grid = tuple(args[0].shape[1:4])
        self.mask = args[1]

    def note_qkv(self, _, __, out):
        self.qkv = out.detach()

    def note_attention(self, _, args):
        self.A = args[0]
        if not self.A.requires_grad:
            self.A = self.A.detach().requires_grad_()
        return (self.A,)

    def laid_out(self, matrices):
        return laid_out(self.block, self.grid, self.mask, matrices)

    def attention(self):
        """(heads, T, T), by two ways to one matrix."""
        A = of_one_hot_tokens(self.block, self.grid, self.mask, self.qkv).detach()
        assert torch.allclose(self.laid_out(self.A.detach()), A, atol=1e-6)
        return A.double()


def full_matrices(net, x, first=0, target=None):
    """Of each block from `first`: grid, (heads, T, T) attention, gradients by it.

    Gradients are None without a target.
    """
    readers = [Reader(block) for block in windows.window_blocks(net.net.eval())[first:]]
    out = net.net(x)
    for reader in readers:
        for hook in reader.hooks:
            hook.remove()
    out = out[-1] if isinstance(out, list) else out
    gradients = [None] * len(readers)
    if target is not None:
        attention = [reader.A for reader in readers]
        by_window = torch.autograd.grad(out[0, target].mean(), attention)
        for n, reader in enumerate(readers):
            gradients[n] = reader.laid_out(by_window[n]).double()
    return [
        (reader.grid, reader.attention(), gradient)
        for reader, gradient in zip(readers, gradients, strict=True)
    ]


def merged(merging, grid):
    """(T', T): MONAI's own merging of one-hot tokens, each row shared out equally."""
    T = int(np.prod(grid))
    twin = deepcopy(merging)
    twin.norm = nn.Identity()
    twin.reduction = nn.Identity()
    places = twin(torch.eye(T).reshape(1, *grid, T)).reshape(-1, 8, T).sum(1).double()
    return places / places.sum(1, keepdim=True)


def flow_of(net, full, step):
    """(d, h, w) from full matrices, first block to last as Chefer et al. write it.

    R = step(R, A, G) in a block, R = M R where tokens are merged.
    """
    stages = [m for m in net.net.modules() if type(m).__name__ == "BasicLayer"]
    merging = {stage.blocks[-1]: stage.downsample for stage in stages}
    blocks = windows.window_blocks(net.net)[-len(full) :]
    R = torch.eye(full[0][1].shape[-1], dtype=torch.float64)
    for block, (grid, A, G) in zip(blocks, full, strict=True):
        R = step(R, A, G)
        if block in merging and block is not blocks[-1]:
            R = merged(merging[block], grid) @ R
    return R.mean(0).reshape(full[0][0])


def rolled(R, A, _):
    return 0.5 * R + 0.5 * A.mean(0) @ R


def unchanged(R, *_):
    return R


def relevant(R, A, G):
    return R + (A * G).clamp(min=0).mean(0) @ R


def same(m, want, ct, rtol=1e-5):
    want = spread(want.float().numpy(), ct.shape)
    assert np.allclose(m.values, want, atol=rtol * want.max(), rtol=0)
    assert want.std() > 0.01 * want.max()


class Older(PatchMergingV2):
    """MONAI's merging of before 1.5: two of eight twice, two never.

    Published weights were trained with it.
    """

    def forward(self, x):
        odd = [side % 2 for side in x.shape[1:4]]
        x = F.pad(x, (0, 0, 0, odd[2], 0, odd[1], 0, odd[0]))
        places = ("000", "100", "010", "001", "101", "010", "001", "111")
        parts = []
        for place in places:
            i, j, k = map(int, place)
            parts.append(x[:, i::2, j::2, k::2])
        return self.reduction(self.norm(torch.cat(parts, -1)))


VERSION_2 = {"downsample": "mergingv2", "use_v2": True, "depths": (1, 2, 1, 3)}
NETS = {
    "window 4": (4, {}),
    "window 7": (7, {}),
    "merging and convolutions of version 2": (3, VERSION_2),
    "the older merging": (3, {"downsample": Older}),
}


@pytest.mark.parametrize("name", NETS)
def test_maps_equal_the_full_matrices(ct, name):
    window, options = NETS[name]
    net = swin(window, **options)
    full = full_matrices(net, net.preprocess(ct), target=5)
    for layer in (None, 1, 3):
        rest = full[layer or 0 :]
        same(
            attend.volume_map(net, ct, method="rollout", layer=layer),
            flow_of(net, rest, rolled),
            ct,
        )
        read = flow_of(net, rest, unchanged)
        m = attend.volume_map(net, ct, method="relevance", target=5, layer=layer)
        same(m, flow_of(net, rest, relevant) - read, ct, 1e-4)
        assert m.layer == (layer or 0)
    for layer, head in product((0, 3, -1), (None, 2)):
        grid, A, _ = full[layer]
        matrix = A.mean(0) if head is None else A[head]
        m = attend.volume_map(net, ct, method="attention", layer=layer, head=head)
        same(m, matrix.mean(0).reshape(grid), ct)


def test_the_segmentation_net_as_a_whole_equals_the_full_matrices(unetr, ct):
    full = full_matrices(unetr, unetr.preprocess(ct), first=2, target=1)
    same(
        attend.volume_map(unetr, ct, method="rollout", layer=2),
        flow_of(unetr, full, rolled),
        ct,
    )
    read = flow_of(unetr, full, unchanged)
    m = attend.volume_map(unetr, ct, method="relevance", target="air", layer=2)
    same(m, flow_of(unetr, full, relevant) - read, ct, 1e-4)
    alone = attend.Net3d(unetr.net.swinViT, unetr.size, unetr.window_hu)
    for method in ("attention", "rollout"):
        whole = attend.volume_map(unetr, ct, method=method).values
        assert np.array_equal(whole, attend.volume_map(alone, ct, method=method).values)


@pytest.mark.parametrize("method", ["rollout", "relevance"])
def test_few_windows_at_a_time_give_what_all_give(method, encoder, ct, monkeypatch):
    whole = attend.volume_map(encoder, ct, method=method, target=0).values
    monkeypatch.setattr(windows, "NUMBERS", 5 * 3 * 64**2)
    few_windows = attend.volume_map(encoder, ct, method=method, target=0).values
    assert np.allclose(few_windows, whole, rtol=1e-4)


def test_a_block_gives_all_that_it_has_but_what_padding_gets(encoder, ct):
    x = encoder.preprocess(ct)

    def run():
        return encoder.net(x)[-1].flatten(1)

    sums = {}
    with as_it_was(encoder.net):
        for layer in range(8):
            flow = windows.window_flow(encoder.net, run, None, "attention", layer)
            sums[layer] = float(flow.sum())
    # 10 x 10 x 6 is padded to 12 x 12 x 8, 5 x 5 x 3 to 8 x 8 x 3
    assert all(0.3 < sums[n] < 0.999 for n in (0, 2, 3))
    # one window, no padding
    assert all(sums[n] == pytest.approx(1, abs=1e-5) for n in (4, 5, 6, 7))
    # shifted by 2, the mask holds the padding of 2 apart from all tokens
    assert sums[1] == pytest.approx(1, abs=1e-5)


# ---- in the volume's own voxels


def seer():
    """A Swin whose tokens attend to bright ones and stay as they are.

    Channels 0 and 1 are brightness and minus it.
    """
    net = SwinTransformer(1, 12, (4, 4, 4), (2, 2, 2), (2, 2, 2, 2), (1, 1, 1, 1))
    for p in net.parameters():
        p.data.zero_()
    sign = torch.tensor([1.0, -1.0])
    net.patch_embed.proj.weight.data[:2] = sign.view(2, 1, 1, 1, 1) / 8
    for stage in windows._stages(net):
        C = stage.blocks[0].dim
        for block in stage.blocks:
            block.norm1.weight.data.fill_(1)
            block.attn.qkv.bias.data[0] = 1  # every query asks for
            # keys that are bright
            block.attn.qkv.weight.data[C, 0] = 6 * C**0.5 * (2 / C) ** 0.5
        stage.downsample.norm.weight.data.fill_(1)
        for c, place in product((0, 1), range(8)):
            stage.downsample.reduction.weight.data[c, place * C + c] = 1
    return attend.Net3d(net, (40, 40, 40), (-1000, 1000), name="seer")


# 48 ways for a volume to lie
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


@pytest.mark.parametrize("turn", range(0, 48, 5))
@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_a_bright_cube_is_found_where_it_was_put_to_half_a_token(method, turn):
    centre = np.array((9, 44, 20))
    half = np.array((1, 2, 2))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(*TURNS[turn], strict=True)):
        affine[world, axis] = sign * (2.0, 0.8, 0.7)[axis]
    voxels = np.full((36, 60, 52), -1000, np.float32)
    voxels[8:11, 42:47, 18:23] = 1000
    m = attend.volume_map(seer(), Volume(voxels, affine), method=method, layer=0)
    token = np.array(voxels.shape) / 20
    bright = np.argwhere(m.values > 0.5 * m.values.max())
    assert (np.abs(bright.mean(0) - centre) <= token / 2 + 0.5).all()
    assert (np.abs(bright - centre) <= half + token + 0.5).all()
    assert np.array_equal(m.affine, affine)


# ---- Grad-CAM and occlusion


class Mean(nn.Module):
    """(B, K) of a segmentation, as MONAI's classes want it."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).flatten(2).mean(-1)


def raw(tensor):
    return tensor


@pytest.mark.parametrize("layer", [None, "swinViT.layers2.0", "decoder3"])
def test_gradcam_equals_monai(unetr, ct, layer):
    options = {"upsampler": lambda size: raw, "postprocessing": raw}
    theirs = GradCAM(Mean(unetr.net.eval()), f"net.{layer or 'out'}", **options)
    want = theirs(unetr.preprocess(ct), class_idx=1)[0, 0].detach()
    m = attend.volume_map(unetr, ct, method="gradcam", target=1, layer=layer)
    same(m, want, ct, 1e-4)


def test_gradcam_of_a_block_knows_that_its_channels_come_last(encoder, ct):
    outputs = []
    block = encoder.net.eval().layers2[0].blocks[1]
    hook = block.register_forward_hook(lambda *call: outputs.append(call[-1]))
    score = encoder.net(encoder.preprocess(ct))[-1][0, 3].mean()
    hook.remove()
    gradient = torch.autograd.grad(score, outputs[0])[0]
    weights = gradient[0].mean((0, 1, 2))  # (C,)
    want = (outputs[0][0] @ weights).relu().detach()  # (5, 5, 3)
    options = {"method": "gradcam", "target": 3}
    m = attend.volume_map(encoder, ct, **options, layer="layers2.0.blocks.1")
    same(m, want, ct, 1e-4)
    # merged, the last stage is one voxel
    deepest = attend.volume_map(encoder, ct, **options)
    named = attend.volume_map(encoder, ct, **options, layer="layers4.0.blocks.1")
    assert np.array_equal(deepest.values, named.values)


def test_occlusion_equals_monai(unetr, ct):
    x = unetr.preprocess(ct)
    theirs = OcclusionSensitivity(
        Mean(unetr.net.eval()),
        mask_size=16,
        n_batch=4,
        mode="mean_img",
        overlap=0.0,
        activate=False,
        verbose=False,
    )
    # before MONAI's, which leaves the network in train mode
    score = Mean(unetr.net)(x)[0, 1]
    hidden = theirs(x)[0][0, 1, ::16, ::16, ::16]
    fall = (score - hidden).clamp(min=0).detach()
    m = attend.volume_map(unetr, ct, method="occlusion", target=1, mask=(16, 16, 16))
    same(m, fall, ct, 5e-3)  # a difference of scores, and so of the rounding in both


# ---- the network comes back; what isn't true fails


CHECKPOINTED = [(True, None), (True, False)]


def state_of(net):
    modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in net.modules()
    ]
    modules += [
        (getattr(m, "use_checkpoint", None), getattr(m, "use_flash_attention", None))
        for m in net.modules()
    ]
    return modules, [(p.requires_grad, p.grad) for p in net.parameters()]


@pytest.mark.parametrize("method", METHODS_3D)
def test_the_network_comes_back_as_it_was_even_after_an_exception(ct, method):
    net = swin(use_checkpoint=True)
    how = {"method": method, "target": 0, "mask": SIZE}
    net.net.train()
    before = state_of(net.net)
    checkpointed = [state for state in before[0] if state in CHECKPOINTED]
    assert len(checkpointed) >= 8
    m = attend.volume_map(net, ct, **how)
    assert state_of(net.net) == before
    assert np.array_equal(m.values, attend.volume_map(swin(), ct, **how).values)

    def fail(*_):
        raise KeyError("planted")

    hook = net.net.layers3[0].blocks[1].attn.register_forward_hook(fail)
    with pytest.raises(KeyError, match="planted"):
        attend.volume_map(net, ct, **how)
    hook.remove()
    assert state_of(net.net) == before


class Rolled(nn.Module):
    def forward(self, x):
        return x.roll(1, 1)


class Twice(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) and self.net(x)


def test_what_is_not_what_the_network_computed_fails(ct, monkeypatch):
    def plant(message, change, method="relevance"):
        net = swin()
        change(net.net.layers2[0].blocks[1])
        layer = 3 if method == "attention" else None
        with pytest.raises(RuntimeError, match=message):
            attend.volume_map(net, ct, method=method, target=0, layer=layer)

    def more(_, args):
        return (args[0] + 0.01, *args[1:])

    def added(block):
        block.attn.attn_drop.register_forward_pre_hook(more)

    for method in ("attention", "rollout", "relevance"):
        plant(r"softmax\(QK \+ bias\) V: .* under 1e-05", added, method)
    plant(
        "projection: .* under 1e-05",
        lambda b: b.attn.proj_drop.register_forward_pre_hook(more),
    )
    plant("tokens laid back", lambda b: setattr(b, "drop_path", Rolled()))
    twice = attend.Net3d(Twice(swin().net), SIZE, (-1000, 1000))
    with pytest.raises(RuntimeError, match="once, got a second time"):
        attend.volume_map(twice, ct, method="rollout")
    places = windows._windows
    monkeypatch.setattr(
        windows, "_windows", lambda grid, window, shift: places(grid, window, (0, 0, 0))
    )
    plant("tokens laid into windows", lambda b: None)
    monkeypatch.setattr(windows, "_windows", places)
    ours = windows._Block.attention
    monkeypatch.setattr(
        windows._Block,
        "attention",
        lambda self, at: [t.roll(1, 0) for t in ours(self, at)],
    )
    plant(r"softmax\(QK \+ bias\) V", lambda b: None)


def test_a_half_precision_network_gives_a_finite_float32_map(ct):
    net = swin()
    in_float32 = {}
    for method in ("attention", "rollout", "relevance", "gradcam"):
        in_float32[method] = attend.volume_map(net, ct, method=method, target=0).values
    net.net.bfloat16()
    for method, want in in_float32.items():
        m = attend.volume_map(net, ct, method=method, target=0)
        assert m.values.dtype == np.float32
        assert np.corrcoef(m.values.ravel(), want.ravel())[0, 1] > 0.9


class Every(nn.Module):
    """Another way from stage to stage."""

    def forward(self, x):
        return x[:, ::2, ::2, ::2].repeat(1, 1, 1, 1, 2)


def test_what_does_not_fit_is_said(encoder, ct):
    cases = [
        ("head=None for rollout", "rollout", {"head": 1}),
        ("a head of 0 to 2 in this block, got 3", "attention", {"layer": 0, "head": 3}),
        ("a layer of 0 to 7 for attention, got 8", "attention", {"layer": 8}),
        ("a layer of 0 to 7 for rollout, got 'l2'", "rollout", {"layer": "l2"}),
        ("a module of swin as layer, got -1", "gradcam", {"target": 0, "layer": -1}),
        ("a target, got None", "relevance", {}),
        ("a target of 0 to 191, .* got 192", "relevance", {"target": 192}),
    ]
    for message, method, options in cases:
        with pytest.raises(ValueError, match=f"expected.* {message}"):
            attend.volume_map(encoder, ct, method=method, **options)
    small = attend.Net3d(encoder.net, (8, 8, 8), (-1000, 1000))
    message = "block 7 sees the volume as one token.* Try an earlier layer"
    with pytest.raises(ValueError, match=message):
        attend.volume_map(small, ct, method="attention")
    mixed = swin()
    # as where MONAI's Hyena stands in for attention
    mixed.net.layers1[0].blocks[0] = nn.Identity()
    message = "expected a MONAI ViT or Swin for rollout, got swin .SwinTransformer"
    with pytest.raises(ValueError, match=message):
        attend.volume_map(mixed, ct, method="rollout")
    mixed = swin()
    mixed.net.layers2[0].downsample = Every()
    message = "expected MONAI's PatchMerging, got Every. Try a later layer"
    with pytest.raises(ValueError, match=message):
        attend.volume_map(mixed, ct, method="rollout")
    assert attend.volume_map(mixed, ct, method="rollout", layer=4).values.std() > 0
