"""The report of a virtual study: its words agree with the truth, or err with a key.

The grammar is the simulator's own; `radwb.findings` has the words.
"""

import re
from dataclasses import dataclass

from radwb.findings.parents import with_children
from radwb.simulate.device_words import pick, without_leads
from radwb.simulate.sentences import (
    Mention,
    arranged,
    comparisons,
    denials,
    sentence,
)
from radwb.simulate.slips import with_slip
from radwb.simulate.wide import WIDE
from radwb.simulate.wording import COVERS, ORDER, PLAIN, REPORTED

GRAMMARS = {"plain": PLAIN, "wide": WIDE}


@dataclass(frozen=True)
class Style:
    """How a reporter writes; all but `denials` are chances."""

    lacks_findings: float = 0.0  # a section is missing
    lacks_impression: float = 0.01
    terse: float = 0.3  # a phrase instead of a sentence
    denials: float = 1.0  # factor on how usual each denial is
    combine: float = 0.9  # several denials share one sentence
    boilerplate: float = 0.15  # each normal sentence that fits
    closing: float = 0.6  # a denial after what is present, in IMPRESSION
    numbers: float = 0.3  # centimetres for a lung lesion, in FINDINGS
    short_lobes: float = 0.0  # a report writes RUL, in FINDINGS
    numbered: float = 0.0  # an impression of several points has numbers
    positives_first: float = (
        0.0  # FINDINGS begins with what is abnormal, not with the heart
    )
    comparison: float = 0.5  # there is a COMPARISON heading


# All alike drawn, they are calibrated on Open-i; no single one is. A terse, B prose, C
# denies much, D impression only
STYLES = {
    "A": Style(terse=0.8, boilerplate=0.1, short_lobes=0.3, positives_first=0.5),
    "B": Style(terse=0.0, combine=0.75, boilerplate=0.2, numbers=0.7, numbered=0.5),
    "C": Style(denials=1.7, combine=0.5, closing=0.7, comparison=0.9),
    "D": Style(lacks_findings=1.0, lacks_impression=0.0, closing=0.8, comparison=0.1),
    "E": Style(terse=0.5, lacks_impression=0.03, positives_first=1.0, comparison=0.8),
    "F": Style(combine=1.0, boilerplate=0.2, numbered=0.8, comparison=0.2),
}


def report_and_key(
    findings,
    rng,
    *,
    before=None,
    style="A",
    hedge=0.25,
    omit=0.15,
    withhold=(),
    error=0.0,
    wording="plain",
):
    """Write the report of one study, and the key of the error planted in it.

    >>> from radwb.simulate import Finding
    >>> air = Finding("Pneumothorax", 0.9, "left")
    >>> _, (slip,) = report_and_key([air], np.random.default_rng(0), error=1.0)
    >>> slip["kind"], slip["finding"]
    ('denied', 'Pneumothorax')

    Args:
        findings: planted `Finding`s, the truth.
        rng: numpy Generator; all draws are its.
        before: findings of the patient's prior study, or None.
        style: a reporter of `STYLES`.
        hedge: chance that a finding of severity below 1/3 is worded as uncertain.
        omit: chance that a normal statement is left out.
        withhold: names that are neither affirmed nor denied, nor implied by "normal",
            present or not; a parent takes its children along ("Lung Opacity" is
            CheXpert's parent label, `radwb.findings.FINDINGS`), and where a child is
            withheld no sentence denies the parent.
        error: chance of one planted error: wrong side, omitted, denied, false positive
            or wrong severity.
        wording: a grammar of `GRAMMARS`: "plain", or "wide", nearer to real reports,
            which may leave the size of a moderate finding unsaid.
    Returns:
        "FINDINGS: ... IMPRESSION: ..." of which one may lack, by style, and a list of
        dicts with kind, finding, said and truth. But for the error, each section that's
        there affirms all findings and nothing else: ECG leads beside other devices may
        go unsaid, and a lung opacity is affirmed by its own words or by any of its
        children's. An error in the only child is one of the parent's label, too; the
        key names the child.
    """
    if style not in STYLES:
        raise ValueError(f"expected a style of {', '.join(STYLES)}, got {style!r}")
    grammar = GRAMMARS[wording]
    withheld = with_children(withhold)
    true = _mentions(findings, withheld)
    prior = None if before is None else _mentions(before, withheld)
    mentions = true
    slip = None
    if rng.random() < error:
        mentions, slip = with_slip(true, withheld, rng)
    wrongly_denied = {}
    if slip and slip["kind"] == "denied":
        wrongly_denied = {slip["finding"]: slip["said"].removeprefix("no ")}
    # an error contradicts one label: "clear lungs" stays forbidden where a finding was
    # left out or denied
    closed = withheld | {f.name for f in (*true, *mentions)}
    mentions = without_leads(_hedged(mentions, true, hedge, rng), rng)
    changes = []
    if prior is not None:
        right = [f for f in mentions if f._replace(unsure=False) in true]
        changes = comparisons(right, prior, closed, rng, grammar)
    limits = dict(grammar=grammar, closed=closed, wrongly_denied=wrongly_denied)
    text = _text(mentions, changes, rng, STYLES[style], omit, limits)
    if rng.random() < STYLES[style].comparison:
        compared_with = pick(rng, grammar.compared[prior is not None])
        text = f"COMPARISON: {compared_with} {text}"
    if grammar.technique and rng.random() < 0.2:
        text = f"TECHNIQUE: {pick(rng, grammar.technique)} {text}"
    return text, [slip] if slip else []


