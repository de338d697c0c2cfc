"""Hooks and functions that are changed for one thread alone, whoever else runs them.

Nothing of radwb is imported here.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def of_this_thread(hook: Callable) -> Callable:
    """The hook, deaf to other threads that run the same module."""
    thread = threading.get_ident()

    def heard(*call):
        if threading.get_ident() == thread:
            return hook(*call)

    return heard


class Replaced:
    """A function of a module, which each thread may replace for itself.

    >>> import math
    >>> root = Replaced(math, "sqrt")
    >>> with root.by(lambda x: -x):
    ...     math.sqrt(4)
    -4
    >>> math.sqrt(4)
    2.0

    Args:
        owner: the module, through which all call it.
        name: of the function.
    """

    def __init__(self, owner: object, name: str):
        self.owner = owner
        self.name = name
        self.original = None
        self.own = {}  # thread -> what it calls instead, the last one counts
        self.guard = threading.RLock()

    @contextmanager
    def by(self, function: Callable) -> Iterator[Callable]:
        """Within it this thread calls `function`; what the others call is given."""
        thread = threading.get_ident()
        with self.guard:
            if not self.own:
                self.original = getattr(self.owner, self.name)
                setattr(self.owner, self.name, self)
            self.own[thread] = [*self.own.get(thread, []), function]
        try:
            yield self.original
        finally:
            with self.guard:
                self.own[thread] = self.own[thread][:-1]
                if not self.own[thread]:
                    del self.own[thread]
                if not self.own:
                    setattr(self.owner, self.name, self.original)

    def __call__(self, *args, **options):
        own = self.own.get(threading.get_ident())
        function = own[-1] if own else self.original
        return function(*args, **options)
