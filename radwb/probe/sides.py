"""Does a model tell left from right?"""

import numpy as np
import pandas as pd

from radwb import data
from radwb.stats import clustered_mean

SIZES = (
    "small",
    "moderate",
    "large",
)  # a report hardly names a finding and its side without one


def laterality_check(
    model, table: pd.DataFrame, *, finding: str = "Pleural Effusion"
) -> pd.DataFrame:
    """Does a model tell the finding's side, and what does it say of the mirror image,
    under the report as it is?

    Where it tells sides, it's right on films and wrong on mirrors: a flip would have
    made the report false. It is asked as reports are written, with each size in turn,
    and the mean of these answers counts.

    Args:
        model: a Model of kind "image-text".
        table: with path, patient_id and "FINDING side"; only rows with "left" or
            "right" count.
    Returns:
        index film, mirror; right: the share of images nearer to "SIZE SIDE FINDING"
        than to the other side's; low,
        high: 95 % by patient (`rw.stats.clustered_mean`); n images, patients, note (why
            there is no interval, else "").
    """
    rows = table[table[f"{finding} side"].isin(["left", "right"])]
    if rows.empty:
        raise ValueError(
            f"expected rows with 'left' or 'right' in {finding + ' side'!r}, got none of {len(table)}"
        )
    import torch

    from radwb.models import embed  # loads torch, which numbers alone don't need

    squares = data.images(rows, model.size, fit=model.fit)  # (N, S, S)
    texts = [
        f"{size} {side} {finding.lower()}"
        for side in ("left", "right")
        for size in SIZES
    ]
    with torch.no_grad():
        points = model.encode_text(texts).cpu().numpy()  # (2 * sizes, E)
    left, right = points.reshape(2, len(SIZES), -1).mean(axis=1)
    true = np.where(rows[f"{finding} side"] == "left", 1, -1)  # (N,)
    rights = []
    for images in (squares, squares[:, :, ::-1]):
        hits = embed(model, images) @ (left - right) * true > 0  # (N,)
        rights.append(clustered_mean(hits, rows["patient_id"], share=True))
    out = pd.DataFrame(rights, index=["film", "mirror"])
    return out.rename(columns={"mean": "right"})
