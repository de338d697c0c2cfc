"""The loop around a model and a loss.

Captions, augmentation, schedule, precision, resume, log, many devices.
"""

from radwb.pretrain import objectives
from radwb.pretrain.augment import augment, crop_keeping
from radwb.pretrain.beside import Beside
from radwb.pretrain.captions import caption_of
from radwb.pretrain.diagnose import diagnose, if_healthy
from radwb.pretrain.fit import fit
from radwb.pretrain.losses import SameCaptionLoss, retrieval, same_captions
from radwb.pretrain.recipe import Recipe
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.run import Run

__all__ = [
    "RECIPES",
    "Beside",
    "Recipe",
    "Run",
    "SameCaptionLoss",
    "augment",
    "caption_of",
    "crop_keeping",
    "diagnose",
    "fit",
    "if_healthy",
    "objectives",
    "retrieval",
    "same_captions",
]
