"""Sentences of the virtual reports: a finding is stated, denied or compared."""

import re
from typing import NamedTuple

from radwb.findings import FINDINGS
from radwb.findings.devices import NO_DEVICES, device_phrase
from radwb.findings.parents import with_children
from radwb.simulate.device_words import (
    in_findings,
    in_impression,
    pick,
    with_article,
)

REPORTED = {name: row.report for name, row in FINDINGS.items() if row.report}
ORDER = tuple(sorted(REPORTED, key=lambda name: REPORTED[name].rank))
# a denial's reach: who denies an opacity denies its children
COVERS = {name: with_children({name}) for name in ORDER}

FRAMES = ("There is {}.", "{} is present.", "{} is seen.")
HEDGES = ("Possible {}.", "Questionable {}.")
BARE = ("{}.", *HEDGES)  # these take a phrase without its article
LONG_HEDGES = (
    *HEDGES,
    "There may be {}.",
    "{} is suspected.",
    "Subtle change that could represent {}.",
)
NO = ("No {}.", "There is no {}.", "No evidence of {}.", "No {} is seen.")
SIZES = ("small", "moderate", "large")
DEGREE = {"small": "mild", "moderate": "moderate", "large": "marked"}
CHANGES = {
    "worse": ("has increased", "has worsened"),
    "better": ("has decreased", "has improved"),
    "unchanged": ("is unchanged", "is stable"),
    "new": ("is new", "is new since the prior study"),
    "gone": ("is no longer seen", "has resolved with no residual change"),
}
DEVICE_CHANGES = CHANGES | {
    "moved": ("has been repositioned", "has been replaced"),
    "gone": ("has been removed", "is no longer seen"),
}
SAME = 0.12  # a smaller change of severity goes unnoticed


class Mention(NamedTuple):
    """A finding as the report has it; the fields are those of a planted `Finding`."""

    name: str
    severity: float = 0.0
    side: str = ""
    lobe: str = ""
    kind: str = ""
    radius_mm: float = 0.0
    tip: str = ""
    tip_cm: float = 0.0
    unsure: bool = False


def size_word(severity):
    """Severity 0 to 1 as a radiologist's word."""
    return SIZES[min(2, int(severity * 3))]


def nodule_or_mass(f):
    """A lesion above 3 cm is a mass."""
    return "mass" if f.radius_mm > 15 else "nodule"


def phrase(f):
    """A finding in a few words, without an article."""
    if f.name == "Support Devices":
        return device_phrase(f.kind, f.side, f.tip, f.tip_cm)
    return _without_article(_fill(_wording(f).phrases[0], f))


def _wording(f):
    report = REPORTED[f.name]
    return report.by_kind.get(f.kind, report)


def _fill(template, f, in_cm=False):
    """A template with the finding's words, single spaces and the right article."""
    size = size_word(f.severity)
    bulk = "" if size == "moderate" else size
    if in_cm:
        bulk = f"{f.radius_mm / 5:.1f} cm"
    text = template.format(
        **f._asdict(),
        size=size,
        degree=DEGREE[size],
        bulk=bulk,
        what=nodule_or_mass(f),
        where=f.lobe or f"{f.side} lung",
    )
    text = with_article(" ".join(text.split()))
    if f.side == "bilateral":
        return _without_article(text).replace("effusion", "effusions")
    return text


def _without_article(text):
    """As impressions have it."""
    return re.sub("^an? ", "", text)


def _capital(text):
    return text[0].upper() + text[1:]


def arranged(mentions):
    """In the order of a report; like effusions on both sides become one."""
    ordered = []
    for f in sorted(mentions, key=lambda f: ORDER.index(f.name)):
        if ordered and _are_twins(ordered[-1], f):
            ordered[-1] = f._replace(side="bilateral")
        else:
            ordered.append(f)
    return ordered


def _are_twins(a, b):
    return (
        a.name == b.name == "Pleural Effusion"
        and {a.side, b.side} == {"left", "right"}
        and a.unsure == b.unsure
        and size_word(a.severity) == size_word(b.severity)
    )


