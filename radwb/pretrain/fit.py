"""`fit`: pretrain on a table, on one device or many, killed and resumed at will."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric

from radwb import data, models
from radwb.models.tiny import SHAPE
from radwb.pretrain import run as runs
from radwb.pretrain.loop import Job, train
from radwb.pretrain.recipes import needs

VAL_ROWS = 512  # of the live validation, at most


def fit(
    table: pd.DataFrame,
    *,
    out: str | Path,
    recipe: str = "clip-tiny",
    epochs: int = 10,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    size: int | None = None,
    shape: dict | None = None,
    start: str | Path | None = None,
    extra_texts: Sequence[str] = (),
    devices: int | str = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "auto",
    resume: bool = True,
    save_every: int = 50,
    callback: Callable[[dict], None] | None = None,
) -> runs.Run:
    """Train a model on the rows of a table with split "train"; follow it on those with split "val".

    >>> run = fit(table, recipe="clip-tiny", out="../runs/clip-tiny")
    >>> run = fit(table, out="../runs/a", devices=8, batch=1024)      # the same call on eight GPUs

    A finished run with the same settings and data is taken as it is; a stopped one goes on from its checkpoint, to the
    weights that it would have had. With other settings the old folder moves to OUT.previous.

    Args:
        table: needs path, patient_id, split, and report ("clip-tiny") or finding columns ("supervised-tiny").
        out: folder of the run, for `rw.models.load`.
        recipe: "clip-tiny", images against impressions; "supervised-tiny", the same image tower under a linear
            head and binary cross-entropy, labels -1 and NaN left out.
        epochs, batch, lr: passes; images a step over all devices; the rate that AdamW reaches after 5 % of the
            steps, before it falls by a cosine.
        seed: of weights, order, captions and augmentation; nothing else is drawn.
        size: side of the input, px; default 128, or that of `start`.
        shape: what differs from `rw.models.tiny.SHAPE`, e.g. {"layers": 4}.
        start: a model whose weights and tokenizer to go on from; default random weights.
        extra_texts: further texts for the tokenizer.
        devices, num_nodes, strategy: as in Lightning Fabric. With several devices "auto" forks in a notebook, joins
            torchrun or SLURM, and else spawns (then a script calls `fit` under `if __name__ == "__main__":`).
        precision: "auto", "bf16-mixed" or "32-true"; auto takes bf16 where the hardware is faster with it.
        resume: False starts anew in any case.
        save_every: steps from one checkpoint to the next.
        callback: called with each row of the log.
    Raises:
        ValueError: the table or the settings don't fit.
        FloatingPointError: the loss is not a number; the message names the step.
    """
    asked = needs(recipe, table)
    data.check_table(table, needs=asked)
    model = _model(table, recipe, seed, size, shape, start, extra_texts)
    learn, val = (_part(table, s, model) for s in ("train", "val"))
    if len(learn[1]) < batch:
        raise ValueError(f"expected at least {batch} rows (one batch) with split 'train', got {len(learn[1])}. "
                         f"Try batch={max(2, len(learn[1]) // 8)}, or rw.curate.split_by_patient(table).")  # fmt: skip
    identity = {"recipe": recipe, "epochs": epochs, "batch": batch, "lr": lr, "seed": seed, "precision": precision,
                "start": str(start or ""), "weights": _digest(model.net.state_dict().values()),
                "data": _digest([learn[0], val[0]], [p[1][list(asked)] for p in (learn, val)])}  # fmt: skip
    out = Path(out)
    if resume and runs.read_config(out).get("finished") and runs.read_config(out).get("identity") == identity:
        print(f"{out} is a finished run with these settings and data: taken as it is (resume=False trains anew)")
        return runs.Run(out, reused=True)
    fabric = _fabric(devices, num_nodes, strategy, precision, runs.read_config(out) if resume else {}, identity)
    about = {"model": model.spec, "n_train": len(learn[1]), "n_val": len(val[1]), "versions": runs.versions()}
    job = Job(model, recipe, learn, val, out, identity, about, resume, save_every, callback)
    fabric.launch(train, job)
    return runs.Run(out)


def _model(table, recipe, seed, size, shape, start, extra_texts):
    shape = {**(shape or {}), **({"size": size} if size else {})}
    if start is None and recipe == "supervised-tiny":
        return models.supervised_tiny(data.findings_of(table), seed=seed, shape=shape)
    if start is None:
        reports = table.loc[table["split"] == "train", "report"]
        return models.clip_tiny(models.Tokenizer.train([*reports, *extra_texts]), seed=seed, shape=shape)
    model = models.load(start)
    if shape and shape != {"size": model.size}:
        raise ValueError(f"expected no shape or size beside start, got {shape}; {start} has its own ({model.size} px)")
    if recipe == "supervised-tiny":
        return _classifier(model, data.findings_of(table), seed)
    if model.kind != "image-text":
        raise ValueError(f"expected an image-text model to start from, got {start}. Try recipe='supervised-tiny'.")
    return model


def _classifier(model, findings, seed):
    if model.spec.get("builder") != "clip-tiny":
        raise ValueError(f"expected a clip-tiny run to start from, got {model.name}. Try rw.probe.linear_probe.")
    fresh = models.supervised_tiny(findings, seed=seed, shape={k: model.spec["shape"][k] for k in SHAPE})
    fresh.net.visual = model.net.visual
    return fresh


def _part(table, split, model):
    rows = table[table["split"] == split].reset_index(drop=True)
    rows = rows.head(VAL_ROWS) if split == "val" else rows
    return torch.from_numpy(data.images(rows, model.size, fit=model.fit)), rows


def _digest(tensors, frames=()) -> str:
    sha = hashlib.sha256()
    for t in tensors:
        sha.update(t.detach().contiguous().numpy().tobytes())
    for frame in frames:
        sha.update(frame.to_csv(index=False).encode())
    return sha.hexdigest()[:16]


def _fabric(devices, num_nodes, strategy, precision, config, identity):
    several = devices != 1 or num_nodes > 1
    if strategy == "auto" and several:
        launched = num_nodes > 1 or any(k in os.environ for k in ("LOCAL_RANK", "SLURM_PROCID"))
        strategy = "ddp" if launched else "ddp_notebook" if "ipykernel" in sys.modules else "ddp_spawn"
    if precision == "auto":
        known = config.get("precision_used") if config.get("identity") == identity else None
        gpu = torch.cuda.is_available()
        # asking CUDA about bf16 opens it, and then a notebook could not fork
        precision = known or ("bf16-mixed" if gpu and several else models.fast_precision("cuda" if gpu else "cpu"))
    return Fabric(accelerator="auto", devices=devices, num_nodes=num_nodes, strategy=strategy, precision=precision)
