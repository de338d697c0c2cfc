"""Which towers rw.attend can look into, and what it keeps of them.

Many targets at once, and answers at the edges.
"""

from dataclasses import replace
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from test_attend import seer
from torch import nn
from towers import TEXTS, open_clip_model, small_clip, timm_model

from radwb import attend, data, models
from radwb.attend.methods import TABLE, Method, perturb
from radwb.attend.methods.gradients import _pixel_gradients
from radwb.attend.targets import directions
from radwb.data import Scan

# the modules; their functions have the same name
look = import_module("radwb.attend.capture")
ways = import_module("radwb.attend.methods.attention")


def biomed_clip(name="vit_tiny_patch16_224", pool="", proj="linear", size=64):
    """A timm trunk in open_clip, as BiomedCLIP has it, cut to two blocks."""
    model = open_clip_model(
        timm_model_name=name,
        timm_pool=pool,
        timm_proj=proj,
        timm_model_pretrained=False,
        layers=2,
    )
    tower = model.net.visual
    tower.set_input_size((size, size))
    tower.trunk.blocks = tower.trunk.blocks[:2]
    model.size, model.grid = size, tuple(tower.trunk.patch_embed.grid_size)
    return model


def monai_vit(**options):
    torch.manual_seed(0)
    net = ViT(
        1,
        (64, 64),
        (16, 16),
        hidden_size=32,
        mlp_dim=64,
        num_layers=2,
        num_heads=2,
        spatial_dims=2,
        classification=True,
        num_classes=2,
        **options,
    )
    for block in net.blocks:  # its own start has nearly even attention
        block.attn.qkv.weight.data *= 8
    return models.Model(
        net, "monai", "image", 64, 1, (0.5,), (0.5,), "pad", (4, 4), findings=["a", "b"]
    )


@pytest.fixture(scope="module")
def scans():
    rng = np.random.default_rng(0)
    return [
        Scan(rng.random((70, 50)).astype(np.float32)),
        Scan(rng.random((40, 64)).astype(np.float32)),
    ]


# ---- towers


def own_weights(model, x, dropout):
    """What the library's own, unfused code hands to its dropout of attention: the
    weights, block by block.
    """
    weights = []
    hooks = [
        m.register_forward_hook(lambda _, args, out: weights.append(args[0]))
        for name, m in model.net.named_modules()
        if name.endswith(dropout)
    ]
    for m in model.net.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False
    with torch.no_grad():
        output = model.classify(x) if model.findings else model.encode_image(x)
    for hook in hooks:
        hook.remove()
    return torch.stack(weights), output[0] if isinstance(output, tuple) else output


TOWERS = {
    "class token": (
        lambda: timm_model("vit_tiny_patch16_224", img_size=64, depth=2),
        "attn_drop",
    ),
    "registers": (
        lambda: timm_model(
            "vit_small_patch14_reg4_dinov2", img_size=56, size=56, depth=2
        ),
        "attn_drop",
    ),
    "relative position": (
        lambda: timm_model("vit_relpos_small_patch16_224", img_size=64, depth=2),
        "attn_drop",
    ),
    "relative position and class token": (
        lambda: timm_model(
            "vit_relpos_base_patch16_clsgap_224",
            img_size=64,
            depth=2,
            embed_dim=96,
            num_heads=2,
        ),
        "attn_drop",
    ),
    "rotary position": (
        lambda: timm_model("eva02_tiny_patch14_224", img_size=56, size=56, depth=2),
        "attn_drop",
    ),
    "timm in open_clip": (biomed_clip, "attn_drop"),
    "MONAI": (monai_vit, "drop_weights"),
    "MONAI with dropout": (lambda: monai_vit(dropout_rate=0.2), "drop_weights"),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_a_tower_is_seen_as_its_own_unfused_code_sees_it(scans, tower):
    make, dropout = TOWERS[tower]
    model = make()
    x = model.preprocess(scans)
    want, output = own_weights(model, x, dropout)
    before = [
        (
            m.training,
            getattr(m, "use_flash_attention", None),
            getattr(m, "dropout_rate", None),
        )
        for m in model.net.modules()
    ]
    seen = attend.capture(model, x)
    assert want.std(-1).max() > 1e-3
    assert torch.allclose(seen["attention"], want, atol=1e-5)
    assert torch.allclose(seen["output"], output, atol=1e-4)
    after = [
        (
            m.training,
            getattr(m, "use_flash_attention", None),
            getattr(m, "dropout_rate", None),
        )
        for m in model.net.modules()
    ]
    assert after == before
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in model.net.modules()
    )


