"""Unpack zip, wheel and tar files without ever writing outside the folder they're
unpacked into.
"""

import contextlib
import fnmatch
import gzip
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO


class ArchiveError(ValueError):
    """An archive holds something that must not be unpacked."""


def unpack(
    archive: Path,
    folder: Path,
    patterns: tuple[str, ...] = ("*",),
    *,
    max_bytes: int = 2 << 30,
) -> list[Path]:
    """Write the regular files of an archive that match a pattern, by their last name,
    into one flat folder.

    >>> unpack("box.whl", "out", ("package/data/*.csv",))

    Every name is looked at before anything is written, so that a bad archive leaves
    nothing behind.

    Raises:
        ArchiveError: a member is absolute, climbs out with .., is a link or a device,
            shares its last name with another, all of them are larger than `max_bytes`,
            or the archive is damaged, cut short or encrypted.
    """
    with _one_sentence(archive), _open(archive, max_bytes) as box:
        chosen = [
            (name, size)
            for name, size in _list(box, archive)
            if any(fnmatch.fnmatch(name, p) for p in patterns)
        ]
        last = [PurePosixPath(name).name for name, _ in chosen]
        _check_size(archive, sum(size for _, size in chosen), max_bytes)
        if len(set(last)) < len(last):
            raise ArchiveError(
                f"{archive.name}: two members share a file name, so that one would overwrite the other"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for (name, size), short in zip(chosen, last, strict=True):
            with _member(box, name) as source, (folder / short).open("xb") as target:
                shutil.copyfileobj(source, target)
                if target.tell() > size:
                    raise ArchiveError(
                        f"{archive.name}: {name} unpacks to more than the {size:,} bytes it claims"
                    )
    return [folder / short for short in last]


@contextlib.contextmanager
def _one_sentence(archive: Path) -> Iterator[None]:
    """Whatever zipfile, tarfile and zlib raise on a damaged archive becomes an
    ArchiveError; a full disk doesn't.
    """
    try:
        yield
    except ArchiveError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        text = " ".join(str(error).split())[:200]
        raise ArchiveError(
            f"{archive.name}: damaged or cut short ({type(error).__name__}: {text})"
        ) from error


def _check_size(archive: Path, total: int, max_bytes: int) -> None:
    if total > max_bytes:
        raise ArchiveError(
            f"{archive.name}: unpacks to {total:,} bytes, more than the {max_bytes:,} allowed"
        )


def _open(archive: Path, max_bytes: int) -> zipfile.ZipFile | tarfile.TarFile:
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        _check_inflated(archive, max_bytes)
    elif not tarfile.is_tarfile(archive):
        raise ArchiveError(
            f"{archive.name}: expected a zip, wheel or tar file, got something else or a damaged one"
        )
    return tarfile.open(archive, "r:gz" if packed else "r:")


def _check_inflated(archive: Path, max_bytes: int) -> None:
    """Count first: tarfile takes a header as long as it claims into memory."""
    total = 0
    with gzip.open(archive) as file:
        while block := file.read(1 << 20):
            total += len(block)
            _check_size(archive, total, max_bytes)


def _list(
    box: zipfile.ZipFile | tarfile.TarFile, archive: Path
) -> Iterator[tuple[str, int]]:
    """Name and size of each regular file; raises for whatever isn't a plain file or
    folder inside of the archive.
    """
    if isinstance(box, zipfile.ZipFile):
        if any(info.flag_bits & 1 for info in box.infolist()):
            raise ArchiveError(
                f"{archive.name}: it's encrypted, and no password is known"
            )
        links = {
            i.filename
            for i in box.infolist()
            if (i.external_attr >> 16) & 0o170000 == 0o120000
        }
        entries = [
            (i.filename, i.file_size, i.is_dir(), i.filename not in links)
            for i in box.infolist()
        ]
    else:
        entries = [
            (m.name, m.size, m.isdir(), m.isdir() or m.isreg())
            for m in box.getmembers()
        ]
    for name, size, is_folder, plain in entries:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name or not plain:
            raise ArchiveError(
                f"{archive.name}: {name!r} is a link or points outside of the folder; nothing unpacked"
            )
        if not is_folder and not parts.name.startswith("."):
            yield name, size


def _member(box: zipfile.ZipFile | tarfile.TarFile, name: str) -> IO[bytes]:
    return box.open(name) if isinstance(box, zipfile.ZipFile) else box.extractfile(name)
