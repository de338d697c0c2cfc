"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.abstain import abstention
from radwb.fail.coverage import (
    controlled_threshold,
    coverage,
    one_film_each,
    prediction_sets,
)
from radwb.fail.fairness import calibrated, group_report, operating_points
from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.planted_gap import planted_gap
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut
from radwb.fail.unknown import strangeness, unknown_films, unknown_report

__all__ = [
    "Head",
    "abstention",
    "add_marker",
    "calibrated",
    "classifier",
    "confound",
    "controlled_threshold",
    "coverage",
    "fit_head",
    "group_gaps",
    "group_report",
    "marker_auroc",
    "marker_effect",
    "one_film_each",
    "operating_points",
    "over_seeds",
    "patch_features",
    "planted_gap",
    "prediction_sets",
    "shortcut",
    "strangeness",
    "subgroups",
    "unknown_films",
    "unknown_report",
]
