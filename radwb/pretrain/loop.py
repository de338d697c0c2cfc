"""What each process of a run does: step, log, validate, keep a checkpoint."""

import copy
import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from radwb import models
from radwb.models.model import autocast, squares
from radwb.pretrain import run as runs
from radwb.pretrain.augment import augment
from radwb.pretrain.captions import order
from radwb.pretrain.recipes import RECIPES

WARMUP, WEIGHT_DECAY, CLIP_NORM = 0.05, 0.1, 1.0
STUCK = "loss stuck at ln(batch)"


@dataclass
class Job:
    """All that a process needs; it is sent to each."""

    model: models.Model
    recipe: str
    train: tuple[torch.Tensor, pd.DataFrame]  # (N, S, S) uint8, and their rows
    val: tuple[torch.Tensor, pd.DataFrame]
    out: Path
    identity: dict
    about: dict
    resume: bool
    save_every: int
    callback: Callable[[dict], None] | None


def train(fabric: Fabric, job: Job) -> None:
    """Run a job from its checkpoint, or from its start, to the end."""
    loop = Loop(fabric, job)
    for step in range(loop.done, loop.steps):
        row = loop.step(step)
        ends = (step + 1) % loop.per_epoch == 0
        if ends:
            row |= loop.validate(row)
        loop.note(row, keep=ends or (step + 1) % job.save_every == 0)
    loop.finish()


