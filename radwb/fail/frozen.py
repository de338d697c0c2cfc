"""Films as a frozen tower reads them, with a mark on any of them or without."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from radwb import data
from radwb.curate.split import keep_apart
from radwb.fail.marker import add_marker, confound
from radwb.fail.patches import Head, fit_head, patch_features
from radwb.models import Model
from radwb.stats import clustered_auroc


@dataclass(frozen=True, eq=False)
class Part:
    """Some of your films, as a head reads them.

    Attributes:
        images: (N, S, S) uint8, with the mark where they carry it.
        features: (N, D) of them.
        y: (N,) labels 1 and 0.
        patients: (N,) of each.
    """

    images: np.ndarray
    features: np.ndarray
    y: np.ndarray
    patients: np.ndarray

    def auroc(self, answers: np.ndarray, among: np.ndarray | None = None) -> dict:
        """`rw.stats.clustered_auroc` of (N,) answers, or of some of the films."""
        if among is None:
            among = np.ones(len(self.y), bool)
        return clustered_auroc(self.y[among], answers[among], self.patients[among])


class FrozenFilms:
    """Your films as a frozen tower reads them, plain and marked, each kind read once.

    >>> films = FrozenFilms(table, model)
    >>> films.part(films.rows("test"), "Pleural Effusion").features.shape[1]
    12288

    Args:
        table: with `split`; nothing is learnt of rows other than "train".
        start: the Model whose tower is frozen.
    Raises:
        ValueError: a patient on both sides of the split.
    """

    def __init__(self, table: pd.DataFrame, start: Model):
        data.check_table(table, needs=("split",))
        is_train = table["split"] == "train"
        keep_apart(table, is_train.map({True: "train", False: "test"}))
        self.table = table.reset_index(drop=True)
        self.start = start
        self.images = data.images(self.table, start.size, fit=start.fit)
        self._read = cache(self._read)

    def rows(self, part: str) -> np.ndarray:
        """Places in the table of "train", or of all that isn't ("test")."""
        is_train = (self.table["split"] == "train").to_numpy()
        return np.flatnonzero(is_train if part == "train" else ~is_train)

    def _read(self, kind, corner):
        images = self.images
        if kind:
            images = add_marker(images, kind=kind, corner=corner)
        return images, patch_features(self.start, images)

    def part(
        self,
        rows: np.ndarray,
        finding: str,
        marked: np.ndarray | None = None,
        *,
        kind: str = "room",
        corner: str = "bottom-right",
    ) -> Part:
        """Some rows, with a mark on those that are `marked` (one flag a row).

        Raises:
            ValueError: they are of one class.
        """
        y = self.table[finding].to_numpy(dtype=float)[rows]
        if set(y) != {0, 1}:
            raise ValueError(
                f"expected films with and without {finding}, labelled 1 and 0, got "
                f"{len(y)} with {sorted(set(y))}. Try another finding or more films"
            )
        images, features = (values[rows] for values in self._read("", ""))
        if marked is not None and marked.any():
            stamped = self._read(kind, corner)
            images[marked] = stamped[0][rows[marked]]
            features[marked] = stamped[1][rows[marked]]
        patients = self.table["patient_id"].to_numpy()[rows]
        return Part(images, features, y.astype(int), patients)

    def learn(self, part: Part, C: float = 100.0) -> Head:
        """A head on all patches, as `fit_head` makes it."""
        return fit_head(self.start, part.features, part.y, C=C)

    def tied(
        self,
        rows: np.ndarray,
        finding: str,
        strength: float | None,
        *,
        seed: int = 0,
        kind: str = "room",
        corner: str = "bottom-right",
    ) -> Part:
        """Some rows with a mark that is tied to a finding, as `confound` ties it.

        A strength of None leaves the mark off.
        """
        marked = None
        if strength is not None:
            y = self.table[finding].to_numpy()[rows]
            marked = confound(y, strength, seed=seed)
        return self.part(rows, finding, marked, kind=kind, corner=corner)
