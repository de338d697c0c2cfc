"""More words for each finding: what many radiologists write, beside those of `rows.py`.

Single words and stock phrases, counted in Open-i's reports (Demner-Fushman et al.,
JAMIA 2016, doi 10.1093/jamia/ocv080); no sentence is theirs. `Dials(wording="wide")`
writes with them, `Prompts.wide` asks with them.
"""

from radwb.findings.rows import FINDINGS, Wording

# {adverb} is a degree as in "mildly"; size, degree and adverb are empty where a finding
# is moderate and nobody says so
WIDE = {
    "Cardiomegaly": Wording(
        phrases=(
            "{degree} cardiomegaly",
            "{degree} cardiac enlargement",
            "a {adverb} enlarged heart",
            "a {adverb} enlarged cardiac silhouette",
            "a {adverb} enlarged cardiac contour",
        ),
        sentences=(
            "The heart is {adverb} enlarged.",
            "The heart appears {adverb} enlarged.",
            "Heart size is {adverb} enlarged.",
            "Heart {adverb} enlarged.",
            "The cardiac silhouette is {adverb} enlarged.",
            "The cardiac silhouette appears {adverb} enlarged.",
            "The cardiac silhouette is enlarged, with {degree} cardiomegaly.",
            "The cardiac silhouette is prominent, compatible with {degree} "
            "cardiomegaly.",
            "Enlarged heart, consistent with {degree} cardiomegaly.",
        ),
    ),
    "Lung Opacity": Wording(
        phrases=(
            "a {size} {where} lung opacity",
            "a {size} hazy {where} pulmonary opacity",
            "a {size} {where} opacity",
            "a {size} {where} infiltrate",
            "a {size} {where} airspace opacity",
            "{size} {where} airspace disease",
            "{size} {where} air space disease",
            "a {size} patchy opacity in the {where}",
            "{size} patchy airspace disease in the {where}",
            "a {size} focal infiltrate in the {where}",
            "a {size} vague opacity in the {where}",
            "a {size} hazy airspace opacity within the {where}",
        ),
        sentences=(
            "A {size} patchy, ill-defined lung opacity projects over the {where}.",
            "A {size} area of hazy opacity overlies the {where}.",
            "The {where} shows a {size} hazy infiltrate.",
            "{size} airspace disease is noted within the {where}.",
            "The {where} demonstrates {size} patchy airspace opacities.",
            "Hazy density in the {where} represents a {size} infiltrate.",
        ),
    ),
    "Lung Lesion": Wording(
        phrases=(
            "a {bulk} {kind} {where} lung {what}",
            "a {bulk} {kind} {where} pulmonary {what}",
            "a {bulk} {where} {what}",
            "a {bulk} {where} lung {what}",
            "a {bulk} {kind} {what} in the {where}",
            "a {bulk} noncalcified {what} in the {where}",
            "a {bulk} suspicious pulmonary {what} in the {where}",
            "a {bulk} {kind} {what} within the {where}",
        ),
        sentences=(
            "A {bulk} {kind} lung {what} projects over the {where}.",
            "A {bulk} {kind} {what} is identified within the {where}.",
            "The {where} contains a {bulk} {kind} pulmonary {what}.",
            "Nodular density overlying the {where} represents a {bulk} {kind} {what}.",
            "A {bulk} {what} is present within the {where}.",
        ),
    ),
    "Edema": Wording(
        phrases=(
            "{degree} pulmonary edema",
            "{degree} {kind} pulmonary edema",
            "{degree} {kind} edema",
            "pulmonary vascular congestion with {degree} edema",
            "vascular congestion and {degree} {kind} edema",
            "{degree} perihilar edema",
            "{degree} diffuse pulmonary edema",
        ),
        sentences=(
            "Indistinct vessels and haze around both hila reflect {degree} {kind} "
            "pulmonary edema.",
            "The pulmonary vasculature is engorged, with {degree} {kind} edema.",
            "Perihilar haze is compatible with {degree} {kind} edema.",
            "Vascular congestion is present, with {degree} diffuse edema.",
        ),
    ),
    "Consolidation": Wording(
        phrases=(
            "a {size} {where} consolidation",
            "a {size} consolidation in the {where}",
            "{size} {where} airspace consolidation",
            "a {size} focal consolidation in the {where}",
            "{size} focal airspace consolidation within the {where}",
            "a {size} {where} consolidation consistent with pneumonia",
            "{size} alveolar consolidation in the {where}",
            "{size} dense {where} consolidation, compatible with pneumonia",
        ),
        sentences=(
            "A {size} consolidation with air bronchograms occupies the {where}.",
            "The {where} shows {size} airspace consolidation.",
            "The {where} is partly obscured by a {size} consolidation.",
            "A {size} consolidation in the {where} is compatible with pneumonia.",
            "A {size} area of consolidation in the {where}, consistent with infection.",
        ),
    ),
    "Atelectasis": Wording(
        phrases=(
            "{degree} {where} atelectasis",
            "{where} atelectasis with {degree} volume loss",
            "{degree} atelectasis in the {where}",
            "{degree} atelectasis and volume loss in the {where}",
            "{degree} {where} collapse with atelectasis",
            "{degree} atelectatic change of the {where}",
        ),
        sentences=(
            "Volume loss and shift with {degree} atelectasis of the {where}.",
            "The {where} is partially collapsed, with {degree} atelectasis.",
            "The {where} demonstrates {degree} volume loss, consistent with "
            "atelectasis.",
        ),
    ),
    "Pneumothorax": Wording(
        phrases=(
            "a {size} {side} pneumothorax",
            "a {size} {side} apical pneumothorax",
            "a {size} {side}-sided pneumothorax",
            "a {size} pneumothorax on the {side}",
            "a {size} apical pneumothorax on the {side} side",
        ),
        sentences=(
            "The visceral pleural edge is visible on the {side}, with a {size} "
            "pneumothorax.",
            "Separation of the {side} pleural edge indicates a {size} pneumothorax.",
            "Lucency along the {side} chest wall represents a {size} pneumothorax.",
            "A {size} amount of air in the {side} pleural space, consistent with "
            "pneumothorax.",
        ),
    ),
    "Pleural Effusion": Wording(
        phrases=(
            "a {size} {side} pleural effusion",
            "a {size} {side}-sided pleural effusion",
            "a {size} {side} effusion",
            "a {size} {side}-sided effusion",
        ),
        sentences=(
            "Blunting of the {side} costophrenic angle by a {size} pleural effusion.",
            "The {side} costophrenic angle is blunted by a {size} effusion.",
            "A {size} amount of {side} pleural fluid, consistent with effusion.",
            "{side} costophrenic sulcus blunting is compatible with a {size} pleural "
            "effusion.",
            "Fluid in the {side} pleural space represents a {size} effusion.",
            "A {size} pleural effusion is noted above the {side} hemidiaphragm.",
        ),
    ),
    "Pleural Other": Wording(
        phrases=(
            "{degree} {side} {kind} pleural thickening",
            "{degree} {kind} pleural thickening on the {side}",
            "{degree} {side}-sided {kind} pleural thickening",
            "{degree} thickening of the {side} {kind} pleura",
        ),
        sentences=(
            "The pleura is thickened on the {side}, with {degree} {kind} pleural "
            "thickening.",
            "{degree} {kind} thickening along the {side} pleura is noted.",
        ),
    ),
    "Fracture": Wording(
        phrases=(
            "a {side} {lobe} fracture",
            "a rib fracture of the {side} {lobe}",
            "a fracture of the {side} {lobe}",
        ),
        sentences=(
            "A cortical step of the {side} {lobe} represents a rib fracture.",
            "Deformity of the {side} {lobe} is compatible with a fracture.",
        ),
    ),
}
PLATE = Wording(
    phrases=(
        "{degree} {side} basal atelectasis",
        "{degree} plate-like {side} basilar atelectasis",
        "{degree} {side} basilar atelectasis",
        "{degree} {side} base atelectasis",
        "{degree} linear atelectasis at the {side} base",
        "{degree} subsegmental atelectasis in the {side} lung base",
        "{degree} {side} basilar bandlike atelectasis",
        "{degree} discoid atelectasis of the {side} lung base",
    ),
    sentences=(
        "A linear band at the {side} base represents {degree} atelectasis.",
        "Streaky density at the {side} base is consistent with {degree} atelectasis.",
        "{degree} platelike changes in the {side} lung base, compatible with "
        "atelectasis.",
    ),
)
INTERSTITIAL = Wording(
    phrases=(
        *WIDE["Edema"].phrases,
        "{degree} edema with prominent interstitial markings",
    ),
    sentences=(
        *WIDE["Edema"].sentences,
        "Increased interstitial markings are consistent with {degree} edema.",
        "Interstitial prominence reflects {degree} pulmonary edema.",
    ),
)
BY_KIND = {"Atelectasis": {"plate": PLATE}, "Edema": {"interstitial": INTERSTITIAL}}
# to deny each; a plural takes "are"
NOUNS = {
    "Cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "Lung Opacity": (
        "lung opacity",
        "focal airspace disease",
        "pulmonary opacity",
        "focal opacity",
        "airspace opacity",
        "focal air space opacity",
        "suspicious pulmonary opacity",
        "focal airspace opacities",
        "infiltrate",
        "focal infiltrate",
        "acute infiltrate",
        "infiltrates",
        "airspace disease",
        "air space disease",
        "focal pulmonary opacity",
        "air space opacities",
        "focal opacity to suggest a pneumonia",
        "opacities to suggest pneumonia",
        "pneumonia",
    ),
    "Lung Lesion": (
        "lung nodule or mass",
        "nodules or masses",
        "masses or nodules",
        "pulmonary nodule or mass",
        "suspicious pulmonary nodules or masses",
        "suspicious pulmonary mass or nodule",
        "suspicious nodule or mass",
        "nodules, masses or adenopathy",
    ),
    "Edema": (
        "pulmonary edema",
        "edema",
        "overt pulmonary edema",
        "typical findings of pulmonary edema",
        "interstitial edema",
        "edema or vascular congestion",
    ),
    "Consolidation": (
        "consolidation",
        "focal consolidation",
        "airspace consolidation",
        "focal airspace consolidation",
        "air space consolidation",
        "focal alveolar consolidation",
        "focal lung consolidation",
        "lobar consolidation",
        "pulmonary consolidation",
        "focal area of consolidation",
        "focal areas of consolidation",
    ),
    "Atelectasis": ("atelectasis", "volume loss", "focal atelectasis"),
    "Pneumothorax": (
        "pneumothorax",
        "pneumothorax",
        "visible pneumothorax",
        "pneumothoraces",
    ),
    "Pleural Effusion": (
        "pleural effusion",
        "pleural effusion",
        "effusion",
        "effusions",
        "pleural effusions",
        "large pleural effusion",
        "definite pleural effusion",
        "pleural fluid",
    ),
    "Pleural Other": ("pleural thickening", "pleural thickening or scarring"),
    "Fracture": (
        "rib fracture",
        "fracture",
        "acute fracture",
        "displaced rib fracture",
        "displaced rib fractures",
    ),
}
# what a prompt calls it, and what of it is normal where it isn't there
CALLED = {
    "Cardiomegaly": (
        "cardiomegaly",
        "cardiac enlargement",
        "enlarged heart",
        "enlarged cardiac silhouette",
    ),
    "Lung Opacity": (
        "lung opacity",
        "pulmonary opacity",
        "airspace disease",
        "airspace opacity",
        "infiltrate",
        "patchy opacity",
    ),
    "Lung Lesion": (
        "lung nodule",
        "pulmonary nodule",
        "lung mass",
        "noncalcified nodule",
        "suspicious pulmonary mass",
    ),
    "Edema": (
        "pulmonary edema",
        "interstitial edema",
        "pulmonary vascular congestion",
    ),
    "Consolidation": (
        "consolidation",
        "airspace consolidation",
        "focal consolidation",
        "consolidation consistent with pneumonia",
    ),
    "Pneumonia": (
        "pneumonia",
        "consolidation consistent with pneumonia",
        "infiltrate",
        "airspace disease",
    ),
    "Atelectasis": (
        "atelectasis",
        "basilar atelectasis",
        "linear atelectasis",
        "atelectasis and volume loss",
    ),
    "Pneumothorax": ("pneumothorax", "apical pneumothorax"),
    "Pleural Effusion": ("pleural effusion", "effusion"),
    "Pleural Other": (
        "pleural thickening",
        "apical pleural thickening",
        "thickening of the pleura",
    ),
    "Fracture": ("rib fracture", "fracture"),
}
_CLEAR = ("clear lungs", "the lungs are clear", "no focal airspace disease")
FINE = {
    "Cardiomegaly": (
        "heart size is normal",
        "normal heart size",
        "the heart is normal in size",
        "the cardiac silhouette is within normal limits",
    ),
    "Lung Opacity": _CLEAR,
    "Lung Lesion": (*_CLEAR, "no nodules or masses"),
    "Edema": ("normal pulmonary vascularity", "no vascular congestion"),
    "Consolidation": _CLEAR,
    "Pneumonia": (*_CLEAR, "no focal consolidation", "no infiltrate"),
    "Atelectasis": _CLEAR,
    "Pneumothorax": ("the pleural spaces are clear",),
    "Pleural Effusion": (
        "the costophrenic angles are sharp",
        "the pleural spaces are clear",
    ),
    "Pleural Other": ("no pleural abnormality",),
    "Fracture": ("no acute bony abnormality", "the ribs are intact"),
}


def wide_reports():
    """{name: `Report`} with these words, and the ranks and chances of `rows.py`.

    >>> wide_reports()["Edema"].nouns[1]
    'edema'
    """
    reports = {}
    for name, row in FINDINGS.items():
        report = row.report
        if name in WIDE:
            own = WIDE[name]._asdict()
            kinds = BY_KIND.get(name, {})
            report = report._replace(nouns=NOUNS[name], by_kind=kinds, **own)
        if report:
            reports[name] = report
    return reports
