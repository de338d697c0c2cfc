"""Where a run's images come from: a table, all of it in memory; or webdataset shards,
of which only the texts are.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from radwb.data.fetch import sha256
from radwb.data.geometry import to_input
from radwb.data.read import check_picture_bytes, decode_picture
from radwb.data.shards import read_member, read_sample, reason, samples_of
from radwb.pretrain.captions import order

BUFFER = 4096  # samples that a shuffle looks ahead


@dataclass
class InMemory:
    """Rows of a table and their squares, (N, S, S) uint8; None for a recipe that sees
    texts alone.
    """

    rows: pd.DataFrame
    pixels: torch.Tensor | None
    skipped: list[dict] = field(default_factory=list)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return order(len(self.rows), seed=seed, epoch=epoch)

    def length(self, batch: int) -> int:
        """Samples of an epoch: whole batches of it."""
        return len(self.rows) // batch * batch

    def batch(self, rows: np.ndarray, ahead: np.ndarray | None = None):
        return None if self.pixels is None else self.pixels[rows], rows, []


@dataclass
class Shards:
    """Samples of webdataset shards; reports and labels are in memory, pixels are read
    where they lie in the tar.

    Args:
        rows: N rows: key, report and what the samples' JSON holds.
        places: N times (shard, number in it, first byte, bytes) of the picture.
        paths: name of a shard -> its file.
        skipped, digest, samples: what is damaged; what the shards are known by; their
            index, of all splits.
        size, fit: how a picture is made square, as in `rw.data.images`.
    """

    rows: pd.DataFrame
    places: list[tuple[str, int, int, int]]
    paths: dict[str, Path]
    skipped: list[dict]
    digest: str
    size: int = 0
    fit: str = "pad"
    samples: list[dict] | None = None
    _pool: ThreadPoolExecutor | None = None
    _ahead: dict = field(default_factory=dict)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return stream_order([p[0] for p in self.places], seed=seed, epoch=epoch)

    def length(self, batch: int) -> int:
        """Samples of an epoch: all; a batch may hold the end of one epoch and the start
        of the next.
        """
        return len(self.rows)

    def batch(self, rows: np.ndarray, ahead: np.ndarray | None = None):
        """Pixels of some rows, while those of the rows `ahead` begin to be read.

        Returns:
            (B, S, S) uint8; the rows that they are, since one that can't be read any
            more gives its place to its neighbour; and what was skipped.
        """
        reading = self._ahead.pop(rows.tobytes(), None) or self._read(rows)
        self._ahead = {} if ahead is None else {ahead.tobytes(): self._read(ahead)}
        got = [future.result() for future in reading]
        good = [i for i, g in enumerate(got) if isinstance(g, np.ndarray)]
        if not good:
            raise got[0]
        taken = [min(good, key=lambda j, i=i: abs(i - j)) for i in range(len(rows))]
        lost = [
            _skip(*self.places[rows[i]][:2], self.rows["key"].iloc[rows[i]], g)
            for i, g in enumerate(got)
            if i not in set(good)
        ]
        return torch.from_numpy(np.stack([got[i] for i in taken])), rows[taken], lost

    def _read(self, rows):
        self._pool = self._pool or ThreadPoolExecutor(4)
        return [self._pool.submit(self._square, r) for r in rows]

    def _square(self, row):
        name, _, first, count = self.places[row]
        try:
            with open(self.paths[name], "rb") as file:
                file.seek(first)
                data = file.read(count)
            scan = decode_picture(data, f"a picture of {name}")
            square = to_input(scan.pixels, self.size, fit=self.fit, aspect=scan.aspect)
            return np.round(square * 255).astype(np.uint8)
        except Exception as error:
            return error

    def part(self, split: str, size: int, fit: str) -> "Shards":
        """The rows of one split, as squares."""
        part = self.take(np.flatnonzero(self.rows["split"] == split))
        return replace(part, size=size, fit=fit, samples=None)

    def take(self, chosen: np.ndarray) -> "Shards":
        """The samples at these (N,) places; their index stays that of all."""
        rows = self.rows.iloc[chosen].reset_index(drop=True)
        places = [self.places[i] for i in chosen]
        return replace(self, rows=rows, places=places, _ahead={})

    def in_memory(self, most: int) -> InMemory:
        rows = np.arange(len(self.rows))[:most]
        pixels, rows, _ = (
            self.batch(rows)
            if len(rows)
            else (torch.zeros(0, self.size, self.size), rows, [])
        )
        return InMemory(self.rows.iloc[rows].reset_index(drop=True), pixels)


def stream_order(
    shards: Sequence, *, seed: int, epoch: int, buffer: int = BUFFER
) -> np.ndarray:
    """The order of the samples in an epoch: shards as drawn, then each sample falls
    back by up to `buffer`.

    A function of seed and epoch alone, so that a stopped run has no position to keep
    and may go on with another number of processes; and disks are read nearly in
    sequence.

    Args:
        shards: for each of N samples its shard; those of one shard lie together.
    Returns:
        (N,) a permutation.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    _, number = np.unique(np.asarray(shards), return_inverse=True)
    flow = np.argsort(rng.permutation(number.max() + 1)[number], kind="stable")  # (N,)
    return flow[
        np.argsort(np.arange(len(flow)) + rng.random(len(flow)) * buffer, kind="stable")
    ]


