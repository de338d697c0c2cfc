"""`index` never stops: whatever a file or folder is, it becomes a row.

What was read is kept.
"""

import io
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from test_data import make_dicom

import radwb as rw
from radwb.curate import index
from radwb.data.names import local_path, path_text

indexing = sys.modules["radwb.curate.index"]
PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RADWB_CACHE", str(folder))
    return folder


def with_bytes(path, keyword, value: bytes, vr):
    """A file whose field holds these bytes, whatever its type says."""
    ds = pydicom.dcmread(make_dicom(path, PIXELS))
    tag = Tag(keyword)
    part = ds.file_meta if tag.group == 2 else ds
    part[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True, True)
    ds.save_as(path)


HOSTILE = [
    ("ImagerPixelSpacing", b"0.143 ", "DS"),
    ("ImagerPixelSpacing", b"wide\\x", "DS"),
    ("PixelSpacing", b"0.5 ", "DS"),
    ("ViewPosition", b"\x01\x02\xff\xfe", "FD"),
    ("PatientAge", b"\xff\xfe\x00\x01\x02\x03", "US"),
    ("PatientAge", b"1\\2\\3 ", "AS"),
    ("PatientID", b"\x1b$B\xff\x00\x1b", "LO"),
    ("BitsStored", b"\x00", "US"),
    ("SpecificCharacterSet", b"KLINGON ", "CS"),
    ("Modality", b"\xff" * 500, "CS"),
    ("NumberOfFrames", b"many", "IS"),
    ("SOPClassUID", b"\x00\xff\x00\xff", "UI"),
]


def test_a_field_that_cant_be_read_costs_a_note_and_not_the_table(tmp_path):
    for n, (keyword, value, vr) in enumerate(HOSTILE):
        with_bytes(tmp_path / f"{n}.dcm", keyword, value, vr)
    make_dicom(tmp_path / "good.dcm", PIXELS)
    table = index(tmp_path)
    assert len(table) == len(HOSTILE) + 1
    table.to_csv(tmp_path / "table.csv")
    table["name"] = [Path(p).name for p in table["path"]]
    read = set(table["name"][table["refused"] == ""])
    assert {"good.dcm", "0.dcm", "2.dcm", "3.dcm", "4.dcm", "5.dcm", "6.dcm"} <= read
    assert table.set_index("name")["notes"]["5.dcm"]


@pytest.mark.parametrize(
    "syntax", [b"", b"1.2.840.10008.1.2.4.999", b"\xff\xfe\xfd\xfc"]
)
def test_a_transfer_syntax_that_no_one_knows_is_a_row(tmp_path, syntax):
    path = make_dicom(tmp_path / "a.dcm", PIXELS)
    data = path.read_bytes()
    old = b"1.2.840.10008.1.2.1\0"
    new = syntax.ljust(len(old), b"\0")[: len(old)]
    path.write_bytes(data.replace(old, new, 1))
    assert len(index(tmp_path)) == 1


@pytest.mark.parametrize(
    "error", [TypeError("a\x1bb"), RecursionError(), MemoryError()]
)
def test_any_exception_becomes_a_row(tmp_path, monkeypatch, error):
    def broken(path):
        raise error

    make_dicom(tmp_path / "a.dcm", PIXELS)
    monkeypatch.setattr(indexing, "read_with_header", broken)
    row = index(tmp_path).iloc[0]
    assert type(error).__name__ in row["refused"]
    assert "\x1b" not in row["refused"]


def test_folders_that_arent_entered_are_rows(tmp_path, monkeypatch):
    make_dicom(tmp_path / "a.dcm", PIXELS)
    for name in ("closed", "open", ".hidden"):
        (tmp_path / name).mkdir()
        make_dicom(tmp_path / name / "b.dcm", PIXELS)
    (tmp_path / "open" / "round").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    scandir = os.scandir

    def guarded(path):
        if (
            Path(path).name == "closed"
        ):  # root may enter any, so that chmod isn't enough
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    table = index(tmp_path)
    refused = {
        Path(p).name: why
        for p, why in zip(table["path"], table["refused"], strict=True)
    }
    assert set(refused) == {"a.dcm", "b.dcm", "closed", "round", "itself"}
    assert "can't be entered (Permission denied)" in refused["closed"]
    assert "linked folder" in refused["round"]
    assert refused["a.dcm"] == refused["b.dcm"] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_isnt_text_is_shown_escaped_and_opens_from_the_csv(tmp_path):
    source = make_dicom(tmp_path / "plain", PIXELS)
    folder = tmp_path / "inbox"
    folder.mkdir()
    names = [b"caf\xe9.dcm", b"red\x1b[31m.dcm", b"two\nlines.dcm", b"a %41?#.dcm"]
    names += ["größe 漢.dcm".encode(), "exe\u202emcd.dcm".encode()]
    for name in names:
        shutil.copy(source, os.fsencode(folder) + b"/" + name)
    shutil.copy(source, os.fsencode(folder) + b"/bad\xff\x1b")
    (folder / os.fsdecode(b"empty\xff\x1b")).write_bytes(b"")
    index(folder).to_csv(tmp_path / "table.csv", index=False)
    table = pd.read_csv(tmp_path / "table.csv").fillna("")
    assert len(table) == len(names) + 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", (tmp_path / "table.csv").read_text())
    for row in table.itertuples():
        if not row.refused:
            assert rw.data.read(row.path).shape == PIXELS.shape
            assert rw.data.scan_of(table.loc[row.Index]).shape == PIXELS.shape
    refused = table[table["refused"] != ""]["refused"].item()
    assert refused.startswith("empty\\udcff\\x1b: the file is empty")
    plain = [p for p in table["path"] if not p.startswith("file://")]
    assert sorted(Path(p).name for p in plain) == ["a %41?#.dcm", "größe 漢.dcm"]
    for name in names:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        assert local_path(path_text(path)) == path


