"""Points in the plane."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from radwb.show.theme import COLOURS, colour_bar, finish, plain, series_mark

MANY = 8  # different numbers from which on colours are a scale and no names


def scatter(
    points: np.ndarray,
    *,
    colour: Sequence | None = None,
    hover: Sequence[str] | None = None,
    label: str = "",
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    caption: str = "",
    size: int = 8,
    width: int = 680,
) -> go.Figure:
    """Points in the plane: your own embeddings in two dimensions, coloured by a column.

    >>> figure = rw.show.scatter(Z[:, :2], colour=table["site"], hover=table["report"])

    Args:
        points: (N, 2) x and y.
        colour: (N,) names give a colour and a symbol each; numbers give a colour bar.
        hover: (N,) text a point.
        label: what the colours mean.
        x_title: of the axis below.
        y_title: of the axis to the left.
        title: says the finding.
        caption: stands below the title.
        size: of a point, px.
        width: px that suit it; in a notebook it is as wide as its cell.
    Raises:
        ValueError: points that aren't (N, 2), or colours or texts for another number.
    """
    xy = np.asarray(points, dtype=np.float32)
    _require_points(xy, colour=colour, hover=hover)
    texts = np.full(len(xy), "", dtype=object)
    if hover is not None:
        texts[:] = [plain(text) for text in hover]
    figure = go.Figure()
    for rows, name, look in _groups(colour, label):
        name = plain(name)
        outline = dict(width=0.5, color="white")
        trace = go.Scatter(
            x=xy[rows, 0],
            y=xy[rows, 1],
            mode="markers",
            marker=dict(size=size, opacity=0.75, line=outline, **look),
            text=texts[rows],
            hovertemplate=f"%{{text}}<extra>{name}</extra>",
            name=name,
            showlegend=bool(name),
        )
        figure.add_trace(trace)
    return finish(
        figure,
        title=title,
        caption=caption,
        width=width,
        height=int(width * 0.75),
        x_title=x_title,
        y_title=y_title,
    )


def _require_points(points, **columns):
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"expected points (N, 2), got {points.shape}. "
            "Try PCA(2).fit_transform(embeddings)."
        )
    N = len(points)
    for name, values in columns.items():
        if values is not None and len(values) != N:
            raise ValueError(
                f"expected {name} for each of the {N} points, got {len(values)}"
            )


def _groups(colour, label):
    """(rows, name, look of the marker) of each group of points."""
    if colour is None:
        return [(slice(None), "", dict(color=COLOURS[0]))]
    values = np.asarray(colour)
    if np.issubdtype(values.dtype, np.number) and len(np.unique(values)) > MANY:
        look = dict(color=values, colorscale="Cividis", showscale=True)
        return [(slice(None), "", look | dict(colorbar=colour_bar(label)))]
    names = values.astype(str)
    return [
        (names == name, f"{label} {name}".strip(), series_mark(n))
        for n, name in enumerate(sorted(set(names)))
    ]
