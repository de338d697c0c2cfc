"""Ask the model without training it: zero-shot, probes, retrieval, by patient."""

from radwb.probe.baselines import (
    baselines,
    brightness,
    compare_scores,
    comparison_sentences,
    raw_pixels,
    representations,
)
from radwb.probe.crossed import enough_patients
from radwb.probe.linear import (
    label_efficiency,
    linear_probe,
    recall_of_commonest,
    retrieve,
)
from radwb.probe.prompts import Prompts
from radwb.probe.scores import Scores
from radwb.probe.sides import laterality_check
from radwb.probe.specific import (
    among_abnormal,
    auroc_table,
    best_other_prompt,
    finding_count_control,
    prompt_label_matrix,
    specificity,
)
from radwb.probe.text import class_embedding, classify, text_embeddings, zero_shot

__all__ = [
    "Prompts",
    "Scores",
    "among_abnormal",
    "auroc_table",
    "baselines",
    "best_other_prompt",
    "brightness",
    "class_embedding",
    "classify",
    "compare_scores",
    "comparison_sentences",
    "enough_patients",
    "finding_count_control",
    "label_efficiency",
    "laterality_check",
    "linear_probe",
    "prompt_label_matrix",
    "raw_pixels",
    "recall_of_commonest",
    "representations",
    "retrieve",
    "specificity",
    "text_embeddings",
    "zero_shot",
]
