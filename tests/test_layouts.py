"""Known layouts: a small folder of each, as its publisher lays it out, as a table."""

import gzip
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

import radwb as rw
from radwb.curate.layouts import read

STUDY = "p10/p10000032/s50414267"
CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pleural Effusion,Pneumonia"
)
MIMIC_LABELS = "subject_id,study_id,Edema,No Finding,Pneumothorax"
PADCHEST_ALIKE = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Fracture",
    "Pneumonia",
    "Pneumothorax",
)
PADCHEST = (
    "ImageID,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
    "Projection,Report,Labels"
)
KAGGLE = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def write(folder, name, *lines):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def picture(folder, *names, size=(64, 48)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 90).save(path)


def dicom(folder, name, **fields):
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for keyword, value in fields.items():
        setattr(header, keyword, value)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path)


def nih(folder):
    write(
        folder,
        "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143",
        "00000002_001.png,Infiltration,1,2,414,F,AP,2500,2048,0.168,0.168",
        "00000003_000.png,No Finding,0,3,006M,F,PA,2500,2048,0.168,0.168",
        "00000013_004.png,Nodule|Effusion|Edema,4,13,60,M,AP,2500,2048,0.1,0.1",
    )
    write(
        folder,
        "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000001_000.png,Cardiomegaly,256,512,512,128,,,",
        "00000001_000.png,Infiltrate,0,0,1024,16,,,",
    )
    write(folder, "train_val_list.txt", "00000001_000.png", "00000002_001.png")
    write(folder, "test_list.txt", "00000013_004.png")
    picture(folder, "images_001/images/00000001_000.png")
    picture(folder, "images_001/images/00000002_001.png")
    picture(folder, "images_002/images/00000013_004.png")


def chexpert(folder):
    place = "CheXpert-v1.0-small"
    write(
        folder / place,
        "train.csv",
        CHEXPERT,
        f"{place}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,",
        f"{place}/train/patient00002/study2/view1_frontal.jpg,Male,0,Frontal,PA,,-1.0,1.0,0.0",
        f"{place}/train/patient00002/study2/view2_lateral.jpg,Male,90,Lateral,,,-1.0,1.0,0.0",
    )
    write(
        folder / place,
        "valid.csv",
        CHEXPERT,
        f"{place}/valid/patient64541/study1/view1_frontal.jpg,Unknown,73,Frontal,LL,0.0,0.0,1.0,0.0",
    )
    for part, patient, study in (
        ("train", "patient00001", "study1"),
        ("train", "patient00002", "study2"),
        ("valid", "patient64541", "study1"),
    ):
        picture(folder / place, f"{part}/{patient}/{study}/view1_frontal.jpg")


def mimic_tables(folder):
    write(
        folder,
        "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns,StudyDate",
        "02aa804e-bde0afdd,10000032,50414267,PA,3056,2544,21800506",
        "174413ec-4ec4c1f7,10000032,50414267,LATERAL,3056,2544,21800506",
    )
    write(
        folder,
        "mimic-cxr-2.0.0-chexpert.csv.gz",
        MIMIC_LABELS,
        "10000032,50414267,-1.0,,0.0",
    )
    write(
        folder,
        "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        "02aa804e-bde0afdd,50414267,10000032,validate",
        "174413ec-4ec4c1f7,50414267,10000032,validate",
    )
    write(folder, f"files/{STUDY}.txt", " FINAL REPORT", " EXAMINATION: CHEST")


def mimic_jpg(folder):
    mimic_tables(folder)
    picture(folder, f"files/{STUDY}/02aa804e-bde0afdd.jpg")
    picture(folder, f"files/{STUDY}/174413ec-4ec4c1f7.jpg")


def mimic(folder):
    mimic_tables(folder)
    write(
        folder,
        "cxr-record-list.csv.gz",
        "subject_id,study_id,dicom_id,path",
        f"10000032,50414267,02aa804e-bde0afdd,files/{STUDY}/02aa804e-bde0afdd.dcm",
    )
    dicom(folder, f"files/{STUDY}/02aa804e-bde0afdd.dcm", PatientAge="052Y")


