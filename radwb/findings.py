"""What findings and devices are called, which finding is a kind of which, and where a
device's tip may be.

Left of all rooms: nothing of radwb is imported here, so that labels, masks, reports and
prompts share one definition.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

# CheXpert's hierarchy (Irvin et al., AAAI 2019, doi 10.1609/aaai.v33i01.3301590):
# Pneumonia lies under Consolidation, which lies under Lung Opacity. Real sets label the
# two apart, so that only the top is filled from what is below it.
PARENT = {
    "Lung Opacity": (
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
    )
}


def with_parents(labels):
    """Labels of which a parent is 1 where any of its children is: an edema is a lung
    opacity.

    A parent is never set to 0 here. Where no child is there it keeps its own label,
    since a hazy patch that is none of the children makes it 1, too. Where a child is
    uncertain a parent of 0 becomes uncertain.

    >>> with_parents({"Lung Opacity": 0, "Edema": 1})
    {'Lung Opacity': 1, 'Edema': 1}

    Args:
        labels: a dict of numbers or a table; 1, 0, -1 (uncertain) or NaN (not
            mentioned).
    Returns:
        a copy of the same kind; a parent that has no label of its own gets a column,
        NaN where no child is 1.
    """
    filled = labels.copy()
    for parent, children in PARENT.items():
        known = [labels[child] for child in children if child in labels]
        if not known:
            continue
        own = np.asarray(labels.get(parent, np.nan))
        present = np.any([np.equal(child, 1) for child in known], axis=0)
        unsure = np.any([np.equal(child, -1) for child in known], axis=0)
        value = np.where(unsure & (own == 0), -1, own)
        value = np.where(present, 1, value)
        filled[parent] = value if value.ndim else value.item()
    return filled


def with_parent_masks(truth):
    """Truth masks of which a parent's is the union of its own patch and its children's
    masks.

    >>> sorted(with_parent_masks({"Edema": np.ones((2, 2), bool)}))
    ['Edema', 'Lung Opacity']

    Args:
        truth: {name: bool mask (H, W)}.
    Returns:
        the same with the parents' masks, where any of the family is there.
    """
    filled = dict(truth)
    for parent, children in PARENT.items():
        family = [truth[name] for name in (parent, *children) if name in truth]
        if family:
            filled[parent] = np.any(family, axis=0)
    return filled


def with_children(names):
    """Names with all that lies under them: who never names a lung opacity names no
    edema either.

    >>> sorted(with_children({"Lung Opacity", "Fracture"}))[:3]
    ['Atelectasis', 'Consolidation', 'Edema']
    """
    below = {child for name in names for child in PARENT.get(name, ())}
    return frozenset(names) | below


def kin(name):
    """A finding with its parents and its children: each says something of the others'
    labels.

    >>> sorted(kin("Edema"))
    ['Edema', 'Lung Opacity']
    """
    above = {parent for parent, children in PARENT.items() if name in children}
    return with_children({name}) | above


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
    """(the tip with what it belongs to, where it lies); both empty where the tip isn't
    known.

    >>> tip_words("endotracheal tube", tip="trachea", cm=4.2)
    ('tip', '4 cm above the carina')
    """
    if not tip:
        return "", ""
    part = {"pacemaker": "lead tips" if tip == "both" else "lead tip"}.get(kind, "tip")
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
        sided = kind not in ("endotracheal tube", "ECG leads")
        sides = ("right", "left") if sided else ("",)
        for side, tip in product(sides, ("", *tips)):
            heights = {"trachea": TUBE_CM, "high": (HIGH_CM,)}.get(tip, (0,))
            phrases += [device_phrase(kind, side, tip, cm) for cm in heights]
    return tuple(dict.fromkeys(phrases))
