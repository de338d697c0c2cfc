"""The widget for what an audit flagged: one thing at a time, and a verdict on it."""

from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from radwb.curate.audit import Audit
from radwb.curate.audit.flagged import IN_TWO_PARTS, flagged
from radwb.curate.audit.verdicts import COLUMNS, VERDICTS, row_names
from radwb.explore.evidence import Evidence
from radwb.explore.notes import LONGEST, Notes
from radwb.explore.once import replace_former
from radwb.explore.reviewed import spoken, still
from radwb.show.keys import KEEP_KEYS
from radwb.show.mix import encoded
from radwb.show.stand_in import StandIn
from radwb.show.theme import LEGAL

PAGE = Path(__file__).with_name("js")
SHARED = ("parts.js", "sleep.js")
OF_BOTH = VERDICTS[1:3]  # of a pair alone


def review(audit: Audit, *, verdicts: str | Path | None = None) -> "Review":
    """Look through what an audit flagged, and say what is to be dropped.

    A film, a pair of them or a report at a time, with the words that were found.

    >>> found = rw.curate.audit(table)
    >>> widget = rw.show.review(found, verdicts="verdicts.csv")
    >>> widget.judge("keep", "a follow-up") if len(widget.flagged) else None
    >>> kept, dropped = rw.curate.apply_verdicts(table, widget.verdicts)

    Args:
        audit: what `rw.curate.audit` gave.
        verdicts: a CSV, written (for its owner alone) at the first verdict, and read
            again the next time. None = they go with the widget.
    Returns:
        the widget: `judge`, `go`, `filter` drive it, `flagged` is what it goes through,
        `verdicts` what was judged. A saved notebook and an exported page keep the films
        seen last with the names of their files, studies and patients, as the table has
        them: de-identify first. They keep no report and no note.
    Raises:
        ValueError: a file in the place of the verdicts that is none of theirs.
    """
    return Review(audit, Notes(verdicts, COLUMNS))


