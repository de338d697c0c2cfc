"""Words on pictures that no browser draws."""

from PIL import ImageDraw, ImageFont

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
