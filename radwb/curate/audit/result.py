"""What an audit finds: one row a finding of it, with its evidence."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.data.scan import Scan
from radwb.data.table import scan_of

SEVERITIES = ("leak", "look", "note")
COLUMNS = (
    "check",
    "about",
    "severity",
    "n",
    "of",
    "patients",
    "value",
    "low",
    "high",
    "sentence",
    "first",
    "second",
)


def row(
    check: str,
    severity: str,
    sentence: str,
    *,
    about: str = "",
    n: int,
    of: int,
    patients: int,
    value: dict | None = None,
    evidence: tuple = (),
) -> dict:
    """One row of an audit.

    Args:
        check, severity, sentence: what was looked for, how bad it is, what was found.
        about: the column or finding.
        n, of, patients: rows concerned, rows looked at, patients concerned.
        value: a number as `rw.stats` gives it: auroc or mean, low, high.
        evidence: one or two rows of the table, counted from 0.
    """
    value = value or {}
    first, second = (*evidence, -1, -1)[:2]
    number = value.get("auroc", value.get("mean", np.nan))
    return {
        "check": check,
        "about": about,
        "severity": severity,
        "n": int(n),
        "of": int(of),
        "patients": int(patients),
        "value": number,
        "low": value.get("low", np.nan),
        "high": value.get("high", np.nan),
        "sentence": sentence,
        "first": int(first),
        "second": int(second),
    }


@dataclass(frozen=True, eq=False)
class Audit:
    """What is wrong with a table, what was looked at, and what wasn't.

    Attributes:
        rows: one row a thing found, leaks first: check, about (column or finding),
            severity (leak: the test part isn't new; look: it may make a model right
            for a wrong reason; note: to be known), n (rows concerned), of (rows looked
            at), patients, value with low and high where there is one, sentence, first
            and second (the evidence: rows of the table counted from 0, -1 for none).
        examined: one row a check: how many rows it saw, what it found, or why it wasn't
            made.
        pairs: copies as `near_duplicates` gives them, and `across`: the parts of the
            split differ.
        flags: one row a film and check that concerns it: row, check.
        table: that was looked at.
    """

    rows: pd.DataFrame
    examined: pd.DataFrame
    pairs: pd.DataFrame
    flags: pd.DataFrame
    table: pd.DataFrame

    @property
    def leaks(self) -> pd.DataFrame:
        """The rows that make a test result worthless."""
        return self.rows[self.rows["severity"] == "leak"]

    def show(self, number: int = 0) -> list[Scan]:
        """The evidence of a row, for `rw.show.grid`.

        >>> audit = rw.curate.audit(table.assign(split="train"), pictures=False)
        >>> rw.show.grid(audit.show(0)) if len(audit.rows) else None

        Args:
            number: of the row in `rows`.
        Returns:
            one or two films; none where the row has no film as its evidence.
        """
        places = self.rows.iloc[number][["first", "second"]]
        return [scan_of(self.table.iloc[place]) for place in places if place >= 0]

    def __str__(self):
        counts = self.rows["severity"].value_counts()
        said = ", ".join(f"{counts.get(name, 0)} {name}" for name in SEVERITIES)
        lines = [f"{len(self.table)} rows: {said}"]
        for line in self.rows.itertuples():
            lines.append(f"{line.severity:4}  {line.check}: {line.sentence}")
        return "\n".join(lines)

    def _repr_html_(self):
        shown = self.rows.drop(columns=["low", "high"])
        return shown.to_html(index=False, float_format="%.2f")


def collected(rows: list[dict]) -> pd.DataFrame:
    """Rows as a table, leaks first, then the many before the few."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    rank = table["severity"].map(SEVERITIES.index).astype(int)
    order = pd.DataFrame({"rank": rank, "less": -table["n"]})
    return table.loc[order.sort_values(["rank", "less"], kind="stable").index]
