"""What a number on films is worth: pixels, brightness, untrained towers beside it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radwb import data
from radwb.probe.crossed import cross_probe
from radwb.probe.linear import linear_probe
from radwb.probe.scores import Scores
from radwb.probe.text import embeddings_of
from radwb.stats import clustered_auroc, compare_auroc
from radwb.stats.clustered import mean_clustered_auroc

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model

SIZES = (16, 32)
SEEDS = (0, 1, 2)


def raw_pixels(table: pd.DataFrame, size: int = 16, *, fit: str = "pad") -> np.ndarray:
    """Each film as a few grey values: what a probe finds there, no model had to learn.

    >>> raw_pixels(table, 16).shape
    (60, 256)

    Args:
        table: needs `path`.
        size: side of the shrunken film, px.
        fit: as in `rw.data.images`.
    Returns:
        (N, size * size) float32 in [0, 1].
    """
    grey = data.images(table, size, fit=fit)  # (N, size, size)
    return grey.reshape(len(grey), -1).astype(np.float32) / 255


def brightness(
    table: pd.DataFrame, findings: Sequence[str], *, size: int = 64, fit: str = "pad"
) -> Scores:
    """The mean grey value as each finding's score: a control your model must beat.

    >>> brightness(table, ["Pleural Effusion"]).auroc()

    The brighter, the more likely.

    Args:
        table: needs `path` and a column a finding.
        findings: that it's asked for.
        size: side of the square that is averaged, px.
        fit: as in `rw.data.images`.
    """
    mean = raw_pixels(table, size, fit=fit).mean(axis=1, keepdims=True)  # (N, 1)
    return Scores.of(mean.repeat(len(findings), axis=1), table, findings)


def untrained(model: "Model", seeds: Sequence[int] = SEEDS) -> list:
    """The model's own architecture with random weights: what the shape alone can do.

    >>> [twin.name for twin in untrained(model)]
    ['radwb-tiny, untrained 0', 'radwb-tiny, untrained 1', 'radwb-tiny, untrained 2']

    Args:
        model: a Model of radwb's own ("clip-tiny" or "supervised-tiny").
        seeds: of the weights, one a twin.
    Raises:
        ValueError: another library's model, which only that library can draw anew.
    """
    from radwb import models

    builders = {
        "clip-tiny": (models.clip_tiny, model.tokenizer),
        "supervised-tiny": (models.supervised_tiny, model.findings or []),
    }
    name = model.spec.get("builder")
    if name not in builders:
        raise ValueError(
            "expected a model that radwb builds itself, "
            f"got {model.name!r} of {name!r}. "
            "Try features={'untrained tower': [embeddings of a random one, ...]}"
        )
    build, outputs = builders[name]
    twins = []
    for seed in seeds:
        about = {"name": f"{model.name}, untrained {seed}", "seed": seed}
        twin = build(outputs, shape=model.spec.get("shape"), **about)
        twin.tone = model.tone
        twins.append(twin)
    return twins


def representations(
    model: "Model",
    table: pd.DataFrame,
    *,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = SEEDS,
    embeddings: np.ndarray | None = None,
) -> dict[str, list[np.ndarray]]:
    """Your films as the model, its untrained twins and raw pixels see them, to probe.

    >>> list(representations(model, table, seeds=[0]))
    ['the model', 'untrained tower', '16 x 16 pixels', '32 x 32 pixels']

    Args:
        model: a Model of radwb's own.
        table: needs `path`.
        sizes: sides of the raw pixels' squares.
        seeds: of the untrained towers.
        embeddings: (N, E) of the model, when they're at hand already.
    Returns:
        name -> list of (N, D) arrays, one a seed.
    """
    features = {"the model": [embeddings_of(model, table, embeddings)]}
    if seeds:
        features["untrained tower"] = _embedded(untrained(model, seeds), table)
    for size in sizes:
        pixels = raw_pixels(table, size, fit=model.fit)
        features[f"{size} x {size} pixels"] = [pixels]
    return features


def baselines(
    features: Mapping[str, np.ndarray | list],
    table: pd.DataFrame,
    *,
    label: str | Sequence[str],
    C: float | None = None,
) -> dict[str, list[Scores]]:
    """Probes of your model's vectors and of others, fitted on the same patients.

    >>> features = {"the model": Z, "16 x 16 pixels": raw_pixels(table, 16)}
    >>> probes = baselines(features, table, label="Pleural Effusion", C=0.01)
    >>> compare_scores(probes)

    Args:
        features: name -> (N, D), or a list of them, one a seed; `representations` makes
            it.
        table: where `split` has train and test, probes are fitted on the one and asked
            of the other; else in folds by patient (`cross_probe`).
        label: one finding or a list of them.
        C: inverse of the ridge penalty; None has it chosen among the training patients.
    Returns:
        name -> Scores, one a seed.
    """
    split = set(table["split"].dropna()) if "split" in table else set()
    probe = linear_probe if {"train", "test"} <= split else cross_probe
    probes = {}
    for name, of_seeds in features.items():
        probes[name] = [probe(Z, table, label=label, C=C) for Z in _listed(of_seeds)]
    return probes


def compare_scores(
    scores: Mapping[str, Scores | list[Scores]], reference: str | None = None
) -> pd.DataFrame:
    """Your model's scores beside those of others on the same films, and the difference.

    >>> grey = brightness(table, list(scores.values))
    >>> compared = compare_scores({"the model": scores, "brightness": grey})
    >>> compared[["finding", "scored", "auroc", "sentence"]]

    Args:
        scores: name -> Scores, or a list of them, one a seed: their mean is shown.
        reference: what the others are compared with; None takes the first.
    Returns:
        one row a name and finding, and where there are several one for their mean:
        finding, scored (the name), auroc, low, high, positives, positive_patients,
        patients, seeds, seed_low and seed_high (the least and the greatest AUROC of a
        seed; the interval is by patient alone), note; difference, difference_low,
        difference_high, verdict and sentence of the reference against it
        (`rw.stats.compare_auroc`, corrected for the number of rows).
    """
    listed = {name: _listed(of_seeds) for name, of_seeds in scores.items()}
    reference = reference or next(iter(listed))
    first = listed[reference][0]
    findings = list(first.values)
    groups = {finding: [finding] for finding in findings}
    if len(findings) > 1:
        groups[first.mean_auroc().finding[0]] = findings
    rows = []
    for finding, group in groups.items():
        family = len(listed) - 1
        if group != findings:
            family *= len(findings)
        for name, of_seeds in listed.items():
            row = {"finding": finding, "scored": name, "seeds": len(of_seeds)}
            row |= _auroc_row(of_seeds, group)
            difference = {"difference": np.nan, "verdict": "", "sentence": ""}
            if name != reference:
                pair = {reference: listed[reference], name: of_seeds}
                difference = _difference_row(pair, group, family)
            rows.append(row | difference)
    return pd.DataFrame(rows)


def comparison_sentences(table: pd.DataFrame, finding: str | None = None) -> str:
    """Whether your model is ahead in a table of `compare_scores`, in words.

    >>> grey = brightness(table, list(scores.values))
    >>> print(comparison_sentences(compare_scores({"words": scores, "grey": grey})))
    words is ahead of grey by ... (... patients)

    They are the sentences of `rw.stats.compare_auroc`.

    Args:
        table: of `compare_scores`.
        finding: of one; None takes the last, which is the mean where there are several.
    """
    finding = finding or table["finding"].iloc[-1]
    rows = table[table["finding"] == finding]
    return "; ".join(sentence for sentence in rows["sentence"] if sentence)


def _embedded(towers, table):
    """(N, E) of each tower; of one shape, they want the same squares, read once."""
    from radwb import models

    squares = data.images(table, towers[0].size, fit=towers[0].fit)
    return [models.embed(tower, squares) for tower in towers]


def _auroc_row(of_seeds, findings):
    row = _auroc(of_seeds, findings)
    aurocs = [_auroc([scores], findings)["auroc"] for scores in of_seeds]
    return row | {"seed_low": min(aurocs), "seed_high": max(aurocs)}


def _difference_row(pair, findings, family):
    """What the first of two names' Scores have over the second's, in columns."""
    first, second = pair.values()
    times = max(len(first), len(second))
    enough = _with_interval(second[0], findings)
    truth, values, patients = _columns(second, enough, times)
    _, reference, _ = _columns(first, enough, times)
    about = {"names": tuple(pair), "family": family}
    compared = compare_auroc(truth, reference, values, patients, **about)
    return {
        "difference": compared.difference,
        "difference_low": compared.low,
        "difference_high": compared.high,
        "verdict": compared.verdict,
        "sentence": str(compared),
    }


def _auroc(of_seeds, findings):
    """The AUROC of one finding, or a mean; counts and notes are the first seed's."""
    truth, values, patients = _columns(of_seeds, findings, 1)
    if len(findings) == 1:
        first = clustered_auroc(truth.iloc[:, 0], values.iloc[:, 0], patients)
    else:
        first = mean_clustered_auroc(truth, values, patients)
        first.pop("findings")
    if len(of_seeds) == 1:
        return first
    columns = _columns(of_seeds, findings, len(of_seeds))
    over_seeds = mean_clustered_auroc(*columns)
    if first["note"] and np.isnan(over_seeds["auroc"]):
        return first
    return first | {key: over_seeds[key] for key in ("auroc", "low", "high")}


def _with_interval(scores, findings):
    """The findings of enough patients for one, all where none is."""
    table = scores.auroc()
    named = set(table["finding"][table["low"].notna()])
    return [finding for finding in findings if finding in named] or findings


def _columns(of_seeds, findings, times):
    """Truth and values (N, K * times) of as many seeds, and patients (N,).

    Where there are fewer seeds the last one comes again.
    """
    truth = {}
    values = {}
    for seed in range(times):
        scores = of_seeds[min(seed, len(of_seeds) - 1)]
        for finding in findings:
            column = finding if times == 1 else f"{finding}, seed {seed}"
            truth[column] = scores.truth[finding]
            values[column] = scores.values[finding]
    return pd.DataFrame(truth), pd.DataFrame(values), of_seeds[0].patient_id


def _listed(of_seeds):
    return list(of_seeds) if isinstance(of_seeds, list | tuple) else [of_seeds]
