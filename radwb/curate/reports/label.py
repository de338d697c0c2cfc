"""Reports to the 14 labels of CheXpert, and the words that led to them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from radwb.curate.reports.read import DENIED, STATED, UNSURE, mentions
from radwb.curate.reports.rules import rules
from radwb.findings import FINDINGS

NOTHING = "No Finding"
BENIGN = ("Support Devices", NOTHING)  # with these a report may still be normal
RANK = {STATED: 3, UNSURE: 2, DENIED: 1}  # of two mentions the higher one is the label
COLUMNS = ["finding", "label", "words", "cue", "start", "end", "sentence"]
SENTENCE_ENDS = ".!?;\n"
NEAR = 300  # letters of a sentence before and after a mention, at most


def label_reports(
    reports: pd.DataFrame | Iterable[str], *, language: str = "en"
) -> pd.DataFrame:
    """What each report says of the 14 findings of CheXpert, by rules that can be read.

    >>> text = "Small left effusion. No edema. Opacity, cannot exclude pneumonia."
    >>> label_reports([text]).iloc[0].dropna().to_dict()
    {'Lung Opacity': 1.0, 'Edema': 0.0, 'Pneumonia': -1.0, 'Pleural Effusion': 1.0}

    Read are findings, impression, addendum and what has no heading; the reason for the
    examination, comparisons, technique and recommendations aren't. Of two mentions
    the one that states wins, then the uncertain one, as in CheXpert's labeller
    (Irvin et al. 2019). A parent isn't filled in (`rw.findings.parents.with_parents`).
    "No Finding" is 1 where something is called normal or denied, and nothing abnormal
    but devices is stated or uncertain, of the 14 or not (an emphysema); else NaN.

    Against the experts' codes of Open-i, which have no uncertain ones, take 1 alone for
    present: "may be", "possible" and "versus" are -1 here and mostly aren't coded.

    Args:
        reports: a table with a column `report`, or texts; what is no text has no label.
        language: "en"; "de" and "es" have shorter tables (`radwb/curate/reports`), of
            which the Spanish one was measured on PadChest, the German one on no
            labelled reports.
    Returns:
        One row a report, with the table's index, and one column a finding: 1 stated, 0
        denied, -1 uncertain, NaN not mentioned. `why` shows the words.
    Raises:
        ValueError: there is no such language or column.
    """
    rules(language)  # refuses a language before the first report
    texts = _texts(reports)
    index = texts.index if isinstance(texts, pd.Series) else None
    labels = [_labels(text, language) for text in texts]
    return pd.DataFrame(labels, index, columns=list(FINDINGS), dtype=float)


def _texts(reports):
    if isinstance(reports, str):
        raise ValueError(
            "expected a table or a list of reports, got one text. Try "
            "label_reports([text])."
        )
    if not isinstance(reports, pd.DataFrame):
        return reports
    if "report" not in reports.columns:
        raise ValueError(
            f"expected a column report, got {list(reports.columns)}. Try "
            "label_reports(table['text']), with the column's own name."
        )
    return reports["report"]


def _labels(report, language):
    """{finding: the label of its weightiest mention}."""
    labels = {}
    for mention in mentions(report, language):
        known = labels.get(mention.finding)
        if RANK.get(mention.label, 0) > RANK.get(known, 0):
            labels[mention.finding] = mention.label
    is_read = NOTHING in labels or DENIED in labels.values()
    ill = {name for name, label in labels.items() if label in (STATED, UNSURE)}
    labels[NOTHING] = STATED if is_read and ill <= {*BENIGN} else np.nan
    return labels


def why(report: str, *, language: str = "en") -> pd.DataFrame:
    """The words of a report that `label_reports` goes by, one row a mention.

    >>> why("No effusion. Possible edema.")[["finding", "label", "words", "cue"]]
                finding  label     words       cue
    0  Pleural Effusion    0.0  effusion        No
    1             Edema   -1.0     edema  Possible

    Args:
        report: as `label_reports` takes it.
        language: "en", "de" or "es".
    Returns:
        finding ("other": abnormal, and none of the 14), label (NaN: past, asked or
        imagined, as in "history of"), the words that name it, the cue that decided
        (the same words where none did), start and end of the words in the report, and
        the sentence around them.
    """
    rows = []
    for mention in mentions(report, language):
        words = report[mention.start : mention.end]
        cue = report[mention.cue_start : mention.cue_end]
        sentence = _sentence(report, mention)
        place = (mention.start, mention.end)
        rows.append((mention.finding, mention.label, words, cue, *place, sentence))
    return pd.DataFrame(rows, columns=COLUMNS)


def _sentence(report, mention):
    first = max(0, mention.start - NEAR)
    last = mention.end + NEAR
    starts = [report.rfind(mark, first, mention.start) for mark in SENTENCE_ENDS]
    start = max(first, *(place + 1 for place in starts))
    ends = [report.find(mark, mention.end, last) for mark in SENTENCE_ENDS]
    end = min((place for place in ends if place >= 0), default=last)
    return report[start : end + 1].strip()
