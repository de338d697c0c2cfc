"""The kinds of map: one entry each in `TABLE`, which says all that the others ask.

To add a kind, write one function (model, x, ...) -> (B, K, rows, columns) and enter it
here: `METHODS`, the checks of arguments, the sanity checks and the reading window take
it from the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from radwb.attend.methods import attention, formulas, gradients, perturb
from radwb.attend.methods.features import weighed
from radwb.attend.methods.grounding import similarity
from radwb.attend.methods.values import value_norms


def positive(values: torch.Tensor) -> torch.Tensor:
    """What lowers the score is no evidence: it counts as nothing."""
    return values.clamp(min=0)


def above_lowest(values: torch.Tensor) -> torch.Tensor:
    """Values less the lowest of their map."""
    return values - values.amin((-2, -1), keepdim=True)


@dataclass(frozen=True)
class Method:
    """A kind of map, and what it needs.

    Attributes:
        compute: (model, x, ...) -> (B, K, rows, columns); what it takes besides follows
            from the next three: `weights` (B, K, E), `layer` and `head` by name.
        target: it explains a score, so it needs one; else K is 1.
        layer: what the number of a layer means: "one", the layer that is shown; "from",
            the first of all that count; "input", the layer whose input is weighed; ""
            = the method takes none.
        head: one head may be chosen.
        attention: only towers with attention blocks have it.
        unsigned: makes the values 0 or more.
    """

    compute: Callable[..., torch.Tensor]
    target: bool = True
    layer: str = ""
    head: bool = False
    attention: bool = False
    unsigned: Callable[[torch.Tensor], torch.Tensor] = positive

    @property
    def default_layer(self) -> int:
        """The first where all from one on count, else the last."""
        return 0 if self.layer == "from" else -1


TABLE = {
    "attention": Method(
        attention.attention, target=False, layer="one", head=True, attention=True
    ),
    "rollout": Method(attention.rollout, target=False, layer="from", attention=True),
    "relevance": Method(attention.relevance, layer="from", attention=True),
    "gradcam": Method(partial(weighed, formulas.gradcam), layer="input"),
    "gradcam++": Method(partial(weighed, formulas.gradcam_plus_plus), layer="input"),
    "layercam": Method(partial(weighed, formulas.layercam), layer="input"),
    "integrated_gradients": Method(gradients.integrated_gradients),
    "smoothgrad": Method(gradients.smoothgrad, unsigned=torch.abs),
    "occlusion": Method(perturb.occlusion),
    "rise": Method(perturb.rise),
    "similarity": Method(similarity, unsigned=above_lowest),
    "value_norm": Method(
        value_norms, target=False, layer="one", head=True, attention=True
    ),
    "flow": Method(attention.flow, target=False, layer="from", attention=True),
}
METHODS = tuple(TABLE)
