"""One door for files: `read` looks at the content, not at the suffix."""

import io
import json
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
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

    >>> rw.data.read("chest.dcm")
    Scan(2500 x 2048, 0.139 x 0.139 mm, DX, PA, chest.dcm)

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
    return read_with_header(path, window=window, truth=truth)[0]


def read_with_header(
    path: str | os.PathLike, *, window: tuple | None = None, truth: bool = True
) -> tuple:
    """As `read`, and the DICOM data set of a single file, else None; a ReadError
    carries it as `header`, too.
    """
    path, header = local_path(path), None
    try:
        kind = sniff(path)
        if kind == "dicom":
            from radwb.data.dicom import decode, load

            header = load(path)
            return decode(header, path, window=window), header
        if kind == "folder":
            from radwb.data.series import read_series

            return read_series(path), None
        if kind == "nifti":
            from radwb.data.nifti import read_nifti

            return read_nifti(path), None
        return read_image(path, truth=truth), None
    # a damaged file can break a decoder anywhere; the reader gets one sentence
    except Exception as error:
        text = printable(" ".join(str(error).split())[:500]) or type(error).__name__
        if not isinstance(error, ReadError):
            text = f"{printable(path.name)}: damaged or not supported ({type(error).__name__}: {text[:300]})"
        refused = ReadError(text)
        refused.header = header
        raise refused from error


def read_image(path: Path, *, truth: bool = True) -> Scan:
    """PNG or JPEG -> Scan; colours become luminance, the range is the format's (255 or
    65535), not the image's.
    """
    with open_image(path) as image:
        scan = picture(image, str(path))
    sidecar = path.with_suffix(".truth.png")
    masks = read_truth(sidecar) if truth and sidecar.is_file() else {}
    return replace(scan, truth=masks)


def picture(image: Image.Image, source: str = "") -> Scan:
    """An open PNG or JPEG, from a file or a shard, upright as its EXIF says and with
    what its radwb text says of it.
    """
    about = about_of(image, source)
    spacing = about.get("spacing_mm")
    known = lengths(spacing) if spacing is not None else None
    if spacing is not None and known is None:
        warnings.warn(
            f"{source}: spacing_mm is {str(spacing)[:60]}, not two positive lengths: unknown",
            stacklevel=2,
        )
    upright = ImageOps.exif_transpose(image)
    names = (about.get(key) for key in ("view", "modality"))
    view, modality = (name if isinstance(name, str) else None for name in names)
    ratio = lengths([about.get("aspect"), 1.0])
    orientation = sides_of(about)
    turn = image.getexif().get(EXIF_TURN, 1)
    if turn in range(2, 9):
        orientation = None  # what the text says is of the pixels as they're stored
    if turn in range(5, 9):
        known, ratio = known and known[::-1], ratio and ratio[::-1]
    scan = Scan(grey(upright), known, view, modality, source, orientation=orientation)
    return (
        replace(scan, aspect=ratio[0] / ratio[1]) if ratio and known is None else scan
    )


def about_of(image: Image.Image, source: str) -> dict:
    """What write_png put into the text "radwb"; empty, with a warning, where that is
    damaged.
    """
    try:
        about = json.loads(image.info.get("radwb", "{}"))
    except (TypeError, ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        warnings.warn(
            f"{source}: its radwb text can't be read: spacing and view unknown",
            stacklevel=3,
        )
        return {}
    return about


def sides_of(about: dict) -> tuple[str, str] | None:
    """Where rows and columns run, if the text says it in DICOM's letters."""
    stated = about.get("orientation")
    if not isinstance(stated, list) or len(stated) != 2:
        return None
    if not all(isinstance(s, str) and re.fullmatch("[LRAPHF]{0,3}", s) for s in stated):
        return None
    oblique = "" in stated  # neither left nor right
    return tuple(stated) if oblique or are_directions(tuple(stated)) else None


def open_image(path: Path) -> Image.Image:
    return open_picture(path, path.name)


def open_picture(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        image = Image.open(source, formats=["PNG", "JPEG"])
    except UnidentifiedImageError:
        raise ReadError(f"{name}: starts like a PNG or JPEG, but isn't one") from None
    columns, rows = image.size
    try:
        check_picture(name, rows, columns, len(image.getbands()))
    except ReadError:
        image.close()
        raise
    return image


def decode_picture(data: bytes, name: str) -> Scan:
    """A PNG or JPEG in memory as `read` gives it.

    Raises:
        ReadError: it's neither, or larger than the limit; OSError, SyntaxError: it's
            damaged.
    """
    check_picture_bytes(data, name)
    with open_picture(io.BytesIO(data), name) as image:
        return picture(image, name)


def check_picture_bytes(data: bytes, name: str) -> None:
    """Raise as `decode_picture` does, without the cost of decoding: by its size and, in
    a PNG, its checksums.
    """
    with open_picture(io.BytesIO(data), name) as image:
        image.verify()


def grey(image: Image.Image) -> np.ndarray:
    """(H, W) float32 in [0, 1]."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.float32) / 65535
    return (
        np.asarray(
            image.convert("RGB").convert("L") if image.mode != "L" else image
        ).astype(np.float32)
        / 255
    )


def read_truth(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Masks of a bitmask PNG: bit k of a pixel is the k-th finding named in its "radwb"
    text.
    """
    path = local_path(path)
    with open_image(path) as image:
        findings = about_of(image, path.name).get("findings")
        if not isinstance(findings, list) or not 0 < len(findings) <= MOST_FINDINGS:
            raise ReadError(
                f"{path.name}: expected a PNG with a radwb text that names 1 to {MOST_FINDINGS} findings, got none"
            )
        check_bytes(
            path.name, image.width * image.height * (len(findings) + 4), "its masks"
        )
        bits = np.asarray(image)
    if bits.ndim != 2:
        raise ReadError(f"{path.name}: expected a grey bitmask, got {image.mode}")
    return {
        str(finding): (bits >> k & 1).astype(bool) for k, finding in enumerate(findings)
    }


def write_png(scan: Scan, path: str | os.PathLike) -> Path:
    """Write a scan as 8-bit grey PNG, and its truth masks beside it as
    `NAME.truth.png`; `read` gives both back.

    >>> write_png(scan, "cohort/0001.png")
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"expected a path that ends in .png, got {path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    spacing = None if scan.spacing_mm is None else [float(s) for s in scan.spacing_mm]
    about = {"spacing_mm": spacing, "view": scan.view, "modality": scan.modality}
    if scan.orientation is not None:
        about["orientation"] = list(scan.orientation)
    if spacing is None and scan.aspect != 1:
        about["aspect"] = scan.aspect
    if scan.truth:
        write_truth(scan.truth, path.with_suffix(".truth.png"))
    save_png(np.round(np.clip(scan.pixels, 0, 1) * 255).astype(np.uint8), about, path)
    return path


def write_truth(truth: dict[str, np.ndarray], path: Path) -> None:
    if len(truth) > MOST_FINDINGS:
        raise ValueError(
            f"expected at most {MOST_FINDINGS} findings in one truth PNG, got {len(truth)}"
        )
    kind = np.uint8 if len(truth) <= 8 else np.uint16
    bits = sum(
        (
            np.asarray(mask).astype(kind) << kind(k)
            for k, mask in enumerate(truth.values())
        ),
        kind(0),
    )
    save_png(bits, {"findings": list(truth)}, path)


def save_png(values: np.ndarray, about: dict, path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("radwb", json.dumps(about))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    Image.fromarray(values).save(part, format="PNG", pnginfo=text, compress_level=4)
    os.replace(part, path)
