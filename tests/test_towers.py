"""Grad-CAM of timm's families and attention pools against autograd by hand.

Feature maps that lie otherwise.
"""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn
from towers import small_clip, timm_model

import radwb as rw
from radwb import attend
from radwb.attend import layout, maps
from radwb.attend.methods import formulas
from radwb.attend.tower import forward, has_attention
from radwb.data import Scan, Volume

# what gives the last map of each family, and what takes its axes to (B, C, h, w)
NCHW = {
    "resnet10t": "layer4",
    "convnext_atto": "stages",
    "efficientnet_b0": "bn2",
    "poolformer_s12": "stages",
    "edgenext_xx_small": "stages",
    "fastvit_t8": "final_conv",
    "pvt_v2_b0": "stages",
    "mobilevit_xxs": "final_conv",
    "tiny_vit_5m_224": "stages",
}
NHWC = {"swin_tiny_patch4_window7_224": "norm", "nest_tiny": "norm"}
TOKENS = {
    "mvitv2_tiny": "norm",
    "twins_svt_small": "norm",
    "hiera_tiny_224": "blocks.11",
    "levit_128s": "stages",
}
REFUSED = {
    "coat_tiny": "several scales",
    "crossvit_tiny_240": "that all of its output passes through",
}
SLOW_NCHW = {
    "davit_tiny": "stages",
    "focalnet_tiny_srf": "norm",
    "gcvit_xxtiny": "stages",
    "densenet121": "features",
    "regnetx_002": "final_conv",
    "repvit_m1": "stages",
    "coatnet_pico_rw_224": "norm",
    "efficientformerv2_s0": "norm",
    "inception_v3": "Mixed_7c",
    "hrnet_w18_small": "final_layer",
    "vgg11": "features",
    "swinv2_cr_tiny_224": "stages",
}


@pytest.fixture(scope="module")
def scan():
    return Scan(np.random.default_rng(0).random((90, 70)).astype(np.float32))


def loaded(name):
    torch.manual_seed(0)
    model = rw.models.load(f"timm:{name}")
    return model


def by_hand(model, module, x, lay):
    leaves = []

    def keep(_, __, out):
        leaves.append(out.detach().requires_grad_())
        return leaves[0].clone()

    hook = model.net.get_submodule(module).register_forward_hook(keep)
    score = forward(model, x)[0, 3]
    hook.remove()
    gradient = torch.autograd.grad(score, leaves[0])[0]
    return formulas.gradcam(lay(leaves[0].detach()), lay(gradient))[0]


def agree(name, module, lay, scan):
    model = loaded(name)
    x = model.preprocess(scan)
    want = by_hand(model, module, x, lay)
    got = maps.grids(model, x, "gradcam", [[3]])[0, 0]
    assert tuple(got.shape) == tuple(model.grid) == tuple(want.shape)
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-5 * float(want.max()) + 1e-12)


def tokens_first(t):
    side = round(t.shape[1] ** 0.5)
    return t.mT.unflatten(-1, (side, side))


FAST = (
    "resnet10t",
    "convnext_atto",
    "edgenext_xx_small",
    "pvt_v2_b0",
    "mobilevit_xxs",
    "tiny_vit_5m_224",
)


@pytest.mark.parametrize("name", FAST)
def test_gradcam_weighs_the_last_map_of_networks_with_channels_first(name, scan):
    agree(name, NCHW[name], lambda t: t, scan)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "module"), (NCHW | SLOW_NCHW).items())
def test_gradcam_weighs_the_last_map_of_more_families(name, module, scan):
    agree(name, module, lambda t: t, scan)


@pytest.mark.parametrize(("name", "module"), NHWC.items())
def test_gradcam_weighs_the_last_map_of_networks_with_channels_last(name, module, scan):
    agree(name, module, lambda t: t.permute(0, 3, 1, 2), scan)


@pytest.mark.parametrize(("name", "module"), TOKENS.items())
def test_gradcam_weighs_the_last_tokens_of_pyramids(name, module, scan):
    agree(name, module, tokens_first, scan)


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_a_tower_read_at_several_scales_is_refused_by_name(name, words, scan):
    model = loaded(name)
    with pytest.raises(ValueError, match=f"{name}.*{words}|{words}"):
        maps.grids(model, model.preprocess(scan), "gradcam", [[3]])


def test_a_pyramid_of_plain_attention_isnt_taken_for_a_vit():
    model = rw.models.load("timm:hiera_tiny_224")
    assert not has_attention(model)


