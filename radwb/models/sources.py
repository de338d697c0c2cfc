"""Weights: read as tensors and never as code, renamed between libraries, put into a net; nothing fetched unasked."""

import logging
import pickle
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, AttributeError)


def read_weights(path: str | Path, *, allowed: tuple[type, ...] = ()) -> dict[str, torch.Tensor]:
    """Tensors from a .safetensors file, or from a torch file that holds nothing but tensors.

    Args:
        allowed: classes of modules that a torch file may hold besides (TorchXRayVision saves whole networks).
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else; nothing of it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of weights, got {path}, which is not there")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.state_dict() if isinstance(state, nn.Module) else state
        state = next((state[k] for k in ("state_dict", "model") if isinstance(state.get(k), dict)), state)
    except UNREADABLE as error:
        raise ValueError(
            f"expected plain tensors in {path.name}, got something that can't be read as such "
            f"({str(error).splitlines()[0][:90]}). radwb runs no pickled code; "
            "where you trust it, try safetensors.torch.save_file(net.state_dict(), ...)."
        ) from None
    return {k.removeprefix("module."): v for k, v in state.items()}


def renamed(state: dict, rules: list[tuple[str, str]], stacked: str) -> dict[str, torch.Tensor]:
    """Keys changed by regular expressions, in order, and the query, key and value of each attention as one matrix.

    >>> renamed({"a.query.bias": q, "a.key.bias": k, "a.value.bias": v}, [], "{}.qkv.{}").keys()
    dict_keys(['a.qkv.bias'])
    """
    out, parts = {}, {}
    for key, value in state.items():
        for old, new in rules:
            key = re.sub(old, new, key)
        part = re.fullmatch(r"(.+)\.(query|key|value)\.(weight|bias)", key)
        if part:
            parts.setdefault(stacked.format(part[1], part[3]), {})[part[2]] = value
        else:
            out[key] = value
    return out | {key: torch.cat([p[k] for k in ("query", "key", "value")]) for key, p in parts.items()}


def fill(net: nn.Module, tensors: dict[str, torch.Tensor], source: object) -> None:
    """Load a state dict, whole; ValueError in one sentence where it's another network's."""
    from open_clip.convert import convert_state_dict

    try:
        net.load_state_dict(convert_state_dict(net, tensors) if hasattr(net, "visual") else tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(f"expected the weights of {type(net).__name__}, got others in {source} "
                         f"({lines[min(1, len(lines) - 1)].strip()[:120]} ...)") from None  # fmt: skip


def library_call(name: str, make: Callable, *args, download: bool = False, **kwargs):
    """What another library makes; its errors as one sentence, and its hub out of reach unless `download`."""
    try:
        with hub(online=download):
            return make(*args, **kwargs)
    except Exception as error:  # whatever a library or its downloader throws
        said = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        raise ValueError(
            f"{name}: {make.__module__.split('.')[0]} could not make it ({said}). Tags need a network and "
            "download=True; without them name a file: 'open_clip:ARCH/weights.safetensors'."
        ) from error


@contextmanager
def hub(*, online: bool):
    """The Hugging Face hub as it is set, or (online=False) its cache alone."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not online
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def consent(name: str, *, source: str, licence: str, mb: float | None = None, download: bool = False) -> bool:
    """True where a download is allowed: by the caller, or by whoever sits at the terminal.

    Raises:
        ValueError: neither; it states source, size and licence, so that the caller can decide.
    """
    size = f"about {mb:.0f} MB" if mb else "size unknown"
    what = f"{name} has to be downloaded from {source} ({size}; licence: {licence})"
    if download or (sys.stdin and sys.stdin.isatty() and input(f"{what}. Download? [y/N] ").lower() in ("y", "yes")):
        return True
    raise ValueError(f"expected leave to download, got none: {what}. Try rw.models.load({name!r}, download=True), "
                     "or name a file that you have: 'open_clip:ARCH/FILE', 'timm:ARCH/FILE'.")  # fmt: skip


@contextmanager
def quiet():
    """No warnings in the log: open_clip's of random weights, where ours are filled in next."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def cached(repo: str, *files: str) -> str | None:
    """The path of the first of a hub repository's files that is here already."""
    found = (try_to_load_from_cache(repo, f) for f in files)
    return next((p for p in found if isinstance(p, str)), None)


def megabytes(make: Callable, *args, **kwargs) -> float | None:
    """The size that a network's weights have in float32, without making them; None where it can't be told."""
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in make(*args, **kwargs).parameters()) * 4e-6
    except Exception:  # a library that can't build without data: the size stays unknown, which is said
        return None


def licence_of(weights: object) -> str:
    """What can be said of the licence of a file."""
    return f"as its source says: {Path(str(weights)).name}" if weights else "random weights"
