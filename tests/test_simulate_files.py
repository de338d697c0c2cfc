"""DICOM files of virtual patients: valid, read back as written.

Planted identifiers: all in the key, and only there.
"""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pydicom
import pytest

import radwb as rw
from radwb.data import Scan, Volume, read, scan_of
from radwb.data.read import write_png
from radwb.simulate.files import write_ct, write_dx
from radwb.simulate.identifiers import (
    DOCTORS,
    GIVEN,
    HOSPITALS,
    SURNAMES,
    plant_identifiers,
    write_dicom,
)

ROW = {
    "patient_id": "V0-000001",
    "study_id": "V0-000001-1",
    "sex": "F",
    "age_years": 57,
}
# a file of nobody has no study date; what identifies in ways that the DX object doesn't
# foresee is planted on purpose
UNAVOIDABLE = (
    "Study Date",
    "Study Time",
    "Other Patient IDs",
    "Telephone Numbers",
    "(0x0011,0x1001)",
    "retired attributes",
    "Standard Extended SOP Class",
)


def complaints(path):
    """Errors, and warnings that aren't expected, of dicom3tools' validator."""
    if not shutil.which("dciodvfy"):
        pytest.skip(
            "validity isn't checked: dciodvfy (Debian's dicom3tools) isn't installed"
        )
    errors = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True
    ).stderr
    assert re.search("^(DXImageForPresentation|CTImage)$", errors, re.M), errors
    return [
        s
        for s in errors.splitlines()
        if "Error" in s or ("Warning" in s and not any(u in s for u in UNAVOIDABLE))
    ]


def scan(view="PA", seed=0, shape=(96, 120), truth=True):
    rng = np.random.default_rng(seed)
    masks = {"Pneumothorax": rng.random(shape) > 0.9} if truth else {}
    return Scan(
        rng.random(shape).astype(np.float32), (1.4, 1.3000123), view, "DX", truth=masks
    )


@pytest.fixture
def table(tmp_path):
    """Nine films of six patients, one of them without report, sex or age."""
    rows = []
    for n in range(9):
        path = write_png(
            scan("LATERAL" if n == 4 else "PA", n), tmp_path / "png" / f"{n:06d}.png"
        )
        rows.append(
            {
                "path": str(path),
                "patient_id": f"V0-{n * 6 // 9}",
                "study_id": f"V0-{n * 6 // 9}-{n}",
                "view": "LATERAL" if n == 4 else "PA",
                "site": "ABC"[n % 3],
                "sex": "FM"[n % 2],
                "age_years": 30.0 + n,
                "Lung Lesion": 1,
                "report": f"FINDINGS: Nodule of 1.{n} cm. No effusion.\n"
                "IMPRESSION: Nodule.",
            }
        )
    rows[8] |= {"report": np.nan, "sex": np.nan, "age_years": np.nan}
    return pd.DataFrame(rows, index=range(10, 19))


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL"])
def test_dx_is_valid_and_reads_back(tmp_path, view):
    film = scan(view)
    path = tmp_path / "a.dcm"
    write_dx(film, path, ROW)
    assert complaints(path) == []
    back = read(path)
    assert np.abs(back.pixels - film.pixels).max() <= 0.5 / 4095 + 1e-6
    assert (back.spacing_mm, back.view, back.modality) == (film.spacing_mm, view, "DX")
    assert np.array_equal(
        scan_of({"path": path, "truth_path": str(tmp_path / "a.truth.png")}).truth[
            "Pneumothorax"
        ],
        film.truth["Pneumothorax"],
    )


def test_the_spacing_says_where_it_holds(tmp_path):
    write_dx(scan(), tmp_path / "a.dcm", ROW)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    magnification = ds.DistanceSourceToDetector / ds.DistanceSourceToPatient
    assert ds.PixelSpacingCalibrationType == "GEOMETRY"
    assert np.allclose(np.array(ds.ImagerPixelSpacing) / ds.PixelSpacing, magnification)
    assert np.isclose(ds.EstimatedRadiographicMagnificationFactor, magnification)
    with pytest.raises(ValueError, match="spacing_mm"):
        write_dx(
            Scan(np.zeros((9, 9), np.float32), None, "PA"), tmp_path / "b.dcm", ROW
        )
    with pytest.raises(ValueError, match="view"):
        write_dx(Scan(np.zeros((9, 9), np.float32), (1, 1)), tmp_path / "b.dcm", ROW)


