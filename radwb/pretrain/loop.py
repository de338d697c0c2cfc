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
import torch
from lightning_fabric import Fabric
from tqdm.auto import tqdm

from radwb import models
from radwb.data.fetch import sha256
from radwb.data.private import private_file
from radwb.models.attention import explicit_attention
from radwb.models.checks import FINISHED
from radwb.models.model import autocast, squares
from radwb.pretrain import cache, cost, lock, stop
from radwb.pretrain import run as runs
from radwb.pretrain.augment import augment
from radwb.pretrain.average import Average
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.stream import InMemory, Queue, Shards, check_damage, share

WARMUP, WEIGHT_DECAY, CLIP_NORM = 0.05, 0.1, 1.0
STUCK = "loss stuck at that of a guess"


@dataclass
class Job:
    """All that a process needs; it is sent to each."""

    model: models.Model
    recipe: str
    train: InMemory | Shards
    val: InMemory
    out: Path
    identity: dict
    about: dict
    resume: bool
    save_every: int
    callback: Callable[[dict], None] | None
    accumulate: int = 1
    chunk: int | None = None
    ema: float | None = None
    max_bad: float = 0.05
    watts: float | None = None
    samples: list[dict] | None = None  # the index of shards


def train(fabric: Fabric, job: Job) -> None:
    """Run a job from its checkpoint, or from its start, to the end or to where it is
    asked to stop.

    The first process keeps the folder from other runs meanwhile.
    """
    with lock.held(job.out) if fabric.is_global_zero else nullcontext():
        _train(fabric, job)


def _train(fabric, job):
    loop = Loop(fabric, job)
    with stop.Interrupt() as interrupt:
        for step in range(loop.done, loop.steps):
            row = loop.step(step, interrupt)
            ends = loop.ends(step)
            if ends:
                row |= loop.validate(row)
            try:
                loop.note(row, keep=ends or (step + 1) % job.save_every == 0)
            except KeyboardInterrupt:  # from the callback
                loop.stop(row)
            if loop.stopping or (interrupt.asked and fabric.world_size == 1):
                loop.stop(row, together=True)
    loop.finish()


