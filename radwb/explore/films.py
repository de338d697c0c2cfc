"""The films of the widget: their names, labels and facts, and their pixels."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pandas as pd

from radwb import data
from radwb.explore.kept import SCANS
from radwb.findings.rows import FINDINGS, PARENT

ABOUT = (
    "patient_id",
    "study_id",
    "view",
    "position",
    "modality",
    "site",
    "sex",
    "age_years",
    "split",
)
FACTS = {  # column -> its words
    "patient_id": "Patient",
    "study_id": "Study",
    "age_years": "Age (years)",
    "sex": "Sex",
    "view": "View",
    "position": "Position",
    "modality": "Modality",
    "site": "Site",
    "split": "Split",
}
LABELS = {1: "Present", 0: "Absent", -1: "Uncertain"}
LONGEST = 5000  # letters of a report


class Films:
    """Rows of a table, or Scans, one a case.

    >>> films = Films(table)
    >>> films.name(0) == table["study_id"].iloc[0]
    True

    Args:
        films: a table or a list of Scans.
    """

    def __init__(self, films):
        scans = [] if isinstance(films, pd.DataFrame) else list(films)
        self.scans = scans
        self.table = pd.DataFrame([_row(scan) for scan in scans]) if scans else films
        if not len(self.table):
            raise ValueError(
                "expected at least one film, got none. "
                "Try rw.simulate.cohort(n=12, seed=0)."
            )
        self.findings = [name for name in self.table if name in FINDINGS]
        known = self.table.columns[self.table.notna().any()]
        self.columns = [c for c in (*ABOUT, *self.findings) if c in known]
        self.rows = _plain(self.table)
        self.names = self._names()
        self.keys = {}

    def __len__(self):
        return len(self.rows)

    def name(self, case: int) -> str:
        """Its study, or where it comes from; no two films have one name."""
        return self.names[case]

    def patient(self, case: int) -> str:
        """Its patient; of a Scan its name, since it says none."""
        return str(self.rows[case].get("patient_id") or self.name(case))

    def of(self, name: str) -> int:
        """The case of that name.

        Raises:
            ValueError: there is none.
        """
        if name not in self.names:
            raise ValueError(
                f"expected one of {len(self)} films, such as {self.names[0]!r}; got "
                f"{name!r}, which isn't there"
            )
        return self.names.index(name)

    def key(self, case: int) -> tuple:
        """What tells its pixels from others', in this widget and in the next."""
        if case not in self.keys:
            self.keys[case] = self._key(case)
        return self.keys[case]

    def scan(self, case: int) -> data.Scan:
        if self.scans:
            return self.scans[case]
        return SCANS.get(self.key(case), lambda: self.read(case))

    def read(self, case: int) -> data.Scan:
        """As `scan`, without keeping it."""
        return self.scans[case] if self.scans else data.scan_of(self.table.iloc[case])

    def label(self, case: int, finding: str | None) -> float | None:
        """1, 0, -1 (uncertain), or None where nothing is known."""
        if finding not in self.findings:
            return None
        return self.rows[case][finding]

    def absent(self, case: int) -> list[str]:
        """The findings that are known not to be there.

        Of a virtual film that follows from what was planted, whatever its labels say.
        """
        planted = self.rows[case].get("planted")
        if isinstance(planted, str):
            try:
                present = {one["name"] for one in json.loads(planted)}
            except (ValueError, TypeError, KeyError):
                return []
            known = [name for name, about in FINDINGS.items() if about.planting]
            return [n for n in known if not present & {n, *PARENT.get(n, ())}]
        return [name for name in self.findings if self.rows[case][name] == 0]

    def values(self, case: int) -> dict:
        """Its columns, as JSON has them."""
        return {column: self.rows[case][column] for column in self.columns}

    def facts(self, case: int) -> list[list[str]]:
        """(name, text) of what a reader wants to know of it."""
        row = self.rows[case]
        facts = []
        for column, words in FACTS.items():
            value = row.get(column)
            if value not in (None, ""):
                # 86, where the column has gaps and so is of floats
                text = f"{value:g}" if isinstance(value, float) else str(value)
                facts.append([words, text])
        for value, words in LABELS.items():
            names = [name for name in self.findings if row[name] == value]
            if names:
                facts.append([words, ", ".join(names)])
        if isinstance(row.get("report"), str):
            facts.append(["Report", row["report"][:LONGEST]])
        return facts

    def _names(self):
        column = "source" if self.scans else "study_id"
        names = [str(row.get(column) or "") for row in self.rows]
        names = [name or f"film {n}" for n, name in enumerate(names)]
        count = Counter(names)
        for n, name in enumerate(names):
            if count[name] > 1:
                stem = Path(str(self.rows[n].get("path") or n)).stem
                names[n] = f"{name} ({stem})"
        if len(set(names)) < len(names):
            names = [f"{name} #{n}" for n, name in enumerate(names)]
        return names

    def _key(self, case):
        if self.scans:
            scan = self.scans[case]
            pixels = hashlib.blake2b(scan.pixels.tobytes(), digest_size=16)
            return pixels.digest(), scan.shape, scan.aspect
        row = self.rows[case]
        path = data.names.local_path(str(row.get("path")))
        truth = row.get("truth_path") or f"{path.parent / path.stem}.truth.png"
        return str(path), row.get("view"), _version(path), str(truth), _version(truth)


def _version(path):
    """Changes with every writing of the file."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return facts.st_mtime_ns, facts.st_size


def _row(scan):
    """A Scan as a row of a table."""
    about = dict(source=scan.source, view=scan.view, modality=scan.modality)
    return about | {name: 1 for name, mask in scan.truth.items() if mask.any()}


def _plain(table):
    """The rows as dicts of Python's own values, None for what is missing."""
    table = table.reset_index(drop=True).astype(object)
    return table.where(table.notna(), None).to_dict("records")
