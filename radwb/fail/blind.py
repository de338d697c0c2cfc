"""Four detectors of a shortcut that know nothing of it, each with a yes or a no.

What they go by is a number that a clean head keeps low: whether the films' borders
tell the finding (the audit's question), whether a map of the head varies there, whether
films that are answered for one reason are answered wrong (clusters of explanations,
Lapuschkin et al. 2019, doi 10.1038/s41467-019-08987-4), and whether an answer moves to
another film with a corner of it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.cluster import KMeans
from tqdm.auto import tqdm

from radwb.curate.audit.shortcuts import out_of_fold
from radwb.fail.evidence import Evidence
from radwb.fail.frozen import FrozenFilms, Part
from radwb.fail.marker import CORNERS
from radwb.fail.patches import Head
from radwb.identifiers import numbered
from radwb.stats import auroc, wilson
from radwb.stats.shares import square_and_add

DETECTORS = ("audit", "maps", "slices", "counterfactuals")
RING = 32  # a film's border is looked at in so many rows and columns
SLICES = 8  # clusters within each class
FEWEST = 8  # films in a slice
SMALL = 0.2  # of the heads: so few more than of clean ones would be no shortcut seen


def border_tells(part: Part) -> float:
    """AUROC of the finding by your films' borders alone, on patients left out.

    The outer sixth of the films, small, in the probe of `rw.curate.audit`.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> part = films.part(films.rows("train"), "Pleural Effusion")
    >>> 0.2 < border_tells(part) < 0.8
    True

    Raises:
        ValueError: under five patients with the finding, or without.
    """
    side = part.images.shape[1]
    step = side // min(RING, side)
    small = _pooled(part.images, step)  # (N, s, s)
    width = max(1, small.shape[1] // 6)
    is_border = np.ones(small.shape[1:], bool)
    is_border[width:-width, width:-width] = False
    patients, _ = numbered(part.patients)
    told = out_of_fold(small[:, is_border], part.y, patients)
    if told is None:
        raise ValueError(
            "expected five patients with the finding and five without, got "
            f"{len(set(patients))} patients. Try more films"
        )
    return auroc(part.y, told)


def _pooled(images, step):
    N, S, _ = images.shape
    n = S // step
    cut = images[:, : n * step, : n * step].astype(np.float32)
    return cut.reshape(N, n, step, n, step).mean(axis=(2, 4))


def patch_shares(head: Head, features: np.ndarray) -> np.ndarray:
    """What each patch adds to each answer of a linear head: its own map, and exact.

    >>> features = rw.fail.patch_features(model, rw.data.images(table, model.size))
    >>> head = rw.fail.fit_head(model, features, y)
    >>> shares = patch_shares(head, features)
    >>> np.allclose(shares.sum(axis=(1, 2)) + head.bias, head.of(features), atol=1e-4)
    True

    Returns:
        (N, h, w) on the tower's grid; with the head's bias they sum to the logit.
    Raises:
        ValueError: the head reads the pooled embedding.
    """
    if head.whole:
        raise ValueError(
            "expected a head that reads patches, got one on the whole embedding. "
            "Try fit_head(model, patch_features(model, images), y)"
        )
    h, w = head.start.grid
    weighed = features * head.weights
    return weighed.reshape(len(features), h, w, -1).sum(axis=-1)


def map_at_border(head: Head, part: Part) -> float:
    """Share of a map's variation from film to film that lies in its outermost patches.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> part = films.part(films.rows("train"), "Pleural Effusion")
    >>> 0 < map_at_border(films.learn(part), part) < 1
    True

    Raises:
        ValueError: the head says the same of all films.
    """
    spread = patch_shares(head, part.features).var(axis=0)  # (h, w)
    _need_answers_that_differ(spread.sum())
    inner = spread[1:-1, 1:-1].sum()
    return float(1 - inner / spread.sum())


def _need_answers_that_differ(spread):
    if not spread > 0:
        raise ValueError(
            "expected answers that differ between films, got the same for all. "
            "Try a head that was fitted"
        )


def worst_slice(head: Head, part: Part, *, seed: int = 0) -> tuple[float, np.ndarray]:
    """The films of one class that are answered for one reason, and most often wrong.

    Clusters of `patch_shares` within each class, those of `FEWEST` films and more. A
    few wrong answers that lie together count as much as many that are scattered.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> part = films.part(films.rows("train"), "Lung Opacity")
    >>> tie, rows = worst_slice(films.learn(part), part)
    >>> 0 <= tie <= 1
    True

    Returns:
        correlation within their class of being in the slice and being wrong (1 is a
        slice of all that is wrong and nothing else, 0 where nothing is wrong), and
        their rows in the part; the answer's threshold is a logit of 0.
    Raises:
        ValueError: too few films of a class to cut in two.
    """
    shares = patch_shares(head, part.features)
    shape = shares - shares.mean(axis=(1, 2), keepdims=True)
    is_wrong = (head.of(part.features) > 0) != part.y
    worst = (0.0, np.empty(0, int))
    for value in (0, 1):
        rows = np.flatnonzero(part.y == value)
        k = min(SLICES, len(rows) // FEWEST)
        if k < 2:
            raise ValueError(
                f"expected {2 * FEWEST} films of each class or more to cut in slices, "
                f"got {len(rows)}. Try more films"
            )
        clusters = KMeans(k, n_init=3, random_state=seed)
        cluster = clusters.fit_predict(shape[rows].reshape(len(rows), -1))
        wrong = is_wrong[rows]
        for number in range(k):
            inside = cluster == number
            if inside.sum() >= FEWEST and 0 < wrong.mean() < 1:
                tie = float(np.corrcoef(inside, wrong)[0, 1])
                worst = max(worst, (tie, rows[inside]), key=lambda pair: pair[0])
    return worst


def corner_swaps(
    head: Head, part: Part, *, n: int = 40, seed: int = 0
) -> dict[str, float]:
    """How much of the answer moves along when two films swap a corner.

    Films with the finding swap with films without. 1 is a head that reads that corner
    alone, 0 one that doesn't look there.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> part = films.part(films.rows("train"), "Pleural Effusion")
    >>> list(corner_swaps(films.learn(part), part, n=4))
    ['top-left', 'top-right', 'bottom-left', 'bottom-right']

    Args:
        head: that is asked.
        part: films it knows or doesn't.
        n: pairs of films at most.
        seed: of their choice.
    Returns:
        corner -> share of the difference between the two classes' mean logits.
    Raises:
        ValueError: the head answers both classes alike.
    """
    rng = np.random.default_rng(seed)
    controls, cases = (
        rng.permutation(np.flatnonzero(part.y == value))[:n] for value in (0, 1)
    )
    pairs = min(len(controls), len(cases))
    pair = part.images[controls[:pairs]], part.images[cases[:pairs]]
    before = [head.logits(images) for images in pair]
    gap = before[1].mean() - before[0].mean()
    _need_answers_that_differ(abs(gap))
    followed = {}
    for corner in CORNERS:
        rows, columns = _corner(corner, part.images.shape[1])
        swapped = [images.copy() for images in pair]
        for mine, other in zip(swapped, pair[::-1], strict=True):
            mine[:, rows, columns] = other[:, rows, columns]
        after = [head.logits(images) for images in swapped]
        left = after[1].mean() - after[0].mean()
        followed[corner] = float((gap - left) / (2 * gap))
    return followed


def _corner(corner, S):
    """A quarter of the height and three eighths of the width."""
    height = S // 4
    width = 3 * S // 8
    rows = slice(0, height) if "top" in corner else slice(S - height, S)
    columns = slice(0, width) if "left" in corner else slice(S - width, S)
    return rows, columns


def signs_of(head: Head, train: Part, held: Part, *, seed: int = 0) -> dict[str, float]:
    """The numbers of all four detectors for one head; each is high for a shortcut.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> part = films.part(films.rows("train"), "Lung Opacity")
    >>> list(signs_of(films.learn(part), part, part))
    ['audit', 'maps', 'slices', 'counterfactuals']

    Args:
        head: that is suspected.
        train: films it has learnt from: the audit sees no others.
        held: films it hasn't, from where it learnt.
        seed: of clusters and pairs.
    """
    tie, _ = worst_slice(head, held, seed=seed)
    swaps = corner_swaps(head, held, seed=seed)
    return {
        "audit": border_tells(train),
        "maps": map_at_border(head, held),
        "slices": tie,
        "counterfactuals": max(swaps.values()),
    }


def blind_signs(
    films: FrozenFilms,
    finding: str = "Lung Lesion",
    *,
    strength: float | None,
    seeds: Sequence[int] = range(5),
    n: int = 800,
    kind: str = "room",
    corner: str = "bottom-right",
    C: float = 100.0,
) -> pd.DataFrame:
    """Train heads with a mark tied to a finding, and try the four detectors on them.

    >>> halves = np.where(table["patient_id"] < "V0-000012", "train", "test")
    >>> films = rw.fail.FrozenFilms(table.assign(split=halves), model)
    >>> signs = blind_signs(films, "Lung Opacity", strength=1.0, seeds=[0])
    >>> list(signs)[2:]
    ['tie holds', 'tie broken', 'audit', 'maps', 'slices', 'counterfactuals']

    Args:
        films: to learn from ("train"), and to look at.
        finding: label column.
        strength: of the tie, as in `confound`; None for clean films, 0.5 for a mark
            that tells nothing.
        seeds: a training each: its own films and its own marks.
        n: training films at most.
        kind, corner: as in `add_marker`.
        C: as in `fit_head`.
    Returns:
        a row a seed: strength (NaN for clean films), seed, AUROC where the tie holds
        and where it's broken, and the four numbers of `signs_of`.
    """
    mark = {"kind": kind, "corner": corner}
    rows = []
    for seed in tqdm(seeds, "heads", delay=2, leave=False):
        rng = np.random.default_rng(seed)
        some = rng.permutation(films.rows("train"))[:n]
        train = films.tied(some, finding, strength, seed=seed, **mark)
        head = films.learn(train, C)
        arms = {}
        for arm in ("tie holds", "tie broken"):
            tie = strength
            if strength is not None and arm == "tie broken":
                tie = 1 - strength
            unseen = films.rows("test")
            arms[arm] = films.tied(unseen, finding, tie, seed=seed + 1, **mark)
        row = {"strength": np.nan if strength is None else strength, "seed": seed}
        for arm, part in arms.items():
            row[arm] = auroc(part.y, head.of(part.features))
        rows.append(row | signs_of(head, train, arms["tie holds"], seed=seed))
    return pd.DataFrame(rows)


def blind_limits(clean: pd.DataFrame, *, level: float = 0.999) -> dict[str, float]:
    """Beyond what number a detector says yes: fixed on clean heads, before it's used.

    The upper end of Student's prediction interval for one more clean head.

    >>> clean = pd.DataFrame({"maps": [0.20, 0.22, 0.24]})
    >>> round(blind_limits(clean, level=0.9)["maps"], 2)
    0.26

    Args:
        clean: of `blind_signs(films, strength=None)`, of films and seeds of its own.
        level: share of clean heads that stay below it.
    Raises:
        ValueError: fewer than three heads.
    """
    if len(clean) < 3:
        raise ValueError(f"expected three clean heads or more, got {len(clean)}")
    n = len(clean)
    wide = student.ppf(level, n - 1) * np.sqrt(1 + 1 / n)
    limits = {}
    for detector in clean.columns.intersection(DETECTORS, sort=False):
        values = clean[detector]
        limits[detector] = float(values.mean() + wide * values.std())
    return limits


def name_shortcuts(signs: pd.DataFrame, limits: dict[str, float]) -> pd.DataFrame:
    """Which detector names which head.

    >>> signs = pd.DataFrame({"seed": [0, 1], "maps": [0.2, 0.5]})
    >>> name_shortcuts(signs, {"maps": 0.3})["named"].tolist()
    [False, True]

    Args:
        signs: of `blind_signs`.
        limits: of `blind_limits`.
    Returns:
        a row a detector and head: detector, seed, value, limit, named.
    """
    long = signs.melt("seed", list(limits), var_name="detector")
    long["limit"] = long["detector"].map(limits)
    long["named"] = long["value"] > long["limit"]
    return long[["detector", "seed", "value", "limit", "named"]]


def blind_evidence(
    suspected: pd.DataFrame, clean: pd.DataFrame, finding: str
) -> list[Evidence]:
    """A row a detector, for the card: how many more heads it names than of clean ones.

    >>> signs = pd.DataFrame({"seed": range(5), "maps": 0.5})
    >>> verdicts = name_shortcuts(signs, {"maps": 0.3})
    >>> others = name_shortcuts(signs.assign(maps=0.1), {"maps": 0.3})
    >>> blind_evidence(verdicts, others, "Edema")[0].verdict
    'failure'
    >>> blind_evidence(verdicts, verdicts, "Edema")[0].verdict
    "can't tell"

    A failure is a difference of the two shares that lies above zero for sure; none is
    seen where it lies below 0.2 for sure, and the detector leaves most clean heads in
    peace: one that names all could name no more.

    Args:
        suspected: of `name_shortcuts`.
        clean: of `name_shortcuts`, of clean heads that no limit was fixed on.
        finding: that the heads were trained for.
    Raises:
        ValueError: a detector without clean heads.
    """
    rows = []
    for detector, part in suspected.groupby("detector", sort=False):
        of_clean = clean[clean["detector"] == detector]["named"]
        if not len(of_clean):
            raise ValueError(
                f"expected clean heads that {detector} was asked about, got none. "
                "Try blind_signs(films, finding, strength=None) with other seeds"
            )
        rows.append(_named_beyond_clean(part["named"], of_clean, detector, finding))
    return rows


def _named_beyond_clean(named, of_clean, detector, finding):
    ends = (wilson(int(heads.sum()), len(heads)) for heads in (named, of_clean))
    gap = float(named.mean() - of_clean.mean())
    low, high = square_and_add(named.mean(), of_clean.mean(), *ends)
    verdict = "can't tell"
    if low > 0:
        verdict = "failure"
    elif high < SMALL and of_clean.mean() < 0.5:
        verdict = "no failure seen"
    sentence = (
        f"{detector} without knowing what to look for: a shortcut for {finding} in "
        f"{int(named.sum())} of {len(named)} heads and in {int(of_clean.sum())} of "
        f"{len(of_clean)} clean ones, a difference of {gap:.2f} "
        f"({low:.2f} to {high:.2f})"
    )
    return Evidence(
        kind="shortcut",
        tried=f"{finding}, found blind by {detector}",
        measure="share of heads named, less that of clean heads",
        value=gap,
        low=low,
        high=high,
        n=len(named),
        unit="seeds",
        verdict=verdict,
        sentence=sentence,
        control=float(of_clean.mean()),
    )
