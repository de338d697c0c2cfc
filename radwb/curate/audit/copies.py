"""`near_duplicates`: films that are one film, whoever it was filed under."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from radwb.curate.audit.align import (
    SIDE,
    correlation,
    details,
    laid,
    still,
    stretch,
    warped,
)
from radwb.curate.audit.hashes import bits_apart, hash_pairs
from radwb.curate.audit.pictures import Pictures, read_pictures
from radwb.identifiers import identifiers

LIKE = 0.8  # two patients' films reached 0.72; virtual ones exposed anew 0.83 or more
RADIUS = 6  # bits that hashes may differ in to be held against each other
NEIGHBOURS = 5  # of each film that are held against it
WORTH = 0.35  # likeness from which on a neighbour is
SURE = 0.9  # likeness from which on nothing more is tried
FINE = ((1, 10), (2, 8))  # (level of detail, steps)
COARSE_TO_FINE = ((0, 15), *FINE)
MOST_FILMS = 20_000  # all held against all; above, the hashes propose alone
CLOSE = 4  # bits that they may differ in then: pairs by chance grow as the square
CLOSEST = 3  # films that a film is held against then
STRETCHED = 1.0  # likeness lost a log: chests differ in width, copies don't
SKETCHED = 4  # px that are one in a sketch
FINER = 2  # px that are one in the sketches that are laid on each other
STEPS = 3  # of that
AGREEING = 0.8  # likeness of those: all of 403 moved copies, 1 chance pair in 27
ZOOMS = (1.0, 1.15, 1.4)  # at which a film is held against the others
BATCH = 256  # pairs at a time: bounds the memory
MOST_PAIRS = 2_000  # whose films' details are kept at a time, above MOST_FILMS
BLURS = (4.0, 2.0, 1.0)  # px of 64: coarse details, middle ones, fine ones
KINDS = ("near copy", "mirrored copy", "inverted copy")
COLUMNS = ["first", "second", "kind", "likeness", "bits"]


def near_duplicates(
    table: pd.DataFrame, *, likeness: float = LIKE, pictures: Pictures | None = None
) -> pd.DataFrame:
    """Find films of two patients that are one film, and any film that stands twice.

    Also where it was cropped, zoomed, turned a little, exposed anew, mirrored or
    inverted, or got another marker. Hashes and the nearest neighbours among small
    pictures, all laid on their mean, propose pairs; each is then laid on each other,
    and the correlation of their fine details decides. Above 20,000 films close hashes
    alone propose them, three a film, so that cost grows as the films do: all
    of 300 planted copies that were exposed anew among 30,000 films were found so, and
    nothing else (`benchmarks/scale.py`).

    >>> twice = pd.concat([table.head(3), table.head(1).assign(patient_id="other")])
    >>> near_duplicates(twice)[["first", "second", "kind"]].values.tolist()
    [[0, 3, 'same pixels']]

    Args:
        table: needs path and patient_id. Films of one patient are held against each
            other for the same pixels alone: a follow-up is no copy.
        likeness: correlation from which on two films count as one.
        pictures: what `read_pictures(table)` gave, if it is at hand.
    Returns:
        a row a pair, most alike first: `first` < `second` (rows of the table, counted
        from 0), `kind` (same pixels, near copy, mirrored copy, inverted copy),
        `likeness`, `bits` between their hashes. Of films with the same pixels each is
        paired with the first one.
    """
    pictures = pictures or read_pictures(table)
    patients = _patients(table)
    usable = pictures.usable
    same = _same_pixels(pictures.digests, usable)
    repeated = same["second"].to_numpy()
    films = np.setdiff1d(np.flatnonzero(usable), repeated)
    near = _near(pictures, films, patients, likeness)
    near["bits"] = bits_apart(
        pictures.hashes[near["first"]], pictures.hashes[near["second"]]
    ).astype(int)
    pairs = pd.concat([same, near]).sort_values(
        ["likeness", "first", "second"], ascending=[False, True, True]
    )
    return pairs.drop_duplicates(["first", "second"]).reset_index(drop=True)


def _patients(table):
    """Each row's patient; a row without one is a patient of its own."""
    names = identifiers(table["patient_id"])
    own = [n if name is None else name for n, name in enumerate(names)]
    return pd.factorize(np.array(own, dtype=object))[0]


