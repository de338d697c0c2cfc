"""Real image sets out of the files of their public repositories.

Each recipe gives the rows of metadata.csv and writes the images beside it: grey, no
larger than the set's side in pixels, JPEG of quality 90; masks as PNG.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

GUANGZHOU = "Guangzhou Women and Children's Medical Center"
COHEN = "hida6/covid-chestxray-dataset"
BRIXIA = "BrixIA/Brixia-score-COVID-19"
MASKS = "GeneralBlockchain/covid-19-chest-xray-segmentations-dataset"
VQA = "Saranga99/vqa-radiology/data/osfstorage"
HANNOVER_STAYS = ("admission", "icu_admission", "icu_release", "death")
COHEN_COLUMNS = (
    "offset_days",
    "age",
    "sex",
    "modality",
    "view",
    "finding",
    "survival",
    "went_icu",
    "intubated",
    "text",
    "other_notes",
    "location",
    "date",
    "license",
    "url",
    "doi",
)
MASK_COLUMNS = ("age", "sex", "view", "finding", "text", "license", "url")


class Source(NamedTuple):
    """The files of a set as they came, and where the set is made of them."""

    images: list[Path]  # in the order of the table
    folder: Path  # of OWNER/REPOSITORY/path
    tables: Path | None  # of the set whose labels it needs
    out: Path


def assemble(
    name: str, files: list[str], folder: Path, out: Path, *, tables: Path | None = None
) -> None:
    """Write metadata.csv and the images of a set.

    Args:
        name: of the catalog.
        files: OWNER/REPOSITORY/path of each, in the order of the table.
        folder: where they are.
        out: an empty folder.
        tables: as `fetch("nih-tables")` gives it, for nih-64.
    """
    rows, image_folder = RECIPES[name]
    images = [folder / file for file in files if image_folder in file]
    (out / "images").mkdir()
    table = pd.DataFrame(rows(Source(images, folder, tables, out)))
    table.to_csv(out / "metadata.csv", index=False)


# Images


def _film(path, side, out):
    """Write the film of a source; its name and its size at the source."""
    image = Image.open(path)
    width, height = image.size
    if image.mode == "RGBA":
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image)
    film = image.convert("L")
    scale = side / max(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        film = film.resize(size, Image.Resampling.LANCZOS)
    name = f"images/{path.stem}.jpg"
    film.save(out / name, "JPEG", quality=90)
    return film, {"image": name, "orig_w": width, "orig_h": height}


def _as_it_is(path, out):
    (out / "images" / path.name).write_bytes(path.read_bytes())
    return f"images/{path.name}"


def _text(path, **options):
    """A table of texts as they are written, nothing guessed."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, **options)


# One recipe a set


def _hannover(source):
    path = source.folder / "ml-workgroup/covid-19-image-repository/data.csv"
    patients = _text(path).set_index("image_id")
    values = [column for column in patients if column.endswith(("_offset", "_val"))]
    for path in source.images:
        patient = patients.loc[path.stem]
        _, film = _film(path, 512, source.out)
        yield {
            "image": film["image"],
            "patient_id": f"hannover-{patient['patient_id']}",
            "sex": patient["sex"],
            "view": patient["projection"].upper(),
            "finding": "COVID-19",
            "license": "CC BY 3.0",
            "source": "Hannover Medical School",
            "orig_w": film["orig_w"],
            "orig_h": film["orig_h"],
            **patient[values],
            "icu_ever": int(patient["icu_admission_offset"] != ""),
            "died": int(patient["death_offset"] != ""),
        }


def _kermany(source, side=448):
    for path in source.images:
        first, _, rest = path.stem.removeprefix("NORMAL2-").partition("_")
        patient = first.replace("IM-", "normal")[:10] if not rest else first
        kind = rest.partition("_")[0]
        finding = {"bacteria": "bacterial pneumonia", "virus": "viral pneumonia"}
        _, film = _film(path, side, source.out)
        yield {
            "image": film["image"],
            "patient_id": f"kermany-{patient}",
            "view": "AP",
            "age_group": "1-5 years",
            "finding": finding.get(kind, "normal"),
            "license": "CC BY 4.0",
            "source": GUANGZHOU,
            "orig_w": film["orig_w"],
            "orig_h": film["orig_h"],
        }


