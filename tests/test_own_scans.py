"""README's "your own scans" runs as written, on five kinds of folder.

What it says of patients is so.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import radwb as rw

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Your own scans, your own model")[1]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
FOLDER_TO_MAPS, WITH_LABELS, OWN_NETWORK = BLOCKS[:3]
DX = "1.2.840.10008.5.1.4.1.1.1.1"
FILMS = 12


def pixels(n, shape=(48, 40)):
    return np.random.default_rng(n).integers(0, 255, shape, np.uint8)


def dicom(path, n, *, frames=1):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = DX
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.PatientID = f"{n:04d}"
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = 48
    ds.Columns = 40
    ds.SamplesPerPixel = 1
    ds.BitsAllocated = 8
    ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    shape = (48, 40)
    if frames > 1:
        ds.NumberOfFrames = frames
        shape = (frames, 48, 40)
    ds.PixelData = pixels(n, shape).tobytes()
    ds.save_as(path, enforce_file_format=True)


def dicom_with_ids(folder):
    for n in range(FILMS):
        dicom(folder / f"{n}.dcm", n)


def unlabelled_png(folder):
    for n in range(FILMS):
        Image.fromarray(pixels(n)).save(folder / f"{n}.png")


def with_a_multi_frame_file(folder):
    dicom_with_ids(folder)
    dicom(folder / "loop.dcm", 99, frames=5)


def with_damaged_files(folder):
    dicom_with_ids(folder)
    whole = (folder / "0.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")


def png_beside_labels(folder):
    unlabelled_png(folder)
    rows = [(f"{n}.png", f"{n:04d}", n % 2) for n in range(FILMS)]
    columns = ["path", "patient_id", "Pleural Effusion"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "labels.csv", index=False)


LEFT_OUT = {
    dicom_with_ids: "",
    unlabelled_png: "",
    with_a_multi_frame_file: "1 of 13 files are left out: 1 of several frames",
    with_damaged_files: "3 of 15 files are left out: 3 refused",
    png_beside_labels: "1 of 13 files are left out: 1 refused",
}


@pytest.mark.parametrize("fill", LEFT_OUT, ids=lambda fill: fill.__name__)
def test_the_readme_leads_from_a_folder_to_scores_and_maps(fill, tmp_path, monkeypatch):
    (tmp_path / "inbox").mkdir()
    fill(tmp_path / "inbox")
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(FOLDER_TO_MAPS, names)
    texts = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert len(texts) == bool(LEFT_OUT[fill])
    assert all(LEFT_OUT[fill] in text for text in texts)
    assert len(names["scores"].values) == FILMS
    assert names["m"].values.shape == (48, 40)
    row = names["scores"].auroc().iloc[0]
    assert (row["positives"], row["note"]) == (0, "no labelled image")


def test_the_readme_leads_from_labels_to_intervals_by_patient(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "inbox").mkdir()
    png_beside_labels(tmp_path / "inbox")
    labels = pd.read_csv(tmp_path / "inbox" / "labels.csv", dtype=str)
    for n in range(FILMS, 60):
        Image.fromarray(pixels(n)).save(tmp_path / "inbox" / f"{n}.png")
        labels.loc[n] = [f"{n}.png", f"{n:04d}", n % 2]
    labels.to_csv(tmp_path / "inbox" / "labels.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names = {}
    with pytest.warns(UserWarning, match="1 of 61 files are left out: 1 refused"):
        exec(FOLDER_TO_MAPS.replace("rw.show.explore", "id, "), names)
    exec(WITH_LABELS, names)
    assert names["table"]["patient_id"][7][0] == "0"
    assert names["table"].groupby("patient_id")["split"].nunique().max() == 1
    assert "can't tell" in capsys.readouterr().out


@pytest.mark.parametrize("known", [None, np.nan, "", "nan"])
def test_without_patients_an_auroc_has_no_interval_until_one_asks_for_it(known):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    s = y * 0.5 + rng.normal(0, 0.6, 60)
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(60)], "Edema": y})
    table["patient_id"] = pd.Series([known] * 60, dtype=object)
    scores = rw.probe.Scores.of(s[:, None], table, ["Edema"])
    for row in (scores.auroc().iloc[0], scores.mean_auroc().iloc[0]):
        assert row["auroc"] == pytest.approx(rw.stats.auroc(y, s))
        assert np.isnan([row["low"], row["high"]]).all()
        assert row["note"] == "no interval: 60 of 60 images without a patient_id"
    again = rw.probe.Scores.of(s[:, None] + 1, table, ["Edema"])
    assert "60 of 60 images without a patient_id" in str(
        scores.against(again, ("a", "b"))
    )
    for split in (rw.curate.split_by_patient, rw.data.check_table):
        with pytest.raises(ValueError, match="one_patient_per_image"):
            split(table)
    named = rw.curate.one_patient_per_image(table)
    row = rw.probe.Scores.of(s[:, None], named, ["Edema"]).auroc().iloc[0]
    assert (row["patients"], row["note"]) == (60, "")
    assert row["low"] < row["auroc"] < row["high"]


def test_one_unknown_patient_takes_the_interval_of_all_statistics():
    y = np.tile([0, 1], 30)
    s = np.linspace(0, 1, 60)
    patients = [None, *range(59)]
    assert rw.stats.clustered_auroc(y, s, patients)["note"].startswith(
        "no interval: 1 of 60 images"
    )
    assert np.isnan(rw.stats.compare(y, s, patients, names=("a", "b")).low)
    mean = rw.stats.clustered_mean(s, patients)
    assert np.isnan(mean["low"])
    assert mean["note"].startswith("no interval: 1 of 60 images")
    with pytest.warns(UserWarning, match="1 of 60 rows without a patient_id"):
        assert np.isnan(rw.stats.bootstrap(y, s, patients)).all()


def test_known_patients_stay_where_the_others_are_their_own():
    table = pd.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "patient_id": ["7", None, " "]}
    )
    names = rw.curate.one_patient_per_image(table)["patient_id"]
    assert names[0] == "7"
    assert names.is_unique
    assert not names.str.contains("png").any()  # a file's name may be a person's


def test_labels_meet_their_films_however_the_path_is_written(tmp_path, monkeypatch):
    unlabelled_png(tmp_path)
    table = rw.curate.films(rw.curate.index(tmp_path))
    written = ["0.png", f"{tmp_path}/1.png", f"{tmp_path}/x/../2.png", "other.png"]
    rows = pd.DataFrame(
        {
            "path": written,
            "patient_id": ["0007", "7a", "7b", "8"],
            "Edema": [1, 0, 1, 0],
        }
    )
    rows.to_csv(tmp_path / "labels.csv", index=False)
    monkeypatch.chdir("/")
    with pytest.warns(
        UserWarning,
        match="9 of 12 films have no row in labels.csv, and 1 of its 4 rows no film",
    ):
        labelled = rw.curate.join_labels(table, tmp_path / "labels.csv")
    by_name = labelled.set_index(labelled["path"].map(lambda path: Path(path).name))
    assert by_name.loc[["0.png", "1.png", "2.png"], "Edema"].tolist() == [1, 0, 1]
    assert by_name.loc["0.png", "patient_id"] == "0007"
    assert by_name["Edema"].notna().sum() == 3
    pd.concat([rows, rows.head(1).assign(Edema=0)]).to_csv(
        tmp_path / "labels.csv", index=False
    )
    with pytest.raises(ValueError, match="expected one row a film"):
        rw.curate.join_labels(table, tmp_path / "labels.csv")


def test_the_shell_splits_films_of_nobody_only_on_request(tmp_path, capsys):
    from radwb.cli import main

    (tmp_path / "inbox").mkdir()
    for n in range(60):
        Image.fromarray(pixels(n)).save(tmp_path / "inbox" / f"{n}.png")
    (tmp_path / "inbox" / "notes.txt").write_text("hello")
    call = [
        "curate",
        str(tmp_path / "inbox"),
        "--split",
        "--out",
        str(tmp_path / "t.csv"),
    ]
    assert main(call) == 1
    assert (
        "patient_id in every row, got 60 of 60 rows without" in capsys.readouterr().err
    )
    assert main([*call, "--one-patient-per-image"]) == 0
    assert "refused: 1" in capsys.readouterr().out
    table = rw.data.read_table(tmp_path / "t.csv")
    assert (len(table), table["patient_id"].nunique()) == (60, 60)


def test_ones_own_network_becomes_a_model(tmp_path):
    unlabelled_png(tmp_path)
    table = pd.DataFrame({"path": sorted(map(str, tmp_path.glob("*.png")))})
    names = {"rw": rw, "table": table, "scan": rw.data.read(table.path[0])}
    exec(OWN_NETWORK, names)
    assert rw.models.embed(names["mine"], table).shape == (FILMS, 16)
    assert names["m"].values.shape == names["scan"].shape
    assert names["m"].values.max() > 0
