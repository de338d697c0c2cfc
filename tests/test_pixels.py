"""One rule for pixels and geometry in all ways in.

File, frames, functional groups, series, NIfTI, PNG and shards.
"""

import io
import json
import struct
import warnings

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.uid import RLELossless
from test_data import lut, make_dicom, write_series

import radwb as rw
from radwb.data import ReadError, Scan, Volume, read, to_input, to_scan
from radwb.data.volumes import robust_window

warnings.filterwarnings("ignore", module="pydicom")
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 8, 7)).astype(np.uint16)
MANY = dict(
    NumberOfFrames=3, Rows=8, Columns=7, SamplesPerPixel=1, BitsStored=8, HighBit=7
)
AXIAL = [1, 0, 0, 0, 1, 0]


def group(**macros):
    """An item of functional groups: sequence keyword -> the fields of its one item."""
    item = Dataset()
    for name, fields in macros.items():
        macro = Dataset()
        for keyword, value in fields.items():
            setattr(macro, keyword, value)
        setattr(item, name, [macro])
    return item


# photometric


def test_monochrome1_is_inverted_in_a_file_in_frames_and_in_a_series_alike(tmp_path):
    fields = dict(
        PhotometricInterpretation="MONOCHROME1", WindowCenter=2, WindowWidth=8
    )
    (tmp_path / "ct").mkdir()
    write_series(tmp_path / "ct", order=list(range(6)), **fields)
    series = read(tmp_path / "ct")
    for d in (0, 3, 5):
        one = read(tmp_path / "ct" / f"{d}.dcm").pixels
        assert np.allclose(series.slice(0, d).pixels, one, atol=1e-6)
    assert series.voxels[:, 0, 0].tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # Hounsfield units stay what they are
    assert series.slice(0, 0, (0, 5)).pixels.max() == 1  # the lowest is white
    frames = read(
        make_dicom(
            tmp_path / "xa", FRAMES, **MANY, PhotometricInterpretation="MONOCHROME1"
        )
    )
    assert np.allclose(
        frames.slice(0, 1).pixels,
        1 - (FRAMES[1] - FRAMES.min()) / np.ptp(FRAMES),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("photometric", "samples"), [("RGB", 1), ("YBR_FULL", 1), ("MONOCHROME2", 3)]
)
def test_a_photometric_with_the_wrong_number_of_samples_is_refused_by_name(
    tmp_path, photometric, samples
):
    raw = np.zeros((4, 4, samples) if samples > 1 else (4, 4), np.uint8)
    path = make_dicom(
        tmp_path / "a",
        raw,
        PhotometricInterpretation=photometric,
        PlanarConfiguration=0,
    )
    with pytest.raises(
        ReadError,
        match=rf"\(0028,0002\) SamplesPerPixel for {photometric}, got {samples}",
    ):
        read(path)


def test_an_unknown_photometric_is_named(tmp_path):
    with pytest.raises(ReadError, match="PhotometricInterpretation is 'HSV'"):
        read(
            make_dicom(
                tmp_path / "a",
                np.zeros((4, 4), np.uint8),
                PhotometricInterpretation="HSV",
            )
        )


# VOI


VOIS = [
    dict(WindowCenter=[100], WindowWidth=[50], VOILUTFunction="SIGMOID"),
    dict(WindowCenter=[100], WindowWidth=[50], VOILUTFunction="LINEAR_EXACT"),
    dict(WindowCenter=[100], WindowWidth=[50]),
]


def shown_by_pydicom(values, fields):
    """pydicom's windowing of float values, from the range that it writes to (16 bits
    unsigned) to [0, 1].
    """
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelRepresentation = 0
    ds.BitsStored = 16
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    return apply_windowing(values.astype(np.uint16), ds) / 65535


@pytest.mark.parametrize(
    "place", ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"]
)
@pytest.mark.parametrize(
    "fields", VOIS, ids=lambda f: f.get("VOILUTFunction", "LINEAR")
)
def test_a_window_in_functional_groups_is_the_one_that_is_shown(
    tmp_path, fields, place
):
    items = [group(FrameVOILUTSequence=fields)]
    items = items * 3 if place.startswith("PerFrame") else items
    volume = read(make_dicom(tmp_path / "many", FRAMES, **MANY, **{place: items}))
    for n in range(3):
        assert (
            np.abs(
                volume.slice(0, n).pixels - shown_by_pydicom(FRAMES[n], fields)
            ).max()
            < 1e-4
        )
    one = make_dicom(
        tmp_path / "one", FRAMES[0], BitsStored=8, HighBit=7, **{place: items[:1]}
    )
    assert np.abs(read(one).pixels - shown_by_pydicom(FRAMES[0], fields)).max() < 1e-4


