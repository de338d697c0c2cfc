"""When, why and why not to take a model: each answer follows by rule from the card.

The questions are those of Paschali et al., Radiology 2025 ("Foundation models in
radiology: what, how, when, why and why not").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from radwb.card.battery import FEATURES, IN_WORDS, OWN_HEAD, PIXELS
from radwb.card.facts import UNKNOWN, DataFacts, ModelFacts
from radwb.card.trial import NotTested, silent
from radwb.fail.evidence import Evidence

FEW_PATIENTS = 100


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        question: "When", "Why" or "Why not".
        answer: made of this model's numbers.
        rule: by which it was made.
    """

    question: str
    answer: str
    rule: str


def answered(
    model: ModelFacts,
    films: DataFacts,
    evidence: Sequence[Evidence],
    not_tested: Sequence[NotTested],
) -> list[Answer]:
    """All answers, in the review's order.

    >>> answered(card.model, card.data, card.evidence, card.not_tested)[0].question
    'When'
    """
    rows = {row.tried: row for row in evidence if row.kind == "capability"}
    answers = [_when(rows), _where(films), _why(rows), *_why_single(rows)]
    answers += [_failures(evidence), _untested(evidence, not_tested), _costs(model)]
    return [*answers, *_limits(model, films)]


def _row(rows, ours, theirs):
    """The row that holds the one against the other."""
    for tried, row in rows.items():
        if tried.startswith(f"{ours} against {theirs}"):
            return row
    return None


def _when(rows):
    rule = "the model as it is, against a probe of its features that has labels"
    row = _row(rows, IN_WORDS, FEATURES) or _row(rows, OWN_HEAD, FEATURES)
    if row is None:
        return Answer("When", "Can't say: no labels to train a probe on.", rule)
    advice = "Can't say whether labels would help"
    if row.high < 0:
        advice = "Where there are no labels: with them a probe is better"
    elif row.low > 0:
        advice = "As it is: labels for a probe added nothing"
    return Answer("When", f"{advice}. {_sentence(row)}", rule)


def _where(films):
    rule = "the sites, views and ages of the films that it was tried on"
    groups = {}
    for column, name, n, _ in films.groups:
        groups.setdefault(column, []).append(f"{name} ({n})")
    words = [f"{column} {', '.join(names)}" for column, names in groups.items()]
    if films.age_years:
        low, _, high = films.age_years
        words.append(f"age {low:.0f} to {high:.0f}")
    told = "; ".join(words) or "nothing is known of them"
    return Answer("When", f"On films like those it was tried on: {told}.", rule)


def _why(rows):
    rule = "a probe of its features against one of 16 x 16 grey values, same labels"
    row = _row(rows, FEATURES, PIXELS)
    if row is None:
        return Answer("Why", "Can't say: no labels to train a probe on.", rule)
    if row.verdict == "no failure seen":
        advice = "Its features hold what bare pixels don't"
    elif row.verdict == "failure":
        advice = "No reason shown: bare pixels are better than its features"
    else:
        advice = "No reason shown: its features can't be told from bare pixels"
    return Answer("Why", f"{advice}. {_sentence(row)}", rule)


def _why_single(rows):
    rule = "findings whose 95 % interval of the AUROC lies above 0.5"
    single = [row for row in rows.values() if row.measure == "AUROC"]
    single = [row for row in single if not row.tried.startswith("mean of")]
    if not single:
        return []
    told = [row for row in single if row.low > 0.5]
    others = [row.tried for row in single if row not in told]
    answer = f"It tells {len(told)} of {len(single)} findings from films without."
    if others:
        answer += f" Not told for sure: {', '.join(others)}."
    return [Answer("Why", answer, rule)]


def _failures(evidence):
    rule = "rows whose interval shows a failure, by kind"
    kinds = Counter(row.kind for row in evidence if row.verdict == "failure")
    if not kinds:
        return Answer("Why not", "No failure was found by what was tried.", rule)
    words = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    answer = f"Failures in {kinds.total()} of {len(evidence)} things tried: {words}."
    return Answer("Why not", answer, rule)


def _untested(evidence, not_tested):
    kinds = silent(evidence, not_tested)
    answer = (
        f"Of these nothing is known: {', '.join(kinds)}." if kinds else "All was tried."
    )
    return Answer("Why not", answer, "kinds under Not tested that no row speaks of")


def _costs(model):
    words = [f"{model.weights / 1e6:,.1f} million weights ({model.megabytes:,.0f} MB)"]
    if model.gflop_per_film is not None:
        words.append(f"{model.gflop_per_film:.3g} GFLOP a film")
    minutes = UNKNOWN
    if model.training_minutes is not None:
        minutes = f"{model.training_minutes:,.1f} minutes"
    energy = UNKNOWN
    if model.energy_wh is not None:
        energy = f"{model.energy_wh:.3g} Wh, estimated"
    words.append(f"training: {minutes}; energy: {energy}")
    return Answer("Why not", f"It costs {', '.join(words)}.", "its tensors and its log")


def _limits(model, films):
    sites = [row for row in films.groups if row[0] == "site"]
    if len(sites) < 2:
        yield Answer(
            "Why not",
            "One site at most: how it does elsewhere wasn't tried.",
            "fewer than two sites in the films",
        )
    if films.patients < FEW_PATIENTS:
        yield Answer(
            "Why not",
            f"{films.patients} patients: what befalls one in a hundred can't be seen.",
            f"fewer than {FEW_PATIENTS} patients",
        )
    if model.licence == UNKNOWN or model.licence.startswith("none"):
        yield Answer("Why not", f"Its licence: {model.licence}.", "the licence it has")


def _sentence(row):
    return f"In {row.measure.removeprefix('difference in ')}, {row.sentence}."