class Review(anywidget.AnyWidget):
    """What `review` returns."""

    _esm = "\n".join(
        [
            KEEP_KEYS,
            *((PAGE / name).read_text("utf-8") for name in SHARED),
            *(p.read_text("utf-8") for p in sorted((PAGE / "review").glob("*.js"))),
        ]
    )
    _css = "\n".join(
        (PAGE / name).read_text("utf-8") for name in ("widget.css", "review/review.css")
    )
    about = traitlets.Dict().tag(sync=True)
    keep = traitlets.Unicode("").tag(sync=True)  # the check that is shown, "" for all
    at = traitlets.Int(0).tag(sync=True)  # place among those that are kept
    shown = traitlets.Dict().tag(sync=True)  # what stands at that place

    def __init__(self, audit, noted):
        self.flagged = flagged(audit)
        self.evidence = Evidence(audit, self.flagged)
        self.noted = noted
        self.texts = []  # of what is shown, in pieces, one text a side
        self.named = _named(self.flagged, row_names(audit.table))
        self.order = list(range(len(self.flagged)))
        count = self.flagged["check"].value_counts(sort=False)
        words = dict(
            checks=[[check, int(n)] for check, n in count.items()],
            nothing="" if self.order else _nothing(audit),
            longest=LONGEST,
            legal=LEGAL,
        )
        super().__init__(about=words)
        self.about = words | {"id": self.model_id}
        replace_former(self)
        self.stand_in = StandIn(
            super()._repr_mimebundle_, self._picture, self._words, ".rr"
        )
        self._show()
        self.observe(self._show, ["at"])
        self.observe(self._kept, ["keep"])
        self.on_msg(self._heard)

    @property
    def verdicts(self) -> pd.DataFrame:
        """All verdicts, for `rw.curate.apply_verdicts`."""
        return self.noted.table.copy()

    def go(self, at: int) -> None:
        """Show what stands at a place among those that are kept, counted from 0."""
        self.at = at

    @traitlets.validate("at")
    def _within(self, proposal):
        # the browser may not know yet that fewer are kept now; it is told
        return min(max(proposal["value"], 0), max(len(self.order) - 1, 0))

    def filter(self, check: str = "") -> None:
        """Keep what one check flagged; "" keeps all.

        Raises:
            ValueError: it flagged nothing.
        """
        checks = [check for check, _ in self.about["checks"]]
        if check not in ["", *checks]:
            raise ValueError(f"expected one of {checks}, got {check!r}")
        self.keep = check

    def judge(self, verdict: str = "", note: str = "", *, number: int | None = None):
        """Say what becomes of what is shown, or of another row of `flagged`.

        >>> widget = rw.show.review(rw.curate.audit(table))
        >>> widget.judge("unsure") if len(widget.flagged) else None

        Args:
            verdict: drop, keep or unsure; of a pair also "drop first" and "drop
                second"; "" = none yet.
            note: any text. Without both, what was judged is forgotten.
            number: of the row in `flagged`; None = the one that is shown.
        Raises:
            ValueError: no such verdict, or nothing to drop; the file of the verdicts
                has become something else.
        """
        if not self.order:
            raise ValueError(f"expected something flagged. {self.about['nothing']}")
        number = self.order[self.at] if number is None else number
        thing = self.flagged.iloc[number]
        allowed = self.allowed(number)
        if verdict not in ["", *allowed]:
            raise ValueError(
                f"expected a verdict of {allowed} on {thing['check']!r}, got "
                f"{verdict!r}"
            )
        self.noted.add(self.named[number] | {"verdict": verdict, "note": note})
        self._show()

    def allowed(self, number: int) -> list[str]:
        """The verdicts that a row of `flagged` can have."""
        thing = self.flagged.iloc[number]
        if not thing["droppable"]:
            return ["keep", "unsure"]
        is_pair = thing["second"] >= 0 and thing["check"] not in IN_TWO_PARTS
        return [v for v in VERDICTS if is_pair or v not in OF_BOTH]

    def save(self, path: str | Path) -> Path:
        """Write what is shown as a picture, whose kind the suffix says."""
        still(self.about, self.shown).save(path)
        return Path(path)

    def close(self):
        """Let go of the table and its films."""
        self.stand_in.close()
        super().close()
        self.layout.close()  # has a comm of its own
        self.unobserve_all()
        self.order = []
        self.evidence = None
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
        found = self.evidence.of(number)
        # sent when it is asked for: what is synced, a saved notebook may hold
        self.texts = [side.pop("text") for side in found["sides"]]
        self.shown = found | place | judged
        self.stand_in.changed()

    def _kept(self, _):
        checks = self.flagged["check"]
        self.order = [n for n, c in enumerate(checks) if self.keep in ("", c)]
        if self.at:
            self.at = 0
        else:
            self._show()

    def _next_open(self):
        """To the next thing without a verdict, from the start again after the last."""
        following = [*range(self.at + 1, len(self.order)), *range(self.at)]
        still_open = (n for n in following if not self._of(self.order[n])["verdict"])
        self.at = next(still_open, self.at)

    def _heard(self, _, message, __):
        if "ping" in message:
            self.send({"pong": message["ping"]})
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

    def _picture(self):
        return "image/jpeg", encoded(still(self.about, self.shown), "JPEG", quality=88)

    def _words(self):
        return spoken(self.about, self.shown)

    def _ipython_display_(self):
        self.stand_in.show()


def _nothing(audit):
    checks = len(audit.examined)
    return (
        f"No film, pair or report is flagged: {checks} checks were made of "
        f"{len(audit.table)} rows"
    )


def _named(things, names):
    """Each thing by the names of its films, which no new order of the table moves."""
    names = [*names, ""]  # the last one, of place -1, is no film's
    named = []
    for thing in things.itertuples():
        first, second = names[thing.first], names[thing.second]
        case = f"{thing.check}, {thing.about or first} | {second}"
        named.append(dict(case=case, check=thing.check, first=first, second=second))
    return named
