"""Files read by several processes: the same table, whatever is stopped or crashes."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from test_data import make_dicom

from radwb.curate import index
from radwb.curate.journal import Journal
from radwb.curate.workers import as_done

indexing = sys.modules["radwb.curate.index"]
read_row = indexing._guarded_row
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RADWB_CACHE", str(folder))
    return folder


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    for n in range(12):
        make_dicom(folder / f"{n:02}.dcm", PIXELS + n, PatientAge="040Y")
    (folder / "notes.txt").write_text("no image")
    return folder


def row_or_exit(path):
    """What a decoder does that ends its whole process."""
    if path.name == "05.dcm":
        os._exit(9)
    return read_row(path)


def setting(item):
    return os.environ.get("RADWB_TRY"), os.getpid()


def test_two_processes_give_the_table_of_one(monkeypatch):
    paths = sorted(BUNDLED.glob("*.dcm"))
    assert len(paths) > 60
    monkeypatch.setattr(indexing, "_walk", lambda folder: (paths, []))
    one, two = (index(BUNDLED, workers=workers) for workers in (1, 2))
    assert (one["refused"] != "").any()
    pd.testing.assert_frame_equal(one, two)


def test_stopped_among_processes_it_goes_on_and_reads_what_changed(
    inbox, monkeypatch, cache
):
    whole = index(inbox)
    kept = []
    add = Journal.add

    def counted(self, key, row):
        if len(kept) == 5:
            raise KeyboardInterrupt
        kept.append(Path(row["path"]))
        add(self, key, row)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", counted)
        with pytest.raises(KeyboardInterrupt) as stop:
            index(inbox, workers=2)
    assert "5 of 13 files are kept" in stop.value.__notes__[0]
    changed = next(path for path in kept if path.suffix == ".dcm")
    make_dicom(changed, PIXELS[:9])
    read = []

    def noted(path):
        read.append(path)
        return read_row(path)

    monkeypatch.setattr(indexing, "_guarded_row", noted)
    table = index(inbox)
    assert set(read) == set(inbox.iterdir()) - set(kept) | {changed}
    other = (whole["path"] != str(changed)).to_numpy()
    pd.testing.assert_frame_equal(table[other], whole[other], check_dtype=False)
    assert table.loc[~other, "rows"].tolist() == [9]
    assert list(cache.rglob("*.jsonl")) == []


def test_a_file_that_ends_its_process_is_a_row_and_costs_no_other(inbox, monkeypatch):
    whole = index(inbox)
    monkeypatch.setattr(indexing, "_guarded_row", row_or_exit)
    table = index(inbox, workers=2)
    fatal = table["path"].str.endswith("05.dcm")
    assert table.loc[fatal, "refused"].tolist() == [
        "05.dcm: damaged or not supported (its reader crashed)"
    ]
    pd.testing.assert_frame_equal(table[~fatal], whole[~fatal], check_dtype=False)


def test_processes_have_the_settings_of_now(monkeypatch):
    for value in ("first", "second", None):
        if value:
            monkeypatch.setenv("RADWB_TRY", value)
        else:
            monkeypatch.delenv("RADWB_TRY")
        results = dict(as_done(setting, [1, 2, 3], 2, lost=str))
        assert {seen for seen, _ in results.values()} == {value}
        assert os.getpid() not in {process for _, process in results.values()}


@pytest.mark.parametrize("workers", [0, -2, True, "2", 1.5])
def test_no_processes_are_no_number_of_them(workers):
    with pytest.raises(ValueError, match="expected workers of 1 or more"):
        list(as_done(len, ["a"], workers, lost=str))
