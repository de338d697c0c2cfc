"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

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
from radwb.fail.edits import edit_films, edit_mark, edited, placebo
from radwb.fail.frozen import FrozenFilms
from radwb.fail.groups import group_gaps, subgroups
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, classifier, fit_head, patch_features
from radwb.fail.seeds import over_seeds
from radwb.fail.shortcut import marker_auroc, marker_effect, shortcut
from radwb.fail.worlds import (
    hidden_drain,
    rows_at,
    travelling_mark,
    unequal_groups,
)

__all__ = [
    "FrozenFilms",
    "Head",
    "add_marker",
    "blind_evidence",
    "blind_limits",
    "blind_signs",
    "border_tells",
    "classifier",
    "confound",
    "corner_swaps",
    "edit_films",
    "edit_mark",
    "edited",
    "fit_head",
    "group_gaps",
    "hidden_drain",
    "map_at_border",
    "marker_auroc",
    "marker_effect",
    "name_shortcuts",
    "over_seeds",
    "patch_features",
    "patch_shares",
    "placebo",
    "rows_at",
    "shortcut",
    "signs_of",
    "subgroups",
    "travelling_mark",
    "unequal_groups",
    "worst_slice",
]
