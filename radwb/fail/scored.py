"""Whether each film has a score: a NaN among them would switch a limit off unseen."""

import numpy as np

from radwb.probe import Scores


def all_scored(scores: Scores, finding: str, *, labelled: bool = True) -> None:
    """Raises a ValueError where a film has NaN for a score.

    >>> all_scored(scores, "Pneumothorax")

    Args:
        scores: of a finding of yours, and others.
        finding: the one that counts.
        labelled: only films with the label 0 or 1 count; False = all do.
    """
    values = scores.values[finding].to_numpy(float)
    word = ""
    if labelled:
        word = "labelled "
        values = values[np.isin(scores.truth[finding].to_numpy(float), (0, 1))]
    missing = int(np.isnan(values).sum())
    if missing:
        raise ValueError(
            f"expected a score for each {word}film, got {missing} NaN of "
            f"{len(values)} for {finding}. Try without these films"
        )
