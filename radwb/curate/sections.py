"""Reports to sections."""

import re
import unicodedata
from collections.abc import Sequence

# from the heading that says most of the film to the one that says least:
# IMPRESSION/RECOMMENDATION is an impression
NAMES = (
    "findings",
    "impression",
    "indication",
    "comparison",
    "technique",
    "recommendation",
    "notification",
    "addendum",
    "other",
)
# One heading between bars; English, then German, Spanish and French. Accents may be
# missing in a report.
HEADINGS = {
    "findings": (
        "findings|finding|report|observations|narrative|imaging findings"
        "|imaging notes|befund|befunde|hallazgos|hallazgo|descripción|résultats"
        "|résultat|constatations"
    ),
    "impression": (
        "impression|impressions|conclusion|conclusions|opinion|interpretation"
        "|diagnosis|assessment|imp|beurteilung|zusammenfassung"
        "|zusammenfassende beurteilung|impresión|impresión diagnóstica|conclusión"
        "|conclusiones|interpretación|synthèse|interprétation"
    ),
    "indication": (
        "indication|indications|indication for exam|history|clinical history"
        "|patient history|clinical information|clinical indication|clinical data"
        "|clinical details|clinical question|clinical impression"
        "|history of present illness|past medical history|reason for exam"
        "|reason for examination|reason for study|reason for this examination"
        "|reason for the exam|presentation|indikation|rechtfertigende indikation"
        "|klinische angaben|klinische informationen|fragestellung|anamnese"
        "|indicación|indicaciones|motivo|motivo del estudio|datos clínicos"
        "|historia clínica|renseignements cliniques|contexte clinique|motif"
        "|antécédents"
    ),
    "comparison": (
        "comparison|comparisons|comparison study|comparison studies|comparison exam"
        "|prior studies|previous studies|vergleich|voruntersuchung"
        "|voruntersuchungen|voraufnahmen|comparación|estudios previos|comparaison"
        "|examens antérieurs"
    ),
    "technique": (
        "technique|procedure|exam|examination|exam type|study|views|protocol"
        "|technik|methode|untersuchung|untersuchungstechnik|técnica|examen|estudio"
        "|protocole"
    ),
    "recommendation": (
        "recommendation|recommendations|recommend|recommended|recommended follow-up"
        "|recommended action|follow-up|follow up|follow-up recommendation"
        "|follow-up recommendations|follow up recommendation"
        "|follow up recommendations|plan|empfehlung|empfehlungen|procedere"
        "|recomendación|recomendaciones|recommandation|recommandations"
        "|conduite à tenir"
    ),
    "notification": (
        "notification|notifications|communication|communications|critical result"
        "|critical results|critical finding|critical findings"
        "|communication of critical results|communication of critical findings"
        "|communication of results|critical results communication"
        "|critical result notification|critical results notification|mitteilung"
        "|benachrichtigung|notificación|comunicación|communication des résultats"
    ),
    "addendum": (
        "addendum|addenda|addendum begins|begin addendum|beginning of addendum"
        "|nachtrag|adenda|complément"
    ),
    "other": (
        "final report|preliminary report|wet read|preliminary read"
        "|end of impression|end of report|addendum ends|end addendum"
        "|end of addendum|discussion|dictated by|signed by|electronically signed by"
        "|transcribed by|attestation"
    ),
}
NEAR = 200  # letters before and after a line that may be a heading
BEFORE = "final|preliminary|overall|radiographic|radiological|diagnostic|additional"
# these may stand within a line in Title Case; German nouns are all in it, wherever they
# stand
WITHIN_A_LINE = (
    "findings|impression|impressions|conclusion|conclusions|indication|comparison"
    "|technique|history|clinical history|recommendation|recommendations"
    "|notification|addendum"
)


def _plain(heading):
    """In small letters, without accents, blanks single."""
    letters = unicodedata.normalize("NFD", heading.lower().replace("(s)", ""))
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


SECTION_OF = {
    _plain(heading): name
    for name, headings in HEADINGS.items()
    for heading in headings.split("|")
}


