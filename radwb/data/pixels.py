"""Stored pixels of a DICOM file to values with a unit, and how they're to be shown."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut

from radwb.data.decode import decode_pixels
from radwb.data.header import finite, lookup, refusal
from radwb.data.limits import luminance
from radwb.data.scan import ReadError
from radwb.data.voi import voi_of

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
RESCALE = ("RescaleSlope", "RescaleIntercept")


def stored_pixels(ds: pydicom.Dataset, path: Path) -> np.ndarray:
    """Decode; an error names the compression, about which one can do something."""
    lowest = _lowest_bit(ds, path.name)
    bits_stored = ds.get("BitsStored")
    try:
        if lowest:
            # pydicom leaves out what lies above this many bits
            ds.BitsStored = bits_stored + lowest
        raw = decode_pixels(ds, path)
    except Exception as error:
        compression = ds.file_meta.TransferSyntaxUID.name
        raise ReadError(
            f"{path.name}: the pixel data ({compression}) can't be decoded: "
            f"{str(error)[:300]}"
        ) from error
    finally:
        if lowest:
            ds.BitsStored = bits_stored
    if lowest:
        raw = raw >> lowest
    return without_overlay(raw, ds)


def _lowest_bit(ds, name):
    """How many bits lie below a pixel's: 0 unless HighBit says otherwise."""
    bits_stored = int(ds.get("BitsStored") or 0)
    high = ds.get("HighBit")
    if not bits_stored or high is None or bits_stored - 1 == high:
        return 0
    packed = ds.file_meta.TransferSyntaxUID.is_encapsulated
    if packed or not bits_stored - 1 < high < int(ds.BitsAllocated):
        expected = f"{bits_stored - 1}, one below BitsStored {bits_stored}"
        raise refusal(name, "HighBit", f"is {high}, expected {expected}")
    return high - bits_stored + 1


def without_overlay(raw: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Only the bits of BitsStored, since those above may hold an overlay.

    pydicom's later releases do so themselves; then this costs no memory.
    """
    if raw.dtype.kind not in "iu" or ds.PhotometricInterpretation in COLOURS:
        return raw
    unused = 8 * raw.itemsize - int(ds.get("BitsStored") or 0)
    if not 0 < unused < 8 * raw.itemsize:
        return raw
    possible = np.iinfo(raw.dtype)
    if raw.max() <= possible.max >> unused and raw.min() >= possible.min >> unused:
        return raw
    return (raw << unused) >> unused  # of a signed type the sign is spread again


def to_values(raw: np.ndarray, ds: pydicom.Dataset, name: str) -> np.ndarray:
    """Stored values -> float32 after rescale (HU for CT); of colours the luminance."""
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(raw, ds)
        return luminance(colours, np.iinfo(colours.dtype).max)
    if ds.PhotometricInterpretation in COLOURS:
        return luminance(raw, 2 ** int(ds.BitsStored) - 1)
    if "ModalityLUTSequence" in ds:
        return apply_modality_lut(raw, ds).astype(np.float32)
    absent = [keyword for keyword in RESCALE if lookup(ds, keyword) is None]
    if len(absent) == 1:
        reason = (
            "is missing while its partner is there, so that the values have no zero"
        )
        raise refusal(name, absent[0], reason)
    values = raw.astype(np.float32)
    if not absent:
        # PET and enhanced objects may scale each frame by itself
        for n, frame in enumerate(values.reshape(-1, *values.shape[-2:])):
            slope, intercept = (_factor(ds, keyword, n, name) for keyword in RESCALE)
            frame[:] = frame * slope + intercept
    return values


def _factor(ds, keyword, frame, name):
    number = finite(ds, keyword, frame)
    if number is None:
        text = str(lookup(ds, keyword, frame))[:40]
        reason = f"is {text!r}, not a finite number, so that the values have no scale"
        raise refusal(name, keyword, reason)
    if keyword == "RescaleSlope" and number == 0:
        raise refusal(name, keyword, "is 0, which would make all pixels equal")
    return np.float32(number)


def shown_as(raw: np.ndarray, values: np.ndarray, ds: pydicom.Dataset) -> dict:
    """How a Volume is shown: `inverted`, `padding` in its values, and `voi`."""
    if ds.PhotometricInterpretation not in GREY:
        return {"inverted": False, "padding": None, "voi": ()}
    warn_missing(values)
    padding = values[padding_of(raw, ds)]
    ends = None
    if padding.size:
        ends = (float(padding.min()), float(padding.max()))
    frames = 1 if values.ndim == 2 else len(values)
    voi = tuple(voi_of(ds, n) for n in range(frames))
    return {
        "inverted": ds.PhotometricInterpretation == "MONOCHROME1",
        "padding": ends,
        "voi": one_if_alike(voi),
    }


def one_if_alike(voi: tuple) -> tuple:
    """The VOI of all slices once where it's the same, else one a slice."""
    return voi[:1] if len(set(voi)) == 1 else voi


def warn_missing(values: np.ndarray) -> None:
    """Count what is no finite number: it's shown as background."""
    absent = int((~np.isfinite(values)).sum())
    if absent:
        warnings.warn(
            f"{absent:,} of {values.size:,} pixels are no number (NaN or infinite): "
            "background",
            stacklevel=4,
        )


def padding_of(raw: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Bool like `raw`: what is no part of the image.

    From (0028,0120) PixelPaddingValue, or its range to PixelPaddingRangeLimit.
    """
    value = finite(ds, "PixelPaddingValue")
    if value is None or raw.dtype.kind not in "iu":
        return np.zeros(raw.shape, bool)
    limit = finite(ds, "PixelPaddingRangeLimit")
    if limit is None:
        limit = value
    ends = np.array([value, limit]).astype(np.int64).astype(raw.dtype)
    return (raw >= ends.min()) & (raw <= ends.max())
