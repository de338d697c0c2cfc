"""Work on many files at once: in processes here, or on joblib's other backends."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

LIKELY = 4  # unread items a worker, among which is the one that ended it


def as_done(
    work: Callable[[Any], Any],
    items: list,
    workers: int | None = 1,
    *,
    lost: Callable[[Any], Any],
) -> Iterator[tuple[int, Any]]:
    """Yield (position, result) of each item, in whatever order they are done.

    >>> sorted(as_done(len, ["a", "bc"], lost=str))
    [(0, 1), (1, 2)]

    Args:
        work: a function of one item, and `items` what goes to it; both are pickled.
        workers: processes; 1 = this one, None = one a core. Under
            `joblib.parallel_config(backend="dask")` they are a Dask cluster's.
        lost: the result of an item that ended the process which worked on it.
    Raises:
        ValueError: workers is no count.
    """
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise ValueError(f"expected workers of 1 or more, or None, got {workers!r}")
    waiting = dict(enumerate(items))
    workers = workers or os.cpu_count()
    if workers == 1:
        yield from ((n, work(item)) for n, item in waiting.items())
        return
    call = partial(_with_settings, work, _settings())
    while waiting:
        try:
            for n, result in _at_once(call, waiting, workers):
                del waiting[n]
                yield n, result
        except _ending():
            for n in list(waiting)[: LIKELY * workers]:
                yield n, _alone(call, waiting.pop(n), lost)


def _settings():
    """What $RADWB_... say now: a process that is used again has those of before."""
    return {name: os.environ[name] for name in os.environ if name.startswith("RADWB_")}


def _with_settings(work, settings, n, item):
    for name in _settings().keys() - settings:
        del os.environ[name]
    os.environ.update(settings)
    return n, work(item)


def _at_once(call, waiting, workers):
    pool = Parallel(workers, return_as="generator_unordered")
    return pool(delayed(call)(n, item) for n, item in list(waiting.items()))


def _alone(call, item, lost):
    """The result of an item in processes of its own, since it may end them."""
    try:
        pool = Parallel(2, return_as="list")  # 1 would be this process
        return pool([delayed(call)(0, item)])[0][1]
    except _ending():
        return lost(item)


def _ending():
    """What is raised where an item ended its process, here or on a Dask cluster."""
    cluster = sys.modules.get("distributed")
    return (BrokenProcessPool, cluster.KilledWorker) if cluster else BrokenProcessPool
