"""Does a compressed frame's own header agree with Rows and Columns?

A decoder takes the memory that the compressed stream asks for, whatever the DICOM
header says: 1.5 kB of JPEG 2000 can ask for 4 GB.
"""

import struct
import warnings

import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from radwb.data.header import count, tag
from radwb.data.limits import check_bytes

J2K_START = b"\xff\x4f\xff\x51"  # start of codestream, then its size segment
NO_LENGTH = (0x01, *range(0xD0, 0xD9))  # JPEG markers without a segment
NO_FRAME = (0xC4, 0xC8, 0xCC)  # tables among the start-of-frame markers
J2K_TILE = 8192  # bytes that openjpeg keeps for each tile before it decodes any


def check_frames(ds: pydicom.Dataset, name: str) -> None:
    """Look at each frame's header before one is decoded.

    Raises:
        ValueError: a frame has no header that can be read, or one of another size.
    """
    expected = (int(ds.Rows), int(ds.Columns), count(ds, "SamplesPerPixel"))
    claimed = count(ds, "NumberOfFrames")
    offsets = None
    if "ExtendedOffsetTable" in ds and "ExtendedOffsetTableLengths" in ds:
        offsets = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
    frames = generate_frames(
        ds.PixelData, number_of_frames=claimed, extended_offsets=offsets
    )
    n = 0
    for n, frame in enumerate(frames, start=1):
        if n > claimed:
            warnings.warn(
                f"{name}: has more frames than the {claimed} of "
                f"{tag('NumberOfFrames')}; the others are left out",
                stacklevel=2,
            )
            return
        if ds.file_meta.TransferSyntaxUID == RLELossless:
            check_rle(frame, expected, int(ds.BitsAllocated), name)
            continue
        size = frame_size(frame, name)
        if size != expected:
            raise ValueError(
                f"expected {_times(expected)} (Rows x Columns x SamplesPerPixel), but "
                f"frame {n} is compressed as {_times(size)}"
            )
    if n < claimed:
        raise ValueError(f"expected {claimed} frames, got {n}: cut short")


def _times(shape):
    return " x ".join(map(str, shape))


def frame_size(frame: bytes, name: str) -> tuple[int, int, int]:
    """(rows, columns, components) in the header of a JPEG, JPEG-LS or JPEG 2000."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg_size(frame)
        if frame[4:8] == b"jP  ":
            frame = _jp2_content(frame)
        if frame[:4] == J2K_START:
            return _j2k_size(frame, name)
    except (struct.error, IndexError):
        pass
    raise ValueError("a compressed frame begins with no header that can be read")


def _jpeg_size(frame):
    """Of the first start-of-frame segment."""
    at = 2
    while True:
        if frame[at] != 0xFF:
            raise IndexError("no marker where one has to be")
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in NO_LENGTH:
            at += 2
        elif marker == 0xF7 or (marker & 0xF0 == 0xC0 and marker not in NO_FRAME):
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, components
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]


def _jp2_content(frame):
    """The code stream in the boxes of a JP2 file."""
    at = 0
    while True:
        length, kind = struct.unpack_from(">I4s", frame, at)
        header = 8
        if length == 1:
            length = struct.unpack_from(">Q", frame, at + 8)[0]
            header = 16
        if kind == b"jp2c":
            return frame[at + header :]
        if length < header:
            raise IndexError("a box that ends before it begins")
        at += length


def _j2k_size(frame, name):
    """Of the SIZ segment; its tiles and components are counted against the limit."""
    # right, bottom, left, top of the image; width, height, left, top of the tiles
    *fields, components = struct.unpack_from(">8IH", frame, 8)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = fields
    if not tile_width or not tile_height:
        raise IndexError("tiles of no size")
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    tiles = across * down
    check_bytes(name, tiles * J2K_TILE * max(1, components), f"{tiles:,} tiles")
    return bottom - top, right - left, components


def check_rle(frame: bytes, expected: tuple, bits: int, name: str) -> None:
    """A run of 2 bytes can become 128: unpack no segment beyond the frame's pixels."""
    rows, columns, samples = expected
    if len(frame) < 64:
        raise ValueError("an RLE frame is shorter than its header")
    count, *starts = struct.unpack_from("<16L", frame)
    if count != samples * -(-bits // 8):
        raise ValueError(f"an RLE frame has {count} segments for {samples} samples")
    if 64 * len(frame) < 64 << 20:
        return
    ends = [*starts[1:count], len(frame)]
    for start, end in zip(starts[:count], ends, strict=True):
        if rle_length(frame[start:end], rows * columns) > rows * columns + 1:
            raise ValueError("an RLE segment unpacks to more than the frame's pixels")


def rle_length(segment: bytes, most: int) -> int:
    """How many bytes a segment unpacks to; counting stops beyond `most` + 1."""
    at = 0
    total = 0
    while at < len(segment) and total <= most + 1:
        head = segment[at]
        at += 2
        if head < 128:
            total += head + 1
            at += head
        elif head > 128:
            total += 257 - head
        else:
            at -= 1
    return total
