"""The same score in parts of the cohort: by site, sex, view, severity."""

import numpy as np
import pandas as pd

from radwb.probe import Scores


def subgroups(scores: Scores, groups, *, of="images") -> pd.DataFrame:
    """AUROC with its interval in each group.

    >>> subgroups(scores, test["site"])
    >>> subgroups(scores, severity_words, of="cases")        # small, moderate, large against all without

    Args:
        scores: of N images.
        groups: (N,) name of each image's group; NaN and "" belong to none.
        of: "images" keeps a group's images; "cases" keeps a group's cases beside the controls of all groups,
            for what only cases have, such as severity.
    Returns:
        group, then the columns of `Scores.auroc`; groups in sorted order.
    """
    if of not in ("images", "cases"):
        raise ValueError(f'expected of="images" or of="cases", got {of!r}')
    groups = pd.Series(np.asarray(groups, dtype=object))
    if len(groups) != len(scores.values):
        raise ValueError(f"expected one group an image, got {len(groups)} for {len(scores.values)} images")
    rows = []
    for finding in scores.values:
        for group in sorted(g for g in groups.dropna().unique() if g != ""):
            keep = (groups == group).to_numpy()
            if of == "cases":
                keep = np.where(scores.truth[finding] == 1, keep, True)
            values, truth = (t.loc[keep, [finding]] for t in (scores.values, scores.truth))
            part = Scores(values, truth, scores.patient_id[keep])
            rows.append(part.auroc().assign(group=group))
    whole = pd.concat(rows, ignore_index=True)
    return whole[["group", *whole.columns.drop("group")]]
