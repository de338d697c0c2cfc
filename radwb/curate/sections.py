"""Reports to sections."""

import re

NAMES = ("findings", "impression", "indication", "comparison", "technique", "other")
HEADINGS = {
    "findings": "findings",
    "findings and impression": "findings",
    "findings/impression": "findings",
    "report": "findings",
    "impression": "impression",
    "impressions": "impression",
    "conclusion": "impression",
    "conclusions": "impression",
    "opinion": "impression",
    "indication": "indication",
    "indications": "indication",
    "history": "indication",
    "clinical history": "indication",
    "clinical information": "indication",
    "clinical indication": "indication",
    "reason for exam": "indication",
    "reason for examination": "indication",
    "comparison": "comparison",
    "comparisons": "comparison",
    "comparison study": "comparison",
    "technique": "technique",
    "procedure": "technique",
    "exam": "technique",
    "examination": "technique",
    "views": "technique",
}
_words = "|".join(re.escape(h) for h in sorted(HEADINGS, key=len, reverse=True))
# In capitals a heading may stand anywhere; in other letters only where a line or a sentence begins.
HEADING = re.compile(
    rf"(?:\b(?P<caps>{_words.upper()})|(?:^|(?<=[.\n]))[ \t]*(?P<line>(?i:{_words})))[ \t]*:", re.MULTILINE
)


def sections(report: str) -> dict[str, str]:
    """Split a report at its headings.

    >>> sections("FINDINGS: No effusion. IMPRESSION: Normal.")["impression"]
    'Normal.'

    Args:
        report: free text; headings end in a colon and are in capitals, or stand at the start of a line or sentence.
    Returns:
        findings, impression, indication, comparison, technique and other (text before any heading), in this order,
        "" where a report lacks one; white space is single; a heading that comes twice is joined.
    """
    if not isinstance(report, str):
        return dict.fromkeys(NAMES, "")
    found = list(HEADING.finditer(report))
    names = ["other", *(HEADINGS[(m["caps"] or m["line"]).lower()] for m in found)]
    starts, ends = [0, *(m.end() for m in found)], [*(m.start() for m in found), len(report)]
    out = dict.fromkeys(NAMES, "")
    for name, start, end in zip(names, starts, ends, strict=True):
        out[name] = f"{out[name]} {' '.join(report[start:end].split())}".strip()
    return out
