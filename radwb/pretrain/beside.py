"""Films without labels, learnt from beside pairs in the same image tower."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from radwb import data
from radwb.curate import check_split
from radwb.models.model import Model
from radwb.pretrain.identity import digest_of_films
from radwb.pretrain.recipe import Recipe
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.stream import InMemory


@dataclass(eq=False)
class Beside:
    """Films of yours without labels, for a second term of `fit`'s loss.

    >>> films = table.loc[table["split"] == "train", ["path", "patient_id"]]
    >>> beside = rw.pretrain.Beside(films, recipe="simclr-tiny", weight=0.5)

    A step takes, beside its `batch` of pairs, so many of these films, at random crops,
    some of them mirrored (nothing here names a side), under the strong augmentation.
    The gradient is that of the pairs' loss and `weight` times that of the films'.

    The films pass by themselves and are normed as in use, by the statistics that batch
    norms keep of the pairs: with statistics of their own they would be learnt from as
    they are never shown later. To keep the tower from telling the two kinds apart, put
    films of the pairs' patients among these, too.

    Args:
        films: needs path and patient_id. Where it has a split, rows in "train" alone
            are seen. No patient of the table's split "val" or "test" may be among them.
        recipe: one of those for images alone: "dino-tiny", "simclr-tiny", "mae-tiny".
        weight: of the term.
        share: films a step, in parts of the batch.
    Raises:
        ValueError: the recipe isn't one for images alone, or a number isn't above 0.
    """

    films: pd.DataFrame
    recipe: str = "dino-tiny"
    weight: float = 1.0
    share: float = 1.0

    def __post_init__(self):
        alone = [name for name, made in RECIPES.items() if _needs_films_alone(made)]
        if self.recipe not in alone:
            raise ValueError(
                f"expected a recipe for images alone beside, {', '.join(alone)}, got "
                f"{self.recipe!r}"
            )
        if not (self.weight > 0 and self.share > 0):
            raise ValueError(
                f"expected a weight and a share above 0, got {self.weight} and "
                f"{self.share}. Try no beside=."
            )

    def films_a_step(self, batch: int, world: int) -> int:
        """How many of a step, which `world` processes share evenly."""
        return max(1, round(self.share * batch / world)) * world


def _needs_films_alone(recipe):
    return recipe.builds == "image" and recipe.views and recipe.columns == ("split",)


def films_beside(beside: Beside | None, table: pd.DataFrame) -> InMemory | None:
    """The films for training, not yet read.

    Args:
        table: all rows of the pairs, those for validation and test among them.
    Raises:
        ValueError: a patient or film is for training here and held out there, or the
            other way round.
    """
    if beside is None:
        return None
    films = data.check_table(beside.films)
    if "split" not in films:
        films = films.assign(split="train")
    known = ["path", "patient_id", "split"]
    pairs = table[[name for name in known if name in table]]
    check_split(pd.concat([films[known], pairs], ignore_index=True))
    return InMemory(films)


def read_beside(
    beside: Beside | None, films: InMemory | None, model: Model, batch: int
) -> tuple[InMemory | None, dict]:
    """The films for training and their squares, and what a run is known by of them.

    Raises:
        ValueError: there are fewer films than a step takes.
    """
    if beside is None:
        return None, {}
    films = films.part("train", None, size=model.size, fit=model.fit, films=True)
    n = len(films.rows)
    if n < beside.films_a_step(batch, 1):
        raise ValueError(
            f"expected at least {beside.films_a_step(batch, 1)} films beside (those of "
            f"one step), got {n}. Try share={n / batch / 2:.1g}."
        )
    known_by = {name: getattr(beside, name) for name in ("recipe", "weight", "share")}
    return films, {"beside": known_by | {"films": digest_of_films(films)}}


class Joint(nn.Module):
    """Two recipes on one network: pairs, and films beside them."""

    def __init__(self, pairs: Recipe, beside: Beside, rows: pd.DataFrame):
        super().__init__()
        self.pairs = pairs
        trained = [p for p in pairs.net.parameters() if p.requires_grad]
        recipe = RECIPES[beside.recipe]
        self.films = recipe(pairs.model, rows, rank=pairs.rank, world=pairs.world)
        for parameter in trained:  # the films' recipe froze what it doesn't reach
            parameter.requires_grad_(True)
        self.films.augmentation = "strong"
        self.weight = beside.weight
        self.losses = None

    def forward(self, pairs: tuple, films: tuple) -> torch.Tensor:
        """The loss of both, of what each recipe takes: x and its targets."""
        of_pairs = self.pairs(*pairs)
        with normed_as_in_use(self.films):
            of_films = self.films(*films)
        self.losses = torch.stack([of_pairs.detach(), of_films.detach()])
        return of_pairs + self.weight * of_films

    def after_step(self, progress: float = 0.0) -> None:
        self.pairs.after_step(progress)
        self.films.after_step(progress)


@contextmanager
def normed_as_in_use(task: nn.Module) -> Iterator[None]:
    """Batch norms take the statistics that they keep, and leave them as they are."""
    task.eval()
    try:
        yield
    finally:
        task.train()
