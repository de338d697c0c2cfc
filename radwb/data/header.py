"""Values of a DICOM header as what they mean: numbers that are finite, lengths,
directions; or None and a warning.
"""

import math
import re
import warnings

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from radwb.data.scan import lengths

DIRECTIONS = {
    "L": 0,
    "R": 0,
    "A": 1,
    "P": 1,
    "H": 2,
    "F": 2,
}  # letter of PatientOrientation -> the axis it's along
AT_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


def lookup(ds: pydicom.Dataset, keyword: str, frame: int = 0):
    """A header value, at the top or in the functional groups of an enhanced object;
    None when absent or empty.
    """
    groups = [ds]
    for name, n in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = ds.get(name) or []
        if n < len(items):
            groups += [
                macro.value[0] for macro in items[n] if macro.VR == "SQ" and macro.value
            ]
    return next(
        (v for v in (_value(g, keyword) for g in groups) if v not in (None, "")), None
    )


def _value(ds, keyword):
    """What stands there; the text itself where it can't be read as its type."""
    try:
        return ds.get(keyword)
    except (ValueError, TypeError, OverflowError):
        raw = ds.get_item(keyword).value
        return (
            raw.decode("ascii", "replace").strip("\0 ")
            if isinstance(raw, bytes)
            else raw
        )


def parts(value) -> list:
    """The values of a field one by one, also where it came as one text 'a\\b' or as a
    single number; none of None.
    """
    if isinstance(value, str):
        return [p.strip() for p in value.split("\\")]
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | MultiValue) else [value]


def finite(ds: pydicom.Dataset, keyword: str, frame: int = 0) -> float | None:
    """The first number of a field, or None where it's absent or not finite."""
    first = next(iter(parts(lookup(ds, keyword, frame))), None)
    try:
        number = float(first)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def spacing_of(ds: pydicom.Dataset, frame: int = 0) -> tuple[float, float] | None:
    """(row, column) mm in the patient from (0028,0030) PixelSpacing, or None; a warning
    where it's no two lengths.

    (0018,1164) ImagerPixelSpacing is at the detector, larger than in the patient, so
    it's never used for it.
    """
    value = lookup(ds, "PixelSpacing", frame)
    if value is None:
        return None
    return pair("PixelSpacing", value, "not two positive lengths: spacing unknown")


def aspect_of(ds: pydicom.Dataset) -> float | None:
    """A pixel's height over its width where no spacing in the patient tells it, or
    None.

    From (0028,0034) PixelAspectRatio, else from the pixels at the detector or scanner:
    their size differs from that in the patient, their shape doesn't.
    """
    value = lookup(ds, "PixelAspectRatio")
    if value is None:
        sizes = (lengths(parts(lookup(ds, keyword))) for keyword in AT_DETECTOR)
        return next((size[0] / size[1] for size in sizes if size), None)
    otherwise = "not a ratio: pixels are taken as square"
    ratio = pair("PixelAspectRatio", value, otherwise)
    return ratio and ratio[0] / ratio[1]


def pair(keyword: str, value, otherwise: str) -> tuple[float, float] | None:
    """Two positive numbers of a header's field; else None and a warning that ends in
    `otherwise`.
    """
    both = lengths(parts(value))
    if both is None:
        text = "\\".join(map(str, parts(value)))[:60]
        warnings.warn(f"{tag(keyword)} is {text!r}, {otherwise}", stacklevel=3)
    return both


def orientation_of(ds: pydicom.Dataset) -> tuple[str, str] | None:
    """Where rows and columns run from (0020,0020) PatientOrientation, ("L", "F") for a
    film as it's hung; or None.
    """
    value = ds.get("PatientOrientation")
    if value in (None, "", []):
        return None
    directions = tuple(str(p).strip().upper() for p in parts(value))
    if str(ds.get("AnatomicalOrientationType") or "").strip().upper() == "QUADRUPED":
        warnings.warn(
            f"{tag('AnatomicalOrientationType')} is QUADRUPED: left and right unknown",
            stacklevel=2,
        )
        return None
    if not are_directions(directions):
        text = "\\".join(directions)[:60]
        warnings.warn(
            f"{tag('PatientOrientation')} is {text!r}, not two directions: sides unknown",
            stacklevel=2,
        )
        return None
    return directions


def are_directions(texts: tuple[str, ...]) -> bool:
    """Whether they say where rows and columns run, along two axes of the patient.

    >>> are_directions(("L", "F")), are_directions(("L", "R"))
    (True, False)
    """
    if len(texts) != 2 or not all(
        re.fullmatch("[LRAPHF]{1,3}", text) for text in texts
    ):
        return False
    return DIRECTIONS[texts[0][0]] != DIRECTIONS[texts[1][0]]


def tag(keyword: str) -> str:
    """>>> tag("PixelSpacing")
    '(0028,0030) PixelSpacing'
    """
    number = Tag(tag_for_keyword(keyword))
    return f"({number.group:04X},{number.element:04X}) {keyword}"
