"""What a map must beat: maps that know nothing of the question, of the film or of the
model, on the same films.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb import data, stats
from radwb.attend.readers import score_each_zone
from radwb.attend.score import (
    SHARES,
    brightness_map,
    centre_map,
    edge_map,
    mean_by_patient,
    outlined,
    random_map,
    score_each,
)
from radwb.identifiers import identifiers

ANOTHER = "another patient's"  # the control that each method brings itself


def control_maps(
    scans, *, organs=None, training_mask=None, seed: int = 0
) -> dict[str, list[np.ndarray]]:
    """Maps that a method's maps must beat before their score means anything.

    >>> controls = control_maps(scans, training_mask=mean_mask(table, "Pneumothorax"))
    >>> list(controls)
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
    if organs is not None:
        pairs = zip(organs, scans, strict=True)
        controls["organ"] = [_laid_over(organ, scan.shape) for organ, scan in pairs]
    if training_mask is not None:
        position = [_laid_over(training_mask, scan.shape) for scan in scans]
        controls["training mask"] = position
    return controls


def mean_mask(table: pd.DataFrame, finding: str, *, size: int = 64) -> np.ndarray:
    """Where a finding was in the training films: a map of position alone, blind to the
    film that it is laid over.

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
    total, shown = np.zeros((size, size)), 0
    bar = tqdm(rows.iterrows(), "reading outlines", len(rows), delay=2, leave=False)
    for _, row in bar:
        mask = data.scan_of(row).truth.get(finding)
        if mask is not None and mask.any():
            total += data.to_input(mask.astype(np.float32), size, fit="squash")
            shown += 1
    if not shown:
        raise ValueError(
            f"expected training films that show {finding}, got {len(rows)} rows without an outline. "
            "Try a table with split 'train' and truth masks."
        )
    return (total / shown).astype(np.float32)


def other_patient_maps(maps, groups) -> list[np.ndarray]:
    """For each film the map of the next film of another patient, which knows the
    finding and not this film.

    >>> other_patient_maps([map_of_a, map_of_b], ["a", "b"])[0] is map_of_b      # where both films have one shape
    True

    Args:
        maps: `Map` or (H, W) arrays, all of films with the same finding.
        groups: the patient of each film.
    Raises:
        ValueError: all films are one patient's.
    """
    groups = identifiers(groups).tolist()
    if None in groups:
        raise ValueError(
            f"expected the patient of each film, got {groups.count(None)} of {len(groups)} without. "
            "Try groups=range(len(maps)) if no patient has two films"
        )
    if len(set(groups)) < 2:
        raise ValueError(
            f"expected films of at least two patients, got {len(set(groups))}"
        )
    shapes = [_values(film).shape for film in maps]
    moved = []
    for i, shape in enumerate(shapes):
        later = [(i + step) % len(groups) for step in range(1, len(groups))]
        other = next(j for j in later if groups[j] != groups[i])
        moved.append(_laid_over(maps[other], shape))
    return moved


@dataclass(frozen=True, eq=False)
class Compared:
    """Methods beside their controls on the same films.

    >>> print(compare_maps({"relevance": maps}, controls, masks, groups=table["patient_id"]).says("relevance"))
    relevance has 0.68: ahead of random, centre; behind training mask; can't tell from
    brightness, another patient's (hit; 60 films of 51 patients; of 5 comparisons). It
    is not shown to beat brightness alone, 0.55.

    Attributes:
        what: the score that was compared.
        points: (films, maps), what the means are made of.
        groups: the patient of each film.
        table: index map; columns mean, low, high, n (films), patients.
        comparisons: method -> control -> `rw.stats.comparison.Comparison`, paired by patient, at
            the level that the whole family of them asks for.
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
        points,
        groups,
        *,
        methods,
        what,
        family=None,
        hidden=0,
        seed=0,
    ) -> "Compared":
        """From scores that are known already, such as those of several findings one
        below the other.

        Args:
            points: (films, maps), one column a method or control; "X, another
                patient's" is a control of X alone.
            groups: the patient of each film.
            methods: the columns that are compared with each of the others.
            what, hidden: as in the attributes.
            family: number of comparisons that are made together; None = all of these.
        """
        groups, points = np.asarray(groups), points.reset_index(drop=True)
        own = {_another(method) for method in methods}
        shared = [c for c in points if c not in methods and c not in own]
        pairs = {method: {name: name for name in shared} for method in methods}
        for method in methods:
            if _another(method) in points:
                pairs[method][ANOTHER] = _another(method)
        family = family or sum(map(len, pairs.values()))

        def compared(method, control, column):
            names = (method, control)
            a, b = points[method], points[column]
            return stats.compare(
                a, b, groups, names=names, what=what, family=family, seed=seed
            )

        comparisons = {
            method: {
                name: compared(method, name, column) for name, column in of.items()
            }
            for method, of in pairs.items()
        }
        shares = list(points) if what in (*SHARES, "worst") else ()
        limits = (-1, 1) if what == "rank" else (-np.inf, np.inf)
        means = mean_by_patient(points, groups, shares=shares, limits=limits)
        table = means.rename_axis("map")
        return cls(what, points, groups, table, comparisons, hidden)

    @property
    def family(self) -> int:
        return next(c.family for of in self.comparisons.values() for c in of.values())

    def differences(self) -> pd.DataFrame:
        """Methods x controls: by how much the method is ahead of the control."""
        return self._matrix(lambda comparison: comparison.difference)

    def verdicts(self) -> pd.DataFrame:
        """Methods x controls: "ahead", "behind" or "can't tell"."""
        return self._matrix(lambda comparison: comparison.verdict)

    def says(self, method: str) -> str:
        """What may be said of a method: which controls it is ahead of, which not, and
        whether it beats brightness.
        """
        by_control = self.comparisons[method]
        words = {
            "ahead": "ahead of",
            "behind": "behind",
            "can't tell": "can't tell from",
        }
        parts = []
        for verdict, phrase in words.items():
            names = [n for n, c in by_control.items() if c.verdict == verdict]
            parts += [f"{phrase} {', '.join(names)}"] if names else []
        films = f"{len(self.points)} films of {len(set(self.groups))} patients"
        hidden = f"; {self.hidden} that hide it left out" if self.hidden else ""
        about = f"({self.what}; {films}{hidden}; of {self.family} comparisons)"
        mean = f"{method} has {self.table.loc[method, 'mean']:.2f}"
        return f"{mean}: {'; '.join(parts)} {about}.{self._brightness(by_control)}"

    def _brightness(self, by_control):
        """A warning where a method isn't ahead of the film itself, which needs no
        model.
        """
        if (
            "brightness" not in by_control
            or by_control["brightness"].verdict == "ahead"
        ):
            return ""
        alone = f"brightness alone, {self.table.loc['brightness', 'mean']:.2f}"
        if by_control["brightness"].verdict == "behind":
            return f" It is beaten by {alone}."
        return f" It is not shown to beat {alone}."

    def _matrix(self, value):
        by_method = {
            method: {name: value(comparison) for name, comparison in of.items()}
            for method, of in self.comparisons.items()
        }
        return pd.DataFrame(by_method).T


