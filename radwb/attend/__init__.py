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
    of_another_patient,
)
from radwb.attend.doubt import randomised, sanity_check
from radwb.attend.faithful import (
    agreement,
    faithfulness,
    impute,
    stability,
    target_scores,
)
from radwb.attend.files import save_map
from radwb.attend.heads import ablate_heads, compare_ablation, head_census, patch_norms
from radwb.attend.map import Badge, Map
from radwb.attend.maps import METHODS, attention_map, attention_maps, relevance, rollout
from radwb.attend.readers import (
    lung_zones,
    reader_agreement,
    score_each_zone,
    score_zones,
)
from radwb.attend.score import (
    brightness_map,
    centre_map,
    edge_map,
    lesion_shape,
    random_map,
    scaled,
    score_by_lesion,
    score_each,
    score_map,
    score_maps,
    tune_threshold,
)
from radwb.attend.twins import LabelTwins, label_twins
from radwb.attend.volume import METHODS_3D, Net3d, slice_maps, volume_map

__all__ = [
    "METHODS",
    "METHODS_3D",
    "Badge",
    "Compared",
    "LabelTwins",
    "Map",
    "Net3d",
    "ablate_heads",
    "agreement",
    "attention_map",
    "attention_maps",
    "brightness_map",
    "capture",
    "centre_map",
    "compare_ablation",
    "compare_maps",
    "compare_zones",
    "control_maps",
    "edge_map",
    "faithfulness",
    "head_census",
    "impute",
    "label_twins",
    "lesion_shape",
    "lung_zones",
    "mean_mask",
    "of_another_patient",
    "patch_norms",
    "random_map",
    "randomised",
    "reader_agreement",
    "relevance",
    "rollout",
    "sanity_check",
    "save_map",
    "scaled",
    "score_by_lesion",
    "score_each",
    "score_each_zone",
    "score_map",
    "score_maps",
    "score_zones",
    "slice_maps",
    "stability",
    "target_scores",
    "tune_threshold",
    "volume_map",
]
