"""Planted identifiers: a cohort as DICOM files that name invented people, with the
answer key.
"""

import os
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from string import Formatter

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from tqdm.auto import tqdm

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
    "RequestAttributesSequence[0].RequestedProcedureDescription": "Film of {name}, seen on {before_dicom}",
    "StudyInstanceUID": "{root}.{uid_study}",
    "SeriesInstanceUID": "{root}.{uid_series}",
    "SOPInstanceUID": "{root}.{uid_file}",
    "file_meta.MediaStorageSOPInstanceUID": "{root}.{uid_file}",
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


def write_dicom(
    table: pd.DataFrame, out: str | os.PathLike, *, seed: int = 0
) -> pd.DataFrame:
    """Write each image of a table as a DX file in `out`; return the table with their
    `path` and `truth_path`.

    >>> films = write_dicom(rw.simulate.cohort(n=8), "films")
    """
    return plant_identifiers(table, out, share=0, seed=seed)[0]


def plant_identifiers(
    table: pd.DataFrame, out: str | os.PathLike, *, share: float = 1.0, seed: int = 0
) -> tuple:
    """Write a cohort as DX files that identify invented people, and say where: a test
    for de-identification.

    >>> films, key = plant_identifiers(rw.simulate.cohort(n=8), "films")
    >>> key[key["where"] == "pixels"].place          # "row0,col0,row1,col1", the ends exclusive

    A third of the planted films has words burned in and says so, a third has them and
    says BurnedInAnnotation NO, wrongly. One patient in six is made older than 89
    (header, report and `age_years`); all of a patient's films name one person of one
    age and one hospital, from the first row that knows them.

    Args:
        table: path and patient_id; study_id, sex, age_years, site and report where
            known.
        share: of the patients; the others' files are clean.
    Returns:
        the table with new path, truth_path, report and age_years, and the answer key,
        one row an identifier: file, where ("header", "pixels", "text"), place, kind,
        value. A place in the header is a path of keywords
        ("OtherPatientIDsSequence[0].PatientID", "(0011,1001)"), in the text "start,end"
        in `report`.
    """
    people, out, key, new = (
        check_table(table).groupby("patient_id", as_index=False).first(),
        Path(out),
        [],
        [],
    )
    chosen = people.sample(frac=share, random_state=seed).set_index(
        "patient_id", drop=False
    )
    study = table["study_id" if "study_id" in table else "path"]
    visits = study.groupby(table["patient_id"]).transform(lambda s: pd.factorize(s)[0])
    rows = zip(sample_keys(table), visits, table.to_dict("records"), strict=True)
    for n, (name, visit, row) in enumerate(
        tqdm(rows, "writing DICOM", len(table), delay=2, leave=False)
    ):
        scan, path, found = scan_of(row), out / f"{name}.dcm", []
        if planted := row["patient_id"] in chosen.index:
            who = _person(chosen.loc[row["patient_id"]], int(visit), seed)
            rng = np.random.default_rng(number_of(seed, name))
            burned = ("not", "told", "denied")[(n + seed) % 3]
            pixels, boxes = (
                (scan.pixels, []) if burned == "not" else _burn(scan.pixels, who, rng)
            )
            scan = replace(scan, pixels=pixels)
            row["report"], found = _weave(row.get("report"), who, rng)
            row["age_years"] = int(who["age"])
        ds = dx_data_set(scan, row, name, seed)
        if planted:
            ds.BurnedInAnnotation = "YES" if burned == "told" else "NO"
            found = [*_plant_header(ds, who), *boxes, *found]
        save(ds, scan, path)
        key += [(str(path), *identifier) for identifier in found]
        new.append(
            {
                **row,
                "path": str(path),
                "truth_path": str(path.with_suffix(".truth.png")) if scan.truth else "",
            }
        )
    return pd.DataFrame(new, index=table.index), pd.DataFrame(
        key, columns=["file", "where", "place", "kind", "value"]
    )


def _person(row, visit, seed):
    """slot -> words that identify an invented person on the day of a visit; the same
    person for the same patient.
    """
    rng = np.random.default_rng(number_of(seed, row["patient_id"], "person"))
    sex, old = (
        row["sex"] if row.get("sex") in GIVEN else "FM"[rng.integers(2)],
        rng.random() < 1 / 6,
    )
    age = (
        rng.integers(91, 100)
        if old
        else row["age_years"]
        if pd.notna(row.get("age_years"))
        else rng.integers(20, 90)
    )
    age, given, surname = (
        int(age),
        str(rng.choice(GIVEN[sex])),
        str(rng.choice(SURNAMES)),
    )
    first = date(int(rng.integers(2014, 2024)), 7, 1) + timedelta(int(rng.integers(60)))
    days = {
        "born": date(
            first.year - age, int(rng.integers(1, 7)), int(rng.integers(1, 29))
        ),
        "day": first + timedelta(30 * visit),
        "before": first + timedelta(30 * (visit - 1)),
    }
    written = str(rng.choice(["%d %B %Y", "%Y-%m-%d", "%m/%d/%Y"]))
    hospital, address = HOSPITALS[sum(map(ord, str(row.get("site")))) % 3]
    who = {
        "hospital": hospital,
        "address": address,
        "root": f"2.25.{number_of(hospital)}",
    }
    who |= dict(
        zip(
            ("doctor", "reader", "operator"),
            map(str, rng.choice(DOCTORS, 3, replace=False)),
            strict=True,
        )
    )
    who |= {k: f"{d:{written}}" for k, d in days.items()} | {
        f"{k}_dicom": f"{d:%Y%m%d}" for k, d in days.items()
    }
    return who | {
        "name": f"{given} {surname}",
        "name_dicom": f"{surname}^{given}",
        "name_film": f"{surname}, {given}",
        "mrn": str(rng.integers(10**9, 10**10)),
        "phone": f"555-01{rng.integers(100):02d}",
        "age": str(age),
        "accession": f"A{rng.integers(10**8, 10**9) + visit}",
        "age_dicom": f"{age:03d}Y",
    }


