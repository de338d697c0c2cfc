"""The table: one row an image. Its columns, its check, and its images as one array."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.data.geometry import to_input
from radwb.data.scan import ReadError, Scan, Volume

FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)  # the 14 names of CheXpert (Irvin et al. 2019)
COLUMNS = ("path", "patient_id", "study_id", "view", "site", "sex", "age_years", "report", "split")
REQUIRED = ("path", "patient_id")


def findings_of(table: pd.DataFrame) -> list[str]:
    """The label columns of a table, in the order of FINDINGS."""
    return [f for f in FINDINGS if f in table.columns]


def check_table(table: pd.DataFrame, *, needs: tuple[str, ...] = (), images: bool = True) -> pd.DataFrame:
    """Return the table unchanged when it keeps the schema.

    >>> check_table(table, needs=("report", "Pleural Effusion"))

    Args:
        table: one row an image; labels are 1, 0, -1 (uncertain) or NaN (not mentioned).
        needs: further columns that this use needs, none of them wholly empty.
        images: False takes rows without a path, such as reports alone.
    Raises:
        ValueError: a column is missing, a path stands twice, a patient is unnamed, or a label is something else.
    """
    required = REQUIRED if images else REQUIRED[1:]
    missing = [c for c in (*required, *needs) if c not in table.columns]
    if missing:
        raise ValueError(f"expected the columns {missing}, got {list(table.columns)}. Try rw.curate.index(folder).")
    empty = [c for c in needs if table[c].isna().all() and len(table)]
    if empty:
        raise ValueError(f"expected values in the columns {empty}, got nothing but NaN. Try rows that have them.")
    for column in required:
        absent = table[column].isna() | table[column].astype(str).str.strip().isin(["", "nan", "None"])
        if absent.any():
            rows = table.index[absent][:3].tolist()
            raise ValueError(f"expected a {column} in every row, got {absent.sum()} without (rows {rows} ...)")
    twice = table["path"].astype(str).duplicated(keep=False) if images else np.zeros(len(table), bool)
    if twice.any():
        first = table.loc[twice, "path"].iloc[0]
        raise ValueError(f"expected each path once, got {twice.sum()} rows that share one ({first}). "
                         "Try table.drop_duplicates('path').")  # fmt: skip
    for finding in findings_of(table):
        values = pd.to_numeric(table[finding], errors="coerce")
        wrong = ~(values.isin([1, 0, -1]) | table[finding].isna())
        if wrong.any():
            got = table.loc[wrong, finding].iloc[0]
            raise ValueError(f"expected labels 1, 0, -1 or NaN in {finding}, got {got!r} in {wrong.sum()} rows")
    return table


def scan_of(row) -> Scan:
    """Read the image of a table's row, with its truth masks where the row or a sidecar file has them.

    >>> scan_of(table.iloc[0]).truth["Pleural Effusion"]       # (H, W) bool
    """
    from radwb.data.read import read, read_truth

    scan = read(row["path"])
    if isinstance(scan, Volume):
        raise ReadError(f"{row['path']}: expected one 2-D image in a row, got a volume {scan.shape}. Try .slice(...)")
    truth_path, view = row.get("truth_path"), row.get("view")
    truth = read_truth(truth_path) if isinstance(truth_path, str) and truth_path else scan.truth
    view = view if isinstance(view, str) and view else scan.view
    return replace(scan, view=view, truth=truth)


def images(table: pd.DataFrame, size: int, *, fit: str = "pad") -> np.ndarray:
    """All images of a table as small grey squares.

    >>> images(table, 160).shape
    (2000, 160, 160)

    Args:
        table: needs `path`.
        size: side, px.
        fit: "pad", "crop" or "squash", as in `to_input`.
    Returns:
        (N, size, size) uint8, in the table's order; 255 = 1.0.
    """
    from radwb.data.read import read

    def one(path):
        scan = read(path, truth=False)
        if isinstance(scan, Volume):
            raise ReadError(f"{path}: expected 2-D images, got a volume {scan.shape}. Try .slice(...)")
        return np.round(to_input(scan.pixels, size, fit=fit, aspect=scan.aspect) * 255).astype(np.uint8)

    paths = list(table["path"])
    out = np.zeros((len(paths), size, size), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        for n, image in enumerate(tqdm(pool.map(one, paths), "reading images", len(paths), delay=2, leave=False)):
            out[n] = image
    return out
