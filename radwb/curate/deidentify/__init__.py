"""A folder or a table of patients becomes one that names nobody."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from radwb.curate.deidentify.burned import check_ocr
from radwb.curate.deidentify.files import clean_dicom, clean_nifti, clean_picture
from radwb.curate.deidentify.known import Known, left_in
from radwb.curate.deidentify.profile import OLDEST, OPTIONS, Plan, identifying
from radwb.curate.deidentify.scrub import scrub
from radwb.curate.deidentify.secret import open_secret, write_secret
from radwb.data.names import local_path, path_text, printable
from radwb.data.private import private_folder
from radwb.data.read import read_truth, write_truth
from radwb.data.scan import ReadError
from radwb.data.sniff import sniff
from radwb.data.table import check_table, findings_of
from radwb.identifiers import identifiers

KEPT_COLUMNS = ("view", "sex", "split")
SUFFIXES = {"dicom": ".dcm", "image": ".png", "nifti": ".nii.gz"}


def deidentify(
    source: str | os.PathLike | pd.DataFrame,
    out: str | os.PathLike,
    *,
    keep: Iterable[str] = ("dates", "patient"),
    key: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Write copies that name nobody: headers, words in pixels, and reports.

    DICOM headers follow the Basic Application Level Confidentiality Profile of PS3.15:
    UIDs are mapped alike in all files, private tags, overlays and curves go. Words
    burned into pixels are covered, but for markers such as "R". Of PNG, JPEG and NIfTI
    the pixels stay and no text. Before a file is written, it is searched for what its
    header named. Originals are only read. A face in a CT of the head stays a face.

    >>> films, _ = rw.simulate.plant_identifiers(table.head(2), "named")
    >>> shared = deidentify(films, "shared", keep=("dates", "patient", "pixels"))
    >>> shared["refused"].tolist()
    ['', '']

    Args:
        source: a folder, searched with its subfolders, or a table.
        out: a folder that gets one folder a patient; not inside the source.
        keep: which options of PS3.15 hold. "dates", each patient's moved back by one
            number of days between 400 and 3,650; "full dates"; "patient", that is sex,
            age (90 for any above 89), size and weight; "device"; "institution";
            "uids"; "descriptions", texts of study and series, scrubbed as a report is;
            and "pixels", which are then neither read nor covered.
        key: a file that leads from the new names back. It is written where it is named
            here, readable by you alone; one that is there is used again, so that the
            next films of a patient get the same name and the same shift.
    Returns:
        one row a file: `source` (leave this column out of what you share), `path`,
        `patient_id`, `done`, `refused` (why nothing was written, else ""), and of a
        table view, sex, age_years, split, findings, `report` without names, dates and
        numbers, and site and study_id as codes. Other columns are left out.
    Raises:
        ValueError: out or key lies where it may not, or keep names no option.
    """
    out = Path(out)
    key = None if key is None else Path(key)
    keep = _checked(keep)
    rows = _rows(source)
    _check_places(source, rows, out, key)
    if "pixels" not in keep:
        check_ocr()
    secret = open_secret(key)
    private_folder(out)
    known = defaultdict(Known)  # of each patient, for reports
    try:
        bar = tqdm(rows, "de-identifying", delay=2, leave=False)
        made = [_guarded(row, out, secret, keep, known) for row in bar]
    finally:
        if key is not None:
            write_secret(secret, key)
    for row in made:
        if isinstance(row.get("report"), str):
            row["report"] = scrub(row["report"], known[row["patient_id"]])
    columns = ["source", "path", "patient_id", "done", "refused"]
    if isinstance(source, pd.DataFrame):
        columns += [c for c in _kept_columns(source) if c not in columns]
        return pd.DataFrame(made, index=source.index, columns=columns)
    return pd.DataFrame(made, columns=columns)


def _checked(keep):
    keep = frozenset([keep] if isinstance(keep, str) else keep)
    options = [*OPTIONS, "pixels"]
    unknown = keep - set(options)
    if unknown:
        raise ValueError(
            f"expected options of {options}, got {sorted(unknown)} in keep"
        )
    return keep


