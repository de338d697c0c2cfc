"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, tie
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import ShortcutResult, arms, edits, shortcut
from radwb.fail.tune import Tuned, finetune

__all__ = [
    "Head",
    "ShortcutResult",
    "Tuned",
    "add_marker",
    "arms",
    "classifier",
    "edits",
    "finetune",
    "fit_head",
    "group_gaps",
    "over_seeds",
    "patch_features",
    "shortcut",
    "subgroups",
    "tie",
]
