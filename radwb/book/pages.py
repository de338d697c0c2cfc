"""Executed notebooks as pages that need nothing but themselves.

No CDN, no fonts, plotly.js once a page. The HTML stands in templates/, where all is
escaped but what one of `FILTERS` has cleaned. (nbconvert's HTMLExporter reads each page
again to the last letter of plotly.js, and its own templates call on CDNs; its filters
and its sanitiser serve here.)
"""

import base64
import re
import secrets
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML, ansi2html
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from nbconvert.preprocessors.sanitize import SanitizeHTML
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from radwb.book.beside import MIME as BESIDE
from radwb.book.headline import MIME, number_text
from radwb.book.thumbnails import suits, thumbnails
from radwb.data.private import private_folder
from radwb.show.stand_in import STILL, WIDGET
from radwb.show.theme import plain

PLOTLY = "application/vnd.plotly.v1+json"
LEGAL = "For teaching and research. Not for clinical use."
REFERENCE = "api/index.html"  # in the gallery, where it has been made
# a progress bar in text: of use while it moves, noise on a page
BAR = re.compile(r"\d+%\|")
# what words and tables are made of; whatever else a cell's text or HTML holds is shown
# as letters
TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del div dl dt em h1 h2 h3 h4 "
    "h5 h6 hr i img input kbd li ol p pre small span strong sub sup table tbody td "
    "tfoot th thead tr u ul"
)
ATTRIBUTES = {
    "*": ["class", "id", "style", "title"],
    "a": ["href"],
    "img": ["alt", "src", "width", "height"],
    "input": ["type", "checked", "disabled"],  # of a list of tasks
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
}
STYLES = "background-color color font-size font-weight margin-left text-align width"
CLEANER = SanitizeHTML(tags=TAGS.split(), attributes=ATTRIBUTES, styles=STYLES.split())
STYLE = re.compile(r"<style\b.*?</style\s*>", re.IGNORECASE | re.DOTALL)
# how pandas aligns and colours its own table, and nothing else of a page
TABLE_STYLE = re.compile(
    r'<style type="text/css">\s*'
    r"(?:#T_\w+(?:\s*,\s*#T_\w+)*\s*\{[\w\s:;#.%,-]*\}\s*)*</style>"
)
# of a widget, with its picture in it: the sanitiser takes all data addresses away
# (and of what our script makes it live, letters, numbers and base64)
STILL_PICTURE = re.compile(
    r'<img alt="[^"<>]*" src="data:image/(?:png|jpeg);base64,[\w+/=]+"'
    r'(?: data-(?:film|over|heads|shape|place|chosen|what)="[\w+/=., ()-]*")*>'
)
LIVE = ' data-heads="'
# a second wall: of scripts only ours run, no handler, no link to one, and nothing is
# fetched; no output can know the nonce, which is drawn when the pages are made
NONCE = secrets.token_urlsafe(16)
POLICY = (
    "default-src 'none'; img-src data: blob:; font-src data:; "
    f"style-src 'unsafe-inline'; script-src 'nonce-{NONCE}'; "
    "base-uri 'none'; form-action 'none'"
)


def opening(nb):
    """Title and question: the heading and the first paragraph of the first cell."""
    blocks = [block.strip() for block in nb.cells[0].source.split("\n\n")]
    title, question, *_ = [*filter(None, blocks), "", ""]
    question = " ".join(question.split())
    return title.lstrip("# ").strip(), re.sub(r"[*_`]", "", question)


def figures_of(nb):
    """(tags of the cell, figure) of every plotly figure, in order."""
    return [
        (cell.metadata.get("tags", []), output["data"][PLOTLY])
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if PLOTLY in output.get("data", {})
    ]


def headline_figure(nb):
    """The figure of the cell tagged `headline`, else the first one, else None."""
    figures = figures_of(nb)
    figures.sort(key=lambda pair: "headline" not in pair[0])
    return figures[0][1] if figures else None


def write_page(nb, path, *, title):
    """One executed notebook as one HTML file."""
    plotlyjs = Markup(get_plotlyjs()) if figures_of(nb) else ""
    private_folder(path.parent)
    page = ENVIRONMENT.get_template("notebook.html")
    live = live_code(nb)
    html = page.render(nb=nb, title=title, plotlyjs=plotlyjs, live=live)
    path.write_text(html, "utf-8")


