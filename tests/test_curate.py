"""Curation: every file is a row, and patients stay on one side.

Sections are what stands under a heading.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

import radwb as rw
from radwb.curate import check_split, index, sections, split_by_patient

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("CT_small.dcm", "reportsi.dcm", "rtdose.dcm", "MR_truncated.dcm"):
        shutil.copy(BUNDLED / name, tmp_path / "deep" / name)
    scan = rw.data.Scan(
        np.zeros((8, 6), np.float32),
        (1, 2),
        "PA",
        "DX",
        "",
        {"Edema": np.zeros((8, 6), bool)},
    )
    rw.data.write_png(scan, tmp_path / "film.png")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / ".DS_Store").write_text("hidden")
    return tmp_path


def test_every_file_is_a_row_and_refused_ones_say_why(inbox):
    table = index(inbox).set_index("path")
    table.index = [Path(p).name for p in table.index]
    assert set(table.index[table.refused == ""]) == {"CT_small.dcm", "film.png"}
    assert set(table.index[table.refused != ""]) == {
        "reportsi.dcm",
        "rtdose.dcm",
        "MR_truncated.dcm",
        "film.truth.png",
        "notes.txt",
        "empty.dcm",
        "gone.dcm",
    }
    assert "dose grid" in table.refused["rtdose.dcm"]
    assert "0 bytes" in table.refused["empty.dcm"]
    assert "no such file" in table.refused["gone.dcm"]


def test_header_fields_become_columns(inbox):
    table = index(inbox)
    row = table[table.path.str.endswith("CT_small.dcm")].iloc[0]
    ds = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    assert (row.patient_id, row.study_id, row.modality) == (
        ds.PatientID,
        ds.StudyInstanceUID,
        "CT",
    )
    assert (row.rows, row["columns"], row.frames) == (128, 128, 1)
    assert [row.row_mm, row.column_mm] == [float(s) for s in ds.PixelSpacing]
    film = table[table.path.str.endswith("film.png")].iloc[0]
    assert (film["view"], film.row_mm, film.column_mm) == ("PA", 1, 2)
    assert set(rw.data.table.COLUMNS) <= set(table.columns)


def test_what_is_odd_is_noted_and_not_guessed(tmp_path):
    ds = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    ds.PixelSpacing, ds.ImagerPixelSpacing = None, [0.139, 0.139]
    with pytest.warns(UserWarning, match="Invalid value"):
        ds.PatientAge = "old"
    ds.save_as(tmp_path / "a.dcm")
    ds.PixelSpacing, ds.PatientAge = [0, 0], "006M"
    ds.save_as(tmp_path / "b.dcm")
    a, b = (row for _, row in index(tmp_path).iterrows())
    assert np.isnan(a.age_years)
    assert "PatientAge is 'old'" in a.notes
    assert "at the detector" in a.notes
    assert pd.isna(a.row_mm)
    assert b.age_years == 0.5
    assert "(0028,0030) PixelSpacing is '0.0" in b.notes
    assert b.notes.count("(0028,0030)") == 1  # said once
    assert (
        "['0.139', '0.139'] mm in (0018,1164) ImagerPixelSpacing is at the detector"
        in b.notes
    )


def test_the_usable_rows_pass_the_schema(inbox):
    table = index(inbox)
    usable = table[(table.refused == "") & table.patient_id.notna()]
    assert len(rw.data.check_table(usable)) == 1


def test_sections_by_heading():
    report = (
        "CHEST 2 VIEWS\nINDICATION: Cough. Technique: PA and lateral.\n"
        "FINDINGS: No\n  effusion. IMPRESSION: Normal."
    )
    assert {name: text for name, text in sections(report).items() if text} == {
        "findings": "No effusion.",
        "impression": "Normal.",
        "indication": "Cough.",
        "technique": "PA and lateral.",
        "other": "CHEST 2 VIEWS",
    }


def test_a_word_in_a_sentence_is_no_heading():
    assert sections("FINDINGS: In comparison: stable. The impression: none.")[
        "findings"
    ].endswith("impression: none.")
    assert sections("No headings here.")["other"] == "No headings here."
    assert (
        sections("Clinical History: Pain.\nConclusion: Clear.")["impression"]
        == "Clear."
    )
    assert set(sections(None).values()) == {""}


def test_a_heading_that_comes_twice_is_joined():
    assert sections("FINDINGS: A. IMPRESSION: B. FINDINGS: C.")["findings"] == "A. C."


def test_sections_of_the_real_reports_equal_the_xmls():
    try:
        folder = rw.data.fetch("openi-reports", offline=True)
    except rw.data.FetchError:
        pytest.skip(
            "sections aren't checked on the real reports: openi-reports isn't in the "
            "cache"
        )
    table = rw.data.reports(folder)
    assert len(table) == 3955
    assert table.report_id.is_unique
    for name in ("findings", "impression", "indication", "comparison"):
        got = table.report.map(lambda report, name=name: sections(report)[name])
        # one report holds a whole second report in its impression, one a comparison in
        # its findings; twelve indications begin with their own heading
        assert (got != table[name].str.removeprefix("INDICATION: ")).sum() <= 3, name


def cohort(patients=400, seed=0):
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, patients, 3 * patients)
    return pd.DataFrame(
        {
            "path": [f"{n}.png" for n in range(len(owner))],
            "patient_id": [f"p{o}" for o in owner],
        }
    )


def test_split_keeps_patients_apart_and_holds_the_fractions():
    table = check_split(split_by_patient(cohort(4000)))
    sides = table.drop_duplicates("patient_id")["split"].value_counts(normalize=True)
    for part, fraction in zip(("train", "val", "test"), (0.7, 0.1, 0.2), strict=True):
        assert abs(sides[part] - fraction) < 4 * np.sqrt(
            fraction * (1 - fraction) / 3800
        )  # four standard errors


def test_a_new_patient_moves_nobody():
    table = cohort()
    more = pd.concat(
        [
            pd.DataFrame({"path": ["new.png"], "patient_id": ["new"]}),
            table.sample(frac=1, random_state=1),
        ]
    )
    before, after = (
        split_by_patient(t)
        .drop_duplicates("patient_id")
        .set_index("patient_id")["split"]
        for t in (table, more)
    )
    assert (before == after[before.index]).all()


def test_another_seed_is_another_split_and_the_same_seed_the_same():
    table = cohort()
    assert split_by_patient(table, seed=1)["split"].equals(
        split_by_patient(table, seed=1)["split"]
    )
    assert not split_by_patient(table, seed=1)["split"].equals(
        split_by_patient(table, seed=2)["split"]
    )


def test_a_patient_on_both_sides_is_told_by_rows_and_not_by_name():
    table = split_by_patient(cohort())
    first = table.groupby("patient_id").filter(lambda g: len(g) > 1).index[0]
    table.loc[first, "split"] = "val" if table.loc[first, "split"] != "val" else "test"
    patient = table.loc[first, "patient_id"]
    rows = np.flatnonzero(table["patient_id"] == patient)[:4].tolist()
    with pytest.raises(
        ValueError, match="got 1 of .* patients in two or more"
    ) as refused:
        check_split(table)
    assert str(rows) in str(refused.value)
    assert patient not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: split_by_patient(cohort(), fractions=(0.7, 0.2, 0.2)), "add up to 1"),
        (
            lambda: split_by_patient(cohort().assign(patient_id=None)),
            "patient_id in every row, got 1200",
        ),
        (lambda: split_by_patient(cohort().head(1)), "got none in"),
        (lambda: check_split(cohort()), "Try split_by_patient"),
        (lambda: check_split(cohort().assign(split="train2")), r"got \['train2'\]"),
        (lambda: index("no/such/folder"), "expected a folder"),
    ],
)
def test_bad_input_says_what_was_expected(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
