"""Does the score hang on what the map marks? Deletion and insertion (ROAD)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from radwb.attend.blind import random_map
from radwb.attend.doubt.impute import impute
from radwb.attend.map import Map, values_of
from radwb.attend.progress import in_batches, steps
from radwb.attend.score import mean_by_patient
from radwb.attend.targets import directions
from radwb.attend.tower import forward
from radwb.data.geometry import to_input
from radwb.data.scan import Scan
from radwb.models.model import Model

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
GAINS = {"deletion": -1, "insertion": 1}  # a good map's score falls, or rises


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What `faithfulness` measured.

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
    model: Model,
    scans: Scan | list[Scan],
    maps: Map | list | dict[str, list],
    *,
    target: str | tuple | int | Callable,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    groups: Sequence | None = None,
    batch: int = 32,
    seed: int = 0,
) -> Faithfulness:
    """Take away what your map marks, or keep only that, and watch the score.

    ROAD, after Rong et al. 2022, arXiv 2202.00449.

    >>> pair = ("pleural effusion", "no pleural effusion")
    >>> maps = rw.attend.attention_maps(model, scans, targets=pair)
    >>> faith = faithfulness(model, scans, maps, target=pair, shares=[0.3, 0.6])
    >>> faith.table.loc["deletion"].index.tolist()
    ['map', 'random', 'gain']

    A pixel that is taken away becomes the weighted mean of its neighbours, all such
    pixels solved for at once, and a little noise: black or grey would tell the model
    the outline of what is gone. Beside each map runs smooth noise, which takes pixels
    in patches as large as the map does. What is gone isn't made healthy: an effusion
    cut out along its own outline is filled from the diaphragm below it and stays an
    effusion, so even the truth may gain nothing.

    Args:
        model: a `rw.models.Model`.
        scans: a Scan, or a list of them.
        maps: its map, or a list of theirs; or a dict of lists, name -> maps, for
            several methods that then share their control. Table and curves have that
            name as `map`.
        target: as in `attention_map`; or a function that takes the model's input (B, C,
            S, S) and gives scores (B,).
        shares: of the pixels, rising, each above 0 and below 1.
        noise: standard deviation, in grey values from 0 to 1.
        groups: the patient of each scan; None = each scan is another patient's.
        batch: images in one pass.
        seed: of the noise and of the control.
    Raises:
        ValueError: not a map and a group for each scan, or shares that don't rise.
    """
    scans = _listed(scans)
    by_name = maps if isinstance(maps, dict) else {"map": maps}
    by_name = {name: _listed(of_name) for name, of_name in by_name.items()}
    if groups is None:
        groups = np.arange(len(scans))
    _require_pairs(scans, by_name, groups)
    _require_rising(shares)
    score = target if callable(target) else scorer(model, target)
    points = []
    for i, scan in enumerate(steps(scans, "imputing")):
        drawn = [of_name[i] for of_name in by_name.values()]
        drawn.append(random_map(scan.shape, seed + i))
        inputs = _inputs(model, scan, drawn, shares, noise, [seed, i])
        points.append(_curves(model, inputs, score, len(drawn), batch))
    points = np.stack(points)  # (N, 2 curves, maps and the random one, shares + 1)
    several = {
        name: _against_random(points[:, :, [n, -1]], shares, groups)
        for n, name in enumerate(by_name)
    }
    return _side_by_side(several) if isinstance(maps, dict) else several["map"]


def _listed(scans):
    return list(scans) if isinstance(scans, list | tuple) else [scans]


def _require_pairs(scans, by_name, groups):
    lengths = [len(of_name) for of_name in by_name.values()]
    if {len(scans), *lengths} != {len(groups)}:
        raise ValueError(
            f"expected a map and a group for each scan, got {len(scans)} scans, "
            f"{' and '.join(map(str, lengths))} maps, {len(groups)} groups"
        )


def _require_rising(shares):
    steps = np.diff([0, *shares, 1])
    if not (steps > 0).all():
        raise ValueError(
            f"expected shares that rise between 0 and 1, got {tuple(shares)}"
        )


def _inputs(model, scan, maps, shares, noise, seed):
    """(n, size, size): the scan as it is, then of each curve, map and share imputed."""
    fit = {"size": model.size, "fit": model.fit, "aspect": scan.aspect}
    pixels = to_input(scan.pixels, **fit)
    inside = to_input(np.ones(scan.shape), **fit).ravel() > 0
    inputs = [pixels]
    for curve in GAINS:
        for map in maps:
            # anew, so that a map gets the same beside others as alone
            draw = np.random.default_rng(seed)
            values = to_input(values_of(map), **fit).ravel()
            # ties in random order, not row by row
            order = np.lexsort([draw.random(values.size), -values])
            order = order[inside[order]]  # the padding is no part of the scan
            for share in shares:
                marked, rest = np.split(order, [round(share * len(order))])
                lost = marked if curve == "deletion" else rest
                removed = np.zeros(pixels.shape, bool)
                removed.ravel()[lost] = True
                grain = draw.normal(0, noise, removed.shape)
                inputs.append(impute(pixels, removed) + removed * grain)
    return np.stack(inputs)


def _curves(model, inputs, score, maps: int, batch):
    """(2 curves, maps, shares + 1) scores of one scan's `_inputs`.

    First in deletion and last in insertion stands the scan as it is.
    """
    x = torch.as_tensor(inputs, dtype=torch.float32)[:, None]
    with torch.no_grad():
        scores = [
            torch.as_tensor(score(model.normalise(part.to(model.device))))
            for part in x.split(batch)
        ]
    scores = torch.cat([part.float().cpu() for part in scores]).numpy()
    intact = np.full((maps, 1), scores[0])
    deletion, insertion = scores[1:].reshape(2, maps, -1)
    return np.stack(
        [np.hstack([intact, deletion]), np.hstack([insertion, intact])],
    )


def _against_random(points, shares, groups):
    """(N, 2 curves, map and random, shares + 1) scores -> Faithfulness."""
    by_point = {}
    areas = {}
    gains = {}
    for n, (curve, sign) in enumerate(GAINS.items()):
        along = (0, *shares) if curve == "deletion" else (*shares, 1)
        for of, scores in zip(
            ("map", "random"), points[:, n].swapaxes(0, 1), strict=True
        ):
            by_point |= {(curve, of, s): scores[:, k] for k, s in enumerate(along)}
            areas[curve, of] = np.trapezoid(scores, along, axis=-1) / np.ptp(along)
        gains[curve] = sign * (areas[curve, "map"] - areas[curve, "random"])
        areas[curve, "gain"] = gains[curve]
    curves = pd.DataFrame(by_point).rename_axis(columns=["curve", "of", "share"])
    areas = pd.DataFrame(areas).rename_axis(columns=["curve", "of"])
    return Faithfulness(
        mean_by_patient(areas, groups),
        mean_by_patient(curves, groups).reset_index(),
        pd.DataFrame(gains).rename_axis(columns="curve"),
    )


def _side_by_side(several):
    """Name -> Faithfulness as one, with the name as `map`."""
    tables = {name: one.table for name, one in several.items()}
    curves = {name: one.curves for name, one in several.items()}
    gains = {name: one.gains for name, one in several.items()}
    return Faithfulness(
        pd.concat(tables, names=["map"]),
        pd.concat(curves, names=["map"]).reset_index("map"),
        pd.concat(gains, axis=1, names=["map", "curve"]),
    )


def target_scores(model, scans, target, *, batch=32) -> np.ndarray:
    """(N,) what the maps explain: a cosine, a difference of two, or a class's logit."""
    score = scorer(model, target)
    parts = in_batches(list(scans), batch, "scores")
    return np.concatenate([score(model.preprocess(part)) for part in parts])


def scorer(model, target):
    """A function: (B, C, S, S) -> (B,) scores of the target."""

    def score(x):
        with torch.no_grad():
            output = forward(model, x)
            scores = (output * directions(model, target, len(x)).to(output)).sum(-1)
        return scores.float().cpu().numpy()

    return score
