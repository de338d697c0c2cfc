"""Sentences of the virtual reports: a finding is stated, denied or compared."""

import re
from typing import NamedTuple

from radwb.findings.devices import device_phrase
from radwb.simulate.device_words import (
    in_findings,
    in_impression,
    pick,
    with_article,
)
from radwb.simulate.wording import COVERS, ORDER, PLAIN, REPORTED

SIZES = ("small", "moderate", "large")
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
    return _without_article(_fill(_wording(f, PLAIN).phrases[0], f, _graded(f)))


def _wording(f, grammar):
    report = grammar.reported[f.name]
    return report.by_kind.get(f.kind, report)


def _graded(f, grammar=PLAIN, rng=None):
    """Words for the severity: the first there are, or one of them."""
    size = size_word(f.severity)
    options = {"size": grammar.sizes[size], "degree": grammar.degrees[size]}
    if rng is None:
        return {kind: words[0] for kind, words in options.items()}
    return {kind: pick(rng, words) for kind, words in options.items()}


def _fill(template, f, graded, in_cm=False):
    """A template with the finding's words, single spaces and the right article."""
    size = size_word(f.severity)
    bulk = "" if size == "moderate" else size
    if in_cm:
        bulk = f"{f.radius_mm / 5:.1f} cm"
    degree = graded["degree"]
    text = template.format(
        **f._asdict(),
        **graded,
        adverb=degree and f"{degree}ly",
        bulk=bulk,
        what=nodule_or_mass(f),
        where=f.lobe or f"{f.side} lung",
    )
    text = with_article(" ".join(text.split()))
    if f.side == "bilateral":
        text = text.replace("bilateral-sided", "bilateral")
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


def sentence(f, rng, grammar, style=None, hedges=None):
    """A sentence that states a finding: for FINDINGS with a style, else IMPRESSION."""
    if f.name == "Support Devices":
        write = in_findings if style else in_impression
        return _capital(write(f, rng, grammar))
    is_terse = style is None or rng.random() < style.terse
    in_cm = style is not None and rng.random() < style.numbers
    is_bilateral = f.side == "bilateral"
    takes_prose = not (is_terse or f.unsure or is_bilateral)
    graded = _graded(f, grammar, rng)
    if takes_prose and rng.random() < 0.5:
        template = pick(rng, _wording(f, grammar).sentences)
        return _capital(_fill(template, f, graded, in_cm))
    frames = grammar.terse if is_terse else grammar.frames
    if f.unsure:
        frames = hedges or grammar.hedges
    frame = pick(rng, frames)
    text = _fill(pick(rng, _wording(f, grammar).phrases), f, graded, in_cm)
    if frame in grammar.bare:
        text = _without_article(text)
    if is_bilateral:
        frame = frame.replace(" is ", " are ")
    return _capital(frame.format(text))


def noun(f):
    """What to call a finding that is denied though it is there."""
    return f.kind if f.name == "Support Devices" else REPORTED[f.name].nouns[0]


def denials(names, rng, style, grammar, wrongly_denied):
    """[(place in ORDER, sentence)] that deny these names, one to three in a sentence.

    Args:
        names: in the order of a report.
        wrongly_denied: {name: noun} of what is denied though it is there.
    """
    sentences = []
    if "Support Devices" in names and "Support Devices" not in wrongly_denied:
        names = [name for name in names if name != "Support Devices"]
        text = _capital(pick(rng, grammar.no_devices)) + "."
        sentences.append((ORDER.index("Support Devices"), text))
    while names:
        n = 1 + int(rng.integers(1, 3)) * (rng.random() < style.combine)
        nouns = []
        for name in names[:n]:
            nouns.append(
                wrongly_denied.get(name) or pick(rng, grammar.reported[name].nouns)
            )
        text = _denied(nouns, pick(rng, grammar.no), pick(rng, grammar.commas))
        sentences.append((ORDER.index(names[0]), text))
        names = names[n:]
    return sentences


def _denied(nouns, frame, comma):
    """One, or two with "or", or more with commas; a plural takes "are"."""
    *first, last = nouns
    listed = last
    if first:
        before = comma if len(first) > 1 else ""
        listed = f"{', '.join(first)}{before} or {last}"
    nearest = first[0] if frame.startswith("There is") and first else last
    if re.search("[^is]s$", nearest):
        frame = re.sub(r"^There is(?= no {)|(?<={}) is\b", _are, frame)
    return frame.format(listed)


def _are(match):
    return match[0].replace("is", "are")


def comparisons(mentions, prior, closed, rng, grammar):
    """What became of each finding since the prior study.

    A `closed` one that isn't there is not said to be gone.
    """
    if not (mentions or prior or closed):
        return [pick(rng, grammar.unchanged)]
    before = _by_place(prior)
    changes = []
    for place, f in _by_place(mentions).items():
        changes.append((f, _change(f, before.get(place))))
    for f in before.values():
        if not COVERS[f.name] & closed:
            changes.append((f, "gone"))
    return [_compared(f, change, rng, grammar) for f, change in changes]


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


def _compared(f, change, rng, grammar):
    name = f"lung {nodule_or_mass(f)}" if f.name == "Lung Lesion" else noun(f)
    where = f.side if f.name == "Fracture" else f.lobe or f.side
    sentences = grammar.changes
    if f.name == "Support Devices":
        sentences = grammar.device_changes
    text = pick(rng, sentences[change]).format(f"{where} {name}")
    return " ".join(text.split())
