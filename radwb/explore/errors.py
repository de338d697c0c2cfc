"""The worst errors of a model: cases scored like controls, and the other way round."""

import numpy as np
import pandas as pd

from radwb.probe import Scores

MISSED, FALSE_ALARM = "missed", "false alarm"
COLUMNS = ("row", "error", "score", "beyond", "of")


def scores_of(
    scores: Scores | np.ndarray, finding: str | None
) -> tuple[str, np.ndarray]:
    """The finding and its (N,) scores.

    Raises:
        ValueError: which finding isn't said, or it has no scores.
    """
    if not isinstance(scores, Scores):
        if finding is None:
            raise ValueError("expected finding=... beside scores that name none")
        return finding, np.asarray(scores, dtype=float).ravel()
    names = list(scores.values)
    if finding is None and len(names) == 1:
        finding = names[0]
    if finding not in names:
        raise ValueError(f"expected a finding of {names}, got {finding!r}")
    return finding, scores.values[finding].to_numpy(float)


def worst_errors(y: np.ndarray, scores: np.ndarray, *, most: int = 20) -> pd.DataFrame:
    """The cases with the lowest scores and the controls with the highest, by turns.

    >>> errors = worst_errors([1, 1, 0, 0], [0.9, 0.2, 0.3, 0.1])
    >>> errors[["row", "error", "beyond", "of"]].values.tolist()
    [[1, 'missed', 1, 2], [2, 'false alarm', 1, 2]]

    An error is a case that some control outranks, and a control that outranks some
    case: no threshold has to be chosen.

    Args:
        y: (N,) labels; anything but 1 and 0 is left out.
        scores: (N,) higher = more likely; a film without one is left out.
        most: of each kind.
    Returns:
        row, error ("missed" or "false alarm"), score, how many films of the other label
        lie beyond it, and of how many.
    """
    y = np.asarray(y, dtype=float)
    scores = np.asarray(scores, dtype=float)
    known = np.isfinite(scores)
    kinds = []
    for label, error, sign in ((1, MISSED, 1), (0, FALSE_ALARM, -1)):
        own = np.flatnonzero(known & (y == label))
        others = np.sort(sign * scores[known & (y == 1 - label)])
        beyond = len(others) - np.searchsorted(others, sign * scores[own], "right")
        rows = pd.DataFrame({"row": own, "error": error, "score": scores[own]})
        rows = rows.assign(beyond=beyond, of=len(others))
        rows = rows[rows["beyond"] > 0]
        order = (sign * rows["score"]).sort_values(kind="stable").index
        kinds.append(rows.loc[order].head(most).reset_index(drop=True))
    both = pd.concat(kinds, keys=range(2))
    both = both.sort_index(level=1, kind="stable", sort_remaining=False)
    return both.reset_index(drop=True)[list(COLUMNS)]


def in_words(error: pd.Series | dict, finding: str) -> str:
    """What is wrong with the score of a film.

    >>> row = dict(error="missed", score=0.12, beyond=83, of=100)
    >>> in_words(row, "Edema")
    'Edema by its label; 83 of 100 films without it score higher than its 0.12'
    """
    beyond = f"{error['beyond']} of {error['of']} films"
    score = f"its {error['score']:.3g}"
    if error["error"] == MISSED:
        return f"{finding} by its label; {beyond} without it score higher than {score}"
    return f"no {finding} by its label; {beyond} with it score lower than {score}"
