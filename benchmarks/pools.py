"""Which way to ask in words: chosen on some patients, shown on others.

python benchmarks/pools.py [MODEL]      prints mean AUROCs and their paired difference
to "pair"

Chosen on: validation patients of the notebooks' cohort (seed 0) and one half of the
patients of each real set that RADWB_MIRROR names. Shown on: the other half, which
nothing was chosen on. "any + w pair" is any way of reporting plus w times the pair's
log odds: w = 0.5 is pool "both".

Why "any" fails on some real films, two things are printed for. How the likelihoods of
the phrases for and against correlate over the films without the finding: where the one
rises as the other falls (below 0), either ranks films; where both rise together, a film
is nearer to all sentences, and only their difference says something. And what the
denials alone are worth: where they carry to real films and the statements don't, a pool
without them has nothing.
"""

import sys

import numpy as np
import pandas as pd

import radwb as rw
from radwb.probe.text import logmeanexp

WEIGHTS = (0.25, 0.5, 1.0, 2.0)
SETS = {"nih-64": None, "kermany": ["Pneumonia"]}  # None: what set and simulator name


def findings_in(name, table):
    """The findings that a real set is asked for."""
    return SETS[name] or [f for f in rw.simulate.PLANTED if f in table]


def halves(table):
    """(N,) whether a row's patient is in the half that things are chosen on."""
    patients = np.array(sorted(table["patient_id"].unique()))
    order = np.random.default_rng(0).permutation(len(patients))
    return table["patient_id"].isin(patients[order[: len(patients) // 2]])


def sets():
    """name -> (table, findings)."""
    cohort = rw.simulate.cohort(n=2400, seed=0)
    simulated = cohort[cohort["split"] == "val"]
    found = {"simulator, validation": (simulated, list(rw.simulate.PLANTED))}
    for name in SETS:
        table = rw.data.real(name)
        chosen = halves(table)
        findings = findings_in(name, table)
        found[f"{name}, chosen on"] = (table[chosen], findings)
        found[f"{name}, shown on"] = (table[~chosen], findings)
    return found


def variants(model, table, findings):
    """name -> Scores of each way to ask."""
    Z = rw.models.embed(model, table)
    pools = {
        pool: rw.probe.zero_shot(model, table, findings, pool=pool, embeddings=Z)
        for pool in ("pair", "any")
    }
    odds = pools["pair"].values.clip(1e-12, 1 - 1e-12)
    odds = np.log(odds / (1 - odds))
    for weight in WEIGHTS:
        mixed = pools["any"].values + weight * odds
        name = f"any + {weight:g} pair"
        pools[name] = rw.probe.Scores.of(mixed, table, findings)
    both_sides = [likelihoods(model, Z, finding) for finding in findings]
    ratio = np.stack([yes - no for yes, no in both_sides], axis=1)
    denied = np.stack([-no for _, no in both_sides], axis=1)
    pools["any - any denial"] = rw.probe.Scores.of(ratio, table, findings)
    pools["denials alone"] = rw.probe.Scores.of(denied, table, findings)
    return pools


def likelihoods(model, Z, finding):
    """(N,) log mean likelihood of the phrases for, (N,) of those against."""
    sides = rw.probe.Prompts.spoken([finding]).pair(finding)
    vectors = [rw.probe.text_embeddings(model, phrases) for phrases in sides]
    return [logmeanexp(model.logit_scale * Z @ side.T) for side in vectors]


def moved_together(model, table, findings):
    """Mean correlation of the likelihoods for and against, over the films without."""
    Z = rw.models.embed(model, table)
    together = []
    for finding in findings:
        without = (table[finding] == 0).to_numpy()
        yes, no = likelihoods(model, Z[without], finding)
        together.append(np.corrcoef(yes, no)[0, 1])
    return float(np.mean(together))


def main(name="radwb-tiny"):
    model = rw.models.load(name)
    rows = []
    for films, (table, findings) in sets().items():
        shown = rw.probe.compare_scores(variants(model, table, findings))
        mean = shown[shown["finding"] == shown["finding"].iloc[-1]]
        says = [rw.stats.format_interval(row) for _, row in mean.iterrows()]
        for how, said, sentence in zip(
            mean["scored"], says, mean["sentence"], strict=True
        ):
            rows.append((films, how, said, sentence))
        together = moved_together(model, table, findings)
        print(f"\n{films}: phrases for and against correlate {together:+.2f}")
        each = shown.pivot(index="finding", columns="scored", values="auroc")
        print(each[["pair", "any", "denials alone"]].round(2).to_string())
    columns = ["films", "how", "mean AUROC", "pair against it"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
