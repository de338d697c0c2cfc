"""What is tried on a model when nothing else was: one small function an analysis.

Each takes a `Trial` and gives rows of evidence; what it can't do, it raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radwb import data
from radwb.fail.evidence import KINDS, Evidence, compared, measured
from radwb.fail.groups import group_gaps
from radwb.models import Model, embed
from radwb.probe import (
    Scores,
    among_abnormal,
    baselines,
    brightness,
    classify,
    enough_patients,
    finding_count_control,
    raw_pixels,
    zero_shot,
)
from radwb.stats import clustered_auroc, compare

GROUPS = ("sex", "site", "view", "age")
AGES = (-np.inf, 18, 40, 65, np.inf)  # years
AGE_NAMES = ("under 18", "18 to 39", "40 to 64", "65 and over")
SMALL = 0.1  # of AUROC or of a share: less than this isn't called a failure here
MOST_FILMS = 600  # of the training part, for probes: minutes aren't the card's to take
PENALTY = 0.01  # C of the probes; choosing it would take ten times as long


@dataclass(frozen=True, eq=False)
class Trial:
    """Who is tried, and on what.

    Attributes:
        model: the Model.
        table: all rows, with label columns.
        test: the rows it is tried on, with an index from 0.
        scores: what it says of them; None where it can't be asked.
        seed: of whatever is drawn.
    """

    model: Model
    table: pd.DataFrame
    test: pd.DataFrame
    scores: Scores | None
    seed: int = 0


@dataclass(frozen=True)
class NotTested:
    """What the card says nothing about, and why.

    Attributes:
        kind: one of `rw.fail.evidence.KINDS`.
        tried: what would have been tried.
        reason: in words.
    """

    kind: str
    tried: str
    reason: str


def asked(model: Model, test: pd.DataFrame) -> Scores:
    """What your model says of each film: in words where it reads them, else its head.

    >>> list(asked(model, table[["path", "patient_id", "Edema"]]).values)
    ['Edema']

    Args:
        model: with a text tower, or with findings of its own.
        test: rows with label columns.
    Raises:
        ValueError: the model has neither, or the table no label that it can be asked.
    """
    findings = data.findings_of(test)
    if model.kind != "image-text":
        known = model.findings or []
        findings = [finding for finding in findings if finding in known]
    labelled = [finding for finding in findings if test[finding].isin([0, 1]).any()]
    if not labelled:
        raise ValueError(
            "expected films with labels that the model can be asked for, got "
            f"{', '.join(findings) or 'none'} without a 1 or 0"
        )
    if model.kind == "image-text":
        return zero_shot(model, test, labelled)
    return of_findings(classify(model, test), labelled)


def of_findings(scores: Scores, findings: Sequence[str]) -> Scores:
    """The same scores, of some findings alone.

    >>> list(of_findings(scores, ["Pneumothorax"]).values)
    ['Pneumothorax']
    """
    findings = list(findings)
    return Scores(scores.values[findings], scores.truth[findings], scores.patient_id)


def try_all(trial: Trial) -> tuple[list[Evidence], list[NotTested]]:
    """Run `BATTERY`: what came of it, and what could not be tried and why.

    >>> tried, not_tested = try_all(Trial(model, table, table, scores))
    >>> tried[0].measure
    'AUROC'
    """
    evidence = []
    not_tested = []
    for kind, tried, attempt in BATTERY:
        try:
            rows = attempt(trial)
        # a card is for the model that breaks things, too
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            not_tested.append(NotTested(kind, tried, reason))
            continue
        for row in rows:
            # a handful of patients gives a number, but no evidence
            if np.isnan(row.low):
                not_tested.append(NotTested(kind, row.tried, row.sentence))
            else:
                evidence.append(row)
    return evidence, not_tested


def impossible(reason: str) -> list[NotTested]:
    """Each part of the battery, with the reason why none could be tried."""
    return [NotTested(kind, tried, reason) for kind, tried, _ in BATTERY]


def untouched(evidence: Sequence[Evidence], known: Sequence[NotTested]) -> list:
    """The kinds of failure that no row and no reason speaks of."""
    spoken_of = {row.kind for row in [*evidence, *known]}
    tried = "anything of this kind"
    return [
        NotTested(kind, tried, "it was not tried in this run")
        for kind in KINDS
        if kind not in spoken_of
    ]


def capability(trial: Trial) -> list[Evidence]:
    """How well each finding is told, beside the same scores with shuffled labels."""
    null = trial.scores.null(seed=trial.seed)["auroc"].tolist()
    table = pd.concat([trial.scores.auroc(), trial.scores.mean_auroc()])
    if len(trial.scores.values.columns) == 1:
        table = table.head(1)
    rows = []
    for (_, row), control in zip(table.iterrows(), null, strict=False):
        finding = row["finding"]
        rows.append(measured("capability", finding, "AUROC", row, control=control))
    return rows


def against_controls(trial: Trial) -> list[Evidence]:
    """Whether the model is ahead of a film's brightness, and of a blind count."""
    findings = _with_both(trial.scores)
    scores = of_findings(trial.scores, findings)
    others = {"brightness": brightness(trial.test, findings, fit=trial.model.fit)}
    if len(findings) > 1:
        others["a blind count of the other findings"] = finding_count_control(scores)
    rows = []
    for name, control in others.items():
        control = Scores(control.values, scores.truth, scores.patient_id)
        pair = ("the model", name)
        comparison = scores.against(control, pair, family=len(others))
        rows.append(compared("capability", f"held against {name}", comparison))
    return rows


