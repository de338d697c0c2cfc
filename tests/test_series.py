"""Series sorted into volumes: each planted fault is named, and nothing is left out.

A clean series is called clean.
"""

import math
import random
import re
import sys
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from test_data import fetched, make_dicom

import radwb as rw
from radwb.curate import index, read_volume, series
from radwb.data import ReadError, read

STEP = 2.5
AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def slice_file(folder, number, place, *, uid="1.2.3", shape=(4, 5), **fields):
    """A slice whose voxels all hold its number; its name says nothing of its place."""
    folder.mkdir(exist_ok=True, parents=True)
    facts = dict(
        SeriesInstanceUID=uid,
        StudyInstanceUID="1.2",
        ImageOrientationPatient=AXIAL,
        RescaleSlope=1,
        RescaleIntercept=0,
        ConvolutionKernel="B30f",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
    )
    name = random.Random(f"{number} {uid} {shape} {place} {fields}").randrange(10**9)
    pixels = np.full(shape, number, np.int16)
    place = {"ImagePositionPatient": place}
    return make_dicom(folder / f"{name}.dcm", pixels, **{**facts, **place, **fields})


def stack_of(folder, heights=range(8), slide=0.0, **fields):
    """Axial slices at heights in steps; a tilt slides each forward."""
    for n, z in enumerate(heights):
        slice_file(folder, n, [-10, 20 + slide * z * STEP, z * STEP], **fields)
    return folder


def only(table):
    assert len(table) == 1
    return table.iloc[0]


def names(row):
    return [text.partition(" (")[0] for text in row["problems"].split("; ") if text]


def clean(folder):
    return stack_of(folder)


def missing(folder):
    return stack_of(folder, [0, 1, 2, 4, 5, 6, 7])


def missing_two(folder):
    return stack_of(folder, [0, 1, 3, 4, 5, 7, 8, 9])


def doubled(folder):
    return stack_of(folder, [0, 1, 2, 2, 3, 4, 5])


def thicker_below(folder):
    return stack_of(folder, [0, 1, 2, 3, 4, 5, 7, 9, 11, 13])


def one_between(folder):
    return stack_of(folder, [0, 1, 2, 2.5, 3, 4, 5])


def tilted(folder):
    return stack_of(folder, slide=math.tan(math.radians(12)))


def shifted(folder):
    slice_file(folder, 8, [-4, 20, 8 * STEP])
    return stack_of(folder)


def wobbling(folder):
    for n in range(6):
        angle = math.radians(2 * n)
        facing = [1, 0, 0, 0, math.cos(angle), math.sin(angle)]
        slice_file(folder, n, [0, 0, n * STEP], ImageOrientationPatient=facing)
    return folder


def two_orientations(folder):
    for n in range(6):
        place = [0, n * STEP, 0]
        slice_file(folder, n, place, ImageOrientationPatient=CORONAL)
    return stack_of(folder)


def two_kernels(folder):
    stack_of(folder, ConvolutionKernel="B70f")
    return stack_of(folder)


def two_sizes(folder):
    stack_of(folder, range(20, 26), shape=(8, 10))
    return stack_of(folder)


def scout_by_header(folder):
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    facing = {"ImageOrientationPatient": CORONAL}
    slice_file(folder, 99, [0, 0, 0], ImageType=kind, shape=(9, 9), **facing)
    return stack_of(folder)


def scouts_by_place(folder):
    for n, facing in enumerate((CORONAL, SAGITTAL)):
        slice_file(folder, 90 + n, [0, 0, 0], ImageOrientationPatient=facing)
    return stack_of(folder)


def two_scales(folder):
    stack_of(folder, range(4, 8), RescaleIntercept=-1024)
    return stack_of(folder, range(4))


def two_patients(folder):
    stack_of(folder, range(4, 8), PatientID="P2")
    return stack_of(folder, range(4))


def no_place(folder):
    slice_file(folder, 50, None)
    return stack_of(folder)


