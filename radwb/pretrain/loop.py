"""What each process of a run does: step, log, validate, keep a checkpoint."""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from open_clip_train.scheduler import cosine_lr
from timm.optim import param_groups_weight_decay

from radwb import models
from radwb.data.fetch import sha256
from radwb.data.private import private_file
from radwb.models.attention import explicit_attention
from radwb.models.checks import FINISHED
from radwb.models.model import autocast
from radwb.pretrain import cache, cost, folder, lock, stop
from radwb.pretrain import run as runs
from radwb.pretrain.average import Average
from radwb.pretrain.checkpoint import read_checkpoint
from radwb.pretrain.index import check_damage
from radwb.pretrain.measures import stuck
from radwb.pretrain.progress import Progress
from radwb.pretrain.recipe import mixed
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.stream import InMemory, Queue, Shards, share

WARMUP = 0.05  # share of the steps
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0
STUCK = "loss stuck at that of a guess"


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
    """

    model: models.Model
    train: InMemory | Shards
    val: InMemory
    out: Path
    identity: dict
    about: dict
    options: Options


def train(fabric: Fabric, job: Job) -> None:
    """Run a job from its checkpoint, or its start, to the end or a stop.

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
            keep = ends or (step + 1) % job.options.save_every == 0
            try:
                loop.progress.note(row, keep=keep)
            except KeyboardInterrupt:  # from the callback
                loop.progress.stop(row)
            if loop.stopping or (interrupt.requested and fabric.world_size == 1):
                loop.progress.stop(row, together=True)
    loop.finish()


