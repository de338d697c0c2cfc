"""What a model could go by instead of the finding: metadata, and how it shows."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from radwb.curate.audit.result import row
from radwb.data.table import findings_of
from radwb.identifiers import numbered
from radwb.stats import clustered_auroc, format_interval

METADATA = (
    "view",
    "position",
    "site",
    "sex",
    "age_years",
    "manufacturer",
    "modality",
    "body_part",
    "photometric",
    "bits_stored",
    "transfer_syntax",
    "rows",
    "columns",
    "row_mm",
)
SHOWN = ("view", "position", "site", "manufacturer", "sex")  # asked of the pictures
LEVELS = 12  # of a column: more are names, no groups
LEAST = 0.05  # of an AUROC beyond a coin's: less is of no use to a model
STRONG = 0.15
FOLDS = 5
MOST_SHOWN = 5_000  # films that a picture's features are tried on


def metadata_scores(table: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """{(column, level): (N,) number}: numbers as they are, 1 or 0 for a group's rows.

    Of two groups the smaller one is asked.

    >>> list(metadata_scores(pd.DataFrame({"view": ["PA", "AP", "PA"]})))
    [('view', 'AP')]
    """
    scores = {}
    for column in table.columns.intersection(METADATA, sort=False):
        values = table[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 2:
            scores[column, ""] = values.to_numpy(dtype=float)
            continue
        counts = values.dropna().astype(str).value_counts().sort_index()
        if not 2 <= len(counts) <= LEVELS:
            continue
        levels = counts.index if len(counts) > 2 else [counts.idxmin()]
        for level in levels:
            known = values.notna().to_numpy()
            is_level = (values.astype(str) == level).to_numpy(dtype=float)
            scores[column, level] = np.where(known, is_level, np.nan)
    return scores


def shortcuts(table: pd.DataFrame) -> tuple[list[dict], list[tuple]]:
    """Findings that one column of metadata tells, with no look at a film.

    An AUROC by patient for each finding and group of films, or number; intervals are
    for as many as were asked. A column is told by its strongest group.

    Args:
        table: needs patient_id and findings.
    Returns:
        rows of an audit, and (finding, column, level) of each.
    """
    scores = metadata_scores(table)
    findings = findings_of(table)
    level = 1 - 0.05 / max(len(scores) * len(findings), 1)
    patient, _ = numbered(table["patient_id"])
    rows, told = [], []
    for finding in findings:
        y = table[finding].to_numpy(dtype=float)
        best = {}
        for (column, group), s in scores.items():
            number = _auroc(y, s, patient, level)
            beyond = min(abs(number["low"] - 0.5), abs(number["high"] - 0.5))
            one_side = (number["low"] - 0.5) * (number["high"] - 0.5) > 0
            if one_side and abs(number["auroc"] - 0.5) >= LEAST:
                best[column] = max(
                    best.get(column, (-1,)), (beyond, group, number), key=lambda b: b[0]
                )
        for column, (_, group, number) in best.items():
            rows.append(_told(table, y, scores, finding, column, group, number))
            told.append((finding, column, group))
    return rows, told


def _auroc(y, s, patient, level):
    known = ~np.isnan(s)
    return clustered_auroc(y[known], s[known], patient[known], level=level)


def _told(table, y, scores, finding, column, group, number):
    which = f"{column} {group}" if group else column
    s = scores[column, group]
    more = number["auroc"] > 0.5
    ranked = np.where(np.isnan(s), -np.inf, s if more else -s)
    case = np.where(y == 1, ranked, -np.inf).argmax()
    control = np.where(y == 0, -ranked, -np.inf)
    control = np.where(np.isinf(ranked), -np.inf, control).argmax()
    strong = abs(number["auroc"] - 0.5) >= STRONG
    return row(
        "metadata tells the finding",
        "look" if strong else "note",
        f"{which} alone tells {finding}: AUROC {format_interval(number)}",
        about=f"{finding} from {which}",
        n=number["positives"],
        of=number["n"],
        patients=number["patients"],
        value=number,
        evidence=(case, control),
    )


def shown_within(
    table: pd.DataFrame, told: list[tuple], features: np.ndarray, films: np.ndarray
) -> list[dict]:
    """Whether films show the metadata that tells a finding: overall, and within class.

    Within films with the finding, and within those without, so that the finding itself
    can't be what gives it away. A linear probe whose folds are of patients.

    Args:
        table: needs patient_id.
        told: (finding, column, level) of each.
        features: (M, D) of the films: of a model, or their small pictures.
        films: (M,) rows of the table.
    """
    some = films[:MOST_SHOWN]
    features = features[:MOST_SHOWN]
    part = table.iloc[some]
    patient, _ = numbered(part["patient_id"])
    scores = metadata_scores(part)
    rows = []
    for column, group in dict.fromkeys((column, group) for _, column, group in told):
        if column not in SHOWN or (column, group) not in scores:
            continue
        z = scores[column, group]
        s = out_of_fold(features, z, patient)
        if s is None:
            continue
        overall = clustered_auroc(z, s, patient)
        asked = [f for f, c, g in told if (c, g) == (column, group)]
        within = _within(part, asked, z, s, patient)
        said = [f"films show {column} {group}: AUROC {format_interval(overall)}"]
        rows.append(
            row(
                "films show the metadata",
                "note",
                "; ".join([*said, *within]),
                about=f"{column} {group}",
                n=overall["positives"],
                of=overall["n"],
                patients=overall["patients"],
                value=overall,
                evidence=(some[np.nanargmax(s * z)], some[np.nanargmin(s + z)]),
            )
        )
    return rows


def _within(table, findings, z, s, patient):
    """The AUROC with its interval, with and without each finding, in words."""
    for finding in findings:
        y = table[finding].to_numpy(dtype=float)
        for value, word in ((1, "with"), (0, "without")):
            of = y == value
            number = clustered_auroc(z[of], s[of], patient[of])
            yield f"{format_interval(number)} {word} {finding}"


def out_of_fold(features, y, patient) -> np.ndarray | None:
    """(N,) chance of 1 by a linear probe that never saw the patient; None if too few.

    Rows whose y isn't 1 or 0 are NaN.
    """
    known = np.isin(y, (0, 1))
    labels, groups = y[known].astype(int), patient[known]
    patients = [len(set(groups[labels == value])) for value in (0, 1)]
    if min(patients) < FOLDS:
        return None
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    chance = cross_val_predict(
        probe, features[known], labels, groups=groups, cv=folds, method="predict_proba"
    )
    out = np.full(len(y), np.nan)
    out[known] = chance[:, 1]
    return out
