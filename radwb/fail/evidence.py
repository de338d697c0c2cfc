"""One thing that was tried on a model, and what came of it: a row of its card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from radwb.stats import format_interval
from radwb.stats.sentence import Comparison

KINDS = (
    "capability",
    "calibration",
    "shortcut",
    "slice",
    "group",
    "robustness",
    "attack",
    "coverage",
    "unknown input",
    "drift",
    "memory",
    "mitigation",
    "map",
    "real films",
    "readers",
)
VERDICTS = ("failure", "no failure seen", "can't tell", "measured")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was tried on your model, what came of it, and how sure that is.

    Attributes:
        kind: one of `KINDS`.
        tried: in plain words, such as "noise of a quarter of the dose".
        measure: what `value` is, with its unit, such as "change of AUROC".
        value, low, high: with its 95 % interval; NaN where there are too few to give
            one.
        n, unit: what the interval stands on, such as 113 "patients" or 5 "seeds".
        verdict: one of `VERDICTS`; "measured" where nothing was looked for.
        sentence: made by a helper of `rw.stats`, never by hand.
        control: what the same measure gave where nothing should be found; NaN without.
        figure: a plotly figure, or None.
    """

    kind: str
    tried: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    verdict: str
    sentence: str
    control: float = np.nan
    figure: Any = None

    def __post_init__(self):
        if self.kind not in KINDS or self.verdict not in VERDICTS:
            raise ValueError(
                f"expected a kind of {', '.join(KINDS)} and a verdict of "
                f"{', '.join(VERDICTS)}; got {self.kind!r} and {self.verdict!r}"
            )


def compared(
    kind: str,
    tried: str,
    comparison: Comparison,
    *,
    harm: str = "behind",
    control: float = np.nan,
    figure: Any = None,
) -> Evidence:
    """A comparison as evidence: a failure where its interval leaves out zero.

    >>> about = {"names": ("blurred", "sharp"), "what": "AUROC"}
    >>> lost = rw.stats.compare_seeds([0.61, 0.62, 0.6], [0.81, 0.8, 0.8], **about)
    >>> compared("robustness", "films blurred", lost).verdict
    'failure'

    Args:
        kind, tried, control, figure: as `Evidence` has them.
        comparison: the model as it was tried, less the model as it should be.
        harm: the comparison's verdict that is a failure, "behind" or "ahead".
    """
    verdict = "no failure seen"
    if comparison.verdict == harm:
        verdict = "failure"
    elif comparison.verdict == "can't tell":
        verdict = "can't tell"
    return Evidence(
        kind=kind,
        tried=tried,
        measure=f"difference in {comparison.what}",
        value=comparison.difference,
        low=comparison.low,
        high=comparison.high,
        n=comparison.n,
        unit=comparison.unit,
        verdict=verdict,
        sentence=str(comparison),
        control=control,
        figure=figure,
    )


def measured(
    kind: str,
    tried: str,
    measure: str,
    row: Mapping,
    *,
    value: str = "auroc",
    verdict: str = "measured",
    control: float = np.nan,
    figure: Any = None,
) -> Evidence:
    """A number with its interval as evidence.

    >>> row = scores.auroc().iloc[0]
    >>> measured("capability", row["finding"], "AUROC", row).unit
    'patients'

    Args:
        kind, tried, measure, verdict, control, figure: as `Evidence` has them.
        row: with `value`, low, high and patients, as `clustered_auroc` and
            `clustered_mean` of `rw.stats` return it.
        value: name of the number in `row`.
    """
    return Evidence(
        kind=kind,
        tried=tried,
        measure=measure,
        value=row[value],
        low=row["low"],
        high=row["high"],
        n=int(row["patients"]),
        unit="patients",
        verdict=verdict,
        sentence=f"{measure}: {format_interval(row, value)}",
        control=control,
        figure=figure,
    )
