"""`near_duplicates`: films that are one film, whoever it was filed under."""

import numpy as np
import pandas as pd
import torch

from radwb.curate.audit.align import (
    BATCH,
    correlation,
    details,
    similarity,
    still,
    warped,
)
from radwb.curate.audit.hashes import bits_apart, hash_pairs
from radwb.curate.audit.pictures import Pictures, read_pictures
from radwb.identifiers import identifiers

LIKE = 0.8  # details of two patients' films: at most 0.72; of one film anew: 0.9
RADIUS = 6  # bits that hashes may differ in to be held against each other
NEIGHBOURS = 5  # of each film that are held against it
WORTH = 0.4  # likeness from which on a neighbour is
PROMISING = 0.5  # likeness from which on a pair is laid on each other more finely
MOST_FILMS = 20_000  # of which all are held against all; above, the hashes propose alone
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
    and the correlation of their fine details decides.

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
    pairs = pd.DataFrame(columns=COLUMNS).astype({"first": int, "second": int})
    if len(films) < 2:
        return pairs
    small = pictures.small[films].astype(np.float32) / 255
    layers = [details(small, blur) for blur in BLURS]
    hashed = _by_hash(pictures.hashes[films])
    found = [pairs]
    straight = laid_on_mean(layers[0])
    plain = _descriptors(layers[-1], straight)
    for kind in KINDS:
        turned = [_turned(layer, kind) for layer in layers]
        matrix = straight if kind == KINDS[0] else laid_on_mean(turned[0], layers[0])
        proposed = hashed if kind == KINDS[0] else hashed[:0]
        if len(films) <= MOST_FILMS:
            others = _descriptors(turned[-1], matrix)
            proposed = np.vstack([proposed, _neighbours(others, plain, patients[films])])
        proposed = _across(proposed, patients[films])
        alike = verified(turned, layers, matrix, straight, proposed)
        kept = alike >= likeness
        rows = np.sort(films[proposed[kept]], axis=1)
        new = {"first": rows[:, 0], "second": rows[:, 1], "likeness": alike[kept]}
        found.append(pd.DataFrame(new).assign(kind=kind, bits=0))
    return pd.concat(found)


def _by_hash(hashes):
    """(P, 2) films whose hashes are close; of many equal ones each with the first."""
    different, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    close = hash_pairs(different, RADIUS)
    pairs = first[close[["first", "second"]].to_numpy()]
    place = np.arange(len(hashes))
    equal = np.stack([first[group], place], axis=1)[first[group] != place]
    return np.vstack([pairs, equal])


def _across(pairs, patients):
    """Pairs of two patients, each once, the lower number first."""
    pairs = np.sort(pairs[patients[pairs[:, 0]] != patients[pairs[:, 1]]], axis=1)
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
        return similarity(values, fixed, torch.ones_like(values), matrix, steps=10)

    return _in_batches(lay, values, matrix)


def _in_batches(function, *tensors):
    parts = zip(*(tensor.split(BATCH) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])


def _descriptors(layer, matrix):
    """(N, D) fine details of the films as they lie on the mean, of length 1."""
    values, seen = layer
    laid = _in_batches(warped, values * seen, matrix)[:, 4:-4, 4:-4]
    laid = laid.flatten(1)
    laid = laid - laid.mean(1, keepdim=True)
    return laid / (laid.norm(dim=1, keepdim=True) + 1e-6)


def _neighbours(others, plain, patients):
    """(P, 2) each film's nearest ones of other patients that are worth a look."""
    patients = torch.from_numpy(patients)
    most = min(NEIGHBOURS, len(plain))
    found = []
    for start in range(0, len(plain), BATCH):
        alike = others[start : start + BATCH] @ plain.T
        own = patients[start : start + BATCH, None] == patients[None]
        alike = alike.masked_fill(own, -1)
        best, place = alike.topk(most, dim=1)
        row, rank = torch.nonzero(best > WORTH, as_tuple=True)
        found.append(torch.stack([row + start, place[row, rank]], dim=1))
    return torch.cat(found).numpy()


def verified(moving, fixed, start, end, pairs: np.ndarray) -> np.ndarray:
    """(P,) how alike the details of pairs are, once one is laid on the other.

    Args:
        moving, fixed: `details` of all films, coarse, middle and fine; the first of a
            pair is moved onto the second.
        start, end: (N, 2, 3) how each lies on the mean.
        pairs: (P, 2) films.
    """
    out = np.zeros(len(pairs))
    for begin in range(0, len(pairs), BATCH):
        a, b = torch.from_numpy(pairs[begin : begin + BATCH]).T
        matrix = _between(start[a], end[b])
        best = _alike(moving[2], fixed[2], a, b, matrix)
        for level, steps in ((1, 10), (2, 8)):
            (values, _), (ground, seen) = moving[level], fixed[level]
            matrix = similarity(values[a], ground[b], seen[b], matrix, steps)
            best = torch.maximum(best, _alike(moving[2], fixed[2], a, b, matrix))
            go_on = best > PROMISING
            out[begin : begin + BATCH] = best
            if not go_on.any():
                break
    return out


def _alike(moving, fixed, a, b, matrix):
    (values, there), (ground, seen) = moving, fixed
    both = (warped(there[a], matrix) > 0.99) * seen[b]
    return correlation(warped(values[a], matrix), ground[b], both)


def _between(start, end):
    """(B, 2, 3) how the first lies on the second, both of which lie on the mean."""
    last = torch.tensor([0.0, 0, 1]).expand(len(end), 1, 3)
    inverse = torch.linalg.inv(torch.cat([end, last], dim=1))
    return (torch.cat([start, last], dim=1) @ inverse)[:, :2]