class Loop:
    """The state of a run in one process."""

    def __init__(self, fabric: Fabric, job: Job):
        self.fabric, self.job, settings = fabric, job, job.identity
        self.epochs, self.batch, self.lr, self.seed = (
            settings[k] for k in ("epochs", "batch", "lr", "seed")
        )
        self.rank, self.world = fabric.global_rank, fabric.world_size
        if self.batch % self.world:
            raise ValueError(
                f"expected a batch that {self.world} devices share evenly, got {self.batch}"
            )
        self.first = fabric.is_global_zero
        if self.first:
            self._prepare()
        fabric.barrier()
        self.source, self.lost = job.train, []
        self._check_damage()
        self.model = copy.copy(job.model)
        # spawned processes share the memory of what they are sent: train a copy of it
        self.model.net = copy.deepcopy(job.model.net)
        self.task = RECIPES[job.recipe](
            self.model, self.source.rows, rank=self.rank, world=self.world
        ).train()
        cache.check(
            fabric, self.task, self.batch // self.world, job.accumulate, job.chunk
        )
        self.optimizer = adamw(self.task, self.lr)
        self.wrapped, self.stepper = fabric.setup(self.task, self.optimizer)
        self.average = Average(self.model.net, job.ema) if job.ema else None
        self.queue = Queue(self.source, batch=self.batch, seed=self.seed)
        self.steps, self.per_epoch = self.queue.steps(self.epochs), self.queue.steps(1)
        self.log_every = max(1, self.steps // 2000)
        state = runs.read_checkpoint(
            job.out, self.task, self.optimizer, self.average and self.average.state
        )
        self.done, self.before_s, self.rows = (
            state.get("step", 0),
            state.get("seconds", 0.0),
            state.get("rows", []),
        )
        self.began, self.aside_s, self.stopping, self.held_out = (
            time.perf_counter(),
            0.0,
            False,
            None,
        )
        self.writer = runs.scalars(job.out, self.done) if self.first else None
        self.bar = tqdm(
            total=self.steps,
            initial=self.done,
            desc=job.out.name,
            disable=not self.first,
        )

    def _prepare(self):
        job = self.job
        said = runs.prepare(job.out, job.identity, resume=job.resume)
        self.config = job.about | {
            "identity": job.identity,
            "devices": self.world,
            "precision_used": precision_of(self.fabric),
        }
        runs.write_config(job.out, self.config | {"finished": False})
        if isinstance(job.train, Shards):
            runs.write_index(job.out, job.samples, job.train.skipped)
        print(f"{job.out}: {said}")

    def ends(self, step: int) -> bool:
        return self.queue.epoch(step + 1) > self.queue.epoch(step)

    def inputs(self, step: int):
        """This process's share of a step: what the recipe takes, and the squares and
        rows that it is made of.
        """
        rows, ahead = (
            share(self.queue.rows(s), self.rank, self.world) for s in (step, step + 1)
        )
        images, lost = None, []
        if self.task.views:
            images, rows, lost = self.source.batch(
                rows, ahead if step + 1 < self.steps else None
            )
        if lost:
            self._check_damage(lost)
        first, device = self.rank * len(rows), self.fabric.device
        views = []
        for view in range(self.task.views):
            x = squares(images, self.model.size).to(device)
            x = augment(
                x, seed=drawn(self.seed, step, view), first=first, crop=self.task.crop
            )
            views.append(self.model.normalise(x))
        x = None if not views else views[0] if len(views) == 1 else tuple(views)
        targets = self.task.targets(rows, drawn(self.seed, step, 2))
        return x, tuple(t.to(device) for t in targets), images, rows

    def _check_damage(self, lost=()):
        known = {(s["shard"], s["number"]) for s in self.source.skipped + self.lost}
        new = [s for s in lost if (s["shard"], s["number"]) not in known]
        self.lost += new
        runs.append_skipped(self.job.out, new)
        all_lost = (
            self.source.skipped + self.lost * self.world
        )  # as many, we guess, in each process
        check_damage(
            len(self.job.samples or self.source.rows),
            all_lost,
            self.job.max_bad,
            self.job.out,
        )

    def step(self, step: int, interrupt: stop.Interrupt) -> dict:
        """One step of the optimiser; returns its row of the log."""
        x, targets, images, rows = self.inputs(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, self.steps, self.lr)
        with self._attention():
            if self.job.chunk:
                loss = cache.cached(self.fabric, self.task, x, targets, self.job.chunk)
            else:
                loss = cache.accumulated(
                    self.fabric, self.wrapped, x, targets, self.job.accumulate
                )
        shown = torch.stack(
            [loss, loss.new_tensor(float(interrupt.asked))]
        )  # all stop where one is asked to
        shown, asked = self.fabric.all_reduce(shown, reduce_op="mean").tolist()
        self.stopping = asked > 0
        if not math.isfinite(shown):
            self._give_up(shown, step, images, rows)
        norm = self.fabric.clip_gradients(
            self.wrapped, self.stepper, max_norm=CLIP_NORM
        )
        self.stepper.step()
        self.stepper.zero_grad()
        self.task.after_step((step + 1) / self.steps)
        if self.average:
            self.average.update(self.model.net, step)
        lr = self.optimizer.param_groups[0]["lr"]
        return {
            "step": step + 1,
            "epoch": self.queue.epoch(step),
            "seconds": self._seconds(),
            "loss": shown,
            "lr": lr,
            "grad_norm": float(norm),
            "logit_scale": self.model.logit_scale,
            "images_per_s": self.batch
            * (step + 1 - self.done)
            / self._seconds(here=True),
        }

    def _attention(self):
        slow = (
            self.fabric.device.type == "cpu"
            and precision_of(self.fabric) == "bf16-mixed"
        )
        return explicit_attention(self.task) if slow else nullcontext()

    def _give_up(self, loss, step, images, rows):
        about = self.source.rows.iloc[rows]
        names = [str(n) for n in about.get("path", about.get("key", about.index))]
        path = stop.save_bad_batch(self.job.out, self.rank, images, rows, names)
        where = f"step {step} (epoch {self.queue.epoch(step)})"
        raise stop.not_a_number(loss, where, path, rows, self.lr)

    def _seconds(self, here=False):
        spent = time.perf_counter() - self.began
        return max(spent - self.aside_s, 1e-9) if here else self.before_s + spent

    def validate(self, row: dict) -> dict:
        """What an epoch's end adds to its last row; only the first process looks."""
        began, out, late = (
            time.perf_counter(),
            {},
            row["step"] >= max(50, self.steps // 5),
        )
        if self.first and len(self.job.val.rows):
            self.held_out = (self.held_out or self.task.on(self.job.val.rows)).eval()
            self.held_out.late = late
            with (
                torch.no_grad(),
                autocast(self.fabric.device, precision_of(self.fabric)),
                self._averaged(),
            ):
                out = self.held_out.validate(self.job.val.pixels, batch=self.batch)
            self.task.train()
        losses = [r["loss"] for r in self.rows if r["epoch"] == row["epoch"]]
        guess = self.task.guess(self.batch)
        if guess and late and losses and np.mean(losses) > 0.98 * guess:
            out["warning"] = "; ".join(
                [STUCK, *([out["warning"]] if "warning" in out else [])]
            )
            if self.first:
                warnings.warn(
                    f"{STUCK}, {guess:.2f}, in epoch {row['epoch']}: the model tells no image from another. "
                    f"Try lr={self.lr / 3:.0e}, more data, or a start.",
                    stacklevel=2,
                )
        self.aside_s += time.perf_counter() - began
        return out

    def _averaged(self):
        return self.average.shown(self.model.net) if self.average else nullcontext()

    def note(self, row: dict, *, keep: bool) -> None:
        """Log a row and show it; keep the checkpoint when asked."""
        if not self.first:
            return
        if keep or row["step"] % self.log_every == 0:
            self.rows.append({k: v for k, v in row.items() if k != "similarity"})
            for name, value in row.items() if self.writer else ():
                if isinstance(value, int | float):
                    self.writer.add_scalar(name, value, row["step"])
        if keep:
            self._keep(row)
        seen = {
            k.replace("_to_", ">").replace("_recall_", " R@"): f"{v:.2f}"
            for r in self.rows[-self.per_epoch :]
            for k, v in r.items()
            if k == "loss" or k.endswith("recall_1")
        }
        self.bar.set_postfix(seen, refresh=False)
        self.bar.update()
        if self.job.callback:
            self.job.callback(row)

    def _keep(self, row):
        began = time.perf_counter()
        about = {"step": row["step"], "seconds": self._seconds(), "rows": self.rows}
        runs.write_log(self.job.out, self.rows)
        average = self.average.state if self.average else None
        runs.write_checkpoint(self.job.out, self.task, self.optimizer, about, average)
        if self.writer:
            self.writer.flush()
        self.aside_s += time.perf_counter() - began

    def stop(self, row: dict, *, together: bool = False) -> None:
        """Keep the last whole step and leave; `together`: all processes do."""
        self.bar.close()
        said = (
            f"stopped after step {row['step']} of {self.steps}; its checkpoint is in {self.job.out}. "
            "Call fit again with the same arguments to go on."
        )
        if self.first:
            self._keep(row)
            print(said)
        if together:
            self.fabric.barrier()
        raise KeyboardInterrupt(said)

    def finish(self) -> None:
        self.bar.close()
        if self.first:
            with self._averaged():
                models.save(self.model, self.job.out)
            for name in (runs.MODEL, "model.json", "tokenizer.json"):
                if (self.job.out / name).is_file():
                    private_file(self.job.out / name)
            runs.write_log(self.job.out, self.rows)
        spent = self._cost()
        if self.first:
            end = {
                "guess": self.task.guess(self.batch),
                "finished": True,
            }
            for key, name in FINISHED.items():
                if (self.job.out / name).is_file():
                    end[key] = sha256(self.job.out / name)
            runs.write_config(self.job.out, self.config | spent | end)
            (self.job.out / runs.CHECKPOINT).unlink(missing_ok=True)
            print(f"{self.job.out}: {cost.line(spent['cost'])}")
        if self.writer:
            self.writer.close()
        self.task.eval()
        self.fabric.barrier()

    def _cost(self):
        """Each process counts, since a loss may gather from all."""
        x, targets = next(cache.pieces(*self.inputs(0)[:2], 16))
        flops = cost.step_flops(self.task, x, targets, precision_of(self.fabric))
        if not self.first:
            return {}
        spent = {k: self.rows[-1][k] for k in ("seconds", "images_per_s")}
        about = {
            "kind": self.fabric.device.type,
            "precision": precision_of(self.fabric),
            "world": self.world,
        }
        return spent | {
            "cost": cost.estimates(**about, flops=flops, watts=self.job.watts, **spent)
        }


def drawn(seed: int, step: int, which: int) -> int:
    """A seed for the first view (0), the second (1) and the targets (2) of a step;
    equal on all processes.
    """
    return int(np.random.SeedSequence((seed, step, which)).generate_state(1)[0])


def rate(step: int, steps: int, lr: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine to nothing."""
    warm = max(1, int(WARMUP * steps))
    if step < warm:
        return lr * (step + 1) / warm
    return lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def adamw(task: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """open_clip's choice: decay for matrices only, none for biases, norms and the
    temperature.
    """
    trained = [p for p in task.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def precision_of(fabric: Fabric) -> str:
    return fabric._precision.precision
