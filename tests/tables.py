"""Tables that several test files start from."""

import numpy as np
import pandas as pd
from PIL import Image

import radwb as rw


def patients_table(patients, findings, *, images=(1, 3), train=None, seed=0):
    """Films of patients with images[0] to images[1] each; a label holds for a patient.

    Args:
        findings: name -> share of the patients who have it.
        train: so many patients are in split "train", the others in "test".
    """
    rng = np.random.default_rng(seed)
    fewest, most = images
    patient = np.repeat(np.arange(patients), rng.integers(fewest, most + 1, patients))
    table = pd.DataFrame({"patient_id": [f"p{p}" for p in patient]})
    table["path"] = [f"{film}.png" for film in table.index]
    for finding, share in findings.items():
        table[finding] = (rng.random(patients) < share)[patient].astype(int)
    if train is not None:
        table["split"] = np.where(patient < train, "train", "test")
    return table


def films_table(folder, pixels, *, patient_id=None, **columns):
    """Films written to `folder` as 000.png, 001.png, ...; a patient each, unless said.

    Args:
        pixels: (N, H, W) uint8.
        columns: further columns, a value a film.
    """
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{film:03d}.png" for film in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    if patient_id is None:
        patient_id = [f"p{film}" for film in range(len(pixels))]
    files = {"path": [str(path) for path in paths], "patient_id": patient_id}
    return pd.DataFrame(files | columns)


def noise_films(n, *, below=255, side=32, seed=0):
    """(n, S, S) uint8 of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, below, (n, side, side), dtype=np.uint8)


def squares_table(folder, n=80, size=32):
    """Films with a bright square on the patient's left, right, or none; reports say so.

    n rows for training and validation, then a quarter as many for the test: films of
    nothing but white, and a word that stands in no other report.
    """
    rng = np.random.default_rng(0)
    sides = [("left", "right", "")[film % 3] for film in range(n)]
    unseen = range(n, n + n // 4)
    seen_films = [square_film(rng, side, size) for side in sides]
    white_films = [np.full((size, size), 255 - k % 9, np.uint8) for k in unseen]
    return films_table(
        folder,
        seen_films + white_films,
        split=["val" if film % 5 == 4 else "train" for film in range(n)]
        + ["test"] * len(unseen),
        report=[square_report(side) for side in sides]
        + [f"FINDINGS: Xylophone. IMPRESSION: Xylophone {k}." for k in unseen],
        **{
            "Lung Lesion": [float(side != "") for side in sides]
            + [k % 2 for k in unseen]
        },
    )


def square_film(rng, side, size):
    """(S, S) uint8 of noise; the patient's left is on the right of the picture."""
    pixels = rng.integers(0, 80, (size, size)).astype(np.uint8)
    if side:
        y = int(rng.integers(0, size // 2))
        x = 3 + (size // 2) * (side == "left") + int(rng.integers(0, 3))
        pixels[y : y + 9, x : x + 9] = 220
    return pixels


def square_report(side):
    if not side:
        return "FINDINGS: Nothing. IMPRESSION: No square."
    return (
        f"FINDINGS: There is a square {side}. IMPRESSION: Bright square on the {side}."
    )


def effusion_table():
    """Six virtual patients: two with an effusion, three without, one with."""
    films = rw.simulate.cohort(n=24, seed=0)
    ill = films["Pleural Effusion"] == 1
    rows = [films[ill].head(2), films[~ill].head(3), films[ill].iloc[2:3]]
    return pd.concat(rows).reset_index(drop=True)
