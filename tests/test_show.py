"""Figures carry light images and keep the patient's proportions.

They draw outlines and intervals where they belong.
"""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import radwb as rw
from radwb.attend.map import Badge, Map
from radwb.data import Scan, Volume
from radwb.show.outlines import outline
from radwb.show.theme import ROW

RNG = np.random.default_rng(0)
MASK = np.zeros((40, 60), bool)
MASK[10:20, 30:50] = True
SCAN = Scan(
    RNG.random((40, 60)).astype(np.float32),
    (2.0, 1.0),
    "PA",
    "DX",
    truth={"Pleural Effusion": MASK},
)
AUROC = pd.DataFrame(
    {
        "finding": ["A", "B"],
        "auroc": [0.9, 0.6],
        "low": [0.8, 0.5],
        "high": [0.95, 0.7],
        "n": [50, 50],
        "positives": [9, 5],
    }
)


def picture(trace):
    return Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2])))


def images(figure):
    return [t for t in figure.data if t.type == "image"]


def test_the_embedded_image_is_the_scan():
    (trace,) = images(rw.show.scan(SCAN))
    assert picture(trace).mode == "L"
    assert (
        np.abs(np.asarray(picture(trace)) / 255 - SCAN.pixels).max() <= 0.5 / 255 + 1e-6
    )


def test_pixels_lie_where_their_millimetres_say():
    (trace,) = images(rw.show.scan(SCAN))
    assert (trace.dx, trace.dy) == (1.0, 2.0)
    assert (trace.x0, trace.y0) == (0.5, 1.0)
    figure = rw.show.scan(SCAN)
    assert tuple(figure.layout.yaxis.range) == (80, 0)
    assert figure.layout.xaxis.title.text == "mm"


def test_unknown_spacing_is_not_called_millimetres():
    figure = rw.show.scan(SCAN.pixels)
    assert figure.layout.xaxis.title.text == "px"
    assert "spacing unknown" in figure.layout.title.text


def test_a_large_film_is_embedded_small_and_keeps_its_extent():
    film = Scan(
        np.tile(np.linspace(0, 1, 3000, dtype=np.float32), (2000, 1)), (0.1, 0.1)
    )
    figure = rw.show.scan(film)
    (trace,) = images(figure)
    assert picture(trace).size == (640, 427)
    assert picture(trace).width * trace.dx == pytest.approx(300)
    assert picture(trace).height * trace.dy == pytest.approx(200)
    assert len(figure.to_json()) < 300_000


def test_the_outline_runs_around_the_mask():
    x, y = outline(MASK)
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    assert (x.min(), x.max(), y.min(), y.max()) == (30, 50, 10, 20)
    touching = outline(np.eye(2, dtype=bool))[0].reshape(
        -1, 3
    )  # two pixels that share a corner: four pieces each
    assert len(touching) == 8
    whole = outline(np.ones((3, 3), bool))
    assert np.nanmin(whole[0]) == 0
    assert np.nanmax(whole[0]) == 3
    assert outline(np.zeros((3, 3), bool))[0].size == 0


def test_the_outline_is_as_long_as_a_circle_is_round():
    yy, xx = np.mgrid[:200, :200]
    x, y = outline((yy - 100) ** 2 + (xx - 100) ** 2 < 60**2)
    pieces = np.stack([x, y], 1).reshape(-1, 3, 2)[:, :2]
    length = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1).sum()
    assert length == pytest.approx(2 * np.pi * 60, rel=0.08)


def test_truth_is_outlined_in_millimetres_when_asked_only():
    lines = [
        t
        for t in rw.show.scan(SCAN, truth=True).data
        if t.type == "scatter" and t.mode == "lines"
    ]
    assert [t.name for t in lines] == ["truth: Pleural Effusion"]
    assert np.nanmax(lines[0].y) == 40  # row 20 at 2 mm
    assert not [
        t for t in rw.show.scan(SCAN).data if t.type == "scatter" and t.mode == "lines"
    ]
    assert not [
        t
        for t in rw.show.scan(SCAN, truth="Fracture").data
        if t.type == "scatter" and t.mode == "lines"
    ]


