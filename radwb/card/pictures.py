"""The pictures of a card: an interval drawn from its numbers, and a figure as PNG."""

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from radwb.fail.evidence import Evidence

WIDTH = 640  # px of a figure in a card
COLOURS = 64  # of its palette: a quarter of the bytes
BUDGET = 600_000  # bytes of all figures together: a page has 1 MB at most
SPAN = 100  # units of an interval's picture, which is as wide as its cell


def drawn(rows: Sequence[Evidence]) -> list[Evidence]:
    """The rows, their figures as data addresses; None where no browser draws them.

    A figure beyond the budget of a page is left out.
    """
    with_figure = [n for n, row in enumerate(rows) if row.figure is not None]
    pictures = _pngs([rows[n].figure for n in with_figure])
    addresses = dict.fromkeys(range(len(rows)))
    spent = 0
    for n, png in zip(with_figure, pictures, strict=True):
        if png is None or spent + len(png) > BUDGET:
            continue
        spent += len(png)
        addresses[n] = "data:image/png;base64," + png
    return [replace(row, figure=addresses[n]) for n, row in enumerate(rows)]


def _pngs(figures):
    """Each figure as base64, all by one browser; None where there is none."""
    if not figures:
        return []
    import plotly.io  # with kaleido a second, for figures alone

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.png" for n in range(len(figures))]
        try:
            plotly.io.write_images(figures, paths, format="png", width=WIDTH)
        except Exception:  # no Chromium: the numbers are drawn anyway
            return [None] * len(figures)
        return [_small(path) for path in paths]


def _small(path):
    image = Image.open(path).convert("RGB").quantize(COLOURS, dither=0)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def guess(row: Evidence) -> float:
    """What a model that knows nothing would have: 0.5 for an AUROC, else 0."""
    return 0.5 if row.measure.startswith("AUROC") else 0.0


def places(rows: Sequence[Evidence]) -> list[dict]:
    """Where value, interval, control and guess lie on an axis that the rows share.

    Returns:
        one dict a row: value, low, high, control, guess, each 0 to `SPAN`, or None.
    """
    names = ("value", "low", "high", "control")
    numbers = [[getattr(row, name) for name in names] + [guess(row)] for row in rows]
    least = np.nanmin(numbers)
    width = np.nanmax(numbers) - least or 1.0
    laid = []
    for of_row in numbers:
        spots = {}
        for name, number in zip([*names, "guess"], of_row, strict=True):
            spot = 2 + (SPAN - 4) * (number - least) / width
            spots[name] = None if np.isnan(spot) else round(float(spot), 2)
        laid.append(spots)
    return laid
