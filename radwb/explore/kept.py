"""What was computed of films, kept once for all widgets and let go with the model."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import chain
from weakref import WeakKeyDictionary

from radwb.attend.tower import in_float32


class Kept:
    """Values by key: those used last, up to so many bytes, but always the newest.

    >>> kept = Kept(1000)
    >>> kept.get("a", lambda: np.zeros(4)).shape, kept.get("a", None).shape
    ((4,), (4,))
    """

    def __init__(self, most: int):
        self.most = most
        self.size = 0
        self.values = OrderedDict()  # key -> (value, its bytes)
        self.lock = threading.Lock()

    def __contains__(self, key):
        return key in self.values

    def get(self, key: Hashable, make: Callable) -> object:
        """The value of the key, made where it isn't there."""
        with self.lock:
            if key in self.values:
                self.values.move_to_end(key)
                return self.values[key][0]
        value = make()  # two threads may both make it: neither waits for the other
        with self.lock:
            self.size += size_of(value) - self.values.pop(key, (None, 0))[1]
            self.values[key] = value, size_of(value)
            while self.size > self.most and len(self.values) > 1:
                _, (_, size) = self.values.popitem(last=False)
                self.size -= size
        return value


def size_of(value) -> int:
    """Bytes of arrays, tensors, scans and tuples of them."""
    if isinstance(value, tuple):
        return sum(map(size_of, value))
    if hasattr(value, "truth"):
        return value.pixels.nbytes + sum(m.nbytes for m in value.truth.values())
    return getattr(value, "nbytes", 0)


class Store:
    """What was computed of films by one model with the weights that it had then."""

    def __init__(self, model, weights):
        self.weights = weights
        exact = in_float32(model)
        # never the model itself, else it would outlive its last user
        self.copy = None if exact is model else exact
        self.attention = Kept(96 * 2**20)  # 22 MB a film of a ViT-B/16
        self.heads = Kept(64 * 2**20)
        self.grids = Kept(64 * 2**20)
        self.outputs = Kept(256 * 2**20)  # 20,000 films of a large tower


SCANS = Kept(256 * 2**20)
_stores = WeakKeyDictionary()


def store_of(model) -> Store:
    """What is kept of a model; nothing of what it had before it was trained further."""
    weights = _version(model.net)
    store = _stores.get(model)
    if store is None or store.weights != weights:
        store = Store(model, weights)
        _stores[model] = store
    return store


def _version(net):
    """Changes with every step of an optimiser and every loading of weights."""
    tensors = chain(net.parameters(), net.buffers())
    return tuple((tensor._version, tensor.data_ptr()) for tensor in tensors)
