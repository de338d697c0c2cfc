"""How far virtual images are from real ones in grey, spectrum, anatomy, likeness."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from radwb.data import check_table, images
from radwb.simulate.measures import (
    THUMB,
    equalise,
    greys,
    nearest,
    scores,
    separation,
    slope,
    spectrum,
    thumbs,
)
from radwb.simulate.ratios import RATIOS
from radwb.stats import wilson

NUMBERS = {"mean": np.nanmean, "sd": np.nanstd} | {
    f"{q} %": partial(np.nanpercentile, q=q) for q in (5, 50, 95)
}
MIN_IMAGES = 16  # for five folds
MIN_PATIENTS = 10  # for a halved control
CONTROLS = 20
NOTE = (
    "Films are compared as they are, letters and collimation too, in their middle "
    "square. No distance is below 0."
)


@dataclass(frozen=True, eq=False)
class Realism:
    """The gap between virtual and real images; `print` it for a table and its meaning.

    Attributes:
        summary: one row a measure, with its name, the number of either side, gap, low,
            high, n_virtual and n_real: low and high are 95 %, patients resampled; n
            counts images. The gap is virtual minus real, or a distance, or a
            classifier's AUROC (0.5: it can't tell). Real against real is the mean and
            the range of 20 random splits of the real patients: what chance gives.
        histograms, spectra: share of the pixels by grey value (0 to 1); mean log power
            (dB) by cycles a side.
        nearest: {"virtual", "real"}: each image's correlation with the likest image of
            another patient.
        about: what was compared.
    """

    summary: pd.DataFrame
    histograms: pd.DataFrame
    spectra: pd.DataFrame
    nearest: dict[str, np.ndarray]
    about: str

    def __str__(self):
        rows = self.summary.set_index("measure")
        head = f"{'':52} {'virtual':>8} {'real':>8} {'gap':>8}  95 % interval"
        lines = [self.about, head]
        for name, row in rows.iterrows():
            cells = " ".join(map(_cell, row[["virtual", "real", "gap"]]))
            lines.append(f"{name:52} {cells}  {row.low:.3f} to {row.high:.3f}")
        return "\n".join([*lines, _verdict(rows), NOTE])


def _cell(number):
    return " " * 8 if np.isnan(number) else f"{number:8.3f}"


def _verdict(rows):
    pixels = rows.loc["AUROC, small pixels, equalised"]
    likest = rows.loc["nearest other patient, correlation"]
    reason = ""
    if likest.low > 0:
        reason = ": one CT makes for more likeness than people have"
    return (
        "With grey values equalised, a classifier of small pixels tells virtual from "
        f"real with an AUROC of {pixels.gap:.2f} ({pixels.low:.2f} to "
        f"{pixels.high:.2f}; 0.5 = it can't). The likest image of another patient "
        f"correlates {likest.virtual:.2f} among virtual and {likest.real:.2f} among "
        f"real patients{reason}."
    )


def realism(
    table: pd.DataFrame,
    real: pd.DataFrame,
    *,
    size: int = 128,
    seed: int = 0,
    n_boot: int = 200,
) -> Realism:
    """How far virtual films are from your real ones, before a model meets both.

    >>> virtual = rw.simulate.cohort(n=120, seed=0)
    >>> half = virtual["patient_id"].isin(virtual["patient_id"].unique()[::2])
    >>> gaps = rw.simulate.realism(virtual[half], virtual[~half], size=32, n_boot=5)
    >>> gaps.summary["measure"][0]
    'grey value, mean'

    Args:
        table, real: need `path`, `patient_id`; the views and ages to be compared. A
            column of `add_ratios` is compared where both have 16 values; lung_area is a
            share of the image, so that it measures collimation, too.
        size: side of the images' middle squares, px, a multiple of 16; above the films'
            own size the spectrum is empty.
        seed, n_boot: of folds, control and the patients taken for `nearest`, as many a
            side; resamples of the patients.
    Raises:
        ValueError: a side has fewer than 16 images or 10 patients, or both share an
            image.
    """
    sides = {"virtual": table, "real": real}
    _check(sides, size)
    tables = list(sides.values())
    who = [side["patient_id"].astype(str).to_numpy() for side in tables]
    pixels = [images(side, size, fit="crop") for side in tables]
    grey = [greys(p) for p in pixels]
    power = [spectrum(p / 255) for p in pixels]
    draws = _draws(who, n_boot, seed)
    likest, likest_who = _nearest(pixels, who, seed)
    likest_draws = _draws(likest_who, n_boot, seed)
    name = "nearest other patient, correlation"
    rows = [
        *_grey_and_power(grey, power, draws),
        *_anatomy(tables, draws),
        _difference(name, likest, likest_draws, np.mean),
        *_classifiers(pixels, grey, power, who, draws, seed),
        *_controls(pixels, grey, power, who, seed),
    ]
    counts = [
        f"{len(patients)} {name} images of {len(set(patients))} patients"
        for name, patients in zip(sides, who, strict=True)
    ]
    about = (
        f"{' against '.join(counts)}, {size} x {size} px; "
        f"intervals from {n_boot} resamples of the patients"
    )
    return Realism(
        pd.DataFrame(rows),
        _means("grey", np.arange(256) / 255, sides, grey),
        _means("cycles", np.arange(size // 2) + 1, sides, power),
        dict(zip(sides, likest, strict=True)),
        about,
    )


def _check(sides, size):
    for name, side in sides.items():
        n = len(check_table(side))
        people = side["patient_id"].nunique()
        if n < MIN_IMAGES or people < MIN_PATIENTS:
            raise ValueError(
                f"expected {MIN_IMAGES} {name} images of {MIN_PATIENTS} patients or "
                f"more, got {n} of {people}. Try rw.simulate.cohort(n=200) or a larger "
                "set."
            )
    paths = [set(side["path"].astype(str)) for side in sides.values()]
    shared = paths[0] & paths[1]
    if shared:
        raise ValueError(
            f"expected different images, got {len(shared)} on both sides. "
            "Try two halves, by patient."
        )
    if size % THUMB or size < 2 * THUMB:
        raise ValueError(
            f"expected a size of {2 * THUMB}, {3 * THUMB}, ... px, got {size}. Try 128"
        )


def _means(name, values, sides, measured):
    means = [x.mean(0) for x in measured]
    return pd.DataFrame({name: values, **dict(zip(sides, means, strict=True))})


def _draws(who, n_boot, seed):
    """`n_boot` pairs of (virtual rows, real rows): patients drawn with their images."""
    draws = []
    for k, patients in enumerate(who):
        rows = [np.flatnonzero(patients == p) for p in np.unique(patients)]
        rng = np.random.default_rng([seed, k])
        picks = rng.integers(len(rows), size=(n_boot, len(rows)))
        draws.append([np.concatenate([rows[p] for p in pick]) for pick in picks])
    return list(zip(*draws, strict=True))


def _nearest(pixels, who, seed):
    """Likeness and patients of both sides, as many patients of either.

    Among more neighbours the nearest is nearer.
    """
    rng = np.random.default_rng(seed)
    n = min(len(set(patients)) for patients in who)
    likest = []
    chosen_patients = []
    for images_of_side, patients in zip(pixels, who, strict=True):
        chosen = np.isin(patients, rng.choice(np.unique(patients), n, replace=False))
        likest.append(nearest(images_of_side[chosen], patients[chosen]))
        chosen_patients.append(patients[chosen])
    return likest, chosen_patients


def _row(name, gap, low, high, n, virtual=np.nan, real=np.nan):
    return {
        "measure": name,
        "virtual": virtual,
        "real": real,
        "gap": gap,
        "low": low,
        "high": high,
        "n_virtual": n[0],
        "n_real": n[1],
    }


def _distance(name, values, draws, distance):
    """The row of a distance of the (N, ...) `values` of both sides."""
    gaps = [distance(values[0][i], values[1][j]) for i, j in draws]
    low, high = np.nanquantile(gaps, [0.025, 0.975])
    n = [int((~np.isnan(v)).sum() / v[0].size) for v in values]
    return _row(name, distance(*values), low, high, n)


def _difference(name, values, draws, one):
    """The row of a number of both sides, which `one` makes of each side's values."""

    def gap(a, b):
        return one(a) - one(b)

    row = _distance(name, values, draws, gap)
    row["virtual"] = one(values[0])
    row["real"] = one(values[1])
    return row


