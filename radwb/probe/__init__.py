"""Ask the model without training it: zero-shot, linear probes, retrieval, with
intervals over patients.
"""

from radwb.probe.baselines import (
    baselines,
    brightness,
    raw_pixels,
    representations,
    sentences,
    side_by_side,
    untrained,
)
from radwb.probe.crossed import cross_probe, enough_patients
from radwb.probe.linear import (
    label_efficiency,
    linear_probe,
    recall_at_k,
    recall_of_commonest,
    retrieve,
)
from radwb.probe.prompts import (
    Prompts,
    class_embedding,
    classify,
    text_embeddings,
    zero_shot,
)
from radwb.probe.scores import Scores
from radwb.probe.sides import mirrored_sides
from radwb.probe.specific import (
    among_abnormal,
    blind_count,
    each_and_mean,
    prompt_label_matrix,
    rivals,
    specificity,
)
from radwb.stats import auroc, bootstrap, resample_patients, stated

__all__ = [
    "Prompts",
    "Scores",
    "among_abnormal",
    "auroc",
    "baselines",
    "blind_count",
    "bootstrap",
    "brightness",
    "class_embedding",
    "classify",
    "cross_probe",
    "each_and_mean",
    "enough_patients",
    "label_efficiency",
    "linear_probe",
    "mirrored_sides",
    "prompt_label_matrix",
    "raw_pixels",
    "recall_at_k",
    "recall_of_commonest",
    "representations",
    "resample_patients",
    "retrieve",
    "rivals",
    "sentences",
    "side_by_side",
    "specificity",
    "stated",
    "text_embeddings",
    "untrained",
    "zero_shot",
]
