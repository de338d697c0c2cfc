"""DICOM files sorted into series, and what keeps each from being a volume."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.curate.index import _walk
from radwb.curate.slices import slices_of, trouble, without_place
from radwb.curate.stacks import parts, stack_problems
from radwb.curate.workers import as_done
from radwb.data.names import local_path, path_text, printable
from radwb.data.place import along_normal
from radwb.data.read import read
from radwb.data.scan import ReadError, Volume
from radwb.data.series import read_slices
from radwb.data.sniff import sniff

COLUMNS = [
    "patient_id",
    "study_id",
    "series_id",
    "modality",
    "slices",
    "shape",
    "spacing_mm",
    "orientation",
    "problems",
    "ok",
    "paths",
]
PLANES = ("sagittal", "coronal", "axial")
STRAIGHT = 0.95  # cosine of 18 degrees: what is farther off is called oblique
# slices that have them can be read, and no affine says where they lie
IRREGULAR = ("missing slice", "doubled slice", "unequal spacing", "shifted slice")

UNSEEN = ""  # of a file of which nothing can be read


def series(
    source: str | Path | pd.DataFrame,
    *,
    apart: bool = False,
    workers: int | None = 1,
) -> pd.DataFrame:
    """Sort DICOM files into series and say of each what keeps it from being a volume.

    Each DICOM file stands in one row's paths. A warning counts the files of which
    nothing can be read, not even whether they are slices.

    >>> import pydicom, shutil
    >>> film = pydicom.data.get_testdata_file("CT_small.dcm")
    >>> Path("ct").mkdir()
    >>> series(Path(shutil.copy(film, "ct")).parent)["problems"].tolist()
    ['single slice (no step between slices)']

    Args:
        source: a folder, searched with its subfolders, of which headers alone are read;
            or a table of `index`, which also knows whose pixels can't be read; a file
            with a series_id that is gone (or wasn't fetched) counts as such a slice.
        apart: a row for each part of a series that is two under one UID, or has other
            orientations or localisers in it.
        workers: as in `index`.
    Returns:
        a row a (0020,000E) SeriesInstanceUID, or without one a folder: patient_id,
        study_id, series_id, modality, number of slices, shape (D, H, W), spacing_mm,
        orientation (axial, coronal, sagittal, oblique ...) of its largest part, `ok`,
        `paths` in the order of place, and `problems`, "; " between them, "" for a
        series that is `ok`: missing slice, doubled slice, single slice, unequal
        spacing, shifted slice, tilted gantry, mixed orientation, two series under one
        UID, two patients (studies) under one UID, localiser among slices, mixed
        rescale, no place, no slice, can't be read. A slice that is missing at an end
        leaves no gap, and isn't seen.
    """
    files, unread = _files(source)
    paths = files["path"].tolist()
    rows = as_done(slices_of, paths, workers, lost=_lost)
    bar = tqdm(rows, "reading headers", len(paths), delay=2, leave=False)
    in_order = [found for _, found in sorted(bar, key=lambda row: row[0])]
    slices = pd.DataFrame([row for found in [*in_order, unread] for row in found])
    if slices.empty:
        return pd.DataFrame(columns=COLUMNS)
    refused = dict(zip(paths, files["refused"], strict=True))
    for n, path in enumerate(slices["path"]):
        why = refused.get(path)
        if why and not slices.at[n, "trouble"]:
            slices.at[n, "trouble"] = trouble("can't be read", why, path.name)
    folders = slices["path"].map(lambda path: str(path.parent))
    keys = slices["series_id"].fillna(folders)
    groups = [group for _, group in slices.groupby(keys, sort=True)]
    if apart:
        groups = [part for group in groups for part in _apart(group)]
    return pd.DataFrame([_row(group) for group in groups], columns=COLUMNS)


def read_volume(row: pd.Series, *, accept: Sequence[str] = ()) -> Volume:
    """Read the volume of a row of `series`, which has to be `ok`.

    Nothing is resampled. Slices with other gaps than equal ones become a volume whose
    affine is None.

    Args:
        row: of `series`.
        accept: names of the problems that it may have, such as ["tilted gantry"].
    Raises:
        ReadError: it has others, or can't be one volume at all.
    """
    problems = [problem.partition(" (")[0] for problem in row["problems"].split("; ")]
    others = [name for name in problems if name and name not in accept]
    paths = [local_path(path) for path in row["paths"]]
    name = paths[0].parent.name
    if others:
        raise ReadError(
            f"{name}: expected no problems, got {row['problems']}. Try "
            f"accept={problems} to read it as it is, or a part of "
            "rw.curate.series(..., apart=True)"
        )
    if len(paths) == 1:
        image = read(paths[0])
        if not isinstance(image, Volume):
            raise ReadError(
                f"{name}: expected a volume, got one slice. Try rw.data.read"
            )
        return image
    if len(paths) != row["slices"]:
        raise ReadError(
            f"{name}: expected one slice a file, got {row['slices']} in {len(paths)} "
            "files. Try rw.data.read of each"
        )
    return read_slices(paths, name, regular=not set(problems) & set(IRREGULAR))


def _files(source):
    """DICOM files with why they were refused, and the slices that can't be read."""
    if not isinstance(source, pd.DataFrame):
        source = pd.DataFrame({"path": _below(source)})
    files = source.reindex(columns=["path", *COLUMNS[:4], "refused"])
    files = files.astype(object).fillna("")
    files["path"] = [local_path(path) for path in source["path"]]
    kinds = files["path"].map(_kind)
    lost = files[kinds == UNSEEN]
    unread = lost[lost["series_id"] != ""]
    unknown = len(lost) - len(unread)
    if unknown:
        name = printable(lost.loc[lost["series_id"] == "", "path"].iloc[0].name)
        warnings.warn(
            f"{unknown} files can't be read (closed, empty, gone or no DICOM), such as "
            f"{name}. A series may lack slices without a word of it in its row.",
            stacklevel=3,
        )
    return files[kinds == "dicom"], [_unread(row) for _, row in unread.iterrows()]


def _below(source):
    """Paths of a folder."""
    folder = local_path(source)
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder or a table of rw.curate.index, got {folder}"
        )
    paths, not_entered = _walk(folder)
    if not_entered:
        first = not_entered[0]["refused"]
        warnings.warn(f"{len(not_entered)} folders are left out: {first}", stacklevel=4)
    return paths


