"""Work beside the notebook: it can be stopped, and its threads end when it's done."""

import atexit
import threading
import time
from collections import deque
from weakref import WeakSet

from radwb.explore.choice import Cancelled

TELL_S = 0.2  # between two reports of what a pane computes
LEAVE_S = 5  # that the interpreter waits at its end
_running = WeakSet()


class Job(threading.Thread):
    """What a pane shows of a case, computed in a thread of its own.

    Args:
        work: called with the job.
        pane, case, choice: what it is for.
        report: called with the job and a text, while it runs.
        former: the pane's job before; it waits until that one has drawn or given up.
    """

    def __init__(self, work, pane, case, choice, report, former=None):
        super().__init__(name="explore", daemon=True)
        self.work = work
        self.pane = pane
        self.case = case
        self.choice = choice
        self.report = report
        self.former = former
        self.stop = threading.Event()
        self.drawn = threading.Event()  # what is left of it can wait
        self.began = time.monotonic()
        self.reported = 0.0  # seconds after it began
        self.part = choice.method
        _running.add(self)

    def run(self):
        try:
            if self.former:
                self.former.drawn.wait()
            self.former = None  # else each would keep all before it
            self.work(self)
        finally:
            self.drawn.set()
            self.work = self.report = None

    def tell(self, part=""):
        """Note what is computed now, and stop where that was asked for."""
        self.part = part or self.part
        if self.stop.is_set():
            raise Cancelled
        seconds = time.monotonic() - self.began
        if seconds > self.reported + TELL_S:
            self.reported = seconds
            self.report(self, f"{self.part}, {seconds:.0f} s")


class Errands:
    """Small work, one after another, the newest first."""

    def __init__(self):
        self.lock = threading.Lock()
        self.todo = deque()
        self.thread = None

    def add(self, work, *arguments) -> None:
        with self.lock:
            self.todo.append((work, arguments))
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, daemon=True)
                _running.add(self.thread)
                self.thread.start()

    def clear(self) -> None:
        with self.lock:
            self.todo.clear()

    def join(self) -> None:
        thread = self.thread
        if thread is not None:
            thread.join()

    def _run(self):
        while True:
            with self.lock:
                if not self.todo:
                    self.thread = None
                    return
                work, arguments = self.todo.pop()
            work(*arguments)


@atexit.register
def _leave():
    # a thread within torch must not outlive the interpreter, which would abort
    for thread in list(_running):
        if isinstance(thread, Job):
            thread.stop.set()
    for thread in list(_running):
        thread.join(LEAVE_S)
