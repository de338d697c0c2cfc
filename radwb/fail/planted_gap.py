"""Three reasons why a group is served worse, planted one at a time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm.auto import tqdm

from radwb import data
from radwb.curate.split import keep_apart
from radwb.fail.fairness import (
    film_measures,
    gaps_to_others,
    operating_points,
)
from radwb.fail.patches import fit_head, patch_features
from radwb.models import Model
from radwb.probe import Scores
from radwb.stats import auroc, compare_seeds

CAUSES = (
    "nothing",
    "noise",
    "missed labels",
    "missed labels, judged by the truth",
    "small share",
)
SHARES = ("sensitivity", "specificity", "Brier score", "overstated")
METRICS = ("AUROC", *SHARES)


@dataclass(frozen=True, eq=False)
class PlantedGap:
    """What each cause did to the gap between a group and the others.

    Attributes:
        table: cause, seed, metric, inside, others (the metric's values), gap (inside
            less others), verdict (of the gap by patient, all metrics one family).
        judged: (cause, seed) -> Scores of the test films.
    """

    table: pd.DataFrame
    judged: dict[tuple[str, int], Scores]

    def moved(self) -> pd.DataFrame:
        """How far each cause moved each gap beyond where it lay with nothing planted.

        Returns:
            cause, metric, then the columns of `Comparison.row`; paired by seed, all of
            them one family.
        """
        gaps = self.table.pivot(index=["metric", "seed"], columns="cause", values="gap")
        causes = [cause for cause in CAUSES if cause in gaps and cause != "nothing"]
        rows = []
        for cause in causes:
            for metric in METRICS:
                pair = gaps.loc[metric]
                moved = compare_seeds(
                    pair[cause],
                    pair["nothing"],
                    names=(cause, "nothing"),
                    what=f"gap in {metric}",
                    family=len(causes) * len(METRICS),
                )
                rows.append({"cause": cause, "metric": metric, **moved.row()})
        return pd.DataFrame(rows)


def planted_gap(
    table: pd.DataFrame,
    *,
    start: Model,
    finding: str = "Lung Lesion",
    column: str = "sex",
    group: str = "F",
    noise: float = 40.0,
    missed: float = 0.5,
    share: float = 0.05,
    seeds: int = 5,
    n: int = 800,
    specificity: float = 0.9,
) -> PlantedGap:
    """Why is a group served worse? Its films, its labels, its share, one at a time.

    >>> thirds = rw.curate.split_by_patient(table, fractions=(0.4, 0.3, 0.3))
    >>> result = planted_gap(thirds, start=model, finding="Pleural Effusion", seeds=2)
    >>> result.table["cause"].unique()[:3].tolist()
    ['nothing', 'noise', 'missed labels']

    For each cause and seed a linear head learns on the frozen embedding. *Noise*: the
    group's films are noisier, in training and in the test. *Missed labels*: a share of
    the group's cases has no label, in training, where the threshold is set, and in the
    test; the same heads are judged by the truth, too, which an audit of an archive
    doesn't have. *Small share*: of the group's training films few are left.

    Args:
        table: rows of split "train", "val" (the threshold is set there) and "test".
        start: the Model whose embedding is read.
        finding: label column.
        column, group: whose films, labels or share are made worse.
        noise: standard deviation, of 256 grey levels.
        missed: chance that a case of the group has no label.
        share: of the group's training films that are left.
        seeds: trainings a cause; each draws its own films, labels and noise.
        n: training films.
        specificity: that the one threshold of all has on "val".
    Raises:
        ValueError: the group isn't in each split, or a patient is in two.
    """
    table = _ready(table, finding, column, group)
    images = data.images(table, start.size, fit=start.fit)
    inside = (table[column].astype(str) == group).to_numpy()
    plain = patch_features(start, images, whole=True)
    noisy = plain.copy()
    noisy[inside] = patch_features(start, _noisier(images[inside], noise), whole=True)
    rows = []
    judged = {}
    for seed in tqdm(range(seeds), "seeds", delay=2, leave=False):
        rng = np.random.default_rng(seed)
        y = table[finding].to_numpy(int)
        labels = np.where(inside & (rng.random(len(y)) < missed), 0, y)
        drawn = rng.permutation(np.flatnonzero(table["split"] == "train"))[:n]
        few = drawn[~inside[drawn] | (rng.random(len(drawn)) < share)]
        setups = (
            (plain, y, y, drawn),
            (noisy, y, y, drawn),
            (plain, labels, labels, drawn),
            (plain, labels, y, drawn),
            (plain, y, y, few),
        )
        for cause, setup in zip(CAUSES, setups, strict=True):
            scores, points = _judged(start, table, finding, specificity, *setup)
            test = inside[(table["split"] == "test").to_numpy()]
            judged[cause, seed] = scores
            for row in _gap_rows(scores, points, test):
                rows.append({"cause": cause, "seed": seed, **row})
    return PlantedGap(pd.DataFrame(rows), judged)


def _ready(table, finding, column, group):
    """The labelled rows, once each split has the group and others."""
    table = table[table[finding].isin((0, 1))].reset_index(drop=True)
    keep_apart(table, table["split"])
    for split in ("train", "val", "test"):
        names = table.loc[table["split"] == split, column].astype(str)
        ours = int((names == group).sum())
        if not 0 < ours < len(names):
            raise ValueError(
                f"expected {column} {group} and others in split {split}, "
                f"got {ours} of {len(names)} films. Try another group"
            )
    return table


def _noisier(images, sd):
    """The same films with white noise; seeded, so that a film keeps its noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, sd, images.shape)
    return np.uint8(np.clip(images + noise, 0, 255))


def _judged(start, table, finding, specificity, Z, labels, judged_by, rows):
    """Probabilities of the test films, and the threshold that "val" sets."""
    head = fit_head(start, Z[rows], labels[rows], whole=True)
    stated = expit(head.of(Z))
    parts = {}
    for split, truth in (("val", labels), ("test", judged_by)):
        chosen = (table["split"] == split).to_numpy()
        y = pd.DataFrame({finding: truth[chosen]})
        s = pd.DataFrame({finding: stated[chosen]})
        parts[split] = Scores(s, y, table["patient_id"][chosen])
    return parts["test"], operating_points(parts["val"], specificity=specificity)


def _gap_rows(scores, points, inside):
    """A row a metric: its value in the group, in the others, and the gap's verdict."""
    (finding,) = scores.values
    films = film_measures(scores, finding, points)[list(SHARES)]
    sides = pd.Series(np.where(inside, "group", "other"))
    gaps = gaps_to_others(scores, films, sides, "group", len(METRICS))
    y, s = scores.truth[finding], scores.values[finding]
    for metric, gap in gaps.items():
        row = {"metric": metric, "gap": gap.difference, "verdict": gap.verdict}
        for name, side in (("inside", inside), ("others", ~inside)):
            of_auroc = metric == "AUROC"
            row[name] = (
                auroc(y[side], s[side]) if of_auroc else films[metric][side].mean()
            )
        yield row
