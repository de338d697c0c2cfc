"""Errors planted in reports: a wrong side or size; left out, denied, invented."""

from radwb.findings import FINDINGS
from radwb.simulate.device_words import pick
from radwb.simulate.sentences import (
    COVERS,
    ORDER,
    Mention,
    nodule_or_mass,
    noun,
    phrase,
    size_word,
)

OTHER_SIDE = {"right": "left", "left": "right"}


def with_slip(mentions, withheld, rng):
    """One error in a report.

    Returns:
        the findings as the report will have them; a dict with kind, finding, said and
        truth, None where no error is possible.
    """
    possible = _possible(mentions, withheld)
    kinds = [kind for kind, findings in possible.items() if findings]
    if not kinds:
        return mentions, None
    kind = pick(rng, kinds)
    f = pick(rng, possible[kind])
    if kind == "false positive":
        f = _invented(f, rng)
    replacement, stated, truth = _wrong(kind, f)
    others = [g for g in mentions if g != f]
    if replacement:
        others.append(replacement)
    return others, dict(kind=kind, finding=f.name, said=stated, truth=truth)


def _possible(mentions, withheld):
    """{kind of error: findings that it may befall, or names that may be invented}."""
    all_names = [f.name for f in mentions]
    # a finding that is there twice would be right and wrong at once
    single = [f for f in mentions if all_names.count(f.name) == 1]
    names = set(all_names)
    deniable = []
    for f in single:
        others = (names - {f.name}) | withheld
        if f.kind != "ECG leads" and not COVERS[f.name] & others:
            deniable.append(f)
    unsized = ("Fracture", "Support Devices")
    absent = [name for name in ORDER[:-1] if not COVERS[name] & (names | withheld)]
    return {
        "wrong side": [f for f in single if f.side],
        "omitted": single,
        "denied": deniable,
        "wrong severity": [f for f in single if f.name not in unsized],
        "false positive": absent,
    }


def _invented(name, rng):
    """A finding that isn't there."""
    row = FINDINGS[name]
    side = "" if row.place == "middle" else pick(rng, tuple(OTHER_SIDE))
    lobe = ""
    if row.place == "lobe":
        lobe = f"{side} {pick(rng, ('upper', 'lower'))} lobe"
    if name == "Fracture":
        lobe = "5th rib"
    kinds = row.planting.kinds if row.planting else {}
    kind = next(iter(kinds), "")
    severity = float(rng.uniform(0.4, 0.9))
    return Mention(name, severity, side, lobe, kind, radius_mm=12.0)


def _wrong(kind, f):
    """(the finding as the report has it or None, what is said, what is true)."""
    if kind == "false positive":
        return f, phrase(f), "absent"
    if kind == "wrong side":
        other = OTHER_SIDE[f.side]
        lobe = f.lobe.replace(f.side, other).replace("left middle", "left lower")
        return f._replace(side=other, lobe=lobe), other, f.side
    if kind == "wrong severity":
        return _resized(f)
    return None, f"no {noun(f)}" if kind == "denied" else "nothing", phrase(f)


def _resized(f):
    is_lesion = f.name == "Lung Lesion"
    is_small = f.radius_mm <= 15 if is_lesion else f.severity < 0.5
    if is_small:
        wrong = f._replace(severity=0.9, radius_mm=25.0)
    else:
        wrong = f._replace(severity=0.1, radius_mm=8.0)
    if is_lesion:
        return wrong, nodule_or_mass(wrong), nodule_or_mass(f)
    return wrong, size_word(wrong.severity), size_word(f.severity)
