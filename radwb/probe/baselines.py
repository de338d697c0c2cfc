"""What a number on films is worth: raw pixels, brightness and untrained towers beside
it, paired by patient.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from radwb import data
from radwb.probe.crossed import cross_probe
from radwb.probe.linear import linear_probe
from radwb.probe.prompts import embeddings_of
from radwb.probe.scores import Scores
from radwb.stats import clustered_auroc, compare_auroc
from radwb.stats.clustered import mean_clustered_auroc

SIZES = (16, 32)
SEEDS = (0, 1, 2)


def raw_pixels(table, size=16, *, fit="pad") -> np.ndarray:
    """Every film as a handful of grey values: what a probe finds there, no model had to
    learn.

    >>> linear_probe(raw_pixels(table, 16), table, label="Pneumonia").auroc()

    Args:
        table: needs `path`.
        size: side of the shrunken film, px.
        fit: as in `rw.data.images`.
    Returns:
        (N, size * size) float32 in [0, 1].
    """
    grey = data.images(table, size, fit=fit)  # (N, size, size)
    return grey.reshape(len(grey), -1).astype(np.float32) / 255


def brightness(table, findings, *, size=64, fit="pad") -> Scores:
    """The mean grey value as the score of every finding: the brighter, the more likely.

    >>> brightness(table, ["Pneumonia"]).auroc()

    Args:
        table: needs `path` and a column a finding.
        findings: that it's asked for.
        size: side of the square that is averaged, px.
        fit: as in `rw.data.images`.
    """
    mean = raw_pixels(table, size, fit=fit).mean(axis=1, keepdims=True)  # (N, 1)
    return Scores.of(mean.repeat(len(findings), axis=1), table, findings)


def untrained(model, seeds: Sequence[int] = SEEDS) -> list:
    """The model's own architecture with random weights, once a seed: what the shape
    alone can do.

    >>> [twin.name for twin in untrained(model)]
    ['radwb-tiny, untrained 0', 'radwb-tiny, untrained 1', 'radwb-tiny, untrained 2']

    Args:
        model: a Model of radwb's own ("clip-tiny" or "supervised-tiny").
        seeds: of the weights.
    Raises:
        ValueError: another library's model, which only that library can draw anew.
    """
    from radwb import models

    builder = model.spec.get("builder")
    shape = model.spec.get("shape")
    names = [f"{model.name}, untrained {seed}" for seed in seeds]
    named = list(zip(names, seeds, strict=True))
    if builder == "clip-tiny":
        return [
            models.clip_tiny(model.tokenizer, seed=seed, shape=shape, name=name)
            for name, seed in named
        ]
    if builder == "supervised-tiny":
        heads = model.findings or []
        return [
            models.supervised_tiny(heads, seed=seed, shape=shape, name=name)
            for name, seed in named
        ]
    raise ValueError(
        f"expected a model that radwb builds itself, got {model.name!r} of {builder!r}."
        " Try features={'untrained tower': [embeddings of a random one, ...]}"
    )


def representations(model, table, *, sizes=SIZES, seeds=SEEDS, embeddings=None):
    """A table of films as the model sees it, as its untrained twins do, and as raw
    pixels.

    >>> list(representations(model, table))
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


def baselines(features: Mapping, table, *, label, C=None) -> dict[str, list[Scores]]:
    """One linear probe a representation, all fitted on the same patients and asked of
    the same others.

    >>> probes = baselines(representations(model, films), films, label="Pneumonia")
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
    return {
        name: [probe(Z, table, label=label, C=C) for Z in _listed(each)]
        for name, each in features.items()
    }


def compare_scores(scores: Mapping, reference: str | None = None) -> pd.DataFrame:
    """Scores of the same films beside one another, and what the first of them has over
    each.

    >>> compare_scores({"the model": scores, "16 x 16 pixels": pixels})[["scored", "auroc", "sentence"]]

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
    listed = {name: _listed(each) for name, each in scores.items()}
    reference = reference or next(iter(listed))
    findings = list(listed[reference][0].values)
    family = (len(listed) - 1) * len(findings)
    rows = []
    for finding in findings:
        for name in listed:
            rows.append(_row(listed, name, reference, [finding], finding, family))
    if len(findings) > 1:
        mean = listed[reference][0].mean_auroc().finding[0]
        for name in listed:
            rows.append(_row(listed, name, reference, findings, mean, len(listed) - 1))
    return pd.DataFrame(rows)


