"""`fit`: pretrain on a table, on one device or many, killed and resumed at will."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric

from radwb import data, models
from radwb.models.checks import require_whole
from radwb.models.tiny import SHAPE
from radwb.pretrain import run as runs
from radwb.pretrain import stream
from radwb.pretrain.loop import Job, train
from radwb.pretrain.recipes import RECIPES, needs
from radwb.pretrain.rows import seen_by_a_run

VAL_ROWS = 512  # of the live validation, at most


def fit(
    table: pd.DataFrame | None = None,
    *,
    out: str | Path,
    shards: str | Path | Sequence[str | Path] | None = None,
    recipe: str = "clip-tiny",
    epochs: int = 10,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    size: int | None = None,
    shape: dict | None = None,
    context: int | None = None,
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
    """Train a model on the rows of a table with split "train"; follow it on those with
    split "val"; see no others.

    >>> run = fit(table, recipe="clip-tiny", out="../runs/clip-tiny")
    >>> run = fit(table, out="../runs/a", devices=8, batch=1024)      # the same call on eight GPUs
    >>> run = fit(shards="shards", out="../runs/b", batch=4096, chunk=256)   # more than memory holds, of both

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
        save_every: steps from one checkpoint to the next.
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
    runs.require_place(out)
    config = runs.read_config(out) if resume else {}
    if (table is None) == (shards is None):
        raise ValueError(
            f"expected a table or shards=, got {'neither' if table is None else 'both'}"
        )
    source = None if shards is None else _shards(shards, out, config)
    table = table if source is None else source.rows
    asked = needs(recipe, table)
    places, left_out = seen_by_a_run(
        table, columns=asked, images=RECIPES[recipe].views > 0
    )
    # from here on there are no other rows: nothing can learn from them by mistake
    table = table.iloc[places]
    source = source and source.take(places)
    model = _model(table, recipe, seed, size, shape, context, start, extra_texts)
    learn, val = (
        _part(source, table, split, model, recipe) for split in ("train", "val")
    )
    n = len(learn.rows)
    if n < batch:
        raise ValueError(
            f"expected at least {batch} rows (one batch) with split 'train', got {n}. "
            f"Try batch={max(2, n // 8)}, or rw.curate.split_by_patient(table)."
        )
    identity = {
        "recipe": recipe,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "precision": precision,
        "start": str(start or ""),
        "weights": _digest(model.net.state_dict().values()),
    }
    identity |= _tokenizer(model)
    identity |= {"data": source.digest} if source else _contents((learn, val), asked)
    # named only when they differ from the default, so that a run made before they
    # existed is still known
    identity |= {
        k: v
        for k, v in {"accumulate": accumulate, "chunk": chunk, "ema": ema}.items()
        if v not in (1, None)
    }
    if config.get("finished") and config.get("identity") == identity:
        require_whole(out, config)
        print(
            f"{out} is a finished run with these settings and data: taken as it is (resume=False trains anew)"
        )
        return runs.Run(out, reused=True)
    fabric = _fabric(devices, num_nodes, strategy, precision, config, identity)
    about = {
        "model": model.spec,
        "n_train": n,
        "n_val": len(val.rows),
        "left_out": left_out,
        "versions": runs.versions(),
    }
    job = Job(
        model,
        recipe,
        learn,
        val,
        out,
        identity,
        about,
        resume,
        save_every,
        callback,
        accumulate,
        chunk,
        ema,
        max_bad,
        watts,
        source and source.samples,
    )
    fabric.launch(train, job)
    if not runs.read_config(out).get(
        "finished"
    ):  # spawned processes end in silence when they are interrupted
        raise KeyboardInterrupt(
            f"{out} was stopped. Call fit again with the same arguments to go on."
        )
    return runs.Run(out)


def _shards(shards, out, config):
    """The index of a run's shards: that of a stopped run as it was, so that its order
    stays.
    """
    paths = stream.shard_paths(shards)
    found = stream.digest(paths)
    known = (
        config.get("identity", {}).get("data") == found
        and (out / runs.SAMPLES).is_file()
    )
    samples, skipped = runs.read_index(out) if known else stream.index(paths)
    if not samples:
        raise ValueError(
            f"expected samples in {len(paths)} shards, got none; the first: {skipped[0]['error']}"
        )
    return stream.source(samples, paths, skipped, found)


