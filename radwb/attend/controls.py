"""What a map must beat: maps that know nothing, on the same films, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import pandas as pd

from radwb import data, stats
from radwb.attend.blind import brightness_map, centre_map, edge_map, random_map
from radwb.attend.map import Map, values_of
from radwb.attend.progress import steps
from radwb.attend.readers import score_each_zone
from radwb.attend.score import (
    SHARES,
    mean_by_patient,
    next_of_another,
    outlined,
    score_each,
)
from radwb.identifiers import identifiers

ANOTHER = "another patient's"  # the control that each method brings itself
# a verdict -> in a sentence
VERDICTS = {
    "ahead": "ahead of",
    "behind": "behind",
    "can't tell": "can't tell from",
}


def control_maps(
    scans: list[data.Scan],
    *,
    organs: list[np.ndarray] | None = None,
    training_mask: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, list[np.ndarray]]:
    """Maps that a method's maps must beat before their score means anything.

    >>> usual_place = mean_mask(table, "Pneumothorax")
    >>> list(control_maps(scans, training_mask=usual_place))
    ['random', 'centre', 'edges', 'brightness', 'darkness', 'training mask']

    Random is smooth noise, centre a blob in the middle, edges the film's own contours,
    brightness the film itself and darkness its negative, all as smooth as a map of ten
    patches a side. Another patient's map is a control of each method of its own:
    `compare_maps` adds it.

    Args:
        scans: list of Scan.
        organs: (H, W) masks, one a scan, of where the organ lies: the lungs, or for a
            large heart the heart.
        training_mask: (h, w) where the finding usually is, as `mean_mask` gives it;
            laid over each film.
        seed: of the noise.
    Returns:
        name -> (H, W) float32 maps, one a scan.
    """
    controls = {
        "random": [random_map(scan.shape, seed + i) for i, scan in enumerate(scans)],
        "centre": [centre_map(scan.shape) for scan in scans],
        "edges": [edge_map(scan) for scan in scans],
        "brightness": [brightness_map(scan) for scan in scans],
    }
    controls["darkness"] = [film.max() - film for film in controls["brightness"]]
    laid_over = {}
    if organs is not None:
        laid_over["organ"] = organs
    if training_mask is not None:
        laid_over["training mask"] = [training_mask] * len(scans)
    for name, masks in laid_over.items():
        pairs = zip(masks, scans, strict=True)
        controls[name] = [_laid_over(mask, scan.shape) for mask, scan in pairs]
    return controls


def mean_mask(table: pd.DataFrame, finding: str, *, size: int = 64) -> np.ndarray:
    """Where a finding was in the training films: a map of position alone.

    It is blind to the film that it is laid over.

    >>> mean_mask(table, "Pleural Effusion").shape
    (64, 64)

    Args:
        table: its rows with split "train" and the finding are read; a film that hides
            it has no outline and no say.
        finding: name of its column and of its mask.
        size: rows and columns; films of any shape are stretched to it.
    Returns:
        (size, size) float32, 0 to 1: the share of training films whose outline covers
        the place.
    Raises:
        ValueError: no training film shows the finding.
    """
    rows = table[(table["split"] == "train") & (table[finding] == 1)]
    masks = []
    for _, row in steps(list(rows.iterrows()), "reading outlines"):
        mask = data.scan_of(row).truth.get(finding)
        if mask is not None and mask.any():
            masks.append(data.to_input(mask.astype(np.float32), size, fit="squash"))
    if not masks:
        raise ValueError(
            f"expected training films that show {finding}, got {len(rows)} rows "
            "without an outline. Try a table with split 'train' and truth masks."
        )
    return np.mean(masks, axis=0, dtype=np.float64).astype(np.float32)


def _other_patient_maps(maps, groups):
    """For each film the map of the next film of another patient.

    It knows the finding and not this film.

    Raises:
        ValueError: all films are one patient's, or one is nobody's.
    """
    groups = identifiers(groups).tolist()
    if None in groups:
        raise ValueError(
            f"expected the patient of each film, got {groups.count(None)} of "
            f"{len(groups)} without. Try groups=range(len(maps)) if no patient has two "
            "films"
        )
    if len(set(groups)) < 2:
        raise ValueError(
            f"expected films of at least two patients, got {len(set(groups))}"
        )
    others = []
    for i, map in enumerate(maps):
        other = maps[next_of_another(groups, i)]
        others.append(_laid_over(other, values_of(map).shape))
    return others


@dataclass(frozen=True, eq=False)
class Compared:
    """Methods beside their controls on the same films.

    >>> fair = np.random.default_rng(0).random((40, 2)).round()
    >>> points = pd.DataFrame(fair, columns=["relevance", "random"])
    >>> scored = Compared.of(points, range(40), methods=["relevance"], what="hit")
    >>> print(scored.says("relevance"))
    relevance has 0...: can't tell from random (hit; 40 films of 40 patients; of 1
    comparisons).

    Attributes:
        what: the score that was compared.
        points: (films, maps), what the means are made of.
        groups: the patient of each film.
        table: index map; columns mean, low, high, n (films), patients.
        comparisons: method -> control -> `rw.stats.comparison.Comparison`, paired by
            patient, at the level that the whole family of them asks for.
        hidden: films left out because their mask is empty: the finding is there and
            can't be seen.
    """

    what: str
    points: pd.DataFrame
    groups: np.ndarray
    table: pd.DataFrame
    comparisons: dict[str, dict[str, stats.comparison.Comparison]]
    hidden: int = 0

    @classmethod
    def of(
        cls,
        points: pd.DataFrame,
        groups: Sequence,
        *,
        methods: list[str],
        what: str,
        family: int | None = None,
        hidden: int = 0,
        seed: int = 0,
    ) -> "Compared":
        """From scores that exist already, such as those of several findings together.

        Args:
            points: (films, maps), one column a method or control; "X, another
                patient's" is a control of X alone.
            groups: the patient of each film.
            methods: the columns that are compared with each of the others.
            what, hidden: as in the attributes.
            family: number of comparisons that are made together; None = all of these.
            seed: of the comparisons.
        """
        groups, points = np.asarray(groups), points.reset_index(drop=True)
        pairs = _pairs(points, methods)
        family = family or len(pairs)
        comparisons = {method: {} for method in methods}
        how = {"what": what, "family": family, "seed": seed}
        for method, control, column in pairs:
            names = (method, control)
            comparisons[method][control] = stats.compare(
                points[method], points[column], groups, names=names, **how
            )
        shares = list(points) if what in (*SHARES, "worst") else ()
        limits = (-1, 1) if what == "rank" else (-np.inf, np.inf)
        means = mean_by_patient(points, groups, shares=shares, limits=limits)
        table = means.rename_axis("map")
        return cls(what, points, groups, table, comparisons, hidden)

    @property
    def family(self) -> int:
        """How many comparisons were made together."""
        return next(c.family for of in self.comparisons.values() for c in of.values())

    def differences(self) -> pd.DataFrame:
        """Methods x controls: by how much the method is ahead of the control."""
        return self._matrix("difference")

    def verdicts(self) -> pd.DataFrame:
        """Methods x controls: "ahead", "behind" or "can't tell"."""
        return self._matrix("verdict")

    def says(self, method: str) -> str:
        """A sentence: which controls it is ahead of, which not, and of brightness."""
        by_control = self.comparisons[method]
        parts = []
        for verdict, phrase in VERDICTS.items():
            names = [n for n, c in by_control.items() if c.verdict == verdict]
            if names:
                parts.append(f"{phrase} {', '.join(names)}")
        films = f"{len(self.points)} films of {len(set(self.groups))} patients"
        hidden = f"; {self.hidden} that hide it left out" if self.hidden else ""
        about = f"({self.what}; {films}{hidden}; of {self.family} comparisons)"
        mean = f"{method} has {self.table.loc[method, 'mean']:.2f}"
        return f"{mean}: {'; '.join(parts)} {about}.{self._brightness(by_control)}"

    def _brightness(self, by_control):
        """A warning where a method isn't ahead of the film itself."""
        if "brightness" not in by_control:
            return ""
        verdict = by_control["brightness"].verdict
        if verdict == "ahead":
            return ""
        alone = f"brightness alone, {self.table.loc['brightness', 'mean']:.2f}"
        if verdict == "behind":
            return f" It is beaten by {alone}."
        return f" It is not shown to beat {alone}."

    def _matrix(self, attribute):
        by_method = {
            method: {name: getattr(one, attribute) for name, one in of.items()}
            for method, of in self.comparisons.items()
        }
        return pd.DataFrame(by_method).T


