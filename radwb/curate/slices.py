"""The header facts of each slice that say to which volume it belongs, and where."""

import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset

from radwb.data.dicom import load
from radwb.data.header import count, finite, joined, kind_of, lookup, parts
from radwb.data.names import printable
from radwb.data.scan import ReadError
from radwb.data.series import NO_SLICE, check_place

# column <- DICOM keyword
TEXTS = {
    "patient_id": "PatientID",
    "study_id": "StudyInstanceUID",
    "series_id": "SeriesInstanceUID",
    "modality": "Modality",
    "photometric": "PhotometricInterpretation",
    "kernel": "ConvolutionKernel",
    "frame_of_reference": "FrameOfReferenceUID",
}
NUMBERS = {
    "rows": "Rows",
    "columns": "Columns",
    "slope": "RescaleSlope",
    "intercept": "RescaleIntercept",
}
PLACE = ("place", "facing", "row_mm", "column_mm")


def slices_of(path: Path) -> list[dict]:
    """A row for each slice of a DICOM file, which are its frames, or for what it lacks.

    `trouble` says why a row has no place: the file can't be read, is no picture, or
    doesn't say where it lies.
    """
    blank = without_place(path)
    try:
        return _rows(path, blank)
    # a damaged header can break pydicom anywhere
    except Exception as error:
        return [{**blank, "trouble": trouble("can't be read", error, path.name)}]


def without_place(path: Path, trouble: str = "") -> dict:
    """The row of a slice of which no more is known."""
    blank = dict.fromkeys([*TEXTS, *NUMBERS, *PLACE])
    return {**blank, "path": path, "localiser": False, "trouble": trouble}


def _rows(path, blank):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is said as a trouble
        ds = load(path, pixels=False)
        about = {**blank, **_about(ds)}
        kind = kind_of(ds).name
        if "Rows" not in ds or any(word in kind for word in NO_SLICE):
            return [{**about, "trouble": f"no slice ({kind or 'no pixels'})"}]
        return [_placed(ds, about, path.name, n) for n in range(_frames(ds))]


def trouble(name: str, error: Exception | str, file: str) -> str:
    """A problem in one line; which file it's about stands beside it."""
    why = " ".join(printable(str(error)).removeprefix(f"{file}: ").split())
    return f"{name} ({why[:200].replace(';', ',')})"


def _about(ds: Dataset):
    about = {}
    for column, keyword in TEXTS.items():
        about[column] = printable(joined(lookup(ds, keyword), 200)).strip() or None
    for column, keyword in NUMBERS.items():
        about[column] = finite(ds, keyword)
    image_type = joined(lookup(ds, "ImageType"), 200).upper()
    return {**about, "localiser": "LOCALIZER" in image_type}


def _frames(ds):
    """How many have a place of their own, whatever NumberOfFrames claims."""
    described = len(ds.get("PerFrameFunctionalGroupsSequence") or [])
    return max(1, min(count(ds, "NumberOfFrames"), described))


def _placed(ds, about, name, frame):
    """The row of one slice with its place, or with the trouble that it has none."""
    try:
        check_place(ds, name, frame)
    except ReadError as error:
        return {**about, "trouble": trouble("no place", error, name)}
    row_mm, column_mm = (float(mm) for mm in parts(lookup(ds, "PixelSpacing", frame)))
    place, facing = (
        np.array(parts(lookup(ds, f"Image{what}Patient", frame)), float)
        for what in ("Position", "Orientation")
    )
    return {
        **about,
        "place": place,
        "facing": facing,
        "row_mm": row_mm,
        "column_mm": column_mm,
        "slope": finite(ds, "RescaleSlope", frame),
        "intercept": finite(ds, "RescaleIntercept", frame),
    }
