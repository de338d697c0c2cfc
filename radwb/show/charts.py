"""Curves, bars, matrices and distributions.

Drawn with plotly.graph_objects: plotly.express writes column names into hover texts
as markup and would need as many lines to take them out again.
"""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from radwb.show.theme import (
    COLOURS,
    DASHED,
    FAINT,
    INK,
    NARROW,
    broken,
    colour_bar,
    finish,
    plain,
)

LABEL = 12  # px, the type of a matrix' labels
LINE_PX = 14  # a line of a label
LONG_ROW = 20  # letters of a label's line beside a row


def curve(
    log: pd.DataFrame,
    *,
    x: str = "step",
    panels: Mapping[str, Sequence[str]] | None = None,
    lines: Mapping[str, float] | None = None,
    title: str = "",
    caption: str = "",
    width: int = 760,
) -> go.Figure:
    """A training log, one panel a unit, all over the same x.

    >>> log = pd.DataFrame({"step": [1, 2, 3], "loss": [4.1, 3.6, 3.2]})
    >>> figure = rw.show.curve(log, panels={"loss in nats": ["loss"]})

    Args:
        log: one row a step; NaN where a column was not measured.
        x: the column along the bottom.
        panels: axis title -> columns. None = columns with "loss" in one, those with
            "retrieval" or "recall" in another.
        lines: panel -> a reference value, such as ln(batch) for the loss of a guess.
        title: says the finding.
        caption: stands below the title.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    panels = panels or _default_panels(log)
    columns = list(dict.fromkeys(chain.from_iterable(panels.values())))
    require_columns(log, [x, *columns])
    references = lines or {}
    figure = make_subplots(1, len(panels), horizontal_spacing=0.19)
    for n, (axis, names) in enumerate(panels.items(), 1):
        for name in names:
            colour = COLOURS[columns.index(name) % 8]
            figure.add_trace(_measured(log[[x, name]].dropna(), colour), 1, n)
        if axis in references:
            line = dict(color=FAINT, dash="dash")
            figure.add_hline(references[axis], line=line, row=1, col=n)
        figure.update_yaxes(title_text=broken(axis), col=n)
    return finish(figure, title=title, caption=caption, width=width, x_title=x)


def _measured(rows, colour):
    """The second column over the first; few points are marked one by one."""
    x, y = rows.columns
    mode = "lines" if len(rows) > 30 else "lines+markers"
    return go.Scatter(
        x=rows[x],
        y=rows[y],
        name=plain(y),
        mode=mode,
        line=dict(color=colour, width=2.5),
    )


def _default_panels(log):
    panels = {
        "loss": list(log.filter(like="loss")),
        "retrieval": list(log.filter(regex="retrieval|recall")),
    }
    filled = {axis: columns for axis, columns in panels.items() if columns}
    if not filled:
        raise ValueError(
            f"expected columns named loss or retrieval, got {list(log.columns)}. "
            "Try panels={...}."
        )
    return filled


def require_columns(table, names):
    missing = [str(name) for name in names if name not in table.columns]
    if missing:
        columns = [str(name) for name in table.columns]
        raise ValueError(
            f"expected a table with the column {missing[0]}, got {columns}"
        )


def bars(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: str | None = None,
    line: float | None = None,
    y_title: str = "",
    title: str = "",
    caption: str = "",
    width: int = 720,
) -> go.Figure:
    """Bars, with intervals where the table has the columns low and high.

    >>> hits = pd.DataFrame({"method": ["rollout", "random"], "hit": [0.4, 0.08]})
    >>> figure = rw.show.bars(hits, x="method", y="hit", line=0.08)

    Args:
        table: one row a bar; `low` and `high` are the ends of its interval.
        x: the column of the bar's name.
        y: the column of its height.
        group: a column; its values stand side by side in different colours.
        line: a reference value, such as chance.
        y_title: of the axis; "" = the column's name.
        title: says the finding.
        caption: stands below the title.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    groups = [("", table)]
    if group is not None:
        groups = list(table.groupby(group, sort=False))
    figure = go.Figure()
    for n, (name, part) in enumerate(groups):
        bar = go.Bar(
            x=[plain(value) for value in part[x]],
            y=part[y],
            marker_color=COLOURS[n % 8],
            name=plain(name),
            showlegend=group is not None,
        )
        if {"low", "high"} <= set(part.columns):
            bar.error_y = dict(
                array=part["high"] - part[y],
                arrayminus=part[y] - part["low"],
                color=INK,
                thickness=1.8,
            )
        if n >= len(COLOURS):  # no colour means two things
            bar.marker.pattern.shape = "/"
        figure.add_trace(bar)
    if line is not None:
        figure.add_hline(line, line=DASHED)
    figure.update_xaxes(ticks="", showgrid=False)
    figure.update_layout(barmode="group", bargap=0.3)
    return finish(
        figure, title=title, caption=caption, width=width, y_title=y_title or y
    )


