"""Words on pictures that no browser draws."""

import io

from PIL import Image, ImageDraw, ImageFont

from radwb.show.mix import encoded
from radwb.show.theme import FAINT, INK, LONGEST, WIDER, lines_of

LINE = 22  # px
MARGIN = 12  # px


def write_line(sheet, place, text, colour, size):
    """One line of words, whatever they hold: the next one stands below it."""
    words = " ".join(text[:LONGEST].split())
    ImageDraw.Draw(sheet).text(place, words, colour, ImageFont.load_default(size))


def fitted(text, size, px):
    """The lines that a text takes in a picture of `px`, so that none is cut off."""
    return lines_of(text, size, (px - 2 * MARGIN) * WIDER)


def write_lines(sheet, top, lines, size):
    """Lines below one another, the first in ink and the others faint."""
    for n, line in enumerate(lines):
        colour = FAINT if n else INK
        write_line(sheet, (MARGIN, top + n * LINE), line, colour, size)


def stacked(stills):
    """PNGs below one another as one."""
    if len(stills) == 1:
        return stills[0]
    pictures = [Image.open(io.BytesIO(png)) for png in stills]
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return encoded(sheet)