def test_low_map_values_are_clear_and_high_ones_coloured():
    ramp = np.tile(np.linspace(2, 4, 60, dtype=np.float32), (40, 1))
    _, over = images(rw.show.overlay(SCAN, ramp, alpha=0.8))
    colours = np.asarray(picture(over).convert("RGBA"))
    assert colours[0, 0, 3] == 0
    assert colours[0, -1, 3] == pytest.approx(0.8 * 255, abs=1)
    assert (np.diff(colours[0, :, 3].astype(int)) >= 0).all()


def test_the_colour_bar_says_the_values_of_the_map():
    figure = rw.show.overlay(
        SCAN,
        np.linspace(2, 4, 2400, dtype=np.float32).reshape(40, 60),
        label="relevance",
    )
    (bar,) = [
        t.marker for t in figure.data if t.type == "scatter" and t.marker.showscale
    ]
    assert (bar.cmin, bar.cmax, bar.colorbar.title.text) == (2, 4, "relevance")


@pytest.mark.parametrize("values", [np.zeros((40, 60)), np.full((40, 60), np.nan)])
def test_an_empty_map_is_drawn_clear(values):
    with np.errstate(all="ignore"):
        _, over = images(rw.show.overlay(SCAN, values, limits=(0, 1)))
    assert np.asarray(picture(over).convert("RGBA"))[..., 3].max() == 0


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected a map in the scan's pixels"):
        rw.show.overlay(SCAN, np.zeros((10, 10)))


@pytest.mark.parametrize(
    ("orientation", "edge", "place"),
    [
        (("L", "F"), "left", (0, 0)),
        (("R", "F"), "right", (60, 0)),  # 60 columns of 1 mm, 40 rows of 2
        (("F", "L"), "top", (30, 0)),
        (("H", "R"), "bottom", (30, 80)),
    ],
)
def test_the_patients_right_is_marked_where_it_lies(orientation, edge, place):
    turned = replace(SCAN, orientation=orientation)
    marks = rw.show.scan(turned).layout.annotations
    assert turned.right == edge
    assert [(m.text, (m.x, m.y)) for m in marks] == [("R", place)]


@pytest.mark.parametrize("orientation", [None, ("P", "F"), ("A", "F")])
def test_no_side_is_marked_where_the_patients_right_is_not_known(orientation):
    unknown = replace(
        SCAN, orientation=orientation
    )  # its view says PA, which says nothing of how it's stored
    assert unknown.right is None
    assert not rw.show.scan(unknown).layout.annotations


def test_a_contact_sheet_holds_each_scan_once():
    figure = rw.show.grid(
        [SCAN] * 5,
        titles=list("abcde"),
        maps=[None, MASK.astype(float)] + [None] * 3,
        truth=True,
    )
    assert len(images(figure)) == 6
    assert [a.text for a in figure.layout.annotations] == list("abcde")
    assert len({t.xaxis for t in images(figure)}) == 5


def test_a_finding_has_one_colour_and_one_entry_in_the_legend():
    other = Scan(SCAN.pixels, truth={"Fracture": MASK, "Pleural Effusion": ~MASK})
    lines = [
        t
        for t in rw.show.grid([SCAN, other, SCAN], truth=True).data
        if t.type == "scatter"
    ]
    assert sorted(t.name for t in lines if t.showlegend) == [
        "truth: Fracture",
        "truth: Pleural Effusion",
    ]
    assert (
        len({t.line.color for t in lines if t.name == "truth: Pleural Effusion"}) == 1
    )


def test_up_to_four_findings_of_a_scan_differ_in_colour_whatever_their_order():
    truth = dict.fromkeys(
        ("Edema", "Support Devices", "Cardiomegaly", "Pleural Effusion"), MASK
    )
    lines = [
        t
        for t in rw.show.scan(Scan(SCAN.pixels, truth=truth), truth=True).data
        if t.type == "scatter"
    ]
    assert len({t.line.color for t in lines}) == len(lines) == 4