def _kind(path):
    """What a path holds, as `sniff` says it; UNSEEN also for a folder in a table."""
    try:
        kind = sniff(path)
    except ReadError:
        named = path.suffix.lower() in (".dcm", ".dicom")
        holds = os.path.isfile(path) and os.path.getsize(path)
        return "other" if holds and not named else UNSEEN
    except OSError:
        return UNSEEN
    return UNSEEN if kind == "folder" else kind


def _unread(row):
    """A slice that a table names and whose file can't be opened."""
    path = row["path"]
    why = row["refused"] or "its file can't be opened"
    slice_ = without_place(path, trouble("can't be read", why, path.name))
    return slice_ | {name: row[name] or None for name in COLUMNS[:4]}


def _lost(path):
    return [without_place(path, "can't be read (its reader crashed)")]


def _placed(slices):
    return slices[slices["place"].notna()]


def _apart(slices):
    """The slices of one UID in the parts that make volumes of their own."""
    placed = _placed(slices)
    if len(placed) < len(slices):
        yield slices.drop(placed.index)
    if len(placed):
        yield from (part for _, part in placed.groupby(parts(placed)[0]))


def _row(slices):
    """A row of the table from the slices of one series."""
    known = slices.bfill().iloc[0]
    row = {name: known[name] for name in COLUMNS[:4]}
    problems = _identity_problems(slices)
    placed = _placed(slices)
    row |= {"shape": None, "spacing_mm": None, "orientation": None}
    if len(placed):
        part, different = parts(placed)
        main = _in_order(placed[part == 0])
        problems += different + _stack_and_scale(main)
        row |= _geometry(main)
        rest = slices.drop(main.index)
        slices = pd.concat([main, rest])
    paths = list(dict.fromkeys(map(path_text, slices["path"])))
    facts = {"slices": len(slices), "problems": "; ".join(problems), "paths": paths}
    return {**row, **facts, "ok": not problems}


def _identity_problems(slices):
    """Who and what is under the UID, and which files are no slices."""
    problems = []
    for column, name in (("patient_id", "patients"), ("study_id", "studies")):
        n = slices[column].nunique()
        if n > 1:
            problems.append(f"two {name} under one UID ({n})")
    if slices["series_id"].isna().any():
        problems.append("no UID (the folder stands for it)")
    first = {}
    counts = Counter()
    for text in slices["trouble"]:
        name, _, why = text.partition(" (")
        counts[name] += 1
        first.setdefault(name, why.removesuffix(")"))
    for name in filter(None, first):
        problems.append(f"{name} ({counts[name]} of {len(slices)}: {first[name]})")
    return problems


def _in_order(main):
    places = np.stack(main["place"])
    facing = np.stack(main["facing"])
    return main.iloc[np.argsort(along_normal(places, facing), kind="stable")]


def _stack_and_scale(main):
    problems = stack_problems(np.stack(main["place"]), main["facing"].iloc[0])
    # a PET scanner scales each slice to its own range
    scales = (
        ["intercept"] if main["modality"].iloc[0] == "PT" else ["slope", "intercept"]
    )
    different = main.groupby(scales, dropna=False).ngroups
    if different > 1:
        problems.append(f"mixed rescale ({different} different ones)")
    return problems


def _geometry(main):
    """Shape, spacing and orientation; the step is that of most gaps."""
    places = np.stack(main["place"])
    facing = np.stack(main["facing"])
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    head = main.iloc[0]
    row = {"shape": (len(main), int(head["rows"] or 0), int(head["columns"] or 0))}
    if gaps.any():
        step = round(float(np.median(gaps[gaps > 0])), 4)
        row["spacing_mm"] = (step, head["row_mm"], head["column_mm"])
    normal = np.abs(np.cross(*facing[0].reshape(2, 3)))
    oblique = "" if normal.max() > STRAIGHT else "oblique "
    return {**row, "orientation": oblique + PLANES[normal.argmax()]}
