"""Numbers and verdicts in words: a sentence follows from the interval, by no hand.

`format_interval` says one number: "0.84 (0.80 to 0.88)". A `Comparison`, as `compare`
and its kin return it, says two: "a is ahead of b by 0.12 (0.05 to 0.19; 214 patients)".
`rw.probe.comparison_sentences` joins those of a table. Both kinds of brackets are made
here: the interval, or why there is none, and what is to be known of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

VERBS = {"ahead": "is ahead of", "behind": "is behind"}


def format_interval(row: Mapping, value: str = "auroc") -> str:
    """A number with its interval and its note, for a sentence.

    >>> row = {"auroc": 0.84, "low": 0.8, "high": 0.88}
    >>> format_interval(row)
    '0.84 (0.80 to 0.88)'
    >>> format_interval(row | {"low": np.nan, "note": "no interval: 4 patients"})
    '0.84 (no interval: 4 patients)'

    Args:
        row: a dict or a row of a table with `value`, low, high and, where it has one,
            note, such as `clustered_auroc` and `clustered_mean` return.
        value: name of the number.
    """
    note = row.get("note", "")
    if not isinstance(note, str):  # NaN, where other rows of the table have one
        note = ""
    number = row[value]
    if not np.isnan(number):
        about = _ends(row["low"], row["high"], note)
        return f"{number:.2f} ({about})"
    return f"no number ({note})" if note else "no number"


@dataclass(frozen=True)
class Comparison:
    """What was compared, by how much it differs, and what may be said of it.

    >>> print(Comparison(("a", "b"), "hits", 0.12, 0.05, 0.19, p=0.001, n=214))
    a is ahead of b by 0.12 (0.05 to 0.19; 214 patients)

    Attributes:
        names: of a and b.
        what: is compared, such as "AUROC".
        difference: a minus b.
        low, high: its interval at 1 - 0.05 / family; NaN where there are too few to
            give one.
        p: two-sided, not corrected: hold it against 0.05 / family.
        n: how many units the interval stands on.
        unit: "patients" or "seeds".
        family: number of comparisons that were made together.
        note: why there is no interval, or which findings are left out and why; else "".
    """

    names: tuple[str, str]
    what: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    unit: str = "patients"
    family: int = 1
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether a is "ahead", "behind" or, with an interval over 0, "can't tell"."""
        if self.low > 0:
            return "ahead"
        if self.high < 0:
            return "behind"
        return "can't tell"

    def __str__(self):
        a, b = self.names
        if self.verdict == "can't tell":
            gap = f"{self.difference:.2f}".replace("nan", "no number")
            return f"can't tell {a} from {b}: {gap} ({self._about(1)})"
        # told from the one that is ahead or behind, so that the number has no sign
        about = self._about(np.sign(self.difference))
        gap = abs(self.difference)
        return f"{a} {VERBS[self.verdict]} {b} by {gap:.2f} ({about})"

    def _about(self, sign):
        unit = self.unit.removesuffix("s") if self.n == 1 else self.unit
        counted = f"{self.n} {unit}"
        if np.isnan(self.low):
            return f"{_ends(np.nan, np.nan, self.note)}; {counted}"
        low, high = sorted((sign * self.low, sign * self.high))
        together = f"one of {self.family} comparisons" if self.family > 1 else ""
        return _ends(low, high, counted, together, self.note)

    def row(self) -> dict:
        """For a table: names as a and b, the attributes, and the verdict."""
        row = asdict(self)
        a, b = row.pop("names")
        note = row.pop("note")
        return {"a": a, "b": b, **row, "verdict": self.verdict, "note": note}


def _ends(low, high, *notes):
    """The inside of the brackets: the interval and notes, or why there is none."""
    notes = "; ".join(note for note in notes if note)
    if np.isnan(low) or np.isnan(high):
        return notes or "no interval"
    ends = f"{low:.2f} to {high:.2f}"
    return f"{ends}; {notes}" if notes else ends