def _rows(source):
    """One dictionary a file, with its path as `source`."""
    if isinstance(source, pd.DataFrame):
        rows = check_table(source).to_dict("records")
        kept = _kept_columns(source)
        names = identifiers(source["patient_id"])
        for row, name in zip(rows, names, strict=True):
            row["name"] = name
            row["source"] = row["path"]
        own = {"source", "name", "truth_path", *kept}
        return [{c: row[c] for c in own & set(row)} for row in rows]
    folder = local_path(source)
    if not folder.is_dir():
        raise ValueError(f"expected a folder or a table, got {folder}")
    paths = []
    for parent, _, names in os.walk(folder):  # links to folders aren't followed
        paths += [Path(parent, name) for name in names]
    return [{"source": path_text(path), "name": None} for path in sorted(paths)]


def _kept_columns(table):
    own = ("site", "study_id", "age_years", "report", *KEPT_COLUMNS)
    return [c for c in (*own, *findings_of(table)) if c in table.columns]


def _check_places(source, rows, out, key):
    folders = {local_path(row["source"]).parent.resolve() for row in rows}
    if not isinstance(source, pd.DataFrame):
        folders = {local_path(source).resolve()}
    target = out.resolve()
    for folder in folders:
        if target.is_relative_to(folder) or folder.is_relative_to(target):
            raise ValueError(
                f"expected an out apart from the originals, got {out}, which lies in "
                "their folder or holds it"
            )
        if key is not None and key.resolve().is_relative_to(folder):
            raise ValueError(f"expected a key apart from the originals, got {key}")
    if key is not None and key.resolve().is_relative_to(target):
        raise ValueError(
            f"expected a key outside of {out}, which you share, got {key}. Whoever "
            "has both knows the names"
        )


def _guarded(row, out, secret, keep, known):
    """Whatever a file does to the code below, it becomes a row."""
    path = local_path(row["source"])
    plan = Plan(secret, keep, "", Known())
    new = {column: value for column, value in row.items() if column != "truth_path"}
    new |= {"path": None, "patient_id": None, "done": "", "refused": ""}
    try:
        written = _cleaned(row, path, out, plan)
        new["path"] = str(written)
        counts = [f"{n} {what}" for what, n in sorted(plan.done.items()) if n]
        new["done"] = ", ".join(counts)
    except Exception as error:  # a damaged file can break a decoder anywhere
        kind = "" if isinstance(error, ReadError) else f"{type(error).__name__}: "
        new["refused"] = printable(f"{kind}{' '.join(str(error).split())[:300]}")
    new["patient_id"] = plan.patient or None
    known[new["patient_id"]].update(plan.known)
    return new | _codes(row, secret, keep)


def _codes(row, secret, keep):
    """The columns of a table that say who or where, said anew."""
    new = {}
    if "site" in row and "institution" not in keep:
        new["site"] = _code(row["site"], lambda text: secret.name("site", text))
    if "study_id" in row and "uids" not in keep:
        new["study_id"] = _code(row["study_id"], secret.uid)
    if "age_years" in row:
        age = row["age_years"]
        new["age_years"] = OLDEST + 1 if age > OLDEST else age
    return new


def _code(value, code):
    return None if pd.isna(value) else code(str(value))


def _cleaned(row, path, out, plan):
    """Write the copy of one file; its path."""
    if path.name.endswith(".truth.png"):
        raise ReadError(f"{path.name}: truth masks that belong to another image")
    kind = sniff(path)
    header = None
    if kind == "dicom":
        from radwb.data.dicom import load  # with all decoders

        header = load(path)
        plan.known.update(identifying(header, plan.keep))
    plan.patient = _patient(row, header, path, plan)
    for column in ("name", "study_id", *(["site"] * ("institution" not in plan.keep))):
        if isinstance(row.get(column), str):
            plan.known.add_value(row[column])
    if kind == "dicom":
        content = clean_dicom(header, path, plan)
    else:
        content = {"image": clean_picture, "nifti": clean_nifti}[kind](path, plan)
    if left_in(content, plan.known, plan.moved | {plan.patient}):
        raise ReadError(f"{path.name}: identifying values were left in what was made")
    name = plan.secret.name("file", str(path.resolve()))
    target = out / plan.patient / f"{name}{SUFFIXES[kind]}"
    _write(content, target)
    truth = row.get("truth_path")
    if isinstance(truth, str) and truth:
        write_truth(read_truth(truth), target.with_suffix(".truth.png"))
    return target


def _patient(row, header, path, plan):
    """The patient's new name: a table knows best, then the header."""
    name = row["name"]
    if name is None and header is not None:
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
            name = name or identifiers([str(header.get(keyword, ""))])[0]
    return plan.secret.patient(name or str(path.resolve()))


def _write(content, target):
    if target.exists():
        raise ReadError(f"{target.name}: is there already, from the same original")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, target)
