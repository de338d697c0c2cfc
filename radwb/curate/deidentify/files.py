"""One file of each kind, read and made anew from what may stay: bytes to be written."""

import gzip
import io
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRBigEndian

from radwb.curate.deidentify.burned import cover_words
from radwb.curate.deidentify.known import left_in
from radwb.curate.deidentify.profile import PIXELS, Plan, clean, finish
from radwb.data.dicom import VIEWS, check_image
from radwb.data.limits import check_nifti, is_gzip
from radwb.data.pixels import COLOURS, stored_pixels
from radwb.data.read import open_picture, picture
from radwb.data.scan import ReadError

OTHER_KINDS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR names all originals. Leave it out",
    "1.2.840.10008.5.1.4.1.1.104.1": "a PDF in DICOM can't be cleaned",
}
NOT_SEEN = ("EncapsulatedDocument", "WaveformSequence")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
BLANK = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
SHORT = 3  # letters of a name that a header is searched for


def clean_dicom(ds: Dataset, path: Path, plan: Plan) -> bytes:
    """A data set by the profile, its pixels uncompressed and without their words.

    Compressed pixels hold comments of their own, and values may follow the last row:
    what is written are the decoded values and nothing else.
    """
    _refuse_kind(ds, path)
    plan.swapped = ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    new = clean(ds, plan)
    new.SpecificCharacterSet = "ISO_IR 192"
    # a file without them is read all the same, and may be written as what it is
    new.SOPClassUID = _kind(ds) or SECONDARY_CAPTURE
    if not new.get("SOPInstanceUID"):
        new.SOPInstanceUID = plan.secret.uid(str(path.resolve()))
    _refuse_left(_header_bytes(new), path, plan)
    finish(new, plan)
    if any(keyword in ds for keyword in PIXELS):
        check_image(ds, path.name)
        _set_pixels(new, ds, stored_pixels(ds, path), plan)
    out = io.BytesIO()
    new.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _refuse_kind(ds, path):
    kind = _kind(ds)
    unseen = [keyword for keyword in NOT_SEEN if keyword in ds]
    if kind in OTHER_KINDS or unseen:
        why = OTHER_KINDS.get(kind, f"{unseen} can't be searched for identifiers")
        raise ReadError(f"{path.name}: {why}")
    is_image = "Rows" in ds or "Image Storage" in kind.name
    if is_image and not any(keyword in ds for keyword in PIXELS):
        raise ReadError(f"{path.name}: an image without its pixels")


def _kind(ds):
    kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID", "")
    kind = UID(str(kind))
    if kind and not kind.is_valid:  # it may have swallowed the next elements
        raise ReadError("(0008,0016) SOPClassUID is no UID: a damaged header")
    return kind


def _header_bytes(ds):
    out = DicomBytesIO()
    out.is_implicit_VR = False
    out.is_little_endian = True
    write_dataset(out, ds)
    return out.getvalue()


def _refuse_left(content, path, plan):
    left = left_in(content, plan.known, plan.moved, shortest=SHORT)
    if left:
        raise ReadError(
            f"{path.name}: {len(left)} identifying values were still there after "
            "cleaning, so that nothing was written"
        )


def _set_pixels(new, ds, raw, plan):
    samples = int(ds.get("SamplesPerPixel") or 1)
    raw = np.array(raw, dtype=raw.dtype.newbyteorder("<"))
    shape = (-1, *raw.shape[-3:]) if samples > 1 else (-1, *raw.shape[-2:])
    inverted = ds.PhotometricInterpretation == "MONOCHROME1"
    fill = raw.max() if inverted else raw.min()
    _cover(raw.reshape(shape), plan, fill)
    if samples > 1:
        new.PlanarConfiguration = 0
        if ds.PhotometricInterpretation in COLOURS:
            new.PhotometricInterpretation = "RGB"  # as it was decoded
    data = raw.tobytes()
    data += b"\0" * (len(data) % 2)
    if raw.dtype.kind == "f":
        new[PIXELS[raw.dtype.itemsize // 4]] = _floats(data, raw.dtype.itemsize)
        return
    new.BitsAllocated = 8 * raw.dtype.itemsize
    new.BitsStored = min(int(ds.BitsStored), new.BitsAllocated)
    new.HighBit = new.BitsStored - 1
    new.PixelRepresentation = int(raw.dtype.kind == "i")
    new.PixelData = data


def _floats(data, size):
    ds = Dataset()
    keyword = PIXELS[size // 4]
    setattr(ds, keyword, data)
    return ds[keyword]


def _cover(frames, plan, fill):
    if "pixels" not in plan.keep:
        plan.done["words covered"] += len(cover_words(frames, plan.known, fill))


def clean_picture(path: Path, plan: Plan) -> bytes:
    """A PNG or JPEG as a PNG of its pixels, with radwb's own facts and no other text.

    Transparency goes: it can hide what stands below.
    """
    with open_picture(path, path.name) as image:
        scan = picture(image)
        image = ImageOps.exif_transpose(image)
        values = np.array(image if _is_grey(image) else image.convert("RGB"))
    _cover(values[None], plan, values.min())
    facts = {
        "spacing_mm": scan.spacing_mm and list(map(float, scan.spacing_mm)),
        "view": scan.view if scan.view in VIEWS.values() else None,
        "modality": scan.modality if _is_code(scan.modality) else None,
    }
    if scan.orientation is not None:
        facts["orientation"] = list(scan.orientation)
    if scan.spacing_mm is None and scan.aspect != 1:
        facts["aspect"] = scan.aspect
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", json.dumps(facts))
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG", pnginfo=text)
    return out.getvalue()


def _is_grey(image):
    return image.mode == "L" or image.mode.startswith("I")


def _is_code(text):
    return bool(text) and re.fullmatch("[A-Z]{2}", text) is not None


def clean_nifti(path: Path, plan: Plan) -> bytes:
    """A NIfTI with its voxels, steps and place, without texts and extensions."""
    check_nifti(path)
    content = path.read_bytes()
    if is_gzip(path):
        content = gzip.decompress(content)
    second = content[4:7] == b"n+2"
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    image = kind.from_bytes(content)
    header = image.header.copy()
    header.extensions.clear()
    for name in BLANK:
        if name in header:
            header[name] = b""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    new = kind(np.asarray(image.dataobj.get_unscaled()), None, header)
    new.header.set_slope_inter(slope, inter)
    plan.done["texts emptied"] += len(BLANK)
    return gzip.compress(new.to_bytes(), mtime=0)
