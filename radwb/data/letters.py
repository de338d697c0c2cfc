"""Letters as a detector's console burns them into a film."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def letters(text, size, *, shape=None, at=(0, 0), grey=255, rim=0) -> np.ndarray:
    """Draw one line of text.

    >>> letters("ROOM 2", 11, grey=245).max()
    np.uint8(245)

    Args:
        text: what is written.
        size: of the type, px.
        shape: (H, W) of the picture; None leaves one pixel on all sides of the text.
        at: (column, row) of the text in the picture, where a shape is given.
        grey: of the letters, 0 to 255.
        rim: px by which the letters are thickened.
    Returns:
        (H, W) uint8, black where no letter is.
    """
    font = ImageFont.load_default(size=size)
    if shape is None:
        left, top, right, bottom = font.getbbox(text)
        shape = (bottom - top + 2, right - left + 2)
        at = (1 - left, 1 - top)
    picture = Image.new("L", shape[::-1])
    ImageDraw.Draw(picture).text(at, text, grey, font, stroke_width=rim)
    return np.asarray(picture)
