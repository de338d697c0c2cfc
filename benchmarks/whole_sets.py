"""What a model is worth on real radiographs: in words and to a linear probe, each
beside what needs no model.

python benchmarks/whole_sets.py [MODEL]     prints AUROCs with 95 % intervals by
patient, and paired differences

NIH ChestX-ray14 at 64 px (mined labels) and Kermany's children, development sets that
RADWB_MIRROR names and nobody is sent. Words: pairs of phrases, any way of reporting,
both; mean brightness beside them. Probes: logistic regression, five folds by patient,
the penalty chosen among the patients of a fold's training part; beside the model's own
vectors five untrained towers of its shape and raw pixels. A finding of too few patients
is named with its number, not averaged.
"""

import sys

import radwb as rw

SETS = {"nih-64": None, "kermany": ["Pneumonia"]}  # None: what set and simulator name
POOLS = {
    "pair": "asking in pairs",
    "both": "asking both ways",
    "any": "asking any way",
}
SEEDS = (0, 1, 2, 3, 4)
SHOWN = ["finding", "scored", "says", "positive_patients", "patients", "sentence"]


def findings_in(name, table):
    """The findings that a real set is asked for."""
    return SETS[name] or [f for f in rw.simulate.PLANTED if f in table]


def words(model, table, findings, embeddings):
    """What each way to ask in words says of these films, and how bright they are."""
    asked = {
        how: rw.probe.zero_shot(
            model, table, findings, pool=pool, embeddings=embeddings
        )
        for pool, how in POOLS.items()
    }
    return asked | {"brightness": rw.probe.brightness(table, findings)}


def probes(model, table, findings, embeddings):
    """One linear probe a representation; {} where no finding has enough patients."""
    if not findings:
        return {}
    features = rw.probe.representations(
        model, table, embeddings=embeddings, seeds=SEEDS
    )
    return rw.probe.baselines(features, table, label=findings)


def measured(model, name):
    """name of a real set -> its table of words, its table of probes, and the findings
    that no probe can be asked.
    """
    table = rw.data.real(name)
    findings = findings_in(name, table)
    embeddings = rw.models.embed(model, table)
    kept, left_out = rw.probe.enough_patients(table, findings)
    in_words = words(model, table, findings, embeddings)
    return {
        "films": len(table),
        "patients": table["patient_id"].nunique(),
        "words": rw.probe.compare_scores(in_words),
        "probes": rw.probe.compare_scores(probes(model, table, kept, embeddings)),
        "left_out": left_out,
    }


def printed(table):
    says = [rw.stats.format_interval(row) for _, row in table.iterrows()]
    print(table.assign(says=says)[SHOWN].to_string(index=False, max_colwidth=100))


def main(name="radwb-tiny"):
    model = rw.models.load(name)
    for real in SETS:
        result = measured(model, real)
        print(f"\n{real}: {result['films']} films, {result['patients']} patients")
        printed(result["words"])
        few = [f"{finding} ({n})" for finding, n in result["left_out"].items()]
        print("no probe, too few patients:", ", ".join(few) or "none")
        printed(result["probes"])


if __name__ == "__main__":
    main(*sys.argv[1:])
