"""Slices found where none was planted: are they there in other patients, too?

python benchmarks/slices_again.py

Each head of `slices.py` learns pneumothorax from the default cohort, and slices are
looked for among its other patients. Whatever is found is asked for again in a cohort
that neither the head nor the slices have met: a film belongs to a slice by its
embedding and its label. A slice that is ahead there is a weakness, and none that chance
found.
"""

from inspect import signature

import numpy as np
from sklearn.decomposition import PCA
from slices import SEEDS, has_tube, head_scores, of_others, training_films

import radwb as rw
from radwb.fail.slices.confirm import ERRORS, answers, errs_more
from radwb.fail.slices.mixture import fit_mixture

FINDING = "Pneumothorax"
FRESH_SEED = 7
# by which its mixture can be made again
ARGUMENTS = signature(rw.fail.find_slices).parameters
DEFAULTS = {name: argument.default for name, argument in ARGUMENTS.items()}


def main():
    model = rw.models.load("radwb-tiny")
    table = rw.simulate.cohort(n=2400, seed=0)
    fresh = rw.simulate.cohort(n=2400, seed=FRESH_SEED)
    Z = rw.models.embed(model, table)
    Z_fresh = rw.models.embed(model, fresh)
    verdicts = []
    for seed in SEEDS:
        for words, verdict in seen_again(table, Z, fresh, Z_fresh, seed):
            print(seed, words)
            verdicts.append((seed, verdict))
    again = sum(verdict == "ahead" for _, verdict in verdicts)
    seeds = len({seed for seed, _ in verdicts})
    print(
        f"{seeds} of {len(SEEDS)} heads have a slice; of {len(verdicts)} slices {again}"
    )
    print(f"are ahead in {fresh['patient_id'].nunique()} patients of seed {FRESH_SEED}")


def seen_again(table, Z, fresh, Z_fresh, seed):
    """What each slice that was found is like in fresh patients."""
    training = training_films(table, np.random.default_rng(seed))
    y = table[FINDING].to_numpy(int)
    both = np.concatenate([Z, Z_fresh])
    labels = np.concatenate([y, fresh[FINDING].to_numpy(int)])
    learnt = np.concatenate([training, np.zeros(len(fresh), bool)])
    s = head_scores(both, labels, learnt)
    scores, Z_rest, rows = of_others(table, Z, s[: len(table)], training, FINDING)
    slices = rw.fail.find_slices(scores, Z_rest, rows, seed=seed)
    number_of = same_slices(scores, Z_rest, Z_fresh, labels[len(table) :], seed)
    wrong = (s[len(table) :] >= slices.threshold) != (labels[len(table) :] == 1)
    tubes = fresh["planted"].map(has_tube).to_numpy()
    patients = fresh["patient_id"].to_numpy()
    label_of = {error: label for label, error in ERRORS.items()}
    for _, row in slices.table[slices.table["found"]].iterrows():
        alike = labels[len(table) :] == label_of[row["error"]]
        inside = number_of[alike] == int(row["slice"].split()[-1])
        gap = errs_more(wrong[alike], inside, patients[alike])
        with_tube = f"tubes {tubes[alike][inside].mean():.2f} in it, "
        with_tube += f"{tubes[alike][~inside].mean():.2f} beside it"
        yield f"{row['slice']}, {row['error']}: {gap}; {with_tube}", gap.verdict


def same_slices(scores, Z, Z_fresh, y_fresh, seed):
    """(N,) the slice that each fresh film belongs to."""
    s = scores.values[FINDING].to_numpy()
    answered = answers(scores.truth[FINDING], s, scores.patient_id, seed=seed)
    looking = Z[answered.rows][answered.looking].astype(float)
    components = min(DEFAULTS["components"], *looking.shape)
    pca = PCA(components, svd_solver="full").fit(looking)
    one = answered.half(True)
    how = {name: DEFAULTS[name] for name in ("k", "label_weight", "answer_weight")}
    mixture = fit_mixture(pca.transform(looking), one.y, one.p, seed=seed, **how)
    joint = mixture.log_joint(pca.transform(Z_fresh.astype(float)), y_fresh)
    return joint.argmax(axis=1)


if __name__ == "__main__":
    main()
