"""Slices to a `Volume`: their order and their affine come from the patient's
coordinates, never from file names.
"""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID
from tqdm.auto import tqdm

from radwb.data.dicom import (
    check_image,
    decode,
    facing_of,
    load,
    shown_as,
    stored_pixels,
    to_values,
)
from radwb.data.header import lookup, parts, spacing_of, tag
from radwb.data.limits import check_bytes
from radwb.data.scan import ReadError, Scan, Volume, lengths

TILT = 0.5  # degrees; what is less is rounding of the positions
WHOSE = ("PatientID", "SeriesInstanceUID")
# in the name of a SOP class: what lies beside a series and is none of its slices
NO_SLICE = (
    "Segmentation",
    "RT ",
    "Parametric Map",
    "Presentation State",
    " SR",
    "Key Object",
    "Directory",
    "Raw Data",
)


def frame_geometry(
    ds: pydicom.Dataset, frames: int
) -> tuple[np.ndarray | None, tuple | None, np.ndarray]:
    """Affine, else the steps in mm as far as they're known, and the order of the frames
    of an enhanced object.
    """
    plain = np.arange(frames)
    places = [parts(lookup(ds, "ImagePositionPatient", n)) for n in range(frames)]
    facing = [parts(lookup(ds, "ImageOrientationPatient", n)) for n in range(frames)]
    spacing = spacing_of(ds)
    if (
        spacing is None
        or not all([*places, *facing])
        or "PerFrameFunctionalGroupsSequence" not in ds
    ):
        return None, None, plain
    try:
        affine, order = stack(
            np.array(places, float), np.array(facing, float), spacing, "frames"
        )
    except (
        ReadError,
        ValueError,
        TypeError,
    ):  # a time series, several orientations, or no numbers
        warnings.warn(
            "the frames' places are no stack: place and orientation unknown",
            stacklevel=3,
        )
        return None, None, plain
    return affine, None, order


