"""Notes on films: a file for its owner alone, never half written, never overwritten."""

import os
import stat

import pandas as pd
import pytest

import radwb as rw
from radwb.explore.notes import COLUMNS, Notes


def test_a_note_is_there_at_the_next_explore(model, table, tmp_path):
    path = tmp_path / "notes.csv"
    widget = rw.show.explore(model, table, notes=path)
    assert not path.exists()  # nobody has noted anything
    widget.case = 2
    assert widget.wait(30, idle=True)
    widget.note("disagree", "the tube, not the lung")
    widget.note("agree", case=0)
    assert widget.notes == {
        "2": {"verdict": "disagree", "note": "the tube, not the lung"},
        "0": {"verdict": "agree", "note": ""},
    }
    assert widget.films[2]["values"]["verdict"] == "disagree"
    widget.close()
    again = rw.show.explore(model, table, notes=path)
    assert again.notes["2"]["note"] == "the tube, not the lung"
    assert again.notes["0"]["verdict"] == "agree"
    again.close()


def test_the_file_says_what_was_seen(model, table, tmp_path):
    path = tmp_path / "notes.csv"
    widget = rw.show.explore(model, table, notes=path, finding="Pleural Effusion")
    assert widget.wait(30, idle=True)
    widget.note("unsure", 'a, "b"\nc; =1+1')
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert tuple(written.columns) == COLUMNS
    row = written.iloc[0]
    assert row["note"] == 'a, "b"\nc; =1+1'
    assert row["study_id"] == table.study_id.iloc[0]
    assert row["patient_id"] == table.patient_id.iloc[0]
    assert (row["model"], row["method"]) == ("radwb-tiny", "relevance")
    view = widget.views[0]
    assert float(row["score"]) == pytest.approx(view["said"]["value"], rel=1e-3)
    assert float(row["energy"]) == pytest.approx(view["score"]["energy"], rel=1e-3)
    widget.note("agree", case=3)  # whose map nobody has seen
    other = pd.read_csv(path, dtype=str, keep_default_na=False).iloc[-1]
    assert (other["score"], other["model"]) == ("", "")
    widget.close()


def test_the_file_is_its_owners_and_whole(tmp_path, monkeypatch):
    path = tmp_path / "notes.csv"
    notes = Notes(path)
    notes.add({"case": "a", "verdict": "agree", "note": ""})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["notes.csv"]
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)  # the power fails
    with pytest.raises(ZeroDivisionError):
        notes.add({"case": "a", "verdict": "disagree", "note": ""})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["notes.csv"]


def test_a_later_note_replaces_the_earlier_and_an_empty_one_forgets(tmp_path):
    notes = Notes(tmp_path / "notes.csv")
    for verdict in ("agree", "disagree"):
        notes.add({"case": "a", "verdict": verdict, "note": ""})
    notes.add({"case": "b", "verdict": "", "note": "x"})
    assert notes.table["verdict"].tolist() == ["disagree", ""]
    notes.add({"case": "a", "verdict": "", "note": ""})
    assert Notes(tmp_path / "notes.csv").table["case"].tolist() == ["b"]


def test_two_windows_keep_each_others_notes(tmp_path):
    one, two = Notes(tmp_path / "notes.csv"), Notes(tmp_path / "notes.csv")
    one.add({"case": "a", "verdict": "agree", "note": ""})
    two.add({"case": "b", "verdict": "agree", "note": ""})
    assert Notes(tmp_path / "notes.csv").table["case"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [b"path,patient_id\na.png,1\n", b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe", b""],
    ids=["a table", "a picture", "empty"],
)
def test_another_file_is_refused_and_stays_as_it_is(model, table, tmp_path, content):
    path = tmp_path / "notes.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.csv: expected notes"):
        rw.show.explore(model, table, notes=path)
    assert path.read_bytes() == content


def test_a_file_damaged_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "notes.csv"
    notes = Notes(path)
    notes.add({"case": "a", "verdict": "agree", "note": ""})
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="expected notes"):
        notes.add({"case": "b", "verdict": "agree", "note": ""})
    assert path.read_text() == "something else\n"


def test_the_browser_hears_whether_a_note_was_kept(model, table, tmp_path, monkeypatch):
    path = tmp_path / "notes.csv"
    widget = rw.show.explore(model, table, notes=path)
    sent = []
    monkeypatch.setattr(
        widget, "send", lambda content, buffers=None: sent.append(content)
    )
    asked = {"case": 1, "verdict": "agree", "note": "seen"}
    widget._handle_custom_msg({"note": asked}, [])
    assert sent == [{"noted": {"case": 1, "error": ""}}]
    assert Notes(path).of(table.study_id.iloc[1])["note"] == "seen"
    path.write_text("something else\n")
    widget._handle_custom_msg({"note": asked}, [])
    assert "expected notes" in sent[1]["noted"]["error"]
    widget._handle_custom_msg({"note": asked | {"note": "x" * 6000}}, [])
    assert "at most 5000 letters" in sent[2]["noted"]["error"]
    widget.close()


def test_notes_tell_two_films_of_one_study_apart(model, table):
    pair = table.assign(study_id="S1")
    widget = rw.show.explore(model, pair)
    widget.note("agree", case=1)
    assert widget.notes == {"1": {"verdict": "agree", "note": ""}}
    widget.close()
