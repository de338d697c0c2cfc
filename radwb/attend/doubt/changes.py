"""What a map must depend on, changed: other weights, nonsense, another finding.

The labels a model learned from are changed in `twins`.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from radwb.attend.tower import forward
from radwb.data.scan import Scan
from radwb.findings.rows import FINDINGS, synonyms
from radwb.models.model import Model
from radwb.models.turns import in_turn

NONSENSE = (
    "purple bicycle on tuesday",
    "the invoice was paid in march",
    "seven quiet wooden spoons",
)
# other findings, and the words by which a target speaks of them itself
OTHERS = {
    synonyms(name)[0]: FINDINGS[name].cues
    for name in ("Pleural Effusion", "Pneumothorax", "Cardiomegaly", "Lung Lesion")
}
WEIGHTS, CASCADE = "random weights", "share of weights"
WORDS, OTHER = "nonsense phrase", "other finding"


def all_changes(
    model, scans, target, nonsense, others, draws, cascade, seed
) -> Iterator[tuple[tuple[str, str], Callable]]:
    """((test, change), function that gives the model and the target after it).

    The models are made one at a time, since nets are large.

    Args:
        as those of `sanity_check`.
    """

    def dealt_anew(**how):
        return randomised(model, scans, **how), target

    for draw in range(draws):
        yield (WEIGHTS, "all"), partial(dealt_anew, seed=seed + draw)
    for share in np.linspace(0, 1, cascade + 1)[1:]:
        change = (CASCADE, f"{share:.0%}")
        yield change, partial(dealt_anew, seed=seed, share=share)
    if target is None:
        return
    has_words = _has_words(model, target)
    for phrase in nonsense if has_words else ():
        yield (WORDS, phrase), partial(_asked_for, model, _phrased(phrase, target))
    if others is None:
        others = other_targets(model, target)
    for other in others:
        phrased = other if isinstance(other, tuple) else _phrased(other, target)
        yield (OTHER, str(other)), partial(_asked_for, model, phrased)


def _asked_for(model, target):
    return model, target


def _has_words(model, target):
    return getattr(model, "findings", None) is None and not isinstance(target, int)


def other_targets(model, target) -> list:
    """Findings that the target doesn't name; or other classes or neurons, at most four.

    >>> other_targets(model, ("enlarged heart", "normal heart"))
    ['pleural effusion', 'pneumothorax', 'lung nodule']
    """
    if _has_words(model, target):
        phrase = target[0] if isinstance(target, tuple) else target
        phrase = phrase.casefold()
        return [
            finding
            for finding, names in OTHERS.items()
            if not any(name in phrase for name in names)
        ]
    if model.findings is None:
        return [neuron for neuron in range(4) if neuron != target]
    name = target if isinstance(target, str) else model.findings[target]
    different = [f for f in model.findings if f.casefold() != name.casefold()]
    return different[:4]


def _phrased(phrase, target):
    """In the form of the target: a phrase, or a pair with its denial."""
    is_pair = isinstance(target, tuple) and len(target) == 2
    return (phrase, f"no {phrase}") if is_pair else phrase


def randomised(
    model: Model, scans: Sequence[Scan] = (), *, seed: int = 0, share: float = 1.0
) -> Model:
    """A copy of your model, the entries of each tensor of its image tower dealt anew.

    >>> twin = randomised(model, scans)
    >>> maps = [rw.attend.attention_map(m, scan, target="edema") for m in (model, twin)]
    >>> np.allclose(maps[0].values, maps[1].values)
    False

    The same numbers at random places: what was learned is gone, the scales of a trained
    net stay, and no library's own initialisation has to be known. Batch norms count
    their means and variances again, else a deep net fades out.

    Args:
        model: a `rw.models.Model`, or what has a `net`; it isn't changed.
        scans: what batch norms count on; not needed where there are none.
        seed: of the deal.
        share: 0 to 1, how many of the modules with weights, from the last that the net
            registers to the first.
    Raises:
        ValueError: the image tower has no tensor that a permutation changes.
    """
    twin = copy.copy(model)
    with in_turn(model.net):  # a copy of hooks and settings as they were
        net = copy.deepcopy(model.net)
    vars(twin)["net"] = net  # a frozen model too
    tower = getattr(twin.net, "visual", twin.net)
    owners = [m for m in tower.modules() if list(m.parameters(recurse=False))]
    chosen = owners[::-1][: int(np.ceil(share * len(owners)))]
    generator = torch.Generator().manual_seed(seed)
    changed = False
    for owner in chosen:
        for parameter in owner.parameters(recurse=False):
            changed |= _deal(parameter, generator)
    if not changed:
        raise ValueError(
            f"expected weights to randomise in {type(tower).__name__}, got none that "
            "dealing changes"
        )
    batch_norm = torch.nn.modules.batchnorm._BatchNorm
    _recount([m for m in chosen if isinstance(m, batch_norm)], twin, scans)
    return twin


@torch.no_grad()
def _deal(parameter, generator):
    """Put the entries of a tensor in random order; whether that changed it."""
    order = torch.randperm(parameter.numel(), generator=generator)
    permuted = parameter.flatten()[order.to(parameter.device)].view_as(parameter)
    changed = not torch.equal(parameter, permuted)
    parameter.copy_(permuted)
    return changed


def _recount(norms, model, scans):
    """Let batch norms count their means and variances on scans."""
    if not norms:
        return
    if not len(scans):
        raise ValueError(
            f"expected scans to count the {len(norms)} batch norms' means on, got none"
        )
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    x = torch.cat([model.preprocess(scan) for scan in scans[:16]])
    with torch.no_grad():
        if hasattr(model, "encode_image"):
            forward(model, x)
        else:
            model.net(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
