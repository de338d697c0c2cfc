"""Scans, and maps laid over them, in their true aspect and in millimetres."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import get_colorscale
from plotly.subplots import make_subplots

from radwb.data.scan import Scan
from radwb.show.badges import badge_lines
from radwb.show.mix import (
    ALPHA,
    MAP_COLOURS,
    MAX_SIDE,
    RIGHT_MARK,
    data_uri,
    level_of,
    map_image,
    shrink,
    to_bytes,
)
from radwb.show.outlines import Truth, draw_outlines, extent
from radwb.show.theme import (
    EDGE,
    FAINT,
    NARROW,
    colour_bar,
    finish,
    lines_of,
    plain,
)

HEADING = 11  # px
BAR = 44  # px that a colour bar below a contact sheet takes
# beside the scans it would take a fifth of a narrow cell
BELOW = dict(
    orientation="h",
    xref="container",
    x=0.03,
    xanchor="left",
    yref="container",
    y=0,
    yanchor="bottom",
    lenmode="pixels",
    len=200,
    ypad=4,
)


def scan(
    scan: Scan | np.ndarray,
    *,
    truth: Truth = False,
    title: str = "",
    caption: str = "",
    width: int = 560,
) -> go.Figure:
    """One scan with its axes in millimetres (px where the spacing is unknown).

    >>> figure = rw.show.scan(scan, truth=True, title="Where the effusion was planted")

    Args:
        scan: what to show; an (H, W) array in [0, 1] will do.
        truth: True outlines every mask of `scan.truth`; a finding's name, an (H, W)
            mask, or {name: mask} outlines that.
        title: says the finding.
        caption: is added to what the scan says of itself; the place for a CT's window.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    film = as_scan(scan)
    figure = go.Figure(grey_trace(film))
    draw_outlines(figure, film, truth)
    return _framed(figure, film, title=title, caption=caption, width=width)


def overlay(
    scan: Scan | np.ndarray,
    map: object,
    *,
    truth: Truth = False,
    title: str | None = None,
    caption: str = "",
    label: str = "map value",
    alpha: float = ALPHA,
    limits: tuple[float, float] | None = None,
    width: int = 620,
) -> go.Figure:
    """A map laid over its scan: low values are clear, high values opaque.

    A `Map` brings its sanity badge into the caption, or the words that it was not
    checked; the colour bar says which colour is which value.

    >>> figure = rw.show.overlay(scan, mask.astype(float), truth="Pleural Effusion")

    Args:
        scan: the scan that the map belongs to.
        map: a `Map` or an array (H, W) in the pixels of the scan.
        truth: as in `scan`.
        title: None = the map's method and target.
        caption: is added to what the scan says of itself.
        label: the colour bar's title.
        alpha: opacity of the highest value.
        limits: values at both ends of the colours; None = the map's own range, so
            compare maps by place, not by colour.
        width: px that suit it; in a notebook it is as wide as its cell.
    Raises:
        ValueError: the map isn't in the pixels of the scan.
    """
    film = as_scan(scan)
    values = map_values(map, film)
    low, high = limits or own_range(values)
    picture = map_trace(values, film, low, high, alpha)
    figure = go.Figure([grey_trace(film), picture, _colour_bar(low, high, label)])
    draw_outlines(figure, film, truth)
    if title is None:
        title = _map_title(map)
    return _framed(
        figure,
        film,
        title=title,
        caption=caption,
        width=width,
        right=110,
        badges=badge_lines([map]),
    )


def _map_title(map):
    target = getattr(map, "target", "")
    if isinstance(target, tuple):
        target = " vs ".join(str(part) for part in target)
    parts = [getattr(map, "method", ""), target]
    return ": ".join(str(part) for part in parts if part)


