"""What each patient adds to an AUROC: the parts of its variance by patient."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from radwb.identifiers import numbered
from radwb.stats.resample import labelled

MIN_POSITIVE_PATIENTS = 5  # benchmarks/coverage.py: the interval covers from here on
MIN_CONTROL_PATIENTS = 5
NO_INTERVAL = "no interval: "
LOST = 2  # so many lost cases weigh as much as the model of an AUROC's variance does


@dataclass(frozen=True, eq=False)
class Pull:
    """How far each patient pulls an AUROC up or down, and how alike its images are.

    Obuchowski 1997 (doi 10.2307/2533958), after DeLong et al. 1988: a case's placement
    is the share of the controls that it outranks, a control's the share of the cases
    that outrank it. A patient's pull is the sum of what its images' placements add to
    the AUROC beyond the mean; the squares of all pulls sum to the AUROC's variance.

    Attributes:
        cases_of, controls_of: (P,) images of each patient, in the order of their names.
            Images whose patient isn't known come last, all in one place.
        named: how many of the P are patients; P, or P - 1 where there are images of
            nobody knows whom.
        auroc: NaN with one class only.
        pulls: (P,) of the patients; 0 for one without a labelled image.
        alike: correlation of a patient's scores within a class, 0 to 1.
        alike_across: the same between a patient's cases and controls, taken to be lower
            the less is known of it.
    """

    cases_of: np.ndarray
    controls_of: np.ndarray
    named: int
    auroc: float
    pulls: np.ndarray
    alike: float = 1.0
    alike_across: float = 0.0

    @classmethod
    def of(cls, y, s, patients) -> "Pull":
        """From labels, scores and patients (N,) as `clustered_auroc` takes them."""
        row, named = numbered(patients)
        unknown = row < 0
        places = named + bool(unknown.any())
        row = np.where(unknown, named, row)
        y, s, keep = labelled(y, s)
        row = row[keep]
        case_row = row[y]
        control_row = row[~y]
        cases_of = np.bincount(case_row, minlength=places)
        controls_of = np.bincount(control_row, minlength=places)
        images = cases_of, controls_of, named
        if y.all() or not y.any():
            nothing = np.full(places, np.nan)
            return cls(*images, np.nan, nothing)
        of_cases, of_controls = placements(y, s)
        auroc = float(of_cases.mean())
        case_pulls = summed(of_cases - auroc, case_row, places)
        control_pulls = summed(of_controls - auroc, control_row, places)
        pulls = case_pulls + control_pulls
        alike, alike_across = likeness(y, s, row)
        return cls(*images, auroc, pulls, alike, alike_across)

    @classmethod
    def union(cls, pulls: "list[Pull]") -> "Pull":
        """The images of several findings together; it has no AUROC of its own."""
        cases_of = np.sum([pull.cases_of for pull in pulls], axis=0)
        controls_of = np.sum([pull.controls_of for pull in pulls], axis=0)
        nothing = np.full(len(cases_of), np.nan)
        return cls(cases_of, controls_of, pulls[0].named, np.nan, nothing)

    @property
    def images_of(self) -> np.ndarray:
        """(P,) labelled images of each patient."""
        return self.cases_of + self.controls_of

    @property
    def patients(self) -> int:
        """Patients with a labelled image, as far as they are known."""
        images = self.images_of[: self.named]
        return int((images > 0).sum())

    @property
    def positive_patients(self) -> int:
        """Patients with a case, as far as they are known."""
        cases = self.cases_of[: self.named]
        return int((cases > 0).sum())

    @property
    def unnamed(self) -> str:
        """How many labelled images have no patient, in words; "" where all have one."""
        unnamed = int(self.images_of[self.named :].sum())
        return without_patient(unnamed, self.images)

    @property
    def cases(self) -> int:
        """Number of images with the finding."""
        return int(self.cases_of.sum())

    @property
    def controls(self) -> int:
        """Number of images without the finding."""
        return int(self.controls_of.sum())

    @property
    def images(self) -> int:
        """Number of labelled images."""
        return self.cases + self.controls

    def missing(self) -> str:
        """Why this AUROC has no interval; "" where it has one."""
        if self.images == 0:
            return "no labelled image"
        if self.images in (self.cases, self.controls):
            absent = "control" if self.cases else "case"
            return f"no {absent} among {self.images} labelled images"
        if self.unnamed:
            return self.unnamed
        with_case = self.positive_patients
        with_control = int((self.controls_of > 0).sum())
        if with_case < MIN_POSITIVE_PATIENTS:
            return f"{NO_INTERVAL}cases in {counted(with_case)}"
        if with_control < MIN_CONTROL_PATIENTS:
            return f"{NO_INTERVAL}controls in {counted(with_control)}"
        return ""

    def sizes(self) -> tuple[float, float]:
        """As many independent cases and controls as these count."""
        cases = effective(self.cases_of, self.alike)
        controls = effective(self.controls_of, self.alike)
        return cases, controls

    def freedom(self) -> float:
        """Degrees of freedom: patients that count of the rarer class, less one."""
        with_case = effective(self.cases_of)
        with_control = effective(self.controls_of)
        return max(min(with_case, with_control) - 1, 1)

    def trust(self) -> float:
        """0 to 1: how far the pulls are believed beside the model.

        Little where next to no case loses.
        """
        rarer = min(self.sizes())
        lost_share = min(self.auroc, 1 - self.auroc)
        lost = rarer * lost_share
        return lost / (lost + LOST)

    def squares(self) -> float:
        """The AUROC's variance as the pulls alone have it."""
        return (self.pulls**2).sum()

    def variance(self) -> float:
        """Of the AUROC: the sum of the squared pulls, blended with the model's.

        The model's isn't 0 at an AUROC of 1.
        """
        trust = self.trust()
        inside = np.clip(self.auroc, 0.01, 0.99)
        cases, controls = self.sizes()
        independent = hanley_mcneil(inside, cases, controls)
        model = independent * self.shared()
        return float(trust * self.squares() + (1 - trust) * model)

    def lacking(self) -> float:
        """What the blend adds to the pulls' variance; it may be below 0."""
        return self.variance() - self.squares()

    def shared(self) -> float:
        """Factor of the variance where patients have cases and controls, and alike."""
        cases, controls = self.sizes()
        pairs = (self.cases_of * self.controls_of).sum()  # of one patient
        all_pairs = self.cases * self.controls
        together = pairs / all_pairs
        apart = 1 / cases + 1 / controls
        saved = 2 * self.alike_across * together / apart
        return max(1 - saved, 0.1)


