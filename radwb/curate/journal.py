"""The rows that an index has read so far, so that a stopped one goes on."""

import contextlib
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np

from radwb.data.fetch import cache_folder
from radwb.data.limits import max_bytes
from radwb.data.private import private_folder


class Journal:
    """One line a row, readable by its owner alone, gone when the index is whole.

    A row counts only for a file of the same path, size and time of change, read by the
    same version under the same limit. Without a cache that can be written, nothing is
    kept.

    Args:
        folder: that is being indexed.
    """

    def __init__(self, folder: Path):
        facts = [os.fsencode(folder.absolute()), os.fsencode(folder)]
        facts += [version("radwb").encode(), str(max_bytes()).encode()]
        name = hashlib.sha256(b"\0".join(facts)).hexdigest()[:24]
        self.path = cache_folder() / "index" / f"{name}.jsonl"
        self.rows = self._rows_before()
        self.file = None
        with contextlib.suppress(OSError):
            private_folder(private_folder(cache_folder()) / "index")
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self.file = os.fdopen(os.open(self.path, flags, 0o600), "wb", buffering=0)

    def _rows_before(self):
        rows = {}
        with contextlib.suppress(OSError):
            for line in self.path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last may be cut
                    key, row = json.loads(line)
                    rows[key] = row
        return rows

    def add(self, key: str, row: dict) -> None:
        """One write a row, begun on a new line: what was cut before is left behind."""
        self.rows[key] = row
        if self.file is not None:
            line = json.dumps([key, row], default=_plain)
            with contextlib.suppress(OSError):
                self.file.write(b"\n" + line.encode() + b"\n")

    def close(self, *, whole: bool) -> None:
        if self.file is not None:
            self.file.close()
        if whole:
            with contextlib.suppress(OSError):
                self.path.unlink()


def _plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)


def state_of(path: Path) -> str:
    """What a row is known by; a file that has changed is known by another."""
    try:
        facts = path.stat()
    except OSError:
        return f"{path!r} can't be seen"
    return f"{path!r} {facts.st_size} {facts.st_mtime_ns}"
