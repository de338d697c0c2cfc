"""A film at about the size that is asked for, without all of its pixels on the way."""

import io
from functools import reduce
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEG2000Lossless

from radwb.data.codestream import check_frames
from radwb.data.dicom import check_image, decode, load
from radwb.data.header import AT_DETECTOR, count, parts
from radwb.data.names import local_path
from radwb.data.pixels import GREY
from radwb.data.read import read
from radwb.data.scan import ReadError, Scan, Volume, lengths
from radwb.data.sniff import sniff

PLAIN = (ExplicitVRLittleEndian, "1.2.840.10008.1.2")
JPEG_2000 = (JPEG2000Lossless, JPEG2000)
SPACINGS = ("PixelSpacing", *AT_DETECTOR)


def preview(path: str | Path, side: int) -> Scan | Volume:
    """As `read`, of a large DICOM film with fewer pixels, at least `side` each way.

    JPEG 2000 is decoded as far as that needs; plain pixels are averaged in blocks. Both
    come before the window and not behind it, so that grey levels differ a little from
    those of `read`. What can't be shrunk so is read whole.

    >>> preview(table["path"][0], 80).shape  # a PNG
    (160, 160)
    """
    path = local_path(path)
    if sniff(path) != "dicom":
        return read(path, truth=False)
    try:
        ds = load(path)
        small = _shrunk(ds, path.name, side)
        return read(path) if small is None else decode(small, path)
    # what a shortcut can't read, the whole way refuses with its reason
    except Exception:
        return read(path)


def _shrunk(ds: Dataset, name: str, side: int) -> Dataset | None:
    """The data set with fewer pixels; None where a mean of them would mean nothing."""
    factor = min(int(ds.Rows), int(ds.Columns)) // side
    bits = int(ds.BitsStored)
    grey = ds.PhotometricInterpretation in GREY and count(ds, "SamplesPerPixel") == 1
    whole_bits = ds.get("HighBit", bits - 1) == bits - 1 and bits > 1
    # a mean of padding and image is neither
    if factor < 2 or not grey or not whole_bits or "PixelPaddingValue" in ds:
        return None
    if count(ds, "NumberOfFrames") > 1 or int(ds.BitsAllocated) not in (8, 16):
        return None
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in PLAIN:
        values = _block_means(_plain(ds), factor)
    elif syntax in JPEG_2000:
        check_image(ds, name)
        check_frames(ds, name)
        values = _reduced(ds, factor)
    else:
        return None
    return _with_pixels(ds, values)


def _plain(ds):
    """(H, W) stored values; bits above BitsStored, which may be an overlay, refused."""
    sign = "i" if ds.PixelRepresentation else "u"
    kind = f"<{sign}{int(ds.BitsAllocated) // 8}"
    rows, columns = int(ds.Rows), int(ds.Columns)
    values = np.frombuffer(ds.PixelData, kind, rows * columns).reshape(rows, columns)
    reach = 1 << int(ds.BitsStored)
    if sign == "u" and values.max() >= reach:
        raise ReadError("bits above those stored")
    return values


def _block_means(values, factor):
    """(H // f, W // f) of the stored type; what is left at right and below is cut."""
    rows, columns = (n // factor for n in values.shape)
    means = values[: rows * factor, : columns * factor].astype(np.float32)
    # strided adds: four times as quick as a sum over an axis of a reshaped array
    means = reduce(np.add, [means[n::factor] for n in range(factor)])
    means = reduce(np.add, [means[:, n::factor] for n in range(factor)])
    return np.round(means / factor**2).astype(values.dtype)


def _reduced(ds, factor):
    """JPEG 2000 without its finest levels, twice as large as it needs to be.

    A level is sharper than the mean of its pixels, and shows noise as pixels.
    """
    frame = next(islice(generate_frames(ds.PixelData, number_of_frames=1), 1))
    with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as image:
        image.reduce = (factor // 2).bit_length() - 1
        values = np.asarray(image)
    bits = int(ds.BitsStored)
    # Pillow fills the 8 or 16 bits of its modes, and begins at 0 whatever the sign
    values = values >> (8 * values.itemsize - bits)
    if ds.PixelRepresentation:
        values = values.astype(np.int32) - (1 << bits - 1)
    sign = "i" if ds.PixelRepresentation else "u"
    return values.astype(f"<{sign}{int(ds.BitsAllocated) // 8}")


def _with_pixels(ds, values):
    """The data set with these pixels, and with the distances between them."""
    steps = [n / m for n, m in zip((ds.Rows, ds.Columns), values.shape, strict=True)]
    for keyword in SPACINGS:
        spacing = lengths(parts(ds.get(keyword)))
        if spacing:
            further = [mm * step for mm, step in zip(spacing, steps, strict=True)]
            setattr(ds, keyword, [float(f"{mm:.10g}") for mm in further])
    ds.Rows, ds.Columns = values.shape
    ds.PixelData = values.tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds
