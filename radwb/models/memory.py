"""How much memory a pass of a network takes, told without running it."""

import copy
import weakref

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MOST = 1000  # inputs that a pass holds; of the networks tried a SwinUNETR most: 470


class _Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are there at the same time."""

    def __init__(self):
        super().__init__()
        self.now = 0
        self.most = 0
        self.seen = weakref.WeakSet()  # storages

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):  # weights, which are there anyway
            self.seen.add(tensor.untyped_storage())
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            self._count(tensor.untyped_storage())
        return out

    def _count(self, storage):
        if storage in self.seen:
            return
        self.seen.add(storage)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size):
        self.now -= size


def _tensors(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def pass_bytes(net: torch.nn.Module, x: torch.Tensor) -> int:
    """The most bytes that a pass forward holds at a time, besides input and weights.

    >>> pass_bytes(torch.nn.Conv3d(1, 2, 1), torch.zeros(1, 1, 8, 8, 8))
    4096

    A convolution may need as much again for its own copies. Nothing is computed.

    Returns:
        0 where a network can't be followed without its numbers.
    """
    held = _Held()
    own = {id(t): t for t in (*net.parameters(), *net.buffers())}
    try:
        # the weights are shared, but what a network keeps from a pass is the copy's
        net = copy.deepcopy(net, own)
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), held:
            net(x)
    except Exception:  # whatever a network does with numbers that aren't there
        return 0
    return held.most


def require_memory(net: torch.nn.Module, x: torch.Tensor, name: str) -> None:
    """ValueError where a pass over `x` takes more than the free memory."""
    free = psutil.virtual_memory().available
    if x.is_cuda:
        free = torch.cuda.mem_get_info(x.device)[0]
    if MOST * x.nbytes < free:
        return  # the estimate would take longer than the pass
    needed = pass_bytes(net, x)
    if needed > free:
        raise ValueError(
            f"expected at least {needed / 2**30:.3g} GiB of free memory for a pass of "
            f"{name} over {tuple(x.shape[2:])} voxels, got "
            f"{free / 2**30:.3g} GiB. Try to close other programs, or a smaller size."
        )
