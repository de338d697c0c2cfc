"""The attention widget: a scan, every layer and head over it, and its score beside it.

To add a control: give it a place in `Explorer`'s traits (a slider: a row in `SLIDERS`
and its default in `LOOK`, from which js/bar.js makes it) and say in js/ what it
changes (a slider: in js/film.js, and in `radwb.explore.film` for the still).
"""

import threading
import time
from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from radwb.attend.progress import reported
from radwb.explore.about import LOOK, about
from radwb.explore.arrange import FIRST, require_columns
from radwb.explore.choice import Cancelled, Choice
from radwb.explore.film import packed, sheet, spoken
from radwb.explore.jobs import Errands, Job
from radwb.explore.listing import OF_WORDS, ON_TRUTH, Listing
from radwb.explore.messages import hear
from radwb.explore.offers import suits
from radwb.explore.once import replace_former
from radwb.explore.scores import READ_UNASKED, place_in_words, placed
from radwb.explore.words import finding_named, sentence
from radwb.show.keys import KEEP_KEYS
from radwb.show.mix import encoded, in_text
from radwb.show.stand_in import StandIn

PAGE = Path(__file__).with_name("js")
SLOW = 1_000_000  # pixels of a film whose map isn't kept waiting for its score
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
        self.jobs = {}  # pane -> its last Job
        self.errands = Errands()
        words = about(cases, targets, self.listing.columns, notes)
        super().__init__(
            about=words,
            order=list(range(len(cases))),
            case=case,
            panes=[vars(pane) for pane in panes],
            look=look,
            notes=self._all_notes(),
        )
        self.about = words | {"id": self.model_id}
        replace_former(self)
        self.stand_in = StandIn(
            super()._repr_mimebundle_, self._picture, self._words, ".rx"
        )
        self.observe(lambda _: self.stand_in.changed(), ["views", "look", "case"])
        self.observe(self._changed, ["case", "panes"])
        self.observe(self._rearranged, ["arranged"])
        self.on_msg(self._heard)
        self._changed()
        self.arranged = arranged
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
        end = time.monotonic() + (1e9 if timeout is None else timeout)
        while True:
            jobs = list(self.jobs.values())
            undone = [job for job in jobs if not job.drawn.is_set()]
            if idle:
                undone = [job for job in jobs if job.is_alive()]
            if not undone:
                return True
            seconds = max(0, min(end - time.monotonic(), threading.TIMEOUT_MAX))
            undone[0].join(seconds) if idle else undone[0].drawn.wait(seconds)
            if time.monotonic() > end:
                return False

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
        """
        require_columns(self.about["columns"], columns)
        self.arranged = self.arranged | {"keep": columns}

    def check(self, pane: int = 0) -> None:
        """Put what the pane shows to `rw.attend.sanity_check`, for its badge."""
        self._submit(pane, self._check)

    def cancel(self, pane: int = 0) -> None:
        """Stop what a pane computes; its controls go back to the map that is there."""
        with self.lock:
            self.jobs[pane].stop.set()
            view = self.views[pane]
            drawn = view["grid"] is not None or view["error"]
            said = view["said"] and view["said"] | {"busy": ""}
            error = view["error"] if drawn else STOPPED
            self._show(pane, busy="", error=error, said=said)
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
        self.noted.add(row | self._noted_of(case))
        with self.lock:
            self.notes = self._all_notes()
            self._list()

    @property
    def notes_table(self) -> pd.DataFrame:
        """All notes, those on films of other tables too."""
        return self.noted.table.copy()

    @property
    def state(self) -> dict:
        """What is shown, as a plain dict for `explore(state=...)`."""
        return {
            "film": self.cases.name(self.case),
            "panes": [dict(pane) for pane in self.panes],
            "look": dict(self.look),
            "arranged": self.arranged | {"label": ""},
        }

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
        for job in self.jobs.values():
            job.stop.set()
        self.errands.clear()
        self.stand_in.close()
        super().close()
        # a notebook's list of outputs may hold the widget for ever
        self.unobserve_all()
        with self.lock:
            self.cases = None
            self.jobs = {}
            self.set_trait("scan", {})
            self.set_trait("views", [])

    def set_state(self, sync_data):
        # traitlets holds notifications back meanwhile, the workers' too
        with self.lock:
            super().set_state(sync_data)

    def _picture(self):
        return "image/jpeg", encoded(self._still(), "JPEG", quality=88)

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
        with self.lock:
            for n in range(len(self.panes), len(self.views)):
                self.jobs[n].stop.set()
            self.views = self.views[: len(self.panes)]
            if before[:1] != self.panes[:1]:
                self._ask_anew(before[:1])
        for n, pane in enumerate(self.panes):
            if before[n : n + 1] != [pane]:
                self._submit(n, self._draw)

    def _ask_anew(self, before):
        """Forget what the list says of the first pane's former map, or words."""
        now = self.panes[0]
        self.listing.energies = None
        if not before or any(before[0][n] != now[n] for n in ("model", "target")):
            self.listing.scores = None
            self.listing.finding = self.cases.finding or finding_named(
                now["target"], self.cases.films.findings
            )
        if self.arranged["by"] == ON_TRUTH and before:
            self.arranged = self.arranged | {"by": "", "label": ""}
        self._list()

    def _rearranged(self, change):
        if all(change.old[n] == change.new[n] for n in ("by", "down", "keep")):
            return
        with self.lock:
            self._list()
        by = change.new["by"]
        if not self.listing.knows(by):
            self._submit(0, self._sort if by == ON_TRUTH else self._draw)

    def _list(self):
        """The films in their order, as far as is known."""
        how = {name: self.arranged[name] for name in ("by", "down", "keep")}
        self.films = self.listing.rows()
        self.order = self.listing.order(self.films, **how)
        label = ""
        if self.listing.knows(how["by"]):
            label = how["by"]
        if label in (ON_TRUTH, *OF_WORDS):
            choice = Choice(**self.panes[0])
            words = self.cases.blank(0, choice)["label"]
            label = words if label == ON_TRUTH else f"{label}: {choice.target}"
        self.arranged = self.arranged | {"label": label}

    def _all_notes(self):
        names = self.cases.films.names
        noted = {str(case): self.noted.of(name) for case, name in enumerate(names)}
        return {case: note for case, note in noted.items() if any(note.values())}

    def _noted_of(self, case):
        """What a note says of the first pane's map, if it is of that film."""
        view = self.views[0]
        if view["case"] != case:
            return {}
        choice = view["choice"]
        score, said = view["score"] or {}, view["said"] or {}
        asked = {part: choice[part] for part in ("model", "method", "target")}
        return asked | {"score": said.get("value"), "energy": score.get("energy")}

    def _submit(self, pane, work):
        former = self.jobs.get(pane)
        if former:
            former.stop.set()  # a newer wish
        choice = Choice(**self.panes[pane])
        job = Job(work, pane, self.case, choice, self._report, former)
        work_of = job.work
        job.work = lambda job: self._run(work_of, job)
        with self.lock:
            if pane >= len(self.views) or self.views[pane]["case"] != job.case:
                # nothing of the film before beside this one
                self._show(pane, **self.cases.blank(job.case, choice))
            self.jobs[pane] = job
        job.start()

    def _run(self, work, job):
        try:
            job.tell()
            with reported(job.tell):
                work(job)
        except Cancelled:
            return
        except Exception as problem:
            error = sentence(problem)
            blank = self.cases.blank(job.case, job.choice)
            with self.lock:
                if job.stop.is_set():
                    return
                if self.scan.get("case") != job.case:  # it couldn't be read
                    name = self.cases.name(job.case)
                    self.scan = {"case": job.case, "name": name, "error": error}
                self._show(job.pane, **blank | {"error": error})

    def _draw(self, job):
        self._paint(job)
        job.drawn.set()
        self._add(job)

    def _paint(self, job):
        """The film and its map."""
        scan = self.cases.scan(job.case)
        films = self.cases.films
        with self.lock:
            if not job.stop.is_set() and self.scan.get("case") != job.case:
                known = {"case": job.case, "name": films.name(job.case)}
                known["facts"] = films.facts(job.case)
                known["absent"] = films.absent(job.case)
                self.scan = known | packed(scan)
        if scan.pixels.size > SLOW:
            view = self.cases.view(job.case, job.choice, scored=False)
            self._publish(job, **view)
        self._publish(job, **self.cases.view(job.case, job.choice))

    def _sort(self, job):
        self._paint(job)
        energies = self.cases.energies(job.choice)
        with self.lock:
            if not job.stop.is_set():
                self._show(job.pane, busy="")
                self.listing.energies = energies
                self._list()
                self.case = self.order[0]

    def _add(self, job):
        """What can wait: the score, the map of nonsense, the place among all films."""
        cases, choice = self.cases, job.choice
        scores = cases.scores[choice.model]
        if not suits(cases.models[choice.model], choice.target):
            return
        value = scores.of_film(job.case, choice.target)
        said = {"value": value, "rank": None, "of": None, "busy": ""}
        said["text"] = scores.words(value, choice.target)
        self._publish(job, said=said)
        if cases.reads(choice):
            words = cases.words(choice)
            nonsense = cases.nonsense(job.case, choice)
            self._publish(job, words=words | {"nonsense": nonsense})
        asked = self.arranged["by"] in OF_WORDS
        if len(cases) > READ_UNASKED and not asked:
            return
        all_scores = scores.of_all(choice.target)
        place = placed(all_scores, job.case)
        text = f"{said['text']}, {place_in_words(**place)}"
        self._publish(job, said=said | place | {"text": text})
        with self.lock:
            if job.pane == 0 and not job.stop.is_set():
                self.listing.scores = all_scores
                self._list()

    def _check(self, job):
        self.cases.check(job.choice)
        self._draw(job)

    def _report(self, job, text):
        if job.drawn.is_set():
            said = self.views[job.pane].get("said")
            if said:
                self._publish(job, said=said | {"busy": text})
        else:
            self._publish(job, busy=text)

    def _publish(self, job, **changes):
        with self.lock:
            if not job.stop.is_set():
                self._show(job.pane, **changes)

    def _show(self, pane, **changes):
        views = [*self.views]
        while len(views) <= pane:
            views.append({})
        views[pane] = views[pane] | changes
        self.views = views