def without_patient(unnamed: int, images: int) -> str:
    """Why there is no interval by patient; "" where every image has one."""
    if not unnamed:
        return ""
    return f"{NO_INTERVAL}{unnamed} of {images} images without a patient_id"


def counted(patients: int) -> str:
    """The number with its noun."""
    if patients == 1:
        return "1 patient"
    return f"{patients} patients"


def without(left_out: dict[str, str]) -> str:
    """Which findings are left out of a mean, and why."""
    if not left_out:
        return ""
    parts = []
    for finding, why in left_out.items():
        why = why.removeprefix(NO_INTERVAL)
        parts.append(f"{finding} ({why})")
    return f"without {', '.join(parts)}"


def placements(y, s) -> tuple[np.ndarray, np.ndarray]:
    """(cases,) share of controls below each case, (controls,) of cases above each."""
    cases = s[y]
    controls = s[~y]
    below_control = _share_below(controls, cases)
    return _share_below(cases, controls), 1 - below_control


def _share_below(s, others):
    """(N,) share of `others` that each score outranks, ties counting half."""
    others = np.sort(others)
    below = np.searchsorted(others, s, "left")
    up_to = np.searchsorted(others, s, "right")
    twice = below + up_to
    return twice / (2 * len(others))


def summed(deviations, row, patients: int) -> np.ndarray:
    """(P,) what each patient adds to the mean deviation, with the jackknife's weights.

    It is the jackknife that leaves one patient out. Where nobody has more images than
    others the squares sum to the usual variance over n, with n - 1 below. A patient
    with many images draws the mean towards itself; that is made up for.
    """
    n = len(set(row))
    N = len(row)
    images = np.bincount(row, minlength=patients)
    others = 1 - images / N  # 0 where one patient has all
    others = np.maximum(others, 1 / N)
    sums = np.bincount(row, deviations, minlength=patients)
    jackknife = np.sqrt((n - 1) / n)
    return jackknife * sums / others / N


