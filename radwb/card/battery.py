"""What is tried on a model when nothing else was: one small function an analysis.

Each takes a `Trial` and gives rows of evidence; what it can't do, it raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from radwb.card.by_group import followed, groups
from radwb.card.harder import (
    covered,
    other_words,
    slices,
    spoilt,
    strangers,
    written_words,
)
from radwb.card.trial import (
    HEALTHY,
    SMALL,
    NotTested,
    Trial,
    in_one_line,
    of_findings,
    some_films,
    with_both,
)
from radwb.fail.evidence import KINDS, Evidence, compared, measured
from radwb.models import embed
from radwb.probe import (
    Scores,
    among_abnormal,
    baselines,
    brightness,
    enough_patients,
    finding_count_control,
    raw_pixels,
)
from radwb.stats import compare

MOST_FILMS = 600  # of the training part, for probes: minutes aren't the card's to take
IN_WORDS = "asking in words"
OWN_HEAD = "its own head"
FEATURES = "a probe of its features"
PIXELS = "a probe of 16 x 16 pixels"
# what tries a kind that takes too long for a card, or more than a table
WOULD = {
    "drift": "rw.fail.watch_drift",
    "memory": "rw.fail.membership",
    "mitigation": "rw.fail.mitigate",
    "map": "rw.attend.sanity_check",
    "readers": "rw.fail.reading_effect",
}
PENALTY = 0.01  # C of the probes; choosing it would take ten times as long


def try_all(trial: Trial) -> tuple[list[Evidence], list[NotTested]]:
    """Run `BATTERY`: what came of it, and what could not be tried and why."""
    evidence = []
    not_tested = []
    for kind, tried, attempt in BATTERY:
        try:
            rows = attempt(trial)
        # a card is for the model that breaks things, too
        except Exception as error:
            not_tested.append(NotTested(kind, tried, in_one_line(error)))
            continue
        evidence += rows
        if not rows:
            not_tested.append(NotTested(kind, tried, "nothing came up to be tested"))
    return evidence, not_tested


def sorted_out(rows: Sequence[Evidence]) -> tuple[list[Evidence], list[NotTested]]:
    """The rows that have an interval, and the others as not tested, with their reason.

    A handful of patients gives a number, but no evidence.
    """
    sure = [row for row in rows if not np.isnan(row.low)]
    others = [row for row in rows if np.isnan(row.low)]
    return sure, [NotTested(row.kind, row.tried, row.sentence) for row in others]


def impossible(reason: str) -> list[NotTested]:
    """Each part of the battery, with the reason why none could be tried."""
    return [NotTested(kind, tried, reason) for kind, tried, _ in BATTERY]


def untouched(evidence: Sequence[Evidence], known: Sequence[NotTested]) -> list:
    """The kinds of failure that no row and no reason speaks of."""
    spoken_of = {row.kind for row in [*evidence, *known]}
    not_tested = []
    for kind in KINDS:
        if kind not in spoken_of:
            reason = "it was not tried in this run"
            if kind in WOULD:
                reason += f"; {WOULD[kind]} would"
            not_tested.append(NotTested(kind, "anything of this kind", reason))
    return not_tested


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
    findings = with_both(trial.scores)
    scores = of_findings(trial.scores, findings)
    others = {"brightness": brightness(trial.test, findings, fit=trial.model.fit)}
    if len(findings) > 1 and HEALTHY not in findings:
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
    ills = [finding for finding in trial.scores.values if finding != HEALTHY]
    row = among_abnormal(of_findings(trial.scores, ills)).mean_auroc().iloc[0]
    tried = f"{row['finding']}, among films with some finding"
    return [measured("capability", tried, "AUROC", row)]


def labels(trial: Trial) -> list[Evidence]:
    """What labels would add: probes of the model's features and of bare pixels."""
    films, Z = _for_probes(trial)
    findings, _ = enough_patients(films, with_both(trial.scores))
    if not findings:
        raise ValueError("expected 10 patients with a finding, and 10 without it")
    features = {
        FEATURES: Z,
        PIXELS: raw_pixels(films, 16, fit=trial.model.fit),
    }
    probes = baselines(features, films, label=findings, C=PENALTY)
    (of_features, name), (of_pixels, pixels) = [
        (of_seed[0], name) for name, of_seed in probes.items()
    ]
    own = of_findings(trial.scores, findings)
    learnt = _learnt_from(films)
    as_it_is = IN_WORDS if trial.model.kind == "image-text" else OWN_HEAD
    pairs = [(own, of_features, (as_it_is, name))]
    pairs.append((of_features, of_pixels, (name, pixels)))
    rows = []
    for ours, theirs, names in pairs:
        comparison = ours.against(theirs, names, family=len(pairs))
        tried = f"{names[0]} against {names[1]}, {learnt}"
        rows.append(compared("capability", tried, comparison))
    # that labels would help is no failure of what has seen none
    rows[0] = replace(rows[0], verdict="measured")
    return rows


def _for_probes(trial):
    """The tested rows, and those of the training part where there is one, with Z."""
    split = trial.table.get("split")
    if split is None or not {"train", "test"} <= set(split):
        return trial.test, trial.embeddings
    train = some_films(trial.table[split == "train"], MOST_FILMS, trial.seed)
    films = pd.concat([train, trial.test]).reset_index(drop=True)
    return films, np.concatenate([embed(trial.model, train), trial.embeddings])


def _learnt_from(films):
    if "split" in films and (films["split"] == "train").any():
        people = films["patient_id"][films["split"] == "train"].nunique()
        return f"trained on the labels of {people} other patients"
    return "trained on the labels of the others, in five folds by patient"


def calibration(trial: Trial) -> list[Evidence]:
    """Whether as many have a finding as is stated; beside it a constant statement."""
    stated = trial.scores.values
    if stated.min(axis=None) < 0 or stated.max(axis=None) > 1:
        raise ValueError("expected probabilities, got scores that are none")
    findings = with_both(trial.scores)
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
            finding,
            comparison,
            harm=comparison.verdict,
            control=control,
        )
        row = replace(row, measure="share stated less share that has it")
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


Attempt = Callable[[Trial], list[Evidence]]
BATTERY: tuple[tuple[str, str, Attempt], ...] = (
    ("capability", "the AUROC for each finding", capability),
    ("capability", "the same among films with some finding", which_finding),
    ("capability", "the model against controls that know nothing", against_controls),
    ("capability", "the model against probes that have labels", labels),
    ("group", "mean AUROC by sex, age, site and view", groups),
    ("shortcut", "sex, age, site and view in the scores", followed),
    ("calibration", "the share stated against the share that is so", calibration),
    ("slice", "films of a kind that are answered worse", slices),
    ("robustness", "noise, blur, gamma and inverted greys", spoilt),
    ("attack", "other words for the same question", other_words),
    ("attack", "the finding's name written on the film", written_words),
    ("coverage", "sets that promise 90 %", covered),
    ("unknown input", "films of another kind", strangers),
)
