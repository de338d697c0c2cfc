"""Slices that one half of the patients suggests, tested on the other half."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from radwb.identifiers import numbered
from radwb.stats.means import MIN_PATIENTS
from radwb.stats.pull import NO_INTERVAL, counted, effective
from radwb.stats.sentence import Comparison
from radwb.stats.shares import square_and_add, two_sided_p

LEAST_FILMS = 10  # of a slice, or none is suggested
ERRORS = {1: "missed", 0: "false alarm"}  # by what the film shows in truth


@dataclass(frozen=True, eq=False)
class Answers:
    """What your model answered, right or wrong, and who learns from it.

    Attributes:
        rows: (N,) their places in the table; unlabelled films are left out.
        y: (N,) labels 1 and 0.
        p: (N,) the score from 0 to 1, with the threshold at a half.
        wrong: (N,) bool.
        patients: (N,) patient of each film.
        looking: (N,) bool, films of the patients among whom slices are looked for;
            those of the others confirm them.
        threshold: the score from which on a film counts as ill.
    """

    rows: np.ndarray
    y: np.ndarray
    p: np.ndarray
    wrong: np.ndarray
    patients: np.ndarray
    looking: np.ndarray
    threshold: float

    def half(self, looking: bool) -> "Answers":
        """Those of one half of the patients."""
        inside = self.looking == looking
        parts = (self.rows, self.y, self.p, self.wrong, self.patients, self.looking)
        return Answers(*(part[inside] for part in parts), self.threshold)


def answers(
    y: np.ndarray,
    s: np.ndarray,
    patients: Sequence,
    *,
    threshold: float | None = None,
    seed: int = 0,
) -> Answers:
    """Which films are answered wrongly, and which half of the patients each is in.

    >>> answered = answers([0, 1, 0, 1], [0.1, 0.7, 0.6, 0.9], list("abcd"))
    >>> answered.wrong.tolist()
    [False, False, False, False]

    Args:
        y: (N,) labels; anything but 1 and 0 is left out.
        s: (N,) scores.
        patients: (N,) patient of each row.
        threshold: from which on a film counts as ill; None = where as many of the ill
            as of the healthy are right, in the half where slices are looked for.
        seed: of the halves.
    Raises:
        ValueError: one class, a constant score, one patient, or one without a name.
    """
    y = np.asarray(y, dtype=float)
    s = np.asarray(s, dtype=float)
    patient, P = numbered(patients)
    rows = np.flatnonzero((y == 0) | (y == 1))
    y, s, patient = y[rows], s[rows], patient[rows]
    _check(y, s, patient)
    half = np.random.default_rng(seed).permutation(P) < P / 2
    looking = half[patient]
    _check(y[looking], s[looking], patient[looking], where=" in the first half")
    if threshold is None:
        threshold = _balanced(y[looking], s[looking])
    away = (s - threshold) / s[looking].std()
    p = 1 / (1 + np.exp(-2 * away))
    wrong = (s >= threshold) != (y == 1)
    return Answers(rows, y.astype(int), p, wrong, patient, looking, float(threshold))


def _check(y, s, patient, where=""):
    if len(set(y)) < 2:
        raise ValueError(
            f"expected labelled films with and without the finding{where}, "
            f"got {len(y)} of one kind"
        )
    if np.isnan(s).any() or s.min() == s.max():
        raise ValueError(
            f"expected scores that differ{where}, got {s[0]:.3g} for each of {len(s)} "
            "films, or NaN"
        )
    if (patient < 0).any():
        raise ValueError(
            f"expected a patient_id for each film, got none for {(patient < 0).sum()} "
            f"of {len(s)}. Try rw.curate.one_patient_per_image(table)"
        )
    if len(set(patient)) < 2:
        raise ValueError(
            f"expected two patients or more{where}, to look among some and to confirm "
            "on the others; got 1"
        )


def _balanced(y, s):
    """The score at which as many of the ill as of the healthy are right."""
    ill = np.sort(s[y == 1])
    healthy = np.sort(s[y == 0])
    each = np.unique(s)
    missed = np.searchsorted(ill, each) / len(ill)
    alarms = 1 - np.searchsorted(healthy, each) / len(healthy)
    return each[np.abs(missed - alarms).argmin()]


def excess(wrong: np.ndarray, inside: np.ndarray) -> float:
    """How far a slice's share of errors lies above the rest's, in standard errors.

    >>> wrong, inside = np.arange(8) < 4, np.arange(8) % 2 == 0
    >>> excess(wrong, inside)
    0.0
    """
    n = inside.sum()
    usual = wrong.mean()
    if n in (0, len(inside)) or usual in (0, 1):
        return 0.0
    gap = wrong[inside].mean() - wrong[~inside].mean()
    error = np.sqrt(usual * (1 - usual) / n)
    return float(gap / error)


def errs_more(
    wrong: np.ndarray,
    inside: np.ndarray,
    patients: np.ndarray,
    *,
    name: str = "the slice",
    what: str = "share of errors",
    family: int = 1,
) -> Comparison:
    """A slice's share of errors less that of the rest, by patient.

    >>> wrong, inside = np.arange(60) % 3 == 0, np.arange(60) < 25
    >>> print(errs_more(wrong, inside, range(60)))
    can't tell the slice from the rest: 0.05 (-0.21 to 0.31; 60 patients)

    Slices are small and errors rare, so each share has exact limits (Clopper & Pearson
    1934, doi 10.1093/biomet/26.4.404) for as many films as it has patients, and the
    difference adds their squares (Newcombe 1998, doi 10.1002/(SICI)1097-0258(19980430)
    17:8<873::AID-SIM779>3.0.CO;2-I, method 10).

    Args:
        wrong: (N,) bool, films with the same label.
        inside: (N,) bool.
        patients: (N,) patient of each film.
        name, what, family: as in `rw.stats.compare`.
    """
    wrong = np.asarray(wrong, dtype=float)
    inside = np.asarray(inside, dtype=bool)
    patients = np.asarray(patients)
    sides = (
        _Share.of(wrong[inside], patients[inside]),
        _Share.of(wrong[~inside], patients[~inside]),
    )
    fewest = min(side.patients for side in sides)
    low = high = p = np.nan
    note = ""
    if fewest < MIN_PATIENTS:
        note = f"{NO_INTERVAL}{counted(fewest)} on one side"
    else:
        low, high = _gap_limits(*sides, 0.05 / family)
        p = two_sided_p(lambda level: _gap_limits(*sides, 1 - level))
    return Comparison(
        names=(name, "the rest"),
        what=what,
        difference=sides[0].share - sides[1].share,
        low=low,
        high=high,
        p=p,
        n=len(set(patients)),
        family=family,
        note=note,
    )


@dataclass(frozen=True)
class _Share:
    """A share of films, and as how many films it counts."""

    share: float
    films: float
    patients: int

    @classmethod
    def of(cls, wrong, patients):
        if not len(wrong):
            return cls(np.nan, 0.0, 0)
        images = np.unique(patients, return_counts=True)[1]
        return cls(float(wrong.mean()), effective(images), len(images))

    def limits(self, alpha):
        hits = self.share * self.films
        misses = self.films - hits
        low = beta.ppf(alpha / 2, hits, misses + 1) if hits > 0 else 0.0
        high = beta.ppf(1 - alpha / 2, hits + 1, misses) if misses > 0 else 1.0
        return float(low), float(high)


def _gap_limits(ours, theirs, alpha):
    """Limits of the difference of two shares at the level 1 - alpha."""
    ends = ours.limits(alpha), theirs.limits(alpha)
    return square_and_add(ours.share, theirs.share, *ends)
