"""The report of a virtual study: a grammar of our own its words agree with what was
planted, or err with a key.
"""

import re
from collections import namedtuple
from dataclasses import dataclass

from radwb.findings import NO_DEVICES, PARENT, device_phrase, with_children
from radwb.simulate import device_words
from radwb.simulate.device_words import pick

ORDER = (
    "Cardiomegaly",
    "Edema",
    "Lung Opacity",
    "Consolidation",
    "Atelectasis",
    "Lung Lesion",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
AIRSPACE = frozenset(ORDER) & {"Lung Opacity", *PARENT["Lung Opacity"]}
EVERY, CLEAR = frozenset(ORDER), AIRSPACE | {"Pneumothorax", "Pleural Effusion"}

# Phrases with "a" are countable; fields are made by `_fields`. The first key that fits
# is (name, kind), else name. Devices are named in radwb.findings, which prompts read,
# too.
PHRASES = {
    "Cardiomegaly": ("{degree} cardiomegaly", "a {degreely} enlarged heart"),
    "Edema": ("{degree} pulmonary edema", "{degree} {kind} pulmonary edema"),
    "Lung Opacity": (
        "a {size} {where} lung opacity",
        "a {size} hazy {where} pulmonary opacity",
    ),
    "Consolidation": (
        "a {size} {where} consolidation",
        "a {size} consolidation in the {where}",
    ),
    "Atelectasis": (
        "{degree} {where} atelectasis",
        "{where} atelectasis with {degree} volume loss",
    ),
    ("Atelectasis", "plate"): (
        "{degree} {side} basal atelectasis",
        "{degree} plate-like {side} basilar atelectasis",
    ),
    "Lung Lesion": (
        "a {bulk} {kind} {where} lung {what}",
        "a {bulk} {kind} {where} pulmonary {what}",
    ),
    "Pneumothorax": (
        "a {size} {side} pneumothorax",
        "a {size} {side} apical pneumothorax",
    ),
    "Pleural Effusion": ("a {size} {side} pleural effusion",),
    "Pleural Other": (
        "{degree} {side} {kind} pleural thickening",
        "{degree} {kind} pleural thickening on the {side}",
    ),
    "Fracture": ("a {side} {lobe} fracture", "a rib fracture of the {side} {lobe}"),
}
SENTENCES = {
    "Cardiomegaly": (
        "The heart is {degreely} enlarged.",
        "The cardiac silhouette is enlarged, with {degree} cardiomegaly.",
    ),
    "Edema": (
        "Indistinct vessels and haze around both hila reflect {degree} {kind} pulmonary edema.",
    ),
    "Lung Opacity": (
        "A {size} patchy, ill-defined lung opacity projects over the {where}.",
    ),
    "Consolidation": (
        "A {size} consolidation with air bronchograms occupies the {where}.",
    ),
    "Atelectasis": ("Volume loss and shift with {degree} atelectasis of the {where}.",),
    ("Atelectasis", "plate"): (
        "A linear band at the {side} base represents {degree} atelectasis.",
    ),
    "Lung Lesion": ("A {bulk} {kind} lung {what} projects over the {where}.",),
    "Pneumothorax": (
        "The visceral pleural edge is visible on the {side}, with a {size} pneumothorax.",
    ),
    "Pleural Effusion": (
        "Blunting of the {side} costophrenic angle by a {size} pleural effusion.",
    ),
    "Pleural Other": (
        "The pleura is thickened on the {side}, with {degree} {kind} pleural thickening.",
    ),
    "Fracture": ("A cortical step of the {side} {lobe} represents a rib fracture.",),
}
FRAMES, HEDGES = (
    ("There is {}.", "{} is present.", "{} is seen."),
    ("Possible {}.", "Questionable {}."),
)
BARE = ("{}.", *HEDGES)  # these take a phrase without its article
LONG_HEDGES = (
    *HEDGES,
    "There may be {}.",
    "{} is suspected.",
    "Subtle change that could represent {}.",
)
SMALL, DEGREE = (
    ("small", "moderate", "large"),
    {"small": "mild", "moderate": "moderate", "large": "marked"},
)

NOUNS = {  # to deny and to compare
    "Cardiomegaly": ("cardiomegaly",),
    "Edema": ("pulmonary edema",),
    "Consolidation": ("consolidation",),
    "Lung Opacity": ("lung opacity", "focal airspace disease", "pulmonary opacity"),
    "Atelectasis": ("atelectasis",),
    "Pleural Effusion": ("pleural effusion",),
    "Pleural Other": ("pleural thickening",),
    "Lung Lesion": ("lung nodule or mass",),
    "Pneumothorax": ("pneumothorax",),
    "Fracture": ("rib fracture", "fracture"),
}
COVERS = {
    name: with_children({name}) for name in ORDER
}  # a denial's reach: who denies an opacity denies its children
NO = ("No {}.", "There is no {}.", "No evidence of {}.", "No {} is seen.")
USUAL = dict(
    zip(ORDER, (0.2, 0.5, 0.85, 0.95, 0.3, 0.5, 1, 1, 0.1, 0.4, 0.15), strict=True)
)  # to be denied
NORMAL = {
    "No acute cardiopulmonary abnormality.": EVERY
    - {"Support Devices"},  # sentence: what it denies
    "No acute findings.": EVERY - {"Support Devices"},
    "Normal chest radiograph.": EVERY,
}
BOILERPLATE = {  # sentences to choose from: what each of them denies
    ("Heart size is normal.", "The cardiac silhouette is normal in size."): {
        "Cardiomegaly"
    },
    ("Mediastinal contours are unremarkable.",): {"Cardiomegaly", "Atelectasis"},
    ("Pulmonary vascularity is normal.",): {"Edema"},
    ("The lungs are clear.", "Both lungs are well expanded and clear."): CLEAR,
    ("The trachea is midline.",): {"Atelectasis"},
    ("The costophrenic angles are sharp.",): {"Pleural Effusion", "Pleural Other"},
    ("The bones are intact.", "The visualized skeleton is unremarkable."): {"Fracture"},
    (
        "Soft tissues are unremarkable.",
        "The visualized upper abdomen is unremarkable.",
    ): set(),
}
NEUTRAL = "Chest radiograph."
CHANGES = {
    "worse": ("has increased", "has worsened"),
    "better": ("has decreased", "has improved"),
    "unchanged": ("is unchanged", "is stable"),
    "new": ("is new", "is new since the prior study"),
    "gone": ("is no longer seen", "has resolved with no residual change"),
}
DEVICE_CHANGES = {
    "moved": ("has been repositioned", "has been replaced"),
    "gone": ("has been removed", "is no longer seen"),
}
SAME = 0.12  # a smaller change of severity goes unnoticed
INVENTED = {
    "Edema": "interstitial",
    "Atelectasis": "plate",
    "Lung Lesion": "solid",
    "Pleural Other": "apical",
}


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


# as the report has a finding
Said = namedtuple(
    "Said",
    "name severity side lobe kind radius_mm tip tip_cm unsure",
    defaults=("", 0.0, False),
)


def size_word(severity):
    """Severity 0 to 1 as a radiologist's word."""
    return SMALL[min(2, int(severity * 3))]


def _said(findings, withheld):
    for f in findings:
        if f.name not in ORDER:
            raise ValueError(f"expected findings of {', '.join(ORDER)}, got {f.name!r}")
    fields = (
        ("side", ""),
        ("lobe", ""),
        ("kind", ""),
        ("radius_mm", 0.0),
        ("tip", ""),
        ("tip_cm", 0.0),
    )
    return [
        Said(
            f.name,
            f.severity,
            *(getattr(f, k, default) or default for k, default in fields),
        )
        for f in findings
        if f.name not in withheld
    ]


def _what(f):
    return "mass" if f.radius_mm > 15 else "nodule"


def _fill(table, f, rng=None, centimetres=False):
    """A template of the finding (the first without `rng`) with its words, single spaces
    and the right article.
    """
    options = table.get((f.name, f.kind)) or table[f.name]
    template, size = pick(rng, options) if rng else options[0], size_word(f.severity)
    bulk = (
        f"{f.radius_mm / 5:.1f} cm"
        if centimetres
        else ""
        if size == "moderate"
        else size
    )
    text = template.format(
        **f._asdict(),
        size=size,
        degree=DEGREE[size],
        degreely=DEGREE[size] + "ly",
        bulk=bulk,
        what=_what(f),
        where=f.lobe or f"{f.side} lung",
    )
    text = device_words.with_article(" ".join(text.split()))
    return (
        _bare(text).replace("effusion", "effusions") if f.side == "bilateral" else text
    )


def _phrase(f):
    """A finding in a few words, without an article."""
    if f.name == "Support Devices":
        return device_phrase(f.kind, f.side, f.tip, f.tip_cm)
    return _bare(_fill(PHRASES, f))


def _bare(phrase):
    """A phrase without its article, as impressions have it."""
    return re.sub("^an? ", "", phrase)


def _join(items, word):
    return (
        items[0]
        if len(items) == 1
        else f"{', '.join(items[:-1])}{',' * (len(items) > 2)} {word} {items[-1]}"
    )


def _grouped(said):
    """In the order of a report: lists of findings of which one sentence tells, both
    sides' like effusions as one.
    """
    groups = []
    for f in sorted(said, key=lambda f: ORDER.index(f.name)):
        last = groups[-1][-1] if groups else None
        twin = (
            last
            and f.name == last.name == "Pleural Effusion"
            and {f.side, last.side} == {"left", "right"}
        )
        if (
            twin
            and f.unsure == last.unsure
            and size_word(f.severity) == size_word(last.severity)
        ):
            groups[-1] = [f._replace(side="bilateral")]
        else:
            groups.append([f])
    return groups


def _sentence(group, rng, style=None, hedges=HEDGES):
    """A sentence about a group: as in IMPRESSION, or with a `style` as in FINDINGS."""
    f = group[0]
    if f.name == "Support Devices":
        return _capital(
            device_words.in_findings(f, rng)
            if style
            else device_words.in_impression(f, rng)
        )
    terse = style is None or rng.random() < style.terse
    both, cm = f.side == "bilateral", style is not None and rng.random() < style.numbers
    if not (terse or f.unsure or both) and rng.random() < 0.5:
        text = _fill(SENTENCES, f, rng, cm)
    else:
        frame = pick(rng, hedges if f.unsure else BARE[:1] if terse else FRAMES)
        phrase = _fill(PHRASES, f, rng, cm)
        text = (frame.replace(" is ", " are ") if both else frame).format(
            _bare(phrase) if frame in BARE else phrase
        )
    return _capital(text)


def _capital(text):
    return text[0].upper() + text[1:]


def _comparisons(same, before, closed, rng):
    """What became of each finding since the prior study; a `closed` one that isn't
    there is not said to be gone.
    """
    if not (same or before or closed):
        return ["No interval change."]
    key = lambda f: (f.name, f.side, f.kind if f.name == "Support Devices" else f.lobe)  # noqa: E731
    then, now = (
        {key(f): f for f in fs if f.kind != "ECG leads" and not f.unsure}
        for fs in (before, same)
    )
    gone = [(f, "gone") for f in then.values() if not COVERS[f.name] & closed]
    return [
        _compared(f, c, rng)
        for f, c in [(f, _change(f, then.get(k))) for k, f in now.items()] + gone
    ]


def _change(f, old):
    step = (
        0 if old is None or f.name == "Support Devices" else f.severity - old.severity
    )
    if old is not None and (f.tip, f.tip_cm) != (old.tip, old.tip_cm):
        return "moved"
    return (
        "new"
        if old is None
        else "worse"
        if step > SAME
        else "better"
        if step < -SAME
        else "unchanged"
    )


def _compared(f, change, rng):
    noun = {"Lung Lesion": f"lung {_what(f)}", "Support Devices": f.kind}.get(
        f.name
    ) or NOUNS[f.name][0]
    verbs = CHANGES | DEVICE_CHANGES if f.name == "Support Devices" else CHANGES
    where, verb = (
        f.side if f.name == "Fracture" else f.lobe or f.side,
        pick(rng, verbs[change]),
    )
    return " ".join(f"The {where} {noun} {verb}.".split())


def _denials(names, rng, style, wrong):
    """[(place in ORDER, sentence)] that deny these names, one to three in a sentence;
    `wrong` in the key's words.
    """
    out = []
    if "Support Devices" in names and "Support Devices" not in wrong:
        names = [name for name in names if name != "Support Devices"]
        out.append(
            (ORDER.index("Support Devices"), _capital(pick(rng, NO_DEVICES)) + ".")
        )
    while names:
        n = 1 + int(rng.integers(1, 3)) * (rng.random() < style.combine)
        nouns = _join([wrong.get(k) or pick(rng, NOUNS[k]) for k in names[:n]], "or")
        out.append((ORDER.index(names[0]), pick(rng, NO).format(nouns)))
        names = names[n:]
    return out


def _findings(said, rng, style, hedges, *, closed, deny, omit):
    """Sentences of FINDINGS, sorted by anatomy or with what is abnormal first."""
    first = -1 if rng.random() < style.positives_first else 0
    out = [
        (first or ORDER.index(g[0].name), _sentence(g, rng, style, hedges))
        for g in _grouped(said)
    ]
    usual = [
        n for n in ORDER if rng.random() < min(1, USUAL[n] * style.denials) * (1 - omit)
    ]
    out += _denials(
        [n for n in ORDER if n in deny or n in usual and not COVERS[n] & closed],
        rng,
        style,
        deny,
    )
    for sentences, denied in BOILERPLATE.items():
        if rng.random() < style.boilerplate * (1 - omit) and not denied & closed:
            out.append(
                (
                    min(map(ORDER.index, denied), default=len(ORDER)),
                    pick(rng, sentences),
                )
            )
    return [sentence for _, sentence in sorted(out, key=lambda pair: pair[0])] or [
        NEUTRAL
    ]


def _impression(said, rng, style, *, closed, deny):
    """Sentences of IMPRESSION: what is present, that all is normal where it is, else
    usual denials.
    """
    out = [_sentence(g, rng) for g in _grouped(said)]
    normal = [sentence for sentence, denied in NORMAL.items() if not denied & closed]
    free, closing = [n for n in ORDER[:-1] if not COVERS[n] & closed], set()
    if normal:
        out.append(pick(rng, normal))
    elif free and (not out or len(out) < 3 and rng.random() < style.closing):
        weights = [USUAL[n] for n in free]
        p = [w / sum(weights) for w in weights]
        closing = {
            free[i]
            for i in rng.choice(len(free), min(len(free), 2), replace=False, p=p)
        }
    out += [
        sentence
        for _, sentence in _denials(
            [n for n in ORDER if n in deny or n in closing], rng, style, deny
        )
    ]
    if len(out) > 1 and rng.random() < style.numbered:
        out = [f"{i}. {sentence}" for i, sentence in enumerate(out, 1)]
    return out or [NEUTRAL]


def _invent(name, rng):
    """A finding that isn't there."""
    side = "" if name in ("Cardiomegaly", "Edema") else pick(rng, ("right", "left"))
    lobe = (
        f"{side} {pick(rng, ('upper', 'lower'))} lobe"
        if side and name in AIRSPACE
        else ""
    )
    return Said(
        name,
        float(rng.uniform(0.4, 0.9)),
        side,
        "5th rib" if name == "Fracture" else lobe,
        INVENTED.get(name, ""),
        12.0,
    )


def _with_error(said, withheld, rng):
    """(findings as the report will have them, key entry) after one error; (said, None)
    where none is possible.
    """
    names = {f.name for f in said}
    single = [
        f for f in said if sum(f.name == g.name for g in said) == 1
    ]  # so that it contradicts one label
    hit = {
        "wrong side": [f for f in single if f.side],
        "omitted": single,
        "denied": [
            f
            for f in single
            if f.kind != "ECG leads"
            and not COVERS[f.name] & (names - {f.name} | withheld)
        ],
        "wrong severity": [
            f for f in single if f.name not in ("Fracture", "Support Devices")
        ],
        "false positive": [n for n in ORDER[:-1] if not COVERS[n] & (names | withheld)],
    }
    if not any(hit.values()):
        return said, None
    kind = pick(rng, [k for k in hit if hit[k]])
    f = pick(rng, hit[kind])
    new, told, truth = _wrong(kind, _invent(f, rng) if kind == "false positive" else f)
    entry = {
        "kind": kind,
        "finding": f if kind == "false positive" else f.name,
        "said": told,
        "truth": truth,
    }
    return [g for g in said if g != f] + ([new] if new else []), entry


def _wrong(kind, f):
    """(the finding as the report has it or None, what is said, what is true)."""
    if kind == "false positive":
        return f, _phrase(f), "absent"
    if kind == "wrong side":
        other = {"right": "left", "left": "right"}[f.side]
        lobe = f.lobe.replace(f.side, other).replace("left middle", "left lower")
        return f._replace(side=other, lobe=lobe), other, f.side
    if kind == "wrong severity":
        up = f.radius_mm <= 15 if f.name == "Lung Lesion" else f.severity < 0.5
        new = f._replace(severity=0.9 if up else 0.1, radius_mm=25.0 if up else 8.0)
        return new, *(
            _what(g) if g.name == "Lung Lesion" else size_word(g.severity)
            for g in (new, f)
        )
    return None, f"no {_noun(f)}" if kind == "denied" else "nothing", _phrase(f)


def _noun(f):
    """What to call a finding that the report denies though it is there."""
    return f.kind if f.name == "Support Devices" else NOUNS[f.name][0]


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
):
    """Write the report of one study, and the key of the error planted in it.

    >>> report_and_key([Finding("Pneumothorax", 0.9, "left")], np.random.default_rng(0), error=1.0)[1]
    [{'kind': ..., 'finding': 'Pneumothorax', 'said': ..., 'truth': ...}]

    Args:
        findings: planted `Finding`s, the truth.
        rng: numpy Generator; all draws are its.
        before: findings of the patient's prior study, or None.
        style: a reporter of `STYLES`.
        hedge: chance that a finding of severity below 1/3 is worded as uncertain.
        omit: chance that a normal statement is left out.
        withhold: names that are neither affirmed nor denied, nor implied by "normal",
            present or not; a parent takes its children along ("Lung Opacity" is
            CheXpert's parent label, `radwb.findings.PARENT`), and where a child is
            withheld no sentence denies the parent.
        error: chance of one planted error: wrong side, omitted, denied, false positive
            or wrong severity.
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
    withheld = with_children(withhold)
    true, old = (
        _said(findings, withheld),
        None if before is None else _said(before, withheld),
    )
    said, entry = (
        _with_error(true, withheld, rng) if rng.random() < error else (true, None)
    )
    deny = (
        {entry["finding"]: entry["said"].removeprefix("no ")}
        if entry and entry["kind"] == "denied"
        else {}
    )
    # an error contradicts one label: "clear lungs" stays forbidden where a finding was
    # left out or denied
    closed = withheld | {f.name for f in (*true, *said)}
    said = [
        f._replace(
            unsure=f in true
            and f.severity < 1 / 3
            and f.name != "Support Devices"
            and rng.random() < hedge
        )
        for f in said
    ]
    said = device_words.without_leads(said, rng)
    same = [f for f in said if f._replace(unsure=False) in true]
    changes = [] if old is None else _comparisons(same, old, closed, rng)
    heading = f"COMPARISON: {'None' if old is None else 'Prior chest radiograph'}."
    text = _text(said, changes, rng, STYLES[style], closed=closed, deny=deny, omit=omit)
    return f"{heading} {text}" if rng.random() < STYLES[style].comparison else text, [
        entry
    ] if entry else []


def _text(said, changes, rng, style, *, closed, deny, omit):
    """The sections under their headings; what changed stands in FINDINGS, without one
    in IMPRESSION.
    """
    missing, both = rng.random(), style.lacks_findings + style.lacks_impression
    impression = "IMPRESSION: " + " ".join(
        _impression(said, rng, style, closed=closed, deny=deny)
    )
    if missing < style.lacks_findings:
        return " ".join([impression, *changes])
    hedges = HEDGES if missing < both else LONG_HEDGES
    body = " ".join(
        [
            "FINDINGS:",
            *_findings(said, rng, style, hedges, closed=closed, deny=deny, omit=omit),
            *changes,
        ]
    )
    if rng.random() < style.short_lobes:
        body = re.sub(
            "([rl])(?:igh|ef)t ([uml])[a-z]+ lobe",
            lambda m: f"{m[1]}{m[2]}l".upper(),
            body,
            flags=re.I,
        )
    return body if missing < both else f"{body} {impression}"


def report(
    findings,
    rng,
    *,
    before=None,
    style="A",
    hedge=0.25,
    omit=0.15,
    withhold=(),
    error=0.0,
):
    """The text of `report_and_key`, which says what the keywords mean."""
    how = dict(
        before=before,
        style=style,
        hedge=hedge,
        omit=omit,
        withhold=withhold,
        error=error,
    )
    return report_and_key(findings, rng, **how)[0]
