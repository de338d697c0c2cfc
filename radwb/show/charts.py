"""Curves, intervals, matrices and distributions."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from radwb.show.theme import COLOURS, FAINT, INK, broken, finish, plain

SYMBOLS = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "x",
    "star",
)  # a second cue beside the colour


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

    >>> rw.show.curve(run.log, panels={"loss": ["loss", "val_loss"], "retrieval, top 1": ["val_retrieval"]})

    Args:
        log: one row a step; NaN where a column was not measured.
        x: the column along the bottom.
        panels: axis title -> columns. None = columns with "loss" in one, those with
            "retrieval" or "recall" in another.
        lines: panel -> a reference value, such as ln(batch) for the loss of a guess.
    """
    panels = dict(panels or default_panels(log))
    _require_columns(log, [x, *(c for columns in panels.values() for c in columns)])
    figure = make_subplots(1, len(panels), horizontal_spacing=0.14)
    order = list(dict.fromkeys(c for columns in panels.values() for c in columns))
    for n, (axis, columns) in enumerate(panels.items(), 1):
        for column in columns:
            seen = log[[x, column]].dropna()
            style = dict(color=COLOURS[order.index(column) % 8], width=2.5)
            mode = "lines" if len(seen) > 30 else "lines+markers"
            figure.add_trace(
                go.Scatter(
                    x=seen[x], y=seen[column], name=plain(column), mode=mode, line=style
                ),
                1,
                n,
            )
        if lines and axis in lines:
            figure.add_hline(
                lines[axis], line=dict(color=FAINT, dash="dash"), row=1, col=n
            )
        figure.update_yaxes(title_text=broken(axis), col=n)
    figure.update_xaxes(title_text=broken(x))
    return finish(
        figure, title=broken(title), caption=broken(caption), width=width, height=420
    )


def default_panels(log: pd.DataFrame) -> dict[str, list[str]]:
    losses = [c for c in log.columns if "loss" in str(c)]
    found = [c for c in log.columns if "retrieval" in str(c) or "recall" in str(c)]
    panels = {
        name: columns
        for name, columns in (("loss", losses), ("retrieval", found))
        if columns
    }
    if not panels:
        raise ValueError(
            f"expected columns named loss or retrieval, got {list(log.columns)}. Try panels={{...}}."
        )
    return panels


