"""rw.attend against independent references.

torch's own attention weights, captum, transcriptions of the papers.
"""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import nn
from towers import TEXTS, open_clip_model, timm_model, tiny_clip

from radwb import attend, models
from radwb.data import Scan
from radwb.stats import format_interval


@pytest.fixture(scope="module")
def clip():
    model = tiny_clip()
    model.net.visual.pool_type = "tok"  # as most CLIPs have it
    return model


@pytest.fixture(scope="module")
def scans():
    rng = np.random.default_rng(0)
    return [
        Scan(rng.random((70, 50)).astype(np.float32)),
        Scan(rng.random((40, 64)).astype(np.float32)),
    ]


# ---- the capture


def own_attention(model, x):
    """Layer by layer through open_clip's tower, the weights asked from
    nn.MultiheadAttention itself.
    """
    tower, weights = model.net.visual, []
    tokens = tower._embeds(x)
    for block in tower.transformer.resblocks:
        h = block.ln_1(tokens)
        weights.append(
            block.attn(h, h, h, need_weights=True, average_attn_weights=False)[1]
        )
        tokens = block(tokens)
    return torch.stack(weights)


def test_captured_attention_is_what_multihead_attention_reports(clip, scans):
    x = clip.preprocess(scans)
    seen = attend.capture(clip, x)
    assert seen["attention"].shape == (3, 2, 3, 17, 17)
    assert torch.allclose(seen["attention"], own_attention(clip, x), atol=1e-6)
    assert torch.allclose(seen["attention"].sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(seen["output"], clip.encode_image(x), atol=1e-6)
    assert "gradients" not in seen


def test_captured_tokens_are_the_blocks_outputs(clip, scans):
    x = clip.preprocess(scans)
    want = clip.net.visual.forward_intermediates(
        x, output_fmt="NLC", output_extra_tokens=True
    )
    seen = attend.capture(clip, x)
    for i in range(3):
        full = torch.cat(
            [want["image_intermediates_prefix"][i], want["image_intermediates"][i]], 1
        )
        assert torch.allclose(seen["tokens"][i], full, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_timm_attention_equals_its_own_unfused_formula(vit, scans, fused):
    x = vit.preprocess(scans)
    for block in vit.net.blocks:
        block.attn.fused_attn = fused
    noted, block = [], vit.net.blocks[1]
    hook = block.attn.register_forward_pre_hook(lambda _, args: noted.append(args[0]))
    vit.net(x)
    hook.remove()
    q, k, _ = block.attn.qkv(noted[0]).reshape(2, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)
    want = (q @ k.transpose(-2, -1) / 8).softmax(-1)
    seen = attend.capture(vit, x)
    assert torch.allclose(seen["attention"][1], want, atol=1e-6)
    assert torch.allclose(seen["output"], vit.net(x), atol=1e-5)
    assert all(b.attn.fused_attn is fused for b in vit.net.blocks)


def test_gradients_are_those_of_a_finite_difference(clip, scans):
    model = models.Model(**{**vars(clip), "net": clip.net.double()})
    x = clip.preprocess(scans).double()
    seen = attend.capture(model, x, target=("right pleural effusion", "cardiomegaly"))
    step, block = 1e-4, model.net.visual.transformer.resblocks[1]
    text = model.encode_text(["right pleural effusion", "cardiomegaly"])

    def score(change):  # image 0, layer 1, head 2, from the class token to token 5
        def forward(q, k, v, **_):
            H = F.linear(q, block.attn.in_proj_weight, block.attn.in_proj_bias).reshape(
                2, 17, 3, 3, 16
            )
            q, k, v = H.permute(2, 0, 3, 1, 4)
            a = (q @ k.mT / 4).softmax(-1)
            a[0, 2, 0, 5] += change
            return (block.attn.out_proj((a @ v).transpose(1, 2).reshape(2, 17, 48)),)

        block.attn.forward = forward
        try:
            return float((model.encode_image(x) @ (text[0] - text[1]))[0])
        finally:
            del block.attn.forward

    with torch.no_grad():
        want = (score(step) - score(-step)) / (2 * step)
        assert seen["score"][0] == pytest.approx(score(0.0), rel=1e-5)
    clip.net.float()
    assert float(seen["gradients"][1, 0, 2, 0, 5]) == pytest.approx(want, rel=1e-4)
    assert seen["gradients"][1, 1, 2, 0, 5] != 0  # every image has its own


def state_of(model):
    modules = [
        (
            m.training,
            getattr(m, "fused_attn", None),
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
        )
        for m in model.net.modules()
    ]
    params = [
        (p.requires_grad, p.grad, p._version)
        for p in (*model.net.parameters(), *model.net.buffers())
    ]
    return (
        modules,
        params,
        F.scaled_dot_product_attention,
        torch.backends.mha.get_fastpath_enabled(),
    )


@pytest.mark.parametrize("method", attend.METHODS)
@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_comes_back_as_it_was_even_after_an_exception(
    clip, scans, method, breaks
):
    clip.net.train()
    clip.net.visual.conv1.requires_grad_(False)
    before, last = state_of(clip), clip.net.visual.transformer.resblocks[-1].mlp

    def fail(*_):
        raise KeyError("planted")

    hook = last.register_forward_hook(fail) if breaks else None
    try:
        if breaks:
            with pytest.raises(KeyError, match="planted"):
                attend.attention_map(
                    clip, scans[0], method=method, target="cardiomegaly"
                )
            hook.remove()
        else:
            attend.attention_map(clip, scans[0], method=method, target="cardiomegaly")
        assert state_of(clip) == before
    finally:
        clip.net.eval().requires_grad_(True)


def test_a_capture_that_is_not_what_the_model_computed_fails(clip, scans, monkeypatch):
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda q, k, v, *a, **o: 1.001 * fused(q, k, v, *a, **o),
    )
    with pytest.raises(
        RuntimeError, match="block 0.*expected a difference under 1e-05"
    ):
        attend.capture(clip, clip.preprocess(scans))


def test_a_tower_whose_attention_cannot_be_seen_fails(clip, scans, monkeypatch):
    def hidden(q, k, v, **_):
        return (q,)

    monkeypatch.setattr(
        clip.net.visual.transformer.resblocks[1].attn, "forward", hidden
    )
    with pytest.raises(RuntimeError, match="can be captured in block 1 .*, got none"):
        attend.capture(clip, clip.preprocess(scans))


def test_another_thread_does_not_end_up_in_the_capture(clip, scans):
    got = []
    q = torch.rand(2, 1, 5, 4)
    block = clip.net.visual.transformer.resblocks[1]

    def disturb(*_):
        thread = threading.Thread(
            target=lambda: got.append(F.scaled_dot_product_attention(q, q, q))
        )
        thread.start()
        thread.join()

    hook = block.attn.register_forward_pre_hook(disturb)
    seen = attend.capture(clip, clip.preprocess(scans))
    hook.remove()
    assert torch.equal(got[-1], F.scaled_dot_product_attention(q, q, q))
    assert seen["attention"].shape[-1] == 17


def test_attention_outside_of_the_blocks_is_not_captured(scans):
    pooled = timm_model(
        "vit_tiny_patch16_224",
        img_size=64,
        depth=2,
        global_pool="map",
        class_token=False,
    )
    assert attend.capture(pooled, pooled.preprocess(scans))["attention"].shape == (
        2,
        2,
        3,
        16,
        16,
    )


# ---- the methods


def test_rollout_of_two_layers_and_two_tokens_by_hand():
    one = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    two = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    attention = torch.stack([one, two])[:, None]  # (L, heads, T, T)
    # steps: [[.5, .5], [.25, .75]] and [[1, 0], [.5, .5]]; second times first
    want = torch.tensor([[0.5, 0.5], [0.375, 0.625]])
    assert torch.allclose(attend.rollout(attention), want)
    assert torch.allclose(
        attend.rollout(attention, rows=torch.tensor([[0.5, 0.5]])),
        want.mean(0, keepdim=True),
    )


def paper_rollout(attention):
    """Abnar and Zuidema 2020, eq. 1 for one image in numpy: A = 0.5 W + 0.5 I; A~(l) =
    A(l) A~(l-1).
    """
    result = None
    for W in attention:
        A = 0.5 * W.mean(0) + 0.5 * np.eye(W.shape[-1])
        A = A / A.sum(1)[:, None]
        result = A if result is None else A @ result
    return result


def test_rollout_equals_the_papers_formula_and_rows_sum_to_one(clip, scans):
    attention = attend.capture(clip, clip.preprocess(scans))["attention"]
    got = attend.rollout(attention)
    for b in range(2):
        assert np.allclose(got[b], paper_rollout(attention[:, b].numpy()), atol=1e-6)
    assert torch.allclose(got.sum(-1), torch.ones(()), atol=1e-5)


def paper_relevance(attention, gradients, start):
    """Chefer et al. 2021, the released loop for one image: R = I; R = R + avg_h((grad *
    A)+) R, layer by layer.
    """
    T = attention.shape[-1]
    R = np.eye(T)
    for layer in range(start, len(attention)):
        cam = np.zeros((T, T))
        for head in range(attention.shape[1]):
            cam += (
                np.maximum(gradients[layer, head] * attention[layer, head], 0)
                / attention.shape[1]
            )
        R = R + cam @ R
    return R


@pytest.mark.parametrize("start", [0, 1, 2])
def test_relevance_equals_the_reference_loop(clip, scans, start):
    seen = attend.capture(clip, clip.preprocess(scans), target=TEXTS[0], first=start)
    maps = attend.attention_maps(
        clip, scans, method="relevance", targets=TEXTS[0], layer=start
    )
    got = attend.relevance(seen["attention"][start:], seen["gradients"][start:])
    full = attend.capture(clip, clip.preprocess(scans), target=TEXTS[0])
    for b in range(2):
        want = paper_relevance(
            full["attention"][:, b].numpy(), full["gradients"][:, b].numpy(), start
        )
        assert np.allclose(got[b], want, atol=1e-6)
        grid = want[0, 1:].reshape(4, 4).astype(np.float32)
        assert np.allclose(
            maps[b].values,
            attend.maps.to_scan(grid, scans[b].shape, fit="pad"),
            rtol=1e-4,
        )


def test_relevance_of_a_tower_that_averages_is_what_its_patches_gathered(
    clip, scans, monkeypatch
):
    monkeypatch.setattr(clip.net.visual, "pool_type", "avg")
    seen = attend.capture(clip, clip.preprocess(scans), target=TEXTS[0])
    maps = attend.attention_maps(clip, scans, method="relevance", targets=TEXTS[0])
    for b, (m, scan) in enumerate(zip(maps, scans, strict=True)):
        R = paper_relevance(
            seen["attention"][:, b].numpy(), seen["gradients"][:, b].numpy(), 0
        )
        grid = (R - np.eye(17))[1:, 1:].mean(0).reshape(4, 4).astype(np.float32)
        assert np.allclose(
            m.values,
            attend.maps.to_scan(grid, scan.shape, fit="pad"),
            rtol=1e-3,
            atol=1e-7,
        )


def captum_gradcam(net, layer, x, **target):
    return (
        LayerGradCam(net, layer)
        .attribute(x, relu_attributions=True, **target)[:, 0]
        .detach()
    )


def test_gradcam_of_a_cnn_equals_captum(cnn, scans):
    want = captum_gradcam(
        cnn.net, cnn.net.layer4, cnn.preprocess(scans), target=0
    ).numpy()
    maps = attend.attention_maps(cnn, scans, method="gradcam", targets="a")
    assert want.max() > 0
    for m, grid, scan in zip(maps, want, scans, strict=True):
        assert np.allclose(
            m.values, attend.maps.to_scan(grid, scan.shape, fit="pad"), atol=1e-7
        )
        assert m.layer is None


class Tail(nn.Module):
    """The last block of open_clip's tower on a (B, D, 4, 4) grid, so that captum sees a
    feature map.
    """

    def __init__(self, model):
        super().__init__()
        self.tower = model.net.visual
        self.text = model.encode_text([TEXTS[0]]).detach()[0]
        self.grid = nn.Identity()

    def forward(self, tokens):
        grid = self.grid(tokens[:, 1:].mT.unflatten(-1, (4, 4)))
        tokens = torch.cat([tokens[:, :1], grid.flatten(2).mT], 1)
        pooled, _ = self.tower._pool(self.tower.transformer.resblocks[-1](tokens))
        return F.normalize(pooled @ self.tower.proj, dim=-1) @ self.text


def test_gradcam_of_a_vit_equals_captum_on_the_last_blocks_input(clip, scans):
    tail = Tail(clip)
    tokens = attend.capture(clip, clip.preprocess(scans))["tokens"][-2]
    want = captum_gradcam(tail, tail.grid, tokens).numpy()
    maps = attend.attention_maps(clip, scans, method="gradcam", targets=TEXTS[0])
    assert want.max() > 0
    for m, grid, scan in zip(maps, want, scans, strict=True):
        assert np.allclose(
            m.values, attend.maps.to_scan(grid, scan.shape, fit="pad"), atol=1e-7
        )


def test_raw_attention_is_the_class_tokens_row_of_the_layer_and_head(clip, scans):
    attention = own_attention(clip, clip.preprocess(scans[:1]))[:, 0].detach().numpy()
    for layer, head, want in [
        (None, None, attention[-1].mean(0)),
        (0, 2, attention[0, 2]),
        (-2, 1, attention[1, 1]),
    ]:
        m = attend.attention_map(
            clip, scans[0], method="attention", layer=layer, head=head
        )
        grid = want[0, 1:].reshape(4, 4)
        assert np.allclose(
            m.values, attend.maps.to_scan(grid, scans[0].shape, fit="pad"), atol=1e-6
        )
        number = 2 if layer is None else layer % 3
        assert (m.layer, m.head, m.target) == (number, head, None)


def test_a_tower_that_averages_its_patches_is_read_at_its_patches(scans):
    model = timm_model(
        "vit_tiny_patch16_224",
        img_size=64,
        depth=2,
        global_pool="avg",
        class_token=False,
    )
    attention = attend.capture(model, model.preprocess(scans[:1]))["attention"]
    m = attend.attention_map(model, scans[0], method="attention")
    grid = attention[-1, 0].mean(0).mean(0).reshape(4, 4).numpy()
    assert np.allclose(
        m.values, attend.maps.to_scan(grid, scans[0].shape, fit="pad"), atol=1e-6
    )


def test_a_batch_with_a_target_each_gives_what_one_by_one_gives(clip, scans):
    targets = [TEXTS[0], (TEXTS[2], TEXTS[1])]
    for method in attend.METHODS:
        together = attend.attention_maps(clip, scans, method=method, targets=targets)
        small = attend.attention_maps(
            clip, scans, method=method, targets=targets, batch=1
        )
        for a, b, scan, target in zip(together, small, scans, targets, strict=True):
            alone = attend.attention_map(clip, scan, method=method, target=target)
            assert np.allclose(a.values, alone.values, atol=1e-6)
            assert np.allclose(b.values, alone.values, atol=1e-6)
            assert a.values.shape == scan.shape
            assert a.values.dtype == np.float32


def test_the_words_change_the_map_of_the_methods_that_read_them(clip, scans):
    for method in attend.METHODS:
        reads = method not in ("attention", "rollout", "flow", "value_norm")
        a, b = (
            attend.attention_map(clip, scans[0], method=method, target=t).values
            for t in (TEXTS[0], TEXTS[2])
        )
        assert np.allclose(a, b, rtol=1e-3, atol=1e-9) is not reads


# ---- in the scan's own pixels


class Bright(nn.Module):
    """A tower whose class token attends to bright patches and nothing else."""

    def __init__(self, side=16):
        super().__init__()
        self.side = side
        self.blocks = nn.ModuleList([BrightBlock()])
        self.scale = nn.Parameter(torch.ones(()))

    def encode_image(self, x):
        patches = F.avg_pool2d(x, self.side).flatten(2).mT * self.scale  # (B, T, 1)
        tokens = torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)
        # (B, 2): its direction tells the brightness
        return F.pad(self.blocks[0](tokens)[:, 0], (0, 1), value=1.0)


