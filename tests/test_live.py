"""Claims about rw.show.live: it follows a run and doesn't slow it.

It needs no front end.
"""

import time

import numpy as np
import pandas as pd
import pytest
from plotly import graph_objects as go

import radwb as rw
from radwb.show.live import EVERY_S, LINES, POINTS, Live


def row(step, **more):
    return {
        "step": step,
        "epoch": step // 10,
        "loss": 3.0 - step / 1000,
        "lr": 1e-3,
        "logit_scale": 14.3,
        "images_per_s": 48.0,
    } | more


def trace(figure, column):
    return figure.data[list(LINES).index(column)]


class Clock:
    time = 0.0

    def __call__(self):
        return self.time


class Timer:
    """One that the test fires; `due` is the time on its clock."""

    def __init__(self, wait, act):
        self.due, self.act = Clock.time + wait, act

    def start(self):
        pass


def test_two_thousand_calls_redraw_twice_a_second_and_cost_less_than_one(monkeypatch):
    """Ten seconds at 200 steps each, on our own clock.

    The best of three, for others use the processor too.
    """
    monkeypatch.setattr("threading.Timer", Timer)
    cost = []
    for _ in range(3):
        monkeypatch.setattr(Clock, "time", 0.0)
        plot = Live(batch=64, clock=Clock())
        began = time.process_time()
        for step in range(2000):
            Clock.time = step / 200
            if plot.timer and plot.timer.due <= Clock.time:
                plot.timer.act()
            plot(row(step))
        cost.append(time.process_time() - began)
        assert plot.redraws == pytest.approx(10 / EVERY_S, abs=1)
    assert min(cost) < 1


def test_the_last_row_is_shown_without_another_call():
    plot = Live()
    for step in range(5):
        plot(row(step))
    plot.timer.join(5)
    assert plot.redraws == 2
    assert list(trace(plot.widget, "loss").x) == [0, 1, 2, 3, 4]


def test_the_epochs_ends_have_retrieval_and_the_matrix():
    plot = Live(["No effusion.", "Effusion."], batch=8)
    plot(row(1))
    plot(
        row(
            2,
            val_loss=2.5,
            image_to_text_recall_1=0.4,
            similarity=[[0.9, 0.1], [0.2, 0.8]],
        )
    )
    plot(row(3))
    still = plot.figure()
    assert type(still) is go.Figure
    assert (list(trace(still, "val_loss").x), list(trace(still, "val_loss").y)) == (
        [2],
        [2.5],
    )
    assert list(trace(still, "image_to_text_recall_1").y) == [0.4]
    assert list(trace(still, "loss").x) == [1, 2, 3]
    np.testing.assert_allclose(still.data[-1].z, [[0.9, 0.1], [0.2, 0.8]])
    assert [s.y0 for s in still.layout.shapes] == [pytest.approx(np.log(8))]
    assert "ln(8)" in still.layout.title.subtitle.text


def test_a_warning_stays_until_an_epoch_ends_without_it():
    plot = Live()
    plot(row(1, warning="collapse: all look alike"))
    plot(row(2))
    assert "collapse" in plot.figure().layout.title.subtitle.text
    plot(row(3, val_loss=2.0))
    assert "collapse" not in plot.figure().layout.title.subtitle.text


def test_a_long_run_is_thinned_and_keeps_its_newest_point():
    log = pd.DataFrame([row(s) for s in range(5000)])
    x = trace(Live().replay(log).figure(), "loss").x
    assert len(x) <= POINTS
    assert x[-1] == 4999


def test_smoothing_halves_what_is_left_in_ten_steps():
    plot = Live()
    for step in range(11):
        plot(row(step) | {"loss": 1.0 if step == 0 else 0.0})
    assert trace(plot.figure(), "smoothed").y[-1] == pytest.approx(0.5)


def test_a_log_is_replayed_in_place_of_what_was_seen():
    plot = Live()
    plot(row(99, val_loss=1.0, similarity=[[1.0]]))
    log = pd.DataFrame([row(1), row(2, val_loss=2.0), row(3)])
    still = plot.replay(log).figure()
    assert list(trace(still, "loss").x) == [1, 2, 3]
    assert list(trace(still, "val_loss").x) == [2]
    assert still.data[-1].z is None
    assert "not kept" in still.layout.xaxis4.title.text


def test_rows_are_named_by_the_different_held_out_captions():
    assert list(rw.show.live(["B.", "B.", "C."]).widget.layout.yaxis4.ticktext) == [
        "B.",
        "C.",
    ]


def test_it_shows_itself_as_a_widget_and_starts_empty():
    plot = rw.show.live()
    bundle = plot._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in (
        bundle[0] if isinstance(bundle, tuple) else bundle
    )
    assert "no step yet" in plot.figure().layout.title.subtitle.text