def forest(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    value: str = "auroc",
    line: float | None = 0.5,
    x_title: str = "AUROC with 95 % interval",
    title: str = "",
    caption: str | None = None,
    width: int = 760,
    points: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
) -> go.Figure:
    """Values with their intervals, a row a finding, the named series side by side.

    >>> rw.show.forest({"zero-shot": scores.auroc(), "supervised": baseline.auroc()})

    Args:
        tables: columns finding, `value`, low, high (and n, positives, patients), as
            `Scores.auroc()` gives them.
        value: the column of the point.
        line: the value of a guess.
        caption: None = says how many images, positives and patients stand behind the
            rows, where the tables know.
        points: single values behind the means, such as one a training seed; keys,
            finding and `value` as in `tables`.
    """
    series = dict(tables) if isinstance(tables, Mapping) else {"": tables}
    for table in series.values():
        _require_columns(table, [value, "low", "high"])
    names = list(dict.fromkeys(f for t in series.values() for f in finding_column(t)))
    figure = go.Figure()
    for n, (name, table) in enumerate(series.items()):
        offset = (n - (len(series) - 1) / 2) * 0.7 / len(series)
        rows = np.array([names.index(f) for f in finding_column(table)]) + offset
        middle = table[value].to_numpy(float)
        error = dict(
            array=table["high"] - middle,
            arrayminus=middle - table["low"],
            thickness=2.5,
            width=0,
        )
        marker = dict(size=11, color=COLOURS[n % 8], symbol=SYMBOLS[n % 6])
        text = [hover_text(row, value) for _, row in table.iterrows()]
        hover = dict(
            text=text,
            hovertemplate=f"%{{text}}<extra>{plain(name)}</extra>",
            name=plain(name),
        )
        hover |= dict(showlegend=bool(name))
        figure.add_trace(
            go.Scatter(
                x=middle, y=rows, error_x=error, mode="markers", marker=marker, **hover
            )
        )
        if single := _single(points, name, value, names, offset + 0.22 / len(series)):
            look = dict(
                size=7, color=COLOURS[n % 8], symbol="circle-open", line_width=1.2
            )
            figure.add_trace(
                go.Scatter(**single, mode="markers", marker=look, showlegend=False)
            )
    ends = [
        x
        for t in series.values()
        for c in (value, "low", "high")
        for x in (t[c].min(), t[c].max())
    ]
    for trace in figure.data:
        ends += list(trace.x)
    if line is not None:
        figure.add_vline(line, line=dict(color=FAINT, dash="dash", width=1.5))
        ends.append(line)
    if caption is None:
        caption = "<br>".join(
            textwrap.wrap(behind(series), width // 8)
        )  # 8 px, a letter
    height = 150 + 26 * bool(title) + len(names) * max(44, 26 * len(series))
    finish(
        figure, title=broken(title), caption=broken(caption), width=width, height=height
    )
    shown = [plain(name) for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=shown,
        range=[len(names) - 0.5, -0.5],
        ticks="",
    )
    pad = 0.05 * (np.nanmax(ends) - np.nanmin(ends) or 1)
    return figure.update_xaxes(
        title_text=broken(x_title), range=[np.nanmin(ends) - pad, np.nanmax(ends) + pad]
    )


def _require_columns(table, names):
    missing = [str(name) for name in names if name not in table.columns]
    if missing:
        got = list(map(str, table.columns))
        raise ValueError(f"expected a table with the column {missing[0]}, got {got}")


def hover_text(row: pd.Series, value: str) -> str:
    """The number with its interval and its note."""
    interval = "" if np.isnan(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
    note = row.get("note", "")
    parts = [
        part
        for part in (interval, plain(note) if isinstance(note, str) else "")
        if part
    ]
    return f"{row[value]:.3f} ({'; '.join(parts)})" if parts else f"{row[value]:.3f}"


def _single(points, name, value, names, offset):
    """x, y and hover of the single values of one series; {} without any."""
    if points is None:
        return {}
    table = points[name] if isinstance(points, Mapping) else points
    rows = [names.index(f) + offset for f in finding_column(table)]
    hover = "%{x:.3f}<extra>" + plain(name) + "</extra>"
    return {"x": table[value], "y": rows, "hovertemplate": hover}


def finding_column(table: pd.DataFrame) -> list[str]:
    return [
        str(f)
        for f in (table["finding"] if "finding" in table.columns else table.index)
    ]


def behind(series: Mapping[str, pd.DataFrame]) -> str:
    """What stands behind the rows of a forest, in words."""
    table, parts = next(iter(series.values())), []
    table = table[[not f.startswith("mean ") for f in finding_column(table)]]
    for column in ("n", "patients", "positives", "positive_patients"):
        words = "images" if column == "n" else column.replace("_", " ")
        if column in table.columns and len(table):
            low, high = int(table[column].min()), int(table[column].max())
            if column == "patients" and high == 0:
                parts.append("patients not known")
            if column.endswith("patients") and high == 0:
                continue
            parts.append(
                f"{low:,} {words}"
                if low == high
                else f"{low:,} to {high:,} {words} a finding"
            )
    return "; ".join(parts)


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

    >>> rw.show.bars(hits, x="finding", y="hit", group="method", line=0.08, y_title="pointing hits (share)")

    Args:
        table: one row a bar; `low` and `high` are the ends of its interval.
        x, y: columns of the bar's name and height.
        group: a column; its values stand side by side in different colours.
        line: a reference value, such as chance.
    """
    figure = go.Figure()
    groups = [("", table)] if group is None else list(table.groupby(group, sort=False))
    for n, (name, part) in enumerate(groups):
        error = None
        if {"low", "high"} <= set(part.columns):
            error = dict(
                array=part["high"] - part[y],
                arrayminus=part[y] - part["low"],
                color=INK,
                thickness=1.8,
            )
        look = dict(
            marker_color=COLOURS[n % 8], name=plain(name), showlegend=group is not None
        )
        look |= (
            dict(marker_pattern_shape="/") if n >= 8 else {}
        )  # no colour means two things
        figure.add_trace(
            go.Bar(x=[plain(v) for v in part[x]], y=part[y], error_y=error, **look)
        )
    if line is not None:
        figure.add_hline(line, line=dict(color=FAINT, dash="dash", width=1.5))
    finish(figure, title=broken(title), caption=broken(caption), width=width)
    figure.update_xaxes(ticks="", showgrid=False)
    return figure.update_yaxes(title_text=broken(y_title or y)).update_layout(
        barmode="group", bargap=0.3
    )


def heatmap(
    matrix,
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

    >>> rw.show.heatmap(images @ texts.T, rows=names, columns=prompts, label="cosine similarity")

    Args:
        matrix: (R, C) array or DataFrame (its index and columns are the labels).
        rows, columns: labels; long ones are folded, and cut after the lines that fit,
            three at most.
        label: what the colours mean.
        limits: values at both ends of the colours.
        numbers: whether the value stands in each cell; None = up to 100 cells.
    """
    if isinstance(matrix, pd.DataFrame):
        rows, columns = (
            rows or list(map(str, matrix.index)),
            columns or list(map(str, matrix.columns)),
        )
    z = np.round(np.asarray(matrix, dtype=np.float32), 3)
    if z.ndim != 2 or not z.size:
        raise ValueError(f"expected a matrix (R, C) with values, got shape {z.shape}")
    numbers = z.size <= 100 if numbers is None else numbers
    low, high = limits or (None, None)
    bar = dict(
        title=dict(text=broken(label), side="right", font_size=13),
        thickness=14,
        outlinewidth=0,
    )
    look = dict(
        colorscale="Cividis",
        zmin=low,
        zmax=high,
        colorbar=bar,
        texttemplate="%{z:.2f}" if numbers else None,
    )
    figure = go.Figure(
        go.Heatmap(z=z, hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>", **look)
    )
    across = int(
        0.55 * width / z.shape[1] / 17
    )  # lines of 17 px that stand side by side in a column
    rows, columns = (
        [fold(n, lines=k) for n in names] if names is not None else None
        for names, k in ((rows, 3), (columns, min(max(across, 1), 3)))
    )
    slanted = sum(map(len, columns or ())) > width / 12
    height = int(width * min(z.shape[0] / z.shape[1], 1)) + 40 + slanted * 190
    finish(
        figure, title=broken(title), caption=broken(caption), width=width, height=height
    )
    for axis, names in ((figure.update_xaxes, columns), (figure.update_yaxes, rows)):
        axis(showgrid=False, ticks="", constrain="domain")
        if names is not None:
            axis(
                tickvals=list(range(len(names))),
                ticktext=names,
                ticklabeloverflow="allow",
            )
    figure.update_xaxes(title_text=broken(x_title), tickangle=-90 if slanted else 0)
    return figure.update_yaxes(title_text=broken(y_title), autorange="reversed")


def fold(text: str, width: int = 24, lines: int = 3) -> str:
    """A label in lines of `width` letters, ready for plotly; "<br>" in it stays a blank
    where a line may end.
    """
    words = str(text).replace("<br>", " ")
    wrapped = textwrap.wrap(words, width, max_lines=lines, placeholder=" ...")
    return "<br>".join(plain(line) for line in wrapped)


def hist(
    values,
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

    >>> rw.show.hist({"with finding": s[y == 1], "without": s[y == 0]}, x_title="score")

    Args:
        values: array, Series, or name -> array; NaN and infinities are left out.
        bins: how many, or their edges.
        density: shares of each series instead of counts.
        line: a reference value.
    """
    series = values if isinstance(values, Mapping) else {"": values}
    series = {name: np.asarray(v, dtype=float).ravel() for name, v in series.items()}
    series = {name: v[np.isfinite(v)] for name, v in series.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(series.values())), bins)
    figure = go.Figure()
    for n, (name, v) in enumerate(series.items()):
        count = np.histogram(v, edges)[0] / (max(len(v), 1) if density else 1)
        look = dict(
            name=f"{plain(name)} (n = {len(v):,})",
            showlegend=bool(name),
            marker_color=COLOURS[n % 8],
        )
        hover = "%{customdata[0]:.3g} to %{customdata[1]:.3g}: %{y:.3g}<extra></extra>"
        place = dict(
            x=(edges[:-1] + edges[1:]) / 2,
            width=np.diff(edges),
            customdata=np.stack([edges[:-1], edges[1:]], 1),
        )
        figure.add_trace(
            go.Bar(
                y=count,
                opacity=0.55 if len(series) > 1 else 1,
                hovertemplate=hover,
                **place,
                **look,
            )
        )
    if line is not None:
        figure.add_vline(line, line=dict(color=INK, dash="dash", width=1.5))
    finish(figure, title=broken(title), caption=broken(caption), width=width)
    figure.update_layout(barmode="overlay")
    return figure.update_xaxes(title_text=broken(x_title)).update_yaxes(
        title_text="share" if density else "count"
    )


def scatter(
    points,
    *,
    colour=None,
    hover: Sequence[str] | None = None,
    label: str = "",
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    caption: str = "",
    size: int = 8,
    width: int = 680,
) -> go.Figure:
    """Points in the plane, such as embeddings brought down to two dimensions.

    >>> rw.show.scatter(xy, colour=table["site"], hover=table["report"])

    Args:
        points: (N, 2) x and y.
        colour: (N,) names give a colour and a symbol each; numbers give a colour bar.
        hover: (N,) text a point.
        label: what the colours mean.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"expected points (N, 2), got {points.shape}. Try PCA(2).fit_transform(embeddings)."
        )
    for name, given in (("colour", colour), ("hover", hover)):
        if given is not None and len(given) != len(points):
            raise ValueError(
                f"expected {name} for each of the {len(points)} points, got {len(given)}"
            )
    hover = np.array(
        [plain(h) for h in hover] if hover is not None else [""] * len(points),
        dtype=object,
    )
    figure, marker = (
        go.Figure(),
        dict(size=size, opacity=0.75, line=dict(width=0.5, color="white")),
    )

    def add(rows, look, name=""):
        shown = plain(name)
        text = dict(
            text=hover[rows],
            hovertemplate=f"%{{text}}<extra>{shown}</extra>",
            name=shown,
        )
        text |= dict(showlegend=bool(name))
        figure.add_trace(
            go.Scatter(
                x=points[rows, 0],
                y=points[rows, 1],
                mode="markers",
                marker=marker | look,
                **text,
            )
        )

    colour = None if colour is None else np.asarray(colour)
    if colour is None:
        add(slice(None), dict(color=COLOURS[0]))
    elif np.issubdtype(colour.dtype, np.number) and len(np.unique(colour)) > 8:
        bar = dict(
            title=dict(text=broken(label), side="right"), thickness=14, outlinewidth=0
        )
        add(
            slice(None),
            dict(color=colour, colorscale="Cividis", colorbar=bar, showscale=True),
        )
    else:
        for n, name in enumerate(sorted(set(map(str, colour)))):
            look = dict(color=COLOURS[n % 8], symbol=SYMBOLS[n % 6])
            add(colour.astype(str) == name, look, f"{label} {name}".strip())
    finish(
        figure,
        title=broken(title),
        caption=broken(caption),
        width=width,
        height=int(width * 0.75),
    )
    return figure.update_xaxes(title_text=broken(x_title)).update_yaxes(
        title_text=broken(y_title)
    )