class BrightBlock(nn.Module):
    num_heads = 1

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.proj.weight)

    def forward(self, x):
        q, k = 20 * torch.ones_like(x), x
        return self.proj(
            F.scaled_dot_product_attention(q[:, None], k[:, None], x[:, None])[:, 0]
        )


def seer(fit):
    model = models.Model(
        Bright(), "bright", "image-text", 160, 1, (0.0,), (1.0,), fit, (10, 10)
    )
    model.encode_text = lambda texts: torch.tensor([[1.0, 0.0]]).expand(len(texts), -1)
    return model


# Bright has no joint space
@pytest.mark.parametrize("method", [m for m in attend.METHODS if m != "similarity"])
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("centre", [(90, 120), (150, 200), (61, 241)])
def test_a_bright_square_is_found_where_it_was_put_to_half_a_patch(method, fit, centre):
    H = 200
    W = 320
    side = 13
    y, x = centre
    pixels = np.full((H, W), 0.02, np.float32)
    pixels[y - side // 2 : y + side // 2 + 1, x - side // 2 : x + side // 2 + 1] = 1
    m = attend.attention_map(seer(fit), Scan(pixels), method=method, target="bright")
    peak = np.unravel_index(m.values.argmax(), m.values.shape)
    # the gradient of a patch's mean is the same in all its pixels: the middle of them
    if method == "smoothgrad":
        peak = np.argwhere(m.values > 0.99 * m.values.max()).mean(0)
    # px of the scan
    patch = {"pad": (32, 32), "crop": (20, 20), "squash": (20, 32)}[fit]
    assert m.values.shape == (H, W)
    assert abs(peak[0] - y) <= patch[0] / 2 + 0.5
    assert abs(peak[1] - x) <= patch[1] / 2 + 0.5


# ---- clear answers


def test_a_cnn_has_no_method_of_attention_and_says_so(cnn, scans):
    for method in ("attention", "value_norm", "rollout", "flow", "relevance"):
        with pytest.raises(ValueError, match="resnet10t .*without attention.*gradcam"):
            attend.attention_map(cnn, scans[0], method=method, target="a")
    with pytest.raises(ValueError, match="without attention"):
        attend.capture(cnn, cnn.preprocess(scans))


def test_a_pyramid_of_windows_is_refused_not_misread(scans):
    options = dict(
        img_size=64,
        window_size=2,
        embed_dim=12,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
    )
    swin = timm_model("swin_tiny_patch4_window7_224", **options)
    swin.grid = (2, 2)
    asked_from_outside = ("integrated_gradients", "smoothgrad", "occlusion", "rise")
    # of its own last map: see test_towers
    asked_from_outside += ("gradcam", "gradcam++", "layercam")
    for method in (m for m in attend.METHODS if m not in asked_from_outside):
        with pytest.raises(ValueError, match="without attention|image-text"):
            attend.attention_map(swin, scans[0], method=method, target="a")
    for method in asked_from_outside:
        maps = [
            attend.attention_map(swin, scans[0], method=method, target=t) for t in "ab"
        ]
        assert max(m.values.max() for m in maps) > 0


def test_modified_resnet_of_open_clip_has_gradcam(scans):
    tower = {"layers": (1, 1, 1, 1), "width": 16, "head_width": 16, "image_size": 96}
    model = open_clip_model(grid=(3, 3), size=96, **tower)
    m = attend.attention_map(
        model,
        scans[0],
        method="gradcam",
        target=("cardiomegaly", "no pleural effusion"),
    )

    class Score(nn.Module):
        def forward(self, x):
            text = model.encode_text(["cardiomegaly", "no pleural effusion"]).detach()
            return model.encode_image(x) @ (text[0] - text[1])

    x = model.preprocess(scans[:1])
    grid = captum_gradcam(Score(), model.net.visual.layer4, x)[0].numpy()
    want = attend.maps.to_scan(grid, scans[0].shape, fit="pad")
    assert np.allclose(m.values, want, atol=1e-7)
    with pytest.raises(ValueError, match="gradcam"):
        attend.attention_map(model, scans[0], method="rollout")


@pytest.mark.parametrize(
    ("tower", "question", "words"),
    [
        ("clip", {"method": "magic"}, "method of .*got 'magic'"),
        ("clip", {"method": "relevance"}, "expected a target, got None"),
        ("clip", {"target": "x", "head": 1}, "takes all heads"),
        ("clip", {"target": 3.0}, "phrase or a pair .*got 3.0"),
        ("clip", {"target": 32}, "neuron from 0 to 31 .*got 32"),
        ("clip", {"target": "x", "method": "rise", "layer": 1}, "asks the whole net"),
        (
            "cnn",
            {"method": "gradcam", "target": "a", "layer": 0},
            "expected layer=None",
        ),
        ("vit", {"target": "c"}, r"one of \['a', 'b'\] or its index.*got 'c'"),
        ("vit", {"target": 2}, "got 2"),
    ],
)
def test_a_question_that_makes_no_sense_gets_a_clear_answer(
    tower, question, words, scans, request
):
    model = request.getfixturevalue(tower)
    with pytest.raises(ValueError, match=words):
        attend.attention_map(model, scans[0], **question)


def test_too_few_targets_or_patches_or_layers_get_a_clear_answer(clip, scans):
    with pytest.raises(ValueError, match="target for each of 2 scans, got 1"):
        attend.attention_maps(clip, scans, targets=["x"])
    one_patch = SimpleNamespace(**{**vars(clip), "grid": (1, 1), "name": "one"})
    with pytest.raises(ValueError, match="one sees the scan as one patch"):
        attend.attention_map(one_patch, scans[0], method="rollout")
    with pytest.raises(IndexError):
        attend.attention_map(clip, scans[0], method="attention", layer=3)


def test_a_class_is_asked_by_name_or_index(vit, scans):
    by_name, by_index = (
        attend.attention_map(vit, scans[0], target=t).values for t in ("B", 1)
    )
    assert np.array_equal(by_name, by_index)


# ---- scores


def test_scores_of_a_map_computed_by_hand():
    values = np.array([[0, 1, 0, 0], [3, 2, 0, 2]], float)
    mask = np.array([[0, 0, 0, 0], [1, 1, 0, 0]], bool)
    got = attend.score_map(values, mask)
    inside, outside = np.array([3, 2]), np.array([0, 1, 0, 0, 0, 2])
    assert got["hit"] == 1
    assert got["area"] == 0.25
    assert got["energy"] == 5 / 8
    # two pixels of mask, cut at the second highest value, 2, which three pixels reach
    assert got["iou"] == 2 / 3
    assert got["cnr"] == pytest.approx((2.5 - 0.5) / np.sqrt(0.25 + outside.var()))
    assert inside.var() == 0.25
    assert attend.score_map(values, mask, threshold=2.5)["iou"] == 1 / 2
    assert attend.score_map(values, ~mask)["hit"] == 0


def test_a_peak_next_to_the_mask_is_a_hit_only_within_the_tolerance():
    values, mask = np.zeros((9, 9)), np.zeros((9, 9), bool)
    values[4, 4], mask[4, 7] = 1, True
    assert [
        attend.score_map(values, mask, tolerance_px=t)["hit"] for t in (0, 2.9, 3)
    ] == [0, 0, 1]


@pytest.mark.parametrize("height", [0.0, 0.7])
def test_a_constant_map_scores_what_chance_gives(height):
    mask = np.zeros((10, 10), bool)
    mask[:3, :4] = True
    got = attend.score_map(np.full((10, 10), height), mask)
    assert got == pytest.approx(
        {
            "hit": 0.12,
            "iou": 0.12,
            "cnr": 0,
            "energy": 0.12,
            "auprc": 0.12,
            "area": 0.12,
        }
    )


def test_scores_refuse_an_empty_mask_another_shape_and_nan():
    ones = np.ones((4, 4))
    for values, mask, words in [
        (ones, np.zeros((4, 4), bool), "empty"),
        (ones, np.ones((4, 5), bool), r"\(4, 4\) and \(4, 5\)"),
        (ones * np.nan, np.ones((4, 4), bool), "16 that are not"),
    ]:
        with pytest.raises(ValueError, match=words):
            attend.score_map(values, mask)


def test_random_maps_hit_and_hold_as_much_as_the_area():
    mask = np.zeros((40, 60), bool)
    mask[:15, :20] = (
        True  # an eighth, in the corner, where a filter that doesn't wrap is biased
    )
    maps = [attend.blind.random_map(mask.shape, seed) for seed in range(2000)]
    scores = attend.score.score_maps(maps, [mask] * 2000, groups=range(2000))
    assert scores.low["hit"] < 0.125 < scores.high["hit"]
    assert scores["mean"]["energy"] == pytest.approx(0.125, abs=0.01)
    assert np.array_equal(maps[3], attend.blind.random_map(mask.shape, 3))


def test_the_centre_map_peaks_in_the_centre_on_any_aspect():
    m = attend.blind.centre_map((41, 81))
    assert np.unravel_index(m.argmax(), m.shape) == (20, 40)


def test_intervals_are_of_patients_not_maps():
    hit, miss = np.array([[2.0, 1.0, 0.0]]), np.array([[0.0, 1.0, 2.0]])
    mask = np.array([[True, False, False]])
    maps = [hit] * 50 + [miss] * 50
    patients = attend.score.score_maps(
        maps, [mask] * 100, groups=np.repeat(range(10), 10)
    )
    images = attend.score.score_maps(maps, [mask] * 100, groups=np.arange(100))
    assert patients.loc["hit", "mean"] == 0.5
    assert patients.loc["hit", "patients"] == 10
    # a binomial of 10 has the standard error 0.16
    assert patients.loc["hit", "high"] - patients.loc["hit", "low"] > 2 * 1.96 * 0.14
    two = attend.score.score_maps(maps, [mask] * 100, groups=np.repeat([0, 1], 50))
    assert format_interval(two.loc["hit"], "mean") == "0.50 (no interval: 2 patients)"
    # a binomial of 100 has the standard error 0.05
    assert images.loc["hit", "high"] - images.loc["hit", "low"] == pytest.approx(
        2 * 1.96 * 0.05, rel=0.15
    )


def test_when_every_patient_is_a_hit_the_interval_is_wilsons():
    mask = np.array([[True, False, False]])
    got = attend.score.score_maps(
        [np.array([[2.0, 1.0, 0.0]])] * 10, [mask] * 10, groups=range(10)
    ).loc["hit"]
    assert got["low"] == pytest.approx(10 / (10 + 1.959964**2))
    assert got["high"] == pytest.approx(1)
