"""What isn't normal in the CT behind the simulator, and what is done about it."""

import pandas as pd

COLUMNS = (
    "structure",
    "what isn't normal",
    "voxel x, y, z",
    "mm L, P, S",
    "contrast to noise PA, AP",
    "what is done",
)

# Read once by the makers in a lung and a soft-tissue window, all 133 slices, with
# `repair.blob_response` as a second reader of the lungs; no radiologist signed it.
# Contrast to noise as `plant` computes it, at 320 px; n/a: nothing to see on a film.
READ = (
    (
        "lungs",
        "spiculated mass, 23 mm, superior segment of the left lower lobe",
        "317, 145, 90",
        "57, 86, -115",
        "0.51, 0.43",
        "replaced by lung from the other side",
    ),
    (
        "lungs",
        "band, 25 mm, lingula beside the heart's apex: scar or atelectasis",
        "402, 303, 61",
        "117, -25, -188",
        "0.30, 0.26",
        "replaced by lung from higher up",
    ),
    ("pleura", "nothing seen", "", "", "n/a", ""),
    (
        "mediastinum",
        "gas in a wide lower oesophagus: small hiatal hernia",
        "281, 258, 46",
        "32, 6, -225",
        "n/a",
        "stays",
    ),
    (
        "heart, vessels",
        "iodine, 200 to 600 HU",
        "",
        "",
        "would be like bone",
        "clipped to 60 HU",
    ),
    (
        "vessels",
        "undiluted contrast, up to 3,071 HU, in the right subclavian vein; the mask "
        "calls 1,515 voxels rib 1 or 2",
        "159, 298, 115",
        "-54, -22, -53",
        "0.58, 0.66",
        "no bone any more, so clipped to 60 HU",
    ),
    (
        "bones",
        "spurs and dense end plates of the lower spine, a bend to one side",
        "",
        "",
        "n/a",
        "stays",
    ),
    (
        "bones",
        "calcified rib cartilage",
        "",
        "",
        "small dots",
        "stays, as in most adults",
    ),
    (
        "upper abdomen",
        "a metal clip where the gall bladder was",
        "182, 326, 29",
        "-38, -42, -267",
        "n/a",
        "clipped to 60 HU",
    ),
    ("tubes", "none in the chest", "", "", "n/a", ""),
    (
        "position",
        "arms raised; the left lung's apex stands 15 mm higher",
        "",
        "",
        "on every film",
        "stays",
    ),
)


def ct_findings() -> pd.DataFrame:
    """What a film of the simulator may show that you didn't plant: its CT's findings.

    >>> rw.simulate.ct_findings()["structure"][0]
    'lungs'

    Returns:
        `COLUMNS`, all words; places in voxels of `cxr.nii.gz` and in mm to the left,
        posterior, superior.
    """
    return pd.DataFrame(READ, columns=COLUMNS)
