"""DICOM to `Scan` or `Volume`: checks first, then decode, modality LUT, VOI, inversion,
geometry.
"""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from radwb.data.decode import decode_pixels
from radwb.data.header import (
    aspect_of,
    finite,
    lookup,
    orientation_of,
    parts,
    spacing_of,
    tag,
)
from radwb.data.limits import check_claim, load_dataset, luminance
from radwb.data.scan import ReadError, Scan, Volume, to_display
from radwb.data.voi import voi_of

NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = (
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
)
AWAY = {  # from where a letter of PatientOrientation points, in LPS
    "L": np.array([-1, 0, 0]),
    "R": np.array([1, 0, 0]),
    "P": np.array([0, -1, 0]),
    "A": np.array([0, 1, 0]),
    "H": np.array([0, 0, -1]),
    "F": np.array([0, 0, 1]),
}
VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}


def load(path: Path, *, pixels: bool = True) -> pydicom.Dataset:
    """Read a data set, with or without preamble, and make sure that its transfer syntax
    is known.
    """
    ds = load_dataset(path, pixels=pixels)
    if (
        not any(k in ds for k in ("SOPClassUID", "Rows", "Modality"))
        and "MediaStorageSOPClassUID" not in ds.file_meta
    ):
        raise ReadError(
            f"{path.name}: starts like DICOM, but no (0008,0016) SOPClassUID or (0028,0010) Rows follows"
        )
    if (
        "TransferSyntaxUID" not in ds.file_meta
    ):  # no file meta group: the encoding that parsed is the one in use
        implicit, little = ds.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return ds


def decode(
    ds: pydicom.Dataset, path: Path, *, window: tuple[float, float] | None = None
) -> Scan | Volume:
    """Data set -> Scan or Volume; refuses what isn't a whole image."""
    check_image(ds, path.name)
    raw = stored_pixels(ds, path)
    values = to_values(raw, ds, path.name)  # (frames?, H, W) float32
    modality = ds.get("Modality") or None
    if values.ndim == 3:
        from radwb.data.series import frame_geometry

        affine, steps, order = frame_geometry(ds, len(values))
        about = shown_as(raw, values, ds)
        if len(about["voi"]) > 1:
            about["voi"] = tuple(about["voi"][n] for n in order)
        if affine is None:
            about |= {"pixel_mm": spacing_of(ds), "aspect": aspect_of(ds)}
        return Volume(values[order], affine, modality, str(path), steps, **about)
    shown = to_shown(raw, values, ds, window)
    scan = Scan(
        shown, spacing_of(ds), view_of(ds), modality, str(path), aspect=aspect_of(ds)
    )
    return turned(scan, ds)


