"""Would the map look the same with other weights, other words or other labels?

Then it says nothing of this model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radwb.attend.doubt.alike import maps_by, ranks, similarity
from radwb.attend.doubt.changes import CASCADE, NONSENSE, OTHER, WORDS, all_changes
from radwb.attend.doubt.twins import LabelTwins
from radwb.attend.map import Badge, Map
from radwb.attend.progress import steps
from radwb.attend.score import mean_by_patient
from radwb.data.scan import Scan
from radwb.identifiers import identifiers, numbered
from radwb.models.model import Model
from radwb.stats import compare
from radwb.stats.comparison import Comparison
from radwb.stats.means import MIN_PATIENTS

# of the rank correlation: above it, the changed map tells over a quarter of the ranks'
# variance
LIMIT = 0.5
REFERENCE = "reference"
OTHER_PATIENT = (REFERENCE, "another patient's scan")
SHUFFLED = ("shuffled labels", "as the second model, but for the labels")
TRUE_PAIR = (REFERENCE, "true labels, another start")


@dataclass(frozen=True, eq=False)
class Sanity:
    """What `sanity_check` measured.

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

    def stamp(self, maps: Map | list[Map]) -> Map | list[Map]:
        """A map, or a list of them, with the badge on.

        Raises:
            ValueError: a map of another method or model: the verdict isn't about it.
        """
        if not isinstance(maps, Map):
            return [self.stamp(m) for m in maps]
        if (maps.method, maps.model) != (self.method, self.model):
            raise ValueError(
                f"expected a map by {self.method} of {self.model}, got one by "
                f"{maps.method} of {maps.model}: it needs a sanity_check of its own"
            )
        return replace(maps, badge=self.badge)


def sanity_check(
    model: Model,
    scans: list[Scan],
    *,
    method: str | Callable = "relevance",
    target: str | tuple | int | None = None,
    layer: int | None = None,
    head: int | None = None,
    nonsense: Sequence[str] = NONSENSE,
    others: Sequence | None = None,
    twins: LabelTwins | None = None,
    draws: int = 2,
    cascade: int = 0,
    limit: float = LIMIT,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Sanity:
    """Change what a map must depend on, and see whether the map changes.

    >>> scans = [rw.data.scan_of(row) for _, row in table.head(12).iterrows()]
    >>> pair = ("pleural effusion", "no pleural effusion")
    >>> print(sanity_check(model, scans, method="gradcam", target=pair).badge)
    sanity: ... (n = 12)

    A map that passes hangs on the model and the words; whether it lies on the lesion is
    for `compare_maps` to say.

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
        limit: of the similarity, under which a changed map counts as another one.
        groups: the patient of each scan; None = each scan is another patient's.
        seed: of the random weights.
    Raises:
        ValueError: fewer than 5 patients, or a scan without one.
    """
    scans = list(scans)
    groups = np.arange(len(scans)) if groups is None else np.asarray(groups)
    _require_patients(scans, groups)
    groups = identifiers(groups)
    how = {"method": method, "layer": layer, "head": head}
    maps = maps_by(model, scans, target, **how)
    unchanged = ranks(maps)
    changes = all_changes(model, scans, target, nonsense, others, draws, cascade, seed)
    values = _similarities(changes, unchanged, scans, how)
    unclear = "" if twins is None else _why_unclear(twins, method)
    if twins is not None and not unclear:
        values |= _twin_similarities(twins, scans, how)
    values[OTHER_PATIENT] = _between(unchanged, groups)
    values = pd.DataFrame(values).rename_axis(columns=["test", "change"])
    table = _judged(mean_by_patient(values, groups, limits=(-1, 1)), limit)
    labels = _compare_twins(values, groups, seed) if SHUFFLED in values else None
    # a map that differs as much between two models of the same labels can't tell what
    # the labels did
    if labels and labels.verdict != "ahead" and table.loc[SHUFFLED, "passed"]:
        unclear = "two models with the true labels have no more in common"
        table.loc[[SHUFFLED], "passed"] = pd.NA
    badge = _badge(table, len(scans), unclear)
    name = getattr(maps[0], "method", getattr(method, "__name__", "function"))
    model_name = getattr(model, "name", "")
    return Sanity(badge, table, values, name, model_name, target, labels)


def _similarities(changes, unchanged, scans, how):
    """(test, change) -> (N,) similarity of the maps before and after, mean over draws.

    Of weights its size: a random net may turn a drawing into its negative.
    """
    draws = {}
    for name, change in steps(list(changes), "sanity"):
        model, target = change()
        same = similarity(unchanged, ranks(maps_by(model, scans, target, **how)))
        if name[0] not in (WORDS, OTHER):
            same = np.abs(same)
        draws.setdefault(name, []).append(same)
    return {name: np.mean(each, axis=0) for name, each in draws.items()}


def _why_unclear(twins, method):
    """Why the maps of these twins can't be interpreted; "" where they can."""
    if method == "similarity" and twins.true.kind != "image-text":
        return "similarity needs a text tower, which the twins don't have"
    return twins.unhealthy


def _twin_similarities(twins, scans, how):
    """Row -> (N,) how alike the maps of the first model and of its two twins are."""
    true, again, shuffled = (
        ranks(maps_by(model, scans, twins.target, **how))
        for model in (twins.true, twins.again, twins.shuffled)
    )
    return {
        SHUFFLED: np.abs(similarity(true, shuffled)),
        TRUE_PAIR: np.abs(similarity(true, again)),
    }


def _compare_twins(values, groups, seed):
    names = ("a second model with the true labels", "one with shuffled labels")
    same, other = values[TRUE_PAIR], values[SHUFFLED]
    return compare(same, other, groups, names=names, what="map similarity", seed=seed)


def _between(ranked, groups):
    """(N,) mean similarity of each map to those of other patients."""
    apart = groups[:, None] != groups
    constant = ~ranked.any(1)
    alike = np.where(constant[:, None] & constant, 1.0, ranked @ ranked.T)
    return (alike * apart).sum(1) / apart.sum(1)


def _judged(means, limit):
    """The table of `Sanity`."""
    tests = means.index.get_level_values("test")
    judged = ~tests.isin([CASCADE, REFERENCE])
    below = pd.Series(means["high"] < limit, index=means.index).astype("boolean")
    table = means.rename(columns={"mean": "similarity"}).assign(
        limit=np.where(judged, limit, np.nan), passed=below.where(judged)
    )
    return table[["similarity", "low", "high", "limit", "passed", "n", "patients"]]


def _badge(table, n, unclear):
    """A test is passed where all of its changes are."""
    tests = table["passed"].dropna().groupby(level="test", sort=False).all()
    tests = {test: bool(passed) for test, passed in tests.items()}
    if not unclear:
        return Badge(tests, n)
    shuffled = SHUFFLED[0]
    return Badge(tests | {shuffled: None}, n, {shuffled: unclear})


def _require_patients(scans, groups):
    if len(groups) != len(scans):
        raise ValueError(
            f"expected one group for each of {len(scans)} scans, got {len(groups)}"
        )
    row, patients = numbered(groups)
    if (row < 0).any():
        raise ValueError(
            f"expected the patient of each scan, got {(row < 0).sum()} of {len(row)} "
            "without. Try groups=None if no patient has two scans."
        )
    if patients < MIN_PATIENTS:
        raise ValueError(
            f"expected scans of at least {MIN_PATIENTS} patients, got {patients}: an "
            "interval over fewer says nothing. Try 16."
        )
