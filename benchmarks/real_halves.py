"""Real films in two halves of patients: one to choose on, one to report, read once.

Written before anything was tuned on them. A patient's half is the parity of the first
byte of sha256(patient_id). The identifier begins with the name of its source (nih,
kermany, hannover, cohen), which sets of one source share: covid-text and covid-masks
are both of the Cohen collection.
"""

import hashlib

import numpy as np
import pandas as pd

import radwb as rw

HALVES = ("tune", "report")
# one patient, published twice
SAME_PATIENT = {"cohen-178": "cohen-97"}
# of which a model may see the tuning half's films, without labels: licences that allow
# its weights to be shipped
UNLABELLED = ("hannover", "kermany", "nih-64")
ZONES = [f"brixia_{zone}" for zone in "ABCDEF"]
SEVERE = 9  # of 18: half of what the six zones can have
# NIH's own 14, under the names that rw.data.real gives them
NIH_14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
)


def half(patient_id: str) -> str:
    """Which half a patient is in, today and on any machine: "tune" or "report"."""
    name = SAME_PATIENT.get(patient_id, patient_id)
    first_byte = hashlib.sha256(name.encode()).digest()[0]
    return HALVES[first_byte % 2]


def in_half(table: pd.DataFrame, which: str) -> pd.DataFrame:
    """The rows of one half's patients."""
    if which not in HALVES:
        raise ValueError(f"expected half 'tune' or 'report', got {which!r}")
    of_half = table["patient_id"].map(half) == which
    return table[of_half].reset_index(drop=True)


def unlabelled(sets: tuple[str, ...] = UNLABELLED) -> pd.DataFrame:
    """The real films that image-only training may use: path, patient_id, split "train".

    Args:
        sets: of one that is measured on, the tuning half alone comes, no label with it.
    """
    parts = []
    for name in sets:
        films = rw.data.real(name)
        films = in_half(films, "tune") if name in UNLABELLED else films
        parts.append(films[["path", "patient_id"]])
    return pd.concat(parts, ignore_index=True).assign(split="train")


def films_of(name: str, which: str) -> pd.DataFrame:
    """One half of a set, with the columns that its questions need."""
    table = in_half(rw.data.real(name), which)
    return PREPARED.get(name, same)(table).reset_index(drop=True)


def same(table):
    return table


def of_children(table):
    # a pneumonia is an opacity (CheXpert's parent label): asked in both words
    return table.assign(**{"Lung Opacity": table["Pneumonia"]})


def of_hannover(table):
    columns = {
        "ICU": table["icu_ever"],
        "Died": table["died"],
        "AP view": (table["view"] == "AP").astype(int),
        "Male": (table["sex"] == "M").astype(int),
    }
    return table.assign(**columns)


def of_covid(table):
    """Frontal films with six grades; a half of all points or more is an opacity."""
    frontal = table["view"] != "LATERAL"
    graded = table[ZONES].notna().all(axis=1)
    table = table[frontal & graded]
    severe = table[ZONES].sum(axis=1) >= SEVERE
    return table.assign(**{"Lung Opacity": severe.astype(int)})


PREPARED = {
    "kermany": of_children,
    "kermany-16": of_children,
    "hannover": of_hannover,
    "covid-text": of_covid,
}
PLANTED = tuple(f for f in rw.simulate.PLANTED if f != "Support Devices")
# set -> what is asked in words, and of probes: Hannover has no finding to ask for
WORDS = {
    "nih-64": (*PLANTED, "No Finding"),
    "kermany": ("Pneumonia", "Lung Opacity"),
    "kermany-16": ("Pneumonia", "Lung Opacity"),
    "covid-text": ("Lung Opacity",),
}
PROBES = {
    "nih-64": tuple(dict.fromkeys((*PLANTED, *NIH_14, "No Finding"))),
    "kermany": ("Pneumonia",),
    "hannover": ("ICU", "Died", "AP view", "Male"),
    "covid-text": ("Lung Opacity",),
}
# set -> name of a mean -> over which findings, those of ten patients or more
SIMULATED = "mean of the simulator's"
MEANS = {"nih-64": {SIMULATED: PLANTED, "mean of NIH's 14": NIH_14}}


def view_of(table: pd.DataFrame) -> np.ndarray:
    """(N, 1) 1 where the film is AP, as of who can't stand, else 0."""
    return (table["view"] == "AP").to_numpy(float)[:, None]
