"""A figure of each kind that radwb.show makes, with words as long as real ones."""

import numpy as np
import pandas as pd

import radwb as rw
from radwb.attend.map import Map

RNG = np.random.default_rng(0)
TITLE = "The map follows the lesion in three of four films, brightness in the fourth"
CAPTION = (
    "462 films of 269 unseen virtual patients; bars are 95 % intervals by patient; "
    "dashed: the AUROC of a guess"
)
WORDS = dict(title=TITLE, caption=CAPTION)
FINDINGS = [
    "Pleural Effusion",
    "Cardiomegaly",
    "Atelectasis",
    "Pneumothorax",
    "Consolidation",
    "Edema",
]


def figures():
    return images() | charts() | {"live": training().figure()}


def images():
    ramp = np.tile(np.linspace(0, 1, 120, dtype=np.float32), (80, 1))
    scan = rw.data.Scan(ramp, (2.0, 1.0), "PA", "DX")
    mask = np.zeros(scan.shape, bool)
    mask[20:40, 30:60] = True
    values = mask + 0.1 * RNG.random(mask.shape, dtype=np.float32)
    m = Map(values, "relevance", target="pleural effusion", model="radwb-tiny")
    headings = [f"{finding}: 0.83 vs 0.21" for finding in FINDINGS[:5]]
    five = dict(titles=headings, maps=[m] * 5, columns=5, cell=180)
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [2.5, 0, 0, 0], [0, 0, 0, 1.0]])
    voxels = RNG.normal(0, 300, (40, 64, 64)).astype(np.float32)
    return {
        "scan": rw.show.scan(scan, truth=mask, **WORDS),
        "overlay": rw.show.overlay(scan, m, truth={"Edema": mask}, caption=CAPTION),
        "five columns": rw.show.grid([scan] * 5, **five, **WORDS),
        "sheet": rw.show.grid([scan] * 8, truth={"Edema": mask}, **WORDS),
        "planes": rw.show.planes(rw.data.Volume(voxels, affine, "CT"), title=TITLE),
    }


def charts():
    auroc = RNG.uniform(0.5, 0.9, 6)
    rows = pd.DataFrame({"finding": FINDINGS, "auroc": auroc})
    rows = rows.assign(low=auroc - 0.1, high=auroc + 0.05, n=462, patients=269)
    arms = ("zero-shot", "linear probe", "untrained tower")
    many = pd.concat([rows.assign(arm=arm) for arm in arms])
    steps = np.arange(50)
    log = pd.DataFrame({"step": steps, "loss": 4 - steps / 25, "recall": steps / 100})
    series = {"zero-shot": rows, "linear probe of 16 x 16 pixels": rows}
    matrix = pd.DataFrame(
        RNG.random((6, 6)),
        [f"a small {finding} on the left" for finding in FINDINGS],
        [f"no {finding} is seen" for finding in FINDINGS],
    )
    ages = {"ill": RNG.normal(60, 9, 99), "well": RNG.normal(50, 9, 99)}
    bars = dict(x="finding", y="auroc", group="arm", line=0.5, width=1000)
    places = RNG.normal(size=(60, 2))
    return {
        "forest": rw.show.forest(series, title=TITLE),
        "bars": rw.show.bars(many, **bars, **WORDS),
        "curve": rw.show.curve(log, lines={"loss": np.log(64)}, **WORDS),
        "heatmap": rw.show.heatmap(matrix, label="cosine similarity", **WORDS),
        "hist": rw.show.hist(ages, x_title="age (years)", **WORDS),
        "scatter": rw.show.scatter(places, colour=FINDINGS * 10, **WORDS),
    }


def training():
    texts = [f"{finding} is seen, report {n}" for n in range(3) for finding in FINDINGS]
    plot = rw.show.live(texts, batch=64)
    plot(
        {
            "step": 100,
            "epoch": 3,
            "loss": 3.1,
            "images_per_s": 1234.5,
            "val_loss": 3.4,
            "logit_scale": 14.3,
            "image_to_text_recall_1": 0.1,
            "text_to_image_recall_1": 0.2,
            "similarity": RNG.normal(0, 0.3, (16, 16)),
            "warning": "all vectors look alike, the temperature may be too high",
        }
    )
    return plot
