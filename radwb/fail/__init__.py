"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut
from radwb.fail.slices import Slices, describe_slice, find_slices, metadata_slices

__all__ = [
    "Head",
    "Slices",
    "add_marker",
    "classifier",
    "confound",
    "describe_slice",
    "find_slices",
    "fit_head",
    "group_gaps",
    "marker_auroc",
    "marker_effect",
    "metadata_slices",
    "over_seeds",
    "patch_features",
    "shortcut",
    "subgroups",
]
