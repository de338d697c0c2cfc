"""The tables of words, one a language, as one pattern that finds them in a text."""

import re
import tomllib
from functools import cache
from importlib import resources
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

LANGUAGES = {"en": "english", "de": "german", "es": "spanish"}
OTHER = "other"  # what is abnormal and none of the 14
GAP = 8  # words between the two parts of a pattern, at most
MARKS = r"(?P<end>[!?;\v]|\.(?!\d)|(?<!\d)\.)|(?P<comma>,)"


class Kind(NamedTuple):
    """What words are: a finding's or a cue's, and in which role.

    Attributes:
        role: "stated", "denied" or "unsure", of a cue with the side to which it looks
            ("denied_before"); or "apart_before", "neutral", "comma", "ends"...
        finding: empty for a cue.
    """

    role: str
    finding: str = ""


class Rules(NamedTuple):
    """The words of a language.

    Attributes:
        pattern: finds them in small letters without accents.
        kinds: {name of a group of the pattern: its `Kind`}.
    """

    pattern: re.Pattern
    kinds: dict[str, Kind]


@cache
def rules(language):
    """The words of a language.

    Raises:
        ValueError: there is no table for it.
    """
    if language not in LANGUAGES:
        raise ValueError(
            f"expected a language of {', '.join(LANGUAGES)}, got {language!r}. Try to "
            "translate radwb/curate/reports/english.toml."
        )
    return _compiled(table(language))


def table(language):
    """The table of a language as it's written."""
    file = resources.files(__package__) / f"{LANGUAGES[language]}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _compiled(table):
    stops = _spelt(table["words"]["gap_stops"], "")
    gap = rf"(?:(?!{stops}\b)[\w,/()'-]{{1,40}}+\s++){{0,{GAP}}}?"
    by_letter = {}
    for kind, text in _entries(table):
        for form in _forms(_filled(text, table["words"])):
            entry = (kind, _spelt(form, gap))
            by_letter.setdefault(form[0], []).append(entry)
    kinds = {"end": Kind("ends"), "comma": Kind("comma")}
    branches = []
    # a word is compared with the patterns of its first letter alone: three times faster
    for letter, entries in by_letter.items():
        groups = []
        for kind, alike in groupby(entries, key=lambda entry: entry[0]):
            name = f"g{len(kinds)}"
            kinds[name] = kind
            groups.append(f"(?P<{name}>{'|'.join(spelt for _, spelt in alike)})")
        branches.append(f"(?={letter})(?:{'|'.join(groups)})")
    return Rules(re.compile(rf"{MARKS}|\b(?:{'|'.join(branches)})(?!\w)"), kinds)


def _entries(table):
    """(kind, pattern), those of more words first: "no change" isn't "no"."""
    entries = [(Kind("stated", OTHER), text) for text in table[OTHER]["stated"]]
    for role, texts in table["cues"].items():
        entries += [(Kind(role), text) for text in texts]
    for finding, roles in table["findings"].items():
        for role, texts in roles.items():
            entries += [(Kind(role, finding), text) for text in texts]
    return sorted(entries, key=lambda entry: (-len(entry[1].split()), entry[0]))


def _filled(text, words):
    for name, meant in words.items():
        text = text.replace(f"{{{name}}}", meant)
    return text


def _forms(text):
    """A pattern as several, each of which begins with a letter.

    (a|b) c is a c and b c; (a )?c is a c and c.
    """
    if not text.startswith("("):
        return [text]
    depths = list(accumulate((c == "(") - (c == ")") for c in text))
    end = depths.index(0)
    bars = [i for i in range(end) if text[i] == "|" and depths[i] == 1]
    starts = [text[a + 1 : b] for a, b in pairwise([0, *bars, end])]
    rest = text[end + 1 :]
    if rest.startswith("?"):
        rest = rest[1:]
        starts.append("")
    return [form for start in starts for form in _forms(start + rest)]


def _spelt(text, gap):
    """A pattern of the tables as a regular expression."""
    text = text.replace(" ... ", " GAP").replace("*", r"\w*+").replace("(", "(?:")
    text = text.replace(" ?", r"[\s-]*+").replace(" ", r"[\s-]++")
    return text.replace("GAP", gap)
