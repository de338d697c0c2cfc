"""Reports to the 14 labels of CheXpert, with the words that led to them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from radwb.curate.reports.read import APART, DENIED, STATED, UNSURE, mentions
from radwb.curate.reports.rules import rules
from radwb.findings import FINDINGS

NOTHING = "No Finding"
BENIGN = ("Support Devices", NOTHING)  # with these a report may still be normal
WEIGHT = {STATED: 3, UNSURE: 2, DENIED: 1}  # which of two mentions wins


def label_reports(
    reports: pd.DataFrame | Iterable[str], *, language: str = "en"
) -> pd.DataFrame:
    """Label."""
    if isinstance(reports, str):
        raise ValueError(
            "expected a table or a list of reports, got one text. Try "
            "label_reports([text])."
        )
    index = reports.index if isinstance(reports, (pd.DataFrame, pd.Series)) else None
    if isinstance(reports, pd.DataFrame):
        if "report" not in reports.columns:
            raise ValueError(
                f"expected a column report, got {list(reports.columns)}. Try "
                "table.rename(columns={...: 'report'})."
            )
        reports = reports["report"]
    rules(language)
    labels = [_labels(report, language) for report in reports]
    return pd.DataFrame(labels, index, columns=list(FINDINGS), dtype=float)


def _labels(report, language):
    """{finding: its strongest label}."""
    labels = {}
    for mention in mentions(report, language):
        old = labels.get(mention.finding)
        if WEIGHT.get(mention.label, 0) > WEIGHT.get(old, 0):
            labels[mention.finding] = mention.label
    is_ill = any(
        label in (STATED, UNSURE) and finding not in BENIGN
        for finding, label in labels.items()
    )
    is_normal = labels.get(NOTHING) == STATED or DENIED in labels.values()
    labels[NOTHING] = STATED if is_normal and not is_ill else np.nan
    return labels


def why(report: str, *, language: str = "en") -> pd.DataFrame:
    """Why."""
    rows = []
    for m in mentions(report, language):
        words = report[m.start : m.end]
        cue = report[m.cue_start : m.cue_end]
        rows.append((m.finding, m.label, words, cue, m.start, m.end))
    return pd.DataFrame(rows, columns=["finding", "label", "words", "cue", "start", "end"])
