"""Put the released run's weights in their place, measure them beside their controls and
write their card: no number on it is typed.

python benchmarks/card.py [RUN [TWIN]]      writes radwb-tiny's weights, model_card.md,
log.csv, real_films.csv; prints README's

RUN, by default runs/radwb-tiny-0, is the training whose weights are released; of TWIN,
the same tower trained with labels (runs/radwb-tiny-twin), the numbers stand on the card
where its folder is there. Virtual patients are those of a seed that nothing was chosen
on; real films are the reporting halves of `real_films.py`, and need RADWB_MIRROR.
"""

import sys
from pathlib import Path

import pandas as pd
from radwb_tiny import BEFORE, HEADLINE_SEED, RECIPE, RELEASED, thinned, unseen
from real_against import against
from real_films import SIMULATED, measure

import radwb as rw

OUT = Path("runs/card")
PLACE = Path("radwb/models/weights/radwb-tiny")
WATTS_A_CORE = 10  # estimated
CORES = 2
FINDINGS = list(rw.simulate.PLANTED)
POOLS = {
    "pair": "asking in pairs",
    "both": "asking both ways",
    "any": "asking any way",
}
SEEDS = (0, 1, 2)  # of untrained towers
OTHER_SEEDS = (1, 2)  # of the same training: how far a seed alone moves a number
TITLES = {
    "nih-64": "adults, NIH at 64 px, mined labels",
    "kermany": "children, Kermany",
    "hannover": "adults, Hannover",
    "covid-text": "adults, Cohen, Brixia 9 or more",
    "covid-masks": "adults, Cohen, drawn opacities",
}
IN_WORDS, IN_PROBES = ("model", "brightness"), ("model", "pixels 16")
IN_MAPS, WITHIN = ("relevance", "lungs"), ("relevance within the lungs", "lungs")
# what of the protocol stands on the card: set, measure, finding, who and its rival
ON_CARD = [
    ("nih-64", "words, pair", SIMULATED, IN_WORDS),
    ("nih-64", "words, any", SIMULATED, IN_WORDS),
    ("nih-64", "probe", SIMULATED, IN_PROBES),
    ("kermany", "words, pair", "Pneumonia", IN_WORDS),
    ("kermany", "words, any", "Pneumonia", IN_WORDS),
    ("kermany", "probe", "Pneumonia", IN_PROBES),
    ("hannover", "probe", "ICU", IN_PROBES),
    ("hannover", "probe", "AP view", IN_PROBES),
    ("covid-text", "words, pair", "Lung Opacity", IN_WORDS),
    ("covid-text", "probe", "Lung Opacity", IN_PROBES),
    ("covid-masks", "maps, energy", "Lung Opacity", IN_MAPS),
    ("covid-masks", "maps, energy", "Lung Opacity", WITHIN),
    ("covid-masks", "maps, auprc", "Lung Opacity", IN_MAPS),
    ("covid-masks", "maps, auprc", "Lung Opacity", WITHIN),
    ("covid-text", "maps, rank of means", "Lung Opacity", IN_MAPS),
]


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
        model, table, embeddings=embeddings, seeds=SEEDS
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
    energy = config["seconds"] / 3600 * WATTS_A_CORE * CORES
    called = ", ".join(f"{key}={value!r}" for key, value in RECIPE.items())
    return (
        f"- **Trained on** {config['n_train']:,} virtual radiographs and the "
        "impressions of their reports, ten planted findings; half of them\n  plain, "
        "half with other machines' looks, other builds and wider wording (`films()` of "
        "`benchmarks/radwb_tiny.py`); one patient in\n  28 kept to follow the run. "
        "One person's CT (LIDC-IDRI-0001, TCIA, CC BY 3.0; Armato et al. 2011), bent; "
        "what that CT has of\n  its own was taken out first (`data/README.md`). No "
        "real radiograph, no real report. The levers were chosen on half of the\n  "
        "patients of four real sets, which no training saw.\n"
        f"- **How**: `python benchmarks/radwb_tiny.py {RELEASED}`, which is "
        f"`rw.pretrain.fit(films(), {called}, seed={RELEASED})`:\n  on from `{BEFORE}` "
        f"({before_cost()}). {steps:,} steps, {minutes:.0f} minutes of {CORES} cores; "
        f"{energy:.0f} Wh, estimated at\n  {WATTS_A_CORE} W a core, the simulation "
        "(five minutes) not counted."
    )


def before_cost():
    """What the weights before had cost, from their card."""
    text = (PLACE.with_name(BEFORE) / "model_card.md").read_text()
    line = next(line for line in text.splitlines() if " steps, " in line)
    return line[line.index(".") + 2 :].strip().rstrip(",").rstrip(".")


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
  default). Any way of reporting (`pool="any"`) failed on children's films with \
`radwb-tiny-v2`; whether it does
  with these weights, the table above says, and one training's luck is no rule. \
Both ways (`pool="both"`) lie
  between. Why: `benchmarks/pools.py`, and the docstring of `rw.probe.zero_shot`.
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
    parts = [HEAD.format(weights=weights), trained(run.config, run.log["step"].max())]
    parts.append(
        f"- **On virtual patients**: {len(test)} films of {patients} unseen ones (seed "
        f"{HEADLINE_SEED}, on which nothing was chosen). Words need no label; probes "
        f"were\n  fitted on other patients of that seed; the count is blind to the "
        f"finding asked for.\n\n"
        f"{markdown(on_simulator, on_simulator['scored'].unique())}\n\n"
        f"  {rw.probe.comparison_sentences(on_simulator)}."
    )
    parts.append(f"- **Does it know which finding?**\n{specific(scores)}")
    parts.append(f"- **Labels dealt out to others**: {null(scores)}.")
    parts.append(real_part(on_real))
    return "\n".join(part.rstrip() for part in [*parts, HOW_TO_ASK, LIMITS]) + "\n"


