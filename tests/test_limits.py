"""No file takes more memory than the limit, which is stated and can be set."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_data import make_dicom

from radwb.data import ReadError, read, read_shards
from radwb.data.codestream import check_rle, frame_size, rle_length

PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
MB = 1e6

READER = """
import json, os, sys
from pathlib import Path
import radwb as rw
import radwb.curate
from radwb.data.dicom import decode
from radwb.data.nifti import read_nifti
import PIL.PngImagePlugin, PIL.JpegImagePlugin

def peak(reset=False):
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1e3

rw.data.read(sys.argv[1])
for path in sys.argv[2:]:
    before = peak(reset=True)
    try:
        reason = str(rw.data.read(path).shape)
    except rw.data.ReadError as error:
        reason = str(error)
    print(json.dumps([Path(path).name, peak() - before, reason]))
"""


def read_in_a_child(paths, limit=None) -> dict:
    """Name -> (MB at the peak of reading, shape or reason), in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory isn't measured: this system has no /proc/self/clear_refs")
    warm = make_dicom(paths[0].parent / "warm", PIXELS)
    environment = {k: v for k, v in os.environ.items() if k != "RADWB_MAX_BYTES"}
    if limit is not None:
        environment["RADWB_MAX_BYTES"] = str(limit)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        READER,
        str(warm),
        *map(str, paths),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (megabytes, reason) for name, megabytes, reason in lines}


