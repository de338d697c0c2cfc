"""A training run as it goes: loss, temperature, retrieval, and which texts the held-out
images resemble.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from radwb.show.charts import fold
from radwb.show.theme import COLOURS, FAINT, INK, finish, plain

EVERY_S, POINTS, HALF_LIFE = (
    0.5,
    400,
    10,
)  # seconds between redraws; points a line; steps of the smoothing
PAIRS = "held-out texts; rows: their images"
LINES = {  # column of the log -> its words, colour, row and column
    "loss": ("loss, each step", FAINT, 1, 1),
    "smoothed": ("smoothed", COLOURS[0], 1, 1),
    "val_loss": ("held out", COLOURS[1], 1, 1),
    "logit_scale": ("scale", COLOURS[4], 1, 2),
    "image_to_text_recall_1": ("image to text", COLOURS[2], 2, 1),
    "text_to_image_recall_1": ("text to image", COLOURS[3], 2, 1),
}


def live(captions: Sequence[str] = (), *, batch: int | None = None) -> "Live":
    """A plot that follows `fit`: its callback, and a widget in a notebook.

    >>> held_out = table.loc[table["split"] == "val", "report"].map(rw.pretrain.caption_of)
    >>> plot = rw.show.live(held_out, batch=64); display(plot)
    >>> run = rw.pretrain.fit(table, out="../runs/a", batch=64, callback=plot)
    >>> plot.replay(run.log).figure()              # a still; the replay is for a run that was taken as it is

    Args:
        captions: of the held-out rows in their order; the first different ones name the
            rows of the similarity matrix.
        batch: draws the loss of a guess, ln(batch).
    """
    return Live(list(dict.fromkeys(captions)), batch)


class Live:
    """What `live` returns. A row may bring "similarity", (K, K) cosines of images and
    the texts of `captions`.
    """

    def __init__(self, captions=(), batch=None, *, clock=time.monotonic):
        self.batch, self.clock, self.drawn, self.redraws, self.timer = (
            batch,
            clock,
            -np.inf,
            0,
            None,
        )
        self.lock, self.widget = (
            threading.Lock(),
            go.FigureWidget(_empty(captions, batch)),
        )
        self._repr_mimebundle_ = self.widget._repr_mimebundle_
        self._forget()

    def __call__(self, row: dict) -> None:
        """Note a row; redraw now, or once half a second has passed since the last time."""
        self._note(row)
        wait = self.drawn + EVERY_S - self.clock()
        if self.timer is None and wait <= 0:
            self._draw()
        elif self.timer is None:  # so that the last row of a run is shown too
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

    def _forget(self):
        self.seen, self.row, self.warning, self.similarity = (
            {n: [] for n in LINES},
            {},
            None,
            None,
        )

    def _note(self, row):
        keep, old = 0.5 ** (1 / HALF_LIFE), self.row.get("smoothed", row["loss"])
        self.row = row | {"smoothed": keep * old + (1 - keep) * row["loss"]}
        for name in LINES:
            if not np.isnan(
                self.row.get(name, np.nan)
            ):  # a log's columns are empty within an epoch
                self.seen[name].append((row["step"], self.row[name]))
        if not np.isnan(row.get("val_loss", np.nan)) or isinstance(
            row.get("warning"), str
        ):  # an epoch ends
            self.warning, self.similarity = (
                row.get("warning"),
                row.get("similarity", self.similarity),
            )

    def _draw(self):
        with self.lock, self.widget.batch_update():
            self.timer, self.drawn, self.redraws = None, self.clock(), self.redraws + 1
            for trace, name in zip(self.widget.data, LINES, strict=False):
                points = np.array(self.seen[name][:]).reshape(
                    -1, 2
                )  # a copy: training goes on
                trace.x, trace.y = points[:: -max(1, -(-len(points) // POINTS))][
                    ::-1
                ].T  # with the newest
            known = self.similarity is not None
            self.widget.data[len(LINES)].z = (
                np.round(self.similarity, 3).tolist() if known else None
            )
            self.widget.layout.xaxis4.title.text = (
                PAIRS if known else "cosines: drawn at an epoch's end, not kept"
            )
            said = (
                "step {step:,}, epoch {epoch}: loss {loss:.2f}".format(**self.row)
                if self.row
                else "no step yet"
            )
            said += (
                f", {self.row['images_per_s']:,.0f} images a second"
                if "images_per_s" in self.row
                else ""
            )
            said += (
                f"; dashed: ln({self.batch}), the loss of a guess" if self.batch else ""
            )
            said = plain(said)
            said += (
                f"<br><b>warning: {plain(self.warning)}</b>"
                if isinstance(self.warning, str)
                else "<br>"
            )
            self.widget.layout.title.subtitle.text = said


def _empty(captions, batch):
    figure = make_subplots(2, 2, horizontal_spacing=0.24, vertical_spacing=0.14)
    for column, (name, colour, r, c) in LINES.items():
        mode = (
            "lines+markers" if column.startswith(("val", "image", "text")) else "lines"
        )
        dash, symbol = (
            ("dot", "diamond") if column.startswith("text") else (None, "circle")
        )
        look = dict(
            line=dict(color=colour, width=2.5, dash=dash),
            marker=dict(size=9, symbol=symbol),
            mode=mode,
        )
        figure.add_scatter(name=name, showlegend=c == 1, row=r, col=c, **look)
    figure.data[0].update(line_width=1, opacity=0.5)
    bar = dict(
        title=dict(text="cosine", side="right", font_size=14),
        thickness=12,
        len=0.44,
        y=0,
        yanchor="bottom",
    )
    figure.add_heatmap(
        colorscale="Cividis", zmin=-0.5, zmax=1, colorbar=bar, row=2, col=2
    )
    if batch:
        figure.add_hline(
            np.log(batch), line=dict(color=INK, dash="dash", width=1.5), row=1, col=1
        )
    finish(
        figure, title="Training, as it goes", caption=" <br> ", width=960, height=640
    )
    figure.update_xaxes(title_text="step").update_yaxes(range=[0, 1.02], row=2, col=1)
    for n, title in enumerate(
        ("loss (nats)", "scale (1 / temperature)", "own partner first (share)", "")
    ):
        figure.update_yaxes(title_text=title, row=n // 2 + 1, col=n % 2 + 1)
    names = [fold(t, 26, lines=1) for t in captions[:16]]
    bare = dict(showgrid=False, ticks="", tickfont_size=12, row=2, col=2)
    figure.update_xaxes(title_text=PAIRS, showticklabels=False, **bare)
    return figure.update_yaxes(
        autorange="reversed", tickvals=list(range(len(names))), ticktext=names, **bare
    )
