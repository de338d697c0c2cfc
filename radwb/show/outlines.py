"""What is known to be there, as lines around it."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from radwb.show.theme import COLOUR_OF, TRUTH, plain

# marching squares: which edges of a 2 x 2 cell (top, bottom, left, right) the outline
# joins; bits are corners (0, 0) (0, 1) (1, 0) (1, 1)
JOINS = {
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
# what `rw.show.scan` outlines
Truth = bool | str | np.ndarray | Mapping[str, np.ndarray] | None
# (row, column) of an edge's middle in its cell
EDGES = {"T": (0, 0.5), "B": (1, 0.5), "L": (0.5, 0), "R": (0.5, 1)}


def outline(mask):
    """The contour of a mask as line pieces, NaN between them (marching squares).

    Returns:
        x, y: (3 n,) float32 in px, measured from the image's upper left corner.
    """
    m = np.pad(np.asarray(mask, dtype=bool), 1).astype(np.uint8)
    code = m[:-1, :-1] + 2 * m[:-1, 1:] + 4 * m[1:, :-1] + 8 * m[1:, 1:]
    pieces = []
    for case, joins in JOINS.items():
        cells = np.argwhere(code == case)
        gap = np.full(cells.shape, np.nan)
        for a, b in joins:
            pieces.append(np.stack([cells + EDGES[a], cells + EDGES[b], gap], 1))
    points = np.concatenate(pieces).reshape(-1, 2).astype(np.float32)
    rows, columns = points.T - 0.5  # from padded cells to pixel corners
    return columns, rows


def draw_outlines(figure, scan, truth, **place):
    """Outline the truth of a scan, each finding in one colour of the figure.

    Args:
        truth: as in `rw.show.scan`.
        place: row and col of a subplot.
    """
    masks = truth_masks(scan, truth)
    lines = [t for t in figure.data if t.type == "scatter" and t.name]
    colours = {line.name: line.line.color for line in lines}
    reserved = {COLOUR_OF[finding] for finding in masks if finding in COLOUR_OF}
    for n, (finding, mask) in enumerate(masks.items()):
        name = f"truth: {plain(finding)}"
        first = name not in colours
        if first:
            taken = reserved.union(colours.values())
            free = [colour for colour in reversed(TRUTH) if colour not in taken]
            free.append(TRUTH[n % len(TRUTH)])
            colours[name] = COLOUR_OF.get(finding, free[0])
        x, y = outline(mask)
        dy, dx = steps(scan)
        line = go.Scatter(
            x=x * dx,
            y=y * dy,
            mode="lines",
            line=dict(color=colours[name], width=2.5),
            hovertemplate=f"{name}<extra></extra>",
            name=name,
            showlegend=first,
        )
        figure.add_trace(line, **place)


def truth_masks(scan, truth):
    """Masks by name: for True, a finding's name, a mask or {name: mask}."""
    if truth is None or truth is False:
        return {}
    if truth is True:
        return scan.truth
    if isinstance(truth, str):
        return {truth: scan.truth[truth]} if truth in scan.truth else {}
    masks = truth
    if not isinstance(truth, Mapping):
        masks = {"mask": np.asarray(truth, dtype=bool)}
    for name, mask in masks.items():
        if mask.shape != scan.shape:
            raise ValueError(
                f"expected a mask in the scan's pixels {scan.shape}, "
                f"got {mask.shape} for {name}"
            )
    return masks


def steps(scan):
    """Height and width of a pixel in mm, or in its own widths where mm aren't known."""
    return scan.spacing_mm or (scan.aspect, 1)


def extent(scan):
    """Height and width of a scan in mm, or px where the spacing is unknown."""
    H, W = scan.shape
    dy, dx = steps(scan)
    return H * dy, W * dx
