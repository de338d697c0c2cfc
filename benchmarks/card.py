"""Measure the released model beside its controls and write its card: no number on it is
typed.

python benchmarks/card.py [RUN [TWIN [OLD]]]     writes runs/card/*.csv and radwb-tiny's
model_card.md, prints README's

RUN, by default runs/radwb-tiny, is the training whose weights are released; of TWIN,
the same tower trained with labels (runs/radwb-tiny-twin), and OLD, another release's
folder, the numbers stand on the card where the folders are there. Virtual patients are
those of a seed that nothing was chosen on; real films need RADWB_MIRROR.
"""

import sys
from pathlib import Path

from radwb_tiny import HEADLINE_SEED, RECIPE, unseen
from whole_sets import POOLS, SEEDS, SETS, measured

import radwb as rw

OUT = Path("runs/card")
CARD = Path("radwb/models/weights/radwb-tiny/model_card.md")
WATTS_A_CORE = 10  # estimated
CORES = 2
FINDINGS = list(rw.simulate.PLANTED)
TITLES = {
    "nih-64": "NIH ChestX-ray14 at 64 px (mined labels)",
    "kermany": "children (Kermany et al. 2018)",
}


def simulated(model, twin=None, old=None):
    """name -> Scores of the unseen test patients: words, probes fitted on the unseen
    training patients, controls.
    """
    table = unseen()
    test = table[table["split"] == "test"]
    embeddings = rw.models.embed(model, table)
    asked = embeddings[(table["split"] == "test").to_numpy()]
    scores = in_words(model, test, asked)
    if twin:
        scores["trained with labels"] = rw.probe.classify(twin, test)
    if old:
        for how, each in in_words(old, test, None).items():
            scores[f"{how}, old weights"] = each
    features = rw.probe.representations(
        model, table, embeddings=embeddings, seeds=SEEDS[:3]
    )
    probes = rw.probe.baselines(features, table, label=FINDINGS)
    scores |= {f"probe of {name}": each for name, each in probes.items()}
    scores["brightness"] = rw.probe.brightness(test, FINDINGS)
    scores["count of the others"] = rw.probe.finding_count_control(scores[POOLS["any"]])
    return test, scores


def in_words(model, table, embeddings):
    if embeddings is None:
        embeddings = rw.models.embed(model, table)
    return {
        how: rw.probe.zero_shot(
            model, table, FINDINGS, pool=pool, embeddings=embeddings
        )
        for pool, how in POOLS.items()
    }


def cell(table, finding, scored):
    """What a table says of one finding and one row's name, "" where it says nothing."""
    rows = table[(table["finding"] == finding) & (table["scored"] == scored)]
    return rw.stats.format_interval(rows.iloc[0]) if len(rows) else ""


def mean_of(table, scored):
    """The mean's row, or the only finding's."""
    return table[table["scored"] == scored].iloc[-1]


