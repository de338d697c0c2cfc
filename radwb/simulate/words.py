"""The report of a virtual study: our own grammar, with sections, laterality, severity, negation and hedging."""

ABSENT = {
    "Pleural Effusion": ("No pleural effusion.", "There is no pleural effusion.", "No effusion is seen.",
                         "The costophrenic angles are sharp."),
    "Pneumothorax": ("No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen."),
    "Lung Lesion": ("No pulmonary nodule or mass.", "No focal lung lesion.", "There is no lung nodule."),
    "Cardiomegaly": ("Heart size is normal.", "The cardiac silhouette is normal in size.", "No cardiomegaly."),
}
NORMAL = ("No acute cardiopulmonary abnormality.", "Normal chest radiograph.", "No acute findings.")
BONES = ("The osseous structures are intact.", "No acute bony abnormality.", "Mediastinal contours are unremarkable.")
ORDER = ("Cardiomegaly", "Lung Lesion", "Pleural Effusion", "Pneumothorax")


def size_word(severity):
    """Severity 0 to 1 as a radiologist's word."""
    return ("small", "moderate", "large")[min(2, int(severity * 3))]


def _present(finding, rng):
    """(sentence for FINDINGS, sentence for IMPRESSION) about one planted finding."""
    size, side = size_word(finding.severity), finding.side
    if finding.name == "Pleural Effusion":
        body = (f"There is a {size} {side} pleural effusion.", f"A {size} pleural effusion on the {side} is present.",
                f"{size.capitalize()} {side} effusion with blunting of the costophrenic angle.")
        return rng.choice(body), f"{size.capitalize()} {side} pleural effusion."
    if finding.name == "Pneumothorax":
        body = (f"There is a {size} {side} pneumothorax.", f"A {size} {side} apical pneumothorax is present.",
                f"Visceral pleural line on the {side} consistent with a {size} pneumothorax.")
        return rng.choice(body), f"{size.capitalize()} {side} pneumothorax."
    if finding.name == "Lung Lesion":
        what = "mass" if finding.radius_mm > 15 else "nodule"
        body = (f"There is a {what} in the {finding.lobe}.", f"A pulmonary {what} projects over the {finding.lobe}.",
                f"Rounded opacity in the {finding.lobe}, a lung {what}.")
        return rng.choice(body), f"Lung {what} in the {finding.lobe}."
    degree = {"small": "mild", "moderate": "moderate", "large": "marked"}[size]
    body = ("The heart is enlarged.", f"The cardiac silhouette is enlarged, {degree} cardiomegaly.",
            f"There is {degree} cardiomegaly.")
    return rng.choice(body), f"{degree.capitalize()} cardiomegaly."


def _hedge(sentence, rng):
    start = rng.choice(("Possible ", "Questionable "))
    return start + sentence[0].lower() + sentence[1:]


def _comparison(findings, before):
    """One sentence against the prior study, or "" without one."""
    if before is None:
        return ""
    now = {(f.name, f.side): f.severity for f in findings}
    then = {(f.name, f.side): f.severity for f in before}
    for key in sorted(now.keys() & then.keys()):
        change = now[key] - then[key]
        word = "increased" if change > 0.12 else "decreased" if change < -0.12 else "unchanged"
        return f"The {' '.join(k.lower() for k in reversed(key) if k)} has {word}." if word != "unchanged" else (
            f"The {' '.join(k.lower() for k in reversed(key) if k)} is unchanged.")
    return "Compared with the prior study, new findings as above." if now.keys() - then.keys() else ""


def report(findings, rng, *, before=None, hedge=0.25, omit=0.15):
    """Write the report of one study.

    >>> report([], np.random.default_rng(0))
    'FINDINGS: ... IMPRESSION: Normal chest radiograph.'

    Args:
        findings: planted `Finding`s, the truth.
        rng: numpy Generator.
        before: findings of the patient's prior study, or None.
        hedge: chance that a smallest finding is worded as uncertain.
        omit: chance that a normal sentence is left out.
    Returns:
        "FINDINGS: ... IMPRESSION: ..."; every planted finding is mentioned.
    """
    body, impression, named = [], [], {f.name for f in findings}
    for name in ORDER:
        for finding in (f for f in findings if f.name == name):
            long, short = (str(s) for s in _present(finding, rng))
            if finding.severity < 1 / 3 and rng.random() < hedge:
                long, short = _hedge(long, rng), _hedge(short, rng)
            body.append(long)
            impression.append(short)
        if name not in named and rng.random() > omit:
            body.append(str(rng.choice(ABSENT[name])))
    if rng.random() < 0.5:
        body.append(str(rng.choice(BONES)))
    body.append(_comparison(findings, before))
    if not findings:
        impression = [str(rng.choice(NORMAL))]
    elif len(named) < len(ORDER) and rng.random() < 0.5:
        impression.append(ABSENT[str(rng.choice([n for n in ORDER if n not in named]))][0])
    return f"FINDINGS: {' '.join(s for s in body if s)} IMPRESSION: {' '.join(impression)}"
