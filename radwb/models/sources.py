"""Weights: read as tensors and never as code, renamed between libraries, put into a
net; nothing fetched unasked.
"""

import logging
import re
import sys
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import load_file
from torch import nn

from radwb.models import checks

# names under which training scripts keep the weights in a file, and what they put
# before the names of tensors
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network")
PREFIXES = (
    "module.",
    "model.",
    "net.",
    "network.",
    *(f"{name}." for name in WRAPPERS[:2]),
)
INSIDE = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)  # torch puts these anywhere


class State(dict):
    """Name -> tensor, and in `notes` what was taken off to get there."""

    notes: tuple[str, ...] = ()


def read_weights(
    path: str | Path, *, allowed: tuple[type, ...] = (), keep: str = ""
) -> State:
    """Tensors from a .safetensors file, or from a torch file that holds nothing but
    tensors, in their network's names.

    Args:
        allowed: classes of modules that a torch file may hold besides (TorchXRayVision
            saves whole networks).
        keep: a prefix that is the network's own.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is too large, or holds something else; nothing of it was
            run.
    """
    value, notes = _inner(read_plain(path, allowed), Path(path).name)
    check_tensors(value, Path(path).name)
    return _without_prefixes(value, notes, keep)


def read_plain(path: str | Path, allowed: tuple[type, ...] = ()) -> dict:
    """What a file of weights holds, as it lies in it; raises as `read_weights`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a file of weights, got {path}, which is not there"
        )
    if path.stat().st_size > checks.MAX_BYTES:
        raise ValueError(
            f"expected at most {checks.MAX_BYTES:,} bytes in {path.name}, got {path.stat().st_size:,}"
        )
    try:
        return (
            load_file(path)
            if path.suffix == ".safetensors"
            else _load_torch(path, allowed)
        )
    except Exception as error:  # a hostile file can break a reader anywhere
        reason = (checks.printable(error).splitlines() or [""])[0][:90]
        raise ValueError(
            f"expected plain tensors in {path.name}, got something that can't be read as such "
            f"({reason or type(error).__name__}). radwb runs no pickled code; "
            "where you trust it, try safetensors.torch.save_file(net.state_dict(), ...)."
        ) from None


def _load_torch(path, allowed):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
                raise ValueError(
                    "its parts are compressed, which torch.save never does"
                )
    with torch.serialization.safe_globals(list(allowed)):
        value = torch.load(path, map_location="cpu", weights_only=True)
    return value.state_dict() if isinstance(value, nn.Module) else value


def _inner(value, what):
    """The dict with tensors in a checkpoint, and what it was kept under."""
    notes = []
    for _ in range(8):  # as deep as wrappers nest
        value = checks.mapping(value, what)
        if any(isinstance(v, torch.Tensor) for v in value.values()):
            break
        names = [
            name
            for name in WRAPPERS
            if isinstance(value.get(name), dict) and value[name]
        ]
        if len(names) != 1:
            got = (
                " and ".join(names)
                or ", ".join(map(repr, list(value)[:6]))
                or "nothing"
            )
            raise ValueError(
                f"expected the weights of one network in {what}, got {checks.printable(got)}. "
                "Try torch.save of the one that you mean: net.state_dict()"
            )
        others = [
            k
            for k, v in value.items()
            if k != names[0] and isinstance(v, dict) and "optim" not in k
        ]
        notes.append(f"weights taken from {names[0]!r} in the file")
        notes += (
            [f"not taken from the file: {', '.join(map(repr, others[:6]))}"]
            if others
            else []
        )
        value = value[names[0]]
    left = [k for k, v in value.items() if not isinstance(v, torch.Tensor)]
    if left:
        notes.append(
            f"not taken from the file: {', '.join(map(repr, left[:6]))}, which are no tensors"
        )
    return {k: v for k, v in value.items() if k not in left}, notes


def check_tensors(state: dict[str, torch.Tensor], what: object) -> None:
    """ValueError where tensors claim more than the file holds, or aren't plain numbers."""
    checks.check_bytes(state, what)
    for name, t in state.items():
        plain = (
            t.layout is torch.strided and t.device.type == "cpu" and not t.is_quantized
        )
        # by a stride of 0, four bytes can claim to be any number of weights
        if not plain or t.numel() * t.element_size() > t.untyped_storage().nbytes():
            raise ValueError(
                f"expected plain tensors in {what}, got {checks.printable(name)[:80]} of shape "
                f"{tuple(t.shape)} with less behind it"
            )


def _without_prefixes(value, notes, keep):
    state = State(value)
    for mark in INSIDE:
        if any(mark in name for name in state):
            notes.append(f"{mark!r} taken off the names of tensors")
            state = State({name.replace(mark, ""): t for name, t in state.items()})
    while prefix := next(
        (p for p in PREFIXES if p != keep and _share(state, p) > 0.5), None
    ):
        notes.append(f"{prefix!r} taken off the names of tensors")
        state = State({name.removeprefix(prefix): t for name, t in state.items()})
    state.notes = tuple(checks.printable(note) for note in notes)
    return state


