"""What a header, table, report, file name or model may bring to run a script where it
is shown.
"""

import json
import re

import numpy as np

# titles are watched by the browser tests
PAYLOAD = "<img src=x onerror=\"document.title='pwned'\">"
MARKUP = (
    PAYLOAD,
    "<a href='javascript:document.title=1'>a</a>",
    "</script><script>document.title=1</script>",
    "<span style='color:#fff'>b</span><b>c</b>",
)
ALL = " ".join(MARKUP)
# what radwb itself writes into a figure's texts
OURS = re.compile(
    r"<br>|</?b>|</?extra>|<span style=\"color:#[0-9A-Fa-f]{6}\">|</span>"
)
OURS_IN_WIDGETS = re.compile(
    r"<br>|</?b( style='[\w:;#-]+')?>|</?div( style='[^<>]+')?>|<span style=\"color:#\w{6}\">|</span>"
)


def strings(value):
    """Every text in what JSON holds, keys too."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def raw_markup(figure) -> list[str]:
    """The texts of a plotly figure that hold markup which isn't radwb's own."""
    layout = json.loads(figure.to_json())
    return [text[:200] for text in strings(layout) if "<" in OURS.sub("", text)]


def hostile_dicom(folder, n=6):
    """A series whose header holds the payload in every text that is ever shown."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for i in range(n):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.Modality, ds.PatientID, ds.SeriesDescription = PAYLOAD, PAYLOAD, PAYLOAD
        ds.ImagePositionPatient, ds.ImageOrientationPatient = (
            [0, 0, 2.0 * i],
            [1, 0, 0, 0, 1, 0],
        )
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 2
        ds.Rows = ds.Columns = 32
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
            16,
            12,
            11,
            0,
        )
        pixels = np.random.default_rng(i).integers(0, 4000, (32, 32), np.uint16)
        ds.PixelData = pixels.tobytes()
        ds.save_as(folder / f"{i}.dcm", enforce_file_format=True)
    return folder
