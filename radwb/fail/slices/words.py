"""What a slice's films have in common, in words, by the model's own text tower."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from radwb.findings import FINDINGS
from radwb.findings.devices import NO_DEVICES, TIPS
from radwb.identifiers import numbered
from radwb.models import Model
from radwb.probe.text import text_embeddings

SIDES = ("left", "right")
SIZES = ("small", "large")
LOOKS = ("a noisy film", "a portable film", "a rotated film", "a normal chest")


def vocabulary() -> list[str]:
    """Phrases for findings, their sides and sizes, devices and the look of a film.

    >>> "small left pleural effusion" in vocabulary()
    True

    None names a site, a sex or an age.
    """
    phrases = []
    for name, finding in FINDINGS.items():
        words = (finding.synonyms or (name.lower(),))[0]
        phrases.append(words)
        if finding.place != "middle":
            for size in SIZES:
                phrases += [f"{size} {side} {words}" for side in SIDES]
    phrases += list(TIPS)
    phrases += [NO_DEVICES[0], *LOOKS]
    return list(dict.fromkeys(phrases))


def describe_slice(
    model: Model,
    embeddings: np.ndarray,
    inside: Sequence[int],
    rest: Sequence[int],
    patients: Sequence,
    *,
    phrases: Sequence[str] | None = None,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """The phrases that your model puts nearest to what sets a slice's films apart.

    >>> ill = np.flatnonzero(y == 1)
    >>> healthy = np.flatnonzero(y == 0)
    >>> words = describe_slice(model, Z, ill, healthy, patients)
    >>> words["phrase"].iloc[0]
    '...pleural effusion'

    The mean embedding of the slice less that of the rest is held against each phrase,
    from which the mean of all phrases is taken. Random slices of about as many films,
    whole patients drawn from slice and rest together, say how near a phrase comes by
    chance. A chance of 0.05 means that one in twenty random slices comes as near to
    *some* phrase.

    Args:
        model: an image-text Model.
        embeddings: (N, E) of its image tower.
        inside, rest: rows of `embeddings`, such as `films` and `rest` of a `Slices`.
        patients: (N,) patient of each row of `embeddings`.
        phrases: K of them; None = `vocabulary()`.
        draws: random slices.
        seed: of these.
    Returns:
        a row a phrase, nearest first: phrase, nearness (a difference of cosines),
        chance (share of the random slices whose nearest phrase is as near), n (films).
    Raises:
        ValueError: a slice or a rest without films, films of one patient or of nobody,
            or a model that reads no text.
    """
    inside = np.asarray(inside, dtype=int)
    rest = np.asarray(rest, dtype=int)
    if not len(inside) or not len(rest):
        raise ValueError(
            "expected films in the slice and in the rest, "
            f"got {len(inside)} and {len(rest)}"
        )
    together = np.concatenate([inside, rest])
    owner, named = numbered(np.asarray(patients, dtype=object)[together])
    if named < 2 or (owner < 0).any() or len(patients) != len(embeddings):
        raise ValueError(
            f"expected a patient of each embedding, and two or more, got {named} in "
            f"{len(owner)} films, {(owner < 0).sum()} films without. "
            "Try patients=table['patient_id'] of the same rows"
        )
    phrases = vocabulary() if phrases is None else list(phrases)
    said = text_embeddings(model, phrases)
    said = said - said.mean(axis=0)  # what all phrases share tells nothing
    near = embeddings[together] @ said.T  # (M, K)
    n = len(inside)
    nearness = _gap(near, np.arange(len(near)) < n)
    rng = np.random.default_rng(seed)
    nearest = np.empty(draws)
    for draw in range(draws):
        nearest[draw] = _gap(near, _whole_patients(owner, n, rng)).max()
    as_near = (nearest[:, None] >= nearness).sum(axis=0)
    chance = (1 + as_near) / (1 + draws)
    columns = {"phrase": phrases, "nearness": nearness, "chance": chance, "n": n}
    words = pd.DataFrame(columns)
    words = words.sort_values("nearness", ascending=False, kind="stable")
    return words.reset_index(drop=True)


def _whole_patients(owner, n, rng):
    """(M,) bool: all films of patients drawn until there are n, but not of all."""
    order = rng.permutation(owner.max() + 1)
    films = np.bincount(owner)[order].cumsum()
    enough = np.searchsorted(films, n) + 1
    return np.isin(owner, order[: min(enough, len(order) - 1)])


def _gap(near, inside):
    return near[inside].mean(axis=0) - near[~inside].mean(axis=0)