class Queue:
    """The rows of each step: the epochs one after another, cut into batches."""

    def __init__(self, source: InMemory | Shards, *, batch: int, seed: int):
        self.source, self.size, self.seed, self.length = (
            source,
            batch,
            seed,
            source.length(batch),
        )
        self.orders = {}

    def steps(self, epochs: int) -> int:
        return -(-epochs * self.length // self.size)

    def epoch(self, step: int) -> int:
        return step * self.size // self.length

    def rows(self, step: int) -> np.ndarray:
        """(batch,) rows of all processes."""
        a, b, L = step * self.size, (step + 1) * self.size, self.length
        epochs = range(a // L, (b - 1) // L + 1)
        self.orders = {
            e: self.orders[e] if e in self.orders else self.source.order(self.seed, e)
            for e in epochs
        }
        return np.concatenate(
            [self.orders[e][max(a - e * L, 0) : min(b - e * L, L)] for e in epochs]
        )


def share(rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    """(batch,) -> (batch / world,): what one of `world` processes takes."""
    each = len(rows) // world
    return rows[rank * each :][:each]


# the index of the shards


def shard_paths(shards: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of each shard: of a folder those in its shards.json, or its *.tar."""
    if isinstance(shards, str | Path):
        folder = Path(shards)
        shards = [folder / name for name in _told([folder / "shards.json"])] or sorted(
            folder.glob("*.tar")
        )
    paths = {Path(p).name: Path(p) for p in shards}
    if not paths or len(paths) < len(shards):
        raise ValueError(
            f"expected shards (.tar files of different names), got {[str(s) for s in shards][:3]}. "
            "Try the folder that rw.data.write_shards(table, folder) wrote."
        )
    return paths


def digest(paths: dict[str, Path]) -> str:
    """Of the shards' names and sha256; of one that is lost what shards.json says, so
    that a loss changes nothing.
    """
    told = _told(p.with_name("shards.json") for p in paths.values())
    about = []
    for name, path in tqdm(paths.items(), "checksums of shards", delay=2, leave=False):
        lost = told.get(name, {}).get("sha256")
        about.append([name, _sha256(path) if path.is_file() else lost])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str | None:
    """None of a file that can't be read: `index` says why."""
    try:
        return sha256(path)
    except OSError:
        return None


def index(paths: dict[str, Path]) -> tuple[list[dict], list[dict]]:
    """One pass over the shards: what is in them, and what is damaged.

    Returns:
        {key, row, place} for each sound sample; {shard, number, key, error, samples}
        for each damaged sample, missing shard, or rest of a shard that is cut short.
    """
    told = _told(p.with_name("shards.json") for p in paths.values())
    samples, skipped = [], []
    for name, path in tqdm(paths.items(), "reading shards", delay=2, leave=False):
        before = len(samples) + len(skipped)
        try:
            for sample in _samples(name, path):
                (skipped if "error" in sample else samples).append(sample)
        except Exception as error:
            n = len(samples) + len(skipped) - before
            rows = (
                told[name]["rows"]
                if name in told
                else len(samples) // max(1, len(paths) - 1)
            )  # or as the others
            skipped.append(_skip(name, n, None, error, samples=max(1, rows - n)))
    return samples, skipped


def _samples(name, path):
    for n, key, members, tar in samples_of(path):
        try:
            row, picture = read_sample(tar, members)
            check_picture_bytes(read_member(tar, picture), picture.name)
            yield {
                "key": key,
                "row": row,
                "place": [name, n, picture.offset_data, picture.size],
            }
        except Exception as error:  # what a damaged sample breaks can't be foreseen
            yield _skip(name, n, key, error)


def _skip(name, number, key, error, samples=1):
    return {
        "shard": name,
        "number": number,
        "key": key,
        "error": reason(error),
        "samples": samples,
    }


def _told(files) -> dict[str, dict]:
    """Name -> {name, rows, sha256} of the shards, as the shards.json beside them says."""
    listed = [
        about
        for file in dict.fromkeys(files)
        if file.is_file()
        for about in _listed(file)
    ]
    return {about["name"]: about for about in listed}


def _listed(file: Path) -> list[dict]:
    try:
        listed = json.loads(file.read_text())
        good = all(Path(about["name"]).name == about["name"] for about in listed)
        good = good and all(int(about["rows"]) >= 0 for about in listed)
    except (OSError, ValueError, TypeError, KeyError):
        good = False
    if not good:
        raise ValueError(
            f"expected a list of name, rows and sha256 in {file}, got something else or a part of it. "
            "Try write_shards anew, or remove it."
        )
    return listed


def source(
    samples: list[dict], paths: dict[str, Path], skipped: list[dict], found: str
) -> Shards:
    """An index as a source; samples without a split are for training, and without a
    patient each is one's own.
    """
    unknown = sum("split" in s["row"] and "patient_id" not in s["row"] for s in samples)
    if unknown:
        warnings.warn(
            f"{unknown} of {len(samples)} samples have a split and no patient_id: each is taken for another patient's, "
            "and nobody can tell whether one is on two sides.",
            stacklevel=3,
        )
    rows = [
        {"split": "train", "patient_id": s["key"]} | s["row"] | {"key": s["key"]}
        for s in samples
    ]
    rows = pd.DataFrame(rows).assign(
        path=["{}/{}".format(*s["place"]) for s in samples]
    )
    return Shards(
        rows,
        [tuple(s["place"]) for s in samples],
        paths,
        skipped,
        found,
        samples=samples,
    )


def check_damage(samples: int, skipped: list[dict], max_bad: float, out: Path) -> None:
    """Stop when more is damaged than may be."""
    bad = sum(s["samples"] for s in skipped)
    if bad > max_bad * (samples + bad):
        raise ValueError(
            f"expected at most {max_bad:.1%} damaged samples, got {bad} of about {samples + bad} "
            f"({bad / (samples + bad):.1%}); {out / 'skipped.csv'} names them. "
            "Try to write or copy the shards anew, or a higher max_bad."
        )
