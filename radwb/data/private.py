"""Runs, caches and executed notebooks are readable by their owner alone.

They hold patients' pixels and texts.
"""

from pathlib import Path

FOLDER = 0o700
FILE = 0o600


def private_folder(path: str | Path) -> Path:
    """Make a folder that only its owner may enter; one that is there stays as it is.

    >>> private_folder("runs/a").stat().st_mode & 0o077
    0
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
    return path


def private_file(path: str | Path) -> Path:
    """Make a file that radwb wrote readable by its owner alone."""
    path = Path(path)
    path.chmod(FILE)
    return path
