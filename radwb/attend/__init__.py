"""Capture attention, turn it into maps in the scan's pixels, and test the maps.

The way through:

1. Look inside: `capture` runs a tower (`tower`, `place`, `tokens`) under hooks.
2. Draw a map: `attention_map` (`maps`); each kind is an entry in `methods.TABLE`, its
   score a direction (`targets`), the result a `map.Map`.
3. Volumes: `volume_map`, `slice_maps` (`volumes`); `save_map` (`files`) for viewers.
4. Is it right? `score_map` (`score`), beside maps that know nothing (`blind`,
   `controls`) and beside people (`readers`).
5. Does it mean anything? `sanity_check`, `faithfulness`, `head_census` (`doubt`).
"""

from radwb.attend.blind import brightness_map, edge_map
from radwb.attend.capture import capture
from radwb.attend.controls import (
    Compared,
    compare_maps,
    compare_zones,
    control_maps,
    mean_mask,
)
from radwb.attend.doubt import sanity_check
from radwb.attend.doubt.alike import agreement, stability
from radwb.attend.doubt.changes import randomised
from radwb.attend.doubt.faithful import faithfulness
from radwb.attend.doubt.heads import compare_ablation, head_census, patch_norms
from radwb.attend.doubt.twins import label_twins
from radwb.attend.files import save_map
from radwb.attend.maps import attention_map, attention_maps
from radwb.attend.methods import METHODS
from radwb.attend.methods import formulas as formulas
from radwb.attend.methods.formulas import relevance, rollout
from radwb.attend.readers import reader_agreement
from radwb.attend.score import rescale, score_by_lesion, score_map, tune_threshold
from radwb.attend.volumes import Cells, Net3d, cells, slice_maps, volume_map

__all__ = [
    "Compared",
    "METHODS",
    "Cells",
    "Net3d",
    "cells",
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
    "patch_norms",
    "randomised",
    "reader_agreement",
    "relevance",
    "rescale",
    "rollout",
    "sanity_check",
    "save_map",
    "score_by_lesion",
    "score_map",
    "slice_maps",
    "stability",
    "tune_threshold",
    "volume_map",
]
