"""The one way in which a scan and a map become a picture.

Plotly's figures, the stills and the volume viewer call it; explore/js/film.js does the
same in the browser and gets its constants from here (`radwb.explore.widget`).
"""

import base64
import io

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

# px embedded; a radiograph of 3000 px would weigh megabytes and show no more on a slide
MAX_SIDE = 640
# dark = transparent, so that the scan stays in sight where the map says nothing
MAP_COLOURS = "Inferno"
STEPS = np.linspace(0, 1, 256)
COLOURS_01 = np.array(sample_colorscale(MAP_COLOURS, STEPS, colortype="tuple"))
LUT = np.round(COLOURS_01 * 255).astype(np.uint8)  # (256, 3)
GAMMA = 0.7  # of a map's opacity: below 1, so that its middle isn't lost
ALPHA = 0.75  # opacity of a map's highest value
LEAST_WINDOW = 1e-3
# where the letter R stands for each edge at which the patient's right can lie: the
# upper corner or the middle, as shares of width and height
RIGHT_MARK = {"left": (0, 0), "right": (1, 0), "top": (0.5, 0), "bottom": (0.5, 1)}
RIGHT_INSET = 8  # px from the edge, in widget and still
RIGHT_SIZE = 16  # px
# lines instead of colours: a percentile of the map over the film, and its colour's step
CONTOURS = ((0.5, 110), (0.75, 150), (0.9, 200), (0.95, 245))
CONTOUR_WIDTH = 1.8  # px
CONTOUR_EDGE = 1  # px of dark on either side, so that a line is seen on white
SHARP = 4  # px of a picture from which on a film's pixel is a square with edges
CONSTANTS = dict(  # for explore/js
    sharp=SHARP,
    contours=CONTOURS,
    contour_width=CONTOUR_WIDTH,
    contour_edge=CONTOUR_EDGE,
    colours=LUT.tobytes(),
    gamma=GAMMA,
    least_window=LEAST_WINDOW,
    right_mark=RIGHT_MARK,
    right_inset=RIGHT_INSET,
    right_size=RIGHT_SIZE,
)


def shrink(values, side=MAX_SIDE):
    """(H, W) values whose longer side is at most `side`."""
    height, width = shrunk(values.shape, side)
    if (height, width) == values.shape:
        return values
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def shrunk(shape, side=MAX_SIDE):
    """(H, W) of what `shrink` gives."""
    factor = min(1, side / max(shape))
    return tuple(max(1, round(n * factor)) for n in shape)


def level_of(values, low, high):
    """How far values have come from the lowest (0) to the highest (1)."""
    return (values - low) / ((high - low) or 1)


def opacity(level, alpha):
    """How opaque a map is where it has come so far from its lowest to its highest."""
    return level**GAMMA * alpha


def windowed(grey, *, window, level):
    """Display values in [0, 1]: `level` becomes middle grey.

    A range of `window` runs from black to white.
    """
    return ((grey - level) / max(window, LEAST_WINDOW) + 0.5).clip(0, 1)


def to_bytes(values):
    """Values in [0, 1] as uint8."""
    return np.round(values * 255).astype(np.uint8)


def blend(grey, level, alpha, threshold=0):
    """(H, W) display values and (H, W) of a map, both in [0, 1], as one picture.

    The map is clear where it is below the threshold.
    """
    mixed = np.repeat(grey[..., None] * 255, 3, -1)  # (H, W, 3)
    if level is not None:
        share = np.where(level < threshold, 0, opacity(level, alpha))[..., None]
        mixed = mixed * (1 - share) + LUT[to_bytes(level)] * share
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def draw_contours(picture, values, levels, alpha):
    """Lines over a picture where (H, W) values pass each of the levels, lowest first.

    A value's distance to a level over its slope there is the distance to the line in
    px.
    """
    mixed = np.asarray(picture, np.float32)
    slope = np.hypot(_lesser_step(values, 0), _lesser_step(values, 1))
    away = np.abs(values[..., None] - levels) / np.maximum(slope, 1e-30)[..., None]
    half = CONTOUR_WIDTH / 2 + 0.5
    ink = (half - away).clip(0, 1)  # (H, W, levels)
    rim = (half + CONTOUR_EDGE - away).clip(0, 1).max(-1, keepdims=True)
    line = LUT[[step for _, step in CONTOURS]][ink.argmax(-1)]  # (H, W, 3)
    share = alpha * ink.max(-1, keepdims=True)
    mixed = mixed * (1 - 0.6 * alpha * rim) * (1 - share) + line * share
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def _lesser_step(values, axis):
    """The smaller difference to a neighbour: the border of a crop is no slope."""
    step = np.abs(np.diff(values, axis=axis))
    first, last = step.take([0], axis), step.take([-1], axis)
    before = np.concatenate([first, step], axis)
    after = np.concatenate([step, last], axis)
    return np.minimum(before, after)


def map_image(level, alpha):
    """The map alone, as the browser lays it over the scan.

    One byte a pixel, whose colour has its own opacity.
    """
    image = Image.fromarray(to_bytes(level)).convert("P")
    image.putpalette(LUT.tobytes())
    image.info["transparency"] = to_bytes(opacity(STEPS, alpha)).tobytes()
    return image


def encoded(image, kind="PNG", **options):
    """A picture as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **(options or {"optimize": True}))
    return out.getvalue()


def in_text(data):
    return base64.b64encode(data).decode()


def data_uri(image, kind="PNG", **options):
    """A picture as a text that stands in for its address."""
    return (
        f"data:image/{kind.lower()};base64,{in_text(encoded(image, kind, **options))}"
    )