def on_real_films(model):
    """The reporting half: the protocol's rows, those beside the weights before, and
    those of the other seeds' runs.
    """
    rows = measure(model, "report", seed=RELEASED)
    beside = against(model, rw.models.load(BEFORE), "report")
    beside = beside[beside["who"].str.contains("before")].assign(seed=RELEASED)
    parts = [rows, beside]
    for seed in OTHER_SEEDS:
        run = Path(f"runs/radwb-tiny-{seed}")
        if (run / "model.json").is_file():
            other = rw.models.load(run)
            parts.append(measure(other, "report", seed=seed, towers=False))
    return pd.concat(parts, ignore_index=True)


def real_part(rows):
    """What of the protocol stands on the card; all of it is in real_films.csv."""
    text = (
        "- **On real films**: the patients that nothing was chosen on "
        "(`benchmarks/real_films.py`, half `report`). AUROCs in words and of linear\n"
        "  probes; of maps (relevance) the share of energy inside, AUPRC over pixels, "
        "and within a film the rank correlation of zones.\n  The rival is 16 x 16 "
        "pixels for a probe, the drawn lungs' mask for a map, brightness for words; "
        f"before is `{BEFORE}`. NIH's mean is over\n  the findings of ten patients or "
        f"more: {averaged(rows)}.\n\n"
        "| | patients with it | the model | other seeds | its rival | minus its rival "
        "| minus before |\n|---|---|---|---|---|---|---|\n"
    )
    lines = [real_line(rows, *asked) for asked in ON_CARD]
    return text + "\n".join(line for line in lines if line) + "\n"


def averaged(rows):
    """The findings in NIH's mean."""
    is_mean = rows["finding"].eq(SIMULATED) & rows["measure"].eq("words, pair")
    return rows.loc[is_mean, "note"].iloc[0]


def plain(row):
    """A value with its interval; why there is none, and no other note."""
    if pd.notna(row["low"]):
        row = row.drop("note")
    return rw.stats.format_interval(row, "value")


def real_line(rows, name, measure, finding, whom):
    """One question's row, "" where its set is missing."""
    of_all = rows["set"].eq(name) & rows["measure"].eq(measure)
    of_all &= rows["finding"].eq(finding)
    part = rows[of_all & rows["seed"].eq(RELEASED)].drop_duplicates("who")
    part = part.set_index("who")
    if not len(part):
        return ""
    who, rival = whom
    # the map within the lungs wasn't asked of the weights before
    before = "model minus before" if whom != WITHIN else None
    shown = [who, rival, f"{who} minus {rival}", before]
    cells = [plain(part.loc[key]) if key else "" for key in shown]
    others = rows[of_all & rows["seed"].isin(OTHER_SEEDS) & rows["who"].eq(who)]
    cells.insert(1, ", ".join(f"{value:.2f}" for value in others["value"]))
    count = int(part.loc[who, "positive_patients"])
    asked = f"{TITLES[name]}: {finding}, {measure}"
    asked += ", of the map within the lungs" if whom == WITHIN else ""
    return f"| {asked} | {count} | " + " | ".join(cells) + " |"


def headline(test, on_simulator, on_real):
    """The README's sentences, each number with its raw-pixel twin."""
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
    return text + ".\n" + real_part(on_real)


def placed(run):
    """The run's weights, tokenizer and thinned log, where `load` finds them."""
    model = rw.models.load(run)
    rw.models.save(model, PLACE, half=True)
    log = thinned(rw.pretrain.Run(run).log)
    log.to_csv(PLACE / "log.csv", index=False, float_format="%.6g")
    return rw.models.load("radwb-tiny")


def main(run=f"runs/radwb-tiny-{RELEASED}", twin="runs/radwb-tiny-twin"):
    model = placed(run)
    labelled = rw.models.load(twin) if Path(twin, "model.json").is_file() else None
    test, scores = simulated(model, labelled, rw.models.load(BEFORE))
    on_simulator = rw.probe.compare_scores(scores, reference=POOLS["any"])
    on_real = on_real_films(model)
    OUT.mkdir(parents=True, exist_ok=True)
    on_simulator.to_csv(OUT / "simulator.csv", index=False)
    matrix = rw.probe.prompt_label_matrix(scores[POOLS["any"]])
    matrix.to_csv(OUT / "prompt_label_matrix.csv")
    on_real.to_csv(PLACE / "real_films.csv", index=False, float_format="%.4f")
    text = card(model, rw.pretrain.Run(run), test, scores, on_simulator, on_real)
    (PLACE / "model_card.md").write_text(text)
    print(f"{PLACE}, and tables in {OUT}")
    print(headline(test, on_simulator, on_real))


if __name__ == "__main__":
    main(*sys.argv[1:])
