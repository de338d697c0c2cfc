"""What reading one file may cost in memory, checked before anything is inflated."""

import gzip
import io
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from radwb.data.header import count
from radwb.data.scan import ReadError

DEFAULT = 2 << 30
FRAMES = 100_000  # an hour at 25 a second; each costs a look into the header
ELEMENT = 512  # bytes that pydicom needs for an element, however short it is
BULK = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")  # as bytes; others become objects
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
GZIP_RATIO = 1032  # deflate can't pack more bytes than that into one


def max_bytes() -> int:
    """The memory in bytes that reading one file may take: $RADWB_MAX_BYTES, else 2 GiB.

    It holds for all that `read` has in memory at once: the file, the decoded pixels,
    the float32 image and the copies on the way.
    """
    text = os.environ.get("RADWB_MAX_BYTES", "").strip()
    if not text:
        return DEFAULT
    try:
        limit = int(float(text))
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise ReadError(
            f"RADWB_MAX_BYTES: expected a number of bytes such as 8e9, got {text!r}"
        )
    return limit


def check_bytes(name: str, needed: float, what: str) -> None:
    """Raise a ReadError when `what` would take more bytes than the limit."""
    limit = max_bytes()
    if needed > limit:
        raise ReadError(
            f"{name}: {what} would take about {needed / 2**30:.2g} GiB of memory, more "
            f"than the limit of {limit / 2**30:.2g} GiB. If the file can be trusted, "
            f"set RADWB_MAX_BYTES={needed * 1.1:.2g}"
        )


def check_picture(name: str, rows: int, columns: int, channels: int = 1) -> None:
    """For a PNG or JPEG of a size that its header claims."""
    needed = rows * columns * (20 + 12 * channels)
    check_bytes(name, needed, f"an image of {rows} x {columns} pixels")


# DICOM


class _Metered(io.BufferedReader):
    """A file that stops pydicom when it has read more elements than fit into memory."""

    def __init__(self, raw, name):
        super().__init__(raw)
        self.short_name = name
        self.reads_left = max_bytes() // ELEMENT  # one an element, two with a value

    def read(self, size=-1):
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ReadError(
                f"{self.short_name}: has more elements than fit into the limit of "
                f"{max_bytes():,} bytes. If the file can be trusted, set "
                "RADWB_MAX_BYTES"
            )
        return super().read(size)


def load_dataset(path: Path, *, pixels: bool = True) -> pydicom.Dataset:
    """As `pydicom.dcmread(path, force=True)`, within the limit.

    Args:
        pixels: False stops before the pixel data.
    """
    if pixels:
        check_bytes(path.name, 2 * path.stat().st_size, "the file")
    with _Metered(path.open("rb", buffering=0), path.name) as file:
        preamble = read_preamble(file, True)
        meta = read_dataset(file, False, True, stop_when=_after_meta)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            ds = _inflated(file, path, preamble, meta, pixels)
        else:
            file.seek(0)
            ds = pydicom.dcmread(file, force=True, stop_before_pixels=not pixels)
    _check_elements(ds, path.name)
    return ds


def _after_meta(tag, vr, length):
    return tag >> 16 != 2


def _at_pixels(tag, vr, length):
    return tag in PIXEL_TAGS


def _inflated(file, path, preamble, meta, pixels):
    """A deflated data set, of which no more is inflated than may be."""
    body = io.BytesIO(_inflate(file.read(), path.name))
    metered = _Metered(body, path.name)
    stop = None if pixels else _at_pixels
    ds = read_dataset(metered, False, True, stop_when=stop)
    meta = pydicom.dataset.FileMetaDataset(meta)
    whole = pydicom.FileDataset(str(path), ds, preamble, meta, False, True)
    whole.set_original_encoding(False, True, ds.original_character_set)
    return whole


def _inflate(packed, name):
    """Raw deflate, up to a quarter of the limit: the data set is copied from it."""
    most = max_bytes() // 4
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = decompressor.decompress(packed, most + 1)
    if len(plain) > most:
        check_bytes(name, max(4 * len(plain), max_bytes() + 1), "what it inflates to")
    if not decompressor.eof:
        raise ReadError(f"{name}: the deflated data set is cut short")
    return plain


