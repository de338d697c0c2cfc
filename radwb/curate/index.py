"""`index`: every file of a folder becomes a row, also those that are refused."""

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from tqdm.auto import tqdm

from radwb.curate.journal import Journal, state_of
from radwb.data.dicom import view_of
from radwb.data.header import lookup, parts, tag
from radwb.data.names import local_path, path_text, printable
from radwb.data.read import read_with_header
from radwb.data.scan import ReadError, Scan, Volume
from radwb.data.table import COLUMNS

HEADER = {
    "patient_id": "PatientID",
    "study_id": "StudyInstanceUID",
    "series_id": "SeriesInstanceUID",
    "image_id": "SOPInstanceUID",
    "site": "InstitutionName",
    "sex": "PatientSex",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "manufacturer": "Manufacturer",
    "photometric": "PhotometricInterpretation",
    "bits_stored": "BitsStored",
}  # column <- DICOM keyword


SHAPE = ["rows", "columns", "frames", "row_mm", "column_mm"]
NAMING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "PatientAddress",
)
SHORTEST = 3  # letters: a shorter one is a word or a number of the note itself
NOTES = 20  # of one file; damaged ones can give thousands


def index(folder: str | Path) -> pd.DataFrame:
    """Read every file below a folder and give one row a file; it never stops at a bad
    one.

    >>> table = rw.curate.index("inbox")
    >>> table[table.refused == ""]                       # what can be used
    >>> table.loc[table.refused != "", ["path", "refused"]]

    Stopped by Ctrl-C or killed, it keeps the rows so far in the cache ($RADWB_CACHE),
    and the next call goes on.

    Args:
        folder: searched with its subfolders; hidden files are left out. A folder that
            can't be entered, and one that is only a link, is a row that is refused.
    Returns:
        The schema's columns (empty where a file doesn't say), DICOM header fields,
        rows, columns, frames, row_mm, column_mm, transfer_syntax, `refused` (the
        reason, "" for a file that reads) and `notes` (what is odd about it). A path
        whose name isn't plain text (control characters, bytes that aren't UTF-8) is a
        file:// address, which `rw.data.read` opens as well; in all other texts such
        characters are shown escaped.
    """
    folder = local_path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder, got {folder}. Try rw.data.read for one file."
        )
    others = [c for c in HEADER if c not in COLUMNS]
    columns = [*COLUMNS, *others, *SHAPE, "transfer_syntax", "refused", "notes"]
    paths, unread = walk(folder)
    rows = [*_rows(folder, paths), *unread]
    rows.sort(key=lambda row: row["path"])
    return pd.DataFrame(rows, columns=columns)


def walk(folder: Path) -> tuple[list[Path], list[dict]]:
    """Files below a folder in order, and a row for each folder that isn't looked into."""
    paths = []
    unread = []

    def refuse(error: OSError) -> None:
        path = Path(error.filename or folder)
        unread.append(
            _refused(
                path,
                f"the folder can't be entered ({error.strerror or type(error).__name__})",
            )
        )

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(parent, name).is_symlink()]
        unread += [
            _refused(
                Path(parent, n),
                "a linked folder, not followed. Try index on the folder",
            )
            for n in links
        ]
        paths += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(paths), unread


def _rows(folder: Path, paths: list[Path]) -> list[dict]:
    """A row a file, those of an index that was stopped taken from its journal."""
    journal = Journal(folder)
    rows = []
    whole = False
    try:
        for path in tqdm(paths, "indexing", delay=2, leave=False):
            key = state_of(path)
            row = journal.get(key)
            if row is None:
                row = _guarded_row(path)
                journal.add(key, row)
            rows.append(row)
        whole = True
    except KeyboardInterrupt as stop:
        stop.add_note(
            f"{len(rows)} of {len(paths)} files are kept; index of the same folder goes on from there."
        )
        raise
    finally:
        journal.close(whole=whole)
    return rows


def _refused(path: Path, why: str) -> dict:
    blank = {"path": path_text(path), "report": None, "split": None, "notes": ""}
    return {**blank, "refused": printable(f"{path.name}: {why}")}


def _guarded_row(path: Path) -> dict:
    """Whatever a file does to the code below, it becomes a row."""
    try:
        row = _row(path)
    except Exception as error:
        row = _refused(
            path,
            f"damaged or not supported ({type(error).__name__}: {str(error)[:300]})",
        )
    return {
        k: " ".join(printable(v).split()) if isinstance(v, str) and k != "path" else v
        for k, v in row.items()
    }


