"""How far virtual images are from real ones: grey values, spectrum, anatomy, nearest
patients, and a classifier.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from radwb.data import check_table, images, read, scan_of

RATIOS = ("cardiothoracic_ratio", "lung_area", "lung_box_share", "lung_height_width")
NUMBERS = {"mean": np.nanmean, "sd": np.nanstd} | {
    f"{q} %": partial(np.nanpercentile, q=q) for q in (5, 50, 95)
}
COLUMNS = ("measure", "virtual", "real", "gap", "low", "high", "n_virtual", "n_real")
MIN_IMAGES, MIN_PATIENTS, THUMB = (
    16,
    10,
    16,
)  # for five folds and a halved control; side of small images, px
NOTE = "Films are compared as they are, letters and collimation too, in their middle square. No distance is below 0."


@dataclass(frozen=True, eq=False)
class Realism:
    """The gap between virtual and real images; `print` it for a table and its meaning
    in words.

    Attributes:
        summary: one row a measure, with COLUMNS: low and high are 95 %, patients
            resampled; n counts images. The gap is virtual minus real, or a distance, or
            a classifier's AUROC (0.5: it can't tell). Real against real is the mean and
            the range of 20 random splits of the real patients: what chance gives.
        histograms, spectra: share of the pixels by grey value (0 to 1); mean log power
            (dB) by cycles a side.
        nearest: {"virtual", "real"}: each image's correlation with the likest image of
            another patient.
    """

    summary: pd.DataFrame
    histograms: pd.DataFrame
    spectra: pd.DataFrame
    nearest: dict[str, np.ndarray]
    about: str

    def __str__(self):
        rows = self.summary.set_index("measure")
        lines = [
            self.about,
            f"{'':52} {'virtual':>8} {'real':>8} {'gap':>8}  95 % interval",
        ]
        for name, row in rows.iterrows():
            cells = " ".join(
                " " * 8 if np.isnan(row[c]) else f"{row[c]:8.3f}"
                for c in ("virtual", "real", "gap")
            )
            lines.append(f"{name:52} {cells}  {row.low:.3f} to {row.high:.3f}")
        tell, near = (
            rows.loc["AUROC, small pixels, equalised"],
            rows.loc["nearest other patient, correlation"],
        )
        said = (
            f"With grey values equalised, a classifier of small pixels tells virtual from real with an AUROC of "
            f"{tell.gap:.2f} ({tell.low:.2f} to {tell.high:.2f}; 0.5 = it can't). The likest image of another "
            f"patient correlates {near.virtual:.2f} among virtual and {near.real:.2f} among real patients"
            f"{': one CT makes for more likeness than people have' if near.low > 0 else ''}."
        )
        return "\n".join([*lines, said, NOTE])


def anatomy_ratios(
    lungs: np.ndarray, heart: np.ndarray | None = None
) -> dict[str, float]:
    """Ratios of a frontal chest film from its masks: `anatomy_ratios(lungs,
    heart)["cardiothoracic_ratio"]`.

    The cardiothoracic ratio (Danzer 1919) is the heart's greatest transverse diameter,
    from its outermost point on the right to that on the left, over the greatest inner
    diameter of the thorax, here the widest row from the outer edge of the right lung to
    that of the left.

    Args:
        lungs, heart: (H, W) bool; both lungs in one mask, as one alone would pass for a
            narrow thorax.
    Returns:
        cardiothoracic_ratio, lung_area (share of the image), lung_box_share (share of
        the lungs' bounding box), lung_height_width; NaN where a mask is absent or
        empty.
    """
    lungs = np.asarray(lungs, bool)
    heart = np.zeros(lungs.shape, bool) if heart is None else np.asarray(heart, bool)
    if heart.shape != lungs.shape:
        raise ValueError(
            f"expected a heart mask of the lungs' shape {lungs.shape}, got {heart.shape}"
        )
    if not lungs.any():
        return dict.fromkeys(RATIOS, np.nan)
    height, width = (np.ptp(np.flatnonzero(lungs.any(axis))) + 1 for axis in (1, 0))
    thorax = (lungs.shape[1] - lungs.argmax(1) - lungs[:, ::-1].argmax(1))[
        lungs.any(1)
    ].max()
    ratio = (
        (np.ptp(np.flatnonzero(heart.any(0))) + 1) / thorax if heart.any() else np.nan
    )
    return dict(
        zip(
            RATIOS,
            (
                float(ratio),
                lungs.mean(),
                lungs.sum() / (height * width),
                height / width,
            ),
            strict=True,
        )
    )


def add_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The table, as `rw.data.real("covid-masks")`, with `anatomy_ratios` of its rows'
    masks; NaN without both lungs.

    Lungs are `scan.truth["lungs"]`; the heart is `scan.truth["heart"]`, else the
    drawing named by the column `mask_cardiomediastinum` (covid-masks), widest at the
    heart. Don't mix areas of sets: covid-masks draws the lungs behind heart and
    diaphragm, as projected lungs lie; covid-text's machine-made masks don't.
    """
    return table.assign(
        **pd.DataFrame(
            [_ratios(row) for row in table.to_dict("records")], table.index, [*RATIOS]
        )
    )


def _ratios(row):
    needs = [
        row[c] for c in ("truth_path", "mask_left_lung", "mask_right_lung") if c in row
    ]
    truth = scan_of(row).truth if all(isinstance(path, str) for path in needs) else {}
    heart, drawn = truth.get("heart"), row.get("mask_cardiomediastinum")
    if truth and heart is None and isinstance(drawn, str):
        heart = read(Path(row["path"]).parents[1] / drawn).pixels > 0.5
    return (
        anatomy_ratios(truth["lungs"], heart)
        if "lungs" in truth
        else dict.fromkeys(RATIOS, np.nan)
    )


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """Radially averaged log power of (N, side, side) grey, 0 to 1: (N, side // 2) dB at
    1, 2, ... cycles a side.
    """
    side = pixels.shape[
        1
    ]  # without the Hann window opposite borders would pass for an edge
    window, cycles = (
        np.outer(*[np.hanning(side + 1)[:-1]] * 2),
        np.fft.fftfreq(side, 1 / side),
    )
    ring = np.hypot(cycles[:, None], cycles).round().astype(int).ravel()
    out = np.empty((len(pixels), side // 2))
    for n, image in enumerate(pixels):
        power = (
            abs(np.fft.fft2((image - np.average(image, weights=window)) * window)) ** 2
            / (window**2).sum()
        )
        out[n] = (np.bincount(ring, power.ravel()) / np.bincount(ring))[
            1 : side // 2 + 1
        ]
    return 10 * np.log10(out + 1e-10)


def slope(spectra: np.ndarray) -> np.ndarray:
    """(N,) exponents of power over frequency from 2 cycles a side on, octaves alike:
    white noise 0, 1/f noise -2.
    """
    f = np.arange(2, spectra.shape[1] + 1)
    x = np.log10(f) - np.average(np.log10(f), weights=1 / f)
    return spectra[:, 1:] / 10 @ (x / f) / (x**2 / f).sum()


def equalise(pixels: np.ndarray) -> np.ndarray:
    """(N, side, side) uint8 to each pixel's rank in its image, 0 to 1; no monotone
    display curve changes it.
    """
    share = _greys(pixels)
    middle = (np.cumsum(share, 1) - share / 2).astype(np.float32)
    return np.take_along_axis(middle, pixels.reshape(len(pixels), -1), 1).reshape(
        pixels.shape
    )


def _greys(pixels):
    return (
        np.stack([np.bincount(image.ravel(), minlength=256) for image in pixels])
        / pixels[0].size
    )  # (N, 256)


def nearest(pixels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(N,) each image's highest correlation with an image of another patient."""
    z = _standard(pixels.astype(np.float32))
    return np.where(patients[:, None] == patients, -1, z @ z.T / z.shape[1]).max(1)


def _auroc(a, b):
    return stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))


def _standard(pixels, side=None):
    """(N, side²) block means of each image, at mean 0 and standard deviation 1."""
    N, full, side = *pixels.shape[:2], side or pixels.shape[1]
    x = (
        pixels.reshape(N, side, full // side, side, full // side)
        .mean((2, 4))
        .reshape(N, -1)
    )
    return (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)


def _row(name, values, patients, n_boot, seed, *, one=None, distance=None):
    """A measure of the (N, ...) `values` of both sides: a number each and their
    difference, or their distance.
    """
    gap, draws = distance or (lambda a, b: one(a) - one(b)), []
    for k, people in enumerate(patients):  # all images of a patient are drawn together
        rows = [np.flatnonzero(people == p) for p in np.unique(people)]
        picks = np.random.default_rng([seed, k]).integers(
            len(rows), size=(n_boot, len(rows))
        )
        draws.append([np.concatenate([rows[p] for p in pick]) for pick in picks])
    low, high = np.nanquantile(
        [gap(values[0][i], values[1][j]) for i, j in zip(*draws, strict=True)],
        [0.025, 0.975],
    )
    each, n = (
        [one(v) if one else np.nan for v in values],
        [int((~np.isnan(v)).sum() / v[0].size) for v in values],
    )
    return dict(zip(COLUMNS, (name, *each, gap(*values), low, high, *n), strict=True))


def _thumbs(pixels):
    """(N, THUMB) first principal components of the standardised thumbnails; they know
    no labels.
    """
    x = _standard(pixels, THUMB)
    u, d, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return (u * d)[:, :THUMB]


def _scores(x, y, patients, seed):
    """Scores of the y = 1 and of the y = 0 by a logistic regression told to tell them
    apart, of patients new to it.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    model = LogisticRegression(C=0.1, class_weight="balanced", solver="liblinear")
    folds = StratifiedGroupKFold(
        5, shuffle=True, random_state=seed
    )  # a patient of one name on both sides: in one fold
    score = cross_val_predict(
        model, x, y, groups=patients, cv=folds, method="decision_function"
    )
    return [score[y == k] for k in (1, 0)]


def _classifiers(pixels, grey, power, who, n_boot, seed):
    """Rows of both classifiers: virtual against real, then with equalised grey values,
    then random halves of real.
    """
    patients, y, both = (
        np.concatenate(who),
        np.repeat([1, 0], [len(p) for p in pixels]),
        np.concatenate(pixels),
    )
    flat, look = (
        equalise(both),
        [
            np.c_[g.reshape(len(g), 32, 8).sum(2), p]
            for g, p in zip(grey, power, strict=True)
        ],
    )
    cases = {
        "grey values and spectrum": np.concatenate(look),
        "small pixels": _thumbs(both),
        "spectrum, equalised": spectrum(flat),
        "small pixels, equalised": _thumbs(flat),
    }
    for name, v in cases.items():
        told = _row(
            f"AUROC, {name}",
            _scores(v, y, patients, seed),
            who,
            n_boot,
            seed,
            distance=_auroc,
        )
        if (
            told["gap"] in (0, 1)
            # no resample differs; Wilson's, as if a share of the patients of the rarer side
        ):
            n = min(len(set(p)) for p in who)
            told["low"], told["high"] = stats.binomtest(
                int(told["gap"]) * n, n
            ).proportion_ci(method="wilson")
        yield told
    deals = [
        np.random.default_rng([seed, k]).permutation(np.unique(who[1]))[::2]
        for k in range(20)
    ]
    for name, v in (
        ("grey values and spectrum", look[1]),
        ("small pixels", _thumbs(pixels[1])),
    ):
        told = [
            _auroc(*_scores(v, np.isin(who[1], half) + 0, who[1], seed))
            for half in deals
        ]
        row = (
            f"AUROC, {name}, real against real",
            np.nan,
            np.nan,
            np.mean(told),
            *np.quantile(told, [0.025, 0.975]),
        )
        yield dict(zip(COLUMNS, (*row, 0, len(who[1])), strict=True))


def realism(
    table: pd.DataFrame,
    real: pd.DataFrame,
    *,
    size: int = 128,
    seed: int = 0,
    n_boot: int = 200,
) -> Realism:
    """Compare virtual with real images and say how far they are apart.

    >>> print(rw.simulate.realism(rw.simulate.cohort(n=200), real[real.view.isin(["PA", "AP"])]))

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
    sides = dict(virtual=table, real=real)
    _check(sides, size)
    who = [t["patient_id"].astype(str).to_numpy() for t in sides.values()]
    pixels = [images(t, size, fit="crop") for t in sides.values()]
    grey, power = [_greys(p) for p in pixels], [spectrum(p / 255) for p in pixels]
    rng, n = (
        np.random.default_rng(seed),
        min(len(set(p)) for p in who),
    )  # among more neighbours the nearest is nearer
    kept = [np.isin(p, rng.choice(np.unique(p), n, replace=False)) for p in who]
    near = [nearest(x[k], p[k]) for x, p, k in zip(pixels, who, kept, strict=True)]
    people = [p[k] for p, k in zip(who, kept, strict=True)]
    rows = [
        *_rows(
            partial(_row, patients=who, n_boot=n_boot, seed=seed),
            grey,
            power,
            sides.values(),
        ),
        _row(
            "nearest other patient, correlation",
            near,
            people,
            n_boot,
            seed,
            one=np.mean,
        ),
        *_classifiers(pixels, grey, power, who, n_boot, seed),
    ]
    about = " against ".join(
        f"{len(p)} {k} images of {len(set(p))} patients"
        for k, p in zip(sides, who, strict=True)
    )
    greys, cycles = (
        {k: x.mean(0) for k, x in zip(sides, two, strict=True)} for two in (grey, power)
    )
    return Realism(
        pd.DataFrame(rows),
        pd.DataFrame({"grey": np.arange(256) / 255, **greys}),
        pd.DataFrame({"cycles": np.arange(size // 2) + 1, **cycles}),
        dict(zip(sides, near, strict=True)),
        f"{about}, {size} x {size} px; intervals from {n_boot} resamples of the patients",
    )


def _rows(row, grey, power, sides):
    value = np.arange(256) / 255
    yield row("grey value, mean", [g @ value for g in grey], one=np.mean)
    yield row(
        "grey values, Wasserstein distance",
        grey,
        distance=lambda a, b: stats.wasserstein_distance(
            value, value, a.sum(0), b.sum(0)
        ),
    )
    yield row("power spectrum, slope", [slope(p) for p in power], one=np.mean)
    for f in 2 ** np.arange(
        1, int(np.log2(power[0].shape[1]))
    ):  # octaves; column 0 is 1 cycle
        yield row(
            f"power at {f}-{2 * f} cycles, dB",
            [p[:, f - 1 : 2 * f - 1].mean(1) for p in power],
            one=np.mean,
        )
    for name in RATIOS:
        values = [
            t[name].to_numpy(float)
            for t in sides
            if name in t and t[name].notna().sum() >= MIN_IMAGES
        ]
        if len(values) == 2:
            yield from (
                row(f"{name}, {what}", values, one=one) for what, one in NUMBERS.items()
            )
            yield row(
                f"{name}, Kolmogorov-Smirnov",
                values,
                distance=lambda a, b: (
                    stats.ks_2samp(a[a == a], b[b == b], method="asymp").statistic
                ),
            )


def _check(sides, size):
    for name, side in sides.items():
        n, people = len(check_table(side)), side["patient_id"].nunique()
        if n < MIN_IMAGES or people < MIN_PATIENTS:
            least = f"{MIN_IMAGES} {name} images of {MIN_PATIENTS} patients or more"
            raise ValueError(
                f"expected {least}, got {n} of {people}. Try rw.simulate.cohort(n=200) or a larger set."
            )
    if shared := set.intersection(
        *(set(side["path"].astype(str)) for side in sides.values())
    ):
        raise ValueError(
            f"expected different images, got {len(shared)} on both sides. Try two halves, by patient."
        )
    if size % THUMB or size < 2 * THUMB:
        raise ValueError(
            f"expected a size of {2 * THUMB}, {3 * THUMB}, ... px, got {size}. Try 128"
        )