def comparison_sentences(table: pd.DataFrame, finding: str | None = None) -> str:
    """What `compare_scores` found, in words.

    >>> comparison_sentences(compare_scores({"the model": scores, "16 x 16 pixels": pixels}))
    'the model is ahead of 16 x 16 pixels by 0.21 (0.13 to 0.30; 71 patients)'

    Args:
        table: of `compare_scores`.
        finding: of one; None takes the last, which is the mean where there are several.
    """
    finding = finding or table["finding"].iloc[-1]
    rows = table[table["finding"] == finding]
    return "; ".join(sentence for sentence in rows["sentence"] if sentence)


def _embedded(towers, table):
    """(N, E) of each tower; the films are read once, since towers of one shape want the
    same squares.
    """
    from radwb import models

    squares = data.images(table, towers[0].size, fit=towers[0].fit)
    return [models.embed(tower, squares) for tower in towers]


def _row(listed, name, reference, findings, called, family):
    own = listed[name]
    seeds = len(own)
    row = {"finding": called, "scored": name, "seeds": seeds}
    row |= _auroc(own, findings)
    of_seeds = [_auroc([one], findings)["auroc"] for one in own]
    row |= {"seed_low": min(of_seeds), "seed_high": max(of_seeds)}
    if name == reference:
        return row | {"difference": np.nan, "verdict": "", "sentence": ""}
    times = max(seeds, len(listed[reference]))
    enough = _with_interval(own[0], findings)
    first = _columns(listed[reference], enough, times)[1]
    truth, values, patients = _columns(own, enough, times)
    names = (reference, name)
    compared = compare_auroc(truth, first, values, patients, names=names, family=family)
    return row | {
        "difference": compared.difference,
        "difference_low": compared.low,
        "difference_high": compared.high,
        "verdict": compared.verdict,
        "sentence": str(compared),
    }


def _auroc(scores, findings):
    """The AUROC of one finding, or a mean, over the seeds; counts and notes are the
    first seed's.
    """
    truth, values, patients = _columns(scores, findings, len(scores))
    if len(truth.columns) == 1:
        return clustered_auroc(truth.iloc[:, 0], values.iloc[:, 0], patients)
    over_seeds = mean_clustered_auroc(truth, values, patients)
    if len(findings) == 1:
        first, label = scores[0], findings[0]
        row = clustered_auroc(first.truth[label], first.values[label], patients)
    else:
        row = mean_clustered_auroc(*_columns(scores, findings, 1))
        row.pop("findings")
    if row["note"] and np.isnan(over_seeds["auroc"]):
        return row
    return row | {key: over_seeds[key] for key in ("auroc", "low", "high")}


def _with_interval(scores, findings):
    """The findings of enough patients for one, all where none is."""
    each = scores.auroc()
    kept = set(each["finding"][each["low"].notna()])
    return [finding for finding in findings if finding in kept] or findings


def _columns(scores, findings, times):
    """truth and values (N, K * times) of as many seeds, the last one again where there
    are fewer; patients (N,).
    """
    truth = {}
    values = {}
    for seed in range(times):
        one = scores[min(seed, len(scores) - 1)]
        for finding in findings:
            column = finding if times == 1 else f"{finding}, seed {seed}"
            truth[column] = one.truth[finding]
            values[column] = one.values[finding]
    return pd.DataFrame(truth), pd.DataFrame(values), scores[0].patient_id


def _listed(each):
    return list(each) if isinstance(each, list | tuple) else [each]
