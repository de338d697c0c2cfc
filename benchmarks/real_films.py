"""What the released model is worth on real radiographs: in words, and to a linear probe, beside the tower untrained.

python benchmarks/real_films.py [MODEL]     prints AUROCs with 95 % intervals over patients

NIH ChestX-ray14 at 64 px (mined labels) and Kermany's children, development sets that RADWB_MIRROR names and nobody is
sent. The probe is logistic regression on standardised embeddings (C 0.01, classes balanced), five folds by patient that
share out the cases, scores out of fold and counted from the mean of those that it was fitted on: else a fold with few
cases, whose probe was fitted on many, would get the high scores. A finding of fewer than ten patients gets no probe: a
fold needs two.
"""

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import radwb as rw

LEAST = 10  # patients with a finding
SETS = {"nih-64": None, "kermany": ["Pneumonia"]}  # None: what both the set and the simulator name


def probed(Z, table, findings):
    """Scores of a probe that never saw the patient it judges."""
    values = np.zeros((len(table), len(findings)))
    for k, finding in enumerate(findings):
        y, folds = table[finding].astype(int), StratifiedGroupKFold(5, shuffle=True, random_state=0)
        for fit, ask in folds.split(Z, y, groups=table["patient_id"]):
            probe = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced")
            probe = make_pipeline(StandardScaler(), probe).fit(Z[fit], y.iloc[fit])
            values[ask, k] = probe.decision_function(Z[ask]) - probe.decision_function(Z[fit]).mean()
    return rw.probe.Scores.of(values, table, findings)


def said(scores):
    for _, row in [*scores.auroc().iterrows(), *scores.mean_auroc().iterrows()]:
        print(f"  {row['finding']:18s} {rw.probe.stated(row)}")


def main(name="radwb-tiny"):
    model = rw.models.load(name)
    untrained = rw.models.clip_tiny(model.tokenizer, shape=model.spec["shape"])
    for real, findings in SETS.items():
        table = rw.data.real(real)
        findings = findings or [f for f in rw.simulate.PLANTED if f in table]
        print(f"{real}: {len(table)} films, {table['patient_id'].nunique()} patients\n words")
        said(rw.probe.zero_shot(model, table, findings))
        found, ill = {}, table.groupby("patient_id")[findings].max().eq(1).sum()
        print(" no probe, too few patients:", ", ".join(ill.index[ill < LEAST]) or "none")
        findings = list(ill.index[ill >= LEAST])
        for which, tower in (("probe", model), ("probe, untrained", untrained)):
            found[which] = probed(rw.models.embed(tower, table), table, findings)
            print(f" {which}")
            said(found[which])
        more = found["probe"].resamples().mean(axis=1) - found["probe, untrained"].resamples().mean(axis=1)
        value = np.subtract(*(s.mean_auroc().auroc[0] for s in found.values()))
        print(f" trained minus untrained {value:+.3f} ({more.quantile(0.025):+.3f} to {more.quantile(0.975):+.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
