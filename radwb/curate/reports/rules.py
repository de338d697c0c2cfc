"""The tables of words, one a language, as one pattern that tags them in a text."""

import re
import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple

LANGUAGES = {"en": "english", "de": "german", "es": "spanish"}
OTHER = "other"  # what is abnormal and none of the 14
MARKS = r"(?P<end>[!?;\v]|\.(?!\d)|(?<!\d)\.)|(?P<comma>,)"
GAP = 8  # words between the two parts of a pattern, at most


class Kind(NamedTuple):
    """What a pattern's words are: a finding's, or a cue of this role."""

    role: str
    finding: str = ""


class Rules(NamedTuple):
    """A language's words.

    Attributes:
        pattern: finds them in small letters without accents.
        kinds: {name of a group of the pattern: `Kind`}.
        findings: that it has words for.
    """

    pattern: re.Pattern
    kinds: dict[str, Kind]
    findings: tuple[str, ...]


@cache
def rules(language):
    """The words of a language.

    Raises:
        ValueError: there is no table for it.
    """
    if language not in LANGUAGES:
        raise ValueError(
            f"expected a language of {', '.join(LANGUAGES)}, got {language!r}. Try a "
            "translation of its table, radwb/curate/reports/english.toml."
        )
    file = resources.files(__package__) / f"{LANGUAGES[language]}.toml"
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return _compiled(table)


def _compiled(table):
    words = table["words"]
    stops = _spelt(words["gap_stops"], "", {})
    gap = rf"(?:(?!{stops}\b)[\w,/()'-]++\s++){{0,{GAP}}}?"
    entries = [(Kind(role), p) for role, ps in table["cues"].items() for p in ps]
    entries += [(Kind("stated", OTHER), p) for p in table["other"]["stated"]]
    for finding, roles in table["findings"].items():
        entries += [(Kind(role, finding), p) for role, ps in roles.items() for p in ps]
    # the words of a longer pattern may be those of a shorter one: no change, no
    entries.sort(key=lambda entry: (-len(entry[1].split()), entry[0]))
    kinds = {}
    branches = {}
    for kind, text in entries:
        group = f"g{len(kinds)}"
        previous = next(reversed(kinds), None)
        if previous and kinds[previous] == kind:
            group = previous
        kinds[group] = kind
        branches.setdefault(group, []).append(_spelt(text, gap, words))
    grouped = [f"(?P<{name}>{'|'.join(parts)})" for name, parts in branches.items()]
    kinds |= {"end": Kind("ends"), "comma": Kind("comma")}
    pattern = re.compile(rf"{MARKS}|\b(?:{'|'.join(grouped)})(?!\w)")
    return Rules(pattern, kinds, tuple(table["findings"]))


def _spelt(text, gap, words):
    """A pattern of the tables as a regular expression."""
    for name, meant in words.items():
        text = text.replace(f"{{{name}}}", meant)
    text = text.replace(" ... ", " GAP").replace("*", r"\w*+").replace("(", "(?:")
    text = text.replace(" ?", r"[\s-]*+").replace(" ", r"[\s-]++")
    return text.replace("GAP", gap)
