"""Burned-in text, made hard to read: how much of it is covered, and what else is.

`python benchmarks/burned_in.py --seed 11` draws names, numbers and dates in four types
of 10 to 25 px onto virtual radiographs, and onto a CT where the shared set is at hand:
white, grey on bright, black on white, turned, inverted, in colour, in one frame of
nine. What the numbers were chosen on is seed 7.
"""

import argparse
import os
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pydicom
from PIL import Image, ImageDraw, ImageFont

import radwb as rw
from radwb.curate.deidentify.burned import _spread, cover_words
from radwb.curate.deidentify.known import Known

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")
TEXTS = (
    "Okonkwo, Adaeze",
    "Lindqvist, Per",
    "HERNANDEZ^LUIS",
    "Wojcik, Anna",
    "Tanaka, Yuki",
    "MRN 48213377",
    "1961-11-23",
    "23.11.1961",
    "Acc A8841207",
    "St. Brigid Hospital",
)
KINDS = (
    "white",
    "grey",
    "black on strip",
    "turned",
    "inverted",
    "colour",
    "one frame of 9",
    "CT white",
    "CT grey",
    "small",
)
TOP = 4095
SIZE = 512
CT = "dicom_robustness/made/phi_in_header.dcm"


def hard_films(seed: int, each: int):
    """(kind, frames, fill, box) of films with one line burned in."""
    rng = np.random.default_rng(seed)
    table = rw.simulate.cohort(n=12, seed=24 + seed, size=SIZE)
    ct = _ct()
    for _ in range(each):
        for kind in KINDS:
            on_ct = kind.startswith("CT")
            if on_ct and ct is None:
                continue
            film = ct if on_ct else _film(table.iloc[rng.integers(len(table))])
            yield kind, *_burned(kind, film.copy(), rng)


def _film(row):
    return np.round(rw.data.scan_of(row).pixels * TOP)


def _ct():
    """(H, W) 0 to 4095, or None."""
    for folder in os.environ.get("RADWB_MIRROR", "").split(os.pathsep):
        path = Path(folder, CT)
        if path.exists():
            pixels = pydicom.dcmread(path).pixel_array.astype(float)
            return np.clip(pixels - pixels.min(), 0, 2500) * TOP / 2500
    return None


def _burned(kind, film, rng):
    ink = _ink(kind, film.shape, rng)
    box = np.array([np.flatnonzero((ink > 0.2).any(axis))[[0, -1]] for axis in (1, 0)])
    row0, row1, column0, column1 = (box + [[0, 1]]).ravel()
    grey = TOP * (0.6 if "grey" in kind else 1.0)
    if kind == "black on strip":
        film[max(0, row0 - 4) : row1 + 4, max(0, column0 - 6) : column1 + 6] = TOP
        grey = 0
    burned = np.round(film * (1 - ink) + grey * ink)
    frames = burned[None]
    if kind == "inverted":
        frames = TOP - frames
    if kind == "colour":
        frames = np.repeat((frames // 16)[..., None], 3, axis=3)
    if kind == "one frame of 9":
        frames = np.stack([burned if n == 6 else film for n in range(9)])
    fill = TOP if kind == "inverted" else 0
    return frames.astype(np.uint16), fill, (row0, column0, row1, column1)


def _ink(kind, shape, rng):
    """(H, W) 0 to 1."""
    text = TEXTS[rng.integers(len(TEXTS))]
    name = FONTS[rng.integers(len(FONTS))]
    size = 10 if kind == "small" else int(rng.integers(11, 26))
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    font = ImageFont.truetype(str(folder / f"{name}.ttf"), size)
    line = Image.new("L", (int(font.getlength(text)) + 4, size + 8))
    ImageDraw.Draw(line).text((2, 2), text, 255, font)
    height, width = shape
    column = int(rng.integers(4, width // 2))
    row = int(rng.choice([6, height - 40]))
    if kind == "turned":
        line = line.rotate(90, expand=True)
        column = int(rng.choice([6, width - 40]))
        row = int(rng.integers(4, height // 3))
    picture = Image.new("L", (width, height))
    picture.paste(line, (column, row))
    return np.asarray(picture) / 255


def recall(seed: int, each: int) -> pd.DataFrame:
    """One row a film: kind, covered (share of the text's box), more (other pixels in
    boxes), CPU seconds.
    """
    rows = []
    for kind, frames, fill, (row0, column0, row1, column1) in hard_films(seed, each):
        start = time.process_time()
        covered = np.zeros(frames.shape[1:3], bool)
        for word in cover_words(frames, Known(), fill):
            covered[_spread(word)] = True
        seconds = time.process_time() - start
        inside = covered[row0:row1, column0:column1]
        more = (covered.sum() - inside.sum()) / inside.size
        row = {"kind": kind, "covered": inside.mean(), "more": more, "cpu_s": seconds}
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def touched(films, name: str) -> None:
    """Print how many of the films, which hold no text, were changed by which words."""
    start = time.process_time()
    count = 0
    for looked_at, film in enumerate(films, start=1):
        words = [word.text for word in cover_words(film[None].copy(), Known(), 0)]
        count += bool(words)
        if words:
            print(words, flush=True)
        if looked_at % 10 == 0:
            seconds = (time.process_time() - start) / looked_at
            said = f"{name}: {count} of {looked_at} touched, {seconds:.2f} CPU s a film"
            print(said, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--each", type=int, default=8, help="films of each kind")
    parser.add_argument("--clean", type=int, default=100, help="virtual films")
    parser.add_argument("--folder", help="of real films, 20 of which are looked at")
    asked = parser.parse_args()
    if asked.each:
        table = recall(asked.seed, asked.each)
        full = table["covered"] == 1
        print(full.groupby(table["kind"], sort=False).agg(["sum", "size"]))
        print(rw.stats.wilson(int(full.sum()), len(full)))
        print(table[["more", "cpu_s"]].median())
    if asked.clean:
        clean = rw.simulate.cohort(n=120, seed=11).head(asked.clean)
        films = (_film(clean.iloc[n]) for n in range(len(clean)))
        touched(films, "clean virtual films")
    if asked.folder:
        paths = sorted(Path(asked.folder).rglob("*.png"))
        chosen = np.random.default_rng(asked.seed).permutation(len(paths))[:20]
        films = [np.round(rw.data.read(paths[n]).pixels * 255) for n in chosen]
        touched(films, asked.folder)


if __name__ == "__main__":
    main()
