"""Scans, maps laid over them, and volumes, with the aspect from the spacing and the
axes in millimetres.
"""

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import get_colorscale, sample_colorscale
from plotly.subplots import make_subplots

from radwb.data.scan import Scan, Volume
from radwb.show.theme import COLOUR_OF, COLOURS, FAINT, TRUTH, broken, finish, plain

# px embedded; a radiograph of 3000 px would weigh megabytes and show no more on a slide
MAX_SIDE = 640
# px that `finish` leaves more for a line of the caption than a further line needs
SPARE = 13
# dark = transparent, so that the scan stays in sight where the map says nothing
MAP_COLOURS = "Inferno"
LUT = np.round(
    np.array(sample_colorscale(MAP_COLOURS, np.linspace(0, 1, 256), colortype="tuple"))
    * 255
)
LUT = LUT.astype(np.uint8)  # (256, 3)
# marching squares: which edges of a 2 x 2 cell the outline joins; bits are corners
# (0,0) (0,1) (1,0) (1,1)
CORNERS = {
    1: ["LT"],
    2: ["TR"],
    3: ["LR"],
    4: ["BL"],
    5: ["TB"],
    6: ["TR", "BL"],
    7: ["BR"],
    8: ["BR"],
    9: ["LT", "BR"],
    10: ["TB"],
    11: ["BL"],
    12: ["LR"],
    13: ["TR"],
    14: ["LT"],
}
EDGES = {
    "T": (0, 0.5),
    "B": (1, 0.5),
    "L": (0.5, 0),
    "R": (0.5, 1),
}  # (row, column) of an edge's middle in its cell


def scan(
    scan: Scan, *, truth=False, title: str = "", caption: str = "", width: int = 560
) -> go.Figure:
    """One scan with its axes in millimetres (px where the spacing is unknown).

    >>> rw.show.scan(scan, truth=True, title="Where the effusion was planted")

    Args:
        scan: what to show; an (H, W) array in [0, 1] will do.
        truth: True outlines every mask of `scan.truth`; a finding's name or a (H, W)
            mask outlines that one.
        title: says the finding.
        caption: is added to what the scan says of itself; the place for a CT's window.
    """
    scan = as_scan(scan)
    figure = go.Figure(grey_trace(scan))
    draw_outlines(figure, scan, truth)
    return frame(figure, scan, title=title, caption=caption, width=width)


