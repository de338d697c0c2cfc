"""The loop around a model and a loss: captions, augmentation, schedule, precision,
resume, log, many devices.
"""

from radwb.pretrain import objectives
from radwb.pretrain.augment import augment, crop_keeping
from radwb.pretrain.captions import caption_of
from radwb.pretrain.diagnose import (
    Watch,
    alignment,
    diagnose,
    effective_rank,
    if_healthy,
    modality_gap,
    stuck,
    uniformity,
)
from radwb.pretrain.export import export_open_clip, import_open_clip
from radwb.pretrain.fit import fit
from radwb.pretrain.losses import SameCaptionLoss, retrieval, same_captions
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.run import Run

__all__ = [
    "RECIPES",
    "Run",
    "SameCaptionLoss",
    "Watch",
    "alignment",
    "augment",
    "caption_of",
    "crop_keeping",
    "diagnose",
    "effective_rank",
    "export_open_clip",
    "fit",
    "if_healthy",
    "import_open_clip",
    "modality_gap",
    "objectives",
    "retrieval",
    "same_captions",
    "stuck",
    "uniformity",
]
