"""Fewer mistakes by not answering: what is refused, and how wrong the rest is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.fail.evidence import Evidence, compared
from radwb.fail.scored import all_scored
from radwb.probe import Scores
from radwb.stats import clustered_mean
from radwb.stats.sentence import Comparison
from radwb.stats.shares import share_gap

SHARES_ANSWERED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, eq=False)
class Abstention:
    """How wrong the answers are that a model gives, if it may refuse the others.

    Attributes:
        table: films, planned (share of the answered where the limit was set), answered
            (share here), risk (of the answered, the share that is wrong), low, high (by
            patient), n (answered), patients, note; missed (of the answered cases, the
            share answered no: where cases are rare a low risk may hide it).
        gaps: films -> Comparison of the risk among the refused with that among the
            answered, at the share `at`; one family.
        at: the share that was planned there.
    """

    table: pd.DataFrame
    gaps: dict[str, Comparison]
    at: float

    def evidence(self) -> list[Evidence]:
        """Whether what is refused is wrong more often than what is answered.

        A failure is a model that is sure for sure where it is wrong; none is seen where
        the refused are worse. Refusing by chance would give a difference of 0.

        >>> answers = rw.fail.abstention(scores, {"the same": scores})
        >>> [row.kind for row in answers.evidence()]
        ['calibration']
        """
        rows = []
        for films, gap in self.gaps.items():
            tried = f"refusing the least sure {1 - self.at:.0%}, {films}"
            rows.append(compared("calibration", tried, gap, control=0.0))
        return rows


def abstention(
    on: Scores,
    films: Mapping[str, Scores],
    *,
    finding: str | None = None,
    shares: Sequence[float] = SHARES_ANSWERED,
    threshold: float = 0.5,
    at: float = 0.8,
) -> Abstention:
    """Refuse the least sure, and count how wrong the rest are: a risk-coverage curve.

    >>> answers = abstention(scores, {"the same": scores}, shares=(1.0, 0.5))
    >>> answers.table["answered"].tolist()
    [1.0, 0.5]

    How sure the model is, is the distance of its probability from the threshold. The
    limits are set once, on `on`: on other films another share may be refused (El-Yaniv
    and Wiener 2010).

    Args:
        on: probabilities that the limits are set on.
        films: name -> probabilities of films that are judged.
        finding: which of several; None = the first.
        shares: of the films of `on` that are answered.
        threshold: above it the answer is yes.
        at: share at which the refused are compared with the answered.
    Raises:
        ValueError: a film without a probability, the same for every film, or no label.
    """
    finding = finding or next(iter(on.values))
    sure_on, _ = _sure_and_wrong(on, finding, threshold)
    rows = []
    gaps = {}
    for name, scores in films.items():
        sure, wrong = _sure_and_wrong(scores, finding, threshold)
        for share in shares:
            answered = sure >= limit_for(sure_on, share)
            row = _row(name, share, answered, wrong, scores.patient_id)
            cases = answered & (scores.truth[finding] == 1).to_numpy()
            row["missed"] = wrong[cases].mean() if cases.any() else np.nan
            rows.append(row)
        answered = sure >= limit_for(sure_on, at)
        sides = ~answered & ~np.isnan(wrong), answered & ~np.isnan(wrong)
        gaps[name] = share_gap(
            *(wrong[side] for side in sides),
            tuple(scores.patient_id[side] for side in sides),
            names=("what is refused", "what is answered"),
            what="share that is wrong",
            family=len(films),
        )
    return Abstention(pd.DataFrame(rows), gaps, at)


def limit_for(sure: np.ndarray, share: float) -> float:
    """How sure one has to be so that this share of the films is answered."""
    if share >= 1:
        return 0.0
    return float(np.quantile(sure, 1 - share, method="higher"))


def _sure_and_wrong(scores, finding, threshold):
    """(N,) distance from the threshold; (N,) 1 where wrong, NaN without a label."""
    all_scored(scores, finding, labelled=False)  # each may be answered
    values = scores.values[finding].to_numpy(float)
    y = scores.truth[finding].to_numpy(float)
    labelled = np.isin(y, (0, 1))
    if not labelled.any() or np.ptp(values) == 0:
        raise ValueError(
            f"expected labelled films and probabilities for {finding} that differ, "
            f"got {labelled.sum()} labels and {len(np.unique(values))} different values"
        )
    wrong = np.where(labelled, (values > threshold) != (y == 1), np.nan)
    return np.abs(values - threshold), wrong


def _row(name, share, answered, wrong, patients):
    labelled = ~np.isnan(wrong)
    judged = answered & labelled
    row = clustered_mean(wrong[judged], patients[judged], share=True)
    return {
        "films": name,
        "planned": share,
        "answered": float(answered[labelled].mean()),
        "risk": row["mean"],
        **{column: row[column] for column in ("low", "high", "n", "patients", "note")},
    }
