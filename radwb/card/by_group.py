"""Groups in a card: who has the lower AUROC, and whom the scores tell apart."""

from dataclasses import replace

import numpy as np
import pandas as pd

from radwb.card.trial import HEALTHY, SMALL, Trial, of_findings, with_both
from radwb.fail.evidence import Evidence, compared, measured
from radwb.identifiers import numbered
from radwb.probe import Scores
from radwb.stats import clustered_auroc
from radwb.stats.comparison import gap_interval
from radwb.stats.pull import Pull
from radwb.stats.sentence import Comparison

COLUMNS = ("sex", "site", "view")
AGES = (-np.inf, 18, 40, 65, np.inf)  # years
AGE_NAMES = ("under 18", "18 to 39", "40 to 64", "65 and over")
LESS = "AUROC of the group less that of the others"


def groups(trial: Trial) -> list[Evidence]:
    """Which group's mean AUROC lies below the others'; else the lowest of a column."""
    groupings = grouped(trial.test)
    scores = of_findings(trial.scores, with_both(trial.scores))
    family = n_groups(groupings)
    rows = []
    for column, names in groupings.items():
        gaps = [
            mean_gap(scores, names, group, family)
            for group in sorted(names[names != ""].unique())
        ]
        told = [gap for gap in gaps if not np.isnan(gap.low)]
        behind = [gap for gap in told if gap.verdict == "behind"]
        for gap in behind:
            rows.append(_gap_row(column, gap))
        if told and not behind:
            lowest = min(told, key=lambda gap: gap.difference)
            row = _gap_row(column, lowest, f", the lowest of {len(told)}")
            if min(gap.low for gap in told) > -SMALL:
                row = replace(row, verdict="no failure seen")
            rows.append(row)
        # without an interval they come to stand under "not tested", each by itself
        rows += [_gap_row(column, gap) for gap in gaps if np.isnan(gap.low)]
    return rows


def _gap_row(column, gap, more=""):
    row = compared("group", f"{column} {gap.names[0]}{more}", gap)
    row = replace(row, measure=f"mean {LESS}")
    if np.isnan(gap.difference):  # there is no sentence but the reason
        row = replace(row, sentence=gap.note)
    return row


def mean_gap(scores: Scores, names: pd.Series, group: str, family: int) -> Comparison:
    """A group's mean AUROC over findings less that of all others, by patient.

    >>> print(mean_gap(scores, table["sex"], "F", 1))
    can't tell F from the others: ... patients; ...)

    Args:
        scores: of N images.
        names: (N,) group of each; "" belongs to none.
        group: the one that is held against the others.
        family: number of comparisons made together.
    """
    inside = (names == group).to_numpy()
    outside = ((names != group) & (names != "")).to_numpy()
    pairs = []
    for finding in scores.values:
        y = scores.truth[finding].to_numpy(float)
        sides = np.where(inside, y, np.nan), np.where(outside, y, np.nan)
        pair = [Pull.of(y, scores.values[finding], scores.patient_id) for y in sides]
        if not any(pull.missing() for pull in pair):
            pairs.append(pair)
    gap = low = high = p = np.nan
    if pairs:
        gap = float(np.mean([ours.auroc - theirs.auroc for ours, theirs in pairs]))
        low, high, p = gap_interval(gap, pairs, family)
    what = f"mean AUROC of {len(pairs)}"
    left_out = len(scores.values.columns) - len(pairs)
    note = ""
    if left_out:
        note = f"{left_out} of {len(scores.values.columns)} left out: too few patients"
    _, people = numbered(scores.patient_id[inside])
    pair = (str(group), "the others")
    return Comparison(pair, what, gap, low, high, p, people, family=family, note=note)


def followed(trial: Trial) -> list[Evidence]:
    """Whether the scores tell groups apart on films that have none of the findings."""
    has_none = _has_none(trial)
    groupings = grouped(trial.test[has_none])
    findings = list(trial.scores.values)
    family = len(findings) * n_groups(groupings)
    owners = trial.scores.patient_id[has_none]
    rows = []
    for column, names in groupings.items():
        told = []
        groups = sorted(names[names != ""].unique())
        if len(groups) == 2:  # the other's AUROC is the same, seen from the other side
            groups = groups[:1]
        for group in groups:
            is_group = (names == group).astype(float).where(names != "")
            for finding in findings:
                stated = trial.scores.values.loc[has_none, [finding]]
                pair = Scores(stated, is_group.to_frame(finding), owners)
                tried = f"{column} {group}, told by the score for {finding}"
                told.append((_following(pair, tried, family), pair))
        rows += _most_followed(told, trial.seed)
    return rows


def _has_none(trial):
    """(N,) whether a film has none of the findings that are asked for."""
    ills = trial.scores.truth.drop(columns=HEALTHY, errors="ignore")
    has_none = (ills == 0).all(axis=1)
    if HEALTHY in trial.test:  # it says so of what isn't asked for, too
        has_none = has_none & (pd.to_numeric(trial.test[HEALTHY]) == 1)
    return has_none.to_numpy()


def _following(pair, tried, family):
    """AUROC of a score for a group that it was not asked for."""
    (finding,) = pair.values
    group = pair.truth[finding]
    level = 1 - 0.05 / family
    row = clustered_auroc(group, pair.values[finding], pair.patient_id, level=level)
    row["note"] = row["note"] or f"one of {family} comparisons"
    verdict = "can't tell"
    if row["low"] > 0.5 or row["high"] < 0.5:
        verdict = "failure"
    elif row["low"] > 0.5 - SMALL and row["high"] < 0.5 + SMALL:
        verdict = "no failure seen"
    measure = "AUROC for the group, on films without a finding"
    return measured("shortcut", tried, measure, row, verdict=verdict)


def _most_followed(told, seed):
    """The rows that are failures, else the farthest from 0.5; with shuffled groups."""
    sure = [(row, pair) for row, pair in told if not np.isnan(row.low)] or told
    far = sorted(sure, key=lambda of_row: -abs(of_row[0].value - 0.5))
    failures = [(row, pair) for row, pair in far if row.verdict == "failure"]
    # one that can't be told from a failure may lie nearer than one that can
    unsure = [(row, pair) for row, pair in far if row.verdict == "can't tell"]
    rows = []
    for row, pair in failures or unsure[:1] or far[:1]:
        tried = row.tried
        if not failures:
            tried += f", the farthest of {len(unsure or sure)}"
            if 0 < len(unsure) < len(sure):
                tried += " that can't be told"
        control = pair.null(seed=seed)["auroc"].iloc[0]
        rows.append(replace(row, tried=tried, control=control))
    return rows


def grouped(test: pd.DataFrame) -> dict[str, pd.Series]:
    """Column -> (N,) group of each film, "" for none; columns of two groups or more.

    >>> list(grouped(table))
    ['sex', 'site', 'view', 'age']

    Raises:
        ValueError: there is no such column.
    """
    columns = {column: test[column] for column in COLUMNS if column in test}
    if "age_years" in test:
        years = pd.to_numeric(test["age_years"])
        columns["age"] = pd.cut(years, AGES, right=False, labels=AGE_NAMES)
    groupings = {}
    for column, names in columns.items():
        names = names.astype(object).where(names.notna(), "").astype(str)
        if names[names != ""].nunique() > 1:
            groupings[column] = names.reset_index(drop=True)
    if not groupings:
        raise ValueError(
            "expected two groups or more in sex, site, view or age, got one at most"
        )
    return groupings


def n_groups(groupings: dict[str, pd.Series]) -> int:
    """How many groups there are in all columns together."""
    return sum(names[names != ""].nunique() for names in groupings.values())
