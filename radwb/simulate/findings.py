"""What can be planted: a finding drawn so that it lies where such things lie."""

from dataclasses import dataclass, replace

import numpy as np

from radwb.findings import FINDINGS
from radwb.findings.devices import HIGH_CM, TIPS, TUBE_CM, UNSIDED
from radwb.simulate.anatomy import Anatomy
from radwb.simulate.body import Body
from radwb.simulate.organs import LOBES

PLANTED = tuple(name for name, row in FINDINGS.items() if row.planting)
DEVICES = tuple(TIPS)
MISPLACED = 0.15  # share of the devices with a tip that don't lie where they should
HIDDEN = 1 / 7  # share of the lesions that may hide behind the diaphragm or the heart


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
        tip: where a device ends, a key of `radwb.findings.devices.TIPS[kind]`; ""
            draws it where it should lie, and no report says where.
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
        _require(self.name in PLANTED, f"a finding of {', '.join(PLANTED)}", self.name)
        if not 0 <= self.severity <= 1:
            raise ValueError(
                f"expected a severity from 0 to 1, got {self.severity} for {self.name}"
            )
        is_device = self.name == "Support Devices"
        is_known = not is_device or self.kind in DEVICES
        _require(is_known, f"a device of {', '.join(DEVICES)}", self.kind)
        tips = TIPS.get(self.kind, ())
        expected = f"a tip of {', '.join(tips) or 'no device'}"
        _require(not self.tip or self.tip in tips, expected, self.tip)
        needs_no_side = is_device or FINDINGS[self.name].place == "middle"
        sides = ("right", "left", "") if needs_no_side else ("right", "left")
        expected = f"a side, right or left, of {self.name}"
        _require(self.side in sides, expected, self.side)

    @property
    def radius_mm(self):
        """Radius of a lung lesion, 10 to 28 mm."""
        return 10 + 18 * self.severity


def _require(is_met, expected, got):
    if not is_met:
        raise ValueError(f"expected {expected}, got {got!r}")


def draw(
    name: str,
    anatomy: Anatomy,
    rng: np.random.Generator,
    *,
    severity: float | None = None,
    side: str | None = None,
    kind: str | None = None,
) -> Finding:
    """Draw a finding to be planted in a CT of your own: side, lobe, place, kind, tip.

    One lung lesion in seven may hide behind the diaphragm or the heart, and stays a
    positive. A share of `MISPLACED` of the devices ends where it shouldn't.

    >>> anatomy = rw.simulate.default_anatomy()
    >>> draw("Lung Lesion", anatomy, np.random.default_rng(0), side="left").side
    'left'

    Args:
        name: one of `PLANTED`.
        anatomy: whose lobes and trachea it has to fit.
        rng: all draws are its.
        severity, side, kind: as in `Finding`; None draws them.
    """
    if severity is None:
        severity = float(rng.random())
    if kind is None:
        kind = _draw_kind(name, rng)
    if name == "Edema":
        kind = edema_kind(severity)
    if FINDINGS[name].place == "middle" or kind in UNSIDED:
        side = ""
    elif side is None:
        side = str(rng.choice(("right", "left")))
    texture = int(rng.integers(1 << 30))
    finding = Finding(name, severity, side, kind=kind, texture=texture)
    if name == "Support Devices":
        return _with_tip(finding, anatomy, rng)
    if FINDINGS[name].place == "lobe":
        return _in_a_lobe(finding, anatomy, rng)
    return finding


def _draw_kind(name, rng):
    chances = FINDINGS[name].planting.kinds or {"": 1.0}
    if name == "Support Devices":
        chances = dict.fromkeys(DEVICES, 1 / len(DEVICES))
    p = np.array(list(chances.values()))
    return str(rng.choice(list(chances), p=p / sum(chances.values())))


def edema_kind(severity):
    """How an edema looks: water in the septa, later in the alveoli, too."""
    return "alveolar" if severity > 0.5 else "interstitial"


def _with_tip(device, anatomy, rng):
    """The device with a tip that the anatomy has room for.

    It is well placed, or in a share of `MISPLACED` not.
    """
    tips = TIPS[device.kind]
    if not tips:
        return device
    room_cm = _trachea_cm(anatomy)
    heights = [cm for cm in TUBE_CM if cm <= room_cm] or [1]
    is_misplaced = bool(rng.random() < MISPLACED)
    options = [tip for tip, words in tips.items() if bool(words.fault) == is_misplaced]
    if room_cm < HIGH_CM:
        options = [tip for tip in options if tip != "high"]
    tip = str(rng.choice(options))
    if device.kind != "endotracheal tube":
        return replace(device, tip=tip)
    cm = {"trachea": float(rng.choice(heights)), "high": float(HIGH_CM)}.get(tip, 0.0)
    return replace(device, tip=tip, tip_cm=cm)


def _trachea_cm(anatomy):
    """Room for a tube's tip above the carina in the smallest patient, cm.

    `radwb.simulate.patient.draw_patient` draws no smaller one.
    """
    above = anatomy.marks["trachea"][-1][2] - anatomy.marks["carina"][2]
    return 0.8 * (above + 20) / 10


def _in_a_lobe(finding, anatomy, rng):
    lobes = [i for i, words in LOBES.items() if words.startswith(finding.side)]
    lobe = int(rng.choice(lobes))
    low = 0.36
    high = 0.95
    if finding.kind == "plate":
        lobe = {"right": 14, "left": 11}[finding.side]
        low = 0.34
        high = 0.55
    points = anatomy.lobe_points[lobe]
    if finding.name != "Lung Lesion" or rng.random() > HIDDEN:
        bottom, top = anatomy.lung_range[finding.side]
        height = (points[:, 2] - bottom) / (top - bottom)
        inside = (height > low) & (height < high)
        if inside.any():
            points = points[inside]
    centre = tuple(rng.choice(points).tolist())
    return replace(finding, centre=centre, lobe=LOBES[lobe])


def shaped(body: Body, findings, visibility=1.0, cnr=None):
    """The body that its findings ask for.

    That is a large heart, or a lobe that shrinks and pulls heart and diaphragm along. A
    visibility, or a contrast to noise asked for, below 1 weakens that pull; the heart's
    size is its sign and stays.
    """
    strength = min(1.0, visibility)
    if cnr is not None:
        strength = min(1.0, cnr)
    for f in findings:
        if f.name == "Cardiomegaly":
            body = replace(body, heart=max(body.heart, 1.3 + 0.35 * f.severity))
        if f.name == "Atelectasis" and f.kind == "lobar":
            body = _collapsed(body, f, strength)
    return body


def _collapsed(body, finding, strength):
    pull = (6 + 14 * finding.severity) * strength
    up = (6 + 18 * finding.severity) * strength
    right, left = body.inspiration_mm
    if finding.side == "right":
        pull = -pull
        right = right - up
    else:
        left = left - up
    shift_mm = body.shift_mm + pull
    return replace(body, shift_mm=shift_mm, inspiration_mm=(right, left))
