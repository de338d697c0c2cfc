"""In words and to a linear probe: a model on one half of a real set, and its controls.

Rows are tidy: set, half, measure, finding, who, value, low, high, positive_patients,
patients, averaged, note. A row whose who is "model minus X" is a paired difference.
"""

from functools import partial

import numpy as np
from real_halves import MEANS, PROBES, SIMULATED, WORDS, view_of
from real_kept import digest, films_digest, kept

import radwb as rw
from radwb.probe.baselines import untrained

LEAST = 10  # patients with a finding, and without: with fewer it is listed, no more
WAYS = ("pair", "any", "wide")  # wide: in pairs, as real reports speak
SEEDS = (0, 1, 2, 3, 4)
SIZES = (16, 32)
# whom a probe of the model's vectors is compared with; brightness and view stand beside
RIVALS = ("pixels 16", "pixels 32", "untrained, mean of 5")


def words(model, table, name, Z, folder) -> list[dict]:
    """What phrases say of these films, beside brightness, view, the other findings."""
    findings = list(WORDS.get(name, ()))
    if not findings:
        return []
    grey = brightness_of(table, findings, model.fit, folder)
    view = view_of(table).repeat(len(findings), axis=1)
    rows = []
    for way in WAYS:
        asked = {"pool": way, "embeddings": Z}
        if way == "wide":
            wide = rw.probe.Prompts.wide(findings)
            asked |= {"pool": "pair", "prompts": wide}
        model_scores = rw.probe.zero_shot(model, table, findings, **asked)
        scores = {"model": model_scores, "brightness": grey}
        scores["view"] = rw.probe.Scores.of(view, table, findings)
        if name in MEANS:
            scores["count of others"] = rw.probe.finding_count_control(model_scores)
        means = {SIMULATED: MEANS[name][SIMULATED]} if name in MEANS else {}
        rows += tidy(scores, table, name, f"words, {way}", means)
    return rows


def brightness_of(table, findings, fit, folder):
    def make():
        return {"grey": rw.probe.raw_pixels(table, 64, fit=fit).mean(axis=1)}

    films = films_digest(table, [])
    grey = kept(folder, f"brightness-{digest(films, fit)}", make)["grey"]
    values = grey[:, None].repeat(len(findings), axis=1)
    return rw.probe.Scores.of(values, table, findings)


def probes(model, table, name, Z, folder, *, towers=True) -> list[dict]:
    """Linear probes of the model's vectors, of pixels, and of untrained towers.

    Folds by patient, the penalty chosen among the patients of a fold's training part.
    """
    asked = [finding for finding in PROBES.get(name, ()) if finding in table]
    findings, _ = rw.probe.enough_patients(table, asked, least=LEAST)
    rows = []
    if findings:
        scores = rw.probe.baselines({"model": Z}, table, label=findings)
        rivals = rival_probes(model, table, findings, folder, towers=towers)
        compared = scores | {who: rivals[who] for who in RIVALS if who in rivals}
        beside = {who: rivals[who] for who in ("brightness", "view")}
        means = MEANS.get(name, {})
        rows += tidy(compared, table, name, "probe", means)
        rows += tidy(beside, table, name, "probe", means, compare=False)
    rare = [finding for finding in asked if finding not in findings]
    return rows + [listed(table, name, "probe", finding) for finding in rare]


def rival_probes(model, table, findings, folder, *, towers=True) -> dict[str, list]:
    """Scores of every probe that needs no training, computed once and kept."""
    films = films_digest(table, findings)
    same_input = digest(films, model.fit)
    seen_as = [tone for tone in [getattr(model, "tone", "plain")] if tone != "plain"]
    same_tower = digest(same_input, model.spec.get("shape"), model.size, *seen_as)
    parts = {f"probes-{same_input}": partial(pixel_features, model, table)}
    if towers:
        parts[f"untrained-{same_tower}"] = partial(tower_features, model, table)
    rivals = {}
    for name, features in parts.items():
        make = partial(probed, features, table, findings)
        for key, values in kept(folder, name, make).items():
            who = key.split("|")[0]
            scores = rw.probe.Scores.of(values, table, findings)
            rivals.setdefault(who, []).append(scores)
    return rivals


