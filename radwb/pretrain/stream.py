"""Where a run's images come from: a table, or shards, whose pixels stay on disk."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from radwb import data
from radwb.data.geometry import to_input
from radwb.data.read import decode_picture
from radwb.pretrain.index import index, shard_paths, skip, warn_of_unknown_patients

__all__ = ["InMemory", "Shards", "index", "shard_paths"]
BUFFER = 4096  # samples that a shuffle looks ahead


@dataclass
class InMemory:
    """Rows of a table and their squares.

    Args:
        rows: N rows.
        pixels: (N, S, S) uint8; None for a recipe that sees texts alone.
    """

    rows: pd.DataFrame
    pixels: torch.Tensor | None = None

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(N,) the order of the rows in an epoch."""
        return np.random.default_rng((seed, epoch, 0)).permutation(len(self.rows))

    def length(self, batch: int) -> int:
        """Samples of an epoch: whole batches of it."""
        return len(self.rows) // batch * batch

    def batch(self, rows: np.ndarray, ahead: np.ndarray | None = None):
        """(B, S, S) uint8 of some rows; the rows; and that nothing was skipped."""
        places = torch.from_numpy(rows).to(self.pixels.device, non_blocking=True)
        return self.pixels[places], rows, []

    def on(self, device: torch.device) -> "InMemory":
        """The same with its pixels on a GPU, where they fit into a quarter of it."""
        if device.type != "cuda" or self.pixels is None:
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.pixels.nbytes > free / 4:
            return self
        return InMemory(self.rows, self.pixels.to(device))

    def take(self, places: np.ndarray) -> "InMemory":
        """The rows at these (N,) places."""
        return InMemory(self.rows.iloc[places])

    def part(self, split: str, most: int | None, *, size: int, fit: str, films: bool):
        """The rows of one split, at most so many; with films, their squares."""
        rows = self.rows[self.rows["split"] == split].reset_index(drop=True)[:most]
        if not films:
            return InMemory(rows)
        return InMemory(rows, torch.from_numpy(data.images(rows, size, fit=fit)))


