"""Numbers about the style of reports, the same for virtual and for real ones: length,
sections, negation, hedging.
"""

import re

import numpy as np

TERMS = (
    r"cardiomegaly|enlarged|edema|opacit(?:y|ies)|airspace disease|consolidations?|atelecta\w+|nodules?|"
    r"mass(?:es)?|lesions?|pneumothora\w+|effusions?|thickening|fractures?|pacemaker|catheter|tubes?|central line"
)
NEGATED = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|clear of|resolved)\b"
)
UNCERTAIN = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|questionable|likely|may|might|could|suspected|suspicious|"
    r"suggest\w*|concerning for|cannot (?:be )?exclude\w*|cannot rule out|versus|borderline)\b"
)
HEADING = re.compile(r"\b(FINDINGS|IMPRESSION|INDICATION|COMPARISON|TECHNIQUE):")


def _sections(report):
    """{heading: text}, of the headings in capitals; a report without one is {"": text}."""
    parts = HEADING.split(report)
    return {
        "": parts[0].strip(),
        **{k: v.strip() for k, v in zip(parts[1::2], parts[2::2], strict=True)},
    }


def _sentences(text):
    """Sentences with a letter in them; "1." of a list and the point in "2.4 cm" end
    none.
    """
    return [
        s
        for s in re.split(r"(?<=[.?!])\s+|(?<=[a-z]\.)(?=[A-Z])", text)
        if re.search(r"[A-Za-z]", s)
    ]


def report_statistics(reports: list[str], terms: str = TERMS) -> dict[str, float]:
    """Describe the style of reports by counts that need no labels.

    >>> report_statistics(["FINDINGS: No effusion. IMPRESSION: Possible nodule."])["negated"]
    0.5

    Only FINDINGS and IMPRESSION are counted (all of a report that has neither). A
    mention is a match of `terms`; it is negated or uncertain by a cue word anywhere in
    its sentence, and a sentence with both counts as negated. It is a coarse reader: "no
    change of the effusion" is counted as negated, in virtual and real reports alike.

    Args:
        reports: N texts with headings in capitals.
        terms: regular expression of the findings' names, in lower case.
    Returns:
        words, sentences: medians a report; findings_section, impression_section: shares
            of reports that have one;
        negated, uncertain: shares of mentions; vocabulary: different words in 1,000
            words, the mean of such pieces.
    """
    if not reports:
        raise ValueError("expected at least 1 report, got 0")
    split = [_sections(r) for r in reports]
    bodies = [
        f"{s.get('FINDINGS', '')} {s.get('IMPRESSION', '')}".strip() or s[""]
        for s in split
    ]
    words = [re.findall(r"[a-z]+", b.lower()) for b in bodies]
    negated, uncertain = _mentions(bodies, terms)
    return {
        "words": float(np.median([len(w) for w in words])),
        "sentences": float(np.median([len(_sentences(b)) for b in bodies])),
        "findings_section": float(np.mean([bool(s.get("FINDINGS")) for s in split])),
        "impression_section": float(
            np.mean([bool(s.get("IMPRESSION")) for s in split])
        ),
        "negated": negated,
        "uncertain": uncertain,
        "vocabulary": _vocabulary(sum(words, [])),
    }


def _mentions(bodies, terms):
    """Shares of the mentions that are negated and that are uncertain; nan without any
    mention.
    """
    count = np.zeros(3)
    for sentence in (s.lower() for b in bodies for s in _sentences(b)):
        n = len(re.findall(rf"\b(?:{terms})\b", sentence))
        no = bool(NEGATED.search(sentence))
        count += n * np.array([1, no, not no and bool(UNCERTAIN.search(sentence))])
    return tuple((count[1:] / count[0]).tolist()) if count[0] else (float("nan"),) * 2


def _vocabulary(words, piece=1000):
    """Different words in a piece of 1,000 words, averaged over the whole pieces (or the
    one short piece).
    """
    pieces = [
        words[i : i + piece] for i in range(0, max(1, len(words) - piece + 1), piece)
    ]
    return float(np.mean([len(set(p)) for p in pieces]))
