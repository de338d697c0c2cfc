"""`index`: every file of a folder becomes a row, also those that are refused."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from tqdm.auto import tqdm

from radwb.curate.journal import Journal, state_of
from radwb.curate.workers import as_done
from radwb.data.dicom import view_of
from radwb.data.header import lookup, parts, tag
from radwb.data.names import local_path, path_text, printable
from radwb.data.read import read_with_header
from radwb.data.scan import ReadError, Scan
from radwb.data.table import COLUMNS

# column <- DICOM keyword
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
}
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
PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}


def index(folder: str | Path, *, workers: Any = 1) -> pd.DataFrame:
    """Make your own folder a table: one row a file, whatever it holds.

    It never stops at a bad file. Stopped by Ctrl-C or killed, it keeps the rows so far
    in the cache ($RADWB_CACHE), and the next call goes on, whatever its workers.

    >>> path = rw.data.write_png(rw.data.Scan(scan.pixels), "inbox/a.png")
    >>> _ = Path("inbox/notes.txt").write_text("hello")
    >>> index("inbox")["refused"].str[:40].tolist()  # "" is what can be used
    ['', 'notes.txt: expected DICOM, NIfTI, PNG or']

    Args:
        folder: searched with its subfolders; hidden files are left out. A folder that
            can't be entered, and one that is only a link, is a row that is refused.
        workers: processes that read, None = one a core; the table is the same. Each
            may take $RADWB_MAX_BYTES. With several, a file that ends its process is a
            row that is refused. A `distributed.Client` (extra `scale`) gives the work
            to a Dask cluster that sees the folder.
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
    paths, not_entered = _walk(folder)
    rows = [*_rows(folder, paths, workers), *not_entered]
    rows.sort(key=lambda row: row["path"])
    return pd.DataFrame(rows, columns=columns)


def _walk(folder):
    """Files below a folder in order, and a row for each folder that isn't entered."""
    paths = []
    not_entered = []

    def refuse(error):
        why = error.strerror or type(error).__name__
        path = Path(error.filename or folder)
        not_entered.append(_refused(path, f"the folder can't be entered ({why})"))

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                why = "a linked folder, not followed. Try index on the folder"
                not_entered.append(_refused(path, why))
        paths += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(paths), not_entered


def _rows(folder, paths, workers):
    """A row a file, those of an index that was stopped taken from its journal."""
    journal = Journal(folder)
    keys = {path: state_of(path) for path in paths}
    unread = [path for path in paths if keys[path] not in journal.rows]
    done = len(paths) - len(unread)
    whole = False
    try:
        rows = as_done(_guarded_row, unread, workers, lost=_ended_its_process)
        bar = tqdm(rows, "indexing", len(paths), initial=done, delay=2, leave=False)
        for n, row in bar:
            journal.add(keys[unread[n]], row)
            done += 1
        whole = True
    except KeyboardInterrupt as stop:
        stop.add_note(
            f"{done} of {len(paths)} files are kept; index of the same folder "
            "goes on from there."
        )
        raise
    finally:
        journal.close(whole=whole)
    return [journal.rows[keys[path]] for path in paths]


def _ended_its_process(path):
    return _refused(path, "damaged or not supported (its reader crashed)")


def _refused(path, why):
    blank = {"path": path_text(path), "report": None, "split": None, "notes": ""}
    return {**blank, "refused": printable(f"{path.name}: {why}")}


def _guarded_row(path):
    """Whatever a file does to the code below, it becomes a row."""
    try:
        row = _row(path)
    except Exception as error:
        text = f"{type(error).__name__}: {str(error)[:300]}"
        row = _refused(path, f"damaged or not supported ({text})")
    for column, value in row.items():
        if isinstance(value, str) and column != "path":
            row[column] = " ".join(printable(value).split())
    return row


