"""Words burned into pixels: read by an OCR, and covered where they identify."""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from radwb.curate.deidentify.known import Known
from radwb.curate.deidentify.scrub import scrub

SIDE = 640  # px that the shorter side is enlarged to: letters of 6 px are read then
LARGEST = 2000  # px that the longer side is reduced to
MARGIN = 2  # px around a word, and a tenth of its height: letters have rims
# heights that a line goes on at both ends: where it crosses a bright part of the film,
# the OCR loses its first or last letters
BESIDE = 2
CUT = (0.2, 99.8)  # percentiles of what is shown: one hot pixel must not hide a text
ROUNDS = 3
DATE = re.compile(r"\d{1,4}\s*[/.-]\s*\d{1,2}\s*[/.-]\s*\d{1,4}")
# what a console or a marker writes about the film and not about a person
MARKERS = """
    r l rt lt right left pa ap lat lateral erect supine prone portable mobile upright
    semi semierect decub decubitus ward room bed icu insp exp inspiration expiration
    chest cm mm kv kvp mas hu ww wl standing sitting seated axial coronal sagittal
    anterior posterior superior inferior ant post head feet image series view zoom
    scale slice thickness window level lossy lossless synthetic no not
    rechts links re li bettaufnahme aufnahme liegend stehend sitzend
"""


class Word(NamedTuple):
    """A line that the OCR read: its rows and columns, ends exclusive, and its text."""

    row0: float
    column0: float
    row1: float
    column1: float
    text: str


def cover_words(frames: np.ndarray, known: Known, fill: float) -> list[Word]:
    """Cover what identifies in each frame, in place; a list of what was covered.

    What is covered once is looked at again, until nothing more is read.

    Args:
        frames: (F, H, W) or (F, H, W, 3) stored values; a word that one of the first,
            the middle, the last or the brightest shows is covered in all.
        known: of the same file's header.
        fill: the value that is black.
    """
    covered = []
    for _ in range(ROUNDS):
        shown = [_shown(frame) for frame in _looked_at(frames)]
        words = [word for frame in shown for word in _read(frame)]
        found = identifying(words, known)
        if not found:
            break
        for word in found:
            rows, columns = _spread(word)
            frames[:, rows, columns] = fill
        covered += found
    return covered


def identifying(words: Iterable[Word], known: Known) -> list[Word]:
    """The words that may identify somebody: all but markers and single letters.

    Where one does, short ones beside it go as well: they may be initials.
    """
    words = list(words)
    sure = [word for word in words if _identifies(word.text, known)]
    if not sure:
        return []
    return [word for word in words if word in sure or not _is_marker(word.text)]


def _identifies(text, known):
    if DATE.search(text) or scrub(text, known) != text:
        return True
    return not all(_is_harmless(token) for token in _tokens(text))


def _is_marker(text):
    return all(token in _markers() for token in _tokens(text))


@cache
def _markers():
    return frozenset(MARKERS.split())


def _tokens(text):
    """Letters and numbers apart, so that WARD7 is ward and 7."""
    return re.findall(r"[^\W\d_]+|\d+", text.lower())


def _is_harmless(token):
    if len(token) <= 2 or token in _markers():
        return True
    if token.isdigit():
        return len(token) <= 3
    return any(_is_near(token, marker) for marker in _markers() if len(marker) > 3)


def _is_near(token, marker):
    """Whether an OCR may have read one letter wrongly, or lost the last."""
    if len(token) == len(marker):
        return sum(a != b for a, b in zip(token, marker, strict=True)) <= 1
    return token == marker[:-1]


def _looked_at(frames):
    n = len(frames)
    chosen = [frames[k] for k in sorted({0, n // 2, n - 1})]
    return [*chosen, frames.max(0)] if n > 1 else chosen


def _shown(frame):
    """(H, W, 3) uint8."""
    low, high = np.percentile(frame, CUT)
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    scaled = np.clip((frame - low) / max(high - low, 1e-9), 0, 1)
    grey = np.round(scaled * 255).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


@cache
def _engine():
    try:
        from rapidocr import RapidOCR
    except ImportError:
        raise ImportError(
            "expected rapidocr, which reads burned-in text, got none. Try pip install "
            "'radwb[curate]', or keep=(..., 'pixels') to leave the pixels unread"
        ) from None
    return RapidOCR(params={"Global.log_level": "error", "Global.use_cls": False})


def check_ocr() -> None:
    """Raise ImportError now rather than at the first file."""
    _engine()


def _read(shown):
    """The lines of text in a picture."""
    height, width = shown.shape[:2]
    factor = max(1.0, SIDE / min(height, width))
    factor = min(factor, LARGEST / max(height, width))
    size = (round(width * factor), round(height * factor))
    picture = Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC)
    result = _engine()(np.asarray(picture))
    if result.boxes is None:
        return []
    words = []
    for corners, text in zip(result.boxes, result.txts, strict=True):
        column0, row0 = np.min(corners, axis=0) / factor
        column1, row1 = np.max(corners, axis=0) / factor
        words.append(Word(row0, column0, row1, column1, text))
    return words


def _spread(word):
    """Rows and columns of a word with a margin."""
    height = word.row1 - word.row0
    above = MARGIN + 0.1 * height
    beside = MARGIN + BESIDE * height
    rows = slice(max(0, int(word.row0 - above)), int(word.row1 + above) + 1)
    left = max(0, int(word.column0 - beside))
    return rows, slice(left, int(word.column1 + beside) + 1)