def _check_elements(ds, name):
    """Long texts, numbers and sequences become far larger as Python objects."""
    for tag in ds.keys():  # noqa: SIM118  iterating over ds itself would convert each
        element = ds.get_item(tag)
        length = getattr(element, "length", 0)
        if length * 64 <= max_bytes():
            continue
        vr = element.VR or _dictionary_vr(tag)
        if vr not in BULK and tag not in PIXEL_TAGS:
            check_bytes(name, 64 * length, f"the {vr} in {tag}")


def _dictionary_vr(tag):
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def check_claim(ds: pydicom.Dataset, name: str) -> None:
    """Refuse an image that its header makes larger than the limit.

    Counted are the stored and the decoded values twice, the float32 image, and for one
    frame at a time the decoder's and the window's copies.
    """
    rows, columns = int(ds.Rows), int(ds.Columns)
    frames = count(ds, "NumberOfFrames")
    samples = count(ds, "SamplesPerPixel")
    value_bytes = -(-int(ds.BitsAllocated) // 8)
    claim = f"{frames} x {rows} x {columns} pixels"
    if min(frames, rows, columns, samples, value_bytes) < 1:
        raise ReadError(f"{name}: claims an empty image of {claim}")
    if samples > 4 or value_bytes > 8:
        raise ReadError(f"{name}: claims {samples} samples of {8 * value_bytes} bits")
    if frames > FRAMES:
        raise ReadError(f"{name}: claims {frames:,} frames, more than {FRAMES:,}")
    if "PALETTE" in str(ds.PhotometricInterpretation):
        samples, value_bytes = 4, 2
    frame = rows * columns
    copies = 32 + 8 * samples
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        copies += 8 * samples
    stack = 8 if frames > 1 else 0
    needed = frames * frame * (2 * samples * value_bytes + stack) + frame * copies
    check_bytes(name, needed, claim)


def luminance(raw: np.ndarray, top: float) -> np.ndarray:
    """(F?, H, W, 3) stored colours -> (F?, H, W) float32 in [0, 1]; frame by frame."""
    frames = raw.reshape(-1, *raw.shape[-3:])  # (F, H, W, 3)
    grey = np.empty(frames.shape[:3], np.float32)
    for n, frame in enumerate(frames):
        grey[n] = frame @ np.array(LUMINANCE) / top
    return grey.reshape(raw.shape[:-1])


# NIfTI


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def check_nifti(path: Path) -> None:
    """Refuse a NIfTI that claims more than the limit, or than the file holds."""
    size = path.stat().st_size
    packed = is_gzip(path)
    with gzip.open(path) if packed else path.open("rb") as file:
        head = file.read(540)
    header = _nifti_header(head, path.name)
    shape = header.get_data_shape()
    voxels = np.prod(shape, dtype=float)
    width = header.get_data_dtype().itemsize
    offset = float(header["vox_offset"])
    claim = f"{' x '.join(map(str, shape))} voxels"
    if not 0 <= offset < 1 << 24:
        raise ReadError(f"{path.name}: claims that its voxels begin at byte {offset:g}")
    check_bytes(path.name, voxels * (4 + width) + 2 * offset, claim)
    held = size * GZIP_RATIO if packed else size
    if voxels * width + offset > held:
        raise ReadError(
            f"{path.name}: claims {claim} of {width} bytes, more than the file's "
            f"{size:,} bytes can hold: cut short, or a wrong header"
        )


def _nifti_header(head, name):
    """Of NIfTI-1 or -2, told apart by the size that stands first, in either order."""
    if len(head) < 348:
        raise ReadError(f"{name}: ends within its NIfTI header")
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise ReadError(
            f"{name}: expected a NIfTI in one file, got the header of a pair (.hdr and "
            ".img)"
        )
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if 540 in sizes and len(head) == 540:
        return nib.Nifti2Header(head, check=False)
    if 348 not in sizes:
        raise ReadError(f"{name}: expected a NIfTI header of 348 or 540 bytes")
    return nib.Nifti1Header(head[:348], check=False)
