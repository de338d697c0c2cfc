"""Long work that can be followed and stopped."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from tqdm.auto import tqdm

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
def reported(net: torch.nn.Module, tell: Callable[..., None]) -> Iterator[None]:
    """Within it `tell(text)` is called at each of `steps`, and `tell()` in the network.

    There before each of its parts, and only in this thread. What `tell` raises ends the
    work: the one way to stop a computation in the midst of somebody's network.
    """
    thread = threading.get_ident()
    token = _listener.set(tell)

    def hook(*_):
        if threading.get_ident() == thread:
            tell()

    hooks = [module.register_forward_pre_hook(hook) for module in net.modules()]
    try:
        yield
    finally:
        _listener.reset(token)
        for each in hooks:
            each.remove()
