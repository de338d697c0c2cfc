"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.abstain import abstention
from radwb.fail.attacks import pgd, pixel_attacks, prompt_attacks, typographic_attack
from radwb.fail.blind import (
    blind_evidence,
    blind_limits,
    blind_signs,
    border_tells,
    corner_swaps,
    map_at_border,
    name_shortcuts,
    patch_shares,
    signs_of,
    worst_slice,
)
from radwb.fail.corrupt import CORRUPTIONS, corrupt, robustness
from radwb.fail.coverage import (
    controlled_threshold,
    coverage,
    one_film_each,
    prediction_sets,
)
from radwb.fail.drift import watch_drift
from radwb.fail.edits import edit_films, edit_mark, edited, placebo
from radwb.fail.evidence import Evidence, compared, measured
from radwb.fail.fairness import calibrated, group_report, operating_points
from radwb.fail.foretell import expected_auroc, foretell
from radwb.fail.frozen import FrozenFilms
from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.memory import (
    copies_evidence,
    duplicated_patients,
    membership,
    nearest_training,
)
from radwb.fail.mitigate import mitigate
from radwb.fail.mitigations import group_dro
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.planted_gap import planted_gap
from radwb.fail.prompt_repair import repair_prompt
from radwb.fail.readers import ReadingEffect, planted_advice, reading_effect
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut
from radwb.fail.slices import Slices, describe_slice, find_slices, metadata_slices
from radwb.fail.unknown import strangeness, unknown_films, unknown_report
from radwb.fail.worlds import hidden_drain, rows_at, travelling_mark, unequal_groups

__all__ = [
    "CORRUPTIONS",
    "Evidence",
    "FrozenFilms",
    "Head",
    "ReadingEffect",
    "Slices",
    "abstention",
    "add_marker",
    "blind_evidence",
    "blind_limits",
    "blind_signs",
    "border_tells",
    "calibrated",
    "classifier",
    "compared",
    "confound",
    "controlled_threshold",
    "copies_evidence",
    "corner_swaps",
    "corrupt",
    "coverage",
    "describe_slice",
    "duplicated_patients",
    "edit_films",
    "edit_mark",
    "edited",
    "expected_auroc",
    "find_slices",
    "fit_head",
    "foretell",
    "group_dro",
    "group_gaps",
    "group_report",
    "hidden_drain",
    "map_at_border",
    "marker_auroc",
    "marker_effect",
    "measured",
    "membership",
    "metadata_slices",
    "mitigate",
    "name_shortcuts",
    "nearest_training",
    "one_film_each",
    "operating_points",
    "over_seeds",
    "patch_features",
    "patch_shares",
    "pgd",
    "pixel_attacks",
    "placebo",
    "planted_advice",
    "planted_gap",
    "prediction_sets",
    "prompt_attacks",
    "reading_effect",
    "repair_prompt",
    "robustness",
    "rows_at",
    "shortcut",
    "signs_of",
    "strangeness",
    "subgroups",
    "travelling_mark",
    "typographic_attack",
    "unequal_groups",
    "unknown_films",
    "unknown_report",
    "watch_drift",
    "worst_slice",
]
