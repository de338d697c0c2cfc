"""Where a run may write: its own folder or a free place; nothing is ever deleted."""

import itertools
import os
from fnmatch import fnmatchcase
from pathlib import Path

from radwb.data.private import private_folder
from radwb.pretrain.run import CHECKPOINT, MODEL, SAMPLES, SKIPPED, read_config

# by these a run is known
KNOWN = ("config.json", "log.csv", CHECKPOINT, MODEL)
# what a run writes into its folder; a folder with anything else is somebody's
WRITTEN = (
    *KNOWN,
    SAMPLES,
    SKIPPED,
    "model.json",
    "tokenizer.json",
    "tensorboard",
    "bad_batch*.safetensors",
    "*.part",
)


def require_place(out: Path) -> None:
    """Refuse what can't become a run's folder.

    Raises:
        ValueError: it has no name of its own, or a file is in its place.
    """
    if out.name in ("", ".."):
        raise ValueError(
            f"expected a folder with a name of its own, got {str(out)!r}: a run "
            "puts OUT.lock and OUT.previous-N beside it. Try out='runs/a'."
        )
    for place in (out, *out.parents):
        if os.path.lexists(place) and not place.is_dir():
            raise ValueError(
                f"expected a folder or a free place for a run, got {out}, where "
                f"{place.name} is a file or a broken link. Try another out=."
            )


def prepare(out: Path, identity: dict, *, resume: bool) -> str:
    """Make the folder ready; a run with other settings moves to OUT.previous-N.

    Returns:
        what happened, in words.
    Raises:
        ValueError: the folder isn't a run's, or, to be resumed, its config.json is
            damaged.
    """
    config = _config_before(out, resume)
    before = config.get("identity")
    if not isinstance(before, dict):
        before = {}
    if before == identity and resume:
        return "resumed" if (out / CHECKPOINT).is_file() else "started"
    happened = "started"
    if out.exists() and any(out.iterdir()):
        if not before:
            require_ours(out, config)
        previous = next_previous(out)
        out.rename(previous)
        happened = (
            f"started anew ({differences(before, identity)}); "
            f"the run before is now {previous.name}"
        )
    private_folder(out)
    return happened


def _config_before(out: Path, resume: bool) -> dict:
    """Of the run in a folder; {} where none can be read and none has to be."""
    try:
        return read_config(out)
    except ValueError:
        if resume:
            raise
        return {}


def differences(before: dict, after: dict) -> str:
    """What of a run's identity is another one, in words.

    >>> differences({"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0, "tokenizer": "9f"})
    'changed: lr; not recorded before: tokenizer'
    """
    if not before:
        return "what was there can't be read"
    before = _flat(before)
    after = _flat(after)
    names = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    if any(name.startswith("data") for name in names):
        # the order of other rows can't be told apart
        names = [name for name in names if name != "order of rows"]
    changed = ", ".join(name for name in names if name in before)
    unrecorded = ", ".join(name for name in names if name not in before)
    words = f"changed: {changed or 'nothing'}"
    return f"{words}; not recorded before: {unrecorded}" if unrecorded else words


def _flat(identity: dict) -> dict:
    """An identity with the parts of its data one by one: "data: report"."""
    flat = {}
    for name, value in identity.items():
        if isinstance(value, dict):
            flat |= {f"{name}: {part}": v for part, v in value.items()}
        else:
            flat[name] = value
    return flat


def require_ours(out: Path, config: dict) -> None:
    """Refuse a folder that holds anything that a run doesn't write.

    Args:
        config: what stands in its config.json.
    Raises:
        ValueError: it does, or holds nothing by which a run is known, or config.json is
            another library's: Hugging Face's folders have the same names.
    """
    names = {path.name for path in out.iterdir()}
    ours = all(any(fnmatchcase(n, pattern) for pattern in WRITTEN) for n in names)
    foreign = config and "identity" not in config
    if not ours or foreign or names.isdisjoint(KNOWN):
        raise ValueError(
            f"expected an empty folder or a run in {out}, got other files. "
            "Try another out"
        )


def next_previous(out: Path) -> Path:
    """OUT.previous-1, or the first number that is free."""
    paths = (out.with_name(f"{out.name}.previous-{n}") for n in itertools.count(1))
    return next(path for path in paths if not os.path.lexists(path))
