"""From a report to its mentions: what it names, and which words decide."""

import re
import unicodedata
from typing import NamedTuple

from radwb.curate.reports.rules import Kind, rules
from radwb.curate.sections import in_lines_with_places, section_spans

READ = ("findings", "impression", "addendum", "other")
STATED, DENIED, UNSURE, APART = 1.0, 0.0, -1.0, float("nan")
LABELS = {"stated": STATED, "denied": DENIED, "unsure": UNSURE, "apart": APART}
REACH = 300  # letters that a cue reaches, at most: some reports have no full stops
NEW_LINE = re.compile(r"\n(?=[ \t]*(?:\n|[A-ZÀ-Þ]|[-•*>]|\d{1,2}[.)]))")


class Tag(NamedTuple):
    """Words of the tables in a text."""

    kind: Kind
    start: int
    end: int


class Mention(NamedTuple):
    """A finding that a report names.

    Attributes:
        label: 1 stated, 0 denied, -1 uncertain, NaN past or asked.
        finding: a key of `FINDINGS`, or "other".
        start, end: of its words in the report.
        cue_start, cue_end: of the words that made it so; its own where none did.
    """

    finding: str
    label: float
    start: int
    end: int
    cue_start: int
    cue_end: int


def mentions(report, language):
    """The mentions of a report, in its order."""
    if not isinstance(report, str):
        return []
    text, places = in_lines_with_places(report)
    found = []
    for name, start, end in section_spans(text):
        if name in READ:
            letters, within = _plain(text[start:end])
            for tag, cue in _with_cues(_tags(letters, language)):
                spans = (tag.start, tag.end, cue.start, cue.end)
                spans = [places[start + within[place]] for place in spans]
                for finding in tag.kind.finding.split("+"):
                    found.append(Mention(finding, _label(cue), *spans))
    return found


def _label(cue):
    return LABELS[cue.kind.role.partition("_")[0]]


def _plain(text):
    """In small letters without accents, and where each of these stood.

    A line that begins anew, not one that was only broken, becomes a vertical tab.
    """
    text = NEW_LINE.sub("\v", text)
    if text.isascii():
        return text.lower(), range(len(text) + 1)
    letters = []
    places = []
    for place, letter in enumerate(text):
        parts = unicodedata.normalize("NFD", letter.lower())
        kept = [part for part in parts if not unicodedata.combining(part)]
        letters += kept
        places += [place] * len(kept)
    return "".join(letters), [*places, len(text)]


def _tags(letters, language):
    pattern, kinds = rules(language)
    return [Tag(kinds[m.lastgroup], *m.span()) for m in pattern.finditer(letters)]


def _with_cues(tags):
    """(tag, the tag that decides on it) of each finding, clause by clause."""
    clause = []
    for tag in tags:
        if tag.kind.role == "ends":
            yield from _decided(clause)
            clause = []
        elif tag.kind.role.endswith("_near"):
            clause.append(_turned(tag, clause))
        else:
            clause.append(tag)
    yield from _decided(clause)


def _turned(tag, clause):
    """A cue that may stand on either side looks back to a finding just before it."""
    looks_back = clause and clause[-1].kind.finding
    side = "after" if looks_back else "before"
    return tag._replace(kind=Kind(f"{tag.kind.role}_{side}"))


def _decided(clause):
    before = _reaching(clause, "_before")
    after = _reaching(clause[::-1], "_after")[::-1]
    for place, tag in enumerate(clause):
        if tag.kind.finding:
            cues = (before[place], after[place], _alternative(clause, place))
            nearest = next((cue for cue in cues if cue), tag)
            yield tag, tag if tag.kind.role == "denied" else nearest


def _reaching(clause, side):
    """The cue of this side that reaches each tag: the last one.

    Doubt doesn't follow a denial, but for a comma: no sign of what is suspicious for a
    tumour is no sign of a tumour. What is near reaches no further than a comma.
    """
    cue = None
    reaching = []
    denies = False
    for tag in clause:
        role = tag.kind.role
        denies = denies and role != "comma"
        if cue and not _goes_on(cue, tag):
            cue = None
        if role.endswith(side) and not (denies and role.startswith("unsure")):
            cue = tag
            denies = role.startswith("denied")
        reaching.append(cue)
    return reaching


def _goes_on(cue, tag):
    """Whether a cue reaches this tag, if it reached the one before."""
    role = cue.kind.role
    if tag.kind.role == "comma":
        return "_near" not in role
    if tag.kind.role == "ends_denial":
        return not role.startswith("denied")
    return abs(tag.start - cue.start) <= REACH


def _alternative(clause, place):
    """The "versus" beside a finding."""
    beside = clause[max(0, place - 1) : place + 2]
    return next((tag for tag in beside if tag.kind.role.endswith("_between")), None)
