"""A run is a folder: model, tokenizer, config.json and log.csv, and a checkpoint while
it grows.

From shards also samples.jsonl, their index, and skipped.csv, what of them is damaged;
and with tensorboard its events.
"""

import hashlib
import itertools
import json
import math
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from radwb import models
from radwb.data.private import private_file, private_folder
from radwb.models.checks import damaged

CHECKPOINT, SAMPLES, MODEL = (
    "checkpoint.safetensors",
    "samples.jsonl",
    "model.safetensors",
)
# what a run writes into its folder; a folder with anything else is somebody's
WRITTEN = (
    "config.json",
    "log.csv",
    CHECKPOINT,
    SAMPLES,
    "skipped.csv",
    MODEL,
    "model.json",
    "tokenizer.json",
    "tensorboard",
    "bad_batch*.safetensors",
    "*.part",
)
DAMAGED = (
    SafetensorError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    RuntimeError,
    OSError,
)


@dataclass(frozen=True)
class Run:
    """What `fit` left in a folder.

    >>> run = Run("../runs/clip-tiny"); run.model, run.log, run.config
    """

    out: Path
    reused: bool = False

    @cached_property
    def model(self) -> models.Model:
        return models.load(self.out)

    @property
    def log(self) -> pd.DataFrame:
        """One row a step: step, epoch, seconds, loss, lr, ...; val_loss and recalls
        where an epoch ends.
        """
        path = Path(self.out) / "log.csv"
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise damaged(path, f"unreadable: {type(error).__name__}") from error

    @property
    def config(self) -> dict:
        return read_config(self.out)


def read_config(out: str | Path) -> dict:
    """What stands in config.json; {} without one.

    Raises:
        ValueError: it is cut short or no JSON object.
    """
    path = Path(out) / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise damaged(path, "no JSON object")
    return config


def write_config(out: Path, config: dict) -> None:
    text = json.dumps(config, indent=1)
    _replace(out / "config.json", lambda p: p.write_text(text, encoding="utf-8"))


def write_log(out: Path, rows: list[dict]) -> None:
    _replace(out / "log.csv", lambda p: pd.DataFrame(rows).to_csv(p, index=False))


def thinned(log: pd.DataFrame, most: int = 400) -> pd.DataFrame:
    """A log short enough to ship: the last row of each epoch, and of the others every
    so manieth.

    >>> thinned(Run("runs/radwb-tiny").log).to_csv("log.csv", index=False, float_format="%.6g")

    Args:
        log: as `Run.log` has it.
        most: rows that are left, at most.
    Returns:
        those rows as they were: a loss is still that of its step.
    Raises:
        ValueError: the log has as many epochs as rows may be left, or more.
    """
    ends = ~log["epoch"].duplicated(keep="last").to_numpy()
    room = most - int(ends.sum())
    if room < 1:
        raise ValueError(
            f"expected fewer than {most} epochs, got {ends.sum()}. Try most={2 * ends.sum()}."
        )
    others = np.flatnonzero(~ends)
    every = max(1, math.ceil(len(others) / room))
    kept = ends.copy()
    kept[others[::every]] = True
    return log[kept].reset_index(drop=True)


