"""Agreement of readers by hand and against torchvision.

Zones of the lungs against planted grades.
"""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau
from torchvision.ops import box_iou

import radwb as rw

BOX = ["x_min", "y_min", "x_max", "y_max"]


def table_of(*rows):
    return pd.DataFrame(rows, columns=["image", "reader", "finding", *BOX])


def test_two_readers_by_hand():
    nothing = (np.nan,) * 4
    # half of it overlaps with B's: IoU 50 / 150
    boxes = table_of(
        ("one", "A", "nodule", 0, 0, 10, 10),
        ("one", "B", "nodule", 5, 0, 15, 10),
        ("two", "A", "nodule", 0, 0, 10, 10),  # B read it and saw nothing
        ("two", "B", "no finding", *nothing),
        ("three", "A", "no finding", *nothing),
        ("three", "B", "no finding", *nothing),
    )
    agreement = rw.attend.reader_agreement(boxes)
    assert list(agreement.index) == ["nodule"]
    assert agreement.loc["nodule", "presence"] == pytest.approx(1 / 2)
    assert agreement.loc["nodule", "iou"] == pytest.approx(50 / 150)
    assert agreement.loc["nodule", ["pairs", "images"]].tolist() == [2, 2]


def test_each_box_takes_its_best_partner_from_both_sides():
    boxes = table_of(
        ("one", "A", "nodule", 0, 0, 10, 10),
        ("one", "A", "nodule", 100, 0, 110, 10),
        ("one", "B", "nodule", 0, 0, 10, 10),
    )
    assert rw.attend.reader_agreement(boxes).loc["nodule", "iou"] == pytest.approx(
        (1 + 0 + 1) / 3
    )


def by_loops(boxes):
    """Image by image and pair by pair, overlaps by torchvision."""
    presence, overlap = {}, {}
    for _, image in boxes.groupby("image"):
        for a, b in combinations(sorted(image.reader.unique()), 2):
            drawn = [image[image.reader == r].dropna(subset=BOX) for r in (a, b)]
            for finding in set(drawn[0].finding) | set(drawn[1].finding):
                each = [
                    torch.tensor(d[d.finding == finding][BOX].to_numpy(float))
                    for d in drawn
                ]
                both = all(len(e) for e in each)
                presence.setdefault(finding, []).append(both)
                if both:
                    iou = box_iou(*each)
                    overlap.setdefault(finding, []).append(
                        float(torch.cat([iou.amax(1), iou.amax(0)]).mean())
                    )
    return {
        f: (np.mean(p), np.mean(overlap.get(f, [np.nan]))) for f, p in presence.items()
    }


def test_agreement_equals_loops_over_torchvision():
    rng = np.random.default_rng(0)
    rows = []
    for image in range(40):
        for reader in ("R1", "R2", "R9"):
            rows.append((image, reader, "no finding", *(np.nan,) * 4))
            for finding in rng.choice(["nodule", "effusion"], size=rng.integers(0, 4)):
                x, y = rng.uniform(0, 60, 2)
                rows.append(
                    (
                        image,
                        reader,
                        finding,
                        x,
                        y,
                        x + rng.uniform(10, 40),
                        y + rng.uniform(10, 40),
                    )
                )
    boxes = table_of(*rows).sample(frac=1, random_state=0)
    agreement, expected = rw.attend.reader_agreement(boxes), by_loops(boxes)
    assert set(agreement.index) == set(expected) == {"nodule", "effusion"}
    for finding, (presence, iou) in expected.items():
        row = agreement.loc[finding]
        assert row["presence"] == pytest.approx(presence)
        assert row["iou"] == pytest.approx(iou)
        assert row["iou_low"] < iou < row["iou_high"]


def test_one_reader_has_nobody_to_agree_with():
    with pytest.raises(ValueError, match="two readers"):
        rw.attend.reader_agreement(table_of(("one", "A", "nodule", 0, 0, 1, 1)))
    with pytest.raises(ValueError, match=r"\['reader'\] are missing"):
        rw.attend.reader_agreement(
            table_of(("one", "A", "nodule", 0, 0, 1, 1)).drop(columns="reader")
        )


@pytest.fixture
def lungs():
    """Two boxes as lungs: right one (left in the image) in rows 10-69, left one in rows
    13-72.
    """
    mask = np.zeros((100, 100), bool)
    mask[10:70, 5:40] = mask[13:73, 60:95] = True
    return mask


