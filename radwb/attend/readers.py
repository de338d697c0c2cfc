"""People as the ceiling: how far two readers agree, and a map against graded zones."""

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from radwb.attend.map import values_of
from radwb.attend.score import mean_by_patient
from radwb.stats import clustered_mean

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
PAIR = ["image", "reader", "reader_2", "finding"]


def reader_agreement(boxes: pd.DataFrame) -> pd.DataFrame:
    """How far your readers agree on a finding and its place: what a map can reach.

    >>> boxes = pd.DataFrame([[image, reader, "Effusion", 0, 0, 4, 2 + 2 * reader]
    ...     for image in range(5) for reader in (0, 1)],
    ...     columns=["image", "reader", "finding", "x_min", "y_min", "x_max", "y_max"])
    >>> reader_agreement(boxes).loc["Effusion", ["presence", "iou"]].tolist()
    [1.0, 0.5]

    Each pair of readers of an image counts once. The intervals are by image, all pairs
    of an image together; an image counts as a patient does elsewhere, and under five
    there is no interval.

    Args:
        boxes: one row a box: image, reader, finding, x_min, y_min, x_max, y_max in px.
            A reader who saw nothing has a row whose box is NaN, else nobody knows that
            the image was read.
    Returns:
        index finding, with for each of presence and iou its value, low and high:
        presence: pairs of which both saw the finding, as a share of those of which at
            least one did (Jaccard).
        iou: where both did, the mean over all their boxes of the best intersection over
            union with the other's.
        pairs: in which at least one saw it; images: of those.
    Raises:
        ValueError: a column is missing, or no image has two readers.
    """
    needed = ("image", "reader", "finding", *CORNERS)
    missing = [column for column in needed if column not in boxes]
    if missing:
        raise ValueError(
            f"expected columns image, reader, finding, {', '.join(CORNERS)}; "
            f"{missing} are missing"
        )
    pairs = _pairs_of_readers(boxes)
    drawn = boxes.dropna(subset=CORNERS)
    seen = drawn[["image", "reader", "finding"]].drop_duplicates()
    seen_2 = seen.rename(columns={"reader": "reader_2"})
    by_first = pairs.merge(seen, on=["image", "reader"])
    by_second = pairs.merge(seen_2, on=["image", "reader_2"])
    either = pd.concat([by_first, by_second])
    readers = either.groupby(PAIR).size()  # of each pair those who saw the finding
    both = (readers == 2).astype(float)
    by_pair = pd.DataFrame({"presence": both})
    overlap = _overlap(drawn)
    by_pair = by_pair.join(overlap, how="left").reset_index()
    rows = {}
    for finding, part in by_pair.groupby("finding"):
        rows[finding] = _means(part)
    agreement = pd.DataFrame.from_dict(rows, orient="index")
    return agreement.rename_axis("finding")


def _pairs_of_readers(boxes):
    """Columns image, reader, reader_2: each pair of readers of an image once."""
    read = boxes[["image", "reader"]].drop_duplicates()
    pairs = read.merge(read, on="image", suffixes=("", "_2")).query("reader < reader_2")
    if pairs.empty:
        raise ValueError(
            f"expected images with two readers, got {len(read)} images with one each"
        )
    return pairs


def _means(pairs):
    """One finding's row of `reader_agreement`."""
    row = {}
    for name in ("presence", "iou"):
        part = pairs.dropna(subset=name)
        if len(part):
            mean = clustered_mean(part[name], part["image"], share=True)
            row |= {name: mean["mean"]}
            row |= {f"{name}_{end}": mean[end] for end in ("low", "high")}
    return row | {"pairs": len(pairs), "images": pairs["image"].nunique()}


def _overlap(drawn: pd.DataFrame) -> pd.Series:
    """Mean best overlap of each pair of readers who both drew.

    Returns:
        named iou; index image, reader, reader_2, finding.
    """
    drawn = drawn.reset_index(drop=True).rename_axis("box").reset_index()
    both = drawn.merge(drawn, on=["image", "finding"], suffixes=("", "_2"))
    both = both.query("reader != reader_2")
    a = both[CORNERS].to_numpy(float)
    b = both[[f"{corner}_2" for corner in CORNERS]].to_numpy(float)
    upper_left = np.maximum(a[:, :2], b[:, :2])
    lower_right = np.minimum(a[:, 2:], b[:, 2:])
    inner = np.clip(lower_right - upper_left, 0, None).prod(1)
    union = _areas(a) + _areas(b) - inner
    both = both.assign(iou=inner / np.maximum(union, 1e-12))
    by_box = both.groupby([*PAIR, "box"])
    best = by_box["iou"].max().reset_index()
    # a pair is one pair, whoever's box it is
    readers = ["reader", "reader_2"]
    swapped = best["reader"] > best["reader_2"]
    turned = best.loc[swapped, readers[::-1]]
    best.loc[swapped, readers] = turned.to_numpy()
    by_pair = best.groupby(PAIR)
    return by_pair["iou"].mean()


def _areas(boxes):
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides.prod(1)