def test_the_file_says_that_nobody_was_imaged(tmp_path):
    write_dx(scan(), tmp_path / "a.dcm", ROW | {"age_years": 97})
    if not shutil.which("dcmdump"):
        pytest.skip(
            "the header isn't checked: dcmdump (Debian's dcmtk) isn't installed"
        )
    dump = subprocess.run(
        ["dcmdump", tmp_path / "a.dcm"], capture_output=True, text=True, check=True
    ).stdout
    for line in (
        "[DERIVED\\PRIMARY\\]",
        "Synthetic image of a virtual patient",
        "(0012,0062) CS [YES]",
        "[090Y]",
        "(0012,0063) LO [No patient: simulated by radwb]",
        "(0028,0301) CS [NO]",
        "[radwb simulator]",
    ):
        assert line in dump, line


def affine(*, tilt=0.0):
    a = np.zeros((4, 4))
    a[:3, 0] = (0, -2.5 * np.sin(tilt), 2.5 * np.cos(tilt))
    a[:3, 1] = (0, 0.71, 0)
    a[:3, 2] = (0.69, 0, 0)
    a[:, 3] = -101.2345678, -87.3, 33.125, 1
    return a


@pytest.mark.parametrize("tilt", [0.0, 0.2], ids=["straight", "gantry tilted"])
def test_ct_is_valid_and_reads_back(tmp_path, tilt):
    hu = np.random.default_rng(0).integers(-1024, 3000, (4, 11, 13)).astype(np.float32)
    paths = write_ct(Volume(hu, affine(tilt=tilt), "CT"), tmp_path / "ct", ROW)
    assert [complaints(p) for p in paths] == [[]] * 4
    back = read(tmp_path / "ct")
    assert np.array_equal(back.voxels, hu)
    assert np.allclose(back.affine, affine(tilt=tilt), atol=1e-9)


