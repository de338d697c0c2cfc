"""Real image sets as tables, and the real Open-i reports. Labels get a CheXpert name
only where that's honest.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from radwb.data.fetch import cache_folder, fetch
from radwb.data.private import private_folder
from radwb.data.read import write_truth
from radwb.data.table import COLUMNS, check_table, findings_of
from radwb.findings.parents import with_parent_masks, with_parents
from radwb.identifiers import identifiers

SAME_IN_NIH = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pneumonia",
    "Pneumothorax",
    "No Finding",
)
REAL = ("kermany-16", "kermany", "nih-64", "hannover", "covid-masks", "covid-text")


def real(name: str) -> pd.DataFrame:
    """A real set of radiographs as a table with the workbench's schema; further columns
    of its own are kept.

    >>> rw.data.real("kermany-16")[["patient_id", "view", "Pneumonia"]]

    Labels: NIH's Effusion is Pleural Effusion, its Nodule or Mass a Lung Lesion, its
    Pleural_Thickening Pleural Other; Infiltration, Emphysema, Fibrosis and Hernia have
    no CheXpert name and stay as they are. Lung Opacity is CheXpert's parent label
    (`radwb.findings.FINDINGS`): in NIH 1 where any of its children is, else -1
    (uncertain) with an Infiltration and 0 without; in covid-masks 1 with ground glass
    or a consolidation. Kermany's Pneumonia would be it again, and has no column for it.
    Hannover and covid-text have a diagnosis (column `diagnosis`), no findings. In
    covid-masks a drawn mask is a 1; what isn't drawn is NaN. covid-text has
    machine-made masks of the lungs (`truth["lungs"]`) and Brixia grades (`brixia_A` to
    `brixia_F`).

    Args:
        name: one of kermany-16, kermany, nih-64, hannover, covid-masks, covid-text.
    Raises:
        FetchError: the set is in no mirror. ValueError: the name isn't an image set.
    """
    if name not in REAL:
        raise ValueError(
            f"expected one of {', '.join(REAL)}; got {name!r}. Try rw.data.fetch(name) for its files."
        )
    folder = fetch(name)
    table = (
        _kermany_16(folder) if name == "kermany-16" else _from_metadata(name, folder)
    )
    for column in COLUMNS:
        if column not in table:
            table[column] = np.nan if column in ("age_years", "split") else None
    order = [*COLUMNS, *findings_of(table)]
    return check_table(table[[*order, *(c for c in table.columns if c not in order)]])


def _kermany_16(folder: Path) -> pd.DataFrame:
    paths = sorted(folder.glob("*.jpeg"))
    sick = [int(p.name.startswith("person")) for p in paths]
    people = ["kermany-" + p.stem.split("_")[0].removesuffix("-0001") for p in paths]
    table = pd.DataFrame(
        {
            "path": map(str, paths),
            "patient_id": people,
            "study_id": [p.stem for p in paths],
        }
    )
    about = {
        "view": "AP",
        "site": "Guangzhou",
        "Pneumonia": sick,
        "No Finding": [1 - s for s in sick],
    }
    return table.assign(**about)


def _from_metadata(name: str, folder: Path) -> pd.DataFrame:
    """Read metadata.csv and give its columns the workbench's names."""
    raw = pd.read_csv(folder / "metadata.csv", low_memory=False)
    if name == "covid-text":
        raw = raw[raw["modality"] == "X-ray"].reset_index(drop=True)
    paths = [str(folder / image) for image in raw["image"]]
    table = pd.DataFrame({"path": paths, "patient_id": identifiers(raw["patient_id"])})
    table["study_id"] = [Path(image).stem for image in raw["image"]]
    views = {"PA": "PA", "AP": "AP", "AP Supine": "AP", "L": "LATERAL"}
    table["view"] = raw["view"].map(views)
    table["site"] = {
        "nih-64": "NIH",
        "hannover": "Hannover",
        "kermany": "Guangzhou",
    }.get(name, "public cases")
    table["sex"] = raw["sex"].str.upper() if "sex" in raw else None
    table["age_years"] = (
        pd.to_numeric(raw["age"], errors="coerce") if "age" in raw else np.nan
    )
    table["report"] = raw.get("text")
    table = pd.concat([table, _labels(name, raw)], axis=1)
    if name in TRUTH:
        table["truth_path"] = _truth_files(name, raw, folder)
    return pd.concat(
        [table, raw.drop(columns=[c for c in raw if c in table], errors="ignore")],
        axis=1,
    )


