"""Weights: read as tensors, never as code; renamed between libraries; put in a net."""

import re
import zipfile
from pathlib import Path

import torch
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
    "state_dict.",
    "model_state_dict.",
)
# torch puts these anywhere in a name
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
SHOWN = 4  # names of tensors in an error


class State(dict):
    """Name -> tensor, and in `notes` what was taken off to get there."""

    notes: tuple[str, ...] = ()


def read_weights(
    path: str | Path, *, allowed: tuple[type, ...] = (), keep: str = ""
) -> State:
    """Tensors from a file that holds nothing but tensors, in their network's names.

    Args:
        path: of a .safetensors file, or of one that torch wrote.
        allowed: classes of modules that a torch file may hold besides (TorchXRayVision
            saves whole networks).
        keep: a prefix that is the network's own.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is too large, or holds something else; nothing of it was
            run.
    """
    path = Path(path)
    tensors, notes = _unwrapped(read_plain(path, allowed), path.name)
    check_tensors(tensors, path.name)
    return _without_prefixes(tensors, notes, keep)


def read_plain(path: str | Path, allowed: tuple[type, ...] = ()) -> dict:
    """What a file of weights holds, as it lies in it; raises as `read_weights`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a file of weights, got {path}, which is not there"
        )
    size = path.stat().st_size
    if size > checks.MAX_BYTES:
        raise ValueError(
            f"expected at most {checks.MAX_BYTES:,} bytes in {path.name}, got {size:,}"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _load_torch(path, allowed)
    except Exception as error:  # a hostile file can break a reader anywhere
        first = (checks.printable(error).splitlines() or [""])[0][:90]
        raise ValueError(
            f"expected plain tensors in {path.name}, got something that can't be read "
            f"as such ({first or type(error).__name__}). radwb runs no pickled code; "
            "where you trust it, try safetensors.torch.save_file(net.state_dict(), ...)"
            "."
        ) from None


def _load_torch(path, allowed):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            kinds = {part.compress_type for part in archive.infolist()}
        if kinds - {zipfile.ZIP_STORED}:
            raise ValueError("its parts are compressed, which torch.save never does")
    with torch.serialization.safe_globals(list(allowed)):
        value = torch.load(path, map_location="cpu", weights_only=True)
    return value.state_dict() if isinstance(value, nn.Module) else value


def _unwrapped(value, what):
    """The dict with tensors in a checkpoint, and what was left out on the way to it."""
    notes = []
    for _ in range(8):  # as deep as wrappers nest
        value = checks.mapping(value, what)
        if any(isinstance(v, torch.Tensor) for v in value.values()):
            break
        wrapper = _wrapper(value, what)
        others = [key for key, v in value.items() if _is_other_network(key, v, wrapper)]
        notes.append(f"weights taken from {wrapper!r} in the file")
        if others:
            notes.append(f"not taken from the file: {_quoted(others)}")
        value = value[wrapper]
    tensors = {k: v for k, v in value.items() if isinstance(v, torch.Tensor)}
    rest = [key for key in value if key not in tensors]
    if rest:
        notes.append(f"not taken from the file: {_quoted(rest)}, which are no tensors")
    return tensors, notes


def _wrapper(value, what):
    """The one name under which a checkpoint keeps weights."""
    full = [key for key in WRAPPERS if isinstance(value.get(key), dict) and value[key]]
    if len(full) != 1:
        got = " and ".join(full) or _quoted(value) or "nothing"
        raise ValueError(
            f"expected the weights of one network in {what}, got "
            f"{checks.printable(got)}. "
            "Try torch.save of the one that you mean: net.state_dict()"
        )
    return full[0]


def _is_other_network(key, value, wrapper):
    return key != wrapper and isinstance(value, dict) and "optim" not in key


def _quoted(names):
    return ", ".join(map(repr, list(names)[:6]))


def check_tensors(state: dict[str, torch.Tensor], what: object) -> None:
    """ValueError where tensors claim more than the file holds, or aren't plain."""
    checks.check_bytes(state, what)
    for name, tensor in state.items():
        plain = (
            tensor.layout is torch.strided
            and tensor.device.type == "cpu"
            and not tensor.is_quantized
        )
        # by a stride of 0, four bytes can claim to be any number of weights
        if not plain or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(
                f"expected plain tensors in {what}, got {checks.printable(name)[:80]} "
                f"of shape {tuple(tensor.shape)} with less behind it"
            )


def _without_prefixes(tensors, notes, keep):
    """A State in the names that a network without wrappers has."""
    for mark in INSIDE:
        if any(mark in name for name in tensors):
            notes.append(f"{mark!r} taken off the names of tensors")
            tensors = {name.replace(mark, ""): t for name, t in tensors.items()}
    prefix = _common_prefix(tensors, keep)
    while prefix:
        notes.append(f"{prefix!r} taken off the names of tensors")
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
        prefix = _common_prefix(tensors, keep)
    state = State(tensors)
    state.notes = tuple(checks.printable(note) for note in notes)
    return state


