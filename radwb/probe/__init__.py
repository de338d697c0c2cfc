"""Ask the model without training it: zero-shot, linear probes, retrieval, with intervals over patients."""

from radwb.probe.linear import label_efficiency, linear_probe, recall_at_k, retrieve
from radwb.probe.prompts import Prompts, class_embedding, classify, text_embeddings, zero_shot
from radwb.probe.scores import Scores
from radwb.probe.sides import mirrored_sides
from radwb.stats import auroc, bootstrap, resample_patients, stated

__all__ = [
    "Prompts",
    "Scores",
    "auroc",
    "bootstrap",
    "class_embedding",
    "classify",
    "label_efficiency",
    "linear_probe",
    "mirrored_sides",
    "recall_at_k",
    "resample_patients",
    "retrieve",
    "stated",
    "text_embeddings",
    "zero_shot",
]
