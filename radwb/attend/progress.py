"""Long work that can be followed and stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch.nn.modules.module import register_module_forward_pre_hook
from tqdm.auto import tqdm

from radwb.attend.threads import of_this_thread

_listener = ContextVar("listener", default=None)


def steps(items, what: str) -> Iterator:
    """The items one by one, with a bar where they take over two seconds.

    >>> sum(steps(range(4), "counting"))
    6

    Within `reported` there is no bar: its listener is told instead.

    Args:
        items: with a length.
        what: the work's name.
    """
    listener = _listener.get()
    bar = tqdm(items, what, delay=2, leave=False, disable=listener is not None)
    for n, item in enumerate(bar):
        if listener:
            listener(f"{what}, {n} of {len(items)}")
        yield item


def in_batches(items, size: int, what: str) -> Iterator:
    """The items in `steps` of at most `size`; of one step nothing is told.

    >>> list(in_batches([1, 2, 3], 2, "counting"))
    [[1, 2], [3]]

    Args:
        items: a list or a tensor.
        size: at least one is taken.
        what: the work's name.
    """
    size = max(1, size)
    batches = [items[i : i + size] for i in range(0, len(items), size)]
    return steps(batches, what) if len(batches) > 1 else iter(batches)


@contextmanager
def reported(tell: Callable[..., None]) -> Iterator[None]:
    """Within it `tell(text)` is called at each of `steps`, and `tell()` in networks.

    There before each of their parts, and only in this thread. What `tell` raises ends
    the work: the one way to stop a computation in the midst of somebody's network.
    """
    token = _listener.set(tell)

    @of_this_thread
    def hook(*_):
        tell()

    # on no module, since other threads may run these or copy them
    of_torch = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        _listener.reset(token)
        of_torch.remove()
