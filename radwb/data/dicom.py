"""DICOM to `Scan` or `Volume`: checks first, then decode, modality LUT, window, inversion, geometry."""

import math
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from radwb.data.decode import decode_pixels
from radwb.data.limits import check_claim, load_dataset, luminance
from radwb.data.scan import ReadError, Scan, Volume, to_display

NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LAT": "LATERAL", "LATERAL": "LATERAL"}


def load(path: Path, *, pixels: bool = True) -> pydicom.Dataset:
    """Read a data set, with or without preamble, and make sure that its transfer syntax is known."""
    ds = load_dataset(path, pixels=pixels)
    if not any(k in ds for k in ("SOPClassUID", "Rows", "Modality")) and "MediaStorageSOPClassUID" not in ds.file_meta:
        raise ReadError(f"{path.name}: starts like DICOM, but no (0008,0016) SOPClassUID or (0028,0010) Rows follows")
    if "TransferSyntaxUID" not in ds.file_meta:  # no file meta group: the encoding that parsed is the one in use
        implicit, little = ds.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return ds


def decode(ds: pydicom.Dataset, path: Path, *, window: tuple[float, float] | None = None) -> Scan | Volume:
    """Data set -> Scan or Volume; refuses what isn't a whole image."""
    check_image(ds, path.name)
    raw = stored_pixels(ds, path)
    values = to_values(raw, ds, path.name)  # (frames?, H, W) float32
    modality = ds.get("Modality") or None
    if values.ndim == 3:
        from radwb.data.series import frame_geometry

        affine, order = frame_geometry(ds, len(values))
        return Volume(values[order], affine, modality, str(path))
    shown = to_shown(raw, values, ds, window)
    return Scan(shown, spacing_of(ds), view_of(ds), modality, str(path))


