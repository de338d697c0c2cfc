"""`fit`: pretrain on a table, on one device or many, killed and resumed at will."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric

from radwb import models
from radwb.models.checks import require_whole
from radwb.models.tone import check_tone
from radwb.pretrain import index
from radwb.pretrain import run as runs
from radwb.pretrain.beside import Beside, kept_apart, read_beside
from radwb.pretrain.degrade import check_augmentation
from radwb.pretrain.folder import require_place
from radwb.pretrain.identity import learnt_from, where_unusual
from radwb.pretrain.job import Job, Options
from radwb.pretrain.loop import train
from radwb.pretrain.recipes import RECIPES, needs
from radwb.pretrain.rows import seen_by_a_run
from radwb.pretrain.start import starting_model
from radwb.pretrain.stream import InMemory, Shards, indexed

# the defaults of `fit`, of the command line and of `export_open_clip`
EPOCHS = 10
BATCH = 64
LR = 1e-3
VAL_ROWS = 512  # of the live validation, at most


def fit(
    table: pd.DataFrame | None = None,
    *,
    out: str | Path,
    shards: str | Path | Sequence[str | Path] | None = None,
    recipe: str = "clip-tiny",
    epochs: int = EPOCHS,
    batch: int = BATCH,
    lr: float = LR,
    seed: int = 0,
    size: int | None = None,
    shape: dict | None = None,
    context: int | None = None,
    tone: str | None = None,
    augmentation: str = "mild",
    beside: Beside | pd.DataFrame | None = None,
    start: str | Path | None = None,
    extra_texts: Sequence[str] = (),
    devices: int | str = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "auto",
    accumulate: int = 1,
    chunk: int | None = None,
    ema: float | None = None,
    max_bad: float = 0.05,
    watts: float | None = None,
    resume: bool = True,
    save_every: int = 50,
    callback: Callable[[dict], None] | None = None,
) -> runs.Run:
    """Train on a table's rows with split "train", follow it on "val", see no others.

    >>> small = {"size": 32, "batch": 16, "epochs": 1}
    >>> run = fit(table, recipe="clip-tiny", out="runs/a", **small)
    >>> len(run.log), run.config["finished"]
    (3, True)
    >>> _ = rw.data.write_shards(table, "shards")
    >>> run = fit(shards="shards", out="runs/b", chunk=8, **small)

    The same call with devices=8 trains on eight GPUs, and with shards= and chunk= on
    more than memory holds.

    A finished run with the same settings and data is taken as it is; a stopped one goes
    on from its checkpoint, to the weights that it would have had, on as many devices as
    one likes. With other settings the old folder moves to OUT.previous-1, -2 ..., and
    what differs is said; no run is ever deleted. OUT.lock keeps a second fit out of the
    folder, which its owner alone can read: it holds reports and pixels. Ctrl-C, a
    notebook's stop and SIGTERM let the step end and keep it, then raise
    KeyboardInterrupt.

    Args:
        table: needs path (unless the recipe reads reports alone), patient_id, split,
            and report or finding columns. Where a recipe reads reports, rows without
            one are left out with a warning; config.json counts them.
        out: folder of the run, for `rw.models.load`.
        shards: instead of a table, a folder or list of webdataset shards as
            `rw.data.write_shards` writes them (.png or .jpg, .txt, .json). Reports and
            labels are kept in memory, pixels are not. What is damaged or missing is
            left out and stands in OUT/skipped.csv. Each start reads the shards once for
            their sha256: about a second a GB.
        recipe: one of `rw.pretrain.recipes.RECIPES`: "clip-tiny", images against
            impressions; "supervised-tiny", the same image tower under a linear head and
            binary cross-entropy, labels -1 and NaN left out; ...
        epochs, batch, lr: passes; images a step over all devices; the rate that AdamW
            reaches after 5 % of the steps, before it falls by a cosine.
        seed: of weights, order, captions and augmentation; nothing else is drawn.
        size: side of the input, px; default 128, or that of `start`.
        shape: what differs from `rw.models.tiny.SHAPE`, e.g. {"layers": 4}.
        context: tokens that a text may have, the rest is cut off; default 64, or that
            of `start`. Reports need more.
        tone: what is done with a film's greys, here and wherever the model is used:
            "plain", "equalised" or "local" (`radwb.models.tone`); default plain, or
            that of `start`.
        augmentation: of the films at each step; "mild" shifts, turns and brightens a
            little, "strong" also shows them as other machines would. No flip is in
            either.
        beside: films without labels, learnt from in the same tower (`Beside`, or a
            table for its defaults).
        start: a model whose weights and tokenizer to go on from; default random
            weights.
        extra_texts: further texts for the tokenizer.
        devices, num_nodes, strategy: as in Lightning Fabric. With several devices
            "auto" forks in a notebook, joins torchrun or SLURM, and else spawns (then a
            script calls `fit` under `if __name__ == "__main__":`).
        precision: "auto", "bf16-mixed" or "32-true"; auto takes bf16 where the hardware
            is faster with it.
        accumulate: parts that a step's images pass in one after another, for losses
            that are a mean over samples, labels or words: the same gradient as at once,
            but batch norm sees a part.
        chunk: images of a device that pass at a time, for losses over the whole batch:
            its gradient in a chunk's memory (`rw.pretrain.cache`), but batch norm sees
            a chunk; take shape={"groups": 8}.
        ema: decay of a moving average of the weights, e.g. 0.999; then that is what is
            validated and saved.
        max_bad: share of damaged samples that stops the run.
        watts: of a core or GPU, for the energy estimate; default 10 a core, 400 a GPU.
        resume: False starts anew in any case.
        save_every: steps from one checkpoint to the next; on a GPU, where writing them
            would take more than a tenth of the time, it's more.
        callback: called with each row of the log.
    Raises:
        ValueError: the table, the shards or the settings don't fit, or patients are on
            two sides of the split; another fit writes to OUT; OUT is somebody's folder;
            a file in it is damaged (resume=False trains anew).
        FloatingPointError: the loss is not a number; the message names step, rows, and
            the file that holds the batch.
        KeyboardInterrupt: asked to stop; the checkpoint is of the last whole step.
    """
    out = Path(out)
    require_place(out)
    before = runs.read_config(out) if resume else {}
    source = _source(table, shards, out, before)
    columns = needs(recipe, source.rows)
    beside = kept_apart(beside, source.rows)
    films = RECIPES[recipe].views > 0
    places, left_out = seen_by_a_run(source.rows, columns=columns, images=films)
    # from here on there are no other rows: nothing can learn from them by mistake
    source = source.take(places)
    model = starting_model(
        source.rows, recipe, seed, size, shape, context, start, extra_texts
    )
    model.tone = check_tone(tone or model.tone)
    learn, val = _parts(source, model, batch, films)
    unlabelled, known_by = read_beside(beside, model, batch)
    settings = dict(recipe=recipe, epochs=epochs, batch=batch, lr=lr, seed=seed)
    settings |= dict(precision=precision, start=str(start or ""))
    learnt = learnt_from(model, source, (learn, val), columns)
    changes = dict(accumulate=accumulate, chunk=chunk, ema=ema, tone=model.tone)
    changes |= dict(augmentation=check_augmentation(augmentation), beside=known_by)
    identity = settings | learnt | where_unusual(**changes)
    if before.get("identity") != identity:
        before = {}
    if before.get("finished"):
        return _taken_as_it_is(out, before)
    about = {"model": model.spec, "n_train": len(learn.rows), "n_val": len(val.rows)}
    about |= {"left_out": left_out, "versions": runs.versions()}
    options = Options(
        accumulate, chunk, ema, max_bad, watts, resume, save_every, callback
    )
    job = Job(model, learn, val, out, identity, about, options, unlabelled)
    _fabric(devices, num_nodes, strategy, precision, before).launch(train, job)
    return _finished(out)


def _source(table, shards, out, before) -> InMemory | Shards:
    """All rows; a stopped run's index of shards as it was, so that its order stays."""
    if (table is None) == (shards is None):
        number = "neither" if table is None else "both"
        raise ValueError(f"expected a table or shards=, got {number}")
    if shards is None:
        return InMemory(table)
    paths = index.shard_paths(shards)
    digest = index.digest(paths)
    same = before.get("identity", {}).get("data") == digest
    if same and (out / runs.SAMPLES).is_file():
        samples, skipped = runs.read_index(out)
    else:
        samples, skipped = index.index(paths)
    if not samples:
        raise ValueError(
            f"expected samples in {len(paths)} shards, got none; "
            f"the first: {skipped[0]['error']}"
        )
    return indexed(samples, paths, skipped, digest)


