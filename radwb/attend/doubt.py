"""Would the map look the same with other weights, other words or other labels? Then it
says nothing of this model.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from tqdm.auto import tqdm

from radwb.attend.map import Badge, Map
from radwb.attend.maps import attention_maps
from radwb.attend.score import mean_by_patient
from radwb.attend.tower import forward
from radwb.attend.twins import LabelTwins
from radwb.findings.rows import FINDINGS, synonyms
from radwb.identifiers import identifiers, numbered
from radwb.stats import compare
from radwb.stats.comparison import Comparison
from radwb.stats.means import MIN_PATIENTS

# of the rank correlation: above it, the changed map tells over a quarter of the ranks'
# variance
LIMIT = 0.5
NONSENSE = (
    "purple bicycle on tuesday",
    "the invoice was paid in march",
    "seven quiet wooden spoons",
)
# what is asked instead: {phrase: the target speaks of it with one of these}
OTHERS = {
    synonyms(name)[0]: FINDINGS[name].cues
    for name in ("Pleural Effusion", "Pneumothorax", "Cardiomegaly", "Lung Lesion")
}
SHUFFLED = ("shuffled labels", "as the second model, but for the labels")
TRUE_PAIR = ("reference", "true labels, another start")
SIDE = {2: 64, 3: 16}  # maps are compared on a grid of so many cells a side


@dataclass(frozen=True, eq=False)
class Sanity:
    """What `sanity_check` found.

    Attributes:
        badge: the verdict in words; `stamp` puts it on maps.
        table: index test, change; columns similarity, low, high, limit, passed, n,
            patients. A row of which passed is empty isn't judged: "reference" is how
            alike maps of different patients are, and those of two models that learned
            from the same labels; "share of weights" the cascade; what can't be
            interpreted is no verdict.
        values: (scans, changes), what the means are made of.
        method, model, target: what was checked.
        labels: of the twins, how much more alike the maps of two models with the true
            labels are; None without.
    """

    badge: Badge
    table: pd.DataFrame
    values: pd.DataFrame
    method: str
    model: str
    target: object
    labels: Comparison | None = None

    def stamp(self, maps):
        """A map, or a list of them, with the badge on.

        Raises:
            ValueError: a map of another method or model: the verdict isn't about it.
        """
        if not isinstance(maps, Map):
            return [self.stamp(m) for m in maps]
        if (maps.method, maps.model) != (self.method, self.model):
            raise ValueError(
                f"expected a map by {self.method} of {self.model}, got one by {maps.method} of "
                f"{maps.model}: it needs a sanity_check of its own"
            )
        return replace(maps, badge=self.badge)


def sanity_check(
    model,
    scans,
    *,
    method="relevance",
    target=None,
    layer=None,
    head=None,
    nonsense=NONSENSE,
    others=None,
    twins: LabelTwins | None = None,
    draws: int = 2,
    cascade: int = 0,
    limit: float = LIMIT,
    groups=None,
    seed=0,
) -> Sanity:
    """Change what a map must depend on, and see whether the map changes.

    >>> sanity = sanity_check(model, scans, method="gradcam", target=("pleural effusion", "no pleural effusion"))
    >>> print(sanity.badge)
    sanity: passes random weights, nonsense phrase, other finding (n = 16)

    A map that passes hangs on the model and the words; whether it lies on the lesion is
    for `score_maps` to say.

    Tests, each by the rank correlation of the map as it is with the map after the
    change:
    - random weights (Adebayo et al. 2018, arXiv 1810.03292): the entries of every
      tensor of the image tower dealt anew. The mean of the absolute value over draws,
      since a random net may turn the same drawing into its negative.
    - nonsense phrase, for an image-text model; other finding: another finding's phrase,
        or another class.
    - shuffled labels (same paper), about the method and not about this model: of three
      models trained alike, the map of one must have little in common with that of the
      model that learned from shuffled labels, and less than with that of the one that
      learned from the same labels from another start. Where a model has collapsed or
      learned nothing (`label_twins`), or where the true pair has no more in common, the
      test says nothing, and the badge why.
    A test passes when for each of its changes the upper end of the 95 % interval over
    patients lies below `limit`: what isn't shown to change fails. No paper sets that
    number; at 0.5 a quarter of the variance of the ranks is the same. Arun et al. 2021
    (doi 10.1148/ryai.2021200267) ask for less than the fully trained model's maps of
    different scans have in common. That is the row "reference" and not the limit, since
    a map that is the same for all scans would set its own. Two constant maps are the
    same map (1), a constant and another one have nothing in common (0).

    Args:
        model: a `rw.models.Model`; it isn't changed.
        scans: list of Scan of at least 5 patients; 16 make useful intervals.
        method: a name in `METHODS`, or a function (model, scan, target) -> Map or (H,
            W) array. With one that calls `volume_map` the scans are volumes and the
            model a `Net3d`.
        target: as in `attention_map`; None leaves out the tests that change it.
        layer, head: as in `attention_map`.
        nonsense: phrases that no scan answers.
        others: targets to ask instead; default findings that the target doesn't name,
            or other classes or neurons.
        twins: what `label_twins` made of three runs; None leaves that test out.
        draws: sets of random weights.
        cascade: so many steps on the way to random weights, from the output to the
            input.
        groups: the patient of each scan; None = each scan is another patient's.
    """
    scans, groups = (
        list(scans),
        np.arange(len(scans)) if groups is None else np.asarray(groups),
    )
    _require_patients(scans, groups)
    groups = identifiers(groups)
    changes = _changes(model, scans, target, nonsense, others, draws, cascade, seed)
    how = dict(method=method, layer=layer, head=head)
    maps, values = maps_by(model, scans, target, **how), {}
    plain = ranks(maps)
    for name, how_to in tqdm(changes, "sanity", delay=2, leave=False):
        changed, asked = how_to()
        same = similarity(plain, ranks(maps_by(changed, scans, asked, **how)))
        values.setdefault(name, []).append(
            same if name[0] in ("nonsense phrase", "other finding") else np.abs(same)
        )
    values = {name: np.mean(v, axis=0) for name, v in values.items()}
    unclear = None if twins is None else _unclear(twins, method)
    if twins is not None and not unclear:
        values |= _twin_similarities(twins, scans, how)
    values["reference", "another patient's scan"] = _between(plain, groups)
    values = pd.DataFrame(values)
    values.columns = pd.MultiIndex.from_tuples(values.columns, names=["test", "change"])
    table = _judged(mean_by_patient(values, groups, limits=(-1, 1)), limit)
    labels = _compare_twins(values, groups, seed) if SHUFFLED in values else None
    # a map that differs as much between two models of the same labels can't tell what
    # the labels did
    if labels and labels.verdict != "ahead" and table.loc[SHUFFLED, "passed"]:
        unclear = "two models with the true labels have no more in common"
        table.loc[[SHUFFLED], "passed"] = pd.NA
    tests = table["passed"].dropna().groupby(level="test", sort=False).all()
    tests = {test: bool(passed) for test, passed in tests.items()}
    notes = {SHUFFLED[0]: unclear} if unclear else {}
    badge = Badge(tests | dict.fromkeys(notes), len(scans), notes)
    name = getattr(maps[0], "method", getattr(method, "__name__", "function"))
    return Sanity(
        badge, table, values, name, getattr(model, "name", ""), target, labels
    )


def randomised(model, scans=(), *, seed: int = 0, share: float = 1.0):
    """A copy of the model, the entries of each tensor of its image tower dealt anew.

    The same numbers at random places: what was learned is gone, the scales of a trained
    net stay, and no library's own initialisation has to be known. Batch norms count
    their means and variances again, else a deep net fades out.

    Args:
        scans: what batch norms count on; not needed where there are none.
        share: 0 to 1, how many of the modules with weights, from the last that the net
            registers to the first.
    Raises:
        ValueError: the image tower has no tensor that a permutation changes.
    """
    twin = copy.copy(model)
    vars(twin)["net"] = copy.deepcopy(model.net)  # a frozen model too
    tower = getattr(twin.net, "visual", twin.net)
    owners = [m for m in tower.modules() if list(m.parameters(recurse=False))][::-1]
    chosen = owners[: int(np.ceil(share * len(owners)))]
    generator, moved = torch.Generator().manual_seed(seed), False
    with torch.no_grad():
        for p in (p for owner in chosen for p in owner.parameters(recurse=False)):
            dealt = p.flatten()[
                torch.randperm(p.numel(), generator=generator).to(p.device)
            ].view_as(p)
            moved |= not torch.equal(p, dealt)
            p.copy_(dealt)
    if not moved:
        raise ValueError(
            f"expected weights to randomise in {type(tower).__name__}, got none that dealing changes"
        )
    _recount(
        [m for m in chosen if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)],
        twin,
        scans,
    )
    return twin


def ranks(maps) -> np.ndarray:
    """Maps of any shapes -> (N, cells) ranks on a common grid, centred and of unit
    length; a constant map is zeros.
    """
    grids = np.stack([_grid(m) for m in maps])
    spread = np.ptp(grids, axis=1, keepdims=True)
    flat = spread <= 1e-6 * np.abs(grids).max(1, keepdims=True)
    # rounded, so that what was equal before the interpolation ties again
    grids = np.round(
        (grids - grids.min(1, keepdims=True)) / np.where(flat, 1, spread), 6
    )
    ranked = rankdata(np.where(flat, 0, grids), axis=1)
    ranked -= ranked.mean(1, keepdims=True)
    return ranked / np.maximum(np.linalg.norm(ranked, axis=1, keepdims=True), 1e-12)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) Spearman correlations of maps given as `ranks`; 1 where both are constant, 0
    where one is.
    """
    return np.where(~a.any(1) & ~b.any(1), 1.0, (a * b).sum(1))


