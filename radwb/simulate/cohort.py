"""A cohort of virtual patients: one row an image, one PNG and one truth mask a row,
cached by content.
"""

import hashlib
import json
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from radwb.data.fetch import cache_folder
from radwb.data.private import private_folder
from radwb.data.read import write_png
from radwb.findings import FINDINGS
from radwb.findings.parents import with_children, with_parents
from radwb.simulate import anatomy as ct
from radwb.simulate.anatomy import FIELD_MM, default_anatomy
from radwb.simulate.display import SITES
from radwb.simulate.film import film
from radwb.simulate.findings import PLANTED, shaped
from radwb.simulate.mechanisms import Lungs
from radwb.simulate.patient import SPLIT, Dials, draw_lasting, draw_patient, draw_study
from radwb.simulate.plant import plant
from radwb.simulate.project import sample
from radwb.simulate.realism import anatomy_ratios
from radwb.simulate.words import STYLES, report_and_key

VERSION = 4  # raise it with any change of a film or a word: cohorts are kept by it
COPIES = ("duplicate", "near duplicate")


def _view(frail, patient, findings, dials):
    """("PA" or "AP", supine): the sick are filmed in bed. `frail` is drawn once, so
    that a patient's views agree.
    """
    chance = 1 - np.prod(
        [
            1 - SITES[patient.site].portable,
            *(1 - dials.portable.get(f.name, 0) for f in findings),
        ]
    )
    return ("AP", frail < 0.25 * chance) if frail < chance else ("PA", False)


def _marked(rng, findings, dials):
    """Whether the film gets its burned-in side marker."""
    if not dials.marker:
        return True
    name, strength = dials.marker
    tied = with_children({name})
    return (
        any(f.name in tied for f in findings)
        if rng.random() < strength
        else bool(rng.random() < 0.5)
    )


def _make_patient(number, *, seed, size, visibility, dials, anatomy, keep):
    """Make one patient's films, hand each to `keep(name, scan)`, and return their rows.

    It depends on nothing but (seed, number). Patients, noise, words and filing (labels,
    markers, copies) are drawn from streams of their own, so that a dial of the one
    leaves the others as they are.
    """
    rng, noise, words, filing = (
        np.random.default_rng([seed, number, k]) for k in range(4)
    )
    patient = draw_patient(rng, dials)
    lasting = draw_lasting(rng, patient, dials, anatomy)
    patient_id, rows, before, sampled, frail = (
        f"V{seed}-{number:06d}",
        [],
        None,
        {},
        float(rng.random()),
    )
    if dials.scanner:
        patient = _scanned(filing, patient, lasting, dials)
    elsewhere = {
        kind: str(filing.choice(list(SPLIT), p=list(SPLIT.values()))) for kind in COPIES
    }
    for study in range(1, 1 + int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))):
        findings = draw_study(rng, patient, lasting, before, dials, anatomy)
        view, supine = _view(frail, patient, findings, dials)
        body = shaped(patient.body, findings, visibility, dials.cnr)
        key = (view, body.heart, body.inspiration_mm, body.shift_mm)
        if key not in sampled:
            rays = sample(anatomy, body, view, size)
            sampled = {key: (rays, Lungs(rays))}  # the last one only: memory is finite
        rays, lungs = sampled[key]
        lungs.supine = supine
        planted = plant(
            rays, findings, visibility=visibility, cnr=dials.cnr, lungs=lungs
        )
        expose = partial(
            film, rays, planted, patient.site, marker=_marked(filing, findings, dials)
        )
        scan = expose(noise)
        text, errors = report_and_key(
            findings,
            words,
            before=before,
            style=str(words.choice(list(STYLES))),
            withhold=dials.withhold,
            error=dials.report_error,
        )
        name = f"{number:06d}_{study}"
        keep(name, scan)
        row = {
            "path": name,
            "patient_id": patient_id,
            "study_id": f"{patient_id}-{study}",
            "view": view,
            "position": "supine" if supine else "erect",
            "site": patient.site,
            "sex": patient.sex,
            "age_years": patient.age_years,
            "report": text,
            "split": patient.split,
            **_labels(findings, planted, filing, dials),
            **anatomy_ratios(rays.organs["Lungs"], rays.organs["Heart"]),
            "report_errors": json.dumps(errors) if errors else "",
            "copy_of": "",
        }
        rows += [row, *_copies(row, scan, expose, filing, dials, elsewhere, keep)]
        before = findings
    return rows


def _scanned(rng, patient, lasting, dials):
    name, site, strength = dials.scanner
    tied = any(f.name == name for f in lasting)
    others = [s for s in SITES if s != site]
    return (
        replace(patient, site=site if tied else str(rng.choice(others)))
        if rng.random() < strength
        else patient
    )


def _labels(findings, planted, rng, dials):
    """Columns of labels, severities, sides and contrasts; `planted` keeps the truth
    when a label is flipped.

    Lung Opacity is CheXpert's parent label (`radwb.findings.FINDINGS`): 1 where a hazy
    patch or any of its children is. Its severity, side and contrast are the patch's
    own. Noise flips each label by itself, parent or child.
    """
    names = {f.name for f in findings}
    labels = with_parents({name: int(name in names) for name in PLANTED})
    flipped = [
        name
        for name in PLANTED
        if dials.label_noise and rng.random() < dials.label_noise
    ]
    worst = {
        name: max((f.severity for f in findings if f.name == name), default=np.nan)
        for name in PLANTED
    }
    sides = {
        name: sorted({f.side for f in findings if f.name == name} - {""})
        for name in PLANTED
    }
    return {
        **{n: 1 - labels[n] if n in flipped else labels[n] for n in PLANTED},
        **{f"{n} severity": round(worst[n], 3) for n in PLANTED},
        **{
            f"{n} side": "both" if len(sides[n]) == 2 else "".join(sides[n])
            for n in PLANTED
            if FINDINGS[n].place != "middle"
        },
        **{
            f"{n} cnr": round(planted.cnr[n], 3) if n in planted.cnr else np.nan
            for n in PLANTED
            if n != "Cardiomegaly"
        },
        "planted": json.dumps([asdict(f) for f in findings]),
        "label_errors": ", ".join(flipped),
    }


