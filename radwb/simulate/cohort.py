"""A cohort of virtual patients: one row an image, one PNG and one truth mask a row, cached by content."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from radwb.data import Scan, cache_folder, write_png
from radwb.simulate import display
from radwb.simulate.anatomy import FIELD_MM, default_anatomy
from radwb.simulate.findings import PLANTED, Finding, Lungs, place_lesion, plant
from radwb.simulate.project import Body, line_integral, sample
from radwb.simulate.words import report

SPLIT = {"train": 0.7, "val": 0.1, "test": 0.2}  # by patient
PREVALENCE = {"Cardiomegaly": 0.25, "Lung Lesion": 0.33, "Pneumothorax": 0.30, "Pleural Effusion": 0.30}


def render(findings=(), *, body=None, view="PA", site="A", size=160, visibility=1.0, seed=0, anatomy=None):
    """Make one virtual radiograph.

    >>> rw.simulate.render([rw.simulate.Finding("Pneumothorax", 0.5, "left")]).truth["Pneumothorax"].sum()

    Args:
        findings: `Finding`s to plant.
        body: `Body`, the patient; a `Finding("Cardiomegaly", ...)` enlarges its heart.
        view: "PA", "AP" or "LATERAL".
        site: "A", "B" or "C", whose processing and marker the film gets.
        size: rows and columns.
        visibility: factor on the signal of fluid, air and masses; 0 hides them, the truth mask stays empty.
        seed: of noise and placement.
        anatomy: an `Anatomy`; default the public chest CT.
    Returns:
        Scan with truth masks; spacing in mm at the middle of the patient.
    """
    anatomy = anatomy or default_anatomy(FIELD_MM / size)
    body = _with_heart(body or Body(), findings)
    rays = sample(anatomy, body, view, size)
    rng = np.random.default_rng(seed)
    return _film(rays, Lungs(rays, anatomy), findings, body, view, site, rng, visibility)


def _with_heart(body, findings):
    large = [f.severity for f in findings if f.name == "Cardiomegaly"]
    return Body(**{**vars(body), "heart": 1.3 + 0.35 * max(large)}) if large else body


def _film(rays, lungs, findings, body, view, site, rng, visibility=1.0):
    """Plant, place, expose, develop and stamp one film of a sampled patient."""
    change, truth = plant(rays, lungs.anatomy, findings, visibility=visibility, lungs=lungs)
    placed = dict(degrees=rng.normal(0, 1.5), zoom=rng.uniform(1.03, 1.13),
                  offset=rng.normal(0, 0.015, 2) * rays.step_mm.shape[0])
    signal = display.shift((line_integral(rays, body.bone) + change).numpy(), **placed)
    truth = {k: display.shift(v.astype(np.float32), mode="constant", **placed) > 0.5 for k, v in truth.items()}
    how = display.SITES[site]
    pixels = display.stamp(display.develop(display.expose(signal, how, rng), how), how)
    spacing = rays.pixel_mm / placed["zoom"]
    return Scan(pixels, spacing_mm=(spacing, spacing), view=view, modality="DX", source="radwb simulator", truth=truth)


def _patient(rng):
    """Draw one virtual patient: site, sex, age and a body. Reports never mention sex or age."""
    site, sex, age = str(rng.choice(list(display.SITES))), str(rng.choice(["F", "M"])), int(rng.integers(20, 90))
    small = 0.94 if sex == "F" else 1.02
    build = rng.normal(0, 0.05)
    scale = (small * (1 + build) * rng.normal(1, 0.02), small * (1 + 1.5 * build) * rng.normal(1, 0.03),
             small * rng.normal(1, 0.035))
    body = Body(scale=tuple(float(s) for s in np.clip(scale, 0.82, 1.15)), heart=float(rng.uniform(0.92, 1.10)),
                inspiration_mm=float(rng.normal(0, 12)), yaw_deg=float(rng.normal(0, 3)),
                tilt_deg=float(rng.normal(0, 3)), roll_deg=float(rng.normal(0, 1.5)),
                bone=float(1.25 - 0.006 * age), wobble=rng.normal(0, 5, (3, 4, 4, 4)).astype(np.float32))
    return site, sex, age, body


def _draw_findings(rng, anatomy, lasting):
    """Findings of one study; heart and lesion last from study to study, fluid and air come and go."""
    findings = list(lasting)
    for name in ("Pleural Effusion", "Pneumothorax"):
        if rng.random() < PREVALENCE[name]:
            both = name == "Pleural Effusion" and rng.random() < 0.2
            sides = ("right", "left") if both else (str(rng.choice(["right", "left"])),)
            findings += [Finding(name, float(rng.random()), side) for side in sides]
    return findings


def _draw_lasting(rng, anatomy):
    lasting = []
    if rng.random() < PREVALENCE["Cardiomegaly"]:
        lasting.append(Finding("Cardiomegaly", float(rng.random())))
    if rng.random() < PREVALENCE["Lung Lesion"]:
        lasting.append(place_lesion(anatomy, float(rng.random()), rng))
    return lasting


def _make_patient(number, *, seed, size, visibility, anatomy, folder):
    """Write one patient's films and return their rows; depends on nothing but (seed, number)."""
    rng = np.random.default_rng([seed, number])
    site, sex, age, body = _patient(rng)
    lasting, rows, before = _draw_lasting(rng, anatomy), [], None
    split = str(rng.choice(list(SPLIT), p=list(SPLIT.values())))
    view = "AP" if rng.random() < display.SITES[site].portable else "PA"
    body = _with_heart(body, lasting)
    rays = sample(anatomy, body, view, size)
    lungs, patient_id = Lungs(rays, anatomy), f"V{seed}-{number:06d}"
    for study in range(1, 1 + int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))):
        findings = _draw_findings(rng, anatomy, lasting)
        scan = _film(rays, lungs, findings, body, view, site, rng, visibility)
        path = folder / f"{number:06d}_{study}.png"
        write_png(scan, path)
        present = {f.name: f for f in findings}
        rows.append({"path": path.name, "patient_id": patient_id, "study_id": f"{patient_id}-{study}",
                     "view": view, "site": site, "sex": sex, "age_years": age,
                     "report": report(findings, rng, before=before), "split": split,
                     **{name: int(name in present) for name in PLANTED},
                     **{f"{name} severity": round(present[name].severity, 3) if name in present else np.nan
                        for name in PLANTED},
                     **{f"{name} side": _sides(findings, name) for name in PLANTED if name != "Cardiomegaly"}})
        before = findings
    return rows


