"""One reader for all layouts; what a set is like stands in its TOML beside this file.

[table] files: alternatives, each a list of tables that are one; needs: columns without
which nothing goes; own: the columns that are kept, else all; rename; patterns: named
groups of a column become columns. [[joins]]: further tables, which may be absent.
[columns] of the result: a list of templates, of which the first that can be filled
counts. An image's template is the end of its path.
"""

import tomllib
import warnings
from pathlib import Path

import pandas as pd
import pydicom
from tqdm.auto import tqdm

from radwb.curate.layouts.boxes import add_boxes, write_masks
from radwb.curate.layouts.columns import ages, fill, first_of
from radwb.curate.layouts.files import Files
from radwb.curate.layouts.labels import labels_of
from radwb.data.dicom import view_of
from radwb.data.names import path_text
from radwb.data.real import reports
from radwb.data.table import COLUMNS, findings_of
from radwb.identifiers import identifiers

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.toml"))
ABOUT = ["title", "paper", "access", "licence", "seen", "unseen", "torchxrayvision"]
VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP"}
VIEWS |= dict.fromkeys(("L", "LL", "RL", "LATERAL", "Lateral"), "LATERAL")
SEXES = {"M": "M", "F": "F", "Male": "M", "Female": "F"}
VALUES = {"study_id": None, "view": VIEWS, "sex": SEXES, "study_date": None}
SAID = ["view", "sex", "age_years"]
HEADER = ["ViewPosition", "PatientSex", "PatientAge"]


def layouts() -> pd.DataFrame:
    """The sets that `layout` knows: paper, access, licence, what was seen of them.

    Downloading is up to you: most of them ask for a signature.

    >>> layouts().loc["chexpert", "title"]
    'CheXpert'

    TorchXRayVision's classes aren't wrapped: they give tensors, not tables, drop -1
    and pool findings. They are what the tests compare with.

    Returns:
        a row a set, by name: title, paper, access, licence; `seen`, where its files'
        names and columns were seen when this was written, `unseen`, what couldn't be;
        `torchxrayvision`, the class of that library that reads it, and where it
        differs.
    """
    rows = {name: _about(name) for name in NAMES}
    return pd.DataFrame(rows, index=ABOUT).T


def layout(
    name: str, folder: str | Path, *, masks: str | Path | None = None
) -> pd.DataFrame:
    """A folder of a public set, laid out as its publisher does, as our table.

    Tables and images are found wherever they lie in the folder, tables also as .gz; a
    folder that is only a link isn't followed.

    >>> line = "00000013_005.png,Edema|Mass,5,13,60,M,AP"
    >>> head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age"
    >>> text = f"{head},Patient Gender,View Position\\n{line}\\n"
    >>> _ = Path("Data_Entry_2017_v2020.csv").write_text(text)
    >>> layout("nih", ".")[["patient_id", "view", "Edema", "Lung Lesion"]].values
    array([['13', 'AP', 1.0, 1.0]], dtype=object)

    Labels keep the meaning that the set gives them. CheXpert's and MIMIC's are 1, 0, -1
    and blank. Where a set lists what is there (NIH, PadChest, Open-i), what isn't
    listed is 0, and a list that says nothing of a finding is NaN throughout. VinDr's
    readers vote: 1 where more than half of a film's readers say it, 0 where none, else
    -1. RSNA's Target is Pneumonia. Where a set has no label Lung Opacity, or lists it,
    it is 1 with any of its children (`radwb.findings`), as in `rw.data.real`.

    Args:
        name: one of `layouts()`: chexpert, ct-rate, mimic, mimic-jpg, nih, openi,
            padchest, rsna, vindr.
        folder: of the set, or of a part of it.
        masks: folder for the boxes of NIH, RSNA and VinDr as truth masks (column
            truth_path); None leaves them in column `boxes`.
    Returns:
        the schema's columns; findings; report_path, boxes ({finding, name, reader,
        box: (top, left, bottom, right) px}) and study_date where there are any;
        `refused`, "" where the image is there, else why it isn't; then the set's own
        columns. An age above 120 is empty. MIMIC's tables have neither sex nor age.
    Raises:
        ValueError: an unknown name, no such table in the folder, or a column that is
            missing.
    """
    if name not in NAMES:
        raise ValueError(f"expected one of {', '.join(NAMES)}; got {name!r}.")
    about = _about(name)
    files = Files(folder, about["title"])
    raw = _openi(files) if about["table"].get("xml") else files.tables(about["table"])
    for join in about.get("joins", []):
        raw = _joined(raw, join, files)
    unnamed = pd.Series(raw.index, raw.index).map("row {}".format)
    raw["_image"] = fill(about["columns"]["image"][0], raw).fillna(unnamed)
    films = raw.drop_duplicates("_image").set_index("_image", drop=False)
    table = _columns(films, about, files).join(labels_of(raw, films, about["labels"]))
    if "boxes" in about:
        add_boxes(table, about, files)
    if about.get("headers"):
        _from_headers(table)
    if masks is not None:
        write_masks(table, about.get("boxes", {}).get("frame"), masks)
    own = about["table"].get("own", films.columns)
    return _ordered(table, films[films.columns.intersection(own, sort=False)])


