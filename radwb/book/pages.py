"""Executed notebooks as pages that need nothing but themselves: no CDN, no fonts,
plotly.js once a page.
"""

import base64
import io
import os
import re
import secrets
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from nbconvert.filters import Highlight2HTML, ansi2html
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from nbconvert.preprocessors.sanitize import SanitizeHTML
from PIL import Image
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from radwb.book.headline import MIME, said
from radwb.data.private import private_folder
from radwb.show.theme import plain

PLOTLY = "application/vnd.plotly.v1+json"
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
BAR = re.compile(
    r"\d+%\|"
)  # a progress bar in text: of use while it moves, noise on a page
LEGAL = "For teaching and research. Not for clinical use."
# what words and tables are made of; whatever else a cell's text or HTML holds is shown
# as letters
TAGS = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "caption",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "input",
    "kbd",
    "li",
    "ol",
    "p",
    "pre",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "u",
    "ul",
]
ATTRIBUTES = {
    "*": ["class", "id", "style", "title"],
    "a": ["href"],
    "img": ["alt", "src", "width", "height"],
    "input": ["type", "checked", "disabled"],  # of a list of tasks
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
}
STYLES = [
    "background-color",
    "color",
    "font-size",
    "font-weight",
    "margin-left",
    "text-align",
    "width",
]
STYLE = re.compile(r"<style\b.*?</style\s*>", re.IGNORECASE | re.DOTALL)
# a second wall: of scripts only ours run, no handler, no link to one, and nothing is
# fetched how pandas aligns and colours its own table, and nothing else of a page
TABLE_STYLE = re.compile(
    r'<style type="text/css">\s*(?:#T_\w+(?:\s*,\s*#T_\w+)*\s*\{[\w\s:;#.%,-]*\}\s*)*</style>'
)
NONCE = secrets.token_urlsafe(
    16
)  # no output can know it: it is drawn when the pages are made
POLICY = (
    "default-src 'none'; img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    f"script-src 'nonce-{NONCE}'; base-uri 'none'; form-action 'none'"
)


def opening(nb) -> tuple[str, str]:
    """Title and question: the heading and the first paragraph of the first cell."""
    blocks = [b.strip() for b in nb.cells[0].source.split("\n\n") if b.strip()]
    title = blocks[0].lstrip("# ").strip() if blocks else ""
    question = (
        re.sub(r"[*_`]", "", " ".join(blocks[1].split())) if len(blocks) > 1 else ""
    )
    return title, question


def figures_of(nb) -> list[tuple[list[str], dict]]:
    """(tags of the cell, figure) of every plotly figure, in order."""
    return [
        (cell.metadata.get("tags", []), output["data"][PLOTLY])
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if PLOTLY in output.get("data", {})
    ]


def headline_figure(nb) -> dict | None:
    """The figure of the cell tagged `headline`, else the first one."""
    found = figures_of(nb)
    tagged = [figure for tags, figure in found if "headline" in tags]
    return (tagged or [figure for _, figure in found] or [None])[0]


def write_page(nb, path: Path, *, title: str) -> None:
    """One executed notebook as one HTML file."""
    private_folder(path.parent)
    script = (
        f'<script nonce="{NONCE}">{get_plotlyjs()}</script>' if figures_of(nb) else ""
    )
    body = "\n".join(cell_html(cell) for cell in nb.cells)
    nav = f'<nav><a href="index.html">All notebooks</a><span>{LEGAL}</span></nav>'
    path.write_text(page(title, f"{nav}<main>{body}</main>", script), encoding="utf-8")


def page(title: str, body: str, head: str = "") -> str:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    style = files("radwb.book").joinpath(
        "page.css"
    ).read_text() + HtmlFormatter().get_style_defs(".highlight")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{policy}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{plain(title)}</title><style>{style}</style>{head}</head>'
        f"<body>{body}</body></html>\n"
    )


def cell_html(cell) -> str:
    if cell.cell_type == "markdown":
        return f'<section class="words">{words_html(cell.source)}</section>'
    if cell.cell_type != "code":
        return ""
    code = (
        Highlight2HTML()(cell.source, language="python") if cell.source.strip() else ""
    )
    if cell.metadata.get("jupyter", {}).get("source_hidden"):
        code = f"<details><summary>Solution</summary>{code}</details>"
    return f'<section class="code">{code}{"".join(output_html(o) for o in cell.outputs)}</section>'


def output_html(output) -> str:
    """The richest form of an output that a page without a kernel can show; of a widget
    the still that it brings.
    """
    if output.output_type == "stream":
        lines = [line.split("\r")[-1] for line in output.text.split("\n")]
        text = "\n".join(line for line in lines if not BAR.search(line)).strip("\n")
        return (
            f'<pre class="{output.name}">{ansi2html(text)}</pre>'
            if text.strip()
            else ""
        )
    if output.output_type == "error":
        return f'<pre class="error">{ansi2html(chr(10).join(output.traceback))}</pre>'
    data = output.data
    if PLOTLY in data:
        config = {"displaylogo": False, "responsive": False}
        drawn = to_html(
            data[PLOTLY],
            config=config,
            include_plotlyjs=False,
            full_html=False,
            validate=False,
        )
        return drawn.replace("<script", f'<script nonce="{NONCE}"')
    widget = any(
        "widget-view" in mime for mime in data
    )  # needs a kernel: its still stands for it, never its repr
    for mime, wrap in FORMS.items():
        if mime in data and not (widget and mime == "text/plain"):
            return wrap(data[mime])
    return ""


