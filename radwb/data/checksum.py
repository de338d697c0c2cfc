"""Checksums of files and folders."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(folder: Path) -> str:
    """sha256 over the sorted names and sha256 of a folder's files, but hidden ones."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            line = f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n"
            total.update(line.encode())
    return total.hexdigest()
