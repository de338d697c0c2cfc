"""`Recipe`: all that the training loop asks of an objective, and what each returns.

`recipes` lists those that radwb has. They stand in `paired` (images against texts or
labels) and `unpaired` (images without texts, texts without images).
"""

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from radwb.models.model import Model, squares
from radwb.models.tiny import seeded
from radwb.pretrain.augment import augment
from radwb.pretrain.degrade import degrade
from radwb.pretrain.losses import gather

# rows that validation passes together, by the kind of device
AT_ONCE = {"cpu": 32, "cuda": 256}
Points = tuple[torch.Tensor, ...]  # each (B, ...), a row a sample
Views = torch.Tensor | Points | None  # what a network is shown, by Recipe.views


class Recipe(nn.Module):
    """An objective of your own is a subclass of this, put in `RECIPES` under a name.

    >>> class Brightness(Recipe):  # how bright is this film?
    ...     def build(self):
    ...         self.head = nn.Linear(self.net.visual.output_dim, 1)
    ...     def forward(self, x):
    ...         guess = self.head(self.net.visual(x))[:, 0]
    ...         return nn.functional.mse_loss(guess, x.mean((1, 2, 3)))
    >>> rw.pretrain.RECIPES["brightness"] = Brightness
    >>> small = {"size": 32, "batch": 16, "epochs": 1}
    >>> run = rw.pretrain.fit(table, recipe="brightness", out="runs/a", **small)
    >>> del rw.pretrain.RECIPES["brightness"]

    A recipe is the loss of a batch as a torch module. The loop reads nothing else than
    what stands here, in this order:

    - once: `Recipe(model, table, rank=, world=)`, which calls `read` and `build`;
    - each step: `view` for each of `views`, `targets`, `forward`, `after_step`;
    - where `fit` has `chunk`: `represent` and `loss_of` instead of `forward`; where it
      has `accumulate`: `terms`;
    - at the end of an epoch: `on(held-out rows)`, then `validate` of what that gives;
    - at the end of an epoch and of the run: `guess`.

    What is trained beside the model (heads, decoders, teachers) is a sub-module here:
    it is kept in checkpoints, and not saved with the model.

    Attributes:
        model: the `Model` that is trained; `net` is its network.
        rank, world: number of this process, and of all.
        views: 1, x is (B, C, S, S), augmented and normalised; 2, x is a tuple of two of
            these; 0, no images, x is None.
        crop: least share of a side that a view shows, for `augment`.
        augmentation: "mild" or "strong", as `fit` was asked for.
        builds: what `fit` starts from: "image-text" (clip_tiny), "findings" or "image"
            (supervised_tiny).
        columns: of the table, beside its findings.
        whole_batch: the loss compares all of a batch: `fit` takes `chunk` and not
            `accumulate`, and forward is `loss_of(represent(x, *targets), *targets)`.
        late: whether the run is far enough to be judged; the loop sets it before it
            calls `validate`.
    """

    views = 1
    crop = 1.0
    augmentation = "mild"
    builds = "image"
    columns = ("split",)
    whole_batch = False
    late = True

    def __init__(
        self, model: Model, table: pd.DataFrame, *, rank: int = 0, world: int = 1
    ):
        super().__init__()
        self.model = model
        self.net = model.net
        self.rank = rank
        self.world = world
        self.read(table)
        with seeded(0):  # the heads
            self.build()

    def read(self, table: pd.DataFrame) -> None:
        """Keep what `targets` takes from the N rows of a table, as plain tensors."""

    def build(self) -> None:
        """Make the heads, and freeze what of the model the loss doesn't reach."""

    def targets(self, rows: np.ndarray, seed: int = 0) -> Points:
        """What the rows (B,) are compared with: tensors (B, ...) on the CPU.

        Whatever is drawn for them follows `seed`, which is another one at each step.
        """
        return ()

    def forward(self, x: Views, *targets: torch.Tensor) -> torch.Tensor:
        """The loss of this process's share of a batch, a scalar."""
        return self.loss_of(self.represent(x, *targets), *targets)

    def represent(self, x: Views, *targets: torch.Tensor) -> Points:
        """What `loss_of` compares, each (B, ...) and by one row of the batch alone."""
        raise NotImplementedError

    def loss_of(self, points: Points, *targets: torch.Tensor) -> torch.Tensor:
        """The loss of what `represent` gave for all of a batch, a scalar."""
        raise NotImplementedError

    def entering(self, x: Views, *targets: torch.Tensor) -> torch.Tensor:
        """What `forward` passes through the image tower, (n, C, S, S)."""
        return torch.cat(x) if self.views == 2 else x

    def terms(self, *targets: torch.Tensor) -> torch.Tensor | None:
        """How many terms the loss is the mean of; None if each sample has as many."""
        return None

    def after_step(self, progress: float = 0.0) -> None:
        """What follows a step of the optimiser; `progress` goes from 0 to 1."""

    def guess(self, batch: int) -> float | None:
        """The loss of a model that tells nothing apart, where that is known."""
        return None

    def on(self, table: pd.DataFrame) -> "Recipe":
        """The same weights and heads over other rows, in one process."""
        held_out = copy.copy(self)
        held_out.rank = 0
        held_out.world = 1
        held_out.read(table)
        return held_out

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        """What the log says of held-out rows; here the mean of `forward`.

        A recipe that compares a whole batch, or whose views aren't 1, has its own.

        Args:
            images: (N, S, S) uint8 of the rows that were read; None where views is 0.
            batch: rows of a step, for losses over the whole of it.
        Returns:
            columns of the log: val_loss, others, and "warning", a sentence.
        """
        return {"val_loss": self.loss_without_pairs(images, len(images))}

    # what recipes are made with

    def gather(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """(B, ...) of each process -> (world * B, ...) in all, with gradient."""
        return [gather(tensor, self.world) for tensor in tensors]

    def view(
        self,
        images: torch.Tensor,
        *,
        seed: int | None = None,
        first: int = 0,
        whole: int | None = None,
    ) -> torch.Tensor:
        """(B, S, S) uint8 -> (B, C, S, S) for the network; with a seed, augmented.

        Args:
            images: squares of grey values.
            seed: of the changes.
            first: number of the first image in the batch of all processes.
            whole: images of that batch.
        """
        # a quarter of the bytes as they are kept
        images = images.to(self.model.device, non_blocking=True)
        x = squares(images, self.model.size)
        if seed is not None:
            x = augment(x, seed=seed, first=first, whole=whole, crop=self.crop)
            if self.augmentation == "strong":
                x = degrade(x, seed=seed, first=first)
        return self.model.normalise(x)

    def two_views(
        self, images: torch.Tensor, rows: np.ndarray, seed: int = 0
    ) -> Points:
        """Two augmented views (B, C, S, S) of these rows of (N, S, S) images."""
        first = int(rows[0])
        seeds = (seed + 1, seed + 2)
        return tuple(self.view(images[rows], seed=s, first=first) for s in seeds)

    def loss_without_pairs(
        self, images: torch.Tensor | None, n: int, *, batch: int | None = None
    ) -> float:
        """The mean of `forward` over n rows, of a loss that is a mean over samples."""
        batch = batch or self.at_once
        targets = [t.to(self.model.device) for t in self.targets(np.arange(n))]

        def loss_of(rows):
            x = self.view(images[rows]) if self.views else None
            return self(x, *(t[rows] for t in targets))

        return self.mean_loss(n, loss_of, batch=batch)

    @property
    def at_once(self) -> int:
        """Rows that validation passes through the network together."""
        return AT_ONCE.get(self.model.device.type, AT_ONCE["cpu"])

    def mean_loss(self, n: int, loss_of: Callable, *, batch: int) -> float:
        """The mean of `loss_of(rows)` over n rows, `batch` at a time.

        What is left over at the end counts by its size.
        """
        parts = torch.arange(n).split(batch)
        return sum(float(loss_of(rows)) * len(rows) for rows in parts) / n

    def in_parts(self, represent: Callable, n: int, *, dim: int = 0) -> list:
        """The tensors of `represent(rows)` over n rows, joined along `dim`."""
        parts = [represent(rows) for rows in torch.arange(n).split(self.at_once)]
        return [torch.cat(tensors, dim) for tensors in zip(*parts, strict=True)]


def mixed(*seeds: int) -> int:
    """One seed of several, equal on all processes and machines."""
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])


def patch_tokens(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of images, and the tokens that they are the mean of.

    Args:
        x: (B, 1, S, S).
    Returns:
        (B, E), as `encode_image` gives it, and (B, T, E).
    """
    outputs = net.visual.forward_intermediates(
        x, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    return outputs["image_features"], outputs["image_intermediates"][
        -1
    ] @ net.visual.proj


def train_only(net: nn.Module, *parts: str) -> None:
    """Train these parts of a network and freeze the rest.

    DDP wants to know what the loss doesn't reach.

    Args:
        parts: beginnings of parameters' names.
    Raises:
        ValueError: the network has no such part.
    """
    names = [name for name, _ in net.named_parameters()]
    missing = [part for part in parts if not any(n.startswith(part) for n in names)]
    if missing:
        raise ValueError(
            f"expected a network with {', '.join(missing)}, "
            f"got a {type(net).__name__} without. "
            "Try rw.models.clip_tiny or rw.models.supervised_tiny."
        )
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(parts))
