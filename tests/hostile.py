"""What a header, table, report, file name or model may bring.

All of it wants to run a script where it is shown.
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
    r"<br>|</?b( style='[\w:;#-]+')?>|</?div( style='[^<>]+')?>"
    r"|<span style=\"color:#\w{6}\">|</span>"
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
        ds.SOPClassUID = meta.MediaStorageSOPClassUID
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID = study
        ds.SeriesInstanceUID = series
        ds.Modality = ds.PatientID = ds.SeriesDescription = PAYLOAD
        ds.ImagePositionPatient = [0, 0, 2.0 * i]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [1, 1]
        ds.SliceThickness = 2
        ds.Rows = ds.Columns = 32
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = 16
        ds.BitsStored = 12
        ds.HighBit = 11
        ds.PixelRepresentation = 0
        pixels = np.random.default_rng(i).integers(0, 4000, (32, 32), np.uint16)
        ds.PixelData = pixels.tobytes()
        ds.save_as(folder / f"{i}.dcm", enforce_file_format=True)
    return folder
