"""Planted identifiers: DICOM files that name invented people, with the answer key."""

import os
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from string import Formatter

import numpy as np
import pandas as pd
from PIL import ImageFont
from pydicom.dataset import Dataset
from tqdm.auto import tqdm

from radwb.data.letters import letters
from radwb.data.shards import sample_keys
from radwb.data.table import check_table, scan_of
from radwb.simulate.files import dx_data_set, number_of, save

SURNAMES = (
    "Abernoth",
    "Brackwell",
    "Castellane",
    "Dunmorrow",
    "Eskildane",
    "Farquist",
    "Nakagiri",
    "Oduyemi",
)
GIVEN = {
    "F": ("Amarella", "Beatrisa", "Chinwela", "Dorothe", "Evgenka"),
    "M": ("Anselmo", "Bartolo", "Cuthwin", "Dmitrik", "Emekari"),
}
DOCTORS = (
    "Quillfeather",
    "Rosenquark",
    "Silvermoor",
    "Thackeridge",
    "Ulvestad",
    "Vandermolen",
    "Wexcombe",
    "Yarborow",
)
HOSPITALS = (
    ("Saint Orlane Infirmary", "14 Lantern Row, Eastmere"),
    ("Westholm General Hospital", "220 Quarry Street, Overbrook"),
    ("Clinic of the Three Rivers", "7 Ferry Lane, Tarnbridge"),
)
KINDS = {
    "name": "name",
    "doctor": "name",
    "reader": "name",
    "operator": "name",
    "mrn": "id",
    "accession": "id",
    "root": "id",
    "born": "date",
    "day": "date",
    "before": "date",
    "hospital": "place",
    "address": "place",
    "phone": "phone",
    "age": "age over 89",
}
HEADER = {
    "PatientName": "{name_dicom}",
    "PatientID": "{mrn}",
    "PatientBirthDate": "{born_dicom}",
    "OtherPatientIDs": "{mrn}",
    "OtherPatientIDsSequence[0].PatientID": "{mrn}",
    "OtherPatientIDsSequence[0].TypeOfPatientID": "TEXT",
    "ReferringPhysicianName": "{doctor}^",
    "OperatorsName": "{operator}^",
    "InstitutionName": "{hospital}",
    "InstitutionAddress": "{address}",
    "AccessionNumber": "{accession}",
    "PatientTelephoneNumbers": "{phone}",
    "StudyDate": "{day_dicom}",
    "ContentDate": "{day_dicom}",
    "StudyDescription": "Chest film for Dr {doctor}",
    "PatientComments": "{name} asks for a call at {phone}.",
    "(0011,0010)": "RADWB PLANTED",
    "(0011,1001)": "{mrn} {name}",
    "RequestAttributesSequence[0].RequestedProcedureID": "1",
    "RequestAttributesSequence[0].ScheduledProcedureStepID": "1",
    "RequestAttributesSequence[0].RequestedProcedureDescription": (
        "Film of {name}, seen on {before_dicom}"
    ),
    "StudyInstanceUID": "{root}.{uid_study}",
    "SeriesInstanceUID": "{root}.{uid_series}",
    "SOPInstanceUID": "{root}.{uid_file}",
    "file_meta.MediaStorageSOPInstanceUID": "{root}.{uid_file}",
}
LEVELS = {
    "uid_study": "StudyInstanceUID",
    "uid_series": "SeriesInstanceUID",
    "uid_file": "SOPInstanceUID",
}
FILM = ("{name_film}", "{born}", "MRN {mrn}")
FIRST = (
    "Patient: {name}, MRN {mrn}, born {born}.",
    "{name_film} ({mrn}), born {born}, examined on {day}.",
)
MIDDLE = (
    "Compared with the film of {before}, reported by Dr {reader}.",
    "Dr {reader} of {hospital} saw {before}.",
)
LAST = (
    "Dr {doctor} was told by telephone ({phone}) on {day}.",
    "Discussed with Dr {doctor}, {phone}, about {name}.",
)
OLD = ("This patient is {age} years old.",)  # above 89 an age identifies
COLUMNS = ["file", "where", "place", "kind", "value"]


def write_dicom(
    table: pd.DataFrame, out: str | os.PathLike, *, seed: int = 0
) -> pd.DataFrame:
    """Write each image of a table as a DX file; the table with the new paths.

    >>> films = write_dicom(rw.simulate.cohort(n=8), "films")

    Args:
        table, seed: as in `plant_identifiers`.
        out: the folder that gets the files and, beside them, their truth.
    """
    return plant_identifiers(table, out, share=0, seed=seed)[0]


