"""What the panes compute, each in a thread of its own, and what they show of it."""

import threading
import time
from functools import partial

from radwb.attend.progress import reported
from radwb.explore.choice import Cancelled, Choice
from radwb.explore.film import packed
from radwb.explore.jobs import Errands, Job
from radwb.explore.listing import OF_WORDS
from radwb.explore.offers import suits
from radwb.explore.scores import READ_UNASKED, place_in_words, placed
from radwb.explore.words import sentence

SLOW = 1_000_000  # pixels of a film whose map isn't kept waiting for its score


class Work:
    """The jobs of a widget.

    Args:
        widget: an `Explorer`, whose traits are set under its `lock`.
    """

    def __init__(self, widget):
        self.widget = widget
        self.jobs = {}  # pane -> its last Job
        self.errands = Errands()

    def submit(self, pane, kind):
        """Compute what a pane asks for; a newer wish stops an older one.

        Args:
            kind: `draw`, `sort` or `check`.
        """
        widget = self.widget
        self.halt([pane])
        former = self.jobs.get(pane)
        choice = Choice(**widget.panes[pane])
        run = partial(self._run, kind)
        job = Job(run, pane, widget.case, choice, self._report, former)
        with widget.lock:
            views = widget.views
            if pane >= len(views) or views[pane]["case"] != job.case:
                # nothing of the film before beside this one
                widget.show(pane, **widget.cases.blank(job.case, choice))
            self.jobs[pane] = job
        job.start()

    def wait(self, timeout, idle):
        """As `Explorer.wait`."""
        end = time.monotonic() + (1e9 if timeout is None else timeout)
        while True:
            jobs = list(self.jobs.values())
            undone = [job for job in jobs if not job.drawn.is_set()]
            if idle:
                undone = [job for job in jobs if job.is_alive()]
            if not undone:
                return True
            seconds = max(0, min(end - time.monotonic(), threading.TIMEOUT_MAX))
            wait = undone[0].join if idle else undone[0].drawn.wait
            wait(seconds)
            if time.monotonic() > end:
                return False

    def halt(self, panes):
        """Stop what these panes compute."""
        for pane in panes:
            if pane in self.jobs:
                self.jobs[pane].stop.set()

    def stop(self):
        self.halt(self.jobs)
        self.errands.clear()

    def draw(self, job):
        self._paint(job)
        self._finish(job)

    def check(self, job):
        self.widget.cases.check(job.choice)
        self.draw(job)

    def sort(self, job, move=True):
        """By how much of the map lies on the truth, film by film.

        Args:
            move: go to the first film of the order.
        """
        widget = self.widget
        self._paint(job)
        energies = widget.cases.energies(job.choice)
        with widget.lock:
            if not job.stop.is_set():
                widget.show(job.pane, busy="")
                widget.learn(energies=energies)
                if move and widget.order:
                    widget.case = widget.order[0]
        self._finish(job)

    def _run(self, kind, job):
        try:
            job.tell()
            with reported(job.tell):
                kind(job)
        except Cancelled:
            return
        except Exception as problem:  # nobody sees the traceback of a worker
            self._fail(job, sentence(problem))

    def _fail(self, job, error):
        widget = self.widget
        with widget.lock:
            if job.stop.is_set():
                return
            if widget.scan.get("case") != job.case:  # it couldn't be read
                name = widget.cases.name(job.case)
                widget.scan = {"case": job.case, "name": name, "error": error}
            blank = widget.cases.blank(job.case, job.choice)
            widget.show(job.pane, **blank | {"error": error})

    def _paint(self, job):
        """The film and its map."""
        widget = self.widget
        cases = widget.cases
        scan = cases.scan(job.case)
        with widget.lock:
            if not job.stop.is_set() and widget.scan.get("case") != job.case:
                widget.scan = self._film(job.case, scan)
        if scan.pixels.size > SLOW:
            view = cases.view(job.case, job.choice, scored=False)
            self._publish(job, **view)
        view = cases.view(job.case, job.choice)
        with widget.lock:
            view |= _known(widget.views[job.pane], view)
            self._publish(job, **view)

    def _film(self, case, scan):
        films = self.widget.cases.films
        facts = {"facts": films.facts(case), "absent": films.absent(case)}
        return {"case": case, "name": films.name(case)} | facts | packed(scan)

    def _finish(self, job):
        """What can wait: nobody's next wish waits for it."""
        job.drawn.set()
        try:
            if suits(self.widget.cases.models[job.choice.model], job.choice.target):
                self._add(job)
        except (OSError, ValueError, RuntimeError):
            return  # the map beside it says why

    def _add(self, job):
        """The model's score with its place among all films, the map of nonsense."""
        cases, choice = self.widget.cases, job.choice
        said = self.widget.views[job.pane]["said"]
        unlisted = job.pane == 0 and self.widget.listing.scores is None
        if unlisted or not said or said["rank"] is None:
            self._score(job, cases.scores[choice.model])
        words = self.widget.views[job.pane]["words"]
        if words and words["nonsense"] is None:
            job.tell("map of nonsense words")
            nonsense = {"nonsense": cases.nonsense(job.case, choice)}
            self._publish(job, words=words | nonsense)
        self._report(job, "")

    def _score(self, job, scores):
        widget = self.widget
        target = job.choice.target
        said = scores.said(job.case, target)
        if not scores.complete():
            self._publish(job, said=said)
            if len(scores) > READ_UNASKED and widget.arranged["by"] not in OF_WORDS:
                return
        all_scores = scores.of_all(target)
        place = placed(all_scores, job.case)
        text = f"{said['text']}, {place_in_words(**place)}"
        self._publish(job, said=said | place | {"text": text})
        with widget.lock:
            if job.pane == 0 and not job.stop.is_set():
                widget.learn(scores=all_scores)

    def _report(self, job, text):
        """Say what runs: over the film, or, once the map is there, beside the score."""
        if not job.drawn.is_set():
            self._publish(job, busy=text)
            return
        said = self.widget.views[job.pane]["said"]
        if said:
            self._publish(job, said=said | {"busy": text})

    def _publish(self, job, **changes):
        with self.widget.lock:
            if not job.stop.is_set():
                self.widget.show(job.pane, **changes)


def _known(before, view):
    """What the view before says of this film and these words already."""
    if before["case"] != view["case"]:
        return {}
    now, then = view["choice"], before["choice"]
    known = {}
    if all(now[part] == then[part] for part in ("model", "target")):
        known["said"] = before["said"]
    if now == then and before["words"]:
        known["words"] = before["words"]
    return known
