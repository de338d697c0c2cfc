"""What the widget says of a map, in words."""

import re

from radwb.attend.methods import TABLE
from radwb.findings.rows import synonyms


def label(choice, columns):
    """What a pane shows; `columns` is how many tokens lie side by side."""
    what = choice.method
    layer = head = ""
    if choice.method == "attention":
        layer = "last layer"
        head = "mean of heads"
    if choice.patch is not None:
        what += " of patch ({}, {})".format(*divmod(choice.patch, columns))
    if choice.layer is not None:
        layer = f"layer {choice.layer}"
    if choice.head is not None:
        head = f"head {choice.head}"
    text = ", ".join(filter(None, (what, layer, head)))
    kind = TABLE.get(choice.method)
    if choice.target and (kind is None or kind.target):
        text += f": {choice.target}"
    return text


def verdict(finding, score, bright):
    """The score in words; `bright` is the energy of a map that is the film itself."""
    if score is None:
        return f"no truth for {finding or 'these words'} on this film"
    blind = "" if score["energy"] > bright else ", which it does not beat"
    energy = f"energy {score['energy']:.2f} (by chance {score['area']:.2f}"
    energy = f"{energy}, by brightness {bright:.2f}{blind})"
    return f"{finding}: hit {score['hit']:.2g}, {energy}, IoU {score['iou']:.2f}"


def sentence(problem):
    """An error for somebody who sees no traceback."""
    if isinstance(problem, ValueError | RuntimeError):
        return str(problem)
    return f"{type(problem).__name__}: {problem}"


def as_target(words):
    """What `attention_map` takes: "this vs that" is the pair ("this", "that")."""
    if words is None:
        return None
    parts = [part.strip() for part in re.split(r"\bvs\b", words)]
    return tuple(parts) if len(parts) > 1 else parts[0]


def finding_named(words, findings):
    """The first finding that the words name, in the first half of a pair."""
    first = re.split(r"\bvs\b", words or "")[0].casefold()
    for finding in findings:
        names = (finding.casefold(), *synonyms(finding))
        if any(name in first for name in names):
            return finding
    return None