def _same_pixels(digests, usable):
    rows = pd.DataFrame({"digest": digests, "second": np.arange(len(digests))})
    rows = rows[usable]
    rows["first"] = rows.groupby("digest")["second"].transform("first")
    pairs = rows.loc[rows["first"] < rows["second"], ["first", "second"]]
    return pairs.assign(kind="same pixels", likeness=1.0, bits=0)


def _near(pictures, films, patients, likeness):
    """Pairs of the `films` whose details agree."""
    none = pd.DataFrame(columns=COLUMNS).astype({"first": int, "second": int})
    if len(films) < 2:
        return none
    is_many = len(films) > MOST_FILMS
    hashed = _by_hash(pictures.hashes[films], CLOSE if is_many else RADIUS)
    hashed = _across(hashed, patients[films])
    if is_many:
        hashed = _closest(pictures.small, films, hashed)
        hashed = _agreeing(pictures.small, films, hashed)
        found = _alike_by_hash(pictures, films, hashed, likeness)
    else:
        found = _alike_among_all(pictures, films, patients, hashed, likeness)
    return pd.concat([none, *found])


def _alike_among_all(pictures, films, patients, hashed, likeness):
    """Copies of each kind: all films are held against all."""
    layers = _layers(pictures, films)
    for kind in KINDS:
        turned = [_turned(layer, kind) for layer in layers]
        for start in _starts(turned, layers):
            near = _neighbours(turned, layers, start, patients[films])
            near = _across(near, patients[films])
            pairs = np.unique(np.vstack([hashed, near]), axis=0)
            alike = verified(turned, layers, start, pairs)
            yield _copies(films[pairs], kind, alike, likeness)
            hashed = hashed[:0]  # they are looked at once


def _alike_by_hash(pictures, films, hashed, likeness):
    """Copies among the pairs whose hashes are close; some pairs at a time."""
    for begin in range(0, len(hashed), MOST_PAIRS):
        pairs = hashed[begin : begin + MOST_PAIRS]
        used, place = np.unique(pairs, return_inverse=True)
        layers = _layers(pictures, films[used])
        as_is = still(len(used))
        start = Start(as_is, as_is, level=0, most=0, ways=COARSE_TO_FINE)
        alike = verified(layers, layers, start, place.reshape(-1, 2))
        yield _copies(films[pairs], KINDS[0], alike, likeness)


def _closest(small, films, pairs):
    """Of the pairs those that are worth a look: at most some for each film."""
    sketches = np.concatenate(
        [_sketches(small[films[k : k + BATCH]]) for k in range(0, len(films), BATCH)]
    )
    alike = np.empty(len(pairs), np.float32)
    for begin in range(0, len(pairs), MOST_PAIRS):
        first, second = pairs[begin : begin + MOST_PAIRS].T
        both = sketches[first] * sketches[second]
        alike[begin : begin + MOST_PAIRS] = both.sum(1)
    likely = np.flatnonzero(alike > WORTH)
    likely = likely[np.argsort(-alike[likely], kind="stable")]
    ranked = pd.DataFrame(pairs[likely], columns=["first", "second"])
    ranks = [ranked.groupby(column).cumcount() for column in ranked]
    return pairs[np.sort(likely[np.minimum(*ranks) < CLOSEST])]