def write_checkpoint(
    out: Path, task, optimizer, about: dict, average: dict | None = None
) -> None:
    """Weights, their average, moments and step in one file that replaces the one before
    at once: a kill leaves one.

    Order, captions and augmentation are functions of seed, epoch and step, so that no
    generator has to be kept.
    """
    tensors = {f"task/{k}": v for k, v in task.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in (average or {}).items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    once = {
        v.data_ptr(): k for k, v in tensors.items()
    }  # safetensors refuses a tensor under two names
    tensors = {
        k: v if once[v.data_ptr()] == k else v.clone() for k, v in tensors.items()
    }
    text = json.dumps(about)
    metadata = {"about": text, "sha256": content_sha256(tensors, text)}
    _replace(out / CHECKPOINT, lambda p: save_file(tensors, p, metadata=metadata))


def content_sha256(tensors: dict[str, torch.Tensor], about: str) -> str:
    """Of names, types, shapes and bytes of tensors, and of what is said of them."""
    sha = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def read_checkpoint(out: Path, task, optimizer, average: dict | None = None) -> dict:
    """Put the last checkpoint back into `task`, `optimizer` and `average`; {} when
    there is none.

    Raises:
        ValueError: the file is cut short, or its content isn't what its checksum says.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        return {}
    tensors, about = _checked(path)
    try:
        _restore(tensors, task, optimizer, average)
    except DAMAGED as error:
        raise damaged(path, f"another network's: {type(error).__name__}") from error
    return about


def _checked(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """All of a checkpoint, once its checksum holds: nothing of a damaged one reaches
    the network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it's no dict
        whole = metadata["sha256"] == content_sha256(tensors, metadata["about"])
        about = json.loads(metadata["about"])
    except DAMAGED as error:
        raise damaged(path, f"unreadable: {type(error).__name__}") from error
    if not whole:
        raise damaged(path, "its content is not what its checksum says")
    return tensors, about


def _restore(tensors, task, optimizer, average):
    weights, moments = {}, {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        where, _, name = key.partition("/")
        if where == "task":
            weights[name] = value
        elif where == "average":
            average[name].copy_(value)
        else:
            i, _, moment = name.partition("/")
            like = parameters[int(i)]
            # in the parameter's own memory order: the fused AdamW goes through both as
            # they lie
            value = (
                torch.empty_like(like).copy_(value)
                if value.shape == like.shape
                else value
            )
            moments.setdefault(int(i), {})[moment] = value
    task.load_state_dict(weights)
    optimizer.load_state_dict(
        {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def require_place(out: Path) -> None:
    """Refuse what can't become a run's folder: it has no name of its own, or a file is
    in its place.

    Raises:
        ValueError: it can't.
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
    """Make the folder ready; a run with other settings moves to OUT.previous-N. Returns
    what happened, in words.

    Raises:
        ValueError: the folder isn't a run's, or, to be resumed, its config.json is
            damaged.
    """
    before = _identity_before(out, resume)
    if before == identity and resume:
        return "resumed" if (out / CHECKPOINT).is_file() else "started"
    said = "started"
    if out.exists() and any(out.iterdir()):
        if not before:
            require_ours(out)
        previous = next_previous(out)
        out.rename(previous)
        said = f"started anew ({differences(before, identity)}); the run before is now {previous.name}"
    private_folder(out)
    return said


def _identity_before(out: Path, resume: bool) -> dict:
    """Of the run in a folder; {} where none can be read and none has to be."""
    try:
        identity = read_config(out).get("identity")
    except ValueError:
        if resume:
            raise
        return {}
    return identity if isinstance(identity, dict) else {}


def differences(before: dict, now: dict) -> str:
    """What of a run's identity is another one, in words.

    >>> differences({"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0, "tokenizer": "9f"})
    'changed: lr; not recorded before: tokenizer'
    """
    if not before:
        return "what was there can't be read"
    before, now = _flat(before), _flat(now)
    changed = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    if any(k.startswith("data") for k in changed):
        changed = [k for k in changed if k != "order of rows"]  # it can't be told apart
    unknown = [k for k in changed if k not in before]
    known = [k for k in changed if k in before]
    words = f"changed: {', '.join(known) or 'nothing'}"
    return words + (f"; not recorded before: {', '.join(unknown)}" if unknown else "")


def _flat(identity: dict) -> dict:
    """An identity with the parts of its data one by one: "data: report"."""
    flat = {}
    for name, value in identity.items():
        parts = (
            {f"{name}: {part}": v for part, v in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        flat |= parts
    return flat


def require_ours(out: Path) -> None:
    """Refuse a folder that holds anything that a run doesn't write, or nothing by which
    a run is known.
    """
    names = [path.name for path in out.iterdir()]
    others = [
        n for n in names if not any(fnmatchcase(n, pattern) for pattern in WRITTEN)
    ]
    known = {"config.json", "log.csv", CHECKPOINT, MODEL} & set(names)
    if others or not known or _of_another_library(out):
        raise ValueError(
            f"expected an empty folder or a run in {out}, got other files. Try another out="
        )


def _of_another_library(out: Path) -> bool:
    """Whether a config.json that can be read is no run's: Hugging Face's folders have
    the same names.
    """
    try:
        config = read_config(out)
    except ValueError:
        return False
    return bool(config) and "identity" not in config


def next_previous(out: Path) -> Path:
    """OUT.previous-1, or the first number that is free: no finished run is ever
    deleted.
    """
    for n in itertools.count(1):
        path = out.with_name(f"{out.name}.previous-{n}")
        if not os.path.lexists(path):
            return path


def _replace(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        private_file(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)  # half a file would keep a full disk full
        raise


def write_index(out: Path, samples: list[dict], skipped: list[dict]) -> None:
    """The index of the shards, so that a stopped run goes on with the samples that it
    began with; and the damage.
    """
    columns = ["shard", "number", "key", "error", "samples"]
    _replace(
        out / "skipped.csv",
        lambda p: pd.DataFrame(skipped, columns=columns).to_csv(p, index=False),
    )
    if not (out / SAMPLES).is_file():
        _replace(
            out / SAMPLES,
            lambda p: p.write_text("".join(json.dumps(s) + "\n" for s in samples)),
        )


def append_skipped(out: Path, skipped: list[dict]) -> None:
    """What is lost as a run goes; each process adds its own lines."""
    if skipped:
        pd.DataFrame(skipped).to_csv(
            out / "skipped.csv", mode="a", index=False, header=False
        )


def read_index(out: Path) -> tuple[list[dict], list[dict]]:
    """What `write_index` wrote."""
    try:
        samples = [
            json.loads(line) for line in (out / SAMPLES).read_text().splitlines()
        ]
        skipped = pd.read_csv(out / "skipped.csv", dtype={"key": str})
    except (OSError, ValueError) as error:
        raise damaged(out / SAMPLES, f"unreadable: {type(error).__name__}") from error
    return samples, skipped.to_dict("records")


def scalars(out: Path, step: int):
    """A TensorBoard writer that takes back what was written behind `step`; None where
    tensorboard isn't installed.
    """
    if not find_spec("tensorboard"):
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(private_folder(out / "tensorboard"), purge_step=step + 1)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    import lightning_fabric
    import open_clip

    return {
        "radwb": version("radwb"),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "lightning_fabric": lightning_fabric.__version__,
    }
