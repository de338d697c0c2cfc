"""Proof that the CT's own tumour is gone: a classifier of planted lesions asks its
place and the mirrored one.

python benchmarks/true_ground.py        two cohorts of 1,200 films (two minutes), then
seconds

The same virtual patients are filmed twice, with the CT as scanned and repaired; the
difference of the two films tells where the tumour's place lies in each. A logistic
regression on small windows learns planted lesions from the repaired training films;
then it scores, on unseen films without a lesion, the window at the place and its mirror
image's.
"""

import numpy as np
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import radwb as rw

N = 1200
REACH = 14  # px: windows of 28 x 28, about 5 cm
LESION = "Lung Lesion"


def cohorts():
    scanned = rw.simulate.default_anatomy(as_scanned=True)
    as_scanned = rw.simulate.cohort(n=N, seed=0, anatomy=scanned)
    return as_scanned, rw.simulate.cohort(n=N, seed=0)


def places(as_scanned, repaired):
    """(N, 2) row and column where the two films of a study differ most, in the lower
    left lung's quarter.
    """
    found = []
    for one, other in zip(as_scanned["path"], repaired["path"], strict=True):
        change = rw.data.read(one).pixels - rw.data.read(other).pixels
        smooth = ndimage.gaussian_filter(change, 4)
        smooth[:48] = 0
        smooth[104:] = 0
        smooth[:, :84] = 0
        smooth[:, 132:] = 0
        found.append(np.unravel_index(smooth.argmax(), smooth.shape))
    return np.array(found)


def window(pixels, row, column, mirrored=False):
    """(784,) grey values around a place, less their mean; turned over where it's the
    other lung's.
    """
    padded = np.pad(pixels, REACH, mode="edge")
    cut = padded[row : row + 2 * REACH, column : column + 2 * REACH]
    cut = cut[:, ::-1] if mirrored else cut
    return (cut - cut.mean()).ravel()


def training_windows(table, rng):
    """Windows on planted lesions, and as many anywhere in the lungs of films without
    one.
    """
    windows, truth = [], []
    lungs = lung_places(table)
    for _, row in table.iterrows():
        scan = rw.data.scan_of(row)
        mask = scan.truth.get(LESION)
        if mask is not None and mask.any():
            at = np.round(ndimage.center_of_mass(mask)).astype(int)
        elif row[LESION] == 0:
            at = lungs[rng.integers(len(lungs))]
        else:
            continue
        windows.append(window(scan.pixels, *at, mirrored=at[1] < 80))
        truth.append(row[LESION])
    return np.array(windows), np.array(truth)


def lung_places(table):
    """(M, 2) places that lesions have in this table: controls lie where cases do."""
    found = []
    for _, row in table[table[LESION] == 1].iterrows():
        mask = rw.data.scan_of(row).truth.get(LESION)
        if mask is not None and mask.any():
            found.append(np.round(ndimage.center_of_mass(mask)).astype(int))
    return np.array(found)


def main():
    as_scanned, repaired = cohorts()
    at = places(as_scanned, repaired)
    test = (repaired["split"] == "test").to_numpy()
    rng = np.random.default_rng(0)
    learn = make_pipeline(
        StandardScaler(), PCA(60, random_state=0), LogisticRegression()
    )
    learn.fit(*training_windows(repaired[~test], rng))
    windows, truth = training_windows(repaired[test], rng)
    value = rw.stats.auroc(truth, learn.decision_function(windows))
    print(f"windows on lesions against others, unseen patients: AUROC {value:.2f}")
    free = np.flatnonzero(test & (repaired[LESION] == 0).to_numpy())
    patients = repaired["patient_id"].to_numpy()[free]
    for name, table in (("as scanned", as_scanned), ("repaired", repaired)):
        here, mirror = [], []
        for i in free:
            pixels = rw.data.read(table["path"].iloc[i]).pixels
            row, column = at[i]
            here.append(window(pixels, row, column))
            mirror.append(window(pixels, row, 159 - column, mirrored=True))
        scores = [learn.decision_function(np.array(w)) for w in (here, mirror)]
        names = ("the tumour's place", "the mirrored place")
        what = "logit of a lesion"
        compared = rw.stats.compare(*scores, patients, names=names, what=what, family=2)
        print(f"{name}: {compared}")


if __name__ == "__main__":
    main()