def test_a_contact_sheet_whose_colours_mean_two_findings_has_no_legend():
    many = Scan(SCAN.pixels, truth=dict.fromkeys(rw.simulate.PLANTED[:6], MASK))
    lines = [
        t for t in rw.show.grid([SCAN, many], truth=True).data if t.type == "scatter"
    ]
    assert len(lines) == 7
    assert not any(t.showlegend for t in lines)
    assert {t.hovertemplate for t in lines} >= {
        f"truth: {f}<extra></extra>" for f in rw.simulate.PLANTED[:6]
    }


def test_a_contact_sheet_counts_its_titles():
    with pytest.raises(
        ValueError, match="one of titles for each of the 2 scans, got 1"
    ):
        rw.show.grid([SCAN] * 2, titles=["a"])
    with pytest.raises(ValueError, match="at least one scan"):
        rw.show.grid([])


def badged(method, badge=None):
    return Map(MASK.astype(np.float32), method, badge=badge)


def test_every_map_says_in_words_and_by_a_sign_what_the_sanity_checks_said():
    good, bad = (
        Badge({"random weights": True}, 16),
        Badge({"random weights": True, "nonsense phrase": False}, 16),
    )
    cases = [
        (good, "✓ sanity: passes random weights (n = 16)"),
        (bad, "✗ sanity: fails nonsense phrase (n = 16)"),
        (None, "? sanity: not checked"),
        (
            Badge({"shuffled labels": None}, 8, {"shuffled labels": "collapsed"}),
            "? sanity: not interpretable: shuffled labels (collapsed) (n = 8)",
        ),
    ]
    for badge, words in cases:
        m = badged("m", badge)
        for figure in (
            rw.show.overlay(SCAN, m, title="t"),
            rw.show.grid([SCAN] * 3, maps=[None, m, m], title="t"),
        ):
            text = figure.layout.title.subtitle.text
            assert in_one_line(text).count(f">{words}<") == 1
    plain = (
        rw.show.overlay(SCAN, MASK * 1.0, title="t"),
        rw.show.grid([SCAN], maps=[MASK * 1.0], title="t"),
    )
    assert not any("sanity" in f.to_json() for f in plain)
    many = rw.show.grid(
        [SCAN] * 4,
        maps=[badged("a", good), badged("b", bad), badged("c"), badged("d")],
        caption="x",
    )
    assert [
        line.partition(">")[2].partition("<")[0]
        for line in in_one_line(many.layout.title.text).split("<br>")
    ] == [
        "",
        "✓ a: " + cases[0][1][2:],
        "✗ b: " + cases[1][1][2:],
        "? c, d: sanity: not checked",
        "",
    ]


def in_one_line(text):
    """A caption without the breaks within its verdicts."""
    verdict = r'</span><br><span style="color:#\w+">(?![✓✗?])'
    return re.sub(verdict, " ", text)


def test_a_long_verdict_is_broken_into_lines_that_fit_the_figure():
    long = Badge(
        dict.fromkeys(
            ("random weights", "nonsense phrase", "other finding", "shuffled labels"),
            False,
        ),
        16,
    )
    lines = rw.show.overlay(
        SCAN, badged("m", long), title="t"
    ).layout.title.subtitle.text.split("<br>")[1:]
    words = [line.partition(">")[2].removesuffix("</span>") for line in lines]
    assert " ".join(words) == f"✗ {long}"
    assert max(map(len, words)) <= 620 / 7.5