# ---- how a map lies


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_a_layout_undoes_any_turn_and_flip(order, flip):
    def run(x):
        turned = x.permute(0, 1, *[n + 2 for n in order])
        turned = turned.flip([n + 2 for n in flip]) if flip else turned
        return nn.functional.avg_pool3d(turned, 4)

    x = torch.rand(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    along = layout.layout(run, x, "a map")
    want = nn.functional.avg_pool3d(x, 4)
    assert torch.allclose(along.laid(run(x)), want, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "axes"),
    [
        ((5, 5, 3, 24), (20, 20, 12), [3]),
        ((24, 3, 5, 5), (20, 20, 12), [0]),  # turned: its sizes still are those
        ((2, 2, 1, 96), (20, 20, 12), [3]),
        ((8, 8, 8), (64, 64), [0, 1, 2]),
        ((16, 16, 4, 4), (32, 16, 8), []),
    ],
)
def test_sizes_name_the_channels_where_all_sides_shrank_alike(shape, size, axes):
    assert layout.channel_axes(shape, size) == axes


def test_channels_that_prefer_a_half_arent_taken_for_a_place():
    noise = torch.randn(1, 3, 5, 5, 24, generator=torch.Generator().manual_seed(1))

    def run(x):
        small = nn.functional.avg_pool3d(x, 4)[:, 0, ..., None]  # (1, 5, 5, 3, 1)
        half = torch.linspace(0, 1, 24) ** 4 * (x[..., 6:].mean() - x[..., :6].mean())
        return 0.1 * small + half + 0 * noise.sum()

    x = torch.rand(1, 1, 20, 20, 12, generator=torch.Generator().manual_seed(0))
    assert layout.layout(run, x, "a map").axes == (1, 2, 3)


def test_a_map_that_forgot_where_is_refused():
    x = torch.rand(1, 1, 8, 8)
    with pytest.raises(
        ValueError, match="to follow a change of the input along its axis 0"
    ):
        layout.layout(lambda x: x.mean().expand(1, 3, 4, 4), x, "a map")


class Turned(nn.Module):
    """Brightness on a grid, by a network that turns its axes first."""

    def __init__(self, order, flip):
        super().__init__()
        self.order = order
        self.flip = flip
        self.pool = nn.AvgPool3d(4)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = x.permute(0, 1, *[n + 2 for n in self.order])
        x = x.flip([n + 2 for n in self.flip]) if self.flip else x
        return self.pool(x * self.weight)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_volumes_map_lies_on_the_lesion_however_the_network_turns_it(order):
    voxels = np.full((16, 16, 16), -1000, np.float32)
    voxels[0:4, 8:12, 12:16] = 1000
    net = attend.Net3d(
        Turned(order, (order[0],)), (16, 16, 16), (-1000, 1000), axes=None
    )
    m = attend.volume_map(net, Volume(voxels, np.eye(4)), target=0)
    peak = np.argwhere(m.values > 0.99 * m.values.max()).mean(0)
    assert np.abs(peak - [1.5, 9.5, 13.5]).max() < 2


# ---- attention pools


def pooled(**options):
    options = {
        "img_size": 64,
        "depth": 2,
        "class_token": False,
        "global_pool": "map",
    } | options
    model = timm_model("vit_tiny_patch16_224", **options)
    model.net.attn_pool.latent.data *= 30
    return model


def pool_rows(net, tokens):
    """(B, heads, 1, T) as AttentionPoolLatent's own unfused code has it."""
    pool, (B, T, _) = net.attn_pool, tokens.shape
    k, _ = (
        pool.kv(tokens)
        .reshape(B, T, 2, pool.num_heads, pool.head_dim)
        .permute(2, 0, 3, 1, 4)
    )
    q = pool.q(pool.latent).reshape(1, 1, pool.num_heads, pool.head_dim).transpose(1, 2)
    return (pool.scale * q @ k.mT).softmax(-1)


def test_a_pools_own_row_is_the_attention_and_the_last_step_of_rollout(scan):
    model = pooled()
    x = model.preprocess(scan)
    with torch.no_grad():
        row = pool_rows(model.net, model.net.forward_features(x)).mean(1)  # (1, 1, T)
    seen = attend.capture(model, x)
    A = seen["attention"].mean(2)[:, 0]
    half = [0.5 * a + 0.5 * torch.eye(16) for a in A]
    got = {
        m: maps.grids(model, x, m, [[None]])[0, 0].flatten()
        for m in ("attention", "rollout")
    }
    assert row.std() > 1e-4
    assert torch.allclose(got["attention"], row[0, 0], atol=1e-6)
    assert torch.allclose(got["rollout"], (row[0] @ half[1] @ half[0])[0], atol=1e-6)
    earlier = maps.grids(model, x, "attention", [[None]], 0)[0, 0].flatten()
    assert torch.allclose(earlier, (row[0] @ A[0])[0], atol=1e-6)
    assert torch.allclose(seen["read"], row, atol=1e-6)


