"""The attention widget: a scan, every layer and head over it, and its score beside it.

To add a control: give it a place in `Explorer`'s traits (a slider: a row in `SLIDERS`
and its default in `LOOK`, from which js/bar.js makes it) and say in js/ what it
changes (a slider: in js/film.js, and in `radwb.explore.film` for the still).
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import anywidget
import traitlets

from radwb.attend.methods import METHODS, TABLE
from radwb.attend.progress import reported
from radwb.attend.tower import has_attention
from radwb.explore.cases import Cancelled, Cases, Choice
from radwb.explore.film import LEGAL, packed, sheet
from radwb.explore.words import sentence
from radwb.show.mix import ALPHA, CONSTANTS, encoded, in_text

PAGE = Path(__file__).with_name("js")
LOOK = {"window": 1.0, "level": 0.5, "alpha": ALPHA, "truth": True}
# what a slider changes of the look: its name, lowest and highest value
SLIDERS = {
    "window": ("Window", 0.05, 1.5),
    "level": ("Level", 0, 1),
    "alpha": ("Map", 0, 1),
}
SLOW = 1_000_000  # pixels of a film whose map isn't kept waiting for its score
TELL_S = 0.2  # between two reports of what a pane computes


def explore(
    model: object,
    table: object,
    *,
    finding: str | None = None,
    against: object = None,
    method: str | None = None,
    target: str | None = None,
    targets: list[str] | None = None,
    badges: dict | None = None,
) -> "Explorer":
    """Look at the attention of your own model, film by film.

    Click a head or a patch, type a phrase, compare, start with the worst.

    >>> widget = rw.show.explore(model, scans, against="gradcam")
    >>> widget.choose(layer=2)
    >>> path = widget.save("a.png")

    Args:
        model: a `rw.models.Model`; a list, or a dict {name: Model}, of two opens two
            panes.
        table: rows that `rw.data.scan_of` reads, or a list of Scans.
        finding: what every map is scored against. None = the finding that the target's
            words name.
        against: what a second pane shows: another Model, or a method's name.
        method: of the first map; None = "relevance", for a CNN "gradcam".
        target: of the first map: a phrase, "this vs that", or a class. None = the first
            of `targets`.
        targets: offered by the drop-down. None = the findings; where all models read,
            each against "no ...".
        badges: method -> Badge, known already; "Check" runs `rw.attend.sanity_check`
            for others.
    Returns:
        the widget. A saved notebook and an exported page keep the picture of the moment
        when the cell ran.
    Raises:
        ValueError: no film, more than two models, or an unknown method.
    """
    models = _by_name(model, against)
    names = list(models)
    cases = Cases(models, table, finding=finding, badges=badges)
    if method is None:
        method = "relevance" if has_attention(models[names[0]]) else "gradcam"
    second = against if isinstance(against, str) else method
    for name in (method, second):
        if name not in METHODS:
            raise ValueError(f"expected a method of {METHODS}, got {name!r}")
    offered = list(targets or cases.targets())
    panes = [Choice(names[0], method, target or offered[0])]
    if against is not None or len(names) == 2:
        panes.append(Choice(names[-1], second, panes[0].target))
    return Explorer(cases, panes, offered)


def _by_name(model, against):
    """One model or two, by name."""
    if isinstance(model, dict):
        return dict(model)
    models = list(model) if isinstance(model, list | tuple) else [model]
    if against is not None and not isinstance(against, str):
        models.append(against)
    if len(models) not in (1, 2):
        raise ValueError(f"expected one model or two, got {len(models)}")
    names = [one.name for one in models]
    if len(set(names)) < len(names):
        names = [f"{name} ({n})" for n, name in enumerate(names)]
    return dict(zip(names, models, strict=True))


class Job:
    """What a pane's worker computes: a case and a choice of what to show of it."""

    def __init__(self, pane, case, choice, report):
        self.pane = pane
        self.case = case
        self.choice = choice
        self.report = report
        self.stop = threading.Event()
        self.began = time.monotonic()
        self.reported = 0.0  # seconds after it began
        self.part = choice.method
        self.future = None

    def tell(self, part=""):
        """Note what is computed now, and stop where that was asked for."""
        self.part = part or self.part
        if self.stop.is_set():
            raise Cancelled
        seconds = time.monotonic() - self.began
        if seconds > self.reported + TELL_S:
            self.reported = seconds
            self.report(self, busy=f"{self.part}, {seconds:.0f} s")