def _parts(source, model, batch, films) -> tuple:
    """The rows for training and, with their pixels in memory, those for validation."""
    how = {"size": model.size, "fit": model.fit, "films": films}
    learn = source.part("train", None, **how)
    n = len(learn.rows)
    if n < batch:
        raise ValueError(
            f"expected at least {batch} rows (one batch) with split 'train', got {n}. "
            f"Try batch={max(2, n // 8)}, or rw.curate.split_by_patient(table)."
        )
    return learn, source.part("val", VAL_ROWS, **how)


def _taken_as_it_is(out, config) -> runs.Run:
    require_whole(out, config)
    print(
        f"{out} is a finished run with these settings and data: "
        "taken as it is (resume=False trains anew)"
    )
    return runs.Run(out, reused=True)


def _finished(out) -> runs.Run:
    # spawned processes end in silence when they are interrupted
    if not runs.read_config(out).get("finished"):
        raise KeyboardInterrupt(
            f"{out} was stopped. Call fit again with the same arguments to go on."
        )
    return runs.Run(out)


def _fabric(devices, num_nodes, strategy, precision, before) -> Fabric:
    """Lightning's engine for these devices.

    Args:
        before: the config.json of the run that goes on, {} of a new one.
    """
    several = devices != 1 or num_nodes > 1
    if strategy == "auto" and several:
        strategy = _several_processes(num_nodes)
    if precision == "auto":
        precision = before.get("precision_used") or _fast_precision(several)
    # its word on the precision looks like a warning in a notebook; config.json has it
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return Fabric(
            accelerator="auto",
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,
        )
    finally:
        logger.setLevel(level)


def _several_processes(num_nodes: int) -> str:
    """How several processes begin: launched from outside, forked, or spawned."""
    if num_nodes > 1 or not {"LOCAL_RANK", "SLURM_PROCID"}.isdisjoint(os.environ):
        return "ddp"
    return "ddp_notebook" if "ipykernel" in sys.modules else "ddp_spawn"


def _fast_precision(several: bool) -> str:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and several:
        # asking CUDA about bf16 opens it, and then a notebook could not fork
        return "bf16-mixed"
    return models.fast_precision(kind)
