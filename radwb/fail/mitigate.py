"""Every way to mend a shortcut, before and after, and what it costs elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb import data
from radwb.fail.bench import ERROR, MEASURES, WORST, Bench
from radwb.fail.evidence import Evidence, compared
from radwb.fail.mitigations import METHODS, four_groups
from radwb.fail.patches import Head
from radwb.models import Model
from radwb.stats import compare_seeds
from radwb.stats.sentence import Comparison


@dataclass(frozen=True, eq=False)
class MitigationResult:
    """What each method mended, and what it cost.

    Attributes:
        table: a row a method and measure: method, needs (what it has to be told),
            measure, before, after, change, low, high, n, unit, verdict, never_tied
            (heads of a mark that told nothing, the most that can be hoped for),
            control (the change that the method makes to such heads).
        by_seed: trained ("tied", "never tied"), method ("before" among them), seed,
            measure, value; None of a model that wasn't trained.
        comparisons: (method, measure) -> Comparison of after and before.
        learnt: (trained, method, seed) -> Head, of the finding.
        test: the rows of the test images.
    """

    table: pd.DataFrame
    by_seed: pd.DataFrame | None
    comparisons: dict[tuple[str, str], Comparison]
    learnt: dict[tuple[str, str, int], Head]
    test: pd.DataFrame

    def evidence(
        self,
        measures: Sequence[str] = ("tie broken", "no mark"),
        *,
        figure: Any = None,
    ) -> list[Evidence]:
        """A row a method and measure, for the card; a method that harms is a failure.

        Args:
            measures: of `table`.
            figure: of all of it, which the first row gets.
        """
        rows = []
        asked = self.table[self.table["measure"].isin(measures)]
        for _, row in asked.iterrows():
            measure = row["measure"]
            one = compared(
                "mitigation",
                f"{row['method']}, {measure}",
                self.comparisons[row["method"], measure],
                harm="ahead" if measure == ERROR else "behind",
                control=row["control"],
                figure=None if rows else figure,
            )
            rows.append(one)
        return rows


def mitigate(
    table: pd.DataFrame,
    *,
    start: Model,
    finding: str = "Lung Lesion",
    methods: Sequence[str] = tuple(METHODS),
    others: Sequence[str] = ("Pleural Effusion", "Pneumothorax"),
    strength: float = 0.95,
    seeds: int = 5,
    n: int = 800,
    kind: str = "room",
    corner: str = "bottom-right",
    C: float = 100.0,
) -> MitigationResult:
    """Mend heads that learnt a mark, in every way, and count what it costs elsewhere.

    >>> table = rw.curate.split_by_patient(table, fractions=(0.4, 0.3, 0.3))
    >>> about = {"finding": "Pleural Effusion", "methods": ["cutting"], "others": []}
    >>> mended = rw.fail.mitigate(table, start=model, seeds=2, **about)
    >>> mended.table["measure"].tolist()[:4]
    ['tie holds', 'independent', 'tie broken', 'worst group']

    The heads are those of `shortcut`: linear, on all patches of a frozen tower. What is
    learnt, is learnt of train and val; what is measured, of test. Beside each change
    stand heads that were never tied, and what the method does to them. A measure is an
    AUROC, but for the worst group (least accuracy, at logit 0, of with and without
    finding and mark) and the calibration error (in ten bins of equal size, finding and
    no finding counted the same, as in training; less is better). The AUROCs of the
    others and "no mark" are of films without the mark.

    Args:
        table: rows of split "train", "val" and "test"; those with labels 1 and 0 of
            all that is asked for are used.
        start: the Model whose features the heads read.
        finding: label column that the mark is tied to.
        methods: which; reweighting, group DRO and group-balanced sampling need films
            in all four groups of finding and mark, so no strength of 1.
        others: findings that a method could cost: heads for them learn from the same
            films, mended in the same way.
        strength: of the tie in training, as in `confound`.
        seeds: how many trainings, two or more.
        n: training images at most, half of them with the finding if there are enough.
        kind, corner: of the mark, as in `add_marker`.
        C: inverse penalty of a head, as in `fit_head`. With a weak penalty a head fits
            every film, whatever the weights.
    Raises:
        ValueError: an unknown method, one seed, films of one kind only, an empty group,
            or a patient or film in two splits.
    """
    _check(table, methods, seeds)
    bench = Bench.of(table, start, finding, others, methods, n=n, seeds=seeds, C=C)
    if any(METHODS[name].groups for name in methods):
        for seed in range(seeds):  # before anything is computed
            four_groups(bench.groups(seed, strength), finding)
    bench.read({"kind": kind, "corner": corner, "seed": 0})
    ties = {"tied": strength, "never tied": 0.5}
    rows = []
    learnt = {}
    trainings = [(seed, trained) for seed in range(seeds) for trained in ties]
    for seed, trained in tqdm(trainings, "mending", delay=2, leave=False):
        known = bench.known(seed, ties[trained])
        heads = bench.heads(known)
        measured = bench.measured(heads, seed)
        if trained == "tied":
            measured += bench.costs(known)
        about = {"trained": trained, "seed": seed}
        rows += [about | row for row in measured]
        for name, head in heads.items():
            learnt[trained, name, seed] = head
    by_seed = pd.DataFrame(rows)
    comparisons = _compare(by_seed, methods, [*MEASURES, *others])
    changes = _changes(by_seed, comparisons)
    return MitigationResult(changes, by_seed, comparisons, learnt, bench.parts["test"])


def _check(table, methods, seeds):
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods or seeds < 2:
        raise ValueError(
            f"expected some of the methods {', '.join(METHODS)} and 2 seeds or more, "
            f"got {unknown or list(methods)} and {seeds}"
        )
    if "site-balanced sampling" in methods:
        data.check_table(table, needs=("site",))


def _compare(by_seed, methods, measures):
    """(method, measure) -> what it changed in the tied heads, seed by seed."""
    tied = by_seed[by_seed["trained"] == "tied"]
    wide = tied.pivot(index="seed", columns=["measure", "method"], values="value")
    comparisons = {}
    for method in methods:
        for measure in measures:
            comparisons[method, measure] = compare_seeds(
                wide[measure, method],
                wide[measure, "before"],
                names=(f"after {method}", "before"),
                what=said(measure),
                family=len(methods) * len(measures),
            )
    return comparisons


def said(measure: str) -> str:
    """The measure in words, for the sentence of a comparison."""
    if measure == ERROR:
        return measure
    if measure == WORST:
        return "accuracy of the worst group"
    return f"AUROC, {measure}"


def _changes(by_seed, comparisons):
    """The table: a row a method and measure."""
    means = by_seed.groupby(["trained", "method", "measure"])["value"].mean()
    rows = []
    for (method, measure), change in comparisons.items():
        values = means["tied", "before", measure], means["tied", method, measure]
        never = means.get(("never tied", "before", measure), np.nan)
        mended = means.get(("never tied", method, measure), np.nan)
        needs = METHODS[method].needs
        row = change_row(
            method, needs, measure, values, change, never=never, control=mended - never
        )
        rows.append(row)
    return pd.DataFrame(rows)


def change_row(
    method: str,
    needs: str,
    measure: str,
    values: tuple[float, float],
    change: Comparison,
    *,
    never: float = np.nan,
    control: float = np.nan,
) -> dict:
    """A row of `MitigationResult.table`; values are those before and after."""
    before, after = values
    return {
        "method": method,
        "needs": needs,
        "measure": measure,
        "before": before,
        "after": after,
        "change": change.difference,
        "low": change.low,
        "high": change.high,
        "n": change.n,
        "unit": change.unit,
        "verdict": change.verdict,
        "never_tied": never,
        "control": control,
    }