def _share(state, prefix):
    return sum(name.startswith(prefix) for name in state) / max(1, len(state))


def renamed(
    state: dict, rules: list[tuple[str, str]], stacked: str
) -> dict[str, torch.Tensor]:
    """Keys changed by regular expressions, in order, and the query, key and value of
    each attention as one matrix.

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
    return out | {
        key: torch.cat([p[k] for k in ("query", "key", "value")])
        for key, p in parts.items()
    }


def fill(
    net: nn.Module,
    tensors: dict[str, torch.Tensor],
    source: object,
    *,
    head: tuple[str, ...] = (),
) -> list[str]:
    """Load a state dict, whole; a head for classes may differ.

    Args:
        head: names of the layers that only classify; where the file's don't fit, they
            keep their random weights.
    Returns:
        what was left out, in words.
    Raises:
        ValueError: another network's weights, or numbers that no network computes with;
            it names which.
    """
    from open_clip.convert import convert_state_dict

    tensors = convert_state_dict(net, tensors) if hasattr(net, "visual") else tensors
    wrong = misfits(net, tensors)
    of_head = {
        name: why
        for name, why in wrong.items()
        if head and name.startswith(tuple(f"{h}." for h in head))
    }
    others = [f"{name} ({why})" for name, why in wrong.items() if name not in of_head]
    if others:
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        raise ValueError(
            f"expected the weights of {type(net).__name__}, got others in {source}: "
            f"{', '.join(others[:4])}{more}"
        )
    _check_numbers(net, tensors, source)
    net.load_state_dict(
        {k: v for k, v in tensors.items() if k not in of_head}, strict=False
    )
    if not of_head:
        return []
    return [
        f"the head is not the file's ({', '.join(of_head)}): its weights are random, the features are the file's"
    ]


def misfits(net: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Name -> "missing", "unexpected" or the two shapes, for what keeps a state dict
    from being that of `net`.
    """
    needed = net.state_dict()
    wrong = {
        k: "missing"
        for k in needed
        if k not in tensors and not k.endswith("num_batches_tracked")
    }
    wrong |= {
        checks.printable(k)[:80]: "unexpected" for k in tensors if k not in needed
    }
    for name in [n for n in needed if n in tensors]:
        shape, got = tuple(needed[name].shape), tuple(tensors[name].shape)
        if shape != got:
            wrong[name] = f"expected {shape}, got {got}"
    return wrong


def _check_numbers(net, tensors, source):
    for name, like in net.state_dict().items():
        value = tensors.get(name)
        if value is None or not like.is_floating_point() or value.shape != like.shape:
            continue
        if not value.is_floating_point():
            raise ValueError(
                f"expected floating-point numbers for {name} in {source}, got {value.dtype}"
            )
        if not bool(value.float().isfinite().all()):
            raise ValueError(
                f"expected finite numbers for {name} in {source}, got NaN or infinity"
            )


def library_call(name: str, make: Callable, *args, download: bool = False, **kwargs):
    """What another library makes; its errors as one sentence, and its hub out of reach
    unless `download`.
    """
    try:
        with hub(online=download):
            return make(*args, **kwargs)
    except Exception as error:  # whatever a library or its downloader throws
        said = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        library = getattr(make, "__module__", "the library").split(".")[0]
        raise ValueError(
            f"expected a model that {library} can make, got an error for {name} ({checks.printable(said)}). Tags need "
            "a network and download=True; without them name a file: 'open_clip:ARCH/weights.safetensors'."
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


def consent(
    name: str,
    *,
    source: str,
    licence: str,
    mb: float | None = None,
    download: bool = False,
) -> bool:
    """True where a download is allowed: by the caller, or by whoever sits at the
    terminal.

    Raises:
        ValueError: neither; it states source, size and licence, so that the caller can
            decide.
    """
    size = f"about {mb:.0f} MB" if mb else "size unknown"
    what = f"{name} has to be downloaded from {source} ({size}; licence: {licence})"
    if download or (
        sys.stdin
        and sys.stdin.isatty()
        and input(f"{what}. Download? [y/N] ").lower() in ("y", "yes")
    ):
        return True
    raise ValueError(
        f"expected leave to download, got none: {what}. Try rw.models.load({name!r}, download=True), "
        "or name a file that you have: 'open_clip:ARCH/FILE', 'timm:ARCH/FILE'."
    )


@contextmanager
def quiet():
    """No warnings in the log: open_clip's of random weights, where ours are filled in
    next.
    """
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
    """The size that a network's weights have in float32, without making them; None
    where it can't be told.
    """
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in make(*args, **kwargs).parameters()) * 4e-6
    except (
        Exception
    ):  # a library that can't build without data: the size stays unknown, which is said
        return None


def licence_of(weights: object) -> str:
    """What can be said of the licence of a file."""
    return (
        f"as its source says: {Path(str(weights)).name}"
        if weights
        else "random weights"
    )
