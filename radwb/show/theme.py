"""One clean look for all figures: readable on a slide, and for colour-blind readers.

Words of others become letters here, never markup.
"""

import html
import textwrap

import plotly.graph_objects as go
import plotly.io as pio
from PIL import ImageFont

from radwb.findings import FINDINGS

# Okabe & Ito 2008, "Color universal design": blue, vermillion, green, purple, orange,
# sky, yellow, black
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
# a second cue beside the colour
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
INK = "#1f2933"
FAINT = "#52606d"
RULE = "#e4e7eb"
LEGAL = "Not for clinical use"  # on each widget and its picture
# outlines of truth: apart from grey and from every colour of a map
TRUTH = ("#56B4E9", "#009E73", "#CC79A7", "#0072B2")
# a finding with a colour of its own has it in every figure
COLOUR_OF = {name: row.colour for name, row in FINDINGS.items() if row.colour}
FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', "
    "Arial, sans-serif"
)
# px of the narrowest cell: JupyterLab at 1280 px and 150 % zoom, its files open
NARROW = 420
EDGE = 16  # px between the edge of a figure and its words
TITLE = 18  # px
CAPTION = 14
# the browser's letters are up to this much wider than those that are measured
WIDER = 1.17
DASHED = dict(color=FAINT, dash="dash", width=1.5)  # a reference line, such as chance

AXIS = dict(
    gridcolor=RULE,
    linecolor=FAINT,
    zeroline=False,
    ticks="outside",
    tickcolor=FAINT,
    automargin=True,
    title=dict(font=dict(size=14), standoff=8),
)
pio.templates["radwb"] = go.layout.Template(
    layout=dict(
        font=dict(family=FONT, size=15, color=INK),
        title=dict(x=0, xref="container", pad=dict(l=16), font=dict(size=TITLE)),
        colorway=COLOURS,
        paper_bgcolor="white",
        plot_bgcolor="white",
        xaxis=AXIS,
        yaxis=AXIS,
        # plotly makes room for it there, however many rows a narrow cell gives it
        legend=dict(
            orientation="h",
            yref="container",
            y=0,
            yanchor="bottom",
            xref="container",
            x=0.02,
            title_text="",
        ),
        hoverlabel=dict(font=dict(family=FONT, size=14)),
    )
)

ROW = 22  # px of a legend
LONGEST = 500  # letters of one value; a header may hold megabytes
# plotly reads "$" as LaTeX and "%{" as a place in a hover text, and knows no &quot;
READ_BY_PLOTLY = {"$": "&#36;", "%{": "%&#123;", "&quot;": "&#34;"}


def plain(value, longest=LONGEST):
    """Words of a file, table, model or user as letters, never as markup.

    >>> plain("<img src=x onerror=...>")
    '&lt;img src=x onerror=...&gt;'

    Everything that radwb didn't write itself goes through here on its way into a
    widget, a figure or a page; plotly reads <b>, <a href>, <span style> as HTML does.

    Args:
        value: anything; its `str` is taken.
        longest: letters that stay; what is cut off is shown by " ...".
    Returns:
        text for HTML, an attribute in quotes, or any text of a plotly figure.
    """
    text = str(value)
    if len(text) > longest:
        text = text[:longest] + " ..."
    for letter in set(text):
        if not letter.isprintable():
            text = text.replace(letter, " ")
    text = html.escape(text)
    for letters, entity in READ_BY_PLOTLY.items():
        text = text.replace(letters, entity)
    return text


def broken(text):
    """As `plain`, of a text of several lines, parted by "<br>" or a line feed."""
    parts = str(text).replace("\n", "<br>").split("<br>")
    return "<br>".join(plain(part) for part in parts)


def lines_of(text, size, px=NARROW - 2 * EDGE):
    """The lines that a text takes in `px`; "<br>" or a line feed starts one, too.

    plotly breaks no line by itself: in a narrow cell its end would be cut off.
    """
    face = ImageFont.load_default(size)
    lines = []
    for part in str(text).replace("\n", "<br>").split("<br>"):
        words = " ".join(part[:LONGEST].split())
        long = WIDER * face.getlength(words)
        letters = int(len(words) * px / max(long, px))
        lines += textwrap.wrap(words, max(letters, 1)) or [""]
    return lines


def colour_bar(label, **more):
    """The look of every colour bar: thin, its label along it."""
    title = dict(text=broken(label), side="right")
    return dict(title=title, thickness=14, outlinewidth=0) | more


def series_mark(n):
    """Colour and symbol of the n-th series, from 0."""
    return dict(color=COLOURS[n % len(COLOURS)], symbol=SYMBOLS[n % len(SYMBOLS)])


def finish(
    figure,
    *,
    title,
    caption="",
    notes=(),
    width=720,
    height=420,
    legend=True,
    x_title=None,
    y_title=None,
):
    """Give a figure the common look, its title, and the caption below the title.

    It is as wide as its cell; its words fit the narrowest one.

    Args:
        title, caption, x_title, y_title: words; None leaves an axis as it is.
        notes: lines below the caption that are HTML already: what others wrote in them
            has been through `plain`.
        width: px that suit it: a page of the gallery makes it no wider.
        height: px with one line of title and caption each; further ones, and the
            legend, are added.
        legend: whether there is room for one below the axes.
    """
    titles = [plain(line) for line in lines_of(title, TITLE)] if title else []
    captions = [plain(line) for line in lines_of(caption, CAPTION)] if caption else []
    captions += notes
    further = 24 * len(titles[1:]) + 19 * len(captions[1:])
    rows = legend_rows(figure, width - 88) if legend else 0
    figure.update_layout(
        template="radwb",
        width=None,
        autosize=True,
        meta=dict(width=width),
        height=height + further + ROW * rows,
        margin=dict(
            l=64,
            r=24,
            t=54 + 24 * bool(titles) + 32 * bool(captions) + further,
            b=58,
        ),
        title=_head("<br>".join(titles), "<br>".join(captions)),
    )
    if x_title is not None:
        figure.update_xaxes(title_text=broken(x_title))
    if y_title is not None:
        figure.update_yaxes(title_text=broken(y_title))
    return figure


def _head(title, caption):
    """Plotly's title, with the caption as its subtitle, or in its place."""
    font = dict(size=CAPTION, color=FAINT)
    pad = dict(t=16, l=EDGE)
    place = dict(y=1, yref="container", yanchor="top", pad=pad)
    if title:
        return dict(text=title, subtitle=dict(text=caption, font=font), **place)
    return dict(text=caption, subtitle=dict(text="", font=font), font=font, **place)


def legend_rows(figure, room):
    """How many rows a legend takes in `room` px.

    Plotly gives each entry the width of the longest.
    """
    traces = [t for t in figure.data if t.name and t.showlegend is not False]
    if not traces:
        return 0
    letters = [len(html.unescape(trace.name)) for trace in traces]
    entry = 45 + 8 * max(letters)  # px: the mark, and letters of 15 px type
    return -(-len(traces) // max(1, room // entry))
