"""A cohort of virtual patients: one row an image, one PNG and one truth mask a row."""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, count, islice

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from radwb.data.fetch import cache_folder
from radwb.data.private import private_folder
from radwb.data.read import write_png
from radwb.data.scan import Scan
from radwb.findings import FINDINGS
from radwb.findings.parents import with_children, with_parents
from radwb.simulate import anatomy as ct
from radwb.simulate.anatomy import FIELD_MM, Anatomy, default_anatomy
from radwb.simulate.builds import draw_built
from radwb.simulate.copies import COPIES, copies
from radwb.simulate.display import SITES
from radwb.simulate.film import film
from radwb.simulate.findings import PLANTED, shaped
from radwb.simulate.looks import drawn
from radwb.simulate.mechanisms import Lungs
from radwb.simulate.patient import (
    Dials,
    draw_lasting,
    draw_split,
    draw_study,
)
from radwb.simulate.plant import plant
from radwb.simulate.project import sample
from radwb.simulate.ratios import anatomy_ratios
from radwb.simulate.words import STYLES, report_and_key

VERSION = 4  # raise it with any change of a film or a word: cohorts are kept by it


@dataclass(frozen=True, eq=False)
class Settings:
    """What makes each patient of a cohort, but for the patient's number."""

    seed: int
    size: int
    visibility: float
    dials: Dials
    anatomy: Anatomy


def stream(
    n: int,
    *,
    seed: int = 0,
    size: int = 160,
    visibility: float = 1.0,
    dials: Dials | None = None,
    workers: int | None = None,
    anatomy: Anatomy | None = None,
) -> Iterator[tuple[Scan, dict]]:
    """Films to train on without a disk: one after another, nothing written or kept.

    >>> for scan, row in rw.simulate.stream(2, seed=1, size=64):
    ...     print(scan.pixels.shape, row["path"])
    (64, 64) 000000_1
    (64, 64) 000000_2

    Args:
        n: films, any number in the same memory.
        seed, size, visibility, dials, workers, anatomy: as in `cohort`; the same seed
            gives the same films.
    Yields:
        (Scan with truth masks, row as a dict; its `path` is the film's name).
    """
    dials = dials or Dials()
    anatomy = anatomy or default_anatomy(FIELD_MM / size)
    settings = Settings(seed, size, visibility, dials, anatomy)
    patients = _in_order(partial(_make_patient, settings), workers)
    try:
        yield from islice(chain.from_iterable(patients), n)
    finally:
        patients.close()


