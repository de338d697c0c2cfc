"""Every film of a table read once: small, hashed, and what is odd about it."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.curate.audit.align import SIDE
from radwb.curate.audit.hashes import image_hashes
from radwb.curate.workers import as_done
from radwb.data.geometry import to_input
from radwb.data.read import read
from radwb.data.scan import Volume
from radwb.data.table import film_keys

FLAT = 2.0  # grey levels of 255: a film whose spread is less shows nothing
WORKERS = 4


@dataclass(frozen=True, eq=False)
class Pictures:
    """What an audit keeps of N films: some kilobytes each, whatever their size.

    Attributes:
        small: (N, S, S) uint8, squashed; 0 where a film can't be read.
        hashes: (N,) uint64 of the whole films (`image_hashes`).
        digests: (N,) of all the pixels: equal for the same pixels in another file.
        facts: rows, columns, mean, spread (grey levels), black, white (shares of the
            pixels), problem ("" for a film that reads).
    """

    small: np.ndarray
    hashes: np.ndarray
    digests: np.ndarray
    facts: pd.DataFrame

    @property
    def usable(self) -> np.ndarray:
        """(N,) bool: the film reads, and shows something."""
        reads = self.facts["problem"].to_numpy() == ""
        return reads & (self.facts["spread"].to_numpy() >= FLAT)


def read_pictures(table: pd.DataFrame, *, workers: Any = 1) -> Pictures:
    """Read all films of a table; one that can't be read is a row with its problem.

    >>> read_pictures(table.head(2)).facts["problem"].tolist()
    ['', '']

    Args:
        table: needs path.
        workers: processes; 1 = threads of this one, None = one a core. Or a
            `distributed.Client` (extra `scale`), whose machines see the same paths.
    """
    keys = film_keys(table["path"])
    films = _films(list(table["path"]), workers)
    bar = tqdm(films, "looking at films", len(table), delay=2, leave=False)
    at = dict(bar)
    found = [at[n] for n in range(len(table))]
    small = np.zeros((len(found), SIDE, SIDE), np.uint8)
    hashes = np.zeros(len(found), np.uint64)
    facts = []
    digests = []
    for n, (square, number, digest, fact) in enumerate(found):
        small[n] = square
        hashes[n] = number
        digests.append(digest or f"unread {keys[n]}")
        facts.append(fact)
    facts = pd.DataFrame(facts, columns=[*_nothing("")], index=range(len(found)))
    return Pictures(small, hashes, np.array(digests, dtype=object), facts)


def _films(paths, workers):
    """(number, picture) of each, in whatever order they are done."""
    if workers == 1:
        with ThreadPoolExecutor(WORKERS) as pool:
            yield from enumerate(pool.map(_picture, paths))
    else:
        yield from as_done(_picture, paths, workers, lost=_lost)


def _lost(path):
    return 0, 0, "", _nothing("it ended the process that read it")


def _picture(path):
    """(small square, hash, digest, facts); a bad file stops nobody."""
    try:
        image = read(path, truth=False)
        if isinstance(image, Volume):
            return 0, 0, "", _nothing(f"a volume {image.shape}, no film")
        return _looked_at(image)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        return 0, 0, "", _nothing(text or type(error).__name__)


def _looked_at(scan):
    pixels = np.asarray(scan.pixels)
    levels = np.round(pixels.clip(0, 1) * 255).astype(np.uint8)
    square = to_input(scan.pixels, SIDE, fit="squash")
    digest = hashlib.sha256(repr(pixels.shape).encode() + levels.tobytes())
    counts = np.bincount(levels.ravel(), minlength=256) / levels.size
    mean = counts @ np.arange(256)
    spread = np.sqrt(counts @ (np.arange(256) - mean) ** 2)
    rows, columns = pixels.shape
    fact = {
        "rows": rows,
        "columns": columns,
        "mean": mean,
        "spread": spread,
        "black": counts[:2].sum(),
        "white": counts[254:].sum(),
        "problem": "",
    }
    square = np.round(square * 255).astype(np.uint8)
    return square, image_hashes(levels[None])[0], digest.hexdigest(), fact


def _nothing(problem):
    numbers = ("rows", "columns", "mean", "spread", "black", "white")
    return {**dict.fromkeys(numbers, np.nan), "problem": problem}
