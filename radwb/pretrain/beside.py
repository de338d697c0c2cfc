"""Films without labels, learnt from beside pairs in the same image tower."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

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
    >>> beside = rw.pretrain.Beside(films, recipe="dino-tiny", weight=0.5)

    A step takes, beside its `batch` of pairs, so many of these films, at random crops,
    some of them mirrored (nothing here names a side), under the strong augmentation.
    The gradient is that of the pairs' loss and `weight` times that of the films'.

    Pairs and films pass the tower's batch norms together: with statistics of their own
    they would be learnt from as they are never shown later. To keep the tower from
    telling the two kinds apart, put films of the pairs' patients among these, too.

    Args:
        films: needs path and patient_id. Where it has a split, rows in "train" alone
            are seen. No patient of the table's split "val" or "test" may be among them.
        recipe: one of those for images alone: "simclr-tiny", "dino-tiny", "mae-tiny".
        weight: of the term.
        share: films a step, in parts of the batch.
    Raises:
        ValueError: the recipe isn't one for images alone, or a number isn't above 0.
    """

    films: pd.DataFrame
    recipe: str = "simclr-tiny"
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


def _needs_films_alone(recipe):
    return recipe.builds == "image" and recipe.views and recipe.columns == ("split",)


def films_a_step(share: float, batch: int, world: int) -> int:
    """Films beside a batch of pairs, which `world` processes share evenly."""
    return max(1, round(share * batch / world)) * world


def kept_apart(
    beside: Beside | pd.DataFrame | None, table: pd.DataFrame
) -> Beside | None:
    """`fit`'s argument, once no patient of it is held out.

    Args:
        table: all rows of the pairs, those for validation and test among them.
    Raises:
        ValueError: a patient or film is for training here and held out there, or the
            other way round.
    """
    if beside is None:
        return None
    if isinstance(beside, pd.DataFrame):
        beside = Beside(beside)
    films = data.check_table(beside.films)
    if "split" not in films:
        films = films.assign(split="train")
    known = ["path", "patient_id", "split"]
    pairs = table[[name for name in known if name in table]]
    check_split(pd.concat([films[known], pairs], ignore_index=True))
    return replace(beside, films=films)


def read_beside(
    beside: Beside | None, model: Model, batch: int
) -> tuple[InMemory | None, dict | None]:
    """The films for training with their squares, and what a run knows them by.

    Raises:
        ValueError: there are fewer films than a step takes.
    """
    if beside is None:
        return None, None
    how = {"size": model.size, "fit": model.fit, "films": True}
    films = InMemory(beside.films).part("train", None, **how)
    n = len(films.rows)
    least = films_a_step(beside.share, batch, 1)
    if n < least:
        raise ValueError(
            f"expected at least {least} films beside (those of one step), got {n}. "
            f"Try share={n / batch / 2:.1g}."
        )
    known_by = {name: getattr(beside, name) for name in ("recipe", "weight", "share")}
    return films, known_by | {"films": digest_of_films(films)}


class Joint(nn.Module):
    """Two recipes on one network: pairs, and films beside them."""

    def __init__(
        self, pairs: Recipe, films: type[Recipe], rows: pd.DataFrame, weight: float
    ):
        super().__init__()
        self.pairs = pairs
        trained = [p for p in pairs.net.parameters() if p.requires_grad]
        self.films = films(pairs.model, rows, rank=pairs.rank, world=pairs.world)
        for parameter in trained:  # the films' recipe froze what it doesn't reach
            parameter.requires_grad_(True)
        self.films.augmentation = "strong"
        self.weight = weight
        self.losses = None

    def forward(self, pairs: tuple, films: tuple) -> torch.Tensor:
        """The loss of both, of what each recipe takes: x and its targets."""
        entering = [self.films.entering(*films)]
        if self.pairs.views:
            entering.insert(0, self.pairs.entering(*pairs))
        with normed_together(self.pairs.net.visual, entering):
            of_pairs = self.pairs(*pairs)
            of_films = self.films(*films)
        self.losses = torch.stack([of_pairs.detach(), of_films.detach()])
        return of_pairs + self.weight * of_films

    def after_step(self, progress: float = 0.0) -> None:
        self.pairs.after_step(progress)
        self.films.after_step(progress)


@contextmanager
def normed_together(visual: nn.Module, entering: list[torch.Tensor]) -> Iterator[None]:
    """Within it, the tower's stem gives what it made of all that enters it at once.

    In the stem are the batch norms. With statistics of its own, either kind of film
    would be learnt from as it is never shown later.

    Args:
        visual: an image tower; one without open_clip's `conv1` is left as it is.
        entering: (B, C, S, S) of each pass, in their order.
    """
    stem = getattr(visual, "conv1", None)
    if stem is None:
        yield
        return
    parts = stem(torch.cat(entering)).split([len(x) for x in entering])
    remaining = iter(parts)
    stem.forward = lambda x: next(remaining)
    try:
        yield
    finally:
        del stem.forward
