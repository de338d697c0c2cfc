"""A run is a folder: model, tokenizer, config.json and log.csv, and a checkpoint while it grows.

From shards also samples.jsonl, their index, and skipped.csv, what of them is damaged; and with tensorboard its events.
"""

import json
import math
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from radwb import models

CHECKPOINT, SAMPLES = "checkpoint.safetensors", "samples.jsonl"


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
        """One row a step: step, epoch, seconds, loss, lr, ...; val_loss and recalls where an epoch ends."""
        return pd.read_csv(Path(self.out) / "log.csv")

    @property
    def config(self) -> dict:
        return read_config(self.out)


def read_config(out: str | Path) -> dict:
    path = Path(out) / "config.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_config(out: Path, config: dict) -> None:
    _replace(out / "config.json", lambda p: p.write_text(json.dumps(config, indent=1)))


def write_log(out: Path, rows: list[dict]) -> None:
    _replace(out / "log.csv", lambda p: pd.DataFrame(rows).to_csv(p, index=False))


def thinned(log: pd.DataFrame, most: int = 400) -> pd.DataFrame:
    """A log short enough to ship: the last row of each epoch, and of the others every so manieth.

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
        raise ValueError(f"expected fewer than {most} epochs, got {ends.sum()}. Try most={2 * ends.sum()}.")
    others = np.flatnonzero(~ends)
    every = max(1, math.ceil(len(others) / room))
    kept = ends.copy()
    kept[others[::every]] = True
    return log[kept].reset_index(drop=True)


def write_checkpoint(out: Path, task, optimizer, about: dict, average: dict | None = None) -> None:
    """Weights, their average, moments and step in one file that replaces the one before at once: a kill leaves one.

    Order, captions and augmentation are functions of seed, epoch and step, so that no generator has to be kept.
    """
    tensors = {f"task/{k}": v for k, v in task.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in (average or {}).items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    once = {v.data_ptr(): k for k, v in tensors.items()}  # safetensors refuses a tensor under two names
    tensors = {k: v if once[v.data_ptr()] == k else v.clone() for k, v in tensors.items()}
    _replace(out / CHECKPOINT, lambda p: save_file(tensors, p, metadata={"about": json.dumps(about)}))


def read_checkpoint(out: Path, task, optimizer, average: dict | None = None) -> dict:
    """Put the last checkpoint back into `task`, `optimizer` and `average`; {} when there is none."""
    path = out / CHECKPOINT
    if not path.is_file():
        return {}
    weights, moments = {}, {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        for key in file.keys():  # noqa: SIM118, it's no dict
            where, _, name = key.partition("/")
            if where == "task":
                weights[name] = file.get_tensor(key)
            elif where == "average":
                average[name].copy_(file.get_tensor(key))
            else:
                i, _, moment = name.partition("/")
                value, like = file.get_tensor(key), parameters[int(i)]
                # in the parameter's own memory order: the fused AdamW goes through both as they lie
                value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                moments.setdefault(int(i), {})[moment] = value
    task.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return about


def prepare(out: Path, identity: dict, *, resume: bool) -> str:
    """Make the folder ready; a run with other settings moves to OUT.previous. Returns what happened, in words."""
    before = read_config(out).get("identity")
    if before == identity and resume:
        return "resumed" if (out / CHECKPOINT).is_file() else "started"
    said = "started"
    if out.exists() and any(out.iterdir()):
        if not before:
            raise ValueError(f"expected an empty folder or a run in {out}, got other files. Try another out=")
        previous = out.with_name(out.name + ".previous")
        shutil.rmtree(previous, ignore_errors=True)
        out.rename(previous)
        changed = [k for k in {**before, **identity} if before.get(k) != identity.get(k)]
        said = f"started anew (changed: {', '.join(changed) or 'nothing'}); the run before is now {previous.name}"
    out.mkdir(parents=True, exist_ok=True)
    return said


def _replace(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_index(out: Path, samples: list[dict], skipped: list[dict]) -> None:
    """The index of the shards, so that a stopped run goes on with the samples that it began with; and the damage."""
    columns = ["shard", "number", "key", "error", "samples"]
    _replace(out / "skipped.csv", lambda p: pd.DataFrame(skipped, columns=columns).to_csv(p, index=False))
    if not (out / SAMPLES).is_file():
        _replace(out / SAMPLES, lambda p: p.write_text("".join(json.dumps(s) + "\n" for s in samples)))


def append_skipped(out: Path, skipped: list[dict]) -> None:
    """What is lost as a run goes; each process adds its own lines."""
    if skipped:
        pd.DataFrame(skipped).to_csv(out / "skipped.csv", mode="a", index=False, header=False)


def read_index(out: Path) -> tuple[list[dict], list[dict]]:
    """What `write_index` wrote."""
    samples = [json.loads(line) for line in (out / SAMPLES).read_text().splitlines()]
    return samples, pd.read_csv(out / "skipped.csv", dtype={"key": str}).to_dict("records")


def scalars(out: Path, step: int):
    """A TensorBoard writer that takes back what was written behind `step`; None where tensorboard isn't installed."""
    if not find_spec("tensorboard"):
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(out / "tensorboard", purge_step=step + 1)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    import lightning_fabric
    import open_clip

    return {"radwb": version("radwb"), "torch": torch.__version__, "open_clip": open_clip.__version__,
            "lightning_fabric": lightning_fabric.__version__}  # fmt: skip