def _framed(
    figure,
    scan,
    *,
    title,
    caption,
    width,
    right=24,
    badges=(),
):
    """Axes, the aspect, the patient's side and the caption of a single scan.

    Args:
        right: px that the axes leave at the right, for a colour bar.
        badges: lines below the caption.
    """
    height, across = extent(scan)
    words = [str(part)[:64] for part in (scan.modality, scan.view) if part]
    if caption:
        words.append(caption)
    if scan.spacing_mm:
        words.append("pixels {:.3g} x {:.3g} mm".format(*scan.spacing_mm))
    else:
        words.append("spacing unknown")
    tall = (width - 64 - right) * height / across
    axis = dict(constrain="domain", showgrid=False)
    figure.update_xaxes(range=[0, across], **axis)
    figure.update_yaxes(range=[height, 0], constraintoward="top", **axis)
    finish(
        figure,
        title=title,
        caption="; ".join(words),
        notes=badges,
        width=width,
        height=int(tall + 160),
        x_title=_unit(scan),
        y_title=_unit(scan),
    )
    if scan.right:
        _mark_right(figure, scan)
    figure.update_layout(
        legend_font_size=13,
        modebar_color=FAINT,
    )
    return figure


def _mark_right(figure, scan):
    """An R at the edge where the patient's right is known to lie."""
    height, across = extent(scan)
    x, y = RIGHT_MARK[scan.right]
    vertical = "bottom" if y else "top"
    figure.add_annotation(
        text="R",
        hovertext="the patient's right side",
        x=x * across,
        y=y * height,
        xref="x",
        yref="y",
        xanchor={0: "left", 0.5: "center", 1: "right"}[x],
        yanchor=vertical,
        xshift=6 - 12 * x,  # px, inwards
        yshift=12 * y - 6,
        font=dict(color="white", size=18),
        bgcolor="rgba(0,0,0,0.45)",
        showarrow=False,
    )


