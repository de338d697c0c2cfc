"""What can be planted: a finding's name, size, side and place, drawn so that it lies
where such things lie.
"""

from dataclasses import dataclass, replace

import numpy as np

from radwb.findings import HIGH_CM, TIPS, TUBE_CM
from radwb.simulate.anatomy import LOBES, Anatomy
from radwb.simulate.project import Body

PLANTED = (
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Support Devices",
)
DEVICES = tuple(TIPS)
MISPLACED = 0.15  # share of the devices with a tip that don't lie where they should


@dataclass(frozen=True)
class Finding:
    """One planted finding.

    Attributes:
        name: one of `PLANTED`.
        severity: 0 (smallest) to 1 (largest).
        side: "right", "left" or "" where there is none.
        centre: (x, y, z) in the CT, mm, of what lies in one place.
        lobe: where it lies, in words.
        kind: lesions "solid", "part-solid", "spiculated"; atelectasis "plate", "lobar";
            edema "interstitial", "alveolar"; pleural thickening "apical", "lateral";
            devices as in `DEVICES`.
        texture: seed of its irregularities.
        tip: where a device ends, a key of `radwb.findings.TIPS[kind]`; "" draws it
            where it should lie, and no report says where.
        tip_cm: height of an endotracheal tube's tip above the carina, on the patient's
            own scale.
    """

    name: str
    severity: float
    side: str = ""
    centre: tuple = ()
    lobe: str = ""
    kind: str = ""
    texture: int = 0
    tip: str = ""
    tip_cm: float = 0.0

    def __post_init__(self):
        if self.name not in PLANTED:
            raise ValueError(
                f"expected a finding of {', '.join(PLANTED)}, got {self.name!r}"
            )
        if not 0 <= self.severity <= 1:
            raise ValueError(
                f"expected a severity from 0 to 1, got {self.severity} for {self.name}"
            )
        if self.name == "Support Devices" and self.kind not in DEVICES:
            raise ValueError(
                f"expected a device of {', '.join(DEVICES)}, got {self.kind!r}"
            )
        if self.tip and self.tip not in TIPS.get(self.kind, ()):
            raise ValueError(
                f"expected a tip of {', '.join(TIPS.get(self.kind, ())) or 'no device'}, got {self.tip!r}"
            )
        if self.side not in ("right", "left") and (
            self.side or self.name not in ON_BOTH
        ):
            raise ValueError(
                f"expected a side, right or left, of {self.name}, got {self.side!r}"
            )

    @property
    def radius_mm(self):
        """Radius of a lung lesion, 10 to 28 mm."""
        return 10 + 18 * self.severity


LOCAL = (
    "Lung Opacity",
    "Lung Lesion",
    "Consolidation",
    "Atelectasis",
)  # lie in one place of one lobe
ON_BOTH = ("Cardiomegaly", "Edema", "Support Devices")  # need no side
KINDS = {
    "Lung Lesion": (("solid", 0.6), ("part-solid", 0.2), ("spiculated", 0.2)),
    "Atelectasis": (("plate", 0.6), ("lobar", 0.4)),
    "Pleural Other": (("apical", 0.4), ("lateral", 0.6)),
    "Support Devices": tuple((d, 1 / len(DEVICES)) for d in DEVICES),
}


def draw(name, anatomy: Anatomy, rng, *, severity=None, side=None, kind=None):
    """A finding somewhere it can be: side, lobe, place, kind, tip and texture drawn
    from `rng`.

    One lung lesion in seven may hide behind the diaphragm or the heart, and stays a
    positive. A share of `MISPLACED` of the devices ends where it shouldn't.
    """
    severity = float(rng.random()) if severity is None else severity
    if kind is None:
        names, chances = zip(*KINDS.get(name, (("", 1.0),)), strict=True)
        kind = str(rng.choice(names, p=np.array(chances) / sum(chances)))
    if name == "Edema":
        kind = "alveolar" if severity > 0.5 else "interstitial"
    if name in ("Cardiomegaly", "Edema") or kind in ("endotracheal tube", "ECG leads"):
        side = ""
    elif side is None:
        side = str(rng.choice(("right", "left")))
    found = Finding(name, severity, side, kind=kind, texture=int(rng.integers(1 << 30)))
    if name == "Support Devices":
        return _with_tip(found, anatomy, rng)
    return _place(found, anatomy, rng) if name in LOCAL else found


def _with_tip(device, anatomy, rng):
    """The device with a tip that the anatomy has room for: well placed, or in a share
    of `MISPLACED` not.
    """
    tips = TIPS[device.kind]
    if not tips:
        return device
    heights = [cm for cm in TUBE_CM if cm <= _trachea_cm(anatomy)] or [1]
    misplaced = bool(rng.random() < MISPLACED)
    options = [tip for tip, words in tips.items() if bool(words.fault) == misplaced]
    if _trachea_cm(anatomy) < HIGH_CM:
        options = [tip for tip in options if tip != "high"]
    tip = str(rng.choice(options))
    if device.kind != "endotracheal tube":
        return replace(device, tip=tip)
    cm = {"trachea": float(rng.choice(heights)), "high": float(HIGH_CM)}.get(tip, 0.0)
    return replace(device, tip=tip, tip_cm=cm)


def _trachea_cm(anatomy):
    """How far above the carina a tube's tip may lie in the smallest patient
    (`draw_patient`), cm.
    """
    above = anatomy.marks["trachea"][-1][2] - anatomy.marks["carina"][2]
    return 0.8 * (above + 20) / 10


def _place(finding, anatomy, rng):
    lobe = int(
        rng.choice([i for i, words in LOBES.items() if words.startswith(finding.side)])
    )
    bottom, top = anatomy.lung_range[finding.side]
    low, high = 0.36, 0.95
    if finding.kind == "plate":
        lobe, low, high = {"right": 14, "left": 11}[finding.side], 0.34, 0.55
    points = anatomy.lobe_points[lobe]
    if finding.name != "Lung Lesion" or rng.random() > 1 / 7:
        height = (points[:, 2] - bottom) / (top - bottom)
        inside = (height > low) & (height < high)
        points = points[inside] if inside.any() else points
    return replace(
        finding, centre=tuple(float(c) for c in rng.choice(points)), lobe=LOBES[lobe]
    )


def shaped(body: Body, findings, visibility=1.0, cnr=None):
    """The body that its findings ask for: a large heart, or a lobe that shrinks and
    pulls heart and diaphragm along.

    A visibility, or a contrast to noise asked for, below 1 weakens that pull; the
    heart's size is its sign and stays.
    """
    strength = min(1.0, visibility if cnr is None else cnr)
    for f in findings:
        if f.name == "Cardiomegaly":
            body = replace(body, heart=max(body.heart, 1.3 + 0.35 * f.severity))
        if f.name == "Atelectasis" and f.kind == "lobar":
            right = f.side == "right"
            pull, up = ((6 + k * f.severity) * strength for k in (14, 18))
            breath = body.inspiration_mm
            body = replace(
                body,
                shift_mm=body.shift_mm + (-pull if right else pull),
                inspiration_mm=(breath[0] - up * right, breath[1] - up * (not right)),
            )
    return body