def _row(path):
    if path.name.endswith(".truth.png"):
        return _refused(path, "truth masks that belong to another image")
    row = {**_refused(path, ""), "refused": ""}
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image, header = read_with_header(path)
        except ReadError as error:
            image, header = None, getattr(error, "header", None)
            row["refused"] = str(error)
        names = []
        if header is not None:
            row |= _header(header, notes)
            names = _identifiers(header)
            if image is not None and _spacing(image) is None:
                notes.append(_no_spacing(header, caught, notes))
    notes = [_without(names, note) for note in [*map(_warning_text, caught), *notes]]
    row["refused"] = _without(names, row["refused"])
    if image is not None:
        row |= _shape(image)
    different = list(dict.fromkeys(filter(None, notes)))
    row["notes"] = "; ".join(different[:NOTES])
    return row


def _identifiers(ds):
    """What names the patient in a header, the longest first, also parts of a name."""
    words = set()
    for keyword in NAMING:
        text = str(_field(ds.get, keyword, keyword, []) or "")
        words |= {text, *re.split(r"[\\^=\s]", text)}
    words = {word.strip() for word in words}
    long = (word for word in words if len(word) >= SHORTEST)
    return sorted(long, key=len, reverse=True)


def _without(names, text):
    """A text in which nothing of those stands.

    Notes and refusals go into logs, and some quote the header.
    """
    for name in names:
        whole_word = rf"(?<!\w){re.escape(name)}(?!\w)"
        text = re.sub(whole_word, "[identifier]", text, flags=re.IGNORECASE)
    return text


def _warning_text(warning):
    """One line, without the value.

    pydicom quotes those that it finds odd, and they may name a patient.
    """
    text = " ".join(str(warning.message).split())
    return re.sub(r"(Invalid value for VR \w+): .*", r"\1", text)[:300]


def _field(reader, argument, keyword, notes):
    """A field by its reader; one that can't be read is empty and noted."""
    try:
        return reader(argument)
    except Exception as error:
        notes.append(f"{tag(keyword)} can't be read ({type(error).__name__})")
        return None


def _header(ds, notes):
    """The header's part of a row; a field that can't be read is empty and noted."""

    def text(keyword):
        value = ds.get(keyword)
        return None if value is None else str(value).strip() or None

    row = {}
    for column, keyword in HEADER.items():
        row[column] = _field(text, keyword, keyword, notes)
    row["view"] = _field(view_of, ds, "ViewPosition", notes)
    age = _field(text, "PatientAge", "PatientAge", notes)
    row["age_years"] = _age_years(age or "", notes)
    row["transfer_syntax"] = _field(_syntax_name, ds, "TransferSyntaxUID", notes)
    return row


def _syntax_name(ds):
    return pydicom.uid.UID(str(ds.file_meta.TransferSyntaxUID)).name


def _no_spacing(ds, caught, notes):
    """A note that says why no spacing is known."""
    note = _field(_spacing_note, ds, "PixelSpacing", notes)
    if note is None:
        note = "the spacing is unknown"
    if any(tag("PixelSpacing") in str(warning.message) for warning in caught):
        return note.partition("; ")[2]  # reading it said the rest already
    return note


def _spacing_note(ds):
    spacing, imager = (
        [str(part) for part in parts(lookup(ds, keyword))]
        for keyword in ("PixelSpacing", "ImagerPixelSpacing")
    )
    why = f"is {spacing}" if spacing else "is missing"
    note = f"{tag('PixelSpacing')} {why}, so that the spacing is unknown"
    if imager:
        note += f"; {imager} mm in {tag('ImagerPixelSpacing')} is at the detector"
    return note


def _age_years(text, notes):
    """Of a DICOM age string.

    >>> _age_years("006M", [])
    0.5
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    if match:
        return int(match[1]) / PER_YEAR[match[2]]
    if text.strip():
        notes.append(f"{tag('PatientAge')} is {text!r}, not an age string such as 045Y")
    return np.nan


def _spacing(image):
    """Steps in mm, the last two along rows and columns; None = not known."""
    return image.spacing_mm or getattr(image, "pixel_mm", None)


def _shape(image):
    *frames, rows, columns = image.shape
    row_mm, column_mm = (_spacing(image) or (None, None))[-2:]
    values = (rows, columns, *(frames or [1]), row_mm, column_mm)
    row = dict(zip(SHAPE, values, strict=True))
    if isinstance(image, Scan) and image.view:
        row["view"] = image.view
    return row
