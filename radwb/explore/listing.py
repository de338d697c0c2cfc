"""The films as a list: what the table has of each, and what became known since."""

import numpy as np

from radwb.explore.arrange import arranged
from radwb.explore.scores import AT_MEDIAN, READ_UNASKED, errors_at_median, ranks
from radwb.explore.words import finding_named

LABEL, SCORE, RANK, VERDICT = "label", "score", "rank", "verdict"
ON_TRUTH = "map on truth"
# of the first pane's words, and known once all films have been read
OF_WORDS = (SCORE, RANK, AT_MEDIAN)


class Listing:
    """Columns of all films.

    Args:
        films: `Films`.
        notes: `Notes`.
    """

    def __init__(self, films, notes):
        self.films = films
        self.notes = notes
        self.columns = [*films.columns, LABEL, SCORE, RANK, AT_MEDIAN, VERDICT]
        self.finding = None  # that the words name
        self.scores = None  # (N,)
        self.energies = None  # of the first pane's map on the truth
        self.of_table = [films.values(case) for case in range(len(films))]

    def ask(self, finding: str | None, target: str | None) -> None:
        """Forget what was known for other words.

        Args:
            finding: what all maps are scored against; None = what the words name.
            target: of the first pane.
        """
        self.scores = None
        self.finding = finding or finding_named(target, self.films.findings)

    def rows(self) -> list[dict]:
        """{"name": .., "values": {column: value or None}} of each film."""
        cases = range(len(self.films))
        unknown = [None] * len(cases)
        labels = unknown
        # the rows of a long table are megabytes, too much to be sent for each phrase
        if len(cases) <= READ_UNASKED or self.scores is not None:
            labels = [self.films.label(case, self.finding) for case in cases]
        scores, places, errors = unknown, unknown, unknown
        if self.scores is not None:
            known = np.isfinite(self.scores)
            rounded = self.scores.astype(float).round(4).astype(object)
            scores = np.where(known, rounded, None).tolist()
            places = ranks(self.scores)
            errors = errors_at_median(self.scores, labels)
        energies = self.energies or unknown
        rows = []
        for case in cases:
            name = self.films.name(case)
            added = {
                LABEL: labels[case],
                SCORE: scores[case],
                RANK: places[case],
                AT_MEDIAN: errors[case],
                VERDICT: self.notes.of(name)["verdict"] or None,
                ON_TRUTH: energies[case],
            }
            rows.append({"name": name, "values": self.of_table[case] | added})
        return rows

    def order(self, rows: list[dict], by: str, down: bool, keep: dict) -> list[int]:
        """The cases, as `arranged`; what isn't known yet keeps nothing out."""
        if self.scores is None:
            keep = {name: value for name, value in keep.items() if name not in OF_WORDS}
        return arranged([row["values"] for row in rows], by, down, keep)

    def label(self, by: str, view: dict) -> str:
        """What the films are sorted by now, in words.

        Args:
            by: a column.
            view: of the first pane.
        """
        if not self.knows(by):
            return ""
        if by == ON_TRUTH:
            return view["label"]
        return f"{by}: {view['choice']['target']}" if by in OF_WORDS else by

    def knows(self, by: str) -> bool:
        """Whether the films can be sorted by it now."""
        if by in OF_WORDS:
            return self.scores is not None
        return by != ON_TRUTH or self.energies is not None
