"""What a model's own probabilities foretell of its performance, without labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from radwb.fail.evidence import Evidence, compared
from radwb.probe import Scores
from radwb.stats import auroc, clustered_auroc, compare
from radwb.stats.sentence import Comparison


def expected_auroc(p: np.ndarray) -> float:
    """The AUROC that probabilities foretell of themselves, if they are calibrated.

    >>> expected_auroc([0.9, 0.9, 0.1, 0.1])
    0.93...

    Of two films i and j, i is the case and j the control with the chance p_i (1 - p_j).
    Among all pairs, the share of this weight where the case has the higher p.

    Args:
        p: (N,) probabilities; a tie counts half.
    Returns:
        NaN where no pair has weight.
    """
    p = np.sort(np.asarray(p, float))
    controls_up_to = np.cumsum(1 - p)
    below = controls_up_to - (1 - p)
    won = (p * below).sum()
    pairs = p.sum() * (1 - p).sum() - (p * (1 - p)).sum()
    return float(won / pairs) if pairs > 0 else np.nan


@dataclass(frozen=True, eq=False)
class Foretold:
    """What a model's own probabilities foretold without labels, and what came.

    Attributes:
        table: a row a part and finding: part, finding, foretold_accuracy, accuracy,
            foretold_auroc, auroc with low and high by patient, n.
        comparisons: (part, finding) -> accuracy foretold less real, by patient.
    """

    table: pd.DataFrame
    comparisons: dict[tuple[str, str], Comparison]

    def evidence(self) -> list[Evidence]:
        """A row a part but the first, which is the control, and finding."""
        first = self.table["part"].iloc[0]
        rows = []
        for (part, finding), comparison in self.comparisons.items():
            if part == first:
                continue
            tried = f"accuracy for {finding} foretold without labels, {part}"
            control = self.comparisons[first, finding].difference
            row = compared("drift", tried, comparison, harm="ahead", control=control)
            rows.append(row)
        return rows


def foretell(reference: Scores, watched: Mapping[str, Scores]) -> Foretold:
    """What your model would say of its own performance where nobody has labels.

    >>> half = np.arange(60) % 2 == 0
    >>> def part(rows):
    ...     patients = scores.patient_id[rows]
    ...     return rw.probe.Scores(scores.values[rows], scores.truth[rows], patients)
    >>> foretell(part(half), {"others": part(~half)}).table["n"].tolist()
    [30, 30]

    Confidence-based estimation, the CBPE of nannyml: probabilities are calibrated on
    the reference (Platt's logistic curve), and then taken at their word. It is right as
    long as films with the same score are ill as often as they were in the reference.

    Args:
        reference: labelled, of films that the model wasn't trained on.
        watched: name -> Scores of other films, with labels, for these are what is
            compared; the first is the control, where nothing has changed.
    Raises:
        ValueError: a reference of one class, or a part without labelled films.
    """
    rows = []
    comparisons = {}
    for finding in reference.values:
        calibrate = calibration(reference, finding)
        for part, scores in watched.items():
            y, odds, patients = labelled(scores, finding, part)
            p = calibrate(odds)
            foretold = np.maximum(p, 1 - p)
            right = (p > 0.5) == (y == 1)
            comparison = compare(
                foretold,
                right,
                patients,
                names=("what was foretold", "what came"),
                what=f"accuracy for {finding}",
                family=len(watched) * len(reference.values.columns),
            )
            comparisons[part, finding] = comparison
            row = {"part": part, "finding": finding}
            row["foretold_accuracy"] = foretold.mean()
            row["accuracy"] = right.mean()
            row["foretold_auroc"] = expected_auroc(p)
            rows.append(row | clustered_auroc(y, p, patients))
    return Foretold(pd.DataFrame(rows), comparisons)


def labelled(scores: Scores, finding: str, part: str):
    """Labels, log odds and patients of the films that have a label."""
    truth = scores.truth[finding].to_numpy(float)
    known = np.isin(truth, (0, 1))
    if not known.any():
        raise ValueError(
            f"expected films with a label for {finding} in {part!r}, "
            f"got {len(truth)} without"
        )
    p = scores.values[finding].to_numpy(float)[known]
    odds = logit(p.clip(1e-7, 1 - 1e-7))
    return truth[known], odds, scores.patient_id[known]


def calibration(reference: Scores, finding: str):
    """Platt's curve: a function of log odds, fitted on the reference."""
    y, odds, _ = labelled(reference, finding, "the reference")
    if np.isnan(auroc(y, odds)):
        raise ValueError(
            f"expected a reference with and without {finding}, "
            f"got {len(y)} films of one kind"
        )
    curve = LogisticRegression(C=1e6).fit(odds[:, None], y)

    def calibrate(odds):
        return curve.predict_proba(odds[:, None])[:, 1]

    return calibrate
