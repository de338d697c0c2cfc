"""Does the score hang on what the map marks? Deletion and insertion, stability under
shifts, agreement of methods.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from tqdm.auto import tqdm

from radwb.attend.doubt import maps_by, ranks, similarity
from radwb.attend.score import mean_by_patient, random_map
from radwb.attend.targets import directions
from radwb.attend.tower import forward
from radwb.data.geometry import to_input

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
NEIGHBOURS = {
    (0, 1): 1 / 6,
    (1, 0): 1 / 6,
    (1, 1): 1 / 12,
    (1, -1): 1 / 12,
}  # of ROAD; each also the other way


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What `faithfulness` found.

    Attributes:
        table: index curve (deletion, insertion), of (map, random, gain); columns mean,
            low, high, n, patients, note. An area is the mean score along the curve; the
            gain is how much better than random: a deletion that falls lower, an
            insertion that rises higher.
        curves: curve, of (map, random), share (of the pixels that the map marked first
            and that are gone, or are all that is left; the scan as it is has 0 and 1),
            mean, low, high, n, patients, note.
        gains: (scans, curves), one row a scan, for comparisons that pair them; of
            several maps (scans, map x curve).
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    gains: pd.DataFrame


def faithfulness(
    model,
    scans,
    maps,
    *,
    target,
    shares=SHARES,
    noise: float = 0.01,
    groups=None,
    batch=32,
    seed=0,
) -> Faithfulness:
    """Take away what the map marks, or keep only that, and watch the score (ROAD, Rong
    et al. 2022, arXiv 2202.00449).

    >>> faithfulness(model, scans, maps, target=("pleural effusion", "no pleural effusion")).table.loc["deletion"]

    A pixel that is taken away becomes the weighted mean of its neighbours, all such
    pixels solved for at once, and a little noise: black or grey would tell the model
    the outline of what is gone. Beside each map runs smooth noise, which takes pixels
    in patches as large as the map does. What is gone isn't made healthy: an effusion
    cut out along its own outline is filled from the diaphragm below it and stays an
    effusion, so even the truth may gain nothing.

    Args:
        scans, maps: a Scan and its map, or lists of them; or a dict of lists, name ->
            maps, for several methods that then share their control. Table and curves
            have that name as `map`.
        target: as in `attention_map`; or a function that takes the model's input (B, C,
            S, S) and gives scores (B,).
        shares: of the pixels, rising, each above 0 and below 1.
        noise: standard deviation, in grey values from 0 to 1.
        groups: the patient of each scan; None = each scan is another patient's.
    """
    scans, many = _listed(scans), maps if isinstance(maps, dict) else {"map": maps}
    many = {name: _listed(few) for name, few in many.items()}
    groups = np.arange(len(scans)) if groups is None else groups
    lengths = [len(few) for few in many.values()]
    if not {len(scans), *lengths} == {len(groups)}:
        raise ValueError(
            f"expected a map and a group for each scan, got {len(scans)} scans, "
            f"{' and '.join(map(str, lengths))} maps, {len(groups)} groups"
        )
    if not all(
        0 < a < b < 1 for a, b in zip(shares, [*shares[1:], 1 - 1e-9], strict=True)
    ):
        raise ValueError(
            f"expected shares that rise between 0 and 1, got {tuple(shares)}"
        )
    score = target if callable(target) else lambda x: _target_score(model, x, target)
    jobs = [
        (scan, [few[i] for few in many.values()] + [random_map(scan.shape, seed + i)])
        for i, scan in enumerate(scans)
    ]
    rows = [
        _curves(model, scan, both, score, shares, noise, [seed, i], batch)
        for i, (scan, both) in enumerate(tqdm(jobs, "imputing", delay=2, leave=False))
    ]
    values = np.stack(rows)  # (N, 2 curves, maps and the random one, shares + 1)
    found = [
        _against_random(values[:, :, [n, -1]], shares, groups) for n in range(len(many))
    ]
    if not isinstance(maps, dict):
        return found[0]
    tables, curves = (
        {name: getattr(f, part) for name, f in zip(many, found, strict=True)}
        for part in ("table", "curves")
    )
    table, curves = pd.concat(tables, names=["map"]), pd.concat(curves, names=["map"])
    gains = {name: f.gains for name, f in zip(many, found, strict=True)}
    gains = pd.concat(gains, axis=1, names=["map", "curve"])
    return Faithfulness(table, curves.reset_index("map"), gains)


def _against_random(values, shares, groups):
    """(N, 2 curves, map and random, shares + 1) scores -> Faithfulness."""
    steps = {"deletion": (0, *shares), "insertion": (*shares, 1)}
    names = ["curve", "of", "share"]
    index = [
        (curve, of, share)
        for curve, along in steps.items()
        for of in ("map", "random")
        for share in along
    ]
    points = pd.DataFrame(
        values.reshape(len(values), -1),
        columns=pd.MultiIndex.from_tuples(index, names=names),
    )
    areas = [
        np.trapezoid(values[:, i], along, axis=-1) / np.ptp(along)
        for i, along in enumerate(steps.values())
    ]
    gains = [
        sign * (area[:, 0] - area[:, 1])
        for sign, area in zip((-1, 1), areas, strict=True)
    ]
    each = pd.DataFrame(dict(zip(steps, gains, strict=True))).rename_axis(
        columns="curve"
    )
    areas = [
        {"map": area[:, 0], "random": area[:, 1], "gain": gain}
        for area, gain in zip(areas, gains, strict=True)
    ]
    areas = {
        (curve, of): v
        for curve, both in zip(steps, areas, strict=True)
        for of, v in both.items()
    }
    table = mean_by_patient(pd.DataFrame(areas).rename_axis(columns=names[:2]), groups)
    return Faithfulness(table, mean_by_patient(points, groups).reset_index(), each)


def impute(pixels: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Fill pixels with the weighted mean of their eight neighbours, known or filled
    alike: ROAD's linear system.

    >>> impute(np.array([[1.0, 0, 3]]), np.array([[False, True, False]]))
    array([[1., 2., 3.]])

    Args:
        pixels: (H, W).
        gone: (H, W) bool, which of them to fill; at least one is left.
    Returns:
        (H, W); a direct neighbour weighs 1/6, a diagonal one 1/12, at the rim those
        that are there.
    """
    if gone.all():
        raise ValueError(
            "expected at least one pixel that is left, got none to fill the others from"
        )
    lost, kept = np.flatnonzero(gone), np.flatnonzero(~gone)
    system = _system(gone.shape)[
        lost
    ]  # symmetric, and on the lost pixels positive: conjugate gradients solve it
    known = pixels.ravel()[kept].astype(np.float64)
    filled, failed = cg(
        system[:, lost],
        -system[:, kept] @ known,
        np.full(len(lost), known.mean()),
        rtol=1e-6,
    )
    if failed:
        raise RuntimeError(
            f"the imputation of {len(lost)} of {gone.size} pixels did not converge"
        )
    out = pixels.astype(np.float64).copy()
    out.ravel()[lost] = filled
    return out


