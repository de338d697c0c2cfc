"""What each model can be asked in the widget: targets and methods."""

import numpy as np

from radwb import data
from radwb.attend.methods import TABLE
from radwb.attend.tower import attention_pool, has_attention
from radwb.explore.words import as_target, in_words
from radwb.findings.rows import synonyms

NEURONS = 8  # of a tower without words or classes that are offered


def kinds(cases) -> dict[str, dict[str, list[str]]]:
    """{model: {"targets": .., "methods": ..}}, what each model can be asked."""
    return {
        name: {"targets": targets(cases, name), "methods": methods(model)}
        for name, model in cases.models.items()
    }


def targets(cases, name: str) -> list[str]:
    """What to offer: findings, first the scored one and those of film 0.

    Of image-text models phrases, each against its denial; of a tower without words or
    classes the neurons that film 0 moves most.
    """
    model = cases.models[name]
    if model.findings is not None:
        return _sorted(cases, list(model.findings))
    if model.kind != "image-text":
        output = np.abs(cases.scores[name].output(0))
        neurons = np.argsort(-output)[:NEURONS].tolist() or range(NEURONS)
        return [in_words(neuron) for neuron in neurons]
    of_others = [n for other in cases.models.values() for n in other.findings or []]
    names = _sorted(cases, of_others or cases.films.findings or data.table.FINDINGS)
    if of_others:  # the classes that both can be asked for
        return names
    phrases = [synonyms(name)[0] for name in names]
    return [f"{phrase} vs no {phrase}" for phrase in phrases]


def methods(model) -> list[str]:
    """The methods that the model's tower allows."""
    if np.prod(model.grid) < 2:
        return []
    try:
        pooled = attention_pool(model) is not None
        attends = has_attention(model)
    except ValueError:  # two pools, of which no map can tell
        pooled = attends = False
    reads = model.kind == "image-text"
    allowed = []
    for name, kind in TABLE.items():
        if kind.attention and not attends or kind.text and not reads:
            continue
        if name != "value_norm" or not pooled:
            allowed.append(name)
    return allowed


def suits(model, target: str | None) -> bool:
    """Whether the model can be asked for it."""
    asked = as_target(target)
    if asked is None or isinstance(asked, int):
        return True
    if model.findings is None:
        return model.kind == "image-text"
    names = [name.casefold() for name in model.findings]
    return isinstance(asked, str) and asked.casefold() in names


def _sorted(cases, names):
    try:
        truth = cases.scan(0).truth
    except (OSError, ValueError):  # it says so where it's shown
        truth = {}
    first = cases.finding
    names = list(dict.fromkeys(names))
    return sorted(names, key=lambda name: (name != first, name not in truth))
