"""Real image sets as tables, and the real Open-i reports.

Labels get a CheXpert name only where that's honest.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from radwb.data.fetch import CATALOG, archives_mb, cache_folder, fetch
from radwb.data.private import private_folder
from radwb.data.read import write_truth
from radwb.data.table import COLUMNS, FINDINGS, check_table, findings_of
from radwb.findings.parents import with_parent_masks, with_parents
from radwb.identifiers import identifiers

UNASKED_MB = 100  # a table begins no larger download: `fetch` is asked for that
SETS = [name for name, entry in CATALOG.items() if "site" in entry]
VIEWS = {"PA": "PA", "AP": "AP", "AP Supine": "AP", "L": "LATERAL"}
SAME_IN_NIH = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pneumonia",
    "Pneumothorax",
    "No Finding",
)


def real(name: str) -> pd.DataFrame:
    """A real set of radiographs as a table with the workbench's schema.

    Further columns of its own are kept.

    >>> real("kermany-16")[["patient_id", "view", "Pneumonia"]].shape
    (16, 3)

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
        name: one of kermany-16, kermany, kermany-more, nih-64, hannover, covid-masks,
            covid-text.
    Raises:
        FetchError: the set is in no mirror; or (kermany, kermany-more, covid-text)
            more than 100 MB
            would have to come for it, which `fetch(name)` does.
        ValueError: the name isn't an image set.
    """
    if name not in SETS:
        raise ValueError(
            f"expected one of {', '.join(SETS)}; got {name!r}. Try rw.data.fetch(name) "
            "for its files."
        )
    large = archives_mb(name) > UNASKED_MB
    folder = fetch(name, offline=large or None)
    make = _kermany_16 if name == "kermany-16" else _from_metadata
    table = make(folder, name).assign(site=CATALOG[name]["site"])
    for column in COLUMNS:
        if column not in table:
            table[column] = np.nan if column in ("age_years", "split") else None
    first = [*COLUMNS, *findings_of(table)]
    others = table.columns.difference(first, sort=False)
    return check_table(table[[*first, *others]])


def _kermany_16(folder, name):
    """It has no metadata.csv; names of files say all that is known."""
    paths = sorted(folder.glob("*.jpeg"))
    stems = [path.stem for path in paths]
    people = ["kermany-" + s.split("_")[0].removesuffix("-0001") for s in stems]
    sick = pd.Series(stems).str.startswith("person").astype(int)
    table = pd.DataFrame({"path": map(str, paths), "patient_id": people})
    labels = {"Pneumonia": sick, "No Finding": 1 - sick}
    return table.assign(study_id=stems, view="AP", **labels)


def _from_metadata(folder, name):
    """metadata.csv under the workbench's names of columns."""
    kinds = {"patient_id": str}  # no zero is lost
    raw = pd.read_csv(folder / "metadata.csv", dtype=kinds, low_memory=False)
    if name == "covid-text":
        raw = raw[raw["modality"] == "X-ray"].reset_index(drop=True)
    unknown = pd.Series(None, raw.index, dtype=object)
    table = pd.DataFrame(
        {
            "path": [str(folder / image) for image in raw["image"]],
            "patient_id": identifiers(raw["patient_id"]),
            "study_id": [Path(image).stem for image in raw["image"]],
            "view": raw["view"].map(VIEWS),
            "sex": raw.get("sex", unknown).str.upper(),
            "age_years": pd.to_numeric(raw.get("age", unknown), errors="coerce"),
            "report": raw.get("text"),
        }
    )
    labels = LABELS.get(name, _diagnosis)(raw)
    table = pd.concat([table, labels], axis=1)
    if "truth" in CATALOG[name]:
        table["truth_path"] = _truth_files(name, raw, folder)
    return pd.concat([table, raw.drop(columns=table, errors="ignore")], axis=1)


def _diagnosis(raw):
    return raw.filter(["finding"]).rename(columns={"finding": "diagnosis"})


def _nih(raw):
    labels = raw[[*SAME_IN_NIH]].copy()
    labels["Lung Lesion"] = raw[["Nodule", "Mass"]].max(axis=1)
    labels["Pleural Effusion"] = raw["Effusion"]
    labels["Pleural Other"] = raw["Pleural_Thickening"]
    labels["Lung Opacity"] = -(raw["Infiltration"] == 1).astype(int)
    return with_parents(labels)


def _kermany(raw):
    normal = (raw["finding"] == "normal").astype(int)
    labels = {"Pneumonia": 1 - normal, "No Finding": normal}
    return _diagnosis(raw).assign(**labels)


def _covid_masks(raw):
    """A mask that is drawn is a 1; what isn't drawn isn't known."""
    labels = pd.DataFrame(index=raw.index)
    for finding, columns in CATALOG["covid-masks"]["truth"].items():
        if finding in FINDINGS:
            labels[finding] = raw[columns].notna().any(axis=1).map({True: 1.0})
    return with_parents(labels)


# set -> what makes its labels from metadata.csv, where they have other names there
LABELS = {
    "nih-64": _nih,
    "kermany": _kermany,
    "kermany-more": _kermany,
    "covid-masks": _covid_masks,
}


def _truth_files(name, raw, folder):
    """Write one bitmask PNG an image into the cache; None where there's no mask."""
    out = private_folder(cache_folder() / "derived" / name)
    paths = []
    for row in raw.to_dict("records"):
        truth = {}
        for finding, columns in CATALOG[name]["truth"].items():
            files = [folder / row[c] for c in columns if isinstance(row.get(c), str)]
            if files:
                truth[finding] = np.any([_mask(file) for file in files], axis=0)
        path = None
        if truth:
            path = out / f"{Path(row['image']).stem}.truth.png"
            write_truth(with_parent_masks(truth), path)
        paths.append(path and str(path))
    return paths


def _mask(file):
    return np.asarray(Image.open(file).convert("L")) > 0


def reports(folder: str | Path) -> pd.DataFrame:
    """The Open-i XML files of a folder as a table, one row a report.

    >>> xml = "<a><uId id='CXR1'/><major>normal</major></a>"
    >>> _ = Path("1.xml").write_text(xml)
    >>> reports(".")[["report_id", "mesh"]].iloc[0].tolist()
    ['CXR1', 'normal']

    Args:
        folder: as `fetch("openi-reports")` gives it.
    Returns:
        report_id, indication, comparison, findings, impression (as written, "" when
        empty), `report` (all of them under headings, as a hospital's system would send
        it), mesh (the experts' codes, "|" between), n_images.
    """
    paths = sorted(Path(folder).glob("*.xml"), key=lambda p: (len(p.stem), p.stem))
    if not paths:
        raise ValueError(
            f"expected Open-i XML files in {folder}, got none. Try "
            "rw.data.fetch('openi-reports')."
        )
    bar = tqdm(paths, "reading reports", delay=2, leave=False)
    return pd.DataFrame([_report(path) for path in bar])


def _report(path):
    root = ElementTree.parse(path).getroot()
    parts = dict.fromkeys(("indication", "comparison", "findings", "impression"), "")
    for text in root.iter("AbstractText"):
        name = text.get("Label", "").lower()
        if name in parts:
            parts[name] = " ".join((text.text or "").split())
    written = [f"{name.upper()}: {text}" for name, text in parts.items() if text]
    return {
        "report_id": root.find("uId").get("id"),
        **parts,
        "report": "\n".join(written),
        "mesh": "|".join((code.text or "").strip() for code in root.iter("major")),
        "n_images": len(list(root.iter("parentImage"))),
    }