def test_ct_that_runs_against_its_normal_comes_back_in_place(tmp_path):
    hu = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    against = affine()
    against[:3, 0] *= -1
    write_ct(Volume(hu, against), tmp_path / "ct", ROW)
    back = read(tmp_path / "ct")
    assert np.array_equal(back.voxels[::-1], hu)
    assert np.allclose(back.affine @ [2, 1, 1, 1], against @ [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("voxels", "place"),
    [
        (40000, affine()),
        (np.nan, affine()),
        (0, None),
        (0, affine() + np.eye(4)[:, [1, 0, 2, 3]] * 0.3),
    ],
)
def test_a_volume_that_ct_cannot_hold_is_refused(tmp_path, voxels, place):
    if place is not None and voxels == 0:
        place[0, 1] = 0.3  # rows lean towards the columns
    with pytest.raises(ValueError, match="expected"):
        write_ct(Volume(np.full((2, 3, 3), voxels, np.float32), place), tmp_path, ROW)


def test_a_cohort_keeps_its_rows_images_and_truth(table, tmp_path):
    films = write_dicom(table, tmp_path / "out")
    same = [c for c in table if c != "path"]
    pd.testing.assert_frame_equal(films[same], table[same], check_dtype=False)
    headers = [pydicom.dcmread(p) for p in films["path"]]
    assert [h.PatientID for h in headers] == table["patient_id"].tolist()
    for level, n in (
        ("SOPInstanceUID", 9),
        ("StudyInstanceUID", table["study_id"].nunique()),
    ):
        assert len({h[level].value for h in headers}) == n
    for (_, film), (_, png) in zip(films.iterrows(), table.iterrows(), strict=True):
        assert np.array_equal(
            np.round(read(film["path"]).pixels * 255),
            np.round(read(png["path"]).pixels * 255),
        )
        assert np.array_equal(
            scan_of(film).truth["Pneumothorax"], scan_of(png).truth["Pneumothorax"]
        )


def test_the_same_seed_gives_the_same_bytes(table, tmp_path):
    def made(name, seed):
        films, key = plant_identifiers(table, tmp_path / name, seed=seed)
        places = films["report"].tolist(), key.drop(columns="file").values.tolist()
        return places, [
            (tmp_path / name / p.split("/")[-1]).read_bytes() for p in films["path"]
        ]

    assert made("one", 3) == made("two", 3)
    assert made("one", 3)[0] != made("four", 4)[0]


def strings(ds, above=""):
    """place -> text of everything in a header, by this file's own recursion."""
    texts = {}
    for element in ds:
        place = above + (
            element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"
        )
        if element.VR == "SQ":
            for n, item in enumerate(element.value):
                texts |= strings(item, f"{place}[{n}].")
        elif element.keyword != "PixelData":
            texts[place.replace("PrivateCreator", "(0011,0010)")] = str(element.value)
    return texts


def header(path):
    ds = pydicom.dcmread(path)
    return strings(ds) | strings(ds.file_meta, "file_meta.")


def fragments(key):
    """What gives a person away even in part: each value, and each invented word on its
    own.
    """
    words = [
        w for w in (*SURNAMES, *DOCTORS, *sum(GIVEN.values(), ()), *sum(HOSPITALS, ()))
    ]
    return {*words, *key.loc[key["kind"] != "age over 89", "value"]}


def test_each_planted_value_is_where_the_key_says(table, tmp_path):
    films, key = plant_identifiers(table, tmp_path / "out")
    reports = dict(zip(films["path"], films["report"], strict=True))
    for path, part in key.groupby("file"):
        texts = header(path)
        for row in part[part["where"] == "header"].itertuples():
            assert row.value in texts[row.place], row
        for row in part[part["where"] == "text"].itertuples():
            start, end = map(int, row.place.split(","))
            assert reports[path][start:end] == row.value
    assert set(key["kind"]) == {"name", "date", "id", "place", "phone", "age over 89"}
    assert set(key["where"]) == {"header", "pixels", "text"}
    deep = {
        "OtherPatientIDsSequence[0].PatientID",
        "(0011,1001)",
        "SOPInstanceUID",
        "PatientComments",
    }
    assert deep <= set(key["place"])


def test_nothing_identifies_that_the_key_does_not_name(table, tmp_path):
    films, key = plant_identifiers(table, tmp_path / "out")
    for path, report in zip(films["path"], films["report"], strict=True):
        part = key[key["file"] == path]
        named = set(part.loc[part["where"] == "header", "place"])
        spans = [
            tuple(map(int, p.split(",")))
            for p in part.loc[part["where"] == "text", "place"]
        ]
        for value in fragments(key):
            leaks = {
                place
                for place, text in header(path).items()
                if value.lower() in text.lower()
            } - named
            assert not leaks, (value, leaks)
            for match in re.finditer(re.escape(value), report, re.IGNORECASE):
                assert any(a <= match.start() and match.end() <= b for a, b in spans), (
                    value,
                    report,
                )
        assert not re.search(r"\d{3,}|\d\d years", blanked(report, spans))
        assert [p for p, v in header(path).items() if re.fullmatch(r"09\dY", v)] == [
            p
            for p in part.loc[part["kind"] == "age over 89", "place"]
            if p == "PatientAge"
        ]


def blanked(text, spans):
    for a, b in spans:
        text = text[:a] + "_" * (b - a) + text[b:]
    return text


def test_the_planted_report_still_holds_the_whole_report(table, tmp_path):
    films, _ = plant_identifiers(table, tmp_path / "out")
    for new, old in zip(films["report"], table["report"].fillna(""), strict=True):
        rest = iter(re.split(r"(?<=\.)\s+", new))
        assert all(
            sentence in rest for sentence in re.split(r"(?<=\.)\s+", old) if sentence
        ), new


def test_burned_in_words_lie_in_their_boxes_and_some_files_deny_them(table, tmp_path):
    films, key = plant_identifiers(table, tmp_path / "out")
    annotations = []
    for path, plain in zip(films["path"], table["path"], strict=True):
        changed = np.abs(read(path).pixels - read(plain).pixels) > 1e-3
        boxes = key[(key["file"] == path) & (key["where"] == "pixels")]
        inside = np.zeros_like(changed)
        for place in boxes["place"]:
            top, left, bottom, right = map(int, place.split(","))
            box = changed[top:bottom, left:right]
            assert box.mean() > 0.3
            assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))
            assert (
                read(path).pixels[top:bottom, left:right].max() > 0.9
            )  # white letters
            assert not inside[top:bottom, left:right].any()
            inside[top:bottom, left:right] = True
        assert not changed[~inside].any()
        annotations.append((len(boxes) > 0, pydicom.dcmread(path).BurnedInAnnotation))
    assert {t: annotations.count(t) for t in annotations} == {
        (False, "NO"): 3,
        (True, "YES"): 3,
        (True, "NO"): 3,
    }
    assert set(key.loc[key["where"] == "pixels", "kind"]) == {"name", "date", "id"}