def test_each_frame_is_shown_in_its_own_window(tmp_path):
    items = [
        group(FrameVOILUTSequence=dict(WindowCenter=[c], WindowWidth=[40]))
        for c in (60, 120, 180)
    ]
    volume = read(
        make_dicom(
            tmp_path / "a", FRAMES, **MANY, PerFrameFunctionalGroupsSequence=items
        )
    )
    for n, center in enumerate((60, 120, 180)):
        want = shown_by_pydicom(FRAMES[n], dict(WindowCenter=center, WindowWidth=40))
        assert np.abs(volume.slice(0, n).pixels - want).max() < 1e-4
    across = (FRAMES[:, 4].astype(float) - FRAMES.min()) / np.ptp(
        FRAMES
    )  # no window is that of a cut across them
    assert np.allclose(volume.slice(1, 4).pixels, across, atol=1e-6)


def test_a_voi_table_in_functional_groups_is_applied(tmp_path):
    table = np.sort(RNG.integers(0, 4096, 256))
    items = [group(FrameVOILUTSequence=dict(VOILUTSequence=lut(0, table, 12)))]
    volume = read(
        make_dicom(tmp_path / "a", FRAMES, **MANY, SharedFunctionalGroupsSequence=items)
    )
    assert np.allclose(volume.slice(0, 2).pixels, table[FRAMES[2]] / 4095, atol=1e-6)


@pytest.mark.parametrize("field", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "abc"])
def test_a_window_that_is_no_number_is_left_out_and_said(tmp_path, field, value):
    raw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    path = with_text(
        make_dicom(
            tmp_path / "a", raw, **{"WindowCenter": 7, "WindowWidth": 7, field: -8.25}
        ),
        value,
    )
    with pytest.warns(UserWarning, match=r"WindowCenter.*WindowWidth.*no window"):
        pixels = read(path).pixels
    assert np.allclose(pixels, raw / 15)


@pytest.mark.parametrize("field", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["nan", "inf", "abc"])
def test_a_rescale_that_is_no_number_is_refused(tmp_path, field, value):
    raw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    fields = {"RescaleSlope": 1, "RescaleIntercept": 1, field: -8.25}
    with pytest.raises(ReadError, match=rf"{field} is '{value}.*no scale"):
        read(with_text(make_dicom(tmp_path / "a", raw, **fields), value))


def with_text(path, value):
    """The decimal string -8.25 in a file replaced by what pydicom wouldn't write."""
    whole = path.read_bytes()
    assert whole.count(b"-8.25") == 1
    path.write_bytes(whole.replace(b"-8.25", value.ljust(5).encode()))
    return path


# overlay bits and padding


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_overlay_bits_above_the_pixel_are_left_out(tmp_path, packed, signed):
    clean = RNG.integers(-2048 if signed else 0, 2048, (6, 8)).astype(np.int16)
    stored = (
        clean & 0x0FFF | RNG.integers(0, 16, clean.shape).astype(np.int16) << 12
    ).astype("<u2")
    fields = dict(
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=int(signed),
        RescaleSlope=1,
        RescaleIntercept=0,
    )
    path = make_dicom(tmp_path / "a", stored, **fields)
    if packed:
        compress(path)
    pixels = read(path, window=(-2048, 2048)).pixels
    assert np.allclose(pixels, (clean + 2048) / 4096, atol=1e-6)


def compress(path):
    import pydicom

    ds = pydicom.dcmread(path)
    ds.compress(RLELossless)
    ds.save_as(path)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_pixel_are_left_out_whatever_the_decoder_did(signed):
    from radwb.data.pixels import without_overlay

    clean = np.array([[-2048 if signed else 0, -1 if signed else 4095, 7]], np.int16)
    stored = (clean & 0x0FFF | np.int16(5 << 12)).view(
        np.int16 if signed else np.uint16
    )
    ds = Dataset()
    ds.BitsStored, ds.PhotometricInterpretation = 12, "MONOCHROME2"
    assert np.array_equal(without_overlay(stored, ds), clean)


def test_a_high_bit_below_the_pixel_is_refused(tmp_path):
    path = make_dicom(
        tmp_path / "a", np.zeros((4, 4), np.uint16), BitsStored=12, HighBit=7
    )
    with pytest.raises(ReadError, match=r"\(0028,0102\) HighBit is 7, expected 11"):
        read(path)


