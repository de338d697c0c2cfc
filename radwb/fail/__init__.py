"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.readers import ReadingEffect, planted_advice, reading_effect
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut

__all__ = [
    "Head",
    "ReadingEffect",
    "add_marker",
    "classifier",
    "confound",
    "fit_head",
    "group_gaps",
    "marker_auroc",
    "marker_effect",
    "over_seeds",
    "patch_features",
    "planted_advice",
    "reading_effect",
    "shortcut",
    "subgroups",
]
