"""Long work that can be followed and stopped."""

import threading
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm.auto import tqdm

_listener = ContextVar("listener", default=None)


def steps(items, what: str):
    """The items one by one, with a bar where they take over two seconds and nobody
    follows.

    >>> for few in steps(torch.arange(1000).split(16), "RISE"): ...
    """
    tell = _listener.get()
    for n, item in enumerate(
        tqdm(items, what, delay=2, leave=False, disable=tell is not None)
    ):
        if tell:
            tell(f"{what}, {n} of {len(items)}")
        yield item


@contextmanager
def followed(net, tell):
    """Within it this thread calls `tell(text)` at each of `steps`, and `tell()` before
    each part of the network.

    What `tell` raises ends the work: the one way to stop a computation in the midst of
    somebody's network.
    """
    me, token = threading.get_ident(), _listener.set(tell)

    def hook(*_):
        if threading.get_ident() == me:
            tell()

    hooks = [module.register_forward_pre_hook(hook) for module in net.modules()]
    try:
        yield
    finally:
        _listener.reset(token)
        for each in hooks:
            each.remove()
