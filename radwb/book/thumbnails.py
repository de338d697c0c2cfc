"""A picture a notebook, for the front page of the gallery."""

import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from radwb.show.mix import data_uri

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
WIDTH = 640  # px
WIDE = 1012  # px of a page's column
COLOURS = 128  # of a palette: a quarter of the bytes


def thumbnails(figures):
    """A picture of each figure, drawn by Chromium, as the address of an image.

    Where there is no Chromium, the first scan inside the figure.

    Args:
        figures: name -> figure as plain values, or None.
    """
    drawn = {name: figure for name, figure in figures.items() if figure}
    pictures = {name: first_image(figure) for name, figure in drawn.items()}
    pictures = {name: picture for name, picture in pictures.items() if picture}
    browser = find_browser()
    if not browser or not drawn:
        return pictures
    with tempfile.TemporaryDirectory() as folder:
        try:
            draw(drawn, Path(folder), browser)
        except Exception as error:  # costs the pictures, not the tour
            reason = f"{type(error).__name__}: {error}"
            print(f"thumbnails come from the figures' own images: {reason}")
        for path in Path(folder).glob("*.png"):
            pictures[path.stem] = small_uri(Image.open(path))
    return pictures


def find_browser():
    candidates = [os.environ.get("BROWSER_PATH"), *map(shutil.which, BROWSERS)]
    return next(filter(None, candidates), None)


def draw(figures, folder, browser):
    import kaleido  # a second that only the gallery needs

    jobs = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        look = {"format": "png", "width": suits(figure)}
        jobs.append({"fig": figure, "path": path, "opts": look})
    options = {"path": browser, "mathjax": False, "timeout": 60}
    kaleido.write_fig_from_object_sync(jobs, kopts=options)


def suits(figure):
    """The px that suit a figure; a foreign one doesn't say."""
    meta = figure.get("layout", {}).get("meta")
    width = meta.get("width") if isinstance(meta, dict) else None
    return width if isinstance(width, int) else WIDE


def first_image(figure):
    for trace in figure.get("data", []):
        if trace.get("type") == "image":
            return trace["source"]
    return None


def small_uri(image):
    image.thumbnail((WIDTH, WIDTH))
    return data_uri(image.convert("RGB").quantize(COLOURS))
