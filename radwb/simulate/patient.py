"""One virtual patient, and the dials of a cohort.

Site, sex, age and body stay; findings come and go from study to study.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np

from radwb.findings import FINDINGS
from radwb.simulate.body import Body
from radwb.simulate.display import SITES
from radwb.simulate.findings import PLANTED, Finding, draw, edema_kind
from radwb.simulate.words import GRAMMARS

PREVALENCE = {name: FINDINGS[name].planting.prevalence for name in PLANTED}
LASTING = tuple(name for name in PLANTED if FINDINGS[name].planting.lasting)
SPLIT = {"train": 0.7, "val": 0.1, "test": 0.2}  # by patient
STAYS = 0.6  # chance that what comes and goes is still there in the next study
NEW = 0.4  # factor on the chance of a new finding in a later study
# dials that came after the first cohorts: named only where they are turned, as cohorts
# are kept by a dial's `repr`
LATER = ("builds", "looks", "wording")


@dataclass(frozen=True)
class Dials:
    """How a cohort is made up; the default is a plain hospital.

    Lung Opacity as a dial of what is planted (`prevalence` to `portable`) is the hazy
    patch; of labels, words and markers it is CheXpert's parent
    (`radwb.findings.FINDINGS`): the patch or any of its children.

    >>> dials = rw.simulate.Dials(drain=0.9, withhold=("Lung Lesion",))
    >>> table = rw.simulate.cohort(n=12, dials=dials)

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
            may disagree with its children; the truth stays in the column `planted`.
        report_error: chance of a planted error in a report, listed in the column
            `report_errors`.
        withhold: findings that no report mentions.
        duplicates, near_duplicates: share of the films filed again under another
            patient: the same bytes, or exposed anew.
        builds: how much more the patients' builds differ, from 0 (adults near to the
            CT's) to 1 (children, the obese, the emphysematous, the crooked: `widened`).
        looks: share of the films that have a look of their own in the place of their
            site's: detector, processing, greys, framing, arms, clothes, letters,
            storage (`radwb.simulate.looks`).
        wording: of the reports: "plain", a small grammar; or "wide", with more of what
            radiologists write (`radwb.simulate.wide`). What is true stays the same.
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
    builds: float = 0.0
    looks: float = 0.0
    wording: str = "plain"

    def __repr__(self):
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        defaults = {f.name: f.default for f in fields(self)}
        for name in LATER:
            if values[name] == defaults[name]:
                del values[name]
        named = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"Dials({named})"

    def __post_init__(self):
        _check_names(self)
        _check_scanner(self.scanner)
        _check_chances(self)
        if self.wording not in GRAMMARS:
            raise ValueError(
                f"expected a wording of {', '.join(GRAMMARS)}, got {self.wording!r}"
            )


def _check_names(dials):
    names = {*dials.prevalence, *dials.withhold, *dials.by_age, *dials.portable}
    names |= {name for name, _ in (*dials.by_site, *dials.by_sex)}
    names = names.union(dials.marker[:1], *dials.together)
    unknown = names - set(PLANTED)
    if unknown:
        raise ValueError(
            f"expected findings of {', '.join(PLANTED)}, "
            f"got {', '.join(sorted(unknown))}"
        )


def _check_scanner(scanner):
    if not scanner:
        return
    finding, site = scanner[:2]
    if finding not in LASTING or site not in SITES:
        raise ValueError(
            f"expected a scanner's finding of {', '.join(LASTING)} and a site of "
            f"{', '.join(SITES)}; got {scanner[:2]}"
        )


