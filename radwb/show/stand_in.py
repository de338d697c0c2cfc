"""What a page shows of a widget that doesn't live there.

A saved notebook without a kernel, an exported page and the gallery run no widget. So a
widget is displayed with a picture below it, which is hidden wherever the widget lives.
What a picture carries along may live on a page without a kernel.
"""

import threading
from uuid import uuid4

from IPython.display import display

from radwb.show.mix import in_text
from radwb.show.theme import plain

STILL = "radwb-still"
WIDGET = "application/vnd.jupyter.widget-view+json"
LATER_S = 1.5  # after the last change a saved notebook gets the new picture
PLAIN = "(a widget; the picture below stands for it where it doesn't live)"
# JupyterLab, Notebook 7 and nbconvert's pages put the outputs of a cell in one area;
# what holds no element there says in words that the widget isn't found
STYLE = """<style>
.jp-OutputArea:has(ALIVE) .radwb-still { display: none; }
.jp-OutputArea:has(.radwb-still) .jupyter-widgets:not(:has(*)) { display: none; }
.radwb-still img { max-width: 100%; }
</style>"""


class StandIn:
    """The picture of a widget, kept as it was seen last.

    Args:
        view: gives the widget's own mimebundle.
        picture: gives the picture's kind ("image/jpeg") and bytes.
        words: gives what the picture says, in a sentence.
        alive: the CSS selector of what only the living widget puts on the page.
        figure: the mimebundle of a figure that lives on pages without a kernel, too.
        live: gives the picture's `data-` attributes, of which `code` makes more than a
            picture where scripts run. Letters, numbers and base64 alone.
        code: a style and a script, as HTML.
    """

    def __init__(self, view, picture, words, alive, figure=None, *, live=dict, code=""):
        self.view = view
        self.picture = picture
        self.words = words
        self.alive = f"{alive}:not(.radwb-still *)"
        self.name = f"radwb-{uuid4()}"
        self.figure = figure or {}
        self.live = live
        self.code = code
        self.shown = False
        self.timer = None

    def show(self) -> None:
        """Display the widget, and the picture below it."""
        bundle = self.view()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        first = {WIDGET: data[WIDGET], "text/plain": PLAIN} | self.figure
        display(first, raw=True)
        display(self._bundle(), raw=True, display_id=self.name)
        self.shown = True

    def changed(self) -> None:
        """The widget looks otherwise now: make the picture anew, a little later."""
        if not self.shown:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.timer = threading.Timer(LATER_S, self._renew)
        self.timer.daemon = True
        self.timer.start()

    def close(self) -> None:
        self.shown = False
        if self.timer is not None:
            self.timer.cancel()

    def html(self) -> str:
        kind, data = self.picture()
        words = plain(self.words())
        style = STYLE.replace("ALIVE", self.alive)
        live = self.live()
        code = self.code if live else ""
        marks = "".join(f' data-{name}="{value}"' for name, value in live.items())
        source = f"data:{kind};base64,{in_text(data)}"
        picture = f'<img alt="{words}" src="{source}"{marks}>'
        return f'<div class="{STILL}">{style}{picture}{code}</div>'

    def _bundle(self):
        return {"text/html": self.html(), "text/plain": self.words()}

    def _renew(self):
        if self.shown:
            display(self._bundle(), raw=True, display_id=self.name, update=True)