def padchest(folder):
    write(
        folder,
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        PADCHEST,
        "1_k6ga29.png,20140915,1,83986,1930.0,F,PA,' sin hallazg .',['normal']",
        "2_a.png,20150914,2,31357,1929.0,M,AP_horizontal,x,\"['pleural effusion', "
        "'laminar atelectasis ', 'NSG tube', 'callus rib fracture']\"",
        "3_b.png,20150914,3,31357,1929.0,O,COSTAL,x,['unchanged']",
        "4_c.png,20150914,4,4,,None,L,,\"['calcified pleural thickening', "
        "'pseudonodule', 'ground glass pattern']\"",
        "5_d.png,20150914,5,5,1950.0,M,PA,x,",
    )
    picture(folder, "0/1_k6ga29.png", "0/2_a.png", "54/3_b.png", "54/4_c.png")


def vindr(folder):
    labels = "Cardiomegaly,Lung Opacity,Pleural effusion,Pneumonia"
    write(
        folder,
        "annotations/image_labels_train.csv",
        f"image_id,rad_id,{labels},Other diseases,No finding",
        "aa,R8,1,0,1,0,0,0",
        "aa,R9,1,0,0,0,0,0",
        "aa,R10,0,0,0,0,1,0",
        *(f"bb,{reader},0,0,0,0,0,1" for reader in ("R1", "R2", "R3")),
    )
    write(
        folder,
        "annotations/image_labels_test.csv",
        f"image_id,{labels},Other disease,No finding",
        "cc,0,0,0,1,0,0",
    )
    write(
        folder,
        "annotations/annotations_train.csv",
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
        "aa,R8,Cardiomegaly,10,20,30,40.5",
        "aa,R9,Cardiomegaly,12,22,32,42",
        "aa,R8,Pleural effusion,0,100,20,128",
        "aa,R9,Aortic enlargement,1,2,3,4",
        "bb,R1,No finding,,,,",
    )
    dicom(folder, "train/aa.dicom", PatientSex="F", PatientAge="041Y")
    dicom(folder, "train/bb.dicom", PatientSex="O", PatientAge="")
    dicom(folder, "test/cc.dicom", PatientSex="M", PatientAge="060Y")


