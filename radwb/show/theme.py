"""One clean look for all figures: readable on a slide, safe for colour-blind readers,
and never markup of others.
"""

import html

import plotly.graph_objects as go
import plotly.io as pio

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
INK, FAINT, RULE = "#1f2933", "#52606d", "#e4e7eb"
TRUTH = (
    "#56B4E9",
    "#009E73",
    "#CC79A7",
    "#0072B2",
)  # outlines: apart from grey and from every colour of a map
# a finding with a colour of its own has it in every figure
COLOUR_OF = {name: row.colour for name, row in FINDINGS.items() if row.colour}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"

AXIS = dict(
    gridcolor=RULE,
    linecolor=FAINT,
    zeroline=False,
    ticks="outside",
    tickcolor=FAINT,
    automargin=True,
)
AXIS |= dict(title=dict(font=dict(size=14), standoff=8))
pio.templates["radwb"] = go.layout.Template(
    layout=dict(
        font=dict(family=FONT, size=15, color=INK),
        title=dict(x=0, xref="container", pad=dict(l=16), font=dict(size=19)),
        colorway=COLOURS,
        paper_bgcolor="white",
        plot_bgcolor="white",
        xaxis=AXIS,
        yaxis=AXIS,
        legend=dict(orientation="h", y=1.02, yanchor="bottom", x=0, title_text=""),
        hoverlabel=dict(font=dict(family=FONT, size=14)),
    )
)

LEGEND_ABOVE = 6  # px between axes and legend
LONGEST = 500  # letters of one value; a header may hold megabytes
# plotly reads "$" as LaTeX and "%{" as a place in a hover text, and knows no &quot;
READ_BY_PLOTLY = {"$": "&#36;", "%{": "%&#123;", "&quot;": "&#34;"}


def plain(value, longest: int = LONGEST) -> str:
    """Words of a file, table, model or user as HTML and plotly show them: as letters,
    never as markup.

    >>> plain("<img src=x onerror=...>")
    '&lt;img src=x onerror=...&gt;'

    Everything that radwb didn't write itself goes through here on its way into a
    widget, a figure or a page; plotly reads <b>, <a href>, <span style> as HTML does.

    Args:
        value: anything; its `str` is taken.
        longest: letters that are kept; what is cut off is shown by " ...".
    Returns:
        text for HTML, an attribute in quotes, or any text of a plotly figure.
    """
    text = str(value)
    if len(text) > longest:
        text = text[:longest] + " ..."
    text = "".join(c if c.isprintable() else " " for c in text)
    text = html.escape(text)
    for letters, entity in READ_BY_PLOTLY.items():
        text = text.replace(letters, entity)
    return text


def broken(text) -> str:
    """As `plain`, of a text whose lines "<br>" or a line feed parts: a title, a caption
    or a label.
    """
    parts = str(text).replace("\n", "<br>").split("<br>")
    return "<br>".join(plain(part) for part in parts)


def finish(
    figure: go.Figure,
    *,
    title: str,
    caption: str = "",
    width: int = 720,
    height: int = 420,
    legend: bool = True,
) -> go.Figure:
    """Give a figure the common look, its title, and its caption below the title (where
    no axis can run into it).

    Args:
        title, caption: ready for plotly: what others wrote has been through `plain` or
            `broken`.
        legend: whether the legend stands between caption and axes; further rows of it
            make the figure taller.
    """
    more = 20 * (legend_rows(figure, width - 88) - 1) if legend else 0
    height += more
    room = (
        more
        + 24 * (title.count("<br>") + 1) * bool(title)
        + 32 * (caption.count("<br>") + 1) * bool(caption)
    )
    caption_font = dict(size=14, color=FAINT)
    head = dict(
        text=title or caption,
        subtitle=dict(text=caption if title else "", font=caption_font),
    )
    if not title:
        head["font"] = caption_font
    top, bottom = 54 + room, 58
    margin = dict(l=64, r=24, t=top, b=bottom)
    figure.update_layout(template="radwb", width=width, height=height, margin=margin)
    # its place is a share of the axes' height: in a tall figure 2 % lie in the caption
    if legend:
        share = LEGEND_ABOVE / max(1, height - top - bottom)
        figure.update_layout(legend_y=1 + share)
    return figure.update_layout(
        title=head | dict(y=1, yref="container", yanchor="top", pad=dict(t=16, l=16))
    )


def legend_rows(figure: go.Figure, room: int) -> int:
    """How many rows a legend takes in `room` px; plotly gives each entry the width of
    the longest.
    """
    traces = [t for t in figure.data if t.name and t.showlegend is not False]
    names = [html.unescape(trace.name) for trace in traces]
    entry = 45 + 8 * max(
        map(len, names), default=0
    )  # px: the mark, and a letter of 15 px type
    return max(1, -(-len(names) // max(1, room // entry)))
