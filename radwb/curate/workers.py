"""Work on many files at once: in processes here, or on a Dask cluster."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

LIKELY = 4  # unread items a worker, among which is the one that ended it


def as_done(
    work: Callable[[Any], Any],
    items: list,
    workers: Any = 1,
    *,
    lost: Callable[[Any], Any],
) -> Iterator[tuple[int, Any]]:
    """Yield (position, result) of each item, in whatever order they are done.

    >>> sorted(as_done(len, ["a", "bc"], lost=str))
    [(0, 1), (1, 2)]

    Args:
        work: a function of one item, and `items` what goes to it; both are pickled.
        workers: processes; 1 = this one, None = one a core. Or a `distributed.Client`
            (extra `scale`): a Dask cluster's, which tries an item that ended its worker
            on another one, and gives it up after some.
        lost: the result of an item that ended the process which worked on it.
    Raises:
        ValueError: workers is no count.
    """
    if hasattr(workers, "submit"):
        yield from _on_cluster(work, items, workers, lost)
        return
    count = isinstance(workers, Integral) and not isinstance(workers, bool)
    if workers is not None and not (count and workers >= 1):
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
        except BrokenProcessPool:
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
    except BrokenProcessPool:
        return lost(item)


def _on_cluster(work, items, client, lost):
    """As `as_done`; joblib's own Dask backend waits for ever where a worker died."""
    from distributed import KilledWorker, as_completed

    call = partial(_with_settings, work, _settings())
    futures = [client.submit(call, n, item, pure=False) for n, item in enumerate(items)]
    position = {future.key: n for n, future in enumerate(futures)}
    for future in as_completed(futures):
        n = position[future.key]
        try:
            yield n, future.result()[1]
        except KilledWorker:
            yield n, lost(items[n])
