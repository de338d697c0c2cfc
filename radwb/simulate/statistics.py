"""Numbers about the style of reports: length, sections, negation, hedging."""

import re

import numpy as np

TERMS = (
    r"cardiomegaly|enlarged|edema|opacit(?:y|ies)|airspace disease|consolidations?|"
    r"atelecta\w+|nodules?|mass(?:es)?|lesions?|pneumothora\w+|effusions?|thickening|"
    r"fractures?|pacemaker|catheter|tubes?|central line"
)
NEGATED = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|clear of|resolved)\b"
)
UNCERTAIN = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|questionable|likely|may|might|could|suspected|"
    r"suspicious|suggest\w*|concerning for|cannot (?:be )?exclude\w*|"
    r"cannot rule out|versus|borderline)\b"
)
HEADING = re.compile(r"\b(FINDINGS|IMPRESSION|INDICATION|COMPARISON|TECHNIQUE):")
PIECE = 1000  # words, of which different ones are counted


def report_statistics(reports: list[str], terms: str = TERMS) -> dict[str, float]:
    """Compare your own reports' style with virtual ones: counts that need no labels.

    >>> text = "FINDINGS: No effusion. IMPRESSION: Possible nodule."
    >>> rw.simulate.report_statistics([text])["negated"]
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
    sections = [_sections(report) for report in reports]
    bodies = [_body(parts) for parts in sections]
    words = [re.findall(r"[a-z]+", body.lower()) for body in bodies]
    sentences = [_sentences(body) for body in bodies]
    negated, uncertain = _mentions(sentences, terms)
    return {
        "words": float(np.median([len(w) for w in words])),
        "sentences": float(np.median([len(s) for s in sentences])),
        "findings_section": _share(sections, "FINDINGS"),
        "impression_section": _share(sections, "IMPRESSION"),
        "negated": negated,
        "uncertain": uncertain,
        "vocabulary": _vocabulary(sum(words, [])),
    }


def _sections(report):
    """{heading: text}, of the headings in capitals; a report without is {"": text}."""
    first, *rest = HEADING.split(report)
    texts = [text.strip() for text in rest[1::2]]
    return {"": first.strip(), **dict(zip(rest[::2], texts, strict=True))}


def _body(parts):
    body = f"{parts.get('FINDINGS', '')} {parts.get('IMPRESSION', '')}".strip()
    return body or parts[""]


def _share(sections, heading):
    return float(np.mean([bool(parts.get(heading)) for parts in sections]))


def _sentences(text):
    """Sentences with a letter in them.

    "1." of a list and the point in "2.4 cm" end none.
    """
    pieces = re.split(r"(?<=[.?!])\s+|(?<=[a-z]\.)(?=[A-Z])", text)
    return [piece for piece in pieces if re.search(r"[A-Za-z]", piece)]


def _mentions(sentences, terms):
    """Shares of the mentions that are negated and uncertain; nan without any."""
    mentions = 0
    negated = 0
    uncertain = 0
    for sentence in sum(sentences, []):
        sentence = sentence.lower()
        n = len(re.findall(rf"\b(?:{terms})\b", sentence))
        mentions += n
        if NEGATED.search(sentence):
            negated += n
        elif UNCERTAIN.search(sentence):
            uncertain += n
    if not mentions:
        return float("nan"), float("nan")
    return negated / mentions, uncertain / mentions


def _vocabulary(words):
    """Different words in a piece, averaged over the whole pieces (or the one short)."""
    starts = range(0, max(1, len(words) - PIECE + 1), PIECE)
    return float(np.mean([len(set(words[i : i + PIECE])) for i in starts]))
