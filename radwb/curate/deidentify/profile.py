"""DICOM headers by the Basic Application Level Confidentiality Profile (PS3.15, E).

The table of attributes is dicom-anonymizer's. What it doesn't name is judged by its
kind, so that no text, date or binary value stays because nobody thought of it.
"""

import math
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRLittleEndian,
    UID_dictionary,
)

from radwb.curate.deidentify.known import Known, day_of
from radwb.curate.deidentify.scrub import scrub, without
from radwb.curate.deidentify.secret import Secret

TABLE = "dicomfields_2026c"
OPTIONS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
VALUED = ("PatientID", "Address", "Telephone", "Institution", "Accession", "Serial")
BINARY = ("OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW")
TABLES = ("LUTData", "PaletteColorLookupTableData")  # that pixels need; no text in it
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
CODES = ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion")
FREE = ("LT", "ST", "UT", "UC", "UR")  # whatever somebody typed
TEXT = ("AE", "CS", "LO", "SH", *FREE)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
TIMES = ("DA", "DT", "TM")
LENGTHS = {
    **{"AE": 16, "AS": 4, "CS": 16, "DA": 26, "DS": 16, "DT": 54, "IS": 12, "LO": 64},
    **{"SH": 16, "TM": 28, "UI": 64},
}
KINDS = {  # of numbers, as they are stored
    **{"US": "<u2", "SS": "<i2", "UL": "<u4", "SL": "<i4", "UV": "<u8", "SV": "<i8"},
    **{"FL": "<f4", "FD": "<f8", "AT": "<u4"},
}
NUMBERS = ("DS", "IS")
REMOVED = {"AS": "000Y", "DA": "19000101", "DT": "19000101", "TM": "000000"}
GONE = "REMOVED"
OLDEST = 89  # years; a higher age identifies


@dataclass
class Plan:
    """How one file is cleaned, and what was done to it."""

    secret: Secret
    keep: frozenset
    patient: str
    known: Known
    swapped: bool = False  # whether the file's words begin with their high byte
    done: Counter = field(default_factory=Counter)
    moved: set = field(default_factory=set)


@cache
def actions() -> dict[int, str]:
    """X, Z, D or U of each attribute in the table of the Basic Profile."""
    from dicomanonymizer.dicomfields_selector import (
        dicom_anonymization_database_selector,
    )

    lists = dicom_anonymization_database_selector(TABLE)
    strictest = {"X_D": "D", "X_Z": "Z", "X_Z_D": "D", "Z_D": "D", "X_Z_U_STAR": "U"}
    table = {}
    for name, tags in lists.items():
        action = name.removesuffix("_TAGS")
        if action != "ALL":
            pairs = (tag for tag in tags if len(tag) == 2)  # overlays: by their group
            table |= {Tag(*tag): strictest.get(action, action) for tag in pairs}
    return table


def identifying(ds: Dataset, keep: frozenset = frozenset()) -> Known:
    """Names, numbers, places and days of a header with all its sequences."""
    known = Known()
    for element in elements(ds):
        if _kept(element.keyword, keep):
            continue
        for text in _texts(element):
            _add(known, element, text, keep)
    return known


def _add(known, element, text, keep):
    if element.VR == "PN":
        known.add_name(text)
    elif element.VR in ("DA", "DT"):
        if "full dates" not in keep or "BirthDate" in element.keyword:
            known.add_day(text)
    elif element.VR == "UI":
        own = text not in UID_dictionary and text.count(".") > 3
        if own and "uids" not in keep:
            known.add_value(text)
    elif any(word in element.keyword for word in VALUED):
        known.add_value(text)


def elements(ds: Dataset):
    """Each element that can be read, also those in sequences."""
    for tag in list(ds.keys()):
        element = _readable(ds, tag)
        if element is None:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        else:
            yield element


def clean(ds: Dataset, plan: Plan) -> Dataset:
    """A new data set of what passed; pixels are left to the caller."""
    new = Dataset()
    for tag in sorted(ds.keys()):
        if BaseTag(tag).element == 0:
            continue  # a group's length is written anew
        element = _readable(ds, tag)
        value = None if element is None else _passed(element, plan)
        if value is None:
            plan.done["removed"] += 1
        else:
            new.add(DataElement(tag, element.VR, value))
    return new


def finish(new: Dataset, plan: Plan) -> None:
    """State in the header what was done, and write a file meta group of our own."""
    new.SpecificCharacterSet = "ISO_IR 192"
    new.PatientID = plan.patient
    new.PatientName = plan.patient
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = "radwb.curate.deidentify, DICOM PS3.15 Basic Profile"
    codes = [("113100", "Basic Application Confidentiality Profile")]
    options = [OPTIONS[name] for name in sorted(plan.keep - {"pixels"})]
    codes += [(option["code"], option["meaning"]) for option in options]
    if "pixels" not in plan.keep:
        codes.append(("113101", "Clean Pixel Data Option"))
        new.BurnedInAnnotation = "NO"
    new.DeidentificationMethodCodeSequence = [_code(*code) for code in codes]
    times = {"dates": "MODIFIED", "full dates": "UNMODIFIED"}
    kept = [text for name, text in times.items() if name in plan.keep]
    new.LongitudinalTemporalInformationModified = (kept or ["REMOVED"])[-1]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    new.file_meta = meta