def test_planes_have_the_same_millimetres_and_their_names():
    to_lps = np.array(
        [[1, 0, 0, 0], [0, 0, 2, 0], [0, 4, 0, 0], [0, 0, 0, 1.0]]
    )  # d -> left, h -> up, w -> back
    figure = rw.show.planes(
        Volume(RNG.random((30, 5, 20)).astype(np.float32), to_lps, "MR"), window_hu=None
    )
    assert [a.text.split("<br>")[0] for a in figure.layout.annotations] == [
        "axial",
        "coronal",
        "sagittal",
    ]
    extents = [
        (picture(t).width * t.dx, picture(t).height * t.dy) for t in images(figure)
    ]
    assert extents == [(30, 40), (30, 20), (40, 20)]  # (L, P), (L, S), (P, S) in mm


def test_intervals_are_drawn_from_low_to_high():
    figure = rw.show.forest(
        {"zero-shot": AUROC, "control": AUROC.assign(auroc=0.5, low=0.4, high=0.6)}
    )
    first = figure.data[0]
    assert np.allclose(first.x - first.error_x.arrayminus, AUROC["low"])
    assert np.allclose(first.x + first.error_x.array, AUROC["high"])
    assert figure.layout.shapes[0].x0 == 0.5
    assert "50 images" in figure.layout.title.text


def test_bars_take_their_groups_and_intervals():
    table = pd.concat(
        [AUROC.assign(method="relevance"), AUROC.assign(method="random", auroc=0.55)]
    )
    figure = rw.show.bars(table, x="finding", y="auroc", group="method", line=0.5)
    assert [t.name for t in figure.data] == ["relevance", "random"]
    assert np.allclose(figure.data[0].y + figure.data[0].error_y.array, AUROC["high"])


def test_nine_groups_differ_and_their_legend_takes_no_room_from_the_bars():
    frame = pd.DataFrame(
        {
            "finding": "effusion",
            "hit": 0.5,
            "map": [f"a method's name {n}" for n in range(9)],
        }
    )
    figure, one = (
        rw.show.bars(part, x="finding", y="hit", group="map", title="Where?")
        for part in (frame, frame[:2])
    )
    looks = {(t.marker.color, t.marker.pattern.shape) for t in figure.data}
    assert len(looks) == 9
    rows = (figure.layout.height - one.layout.height) / ROW
    assert rows >= 2
    # below, where plotly makes as much room as it takes
    assert figure.layout.template.layout.legend.yref == "container"
    assert figure.layout.margin == one.layout.margin


def test_a_log_with_gaps_is_drawn_where_it_was_measured():
    log = pd.DataFrame(
        {
            "step": range(50),
            "loss": np.linspace(4, 1, 50),
            "val_loss": np.nan,
            "val_recall": np.nan,
        }
    )
    log.loc[::10, ["val_loss", "val_recall"]] = 0.5
    figure = rw.show.curve(log, lines={"loss": np.log(64)})
    assert {t.name: len(t.x) for t in figure.data} == {
        "loss": 50,
        "val_loss": 5,
        "val_recall": 5,
    }
    assert figure.layout.yaxis2.title.text == "retrieval"
    with pytest.raises(ValueError, match="expected columns named loss"):
        rw.show.curve(log[["step"]])


def test_a_histogram_counts_each_value_once():
    figure = rw.show.hist({"a": [0, 0.1, np.nan], "b": [1, 1, 1, np.inf]}, bins=4)
    assert [int(sum(t.y)) for t in figure.data] == [2, 3]
    assert [t.name for t in figure.data] == ["a (n = 2)", "b (n = 3)"]


