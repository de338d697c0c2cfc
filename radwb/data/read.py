"""One door for files: `read` looks at the content, not at the suffix."""

import io
import json
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from radwb.data.header import are_directions
from radwb.data.limits import check_bytes, check_picture
from radwb.data.names import local_path, printable
from radwb.data.scan import ReadError, Scan, Volume, lengths
from radwb.data.sniff import sniff

MOST_FINDINGS = 16  # bits of a pixel
EXIF_TURN = 0x0112  # 1 upright, 2 to 8 mirrored or turned, 5 to 8 by a quarter


def read(
    path: str | os.PathLike,
    *,
    window: tuple[float, float] | None = None,
    truth: bool = True,
) -> Scan | Volume:
    """Read a DICOM, NIfTI, PNG or JPEG file, or a folder that holds one DICOM series.

    >>> read(table["path"][0])
    Scan(160 x 160, 1.83 x 1.83 mm, DX, AP, ...)

    Args:
        path: a file (known by its content, not by its suffix) or a folder with one
            DICOM series; `index` writes a file whose name isn't plain text as
            file://..., which is taken, too.
        window: (low, high) in the units after rescale (HU for CT) for a 2-D DICOM,
            instead of the file's own.
        truth: whether to look for the masks `NAME.truth.png` beside `NAME.png`.
    Returns:
        Scan for one 2-D image; Volume for NIfTI, a series, or a file with several
        frames.
    Raises:
        ReadError: whatever is wrong with the file, in one sentence. Also when reading
            it would take more memory than $RADWB_MAX_BYTES (2 GiB), which is checked
            before anything is inflated or decoded, or when GDCM takes longer than
            $RADWB_DECODE_SECONDS (20, and one more for each 10 million values).
    """
    image, _ = read_with_header(path, window=window, truth=truth)
    return image


def read_with_header(
    path: str | os.PathLike, *, window: tuple | None = None, truth: bool = True
) -> tuple[Scan | Volume, pydicom.Dataset | None]:
    """As `read`, and the DICOM data set of a single file, else None.

    A ReadError carries it as `header`, too.
    """
    path = local_path(path)
    header = None
    try:
        kind = sniff(path)
        if kind == "dicom":
            from radwb.data.dicom import decode, load  # with all decoders

            header = load(path)
            image = decode(header, path, window=window)
        elif kind == "folder":
            from radwb.data.series import read_series

            image = read_series(path)
        elif kind == "nifti":
            from radwb.data.nifti import read_nifti  # nibabel takes a tenth of a second

            image = read_nifti(path)
        else:
            image = _read_image(path, truth)
        return image, header
    # a damaged file can break a decoder anywhere; the reader gets one sentence
    except Exception as error:
        kind = type(error).__name__
        text = printable(" ".join(str(error).split())[:500]) or kind
        if not isinstance(error, ReadError):
            name = printable(path.name)
            text = f"{name}: damaged or not supported ({kind}: {text[:300]})"
        refused = ReadError(text)
        refused.header = header
        raise refused from error


def _read_image(path, truth):
    """PNG or JPEG -> Scan, its range the format's (255 or 65535), not the image's."""
    with open_picture(path, path.name) as image:
        scan = picture(image, str(path))
    sidecar = path.with_suffix(".truth.png")
    if truth and sidecar.is_file():
        return replace(scan, truth=read_truth(sidecar))
    return scan


def picture(image: Image.Image, source: str = "") -> Scan:
    """An open PNG or JPEG, upright as its EXIF says, with what radwb wrote into it."""
    facts = _radwb_text(image, source)
    spacing = lengths(facts.get("spacing_mm"))
    if spacing is None and facts.get("spacing_mm") is not None:
        text = str(facts["spacing_mm"])[:60]
        warnings.warn(
            f"{source}: spacing_mm is {text}, not two positive lengths: unknown",
            stacklevel=2,
        )
    ratio = lengths([facts.get("aspect"), 1.0])
    orientation = _sides(facts.get("orientation"))
    turn = image.getexif().get(EXIF_TURN, 1)
    if turn in range(2, 9):
        orientation = None  # what the text says is of the pixels as they're stored
    if turn in range(5, 9):
        spacing = spacing and spacing[::-1]
        ratio = ratio and ratio[::-1]
    aspect = ratio and ratio[0] / ratio[1]
    names = {}
    for key in ("view", "modality"):
        if isinstance(facts.get(key), str):
            names[key] = facts[key]
    place = {"orientation": orientation, "aspect": aspect}
    pixels = _grey(ImageOps.exif_transpose(image))
    return Scan(pixels, spacing, source=source, **names, **place)


def _radwb_text(image, source):
    """What write_png put into the text "radwb"; a warning where it's damaged."""
    try:
        facts = json.loads(image.info.get("radwb", "{}"))
    except (TypeError, ValueError, RecursionError):
        facts = None
    if isinstance(facts, dict):
        return facts
    text = f"{source}: its radwb text can't be read: spacing and view unknown"
    warnings.warn(text, stacklevel=3)
    return {}


