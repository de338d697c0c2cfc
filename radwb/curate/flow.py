"""`Flow`: how many went in, how many were lost at which step, and why."""

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from radwb.curate.split import PARTS
from radwb.data.table import film_keys
from radwb.identifiers import identifiers

COLUMNS = ["step", "films", "patients", "lost", "lost_patients", "why"]


class Flow:
    """A cohort's way from the drawer to its shards, a line a step.

    >>> flow = Flow("films in the drawer", table)
    >>> frontal = flow.keep("are frontal", table.head(40), why="lateral")
    >>> flow.steps["lost"].tolist()
    [0, 20]

    Attributes:
        steps: one row a step: step, films and patients that are left, lost and
            lost_patients, and why, {reason: films}.
        parts: films and patients of each part, once a table with `split` was seen.
    """

    def __init__(self, name: str, table: pd.DataFrame):
        """Begin with all there is.

        Args:
            name: what is counted, such as "files in the inbox".
            table: one row a file or film; patient_id, where it has one, is counted.
        """
        self._rows = []
        self._table = None
        self._add(name, table, {})

    def keep(
        self, name: str, table: pd.DataFrame, *, why: str | Mapping[str, int] = ""
    ) -> pd.DataFrame:
        """Note what a step left of the films, and hand it on.

        Args:
            name: what those that are left have in common, such as "can be read".
            table: what is left.
            why: of what is lost: one reason, or films a reason, which add up to them.
                Where perhaps none is lost, count them: {reason: 0} passes.
        Returns:
            the table as it is.
        Raises:
            ValueError: there are more films than before, a film of `path` is doubled or
                new (unless all are, as copies are), a loss has no reason, a reason no
                loss, or the reasons don't add up.
        """
        lost = self._rows[-1]["films"] - len(table)
        if isinstance(why, str):
            why = (
                {why: lost or 1} if why else {}
            )  # a reason stands for one film or more
        why = {str(reason).strip(): films for reason, films in why.items() if films}
        wrong = "" in why or any(n < 0 or n != int(n) for n in why.values())
        if lost < 0 or wrong or sum(why.values()) != lost:
            raise ValueError(
                f"expected reasons for {lost} films that {name!r} lost of "
                f"{self._rows[-1]['films']}, got {sum(why.values())}: {why}. Try "
                "why={reason: films}, counted on the table before"
            )
        _need_known(self._table, table, name)
        self._add(name, table, {reason: int(films) for reason, films in why.items()})
        return table

    def _add(self, name, table, why):
        patients = _patients(table)
        before = self._rows[-1] if self._rows else {"films": len(table)}
        known = before.get("patients", patients)
        gone = None if None in (known, patients) else known - patients
        lost = before["films"] - len(table)
        values = [name, len(table), patients, lost, gone, why]
        self._rows.append(dict(zip(COLUMNS, values, strict=True)))
        self._table = table

    @property
    def steps(self) -> pd.DataFrame:
        """One row a step."""
        return pd.DataFrame(self._rows, columns=COLUMNS)

    @property
    def parts(self) -> pd.DataFrame:
        """Films and patients in train, val and test; empty before the split."""
        rows = []
        split = self._table.get("split", pd.Series(dtype=object))
        for part in PARTS:
            table = self._table[split == part] if len(split) else self._table[:0]
            if len(table):
                counted = {"part": part, "films": len(table)}
                rows.append(counted | {"patients": _patients(table)})
        return pd.DataFrame(rows, columns=["part", "films", "patients"])

    def to_dict(self) -> dict:
        """Steps and parts as JSON holds them, for a manifest."""
        steps = [dict(row) for row in self._rows]
        return {"steps": steps, "parts": self.parts.to_dict("records")}

    def __str__(self):
        lines = []
        for row in self._rows:
            reasons = ", ".join(f"{n} {why}" for why, n in row["why"].items())
            lost = f" ({row['lost']} lost: {reasons})" if row["lost"] else ""
            lines.append(f"{row['films']:>7,} {row['step']}{lost}")
        return "\n".join(lines)


def _need_known(before, table, name):
    """Refuse films that came from elsewhere, or twice."""
    if "path" not in before.columns or "path" not in table.columns:
        return
    known = Counter(film_keys(before["path"].dropna()))
    films = Counter(film_keys(table["path"].dropna()))
    if not films & known:  # all are written anew, as by deidentify: once each
        known = Counter(films.keys())
    more = (films - known).total()
    if more:
        raise ValueError(
            f"expected films of the step before, once each, got {more} of "
            f"{len(table)} doubled or new in {name!r}. Try to keep rows of the table "
            "before, or a new Flow"
        )


def _patients(table):
    """How many are named; None where nobody is."""
    if "patient_id" not in table.columns:
        return None
    named = set(identifiers(table["patient_id"])) - {None}
    return len(named) if named or table.empty else None