def plant_identifiers(
    table: pd.DataFrame, out: str | os.PathLike, *, share: float = 1.0, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test your de-identification: DX files that identify invented people, and where.

    >>> films, key = plant_identifiers(rw.simulate.cohort(n=8), "films")
    >>> key["where"].unique().tolist()
    ['header', 'text', 'pixels']

    A third of the planted films has words burned in and says so, a third has them and
    says BurnedInAnnotation NO, wrongly. One patient in six is made older than 89
    (header, report and `age_years`); all of a patient's films name one person of one
    age and one hospital, from the first row that knows them.

    Args:
        table: path and patient_id; study_id, sex, age_years, site and report where
            known.
        out: the folder that gets the files.
        share: of the patients; the others' files are clean.
        seed: of the people and of where they are named.
    Returns:
        the table with new path, truth_path, report and age_years, and the answer key,
        one row an identifier: file, where ("header", "pixels", "text"), place, kind,
        value. A place in the header is a path of keywords
        ("OtherPatientIDsSequence[0].PatientID", "(0011,1001)"), in the pixels
        "row0,col0,row1,col1", the ends exclusive, in the text "start,end" in `report`.
    """
    out = Path(out)
    people = check_table(table).groupby("patient_id", as_index=False).first()
    chosen = people.sample(frac=share, random_state=seed)
    chosen = chosen.set_index("patient_id", drop=False)
    study = table["study_id" if "study_id" in table else "path"]
    visits = study.groupby(table["patient_id"]).transform(_numbered)
    rows = zip(sample_keys(table), visits, table.to_dict("records"), strict=True)
    films = []
    key = []
    bar = tqdm(rows, "writing DICOM", len(table), delay=2, leave=False)
    for n, (name, visit, row) in enumerate(bar):
        path = out / f"{name}.dcm"
        if row["patient_id"] in chosen.index:
            person = _person(chosen.loc[row["patient_id"]], int(visit), seed)
            burned = ("not", "told", "denied")[(n + seed) % 3]
            ds, scan, planted = _identifying(row, name, person, burned, seed)
            key += [(str(path), *identifier) for identifier in planted]
        else:
            scan = scan_of(row)
            ds = dx_data_set(scan, row, name, seed)
        save(ds, scan, path)
        row["path"] = str(path)
        truth_path = path.with_suffix(".truth.png")
        row["truth_path"] = str(truth_path) if scan.truth else ""
        films.append(row)
    return pd.DataFrame(films, index=table.index), pd.DataFrame(key, columns=COLUMNS)


def _numbered(studies):
    return pd.factorize(studies)[0]


def _identifying(row, name, person, burned, seed):
    """(data set, scan, [(where, place, kind, value)]); the row gets report and age."""
    rng = np.random.default_rng(number_of(seed, name))
    scan = scan_of(row)
    boxes = []
    if burned != "not":
        pixels, boxes = _burn(scan.pixels, person, rng)
        scan = replace(scan, pixels=pixels)
    row["report"], spans = _weave(row.get("report"), person, rng)
    row["age_years"] = int(person["age"])
    ds = dx_data_set(scan, row, name, seed)
    ds.BurnedInAnnotation = "YES" if burned == "told" else "NO"
    return ds, scan, [*_plant_header(ds, person), *boxes, *spans]


def _person(row, visit, seed):
    """{slot: words} that identify an invented person on the day of a visit.

    It is the same person for the same patient.
    """
    rng = np.random.default_rng(number_of(seed, row["patient_id"], "person"))
    sex = row["sex"] if row.get("sex") in GIVEN else "FM"[rng.integers(2)]
    age = _age(row.get("age_years"), rng)
    first_name = str(rng.choice(GIVEN[sex]))
    surname = str(rng.choice(SURNAMES))
    slots = _days(age, visit, rng)
    hospital, address = HOSPITALS[sum(map(ord, str(row.get("site")))) % 3]
    doctor, reader, operator = rng.choice(DOCTORS, 3, replace=False).tolist()
    return slots | {
        "hospital": hospital,
        "address": address,
        "root": f"2.25.{number_of(hospital)}",
        "doctor": doctor,
        "reader": reader,
        "operator": operator,
        "name": f"{first_name} {surname}",
        "name_dicom": f"{surname}^{first_name}",
        "name_film": f"{surname}, {first_name}",
        "mrn": str(rng.integers(10**9, 10**10)),
        "phone": f"555-01{rng.integers(100):02d}",
        "age": str(age),
        "accession": f"A{rng.integers(10**8, 10**9) + visit}",
        "age_dicom": f"{age:03d}Y",
    }


def _age(known, rng):
    """In years; one in six is above 89."""
    if rng.random() < 1 / 6:
        return int(rng.integers(91, 100))
    if pd.notna(known):
        return int(known)
    return int(rng.integers(20, 90))


def _days(age, visit, rng):
    first = date(int(rng.integers(2014, 2024)), 7, 1) + timedelta(int(rng.integers(60)))
    month = int(rng.integers(1, 7))
    days = {
        "born": date(first.year - age, month, int(rng.integers(1, 29))),
        "day": first + timedelta(30 * visit),
        "before": first + timedelta(30 * (visit - 1)),
    }
    written = str(rng.choice(["%d %B %Y", "%Y-%m-%d", "%m/%d/%Y"]))
    slots = {slot: f"{day:{written}}" for slot, day in days.items()}
    return slots | {f"{slot}_dicom": f"{day:%Y%m%d}" for slot, day in days.items()}


def _fill(template, slots):
    """Text, and (start, end, kind, value) of each slot that identifies somebody."""
    text = ""
    spans = []
    for literal, slot, _, _ in Formatter().parse(template):
        text += literal
        if slot:
            value = slots[slot]
            kind = KINDS.get(slot.split("_")[0])
            if kind:
                spans.append((len(text), len(text) + len(value), kind, value))
            text += value
    return text, spans


def _plant_header(ds, person):
    # 18 digits, as a UID has 64 at most
    uids = {slot: str(number_of(ds[k].value) % 10**18) for slot, k in LEVELS.items()}
    templates = HEADER
    if int(person["age"]) > 89:
        templates = HEADER | {"PatientAge": "{age_dicom}"}
    key = []
    for place, template in templates.items():
        text, spans = _fill(template, person | uids)
        _set_at(ds, place, text)
        key += [("header", place, kind, value) for _, _, kind, value in spans]
    ds.PatientIdentityRemoved = "NO"
    del ds.DeidentificationMethod
    return key


def _set_at(ds, place, text):
    """Write to "Keyword", "Sequence[0].Keyword", "file_meta.Keyword", "(0011,1001)"."""
    above, _, last = place.rpartition(".")
    if above == "file_meta":
        ds = ds.file_meta
    elif above:
        keyword = above.removesuffix("[0]")
        if keyword not in ds:
            setattr(ds, keyword, [Dataset()])
        ds = ds[keyword][0]
    if last.startswith("("):
        ds.add_new(int(last[1:-1].replace(",", ""), 16), "LO", text)
    else:
        setattr(ds, last, text)


def _burn(pixels, person, rng):
    """White letters with a black rim in a corner; one to three lines, a box each."""
    height, width = pixels.shape
    lines = [_fill(line, person) for line in FILM[: rng.integers(1, 4)]]
    texts = [text for text, _ in lines]
    size, longest = _fitting(texts, height, width)
    step = size + 4
    left = float(rng.integers(2) * (width - 4 - longest) + 2)
    top = float(rng.integers(2) * (height - step * len(lines)) + 1)
    boxes = []
    for n, (text, [(_, _, kind, value)]) in enumerate(lines):
        how = dict(shape=pixels.shape, at=(left, top + n * step))
        rim = letters(text, size, rim=1, **how) > 0
        white = letters(text, size, **how) / np.float32(255)
        pixels = np.where(rim, white, pixels)
        rows = np.flatnonzero(rim.any(1))
        columns = np.flatnonzero(rim.any(0))
        box = f"{rows[0]},{columns[0]},{rows[-1] + 1},{columns[-1] + 1}"
        boxes.append(("pixels", box, kind, value))
    return pixels, boxes


def _fitting(texts, height, width):
    """The largest type that the lines fit in, and the longest line's width, px."""
    for size in range(max(8, height // 24), 5, -1):
        font = ImageFont.load_default(size)
        longest = max(map(font.getlength, texts))
        if longest < width - 4:
            break
    if longest >= width - 4 or (size + 4) * len(texts) > height:
        raise ValueError(
            f"expected room for {len(texts)} lines such as {texts[0]!r}, got "
            f"{height} x {width} pixels"
        )
    return size, longest


def _weave(report, person, rng):
    """The report with sentences that identify, and ("text", place, kind, value)s.

    They stand in front, inside (one more for the very old) and behind.
    """
    if not isinstance(report, str):
        report = ""
    stops = [stop.end() for stop in re.finditer(r"\.\s+", report)] or [len(report)]
    inside = [MIDDLE, OLD] if int(person["age"]) > 89 else [MIDDLE]
    placed = sorted((int(rng.choice(stops)), templates) for templates in inside)
    text = ""
    key = []
    at = 0
    for stop, templates in [(0, FIRST), *placed, (len(report), LAST)]:
        text += report[at:stop]
        at = stop
        if text and not text[-1].isspace():
            text += " "
        sentence, spans = _fill(str(rng.choice(templates)), person)
        for start, end, kind, value in spans:
            place = f"{len(text) + start},{len(text) + end}"
            key.append(("text", place, kind, value))
        text += sentence + " "
    return text[:-1], key