def _any_of(headings, spelt=str):
    """A pattern for one of them, or several as in FINDINGS AND IMPRESSION.

    With or without accents.

    Args:
        headings: with bars between.
        spelt: str.upper for capitals alone.
    """
    words = set(headings.split("|"))
    words |= {_plain(word) for word in words}
    longest_first = sorted(words, key=len, reverse=True)
    one = "|".join(
        re.escape(spelt(word)).replace(r"\ ", r"[ \t]+") for word in longest_first
    )
    number = r"(?:\([sS]\))?(?:[ \t]*#?\d{1,2}(?=[ \t]*[:\n(]))?"
    # (?>...): the longest heading or none, so that a long text of half headings takes
    # no longer than another
    one = rf"(?>(?:(?:{spelt(BEFORE)})[ \t]+)?(?:{one}){number})"
    return rf"{one}(?:{AND}{one}){{0,2}}"


AND = r"[ \t]*(?:/|&|\+|\b(?i:and|und|y|e|et)\b)[ \t]*"
CAPITALS = _any_of("|".join(HEADINGS.values()), str.upper)
ANY_LETTERS = "(?i:" + _any_of("|".join(HEADINGS.values())) + ")"
TITLE = "(?i:" + _any_of(WITHIN_A_LINE) + ")"
# a line, a sentence, or after two blanks
BEGINS = (
    r"(?:^[ \t*_#>=]*+|(?<=[.!?;\n])[ \t]*+[*_]{0,3}|(?<=[ \t][ \t])[*_]{0,3}(?=\w))"
)
CAPITAL = r"(?=[A-ZÀ-Þ])"
# words in brackets before the colon, as in IMPRESSION (PRELIM):, are of the heading; a
# date there goes to the text
COLON = (
    r"(?:[ \t*_]*(?:\([^()\n\d]{1,40}\)[ \t*_]*)?[:：][*_]*"
    r"|(?=[ \t]*\([^()\n]{1,40}\)[ \t]*[:：]))"
)
DASH = r"[ \t*_]*[-–—]{1,3}(?=\s|$)"
# perhaps with a line of dashes below
LINE_ENDS = r"[ \t*_#=-]*+$(?:\n[ \t]*+[-=_*]{3,}+[ \t]*+$)?"
HEADING = re.compile(
    "|".join(
        (
            rf"[*_]{{0,3}}\b(?P<caps>{CAPITAL}{CAPITALS}){COLON}",
            rf"{BEGINS}(?P<line>{ANY_LETTERS}){COLON}",
            rf"(?<=\s)[*_]{{0,3}}(?P<title>{CAPITAL}(?=.[a-z]){TITLE}){COLON}",
            rf"{BEGINS}(?P<dash>{CAPITAL}{ANY_LETTERS}){DASH}",
            rf"^[ \t*_#>=-]*+(?P<alone>{CAPITAL}{ANY_LETTERS}){LINE_ENDS}",
        )
    ),
    re.MULTILINE,
)
# - FINDINGS: or 1. FINDINGS:, of which the mark isn't text; [FINDINGS]
MARK = re.compile(
    r"^[ \t]*+(?:[-•·>]|\d{1,2}[.)])[ \t]+"
    rf"(?=[*_]{{0,3}}{CAPITAL}{ANY_LETTERS}{COLON})",
    re.MULTILINE,
)
BRACKETS = re.compile(
    rf"^[ \t]*+\[({CAPITAL}{ANY_LETTERS})\][ \t]*[:：]?", re.MULTILINE
)
LINE_BREAK = re.compile(
    r"\r\n?|[\v\f\x85\u2028\u2029]|(?:\\r)?\\n(?![a-z])|<br\s{0,3}/?>"
)
# what hospitals' systems, JSON, HTML and Excel make of a line: how it's meant
MENDED = (
    (re.compile(r"\\\.br\\"), "\n"),
    (re.compile("\xa0"), " "),
    (LINE_BREAK, "\n"),
    (re.compile(r"_x000[dD]_|[\u200b\u2060\ufeff]"), ""),
    (BRACKETS, r"\1:"),
    (MARK, ""),
)
COMPOSED = (
    re.compile(r"\w[\u0300-\u036f]+"),
    lambda match: unicodedata.normalize("NFC", match[0]),
)


