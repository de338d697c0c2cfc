"""A cohort's way as a flow chart: what is left down the middle, what is lost beside."""

import pandas as pd
import plotly.graph_objects as go

from radwb.show.theme import CAPTION, COLOURS, FAINT, INK, finish, lines_of, plain

LINE = 19  # px
PAD = 9  # px above and below the words of a box
GAP = 26  # px between two boxes of the way
WIDEST = 160  # px of words in a box, in the narrowest cell
LEFT, RIGHT = (0.0, 0.49), (0.55, 1.0)


def flow(
    steps: pd.DataFrame,
    *,
    parts: pd.DataFrame | None = None,
    title: str = "",
    caption: str = "",
    width: int = 720,
) -> go.Figure:
    """How many films went in, how many were lost at which step, and why.

    >>> way = rw.curate.Flow("films", table)
    >>> figure = rw.show.flow(way.steps, parts=way.parts, title="Nobody was lost")

    Args:
        steps: a row a step, as `rw.curate.Flow` counts them.
        parts: films and patients of train, val and test, drawn below.
        title: says the finding.
        caption: stands below the title.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    figure = go.Figure()
    top = 0
    for n, step in enumerate(steps.to_dict("records")):
        if n:
            top = _lost(figure, step, top)
        top = _box(figure, LEFT, top, _words(step["step"], step), COLOURS[0])
    if parts is not None and len(parts):
        top = _parts(figure, parts, top)
    figure.update_xaxes(visible=False, range=[-0.005, 1.005], fixedrange=True)
    figure.update_yaxes(visible=False, range=[top + 2, -2], fixedrange=True)
    # a figure without a trace has no axes to lay its boxes on
    figure.add_scatter(x=[None], y=[None], showlegend=False)
    frame = dict(title=title, caption=caption, width=width, height=top + 100)
    finish(figure, **frame, legend=False)
    margin = figure.layout.margin
    margin.update(l=16, r=16, b=16)
    return figure.update_layout(height=top + margin.t + margin.b)


def _words(name, counted):
    patients = counted["patients"]
    known = "" if pd.isna(patients) else f", {int(patients):,} patients"
    lines = lines_of(name, CAPTION, WIDEST)
    count = f"n = {counted['films']:,}{known}"
    return [*map(plain, lines), *map(plain, lines_of(count, CAPTION, WIDEST))]


def _lost(figure, step, top):
    """The arrow to the next step, with what is lost on the way; where that begins."""
    middle = sum(LEFT) / 2
    words = []
    for reason, films in step["why"].items():
        words += map(plain, lines_of(f"{films:,} {reason}", CAPTION, WIDEST))
    if not words:
        _arrow(figure, (middle, top), (middle, top + GAP))
        return top + GAP
    bottom = _box(figure, RIGHT, top + GAP / 2, words, FAINT, align="left")
    end = bottom + GAP / 2
    level = (top + end) / 2
    _arrow(figure, (middle, top), (middle, end))
    _arrow(figure, (middle, level), (RIGHT[0], level))
    return end


def _parts(figure, parts, top):
    middle = sum(LEFT) / 2
    width = 1.02 / len(parts)
    begin = top + 2 * GAP
    figure.add_shape(type="line", x0=middle, x1=middle, y0=top, y1=top + GAP)
    bottoms = []
    for n, part in enumerate(parts.to_dict("records")):
        left, right = n * width, (n + 1) * width - 0.02
        centre = (left + right) / 2
        line = dict(x0=centre, x1=middle, y0=top + GAP, y1=top + GAP)
        figure.add_shape(type="line", **line)
        _arrow(figure, (centre, top + GAP), (centre, begin))
        words = [plain(part["part"]), f"n = {part['films']:,}"]
        if not pd.isna(part["patients"]):
            words.append(f"{int(part['patients']):,} patients")
        box = _box(figure, (left, right), begin, words, COLOURS[2])
        bottoms.append(box)
    figure.update_shapes(line=dict(color=FAINT, width=1.5), selector=dict(type="line"))
    return max(bottoms)


def _box(figure, sides, top, words, colour, align="center"):
    """A box of these lines; its lower edge."""
    left, right = sides
    bottom = top + 2 * PAD + LINE * len(words)
    edge = dict(color=colour, width=1.5)
    figure.add_shape(
        type="rect", x0=left, x1=right, y0=top, y1=bottom, line=edge, fillcolor="white"
    )
    centred = align == "center"
    figure.add_annotation(
        x=(left + right) / 2 if centred else left,
        xanchor="center" if centred else "left",
        xshift=0 if centred else PAD,
        y=(top + bottom) / 2,
        text="<br>".join(words),
        align=align,
        showarrow=False,
        font=dict(size=CAPTION, color=INK),
    )
    return bottom


def _arrow(figure, start, end):
    figure.add_annotation(
        ax=start[0],
        ay=start[1],
        x=end[0],
        y=end[1],
        xref="x",
        yref="y",
        axref="x",
        ayref="y",
        arrowhead=2,
        arrowwidth=1.5,
        arrowcolor=FAINT,
        text="",
    )
