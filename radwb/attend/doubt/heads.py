"""A census of the heads, what the score loses without some, and notepad tokens."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from radwb.attend.capture import capture
from radwb.attend.doubt.faithful import scorer, target_scores
from radwb.attend.progress import in_batches, steps
from radwb.attend.score import mean_by_patient, next_of_another
from radwb.attend.tower import attention_blocks, output_projection, patches_of
from radwb.data.geometry import to_input
from radwb.data.scan import Scan
from radwb.models.model import Model
from radwb.models.turns import in_turn


def head_census(
    model: Model,
    scans: list[Scan],
    masks: list[np.ndarray],
    *,
    groups: Sequence | None = None,
    batch: int = 8,
) -> pd.DataFrame:
    """Every head of your ViT: does it look at the lesion, or always at one place?

    >>> films = table[table["Pleural Effusion"] == 1].head(5)
    >>> scans = [rw.data.scan_of(row) for _, row in films.iterrows()]
    >>> masks = [scan.truth["Pleural Effusion"] for scan in scans]
    >>> census = head_census(model, scans, masks, groups=films["patient_id"])
    >>> len(census.nlargest(3, "selectivity"))
    3

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        scans: list of Scan.
        masks: (H, W) bool, the lesion of each.
        groups: the patient of each scan; None = each scan is another patient's.
        batch: images in one pass.
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
    Raises:
        ValueError: not a mask and a group for each scan, or a mask without a lesion.
    """
    scans = list(scans)
    masks = list(masks)
    groups = np.arange(len(scans)) if groups is None else np.asarray(groups)
    if not 0 < len(scans) == len(masks) == len(groups):
        raise ValueError(
            "expected one mask and one group for each of at least one scan, got "
            f"{len(scans)} scans, {len(masks)} masks, {len(groups)} groups"
        )
    pairs = zip(masks, scans, strict=True)
    cover = np.stack([_cover(model, m, scan.aspect) for m, scan in pairs])  # (N, P)
    maps, sinks = _maps_and_sinks(model, scans, batch)
    if not cover.any(1).all():
        raise ValueError(
            "expected a lesion in each mask that the model sees, got an empty one"
        )
    selectivity = _selectivity(maps, cover)  # (L, heads, N)
    others = [next_of_another(groups, i) for i in range(len(groups))]
    elsewhere = _selectivity(maps, cover[others])
    heads = [range(n) for n in maps.shape[:2]]
    index = pd.MultiIndex.from_product(heads, names=["layer", "head"])
    points = pd.DataFrame(selectivity.reshape(-1, len(scans)).T, columns=index)
    table = mean_by_patient(points, groups).rename(columns={"mean": "selectivity"})
    table["elsewhere"] = elsewhere.mean(-1).ravel()
    table["position"] = _explained_by_mean(maps).ravel()
    table["sink"] = sinks.mean(-1).ravel()
    columns = ["selectivity", "low", "high", "elsewhere", "position", "sink"]
    return table[[*columns, "n", "patients"]]


def _maps_and_sinks(model, scans, batch):
    """Each head's attention on the patches, summing to one, and on its sink.

    Returns:
        (L, heads, N, P) and (L, heads, N).
    """
    maps = []
    sinks = []
    for part in in_batches(scans, batch, "heads"):
        seen = capture(model, model.preprocess(part))
        attention = seen["attention"].transpose(1, 2).float()  # (L, heads, B, T, T)
        read = seen["read"].to(attention)
        row = (read @ attention)[..., 0, :]  # (L, heads, B, T)
        patches = patches_of(model, row).flatten(-2)  # (L, heads, B, P)
        total = patches.sum(-1, keepdim=True)
        received = attention.mean(-2)  # (L, heads, B, T)
        maps.append((patches / total).cpu())
        sinks.append(received.amax(-1).cpu())
    maps = torch.cat(maps, 2)
    sinks = torch.cat(sinks, 2)
    return maps.numpy(), sinks.numpy()


def _selectivity(maps, cover):
    on_lesion = (maps * cover).sum(-1)
    return on_lesion / cover.mean(-1)


def _explained_by_mean(maps):
    """(L, heads): share of the maps' variance that their mean over scans explains."""
    beyond_level = maps - maps.mean(-1, keepdims=True)
    beyond_mean_map = maps - maps.mean(-2, keepdims=True)
    spread = (beyond_level**2).sum((-1, -2))
    left = (beyond_mean_map**2).sum((-1, -2))
    return 1 - left / np.where(spread > 0, spread, np.inf)


