"""What a recipe is shown at each step: views of films, and what they are compared with.

All of it is a function of seed and step, so that it can be made ahead of time.
"""

from dataclasses import dataclass

import numpy as np
import torch

from radwb.pretrain.recipe import Points, Recipe, Views, mixed
from radwb.pretrain.stream import Queue, share


@dataclass
class Shown:
    """A process's share of a step.

    Attributes:
        x, targets: as the recipe takes them.
        images: (B, S, S) uint8 that x is made of, or None.
        rows: (B,) of them.
        lost: what of them could not be read.
    """

    x: Views
    targets: Points
    images: torch.Tensor | None
    rows: np.ndarray
    lost: list


class Feed:
    """The steps of one recipe.

    Args:
        queue: the rows of each step.
        task: the recipe.
        steps: so many there are.
        seed: of views and targets.
        mirrors: whether half of the films are shown as in a mirror.
    """

    def __init__(
        self,
        queue: Queue,
        task: Recipe,
        steps: int,
        *,
        seed: int,
        mirrors: bool = False,
    ):
        self.queue = queue
        self.task = task
        self.steps = steps
        self.seed = seed
        self.mirrors = mirrors

    def __call__(self, step: int) -> Shown:
        images, rows, lost = self._read(step)
        n = len(rows)
        first = self.task.rank * n
        if self.mirrors:
            images = mirrored(images, mixed(self.seed, step, 3), first)
        place = {"first": first, "whole": self.task.world * n}
        views = []
        for number in range(self.task.views):
            seed = mixed(self.seed, step, number)
            views.append(self.task.view(images, seed=seed, **place))
        x = tuple(views) or None
        if len(views) == 1:
            x = views[0]
        targets = self.task.targets(rows, mixed(self.seed, step, 2))
        device = self.task.model.device
        targets = tuple(t.to(device, non_blocking=True) for t in targets)
        return Shown(x, targets, images, rows, lost)

    def _read(self, step):
        """(B, S, S) uint8, the rows (B,), and what of them could not be read."""
        rows = self._rows(step)
        if not self.task.views:
            return None, rows, []
        ahead = self._rows(step + 1) if step + 1 < self.steps else None
        return self.queue.source.batch(rows, ahead)

    def _rows(self, step):
        return share(self.queue.rows(step), self.task.rank, self.task.world)


def mirrored(images: torch.Tensor, seed: int, first: int = 0) -> torch.Tensor:
    """(B, S, S) films, half of them as in a mirror.

    Before the views are made: were one of two mirrored, it would be taught that left is
    right.

    Args:
        images: of this process.
        seed, first: as in `rw.pretrain.augment`.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(first + len(images), generator=generator)[first:]
    turned = (draw < 0.5).to(images.device, non_blocking=True)
    return torch.where(turned[:, None, None], images.flip(-1), images)
