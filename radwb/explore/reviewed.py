"""The picture of a review, for pages without a kernel."""

import io

from PIL import Image

from radwb.explore.film import PANEL
from radwb.show.stills import LINE, MARGIN, fitted, write_lines

TYPE = 14  # px
WIDTH = 2 * (PANEL + 2 * MARGIN)


def still(about: dict, shown: dict) -> Image.Image:
    """What is shown: films side by side, and what was found in words."""
    head = fitted(heading(about, shown), TYPE, WIDTH)
    panels = [_panel(side) for side in shown.get("sides", [])]
    films = max((one.height for one in panels), default=0)
    words = fitted(_below(about, shown), TYPE, WIDTH)
    top = 10 + LINE * len(head)
    page = Image.new("RGB", (WIDTH, top + films + LINE * len(words) + 20), "white")
    write_lines(page, 8, head, TYPE)
    for n, panel in enumerate(panels):
        page.paste(panel, (n * (PANEL + 2 * MARGIN), top))
    write_lines(page, top + films + 8, words, TYPE)
    return page


def spoken(about: dict, shown: dict) -> str:
    """What a still shows, for those who can't see it."""
    names = " and ".join(side["name"] for side in shown.get("sides", []))
    parts = [heading(about, shown), names, _below(about, shown)]
    return ". ".join(part for part in parts if part)


def heading(about, shown):
    if not shown:
        return about["nothing"]
    return f"{shown['at'] + 1} of {shown['of']} {about['things']}: {shown['check']}"


def _below(about, shown):
    if not shown:
        return f"{about['legal']}."
    verdict = shown["verdict"] or "none yet"
    value = f" Value: {shown['value']}." if shown["value"] else ""
    said = f"{shown['sentence']}.{value} Verdict: {verdict}."
    return f"{said} {about['legal']}."


def _panel(side):
    """A film, or why there is none, with its name. No text: it may name somebody."""
    width = PANEL + 2 * MARGIN
    lines = fitted(side["name"], TYPE, width)
    if side["problem"]:
        lines += fitted(side["problem"], TYPE, width)
    top = LINE * len(lines) + 6
    film = None
    if side["picture"]:
        film = Image.open(io.BytesIO(side["picture"]))
    page = Image.new("RGB", (width, top + (film.height if film else 0)), "white")
    write_lines(page, 0, lines, TYPE)
    if film:
        page.paste(film, (MARGIN, top))
    return page
