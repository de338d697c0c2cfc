"""Which items of the reporting checklists a card fills, and where.

Numbers are those of CLAIM 2024 and TRIPOD+AI; the words are ours, none is copied.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

LISTS = tomllib.loads(Path(__file__).with_name("checklists.toml").read_text())


@dataclass(frozen=True)
class Item:
    """An item of a checklist that the card fills.

    Attributes:
        number: such as "12e".
        words: ours.
        section: of the page, by its id.
    """

    number: str
    words: str
    section: str


def filled(card) -> dict[str, list[Item]]:
    """Checklist -> its items that this card has something for.

    >>> [item.number for item in filled(card)["claim"]][:2]
    ['1', '2']
    """
    there = _sections(card)
    lists = {}
    for name, checklist in LISTS.items():
        items = []
        for number, (words, section) in checklist["filled"].items():
            if section in there:
                items.append(Item(number, words, there[section]))
        lists[name] = items
    return lists


def section_of(row) -> str:
    """The section of the page, by its id, where a row of evidence stands."""
    if row.kind == "capability" and row.verdict == "measured":
        return "capability"
    return SECTIONS[row.verdict]


def _sections(card):
    """What a checklist asks for -> the section that has it, where the card has it."""
    data = card.data
    sites = [group for group in data.groups if group[0] == "site"]
    there = {}
    if sites or data.card:
        there["source"] = "data"
    if "split by" in data.card:
        there["split"] = "data"
    if data.parts:
        there["parts"] = "data"
    there |= {name: name for name in ("use", "summary", "model", "how", "data")}
    there["untested"] = "untested"
    for row in card.evidence:
        there.setdefault(row.kind, section_of(row))
        if row.verdict == "failure":
            there["failure"] = "failure"
        if row.kind == "group" and row.tried.startswith("site "):
            there["site"] = section_of(row)
    return there


# verdict -> id of its section
SECTIONS = {
    "failure": "failure",
    "no failure seen": "none",
    "can't tell": "unsure",
    "measured": "measured",
}
