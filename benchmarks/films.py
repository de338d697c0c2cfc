"""Rows of the bench on films from files: to 224 px, against MONAI's and GDCM's way.

Seconds are the processor's, not the clock's: the machine may be at work otherwise.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000Lossless
from rows import row

import radwb as rw
from radwb.data.preview import preview

SIZE = 224


def write_films(folder: Path, side: int, n: int, syntax=None) -> list[Path]:
    """Simulated chests made larger, 12 bits, with a detector's noise."""
    rng = np.random.default_rng(0)
    paths = []
    table = rw.simulate.cohort(n=n, seed=0, size=512)
    for i, film in enumerate(rw.data.images(table, 512)):
        large = Image.fromarray(film).resize((side, side), Image.Resampling.BICUBIC)
        values = np.asarray(large, float) * 16 + rng.normal(0, 12, (side, side))
        pixels = np.clip(np.round(values), 0, 4095).astype(np.uint16)
        paths.append(write_film(folder / f"{side}-{i}.dcm", pixels, syntax))
    return paths


def write_film(path: Path, pixels: np.ndarray, syntax=None) -> Path:
    ds = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient"):
        del ds[keyword]
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [0.4, 0.4]
    ds.PixelRepresentation = 0
    ds.BitsStored, ds.HighBit = 12, 11
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.PixelData = pixels.tobytes()
    if "PixelPaddingValue" in ds:
        del ds.PixelPaddingValue
    if syntax:
        ds.compress(syntax)
    ds.save_as(path)
    return path


def cpu_timed(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each call, interleaved; one warm-up each."""
    seconds = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def square(scan) -> np.ndarray:
    return rw.data.to_input(scan.pixels, SIZE, aspect=scan.aspect)


def alike(ours, peer) -> float:
    return float(np.corrcoef(np.ravel(ours), np.ravel(peer))[0, 1])


def dicom_to_224() -> dict:
    """16 plain DICOM films of 1024 px, one at a time, each by a mean of its pixels."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        Resize,
        ScaleIntensity,
    )

    steps = [LoadImage(image_only=True), EnsureChannelFirst(), ScaleIntensity()]
    monai = Compose([*steps, Resize((SIZE, SIZE), mode="area")])
    with tempfile.TemporaryDirectory() as folder:
        paths = write_films(Path(folder), 1024, 16)

        def ours():
            return np.stack([square(preview(path, SIZE)) for path in paths])

        def peer():
            films = np.stack([np.asarray(monai(path))[0] for path in paths])
            return films.transpose(0, 2, 1)

        r = alike(ours(), peer())
        assert r > 0.995
        seconds = cpu_timed({"ours": ours, "peer": peer}, 5)
    equal = f"r {r:.4f} with MONAI's"
    return row(
        "DICOM 1024 to 224 px",
        "img/s",
        16,
        seconds,
        bound=4,
        of="ratio",
        equal=equal,
    )


def jpeg_2000_preview() -> dict:
    """Two JPEG 2000 films of 2000 px, against GDCM's whole decode."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_films(Path(folder), 2000, 2, JPEG2000Lossless)

        def ours():
            return [square(preview(path, SIZE)) for path in paths]

        def peer():
            films = map(pydicom.dcmread, paths)
            return [pixel_array(ds, decoding_plugin="gdcm") for ds in films]

        r = alike(ours(), [square(rw.data.read(path)) for path in paths])
        assert r > 0.995
        seconds = cpu_timed({"ours": ours, "peer": peer}, 3)
    return row(
        "JPEG 2000 preview",
        "img/s",
        2,
        seconds,
        bound=6,
        of="ratio",
        equal=f"r {r:.4f} with the whole film at 224 px",
    )


FILMS = {"dicom": dicom_to_224, "jpeg-2000": jpeg_2000_preview}
