"""Files and reports that nobody meant: found by hypothesis, or put in the drawer.

Each is read, shrunk, sorted and indexed: refused in one sentence or read, in little
time and memory, and no crash.
"""

import os
import struct
import sys
import time
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.filereader import data_element_generator, read_preamble
from test_data import make_dicom

import radwb as rw
from radwb.curate import index, label_reports, sections, series
from radwb.curate.deidentify.scrub import scrub
from radwb.curate.slices import slices_of
from radwb.data.preview import preview

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import damaged  # noqa: E402

indexing = sys.modules["radwb.curate.index"]
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
DICOM = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "image_dfl.dcm",
    "eCT_Supplemental.dcm",
)
LIMIT_MB = 48  # $RADWB_MAX_BYTES of these tests
SPARE_MB = 48  # what Python and its libraries take beside a file
SECONDS = 5  # of the processor, for three readings of a file of some kilobytes
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
NIFTI_FIELDS = (
    "dim",
    "datatype",
    "bitpix",
    "pixdim",
    "vox_offset",
    "scl_slope",
    "scl_inter",
    "xyzt_units",
    "qform_code",
    "sform_code",
    "quatern_b",
    "srow_x",
    "magic",
)
NUMBERS = (0, 1, -1, 3, 7, 127, 2048, 32767, -32768, 1e38, float("nan"), float("inf"))


def length_places(path) -> list[int]:
    """Where the lengths of a data set's elements stand."""
    with path.open("rb") as file:
        read_preamble(file, True)
        meta = pydicom.filereader._read_file_meta_info(file)
        syntax = meta.TransferSyntaxUID
        if syntax.is_deflated:
            return []
        elements = data_element_generator(
            file, syntax.is_implicit_VR, syntax.is_little_endian
        )
        return [getattr(e, "value_tell", file.tell()) - 4 for e in elements]


def dicom_seeds():
    paths = [BUNDLED / name for name in DICOM if (BUNDLED / name).is_file()]
    return {path.name: (path.read_bytes(), length_places(path)) for path in paths}


SEEDS = dicom_seeds()
PICTURES = {n: d for n, d in damaged.made_here().items() if not n.endswith("gz")}


@st.composite
def mutated_dicom(draw):
    """Bytes flipped, cut or doubled, and lengths of elements inflated."""
    data, lengths = SEEDS[draw(st.sampled_from(sorted(SEEDS)))]
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("flip", "cut", "length", "length", "double")))
        at = draw(st.integers(0, min(len(data), 3000) - 1))
        if kind == "length" and lengths:
            at = draw(st.sampled_from(lengths))
            data[at : at + 4] = struct.pack("<I", draw(st.sampled_from(HUGE)))
        elif kind == "cut":
            del data[draw(st.integers(100, max(100, len(data)))) :]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        else:
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        data = data or bytearray(b"\0")
    return bytes(data)


@st.composite
def mutated_nifti(draw):
    """Fields of the header overwritten by numbers that none should have."""
    data = bytearray(PICTURES[draw(st.sampled_from(("Nifti1Image.nii",)))])
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for _ in range(draw(st.integers(1, 3))):
        field = header[draw(st.sampled_from(NIFTI_FIELDS))]
        number = draw(st.sampled_from(NUMBERS))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if field.dtype.kind == "S":
                continue
            value = np.array(number, float).astype(field.dtype)
        at = draw(st.integers(0, field.size - 1))
        field.reshape(-1)[at] = value
    data[:348] = header.binaryblock
    return bytes(
        data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
    )


@st.composite
def mutated_png(draw):
    """Chunks with another length, type or content, whose checksum fits all the same."""
    data = PICTURES[draw(st.sampled_from(("L.PNG", "RGB.PNG")))]
    out = bytearray(data[:8])
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = bytearray(data[at + 4 : at + 8 + length])
        if draw(st.booleans()):
            place = draw(st.integers(0, len(body) - 1))
            wide = struct.pack(">I", draw(st.sampled_from(HUGE)))
            body[place : place + draw(st.sampled_from((1, 4)))] = wide
        if not draw(st.integers(0, 5)):
            length = draw(st.sampled_from(HUGE))
        out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + struct.unpack_from(">I", data, at)[0]
    return bytes(out)


def check(folder, data):
    """Every way in takes the file, in bounds, and says what it is in plain words."""
    path = folder / "file"
    path.write_bytes(data)
    before = damaged.peak_mb(reset=True)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = indexing._guarded_row(path)
        slices = slices_of(path)
        try:
            preview(path, 16)
            read = True
        except rw.data.ReadError:
            read = False
    assert read == (row["refused"] == ""), row["refused"]
    assert all(isinstance(part["trouble"], str) for part in slices)
    assert len(row["refused"]) < 1000
    assert time.process_time() - start < SECONDS
    taken = damaged.peak_mb() - before
    assert not taken > LIMIT_MB + SPARE_MB  # NaN where it can't be told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADWB_MAX_BYTES", str(LIMIT_MB << 20))
        yield tmp_path_factory.mktemp("mutations")


def tried(n):
    """n examples, the same in every run."""
    return settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


STRATEGIES = {
    "dicom": (mutated_dicom(), 150, 4000),
    "nifti": (mutated_nifti(), 100, 2000),
    "png": (mutated_png(), 100, 2000),
}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_some_hundred_mutations(folder, kind):
    strategy, few, _ = STRATEGIES[kind]
    tried(few)(given(strategy)(lambda data: check(folder, data)))()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRATEGIES)