def stability(
    model,
    scans,
    *,
    method="relevance",
    target=None,
    layer=None,
    head=None,
    shifts=((0, 0.05), (0.05, 0), (0, -0.05), (-0.05, 0)),
    groups=None,
) -> pd.DataFrame:
    """Shift the scan a little, move its map back, and compare with the map of the scan
    as it was.

    >>> stability(model, scans, target="pleural effusion").loc["moved back", "mean"]

    Args:
        method: a name in `METHODS`, or a function (model, scan, target) -> (H, W)
            array.
        target, layer, head: as in `attention_map`.
        shifts: (down, right) as shares of the scan's height and width, to the whole
            pixel; the rim that comes in repeats the last one.
    Returns:
        index "moved back", and the control "left in place", in which a map that ignores
        the scan is the better one; columns mean (rank correlation where both maps show
        the same tissue), low, high, n, patients, note.
    """
    scans = _listed(scans)
    groups = np.arange(len(scans)) if groups is None else groups
    if not (np.abs(shifts) < 1).all():
        raise ValueError(
            f"expected shifts as shares of the scan's sides, under 1, got {tuple(shifts)}"
        )
    ask, found = dict(target=target, method=method, layer=layer, head=head), []
    plain = _values(maps_by(model, scans, **ask))
    for shift in tqdm(shifts, "shifting", delay=2, leave=False):
        px = [
            tuple(
                round(share * side) for share, side in zip(shift, s.shape, strict=True)
            )
            for s in scans
        ]
        moved = [
            replace(s, pixels=_shift(s.pixels, *by), truth={})
            for s, by in zip(scans, px, strict=True)
        ]
        parts = [
            (_window(m, dy, dx), _window(p, -dy, -dx), _window(p, dy, dx))
            for m, p, (dy, dx) in zip(
                _values(maps_by(model, moved, **ask)), plain, px, strict=True
            )
        ]
        there, back, place = (ranks(few) for few in zip(*parts, strict=True))
        found.append(np.stack([similarity(there, back), similarity(there, place)], 1))
    points = pd.DataFrame(
        np.mean(found, axis=0), columns=["moved back", "left in place"]
    )
    return mean_by_patient(points, groups, limits=(-1, 1))


