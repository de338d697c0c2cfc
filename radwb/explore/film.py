"""A film as the browser gets it, and the picture of it that Python draws alike."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radwb.explore.choice import Choice
from radwb.explore.lines import lines_of
from radwb.show.mix import (
    CONTOURS,
    MAX_SIDE,
    RIGHT_INSET,
    RIGHT_MARK,
    RIGHT_SIZE,
    SHARP,
    blend,
    draw_contours,
    level_of,
    shrink,
    to_bytes,
    windowed,
)
from radwb.show.outlines import extent, outline
from radwb.show.stills import LINE, MARGIN, fitted, write_line
from radwb.show.theme import FAINT, INK, LEGAL

PANEL = 480  # px that a scan's longer side has in a still
TYPE = 14  # px
# what lies across from right, left, anterior, posterior, head and feet
OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "H": "F", "F": "H"}


def packed(scan):
    """A scan as the browser gets it, once: bytes, and its outlines as line pieces."""
    pixels = small(scan, MAX_SIDE)
    height, width = extent(scan)
    truth = {}
    for finding, look in lines_of(scan.truth).items():
        lines = _pieces(scan.truth[finding]).tobytes()
        truth[finding] = look | {"lines": lines}
    rows, cols = pixels.shape
    return dict(
        pixels=pixels.tobytes(),
        rows=rows,
        cols=cols,
        full=list(scan.shape),
        aspect=height / width,
        mm=[height, width] if scan.spacing_mm else None,
        right=scan.right or "",
        letters=letters(scan),
        grey=[0.0, 1.0, "of the display range"],
        truth=truth,
    )


def small(scan, side):
    """(rows, cols) uint8, its longer side at most `side`."""
    return to_bytes(shrink(scan.pixels, side).clip(0, 1))


def letters(scan):
    """What lies at each edge of the picture, "" where that isn't known."""
    across, down = scan.orientation or ("", "")
    left, top = (
        "".join(OPPOSITE.get(letter, "") for letter in run) for run in (across, down)
    )
    return {"left": left, "right": across, "top": top, "bottom": down}


def _pieces(mask):
    """(n, 4) float32: x0, y0, x1, y1 as fractions of the width and height."""
    H, W = mask.shape
    x, y = outline(mask)
    points = np.stack([x / W, y / H], -1)
    return points.reshape(-1, 3, 2)[:, :2].reshape(-1, 4).astype(np.float32)


def sheet(cases, case, views, look):
    """What the panes show, side by side, with the film's name below."""
    titles = [fitted(title_of(view), TYPE, PANEL + 2 * MARGIN) for view in views]
    rows = max(map(len, titles))  # so that the films stand at one height
    panels = []
    for view in views:
        values = None
        if view["grid"] is not None:
            values = cases.values(view["case"], Choice(**view["choice"]))
        panels.append(panel(cases.scan(view["case"]), values, view, look, rows))
    width = sum(one.width for one in panels)
    height = max(one.height for one in panels)
    names = fitted(f"{cases.name(case)}. {LEGAL}.", TYPE, width)
    page = Image.new("RGB", (width, height + LINE * len(names) + 6), "white")
    for n, one in enumerate(panels):
        page.paste(one, (n * one.width, 0))
    for n, line in enumerate(names):
        write_line(page, (MARGIN, height + 2 + n * LINE), line, FAINT, TYPE)
    return page


def title_of(view):
    return f"{view['choice']['model']}. {view['label']}"


def spoken(name, views):
    """What a still shows, for those who can't see it."""
    parts = [name]
    for view in views:
        words = view["error"] or f"{view['verdict']}. {view['badge']}"
        parts.append(f"{view['choice']['model']}: {view['label']}. {words}")
    return ". ".join(parts)