def test_thousands_of_mutations(folder, kind):
    strategy, _, many = STRATEGIES[kind]
    tried(many)(given(strategy)(lambda data: check(folder, data)))()


def test_the_check_sees_memory_and_time_beyond_its_bounds(folder, monkeypatch):
    data = SEEDS["CT_small.dcm"][0]
    check(folder, data)
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 0)
    with pytest.raises(AssertionError):
        check(folder, data)
    monkeypatch.undo()
    held = []

    def greedy(path):
        held.append(np.ones(25_000_000))
        return [{"trouble": ""}]

    monkeypatch.setattr(sys.modules[__name__], "slices_of", greedy)
    if not np.isnan(damaged.peak_mb()):
        with pytest.raises(AssertionError):
            check(folder, data)


SHARED = Path(os.environ.get("RADWB_MIRROR", "").split(":")[0]) / "dicom_robustness"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared set's damaged files")
def test_the_shared_sets_damaged_files(folder):
    paths = [path for path in sorted(SHARED.rglob("*")) if path.is_file()]
    small = [path for path in paths if path.stat().st_size < 300_000]
    assert len(small) > 60
    for path in small[::2]:
        check(folder, path.read_bytes())


@given(st.text(max_size=300))
@example("\N{COMBINING ACUTE ACCENT}" * 300)
@example("FINDINGS:\n" * 30 + "\x00\u202e\ud800"[:2])
@tried(150)
def test_any_text_is_a_report(text):
    assert isinstance(sections(text), dict)
    assert label_reports([text]).shape == (1, 14)
    assert isinstance(scrub(text), str)


LINE = "FINDINGS: No pleural effusion. The heart is normal in size. "
REPORTS = {
    "sentences": LINE * 17_000,
    "one word": "a" * 1_000_000,
    "no letters": "1234567890 " * 90_000,
    "colons": "A: " * 330_000,
    "capitals": "A B " * 250_000,
    "blanks": " " * 1_000_000,
    "lines": "\n" * 1_000_000,
    "dots": "." * 1_000_000,
    "dashes": "-_" * 500_000,
    "negations": "no " * 330_000,
    "Chinese": "未见胸腔积液。" * 140_000,
    "Arabic": "لا يوجد انصباب. " * 60_000,
}


def seconds_of(work, report):
    start = time.process_time()
    work(report)
    return time.process_time() - start


def ten_times_as_long(report):
    """A text ten times as long takes some ten times as long, not a hundred times."""
    for work in (sections, lambda text: label_reports([text]), scrub):
        short = seconds_of(work, report[: len(report) // 10])
        assert seconds_of(work, report) < 10 * 4 * max(short, 0.02)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_a_hundred_thousand_characters(name):
    ten_times_as_long(REPORTS[name][:100_000])


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_a_million_characters(name):
    ten_times_as_long(REPORTS[name])


@pytest.fixture
def drawer(tmp_path, monkeypatch):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "drawer"
    folder.mkdir()
    place = dict(ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0] * 2)
    place["ImageOrientationPatient"] = [1, 0, 0, 0, 1, 0]
    pixels = np.zeros((8, 8), np.uint16)
    make_dicom(folder / "good.dcm", pixels, SeriesInstanceUID="1.2", **place)
    return folder


def test_what_is_no_file_in_a_drawer_is_a_row_and_stops_nobody(drawer, monkeypatch):
    (drawer / "empty.dcm").write_bytes(b"")
    (drawer / "loop").symlink_to(drawer, target_is_directory=True)
    (drawer / "itself").symlink_to(drawer / "itself")
    (drawer / "closed.dcm").write_bytes((drawer / "good.dcm").read_bytes())
    if hasattr(os, "mkfifo"):
        os.mkfifo(drawer / "pipe.dcm")
    opened = Path.open

    def guarded(self, *args, **options):
        if self.name == "closed.dcm":  # root reads whatever chmod says
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    table = index(drawer)
    why = {
        Path(p).name: w for p, w in zip(table["path"], table["refused"], strict=True)
    }
    assert why.pop("good.dcm") == ""
    assert "0 bytes" in why["empty.dcm"]
    assert "linked folder" in why["loop"]
    assert "Permission" in why["closed.dcm"]
    assert all(why.values())
    for workers in (1, 2):
        with pytest.warns(UserWarning, match="1 folders are left out"):
            assert len(series(drawer, workers=workers)) == 1
    # empty, itself, closed and the pipe; of a table the linked folder, too
    unread = sum(path.name != "good.dcm" for path in drawer.iterdir())
    with pytest.warns(UserWarning, match=f"^{unread - 1} files can't be read"):
        series(drawer)
    with pytest.warns(UserWarning, match=f"^{unread} files can't be read"):
        assert series(table)["slices"].tolist() == [1]


def test_a_frame_count_that_is_a_lie_costs_nothing(drawer):
    ds = pydicom.dcmread(drawer / "good.dcm")
    ds.NumberOfFrames = 2_000_000_000
    ds.save_as(drawer / "good.dcm")
    start = time.process_time()
    assert series(drawer)["slices"].tolist() == [1]
    assert time.process_time() - start < 2


def test_a_table_of_nothing_has_no_series():
    assert len(series(pd.DataFrame({"path": [], "refused": []}))) == 0


def test_the_seeds_are_whole():
    for data, _ in SEEDS.values():
        pydicom.dcmread(BytesIO(data))
    assert sum(bool(lengths) for _, lengths in SEEDS.values()) > 4
