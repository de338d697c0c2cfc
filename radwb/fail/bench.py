"""A bench for ways to mend: who learns from which films, and who is asked of which."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from radwb import data
from radwb.curate.split import keep_apart
from radwb.fail.marker import add_marker, confound
from radwb.fail.mitigations import METHODS, Known, groups_of, paint_out
from radwb.fail.patches import Head, patch_features
from radwb.fail.shortcut import ARMS, _balanced
from radwb.models import Model
from radwb.stats import auroc

PARTS = ("train", "val", "test")
WORST = "worst group"
ERROR = "calibration error"
UNMARKED = "no mark"
MEASURES = (*ARMS, WORST, UNMARKED, ERROR)


@dataclass(eq=False)
class Bench:
    """The films of an experiment, and what your model's tower says of them.

    Attributes:
        start, finding, others, methods, C: as `mitigate` has them.
        parts: part -> its rows; of train those that some seed learns from.
        rows: (seed) -> which of the training rows are learnt from.
        features: part -> kind ("plain", "pasted", "painted") -> (N, D), once read.
    """

    start: Model
    finding: str
    others: tuple[str, ...]
    methods: tuple[str, ...]
    C: float
    parts: dict[str, pd.DataFrame]
    rows: list[np.ndarray]
    features: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, table, start, finding, others, methods, *, n, seeds, C) -> "Bench":
        """Draw what each seed learns from, of the training patients."""
        parts = labelled_parts(table, [finding, *others])
        y = parts["train"][finding].to_numpy(int)
        chosen = [_balanced(y, n, seed) for seed in range(seeds)]
        pool = np.unique(np.concatenate(chosen))
        parts["train"] = parts["train"].iloc[pool]
        rows = [np.searchsorted(pool, some) for some in chosen]
        return cls(start, finding, tuple(others), tuple(methods), C, parts, rows)

    def read(self, marker: dict, *, whole: bool = False) -> None:
        """Compute the features, of the films without and with the mark, and painted."""
        for part, films in self.parts.items():
            images = data.images(films, self.start.size, fit=self.start.fit)
            squares = {"plain": images, "pasted": add_marker(images, **marker)}
            if "masking" in self.methods and part != "val":
                squares["painted"] = paint_out(images, marker)
            self.features[part] = {}
            for kind, some in squares.items():
                read = patch_features(self.start, some, whole=whole)
                self.features[part][kind] = read

    def groups(self, seed: int, tie: float) -> np.ndarray:
        """(n,) which of the four groups each training film of a seed falls into."""
        y = self.labels("train")[self.rows[seed]]
        return groups_of(y, confound(y, tie, seed=seed))

    def labels(self, part: str, finding: str | None = None) -> np.ndarray:
        return self.parts[part][finding or self.finding].to_numpy(int)

    def known(self, seed: int, tie: float) -> Known:
        """What a method may learn from at a seed and a strength of the tie."""
        rows = self.rows[seed]
        groups = self.groups(seed, tie)
        marked = groups % 2 == 1
        train = self.features["train"]
        plain = train["plain"][rows]
        pasted = train["pasted"][rows]
        painted = train["painted"][rows] if "painted" in train else None
        sites = self.parts["train"].get("site")
        val_y = self.labels("val")
        dealt = confound(val_y, 0.5, seed=100 + seed)
        return Known(
            start=self.start,
            finding=self.finding,
            seen=np.where(marked[:, None], pasted, plain),
            pasted=pasted,
            painted=painted,
            y=groups // 2,
            groups=groups,
            sites=None if sites is None else sites.to_numpy()[rows],
            val_plain=self.features["val"]["plain"],
            val_pasted=self.features["val"]["pasted"],
            val_y=val_y,
            val_groups=groups_of(val_y, dealt),
            C=self.C,
            seed=seed,
        )

    def heads(self, known: Known) -> dict[str, Head]:
        """The head before, and after each method."""
        mended = {name: METHODS[name].learn(known) for name in self.methods}
        return {"before": known.untouched, **mended}

    def answers(self, name: str, head: Head) -> tuple[np.ndarray, np.ndarray]:
        """(N,) logits of the test films, without and with the mark."""
        test = self.features["test"]
        if name == "masking":  # there, both are painted over, and come out alike
            painted = head.of(test["painted"])
            return painted, painted
        return head.of(test["plain"]), head.of(test["pasted"])

    def measured(self, heads: dict[str, Head], seed: int) -> list[dict]:
        """Rows of method, measure and value, on test patients alone."""
        y = self.labels("test")
        rows = []
        for name, head in heads.items():
            off, on = self.answers(name, head)
            for measure, value in measures(y, off, on, seed).items():
                rows.append({"method": name, "measure": measure, "value": value})
        return rows

    def costs(self, known: Known) -> list[dict]:
        """The same films and methods, and heads for the other findings.

        What weighs a film, or picks it, is still the finding that was tied.
        """
        rows = []
        for other in self.others:
            y = self.labels("train", other)[self.rows[known.seed]]
            asked = replace(known, y=y, val_y=self.labels("val", other))
            truth = self.labels("test", other)
            for name, head in self.heads(asked).items():
                off, _ = self.answers(name, head)
                value = auroc(truth, off)
                rows.append({"method": name, "measure": other, "value": value})
        return rows


def labelled_parts(table: pd.DataFrame, labels: Sequence[str]) -> dict:
    """Rows of train, val and test with a label 1 or 0 of each finding.

    Raises:
        ValueError: films of one kind only in a part, or a patient or film in two.
    """
    data.check_table(table, needs=("split", *labels))
    used = table[table["split"].isin(PARTS)]
    keep_apart(used, used["split"])
    numbers = used[list(labels)].apply(pd.to_numeric)
    known = numbers.isin([0, 1]).all(axis=1)
    used = used.assign(**numbers)[known]
    parts = {}
    for part in PARTS:
        films = used[used["split"] == part]
        for finding in labels:
            if films[finding].nunique() < 2:
                raise ValueError(
                    f"expected {part} images with and without {finding}, "
                    f"got {len(films)} of one kind"
                )
        parts[part] = films.reset_index(drop=True)
    return parts


def measures(y: np.ndarray, off: np.ndarray, on: np.ndarray, seed: int) -> dict:
    """Measure -> value, of the logits of test films without and with the mark."""
    values = {}
    for arm, strength in ARMS.items():
        marked = confound(y, strength, seed=seed + 1)  # as `marker_auroc` deals it
        values[arm] = auroc(y, np.where(marked, on, off))
    right = [(logits > 0) == (y == 1) for logits in (off, on)]
    kinds = (y == 0, y == 1)
    values[WORST] = min(hits[kind].mean() for hits in right for kind in kinds)
    values[UNMARKED] = auroc(y, off)
    marked = confound(y, 0.5, seed=seed + 1)
    values[ERROR] = calibration_error(y, np.where(marked, on, off))
    return values


def calibration_error(y: np.ndarray, logits: np.ndarray, bins: int = 10) -> float:
    """How far a stated probability lies from the share that is so, over all bins.

    Films with and without the finding count the same, as in training; the bins hold
    the same number of films.
    """
    stated = expit(logits)
    weights = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())  # sum 1
    error = 0.0
    for rows in np.array_split(np.argsort(stated), bins):
        gaps = stated[rows] - y[rows]
        error += abs((weights[rows] * gaps).sum())
    return float(error)
