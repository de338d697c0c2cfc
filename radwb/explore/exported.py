"""What lives of the explorer on a page without a kernel: the heads of its last film.

The picture of the widget carries their maps, of which js/exported/live.js makes a grid
to point at. Where no script runs, or a page takes it out, the picture is there.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from radwb.explore.choice import Choice
from radwb.explore.film import PANEL, over
from radwb.explore.words import place_in_grid
from radwb.show.mix import CONSTANTS, blend, encoded, in_text, shrink, windowed

PAGE = Path(__file__).with_name("js")
FILES = ("parts.js", "sample.js", "heads.js", "exported/live.js")
MIX = {"colours": in_text(CONSTANTS["colours"]), "gamma": CONSTANTS["gamma"]}
# a script that sets no name on the page
SCRIPT = "\n".join(
    [
        "(() => {",
        f"const MIX = {json.dumps(MIX)};",
        *((PAGE / name).read_text("utf-8") for name in FILES),
        "})();",
    ]
)
STYLE = (PAGE / "widget.css").read_text("utf-8")
CODE = f"<style>{STYLE}</style><script>{SCRIPT}</script>"
MOST = 120_000  # bytes of the heads' maps: with its film a picture stays below 300 kB
JPEG = dict(quality=85)


def heads_on_page(cases, views, look) -> dict[str, str]:
    """The heads of the first pane that has any, as the picture's `data-` attributes.

    Letters, numbers and base64 alone, which a page can check.

    Args:
        cases: a `Cases`.
        views: what `Cases.view` says of each pane.
        look: as `radwb.explore.about.LOOK`.
    """
    shown = [view for view in views if view["thumbs"]]
    if not shown:
        return {}
    view = shown[0]
    choice = Choice(**view["choice"])
    scan = cases.scan(view["case"])
    maps = np.frombuffer(view["thumbs"], np.uint8)
    maps = thinned(maps.reshape(view["layers"], view["heads"] + 1, *view["tokens"]))
    lines = over(scan, view["finding"] if look["truth"] else None)
    layer = view["layers"] - 1 if choice.layer is None else choice.layer
    head = -1 if choice.head is None else choice.head
    return dict(
        film=in_text(encoded(_film(scan, look, lines.size), "JPEG", **JPEG)),
        over=in_text(encoded(lines)),
        heads=in_text(encoded(as_picture(maps))),
        shape=_numbers(maps.shape),
        place=_numbers([*view["source"], *view["square"]]),
        chosen=_numbers([range(view["layers"])[layer], head]),
        what=_what(choice, view["tokens"][1]),
    )


def as_picture(maps):
    """(layers, columns, rows, cols) of bytes as one picture: a row a layer."""
    L, N, H, W = maps.shape
    return Image.fromarray(maps.transpose(0, 2, 1, 3).reshape(L * H, N * W))


def thinned(maps, most=MOST):
    """Maps whose picture takes at most so many bytes: else the mean of 2 x 2 each."""
    while len(encoded(as_picture(maps))) > most:
        H, W = maps.shape[2:]
        edge = [(0, 0), (0, 0), (0, H % 2), (0, W % 2)]
        maps = np.pad(maps, edge, mode="edge")
        pairs = maps.reshape(*maps.shape[:2], -(-H // 2), 2, -(-W // 2), 2)
        maps = np.rint(pairs.mean((3, 5))).astype(np.uint8)
    return maps


def _film(scan, look, size):
    """The whole film at its window, whatever part of it was seen last."""
    grey = windowed(
        shrink(scan.pixels, PANEL).clip(0, 1),
        window=look["window"],
        level=look["level"],
    )
    if look["invert"]:
        grey = 1 - grey
    return blend(grey, None, 0).convert("L").resize(size)


def _numbers(values):
    return " ".join(f"{value:.6g}" for value in values)


def _what(choice, columns):
    if not choice.patches:
        return "what the read-out takes from each patch"
    place = place_in_grid(choice.patches, columns)
    toward = choice.direction == "to"
    return f"what attends to {place}" if toward else f"what {place} attends to"
