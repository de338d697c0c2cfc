"""Unpack zip, wheel and tar files without ever writing outside of a folder."""

import contextlib
import gzip
import shutil
import stat
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath


class ArchiveError(ValueError):
    """An archive holds something that must not be unpacked."""


def unpack(
    archive: Path,
    folder: Path,
    patterns: tuple[str, ...] = ("*",),
    *,
    max_bytes: int = 2 << 30,
) -> list[Path]:
    """Write the regular files of an archive by their last name into one flat folder.

    Every name is looked at before anything is written, so that a bad archive leaves
    nothing behind.

    >>> with zipfile.ZipFile("box.whl", "w") as box:
    ...     box.writestr("package/data/a.csv", "1")
    >>> unpack(Path("box.whl"), Path("out"), ("package/data/*.csv",))[0].as_posix()
    'out/a.csv'

    Args:
        archive: zip, wheel, tar or tar.gz.
        folder: is made.
        patterns: which members, by their whole name.
        max_bytes: of all of them.
    Raises:
        ArchiveError: a member is absolute, climbs out with .., is a link or a device,
            shares its last name with another, all of them are larger than `max_bytes`,
            or the archive is damaged, cut short or encrypted.
    """
    with _one_sentence(archive), _open(archive, max_bytes) as box:
        chosen = [
            (name, size)
            for name, size in _plain_files(box, archive.name)
            if any(fnmatch(name, pattern) for pattern in patterns)
        ]
        _check_size(archive, sum(size for _, size in chosen), max_bytes)
        paths = [folder / PurePosixPath(name).name for name, _ in chosen]
        if len(set(paths)) < len(paths):
            raise ArchiveError(
                f"{archive.name}: two members share a file name, so that one would "
                "overwrite the other"
            )
        folder.mkdir(parents=True, exist_ok=True)
        open_member = getattr(box, "extractfile", box.open)
        for (name, size), path in zip(chosen, paths, strict=True):
            with open_member(name) as source, path.open("xb") as target:
                shutil.copyfileobj(source, target)
                if target.tell() > size:
                    raise ArchiveError(
                        f"{archive.name}: {name} unpacks to more than the {size:,} "
                        "bytes it claims"
                    )
    return paths


@contextlib.contextmanager
def _one_sentence(archive):
    """What a damaged archive raises becomes an ArchiveError; a full disk doesn't."""
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


def _check_size(archive, total, max_bytes):
    if total > max_bytes:
        raise ArchiveError(
            f"{archive.name}: unpacks to {total:,} bytes, more than the {max_bytes:,} "
            "allowed"
        )


def _open(archive, max_bytes):
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        _check_inflated(archive, max_bytes)
        return tarfile.open(archive, "r:gz")
    if tarfile.is_tarfile(archive):
        return tarfile.open(archive, "r:")
    raise ArchiveError(
        f"{archive.name}: expected a zip, wheel or tar file, got something else or a "
        "damaged one"
    )


def _check_inflated(archive, max_bytes):
    """Count first: tarfile takes a header as long as it claims into memory."""
    total = 0
    with gzip.open(archive) as file:
        while block := file.read(1 << 20):
            total += len(block)
            _check_size(archive, total, max_bytes)


def _plain_files(box, archive):
    """Name and size of each regular file but hidden ones.

    Raises for whatever isn't a plain file or folder inside of the archive.
    """
    for name, size, is_folder, is_plain in _entries(box, archive):
        path = PurePosixPath(name.replace("\\", "/"))
        outside = path.is_absolute() or ".." in path.parts or ":" in name
        if outside or not is_plain:
            raise ArchiveError(
                f"{archive}: {name!r} is a link or points outside of the folder; "
                "nothing unpacked"
            )
        if not is_folder and not path.name.startswith("."):
            yield name, size


def _entries(box, archive):
    """(name, size, whether a folder, whether a plain file or folder) of each member."""
    if isinstance(box, tarfile.TarFile):
        for member in box.getmembers():
            plain = member.isdir() or member.isreg()
            yield member.name, member.size, member.isdir(), plain
        return
    if any(info.flag_bits & 1 for info in box.infolist()):
        raise ArchiveError(f"{archive}: it's encrypted, and no password is known")
    for info in box.infolist():
        linked = stat.S_ISLNK(info.external_attr >> 16)
        yield info.filename, info.file_size, info.is_dir(), not linked
