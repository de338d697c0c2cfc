"""Arrays that no model has a part in, computed once and kept as files."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

VERSION = 1  # of the protocol: another one reads no older file


def digest(*parts) -> str:
    """Twelve letters that stand for these parts and for the protocol."""
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def films_digest(table: pd.DataFrame, columns) -> str:
    """Of a table's films, their patients and the columns that were asked for."""
    columns = ["study_id", "patient_id", *columns]
    return digest(table[columns].to_csv(index=False))


def kept(folder: Path, name: str, make) -> dict[str, np.ndarray]:
    """The arrays of folder/name.npz; where it isn't there they are made and written.

    Several processes may ask at once: a file is whole or isn't there.
    """
    path = Path(folder) / f"{name}.npz"
    if path.is_file():
        with np.load(path) as file:
            return dict(file)
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)
    return arrays
