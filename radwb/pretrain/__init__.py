"""The loop around a model and a loss: captions, augmentation, schedule, precision, resume, log, many devices."""

from radwb.pretrain.augment import augment
from radwb.pretrain.captions import caption_of
from radwb.pretrain.fit import fit
from radwb.pretrain.losses import SameCaptionLoss, retrieval, same_captions
from radwb.pretrain.run import Run

__all__ = ["Run", "SameCaptionLoss", "augment", "caption_of", "fit", "retrieval", "same_captions"]
