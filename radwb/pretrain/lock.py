"""One run a folder at a time: OUT.lock names the process that trains into OUT."""

import json
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from radwb.models.checks import printable

# a process that began so much later than the lock's has its number by chance
CLOCK_S = 60.0


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep a run's folder for this process.

    The lock of a dead one on this machine is taken over, and said. The file lies beside
    the folder, since the folder may move to OUT.previous-N. Of a run on many devices
    the first process holds it, for all.

    Raises:
        ValueError: another process trains into the folder, or may do so.
    """
    real = out.resolve()  # a link to a folder is that folder
    path = real.with_name(real.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = json.dumps(_this_process())
    if not _written(path, ours):
        _take_over(path, out)
        if not _written(path, ours):
            raise _in_use(path, out, "another process, which was quicker")
    try:
        yield
    finally:
        if _text(path) == ours:
            path.unlink(missing_ok=True)


def _this_process() -> dict:
    began = psutil.Process().create_time()
    host = printable(socket.gethostname())
    return {"pid": os.getpid(), "host": host, "began": began}


def _written(path: Path, holder: str) -> bool:
    """Whether the lock is now ours: only one process can make a new file."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(file, "w") as text:
        text.write(holder)
    return True


def _text(path: Path) -> str | None:
    """What stands in a lock; None where there is none, or it can't be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return None


def _holder(text: str | None) -> dict | None:
    """Who holds a lock; None where the text doesn't say."""
    try:
        holder = json.loads(text)
        pid, began = int(holder["pid"]), float(holder["began"])
        host = printable(holder["host"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    if pid < 1 or not math.isfinite(began):
        return None
    return {"pid": pid, "host": host, "began": began}


def _take_over(path: Path, out: Path) -> None:
    """Remove the lock of a process that has ended.

    Raises:
        ValueError: it lives, or that can't be known.
    """
    text = _text(path)
    if text is None and not path.exists():
        return
    holder = _holder(text)
    if holder is None:
        unknown = "a process that can't be known, since its lock is damaged"
        raise _in_use(path, out, unknown)
    who = f"process {holder['pid']} on {holder['host']}"
    if holder["host"] != _this_process()["host"]:
        raise _in_use(path, out, f"{who}, another machine than this")
    if _lives(holder):
        raise _in_use(path, out, who)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # another process took it over
    if _text(aside) != text:  # it was quicker, and this is its lock
        aside.rename(path)
        raise _in_use(path, out, "another process, which was quicker")
    aside.unlink()
    print(f"{out}: {who} has ended without freeing this folder; its lock is taken over")


def _lives(holder: dict) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        began, state = process.create_time(), process.status()
    except (psutil.NoSuchProcess, OverflowError):
        return False
    except psutil.Error:
        return True  # it's there, and says no more
    if state == psutil.STATUS_ZOMBIE:  # killed; whoever started it hasn't looked yet
        return False
    return began < holder["began"] + CLOCK_S


def _in_use(path: Path, out: Path, who: str) -> ValueError:
    return ValueError(
        f"expected a folder that no other fit writes to, got {out}, in use by {who}. "
        f"Try another out=, or wait; if that process has ended, delete {path.name}."
    )