def agreement(maps: dict, *, groups=None) -> pd.DataFrame:
    """How alike the maps of several methods are.

    >>> rw.show.heatmap(agreement({"relevance": some_maps, "gradcam": others})["mean"].unstack())

    Args:
        maps: name -> maps, for all names of the same scans in the same order.
    Returns:
        index first, second (every ordered pair, so that `["mean"].unstack()` is the
        square matrix); columns mean (rank correlation over scans), low, high, n,
        patients, note.
    """
    if len({len(few) for few in maps.values()}) != 1:
        raise ValueError(
            f"expected maps of the same scans, got { {name: len(few) for name, few in maps.items()} }"
        )
    ranked = {name: ranks(few) for name, few in maps.items()}
    pairs = {(a, b): similarity(ranked[a], ranked[b]) for a in ranked for b in ranked}
    points = pd.DataFrame(pairs).rename_axis(columns=["first", "second"])
    groups = np.arange(len(points)) if groups is None else groups
    return mean_by_patient(points, groups, limits=(-1, 1))


def target_scores(model, scans, target, *, batch=32) -> np.ndarray:
    """(N,) what the maps explain: the cosine with the phrase, the difference of a
    pair's, or a class's logit.
    """
    parts = [scans[i : i + batch] for i in range(0, len(scans), batch)]
    return np.concatenate(
        [_target_score(model, model.preprocess(list(few)), target) for few in parts]
    )


def _target_score(model, x, target):
    with torch.no_grad():
        output = forward(model, x)
        return (
            (output * directions(model, target, len(x)).to(output))
            .sum(-1)
            .float()
            .cpu()
            .numpy()
        )


def _curves(model, scan, maps, score, shares, noise, seed, batch):
    """(2 curves, maps, shares + 1) scores of one scan; first in deletion and last in
    insertion the scan as it is.
    """
    fit = dict(size=model.size, fit=model.fit, aspect=scan.aspect)
    pixels, inside = (
        to_input(scan.pixels, **fit),
        to_input(np.ones(scan.shape), **fit).ravel() > 0,
    )
    inputs = [pixels]
    for curve in ("deletion", "insertion"):
        for m in maps:
            rng = np.random.default_rng(
                seed
            )  # anew, so that a map gets the same beside others as alone
            values = to_input(np.asarray(getattr(m, "values", m)), **fit).ravel()
            order = np.lexsort(
                [rng.random(values.size), -values]
            )  # ties in random order, not row by row
            order = order[inside[order]]  # the padding is no part of the scan
            for share in shares:
                marked, rest = np.split(order, [round(share * len(order))])
                lost = np.zeros(pixels.shape, bool)
                lost.ravel()[marked if curve == "deletion" else rest] = True
                inputs.append(
                    impute(pixels, lost) + lost * rng.normal(0, noise, lost.shape)
                )
    x = torch.as_tensor(np.stack(inputs), dtype=torch.float32)[:, None]
    with torch.no_grad():
        scores = [
            score(model.normalise(few.to(model.device))) for few in x.split(batch)
        ]
    scores = np.concatenate([torch.as_tensor(s).float().cpu().numpy() for s in scores])
    ends, curves = (
        np.full((len(maps), 1), scores[0]),
        scores[1:].reshape(2, len(maps), len(shares)),
    )
    return np.stack([np.hstack([ends, curves[0]]), np.hstack([curves[1], ends])])


@lru_cache(maxsize=4)
def _system(shape):
    """(H W, H W) sparse: what a pixel's neighbours weigh together, less what each
    weighs.
    """
    (H, W), index, entries = shape, np.arange(np.prod(shape)).reshape(shape), []
    for (dy, dx), weight in NEIGHBOURS.items():
        a = index[: H - dy, max(0, -dx) : W - max(0, dx)].ravel()
        b = index[dy:, max(0, dx) : W + min(0, dx)].ravel()
        entries.append((a, b, np.full(len(a), weight)))
    a, b, weight = (np.concatenate(part) for part in zip(*entries, strict=True))
    half = coo_matrix((weight, (a, b)), shape=(index.size, index.size)).tocsr()
    weights = half + half.T
    return (diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()


def _values(maps):
    return [np.asarray(getattr(m, "values", m)) for m in maps]


def _shift(pixels, dy, dx):
    """What was at (y, x) is at (y + dy, x + dx)."""
    H, W = pixels.shape
    return pixels[np.clip(np.arange(H) - dy, 0, H - 1)][
        :, np.clip(np.arange(W) - dx, 0, W - 1)
    ]


def _window(values, dy, dx):
    """The part of a map that still shows tissue after a shift by (dy, dx)."""
    H, W = values.shape
    return values[max(0, dy) : H + min(0, dy), max(0, dx) : W + min(0, dx)]


def _listed(scans):
    return list(scans) if isinstance(scans, list | tuple) else [scans]
