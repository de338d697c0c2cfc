"""Other libraries and their hubs: called with plain errors, nothing fetched unasked."""

import logging
import sys
from collections.abc import Callable
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache

from radwb import data
from radwb.models.checks import printable


def check_name(arch: str, names: list[str], library: str) -> None:
    """ValueError with the nearest names where a library doesn't know this one."""
    if arch in names:
        return
    near = get_close_matches(arch, names, n=3, cutoff=0.4)
    options = " or ".join(f"{library}:{name}" for name in near)
    raise ValueError(
        f"expected a name that {library} knows, got {arch!r}. "
        f"Try {options or 'rw.models.available()'}."
    )


def only_own_size(size: int | None, name: str) -> None:
    """ValueError where a size is asked of a model that has its own."""
    if size:
        raise ValueError(
            f"expected no size for {name}, which has its own, got {size}. "
            "Try it with timm: or monai:"
        )


def library_call(
    name: str, make: Callable, *args, download: bool = False, **kwargs
) -> object:
    """What another library makes; its errors as one sentence.

    Args:
        name: of the model, for the error.
        make: the library's function, called with the other arguments.
        download: without it the Hugging Face hub is out of reach.
    """
    try:
        with hub(online=download):
            return make(*args, **kwargs)
    except Exception as error:  # whatever a library or its downloader throws
        first = (str(error).splitlines() or [""])[0][:160]
        reason = printable(f"{type(error).__name__}: {first}")
        library = getattr(make, "__module__", "the library").split(".")[0]
        raise ValueError(
            f"expected a model that {library} can make, got an error for {name} "
            f"({reason}). Tags need a network and download=True; without them name a "
            "file: 'open_clip:ARCH/weights.safetensors'."
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


@contextmanager
def quiet():
    """No warnings in the log: open_clip's of random weights, where a file's follow."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def consent(
    name: str,
    *,
    source: str,
    licence: str,
    mb: float | None = None,
    download: bool = False,
) -> bool:
    """True where a download is allowed: by the caller, or by who is at the terminal.

    Raises:
        ValueError: neither; it states source, size and licence, so that the caller can
            decide.
    """
    size = f"about {mb:.0f} MB" if mb else "size unknown"
    what = f"{name} has to be downloaded from {source} ({size}; licence: {licence})"
    if download or (sys.stdin and sys.stdin.isatty() and _answers_yes(what)):
        return True
    raise ValueError(
        f"expected leave to download, got none: {what}. "
        f"Try rw.models.load({name!r}, download=True), "
        "or name a file that you have: 'open_clip:ARCH/FILE', 'timm:ARCH/FILE'."
    )


def published_folder(name: str, *, download: bool) -> Path:
    """The folder of a published network's file: here already, or asked for first."""
    try:
        return data.fetch(name, offline=True)
    except data.FetchError as error:
        row = data.catalog().set_index("name").loc[name]
        about = {"licence": row["licence"], "mb": row["size_mb"]}
        # what is here already, and why it's no use
        source = "; ".join([row["mirrors"], *error.reasons])
        consent(name, source=source, **about, download=download)
        return data.fetch(name)


def _answers_yes(what):
    return input(f"{what}. Download? [y/N] ").lower() in ("y", "yes")


def cached(repo: str, *files: str) -> str | None:
    """The path of the first of a hub repository's files that is here already."""
    for file in files:
        path = try_to_load_from_cache(repo, file)
        if isinstance(path, str):
            return path
    return None


def megabytes(make: Callable, *args, **kwargs) -> float | None:
    """The size of a network's weights in float32, without making them; or None."""
    try:
        with torch.device("meta"):
            net = make(*args, **kwargs)
    except Exception:  # a library that can't build without data
        return None
    return sum(p.numel() for p in net.parameters()) * 4e-6


def licence_of(weights: object) -> str:
    """What can be said of the licence of a file."""
    if not weights:
        return "random weights"
    return f"as its source says: {Path(str(weights)).name}"
