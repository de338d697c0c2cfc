"""Values of a DICOM header as what they mean, or None and a warning."""

import math
import re
import warnings

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID

from radwb.data.scan import ReadError, lengths

# letter of PatientOrientation -> the axis of LPS that it's along, and which way
TOWARDS = {
    "L": (0, 1),
    "R": (0, -1),
    "P": (1, 1),
    "A": (1, -1),
    "H": (2, 1),
    "F": (2, -1),
}
AT_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


def tag(keyword: str) -> str:
    """A keyword with its number, as errors and warnings name it.

    >>> tag("PixelSpacing")
    '(0028,0030) PixelSpacing'
    """
    number = Tag(tag_for_keyword(keyword))
    return f"({number.group:04X},{number.element:04X}) {keyword}"


def refusal(name: str, keyword: str, reason: str) -> ReadError:
    """What to raise for a file because of one of its fields."""
    return ReadError(f"{name}: {tag(keyword)} {reason}")


def warn(keyword: str, text: str) -> None:
    """A warning that begins with the field that it's about."""
    warnings.warn(f"{tag(keyword)} {text}", stacklevel=4)


def lookup(ds: pydicom.Dataset, keyword: str, frame: int = 0):
    """A header value, of the file or of a frame; None when absent or empty."""
    for group in _groups(ds, frame):
        value = _value(group, keyword)
        if value not in (None, ""):
            return value
    return None


def _groups(ds, frame):
    """The data set itself, then what an enhanced object says of a frame and of all."""
    yield ds
    for name, number in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = ds.get(name) or []
        if number < len(items):
            for macro in items[number]:
                if macro.VR == "SQ" and macro.value:
                    yield macro.value[0]


def _value(ds, keyword):
    """What stands there; the text itself where it can't be read as its type."""
    try:
        return ds.get(keyword)
    except (ValueError, TypeError, OverflowError):
        raw = ds.get_item(keyword).value
    if isinstance(raw, bytes):
        return raw.decode("ascii", "replace").strip("\0 ")
    return raw


def parts(value) -> list:
    """The values of a field one by one; none of None.

    >>> parts(r"0.1 \\ 0.2"), parts(7)
    (['0.1', '0.2'], [7])
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split("\\")]
    if value is None:
        return []
    if isinstance(value, list | tuple | MultiValue):
        return list(value)
    return [value]


def joined(value, most: int = 60) -> str:
    """A field's values as DICOM writes them, cut to a length that a sentence bears."""
    return "\\".join(map(str, parts(value)))[:most]


def count(ds: pydicom.Dataset, keyword: str) -> int:
    """NumberOfFrames or SamplesPerPixel, which are 1 where the header lacks them."""
    return int(ds.get(keyword) or 1)


def kind_of(ds: pydicom.Dataset) -> UID:
    """The SOP class; its `name` is text such as "CT Image Storage"."""
    stored = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    return UID(str(stored or ""))


def finite(ds: pydicom.Dataset, keyword: str, frame: int = 0) -> float | None:
    """The first number of a field, or None where it's absent or not finite."""
    values = parts(lookup(ds, keyword, frame))
    try:
        number = float(values[0])
    except (IndexError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def spacing_of(ds: pydicom.Dataset) -> tuple[float, float] | None:
    """(row, column) mm in the patient from (0028,0030) PixelSpacing, or None.

    A warning says where it's no two lengths. (0018,1164) ImagerPixelSpacing is at the
    detector, larger than in the patient, so it's never used for it.
    """
    otherwise = "not two positive lengths: spacing unknown"
    return _two_lengths(ds, "PixelSpacing", otherwise)


def aspect_of(ds: pydicom.Dataset) -> float | None:
    """A pixel's height over its width where no spacing tells it, or None.

    From (0028,0034) PixelAspectRatio, else from the pixels at the detector or scanner:
    their size differs from that in the patient, their shape doesn't.
    """
    otherwise = "not a ratio: pixels are taken as square"
    sizes = [_two_lengths(ds, "PixelAspectRatio", otherwise)]
    if lookup(ds, "PixelAspectRatio") is None:
        sizes = [lengths(parts(lookup(ds, keyword))) for keyword in AT_DETECTOR]
    for size in sizes:
        if size:
            return size[0] / size[1]
    return None


def _two_lengths(ds, keyword, otherwise):
    """Two positive numbers of a field; else None and a warning."""
    value = lookup(ds, keyword)
    if value is None:
        return None
    both = lengths(parts(value))
    if both is None:
        warn(keyword, f"is {joined(value)!r}, {otherwise}")
    return both


def orientation_of(ds: pydicom.Dataset) -> tuple[str, str] | None:
    """Where rows and columns run from (0020,0020) PatientOrientation, or None.

    ("L", "F"), to the patient's left and to the feet, is a film as it's hung.
    """
    value = ds.get("PatientOrientation")
    if value in (None, "", []):
        return None
    directions = tuple(str(part).strip().upper() for part in parts(value))
    if str(ds.get("AnatomicalOrientationType") or "").strip().upper() == "QUADRUPED":
        warn("AnatomicalOrientationType", "is QUADRUPED: left and right unknown")
        return None
    if not are_directions(directions):
        text = joined(directions)
        warn("PatientOrientation", f"is {text!r}, not two directions: sides unknown")
        return None
    return directions


def are_directions(texts: tuple[str, ...]) -> bool:
    """Whether they say where rows and columns run, along two axes of the patient.

    >>> are_directions(("L", "F")), are_directions(("L", "R"))
    (True, False)
    """
    if len(texts) != 2 or not all(re.fullmatch("[LRAPHF]{1,3}", t) for t in texts):
        return False
    across, down = (TOWARDS[text[0]][0] for text in texts)
    return across != down
