"""Sets of answers with a promise: conformal prediction, and a risk kept in bounds."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from radwb.fail.evidence import Evidence, compared
from radwb.fail.scored import all_scored
from radwb.identifiers import numbered
from radwb.probe import Scores
from radwb.stats import clustered_mean
from radwb.stats.sentence import Comparison
from radwb.stats.shares import share_against

ALL = "all films"


@dataclass(frozen=True, eq=False)
class Coverage:
    """Whether sets hold the truth as often as was promised.

    Attributes:
        table: films (which), group, coverage, low, high (by patient), size (mean number
            of answers in a set), both and empty (shares of the sets), n, patients,
            note.
        gaps: (films, group) -> Comparison of the coverage with the promise; all of them
            one family.
        level: that was promised.
    """

    table: pd.DataFrame
    gaps: dict[tuple[str, str], Comparison]
    level: float

    def evidence(self) -> list[Evidence]:
        """Each gap to the promise; a failure where coverage falls short for sure.

        >>> stated = rw.probe.zero_shot(model, test, ["Pneumothorax"])
        >>> both = np.ones((len(test), 2), bool)
        >>> whether = rw.fail.coverage({"as they are": (stated, both)}, level=0.5)
        >>> [row.verdict for row in whether.evidence()]
        ['no failure seen']
        """
        rows = []
        for (films, group), gap in self.gaps.items():
            tried = f"sets that promise {self.level:.0%}, {films}"
            if group != ALL:
                tried += f", {group}"
            rows.append(compared("coverage", tried, gap))
        return rows


class _Stated(ClassifierMixin, BaseEstimator):
    """What a model stated, for MAPIE: a film is its probability, nothing is fitted."""

    classes_ = np.array([0, 1])
    is_fitted_ = True
    n_features_in_ = 1

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])

    def predict(self, X):
        return (X[:, 0] > 0.5).astype(int)


def prediction_sets(
    calibration: Scores,
    scores: Scores,
    *,
    finding: str | None = None,
    level: float = 0.9,
    groups: tuple[Sequence, Sequence] | None = None,
    by_label: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """For each film a set of answers that holds the true one with a promised chance.

    >>> of_train = rw.probe.zero_shot(model, train, ["Pneumothorax"])
    >>> of_test = rw.probe.zero_shot(model, test, ["Pneumothorax"])
    >>> prediction_sets(of_train, of_test, level=0.8).shape == (len(test), 2)
    True

    Split conformal prediction of MAPIE (its score "lac"; Vovk et al. 2005). The promise
    is kept on average over films that are exchangeable with those of `calibration`, of
    which one a patient is used: two films of a chest are no two draws.

    Args:
        calibration: probabilities for patients that the model didn't learn from.
        scores: probabilities for other patients.
        finding: which of several; None = the first.
        level: chance that is promised.
        groups: names of the groups of both, (N,) each: calibrated in each by itself
            (Mondrian), so that the promise is kept in each.
        by_label: calibrated on films with and without the finding by themselves, so
            that it is kept for the sick, too.
        seed: of the choice among a patient's films.
    Returns:
        (N, 2) bool: whether "without" and "with" are in the set.
    Raises:
        ValueError: a patient is on both sides, a group or label wasn't there to
            calibrate on, there are too few patients for the level, or a film has no
            probability.
    """
    finding = finding or next(iter(scores.values))
    _apart(calibration, scores)
    all_scored(calibration, finding)
    all_scored(scores, finding, labelled=False)
    known = _labelled(calibration, finding)
    chosen = one_film_each(calibration.patient_id, known, seed=seed)
    stated, y = _pair(calibration, finding)
    ours, _ = _pair(scores, finding)
    names = np.full(len(y), ALL), np.full(len(ours), ALL)
    if groups is not None:
        names = tuple(np.asarray(group).astype(str) for group in groups)
    sets = np.zeros((len(ours), 2), bool)
    for group in np.unique(names[1]):
        inside = chosen & (names[0] == group)
        asked = names[1] == group
        if not by_label:
            sets[asked] = _sets(stated[inside], y[inside], ours[asked], level, group)
            continue
        for label, word in enumerate(("without", "with")):
            some = inside & (y == label)
            where = f"{group}, {word} {finding}"
            of_label = _sets(stated[some], y[some], ours[asked], level, where)
            sets[asked, label] = of_label[:, label]
    return sets


def _sets(stated, y, ours, level, where):
    from mapie.classification import SplitConformalClassifier

    least = int(np.ceil(level / (1 - level) - 1e-9))
    if len(y) < least:
        raise ValueError(
            f"expected at least {least} patients to calibrate a level of {level:g} "
            f"on ({where}), got {len(y)}. Try a lower level or coarser groups"
        )
    # an estimator that is fitted: MAPIE asks for no more than probabilities
    sets = SplitConformalClassifier(_Stated(), confidence_level=level, prefit=True)
    with warnings.catch_warnings():  # by label there is one label, and that is meant
        warnings.filterwarnings("ignore", "WARNING: your conformalization")
        sets.conformalize(stated[:, None], y.astype(int))
    _, members = sets.predict_set(ours[:, None])
    return members[:, :, 0].astype(bool)


def one_film_each(
    patients: np.ndarray, among: np.ndarray | None = None, *, seed: int = 0
) -> np.ndarray:
    """(N,) bool: one film of each patient, drawn by chance.

    >>> int(one_film_each(["a", "a", "b"]).sum())
    2

    Args:
        patients: (N,) owner of each film.
        among: (N,) bool, the films that may be drawn.
        seed: of the draw.
    """
    row, _ = numbered(patients)
    allowed = row >= 0
    if among is not None:
        allowed &= among
    order = np.random.default_rng(seed).permutation(np.flatnonzero(allowed))
    _, first = np.unique(row[order], return_index=True)
    chosen = np.zeros(len(row), bool)
    chosen[order[first]] = True
    return chosen


def coverage(
    sets: Mapping[str, tuple[Scores, np.ndarray]],
    *,
    finding: str | None = None,
    level: float = 0.9,
    groups: Mapping[str, Sequence] | None = None,
) -> Coverage:
    """How often the sets hold the truth, on all films and in groups, by patient.

    >>> both = np.ones((60, 2), bool)
    >>> whether = coverage({"as they are": (scores, both)})
    >>> whether.table[["films", "group", "coverage", "n"]].to_numpy().tolist()
    [['as they are', 'all films', 1.0, 60]]

    Args:
        sets: for each kind of films, such as "as they are" and "noisy", their Scores
            and what `prediction_sets` gave for them.
        finding: which of several; None = the first.
        level: that was promised.
        groups: for each kind of films the name of each film's group, (N,); "" is in
            none.
    Raises:
        ValueError: no film has a label.
    """
    parts = []
    for films, (scores, members) in sets.items():
        finding = finding or next(iter(scores.values))
        known = _labelled(scores, finding)
        if not known.any():
            raise ValueError(f"expected films with a label for {finding}, got none")
        parts.append((films, ALL, scores, members, known))
        if groups is None:
            continue
        names = np.asarray(groups[films]).astype(str)
        for name in sorted(set(names) - {""}):
            parts.append((films, name, scores, members, known & (names == name)))
    rows = []
    gaps = {}
    for films, group, scores, members, chosen in parts:
        _, y = _pair(scores, finding)
        members = members[chosen]
        held = members[np.arange(len(members)), y[chosen].astype(int)]
        owners = scores.patient_id[chosen]
        rows.append({"films": films, "group": group, **_row(held, members, owners)})
        gaps[films, group] = share_against(
            held,
            level,
            owners,
            names=(f"{group}, {films},", f"the promised {level:.0%}"),
            what="coverage",
            family=len(parts),
        )
    return Coverage(pd.DataFrame(rows), gaps, level)


def _row(held, members, owners):
    row = clustered_mean(held, owners, share=True)
    size = members.sum(axis=1)
    return {
        "coverage": row["mean"],
        "low": row["low"],
        "high": row["high"],
        "size": float(size.mean()) if len(size) else np.nan,
        "both": float((size == 2).mean()) if len(size) else np.nan,
        "empty": float((size == 0).mean()) if len(size) else np.nan,
        **{name: row[name] for name in ("n", "patients", "note")},
    }


def controlled_threshold(
    calibration: Scores,
    *,
    finding: str | None = None,
    sensitivity: float = 0.9,
    confidence: float = 0.9,
    seed: int = 0,
) -> float:
    """The highest threshold that misses no more than you allow, with a confidence.

    >>> 0 < controlled_threshold(scores, sensitivity=0.5, confidence=0.8) < 1
    True

    MAPIE's `BinaryClassificationController` (Learn then Test, Angelopoulos et al. 2021,
    arXiv 2110.01052), thresholds in a fixed order from the lowest, one film a patient.

    Args:
        calibration: probabilities for patients that the model didn't learn from.
        finding: which of several; None = the first.
        sensitivity: at the least.
        confidence: chance, over calibrations, that it is kept.
        seed: of the choice among a patient's films.
    Returns:
        called is what reaches it; NaN where too few cases allow no such promise.
    Raises:
        ValueError: a labelled film without a probability.
    """
    from mapie.risk_control import BinaryClassificationController

    finding = finding or next(iter(calibration.values))
    all_scored(calibration, finding)
    cases = _labelled(calibration, finding)
    chosen = one_film_each(calibration.patient_id, cases, seed=seed)
    stated, y = _pair(calibration, finding)
    controller = BinaryClassificationController(
        _Stated().predict_proba,
        risk="recall",
        target_level=sensitivity,
        confidence_level=confidence,
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():  # that none is found is what NaN says
        warnings.simplefilter("ignore")
        controller.calibrate(stated[chosen][:, None], y[chosen].astype(int))
    # all of these are valid together, so the highest spares most of the healthy
    valid = controller.valid_predict_params
    return float(np.max(valid)) if len(valid) else np.nan


def _pair(scores, finding):
    values = scores.values[finding].to_numpy(float)
    return values, scores.truth[finding].to_numpy(float)


def _labelled(scores, finding):
    return np.isin(scores.truth[finding].to_numpy(float), (0, 1))


def _apart(calibration, scores):
    shared = set(calibration.patient_id) & set(scores.patient_id)
    if shared - {None}:
        raise ValueError(
            f"expected other patients to calibrate on, got {len(shared)} on both "
            "sides. Try a split by patient"
        )
