"""The attention widget: a scan, every layer and head over it, and its score beside it.

To add a control: give it a place in `Explorer`'s traits (a slider: a row in `SLIDERS`
and its default in `LOOK`, from which js/bar.js makes it) and say in js/ what it
changes (a slider: in js/film.js, and in `radwb.explore.film` for the still).
"""

import threading
from functools import partial
from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from radwb.explore.about import LOOK, about
from radwb.explore.arrange import FIRST, require_columns
from radwb.explore.choice import Choice
from radwb.explore.exported import CODE, heads_on_page
from radwb.explore.film import sheet, spoken
from radwb.explore.listing import ON_TRUTH, Listing
from radwb.explore.messages import hear
from radwb.explore.notes import about_map
from radwb.explore.once import replace_former
from radwb.explore.state import state_of
from radwb.explore.work import Work
from radwb.show.keys import KEEP_KEYS
from radwb.show.mix import encoded, in_text
from radwb.show.stand_in import StandIn

PAGE = Path(__file__).with_name("js")
STOPPED = "stopped before the map was there: choose again"
CLOSED = "this widget is closed, since its cell was run again: use the newer one"


class Explorer(anywidget.AnyWidget):
    """What `explore` returns.

    Its traits are its state; `case` and `choose` drive it from Python.
    """

    # its files are one module: a notebook carries it, no page loads it
    _esm = "\n".join(
        [KEEP_KEYS, *(path.read_text("utf-8") for path in sorted(PAGE.glob("*.js")))]
    )
    _css = PAGE / "widget.css"
    about = traitlets.Dict().tag(sync=True)
    films = traitlets.List().tag(sync=True)  # a name and its columns' values each
    case = traitlets.Int(0).tag(sync=True)
    order = traitlets.List().tag(sync=True)  # the cases shown
    # by which column, which way, and what is kept; `label` says what the order is of
    arranged = traitlets.Dict(FIRST).tag(sync=True)
    panes = traitlets.List().tag(sync=True)  # a `Choice` each, as a dict
    look = traitlets.Dict(LOOK).tag(sync=True)
    scan = traitlets.Dict().tag(sync=True)
    # what `Cases.view` says, and `busy`: a text while a pane computes
    views = traitlets.List().tag(sync=True)
    notes = traitlets.Dict().tag(sync=True)  # case -> its verdict and note

    def __init__(
        self, cases, panes, targets, *, notes, case=0, look=LOOK, arranged=FIRST
    ):
        self.cases = cases
        self.noted = notes
        self.listing = Listing(cases.films, notes)
        self.lock = threading.RLock()
        self.work = Work(self)
        words = about(cases, targets, self.listing.columns, notes)
        super().__init__(
            about=words,
            order=list(range(len(cases))),
            case=case,
            panes=[vars(pane) for pane in panes],
            look=look,
            arranged=arranged,
            notes=notes.of_all(cases.films.names),
        )
        self.about = words | {"id": self.model_id}
        replace_former(self)
        self.stand_in = StandIn(
            super()._repr_mimebundle_,
            self._picture,
            self._words,
            ".rx",
            live=self._live,
            code=CODE,
        )
        self.observe(lambda _: self.stand_in.changed(), ["views", "look", "case"])
        self.observe(self._changed, ["case", "panes"])
        self.observe(self._rearranged, ["arranged"])
        self.on_msg(self._heard)
        self._changed()
        self._complete(move=False)
        self.wait()

    def choose(self, pane: int = 0, **changes) -> None:
        """Change a pane's model, method, target, layer, head, patch or direction.

        Pane 1 opens the second; a head or a patch is shown by the method "attention".

        >>> rw.show.explore(model, scans).choose(layer=3, head=0)
        """
        if changes.keys() & {"head", "patch"}:
            changes = {"method": "attention"} | changes
        elif "method" in changes:
            changes = {"layer": None, "head": None, "patch": None} | changes
        panes = list(self.panes)
        if pane == len(panes):
            panes.append(panes[0])
        panes[pane] = panes[pane] | changes
        self.panes = panes

    def wait(self, timeout: float | None = None, *, idle: bool = False) -> bool:
        """Wait until all is drawn; False when `timeout` seconds were not enough.

        Args:
            timeout: in seconds; None = as long as it takes.
            idle: wait for what can wait, too: the scores of all films, the map of a
                phrase without sense.
        """
        return self.work.wait(timeout, idle)

    def worst_first(self, yes: bool = True) -> None:
        """Order the films by how little of the first pane's map lies on the truth.

        False orders them as in the table.
        """
        self.sort(ON_TRUTH if yes else "", down=False)

    def sort(self, column: str = "", down: bool = True) -> None:
        """Order the films by a column, the highest first; "" = as in the table.

        >>> rw.show.explore(model, table).sort("age_years")
        """
        require_columns(["", ON_TRUTH, *self.about["columns"]], [column])
        self.arranged = self.arranged | {"by": column, "down": down, "label": ""}

    def filter(self, **columns) -> None:
        """Keep the films whose columns have these values; without any, all.

        >>> rw.show.explore(model, table).filter(sex="F")

        Raises:
            ValueError: no such column, or no film has these values.
        """
        require_columns(self.about["columns"], columns)
        if not self.listing.order(self.films, "", False, columns):
            raise ValueError(f"expected values that some film has, got {columns}")
        self.arranged = self.arranged | {"keep": columns}

    def check(self, pane: int = 0) -> None:
        """Put what the pane shows to `rw.attend.sanity_check`, for its badge."""
        self.work.submit(pane, self.work.check)

    def cancel(self, pane: int = 0) -> None:
        """Stop what a pane computes; its controls go back to the map that is there."""
        with self.lock:
            self.work.jobs[pane].stop.set()
            view = self.views[pane]
            drawn = view["grid"] is not None or view["error"]
            said = view["said"] and view["said"] | {"busy": ""}
            error = view["error"] if drawn else STOPPED
            self.show(pane, busy="", error=error, said=said)
        if drawn:
            self.choose(pane, **view["choice"])

    def note(self, verdict: str = "", note: str = "", *, case: int | None = None):
        """Note something of the film that is shown, or of another one.

        >>> rw.show.explore(model, scans).note("disagree", "the device, not the lung")

        Args:
            verdict: a word, such as "agree", "disagree" or "unsure"; "" = none.
            note: any text. Without both, what was noted is forgotten.
            case: the film's number; None = the one that is shown.
        Raises:
            ValueError: the file of the notes has become something else.
        """
        case = self.case if case is None else case
        name = self.cases.name(case)
        row = {"case": name, "verdict": verdict, "note": note}
        about = self.cases.films.rows[case]
        row |= {part: about.get(part) for part in ("study_id", "patient_id")}
        self.noted.add(row | about_map(self.views[0], case))
        with self.lock:
            self.notes = self.noted.of_all(self.cases.films.names)
            self._list()

    @property
    def notes_table(self) -> pd.DataFrame:
        """All notes, those on films of other tables too."""
        return self.noted.table.copy()

    @property
    def state(self) -> dict:
        """What is shown, as a plain dict for `explore(state=...)`."""
        return state_of(self)

    def save(self, path: str | Path) -> Path:
        """Write what the panes show as a picture, whose kind the suffix says."""
        self._still().save(path)
        return Path(path)

    def _still(self):
        if self.cases is None:
            raise ValueError(CLOSED)
        views = self.views[: len(self.panes)]
        return sheet(self.cases, self.case, views, self.look)

    def close(self):
        """Stop all work and let go of films, maps and models."""
        self.work.stop()
        self.stand_in.close()
        super().close()
        self.layout.close()  # has a comm of its own
        # a notebook's list of outputs may hold the widget for ever
        self.unobserve_all()
        with self.lock:
            self.cases = None
            self.work.jobs = {}
            self.set_trait("scan", {})
            self.set_trait("views", [])

    def set_state(self, sync_data):
        # traitlets holds notifications back meanwhile, the workers' too
        with self.lock:
            super().set_state(sync_data)

    def _picture(self):
        return "image/jpeg", encoded(self._still(), "JPEG", quality=88)

    def _live(self):
        return heads_on_page(self.cases, self.views[: len(self.panes)], self.look)

    def _words(self):
        return spoken(self.cases.name(self.case), self.views[: len(self.panes)])

    def _ipython_display_(self):
        self.stand_in.show()

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        # for pages that have no kernel: a fifth of a PNG
        picture = encoded(self._still(), "JPEG", quality=88)
        return data | {"image/jpeg": in_text(picture)}, metadata

    def _heard(self, _, message, __):
        hear(self, message)

    def _changed(self, change=None):
        before = []
        if change and change.name == "panes":
            before = change.old
        panes = enumerate(self.panes)
        changed = [n for n, pane in panes if before[n : n + 1] != [pane]]
        with self.lock:
            # before anything is forgotten, else a job could tell it again
            self.work.halt([*changed, *range(len(self.panes), len(self.views))])
            self.views = self.views[: len(self.panes)]
            if change is None or change.name == "panes":
                self._ask_anew(before)
        for n in changed:
            self.work.submit(n, self.work.draw)

    def _ask_anew(self, before):
        """Forget what the list says of the first pane's former map, or words."""
        now = self.panes[0]
        if before[:1] == [now]:
            return
        words = not before or any(before[0][n] != now[n] for n in ("model", "target"))
        if not words and self.listing.energies is None:
            return  # another head: the list knows nothing of heads
        self.listing.energies = None
        if words:
            self.listing.ask(self.cases.finding, now["target"])
        if self.arranged["by"] == ON_TRUTH and before:
            self.arranged = self.arranged | {"by": "", "label": ""}
        self._list()

    def _rearranged(self, change):
        if all(change.old.get(n) == change.new.get(n) for n in FIRST if n != "label"):
            return
        with self.lock:
            self._list()
        self._complete()

    def _complete(self, move=True):
        """Compute what the order wants to know."""
        by = self.arranged["by"]
        if not self.listing.knows(by):
            sort = partial(self.work.sort, move=move)
            self.work.submit(0, sort if by == ON_TRUTH else self.work.draw)

    def learn(self, scores=None, energies=None):
        """Note what is known of all films now, and order them by it.

        Args:
            scores: (N,) for the first pane's words.
            energies: of its map on the truth, one a film.
        """
        listing = self.listing
        if energies is None and listing.scores is not None:
            return
        if scores is not None:
            listing.scores = scores
        if energies is not None:
            listing.energies = energies
        self._list()

    def _list(self):
        """The films in their order, as far as is known."""
        whole = FIRST | self.arranged
        how = {name: whole[name] for name in ("by", "down", "keep")}
        self.films = self.listing.rows()
        self.order = self.listing.order(self.films, **how)
        first = self.cases.blank(0, Choice(**self.panes[0]))
        label = self.listing.label(whole["by"], first)
        self.arranged = self.arranged | {"label": label}

    def show(self, pane, **changes):
        """Change what is known of a pane's view."""
        views = [*self.views]
        while len(views) <= pane:
            views.append({})
        views[pane] = views[pane] | changes
        self.views = views
