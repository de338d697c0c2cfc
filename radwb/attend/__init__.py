"""Capture attention, turn it into maps in the scan's own pixels, and score the maps
against the truth.
"""

from radwb.attend.capture import capture
from radwb.attend.controls import (
    Compared,
    compare_maps,
    compare_zones,
    control_maps,
    mean_mask,
    other_patient_maps,
)
from radwb.attend.doubt import sanity_check
from radwb.attend.faithful import agreement, faithfulness
from radwb.attend.files import save_map
from radwb.attend.heads import compare_ablation, head_census
from radwb.attend.maps import METHODS, attention_map, attention_maps, relevance, rollout
from radwb.attend.readers import reader_agreement
from radwb.attend.score import (
    brightness_map,
    edge_map,
    rescale,
    score_map,
    tune_threshold,
)
from radwb.attend.twins import label_twins
from radwb.attend.volumes.maps import Net3d, slice_maps, volume_map

__all__ = [
    "METHODS",
    "Compared",
    "Net3d",
    "agreement",
    "attention_map",
    "attention_maps",
    "brightness_map",
    "capture",
    "compare_ablation",
    "compare_maps",
    "compare_zones",
    "control_maps",
    "edge_map",
    "faithfulness",
    "head_census",
    "label_twins",
    "mean_mask",
    "other_patient_maps",
    "reader_agreement",
    "relevance",
    "rescale",
    "rollout",
    "sanity_check",
    "save_map",
    "score_map",
    "slice_maps",
    "tune_threshold",
    "volume_map",
]
