"""What a card does to films and to words, and what it shows that is no such film.

Each takes few films and few kinds, for a card should take seconds; `rw.fail` has all.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from radwb import data, fail
from radwb.card.trial import (
    HEALTHY,
    SMALL,
    Trial,
    asked,
    of_findings,
    some_films,
    with_both,
)
from radwb.fail.evidence import Evidence
from radwb.models import embed

FILMS = 200  # that are spoilt
KINDS = ("noise", "blur", "gamma", "inverted")
SEVERITY = 3
WRITTEN_ON = 60  # films
WORDS = 6  # of nonsense


def commonest(trial: Trial) -> str:
    """The finding that most patients have, for what is tried on one alone.

    >>> films = table.head(40)
    >>> commonest(Trial(model, films, films, asked(model, films), None))
    'Lung Opacity'
    """
    people = pd.Series(trial.scores.patient_id)
    truth = trial.scores.truth
    counts = {f: people[(truth[f] == 1).to_numpy()].nunique() for f in truth}
    findings = with_both(trial.scores)
    ills = [finding for finding in findings if finding != HEALTHY]
    return max(ills or findings, key=counts.get)


def spoilt(trial: Trial) -> list[Evidence]:
    """What noise, blur, contrast and inverted greys cost."""
    films = some_films(trial.test, FILMS, trial.seed)
    findings = list(trial.scores.values)
    harm = {"kinds": KINDS, "severities": (SEVERITY,), "seed": trial.seed}
    rows = fail.robustness(trial.model, films, findings, **harm).evidence()
    return [ruled_out(row) for row in rows]


def ruled_out(row: Evidence) -> Evidence:
    """No failure where the interval leaves out a loss of `SMALL` or more."""
    if row.verdict == "can't tell" and row.low > -SMALL:
        return replace(row, verdict="no failure seen")
    return row


def other_words(trial: Trial) -> list[Evidence]:
    """What a paraphrase, a typo and a denial do to the answers."""
    findings = list(trial.scores.values)
    asked_so = {"embeddings": trial.embeddings, "seed": trial.seed}
    attack = fail.prompt_attacks(trial.model, trial.test, findings, **asked_so)
    # of a denial more is worse: that isn't ruled out so
    return [
        row if row.tried.startswith("denial") else ruled_out(row)
        for row in attack.evidence()
    ]


def written_words(trial: Trial) -> list[Evidence]:
    """Whether the answer follows the finding's name that is written on the film."""
    finding = commonest(trial)
    healthy = trial.test[pd.to_numeric(trial.test[finding]) == 0]
    films = some_films(healthy, WRITTEN_ON, trial.seed)
    words = {"words": WORDS, "seed": trial.seed}
    return fail.typographic_attack(trial.model, films, finding, **words).evidence()


def strangers(trial: Trial) -> list[Evidence]:
    """Whether films that are none of its kind lie farther from those it has met."""
    model = trial.model
    known = some_films(trial.test, FILMS, trial.seed)
    images = data.images(known, model.size, fit=model.fit)
    learnt = _part(trial, "train")
    # a film that is its own neighbour would look familiar whatever it shows
    learnt = learnt[~learnt["patient_id"].isin(known["patient_id"])]
    if learnt.empty:
        raise ValueError("expected training films of other patients, got none")
    reference = embed(model, some_films(learnt, 2 * FILMS, trial.seed))
    unknown = {}
    films = fail.unknown_films(images, known["patient_id"], model, seed=trial.seed)
    for name, (stack, owners) in films.items():
        unknown[name] = (fail.strangeness(reference, embed(model, stack)), owners)
    far = fail.strangeness(reference, embed(model, images))
    return fail.unknown_report(far, known["patient_id"], unknown).evidence()


def covered(trial: Trial) -> list[Evidence]:
    """Whether sets that promise 90 % hold the truth, calibrated on other patients."""
    finding = commonest(trial)
    apart = _part(trial, "val").reset_index(drop=True)
    others = of_findings(asked(trial.model, apart), [finding])
    scores = of_findings(trial.scores, [finding])
    sets = fail.prediction_sets(others, scores, seed=trial.seed)
    return fail.coverage({f"as they are, {finding}": (scores, sets)}).evidence()


def slices(trial: Trial) -> list[Evidence]:
    """Which films are answered worse, for the finding that most patients have."""
    finding = commonest(trial)
    found = fail.find_slices(
        trial.scores, trial.embeddings, trial.test, finding=finding, seed=trial.seed
    )
    return found.evidence()


def _part(trial, name):
    split = trial.table.get("split", pd.Series(dtype=object))
    rows = trial.table[np.asarray(split == name)] if len(split) else trial.table.head(0)
    if rows.empty:
        raise ValueError(f'expected films of split "{name}" besides, got none')
    return rows
