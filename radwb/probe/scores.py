"""The Scores that every probe returns: AUROCs by patient, and their controls."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.identifiers import identifiers, numbered, spelling_doubt
from radwb.stats import (
    auroc,
    bootstrap,
    clustered_auroc,
    compare_auroc,
    resample_patients,
)
from radwb.stats.clustered import mean_clustered_auroc
from radwb.stats.sentence import Comparison

__all__ = ["Scores", "resample_patients"]


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
                f"expected truth for {list(self.values.columns)}, "
                f"got {list(self.truth.columns)}"
            )
        lengths = len(self.values), len(self.truth), len(self.patient_id)
        if len(set(lengths)) > 1:
            raise ValueError(
                f"expected as many truths and patients as values, got {lengths}"
            )
        object.__setattr__(self, "patient_id", identifiers(self.patient_id))

    @classmethod
    def of(
        cls, values: np.ndarray, table: pd.DataFrame, findings: Iterable[str]
    ) -> "Scores":
        """Pair an (N, K) array with the rows of `table` it was computed from.

        Where the table has no label column the truth is NaN; where it has no patient_id
        the patient is None.
        """
        findings = list(findings)
        values = pd.DataFrame(np.asarray(values), columns=findings)
        labels = table.reindex(columns=findings).apply(pd.to_numeric)
        patients = [None] * len(table)
        if "patient_id" in table.columns:
            patients = table["patient_id"]
        doubt = spelling_doubt(patients)
        if doubt:
            warnings.warn(doubt, stacklevel=3)
        return cls(values, labels.astype(float).reset_index(drop=True), patients)

    def resamples(self, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
        """(n_boot, K) AUROCs of resampled patients, the same for every finding."""
        columns = {}
        for finding in self.values:
            pair = self.truth[finding], self.values[finding]
            columns[finding] = bootstrap(
                *pair, self.patient_id, n_boot=n_boot, seed=seed
            )
        return pd.DataFrame(columns)

    def auroc(self, *, n_boot: int | None = None) -> pd.DataFrame:
        """One row a finding: AUROC with its 95 % interval by patient.

        >>> scores.auroc()[["finding", "auroc", "low", "high", "note"]]

        Args:
            n_boot: does nothing, for the interval needs no resamples; taken so that
                older scripts run.
        Returns:
            finding, auroc, low, high, n and positives (labelled images),
            positive_patients (with a case), patients (labelled), dropped (images
            uncertain or not mentioned), note (why a number is missing, else "");
            `rw.stats.clustered_auroc` says how.
        """
        rows = []
        for finding in self.values:
            pair = self.truth[finding], self.values[finding]
            row = clustered_auroc(*pair, self.patient_id)
            rows.append({"finding": finding, **row})
        return pd.DataFrame(rows)

    def mean_auroc(self, *, n_boot: int | None = None) -> pd.DataFrame:
        """The mean over findings in one row; note names what is left out, and why.

        >>> rw.stats.format_interval(scores.mean_auroc().iloc[0])
        '0.96 (0.83 to 0.99)'

        Args:
            n_boot: does nothing, as in `auroc`.
        Returns:
            finding ("mean of K") and the columns of `auroc`.
        """
        row = mean_clustered_auroc(self.truth, self.values, self.patient_id)
        findings = row.pop("findings")
        return pd.DataFrame([{"finding": f"mean of {findings}", **row}])

    def against(
        self,
        other: "Scores",
        names: tuple[str, str],
        *,
        finding: str | None = None,
        family: int = 1,
    ) -> Comparison:
        """Whether these scores are ahead of others of the same images.

        >>> grey = rw.probe.brightness(table, list(scores.values))
        >>> print(scores.against(grey, ("words", "grey values")))
        words is ahead of grey values by ... (... patients)

        Args:
            other: Scores of the same rows, in the same order.
            names: of these and of the others, for the sentence.
            finding: one finding; None compares the means over findings.
            family: number of comparisons made.
        Raises:
            ValueError: the others have other findings, truth or patients.
        """
        same_patients = list(self.patient_id) == list(other.patient_id)
        if not same_patients or not self.truth.equals(other.truth):
            raise ValueError(
                f"expected scores of the same {len(self.truth)} images "
                f"and findings {list(self.truth)}, "
                f"got others of {len(other.truth)} images and {list(other.truth)}"
            )
        findings = list(self.truth) if finding is None else [finding]
        what = f"mean AUROC of {len(findings)}"
        if len(findings) == 1:
            what = f"AUROC for {findings[0]}"
        return compare_auroc(
            self.truth[findings],
            self.values[findings],
            other.values[findings],
            self.patient_id,
            names=names,
            what=what,
            family=family,
        )

    def null(self, n: int = 20, *, seed: int = 0) -> pd.DataFrame:
        """What labels of other patients would have given: `n` shuffles and their range.

        >>> mean = scores.null().iloc[-1]
        >>> round(float(mean["auroc"]), 1), mean["note"]
        (0.5, 'range of 20 shuffles')

        Args:
            n: draws of `shuffled`.
            seed: of the first; draw i has seed + i.
        Returns:
            one row a finding and one for their mean: finding, auroc (mean of the
            draws), low, high (the least and the greatest), draws, note.
        """
        draws = []
        for draw in range(n):
            truth = self.shuffled(seed + draw).truth
            row = {}
            for finding in truth:
                row[finding] = auroc(truth[finding], self.values[finding])
            draws.append(row)
        drawn = pd.DataFrame(draws)  # (n, K)
        drawn[f"mean of {len(drawn.columns)}"] = drawn.mean(axis=1)
        ends = {"auroc": drawn.mean(), "low": drawn.min(), "high": drawn.max()}
        table = pd.DataFrame(ends).assign(draws=n, note=f"range of {n} shuffles")
        return table.rename_axis("finding").reset_index()

    def shuffled(self, seed: int = 0) -> "Scores":
        """The control: the same scores against labels of other patients, in blocks.

        A block, all labels of a patient, goes to another patient's rows; where sizes
        differ it spills into the next patient's.
        """
        block, named = numbered(self.patient_id)
        alone = block < 0  # nobody knows whose block it is in: a block by itself
        block[alone] = named + np.arange(alone.sum())
        blocks = named + int(alone.sum())
        order = np.random.default_rng(seed).permutation(blocks)
        to = np.argsort(block, kind="stable")
        source = np.argsort(order[block], kind="stable")
        truth = self.truth.copy()
        truth.iloc[to] = self.truth.iloc[source].to_numpy()
        return Scores(self.values, truth, self.patient_id)
