"""The same score in parts of the cohort: by site, sex, view, severity."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.identifiers import numbered
from radwb.probe import Scores
from radwb.stats.comparison import gap_interval
from radwb.stats.pull import Pull
from radwb.stats.sentence import Comparison


def subgroups(scores: Scores, groups: Sequence, *, of: str = "images") -> pd.DataFrame:
    """AUROC with its interval in each group of your patients.

    >>> subgroups(scores, table["sex"])["group"].unique().tolist()
    ['F', 'M']
    >>> sides = subgroups(scores, table["Pleural Effusion side"], of="cases")

    The second takes cases of each side, and against them all films without.

    Args:
        scores: of N images.
        groups: (N,) name of each image's group; NaN and "" belong to none.
        of: "images" keeps a group's images; "cases" keeps a group's cases beside the
            controls of all groups, for what only cases have, such as severity.
    Returns:
        group, then the columns of `Scores.auroc`; groups in sorted order.
    """
    if of not in ("images", "cases"):
        raise ValueError(f'expected of="images" or of="cases", got {of!r}')
    groups = _groups(groups)
    if len(groups) != len(scores.values):
        raise ValueError(
            f"expected one group an image, got {len(groups)} "
            f"for {len(scores.values)} images"
        )
    rows = []
    for finding in scores.values:
        for group in _names(groups):
            inside = (groups == group).to_numpy()
            if of == "cases":
                inside = np.where(scores.truth[finding] == 1, inside, True)
            values = scores.values.loc[inside, [finding]]
            truth = scores.truth.loc[inside, [finding]]
            part = Scores(values, truth, scores.patient_id[inside]).auroc()
            part.insert(0, "group", group)
            rows.append(part)
    return pd.concat(rows, ignore_index=True)


def group_gaps(
    scores: Scores, groups: Sequence, *, family: int | None = None
) -> list[Comparison]:
    """Each group of your patients against all others: its AUROC less theirs.

    >>> among_one = rw.probe.zero_shot(model, table, ["Pleural Effusion"])
    >>> for gap in group_gaps(among_one, table["sex"]):
    ...     print(gap)
    can't tell F from the others: ...
    can't tell M from the others: ...

    A patient with images on both sides moves both AUROCs (`rw.stats.compare_auroc` has
    the same error).

    Args:
        scores: of N images and one finding.
        groups: (N,) name of each image's group; NaN and "" belong to none. A case of a
            group is held against the controls of that group; where a group has no
            controls, such as a severity, against all controls.
        family: number of gaps that are asked for together, so that they miss in one of
            twenty together; None = the number of groups.
    Returns:
        a Comparison a group, in sorted order; without an interval where a side has too
        few cases.
    """
    (finding,) = scores.values
    y = scores.truth[finding].to_numpy(float)
    s = scores.values[finding].to_numpy(float)
    groups = _groups(groups)
    names = _names(groups)
    family = family or len(names)
    gaps = []
    for name in names:
        others = [other for other in names if other != name]
        sides = _labels_in(y, groups, [name]), _labels_in(y, groups, others)
        _, patients = numbered(scores.patient_id[~np.isnan(sides[0])])
        pair = [Pull.of(side, s, scores.patient_id) for side in sides]
        notes = [pull.missing() for pull in pair if pull.missing()]
        difference = pair[0].auroc - pair[1].auroc
        low = high = p = np.nan
        if not notes:
            low, high, p = gap_interval(difference, [pair], family)
        gap = Comparison(
            (str(name), "the others"),
            f"AUROC for {finding}",
            difference,
            low,
            high,
            p,
            patients,
            family=family,
            note="; ".join(notes),
        )
        gaps.append(gap)
    return gaps


def _groups(names):
    """(N,) as a series of objects, "" where there is none."""
    return pd.Series(np.asarray(names, dtype=object)).fillna("")


def _names(groups):
    return sorted(set(groups) - {""})


def _labels_in(y, groups, names):
    """Labels of these groups, NaN elsewhere; all controls where they have none."""
    inside = groups.isin(names).to_numpy()
    if not (y[inside] == 0).any():
        inside = inside | (y == 0)
    return np.where(inside, y, np.nan)
