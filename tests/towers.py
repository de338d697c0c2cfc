"""Small towers that several files of tests open."""

import timm
import torch

from radwb import models

TEXTS = ["right pleural effusion", "no pleural effusion", "cardiomegaly"]


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