def _copies(row, scan, expose, rng, dials, elsewhere, keep):
    """Rows of films that are filed a second time, under another patient and perhaps in
    another part of the split.
    """
    out = []
    for kind, chance in zip(
        COPIES, (dials.duplicates, dials.near_duplicates), strict=True
    ):
        if chance and rng.random() < chance:
            name = f"{row['path']}_{kind.split()[0]}"
            keep(name, scan if kind == "duplicate" else expose(rng))
            out.append(
                {
                    **row,
                    "path": name,
                    "patient_id": f"{row['patient_id']}-{kind[0]}",
                    "study_id": f"{row['study_id']}-{kind[0]}",
                    "copy_of": row["study_id"],
                    "split": elsewhere[kind],
                }
            )
    return out


def _one_thread():
    # else the first query of a thread would fetch the number that others set
    torch.get_num_threads()
    torch.set_num_threads(1)


def _patients(make, workers):
    """Rows of patient 0, 1, 2, ... in order, made `workers` at a time and never far
    ahead of the reader.

    Torch works on one thread in each worker; the reader, who may be training a model
    meanwhile, keeps its own.
    """
    threads, numbers, waiting = torch.get_num_threads(), count(), deque()
    pool = ThreadPoolExecutor(workers, initializer=_one_thread)
    try:
        while True:
            while len(waiting) < 4 * workers:
                waiting.append(pool.submit(make, next(numbers)))
            made = waiting.popleft().result()
            torch.set_num_threads(threads)
            yield made
            threads = torch.get_num_threads()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def stream(
    n, *, seed=0, size=160, visibility=1.0, dials=None, workers=None, anatomy=None
):
    """Virtual radiographs one after another, nothing written and nothing kept: any
    number in the same memory.

    >>> for scan, row in rw.simulate.stream(10_000, seed=1): ...

    Args:
        n, seed, size, visibility, dials, workers, anatomy: as in `cohort`; the same
            seed gives the same films.
    Yields:
        (Scan with truth masks, row as a dict; its `path` is the film's name).
    """
    dials, anatomy = dials or Dials(), anatomy or default_anatomy(FIELD_MM / size)

    def make(number):
        films = {}
        rows = _make_patient(
            number,
            seed=seed,
            size=size,
            visibility=visibility,
            dials=dials,
            anatomy=anatomy,
            keep=films.__setitem__,
        )
        return [(films[row["path"]], row) for row in rows]

    made = _patients(make, workers or os.cpu_count())
    try:
        yield from islice((pair for pairs in made for pair in pairs), n)
    finally:
        made.close()


def _fingerprint(**settings):
    """Key of a cohort: its settings and the simulator's version."""
    versions = {"cohort": VERSION, "anatomy": ct.VERSION}
    return hashlib.sha256(
        json.dumps(settings | versions, sort_keys=True).encode()
    ).hexdigest()[:16]


def cohort(
    n=2000, *, seed=0, size=160, visibility=1.0, dials=None, workers=None, anatomy=None
):
    """Simulate `n` radiographs of virtual patients with one to three studies each; made
    once, then read from the cache.

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
        table: the schema of design.md, `split` by patient; and what was planted:
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
    key = _fingerprint(
        n=n,
        seed=seed,
        size=size,
        visibility=visibility,
        dials=repr(dials or Dials()),
        own=anatomy.digest if anatomy else "",
    )
    folder = cache_folder() / "cohorts" / key
    if not (folder / "table.csv").exists():
        anatomy = anatomy or default_anatomy(FIELD_MM / size)
        _simulate(
            folder,
            n,
            seed,
            size,
            visibility,
            workers or os.cpu_count(),
            anatomy,
            dials or Dials(),
        )
    table = pd.read_csv(
        folder / "table.csv",
        dtype={"patient_id": str, "study_id": str},
        keep_default_na=True,
    )
    table["path"] = [str(folder / p) for p in table["path"]]
    words = [
        c
        for c in table
        if c.endswith(" side") or c in ("label_errors", "report_errors", "copy_of")
    ]
    table[words] = table[words].astype(object).fillna("")
    return table


def _simulate(folder, n, seed, size, visibility, workers, anatomy, dials):
    """Fill `folder` beside its final place and move it there, so that a killed run
    leaves no half cohort.
    """
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    private_folder(temporary)
    make = partial(
        _make_patient,
        seed=seed,
        size=size,
        visibility=visibility,
        dials=dials,
        anatomy=anatomy,
        keep=lambda name, scan: write_png(scan, temporary / f"{name}.png"),
    )
    rows, patients = [], _patients(make, workers)
    with tqdm(total=n, desc="virtual radiographs", unit="img", disable=n < 30) as bar:
        while len(rows) < n:
            made = next(patients)
            rows += made
            bar.update(min(len(made), n - bar.n))
    patients.close()
    table = pd.DataFrame(rows[:n]).assign(path=lambda t: t["path"] + ".png")
    kept = {Path(p).stem for p in table["path"]}
    for path in temporary.iterdir():
        if (
            path.name.split(".")[0] not in kept
        ):  # of patients begun beyond the n-th film
            path.unlink()
    table.to_csv(temporary / "table.csv", index=False)
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was first; the same key means the same bytes
        if not (folder / "table.csv").exists():
            raise
        shutil.rmtree(temporary)
