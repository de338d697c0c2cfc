"""Identifiers: one spelling a patient, one file a film.

Neither stands on two sides of a split, nor in an error.
"""

import os

import numpy as np
import pandas as pd
import pytest

import radwb as rw
from radwb.curate import check_split, split_by_patient
from radwb.curate.split import _uniform
from radwb.identifiers import identifiers, numbered

SEVENS = [
    7,
    7.0,
    np.int64(7),
    np.float32(7),
    "7",
    "7 ",
    "\t7",
    "7.0",
    "７",
    "\ufeff7",
    "7\0",
    b"7",
]
NOBODY = [None, np.nan, pd.NA, pd.NaT, "", " ", "nan", "NaN", "None", "<NA>"]


def table_of(patients, **columns):
    paths = [f"{n}.png" for n in range(len(patients))]
    return pd.DataFrame(
        {"path": paths, "patient_id": pd.Series(patients, dtype=object), **columns}
    )


def test_every_spelling_of_seven_is_one_patient():
    assert set(identifiers(SEVENS)) == {"7"}
    assert numbered(SEVENS)[1] == 1
    assert rw.stats.resample_patients(SEVENS)[1].shape[0] == 1
    assert split_by_patient(table_of(SEVENS), fractions=(1, 0, 0))[
        "patient_id"
    ].unique().tolist() == ["7"]


@pytest.mark.parametrize("other", SEVENS[:-1])
def test_a_patient_under_two_spellings_on_two_sides_is_refused_everywhere(other):
    rng = np.random.default_rng(0)
    patients = [*range(100, 140), *range(100, 140), "7", other]
    sides = ["train"] * 40 + ["train"] * 40 + ["train", "test"]
    table = table_of(patients, split=sides, Edema=rng.integers(0, 2, 82))
    Z = rng.normal(size=(82, 4))
    calls = [
        lambda: check_split(table),
        lambda: rw.probe.linear_probe(Z, table, label="Edema"),
        lambda: rw.probe.label_efficiency(Z, table, label="Edema"),
        lambda: rw.probe.baselines({"Z": Z}, table, label="Edema"),
        lambda: rw.fail.shortcut(table, start=None, finding="Edema"),
        lambda: rw.pretrain.rows.seen_by_a_run(table, columns=("split",)),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match="expected each patient in one part, got 1 of 41"
        ) as refused:
            call()
        assert "[80, 81]" in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"), [("7", "0007"), ("P7", "p7"), ("P 7", "P7"), ("A-01", "A-1")]
)
def test_perhaps_one_patient_is_refused_by_rows_and_not_by_name(one, other):
    table = table_of(["secret", one, other], split="train")
    for call in (split_by_patient, check_split, rw.data.check_table):
        with pytest.raises(
            ValueError, match=r"got 1 in two that differ .*rows 1 and 2"
        ) as refused:
            call(table)
        assert "secret" not in str(refused.value)
    with pytest.warns(UserWarning, match="rows 1 and 2"):
        rw.probe.Scores.of(np.zeros((3, 1)), table, ["Edema"])


def test_zeros_stay_and_losing_them_moves_nobody():
    padded = table_of([f"{n:04d}" for n in range(200)])
    numbers = table_of(range(200))
    floats = table_of([float(n) for n in range(200)])
    split = split_by_patient(padded)
    assert split["patient_id"].tolist() == padded["patient_id"].tolist()
    for table in (numbers, floats):
        assert (split_by_patient(table)["split"] == split["split"]).all()


def test_the_sides_of_a_cohorts_patients_are_those_they_always_had():
    table = split_by_patient(table_of([f"V0-{n:06d}" for n in range(100)]), seed=3)
    place = table["patient_id"].map(lambda patient: _uniform(f"3:{patient}"))
    expected = np.select([place < 0.7, place < 0.8], ["train", "val"], "test")
    assert (table["split"] == expected).all()


@pytest.mark.parametrize("nobody", NOBODY)
def test_a_missing_patient_is_refused(nobody):
    table = table_of(["1", "2", nobody], split="train")
    for call in (split_by_patient, check_split, rw.data.check_table):
        with pytest.raises(
            ValueError, match="patient_id in every row, got 1 .*one_patient_per_image"
        ):
            call(table)


@pytest.mark.parametrize(
    "lost", [1.2345678901234568e17, np.float32(2**24 + 2), "1.23457E+11"]
)
def test_a_number_that_has_lost_digits_is_no_identifier(lost):
    with pytest.raises(ValueError, match="expected identifiers as text"):
        identifiers(["1", lost])


