"""One string -> a model with its own preprocessing, tokens grid and licence. Adapters
only; weights never by pickle.
"""

from radwb.models.model import Model, embed, fast_precision
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer
from radwb.models.zoo import available, load, save

__all__ = [
    "Model",
    "Tokenizer",
    "available",
    "clip_tiny",
    "embed",
    "fast_precision",
    "load",
    "save",
    "supervised_tiny",
]