def check_image(ds: pydicom.Dataset, name: str) -> None:
    """Raise unless the header describes pixels that the file really has, before any memory is taken for them."""
    kind = UID(str(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID") or ""))
    if ds.get("Modality") == "RTDOSE" or "RT Dose" in kind.name:
        raise ReadError(f"{name}: {tag('SOPClassUID')} is {kind.name}: a dose grid, not an image")
    if not any(k in ds for k in PIXEL_KEYWORDS):
        about = f"; {tag('SOPClassUID')} is {kind.name}" if kind else ""
        raise ReadError(f"{name}: {tag('PixelData')} is missing: no image in the file{about}")
    for keyword in NEEDED:
        if ds.get(keyword) in (None, ""):
            if keyword == "BitsStored" and "PixelData" not in ds:
                continue  # float pixel data have none
            raise ReadError(f"{name}: {tag(keyword)} is missing, so that the pixel data can't be understood")
    check_claim(ds, name)
    rows, columns, frames = int(ds.Rows), int(ds.Columns), int(ds.get("NumberOfFrames") or 1)
    samples = int(ds.get("SamplesPerPixel") or 1)
    if not ds.file_meta.TransferSyntaxUID.is_transfer_syntax:
        raise ReadError(f"{name}: (0002,0010) TransferSyntaxUID {ds.file_meta.TransferSyntaxUID} is not a known one")
    data = next(ds[k].value for k in PIXEL_KEYWORDS if k in ds)
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        if "422" in ds.PhotometricInterpretation:
            samples = 2  # two pixels share their colour
        expected = math.ceil(frames * rows * columns * samples * int(ds.BitsAllocated) / 8)
        if len(data or b"") < expected:
            raise ReadError(f"{name}: {tag('PixelData')} has {len(data or b''):,} bytes where {frames} x {rows} x "
                            f"{columns} pixels need {expected:,}: cut short, or a wrong header")  # fmt: skip


def stored_pixels(ds: pydicom.Dataset, path: Path) -> np.ndarray:
    """Decode; the error names the compression, since that is what the reader can do something about."""
    try:
        return decode_pixels(ds, path)
    except Exception as error:
        syntax = ds.file_meta.TransferSyntaxUID.name
        raise ReadError(f"{path.name}: the pixel data ({syntax}) can't be decoded: {str(error)[:300]}") from error


def to_values(raw: np.ndarray, ds: pydicom.Dataset, name: str) -> np.ndarray:
    """Stored values -> float32 after the modality LUT or rescale (HU for CT); colours -> luminance in [0, 1]."""
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        raw = apply_color_lut(raw, ds)
    if raw.shape[-1] == 3 and (photometric == "PALETTE COLOR" or int(ds.get("SamplesPerPixel") or 1) == 3):
        top = 2 ** int(ds.BitsStored) - 1 if photometric != "PALETTE COLOR" else np.iinfo(raw.dtype).max
        return luminance(raw, top)
    if "ModalityLUTSequence" in ds:
        return apply_modality_lut(raw, ds).astype(np.float32)
    slope, intercept = (lookup(ds, k) for k in ("RescaleSlope", "RescaleIntercept"))
    if (slope is None) != (intercept is None):
        absent = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise ReadError(f"{name}: {tag(absent)} is missing while its partner is there, so that the values have no zero")
    if slope is not None and float(slope) == 0:
        raise ReadError(f"{name}: {tag('RescaleSlope')} is 0, which would make all pixels equal")
    values = raw.astype(np.float32)
    if slope is None:
        return values
    if raw.ndim == 2:
        return values * np.float32(slope) + np.float32(intercept)
    for n in range(len(values)):  # PET and enhanced objects may scale each frame by itself
        values[n] = values[n] * float(lookup(ds, "RescaleSlope", n)) + float(lookup(ds, "RescaleIntercept", n))
    return values


def to_shown(raw: np.ndarray, values: np.ndarray, ds: pydicom.Dataset, window: tuple | None) -> np.ndarray:
    """Values -> display values in [0, 1], bright = dense, padding black."""
    if ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return np.clip(values, 0, 1)
    padding = padding_of(raw, ds)
    center, width = first(lookup(ds, "WindowCenter")), first(lookup(ds, "WindowWidth"))
    if window is not None:
        shown = to_display(values, *window)
    elif ds.get("VOILUTSequence"):
        table = ds.VOILUTSequence[0]
        shown = apply_voi(values.astype(np.int64), ds).astype(np.float32) / (2 ** int(table.LUTDescriptor[2]) - 1)
    elif center is not None and width is not None and float(width) > 0:
        shown = apply_window(values, float(center), float(width), ds.get("VOILUTFunction") or "LINEAR")
    else:
        seen = values[~padding] if not padding.all() else values
        shown = to_display(values, float(np.nanmin(seen)), float(np.nanmax(seen)))
    if ds.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(padding, np.float32(0), np.clip(np.nan_to_num(shown), 0, 1)).astype(np.float32)


def apply_window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """The three VOI functions of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, scaled to [0, 1]."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return to_display(values, center - width / 2, center + width / 2)
    return to_display(values, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)


def padding_of(raw: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """(H, W) bool: pixels that (0028,0120) PixelPaddingValue marks as not part of the image."""
    value = ds.get("PixelPaddingValue")
    if value is None or raw.dtype.kind not in "iu":
        return np.zeros(raw.shape, bool)
    ends = [np.array(v).astype(raw.dtype) for v in (value, first(ds.get("PixelPaddingRangeLimit", value)))]
    return (raw >= min(ends)) & (raw <= max(ends))


def lookup(ds: pydicom.Dataset, keyword: str, frame: int = 0):
    """A header value, at the top or in the functional groups of an enhanced object; None when absent or empty."""
    groups = [ds]
    for name, n in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = ds.get(name) or []
        if n < len(items):
            groups += [macro.value[0] for macro in items[n] if macro.VR == "SQ" and macro.value]
    return next((g.get(keyword) for g in groups if g.get(keyword) not in (None, "")), None)


def first(value):
    return value[0] if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) and len(value) else value


def spacing_of(ds: pydicom.Dataset, frame: int = 0) -> tuple[float, float] | None:
    """(row, column) mm in the patient from (0028,0030) PixelSpacing, or None.

    (0018,1164) ImagerPixelSpacing is at the detector, larger than in the patient, so it's never used for it.
    """
    spacing = lookup(ds, "PixelSpacing", frame)
    if not isinstance(spacing, (list, tuple, pydicom.multival.MultiValue)) or len(spacing) != 2:
        return None
    if not all(0 < float(s) < 1000 for s in spacing):
        return None
    return float(spacing[0]), float(spacing[1])


def view_of(ds: pydicom.Dataset) -> str | None:
    try:
        code = str(ds.get("ViewPosition") or "")
    except Exception as error:  # bytes that can't be of its type: the image is still good
        warnings.warn(f"{tag('ViewPosition')} can't be read ({type(error).__name__})", stacklevel=2)
        return None
    return VIEWS.get(code.strip().upper())


def tag(keyword: str) -> str:
    """>>> tag("PixelSpacing")
    '(0028,0030) PixelSpacing'
    """
    number = Tag(tag_for_keyword(keyword))
    return f"({number.group:04X},{number.element:04X}) {keyword}"