class Explorer(anywidget.AnyWidget):
    """What `explore` returns.

    Its traits are its state; `case` and `choose` drive it from Python.
    """

    # its files are one module: a notebook carries it, no page loads it
    _esm = "\n".join(path.read_text("utf-8") for path in sorted(PAGE.glob("*.js")))
    _css = PAGE / "widget.css"
    about = traitlets.Dict().tag(sync=True)
    case = traitlets.Int(0).tag(sync=True)
    order = traitlets.List().tag(sync=True)
    # the label of the map that the order comes from
    sorted_by = traitlets.Unicode("").tag(sync=True)
    panes = traitlets.List().tag(sync=True)  # a `Choice` each, as a dict
    look = traitlets.Dict(LOOK).tag(sync=True)
    scan = traitlets.Dict().tag(sync=True)
    # what `Cases.view` says, and `busy`: a text while a pane computes
    views = traitlets.List().tag(sync=True)

    def __init__(self, cases, panes, targets):
        self.cases = cases
        self.lock = threading.RLock()
        self.jobs = {}  # pane -> its last Job
        # one a pane, so that "cancel" is heard meanwhile
        self.workers = [ThreadPoolExecutor(1, "explore") for _ in range(2)]
        about = dict(
            models=list(cases.models),
            targets=targets,
            legal=LEGAL,
            mix=CONSTANTS,
            look=LOOK,
            sliders=SLIDERS,
            methods=list(METHODS),
            of_head=[name for name in METHODS if TABLE[name].head],
            no_layer=[name for name in METHODS if not TABLE[name].layer],
            no_target=[name for name in METHODS if not TABLE[name].target],
        )
        choices = [vars(pane) for pane in panes]
        super().__init__(about=about, order=list(range(len(cases))), panes=choices)
        self.observe(self._changed, ["case", "panes"])
        self.on_msg(self._heard)
        self._changed()
        self.wait()

    def choose(self, pane: int = 0, **changes) -> None:
        """Change a pane's model, method, target, layer, head or patch.

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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is drawn; False when `timeout` seconds were not enough."""
        end = time.monotonic() + (1e9 if timeout is None else timeout)
        while True:
            jobs = [job.future for job in self.jobs.values()]
            pending = [future for future in jobs if not future.done()]
            if not pending:
                return True
            if wait(pending, max(0, end - time.monotonic())).not_done:
                return False

    def worst_first(self, yes: bool = True) -> None:
        """Order the films by how little of the first pane's map lies on the truth.

        False orders them as in the table.
        """
        self.order = sorted(self.order)
        self.sorted_by = ""
        if yes:
            self._submit(0, self._sort)

    def check(self, pane: int = 0) -> None:
        """Put what the pane shows to `rw.attend.sanity_check`, for its badge."""
        self._submit(pane, self._check)

    def cancel(self, pane: int = 0) -> None:
        """Stop what a pane computes; its controls go back to the map that is there."""
        with self.lock:
            self.jobs[pane].stop.set()
            self._show(pane, busy="")
        choice = self.views[pane].get("choice")
        if choice:
            self.choose(pane, **choice)

    def save(self, path: str | Path) -> Path:
        """Write what the panes show as a picture, whose kind the suffix says."""
        self._still().save(path)
        return Path(path)

    def _still(self):
        views = self.views[: len(self.panes)]
        return sheet(self.cases, self.case, views, self.look)

    def close(self):
        for job in self.jobs.values():
            job.stop.set()
        for worker in self.workers:
            worker.shutdown(wait=False)
        super().close()

    def set_state(self, sync_data):
        # traitlets holds notifications back meanwhile, the workers' too
        with self.lock:
            super().set_state(sync_data)

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        # for pages that have no kernel: a fifth of a PNG
        picture = encoded(self._still(), "JPEG", quality=88)
        return data | {"image/jpeg": in_text(picture)}, metadata

    def _heard(self, _, message, __):
        for name, argument in message.items():
            if name in ("cancel", "check", "worst_first"):
                getattr(self, name)(argument)

    def _changed(self, change=None):
        before = []
        if change and change.name == "panes":
            before = change.old
        for n, pane in enumerate(self.panes):
            if before[n : n + 1] != [pane]:
                self._submit(n, self._draw)

    def _submit(self, pane, work):
        if pane in self.jobs:
            self.jobs[pane].stop.set()  # a newer wish
        choice = Choice(**self.panes[pane])
        job = Job(pane, self.case, choice, self._publish)
        job.future = self.workers[pane].submit(self._run, work, job)
        self.jobs[pane] = job

    def _run(self, work, job):
        try:
            job.tell()
            with reported(job.tell):
                work(job)
        except Cancelled:
            return
        except Exception as problem:
            if self.scan.get("case") != job.case:  # it couldn't be read
                self.scan = {"name": self.cases.name(job.case)}
            self._publish(job, busy="", error=sentence(problem))

    def _draw(self, job):
        scan = self.cases.scan(job.case)
        with self.lock:
            if self.scan.get("case") != job.case:
                name = self.cases.name(job.case)
                self.scan = {"case": job.case, "name": name} | packed(scan)
        if scan.pixels.size > SLOW:
            view = self.cases.view(job.case, job.choice, scored=False)
            self._publish(job, **view)
        self._publish(job, busy="", **self.cases.view(job.case, job.choice))

    def _sort(self, job):
        self._draw(job)
        order = self.cases.worst_first(job.choice)
        with self.lock:
            if not job.stop.is_set():
                self._show(job.pane, busy="")
                self.order = order
                self.sorted_by = self.views[job.pane]["label"]
                self.case = order[0]

    def _check(self, job):
        self.cases.check(job.choice)
        self._draw(job)

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