def _labels(name: str, raw: pd.DataFrame) -> pd.DataFrame:
    if name == "nih-64":
        lesion, effusion, pleura = (
            raw[["Nodule", "Mass"]].max(axis=1),
            raw["Effusion"],
            raw["Pleural_Thickening"],
        )
        labels = raw[[*SAME_IN_NIH]].assign(
            **{
                "Lung Lesion": lesion,
                "Pleural Effusion": effusion,
                "Pleural Other": pleura,
            },
            **{"Lung Opacity": -(raw["Infiltration"] == 1).astype(int)},
        )
        return with_parents(labels)
    if name == "kermany":
        normal = (raw["finding"] == "normal").astype(int)
        return pd.DataFrame(
            {"Pneumonia": 1 - normal, "No Finding": normal, "diagnosis": raw["finding"]}
        )
    if name == "covid-masks":
        drawn = {
            "Lung Opacity": raw["mask_ground_glass_opacities"].notna(),
            "Consolidation": raw["mask_consolidation"].notna(),
            "Pleural Effusion": raw["mask_pleural_effusion"].notna(),
            "Pneumothorax": raw["mask_pneumothorax"].notna(),
        }
        labels = pd.DataFrame(
            {finding: np.where(there, 1.0, np.nan) for finding, there in drawn.items()}
        )
        return with_parents(labels)
    return pd.DataFrame({"diagnosis": raw["finding"]})


TRUTH = {
    "covid-masks": {
        "Lung Opacity": ("mask_ground_glass_opacities",),
        "Consolidation": ("mask_consolidation",),
        "Pleural Effusion": ("mask_pleural_effusion",),
        "Pneumothorax": ("mask_pneumothorax",),
        "lungs": ("mask_left_lung", "mask_right_lung"),
    },
    "covid-text": {"lungs": ("lung_mask",)},
    # set -> name in a Scan's truth -> the columns of masks whose union it is; a parent's
    # children are added to it
}


def _truth_files(name: str, raw: pd.DataFrame, folder: Path) -> list[str | None]:
    """Write one bitmask PNG an image into the cache, the union of its masks a name;
    None where there's no mask.
    """
    paths = []
    for row in raw.to_dict("records"):
        truth = {}
        for finding, columns in TRUTH[name].items():
            drawn = [folder / row[c] for c in columns if isinstance(row.get(c), str)]
            if drawn:
                truth[finding] = np.any(
                    [np.asarray(Image.open(d).convert("L")) > 0 for d in drawn], axis=0
                )
        path = (
            cache_folder() / "derived" / name / (Path(row["image"]).stem + ".truth.png")
        )
        private_folder(path.parent)
        if truth:
            write_truth(with_parent_masks(truth), path)
        paths.append(str(path) if truth else None)
    return paths


def reports(folder: str | Path) -> pd.DataFrame:
    """The Open-i XML files of a folder as a table, one row a report.

    >>> rw.data.reports(rw.data.fetch("openi-reports"))

    Returns:
        report_id, indication, comparison, findings, impression (as written, "" when
        empty), `report` (all of them under headings, as a hospital's system would send
        it), mesh (the experts' codes, "|" between), n_images.
    """
    paths = sorted(Path(folder).glob("*.xml"), key=lambda p: (len(p.stem), p.stem))
    if not paths:
        raise ValueError(
            f"expected Open-i XML files in {folder}, got none. Try rw.data.fetch('openi-reports')."
        )
    return pd.DataFrame(
        [_report(path) for path in tqdm(paths, "reading reports", delay=2, leave=False)]
    )


def _report(path: Path) -> dict:
    root = ElementTree.parse(path).getroot()
    parts = {
        t.get("Label", "").lower(): " ".join((t.text or "").split())
        for t in root.iter("AbstractText")
    }
    names = ("indication", "comparison", "findings", "impression")
    return {
        "report_id": root.find("uId").get("id"),
        **{name: parts.get(name, "") for name in names},
        "report": "\n".join(
            f"{name.upper()}: {parts[name]}" for name in names if parts.get(name)
        ),
        "mesh": "|".join((m.text or "").strip() for m in root.iter("major")),
        "n_images": sum(1 for _ in root.iter("parentImage")),
    }
