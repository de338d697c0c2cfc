"""The planes of a volume."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from radwb.data.scan import Volume
from radwb.show.images import grey_trace
from radwb.show.outlines import extent
from radwb.show.theme import finish


def planes(
    volume: Volume,
    *,
    window_hu: tuple[float, float] | None = (-160, 240),
    at: tuple[int, int, int] | None = None,
    title: str = "",
    width: int = 840,
) -> go.Figure:
    """The three planes of a volume through one point, each in its true aspect.

    >>> figure = rw.show.planes(ct, window_hu=(-1000, 400), title="A chest CT")

    Args:
        volume: CT in Hounsfield units or any other (then window_hu=None takes its whole
            range).
        window_hu: what is black and what is white.
        at: (d, h, w) index of the point; None = the middle.
        title: says the finding.
        width: px that suit it; in a notebook it is as wide as its cell.
    """
    point = at or [n // 2 for n in volume.shape]
    cuts = []
    names = []
    for axis in planes_of(volume):
        cuts.append(volume.slice(axis, point[axis], window_hu))
        place = f"slice {point[axis] + 1} of {volume.shape[axis]}"
        # in two lines, which stand beside one another in a narrow cell, too
        names.append(f"{plane_name(volume, axis)}<br>{place}")
    heights, widths = zip(*map(extent, cuts), strict=True)
    figure = make_subplots(
        1, 3, subplot_titles=names, column_widths=widths, horizontal_spacing=0.08
    )
    figure.update_annotations(font_size=12)
    for n, cut in enumerate(cuts, 1):
        figure.add_trace(grey_trace(cut), 1, n)
    window = "the file's own window, or the whole range"
    if window_hu is not None:
        window = "window {:g} to {:g} HU".format(*window_hu)
    size = "spacing unknown; axes in px"
    if volume.spacing_mm:
        spacing = " x ".join(f"{step:.3g}" for step in volume.spacing_mm)
        size = f"voxels {spacing} mm; axes in mm"
    finish(figure, title=title, caption=f"{window}; {size}", width=width)
    # a millimetre is as long in all three planes
    room = 0.84 * (width - 88) / sum(widths) * max(heights)
    top = figure.layout.margin.t
    figure.update_layout(margin_t=top + 16, height=int(room + top + 74))
    axis = dict(constrain="domain", showgrid=False, tickfont_size=12, nticks=5)
    figure.update_xaxes(**axis)
    return figure.update_yaxes(constraintoward="top", autorange="reversed", **axis)


def plane_name(volume, axis):
    if volume.affine is None:
        return f"axis {axis}"
    return ("sagittal", "coronal", "axial")[volume.world[axis, 0]]


def planes_of(volume):
    """The axes by the names of their planes: axial, coronal, sagittal."""
    return sorted(range(3), key=lambda axis: plane_name(volume, axis))
