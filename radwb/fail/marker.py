"""Marks burnt into a film that say nothing of the patient: a box, a room, a drain."""

from collections.abc import Sequence

import numpy as np

from radwb.data.letters import letters

KINDS = ("box", "room", "drain")
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
# no letter R or L, which would name a side, nor a word on how the patient was filmed
WORDS = "ROOM 2"
BRIGHT = 245


def add_marker(
    images: np.ndarray,
    where: Sequence[bool] | None = None,
    *,
    kind: str = "box",
    corner: str = "top-right",
    seed: int = 0,
) -> np.ndarray:
    """Burn a bright marker into some of your images, to see whether a model reads it.

    >>> images = rw.data.images(table, 160)
    >>> marked = add_marker(images, table["Pleural Effusion"] == 1, kind="room")

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
            f"expected kind in {KINDS} and corner in {CORNERS}, "
            f"got {kind!r}, {corner!r}"
        )
    marked = np.array(images)
    square = marked.ndim == 3 and marked.shape[1] == marked.shape[2]
    if not square or marked.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 images (N, S, S), got {marked.dtype} {marked.shape}. "
            "Try rw.data.images(table, S)"
        )
    N, S, _ = marked.shape
    if where is None:
        where = np.ones(N, bool)
    elif len(where) != N:
        raise ValueError(f"expected one flag an image, got {len(where)} for {N} images")
    if kind == "room" and S < 40:
        raise ValueError(
            f"expected images of 40 px or more for words, got {S}. Try kind='box'"
        )
    rng = np.random.default_rng(seed)
    jitter = rng.integers(0, S // 40 + 1, size=(N, 2))  # (N, 2) down and across
    stamp = _stamp(kind, S)
    if kind == "drain" and "right" in corner:
        stamp = stamp[:, ::-1]
    inked = stamp >= 0
    for i in np.flatnonzero(where):
        rows, columns = _place(kind, corner, S, stamp.shape, jitter[i])
        marked[i, rows, columns][inked] = stamp[inked]
    return marked


def _stamp(kind, S):
    """(h, w) grey values to burn in, -1 where the film stays as it is."""
    unit = max(1, S // 80)
    if kind == "box":
        side = 6 * unit
        return np.full((side, side), BRIGHT)
    if kind == "room":
        # on a dark plate, so that one reads it on a white abdomen
        height = max(6, S // 14)
        plate = letters(WORDS, height, grey=BRIGHT)
        return plate.astype(int)
    return _drain(S, unit)


def _drain(S, width):
    """A quadratic curve from the chest wall up to the apex."""
    t = np.linspace(0, 1, 4 * S)  # along the curve
    left = 1 - t
    y = 0.5 * left**2 + 0.6 * t * left
    x = 0.62 * t * left + 0.3 * t**2
    rows = (y * S).astype(int)
    columns = (x * S).astype(int)
    shape = int(0.55 * S), int(0.4 * S)
    curve = np.full(shape, -1)
    for down in range(width):
        for across in range(width):
            curve[rows + down, columns + across] = BRIGHT
    return curve


def _place(kind, corner, S, shape, jitter):
    """Rows and columns of the stamp: in a corner, or for a drain at a side."""
    h, w = shape
    margin = S // 20
    down, across = jitter
    if kind == "drain":
        top = S // 6
        margin = across = 0
    elif "top" in corner:
        top = margin
    else:
        top = S - margin - h - S // 40
    top += down
    left = margin + across
    if "right" in corner:
        left = S - w - left
    rows = slice(top, top + h)
    columns = slice(left, left + w)
    return rows, columns


def confound(y: Sequence[int], strength: float, *, seed: int = 0) -> np.ndarray:
    """Which of your images carry the marker, at a strength of its tie to a finding.

    >>> confound([1, 1, 0, 0], 1.0)
    array([ True,  True, False, False])

    They are `strength` of those with the finding, 1 - `strength` of those without.

    Args:
        y: (N,) labels 1 and 0.
        strength: 1 ties the marker to the finding, 0.5 is no tie, 0 ties it to the
            finding's absence.
        seed: of the choice.
    Raises:
        ValueError: the strength isn't from 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(
            "expected a strength from 0 (tied to absence) over 0.5 (no tie) "
            f"to 1 (tied), got {strength}"
        )
    y = np.asarray(y)
    rng = np.random.default_rng(seed)
    marked = np.zeros(len(y), bool)
    for value, share in ((1, strength), (0, 1 - strength)):
        rows = np.flatnonzero(y == value)
        rows = rng.permutation(rows)
        carriers = round(share * len(rows))
        marked[rows[:carriers]] = True
    return marked
