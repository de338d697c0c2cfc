"""A film as the browser gets it, and the picture of it that Python draws alike."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radwb.explore.cases import Choice
from radwb.show.mix import (
    RIGHT_INSET,
    RIGHT_MARK,
    RIGHT_SIZE,
    blend,
    level_of,
    shrink,
    to_bytes,
    windowed,
)
from radwb.show.outlines import extent, outline
from radwb.show.stills import write_line, write_lines
from radwb.show.theme import COLOUR_OF, FAINT, INK, TRUTH

LEGAL = "Not for clinical use"
PANEL = 480  # px that a scan's longer side has in a still
LETTERS = 66  # a line of a panel
TYPE = 14  # px


def packed(scan):
    """A scan as the browser gets it, once: bytes, and its outlines as line pieces."""
    pixels = to_bytes(shrink(scan.pixels).clip(0, 1))
    height, width = extent(scan)
    truth = {}
    for finding, mask in scan.truth.items():
        lines = _pieces(mask).tobytes()
        truth[finding] = {
            "lines": lines,
            "colour": _colour(finding),
        }
    rows, cols = pixels.shape
    return dict(
        pixels=pixels.tobytes(),
        rows=rows,
        cols=cols,
        aspect=height / width,
        right=scan.right or "",
        truth=truth,
    )


def _pieces(mask):
    """(n, 4) float32: x0, y0, x1, y1 as fractions of the width and height."""
    H, W = mask.shape
    x, y = outline(mask)
    points = np.stack([x / W, y / H], -1)
    return points.reshape(-1, 3, 2)[:, :2].reshape(-1, 4).astype(np.float32)


def _colour(finding):
    return COLOUR_OF.get(finding, TRUTH[0])


def sheet(cases, case, views, look):
    """What the panes show, side by side, with the film's name below."""
    panels = []
    for view in views:
        values = None
        if view["grid"] is not None:
            values = cases.values(view["case"], Choice(**view["choice"]))
        panels.append(panel(cases.scan(view["case"]), values, view, look))
    width = sum(one.width for one in panels)
    height = max(one.height for one in panels)
    page = Image.new("RGB", (width, height + 28), "white")
    for n, one in enumerate(panels):
        page.paste(one, (n * one.width, 0))
    write_line(page, (12, height + 2), f"{cases.name(case)}. {LEGAL}.", FAINT, TYPE)
    return page


def panel(scan, values, view, look):
    """One pane: what it shows in words, the scan with its map, the score, the badge."""
    tall, wide = np.array(extent(scan)) / max(extent(scan)) * PANEL
    picture = _mixed(scan, values, look)
    picture = picture.resize((round(wide), round(tall)), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    finding = view["finding"]
    if look["truth"] and finding in scan.truth:
        for line in _pieces(scan.truth[finding]) * [wide, tall, wide, tall]:
            pen.line(tuple(line), _colour(finding), 2)
    if scan.right:
        _mark_right(pen, picture.size, scan.right)
    page = Image.new("RGB", (PANEL + 24, picture.height + 104), "white")
    page.paste(picture, (12, 32))
    title = f"{view['choice']['model']}. {view['label']}"
    write_line(page, (12, 8), title, INK, TYPE)
    lines = textwrap.wrap(view["error"], LETTERS)[:2]
    lines = lines or [view["verdict"], view["badge"]]
    write_lines(page, picture.height + 40, lines, TYPE)
    return page


def _mixed(scan, values, look):
    """The same mixture as js/film.js draws."""
    grey = shrink(scan.pixels).clip(0, 1)
    grey = windowed(grey, window=look["window"], level=look["level"])
    level = None
    if values is not None:
        small = shrink(values)
        level = level_of(small, small.min(), small.max())
    return blend(grey, level, look["alpha"])


def _mark_right(pen, size, edge):
    """An R at the edge where the patient's right lies, where js/film.js draws it."""
    x, y = RIGHT_MARK[edge]
    width, height = (n - 2 * RIGHT_INSET for n in size)
    place = (RIGHT_INSET + int(x * width), RIGHT_INSET + y * height)
    anchor = {0: "l", 0.5: "m", 1: "r"}[x] + ("d" if y else "a")
    font = ImageFont.load_default(RIGHT_SIZE)
    pen.text(
        place,
        "R",
        fill="white",
        font=font,
        anchor=anchor,
        stroke_width=2,
        stroke_fill="black",
    )