def test_planted_files_are_valid_but_no_longer_claim_to_be_of_nobody(table, tmp_path):
    films, _ = plant_identifiers(table, tmp_path / "out")
    for path in films["path"][:3]:
        assert complaints(path) == []
        assert pydicom.dcmread(path).PatientIdentityRemoved == "NO"


def test_a_patient_is_one_person_in_all_studies(table, tmp_path):
    films, _ = plant_identifiers(table, tmp_path / "out")
    headers = [pydicom.dcmread(p) for p in films["path"]]
    people = {
        (p, str(h.PatientName), h.PatientID, h.PatientBirthDate, h.PatientAge)
        for p, h in zip(films["patient_id"], headers, strict=True)
    }
    assert (
        len(people) == len({p[0] for p in people}) == len({p[2] for p in people}) == 6
    )
    assert (
        headers[0].StudyDate < headers[1].StudyDate
    )  # two studies of the first patient
    for h, age in zip(headers, films["age_years"], strict=True):
        assert int(h.PatientAge[:3]) == age


def test_share_leaves_the_other_patients_clean(table, tmp_path):
    films, key = plant_identifiers(table, tmp_path / "out", share=0.5)
    assert films.loc[films["path"].isin(key["file"]), "patient_id"].nunique() == 3
    for (_, film), (_, row) in zip(films.iterrows(), table.iterrows(), strict=True):
        if film["path"] not in set(key["file"]):
            assert pydicom.dcmread(film["path"]).PatientIdentityRemoved == "YES"
            assert film["report"] == row["report"] or pd.isna(row["report"])


def test_letters_that_do_not_fit_are_refused(tmp_path):
    path = write_png(scan(shape=(20, 20)), tmp_path / "a.png")
    small = pd.DataFrame([{"path": str(path), "patient_id": "V", "view": "PA"}])
    write_dicom(small, tmp_path / "clean")
    with pytest.raises(ValueError, match="20 x 20"):
        plant_identifiers(small, tmp_path / "out", seed=1)


def test_the_shell_writes_dicom_with_its_key_and_shards(tmp_path, capsys):
    from radwb import cli

    folder = tmp_path / "films"
    shards = tmp_path / "shards"
    table = tmp_path / "table.csv"
    words = [
        "simulate",
        "-n",
        "4",
        "--dicom",
        folder,
        "--identifiers",
        "--shards",
        shards,
        "--out",
        table,
        "--json",
    ]
    assert cli.main([str(w) for w in words]) == 0, capsys.readouterr().err
    key = pd.read_csv(folder / "key.csv")
    rows = pd.read_csv(table)
    assert len(list(folder.glob("*.dcm"))) == len(rows) == 4
    assert set(key["file"]) == set(rows["path"])
    assert len(list(rw.data.read_shards(sorted(shards.glob("*.tar"))))) == 4
    assert cli.main(["simulate", "-n", "4", "--identifiers"]) != 0
