"""A graphics card that isn't there, for tests of where a tensor lies.

Tensors "on" it hold real numbers and say that their device is cuda:0. They follow
CUDA's rules: a function may not mix them with tensors of the processor, save numbers
without an axis in arithmetic and indices; numpy doesn't read them; a generator of the
processor doesn't fill them. Below, torch takes them for its `meta` device, which needs
no driver and never meets the processor's either.
"""

import threading
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CARD = torch.device("cuda", 0)
BELOW = torch.device("meta")
MOVES = ("_to_copy", "copy_", "copy")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
DEVICE_OF = torch.Tensor.device.__get__
IS_CUDA = torch.Tensor.is_cuda.__get__
IS_META = torch.Tensor.is_meta.__get__
# torch fills these below all modes, so they are made first and moved then
FILLED = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
MEMORY = 8 << 30  # bytes of the card


class OnCard(torch.Tensor):
    """A tensor of the card: its numbers lie in `numbers`, on the processor."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=BELOW,
        )

    def __init__(self, numbers):
        self.numbers = numbers

    def __repr__(self):
        return f"OnCard({self.numbers})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Moves(TorchDispatchMode):
    """Also what is made on the card, and what is moved to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Names(TorchFunctionMode):
    """`cuda` in the calls of Python is the device below, and the other way round."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == DEVICE_OF:
            device = func(*args)
            return CARD if device == BELOW else device
        if func in (IS_CUDA, IS_META):
            return (DEVICE_OF(*args) == BELOW) == (func == IS_CUDA)
        if func is torch.device:
            return func(*args, **kwargs)
        if func == torch.Tensor.cuda:
            return args[0].to(BELOW)
        if func == torch.Tensor.tolist:
            return func(args[0].cpu())
        if func in FILLED:
            return self._filled(func, args, dict(kwargs))
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            return func(args[0], _index(args[1]), *args[2:])
        args, kwargs = tree_map(_below, (args, kwargs))
        return func(*args, **kwargs)

    def _filled(self, func, args, kwargs):
        device = kwargs.pop("device", None)
        if func is torch.Tensor.new_tensor:
            device = device or DEVICE_OF(args[0])
            args = args[1:]
            kwargs.setdefault("dtype", None)
            func = torch.tensor
        made = func(*args, **kwargs)
        return made if device is None else made.to(_below(_device(device)))


def _device(value):
    return torch.device(value) if isinstance(value, str | int) else value


def _below(value):
    """The device below for any name of the card's."""
    if isinstance(value, torch.device):
        return BELOW if value.type == "cuda" else value
    return BELOW if isinstance(value, str) and value in ("cuda", "cuda:0") else value


def _index(index):
    """Lists and arrays of numbers as tensors of the processor, which may be indices."""
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    return torch.as_tensor(index) if isinstance(index, list | np.ndarray) else index


def _run(func, args, kwargs):
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    name = func._schema.name.partition("::")[2]
    _require_one_device(name, func, args, tensors)
    device = kwargs.get("device")
    on_card = any(isinstance(t, OnCard) for t in tensors)
    if name == "copy_":
        on_card = isinstance(args[0], OnCard)
    if device is not None:
        on_card = device.type == "meta"
    if on_card and kwargs.get("generator") is not None:
        raise RuntimeError("Expected a 'cuda' device type for generator, got 'cpu'")
    inner_args, inner_kwargs = tree_map(_numbers, (args, kwargs))
    result = func(*inner_args, **inner_kwargs)
    if not func._schema.returns:
        return None
    if func._schema.is_mutable and name.endswith("_"):
        changed = args[0]
        if isinstance(changed, OnCard) and changed.shape != changed.numbers.shape:
            raise NotImplementedError(f"{name} changes a shape in place")
        return changed
    return tree_map(_on_card, result) if on_card else result


def _numbers(value):
    if isinstance(value, OnCard):
        return value.numbers
    is_card = isinstance(value, torch.device) and value == BELOW
    return torch.device("cpu") if is_card else value


def _on_card(value):
    plain = isinstance(value, torch.Tensor) and not isinstance(value, OnCard)
    return OnCard(value) if plain else value


def _require_one_device(name, func, args, tensors):
    """CUDA's rule: all tensors of a function lie on one device."""
    if any(t.device == BELOW for t in tensors if not isinstance(t, OnCard)):
        raise NotImplementedError(f"{name} got a tensor whose numbers torch hid")
    on_card = [t for t in tensors if isinstance(t, OnCard)]
    others = [t for t in tensors if not isinstance(t, OnCard)]
    if not on_card or not others or name in MOVES:
        return
    if torch.Tag.pointwise in func.tags and all(t.ndim == 0 for t in others):
        return
    if name in INDEXED and isinstance(args[0], OnCard):
        values = args[2:3]
        if all(isinstance(v, OnCard) or v.ndim == 0 for v in values):
            return
    shapes = [tuple(t.shape) for t in others]
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two "
        f"devices, cuda:0 and cpu: {func} got {shapes} from the processor"
    )


def _with_card(run):
    def run_there():
        with _Moves(), _Names():
            run()

    return run_there


@contextmanager
def fake_gpu():
    """Within it there is a card named "cuda".

    >>> with fake_gpu():
    ...     model.to("cuda")
    """
    rates = patch.multiple(
        torch.cuda,
        is_bf16_supported=lambda *_, **__: False,
        get_rng_state=lambda *_: torch.get_rng_state(),
        set_rng_state=lambda *_: None,
        mem_get_info=lambda *_: (MEMORY, MEMORY),  # free and in all
    )
    start = threading.Thread.start

    def start_there(thread):
        thread.run = _with_card(thread.run)
        start(thread)

    # a module's parameters stay the same objects, which an optimiser may hold
    same = patch("torch.__future__.get_swap_module_params_on_conversion", lambda: True)
    # modes are each thread's own
    threads = patch.object(threading.Thread, "start", start_there)
    with rates, same, threads, _Moves(), _Names():
        yield CARD