def _sides(findings, name):
    sides = sorted({f.side for f in findings if f.name == name})
    return "both" if len(sides) == 2 else "".join(sides)


@contextmanager
def _one_thread_each():
    """Torch's own threads off while patients run side by side; the setting is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fingerprint(**settings):
    """Key of a cohort: its settings and the simulator's own source, so a changed simulator is a new cohort."""
    source = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + source).hexdigest()[:16]


def cohort(n=2000, *, seed=0, size=160, visibility=1.0, workers=None, anatomy=None):
    """Simulate `n` radiographs of virtual patients with one to three studies each; made once, then read from the cache.

    >>> table = rw.simulate.cohort(n=12, seed=0)

    Args:
        n: images; the last patient's studies are cut to fit.
        seed: the same seed gives the same images and words, whatever `workers` is.
        size: rows and columns.
        visibility: factor on the signal of fluid, air and masses.
        workers: threads; default one a core.
        anatomy: another CT's `Anatomy` (then nothing is cached: the folder is made anew).
    Returns:
        table: the schema of design.md, `split` by patient, and what was planted: severity and side.
    """
    if n < 1:
        raise ValueError(f"expected n of at least 1 image, got {n}")
    key = _fingerprint(n=n, seed=seed, size=size, visibility=visibility, own=anatomy is not None)
    folder = cache_folder() / "cohorts" / key
    if anatomy is not None or not (folder / "table.csv").exists():
        anatomy = anatomy or default_anatomy(FIELD_MM / size)
        _simulate(folder, n, seed, size, visibility, workers or os.cpu_count(), anatomy)
    table = pd.read_csv(folder / "table.csv", dtype={"patient_id": str, "study_id": str}, keep_default_na=True)
    table["path"] = [str(folder / p) for p in table["path"]]
    table.loc[:, table.columns.str.endswith(" side")] = table.filter(like=" side").fillna("")
    return table


def _simulate(folder, n, seed, size, visibility, workers, anatomy):
    """Fill `folder` beside its final place and move it there, so that a killed run leaves no half cohort."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    make = partial(_make_patient, seed=seed, size=size, visibility=visibility, anatomy=anatomy, folder=temporary)
    rows, number = [], 0
    with _one_thread_each(), ThreadPoolExecutor(workers) as pool, tqdm(total=n, desc="virtual radiographs", unit="img",
                                                                      disable=n < 30) as bar:
        while len(rows) < n:
            batch = range(number, number + max(1, min(64, (n - len(rows)) // 2)))
            for made in pool.map(make, batch):
                rows += made
                bar.update(min(len(made), n - bar.n))
            number = batch.stop
    for row in rows[n:]:
        (temporary / row["path"]).unlink()
        (temporary / row["path"]).with_suffix(".truth.png").unlink(missing_ok=True)
    pd.DataFrame(rows[:n]).to_csv(temporary / "table.csv", index=False)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
