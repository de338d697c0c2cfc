"""Virtual patients as real DICOM files: radiographs (DX) and CT."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

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

# a view's code, meaning and orientation, and mm from the source to the detector and to
# the middle of the patient
VIEWS = {
    "PA": ("PA", "272479007", "postero-anterior", ["L", "F"], 1830, 1670),
    "AP": ("AP", "399348003", "antero-posterior", ["L", "F"], 1150, 970),
    "LATERAL": ("LL", "399173006", "left lateral", ["P", "F"], 1830, 1610),
}


def write_dx(
    scan: Scan, path: str | os.PathLike, row: Mapping, *, seed: int = 0
) -> None:
    """Write a virtual radiograph as Digital X-Ray Image (For Presentation), 12 bits,
    and its masks as NAME.truth.png.

    >>> write_dx(scan, "chest.dcm", table.iloc[0])
    >>> rw.data.read("chest.dcm").spacing_mm == scan.spacing_mm        # at the middle of the patient
    True

    Args:
        scan: with spacing_mm and view.
        row: patient_id, and if known study_id, sex, age_years (above 89 is written as
            90).
        seed: of the UIDs, which follow from it, the row, the view and the file's name.
    """
    path = Path(path)
    save(dx_data_set(scan, row, path.stem, seed), scan, path)


def dx_data_set(scan, row, name, seed):
    if scan.view not in VIEWS:
        raise ValueError(
            f"expected a view of {list(VIEWS)}, got {scan.view!r}. Try Scan(..., view='PA')."
        )
    if scan.spacing_mm is None:
        raise ValueError(
            f"expected spacing_mm, which a DX file must state, got None in {scan.source or 'the scan'}"
        )
    view, code, meaning, facing, detector, middle = VIEWS[scan.view]
    # GEOMETRY tells PixelSpacing, in the patient, from the larger ImagerPixelSpacing,
    # at the detector
    ds = _common(
        row, DigitalXRayImageStorageForPresentation, "DX", scan.view, name, seed
    )
    _set(
        ds,
        PresentationIntentType="FOR PRESENTATION",
        ImageType=["DERIVED", "PRIMARY", ""],
        ImageLaterality="U",
        AnatomicRegionSequence=_code("51185008", "Chest"),
        ViewPosition=view,
        PatientOrientation=facing,
        ViewCodeSequence=_code(code, meaning, ViewModifierCodeSequence=[]),
        AcquisitionContextSequence=[],
        PixelSpacing=_decimals(scan.spacing_mm),
        PixelSpacingCalibrationType="GEOMETRY",
        PixelSpacingCalibrationDescription="virtual film: at the middle of the patient",
        ImagerPixelSpacing=_decimals(np.array(scan.spacing_mm) * detector / middle),
        EstimatedRadiographicMagnificationFactor=_decimals([detector / middle])[0],
        PositionerType="",
        DistanceSourceToDetector=detector,
        DistanceSourceToPatient=middle,
        DetectorType="",
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=-1,
        RescaleType="US",
        WindowCenter=2048,
        WindowWidth=4096,
        VOILUTFunction="LINEAR",
        PresentationLUTShape="IDENTITY",
    )
    return _set_pixels(
        ds, np.round(np.clip(scan.pixels, 0, 1) * 4095).astype("<u2"), 12
    )


def write_ct(
    volume: Volume, folder: str | os.PathLike, row: Mapping, *, seed: int = 0
) -> list[Path]:
    """Write a CT as one CT Image file a slice, in whole Hounsfield units; `row` and
    `seed` as in `write_dx`.

    >>> paths = write_ct(volume, "ct", {"patient_id": "V0"})
    >>> rw.data.read("ct")              # the same voxels and affine; in reverse if D ran against the slices' normal

    Raises:
        ValueError: no affine, rows not at right angles to columns, or values that 16
            bits don't hold.
    """
    if volume.affine is None:
        raise ValueError(
            "expected a volume with an affine, got None: a CT file must say where its slice lies"
        )
    _, rows, columns = volume.spacing_mm
    down, across, hu = (
        volume.affine[:3, 1] / rows,
        volume.affine[:3, 2] / columns,
        np.round(volume.voxels),
    )
    if abs(down @ across) > 1e-4:
        raise ValueError(
            f"expected rows at right angles to columns, got a cosine of {down @ across:.3g}"
        )
    if not (hu.min() >= -32768 and hu.max() <= 32767):  # NaN fails, too
        raise ValueError(
            f"expected Hounsfield units in 16 bits, got {hu.min():g} to {hu.max():g}"
        )
    paths = [Path(folder) / f"{d:04d}.dcm" for d in range(len(hu))]
    for d, path in enumerate(tqdm(paths, "writing CT slices", delay=2, leave=False)):
        ds = _common(row, CTImageStorage, "CT", "CT", path.stem, seed)
        _set(
            ds,
            ImageType=["DERIVED", "PRIMARY", "AXIAL"],
            InstanceNumber=d + 1,
            PositionReferenceIndicator="",
            FrameOfReferenceUID=f"2.25.{number_of(ds.SeriesInstanceUID, 'frame')}",
            PatientPosition="HFS",
            KVP="",
            AcquisitionNumber=1,
            RescaleType="HU",
            SliceThickness=_decimals(volume.spacing_mm)[0],
            PixelSpacing=_decimals([rows, columns]),
            ImageOrientationPatient=_decimals([*across, *down]),
            ImagePositionPatient=_decimals(volume.affine[:3] @ [d, 0, 0, 1]),
            WindowCenter=40,
            WindowWidth=400,
        )
        save(_set_pixels(ds, hu[d].astype("<i2"), 16), None, path)
    return paths


def number_of(*parts):
    """128 bits that follow from the parts alone: for a UID under 2.25, or as a seed."""
    return int.from_bytes(
        hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:16], "big"
    )


def _common(row, kind, modality, series, name, seed):
    """What DX and CT share: patient, study, equipment, and that nobody was imaged."""
    patient, age = str(row["patient_id"]), row.get("age_years")
    study = str(row["study_id"]) if pd.notna(row.get("study_id")) else name
    ds = _set(
        Dataset(),
        SOPClassUID=kind,
        Modality=modality,
        PatientID=patient,
        PatientName=f"{patient}^Virtual",
        PatientBirthDate="",
        PatientIdentityRemoved="YES",
        PatientSex=row["sex"] if row.get("sex") in ("F", "M") else "",
        DeidentificationMethod="No patient: simulated by radwb",
        BurnedInAnnotation="NO",
        StudyDate="",
        StudyTime="",
        ReferringPhysicianName="",
        AccessionNumber="",
        StudyID=study if len(study) <= 16 else "",
        SeriesNumber=1,
        InstanceNumber=1,
        BodyPartExamined="CHEST",
        SeriesDescription="Synthetic, not a patient",
        ImageComments="Synthetic image of a virtual patient. Not for clinical use.",
        Manufacturer="radwb simulator",
        ManufacturerModelName="radwb.simulate",
        DeviceSerialNumber="0",
        SoftwareVersions="radwb",
        StudyInstanceUID=f"2.25.{number_of(seed, patient, study)}",
        SeriesInstanceUID=f"2.25.{number_of(seed, patient, study, series)}",
        SOPInstanceUID=f"2.25.{number_of(seed, patient, study, series, name)}",
    )
    if pd.notna(age):
        ds.PatientAge = f"{min(90, int(age)):03d}Y"  # above 89 an age identifies
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _set(ds, **fields):
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    return ds


def _code(value, meaning, **more):
    return [
        _set(
            Dataset(),
            CodeValue=value,
            CodingSchemeDesignator="SCT",
            CodeMeaning=meaning,
            **more,
        )
    ]


def _decimals(values):
    return [
        DSfloat(float(v), auto_format=True) for v in values
    ]  # DS holds 16 characters


def _set_pixels(ds, stored, bits):
    return _set(
        ds,
        Rows=stored.shape[0],
        Columns=stored.shape[1],
        SamplesPerPixel=1,
        BitsAllocated=16,
        BitsStored=bits,
        PhotometricInterpretation="MONOCHROME2",
        HighBit=bits - 1,
        LossyImageCompression="00",
        RescaleSlope=1,
        PixelRepresentation=int(bits == 16),
        RescaleIntercept=0,
        PixelData=stored.tobytes(),
    )


def save(ds, scan, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    ds.save_as(part, enforce_file_format=True)
    os.replace(part, path)
    if scan is not None and scan.truth:
        write_truth(scan.truth, path.with_suffix(".truth.png"))
