"""The recipes by name, and the columns of a table that each reads."""

import pandas as pd

from radwb import data
from radwb.pretrain.grounded import Grounded
from radwb.pretrain.paired import Contrastive, Local, Sentences, Sigmoid, Supervised
from radwb.pretrain.recipe import Recipe
from radwb.pretrain.unpaired import (
    Distilled,
    MaskedImage,
    MaskedWord,
    NextWord,
    Views,
)

RECIPES: dict[str, type[Recipe]] = {
    "clip-tiny": Contrastive,
    "siglip-tiny": Sigmoid,
    "local-tiny": Local,
    "sentences-tiny": Sentences,
    "grounded-tiny": Grounded,
    "supervised-tiny": Supervised,
    "mae-tiny": MaskedImage,
    "simclr-tiny": Views,
    "dino-tiny": Distilled,
    "mlm-tiny": MaskedWord,
    "lm-tiny": NextWord,
}


def needs(recipe: str, table: pd.DataFrame) -> tuple[str, ...]:
    """The columns that a recipe reads.

    Raises:
        ValueError: there is no such recipe, or it needs findings and has none.
    """
    if recipe not in RECIPES:
        raise ValueError(f"expected a recipe of {', '.join(RECIPES)}, got {recipe!r}")
    if RECIPES[recipe].builds != "findings":
        return RECIPES[recipe].columns
    findings = data.findings_of(table)
    if not findings:
        raise ValueError(
            "expected columns of findings "
            f"({', '.join(data.table.FINDINGS[:3])}, ...), got {list(table.columns)}"
        )
    return ("split", *findings)