def test_bits_below_the_pixel_are_left_out_too(tmp_path):
    clean = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)
    stored = clean << 4 | RNG.integers(0, 16, clean.shape).astype(np.uint16)
    path = make_dicom(tmp_path / "a", stored, BitsStored=12, HighBit=15)
    assert np.allclose(read(path, window=(0, 4095)).pixels, clean / 4095, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_range_of_padding_is_background_in_a_file_and_in_a_series(
    tmp_path, photometric
):
    fields = dict(
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1990,
        PhotometricInterpretation=photometric,
    )
    raw = np.tile(np.arange(5, dtype=np.int16) * 10, (4, 1))
    raw[0, :2] = -2000, -1995
    place = dict(
        ImageOrientationPatient=AXIAL,
        SeriesInstanceUID="1.2.3",
        RescaleSlope=1,
        RescaleIntercept=0,
    )
    for d in range(3):
        make_dicom(
            tmp_path / f"{d}.dcm",
            raw,
            **fields,
            **place,
            ImagePositionPatient=[0, 0, d],
        )
    for shown in (read(tmp_path / "1.dcm").pixels, read(tmp_path).slice(0, 1).pixels):
        assert shown[0, :2].max() == 0
        ramp = (
            np.linspace(0, 1, 5)
            if photometric == "MONOCHROME2"
            else np.linspace(1, 0, 5)
        )
        assert np.allclose(shown[1], ramp)
    assert read(tmp_path).voxels[1, 0, 0] == -2000  # the voxels are the file's


# spacing and aspect


@pytest.mark.parametrize(
    "value",
    ["0.15", ["0.1", "0.1", "0.1"], ["0", "0.1"], ["-0.1", "0.1"], ["0.1", "5000"]],
)
def test_a_spacing_that_is_no_two_lengths_is_unknown_and_said(tmp_path, value):
    path = make_dicom(tmp_path / "a", np.zeros((4, 4), np.uint8), PixelSpacing=value)
    with pytest.warns(
        UserWarning, match=r"\(0028,0030\) PixelSpacing is .*not two positive lengths"
    ):
        assert read(path).spacing_mm is None
    assert rw.curate.index(tmp_path).refused.tolist() == [""]


@pytest.mark.parametrize(
    "spacing",
    [0, -1, "NaN", [0.1], [0.1, -1], [0.1, float("nan")], "x", {"a": 1}, [[1], 2]],
)
def test_a_png_text_with_a_spacing_that_is_none_reads(tmp_path, spacing):
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", json.dumps({"spacing_mm": spacing, "view": "PA"}))
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.warns(UserWarning, match="spacing_mm is .*not two positive lengths"):
        scan = read(tmp_path / "a.png")
    assert (scan.spacing_mm, scan.view) == (None, "PA")


@pytest.mark.parametrize("damaged", ["{", "[1, 2]", "null"])
def test_a_png_text_that_is_damaged_is_said(tmp_path, damaged):
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", damaged)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.warns(UserWarning, match="radwb text can't be read"):
        assert read(tmp_path / "a.png").spacing_mm is None


def disc(shape, aspect, radius):
    """A disc that is round in the patient: pixels `aspect` times as high as wide."""
    rows, columns = np.indices(shape)
    away = ((rows - shape[0] / 2) * aspect) ** 2 + (columns - shape[1] / 2) ** 2
    return (away < radius**2).astype(np.float32)


def high_over_wide(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (np.ptp(rows) + 1) / (np.ptp(columns) + 1)


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("aspect", [0.25, 0.5, 2.5 / 0.7])
def test_a_ball_is_round_to_a_model_and_its_map_returns_to_it(tmp_path, fit, aspect):
    model = rw.models.load("radwb-tiny")
    model.fit = fit
    shape = (round(200 / aspect), 240)
    scan = Scan(disc(shape, aspect, 60), (0.7 * aspect, 0.7))
    seen = model.preprocess(scan)[0, 0].numpy()
    round_one = seen > (seen.min() + seen.max()) / 2
    assert high_over_wide(round_one) == pytest.approx(1, abs=0.06)
    back = (
        to_scan(round_one.astype(np.float32), scan.shape, fit=fit, aspect=scan.aspect)
        > 0.5
    )
    ball = np.asarray(scan.pixels) > 0.5
    assert (back & ball).sum() / (back | ball).sum() > 0.93
    assert to_input(scan.pixels, 64, fit=fit).shape == (64, 64)
    path = rw.data.write_png(scan, tmp_path / "a.png")
    import pandas as pd

    square = rw.data.images(
        pd.DataFrame({"path": [str(path)], "patient_id": ["p"]}), 160, fit=fit
    )[0]
    assert high_over_wide(square > 127) == pytest.approx(1, abs=0.06)


def test_pixel_aspect_ratio_is_kept_in_file_and_png(tmp_path):
    raw = (disc((50, 100), 2, 30) * 255).astype(np.uint8)
    scan = read(
        make_dicom(tmp_path / "a", raw, PixelSpacing=None, PixelAspectRatio=[2, 1])
    )
    again = read(rw.data.write_png(scan, tmp_path / "a.png"))
    for one in (scan, again):
        assert (one.spacing_mm, one.aspect, one.shape) == (None, 2.0, (50, 100))
        assert high_over_wide(to_input(one.pixels, 100) > 0.5) == pytest.approx(
            1, abs=0.04
        )


def test_a_scan_with_a_spacing_that_is_none_is_refused():
    for spacing in ((0, 1), (1, -1), (float("nan"), 1), (1,)):
        with pytest.raises(ValueError, match="two positive lengths"):
            Scan(np.zeros((4, 4), np.float32), spacing)


def test_what_is_computed_from_pixels_is_a_plain_array():
    pixels = Scan(np.ones((4, 6), np.float32), (2.0, 1.0)).pixels
    assert pixels.aspect == 2
    assert type(pixels + 1) is np.ndarray
    assert isinstance(pixels.max(), np.float32)
    assert (
        getattr(pixels.T, "aspect", None) is None
    )  # turned, the aspect would be another


# sides


@pytest.mark.parametrize(
    ("stated", "orientation", "right", "hung"),
    [
        (["L", "F"], ("L", "F"), "left", True),
        (["R", "F"], ("R", "F"), "right", False),
        (["L", "H"], ("L", "H"), "left", False),
        (["F", "L"], ("F", "L"), "top", False),
        (["P", "F"], ("P", "F"), None, True),
        (None, None, None, True),
    ],
)
def test_patient_orientation_says_the_side(tmp_path, stated, orientation, right, hung):
    raw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    path = make_dicom(
        tmp_path / "a", raw, Modality="DX", ViewPosition="PA", PatientOrientation=stated
    )
    scan = read(path)
    assert (scan.orientation, scan.right) == (orientation, right)
    assert np.allclose(scan.pixels, raw / 15)  # as it is stored
    assert ("PatientOrientation" not in rw.curate.index(tmp_path).notes[0]) == hung


@pytest.mark.parametrize("stated", [["L", "R"], ["L"], ["X", "F"], ["LEFT", "F"]])
def test_a_patient_orientation_that_says_nothing_is_said(tmp_path, stated):
    path = make_dicom(
        tmp_path / "a", np.zeros((4, 4), np.uint8), PatientOrientation=stated
    )
    with pytest.warns(
        UserWarning, match=r"\(0020,0020\) PatientOrientation is .*sides unknown"
    ):
        assert read(path).right is None


@pytest.mark.parametrize(
    ("facing", "edge"), [(("L", "F"), "left"), (("R", "F"), "right"), (None, None)]
)
def test_the_widget_marks_the_side_that_is_known(facing, edge):
    from radwb.explore.film import packed, panel
    from radwb.explore.widget import LOOK

    scan = Scan(np.full((40, 60), 0.5, np.float32), view="PA", orientation=facing)
    assert packed(scan)["right"] == (edge or "")
    view = dict(
        finding=None, choice=dict(model="m"), label="", error="", verdict="", badge=""
    )
    page = panel(scan, None, view, LOOK).convert("L")
    picture = np.asarray(page)[32:-104, 12:-12]
    # an R has more white than the L at the other side
    corners = {"left": picture[:30, :30], "right": picture[:30, -30:]}
    white = {side: (corner > 200).sum() for side, corner in corners.items()}
    marked = sorted(white, key=white.get)[-1] if any(white.values()) else None
    assert marked == edge
    assert white["left"] != white["right"] or edge is None


def test_the_side_survives_a_png_and_a_virtual_film_knows_it(tmp_path):
    film = rw.simulate.render(size=32)
    assert film.right == "left"
    again = read(
        rw.data.write_png(Scan(film.pixels, orientation=("R", "F")), tmp_path / "a.png")
    )
    assert again.right == "right"


@pytest.mark.parametrize(
    "facing",
    [
        AXIAL,
        [-1, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, -1],
        [0, 1, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 1],
    ],
)
def test_a_single_slice_is_shown_as_its_series_is(tmp_path, facing):
    normal = np.cross(facing[:3], facing[3:])
    raw = RNG.integers(0, 999, (3, 6, 8)).astype(np.int16)
    fields = dict(
        ImageOrientationPatient=facing,
        SeriesInstanceUID="1.2",
        WindowCenter=500,
        WindowWidth=900,
    )
    for d in range(3):
        place = (normal * d * 2.5).tolist()
        make_dicom(tmp_path / f"{d}.dcm", raw[d], ImagePositionPatient=place, **fields)
    volume = read(tmp_path)
    for d in range(3):
        one, cut = read(tmp_path / f"{d}.dcm"), volume.slice(0, d)
        assert np.allclose(one.pixels, cut.pixels, atol=1e-6)
        assert (one.spacing_mm, one.orientation, one.right) == (
            cut.spacing_mm,
            cut.orientation,
            cut.right,
        )
    assert cut.orientation[0] in ("L", "P")


def test_oblique_axes_go_one_to_one_as_nibabel_says(tmp_path):
    for seed in range(200):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = turn * [2.0, 0.8, 0.7]
        volume = Volume(np.zeros((2, 3, 4), np.float32), affine)
        assert sorted(volume.world[:, 0]) == [0, 1, 2]
        assert np.array_equal(volume.world, nib.io_orientation(affine))
        names = {rw.show.volume_planes.plane_name(volume, axis) for axis in range(3)}
        assert names == {"axial", "coronal", "sagittal"}


def test_a_gantry_tilt_is_said(tmp_path):
    fields = dict(ImageOrientationPatient=AXIAL, SeriesInstanceUID="1.2.3")
    for d in range(4):
        place = [0, np.tan(np.radians(20)) * 5 * d, 5 * d]
        make_dicom(
            tmp_path / f"{d}.dcm",
            np.zeros((4, 4), np.int16),
            ImagePositionPatient=place,
            **fields,
        )
    with pytest.warns(UserWarning, match="20.0 degrees off their normal"):
        volume = read(tmp_path)
    assert np.allclose(volume.affine[:3, 0], [0, np.tan(np.radians(20)) * 5, 5])


# a folder with more than slices


def test_what_lies_beside_a_series_is_left_out_and_named(tmp_path):
    write_series(tmp_path)
    beside = {
        "sr": "1.2.840.10008.5.1.4.1.1.88.11",
        "gsps": "1.2.840.10008.5.1.4.1.1.11.1",
        "ko": "1.2.840.10008.5.1.4.1.1.88.59",
        "DICOMDIR": "1.2.840.10008.1.3.10",
    }
    for name, kind in beside.items():
        nothing = dict.fromkeys(
            (
                "Rows",
                "Columns",
                "PixelData",
                "BitsStored",
                "PixelSpacing",
                "SamplesPerPixel",
            )
        )
        make_dicom(
            tmp_path / name, np.zeros((4, 4), np.uint8), SOPClassUID=kind, **nothing
        )
    make_dicom(
        tmp_path / "seg",
        np.zeros((4, 5), np.uint8),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
    )
    with pytest.warns(
        UserWarning, match="left out, no slices: DICOMDIR .*gsps .*ko .*seg .*sr "
    ):
        assert read(tmp_path).voxels[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


# NIfTI


def nifti(
    tmp_path, values, affine=None, *, unit="mm", kind=nib.Nifti1Image, name="a.nii.gz"
):
    image = kind(values, np.diag([-1.0, -1, 2, 1]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / name)
    return tmp_path / name


def test_one_nan_blanks_neither_slice_nor_window(tmp_path):
    values = RNG.normal(100, 20, (6, 5, 4)).astype(np.float32)
    values[0, 0] = [np.nan, np.inf, -np.inf, np.nan]
    with pytest.warns(UserWarning, match="4 of 120 voxels are no number"):
        volume = read(nifti(tmp_path, values))
    real = values[np.isfinite(values)]
    shown = volume.slice(0, 2).pixels
    assert np.isfinite(shown).all()
    assert (shown == 0).sum() <= 2
    assert shown.max() <= 1
    assert shown.max() == pytest.approx(
        (values[1:, :, 2].max() - real.min()) / np.ptp(real), abs=1e-5
    )
    assert np.isfinite(robust_window(volume.voxels)).all()
    assert np.isfinite(to_input(volume.slice(1, 0, (0, 200)).pixels, 16)).all()


@pytest.mark.parametrize(("unit", "mm"), [("micron", 1e-3), ("mm", 1), ("meter", 1e3)])
def test_units_become_millimetres(tmp_path, unit, mm):
    affine = np.diag([0.5, 0.25, 2, 1.0])
    affine[:3, 3] = [1, 2, 3]
    volume = read(nifti(tmp_path, np.zeros((4, 5, 6), np.float32), affine, unit=unit))
    assert np.allclose(volume.spacing_mm, np.array([2, 0.25, 0.5]) * mm)
    assert np.allclose(volume.affine[:3, 3], np.array([-1, -2, 3]) * mm)


@pytest.mark.parametrize("packed", ["a.nii", "a.nii.gz"])
def test_nifti_2_reads_as_nifti_1(tmp_path, packed):
    values = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    one = read(nifti(tmp_path, values, name="b.nii.gz"))
    two = read(nifti(tmp_path, values, kind=nib.Nifti2Image, name=packed))
    assert np.array_equal(one.voxels, two.voxels)
    assert np.array_equal(one.affine, two.affine)


def test_colours_are_luminance_and_complex_is_refused(tmp_path):
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"], colours["G"] = 255, RNG.integers(0, 256, colours.shape)
    volume = read(nifti(tmp_path, colours))
    want = (0.299 * 255 + 0.587 * colours["G"]) / 255
    assert np.allclose(volume.voxels, want.transpose(2, 1, 0), atol=1e-6)
    with pytest.raises(ReadError, match="complex"):
        read(nifti(tmp_path, np.ones((4, 5, 6), np.complex64)))


def coded(tmp_path, sform, qform, scode=1, qcode=1):
    image = nib.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), sform)
    image.set_qform(qform, qcode)
    image.set_sform(sform, scode)
    nib.save(image, tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


PLAIN, MIRRORED = np.diag([-1.0, -1, 2, 1]), np.diag([1.0, -1, 2, 1])


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "reason"),
    [
        (PLAIN, PLAIN, (0, 0), "sform_code and qform_code are 0"),
        (PLAIN, MIRRORED, (1, 1), "contradict each other"),
        (PLAIN, MIRRORED, (4, 1), "contradict each other"),
    ],
)
def test_an_orientation_that_is_not_known_is_not_taken_as_known(
    tmp_path, sform, qform, codes, reason
):
    with pytest.warns(UserWarning, match=reason):
        volume = read(coded(tmp_path, sform, qform, *codes))
    assert volume.affine is None
    assert volume.spacing_mm == (2, 1, 1)
    cut = volume.slice(1, 2)
    assert (cut.right, cut.spacing_mm, cut.shape) == (None, (2, 1), (5, 3))


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1)])
def test_an_orientation_that_agrees_is_known(tmp_path, codes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read(coded(tmp_path, PLAIN, PLAIN, *codes))
    assert np.allclose(volume.affine[:3, :3] @ [0, 0, 1], [1, 0, 0])
    assert volume.slice(0, 0).right == "left"


def test_a_nifti_pair_is_named(tmp_path):
    header = nib.Nifti1Header()
    header["magic"] = b"ni1"
    (tmp_path / "a.hdr").write_bytes(header.binaryblock + struct.pack("4x"))
    with pytest.raises(ReadError, match="a pair"):
        read(tmp_path / "a.hdr")


# shards


def test_a_picture_is_upright_in_shards_as_in_its_file(tmp_path):
    from radwb.data.read import picture

    raw = np.zeros((48, 64), np.uint8)
    raw[:12] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    out = io.BytesIO()
    Image.fromarray(raw).save(out, "JPEG", exif=turned, quality=95)
    (tmp_path / "a.jpg").write_bytes(out.getvalue())
    with Image.open(io.BytesIO(out.getvalue())) as image:
        assert np.array_equal(picture(image).pixels, read(tmp_path / "a.jpg").pixels)
    assert read(tmp_path / "a.jpg").pixels[:, -10:].mean() > 0.9


# organ masks by number


def chest(lobes, others):
    """A CT of 20 voxels a side with one slab an organ: lobes of air, the rest soft."""
    hu, labels = np.full((20, 20, 20), 40.0), np.zeros((20, 20, 20), int)
    for n, number in enumerate([*lobes, *others]):
        labels[n] = number
        hu[n] = -800 if number in lobes else 40
    return hu, labels


def test_masks_of_totalsegmentator_1_and_2_are_told_apart():
    from radwb.simulate.organs import check_version

    two, one = (
        chest(range(10, 15), [15, 16, 17, 51]),
        chest(range(13, 18), [10, 11, 12, 51]),
    )
    check_version(*two)
    with pytest.raises(ValueError, match="TotalSegmentator 1 .*pancreas 10"):
        check_version(*one)
    with pytest.raises(ValueError, match="TotalSegmentator 1"):
        rw.simulate.from_arrays(*one, (1, 1, 1))
    with pytest.raises(ValueError, match="TotalSegmentator 1"):
        check_version(*two, version=1)
    solid = two[0].copy()
    solid[two[1] == 14] = 30
    with pytest.raises(
        ValueError, match=r"14 \(right lower lobe\).*can't be told.*version=2"
    ):
        check_version(solid, two[1])
    check_version(solid, two[1], version=2)


def test_the_rescaled_values_of_frames_are_pydicoms(tmp_path):
    path = make_dicom(
        tmp_path / "a", FRAMES, **MANY, RescaleSlope=2, RescaleIntercept=-100
    )
    import pydicom

    assert np.array_equal(
        read(path).voxels, apply_modality_lut(FRAMES, pydicom.dcmread(path))
    )


def test_a_mask_of_totalsegmentator_1_is_named_before_what_it_lacks():
    plain = chest(range(13, 18), [44])
    with pytest.raises(ValueError, match="TotalSegmentator 1"):
        rw.simulate.from_arrays(*plain, (1, 1, 1))
    with pytest.raises(ValueError, match="three positive voxel sides"):
        rw.simulate.from_arrays(*chest(range(10, 15), [51]), (0, 1, 1))


# what stands between the kinds above

FILM = RNG.integers(0, 4096, (8, 8)).astype(np.uint16)


def broken_tables():
    item = lut(0, [0, 4095], 12)[0]
    short = Dataset()
    bare = Dataset()
    odd = Dataset()
    short.LUTDescriptor, short.LUTData = [4096, 0, 12], item.LUTData
    short["LUTData"].VR = "OW"
    bare.LUTExplanation = "nothing"
    odd.LUTDescriptor = [2, 0, 99]
    odd.add_new("LUTData", "OW", item.LUTData)
    return {"short": short, "bare": bare, "odd": odd}


@pytest.mark.parametrize("kind", ["short", "bare", "odd"])
def test_a_voi_table_that_is_none_is_left_out_and_the_window_is_taken(tmp_path, kind):
    window = dict(WindowCenter=40, WindowWidth=400)
    values = RNG.integers(-200, 300, (8, 8)).astype(np.int16)
    want = read(make_dicom(tmp_path / "a", values, **window))
    with pytest.warns(UserWarning, match="VOILUTSequence is no table"):
        film = read(
            make_dicom(
                tmp_path / "b",
                values,
                **window,
                VOILUTSequence=[broken_tables()[kind]],
            )
        )
    assert np.array_equal(film.pixels, want.pixels)


@pytest.mark.parametrize("bits", [4, 8, 9, 12])
@pytest.mark.parametrize("packed", ["words", "bytes"])
def test_a_voi_table_of_any_bits_is_scaled_by_them(tmp_path, bits, packed):
    entries = np.linspace(0, 2**bits - 1, 100).astype(int)
    item = Dataset()
    first = 2**16 - 50  # -50 as an unsigned word
    item.add_new("LUTDescriptor", "US", [100, first, bits])
    kind = "u1" if packed == "bytes" and bits <= 8 else "<u2"
    item.add_new("LUTData", "OW", entries.astype(kind).tobytes())
    values = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)
    film = read(make_dicom(tmp_path / "a", values, VOILUTSequence=[item]))
    want = entries[(values + 50).clip(0, 99)] / (2**bits - 1)
    assert np.abs(film.pixels - want).max() < 1e-6


