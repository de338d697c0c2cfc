"""What is measured of films to compare two sets: grey values, spectrum, likeness."""

import numpy as np
from scipy.stats import rankdata

from radwb.stats import auroc

THUMB = 16  # side of small images, px


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """Radially averaged log power of images.

    Args:
        pixels: (N, side, side) grey, 0 to 1.
    Returns:
        (N, side // 2) dB at 1, 2, ... cycles a side.
    """
    side = pixels.shape[1]
    # without the Hann window opposite borders would pass for an edge
    hann = np.hanning(side + 1)[:-1]
    window = np.outer(hann, hann)
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.hypot(cycles[:, None], cycles).round().astype(int).ravel()
    spectra = np.empty((len(pixels), side // 2))
    for n, image in enumerate(pixels):
        flat = (image - np.average(image, weights=window)) * window
        power = abs(np.fft.fft2(flat)) ** 2 / (window**2).sum()
        mean = np.bincount(ring, power.ravel()) / np.bincount(ring)
        spectra[n] = mean[1 : side // 2 + 1]
    return 10 * np.log10(spectra + 1e-10)


def slope(spectra: np.ndarray) -> np.ndarray:
    """(N,) exponents of power over frequency: white noise 0, 1/f noise -2.

    They are fitted from 2 cycles a side on, octaves alike.
    """
    f = np.arange(2, spectra.shape[1] + 1)
    x = np.log10(f) - np.average(np.log10(f), weights=1 / f)
    return spectra[:, 1:] / 10 @ (x / f) / (x**2 / f).sum()


def greys(pixels: np.ndarray) -> np.ndarray:
    """(N, 256) share of the pixels of (N, side, side) uint8 by grey value."""
    counts = [np.bincount(image.ravel(), minlength=256) for image in pixels]
    return np.stack(counts) / pixels[0].size


def equalise(pixels: np.ndarray) -> np.ndarray:
    """(N, side, side) uint8 to each pixel's rank in its image, 0 to 1.

    No monotone display curve changes it.
    """
    ranks = rankdata(pixels.reshape(len(pixels), -1), axis=1)
    share = (ranks - 0.5) / pixels[0].size
    return share.astype(np.float32).reshape(pixels.shape)


def nearest(pixels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(N,) each image's highest correlation with an image of another patient."""
    z = _standard(pixels.astype(np.float32), pixels.shape[1])
    return np.where(patients[:, None] == patients, -1, z @ z.T / z.shape[1]).max(1)


def thumbs(pixels: np.ndarray) -> np.ndarray:
    """(N, THUMB) first principal components of the standardised thumbnails.

    They know no labels.
    """
    x = _standard(pixels, THUMB)
    u, d, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return (u * d)[:, :THUMB]


def _standard(pixels, side):
    """(N, side²) block means of each image, at mean 0 and standard deviation 1."""
    N = len(pixels)
    step = pixels.shape[1] // side
    blocks = pixels.reshape(N, side, step, side, step)
    x = blocks.mean((2, 4)).reshape(N, -1)
    return (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)


def scores(x, y, patients, seed):
    """Scores of the y = 1 and of the y = 0 by a classifier of patients new to it.

    It is a logistic regression told to tell them apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    model = LogisticRegression(C=0.1, class_weight="balanced", solver="liblinear")
    # a patient of one name on both sides: in one fold
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    score = cross_val_predict(
        model,
        x,
        y,
        groups=patients,
        cv=folds,
        method="decision_function",
    )
    return score[y == 1], score[y == 0]


def separation(cases, controls):
    """The AUROC of two samples of scores."""
    y = np.repeat([1, 0], [len(cases), len(controls)])
    return auroc(y, np.concatenate([cases, controls]))
