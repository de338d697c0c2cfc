"""What there is to know of each finding, in one row.

A finding that is new begins with a row of `FINDINGS`.
"""

from typing import NamedTuple


class Wording(NamedTuple):
    """How a virtual report states a finding, `radwb.simulate.words` fills the braces.

    A phrase with "a" is countable.
    """

    phrases: tuple[str, ...]
    sentences: tuple[str, ...]


class Report(NamedTuple):
    """A finding in the virtual reports.

    Attributes:
        rank: its place among the sentences of a report, from the heart to the devices.
        denied: how often a report denies it where it isn't there, 0 to 1.
        nouns: to deny it and to compare it with the prior study.
        phrases, sentences: as in `Wording`.
        by_kind: {kind: `Wording`} of a kind that is stated otherwise.
    """

    rank: float
    denied: float
    nouns: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    by_kind: dict[str, Wording] = {}


class Planting(NamedTuple):
    """How the simulator plants a finding.

    Attributes:
        mechanism: a key of `radwb.simulate.mechanisms.MECHANISMS`; "heart" and "device"
            are no change of the lungs' density and have ways of their own.
        prevalence: share of the first studies that have it.
        lasting: whether a patient keeps it from study to study.
        kinds: {kind: chance}; the kind of an edema follows from its severity.
        smooth_mm: over which its outline is smoothed.
        share: of its greatest change, from which on a ray belongs to its outline.
        is_layer: whether it may run along the whole lung.
    """

    mechanism: str
    prevalence: float
    lasting: bool = False
    kinds: dict[str, float] = {}
    smooth_mm: float = 1.5
    share: float = 0.15
    is_layer: bool = False


class Description(NamedTuple):
    """A finding.

    Attributes:
        meaning: what it is, for a reader who isn't a radiologist.
        parent: the finding that it is a kind of.
        place: "middle" of the chest, on one "side", or in a "lobe" of one side.
        synonyms: what a pair of prompts calls it; its name where there are none.
        stated: as a report may state its kinds; its synonyms where there are none.
        cues: a text with one of them speaks of it.
        colour: its own in every figure.
        report, planting: None where the simulator has no words for it, or no mechanism.
    """

    meaning: str
    parent: str = ""
    place: str = "side"
    synonyms: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    colour: str = ""
    report: Report | None = None
    planting: Planting | None = None


LESIONS = ("lung nodule", "pulmonary nodule", "lung mass")

