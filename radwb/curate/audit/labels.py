"""Labels: how many, how many are wrong, and whether a text gives them away."""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from radwb.curate.audit.result import row
from radwb.data.table import findings_of
from radwb.identifiers import numbered
from radwb.stats import clustered_mean, format_interval

FEW = 5  # patients: no interval stands on fewer
RARE = 0.01
FOLDS = 5
MOST_LETTERS = 20_000  # of a report
SOME = 60  # patients: of fewer the reports' model doubted a sixth of true labels
MANY = 20_000  # rows from which on noise isn't sought: the folds would take minutes


def class_balance(table: pd.DataFrame) -> list[dict]:
    """Findings of which a part of the split has next to no case, or no control."""
    patient, _ = numbered(table["patient_id"])
    parts = {"": np.ones(len(table), bool)}
    if "split" in table.columns:
        part = table["split"].to_numpy(dtype=object)
        parts = {name: part == name for name in dict.fromkeys(part[pd.notna(part)])}
    rows = []
    for finding in findings_of(table):
        y = table[finding].to_numpy(dtype=float)
        for name, here in parts.items():
            labelled = here & np.isin(y, (0, 1))
            counts = [len(set(patient[labelled & (y == value)])) for value in (1, 0)]
            if min(counts) >= FEW or not labelled.any():
                continue
            word = "with" if counts[0] < FEW else "without"
            where = f" in {name}" if name else ""
            rows.append(
                row(
                    "class balance",
                    "note",
                    f"{min(counts)} patients {word} {finding}{where}: no interval "
                    "stands on so few",
                    about=f"{finding}{where}",
                    n=(y[labelled] == 1).sum(),
                    of=labelled.sum(),
                    patients=min(counts),
                )
            )
    return rows


def against_truth(table: pd.DataFrame, truth: pd.DataFrame) -> list[dict]:
    """How good labels are where better ones are known.

    Args:
        table: needs patient_id and findings.
        truth: (N, K) of the same rows: 1 or 0 where the truth is known.
    """
    patient, _ = numbered(table["patient_id"])
    rows = []
    for finding in truth.columns.intersection(findings_of(table), sort=False):
        y = table[finding].to_numpy(dtype=float)
        true = truth[finding].to_numpy(dtype=float)
        known = np.isin(y, (0, 1)) & np.isin(true, (0, 1))
        wrong = known & (y != true)
        if not wrong.any():
            continue
        said = known & (y == 1)
        given = clustered_mean(true[said], patient[said], share=True)
        real = known & (true == 1)
        there = clustered_mean(y[real], patient[real], share=True)
        evidence = np.flatnonzero(wrong)[:2]
        rows.append(
            row(
                "label against the truth",
                "look",
                f"{finding}: precision {format_interval(given, 'mean')}, recall "
                f"{format_interval(there, 'mean')} of the labels against the truth",
                about=finding,
                n=wrong.sum(),
                of=known.sum(),
                patients=len(set(patient[wrong])),
                value=given,
                evidence=evidence,
            )
        )
    return rows


def label_noise(
    table: pd.DataFrame, features: np.ndarray | None = None
) -> tuple[list[dict], pd.DataFrame]:
    """Labels that neither the report nor the features bear out, by confident learning.

    cleanlab's (Northcutt et al. 2021), on the chances that a linear model gives to
    patients it never saw. It needs the extra `curate`.

    Args:
        table: needs patient_id and findings.
        features: (N, D); None takes the words of the reports.
    Returns:
        rows of an audit; and one row a suspected label, most suspected first: row,
        finding, label, chance (that it is 1).
    """
    from cleanlab.filter import find_label_issues

    patient, _ = numbered(table["patient_id"])
    matrix = _words(table["report"]) if features is None else features
    rows, suspects = [], []
    for finding in findings_of(table):
        y = table[finding].to_numpy(dtype=float)
        known = np.flatnonzero(np.isin(y, (0, 1)))
        labels = y[known].astype(int)
        counts = [len(set(patient[known][labels == value])) for value in (0, 1)]
        if min(counts) < FOLDS:
            continue
        chance = _chances(matrix[known], labels, patient[known])
        issues = find_label_issues(
            labels, chance, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        suspected = {"row": known[issues], "finding": finding, "label": labels[issues]}
        suspects.append(pd.DataFrame(suspected).assign(chance=chance[issues, 1]))
        if len(issues):
            by = "the reports" if features is None else "the features"
            rows.append(_noise(finding, issues, known, patient[known], by))
    empty = pd.DataFrame(columns=["row", "finding", "label", "chance"])
    return rows, pd.concat([empty, *suspects], ignore_index=True)


def _noise(finding, issues, known, patient, by):
    """The row of a finding's suspected labels."""
    wrong = np.isin(np.arange(len(known)), issues).astype(float)
    share = clustered_mean(wrong, patient, share=True)
    return row(
        "label noise",
        "look" if share["low"] >= RARE else "note",
        f"{finding}: {len(issues)} labels aren't borne out by {by}, a share of "
        f"{format_interval(share, 'mean')}",
        about=finding,
        n=len(issues),
        of=len(known),
        patients=len(set(patient[issues])),
        value=share,
        evidence=known[issues][:2],
    )


def _words(reports) -> sparse.csr_matrix:
    """(N, 65536) which words and pairs of words a report has."""
    texts = [text[:MOST_LETTERS] if isinstance(text, str) else "" for text in reports]
    counter = HashingVectorizer(
        n_features=1 << 16, ngram_range=(1, 3), binary=True, alternate_sign=False
    )
    return counter.transform(texts)


def _chances(matrix, labels, patient):
    """(N, 2) by a linear model that never saw the patient."""
    model = LogisticRegression(C=10, max_iter=200)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(
        model, matrix, labels, groups=patient, cv=folds, method="predict_proba"
    )
