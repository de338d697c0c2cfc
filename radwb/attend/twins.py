"""Three trainings that tell whether a map hangs on the labels: two with the true ones,
one with labels dealt anew.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from radwb.pretrain.diagnose import LOSSES, SPREAD, diagnose, stuck

HEALTH = (
    LOSSES[0],
    *SPREAD,
)  # what a training on wrong labels must pass, too; that it generalises it need not
ALIKE = ("recipe", "epochs", "batch", "lr", "precision", "start")  # of all three


@dataclass(frozen=True, eq=False)
class LabelTwins:
    """Two models that learned from the true labels and one, the second's twin, that
    learned from shuffled ones.

    Attributes:
        true, again: of the true labels; `again` starts from other weights.
        shuffled: as `again`, but for the labels.
        target: what their maps are asked, in their own terms; None for methods that
            aren't asked.
        ills: which of them can't be interpreted -> why, in the words of the diagnosis;
            empty when all are healthy.
    """

    true: object
    again: object
    shuffled: object
    target: object = None
    ills: dict[str, str] = field(default_factory=dict)

    @property
    def unhealthy(self) -> str:
        """Which of them are ill, for a badge; "" when none is."""
        return f"not healthy: {', '.join(self.ills)}" if self.ills else ""


def label_twins(
    true,
    again,
    shuffled,
    table: pd.DataFrame,
    *,
    target=None,
    n: int = 256,
    seed: int = 0,
) -> LabelTwins:
    """Make sure that three runs may be compared: alike but for what is asked, and
    healthy.

    >>> twins = label_twins(runs["true"], runs["again"], runs["shuffled"], table, target="Pleural Effusion")
    >>> sanity_check(model, scans, target=("pleural effusion", "no pleural effusion"), twins=twins).badge

    `true` and `again` differ in their seed, `again` and `shuffled` in their labels. So
    `true` differs from either in its seed, and whatever its maps have less in common
    with those of `shuffled` than with those of `again` is due to the labels (after
    Adebayo et al. 2018, arXiv 1810.03292, who have no such pair to compare with).

    Healthy is what `rw.pretrain.diagnose` says of loss and embeddings. A classifier's
    loss is held against that of the labels' frequencies. That held-out films gain
    nothing is no illness here: shuffled labels can only be memorised.

    Args:
        true, again, shuffled: finished `Run`s of `rw.pretrain.fit` with the same
            settings.
        table: the true table, for the diagnosis.
        target: a finding, phrase or pair, as in `attention_map`.
        n, seed: of the diagnosis.
    Raises:
        ValueError: the runs differ in more than that.
    """
    _require_alike({"true": true, "again": again, "shuffled": shuffled})
    named = {
        "the first model": true,
        "the second model": again,
        "the model of shuffled labels": shuffled,
    }
    found = {name: illness(run, table, n=n, seed=seed) for name, run in named.items()}
    ills = {name: ill for name, ill in found.items() if ill}
    return LabelTwins(true.model, again.model, shuffled.model, target, ills)


def illness(run, table: pd.DataFrame, *, n: int = 256, seed: int = 0) -> str:
    """Why a run can't be interpreted, in the words of `rw.pretrain.diagnose`; "" when
    it is healthy.

    >>> illness(run, table)
    ''

    Args:
        run: a finished `Run`.
        table: what `diagnose` takes.
        n, seed: of the diagnosis.
    """
    found = diagnose(run, table, n=n, seed=seed)
    sick = found["name"].str.startswith(HEALTH) & (found["verdict"] == "warning")
    reasons = found.loc[sick, "says"].tolist()
    if run.model.findings:
        log = run.log
        loss = log.loc[log["epoch"] == log["epoch"].max(), "loss"].mean()
        guess = _loss_of_frequencies(table, run.model.findings)
        if stuck(loss, guess):
            reasons.insert(
                0,
                f"loss {loss:.2f} in the last epoch, that of the frequencies is {guess:.2f}",
            )
    return "; ".join(reasons)


def _loss_of_frequencies(table, findings):
    """Binary cross-entropy of a model that says each finding's frequency of every
    training film.
    """
    rows = table[table["split"] == "train"] if "split" in table else table
    labels = rows[list(findings)].apply(pd.to_numeric)
    known = labels.where(labels.isin([0, 1]))
    share = known.mean().clip(1e-6, 1 - 1e-6)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    return float((entropy * known.count()).sum() / known.count().sum())


def _require_alike(runs):
    known = {name: run.config["identity"] for name, run in runs.items()}
    for setting in ALIKE:
        values = {name: identity[setting] for name, identity in known.items()}
        if len(set(values.values())) > 1:
            raise ValueError(
                f"expected three runs with the same {setting}, got {values}"
            )
    true, again, shuffled = known.values()
    same_start = (
        again["weights"] == shuffled["weights"] and again["seed"] == shuffled["seed"]
    )
    if not same_start or again["data"] == shuffled["data"]:
        raise ValueError(
            "expected again and shuffled to differ in their labels and in nothing else, got "
            f"seeds {again['seed']} and {shuffled['seed']}, {_same(again, shuffled)} data"
        )
    if true["data"] != again["data"] or true["seed"] == again["seed"]:
        raise ValueError(
            "expected true and again to differ in their seed and in nothing else, got "
            f"seeds {true['seed']} and {again['seed']}, {_same(true, again)} data"
        )


def _same(a, b):
    return "the same" if a["data"] == b["data"] else "different"