def _agreeing(small, films, pairs):
    """Those of the pairs whose finer sketches are alike once one is laid on the other.

    Pairs by chance grow as the square of the films, and this costs a thirtieth of what
    their details do.
    """
    kept = [pairs[:0]]
    for begin in range(0, len(pairs), MOST_PAIRS):
        some = pairs[begin : begin + MOST_PAIRS]
        sketches = [_sketches(small[films[ends]], FINER) for ends in some.T]
        shape = (-1, SIDE // FINER, SIDE // FINER)
        moving, fixed = (torch.from_numpy(one).reshape(shape) for one in sketches)
        seen = torch.ones_like(fixed)
        matrix = laid(moving, fixed, seen, still(len(some)), STEPS)
        both = (warped(seen, matrix) > 0.99) * seen
        alike = correlation(warped(moving, matrix), fixed, both)
        kept.append(some[(alike > AGREEING).numpy()])
    return np.vstack(kept)


def _sketches(small, pixels=SKETCHED):
    """(N, D) middling details of films, of length 1: hardly any work."""
    small = torch.from_numpy(small.astype(np.float32))
    coarse = F.avg_pool2d(small, pixels)
    around = F.avg_pool2d(coarse, SKETCHED)
    around = F.interpolate(around[None], scale_factor=SKETCHED, mode="bilinear")[0]
    return F.normalize((coarse - around).flatten(1), dim=1).numpy()


def _layers(pictures, films):
    """Details of films, coarse to fine, and where they count."""
    small = pictures.small[films].astype(np.float32) / 255
    coarse, *finer = [details(small, blur) for blur in BLURS]
    return [[F.avg_pool2d(part, 2) for part in coarse], *finer]


def _copies(pairs, kind, alike, likeness):
    """Those of the pairs of rows that are alike enough, as a table."""
    is_copy = alike >= likeness
    rows = np.sort(pairs[is_copy], axis=1)
    found = pd.DataFrame(rows, columns=["first", "second"])
    return found.assign(kind=kind, likeness=alike[is_copy])


class Start(NamedTuple):
    """How films may lie on each other, to begin with.

    Attributes:
        moving, fixed: (N, 2, 3) matrices that lay the film that moves, and the other,
            on common ground.
        level: of detail at which neighbours are sought there.
        most: neighbours of a film.
        ways: at which levels of detail, in how many steps, pairs are laid.
    """

    moving: torch.Tensor
    fixed: torch.Tensor
    level: int
    most: int
    ways: tuple


def _starts(turned, layers):
    """Starts on the mean of all films, as the films are, and cropped."""
    plain = turned[0] is layers[0]
    mean = laid_on_mean(layers[0])
    moved = mean if plain else laid_on_mean(turned[0], layers[0])
    yield Start(moved, mean, level=1, most=NEIGHBOURS if plain else 2, ways=FINE)
    as_is = still(len(mean))
    for zoom in ZOOMS if plain else ZOOMS[:1]:
        zoomed = as_is * torch.tensor([zoom, zoom, 1])
        yield Start(zoomed, as_is, level=0, most=1, ways=COARSE_TO_FINE)


def _by_hash(hashes, radius):
    """(P, 2) films whose hashes are close; of many equal ones each with the first."""
    different, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    close = hash_pairs(different, radius)
    pairs = first[close[["first", "second"]].to_numpy()]
    place = np.arange(len(hashes))
    equal = np.stack([first[group], place], axis=1)[first[group] != place]
    return np.vstack([pairs, equal])


def _across(pairs, patients):
    """Pairs of two patients, each once; the first is the one that is moved."""
    pairs = pairs[patients[pairs[:, 0]] != patients[pairs[:, 1]]]
    return np.unique(pairs, axis=0).reshape(-1, 2)


def _turned(layer, kind):
    """Details and where they count, of the picture mirrored or inverted."""
    values, seen = layer
    if kind == "mirrored copy":
        return values.flip(-1), seen.flip(-1)
    if kind == "inverted copy":
        return -values, seen
    return layer


def laid_on_mean(layer, onto=None) -> torch.Tensor:
    """(N, 2, 3) matrices that lay each film's coarse details on the mean of all.

    Args:
        layer: coarse `details`.
        onto: those of the films whose mean it is; None for the same.
    """
    values = layer[0] * layer[1]
    same = onto is None
    ground = values if same else onto[0] * onto[1]
    matrix = still(len(values))
    place = still(len(ground))
    for _ in range(3):
        mean = _in_batches(warped, ground, place).mean(0)
        place = _on(mean, ground, place)
    return place if same else _on(mean, values, matrix)


def _on(mean, values, matrix):
    def lay(values, matrix):
        fixed = mean.expand_as(values)
        return laid(values, fixed, torch.ones_like(values), matrix, 10)

    return _in_batches(lay, values, matrix)


def _in_batches(function, *tensors):
    parts = zip(*(tensor.split(BATCH) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])


def _descriptors(layer, matrix):
    """(N, D) details of the films as they lie on the mean, of length 1."""
    values, seen = layer
    laid = _in_batches(warped, values * seen, matrix)[:, 2:-2, 2:-2]
    laid = laid.flatten(1)
    laid = laid - laid.mean(1, keepdim=True)
    return laid / (laid.norm(dim=1, keepdim=True) + 1e-6)


def _neighbours(turned, layers, start, patients):
    """(P, 2) each film's nearest ones of other patients that are worth a look."""
    others = _descriptors(turned[start.level], start.moving)
    plain = _descriptors(layers[start.level], start.fixed)
    patients = torch.from_numpy(patients)
    most = min(start.most, len(plain))
    found = []
    for begin in range(0, len(plain), BATCH):
        alike = others[begin : begin + BATCH] @ plain.T
        own = patients[begin : begin + BATCH, None] == patients[None]
        best, place = alike.masked_fill(own, -1).topk(most, dim=1)
        row, rank = torch.nonzero(best > WORTH, as_tuple=True)
        found.append(torch.stack([row + begin, place[row, rank]], dim=1))
    return torch.cat(found).numpy()


def verified(moving, fixed, start: Start, pairs: np.ndarray) -> np.ndarray:
    """(P,) how alike the details of pairs are, once one is laid on the other.

    Args:
        moving, fixed: `details` of all films, coarse, middle and fine; the first of a
            pair is moved onto the second.
        start: how they lie to begin with.
        pairs: (P, 2) films.
    """
    out = np.zeros(len(pairs))
    for begin in range(0, len(pairs), BATCH):
        a, b = torch.from_numpy(pairs[begin : begin + BATCH]).T
        first = _between(start.moving[a], start.fixed[b])
        best = _alike(moving[2], fixed[2], a, b, first)
        for ways in dict.fromkeys((FINE, start.ways)):
            behind = torch.nonzero(best < SURE).flatten()
            found = _laid_and_alike(
                moving, fixed, a[behind], b[behind], first[behind], ways
            )
            best[behind] = torch.maximum(best[behind], found)
        out[begin : begin + BATCH] = best
    return out


def _laid_and_alike(moving, fixed, a, b, matrix, ways):
    """How alike pairs are once laid on each other at some levels of detail."""
    for level, steps in ways:
        (values, _), (ground, seen) = moving[level], fixed[level]
        matrix = laid(
            values[a], ground[b], seen[b], matrix, steps, stretching=level == 2
        )
    return _alike(moving[2], fixed[2], a, b, matrix)


def _alike(moving, fixed, a, b, matrix):
    (values, there), (ground, seen) = moving, fixed
    both = (warped(there[a], matrix) > 0.99) * seen[b]
    alike = correlation(warped(values[a], matrix), ground[b], both)
    return alike - STRETCHED * stretch(matrix)


def _between(start, end):
    """(B, 2, 3) how the first lies on the second, both of which lie on the mean."""
    last = torch.tensor([0.0, 0, 1]).expand(len(end), 1, 3)
    inverse = torch.linalg.inv(torch.cat([end, last], dim=1))
    return (torch.cat([start, last], dim=1) @ inverse)[:, :2]


class Lying(NamedTuple):
    """Films as they lie on the mean of all: (N, D) descriptors of length 1."""

    descriptors: torch.Tensor

    @classmethod
    def of(cls, pictures: Pictures, films: np.ndarray) -> "Lying":
        """Of the films with these numbers."""
        small = pictures.small[films].astype(np.float32) / 255
        coarse = [F.avg_pool2d(part, 2) for part in details(small, BLURS[0])]
        return cls(_descriptors(details(small, BLURS[1]), laid_on_mean(coarse)))

    def nearest(self, rows, among, films) -> np.ndarray:
        """For each of the rows that row `among` others whose film looks most like it.

        Args:
            rows, among: rows of a table.
            films: (N,) rows of the table that the descriptors are of, in order.
        """
        these, those = np.searchsorted(films, rows), np.searchsorted(films, among)
        out = np.empty(len(these), int)
        for begin in range(0, len(these), BATCH):
            some = torch.from_numpy(these[begin : begin + BATCH])
            alike = self.descriptors[some] @ self.descriptors[those].T
            out[begin : begin + BATCH] = alike.argmax(1).numpy()
        return among[out]