def lung_zones(lungs: np.ndarray) -> np.ndarray:
    """Six zones of a frontal film, as the Brixia score has them.

    A, B, C are the patient's right lung from above, D, E, F the left. Borghesi &
    Maroldi 2020 (doi 10.1007/s11547-020-01200-3) cut at the aortic arch and at the
    right inferior pulmonary vein. A mask of the lungs shows neither, so each lung is
    cut into thirds of its height.

    >>> lungs = np.zeros((6, 8), bool)
    >>> lungs[:, [1, 2, 5, 6]] = True
    >>> lung_zones(lungs).sum((1, 2))
    array([4, 4, 4, 4, 4, 4])

    Args:
        lungs: (H, W) bool, both lungs; the patient's right is on the left of the image.
    Returns:
        (6, H, W) bool.
    Raises:
        ValueError: there is no lung on one of the sides.
    """
    lungs = np.asarray(lungs, dtype=bool)
    H, W = lungs.shape
    right = np.arange(W) < _mediastinum(lungs)
    row = np.arange(H) + 0.5
    zones = []
    for side in (right, ~right):
        lung = lungs & side
        rows = np.flatnonzero(lung.any(1))
        if not len(rows):
            raise ValueError("expected two lungs, got a mask with one")
        cuts = np.linspace(rows[0], rows[-1] + 1, 4)
        for top, bottom in pairwise(cuts):
            between = (row > top) & (row < bottom)
            zones.append(lung & between[:, None])
    return np.stack(zones)


def _mediastinum(lungs):
    """The column in the middle half of the lungs that has least of them."""
    columns = np.flatnonzero(lungs.any(0))
    if len(columns) < 4:
        raise ValueError(
            f"expected two lungs, got a mask with {len(columns)} columns of lung"
        )
    first = columns[0]
    last = columns[-1]
    margin = (last - first) // 4
    # with the columns that no lung is in
    middle = np.arange(first + margin, last - margin + 1)
    heights = lungs[:, middle].sum(0)
    least = middle[heights == heights.min()]
    return int(np.median(least))


def score_zones(maps, lungs, severity, *, groups) -> pd.DataFrame:
    """Does a map weigh most where a radiologist graded the lung as worst?

    For truth that comes by zone, as in Brixia.

    Args:
        maps: `Map` or (H, W) arrays.
        lungs: (H, W) bool, one a map.
        severity: (N, 6) grades of the zones A to F, higher is worse.
        groups: the patient of each map.
    Returns:
        index rank, worst, chance; columns mean, low, high (95 % by patient), n,
        patients, note.
        rank: Spearman's correlation of the zones' mean map value with their grade, 0
            for a constant map.
        worst: the zone with the highest mean is one of the worst graded; of equal ones
            the share.
        chance: the share of zones that are the worst graded, what a blind choice would
            have in `worst`.
    Raises:
        ValueError: a film whose zones all have the same grade, or one that is missing:
            it can't rank.
    """
    points = score_each_zone(maps, lungs, severity)
    shares = ("worst", "chance")
    return mean_by_patient(points, groups, shares=shares, limits=(-1, 1))


def score_each_zone(maps, lungs, severity) -> pd.DataFrame:
    """What `score_zones` takes the mean of: rank, worst and chance, one row a film.

    >>> lungs = np.zeros((12, 8), bool)
    >>> lungs[:, [1, 2, 5, 6]] = True
    >>> points = score_each_zone([np.ones((12, 8))], [lungs], [[0, 1, 2, 0, 1, 3]])
    >>> points["rank"].tolist()
    [0.0]

    Args:
        maps, lungs, severity: as in `score_zones`.
    """
    grades = _grades(maps, lungs, severity)
    points = []
    for map, mask, grade in zip(maps, lungs, grades, strict=True):
        values = values_of(map).astype(float)
        if values.shape != np.shape(mask):
            raise ValueError(
                f"expected map and lungs of one shape, got {values.shape} and "
                f"{np.shape(mask)}"
            )
        zones = lung_zones(mask)
        means = np.array([_mean_in(values, zone) for zone in zones])
        rank = 0.0
        if _differ(means):
            rank = spearmanr(means, grade).statistic
        worst = grade == grade.max()
        highest = means == means.max()
        hit = worst[highest].mean()
        points.append({"rank": rank, "worst": hit, "chance": worst.mean()})
    return pd.DataFrame(points)


def _mean_in(values, zone):
    if not zone.any():
        return 0.0
    return values[zone].mean()


def _grades(maps, lungs, severity):
    """(N, 6) grades of which each film has at least two."""
    grades = np.asarray(severity, dtype=float)
    if grades.shape != (len(maps), 6) or len(lungs) != len(maps):
        raise ValueError(
            f"expected grades ({len(maps)}, 6) and {len(maps)} masks, got "
            f"{grades.shape} and {len(lungs)}"
        )
    incomplete = ~np.isfinite(grades).all(1)
    flat = incomplete | (np.ptp(grades, axis=1) == 0)
    if flat.any():
        raise ValueError(
            "expected six grades a film, not all the same, got others at "
            f"{np.flatnonzero(flat).tolist()}. Try leaving them out."
        )
    return grades


def _differ(means):
    """Whether zones differ by more than rounding: a constant map has no rank."""
    return np.ptp(means) > 1e-6 * np.abs(means).max()
