"""A folder of slices to a `Volume`: ordered by place, never by file name."""

import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset
from tqdm.auto import tqdm

from radwb.data.dicom import check_image, decode, load
from radwb.data.header import count, kind_of, lookup, parts, refusal, spacing_of, tag
from radwb.data.limits import check_bytes
from radwb.data.pixels import one_if_alike, shown_as, stored_pixels, to_values
from radwb.data.place import along_normal, facing_of, stack
from radwb.data.scan import ReadError, Scan, Volume, lengths
from radwb.data.sniff import sniff

IDENTIFIERS = ("PatientID", "SeriesInstanceUID")
SHARED = (
    *IDENTIFIERS,
    "Rows",
    "Columns",
    "PixelSpacing",
    "PhotometricInterpretation",
)
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


def read_series(folder: Path) -> Scan | Volume:
    """A folder with one DICOM series -> Volume in the order of position.

    A folder with one picture that is no slice, such as an enhanced CT, an ultrasound
    loop or a film, gives that.
    """
    headers = _picture_headers(folder)
    paths = list(headers)
    head = headers[paths[0]]
    frames = count(head, "NumberOfFrames")
    if len(paths) == 1 and (frames > 1 or not lookup(head, "ImagePositionPatient")):
        return decode(load(paths[0]), paths[0])
    return _volume(headers, folder.name, str(folder))


def read_slices(paths: list[Path], name: str, *, regular: bool = True) -> Volume:
    """The files of one series, wherever they lie -> Volume in the order of position.

    Args:
        name: of the series, for errors.
        regular: False takes slices whose gaps differ, or that share a place; their
            affine is None, since no affine says where they lie.
    """
    headers = {path: load(path, pixels=False) for path in paths}
    return _volume(headers, name, str(paths[0].parent), regular)


def _volume(headers, name, source, regular=True):
    _check_one_series(headers, name)
    paths = list(headers)
    head = headers[paths[0]]
    places = _stacked(headers, "ImagePositionPatient")
    facing = _stacked(headers, "ImageOrientationPatient")
    spacing = spacing_of(head)
    if regular:
        affine, order = stack(places, facing, spacing, name)
        place = {}
    else:
        affine, order = None, np.argsort(along_normal(places, facing), kind="stable")
        place = {"pixel_mm": spacing}
    shape = (len(headers), int(head.Rows), int(head.Columns))
    size = " x ".join(map(str, shape))
    check_bytes(name, 4.0 * np.prod(shape, dtype=float), f"{size} voxels")
    voxels = np.empty(shape, np.float32)
    displays = []
    for d, n in enumerate(tqdm(order, f"reading {name}", delay=2, leave=False)):
        voxels[d], display = _slice(paths[n])
        displays.append(display)
    display = _common_display(displays)
    return Volume(voxels, affine, head.get("Modality"), source, **display, **place)


def _stacked(headers, keyword):
    """(D, ...) numbers of a field, one row a slice."""
    return np.array([parts(lookup(ds, keyword)) for ds in headers.values()], float)


def _slice(path):
    """(H, W) values of one file, and how they're to be shown."""
    ds = load(path)
    check_image(ds, path.name)
    raw = stored_pixels(ds, path)
    values = to_values(raw, ds, path.name)
    return values, shown_as(raw, values, ds)


def _common_display(displays):
    """How the slices are shown, of all of them."""
    ends = [display["padding"] for display in displays if display["padding"]]
    padding = None
    if ends:
        padding = (float(np.min(ends)), float(np.max(ends)))
    voi = sum((display["voi"] for display in displays), ())
    inverted = displays[0]["inverted"]
    return {"inverted": inverted, "padding": padding, "voi": one_if_alike(voi)}


def _picture_headers(folder):
    """Header of each picture in a folder.

    What is no picture (DICOMDIR, reports, presentation states, segmentations ...) is
    left out; a warning names it.
    """
    headers = {}
    others = []
    for path in _dicom_files(folder):
        ds = load(path, pixels=False)
        kind = kind_of(ds).name
        if "Rows" in ds and not any(word in kind for word in NO_SLICE):
            headers[path] = ds
        else:
            others.append(f"{path.name} ({kind})")
    if not headers:
        raise _no_pictures(folder, others)
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        warnings.warn(
            f"{folder.name}: left out, no slices: {', '.join(others[:5])}{more}",
            stacklevel=4,
        )
    return headers


def _no_pictures(folder, others):
    left_out = f" but {', '.join(others[:3])}" if others else ""
    advice = ""
    if any(path.is_dir() for path in folder.iterdir()):
        advice = ". Try the folders below it, one by one, or rw.curate.index"
    return ReadError(
        f"{folder.name}: expected a folder with one DICOM series, got no DICOM file in "
        f"it{left_out}{advice}"
    )


def series_headers(folder: Path) -> dict[Path, Dataset]:
    """Header of each slice of the one series in a folder.

    Raises:
        ReadError: a slice has no place, or they are of several patients or series.
    """
    headers = _picture_headers(folder)
    _check_one_series(headers, folder.name)
    return headers


def _check_one_series(headers, name):
    """Raise unless each slice has its place and all are one patient's series.

    Identifiers are counted, not quoted.
    """
    for path, ds in headers.items():
        check_place(ds, path.name)
    for keyword in SHARED:
        values = [str(lookup(ds, keyword)) for ds in headers.values()]
        different = sorted(set(values))
        if len(different) > 1:
            counts = {value: values.count(value) for value in different[:4]}
            got = f"{len(different)} different ones"
            if keyword not in IDENTIFIERS:
                got = str(counts)
            raise ReadError(
                f"{name}: expected one {tag(keyword)}, got {got}. Try one folder a "
                "series."
            )


def _dicom_files(folder):
    """The files of a folder that start like DICOM, by name."""
    paths = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if sniff(path) == "dicom":
                paths.append(path)
        except ReadError:
            continue  # a text or XML file beside the series
    return paths


def check_place(ds: Dataset, name: str, frame: int = 0) -> None:
    """Raise a ReadError unless a slice says where it lies."""
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if not parts(lookup(ds, keyword, frame)):
            reason = "is missing, so that the slice has no place in a volume"
            raise refusal(name, keyword, reason)
    spacing = parts(lookup(ds, "PixelSpacing", frame))
    if lengths(spacing) is None:
        texts = [str(part) for part in spacing]
        raise refusal(name, "PixelSpacing", f"is {texts}, not two positive lengths")
    for keyword, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        try:
            numbers = np.array(parts(lookup(ds, keyword, frame)), float)
        except (TypeError, ValueError):
            numbers = np.full(size, np.nan)
        if numbers.shape != (size,) or not np.isfinite(numbers).all():
            raise refusal(name, keyword, f"is {numbers.tolist()}, not {size} numbers")
    if facing_of(ds, frame) is None:
        reason = "is not two directions at right angles"
        raise refusal(name, "ImageOrientationPatient", reason)
