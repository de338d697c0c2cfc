"""Does a 95 % interval of an AUROC hold the truth 95 times in 100? Simulated with
clusters like NIH ChestX-ray14's.

python benchmarks/coverage.py [TRIALS]      prints a Markdown table (default 1000 trials
a cell)

A patient's scores share 0.7 of their variance. Pairs of (images, images with the
finding) of 147 patients with one of eight findings, and images of patients without,
were counted in the set's public label file (the 1,000 images of the development set,
frontal ones). Estimated beside it, on the same trials: the percentile bootstrap over
patients.
"""

import sys
from collections import Counter

import numpy as np
from scipy.special import ndtri

import radwb as rw

ALIKE = 0.7
# (images, of these with the finding): number of patients
WITH = Counter(
    {
        (1, 1): 22,
        (2, 1): 14,
        (2, 2): 4,
        (3, 1): 19,
        (3, 2): 6,
        (4, 1): 4,
        (4, 2): 1,
        (4, 3): 1,
        (5, 1): 4,
        (6, 1): 1,
        (6, 2): 3,
        (6, 3): 3,
        (7, 1): 4,
        (7, 2): 4,
        (7, 3): 3,
        (8, 1): 2,
        (8, 2): 4,
        (8, 3): 1,
        (9, 1): 1,
        (9, 2): 1,
        (9, 3): 2,
        (9, 4): 2,
        (9, 6): 1,
        (10, 2): 1,
        (10, 3): 1,
        (11, 1): 2,
        (11, 2): 3,
        (11, 3): 1,
        (11, 4): 1,
        (11, 5): 1,
        (12, 2): 1,
        (12, 8): 1,
        (12, 10): 1,
        (13, 2): 1,
        (13, 4): 1,
        (20, 1): 1,
        (26, 1): 1,
        (26, 2): 2,
        (26, 3): 1,
        (26, 4): 1,
        (26, 17): 1,
        (47, 2): 1,
        (47, 5): 1,
        (47, 8): 1,
        (47, 10): 1,
        (47, 12): 1,
        (47, 20): 1,
        (61, 1): 1,
        (61, 7): 1,
        (61, 8): 1,
        (61, 12): 1,
        (61, 20): 1,
        (61, 21): 1,
        (66, 1): 3,
        (66, 8): 1,
        (66, 10): 1,
        (66, 12): 1,
    }
)
WITHOUT = Counter(
    {
        (1, 0): 706,
        (2, 0): 270,
        (3, 0): 103,
        (4, 0): 66,
        (5, 0): 36,
        (6, 0): 41,
        (7, 0): 53,
        (8, 0): 33,
        (9, 0): 17,
        (10, 0): 14,
        (11, 0): 16,
        (12, 0): 5,
        (13, 0): 6,
        (20, 0): 7,
        (26, 0): 2,
        (47, 0): 2,
        (61, 0): 2,
        (66, 0): 2,
    }
)
# patients with the finding, patients without it
COHORTS = (
    (5, 15),
    (6, 14),
    (8, 8),
    (8, 192),
    (10, 10),
    (10, 90),
    (12, 38),
    (20, 180),
    (25, 25),
    (30, 70),
    (100, 100),
)
AUROCS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)


def cohort(rng, with_it: int, without: int, clustered: bool):
    """Labels (N,) and patients (N,) of a cohort of so many patients."""
    if clustered:
        pairs = np.concatenate(
            [drawn(rng, WITH, with_it), drawn(rng, WITHOUT, without)]
        )
    else:
        pairs = np.repeat([(1, 1), (1, 0)], [with_it, without], axis=0)
    images, positives = pairs.T
    patients = np.repeat(np.arange(len(pairs)), images)
    nth = np.arange(len(patients)) - np.repeat(
        images.cumsum() - images, images
    )  # image of its patient
    return nth < positives[patients], patients


def drawn(rng, counts, n):
    """n clusters as often as they come in `counts`."""
    kinds = np.array(list(counts))
    share = np.array(list(counts.values())) / counts.total()
    return kinds[rng.choice(len(kinds), size=n, p=share)]


def scored(rng, y, patients, auroc, *, spread=1.0):
    """(N,) normal scores of that AUROC between patients; `spread`: standard deviation
    of cases beside controls.
    """
    shared = rng.normal(size=patients.max() + 1)[patients]
    noise = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * rng.normal(size=len(y))
    distance = ndtri(auroc) * np.sqrt(1 + spread**2)
    return np.where(y, spread * noise + distance, noise)


def percentile(y, s, patients):
    """What was printed until now."""
    boots = rw.stats.bootstrap(y, s, patients, n_boot=200)
    return np.nanquantile(boots, [0.025, 0.975])


def trial(rng, with_it, without, auroc, *, clustered, bootstrapped=False, spread=1.0):
    """Whether each interval holds the truth."""
    y, patients = cohort(rng, with_it, without, clustered)
    s = scored(rng, y, patients, auroc, spread=spread)
    row = rw.stats.clustered_auroc(y, s, patients)
    holds = [row["low"] <= auroc <= row["high"]]
    if bootstrapped:
        low, high = percentile(y, s, patients)
        holds.append(low <= auroc <= high)
    return holds


def covered(trials, with_it, without, auroc, **how) -> np.ndarray:
    """Share of the trials in which each interval holds the truth."""
    rng = np.random.default_rng([with_it, without, round(1000 * auroc)])
    return np.mean(
        [trial(rng, with_it, without, auroc, **how) for _ in range(trials)], axis=0
    )


def main(trials=1000):
    trials = int(trials)
    error = 100 * (0.95 * 0.05 / trials) ** 0.5
    print(f"Coverage in %, {trials} trials a cell (standard error {error:.1f}).")
    for name, how in {
        "one image a patient": dict(clustered=False),
        "clusters like NIH's": dict(clustered=True),
        "clusters like NIH's, cases spread 1.5 times as wide as controls": dict(
            clustered=True, spread=1.5
        ),
    }.items():
        print(f"\n{name}\n\n| patients with | without |", *(f"{a} |" for a in AUROCS))
        print("|" + "---|" * (2 + len(AUROCS)))
        for with_it, without in COHORTS:
            cells = [covered(trials, with_it, without, a, **how)[0] for a in AUROCS]
            print(
                f"| {with_it} | {without} |",
                *(f"{100 * c:.1f} |" for c in cells),
                flush=True,
            )
    print(
        "\nclusters like NIH's, the percentile bootstrap of before (200 resamples), "
        "a third of the trials\n"
    )
    for with_it, without in (
        (1, 190),
        (2, 190),
        (4, 190),
        (8, 192),
        (20, 180),
        (100, 100),
    ):
        cells = [
            covered(
                trials // 3, with_it, without, a, clustered=True, bootstrapped=True
            )[1]
            for a in AUROCS
        ]
        print(
            f"| {with_it} | {without} |",
            *(f"{100 * c:.0f} |" for c in cells),
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