def test_a_matrix_keeps_its_labels_and_values():
    frame = pd.DataFrame(
        [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
        index=list("xyz"),
        columns=["left", "right"],
    )
    figure = rw.show.heatmap(frame)
    assert np.allclose(figure.data[0].z, frame)
    assert list(figure.layout.yaxis.ticktext) == list("xyz")
    assert figure.layout.yaxis.autorange == "reversed"  # the first row is on top
    assert list(figure.layout.xaxis.ticktext) == ["left", "right"]


def test_the_labels_of_narrow_columns_do_not_run_into_each_other():
    words = ["there is a small left pleural effusion with more words than fit"] * 16
    wide, narrow = (
        rw.show.heatmap(np.eye(n), columns=words[:n], width=560).layout.xaxis.ticktext[
            0
        ]
        for n in (3, 16)
    )
    assert wide.count("<br>") == 2
    assert "<br>" not in narrow
    assert narrow.endswith(
        " ..."
    )  # one line of 17 px is all that a column of 19 px holds


def test_every_point_is_drawn_in_the_colour_of_its_name():
    names = np.array(["A", "B", "A"])
    figure = rw.show.scatter([[0, 0], [1, 1], [2, 2]], colour=names, label="site")
    assert {t.name: list(t.x) for t in figure.data} == {"site A": [0, 2], "site B": [1]}
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol
    with pytest.raises(ValueError, match=r"expected points \(N, 2\)"):
        rw.show.scatter(np.zeros((3, 3)))


def test_no_figure_calls_on_the_network():
    figures = [
        rw.show.scan(SCAN, truth=True),
        rw.show.forest(AUROC),
        rw.show.heatmap(np.eye(3)),
        rw.show.hist([1, 2, 3]),
    ]
    assert not any("http" in f.to_json() for f in figures)


def test_a_long_question_is_a_title_of_several_lines_and_a_pair_reads_as_one():
    pair = (
        "there is a small left pleural effusion",
        "there is no pleural effusion at all",
    )
    m = Map(np.eye(8, dtype=np.float32), "relevance", target=pair)
    title = rw.show.overlay(
        Scan(np.zeros((8, 8), np.float32)), m, width=480
    ).layout.title.text
    assert title.replace("<br>", " ") == f"relevance: {pair[0]} vs {pair[1]}"
    # px of the narrowest cell, and of a letter of the title
    assert max(map(len, title.split("<br>"))) * 9 <= 420


def test_forest_shows_the_single_values_behind_each_mean():
    means = pd.DataFrame(
        {
            "finding": ["a", "b"],
            "auroc": [0.6, 0.8],
            "low": [0.5, 0.7],
            "high": [0.7, 0.9],
        }
    )
    seeds = pd.DataFrame({"finding": ["a", "a", "b"], "auroc": [0.2, 1.0, 0.8]})
    figure = rw.show.forest(
        {"one": means, "other": means}, points={"one": seeds, "other": seeds}
    )
    dots = [t for t in figure.data if t.marker.symbol == "circle-open"]
    assert [list(t.x) for t in dots] == [[0.2, 1.0, 0.8]] * 2
    assert all(
        np.round(t.y).tolist() == [0, 0, 1] for t in dots
    )  # each in its finding's row
    low, high = figure.layout.xaxis.range
    assert low < 0.2  # none is cut off
    assert high > 1.0
    assert all(t.marker.symbol != "circle-open" for t in rw.show.forest(means).data)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: rw.show.curve(pd.DataFrame({"loss": [1.0]})), "the column step"),
        (lambda: rw.show.forest(pd.DataFrame({"auroc": [0.5]})), "the column low"),
        (lambda: rw.show.heatmap(np.zeros((0, 3))), "a matrix"),
        (lambda: rw.show.scatter(np.zeros((3, 2)), colour=["a"]), "colour for each"),
        (lambda: rw.show.scatter(np.zeros((3, 2)), hover=["a"]), "hover for each"),
    ],
)
def test_what_does_not_fit_a_figure_is_said(draw, words):
    with pytest.raises(ValueError, match=f"expected .*{words}"):
        draw()


def test_names_that_are_no_words_are_shown():
    log = pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.5], 3: [0, 0]})
    assert len(rw.show.curve(log).data) == 1
    film = Scan(np.zeros((8, 8), np.float32))
    two = Map(np.zeros((8, 8), np.float32), "gradcam", target=(1, 2))
    assert "1 vs 2" in rw.show.overlay(film, two).layout.title.text
    titles = [
        a.text
        for a in rw.show.grid([film, film], titles=[3, "a\nb"]).layout.annotations
    ]
    assert titles == ["3", "a<br>b"]