def sections(report: str) -> dict[str, str]:
    """Split a report of yours at its headings.

    >>> sections("FINDINGS: No effusion. IMPRESSION: Normal.")["impression"]
    'Normal.'

    Args:
        report: free text. A heading ends in a colon and is in capitals, or stands at
            the start of a line or sentence; or it ends in a dash there; or it has a
            line to itself. English, German, Spanish or French (`HEADINGS`).
    Returns:
        findings, impression, indication, comparison, technique, recommendation,
        notification (who was told), addendum and other (text before any heading, who
        signed), in this order, "" where a report lacks one; white space is single; a
        heading that comes twice is joined.
    """
    if not isinstance(report, str):
        return dict.fromkeys(NAMES, "")
    report = _in_lines(report)
    out = dict.fromkeys(NAMES, "")
    for name, start, end in section_spans(report):
        out[name] = f"{out[name]} {' '.join(report[start:end].split())}".strip()
    return out


def section_spans(report: str) -> list[tuple[str, int, int]]:
    """Where each section's text lies: (name, start, end), in the order of the report.

    >>> section_spans("FINDINGS: Clear.")
    [('other', 0, 0), ('findings', 9, 16)]

    Args:
        report: its lines end in a line feed.
    """
    headings = [m for m in HEADING.finditer(report) if _stands_alone(report, m)]
    names = ["other", *(_section(m[m.lastgroup]) for m in headings)]
    starts = [0, *(m.end() for m in headings)]
    ends = [*(m.start() for m in headings), len(report)]
    return list(zip(names, starts, ends, strict=True))


def _in_lines(report):
    """Every kind of line end as one.

    Windows', old Macs' and HL7's, and those that went through JSON, HTML or Excel.
    """
    report = unicodedata.normalize("NFC", report)
    for pattern, meant in MENDED:
        report = pattern.sub(meant, report)
    return report


def in_lines_with_places(report: str) -> tuple[str, Sequence[int]]:
    """A report as `sections` reads it, and where each of its letters stood.

    >>> in_lines_with_places("Clear.<br>No edema.")[0]
    'Clear.\\nNo edema.'

    Returns:
        The text, and the place in `report` of each letter and of its end.
    """
    places = range(len(report) + 1)
    if _in_lines(report) == report:
        return report, places
    for pattern, meant in (COMPOSED, *MENDED):
        pieces = []
        kept = []
        end = 0
        for match in pattern.finditer(report):
            new = meant(match) if callable(meant) else match.expand(meant)
            pieces += [report[end : match.start()], new]
            kept += [*places[end : match.start()]]
            kept += [places[match.start()]] * len(new)
            end = match.end()
        report = "".join([*pieces, report[end:]])
        places = [*kept, *places[end:]]
    return report, places


def _section(heading):
    """The section of a heading; of several in one that which says most.

    IMPRESSION/RECOMMENDATION is an impression.
    """
    plain = _plain(heading)
    if plain in SECTION_OF:
        return SECTION_OF[plain]
    names = []
    for part in re.split(AND, plain):
        word = re.sub(rf"^(?:{BEFORE}) |\s*#?\d+$", "", part)
        names.append(SECTION_OF.get(word, "other"))
    return min(names, key=NAMES.index)


def _stands_alone(report, match):
    """Whether a word on a line of its own is a heading.

    Not where a sentence only happens to break around it.
    """
    word = match["alone"]
    if word is None or word.isupper():
        return True
    before = report[max(0, match.start() - NEAR) : match.start()].rstrip(" \t")
    after = report[match.end() : match.end() + NEAR].lstrip()
    new_paragraph = not before.strip() or before.endswith("\n\n")
    if new_paragraph or before.rstrip().endswith((".", ":", "!", "?")):
        return True
    return not after[:1].islower()