def rsna(folder):
    write(
        folder,
        "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "0004,,,,,0",
        "0005,256,512,128,64,1",
        "0005,0,0,64,64,1",
        "0006,,,,,0",
    )
    write(
        folder,
        "stage_2_detailed_class_info.csv",
        "patientId,class",
        "0004,No Lung Opacity / Not Normal",
        "0005,Lung Opacity",
        "0005,Lung Opacity",
        "0006,Normal",
    )
    for name, view in (("0004", "PA"), ("0005", "AP"), ("0006", "PA")):
        fields = {"ViewPosition": view, "PatientSex": "F", "PatientAge": "51"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 51 is no age string: theirs are so
            dicom(folder, f"stage_2_train_images/{name}.dcm", **fields)


def openi(folder):
    for number, codes in enumerate(
        (
            ["normal"],
            ["Cardiomegaly/mild", "Opacity/lung/base/left"],
            ["No Indexing"],
            ["Hydropneumothorax/right", "Density/ribs"],
        ),
        1,
    ):
        major = "".join(f"<major>{code}</major>" for code in codes)
        write(
            folder,
            f"ecgen-radiology/{number}.xml",
            f"<eCitation><uId id='CXR{number}'/>"
            "<AbstractText Label='FINDINGS'>Clear lungs.</AbstractText>"
            f"<MeSH>{major}</MeSH>"
            f"<parentImage id='CXR{number}_IM-0001-3001'/>"
            f"<parentImage id='CXR{number}_IM-0001-4001'/></eCitation>",
        )
        picture(folder, f"png/CXR{number}_IM-0001-3001.png")
        picture(folder, f"png/CXR{number}_IM-0001-4001.png")


def ct_rate(folder):
    names = "Medical material,Cardiomegaly,Emphysema,Lung nodule,Lung opacity"
    place = "dataset/multi_abnormality_labels"
    write(
        folder,
        f"{place}/train_predicted_labels.csv",
        f"VolumeName,{names},Pleural effusion,Consolidation",
        "train_1_a_1.nii.gz,0,1,1,1,0,0,0",
        "train_2_b_2.nii.gz,1,0,0,0,0,0,0",
    )
    write(
        folder,
        f"{place}/valid_predicted_labels.csv",
        f"VolumeName,{names},Pleural effusion,Consolidation",
        "valid_1_a_1.nii.gz,0,0,0,0,0,1,0",
    )
    write(
        folder,
        "dataset/radiology_text_reports/train_reports.csv",
        "VolumeName,ClinicalInformation_EN,Technique_EN,Findings_EN,Impressions_EN",
        "train_1_a_1.nii.gz,Not given.,Non-contrast,Trachea is open.,Nodule.",
    )
    write(
        folder,
        "dataset/metadata/train_metadata.csv",
        "VolumeName,Manufacturer,PatientSex,PatientAge",
        "train_1_a_1.nii.gz,Siemens,M,046Y",
    )
    brain = "train/train_2/train_2_b/train_2_b_2.nii.gz"
    write(folder, "dataset/metadata/no_chest_train.txt", brain)
    for part, place in (
        ("train", "train_1/train_1_a/train_1_a_1"),
        ("train_fixed", "train_1/train_1_a/train_1_a_1"),
        ("train", "train_2/train_2_b/train_2_b_2"),
        ("valid", "valid_1/valid_1_a/valid_1_a_1"),
    ):
        write(folder, f"dataset/{part}/{place}.nii.gz", "a volume")


MAKERS = {
    "nih": nih,
    "chexpert": chexpert,
    "mimic": mimic,
    "mimic-jpg": mimic_jpg,
    "padchest": padchest,
    "vindr": vindr,
    "rsna": rsna,
    "openi": openi,
    "ct-rate": ct_rate,
}


def made(name, folder, **options):
    MAKERS[name](folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rw.curate.layout(name, folder, **options)


def values(table, *columns):
    """Rows as lists, None for what is empty."""
    part = table[[*columns]].astype(object)
    return part.where(part.notna(), None).to_numpy().tolist()


# what holds for all of them


@pytest.mark.parametrize("name", MAKERS)
def test_the_table_keeps_the_schema(name, tmp_path):
    table = made(name, tmp_path)
    assert [*table.columns[:9]] == [*rw.data.table.COLUMNS]
    there = table[table["refused"] == ""].reset_index(drop=True)
    if there["patient_id"].isna().all():
        there = rw.curate.one_patient_per_image(there)
    rw.data.check_table(there)
    assert len(there) > 0
    assert all(Path(path).is_file() for path in there["path"])
    assert table["path"].notna().equals(table["refused"] == "") or name == "ct-rate"
    assert rw.data.findings_of(table)


@pytest.mark.parametrize("name", MAKERS)
def test_without_its_table_a_set_says_what_it_needs(name, tmp_path):
    with pytest.raises(ValueError, match=r"expected .* in .*got none") as error:
        rw.curate.layout(name, tmp_path)
    assert rw.curate.layouts().loc[name, "title"] in str(error.value)


@pytest.mark.parametrize("name", sorted({*MAKERS} - {"openi"}))
def test_a_table_without_its_column_says_which(name, tmp_path):
    MAKERS[name](tmp_path)
    about = read._about(name)["table"]
    for path in tmp_path.rglob("*.csv*"):
        if path.name.removesuffix(".gz") in about["files"][0]:
            table = pd.read_csv(path, dtype=str)
            table.drop(columns=about["needs"][0]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"expected the columns .* got .* Try"):
        rw.curate.layout(name, tmp_path)


def test_every_set_says_where_its_description_was_seen():
    table = rw.curate.layouts()
    assert sorted(table.index) == sorted(MAKERS)
    assert table.notna().all().all()
    assert (table.map(len) > 3).all().all()


def test_an_unknown_set_or_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of chexpert, .*got 'nihh'"):
        rw.curate.layout("nihh", tmp_path)
    with pytest.raises(ValueError, match=r"expected a folder, got .*nowhere"):
        rw.curate.layout("nih", tmp_path / "nowhere")


def test_a_table_that_is_no_table_is_said(tmp_path):
    (tmp_path / "Data_Entry_2017_v2020.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ValueError, match="expected a CSV in UTF-8"):
        rw.curate.layout("nih", tmp_path)
    (tmp_path / "Data_Entry_2017_v2020.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a CSV in UTF-8, got EmptyDataError"):
        rw.curate.layout("nih", tmp_path)


def test_two_images_that_a_row_may_mean_are_not_chosen_from(tmp_path):
    nih(tmp_path)
    picture(tmp_path, "images-224/00000001_000.png")
    table = rw.curate.layout("nih", tmp_path)
    assert "expected one image, got 2" in table["refused"][0]
    assert pd.isna(table["path"][0])


# one by one


def test_nih(tmp_path):
    table = made("nih", tmp_path)
    assert values(table, "patient_id", "study_id", "view", "sex", "split") == [
        ["1", "1_0", "PA", "M", "train"],
        ["2", "2_1", "AP", "F", "train"],
        ["3", "3_0", "PA", "F", None],
        ["13", "13_4", "AP", "M", "test"],
    ]
    assert values(table, "age_years") == [[58], [None], [0.5], [60]]
    assert values(table, "Lung Opacity", "Lung Lesion", "Edema", "No Finding") == [
        [0, 0, 0, 0],
        [-1, 0, 0, 0],
        [0, 0, 0, 1],
        [1, 1, 1, 0],
    ]
    assert table["refused"][2] == (
        "00000003_000.png: expected an image, got none in the folder"
    )
    box = table["boxes"][0][0]
    assert box == {
        "finding": "Cardiomegaly",
        "name": "Cardiomegaly",
        "reader": None,
        "box": (512, 256, 640, 768),
    }
    assert table["boxes"][1] is None


def test_nihs_boxes_fit_a_film_of_another_size(tmp_path):
    table = made("nih", tmp_path / "set", masks=tmp_path / "masks")
    assert table["truth_path"].notna().tolist() == [True, False, False, False]
    truth = rw.data.scan_of(table.iloc[0]).truth
    rows, columns = np.nonzero(truth["Cardiomegaly"])  # 48 x 64 of 1024 x 1024
    assert (rows.min(), rows.max() + 1) == (24, 30)
    assert (columns.min(), columns.max() + 1) == (16, 48)
    assert (tmp_path / "masks").stat().st_mode & 0o077 == 0


def test_a_box_that_begins_outside_its_film_is_cut_off_at_the_edge(tmp_path):
    nih(tmp_path / "set")
    write(
        tmp_path / "set",
        "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000001_000.png,Cardiomegaly,-64,-32,576,544,,,",
        "00000001_000.png,Mass,-300,10,200,200,,,",
        "00000002_001.png,Nodule,10,1100,200,200,,,",
        "00000013_004.png,Effusion,960,960,200,200,,,",
    )
    with pytest.warns(UserWarning, match="^2 boxes hold no pixel"):
        table = rw.curate.layout("nih", tmp_path / "set", masks=tmp_path / "masks")
    assert table["truth_path"].notna().tolist() == [True, False, False, True]
    assert (table["refused"] == "").tolist() == [True, True, False, True]
    truth = rw.data.scan_of(table.iloc[0]).truth
    assert set(truth) == {"Cardiomegaly"}
    mask = truth["Cardiomegaly"]  # 48 x 64 of 1024 x 1024
    assert mask[:24, :32].all()
    assert mask.sum() == 24 * 32
    assert rw.data.scan_of(table.iloc[3]).truth["Pleural Effusion"][45:, 60:].all()


def test_a_list_may_be_packed_and_one_that_is_cut_off_is_named(tmp_path):
    nih(tmp_path)
    whole = tmp_path / "test_list.txt"
    packed = gzip.compress(whole.read_bytes())
    whole.unlink()
    place = tmp_path / "test_list.txt.gz"
    place.write_bytes(packed)
    assert rw.curate.layout("nih", tmp_path)["split"][3] == "test"
    for broken in (packed[:-9], packed[:12] + b"\xff" * 20, gzip.compress(b"\xff")):
        place.write_bytes(broken)
        with pytest.raises(ValueError, match=r"test_list\.txt\.gz: expected a list"):
            rw.curate.layout("nih", tmp_path)


@pytest.mark.parametrize(("label", "different"), [("1.0", 0), ("0.0", 1), ("", 1)])
def test_an_image_with_two_labels_is_warned_about(tmp_path, label, different):
    chexpert(tmp_path)
    place = "CheXpert-v1.0-small"
    film = f"{place}/train/patient00001/study1/view1_frontal.jpg"
    with (tmp_path / place / "train.csv").open("a") as lines:
        lines.write(f"{film},Female,68,Frontal,AP,{label},,,\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = rw.curate.layout("chexpert", tmp_path)
    assert len(table) == 4
    assert table["No Finding"][0] == 1
    told = [str(w.message) for w in caught if "1 images have several" in str(w.message)]
    assert len(told) == different


def test_nih_as_the_shared_set_has_it(tmp_path):
    try:
        real = rw.data.real("nih-64")
    except rw.data.FetchError:
        pytest.skip("the set nih-64 isn't here")
    names = [*read._about("nih")["labels"][0]["names"]]
    own = ["Infiltration", "Emphysema", "Fibrosis", "Hernia", "Nodule", "Mass"]
    listed = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pneumonia"]
    listed += ["Pneumothorax", "No Finding", "Effusion", "Pleural_Thickening", *own]
    columns = [name for name in listed if name in real]
    lines = real[columns].apply(lambda row: "|".join(row.index[row == 1]), axis=1)
    raw = pd.DataFrame({"Image Index": [f"{n}.png" for n in range(len(real))]})
    raw = raw.assign(**{"Finding Labels": lines, "Patient ID": real["patient_id"]})
    raw.to_csv(tmp_path / "Data_Entry_2017.csv", index=False)
    table = rw.curate.layout("nih", tmp_path)
    pd.testing.assert_frame_equal(
        table[names].astype(float),
        real[names].astype(float),
        check_like=True,
    )


def test_chexpert_keeps_uncertain_and_blank_apart(tmp_path):
    table = made("chexpert", tmp_path)
    assert values(table, "patient_id", "study_id", "view", "sex", "split") == [
        ["patient00001", "patient00001_study1", "AP", "F", "train"],
        ["patient00002", "patient00002_study2", "PA", "M", "train"],
        ["patient00002", "patient00002_study2", "LATERAL", "M", "train"],
        ["patient64541", "patient64541_study1", "LATERAL", None, "val"],
    ]
    assert values(table, "age_years") == [[68], [None], [90], [73]]
    assert values(table, "No Finding", "Edema", "Pleural Effusion", "Pneumonia") == [
        [1, None, None, None],
        [None, -1, 1, 0],
        [None, -1, 1, 0],
        [0, 0, 1, 0],
    ]
    assert "Lung Opacity" not in table  # nobody labelled it here
    assert table["refused"].tolist()[2].startswith("train/patient00002/study2/view2")


@pytest.mark.parametrize("name", ["mimic", "mimic-jpg"])
def test_mimic(name, tmp_path):
    table = made(name, tmp_path)
    first = values(table, "patient_id", "study_id", "view", "split", "study_date")[0]
    assert first == ["10000032", "50414267", "PA", "val", "21800506"]
    assert values(table, "Edema", "No Finding", "Pneumothorax")[0] == [-1, None, 0]
    assert table["report"][0] == " FINAL REPORT\n EXAMINATION: CHEST\n"
    assert table["report_path"][0].endswith("p10000032/s50414267.txt")
    age = values(table, "age_years")[0][0]
    assert age == (52 if name == "mimic" else None)  # a DICOM header tells


def test_mimic_without_the_tables_of_its_jpgs_says_what_is_lacking(tmp_path):
    mimic(tmp_path)
    for path in tmp_path.glob("mimic-cxr-2.0.0-*"):
        path.unlink()
    with pytest.warns(UserWarning, match="without mimic-cxr-2.0.0") as caught:
        table = rw.curate.layout("mimic", tmp_path)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 3
    assert "without mimic-cxr-2.0.0-chexpert.csv" in said[0]
    assert rw.data.findings_of(table) == []
    assert table["patient_id"].tolist() == ["10000032"]


def test_padchest_reads_its_lists(tmp_path):
    table = made("padchest", tmp_path)
    assert values(table, "view", "sex", "age_years", "study_date") == [
        ["PA", "F", 84, "20140915"],
        ["AP", "M", 86, "20150914"],
        [None, None, 86, "20150914"],
        ["LATERAL", None, None, "20150914"],
        ["PA", "M", 65, "20150914"],
    ]
    columns = ("No Finding", "Pleural Effusion", "Atelectasis", "Fracture")
    assert values(table, *columns, "Support Devices") == [
        [1, 0, 0, 0, 0],
        [0, 1, 1, 1, 1],
        [None] * 5,
        [0, 0, 0, 0, 0],
        [None] * 5,
    ]
    columns = ("Lung Opacity", "Lung Lesion", "Pleural Other")
    assert values(table, *columns)[3] == [1, 0, 1]
    assert table["Lung Opacity"][1] == 1  # an atelectasis is one
    assert table["report"][0] == "' sin hallazg .'"


def test_vindrs_three_readers_vote(tmp_path):
    table = made("vindr", tmp_path / "set", masks=tmp_path / "masks")
    columns = ("Cardiomegaly", "Pleural Effusion", "Pneumonia", "No Finding")
    assert values(table, "image_id", "split", *columns) == [
        ["aa", "train", 1, -1, 0, 0],
        ["bb", "train", 0, 0, 0, 1],
        ["cc", "test", 0, 0, 1, 0],
    ]
    assert values(table, "sex", "age_years") == [["F", 41], [None, None], ["M", 60]]
    assert [box["reader"] for box in table["boxes"][0]] == ["R8", "R9", "R8", "R9"]
    assert table["boxes"][0][0]["box"] == (20, 10, 40.5, 30)
    assert table["boxes"][0][3]["finding"] is None  # no name of ours for it
    masks = rw.data.scan_of(table.iloc[0]).truth
    assert set(masks) == {"Cardiomegaly", "Pleural Effusion"}
    assert masks["Cardiomegaly"].sum() == 20 * 20 + 20 * 20 - 18 * 18


def test_vindr_as_kaggle_has_it(tmp_path):
    write(
        tmp_path,
        "train.csv",
        KAGGLE,
        *(f"aa,Pneumothorax,12,R{n},1,2,3,4" for n in (1, 1, 2)),
        "aa,No finding,14,R3,,,,",
        *(f"bb,No finding,14,R{n},,,," for n in (4, 5, 6)),
    )
    dicom(tmp_path, "train/aa.dicom")
    dicom(tmp_path, "train/bb.dicom")
    table = rw.curate.layout("vindr", tmp_path)
    columns = ("Pneumothorax", "No Finding", "Pneumonia")
    assert values(table, *columns) == [[1, -1, None], [0, 1, None]]
    assert len(table["boxes"][0]) == 3
    assert table["boxes"][1] is None
    assert "rad_id" not in table  # of one reader alone


def test_rsnas_boxes_are_truth(tmp_path):
    table = made("rsna", tmp_path / "set", masks=tmp_path / "masks")
    columns = ("Pneumonia", "Lung Opacity", "No Finding", "view", "sex", "age_years")
    assert values(table, "patient_id", *columns) == [
        ["0004", 0, None, 0, "PA", "F", 51],
        ["0005", 1, 1, 0, "AP", "F", 51],
        ["0006", 0, 0, 1, "PA", "F", 51],
    ]
    boxes = [box["box"] for box in table["boxes"][1]]
    assert boxes == [(512, 256, 576, 384), (0, 0, 64, 64)]
    truth = rw.data.scan_of(table.iloc[1]).truth  # 128 px for 1,024
    assert truth["Lung Opacity"].sum() == 8 * 16 + 8 * 8
    assert truth["Lung Opacity"][64:72, 32:48].all()


def test_openi_has_a_row_an_image_and_the_experts_codes(tmp_path):
    table = made("openi", tmp_path)
    assert len(table) == 8
    columns = ("Cardiomegaly", "Lung Opacity", "Pneumothorax", "No Finding")
    assert values(table, "patient_id", *columns)[::2] == [
        ["CXR1", 0, 0, 0, 1],
        ["CXR2", 1, 1, 0, 0],
        ["CXR3", None, None, None, None],
        ["CXR4", 0, 0, 1, 0],
    ]
    assert table["Pleural Effusion"][6] == 1
    assert table["report"][0] == "FINDINGS: Clear lungs."


def test_a_report_that_is_cut_off_is_named(tmp_path):
    openi(tmp_path)
    write(tmp_path, "ecgen-radiology/2.xml", "<eCitation><uId id='CXR2'/>")
    with pytest.raises(ValueError, match=r"2\.xml: expected the XML of a report"):
        rw.curate.layout("openi", tmp_path)


def test_a_damaged_film_is_a_row_with_its_reason(tmp_path):
    rsna(tmp_path / "set")
    film = tmp_path / "set/stage_2_train_images/0005.dcm"
    film.write_bytes(b"no DICOM")
    table = rw.curate.layout("rsna", tmp_path / "set", masks=tmp_path / "masks")
    assert table["refused"].tolist() == [
        "",
        "0005.dcm: damaged (InvalidDicomError)",
        "",
    ]


def test_ct_rate_takes_the_corrected_volumes_and_refuses_brains(tmp_path):
    table = made("ct-rate", tmp_path)
    assert values(table, "patient_id", "study_id", "sex", "age_years", "split") == [
        ["train_1", "train_1_a", "M", 46, "train"],
        ["train_2", "train_2_b", None, None, "train"],
        ["valid_1", "valid_1_a", None, None, "val"],
    ]
    assert "train_fixed" in table["path"][0]
    assert "no_chest_train.txt" in table["refused"][1]
    columns = ("Support Devices", "Cardiomegaly", "Lung Lesion", "Lung Opacity")
    assert values(table, *columns, "Emphysema") == [
        [0, 1, 1, 1, "1"],
        [1, 0, 0, 0, "0"],
        [0, 0, 0, 0, "0"],
    ]
    assert table["report"][0] == (
        "TECHNIQUE: Non-contrast\nFINDINGS: Trachea is open.\nIMPRESSION: Nodule."
    )


def test_rows_without_an_images_name_are_not_lost(tmp_path):
    write(
        tmp_path, "train.csv", CHEXPERT, "nowhere.jpg,Male,5,Frontal,AP,,,,", ",,,,,,,,"
    )
    table = rw.curate.layout("chexpert", tmp_path)
    assert len(table) == 2
    assert table["refused"].str.contains("expected an image, got none").all()


# against TorchXRayVision's own readers, on the tables that come with it


def xrv_labels(name, folder, **options):
    xrv = pytest.importorskip("torchxrayvision.datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = getattr(xrv, name)(imgpath=str(folder), **options)
    return data, pd.DataFrame(data.labels, columns=data.pathologies)


def included(folder, source, name):
    xrv = pytest.importorskip("torchxrayvision.datasets")
    (folder / name).write_bytes(Path(xrv.datapath, source).read_bytes())
    return folder


def test_nih_labels_are_torchxrayvisions(tmp_path):
    name = "Data_Entry_2017_v2020.csv.gz"
    ours = rw.curate.layout("nih", included(tmp_path, name, name))
    data, theirs = xrv_labels(
        "NIH_Dataset", tmp_path, unique_patients=False, views=["PA", "AP"]
    )
    assert len(ours) == len(theirs) == 112_120
    assert (data.csv["Image Index"].to_numpy() == ours["Image Index"]).all()
    assert (data.csv["patientid"].to_numpy() == ours["patient_id"]).all()
    renamed = {"Pleural Effusion": "Effusion", "Pleural Other": "Pleural_Thickening"}
    same = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pneumonia"]
    for finding in (*same, "Pneumothorax", *renamed):
        their = theirs[renamed.get(finding, finding)]
        assert (their.to_numpy() == ours[finding]).all(), finding
    lesion = theirs[["Nodule", "Mass"]].max(axis=1)
    assert (lesion.to_numpy() == ours["Lung Lesion"]).all()


def test_chexpert_labels_are_torchxrayvisions_before_it_drops_the_uncertain(tmp_path):
    folder = included(tmp_path, "chexpert_train.csv.gz", "train.csv.gz")
    ours = rw.curate.layout("chexpert", folder)
    views = ["PA", "AP", "L", "LL", "RL"]
    data, theirs = xrv_labels(
        "CheX_Dataset", tmp_path, unique_patients=False, views=views
    )
    assert len(ours) == len(theirs) == 223_414
    assert ("patient" + data.csv["patientid"]).tolist() == ours["patient_id"].tolist()
    for name in theirs.columns:
        finding = name.replace("Effusion", "Pleural Effusion")
        known = ours[finding].where(ours[finding] != -1)
        if finding != "Support Devices":
            known = known.mask(ours["No Finding"] == 1, 0)
        assert np.array_equal(known, theirs[name], equal_nan=True), finding


def test_padchest_labels_are_torchxrayvisions_where_both_mean_the_same(tmp_path):
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    ours = rw.curate.layout("padchest", included(tmp_path, name, name))
    views = ["PA", "L", "AP", "AP Supine"]
    data, theirs = xrv_labels(
        "PC_Dataset", tmp_path, unique_patients=False, views=views
    )
    keys = data.csv["ImageID"].to_numpy()
    ours = ours.set_index("ImageID").loc[keys]
    known = ours["No Finding"].notna().to_numpy()
    for finding in (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Fracture",
    ):
        their = theirs[finding].to_numpy()[known]
        assert (their == ours[finding][known]).all(), finding


def test_rsnas_target_and_vindrs_any_reader_are_torchxrayvisions(tmp_path):
    source = "kaggle_stage_2_train_labels.csv.zip"
    xrv = pytest.importorskip("torchxrayvision.datasets")
    with zipfile.ZipFile(Path(xrv.datapath, source)) as archive:
        archive.extractall(tmp_path)
    with pytest.warns(UserWarning, match="stage_2_detailed_class_info"):
        ours = rw.curate.layout("rsna", tmp_path)
    data, theirs = xrv_labels("RSNA_Pneumonia_Dataset", tmp_path, views=["PA", "AP"])
    ours = ours.set_index("patientId").loc[data.csv["patientId"]]
    assert (ours["Pneumonia"].to_numpy() == theirs["Pneumonia"]).all()
    assert (ours["boxes"].notna().to_numpy() == data.csv["has_masks"]).all()
    folder = included(tmp_path, "vinbigdata-train.csv.gz", "train.csv.gz")
    ours = rw.curate.layout("vindr", folder).set_index("image_id")
    data, theirs = xrv_labels("VinDr_Dataset", tmp_path)
    ours = ours.loc[data.csv["image_id"]]
    renamed = {"Pleural Effusion": "Effusion", "Pleural Other": "Pleural_Thickening"}
    for finding in ("Atelectasis", "Cardiomegaly", "Consolidation", *renamed):
        their = theirs[renamed.get(finding, finding)]
        assert ((ours[finding] != 0).to_numpy() == their).all(), finding


def test_mimic_labels_are_torchxrayvisions(tmp_path):
    ours = made("mimic-jpg", tmp_path)
    place = str(tmp_path / "mimic-cxr-2.0.0-{}.csv.gz")
    paths = {
        "csvpath": place.format("chexpert"),
        "metacsvpath": place.format("metadata"),
    }
    data, theirs = xrv_labels(
        "MIMIC_Dataset", tmp_path / "files", views=["PA"], **paths
    )
    assert data.csv["patientid"].tolist() == ours["patient_id"][:1].tolist()
    assert theirs[["Edema", "Pneumothorax"]].isna().to_numpy().tolist() == [
        [True, False]
    ]
    assert values(ours, "Edema", "Pneumothorax")[0] == [-1, 0]
