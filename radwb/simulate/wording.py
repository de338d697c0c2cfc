"""Two grammars of the virtual reports: the plain one, and one nearer to real reports.

Data alone; `sentences.py`, `device_words.py` and `words.py` write with them.
"""

from typing import NamedTuple

from radwb.findings import FINDINGS
from radwb.findings.devices import NO_DEVICES
from radwb.findings.parents import with_children
from radwb.findings.rows import PARENT, Report

REPORTED = {name: row.report for name, row in FINDINGS.items() if row.report}
ORDER = tuple(sorted(REPORTED, key=lambda name: REPORTED[name].rank))
# a denial's reach: who denies an opacity denies its children
COVERS = {name: with_children({name}) for name in ORDER}
EVERY = frozenset(ORDER)
BUT_DEVICES = EVERY - {"Support Devices"}
AIRSPACE = EVERY & {"Lung Opacity", *PARENT["Lung Opacity"]}
PLEURAL = frozenset({"Pneumothorax", "Pleural Effusion", "Pleural Other"})
CLEAR = AIRSPACE | {"Pneumothorax", "Pleural Effusion"}


class Grammar(NamedTuple):
    """The words and sentences of all reporters, braces to be filled.

    Attributes:
        reported: {finding: its words}.
        frames: of a sentence that states; `terse` those of a phrase, `bare` those that
            take it without an article.
        hedges: short ones and, in FINDINGS, longer ones too.
        no: of a denial; `commas` before the last of three, or none.
        sizes, degrees: {word of the truth: words to choose from}.
        changes: {what became of it: sentences}; `device_changes` has those of devices.
        unchanged: that nothing changed where nothing is.
        normal: {sentence: what it denies} of IMPRESSION, one of them where it fits.
        boilerplate: {sentences to choose from: what each of them denies}.
        anatomy: chance of one of those in IMPRESSION.
        neutral: what to say where nothing may be said.
        compared: {whether there is a prior study: COMPARISON}.
        technique: sentences under TECHNIQUE, one or none.
        no_devices: without a capital.
        placed, misplaced, in_place, leads: sentences about devices.
        renamed: {what a device or its place is called: other names for it}.
    """

    reported: dict[str, Report]
    frames: tuple[str, ...]
    terse: tuple[str, ...]
    bare: tuple[str, ...]
    hedges: tuple[str, ...]
    long_hedges: tuple[str, ...]
    no: tuple[str, ...]
    commas: tuple[str, ...]
    sizes: dict[str, tuple[str, ...]]
    degrees: dict[str, tuple[str, ...]]
    changes: dict[str, tuple[str, ...]]
    device_changes: dict[str, tuple[str, ...]]
    unchanged: tuple[str, ...]
    normal: dict[str, frozenset]
    boilerplate: dict[tuple[str, ...], frozenset]
    anatomy: float
    neutral: tuple[str, ...]
    compared: dict[bool, tuple[str, ...]]
    technique: tuple[str, ...]
    no_devices: tuple[str, ...]
    placed: tuple[str, ...]
    misplaced: tuple[str, ...]
    in_place: tuple[str, ...]
    leads: tuple[str, ...]
    renamed: dict[str, tuple[str, ...]]


CHANGES = {
    "worse": ("The {} has increased.", "The {} has worsened."),
    "better": ("The {} has decreased.", "The {} has improved."),
    "unchanged": ("The {} is unchanged.", "The {} is stable."),
    "new": ("The {} is new.", "The {} is new since the prior study."),
    "gone": (
        "The {} is no longer seen.",
        "The {} has resolved with no residual change.",
    ),
}
HEDGES = ("Possible {}.", "Questionable {}.")
PLAIN = Grammar(
    reported=REPORTED,
    frames=("There is {}.", "{} is present.", "{} is seen."),
    terse=("{}.",),
    bare=("{}.", *HEDGES),
    hedges=HEDGES,
    long_hedges=(
        *HEDGES,
        "There may be {}.",
        "{} is suspected.",
        "Subtle change that could represent {}.",
    ),
    no=("No {}.", "There is no {}.", "No evidence of {}.", "No {} is seen."),
    commas=(",",),
    sizes={size: (size,) for size in ("small", "moderate", "large")},
    degrees={"small": ("mild",), "moderate": ("moderate",), "large": ("marked",)},
    changes=CHANGES,
    device_changes=CHANGES
    | {
        "moved": ("The {} has been repositioned.", "The {} has been replaced."),
        "gone": ("The {} has been removed.", "The {} is no longer seen."),
    },
    unchanged=("No interval change.",),
    normal={
        "No acute cardiopulmonary abnormality.": BUT_DEVICES,
        "No acute findings.": BUT_DEVICES,
        "Normal chest radiograph.": EVERY,
    },
    boilerplate={
        (
            "Heart size is normal.",
            "The cardiac silhouette is normal in size.",
        ): frozenset({"Cardiomegaly"}),
        ("Mediastinal contours are unremarkable.",): frozenset(
            {"Cardiomegaly", "Atelectasis"}
        ),
        ("Pulmonary vascularity is normal.",): frozenset({"Edema"}),
        ("The lungs are clear.", "Both lungs are well expanded and clear."): CLEAR,
        ("The trachea is midline.",): frozenset({"Atelectasis"}),
        ("The costophrenic angles are sharp.",): frozenset(
            {"Pleural Effusion", "Pleural Other"}
        ),
        (
            "The bones are intact.",
            "The visualized skeleton is unremarkable.",
        ): frozenset({"Fracture"}),
        (
            "Soft tissues are unremarkable.",
            "The visualized upper abdomen is unremarkable.",
        ): frozenset(),
    },
    anatomy=0.0,
    neutral=("Chest radiograph.",),
    compared={False: ("None.",), True: ("Prior chest radiograph.",)},
    technique=(),
    no_devices=NO_DEVICES,
    placed=(
        "There is a {name} with its {part} {where}.",
        "The {part} of the {name} {lies} {where}.",
        "{name}, {part} {where}.",
    ),
    misplaced=(
        "The {name} is {fault}, its {part} {where}.",
        "The {name} is malpositioned, with its {part} {where}.",
    ),
    in_place=("There is a {name}.", "{name} in place."),
    leads=("ECG leads overlie the chest.", "Overlying ECG leads."),
    renamed={},
)
