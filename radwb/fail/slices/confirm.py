"""Slices that one half of the patients suggests, tested on the other half."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radwb.identifiers import numbered
from radwb.stats import compare
from radwb.stats.means import MIN_PATIENTS
from radwb.stats.pull import NO_INTERVAL, counted
from radwb.stats.sentence import Comparison

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
    """

    rows: np.ndarray
    y: np.ndarray
    p: np.ndarray
    wrong: np.ndarray
    patients: np.ndarray
    looking: np.ndarray

    def half(self, looking: bool) -> "Answers":
        """Those of one half of the patients."""
        inside = self.looking == looking
        parts = (self.rows, self.y, self.p, self.wrong, self.patients, self.looking)
        return Answers(*(part[inside] for part in parts))


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
    return Answers(rows, y.astype(int), p, wrong, patient, looking)


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

    >>> excess(np.array([1, 1, 0, 0]), np.array([True, True, False, False]))
    2.0
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

    >>> wrong, inside = np.arange(60) % 3 == 0, np.arange(60) < 20
    >>> print(errs_more(wrong, inside, range(60)))
    can't tell the slice from the rest: 0.03 (-0.22 to 0.28; 60 patients)

    Args:
        wrong: (N,) bool, films with the same label.
        inside: (N,) bool.
        patients: (N,) patient of each film.
        name, what, family: as in `rw.stats.compare`.
    """
    wrong = np.asarray(wrong, dtype=float)
    inside = np.asarray(inside, dtype=bool)
    patients = np.asarray(patients)
    within = len(set(patients[inside]))
    beside = len(set(patients[~inside]))
    names = (name, "the rest")
    if min(within, beside) < MIN_PATIENTS:
        gap = np.nan
        if within and beside:
            gap = wrong[inside].mean() - wrong[~inside].mean()
        where = "in the slice" if within < MIN_PATIENTS else "in the rest"
        note = f"{NO_INTERVAL}{counted(min(within, beside))} {where}"
        nothing = (np.nan, np.nan, np.nan)
        n = len(set(patients))
        return Comparison(names, what, gap, *nothing, n, family=family, note=note)
    share = inside.mean()
    away = wrong - wrong.mean()  # so that the two means differ by the two shares
    of_slice = away * inside / share
    of_rest = away * ~inside / (1 - share)
    return compare(of_slice, of_rest, patients, names=names, what=what, family=family)
