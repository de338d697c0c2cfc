"""What a map explains: a phrase, a finding, a class or a neuron, as a direction.

A score is the product of the model's output with a direction, so its gradients are.
"""

from numbers import Integral

import torch
import torch.nn.functional as F

from radwb.attend.tower import as_it_was, forward


def directions(model, target, n: int) -> torch.Tensor:
    """(n, E) vectors, one an image, whose product with the output is the score.

    >>> directions(model, ("effusion", "no effusion"), 2).shape
    torch.Size([2, 192])

    Args:
        model: a `rw.models.Model`.
        target: as in `attention_map`; or a list with one an image.
        n: images.
    Raises:
        ValueError: the target doesn't suit the model, or the list isn't of n.
    """
    targets = target if isinstance(target, list) else [target] * n
    if len(targets) != n:
        raise ValueError(
            f"expected one target, or a list of {n}, one an image; got a list of "
            f"{len(targets)}"
        )
    by_target = {}
    for one in dict.fromkeys(targets):
        # a neuron's is made here, a phrase's where the network lies
        by_target[one] = _direction(model, one).to(model.device)
    return torch.stack([by_target[t] for t in targets])


def gradients_of(output, weights, leaf) -> torch.Tensor:
    """(B, K, ...) gradients of K scores an image, from one forward: K passes backward.

    Args:
        output: (B, E) that depends on `leaf` (B, ...).
        weights: (B, K, E) directions.
        leaf: what to differentiate by.
    """
    scores = torch.einsum("be,bke->kb", output, weights.to(output)).sum(1)
    gradients = []
    for k, score in enumerate(scores, 1):
        again = k < len(scores)
        gradients += torch.autograd.grad(score, leaf, retain_graph=again)
    return torch.stack(gradients, 1)


def _direction(model, target):
    if model.findings is not None:
        return _class_direction(model, target)
    if isinstance(target, Integral):
        return _neuron_direction(model, target)
    return _text_direction(model, target)


def _class_direction(model, target):
    names = [f.casefold() for f in model.findings]
    number = target
    if isinstance(target, str) and target.casefold() in names:
        number = names.index(target.casefold())
    if not isinstance(number, Integral) or not 0 <= number < len(names):
        raise ValueError(
            f"expected one of {list(model.findings)} or its index for {model.name}, "
            f"got {target!r}"
        )
    return F.one_hot(torch.tensor(int(number)), len(names)).float()


def _neuron_direction(model, neuron):
    blank = torch.zeros(1, model.channels, model.size, model.size, device=model.device)
    with as_it_was(model.net), torch.no_grad():
        width = forward(model, blank).shape[-1]
    if not 0 <= neuron < width:
        raise ValueError(
            f"expected a neuron from 0 to {width - 1} of the embedding of "
            f"{model.name}, got {neuron}"
        )
    return F.one_hot(torch.tensor(int(neuron)), width).float()


def _text_direction(model, target):
    if model.kind != "image-text":
        raise ValueError(
            f"{model.name} has neither a text tower nor classes, so it can't be asked "
            f"for {target!r}. Try a neuron of its embedding: target=0"
        )
    phrases = (target,) if isinstance(target, str) else target
    is_tuple = isinstance(phrases, tuple) and len(phrases) <= 2
    if not is_tuple or not all(isinstance(phrase, str) for phrase in phrases):
        raise ValueError(
            f"expected a phrase or a pair (positive, negative) for {model.name}, got "
            f"{target!r}"
        )
    for phrase in phrases:
        _require_words(model, phrase)
    with torch.no_grad():
        text = model.encode_text(list(phrases))
    text = text.to(torch.promote_types(text.dtype, torch.float32))
    return text[0] if len(phrases) == 1 else text[0] - text[1]


def _require_words(model, phrase):
    if not phrase.strip() or not _has_a_word(model.tokenizer, phrase):
        raise ValueError(
            f"expected a phrase with a word that {model.name} knows, got {phrase!r}. "
            "Try 'cardiomegaly'"
        )


def _has_a_word(tokenizer, phrase):
    """Whether it makes more of a phrase than of none, and of words it doesn't know."""
    if tokenizer is None:
        return True
    inner = getattr(tokenizer, "tokenizer", tokenizer)
    unknown = getattr(inner, "unk_token_id", None)
    empty = tokenizer([""]).flatten().tolist()
    return bool(set(tokenizer([phrase]).flatten().tolist()) - {*empty, unknown})