def which_finding(trial: Trial) -> list[Evidence]:
    """The same, where each control has another finding."""
    row = among_abnormal(trial.scores).mean_auroc().iloc[0]
    tried = f"{row['finding']}, among films with some finding"
    return [measured("capability", tried, "AUROC", row)]


def labels(trial: Trial) -> list[Evidence]:
    """What labels would add: probes of the model's features and of bare pixels."""
    films = _films_for_probes(trial)
    findings, _ = enough_patients(films, _with_both(trial.scores))
    if not findings:
        raise ValueError("expected 10 patients with a finding, and 10 without it")
    features = {
        "a probe of its features": embed(trial.model, films),
        "a probe of 16 x 16 pixels": raw_pixels(films, 16, fit=trial.model.fit),
    }
    probes = baselines(features, films, label=findings, C=PENALTY)
    (of_features, name), (of_pixels, pixels) = [
        (of_seed[0], name) for name, of_seed in probes.items()
    ]
    own = of_findings(trial.scores, findings)
    learnt = _learnt_from(films)
    pairs = [(own, of_features, ("the model as it is", name))]
    pairs.append((of_features, of_pixels, (name, pixels)))
    rows = []
    for ours, theirs, names in pairs:
        comparison = ours.against(theirs, names, family=len(pairs))
        tried = f"{names[0]} against {names[1]}, {learnt}"
        rows.append(compared("capability", tried, comparison))
    return rows


def _films_for_probes(trial):
    """The tested rows, and those of the training part where there is one."""
    split = trial.table.get("split")
    if split is None or not {"train", "test"} <= set(split):
        return trial.test
    train = trial.table[split == "train"]
    people = np.random.default_rng(trial.seed).permutation(train["patient_id"].unique())
    place = dict(zip(people, range(len(people)), strict=True))
    order = train["patient_id"].map(place)
    few = train.loc[order.sort_values(kind="stable").index[:MOST_FILMS]]
    return pd.concat([few, trial.test]).reset_index(drop=True)


def _learnt_from(films):
    if "split" in films and (films["split"] == "train").any():
        people = films["patient_id"][films["split"] == "train"].nunique()
        return f"trained on the labels of {people} other patients"
    return "trained on the labels of the others, in five folds by patient"


def groups(trial: Trial) -> list[Evidence]:
    """Which group's AUROC lies below that of all others; else the lowest of each."""
    groupings = _groupings(trial.test)
    findings = _with_both(trial.scores)
    family = len(findings) * _count(groupings)
    rows = []
    for column, names in groupings.items():
        gaps = []
        for finding in findings:
            one = of_findings(trial.scores, [finding])
            gaps += group_gaps(one, names, family=family)
        rows += _lowest(column, gaps)
    return rows


def _lowest(column, gaps):
    """The gaps that are failures; where none is, the lowest of those with interval."""
    told = [gap for gap in gaps if not np.isnan(gap.low)]
    behind = [gap for gap in told if gap.verdict == "behind"]
    lowest = sorted(told or gaps, key=lambda gap: gap.difference)[:1]
    rows = []
    for gap in behind or lowest:
        tried = f"{column} {gap.names[0]}, {gap.what}"
        if not behind:
            tried = f"{column}, the lowest of {len(told)}: {gap.names[0]}, {gap.what}"
        row = compared("group", tried, gap)
        if told and min(gap.low for gap in told) > -SMALL:
            row = replace(row, verdict="no failure seen")
        rows.append(row)
    return rows


def followed(trial: Trial) -> list[Evidence]:
    """Whether the score tells groups apart on films that have none of the findings."""
    has_none = (trial.scores.truth == 0).all(axis=1).to_numpy()
    groupings = _groupings(trial.test[has_none])
    findings = list(trial.scores.values)
    family = len(findings) * _count(groupings)
    rows = []
    for column, names in groupings.items():
        told = []
        for group in sorted(names[names != ""].unique()):
            is_group = (names == group).astype(float).where(names != "")
            for finding in findings:
                stated = trial.scores.values.loc[has_none, finding]
                owners = trial.scores.patient_id[has_none]
                pair = Scores(stated.to_frame(), is_group.to_frame(finding), owners)
                tried = f"{column} {group} by the score for {finding}"
                told.append(_following(pair, tried, family, trial.seed))
        rows += _most_followed(column, told)
    return rows


