"""A training run as it goes.

Loss, temperature, retrieval, and which texts the held-out images resemble.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from radwb.show.charts import fold
from radwb.show.keys import guarded
from radwb.show.stand_in import StandIn
from radwb.show.theme import (
    CAPTION,
    COLOURS,
    DASHED,
    FAINT,
    INK,
    colour_bar,
    finish,
    lines_of,
    plain,
)
from radwb.show.training_picture import training_picture

EVERY_S = 0.5  # between two redraws
POINTS = 400  # a line
ALIVE = ".widget-vbox .js-plotly-plot"  # only the living widget has it
HALF_LIFE = 10  # steps of the smoothing
SHOWN_TEXTS = 16
LETTERS = 22  # of a text beside the matrix
BOLD = CAPTION + 2  # px: bold letters of it are as wide
WORDS = 4  # lines that the caption has room for
PAIRS = "held-out texts; rows: their images"
NO_PAIRS = "cosines: drawn at an epoch's end, not kept"
LINES = {  # column of the log -> its words, colour, row and column
    "loss": ("loss, each step", FAINT, 1, 1),
    "smoothed": ("smoothed", COLOURS[0], 1, 1),
    "val_loss": ("held out", COLOURS[1], 1, 1),
    "logit_scale": ("scale", COLOURS[4], 2, 2),
    "image_to_text_recall_1": ("image to text", COLOURS[2], 2, 1),
    "text_to_image_recall_1": ("text to image", COLOURS[3], 2, 1),
}


def live(captions: Sequence[str] = (), *, batch: int | None = None) -> "Live":
    """A plot that follows the training of your model: the callback of `fit`.

    In a notebook it is a widget, too.

    >>> plot = rw.show.live(table["report"], batch=64)
    >>> plot({"step": 1, "epoch": 0, "loss": 4.1})  # `fit(callback=plot)` does it
    >>> still = plot.figure()

    Args:
        captions: of the held-out rows in their order; the first different ones name the
            rows of the similarity matrix.
        batch: draws the loss of a guess, ln(batch).
    """
    return Live(list(dict.fromkeys(captions)), batch)


class Live:
    """What `live` returns.

    A row may bring "similarity", (K, K) cosines of images and the texts of `captions`.
    """

    def __init__(self, captions=(), batch=None, *, clock=time.monotonic):
        self.batch = batch
        self.clock = clock
        self.drawn = -np.inf  # when, on the clock
        self.redraws = 0
        self.timer = None
        self.lock = threading.Lock()
        self.widget = go.FigureWidget(_empty(captions, batch))
        self.box = guarded(self.widget)
        self.stand_in = StandIn(
            self._repr_mimebundle_, self._picture, self._words, ALIVE
        )
        self._forget()

    def __call__(self, row: dict) -> None:
        """Note a row; redraw now, or half a second after the last time."""
        self._note(row)
        if self.timer is not None:
            return
        wait = self.drawn + EVERY_S - self.clock()
        if wait <= 0:
            self._draw()
        else:  # so that the last row of a run is shown too
            self.timer = threading.Timer(wait, self._draw)
            self.timer.start()

    def replay(self, log: pd.DataFrame) -> "Live":
        """Show the log of a run that is over, in place of what was seen."""
        self._forget()
        for row in log.to_dict("records"):
            self._note(row)
        self._draw()
        return self

    def figure(self) -> go.Figure:
        """A still of what has been seen, for a page without a kernel."""
        self._draw()
        return go.Figure(self.widget)

    def _ipython_display_(self):
        self.stand_in.show()

    def _repr_mimebundle_(self, **_):
        self.widget._repr_mimebundle_()  # hands what was drawn so far to the front end
        return self.box._repr_mimebundle_()

    def _forget(self):
        self.points = {name: [] for name in LINES}  # (step, value)
        self.row = {}
        self.warning = None
        self.similarity = None

    def _note(self, row):
        old = 0.5 ** (1 / HALF_LIFE)
        smoothed = self.row.get("smoothed", row["loss"])
        smoothed = old * smoothed + (1 - old) * row["loss"]
        self.row = row | {"smoothed": smoothed}
        for name, points in self.points.items():
            value = self.row.get(name, np.nan)
            if not np.isnan(value):  # a log's columns are empty within an epoch
                points.append((row["step"], value))
        warning = row.get("warning")
        epoch_ends = not np.isnan(row.get("val_loss", np.nan))
        if epoch_ends or isinstance(warning, str):
            self.warning = warning
            self.similarity = row.get("similarity", self.similarity)

    def _draw(self):
        with self.lock, self.widget.batch_update():
            self.timer = None
            self.drawn = self.clock()
            self.redraws += 1
            *lines, matrix = self.widget.data
            for trace, points in zip(lines, self.points.values(), strict=True):
                trace.x, trace.y = _thinned(points[:])  # a copy: training goes on
            pairs = self.widget.layout.xaxis4.title
            if self.similarity is None:
                matrix.z = None
                pairs.text = NO_PAIRS
            else:
                matrix.z = np.round(self.similarity, 3).tolist()
                pairs.text = PAIRS
            self.widget.layout.title.subtitle.text = self._caption()
        self.stand_in.changed()

    def _words(self):
        words = "no step yet"
        if self.row:
            words = "step {step:,}, epoch {epoch}: loss {loss:.2f}".format(**self.row)
        if "images_per_s" in self.row:
            words += f", {self.row['images_per_s']:,.0f} images a second"
        if self.batch:
            words += f"; dashed: ln({self.batch}), the loss of a guess"
        return words

    def _caption(self):
        lines = [plain(line) for line in lines_of(self._words(), CAPTION)]
        if isinstance(self.warning, str):
            for line in lines_of(f"warning: {self.warning}", BOLD):
                lines.append(f"<b>{plain(line)}</b>")
        return "<br>".join(lines)

    def _picture(self):
        lines = [self._words()]
        if isinstance(self.warning, str):
            lines.append(f"warning: {self.warning}")
        curves = [(*LINES[name][:2], points) for name, points in self.points.items()]
        return "image/png", training_picture(curves, lines)


def _thinned(points):
    """(2, n) steps and values, at most `POINTS`, the newest among them."""
    every = max(1, -(-len(points) // POINTS))
    newest_first = np.array(points).reshape(-1, 2)[::-every]
    return newest_first[::-1].T


def _empty(captions, batch):
    """The four panels before the first step."""
    # what has long labels has a row of its own: in a narrow cell nothing stands beside
    figure = make_subplots(
        3,
        2,
        specs=[[{"colspan": 2}, None], [{}, {}], [{"colspan": 2}, None]],
        row_heights=[0.3, 0.24, 0.46],
        horizontal_spacing=0.3,
        vertical_spacing=0.12,
    )
    for column, (name, colour, row, col) in LINES.items():
        line = _line(column, colour)
        figure.add_scatter(name=name, showlegend=col == 1, row=row, col=col, **line)
    figure.data[0].update(line_width=1, opacity=0.5)
    bar = colour_bar("cosine", thickness=12, outlinewidth=1, title_font_size=14)
    bar |= dict(len=0.38, y=0, yanchor="bottom")
    look = dict(colorscale="Cividis", zmin=-0.5, zmax=1, colorbar=bar)
    figure.add_heatmap(row=3, col=1, **look)
    if batch:
        figure.add_hline(np.log(batch), line=DASHED | dict(color=INK), row=1, col=1)
    title = "Training, as it goes"
    notes = [" "] * WORDS
    finish(figure, title=title, notes=notes, width=840, height=800, x_title="step")
    axes = figure.layout
    axes.yaxis.title.text = "loss (nats)"
    axes.yaxis2.update(title_text="partner first", range=[0, 1.02])
    axes.yaxis3.title.text = "1 / temperature"
    axes.xaxis2.nticks = axes.xaxis3.nticks = 4
    names = [fold(text, LETTERS, lines=1) for text in captions[:SHOWN_TEXTS]]
    bare = dict(showgrid=False, ticks="", tickfont_size=11)
    axes.xaxis4.update(title_text=PAIRS, showticklabels=False, **bare)
    ticks = list(range(len(names)))
    axes.yaxis4.update(autorange="reversed", tickvals=ticks, ticktext=names, **bare)
    return figure


def _line(column, colour):
    """Its look: what is measured once an epoch is marked, one of two is dotted."""
    look = dict(
        mode="lines",
        line=dict(color=colour, width=2.5),
        marker=dict(size=9, symbol="circle"),
    )
    if column.startswith(("val", "image", "text")):
        look["mode"] = "lines+markers"
    if column.startswith("text"):
        look["line"]["dash"] = "dot"
        look["marker"]["symbol"] = "diamond"
    return look
