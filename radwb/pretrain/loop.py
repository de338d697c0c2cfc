"""What each process of a run does: step, log, validate, keep a checkpoint."""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

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
from radwb.pretrain.beside import Joint, films_a_step
from radwb.pretrain.checkpoint import read_checkpoint
from radwb.pretrain.feed import Feed, Shown
from radwb.pretrain.index import check_damage
from radwb.pretrain.job import Job
from radwb.pretrain.measures import stuck
from radwb.pretrain.progress import Progress
from radwb.pretrain.recipe import mixed
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.stream import Queue, Shards

WARMUP = 0.05  # share of the steps
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0
STUCK = "loss stuck at that of a guess"


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
        self.device = fabric.device
        self.source = job.train.on(self.device)
        self.lost = []
        self.queue = Queue(self.source, batch=self.batch, seed=self.seed)
        self.steps = self.queue.steps(job.identity["epochs"])
        self.stopping = False
        self.ready = None
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
        identity = self.job.identity
        recipe = RECIPES[identity["recipe"]]
        options = self.options
        self.pairs = recipe(
            self.model, self.source.rows, rank=self.rank, world=self.world
        )
        self.pairs.augmentation = identity.get("augmentation", "mild")
        self.feeds = [Feed(self.queue, self.pairs, self.steps, seed=self.seed)]
        self.task = self.pairs
        self.joint = None
        if "beside" in identity:
            self._put_beside(**identity["beside"])
        self.task.train()
        of_this = self.batch // self.world
        cache.check(self.fabric, self.pairs, of_this, options.accumulate, options.chunk)
        lr = identity["lr"]
        self.optimizer = adamw(self.task, lr)
        self.set_rate = schedule(self.optimizer, lr, self.steps)
        self.wrapped, self.stepper = self.fabric.setup(self.task, self.optimizer)
        self.average = None
        if options.ema:
            self.average = Average(self.model.net, options.ema)

    def _put_beside(self, recipe, weight, share, films):
        """A second recipe and its feed, for films without labels."""
        if self.options.accumulate > 1 or self.options.chunk:
            raise ValueError(
                "expected accumulate=1 and chunk=None with beside, got "
                f"{self.options.accumulate} and {self.options.chunk}. Try a smaller "
                "batch, or a smaller share of films."
            )
        films = self.job.films.on(self.device)
        self.joint = Joint(self.pairs, RECIPES[recipe], films.rows, weight)
        self.task = self.joint
        n = films_a_step(share, self.batch, self.world)
        seed = mixed(self.seed, 3)
        queue = Queue(films, batch=n, seed=seed)
        feed = Feed(queue, self.joint.films, self.steps, seed=seed, mirrors=True)
        self.feeds.append(feed)

    def _resume(self):
        average = self.average and self.average.state
        state = read_checkpoint(self.job.out, self.task, self.optimizer, average)
        self.done = state.get("step", 0)
        self.progress = Progress(self, state)

    def ends(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return self.queue.epoch(step + 1) > self.queue.epoch(step)

    def inputs(self, step: int) -> list[Shown]:
        """This process's share of a step: of the pairs, and of films beside them."""
        shown = [feed(step) for feed in self.feeds]
        if shown[0].lost:
            self._check_damage(shown[0].lost)
        return shown

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
        shown = self.ready or self.inputs(step)
        lr = self.set_rate(step)
        losses = self._backward(shown)
        # all stop where one is asked to
        requested = losses.new_full((1,), float(interrupt.requested))
        both = torch.cat([losses, requested])
        means = self.fabric.all_reduce(both, reduce_op="mean")
        norm = self._update(step)
        self.ready = None
        if self.device.type == "cuda" and step + 1 < self.steps:
            self.ready = self.inputs(step + 1)  # while the GPU is at this one
        loss, *beside, requested = means.tolist()  # waits for it
        self.stopping = requested > 0
        self._require_numbers(loss, beside, float(norm), step, shown[0])
        row = {
            "step": step + 1,
            "epoch": self.queue.epoch(step),
            "seconds": self.progress.seconds(),
            "loss": loss,
        }
        if beside:
            row["loss_beside"] = beside[0]
        images_here = self.batch * (step + 1 - self.done)
        return row | {
            "lr": lr,
            "grad_norm": float(norm),
            "logit_scale": self.model.logit_scale,
            "images_per_s": images_here / self.progress.seconds_of_steps(),
        }

    def _update(self, step) -> torch.Tensor:
        """Follow the gradient; returns its norm before it was clipped."""
        norm = self.fabric.clip_gradients(
            self.wrapped,
            self.stepper,
            max_norm=CLIP_NORM,
            error_if_nonfinite=False,  # would wait for the GPU; looked at later
        )
        self.stepper.step()
        self.stepper.zero_grad()
        self.task.after_step((step + 1) / self.steps)
        if self.average:
            self.average.update(self.model.net, step)
        return norm

    def _backward(self, shown) -> torch.Tensor:
        """(1,) the loss of the pairs, or (2,) and that of the films beside them."""
        options = self.options
        slow = self.device.type == "cpu" and self.precision == "bf16-mixed"
        with explicit_attention(self.task) if slow else nullcontext():
            if self.joint:
                loss = self.wrapped(*((s.x, *s.targets) for s in shown))
                self.fabric.backward(loss)
                return self.joint.losses
            x, targets = shown[0].x, shown[0].targets
            if options.chunk:
                run = partial(cache.cached, self.fabric, self.task)
                return run(x, targets, options.chunk)[None]
            run = partial(cache.accumulated, self.fabric, self.wrapped)
            return run(x, targets, options.accumulate)[None]

    def _require_numbers(self, loss, beside, norm, step, shown):
        """Refuse a loss or a gradient that is no number, and keep its batch."""
        values = {"loss": loss, "gradient's norm": norm}
        if beside:
            values["loss beside"] = beside[0]
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        about = self.source.rows.iloc[shown.rows]
        names = about.get("path", about.get("key", about.index))
        raise stop.not_a_number(
            wrong[0],
            values[wrong[0]],
            f"step {step} (epoch {self.queue.epoch(step)})",
            out=self.job.out,
            rank=self.rank,
            images=shown.images,
            rows=shown.rows,
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
            guess = self.pairs.guess(self.batch)
            if guess and late and losses and stuck(np.mean(losses), guess):
                warning = columns.get("warning")
                columns["warning"] = f"{STUCK}; {warning}" if warning else STUCK
                if self.first:
                    self._warn(guess, row["epoch"])
        return columns

    def _look(self, late: bool) -> dict:
        """What the recipe says of held-out rows, with the averaged weights."""
        held_out = self.held_out or self.pairs.on(self.job.val.rows)
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
        end = {"guess": self.pairs.guess(self.batch), "finished": True}
        for key, name in FINISHED.items():
            path = self.job.out / name
            if path.is_file():
                end[key] = sha256(path)
        return end

    def _flops(self) -> float:
        """Of a sample's step; each process counts, since a loss may gather from all."""
        flops = [self._flops_of(feed) for feed in self.feeds]
        if self.joint:
            flops[1] *= self.job.identity["beside"]["share"]
        return sum(flops)

    def _flops_of(self, feed) -> float:
        shown = feed(0)
        x, targets = next(cache.pieces(shown.x, shown.targets, 16))
        return cost.step_flops(feed.task, x, targets, self.precision)

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