def _grey_and_power(grey, power, draws):
    value = np.arange(256) / 255

    def wasserstein(a, b):
        return wasserstein_distance(value, value, a.sum(0), b.sum(0))

    brightness = [g @ value for g in grey]
    yield _difference("grey value, mean", brightness, draws, np.mean)
    yield _distance("grey values, Wasserstein distance", grey, draws, wasserstein)
    slopes = [slope(p) for p in power]
    yield _difference("power spectrum, slope", slopes, draws, np.mean)
    # octaves; column 0 is 1 cycle
    for f in 2 ** np.arange(1, int(np.log2(power[0].shape[1]))):
        octave = [p[:, f - 1 : 2 * f - 1].mean(1) for p in power]
        yield _difference(f"power at {f}-{2 * f} cycles, dB", octave, draws, np.mean)


def _anatomy(tables, draws):
    for name in RATIOS:
        if all(name in t and t[name].notna().sum() >= MIN_IMAGES for t in tables):
            values = [t[name].to_numpy(float) for t in tables]
            for what, one in NUMBERS.items():
                yield _difference(f"{name}, {what}", values, draws, one)
            yield _distance(f"{name}, Kolmogorov-Smirnov", values, draws, _kolmogorov)


def _kolmogorov(a, b):
    a = a[~np.isnan(a)]
    b = b[~np.isnan(b)]
    return ks_2samp(a, b, method="asymp").statistic


