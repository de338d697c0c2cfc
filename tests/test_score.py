"""Scores against hand-computed cases and scikit-learn.

Lesions of known size and shape; controls.
"""

import numpy as np
import pytest

from radwb import attend

RNG = np.random.default_rng(0)


def square(side, at=(10, 10), shape=(64, 64)):
    mask = np.zeros(shape, bool)
    mask[at[0] : at[0] + side, at[1] : at[1] + side] = True
    return mask


# ---- average precision


def test_average_precision_of_four_pixels_by_hand():
    values = np.array([[4.0, 3.0, 2.0, 1.0]])
    mask = np.array([[True, False, True, False]])
    # the first step gains half the recall at precision 1, the third the other half at
    # 2/3
    assert attend.score_map(values, mask)["auprc"] == pytest.approx(
        0.5 * 1 + 0.5 * 2 / 3
    )
    # the first two are one step: half the recall at 1/2, then half at 2/3
    tied = np.array([[4.0, 4.0, 2.0, 1.0]])
    assert attend.score_map(tied, mask)["auprc"] == pytest.approx(
        0.5 * 1 / 2 + 0.5 * 2 / 3
    )


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_what_its_definition_gives_cut_by_cut(levels):
    for _ in range(20):
        values = RNG.integers(levels, size=(12, 17)) / levels
        mask = RNG.random((12, 17)) < 0.2
        cuts = [values >= cut for cut in np.unique(values)[::-1]]
        recall = np.array([0, *(mask[k].sum() / mask.sum() for k in cuts)])
        want = sum(
            gain * mask[k].mean() for gain, k in zip(np.diff(recall), cuts, strict=True)
        )
        assert attend.score_map(values, mask)["auprc"] == pytest.approx(want, abs=1e-12)


def test_average_precision_of_a_constant_map_is_the_area_and_of_the_mask_is_one():
    mask = square(16)
    assert attend.score_map(np.full(mask.shape, 0.3), mask)["auprc"] == mask.mean()
    assert attend.score_map(mask.astype(float), mask)["auprc"] == 1
    table = attend.score.score_maps(
        [mask.astype(float)] * 10, [mask] * 10, groups=range(10)
    )
    # Wilson's, as for the other shares
    assert table.loc["auprc", "low"] == pytest.approx(10 / (10 + 1.959964**2))


def test_a_single_score_is_the_same_alone_as_among_all():
    values = np.random.default_rng(1).random((20, 20))
    mask = square(6, (4, 4), (20, 20))
    every = attend.score_map(values, mask)
    assert all(
        attend.score_map(values, mask, scores=[name]) == {name: every[name]}
        for name in every
    )


# ---- a cut found on other scans


def test_the_tuned_cut_is_the_best_of_all_cuts_tried_one_by_one():
    maps = [
        RNG.random((20, 20)).round(2) + 0.5 * square(6, (4, 4), (20, 20))
        for _ in range(5)
    ]
    masks = [square(6, (4, 4), (20, 20))] * 5
    cut = attend.tune_threshold(maps, masks, candidates=1000)

    def mean_iou(cut):
        each = attend.score.score_each(maps, masks, threshold=cut, scores=["iou"])
        return each["iou"].mean()

    assert mean_iou(cut) == pytest.approx(max(mean_iou(t) for t in np.unique(maps)))


def test_a_cut_found_on_some_scans_serves_on_others_and_is_used():
    where = [(5, 5), (30, 8), (20, 40), (40, 40)]
    masks = [square(10, at) for at in where]
    maps = [0.3 * RNG.random(m.shape) + 0.5 * m for m in masks]
    cut = attend.tune_threshold(maps[:2], masks[:2])
    assert 0.29 < cut <= 0.55
    table = attend.score.score_maps(maps[2:], masks[2:], groups=[0, 1], threshold=cut)
    assert table.loc["iou", "mean"] > 0.98
    assert (
        attend.score.score_maps(maps[2:], masks[2:], groups=[0, 1], threshold=0).loc[
            "iou", "mean"
        ]
        == masks[2].mean()
    )
    with pytest.raises(ValueError, match="at least one map to tune on"):
        attend.tune_threshold([], [])


