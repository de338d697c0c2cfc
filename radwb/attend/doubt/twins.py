"""Three trainings that tell whether a map hangs on the labels.

Two learned from the true ones, one from labels dealt anew.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from radwb.pretrain import Run
from radwb.pretrain.diagnose import LOSSES, SPREAD, diagnose, stuck

# what a training on wrong labels must pass, too; that it generalises it need not
HEALTH = (LOSSES[0], *SPREAD)
# what all three have in common
ALIKE = ("recipe", "epochs", "batch", "lr", "precision", "start")


@dataclass(frozen=True, eq=False)
class LabelTwins:
    """Two models of the true labels and one, the second's twin, of shuffled ones.

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
    true: Run,
    again: Run,
    shuffled: Run,
    table: pd.DataFrame,
    *,
    target: str | tuple | None = None,
    n: int = 256,
    seed: int = 0,
) -> LabelTwins:
    """Three runs of your own that a map's `sanity_check` compares, checked and healthy.

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
    Returns:
        the three models, for `sanity_check(..., twins=)`.
    Raises:
        ValueError: the runs differ in more than that.
    """
    _require_alike(true, again, shuffled)
    named = {
        "the first model": true,
        "the second model": again,
        "the model of shuffled labels": shuffled,
    }
    ills = {name: illness(run, table, n=n, seed=seed) for name, run in named.items()}
    ills = {name: why for name, why in ills.items() if why}
    return LabelTwins(true.model, again.model, shuffled.model, target, ills)


def illness(run: Run, table: pd.DataFrame, *, n: int = 256, seed: int = 0) -> str:
    """Why a run can't be interpreted, in the diagnosis' words; "" if it is healthy.

    >>> isinstance(illness(run, table), str)
    True

    Args:
        run: a finished `Run`.
        table: what `rw.pretrain.diagnose` takes.
        n, seed: of the diagnosis.
    """
    checks = diagnose(run, table, n=n, seed=seed)
    sick = checks["name"].str.startswith(HEALTH) & (checks["verdict"] == "warning")
    reasons = checks.loc[sick, "says"].tolist()
    if run.model.findings:
        last = run.log[run.log["epoch"] == run.log["epoch"].max()]
        loss = last["loss"].mean()
        guess = _loss_of_frequencies(table, run.model.findings)
        if stuck(loss, guess):
            stays = f"loss {loss:.2f} in the last epoch"
            reasons.insert(0, f"{stays}, that of the frequencies is {guess:.2f}")
    return "; ".join(reasons)


def _loss_of_frequencies(table, findings):
    """Binary cross-entropy of a model that says each finding's frequency of all films.

    Those of training are meant.
    """
    rows = table[table["split"] == "train"] if "split" in table else table
    labels = rows[list(findings)].apply(pd.to_numeric)
    certain = labels.where(labels.isin([0, 1]))
    share = certain.mean().clip(1e-6, 1 - 1e-6)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    return float((entropy * certain.count()).sum() / certain.count().sum())


def _require_alike(*runs):
    names = ("true", "again", "shuffled")
    true, again, shuffled = (run.config["identity"] for run in runs)
    for setting in ALIKE:
        settings = (true[setting], again[setting], shuffled[setting])
        if len(set(settings)) > 1:
            values = dict(zip(names, settings, strict=True))
            raise ValueError(
                f"expected three runs with the same {setting}, got {values}"
            )
    same_weights = again["weights"] == shuffled["weights"]
    same_start = same_weights and again["seed"] == shuffled["seed"]
    if not same_start or again["data"] == shuffled["data"]:
        raise ValueError(
            "expected again and shuffled to differ in their labels and in nothing "
            f"else, got {_difference(again, shuffled)}"
        )
    if true["data"] != again["data"] or true["seed"] == again["seed"]:
        raise ValueError(
            "expected true and again to differ in their seed and in nothing else, got "
            f"{_difference(true, again)}"
        )


def _difference(a, b):
    same = "the same" if a["data"] == b["data"] else "different"
    return f"seeds {a['seed']} and {b['seed']}, {same} data"