def _cover(model, mask, aspect):
    """(P,) the share of each patch that is lesion."""
    lesion = np.asarray(mask, dtype=np.float32)
    lesion = to_input(lesion, model.size, fit=model.fit, aspect=aspect)
    lesion = torch.as_tensor(lesion)[None]
    cover = nn.functional.adaptive_avg_pool2d(lesion, model.grid)
    return cover.flatten().numpy()


@contextmanager
def ablate_heads(model: Model, heads: Iterable[tuple[int, int]]) -> Iterator[Model]:
    """While it is open, the named heads hand nothing on.

    Their output is zero before the layer's projection.

    >>> with ablate_heads(model, [(3, 0), (2, 1)]):
    ...     scores = target_scores(model, scans, "pleural effusion")

    Args:
        model: a `rw.models.Model` whose image tower is a ViT; its weights come back
            whatever happens. Other threads' maps of it wait until then; what else runs
            it in another thread runs it without the heads.
        heads: (layer, head) pairs, as in the index of `head_census`.
    Raises:
        ValueError: no such head, or an attention without one linear projection behind
            its heads.
    """
    heads = dict.fromkeys((int(layer), int(head)) for layer, head in heads)
    # a head reaches the projection through its own columns of the weights alone: with
    # these at zero it is silent
    columns = [_columns(model, layer, head) for layer, head in heads]
    with in_turn(model.net):
        before = [column.clone() for column in columns]
        try:
            for column in columns:
                column.zero_()
            yield model
        finally:
            for column, weights in zip(columns, before, strict=True):
                column.copy_(weights)