def _grid(map):
    values = torch.as_tensor(np.asarray(getattr(map, "values", map), dtype=np.float32))
    pool = F.adaptive_avg_pool2d if values.ndim == 2 else F.adaptive_avg_pool3d
    return (
        pool(values[None, None], SIDE[values.ndim]).flatten().numpy().astype(np.float64)
    )


def maps_by(model, scans, target, *, method, layer, head) -> list:
    """A Map or array of each scan, by a name in `METHODS` or a function (model, scan,
    target) -> Map or array.
    """
    if callable(method):
        return [method(model, scan, target) for scan in scans]
    return attention_maps(
        model, scans, method=method, targets=target, layer=layer, head=head
    )


def _changes(model, scans, target, nonsense, others, draws, cascade, seed):
    """[((test, change), function that gives the model and the target after it)]; made
    one at a time, nets are large.
    """
    found = [
        (
            ("random weights", "all"),
            lambda i=i: (randomised(model, scans, seed=seed + i), target),
        )
        for i in range(draws)
    ]
    for share in np.linspace(0, 1, cascade + 1)[1:]:
        drawn = lambda s=share: (randomised(model, scans, seed=seed, share=s), target)  # noqa: E731
        found.append((("share of weights", f"{share:.0%}"), drawn))
    if target is not None:
        words = getattr(model, "findings", None) is None and not isinstance(target, int)
        asked = [
            ("nonsense phrase", phrase, _phrased(phrase, target))
            for phrase in nonsense
            if words
        ]
        others = _others(model, target, words) if others is None else others
        asked += [
            (
                "other finding",
                other,
                other if isinstance(other, tuple) else _phrased(other, target),
            )
            for other in others
        ]
        found += [
            ((test, str(change)), lambda t=t: (model, t)) for test, change, t in asked
        ]
    return found