class Loop:
    """The state of a run in one process."""

    def __init__(self, fabric: Fabric, job: Job):
        self.fabric, self.job, settings = fabric, job, job.identity
        self.epochs, self.batch, self.lr, self.seed = (settings[k] for k in ("epochs", "batch", "lr", "seed"))
        if self.batch % fabric.world_size:
            raise ValueError(f"expected a batch that {fabric.world_size} devices share evenly, got {self.batch}")
        self.first = fabric.is_global_zero
        if self.first:
            self._prepare()
        fabric.barrier()
        self.model = copy.copy(job.model)
        # spawned processes share the memory of what they are sent: train a copy of it
        self.model.net = copy.deepcopy(job.model.net).train()
        self.task = RECIPES[job.recipe](self.model, job.train[1], rank=fabric.global_rank, world=fabric.world_size)
        self.held_out = RECIPES[job.recipe](self.model, job.val[1]) if len(job.val[1]) else None
        self.optimizer = adamw(self.model.net, self.lr)
        self.wrapped, self.stepper = fabric.setup(self.task, self.optimizer)
        self.per_epoch = len(job.train[1]) // self.batch
        self.steps = self.epochs * self.per_epoch
        self.log_every = max(1, self.steps // 2000)
        state = runs.read_checkpoint(job.out, self.model.net, self.optimizer)
        self.done, self.before_s, self.rows = state.get("step", 0), state.get("seconds", 0.0), state.get("rows", [])
        self.began, self.aside_s, self.queue = time.perf_counter(), 0.0, (None, None)
        self.bar = tqdm(total=self.steps, initial=self.done, desc=job.out.name, disable=not self.first)

    def _prepare(self):
        said = runs.prepare(self.job.out, self.job.identity, resume=self.job.resume)
        self.config = self.job.about | {"identity": self.job.identity, "devices": self.fabric.world_size,
                                        "precision_used": precision_of(self.fabric)}  # fmt: skip
        runs.write_config(self.job.out, self.config | {"finished": False})
        print(f"{self.job.out}: {said}")

    def step(self, step: int) -> dict:
        """One step of the optimiser; returns its row of the log."""
        epoch, place = divmod(step, self.per_epoch)
        if self.queue[0] != epoch:
            self.queue = epoch, order(len(self.job.train[1]), seed=self.seed, epoch=epoch)
        share = self.batch // self.fabric.world_size
        first = self.fabric.global_rank * share
        rows = self.queue[1][place * self.batch + first :][:share]
        targets = (t.to(self.fabric.device) for t in self.task.targets(rows))
        x = squares(self.job.train[0][rows], self.model.size).to(self.fabric.device)
        x = self.model.normalise(augment(x, seed=int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0]),
                                         first=first))  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, self.steps, self.lr)
        with _attention(self.fabric):
            loss = self.wrapped(x, *targets)
            shown = float(self.fabric.all_reduce(loss.detach(), reduce_op="mean"))
            if not math.isfinite(shown):
                raise FloatingPointError(f"the loss is {shown} at step {step} (epoch {epoch}). "
                                         f"Try lr={self.lr / 3:.0e} or precision='32-true'.")  # fmt: skip
            self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(self.wrapped, self.stepper, max_norm=CLIP_NORM)
        self.stepper.step()
        self.stepper.zero_grad()
        self.task.after_step()
        lr = self.optimizer.param_groups[0]["lr"]
        return {"step": step + 1, "epoch": epoch, "seconds": self._seconds(), "loss": shown, "lr": lr,
                "grad_norm": float(norm), "logit_scale": self.model.logit_scale,
                "images_per_s": self.batch * (step + 1 - self.done) / self._seconds(here=True)}  # fmt: skip

    def _seconds(self, here=False):
        spent = time.perf_counter() - self.began
        return max(spent - self.aside_s, 1e-9) if here else self.before_s + spent

    def validate(self, row: dict) -> dict:
        """What an epoch's end adds to its last row; only the first process looks."""
        began, out = time.perf_counter(), {}
        if self.first and self.held_out:
            self.model.net.eval()
            with torch.no_grad(), autocast(self.fabric.device, precision_of(self.fabric)):
                out = self.held_out.validate(self.job.val[0], batch=self.batch)
            self.model.net.train()
        losses = [r["loss"] for r in self.rows if r["epoch"] == row["epoch"]]
        chance = math.log(self.batch)
        late = row["step"] >= max(50, self.steps // 5)
        if self.job.recipe == "clip-tiny" and late and losses and np.mean(losses) > 0.98 * chance:
            out["warning"] = STUCK
            if self.first:
                warnings.warn(f"{STUCK} = {chance:.2f} in epoch {row['epoch']}: the model tells no image from another. "
                              f"Try lr={self.lr / 3:.0e}, more data, or a start.", stacklevel=2)  # fmt: skip
        self.aside_s += time.perf_counter() - began
        return out

    def note(self, row: dict, *, keep: bool) -> None:
        """Log a row and show it; keep the checkpoint when asked."""
        if not self.first:
            return
        if keep or row["step"] % self.log_every == 0:
            self.rows.append(row)
        if keep:
            began = time.perf_counter()
            about = {"step": row["step"], "seconds": self._seconds(), "rows": self.rows}
            runs.write_log(self.job.out, self.rows)
            runs.write_checkpoint(self.job.out, self.model.net, self.optimizer, about)
            self.aside_s += time.perf_counter() - began
        seen = {k.replace("_to_", ">").replace("_recall_", " R@"): f"{v:.2f}" for r in self.rows[-self.per_epoch :]
                for k, v in r.items() if k == "loss" or k.endswith("recall_1")}  # fmt: skip
        self.bar.set_postfix(seen, refresh=False)
        self.bar.update()
        if self.job.callback:
            self.job.callback(row)

    def finish(self) -> None:
        self.bar.close()
        if self.first:
            models.save(self.model, self.job.out)
            runs.write_log(self.job.out, self.rows)
            cost = {k: self.rows[-1][k] for k in ("seconds", "images_per_s")}
            runs.write_config(self.job.out, self.config | cost | {"finished": True})
            (self.job.out / runs.CHECKPOINT).unlink(missing_ok=True)
        self.model.net.eval()
        self.fabric.barrier()


def rate(step: int, steps: int, lr: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine to nothing."""
    warm = max(1, int(WARMUP * steps))
    if step < warm:
        return lr * (step + 1) / warm
    return lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def adamw(net: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """open_clip's choice: decay for matrices only, none for biases, norms and the temperature."""
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def precision_of(fabric: Fabric) -> str:
    return fabric._precision.precision


def _attention(fabric):
    """Explicit attention for bf16 on a CPU, where the fused kernel's backward is slower at a hundred tokens."""
    explicit = fabric.device.type == "cpu" and precision_of(fabric) == "bf16-mixed"
    return sdpa_kernel(SDPBackend.MATH) if explicit else nullcontext()
