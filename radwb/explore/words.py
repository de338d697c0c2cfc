"""What the widget says of a map, in words."""

import re
import textwrap

from radwb.attend.methods import TABLE
from radwb.explore.choice import LONGEST, Choice
from radwb.findings.rows import synonyms

NEURON = re.compile(r"neuron\s*(\d+)", re.IGNORECASE)
NO_NEURON = "Try a neuron of its embedding: target=0"


def label(choice: Choice, columns: int) -> str:
    """What a pane shows; `columns` is how many patches lie side by side."""
    what = choice.method
    layer = head = ""
    if choice.method == "attention":
        layer = "last layer"
        head = "mean of heads"
    if choice.patches:
        side = "to" if choice.direction == "to" else "of"
        what += f" {side} {place_in_grid(choice.patches, columns)}"
    if choice.layer is not None:
        layer = f"layer {choice.layer}"
    if choice.head is not None:
        head = f"head {choice.head}"
    text = ", ".join(filter(None, (what, layer, head)))
    kind = TABLE.get(choice.method)
    if choice.target and (kind is None or kind.target):
        text += f": {textwrap.shorten(choice.target, LONGEST, placeholder=' ...')}"
    return text


def place_in_grid(patches, columns):
    """A patch by its row and column, several by their number."""
    if len(patches) > 1:
        return f"{len(patches)} patches"
    return "patch ({}, {})".format(*divmod(patches[0], columns))


def verdict(
    finding: str | None, score: dict | None, bright: float | None, absent: bool = False
) -> str:
    """The score in words.

    Args:
        finding: what the map is scored against.
        score: as `score_map` gives it; None without a truth.
        bright: the energy of a map that is the film itself.
        absent: the finding is known not to be there.
    """
    if score is None and absent:
        return f"no {finding} on this film: known to be absent"
    if score is None:
        return f"no truth for {finding or 'these words'} on this film"
    blind = "" if score["energy"] > bright else ", which it does not beat"
    energy = f"energy {score['energy']:.2f} (by chance {score['area']:.2f}"
    energy = f"{energy}, by brightness {bright:.2f}{blind})"
    return f"{finding}: hit {score['hit']:.2g}, {energy}, IoU {score['iou']:.2f}"


def sentence(problem: Exception) -> str:
    """An error for somebody who sees no traceback."""
    if isinstance(problem, ValueError | RuntimeError):
        return str(problem).replace(NO_NEURON, "Try a neuron by its number: neuron 0")
    return f"{type(problem).__name__}: {problem}"


def as_target(words: str | None) -> str | tuple | int | None:
    """What `attention_map` takes.

    >>> as_target("this vs that"), as_target("neuron 5")
    (('this', 'that'), 5)

    Raises:
        ValueError: more letters than a sentence has.
    """
    if words is None:
        return None
    if len(words) > LONGEST:
        raise ValueError(
            f"expected a phrase of at most {LONGEST} letters, got {len(words)}"
        )
    neuron = NEURON.fullmatch(words.strip())
    if neuron:
        return int(neuron.group(1))
    parts = [part.strip() for part in re.split(r"\bvs\b", words)]
    return tuple(parts) if len(parts) > 1 else parts[0]


def in_words(target: str | tuple | int) -> str:
    """The same the other way round.

    >>> in_words(("this", "that")), in_words(5)
    ('this vs that', 'neuron 5')
    """
    if isinstance(target, str):
        return target
    if isinstance(target, tuple | list):
        return " vs ".join(target)
    return f"neuron {int(target)}"


def finding_named(words: str | None, findings) -> str | None:
    """The first finding that the words name, in the first half of a pair."""
    first = re.split(r"\bvs\b", words or "")[0].casefold()
    for finding in findings:
        names = (finding.casefold(), *synonyms(finding))
        if any(name in first for name in names):
            return finding
    return None


def ordinal(n: int) -> str:
    """1 -> "1st", 12 -> "12th"."""
    teens = n % 100 in (11, 12, 13)
    return f"{n}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