def write_index(tour, figures, folder):
    """The front page of the gallery; returns its path.

    A reference of the package in `folder`/api is linked from it.

    Args:
        tour: what `run` wrote into tour.json.
        figures: name of a notebook -> figure, or None.
        folder: of the gallery.
    """
    private_folder(folder)
    reference = REFERENCE if (folder / REFERENCE).exists() else None
    page = ENVIRONMENT.get_template("gallery.html").render(
        tour=tour,
        pictures=thumbnails(figures),
        title="radwb gallery",
        reference=reference,
    )
    path = folder / "index.html"
    path.write_text(page, "utf-8")
    return path


def without_doubles(outputs):
    """The outputs, without a picture of a widget whose figure lives on the page."""
    kept = []
    for output in outputs:
        before = kept[-1].get("data", {}) if kept else {}
        html = output.get("data", {}).get("text/html", "")
        is_picture = f'class="{STILL}"' in "".join(html)
        if not (is_picture and PLOTLY in before and WIDGET in before):
            kept.append(output)
    return kept


def live_code(nb):
    """Our style and script for widgets' pictures that can live on the page."""
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    texts = ["".join(o.get("data", {}).get("text/html", "")) for o in outputs]
    if not any(STILL in text and LIVE in text for text in texts):
        return ""
    from radwb.explore.exported import SCRIPT, STYLE  # torch comes with it

    return Markup(f'<style>{STYLE}</style><script nonce="{NONCE}">{SCRIPT}</script>')


def output_html(output):
    """An output of a cell as a page shows it."""
    parts = ENVIRONMENT.get_template("parts.html")
    return str(parts.module.shown(output))


def words_html(markdown):
    return clean_html(markdown2html_mistune(markdown))


def clean_html(text):
    """HTML of a cell with no more than words, tables and pictures.

    Values of files and tables may stand in it.
    """
    picture = STILL_PICTURE.search(text) if STILL in text else None
    if picture:
        return f'<div class="{STILL}">{picture.group()}</div>'
    styles = [block for block in STYLE.findall(text) if TABLE_STYLE.fullmatch(block)]
    return "".join(styles) + CLEANER.sanitize_html_tags(STYLE.sub("", text))


def figure_html(figure):
    """A figure that is as wide as the page, up to the width that suits it."""
    drawn = to_html(
        figure,
        config={"displaylogo": False, "responsive": True},
        include_plotlyjs=False,
        full_html=False,
        validate=False,
    )
    drawn = drawn.replace("<script", f'<script nonce="{NONCE}"')
    return f'<div style="max-width:{suits(figure)}px">{drawn}</div>'


def code_html(source):
    return Highlight2HTML()(source, language="python")


def without_bars(text):
    """The lines of a stream as a terminal leaves them, without bars of progress."""
    lines = [line.split("\r")[-1] for line in text.split("\n")]
    return "\n".join(line for line in lines if not BAR.search(line)).strip("\n")


def _markup(make):
    """A filter whose result is HTML already, so that it isn't escaped again."""
    return lambda value: Markup(make(value))


# these make HTML of what others wrote, with nothing in it that runs
FILTERS = {
    "plain": plain,
    "words": words_html,
    "html": clean_html,
    "ansi": ansi2html,
    "figure": figure_html,
    "code": code_html,
}
ENVIRONMENT = Environment(
    loader=PackageLoader("radwb.book"), autoescape=True, keep_trailing_newline=True
)
ENVIRONMENT.filters |= {name: _markup(make) for name, make in FILTERS.items()}
ENVIRONMENT.filters |= {
    "number": number_text,
    "without_bars": without_bars,
    "without_doubles": without_doubles,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
}
STYLESHEET = files("radwb.book").joinpath("page.css").read_text("utf-8")
ENVIRONMENT.globals |= {
    "policy": Markup(POLICY),
    "nonce": NONCE,
    "legal": LEGAL,
    "plotly": PLOTLY,
    "headline_mime": MIME,
    "beside_mime": BESIDE,
    "style": Markup(STYLESHEET + HtmlFormatter().get_style_defs(".highlight")),
}