def _unclear(twins, method):
    """Why the maps of these twins can't be interpreted; "" where they can."""
    if method == "similarity" and twins.true.kind != "image-text":
        return "similarity needs a text tower, which the twins don't have"
    return twins.unhealthy


def _twin_similarities(twins, scans, how):
    """{row: (N,)} how alike the maps of the first model and those of its two twins are."""

    def ranked(model):
        return ranks(maps_by(model, scans, twins.target, **how))

    true = ranked(twins.true)
    return {
        SHUFFLED: np.abs(similarity(true, ranked(twins.shuffled))),
        TRUE_PAIR: np.abs(similarity(true, ranked(twins.again))),
    }


def _compare_twins(values, groups, seed):
    names = ("a second model with the true labels", "one with shuffled labels")
    same, other = values[TRUE_PAIR], values[SHUFFLED]
    return compare(same, other, groups, names=names, what="map similarity", seed=seed)


def _others(model, target, words):
    if words:
        said = " ".join(
            target[:1] if isinstance(target, tuple) else [target]
        ).casefold()
        return [
            finding
            for finding, names in OTHERS.items()
            if not any(name in said for name in names)
        ]
    if model.findings is None:
        return [neuron for neuron in range(4) if neuron != target]
    mine = (
        target.casefold()
        if isinstance(target, str)
        else model.findings[target].casefold()
    )
    return [f for f in model.findings if f.casefold() != mine][:4]


def _phrased(phrase, target):
    """In the form of the target: a phrase, or a pair with its denial."""
    return (
        (phrase, f"no {phrase}")
        if isinstance(target, tuple) and len(target) == 2
        else phrase
    )


def _between(ranked, groups):
    """(N,) mean similarity of each map to those of other patients."""
    apart = groups[:, None] != groups
    alike = np.where(~ranked.any(1)[:, None] & ~ranked.any(1), 1.0, ranked @ ranked.T)
    return (alike * apart).sum(1) / apart.sum(1)


def _judged(table, limit):
    judged = ~table.index.get_level_values("test").isin(
        ["share of weights", "reference"]
    )
    passed = (
        pd.Series(table["high"] < limit, index=table.index)
        .astype("boolean")
        .where(judged)
    )
    table = table.rename(columns={"mean": "similarity"}).assign(
        limit=np.where(judged, limit, np.nan), passed=passed
    )
    return table[["similarity", "low", "high", "limit", "passed", "n", "patients"]]


def _recount(norms, model, scans):
    if not norms:
        return
    if not len(scans):
        raise ValueError(
            f"expected scans to count the {len(norms)} batch norms' means on, got none"
        )
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    x = torch.cat([model.preprocess(scan) for scan in scans[:16]])
    with torch.no_grad():
        forward(model, x) if hasattr(model, "encode_image") else model.net(x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval()
        norm.momentum = momentum


def _require_patients(scans, groups):
    if len(groups) != len(scans):
        raise ValueError(
            f"expected one group for each of {len(scans)} scans, got {len(groups)}"
        )
    row, patients = numbered(groups)
    if (row < 0).any():
        raise ValueError(
            f"expected the patient of each scan, got {(row < 0).sum()} of {len(row)} without. "
            "Try groups=None if no patient has two scans."
        )
    if patients < MIN_PATIENTS:
        raise ValueError(
            f"expected scans of at least {MIN_PATIENTS} patients, got {patients}: an interval over fewer "
            "says nothing. Try 16."
        )
