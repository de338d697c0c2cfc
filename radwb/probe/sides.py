"""Does a model tell left from right?"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radwb import data
from radwb.stats import clustered_mean

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model

# a report hardly names a finding and its side without one
SIZES = ("small", "moderate", "large")


def laterality_check(
    model: "Model", table: pd.DataFrame, *, finding: str = "Pleural Effusion"
) -> pd.DataFrame:
    """Whether your model tells left from right, on films and on their mirror images.

    >>> laterality_check(model, table).index.tolist()
    ['film', 'mirror']

    The report stays as it is. Where the model tells sides, it's right on films and
    wrong on mirrors: a flip would have made the report false. It is asked as reports
    are written, with each size in turn, and the mean of these answers counts.

    Args:
        model: a Model of kind "image-text".
        table: with path, patient_id and "FINDING side"; only rows with "left" or
            "right" count.
        finding: whose side is asked for.
    Returns:
        index film, mirror; right: the share of images nearer to "SIZE SIDE FINDING"
        than to the other side's; low, high: 95 % by patient
        (`rw.stats.clustered_mean`); n images, patients, note (why there is no interval,
        else "").
    Raises:
        ValueError: no row has a side.
    """
    rows = table[table[f"{finding} side"].isin(["left", "right"])]
    if rows.empty:
        raise ValueError(
            f"expected rows with 'left' or 'right' in {finding + ' side'!r}, "
            f"got none of {len(table)}"
        )
    from radwb.models import embed

    squares = data.images(rows, model.size, fit=model.fit)  # (N, S, S)
    toward_left = _toward_left(model, finding)
    true = np.where(rows[f"{finding} side"] == "left", 1, -1)  # (N,)
    shares = []
    for images in (squares, squares[:, :, ::-1]):
        hits = embed(model, images) @ toward_left * true > 0  # (N,)
        shares.append(clustered_mean(hits, rows["patient_id"], share=True))
    table = pd.DataFrame(shares, index=["film", "mirror"])
    return table.rename(columns={"mean": "right"})


def _toward_left(model, finding):
    """(E,) the mean of the phrases with "left" less that with "right"."""
    import torch

    name = finding.lower()
    texts = [f"{size} {side} {name}" for side in ("left", "right") for size in SIZES]
    with torch.no_grad():
        points = model.encode_text(texts).cpu().numpy()  # (2 * sizes, E)
    left, right = points.reshape(2, len(SIZES), -1).mean(axis=1)
    return left - right
