"""One thread at a time in a network, in the order in which they ask.

A network's settings, hooks and weights belong to all threads. Who changes any of them,
or needs them as they are for a pass forward and back, does so in turn; a `Model` runs
its network so.
"""

import os
import threading
from weakref import WeakKeyDictionary

import torch

_guard = threading.RLock()  # of what stands below; held for moments only
_turns = WeakKeyDictionary()  # network -> Turns
_awaited = {}  # thread -> the Turns that it waits for


def in_turn(net: torch.nn.Module) -> "Turns":
    """Within it no other thread that asks for its turn gets one, in this network.

    >>> with in_turn(model.net):
    ...     output = model.net.visual(model.preprocess(scan))

    Whoever runs the network without asking isn't held up.
    """
    with _guard:
        return _turns.setdefault(net, Turns())


class Turns:
    """A lock that goes to the thread which has waited longest; to its holder at once.

    With `threading.RLock` a long loop would take it again before any waiting thread
    woke up.
    """

    def __init__(self):
        self.holder = None
        self.depth = 0  # how often the holder has entered
        self.waiting = {}  # thread -> the gate it stands at, the first in front

    def __enter__(self):
        thread = threading.get_ident()
        with _guard:
            if self.holder in (None, thread):
                self.holder = thread
                self.depth += 1
                return
            _require_an_end(self, thread)
            gate = threading.Lock()
            gate.acquire()
            self.waiting[thread] = gate
            _awaited[thread] = self
        try:
            gate.acquire()  # until `_hand_on` opens it
        except BaseException:  # an interrupt from the keyboard
            self._give_up(thread)
            raise

    def __exit__(self, *_):
        with _guard:
            self.depth -= 1
            if self.depth == 0:
                self._hand_on()

    def _hand_on(self):
        self.holder = next(iter(self.waiting), None)
        if self.holder is not None:
            self.depth = 1
            _awaited.pop(self.holder, None)
            self.waiting.pop(self.holder).release()

    def _give_up(self, thread):
        with _guard:
            _awaited.pop(thread, None)
            if self.waiting.pop(thread, None) is None:
                self.__exit__()  # the turn has just come


def _require_an_end(turns, thread):
    """RuntimeError where the holder waits, maybe through others, for this thread."""
    holder = turns.holder
    while holder in _awaited:
        holder = _awaited[holder].holder
        if holder == thread:
            raise RuntimeError(
                "expected threads to take turns in one network at a time, got one that "
                "holds a network and waits for another, whose holder waits for the "
                "first. Try to leave ablate_heads before looking into another model."
            )


def _forget():
    """In a forked child no other thread is left to hand anything on."""
    global _guard
    _guard = threading.RLock()
    _turns.clear()
    _awaited.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