def _mentions(findings, withheld):
    mentions = []
    for f in findings:
        if f.name not in ORDER:
            raise ValueError(f"expected findings of {', '.join(ORDER)}, got {f.name!r}")
        if f.name not in withheld:
            fields = {k: getattr(f, k, None) for k in Mention._fields}
            mentions.append(Mention(**{k: v for k, v in fields.items() if v}))
    return mentions


def _hedged(mentions, true, hedge, rng):
    """A small finding may be worded as uncertain; an error and a device never are."""
    hedged = []
    for f in mentions:
        may_be = f in true and f.severity < 1 / 3 and f.name != "Support Devices"
        hedged.append(f._replace(unsure=may_be and rng.random() < hedge))
    return hedged


def _text(mentions, changes, rng, style, omit, limits):
    """The sections under their headings.

    What changed stands in FINDINGS, without one in IMPRESSION.
    """
    missing = rng.random()
    lacks_impression = missing < style.lacks_findings + style.lacks_impression
    impression = ["IMPRESSION:", *_impression(mentions, rng, style, **limits)]
    if missing < style.lacks_findings:
        return " ".join([*impression, *changes])
    grammar = limits["grammar"]
    hedges = grammar.hedges if lacks_impression else grammar.long_hedges
    body = _findings(mentions, rng, style, hedges, omit, **limits)
    text = " ".join(["FINDINGS:", *body, *changes])
    if rng.random() < style.short_lobes:
        text = re.sub(r"([rl])(?:igh|ef)t ([uml])[a-z]+ lobe", _short, text, flags=re.I)
    if lacks_impression:
        return text
    return " ".join([text, *impression])


def _short(lobe):
    """The lobe of a match in three capitals: RUL."""
    return f"{lobe[1]}{lobe[2]}l".upper()


def _findings(mentions, rng, style, hedges, omit, *, grammar, closed, wrongly_denied):
    """Sentences of FINDINGS, sorted by anatomy or with what is abnormal first."""
    abnormal_first = rng.random() < style.positives_first
    ranked = []
    for f in arranged(mentions):
        rank = -1 if abnormal_first else ORDER.index(f.name)
        ranked.append((rank, sentence(f, rng, grammar, style, hedges)))
    denied = set(wrongly_denied)
    for name in ORDER:
        chance = min(1, REPORTED[name].denied * style.denials) * (1 - omit)
        if rng.random() < chance and not COVERS[name] & closed:
            denied.add(name)
    ranked += denials(_sorted(denied), rng, style, grammar, wrongly_denied)
    # the more kinds of such sentences there are, the rarer is each
    usual = style.boilerplate * len(PLAIN.boilerplate) / len(grammar.boilerplate)
    for sentences, names in grammar.boilerplate.items():
        if rng.random() < usual * (1 - omit) and not names & closed:
            rank = min(map(ORDER.index, names), default=len(ORDER))
            ranked.append((rank, pick(rng, sentences)))
    ranked.sort(key=lambda pair: pair[0])
    return [text for _, text in ranked] or [pick(rng, grammar.neutral)]


def _sorted(names):
    return [name for name in ORDER if name in names]


def _impression(mentions, rng, style, *, grammar, closed, wrongly_denied):
    """Sentences of IMPRESSION: what is present, that all is normal, usual denials."""
    sentences = [sentence(f, rng, grammar) for f in arranged(mentions)]
    if grammar.anatomy and rng.random() < grammar.anatomy:
        sentences += _normal_anatomy(rng, grammar, closed)
    normal = [text for text, denied in grammar.normal.items() if not denied & closed]
    free = [name for name in ORDER[:-1] if not COVERS[name] & closed]
    denied = set(wrongly_denied)
    if normal:
        sentences.append(pick(rng, normal))
    elif free and _closes(sentences, rng, style):
        denied |= _usual(free, rng)
    for _, text in denials(_sorted(denied), rng, style, grammar, wrongly_denied):
        sentences.append(text)
    if len(sentences) > 1 and rng.random() < style.numbered:
        return [f"{i}. {text}" for i, text in enumerate(sentences, 1)]
    return sentences or [pick(rng, grammar.neutral)]


def _normal_anatomy(rng, grammar, closed):
    """A sentence about what is normal, where one may be said."""
    fitting = []
    for texts, names in grammar.boilerplate.items():
        if not names & closed:
            fitting.append(texts)
    return [pick(rng, pick(rng, fitting))] if fitting else []


def _closes(sentences, rng, style):
    """Whether an impression ends with denials."""
    return not sentences or len(sentences) < 3 and rng.random() < style.closing


def _usual(names, rng):
    """One or two of these names, those oftener that are usually denied."""
    weights = [REPORTED[name].denied for name in names]
    p = [weight / sum(weights) for weight in weights]
    chosen = rng.choice(
        len(names),
        min(len(names), 2),
        replace=False,
        p=p,
    )
    return {names[i] for i in chosen}