def panel(scan, values, view, look, rows=1):
    """One pane: what it shows in words, the scan with its map, the score, the badge."""
    picture = _mixed(scan, values, look, _size(scan))
    finding = view["finding"] if look["truth"] else None
    _draw_over(picture, scan, finding, look["place"])
    width = PANEL + 2 * MARGIN
    titles = fitted(title_of(view), TYPE, width)
    verdict = fitted(view["error"] or view["verdict"], TYPE, width)
    badge = [] if view["error"] else fitted(view["badge"], TYPE, width)
    top = 10 + LINE * max(rows, len(titles))
    below = top + picture.height + 8
    page = Image.new("RGB", (width, below + LINE * len(verdict + badge) + 8), "white")
    page.paste(picture, (MARGIN, top))
    for first, lines, colour in (
        (8, titles, INK),
        (below, verdict, INK),
        (below + LINE * len(verdict), badge, FAINT),
    ):
        for n, line in enumerate(lines):
            write_line(page, (MARGIN, first + n * LINE), line, colour, TYPE)
    return page


def whole(scan):
    """The whole film, with what lies at its edges."""
    grey = shrink(scan.pixels, PANEL).clip(0, 1)
    picture = blend(grey, None, 0).resize(_size(scan))
    _draw_over(picture, scan, None, (0.5, 0.5, 1.0))
    return picture


def over(scan, finding):
    """What lies over the whole film, on a clear ground: an outline, and the letters."""
    picture = Image.new("RGBA", _size(scan))
    _draw_over(picture, scan, finding, (0.5, 0.5, 1.0))
    return picture


def _size(scan):
    """(width, height) of a scan in a still, px."""
    tall, wide = np.array(extent(scan)) / max(extent(scan)) * PANEL
    return round(wide), round(tall)


def _draw_over(picture, scan, finding, place):
    pen = ImageDraw.Draw(picture)
    if finding in scan.truth:
        colour = lines_of(scan.truth)[finding]["colour"]
        x, y, zoom = place
        pieces = (_pieces(scan.truth[finding]) - [x, y, x, y]) * zoom + 0.5
        for line in pieces * [*picture.size, *picture.size]:
            pen.line(tuple(line), colour, 2)
    for edge, letter in letters(scan).items():
        _mark(pen, picture.size, edge, letter)


def _mixed(scan, values, look, size):
    """The same mixture as js/film.js draws, of what is seen at this place and zoom."""
    coarse = size[0] * look["place"][2] >= SHARP * scan.shape[1]
    how = Image.Resampling.NEAREST if coarse else Image.Resampling.BILINEAR
    grey = _seen(scan.pixels, look["place"], size, how).clip(0, 1)
    grey = windowed(grey, window=look["window"], level=look["level"])
    if look["invert"]:
        grey = 1 - grey
    if values is None:
        return blend(grey, None, 0)
    there = _seen(values, look["place"], size, Image.Resampling.BILINEAR)
    if look["contours"]:
        levels = np.quantile(values, [share for share, _ in CONTOURS])
        return draw_contours(blend(grey, None, 0), there, levels, look["alpha"])
    low, high = values.min(), values.max()
    if look["scale"] == "shared" and look["range"]:
        low, high = look["range"]
    level = level_of(there, low, high).clip(0, 1)
    return blend(grey, level, look["alpha"], look["threshold"])


def _seen(values, place, size, how):
    """(height, width) the part of a film that `place` shows."""
    x, y, zoom = place
    half = 0.5 / zoom
    H, W = values.shape
    box = (W * (x - half), H * (y - half), W * (x + half), H * (y + half))
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(size, how, box=box))


def _mark(pen, size, edge, letter):
    """What lies at an edge, where js/letters.js draws it."""
    x, y = RIGHT_MARK[edge]
    width, height = (n - 2 * RIGHT_INSET for n in size)
    place = (RIGHT_INSET + int(x * width), RIGHT_INSET + y * height)
    anchor = {0: "l", 0.5: "m", 1: "r"}[x] + ("d" if y else "a")
    font = ImageFont.load_default(RIGHT_SIZE)
    pen.text(
        place,
        letter,
        fill="white",
        font=font,
        anchor=anchor,
        stroke_width=2,
        stroke_fill="black",
    )