# The names and their order are CheXpert's (Irvin et al., AAAI 2019, doi
# 10.1609/aaai.v33i01.3301590), and so is the hierarchy: Pneumonia lies under
# Consolidation, which lies under Lung Opacity. Real sets label the two apart, so that
# only the top is a parent here.
FINDINGS = {
    "Enlarged Cardiomediastinum": Description(
        "the heart or the vessels and tissue between the lungs are too wide",
        place="middle",
        synonyms=("enlarged cardiomediastinum", "widened mediastinum"),
    ),
    "Cardiomegaly": Description(
        "the heart is too large",
        place="middle",
        synonyms=("cardiomegaly", "enlarged heart"),
        cues=("cardiomegaly", "heart", "cardiac"),
        colour="#0072B2",
        report=Report(
            rank=0,
            denied=0.2,
            nouns=("cardiomegaly",),
            phrases=("{degree} cardiomegaly", "a {degree}ly enlarged heart"),
            sentences=(
                "The heart is {degree}ly enlarged.",
                "The cardiac silhouette is enlarged, with {degree} cardiomegaly.",
            ),
        ),
        planting=Planting("heart", prevalence=0.25, lasting=True, smooth_mm=3.0),
    ),
    "Lung Opacity": Description(
        "some of the lung is whiter than it should be, for whatever reason",
        place="lobe",
        synonyms=("lung opacity", "pulmonary opacity"),
        report=Report(
            rank=2,
            denied=0.85,
            nouns=("lung opacity", "focal airspace disease", "pulmonary opacity"),
            phrases=(
                "a {size} {where} lung opacity",
                "a {size} hazy {where} pulmonary opacity",
            ),
            sentences=(
                "A {size} patchy, ill-defined lung opacity projects over the {where}.",
            ),
        ),
        planting=Planting("haze", prevalence=0.14, smooth_mm=4.0, share=0.25),
    ),
    "Lung Lesion": Description(
        "a nodule or, above 3 cm, a mass in the lung; it may be cancer",
        parent="Lung Opacity",
        place="lobe",
        synonyms=LESIONS,
        stated=(
            *(
                f"{kind} {lung} {shape}"
                for kind in ("solid", "part-solid", "spiculated")
                for lung in ("lung", "pulmonary")
                for shape in ("nodule", "mass")
            ),
            *LESIONS,
        ),
        cues=("nodule", "mass", "lesion"),
        colour="#009E73",
        report=Report(
            rank=5,
            denied=0.5,
            nouns=("lung nodule or mass",),
            phrases=(
                "a {bulk} {kind} {where} lung {what}",
                "a {bulk} {kind} {where} pulmonary {what}",
            ),
            sentences=("A {bulk} {kind} lung {what} projects over the {where}.",),
        ),
        planting=Planting(
            "lesion",
            prevalence=0.25,
            lasting=True,
            kinds={"solid": 0.6, "part-solid": 0.2, "spiculated": 0.2},
        ),
    ),
    "Edema": Description(
        "water in both lungs, often from a failing heart",
        parent="Lung Opacity",
        place="middle",
        synonyms=("pulmonary edema",),
        stated=(
            "pulmonary edema",
            "interstitial pulmonary edema",
            "alveolar pulmonary edema",
        ),
        report=Report(
            rank=1,
            denied=0.5,
            nouns=("pulmonary edema",),
            phrases=("{degree} pulmonary edema", "{degree} {kind} pulmonary edema"),
            sentences=(
                "Indistinct vessels and haze around both hila reflect {degree} "
                "{kind} pulmonary edema.",
            ),
        ),
        planting=Planting(
            "edema",
            prevalence=0.15,
            kinds={"interstitial": 0.5, "alveolar": 0.5},
            smooth_mm=6.0,
            share=0.35,
            is_layer=True,
        ),
    ),
    "Consolidation": Description(
        "air spaces of a lobe filled with fluid, pus or cells",
        parent="Lung Opacity",
        place="lobe",
        report=Report(
            rank=3,
            denied=0.95,
            nouns=("consolidation",),
            phrases=(
                "a {size} {where} consolidation",
                "a {size} consolidation in the {where}",
            ),
            sentences=(
                "A {size} consolidation with air bronchograms occupies the {where}.",
            ),
        ),
        planting=Planting("consolidation", prevalence=0.16),
    ),
    "Pneumonia": Description(
        "an infection of the lung",
        parent="Lung Opacity",
        place="lobe",
    ),
    "Atelectasis": Description(
        "a part of the lung without air, which has shrunk",
        parent="Lung Opacity",
        place="lobe",
        stated=(
            "atelectasis",
            "basal atelectasis",
            "plate-like atelectasis",
            "volume loss",
        ),
        report=Report(
            rank=4,
            denied=0.3,
            nouns=("atelectasis",),
            phrases=(
                "{degree} {where} atelectasis",
                "{where} atelectasis with {degree} volume loss",
            ),
            sentences=(
                "Volume loss and shift with {degree} atelectasis of the {where}.",
            ),
            by_kind={
                "plate": Wording(
                    phrases=(
                        "{degree} {side} basal atelectasis",
                        "{degree} plate-like {side} basilar atelectasis",
                    ),
                    sentences=(
                        "A linear band at the {side} base represents {degree} "
                        "atelectasis.",
                    ),
                )
            },
        ),
        planting=Planting(
            "atelectasis", prevalence=0.18, kinds={"plate": 0.6, "lobar": 0.4}
        ),
    ),
    "Pneumothorax": Description(
        "air between lung and chest wall",
        stated=("pneumothorax", "apical pneumothorax"),
        cues=("pneumothorax",),
        colour="#CC79A7",
        report=Report(
            rank=6,
            denied=1,
            nouns=("pneumothorax",),
            phrases=(
                "a {size} {side} pneumothorax",
                "a {size} {side} apical pneumothorax",
            ),
            sentences=(
                "The visceral pleural edge is visible on the {side}, with a {size} "
                "pneumothorax.",
            ),
        ),
        planting=Planting(
            "pneumothorax", prevalence=0.20, smooth_mm=2.5, is_layer=True
        ),
    ),
    "Pleural Effusion": Description(
        "fluid between lung and chest wall",
        cues=("effusion", "fluid"),
        colour="#56B4E9",
        report=Report(
            rank=7,
            denied=1,
            nouns=("pleural effusion",),
            phrases=("a {size} {side} pleural effusion",),
            sentences=(
                "Blunting of the {side} costophrenic angle by a {size} pleural "
                "effusion.",
            ),
        ),
        planting=Planting("effusion", prevalence=0.30, smooth_mm=3.0, is_layer=True),
    ),
    "Pleural Other": Description(
        "another disease of the pleura, here its thickening, as after an inflammation",
        synonyms=("pleural thickening",),
        stated=(
            "pleural thickening",
            "apical pleural thickening",
            "lateral pleural thickening",
        ),
        report=Report(
            rank=8,
            denied=0.1,
            nouns=("pleural thickening",),
            phrases=(
                "{degree} {side} {kind} pleural thickening",
                "{degree} {kind} pleural thickening on the {side}",
            ),
            sentences=(
                "The pleura is thickened on the {side}, with {degree} {kind} "
                "pleural thickening.",
            ),
        ),
        planting=Planting(
            "thickening",
            prevalence=0.14,
            lasting=True,
            kinds={"apical": 0.4, "lateral": 0.6},
            smooth_mm=3.0,
            is_layer=True,
        ),
    ),
    "Fracture": Description(
        "a broken bone, mostly a rib",
        synonyms=("rib fracture", "fracture"),
        report=Report(
            rank=9,
            denied=0.4,
            nouns=("rib fracture", "fracture"),
            phrases=(
                "a {side} {lobe} fracture",
                "a rib fracture of the {side} {lobe}",
            ),
            sentences=(
                "A cortical step of the {side} {lobe} represents a rib fracture.",
            ),
        ),
    ),
    "Support Devices": Description(
        "lines, tubes, pacemakers, electrodes (`radwb.devices`)",
        synonyms=(
            "chest tube",
            "central line",
            "endotracheal tube",
            "pacemaker",
            "overlying ECG leads",
        ),
        report=Report(rank=10, denied=0.15),
        planting=Planting("device", prevalence=0.20),
    ),
    "No Finding": Description("nothing of the above, but perhaps a device"),
}
PARENT = {
    name: tuple(child for child, row in FINDINGS.items() if row.parent == name)
    for name in dict.fromkeys(row.parent for row in FINDINGS.values() if row.parent)
}  # each parent's children


def synonyms(name: str) -> tuple[str, ...]:
    """What a finding is called in a prompt; any name, of `FINDINGS` or not.

    >>> synonyms("Lung Opacity"), synonyms("Hernia")
    (('lung opacity', 'pulmonary opacity'), ('hernia',))
    """
    row = FINDINGS.get(name)
    return row.synonyms if row and row.synonyms else (name.lower(),)


def stated(name: str) -> tuple[str, ...]:
    """What a finding and its kinds are called in a report, without size and place.

    >>> stated("Pneumothorax")
    ('pneumothorax', 'apical pneumothorax')
    """
    row = FINDINGS.get(name)
    return row.stated if row and row.stated else synonyms(name)