def test_scaled_maps_run_from_zero_to_one_and_stay_maps():
    m = attend.map.Map(
        np.array([[2.0, 4.0], [3.0, 2.0]], np.float32), "gradcam", target="x"
    )
    assert attend.rescale(m).values.tolist() == [[0, 1], [0.5, 0]]
    assert attend.rescale(m).method == "gradcam"
    assert attend.rescale(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


# ---- by lesion


def test_shape_of_squares_and_ellipses():
    assert attend.score.lesion_shape(square(6)) == pytest.approx(
        {"area": 36, "elongation": 1}
    )
    assert attend.score.lesion_shape(square(6), (2.0, 0.5))["area"] == 36
    assert attend.score.lesion_shape(square(6), (2.0, 0.5))[
        "elongation"
    ] == pytest.approx(4)
    y, x = np.mgrid[-50:51, -50:51]
    turned = ((x + y) / 40) ** 2 + ((x - y) / 16) ** 2 < 1
    assert attend.score.lesion_shape(turned)["elongation"] == pytest.approx(
        2.5, rel=0.03
    )
    one = square(1)
    assert attend.score.lesion_shape(one) == {"area": 1, "elongation": 1}


def test_two_lungs_are_one_area_and_not_one_long_lesion():
    both = square(8, (10, 2)) | square(6, (10, 50))
    both[40, 5:35] = True  # and a line, which is smaller
    assert attend.score.lesion_shape(both) == pytest.approx(
        {"area": 64 + 36 + 30, "elongation": 1}
    )


def test_scores_by_size_find_that_small_lesions_are_missed():
    sides, maps = np.repeat([3, 4, 8, 9, 20, 22], 4), []
    masks = [square(s) for s in sides]
    for mask, side in zip(masks, sides, strict=True):
        values = np.ones(mask.shape)
        if side > 15:
            values = mask.astype(float)
        if side < 5:
            values = (~mask).astype(float)
        maps.append(values)
    table = attend.score.score_by_lesion(maps, masks, groups=np.arange(24) // 2)
    hit = table.query("score == 'hit' and by == 'area'")
    assert hit["group"].tolist() == [1, 2, 3]
    assert hit[["least", "most"]].to_numpy().tolist() == [[9, 16], [64, 81], [400, 484]]
    assert hit["mean"].tolist() == pytest.approx([0, np.mean([64, 81]) / 64**2, 1])
    assert hit["n"].tolist() == [8, 8, 8]
    assert hit["patients"].tolist() == [4, 4, 4]
    whole = attend.score.score_maps(maps[:8], masks[:8], groups=np.arange(8) // 2)
    first = table.query("by == 'area' and group == 1").set_index("score")
    assert np.allclose(
        first[["mean", "low", "high"]].astype(float),
        whole[["mean", "low", "high"]],
        equal_nan=True,
    )
    squares = table.query("by == 'elongation'")  # all are: one group
    assert squares["n"].tolist() == [24] * 6


# ---- controls


def test_the_edge_map_lies_on_edges_and_knows_no_model():
    pixels = np.zeros((80, 80), np.float32)
    pixels[30:50, 30:50] = 1
    m = attend.edge_map(pixels, sigma=1)
    ring = square(24, (28, 28), (80, 80)) & ~square(16, (32, 32), (80, 80))
    assert ring[np.unravel_index(m.argmax(), m.shape)]
    assert m[ring].sum() > 0.75 * m.sum()
    assert m[40, 40] < 0.01 * m.max()
    assert not attend.edge_map(np.full((20, 30), 0.4)).any()
    assert m.dtype == np.float32