def _following(pair, tried, family, seed):
    """AUROC of a score for a group that it was not asked for."""
    (finding,) = pair.values
    group = pair.truth[finding]
    row = clustered_auroc(
        group, pair.values[finding], pair.patient_id, level=1 - 0.05 / family
    )
    row["note"] = row["note"] or f"one of {family} comparisons"
    control = pair.shuffled(seed).auroc()["auroc"].item()
    verdict = "can't tell"
    if row["low"] > 0.5 or row["high"] < 0.5:
        verdict = "failure"
    elif row["low"] > 0.5 - SMALL and row["high"] < 0.5 + SMALL:
        verdict = "no failure seen"
    measure = "AUROC for the group among films without a finding"
    return measured("shortcut", tried, measure, row, verdict=verdict, control=control)


def _most_followed(column, told):
    """The rows that are failures; where none is, the one farthest from 0.5."""
    failures = [row for row in told if row.verdict == "failure"]
    with_interval = [row for row in told if not np.isnan(row.low)] or told
    farthest = sorted(with_interval, key=lambda row: -abs(row.value - 0.5))[:1]
    if failures or not farthest:
        return failures
    tried = f"{column}, the farthest of {len(with_interval)}: {farthest[0].tried}"
    return [replace(farthest[0], tried=tried)]


def calibration(trial: Trial) -> list[Evidence]:
    """Whether as many have a finding as is stated; beside it a constant statement."""
    stated = trial.scores.values
    if stated.min(axis=None) < 0 or stated.max(axis=None) > 1:
        raise ValueError("expected probabilities, got scores that are none")
    findings = _with_both(trial.scores)
    rows = []
    for finding in findings:
        truth = trial.scores.truth[finding]
        labelled = truth.isin([0, 1]).to_numpy()
        comparison = compare(
            stated.loc[labelled, finding],
            truth[labelled],
            trial.scores.patient_id[labelled],
            names=("the share stated", "the share that has it"),
            what=f"share with {finding}",
            family=len(findings),
            seed=trial.seed,
        )
        control = _share_in_training(trial.table, finding) - truth[labelled].mean()
        row = compared(
            "calibration",
            f"how many are said to have {finding}",
            comparison,
            harm=comparison.verdict,
            control=control,
        )
        rows.append(_calibrated(row))
    return rows


def _calibrated(row):
    """Neither more nor fewer may be said to have it."""
    if np.isnan(row.low) or row.low <= 0 <= row.high:
        near = row.low > -SMALL and row.high < SMALL
        return replace(row, verdict="no failure seen" if near else "can't tell")
    return row


def _share_in_training(table, finding):
    """Of the training rows that are labelled; NaN without any."""
    if "split" not in table:
        return np.nan
    labels = pd.to_numeric(table.loc[table["split"] == "train", finding])
    return labels[labels.isin([0, 1])].mean()


def _with_both(scores):
    """Findings that some films have and some haven't."""
    truth = scores.truth
    findings = [f for f in truth if {0, 1} <= set(truth[f].dropna())]
    if not findings:
        raise ValueError(
            "expected films with a finding and films without, got one kind"
        )
    return findings


def _groupings(test):
    """Column -> (N,) group of each film, of the columns that have two or more."""
    columns = {c: test[c] for c in GROUPS if c in test}
    if "age_years" in test:
        years = pd.to_numeric(test["age_years"])
        columns["age"] = pd.cut(years, AGES, right=False, labels=AGE_NAMES)
    groupings = {}
    for column, names in columns.items():
        names = names.astype(object).where(names.notna(), "").astype(str)
        names = names.reset_index(drop=True)
        if names[names != ""].nunique() > 1:
            groupings[column] = names
    if not groupings:
        raise ValueError(f"expected two groups or more of {', '.join(GROUPS)}, got one")
    return groupings


def _count(groupings):
    return sum(names[names != ""].nunique() for names in groupings.values())


Attempt = Callable[[Trial], list[Evidence]]
BATTERY: tuple[tuple[str, str, Attempt], ...] = (
    ("capability", "the AUROC for each finding", capability),
    ("capability", "the same among films with some finding", which_finding),
    ("capability", "the model against controls that know nothing", against_controls),
    ("capability", "the model against probes that have labels", labels),
    ("group", "AUROC by sex, age, site and view", groups),
    ("shortcut", "sex, age, site and view in the scores", followed),
    ("calibration", "the share stated against the share that is so", calibration),
)