def _look(grey, power):
    """(N, 32 + side // 2): a coarse histogram and the spectrum."""
    return np.c_[grey.reshape(len(grey), 32, 8).sum(2), power]


def _classifiers(pixels, grey, power, who, draws, seed):
    """Rows of classifiers of virtual against real, then with equalised grey values."""
    both = np.concatenate(pixels)
    flat = equalise(both)
    features = {
        "grey values and spectrum": _look(np.concatenate(grey), np.concatenate(power)),
        "small pixels": thumbs(both),
        "spectrum, equalised": spectrum(flat),
        "small pixels, equalised": thumbs(flat),
    }
    is_virtual = np.repeat([1, 0], [len(p) for p in pixels])
    for name, x in features.items():
        values = scores(x, is_virtual, np.concatenate(who), seed)
        row = _distance(f"AUROC, {name}", values, draws, separation)
        if row["gap"] in (0, 1):
            # no resample differs; as if a share of the patients of the rarer side
            n = min(len(set(patients)) for patients in who)
            row["low"], row["high"] = wilson(int(row["gap"]) * n, n)
        yield row


def _controls(pixels, grey, power, who, seed):
    """Rows of classifiers of random halves of the real patients."""
    patients = who[1]
    features = {
        "grey values and spectrum": _look(grey[1], power[1]),
        "small pixels": thumbs(pixels[1]),
    }
    for name, x in features.items():
        aurocs = []
        for k in range(CONTROLS):
            rng = np.random.default_rng([seed, k])
            half = rng.permutation(np.unique(patients))[::2]
            y = np.isin(patients, half).astype(int)
            aurocs.append(separation(*scores(x, y, patients, seed)))
        low, high = np.quantile(aurocs, [0.025, 0.975])
        name = f"AUROC, {name}, real against real"
        yield _row(name, np.mean(aurocs), low, high, (0, len(patients)))