@pytest.mark.parametrize(
    "field", ["PixelAspectRatio", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]
)
def test_the_shape_of_a_pixel_is_kept_in_a_film_and_in_frames(tmp_path, field):
    shape = {"PixelSpacing": None, field: [4, 2]}
    assert read(make_dicom(tmp_path / "a", FILM, **shape)).aspect == 2
    loop = read(make_dicom(tmp_path / "b", FRAMES, **MANY, **shape))
    cut = loop.slice(0, 1)
    assert (cut.aspect, cut.spacing_mm) == (2, None)
    assert loop.slice(1, 1).aspect == 1  # across frames nothing is known


def test_frames_without_a_place_know_their_spacing(tmp_path):
    loop = read(make_dicom(tmp_path / "a.dcm", FRAMES, **MANY, PixelSpacing=[2, 1]))
    assert loop.spacing_mm is None
    assert loop.slice(0, 0).spacing_mm == (2, 1)
    row = rw.curate.index(tmp_path).iloc[0]
    assert (row.row_mm, row.column_mm, row.notes) == (2, 1, "")


def test_sides_that_two_fields_contradict_are_unknown(tmp_path):
    mirrored = dict(ImageOrientationPatient=[-1, 0, 0, 0, 0, -1])
    with pytest.warns(UserWarning, match="contradict each other: sides unknown"):
        film = read(
            make_dicom(tmp_path / "a", FILM, PatientOrientation=["L", "F"], **mirrored)
        )
    assert film.right is None
    agreed = make_dicom(tmp_path / "b", FILM, PatientOrientation=["R", "F"], **mirrored)
    assert read(agreed).right == "left"  # turned as a film is hung