def grid(
    scans: Sequence[Scan | np.ndarray],
    *,
    titles: Sequence[str] | None = None,
    maps: Sequence | None = None,
    truth: Truth = False,
    columns: int = 4,
    title: str = "",
    caption: str = "",
    alpha: float = ALPHA,
    cell: int = 230,
) -> go.Figure:
    """A contact sheet.

    >>> figure = rw.show.grid(scans, truth=True, titles=["a", "b", "c"])

    Args:
        scans: what to show, in reading order.
        titles: one a scan, "<br>" breaks a line.
        maps: one a scan (None leaves a scan bare), each scaled to its own range; the
            caption has their badges.
        truth: as in `scan`, for all of them, or a list with one entry a scan. More than
            four findings share colours: then there is no legend, and their names stand
            under the mouse.
        columns: scans in a row.
        title: says the finding.
        caption: stands below the title.
        alpha: opacity of each map's highest value.
        cell: width of a scan, px.
    Raises:
        ValueError: no scan, or titles, maps or truths for another number of scans.
    """
    films = [as_scan(one) for one in scans]
    truths = truth if isinstance(truth, list) else [truth] * len(films)
    _require_one_each(len(films), titles=titles, maps=maps, truth=truths)
    columns = min(columns, len(films))
    headings = [_heading(heading, columns) for heading in titles or ()]
    figure, height, gap = _cells(films, columns, headings, cell)
    for n, film in enumerate(films):
        place = dict(row=n // columns + 1, col=n % columns + 1)
        side = int(1.5 * cell)
        figure.add_trace(grey_trace(film, side), **place)
        if maps is not None and maps[n] is not None:
            values = map_values(maps[n], film)
            picture = map_trace(values, film, *own_range(values), alpha, side)
            figure.add_trace(picture, **place)
        draw_outlines(figure, film, truths[n], **place)
    notes = badge_lines(maps or [])
    bar = 0
    if maps is not None:
        notes.append("colours: each map from its lowest to its highest")
        figure.add_trace(_colour_bar(0, 1, "", ("low", "high"), BELOW), 1, 1)
        bar = BAR
    width = columns * cell + 2 * EDGE
    words = dict(title=title, caption=caption, notes=notes)
    finish(figure, width=width, legend=False, **words)
    bottom = bar + (44 if _explain_colours(figure) else 16)
    top = figure.layout.margin.t - 30 + gap
    axis = dict(visible=False, constrain="domain")
    figure.update_xaxes(**axis)
    figure.update_yaxes(constraintoward="top", autorange="reversed", **axis)
    figure.update_layout(
        margin=dict(l=16, r=16, t=top, b=bottom),
        legend_y=bar / (height + top + bottom),
        height=int(height + top + bottom),
    )
    return figure


def _heading(text, columns):
    """The lines of a heading that fit above a scan in the narrowest cell."""
    px = (NARROW - 2 * EDGE) / columns
    return "<br>".join(plain(line) for line in lines_of(text, HEADING, px))


def _require_one_each(N, **lists):
    if not N:
        raise ValueError(
            "expected at least one scan, got none. Try rw.data.scan_of(table.iloc[0])."
        )
    for name, values in lists.items():
        if values is not None and len(values) != N:
            raise ValueError(
                f"expected one of {name} for each of the {N} scans, got {len(values)}"
            )


def _cells(scans, columns, headings, cell):
    """The empty sheet, the height of all its rows and the gap between two, px."""
    rows = -(-len(scans) // columns)
    lines = max((heading.count("<br>") + 1 for heading in headings), default=0)
    gap = 8 + 17 * lines
    tallest = max(height / width for height, width in map(extent, scans))
    height = rows * cell * tallest + gap * (rows - 1)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=headings or None,
        horizontal_spacing=0.02 / columns,
        vertical_spacing=gap / height,
    )
    figure.update_annotations(font_size=HEADING)
    return figure, height, gap


def _explain_colours(figure):
    """Whether the outlines have a legend.

    A colour that means two findings explains nothing, so titles and hovering have to.
    """
    lines = [t for t in figure.data if t.type == "scatter" and t.showlegend]
    if len({line.line.color for line in lines}) == len(lines):
        return bool(lines)
    figure.update_traces(showlegend=False, selector=dict(type="scatter"))
    return False


def as_scan(image):
    if isinstance(image, Scan):
        return image
    pixels = np.asarray(image, dtype=np.float32)
    return Scan(pixels, aspect=getattr(image, "aspect", None))


def map_values(map, scan):
    values = np.asarray(getattr(map, "values", map), dtype=np.float32)
    if values.shape != scan.shape:
        raise ValueError(
            f"expected a map in the scan's pixels {scan.shape}, got {values.shape}. "
            "Try rw.data.to_scan(grid, scan.shape, fit=model.fit)."
        )
    return values


def own_range(values):
    return float(np.nanmin(values)), float(np.nanmax(values))


def grey_trace(scan, side=MAX_SIDE):
    pixels = to_bytes(np.clip(shrink(scan.pixels, side), 0, 1))
    return _image_trace(Image.fromarray(pixels), scan)


def map_trace(values, scan, low, high, alpha, side=MAX_SIDE):
    level = np.clip(level_of(shrink(values, side), low, high), 0, 1)
    return _image_trace(map_image(np.nan_to_num(level), alpha), scan)


def _image_trace(image, scan):
    height, width = extent(scan)
    dx = width / image.width
    dy = height / image.height
    return go.Image(
        source=data_uri(image),
        x0=dx / 2,
        y0=dy / 2,
        dx=dx,
        dy=dy,
        zsmooth="fast",
        hovertemplate=f"x %{{x:.0f}}, y %{{y:.0f}} {_unit(scan)}<extra></extra>",
    )


def _unit(scan):
    return "px" if scan.spacing_mm is None else "mm"


def _colour_bar(low, high, label, ends=None, place=None):
    """go.Image has no colour bar, so an empty trace carries it."""
    bar = colour_bar(label, tickfont_size=13, tickformat=".3~g", title_font_size=13)
    if ends:
        bar |= dict(tickvals=[low, high], ticktext=ends)
        bar |= place or {}
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker=dict(
            colorscale=get_colorscale(MAP_COLOURS),
            cmin=low,
            cmax=high,
            color=[low],
            showscale=True,
            colorbar=bar,
        ),
        showlegend=False,
        hoverinfo="skip",
    )