def heatmap(
    matrix: np.ndarray | pd.DataFrame,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    label: str = "",
    x_title: str = "",
    y_title: str = "",
    limits: tuple[float, float] | None = None,
    numbers: bool | None = None,
    title: str = "",
    caption: str = "",
    width: int = 640,
) -> go.Figure:
    """A matrix in colours, such as the similarity of images and texts.

    >>> figure = rw.show.heatmap(Z[:4] @ Z[:4].T, label="cosine similarity")

    Args:
        matrix: (R, C) array or DataFrame (its index and columns are the labels).
        rows: labels; long ones are folded, and cut after the lines that fit, three at
            most.
        columns: labels, as those of the rows.
        label: what the colours mean.
        x_title: of the axis below.
        y_title: of the axis to the left.
        limits: values at both ends of the colours.
        numbers: whether the value stands in each cell; None = up to 100 cells.
        title: says the finding.
        caption: stands below the title.
        width: px that suit it; in a notebook it is as wide as its cell.
    Raises:
        ValueError: the matrix isn't (R, C), or has no values.
    """
    if isinstance(matrix, pd.DataFrame):
        rows = rows or list(matrix.index)
        columns = columns or list(matrix.columns)
    z = np.round(np.asarray(matrix, dtype=np.float32), 3)
    if z.ndim != 2 or not z.size:
        raise ValueError(f"expected a matrix (R, C) with values, got shape {z.shape}")
    R, C = z.shape
    if numbers is None:
        numbers = z.size <= 100
    low, high = limits or (None, None)
    written = "%{z:.2f}" if numbers else None
    picture = go.Heatmap(
        z=z,
        hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        colorscale="Cividis",
        zmin=low,
        zmax=high,
        colorbar=colour_bar(label, title_font_size=13),
        texttemplate=written,
    )
    figure = go.Figure(picture)
    beside = int(0.45 * NARROW / C / LINE_PX)  # lines that a column's width holds
    columns = _folded(columns, min(max(beside, 1), 3))
    slanted = sum(map(len, columns)) > width / 12
    _label(figure.update_xaxes, columns, autotickangles=[0, -90])
    _label(figure.update_yaxes, _folded(rows, 3, LONG_ROW), autorange="reversed")
    return finish(
        figure,
        title=title,
        caption=caption,
        width=width,
        height=int(width * min(R / C, 1)) + 40 + 190 * slanted,
        x_title=x_title,
        y_title=y_title,
    )


def _folded(names, lines, width=24):
    return [fold(name, width, lines) for name in names or ()]


def _label(update_axes, names, **more):
    """Names in place of an axis' numbers, where there are names."""
    look = dict(showgrid=False, ticks="", constrain="domain", tickfont_size=LABEL)
    update_axes(**look, **more)
    if names:
        ticks = list(range(len(names)))
        update_axes(tickvals=ticks, ticktext=names, ticklabeloverflow="allow")


def fold(text, width=24, lines=3):
    """A label in lines of `width` letters, ready for plotly.

    "<br>" in it is a blank where a line may end.
    """
    words = str(text).replace("<br>", " ")
    wrapped = textwrap.wrap(words, width, max_lines=lines, placeholder=" ...")
    return "<br>".join(plain(line) for line in wrapped)


def hist(
    values: np.ndarray | pd.Series | Mapping[str, np.ndarray],
    *,
    bins: int | Sequence[float] = 30,
    density: bool = False,
    line: float | None = None,
    x_title: str = "",
    title: str = "",
    caption: str = "",
    width: int = 720,
) -> go.Figure:
    """How values are spread, several named series over one another on the same bins.

    >>> ages = {"ill": table["age_years"][y == 1], "well": table["age_years"][y == 0]}
    >>> figure = rw.show.hist(ages, x_title="age (years)")

    Args:
        values: array, Series, or name -> array; NaN and infinities are left out.
        bins: how many, or their edges.
        density: shares of each series instead of counts.
        line: a reference value.
        x_title: of the axis below; say the unit.
        title: says the finding.
        caption: stands below the title.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    what = "share" if density else "count"
    by_name = values if isinstance(values, Mapping) else {"": values}
    series = {name: _finite(numbers) for name, numbers in by_name.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(series.values())), bins)
    ends = np.stack([edges[:-1], edges[1:]], 1)  # (bins, 2)
    hover = "%{customdata[0]:.3g} to %{customdata[1]:.3g}: %{y:.3g}<extra></extra>"
    opacity = 0.55 if len(series) > 1 else 1
    figure = go.Figure()
    for n, (name, numbers) in enumerate(series.items()):
        heights = np.histogram(numbers, edges)[0]
        if density:
            heights = heights / max(len(numbers), 1)
        bar = go.Bar(
            x=ends.mean(1),
            y=heights,
            width=np.diff(edges),
            customdata=ends,
            hovertemplate=hover,
            opacity=opacity,
            name=f"{plain(name)} (n = {len(numbers):,})",
            showlegend=bool(name),
            marker_color=COLOURS[n % 8],
        )
        figure.add_trace(bar)
    if line is not None:
        figure.add_vline(line, line=DASHED | dict(color=INK))
    figure.update_layout(barmode="overlay")
    return finish(
        figure,
        title=title,
        caption=caption,
        width=width,
        x_title=x_title,
        y_title=what,
    )


def _finite(values):
    numbers = np.asarray(values, dtype=float).ravel()
    return numbers[np.isfinite(numbers)]
