"""Films that can't be used, or aren't what the others are."""

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from radwb.curate.audit.align import SIDE, correlation
from radwb.curate.audit.pictures import FLAT, Pictures
from radwb.curate.audit.result import row
from radwb.identifiers import identifiers

CLIPPED = 0.5  # of the pixels at the end of the scale
BORDER = 0.6  # of the pixels black: little is left of the film
OPPOSITE = -0.4  # correlation with the mean film
BLUR = 8  # px of 64 that are one when polarity is looked at
AT_ONCE = 1_000  # films
VIEWS = ("PA", "AP", "LATERAL", "LL", "RL")


def odd_films(table: pd.DataFrame, pictures: Pictures) -> tuple[list[dict], list]:
    """A row for each oddity, and the flags of single films (row, check)."""
    facts = pictures.facts
    unreadable = (facts["problem"] != "").to_numpy()
    usable = pictures.usable
    black, white = facts["black"].to_numpy(), facts["white"].to_numpy()
    alike = _like_the_mean(pictures)
    found = {
        "unreadable": ("look", unreadable, "can't be read"),
        "constant": ("look", ~usable & ~unreadable, f"vary by under {FLAT} of 255"),
        "overexposed": ("look", usable & (white > CLIPPED), "are half white or more"),
        "cropped": ("note", usable & (black > BORDER), "are mostly black border"),
        "polarity": (
            "look",
            usable & (alike < OPPOSITE),
            "are dark where the others are bright: perhaps inverted",
        ),
    }
    rows, flags = [], []
    for check, (severity, places, words) in found.items():
        places = np.flatnonzero(places)
        if not len(places):
            continue
        sentence = f"{len(places)} of {len(table)} films {words}"
        why = facts["problem"].iloc[places[0]]
        rows.append(_row(table, check, severity, sentence, places, why))
        flags += [{"row": place, "check": check} for place in places]
    return rows, flags


def _row(table, check, severity, sentence, places, why=""):
    patients = identifiers(table["patient_id"])[places]
    return row(
        check,
        severity,
        f"{sentence}, such as: {why}" if why else sentence,
        n=len(places),
        of=len(table),
        patients=len(set(patients)),
        evidence=tuple(places[:2]) if check != "unreadable" else (),
    )


def views(table: pd.DataFrame) -> list[dict]:
    """Rows whose view is missing, or is none."""
    if "view" not in table.columns or table["view"].isna().all():
        return []
    view = table["view"]
    missing = np.flatnonzero(view.isna() | (view == ""))
    other = np.flatnonzero(view.notna() & (view != "") & ~view.isin(VIEWS))
    rows = []
    if len(missing):
        sentence = f"{len(missing)} of {len(table)} rows have no view"
        rows.append(_row(table, "view missing", "note", sentence, missing))
    if len(other):
        names = ", ".join(sorted(view.iloc[other].astype(str).unique())[:5])
        sentence = f"{len(other)} rows have a view that isn't one of {VIEWS}: {names}"
        rows.append(_row(table, "view unknown", "note", sentence, other))
    return rows


def _like_the_mean(pictures):
    """(N,) correlation of each blurred film with the median of all that show something.

    0 where there are too few films for a median to mean anything.
    """
    usable = pictures.usable
    out = np.zeros(len(usable))
    if usable.sum() < 8:
        return out
    films = np.flatnonzero(usable)
    coarse = torch.cat([_coarse(pictures.small[some]) for some in _parts(films)])
    middle = coarse.median(0).values.expand_as(coarse)
    side = SIDE // BLUR
    out[usable] = correlation(coarse, middle, torch.ones(len(coarse), side, side))
    return out


def _parts(films):
    """Some films at a time: all of them in floats would be most of the memory."""
    return np.split(films, range(AT_ONCE, len(films), AT_ONCE))


def _coarse(small):
    small = torch.from_numpy(small.astype(np.float32))
    return F.avg_pool2d(small[:, None], BLUR)[:, 0]