def test_open_clips_own_attention_is_seen_through_its_norms(scans):
    # its blocks then hold open_clip's Attention, as its next release does always
    model = small_clip(qk_norm=True)
    seen = attend.capture(model, model.preprocess(scans))
    block, D = model.net.visual.transformer.resblocks[1], 32
    with torch.no_grad():
        h = nn.functional.linear(
            block.ln_1(seen["tokens"][0]),
            block.attn.in_proj_weight,
            block.attn.in_proj_bias,
        )
        q, k = (
            t.unflatten(-1, (2, 16)).transpose(1, 2)
            for t in (h[..., :D], h[..., D : 2 * D])
        )
        want = (block.attn.ln_q(q) @ block.attn.ln_k(k).mT / 4).softmax(-1)
    assert torch.allclose(seen["attention"][1], want, atol=1e-6)


@pytest.mark.parametrize(
    "tower",
    ["registers", "relative position and class token", "timm in open_clip", "MONAI"],
)
def test_every_method_answers_or_refuses_clearly(scans, tower):
    model = TOWERS[tower][0]()
    target = "cardiomegaly" if model.kind == "image-text" else "a"
    for method in attend.METHODS:
        if method == "similarity" and model.kind != "image-text":
            continue
        with pytest.MonkeyPatch.context() as patch:
            short = replace(TABLE["rise"], compute=partial(perturb.rise, n=32))
            patch.setitem(TABLE, "rise", short)
            m = attend.attention_map(model, scans[0], method=method, target=target)
        assert m.values.shape == scans[0].shape
        assert np.isfinite(m.values).all()
        assert m.values.min() >= 0
        assert m.values.std() > 0


def test_a_new_kind_of_map_is_one_entry_in_the_table(scans, monkeypatch):
    def brightness(model, x):
        return F.avg_pool2d(x.mean(1, keepdim=True), 16)

    monkeypatch.setitem(TABLE, "brightness", Method(brightness, target=False))
    model = small_clip()
    m = attend.attention_map(model, scans[0], method="brightness", target="ignored")
    grid = brightness(model, model.preprocess(scans[0]))[0, 0].clamp(min=0).numpy()
    want = data.to_scan(grid, scans[0].shape, fit="pad")
    assert np.allclose(m.values, want, atol=1e-7)
    assert m.target is None
    for wrong in ({"head": 0}, {"layer": 0}):
        with pytest.raises(ValueError, match="expected (head|layer)=None"):
            attend.attention_map(model, scans[0], method="brightness", **wrong)


def test_monais_relative_positions_are_refused_not_left_out(scans):
    model = monai_vit()
    attn = model.net.blocks[1].attn
    attn.rel_positional_embedding = lambda x, weights, q: weights
    with pytest.raises(
        RuntimeError, match=r"attention that can be captured in block 1 .*, got none"
    ):
        attend.capture(model, model.preprocess(scans))


def test_monais_flash_attention_drops_nothing_while_it_is_looked_at(scans):
    calm, loose = monai_vit(), monai_vit(dropout_rate=0.2)  # the same weights
    for block in loose.net.blocks:
        block.attn.use_flash_attention = (
            True  # with it MONAI drops attention in eval mode too
        )
    x = calm.preprocess(scans)
    assert not torch.allclose(loose.classify(x)[0], calm.classify(x)[0], atol=1e-4)
    assert torch.allclose(
        attend.capture(loose, x)["output"], calm.classify(x)[0], atol=1e-5
    )
    for method in ("gradcam", "occlusion", "relevance"):
        a, b = (
            attend.attention_map(m, scans[0], method=method, target="a").values
            for m in (loose, calm)
        )
        assert np.allclose(a, b, atol=1e-4 * b.max())


# ---- what is kept