def _code(value, meaning):
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code


def _readable(ds, tag):
    """An element, None where its value can't be read."""
    try:
        element = ds[tag]
        str(element.value if element.VR not in (*BINARY, "SQ") else "")
    except Exception:  # pydicom raises of any kind on damaged values
        return None
    return element


def _texts(element):
    value = element.value
    if value is None or element.VR in BINARY:
        return []
    many = value if isinstance(value, MultiValue | list) else [value]
    return [str(text) for text in many]


def _passed(element, plan):
    """The new value, None for an element that goes."""
    keyword = element.keyword
    if _goes(element):
        return None
    if element.VR in BINARY:
        words = np.frombuffer(element.value, dtype="u2")
        return (words.byteswap() if plan.swapped else words).tobytes()
    if element.VR in TIMES:
        return _time(element, plan)
    if element.VR == "UI":
        return _many(element, lambda uid: _uid(uid, plan))
    action = "K" if _kept(keyword, plan.keep) else actions().get(element.tag)
    if element.VR == "SQ":
        return _sequence(element, action, plan)
    return _value(element, action, plan)


def _goes(element):
    """Whatever isn't known, and whatever binary can't be read.

    Private elements, curves and overlays have no keyword, as unknown ones.
    """
    keyword = element.keyword
    binary = element.VR in BINARY and not keyword.endswith(TABLES)
    return not keyword or binary or keyword in PIXELS or _swallowed(element)


def _swallowed(element):
    """Whether a wrong length has made the next elements a part of this one's value.

    Then it is longer than may be, or has bytes that no text has, or numbers that
    spell a word.
    """
    if element.VR in KINDS:
        numbers = np.array(element.value or 0, dtype=KINDS[element.VR])
        return re.search(rb"[A-Za-z]{4}", numbers.tobytes()) is not None
    if isinstance(element.value, bytes):
        return element.VR not in BINARY and re.search(rb"\w{4}", element.value)
    longest = LENGTHS.get(element.VR, math.inf)
    texts = _texts(element)
    return any(len(text) > longest or CONTROL.search(text) for text in texts)


def _kept(keyword, keep):
    return any(keyword in OPTIONS[name]["keeps"] for name in keep - {"pixels"})


def _sequence(element, action, plan):
    if action == "X":
        return None
    if action == "Z":
        return []
    return [clean(item, plan) for item in element.value]


def _value(element, action, plan):
    free = element.VR in FREE and action is None and "descriptions" not in plan.keep
    if action == "X" or free:
        return None
    if action == "Z" or element.VR == "PN" and action is None:
        plan.done["emptied"] += 1
        return "" if element.VR in (*TEXT, "PN", "AS", *NUMBERS) else None
    if action in ("D", "U"):
        plan.done["replaced"] += 1
        return _dummy(element.VR)
    return _kept_value(element, action, plan)


def _kept_value(element, action, plan):
    if element.VR == "AS":
        return _many(element, _age)
    asked_for = (
        action == "K" and element.keyword not in OPTIONS["descriptions"]["keeps"]
    )
    if element.VR not in TEXT or element.keyword in CODES or asked_for:
        return element.value
    return _many(element, lambda text: _scrubbed(text, element.VR, plan))


def _dummy(vr):
    if vr in REMOVED:
        return REMOVED[vr]
    if vr in NUMBERS:
        return "0"
    return GONE if vr in (*TEXT, "PN") else 0


def _scrubbed(text, vr, plan):
    if vr in ("CS", "AE"):  # one word, which goes as a whole
        new = text if without(text, plan.known) == text else ""
    else:
        # first what isn't known, whose place and title would go with the known
        new = without(scrub(text), plan.known)[: LENGTHS.get(vr)]
    plan.done["scrubbed"] += new != text
    return new


def _many(element, action):
    """The new value of each of several values."""
    new = [action(text) for text in _texts(element)]
    return new if len(new) != 1 else new[0]


def _age(text):
    years = text[:3].isdigit() and text.endswith("Y") and int(text[:3])
    return f"{OLDEST + 1:03d}Y" if years and years > OLDEST else text


def _uid(text, plan):
    """Those of the standard stay, others are mapped."""
    if "uids" in plan.keep or text in UID_dictionary or not text:
        return text
    plan.done["UIDs"] += 1
    return plan.secret.uid(text)


def _time(element, plan):
    """A date moved, kept or emptied; a birth date says the age too well."""
    if "BirthDate" in element.keyword:
        return ""
    if "full dates" in plan.keep:
        return element.value
    if "dates" not in plan.keep:
        return _without_date(element, plan)
    if element.VR == "TM":
        return element.value
    return _many(element, lambda text: _moved(text, plan))


def _without_date(element, plan):
    action = actions().get(element.tag)
    plan.done["emptied"] += 1
    if action == "X":
        return None
    return REMOVED[element.VR] if action == "D" else ""


def _moved(text, plan):
    day = day_of(text)
    if day is None:
        return ""
    plan.done["dates"] += 1
    try:
        moved = f"{day + timedelta(plan.secret.days(plan.patient)):%Y%m%d}"
    except OverflowError:
        return ""
    plan.moved.add(moved)
    return moved + text[8:]