def _nih(source):
    names = [path.name for path in source.images]
    path = source.tables / "Data_Entry_2017_v2020.csv.gz"
    rows = _text(path).set_index("Image Index").loc[names]
    kinds = rows["Finding Labels"].str.get_dummies()
    findings = sorted(kinds.columns.drop("No Finding"))
    boxes = _text(source.tables / "BBox_List_2017.csv.gz").set_index("Image Index")
    for path, (_, row) in zip(source.images, rows.iterrows(), strict=True):
        yield {
            "image": _as_it_is(path, source.out),
            "patient_id": f"nih-{row['Patient ID']}",
            "followup": row["Follow-up #"],
            "age": row["Patient Age"],
            "sex": row["Patient Gender"],
            "view": row["View Position"],
            "finding_labels": row["Finding Labels"],
            "boxes": _nih_boxes(boxes, path.name),
            "license": "NIH CC: free use with attribution",
            "source": "NIH ChestX-ray14",
            **kinds.loc[path.name, [*findings, "No Finding"]],
        }


def _nih_boxes(boxes, name):
    """Label and box of each in pixels of the film of 64, as JSON."""
    if name not in boxes.index:
        return ""
    found = []
    for row in boxes.loc[[name]].itertuples(index=False):
        label, *numbers = row[:5]
        found.append([label, *(round(float(n) / 16, 1) for n in numbers)])
    return json.dumps(found)


def _cohen(path):
    """The table of the public cases by file; text in single spaces."""
    raw = _text(path).drop_duplicates("filename").set_index("filename")
    names = {"offset": "offset_days", "clinical_notes": "text"}
    raw = raw.rename(columns=names)
    for column in ("text", "other_notes", "location"):
        raw[column] = raw[column].str.split().str.join(" ")
    raw["age"] = pd.to_numeric(raw["age"])
    return raw


def _covid_text(source):
    root = source.folder / COHEN
    cases = _cohen(root / "metadata.csv")
    path = source.folder / BRIXIA / "data/public-annotations.csv"
    brixia = pd.read_csv(path, index_col="filename").filter(like="S-").astype(float)
    path = root / "annotations/covid-severity-scores.csv"
    severity = pd.read_csv(path, comment="#", index_col="filename")
    for path in source.images:
        case = cases.loc[path.name]
        film, about = _film(path, 512, source.out)
        grades = brixia.reindex([path.name]).iloc[0]
        scores = severity.reindex([path.name]).iloc[0]
        yield {
            "image": about["image"],
            "patient_id": f"cohen-{case['patientid']}",
            **case[[*COHEN_COLUMNS]],
            "source_file": path.name,
            "orig_w": about["orig_w"],
            "orig_h": about["orig_h"],
            "lung_mask": _lung_mask(root, path.stem, film.size, source.out),
            **{f"brixia_{zone}": grades[f"S-{zone}"] for zone in "ABCDEF"},
            "sev_geographic_mean": scores["geographic_mean"],
            "sev_opacity_mean": scores["opacity_mean"],
        }


def _lung_mask(root, stem, size, out):
    path = root / "annotations/lungVAE-masks" / f"{stem}_mask.png"
    if not path.exists():
        return ""
    name = f"lung_masks/{stem}.png"
    (out / name).parent.mkdir(exist_ok=True)
    mask = Image.open(path).resize(size, Image.Resampling.NEAREST)
    mask.point(lambda value: 255 * (value > 127)).save(out / name, optimize=True)
    return name


