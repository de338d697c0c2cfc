"""Ratios of a chest from a film's masks: how wide the heart, how large the lungs."""

from pathlib import Path

import numpy as np
import pandas as pd

from radwb.data import read, scan_of

RATIOS = ("cardiothoracic_ratio", "lung_area", "lung_box_share", "lung_height_width")


def anatomy_ratios(
    lungs: np.ndarray, heart: np.ndarray | None = None
) -> dict[str, float]:
    """Ratios of a frontal chest film from its masks.

    >>> lungs = np.zeros((10, 10), bool)
    >>> lungs[2:8, 1:9] = True
    >>> heart = np.zeros((10, 10), bool)
    >>> heart[5:8, 4:8] = True
    >>> anatomy_ratios(lungs, heart)["cardiothoracic_ratio"]
    0.5

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
    if heart is None:
        heart = np.zeros(lungs.shape, bool)
    heart = np.asarray(heart, bool)
    if heart.shape != lungs.shape:
        raise ValueError(
            f"expected a heart mask of the lungs' shape {lungs.shape}, got "
            f"{heart.shape}"
        )
    if not lungs.any():
        return dict.fromkeys(RATIOS, np.nan)
    height = _extent(lungs.any(1))
    width = _extent(lungs.any(0))
    thorax = max(_extent(row) for row in lungs if row.any())
    ratio = _extent(heart.any(0)) / thorax if heart.any() else np.nan
    values = (
        float(ratio),
        lungs.mean(),
        lungs.sum() / (height * width),
        height / width,
    )
    return dict(zip(RATIOS, values, strict=True))


def _extent(line):
    """From the first to the last True, both counted."""
    return np.ptp(np.flatnonzero(line)) + 1


def add_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the anatomy of your own films with virtual ones: add `anatomy_ratios`.

    >>> rw.simulate.add_ratios(table.head(1))["lung_area"].tolist()
    [nan]

    Lungs are `scan.truth["lungs"]`; the heart is `scan.truth["heart"]`, else the
    drawing named by the column `mask_cardiomediastinum` (covid-masks), widest at the
    heart. Don't mix areas of sets: covid-masks draws the lungs behind heart and
    diaphragm, as projected lungs lie; covid-text's machine-made masks don't.

    Args:
        table: with masks, as `rw.data.real("covid-masks")` has them.
    Returns:
        the table with the four columns; NaN without both lungs.
    """
    rows = [_ratios(row) for row in table.to_dict("records")]
    return table.assign(**pd.DataFrame(rows, table.index, [*RATIOS]))


def _ratios(row):
    columns = ("truth_path", "mask_left_lung", "mask_right_lung")
    is_complete = all(isinstance(row[c], str) for c in columns if c in row)
    truth = scan_of(row).truth if is_complete else {}
    if "lungs" not in truth:
        return dict.fromkeys(RATIOS, np.nan)
    heart = truth.get("heart")
    drawing = row.get("mask_cardiomediastinum")
    if heart is None and isinstance(drawing, str):
        heart = read(Path(row["path"]).parents[1] / drawing).pixels > 0.5
    return anatomy_ratios(truth["lungs"], heart)
