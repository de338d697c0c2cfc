"""Heads that are silenced or planted, and tokens that are notepads."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from towers import film, state_of, timm_model, tiny_clip, tiny_vit

from radwb import attend, models
from radwb.attend.doubt import heads
from radwb.data import Scan

PHRASES = [
    "right pleural effusion",
    "no pleural effusion",
    "cardiomegaly",
    "pneumothorax",
    "lung nodule",
]


@pytest.fixture(scope="module")
def clip():
    return tiny_clip(PHRASES)


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


SCANS = [film(seed) for seed in range(12)]


def zeroed(weight, rows):
    """Zero some rows and return what the weight was."""
    before = weight.detach().clone()
    weight[rows] = 0
    return before


def test_a_silent_head_is_one_without_values_in_open_clip(clip):
    x, block = clip.preprocess(SCANS), clip.net.visual.transformer.resblocks[1]
    with torch.no_grad():
        plain = clip.encode_image(x)
        with attend.doubt.heads.ablate_heads(clip, [(1, 2)]):
            silent = clip.encode_image(x)
        # the rows that make the third head's 16 values
        values = slice(2 * 48 + 32, 2 * 48 + 48)
        before = (
            zeroed(block.attn.in_proj_weight, values),
            zeroed(block.attn.in_proj_bias, values),
        )
        want = clip.encode_image(x)
        block.attn.in_proj_weight.copy_(before[0])
        block.attn.in_proj_bias.copy_(before[1])
        assert torch.equal(clip.encode_image(x), plain)
    assert torch.allclose(silent, want, atol=1e-6)
    assert not torch.allclose(silent, plain, atol=1e-4)


def test_a_silent_head_is_one_without_output_in_timm(vit):
    x, outputs = vit.preprocess(SCANS), []

    def hush(_, args):
        out = args[0].clone()
        out[..., :64] = 0  # the first of three heads, before the projection
        return (out,)

    hook = vit.net.blocks[0].attn.proj.register_forward_pre_hook(hush)
    with torch.no_grad():
        outputs.append(vit.classify(x))
        hook.remove()
        with attend.doubt.heads.ablate_heads(vit, [(0, 0), (0, 0)]):
            outputs.append(vit.classify(x))
        outputs.append(vit.classify(x))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-4)


def test_silent_heads_speak_again_whatever_happens(clip):
    tensors, _ = state_of(clip)
    with (
        pytest.raises(KeyError),
        attend.doubt.heads.ablate_heads(clip, [(0, 0), (2, 1)]),
    ):
        raise KeyError("on the way")
    for head, words in [
        ((1, 3), "head from 0 to 2 in layer 1 of clip-tiny, got 3"),
        ((3, 0), "layer from 0 to 2"),
    ]:
        with (
            pytest.raises(ValueError, match=words),
            attend.doubt.heads.ablate_heads(clip, [(0, 0), head]),
        ):
            pass
    assert all(torch.equal(v, tensors[k]) for k, v in clip.net.state_dict().items())


def test_heads_that_can_not_be_silenced_are_named():
    cnn = timm_model("resnet10t")
    silence = attend.doubt.heads.ablate_heads
    with pytest.raises(ValueError, match="expected a ViT, got resnet10t"):
        silence(cnn, [(0, 0)]).__enter__()
    shape = {"img_size": 64, "depth": 1, "scale_attn_norm": True}
    normed = timm_model("vit_tiny_patch16_224", **shape)
    with pytest.raises(ValueError, match="block 0 of vit_tiny.*, got norm between"):
        silence(normed, [(0, 0)]).__enter__()


class Planted(nn.Module):
    """Three heads over 4 x 4 patches: one looks at bright patches, one at all alike,
    one at the sixth alone.
    """

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([PlantedBlock()])

    def forward(self, x):
        patches = F.avg_pool2d(x, 8).flatten(2).mT  # (B, 16, 1)
        return self.blocks[0](patches)[..., :1].mean(1)


class PlantedBlock(nn.Module):
    num_heads = 3

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 3, bias=False)
        self.proj.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
        self.loud = False

    def forward(self, x):
        sixth = torch.zeros_like(x)
        sixth[:, 5] = 1
        k = torch.stack([30 * x, 0 * x, 30 * sixth], 1)  # (B, heads, T, 1)
        out = F.scaled_dot_product_attention(
            torch.ones_like(k), k, x[:, None].expand(-1, 3, -1, -1)
        )
        out = self.proj(out.transpose(1, 2).flatten(2))  # (B, T, 3)
        return out + 100 * sixth if self.loud else out + 1


def planted():
    return models.Model(
        Planted(),
        "planted",
        "image",
        32,
        1,
        (0.0,),
        (1.0,),
        "pad",
        (4, 4),
        findings=["bright"],
    )


def spot(n):
    """A bright patch, number n of 16."""
    pixels = np.full((32, 32), 0.1, np.float32)
    y = 8 * (n // 4)
    x = 8 * (n % 4)
    pixels[y : y + 8, x : x + 8] = 1
    return Scan(pixels, truth={"bright": pixels > 0.5})


SPOTS = [spot(n) for n in (0, 3, 6, 9, 12, 15)]


def test_the_census_finds_the_planted_heads():
    census = attend.head_census(planted(), SPOTS, [s.truth["bright"] for s in SPOTS])
    bright, alike, sixth = (census.loc[(0, head)] for head in range(3))
    # all attention on a sixteenth
    assert bright["selectivity"] == pytest.approx(16, abs=0.01)
    assert alike["selectivity"] == pytest.approx(1, abs=1e-5)
    assert [bright["elsewhere"], alike["elsewhere"]] == pytest.approx([0, 1], abs=1e-4)
    assert sixth["selectivity"] == pytest.approx(0, abs=1e-4)
    assert sixth["position"] == pytest.approx(1)
    # six lone peaks
    assert bright["position"] == pytest.approx(
        1 - (6 * (25 + 5) / 36) / (6 * 15 / 16), abs=1e-3
    )
    assert [bright["sink"], alike["sink"], sixth["sink"]] == pytest.approx(
        [1, 1 / 16, 1], abs=1e-4
    )
    assert (census["low"] <= census["selectivity"]).all()
    with pytest.raises(ValueError, match="a lesion in each mask"):
        attend.head_census(planted(), SPOTS, [np.zeros((32, 32), bool)] * 6)
    with pytest.raises(ValueError, match="6 scans, 1 masks"):
        attend.head_census(planted(), SPOTS, [SPOTS[0].truth["bright"]])


def test_the_census_of_a_real_tower_is_what_its_attention_says(clip):
    masks = [s.truth["lesion"] for s in SCANS]
    census = attend.head_census(clip, SCANS, masks, batch=5)
    # (N, T, T), as read by the mean
    attention = attend.capture(clip, clip.preprocess(SCANS))["attention"][1, :, 2]
    maps = attention[:, 1:, 1:].mean(1).numpy()
    maps /= maps.sum(1, keepdims=True)
    cover = np.stack([heads._cover(clip, m, 1.0) for m in masks])
    got = census.loc[(1, 2)]
    assert got["selectivity"] == pytest.approx(
        np.mean((maps * cover).sum(1) / cover.mean(1)), rel=1e-5
    )
    explained = (
        1
        - ((maps - maps.mean(0)) ** 2).sum()
        / ((maps - maps.mean(1, keepdims=True)) ** 2).sum()
    )
    assert got["position"] == pytest.approx(explained, abs=1e-5)
    assert got["sink"] == pytest.approx(
        float(attention.mean(1).max(1).values.mean()), rel=1e-5
    )
    assert len(census) == 9


def test_the_census_of_a_tower_with_a_class_token_reads_its_row(vit):
    masks = [s.truth["lesion"] for s in SCANS]
    # (N, patches)
    attention = attend.capture(vit, vit.preprocess(SCANS))["attention"][
        1, :, 0, 0, 1:
    ].numpy()
    cover = np.stack([heads._cover(vit, m, 1.0) for m in masks])
    want = (attention * cover).sum(1) / attention.sum(1) / cover.mean(1)
    census = attend.head_census(vit, SCANS, masks, groups=np.arange(12) // 2)
    assert census.loc[(1, 0), "selectivity"] == pytest.approx(want.mean(), rel=1e-5)
    next_patient = cover[[2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 0, 0]]
    elsewhere = (
        (attention * next_patient).sum(1) / attention.sum(1) / next_patient.mean(1)
    )
    assert census.loc[(1, 0), "elsewhere"] == pytest.approx(elsewhere.mean(), rel=1e-5)


def test_the_lesion_covers_patches_by_its_area():
    assert (
        heads._cover(planted(), SPOTS[2].truth["bright"], 1.0).tolist()
        == [0] * 6 + [1] + [0] * 9
    )
    wide = np.zeros((16, 32), bool)  # padded above and below to 32 x 32
    wide[:4, :16] = True
    assert heads._cover(planted(), wide, 1.0).tolist() == pytest.approx(
        [0] * 4 + [0.5] * 2 + [0] * 10
    )


def test_silencing_the_head_that_makes_the_score_costs_more_than_silencing_others():
    model = planted()
    table = attend.compare_ablation(model, SPOTS, [(0, 0)], target="bright", draws=5)
    assert table.loc["chosen", "mean"] == pytest.approx(-1, abs=1e-3)
    assert table.loc["random", "mean"] == 0
    assert table.loc["difference", "high"] < -0.9
    assert (table["as_low"] == 0).all()
    harmless = attend.compare_ablation(
        model, SPOTS, [(0, 1)], target="bright", draws=20
    )
    # half of the random sets hit the head that matters
    assert -0.8 < harmless.loc["random", "mean"] < -0.2
    assert (harmless["as_low"] == 1).all()
    with pytest.raises(ValueError, match="expected 1 to 1 of 3 heads, got 2"):
        attend.compare_ablation(model, SPOTS, [(0, 0), (0, 1)], target="bright")


def test_a_planted_loud_token_is_the_only_outlier():
    model = planted()
    assert (
        attend.doubt.heads.patch_norms(model, SPOTS).table.loc["outliers", "mean"] == 0
    )
    model.net.blocks[0].loud = True
    with torch.no_grad():
        model.net.blocks[0].proj.weight.fill_(0.3)
    spots = attend.doubt.heads.patch_norms(model, SPOTS, groups=[0, 0, 1, 1, 2, 2])
    assert spots.norms.shape == (6, 4, 4)
    assert np.argwhere(spots.outliers[0]).tolist() == [[1, 1]]
    assert spots.table.loc["outliers", "mean"] == pytest.approx(1 / 16)
    assert spots.table.loc["outliers", "patients"] == 3


def test_the_norms_are_of_patches_without_the_class_token(vit):
    tokens = attend.capture(vit, vit.preprocess(SCANS[:2]))["tokens"][-1]
    norms = attend.doubt.heads.patch_norms(vit, SCANS[:2]).norms
    assert np.allclose(norms.reshape(2, -1), tokens[:, 1:].norm(dim=-1), rtol=1e-5)