def test_a_turned_png_turns_its_spacing_and_no_longer_knows_its_sides(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", '{"spacing_mm": [1, 2], "orientation": ["L", "F"]}')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6, 9)).save(tmp_path / "a.png", pnginfo=text, exif=exif)
    film = read(tmp_path / "a.png")
    assert (film.shape, film.spacing_mm, film.orientation) == ((6, 9), (2, 1), None)


def enhanced(path, places):
    """An enhanced CT whose frames hold 100 times their place."""
    frames = np.stack([np.full((4, 5), 100 * z, np.int16) for z in places])
    shared = group(
        PixelMeasuresSequence=dict(PixelSpacing=[1, 2]),
        PlaneOrientationSequence=dict(ImageOrientationPatient=AXIAL),
    )
    places_of_frames = [
        group(PlanePositionSequence=dict(ImagePositionPatient=[0, 0, z]))
        for z in places
    ]
    return make_dicom(
        path,
        frames,
        NumberOfFrames=len(places),
        Rows=4,
        Columns=5,
        SamplesPerPixel=1,
        PixelSpacing=None,
        SeriesInstanceUID="1.2.3",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=places_of_frames,
    )


def test_an_enhanced_ct_reads_from_its_folder_in_one_file_or_in_many(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    enhanced(tmp_path / "one" / "a.dcm", [2, 0, 1])
    for name, place in enumerate([2, 0, 1]):
        enhanced(tmp_path / "many" / f"{name}.dcm", [place])
    for folder in ("one", "many"):
        volume = read(tmp_path / folder)
        assert volume.voxels[:, 0, 0].tolist() == [0, 100, 200]
        assert volume.spacing_mm == (1, 1, 2)


def test_a_folder_with_one_film_or_loop_gives_that(tmp_path):
    (tmp_path / "film").mkdir()
    (tmp_path / "loop").mkdir()
    make_dicom(tmp_path / "film" / "a.dcm", FILM)
    make_dicom(tmp_path / "loop" / "a.dcm", FRAMES, **MANY)
    assert read(tmp_path / "film").shape == FILM.shape
    assert read(tmp_path / "loop").shape == FRAMES.shape
    with pytest.raises(ReadError, match="Try the folders below it"):
        read(tmp_path)


def test_two_patients_are_no_series_and_are_not_named(tmp_path):
    write_series(tmp_path, places=range(3), PatientID="SECRET1")
    make_dicom(
        tmp_path / "other.dcm",
        np.zeros((4, 5), np.int16),
        PatientID="SECRET2",
        SeriesInstanceUID="1.2.3",
        ImagePositionPatient=[-10, 20, 7.5],
        ImageOrientationPatient=AXIAL,
    )
    with pytest.raises(ReadError, match="PatientID, got 2 different") as refused:
        read(tmp_path)
    assert "SECRET" not in str(refused.value)


def test_a_nifti_in_metres_of_a_wrong_size_says_so_and_is_still_cut(tmp_path):
    path = nifti(tmp_path, np.zeros((4, 5, 6), np.float32), unit="meter")
    with pytest.warns(UserWarning, match="2000 mm"):
        volume = read(path)
    assert volume.slice(0, 0).spacing_mm is None
