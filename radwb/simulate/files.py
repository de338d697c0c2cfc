"""Virtual patients as real DICOM files: radiographs (DX) and CT."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from pydicom.valuerep import DSfloat
from tqdm.auto import tqdm

from radwb.data.read import write_truth
from radwb.data.scan import Scan, Volume


class View(NamedTuple):
    """A view in DICOM: its code, and mm from the source to detector and patient."""

    position: str
    code: str
    meaning: str
    orientation: list[str]
    detector_mm: int
    middle_mm: int


VIEWS = {
    "PA": View(
        position="PA",
        code="272479007",
        meaning="postero-anterior",
        orientation=["L", "F"],
        detector_mm=1830,
        middle_mm=1670,
    ),
    "AP": View(
        position="AP",
        code="399348003",
        meaning="antero-posterior",
        orientation=["L", "F"],
        detector_mm=1150,
        middle_mm=970,
    ),
    "LATERAL": View(
        position="LL",
        code="399173006",
        meaning="left lateral",
        orientation=["P", "F"],
        detector_mm=1830,
        middle_mm=1610,
    ),
}
# GEOMETRY tells PixelSpacing, in the patient, from the larger ImagerPixelSpacing, at
# the detector
DX = {
    "PresentationIntentType": "FOR PRESENTATION",
    "ImageType": ["DERIVED", "PRIMARY", ""],
    "ImageLaterality": "U",
    "AcquisitionContextSequence": [],
    "PixelSpacingCalibrationType": "GEOMETRY",
    "PixelSpacingCalibrationDescription": "virtual film: at the middle of the patient",
    "PositionerType": "",
    "DetectorType": "",
    "PixelIntensityRelationship": "LOG",
    "PixelIntensityRelationshipSign": -1,
    "RescaleType": "US",
    "WindowCenter": 2048,
    "WindowWidth": 4096,
    "VOILUTFunction": "LINEAR",
    "PresentationLUTShape": "IDENTITY",
}
CT = {
    "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
    "PositionReferenceIndicator": "",
    "PatientPosition": "HFS",
    "KVP": "",
    "AcquisitionNumber": 1,
    "RescaleType": "HU",
    "WindowCenter": 40,
    "WindowWidth": 400,
}
COMMON = {
    "PatientBirthDate": "",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "No patient: simulated by radwb",
    "BurnedInAnnotation": "NO",
    "StudyDate": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
    "AccessionNumber": "",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "BodyPartExamined": "CHEST",
    "SeriesDescription": "Synthetic, not a patient",
    "ImageComments": "Synthetic image of a virtual patient. Not for clinical use.",
    "Manufacturer": "radwb simulator",
    "ManufacturerModelName": "radwb.simulate",
    "DeviceSerialNumber": "0",
    "SoftwareVersions": "radwb",
}
PIXELS = {
    "SamplesPerPixel": 1,
    "BitsAllocated": 16,
    "PhotometricInterpretation": "MONOCHROME2",
    "LossyImageCompression": "00",
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
}


def write_dx(
    scan: Scan, path: str | os.PathLike, row: Mapping, *, seed: int = 0
) -> None:
    """Write a virtual radiograph as Digital X-Ray Image, and its masks as .truth.png.

    >>> row = {"patient_id": "V0"}
    >>> write_dx(rw.simulate.render(), "chest.dcm", row)
    >>> rw.data.read("chest.dcm").view
    'PA'

    It is For Presentation and has 12 bits.

    Args:
        scan: with spacing_mm and view.
        row: patient_id, and if known study_id, sex, age_years (above 89 is written as
            90).
        seed: of the UIDs, which follow from it, the row, the view and the file's name.
    """
    path = Path(path)
    save(dx_data_set(scan, row, path.stem, seed), scan, path)


def dx_data_set(scan, row, name, seed):
    """A pydicom Dataset; the spacing stands for the middle of the patient."""
    if scan.view not in VIEWS:
        raise ValueError(
            f"expected a view of {list(VIEWS)}, got {scan.view!r}. "
            "Try Scan(..., view='PA')."
        )
    if scan.spacing_mm is None:
        raise ValueError(
            "expected spacing_mm, which a DX file must state, got None in "
            f"{scan.source or 'the scan'}"
        )
    view = VIEWS[scan.view]
    kind = DigitalXRayImageStorageForPresentation
    ds = _common(row, kind, "DX", scan.view, name, seed)
    larger = view.detector_mm / view.middle_mm
    detector_mm = np.array(scan.spacing_mm) * view.detector_mm / view.middle_mm
    _set(
        ds,
        **DX,
        AnatomicRegionSequence=_code("51185008", "Chest"),
        ViewPosition=view.position,
        PatientOrientation=view.orientation,
        ViewCodeSequence=_code(view.code, view.meaning, ViewModifierCodeSequence=[]),
        PixelSpacing=_decimals(scan.spacing_mm),
        ImagerPixelSpacing=_decimals(detector_mm),
        EstimatedRadiographicMagnificationFactor=_decimals([larger])[0],
        DistanceSourceToDetector=view.detector_mm,
        DistanceSourceToPatient=view.middle_mm,
    )
    stored = np.round(np.clip(scan.pixels, 0, 1) * 4095).astype("<u2")
    return _set_pixels(ds, stored, 12)


def write_ct(
    volume: Volume, folder: str | os.PathLike, row: Mapping, *, seed: int = 0
) -> list[Path]:
    """Write a CT as one CT Image file a slice, in whole Hounsfield units.

    >>> paths = write_ct(ct, "ct", {"patient_id": "V0", "study_id": "V0-1"})
    >>> rw.data.read("ct").voxels.shape == ct.voxels.shape
    True

    What is read has the same affine, or in reverse if D ran against the slices' normal.

    Args:
        volume: with an affine.
        folder: gets 0000.dcm, 0001.dcm, ...
        row, seed: as in `write_dx`.
    Raises:
        ValueError: no affine, rows not at right angles to columns, or values that 16
            bits don't hold.
    """
    if volume.affine is None:
        raise ValueError(
            "expected a volume with an affine, got None: a CT file must say where its "
            "slice lies"
        )
    thickness, *spacing = volume.spacing_mm
    down = volume.affine[:3, 1] / spacing[0]
    across = volume.affine[:3, 2] / spacing[1]
    if abs(down @ across) > 1e-4:
        raise ValueError(
            "expected rows at right angles to columns, got a cosine of "
            f"{down @ across:.3g}"
        )
    hu = _whole_hu(volume.voxels)
    paths = [Path(folder) / f"{d:04d}.dcm" for d in range(len(hu))]
    for d, path in enumerate(tqdm(paths, "writing CT slices", delay=2, leave=False)):
        ds = _common(row, CTImageStorage, "CT", "CT", path.stem, seed)
        _set(
            ds,
            **CT,
            FrameOfReferenceUID=f"2.25.{number_of(ds.SeriesInstanceUID, 'frame')}",
            SliceThickness=_decimals([thickness])[0],
            PixelSpacing=_decimals(spacing),
            ImageOrientationPatient=_decimals([*across, *down]),
            ImagePositionPatient=_decimals(volume.affine[:3] @ [d, 0, 0, 1]),
        )
        ds.InstanceNumber = d + 1
        save(_set_pixels(ds, hu[d].astype("<i2"), 16), None, path)
    return paths


def _whole_hu(voxels):
    hu = np.round(voxels)
    if not (hu.min() >= -32768 and hu.max() <= 32767):  # NaN fails, too
        raise ValueError(
            f"expected Hounsfield units in 16 bits, got {hu.min():g} to {hu.max():g}"
        )
    return hu


def number_of(*parts):
    """128 bits that follow from the parts alone: for a UID under 2.25, or as a seed."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:16], "big")


