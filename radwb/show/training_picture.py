"""The curves of a training run as a picture, where no plotly runs."""

import numpy as np
from PIL import Image, ImageDraw

from radwb.show.mix import encoded
from radwb.show.stills import LINE, MARGIN, write_line, write_lines
from radwb.show.theme import FAINT, RULE

WIDTH = 720  # px
TALL = 90  # px of a curve
WIDE = WIDTH - 2 * MARGIN
TYPE = 14  # px


def training_picture(curves, lines):
    """PNG: each curve on its own scale, its first and last value in words.

    Args:
        curves: (name, colour, [(step, value), ...]) of each; empty ones are left out.
        lines: words above them.
    """
    curves = [curve for curve in curves if curve[2]]
    head = MARGIN + LINE * len(lines)
    page = Image.new(
        "RGB", (WIDTH, head + (TALL + LINE) * len(curves) + MARGIN), "white"
    )
    write_lines(page, MARGIN, lines, TYPE)
    for n, (name, colour, points) in enumerate(curves):
        top = head + n * (TALL + LINE)
        first, last = points[0][1], points[-1][1]
        words = f"{name}: from {first:.3g} to {last:.3g} at step {points[-1][0]:,}"
        write_line(page, (MARGIN, top), words, FAINT, TYPE)
        _draw(page, top + LINE, np.array(points, dtype=float), colour)
    return encoded(page)


def _draw(page, top, points, colour):
    """One curve from its lowest (bottom) to its highest value."""
    pen = ImageDraw.Draw(page)
    pen.rectangle((MARGIN, top, MARGIN + WIDE, top + TALL - 8), outline=RULE)
    low = points.min(0)
    share = (points - low) / np.maximum(np.ptp(points, axis=0), 1e-12)
    places = np.stack(
        [MARGIN + share[:, 0] * WIDE, top + (TALL - 8) * (1 - share[:, 1])], 1
    )
    x, y = places[-1]
    pen.line([tuple(place) for place in places], colour, 2)
    pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
