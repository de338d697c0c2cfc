"""Who is tried for a card, on what, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb import data
from radwb.fail.evidence import Evidence
from radwb.models import Model
from radwb.probe import Scores, classify, zero_shot

HEALTHY = "No Finding"
SMALL = 0.1  # of AUROC or of a share: less than this isn't called a failure here


@dataclass(frozen=True, eq=False)
class Trial:
    """Who is tried, and on what.

    Attributes:
        model: the Model.
        table: all rows, with label columns.
        test: the rows it is tried on, with an index from 0.
        scores: what it says of them.
        embeddings: (N, E) of them.
        seed: of whatever is drawn.
    """

    model: Model
    table: pd.DataFrame
    test: pd.DataFrame
    scores: Scores
    embeddings: np.ndarray | None
    seed: int = 0


@dataclass(frozen=True)
class NotTested:
    """What the card says nothing about, and why.

    Attributes:
        kind: one of `rw.fail.evidence.KINDS`.
        tried: what would have been tried.
        reason: in words.
    """

    kind: str
    tried: str
    reason: str


def asked(
    model: Model, test: pd.DataFrame, embeddings: np.ndarray | None = None
) -> Scores:
    """What your model says of each film: in words where it reads them, else its head.

    >>> list(asked(model, table[["path", "patient_id", "Edema"]]).values)
    ['Edema']

    Args:
        model: with a text tower, or with findings of its own.
        test: rows with label columns.
        embeddings: (N, E) of them, where they are at hand.
    Raises:
        ValueError: the model has neither, or the table no label that it can be asked.
    """
    findings = data.findings_of(test)
    in_words = model.kind == "image-text"
    if not in_words:
        known = model.findings or []
        findings = [finding for finding in findings if finding in known]
    labelled = [f for f in findings if pd.to_numeric(test[f]).isin([0, 1]).any()]
    if not labelled:
        raise ValueError(
            "expected films with a label 1 or 0 that the model can be asked for, got "
            f"none: it has {_what_it_has(model)}"
        )
    if in_words:
        return zero_shot(model, test, labelled, embeddings=embeddings)
    return of_findings(classify(model, test), labelled)


def _what_it_has(model):
    if model.kind == "image-text":
        return "words for any finding"
    if model.findings:
        return f"a head for {', '.join(model.findings)}"
    return "neither a text tower nor a head"


def of_findings(scores: Scores, findings: Sequence[str]) -> Scores:
    """The same scores, of some findings alone.

    >>> list(of_findings(scores, ["Pneumothorax"]).values)
    ['Pneumothorax']
    """
    findings = list(findings)
    return Scores(scores.values[findings], scores.truth[findings], scores.patient_id)


def some_films(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """All films of patients drawn at random, `most` films or fewer.

    >>> len(some_films(table, 10, 0)) <= 10
    True
    """
    people = table["patient_id"].unique()
    drawn = np.random.default_rng(seed).permutation(people)
    films = table.groupby("patient_id").size()
    enough = films[drawn].cumsum() <= max(most, films[drawn].iloc[0])
    few = enough.index[enough]
    return table[table["patient_id"].isin(few)].reset_index(drop=True)


def with_both(scores: Scores) -> list[str]:
    """Findings that some films have and some haven't.

    Raises:
        ValueError: there is none.
    """
    truth = scores.truth
    findings = [f for f in truth if {0, 1} <= set(truth[f].dropna())]
    if not findings:
        raise ValueError(
            "expected films with a finding and films without, got one kind"
        )
    return findings


def silent(evidence: Sequence[Evidence], not_tested: Sequence[NotTested]) -> list[str]:
    """The kinds that weren't tested and of which no row of evidence speaks.

    >>> silent([], [NotTested("drift", "a new scanner", "no stream of films")])
    ['drift']
    """
    spoken_of = {row.kind for row in evidence}
    kinds = dict.fromkeys(row.kind for row in not_tested)
    return [kind for kind in kinds if kind not in spoken_of]


def in_one_line(error: Exception) -> str:
    """Why something couldn't be tried."""
    return " ".join(str(error).split())[:300] or type(error).__name__