def _common_prefix(names, keep):
    """A wrapper's prefix that more than half of the names have, but `keep`; or None."""
    for prefix in PREFIXES:
        share = sum(name.startswith(prefix) for name in names) / max(1, len(names))
        if prefix != keep and share > 0.5:
            return prefix
    return None


def renamed(
    state: dict, rules: list[tuple[str, str]], stacked: str
) -> dict[str, torch.Tensor]:
    """Keys changed by regular expressions, and query, key and value as one matrix.

    >>> q, k, v = torch.eye(3)
    >>> state = {"a.query.bias": q, "a.key.bias": k, "a.value.bias": v}
    >>> renamed(state, [("^a", "b")], "{}.qkv.{}")["b.qkv.bias"]
    tensor([1., 0., 0., 0., 1., 0., 0., 0., 1.])

    Args:
        rules: (pattern, replacement), used in order.
        stacked: the name of the one matrix; takes the attention's and weight or bias.
    """
    out = {}
    stacks = {}
    for key, value in state.items():
        for old, new in rules:
            key = re.sub(old, new, key)
        match = re.fullmatch(r"(.+)\.(query|key|value)\.(weight|bias)", key)
        if match:
            attention, role, kind = match.groups()
            stacks.setdefault(stacked.format(attention, kind), {})[role] = value
        else:
            out[key] = value
    for key, roles in stacks.items():
        out[key] = torch.cat([roles["query"], roles["key"], roles["value"]])
    return out


def fill(
    net: nn.Module,
    tensors: dict[str, torch.Tensor],
    source: object,
    *,
    head: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Load a state dict, whole; a head for classes may differ.

    Args:
        source: of the tensors, for the errors.
        head: names of the layers that only classify; where the file's don't fit, they
            keep their random weights.
    Returns:
        what was left out, in words.
    Raises:
        ValueError: another network's weights, or numbers that no network computes with;
            it names which.
    """
    from open_clip.convert import convert_state_dict

    if hasattr(net, "visual"):
        tensors = convert_state_dict(net, tensors)  # Apple's MobileCLIP, renamed
    wrong = misfits(net, tensors)
    heads = tuple(f"{layer}." for layer in head)
    of_head = [name for name in wrong if name.startswith(heads)]
    rest = {name: why for name, why in wrong.items() if name not in of_head}
    if rest:
        more = f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else ""
        raise ValueError(
            f"expected the weights of {type(net).__name__}, got others in {source}: "
            f"{in_words(rest)}{more}"
        )
    _check_numbers(net, tensors, source)
    fitting = {name: t for name, t in tensors.items() if name not in of_head}
    net.load_state_dict(fitting, strict=False)
    if not of_head:
        return ()
    return (
        f"the head is not the file's ({', '.join(of_head)}): its weights are random, "
        "the features are the file's",
    )


def fill_model(
    model: object,
    state: State,
    source: object,
    *,
    tensors: dict[str, torch.Tensor] | None = None,
    head: tuple[str, ...] = (),
) -> None:
    """`fill` the network of a Model, and add to its notes what was left out.

    Args:
        state: what `read_weights` gave.
        tensors: the same in the names of the network, where those differ.
    """
    tensors = state if tensors is None else tensors
    model.notes += state.notes
    model.notes += fill(model.net, tensors, source, head=head)


def misfits(net: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """What keeps a state dict from being that of `net`.

    Returns:
        name -> "missing", "unexpected" or the two shapes.
    """
    needed = net.state_dict()
    wrong = {}
    for name in needed:
        if name not in tensors and not name.endswith("num_batches_tracked"):
            wrong[name] = "missing"
    for name in tensors:
        if name not in needed:
            wrong[checks.printable(name)[:80]] = "unexpected"
    for name, like in needed.items():
        if name in tensors and tensors[name].shape != like.shape:
            expected = tuple(like.shape)
            wrong[name] = f"expected {expected}, got {tuple(tensors[name].shape)}"
    return wrong


def in_words(wrong: dict[str, str]) -> str:
    """The first few of `misfits`."""
    return ", ".join(f"{name} ({why})" for name, why in list(wrong.items())[:SHOWN])


def require_fit(
    net: nn.Module, tensors: dict[str, torch.Tensor], expected: str, source: object
) -> None:
    """ValueError where tensors aren't those of `net`, which may be without memory."""
    wrong = misfits(net, tensors)
    if wrong:
        raise ValueError(
            f"expected the weights {expected}, got others in {source}: "
            f"{in_words(wrong)}"
        )


def _check_numbers(net, tensors, source):
    for name, like in net.state_dict().items():
        value = tensors.get(name)
        if value is None or not like.is_floating_point() or value.shape != like.shape:
            continue
        if not value.is_floating_point():
            raise ValueError(
                f"expected floating-point numbers for {name} in {source}, "
                f"got {value.dtype}"
            )
        if not bool(value.float().isfinite().all()):
            raise ValueError(
                f"expected finite numbers for {name} in {source}, got NaN or infinity"
            )
