"""What is asked of the model: a phrase, a pair of phrases, a finding, a class or a
neuron, as a direction.
"""

from numbers import Integral

import torch
import torch.nn.functional as F

from radwb.attend.tower import as_it_was, forward


def directions(model, target, n: int) -> torch.Tensor:
    """(n, E) vectors whose product with the model's output is the score of the target,
    one for each image.
    """
    targets = target if isinstance(target, list) else [target] * n
    if len(targets) != n:
        raise ValueError(
            f"expected one target, or a list of {n}, one an image; got a list of {len(targets)}"
        )
    known = {t: _direction(model, t) for t in dict.fromkeys(targets)}
    return torch.stack([known[t] for t in targets])


def _direction(model, target):
    if model.findings is not None:
        return _class_direction(model, target)
    return (
        _neuron_direction(model, target)
        if isinstance(target, Integral)
        else _text_direction(model, target)
    )


def _class_direction(model, target):
    names = [f.casefold() for f in model.findings]
    if isinstance(target, str) and target.casefold() in names:
        target = names.index(target.casefold())
    if not isinstance(target, Integral) or not 0 <= target < len(names):
        raise ValueError(
            f"expected one of {list(model.findings)} or its index for {model.name}, got {target!r}"
        )
    return F.one_hot(torch.tensor(int(target)), len(names)).float()


def _neuron_direction(model, target):
    blank = torch.zeros(1, model.channels, model.size, model.size, device=model.device)
    with as_it_was(model.net), torch.no_grad():
        width = forward(model, blank).shape[-1]
    if not 0 <= target < width:
        raise ValueError(
            f"expected a neuron from 0 to {width - 1} of the embedding of {model.name}, got {target}"
        )
    return F.one_hot(torch.tensor(int(target)), width).float()


def _text_direction(model, target):
    if model.kind != "image-text":
        raise ValueError(
            f"{model.name} has neither a text tower nor classes, so it can't be asked for {target!r}. "
            "Try a neuron of its embedding: target=0"
        )
    phrases = (target,) if isinstance(target, str) else target
    if (
        not isinstance(phrases, tuple)
        or len(phrases) > 2
        or not all(isinstance(p, str) for p in phrases)
    ):
        raise ValueError(
            f"expected a phrase or a pair (positive, negative) for {model.name}, got {target!r}"
        )
    for phrase in phrases:
        _require_words(model, phrase)
    with torch.no_grad():
        text = model.encode_text(list(phrases))
    text = text.to(torch.promote_types(text.dtype, torch.float32))
    return text[0] if len(phrases) == 1 else text[0] - text[1]


def _require_words(model, phrase):
    known = phrase.strip() != ""
    if known and model.tokenizer is not None:
        ids, empty = (
            model.tokenizer([text]).flatten().tolist() for text in (phrase, "")
        )
        unknown = getattr(
            getattr(model.tokenizer, "tokenizer", model.tokenizer), "unk_token_id", None
        )
        known = bool(set(ids) - set(empty) - {unknown})
    if not known:
        raise ValueError(
            f"expected a phrase with a word that {model.name} knows, got {phrase!r}. Try 'cardiomegaly'"
        )
