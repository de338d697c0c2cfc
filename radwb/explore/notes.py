"""What somebody noted of films, in a CSV beside the table."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from radwb.explore.saved import Saved

COLUMNS = (
    "study_id",
    "patient_id",
    "case",
    "model",
    "method",
    "target",
    "score",
    "energy",
    "verdict",
    "note",
    "when",
)
LONGEST = 5000  # letters of a note


class Notes:
    """A verdict and a note a film, kept in a file that only its owner reads.

    It is written when something is noted, never before, and each time whole: a reader
    never meets half of it.

    >>> notes = Notes("notes.csv")
    >>> notes.add({"case": "V0-000003-1", "verdict": "agree", "note": ""})
    >>> Notes("notes.csv").of("V0-000003-1")
    {'verdict': 'agree', 'note': ''}

    Args:
        path: of the CSV; None keeps them in memory.
        columns: of the CSV: case, verdict, note, when, and what else is noted.
    Raises:
        ValueError: a file is there that isn't one of notes.
    """

    def __init__(
        self, path: str | Path | None = None, columns: tuple[str, ...] = COLUMNS
    ):
        self.columns = columns
        self.saved = Saved(path, columns, "notes")
        self.path = self.saved.path
        self._keep(self.saved.read())

    def of(self, case: str) -> dict[str, str]:
        """The verdict and the note of a case, "" where there is none."""
        return self.by_case.get(case, {"verdict": "", "note": ""})

    def of_all(self, names: list[str]) -> dict[str, dict[str, str]]:
        """{number: verdict and note} of those films that have any."""
        noted = {str(case): self.of(name) for case, name in enumerate(names)}
        return {case: note for case, note in noted.items() if any(note.values())}

    def add(self, row: dict[str, object]) -> None:
        """Note something of a case, in place of what was noted of it.

        Raises:
            ValueError: the file has become something else, or can't be written.
        """
        if len(str(row["note"])) > LONGEST:
            raise ValueError(
                f"expected a note of at most {LONGEST} letters, got {len(row['note'])}"
            )
        table = self.saved.read()  # another window may have written meanwhile
        others = table[table["case"] != row["case"]]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = {column: _text(row.get(column)) for column in self.columns} | {
            "when": now
        }
        is_empty = not line["verdict"] and not line["note"]
        new = pd.DataFrame([] if is_empty else [line], columns=self.columns)
        table = pd.concat([others, new], ignore_index=True)
        self.saved.write(table)
        self._keep(table)

    def _keep(self, table):
        self.table = table
        rows = table.set_index("case")[["verdict", "note"]]
        self.by_case = rows[~rows.index.duplicated(keep="last")].to_dict("index")


def about_map(view: dict, case: int) -> dict[str, object]:
    """What a note says of the map beside it; nothing where that is another film's."""
    if view["case"] != case:
        return {}
    choice = view["choice"]
    score = view["score"] or {}
    said = view["said"] or {}
    asked = {part: choice[part] for part in ("model", "method", "target")}
    return asked | {"score": said.get("value"), "energy": score.get("energy")}


def _text(value):
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
