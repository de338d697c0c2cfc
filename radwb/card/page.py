"""A card as one HTML page that needs no network, no script and no other file."""

from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radwb.card import checklists, pictures
from radwb.stats import format_interval

PAGE = "evidence_page.html"
SHORT = "evidence_short.html"
# id of a section, heading, what its rows have in common
VERDICTS = (
    ("failure", "Failures found", "The interval leaves out that all is well."),
    (
        "none",
        "Looked for and not found",
        "The interval leaves out a failure of the size that was looked for. A smaller "
        "one, or another, may be there.",
    ),
    (
        "unsure",
        "Can't tell",
        "The interval holds both a failure and none: too few patients, or a small "
        "effect. That doesn't mean sound.",
    ),
    ("measured", "Measured", "Numbers by which no failure was looked for."),
)


@cache
def _templates():
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"spoken": spoken, "number": number, "says_more": says_more}
    environment.globals |= {"span": pictures.SPAN}
    return environment


def html(card, name: str) -> str:
    """The whole page.

    Args:
        card: a `Card`.
        name: of the files beside the page.
    """
    rows = {id: [] for id in ("capability", *(section[0] for section in VERDICTS))}
    for row in card.evidence:
        rows[checklists.section_of(row)].append(row)
    sections = [(id, head, words, by_kind(rows[id])) for id, head, words in VERDICTS]
    template = _templates().get_template(PAGE)
    return template.render(
        card=card,
        name=name,
        capability=by_measure(rows["capability"]),
        sections=sections,
        answers=by_question(card.answers),
        lists=checklists.LISTS,
        filled=checklists.filled(card),
    )


def short(card) -> str:
    """What a notebook shows of it: the summary and the failures."""
    return _templates().get_template(SHORT).render(card=card)


def by_kind(rows) -> list[tuple]:
    """(kind, tables of one measure each) of rows, in the order of their first."""
    kinds = dict.fromkeys(row.kind for row in rows)
    return [(k, by_measure([r for r in rows if r.kind == k])) for k in kinds]


def by_measure(rows) -> list[tuple]:
    """(measure, rows with their places on one axis): a table of the page each."""
    measures = dict.fromkeys(row.measure for row in rows)
    tables = []
    for measure in measures:
        alike = [row for row in rows if row.measure == measure]
        spots = pictures.places(alike)
        tables.append((measure, list(zip(alike, spots, strict=True))))
    return tables


def by_question(answers) -> list[tuple]:
    """(question, its answers)."""
    return [(q, list(group)) for q, group in groupby(answers, lambda a: a.question)]


def spoken(row) -> str:
    """A row's number with its interval."""
    return format_interval({"auroc": row.value, "low": row.low, "high": row.high})


def says_more(row) -> bool:
    """Whether a row's sentence holds more than its number with the interval."""
    return row.figure is not None or row.sentence != f"{row.measure}: {spoken(row)}"


def number(value) -> str:
    """A number of a table; a dash for none."""
    if value is None or np.isnan(value):
        return "–"
    return f"{round(value, 2) + 0:.2f}"  # no minus before 0.00
