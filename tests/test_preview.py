"""A preview is the film, smaller: the same place, nearly the same grey, or the film."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from test_data import lut, make_dicom

import radwb as rw
from radwb.data.preview import preview
from radwb.data.read import read

SIZE = 64


def film_file(path, *, low=0, high=4095, kind=np.uint16, syntax=None, **fields):
    """Smooth shapes, edges and noise at 400 x 340, 12 bits."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.random((13, 11)).astype(np.float32))
    smooth = np.asarray(rough.resize((340, 400), Image.Resampling.BICUBIC))
    values = low + (high - low) * np.clip(smooth, 0, 1)
    values[100:220, 80:90] = high
    values += rng.normal(0, 20, values.shape)
    pixels = np.clip(np.round(values), low, high).astype(kind)
    facts = dict(BitsStored=12, HighBit=11, PixelSpacing=[0.5, 0.5], Modality="DX")
    make_dicom(path, pixels, **{**facts, **fields})
    if syntax is not None:
        ds = pydicom.dcmread(path)
        if syntax == ImplicitVRLittleEndian:
            ds.file_meta.TransferSyntaxUID = syntax
        else:
            ds.compress(syntax)
        ds.save_as(path)
    return path


WINDOW = dict(WindowCenter=2048, WindowWidth=3000)
SIGNED = dict(kind=np.int16, low=-1000, high=2000)
FILMS = {
    "plain": {},
    "implicit": dict(syntax=ImplicitVRLittleEndian),
    "window": WINDOW,
    "negative": dict(PhotometricInterpretation="MONOCHROME1"),
    "signed": SIGNED,
    "jpeg 2000": dict(syntax=JPEG2000Lossless, **WINDOW),
    "signed jpeg 2000": dict(syntax=JPEG2000Lossless, **SIGNED),
}


@pytest.mark.parametrize("film", FILMS.values(), ids=FILMS)
def test_a_preview_is_the_film_but_smaller(tmp_path, film):
    path = film_file(tmp_path / "a.dcm", **film)
    small, whole = preview(path, SIZE), read(path)
    assert SIZE <= min(small.shape) < min(whole.shape) / 1.9
    extents = [np.multiply(scan.shape, scan.spacing_mm) for scan in (small, whole)]
    assert np.allclose(*extents, rtol=0.03)
    squares = [
        rw.data.to_input(scan.pixels, SIZE, fit="squash").ravel()
        for scan in (small, whole)
    ]
    assert np.corrcoef(squares)[0, 1] > 0.998
    assert np.abs(squares[0] - squares[1]).mean() < 0.01


NOT_SHRUNK = {
    "small": dict(side=300),
    "padding": dict(PixelPaddingValue=0),
    "overlay bits": dict(high=2**15, BitsStored=12),
    "rle": dict(syntax=RLELossless),
    "jpeg-ls": dict(syntax=JPEGLSLossless),
}


@pytest.mark.parametrize("film", NOT_SHRUNK.values(), ids=NOT_SHRUNK)
def test_what_cant_be_averaged_is_read_whole(tmp_path, film):
    film = dict(film)
    side = film.pop("side", SIZE)
    path = film_file(tmp_path / "a.dcm", **film)
    small, whole = preview(path, side), read(path)
    assert np.array_equal(small.pixels, whole.pixels)
    assert small.spacing_mm == whole.spacing_mm


def test_blocks_are_means():
    """By hand: 2 x 2 blocks, what is left over cut."""
    from radwb.data.preview import _block_means

    values = np.array([[0, 2, 9], [4, 6, 9], [9, 9, 9]], np.uint16)
    assert _block_means(values, 2).tolist() == [[3]]


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
def test_a_damaged_film_is_refused_with_the_reason_that_read_gives(tmp_path, syntax):
    path = film_file(tmp_path / "a.dcm", syntax=syntax)
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises(rw.data.ReadError) as whole:
        read(path)
    with pytest.raises(rw.data.ReadError) as small:
        preview(path, SIZE)
    assert str(small.value) == str(whole.value)


def test_images_are_exact_unless_asked_otherwise(tmp_path):
    film_file(tmp_path / "a.dcm", VOILUTSequence=lut(0, range(4096), 12))
    film_file(tmp_path / "b.dcm", syntax=JPEG2000Lossless)
    table = pd.DataFrame({"path": [str(tmp_path / f"{n}.dcm") for n in "ab"]})
    exact = rw.data.images(table, SIZE)
    quick = rw.data.images(table, SIZE, exact=False)
    assert np.corrcoef(exact.ravel(), quick.ravel())[0, 1] > 0.998
    assert not np.array_equal(exact, quick)
    by_hand = [
        rw.data.to_input(read(path).pixels, SIZE, aspect=1) for path in table["path"]
    ]
    assert np.array_equal(exact, np.round(np.stack(by_hand) * 255).astype(np.uint8))
