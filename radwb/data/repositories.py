"""Files of public repositories at pinned commits, each by its own checksum.

manifests/NAME.txt lists them in the order of the set's table, a file a line: sha256,
bytes, OWNER/REPOSITORY/path.
"""

import contextlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from radwb.data.checksum import sha256
from radwb.data.https import DownloadError, answer, download, open_web

MANIFESTS = Path(__file__).with_name("manifests")
FILE_URL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
ARCHIVE_URL = "https://github.com/{repository}/archive/{commit}.tar.gz"
FEW = 20  # files that are asked for one by one; of more, the commit's archive
PAUSE_S = 0.2  # between two files


class WrongFile(DownloadError):
    """A file came whole, and isn't the pinned one."""


class PinnedFile(NamedTuple):
    """One line of a manifest."""

    sha256: str
    size: int
    name: str

    @property
    def repository(self) -> str:
        return "/".join(self.name.split("/")[:2])

    @property
    def path(self) -> str:
        return "/".join(self.name.split("/")[2:])


def manifest(name: str) -> list[PinnedFile]:
    """The files that a set is made of, in the order of its table.

    >>> manifest("hannover")[1].name
    'ml-workgroup/covid-19-image-repository/png/fff13f3a.png'
    """
    files = []
    for line in (MANIFESTS / f"{name}.txt").read_text("utf-8").splitlines():
        checksum, size, path = line.split(" ", 2)
        files.append(PinnedFile(checksum, int(size), path))
    return files


def collect(
    files: list[PinnedFile],
    repositories: dict,
    folder: Path,
    progress: Callable[[int], object],
) -> None:
    """Bring all files into a folder under their names; those there already stay.

    What came and is right stays when the rest fails, so that the next call goes on.

    Args:
        files: of `manifest`.
        repositories: OWNER/REPOSITORY -> its commit and, where its archive is worth
            reading through for many files, archive_mb, the most that it may have.
        folder: is made.
        progress: is told of the bytes of each file that is there, and of none when
            something else passes.
    Raises:
        DownloadError: some can't be had.
    """
    missing = [file for file in files if not _is_right(folder / file.name, file)]
    for file in missing:  # damaged since it came
        (folder / file.name).unlink(missing_ok=True)
    if len(missing) < len(files):
        progress(sum(file.size for file in set(files) - set(missing)))
    with open_web() as web:
        for repository, pin in repositories.items():
            its = [file for file in missing if file.repository == repository]
            if "archive_mb" in pin and len(its) > FEW:
                # a passing fault leaves the rest to the requests for single files
                with contextlib.suppress(DownloadError):
                    _from_archive(web, its, pin, folder, progress)
        for file in missing:
            if not (folder / file.name).exists():
                _from_web(web, file, repositories[file.repository], folder, progress)
                time.sleep(PAUSE_S)


def _is_right(path, file):
    return path.is_file() and sha256(path) == file.sha256


def _from_archive(web, files, pin, folder, progress):
    """Keep the wanted members of a commit's archive, read through once as it comes."""
    wanted = {file.path: file for file in files}
    url = ARCHIVE_URL.format(repository=files[0].repository, commit=pin["commit"])
    most = pin["archive_mb"] << 20
    with answer(web, url, most) as blocks:
        stream = _Stream(blocks)
        try:
            with tarfile.open(fileobj=stream, mode="r|gz") as archive:
                for member in archive:
                    progress(0)
                    file = wanted.get(member.name.partition("/")[2])
                    if file and member.isreg() and member.size == file.size:
                        source = archive.extractfile(member)
                        # a wrong one is asked for by itself afterwards
                        with contextlib.suppress(WrongFile):
                            _keep(file, folder, partial(_copy, source))
                            progress(file.size)
                        del wanted[file.path]
                    if not wanted:
                        return
        except (tarfile.TarError, EOFError) as error:
            raise DownloadError(f"{url} is no whole archive ({error})") from error


class _Stream:
    """Blocks of bytes as a file to read from."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.rest = b""

    def read(self, size):
        while len(self.rest) < size and (block := next(self.blocks, b"")):
            self.rest += block
        head = self.rest[:size]
        self.rest = self.rest[size:]
        return head


def _copy(source, path):
    with path.open("wb") as target:
        shutil.copyfileobj(source, target)


def _from_web(web, file, pin, folder, progress):
    address = {"repository": file.repository, "commit": pin["commit"]}
    url = FILE_URL.format(**address, path=quote(file.path))
    _keep(file, folder, partial(download, web, url, most=file.size))
    progress(file.size)


def _keep(file, folder, fill):
    """Give a file its name once it is whole and right."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as part:
        path = Path(part) / "file"
        fill(path)
        if not _is_right(path, file):
            raise WrongFile(
                f"{file.name} came with another sha256 than the pinned "
                f"{file.sha256[:12]}..."
            )
        os.replace(path, target)
