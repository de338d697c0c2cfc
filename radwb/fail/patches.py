"""Linear heads on a frozen image tower: on its embedding, or on every patch."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn
from tqdm.auto import tqdm

from radwb.attend.threads import of_this_thread
from radwb.attend.tower import attention_blocks, has_attention, last_place
from radwb.models.model import Model, image_features


@dataclass(frozen=True, eq=False)
class Head:
    """Logits that are linear in what your frozen tower gives, for maps and for edits.

    Attributes:
        start: the Model; it stays as it is.
        weights: (D,) of the features.
        bias: of the logit.
        whole: whether it reads the pooled embedding instead of the patches.
    """

    start: Model
    weights: np.ndarray
    bias: float
    whole: bool = False

    def of(self, features: np.ndarray) -> np.ndarray:
        """(N, D) features, as `patch_features` or `embed` gives them -> (N,) logits."""
        return features @ self.weights + self.bias

    def logits(self, images: np.ndarray, *, batch: int = 64) -> np.ndarray:
        """(N, S, S) uint8 -> (N,) logits."""
        features = patch_features(self.start, images, whole=self.whole, batch=batch)
        return self.of(features)

    def classifier(self, finding: str) -> Model:
        """The same as a `Model` with one finding, for `rw.attend.attention_map`."""
        return classifier({finding: self})


def fit_head(
    start: Model,
    features: np.ndarray,
    y: Sequence[int],
    *,
    C: float = 100.0,
    whole: bool = False,
    weights: Sequence[float] | None = None,
) -> Head:
    """A logistic regression on frozen features of your model.

    >>> images = rw.data.images(table, model.size)
    >>> head = fit_head(model, rw.fail.patch_features(model, images), y)
    >>> head.logits(images).shape
    (60,)

    Args:
        start: the Model that the features are of.
        features: (N, D).
        y: (N,) labels 1 and 0.
        C: inverse of the penalty (scikit-learn's). A small one shrinks what only a few
            features say, such as a marker on four patches, before what all of them say.
        whole: the features are pooled embeddings.
        weights: (N,) how much each image counts; None = all the same.
    """
    middle = features.mean(axis=0)
    regression = LogisticRegression(C=C, max_iter=1000)
    regression.fit(features - middle, y, sample_weight=weights)
    coefficients = regression.coef_[0]
    bias = float(regression.intercept_[0] - middle @ coefficients)
    return Head(start, coefficients, bias, whole)


def patch_features(
    model: Model, images: np.ndarray, *, whole: bool = False, batch: int = 64
) -> np.ndarray:
    """What the tower's last block says of each patch, an image a row.

    >>> patch_features(model, rw.data.images(table.head(2), model.size)).shape
    (2, 12288)

    Each patch has mean 0 and variance 1 over its channels; the row of an image has
    length 1.

    Args:
        model: a ViT or a CNN.
        images: (N, S, S) uint8.
        whole: the pooled embedding instead, (N, E) of length 1.
        batch: images at a time.
    Returns:
        (N, patches * channels) float32.
    """
    parts = []
    with Reader(*last_part(model)) as reader, torch.no_grad():
        for i in tqdm(range(0, len(images), batch), "patches", delay=2, leave=False):
            x = model.preprocess(images[i : i + batch])
            embedding = model.encode_image(x)  # float32: bf16 would hide small edits
            rows = embedding if whole else flat(reader.seen, model.grid)
            parts.append(rows.cpu().numpy())
    return np.concatenate(parts)


class Reader:
    """A hook that keeps what a module gives, between `with` and its end."""

    def __init__(self, part, laid):
        self.part = part
        self.laid = laid

    def __enter__(self):
        self.hook = self.part.register_forward_hook(of_this_thread(self.keep))
        return self

    def keep(self, module, inputs, output):
        output = output[0] if isinstance(output, tuple) else output
        self.seen = self.laid(output)

    def __exit__(self, *_):
        self.hook.remove()


def last_part(model) -> tuple[nn.Module, Callable]:
    """The last block of a ViT or last feature map's module, and its output for `flat`.

    That is a function which turns the output into tokens or features.
    """
    if has_attention(model):
        return attention_blocks(model)[-1], lambda tokens: tokens
    blank = np.zeros((1, model.size, model.size), np.uint8)
    place = last_place(model, model.preprocess(blank))
    return place.module, place.laid


def flat(seen, grid) -> torch.Tensor:
    """(B, T, D) tokens or (B, D, h, w) features -> (B, patches * D) of length 1."""
    patches = grid[0] * grid[1]
    tokens = seen.flatten(2).mT if seen.ndim == 4 else seen[:, -patches:]  # (B, P, D)
    normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
    features = normed.flatten(1)  # (B, P * D)
    return F.normalize(features, dim=-1)


def classifier(heads: Mapping[str, Head]) -> Model:
    """Several of your heads on one tower as a `Model`, for maps of all in one pass.

    >>> images = rw.data.images(table, model.size)
    >>> head = fit_head(model, rw.fail.patch_features(model, images), y)
    >>> classifier({"Pleural Effusion": head}).findings
    ['Pleural Effusion']

    Args:
        heads: finding -> Head; all read the same of one tower.
    Raises:
        ValueError: they don't.
    """
    first = next(iter(heads.values()))
    start = first.start
    others = 0
    for head in heads.values():
        others += head.start is not start or head.whole != first.whole
    if others:
        raise ValueError(
            f"expected heads that read the same of one tower, got {others} "
            "that read another. Try a classifier for each tower"
        )
    net = _Headed(start, list(heads.values()))
    names = ("size", "channels", "mean", "std", "fit", "grid", "tone")
    about = {name: getattr(start, name) for name in names}
    return Model(net, start.name, "image", **about, findings=list(heads))


class _Headed(nn.Module):
    """A copy of a tower under linear heads."""

    def __init__(self, start, heads):
        super().__init__()
        copy = deepcopy(start)
        self.visual = getattr(copy.net, "visual", copy.net)
        self.grid = start.grid
        self.whole = heads[0].whole
        weights = np.stack([head.weights for head in heads])  # (K, D)
        biases = [head.bias for head in heads]
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))
        self.biases = nn.Parameter(torch.tensor(biases, dtype=torch.float32))
        self.to(start.device)
        self.last = last_part(copy)  # a tuple, since it is a part of `visual` already

    def encode_image(self, x):
        if hasattr(self.visual, "forward_head") or hasattr(self.visual, "features2"):
            return image_features(self.visual, x)
        return self.visual(x)

    def forward(self, x):
        with Reader(*self.last) as reader:  # hooked anew, behind hooks of maps
            embedding = self.encode_image(x)
        unit = F.normalize(embedding.float(), dim=-1)
        features = unit if self.whole else flat(reader.seen, self.grid)
        return features @ self.weights.T + self.biases  # (B, K)