def _pairs(points, methods):
    """(method, control, its column) of each comparison."""
    brought = [_another(method) for method in methods]
    pairs = []
    for method, own_control in zip(methods, brought, strict=True):
        shared = [c for c in points if c not in methods and c not in brought]
        pairs += [(method, name, name) for name in shared]
        if own_control in points:
            pairs.append((method, ANOTHER, own_control))
    return pairs


def compare_maps(
    maps: dict[str, list[Map | np.ndarray]],
    controls: dict[str, list[np.ndarray]],
    masks: list[np.ndarray],
    *,
    groups: Sequence,
    score: str = "hit",
    tolerance_px: float = 0,
    threshold: float | dict | None = None,
    family: int | None = None,
    seed: int = 0,
) -> Compared:
    """Score methods and controls against the truth on the same films, and compare them.

    Pair by pair, by patient.

    >>> films = table[table["Pleural Effusion"] == 1].head(6)
    >>> scans = [rw.data.scan_of(row) for _, row in films.iterrows()]
    >>> masks = [scan.truth["Pleural Effusion"] for scan in scans]
    >>> how = {"method": "gradcam", "targets": "pleural effusion"}
    >>> maps = {"gradcam": rw.attend.attention_maps(model, scans, **how)}
    >>> patients = films["patient_id"]
    >>> scored = compare_maps(maps, control_maps(scans), masks, groups=patients)
    >>> scored.verdicts().index.tolist()
    ['gradcam']

    Args:
        maps: method -> maps, one a film; another patient's map is added as a control of
            each.
        controls: name -> maps of the same films, as `control_maps` gives them.
        masks: (H, W) bool, one a film; a film whose mask is empty is left out and
            counted in `hidden`.
        groups: the patient of each film.
        score: hit, iou, energy or auprc, as in `score_map`.
        tolerance_px: as in `score_map`.
        threshold: as in `score_map`; or name -> threshold, for maps that were tuned one
            by one.
        family: number of comparisons that are made together, here and elsewhere; None =
            those made here.
        seed: of the comparisons.
    Raises:
        ValueError: no mask has a pixel, all films are one patient's, or the maps don't
            pair.
    """
    seen = outlined(masks)
    groups = np.asarray(groups)[seen]
    masks = list(compress(masks, seen))
    columns = {}
    for name, its_maps in _with_others(maps, controls, seen, groups).items():
        cut = threshold
        if isinstance(threshold, dict):
            cut = threshold.get(name.removesuffix(f", {ANOTHER}"))
        how = {"tolerance_px": tolerance_px, "threshold": cut, "scores": [score]}
        columns[name] = score_each(its_maps, masks, **how)[score]
    return Compared.of(
        pd.DataFrame(columns),
        groups,
        methods=list(maps),
        what=score,
        family=family,
        hidden=int((~seen).sum()),
        seed=seed,
    )