def words_html(markdown: str) -> str:
    return clean_html(markdown2html_mistune(markdown))


def clean_html(text: str) -> str:
    """HTML of a cell with no more than words, tables and pictures: values of files and
    tables may stand in it.
    """
    styles = [block for block in STYLE.findall(text) if TABLE_STYLE.fullmatch(block)]
    text = STYLE.sub("", text)
    cleaner = SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES, styles=STYLES)
    return "".join(styles) + cleaner.sanitize_html_tags(text)


def drawing_html(svg: str) -> str:
    """As a picture: no script in it runs then."""
    code = base64.b64encode(svg.encode()).decode()
    return f'<img alt="figure" src="data:image/svg+xml;base64,{code}">'


def picture_html(kind: str):
    return lambda code: (
        f'<img alt="figure" src="data:{kind};base64,{plain(code.strip(), len(code))}">'
    )


FORMS = {
    MIME: lambda pairs: f'<p class="headline">{headline_html(dict(pairs))}</p>',
    "text/html": lambda text: f'<div class="html">{clean_html(text)}</div>',
    "text/markdown": words_html,
    "image/svg+xml": drawing_html,
    "image/png": picture_html("image/png"),
    "image/jpeg": picture_html("image/jpeg"),
    "text/plain": lambda text: f"<pre>{ansi2html(text)}</pre>",
}


def headline_html(values: dict) -> str:
    pairs = ((name.replace("_", " "), said(value)) for name, value in values.items())
    return "".join(
        f"<span>{plain(name)} <b>{plain(value)}</b></span>" for name, value in pairs
    )


def write_index(tour: dict, figures: dict[str, dict | None], folder: Path) -> Path:
    """The front page of the gallery."""
    private_folder(folder)
    pictures = thumbnails(figures)
    cards = "".join(
        card(note, pictures.get(note["name"])) for note in tour["notebooks"]
    )
    about = ", ".join(f"{name} {number}" for name, number in tour["versions"].items())
    machine = tour["machine"]
    run = (
        f"{len(tour['notebooks'])} notebooks in {tour['minutes']:.1f} minutes, at most {tour['peak_gib']:.1f} GiB, on "
        f"{machine['cores']} cores{', ' + plain(machine['gpu']) if machine['gpu'] else ''}"
        + (
            ". A fast run with small numbers: don't quote its results"
            if tour["fast"]
            else ""
        )
        + ("" if tour["ok"] else ". It stopped before its end")
    )
    body = (
        "<header><h1>Radiology foundation models, from scan to evidence</h1>"
        "<p>Each page is a notebook that was run from its first cell to its last on this machine: curate, pretrain, "
        f"probe, attend, fail.</p><p class='run'>{run}.</p><p class='legal'>{LEGAL}</p></header>"
        f"<main class='cards'>{cards}</main><footer>Made {plain(tour['made'])} with {plain(about)}.</footer>"
    )
    path = folder / "index.html"
    path.write_text(page("radwb gallery", body), encoding="utf-8")
    return path


def card(note: dict, picture: str | None) -> str:
    name, title = plain(note["name"]), plain(note["title"] or note["name"])
    image = '<div class="blank"></div>'
    if picture:
        source = plain(picture, len(picture))
        image = f'<img alt="a figure of {title}" src="{source}">'
    state = (
        f'<p class="stopped">Stopped in {plain(note["error"])}</p>'
        if note["error"]
        else ""
    )
    return (
        f'<article><a href="{name}.html">{image}<h2>{title}</h2></a><p>{plain(note["question"])}</p>{state}'
        f'<p class="headline">{headline_html(note["headline"])}</p>'
        f'<p class="cost">{note["minutes"]:.1f} min, {note["peak_gib"]:.1f} GiB, {note["cells"]} code cells</p>'
        "</article>"
    )


def thumbnails(figures: dict[str, dict | None]) -> dict[str, str]:
    """A picture a notebook, drawn by Chromium; where there's none, the first scan
    inside the figure.
    """
    drawn = {name: figure for name, figure in figures.items() if figure}
    pictures = {
        name: found for name, figure in drawn.items() if (found := first_image(figure))
    }
    browser = os.environ.get("BROWSER_PATH") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if not browser or not drawn:
        return pictures
    with tempfile.TemporaryDirectory() as folder:
        try:
            draw(drawn, Path(folder), browser)
        except (
            Exception
        ) as error:  # a browser that won't start costs the pictures, not the tour
            print(
                f"thumbnails come from the figures' own images: {type(error).__name__}: {error}"
            )
        for name in drawn:
            if (picture := Path(folder) / f"{name}.png").exists():
                pictures[name] = as_uri(Image.open(picture))
    return pictures


def draw(figures: dict[str, dict], folder: Path, browser: str) -> None:
    import kaleido

    jobs = [
        {"fig": f, "path": folder / f"{name}.png", "opts": {"format": "png"}}
        for name, f in figures.items()
    ]
    before = os.environ.get("BROWSER_PATH")
    os.environ["BROWSER_PATH"] = browser
    try:
        kaleido.write_fig_from_object_sync(
            jobs, kopts={"mathjax": False, "timeout": 60}
        )
    finally:
        if before is None:
            del os.environ["BROWSER_PATH"]


def first_image(figure: dict) -> str | None:
    return next(
        (
            trace["source"]
            for trace in figure.get("data", [])
            if trace.get("type") == "image"
        ),
        None,
    )


def as_uri(image: Image.Image, width: int = 640) -> str:
    image.thumbnail((width, width))
    out = io.BytesIO()
    image.convert("RGB").quantize(128).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