def compare_maps(
    maps: dict,
    controls: dict,
    masks,
    *,
    groups,
    score: str = "hit",
    tolerance_px: float = 0,
    threshold: float | dict | None = None,
    family: int | None = None,
    seed: int = 0,
) -> Compared:
    """Score methods and controls against the truth on the same films, and compare them
    pair by pair, by patient.

    >>> controls = control_maps(scans, training_mask=mean_mask(table, "Pneumothorax"))
    >>> found = compare_maps({"relevance": maps}, controls, masks, groups=films["patient_id"])
    >>> found.table["mean"], found.verdicts()

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
    Raises:
        ValueError: no mask has a pixel, all films are one patient's, or the maps don't
            pair.
    """
    seen = outlined(masks)
    groups = np.asarray(groups)[seen]
    masks = [mask for mask, kept in zip(masks, seen, strict=True) if kept]
    columns = {}
    for name, all_maps in _with_others(maps, controls, seen, groups).items():
        method = name.removesuffix(f", {ANOTHER}")
        cut = threshold.get(method) if isinstance(threshold, dict) else threshold
        how = dict(tolerance_px=tolerance_px, threshold=cut, scores=[score])
        each = score_each(all_maps, masks, **how)
        columns[name] = each[score]
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
    maps: dict,
    controls: dict,
    lungs,
    severity,
    *,
    groups,
    score: str = "rank",
    family: int | None = None,
    seed: int = 0,
) -> Compared:
    """`compare_maps` for truth that comes by zone: does a map follow the graded zones
    better than its controls do?

    >>> controls = control_maps(scans)
    >>> compare_zones({"relevance": maps}, controls, lungs, films[grades], groups=films["patient_id"]).verdicts()

    Args:
        maps, controls, groups, family: as in `compare_maps`.
        lungs, severity: as in `score_zones`.
        score: rank or worst, as in `score_zones`.
    """
    groups, every = np.asarray(groups), np.ones(len(lungs), dtype=bool)
    columns = {
        name: score_each_zone(all_maps, lungs, severity)[score]
        for name, all_maps in _with_others(maps, controls, every, groups).items()
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
    """Name -> maps of the films that are kept: methods, controls, and each method's map
    of another patient.
    """
    several = {**maps, **controls}
    lengths = {name: len(few) for name, few in several.items()}
    if set(lengths.values()) != {len(seen)}:
        raise ValueError(f"expected {len(seen)} maps of each, got {lengths}")
    kept = {
        name: [film for film, shown in zip(few, seen, strict=True) if shown]
        for name, few in several.items()
    }
    others = {
        _another(method): other_patient_maps(kept[method], groups) for method in maps
    }
    return kept | others


def _another(method):
    return f"{method}, {ANOTHER}"


def _values(film):
    return np.asarray(getattr(film, "values", film))


def _laid_over(film, shape):
    """A map of one film stretched over another's rows and columns."""
    values = _values(film).astype(np.float32)
    return (
        values if values.shape == shape else data.to_scan(values, shape, fit="squash")
    )
