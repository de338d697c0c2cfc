"""The words of a text that an audit found."""

import re

from radwb.curate.audit.passages import MOST_LETTERS, RUN, WORD
from radwb.curate.audit.texts import IDENTIFIERS, words_naming
from radwb.curate.reports import why

LABELS = {1: "present", 0: "absent", -1: "uncertain"}


def marks(
    check: str, text: str, *, about: tuple[str, ...] = (), other: str = ""
) -> list[tuple[int, int, str]]:
    """Where the words lie that a check goes by, and what they are.

    >>> marks("identifier left", "Seen on 2021-03-04 by Dr. Weiss.")
    [(8, 18, 'date'), (22, 31, 'name')]

    Args:
        check: of an audit's row; one that goes by no words has no marks.
        text: a report, or another text.
        about: of the audit's rows: findings, or "finding in column".
        other: a text that has words in common with it.
    Returns:
        (start, end, what it is), in the order of the text, none within another.
    """
    text = text[:MOST_LETTERS]
    if check == "identifier left":
        found = _identifiers(text)
    elif check == "label noise":
        found = _findings(text, about)
    elif check == "label named":
        found = _names(text, [label.rpartition(" in ")[0] for label in about])
    elif check == "passage in common":
        found = _common(text, other[:MOST_LETTERS])
    else:
        found = []
    return _apart(found)


def _identifiers(text):
    for kind, pattern in IDENTIFIERS.items():
        yield from ((*match.span(), kind) for match in pattern.finditer(text))


def _findings(text, findings):
    for mention in why(text).itertuples():
        if mention.finding in findings:
            label = LABELS.get(mention.label, "not counted")
            yield mention.start, mention.end, f"{mention.finding}: {label}"


def _names(text, labels):
    for label in labels:
        for words in words_naming(label):
            for match in re.finditer(re.escape(words), text, re.IGNORECASE):
                yield *match.span(), label


def _common(text, other):
    """Runs of words that the other text has, too."""
    words = [word.lower() for word in WORD.findall(other)]
    runs = {tuple(words[n : n + RUN]) for n in range(len(words) - RUN + 1)}
    places = [(*match.span(), match[0].lower()) for match in WORD.finditer(text)]
    start = end = None
    for n in range(len(places) - RUN + 1):
        here = places[n : n + RUN]
        if tuple(word for _, _, word in here) not in runs:
            continue
        if start is None or here[0][0] > end:
            if start is not None:
                yield start, end, "in both"
            start = here[0][0]
        end = here[-1][1]
    if start is not None:
        yield start, end, "in both"


def _apart(found):
    """In the order of the text; of two that overlap the first."""
    apart = []
    for start, end, what in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, end, what))
    return apart
