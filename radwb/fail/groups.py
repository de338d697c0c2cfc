"""The same score in parts of the cohort: by site, sex, view, severity."""

import numpy as np
import pandas as pd

from radwb.identifiers import numbered
from radwb.probe import Scores
from radwb.stats.comparison import gap_interval
from radwb.stats.pull import Pull
from radwb.stats.sentence import Comparison


def subgroups(scores: Scores, groups, *, of="images") -> pd.DataFrame:
    """AUROC with its interval in each group.

    >>> subgroups(scores, test["site"])
    >>> subgroups(scores, severity_words, of="cases")        # small, moderate, large against all without

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
    groups = pd.Series(np.asarray(groups, dtype=object))
    if len(groups) != len(scores.values):
        raise ValueError(
            f"expected one group an image, got {len(groups)} for {len(scores.values)} images"
        )
    rows = []
    for finding in scores.values:
        for group in sorted(g for g in groups.dropna().unique() if g != ""):
            keep = (groups == group).to_numpy()
            if of == "cases":
                keep = np.where(scores.truth[finding] == 1, keep, True)
            values, truth = (
                t.loc[keep, [finding]] for t in (scores.values, scores.truth)
            )
            part = Scores(values, truth, scores.patient_id[keep])
            rows.append(part.auroc().assign(group=group))
    whole = pd.concat(rows, ignore_index=True)
    return whole[["group", *whole.columns.drop("group")]]


def group_gaps(scores: Scores, groups, *, family=None) -> list[Comparison]:
    """Each group's AUROC against that of all other groups together.

    >>> for gap in group_gaps(scores, test["site"]):
    ...     print(gap)

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
    groups = pd.Series(np.asarray(groups, dtype=object)).fillna("")
    names = sorted(set(groups) - {""})
    family = family or len(names)
    gaps = []
    for name in names:
        sides = (_sided(y, groups, part) for part in ([name], set(names) - {name}))
        gap = _gap(*sides, s, scores.patient_id, family)
        about = {"names": (str(name), "the others"), "what": f"AUROC for {finding}"}
        gaps.append(Comparison(**about, **gap, family=family))
    return gaps


def _gap(here, there, s, patients, family):
    """The difference of two AUROCs by patient; without an interval where either has
    none.
    """
    pair = [Pull.of(side, s, patients) for side in (here, there)]
    notes = [pull.missing() for pull in pair if pull.missing()]
    difference = pair[0].auroc - pair[1].auroc
    low, high, p = np.nan, np.nan, np.nan
    if not notes:
        low, high, p = gap_interval(difference, [pair], family)
    ends = {"difference": difference, "low": low, "high": high, "p": p}
    _, n = numbered(np.asarray(patients)[~np.isnan(here)])
    return {**ends, "n": n, "note": "; ".join(notes)}


def _sided(y, groups, part):
    """Labels of the groups in `part`, NaN elsewhere; all controls where these groups
    have none.
    """
    inside = groups.isin(part).to_numpy()
    if not (y[inside] == 0).any():
        inside = inside | (y == 0)
    return np.where(inside, y, np.nan)
