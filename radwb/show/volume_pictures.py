"""Three planes of a volume: as a still, and as a figure whose sliders work offline."""

from dataclasses import dataclass

from PIL import Image

from radwb.data.scan import Volume
from radwb.show.mix import blend, data_uri, encoded
from radwb.show.outlines import extent
from radwb.show.stills import LINE, MARGIN, write_line, write_lines
from radwb.show.theme import INK, broken, finish, plain
from radwb.show.volume_planes import plane_name, planes, planes_of

STEPS = 48  # slices a plane in the figure: a page stays near a megabyte
TALL = 300  # px of the highest plane in a still
TYPE = 15  # px
SLIDERS = 70  # px below the planes
NAMES = 16  # px that `finish` leaves above a plot and that a line of names leaves empty
HINT = "axes in mm; the slider below a plane moves its slice"


@dataclass
class Shown:
    """What is shown, and how.

    Args:
        small: the thinned volume.
        level: the map from 0 to 1 on the same voxels, or None.
        every: every which voxel of the volume that is, along each axis.
        window: what is black and what is white.
        at: the voxel of `small` where the planes cross first.
        alpha: opacity of the map's highest value.
        lines: of the caption, the title first; words of others among them.
        badges: lines of HTML below them.
    """

    small: Volume
    level: Volume | None
    every: list[int]
    window: tuple[float, float]
    at: list[int]
    alpha: float
    lines: list[str]
    badges: list[str]

    def number(self, axis, index):
        """A slice's number among those of the volume, from 1."""
        return index * self.every[axis] + 1

    def cut(self, axis, index):
        return self.small.slice(axis, index, self.window)

    def picture(self, axis, index):
        """One slice as a radiologist looks at it, with the map over it."""
        level = None
        if self.level is not None:
            level = self.level.slice(axis, index, (0, 1)).pixels
        return blend(self.cut(axis, index).pixels, level, self.alpha)

    def head(self):
        """The title and the lines below it as HTML."""
        title, *notes = self.lines
        return broken(title), [*map(plain, notes), *self.badges]


def still(shown, verdict):
    """PNG: the three planes, a millimetre as long in each, and the caption below."""
    axes = planes_of(shown.small)
    extents = [extent(shown.cut(axis, shown.at[axis])) for axis in axes]
    scale = TALL / max(height for height, _ in extents)
    pictures = []
    for axis, (height, width) in zip(axes, extents, strict=True):
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pictures.append(shown.picture(axis, shown.at[axis]).resize(size))
    lines = [line for line in (*shown.lines, *verdict) if line]
    width = max(sum(picture.width + MARGIN for picture in pictures) + MARGIN, 640)
    page = Image.new("RGB", (width, TALL + 44 + LINE * len(lines)), "white")
    x = MARGIN
    for axis, picture in zip(axes, pictures, strict=True):
        number = shown.number(axis, shown.at[axis])
        name = f"{plane_name(shown.small, axis)} slice {number}"
        write_line(page, (x, 8), name, INK, TYPE)
        page.paste(picture, (x, 32))
        x += picture.width + MARGIN
    write_lines(page, TALL + 38, lines, TYPE)
    return encoded(page)


def sliders(shown):
    """The planes as a figure, each with a slider; its pictures lie in the figure."""
    _, notes = shown.head()
    title = shown.lines[0]
    figure = planes(shown.small, window_hu=shown.window, at=shown.at, title=title)
    layout = figure.layout
    planes_px = layout.height - layout.margin.t
    width = layout.meta["width"]
    finish(figure, title=title, notes=[*notes, HINT], width=width, legend=False)
    axes = planes_of(shown.small)
    top = layout.margin.t - NAMES  # the planes' names are one line here
    figure.update_layout(
        sliders=[_slider(shown, figure, n, axis) for n, axis in enumerate(axes)],
        height=top + planes_px + SLIDERS,
        margin=dict(t=top, b=layout.margin.b + SLIDERS),
    )
    for note, axis in zip(layout.annotations, axes, strict=True):
        note.text = plane_name(shown.small, axis)
    return figure


def _slider(shown, figure, n, axis):
    """Below plane n of the figure; each step swaps the picture of its trace."""
    here = shown.at[axis]
    depth = shown.small.shape[axis]
    step = -(-depth // STEPS)
    steps = []
    for index in range(here % step, depth, step):
        picture = shown.picture(axis, index)
        source = data_uri(picture, "JPEG", quality=88, subsampling=0)
        label = str(shown.number(axis, index))
        change = [{"source": [source]}, [n]]
        steps.append(dict(method="restyle", args=change, label=label))
    active = here // step
    figure.data[n].source = steps[active]["args"][0]["source"][0]
    left, right = list(figure.select_xaxes())[n].domain
    name = f"{plane_name(shown.small, axis)} slice "
    return dict(
        steps=steps,
        active=active,
        currentvalue=dict(prefix=name, font=dict(size=14, color=INK)),
        x=left,
        len=right - left,
        y=0,
        pad=dict(t=44, b=0),
        ticklen=0,
        minorticklen=0,
        font_color="rgba(0,0,0,0)",  # the steps' labels would lie over one another
    )
