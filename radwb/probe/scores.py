"""The Scores every probe returns: AUROCs with intervals by patient, and their controls."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.identifiers import doubtful, identifiers, numbered
from radwb.stats import (
    auroc,
    clustered_auroc,
    bootstrap,
    compare_auroc,
)
from radwb.stats.clustered import mean_clustered_auroc
from radwb.stats.sentence import Comparison

__all__ = ["Scores"]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a probe says of each image, beside the truth.

    Attributes:
        values: (N, K) one column a finding, higher = more likely.
        truth: (N, K) the same columns: 1, 0, -1 uncertain, NaN not mentioned.
        patient_id: (N,) the unit that intervals resample, as text in one spelling; None
            where it isn't known, and then there is no interval.
    """

    values: pd.DataFrame
    truth: pd.DataFrame
    patient_id: np.ndarray

    def __post_init__(self):
        if list(self.values.columns) != list(self.truth.columns):
            raise ValueError(
                f"expected truth for {list(self.values.columns)}, got {list(self.truth.columns)}"
            )
        if not len(self.values) == len(self.truth) == len(self.patient_id):
            lengths = len(self.values), len(self.truth), len(self.patient_id)
            raise ValueError(
                f"expected as many truths and patients as values, got {lengths}"
            )
        object.__setattr__(self, "patient_id", identifiers(self.patient_id))

    @classmethod
    def of(cls, values, table, findings) -> "Scores":
        """Pair an (N, K) array with the rows of `table` it was computed from.

        Where the table has no label column the truth is NaN; where it has no patient_id
        the patient is None.
        """
        findings = list(findings)
        truth = (
            table.reindex(columns=findings)
            .apply(pd.to_numeric)
            .astype(float)
            .reset_index(drop=True)
        )
        known = (
            table["patient_id"]
            if "patient_id" in table.columns
            else [None] * len(table)
        )
        if doubt := doubtful(known):
            warnings.warn(doubt, stacklevel=3)
        return cls(pd.DataFrame(np.asarray(values), columns=findings), truth, known)

    def resamples(self, *, n_boot=1000, seed=0) -> pd.DataFrame:
        """(n_boot, K) AUROCs; a row is one draw of the patients, the same for every
        finding.
        """
        columns = {}
        for finding in self.values:
            pair = self.truth[finding], self.values[finding]
            columns[finding] = bootstrap(
                *pair, self.patient_id, n_boot=n_boot, seed=seed
            )
        return pd.DataFrame(columns)

    def auroc(self, *, n_boot=None) -> pd.DataFrame:
        """One row a finding: AUROC with its 95 % interval by patient
        (`rw.stats.clustered_auroc`).

        >>> scores.auroc()[["finding", "auroc", "low", "high", "positive_patients", "note"]]

        Args:
            n_boot: does nothing, for the interval needs no resamples; taken so that
                older scripts run.
        Returns:
            finding, auroc, low, high, n and positives (labelled images),
            positive_patients (with a case), patients (labelled), dropped (images
            uncertain or not mentioned), note (why a number is missing, else "").
        """
        rows = []
        for finding in self.values:
            row = clustered_auroc(
                self.truth[finding], self.values[finding], self.patient_id
            )
            rows.append({"finding": finding, **row})
        return pd.DataFrame(rows)

    def mean_auroc(self, *, n_boot=None) -> pd.DataFrame:
        """The mean over findings in one row (`rw.stats.mean_clustered_auroc`); note
        names what is left out, and why.

        >>> rw.stats.format_interval(scores.mean_auroc().iloc[0])
        '0.84 (0.80 to 0.88; without Edema (cases in 4 patients))'

        Args:
            n_boot: does nothing, as in `auroc`.
        """
        row = mean_clustered_auroc(self.truth, self.values, self.patient_id)
        findings = row.pop("findings")
        return pd.DataFrame([{"finding": f"mean of {findings}", **row}])

    def against(self, other, names, *, finding=None, family=1) -> Comparison:
        """What these scores say better or worse than others of the same images
        (`rw.stats.compare_auroc`).

        >>> print(twin.against(scores, ("the twin", "zero-shot")))

        Args:
            other: Scores of the same rows, in the same order.
            names: of these and of the others, for the sentence.
            finding: one finding; None compares the means over findings.
            family: number of comparisons made.
        Raises:
            ValueError: the others have other findings, truth or patients.
        """
        same = self.truth.equals(other.truth) and list(self.patient_id) == list(
            other.patient_id
        )
        if not same:
            raise ValueError(
                f"expected scores of the same {len(self.truth)} images and findings {list(self.truth)}, "
                f"got others of {len(other.truth)} images and {list(other.truth)}"
            )
        findings = list(self.truth) if finding is None else [finding]
        y, a, b = (frame[findings] for frame in (self.truth, self.values, other.values))
        several = len(findings) > 1
        what = (
            f"mean AUROC of {len(findings)}" if several else f"AUROC for {findings[0]}"
        )
        return compare_auroc(
            y, a, b, self.patient_id, names=names, what=what, family=family
        )

    def null(self, n=20, *, seed=0) -> pd.DataFrame:
        """What labels dealt out to other patients would have given: `n` draws of
        `shuffled`, and their range.

        >>> rw.stats.format_interval(scores.null().iloc[-1])
        '0.50 (0.47 to 0.54; range of 20 shuffles)'

        Args:
            n: draws.
            seed: of the first; draw i has seed + i.
        Returns:
            one row a finding and one for their mean: finding, auroc (mean of the
            draws), low, high (the least and the greatest), draws, note.
        """
        drawn = []
        for draw in range(n):
            truth = self.shuffled(seed + draw).truth
            drawn.append(
                {
                    finding: auroc(truth[finding], self.values[finding])
                    for finding in self.values
                }
            )
        drawn = pd.DataFrame(drawn)  # (n, K)
        drawn[f"mean of {len(drawn.columns)}"] = drawn.mean(axis=1)
        table = pd.DataFrame(
            {"auroc": drawn.mean(), "low": drawn.min(), "high": drawn.max(), "draws": n}
        )
        return (
            table.assign(note=f"range of {n} shuffles")
            .rename_axis("finding")
            .reset_index()
        )

    def shuffled(self, seed=0) -> "Scores":
        """The control: the same scores against labels dealt out to other patients, in
        whole blocks.
        """
        row, named = numbered(self.patient_id)
        alone = row < 0  # nobody knows whose block it is in: a block of its own
        row[alone] = named + np.arange(alone.sum())
        dealt = np.random.default_rng(seed).permutation(named + int(alone.sum()))
        truth = self.truth.copy()
        # a block goes to another patient's rows; where sizes differ it spills into the
        # next patient's
        truth.iloc[np.argsort(row, kind="stable")] = self.truth.iloc[
            np.argsort(dealt[row], kind="stable")
        ].to_numpy()
        return Scores(self.values, truth, self.patient_id)