def likeness(y, s, row) -> tuple[float, float]:
    """Intraclass correlation of a patient's scores within a class, and across classes.

    Both run from 0 to 1. One-way analysis of variance of the scores' normal ranks,
    cases and controls ranked apart. Where no patient has two images of a class it isn't
    known: then 1 within (there is nothing to be alike) and 0 across.
    """
    each = []
    for members in (y, ~y):
        rank = rankdata(s[members])
        share = (rank - 0.5) / len(rank)
        normal_rank = ndtri(share)
        each.append(analysis(normal_rank, row[members]))
    parts = np.sum(each, axis=0)
    alike = correlation(parts)
    _, _, inside_freedom, _, usual = parts
    if usual == 0:  # one patient: it isn't known
        inside_freedom = 0
    alike_across = alike * inside_freedom / (inside_freedom + 5)
    return alike, alike_across


def analysis(values, row) -> np.ndarray:
    """One-way analysis of variance of values whose mean is 0.

    Returns:
        (5,) sum of squares inside patients and between them, degrees of freedom of
        each, and the degrees between times the usual number of images a patient.
    """
    _, patient, images = np.unique(row, return_inverse=True, return_counts=True)
    N = len(values)
    P = len(images)
    means = np.bincount(patient, values) / images
    deviations = values - means[patient]
    inside = (deviations**2).sum()
    between = (images * means**2).sum()
    squares = (images**2).sum()
    usual = N - squares / N
    return np.array([inside, between, N - P, P - 1, usual])


def correlation(parts) -> float:
    """Intraclass correlation from an `analysis`, 0 to 1.

    It is 1 where no patient has two images, or there is one patient.
    """
    inside, between, inside_freedom, between_freedom, usual = parts
    if inside_freedom == 0 or usual == 0:
        return 1.0
    noise = inside / inside_freedom
    by_chance = between_freedom * noise
    patients = (between - by_chance) / usual
    if patients <= 0:
        return 0.0
    return float(patients / (patients + noise))


def effective(images, alike: float = 1.0) -> float:
    """As how many independent images these count, where a patient's are alike.

    >>> effective(np.array([21, 3, 1, 1]))    # Kish 1965
    1.495...

    Args:
        images: (P,) of each patient.
        alike: their correlation; at 1 it is as how many patients of equal size.
    """
    n = images.sum()
    squares = (images**2).sum()
    return float(n**2 / (n + (squares - n) * alike))


def hanley_mcneil(auroc, cases: float, controls: float):
    """Variance of an AUROC of so many independent cases and controls.

    Hanley & McNeil 1982 (doi 10.1148/radiology.143.1.7063747) in Newcombe's symmetric
    form (2006, doi 10.1002/sim.2324, method 5).
    """
    others = (cases + controls) / 2 - 1
    two_cases = (1 - auroc) / (2 - auroc)  # held against one control
    two_controls = auroc / (1 + auroc)  # held against one case
    ties = others * (two_cases + two_controls)
    pairs = cases * controls
    return auroc * (1 - auroc) * (1 + ties) / pairs
