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


def _sections(card):
    """What a checklist asks for -> the section that has it, where the card has it."""
    there = {name: name for name in ("use", "summary", "model", "data", "how")}
    there["untested"] = "untested"
    kinds = {row.kind for row in card.evidence}
    if "capability" in kinds:
        there["capability"] = "capability"
    if card.of("failure"):
        there["failure"] = "failure"
    for kind in ("group", "robustness"):
        of_kind = [row for row in card.evidence if row.kind == kind]
        if of_kind:
            there[kind] = SECTIONS[of_kind[0].verdict]
    return there


# verdict -> id of its section
SECTIONS = {
    "failure": "failure",
    "no failure seen": "none",
    "can't tell": "unsure",
    "measured": "measured",
}