@dataclass
class Shards:
    """Samples of webdataset shards, whose pixels are read where they lie in the tar.

    Args:
        rows: N rows: key, report and what the samples' JSON holds.
        places: N times (shard, number in it, first byte, bytes) of the picture.
        paths: name of a shard -> its file.
        skipped: what is damaged.
        digest: what the shards are known by.
        samples: their index, of all splits.
        size, fit: how a picture is made square, as in `rw.data.images`.
    """

    rows: pd.DataFrame
    places: list[tuple[str, int, int, int]]
    paths: dict[str, Path]
    skipped: list[dict]
    digest: str
    samples: list[dict]
    size: int = 0
    fit: str = "pad"
    _pool: ThreadPoolExecutor | None = None
    _ahead: dict = field(default_factory=dict)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(N,) the order of the samples in an epoch."""
        return stream_order([p[0] for p in self.places], seed=seed, epoch=epoch)

    def length(self, batch: int) -> int:
        """Samples of an epoch: all.

        A batch may hold the end of one epoch and the start of the next.
        """
        return len(self.rows)

    def batch(self, rows: np.ndarray, ahead: np.ndarray | None = None):
        """Pixels of some rows, while those of the rows `ahead` begin to be read.

        Returns:
            (B, S, S) uint8; the rows that they are, since one that can't be read any
            more gives its place to its neighbour; and what was skipped.
        """
        reading = self._ahead.pop(rows.tobytes(), None) or self._read(rows)
        self._ahead = {}
        if ahead is not None:
            self._ahead[ahead.tobytes()] = self._read(ahead)
        squares = [future.result() for future in reading]
        good = np.flatnonzero([isinstance(s, np.ndarray) for s in squares])
        if not len(good):
            raise squares[0]
        distances = np.abs(good - np.arange(len(rows))[:, None])  # (B, good)
        nearest = good[distances.argmin(1)]
        lost = [
            skip(*self.places[row][:2], self.rows["key"].iloc[row], square)
            for row, square in zip(rows, squares, strict=True)
            if isinstance(square, Exception)
        ]
        pixels = torch.from_numpy(np.stack([squares[i] for i in nearest]))
        return pixels, rows[nearest], lost

    def _read(self, rows):
        self._pool = self._pool or ThreadPoolExecutor(4)
        return [self._pool.submit(self._square, row) for row in rows]

    def _square(self, row):
        """(S, S) uint8, or the error that says why there is none."""
        name, _, first, count = self.places[row]
        try:
            with open(self.paths[name], "rb") as file:
                file.seek(first)
                picture = file.read(count)
            scan = decode_picture(picture, f"a picture of {name}")
            square = to_input(scan.pixels, self.size, fit=self.fit, aspect=scan.aspect)
            return np.round(square * 255).astype(np.uint8)
        except Exception as error:
            return error

    def on(self, device: torch.device) -> "Shards":
        """The same: pixels stay on disk."""
        return self

    def take(self, places: np.ndarray) -> "Shards":
        """The samples at these (N,) places; their index stays that of all."""
        rows = self.rows.iloc[places].reset_index(drop=True)
        return replace(self, rows=rows, places=[self.places[i] for i in places])

    def part(self, split: str, most: int | None, *, size: int, fit: str, films: bool):
        """The samples of one split as squares; at most so many, and then in memory."""
        part = self.take(np.flatnonzero(self.rows["split"] == split)[:most])
        part = replace(part, size=size, fit=fit)
        if most is None:
            return part
        rows = np.arange(len(part.rows))
        pixels = torch.zeros(0, size, size)
        if len(rows):
            pixels, rows, _ = part.batch(rows)
        return InMemory(part.rows.iloc[rows].reset_index(drop=True), pixels)


def indexed(
    samples: list[dict], paths: dict[str, Path], skipped: list[dict], digest: str
) -> Shards:
    """An index as a source.

    Samples without a split are for training, and without a patient each is one's own.
    """
    warn_of_unknown_patients(samples)
    places = [tuple(sample["place"]) for sample in samples]
    rows = []
    for sample in samples:
        key = sample["key"]
        row = {"split": "train", "patient_id": key} | sample["row"] | {"key": key}
        rows.append(row)
    names = [f"{shard}/{number}" for shard, number, *_ in places]
    table = pd.DataFrame(rows).assign(path=names)
    return Shards(table, places, paths, skipped, digest, samples)


def stream_order(
    shards: Sequence, *, seed: int, epoch: int, buffer: int = BUFFER
) -> np.ndarray:
    """The order of samples in an epoch: shards as drawn, then each sample falls back.

    A function of seed and epoch alone, so that a stopped run has no position to keep
    and may go on with another number of processes; and disks are read nearly in
    sequence.

    >>> shards = ["a", "a", "b", "b", "c", "c"]
    >>> stream_order(shards, seed=0, epoch=0, buffer=0)
    array([2, 3, 4, 5, 0, 1])

    Args:
        shards: for each of N samples its shard; those of one shard lie together.
        seed, epoch: what the order follows.
        buffer: places that a sample falls back by, at most.
    Returns:
        (N,) a permutation.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    _, number = np.unique(np.asarray(shards), return_inverse=True)
    drawn = rng.permutation(number.max() + 1)
    flow = np.argsort(drawn[number], kind="stable")  # (N,)
    later = np.arange(len(flow)) + rng.random(len(flow)) * buffer
    return flow[np.argsort(later, kind="stable")]


class Queue:
    """The rows of each step: the epochs one after another, cut into batches."""

    def __init__(self, source: InMemory | Shards, *, batch: int, seed: int):
        self.source = source
        self.size = batch
        self.length = source.length(batch)
        # a batch spans two epochs at most, unless it is larger than they
        self.order = lru_cache(maxsize=2)(partial(source.order, seed))

    def steps(self, epochs: int) -> int:
        return -(-epochs * self.length // self.size)

    def epoch(self, step: int) -> int:
        return step * self.size // self.length

    def rows(self, step: int) -> np.ndarray:
        """(batch,) rows of all processes."""
        numbers = np.arange(step * self.size, (step + 1) * self.size)
        epochs, places = np.divmod(numbers, self.length)
        pairs = zip(epochs.tolist(), places, strict=True)
        return np.array([self.order(epoch)[place] for epoch, place in pairs])


def share(rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    """(batch,) -> (batch / world,): what one of `world` processes takes."""
    return rows.reshape(world, -1)[rank]
