"""What a path holds, told by its first bytes and not by its name."""

from pathlib import Path

from radwb.data.scan import ReadError

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
LOW_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")


def sniff(path: Path) -> str:
    """What a path holds: "folder", "image", "nifti" or "dicom".

    Raises:
        ReadError: it's none of these, or no file.
    """
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise ReadError(f"{path.name}: no such file in {path.parent}")
    if not path.is_file():
        raise ReadError(
            f"{path.name}: expected a file or a folder, got a device, pipe or socket"
        )
    with path.open("rb") as file:
        head = file.read(352)
    if not head:
        raise ReadError(f"{path.name}: the file is empty (0 bytes)")
    if head.startswith(PICTURES):
        return "image"
    packed = head.startswith(b"\x1f\x8b")
    if packed or head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        return "nifti"
    # a data set without preamble begins with a low group, in either byte order
    bare = len(head) >= 8 and head.startswith(LOW_GROUPS)
    if bare or head[128:132] == b"DICM":
        return "dicom"
    raise ReadError(
        f"{path.name}: expected DICOM, NIfTI, PNG or JPEG, got a file that starts with "
        f"{head[:8]!r}"
    )
