"""The slices that were looked for, ranked, each with what the other half says of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.fail.evidence import Evidence, compared
from radwb.fail.slices.confirm import ERRORS, LEAST_FILMS, Answers, errs_more
from radwb.stats import clustered_auroc, clustered_mean
from radwb.stats.sentence import Comparison


@dataclass(frozen=True, eq=False)
class Candidate:
    """A slice that one half of the patients suggests.

    Attributes:
        name: "slice 7", or what its films have in common, such as "site=C, view=AP".
        label: of its films, 1 (some are missed) or 0 (some are false alarms).
        inside: (M,) bool, the films of the other half that lie in it, of any label.
        like: (M,) bool, those that look as if they did, whatever their label.
        typical: (M,) how typical each of these is; the highest are shown first.
        excess: how far it errs beyond the rest in the half that suggests it.
    """

    name: str
    label: int
    inside: np.ndarray
    like: np.ndarray
    typical: np.ndarray
    excess: float


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of films that your model answers worse, and which of them are confirmed.

    Attributes:
        finding: that was scored.
        threshold: the score from which on a film counts as ill.
        table: a row a candidate, found ones first: slice, error ("missed" of films with
            the finding, or "false alarm" of those without), found (whether patients who
            did not suggest it confirm it), n and patients (of the slice, in the half
            that confirms), rate, low, high (share of errors in it, by patient),
            rest_rate, difference, difference_low, difference_high, p (not corrected),
            auroc, auroc_low, auroc_high, auroc_rest (of all films that look as if they
            lay in it, and of the others), note.
        comparisons: of the slice with the rest, in the same order.
        films: rows of the user's table in each slice, the most typical first.
        rest: rows of the same label beside it.
        source: the user's table.
        looked: films of those who suggest, by label 1 and 0.
        wrong: films that are answered wrongly, of all patients.
    """

    finding: str
    threshold: float
    table: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    films: tuple[np.ndarray, ...]
    rest: tuple[np.ndarray, ...]
    source: pd.DataFrame
    looked: dict[int, int]
    wrong: int

    @property
    def found(self) -> pd.DataFrame:
        """The rows that are confirmed."""
        return self.table[self.table["found"]]

    def examples(self, place: int = 0, n: int = 8) -> pd.DataFrame:
        """Rows of your table: the most typical films of the slice in that place."""
        return self.source.iloc[self.films[place][:n]]

    def evidence(self) -> list[Evidence]:
        """Rows for the card: each slice that is found, or what came closest to one."""
        if not len(self.table):
            return [self._nothing()]
        shown = max(1, int(self.table["found"].sum()))
        rows = []
        for place in range(shown):
            row = self.table.iloc[place]
            words = f"{row['slice']}: {row['error']} for {self.finding}"
            tried = f"{len(self.table)} slices were looked for; {words}"
            comparison = self.comparisons[place]
            one = compared("slice", tried, comparison, harm="ahead")
            rows.append(one)
        return rows

    def _nothing(self):
        """Evidence that no slice was even suggested: an all-clear if all are right."""
        few = min(self.looked.values()) < LEAST_FILMS
        sentence = (
            f"no slice is suggested among {self.looked[1]} films with {self.finding} "
            f"and {self.looked[0]} without, of which under {LEAST_FILMS} can't be one; "
            f"{self.wrong} of all films are answered wrongly"
        )
        return Evidence(
            kind="slice",
            tried=f"slices were looked for in {self.finding}",
            measure="difference in share of errors",
            value=np.nan,
            low=np.nan,
            high=np.nan,
            n=sum(self.looked.values()),
            unit="films",
            verdict="can't tell" if few or self.wrong else "no failure seen",
            sentence=sentence,
        )


COLUMNS = (
    "slice",
    "error",
    "found",
    "n",
    "patients",
    "rate",
    "low",
    "high",
    "rest_rate",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "auroc",
    "auroc_low",
    "auroc_high",
    "auroc_rest",
    "note",
)


def best(candidates: Sequence[Candidate], n: int) -> list[Candidate]:
    """The n that err most beyond the rest, of those that do at all."""
    erring = [candidate for candidate in candidates if candidate.excess > 0]
    erring.sort(key=lambda candidate: -candidate.excess)
    return erring[:n]


def confirmed(
    candidates: Sequence[Candidate],
    one: Answers,
    other: Answers,
    scores: np.ndarray,
    finding: str,
    source: pd.DataFrame,
) -> Slices:
    """Test each candidate on the other half of the patients.

    Args:
        candidates: those of `best`.
        one: answers of the half that suggests.
        other: answers of the half that confirms.
        scores: (M,) of its films.
        finding, source: as `Slices` has them.
    """
    tested = []
    for candidate in candidates:
        alike = other.y == candidate.label
        inside = candidate.inside[alike]
        comparison = errs_more(
            other.wrong[alike],
            inside,
            other.patients[alike],
            name=candidate.name,
            what=f"share {'missed' if candidate.label else 'of false alarms'}",
            family=len(candidates),
        )
        tested.append((comparison, candidate))
    tested.sort(key=_rank)
    films, rest = _films(tested, other)
    rows = [_row(*pair, other, scores) for pair in tested]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["found"] = table["found"].astype(bool)
    return Slices(
        finding=finding,
        threshold=other.threshold,
        table=table,
        comparisons=tuple(comparison for comparison, _ in tested),
        films=tuple(films),
        rest=tuple(rest),
        source=source,
        looked={label: int((one.y == label).sum()) for label in ERRORS},
        wrong=int(one.wrong.sum() + other.wrong.sum()),
    )


def _films(tested, other):
    """Rows of the films in each slice, the most typical first, and of those beside."""
    films = []
    rest = []
    for _, candidate in tested:
        alike = other.y == candidate.label
        order = np.argsort(-candidate.typical, kind="stable")
        order = order[(alike & candidate.inside)[order]]
        films.append(other.rows[order])
        rest.append(other.rows[alike & ~candidate.inside])
    return films, rest


def _rank(pair):
    """Found ones first, then by how surely they differ; those without p come last."""
    comparison, _ = pair
    p = np.nan_to_num(comparison.p, nan=2.0)
    return comparison.verdict != "ahead", p, -np.nan_to_num(comparison.difference)


def _row(comparison, candidate, other, scores):
    """What the table says of one."""
    alike = other.y == candidate.label
    inside = candidate.inside
    within = alike & inside
    wrong = other.wrong.astype(float)
    rate = clustered_mean(wrong[within], other.patients[within], share=True)
    beside = wrong[alike & ~inside]
    like = candidate.like
    auroc = clustered_auroc(other.y[like], scores[like], other.patients[like])
    rest = clustered_auroc(other.y[~like], scores[~like], other.patients[~like])
    return {
        "slice": candidate.name,
        "error": ERRORS[candidate.label],
        "found": comparison.verdict == "ahead",
        "n": rate["n"],
        "patients": rate["patients"],
        "rate": rate["mean"],
        "low": rate["low"],
        "high": rate["high"],
        "rest_rate": beside.mean() if len(beside) else np.nan,
        "difference": comparison.difference,
        "difference_low": comparison.low,
        "difference_high": comparison.high,
        "p": comparison.p,
        "auroc": auroc["auroc"],
        "auroc_low": auroc["low"],
        "auroc_high": auroc["high"],
        "auroc_rest": rest["auroc"],
        "note": comparison.note,
    }