class Loop:
    """The state of a run in one process."""

    def __init__(self, fabric: Fabric, job: Job):
        self.fabric = fabric
        self.job = job
        self.options = job.options
        self.batch = job.identity["batch"]
        self.seed = job.identity["seed"]
        self.rank = fabric.global_rank
        self.world = fabric.world_size
        self.precision = fabric._precision.precision
        if self.batch % self.world:
            raise ValueError(
                f"expected a batch that {self.world} devices share evenly, "
                f"got {self.batch}"
            )
        self.first = fabric.is_global_zero
        if self.first:
            self._prepare()
        fabric.barrier()
        self.source = job.train
        self.lost = []
        self.queue = Queue(self.source, batch=self.batch, seed=self.seed)
        self.steps = self.queue.steps(job.identity["epochs"])
        self.stopping = False
        self.held_out = None
        if isinstance(self.source, Shards):
            self._check_damage([])
        self._make_task()
        self._resume()

    def _prepare(self):
        job = self.job
        happened = folder.prepare(job.out, job.identity, resume=self.options.resume)
        self.config = job.about | {
            "identity": job.identity,
            "devices": self.world,
            "precision_used": self.precision,
        }
        runs.write_config(job.out, self.config | {"finished": False})
        if isinstance(job.train, Shards):
            runs.write_index(job.out, job.train.samples, job.train.skipped)
        print(f"{job.out}: {happened}")

    def _make_task(self):
        """The recipe, its optimiser and schedule, and the average of its weights."""
        self.model = copy.copy(self.job.model)
        # spawned processes share the memory of what they are sent: train a copy of it
        self.model.net = copy.deepcopy(self.job.model.net)
        recipe = RECIPES[self.job.identity["recipe"]]
        self.task = recipe(
            self.model, self.source.rows, rank=self.rank, world=self.world
        ).train()
        of_this = self.batch // self.world
        options = self.options
        cache.check(self.fabric, self.task, of_this, options.accumulate, options.chunk)
        lr = self.job.identity["lr"]
        self.optimizer = adamw(self.task, lr)
        self.set_rate = schedule(self.optimizer, lr, self.steps)
        self.wrapped, self.stepper = self.fabric.setup(self.task, self.optimizer)
        self.average = None
        if options.ema:
            self.average = Average(self.model.net, options.ema)

    def _resume(self):
        average = self.average and self.average.state
        state = read_checkpoint(self.job.out, self.task, self.optimizer, average)
        self.done = state.get("step", 0)
        self.progress = Progress(self, state)

    def ends(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return self.queue.epoch(step + 1) > self.queue.epoch(step)

    def inputs(self, step: int):
        """This process's share of a step.

        Returns:
            x and targets, which the recipe takes; the squares and rows that they are
            made of.
        """
        rows = share(self.queue.rows(step), self.rank, self.world)
        images = None
        if self.task.views:
            ahead = None
            if step + 1 < self.steps:
                ahead = share(self.queue.rows(step + 1), self.rank, self.world)
            images, rows, lost = self.source.batch(rows, ahead)
            if lost:
                self._check_damage(lost)
        first = self.rank * len(rows)
        views = []
        for number in range(self.task.views):
            seed = mixed(self.seed, step, number)
            views.append(self.task.view(images, seed=seed, first=first))
        x = tuple(views) or None
        if len(views) == 1:
            x = views[0]
        targets = self.task.targets(rows, mixed(self.seed, step, 2))
        targets = tuple(t.to(self.fabric.device) for t in targets)
        return x, targets, images, rows

    def _check_damage(self, lost):
        before = self.source.skipped + self.lost
        known = {(line["shard"], line["number"]) for line in before}
        new = [line for line in lost if (line["shard"], line["number"]) not in known]
        self.lost += new
        runs.append_skipped(self.job.out, new)
        # as many, we guess, in each process
        skipped = self.source.skipped + self.lost * self.world
        samples = len(self.source.samples)
        check_damage(samples, skipped, self.options.max_bad, self.job.out)

    def step(self, step: int, interrupt: stop.Interrupt) -> dict:
        """One step of the optimiser; returns its row of the log."""
        x, targets, images, rows = self.inputs(step)
        lr = self.set_rate(step)
        loss = self._backward(x, targets)
        # all stop where one is asked to
        requested = loss.new_tensor(float(interrupt.requested))
        both = torch.stack([loss, requested])
        loss, requested = self.fabric.all_reduce(both, reduce_op="mean").tolist()
        self.stopping = requested > 0
        if not math.isfinite(loss):
            self._give_up(loss, step, images, rows)
        norm = self.fabric.clip_gradients(
            self.wrapped, self.stepper, max_norm=CLIP_NORM
        )
        self.stepper.step()
        self.stepper.zero_grad()
        self.task.after_step((step + 1) / self.steps)
        if self.average:
            self.average.update(self.model.net, step)
        images_here = self.batch * (step + 1 - self.done)
        return {
            "step": step + 1,
            "epoch": self.queue.epoch(step),
            "seconds": self.progress.seconds(),
            "loss": loss,
            "lr": lr,
            "grad_norm": float(norm),
            "logit_scale": self.model.logit_scale,
            "images_per_s": images_here / self.progress.seconds_of_steps(),
        }

    def _backward(self, x, targets) -> torch.Tensor:
        options = self.options
        on_cpu = self.fabric.device.type == "cpu"
        slow = on_cpu and self.precision == "bf16-mixed"
        with explicit_attention(self.task) if slow else nullcontext():
            if options.chunk:
                return cache.cached(self.fabric, self.task, x, targets, options.chunk)
            return cache.accumulated(
                self.fabric, self.wrapped, x, targets, options.accumulate
            )

    def _give_up(self, loss, step, images, rows):
        about = self.source.rows.iloc[rows]
        names = about.get("path", about.get("key", about.index))
        raise stop.not_a_number(
            loss,
            f"step {step} (epoch {self.queue.epoch(step)})",
            out=self.job.out,
            rank=self.rank,
            images=images,
            rows=rows,
            names=[str(name) for name in names],
            lr=self.job.identity["lr"],
        )

    def validate(self, row: dict) -> dict:
        """What an epoch's end adds to its last row; only the first process looks."""
        with self.progress.aside():
            late = row["step"] >= max(50, self.steps // 5)
            columns = {}
            if self.first and len(self.job.val.rows):
                columns = self._look(late)
            rows = [r for r in self.progress.rows if r["epoch"] == row["epoch"]]
            losses = [r["loss"] for r in rows]
            guess = self.task.guess(self.batch)
            if guess and late and losses and stuck(np.mean(losses), guess):
                warning = columns.get("warning")
                columns["warning"] = f"{STUCK}; {warning}" if warning else STUCK
                if self.first:
                    self._warn(guess, row["epoch"])
        return columns

    def _look(self, late: bool) -> dict:
        """What the recipe says of held-out rows, with the averaged weights."""
        held_out = self.held_out or self.task.on(self.job.val.rows)
        self.held_out = held_out.eval()
        held_out.late = late
        cast = autocast(self.fabric.device, self.precision)
        with torch.no_grad(), cast, self.averaged():
            columns = held_out.validate(self.job.val.pixels, batch=self.batch)
        self.task.train()
        return columns

    def _warn(self, guess, epoch):
        lower = self.job.identity["lr"] / 3
        warnings.warn(
            f"{STUCK}, {guess:.2f}, in epoch {epoch}: the model tells no image from "
            f"another. Try lr={lower:.0e}, more data, or a start.",
            stacklevel=3,
        )

    def averaged(self):
        """The network with its averaged weights, where there are any."""
        return self.average.shown(self.model.net) if self.average else nullcontext()

    def finish(self) -> None:
        """Save the model, say what it cost, and drop the checkpoint."""
        self.progress.close()
        out = self.job.out
        if self.first:
            with self.averaged():
                models.save(self.model, out)
            for name in (runs.MODEL, "model.json", "tokenizer.json"):
                if (out / name).is_file():
                    private_file(out / name)
            runs.write_log(out, self.progress.rows)
        flops = self._flops()
        if self.first:
            spent = self._spent(flops)
            runs.write_config(out, self.config | spent | self._end())
            (out / runs.CHECKPOINT).unlink(missing_ok=True)
            print(f"{out}: {cost.line(spent['cost'])}")
        self.task.eval()
        self.fabric.barrier()

    def _end(self) -> dict:
        """What config.json says of a finished run."""
        end = {"guess": self.task.guess(self.batch), "finished": True}
        for key, name in FINISHED.items():
            path = self.job.out / name
            if path.is_file():
                end[key] = sha256(path)
        return end

    def _flops(self) -> float:
        """Of a sample's step; each process counts, since a loss may gather from all."""
        x, targets, *_ = self.inputs(0)
        x, targets = next(cache.pieces(x, targets, 16))
        return cost.step_flops(self.task, x, targets, self.precision)

    def _spent(self, flops: float) -> dict:
        last = self.progress.rows[-1]
        spent = {name: last[name] for name in ("seconds", "images_per_s")}
        estimates = cost.estimates(
            kind=self.fabric.device.type,
            precision=self.precision,
            world=self.world,
            flops=flops,
            watts=self.options.watts,
            **spent,
        )
        return spent | {"cost": estimates}


def schedule(
    optimizer: torch.optim.Optimizer, lr: float, steps: int
) -> Callable[[int], float]:
    """A function that sets and returns the rate of a step, as open_clip has it.

    Linear warm-up over the first 5 % of the steps, then a cosine to nothing.
    """
    return cosine_lr(optimizer, lr, max(1, int(WARMUP * steps)), steps)


def adamw(task: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """open_clip's choice: decay for matrices, none for norms and the temperature."""
    groups = param_groups_weight_decay(task, WEIGHT_DECAY)
    # matrices first: the order in which gradients' norms are summed, and of checkpoints
    groups.reverse()
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