def compare_ablation(
    model: Model,
    scans: list[Scan],
    heads: Iterable[tuple[int, int]],
    *,
    target: str | tuple | int,
    draws: int = 20,
    groups: Sequence | None = None,
    batch: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Does your score lose more without these heads than without as many at random?

    >>> lost = compare_ablation(model, scans, [(3, 0)], target="edema", draws=2)
    >>> lost.index.tolist()
    ['chosen', 'random', 'difference']

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        scans: list of Scan.
        heads: (layer, head) pairs.
        target: as in `attention_map`.
        draws: sets of random heads, drawn from all that aren't in `heads`.
        groups: the patient of each scan; None = each scan is another patient's.
        batch: images in one pass.
        seed: of the draws.
    Returns:
        index "chosen", "random", "difference"; columns mean (change of the score,
        negative = it falls), low, high, n,
        patients, note, as_low: of the random sets, the share whose mean change is as
            low as the chosen ones'.
    Raises:
        ValueError: no head, or fewer are left than chosen.
    """
    chosen = [(int(layer), int(head)) for layer, head in heads]
    rest = [head for head in all_heads(model) if head not in chosen]
    heads = len(rest) + len(chosen)
    if not 0 < len(chosen) <= len(rest):
        raise ValueError(
            f"expected 1 to {heads // 2} of {heads} heads, got {len(chosen)}: as many "
            "must be left to draw from"
        )
    draw = np.random.default_rng(seed)
    sets = [chosen]
    for _ in range(draws):
        numbers = draw.choice(len(rest), len(chosen), replace=False)
        sets.append([rest[n] for n in numbers])
    whole = target_scores(model, scans, target, batch=batch)
    changes = []
    for silent in steps(sets, "ablating"):
        scores = _scores_without(model, scans, silent, target, batch)
        changes.append(scores - whole)
    change = changes[0]  # (N,)
    others = np.stack(changes[1:])  # (draws, N)
    points = pd.DataFrame({"chosen": change, "random": others.mean(0)})
    points["difference"] = points["chosen"] - points["random"]
    lower = others.mean(1) <= change.mean()
    as_low = float(lower.mean())
    lost = mean_by_patient(points, groups)
    return lost.assign(as_low=as_low)


def _scores_without(model, scans, heads, target, batch):
    """`target_scores` without some heads, which come back after each batch."""
    score = scorer(model, target)
    scores = []
    for part in in_batches(list(scans), batch, "scores"):
        x = model.preprocess(part)
        with ablate_heads(model, heads):
            scores.append(score(x))
    return np.concatenate(scores)


@dataclass(frozen=True, eq=False)
class PatchNorms:
    """What `patch_norms` measured.

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
        """(N, rows, columns) bool."""
        return self.norms > self.cut


def patch_norms(
    model: Model,
    scans: Sequence[Scan],
    *,
    times: float = 3.0,
    groups: Sequence | None = None,
    batch: int = 8,
) -> PatchNorms:
    """Tokens so long that they have become notepads: artefacts in every map.

    After Darcet et al. 2023, arXiv 2309.16588.

    >>> patch_norms(model, scans).norms.shape
    (3, 8, 8)

    Args:
        model: a `rw.models.Model` whose image tower is a ViT.
        scans: list of Scan.
        times: an outlier is so many times as long as the median token. Darcet et al.
            cut at 150 for one model, where outliers were about ten times as long as the
            rest; a multiple of the median suits any model.
        groups: the patient of each scan; None = each scan is another patient's.
        batch: images in one pass.
    """
    norms = []
    for part in in_batches(list(scans), batch, "tokens"):
        seen = capture(model, model.preprocess(part), rows=[0])
        tokens = seen["tokens"][-1]  # (B, T, D)
        lengths = tokens.float().norm(dim=-1)  # (B, T)
        of_patches = patches_of(model, lengths)  # (B, rows, columns)
        norms.append(of_patches.cpu().numpy())
    norms = np.concatenate(norms)
    cut = float(times * np.median(norms))
    shares = (norms > cut).mean((1, 2))  # (N,)
    points = pd.DataFrame({"outliers": shares})
    table = mean_by_patient(points, groups, shares=["outliers"])
    return PatchNorms(norms, cut, table)


def all_heads(model) -> list[tuple[int, int]]:
    """(layer, head) of each head of the image tower."""
    pairs = []
    for layer in range(len(attention_blocks(model))):
        _, heads = _projection(model, layer)
        pairs += [(layer, head) for head in range(heads)]
    return pairs


def _projection(model, layer):
    """The weights behind a block's heads, and how many heads; nothing lies between."""
    module, linear = output_projection(model, layer)
    norms = ("norm", "ln", "inner_attn_ln")
    between = [
        name
        for name in norms
        if not isinstance(getattr(module, name, None), nn.Identity | None)
    ]
    if between or linear.in_features % module.num_heads:
        what = ", ".join(between) or "another width"
        raise ValueError(
            f"expected heads that end in one projection in block {layer} of "
            f"{model.name}, got {what} between: a single head can't be silenced there"
        )
    return linear.weight, module.num_heads


def _columns(model, layer, head):
    """The projection's weights for one head, (D, d), as a view of them."""
    layers = len(attention_blocks(model))
    if not 0 <= layer < layers:
        raise ValueError(
            f"expected a layer from 0 to {layers - 1} of {model.name}, got {layer}"
        )
    weight, heads = _projection(model, layer)
    if not 0 <= head < heads:
        raise ValueError(
            f"expected a head from 0 to {heads - 1} in layer {layer} of {model.name}, "
            f"got {head}"
        )
    return weight.detach().unflatten(1, (heads, -1))[:, head]
