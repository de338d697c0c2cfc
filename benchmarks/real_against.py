"""One model beside another on real films: what the second gained, paired by patient.

python benchmarks/real_against.py MODEL BEFORE [--half tune|report] [--out FILE.csv]

asks what `real_films.py` asks, of both at once. Each difference is of the same films;
its interval is 95 % by patient, uncorrected: one question a row, and all are shown.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from real_films import SETS
from real_halves import HALVES, MEANS, PROBES, WORDS, films_of
from real_maps import (
    drawn_films,
    graded_films,
    judged_by_lesion,
    judged_by_zone,
    maps_of,
    short,
)
from real_scores import LEAST, tidy

import radwb as rw

METHOD = "relevance"


def against(model: rw.models.Model, before: rw.models.Model, half: str) -> pd.DataFrame:
    """Rows as `real_films.measure` has them, with who "model", "before", and "model
    minus before".
    """
    both = {"model": model, "before": before}
    rows = []
    for name in SETS:
        table = films_of(name, half)
        vectors = {who: rw.models.embed(each, table) for who, each in both.items()}
        rows += in_words(both, vectors, table, name)
        rows += in_probes(vectors, table, name)
    rows += in_maps(both, drawn_films(half), judged_by_lesion, "covid-masks")
    rows += in_maps(both, graded_films(half), judged_by_zone, "covid-text")
    return pd.DataFrame(rows).assign(half=half)


def in_words(both, vectors, table, name):
    findings = list(WORDS.get(name, ()))
    if not findings:
        return []
    rows = []
    for pool in ("pair", "any"):
        scores = {
            who: rw.probe.zero_shot(
                model, table, findings, pool=pool, embeddings=vectors[who]
            )
            for who, model in both.items()
        }
        rows += tidy(scores, table, name, f"words, {pool}", MEANS.get(name, {}))
    return rows


def in_probes(vectors, table, name):
    asked = [finding for finding in PROBES.get(name, ()) if finding in table]
    findings, _ = rw.probe.enough_patients(table, asked, least=LEAST)
    if not findings:
        return []
    scores = rw.probe.baselines(vectors, table, label=findings)
    return tidy(scores, table, name, "probe", MEANS.get(name, {}))


def in_maps(both, films, judge, name):
    """Rows of each score of a map, and of the difference a film."""
    scans, patients = list(films["scan"]), films["patient_id"].to_numpy()
    maps = {who: maps_of(each, scans, METHOD) for who, each in both.items()}
    points = {who: judge(films, its_maps) for who, its_maps in maps.items()}
    about = {"set": name, "finding": "Lung Opacity", "patients": len(set(patients))}
    rows = []
    for score in points["model"]:
        measure = {"measure": f"maps, {score}"}
        for who, of_model in points.items():
            mean = rw.stats.clustered_mean(of_model[score], patients)
            ends = {"value": mean["mean"], "low": mean["low"], "high": mean["high"]}
            rows.append(about | measure | {"who": who} | ends)
        values = [points[who][score].to_numpy() for who in ("model", "before")]
        names = ("model", "before")
        gap = rw.stats.compare(*values, patients, names=names, what=short(score))
        ends = {"value": gap.difference, "low": gap.low, "high": gap.high}
        rows.append(about | measure | {"who": "model minus before"} | ends)
    return rows


def printed(rows: pd.DataFrame) -> None:
    """A line a question: both values, the difference and its interval."""
    key = ["set", "measure", "finding"]
    for (name, measure, finding), part in rows.groupby(key, sort=False):
        values = part.set_index("who")
        if "model minus before" not in values.index:
            continue
        ours, theirs = values["value"][["model", "before"]]
        gap = rw.stats.format_interval(values.loc["model minus before"], "value")
        count = values["positive_patients"].get("model", np.nan)
        print(f"{name:12} {measure:22} {finding:26} {ours:.3f} {theirs:.3f} ", end="")
        print(f"{gap}  {count:.0f} with it")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("before")
    parser.add_argument("--half", choices=HALVES, default="tune")
    parser.add_argument("--out", type=Path, help="the same rows, to ship")
    asked = parser.parse_args()
    models = [rw.models.load(name) for name in (asked.model, asked.before)]
    rows = against(*models, asked.half)
    printed(rows)
    if asked.out:
        rows.to_csv(asked.out, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
