"""One string -> a model with its own preprocessing, grid of tokens and licence.

Adapters only: the networks are their libraries', and weights are never unpickled.
"""

from radwb.models.folder import save
from radwb.models.model import Model, embed, fast_precision
from radwb.models.published import published
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer
from radwb.models.zoo import available, load

__all__ = [
    "Model",
    "Tokenizer",
    "available",
    "clip_tiny",
    "embed",
    "fast_precision",
    "load",
    "published",
    "save",
    "supervised_tiny",
]
