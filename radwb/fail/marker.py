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
    if len(where) != N:
        raise ValueError(f"expected one flag an image, got {len(where)} for {N} images")
    if kind == "room" and S < 40:
        raise ValueError(
            f"expected images of 40 px or more for words, got {S}. Try kind='box'"
        )
    jitter = np.random.default_rng(seed).integers(0, S // 40 + 1, size=(N, 2))
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
        return np.full((6 * unit, 6 * unit), BRIGHT)
    if kind == "room":
        # on a dark plate, so that one reads it on a white abdomen
        return letters(WORDS, max(6, S // 14), grey=BRIGHT).astype(int)
    return _drain(S, unit)


def _drain(S, width):
    """A quadratic curve from the chest wall up to the apex."""
    t = np.linspace(0, 1, 4 * S)
    y = 0.5 * (1 - t) ** 2 + 0.6 * t * (1 - t)
    x = 0.62 * t * (1 - t) + 0.3 * t**2
    rows = (y * S).astype(int)
    columns = (x * S).astype(int)
    curve = np.full((int(0.55 * S), int(0.4 * S)), -1)
    for down in range(width):
        for across in range(width):
            curve[rows + down, columns + across] = BRIGHT
    return curve


def _place(kind, corner, S, shape, jitter):
    """Rows and columns of the stamp: in a corner, or for a drain at a side."""
    margin = S // 20
    down, across = jitter
    top = margin if "top" in corner else S - margin - shape[0] - S // 40
    if kind == "drain":
        margin = across = 0
        top = S // 6
    top += down
    left = margin + across
    if "right" in corner:
        left = S - shape[1] - left
    return slice(top, top + shape[0]), slice(left, left + shape[1])


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
        rows = rng.permutation(np.flatnonzero(y == value))
        marked[rows[: round(share * len(rows))]] = True
    return marked
