"""`index`: every file of a folder becomes a row, also those that are refused."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from tqdm.auto import tqdm

from radwb.data.dicom import view_of
from radwb.data.header import lookup, parts, tag
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


def index(folder: str | Path) -> pd.DataFrame:
    """Read every file below a folder and give one row a file; it never stops at a bad one.

    >>> table = rw.curate.index("inbox")
    >>> table[table.refused == ""]                       # what can be used
    >>> table.loc[table.refused != "", ["path", "refused"]]

    Args:
        folder: searched with its subfolders; hidden files and linked folders are left out.
    Returns:
        The schema's columns (empty where a file doesn't say), DICOM header fields, rows, columns, frames, row_mm,
        column_mm, transfer_syntax, `refused` (the reason, "" for a file that reads) and `notes` (what is odd about it).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder, got {folder}. Try rw.data.read for one file.")
    hidden = (p for p in folder.rglob("*") if any(part.startswith(".") for part in p.relative_to(folder).parts))
    paths = sorted(p for p in set(folder.rglob("*")) - set(hidden) if not p.is_dir())
    rows = [_row(path) for path in tqdm(paths, "indexing", delay=2, leave=False)]
    shape = ["rows", "columns", "frames", "row_mm", "column_mm", "transfer_syntax", "refused", "notes"]
    others = [c for c in HEADER if c not in COLUMNS]
    return pd.DataFrame(rows, columns=[*COLUMNS, *others, *shape])


def _row(path: Path) -> dict:
    row = {"path": str(path), "report": None, "split": None, "refused": "", "notes": ""}
    if path.name.endswith(".truth.png"):
        return {**row, "refused": f"{path.name}: truth masks that belong to another image"}
    image, header = None, None
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        try:
            image, header = read_with_header(path)
        except ReadError as error:
            row["refused"], header = str(error), getattr(error, "header", None)
        notes = list(dict.fromkeys(" ".join(str(w.message).split()) for w in odd))
        if header is not None:
            row |= _header(header, notes)
            if image is not None and image.spacing_mm is None:
                notes.append(_no_spacing(header))
    return {**row, **_shape(image), "notes": "; ".join(notes)}


def _header(ds: pydicom.Dataset, notes: list[str]) -> dict:
    """The header's part of a row; a field that can't be read is empty and noted."""
    row = {}
    for column, keyword in HEADER.items():
        try:
            value = ds.get(keyword)
            row[column] = None if value is None or str(value).strip() == "" else str(value).strip()
        except Exception as error:
            row[column] = None
            notes.append(f"{tag(keyword)} can't be read ({type(error).__name__})")
    row["view"] = view_of(ds)
    row["age_years"] = _age_years(str(ds.get("PatientAge") or ""), notes)
    row["transfer_syntax"] = ds.file_meta.TransferSyntaxUID.name
    return row


def _no_spacing(ds: pydicom.Dataset) -> str:
    stated, imager = lookup(ds, "PixelSpacing"), lookup(ds, "ImagerPixelSpacing")
    why = "is missing" if stated is None else f"is {[str(p) for p in parts(stated)]}"
    at_detector = f"; {parts(imager)} mm in {tag('ImagerPixelSpacing')} is at the detector" if imager else ""
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
    spacing = image.spacing_mm or (None, None)
    shape = dict(zip(("rows", "columns"), image.shape[-2:], strict=True))
    row = {**shape, "frames": 1 if isinstance(image, Scan) else image.shape[0]}
    row |= {"row_mm": spacing[-2], "column_mm": spacing[-1]}
    if isinstance(image, Scan) and image.view:
        row["view"] = image.view
    return row
