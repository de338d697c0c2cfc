"""A table that a window writes at each step, in a CSV beside the notebook."""

import os
import tempfile
from pathlib import Path

import pandas as pd


class Saved:
    """A CSV of known columns that only its owner reads.

    It is written when there is something to write, never before, and each time whole: a
    reader never meets half of it.

    >>> saved = Saved("readings.csv", ("case", "answer"), "readings")
    >>> saved.write(pd.DataFrame({"case": ["a"], "answer": [1]}))
    >>> Saved("readings.csv", ("case", "answer"), "readings").read()["case"].tolist()
    ['a']

    Args:
        path: of the CSV; None keeps the table in memory.
        columns: of the table.
        what: it holds, for the error's sentence.
    """

    def __init__(self, path: str | Path | None, columns: tuple[str, ...], what: str):
        self.path = None if path is None else Path(path).expanduser()
        self.columns = columns
        self.what = what
        self.table = pd.DataFrame(columns=columns)

    def read(self) -> pd.DataFrame:
        """The table as it is now, all of it text.

        Raises:
            ValueError: a file is there that is none of these.
        """
        if self.path is None:
            return self.table
        if not self.path.exists():
            return pd.DataFrame(columns=self.columns)
        try:
            table = pd.read_csv(self.path, dtype=str, keep_default_na=False)
            found = list(table.columns)
        except (OSError, ValueError) as problem:  # pandas' own are ValueErrors
            found = type(problem).__name__
        if found != list(self.columns):
            lacking = [column for column in self.columns if column not in found]
            older = f", without {lacking}, as an older radwb may have written it"
            if not set(found) < set(self.columns):
                older = ""
            raise ValueError(
                f"{self.path.name}: expected {self.what}, a CSV with the columns "
                f"{', '.join(self.columns)}; got {found}{older}. It stays as it is. "
                "Try another name."
            )
        return table

    def write(self, table: pd.DataFrame) -> None:
        self.table = table
        if self.path is None:
            return
        # 0600, beside the file, so that the last step is one step
        number, part = tempfile.mkstemp(".part", f".{self.path.name}", self.path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
                table.to_csv(file, index=False)
            os.replace(part, self.path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
