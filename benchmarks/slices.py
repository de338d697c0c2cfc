"""Are planted slices found, and none where none are? Twenty seeds that nothing chose.

python benchmarks/slices.py

Heads on the embeddings of radwb-tiny learn from four tenths of the patients of one
cohort; slices are looked for among the others. Four plants, whose harm is measured,
since a plant that does none leaves nothing to find: noise on the portable films of one
site; small left effusions that the training labels overlook; small left lesions in the
same way; chest tubes wherever there is a pneumothorax in training, and nowhere else.
Controls: answers dealt to other films of the same label, and answers of nothing but the
label and the patient. `slices_again.py` asks whether what is found without any plant is
there in other patients.
"""

import json

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

import radwb as rw
from radwb.probe import Scores

SEEDS = range(100, 120)
NOISE = 60  # grey levels of 255
MORE = 200  # seeds of the controls


def main():
    table = rw.simulate.cohort(n=2400, seed=0)
    model = rw.models.load("radwb-tiny")
    images = rw.data.images(table, model.size)
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)
    clean_Z = rw.models.embed(model, images)
    noisy_Z = rw.models.embed(model, noisy)
    rows = []
    for kind in PLANTS:
        for seed in SEEDS:
            case, planted, harm = planted_case(kind, table, clean_Z, noisy_Z, seed)
            about = {"kind": kind, "seed": seed, "harm": harm}
            rows.append({**about, **found(case, planted, seed)})
    seeds = pd.DataFrame(rows)
    seeds.to_csv("slices.csv", index=False)
    print(seeds.groupby("kind", sort=False).mean(numeric_only=True).round(3))
    hits = seeds.assign(hit=seeds["best_found"] >= 0.8).groupby("kind")["hit"]
    print(hits.agg(["sum", "size"]))
    for control in (dealt, by_chance):
        for n in (len(SEEDS), MORE):
            print(control.__name__, n, *false_discoveries(control, table, clean_Z, n))


def noise(table, finding, y, rng):
    site = rng.choice(["A", "B", "C"])
    planted = ((table["site"] == site) & (table["view"] == "AP")).to_numpy()
    return planted, y, ~planted


def small_left(table, finding, y, rng):
    severity = table[f"{finding} severity"]
    small = severity < severity[y == 1].quantile(0.4)
    left = table[f"{finding} side"] == "left"
    planted = (small & left).to_numpy() & (y == 1)
    return planted, np.where(planted, 0, y), np.ones(len(y), bool)


def drain(table, finding, y, rng):
    tube = table["planted"].map(has_tube).to_numpy()
    tied = tube == (y == 1)
    return ~tied, y, tied


def has_tube(planted):
    return any(one["kind"] == "chest tube" for one in json.loads(planted))


PLANTS = {
    "noise": (noise, "Pneumothorax"),
    "small left effusion": (small_left, "Pleural Effusion"),
    "small left lesion": (small_left, "Lung Lesion"),
    "drain": (drain, "Pneumothorax"),
}


def planted_case(kind, table, clean_Z, noisy_Z, seed):
    """(scores, embeddings, rows), planted, harm: of the films that are looked through.

    The harm says whether there is a slice to find: how much more wrong a head became
    through the plant on the planted films than on others of the same label.
    """
    plant, finding = PLANTS[kind]
    rng = np.random.default_rng(seed)
    training = training_films(table, rng)
    y = table[finding].to_numpy(int)
    planted, labels, usable = plant(table, finding, y, rng)
    Z = np.where(planted[:, None], noisy_Z, clean_Z) if kind == "noise" else clean_Z
    s = head_scores(Z, labels, training & usable)
    without = head_scores(clean_Z, y, training)
    change = pd.Series(wrong(s, y) - wrong(without, y))[~training]
    planted, y = planted[~training], y[~training]
    others = change[~planted].groupby(y[~planted]).mean()
    harm = (change[planted] - others.loc[y[planted]].to_numpy()).mean()
    return of_others(table, Z, s, training, finding), planted, harm


def wrong(s, y):
    """How far each probability is from the truth."""
    return np.abs(y - expit(s))


def training_films(table, rng, share=0.4):
    patients = rng.permutation(table["patient_id"].unique())
    return table["patient_id"].isin(patients[: int(share * len(patients))]).to_numpy()


def head_scores(Z, labels, training):
    middle = Z[training].mean(axis=0)
    head = LogisticRegression(C=10, max_iter=500)
    head.fit(Z[training] - middle, labels[training])
    return head.decision_function(Z - middle)


def of_others(table, Z, s, training, finding):
    rows = table[~training].reset_index(drop=True)
    return Scores.of(s[~training][:, None], rows, [finding]), Z[~training], rows


def found(case, planted, seed):
    """How many slices are found, and precision at 10 against the plant."""
    slices = rw.fail.find_slices(*case, seed=seed)
    number = int(slices.table["found"].sum())
    precision = [planted[films[:10]].sum() / 10 for films in slices.films]
    return {
        "found": number,
        "best_found": max(precision[:number], default=0.0),
        "first_found": precision[0] if number else 0.0,
        "best_candidate": max(precision, default=0.0),
    }


def clean_case(table, Z, seed):
    rng = np.random.default_rng(seed)
    training = training_films(table, rng)
    y = table["Pneumothorax"].to_numpy(int)
    s = head_scores(Z, y, training)
    return of_others(table, Z, s, training, "Pneumothorax")


def dealt(case, seed):
    """Each score goes to another film of the same label."""
    scores, _, rows = case
    rng = np.random.default_rng(seed)
    s = scores.values["Pneumothorax"].to_numpy().copy()
    for label in (0, 1):
        alike = (rows["Pneumothorax"] == label).to_numpy()
        s[alike] = rng.permutation(s[alike])
    return Scores.of(s[:, None], rows, ["Pneumothorax"])


def by_chance(case, seed):
    """Scores of the label, the patient and chance alone."""
    _, _, rows = case
    rng = np.random.default_rng(seed)
    patient, names = pd.factorize(rows["patient_id"])
    s = 2.6 * rows["Pneumothorax"] + rng.normal(size=len(rows))
    s = s + rng.normal(size=len(names))[patient]
    return Scores.of(s.to_numpy()[:, None], rows, ["Pneumothorax"])


def false_discoveries(control, table, Z, n):
    """Cohorts with a found slice, of how many: by embeddings, then by the table."""
    counts = [0, 0]
    for seed in range(100, 100 + n):
        case = clean_case(table, Z, seed)
        scores = control(case, seed)
        by_look = rw.fail.find_slices(scores, *case[1:], seed=seed)
        by_table = rw.fail.metadata_slices(scores, case[2], seed=seed)
        counts[0] += bool(by_look.table["found"].any())
        counts[1] += bool(by_table.table["found"].any())
    return tuple(counts)


if __name__ == "__main__":
    main()
