"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.attacks import (
    pgd,
    pixel_attacks,
    prompt_attacks,
    typographic_attack,
)
from radwb.fail.corrupt import CORRUPTIONS, corrupt, robustness
from radwb.fail.drift import expected_auroc, foretell, watch_drift
from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.memory import (
    copies_evidence,
    duplicated_patients,
    membership,
    nearest_training,
)
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut

__all__ = [
    "CORRUPTIONS",
    "Head",
    "add_marker",
    "classifier",
    "confound",
    "copies_evidence",
    "corrupt",
    "duplicated_patients",
    "expected_auroc",
    "fit_head",
    "foretell",
    "group_gaps",
    "marker_auroc",
    "marker_effect",
    "membership",
    "nearest_training",
    "over_seeds",
    "patch_features",
    "pgd",
    "pixel_attacks",
    "prompt_attacks",
    "robustness",
    "shortcut",
    "subgroups",
    "typographic_attack",
    "watch_drift",
]
