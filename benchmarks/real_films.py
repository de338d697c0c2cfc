"""What a model is worth on real films: the fixed protocol, in halves of patients.

python benchmarks/real_films.py [MODEL] [--half tune|report|both] [--out FILE.json]
                                [--films TABLE]

prints AUROCs, maps' scores and paired differences with 95 % intervals by patient, and
writes them as JSON. MODEL is a name that `rw.models.load` knows ("radwb-tiny") or a
run's folder; --films is a table of virtual films, whose likeness to real ones is then
measured, too.

The sets are those that RADWB_MIRROR names: NIH ChestX-ray14 at 64 px (mined labels),
Kermany's children and 16 more of them, Hannover, and the Cohen collection's films with
Brixia grades (covid-text) and with drawn opacities (covid-masks). Who is in which half
stands in `real_halves`, what is asked of whom in `real_halves.WORDS` and `PROBES`, the
controls in `real_scores` and `real_maps`. Everything is chosen on "tune"; "report" is
read once, at the end. Findings of fewer than ten patients with or without are listed
with their number and are in no mean.

What needs no model is computed once and kept in a folder (`cache`, by default
real_baselines in radwb's cache): carry it along, and a model takes seconds.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from real_halves import (
    HALVES,
    PLANTED,
    SIMULATED,
    UNLABELLED,
    films_of,
    in_half,
    unlabelled,
)
from real_maps import maps
from real_scores import probes, words

import radwb as rw
from radwb.data.fetch import cache_folder

__all__ = ["headline", "measure", "realism", "unlabelled"]

COLUMNS = [
    "model",
    "seed",
    "set",
    "half",
    "measure",
    "finding",
    "who",
    "value",
    "low",
    "high",
    "positive_patients",
    "patients",
    "averaged",
    "note",
]
SETS = ("nih-64", "kermany", "hannover", "covid-text", "kermany-16")
NIH = ("nih-64", SIMULATED)
CHILDREN = ("kermany", "Pneumonia")
ICU = ("hannover", "ICU")
GRADED = ("covid-text", "Lung Opacity")
DRAWN = ("covid-masks", "Lung Opacity")
# key -> (set, finding), measure, who: what `headline` reads
HEADLINE = {
    "nih_words": (NIH, "words, pair", "model"),
    "kermany_words": (CHILDREN, "words, pair", "model"),
    "covid_words": (GRADED, "words, pair", "model"),
    "nih_probe": (NIH, "probe", "model"),
    "nih_over_pixels": (NIH, "probe", "model minus pixels 16"),
    "nih_over_pixels_32": (NIH, "probe", "model minus pixels 32"),
    "kermany_probe": (CHILDREN, "probe", "model"),
    "kermany_over_pixels": (CHILDREN, "probe", "model minus pixels 16"),
    "kermany_over_pixels_32": (CHILDREN, "probe", "model minus pixels 32"),
    "hannover_over_pixels": (ICU, "probe", "model minus pixels 16"),
    "covid_over_pixels": (GRADED, "probe", "model minus pixels 16"),
    "energy": (DRAWN, "maps, energy", "relevance"),
    "energy_over_lungs": (DRAWN, "maps, energy", "relevance minus lungs"),
    "auprc": (DRAWN, "maps, auprc", "relevance"),
    "auprc_over_lungs": (DRAWN, "maps, auprc", "relevance minus lungs"),
    "zones": (GRADED, "maps, rank of means", "relevance"),
}
TO_CHOOSE = 5  # patients with a finding, where a model is chosen and nothing reported
# differences that stand in the file alone
NOT_PRINTED = [f"minus {who}" for who in ("random", "edges", "darkness", "centre")]
# `choice` is the mean of the means of these three groups
CHOSEN_BY = {
    "words": ("nih_words_of_5", "kermany_words"),
    "probes": ("nih_probe", "kermany_probe"),
    "maps": ("energy", "auprc"),
}


def measure(
    model: "rw.models.Model | str",
    half: str,
    *,
    seed: int | None = None,
    cache: str | Path | None = None,
    towers: bool = True,
) -> pd.DataFrame:
    """The protocol's rows for one model on one half of the patients.

    Args:
        model: a Model that reads text, of radwb's own, or a name or folder of one.
        half: "tune" or "report".
        seed: of the model's training, written into each row.
        cache: folder for what needs no model; None takes real_baselines in radwb's.
        towers: False leaves the untrained towers out, which a new shape takes a minute
            for; the headline doesn't need them.
    Returns:
        model, seed, set, half, measure ("words, pair", "words, any", "words, wide",
        "probe", "maps, energy", "maps, auprc", "maps, rank of means", "maps, rank of
        energies"), finding (or a mean's name), who ("model", a control, or "A minus B":
        a paired difference), value, low, high (95 % by patient, corrected as
        `real_scores` and `real_maps` say), positive_patients, patients, averaged (of
        ten patients or more, so in the means), note. A set that isn't there has one
        row, whose note says so.
    """
    if isinstance(model, str | Path):
        model = rw.models.load(str(model))
    folder = Path(cache or cache_folder() / "real_baselines")
    rows = []
    for name in SETS:
        rows += in_turn(name, partial(scored, model, name, half, folder, towers))
    rows += in_turn("covid-masks", partial(maps, model, half, folder))
    table = pd.DataFrame(rows).assign(model=model.name, seed=seed, half=half)
    return table.reindex(columns=COLUMNS)


def in_turn(name, ask) -> list[dict]:
    """The rows of one set; where it is in no mirror, one row that says so."""
    try:
        return ask()
    except rw.data.FetchError as error:
        return [{"set": name, "measure": "missing", "note": str(error)[:200]}]


def scored(model, name, half, folder, towers) -> list[dict]:
    """Words and probes on one half of a set."""
    table = films_of(name, half)
    Z = rw.models.embed(model, table)
    asked = (model, table, name, Z, folder)
    return words(*asked) + probes(*asked, towers=towers)


def headline(rows: pd.DataFrame) -> dict[str, float]:
    """The few numbers to choose by, of `measure(model, "tune")`; decided beforehand.

    The goals of the work are three: zero-shot AUROC in pairs on NIH (mean of the
    simulator's findings that ten patients have); frozen features ahead of raw pixels;
    maps that find a drawn opacity better than the lungs' mask does. So the numbers are
    (`HEADLINE` says from which rows): nih_words, kermany_words, covid_words, and
    nih_words_of_5, whose mean takes findings of five patients, too, for less noise in
    choosing; nih_probe and kermany_probe with their differences to 16 x 16 and 32 x 32
    pixels, hannover_over_pixels, covid_over_pixels; energy and auprc of relevance on
    drawn opacities with their differences to the lungs' mask; zones, the rank
    correlation within a film.

    Of several models the one with the highest `choice` is taken: the mean of three
    means, of nih_words_of_5 and kermany_words, of nih_probe and kermany_probe, of
    energy and auprc. NaN where a set is missing.
    """
    index = ["set", "finding", "measure", "who"]
    values = rows.drop_duplicates(index).set_index(index)["value"]
    numbers = {}
    for key, ((name, finding), measure, who) in HEADLINE.items():
        numbers[key] = float(values.get((name, finding, measure, who), np.nan))
    numbers["nih_words_of_5"] = words_of_five(rows)
    groups = [np.mean([numbers[key] for key in keys]) for keys in CHOSEN_BY.values()]
    return numbers | {"choice": float(np.mean(groups))}


def words_of_five(rows) -> float:
    """Mean AUROC in pairs over the simulator's findings that five NIH patients have."""
    asked = rows["set"].eq("nih-64") & rows["measure"].eq("words, pair")
    asked &= rows["who"].eq("model") & rows["finding"].isin(PLANTED)
    asked &= rows["positive_patients"] >= TO_CHOOSE
    return float(rows["value"][asked].mean())


def realism(
    table: pd.DataFrame, half: str = "tune", *, n_boot: int = 50
) -> dict[str, dict[str, float]]:
    """How easily virtual films are told from each real set, and how alike they are.

    Args:
        table: virtual films, a few hundred: path and patient_id.
        half: of the real films.
        n_boot: resamples of the patients.
    Returns:
        set -> {look, pixels, equalised: AUROC of virtual against real from grey values
        and spectrum, from small pixels, from these with grey values equalised (0.5: it
        can't tell), with _low and _high; nearest_virtual, nearest_real: correlation
        with the likest film of another patient, as many patients a side; and their
        difference, nearest_gap with _low and _high}. At 64 px, which all sets have.
    """
    found = {}
    for name in (*UNLABELLED, "covid-text"):
        real = in_half(rw.data.real(name), half)
        real = real[real["view"] != "LATERAL"].reset_index(drop=True)
        gaps = rw.simulate.realism(table, real, size=64, n_boot=n_boot)
        found[name] = likeness(gaps.summary.set_index("measure"))
    return found


def likeness(summary) -> dict[str, float]:
    named = {
        "look": "AUROC, grey values and spectrum",
        "pixels": "AUROC, small pixels",
        "equalised": "AUROC, small pixels, equalised",
        "nearest_gap": "nearest other patient, correlation",
    }
    numbers = {}
    for key, measure in named.items():
        row = summary.loc[measure]
        numbers |= {key: row["gap"], f"{key}_low": row["low"]}
        numbers[f"{key}_high"] = row["high"]
    numbers |= {f"nearest_{side}": row[side] for side in ("virtual", "real")}
    return {key: float(value) for key, value in numbers.items()}


def printed(rows: pd.DataFrame) -> None:
    """All rows, one block a set and measure."""
    minor = rows["who"].str.contains("|".join(NOT_PRINTED), na=False)
    for about, block in rows[~minor].groupby(["set", "half", "measure"]):
        print("\n{}, {}: {}".format(*about))
        says = [rw.stats.format_interval(row, "value") for _, row in block.iterrows()]
        shown = ["finding", "who", "says", "positive_patients", "patients"]
        print(block.assign(says=says)[shown].to_string(index=False))


def as_json(rows: pd.DataFrame) -> list[dict]:
    """Records, null where there is no number."""
    return json.loads(rows.to_json(orient="records"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="radwb-tiny")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="tune")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--cache", type=Path)
    asked = parser.parse_args()
    result = {"model": asked.model, "rows": [], "headline": {}}
    for half in HALVES if asked.half == "both" else (asked.half,):
        rows = measure(asked.model, half, cache=asked.cache)
        printed(rows)
        result["rows"] += as_json(rows)
        result["headline"][half] = headline(rows)
    if asked.films:
        result["realism"] = realism(rw.data.read_table(asked.films))
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
