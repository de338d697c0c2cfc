"""Does a model tell left from right?"""

import numpy as np
import pandas as pd

from radwb import data
from radwb.stats import patient_means

SIZES = ("small", "moderate", "large")  # a report hardly names a finding and its side without one


def mirrored_sides(
    model, table: pd.DataFrame, *, finding: str = "Pleural Effusion", n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Does a model tell the finding's side, and what does it say of the mirror image, under the report as it is?

    Where it tells sides, it's right on films and wrong on mirrors: a flip would have made the report false. It is
    asked as reports are written, with each size in turn, and the mean of these answers counts.

    Args:
        model: a Model of kind "image-text".
        table: with path, patient_id and "FINDING side"; only rows with "left" or "right" count.
    Returns:
        index film, mirror; right: the share of images nearer to "SIZE SIDE FINDING" than to the other side's; low,
        high: 95 % over resampled patients; n images.
    """
    rows = table[table[f"{finding} side"].isin(["left", "right"])]
    if rows.empty:
        raise ValueError(f"expected rows with 'left' or 'right' in {finding + ' side'!r}, got none of {len(table)}")
    import torch

    from radwb.models import embed  # loads torch, which numbers alone don't need

    squares = data.images(rows, model.size, fit=model.fit)  # (N, S, S)
    texts = [f"{size} {side} {finding.lower()}" for side in ("left", "right") for size in SIZES]
    with torch.no_grad():
        points = model.encode_text(texts).cpu().numpy()  # (2 * sizes, E)
    left, right = points.reshape(2, len(SIZES), -1).mean(axis=1)
    true = np.where(rows[f"{finding} side"] == "left", 1, -1)  # (N,)
    out = {}
    for name, images in (("film", squares), ("mirror", squares[:, :, ::-1])):
        hits = embed(model, images) @ (left - right) * true > 0  # (N,)
        means = patient_means(hits, rows["patient_id"], n_boot=n_boot, seed=seed)
        low, high = np.percentile(means, [2.5, 97.5])
        out[name] = {"right": hits.mean(), "low": low, "high": high, "n": len(hits)}
    return pd.DataFrame(out).T.astype({"n": int})