def stopped_after(monkeypatch, count):
    """Ctrl-C comes after so many rows; gives the list of those that are read."""
    row, read = indexing._row, []

    def counted(path):
        if len(read) == count:
            raise KeyboardInterrupt
        read.append(path.name)
        return row(path)

    monkeypatch.setattr(indexing, "_row", counted)
    return read


def test_ctrl_c_keeps_what_was_read_and_a_second_call_goes_on(
    tmp_path, monkeypatch, cache
):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for n in range(6):
        make_dicom(inbox / f"{n}.dcm", PIXELS, PatientAge="040Y")
    whole = index(inbox)
    assert list(cache.rglob("*.jsonl")) == []  # a whole index leaves nothing behind
    with monkeypatch.context() as patch:
        stopped_after(patch, 4)
        with pytest.raises(KeyboardInterrupt) as stop:
            index(inbox)
        assert "4 of 6 files are kept" in stop.value.__notes__[0]
    journal = next(cache.rglob("*.jsonl"))
    assert journal.stat().st_mode & 0o777 == 0o600
    with journal.open("ab") as file:
        file.write(b'\n["cut short by a kill -9')
    make_dicom(inbox / "1.dcm", PIXELS[:9])  # changed meanwhile
    with monkeypatch.context() as patch:
        read = stopped_after(patch, 99)
        table = index(inbox)
    assert read == ["1.dcm", "4.dcm", "5.dcm"]
    assert table["rows"].tolist() == [64, 9, 64, 64, 64, 64]
    same = [0, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(
        table.iloc[same].reset_index(drop=True),
        whole.iloc[same].reset_index(drop=True),
        check_dtype=False,
    )
    assert list(cache.rglob("*.jsonl")) == []


def test_an_index_needs_no_cache(tmp_path, monkeypatch):
    make_dicom(tmp_path / "a.dcm", PIXELS)
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "a.dcm" / "below a file"))
    assert index(tmp_path)["refused"].tolist() == [""]


def test_odd_values_are_not_quoted_in_notes(tmp_path):
    with_bytes(tmp_path / "a.dcm", "StudyInstanceUID", b"DOE^JANE", "UI")
    assert "DOE" not in index(tmp_path)["notes"].item()


def test_the_masks_of_a_png_are_few_and_of_its_size(tmp_path):
    from PIL import Image, PngImagePlugin

    for n, text in enumerate(['{"findings": %s}' % ["a"] * 1, '{"findings": 5}', "[]"]):
        about = PngImagePlugin.PngInfo()
        about.add_text("radwb", text.replace("'", '"'))
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "PNG", pnginfo=about)
        (tmp_path / f"{n}.truth.png").write_bytes(buffer.getvalue())
        Image.new("L", (9, 9)).save(tmp_path / f"{n}.png")
    table = index(tmp_path)
    assert len(table) == 6
    assert (table["refused"] != "").all()


def test_a_missing_spacing_is_said_to_be_missing(tmp_path):
    make_dicom(tmp_path / "a.dcm", PIXELS, PixelSpacing=None)
    notes = index(tmp_path)["notes"][0]
    missing = "(0028,0030) PixelSpacing is missing, so that the spacing is unknown"
    assert notes == missing


@pytest.mark.parametrize(
    "field", ["PatientAge", "PatientOrientation", "PixelSpacing", "RescaleSlope"]
)
def test_a_name_that_stands_in_another_field_is_not_repeated(tmp_path, field):
    who = dict(PatientName="Mueller^Hans", PatientID="ID-998877")
    path = make_dicom(tmp_path / "a.dcm", PIXELS, **who, RescaleIntercept=0)
    ds = pydicom.dcmread(path)
    ds[Tag(field)] = pydicom.DataElement(Tag(field), "UT", "MUELLER ID-998877")
    if field != "RescaleSlope":
        ds.RescaleSlope = 1
    ds.save_as(path)
    row = index(tmp_path).iloc[0]
    text = row.notes + row.refused
    assert "[identifier]" in text
    assert not re.search("mueller|998877", text, re.IGNORECASE)


def test_a_file_address_is_the_film_that_its_path_is(tmp_path):
    path = tmp_path / "a\u200bb.dcm"
    make_dicom(path, PIXELS)
    address = index(tmp_path)["path"][0]
    assert address.startswith("file://")
    first, second = rw.data.table.film_keys([address, str(path)])
    assert first == second
    assert local_path(address.replace("file://", "file://localhost")) == path


def test_films_are_known_by_their_frames_also_as_text(tmp_path):
    make_dicom(tmp_path / "a.dcm", PIXELS)
    table = index(tmp_path)
    films = rw.curate.films(table.assign(frames=table["frames"].astype(str)))
    assert len(films) == 1
    with pytest.raises(ValueError, match="1 whose frames aren't known"):
        rw.curate.films(table.assign(frames=np.nan))
