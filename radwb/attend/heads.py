"""A census of the heads, what the score loses without some of them, and tokens that
have become notepads.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from radwb.attend.capture import capture
from radwb.attend.faithful import target_scores
from radwb.attend.score import mean_by_patient
from radwb.attend.tower import attention_blocks, output_projection
from radwb.data.geometry import to_input


def head_census(model, scans, masks, *, groups=None, batch=8) -> pd.DataFrame:
    """Every head of every layer: does it look at the lesion, at the same place always,
    at one token only?

    >>> head_census(model, scans, [s.truth["Pleural Effusion"] for s in scans]).nlargest(3, "selectivity")

    Args:
        scans: list of Scan.
        masks: (H, W) bool, the lesion of each.
        groups: the patient of each scan; None = each scan is another patient's.
    Returns:
        index layer, head; columns
        selectivity, low, high: share of the attention (of what the embedding reads, as
            in `attention_map`) on the lesion over the lesion's share of the input; 1 is
            what a blind head has; with its interval over patients.
        elsewhere: the same on the lesion of the next scan of another patient: what
            knowing the usual place gives.
        position: share of the variance of the head's maps that their mean over scans
            explains; 1 = always the same map, 1 / n would be left of n maps with
            nothing in common.
        sink: share of all tokens' attention that goes to the most attended token; n;
            patients.
    """
    scans, masks = list(scans), list(masks)
    groups = np.arange(len(scans)) if groups is None else np.asarray(groups)
    if not 0 < len(scans) == len(masks) == len(groups):
        raise ValueError(
            f"expected one mask and one group for each of at least one scan, got {len(scans)} scans, "
            f"{len(masks)} masks, {len(groups)} groups"
        )
    seen = [
        _maps_and_sinks(model, scans[i : i + batch])
        for i in tqdm(range(0, len(scans), batch), "heads", delay=2, leave=False)
    ]
    maps, sinks = (
        torch.cat(parts, 2).numpy() for parts in zip(*seen, strict=True)
    )  # (L, heads, N, P), (L, heads, N)
    cover = np.stack(
        [_cover(model, m, s.aspect) for m, s in zip(masks, scans, strict=True)]
    )  # (N, P)
    if not cover.any(1).all():
        raise ValueError(
            "expected a lesion in each mask that the model sees, got an empty one"
        )
    selective = (maps * cover).sum(-1) / cover.mean(-1)  # (L, heads, N)
    others = cover[[_next_patient(groups, i) for i in range(len(groups))]]
    spread = ((maps - maps.mean(-1, keepdims=True)) ** 2).sum((-1, -2))
    left = ((maps - maps.mean(-2, keepdims=True)) ** 2).sum((-1, -2))
    index = pd.MultiIndex.from_product(
        [range(n) for n in maps.shape[:2]], names=["layer", "head"]
    )
    points = pd.DataFrame(selective.reshape(-1, len(scans)).T, columns=index)
    table = mean_by_patient(points, groups).rename(columns={"mean": "selectivity"})
    table["elsewhere"] = ((maps * others).sum(-1) / others.mean(-1)).mean(-1).ravel()
    table["position"] = (1 - left / np.where(spread > 0, spread, np.inf)).ravel()
    table["sink"] = sinks.mean(-1).ravel()
    return table[
        ["selectivity", "low", "high", "elsewhere", "position", "sink", "n", "patients"]
    ]


@contextmanager
def ablate_heads(model, heads):
    """While it is open, the named heads hand nothing on: their output is zero before
    the layer's projection.

    >>> with ablate_heads(model, [(3, 0), (2, 1)]):
    ...     scores = target_scores(model, scans, "pleural effusion")

    Args:
        model: a `rw.models.Model` whose image tower is a ViT; its weights come back
            whatever happens.
        heads: (layer, head) pairs, as in the index of `head_census`.
    Raises:
        ValueError: no such head, or an attention without one linear projection behind
            its heads.
    """
    slices = [
        _slice(model, layer, head)
        for layer, head in dict.fromkeys((int(a), int(b)) for a, b in heads)
    ]
    # a head reaches the projection through its own columns of the weights alone: with
    # these at zero it is silent
    before = [weight[:, columns].detach().clone() for weight, columns in slices]
    try:
        with torch.no_grad():
            for weight, columns in slices:
                weight[:, columns] = 0
        yield model
    finally:
        with torch.no_grad():
            for (weight, columns), kept in zip(slices, before, strict=True):
                weight[:, columns] = kept


def compare_ablation(
    model, scans, heads, *, target, draws: int = 20, groups=None, batch=32, seed=0
) -> pd.DataFrame:
    """Does the score lose more without these heads than without as many drawn at
    random?

    >>> compare_ablation(model, scans, census.nlargest(3, "selectivity").index, target="pleural effusion")

    Args:
        heads: (layer, head) pairs.
        target: as in `attention_map`.
        draws: sets of random heads, drawn from all that aren't in `heads`.
    Returns:
        index "chosen", "random", "difference"; columns mean (change of the score,
        negative = it falls), low, high, n,
        patients, note, as_low: of the random sets, the share whose mean change is as
            low as the chosen ones'.
    """
    chosen = [(int(a), int(b)) for a, b in heads]
    groups = np.arange(len(scans)) if groups is None else groups
    rest = [head for head in all_heads(model) if head not in chosen]
    if not 0 < len(chosen) <= len(rest):
        raise ValueError(
            f"expected 1 to {(len(rest) + len(chosen)) // 2} of {len(rest) + len(chosen)} heads, "
            f"got {len(chosen)}: as many must be left to draw from"
        )
    plain, changes, rng = (
        target_scores(model, scans, target, batch=batch),
        [],
        np.random.default_rng(seed),
    )
    drawn = [
        [rest[i] for i in rng.choice(len(rest), len(chosen), replace=False)]
        for _ in range(draws)
    ]
    for some in tqdm([chosen, *drawn], "ablating", delay=2, leave=False):
        with ablate_heads(model, some):
            changes.append(target_scores(model, scans, target, batch=batch) - plain)
    first, others = changes[0], np.stack(changes[1:])  # (N,), (draws, N)
    points = pd.DataFrame(
        {
            "chosen": first,
            "random": others.mean(0),
            "difference": first - others.mean(0),
        }
    )
    table = mean_by_patient(points, groups)
    return table.assign(as_low=float((others.mean(1) <= first.mean()).mean()))


@dataclass(frozen=True, eq=False)
class PatchNorms:
    """What `patch_norms` found.

    Attributes:
        norms: (N, rows, columns) length of each patch's token behind the last block.
        cut: above it a token is an outlier.
        table: index "outliers"; their share of the patches: mean, low, high, n,
            patients, note.
    """

    norms: np.ndarray
    cut: float
    table: pd.DataFrame

    @property
    def outliers(self) -> np.ndarray:
        return self.norms > self.cut


def patch_norms(model, scans, *, times=3.0, groups=None, batch=8) -> PatchNorms:
    """Tokens so long that they have become notepads: artefacts in every map (Darcet et
    al. 2023, arXiv 2309.16588).

    >>> patch_norms(model, scans).table.loc["outliers", "mean"]

    Args:
        times: an outlier is so many times as long as the median token. Darcet et al.
            cut at 150 for one model, where outliers were about ten times as long as the
            rest; a multiple of the median suits any model.
    """
    norms, patches = [], model.grid[0] * model.grid[1]
    for i in tqdm(range(0, len(scans), batch), "tokens", delay=2, leave=False):
        tokens = capture(model, model.preprocess(list(scans[i : i + batch])), rows=[0])[
            "tokens"
        ][-1]  # (B, T, D)
        norms.append(
            tokens[:, -patches:]
            .float()
            .norm(dim=-1)
            .unflatten(1, model.grid)
            .cpu()
            .numpy()
        )
    norms = np.concatenate(norms)
    cut = float(times * np.median(norms))
    points = pd.DataFrame({"outliers": (norms > cut).mean((1, 2))})
    groups = np.arange(len(norms)) if groups is None else groups
    table = mean_by_patient(points, groups, shares=["outliers"])
    return PatchNorms(norms, cut, table)


def all_heads(model) -> list[tuple[int, int]]:
    """(layer, head) of each head of the image tower."""
    return [
        (layer, head)
        for layer in range(len(attention_blocks(model)))
        for head in range(_projection(model, layer)[1])
    ]


def _maps_and_sinks(model, scans):
    """(L, heads, B, P) each head's attention on the patches, summing to one, and (L,
    heads, B) its sink.
    """
    seen = capture(model, model.preprocess(scans))
    attention = seen["attention"].transpose(1, 2).float()  # (L, heads, B, T, T)
    T, patches = attention.shape[-1], model.grid[0] * model.grid[1]
    maps = (seen["read"].to(attention) @ attention)[..., 0, T - patches :]
    return (maps / maps.sum(-1, keepdim=True)).cpu(), attention.mean(-2).amax(-1).cpu()


def _cover(model, mask, aspect):
    """(P,) the share of each patch that is lesion."""
    seen = to_input(
        np.asarray(mask, dtype=np.float32), model.size, fit=model.fit, aspect=aspect
    )
    return (
        nn.functional.adaptive_avg_pool2d(torch.as_tensor(seen)[None], model.grid)
        .flatten()
        .numpy()
    )


def _next_patient(groups, i):
    """The scan after `i`, round the end, that is another patient's; the scan itself
    where there is none.
    """
    n = len(groups)
    return next((j % n for j in range(i + 1, i + n) if groups[j % n] != groups[i]), i)


def _projection(model, layer):
    """The weights behind a block's heads and how many heads there are; nothing may lie
    between.
    """
    module, linear = output_projection(model, layer)
    norms = {
        name: getattr(module, name, None) for name in ("norm", "ln", "inner_attn_ln")
    }
    between = [
        name for name, norm in norms.items() if not isinstance(norm, nn.Identity | None)
    ]
    if between or linear.in_features % module.num_heads:
        got = f"{', '.join(between) or 'another width'} between: a single head can't be silenced there"
        raise ValueError(
            f"expected heads that end in one projection in block {layer} of {model.name}, got {got}"
        )
    return linear.weight, module.num_heads


def _slice(model, layer, head):
    layers = len(attention_blocks(model))
    if not 0 <= layer < layers:
        raise ValueError(
            f"expected a layer from 0 to {layers - 1} of {model.name}, got {layer}"
        )
    weight, heads = _projection(model, layer)
    if not 0 <= head < heads:
        raise ValueError(
            f"expected a head from 0 to {heads - 1} in layer {layer} of {model.name}, got {head}"
        )
    width = weight.shape[1] // heads
    return weight, slice(head * width, (head + 1) * width)