def _model(table, recipe, seed, size, shape, context, start, extra_texts):
    shape = {**(shape or {}), **({"size": size} if size else {})}
    builds = RECIPES[recipe].builds  # "image-text", "findings" or "image"
    findings = data.findings_of(table) if builds == "findings" else []
    if context and builds != "image-text":
        raise ValueError(
            f"expected no context, since {recipe} reads no text; got {context}"
        )
    if start is None and builds != "image-text":
        return models.supervised_tiny(findings, seed=seed, shape=shape)
    if start is None:
        learn = table[table["split"] == "train"]
        patients = learn[
            "patient_id"
        ]  # a word that few of them share isn't learnt: it may be a name
        tokenizer = models.Tokenizer.train(
            learn["report"],
            patients=patients,
            public=extra_texts,
            context=context or 64,
        )
        return models.clip_tiny(tokenizer, seed=seed, shape=shape)
    model = models.load(start)
    if context not in (None, model.spec.get("context")):
        raise ValueError(
            f"expected no context beside start, got {context}; {start} has its own"
        )
    if shape and shape != {"size": model.size}:
        raise ValueError(
            f"expected no shape or size beside start, got {shape}; {start} has its own ({model.size} px)"
        )
    if builds != "image-text":
        return _classifier(model, findings, seed)
    if model.kind != "image-text":
        raise ValueError(
            f"expected an image-text model to start from, got {start}. Try recipe='supervised-tiny'."
        )
    return model


def _classifier(model, findings, seed):
    if model.spec.get("builder") not in ("clip-tiny", "supervised-tiny"):
        raise ValueError(
            f"expected a clip-tiny run to start from, got {model.name}. Try rw.probe.linear_probe."
        )
    fresh = models.supervised_tiny(
        findings, seed=seed, shape={k: model.spec["shape"][k] for k in SHAPE}
    )
    fresh.net.visual = model.net.visual
    return fresh


def _part(source, table, split, model, recipe):
    """The rows of a split; those for validation, and those of a table, with their
    pixels in memory.
    """
    if source is not None:
        part = source.part(split, model.size, model.fit)
        return part if split == "train" else part.in_memory(VAL_ROWS)
    rows = table[table["split"] == split].reset_index(drop=True)
    rows = rows.head(VAL_ROWS) if split == "val" else rows
    seen = RECIPES[recipe].views > 0
    return stream.InMemory(
        rows,
        torch.from_numpy(data.images(rows, model.size, fit=model.fit))
        if seen
        else None,
    )


def _contents(parts, columns) -> dict[str, str]:
    """What a run learns from, so that what differs can be named: its films, each
    column, and the order of the rows.
    """
    films = [_film_digests(part) for part in parts]
    digests = {"films": _digest_of(sorted(split) for split in films)}
    order = [films]
    for column in columns:
        texts = [list(map(str, part.rows[column])) for part in parts]
        digests[column] = _digest_of(sorted(split) for split in texts)
        order.append(texts)
    return {"data": digests, "order of rows": _digest_of(order)}


def _film_digests(part) -> list[str]:
    if part.pixels is None:
        return []
    return [hashlib.sha256(film.numpy().tobytes()).hexdigest() for film in part.pixels]


def _digest_of(value) -> str:
    text = json.dumps(list(value))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tokenizer(model) -> dict[str, str]:
    """The digest of a tokenizer that was learnt from reports; {} without one."""
    bpe = getattr(model.tokenizer, "bpe", None)
    if bpe is None:
        return {}
    return {"tokenizer": _digest_of([bpe.to_str(), model.tokenizer.context])}


def _digest(tensors) -> str:
    sha = hashlib.sha256()
    for t in tensors:
        sha.update(t.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def _fabric(devices, num_nodes, strategy, precision, config, identity):
    several = devices != 1 or num_nodes > 1
    if strategy == "auto" and several:
        launched = num_nodes > 1 or any(
            k in os.environ for k in ("LOCAL_RANK", "SLURM_PROCID")
        )
        strategy = (
            "ddp"
            if launched
            else "ddp_notebook"
            if "ipykernel" in sys.modules
            else "ddp_spawn"
        )
    if precision == "auto":
        known = (
            config.get("precision_used") if config.get("identity") == identity else None
        )
        gpu = torch.cuda.is_available()
        # asking CUDA about bf16 opens it, and then a notebook could not fork
        precision = known or (
            "bf16-mixed"
            if gpu and several
            else models.fast_precision("cuda" if gpu else "cpu")
        )
    said = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = said.level
    said.setLevel(
        logging.WARNING
        # its word on the precision looks like a warning in a notebook; config.json has it
    )
    try:
        return Fabric(
            accelerator="auto",
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,
        )
    finally:
        said.setLevel(level)