def _covid_masks(source):
    root = source.folder / MASKS
    cases = _cohen(root / "metadata.csv")
    drawn = _text(root / "structure.csv")
    drawn = drawn[drawn["Mask"] != ""]
    (source.out / "masks").mkdir()
    for path in source.images:
        rows = drawn[drawn["Filename"].map(lambda name: Path(name).stem) == path.stem]
        file = rows["Filename"].iloc[0]
        case = cases.loc[file]
        film, about = _film(path, 512, source.out)
        yield {
            "image": about["image"],
            "patient_id": f"cohen-{case['patientid']}",
            **case[[*MASK_COLUMNS]],
            "source_file": file,
            "orig_w": about["orig_w"],
            "orig_h": about["orig_h"],
            **_drawn(rows, root, path.stem, film.size, source.out),
        }


def _drawn(rows, root, stem, size, out):
    """Masks and boxes of a film by structure, from pieces cut to what is drawn."""
    columns = {}
    for structure, pieces in rows.groupby(rows["Template Name"].str.lower()):
        structure = structure.replace(" ", "_")
        name = f"masks/{stem}__{structure}.png"
        width, height = map(int, pieces["Resolution"].iloc[0].split("x"))
        whole = Image.new("L", (width, height))
        boxes = []
        for piece in pieces.to_dict("records"):
            left, top = int(piece["Left"]), int(piece["Top"])
            part = Image.open(root / piece["Mask"]).convert("L")
            whole.paste(part.point(lambda value: 255 * (value > 0)), (left, top))
            box = (left, top, int(piece["Width"]), int(piece["Height"]))
            boxes.append([round(n * size[0] / width) for n in box])
        mask = np.asarray(whole.resize(size, Image.Resampling.NEAREST)) > 0
        Image.fromarray(mask).save(out / name, optimize=True)
        columns[f"mask_{structure}"] = name
        columns[f"boxes_{structure}"] = json.dumps(boxes)
    return columns


def _vqa(source):
    path = source.folder / VQA / "VQA_RAD Dataset Public.json"
    names = {path.name for path in source.images}
    asked = [q for q in json.loads(path.read_text()) if q["image_name"] in names]
    (source.out / "qa.json").write_text(json.dumps(asked, indent=0))
    questions = pd.DataFrame(asked).groupby("image_name")
    for path in source.images:
        its = questions.get_group(path.name)
        case = its["image_case_url"].iloc[0].partition("id=")[2]
        other = SAME_CASE.get(path.stem, "")
        yield {
            "image": _as_it_is(path, source.out),
            "patient_id": f"medpix-{other}" if other else f"vqarad-{case}",
            "organ": its["image_organ"].iloc[0],
            "in_medpix2": other,
            "n_questions": len(its),
            "license": "CC0 1.0 (OSF 89kps)",
            "source": "VQA-RAD / MedPix",
        }


# image of VQA-RAD -> its case in MedPix 2.0, which has the same one
SAME_CASE = {
    "synpic19605": "MPX1924",
    "synpic21028": "MPX1547",
    "synpic22020": "MPX1229",
    "synpic23571": "MPX2500",
    "synpic24424": "MPX1300",
    "synpic27142": "MPX1788",
    "synpic32981": "MPX1264",
    "synpic35914": "MPX2487",
    "synpic39460": "MPX1601",
    "synpic43433": "MPX1419",
    "synpic48714": "MPX2407",
    "synpic51426": "MPX1754",
}
# set -> what gives its rows, the folder of its images in a repository
RECIPES: dict[str, tuple[Callable, str]] = {
    "nih-64": (_nih, "/NIH1000/"),
    "hannover": (_hannover, "/png/"),
    "kermany": (_kermany, "/dataset/"),
    "kermany-more": (partial(_kermany, side=256), "/BTL_Machine_Learning/"),
    "covid-masks": (_covid_masks, "/images/"),
    "covid-text": (_covid_text, "/images/"),
    "vqa-rad": (_vqa, "/VQA_RAD Image Folder/"),
}