def stack(
    places: np.ndarray, facing: np.ndarray, spacing: tuple, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Order slices along their normal and give the affine of the stack.

    Args:
        places: (D, 3) ImagePositionPatient; facing: (D, 6) ImageOrientationPatient.
        spacing: (row, column) mm.
    Returns:
        affine (4, 4) to LPS mm, and the order (D,) from low to high along the normal.
    Raises:
        ReadError: orientations differ, slices share a place, or the gaps differ.
    """
    across, down = facing[0, :3], facing[0, 3:]
    if np.abs(facing - facing[0]).max() > 1e-3:
        raise ReadError(
            f"{name}: {tag('ImageOrientationPatient')} differs between the slices: not one stack"
        )
    along = places @ np.cross(across, down)
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    if len(gaps) and gaps.min() < 1e-3:
        place = along[order][gaps.argmin()]
        raise ReadError(
            f"{name}: two slices share the place {place:.2f} mm ({(gaps < 1e-3).sum()} pairs do)"
        )
    if len(gaps) and gaps.max() > 1.02 * np.median(gaps) + 0.02:
        at = int(gaps.argmax())
        raise ReadError(
            f"{name}: expected equal gaps of {np.median(gaps):.3g} mm, got {gaps.max():.3g} mm after slice "
            f"{at + 1} of {len(along)}: is a slice missing?"
        )
    affine = np.eye(4)
    step = (
        (places[order[-1]] - places[order[0]]) / max(1, len(order) - 1)
        if len(gaps)
        else np.cross(across, down)
    )
    affine[:3] = np.stack(
        [step, down * spacing[0], across * spacing[1], places[order[0]]], axis=1
    )
    warn_tilt(affine, name)
    return affine, order


def warn_tilt(affine: np.ndarray, name: str) -> None:
    """Say when the slices are not stacked along their normal: every cut across them is
    then a sheared patient.
    """
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    normal = np.cross(steps[:, 1], steps[:, 2])
    normal /= np.linalg.norm(normal)
    degrees = float(np.degrees(np.arccos(np.clip(abs(normal @ steps[:, 0]), 0, 1))))
    if degrees > TILT:
        warnings.warn(
            f"{name}: the slices are stacked {degrees:.1f} degrees off their normal (gantry tilt): the affine is "
            "right, and cuts across the slices show the patient sheared",
            stacklevel=3,
        )


def read_series(folder: Path) -> Scan | Volume:
    """A folder with one DICOM series -> Volume in the order of position, whatever the
    files' names or numbers.

    A folder with one picture that is no slice, such as an enhanced CT, an ultrasound
    loop or a film, gives that.
    """
    headers = picture_headers(folder)
    head, paths = next(iter(headers.values())), list(headers)
    if len(paths) == 1 and (
        int(head.get("NumberOfFrames") or 1) > 1
        or not lookup(head, "ImagePositionPatient")
    ):
        return decode(load(paths[0]), paths[0])
    check_one_series(headers, folder.name)
    places, facing = (
        np.array([parts(lookup(ds, k)) for ds in headers.values()], float)
        for k in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    affine, order = stack(places, facing, spacing_of(head), folder.name)
    shape = (len(headers), int(head.Rows), int(head.Columns))
    check_bytes(
        folder.name,
        4.0 * np.prod(shape, dtype=float),
        " x ".join(map(str, shape)) + " voxels",
    )
    voxels, shown = np.empty(shape, np.float32), []
    for d, n in enumerate(tqdm(order, f"reading {folder.name}", delay=2, leave=False)):
        ds = load(paths[n])
        check_image(ds, paths[n].name)
        raw = stored_pixels(ds, paths[n])
        voxels[d] = to_values(raw, ds, paths[n].name)
        shown.append(shown_as(raw, voxels[d], ds))
    return Volume(voxels, affine, head.get("Modality"), str(folder), **together(shown))


def together(shown: list[dict]) -> dict:
    """How the slices are shown, of all of them."""
    ends = [one["padding"] for one in shown if one["padding"]]
    voi = sum((one["voi"] for one in shown), ())
    return {
        "inverted": shown[0]["inverted"],
        "padding": (min(low for low, _ in ends), max(high for _, high in ends))
        if ends
        else None,
        "voi": voi[:1] if len(set(voi)) == 1 else voi,
    }


def picture_headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    """Header of each picture in a folder.

    What is no picture (DICOMDIR, reports, presentation states, segmentations ...) is
    left out; a warning names it.
    """
    headers, beside = {}, []
    for path in dicom_files(folder):
        ds = load(path, pixels=False)
        kind = UID(
            str(
                ds.get("SOPClassUID")
                or ds.file_meta.get("MediaStorageSOPClassUID")
                or ""
            )
        )
        if "Rows" not in ds or any(word in kind.name for word in NO_SLICE):
            beside.append(f"{path.name} ({kind.name})")
        else:
            headers[path] = ds
    if not headers:
        left_out = f" but {', '.join(beside[:3])}" if beside else ""
        below = any(path.is_dir() for path in folder.iterdir())
        advice = (
            ". Try the folders below it, one by one, or rw.curate.index"
            if below
            else ""
        )
        raise ReadError(
            f"{folder.name}: expected a folder with one DICOM series, got no DICOM file in it{left_out}{advice}"
        )
    if beside:
        more = f" and {len(beside) - 5} more" if len(beside) > 5 else ""
        warnings.warn(
            f"{folder.name}: left out, no slices: {', '.join(beside[:5])}{more}",
            stacklevel=4,
        )
    return headers


def series_headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    """Header of each slice of the one series in a folder.

    Raises:
        ReadError: a slice has no place, or they are of several patients or series.
    """
    headers = picture_headers(folder)
    check_one_series(headers, folder.name)
    return headers


def check_one_series(headers: dict[Path, pydicom.Dataset], name: str) -> None:
    """Raise unless each slice has its place and all are one patient's series;
    identifiers are counted, not quoted.
    """
    for path, ds in headers.items():
        check_place(ds, path.name)
    for keyword in (
        *WHOSE,
        "Rows",
        "Columns",
        "PixelSpacing",
        "PhotometricInterpretation",
    ):
        values = [str(lookup(ds, keyword)) for ds in headers.values()]
        different = sorted(set(values))
        if len(different) > 1:
            counts = {v: values.count(v) for v in different[:4]}
            got = f"{len(different)} different ones" if keyword in WHOSE else counts
            raise ReadError(
                f"{name}: expected one {tag(keyword)}, got {got}. Try one folder a series."
            )


def dicom_files(folder: Path) -> list[Path]:
    """The files of a folder that start like DICOM, by name."""
    from radwb.data.read import sniff

    paths = []
    for path in sorted(
        p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")
    ):
        try:
            if sniff(path) == "dicom":
                paths.append(path)
        except ReadError:
            continue  # a text or XML file beside the series
    return paths


def check_place(ds: pydicom.Dataset, name: str) -> None:
    """Raise unless a slice says where it lies."""
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if not parts(lookup(ds, keyword)):
            raise ReadError(
                f"{name}: {tag(keyword)} is missing, so that the slice has no place in a volume"
            )
    spacing = parts(lookup(ds, "PixelSpacing"))
    if lengths(spacing) is None:
        text = [str(s) for s in spacing]
        raise ReadError(
            f"{name}: {tag('PixelSpacing')} is {text}, not two positive lengths"
        )
    for keyword, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        try:
            numbers = np.array(parts(lookup(ds, keyword)), float)
        except (TypeError, ValueError):
            numbers = np.full(n, np.nan)
        if numbers.shape != (n,) or not np.isfinite(numbers).all():
            raise ReadError(
                f"{name}: {tag(keyword)} is {numbers.tolist()}, not {n} numbers"
            )
    if facing_of(ds) is None:
        raise ReadError(
            f"{name}: {tag('ImageOrientationPatient')} is not two directions at right angles"
        )