def markdown(table, columns):
    """A row a finding, a column a name; the positives in patients in front."""
    lines = [
        "| | patients with it | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for finding in table["finding"].unique():
        patients = table[table["finding"] == finding]["positive_patients"].iloc[0]
        cells = " | ".join(cell(table, finding, name) for name in columns)
        lines.append(f"| {finding} | {patients} | {cells} |")
    return "\n".join(lines)


def specific(scores):
    """How the mean changes where each control has another finding, and whose prompt is
    best for each label.
    """
    lines = []
    for how in POOLS.values():
        shown = rw.probe.specificity(scores[how], name=how).iloc[-1]
        abnormal = shown.rename({"abnormal": "value"})
        lines.append(
            f"{how} {shown['auroc']:.2f}, among abnormal films "
            f"{rw.stats.format_interval(abnormal, 'value')}; {shown['sentence']}"
        )
        rivals = rw.probe.best_other_prompt(scores[how])
        better = rivals[rivals["others"] > rivals["own"]]
        surely = int((better["verdict"] == "behind").sum())
        lines[-1] += (
            f"; another finding's prompt is better for {len(better)} of {len(rivals)} "
            f"labels, clear of chance for {surely}"
        )
    return "\n".join(f"  - {line}" for line in lines)


def null(scores):
    """The range of 20 shuffles for each way to ask."""
    drawn = [
        f"{how} {rw.stats.format_interval(scores[how].null(20).iloc[-1])}"
        for how in POOLS.values()
    ]
    return "; ".join(drawn)


def trained(config, steps):
    """How the weights came about, from the run's own records."""
    minutes = config["seconds"] / 60
    hours = config["seconds"] / 3600
    energy = hours * WATTS_A_CORE * CORES
    called = ", ".join(f"{key}={value:g}" for key, value in RECIPE.items())
    return (
        f"- **Trained on** {config['n_train']:,} virtual radiographs "
        "(`rw.simulate.cohort(n=14400, seed=1)`, one patient in 28 kept to follow the "
        "run)\n  and the impressions of their reports, ten planted findings. One "
        "person's CT (LIDC-IDRI-0001, TCIA, CC BY 3.0; Armato\n  et al. 2011), bent; "
        "what that CT has of its own was taken out first (`data/README.md`). No real "
        "radiograph, no real report.\n"
        "- **How**: `python benchmarks/radwb_tiny.py`, which is "
        f'`rw.pretrain.fit(table, recipe="sentences-tiny", {called})`:\n  images '
        f"against four sentences of their reports at a step. {steps:,} steps, "
        f"{minutes:.0f} minutes of {CORES} cores; {energy:.0f} Wh,\n  estimated at "
        f"{WATTS_A_CORE} W a core."
    )


HEAD = """# radwb-tiny

A teaching model: open_clip's CLIP with a convolutional stem, four transformer \
blocks on 8 x 8 patches of a
128 px radiograph, and a three-layer text tower over a byte-level BPE. \
{weights:.1f} million weights, kept as
bfloat16. **Not for clinical use.** Its numbers are computed and written by \
`benchmarks/card.py`; intervals are
95 % by patient, differences paired and corrected for how many were made.
"""
HOW_TO_ASK = """\
- **Which way to ask**: in pairs of phrases for and against (`pool="pair"`, the
  default) on films from anywhere; any way of reporting (`pool="any"`) only on \
films like those it was trained on.
  Both ways (`pool="both"`) lie between. Why: `benchmarks/pools.py`, and \
the docstring of `rw.probe.zero_shot`.
"""
LIMITS = """\
- **Limits**: it knows a simulator, and what is large in it. A linear probe of raw
  pixels needs labels, which words don't; where such a probe is as good as one \
of its vectors, these tell no more
  of such films than a thumbnail does. The virtual patients, seen and unseen, \
are one chest, bent. Notebook 05
  shows how it breaks.
- **Licence**: MIT.
"""


def card(model, run, test, scores, on_simulator, on_real):
    """The card's text."""
    weights = sum(p.numel() for p in model.net.parameters()) / 1e6
    patients = test["patient_id"].nunique()
    shown = [name for name in on_simulator["scored"].unique() if "old" not in name]
    parts = [HEAD.format(weights=weights), trained(run.config, run.log["step"].max())]
    parts.append(
        f"- **On virtual patients**: {len(test)} films of {patients} unseen ones (seed "
        f"{HEADLINE_SEED}, on which nothing was chosen). Words need no label; probes "
        f"were\n  fitted on other patients of that seed; the count is blind to the "
        f"finding asked for.\n\n{markdown(on_simulator, shown)}\n\n"
        f"  {rw.probe.comparison_sentences(on_simulator)}."
    )
    parts.append(f"- **Does it know which finding?**\n{specific(scores)}")
    parts.append(f"- **Labels dealt out to others**: {null(scores)}.")
    for name, result in on_real.items():
        parts.append(real_part(name, result))
    return "\n".join(part.rstrip() for part in [*parts, HOW_TO_ASK, LIMITS]) + "\n"


def real_part(name, result):
    """One real set: words, probes, and who was too rare to be asked."""
    text = (
        f"- **On real films**: {TITLES[name]}, {result['films']} films of "
        f"{result['patients']} patients, which nothing was trained on; "
        "half of the patients had a part in the choice of `both`, for older weights."
        "\n\n"
    )
    for kind in ("words", "probes"):
        table = result[kind]
        names = list(table["scored"].unique())
        text += f"{kind.capitalize()}:\n\n{markdown(table, names)}\n\n"
        text += f"  {rw.probe.comparison_sentences(table)}.\n\n"
    few = [f"{finding} ({n})" for finding, n in result["left_out"].items()]
    return text + f"  Too few patients for a probe: {', '.join(few) or 'none'}."


def headline(test, on_simulator, on_real):
    """The README's sentence, each number with its real-film and raw-pixel twin."""
    stated = {
        name: rw.stats.format_interval(mean_of(on_simulator, name))
        for name in on_simulator["scored"].unique()
    }
    patients = test["patient_id"].nunique()
    text = (
        f"On {len(test)} films of {patients} unseen virtual patients (seed "
        f"{HEADLINE_SEED}, on which nothing was chosen) its mean AUROC over "
        f"{len(FINDINGS)} findings is {stated[POOLS['any']]} when any way of reporting "
        f"a finding counts and {stated[POOLS['pair']]} in pairs of phrases; "
        f"a linear probe of 16 x 16 pixels, which needs labels, has "
        f"{stated['probe of 16 x 16 pixels']}, "
        f"a blind count of the other findings {stated['count of the others']}"
    )
    if "trained with labels" in stated:
        text += f", the tower trained with labels {stated['trained with labels']}"
    for name, result in on_real.items():
        told = {
            kind: mean_of(result[kind], scored)
            for kind, scored in (("words", POOLS["pair"]), ("probes", "16 x 16 pixels"))
        }
        any_way = rw.stats.format_interval(mean_of(result["words"], POOLS["any"]))
        own = mean_of(result["probes"], result["probes"]["scored"].iloc[0])
        text += (
            f". On {result['films']} real films ({TITLES[name]}): pairs "
            f"{rw.stats.format_interval(told['words'])} ({told['words']['finding']}), "
            f"any way {any_way}; "
            f"a probe of its vectors {rw.stats.format_interval(own)}, "
            f"of 16 x 16 pixels {rw.stats.format_interval(told['probes'])} "
            f"({own['finding']})"
        )
    return text + "."


def main(run="runs/radwb-tiny", twin="runs/radwb-tiny-twin", old=None):
    model = rw.models.load("radwb-tiny")
    labelled = rw.models.load(twin) if Path(twin, "model.json").is_file() else None
    test, scores = simulated(model, labelled, rw.models.load(old) if old else None)
    on_simulator = rw.probe.compare_scores(scores, reference=POOLS["any"])
    on_real = {name: measured(model, name) for name in SETS}
    OUT.mkdir(parents=True, exist_ok=True)
    on_simulator.to_csv(OUT / "simulator.csv", index=False)
    for name, result in on_real.items():
        for kind in ("words", "probes"):
            result[kind].to_csv(OUT / f"{name}_{kind}.csv", index=False)
    matrix = rw.probe.prompt_label_matrix(scores[POOLS["any"]])
    matrix.to_csv(OUT / "prompt_label_matrix.csv")
    run = rw.pretrain.Run(Path(run))
    CARD.write_text(card(model, run, test, scores, on_simulator, on_real))
    print(f"{CARD}, and the tables in {OUT}")
    print(headline(test, on_simulator, on_real))


if __name__ == "__main__":
    main(*sys.argv[1:])