def _check_chances(dials):
    single = (
        "healthy",
        "drain",
        "label_noise",
        "report_error",
        "duplicates",
        "near_duplicates",
        "builds",
        "looks",
    )
    chances = dials.prevalence | dials.portable | dials.together
    chances |= {name: getattr(dials, name) for name in single}
    chances |= {"marker": sum(dials.marker[1:]), "scanner": sum(dials.scanner[2:])}
    wrong = {name: chance for name, chance in chances.items() if not 0 <= chance <= 1}
    if wrong:
        raise ValueError(f"expected chances from 0 to 1, got {wrong}")
    most = max((PREVALENCE | dials.prevalence).values())
    if most > 1 - dials.healthy:
        raise ValueError(
            f"expected healthy of at most {1 - most:.2f} beside a prevalence of "
            f"{most}, got {dials.healthy}"
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
    """Draw one virtual patient.

    Reports never mention sex or age; the film shows both.
    """
    site = str(rng.choice(list(SITES)))
    sex = str(rng.choice(["F", "M"]))
    age_years = int(rng.integers(20, 90))
    body = _draw_body(rng, sex, age_years)
    split = draw_split(rng)
    is_healthy = bool(rng.random() < dials.healthy)
    return Patient(site, sex, age_years, body, is_healthy, split)


def draw_split(rng):
    """The part of the split that a patient falls into."""
    return str(rng.choice(list(SPLIT), p=list(SPLIT.values())))


def _draw_body(rng, sex, age_years):
    small = 0.93 if sex == "F" else 1.01
    build = rng.normal(0, 0.055)
    width = small * (1 + build) * rng.normal(1, 0.03)
    depth = small * (1 + 1.6 * build) * rng.normal(1, 0.04)
    height = small * rng.normal(1, 0.05)
    old = max(0, age_years - 50) / 40  # 0 up to 50 years, 1 at 90
    breath = rng.normal(0, 13)
    # the arguments are drawn in the order they stand in
    return Body(
        scale=tuple(np.clip((width, depth, height), 0.80, 1.18).tolist()),
        heart=float(rng.uniform(0.88, 1.12)),
        inspiration_mm=tuple((breath + rng.normal(0, 5, 2)).tolist()),
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
        breast_mm=_draw_breast(rng, sex),
        wobble=rng.normal(0, 6, (3, 4, 4, 4)).astype(np.float32),
    )


def _draw_breast(rng, sex):
    return float(rng.uniform(38, 72)) if sex == "F" else 0.0


def _chance(name, patient, dials):
    """Chance of a finding in a patient who isn't healthy.

    Site, sex and age shift it on the scale of odds.
    """
    share = (PREVALENCE | dials.prevalence)[name]
    p = min(0.98, share / max(1e-9, 1 - dials.healthy))
    odds = p / (1 - p)
    odds = odds * dials.by_site.get((name, patient.site), 1)
    odds = odds * dials.by_sex.get((name, patient.sex), 1)
    odds *= np.exp(dials.by_age.get(name, 0) * (patient.age_years - 55))
    return odds / (1 + odds)


def draw_lasting(rng, patient, dials, anatomy):
    """What a patient keeps from study to study: heart, mass, scar, pacemaker."""
    if patient.healthy:
        return []
    findings = []
    for name in LASTING:
        if rng.random() < _chance(name, patient, dials):
            findings.append(draw(name, anatomy, rng))
    if rng.random() < 0.3 * _chance("Support Devices", patient, dials):
        findings.append(draw("Support Devices", anatomy, rng, kind="pacemaker"))
    return findings


def draw_study(rng, patient, lasting, before, dials, anatomy):
    """The findings of one study: what lasts, what the prior study left, what is new.

    A finding that comes and goes is still there in the next study in three of five,
    larger or smaller.
    """
    if patient.healthy:
        return []
    findings = list(lasting)
    for finding in before or ():
        if finding.name in LASTING:
            if finding not in findings:
                findings.append(finding)
        elif finding.name != "Support Devices" and rng.random() < STAYS:
            severity = np.clip(finding.severity + rng.normal(0, 0.3), 0, 1)
            findings.append(replace(finding, severity=float(severity)))
    factor = 1 if before is None else NEW
    for name in PLANTED:
        is_known = name in LASTING or any(f.name == name for f in findings)
        if not is_known and rng.random() < _chance(name, patient, dials) * factor:
            findings += _several(name, rng, anatomy)
    for (first, second), chance in dials.together.items():
        names = {f.name for f in findings}
        if first in names and second not in names and rng.random() < chance:
            findings += _several(second, rng, anatomy)
    findings += _drains(findings, rng, dials, anatomy)
    return [_as_severe(finding) for finding in findings]


def _drains(findings, rng, dials, anatomy):
    """Chest tubes for pneumothoraces that have none."""
    drained = {f.side for f in findings if f.kind == "chest tube"}
    drains = []
    for air in findings:
        if air.name == "Pneumothorax":
            is_chosen = rng.random() < dials.drain
            if is_chosen and air.side not in drained:
                drain = draw(
                    "Support Devices",
                    anatomy,
                    rng,
                    kind="chest tube",
                    side=air.side,
                )
                drains.append(drain)
                drained.add(air.side)
    return drains


def _as_severe(finding):
    """An edema that grew or shrank looks like its new severity."""
    if finding.name == "Edema":
        return replace(finding, kind=edema_kind(finding.severity))
    return finding


def _several(name, rng, anatomy) -> list[Finding]:
    """One finding, or fluid on both sides, or up to three different devices."""
    if name == "Pleural Effusion" and rng.random() < 0.25:
        return [draw(name, anatomy, rng, side=side) for side in ("right", "left")]
    if name == "Support Devices":
        n = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
        devices = [draw(name, anatomy, rng) for _ in range(n)]
        return list({device.kind: device for device in devices}.values())
    return [draw(name, anatomy, rng)]
