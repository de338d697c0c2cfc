"""What devices are called, and where a device's tip may be."""

from itertools import product
from typing import NamedTuple


class Tip(NamedTuple):
    """Where a device ends, in words, and what is wrong with that."""

    where: str
    fault: str = ""


TIPS = {
    "chest tube": {
        "apex": Tip("at the apex"),
        "base": Tip("at the base", "low"),
        "mid lung": Tip("over the mid lung", "kinked"),
    },
    "central line": {
        "lower SVC": Tip("over the lower SVC"),
        "mid SVC": Tip("over the mid SVC"),
        "cavoatrial junction": Tip("at the cavoatrial junction"),
        "right atrium": Tip("in the right atrium", "too deep"),
        "brachiocephalic vein": Tip("in the {side} brachiocephalic vein", "too short"),
    },
    "endotracheal tube": {
        "trachea": Tip("{cm:.0f} cm above the carina"),
        "high": Tip("{cm:.0f} cm above the carina", "high"),
        "right main bronchus": Tip("in the right main bronchus", "too deep"),
    },
    "pacemaker": {
        "right ventricle": Tip("in the right ventricle"),
        "both": Tip("in the right atrium and right ventricle"),
        "right atrium": Tip("in the right atrium", "dislodged"),
    },
    "ECG leads": {},
}  # device -> tip's place: in words; the first of each is where it usually lies
UNSIDED = ("endotracheal tube", "ECG leads")
VEIN = {"right": "right internal jugular", "left": "left subclavian"}
NO_DEVICES = (
    "no lines or tubes",
    "there are no lines or tubes",
    "no indwelling lines or tubes",
)
TUBE_CM = (2, 3, 4, 5)  # above the carina, of an endotracheal tube that lies well
HIGH_CM = 7


def device_name(kind, side=""):
    """A device without its tip.

    >>> device_name("central line", "right")
    'right internal jugular central line'
    """
    if kind == "ECG leads":
        return "overlying ECG leads"
    place = VEIN.get(side, "") if kind == "central line" else side
    if kind == "pacemaker" and side:
        place = f"{side}-sided"
    return f"{place} {kind}".strip()


def tip_words(kind, side="", tip="", cm=0.0):
    """(the tip with what it belongs to, where it lies); both empty if it isn't known.

    >>> tip_words("endotracheal tube", tip="trachea", cm=4.2)
    ('tip', '4 cm above the carina')
    """
    if not tip:
        return "", ""
    part = "tip"
    if kind == "pacemaker":
        part = "lead tips" if tip == "both" else "lead tip"
    return part, TIPS[kind][tip].where.format(side=side, cm=cm)


def device_phrase(kind, side="", tip="", cm=0.0):
    """A device and where it ends, as an impression has it.

    >>> device_phrase("chest tube", "right", "mid lung")
    'malpositioned right chest tube, tip over the mid lung'

    Args:
        kind, side, tip: a key of `TIPS`, "right", "left" or "", and a key of
            `TIPS[kind]` or "".
        cm: height of an endotracheal tube's tip above the carina.
    """
    name = device_name(kind, side)
    part, where = tip_words(kind, side, tip, cm)
    if not tip:
        return name if kind == "ECG leads" else f"{name} in place"
    if TIPS[kind][tip].fault:
        return f"malpositioned {name}, {part} {where}"
    return f"{name}, {part} {where}"


def device_phrases():
    """Every device in every place, as reports name them; without repetition.

    >>> "endotracheal tube, tip 4 cm above the carina" in device_phrases()
    True
    """
    phrases = []
    for kind, tips in TIPS.items():
        sides = ("",) if kind in UNSIDED else ("right", "left")
        for side, tip in product(sides, ("", *tips)):
            heights = {"trachea": TUBE_CM, "high": (HIGH_CM,)}.get(tip, (0,))
            phrases += [device_phrase(kind, side, tip, cm) for cm in heights]
    return tuple(dict.fromkeys(phrases))
