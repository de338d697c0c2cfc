"""Small towers and films that several files of tests open."""

import numpy as np
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from radwb import attend, models
from radwb.data import Scan

TEXTS = ["right pleural effusion", "no pleural effusion", "cardiomegaly"]


def tiny_clip(texts=TEXTS, *, seed=1, **changes):
    """A CLIP of three layers that averages its patches."""
    tokenizer = models.Tokenizer.train(texts, vocab_size=280, context=16)
    shape = {"size": 64, "width": 48, "layers": 3, "embed": 32}
    shape |= {"text_width": 32, "text_layers": 1} | changes
    model = models.clip_tiny(tokenizer, shape=shape, seed=seed)
    # sharper than at initialisation, so that maps differ from place to place
    for p in model.net.visual.parameters():
        p.data *= 1.5
    return model


def tiny_vit():
    """A classifier of three findings with a class token."""
    model = timm_model(
        "vit_tiny_patch16_224", findings=("a", "b", "c"), img_size=64, depth=2
    )
    model.grid = (4, 4)
    return model


def film(seed, H=60, W=50):
    """A film of smooth noise with a lesion of 14 x 14 px somewhere."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((H, W), bool)
    y, x = rng.integers(0, H - 14), rng.integers(0, W - 14)
    mask[y : y + 14, x : x + 14] = True
    pixels = attend.blind.random_map((H, W), seed, sigma=2).clip(0, 1)
    return Scan(pixels, truth={"lesion": mask})


def timm_model(name, *, findings=("a", "b"), size=64, **options):
    torch.manual_seed(0)
    net = timm.create_model(
        name, pretrained=False, num_classes=len(findings), **options
    )
    grid = getattr(
        getattr(net, "patch_embed", None), "grid_size", (size // 32, size // 32)
    )
    return models.Model(
        net,
        name,
        "image",
        size,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        tuple(grid),
        findings=list(findings),
    )


def state_of(model):
    return {k: v.clone() for k, v in model.net.state_dict().items()}, [
        m.training for m in model.net.modules()
    ]


def open_clip_model(grid=(4, 4), size=64, text_tokenizer=None, **vision):
    """A CLIP as open_clip makes it, with an image tower of any kind."""
    torch.manual_seed(0)
    net = CLIP(
        32,
        CLIPVisionCfg(**vision),
        CLIPTextCfg(context_length=16, vocab_size=280, width=32, heads=1, layers=1),
    )
    tokenizer = text_tokenizer or models.Tokenizer.train(
        TEXTS, vocab_size=280, context=16
    )
    return models.Model(
        net,
        "c",
        "image-text",
        size,
        3,
        (0.5,) * 3,
        (0.5,) * 3,
        "pad",
        grid,
        tokenizer=tokenizer,
    )


def small_clip(**changes):
    """One of two layers, with a class token."""
    return open_clip_model(
        **{
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
            "image_size": 64,
        }
        | changes
    )