def test_relevance_through_a_pool_equals_autograd_by_hand(scan):
    model = pooled()
    x, weights = model.preprocess(scan), []
    for m in model.net.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False
    softmax = torch.Tensor.softmax

    def keep(self, *args, **options):
        weights.append(softmax(self, *args, **options))
        return weights[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "softmax", keep)
        score = model.classify(x)[0, 1]
    raised = [
        (a * g).clamp(min=0).mean(1)[0]
        for a, g in zip(weights, torch.autograd.grad(score, weights), strict=True)
    ]
    eye = torch.eye(16)
    want = raised[2] @ (eye + raised[1]) @ (eye + raised[0])  # (1, T)
    got = maps.grids(model, x, "relevance", [["b"]])[0, 0].flatten()
    assert want.max() > 0
    assert torch.allclose(got, want[0].detach(), rtol=1e-3, atol=1e-9)


def test_coca_is_read_at_the_query_that_it_reads(scan):
    model = small_clip(
        attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2
    )
    x = model.preprocess(scan)
    pool, entered = model.net.visual.attn_pool, []
    hook = pool.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    model.encode_image(x)
    hook.remove()
    with torch.no_grad():
        keys = pool.ln_k(entered[0])
        # (B, Q, T)
        _, want = pool.attn(pool.ln_q(pool.query)[None], keys, keys, need_weights=True)
    got = maps.grids(model, x, "attention", [[None]])[0, 0].flatten()
    assert torch.allclose(got, want[0, 0, 1:], atol=1e-6)


def test_what_has_no_meaning_for_a_pool_is_refused_by_name(scan):
    model = pooled()
    with pytest.raises(ValueError, match="value_norm: .*pools by attention"):
        attend.attention_map(model, scan, method="value_norm")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("xcit_nano_12_p16_224", "attention between the tokens .* between 32 others"),
        ("cait_xxs24_224", "attention that can be captured in block 0"),
    ],
)
def test_attention_that_isnt_between_patches_is_refused_in_words(name, words, scan):
    with pytest.raises(RuntimeError, match=f"expected {words}.*Try method="):
        attend.attention_map(loaded(name), scan, method="attention")


# ---- networks of one's own


class Own(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 4, 4), nn.ReLU())

    def features_of(self, x):
        return self(x).mean((2, 3))


def unknown_network(encode=None):
    torch.manual_seed(0)
    net = Own()
    if encode is not None:
        net.encode_image = encode(net)
    return rw.models.Model(net, "own", "image", 32, 1, (0.5,), (0.5,), "pad", (8, 8))


def test_a_network_of_ones_own_has_a_map(scan):
    model = unknown_network(lambda net: net.features_of)
    m = attend.attention_map(model, scan, method="gradcam", target=1)
    assert m.values.shape == scan.shape


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (None, "says its features, got Own without encode_image"),
        (
            lambda net: lambda x: (net.features_of(x), 1),
            r"features \(B, E\) of Own, got",
        ),
        (lambda net: lambda x: net(x), r"features \(B, E\) of Own, got"),
    ],
)
def test_a_network_that_gives_no_features_is_refused_in_words(encode, words, scan):
    with pytest.raises(ValueError, match=f"expected .*{words}"):
        attend.attention_map(unknown_network(encode), scan, method="gradcam", target=1)


# ---- nothing found


def test_a_map_without_positive_evidence_says_so_also_on_its_figure():
    net = nn.Sequential(nn.AvgPool3d(4), nn.ReLU())
    net.register_parameter("none", nn.Parameter(torch.zeros(1)))
    volume = Volume(np.full((8, 8, 8), -1000, np.float32), np.eye(4))
    net = attend.Net3d(net, (8, 8, 8), (-1000, 1000), axes=None)
    with pytest.warns(
        UserWarning, match="no positive evidence: gradcam is zero everywhere for 0"
    ):
        m = attend.volume_map(net, volume, target=0)
    assert m.values.max() == 0
    assert "no positive evidence" in m.note
    flat = attend.map.Map(
        np.zeros((8, 8), np.float32), "gradcam", target="x", note=m.note
    )
    figure = rw.show.overlay(Scan(np.zeros((8, 8), np.float32)), flat)
    assert "no positive evidence" in figure.to_json()