def _row(path: Path) -> dict:
    if path.name.endswith(".truth.png"):
        return _refused(path, "truth masks that belong to another image")
    row = {**_refused(path, ""), "refused": ""}
    image, header, names = None, None, []
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        try:
            image, header = read_with_header(path)
        except ReadError as error:
            row["refused"], header = str(error), getattr(error, "header", None)
        notes = []
        if header is not None:
            row |= _header(header, notes)
            names = _identifiers(header)
            if (
                image is not None
                and image.spacing_mm is None
                and getattr(image, "pixel_mm", None) is None
            ):
                note = (
                    _field(_no_spacing, header, "PixelSpacing", notes)
                    or "the spacing is unknown"
                )
                if any(
                    tag("PixelSpacing") in str(w.message) for w in odd
                ):  # reading it said so already
                    note = note.partition("; ")[2]
                notes.append(note)
        notes = [
            _without(names, note) for note in [*map(_warning_text, odd), *notes] if note
        ]
        row["refused"] = _without(names, row["refused"])
    return {
        **row,
        **_shape(image),
        "notes": "; ".join(list(dict.fromkeys(n for n in notes if n))[:NOTES]),
    }


def _identifiers(ds: pydicom.Dataset) -> list[str]:
    """What names the patient in a header, the longest first, also the parts of a name."""
    texts = [
        str(_field(ds.get, keyword, keyword, []) or "") for keyword in NAMING
    ]  # ds.get takes the keyword
    words = {
        word.strip() for text in texts for word in (text, *re.split(r"[\\^=\s]", text))
    }
    return sorted(
        (word for word in words if len(word) >= SHORTEST), key=len, reverse=True
    )


def _without(names: list[str], text: str) -> str:
    """A text in which nothing of those stands: notes and refusals go into logs, and
    some quote the header.
    """
    for name in names:
        text = re.sub(
            rf"(?<!\w){re.escape(name)}(?!\w)",
            "[identifier]",
            text,
            flags=re.IGNORECASE,
        )
    return text


def _warning_text(warning) -> str:
    """One line, without the value: pydicom quotes those that it finds odd, and they may
    name a patient.
    """
    text = " ".join(str(warning.message).split())
    return re.sub(r"(Invalid value for VR \w+): .*", r"\1", text)[:300]


def _field(reader, ds: pydicom.Dataset, keyword: str, notes: list[str]):
    """A field by its reader; one that can't be read is empty and noted, and the image
    may still be good.
    """
    try:
        return reader(ds)
    except Exception as error:
        notes.append(f"{tag(keyword)} can't be read ({type(error).__name__})")
        return None


def _header(ds: pydicom.Dataset, notes: list[str]) -> dict:
    """The header's part of a row; a field that can't be read is empty and noted."""
    row = {}
    for column, keyword in HEADER.items():
        row[column] = _field(lambda ds, k=keyword: _text(ds, k), ds, keyword, notes)
    row["view"] = _field(view_of, ds, "ViewPosition", notes)
    age = _field(lambda ds: _text(ds, "PatientAge"), ds, "PatientAge", notes)
    row["age_years"] = _age_years(age or "", notes)
    row["transfer_syntax"] = _field(_syntax_name, ds, "TransferSyntaxUID", notes)
    return row


def _text(ds: pydicom.Dataset, keyword: str) -> str | None:
    value = ds.get(keyword)
    text = "" if value is None else str(value).strip()
    return text or None


def _syntax_name(ds: pydicom.Dataset) -> str:
    return pydicom.uid.UID(str(ds.file_meta.TransferSyntaxUID)).name


def _no_spacing(ds: pydicom.Dataset) -> str:
    stated, imager = (
        [str(p) for p in parts(lookup(ds, k))]
        for k in ("PixelSpacing", "ImagerPixelSpacing")
    )
    why = f"is {stated}" if stated else "is missing"
    at_detector = (
        f"; {imager} mm in {tag('ImagerPixelSpacing')} is at the detector"
        if imager
        else ""
    )
    return f"{tag('PixelSpacing')} {why}, so that the spacing is unknown{at_detector}"


def _age_years(text: str, notes: list[str]) -> float:
    """>>> _age_years("006M", [])
    0.5
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    if match:
        return int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]
    if text.strip():
        notes.append(f"{tag('PatientAge')} is {text!r}, not an age string such as 045Y")
    return np.nan


def _shape(image: Scan | Volume | None) -> dict:
    if image is None:
        return {}
    spacing = image.spacing_mm or getattr(image, "pixel_mm", None) or (None, None)
    shape = dict(zip(("rows", "columns"), image.shape[-2:], strict=True))
    row = {**shape, "frames": 1 if isinstance(image, Scan) else image.shape[0]}
    row |= {"row_mm": spacing[-2], "column_mm": spacing[-1]}
    if isinstance(image, Scan) and image.view:
        row["view"] = image.view
    return row