def turned(scan: Scan, ds: pydicom.Dataset) -> Scan:
    """A slice with (0020,0037) ImageOrientationPatient as `Volume.slice` shows its
    series; a film as it's stored.
    """
    facing = facing_of(ds)
    orientation = orientation_of(ds)
    if facing and contradicts(orientation, facing):
        warnings.warn(
            f"{tag('PatientOrientation')} and {tag('ImageOrientationPatient')} contradict each other: sides unknown, "
            "shown as it's stored",
            stacklevel=3,
        )
        return scan
    if facing is None:
        warn_hung(orientation)
        return replace(scan, orientation=orientation)
    across, down = facing
    step = scan.spacing_mm or (scan.aspect, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.stack(
        [np.cross(across, down), down * step[0], across * step[1]], 1
    )
    plain = Volume(np.asarray(scan.pixels)[None], affine).slice(0, 0, (0, 1))
    spacing = scan.spacing_mm  # to the last digit, which the affine rounds
    if spacing and not np.allclose(plain.spacing_mm, spacing):
        spacing = spacing[::-1]
    return replace(
        plain,
        spacing_mm=spacing,
        view=scan.view,
        modality=scan.modality,
        source=scan.source,
    )


def contradicts(
    orientation: tuple[str, str] | None, facing: tuple[np.ndarray, np.ndarray]
) -> bool:
    """Whether a letter of PatientOrientation points away from where rows or columns run
    by ImageOrientationPatient.
    """
    pairs = zip(orientation or (), facing, strict=False)
    return any(
        AWAY[letter] @ direction > 0.2
        for letters, direction in pairs
        for letter in letters
    )


def warn_hung(orientation: tuple[str, str] | None) -> None:
    """Say when a film is stored mirrored, upside down or on its side: a model is shown
    it as it's stored.
    """
    if orientation is None:
        return
    along, down = (direction[0] for direction in orientation)
    if along in "RHF" or down in "HLR":
        stated = "\\".join(orientation)
        warnings.warn(
            f"{tag('PatientOrientation')} is {stated}, not as a film is hung (L\\F): shown as it's stored",
            stacklevel=4,
        )


def facing_of(ds: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """(3,) LPS directions of rows and columns from (0020,0037) ImageOrientationPatient,
    or None and a warning.
    """
    value = lookup(ds, "ImageOrientationPatient")
    if value is None:
        return None
    try:
        across, down = np.array(parts(value), float).reshape(2, 3)
    except (TypeError, ValueError):
        across = down = np.zeros(3)
    sizes = across @ across, down @ down
    if not np.allclose([*sizes, across @ down], [1, 1, 0], atol=1e-2):
        text = "\\".join(map(str, parts(value)))[:80]
        warnings.warn(
            f"{tag('ImageOrientationPatient')} is {text!r}, not two directions: sides unknown",
            stacklevel=2,
        )
        return None
    return across / np.sqrt(sizes[0]), down / np.sqrt(sizes[1])


def check_image(ds: pydicom.Dataset, name: str) -> None:
    """Raise unless the header describes pixels that the file really has, before any
    memory is taken for them.
    """
    kind = UID(
        str(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID") or "")
    )
    if ds.get("Modality") == "RTDOSE" or "RT Dose" in kind.name:
        raise ReadError(
            f"{name}: {tag('SOPClassUID')} is {kind.name}: a dose grid, not an image"
        )
    if not any(k in ds for k in PIXEL_KEYWORDS):
        about = f"; {tag('SOPClassUID')} is {kind.name}" if kind else ""
        raise ReadError(
            f"{name}: {tag('PixelData')} is missing: no image in the file{about}"
        )
    for keyword in NEEDED:
        if ds.get(keyword) in (None, ""):
            if keyword == "BitsStored" and "PixelData" not in ds:
                continue  # float pixel data have none
            raise ReadError(
                f"{name}: {tag(keyword)} is missing, so that the pixel data can't be understood"
            )
    check_claim(ds, name)
    check_photometric(ds, name)
    rows, columns, frames = (
        int(ds.Rows),
        int(ds.Columns),
        int(ds.get("NumberOfFrames") or 1),
    )
    samples = int(ds.get("SamplesPerPixel") or 1)
    if not ds.file_meta.TransferSyntaxUID.is_transfer_syntax:
        raise ReadError(
            f"{name}: (0002,0010) TransferSyntaxUID {ds.file_meta.TransferSyntaxUID} is not a known one"
        )
    data = next(ds[k].value for k in PIXEL_KEYWORDS if k in ds)
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        if "422" in ds.PhotometricInterpretation:
            samples = 2  # two pixels share their colour
        expected = math.ceil(
            frames * rows * columns * samples * int(ds.BitsAllocated) / 8
        )
        if len(data or b"") < expected:
            raise ReadError(
                f"{name}: {tag('PixelData')} has {len(data or b''):,} bytes where {frames} x {rows} x "
                f"{columns} pixels need {expected:,}: cut short, or a wrong header"
            )


def check_photometric(ds: pydicom.Dataset, name: str) -> None:
    """Raise unless the photometric interpretation is one that is read, with as many
    samples as it has.
    """
    photometric, samples = (
        str(ds.PhotometricInterpretation),
        int(ds.get("SamplesPerPixel") or 1),
    )
    if photometric not in (*GREY, *COLOURS, "PALETTE COLOR"):
        got = f"{tag('PhotometricInterpretation')} is {photometric[:40]!r}"
        raise ReadError(f"{name}: {got}, which isn't one that is read")
    needed = 3 if photometric in COLOURS else 1
    if samples != needed:
        raise ReadError(
            f"{name}: expected {needed} in {tag('SamplesPerPixel')} for {photometric}, got {samples}: "
            "colour or grey can't be told"
        )


def stored_pixels(ds: pydicom.Dataset, path: Path) -> np.ndarray:
    """Decode; the error names the compression, since that is what the reader can do
    something about.
    """
    low = lowest_bit(ds, path.name)
    stored, syntax = ds.get("BitsStored"), ds.file_meta.TransferSyntaxUID
    try:
        if low:
            ds.BitsStored = (
                stored + low
            )  # pydicom leaves out what lies above this many bits
        raw = decode_pixels(ds, path)
    except Exception as error:
        raise ReadError(
            f"{path.name}: the pixel data ({syntax.name}) can't be decoded: {str(error)[:300]}"
        ) from error
    finally:
        if low:
            ds.BitsStored = stored
    return without_overlay(raw >> low if low else raw, ds)


def lowest_bit(ds: pydicom.Dataset, name: str) -> int:
    """How many bits lie below those of a pixel: 0 unless (0028,0102) HighBit says
    otherwise, as in old files.
    """
    stored, high = int(ds.get("BitsStored") or 0), ds.get("HighBit")
    if not stored or high is None or stored - 1 == high:
        return 0
    if (
        not stored - 1 < high < int(ds.BitsAllocated)
        or ds.file_meta.TransferSyntaxUID.is_encapsulated
    ):
        raise ReadError(
            f"{name}: (0028,0102) HighBit is {high}, expected {stored - 1}, one below BitsStored {stored}"
        )
    return high - stored + 1


def without_overlay(raw: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Only the bits that (0028,0101) BitsStored names, since those above may hold an
    overlay.

    pydicom's later releases do so themselves; then this costs no memory.
    """
    stored, signed = int(ds.get("BitsStored") or 0), raw.dtype.kind == "i"
    if (
        raw.dtype.kind not in "iu"
        or not 0 < stored < 8 * raw.itemsize
        or ds.PhotometricInterpretation in COLOURS
    ):
        return raw
    top = 2 ** (stored - signed)
    if raw.max() < top and raw.min() >= -top * signed:
        return raw
    unused = 8 * raw.itemsize - stored
    return (raw << unused) >> unused  # of a signed type the sign is spread again


def to_values(raw: np.ndarray, ds: pydicom.Dataset, name: str) -> np.ndarray:
    """Stored values -> float32 after the modality LUT or rescale (HU for CT); colours
    -> luminance in [0, 1].
    """
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        raw = apply_color_lut(raw, ds)
    if raw.shape[-1] == 3 and (
        photometric == "PALETTE COLOR" or int(ds.get("SamplesPerPixel") or 1) == 3
    ):
        top = (
            2 ** int(ds.BitsStored) - 1
            if photometric != "PALETTE COLOR"
            else np.iinfo(raw.dtype).max
        )
        return luminance(raw, top)
    if "ModalityLUTSequence" in ds:
        return apply_modality_lut(raw, ds).astype(np.float32)
    slope, intercept = (lookup(ds, k) for k in ("RescaleSlope", "RescaleIntercept"))
    if (slope is None) != (intercept is None):
        absent = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise ReadError(
            f"{name}: {tag(absent)} is missing while its partner is there, so that the values have no zero"
        )
    if slope is None:
        return raw.astype(np.float32)
    return rescaled(raw, ds, name)


def rescaled(raw: np.ndarray, ds: pydicom.Dataset, name: str) -> np.ndarray:
    """Stored values times slope plus intercept; PET and enhanced objects may scale each
    frame by itself.
    """
    values = raw.astype(np.float32)
    for n, frame in enumerate(values[None] if raw.ndim == 2 else values):
        slope, intercept = (
            finite(ds, k, n) for k in ("RescaleSlope", "RescaleIntercept")
        )
        if slope is None or intercept is None:
            keyword = "RescaleSlope" if slope is None else "RescaleIntercept"
            got = str(lookup(ds, keyword, n))[:40]
            raise ReadError(
                f"{name}: {tag(keyword)} is {got!r}, not a finite number, so that the values have no scale"
            )
        if slope == 0:
            raise ReadError(
                f"{name}: {tag('RescaleSlope')} is 0, which would make all pixels equal"
            )
        frame[:] = frame * np.float32(slope) + np.float32(intercept)
    return values


def to_shown(
    raw: np.ndarray, values: np.ndarray, ds: pydicom.Dataset, window: tuple | None
) -> np.ndarray:
    """Values -> display values in [0, 1], bright = dense, padding and what is no number
    black.
    """
    if ds.PhotometricInterpretation not in GREY:
        return np.clip(values, 0, 1)
    background = padding_of(raw, ds) | missing(values)
    voi = None if window is not None else voi_of(ds)
    if voi:
        shown = voi(values)
    else:
        seen = values[~background] if not background.all() else np.zeros(1)
        shown = to_display(values, *(window or (float(seen.min()), float(seen.max()))))
    if ds.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(background, np.float32(0), np.clip(shown, 0, 1)).astype(np.float32)


def shown_as(raw: np.ndarray, values: np.ndarray, ds: pydicom.Dataset) -> dict:
    """How the slices of a Volume are shown: `inverted`, `padding` in its values, and
    `voi`, one a frame.
    """
    if ds.PhotometricInterpretation not in GREY:
        return {"inverted": False, "padding": None, "voi": ()}
    missing(values)
    padding = values[padding_of(raw, ds)]
    ends = (float(padding.min()), float(padding.max())) if padding.size else None
    frames = 1 if values.ndim == 2 else len(values)
    voi = tuple(voi_of(ds, n) for n in range(frames))
    voi = voi[:1] if len(set(voi)) == 1 else voi
    return {
        "inverted": ds.PhotometricInterpretation == "MONOCHROME1",
        "padding": ends,
        "voi": voi,
    }


def missing(values: np.ndarray) -> np.ndarray:
    """Bool like `values`: what is no finite number; a warning counts them."""
    absent = ~np.isfinite(values)
    if count := int(absent.sum()):
        warnings.warn(
            f"{count:,} of {values.size:,} pixels are no number (NaN or infinite): background",
            stacklevel=3,
        )
    return absent


def padding_of(raw: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Bool like `raw`: what (0028,0120) PixelPaddingValue, or its range, marks as not
    part of the image.
    """
    value = finite(ds, "PixelPaddingValue")
    limit = finite(ds, "PixelPaddingRangeLimit")
    if value is None or raw.dtype.kind not in "iu":
        return np.zeros(raw.shape, bool)
    ends = [
        np.int64(v).astype(raw.dtype)
        for v in (value, value if limit is None else limit)
    ]
    return (raw >= min(ends)) & (raw <= max(ends))


def view_of(ds: pydicom.Dataset) -> str | None:
    try:
        code = str(ds.get("ViewPosition") or "")
    except (
        Exception
    ) as error:  # bytes that can't be of its type: the image is still good
        warnings.warn(
            f"{tag('ViewPosition')} can't be read ({type(error).__name__})",
            stacklevel=2,
        )
        return None
    return VIEWS.get(code.strip().upper())
