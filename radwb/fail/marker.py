"""Things that are burnt into a film and say nothing of the patient: a box, the name of
an X-ray room, a drain.
"""

import numpy as np

from radwb.data.letters import letters

KINDS, CORNERS = (
    ("box", "room", "drain"),
    ("top-left", "top-right", "bottom-left", "bottom-right"),
)
# no letter R or L, which would name a side, nor a word on how the patient was filmed
WORDS = "ROOM 2"
BRIGHT = 245


def add_marker(
    images, where=None, *, kind="box", corner="top-right", seed=0
) -> np.ndarray:
    """Burn a bright marker into some of the images.

    >>> add_marker(images, images_of_cases, kind="room")

    The jitter of image i depends on `seed` and i alone, so the same image with and
    without it is a counterfactual pair.

    Args:
        images: (N, S, S) uint8.
        where: (N,) bool, which images get it; None = all.
        kind: "box", "room" (the words ROOM 2 on a dark plate, a department's mark) or
            "drain" (a thin curve that enters from the side).
        corner: "top-left", "top-right", "bottom-left" or "bottom-right" of the picture;
            a drain takes its side.
        seed: of a jitter of up to 1/40 of the side.
    Returns:
        (N, S, S) uint8, a copy.
    Raises:
        ValueError: another kind, corner, type or shape; words on images under 40 px.
    """
    if kind not in KINDS or corner not in CORNERS:
        raise ValueError(
            f"expected kind in {KINDS} and corner in {CORNERS}, got {kind!r}, {corner!r}"
        )
    out = np.array(images)
    if out.ndim != 3 or out.shape[1] != out.shape[2] or out.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 images (N, S, S), got {out.dtype} {out.shape}. Try rw.data.images(table, S)"
        )
    where = np.ones(len(out), bool) if where is None else np.asarray(where, bool)
    if len(where) != len(out):
        raise ValueError(
            f"expected one flag an image, got {len(where)} for {len(out)} images"
        )
    S = out.shape[1]
    jitter = np.random.default_rng(seed).integers(0, S // 40 + 1, size=(len(out), 2))
    stamp = _stamp(kind, S)
    if kind == "room" and S < 40:
        raise ValueError(
            f"expected images of 40 px or more for words, got {S}. Try kind='box'"
        )
    if "right" in corner and kind == "drain":
        stamp = stamp[:, ::-1]
    for i in np.flatnonzero(where):
        rows, columns = _place(kind, corner, S, stamp.shape, jitter[i])
        covered = stamp >= 0
        out[i, rows, columns][covered] = stamp[covered]
    return out


def _stamp(kind, S):
    """(h, w) grey values to burn in, -1 where the film stays as it is."""
    unit = max(1, S // 80)
    if kind == "box":
        return np.full((6 * unit, 6 * unit), BRIGHT)
    if kind == "room":
        # on a dark plate, so that one reads it on a white abdomen
        return letters(WORDS, max(6, S // 14), grey=BRIGHT).astype(int)
    t = np.linspace(0, 1, 4 * S)  # a quadratic curve from the chest wall up to the apex
    y, x = 0.5 * (1 - t) ** 2 + 0.6 * t * (1 - t), 0.62 * t * (1 - t) + 0.3 * t**2
    curve = np.full((int(0.55 * S), int(0.4 * S)), -1)
    for dy in range(unit):
        for dx in range(unit):
            curve[(y * S).astype(int) + dy, (x * S).astype(int) + dx] = BRIGHT
    return curve


def _place(kind, corner, S, shape, jitter):
    margin = S // 20
    top = (
        S // 6
        if kind == "drain"
        else margin
        if "top" in corner
        else S - margin - shape[0] - S // 40
    )
    left = 0 if kind == "drain" else margin
    left = left if "left" in corner else S - left - shape[1]
    down, across = (
        jitter[0],
        0 if kind == "drain" else jitter[1] * (1 if "left" in corner else -1),
    )
    return slice(top + down, top + down + shape[0]), slice(
        left + across, left + across + shape[1]
    )


def confound(y, strength: float, *, seed=0) -> np.ndarray:
    """Which images carry the marker: `strength` of those with the finding, 1 -
    `strength` of those without.

    >>> confound([1, 1, 0, 0], 1.0)
    array([ True,  True, False, False])

    Args:
        y: (N,) labels 1 and 0.
        strength: 1 ties the marker to the finding, 0.5 is no tie, 0 ties it to the
            finding's absence.
    """
    if not 0 <= strength <= 1:
        raise ValueError(
            f"expected a strength from 0 (tied to absence) over 0.5 (no tie) to 1 (tied), got {strength}"
        )
    y, rng = np.asarray(y), np.random.default_rng(seed)
    out = np.zeros(len(y), bool)
    for value, share in ((1, strength), (0, 1 - strength)):
        rows = rng.permutation(np.flatnonzero(y == value))
        out[rows[: round(share * len(rows))]] = True
    return out
