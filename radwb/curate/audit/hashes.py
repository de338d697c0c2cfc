"""Perceptual hashes of pictures, and all pairs of them that are close, exactly."""

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

SIDE = 32  # a picture is shrunk to this before its cosine transform
KEPT = 8  # rows and columns of lowest frequency
LOBES = 3  # of Lanczos' window
GROUPS = 4  # rows of the small picture that are made at a time
BITS = 64
CHUNK = 1 << 22  # candidates looked at together: bounds the memory


def image_hashes(pictures: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each picture that stays when it is resized or made brighter.

    It is imagehash's `phash` (Lanczos to 32 x 32, cosine transform, which of the 8 x 8
    lowest frequencies lie above their median) for many pictures at once, and without
    its rounding between rows and columns: a few hashes differ from it by a bit or two.

    >>> film = rw.data.images(table.head(1), 160)
    >>> darker = film - film // 4
    >>> bits_apart(image_hashes(film), image_hashes(darker)).tolist()
    [0]

    Args:
        pictures: (N, H, W) uint8.
    Returns:
        (N,) uint64.
    """
    N, rows, columns = pictures.shape
    across = _lanczos(columns).T
    small = np.empty((N, SIDE, SIDE), np.float32)
    for n, picture in enumerate(pictures):
        # rows first, as few of them make one row of the small picture
        picture = picture.astype(np.float32)
        bands = [weights @ picture[place] for place, weights in _bands(rows)]
        small[n] = np.concatenate(bands) @ across
    small = np.clip(np.floor(small + 0.5), 0, 255)
    waves = _waves()
    low = (waves @ small @ waves.T).reshape(N, BITS)
    above = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8")[:, 0].astype(np.uint64)


@cache
def _lanczos(size):
    """(SIDE, size) weights with which Pillow shrinks, or enlarges, a line of pixels."""
    scale = size / SIDE
    width = max(scale, 1)
    middle = (np.arange(SIDE)[:, None] + 0.5) * scale
    away = (np.arange(size) + 0.5 - middle) / width
    near = np.abs(away) < LOBES
    weights = np.where(near, np.sinc(away) * np.sinc(away / LOBES), 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


@cache
def _bands(size):
    """[(rows of the picture, their weights for some rows of the small picture)]."""
    bands = []
    for weights in np.split(_lanczos(size), GROUPS):
        used = np.flatnonzero(weights.any(axis=0))
        place = slice(used[0], used[-1] + 1)
        bands.append((place, np.ascontiguousarray(weights[:, place])))
    return bands


@cache
def _waves():
    """(KEPT, SIDE) the lowest cosines."""
    frequency = np.arange(KEPT)[:, None]
    place = 2 * np.arange(SIDE) + 1
    angle = np.pi * frequency * place / (2 * SIDE)
    return (2 * np.cos(angle)).astype(np.float32)


def bits_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In how many bits two hashes differ (Hamming's distance).

    >>> int(bits_apart(np.uint64(5), np.uint64(6)))
    2

    Args:
        first, second: uint64, of one shape.
    """
    return np.bitwise_count(first ^ second)


def hash_pairs(hashes: np.ndarray, radius: int) -> pd.DataFrame:
    """All pairs of hashes that differ in at most `radius` bits: none is missed.

    >>> hash_pairs(np.array([7, 5, 1 << 40], np.uint64), 2).values.tolist()
    [[0, 1, 1]]

    Of radius + j bands of bits at least j are the same in such a pair, so that only
    hashes are compared that share j bands; sorting brings those together.

    Args:
        hashes: (N,) uint64. Many equal ones give a pair each: take `np.unique` first.
        radius: bits, 0 to 16.
    Returns:
        rows `first` < `second` and the bits between them, in order.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    if not 0 <= radius <= 16:
        raise ValueError(f"expected a radius of 0 to 16 bits, got {radius}")
    agreeing = _agreeing(len(hashes), radius)
    bands = np.array_split(np.arange(BITS), radius + agreeing)
    found = [np.empty(0, np.int64)]
    for chosen in combinations(bands, agreeing):
        mask = sum(1 << int(bit) for band in chosen for bit in band)
        found += _close_in(hashes, np.uint64(mask), radius)
    codes = np.unique(np.concatenate(found))
    first, second = np.divmod(codes, max(len(hashes), 1))
    bits = bits_apart(hashes[first], hashes[second])
    return pd.DataFrame({"first": first, "second": second, "bits": bits.astype(int)})


def _agreeing(N, radius):
    """How many bands must agree: what costs least, sorting and comparing together."""

    def cost(agreeing):
        bands = radius + agreeing
        shared_bits = BITS * agreeing / bands
        compared = N**2 / 2 / 2**shared_bits
        return comb(bands, agreeing) * (20 * N + compared)

    return min(range(1, 5), key=cost)


def _close_in(hashes, mask, radius):
    """[codes of pairs that agree in the bits of `mask` and nearly in the others]."""
    N = len(hashes)
    if N < 2:
        return
    keys = hashes & mask
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_first = np.r_[True, keys[1:] != keys[:-1]]
    starts = np.flatnonzero(is_first)
    ends = np.r_[starts[1:], N]
    # each place is held against those behind it in its run
    end = np.repeat(ends, ends - starts)
    behind = end - np.arange(N) - 1
    places = np.flatnonzero(behind)
    for part in _in_chunks(places, behind[places]):
        counts = behind[part]
        left = np.repeat(part, counts)
        before = np.cumsum(counts) - counts
        steps = np.arange(len(left)) - np.repeat(before, counts)
        first, second = order[left], order[left + steps + 1]
        close = bits_apart(hashes[first], hashes[second]) <= radius
        low = np.minimum(first[close], second[close])
        yield low * N + np.maximum(first[close], second[close])


def _in_chunks(places, counts):
    """The places in parts whose counts sum to about `CHUNK`."""
    if not len(places):
        return []
    part = np.cumsum(counts) // CHUNK
    return np.split(places, np.flatnonzero(np.diff(part)) + 1)