def sentence(f, rng, style=None, hedges=HEDGES):
    """A sentence that states a finding: for FINDINGS with a style, else IMPRESSION."""
    if f.name == "Support Devices":
        text = in_findings(f, rng) if style else in_impression(f, rng)
        return _capital(text)
    is_terse = style is None or rng.random() < style.terse
    in_cm = style is not None and rng.random() < style.numbers
    is_bilateral = f.side == "bilateral"
    takes_prose = not (is_terse or f.unsure or is_bilateral)
    if takes_prose and rng.random() < 0.5:
        return _capital(_fill(pick(rng, _wording(f).sentences), f, in_cm))
    frames = BARE[:1] if is_terse else FRAMES
    if f.unsure:
        frames = hedges
    frame = pick(rng, frames)
    text = _fill(pick(rng, _wording(f).phrases), f, in_cm)
    if frame in BARE:
        text = _without_article(text)
    if is_bilateral:
        frame = frame.replace(" is ", " are ")
    return _capital(frame.format(text))


def noun(f):
    """What to call a finding that is denied though it is there."""
    return f.kind if f.name == "Support Devices" else REPORTED[f.name].nouns[0]


def denials(names, rng, style, wrongly_denied):
    """[(place in ORDER, sentence)] that deny these names, one to three in a sentence.

    Args:
        names: in the order of a report.
        wrongly_denied: {name: noun} of what is denied though it is there.
    """
    sentences = []
    if "Support Devices" in names and "Support Devices" not in wrongly_denied:
        names = [name for name in names if name != "Support Devices"]
        text = _capital(pick(rng, NO_DEVICES)) + "."
        sentences.append((ORDER.index("Support Devices"), text))
    while names:
        n = 1 + int(rng.integers(1, 3)) * (rng.random() < style.combine)
        nouns = []
        for name in names[:n]:
            nouns.append(wrongly_denied.get(name) or pick(rng, REPORTED[name].nouns))
        text = pick(rng, NO).format(_listed(nouns))
        sentences.append((ORDER.index(names[0]), text))
        names = names[n:]
    return sentences


def _listed(nouns):
    """One, or two with "or", or more with commas."""
    *first, last = nouns
    if not first:
        return last
    comma = "," if len(first) > 1 else ""
    return f"{', '.join(first)}{comma} or {last}"


def comparisons(mentions, prior, closed, rng):
    """What became of each finding since the prior study.

    A `closed` one that isn't there is not said to be gone.
    """
    if not (mentions or prior or closed):
        return ["No interval change."]
    before = _by_place(prior)
    changes = []
    for place, f in _by_place(mentions).items():
        changes.append((f, _change(f, before.get(place))))
    for f in before.values():
        if not COVERS[f.name] & closed:
            changes.append((f, "gone"))
    return [_compared(f, change, rng) for f, change in changes]


def _by_place(mentions):
    """What can be compared: {(name, side, kind of a device or lobe): mention}."""
    by_place = {}
    for f in mentions:
        if f.kind != "ECG leads" and not f.unsure:
            detail = f.kind if f.name == "Support Devices" else f.lobe
            by_place[f.name, f.side, detail] = f
    return by_place


def _change(f, before):
    if before is None:
        return "new"
    if (f.tip, f.tip_cm) != (before.tip, before.tip_cm):
        return "moved"
    step = f.severity - before.severity
    if f.name == "Support Devices" or abs(step) <= SAME:
        return "unchanged"
    return "worse" if step > 0 else "better"


def _compared(f, change, rng):
    name = f"lung {nodule_or_mass(f)}" if f.name == "Lung Lesion" else noun(f)
    where = f.side if f.name == "Fracture" else f.lobe or f.side
    verbs = DEVICE_CHANGES if f.name == "Support Devices" else CHANGES
    verb = pick(rng, verbs[change])
    return " ".join(f"The {where} {name} {verb}.".split())