def cohort(
    n: int = 2000,
    *,
    seed: int = 0,
    size: int = 160,
    visibility: float = 1.0,
    dials: Dials | None = None,
    workers: int | None = None,
    anatomy: Anatomy | None = None,
) -> pd.DataFrame:
    """Simulate `n` radiographs of virtual patients with one to three studies each.

    They are made once, then read from the cache.

    >>> table = rw.simulate.cohort(n=12, seed=0)

    Args:
        n: images; the last patient's studies are cut to fit.
        seed: the same seed gives the same images and words, whatever `workers` is.
        size: rows and columns.
        visibility: factor on the signal of all findings but the heart.
        dials: `Dials`: prevalence, confounders, noise in labels and words, duplicates.
        workers: threads; default one a core.
        anatomy: another CT's `Anatomy`; its `digest` is part of the cohort's key.
    Returns:
        table: the workbench's columns, `split` by patient; and what was planted:
        severity, side and contrast to noise of each finding, all of it as JSON in
        `planted`; cardiothoracic ratio and lung area of the patient. The label and the
        truth mask of Lung Opacity are CheXpert's parent's: a hazy patch, or a lesion,
        edema, consolidation or atelectasis (`radwb.findings.FINDINGS`); its severity,
        side and contrast are the patch's, NaN where there is none.
    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"expected n of at least 1 image, got {n}")
    dials = dials or Dials()
    key = dict(n=n, seed=seed, size=size, visibility=visibility, dials=repr(dials))
    key |= {"own": anatomy.digest if anatomy else ""}
    key |= {"cohort": VERSION, "anatomy": ct.VERSION}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "cohorts" / name
    if not (folder / "table.csv").exists():
        anatomy = anatomy or default_anatomy(FIELD_MM / size)
        settings = Settings(seed, size, visibility, dials, anatomy)
        _simulate(folder, n, settings, workers)
    names = {"patient_id": str, "study_id": str}
    table = pd.read_csv(folder / "table.csv", dtype=names)
    table["path"] = [str(folder / path) for path in table["path"]]
    words = [column for column in table if column.endswith(" side")]
    words += ["label_errors", "report_errors", "copy_of"]
    table[words] = table[words].astype(object).fillna("")
    return table


def _simulate(folder, n, settings, workers):
    """Fill `folder` beside its final place and move it there.

    So a killed run leaves no half cohort.
    """
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    private_folder(temporary)
    patients = _in_order(partial(_write_patient, temporary, settings), workers)
    rows = []
    with tqdm(total=n, desc="virtual radiographs", unit="img", disable=n < 30) as bar:
        while len(rows) < n:
            rows += next(patients)
            bar.update(min(len(rows), n) - bar.n)
    patients.close()
    table = pd.DataFrame(rows[:n])
    names = set(table["path"])
    table["path"] += ".png"
    for path in temporary.iterdir():
        # a film of a patient begun beyond the n-th film
        if path.name.split(".")[0] not in names:
            path.unlink()
    table.to_csv(temporary / "table.csv", index=False)
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was first; the same key means the same bytes
        if not (folder / "table.csv").exists():
            raise
        shutil.rmtree(temporary)


def _write_patient(folder, settings, number):
    rows = []
    for scan, row in _make_patient(settings, number):
        write_png(scan, folder / f"{row['path']}.png")
        rows.append(row)
    return rows


def _in_order(make, workers):
    """`make` of patient 0, 1, 2, ... in order, never far ahead of the reader.

    Torch works on one thread in each worker; the reader, who may be training a model
    meanwhile, keeps its own.
    """
    workers = workers or os.cpu_count()
    threads = torch.get_num_threads()
    numbers = count()
    waiting = deque()
    pool = ThreadPoolExecutor(workers, initializer=_one_thread)
    try:
        while True:
            while len(waiting) < 4 * workers:
                waiting.append(pool.submit(make, next(numbers)))
            patient = waiting.popleft().result()
            torch.set_num_threads(threads)
            yield patient
            threads = torch.get_num_threads()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _one_thread():
    # else the first query of a thread would fetch the number that others set
    torch.get_num_threads()
    torch.set_num_threads(1)


def _make_patient(settings, number):
    """[(scan, row)] of one patient.

    It depends on nothing but the settings and the number. Patients, noise, words,
    filing (labels, markers, copies), builds and looks are drawn from streams of their
    own, so that a dial of the one leaves the others as they are.
    """
    rng, noise, words, filing, shape, look = _streams(settings, number)
    dials = settings.dials
    patient = draw_built(rng, shape, dials, settings.anatomy)
    lasting = draw_lasting(rng, patient, dials, settings.anatomy)
    frailty = float(rng.random())  # drawn once, so that a patient's views agree
    patient = _scanned(filing, patient, lasting, dials)
    splits = {kind: draw_split(filing) for kind in COPIES}
    films = []
    sampled = {}
    before = None
    studies = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
    for study in range(1, 1 + studies):
        findings = draw_study(rng, patient, lasting, before, dials, settings.anatomy)
        view, is_supine = _view(frailty, patient, findings, dials)
        rays, lungs = _sampled(sampled, patient, findings, view, settings)
        planted = _planted(rays, findings, settings, lungs, is_supine)
        marker = _has_marker(filing, findings, dials)
        how = {"marker": marker, "look": drawn(look, dials.looks)}
        expose = partial(film, rays, planted, patient.site, **how)
        text, errors = _report(findings, before, words, dials)
        row = {
            **_identity(settings, number, study),
            "view": view,
            "position": "supine" if is_supine else "erect",
            **_person(patient),
            "report": text,
            "split": patient.split,
            **_labels(findings, planted, filing, dials),
            **anatomy_ratios(rays.organs["Lungs"], rays.organs["Heart"]),
            "report_errors": errors,
            "copy_of": "",
        }
        films += copies(expose(noise), row, expose, filing, dials, splits)
        before = findings
    return films


def _streams(settings, number):
    return [np.random.default_rng([settings.seed, number, k]) for k in range(6)]


def _identity(settings, number, study):
    patient_id = f"V{settings.seed}-{number:06d}"
    return {
        "path": f"{number:06d}_{study}",
        "patient_id": patient_id,
        "study_id": f"{patient_id}-{study}",
    }


def _person(patient):
    return {
        "site": patient.site,
        "sex": patient.sex,
        "age_years": patient.age_years,
    }


def _sampled(sampled, patient, findings, view, settings):
    """(Rays, Lungs) of a study; `sampled` keeps the last one, as memory is finite."""
    cnr = settings.dials.cnr
    body = shaped(patient.body, findings, settings.visibility, cnr)
    key = (view, body.heart, body.inspiration_mm, body.shift_mm)
    if key not in sampled:
        sampled.clear()
        rays = sample(settings.anatomy, body, view, settings.size)
        sampled[key] = rays, Lungs(rays)
    return sampled[key]


def _planted(rays, findings, settings, lungs, is_supine):
    lungs.supine = is_supine
    return plant(
        rays,
        findings,
        lungs=lungs,
        visibility=settings.visibility,
        cnr=settings.dials.cnr,
    )


def _scanned(rng, patient, lasting, dials):
    """The patient at the site that the dial `scanner` ties to a finding."""
    if not dials.scanner:
        return patient
    name, site, strength = dials.scanner
    if rng.random() >= strength:
        return patient
    if not any(f.name == name for f in lasting):
        site = str(rng.choice([other for other in SITES if other != site]))
    return replace(patient, site=site)


def _view(frailty, patient, findings, dials):
    """("PA" or "AP", whether supine): the sick are filmed in bed."""
    chances = [SITES[patient.site].portable]
    chances += [dials.portable.get(f.name, 0) for f in findings]
    chance = 1 - np.prod([1 - c for c in chances])
    if frailty >= chance:
        return "PA", False
    return "AP", frailty < 0.25 * chance


def _has_marker(rng, findings, dials):
    """Whether the film gets its burned-in side marker."""
    if not dials.marker:
        return True
    name, strength = dials.marker
    if rng.random() < strength:
        tied = with_children({name})
        return any(f.name in tied for f in findings)
    return bool(rng.random() < 0.5)


def _report(findings, before, rng, dials):
    style = str(rng.choice(list(STYLES)))
    text, errors = report_and_key(
        findings,
        rng,
        before=before,
        style=style,
        withhold=dials.withhold,
        error=dials.report_error,
        wording=dials.wording,
    )
    return text, json.dumps(errors) if errors else ""


def _labels(findings, planted, rng, dials):
    """Columns of labels, severities, sides and contrasts, and of the truth.

    Lung Opacity is CheXpert's parent label: 1 where a hazy patch or any of its children
    is. Its severity, side and contrast are the patch's own. Noise flips each label by
    itself, parent or child; `planted` keeps the truth.
    """
    by_name = {name: [f for f in findings if f.name == name] for name in PLANTED}
    columns = with_parents({name: int(bool(by_name[name])) for name in PLANTED})
    flipped = []
    for name in PLANTED:
        if dials.label_noise and rng.random() < dials.label_noise:
            flipped.append(name)
            columns[name] = 1 - columns[name]
    for name, same in by_name.items():
        worst = max((f.severity for f in same), default=np.nan)
        columns[f"{name} severity"] = round(worst, 3)
    for name, same in by_name.items():
        if FINDINGS[name].place != "middle":
            sides = {f.side for f in same} - {""}
            columns[f"{name} side"] = "both" if len(sides) == 2 else "".join(sides)
    for name in PLANTED:
        if name != "Cardiomegaly":
            columns[f"{name} cnr"] = round(planted.cnr.get(name, np.nan), 3)
    columns["planted"] = json.dumps([asdict(f) for f in findings])
    columns["label_errors"] = ", ".join(flipped)
    return columns
