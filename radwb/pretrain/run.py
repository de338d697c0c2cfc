"""A run is a folder: model, tokenizer, config.json and log.csv.

While it grows it has a checkpoint; from shards also samples.jsonl, their index, and
skipped.csv, what of them is damaged; and with tensorboard its events.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import lightning_fabric
import open_clip
import pandas as pd
import torch

from radwb import models
from radwb.data.private import private_file, private_folder
from radwb.models.checks import damaged

CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
SAMPLES = "samples.jsonl"
SKIPPED = "skipped.csv"


@dataclass(frozen=True)
class Run:
    """What `fit` left in a folder: read a run of your own that was trained elsewhere.

    >>> again = Run(run.out)
    >>> again.model.size, again.config["finished"]
    (32, True)

    Attributes:
        out: the folder.
        reused: whether `fit` took it as it was.
    """

    out: Path
    reused: bool = False

    @cached_property
    def model(self) -> models.Model:
        """The trained model, as `rw.models.load` gives it."""
        return models.load(self.out)

    @property
    def log(self) -> pd.DataFrame:
        """One row a step: step, epoch, seconds, loss, lr, ...

        Where an epoch ends it has val_loss and recalls, too.

        Raises:
            ValueError: log.csv can't be read.
        """
        path = Path(self.out) / "log.csv"
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise damaged(path, f"unreadable: {type(error).__name__}") from error

    @property
    def config(self) -> dict:
        """What stands in config.json: settings, data, versions, cost."""
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
    replace_text(out / "config.json", json.dumps(config, indent=1))


def write_log(out: Path, rows: list[dict]) -> None:
    replace_text(out / "log.csv", pd.DataFrame(rows).to_csv(index=False))


def replace_text(path: Path, text: str) -> None:
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a kill or a full disk leaves the one before.

    Args:
        path: of the file.
        write: writes the file that it is given.
    """
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
    """The index of the shards and their damage.

    A stopped run goes on with the samples that it began with.
    """
    columns = ["shard", "number", "key", "error", "samples"]
    table = pd.DataFrame(skipped, columns=columns)
    replace_text(out / SKIPPED, table.to_csv(index=False))
    if not (out / SAMPLES).is_file():
        lines = [json.dumps(sample) + "\n" for sample in samples]
        replace_text(out / SAMPLES, "".join(lines))


def append_skipped(out: Path, skipped: list[dict]) -> None:
    """What is lost as a run goes; each process adds its own lines."""
    if skipped:
        table = pd.DataFrame(skipped)
        table.to_csv(out / SKIPPED, mode="a", index=False, header=False)


def read_index(out: Path) -> tuple[list[dict], list[dict]]:
    """What `write_index` wrote: samples, and what is skipped.

    Raises:
        ValueError: it is damaged.
    """
    try:
        lines = (out / SAMPLES).read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        skipped = pd.read_csv(out / SKIPPED, dtype={"key": str})
    except (OSError, ValueError) as error:
        raise damaged(out / SAMPLES, f"unreadable: {type(error).__name__}") from error
    return samples, skipped.to_dict("records")


def scalars(out: Path, step: int):
    """A TensorBoard writer; None where tensorboard isn't installed.

    It takes back what was written behind `step`.
    """
    if not find_spec("tensorboard"):
        return None
    from torch.utils.tensorboard import SummaryWriter  # an extra

    return SummaryWriter(private_folder(out / "tensorboard"), purge_step=step + 1)


def versions() -> dict[str, str]:
    """Of what a run is trained with."""
    libraries = (torch, open_clip, lightning_fabric)
    return {"radwb": version("radwb")} | {m.__name__: m.__version__ for m in libraries}
