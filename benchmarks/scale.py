"""The audit of a large table: CPU seconds, memory and what it finds, by rows.

`python benchmarks/scale.py 10000 30000 100000` prints the table. Films are drawn from
the components of some virtual ones, so that their hashes lie as close to each other as
real films' do; reports are the simulator's; copies and patients in two parts are
planted. Nothing is read from a disk.
"""

import argparse
import multiprocessing
import resource
import sys
import time

import numpy as np
import pandas as pd

import radwb as rw
from radwb.curate.audit import Pictures
from radwb.curate.audit.hashes import image_hashes
from radwb.data.table import FINDINGS
from radwb.simulate import Finding
from radwb.simulate.words import report_and_key

SIDE = 64
BASE = 150  # virtual patients whose films' components are mixed
COMPONENTS = 80
# times the virtual films' own spread: of two films' hashes 1 pair in 10,000 lies
# within 6 bits then, as of NIH's and Kermany's (0.00012 and 0.00021)
SPREAD = 1.5
BATCH = 2_000
DRAWN = ("Cardiomegaly", "Edema", "Consolidation", "Pneumothorax", "Pleural Effusion")
SITES = ("Northfield", "Harbour", "Eastgate")
COPIED = 0.01  # of the rows: another patient's film, exposed anew
TWICE = 0.005  # of the rows: another patient's pixels
SHARED = 0.01  # of the patients: in train and in test


def large_table(n: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of n rows with planted leaks, and its pairs of copies (first, second)."""
    rng = np.random.default_rng([seed, n])
    patient = np.arange(n) // 2
    part = rng.choice(["train", "val", "test"], n, p=[0.7, 0.1, 0.2])
    part = part[2 * (np.arange(n) // 2)]
    swapped = rng.random(n // 2 + 1) < SHARED
    is_second = np.arange(n) % 2 == 1
    part = np.where(swapped[patient] & is_second, "test", part)
    findings = [_findings(rng) for _ in range(n)]
    labels = {name: [0] * n for name in FINDINGS}
    for row, present in enumerate(findings):
        for finding in present:
            labels[finding.name][row] = 1
    table = pd.DataFrame(
        {
            "path": [f"films/{row:06d}.png" for row in range(n)],
            "patient_id": [f"P{number:06d}" for number in patient],
            "study_id": [f"S{row:06d}" for row in range(n)],
            "view": np.where(rng.random(n) < 0.3, "AP", "PA"),
            "site": rng.choice(SITES, n),
            "sex": rng.choice(["F", "M"], n),
            "age_years": rng.integers(20, 90, n).astype(float),
            "report": [report_and_key(some, rng)[0] for some in findings],
            "split": part,
            **{name: labels[name] for name in DRAWN},
        }
    )
    return table, _planted(n, rng)


def _findings(rng):
    present = rng.random(len(DRAWN)) < 0.15
    sides = ("left", "right")
    return [
        Finding(name, float(rng.uniform(0.2, 1)), sides[rng.integers(2)])
        for name in np.array(DRAWN)[present]
    ]


def _planted(n, rng):
    """Pairs of rows: `first` is the film, `second` its copy."""
    count = int(n * COPIED), int(n * TWICE)
    rows = rng.permutation(n)[: 2 * sum(count)].reshape(-1, 2)
    kind = np.repeat(["near copy", "same pixels"], count)
    return pd.DataFrame({"first": rows[:, 0], "second": rows[:, 1], "kind": kind})


def large_pictures(n: int, planted: pd.DataFrame, seed: int = 0):
    """What `read_pictures` would keep of n films with the copies in their places."""
    rng = np.random.default_rng([seed, n, 1])
    table = rw.simulate.cohort(n=BASE)
    base = rw.data.images(table, SIDE).reshape(len(table), -1) / 255.0
    mean = base.mean(0)
    scale, parts = np.linalg.svd(base - mean, full_matrices=False)[1:]
    weights = scale[:COMPONENTS, None] / np.sqrt(len(base)) * parts[:COMPONENTS]
    weights = SPREAD * weights.astype(np.float32)
    small = np.empty((n, SIDE * SIDE), np.uint8)
    for begin in range(0, n, BATCH):
        size = min(BATCH, n - begin)
        mixed = rng.standard_normal((size, len(weights)), np.float32) @ weights + mean
        mixed += 0.02 * rng.standard_normal(mixed.shape, np.float32)
        small[begin : begin + size] = (mixed.clip(0, 1) * 255).round()
    first, second, kind = planted["first"], planted["second"], planted["kind"]
    copies = small[first].astype(np.float32)
    exposed = copies * 0.85 + 10 + 3 * rng.standard_normal(copies.shape, np.float32)
    anew = (kind == "near copy").to_numpy()[:, None]
    small[second] = np.where(anew, exposed, copies).clip(0, 255).round()
    return _pictures(small.reshape(n, SIDE, SIDE), planted)


def _pictures(small, planted):
    n = len(small)
    parts = [small[k : k + BATCH] for k in range(0, n, BATCH)]
    hashes = [image_hashes(part) for part in parts]
    digests = np.array([f"film {row}" for row in range(n)], dtype=object)
    same = planted[planted["kind"] == "same pixels"]
    digests[same["second"]] = digests[same["first"]]
    # in parts: the films' spread at once takes more memory than the audit
    facts = pd.concat([_facts(part) for part in parts], ignore_index=True)
    return Pictures(small, np.concatenate(hashes), digests, facts)


def _facts(small):
    flat = small.reshape(len(small), -1)
    facts = pd.DataFrame({"rows": SIDE, "columns": SIDE}, index=range(len(small)))
    facts["mean"] = flat.mean(1)
    facts["spread"] = flat.std(1)
    facts["black"] = (flat < 2).mean(1)
    facts["white"] = (flat > 253).mean(1)
    return facts.assign(problem="")


def measured(n: int) -> dict:
    """CPU seconds and memory of one audit in this process, and how well it found."""
    table, planted = large_table(n)
    pictures = large_pictures(n, planted)
    start = time.process_time()
    audit = rw.curate.audit(table, pictures=pictures)
    seconds = time.process_time() - start
    pairs = zip(audit.pairs["first"], audit.pairs["second"], strict=True)
    found = {tuple(sorted(pair)) for pair in pairs}
    truth = {tuple(sorted(pair)) for pair in planted[["first", "second"]].to_numpy()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row = {
        "rows": n,
        "cpu_s": round(seconds, 1),
        "peak_gib": round(peak, 2),
        "planted": len(truth),
        "found": len(found & truth),
        "wrong": len(found - truth),
    }
    print(row, file=sys.stderr, flush=True)  # the next may take minutes
    return row


def by_rows(sizes: list[int]) -> pd.DataFrame:
    """One row a size, each measured in a process of its own, as a peak is a process's;
    `exponent` of the growth of CPU seconds since the size before.
    """
    rw.simulate.cohort(n=BASE)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        table = pd.DataFrame(pool.imap(measured, sizes))
    growth = np.log(table["cpu_s"]).diff() / np.log(table["rows"]).diff()
    return table.assign(exponent=growth.round(2))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    print(by_rows(parser.parse_args().rows).to_string(index=False))


if __name__ == "__main__":
    main()