def numbers(tensors):
    return sum(t.untyped_storage().nbytes() // 4 for t in tensors if t is not None)


def test_only_the_rows_that_are_asked_are_kept(scans):
    model = timm_model("vit_tiny_patch16_224", img_size=64, depth=3)
    x, (L, H, T) = model.preprocess(scans), (3, 3, 17)
    full = attend.capture(model, x, target="a")
    two_rows = attend.capture(model, x, target="a", rows=[0, 4])
    for kind in ("attention", "gradients"):
        assert torch.equal(two_rows[kind], full[kind][:, :, :, [0, 4]])
        assert numbers([two_rows[kind]]) == L * 2 * H * 2 * T
    mean = attend.capture(model, x, heads="mean")["attention"]
    assert torch.allclose(mean, full["attention"].mean(2, keepdim=True), atol=1e-6)
    assert numbers([mean]) == L * 2 * T * T
    with pytest.raises(ValueError, match="'all' or 'mean', got 3"):
        attend.capture(model, x, heads=3)


def test_a_map_keeps_no_more_attention_than_it_needs(scans, monkeypatch):
    model, seen = timm_model("vit_tiny_patch16_224", img_size=64, depth=3), []

    def spy(*args, **options):
        seen[:] = look.watch(*args, **options)
        return seen

    monkeypatch.setattr(ways, "watch", spy)
    L, T = 3, 17
    for method, want in [
        ("attention", T),
        ("rollout", L * T * T),
        ("flow", L * T * T),
        ("relevance", 0),
    ]:
        attend.attention_map(model, scans[0], method=method, target="a")
        assert numbers(seen[0].attention) == want
        assert numbers([*seen[0].tokens, *seen[0].values]) == 0


def test_large_attention_is_made_a_few_rows_at_a_time(scans, monkeypatch):
    model, sizes = timm_model("vit_relpos_small_patch16_224", img_size=64, depth=2), []
    whole = attend.capture(model, model.preprocess(scans))

    def spy(*args, softmax=look.attention_weights, **options):
        sizes.append(softmax(*args, **options))
        return sizes[-1]

    monkeypatch.setattr(look, "attention_weights", spy)
    monkeypatch.setattr(look, "CHUNK", 800)
    parts = attend.capture(model, model.preprocess(scans))
    rows = attend.capture(model, model.preprocess(scans), rows=[5])
    assert max(w.numel() for w in sizes) <= 800 < whole["attention"][0].numel()
    for kind in ("attention", "output"):
        assert torch.allclose(parts[kind], whole[kind], atol=1e-6)
    assert torch.allclose(
        rows["attention"], whole["attention"][:, :, :, [5]], atol=1e-6
    )


# ---- targets


def forwards(model):
    count = []
    model.net.visual.conv1.register_forward_hook(
        lambda _, args, out: count.append(len(args[0]))
    )
    return count


@pytest.mark.parametrize("method", attend.METHODS)
def test_many_targets_of_one_scan_share_their_forward(scans, method):
    model, targets = small_clip(), [*TEXTS, (TEXTS[0], TEXTS[1]), 7]
    alone = [
        attend.attention_map(model, scans[0], method=method, target=t) for t in targets
    ]
    count = forwards(model)
    one = attend.attention_map(model, scans[0], method=method, target=targets[0])
    needed, count[:] = sum(count), []
    together = attend.attention_maps(model, scans[0], method=method, targets=targets)
    # a neuron's number is checked against the width of the embedding
    blank = int(TABLE[method].target)
    assert sum(count) == needed + blank
    assert (
        method not in ("attention", "rollout", "relevance", "gradcam", "similarity")
        or needed == 1
    )
    assert len(together) == len(targets)
    for a, b, t in zip(together, alone, targets, strict=True):
        assert a.target == (t if TABLE[method].target else None)
        assert np.allclose(a.values, b.values, atol=1e-5 * b.values.max())
    assert np.array_equal(one.values, alone[0].values)


@pytest.mark.parametrize("method", ["relevance", "gradcam"])
def test_many_targets_cost_one_pass_backward_each(scans, method, monkeypatch):
    model = small_clip()
    calls = []
    grad = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **o: calls.append(1) or grad(*a, **o)
    )
    attend.attention_maps(model, scans[0], method=method, targets=TEXTS)
    assert len(calls) == 3


