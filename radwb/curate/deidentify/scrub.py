"""Names, dates and numbers taken out of text; what a film shows stays.

A person is found by a header, or by a title, a role or a verb beside the name ("Dr",
"Patient:", "told by"), and then wherever that name stands again. Words that belong to
a disease stay, as in "Hodgkin lymphoma". The patterns are in scrub.toml.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

from radwb.curate.deidentify.known import SHORTEST, Known


def scrub(text: str, known: Known | None = None) -> str:
    """Replace what identifies somebody by [name], [date], [number], [place] or [age].

    >>> scrub("Dr Smith saw a 12 mm nodule, T4, on 3 May 2021.")
    'Dr [name] saw a 12 mm nodule, T4, on [date].'

    Args:
        known: of the same patient's header, found wherever it stands.
    """
    known = known or Known()
    names = known.names | _people(text)
    if names:
        text = _names(names).sub("[name]", text)
    pattern = known.pattern()
    if pattern:
        text = pattern.sub("[removed]", text)
    for kind, identifier in _patterns()["others"].items():
        text = identifier.sub(lambda match, kind=kind: _instead(match, kind), text)
    return text


def without(text: str, known: Known) -> str:
    """A text without what is known, whatever its case: for fields of few words."""
    for pattern, new in ((known.name_pattern(), "[name]"), (known.pattern(), "")):
        if pattern:
            text = pattern.sub(new, text)
    return text


@cache
def _patterns():
    source = tomllib.loads(Path(__file__).with_name("scrub.toml").read_text("utf-8"))
    parts = source.pop("parts")
    return {
        group: {name: _compiled(text, parts) for name, text in patterns.items()}
        for group, patterns in source.items()
    }


def _compiled(text, parts):
    while holes := set(re.findall(r"(?<!\?P)<([A-Z]+)>", text)):
        for name in holes:
            text = text.replace(f"<{name}>", f"(?:{parts[name]})")
    return re.compile(text, re.VERBOSE)


def _people(text):
    """Each word of each name that something in the text says is one."""
    found = Known()
    for pattern in _patterns()["people"].values():
        for match in pattern.finditer(text):
            found.add_name(match["name"])
    return found.names


def _names(names):
    """Names of a set in a row, also with initials between; capitals, as names have."""
    spared = _patterns()["spared"]["disease"].pattern
    words = sorted(names, key=len, reverse=True)
    either = "|".join(map(_cased, words))
    one = rf"(?:{either})(?![\w])(?!(?x:{spared}))"
    more = rf"(?:[\s,.^'’-]+(?:(?:{either})(?!\w)|[A-Z]\.))*"
    pair = rf"(?i:(?:{either})[\s,^]+(?:{either}))(?!\w)"  # also in lower case
    return re.compile(rf"(?<!\w)(?:{one}{more}|{pair})(?!(?x:{spared}))")


def _cased(word):
    """As it is written, in capitals, or as a word with one."""
    forms = {word, word.upper(), word.capitalize(), word.title()}
    if len(word) < SHORTEST:
        forms = {word}
    return "|".join(map(re.escape, sorted(forms)))


def _instead(match, kind):
    code = match.groupdict().get("code")
    if code:  # the word before a number stays
        return match[0][: -len(code)] + f"[{kind}]"
    return f"[{kind}]"