def overlay(
    scan: Scan,
    map,
    *,
    truth=False,
    title: str | None = None,
    caption: str = "",
    label: str = "map value",
    alpha: float = 0.75,
    limits: tuple[float, float] | None = None,
    width: int = 620,
) -> go.Figure:
    """A map laid over its scan: low values are clear, high values opaque, the colour
    bar says which is which.

    A `Map` brings its sanity badge into the caption, or the words that it was not
    checked.

    >>> rw.show.overlay(scan, m, truth="Pleural Effusion")

    Args:
        scan: the scan that the map belongs to.
        map: a `Map` or an array (H, W) in the pixels of the scan.
        truth: as in `scan`.
        title: None = the map's method and target.
        label: the colour bar's title.
        alpha: opacity of the highest value.
        limits: values at both ends of the colours; None = the map's own range, so
            compare maps by place, not by colour.
    """
    scan = as_scan(scan)
    values = map_values(map, scan)
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    figure = go.Figure(
        [
            grey_trace(scan),
            map_trace(values, scan, low, high, alpha),
            colour_bar(low, high, label),
        ]
    )
    draw_outlines(figure, scan, truth)
    if title is None:
        target = getattr(map, "target", "")
        target = (
            " vs ".join(str(t) for t in target) if isinstance(target, tuple) else target
        )
        title = ": ".join(
            str(part) for part in (getattr(map, "method", ""), target) if part
        )
        title = "<br>".join(
            textwrap.wrap(title, width // 12)
        )  # 12 px, a wide letter of the title
    return frame(
        figure,
        scan,
        title=title,
        caption=caption,
        width=width,
        bar=True,
        badges=badge_lines([map], width),
    )


def grid(
    scans: Sequence[Scan],
    *,
    titles: Sequence[str] | None = None,
    maps: Sequence | None = None,
    truth=False,
    columns: int = 4,
    title: str = "",
    caption: str = "",
    alpha: float = 0.75,
    cell: int = 230,
) -> go.Figure:
    """A contact sheet.

    >>> rw.show.grid([rw.data.scan_of(row) for _, row in table.head(8).iterrows()], truth=True)

    Args:
        scans: what to show, in reading order.
        titles: one a scan, "<br>" breaks a line.
        maps: one a scan (None leaves a scan bare), each scaled to its own range; the
            caption has their badges.
        truth: as in `scan`, for all of them, or a list with one entry a scan. More than
            four findings share colours: then there is no legend, and their names stand
            under the mouse.
        columns: scans in a row.
        cell: width of a scan, px.
    """
    scans = [as_scan(s) for s in scans]
    if not scans:
        raise ValueError(
            "expected at least one scan, got none. Try rw.data.scan_of(table.iloc[0])."
        )
    for name, given in (
        ("titles", titles),
        ("maps", maps),
        ("truth", truth if isinstance(truth, list) else None),
    ):
        if given is not None and len(given) != len(scans):
            raise ValueError(
                f"expected one of {name} for each of the {len(scans)} scans, got {len(given)}"
            )
    columns = min(columns, len(scans))
    rows = -(-len(scans) // columns)
    titles = titles and [str(title) for title in titles]
    tall = max(extent(s)[0] / extent(s)[1] for s in scans)
    lines = (
        max((broken(t).count("<br>") + 1 for t in titles), default=0) if titles else 0
    )
    gap, side = 8 + 20 * lines, 32 + 100 * (maps is not None)
    width, height = columns * cell + side, rows * cell * tall
    spacing = dict(
        horizontal_spacing=0.02 / columns,
        vertical_spacing=gap / (height + gap * (rows - 1)),
    )
    figure = make_subplots(
        rows, columns, subplot_titles=titles and [broken(t) for t in titles], **spacing
    )
    for n, s in enumerate(scans):
        row, column = n // columns + 1, n % columns + 1
        figure.add_trace(grey_trace(s, int(1.5 * cell)), row, column)
        if maps is not None and maps[n] is not None:
            values = map_values(maps[n], s)
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            figure.add_trace(
                map_trace(values, s, low, high, alpha, int(1.5 * cell)), row, column
            )
        wanted = truth[n] if isinstance(truth, list) else truth
        draw_outlines(figure, s, wanted, row=row, column=column)
    entries = [t for t in figure.data if t.type == "scatter" and t.showlegend]
    if len({t.line.color for t in entries}) < len(
        entries
    ):  # a colour that means two findings explains nothing
        figure.update_traces(
            showlegend=False, selector=dict(type="scatter")
        )  # titles and hovering do
    figure.update_annotations(font_size=14)
    if maps is not None:
        figure.add_trace(
            colour_bar(
                0, 1, "each map from its lowest to its highest", ends=("low", "high")
            ),
            1,
            1,
        )
    badges = badge_lines(maps or [], width)
    said = "<br>".join(part for part in (broken(caption), *badges) if part)
    finish(
        figure, title=broken(title), caption=said, width=width, legend=False
    )  # it stands below
    top, bottom = (
        figure.layout.margin.t - 30 + gap - SPARE * len(badges),
        44 if any(t.type == "scatter" and t.showlegend for t in figure.data) else 16,
    )
    figure.update_layout(
        margin=dict(l=16, r=side - 16, t=top, b=bottom), legend=dict(y=0, yanchor="top")
    )
    figure.update_layout(height=int(height + gap * (rows - 1) + top + bottom))
    figure.update_xaxes(visible=False, constrain="domain")
    return figure.update_yaxes(
        visible=False, constrain="domain", constraintoward="top", autorange="reversed"
    )


def planes(
    volume: Volume,
    *,
    window_hu: tuple[float, float] | None = (-160, 240),
    at: tuple[int, int, int] | None = None,
    title: str = "",
    width: int = 1000,
) -> go.Figure:
    """The three planes of a volume through one point, each in its true aspect.

    >>> rw.show.planes(rw.data.read("ct/"), window_hu=(-1000, 400), title="A real chest CT")

    Args:
        volume: CT in Hounsfield units or any other (then window_hu=None takes its whole
            range).
        window_hu: what is black and what is white.
        at: (d, h, w) index of the point; None = the middle.
    """
    at = at or tuple(n // 2 for n in volume.shape)
    axes = sorted(range(3), key=lambda axis: plane_name(volume, axis))
    cuts = [volume.slice(axis, at[axis], window_hu) for axis in axes]
    names = [
        f"{plane_name(volume, axis)}, slice {at[axis] + 1} of {volume.shape[axis]}"
        for axis in axes
    ]
    tall, wide = max(extent(c)[0] for c in cuts), [extent(c)[1] for c in cuts]
    figure = make_subplots(
        1, 3, subplot_titles=names, column_widths=wide, horizontal_spacing=0.06
    )
    for n, cut in enumerate(cuts):
        figure.add_trace(grey_trace(cut), 1, n + 1)
    window = "the file's own window, or the whole range"
    if window_hu is not None:
        window = "window {:g} to {:g} HU".format(*window_hu)
    spacing = volume.spacing_mm
    size = "spacing unknown; axes in px"
    if spacing:
        size = f"voxels {' x '.join(f'{s:.3g}' for s in spacing)} mm; axes in mm"
    caption = f"{window}; {size}"
    finish(figure, title=broken(title), caption=caption, width=width)
    figure.update_annotations(font_size=14)
    room = (
        0.88 * (width - 88) / sum(wide) * tall
    )  # so that a millimetre is as long in all three planes
    figure.update_layout(height=int(room + figure.layout.margin.t + 58))
    figure.update_xaxes(constrain="domain", showgrid=False)
    return figure.update_yaxes(
        constrain="domain", constraintoward="top", showgrid=False, autorange="reversed"
    )


def plane_name(volume: Volume, axis: int) -> str:
    if volume.affine is None:
        return f"axis {axis}"
    return ("sagittal", "coronal", "axial")[volume.world[axis, 0]]


def as_scan(image) -> Scan:
    if isinstance(image, Scan):
        return image
    return Scan(
        np.asarray(image, dtype=np.float32), aspect=getattr(image, "aspect", None)
    )


def extent(scan: Scan) -> tuple[float, float]:
    """Height and width in mm, or px where the spacing is unknown."""
    (H, W), (dy, dx) = scan.shape, steps(scan)
    return H * dy, W * dx


def steps(scan: Scan) -> tuple[float, float]:
    """Height and width of a pixel in mm, or in its own widths where the spacing is
    unknown.
    """
    return scan.spacing_mm or (scan.aspect, 1)


def map_values(map, scan: Scan) -> np.ndarray:
    values = np.asarray(getattr(map, "values", map), dtype=np.float32)
    if values.shape != scan.shape:
        raise ValueError(
            f"expected a map in the scan's pixels {scan.shape}, got {values.shape}. "
            "Try rw.data.to_scan(grid, scan.shape, fit=model.fit)."
        )
    return values


def badge_lines(maps: Sequence, width: int) -> list[str]:
    """What the sanity checks said of maps, each verdict once: a sign, words, and a
    colour only besides.
    """
    said = {}
    for m in (
        m for m in maps if hasattr(m, "badge")
    ):  # a plain array claims no method, so it has no verdict
        unclear = m.badge is None or m.badge.passed is None
        sign = (
            ("?", FAINT)
            if unclear
            else ("✓", COLOURS[0])
            if m.badge.passed
            else ("✗", COLOURS[1])
        )
        said.setdefault((*sign, str(m.badge or "sanity: not checked")), {})[
            m.method
        ] = None
    lines = []
    for (sign, colour, words), methods in said.items():
        whose = f"{', '.join(methods)}: " if len(said) > 1 else ""
        whole = textwrap.wrap(
            f"{sign} {whose}{words}", int(width / 7.5)
        )  # 7.5 px, a wide letter of the caption
        lines += [
            f'<span style="color:{colour}">{plain(line)}</span>' for line in whole
        ]
    for note in dict.fromkeys(m.note for m in maps if getattr(m, "note", "")):
        whole = textwrap.wrap(f"! {note}", int(width / 7.5))
        lines += [
            f'<span style="color:{COLOURS[1]}">{plain(line)}</span>' for line in whole
        ]
    return lines


def shrink(values: np.ndarray, side: int) -> np.ndarray:
    factor = side / max(values.shape)
    if factor >= 1:
        return values
    H, W = (max(1, round(n * factor)) for n in values.shape)
    return np.asarray(
        Image.fromarray(values.astype(np.float32)).resize(
            (W, H), Image.Resampling.BILINEAR
        )
    )


def grey_trace(scan: Scan, side: int = MAX_SIDE) -> go.Image:
    pixels = np.round(np.clip(shrink(scan.pixels, side), 0, 1) * 255).astype(np.uint8)
    return image_trace(Image.fromarray(pixels), scan)


def map_trace(
    values, scan: Scan, low: float, high: float, alpha: float, side: int = MAX_SIDE
) -> go.Image:
    """A palette PNG whose alpha rises with the value: one byte a pixel instead of four."""
    level = np.nan_to_num(
        np.clip((shrink(values, side) - low) / ((high - low) or 1), 0, 1)
    )
    image = Image.fromarray(np.round(level * 255).astype(np.uint8)).convert("P")
    image.putpalette(LUT.tobytes())
    image.info["transparency"] = bytes(
        np.round(opacity(np.linspace(0, 1, 256), alpha) * 255).astype(np.uint8)
    )
    return image_trace(image, scan)


def opacity(level, alpha: float):
    """How opaque a map is where it has come so far from its lowest (0) to its highest
    (1).
    """
    return level**0.7 * alpha


def blend(grey: np.ndarray, level: np.ndarray | None, alpha: float) -> Image.Image:
    """(H, W) display values and (H, W) of a map, both in [0, 1], mixed as `overlay`
    draws them.
    """
    mixed = np.repeat(grey[..., None] * 255, 3, -1)  # (H, W, 3)
    if level is not None:
        share = opacity(level, alpha)[..., None]
        mixed = (
            mixed * (1 - share) + LUT[np.round(level * 255).astype(np.uint8)] * share
        )
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def image_trace(image: Image.Image, scan: Scan) -> go.Image:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    (height, width), uri = (
        extent(scan),
        "data:image/png;base64," + base64.b64encode(out.getvalue()).decode(),
    )
    dx, dy = width / image.width, height / image.height
    hover = "x %{x:.0f}, y %{y:.0f} " + unit(scan) + "<extra></extra>"
    return go.Image(
        source=uri,
        x0=dx / 2,
        y0=dy / 2,
        dx=dx,
        dy=dy,
        zsmooth="fast",
        hovertemplate=hover,
    )


def unit(scan: Scan) -> str:
    return "px" if scan.spacing_mm is None else "mm"


def colour_bar(
    low: float, high: float, label: str, ends: tuple[str, str] | None = None
) -> go.Scatter:
    """go.Image has no colour bar, so an empty trace carries it."""
    words = dict(text=broken(label), side="right", font_size=13)
    bar = dict(title=words, thickness=14, outlinewidth=0, tickfont_size=13)
    bar |= dict(tickformat=".3~g")
    if ends:
        bar |= dict(tickvals=[low, high], ticktext=ends)
    colours = dict(
        colorscale=get_colorscale(MAP_COLOURS), cmin=low, cmax=high, color=[low]
    )
    marker = colours | dict(showscale=True, colorbar=bar)
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker=marker,
        showlegend=False,
        hoverinfo="skip",
    )


def draw_outlines(figure, scan: Scan, truth, *, row=None, column=None) -> None:
    masks = truth_masks(scan, truth)
    used = {t.name: t.line.color for t in figure.data if t.type == "scatter" and t.name}
    kept = [COLOUR_OF[f] for f in masks if f in COLOUR_OF]
    for n, (finding, mask) in enumerate(masks.items()):
        x, y = outline(mask)
        dy, dx = steps(scan)
        name = f"truth: {plain(finding)}"
        first = name not in used
        if first:
            free = [c for c in TRUTH[::-1] if c not in (*used.values(), *kept)] or [
                TRUTH[n % len(TRUTH)]
            ]
            used[name] = COLOUR_OF.get(finding, free[0])
        hover = dict(
            hovertemplate=f"{name}<extra></extra>", name=name, showlegend=first
        )
        line = dict(color=used[name], width=2.5)
        figure.add_trace(
            go.Scatter(x=x * dx, y=y * dy, mode="lines", line=line, **hover),
            row,
            column,
        )


def truth_masks(scan: Scan, truth) -> dict[str, np.ndarray]:
    if truth is None or truth is False:
        return {}
    if truth is True:
        return scan.truth
    if isinstance(truth, str):
        return {truth: scan.truth[truth]} if truth in scan.truth else {}
    masks = (
        truth if isinstance(truth, Mapping) else {"mask": np.asarray(truth, dtype=bool)}
    )
    for name, mask in masks.items():
        if mask.shape != scan.shape:
            raise ValueError(
                f"expected a mask in the scan's pixels {scan.shape}, got {mask.shape} for {name}"
            )
    return masks


def outline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The contour of a mask as line pieces, NaN between them (marching squares).

    Returns:
        x, y: (3 n,) float32 in px, measured from the image's upper left corner.
    """
    m = np.pad(np.asarray(mask, dtype=bool), 1).astype(np.uint8)
    code = m[:-1, :-1] + 2 * m[:-1, 1:] + 4 * m[1:, :-1] + 8 * m[1:, 1:]
    pieces = []
    for case, joins in CORNERS.items():
        cells = np.argwhere(code == case)
        for a, b in joins:
            pieces.append(
                np.stack(
                    [cells + EDGES[a], cells + EDGES[b], np.full(cells.shape, np.nan)],
                    1,
                )
            )
    points = (
        np.concatenate(pieces).reshape(-1, 2).astype(np.float32) - 0.5
    )  # from padded cells to pixel corners
    return points[:, 1], points[:, 0]


def frame(
    figure: go.Figure,
    scan: Scan,
    *,
    title: str,
    caption: str,
    width: int,
    bar: bool = False,
    badges: Sequence = (),
) -> go.Figure:
    """Axes, the aspect, the patient's side and the caption of a single scan; `badges`
    are lines below the caption.
    """
    height, across = extent(scan)
    room = width - 64 - (110 if bar else 24)
    known = (
        f"pixels {scan.spacing_mm[0]:.3g} x {scan.spacing_mm[1]:.3g} mm"
        if scan.spacing_mm
        else "spacing unknown"
    )
    header = [plain(part, 64) for part in (scan.modality, scan.view) if part]
    text = "; ".join([*header, *([broken(caption)] if caption else []), known])
    tall = int(room * height / across + 160 + 19 * len(badges))
    finish(
        figure,
        title=broken(title),
        caption="<br>".join([text, *badges]),
        width=width,
        height=tall,
    )
    figure.update_layout(margin_t=figure.layout.margin.t - SPARE * len(badges))
    figure.update_xaxes(
        title_text=unit(scan), constrain="domain", showgrid=False, range=[0, across]
    )
    figure.update_yaxes(
        title_text=unit(scan), constrain="domain", showgrid=False, range=[height, 0]
    )
    if scan.right:
        mark_right(figure, scan)
    return figure.update_layout(
        legend=dict(y=1.0, font_size=13, bgcolor="rgba(255,255,255,0)"),
        modebar_color=FAINT,
    )


def mark_right(figure: go.Figure, scan: Scan) -> None:
    """An R at the edge where the patient's right is known to lie: in the upper corner,
    or in the middle.
    """
    height, across = extent(scan)
    x, y = {
        "left": (0, 0),
        "right": (across, 0),
        "top": (across / 2, 0),
        "bottom": (across / 2, height),
    }[scan.right]
    middle = scan.right in ("top", "bottom")
    inwards = {"left": 6, "right": -6}.get(scan.right, 0)
    figure.add_annotation(
        text="R",
        hovertext="the patient's right side",
        x=x,
        y=y,
        xref="x",
        yref="y",
        xanchor="center" if middle else scan.right,
        yanchor="bottom" if scan.right == "bottom" else "top",
        xshift=inwards,
        yshift=6 if scan.right == "bottom" else -6,
        font=dict(color="white", size=18),
        bgcolor="rgba(0,0,0,0.45)",
        showarrow=False,
    )
