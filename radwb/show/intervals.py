"""Values with their intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from radwb.show.charts import require_columns
from radwb.show.theme import DASHED, finish, plain, series_mark

SHARE = 0.7  # of a row's height that its series take
BESIDE = 0.22  # of it: how far single values lie below their mean


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

    >>> figure = rw.show.forest({"zero-shot": scores.auroc()})

    Args:
        tables: columns finding, `value`, low, high (and n, positives, patients), as
            `Scores.auroc()` gives them.
        value: the column of the point.
        line: the value of a guess.
        x_title: of the axis below.
        title: says the finding.
        caption: None = says how many images, positives and patients stand behind the
            rows, where the tables know.
        width: px that suit it; in a notebook it is as wide as its cell.
        points: single values behind the means, such as one a training seed; keys,
            finding and `value` as in `tables`.
    """
    series = tables if isinstance(tables, Mapping) else {"": tables}
    for table in series.values():
        require_columns(table, [value, "low", "high"])
    every = [name for table in series.values() for name in finding_column(table)]
    findings = list(dict.fromkeys(every))
    figure = go.Figure()
    for n, (name, table) in enumerate(series.items()):
        offset = (n - (len(series) - 1) / 2) * SHARE / len(series)
        mark = series_mark(n)
        rows = _rows(table, findings, offset)
        figure.add_trace(_intervals(table, value, rows, plain(name), mark))
        if points is not None:
            single = points[name] if isinstance(points, Mapping) else points
            rows = _rows(single, findings, offset + BESIDE / len(series))
            figure.add_trace(_dots(single[value], rows, plain(name), mark["color"]))
    limits = _limits(figure, series.values(), value, line)
    if line is not None:
        figure.add_vline(line, line=DASHED)
    if caption is None:
        caption = numbers_behind(next(iter(series.values())))
    names = [plain(finding) for finding in findings]
    ticks = list(range(len(names)))
    bottom_up = [len(names) - 0.5, -0.5]  # the first finding on top
    figure.update_yaxes(tickvals=ticks, ticktext=names, range=bottom_up, ticks="")
    figure.update_xaxes(range=limits)
    height = 150 + 26 * bool(title) + len(names) * max(44, 26 * len(series))
    return finish(
        figure,
        title=title,
        caption=caption,
        width=width,
        height=height,
        x_title=x_title,
    )


def _rows(table, findings, offset):
    return np.array([findings.index(name) for name in finding_column(table)]) + offset


def _intervals(table, value, rows, name, mark):
    middle = table[value].to_numpy(float)
    return go.Scatter(
        x=middle,
        y=rows,
        error_x=dict(
            array=table["high"] - middle,
            arrayminus=middle - table["low"],
            thickness=2.5,
            width=0,
        ),
        mode="markers",
        marker=dict(size=11, **mark),
        text=[hover_text(row, value) for _, row in table.iterrows()],
        hovertemplate=f"%{{text}}<extra>{name}</extra>",
        name=name,
        showlegend=bool(name),
    )


def _dots(values, rows, name, colour):
    """Single values, small and empty, below their mean."""
    return go.Scatter(
        x=values,
        y=rows,
        mode="markers",
        marker=dict(size=7, color=colour, symbol="circle-open", line_width=1.2),
        hovertemplate=f"%{{x:.3f}}<extra>{name}</extra>",
        showlegend=False,
    )


def _limits(figure, tables, value, line):
    """What the axis must hold, with room at both ends."""
    numbers = [table[[value, "low", "high"]].to_numpy(float) for table in tables]
    numbers += [np.asarray(trace.x, dtype=float) for trace in figure.data]
    if line is not None:
        numbers.append(np.array([line]))
    every = np.concatenate([part.ravel() for part in numbers])
    low = np.nanmin(every)
    high = np.nanmax(every)
    pad = 0.05 * (high - low or 1)
    return [low - pad, high + pad]


def hover_text(row, value):
    """The number with its interval and its note."""
    text = f"{row[value]:.3f}"
    parts = []
    if not np.isnan(row["low"]):
        parts.append(f"{row['low']:.3f} to {row['high']:.3f}")
    note = row.get("note")
    if note and isinstance(note, str):
        parts.append(plain(note))
    return f"{text} ({'; '.join(parts)})" if parts else text


def finding_column(table):
    return [str(name) for name in table.get("finding", table.index)]


def numbers_behind(table):
    """How many images, patients and positives stand behind a table's rows, in words."""
    means = [name.startswith("mean ") for name in finding_column(table)]
    rows = table[~np.array(means, dtype=bool)]
    parts = []
    for column in ("n", "patients", "positives", "positive_patients"):
        if column not in rows.columns or not len(rows):
            continue
        low = int(rows[column].min())
        high = int(rows[column].max())
        words = "images" if column == "n" else column.replace("_", " ")
        if column.endswith("patients") and high == 0:
            if column == "patients":
                parts.append("patients not known")
        elif low == high:
            parts.append(f"{low:,} {words}")
        else:
            parts.append(f"{low:,} to {high:,} {words} a finding")
    return "; ".join(parts)
