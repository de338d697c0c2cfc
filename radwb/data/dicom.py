"""DICOM to `Scan` or `Volume`: checks first, then pixels, values, display and place."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from radwb.data.header import (
    aspect_of,
    count,
    kind_of,
    orientation_of,
    refusal,
    spacing_of,
    tag,
    warn,
)
from radwb.data.limits import check_claim, load_dataset
from radwb.data.pixels import (
    COLOURS,
    GREY,
    padding_of,
    shown_as,
    stored_pixels,
    to_values,
)
from radwb.data.place import contradicts, facing_of, frame_geometry
from radwb.data.scan import ReadError, Scan, Volume

NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}


def load(path: Path, *, pixels: bool = True) -> pydicom.Dataset:
    """Read a data set, with or without preamble, whose encoding is then known."""
    ds = load_dataset(path, pixels=pixels)
    known = any(keyword in ds for keyword in ("SOPClassUID", "Rows", "Modality"))
    if not known and "MediaStorageSOPClassUID" not in ds.file_meta:
        raise ReadError(
            f"{path.name}: starts like DICOM, but no {tag('SOPClassUID')} or "
            f"{tag('Rows')} follows"
        )
    if "TransferSyntaxUID" not in ds.file_meta:
        # without a file meta group the encoding that parsed is the one in use
        implicit, little = ds.original_encoding
        syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else syntax
    return ds


def decode(
    ds: pydicom.Dataset, path: Path, *, window: tuple[float, float] | None = None
) -> Scan | Volume:
    """Data set -> Scan or Volume; refuses what isn't a whole image."""
    check_image(ds, path.name)
    raw = stored_pixels(ds, path)
    values = to_values(raw, ds, path.name)  # (frames?, H, W) float32
    if values.ndim == 3:
        return _frames(raw, values, ds, path)
    return _film(raw, values, ds, path, window)


def _frames(raw, values, ds, path):
    affine, order = frame_geometry(ds, len(values))
    look = shown_as(raw, values, ds)
    if len(look["voi"]) > 1:
        look["voi"] = tuple(look["voi"][n] for n in order)
    if affine is None:
        look |= {"pixel_mm": spacing_of(ds), "aspect": aspect_of(ds)}
    modality = ds.get("Modality") or None
    return Volume(values[order], affine, modality, str(path), **look)


def _film(raw, values, ds, path, window):
    """A picture as the only slice of a volume, so that a file looks as its series does.

    A film is shown as it's stored, a slice with (0020,0037) ImageOrientationPatient as
    `Volume.slice` turns its series.
    """
    look = shown_as(raw, values, ds)
    if ds.PhotometricInterpretation in GREY:
        values[padding_of(raw, ds)] = np.nan
    else:
        window = (0, 1)
    spacing = spacing_of(ds)
    view = view_of(ds)
    modality = ds.get("Modality") or None
    aspect = aspect_of(ds)
    orientation, affine = _sides(ds, spacing or (aspect or 1.0, 1.0))
    place = {"pixel_mm": spacing, "aspect": aspect}
    volume = Volume(values[None], affine, modality, **place, **look)
    scan = volume.slice(0, 0, window)
    if affine is not None:
        orientation = scan.orientation
        turned = spacing and not np.allclose(scan.spacing_mm, spacing)
        # to the last digit, which the affine rounds
        spacing = spacing[::-1] if turned else spacing
    facts = {"view": view, "source": str(path), "orientation": orientation}
    return replace(scan, spacing_mm=spacing, **facts)


def _sides(ds, step):
    """Where rows and columns run: of a film letters, of a slice the affine."""
    facing = facing_of(ds)
    orientation = orientation_of(ds)
    if facing is None:
        _warn_hung(orientation)
        return orientation, None
    if contradicts(orientation, facing):
        warn(
            "PatientOrientation",
            f"and {tag('ImageOrientationPatient')} contradict each other: sides "
            "unknown, shown as it's stored",
        )
        return None, None
    across, down = facing
    affine = np.eye(4)
    normal = np.cross(across, down)
    affine[:3, :3] = np.stack([normal, down * step[0], across * step[1]], 1)
    return None, affine


def _warn_hung(orientation):
    """Say when a film is stored mirrored, upside down or on its side.

    A model is shown it as it's stored.
    """
    if orientation is None:
        return
    across, down = orientation
    if across[0] in "RHF" or down[0] in "HLR":
        stated = "\\".join(orientation)
        text = f"is {stated}, not as a film is hung (L\\F): shown as it's stored"
        warn("PatientOrientation", text)


def check_image(ds: pydicom.Dataset, name: str) -> None:
    """Raise unless the header describes pixels that the file really has.

    It's asked before any memory is taken for them.
    """
    _check_kind(ds, name)
    for keyword in NEEDED:
        if ds.get(keyword) not in (None, ""):
            continue
        if keyword == "BitsStored" and "PixelData" not in ds:
            continue  # float pixel data have none
        reason = "is missing, so that the pixel data can't be understood"
        raise refusal(name, keyword, reason)
    check_claim(ds, name)
    _check_photometric(ds, name)
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise refusal(name, "TransferSyntaxUID", f"{syntax} is not a known one")
    if not syntax.is_encapsulated:
        _check_length(ds, name)


def _check_kind(ds, name):
    kind = kind_of(ds)
    if ds.get("Modality") == "RTDOSE" or "RT Dose" in kind.name:
        raise refusal(name, "SOPClassUID", f"is {kind.name}: a dose grid, not an image")
    if not any(keyword in ds for keyword in PIXEL_KEYWORDS):
        named = f"; {tag('SOPClassUID')} is {kind.name}" if kind else ""
        raise refusal(name, "PixelData", f"is missing: no image in the file{named}")


def _check_photometric(ds, name):
    """Raise unless it is one that is read, with as many samples as it has."""
    photometric = str(ds.PhotometricInterpretation)
    if photometric not in (*GREY, *COLOURS, "PALETTE COLOR"):
        reason = f"is {photometric[:40]!r}, which isn't one that is read"
        raise refusal(name, "PhotometricInterpretation", reason)
    samples = count(ds, "SamplesPerPixel")
    needed = 3 if photometric in COLOURS else 1
    if samples != needed:
        raise ReadError(
            f"{name}: expected {needed} in {tag('SamplesPerPixel')} for {photometric}, "
            f"got {samples}: colour or grey can't be told"
        )


def _check_length(ds, name):
    """Raise where plain pixel data are shorter than the header says."""
    samples = count(ds, "SamplesPerPixel")
    if "422" in ds.PhotometricInterpretation:
        samples = 2  # two pixels share their colour
    frames = count(ds, "NumberOfFrames")
    shape = (frames, int(ds.Rows), int(ds.Columns))
    expected = math.ceil(math.prod(shape) * samples * int(ds.BitsAllocated) / 8)
    data = next(ds[keyword].value for keyword in PIXEL_KEYWORDS if keyword in ds)
    length = len(data or b"")
    if length < expected:
        pixels = " x ".join(map(str, shape))
        reason = (
            f"has {length:,} bytes where {pixels} pixels need {expected:,}: cut short, "
            "or a wrong header"
        )
        raise refusal(name, "PixelData", reason)


def view_of(ds: pydicom.Dataset) -> str | None:
    """The schema's view from (0018,5101) ViewPosition, or None."""
    try:
        code = str(ds.get("ViewPosition") or "")
    # bytes that can't be of its type: the image is still good
    except Exception as error:
        warn("ViewPosition", f"can't be read ({type(error).__name__})")
        return None
    return VIEWS.get(code.strip().upper())