def skewed(folder):
    slice_file(folder, 50, [0, 0, 50], ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    return stack_of(folder)


PLANTED = {
    clean: ([], ""),
    missing: (["missing slice"], r"1, after slice 3 of 7: 5 mm where 2.5 are"),
    missing_two: (["missing slice"], r"2, after slice 2 of 8: 5 mm"),
    doubled: (["doubled slice"], "1 share another's place"),
    thicker_below: (["unequal spacing"], r"2.5 to 5 mm, mostly 2.5"),
    one_between: (["unequal spacing"], r"1.25 to 2.5 mm, mostly 2.5"),
    tilted: (["tilted gantry"], r"12\.0 degrees"),
    shifted: (["shifted slice"], r"1, by up to 6 mm"),
    wobbling: (["mixed orientation", "single slice"], r"1 \+ 1 \+ 1 \+ 1 \+"),
    two_orientations: (["two series under one UID"], r"by orientation 8 \+ 6"),
    two_kernels: (["two series under one UID"], r"by kernel 8 \+ 8"),
    two_sizes: (["two series under one UID"], r"by size 8 \+ 6"),
    scout_by_header: (["localiser among slices"], "1 of 9"),
    scouts_by_place: (["localiser among slices"], "2 of 10"),
    two_scales: (["mixed rescale"], "2 different"),
    two_patients: (["two patients under one UID"], "2"),
    no_place: (["no place"], r"1 of 9: \(0020,0032\) ImagePositionPatient is missing"),
    skewed: (["no place"], r"ImageOrientationPatient is not two directions at right"),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_named_and_no_other(tmp_path, plant):
    folder = plant(tmp_path / "ct")
    row = only(series(folder))
    expected, evidence = PLANTED[plant]
    assert names(row) == expected
    assert bool(row["ok"]) == (not expected)
    if evidence:
        assert re.search(evidence, row["problems"])
    assert set(row["paths"]) == {str(path) for path in folder.iterdir()}
    if expected:
        with pytest.raises(ReadError, match="expected no problems, got .*Try accept"):
            read_volume(row)


def test_geometry_is_that_of_the_file(tmp_path):
    row = only(series(stack_of(tmp_path / "ct")))
    assert row["shape"] == (8, 4, 5)
    assert row["spacing_mm"] == (STEP, 0.5, 0.25)
    assert row["orientation"] == "axial"
    assert (row["patient_id"], row["study_id"], row["series_id"]) == (
        "P1",
        "1.2",
        "1.2.3",
    )
    volume = read_volume(row)
    assert volume.voxels[:, 0, 0].tolist() == list(range(8))
    assert np.array_equal(volume.affine, read(tmp_path / "ct").affine)
    assert [read(path).pixels.shape for path in row["paths"][:1]] == [(4, 5)]


def test_what_is_accepted_is_read_as_it_lies_and_says_that_no_affine_fits(tmp_path):
    row = only(series(missing(tmp_path / "a")))
    volume = read_volume(row, accept=["missing slice"])
    assert volume.voxels[:, 0, 0].tolist() == list(range(7))
    assert volume.affine is None
    assert volume.pixel_mm == (0.5, 0.25)
    with pytest.warns(UserWarning, match="12.0 degrees off their normal"):
        sheared = read_volume(
            only(series(tilted(tmp_path / "b"))), accept=["tilted gantry"]
        )
    assert np.allclose(
        sheared.affine[:3, 0], [0, STEP * math.tan(math.radians(12)), STEP]
    )
    scaled = read_volume(
        only(series(two_scales(tmp_path / "c"))), accept=["mixed rescale"]
    )
    assert scaled.voxels[:, 0, 0].tolist() == [0, 1, 2, 3, -1024, -1023, -1022, -1021]


@pytest.mark.parametrize("plant", [two_orientations, two_sizes, scout_by_header])
def test_what_is_no_volume_is_read_with_no_argument(tmp_path, plant):
    row = only(series(plant(tmp_path / "ct")))
    with pytest.raises(ReadError):
        read_volume(row, accept=names(row))


@pytest.mark.parametrize(
    ("plant", "sizes"),
    [
        (two_orientations, [8, 6]),
        (two_kernels, [8, 8]),
        (two_sizes, [8, 6]),
        (scout_by_header, [8, 1]),
        (scouts_by_place, [8, 1, 1]),
        (no_place, [1, 8]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_apart_gives_each_part_a_row_that_reads(tmp_path, plant, sizes):
    folder = plant(tmp_path / "ct")
    table = series(folder, apart=True)
    assert table["slices"].tolist() == sizes
    listed = [path for paths in table["paths"] for path in paths]
    assert sorted(listed) == sorted(map(str, folder.iterdir()))
    for _, row in table[table["slices"] > 1].iterrows():
        assert row["ok"], row["problems"]
        assert read_volume(row).shape[0] == row["slices"]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_highdicom_calls_the_same_series_regular(tmp_path, plant):
    """An independent reference: it stacks a series, or it doesn't."""
    highdicom = pytest.importorskip("highdicom")
    folder = plant(tmp_path / "ct")
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    # it looks at places alone
    if plant in (two_scales, two_patients, no_place, skewed, shifted):
        pytest.skip("no fault of places")
    if plant is two_sizes:
        pytest.skip("two stacks far apart: two sizes, one line of places")
    step, _ = highdicom.spatial.get_series_volume_positions(files)
    assert (step is not None) == bool(only(series(folder))["ok"])


def test_a_pet_scales_each_slice_and_that_is_no_fault(tmp_path):
    for n in range(5):
        slice_file(tmp_path, n, [0, 0, n], Modality="PT", RescaleSlope=1 + n)
    assert only(series(tmp_path))["ok"]


def test_series_lie_among_each_other_and_what_is_no_slice_is_a_row(tmp_path):
    stack_of(tmp_path / "a", range(0, 8, 2), uid="1.2.3")
    stack_of(tmp_path / "b", range(1, 8, 2), uid="1.2.3")
    stack_of(tmp_path / "a", uid="1.2.4", Modality="MR")
    report = "1.2.840.10008.5.1.4.1.1.88.11"
    pixels = np.zeros((4, 4), np.int16)
    none = dict.fromkeys(["Rows", "Columns", "PixelData"])
    make_dicom(
        tmp_path / "sr.dcm", pixels, SOPClassUID=report, SeriesInstanceUID="9", **none
    )
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    (tmp_path / "notes.txt").write_text("no DICOM")
    table = series(tmp_path)
    assert table["ok"].tolist() == [False, True, True, False]
    assert table["slices"].tolist() == [1, 8, 8, 1]
    assert "can't be read (1 of 1: " in table["problems"][0]
    assert "no slice (1 of 1: Basic Text SR Storage)" in table["problems"][3]
    assert read_volume(table.iloc[1]).voxels[:, 0, 0].tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_of_an_index_it_knows_whose_pixels_cant_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    folder = stack_of(tmp_path / "ct")
    whole = next(iter(sorted(folder.iterdir())))
    whole.write_bytes(whole.read_bytes()[:-9])
    assert only(series(folder))["ok"]  # headers alone
    row = only(series(index(folder)))
    assert names(row) == ["can't be read"]
    assert "PixelData has" in row["problems"]
    assert not row["ok"]


@pytest.mark.parametrize("refused", [None, "x.dcm: expected DICOM, got status 404"])
def test_a_slice_that_a_table_names_and_nobody_can_read_makes_its_series_not_ok(
    tmp_path, monkeypatch, refused
):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    folder = stack_of(tmp_path / "ct")
    table = index(folder)
    end = only(series(folder))["paths"][-1]  # which leaves no gap
    last = table.index[table["path"] == end][0]
    rw.data.names.local_path(end).unlink()
    table["refused"] = table["refused"].astype(object)
    table.loc[last, "refused"] = refused
    row = only(series(table))
    assert names(row) == ["can't be read"]
    assert ("404" in row["problems"]) == bool(refused)
    assert (row["slices"], row["ok"], len(row["paths"])) == (8, False, 8)
    with pytest.raises(ReadError, match="expected no problems"):
        read_volume(row)
    alone = only(series(table.loc[[last]]))  # and where no slice is left
    assert alone[["patient_id", "series_id", "ok"]].tolist() == ["P1", "1.2.3", False]


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_files_that_may_be_slices_and_cant_be_read_are_counted(
    tmp_path, monkeypatch, content
):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    folder = stack_of(tmp_path / "ct")
    next(folder.iterdir()).write_bytes(content)
    (folder / "notes.txt").write_text("no slice, and nobody asks")
    for source in (folder, index(folder)):
        with pytest.warns(UserWarning, match=r"^1 files can't be read .*\.dcm\. A"):
            series(source)


def test_series_of_files_whose_reader_crashed_are_rows(tmp_path, monkeypatch):
    module = sys.modules["radwb.curate.series"]
    monkeypatch.setattr(module, "slices_of", module._lost)
    row = only(series(stack_of(tmp_path / "ct")))
    assert names(row) == ["no UID", "can't be read"]


def test_frames_of_one_file_are_slices(tmp_path):
    frames = []
    for n in (2, 0, 1):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, n * STEP]
        frames.append(frame)
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.25]
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = AXIAL
    fields = dict(
        Rows=4,
        Columns=5,
        NumberOfFrames=3,
        PixelSpacing=None,
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[shared],
    )
    pixels = np.repeat(np.array([2, 0, 1], np.int16), 20).reshape(3, 4, 5)
    make_dicom(tmp_path / "ct.dcm", pixels, SeriesInstanceUID="1.2.3", **fields)
    row = only(series(tmp_path))
    assert row["ok"], row["problems"]
    assert row["shape"] == (3, 4, 5)
    assert len(row["paths"]) == 1
    assert read_volume(row).voxels[:, 0, 0].tolist() == [0, 1, 2]


def test_control_characters_of_a_header_are_shown_escaped(tmp_path):
    slice_file(tmp_path, 0, [0, 0, 0], PatientID="A\x1b[31mB")
    assert only(series(tmp_path))["patient_id"] == r"A\x1b[31mB"


def test_a_folder_that_is_none_and_an_empty_one(tmp_path):
    with pytest.raises(ValueError, match="expected a folder or a table"):
        series(tmp_path / "nowhere")
    table = series(tmp_path)
    assert len(table) == 0
    assert "problems" in table


def test_two_processes_sort_as_one_does(tmp_path):
    stack_of(tmp_path / "a")
    missing(tmp_path / "b")
    one, two = (series(tmp_path, workers=n) for n in (1, 2))
    assert one.to_dict() == two.to_dict()


def test_slices_between_others_are_refused_also_by_read(tmp_path):
    """A gap that is too small moved every other slice before."""
    with pytest.raises(ReadError, match=r"got 1\.25 mm after slice 3 of 7"):
        read(one_between(tmp_path / "ct"))


def test_the_real_ct_is_one_volume_and_each_fault_in_it_is_found(tmp_path):
    source = fetched("lidc-dicom")
    row = only(series(source))
    assert row["ok"]
    assert row["shape"] == (133, 512, 512)
    assert row["spacing_mm"] == (2.5, 0.703125, 0.703125)
    for path in sorted(source.glob("*.dcm"))[:30]:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        ds.save_as(tmp_path / path.name)
    assert only(series(tmp_path))["ok"]
    order = [rw.data.names.local_path(path) for path in only(series(tmp_path))["paths"]]
    order[11].unlink()
    ds = pydicom.dcmread(order[20])
    ds.SOPInstanceUID = generate_uid()
    ds.save_as(tmp_path / "copy.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = only(series(tmp_path))
    assert names(row) == ["doubled slice", "missing slice"]
    assert "missing slice (1, after slice 11 of 30: 5 mm" in row["problems"]