def test_a_neuron_is_a_number_of_the_embedding(scans):
    model = small_clip()
    x = model.preprocess(scans).requires_grad_()
    grad = torch.autograd.grad(model.encode_image(x)[:, 5].sum(), x)[0]
    gradient = _pixel_gradients(
        model, x.detach()[None], directions(model, 5, len(x))[:, None]
    )[0, :, 0]
    assert grad.abs().max() > 1e-4
    assert torch.allclose(gradient, grad, atol=1e-6)
    headless = timm_model("vit_tiny_patch16_224", img_size=64, depth=2)
    headless.findings = None
    assert attend.attention_map(headless, scans[0], target=191).target == 191
    for target, words in [
        (192, "neuron from 0 to 191 .*got 192"),
        (-1, "got -1"),
        ("effusion", "Try a neuron"),
    ]:
        with pytest.raises(ValueError, match=words):
            attend.attention_map(headless, scans[0], target=target)


# ---- edges


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1)])
def test_a_scan_of_one_row_has_a_map_of_one_row(shape, fit):
    pixels = np.zeros(shape, np.float32)
    pixels.reshape(-1)[2900:3100] = 1
    model = seer(fit)
    for method in (m for m in attend.METHODS if m != "similarity"):
        m = attend.attention_map(model, Scan(pixels), method=method, target="bright")
        assert m.values.shape == shape
        assert np.isfinite(m.values).all()
        if fit == "squash" and method not in ("rise", "smoothgrad"):
            assert abs(int(m.values.argmax()) - 3000) <= 200


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_model_has_the_maps_of_its_rounded_weights(scans, dtype):
    half, full = small_clip(), small_clip()
    half.net.to(dtype)
    full.net.load_state_dict(
        {k: v.to(dtype).float() for k, v in full.net.state_dict().items()}
    )
    for method in ("attention", "relevance", "gradcam", "occlusion", "similarity"):
        a, b = (
            attend.attention_map(m, scans[0], method=method, target=TEXTS[0]).values
            for m in (half, full)
        )
        assert np.allclose(a, b, atol=1e-5 * b.max())
    assert next(half.net.parameters()).dtype == dtype
    # the capture is at its own precision
    seen = attend.capture(half, half.preprocess(scans), target=TEXTS[0])
    exact = attend.capture(full, full.preprocess(scans), target=TEXTS[0])
    assert torch.allclose(seen["attention"], exact["attention"], atol=0.02)


def test_a_phrase_without_a_known_word_is_refused(scans):
    # as a WordPiece tokenizer: a start, an end, and one number for all it doesn't know
    class Words:
        unk_token_id = 7

        def __call__(self, texts):
            known = {"heart": 3}
            rows = [[1, *(known.get(w, 7) for w in t.split()), 2] for t in texts]
            return torch.tensor([r + [0] * (16 - len(r)) for r in rows])

    model = small_clip()
    for phrase in ("", "   ", ("cardiomegaly", "")):
        with pytest.raises(
            ValueError, match="expected a phrase with a word that c knows, got ' *'"
        ):
            attend.attention_map(model, scans[0], target=phrase)
    model = small_clip(text_tokenizer=Words())
    assert (
        attend.attention_map(model, scans[0], target="heart of zxqv").values.max() > 0
    )
    with pytest.raises(ValueError, match="a word that c knows, got 'zxqv 心'"):
        attend.attention_map(model, scans[0], target="zxqv 心")


def test_a_model_without_attention_says_what_to_try(scans):
    cnn = timm_model("resnet10t", size=96)
    for method in ("attention", "value_norm", "rollout", "flow", "relevance"):
        with pytest.raises(ValueError, match="without attention.*Try method='gradcam'"):
            attend.attention_map(cnn, scans[0], method=method, target="a")
    for method in (
        "gradcam",
        "gradcam++",
        "layercam",
        "integrated_gradients",
        "smoothgrad",
        "occlusion",
    ):
        assert np.isfinite(
            attend.attention_map(cnn, scans[0], method=method, target="a").values
        ).all()


def test_an_image_of_one_token_has_no_map(scans):
    one = open_clip_model(
        grid=(1, 1),
        size=16,
        layers=1,
        width=32,
        head_width=16,
        patch_size=16,
        image_size=16,
    )
    for method in attend.METHODS:
        with pytest.raises(ValueError, match="sees the scan as one patch"):
            attend.attention_map(one, scans[0], method=method, target=TEXTS[0])