def test_one_file_is_one_film_however_its_path_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.png").write_bytes(b"film")
    (tmp_path / "b.png").write_bytes(b"another")
    (tmp_path / "link.png").symlink_to("a.png")
    os.link("a.png", "twin.png")
    spellings = [
        "./a.png",
        str(tmp_path / "a.png"),
        "deep/../a.png",
        "gone/../a.png",
        "link.png",
        "twin.png",
    ]
    for spelling in spellings:
        table = table_of(["1", "2", "3"], split=["train", "train", "test"])
        table["path"] = ["a.png", "b.png", spelling]
        with pytest.raises(
            ValueError, match=r"expected each path once, got 2 rows .*\[0, 2\]"
        ):
            rw.data.check_table(table)
        with pytest.raises(
            ValueError, match="expected each film in one part, got 1 of 2"
        ):
            check_split(table)
    assert rw.data.check_table(table.head(2)) is not None


def test_a_table_comes_back_from_a_csv_as_it_went(tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    table = table_of(
        ["0007", "0008", None], Edema=[1, 0, np.nan], age_years=[6.5, 70.0, np.nan]
    )
    table["path"] = ["films/a.png", "films/b.png", "films/c.png"]
    table["study_id"] = ["1.2.840.10", "007", "12345678901234567890"]
    table["accession"] = ["0001", "0002", "3"]
    table["report"] = ["007", "No effusion.", None]
    for path in table["path"]:
        (tmp_path / path).write_bytes(b"")
    table.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir("/")
    back = rw.data.read_table(tmp_path / "t.csv")
    for column in ("patient_id", "study_id", "accession", "report"):
        assert back[column].dropna().tolist() == table[column].dropna().tolist()
    assert back["patient_id"].isna().tolist() == [False, False, True]
    assert back["Edema"].tolist()[:2] == [1.0, 0.0]
    assert back["age_years"].dtype == float
    assert all(os.path.isfile(path) for path in back["path"])


def test_a_path_of_a_csv_that_leads_to_two_files_is_refused(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "a.png").write_bytes(b"")
    table_of(["1"]).assign(path="a.png").to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="expected one file for each path, got two"):
        rw.data.read_table(tmp_path / "t.csv")
    monkeypatch.chdir(tmp_path)
    assert rw.data.read_table("t.csv")["path"].tolist() == ["a.png"]


@pytest.mark.parametrize("missing", NOBODY)
def test_a_row_without_a_report_has_no_caption_and_teaches_no_word(missing):
    from radwb.pretrain.captions import Captions

    reports = ["IMPRESSION: Effusion.", missing, "IMPRESSION: Normal."]
    tokenizer = rw.models.Tokenizer.train([*reports, "effusion"] * 3)
    captions = Captions(reports, tokenizer)
    assert captions.texts == ["Effusion.", "Normal."]
    assert captions.ids([0, 2]).tolist() == [0, 1]
    with pytest.raises(
        ValueError, match="expected rows with a report, got 1 of 2 without"
    ):
        captions.ids([0, 1])
    assert rw.pretrain.caption_of(missing) == ""


def test_a_forest_of_unknown_patients_says_so():
    scores = rw.probe.Scores.of(
        np.linspace(0, 1, 20)[:, None],
        table_of([None] * 20, Edema=[0, 1] * 10),
        ["Edema"],
    )
    figure = rw.show.forest(scores.auroc())
    assert "20 images; patients not known; 10 positives" in figure.to_json()
    assert "20 of 20 images without a patient_id" in figure.to_json()


def test_a_curated_folder_keeps_its_zeros_on_the_way_through_the_shell(
    tmp_path, capsys
):
    from radwb.cli import main

    table = table_of([f"{n:04d}" for n in range(30)])
    table.to_csv(tmp_path / "t.csv", index=False)
    from radwb.cli import read_table

    assert (
        read_table(tmp_path / "t.csv")["patient_id"].tolist()
        == table["patient_id"].tolist()
    )
    assert main(["probe", "radwb-tiny", str(tmp_path / "t.csv")]) == 1  # no split
    assert "expected rows with split 'test' in t.csv" in capsys.readouterr().err


def test_numbers_of_a_csv_stay_numbers_whatever_zeros_they_begin_with(tmp_path):
    text = "path, patient_id ,age_years,Pneumonia,ward\na,0007,045,00,01\nb,8,50,1,2\n"
    (tmp_path / "t.csv").write_text(text)
    table = rw.data.read_table(tmp_path / "t.csv")
    assert table["patient_id"].tolist() == ["0007", "8"]
    assert table["age_years"].tolist() == [45, 50]
    assert table["Pneumonia"].tolist() == [0, 1]
    assert table["ward"].tolist() == ["01", "2"]


@pytest.mark.parametrize(
    "text", [b"path,patient_id\na,1,2\n", b"", b"path,site\na,Z\xfcrich\n"]
)
def test_a_csv_that_would_be_read_askew_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(ValueError, match=r"t\.csv: expected a CSV in UTF-8"):
        rw.data.read_table(tmp_path / "t.csv")


def test_what_a_csv_calls_missing_is_missing_everywhere():
    assert identifiers(["NA", "n/a", "#N/A", [1]]).tolist() == [None, None, None, "[1]"]