def _sides(facts):
    """Where rows and columns run, if the text says it in DICOM's letters."""
    if not isinstance(facts, list) or len(facts) != 2:
        return None
    for letters in facts:
        if not isinstance(letters, str) or not re.fullmatch("[LRAPHF]{0,3}", letters):
            return None
    oblique = "" in facts  # neither left nor right
    return tuple(facts) if oblique or are_directions(facts) else None


def open_picture(source: Path | io.BytesIO, name: str) -> Image.Image:
    """An image that is not decoded yet, and not larger than may be."""
    try:
        image = Image.open(source, formats=["PNG", "JPEG"])
    except UnidentifiedImageError:
        raise ReadError(f"{name}: starts like a PNG or JPEG, but isn't one") from None
    try:
        check_picture(name, image.height, image.width, len(image.getbands()))
    except ReadError:
        image.close()
        raise
    return image


def decode_picture(data: bytes, name: str) -> Scan:
    """A PNG or JPEG in memory as `read` gives it.

    Raises:
        ReadError: it's neither, or larger than the limit.
        OSError, SyntaxError: it's damaged.
    """
    check_picture_bytes(data, name)
    with open_picture(io.BytesIO(data), name) as image:
        return picture(image, name)


def check_picture_bytes(data: bytes, name: str) -> None:
    """Raise as `decode_picture` does, without the cost of decoding.

    By its size and, in a PNG, its checksums.
    """
    with open_picture(io.BytesIO(data), name) as image:
        image.verify()


def _grey(image):
    """(H, W) float32 in [0, 1]; of colours the luminance."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.float32) / 65535
    if image.mode != "L":
        image = image.convert("RGB").convert("L")
    return np.asarray(image).astype(np.float32) / 255


def read_truth(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Masks of a bitmask PNG, (H, W) bool each.

    Bit k of a pixel is the k-th finding named in its "radwb" text.
    """
    path = local_path(path)
    with open_picture(path, path.name) as image:
        findings = _radwb_text(image, path.name).get("findings")
        if not isinstance(findings, list) or not 0 < len(findings) <= MOST_FINDINGS:
            raise ReadError(
                f"{path.name}: expected a PNG with a radwb text that names 1 to "
                f"{MOST_FINDINGS} findings, got none"
            )
        needed = image.width * image.height * (len(findings) + 4)
        check_bytes(path.name, needed, "its masks")
        bits = np.asarray(image)
    if bits.ndim != 2:
        raise ReadError(f"{path.name}: expected a grey bitmask, got {image.mode}")
    return {str(f): (bits >> k & 1).astype(bool) for k, f in enumerate(findings)}


def write_png(scan: Scan, path: str | os.PathLike) -> Path:
    """Keep a scan that you made or changed as a file that `read` gives back.

    An 8-bit grey PNG, and its truth masks beside it as `NAME.truth.png`.

    >>> read(write_png(scan, "cohort/0001.png")).spacing_mm == scan.spacing_mm
    True

    Args:
        scan: spacing, view, modality and sides go into the PNG's text "radwb".
        path: ends in .png; its folder is made.
    Returns:
        the path.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"expected a path that ends in .png, got {path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if scan.truth:
        write_truth(scan.truth, path.with_suffix(".truth.png"))
    _write(path, png_bytes(scan))
    return path


def png_bytes(scan: Scan) -> bytes:
    """A scan as the PNG that `write_png` writes."""
    facts = {"spacing_mm": None, "view": scan.view, "modality": scan.modality}
    if scan.spacing_mm is not None:
        facts["spacing_mm"] = [float(step) for step in scan.spacing_mm]
    elif scan.aspect != 1:
        facts["aspect"] = scan.aspect
    if scan.orientation is not None:
        facts["orientation"] = list(scan.orientation)
    levels = np.round(np.clip(scan.pixels, 0, 1) * 255).astype(np.uint8)
    return _png(levels, facts)


def write_truth(truth: dict[str, np.ndarray], path: Path) -> None:
    """Write (H, W) bool masks as one PNG that `read_truth` gives back."""
    _write(path, truth_bytes(truth))


def truth_bytes(truth: dict[str, np.ndarray]) -> bytes:
    """Masks as the PNG that `write_truth` writes."""
    if len(truth) > MOST_FINDINGS:
        raise ValueError(
            f"expected at most {MOST_FINDINGS} findings in one truth PNG, got "
            f"{len(truth)}"
        )
    kind = np.uint8 if len(truth) <= 8 else np.uint16
    bits = kind(0)
    for k, mask in enumerate(truth.values()):
        bits = bits | np.asarray(mask).astype(kind) << kind(k)
    return _png(bits, {"findings": list(truth)})


def _png(values, facts):
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", json.dumps(facts))
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG", pnginfo=text, compress_level=4)
    return out.getvalue()


def _write(path, data):
    """In one step: a stopped run leaves no half picture."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)
