"""Reading: equal to independent readers, and one clear sentence on bad files."""

import itertools
import os
import random
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import radwb as rw
from radwb.data import ReadError, Scan, Volume, read

warnings.filterwarnings("ignore", module="pydicom")
BUNDLED = (
    Path(pydicom.__file__).parent / "data" / "test_files"
)  # only what lies in pydicom's wheel
RNG = np.random.default_rng(0)


def mirror(folder):
    root = os.environ.get("RADWB_MIRROR")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(
            f"the files of {folder} aren't checked: RADWB_MIRROR names no folder that "
            "holds them"
        )
    return Path(root) / folder


def fetched(name):
    try:
        return rw.data.fetch(name, offline=True)
    except rw.data.FetchError:
        pytest.skip(
            f"{name} isn't checked: it isn't in the cache yet (rw.data.fetch({name!r}) "
            "gets it)"
        )


def make_dicom(path, pixels, **fields):
    """A small CT or DX file with exactly the fields that a test is about; a field of
    None is left out.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    samples = pixels.shape[-1] if pixels.ndim == 3 and pixels.shape[-1] == 3 else 1
    plain = dict(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        SOPInstanceUID=generate_uid(),
        Modality="CT",
        PatientID="P1",
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        SamplesPerPixel=samples,
        BitsAllocated=8 * pixels.itemsize,
        BitsStored=8 * pixels.itemsize,
        HighBit=8 * pixels.itemsize - 1,
        PixelSpacing=[0.5, 0.25],
        PixelRepresentation=int(pixels.dtype.kind == "i"),
        PhotometricInterpretation="MONOCHROME2",
        PixelData=pixels.tobytes(),
    )
    for keyword, value in {**plain, **fields}.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def lut(first, values, bits):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    return Sequence([item])


CT = RNG.integers(-1024, 2000, (24, 32)).astype(np.int16)
WINDOWS = [
    dict(WindowCenter=40, WindowWidth=400),
    dict(WindowCenter=40, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"),
    dict(WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID"),
    dict(WindowCenter=[-600, 40], WindowWidth=[1500, 400]),
    dict(WindowCenter=0, WindowWidth=1),
]


def shown_by_pydicom(path):
    """The reference: pydicom's modality and VOI steps, scaled by the range that its
    window writes to.
    """
    ds = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(pixel_array(ds), ds), ds).astype(float)
    low, high = apply_modality_lut(np.array([-(2**15), 2**15 - 1], np.int16), ds)
    return (values - low) / (high - low)


@pytest.mark.parametrize(
    "window",
    WINDOWS,
    ids=lambda w: f"{w.get('VOILUTFunction', 'LINEAR')}-{w['WindowWidth']}",
)
def test_window_equals_pydicoms(tmp_path, window):
    path = make_dicom(
        tmp_path / "ct", CT, RescaleSlope=2, RescaleIntercept=-1024, **window
    )
    assert np.abs(read(path).pixels - shown_by_pydicom(path)).max() < 1e-5


def test_voi_lut_and_modality_lut_equal_pydicoms(tmp_path):
    raw = RNG.integers(0, 256, (20, 30)).astype(np.uint16)
    voi = lut(0, np.sort(RNG.integers(0, 4096, 256)), 12)
    path = make_dicom(
        tmp_path / "voi", raw, VOILUTSequence=voi, WindowCenter=5, WindowWidth=3
    )
    ds = pydicom.dcmread(path)
    assert np.abs(read(path).pixels - apply_voi_lut(raw, ds) / 4095).max() < 1e-6
    modality = lut(0, RNG.permutation(4096)[:256], 16)
    modality[0].ModalityLUTType = "US"
    path = make_dicom(tmp_path / "modality", raw, ModalityLUTSequence=modality)
    values = apply_modality_lut(raw, pydicom.dcmread(path)).astype(float)
    assert (
        np.abs(read(path).pixels - (values - values.min()) / np.ptp(values)).max()
        < 1e-6
    )


def test_a_window_in_hu_overrides_the_files_own(tmp_path):
    path = make_dicom(
        tmp_path / "ct",
        CT,
        RescaleSlope=1,
        RescaleIntercept=0,
        WindowCenter=0,
        WindowWidth=10,
    )
    assert np.allclose(
        read(path, window=(-160, 240)).pixels,
        np.clip((CT + 160.0) / 400, 0, 1),
        atol=1e-6,
    )


def test_monochrome1_shows_the_same_picture(tmp_path):
    raw = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)
    fields = dict(BitsStored=12, HighBit=11, Modality="DX")
    bright = make_dicom(
        tmp_path / "two", raw, WindowCenter=2048, WindowWidth=4096, **fields
    )
    dark = make_dicom(
        tmp_path / "one",
        4095 - raw,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=2048,
        WindowWidth=4096,
        **fields,
    )
    assert np.abs(read(bright).pixels - read(dark).pixels).max() < 1e-3
    dark = make_dicom(
        tmp_path / "full", 4095 - raw, PhotometricInterpretation="MONOCHROME1", **fields
    )
    assert read(dark).pixels[raw == raw.max()].min() == 1


def test_padding_is_black_and_outside_of_the_range(tmp_path):
    raw = RNG.integers(100, 200, (20, 30)).astype(np.uint16)
    raw[:, :5] = 65535
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = make_dicom(
            tmp_path / "dx",
            raw,
            PixelPaddingValue=65535,
            PhotometricInterpretation=photometric,
        )
        pixels = read(path).pixels
        assert pixels[:, :5].max() == 0
        assert (pixels[:, 5:].min(), pixels[:, 5:].max()) == (0, 1)


def test_colour_becomes_luminance(tmp_path):
    raw = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    path = make_dicom(
        tmp_path / "us", raw, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    assert np.allclose(read(path).pixels, raw @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


@pytest.mark.parametrize(
    "copy", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "expb"]
)
def test_a_compressed_copy_reads_as_the_original(copy):
    assert np.array_equal(
        read(BUNDLED / f"MR_small_{copy}.dcm").pixels,
        read(BUNDLED / "MR_small.dcm").pixels,
    )


def test_lossless_jpeg_equals_gdcms():
    path = BUNDLED / "SC_rgb_jpeg_gdcm.dcm"
    reference = (
        pixel_array(pydicom.dcmread(path), decoding_plugin="gdcm")
        @ [0.299, 0.587, 0.114]
        / 255
    )
    assert np.abs(read(path).pixels - reference).max() < 1e-6


def test_damaged_lossless_jpeg_cannot_end_the_process(tmp_path):
    """GDCM calls abort() on some of these; it happens in a process of its own, which
    comes back.
    """
    path, whole = tmp_path / "bad.dcm", (BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes()
    start = whole.index(b"\xff\xd8")
    for seed in (0, 6):
        damaged, rng = bytearray(whole), random.Random(seed)
        for _ in range(3):
            damaged[rng.randrange(start, start + 700)] = rng.randrange(256)
        path.write_bytes(damaged)
        assert read_or_refuse(path)
    assert read(BUNDLED / "SC_rgb_jpeg_gdcm.dcm").shape == (100, 100)


def test_a_decoder_that_was_killed_comes_back():
    from radwb.data import decode

    assert read(BUNDLED / "SC_rgb_jpeg_gdcm.dcm").shape == (100, 100)
    decode._workers[os.getpid()].kill()
    decode._workers[os.getpid()].wait()
    assert read(BUNDLED / "SC_rgb_jpeg_gdcm.dcm").shape == (100, 100)


def test_spacing_is_never_guessed(tmp_path):
    assert read(make_dicom(tmp_path / "a", CT)).spacing_mm == (0.5, 0.25)
    assert (
        read(
            make_dicom(
                tmp_path / "b", CT, PixelSpacing=None, ImagerPixelSpacing=[0.139, 0.139]
            )
        ).spacing_mm
        is None
    )
    assert read(make_dicom(tmp_path / "c", CT, PixelSpacing=[0, 0])).spacing_mm is None


@pytest.mark.parametrize(
    ("code", "view"),
    [("PA", "PA"), ("ap", "AP"), ("LL", "LATERAL"), ("RL", "LATERAL"), ("XX", None)],
)
def test_view_position(tmp_path, code, view):
    assert read(make_dicom(tmp_path / "a", CT, ViewPosition=code)).view == view


def test_a_file_with_frames_is_a_volume(tmp_path):
    frames = RNG.integers(0, 99, (4, 6, 5)).astype(np.uint16)
    loop = read(
        make_dicom(
            tmp_path / "us",
            frames,
            NumberOfFrames=4,
            Rows=6,
            Columns=5,
            SamplesPerPixel=1,
        )
    )
    assert np.array_equal(loop.voxels, frames)
    assert loop.spacing_mm is None
    assert loop.slice(0, 2).shape == (6, 5)


def write_series(folder, *, places=range(6), order=None, uids="1.2.3", **fields):
    """Slices along z whose voxels all hold their own z; file names in an order that
    says nothing.
    """
    names = order or random.Random(1).sample(range(len(places)), len(places))
    for name, z in zip(names, places, strict=True):
        uid = uids if isinstance(uids, str) else uids[name]
        position = dict(
            ImagePositionPatient=[-10, 20, z * 2.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        rescale = dict(RescaleSlope=1, RescaleIntercept=-100, SeriesInstanceUID=uid)
        make_dicom(
            folder / f"{name}.dcm",
            np.full((4, 5), z + 100, np.int16),
            **{**position, **rescale, **fields},
        )
    return folder


def test_a_series_is_ordered_by_position_and_knows_its_place(tmp_path):
    write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    volume = read(tmp_path)
    assert volume.voxels[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.allclose(volume.affine @ [3, 2, 1, 1], [-10 + 0.25, 20 + 1.0, 7.5, 1])
    assert volume.spacing_mm == (2.5, 0.5, 0.25)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            dict(places=[0, 1, 2, 4, 5, 6]),
            r"equal gaps of 2\.5 mm, got 5 mm after slice 3 of 6",
        ),
        (dict(places=[0, 1, 2, 2, 3, 4]), "two slices share the place 5.00 mm"),
        (dict(uids=["1.2.3"] * 3 + ["1.2.4"] * 3), r"\(0020,000E\) SeriesInstanceUID"),
        (
            dict(ImagePositionPatient=None),
            r"\(0020,0032\) ImagePositionPatient is missing",
        ),
        (dict(PixelSpacing=[0, 0]), r"\(0028,0030\) PixelSpacing is \['0.0', '0.0'\]"),
    ],
)
def test_a_series_with_a_fault_is_refused(tmp_path, change, reason):
    with pytest.raises(ReadError, match=reason):
        read(write_series(tmp_path, **change))


def test_lidc_series_equals_the_nifti_of_the_same_ct():
    series, nifti = read(fetched("lidc-dicom")), read(fetched("lidc-ct") / "cxr.nii.gz")
    flipped = nifti.voxels[
        :, ::-1
    ]  # the same place in the patient: NIfTI's second axis runs the other way
    assert np.array_equal(series.voxels, flipped)
    height = series.shape[1]
    for index in [(0, 0, 0), (100, 17, 300), (132, 511, 5)]:
        d, h, w = index
        assert np.allclose(
            series.affine @ [d, h, w, 1],
            nifti.affine @ [d, height - 1 - h, w, 1],
            atol=1e-3,
        )


@pytest.mark.parametrize("flips", itertools.product((1, -1), repeat=3))
def test_nifti_voxels_and_affine_equal_monais(tmp_path, flips):
    from monai.transforms import LoadImage

    affine = np.diag([*(np.array([1.5, 2, 3]) * flips), 1.0])
    affine[:3, 3] = [7, -8, 9]
    data = RNG.integers(-999, 999, (5, 6, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "a.nii.gz")
    reference, mine = (
        LoadImage(image_only=True)(tmp_path / "a.nii.gz"),
        read(tmp_path / "a.nii.gz"),
    )
    assert np.array_equal(mine.voxels, np.asarray(reference).transpose(2, 1, 0))
    x, y, z = (np.asarray(reference.affine) @ [1, 2, 3, 1])[:3]  # MONAI keeps RAS
    assert np.allclose(mine.affine @ [3, 2, 1, 1], [-x, -y, z, 1])


@pytest.mark.parametrize("flips", itertools.product((1, -1), repeat=3))
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 1, 2), (1, 0, 2)])
def test_slices_show_the_head_up_and_the_patients_left_on_the_right(flips, order):
    affine = np.eye(4)
    for index_axis, world_axis in enumerate(
        order
    ):  # which of L, P, S each index axis follows, and which way
        affine[:3, index_axis] = 0
        affine[world_axis, index_axis] = (1.0, 2.0, 3.0)[world_axis] * flips[index_axis]
    where = np.stack([*np.indices((4, 4, 4)), np.ones((4, 4, 4))], -1) @ affine.T
    for name, world, rows, columns in [
        ("axial", 2, 1, 0),
        ("coronal", 1, -2, 0),
        ("sagittal", 0, -2, 1),
    ]:
        axis = order.index(world)
        down = Volume(where[..., abs(rows)].astype(np.float32), affine).slice(axis, 1)
        right = Volume(where[..., columns].astype(np.float32), affine).slice(axis, 1)
        falls = -1 if rows < 0 else 1  # S shrinks from the head down, P grows
        assert (np.diff(down.pixels, axis=0) * falls > 0).all(), name
        assert (np.diff(right.pixels, axis=1) > 0).all(), name
        assert down.spacing_mm == ((1.0, 2.0, 3.0)[abs(rows)], (1.0, 2.0, 3.0)[columns])


def test_png_gives_back_the_scan_with_its_truth(tmp_path):
    pixels = RNG.random((30, 20), np.float32)
    truth = {"Pleural Effusion": pixels > 0.5, "Lung Lesion": pixels < 0.2}
    rw.data.write_png(
        Scan(pixels, (0.8, 0.7), "PA", "DX", "", truth), tmp_path / "a.png"
    )
    scan = read(tmp_path / "a.png")
    assert np.abs(scan.pixels - pixels).max() <= 0.5 / 255 + 1e-6
    assert (scan.spacing_mm, scan.view, scan.modality) == ((0.8, 0.7), "PA", "DX")
    assert all(np.array_equal(scan.truth[f], truth[f]) for f in truth)
    assert list(scan.truth) == list(truth)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.truth.png"]


def test_other_pngs_and_jpegs(tmp_path):
    deep = RNG.integers(0, 65536, (9, 8)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.allclose(read(tmp_path / "deep.png").pixels, deep / 65535, atol=1e-6)
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (32, 1))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    Image.fromarray(np.rot90(ramp)).save(
        tmp_path / "turned.jpg", quality=95, exif=turned
    )
    assert read(tmp_path / "turned.jpg").shape == (32, 64)
    assert np.abs(read(tmp_path / "turned.jpg").pixels - ramp / 255).max() < 0.05
    Image.fromarray(np.dstack([ramp] * 3)).save(tmp_path / "colour.png")
    assert np.array_equal(
        read(tmp_path / "colour.png").pixels, (ramp / 255).astype(np.float32)
    )


def read_or_refuse(path):
    """None when the file reads, else the reason, which has to be one line that names
    the file.
    """
    try:
        scan = read(path)
    except ReadError as error:
        text = str(error)
        assert path.name in text
        assert "\n" not in text
        assert len(text) < 600
        return text
    values = scan.pixels if isinstance(scan, Scan) else scan.voxels
    assert values.dtype == np.float32
    if isinstance(scan, Scan):
        assert values.min() >= 0
        assert values.max() <= 1
    return None


def test_each_file_of_pydicoms_wheel_reads_or_says_why_not():
    refused = {
        p.name: read_or_refuse(p) for p in sorted(BUNDLED.rglob("*")) if p.is_file()
    }
    assert len(refused) > 100
    assert refused["CT_small.dcm"] is None
    assert "RT Dose Storage: a dose grid, not an image" in refused["rtdose.dcm"]
    assert "Basic Text SR Storage" in refused["reportsi.dcm"]
    assert (
        "8,130 bytes where 1 x 64 x 64 pixels need 8,192" in refused["MR_truncated.dcm"]
    )


REFUSED_ON_PURPOSE = {
    "rtdose": "dose grid",
    "missing_RescaleIntercept": "no zero",
    "slope_zero": "all pixels equal",
    "JPGExtended": "12-bit",
    "HTJ2K": "pylibjpeg-openjpeg",
}


def test_each_damaged_file_reads_or_says_why_not():
    folder = mirror("dicom_robustness")
    for row in pd.read_csv(folder / "metadata.csv").itertuples():
        reason = read_or_refuse(folder / row.file)
        on_purpose = [
            why for part, why in REFUSED_ON_PURPOSE.items() if part in row.file
        ]
        if str(row.pixels).startswith("yes") and reason is not None:
            assert on_purpose, f"{row.file} should read: {reason}"
            assert any(why in reason for why in on_purpose)


def noise(rng, whole):
    """Cut a file, or change a few of its bytes, mostly in the header."""
    damaged = bytearray(whole)
    if rng.random() < 0.3:
        return damaged[: rng.randrange(1, len(damaged))]
    for _ in range(rng.choice([1, 4, 40])):
        damaged[rng.randrange(rng.choice([400, len(damaged)]))] = rng.randrange(256)
    return damaged


def test_noise_in_a_file_gives_a_read_error_and_nothing_else(tmp_path):
    nib.save(nib.Nifti1Image(CT[..., None], np.eye(4)), tmp_path / "a.nii")
    Image.fromarray(CT.astype(np.uint8)).save(tmp_path / "a.png")
    names = [
        "CT_small.dcm",
        "SC_rgb_rle.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEG2000.dcm",
        "liver_1frame.dcm",
    ]
    sources = [BUNDLED / n for n in names] + [tmp_path / "a.nii", tmp_path / "a.png"]
    rng, path = random.Random(0), tmp_path / "noisy"
    refused = 0
    for n in range(210):
        path.write_bytes(noise(rng, sources[n % len(sources)].read_bytes()))
        refused += read_or_refuse(path) is not None
    assert 50 < refused < 210


@pytest.mark.parametrize("kind", ["dicom", "compressed", "nifti", "png"])
def test_a_giant_claim_costs_neither_memory_nor_time(tmp_path, kind):
    path = tmp_path / "giant"
    if kind == "dicom":
        make_dicom(path, CT, Rows=60000, Columns=60000)
    elif kind == "compressed":
        ds = pydicom.dcmread(BUNDLED / "MR_small_jpeg_ls_lossless.dcm")
        ds.Rows = ds.Columns = 60000
        ds.save_as(path)
    elif kind == "nifti":
        header = nib.Nifti1Header()
        header.set_data_shape((30000, 30000, 30000))
        header["vox_offset"], header["magic"] = 352, b"n+1"
        path.write_bytes(header.binaryblock + bytes(400))
    else:
        Image.fromarray(CT.astype(np.uint8)).save(path, "PNG")
        data = bytearray(path.read_bytes())
        data[16:24] = (60000).to_bytes(4, "big") * 2
        path.write_bytes(data)
    start = time.monotonic()
    tracemalloc.start()
    reason = read_or_refuse(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason is not None
    assert peak < 50e6
    assert time.monotonic() - start < 5


def test_a_long_narrow_image_reads(tmp_path):
    assert read(
        make_dicom(tmp_path / "line", RNG.integers(0, 9, (1, 4000)).astype(np.uint16))
    ).shape == (1, 4000)


@pytest.mark.parametrize(
    "keyword", ["Rows", "BitsStored", "PhotometricInterpretation", "PixelData"]
)
def test_a_missing_field_is_named_with_its_tag(tmp_path, keyword):
    number = pydicom.tag.Tag(keyword)
    with pytest.raises(
        ReadError,
        match=rf"\({number.group:04X},{number.element:04X}\) {keyword} is missing",
    ):
        read(make_dicom(tmp_path / "a", CT, **{keyword: None}))


def test_half_a_rescale_is_refused(tmp_path):
    with pytest.raises(
        ReadError, match=r"\(0028,1052\) RescaleIntercept is missing while its partner"
    ):
        read(make_dicom(tmp_path / "a", CT, RescaleSlope=1))


def test_nothing_of_a_path_is_assumed(tmp_path):
    for name, content in {
        "empty.dcm": b"",
        "text.dcm": b"dear colleague",
        "not.png": b"\x89PNG\r\n\x1a\nxx",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_or_refuse(tmp_path / name)
    assert "no such file" in read_or_refuse(tmp_path / "absent.dcm")
    (tmp_path / "none").mkdir()
    assert "no DICOM file" in read_or_refuse(tmp_path / "none")


def table_of(tmp_path, n=3):
    paths = [
        rw.data.write_png(
            Scan(np.full((8, 6), k / 10, np.float32)), tmp_path / f"{k}.png"
        )
        for k in range(n)
    ]
    return pd.DataFrame(
        {
            "path": map(str, paths),
            "patient_id": [f"p{k}" for k in range(n)],
            "Edema": [1, 0, np.nan][:n],
        }
    )


def test_images_come_in_the_tables_order(tmp_path):
    table = table_of(tmp_path).iloc[[2, 0, 1]]
    stack = rw.data.images(table, 16, fit="squash")
    assert stack.dtype == np.uint8
    assert stack[:, 8, 8].tolist() == [51, 0, 26]  # round(0.2 * 255), ...


def test_a_good_table_passes_and_keeps_its_findings_in_order(tmp_path):
    table = table_of(tmp_path).assign(**{"Cardiomegaly": -1})
    assert rw.data.check_table(table, needs=("Edema",)) is table
    assert rw.data.findings_of(table) == ["Cardiomegaly", "Edema"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda t: t.drop(columns="patient_id"),
            r"expected the columns \['patient_id'\]",
        ),
        (lambda t: t.assign(path=t.path.iloc[0]), "each path once, got 3 rows"),
        (
            lambda t: t.assign(patient_id=["a", None, ""]),
            "patient_id in every row, got 2 without",
        ),
        (
            lambda t: t.assign(Edema=[1, 0, 2]),
            "labels 1, 0, -1 or NaN in Edema, got .*2",
        ),
        (
            lambda t: t.assign(Edema=["yes", 0, 1]),
            "labels 1, 0, -1 or NaN in Edema, got 'yes'",
        ),
        (lambda t: t.assign(Edema=np.nan), r"values in the columns \['Edema'\]"),
    ],
)
def test_a_bad_table_says_what_is_wrong(tmp_path, spoil, reason):
    with pytest.raises(ValueError, match=reason):
        rw.data.check_table(spoil(table_of(tmp_path)), needs=("Edema",))


def test_scan_of_reads_truth_from_the_row(tmp_path):
    from radwb.data.read import write_truth

    table = table_of(tmp_path, 1)
    mask = np.eye(8, 6, dtype=bool)
    write_truth({"Edema": mask}, tmp_path / "drawn.png")
    scan = rw.data.scan_of(
        table.assign(truth_path=str(tmp_path / "drawn.png"), view="AP").iloc[0]
    )
    assert np.array_equal(scan.truth["Edema"], mask)
    assert scan.view == "AP"


def test_real_sets_keep_the_schema_and_their_label_mapping():
    mirror("nih_cxr_1000_64px")
    nih = rw.data.real("nih-64")
    assert (
        (nih["Lung Lesion"] == 1) == ((nih["Nodule"] == 1) | (nih["Mass"] == 1))
    ).all()
    assert (
        nih["Pleural Effusion"]
        == nih["finding_labels"].str.contains("Effusion").astype(int)
    ).all()
    for name in ("kermany", "hannover", "covid-text"):
        assert rw.data.scan_of(rw.data.real(name).iloc[0]).pixels.max() <= 1
    masks = rw.data.real("covid-masks")
    scan = rw.data.scan_of(masks.iloc[0])
    drawn = (
        np.asarray(
            Image.open(
                mirror("covid_cxr_lesion_masks") / masks.iloc[0]["mask_left_lung"]
            )
        )
        > 0
    )
    assert scan.truth["lungs"][drawn].all()
    assert not (scan.truth["Lung Opacity"] & ~scan.truth["lungs"]).all()