def _fill(template, slots):
    """Text, and (start, end, kind, value) of each slot that identifies somebody."""
    text, spans = "", []
    for literal, slot, _, _ in Formatter().parse(template):
        text, value = text + literal, slots[slot] if slot else ""
        if slot and slot.split("_")[0] in KINDS:
            spans.append(
                (len(text), len(text) + len(value), KINDS[slot.split("_")[0]], value)
            )
        text += value
    return text, spans


def _plant_header(ds, who):
    levels = {
        "uid_study": "StudyInstanceUID",
        "uid_series": "SeriesInstanceUID",
        "uid_file": "SOPInstanceUID",
    }
    key, uids = (
        [],
        {
            slot: str(number_of(ds[level].value) % 10**18)
            for slot, level in levels.items()
        },
    )  # 64 at most
    for place, template in (
        HEADER | ({"PatientAge": "{age_dicom}"} if int(who["age"]) > 89 else {})
    ).items():
        text, spans = _fill(template, who | uids)
        item, (*above, last) = ds, place.split(".")
        if above == ["file_meta"]:
            item = ds.file_meta
        elif above:
            keyword = above[0].removesuffix("[0]")
            if keyword not in ds:
                setattr(ds, keyword, [Dataset()])
            item = ds[keyword][0]
        if last.startswith("("):
            item.add_new(int(last[1:-1].replace(",", ""), 16), "LO", text)
        else:
            setattr(item, last, text)
        key += [("header", place, kind, value) for _, _, kind, value in spans]
    ds.PatientIdentityRemoved = "NO"
    del ds.DeidentificationMethod
    return key


def _burn(pixels, who, rng):
    """White letters with a black rim in a corner; one to three lines, a box each."""
    pixels, boxes, (height, width) = pixels.copy(), [], pixels.shape
    lines = [_fill(line, who) for line in FILM[: rng.integers(1, 4)]]
    fonts = [
        ImageFont.load_default(size) for size in range(max(8, height // 24), 5, -1)
    ]
    fonts = [
        f
        for f in fonts
        if f.getlength(max((t for t, _ in lines), key=f.getlength)) < width - 4
    ]
    if not fonts or (fonts[0].size + 4) * len(lines) > height:
        raise ValueError(
            f"expected room for {len(lines)} lines such as {lines[0][0]!r}, got {height} x {width} pixels"
        )
    step = fonts[0].size + 4
    left = float(
        rng.integers(2) * (width - 4 - max(fonts[0].getlength(t) for t, _ in lines)) + 2
    )
    top = float(rng.integers(2) * (height - step * len(lines)) + 1)
    for n, (text, [(_, _, kind, value)]) in enumerate(lines):
        rim, letters = (Image.new("L", (width, height)) for _ in range(2))
        for canvas, stroke in ((rim, 1), (letters, 0)):
            ImageDraw.Draw(canvas).text(
                (left, top + n * step), text, 255, fonts[0], stroke_width=stroke
            )
        rows, columns = (np.flatnonzero(np.asarray(rim).any(axis)) for axis in (1, 0))
        pixels = np.where(
            np.asarray(rim) > 0, np.asarray(letters) / np.float32(255), pixels
        )
        boxes.append(
            (
                "pixels",
                f"{rows[0]},{columns[0]},{rows[-1] + 1},{columns[-1] + 1}",
                kind,
                value,
            )
        )
    return pixels, boxes


def _weave(report, who, rng):
    """The report with sentences that identify: in front, inside (one more for the very
    old) and behind.
    """
    report = report if isinstance(report, str) else ""
    stops = [m.end() for m in re.finditer(r"\.\s+", report)] or [len(report)]
    inside = [
        MIDDLE,
        *([("This patient is {age} years old.",)] if int(who["age"]) > 89 else []),
    ]
    added = [
        (0, FIRST),
        *sorted((int(rng.choice(stops)), t) for t in inside),
        (len(report), LAST),
    ]
    text, key, at = "", [], 0
    for stop, templates in added:
        text, at = text + report[at:stop], stop
        text += " " if text and not text[-1].isspace() else ""
        sentence, spans = _fill(str(rng.choice(templates)), who)
        key += [
            ("text", f"{len(text) + a},{len(text) + b}", kind, value)
            for a, b, kind, value in spans
        ]
        text += sentence + " "
    return text[:-1], key
