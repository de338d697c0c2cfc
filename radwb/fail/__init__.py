"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.mitigate import mitigate
from radwb.fail.mitigations import group_dro
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.prompt_repair import repair_prompt
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut

__all__ = [
    "Head",
    "add_marker",
    "classifier",
    "confound",
    "fit_head",
    "group_dro",
    "group_gaps",
    "marker_auroc",
    "marker_effect",
    "mitigate",
    "over_seeds",
    "patch_features",
    "repair_prompt",
    "shortcut",
    "subgroups",
]