def j2k(rows, columns, tile=None) -> bytes:
    """A code stream of a few bytes that claims a size."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS.astype(np.uint8)).save(buffer, "JPEG2000")
    stream = bytearray(buffer.getvalue())
    stream = stream[stream.index(b"\xff\x4f\xff\x51") :]
    tile_h, tile_w = tile or (rows, columns)
    struct.pack_into(">6I", stream, 8, columns, rows, 0, 0, tile_w, tile_h)
    return bytes(stream)


def compressed(path, frame, syntax, **fields):
    ds = pydicom.dcmread(make_dicom(path, PIXELS, **fields))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame] * int(ds.get("NumberOfFrames", 1)))
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    return path


def deflated(path, count):
    """A sound header, and then pixel data of nothing but zeros."""
    ds = pydicom.dcmread(make_dicom(path, PIXELS))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.PixelData = bytes(count)
    ds.save_as(path)
    return path


def many_elements(path, count):
    """Elements without a value: each is 8 bytes in the file and far more in memory."""
    whole = make_dicom(path, PIXELS).read_bytes()
    group = b"".join(
        struct.pack("<HH2sH", 0x0009 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0)
        for n in range(count)
    )
    path.write_bytes(whole + group)
    return path


def nifti(path, shape, offset=352):
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    plain = header.binaryblock + bytes(400)
    path.write_bytes(gzip.compress(plain) if path.suffix == ".gz" else plain)
    return path


def png(path, rows, columns, chunks=()):
    def chunk(kind, data):
        tail = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + tail

    body = zlib.compress(bytes(columns + 1) * min(rows, 2000), 9)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(chunk(*c) for c in chunks)
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )
    return path


def jpeg_claim(path, rows, columns):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS.astype(np.uint8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, rows, columns)
    path.write_bytes(data)
    return path


def sparse(path, size):
    """A file that claims gigabytes and takes a few kB on the disk."""
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def bombs(folder) -> list[Path]:
    eight = dict(BitsAllocated=8, BitsStored=8, HighBit=7)
    big = dict(Rows=14000, Columns=14000, **eight)
    text = b"radwb\0\0" + zlib.compress(bytes(200_000_000), 9)
    return [
        compressed(folder / "j2k claims", j2k(14000, 14000), JPEG2000Lossless, **big),
        compressed(folder / "j2k hides", j2k(14000, 14000), JPEG2000Lossless, **eight),
        compressed(
            folder / "j2k tiles",
            j2k(256, 240, (1, 1)),
            JPEG2000Lossless,
            Rows=256,
            Columns=240,
            **eight,
        ),
        compressed(
            folder / "frames",
            j2k(3000, 3000),
            JPEG2000Lossless,
            Rows=3000,
            Columns=3000,
            NumberOfFrames=900,
            **eight,
        ),
        make_dicom(folder / "native", PIXELS, Rows=60000, Columns=60000),
        make_dicom(folder / "one pixel", PIXELS, NumberOfFrames="200000000", Rows=1),
        deflated(folder / "deflated", 900_000_000),
        many_elements(folder / "elements", 1_000_000),
        sparse(make_dicom(folder / "sparse", PIXELS), 8 << 30),
        nifti(folder / "claims.nii", (32767, 32767, 2)),
        nifti(folder / "claims.nii.gz", (32767, 32767, 2)),
        nifti(folder / "small.nii.gz", (900, 900, 20)),
        nifti(folder / "offset.nii.gz", (4, 4, 4), offset=2e9),
        png(folder / "pixels.png", 13000, 13000),
        png(folder / "text.png", 8, 8, [(b"zTXt", text)]),
        jpeg_claim(folder / "claims.jpg", 60000, 60000),
    ]


def test_a_small_file_that_claims_much_is_refused_before_memory_is_taken(tmp_path):
    for name, (megabytes, reason) in read_in_a_child(bombs(tmp_path)).items():
        if name not in ("elements", "j2k tiles"):  # these are within 2 GiB
            assert name in reason, name
            assert megabytes < (1200 if name == "deflated" else 100), (name, megabytes)


def test_a_lower_limit_holds_for_each_way_in(tmp_path):
    limit = 200e6
    for name, (megabytes, reason) in read_in_a_child(bombs(tmp_path), limit).items():
        assert megabytes * MB < limit, (name, megabytes)
        assert name in reason, name


def test_files_that_read_stay_below_what_they_were_counted_as(tmp_path):
    wide = np.random.default_rng(0).integers(0, 4096, (2000, 2000)).astype(np.uint16)
    window = dict(WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-9)
    one = make_dicom(tmp_path / "one", wide, **window)
    frames = dict(NumberOfFrames=40, Rows=400, Columns=250, SamplesPerPixel=1)
    many = make_dicom(tmp_path / "many", wide.reshape(40, 400, 250), **frames)
    colours = np.repeat(wide.astype(np.uint8)[..., None], 3, 2)
    colour = make_dicom(
        tmp_path / "rgb",
        colours,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "JPEG2000")
    stream = buffer.getvalue()
    stream = stream[stream.index(b"\xff\x4f\xff\x51") :]
    fields = dict(Rows=2000, Columns=2000)
    packed = compressed(tmp_path / "j2k", stream, JPEG2000Lossless, **fields)
    Image.fromarray(colours).save(tmp_path / "a.png", compress_level=1)
    volume = nib.Nifti1Image(wide.reshape(100, 200, 200).astype(np.int16), np.eye(4))
    nib.save(volume, tmp_path / "a.nii.gz")
    limit = {one: 180e6, many: 70e6, colour: 300e6, packed: 220e6}
    limit |= {tmp_path / "a.png": 250e6, tmp_path / "a.nii.gz": 30e6}
    for path, most in limit.items():
        megabytes, reason = read_in_a_child([path], most)[path.name]
        assert path.name not in reason, reason
        assert megabytes * MB < most, (path.name, megabytes)


def test_the_limit_can_be_set_and_the_error_says_how(tmp_path, monkeypatch):
    path = make_dicom(tmp_path / "a", PIXELS)
    monkeypatch.setenv("RADWB_MAX_BYTES", "2e4")
    with pytest.raises(ReadError, match="set RADWB_MAX_BYTES"):
        read(path)
    monkeypatch.setenv("RADWB_MAX_BYTES", "1e9")
    assert read(path).shape == PIXELS.shape
    monkeypatch.setenv("RADWB_MAX_BYTES", "plenty")
    with pytest.raises(ReadError, match="expected a number of bytes.*'plenty'"):
        read(path)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1])
def test_a_compressed_frame_of_another_size_is_refused_by_its_own_header(
    tmp_path, syntax
):
    marker = {JPEGLSLossless: 0xF7, JPEGLosslessSV1: 0xC3}[syntax]
    head = struct.pack(">HHHBHHB", 0xFFD8, 0xFF00 | marker, 11, 16, 9000, 9000, 1)
    path = compressed(tmp_path / "a", head + bytes(99), syntax)
    with pytest.raises(ReadError, match="64 x 48 x 1 .* compressed as 9000 x 9000 x 1"):
        read(path)


def test_a_header_in_a_comment_of_the_stream_is_no_header():
    decoy = struct.pack(">HHBHHB", 0xFFC0, 11, 8, 64, 48, 1)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(decoy)) + decoy
    true = struct.pack(">HHBHHB", 0xFFC0, 11, 8, 9000, 9000, 3)
    assert frame_size(b"\xff\xd8" + comment + true, "a") == (9000, 9000, 3)
    stream = j2k(9000, 8000)
    box = struct.pack(">I4s", 12, b"jP  ") + b"\r\n\x87\n"
    decoy = struct.pack(">I4s", 8 + len(j2k(64, 48)), b"xml ") + j2k(64, 48)
    held = struct.pack(">I4s", 0, b"jp2c") + stream
    assert frame_size(box + decoy + held, "a") == (9000, 8000, 1)
    with pytest.raises(ValueError, match="no header that can be read"):
        frame_size(b"\xff\xd8\xff", "a")


def test_an_rle_segment_is_counted_before_it_is_unpacked():
    assert rle_length(bytes([2, 7, 8, 9, 254, 5, 128]), 99) == 6
    assert rle_length(b"\x81\x00" * 1000, 500) == 512  # stops beyond the frame
    frame = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * (1 << 20)
    with pytest.raises(ValueError, match="more than the frame's pixels"):
        check_rle(frame, (64, 48, 1), 8, "a")
    with pytest.raises(ValueError, match="2 segments for 1 samples"):
        check_rle(struct.pack("<16L", 2, *[64] * 15), (64, 48, 1), 8, "a")


def test_frames_beyond_those_claimed_are_left_out_with_a_warning(tmp_path):
    whole = pydicom.dcmread(
        Path(pydicom.__file__).parent / "data/test_files/MR_small_RLE.dcm"
    )
    assert whole.file_meta.TransferSyntaxUID == RLELossless
    frame = next(pydicom.encaps.generate_frames(whole.PixelData, number_of_frames=1))
    whole.PixelData = encapsulate([frame] * 3, has_bot=True)
    whole["PixelData"].is_undefined_length = True
    whole.save_as(tmp_path / "a")
    with pytest.warns(UserWarning, match="more frames than the 1 of"):
        assert read(tmp_path / "a").shape == (64, 64)


def test_a_member_of_a_shard_that_claims_much_is_skipped(tmp_path):
    path = tmp_path / "a.tar"
    good = png(tmp_path / "good.png", 8, 8).read_bytes()
    png(tmp_path / "bomb.png", 13000, 13000)
    with tarfile.open(path, "w") as tar:
        for key, name in (("a", "good"), ("b", "bomb"), ("c", "good")):
            data = (tmp_path / f"{name}.png").read_bytes()
            member = tarfile.TarInfo(f"{key}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    bad = []
    assert [r["key"] for r in read_shards([path], on_bad=bad.append)] == ["a", "c"]
    assert "GiB of memory" in bad[0]["error"]
    assert len(good) < 1000