def test_zones_are_thirds_of_each_lung_from_above(lungs):
    zones = rw.attend.readers.lung_zones(lungs)
    # each pixel of lung in one zone
    assert np.array_equal(zones.sum(0), lungs.astype(int))
    spans = [
        (
            np.flatnonzero(z.any(1))[[0, -1]].tolist(),
            np.flatnonzero(z.any(0))[[0, -1]].tolist(),
        )
        for z in zones
    ]
    assert spans == [
        ([10, 29], [5, 39]),
        ([30, 49], [5, 39]),
        ([50, 69], [5, 39]),
        ([13, 32], [60, 94]),
        ([33, 52], [60, 94]),
        ([53, 72], [60, 94]),
    ]


def test_lungs_that_touch_are_divided_where_they_are_thinnest(lungs):
    lungs[60:63, 40:60] = True
    zones = rw.attend.readers.lung_zones(lungs)
    assert zones[:3].any(0)[:, :40].sum() == lungs[:, :40].sum()
    assert zones[3:].any(0)[:, 60:].sum() == lungs[:, 60:].sum()


def test_a_mask_without_lungs_is_refused():
    with pytest.raises(ValueError, match="two lungs"):
        rw.attend.readers.lung_zones(np.zeros((10, 10), bool))


def test_a_map_of_the_grades_is_perfect_its_reverse_the_opposite_and_a_constant_nothing(
    lungs,
):
    grades = np.array([[0, 1, 3, 0, 0, 2], [3, 0, 0, 1, 0, 0]])
    maps = [
        (rw.attend.readers.lung_zones(lungs) * g[:, None, None])
        .sum(0)
        .astype(np.float32)
        for g in grades
    ]
    score = dict(lungs=[lungs, lungs], severity=grades, groups=["a", "b"])
    right = rw.attend.readers.score_zones(maps, **score)["mean"]
    assert right[["rank", "worst"]].tolist() == [1, 1]
    assert right["chance"] == pytest.approx(1 / 6)
    wrong = rw.attend.readers.score_zones([-m for m in maps], **score)["mean"]
    assert wrong["rank"] == pytest.approx(-1)
    assert wrong["worst"] == 0
    flat = rw.attend.readers.score_zones([np.ones_like(m) for m in maps], **score)[
        "mean"
    ]
    assert flat["rank"] == 0
    assert flat["worst"] == pytest.approx(1 / 6)
    rounded = rw.attend.readers.score_each_zone(
        [np.full(m.shape, 0.1) for m in maps], [lungs, lungs], grades
    )
    # a constant that no sum of floats meets exactly is no ranking
    assert rounded["rank"].tolist() == [0, 0]


def test_random_maps_find_the_worst_zone_as_often_as_chance(lungs):
    rng = np.random.default_rng(0)
    grades = np.array([rng.permutation([0, 0, 1, 1, 2, 3]) for _ in range(300)])
    maps = [rw.attend.blind.random_map(lungs.shape, seed=i) for i in range(300)]
    table = rw.attend.readers.score_zones(
        maps, [lungs] * 300, grades, groups=range(300)
    )
    assert table.loc["rank", "low"] < 0 < table.loc["rank", "high"]
    assert (
        table.loc["worst", "low"]
        < table.loc["chance", "mean"]
        < table.loc["worst", "high"]
    )
    noisy = [
        m + (rw.attend.readers.lung_zones(lungs) * g[:, None, None]).sum(0)
        for m, g in zip(maps, grades, strict=True)
    ]
    better = rw.attend.readers.score_zones(
        noisy, [lungs] * 300, grades, groups=range(300)
    )
    assert better.loc["rank", "low"] > table.loc["rank", "high"]
    means = [[m[z].mean() for z in rw.attend.readers.lung_zones(lungs)] for m in noisy]
    # another measure
    assert (
        np.mean(
            [kendalltau(a, g).statistic for a, g in zip(means, grades, strict=True)]
        )
        > 0
    )


@pytest.mark.parametrize(
    "bad", [[[1, 1, 1, 1, 1, 1]], [[1, 2, np.nan, 1, 1, 1]], [[1, 2, 3]]]
)
def test_grades_that_can_not_rank_are_refused(lungs, bad):
    with pytest.raises(ValueError, match="expected .*grades"):
        rw.attend.readers.score_zones([lungs * 1.0], [lungs], bad, groups=["a"])


def test_a_large_zone_does_not_win_by_its_size(lungs):
    lungs[:, 60:80] = False  # the left lung is narrower by more than half
    # worst in a small zone
    zones, grade = (rw.attend.readers.lung_zones(lungs), np.array([1, 0, 0, 3, 0, 0]))
    values = 0.2 + 0.6 * zones[0] + 0.7 * zones[3]
    assert values[zones[0]].sum() > values[zones[3]].sum()
    assert (
        rw.attend.readers.score_zones([values], [lungs], [grade], groups=["a"]).loc[
            "worst", "mean"
        ]
        == 1
    )