def _common(row, kind, modality, series, name, seed):
    """What DX and CT share: patient, study, equipment, and that nobody was imaged."""
    patient = str(row["patient_id"])
    study = str(row["study_id"]) if pd.notna(row.get("study_id")) else name
    sex = row["sex"] if row.get("sex") in ("F", "M") else ""
    short_study = study if len(study) <= 16 else ""
    ds = _set(
        Dataset(),
        **COMMON,
        SOPClassUID=kind,
        Modality=modality,
        PatientID=patient,
        PatientName=f"{patient}^Virtual",
        PatientSex=sex,
        StudyID=short_study,
        StudyInstanceUID=f"2.25.{number_of(seed, patient, study)}",
        SeriesInstanceUID=f"2.25.{number_of(seed, patient, study, series)}",
        SOPInstanceUID=f"2.25.{number_of(seed, patient, study, series, name)}",
    )
    if pd.notna(row.get("age_years")):
        age = min(90, int(row["age_years"]))  # above 89 an age identifies
        ds.PatientAge = f"{age:03d}Y"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _set(ds, **fields):
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    return ds


def _code(value, meaning, **more):
    code = _set(
        Dataset(),
        CodeValue=value,
        CodingSchemeDesignator="SCT",
        CodeMeaning=meaning,
        **more,
    )
    return [code]


def _decimals(values):
    # DS holds 16 characters
    return [DSfloat(float(value), auto_format=True) for value in values]


def _set_pixels(ds, stored, bits):
    return _set(
        ds,
        **PIXELS,
        Rows=stored.shape[0],
        Columns=stored.shape[1],
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(bits == 16),
        PixelData=stored.tobytes(),
    )


def save(ds, scan, path):
    """Write a data set, and beside it the masks of a scan, if there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    ds.save_as(part, enforce_file_format=True)
    os.replace(part, path)
    if scan is not None and scan.truth:
        write_truth(scan.truth, path.with_suffix(".truth.png"))
