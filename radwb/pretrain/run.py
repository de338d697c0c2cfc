"""A run is a folder: model, tokenizer, config.json and log.csv, and a checkpoint while it grows."""

import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from radwb import models

CHECKPOINT = "checkpoint.safetensors"


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


def write_checkpoint(out: Path, net, optimizer, about: dict) -> None:
    """Weights, moments and step in one file that replaces the one before at once, so a kill leaves one of them.

    Order, captions and augmentation are functions of seed, epoch and step, so that no generator has to be kept.
    """
    tensors = {f"net/{k}": v for k, v in net.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    _replace(out / CHECKPOINT, lambda p: save_file(tensors, p, metadata={"about": json.dumps(about)}))


def read_checkpoint(out: Path, net, optimizer) -> dict:
    """Put the last checkpoint back into `net` and `optimizer`; {} when there is none."""
    path = out / CHECKPOINT
    if not path.is_file():
        return {}
    weights, moments = {}, {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        for key in file.keys():  # noqa: SIM118, it's no dict
            where, _, name = key.partition("/")
            if where == "net":
                weights[name] = file.get_tensor(key)
            else:
                i, _, moment = name.partition("/")
                value, like = file.get_tensor(key), parameters[int(i)]
                # in the parameter's own memory order: the fused AdamW goes through both as they lie
                value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                moments.setdefault(int(i), {})[moment] = value
    net.load_state_dict(weights)
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
        changed = [k for k in identity if before.get(k) != identity[k]]
        said = f"started anew (changed: {', '.join(changed) or 'nothing'}); the run before is now {previous.name}"
    out.mkdir(parents=True, exist_ok=True)
    return said


def _replace(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    import lightning_fabric
    import open_clip

    return {"radwb": version("radwb"), "torch": torch.__version__, "open_clip": open_clip.__version__,
            "lightning_fabric": lightning_fabric.__version__}  # fmt: skip
