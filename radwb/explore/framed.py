"""What the windows that show one thing after another share: frame, still, verdicts.

In the browser that is js/walk/: a frame that sleeps without its kernel, keys, a way
from one thing to the next, and a box for the verdict.
"""

from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from radwb.explore.once import replace_former
from radwb.show.keys import KEEP_KEYS
from radwb.show.mix import encoded
from radwb.show.stand_in import StandIn

PAGE = Path(__file__).with_name("js")
SHARED = ("parts.js", "sleep.js")


def module(*folders: str) -> str:
    """The JavaScript of these folders of js/ and of what all share, as one module."""
    files = [PAGE / name for name in SHARED]
    for folder in ("walk", *folders):
        files += sorted((PAGE / folder).glob("*.js"))
    return "\n".join([KEEP_KEYS, *(path.read_text("utf-8") for path in files)])


def sheets(*names: str) -> str:
    """The style of these files of js/ and of the widget that all look like."""
    names = ("widget.css", "walk/walk.css", *names)
    return "\n".join((PAGE / name).read_text("utf-8") for name in names)


class Framed(anywidget.AnyWidget):
    """A window with a still; `drawn`, `spoken` and `answer` are its own."""

    alive = ".rr"  # what only the living widget puts on the page
    about = traitlets.Dict().tag(sync=True)  # what doesn't change
    shown = traitlets.Dict().tag(sync=True)  # what stands there

    def __init__(self, words):
        super().__init__(about=words)
        self.about = words | {"id": self.model_id}
        replace_former(self)
        view = super()._repr_mimebundle_
        self.stand_in = StandIn(view, self._picture, self.spoken, self.alive)
        self.on_msg(self._heard)

    def save(self, path: str | Path) -> Path:
        """Write what is shown as a picture, whose kind the suffix says."""
        self.drawn().save(path)
        return Path(path)

    def close(self):
        self.stand_in.close()
        super().close()
        self.layout.close()  # has a comm of its own
        self.unobserve_all()

    def _heard(self, _, message, __):
        if "ping" in message:
            self.send({"pong": message["ping"]})
        self.answer(message)

    def _picture(self):
        return "image/jpeg", encoded(self.drawn(), "JPEG", quality=88)

    def _ipython_display_(self):
        self.stand_in.show()


class Judged(Framed):
    """A window for things of several kinds, each with a verdict and a note.

    `found` says what the browser shows of one, `allowed` which verdicts it can have;
    `texts` are what is sent when asked for, since a saved notebook holds what is
    synced.

    Args:
        noted: `Notes`.
        named: what a note says of each thing: its case, and the other columns.
        kinds: of each thing, such as the check that flagged it.
        nothing: what is said where there is no thing.
        words: further ones for the browser.
    """

    keep = traitlets.Unicode("").tag(sync=True)  # the kind that is shown, "" for all
    at = traitlets.Int(0).tag(sync=True)  # place among those that are kept

    def __init__(self, noted, named, kinds, nothing, words):
        self.noted = noted
        self.named = named
        self.kinds = list(kinds)
        self.texts = []
        self.order = list(range(len(named)))
        count = pd.Series(self.kinds, dtype=object).value_counts(sort=False)
        checks = [[kind, int(n)] for kind, n in count.items()]
        super().__init__(words | {"checks": checks, "nothing": nothing})
        self._show()
        self.observe(self._show, ["at"])
        self.observe(self._kept, ["keep"])

    @property
    def verdicts(self) -> pd.DataFrame:
        """All verdicts and notes, those of other tables in the same file too."""
        return self.noted.table.copy()

    def go(self, at: int) -> None:
        """Show what stands at a place among those that are kept, counted from 0."""
        self.at = at

    @traitlets.validate("at")
    def _within(self, proposal):
        # the browser may not know yet that fewer are kept now; it is told
        return min(max(proposal["value"], 0), max(len(self.order) - 1, 0))

    def filter(self, kind: str = "") -> None:
        """Keep the things of one kind; "" keeps all.

        Raises:
            ValueError: there is none.
        """
        kinds = [kind for kind, _ in self.about["checks"]]
        if kind not in ["", *kinds]:
            raise ValueError(f"expected one of {kinds}, got {kind!r}")
        self.keep = kind

    def judge(self, verdict: str = "", note: str = "", *, number: int | None = None):
        """Say what is to be said of what is shown, or of another thing.

        Args:
            verdict: one that the thing can have; "" = none yet.
            note: any text. Without both, what was judged is forgotten.
            number: of the thing; None = the one that is shown.
        Raises:
            ValueError: no such verdict, or nothing to judge; the file of the verdicts
                has become something else.
        """
        if not self.order:
            nothing = self.about["nothing"]
            raise ValueError(f"expected something to judge. {nothing}")
        number = self.order[self.at] if number is None else number
        allowed = self.allowed(number)
        if verdict not in ["", *allowed]:
            raise ValueError(
                f"expected a verdict of {allowed} on {self.kinds[number]!r}, got "
                f"{verdict!r}"
            )
        self.noted.add(self.named[number] | {"verdict": verdict, "note": note})
        self._show()

    def close(self):
        """Let go of the table and its films."""
        super().close()
        self.order = []
        self.texts = []

    def _of(self, number):
        return self.noted.of(self.named[number]["case"])

    def _show(self, _=None):
        if not self.order:
            return
        number = self.order[self.at]
        place = {"number": number, "at": self.at, "of": len(self.order)}
        done = sum(bool(self._of(n)["verdict"]) for n in self.order)
        judged = {"verdict": self._of(number)["verdict"], "done": done}
        self.shown = self.found(number) | place | judged
        self.stand_in.changed()

    def _kept(self, _):
        self.order = [n for n, kind in enumerate(self.kinds) if self.keep in ("", kind)]
        if self.at:
            self.at = 0
        else:
            self._show()

    def _next_open(self):
        """To the next thing without a verdict, from the start again after the last."""
        following = [*range(self.at + 1, len(self.order)), *range(self.at)]
        still_open = (n for n in following if not self._of(self.order[n])["verdict"])
        self.at = next(still_open, self.at)

    def answer(self, message):
        if "texts" in message:
            self.send({"texts": self.texts, "number": self.shown.get("number")})
        if "note" in message:
            number = self.shown["number"]
            self.send({"note": self._of(number)["note"], "number": number})
        if "open" in message:
            self._next_open()
        if "judge" in message:
            self._judged(**message["judge"])

    def _judged(self, number, verdict, note, go_on):
        if note is None:  # nobody wrote in it
            note = self._of(number)["note"]
        try:
            self.judge(verdict, note, number=number)
            problem = ""
        except (OSError, ValueError) as error:
            problem = str(error)
        self.send({"noted": {"number": number, "error": problem}})
        if go_on and not problem:
            self.go(self.at + 1)