def compare_zones(
    maps: dict[str, list[Map | np.ndarray]],
    controls: dict[str, list[np.ndarray]],
    lungs: list[np.ndarray],
    severity: np.ndarray | pd.DataFrame,
    *,
    groups: Sequence,
    score: str = "rank",
    family: int | None = None,
    seed: int = 0,
) -> Compared:
    """`compare_maps` for your own films whose truth is a grade for each lung zone.

    Does a map follow the graded zones better than its controls do?

    >>> lungs = np.zeros((12, 8), bool)
    >>> lungs[:, [1, 2, 5, 6]] = True
    >>> noise = [np.random.default_rng(i).random((12, 8)) for i in range(6)]
    >>> maps, blind = {"relevance": noise}, {"random": noise[::-1]}
    >>> grades = np.tile([0, 1, 2, 0, 1, 3], (6, 1))
    >>> compare_zones(maps, blind, [lungs] * 6, grades, groups=range(6)).what
    'rank'

    Args:
        maps, controls, groups, family, seed: as in `compare_maps`.
        lungs: (H, W) bool, one a film, as in `score_zones`.
        severity: (N, 6) grades, as in `score_zones`.
        score: rank or worst, as in `score_zones`.
    """
    groups, every = np.asarray(groups), np.ones(len(lungs), dtype=bool)
    columns = {
        name: score_each_zone(its_maps, lungs, severity)[score]
        for name, its_maps in _with_others(maps, controls, every, groups).items()
    }
    return Compared.of(
        pd.DataFrame(columns),
        groups,
        methods=list(maps),
        what=score,
        family=family,
        seed=seed,
    )


def _with_others(maps, controls, seen, groups):
    """Name -> maps of the films that are seen.

    Methods, controls, and of each method another patient's maps.
    """
    several = {**maps, **controls}
    lengths = {name: len(its_maps) for name, its_maps in several.items()}
    if set(lengths.values()) != {len(seen)}:
        raise ValueError(f"expected {len(seen)} maps of each, got {lengths}")
    shown = {name: list(compress(each, seen)) for name, each in several.items()}
    others = {_another(name): _other_patient_maps(shown[name], groups) for name in maps}
    return shown | others


def _another(method):
    return f"{method}, {ANOTHER}"


def _laid_over(map, shape):
    """A map of one film stretched over another's rows and columns."""
    values = values_of(map).astype(np.float32)
    if values.shape == shape:
        return values
    return data.to_scan(values, shape, fit="squash")