def pixel_features(model, table) -> dict[str, list[np.ndarray]]:
    """Pixels, their mean and the view, as something to probe."""
    grey = rw.probe.raw_pixels(table, 64, fit=model.fit)
    features = {
        "brightness": [grey.mean(axis=1, keepdims=True)],
        "view": [view_of(table)],
    }
    for size in SIZES:
        pixels = rw.probe.raw_pixels(table, size, fit=model.fit)
        features[f"pixels {size}"] = [pixels]
    return features


def tower_features(model, table) -> dict[str, list[np.ndarray]]:
    """The vectors of five towers of the model's shape that learnt nothing."""
    squares = rw.data.images(table, model.size, fit=model.fit)
    towers = untrained(model, SEEDS)
    embeddings = [rw.models.embed(tower, squares) for tower in towers]
    return {"untrained, mean of 5": embeddings}


def probed(features, table, findings) -> dict[str, np.ndarray]:
    """The scores (N, K) of a probe of each, to be kept: name|seed -> array."""
    arrays = {}
    probes = rw.probe.baselines(features(), table, label=findings)
    for who, of_seeds in probes.items():
        for seed, scores in enumerate(of_seeds):
            arrays[f"{who}|{seed}"] = scores.values.to_numpy()
    return arrays


def tidy(scores, table, name, measure, means, *, compare=True) -> list[dict]:
    """Rows of each finding and of each mean, with the first's paired differences.

    Differences are corrected for the number of others that it is compared with.
    """
    first = listed_scores(next(iter(scores.values())))[0]
    findings = list(first.values)
    enough, _ = rw.probe.enough_patients(table, findings, least=LEAST)
    about = {"set": name, "measure": measure}
    rows = []
    for finding in findings:
        some = rows_of(scores, [finding], compare)
        rows += [row | about | {"averaged": finding in enough} for row in some]
    for mean, members in means.items():
        members = [finding for finding in members if finding in enough]
        if members:
            note = {"finding": mean, "averaged": False, "note": ", ".join(members)}
            some = rows_of(scores, members, compare)
            rows += [row | about | note for row in some]
    return rows


def rows_of(scores, findings, compare):
    """One row a name, of one finding or of the mean of several, and differences."""
    chosen = {who: chosen_findings(each, findings) for who, each in scores.items()}
    compared = rw.probe.compare_scores(chosen)
    if len(findings) > 1:
        compared = compared.tail(len(scores))  # the mean's rows are the last
    reference = next(iter(scores))
    rows = []
    for row in compared.to_dict("records"):
        counts = {key: row[key] for key in ("positive_patients", "patients", "note")}
        counts["finding"] = row["finding"]
        value = {"who": row["scored"], "value": row["auroc"]}
        rows.append(value | {"low": row["low"], "high": row["high"]} | counts)
        if compare and row["scored"] != reference:
            gap = {"who": f"{reference} minus {row['scored']}"}
            gap["value"] = row["difference"]
            gap |= {end: row[f"difference_{end}"] for end in ("low", "high")}
            rows.append(gap | counts)
    return rows


def chosen_findings(scores, findings):
    """Some columns of Scores, or of each in a list of them."""
    chosen = []
    for each in listed_scores(scores):
        some = each.values[findings], each.truth[findings]
        chosen.append(rw.probe.Scores(*some, each.patient_id))
    return chosen


def listed_scores(scores):
    return scores if isinstance(scores, list) else [scores]


def listed(table, name, measure, finding) -> dict:
    """The row of a finding that too few patients have: its number, and no value."""
    labels = table[finding]
    return {
        "set": name,
        "measure": measure,
        "finding": finding,
        "who": "model",
        "value": np.nan,
        "low": np.nan,
        "high": np.nan,
        "positive_patients": table["patient_id"][labels == 1].nunique(),
        "patients": table["patient_id"][labels.isin((0, 1))].nunique(),
        "averaged": False,
        "note": f"fewer than {LEAST} patients",
    }
