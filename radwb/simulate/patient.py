"""One virtual patient: site, sex, age and body, what comes and goes from study to
study, and the dials of it all.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from radwb.findings import FINDINGS
from radwb.simulate.display import SITES
from radwb.simulate.findings import PLANTED, Finding, draw
from radwb.simulate.project import Body

PREVALENCE = {name: FINDINGS[name].planting.prevalence for name in PLANTED}
LASTING = tuple(name for name in PLANTED if FINDINGS[name].planting.lasting)
SPLIT = {"train": 0.7, "val": 0.1, "test": 0.2}  # by patient


@dataclass(frozen=True)
class Dials:
    """How a cohort is made up; the default is a plain hospital.

    Lung Opacity as a dial of what is planted (`prevalence` to `portable`) is the hazy
    patch; of labels, words and markers it is CheXpert's parent
    (`radwb.findings.FINDINGS`): the patch or any of its children.

    >>> rw.simulate.cohort(n=200, dials=rw.simulate.Dials(drain=0.9, withhold=("Lung Lesion",)))

    Attributes:
        prevalence: share of the first studies with each finding, before `together` and
            `drain` add theirs; what isn't named keeps its default.
        healthy: share of the patients without any.
        by_site, by_sex: {(finding, site or sex): factor on its odds}.
        by_age: {finding: change of its log odds with each year beyond 55}.
        together: {(finding, finding): chance that the first brings the second along}.
        drain: chance of a chest tube where there is a pneumothorax.
        portable: {finding: chance that it makes the film a portable AP one}, besides
            the site's own share.
        marker: (finding, strength from 0 to 1): a film has a burned-in marker where it
            has the finding, and none where it hasn't, in that share of the films, and
            by a coin in the others; () gives every film one.
        scanner: (lasting finding, site, strength): patients with it come from that
            site, and others from another, in that share.
        cnr: contrast to noise that each finding is scaled to (`plant`); None leaves it
            as planted.
        label_noise: chance that a label is flipped, each by itself, so that a parent
            may disagree with its children (`radwb.findings.FINDINGS`); the truth stays in
            the column `planted`.
        report_error: chance of a planted error in a report, listed in the column
            `report_errors`.
        withhold: findings that no report mentions.
        duplicates, near_duplicates: share of the films filed again under another
            patient: the same bytes, or exposed anew.
    """

    prevalence: dict = field(default_factory=dict)
    healthy: float = 0.3
    by_site: dict = field(default_factory=dict)
    by_sex: dict = field(default_factory=dict)
    by_age: dict = field(
        default_factory=lambda: {
            "Cardiomegaly": 0.02,
            "Pleural Other": 0.02,
            "Lung Lesion": 0.01,
        }
    )
    together: dict = field(
        default_factory=lambda: {
            ("Edema", "Pleural Effusion"): 0.4,
            ("Cardiomegaly", "Edema"): 0.15,
            ("Pleural Effusion", "Atelectasis"): 0.1,
        }
    )
    drain: float = 0.3
    portable: dict = field(
        default_factory=lambda: {"Edema": 0.4, "Support Devices": 0.4}
    )
    marker: tuple = ()
    scanner: tuple = ()
    cnr: float | None = None
    label_noise: float = 0.0
    report_error: float = 0.0
    withhold: tuple = ()
    duplicates: float = 0.0
    near_duplicates: float = 0.0

    def __post_init__(self):
        named = {name for pair in self.together for name in pair} | {
            n for n, _ in (*self.by_site, *self.by_sex)
        }
        named |= {
            *self.prevalence,
            *self.withhold,
            *self.marker[:1],
            *self.by_age,
            *self.portable,
        }
        unknown = named - set(PLANTED)
        if unknown:
            raise ValueError(
                f"expected findings of {', '.join(PLANTED)}, got {', '.join(sorted(unknown))}"
            )
        if self.scanner and not (
            self.scanner[0] in LASTING and self.scanner[1] in SITES
        ):
            raise ValueError(
                f"expected a scanner's finding of {', '.join(LASTING)} and a site of {', '.join(SITES)}; "
                f"got {self.scanner[:2]}"
            )
        chances = {
            **self.prevalence,
            **self.portable,
            **self.together,
            "healthy": self.healthy,
            "drain": self.drain,
            "label_noise": self.label_noise,
            "report_error": self.report_error,
            "duplicates": self.duplicates,
            "near_duplicates": self.near_duplicates,
            "marker": sum(self.marker[1:]),
            "scanner": sum(self.scanner[2:]),
        }
        wrong = {k: v for k, v in chances.items() if not 0 <= v <= 1}
        if wrong:
            raise ValueError(f"expected chances from 0 to 1, got {wrong}")
        most = max((PREVALENCE | self.prevalence).values())
        if most > 1 - self.healthy:
            raise ValueError(
                f"expected healthy of at most {1 - most:.2f} beside a prevalence of {most}, "
                f"got {self.healthy}"
            )


@dataclass(frozen=True, eq=False)
class Patient:
    """Who a virtual patient is."""

    site: str
    sex: str
    age_years: int
    body: Body
    healthy: bool
    split: str


def draw_patient(rng, dials: Dials) -> Patient:
    """Draw one virtual patient. Reports never mention sex or age; the film shows both."""
    site, sex, age = (
        str(rng.choice(list(SITES))),
        str(rng.choice(["F", "M"])),
        int(rng.integers(20, 90)),
    )
    small = 0.93 if sex == "F" else 1.01
    build = rng.normal(0, 0.055)
    scale = (
        small * (1 + build) * rng.normal(1, 0.03),
        small * (1 + 1.6 * build) * rng.normal(1, 0.04),
        small * rng.normal(1, 0.05),
    )
    old = max(0, age - 50) / 40
    breath = rng.normal(0, 13)
    body = Body(
        scale=tuple(float(s) for s in np.clip(scale, 0.80, 1.18)),
        heart=float(rng.uniform(0.88, 1.12)),
        inspiration_mm=(
            float(breath + rng.normal(0, 5)),
            float(breath + rng.normal(0, 5)),
        ),
        yaw_deg=float(rng.normal(0, 3.5)),
        tilt_deg=float(rng.normal(0, 4)),
        roll_deg=float(rng.normal(0, 1.5)),
        scoliosis_mm=float(rng.normal(0, 5)),
        kyphosis_mm=float(abs(rng.normal(0, 6)) + 14 * old),
        taper=float(rng.normal(0, 0.35)),
        aorta_mm=float(max(0, rng.normal(2, 3) + 9 * old)),
        bone=float(1.2 - 0.35 * old + rng.normal(0, 0.06)),
        lung=float(rng.uniform(0.85, 1.25)),
        fat_mm=float(max(0, rng.normal(6, 9) + 60 * build)),
        breast_mm=float(rng.uniform(38, 72)) if sex == "F" else 0.0,
        wobble=rng.normal(0, 6, (3, 4, 4, 4)).astype(np.float32),
    )
    split = str(rng.choice(list(SPLIT), p=list(SPLIT.values())))
    return Patient(site, sex, age, body, bool(rng.random() < dials.healthy), split)


def _chance(name, patient, dials):
    """Chance of a finding in a patient who isn't healthy, shifted by site, sex and age
    on the scale of odds.
    """
    p = min(0.98, (PREVALENCE | dials.prevalence)[name] / max(1e-9, 1 - dials.healthy))
    odds = (
        p
        / (1 - p)
        * dials.by_site.get((name, patient.site), 1)
        * dials.by_sex.get((name, patient.sex), 1)
    )
    odds *= np.exp(dials.by_age.get(name, 0) * (patient.age_years - 55))
    return odds / (1 + odds)


def draw_lasting(rng, patient, dials, anatomy):
    """What a patient keeps from study to study: heart, mass, scar, pacemaker."""
    if patient.healthy:
        return []
    found = [
        draw(name, anatomy, rng)
        for name in LASTING
        if rng.random() < _chance(name, patient, dials)
    ]
    if rng.random() < 0.3 * _chance("Support Devices", patient, dials):
        found.append(draw("Support Devices", anatomy, rng, kind="pacemaker"))
    return found


def draw_study(rng, patient, lasting, before, dials, anatomy):
    """The findings of one study: what lasts, what the prior study left, and what is
    new.

    A finding that comes and goes is still there in the next study in three of five,
    larger or smaller.
    """
    if patient.healthy:
        return []
    found = list(lasting)
    for f in before or ():
        if f.name in LASTING and f not in found:
            found.append(f)
        elif f.name not in (*LASTING, "Support Devices") and rng.random() < 0.6:
            found.append(
                replace(
                    f, severity=float(np.clip(f.severity + rng.normal(0, 0.3), 0, 1))
                )
            )
    for name in PLANTED:
        known = any(f.name == name for f in found)
        new = 1 if before is None else 0.4
        if (
            name not in LASTING
            and not known
            and rng.random() < _chance(name, patient, dials) * new
        ):
            found += _several(name, rng, anatomy)
    for (first, second), chance in dials.together.items():
        names = [f.name for f in found]
        if first in names and second not in names and rng.random() < chance:
            found += _several(second, rng, anatomy)
    for f in [f for f in found if f.name == "Pneumothorax"]:
        drained = any(d.kind == "chest tube" and d.side == f.side for d in found)
        if rng.random() < dials.drain and not drained:
            found.append(
                draw("Support Devices", anatomy, rng, kind="chest tube", side=f.side)
            )
    return [
        replace(f, kind="alveolar" if f.severity > 0.5 else "interstitial")
        if f.name == "Edema"
        else f
        for f in found
    ]


def _several(name, rng, anatomy) -> list[Finding]:
    """One finding, or fluid on both sides, or up to three devices of different kinds."""
    if name == "Pleural Effusion" and rng.random() < 0.25:
        return [draw(name, anatomy, rng, side=side) for side in ("right", "left")]
    if name == "Support Devices":
        made = [
            draw(name, anatomy, rng)
            for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])))
        ]
        return list({f.kind: f for f in made}.values())
    return [draw(name, anatomy, rng)]
