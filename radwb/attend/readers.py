"""People as the ceiling: how far two readers agree on what is there and where, and a
map against graded lung zones.
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from radwb.attend.score import mean_by_patient
from radwb.stats import clustered_mean

CORNERS = ["x_min", "y_min", "x_max", "y_max"]


def reader_agreement(boxes: pd.DataFrame) -> pd.DataFrame:
    """How far readers agree on a finding, and on its place: what a map can be expected
    to reach at best.

    >>> reader_agreement(boxes).loc["Pleural effusion", ["presence", "iou"]]

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
    missing = [c for c in ("image", "reader", "finding", *CORNERS) if c not in boxes]
    if missing:
        raise ValueError(
            f"expected columns image, reader, finding, {', '.join(CORNERS)}; {missing} are missing"
        )
    read = boxes[["image", "reader"]].drop_duplicates()
    pairs = read.merge(read, on="image", suffixes=("", "_2")).query("reader < reader_2")
    if pairs.empty:
        raise ValueError(
            f"expected images with two readers, got {len(read)} images with one each"
        )
    drawn = boxes.dropna(subset=CORNERS)
    seen = drawn[["image", "reader", "finding"]].drop_duplicates()
    by_second = pairs.merge(
        seen.rename(columns={"reader": "reader_2"}), on=["image", "reader_2"]
    )
    either = pd.concat([pairs.merge(seen, on=["image", "reader"]), by_second])
    keys = ["image", "reader", "reader_2", "finding"]
    count = either.groupby(keys).size().rename("readers").reset_index()
    count = count.merge(
        _overlap(drawn).rename("iou").reset_index(), on=keys, how="left"
    )
    count["presence"] = (count.pop("readers") == 2).astype(float)
    rows = {}
    for finding, part in count.groupby("finding"):
        both = part.dropna(subset="iou")
        rows[finding] = {}
        for name, some in (("presence", part), ("iou", both)):
            if len(some):
                mean = clustered_mean(some[name], some["image"], share=True)
                ends = {f"{name}_{end}": mean[end] for end in ("low", "high")}
                rows[finding] |= {name: mean["mean"], **ends}
        rows[finding] |= {"pairs": len(part), "images": part["image"].nunique()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("finding")


def _overlap(drawn: pd.DataFrame) -> pd.Series:
    """Index image, reader, reader_2, finding: the mean best overlap of each pair of
    readers who both drew.
    """
    drawn = drawn.reset_index(drop=True).rename_axis("box").reset_index()
    both = drawn.merge(drawn, on=["image", "finding"], suffixes=("", "_2")).query(
        "reader != reader_2"
    )
    a, b = (both[[c + tail for c in CORNERS]].to_numpy(float) for tail in ("", "_2"))
    inner = np.clip(
        np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None
    ).prod(1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b))
    both = both.assign(iou=inner / np.maximum(area_a + area_b - inner, 1e-12))
    best = (
        both.groupby(["image", "finding", "reader", "reader_2", "box"])["iou"]
        .max()
        .reset_index()
    )
    swap = best["reader"] > best["reader_2"]  # a pair is one pair, whoever's box it is
    best.loc[swap, ["reader", "reader_2"]] = best.loc[
        swap, ["reader_2", "reader"]
    ].to_numpy()
    return best.groupby(["image", "reader", "reader_2", "finding"])["iou"].mean()


def lung_zones(lungs: np.ndarray) -> np.ndarray:
    """Six zones of a frontal film, as the Brixia score has them: A, B, C the patient's
    right lung from above, D, E, F the left.

    Borghesi & Maroldi 2020 (doi 10.1007/s11547-020-01200-3) cut at the aortic arch and
    at the right inferior pulmonary vein. A mask of the lungs shows neither, so each
    lung is cut into thirds of its height.

    Args:
        lungs: (H, W) bool, both lungs; the patient's right is on the left of the image.
    Returns:
        (6, H, W) bool.
    Raises:
        ValueError: there is no lung on one of the sides.
    """
    lungs = np.asarray(lungs, dtype=bool)
    columns = np.flatnonzero(lungs.any(0))
    if len(columns) < 4:
        raise ValueError(
            f"expected two lungs, got a mask with {len(columns)} columns of lung"
        )
    margin = (columns[-1] - columns[0]) // 4
    middle = np.arange(
        columns[0] + margin, columns[-1] - margin + 1
    )  # with the columns that no lung is in
    fewest = lungs[:, middle].sum(0)
    divide = int(np.median(middle[fewest == fewest.min()]))  # the mediastinum
    zones = []
    for side in (
        np.arange(lungs.shape[1]) < divide,
        np.arange(lungs.shape[1]) >= divide,
    ):
        rows = np.flatnonzero((lungs & side).any(1))
        if not len(rows):
            raise ValueError("expected two lungs, got a mask with one")
        cuts = np.linspace(rows[0], rows[-1] + 1, 4)
        for top, bottom in zip(cuts[:-1], cuts[1:], strict=True):
            row = np.arange(len(lungs)) + 0.5
            zones.append(lungs & side & ((row > top) & (row < bottom))[:, None])
    return np.stack(zones)


def score_zones(maps, lungs, severity, *, groups) -> pd.DataFrame:
    """Does a map weigh most where a radiologist graded the lung as worst? For truth
    that comes by zone, as in Brixia.

    >>> score_zones(maps, [s.truth["lungs"] for s in scans], films[["brixia_A", ...]], groups=films.patient_id)

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

    >>> score_each_zone(maps, lungs, films[grades])["rank"]

    Args:
        maps, lungs, severity: as in `score_zones`.
    """
    grades = _grades(maps, lungs, severity)
    points = []
    for map, mask, grade in zip(maps, lungs, grades, strict=True):
        values = np.asarray(getattr(map, "values", map), dtype=float)
        if values.shape != np.shape(mask):
            raise ValueError(
                f"expected map and lungs of one shape, got {values.shape} and {np.shape(mask)}"
            )
        zones = lung_zones(mask)
        means = np.array([values[zone].mean() if zone.any() else 0.0 for zone in zones])
        worst = grade == grade.max()
        rank = spearmanr(means, grade).statistic if _differ(means) else 0.0
        hit = worst[means == means.max()].mean()
        points.append({"rank": rank, "worst": hit, "chance": worst.mean()})
    return pd.DataFrame(points)


def _grades(maps, lungs, severity):
    """(N, 6) grades of which each film has at least two."""
    grades = np.asarray(severity, dtype=float)
    if grades.shape != (len(maps), 6) or len(lungs) != len(maps):
        raise ValueError(
            f"expected grades ({len(maps)}, 6) and {len(maps)} masks, got {grades.shape} and {len(lungs)}"
        )
    flat = ~np.isfinite(grades).all(1) | (np.ptp(grades, axis=1) == 0)
    if flat.any():
        raise ValueError(
            f"expected six grades a film, not all the same, got others at {np.flatnonzero(flat).tolist()}. "
            "Try leaving them out."
        )
    return grades


def _differ(means):
    """Whether zones differ by more than the rounding of a mean: a constant map has no
    rank.
    """
    return np.ptp(means) > 1e-6 * np.abs(means).max()
