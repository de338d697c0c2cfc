"""What each process of a run is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from radwb import models
from radwb.pretrain.stream import InMemory, Shards


@dataclass
class Options:
    """Those arguments of `fit` that only the loop reads."""

    accumulate: int
    chunk: int | None
    ema: float | None
    max_bad: float
    watts: float | None
    resume: bool
    save_every: int
    callback: Callable[[dict], None] | None


@dataclass
class Job:
    """All that a process needs; it is sent to each.

    Args:
        model: that the run starts from.
        train, val: the rows for training and for validation.
        out: folder of the run.
        identity: the settings, and what the run learns from.
        about: what else stands in config.json.
        films: without labels, where identity has "beside".
    """

    model: models.Model
    train: InMemory | Shards
    val: InMemory
    out: Path
    identity: dict
    about: dict
    options: Options
    films: InMemory | None = None
