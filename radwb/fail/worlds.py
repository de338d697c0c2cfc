"""Worlds in which a finding comes with something else, and what a head learns there.

Each has a dial, and arms in the order that was published of real films: sites of
unequal prevalence (Zech et al. 2018, doi 10.1371/journal.pmed.1002683), a mark that an
outside test does or doesn't leave behind (DeGrave et al. 2021, doi
10.1038/s42256-021-00338-7), and a drain in the treated (Oakden-Rayner et al. 2020, doi
10.1145/3368555.3384468).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from radwb.fail.evidence import Evidence, compared
from radwb.fail.frozen import FrozenFilms
from radwb.stats import compare_seeds
from radwb.stats.sentence import Comparison


@dataclass(frozen=True, eq=False)
class World:
    """What heads did in one planted world.

    Attributes:
        tried: in plain words.
        table: dial, seed, arm, auroc, low, high, n, positives, patients, note; the
            intervals are by patient, within one training.
        order: pairs of arms; of each the first is ahead where the head goes by what was
            planted.
        control: position of the dial at which nothing is planted.
    """

    tried: str
    table: pd.DataFrame
    order: tuple[tuple[str, str], ...]
    control: float | str

    def comparisons(self) -> dict[tuple, Comparison]:
        """{(dial, arm, arm): the first arm's lead, against that of the control}.

        Paired by training seed. Other patients are easier or harder in themselves, so
        a lead counts only beyond the one that heads of the control have.
        """
        values = self.table.pivot(index=["dial", "seed"], columns="arm", values="auroc")
        dials = [dial for dial in self.table["dial"].unique() if dial != self.control]
        made = {}
        for dial, (first, second) in product(dials, self.order):
            lead = values[first] - values[second]
            names = (f"{first} over {second} ({dial})", f"the same ({self.control})")
            made[dial, first, second] = compare_seeds(
                lead[dial],
                lead[self.control],
                names=names,
                what="lead in AUROC",
                family=len(dials) * len(self.order),
            )
        return made

    def evidence(self) -> list[Evidence]:
        """A row a position of the dial and pair of arms, for the card."""
        values = self.table.groupby(["dial", "arm"])["auroc"].mean()[self.control]
        rows = []
        for (dial, first, second), comparison in self.comparisons().items():
            tried = f"{self.tried} ({dial}): {first} against {second}"
            control = values[first] - values[second]
            about = {"harm": "ahead", "control": control}
            rows.append(compared("shortcut", tried, comparison, **about))
        return rows


def rows_at(
    table: pd.DataFrame,
    finding: str,
    *,
    column: str,
    shares: Mapping[str, float],
    n: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw rows so that a finding has another prevalence in each group of a column.

    >>> shares = {"AP": 0.5, "PA": 0.25}
    >>> rows = rows_at(table, "Lung Opacity", column="view", shares=shares, n=8)
    >>> table.iloc[rows].groupby("view")["Lung Opacity"].mean().tolist()
    [0.5, 0.25]

    Args:
        table: whose rows are drawn, none twice.
        finding: label column.
        column: with the groups.
        shares: {group: share of its films with the finding}.
        n: films of each group; as many as there are by default.
        seed: of the draw.
    Returns:
        places in the table.
    Raises:
        ValueError: a group is too small for its share.
    """
    rng = np.random.default_rng(seed)
    places = {}
    sizes = []
    for group, share in shares.items():
        inside = table[column] == group
        of = [np.flatnonzero(inside & (table[finding] == value)) for value in (0, 1)]
        places[group] = [rng.permutation(rows) for rows in of]
        controls, cases = map(len, of)
        sizes.append(min(cases / max(share, 1e-9), controls / max(1 - share, 1e-9)))
    each = int(min(sizes)) if n is None else n
    if each < 2 or each > min(sizes) + 1e-9:
        raise ValueError(
            f"expected films enough in each of {', '.join(shares)} for a share of "
            f"{', '.join(map(str, shares.values()))} with {finding}, got "
            f"{int(min(sizes))} of {n or 'at least 2'}. Try other groups or more films"
        )
    drawn = []
    for group, share in shares.items():
        controls, cases = places[group]
        of_finding = round(share * each)
        drawn += [cases[:of_finding], controls[: each - of_finding]]
    return np.concatenate(drawn)


def unequal_groups(
    films: FrozenFilms,
    finding: str = "Lung Lesion",
    *,
    column: str = "site",
    groups: tuple[str, str] = ("A", "B"),
    shares: Sequence[float] = (0.5, 0.7, 0.9),
    seeds: int = 5,
    C: float = 100.0,
) -> World:
    """Train where a finding is common in one group of films and rare in another.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> by_sex = {"column": "sex", "groups": ("F", "M"), "shares": [0.5]}
    >>> world = unequal_groups(films, "Lung Opacity", seeds=2, **by_sex)
    >>> world.table["arm"].unique().tolist()
    ['internal', 'balanced', 'group alone']

    The arms: *internal*, unseen patients in the same proportions; *balanced*, the same
    groups with half and half; *external*, all films of other groups, where there are;
    and *group alone*, a reader of the column who never saw a film. Each position of the
    dial learns from as many films.

    Args:
        films: to learn from and to test on.
        finding: label column.
        column: with the groups: "site", or "view".
        groups: two of them, the first with the higher prevalence.
        shares: the dial: the prevalence in the first group; one less that in the
            second. The first position is the control.
        seeds: draws of films, each with a training.
        C: as in `fit_head`.
    """
    draws = {}
    for name in ("train", "test"):
        draw = _Draw(films.table, films.rows(name), finding, column, groups)
        # all positions get as many films as the one that leaves the fewest
        fewest = min(len(draw(share)) for share in [*shares, 0.5])
        draws[name] = partial(draw, n=fewest // 2)
    others = ~films.table[column].isin(groups).to_numpy()[films.rows("test")]
    is_first = (films.table[column] == groups[0]).to_numpy(dtype=float)
    rows = []
    for share, seed in product(shares, range(seeds)):
        head = films.learn(films.part(draws["train"](share, seed=seed), finding), C)
        internal = draws["test"](share, seed=seed)
        arms = {"internal": internal, "balanced": draws["test"](0.5, seed=1000 + seed)}
        if others.any():
            arms["external"] = films.rows("test")[others]
        about = {"dial": share, "seed": seed}
        parts = {arm: films.part(places, finding) for arm, places in arms.items()}
        rows += [_scored(about, head, arm, part) for arm, part in parts.items()]
        alone = parts["internal"].auroc(is_first[internal])
        rows.append(about | {"arm": "group alone"} | alone)
    order = [("internal", arm) for arm in list(arms)[1:]]
    tried = f"{finding} common in {column} {groups[0]}, rare in {groups[1]}"
    return World(tried, pd.DataFrame(rows), tuple(order), shares[0])


@dataclass(frozen=True, eq=False)
class _Draw:
    """Rows of a part of the table, at a prevalence of the first of two groups."""

    table: pd.DataFrame
    places: np.ndarray
    finding: str
    column: str
    groups: tuple[str, str]

    def __call__(self, share, n=None, seed=0):
        pair = dict(zip(self.groups, (share, 1 - share), strict=True))
        some = self.table.iloc[self.places]
        how = {"column": self.column, "shares": pair, "n": n, "seed": seed}
        return self.places[rows_at(some, self.finding, **how)]


def _scored(about, head, arm, part, among=None):
    answers = head.of(part.features)
    return about | {"arm": arm} | part.auroc(answers, among)


def travelling_mark(
    films: FrozenFilms,
    finding: str = "Lung Lesion",
    *,
    strength: float = 0.95,
    away: str = "C",
    kind: str = "room",
    corner: str = "bottom-right",
    n: int = 800,
    seeds: int = 5,
    C: float = 100.0,
) -> World:
    """Test outside with a mark that stays at home, and with one that comes along.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> travelling_mark(films, "Pleural Effusion", seeds=2).order[0]
    ('internal', 'outside, mark left behind')

    What a head has learnt from a mark is revealed by an outside test only where the
    mark is another there. At the dial's control nobody carried it in training.

    Args:
        films: to learn from and to test on; the column site is used.
        finding: label column.
        strength: of the tie of mark and finding, as `confound` has it.
        away: the site that is the outside.
        kind, corner: as in `add_marker`.
        n: training films at most.
        seeds: draws of films, each with a training.
        C: as in `fit_head`.
    """
    is_away = (films.table["site"] == away).to_numpy()
    train = films.rows("train")
    test = films.rows("test")
    home = train[~is_away[train]]
    inside = test[~is_away[test]]
    outside = test[is_away[test]]
    tied = partial(films.tied, finding=finding, kind=kind, corner=corner)
    ties = {"no mark": None, "tied mark": strength}
    rows = []
    for (dial, tie), seed in product(ties.items(), range(seeds)):
        some = np.random.default_rng(seed).permutation(home)[:n]
        head = films.learn(tied(some, strength=tie, seed=seed), C)
        arms = {
            "internal": tied(inside, strength=tie, seed=seed + 1),
            "outside, mark left behind": tied(outside, strength=None),
            "outside, mark came along": tied(outside, strength=tie, seed=seed + 1),
        }
        about = {"dial": dial, "seed": seed}
        rows += [_scored(about, head, arm, part) for arm, part in arms.items()]
    order = tuple(("internal", arm) for arm in list(arms)[1:])
    tried = f"{finding} with a mark in training"
    return World(tried, pd.DataFrame(rows), order, "no mark")


def has_drain(table: pd.DataFrame) -> np.ndarray:
    """Which of your virtual films show a chest tube, by what was planted.

    >>> bool(has_drain(table).mean() < 0.3)
    True
    """
    kinds = table["planted"].map(lambda text: [f["kind"] for f in json.loads(text)])
    return np.array(["chest tube" in kind for kind in kinds])


def hidden_drain(
    films: FrozenFilms,
    finding: str = "Pneumothorax",
    *,
    shares: tuple[float, float] | None = (0.8, 0.05),
    n: int = 800,
    seeds: int = 5,
    C: float = 100.0,
) -> World:
    """The AUROC for the treated, for all, and for those whom nobody has treated yet.

    >>> films = rw.fail.FrozenFilms(table, model)
    >>> world = hidden_drain(films, "Pleural Effusion", seeds=2)
    >>> world.table["arm"].unique().tolist()
    ['with drain', 'all', 'without drain']

    The films without the finding are the same in all arms.

    Args:
        films: to learn from and to test on.
        finding: label column.
        shares: of the films with the finding, and without, that get a drain drawn on
            them (`add_marker`), and in the control as many of each class; None takes
            the chest tubes that were planted, and in the control no film with one is
            learnt from.
        n: training films at most.
        seeds: draws of films, each with a training.
        C: as in `fit_head`.
    """
    y = films.table[finding].to_numpy()
    planted = has_drain(films.table) if shares is None else None
    rows = []
    for is_tied, seed in product((False, True), range(seeds)):
        rng = np.random.default_rng(seed)
        train = films.rows("train")
        flags = planted
        if shares is None:
            train = train[is_tied | ~planted[train]]
        else:
            chances = shares if is_tied else (sum(shares) / 2,) * 2
            flags = rng.random(len(y)) < np.where(y == 1, *chances)
        part = partial(_drained, films, finding, flags, shares is not None)
        head = films.learn(part(rng.permutation(train)[:n]), C)
        unseen = films.rows("test")
        test = part(unseen)
        about = {"dial": "tied" if is_tied else "not tied", "seed": seed}
        for arm, cases in _strata(flags[unseen]).items():
            among = cases | (test.y == 0)
            rows.append(_scored(about, head, arm, test, among))
    order = (("with drain", "all"), ("all", "without drain"))
    tried = f"{finding} with a drain in those who are treated"
    return World(tried, pd.DataFrame(rows), order, "not tied")


def _drained(films, finding, flags, drawn, rows):
    """The rows, with a drain drawn on those with a flag where they show none."""
    if drawn:
        look = {"kind": "drain", "corner": "top-right"}
        return films.part(rows, finding, flags[rows], **look)
    return films.part(rows, finding)


def _strata(flags):
    all_of_them = np.ones(len(flags), bool)
    return {"with drain": flags, "all": all_of_them, "without drain": ~flags}