def _about(name):
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


def _joined(raw, join, files):
    """With the columns of a further table; those that are there already stay."""
    names = join["file"] if isinstance(join["file"], list) else [join["file"]]
    tables = [files.table(name, join["on"]) for name in names if files.has(name)]
    if not tables:
        warnings.warn(
            f"{files.title}: without {' or '.join(names)} in {files.folder} there are "
            f"no {join['gives']}.",
            stacklevel=3,
        )
        return raw
    other = pd.concat(tables).drop_duplicates(join["on"])
    known = raw.columns.difference(join["on"])
    return raw.merge(other.drop(columns=known, errors="ignore"), "left", on=join["on"])


def _openi(files):
    """A row an image of the XML files."""
    folder = files.folder_of(".xml")
    rows = [
        {"report_id": root.find("uId").get("id"), "image_id": image.get("id")}
        for root in files.xml_roots(folder)
        for image in root.iter("parentImage")
    ]
    return pd.DataFrame(rows).merge(reports(folder), on="report_id")


def _columns(films, about, files):
    """The schema's columns, one row an image."""
    columns = about["columns"]
    table = pd.DataFrame(index=films.index)
    endings = [fill(template, films) for template in columns["image"]]
    found = [files.image(row) for row in zip(*endings, strict=True)]
    table["path"] = [path and path_text(path) for path, _ in found]
    table["patient_id"] = identifiers(first_of(columns.get("patient_id", []), films))
    for column, known in VALUES.items():
        if column in COLUMNS or column in columns:
            table[column] = first_of(columns.get(column, []), films, known)
    table["site"] = about["site"]
    table["age_years"] = ages(columns, films)
    table["report"] = _reports(about.get("report", {}), films)
    table["split"] = files.split(about, films)
    if "report_file" in columns:
        _read_reports(table, first_of(columns["report_file"], films), files)
    table["refused"] = [why for _, why in found]
    table["refused"] = files.refused(about, films).fillna(table["refused"])
    return table


def _reports(headings, films):
    """The sections of a report under their headings; None where there is none."""
    written = []
    present = {text: c for text, c in headings.items() if c in films}
    for row in films[[*present.values()]].itertuples(index=False):
        parts = [
            f"{heading}: {text.strip()}" if heading else text.strip()
            for heading, text in zip(present, row, strict=True)
            if isinstance(text, str) and text.strip() not in ("", "Not given.")
        ]
        written.append("\n".join(parts) or None)
    return written


def _read_reports(table, names, files):
    """Each report's path and text, read once for all images of its study."""
    paths = [files.one(name) if name else None for name in names]
    texts = {}
    different = [path for path in dict.fromkeys(paths) if path]
    for path in tqdm(different, "reading reports", delay=2, leave=False):
        texts[path] = path.read_text(encoding="utf-8", errors="replace")
    table["report_path"] = [path and path_text(path) for path in paths]
    table["report"] = [texts.get(path) for path in paths]


def _from_headers(table):
    """View, sex and age of the DICOM headers, where the tables don't say them."""
    lacking = table[SAID].isna().any(axis=1)
    paths = table["path"][lacking & (table["refused"] == "")]
    bar = tqdm(paths, "reading headers", delay=2, leave=False)
    said = pd.DataFrame(map(_of_header, bar), paths.index, [*SAID, "refused"])
    said["age_years"] = ages({"age": ["{age_years}"]}, said)
    for column in SAID:
        table[column] = table[column].where(table[column].notna(), said[column])
    table.loc[said.index, "refused"] = said["refused"]


def _of_header(path):
    try:
        header = pydicom.dcmread(path, specific_tags=HEADER, stop_before_pixels=True)
    except Exception as error:
        return None, None, None, f"{Path(path).name}: damaged ({type(error).__name__})"
    sex = SEXES.get(header.get("PatientSex"))
    return view_of(header), sex, str(header.get("PatientAge") or ""), ""


def _ordered(table, films):
    own = films.drop(columns=[*table, "_image", "_table"], errors="ignore")
    first = [*COLUMNS, *findings_of(table)]
    rest = table.columns.difference(first, sort=False)
    return table[[*first, *rest]].join(own).reset_index(drop=True)
