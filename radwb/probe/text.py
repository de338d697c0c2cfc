"""Zero-shot by words, and what a model says of texts and of images."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from tqdm.auto import tqdm

from radwb import data
from radwb.probe.prompts import Prompts
from radwb.probe.scores import Scores

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model

POOLS = ("pair", "any", "both")
# chosen on the simulator's validation patients and half of two real sets'
# (benchmarks/pools.py), for older weights: for the next one it did not hold on
# children's films, so nothing asks this way by default
WEIGHT_OF_PAIR = 0.5

_cache: WeakKeyDictionary = WeakKeyDictionary()


def text_embeddings(model: "Model", texts: Sequence[str]) -> np.ndarray:
    """(K, E) unit vectors of your texts, to compare with those of images.

    >>> text_embeddings(model, ["edema", "no edema"]).shape
    (2, 192)

    Each is encoded once, as long as the model's weights stay as they are.

    Args:
        model: an image-text Model.
        texts: K of them.
    """
    import torch

    # goes up with every step of an optimiser
    version = tuple(weights._version for weights in model.net.parameters())
    encoded_version, encoded = _cache.get(model, (None, {}))
    if encoded_version != version:
        encoded = {}
        _cache[model] = version, encoded
    new = [text for text in dict.fromkeys(texts) if text not in encoded]
    if new:
        with torch.no_grad():
            vectors = model.encode_text(new).float().cpu().numpy()
        encoded.update(zip(new, vectors, strict=True))
    return np.stack([encoded[text] for text in texts])


def class_embedding(model: "Model", texts: Sequence[str]) -> np.ndarray:
    """(E,) your phrases as one unit vector: the mean of theirs, made unit again.

    >>> class_embedding(model, ["edema", "pulmonary edema"]).shape
    (192,)

    Args:
        model: an image-text Model.
        texts: the phrases of one class.
    """
    mean = text_embeddings(model, texts).mean(axis=0)
    return mean / np.linalg.norm(mean)


def zero_shot(
    model: "Model",
    table: pd.DataFrame,
    findings: Iterable[str] | None = None,
    *,
    prompts: Prompts | None = None,
    pool: str = "pair",
    embeddings: np.ndarray | None = None,
) -> Scores:
    """Score each finding from text alone: "there is X" against "there is no X".

    >>> zero_shot(model, table, ["Pneumothorax"]).auroc()
    >>> zero_shot(model, table, ["Pneumothorax"], pool="both").auroc()

    Which pool to take: "pair" on films from anywhere; "any" only on films like those
    the model was trained on. A film of another kind may lie nearer to all sentences, or
    farther from them, and only a difference of sentences takes that out; or the denials
    carry to it and the statements don't. "both" was meant to mend it: with the weights
    that it was chosen on it was as good as a pair on children's real films, with the
    next ones it lay between the two. `benchmarks/pools.py` measures all of it for the
    weights at hand.

    Args:
        model: an image-text Model.
        table: rows to score, with a label column a finding where they have labels;
            without, there are scores and no AUROC, whose note says so.
        findings: names; None takes all label columns that the table has.
        prompts: phrases for and against; None takes `Prompts.of(findings)` for "pair",
            `Prompts.spoken(findings)` for "any", and each of them where it belongs for
            "both".
        pool: "pair", the softmax over the mean of the phrases for and the mean of those
            against, as in CheXzero (Tiu et al., Nat Biomed Eng 2022, doi
            10.1038/s41551-022-00936-9), whose code takes it of the bare cosines; the
            model's own logit scale here changes probabilities, not ranks. "any", the
            log of the mean likelihood of the phrases for, at that scale: one that fits
            is enough, and none stands against it. "both", that plus half of the pair's
            log odds: said in any way, and not denied.
        embeddings: (N, E) from `rw.models.embed(model, table)`, when they're at hand
            already.
    Returns:
        Scores: probabilities of a pair; of "any" and "both" what ranks images and is no
            probability.
    Raises:
        ValueError: the model reads no text, a finding has no phrase, or pool is
            something else.
    """
    if model.kind != "image-text":
        raise ValueError(
            f"expected an image-text model, got {model.name!r} of kind {model.kind!r}. "
            "Try linear_probe"
        )
    if pool not in POOLS:
        raise ValueError(f"expected pool {', '.join(map(repr, POOLS))}, got {pool!r}")
    findings = data.findings_of(table) if findings is None else list(findings)
    if not findings:
        raise ValueError(
            "expected findings to ask for, got none: the table has no label columns. "
            'Try ["Pneumothorax"]'
        )
    Z = embeddings_of(model, table, embeddings)
    if pool == "pair":
        odds = _pair_odds(model, Z, prompts or Prompts.of(findings), findings)
        return Scores.of(_sigmoid(odds), table, findings)  # the softmax of a pair
    values = _any_way(model, Z, prompts or Prompts.spoken(findings), findings)
    if pool == "both":
        odds = _pair_odds(model, Z, prompts or Prompts.of(findings), findings)
        values = values + WEIGHT_OF_PAIR * odds
    return Scores.of(values, table, findings)


def _pair_odds(model, Z, prompts, findings):
    """(N, K) log odds of the phrases for against those against, by their means."""
    toward = []
    for finding in findings:
        yes, no = prompts.pair(finding)
        toward.append(class_embedding(model, yes) - class_embedding(model, no))
    return float(model.logit_scale) * Z @ np.stack(toward).T  # (K, E)


def _any_way(model, Z, prompts, findings):
    """(N, K) log of the mean likelihood of the phrases for."""
    values = []
    for finding in findings:
        phrases = text_embeddings(model, prompts.pair(finding)[0])
        values.append(logmeanexp(float(model.logit_scale) * Z @ phrases.T))
    return np.stack(values, axis=1)


def logmeanexp(logits) -> np.ndarray:
    """(N, K) -> (N,) log of the mean of exp, without overflow."""
    return logsumexp(logits, axis=1) - np.log(logits.shape[1])


def classify(model: "Model", table: pd.DataFrame, *, batch: int = 32) -> Scores:
    """Probability of each finding from your model's own supervised head.

    >>> supervised = rw.models.supervised_tiny(["Edema", "Pneumothorax"])
    >>> list(classify(supervised, table).values)
    ['Edema', 'Pneumothorax']

    Args:
        model: a Model with a head; `model.findings` names its outputs.
        table: rows to score; findings it has no label column for are left out, unless
            it has none at all.
        batch: images at a time.
    Raises:
        ValueError: the model has no head.
    """
    import torch

    from radwb.models.model import autocast

    if not model.findings:
        raise ValueError(
            f"expected a model with a classifier head, got {model.name!r} without. "
            "Try linear_probe"
        )
    images = data.images(table, model.size, fit=model.fit)
    starts = tqdm(range(0, len(images), batch), "classifying", delay=2, leave=False)
    parts = []
    with torch.no_grad(), autocast(model.device):
        for start in starts:
            x = model.preprocess(images[start : start + batch])
            parts.append(model.classify(x).float().cpu())
    probabilities = _sigmoid(torch.cat(parts).numpy())
    values = pd.DataFrame(probabilities, columns=list(model.findings))
    labelled = [finding for finding in model.findings if finding in table.columns]
    findings = labelled or list(model.findings)
    return Scores.of(values[findings], table, findings)


def embeddings_of(model, table, embeddings=None) -> np.ndarray:
    """(N, E) image embeddings: those given, if they fit the table, else computed.

    An array in the place of the model counts as given.
    """
    if isinstance(model, np.ndarray):
        embeddings = model
    if embeddings is None:
        from radwb import models

        embeddings = models.embed(model, table)
    Z = np.asarray(embeddings)
    if len(Z) != len(table):
        raise ValueError(
            f"expected one embedding a row, got {len(Z)} for {len(table)} rows"
        )
    return Z


def _sigmoid(x):
    small = np.exp(-np.abs(x))  # no overflow on either side
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))
